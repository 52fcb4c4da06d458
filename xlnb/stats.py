"""Intervals for scores and for paired differences. scipy and statsmodels underneath where they have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlnb.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEVEL = 0.95
_RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean and its interval at level ``LEVEL`` over ``n`` problems and ``seeds`` trainings."""

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of per-problem outcomes and its interval: Wilson's for 0/1 outcomes, else a bootstrap over problems.

    Raises :class:`~xlnb.errors.RequestError` for no values.
    """
    import numpy as np
    from scipy.stats import bootstrap
    from statsmodels.stats.proportion import proportion_confint

    values = np.asarray(values, dtype=float)
    if not len(values):
        raise RequestError("No outcomes: an interval needs at least one.")
    mean = float(values.mean())
    if np.isin(values, (0, 1)).all():
        low, high = proportion_confint(int(values.sum()), len(values), alpha=1 - LEVEL, method="wilson")
        low, high = min(low, mean), max(high, mean)  # or 0 of n gives 5e-17 and not 0
    elif len(values) == 1:
        low = high = mean
    else:
        low, high = bootstrap(
            (values,), np.mean, n_resamples=_RESAMPLES, confidence_level=LEVEL, method="percentile", rng=seed
        ).confidence_interval
    return Interval(mean, float(low), float(high), len(values))


def crossed_interval(table: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of a (seeds x problems) table of outcomes or differences, with its interval.

    Seeds and problems are resampled independently (a crossed bootstrap: every seed is scored on the same problems), so the
    interval covers both another training and another set of problems. With one seed it covers the problems alone. Source: ours,
    after Owen (2007), the pigeonhole bootstrap, which is conservative.
    """
    import numpy as np

    table = np.atleast_2d(np.asarray(table, dtype=float))
    if not table.size:
        raise RequestError("No outcomes: an interval needs at least one.")
    rng = np.random.default_rng(seed)
    seeds, problems = table.shape
    # A mean over resampled rows and columns is w·T·v with multinomial weights.
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), _RESAMPLES) / seeds
    columns = rng.multinomial(problems, np.full(problems, 1 / problems), _RESAMPLES) / problems
    means = np.einsum("rs,sp,rp->r", rows, table, columns, optimize=True)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(table.mean()), float(low), float(high), problems, seeds)


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> Interval:
    """Return the mean of ``a`` minus ``b`` over the same problems (and seeds), with its crossed interval.

    Both frames have columns seed, problem, outcome; one with a single seed (the base) is held against every seed of the other.
    Raises :class:`~xlnb.errors.RequestError` where problems or seeds differ otherwise, or an outcome stands twice.
    """
    wide_a, wide_b = (_wide(frame) for frame in (a, b))
    if list(wide_a.columns) != list(wide_b.columns):
        raise RequestError("The two sides were scored on different problems: a paired difference needs the same ones.")
    if len(wide_a) != len(wide_b) and 1 not in (len(wide_a), len(wide_b)):
        raise RequestError(
            f"The two sides have seeds {list(wide_a.index)} and {list(wide_b.index)}: they must be the same."
        )
    if len(wide_a) == len(wide_b) > 1 and list(wide_a.index) != list(wide_b.index):
        raise RequestError(
            f"The two sides have seeds {list(wide_a.index)} and {list(wide_b.index)}: they must be the same."
        )
    return crossed_interval(wide_a.to_numpy() - wide_b.to_numpy(), seed)


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.duplicated(["seed", "problem"]).any():
        raise RequestError(
            "An outcome stands twice for one seed and problem: filter to one method, metric and test language."
        )
    wide = frame.pivot(index="seed", columns="problem", values="outcome").sort_index()
    if wide.empty or wide.isna().any().any():
        raise RequestError("Outcomes are missing for some seeds and problems: a paired difference needs all of them.")
    return wide
