"""The book's figures, one call each: axes with units, colours that colour-blind readers can tell apart, book width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from xlnb.chapters.words import Naming, label, pair_name
from xlnb.evaluation.readings import EXPRESSION, EXPRESSION_NLL, PRIMARY, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.studies.comparisons import ARMS, BASE, NOT_SHOWN, arms_of, target_first
from xlnb.weights.partitions import Partition

SHOWN = (PRIMARY, EXPRESSION_NLL, EXPRESSION)
WIDTH = 7.5  # inches: readable at the book's text width
MATH_COLOUR, LANGUAGE_COLOUR, OTHER_COLOUR = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito
EXPERT_COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR, "both": "#009E73", "none": OTHER_COLOUR}


def axis_label(metric: str) -> str:
    """Return a reading's name with its unit, for an axis.

    >>> print(axis_label("expression"))
    calculations right
    (% of problems)
    """
    reading = READINGS[metric]
    if reading.unit == "%":
        return f"{reading.title}\n(% of problems)"
    return f"{reading.title}\n(nats per token,\n{'higher' if reading.higher_is_better else 'lower'} is better)"


def subplots(rows: int, columns: int, height: float, title: str = "", **kwargs: Any) -> tuple[Figure, Any]:
    """Return a figure and its array of axes (rows x columns) in the book's style, whatever a reader's matplotlib settings are."""
    sns.set_theme(
        context="notebook", style="whitegrid", font_scale=0.85, rc={"figure.dpi": 110, "axes.titleweight": "bold"}
    )
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **kwargs)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure, axes


def dot(axis: Any, place: Any, ends: Any, colour: str, upright: bool = False, **style: Any) -> None:
    """Draw ``ends`` (value, low, high) as a dot with its interval, at a place of the other axis; ``style`` is the dot's."""
    value, low, high = ends
    (axis.vlines if upright else axis.hlines)(place, low, high, color=colour, linewidth=2)
    at = (place, value) if upright else (value, place)
    axis.plot(*at, **{"marker": "o", "linestyle": "", "markersize": 6, "color": colour} | style)


