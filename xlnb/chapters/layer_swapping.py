"""What the chapter on Layer-Swapping compares and says: partitions against each other, the sweep of outer layers, controls."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, subplots
from xlnb.chapters.words import amount, answer, bracketed, bullets, label, table, trainings
from xlnb.checkpoints.verbs import merge
from xlnb.evaluation.readings import EXPRESSION_NLL, LIKELIHOODS, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import paired_table
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, Claim, decide
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, VERDICTS, WORSE, Arm, contrasts
from xlnb.studies.experiments import RANDOM_CONTROLS, SWAP
from xlnb.studies.outcomes import COLUMNS, select
from xlnb.studies.study import Study
from xlnb.weights.partitions import COMPLEMENT
from xlnb.weights.task_vectors import TaskVector


def sweep_figure(cells: pd.DataFrame, title: str) -> Figure:
    """Draw :func:`sweep_contrasts` as a heat map, bottom by top: blue is better than the math expert, bold what is shown."""
    wide = cells.pivot(index="bottom", columns="top", values="difference")
    figure, ((axis,),) = subplots(1, 1, 1.3 + 0.5 * len(wide), title)
    limit = float(cells["difference"].abs().max()) or 1.0
    colours = LinearSegmentedColormap.from_list("lower is better", [MATH_COLOUR, "#FFFFFF", LANGUAGE_COLOUR])
    unit = f"{READINGS[EXPRESSION_NLL].title}, minus the\nmath expert's (nats per token)"
    sns.heatmap(wide, ax=axis, cmap=colours, vmin=-limit, vmax=limit, linewidths=1, cbar_kws={"label": unit})
    for row in cells.itertuples():
        x, y = wide.columns.get_loc(row.top) + 0.5, wide.index.get_loc(row.bottom) + 0.5
        shown = bracketed(row.difference, row.low, row.high, "+.3f").replace(" [", "\n[")
        strong = abs(row.difference) > 0.85 * limit
        axis.text(x, y, shown, ha="center", va="center", fontsize=7.5, color="white" if strong else "black",
                  fontweight="normal" if row.verdict == NOT_SHOWN else "bold")  # fmt: skip
    axis.set(xlabel="last layers given to the language", ylabel="first layers given\nto the language")
    axis.grid(False)
    return figure


RANDOM = "random, mean of 5"  # the random controls taken together
_C, _MATH = (SWAP, "C"), ("math-only", "")
_COMPLEMENT, _RANDOM, _PREDECESSOR = ((SWAP, name) for name in (COMPLEMENT, RANDOM, "predecessor"))
_OPPONENTS = (_MATH, ("soup", ""), _COMPLEMENT, _RANDOM, (SWAP, "half and half"), _PREDECESSOR,
              *((SWAP, name) for name in ("A", "complement of A", "B")))  # fmt: skip
_OUTER = re.compile(r"outer (\d+)\+(\d+)")


def _claim(name: str, question: str, *rivals: Arm, in_english: bool = False) -> Claim:
    return Claim(f"swap-by-c-{name}", question, _C, rivals, EXPRESSION_NLL, in_english)


CLAIM = _claim("gains", "Does the swap by C beat the math expert and random layers?", _MATH, _RANDOM)
QUESTIONS = (
    _claim("who", "C against the same layers exchanged (does it matter who gets what?)", _COMPLEMENT),
    _claim("which", "C against random layers, as many (does it matter which layers?)", _RANDOM),
    _claim("math", "C against the math expert whole (is there something to gain?)", _MATH),
    _claim("transition", "C against the predecessor's partition (do transition layers help?)", _PREDECESSOR),
)
IN_ENGLISH = _claim("english", "C against the math expert whole, in English", _MATH, in_english=True)


def with_pooled_random(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes with one arm more: for each training and problem, the mean over the random partitions.

    A random partition is itself a draw; their mean over the same problems is the fair opponent of one chosen partition.
    """
    drawn = select(outcomes, method=SWAP, partition=list(RANDOM_CONTROLS))
    keys = [column for column in COLUMNS if column not in ("partition", "trained", "outcome", "text")]
    pooled = drawn.groupby(keys, sort=False, as_index=False)["outcome"].mean()
    pooled = pooled.assign(partition=RANDOM, trained="", text=None)
    return pd.concat([outcomes, pooled[COLUMNS]], ignore_index=True)


def control_contrasts(outcomes: pd.DataFrame, test_language: str) -> pd.DataFrame:
    """Return the swap by C against its controls and by the other partitions, by likelihood."""
    return contrasts(with_pooled_random(outcomes), [(_C, other) for other in _OPPONENTS], test_language, LIKELIHOODS)


