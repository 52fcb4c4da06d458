"""The readings: the ways to score a model on a problem, and which of them belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlnb.evaluation.answers import CALCULATION

if TYPE_CHECKING:
    from xlnb.corpora.benchmarks import Benchmark

NLL, EXPRESSION_NLL, CLOSING_NLL = "nll", "expression-nll", "closing-nll"
INFORMATION, EXPRESSION_INFORMATION = "information", "expression-information"
TWIN_INFORMATION, TWIN_CHOICE = "twin-information", "twin-choice"
CHOICE, CHOICE_PROBABILITY = "choice", "choice-probability"
EXACT_MATCH, EXPRESSION, IN_LANGUAGE = "exact-match", "expression", "in-language"
# Said wherever such likelihoods are shown themselves; in their differences it hardly shows.
TRIMMED = "Likelihoods of our own problems are over the trimmed vocabulary, a little lower than over the whole."


@dataclass(frozen=True)
class Reading:
    """One way to score a model on a problem: a number of nats (``unit`` "nats") or a share from 0 to 1 (``unit`` "%")."""

    title: str
    meaning: str
    unit: str
    higher_is_better: bool
    generates: bool = False  # needs an answer written token by token

    @property
    def scale(self) -> int:
        """What outcomes are multiplied with to be in their unit."""
        return 100 if self.unit == "%" else 1

    @property
    def unit_in_words(self) -> str:
        """The unit as an axis or a table's head says it."""
        return "%" if self.unit == "%" else "nats per token"


READINGS: dict[str, Reading] = {
    NLL: Reading("NLL of the solution", "negative log-likelihood of the gold solution, per token", "nats", False),
    EXPRESSION_NLL: Reading(
        "NLL of the calculations", "the same over the tokens of its calculations `a op b` alone", "nats", False),
    CLOSING_NLL: Reading(
        "NLL of the answer sentence", "negative log-likelihood of the answer sentence in the language", "nats", False),
    INFORMATION: Reading(
        "information gained on the solution", "NLL of the gold solution given another problem minus given its own", "nats", True),
    EXPRESSION_INFORMATION: Reading(
        "information gained on the calculations", "the same over the tokens of its calculations alone", "nats", True),
    TWIN_INFORMATION: Reading(
        "information gained on the twin", "NLL of the gold calculations given the twin's text minus given its own", "nats", True),
    TWIN_CHOICE: Reading(
        "twins told apart",
        "behind either text of a pair of twins its own calculations are likelier than the other's", "%", True),
    CHOICE: Reading(
        "right choice", "every right calculation (or option) is likelier than all the others offered", "%", True),
    CHOICE_PROBABILITY: Reading(
        "probability of the right choice", "the share of likelihood that falls on the right choices", "%", True),
    EXPRESSION: Reading(
        "calculations right", "every calculation of the solution stands in the answer", "%", True, generates=True),
    EXACT_MATCH: Reading(
        "final number right", "the number read from the answer is the right one", "%", True, generates=True),
    IN_LANGUAGE: Reading(
        "in the language", "the answer is written in the problem's language", "%", True, generates=True),
}  # fmt: skip
CHOICES = (CHOICE, CHOICE_PROBABILITY)
LIKELIHOODS = (NLL, EXPRESSION_NLL)
INFORMATIONS = (INFORMATION, EXPRESSION_INFORMATION)
TWINS = (TWIN_INFORMATION, TWIN_CHOICE)
WITHOUT_ANSWERS = (*LIKELIHOODS, *INFORMATIONS, *TWINS)  # what any merge is read by


def calibrated(reading: str) -> str:
    """Return the slug of a reading by likelihood taken at the model's own temperature.

    >>> calibrated(EXPRESSION_NLL)
    'calibrated-expression-nll'
    """
    return f"calibrated-{reading}"


CALIBRATED = {calibrated(slug): slug for slug in (*LIKELIHOODS, *INFORMATIONS, TWIN_INFORMATION)}
READINGS |= {
    new: replace(
        READINGS[old], title=f"{READINGS[old].title}, calibrated", meaning=f"{READINGS[old].meaning}, calibrated"
    )
    for new, old in CALIBRATED.items()
}
SHOTS_READINGS = (*LIKELIHOODS, EXPRESSION, EXACT_MATCH)
# What chapter 02 compares.
VALIDATED = (*LIKELIHOODS, *INFORMATIONS, *TWINS, *CALIBRATED, *CHOICES, EXPRESSION, EXACT_MATCH, IN_LANGUAGE)
COST_GROUPS = {
    "likelihood": LIKELIHOODS,
    "likelihood and forced choice": (*LIKELIHOODS, *CHOICES),
    "information": INFORMATIONS,
    "twin-information": (TWIN_INFORMATION,),
    "twins": TWINS,
    "calibrated likelihood": (calibrated(NLL), calibrated(EXPRESSION_NLL)),
    "calibrated information": (calibrated(INFORMATION), calibrated(EXPRESSION_INFORMATION)),
    "calibrated twin-information": (calibrated(TWIN_INFORMATION),),
    "generation": (EXPRESSION, EXACT_MATCH, IN_LANGUAGE),
}
PRIMARY = EXPRESSION_INFORMATION  # chapter 02 says how it was named, and what it is worth
METRICS = (PRIMARY, EXPRESSION_NLL, NLL, EXPRESSION, EXACT_MATCH)  # what tables show of a merge


def allowed(benchmark: Benchmark, readings: Iterable[str]) -> tuple[str, ...]:
    """Return those of the readings that the benchmark's items allow, one of them at least; no model is asked.

    >>> from xlnb.corpora.benchmarks import Benchmark, Item
    >>> letters = Item("a", "en", "Which?", options=(" A", " B"), gold=0)
    >>> allowed(Benchmark("letters", "en", "", (letters,), ""), (NLL, CHOICE, EXACT_MATCH))
    ('choice',)
    """
    items = benchmark.items
    solved = [item for item in items if item.completion]
    calculated = any(CALCULATION.search(item.completion) for item in solved)
    answered = [item for item in items if item.answer is not None]
    twins = calculated and all(item.twin_completion for item in solved)
    there = {
        NLL: bool(solved),
        EXPRESSION_NLL: calculated,
        INFORMATION: len(solved) > 1,
        EXPRESSION_INFORMATION: len(solved) > 1 and calculated,
        **dict.fromkeys(TWINS, twins),
        **dict.fromkeys(CHOICES, calculated or any(item.options and item.gold is not None for item in items)),
        CLOSING_NLL: any(item.closing for item in items),
        **{name: bool(answered) for name, reading in READINGS.items() if reading.generates},
        EXPRESSION: any(item.expressions for item in answered),
    }
    fitted = any(CALCULATION.search(item.completion) for item in benchmark.others)
    there |= {new: there[old] and fitted for new, old in CALIBRATED.items()}
    return tuple(reading for reading in readings if there[reading])
