"""Linearity inside the network: activations of the soup against the mean of both experts', and what was moved, layer by layer."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from xlnb.analysis.lengths import lengths
from xlnb.chapters.figures import GREY, LANGUAGE_COLOUR, MATH_COLOUR, wrapped
from xlnb.chapters.pictures import Shown, panels, picture, to_come
from xlnb.chapters.tangents import NOT_YET, TEXTS
from xlnb.chapters.words import capital, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.studies.comparisons import seeds_everywhere
from xlnb.studies.maps import ASKED

_MEASURES = {"cosine": "cosine", "coefficient": "coefficient", "error": "error (share of the change)"}
_STYLES: dict[str, tuple[str, Any]] = {
    "math": (MATH_COLOUR, "-"),
    "problems": ("#6A51A3", "--"),
    "language": (LANGUAGE_COLOUR, ":"),
}


def by_layer(activations: pd.DataFrame) -> pd.DataFrame:
    """Return the means over languages by text, layer and seed of how linear activations are: cosine, coefficient, error."""
    if activations.empty:
        return pd.DataFrame(columns=["asked", "layer", "seed", *_MEASURES])
    mine = activations[activations["seed"].isin(seeds_everywhere(activations))]
    return mine.groupby(["asked", "layer", "seed"], as_index=False)[list(_MEASURES)].mean()


def activations_figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw how linear activations are in each layer, a panel a measure, a line a kind of text."""
    if found.empty:
        return to_come(number, NOT_YET)

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(3, 2.2, narrow)
        for axis, (measure, title) in zip(axes, _MEASURES.items(), strict=True):
            for asked, (colour, style) in _STYLES.items():
                line = found[found["asked"] == asked].groupby("layer")[measure].agg(["mean", "min", "max"])
                axis.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.15, linewidth=0)
                axis.plot(line["mean"], color=colour, linestyle=style)
            axis.axhline(0 if measure == "error" else 1, color="#010203", linewidth=1)
            axis.set(title=wrapped(title, 24), xlabel="layer, from input to output")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [Line2D([], [], color=c, linestyle=s, label=TEXTS[asked]) for asked, (c, s) in _STYLES.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=1 if narrow else 3)
        return figure

    caption = (
        "The change of each layer's activations by the soup against the mean change by both experts: the solid line is where "
        f"both are equal. Mean and range over {trainings(found['seed'].nunique())}."
    )
    return picture(draw, number=number, caption=caption, alt=activations_told(found))


def activations_told(found: pd.DataFrame) -> str:
    """Return in words how linear activations are at the first and the last layer, and where least."""
    if found.empty:
        return NOT_YET
    mean, told = found.groupby(["asked", "layer"])[list(_MEASURES)].mean(), []
    for asked in ASKED:
        line = mean.loc[asked]
        worst = line["error"].idxmax()
        told.append(
            f"On {TEXTS[asked]} the error is {digits(line['error'].iloc[0], '.0%')} of the change in the first layer and "
            f"{digits(line['error'].iloc[-1], '.0%')} in the last, at most {digits(line.loc[worst, 'error'], '.0%')} (layer "
            f"{worst}); the cosine is nowhere below {digits(line['cosine'].min(), '.2f')}, the coefficient between "
            f"{digits(line['coefficient'].min(), '.2f')} and {digits(line['coefficient'].max(), '.2f')}."
        )
    return " ".join(told)


def moved(squares: pd.DataFrame) -> pd.DataFrame:
    """Return by layer and seed the lengths of both task vectors as shares of the weights, and their cosine, over languages."""
    if squares.empty:
        return pd.DataFrame(columns=["layer", "seed", "m", "l", "cosine"])
    mine = squares[squares["seed"].isin(seeds_everywhere(squares))]
    found = lengths(mine, "language", "seed", "layer")
    return found.groupby(["layer", "seed"], as_index=False)[["m", "l", "cosine"]].mean()


def lengths_figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw how far each expert moved each layer, and the cosine of both updates."""
    if found.empty:
        return to_come(number, NOT_YET)

    def draw(narrow: bool) -> Figure:
        figure, (left, right) = panels(2, 2.2, narrow)
        for side, colour in (("m", MATH_COLOUR), ("l", LANGUAGE_COLOUR)):
            line = 100 * found.groupby("layer")[side].agg(["mean", "min", "max"])
            left.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.2, linewidth=0)
            left.plot(line["mean"], color=colour)
        line = found.groupby("layer")["cosine"].agg(["mean", "min", "max"])
        right.fill_between(line.index, line["min"], line["max"], color=GREY, alpha=0.25, linewidth=0)
        right.plot(line["mean"], color=GREY)
        right.axhline(0, color="#010203", linewidth=1)
        left.set(title="length of the update", xlabel="layer", ylabel="% of the weights' length")
        right.set(title="cosine of both updates", xlabel="layer")
        handles = [Line2D([], [], color=c, label=n) for n, c in (("math", MATH_COLOUR), ("language", LANGUAGE_COLOUR))]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        return figure

    caption = f"How far both experts moved each layer, and whether they moved it the same way. Mean and range over " \
              f"{trainings(found['seed'].nunique())}."  # fmt: skip
    return picture(draw, number=number, caption=caption, alt=lengths_told(found))


def lengths_told(found: pd.DataFrame) -> str:
    """Return in words how long task vectors are and how they lie to each other, from layer to layer."""
    if found.empty:
        return NOT_YET
    mean = found.groupby("layer")[["m", "l", "cosine"]].mean()
    ends = [
        f"{who} moved its layers by {digits(mean[side].min(), '.1%')} (layer {mean[side].idxmin()}) to "
        f"{digits(mean[side].max(), '.1%')} (layer {mean[side].idxmax()}) of their weights' length"
        for who, side in (("the math expert", "m"), ("the language expert", "l"))
    ]
    low, high = digits(mean["cosine"].min(), "+.2f"), digits(mean["cosine"].max(), "+.2f")
    return capital(f"{listed(ends)}; the cosine of both updates is between {low} and {high}.")
