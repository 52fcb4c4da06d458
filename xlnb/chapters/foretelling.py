"""Does distance from linearity foretell what a merge is worth on scored problems? Correlations over trainings and languages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xlnb.chapters.figures import GREY, wrapped
from xlnb.chapters.pictures import Shown, panels, picture, table, to_come
from xlnb.chapters.words import bracketed, capital, in_prose, listed
from xlnb.chapters.words import number as digits
from xlnb.evaluation.readings import PRIMARY
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies import atlas
from xlnb.studies.additivity import WHOLE, crossed
from xlnb.studies.claims import ADDITION, MATH_EXPERT, SOUP, SWAPPED
from xlnb.studies.outcomes import committed_outcomes
from xlnb.studies.profiles import STRENGTHS
from xlnb.studies.study import Study

_EXPERIMENTS = ("methods", "main-methods", "strength")
_PARTS = {ADDITION: WHOLE, SOUP: WHOLE, SWAPPED: "swap by C"}
CELL = ["profile", "paradigm", "language", "seed"]
FORETELLERS = {
    "surplus": "saved beyond the sum (development problems)",
    "alone": "saved by the language's side alone (development problems)",
    "error": "error of activations, mean over layers",
}
NOT_YET = "A correlation takes the maps and the scored outcomes of several trainings, which are not all there yet."
_DRAWS = 1000
_MARKERS = ("o", "^", "s")


def cells(study: Study) -> pd.DataFrame:
    """Return for every training and merge that has both maps and scored outcomes what may foretell, and what came of it.

    Columns: profile, paradigm, language, seed, method, partition, gain (the merge minus the math expert by the primary metric),
    and those of ``FORETELLERS``, in nats; error is nan where it was not computed. No rows for a live study, of one training.
    """
    columns = [*CELL, "method", "partition", "gain", *FORETELLERS]
    if study.live:
        return pd.DataFrame(columns=columns)
    gained, crosses = gains(study.results, study.profile.name), atlas.load_map("crosses", study.results)
    if gained.empty or crosses.empty:
        return pd.DataFrame(columns=columns)
    crosses = crosses[crosses["asked"] == "problems"]
    activations = atlas.load_map("activations", study.results)
    asked = activations[activations["asked"] == "problems"] if len(activations) else activations.assign(error=[])
    errors = asked.groupby(CELL, as_index=False)["error"].mean()
    parts = []
    for (method, partition), part in _PARTS.items():
        mine = crosses[crosses["part"] == part]
        told = mine[CELL].assign(
            surplus=-crossed(mine), alone=mine["neither"] - mine["l"], method=method, partition=partition
        )
        parts.append(told.merge(errors, on=CELL, how="left"))
    return gained.merge(pd.concat(parts), on=[*CELL, "method", "partition"])[columns]


def gains(results: Path, profile: str = "pocket") -> pd.DataFrame:
    """Return each merge minus the math expert by the primary metric, over scored problems in the language, a row a training.

    Of a profile, and of the other strengths of the same model.
    """
    profiles = tuple(STRENGTHS) if profile in STRENGTHS else (profile,)
    parts = [part for name in _EXPERIMENTS if len(part := _scored(results, name, profiles))]
    if not parts:
        return pd.DataFrame()
    wide = pd.concat(parts).groupby(["method", "partition", *CELL])["outcome"].mean().unstack([0, 1])
    found = [
        (wide[arm] - wide[MATH_EXPERT]).dropna().rename("gain").reset_index().assign(method=arm[0], partition=arm[1])
        for arm in _PARTS
        if arm in wide and MATH_EXPERT in wide
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


@lru_cache(maxsize=8)
def _scored(results: Path, experiment: str, profiles: tuple[str, ...]) -> pd.DataFrame:
    alike = {"metric": PRIMARY, "method": {slug for slug, _ in (*_PARTS, MATH_EXPERT)}, "split": "scored"}
    found = committed_outcomes(results, experiment, profile=profiles, **alike)
    return found[found["test_language"] == found["language"]]


def rank_correlation(
    found: pd.DataFrame, by: str, within: bool = False, draws: int = _DRAWS
) -> tuple[float, float, float]:
    """Return Spearman's correlation of a foreteller with the gain over the rows of :func:`cells`, with its 95 % interval.

    ``within`` takes the means of each profile, paradigm and language away first. The interval is over trainings and languages:
    seeds and languages are drawn again, each by itself, since the cells of a seed share a math expert (the pigeonhole bootstrap
    of Owen 2007, which errs on the wide side); means are those of each draw. nan where too few cells differ.
    """
    mine = found.dropna(subset=[by])[[*CELL, by, "gain"]]
    values = mine[[by, "gain"]].to_numpy(dtype=float)
    groups = mine.groupby(["profile", "paradigm", "language"]).ngroup().to_numpy()

    def of(rows: np.ndarray) -> float:
        return _spearman(_centred(values[rows], groups[rows]) if within else values[rows])

    places = dict(mine.reset_index().groupby(["seed", "language"]).indices)
    drawn = [of(rows) for rows in _drawn(mine, places, draws)] if len(values) > 2 else []
    kept = [one for one in drawn if one == one]
    low, high = np.percentile(kept, [2.5, 97.5]) if len(kept) > draws / 2 else (float("nan"), float("nan"))
    return of(np.arange(len(values))), float(low), float(high)


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return values minus the means of their groups, column by column."""
    if not len(values):
        return values
    sums = np.stack([np.bincount(groups, column) for column in values.T], axis=1)
    return values - (sums / np.maximum(np.bincount(groups), 1)[:, None])[groups]


