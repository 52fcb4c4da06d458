"""Partitions from measurement: who gets which block by each measure, and what swaps under them are worth beside those by hand."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from xlnb.analysis.fitting import FITTED, MEASURES, fitted_by
from xlnb.chapters import figures, scorecard
from xlnb.chapters.fitted import HINDSIGHT, MEASURED, where_fitted, with_fitted, with_the_best
from xlnb.chapters.layer_swapping import NOT_YET, with_pooled_random
from xlnb.chapters.pictures import Shown, to_come
from xlnb.chapters.words import MEASURE_NAMES, improved, in_prose, language_names, listed, percent, trainings
from xlnb.errors import RequestError
from xlnb.studies import claims
from xlnb.studies.comparisons import ABOVE, BELOW, of_arms, side
from xlnb.studies.experiments import COMPARISON_CONTROLS, FITTED_PARTITIONS, RANDOM_CONTROLS, SWAP
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.study import Study
from xlnb.weights.partitions import Partition

_C = claims.SWAPPED
_BY_HAND = ((SWAP, "A"), (SWAP, "B"))
_OTHERS = (claims.RANDOM, (SWAP, "half and half"), MEASURED, HINDSIGHT)
_WAYS = {ABOVE: "clearly above C", BELOW: "clearly below C", "": "not clearly apart from C"}


def partitions(study: Study) -> dict[str, Partition]:
    """Return the measured partitions of a study's language by their names; none where what they are fitted by is missing."""
    try:
        return {name: study.partition(name) for name in FITTED}
    except RequestError:  # no scores by which to fit are committed
        return {}


def partition_figure(study: Study, number: int | None = None) -> Shown:
    """Draw whom each measure gives which block, beside C, A and B."""
    found = partitions(study)
    if not found:
        return to_come(number, NOT_YET)
    renamed = [replace(one, name=_short(name)) for name, one in found.items()]
    caption = (
        "Partitions by each measure: blocks to whom they matter more, and whole layers, as many to the language as C gives it. "
        "What is not the language expert's comes from the math expert."
    )
    by_hand = [study.partition(name) for name in "CAB"]
    return figures.partition_figure([*by_hand, *renamed], number=number, caption=caption)


def _short(name: str) -> str:
    measure, like_c = fitted_by(name)
    return f"{MEASURE_NAMES[measure]}{', size of C' if like_c else ''}"


def like_c(study: Study) -> str:
    """Return in words how many of the layers that C gives to the language each measure gives it, too, where it gives as many."""
    found = partitions(study)
    if not found:
        return NOT_YET
    mine = [layer for layer, share in enumerate(study.partition("C").attention) if share == 0]
    told = [
        f"{sum(found[f'by {measure}, as many as C'].attention[layer] == 0 for layer in mine)} by {MEASURE_NAMES[measure]}"
        for measure in MEASURES
    ]
    given = {name: 1 - (sum(found[name].attention) + sum(found[name].ffn)) / 2 / study.depth for name in FITTED}
    free = [f"{percent(given[f'by {measure}'])} by {MEASURE_NAMES[measure]}" for measure in MEASURES]
    return (
        f"Of the {len(mine)} layers that C gives to the language a measure that chooses as many takes {listed(told)}. "
        f"Where the number is free, the language gets {listed(free)} of the blocks."
    )


def outcomes(study: Study) -> pd.DataFrame:
    """Return outcomes of swaps under measured and other partitions: of all committed trainings and languages that have the
    measured ones, or, live, those of this study.
    """
    if study.live:
        by_hand = replace(COMPARISON_CONTROLS, partitions=("C", "A", "B", *COMPARISON_CONTROLS.partitions))
        found = study.outcomes(by_hand, FITTED_PARTITIONS)
    else:
        alike = {"profile": study.profile.name, "paradigm": study.paradigm, "method": SWAP}
        found = with_fitted(where_fitted(committed_outcomes(study.results, "methods", **alike), study), study)
    found = with_the_best(with_pooled_random(found))
    return found[~found["partition"].isin(RANDOM_CONTROLS)]


def by_hand(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes of swaps by A, B and C, of the trainings that all three have: A and B have fewer."""
    if study.live or found.empty:
        return of_arms(found, _C, *_BY_HAND)
    alike = {"paradigm": study.paradigm, "method": SWAP, "partition": ["A", "B"]}
    more = committed_outcomes(study.results, "partitions", profile=study.profile.name, **alike)
    seeds = set(more["seed"]) & set(found["seed"])
    both = pd.concat([of_arms(found, _C), more], ignore_index=True)
    return both[both["seed"].isin(seeds) & both["language"].isin(set(more["language"]))]


def against_c(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts of other partitions with C over the languages that have them, which it names: exploratory."""
    if select(found, partition=list(FITTED)).empty:
        return pd.DataFrame()
    mine = scorecard.against(found, _C)
    hand = by_hand(study, found)
    if len(hand):
        mine = pd.concat([mine[~mine["partition_a"].isin(["A", "B"])], scorecard.against(hand, _C)], ignore_index=True)
    order = {
        name: place for place, name in enumerate([*FITTED, *(partition for _, partition in (*_BY_HAND, *_OTHERS))])
    }
    mine = mine.assign(place=mine["partition_a"].map(order)).dropna(subset=["place"]).sort_values("place")
    return mine.drop(columns="place").assign(where=language_names(found["language"])).reset_index(drop=True)


def figure(table: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw :func:`against_c`."""
    if table.empty:
        return to_come(number, NOT_YET)
    return scorecard.exploratory(
        [(f"Against C, {table['where'].iloc[0]}", table)], "Swaps under other partitions against the swap by C", number
    )


def reading(table: pd.DataFrame) -> str:
    """Return in words which measured partitions are above C or below, and what the best in hindsight would be worth."""
    if table.empty:
        return NOT_YET
    told: dict[str, list[str]] = {way: [] for way in _WAYS.values()}
    for row in table[table["partition_a"].isin(FITTED)].itertuples():
        told[_WAYS[side(row)]].append(f"{_short(str(row.partition_a))} ({improved(row)})")
    parts = [f"{way}: {listed(names)}" for way, names in told.items() if names]
    rest = [
        f"{in_prose(*arm)} at {improved(row)}"
        for arm in (*_BY_HAND, *_OTHERS)
        for row in table[table["partition_a"] == arm[1]].itertuples()
    ]
    hand = table[table["partition_a"].isin(["A", "B"])]
    fewer = f" A and B: {trainings(int(hand['seeds'].max()))}." if len(hand) else ""
    return f"Measured partitions {'; '.join(parts)}. Beside them stand {listed(rest)}.{fewer}"


def answered(table: pd.DataFrame) -> str:
    """Return in a sentence whether measuring beats the partition by hand, by intervals."""
    if table.empty:
        return f"Does measuring beat C? {NOT_YET}"
    sides = [side(row) for row in table[table["partition_a"].isin(FITTED)].itertuples()]
    above, below = sides.count(ABOVE), sides.count(BELOW)
    return (
        f"Of {len(sides)} measured partitions {above or 'none'} {'is' if above < 2 else 'are'} clearly better than C by "
        f"hand, {below or 'none'} clearly worse ({table['where'].iloc[0]}, {trainings(int(table['seeds'].max()))}): by "
        "intervals, exploratory."
    )