def partition_figure(partitions: Sequence[Partition]) -> Figure:
    """Draw who owns each layer: a row a partition; two, attention and FFN, where the partition divides layers by block."""
    rows: list[tuple[str, tuple[float, ...]]] = []
    for one in partitions:
        if one.is_by_layer:
            rows.append((one.name, one.attention))
        else:
            rows += [(f"{one.name}, attention", one.attention), (f"{one.name}, FFN", one.ffn)]
    depth = max(one.depth for one in partitions)
    figure, ((axis,),) = subplots(1, 1, 0.9 + 0.4 * len(rows))
    colours = LinearSegmentedColormap.from_list("share", [LANGUAGE_COLOUR, "#DDDDDD", MATH_COLOUR])
    shares = np.array([owned for _, owned in rows])
    axis.pcolormesh(shares, cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=2)
    axis.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows])
    axis.set_xticks(np.arange(depth) + 0.5, [str(layer) for layer in range(depth)])
    axis.set(xlabel="transformer layer (0 reads the input, the last one writes the output)")
    axis.grid(False)
    axis.invert_yaxis()
    owners = {"from the math expert": MATH_COLOUR, "from the language expert": LANGUAGE_COLOUR}
    if not np.isin(shares, (0, 1)).all():
        owners["half of each"] = "#DDDDDD"
    patches = [Patch(color=colour, label=owner) for owner, colour in owners.items()]
    axis.legend(handles=patches, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


def scores_figure(scores: pd.DataFrame, title: str) -> Figure:
    """Draw each method's score, as :func:`xlnb.load_scores` has them: a column a metric, a row a test language."""
    languages, arms = target_first(scores["test_language"]), arms_of(scores)
    height = 0.6 + len(languages) * (0.75 + 0.27 * len(arms))
    figure, axes = subplots(len(languages), len(SHOWN), height, title, sharey=True, sharex="col")
    for row, language in zip(axes, languages, strict=True):
        for axis, metric in zip(row, SHOWN, strict=True):
            part = scores[(scores["test_language"] == language) & (scores["metric"] == metric)]
            by_arm = part.set_index(["method", "partition"])
            factor = READINGS[metric].scale
            for place, arm in enumerate(arms):
                found = by_arm.loc[arm]
                dot(axis, place, factor * found[["value", "low", "high"]], EXPERT_COLOURS[found["expert"]])
            if BASE in by_arm.index:
                axis.axvline(factor * by_arm.loc[BASE, "value"], color=OTHER_COLOUR, linestyle=":", linewidth=1)
            axis.set_title(LANGUAGE_NAMES.get(language, language))
            if language == languages[-1]:
                axis.set_xlabel(axis_label(metric))
        row[0].set_yticks(range(len(arms)), [label(*arm).replace(" (", "\n(") for arm in arms])
    axes[0, 0].invert_yaxis()
    return figure


def gains_figure(gains: pd.DataFrame, title: str) -> Figure:
    """Draw :func:`xlnb.studies.comparisons.against_base` by the primary reading, a panel a test language."""
    chosen = gains[gains["metric"] == PRIMARY]
    languages = target_first(chosen["test_language"])
    reading = READINGS[PRIMARY]
    figure, axes = subplots(1, len(languages), 3.2, title, sharey=True)
    for axis, language in zip(axes[0], languages, strict=True):
        rows = list(chosen[chosen["test_language"] == language].itertuples())
        for place, row in enumerate(rows):
            dot(axis, place, (row.difference, row.low, row.high), EXPERT_COLOURS[METHODS[row.method_a].expert])
        axis.set_title(LANGUAGE_NAMES.get(language, language))
        turned = "" if reading.higher_is_better else ", reversed"
        axis.set_xlabel(f"{reading.title}, minus the base's\n({reading.unit_in_words}{turned}:\nright is better)")
        axis.set_yticks(range(len(rows)), [label(row.method_a, row.partition_a) for row in rows])
        _right_is_better(axis, PRIMARY)
    axes[0, 0].invert_yaxis()
    return figure


def _right_is_better(axis: Any, metric: str) -> None:
    axis.axvline(0, color="black", linewidth=1)
    if not READINGS[metric].higher_is_better:
        axis.invert_xaxis()


def differences_figure(
    contrasts: pd.DataFrame, title: str = "", metrics: Sequence[str] = SHOWN, naming: Naming = label
) -> Figure:
    """Draw :func:`xlnb.studies.comparisons.contrasts`, a column a metric; filled dots are differences that are shown."""
    pairs = contrasts.drop_duplicates(ARMS)
    figure, axes = subplots(1, len(metrics), 1.4 + 0.45 * len(pairs), title, sharey=True)
    for axis, metric in zip(axes[0], metrics, strict=True):
        factor = READINGS[metric].scale
        part = pairs[ARMS].merge(contrasts[contrasts["metric"] == metric], "left", ARMS)
        for place, row in enumerate(part.itertuples()):
            colour = OTHER_COLOUR if row.verdict == NOT_SHOWN else EXPERT_COLOURS["both"]
            filled = "white" if row.verdict == NOT_SHOWN else colour
            ends = [factor * value for value in (row.difference, row.low, row.high)]
            dot(axis, place, ends, colour, markerfacecolor=filled)
        unit = "percentage points" if factor == 100 else "nats per token"
        unit += "" if READINGS[metric].higher_is_better else ",\nreversed: right\nis better"
        axis.set_xlabel(f"{READINGS[metric].title}\n({unit})")
        _right_is_better(axis, metric)
    names = [pair_name(row, naming) for row in pairs.itertuples()]
    shown = [name.replace(" − ", "\n− ") if len(name) > 28 else name for name in names]
    axes[0, 0].set_yticks(range(len(shown)), shown)
    axes[0, 0].invert_yaxis()
    return figure
