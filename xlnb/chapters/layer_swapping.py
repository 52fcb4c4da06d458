"""What the chapter on Layer-Swapping compares and says: partitions against each other, the sweep of outer layers, controls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, _subplots
from xlnb.chapters.words import amount
from xlnb.evaluation.readings import EXPRESSION_NLL, LIKELIHOODS, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import label
from xlnb.studies.comparisons import contrast, contrasts, corrected
from xlnb.studies.experiments import RANDOM_CONTROLS, SWAP
from xlnb.studies.outcomes import COLUMNS, select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xlnb.studies.study import Study


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


RANDOM = "random, mean of 5"  # the random controls taken together
_MATH_ONLY = ("math-only", "")
_OUTER = re.compile(r"outer (\d+)\+(\d+)")


def with_pooled_random(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes with one arm more: for each training and problem, the mean over the random partitions.

    A random partition is itself a draw; their mean over the same problems is the fair opponent of one chosen partition.
    """
    import pandas as pd

    drawn = select(outcomes, method=SWAP, partition=list(RANDOM_CONTROLS))
    keys = [column for column in COLUMNS if column not in ("partition", "outcome", "text")]
    pooled = drawn.groupby(keys, sort=False, as_index=False)["outcome"].mean().assign(partition=RANDOM, text=None)
    return pd.concat([outcomes, pooled[COLUMNS]], ignore_index=True)


def control_contrasts(outcomes: pd.DataFrame, test_language: str) -> pd.DataFrame:
    """Return the swap by C against its controls and by the other partitions: the columns of :func:`xlnb.telling.contrasts`."""
    swap = (SWAP, "C")
    others = [_MATH_ONLY, ("soup", ""), *((SWAP, name) for name in (
        "complement of C", RANDOM, "half and half", "predecessor", "A", "complement of A", "B"))]  # fmt: skip
    pairs = [(swap, other) for other in others]
    table = contrasts(with_pooled_random(outcomes), pairs, test_language, LIKELIHOODS)
    names = {f"{label(*swap)} − {label(*other)}": f"C − {other[1] or label(*other)}" for other in others}
    return table.assign(name=table["name"].map(names))


def sweep_contrasts(outcomes: pd.DataFrame, test_language: str, metric: str = EXPRESSION_NLL) -> pd.DataFrame:
    """Return each swap of the sweep minus the math expert: a row a pair of counts, with interval and verdict.

    Columns: bottom, top, difference, low, high, n (problems), seeds, p (Holm's, over all cells but 0+0), verdict.
    """
    import pandas as pd

    names = [name for name in outcomes["partition"].unique() if _OUTER.fullmatch(name)]
    found = {name: contrast(outcomes, (SWAP, name), _MATH_ONLY, metric, test_language) for name in names}
    itself = {name: found.pop(name) for name in names if name == "outer 0+0"}
    table = pd.concat([corrected(part, metric) for part in (itself, found) if part], ignore_index=True)
    counts = table["name"].str.extract(_OUTER).astype(int)
    table = table.assign(bottom=counts[0], top=counts[1])
    columns = ["bottom", "top", "difference", "low", "high", "n", "seeds", "p", "verdict"]
    return table[columns].sort_values(["bottom", "top"], ignore_index=True)


def sweep_reading(cells: pd.DataFrame, test_language: str, metric: str = EXPRESSION_NLL) -> str:
    """Return the sweep in words: how many swaps are better or worse than the math expert, and the two extremes.

    0+0 is the math expert itself and not counted.
    """
    swaps = cells[(cells["bottom"] > 0) | (cells["top"] > 0)]
    count = {word: int((swaps["verdict"] == word).sum()) for word in ("better", "worse", "not shown")}
    ordered = swaps.sort_values("difference")
    told = []
    for word, row in (("lowest", ordered.iloc[0]), ("highest", ordered.iloc[-1])):
        value = amount(row["difference"], row["low"], row["high"], metric, signed=True)
        told.append(f"the {word} difference is that of {row['bottom']}+{row['top']} ({value})")
    trainings = f"{cells['seeds'].max()} trainings" if cells["seeds"].max() > 1 else "one training"
    return (
        f"{LANGUAGE_NAMES[test_language]}, {READINGS[metric].title}, {cells['n'].max()} development problems, {trainings}: of "
        f"{len(swaps)} swaps {count['better']} are better than the math expert, {count['worse']} worse, and for "
        f"{count['not shown']} no difference is shown; {told[0]}, {told[1]}. The extremes of many cells are partly luck: they "
        "describe the map and choose nothing."
    )


