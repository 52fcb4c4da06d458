"""Paired differences between methods, with intervals, Holm's correction and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlnb.evaluation.readings import METRICS, READINGS
from xlnb.methods import label
from xlnb.stats import ALPHA, Interval, holm, paired_difference
from xlnb.studies.outcomes import select

if TYPE_CHECKING:
    import pandas as pd


_VERDICTS = ("better", "worse", "not shown")
Arm = tuple[str, str]  # method and partition ("" where the method uses none)


def contrast(outcomes: pd.DataFrame, a: Arm, b: Arm, metric: str, test_language: str) -> Interval:
    """Return the paired difference a minus b of two methods, each (slug, partition), with its interval."""
    chosen = select(outcomes, metric=metric, test_language=test_language)
    left, right = (select(chosen, method=method, partition=partition) for method, partition in (a, b))
    return paired_difference(left, right)


def contrasts(
    outcomes: pd.DataFrame, pairs: Sequence[tuple[Arm, Arm]], test_language: str, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return a row a pair and metric: name, metric, difference, low, high, n (problems), seeds, p, verdict.

    ``p`` is Holm's, corrected for the pairs of this table on each metric, and decides the verdict; intervals are not corrected.
    """
    import pandas as pd

    tables = []
    for metric in metrics:
        found = {f"{label(*a)} − {label(*b)}": contrast(outcomes, a, b, metric, test_language) for a, b in pairs}
        tables.append(corrected(found, metric))
    table = pd.concat(tables, ignore_index=True)
    order = {name: place for place, name in enumerate(dict.fromkeys(table["name"]))}
    return table.sort_values("name", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def corrected(differences: Mapping[str, Interval], metric: str) -> pd.DataFrame:
    """Return a row a difference with Holm's p over all of them, and the verdict by it; columns as :func:`contrasts`."""
    import pandas as pd

    adjusted = holm([1.0 if d.p is None else d.p for d in differences.values()])
    rows = [
        (name, metric, d.value, d.low, d.high, d.n, d.seeds, p, verdict(d, metric, p))
        for (name, d), p in zip(differences.items(), adjusted, strict=True)
    ]
    return pd.DataFrame(rows, columns=["name", "metric", "difference", "low", "high", "n", "seeds", "p", "verdict"])


def against_base(outcomes: pd.DataFrame, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Return every method's contrast to the base in each test language, with its method and partition."""
    import pandas as pd

    arms = [
        arm for arm in dict.fromkeys(zip(outcomes["method"], outcomes["partition"], strict=True)) if arm[0] != "base"
    ]
    tables = []
    for language in sorted(outcomes["test_language"].unique(), key=lambda code: code == "en"):
        for method, partition in arms:
            table = contrasts(outcomes, [((method, partition), ("base", ""))], language, metrics)
            tables.append(table.assign(method=method, partition=partition, test_language=language))
    return pd.concat(tables, ignore_index=True)


def verdict(difference: Interval, metric: str, p: float | None = None) -> str:
    """Say whether a difference is better, worse or not shown: its interval must exclude zero and, where given, p be below 5 %.

    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll"), verdict(Interval(0.02, -0.01, 0.05, 250), "exact-match")
    ('better', 'not shown')
    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll", p=0.06)
    'not shown'
    """
    if not difference.excludes_zero or (p is not None and p >= ALPHA):
        return "not shown"
    return "better" if (difference.value > 0) == READINGS[metric].higher_is_better else "worse"
