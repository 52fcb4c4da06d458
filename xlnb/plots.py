"""The book's figures, one call each: axes with units, colours that colour-blind readers can tell apart, book width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xlnb.evaluation import EXPRESSION, EXPRESSION_NLL, PRIMARY, READINGS, SHOTS_READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS, REFERENCES
from xlnb.partitions import Partition

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = (PRIMARY, EXPRESSION_NLL, EXPRESSION)
WIDTH = 7.5  # inches: readable at the book's text width
MATH_COLOUR, LANGUAGE_COLOUR, OTHER_COLOUR = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito
_EXPERT_COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR, "both": "#009E73", "none": OTHER_COLOUR}


def label(method: str, partition: str = "") -> str:
    """Return a method's name for a figure or table; partition C goes without saying.

    >>> label("layer-swapping", "complement of C")
    'Layer-Swapping (complement)'
    """
    known = METHODS | REFERENCES
    title = known[method].title if method in known else method
    return title if partition in ("", "C") else f"{title} ({partition.removesuffix(' of C')})"


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


def loss_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the training loss of each expert by step; the thick line is a running mean of five steps."""
    figure, axes = _subplots(1, len(histories), 2.6, squeeze=False)
    for axis, (slug, history) in zip(axes[0], histories.items(), strict=True):
        colour = _EXPERT_COLOURS[METHODS[slug].expert]
        axis.plot(history["step"] + 1, history["loss"], color=colour, alpha=0.3, linewidth=1)
        axis.plot(history["step"] + 1, history["loss"].rolling(5, min_periods=1).mean(), color=colour, linewidth=2)
        axis.set(title=label(slug), xlabel="optimizer step", ylabel="training loss\n(nats per completion token)")
        axis.set_ylim(bottom=0)
    return figure


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


def save_readme_figure(path: str = "book/_static/first-swap.png") -> None:
    """Draw the README's figure from the committed results: what each way of merging gains over the base, in both languages."""
    from xlnb.results import load_outcomes
    from xlnb.telling import against_base, figure_title

    outcomes = load_outcomes(experiment="first-swap", profile="pocket", language="sw", split="scored", shots=2)
    figure = gains_figure(against_base(outcomes), figure_title(outcomes))
    figure.savefig(path, dpi=150)


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


