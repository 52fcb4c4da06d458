"""What the first chapter draws and says: who learned what, identities of the swap, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters import figures, home, word_problems
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, how_to_read
from xlnb.chapters.pictures import Foreign, Shown, panels, picture, table
from xlnb.chapters.words import amount, bullets, capital, improved, in_prose, listed, lowered, standing, unjudged
from xlnb.corpora import templates
from xlnb.evaluation.readings import METRICS, PRIMARY, READINGS, TRIMMED, TWIN_CHOICE
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.stats import crossed_interval, outcome_table
from xlnb.studies import claims, comparisons, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, WORSE, arms_of, judged
from xlnb.studies.outcomes import select
from xlnb.weights.merging import layer_swapping
from xlnb.weights.partitions import uniform
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    from xlnb.studies.study import Study


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    return home.finding_box()


def one_problem(language: str) -> Shown:
    """Return a problem and its solution in English and in another language, as a table."""
    caption = "A scored problem, twice. Its situation is in no training set."
    return word_problems.one_problem(language, number=1, caption=caption)


def knowledge(study: Study, number: int | None = 1) -> Shown:
    """Draw what each expert learned before anything is merged: to calculate in English, to know the language."""
    gains = judged(claims.GAINS, study.repeated(experiments.FIRST_SWAP))
    experts = gains["method_a"].isin(["math-only", "language-only"]) & (gains["test_language"] == "en")
    knows = judged(claims.KNOWLEDGE, study.repeated(experiments.KNOWLEDGE))
    name = LANGUAGE_NAMES[study.language]
    knows = knows.sort_values("method_a", ascending=False)
    caption = (
        f"What the experts learned, against the base. Left: what an English problem adds to its right calculations. Right: the "
        f"likelihood of {name} prose that no expert was trained on, by the same authors as what the language expert read. "
        + how_to_read(gains, f"problems (right: {knows['n'].max()} texts)")
    )
    return figures.forest(
        [("Calculating in English", gains[experts]), (f"Knowing {name}", knows)],
        number=number,
        caption=caption,
        against="the base",
    )


def knowledge_sentence(study: Study) -> str:
    """Return in words whether the language expert knows its language better than the base, and what the math expert lost."""
    return knowledge_in_words(judged(claims.KNOWLEDGE, study.repeated(experiments.KNOWLEDGE)))


def knowledge_in_words(knows: pd.DataFrame) -> str:
    """Return the same from the judged contrasts."""
    name = LANGUAGE_NAMES[str(knows["test_language"].iloc[0])]
    said = {
        BETTER: "makes {name} text likelier than the base does ({value})",
        WORSE: "makes {name} text less likely than the base does ({value})",
        NOT_SHOWN: "does not differ significantly from the base on {name} text ({value})",
    }
    told = [
        f"{in_prose(row.method_a)} {said[row.verdict].format(name=name, value=improved(row))}"
        for row in knows.itertuples()
        if row.verdict in said
    ]
    return f"{capital(listed(told))}." if told else "One training: who knows the language better has no verdict."


def loss_figure(histories: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw the training loss of each expert by step; the thick line is a running mean of five steps."""

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(histories), 2.3, narrow)
        for axis, (slug, history) in zip(axes, histories.items(), strict=True):
            colour = MATH_COLOUR if METHODS[slug].expert == "math" else LANGUAGE_COLOUR
            axis.plot(history["step"] + 1, history["loss"], color=colour, alpha=0.4, linewidth=1)
            axis.plot(history["step"] + 1, history["loss"].rolling(5, min_periods=1).mean(), color=colour, linewidth=2)
            axis.set(title=capital(in_prose(slug)), xlabel="optimizer step", ylabel="training loss\n(nats per token)")
            axis.set_ylim(bottom=0)
        return figure

    seen = [
        f"{in_prose(slug)} from {h['loss'].iloc[0]:.1f} to {h['loss'].iloc[-1]:.1f}" for slug, h in histories.items()
    ]
    caption = "Training loss by step, one training; the thick line is a mean of five steps."
    return picture(draw, number=number, caption=caption, alt=f"Falling curves: {listed(seen)} nats per token.")


def training_sentence(histories: Mapping[str, pd.DataFrame]) -> str:
    """Return what each expert's training did, in a sentence an expert: steps, tokens, loss at both ends."""
    sentences = []
    for slug, history in histories.items():
        ends = history["loss"].head(5).mean(), history["loss"].tail(5).mean()
        sentences.append(
            f"{capital(in_prose(slug))} took {len(history)} steps over {history['tokens'].sum():,} tokens; its training loss "
            f"went from {ends[0]:.2f} to {ends[1]:.2f} nats per token (means of the first and the last five steps)."
        )
    return " ".join(sentences)


def two_vectors(study: Study) -> tuple[TaskVector, TaskVector]:
    """Return the task vectors of the math and the language expert; where nothing is computed, random ones of as many layers."""
    if study.live:
        return study.task_vector("math-only"), study.task_vector("language-only")
    import torch

    names = [
        f"model.layers.{layer}.{block}.weight"
        for layer in range(study.depth)
        for block in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    ]
    made = torch.Generator().manual_seed(0)
    math, language = (TaskVector.of({name: torch.randn(8, 8, generator=made) for name in names}) for _ in range(2))
    return math, language


