"""Looking at the data: sample problems, answers and language examples, and what the splits hold."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, axis_label, dot, subplots
from xlnb.chapters.words import amount, bullets, table
from xlnb.corpora import templates
from xlnb.corpora.sources import SOURCES
from xlnb.evaluation.readings import READINGS, SHOTS_READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import mean_interval, paired_difference
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, WORSE, verdict
from xlnb.studies.outcomes import select

_COUNTED = 400  # problems a split on which shares are counted; few-shot has few more


def difficulty_figure(steps: pd.DataFrame) -> Figure:
    """Draw :func:`step_shares` in percent of each split."""
    figure, ((axis,),) = subplots(1, 1, 2.4)
    left = 0 * steps.iloc[:, 0]
    for colour, count in zip(sns.color_palette("crest", len(steps.columns)), steps.columns, strict=True):
        name, width = f"{count} step{'s' if count > 1 else ''}", 100 * steps[count]
        axis.barh(steps.index, width, left=left, color=colour, label=name)
        left = left + width
    axis.set(xlabel="problems of the split (%)", xlim=(0, 100))
    axis.invert_yaxis()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def shots_figure(scores: pd.DataFrame) -> Figure:
    """Draw scores by the number of worked examples, a column a metric, a line a test language."""
    metrics = SHOTS_READINGS[:3]
    figure, axes = subplots(1, len(metrics), 2.8)
    languages = sorted(scores["test_language"].unique(), key=lambda code: code != "en")
    colours = dict(zip(languages, (MATH_COLOUR, LANGUAGE_COLOUR), strict=False))
    for axis, metric in zip(axes[0], metrics, strict=True):
        factor = READINGS[metric].scale
        for offset, (code, colour) in zip((-0.04, 0.04), colours.items(), strict=True):
            part = scores[(scores["test_language"] == code) & (scores["metric"] == metric)].sort_values("shots")
            x = part["shots"] + offset  # beside each other, so that intervals do not hide one another
            ends = [factor * part[column] for column in ("value", "low", "high")]
            name = LANGUAGE_NAMES.get(code, code)
            dot(axis, x, ends, colour, upright=True, linestyle="-", linewidth=1, label=name)
        axis.set(xlabel="worked examples", ylabel=axis_label(metric), xticks=sorted(scores["shots"].unique()))
        axis.set_ylim(bottom=0)
    axes[0, -1].legend(frameon=False)
    return figure


def parallel_problems(language: str, split: str, n: int) -> Any:
    """Return a table of ``n`` problems of different frames with their solutions, in English beside ``language``."""
    rows = []
    for english, target in zip(*(templates.problems(code, split, n) for code in ("en", language)), strict=True):
        rows.append((english.frame, "problem", english.question, target.question))
        rows.append((english.frame, "solution", english.solution, target.solution))
    return table(rows, ["frame", "", LANGUAGE_NAMES["en"], LANGUAGE_NAMES[language]], size=85, group="frame")


def one_problem_everywhere(split: str, index: int = 0) -> Any:
    """Return a table of one problem and its solution in every language of the corpus."""
    found = [templates.problems(code, split, index + 1)[index] for code in templates.LANGUAGES]
    rows = [(LANGUAGE_NAMES[p.language], p.question, p.solution) for p in found]
    return table(rows, ["", "problem", "solution"], size=85)


def weaknesses(language: str) -> str:
    """Return the known weaknesses that a language's file of word problems names at its head, or that it names none."""
    _, _, known = "\n".join(templates.file_head(language)).partition("Known weaknesses")
    if bulleted := re.search(r"^- .+(\n.+)*", known, re.MULTILINE):
        return re.sub(r"\n(?!- )", " ", bulleted[0])
    why = ": it is the original from which the others were translated" if language == "en" else ""
    return f"The {LANGUAGE_NAMES[language]} file names no weaknesses{why}."


def generic_table() -> Any:
    """Return a table of the generic language sets: language, how many kinds of instruction, which."""
    kinds = {code: templates.generic_kinds(code) for code in templates.GENERIC_LANGUAGES}
    rows = [(LANGUAGE_NAMES[code], len(found), ", ".join(found)) for code, found in kinds.items()]
    return table(rows, ["language", "kinds", "which"])


def corpora_table() -> Any:
    """Return a table of the corpora that xlnb reads by name: kind, languages, hub repository, licence."""
    rows = [(s.name, s.kind, " ".join(s.languages), s.hub or "ships with xlnb", s.licence) for s in SOURCES.values()]
    return table(rows, ["name", "kind", "languages", "on the Hugging Face hub", "licence"])


def splits_table() -> Any:
    """Return a table of what each split holds: frames, people's names, things, and what it is for."""
    uses = {
        "train": "math expert (English only)",
        "few-shot": "worked examples before each problem",
        "development": "our choices",
        "scored": "the results",
    }
    rows = [(split, *templates.inventory(split), use) for split, use in uses.items()]
    return table(rows, ["split", "frames", "names", "things", "used for"], size=85)


