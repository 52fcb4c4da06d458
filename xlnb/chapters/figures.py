"""The book's figures, one call each: right or up is better; blue is better, orange worse, grey not significant."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from xlnb.chapters.pictures import Shown, panels, picture
from xlnb.chapters.words import capital, improvement_title, in_prose, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.evaluation.readings import READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies.comparisons import (
    ARMS,
    BASE,
    BETTER,
    NOT_SHOWN,
    UNJUDGED,
    WORSE,
    improvement,
    target_first,
    verdicts_of,
)
from xlnb.weights.partitions import Partition

# Okabe and Ito's colours, which colour-blind readers tell apart; each has a contrast of 3 or more on white and on black.
BETTER_COLOUR, WORSE_COLOUR, GREY = "#0072B2", "#D55E00", "#7F7F7F"
MATH_COLOUR, LANGUAGE_COLOUR, SHARED_COLOUR = "#CC79A7", "#009E73", "#999999"
VERDICT_COLOURS = {BETTER: BETTER_COLOUR, WORSE: WORSE_COLOUR, NOT_SHOWN: GREY, UNJUDGED: GREY}


def unit_of(metric: str, difference: bool = False) -> str:
    """Return a metric's unit: nats per token, or percent (points of a difference)."""
    reading = READINGS[metric]
    return reading.unit_in_words if reading.unit != "%" else "points" if difference else "% of problems"


def axis_label(metric: str, text: bool = False) -> str:
    """Return what an axis of improvement says: the metric (of plain ``text``, if so), its unit, which way is better.

    >>> print(axis_label("nll"))
    NLL of the solution saved
    (nats per token, right is better)
    """
    title = improvement_title(metric)
    title = title.replace("of the solution", "of the text") if text else title
    return f"{title}\n({unit_of(metric, difference=True)}, right is better)"


def dot(axis: Any, place: Any, ends: Any, colour: str, **style: Any) -> None:
    """Draw ``ends`` (value, low, high) as a dot with its interval, at a height; ``style`` is the dot's."""
    value, low, high = ends
    axis.hlines(place, low, high, color=colour, linewidth=2)
    axis.plot(value, place, **{"marker": "o", "linestyle": "", "markersize": 6, "color": colour} | style)


def wrapped(text: str, width: int) -> str:
    """Return a text with each of its lines broken at a width."""
    return "\n".join(fill(line, width) for line in text.split("\n"))


def forest(
    parts: Sequence[tuple[str, pd.DataFrame]],
    *,
    number: int | None = None,
    caption: str,
    own: pd.DataFrame | None = None,
    against: str = "",
    one_scale: bool = False,
) -> Shown:
    """Draw judged contrasts as improvements, a panel a part (title, contrasts), a row a contrast, coloured by its verdict.

    ``own`` are contrasts of one training, drawn as diamonds in the rows of the same arms; ``against`` is what all are compared
    with, where the rows' names do not say it. With ``one_scale`` all panels have the same axis.
    """
    names = [_row_names(part, against) for _, part in parts]

    def draw(narrow: bool) -> Figure:
        beside = len(parts) > 1 and not narrow
        told = [[wrapped(name, 16 if narrow else 40) for name in some] for some in names]
        width = 18 if beside and len(parts) > 3 else 24 if narrow or len(parts) > 2 else 60
        labels = [
            wrapped(axis_label(part["metric"].iloc[0], text=part["benchmark"].iloc[0] == "prose"), width)
            for _, part in parts
        ]
        lines = max(name.count("\n") for some in told for name in some)
        below = max(label.count("\n") for label in labels)
        height = 0.95 + 0.14 * (below - 1) + (0.3 + 0.12 * lines) * max(map(len, told))
        figure, axes = panels(len(parts), height, narrow, sharey=beside)
        for axis, some, label, (title, part) in zip(axes, told, labels, parts, strict=True):
            for place, row in enumerate(part.itertuples()):
                dot(axis, place, improvement(row), VERDICT_COLOURS[getattr(row, "verdict", UNJUDGED)])
                for value in _own_values(own, row):
                    axis.plot(value, place, marker="D", markersize=7, color=GREY, markerfacecolor="none")
            axis.axvline(0, color="#010203", linewidth=1)
            axis.set(title=title, xlabel=label)
            axis.set_yticks(range(len(some)), some)
            axis.set_ylim(len(some) - 0.5, -0.5)
            axis.xaxis.set_major_locator(MaxNLocator(4 if narrow or len(parts) > 2 else 5 if beside else 8))
        if one_scale:  # however the panels stand
            ends = [end for axis in axes for end in axis.get_xlim()]
            for axis in axes:
                axis.set_xlim(min(ends), max(ends))
        return figure

    if own is not None:
        caption += f" Diamonds: the training that was made here, on {own['n'].max()} of the problems."
    verdicts = {name: word for _, part in parts if "verdict" in part for name, word in verdicts_of(part).items()}
    alt = " ".join(f"{title}: {_seen(part, against)}." for title, part in parts)
    return picture(draw, number=number, caption=caption, alt=alt, verdicts=verdicts)


