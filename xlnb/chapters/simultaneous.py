"""Simultaneous fine-tuning: who moves what in turns, what it costs, how its losses go, and what it is worth beside its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from xlnb.chapters import figures, home, scorecard
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, SHARED_COLOUR, how_to_read
from xlnb.chapters.layer_swapping import NOT_YET
from xlnb.chapters.pictures import Shown, box, panels, picture, table, to_come
from xlnb.chapters.words import bullets, capital, improved, in_prose, listed, lowered, trainings
from xlnb.chapters.words import number as digits
from xlnb.errors import RequestError
from xlnb.evaluation.readings import NLL, PRIMARY, READINGS, TWIN_CHOICE, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.studies.claims import DATA_MIXING, FROZEN, MATH_EXPERT, SIMULTANEOUS, SWAPPED
from xlnb.studies.comparisons import EVERY_LANGUAGE, Arm, improvement, verdicts_of
from xlnb.studies.experiments import MAIN_COMPARISON, TARGET
from xlnb.studies.outcomes import select
from xlnb.studies.study import Study
from xlnb.training.sft import alternation

_LANES = {"math": ("math-only", "frozen-math"), "language": ("language-only", "frozen-language")}
_COLOURS = {"math": MATH_COLOUR, "language": LANGUAGE_COLOUR}
_TRAINED = (SIMULTANEOUS[0], DATA_MIXING[0], *_LANES["math"], *_LANES["language"])
_RIVALS = (DATA_MIXING, FROZEN, MATH_EXPERT, SWAPPED)
_WINDOW, _LAST = 10, 30  # steps: of a running mean, and those at the end that a sentence is about


# --- turns and budgets -----------------------------------------------------------------------------------


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
    caption = (
        f"The first {len(order)} of {sum(counts)} turns: coloured layers are moved by the turn's batch, all others stay as "
        "they are."
    )
    return picture(draw, number=number, caption=caption, alt=f"A grid of layers by turns. The turns in order: {names}.")


def histories(study: Study) -> pd.DataFrame:
    """Return loss, rate and tokens by step of simultaneous fine-tuning and of what it is held against; no rows where none is
    committed.

    Columns besides those of :meth:`xlnb.Study.history`: language, seed, expert, moves ("all" where one lane moves all), and
    ``turn``, the step of the lane.
    """
    if study.live:
        keys = {"language": study.language, "seed": study.seed}
        found = pd.concat([study.history(slug).assign(**keys, expert=slug) for slug in _TRAINED], ignore_index=True)
    else:
        files = sorted(study.results.glob("methods*/training.parquet"))
        if not files:
            return pd.DataFrame()
        found = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        found = select(found, profile=study.profile.name, expert=list(_TRAINED))
    lanes = ["language", "seed", "expert", "moves"]
    found = found.assign(moves=found["moves"].fillna("all")).drop_duplicates([*lanes, "step"]).sort_values("step")
    return found.assign(turn=found.groupby(lanes).cumcount()).sort_values([*lanes, "turn"], ignore_index=True)


def budgets(found: pd.DataFrame, language: str, batch_size: int) -> pd.DataFrame:
    """Return what was spent in a language, a row a method: trainings, steps, examples, tokens (the mean over seeds), and how many
    steps moved each middle and each outer layer that the method keeps.
    """
    mine = select(found, language=language)
    seeds = mine["seed"].nunique()
    rows = []
    for arm in (SIMULTANEOUS, DATA_MIXING, SWAPPED, FROZEN):
        experts = METHODS[arm[0]].experts
        all_steps = select(mine, expert=list(experts))
        steps = len(all_steps) // seeds
        layers = [
            len(select(mine, expert=slug, moves=["all", lane])) // seeds
            for lane, slug in zip(_LANES, (experts[0], experts[-1]), strict=True)
        ]
        rows.append((*arm, len(experts), steps, steps * batch_size, all_steps["tokens"].sum() / seeds, *layers))
    columns = ["method", "partition", "trainings", "steps", "examples", "tokens", "middle", "outer"]
    return pd.DataFrame(rows, columns=columns)


def budgets_table(study: Study, found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`budgets` for a reader."""
    if _without(found, study.language):
        return to_come(number, NOT_YET)
    spent = budgets(found, study.language, study.profile.training.batch_size)
    rows = [
        (
            in_prose(row.method, row.partition), row.trainings, row.steps, row.examples, f"{row.tokens:,.0f}", row.middle,
            row.outer,
        )
        for row in spent.itertuples()
    ]  # fmt: skip
    columns = ["method", "trainings", "steps", "examples", "tokens", "steps, middle layers", "steps, outer layers"]
    caption = (
        f"What each method spent, from the trainings' records, for {LANGUAGE_NAMES[study.language]}. The last two columns: how "
        "many steps moved each layer that is kept."
    )
    return table(rows, columns, number=number, caption=caption)


