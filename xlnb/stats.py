"""Statistics of scores and paired differences: intervals, tests, variance components and power.

scipy and statsmodels do what they have. A *table* here is (seeds x problems): a row a training, a column a problem.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

from xlnb.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEVEL = 0.95
ALPHA = 0.05  # not 1 - LEVEL, which is a little more in floating point: a p of just 0.05 would be below it
_RESAMPLES = 4000
_AT_ONCE = 2**20  # numbers that the bootstrap draws together, which bounds its memory


@dataclass(frozen=True)
class Interval:
    """A mean and its interval at level ``LEVEL`` over ``n`` problems and ``seeds`` trainings.

    ``p`` is the two-sided p-value of "the mean is zero", by the test that makes the interval; None where nothing was tested.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of per-problem outcomes and its interval: Wilson's for 0/1 outcomes, else a bootstrap over problems.

    A single outcome of another kind has no interval (nan).
    """
    import numpy as np
    from scipy.stats import bootstrap
    from statsmodels.stats.proportion import proportion_confint

    values = _outcomes(values, "a list, one a problem", dimensions=1)
    mean = float(values.mean())
    if np.isin(values, (0, 1)).all():
        low, high = proportion_confint(int(values.sum()), len(values), alpha=ALPHA, method="wilson")
        low, high = min(low, mean), max(high, mean)  # or 0 of n gives 5e-17 and not 0
    elif len(values) == 1:
        low = high = np.nan  # one value does not tell how others would lie
    else:
        options = {"n_resamples": _RESAMPLES, "confidence_level": LEVEL, "method": "percentile", "rng": 0}
        options["batch"] = max(1, _AT_ONCE // len(values))
        low, high = bootstrap((values,), np.mean, **options).confidence_interval
    return Interval(mean, float(low), float(high), len(values))


def _outcomes(values: object, what: str, dimensions: int) -> np.ndarray:
    """Return outcomes as an array of floats; raises RequestError where there are none, or some are no finite numbers."""
    found = _numbers(values)
    if not found.size:
        raise RequestError("No outcomes: an interval needs at least one.")
    if found.ndim != dimensions:
        raise RequestError(f"Got outcomes of shape {found.shape}: give {what}.")
    import numpy as np

    if wrong := int((~np.isfinite(found)).sum()):
        raise RequestError(
            f"{wrong} of {found.size} outcomes are no finite number: leave those problems out everywhere."
        )
    return found


def _numbers(values: object) -> np.ndarray:
    import numpy as np

    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise RequestError(f"Outcomes are numbers, in rows of one length; these are not ({error}).") from error


def crossed_interval(table: np.ndarray) -> Interval:
    """Return the mean of a (seeds x problems) table of outcomes or differences, with its interval and p-value.

    Seeds and problems are crossed (every seed is scored on the same problems), and the interval covers another training and
    another set of problems. With one seed it is the t interval over the problems, which says nothing of another training. Else
    its half width is the root of the summed squares of two: those of the t intervals over the seeds' and the problems' means.
    What varies in single cells is in both: the interval holds its level for normal effects, whatever the variance components and
    however few the seeds, and is wide where cells make most of the variance. Source: ours, by the bound of Banerjee (1960).

    The p-value is the level at which the interval just reaches zero, so it is below 0.05 where the interval excludes zero. It
    is 0 where all cells are equal and not zero. A table of one cell has neither interval (nan) nor p-value (None).

    >>> crossed_interval([[1, 0, 1, 1], [1, 1, 0, 1]]).value
    0.75
    """
    import numpy as np

    table = _outcomes(np.atleast_2d(_numbers(table)), "a table, a row a training, a column a problem", dimensions=2)
    seeds, problems = table.shape
    mean, errors = float(table.mean()), _standard_errors(table)
    half = float(_half_width(errors, seeds, problems))
    p = _p_value(abs(mean), errors, seeds, problems) if table.size > 1 else None
    return Interval(mean, mean - half, mean + half, problems, seeds, p)


def _standard_errors(tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the standard errors of the means of tables (... x seeds x problems), by seeds and by problems; 0 where one is."""
    sides = (tables.mean(axis=-1), tables.mean(axis=-2))  # the seeds' means, the problems' means
    return tuple(side.std(axis=-1, ddof=min(side.shape[-1] - 1, 1)) / side.shape[-1] ** 0.5 for side in sides)