def _own_values(own: pd.DataFrame | None, row: Any) -> list[float]:
    """Return the improvement by one training in the row of a contrast, if there is one."""
    if own is None:
        return []
    keys = [*ARMS, "test_language", "metric"]
    same = (own[keys] == [getattr(row, name) for name in keys]).all(axis=1)
    return [improvement(mine)[0] for mine in own[same].itertuples()]


def _row_names(part: pd.DataFrame, against: str) -> list[str]:
    """Return what each contrast's row is called: by its first arm, by its second, or by both where both differ."""
    firsts = [in_prose(row.method_a, row.partition_a).removeprefix("the ") for row in part.itertuples()]
    if against:
        return firsts
    rivals = [f"against {in_prose(row.method_b, row.partition_b)}" for row in part.itertuples()]
    return rivals if len(set(firsts)) < 2 else [f"{a} {b}" for a, b in zip(firsts, rivals, strict=True)]


def _seen(part: pd.DataFrame, against: str) -> str:
    told = []
    for name, row in zip(_row_names(part, against), part.itertuples(), strict=True):
        told.append(f"{name} {digits(improvement(row)[0], '+.2f')} {getattr(row, 'verdict', '')}".strip())
    return listed(told)


def how_to_read(judged: pd.DataFrame, of: str = "problems") -> str:
    """Return what a caption says of dots and lines: what means are ``of``, trainings, the interval, the colours."""
    n, seeds = judged["n"].max(), judged["seeds"].max()
    colours = (
        "Blue is better, orange worse, grey not significant, corrected."
        if UNJUDGED not in set(judged["verdict"])
        else "Grey: no verdict, since fewer than three trainings say nothing of another one."
    )
    return f"Dots are means over {n} {of} and {trainings(seeds)}, lines their 95 % intervals. {colours}"


def gains(judged: pd.DataFrame, *, number: int | None = None, own: pd.DataFrame | None = None) -> Shown:
    """Draw what each model gains over the base, a panel a test language."""
    over = judged[(judged[["method_b", "partition_b"]] == list(BASE)).all(axis=1)]
    codes = target_first(over["test_language"])
    parts = [(f"In {LANGUAGE_NAMES[code]}", over[over["test_language"] == code]) for code in codes]
    what = READINGS[over["metric"].iloc[0]].title
    caption = f"What each model gains over the base: {what}. {how_to_read(over)}"
    return forest(parts, number=number, caption=caption, own=own, against="the base")


def rivals(judged: pd.DataFrame, *, number: int | None = None, own: pd.DataFrame | None = None) -> Shown:
    """Draw one arm against each of its rivals: right of zero the arm is better."""
    arm = next(judged.itertuples())
    who = in_prose(arm.method_a, arm.partition_a)
    title = f"{capital(who)}, in {LANGUAGE_NAMES[arm.test_language]}"
    caption = (
        f"{capital(who)} against its rivals, problem by problem; right of zero it is better. {how_to_read(judged)}"
    )
    return forest([(title, judged)], number=number, caption=caption, own=own)


_OWNERS = "Who owns each layer: what is not the language expert's comes from the math expert."


def partition_figure(partitions: Sequence[Partition], *, number: int | None = None, caption: str = _OWNERS) -> Shown:
    """Draw who owns each layer: a row a partition; two, attention and FFN, where the partition divides layers by block."""
    rows: list[tuple[str, tuple[float, ...]]] = []
    for one in partitions:
        if one.is_by_layer:
            rows.append((one.name, one.attention))
        else:
            rows += [(f"{one.name}, attention", one.attention), (f"{one.name}, FFN", one.ffn)]
    depth = max(one.depth for one in partitions)
    shares = np.array([owned for _, owned in rows])
    owners = {"math expert": MATH_COLOUR, "language expert": LANGUAGE_COLOUR}
    if not np.isin(shares, (0, 1)).all():
        owners["half of each"] = SHARED_COLOUR

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 1.0 + 0.27 * len(rows), narrow)
        colours = LinearSegmentedColormap.from_list("share", [LANGUAGE_COLOUR, SHARED_COLOUR, MATH_COLOUR])
        axis.pcolormesh(shares, cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
        axis.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows])
        step = -(-depth // (9 if narrow else 32))
        axis.set_xticks(np.arange(0, depth, step) + 0.5, [str(layer) for layer in range(0, depth, step)])
        axis.set(xlabel=wrapped("transformer layer, from input to output", 26 if narrow else 60))
        axis.grid(False)
        axis.invert_yaxis()
        patches = [Patch(color=colour, label=owner) for owner, colour in owners.items()]
        figure.legend(handles=patches, loc="outside upper center", ncols=2 if narrow else 3)
        return figure

    given = [f"{one.name} gives the language {_layers(one)}" for one in partitions if one.is_by_layer]
    return picture(draw, number=number, caption=caption, alt=f"{listed(given)}." if given else "Who owns which block.")


def _layers(partition: Partition) -> str:
    owned = [str(layer) for layer, share in enumerate(partition.attention) if share == 0]
    return f"layers {listed(owned)}" if owned else "no whole layer"