def _without(found: pd.DataFrame, language: str) -> bool:
    """Say whether a training of a language is missing."""
    return found.empty or set(select(found, language=language)["expert"]) != set(_TRAINED)


# --- losses ----------------------------------------------------------------------------------------------


def paired(found: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of each lane's steps beside those of its whole and its frozen expert, which had the very same batches.

    Columns: language, seed, moves, turn, loss, whole, frozen. Raises RequestError where batches or rates were not the same.
    """
    keys, same = ["language", "seed", "turn"], ["tokens", "rate"]
    parts = []
    for lane, experts in _LANES.items():
        mine = select(found, expert=SIMULTANEOUS[0], moves=lane).set_index(keys).sort_index()
        for column, slug in zip(("whole", "frozen"), experts, strict=True):
            other = select(found, expert=slug).set_index(keys).reindex(mine.index)
            if not np.allclose(mine[same], other[same]):
                raise RequestError(
                    f"Simultaneous fine-tuning and {slug} did not have the same {lane} batches and rates."
                )
            mine = mine.assign(**{column: other["loss"]})
        parts.append(mine.reset_index())
    return pd.concat(parts, ignore_index=True)[["language", "seed", "moves", "turn", "loss", "whole", "frozen"]]


def smoothed(part: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the running mean of a column by turn: its mean, lowest and highest over the trainings."""
    wide = part.pivot(index="turn", columns="seed", values=column).rolling(_WINDOW, min_periods=1).mean()
    return pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})


def _curve(axis: Any, part: pd.DataFrame, column: str, colour: str, style: str) -> None:
    found = smoothed(part, column)
    axis.fill_between(found.index + 1, found["low"], found["high"], color=colour, alpha=0.15, linewidth=0)
    axis.plot(found.index + 1, found["mean"], color=colour, linestyle=style, linewidth=1.6)


def _legend(figure: Figure, styles: dict[str, Any], narrow: bool) -> None:
    lines = [Line2D([], [], color=SHARED_COLOUR, linestyle=style, label=name) for name, style in styles.items()]
    figure.legend(handles=lines, loc="outside upper center", ncols=1 if narrow else len(lines))


