"""What the first chapter draws and says: losses, identities, answers, its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xlnb.chapters.figures import _EXPERT_COLOURS, _subplots, gains_figure
from xlnb.chapters.words import amount
from xlnb.evaluation.readings import PRIMARY, READINGS
from xlnb.methods import METHODS, label
from xlnb.studies.outcomes import select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xlnb.corpora.templates import Problem
    from xlnb.weights.partitions import Partition
    from xlnb.weights.task_vectors import TaskVector


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


def save_readme_figure(path: str = "book/_static/first-swap.png") -> None:
    """Draw the README's figure from the committed results: what each way of merging gains over the base, in both languages."""
    from xlnb.chapters.words import figure_title
    from xlnb.studies.comparisons import against_base
    from xlnb.studies.outcomes import load_outcomes

    outcomes = load_outcomes(experiment="first-swap", profile="pocket", language="sw", split="scored", shots=2)
    figure = gains_figure(against_base(outcomes), figure_title(outcomes))
    figure.savefig(path, dpi=150)


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
    from xlnb.weights.merging import layer_swapping

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
    import pandas as pd
    from great_tables import GT

    mine = select(outcomes, problem=problem.id, test_language=problem.language)
    rows = []
    for arm in dict.fromkeys(zip(mine["method"], mine["partition"], strict=True)):
        part = select(mine, method=arm[0], partition=arm[1]).set_index("metric")
        right = ["yes" if part.loc[metric, "outcome"] else "no" for metric in ("expression", "exact-match")]
        rows.append((label(*arm), part.loc["expression", "text"], *right))
    table = pd.DataFrame(rows, columns=["model", "answer", "calculations right", "final number right"])
    return GT(table, rowname_col="model").tab_options(table_font_size="80%")


def first_swap_summary(target: pd.DataFrame, english: pd.DataFrame) -> str:
    """Return the summary of the first chapter as Markdown bullets, each claim decided by its interval.

    ``target`` and ``english`` are contrasts in the target language and in English.
    """

    def told(table: pd.DataFrame, a: str, b: str, metric: str = PRIMARY) -> str:
        row = table[(table["name"] == f"{a} − {b}") & (table["metric"] == metric)].iloc[0]
        return f"{row['verdict']} ({amount(row['difference'], row['low'], row['high'], metric, signed=True)})"

    swap, both = "Layer-Swapping", (PRIMARY, "expression-nll", "expression")
    lines = [
        ("Did the math expert learn math in English?", english, "Math only", "Base"),
        ("Does it carry over to the target language by itself?", target, "Math only", "Base"),
        ("Is the swapped model better than the base in the target language?", target, swap, "Base"),
        ("Is it better than the math expert alone (the paper's F2)?", target, swap, "Math only"),
        ("Is it better than adding both task vectors?", target, swap, "Task arithmetic"),
        ("Is it better than averaging them?", target, swap, "Model soup"),
        ("Does it matter which layers go where (against the complement)?", target, swap, f"{swap} (complement)"),
    ]
    bullets = [
        f"- {question} {a} minus {b}: " + "; ".join(f"{READINGS[m].title} {told(table, a, b, m)}" for m in both) + "."
        for question, table, a, b in lines
    ]
    finding = [told(target, swap, other).split(" ")[0] for other in ("Math only", "Task arithmetic", "Model soup")]
    if all(word == "better" for word in finding):
        verdict_line = "**Reproduced at this size**, by the primary reading: the swap is better than its rivals."
    elif "worse" in finding:
        verdict_line = "**Not reproduced at this size**: by the primary reading at least one simpler rival is better."
    else:
        verdict_line = "**Unclear at this size**: by the primary reading not every difference to the rivals is shown."
    return "\n".join([f"- {verdict_line}", *bullets])