def sweep_figure(cells: pd.DataFrame, title: str = "", metric: str = EXPRESSION_NLL) -> Figure:
    """Draw a sweep as a heat map, bottom by top: each swap's difference to the math expert with its 95 % interval.

    ``cells`` has the columns of :func:`xlnb.swaps.sweep_contrasts`. Blue is better than the math expert, orange worse; bold
    numbers are differences that are shown (the column verdict).
    """
    import seaborn as sns
    from matplotlib.colors import LinearSegmentedColormap

    better = 1 if READINGS[metric].higher_is_better else -1
    wide = cells.pivot(index="bottom", columns="top", values="difference")
    figure, axis = _subplots(1, 1, 1.3 + 0.5 * len(wide))
    limit = float(cells["difference"].abs().max()) or 1.0
    colours = LinearSegmentedColormap.from_list("better", [LANGUAGE_COLOUR, "#FFFFFF", MATH_COLOUR][::better])
    unit = f"{READINGS[metric].title}, minus the\nmath expert's (nats per token)"
    sns.heatmap(wide, ax=axis, cmap=colours, vmin=-limit, vmax=limit, linewidths=1, cbar_kws={"label": unit})
    for row in cells.itertuples():
        x, y = wide.columns.get_loc(row.top) + 0.5, wide.index.get_loc(row.bottom) + 0.5
        shown = f"{row.difference:+.3f}\n[{row.low:+.3f}, {row.high:+.3f}]".replace("-", "−")
        strong = abs(row.difference) > 0.85 * limit
        axis.text(x, y, shown, ha="center", va="center", fontsize=7.5, color="white" if strong else "black",
                  fontweight="normal" if row.verdict == "not shown" else "bold")  # fmt: skip
    axis.set(xlabel="last layers given to the language", ylabel="first layers given\nto the language")
    axis.grid(False)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def difficulty_figure(steps: pd.DataFrame) -> Figure:
    """Draw how many problems of each split have one, two or three steps, in percent of the split.

    ``steps`` has a row a split and a column a number of steps, holding shares.
    """
    import seaborn as sns

    figure, axis = _subplots(1, 1, 2.4)
    left = 0 * steps.iloc[:, 0]
    for colour, count in zip(sns.color_palette("crest", len(steps.columns)), steps.columns, strict=True):
        axis.barh(
            steps.index, 100 * steps[count], left=left, color=colour, label=f"{count} step{'s' if count > 1 else ''}"
        )
        left = left + 100 * steps[count]
    axis.set(xlabel="problems of the split (%)", xlim=(0, 100))
    axis.invert_yaxis()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def validation_figure(means: pd.DataFrame, title: str = "") -> Figure:
    """Draw each reading of base, placebo and oracles with its 95 % interval, a panel a reading; the oracles are joined.

    ``means`` has the columns of :func:`xlnb.measuring.validation_means`.
    """
    from textwrap import fill

    metrics = [metric for metric in READINGS if metric in set(means["metric"])]
    rows = -(-len(metrics) // 3)
    figure, axes = _subplots(rows, 3, 2.4 * rows + 0.4, squeeze=False)
    names = {"base": "base", "placebo": "placebo", "oracle-quarter": "¼", "oracle-half": "½", "oracle": "oracle"}
    for axis, metric in zip(axes.flat, metrics, strict=False):
        part = means[means["metric"] == metric].set_index("method")
        arms = [arm for arm in names if arm in part.index]
        for place, arm in enumerate(arms):
            row = part.loc[arm]
            colour = {"base": OTHER_COLOUR, "placebo": LANGUAGE_COLOUR}.get(arm, MATH_COLOUR)
            axis.vlines(place, row["low"], row["high"], color=colour, linewidth=2)
            axis.plot(place, row["value"], "o", color=colour, markersize=5)
        trained = [(place, part.loc[arm, "value"]) for place, arm in enumerate(arms) if arm.startswith("oracle")]
        axis.plot(*zip(*trained, strict=True), color=MATH_COLOUR, linewidth=1)
        axis.axhline(part.loc["base", "value"], color=OTHER_COLOUR, linestyle=":", linewidth=1)
        axis.set_xticks(range(len(arms)), [names[arm] for arm in arms], rotation=45)
        arrow = "↑" if READINGS[metric].higher_is_better else "↓"
        axis.set_title(fill(f"{READINGS[metric].title} {arrow}", 27), fontsize="small")
        if READINGS[metric].unit == "%":
            axis.set_ylim(bottom=0)
        axis.set_ylabel("% of problems" if READINGS[metric].unit == "%" else "nats per token", fontsize="small")
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def shots_figure(scores: pd.DataFrame, metrics: Sequence[str] = SHOTS_READINGS[:3]) -> Figure:
    """Draw scores by the number of worked examples, a column a metric, a line a test language."""
    figure, axes = _subplots(1, len(metrics), 2.8, squeeze=False)
    languages = sorted(scores["test_language"].unique(), key=lambda code: code != "en")
    colours = dict(zip(languages, (MATH_COLOUR, LANGUAGE_COLOUR), strict=False))
    for axis, metric in zip(axes[0], metrics, strict=True):
        factor = READINGS[metric].scale
        for offset, (code, colour) in zip((-0.04, 0.04), colours.items(), strict=True):
            part = scores[(scores["test_language"] == code) & (scores["metric"] == metric)].sort_values("shots")
            x = part["shots"] + offset  # beside each other, so that intervals do not hide one another
            axis.vlines(x, factor * part["low"], factor * part["high"], color=colour, linewidth=2)
            axis.plot(x, factor * part["value"], "o-", color=colour, label=LANGUAGE_NAMES.get(code, code), linewidth=1)
        axis.set(xlabel="worked examples", ylabel=axis_label(metric), xticks=sorted(scores["shots"].unique()))
        axis.set_ylim(bottom=0)
    axes[0, -1].legend(frameon=False)
    return figure