def by_partition(method: str, partition: str) -> str:
    """Return an arm's name where swaps are told apart: its partition, or the method where it has none."""
    return partition or label(method)


def sweep_contrasts(outcomes: pd.DataFrame, test_language: str) -> pd.DataFrame:
    """Return each swap's contrast to the math expert by the NLL of the expressions, with its counts, ``bottom`` and ``top``.

    Holm's p is over all cells but 0+0, which is the math expert itself.
    """
    names = [name for name in outcomes["partition"].unique() if _OUTER.fullmatch(name)]
    families = ([name for name in names if (name == "outer 0+0") == itself] for itself in (True, False))
    pairs = [[((SWAP, name), _MATH) for name in family] for family in families if family]
    cells = pd.concat([contrasts(outcomes, family, test_language, [EXPRESSION_NLL]) for family in pairs])
    cells[["bottom", "top"]] = cells["partition_a"].str.extract(_OUTER).astype(int)
    return cells.sort_values(["bottom", "top"], ignore_index=True)


def _swaps(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of a sweep in which anything is swapped: all but 0+0."""
    return cells[(cells["bottom"] > 0) | (cells["top"] > 0)]


def sweep_reading(cells: pd.DataFrame, test_language: str) -> str:
    """Return the sweep in words: how many swaps are better or worse than the math expert, and the two extremes."""
    swaps = _swaps(cells).sort_values("difference")
    count = {word: list(swaps["verdict"]).count(word) for word in VERDICTS}
    told = []
    for word, row in (("lowest", swaps.iloc[0]), ("highest", swaps.iloc[-1])):
        value = amount(row["difference"], row["low"], row["high"], EXPRESSION_NLL, signed=True)
        told.append(f"the {word} difference is that of {row['bottom']}+{row['top']} ({value})")
    return (
        f"{LANGUAGE_NAMES[test_language]}, {READINGS[EXPRESSION_NLL].title}, {cells['n'].max()} development problems, "
        f"{trainings(cells['seeds'].max())}: of {len(swaps)} swaps {count[BETTER]} are better than the math expert, "
        f"{count[WORSE]} worse, and for {count[NOT_SHOWN]} no difference is shown; {told[0]}, {told[1]}. The extremes of many "
        "cells are partly luck: they describe the map and choose nothing."
    )


def swap_summary(target: pd.DataFrame, english: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets, from contrasts in both languages and those of the sweep."""
    decision, swaps = decide(CLAIM, target), _swaps(cells)
    opening = {
        REPRODUCED: "**Reproduced at this size**: the swap by C beats the math expert and random layers.",
        NOT_REPRODUCED: "**Not reproduced at this size.**",
        UNCLEAR: "**Unclear at this size**: not every difference is shown.",
    }[decision.outcome]
    if decision.verdicts == (WORSE, BETTER):
        opening = (
            "**Not reproduced at this size**: the swap by C beats random layers, so it matters which layers are swapped, but "
            "the math expert whole is better."
        )
    lines = [f"{opening} All differences are of the NLL of the expressions, lower is better."]
    for claim in QUESTIONS:
        in_english = f"; in English {answer(IN_ENGLISH, english)}" if claim.rivals == IN_ENGLISH.rivals else ""
        lines.append(f"{claim.question}: {answer(claim, target)}{in_english}.")
    better = f"{list(swaps['verdict']).count(BETTER)} of {len(swaps)} pairs of counts are better than the math expert"
    return bullets([*lines, f"In the sweep {better} on the development problems."])


def disk_check(study: Study, partition: str = "C") -> str:
    """Merge the study's two adapters from disk to disk and say, as Markdown, how far the result is from the merge in memory."""
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


def sites_of(names: pd.DataFrame) -> Any:
    """Return the table of architectures and their sites, laid out for the book."""
    return table(names, size=75).fmt_number(["attention (M)", "FFN (M)", "outside (M)"], decimals=0)


def owned_table(owned: pd.DataFrame) -> Any:
    """Return the table of what the language owns, in percent, laid out for the book."""
    title = "Share of the parameters inside the layers that the language owns (%)"
    return table(owned.reset_index(names="model"), title=title).fmt_number(list(owned.columns), decimals=1)


def sweep_baseline(outcomes: pd.DataFrame, test_language: str) -> str:
    """Return, as Markdown, a check of the sweep: the swap of no layer must be the math expert on every problem."""
    read = select(outcomes, metric=EXPRESSION_NLL, test_language=test_language)
    arms = (select(read, method=method, partition=partition) for method, partition in ((SWAP, "outer 0+0"), _MATH))
    worst = float(abs(paired_table(*arms)).max())
    return f"Swapping no layer, minus the math expert: at most {worst:g} nats per token on any problem."
