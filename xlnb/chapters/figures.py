"""The book's figures, one call each: axes with units, colours that colour-blind readers can tell apart, book width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xlnb.evaluation.readings import EXPRESSION, EXPRESSION_NLL, PRIMARY, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS, label
from xlnb.weights.partitions import Partition

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


SHOWN = (PRIMARY, EXPRESSION_NLL, EXPRESSION)
WIDTH = 7.5  # inches: readable at the book's text width
MATH_COLOUR, LANGUAGE_COLOUR, OTHER_COLOUR = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito
_EXPERT_COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR, "both": "#009E73", "none": OTHER_COLOUR}


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


def _subplots(rows: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """Figure and axes in the book's style, whatever a reader's matplotlib settings are."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(
        context="notebook", style="whitegrid", font_scale=0.85, rc={"figure.dpi": 110, "axes.titleweight": "bold"}
    )
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **kwargs)


def partition_figure(partitions: Sequence[Partition]) -> Figure:
    """Draw who owns each layer: blue is math, orange is the language, grey between is a transition.

    A row a partition; two, attention and FFN, where the partition divides layers by block.
    """
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Patch

    rows: list[tuple[str, tuple[float, ...]]] = []
    for one in partitions:
        if one.is_by_layer:
            rows.append((one.name, one.attention))
        else:
            rows += [(f"{one.name}, attention", one.attention), (f"{one.name}, FFN", one.ffn)]
    depth = max(one.depth for one in partitions)
    figure, axis = _subplots(1, 1, 0.9 + 0.4 * len(rows))
    colours = LinearSegmentedColormap.from_list("share", [LANGUAGE_COLOUR, "#DDDDDD", MATH_COLOUR])
    axis.pcolormesh(
        np.array([shares for _, shares in rows]), cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=2
    )
    axis.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows])
    axis.set_xticks(np.arange(depth) + 0.5, [str(layer) for layer in range(depth)])
    axis.set(xlabel="transformer layer (0 reads the input, the last one writes the output)")
    axis.grid(False)
    axis.invert_yaxis()
    owners = {"from the math expert": MATH_COLOUR, "from the language expert": LANGUAGE_COLOUR}
    if any(share not in (0, 1) for _, shares in rows for share in shares):
        owners["half of each"] = "#DDDDDD"
    patches = [Patch(color=colour, label=owner) for owner, colour in owners.items()]
    axis.legend(handles=patches, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


def scores_figure(scores: pd.DataFrame, metrics: Sequence[str] = SHOWN, title: str = "") -> Figure:
    """Draw each method's score with its 95 % interval: a column a metric, a row a test language.

    ``scores`` has the columns of :func:`xlnb.load_scores`, one row a method, test language and metric.
    """
    languages = sorted(scores["test_language"].unique(), key=lambda code: code == "en")
    methods = list(dict.fromkeys(zip(scores["method"], scores["partition"], strict=True)))
    figure, axes = _subplots(
        len(languages),
        len(metrics),
        0.6 + len(languages) * (0.75 + 0.27 * len(methods)),
        squeeze=False,
        sharey=True,
        sharex="col",
    )
    for row, language in zip(axes, languages, strict=True):
        for axis, metric in zip(row, metrics, strict=True):
            part = scores[(scores["test_language"] == language) & (scores["metric"] == metric)]
            factor = READINGS[metric].scale
            for height, (method, partition) in enumerate(methods):
                score = part[(part["method"] == method) & (part["partition"] == partition)].iloc[0]
                colour = _EXPERT_COLOURS[score["expert"]]
                axis.hlines(height, factor * score["low"], factor * score["high"], color=colour, linewidth=2)
                axis.plot(factor * score["value"], height, "o", color=colour, markersize=6)
            base = part[part["method"] == "base"]
            if len(base):
                axis.axvline(factor * base["value"].iloc[0], color=OTHER_COLOUR, linestyle=":", linewidth=1)
            axis.set_title(LANGUAGE_NAMES.get(language, language))
            if language == languages[-1]:
                axis.set_xlabel(axis_label(metric))
        row[0].set_yticks(range(len(methods)), [label(*method).replace(" (", "\n(") for method in methods])
    axes[0, 0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def gains_figure(gains: pd.DataFrame, title: str = "", metric: str = PRIMARY) -> Figure:
    """Draw each method's paired difference to the base, a panel a test language; right of the line is better.

    ``gains`` has the columns of :func:`xlnb.telling.contrasts` and test_language, method and partition.
    """
    chosen = gains[gains["metric"] == metric]
    languages = list(dict.fromkeys(chosen["test_language"]))
    figure, axes = _subplots(1, len(languages), 3.2, squeeze=False, sharey=True)
    for axis, language in zip(axes[0], languages, strict=True):
        part = chosen[chosen["test_language"] == language].reset_index()
        for height, row in part.iterrows():
            colour = _EXPERT_COLOURS[METHODS[row["method"]].expert]
            axis.hlines(height, row["low"], row["high"], color=colour, linewidth=2)
            axis.plot(row["difference"], height, "o", color=colour, markersize=6)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_title(LANGUAGE_NAMES.get(language, language))
        reading = READINGS[metric]
        turned = "" if reading.higher_is_better else ", reversed"
        axis.set_xlabel(f"{reading.title}, minus the base's\n({reading.unit_in_words}{turned}:\nright is better)")
        axis.set_yticks(range(len(part)), [label(m, p) for m, p in zip(part["method"], part["partition"], strict=True)])
        if not reading.higher_is_better:
            axis.invert_xaxis()
    axes[0, 0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def differences_figure(contrasts: pd.DataFrame, title: str = "", metrics: Sequence[str] = SHOWN) -> Figure:
    """Draw paired differences with their 95 % intervals, a column a metric; right of the line is better.

    ``contrasts`` has the columns of :func:`xlnb.telling.contrasts`; where less is better the axis is reversed. Filled dots are
    differences that are shown (the column verdict).
    """
    names = list(dict.fromkeys(contrasts["name"]))
    figure, axes = _subplots(1, len(metrics), 1.4 + 0.45 * len(names), squeeze=False, sharey=True)
    for axis, metric in zip(axes[0], metrics, strict=True):
        better_up, factor = READINGS[metric].higher_is_better, READINGS[metric].scale
        part = contrasts[contrasts["metric"] == metric].set_index("name").loc[names]
        for height, row in enumerate(part.itertuples()):
            colour = OTHER_COLOUR if row.verdict == "not shown" else _EXPERT_COLOURS["both"]
            filled = "white" if row.verdict == "not shown" else colour
            axis.hlines(height, factor * row.low, factor * row.high, color=colour, linewidth=2)
            axis.plot(factor * row.difference, height, "o", color=colour, markerfacecolor=filled, markersize=6)
        axis.axvline(0, color="black", linewidth=1)
        unit = "percentage points" if factor == 100 else "nats per token"
        unit += "" if better_up else ",\nreversed: right\nis better"
        axis.set_xlabel(f"{READINGS[metric].title}\n({unit})")
        if not better_up:
            axis.invert_xaxis()
    axes[0, 0].set_yticks(
        range(len(names)), [name.replace(" − ", "\n− ") if len(name) > 28 else name for name in names]
    )
    axes[0, 0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure
