"""Looking at the word problems: in every language, split by split, with their twins, and who gets them without understanding."""

from __future__ import annotations

import re
from functools import lru_cache

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters.interactive import Explorer, explorer
from xlnb.chapters.pictures import Foreign, Shown, panels, picture, table
from xlnb.chapters.words import bracketed, listed
from xlnb.corpora import templates
from xlnb.evaluation.shortcuts import ASKED, EXACT, FIRST, NUMBERS, READERS, WORDS, shortcuts
from xlnb.languages import LANGUAGE_NAMES

_COUNTED = 400  # problems a split on which shares are counted; few-shot has few more
_LEARNED = "math expert"
_BROWSED = 200  # problems a split that can be looked at
_STEP_COLOURS = ("#A6CEE3", "#5AA5D1", "#2171B5")


def one_problem_everywhere(split: str, index: int = 0, number: int | None = None) -> Shown:
    """Return a table of one problem and its solution in every language of the corpus."""
    found = [templates.problems(code, split, index + 1)[index] for code in templates.LANGUAGES]
    rows = [(LANGUAGE_NAMES[p.language], *(Foreign(t, p.language) for t in (p.question, p.solution))) for p in found]
    caption = (
        f"One problem of the split {split} in every language of the corpus, with names, things and money of the place."
    )
    return table(rows, ["", "problem", "solution"], number=number, caption=caption)


def one_problem(
    language: str, split: str = "scored", problem: int = 0, number: int | None = None, caption: str = ""
) -> Shown:
    """Return a problem of a split by its place, with its solution, in English beside another language."""
    english, other = (templates.problems(code, split, problem + 1)[problem] for code in ("en", language))
    rows = [
        (what, getattr(english, part), Foreign(getattr(other, part), language))
        for what, part in (("problem", "question"), ("solution", "solution"))
    ]
    steps = steps_in_words(len(english.expressions))
    caption = caption or f"Problem {problem} of the split {split}: the situation {english.frame}, {steps}."
    return table(rows, ["", "English", LANGUAGE_NAMES[language]], number=number, caption=caption)


def browser(language: str, split: str = "scored", problem: int = 1) -> Explorer | Shown:
    """Return controls to look at problems: split, place and language; where nothing moves, the problem named here."""
    codes = sorted((code for code in templates.LANGUAGES if code != "en"), key=lambda code: code != language)

    def show(split: str = split, problem: int = problem, language: str = language) -> Shown:
        return one_problem(language, split, problem)

    return explorer(
        show,
        show(),
        split=sorted(templates.SPLITS, key=lambda other: other != split),
        problem=(0, _BROWSED - 1, 1),
        language=[(LANGUAGE_NAMES[code], code) for code in codes],
    )


def steps_in_words(count: int) -> str:
    """Return a number of steps of a solution, in words."""
    return f"{count} step{'s' if count > 1 else ''}"


def splits_table(number: int | None = None) -> Shown:
    """Return a table of what each split holds: situations, people's names, things, and what it is for."""
    uses = {
        "train": "the oracle; names and numbers of the math expert",
        "few-shot": "worked examples before each problem",
        "development": "our choices",
        "scored": "the results",
    }
    rows = [(split, *templates.inventory(split), use) for split, use in uses.items()]
    caption = "What each split holds. None shares a situation, a name, a thing or a set of numbers with another."
    return table(rows, ["split", "situations", "names", "things", "used for"], number=number, caption=caption)


@lru_cache(maxsize=1)
def _difficulty() -> dict[str, dict[str, dict]]:
    """Return what problems of the math expert, and of each split but the oracle's, are like."""
    asked = {split: templates.problems("en", split, _COUNTED) for split in templates.SPLITS if split != "train"}
    asked = {_LEARNED: templates.english_problems(_COUNTED), **asked}
    return {name: templates.difficulty(problems) for name, problems in asked.items()}


def step_shares() -> pd.DataFrame:
    """Return the share of problems by number of steps: a row the math expert's and each split's, a column a number of steps."""
    found = pd.DataFrame({name: counts["steps"] for name, counts in _difficulty().items()}).T.fillna(0)
    return found[sorted(found.columns)] / _COUNTED


