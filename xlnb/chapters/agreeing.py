"""How deep what matters lies, how far measures agree, problems in the language beside English ones; the overlap, counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from xlnb.analysis.fitting import ABLATION
from xlnb.analysis.overlap import alike, by_chance, jackknife
from xlnb.analysis.sensitivity import TAYLOR
from xlnb.chapters.importance import NO_MAPS, seeds_in_words, there
from xlnb.chapters.pictures import Shown, table, to_come
from xlnb.chapters.words import MEASURE_NAMES, bracketed, listed
from xlnb.chapters.words import number as digits
from xlnb.methods import LANGUAGE, MATH
from xlnb.stats import Interval
from xlnb.studies import importances, overlaps
from xlnb.studies.comparisons import EVERY_LANGUAGE
from xlnb.studies.importances import MEASURES, SIDES
from xlnb.studies.maps import IN_ENGLISH, IN_LANGUAGE, TEXT
from xlnb.studies.overlaps import BETWEEN, OVER_CONTROL, RULE


def where(scores: pd.DataFrame) -> pd.DataFrame:
    """Return how deep what matters lies, and how much of it is FFN, for math, for the language, and math minus the language.

    Columns: measure, what (depth: the mean layer, or ffn), side (math, language, difference), value, low, high, over the
    languages; intervals leave out one seed at a time (:func:`xlnb.analysis.overlap.jackknife`).
    """
    rows = []
    for measure in [one for one in MEASURES if one in set(scores["measure"])]:
        every = list(overlaps.arrays(scores, measure).values())
        sites = scores[scores["measure"] == measure][["layer", "site"]].drop_duplicates().sort_values(["layer", "site"])
        for what, marks in (("depth", sites["layer"]), ("ffn", sites["site"] == "ffn")):
            each = np.array([_weighted(one, marks.to_numpy(dtype=float)) for one in every]).mean(
                axis=0
            )  # (sides, seeds)
            for side, values in (*zip(SIDES, each, strict=True), ("difference", each[0] - each[1])):
                told = _over_seeds(values)
                rows.append((measure, what, side, told.value, told.low, told.high))
    return pd.DataFrame(rows, columns=["measure", "what", "side", "value", "low", "high"])


def _over_seeds(values: np.ndarray) -> Interval:
    """Return the mean of a value a seed with its interval."""
    return jackknife(lambda kept: float(values[list(kept)].mean()), len(values))


def _weighted(values: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return the means of marks of sites by their scores (sides, seeds, sites), what lies below zero as zero."""
    weights = values.clip(min=0)
    return (weights * marks).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-30)


def where_table(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return :func:`where` for a reader."""
    if not there(found):
        return to_come(number, NO_MAPS, "table")
    told = where(importances.scores(found)).set_index(["measure", "what", "side"])
    rows = []
    for measure in MEASURES:
        line = [MEASURE_NAMES[measure]]
        for what, form, factor in (("depth", ".1f", 1), ("ffn", ".1f", 100)):
            values = [factor * told.loc[(measure, what, side), "value"] for side in SIDES]
            value, low, high = (
                factor * told.loc[(measure, what, "difference"), end] for end in ("value", "low", "high")
            )
            line += [digits(values[0], form), digits(values[1], form), bracketed(value, low, high, f"+{form}")]
        rows.append(line)
    columns = [
        "measure",
        "depth, math",
        "depth, language",
        "difference",
        "FFN, math (%)",
        "FFN, language (%)",
        "difference ",
    ]
    caption = (
        "How deep what matters lies (mean layer, each weighted by its score), and how much of it is FFN. Over the languages; "
        f"differences are math minus language with 95 % intervals over {seeds_in_words(found)}. Exploratory."
    )
    return table(rows, columns, number=number, caption=caption)


# --- do measures agree ---------------------------------------------------------------------------------------


def agreement_table(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return the rank correlations of measures with each other, math above the diagonal, the language below."""
    if not there(found):
        return to_come(number, NO_MAPS, "table")
    scores = importances.scores(found)
    have = [set(some) for _, some in scores.groupby(["measure", "language"])["seed"]]
    seeds = set.intersection(*have)
    scores = scores[scores["seed"].isin(seeds)]  # pairs are of the same seed
    every = {measure: overlaps.arrays(scores, measure) for measure in MEASURES}
    rows = []
    for i, one in enumerate(MEASURES):
        line = [MEASURE_NAMES[one]]
        for j, other in enumerate(MEASURES):
            line.append("" if i == j else _bracketed(_correlation(every[one], every[other], 0 if j > i else 1)))
        rows.append(line)
    caption = (
        "Rank correlations of measures over all sites, of the same seed: math above the diagonal, the language below, over the "
        f"languages, 95 % intervals over {len(seeds)} seeds. Exploratory."
    )
    return table(rows, ["", *(MEASURE_NAMES[measure] for measure in MEASURES)], number=number, caption=caption)


def _correlation(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], side: int) -> Interval:
    """Return the mean rank correlation of two measures of the same seeds, over the languages."""
    pairs = [np.stack([one[code][side], other[code][side]]) for code in one]
    values = np.array([_same_seed(pair) for pair in pairs]).mean(axis=0)
    return _over_seeds(values)