def _half_width(errors: tuple[np.ndarray, ...], seeds: int, problems: int, level: float = ALPHA) -> np.ndarray:
    import numpy as np

    if seeds == problems == 1:
        return np.full_like(errors[0], np.nan)  # one cell does not tell how others would lie
    return np.hypot(_quantile(seeds, level) * errors[0], _quantile(problems, level) * errors[1])


def _quantile(count: int, level: float) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(max(count - 1, 1), level / 2))


def _p_value(mean: float, errors: tuple[np.ndarray, ...], seeds: int, problems: int) -> float:
    """Return the level at which the half width is ``mean``, which is at least 0."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    if mean == 0:
        return 1.0
    ratios = [(count, mean / error) for count, error in ((seeds, errors[0]), (problems, errors[1])) if error]
    least = max((2 * float(stdtr(count - 1, -ratio)) for count, ratio in ratios), default=0.0)
    if least < 1e-300:
        return 0.0
    # Each part alone is narrower than both, so p is at least that of either part.
    return exp(brentq(lambda x: _half_width(errors, seeds, problems, exp(x)) - mean, log(least) - 1, 0))


def paired_difference(a: pd.DataFrame, b: pd.DataFrame) -> Interval:
    """Return the mean of ``a`` minus ``b`` over the same problems (and seeds), with its crossed interval and p-value.

    Both frames have columns seed, problem, outcome; one with a single seed (the base) is held against every seed of the other.
    """
    return crossed_interval(paired_table(a, b))


def paired_table(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """Return the (seeds x problems) table of ``a`` minus ``b``, frames as :func:`paired_difference` takes them.

    >>> import pandas as pd
    >>> a = pd.DataFrame({"seed": [0, 0, 1, 1], "problem": ["x", "y", "x", "y"], "outcome": [1, 0, 1, 1]})
    >>> paired_table(a, a.head(2)).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    left, right = _sides(a, b)
    return left - right


def outcome_table(frame: pd.DataFrame) -> np.ndarray:
    """Return the (seeds x problems) table of outcomes, a frame as :func:`paired_difference` takes them. Raises RequestError where
    an outcome stands twice or is missing.

    >>> import pandas as pd
    >>> outcome_table(pd.DataFrame({"seed": [0, 0], "problem": ["y", "x"], "outcome": [1.0, 0.0]})).tolist()
    [[0.0, 1.0]]
    """
    return _numbers(_wide(frame))