def loss_figure(found: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Draw the losses of both lanes beside those of the experts trained alone, and data mixing's."""
    if _without(found, language):
        return to_come(number, NOT_YET)
    mine = select(paired(found), language=language)
    mixed = select(found, language=language, expert=DATA_MIXING[0])
    styles = {"simultaneous": "-", "expert trained whole": "--", "frozen expert": ":"}
    columns = dict(zip(("loss", "whole", "frozen"), styles.values(), strict=True))

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(3, 2.5, narrow)
        for axis, (lane, colour) in zip(axes, _COLOURS.items(), strict=False):
            for column, style in columns.items():
                _curve(axis, select(mine, moves=lane), column, colour, style)
            axis.set(title=f"{capital(lane)} batches", xlabel="step of the lane")
        _curve(axes[2], mixed, "loss", SHARED_COLOUR, "-.")
        axes[2].set(title="Data mixing: both", xlabel="step")
        for axis in axes if narrow else axes[:1]:
            axis.set_ylabel("training loss\n(nats per token)")
        for axis in axes:
            axis.set_ylim(bottom=0)
        _legend(figure, styles | {"data mixing": "-."}, narrow)
        return figure

    seeds = mine["seed"].nunique()
    caption = (
        f"Training losses, {LANGUAGE_NAMES[language]}: running means of {_WINDOW} steps, their mean and range over "
        f"{trainings(seeds)}. Each panel has its own scale; a batch of data mixing holds both kinds, so its level is not that of "
        "either lane."
    )
    ends = [
        f"{lane} batches from {ends.iloc[0]:.2f} to {ends.iloc[-1]:.2f}"
        for lane in _LANES
        for ends in [smoothed(select(mine, moves=lane), "loss")["mean"]]
    ]
    return picture(draw, number=number, caption=caption, alt=f"Falling curves: {listed(ends)} nats per token.")


def gap_figure(found: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Draw how much lower each lane's loss is than its experts' on the very same batches: up is better."""
    if _without(found, language):
        return to_come(number, NOT_YET)
    mine = select(paired(found), language=language)
    mine = mine.assign(**{column: mine[column] - mine["loss"] for column in ("whole", "frozen")})
    styles = {"against the expert trained whole": "--", "against the frozen expert": ":"}

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(2, 2.3, narrow, sharey=True)
        for axis, (lane, colour) in zip(axes, _COLOURS.items(), strict=True):
            for column, style in zip(("whole", "frozen"), styles.values(), strict=True):
                _curve(axis, select(mine, moves=lane), column, colour, style)
            axis.axhline(0, color="#010203", linewidth=1)
            axis.set(title=f"{capital(lane)} batches", xlabel="step of the lane")
        for axis in axes if narrow else axes[:1]:
            axis.set_ylabel("loss saved\n(nats per token)")
        _legend(figure, styles, narrow)
        return figure

    caption = (
        f"Loss that simultaneous fine-tuning saves on the very same batches, {LANGUAGE_NAMES[language]}; up is better. Running "
        f"means of {_WINDOW} steps, mean and range over {trainings(mine['seed'].nunique())}."
    )
    return picture(draw, number=number, caption=caption, alt=gaps_told(found))


def gaps(found: pd.DataFrame) -> pd.DataFrame:
    """Return how far each lane's loss is above its experts' at the end: mean, lowest and highest over trainings by languages.

    Columns: moves, against (whole or frozen), mean, low, high, cells; over the last ``_LAST`` steps of each lane.
    """
    both = paired(found)
    last = both[both["turn"] > both["turn"].max() - _LAST]
    rows = []
    for lane in _LANES:
        for column in ("frozen", "whole"):
            above = (last["loss"] - last[column])[last["moves"] == lane]
            cells = above.groupby([last["language"], last["seed"]]).mean()
            rows.append((lane, column, cells.mean(), cells.min(), cells.max(), len(cells)))
    return pd.DataFrame(rows, columns=["moves", "against", "mean", "low", "high", "cells"])


def gaps_told(found: pd.DataFrame) -> str:
    """Return :func:`gaps` in words."""
    if found.empty or any(_without(found, code) for code in found["language"].unique()):
        return NOT_YET
    ends = gaps(found).set_index(["moves", "against"])
    steps = select(found, expert=SIMULTANEOUS[0])["turn"].nunique()
    languages = found["language"].nunique()
    in_all = f" in {languages} languages" if languages > 1 else ""

    def told(lane: str, column: str) -> str:
        mean, low, high = (digits(ends.loc[(lane, column), name], "+.3f") for name in ("mean", "low", "high"))
        return f"{mean} (from {low} to {high})"

    return (
        f"Over the last {min(_LAST, steps)} steps of a lane, its loss minus the frozen expert's is "
        f"{told('math', 'frozen')} nats per token on math batches and {told('language', 'frozen')} on language batches; minus "
        f"that of the expert trained whole, {told('math', 'whole')} and {told('language', 'whole')}: means, and the range, over "
        f"{trainings(int(ends['cells'].max()))}{in_all}."
    )


# --- what it is worth ------------------------------------------------------------------------------------


def outcomes(study: Study) -> pd.DataFrame:
    """Return the outcomes of the main methods: all that is committed, or, live, those of this study."""
    if study.live:
        return study.outcomes(replace(MAIN_COMPARISON, languages=("en", TARGET)))
    found = select(scorecard.outcomes(study), method=list(MAIN_COMPARISON.methods), metric=[PRIMARY, *TWINS, NLL])
    return select(found, partition=["", "C"])


def planned(found: pd.DataFrame) -> pd.DataFrame:
    """Return the plan's contrast of the swap and simultaneous fine-tuning, judged among all six; no row where one is missing."""
    plan = scorecard.planned(found) if len(found) else found
    return plan[plan["method_b"] == SIMULTANEOUS[0]] if len(plan) else pd.DataFrame()


def verdict(found: pd.DataFrame) -> str:
    """Return the plan's contrast in words."""
    return scorecard.reading(planned(found))


def plan_figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw the plan's contrast."""
    contrast = planned(found)
    if contrast.empty:
        return to_come(number, NOT_YET)
    caption = (
        f"The plan's contrast, averaged over the languages; right of zero the swap is better. {how_to_read(contrast)}"
    )
    return figures.forest([("The swap, all languages", contrast)], number=number, caption=caption)


def against(
    found: pd.DataFrame, code: str = EVERY_LANGUAGE, metric: str = PRIMARY, rivals: Sequence[Arm] = _RIVALS
) -> pd.DataFrame:
    """Return rivals minus simultaneous fine-tuning, as the scorecard's ``against``; no rows where it is missing."""
    methods, partitions = zip(SIMULTANEOUS, *rivals, strict=True)
    mine = select(found, metric=metric, method=methods, partition=partitions)
    there = SIMULTANEOUS[0] in set(mine["method"])
    return scorecard.against(mine, SIMULTANEOUS, code, metric) if there else pd.DataFrame()


def codes_of(found: pd.DataFrame) -> list[str]:
    """Return the target languages whose problems were asked."""
    return [code for code in found["language"].unique() if (found["test_language"] == code).any()]


def figure(found: pd.DataFrame, codes: Sequence[str] = (EVERY_LANGUAGE, "en"), number: int | None = None) -> Shown:
    """Draw the rivals against simultaneous fine-tuning, a panel a code: a language, English, or the mean over all languages."""
    parts = [(LANGUAGE_NAMES.get(code, capital(code)), against(found, code)) for code in codes]
    if not parts or any(part.empty for _, part in parts):
        return to_come(number, NOT_YET)
    seeds = max(int(part["seeds"].max()) for _, part in parts)
    english = " English is the mean over the languages' models." if "en" in codes else ""
    caption = (
        f"Four rivals against simultaneous fine-tuning, right of zero the rival is better: means over {parts[0][1]['n'].max()} "
        f"pairs of twins and {trainings(seeds)}, with 95 % intervals.{english} Grey: exploratory, without verdict."
    )
    return figures.forest(parts, number=number, caption=caption, against=in_prose(*SIMULTANEOUS))


def other_metrics(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return the rivals against simultaneous fine-tuning by twins and by plain likelihood, in the languages and in English."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for code, where in ((EVERY_LANGUAGE, "in the languages"), ("en", "in English")):
        for metric in (*TWINS, NLL):
            unit = "points" if READINGS[metric].unit == "%" else "nats"
            saved = "" if READINGS[metric].higher_is_better else " saved"
            for row in against(found, code, metric).itertuples():
                name = in_prose(row.method_a, row.partition_a)
                line = rows.setdefault((where, name), {"method": name, "problems": where})
                line[f"{READINGS[metric].title}{saved} ({unit})"] = improved(row, with_unit=False)
    if not rows:
        return to_come(number, NOT_YET)
    caption = (
        "The same rivals against simultaneous fine-tuning by other metrics, over all languages and in English; above zero the "
        "rival is better. 95 % intervals, exploratory."
    )
    return table(list(rows.values()), number=number, caption=caption)


def reading(
    found: pd.DataFrame,
    codes: Sequence[str] = (EVERY_LANGUAGE, "en"),
    numbers: bool = True,
    metric: str = PRIMARY,
) -> str:
    """Return in words which rivals are clearly above or below simultaneous fine-tuning: where intervals leave out zero."""
    told = []
    for code in codes:
        part = against(found, code, metric)
        if part.empty:
            return NOT_YET
        ways: dict[str, list[str]] = {"clearly above it": [], "clearly below it": [], "not clearly apart from it": []}
        for row in part.itertuples():
            _, low, high = improvement(row)
            way = list(ways)[0 if low > 0 else 1 if high < 0 else 2]
            ways[way].append(in_prose(row.method_a, row.partition_a) + (f" ({improved(row)})" if numbers else ""))
        where = "Over all languages" if code == EVERY_LANGUAGE else f"In {LANGUAGE_NAMES[code]}"
        told.append(f"{where}, {'; '.join(f'{way}: {listed(names)}' for way, names in ways.items() if names)}.")
    return " ".join(told) or NOT_YET


def by_other_metrics(found: pd.DataFrame) -> str:
    """Return in words where the rivals stand by twins told apart and by plain likelihood."""
    told = [(READINGS[metric].title, reading(found, (EVERY_LANGUAGE,), False, metric)) for metric in (TWIN_CHOICE, NLL)]
    return " ".join(f"{capital(title)}: {lowered(one)}" for title, one in told)


def together(found: pd.DataFrame) -> str:
    """Return in words what it is worth that the lanes see each other: frozen experts differ in nothing else."""
    asked = (
        ("on problems of the target languages", EVERY_LANGUAGE, PRIMARY),
        ("in English", "en", PRIMARY),
        ("by the plain likelihood of the languages' solutions", EVERY_LANGUAGE, NLL),
    )
    told = []
    for where, code, metric in asked:
        part = against(found, code, metric, (FROZEN,))
        if part.empty:
            return NOT_YET
        (row,) = part.itertuples()
        _, low, high = improvement(row)
        did = "costs something" if low > 0 else "gains something" if high < 0 else "makes no clear difference"
        told.append(f"{did} {where} ({improved(row)})")
    return (
        f"Held against frozen experts, training both shares in one model {listed(told)}; above zero, apart is better."
    )


# --- frozen means no step --------------------------------------------------------------------------------

ZERO, NONE, APART = "one optimizer, gradient zero", "one optimizer, no gradient", "an optimizer for each lane"


def drift(way: str, turns: int = 1, weight_decay: float = 0.0, own: int = 3) -> float:
    """Return how far a parameter goes in the other lane's turns, in learning rates, after ``own`` steps of its own.

    Both parameters start at 1 and have the gradient 1 in their own turns; ``way`` is how the resting one is frozen.
    """
    import torch

    rate = 0.01
    moving, resting = (torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    lanes = [[moving], [resting]] if way == APART else [[moving, resting]]
    optimizers = [torch.optim.AdamW(lane, lr=rate, weight_decay=weight_decay) for lane in lanes]
    one, zero = torch.ones_like(moving), torch.zeros_like(moving)
    for _ in range(own):
        moving.grad, resting.grad = None, one.clone()
        optimizers[-1].step()
    before = resting.item()
    for _ in range(turns):
        moving.grad, resting.grad = one.clone(), zero.clone() if way == ZERO else None
        optimizers[0].step()
    return abs(resting.item() - before) / rate


def drift_table(number: int | None = None, weight_decay: float = 0.1) -> Shown:
    """Return how far a frozen parameter goes in one turn of the other lane, by how it is frozen."""
    rows = [
        (way, *(digits(drift(way, weight_decay=decay), ".2f") for decay in (0.0, weight_decay)))
        for way in (ZERO, NONE, APART)
    ]
    caption = (
        "How far a parameter that should be frozen goes in one turn of the other lane, in steps of full size (learning rates), "
        "computed just now with two parameters and PyTorch's AdamW."
    )
    columns = ["frozen how", "moved", f"moved, with weight decay {weight_decay:g}"]
    return table(rows, columns, number=number, caption=caption)


def frozen_check(study: Study) -> str:
    """Return, as Markdown, how far the study's frozen experts moved what they should leave alone, where they are at hand."""
    if not study.live:
        return "*From committed results: no expert is at hand, so this check of the real code waits for a live run.*"
    partition, told = study.partition(), []
    for side, slug in (("math", "frozen-math"), ("language", "frozen-language")):
        vector = study.task_vector(slug)
        moved = {True: 0.0, False: 0.0}
        for name, site in vector.sites.items():
            mine = partition.share(site, side) > 0
            moved[mine] = max(moved[mine], float(vector[name].abs().max()))
        told.append(
            f"the frozen {side} expert moved its own layers by up to {moved[True]:.2g}, the others by {moved[False]:g}"
        )
    return f"Of the experts of this run {listed(told)} (largest change of any weight)."


# --- the whole chapter -----------------------------------------------------------------------------------


def _sentences(found: pd.DataFrame) -> list[str]:
    return [verdict(found), together(found)]


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    found = outcomes(home.committed_study())
    contrast = planned(found)
    sentences = [*_sentences(found), *(["Only the first sentence is a verdict."] if len(contrast) else [])]
    told = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return box(told, verdicts_of(contrast) if len(contrast) else {})


def summary(study: Study, found: pd.DataFrame, losses: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets."""
    lines = _sentences(found)
    if not _without(losses, study.language):
        spent = budgets(losses, study.language, study.profile.training.batch_size).set_index("method")
        alike = spent[["steps", "examples", "tokens"]].nunique().eq(1)
        same, other = (listed([name for name in alike.index if alike[name] == word]) for word in (True, False))
        saw = (
            f"the same number of {same}{f', but not of {other}' if other else ''}"
            if same
            else f"different numbers of {other}"
        )
        all_steps, own = (spent.loc[slug, "middle"] for slug in (DATA_MIXING[0], SIMULTANEOUS[0]))
        lines.insert(
            0,
            f"{capital(in_prose(*SIMULTANEOUS))}, data mixing, the swap and frozen experts saw {saw}. Data mixing moved each "
            f"layer in {all_steps} steps, simultaneous fine-tuning in {own}.",
        )
    if not against(found).empty:
        lines.append(f"Held against simultaneous fine-tuning, {lowered(reading(found, (EVERY_LANGUAGE,)))}")
    return bullets(lines)