def _drawn(table: pd.DataFrame, places: dict[tuple[int, str], np.ndarray], draws: int) -> Iterator[np.ndarray]:
    seeds, languages = (sorted(table[name].unique()) for name in ("seed", "language"))
    generator = np.random.default_rng(0)
    for _ in range(draws):
        chosen = generator.choice(len(seeds), len(seeds)), generator.choice(len(languages), len(languages))
        keys = [(seeds[s], languages[c]) for s in chosen[0] for c in chosen[1]]
        yield np.concatenate([places[key] for key in keys if key in places] or [np.array([], dtype=int)])


def _spearman(values: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(values) < 3 or (values == values[0]).all(axis=0).any():
        return float("nan")
    return float(np.corrcoef(rankdata(values, axis=0).T)[0, 1])


def correlations(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row a merge, foreteller and way (over all cells, within a language) with the correlation and its interval."""
    rows = []
    for (method, partition), mine in found.groupby(["method", "partition"], sort=False):
        for by in FORETELLERS:
            for within in (False, True):
                told = rank_correlation(mine, by, within)
                rows.append((method, partition, by, within, *told, int(mine[by].notna().sum())))
    return pd.DataFrame(rows, columns=["method", "partition", "by", "within", "value", "low", "high", "n"])


def correlations_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`correlations` as a table."""
    if found.empty:
        return to_come(number, NOT_YET, "table")
    rows = []
    for (method, partition, by), mine in found.groupby(["method", "partition", "by"], sort=False):
        row = {
            "merge": capital(in_prose(method, partition)),
            "foretold by": FORETELLERS[by],
            "cells": int(mine["n"].iloc[0]),
        }
        for one in mine.itertuples():
            row["within a language" if one.within else "over all cells"] = _correlation(one)
        rows.append(row)
    caption = (
        "Spearman's correlation with what the merge gains over the math expert on scored problems (primary metric), with 95 % "
        "intervals over trainings and languages. A cell is a training in a language, by experts of any strength; within a "
        "language the means of each language and strength are taken away first. Exploratory: not corrected for their number."
    )
    return table(rows, number=number, caption=caption)


def _correlation(row: Any) -> str:
    known = row.value == row.value
    return bracketed(row.value, row.low, row.high, "+.2f") if known else "too few that differ"


def scatter(found: pd.DataFrame, correlated: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw what merges gain over the math expert against what they save beyond the sum: right and up are better.

    ``correlated`` is :func:`correlations` of the same rows.
    """
    if found.empty:
        return to_come(number, NOT_YET)
    arms = [arm for arm in _PARTS if (found["method"] == arm[0]).any()]
    codes = list(found["language"].unique())

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(arms), 2.5, narrow)
        for axis, arm in zip(axes, arms, strict=True):
            for code, marker in zip(codes, _MARKERS, strict=False):
                mine = found[(found["method"] == arm[0]) & (found["language"] == code)]
                axis.plot(mine["surplus"], mine["gain"], marker=marker, linestyle="", color=GREY, markersize=5,
                          markerfacecolor="none", label=LANGUAGE_NAMES[code])  # fmt: skip
            axis.axhline(0, color="#010203", linewidth=1)
            axis.axvline(0, color="#010203", linewidth=1)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            axis.set(title=capital(in_prose(*arm)), xlabel=wrapped("saved beyond the sum (nats per token)", 24))
        figure.supylabel(wrapped("gain over the math expert (nats per token)", 26), fontsize="medium")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=3)
        return figure

    caption = (
        "What both vectors together save beyond the sum, on development problems in the language, and what the merge gains over "
        "the math expert on scored ones (primary metric): a mark is a training in a language, by experts of any strength; right "
        "and up are better."
    )
    return picture(draw, number=number, caption=caption, alt=told(correlated))


_WITH, _AGAINST, _OPEN = "goes with", "goes against", "tells nothing certain of"


def _way(low: float, high: float) -> str:
    return _WITH if low > 0 else _AGAINST if high < 0 else _OPEN


def told(found: pd.DataFrame) -> str:
    """Return in words what foretells which merge works, by intervals."""
    if found.empty:
        return NOT_YET
    mine, sentences = found[found["within"]], []
    for by, what in (("surplus", "what is saved beyond the sum"), ("alone", "what the language's side saves alone")):
        ways: dict[str, list[str]] = {way: [] for way in (_WITH, _AGAINST, _OPEN)}
        for row in mine[mine["by"] == by].itertuples():
            ways[_way(row.low, row.high)].append(f"{in_prose(row.method, row.partition)} ({_correlation(row)})")
        parts = [f"{way} the gain of {listed(arms)}" for way, arms in ways.items() if arms]
        sentences.append(f"Within a language, {what} {listed(parts)}.")
    number = int(mine["n"].max())
    return f"{' '.join(sentences)} These are rank correlations over {digits(number, 'd')} cells at most."


def in_short(found: pd.DataFrame) -> str:
    """Return in a sentence whether the cross term of addition goes with its gain, from training to training; "" if unknown."""
    mine = found[found["method"] == ADDITION[0]]
    value, low, high = rank_correlation(mine, "surplus", within=True) if len(mine) else (float("nan"),) * 3
    if value != value:
        return ""
    return (
        f"From training to training, what both vectors save beyond the sum {_way(low, high)} what addition gains over the math "
        f"expert on scored problems (rank correlation {bracketed(value, low, high, '+.2f')}, {len(mine)} cells)."
    )