def difficulty_figure(steps: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw :func:`step_shares` in percent."""

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 2.0, narrow)
        left = 0 * steps.iloc[:, 0]
        for place, count in enumerate(steps.columns):
            width = 100 * steps[count]
            colour = _STEP_COLOURS[min(place, len(_STEP_COLOURS) - 1)]
            axis.barh(steps.index, width, left=left, color=colour, edgecolor="white", label=steps_in_words(count))
            left = left + width
        axis.set(xlabel="problems (%)", xlim=(0, 100))
        axis.invert_yaxis()
        figure.legend(loc="outside upper center", ncols=3 if narrow else len(steps.columns))
        return figure

    def share(split: str) -> str:
        return listed(
            [f"{100 * steps.loc[split, count]:.0f} % with {steps_in_words(count)}" for count in steps.columns]
        )

    caption = "How many calculations the math expert's problems take, and those of each split."
    return picture(
        draw, number=number, caption=caption, alt="; ".join(f"{split}: {share(split)}" for split in steps.index)
    )


def difficulty_sentence() -> str:
    """Return how the scored problems compare with the math expert's: operations and digits, in words."""

    def shares(name: str, what: str) -> str:
        counts = _difficulty()[name][what]
        return ", ".join(f"{key} in {100 * n / sum(counts.values()):.0f} %" for key, n in counts.items())

    signs = str.maketrans({"-": "−", "*": "×", "/": "÷"})
    return (
        f"The operations in training are {shares(_LEARNED, 'operations').translate(signs)} of the steps; in the scored problems "
        f"{shares('scored', 'operations').translate(signs)}. Digits of the answer, in training: {shares(_LEARNED, 'digits')}; in "
        f"the scored problems: {shares('scored', 'digits')}."
    )


def weaknesses(language: str) -> str:
    """Return the known weaknesses that a language's file of word problems names at its head, or that it names none."""
    _, _, known = "\n".join(templates.file_head(language)).partition("Known weaknesses")
    if bulleted := re.search(r"^- .+(\n.+)*", known, re.MULTILINE):
        return re.sub(r"\n(?!- )", " ", bulleted[0])
    return f"The {LANGUAGE_NAMES[language]} file names no weaknesses."


def twins_table(language: str, split: str = "scored", index: int = 0, number: int | None = None) -> Shown:
    """Return a table of a problem and its twin, in English and in another language, each with its calculations."""
    rows = []
    for code in ("en", language):
        pair = [made(code, split, index + 1)[index] for made in (templates.problems, templates.twins)]
        rows += [(LANGUAGE_NAMES[code], Foreign(p.question, code), "; ".join(p.expressions)) for p in pair]
    caption = "A problem and its twin: the same people, things and numbers, and another calculation."
    return table(rows, ["", "problem", "calculations"], number=number, caption=caption)


@lru_cache(maxsize=8)
def _shortcuts(language: str) -> pd.DataFrame:
    return shortcuts(language)


def shortcuts_table(language: str, number: int | None = None) -> Shown:
    """Return how far readers without understanding get with the scored problems, in percent with 95 % intervals."""
    found = _shortcuts(language).set_index(["reader", "asked"])
    rows = []
    for reader in READERS:
        shares = [100 * found.loc[(reader, asked)] for asked in ASKED]
        rows.append((reader, *(bracketed(share["value"], share["low"], share["high"], ".0f") for share in shares)))
    caption = (
        f"Reading without understanding, in {LANGUAGE_NAMES[language]}: random forests (and a nearest neighbour) that learned "
        "from training problems which calculation goes with which numbers or words. Percent of scored problems, with 95 % "
        "intervals over pairs of twin situations. A coin tells one pair of twins in four apart."
    )
    return table(rows, ["reads", *(f"{asked} (%)" for asked in ASKED)], number=number, caption=caption)


def shortcuts_sentence(language: str) -> str:
    """Return in words what the numbers alone, and the words alone, give."""
    value = _shortcuts(language).set_index(["reader", "asked"])["value"]
    return (
        f"Whoever reads the numbers alone names the first operation in {100 * value[NUMBERS, FIRST]:.0f} % of the problems "
        f"(there are four operations), finds the answer in {100 * value[NUMBERS, EXACT]:.0f} % and tells no twins apart. The "
        f"words alone name the first operation in {100 * value[WORDS, FIRST]:.0f} %."
    )
