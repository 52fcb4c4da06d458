"""Do task vectors add up? The cross term over trainings, held against what each vector does alone, and the rule for F5.

The rule was written down before the maps that it is applied to were computed, and is not to be changed after. The outcomes of
merges on scored problems were known by then; it does not use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlnb.stats import ALPHA, Interval
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED
from xlnb.studies.comparisons import TRAININGS, seeds_everywhere
from xlnb.studies.maps import ASKED

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MARGIN = 0.1  # of what both vectors do alone: within it the rest counts as none
WHOLE = "whole"  # the part of the map that is plain addition


def over_trainings(values: np.ndarray, level: float = 1 - ALPHA) -> Interval:
    """Return the mean of values, one a training, with Student's interval; of one training that is not known (nan).

    >>> over_trainings([1.0, 2.0, 3.0]).value
    2.0
    """
    import numpy as np
    from scipy.stats import t

    values = np.asarray(values, dtype=float)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n, n)
    half = float(t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half, n, n)


def crossed(crosses: pd.DataFrame) -> pd.Series:
    """Return f(m + l) - f(m) - f(l) + f(0) of each row of the map ``crosses``, in nats."""
    return -(crosses["m"] + crosses["l"] - crosses["both"] - crosses["neither"])


def cross_terms(crosses: pd.DataFrame) -> pd.DataFrame:
    """Return of the map ``crosses`` a row a part, text and seed: cross, alone and their quotient, share.

    ``cross`` is f(m + l) - f(m) - f(l) + f(0) in nats, above zero where both together lose more than the sum of what each does;
    ``alone`` is |f(m) - f(0)| + |f(l) - f(0)|. Both are first averaged over languages, since a seed's math expert is the same in
    all of them and is to count once; of the seeds that every language has.
    """
    if crosses.empty:
        return crosses.assign(part=[], asked=[], cross=[], alone=[], share=[])
    mine = crosses[crosses["seed"].isin(seeds_everywhere(crosses))]
    alone = sum((mine[side] - mine["neither"]).abs() for side in ("m", "l"))
    told = mine.assign(cross=crossed(mine), alone=alone)
    found = told.groupby(["part", "asked", "seed"], sort=False)[["cross", "alone"]].mean().reset_index()
    return found.assign(share=found["cross"] / found["alone"])


@dataclass(frozen=True)
class Additivity:
    """What the maps say of F5: the outcome, and the share of plain addition by what is asked."""

    outcome: str
    shares: dict[str, Interval]


def additivity(crosses: pd.DataFrame) -> Additivity:
    """Return the verdict on F5 by the map ``crosses`` of one profile and paradigm: do the experts' task vectors add up?

    Of plain addition, on English problems, on problems in the language and on prose: *reproduced* where the cross term is within
    a tenth (``MARGIN``) of what both vectors do alone on all three, by its whole interval over seeds; *not reproduced* where it
    is beyond a tenth on at least one, by its whole interval; *unclear* otherwise; *not tested* with fewer than three trainings.
    The three intervals hold together at 95 % (Bonferroni). Source: ours. That task vectors should act each on its own is from
    Ortiz-Jimenez et al. (2023); the quotient and the margin are our choice.
    """
    found = cross_terms(crosses)
    plain = found[found["part"] == WHOLE]
    shares = {
        asked: over_trainings(plain.loc[plain["asked"] == asked, "share"].to_numpy(), 1 - ALPHA / len(ASKED))
        for asked in ASKED
        if (plain["asked"] == asked).any()
    }
    if len(shares) < len(ASKED) or min(one.seeds for one in shares.values()) < TRAININGS:
        return Additivity(UNTESTED, shares)
    if all(one.low > -MARGIN and one.high < MARGIN for one in shares.values()):
        return Additivity(REPRODUCED, shares)
    beyond = any(one.low > MARGIN or one.high < -MARGIN for one in shares.values())
    return Additivity(NOT_REPRODUCED if beyond else UNCLEAR, shares)
