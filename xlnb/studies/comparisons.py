"""Paired differences between arms, with intervals, Holm's correction and verdicts. Arms are keys; their titles are made where
something is drawn or printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xlnb.evaluation.readings import METRICS, READINGS
from xlnb.stats import ALPHA, Interval, holm, paired_difference
from xlnb.studies.outcomes import select

if TYPE_CHECKING:
    import pandas as pd

Arm = tuple[str, str]  # method and partition ("" where the method uses none)
BASE: Arm = ("base", "")
BETTER, WORSE, NOT_SHOWN = VERDICTS = ("better", "worse", "not shown")
ARMS = ["method_a", "partition_a", "method_b", "partition_b"]
FAMILY = ["test_language", "metric"]  # rows of one table that agree in these are corrected together
_COLUMNS = [*ARMS, *FAMILY, "difference", "low", "high", "n", "seeds", "p"]


def arms_of(outcomes: pd.DataFrame) -> list[Arm]:
    """Return the arms that outcomes or scores are of, in the order in which they first come."""
    return list(dict.fromkeys(zip(outcomes["method"], outcomes["partition"], strict=True)))


def target_first(languages: pd.Series) -> list[str]:
    """Return the test languages of a column, English last."""
    return sorted(languages.unique(), key=lambda code: code == "en")


def contrast(outcomes: pd.DataFrame, a: Arm, b: Arm, metric: str, test_language: str) -> Interval:
    """Return the paired difference a minus b of two arms with its interval."""
    chosen = select(outcomes, metric=metric, test_language=test_language)
    left, right = (select(chosen, method=method, partition=partition) for method, partition in (a, b))
    return paired_difference(left, right)


def contrasts(
    outcomes: pd.DataFrame, pairs: Sequence[tuple[Arm, Arm]], test_language: str, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return a row a pair (a minus b) and metric, with Holm's p and the verdict by it as :func:`corrected` gives them.

    Columns: method_a, partition_a, method_b, partition_b, test_language, metric, difference, low, high, n (problems), seeds, p,
    verdict. Intervals are not corrected.
    """
    import pandas as pd

    rows = []
    for a, b in pairs:
        for metric in metrics:
            d = contrast(outcomes, a, b, metric, test_language)
            p = 1.0 if d.p is None else d.p  # what was not tested counts as a comparison and is never shown
            rows.append((*a, *b, test_language, metric, d.value, d.low, d.high, d.n, d.seeds, p))
    return corrected(pd.DataFrame(rows, columns=_COLUMNS))


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Return contrasts with Holm's p in place of each one's own, a ``FAMILY`` at a time, and the verdicts by it."""
    adjusted = table["p"].copy()
    for _, part in table.groupby(FAMILY, sort=False):
        adjusted[part.index] = holm(list(part["p"]))
    table = table.assign(p=adjusted)
    verdicts = [verdict(Interval(r.difference, r.low, r.high, r.n), r.metric, r.p) for r in table.itertuples()]
    return table.assign(verdict=verdicts)


def against_base(outcomes: pd.DataFrame, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Return every arm's contrast to the base in each test language, each a family of its own."""
    import pandas as pd

    languages, others = target_first(outcomes["test_language"]), [arm for arm in arms_of(outcomes) if arm != BASE]
    tables = [contrasts(outcomes, [(arm, BASE)], language, metrics) for language in languages for arm in others]
    return pd.concat(tables, ignore_index=True)


def verdict(difference: Interval, metric: str, p: float | None = None) -> str:
    """Say whether a difference is better, worse or not shown: its interval must exclude zero and, where given, p be below 5 %.

    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll"), verdict(Interval(0.02, -0.01, 0.05, 250), "exact-match")
    ('better', 'not shown')
    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll", p=0.06)
    'not shown'
    """
    if not difference.excludes_zero or (p is not None and p >= ALPHA):
        return NOT_SHOWN
    return BETTER if (difference.value > 0) == READINGS[metric].higher_is_better else WORSE
