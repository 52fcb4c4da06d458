"""Whether what matters for math and what matters for the language are different sites: the arithmetic over seeds, and one rule.

The rule was committed before any map of importance of the pocket model had been seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xlnb.analysis.fitting import ABLATION, CHANGE
from xlnb.analysis.lengths import lengths
from xlnb.analysis.overlap import SHARES, alike, by_chance, jackknife
from xlnb.analysis.sensitivity import FISHER, TAYLOR
from xlnb.errors import RequestError
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import LANGUAGE, MATH
from xlnb.stats import Interval
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED, Decision
from xlnb.studies.comparisons import EVERY_LANGUAGE, TRAININGS
from xlnb.studies.maps import IN_ENGLISH, TEXT

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PATCHING = "patching"
MEASURES = (CHANGE, TAYLOR, FISHER, ABLATION, PATCHING)
BY_PROJECTION = (CHANGE, TAYLOR, FISHER)  # the others look at whole blocks
MAPS = ("lengths", "sensitivity", "sites")
SIDES = ("math", "language")
BETWEEN, SAME_MATH, SAME_LANGUAGE = PAIRS = ("math and language", "math and math", "language and language")
OVER_CHANCE, OVER_CONTROL = "over chance", "over the control"
DISTINCT, SHARED = "distinct", "shared"
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
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


def scores(maps: Mapping[str, pd.DataFrame], by: str = "block") -> pd.DataFrame:
    """Return how much each site matters to math and to the language, by each measure.

    ``maps`` has tables of ``MAPS``, of one profile and paradigm; ``by`` is ``block`` (every measure) or ``projection``
    (``BY_PROJECTION``). Columns: measure, language, seed, side, layer, site (attention and ffn, or q to down), score. Relative
    change as a share of the weight; Taylor, ablation and patching in nats per token; Fisher in squared nats.
    """
    import pandas as pd

    keys, found = ["language", "seed"], []
    moved, felt, sites = (maps[name] for name in MAPS)
    if by == "projection":
        moved, felt = (some[some["projection"].isin(PROJECTIONS)] if len(some) else some for some in (moved, felt))
    if len(moved):
        relative = lengths(moved, *keys, "layer", by).rename(columns={by: "site"})
        for side, column in zip(SIDES, ("m", "l"), strict=True):
            found.append(relative.assign(measure=CHANGE, side=side, score=relative[column]))
    if len(felt):
        mine = felt[felt["asked"].isin([IN_ENGLISH, TEXT])]
        mine = mine.assign(side=mine["asked"].map({IN_ENGLISH: "math", TEXT: "language"}))
        found.append(mine.groupby([*keys, "measure", "side", "layer", by])["score"].sum().reset_index(name="score"))
        found[-1] = found[-1].rename(columns={by: "site"})
    if len(sites) and by == "block":
        found += [effects(sites, expert, asked).assign(side=side) for side, expert, asked in _ABOUT]
    columns = ["measure", *keys, "side", "layer", "site", "score"]
    whole = pd.concat([one[columns] for one in found], ignore_index=True) if found else pd.DataFrame(columns=columns)
    return whole.astype({"layer": int}) if len(whole) else whole


_ABOUT = (("math", MATH, IN_ENGLISH), ("language", LANGUAGE, TEXT))


def effects(sites: pd.DataFrame, expert: str, asked: str) -> pd.DataFrame:
    """Return what an expert loses where a site is reverted, and what the base gains by one of its sites, in nats per token.

    Columns: measure (ablation, patching), language, seed, layer, site, score.
    """
    keys = ["intervention", "language", "seed"]
    mine = sites[(sites["expert"] == expert) & (sites["asked"] == asked)]
    whole = mine[mine["layer"].isna()].set_index(keys)["loss"]
    parts = mine.dropna(subset=["layer"]).join(whole.rename("whole"), on=keys)
    sign = parts["intervention"].map({ABLATION: 1, PATCHING: -1})
    told = parts.assign(score=sign * (parts["loss"] - parts["whole"]))
    told = told.rename(columns={"intervention": "measure", "block": "site"})
    return told[["measure", "language", "seed", "layer", "site", "score"]]


def arrays(found: pd.DataFrame, measure: str) -> dict[str, np.ndarray]:
    """Return the scores of a measure by language, each (sides, seeds, sites), of the seeds that every language has."""
    mine = found[found["measure"] == measure]
    seeds = set.intersection(*(set(some) for _, some in mine.groupby("language")["seed"])) if len(mine) else set()
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
    told = [{**means(one, kept), "chance": chance} for one in some]
    return sum(weight * one[name] for one in told for name, weight in weights.items()) / len(told)


_QUANTITIES: dict[str, dict[str, float]] = {
    **{name: {name: 1.0} for name in PAIRS},
    OVER_CHANCE: {BETWEEN: 1.0, "chance": -1.0},
    OVER_CONTROL: {BETWEEN: 1.0, SAME_MATH: -0.5, SAME_LANGUAGE: -0.5},
}


def curves(found: pd.DataFrame, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Return :func:`overlaps` at each share, with a column ``share``."""
    import pandas as pd

    return pd.concat([overlaps(found, share).assign(share=share) for share in shares], ignore_index=True)
