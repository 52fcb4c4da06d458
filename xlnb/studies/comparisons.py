"""Paired differences between arms with their intervals, and families: the one place where a difference gets its verdict.

Arms are keys; their titles are made where something is drawn or printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError
from xlnb.evaluation.readings import METRICS, PRIMARY, READINGS
from xlnb.evaluation.shortcuts import situations
from xlnb.methods import METHODS
from xlnb.stats import ALPHA, Interval, holm, paired_difference
from xlnb.studies.experiments import TARGET
from xlnb.studies.outcomes import select

if TYPE_CHECKING:
    import pandas as pd

Arm = tuple[str, str]  # method and partition ("" where the method uses none)
BASE: Arm = ("base", "")
BETTER, WORSE, NOT_SHOWN = ("better", "worse", "not significant")
ABOVE, BELOW = "above", "below"
UNJUDGED = "no verdict"  # of too few trainings
TRAININGS = 3  # of each expert, at least, or nothing is said of how trainings differ
ARMS = ["method_a", "partition_a", "method_b", "partition_b"]
ASKED = ["language", "test_language", "benchmark", "split", "metric"]
TWIN = "-twin"  # the end of a twin's name; the rest is that of the problem
EVERY_LANGUAGE = "all languages"
_COLUMNS = [*ARMS, *ASKED, "difference", "low", "high", "n", "seeds", "p"]


@dataclass(frozen=True)
class Family:
    """A question with all its contrasts (a minus b): they are corrected together, and none is in another family.

    ``languages`` are test languages, ``where`` the columns that choose the outcomes; ``arranged`` makes arms of outcomes that
    differ in something else than method and partition.
    """

    id: str
    question: str
    pairs: tuple[tuple[Arm, Arm], ...]
    languages: tuple[str, ...] = (TARGET,)
    metrics: tuple[str, ...] = (PRIMARY,)
    where: Mapping[str, Any] = field(default_factory=lambda: {"benchmark": "templates", "split": "scored", "shots": 2})
    arranged: Callable[[pd.DataFrame], pd.DataFrame] | None = None


def arms_of(outcomes: pd.DataFrame) -> list[Arm]:
    """Return the arms that outcomes or scores are of, in the order in which they first come."""
    return list(dict.fromkeys(zip(outcomes["method"], outcomes["partition"], strict=True)))


def of_arms(outcomes: pd.DataFrame, *arms: Arm) -> pd.DataFrame:
    """Return the outcomes of some arms."""
    return outcomes[[arm in arms for arm in zip(outcomes["method"], outcomes["partition"], strict=True)]]


def everywhere(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes of the trainings that every language has: results are committed as they come."""
    seeds = seeds_everywhere(outcomes[outcomes["method"] != BASE[0]])
    return outcomes[outcomes["seed"].isin(seeds) | (outcomes["method"] == BASE[0])]


def seeds_everywhere(table: pd.DataFrame) -> set[int]:
    """Return the seeds that every language of a table has; none where it is empty."""
    each = [set(some) for _, some in table.groupby("language")["seed"]]
    return set.intersection(*each) if each else set()


def target_first(languages: pd.Series) -> list[str]:
    """Return the test languages of a column, English last."""
    return sorted(languages.unique(), key=lambda code: code == "en")


