"""Losses along each task vector against their tangents at the base; and how this chapter's modules name texts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb.chapters.figures import GREY, LANGUAGE_COLOUR, MATH_COLOUR, wrapped
from xlnb.chapters.pictures import Shown, panels, picture, table, to_come
from xlnb.chapters.words import PARADIGM_NAMES, capital, language_names, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.languages import in_order
from xlnb.studies.maps import ASKED

NOT_YET = "The maps that this needs were not computed yet: `xlnb maps --publish` does it, best on a GPU."
TEXTS = {"math": "English problems", "problems": "problems in the language", "language": "prose in the language"}
VECTORS = {"math": "the math expert's vector", "language": "the language expert's vector"}
COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR}
MISS = 0.1  # of the change: beyond it a tangent is said to miss
SIDES = (("math", "a", "b"), ("language", "b", "a"))


def along(plane: pd.DataFrame, slopes: pd.DataFrame) -> pd.DataFrame:
    """Return what losses do along each task vector: saved against the base, and what the tangent at the base says, in nats.

    Columns: side, asked, seed, at (how much of the vector), saved, tangent, languages (their codes). Means over languages, of
    the seeds that have both maps.
    """
    if plane.empty or slopes.empty:
        return pd.DataFrame(columns=["side", "asked", "seed", "at", "saved", "tangent", "languages"])
    keys = ["language", "seed", "asked"]
    steep = slopes.groupby([*keys, "side"], as_index=False)["slope"].sum()
    base = plane[(plane["a"] == 0) & (plane["b"] == 0)][[*keys, "loss"]].rename(columns={"loss": "base"})
    parts = []
    for side, at, other in SIDES:
        line = plane[plane[other] == 0].merge(base, on=keys).merge(steep[steep["side"] == side], on=keys)
        told = line.assign(at=line[at], saved=line["base"] - line["loss"], tangent=-line["slope"] * line[at])
        means = told.groupby(["side", "asked", "seed", "at"], as_index=False)[["saved", "tangent"]].mean()
        parts.append(means.assign(languages="+".join(in_order(told["language"]))))
    return pd.concat(parts, ignore_index=True)


def lines_figure(lines: pd.DataFrame, paradigm: str, number: int | None = None) -> Shown:
    """Draw :func:`along`, a panel a kind of text: what each task vector saves, and its tangents at the base."""
    if lines.empty:
        return to_come(number, NOT_YET)
    sums = lines.groupby(["side", "asked", "at"])["saved"].agg(["mean", "min", "max"])
    straight = lines.groupby(["side", "asked", "at"])["tangent"].mean()

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(3, 2.3, narrow)
        for axis, asked in zip(axes, ASKED, strict=True):
            for side, colour in COLOURS.items():
                line = sums.loc[side, asked]
                axis.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.2, linewidth=0)
                axis.plot(line.index, line["mean"], color=colour, marker=".")
            low, high = axis.get_ylim()  # of the losses: a tangent may go far
            for side, colour in COLOURS.items():
                axis.plot(straight.loc[side, asked], color=colour, linestyle="--", linewidth=1.2)
            axis.set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
            axis.axhline(0, color="#010203", linewidth=1)
            axis.axvline(1, color="#010203", linewidth=0.6, linestyle=":")
            axis.set(title=wrapped(capital(TEXTS[asked]), 26), xlabel="how much of the vector")
        figure.supylabel(wrapped("loss saved (nats per token, up is better)", 24), fontsize="medium")
        names = {**VECTORS, "": "its tangent at the base"}
        handles = [
            Line2D([], [], color=COLOURS.get(side, GREY), linestyle="-" if side else "--", label=name)
            for side, name in names.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=1 if narrow else 3)
        return figure

    ends = [
        f"{digits(sums.loc[(side, asked, 1.0), 'mean'], '+.2f')} on {TEXTS[asked]} by {VECTORS[side]}"
        for asked in ASKED
        for side in VECTORS
    ]
    told = "Mean and range over" if lines["seed"].nunique() > 1 else "Of"
    caption = (
        f"What is saved against the base along each task vector, {PARADIGM_NAMES[paradigm]}: 0 is the base, 1 the expert. {told} "
        f"{_of_what(lines)}, of 48 texts at most; dashed, what the slope at the base says."
    )
    return picture(draw, number=number, caption=caption, alt=f"Saved by the whole vectors: {listed(ends)}.")


def _of_what(lines: pd.DataFrame) -> str:
    return f"{trainings(lines['seed'].nunique())} in {language_names(lines['languages'].iloc[0].split('+'))}"


def misses(lines: pd.DataFrame) -> pd.DataFrame:
    """Return by side and text how far the tangent is off: at 1, and where it first misses by a tenth of the change.

    Columns: side, asked, saved and tangent at 1 (nats), first (the first point above 0 of the plane's where the mean line misses;
    nan for none), last (the greatest point).
    """
    mean = lines[lines["at"] > 0].groupby(["side", "asked", "at"], sort=False)[["saved", "tangent"]].mean()
    rows = []
    for side, asked in product(VECTORS, ASKED):
        line = mean.loc[[side], [asked], :]
        off = (line["tangent"] - line["saved"]).abs() > MISS * line["saved"].abs()
        beyond = line.index.get_level_values("at")[off]
        whole = mean.loc[(side, asked, 1.0)]
        first = float(beyond[0]) if len(beyond) else float("nan")
        rows.append((side, asked, whole["saved"], whole["tangent"], first, float(line.index[-1][-1])))
    return pd.DataFrame(rows, columns=["side", "asked", "saved", "tangent", "first", "last"])


def misses_table(found: dict[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return :func:`misses` of :func:`along` by paradigm, as a table."""
    rows = []
    for paradigm, lines in found.items():
        who = f"{PARADIGM_NAMES[paradigm]}, {_of_what(lines)}" if len(lines) else ""
        for row in misses(lines).itertuples() if len(lines) else ():
            first = digits(row.first, "g") if row.first == row.first else f"not up to {row.last:g}"
            rows.append({"experts": who, "along": row.side, "losses of": TEXTS[row.asked],
                         "saved by the whole vector": digits(row.saved, "+.3f"), "by the tangent": digits(row.tangent, "+.3f"),
                         "misses from": first})  # fmt: skip
    if not rows:
        return to_come(number, NOT_YET, "table")
    caption = (
        "How far the first order goes. Nats per token; misses from: the first of the points computed (four to the expert) at "
        "which the tangent is off by more than a tenth of what is saved or lost there."
    )
    return table(rows, number=number, caption=caption)


def lines_told(lines: pd.DataFrame) -> str:
    """Return in words how far the tangents go."""
    if lines.empty:
        return NOT_YET
    found = misses(lines)
    early = found[found["first"] <= 0.25]
    over = found[found["tangent"] > found["saved"]]
    wrong = found[np.sign(found["tangent"]) != np.sign(found["saved"])]
    straight = int(found["first"].isna().sum())
    return (
        f"By {_of_what(lines)}: of {len(found)} lines (two vectors, three kinds of text) {len(early) or 'none'} are off their "
        f"tangent by a tenth of the change at a quarter of the vector already, and {straight or 'none'} keep to it all the way. "
        f"At the whole vector {len(over) or 'none'} of the tangents promise more than is kept, {len(wrong) or 'none'} point "
        "the wrong way."
    )