def _sides(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides as tables with the same problems in the same order, and the same seeds or one on either side."""
    wide = [_wide(frame) for frame in (a, b)]
    problems, seeds = [list(one.columns) for one in wide], [list(one.index) for one in wide]
    if problems[0] != problems[1]:
        raise RequestError("The two sides were scored on different problems: a paired difference needs the same ones.")
    if 1 not in map(len, seeds) and seeds[0] != seeds[1]:
        raise RequestError(f"The two sides have seeds {seeds[0]} and {seeds[1]}: they must be the same.")
    return _numbers(wide[0]), _numbers(wide[1])


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    if missing := [column for column in ("seed", "problem", "outcome") if column not in frame]:
        raise RequestError(f"A frame of outcomes has the columns seed, problem and outcome; here is no {missing[0]}.")
    if frame.duplicated(["seed", "problem"]).any():
        raise RequestError(
            "An outcome stands twice for one seed and problem: filter to one method, metric and test language."
        )
    wide = frame.pivot(index="seed", columns="problem", values="outcome").sort_index()
    if wide.empty or wide.isna().any().any():
        raise RequestError("Outcomes are missing for some seeds and problems: a paired difference needs all of them.")
    return wide


@dataclass(frozen=True)
class McNemar:
    """Paired 0/1 outcomes in four counts, the difference of the two shares (a minus b), and the exact two-sided p-value."""

    only_a: int
    only_b: int
    both: int
    neither: int
    difference: float
    p: float


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> McNemar:
    """Return McNemar's exact test of two models' 0/1 outcomes on the same problems.

    Frames as :func:`paired_difference` takes them, one seed each. The test is about these very two models, not about another
    training of them. Source: McNemar (1947), by statsmodels.

    >>> import pandas as pd
    >>> a, b = (pd.DataFrame({"seed": 0, "problem": range(8), "outcome": right}) for right in ([1] * 7 + [0], [1] + [0] * 7))
    >>> mcnemar(a, b)
    McNemar(only_a=6, only_b=0, both=1, neither=1, difference=0.75, p=0.03125)
    """
    import numpy as np
    from statsmodels.stats import contingency_tables

    left, right = _sides(a, b)
    if max(len(left), len(right)) > 1:
        raise RequestError(
            f"McNemar's test takes one seed a side, here {len(left)} and {len(right)}: the same problem discords in several "
            "trainings for the same reason, so its discordant pairs are not independent. Choose one seed, or use "
            "paired_difference, which allows for seeds and problems."
        )
    if not np.isin([left, right], (0, 1)).all():
        raise RequestError(
            "McNemar's test takes outcomes 0 and 1 (wrong and right) only: use paired_difference for others."
        )
    cases = ((1, 0), (0, 1), (1, 1), (0, 0))
    only_a, only_b, both, neither = (int(((left == x) & (right == y)).sum()) for x, y in cases)
    p = contingency_tables.mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
    return McNemar(only_a, only_b, both, neither, (only_a - only_b) / left.size, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order: those below 0.05 are shown with a family-wise error of 5 %.

    Source: Holm (1979), by statsmodels.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests

    for p in p_values:
        if p is None or not 0 <= p <= 1:
            raise RequestError(f"{p} is no p-value: Holm's correction takes numbers from 0 to 1, all of them known.")
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def spearman_test_retest(table: np.ndarray) -> float:
    """Return how alike runs order the problems: the mean of Spearman's correlation over all pairs of rows (runs x problems).

    A run whose outcomes are all equal has no order: its pairs are left out, and the result is NaN where no pair is left. Source:
    ours; the correlations are those of pandas.

    >>> spearman_test_retest([[1, 2, 3, 4], [2, 3, 5, 9], [4, 3, 2, 1]])
    -0.3333333333333333
    """
    import numpy as np
    import pandas as pd

    table = _checked_table(table)
    if len(table) < 2:
        raise RequestError("Agreement between runs needs at least two of them.")
    correlations = pd.DataFrame(table.T).corr("spearman").to_numpy()[np.triu_indices(len(table), 1)]
    return float(pd.Series(correlations).mean())  # leaves NaN out


def _checked_table(table: np.ndarray) -> np.ndarray:
    import numpy as np

    table = np.atleast_2d(_numbers(table))
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise RequestError(
            f"Got a table of shape {table.shape}: rows are trainings, columns at least two problems, without missing values."
        )
    return table


@dataclass(frozen=True)
class Components:
    """The variance of a paired difference in parts: between seeds, between problems, and what is left in each cell.

    ``seeds`` says how far to trust them. 0: assumed, not measured. 1: from one training, so the variance between seeds is
    unknown and taken as 0, and power computed from it **may be far too high**. More: estimated from so many trainings. The unit
    is the square of the outcome's.
    """

    seed: float
    problem: float
    residual: float
    seeds: int

    def __post_init__(self) -> None:
        for name in ("seed", "problem", "residual"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise RequestError(f"The variance {name} is {value}: it must be a finite number, 0 or more.")


def variance_components(table: np.ndarray) -> Components:
    """Return the variance components of a (seeds x problems) table of paired differences, as :func:`paired_table` gives.

    Method of moments for a two-way crossed layout of random effects with one value a cell; negative estimates are cut to 0. With
    one seed nothing tells how trainings differ: all variance counts as that of problems, that of seeds is 0, and ``seeds`` is 1.
    With few seeds the estimate for seeds is itself very uncertain. Source: Searle, Casella and McCulloch (1992), chapter 4.

    >>> variance_components([[1, 2, 3], [3, 4, 5]])
    Components(seed=2.0, problem=1.0, residual=0.0, seeds=2)
    """
    table = _checked_table(table)
    seeds, problems = table.shape
    if seeds == 1:
        return Components(0.0, float(table.var(ddof=1)), 0.0, 1)
    of_seeds, of_problems = table.mean(axis=1), table.mean(axis=0)
    rest = table - of_seeds[:, None] - of_problems + table.mean()
    residual = float((rest**2).sum()) / ((seeds - 1) * (problems - 1))
    seed = float(of_seeds.var(ddof=1)) - residual / problems
    problem = float(of_problems.var(ddof=1)) - residual / seeds
    return Components(max(seed, 0.0), max(problem, 0.0), residual, seeds)


def binary_components(
    accuracy: float, discordant: float | None = None, repeatable: float = 1.0, seed_sd: float = 0.0
) -> Components:
    """Return components for 0/1 outcomes planned without data: two models of about the same accuracy, paired by problem.

    ``discordant`` is the share of problems that just one of the two gets right: the variance of the paired difference, its
    own square left out, which is the safe side. None takes 2 accuracy (1 - accuracy), as if the two erred independently; models
    from one base differ on fewer. ``seed_sd`` is the standard deviation of the mean difference from training to training, as a
    share (0.02 is two points). Of the variance that this leaves, ``repeatable`` is the part that recurs on the same problem in
    every training; 1 is the safe side. Source: ours.

    >>> binary_components(0.5, discordant=0.25, repeatable=0.5)
    Components(seed=0.0, problem=0.125, residual=0.125, seeds=0)
    >>> needed_problems(0.03, binary_components(0.5, discordant=0.2), seeds=1)  # to see 3 points
    1747
    """
    if not 0 < accuracy < 1:
        raise RequestError(f"accuracy is {accuracy}: give a share between 0 and 1, ends excluded.")
    if discordant is None:
        discordant = 2 * accuracy * (1 - accuracy)
    most = 2 * min(accuracy, 1 - accuracy)
    if not 0 <= discordant <= most:
        raise RequestError(
            f"discordant is {discordant}: two models of accuracy {accuracy} differ on a share from 0 to {most:g}."
        )
    if not 0 <= repeatable <= 1:
        raise RequestError(f"repeatable is {repeatable}: give a share from 0 to 1.")
    if not 0 <= seed_sd**2 <= discordant:
        raise RequestError(f"seed_sd is {seed_sd}: its square cannot exceed the discordant share, {discordant:g}.")
    rest = discordant - seed_sd**2
    return Components(seed_sd**2, repeatable * rest, (1 - repeatable) * rest, 0)


def power(difference: float, components: Components, problems: int, seeds: int, level: float = ALPHA) -> float:
    """Return how often :func:`crossed_interval` at ``1 - level`` excludes zero, where this is the true mean difference.

    With S seeds and P problems the mean is normal with the variance seed/S + problem/P + residual/(S P). Its squared standard
    errors are scaled chi-squares with S - 1 and P - 1 degrees of freedom; for normal effects all three are independent, and the
    power is a double integral. Of no difference it is the rate of false alarms, at most ``level``. One seed where seeds vary
    shows nothing about another training: the power is ``level``, that of throwing dice. Source: ours.

    >>> round(power(0.03, binary_components(0.5, discordant=0.2), problems=1000, seeds=1), 3)
    0.563
    """
    from scipy.special import ndtr

    if not abs(difference) < float("inf"):
        raise RequestError(
            f"difference is {difference}: give a finite number, in the outcome's unit (3 points are 0.03)."
        )
    if not (problems >= 2 and seeds >= 1):
        raise RequestError(f"{problems} problems and {seeds} seeds: a test needs at least two problems and one seed.")
    if not 0 < level < 1:
        raise RequestError(f"level is {level}: give a share between 0 and 1, such as 0.05.")
    if seeds == 1 and components.seed:
        return level
    cell = components.residual / (seeds * problems)
    parts = components.seed / seeds, components.problem / problems
    spread = (sum(parts) + cell) ** 0.5
    if spread == 0:
        return float(difference != 0)
    scales = (parts[0] + cell) ** 0.5 * (seeds > 1), (parts[1] + cell) ** 0.5
    by_seed, seed_weights = _estimates(seeds, level)
    by_problem, problem_weights = _estimates(problems, level)
    half = _half_width((scales[0] * by_seed[:, None], scales[1] * by_problem), seeds, problems, level)
    beyond = ndtr((difference - half) / spread) + ndtr((-difference - half) / spread)
    return float(seed_weights @ beyond @ problem_weights)


def _estimates(count: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values that a standard error of 1, estimated from ``count`` means, can take, and their weights, to integrate over.

    A trapezoid rule over normal scores: accurate to 1e-11 where its step is below the reciprocal of Student's quantile.
    """
    import numpy as np
    from scipy.special import gammaincinv, ndtr

    scores = np.linspace(-7, 7, int(np.clip(28 * _quantile(count, level), 57, 2000)))
    weights, half = np.exp(-(scores**2) / 2), max(count - 1, 1) / 2
    return np.sqrt(gammaincinv(half, ndtr(scores)) / half), weights / weights.sum()


def power_table(
    components: Components, difference: float, problems: Sequence[int], seeds: Sequence[int]
) -> pd.DataFrame:
    """Return the power to see a difference: a row for each number of problems, a column for each number of seeds.

    >>> table = power_table(binary_components(0.5, seed_sd=0.02), 0.1, problems=(250, 1000), seeds=(3, 10))
    >>> table.round(2).to_dict("index")
    {250: {3: 0.5, 10: 0.59}, 1000: {3: 0.88, 10: 0.99}}
    """
    import pandas as pd

    cells = [[power(difference, components, p, s) for s in seeds] for p in problems]
    return pd.DataFrame(cells, pd.Index(problems, name="problems"), pd.Index(seeds, name="seeds"))


_power = power  # needed_problems has a parameter of that name


def needed_problems(
    difference: float, components: Components, seeds: int, power: float = 0.8, level: float = ALPHA
) -> int | None:
    """Return how many problems :func:`power`'s test needs to see a difference with the given power.

    None where no number suffices (up to a billion), since so few seeds leave too much variance.

    >>> needed_problems(0.03, binary_components(0.5, discordant=0.2, seed_sd=0.02), seeds=3) is None
    True
    """
    if not level < power < 1:
        raise RequestError(f"power is {power}: give a share between the test's level, {level}, and 1, such as 0.8.")
    if not difference:
        raise RequestError("difference is 0: no number of problems shows a difference that does not exist.")

    def enough(problems: int) -> bool:
        return _power(difference, components, problems, seeds, level) >= power

    numbers = range(2, 2**30)
    found = bisect_left(numbers, True, key=enough)  # more problems never lower a power above the level
    return numbers[found] if found < len(numbers) else None


def simulated_error_rate(components: Components, problems: int, seeds: int, trials: int = 1000) -> Interval:
    """Return how often :func:`crossed_interval` excludes zero where the true difference is zero, by simulation.

    At most ``ALPHA`` is promised. Effects of seeds, problems and cells are normal with the variances of ``components``; ``n``
    of the result is the number of trials. A second or less for 1000 trials of 10 seeds and 250 problems. Source: ours.

    >>> simulated_error_rate(Components(0.01, 1.0, 1.0, 0), problems=50, seeds=3, trials=200).value < 0.1
    True
    """
    import numpy as np

    if min(problems, seeds, trials) < 1:
        raise RequestError(
            f"{problems} problems, {seeds} seeds, {trials} trials: a simulation needs at least one of each."
        )
    rng = np.random.default_rng(0)
    by_seed, by_problem, by_cell = np.sqrt([components.seed, components.problem, components.residual])
    rejected: list[bool] = []
    while len(rejected) < trials:
        count = min(100, trials - len(rejected))  # at once, for memory's sake
        tables = by_seed * rng.normal(size=(count, seeds, 1)) + by_problem * rng.normal(size=(count, 1, problems))
        tables = tables + by_cell * rng.normal(size=(count, seeds, problems))
        rejected.extend(abs(tables.mean(axis=(1, 2))) > _half_width(_standard_errors(tables), seeds, problems))
    return mean_interval(np.array(rejected))