def by_pairs(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return outcomes whose problems are pairs of twins: a problem and its twin have the same numbers, and are no two draws."""
    return _averaged(outcomes, "problem", outcomes["problem"].str.removesuffix(TWIN))


def by_situations(outcomes: pd.DataFrame, problem_seed: int = 0) -> pd.DataFrame:
    """Return outcomes whose problems are pairs of twin situations, each the mean of its problems: these share words, and a
    difference may be alike in all of them. Texts without a situation stay as they are. ``problem_seed`` is that by which the
    problems were drawn: another has other situations under the same ids.

    Situations that have a problem more than others count no more than these.
    """
    problems = outcomes["problem"].str.removesuffix(TWIN)
    known = situations(problems.unique(), problem_seed)
    named = outcomes.assign(problem=[known.get(problem, problem) for problem in problems])
    keys = [column for column in named.columns if column not in ("outcome", "text")]
    return named.groupby(keys, sort=False, observed=True, dropna=False)["outcome"].mean().reset_index()


def over_languages(outcomes: pd.DataFrame, in_english: bool = False) -> pd.DataFrame:
    """Return the outcomes of pairs of twins in the target languages, or in English, averaged over the studies' languages; their
    language is ``EVERY_LANGUAGE``.

    Problems are the same in every language, and a seed's math expert, too: neither is counted thrice.
    """
    mine = outcomes[outcomes["test_language"] == ("en" if in_english else outcomes["language"])]
    one = _averaged(by_pairs(mine), "language", EVERY_LANGUAGE)
    return one.assign(test_language="en" if in_english else EVERY_LANGUAGE)


def _averaged(outcomes: pd.DataFrame, column: str, named: Any) -> pd.DataFrame:
    """Return the means of outcomes that are alike once a column is named anew; of each there must be as many."""
    left = {column, "test_language"} if column == "language" else {column}
    keys = [
        name for name in ("method", "partition", "seed", "problem", *ASKED) if name in outcomes and name not in left
    ]
    grouped = outcomes.assign(**{column: named}).groupby([*keys, column], sort=False)["outcome"]
    found = grouped.agg(["mean", "size"]).reset_index().rename(columns={"mean": "outcome"})
    if found["size"].nunique() > 1:
        few = found.loc[found["size"].idxmin()]
        raise RequestError(
            f"{few['method']} (seed {few['seed']}) has {few['size']} outcomes of {few['problem']} where others have "
            f"{found['size'].max()}: an average needs all of them."
        )
    return found.drop(columns="size")


def contrast(outcomes: pd.DataFrame, a: Arm, b: Arm, metric: str, test_language: str) -> Interval:
    """Return the paired difference a minus b of two arms with its interval.

    Raises RequestError where both are trained and not by the same seeds: only what has no training is held against every seed.
    """
    chosen = select(outcomes, metric=metric, test_language=test_language)
    left, right = (select(chosen, method=method, partition=partition) for method, partition in (a, b))
    seeds = [sorted(set(side["seed"])) for side in (left, right)]
    if all(seeds) and seeds[0] != seeds[1] and all(METHODS[method].experts for method, _ in (a, b)):
        raise RequestError(f"{a[0]} has seeds {seeds[0]} and {b[0]} {seeds[1]}: compare those that both have.")
    return paired_difference(left, right)


def contrasts(
    outcomes: pd.DataFrame, pairs: Sequence[tuple[Arm, Arm]], test_language: str, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return a row a pair (a minus b) and metric, with its interval and its own p, and without a verdict.

    Columns: method_a, partition_a, method_b, partition_b, language (the study's), test_language, benchmark, split, metric,
    difference, low, high, n (problems), seeds, p.
    """
    import pandas as pd

    rows = []
    for a, b in pairs:
        for metric in metrics:
            d = contrast(outcomes, a, b, metric, test_language)
            asked = _asked(select(outcomes, metric=metric, test_language=test_language))
            p = 1.0 if d.p is None else d.p  # what was not tested counts as a comparison and is never shown
            rows.append((*a, *b, *asked, d.value, d.low, d.high, d.n, d.seeds, p))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _asked(outcomes: pd.DataFrame) -> tuple[str, ...]:
    """Return the values of ``ASKED``, of which outcomes that are compared have one each."""
    found = {column: list(outcomes[column].unique()) for column in ASKED if column in outcomes}
    for column, values in found.items():
        if len(values) > 1:
            raise RequestError(f"Outcomes of several kinds are compared ({column}: {', '.join(values)}): choose one.")
    return tuple(str(found.get(column, [""])[0]) for column in ASKED)


def judged(family: Family, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return a family's contrasts with Holm's p over the whole family and the verdict by it, columns as :func:`contrasts`.

    Where a contrast is of fewer than ``TRAININGS`` trainings nobody knows how trainings differ: its verdict is ``UNJUDGED``. That
    of two models without a training of their own (the base, asked differently) stands.
    """
    import pandas as pd

    chosen = select(outcomes, **family.where)
    chosen = family.arranged(chosen) if family.arranged else chosen
    (language,) = chosen["language"].unique()
    codes = [language if code == TARGET else code for code in family.languages]
    table = pd.concat([contrasts(chosen, family.pairs, code, family.metrics) for code in codes], ignore_index=True)
    table = table.assign(p=holm(list(table["p"])), family=family.id)
    return table.assign(verdict=[_verdict(row) for row in table.itertuples()])


def _verdict(row: Any) -> str:
    trained = any(METHODS[slug].experts for slug in (row.method_a, row.method_b))
    if trained and row.seeds < TRAININGS:
        return UNJUDGED
    return verdict(Interval(row.difference, row.low, row.high, row.n), row.metric, row.p)


def verdict(difference: Interval, metric: str, p: float | None = None) -> str:
    """Say whether a difference is better, worse or not significant: its interval excludes zero and p, if given, is below 5 %.

    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll"), verdict(Interval(0.02, -0.01, 0.05, 250), "exact-match")
    ('better', 'not significant')
    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll", p=0.06)
    'not significant'
    """
    if not difference.excludes_zero or (p is not None and p >= ALPHA):
        return NOT_SHOWN
    return BETTER if (difference.value > 0) == READINGS[metric].higher_is_better else WORSE


def improvement(row: Any) -> tuple[float, float, float]:
    """Return a contrast's value, low and high in the metric's unit, turned so that more is better."""
    reading = READINGS[row.metric]
    value, low, high = (reading.scale * end for end in (row.difference, row.low, row.high))
    return (value, low, high) if reading.higher_is_better else (-value, -high, -low)


def side(row: Any) -> str:
    """Return on which side of its rival an arm is by the whole interval: ``above``, which is better, ``below``, or nothing."""
    _, low, high = improvement(row)
    return ABOVE if low > 0 else BELOW if high < 0 else ""


def of_pairs(table: pd.DataFrame, pairs: Sequence[tuple[Arm, Arm]]) -> pd.DataFrame:
    """Return the contrasts of some pairs of arms."""
    mine = [((row.method_a, row.partition_a), (row.method_b, row.partition_b)) in pairs for row in table.itertuples()]
    return table[mine]


def verdicts_of(table: pd.DataFrame) -> dict[str, str]:
    """Return each contrast of a judged table, named by its arms and what was asked, with its verdict."""
    return {
        "|".join(str(getattr(row, name)) for name in (*ARMS, *ASKED)): row.verdict
        for row in table.itertuples()
        if row.verdict != UNJUDGED
    }
