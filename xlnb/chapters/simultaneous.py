"""Simultaneous fine-tuning: who moves what in turns, what it costs, how its losses go, and what it is worth beside its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from xlnb.chapters import experts, home, scorecard
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, SHARED_COLOUR
from xlnb.chapters.layer_swapping import NOT_YET
from xlnb.chapters.pictures import Shown, box, panels, paragraphs, picture, table, to_come
from xlnb.chapters.words import bullets, capital, improved, in_prose, listed, lowered, trainings
from xlnb.chapters.words import number as digits
from xlnb.errors import RequestError
from xlnb.evaluation.readings import NLL, PRIMARY
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.studies.claims import DATA_MIXING, FROZEN, MATH_EXPERT, SIMULTANEOUS, SWAPPED
from xlnb.studies.comparisons import ABOVE, BELOW, EVERY_LANGUAGE, Arm, of_arms, of_pairs, side, verdicts_of
from xlnb.studies.experiments import MAIN_COMPARISON, TARGET
from xlnb.studies.outcomes import select
from xlnb.studies.study import Study
from xlnb.training.sft import alternation

# A lane's batches were those of two experts, too: one that moved the same layers alone, and one that moved all.
_LANES = {"math": ("frozen-math", "math-only"), "language": ("frozen-language", "language-only")}
_ALONE: dict[str, Any] = {"against the frozen expert": ":", "against the expert trained whole": "--"}
_COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR}
TRAINED = (SIMULTANEOUS[0], DATA_MIXING[0], *_LANES["math"], *_LANES["language"])
_WAYS = {ABOVE: "clearly above it", BELOW: "clearly below it", "": "not clearly apart from it"}
_DID = {
    ABOVE: "costs something",
    BELOW: "gains something",
    "": "makes no clear difference",
}  # by where frozen experts are
_LAST = 30  # steps of a lane that the sentence on losses is about


def turns_figure(study: Study, steps: Sequence[int] = (), turns: int = 12, number: int | None = None) -> Shown:
    """Draw which layers the first turns move; ``steps`` are those of the math and of the language lane."""
    counts = list(steps) or [study.training(SIMULTANEOUS[0]).steps] * 2
    order = [lane for lane, _ in alternation(counts)][:turns]
    math = np.array(study.partition().attention)
    moved = np.array([math if lane == 0 else 1 - math for lane in order]).T > 0
    lanes = np.ma.masked_where(~moved, np.broadcast_to(order, moved.shape))

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 1.2 + 0.11 * len(math), narrow)
        axis.pcolormesh(lanes, cmap=ListedColormap([*_COLOURS.values()]), vmin=0, vmax=1, edgecolors="white")
        axis.set_xticks(np.arange(len(order)) + 0.5, [str(turn + 1) for turn in range(len(order))])
        axis.set_yticks(np.arange(0, len(math), 4) + 0.5, [str(layer) for layer in range(0, len(math), 4)])
        axis.set(xlabel="turn", ylabel="transformer layer")
        axis.grid(False)
        patches = [Patch(color=colour, label=f"moved by a {lane} batch") for lane, colour in _COLOURS.items()]
        figure.legend(handles=patches, loc="outside upper center", ncols=1 if narrow else 2)
        return figure

    names = ", ".join(list(_LANES)[lane] for lane in order)
    caption = f"The first {len(order)} of {sum(counts)} turns: a turn's batch moves the coloured layers and no others."
    return picture(draw, number=number, caption=caption, alt=f"A grid of layers by turns. The turns in order: {names}.")


def _lacking(found: pd.DataFrame, language: str) -> bool:
    return set(select(found, language=[language, "en"])["expert"]) != set(TRAINED)


def budgets_table(study: Study, found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what each method spent in the study's language, counted from its trainings' histories."""
    if _lacking(found, study.language):
        return to_come(number, NOT_YET, "table")
    mine = select(found, language=[study.language, "en"])
    seeds, rows = mine["seed"].nunique(), []
    for arm in (SIMULTANEOUS, DATA_MIXING, SWAPPED, FROZEN):
        slugs = METHODS[arm[0]].experts
        tokens = select(mine, expert=slugs)["tokens"].sum() / seeds
        lanes = select(mine, expert=slugs).groupby(["expert", "moves"], dropna=False).size() // seeds
        examples = lanes.sum() * study.profile.training.batch_size
        each = " or ".join(str(count) for count in sorted(set(lanes)))
        rows.append((in_prose(*arm), len(slugs), lanes.sum(), examples, f"{tokens:,.0f}", each))
    columns = ["method", "trainings", "steps", "examples", "tokens", "steps of each layer"]
    caption = (
        f"What each method spent, {LANGUAGE_NAMES[study.language]}. The last column is of the layers that are kept."
    )
    return table(rows, columns, number=number, caption=caption)


