"""Whether what matters for math and what matters for the language are different sites: the arithmetic over seeds, and one rule.

The rule was committed before any map of importance of the pocket model had been seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xlnb.analysis.overlap import SHARES, alike, by_chance, jackknife
from xlnb.errors import RequestError
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import Interval
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED, Decision
from xlnb.studies.comparisons import EVERY_LANGUAGE, TRAININGS, seeds_everywhere
from xlnb.studies.importances import MEASURES, SIDES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BETWEEN, SAME_MATH, SAME_LANGUAGE = PAIRS = ("math and language", "math and math", "language and language")
CHANCE, OVER_CHANCE, OVER_CONTROL = "chance", "over chance", "over the control"
DISTINCT, SHARED = "distinct", "shared"
_ROUNDING = 1e-9  # seeds that all say the same have an interval of no width


@dataclass(frozen=True)
class Rule:
    """What counts for "distinct, non-overlapping subsets" (F1), chosen from these words alone.

    By one measure the top ``share`` of sites (layer x attention or FFN) is *shared* where math and the language have more in
    common than chance, by the whole interval, whatever the control says. Else it is *distinct* where they have less in common
    than two trainings (or samples) of the same task, by the whole interval. F1 is reproduced where ``most`` of the measures are
    distinct, not reproduced where as many are shared, else unclear; with fewer than ``seeds`` seeds, or a measure missing, it is
    not tested. All is averaged over the languages.
    """

    share: float = 0.2
    measures: tuple[str, ...] = MEASURES
    most: int = 3
    seeds: int = TRAININGS


RULE = Rule()


def verdict(over_chance: Interval, over_control: Interval) -> str:
    """Return what one measure says by :class:`Rule`: distinct, shared or unclear.

    >>> none, less = Interval(0.0, -0.1, 0.1, 36), Interval(-0.4, -0.5, -0.3, 36)
    >>> verdict(none, less), verdict(none, none), verdict(Interval(0.3, 0.2, 0.4, 36), less)
    ('distinct', 'unclear', 'shared')
    """
    if over_chance.low > _ROUNDING:
        return SHARED
    return DISTINCT if over_control.high < -_ROUNDING else UNCLEAR


def decide(table: pd.DataFrame, rule: Rule = RULE) -> Decision:
    """Return what became of F1 by the rule, and the verdict of each measure in the rule's order.

    ``table`` is :func:`overlaps` at the rule's share. Too few seeds or a missing measure: not tested.
    """
    mine = table[table["language"] == EVERY_LANGUAGE]
    if set(mine["measure"]) != set(rule.measures) or mine["seeds"].min() < rule.seeds:
        return Decision(UNTESTED, ())
    told = []
    for measure in rule.measures:
        rows = mine[mine["measure"] == measure].set_index("quantity")
        told.append(verdict(*(_interval(rows.loc[name]) for name in (OVER_CHANCE, OVER_CONTROL))))
    enough = {word: told.count(word) >= rule.most for word in (DISTINCT, SHARED)}
    outcome = REPRODUCED if enough[DISTINCT] else NOT_REPRODUCED if enough[SHARED] else UNCLEAR
    return Decision(outcome, tuple(told))


def _interval(row: pd.Series) -> Interval:
    return Interval(row["value"], row["low"], row["high"], row["sites"], row["seeds"])


def arrays(found: pd.DataFrame, measure: str) -> dict[str, np.ndarray]:
    """Return the scores of a measure by language, each (sides, seeds, sites), of the seeds that every language has."""
    mine = found[found["measure"] == measure]
    seeds = seeds_everywhere(mine)
    wide = mine[mine["seed"].isin(seeds)].pivot_table(
        index=["language", "side", "seed"], columns=["layer", "site"], values="score", sort=True
    )
    if wide.isna().any().any():
        raise RequestError(f"The measure {measure} has other sites in one language or training than in another.")
    return {
        code: _stacked([wide.loc[code, side] for side in SIDES])
        for code in (LANGUAGE_NAMES if seeds else ())
        if code in wide.index
    }


def _stacked(sides: Sequence[pd.DataFrame]) -> np.ndarray:
    import numpy as np

    return np.stack([side.sort_index().to_numpy(dtype=float) for side in sides])


def means(found: np.ndarray, seeds: Sequence[int]) -> dict[str, float]:
    """Return the means of :func:`alike` over pairs of *different* seeds among some: between the sides, and within each.

    What two experts share by their common seed (LoRA's start) is so in no pair.
    """
    import numpy as np

    kept = np.array(seeds, dtype=int)
    apart = ~np.eye(len(kept), dtype=bool)
    if not apart.any():
        return dict.fromkeys(PAIRS, float("nan"))
    sides = {BETWEEN: (0, 1), SAME_MATH: (0, 0), SAME_LANGUAGE: (1, 1)}
    return {name: float(found[a][kept][:, b][:, kept][apart].mean()) for name, (a, b) in sides.items()}


def overlaps(found: pd.DataFrame, share: float | None = RULE.share) -> pd.DataFrame:
    """Return how much the top ``share`` of sites have in common (Jaccard index; with None the rank correlation of all sites).

    A row a measure, language (and all languages) and quantity: between math and the language, within math, within the language,
    over chance, and over the control, which is the mean of the two within. Columns: measure, language, quantity, value, low, high
    (95 %, :func:`jackknife`), seeds, sites.
    """
    import pandas as pd

    rows = []
    for measure in [one for one in MEASURES if one in set(found["measure"])]:
        mine = arrays(found, measure)
        _, seeds, sites = next(iter(mine.values())).shape
        chance = 0.0 if share is None else by_chance(sites, max(1, round(share * sites)))
        every = {code: alike(values, share) for code, values in mine.items()}
        for code, some in {
            EVERY_LANGUAGE: list(every.values()),
            **{code: [one] for code, one in every.items()},
        }.items():
            for quantity, weights in _QUANTITIES.items():
                told = jackknife(partial(_mean, some, weights, chance), seeds, sites)
                rows.append((measure, code, quantity, told.value, told.low, told.high, seeds, sites))
    return pd.DataFrame(rows, columns=["measure", "language", "quantity", "value", "low", "high", "seeds", "sites"])


def _mean(some: Sequence[np.ndarray], weights: Mapping[str, float], chance: float, kept: Sequence[int]) -> float:
    """Return the mean over languages of a weighted sum of the means over pairs of the seeds that are kept, and of chance."""
    told = [{**means(one, kept), CHANCE: chance} for one in some]
    return sum(weight * one[name] for one in told for name, weight in weights.items()) / len(told)


_QUANTITIES: dict[str, dict[str, float]] = {
    **{name: {name: 1.0} for name in (*PAIRS, CHANCE)},
    OVER_CHANCE: {BETWEEN: 1.0, CHANCE: -1.0},
    OVER_CONTROL: {BETWEEN: 1.0, SAME_MATH: -0.5, SAME_LANGUAGE: -0.5},
}


def curves(found: pd.DataFrame, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Return :func:`overlaps` at each share, with a column ``share``."""
    import pandas as pd

    return pd.concat([overlaps(found, share).assign(share=share) for share in shares], ignore_index=True)


def elements(table: pd.DataFrame) -> pd.DataFrame:
    """Return the overlap of the largest single weights, over the languages, from the map ``elements``.

    A row a measure, share and quantity: each of ``PAIRS``, chance, and over the control. That map holds a seed's experts against
    those of the next seed: leaving out a seed takes all that any of its experts is in.
    Columns: measure, share, quantity, value, low, high.
    """
    import pandas as pd

    columns = ["measure", "share", "quantity", "value", "low", "high"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    rows, seeds = [], sorted({*table["seed"], *(table["seed"] + 1)})
    for (measure, share), mine in table.groupby(["measure", "share"], sort=False):
        every = {name: some.groupby("seed")["jaccard"].mean().to_dict() for name, some in mine.groupby("pair")}
        chance = mine["chance"].mean()
        for quantity in (*PAIRS, OVER_CONTROL):
            estimate = partial(_of_elements, every, _QUANTITIES[quantity], seeds)
            few = len(every[BETWEEN]) < TRAININGS
            value = estimate(range(len(seeds)))
            told = Interval(value, float("nan"), float("nan"), 0) if few else jackknife(estimate, len(seeds))
            rows.append((measure, share, quantity, told.value, told.low, told.high))
        rows.append((measure, share, CHANCE, chance, chance, chance))
    return pd.DataFrame(rows, columns=columns)


def _of_elements(
    every: Mapping[str, Mapping[int, float]], weights: Mapping[str, float], seeds: Sequence[int], kept: Sequence[int]
) -> float:
    """Return a weighted sum of the means over pairs whose experts' seeds are all kept; ``kept`` are places of seeds."""
    there = {seeds[place] for place in kept}
    told = 0.0
    for name, weight in weights.items():
        # A seed's experts are held against those of the next one.
        values = [value for seed, value in every[name].items() if {seed, seed + 1} <= there]
        told += weight * sum(values) / len(values) if values else float("nan")
    return told
