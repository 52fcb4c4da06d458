"""Importance: what each measure is, and who leans where: layers by sites, math against the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from xlnb.analysis.fitting import ABLATION, CHANGE
from xlnb.analysis.sensitivity import FISHER, TAYLOR
from xlnb.chapters.figures import GREY, MATH_COLOUR
from xlnb.chapters.pictures import NARROW, WIDE, Shown, picture, printed, table, to_come
from xlnb.chapters.words import MEASURE_NAMES, listed
from xlnb.languages import LANGUAGE_NAMES, in_order
from xlnb.studies import atlas, importances
from xlnb.studies.comparisons import TRAININGS
from xlnb.studies.importances import BY_PROJECTION, MEASURES, PATCHING
from xlnb.studies.study import Study

NO_MAPS = "These maps are not among the committed results yet: a live run, or xlnb maps, computes them."
_MAPS = (*importances.MAPS, "elements")
_ABOUT = {
    CHANGE: (
        "length of the expert's update of a site over the length of the site's weights, ‖Δw‖ / ‖w‖",
        "share",
        "none: the experts are read",
        "whether a change does anything; under Adam every weight moves about as far",
    ),
    TAYLOR: (
        "mean over texts of |w · ∂loss/∂w| at the base: how much the loss would change, to first order, without the weight",
        "nats per token",
        "one backward pass a batch",
        "anything but a small step; nothing of weights whose scale a norm takes out: here all but the FFN's gate",
    ),
    FISHER: (
        "mean over texts of ‖∂loss/∂w‖² at the base, next tokens drawn from the model itself (the true Fisher matrix's trace)",
        "nats² per squared unit of weight",
        "one backward pass a batch",
        "how far the weight may move; the largest gradients are not the most useful ones",
    ),
    ABLATION: (
        "loss of the expert with one site set back to the base, minus its loss whole",
        "nats per token",
        "a pass a site",
        "who stands in: of two sites that do the same, neither is missed",
    ),
    PATCHING: (
        "loss of the base minus its loss with one site of the expert",
        "nats per token",
        "a pass a site",
        "who works together: a site that needs another gains nothing alone",
    ),
}
# Luminance tells the ends apart in greyscale, too (L* 61 and 40), and so does the mark: a diamond is the language's.
_TO_LANGUAGE, _MIDDLE = "#006B4E", "#F4F1E8"
_LEAN = LinearSegmentedColormap.from_list("lean", [_TO_LANGUAGE, _MIDDLE, MATH_COLOUR])
_SQUARE = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], dtype=float)
_DIAMOND = np.array([(0, -1), (1, 0), (0, 1), (-1, 0), (0, -1)], dtype=float)
_BLOCKS = {"attention": "attention", "ffn": "FFN"}


def maps(study: Study) -> dict[str, pd.DataFrame]:
    """Return the maps that this chapter reads: all committed ones of the study's profile and paradigm, or, live, those of this
    study and of the next seed, which is the control.
    """
    if study.live:
        pair = [study, replace(study, seed=study.seed + 1)]
        made = {
            name: pd.concat([atlas.table(one, name) for one in pair], ignore_index=True) for name in importances.MAPS
        }
        return made | {"elements": atlas.table(study, "elements")}
    return {name: atlas.tables(study, name) for name in _MAPS}


def in_full(study: Study) -> dict[str, pd.DataFrame]:
    """Return the committed maps of experts that were fine-tuned in full; empty tables live, and of fewer than three trainings,
    which have no control."""
    found = {name: atlas.tables(study, name, "full") for name in _MAPS}
    enough = found["lengths"]["seed"].nunique() >= TRAININGS
    return {name: some if enough else some[:0] for name, some in found.items()}


def there(found: Mapping[str, pd.DataFrame], names: Sequence[str] = importances.MAPS) -> bool:
    """Say whether maps are there."""
    return all(len(found[name]) for name in names)


def measures_table(number: int | None = None) -> Shown:
    """Return what each measure is: formula, unit, cost, and what it cannot say."""
    rows = [
        (MEASURE_NAMES[measure], what, f"{unit};\n{cost}", cannot)
        for measure, (what, unit, cost, cannot) in _ABOUT.items()
    ]
    columns = ["measure", "what it is", "unit; cost", "what it cannot say"]
    caption = (
        "Five measures of how much a site matters. The first and the last two look at experts, the others at the base."
    )
    return table(rows, columns, number=number, caption=caption)


# --- where ---------------------------------------------------------------------------------------------------


def leanings(scores: pd.DataFrame) -> pd.DataFrame:
    """Return which side each site leans to, and how much it matters, by the means of scores over seeds.

    Each side's scores count as shares a (math) and b of their own sum, what lies below zero as zero. Columns: measure, language,
    layer, site, lean ((a - b) / (a + b): 1 to math alone, -1 to the language alone), weight (the mean of a and b).
    """
    keys = ["measure", "language", "side"]
    means = scores.groupby([*keys, "layer", "site"])["score"].mean().clip(lower=0).reset_index()
    means["score"] /= means.groupby(keys)["score"].transform("sum").replace(0, 1)
    means["side"] = means["side"].map({"math": "a", "language": "b"})
    wide = means.pivot(index=["measure", "language", "layer", "site"], columns="side", values="score").reset_index()
    a, b = wide.pop("a"), wide.pop("b")
    return wide.assign(lean=((a - b) / (a + b).replace(0, 1)), weight=(a + b) / 2).rename_axis(columns=None)


def poster(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw who leans where: layers by sites, a row of panels a measure, a column a language.

    On a phone projections are added up to attention and FFN.
    """
    if not there(found):
        return to_come(number, NO_MAPS)
    caption = (
        "Which sites matter to whom, by five measures. Colour and shape say the side, area how much a site matters beside the "
        f"largest of its panel; means over {seeds_in_words(found)}. Projections are those of attention (q, k, v, o) and of the "
        "FFN (gate, up, down); on a narrow screen they are added up."
    )
    return picture(_drawn(found), number=number, caption=caption, alt=seen(found))


