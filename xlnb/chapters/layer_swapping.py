"""What the chapter on Layer-Swapping compares and says: which layers, how many, and what one training does not show."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure

from xlnb.chapters import home
from xlnb.chapters.figures import BETTER_COLOUR, WORSE_COLOUR, unit_of, wrapped
from xlnb.chapters.pictures import Shown, box, panels, picture, table, to_come
from xlnb.chapters.words import bullets, improved, in_prose, listed, lowered, standing, trainings, unjudged
from xlnb.chapters.words import number as digits
from xlnb.checkpoints.verbs import merge
from xlnb.evaluation.readings import LIKELIHOODS, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.models import architectures
from xlnb.stats import paired_table
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, WORSE, contrasts, improvement, judged, verdicts_of
from xlnb.studies.experiments import RANDOM_CONTROLS, SWAP
from xlnb.studies.outcomes import COLUMNS, select
from xlnb.studies.study import Study
from xlnb.weights.task_vectors import TaskVector

_OUTER = re.compile(r"outer (\d+)\+(\d+)")
_BY_SWEEP = "by the plain likelihood of the calculations, which hardly tells even the oracle from the base"
_MIDDLE, _GREY = "#EFEFEF", "#D9D9D9"


def with_pooled_random(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes with one arm more: for each training and problem, the mean over the random partitions.

    A random partition is itself a draw; their mean over the same problems is the fair opponent of one chosen partition.
    """
    drawn = select(outcomes, method=SWAP, partition=list(RANDOM_CONTROLS))
    keys = [column for column in COLUMNS if column not in ("partition", "trained", "outcome", "text")]
    pooled = drawn.groupby(keys, sort=False, as_index=False)["outcome"].mean()
    pooled = pooled.assign(partition=claims.RANDOM[1], trained="", text=None)
    return pd.concat([outcomes, pooled[COLUMNS]], ignore_index=True)


NOT_YET = "This was not computed yet for the problems of this version; a live run computes it."


def at_hand(study: Study, ask: experiments.Ask) -> bool:
    """Say whether what is asked may be computed or is committed whole: results are committed as they come."""
    return study.live or all(study.state(cell) == "committed" for cell in study.cells(ask))


def controls(study: Study) -> pd.DataFrame:
    """Return the judged contrasts of the swap by C: with its rivals and, where at hand, with other layers, a family each."""
    found = [judged(claims.RIVALS, study.repeated(experiments.FIRST_SWAP))]
    if at_hand(study, experiments.CONTROLS):
        found.append(judged(claims.LAYERS, with_pooled_random(study.repeated(experiments.CONTROLS))))
    return pd.concat(found, ignore_index=True)


def reading(found: pd.DataFrame) -> str:
    """Return in words what the swap beats: other merges of the same experts, and other layers."""
    if unjudged(found):
        return "One training: no verdict."
    rivals, layers = (found[found["family"] == family.id] for family in (claims.RIVALS, claims.LAYERS))
    if layers.empty:
        return f"{standing(rivals)} Other layers: {lowered(NOT_YET)}"
    told = f"{standing(rivals)} Among other layers {lowered(standing(layers))}"
    word = layers.set_index("partition_b")["verdict"]
    if word[claims.RANDOM[1]] == BETTER:
        told += f" So the outer layers are better ones to give away than these {len(RANDOM_CONTROLS)} random choices."
    return told


def by_likelihood(study: Study, number: int | None = None) -> Shown:
    """Return the same contrasts by plain likelihood, as a table of improvements with intervals and without verdicts."""
    if not at_hand(study, experiments.CONTROLS):
        return box(f"<p>{NOT_YET}</p>")
    outcomes = with_pooled_random(study.repeated(experiments.CONTROLS))
    pairs = [*claims.RIVALS.pairs, *claims.LAYERS.pairs]
    found = contrasts(outcomes, pairs, study.language, LIKELIHOODS)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in found.itertuples():
        line = rows.setdefault(
            (row.method_b, row.partition_b), {"the swap against": in_prose(row.method_b, row.partition_b)}
        )
        line[f"{READINGS[row.metric].title} saved (nats per token)"] = improved(row, with_unit=False)
    caption = "The same by plain likelihood: more is better for the swap; 95 % intervals. Exploratory, so no verdicts."
    return table(list(rows.values()), number=number, caption=caption)