def swap_summary(target: pd.DataFrame, english: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets, each decided by its interval."""

    def row(table: pd.DataFrame, other: str) -> Any:
        return table[(table["name"] == f"C − {other}") & (table["metric"] == EXPRESSION_NLL)].iloc[0]

    def told(table: pd.DataFrame, other: str) -> str:
        found = row(table, other)
        value = amount(found["difference"], found["low"], found["high"], EXPRESSION_NLL, signed=True)
        return f"**{found['verdict']}** ({value})"

    rivals = [row(target, other)["verdict"] for other in ("Math only", RANDOM)]
    verdicts = {
        ("better", "better"): "**Reproduced at this size**: the swap by C beats the math expert and random layers.",
        ("worse", "better"): "**Not reproduced at this size**: the swap by C beats random layers, so it matters which layers are "
        "swapped, but the math expert whole is better.",
    }  # fmt: skip
    other = (
        "**Not reproduced at this size.**"
        if "worse" in rivals
        else "**Unclear at this size**: not every difference is shown."
    )
    opening = verdicts.get((rivals[0], rivals[1]), other)
    swaps = cells[(cells["bottom"] > 0) | (cells["top"] > 0)]
    better = int((swaps["verdict"] == "better").sum())
    lines = [
        f"{opening} All differences are of the NLL of the expressions, lower is better.",
        f"C against the same layers exchanged (does it matter who gets what?): {told(target, 'complement of C')}.",
        f"C against random layers, as many (does it matter which layers?): {told(target, RANDOM)}.",
        f"C against the math expert whole (is there something to gain?): {told(target, 'Math only')}; in English "
        f"{told(english, 'Math only')}.",
        f"C against the predecessor's partition (do transition layers help?): {told(target, 'predecessor')}.",
        f"In the sweep {better} of {len(swaps)} pairs of counts are better than the math expert on the development problems.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def disk_check(study: Study, partition: str = "C") -> str:
    """Merge the study's two adapters from disk to disk and say, as Markdown, how far the result is from the merge in memory."""
    import shutil

    from xlnb.checkpoints.verbs import merge
    from xlnb.weights.task_vectors import TaskVector

    out = Path(study.home) / "merged" / f"layer-swapping-{partition.replace(' ', '-')}"
    shutil.rmtree(out, ignore_errors=True)  # of an earlier run of this chapter
    done = merge(SWAP, out, math=study.expert("math-only"), language=study.expert("language-only"),
                 partition=study.partition(partition), base=study.base.folder)  # fmt: skip
    merged, expected = TaskVector.from_adapter(out), study.merged(SWAP, partition)
    worst = max(float((merged[name] - expected[name]).abs().max()) for name in expected)
    return (
        f"`xlnb merge` copied {done.copied} tensors and computed {done.computed} ({done.nbytes / 1e6:.1f} MB in "
        f"{done.seconds:.2f} s). The adapter that it wrote, minus the merge in memory: at most {worst:g} in any parameter."
    )


def sites_of(names: Any) -> Any:
    """Return the table of architectures and their sites, laid out for the book."""
    from great_tables import GT

    columns = ["attention (M)", "FFN (M)", "outside (M)"]
    return GT(names, rowname_col="model").fmt_number(columns, decimals=0).tab_options(table_font_size="75%")


def owned_table(table: pd.DataFrame) -> Any:
    """Return the table of what the language owns, in percent, laid out for the book."""
    from great_tables import GT

    laid = GT(table.reset_index(names="model"), rowname_col="model").fmt_number(list(table.columns), decimals=1)
    return laid.tab_header(title="Share of the parameters inside the layers that the language owns (%)").tab_options(
        table_font_size="80%"
    )


def sweep_baseline(outcomes: pd.DataFrame, test_language: str) -> str:
    """Return, as Markdown, a check of the sweep: the swap of no layer must be the math expert on every problem."""
    values = []
    for method, partition in ((SWAP, "outer 0+0"), _MATH_ONLY):
        arm = select(outcomes, metric=EXPRESSION_NLL, test_language=test_language, method=method, partition=partition)
        values.append(arm.set_index(["seed", "problem"])["outcome"])
    worst = float((values[0] - values[1]).abs().max())
    return f"Swapping no layer, minus the math expert: at most {worst:g} nats per token on any problem."
