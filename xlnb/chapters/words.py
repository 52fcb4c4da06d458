"""Numbers in words: what a comparison says, with its interval, as a person would write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from xlnb.analysis.fitting import FITTED, fitted_by
from xlnb.evaluation.readings import READINGS
from xlnb.languages import LANGUAGE_NAMES, in_order
from xlnb.methods import METHODS
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE, improvement, side

# What an arm is called in a sentence; others go by their title.
_PROSE = {
    ("base", ""): "the base",
    ("math-only", ""): "the math expert",
    ("language-only", ""): "the language expert",
    ("soup", ""): "the soup",
    ("task-arithmetic", ""): "task arithmetic",
    ("data-mixing", ""): "data mixing",
    ("data-mixing-half", ""): "data mixing for half the steps",
    ("math-last", ""): "math last",
    ("language-last", ""): "language last",
    ("format-control", ""): "the format control",
    ("oracle", ""): "the oracle",
    ("frozen-experts", "C"): "frozen experts",
    ("simultaneous", "C"): "simultaneous fine-tuning",
    ("train-then-revert", "C"): "training and reverting",
    ("freeze-then-train", "C"): "freezing and training",
    ("layer-swapping", "C"): "the swap",
    ("layer-swapping", "complement of C"): "the same layers exchanged",
    ("layer-swapping", "random, mean of 5"): "random layers",
    ("layer-swapping", "half and half"): "the swap of the lower half",
    ("layer-swapping", "predecessor"): "the swap with transition layers",
    ("layer-swapping", f"measured, mean of {len(FITTED)}"): "measured layers",
    ("layer-swapping", "best in hindsight"): "the best swap in hindsight",
}

# What a way of fine-tuning is called.
PARADIGM_NAMES = {"lora": "LoRA", "full": "full fine-tuning"}
# What a measure of importance is called.
MEASURE_NAMES = {
    "change": "relative change",
    "taylor": "Taylor",
    "fisher": "Fisher",
    "ablation": "ablation",
    "patching": "patching",
}


def label(method: str, partition: str = "") -> str:
    """Return an arm's name for a figure or table; partition C goes without saying.

    >>> label("layer-swapping", "complement of C")
    'Layer-Swapping (complement)'
    """
    title = METHODS[method].title if method in METHODS else method
    return title if partition in ("", "C") else f"{title} ({partition.removesuffix(' of C')})"


def in_prose(method: str, partition: str = "") -> str:
    """Return what an arm is called in a sentence.

    >>> in_prose("layer-swapping", "C"), in_prose("ties"), in_prose("layer-swapping", "A")
    ('the swap', 'TIES', 'the swap by A')
    """
    if (method, partition) in _PROSE:
        return _PROSE[method, partition]
    if method != "layer-swapping":
        return label(method, partition)
    if partition not in FITTED:
        return f"the swap by {partition}"
    measure, like_c = fitted_by(partition)
    return f"the swap by {MEASURE_NAMES[measure]}{' in the size of C' if like_c else ''}"


def is_number(text: str) -> bool:
    """Say whether a cell's text is a number, with its interval or unit perhaps.

    >>> is_number("−0.19 [−0.24, −0.13]"), is_number("12 %"), is_number("12 mangoes")
    (True, True, False)
    """
    return re.fullmatch(r"[-−+–]?[\d.,\s]*\s?(%|\[[-−+\d.,\s]+\])?", text) is not None and text != ""


def number(value: float, form: str) -> str:
    """Return a number in a format, with a real minus sign; a dash for one that is not known.

    >>> number(-0.123, ".0%"), number(float("nan"), ".2f")
    ('−12%', '–')
    """
    return "–" if value != value else format(value, form).replace("-", "−")


def percent(share: float) -> str:
    """Return a share in percent.

    >>> percent(0.2)
    '20 %'
    """
    return f"{100 * share:.0f} %"


def bracketed(value: float, low: float, high: float, form: str) -> str:
    """Return a value and its interval, each in the format; the value alone where the interval is not known.

    >>> bracketed(1.5, -1.25, 1.75, "+.2f"), bracketed(1.5, float("nan"), float("nan"), ".1f")
    ('+1.50 [−1.25, +1.75]', '1.5')
    """
    if low != low:
        return number(value, form)
    return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"


def amount(value: float, low: float, high: float, metric: str, signed: bool = False, with_unit: bool = True) -> str:
    """Return a value with its interval in the metric's unit: nats per token, or percent (points where ``signed``).

    >>> amount(0.125, 0.05, 0.2, "exact-match", signed=True)
    '+12.5 points [+5.0, +20.0]'
    """
    factor, digits = (100, 1) if READINGS[metric].unit == "%" else (1, 2)
    shown = bracketed(factor * value, factor * low, factor * high, f"{'+' if signed else ''}.{digits}f")
    unit = "nats" if READINGS[metric].unit == "nats" else "points" if signed else "%"
    return shown.replace(" ", f" {unit} ", 1) if with_unit else shown


def unit_of_gains(metric: str) -> str:
    """Return the unit of a metric's differences as a table's head says it: points or nats."""
    return "points" if READINGS[metric].unit == "%" else "nats"


def improved(row: Any, with_unit: bool = True) -> str:
    """Return a contrast's improvement with its interval: more is better, whichever way the metric points."""
    digits, unit = (1, "points") if READINGS[row.metric].unit == "%" else (2, "nats per token")
    shown = bracketed(*improvement(row), f"+.{digits}f")
    return shown.replace(" ", f" {unit} ", 1) if with_unit else shown