def counted(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the judged contrasts of the sweep, each count of outer layers against the math expert, with ``bottom`` and ``top``.

    Holm's correction is over all cells but 0+0, which is the math expert itself and not among them.
    """
    there = set(outcomes["partition"])
    fitting = tuple(pair for pair in claims.COUNTS.pairs if pair[0][1] in there)  # a shallow model has fewer
    cells = judged(replace(claims.COUNTS, pairs=fitting), outcomes)
    cells[["bottom", "top"]] = cells["partition_a"].str.extract(_OUTER).astype(int)
    return cells.sort_values(["bottom", "top"], ignore_index=True)


def sweep(study: Study) -> pd.DataFrame:
    """Return :func:`counted` of all trainings at hand; no rows where there are none."""
    return counted(study.repeated(experiments.SWEEP)) if at_hand(study, experiments.SWEEP) else pd.DataFrame()


def one_training(study: Study, seed: int = 0) -> pd.DataFrame:
    """Return :func:`counted` of one training alone: its intervals cover other problems and no other training."""
    if not at_hand(study, experiments.SWEEP):
        return pd.DataFrame()
    outcomes = study.repeated(experiments.SWEEP)
    seed = seed if seed in set(outcomes["seed"]) else int(outcomes["seed"].max())
    return counted(outcomes[(outcomes["seed"] == seed) | (outcomes["method"] == "base")])


def sweep_figure(cells: pd.DataFrame, *, number: int | None = None) -> Shown:
    """Draw the sweep as a map, bottom by top: blue is better than the math expert, orange worse, grey not significant."""
    if cells.empty:
        return to_come(number, NOT_YET)
    alone = unjudged(cells)  # one training: its own interval must do, and the caption says so
    outside = outside_zero(cells) != 0 if alone else cells["verdict"].isin([BETTER, WORSE])
    values = cells.assign(better=[improvement(row)[0] for row in cells.itertuples()], outside=outside.astype(float))
    wide = values.pivot(index="bottom", columns="top", values="better")
    tinted = values.pivot(index="bottom", columns="top", values="outside").to_numpy() == 1
    limit = float(np.nanmax(np.abs(wide.to_numpy()))) or 1.0
    metric = cells["metric"].iloc[0]

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 0.9 + (0.34 if narrow else 0.46) * len(wide), narrow)
        colours = LinearSegmentedColormap.from_list("improvement", [WORSE_COLOUR, _MIDDLE, BETTER_COLOUR])
        frame = {"edgecolors": "white", "linewidth": 1.5}
        axis.pcolormesh(np.ones(wide.shape), cmap=ListedColormap([_GREY]), **frame)  # what is not significant
        shown = axis.pcolormesh(
            np.where(tinted, wide.to_numpy(), np.nan), cmap=colours, vmin=-limit, vmax=limit, **frame
        )
        for row in cells.itertuples():
            x, y = wide.columns.get_loc(row.top) + 0.5, wide.index.get_loc(row.bottom) + 0.5
            value, low, high = improvement(row)
            text = digits(value, "+.2f") + ("" if narrow else f"\n[{digits(low, '+.2f')}, {digits(high, '+.2f')}]")
            coloured = bool(outside[row.Index])
            weight, ink = (
                "bold" if coloured else "normal",
                "#FFFFFF" if coloured and abs(value) > 0.7 * limit else "#1A1A1A",
            )
            axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
        if 0 in wide.index and 0 in wide.columns:
            axis.text(
                0.5,
                0.5,
                "math\nexpert" if not narrow else "math",
                ha="center",
                va="center",
                fontsize=8,
                color="#1A1A1A",
            )
        axis.set_xticks(np.arange(len(wide.columns)) + 0.5, wide.columns)
        axis.set_yticks(np.arange(len(wide)) + 0.5, wide.index)
        axis.set(xlabel=wrapped("last layers given to the language", 26), ylabel="first layers given\nto the language")
        axis.grid(False)
        axis.invert_yaxis()
        label = wrapped(
            f"{READINGS[metric].title} saved ({unit_of(metric, True)}, blue is better)", 24 if narrow else 30
        )
        figure.colorbar(shown, ax=axis, label=label, location="bottom" if narrow else "right")
        return figure

    best, worst = values.loc[values["better"].idxmax()], values.loc[values["better"].idxmin()]
    alt = (
        f"A map of {len(cells)} swaps against the math expert; highest {best['bottom']}+{best['top']} with "
        f"{digits(best['better'], '+.2f')}, lowest {worst['bottom']}+{worst['top']} with {digits(worst['better'], '+.2f')}."
    )
    caption = (
        f"Each swap minus the math expert, by how many first and last layers the language expert gives; {cells['n'].max()} "
        f"development problems in {LANGUAGE_NAMES[cells['test_language'].iloc[0]]}, {trainings(cells['seeds'].max())}. "
        + (
            "Coloured where the interval over problems excludes zero, which is no verdict."
            if alone
            else "Grey: not significant."
        )
    )
    return picture(draw, number=number, caption=caption, alt=alt, verdicts=verdicts_of(cells))


def outside_zero(cells: pd.DataFrame) -> pd.Series:
    """Return for each cell +1 or -1 where its own interval, uncorrected, lies on one side of zero, 0 where it holds zero."""
    ends = [improvement(row) for row in cells.itertuples()]
    return pd.Series([1 if low > 0 else -1 if high < 0 else 0 for _, low, high in ends], index=cells.index)


def lesson(one: pd.DataFrame, several: pd.DataFrame, study: Study) -> str:
    """Return in words what one training seems to show, what is left with several, and why."""
    if several.empty:
        return NOT_YET
    alone, left = outside_zero(one), several["verdict"]
    told = (
        f"Look at one training alone, and {int((alone < 0).sum())} of {len(one)} swaps are worse than the math expert by an "
        f"interval that excludes zero, {int((alone > 0).sum())} better."
    )
    if unjudged(several):
        return f"{told} There is no second training here to hold against it."
    counts, alone = _alone(study), int((outside_zero(several) != 0).sum())
    wider = float((several["high"] - several["low"]).median() / (one["high"] - one["low"]).median())
    return (
        f"{told} Draw another training and look in the same way: the {trainings(len(counts))} that were made give "
        f"{listed([str(n) for n in counts])} cells that differ. Over all of them, the whole map being one family, "
        f"{int((left == WORSE).sum())} are worse and {int((left == BETTER).sum())} better. No count is a slip: they answer two "
        "questions. One training's interval covers other *problems*. It says that these two models differ, and two models nearly "
        "always do; it knows nothing of another *training*, in which data, order and start are drawn again. The interval over "
        f"several trainings has to cover that as well: it is {wider:.1f} times as wide as here (median), and {alone} of them "
        "exclude zero before Holm's correction pays for looking at many cells. Whoever reports one training reports one draw."
    )


def _alone(study: Study) -> list[int]:
    """Return of each training of the sweep how many of its swaps it calls different from the math expert."""
    trained = sorted(set(select(study.repeated(experiments.SWEEP), method=SWAP)["seed"]))
    return [int((outside_zero(one_training(study, seed)) != 0).sum()) for seed in trained]


def sweep_reading(cells: pd.DataFrame) -> str:
    """Return the two extremes of a sweep in words."""
    if cells.empty:
        return NOT_YET
    better = [improvement(row)[0] for row in cells.itertuples()]
    ends = [cells.iloc[int(pick(better))] for pick in (np.argmax, np.argmin)]
    best, worst = (f"{row['bottom']}+{row['top']} ({improved(row)})" for row in ends)
    return (
        f"The best cell of the map is {best}, the worst {worst}. The extremes of many cells are partly luck: they "
        "describe the map, and nothing in this book is chosen by it."
    )


def summary_of(tables: pd.DataFrame, cells: pd.DataFrame, cost: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets, from the judged controls, the sweep and what English says."""
    if unjudged(tables):
        return "- One training of each expert: no verdict. The committed results have three."
    rivals, layers = (tables[tables["family"] == family.id] for family in (claims.RIVALS, claims.LAYERS))
    lines = [f"Of these two experts {lowered(standing(rivals, numbers=False))}"]
    if len(layers):
        lines.append(f"Among other layers {lowered(standing(layers, numbers=False))}")
    lines.append(f"In English {lowered(standing(cost, numbers=False))}")
    if len(cells):
        count = {word: int((cells["verdict"] == word).sum()) for word in (BETTER, WORSE, NOT_SHOWN)}
        lines.append(
            f"How many: of {len(cells)} pairs of counts {count[BETTER]} are better than the math expert on development "
            f"problems, {count[WORSE]} worse, {count[NOT_SHOWN]} not significant: {_BY_SWEEP}."
        )
    if not (len(layers) and len(cells)):
        lines.append(f"Other layers, and how many: {lowered(NOT_YET)}")
    return bullets([*lines, home.by_the_plan("F3")])


def summary(study: Study) -> str:
    """Return :func:`summary_of` the results at hand."""
    cost = judged(claims.COST, study.repeated(experiments.FIRST_SWAP))
    return summary_of(controls(study), sweep(study), cost)


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    study = home.committed_study()
    found = controls(study)
    rivals, layers = (found[found["family"] == family.id] for family in (claims.RIVALS, claims.LAYERS))
    several = sweep(study)
    sentences = [f"Among uses of the same two experts {lowered(standing(rivals, numbers=False))}"]
    if len(layers):
        sentences.append(f"Among other layers {lowered(standing(layers, numbers=False))}")
    if len(several):
        sentences.append(
            f"How many layers: each alone, {trainings(several['seeds'].max())} call {listed([str(n) for n in _alone(study)])} of "
            f"{len(several)} swaps different from the math expert; together they call {int((outside_zero(several) != 0).sum())} "
            f"so, and corrected for all of them {int((several['verdict'].isin([BETTER, WORSE])).sum())}: {_BY_SWEEP}."
        )
    if not (len(layers) and len(several)):
        sentences.append(
            "The word problems are new since this chapter's controls were computed: other layers, and other numbers of layers, "
            "are still to be computed on them."
        )
    verdicts = verdicts_of(found) | (verdicts_of(several) if len(several) else {})
    return box("".join(f"<p>{sentence}</p>" for sentence in sentences), verdicts)


def cell_told(cells: pd.DataFrame, bottom: int, top: int) -> Shown:
    """Return what the sweep says of one pair of counts, for a slider."""
    found = cells[(cells["bottom"] == bottom) & (cells["top"] == top)]
    if found.empty:
        return box("<p>That swaps nothing, or was not computed: with 0+0 the model is the math expert.</p>")
    row = next(found.itertuples())
    told = (
        f"The first {bottom} and the last {top} layers from the language expert, against the math expert: {improved(row)}, "
        f"{row.verdict}."
    )
    return box(f"<p>{told}</p>", verdicts_of(found))


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


def sites(number: int | None = None) -> Shown:
    """Return the table of architectures and their sites."""
    names = architectures.sites_table()
    shown = names.astype(dict.fromkeys(("attention (M)", "FFN (M)", "outside (M)"), int))
    return table(shown, number=number, caption="Where the parameters of known architectures live, in millions.")


def owned(names: list[str], number: int | None = None) -> Shown:
    """Return the table of what the language owns of each model's layers, in percent."""
    found = architectures.ownership_table(names)
    shown = found.map(lambda share: f"{share:.1f}").reset_index(names="model")
    return table(
        shown, number=number, caption="Share of the parameters inside the layers that the language owns, in percent."
    )


def sweep_baseline(study: Study) -> str:
    """Return, as Markdown, a check of the sweep: the swap of no layer must be the math expert on every problem."""
    if not at_hand(study, experiments.SWEEP):
        return NOT_YET
    read = study.repeated(experiments.SWEEP)
    read = select(read, metric=claims.COUNTS.metrics[0], test_language=study.language)
    arms = (
        select(read, method=method, partition=partition)
        for method, partition in ((SWAP, "outer 0+0"), claims.MATH_EXPERT)
    )
    worst = float(abs(paired_table(*arms)).max())
    return f"Swapping no layer, minus the math expert: at most {worst:g} nats per token on any problem."