def step_shares() -> pd.DataFrame:
    """Return the share of problems by number of steps: a row a split, a column a number of steps."""
    counts = {split: templates.difficulty(split, _COUNTED)["steps"] for split in templates.SPLITS}
    found = pd.DataFrame(counts).T.fillna(0)
    return found[sorted(found.columns)] / _COUNTED


def difficulty_sentence() -> str:
    """Return how the scored problems compare with the training ones: operations and digits, in words."""

    def shares(split: str, what: str) -> str:
        counts = templates.difficulty(split, _COUNTED)[what]
        return ", ".join(f"`{key}` {100 * n / sum(counts.values()):.0f} %" for key, n in counts.items())

    return (
        f"Operations in training: {shares('train', 'operations')}; in the scored problems: {shares('scored', 'operations')}. "
        f"Digits of the answer in training: {shares('train', 'digits')}; in the scored problems: {shares('scored', 'digits')}."
    )


def language_samples(language: str, seed: int, n: int = 5) -> Any:
    """Return a table of ``n`` examples of the generic language set, of different kinds."""
    examples = templates.language_examples(language, n, seed)
    rows = [(e.kind, e.prompt.replace("\n", " ⏎ "), e.completion) for e in examples]
    return table(rows, ["kind", "prompt", "completion"])


def by_steps_table(outcomes: pd.DataFrame) -> Any:
    """Return a table of the share of problems with right calculations, by number of steps, with 95 % intervals."""
    found = select(outcomes, metric="expression")
    last = int(found["problem"].max().rpartition("-")[2])
    steps = {p.id: len(p.expressions) for p in templates.problems("en", found["split"].iloc[0], last + 1)}
    rows = []
    for (code, count), part in found.groupby(["test_language", found["problem"].map(steps)]):
        i = mean_interval(part["outcome"].to_numpy())
        right = f"{100 * i.value:.0f} % [{100 * i.low:.0f}, {100 * i.high:.0f}]"
        rows.append((LANGUAGE_NAMES[code], count, i.n, right))
    return table(rows, ["language", "steps", "problems", "calculations right"], size=85, heads=False)


def answer_samples(outcomes: pd.DataFrame, language: str, n: int) -> Any:
    """Return a table of the first ``n`` problems with the model's answer, the right one, and what was counted right."""
    found = select(outcomes, metric="expression", test_language=language)
    problems = {p.id: p for p in templates.problems(language, found["split"].iloc[0], n)}
    rows = [
        (problems[row.problem].question, row.text, problems[row.problem].solution, "yes" if row.outcome else "no")
        for row in found.sort_values("problem").itertuples()
        if row.problem in problems
    ]
    return table(rows[:n], ["problem", "the model's answer", "right solution", "calculations right"], heads=False)


def shots_reading(outcomes: pd.DataFrame, language: str) -> str:
    """Return, as Markdown bullets, what worked examples do to the base: each number of shots against none, paired."""
    lines = []
    for code in ("en", language):
        for shots in sorted(set(outcomes["shots"]) - {0}):
            told = []
            for metric in SHOTS_READINGS:
                few, none = (select(outcomes, metric=metric, test_language=code, shots=n) for n in (shots, 0))
                d = paired_difference(few, none)
                shown = amount(d.value, d.low, d.high, metric, signed=True)
                told.append(f"{READINGS[metric].title} {shown} **{verdict(d, metric)}**")
            lines.append(f"{LANGUAGE_NAMES[code]}, {shots} worked examples minus none: {'; '.join(told)}.")
    return bullets(lines)


def base_summary(base: pd.DataFrame, language: str) -> str:
    """Return the summary of the second chapter: what the base can do in each language, and how far below it is."""
    lines = []
    for code in ("en", language):
        told = []
        for metric in ("expression", "exact-match"):
            i = mean_interval(select(base, metric=metric, test_language=code)["outcome"].to_numpy())
            told.append(f"{READINGS[metric].title} {amount(i.value, i.low, i.high, metric)}")
        lines.append(f"{LANGUAGE_NAMES[code]}, two worked examples, scored problems: {'; '.join(told)}.")
    calculations = [select(base, metric="expression", test_language=code) for code in ("en", language)]
    gap = paired_difference(*calculations)
    shown = {BETTER: "it does better in English", WORSE: "it does worse in English", NOT_SHOWN: "no gap is shown"}
    lines.append(
        f"The same problems, English minus {LANGUAGE_NAMES[language]}: "
        f"{amount(gap.value, gap.low, gap.high, 'expression', signed=True)}; {shown[verdict(gap, 'expression')]}."
    )
    low = mean_interval(calculations[0]["outcome"].to_numpy()).low
    can = "The base can do the task at times" if low > 0.02 else "The base hardly does the task at all"
    return bullets([f"**{can}**, which leaves room for an expert in either language.", *lines])