def improved_corrected(row: Any, with_unit: bool = True) -> str:
    """Return :func:`improved`, and the corrected p where without it interval and verdict seem to contradict each other."""
    seems = row.verdict == NOT_SHOWN and side(row)
    return improved(row, with_unit) + (f", p {row.p:.2f} once corrected" if seems else "")


def improvement_title(metric: str, unit: bool = False) -> str:
    """Return a metric's title where improvements by it are told: more is better.

    >>> improvement_title("nll"), improvement_title("twin-choice", unit=True)
    ('NLL of the solution saved', 'twins told apart (points)')
    """
    title = READINGS[metric].title + ("" if READINGS[metric].higher_is_better else " saved")
    return f"{title} ({unit_of_gains(metric)})" if unit else title


def language_names(codes: Iterable[str]) -> str:
    """Return languages by their names, each once, in the order of the book.

    >>> language_names(["bn", "sw", "bn"])
    'Swahili and Bengali'
    """
    return listed([LANGUAGE_NAMES[code] for code in in_order(codes)])


def trainings(count: int) -> str:
    """Return how many trainings, in words.

    >>> trainings(1), trainings(4), trainings(12)
    ('one training', 'four trainings', '12 trainings')
    """
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[count] if count < len(words) else count} training{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    """Return a text with its first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def lowered(text: str) -> str:
    """Return a text with its first letter small, the others as they are."""
    return text[:1].lower() + text[1:]


def bullets(lines: Iterable[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Return parts as a person lists them.

    >>> listed(["the base"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
    ('the base', 'a and b', 'a, b or c')
    """
    *first, last = parts or [""]
    return f"{', '.join(first)} {word} {last}" if first else last


def standing(judged: pd.DataFrame, numbers: bool = True) -> str:
    """Return in a sentence whom an arm beats, to whom it loses, and where the difference is not significant.

    All rows of ``judged`` have the same first arm.
    """
    first = next(judged.itertuples())
    who = in_prose(first.method_a, first.partition_a)
    parts: dict[str, str] = {}
    for word, phrase in ((BETTER, "beats"), (WORSE, "loses to"), (NOT_SHOWN, "does not differ significantly from")):
        rows = [row for row in judged.itertuples() if row.verdict == word]
        names = [
            in_prose(row.method_b, row.partition_b) + (f" ({improved_corrected(row, place == 0)})" if numbers else "")
            for place, row in enumerate(rows)
        ]
        if names:
            parts[word] = f"{phrase} {listed(names)}"
    if not parts:
        return f"{capital(who)} has no verdict yet: that takes three trainings."
    joined = ", but ".join(parts[word] for word in (BETTER, WORSE) if word in parts)
    rest = "; it " if joined and NOT_SHOWN in parts else ""
    return f"{capital(who)} {joined}{rest}{parts.get(NOT_SHOWN, '')}."


def caveat(profile: str) -> str:
    """Return the warning that numbers of the smoke profile are none."""
    if profile != "smoke":
        return ""
    return "*This is the `smoke` profile: a model of random weights and a few steps. These numbers are **not a result**.*\n\n"


def versions_line(versions: Mapping[str, str]) -> str:
    """Return the versions that numbers depend on, as one line of Markdown."""
    return "Made with " + ", ".join(f"{name} {number}" for name, number in versions.items()) + "."


def unjudged(judged: pd.DataFrame) -> bool:
    """Say whether contrasts lack the trainings for a verdict."""
    return UNJUDGED in set(judged["verdict"])