def save_poster(found: Mapping[str, pd.DataFrame], file: str = "poster.pdf") -> Path:
    """Write the figure of :func:`poster` as a file to print, of any size since it consists of lines, and return its path."""
    return printed(_drawn(found), file)


def _drawn(found: Mapping[str, pd.DataFrame]) -> Callable[[bool], Figure]:
    blocks, finer = (leanings(importances.scores(found, by)) for by in ("block", "projection"))
    return partial(_poster, blocks, finer, in_order(blocks["language"]))


def _poster(blocks: pd.DataFrame, finer: pd.DataFrame, codes: Sequence[str], narrow: bool) -> Figure:
    rows = {m: list(_BLOCKS) if narrow or m not in BY_PROJECTION else list(importances.PROJECTIONS) for m in MEASURES}
    grid = (len(MEASURES) * len(codes), 1) if narrow else (len(MEASURES), len(codes))
    lines = [len(rows[m]) for m in MEASURES for _ in codes] if narrow else [len(rows[m]) for m in MEASURES]
    cell = 0.155 if narrow else 0.125
    height = 0.5 + sum(cell * count + 0.3 for count in lines) + 0.25
    figure = Figure(figsize=(NARROW if narrow else WIDE, height), layout="constrained")
    axes = figure.subplots(*grid, squeeze=False, height_ratios=[count + 1.6 for count in lines]).ravel()
    panels = [(measure, code) for measure in MEASURES for code in codes]
    for place, (axis, (measure, code)) in enumerate(zip(axes, panels, strict=True)):
        source = blocks if len(rows[measure]) == len(_BLOCKS) else finer
        mine = source[(source["measure"] == measure) & (source["language"] == code)]
        first, last = narrow or place % len(codes) == 0, place >= len(panels) - (1 if narrow else len(codes))
        _marks(axis, mine, rows[measure], names=first, layers=last)
        axis.set_title(f"{MEASURE_NAMES[measure].capitalize()}, {LANGUAGE_NAMES[code]}", fontsize=8.5, pad=2)
    figure.legend(handles=_LEGEND, loc="outside upper center", ncols=1 if narrow else 3)
    return figure


def _marks(axis: Any, mine: pd.DataFrame, rows: Sequence[str], names: bool, layers: bool) -> None:
    """Draw a panel: squares lean to math, diamonds to the language; the largest weight fills its cell."""
    depth, most = int(mine["layer"].max()) + 1, mine["weight"].max() or 1.0
    corners: dict[int, list[np.ndarray]] = {}
    for row in mine.itertuples():
        half = 0.36 * (row.weight / most) ** 0.5
        shape = half * _SQUARE if row.lean >= 0 else 2**0.5 * half * _DIAMOND
        corners.setdefault(round(10 * row.lean), []).append(shape + np.array([row.layer, rows.index(row.site)]))
    for tenths, some in corners.items():  # one path a colour: a page has thousands of marks
        shape = Outline.make_compound_path(*(Outline(one, closed=True) for one in some))
        axis.add_patch(PathPatch(shape, facecolor=_LEAN((tenths / 10 + 1) / 2), edgecolor=GREY, linewidth=0.4))
    axis.set(xlim=(-0.6, depth - 0.4), ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticks(
        range(len(rows)), [_BLOCKS.get(row, row) for row in rows] if names else [""] * len(rows), fontsize=7.5
    )
    step = max(1, round(depth / 6))
    axis.set_xticks(
        range(0, depth, step), [str(layer) for layer in range(0, depth, step)] if layers else [], fontsize=7.5
    )
    if layers:
        axis.set_xlabel("transformer layer", fontsize=8)
    axis.grid(False)


def _mark(colour: Any, marker: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, markeredgecolor=GREY, label=label)


_LEGEND = [
    _mark(MATH_COLOUR, "s", "matters more to math"),
    _mark(_MIDDLE, "s", "alike"),
    _mark(_TO_LANGUAGE, "D", "matters more to the language"),
]


def seeds_in_words(found: Mapping[str, pd.DataFrame]) -> str:
    """Return how many seeds maps have."""
    each = {found[name].groupby("language")["seed"].nunique().min() for name in importances.MAPS}
    if each == {1}:
        return "one seed"
    return f"{min(each)} seeds" if len(each) == 1 else f"{min(each)} to {max(each)} seeds"


def _seen(blocks: pd.DataFrame) -> str:
    """Return in words where each side has its most, by measure, over the languages."""
    told: dict[str, list[str]] = {}
    for measure in MEASURES:
        mine = blocks[blocks["measure"] == measure]
        by = mine.assign(math=mine["weight"] * (1 + mine["lean"]), own=mine["weight"] * (1 - mine["lean"]))
        tops = by.groupby(["layer", "site"])[["math", "own"]].mean().idxmax()
        places = [f"the {_BLOCKS[site]} of layer {layer}" for layer, site in tops]
        most = (
            f"{places[0]} for both" if len(set(places)) == 1 else f"{places[0]} for math, {places[1]} for the language"
        )
        told.setdefault(most, []).append(MEASURE_NAMES[measure])
    return f"What matters most: {'; '.join(f'{most} (by {listed(names)})' for most, names in told.items())}."


def seen(found: Mapping[str, pd.DataFrame]) -> str:
    """Return in words which site matters most to each side, by measure."""
    return _seen(leanings(importances.scores(found))) if there(found) else NO_MAPS