def saved(found: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of each expert minus that of its lane, on the very same batch: what simultaneous fine-tuning saves.

    Columns: language, seed, step (of the lane), expert, loss. Raises RequestError where batches or rates were not the same.
    """
    whole = found.sort_values("step")
    whole["step"] = whole.groupby(["expert", "language", "seed", "moves"], dropna=False).cumcount()
    parts = []
    for lane, slugs in _LANES.items():
        keys = ["seed", "step"] if lane == "math" else ["language", "seed", "step"]
        mine = select(whole, expert=SIMULTANEOUS[0], moves=lane)
        for slug in slugs:
            alone = select(whole, expert=slug)[[*keys, "loss", "tokens", "rate"]]
            both = mine.merge(alone, on=keys, suffixes=("", "_alone"))
            if not np.allclose(both[["tokens", "rate"]], both[["tokens_alone", "rate_alone"]]):
                raise RequestError(f"Another training than {slug}: its {lane} batches and rates were not the same.")
            parts.append(both.assign(expert=slug, loss=both["loss_alone"] - both["loss"]))
    return pd.concat(parts, ignore_index=True)[["language", "seed", "step", "expert", "loss"]]


def gap_figure(found: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Draw :func:`saved` in a language, a panel a lane: up is better."""
    if _lacking(found, language):
        return to_come(number, NOT_YET)
    mine = saved(select(found, language=[language, "en"]))

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(2, 2.3, narrow, sharey=True)
        for axis, (lane, slugs) in zip(axes, _LANES.items(), strict=True):
            for slug, style in zip(slugs, _ALONE.values(), strict=True):
                line = experts.curves(mine, slug)[language]
                axis.fill_between(
                    line.index + 1, line["low"], line["high"], color=_COLOURS[lane], alpha=0.15, linewidth=0
                )
                axis.plot(line.index + 1, line["mean"], color=_COLOURS[lane], linestyle=style, linewidth=1.6)
            axis.axhline(0, color="#010203", linewidth=1)
            axis.set(title=f"{capital(lane)} batches", xlabel="step of the lane")
        figure.supylabel("loss saved (nats per token)", fontsize="medium")
        lines = [Line2D([], [], color=SHARED_COLOUR, linestyle=style, label=name) for name, style in _ALONE.items()]
        figure.legend(handles=lines, loc="outside upper center", ncols=1 if narrow else 2)
        return figure

    caption = (
        f"Loss that simultaneous fine-tuning saves on the very same batches, {LANGUAGE_NAMES[language]}; up is better. Running "
        f"means of ten steps, mean and range over {trainings(mine['seed'].nunique())}."
    )
    return picture(draw, number=number, caption=caption, alt=gaps(select(found, language=[language, "en"])))


def gaps(found: pd.DataFrame) -> str:
    """Return in words what is saved at the end of a lane: means, and the range, over trainings by languages."""
    languages = [code for code in found["language"].unique() if code != "en"]
    if not languages or any(_lacking(found, code) for code in languages):
        return NOT_YET
    every, told = saved(found), []
    last = every[every["step"] > every["step"].max() - _LAST]
    cells = last.groupby(["expert", "language", "seed"])["loss"].mean()
    for lane, slugs in _LANES.items():
        for slug, name in zip(slugs, _ALONE, strict=True):
            mean, low, high = (digits(end, "+.3f") for end in cells[slug].agg(["mean", "min", "max"]))
            told.append(f"{mean} (from {low} to {high}) {name} on {lane} batches")
    where = f" in {len(languages)} languages" if len(languages) > 1 else ""
    return (
        f"Loss saved over the last {last['step'].nunique()} steps of a lane, in nats per token; below zero is lost: "
        f"{listed(told)}. These are means, and the range, over {trainings(len(cells[slug]))}{where}."
    )


def outcomes(study: Study) -> pd.DataFrame:
    """Return outcomes with those of the main methods: all that is committed, or, live, those of this study."""
    if study.live:
        return study.outcomes(replace(MAIN_COMPARISON, languages=("en", TARGET)))
    return scorecard.outcomes(study)


def of_simultaneous(planned: pd.DataFrame) -> pd.DataFrame:
    """Return that of the plan's contrasts which is about simultaneous fine-tuning, corrected with the other five."""
    return of_pairs(planned, [(SWAPPED, SIMULTANEOUS)])


def rivals(found: pd.DataFrame, *more: Arm) -> pd.DataFrame:
    """Return the outcomes of simultaneous fine-tuning and of its rivals, and of ``more``."""
    return of_arms(found, SIMULTANEOUS, DATA_MIXING, FROZEN, MATH_EXPERT, SWAPPED, *more)


def figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw the rivals against simultaneous fine-tuning, language by language and in English. Exploratory."""
    mine = rivals(found)
    if mine.empty:
        return to_come(number, NOT_YET)
    codes = [*mine["language"].unique(), "en"]
    parts = [(LANGUAGE_NAMES[code], scorecard.against(mine, SIMULTANEOUS, code)) for code in codes]
    what = (
        f"Four rivals against {in_prose(*SIMULTANEOUS)}, right of zero the rival is better, English the languages' mean"
    )
    return scorecard.exploratory(parts, what, number)


def reading(found: pd.DataFrame, metric: str = PRIMARY) -> str:
    """Return in words which rivals are above or below simultaneous fine-tuning with an interval that leaves out zero."""
    mine, told = rivals(found), []
    if mine.empty:
        return NOT_YET
    for code, where in ((EVERY_LANGUAGE, "Over all languages"), ("en", "In English")):
        ways: dict[str, list[str]] = {way: [] for way in _WAYS.values()}
        for row in scorecard.against(mine, SIMULTANEOUS, code, metric).itertuples():
            ways[_WAYS[side(row)]].append(f"{in_prose(row.method_a, row.partition_a)} ({improved(row)})")
        told.append(f"{where}, {'; '.join(f'{way}: {listed(names)}' for way, names in ways.items() if names)}.")
    return " ".join(told)


def together(found: pd.DataFrame) -> str:
    """Return in words what it is worth that the lanes see each other: frozen experts differ in nothing else."""
    mine, told = of_arms(found, SIMULTANEOUS, FROZEN), []
    if mine.empty:
        return NOT_YET
    for where, code, metric in (
        ("on problems of the target languages", EVERY_LANGUAGE, PRIMARY),
        ("in English", "en", PRIMARY),
        ("by the plain likelihood of the languages' solutions", EVERY_LANGUAGE, NLL),
    ):
        (row,) = scorecard.against(mine, SIMULTANEOUS, code, metric).itertuples()
        told.append(f"{_DID[side(row)]} {where} ({improved(row)})")
    return f"Held against frozen experts, training in one model {listed(told)}; above zero, apart is better."


def _lines(found: pd.DataFrame, planned: pd.DataFrame) -> list[str]:
    return [scorecard.reading(of_simultaneous(planned)), together(found)]


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    planned = home.planned()
    if planned.empty:
        return box(f"<p>{NOT_YET}</p>")
    sentences = [*_lines(outcomes(home.committed_study()), planned), "Only the first sentence is a verdict."]
    told = paragraphs(sentences)
    return box(told, verdicts_of(of_simultaneous(planned)))


def summary(found: pd.DataFrame, planned: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets."""
    rest = f"Held against simultaneous fine-tuning, {lowered(reading(found))}"
    return bullets([*_lines(found, planned), rest])