def _same_seed(pair: np.ndarray) -> np.ndarray:
    """Return the rank correlation of both sides by seed (sides, seeds, sites)."""
    found = alike(pair)
    return np.array([found[0, seed, 1, seed] for seed in range(found.shape[1])])


def _bracketed(told: Interval) -> str:
    return bracketed(told.value, told.low, told.high, "+.2f").replace(" [", "\n[")


def in_language(found: Mapping[str, pd.DataFrame]) -> str:
    """Return in words whether sites that an expert needs for its own texts are those it needs for problems in the language."""
    sites = found["sites"]
    if sites.empty:
        return NO_MAPS
    told = []
    for expert, about, what in ((MATH, IN_ENGLISH, "the math expert needs for English problems"),
                                (LANGUAGE, TEXT, "the language expert needs for prose")):  # fmt: skip
        pair = [importances.effects(sites, expert, asked) for asked in (about, IN_LANGUAGE)]
        both = pd.concat([one.assign(side=side) for one, side in zip(pair, SIDES, strict=True)])
        values = overlaps.arrays(both, ABLATION)
        each = np.array([_same_seed(one) for one in values.values()]).mean(axis=0)
        one = _over_seeds(each)
        told.append(f"what {what} and what it needs for problems in the language correlate by "
                    f"{bracketed(one.value, one.low, one.high, '+.2f')}")  # fmt: skip
    return (
        f"By ablation, over the sites, {listed(told)} (rank correlations, for looking only: nothing is chosen by them)."
    )


# --- the overlap, counted -------------------------------------------------------------------------------------


def in_sites(told: pd.DataFrame) -> str:
    """Return in words how many sites of the two tops are the same, and which measures are below the same-task control."""
    mine = told[told["language"] == EVERY_LANGUAGE].set_index(["measure", "quantity"])
    if mine.empty:
        return NO_MAPS
    sites = int(mine["sites"].iloc[0])
    count = round(RULE.share * sites)
    both = {name: 2 * count * value / (1 + value) for name, value in mine["value"].items()}
    chance = by_chance(sites, count)
    each = [f"{digits(both[m, BETWEEN], '.1f')} by {MEASURE_NAMES[m]}" for m in MEASURES if (m, BETWEEN) in both]
    below = [
        MEASURE_NAMES[m] for m in MEASURES if (m, OVER_CONTROL) in both and mine.loc[(m, OVER_CONTROL), "high"] < 0
    ]
    return (
        f"Of {count} sites about so many are the same: {listed(each)}; chance gives "
        f"{digits(2 * count * chance / (1 + chance), '.1f')}. Less in common than the same task twice, by the whole interval: "
        f"{listed(below) if below else 'by no measure'}."
    )


def among_ffn(told: pd.DataFrame) -> str:
    """Return in words what Taylor scores say where attention, of which they say nothing, is left out of what chance gives."""
    mine = told[(told["language"] == EVERY_LANGUAGE) & (told["measure"] == TAYLOR) & (told["quantity"] == BETWEEN)]
    if mine.empty:
        return NO_MAPS
    (row,) = mine.to_dict("records")
    count, ffn = round(RULE.share * row["sites"]), row["sites"] // 2
    return (
        f"By Taylor scores both tops can only lie in the FFN. Among the {ffn} of them alone chance would give "
        f"{digits(by_chance(ffn, count), '.2f')}, where {bracketed(row['value'], row['low'], row['high'], '.2f')} is found."
    )