def identities(study: Study, swapped: TaskVector, exchanged: TaskVector) -> str:
    """Return, as Markdown, how far two identities of Layer-Swapping are from holding on the chapter's task vectors."""
    math, language = two_vectors(study)
    whole = layer_swapping(math, language, uniform(1, study.depth))
    first = max(float((whole[name] - math[name]).abs().max()) for name in math)
    both, halves = math + language, swapped + exchanged
    second = max(float((both[name] - halves[name]).abs().max()) for name in both)
    whose = (
        "of the two experts"
        if study.live
        else "of random stand-ins, since the experts are made only when `live` is True"
    )
    return (
        f"With all layers to math, minus the math expert: at most {first:g} in any parameter. Swap plus exchanged layers, minus "
        f"both task vectors: at most {second:g}. (Task vectors {whose}.)"
    )


def lesson(rivals: pd.DataFrame) -> str:
    """Return what the comparison with the rivals teaches, in words."""
    word = {(row.method_b, row.partition_b): row.verdict for row in rivals.itertuples()}
    told = [standing(rivals)]
    if word[claims.EXCHANGED] == BETTER:
        told.append("So it matters which layers go where.")
    if word[claims.MATH_EXPERT] == WORSE:
        told.append(
            "But taking layers from the math expert costs something on these problems, and what the language expert puts in "
            "their place does not make up for it."
        )
    elif word[claims.MATH_EXPERT] == BETTER:
        told.append("And the language expert's layers add something that the math expert alone does not have.")
    return " ".join(told)


def twins_sentence(study: Study) -> str:
    """Return in words whether either expert tells twins apart better than the base does; by intervals, no verdict."""
    pairs = tuple(((slug, ""), ("base", "")) for slug in ("math-only", "language-only"))
    outcomes = study.repeated(experiments.EVERY_READING)
    found = comparisons.contrasts(outcomes, pairs, study.language, (TWIN_CHOICE,))
    told = listed([f"{in_prose(row.method_a)} {improved(row)}" for row in found.itertuples()])
    base = 100 * select(outcomes, method="base", metric=TWIN_CHOICE, test_language=study.language)["outcome"].mean()
    better = [in_prose(row.method_a) for row in found.itertuples() if row.low > 0]
    read = (
        f"So {listed(better)} may read better."
        if better
        else "So neither expert reads the operation better than the base."
    )
    return (
        "They are told apart where each text's own calculation is likelier than the other's: 25 % by a coin, "
        f"{base:.0f} % by the base; against it, {told}. {read}"
    )


def own_run(study: Study, *families: comparisons.Family) -> pd.DataFrame | None:
    """Return the contrasts of families by this study's one training, where it was computed here; verdicts it has none.

    On a quarter of the problems: enough to see whether a training falls where others did, in a quarter of the time.
    """
    if not study.live:
        return None
    some = max(2, study.profile.evaluation.problems // 4)
    outcomes = study.outcomes(
        replace(experiments.FIRST_SWAP, changes={"readings": (PRIMARY,), "problems": some, "generated": 0})
    )
    parts = [
        comparisons.contrasts(
            outcomes, family.pairs, study.language if code == experiments.TARGET else code, (PRIMARY,)
        )
        for family in families
        for code in family.languages
    ]
    return pd.concat(parts, ignore_index=True)


def answers_table(outcomes: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Return what each model wrote to the chapter's problem, beside whether its calculations and its final number are right."""
    problem = templates.problems(language, "scored", 1)[0]
    mine = select(outcomes, problem=problem.id, test_language=language, seed=[0, int(outcomes["seed"].max())])
    rows = []
    for method, partition in arms_of(mine):
        part = select(mine, method=method, partition=partition).drop_duplicates("metric").set_index("metric")
        right = ["yes" if part.loc[metric, "outcome"] else "no" for metric in ("expression", "exact-match")]
        rows.append((in_prose(method, partition), Foreign(part.loc["expression", "text"].strip(), language), *right))
    columns = ["model", "answer", "calculations right", "final number right"]
    return table(rows, columns, number=number, caption="What the models wrote to the problem of Table 1; one training.")


def scores_table(outcomes: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Return every model's mean by every metric in one language, over all trainings, with 95 % intervals."""
    rows: list[dict[str, Any]] = []
    chosen = select(outcomes, test_language=language)
    for method, partition in arms_of(chosen):
        mine = select(chosen, method=method, partition=partition)
        row: dict[str, Any] = {"model": in_prose(method, partition)}
        for metric in METRICS:
            i = crossed_interval(outcome_table(select(mine, metric=metric)))
            unit = "%" if READINGS[metric].unit == "%" else "nats"
            row[f"{READINGS[metric].title} ({unit})"] = amount(i.value, i.low, i.high, metric, with_unit=False)
        rows.append(row)
    name = LANGUAGE_NAMES[language]
    caption = f"All models by all metrics, in {name}, with 95 % intervals. All but the first are exploratory. {TRIMMED}"
    return table(rows, number=number, caption=caption)


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets."""
    outcomes = study.repeated(experiments.FIRST_SWAP)
    gains, rivals, cost = (judged(family, outcomes) for family in (claims.GAINS, claims.RIVALS, claims.COST))
    if unjudged(rivals):
        return "- One training of each expert: no verdict. The committed results have three."
    name = LANGUAGE_NAMES[study.language]
    target = gains[gains["test_language"] != "en"].set_index("method_a")
    math = target.loc["math-only"]
    carried = {BETTER: "carries over to", WORSE: "hurts in", NOT_SHOWN: "does not carry over significantly to"}[
        math["verdict"]
    ]
    return bullets([
        f"Math learned in English {carried} {name} by itself: {improved(math)} over the base.",
        f"In {name} {lowered(standing(rivals))}",
        f"In English {lowered(standing(cost, numbers=False))}",
        home.by_the_plan("F2"),
    ])  # fmt: skip
