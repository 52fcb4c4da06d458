"""What the first chapter draws and says: losses, identities, answers, its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters.figures import EXPERT_COLOURS, SHOWN, gains_figure, subplots
from xlnb.chapters.words import bullets, difference_in_words, figure_title, label, table
from xlnb.corpora.templates import Problem
from xlnb.evaluation.readings import READINGS
from xlnb.methods import METHODS
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, Claim, decide, evidence
from xlnb.studies.comparisons import BASE, against_base, arms_of
from xlnb.studies.experiments import SWAP
from xlnb.studies.outcomes import load_outcomes, select
from xlnb.weights.merging import layer_swapping
from xlnb.weights.partitions import COMPLEMENT, Partition
from xlnb.weights.task_vectors import TaskVector

_MATH, _ARITHMETIC, _SOUP = ("math-only", ""), ("task-arithmetic", ""), ("soup", "")
_SWAP, _EXCHANGED = (SWAP, "C"), (SWAP, COMPLEMENT)
CLAIM = Claim("first-swap", "Is the swap better than its rivals?", _SWAP, (_MATH, _ARITHMETIC, _SOUP))
QUESTIONS = (
    Claim("math-in-english", "Did the math expert learn math in English?", _MATH, (BASE,), in_english=True),
    Claim("math-carries-over", "Does it carry over to the target language by itself?", _MATH, (BASE,)),
    Claim("swap-base", "Is the swapped model better than the base in the target language?", _SWAP, (BASE,)),
    Claim("swap-math", "Is it better than the math expert alone (the paper's F2)?", _SWAP, (_MATH,)),
    Claim("swap-arithmetic", "Is it better than adding both task vectors?", _SWAP, (_ARITHMETIC,)),
    Claim("swap-soup", "Is it better than averaging them?", _SWAP, (_SOUP,)),
    Claim("swap-complement", "Does it matter which layers go where (against the complement)?", _SWAP, (_EXCHANGED,)),
)
_TOLD = {
    REPRODUCED: "**Reproduced at this size**, by the primary reading: the swap is better than its rivals.",
    NOT_REPRODUCED: "**Not reproduced at this size**: by the primary reading at least one simpler rival is better.",
    UNCLEAR: "**Unclear at this size**: by the primary reading not every difference to the rivals is shown.",
}


def loss_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the training loss of each expert by step; the thick line is a running mean of five steps."""
    figure, axes = subplots(1, len(histories), 2.6)
    for axis, (slug, history) in zip(axes[0], histories.items(), strict=True):
        colour = EXPERT_COLOURS[METHODS[slug].expert]
        axis.plot(history["step"] + 1, history["loss"], color=colour, alpha=0.3, linewidth=1)
        axis.plot(history["step"] + 1, history["loss"].rolling(5, min_periods=1).mean(), color=colour, linewidth=2)
        axis.set(title=label(slug), xlabel="optimizer step", ylabel="training loss\n(nats per completion token)")
        axis.set_ylim(bottom=0)
    return figure


def save_readme_figure(path: str = "book/_static/first-swap.png") -> None:
    """Draw the README's figure from the committed results: what each way of merging gains over the base, in both languages."""
    outcomes = load_outcomes(experiment="first-swap", profile="pocket", language="sw", split="scored", shots=2)
    gains_figure(against_base(outcomes), figure_title(outcomes)).savefig(path, dpi=150)


def training_sentence(histories: Mapping[str, pd.DataFrame]) -> str:
    """Return what each expert's training did, in a sentence an expert: steps, tokens, loss at both ends."""
    sentences = []
    for slug, history in histories.items():
        ends = history["loss"].head(5).mean(), history["loss"].tail(5).mean()
        sentences.append(
            f"The {METHODS[slug].expert} expert took {len(history)} steps over {history['tokens'].sum():,} tokens; its training "
            f"loss went from {ends[0]:.2f} to {ends[1]:.2f} nats per token (means of the first and the last five steps)."
        )
    return " ".join(sentences)


def identities(
    math: TaskVector, language: TaskVector, all_math: Partition, swapped: TaskVector, exchanged: TaskVector
) -> str:
    """Return, as Markdown, what the identities of Layer-Swapping give on these very experts: largest deviations and norms."""
    whole = layer_swapping(math, language, all_math)
    first = max(float((whole[name] - math[name]).abs().max()) for name in math)
    both, halves = math + language, swapped + exchanged
    second = max(float((both[name] - halves[name]).abs().max()) for name in both)
    return (
        f"- All layers to math, minus the math expert: at most {first:g} in any parameter ({len(whole)} matrices compared).\n"
        f"- Swap plus its complement, minus both task vectors: at most {second:g}.\n"
        f"- Norms: math {math.norm():.2f}, language {language.norm():.2f}, swapped {swapped.norm():.2f}; the cosine between the "
        f"math and the language task vector is {math.cosine(language):+.3f}."
    )


def answers_table(outcomes: pd.DataFrame, problem: Problem) -> Any:
    """Return what each model wrote to one problem, beside whether its calculations and its final number are right."""
    mine = select(outcomes, problem=problem.id, test_language=problem.language)
    rows = []
    for arm in arms_of(mine):
        part = select(mine, method=arm[0], partition=arm[1]).set_index("metric")
        right = ["yes" if part.loc[metric, "outcome"] else "no" for metric in ("expression", "exact-match")]
        rows.append((label(*arm), part.loc["expression", "text"], *right))
    return table(rows, ["model", "answer", "calculations right", "final number right"])


def first_swap_summary(target: pd.DataFrame, english: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets, from contrasts in the target language and in English."""
    contrasts = pd.concat([target, english], ignore_index=True)
    lines = [_TOLD[decide(CLAIM, contrasts).outcome]]
    for claim in QUESTIONS:
        rows = [row for metric in SHOWN for row in evidence(claim, contrasts, metric).itertuples()]
        told = "; ".join(f"{READINGS[row.metric].title} {difference_in_words(row)}" for row in rows)
        lines.append(f"{claim.question} {label(*claim.arm)} minus {label(*claim.rivals[0])}: {told}.")
    return bullets(lines)
