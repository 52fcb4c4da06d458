"""Whether answers are read right: the same answers by our reader and by both filters of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from xlnb.chapters.pictures import Foreign, Shown, table
from xlnb.corpora import templates
from xlnb.evaluation import harness
from xlnb.evaluation.answers import extract_number
from xlnb.languages import LANGUAGE_NAMES, in_order
from xlnb.studies.outcomes import select

_FILTERS = {harness.STRICT: "harness, strict", harness.FLEXIBLE: "harness, flexible"}

# How the same answers may be written, in several languages; all say 18, but for the last two (-5 and 2125).
WAYS_TO_ANSWER = (
    ("en", "She earns 9 * 2 = 18 dollars. The answer is 18.", 18),
    ("en", "The answer is $18.00 a day.", 18),
    ("en", "The answer is 18 eggs, since 16 and 2 make 18.0.", 18),
    ("sw", "Jumla ni shilingi 9 * 2 = 18. Jibu ni 18.", 18),
    ("sw", "Jibu ni shilingi 18 kila siku, si 20.", 18),
    ("bn", "মোট 9 * 2 = 18 টাকা। উত্তর হল 18।", 18),
    ("bn", "মোট ৯ * ২ = ১৮ টাকা। উত্তর হল ১৮।", 18),
    ("te", "మొత్తం 9 * 2 = 18 రూపాయలు. సమాధానం 18.", 18),
    ("te", "మొత్తం ౯ * ౨ = ౧౮ రూపాయలు. సమాధానం ౧౮.", 18),
    ("de", "Die Antwort lautet 18,00 Euro.", 18),
    ("en", r"It falls by 5, so the answer is \boxed{-5}.", -5),
    ("fr", "La réponse est 2 125 euros.", 2125),
)


def ways_table(ways: Sequence[tuple[str, str, int]] = WAYS_TO_ANSWER, number: int | None = None) -> Shown:
    """Return a table of answers (language, text, right number) with what we and the harness's filters read; ✓ marks the right."""
    rows = []
    for language, text, right in ways:
        theirs, counted = harness.harness_reads(text, language), harness.harness_counts_right(text, right, language)
        ours = extract_number(text, language)
        read = [(ours, ours == right), *((theirs[name], counted[name]) for name in _FILTERS)]
        shown = [f"{what} {'✓' if is_right else '✗'}" for what, is_right in read]
        rows.append((LANGUAGE_NAMES[language], Foreign(text, language), right, *shown))
    caption = f"What is read from an answer. The harness is lm-evaluation-harness {harness.harness_version()}; ✓ counts as right."
    return table(rows, ["language", "answer", "right", "xlnb", *_FILTERS.values()], number=number, caption=caption)


def gold_readings(n: int = 200, split: str = "scored") -> pd.DataFrame:
    """Return which shares of our own problems' gold solutions each reader reads right, a row a language."""
    rows = []
    for language in templates.LANGUAGES:
        problems = templates.problems(language, split, n)
        ours = [extract_number(p.solution, language) == p.answer for p in problems]
        theirs = [harness.harness_counts_right(p.solution, p.answer, language) for p in problems]
        shares = [sum(one[name] for one in theirs) / n for name in _FILTERS]
        rows.append((language, n, sum(ours) / n, *shares))
    return pd.DataFrame(rows, columns=["language", "problems", "xlnb", *_FILTERS])


def gold_table(readings: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`gold_readings` as a table in percent."""
    rows = [
        (LANGUAGE_NAMES[row["language"]], row["problems"], *(f"{row[name]:.0%}" for name in ("xlnb", *_FILTERS)))
        for _, row in readings.iterrows()
    ]
    caption = "The gold solutions of our own problems, all of them right: the share that counts as right."
    return table(rows, ["language", "solutions", "xlnb", *_FILTERS.values()], number=number, caption=caption)


def reread(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the generated answers to our own problems, with gold and whether each reader counts them right, in columns."""
    answers = select(outcomes, metric="exact-match", benchmark="templates")
    gold: dict[str, int] = {}
    for split in answers["split"].unique():
        n = 1 + int(answers.loc[answers["split"] == split, "problem"].max().rpartition("-")[2])
        gold |= {p.id: p.answer for p in templates.problems("en", split, n)}
    answers = answers.assign(gold=answers["problem"].map(gold))
    rows = list(answers.itertuples())
    right = [harness.harness_counts_right(row.text, row.gold, row.test_language) for row in rows]
    return answers.assign(
        xlnb=[extract_number(row.text, row.test_language) == row.gold for row in rows],
        **{name: [one[name] for one in right] for name in _FILTERS},
    )


def referee_table(answers: pd.DataFrame, number: int | None = None) -> Shown:
    """Return how many of the :func:`reread` answers in each language we count right, and of those the harness's filters."""
    rows = []
    for code in in_order(answers["test_language"]):
        mine = select(answers, test_language=code)
        right = mine[mine["xlnb"]]
        more = [int((~mine["xlnb"] & mine[name]).sum()) for name in _FILTERS]
        rows.append(
            (LANGUAGE_NAMES[code], len(mine), len(right), *(int(right[name].sum()) for name in _FILTERS), max(more))
        )
    caption = (
        "All answers of these models, read by both. Beside those we count right: how many of them each filter counts."
    )
    columns = [
        "language",
        "answers",
        "right by xlnb",
        *(f"of these, {name}" for name in _FILTERS.values()),
        "right by it alone",
    ]
    return table(rows, columns, number=number, caption=caption)


def referee_examples(answers: pd.DataFrame, number: int | None = None) -> Shown:
    """Return answers on which we and a filter of the harness differ, two of a kind and language at most."""
    rows = []
    for code in in_order(answers["test_language"]):
        mine = select(answers, test_language=code)
        for name, filter_ in _FILTERS.items():
            for what, differ in (
                (f"{filter_}: wrong", mine["xlnb"] & ~mine[name]),
                (f"{filter_}: right", ~mine["xlnb"] & mine[name]),
            ):
                for row in mine[differ].head(2).itertuples():
                    ending = row.text if len(row.text) <= 90 else f"… {row.text[-90:]}"
                    rows.append((LANGUAGE_NAMES[code], Foreign(ending.strip(), code), row.gold, what))
    caption = "Answers on which the two differ: what the harness's filter says of one that we count the other way."
    return table(rows, ["language", "answer", "right is", "harness"], number=number, caption=caption)


def harness_sentence(answers: pd.DataFrame, language: str) -> str:
    """Return how many of the answers in a language that we count right the harness counts, in words."""
    right = answers[(answers["test_language"] == language) & answers["xlnb"]]
    strict, flexible = (int(right[name].sum()) for name in _FILTERS)
    return (
        f"Of the {len(right)} answers in {LANGUAGE_NAMES[language]} that are right, lm-evaluation-harness counts {strict} by its "
        f"strict filter and {flexible} by the flexible one."
    )
