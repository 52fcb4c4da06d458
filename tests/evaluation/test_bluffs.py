"""Bluffs: what they get is what the code of the readings makes of their likelihoods, and the twins find them out."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from xlnb.corpora import templates
from xlnb.corpora.benchmarks import templates_benchmark
from xlnb.errors import RequestError
from xlnb.evaluation import bluffs as module
from xlnb.evaluation.answers import CALCULATION
from xlnb.evaluation.bluffs import METRICS, READERS, bluffs, lessons, outcomes, pages, parts
from xlnb.evaluation.readings import (
    CALIBRATED,
    CHOICE,
    EXPRESSION_INFORMATION,
    EXPRESSION_NLL,
    TWIN_CHOICE,
    TWIN_INFORMATION,
)
from xlnb.evaluation.solutions import solution_readings

NUMBERS, SURE, COIN, UNDERSTANDS = (
    "numbers alone",
    "numbers alone, twice as sure",
    "a coin with perfect arithmetic",
    "who understands",
)
TEXTLESS = (NUMBERS, SURE, "always adds", "copies the worked examples", "places of the numbers")


@pytest.fixture(scope="module", params=["sw", "en"])
def found(request):
    return bluffs(request.param, n=48).set_index(["reader", "metric"])


@pytest.fixture(scope="module")
def asked():
    benchmark = templates_benchmark("sw", "development", 24)
    items, others = benchmark.items[:10], benchmark.others[:12]
    return items, others, lessons("sw", (*items, *others), benchmark.prefix)


# --- the readings are those of the code -------------------------------------------------------------------


class Words:
    """A tokenizer whose tokens are numbers and what stands between them, so that a calculation has three."""

    def __init__(self):
        self.known = {}
        self.model = None
        self.tokenizer = lambda text, **_: SimpleNamespace(
            offset_mapping=[m.span() for m in re.finditer(r"\d+|\D+", text)]
        )

    def encode(self, text):
        return [self.known.setdefault(token, len(self.known)) for token in re.findall(r"\d+|\D+", text)]

    def decode(self, ids):
        tokens = list(self.known)
        return "".join(tokens[i] for i in ids)


@dataclass(frozen=True)
class Bluffing:
    """An engine in which a reader stands for the model: of tokens outside calculations it is certain."""

    base: Words
    reader: module.Reader
    learned: module.Lessons
    solutions: tuple[str, ...]  # whole ones: after its last calculation a solution may be cut off

    def parts(self, text, solution):
        before = pages(text, solution)
        return [
            part
            for page, gold in before
            for part in parts(self.reader, self.reader.weigh(self.learned, page), page, gold)
        ]

    def tokens(self, prompt, completion, degree):
        asked = self.base.decode(completion)
        solution = next((whole for whole in self.solutions if whole.startswith(asked)), asked)
        spans = [m.span() for m in CALCULATION.finditer(solution)]
        nll = iter(part.nll(1 / degree) for part in self.parts(self.base.decode(prompt), solution))
        offsets = self.base.tokenizer(solution).offset_mapping
        inside = [any(first <= start and stop <= last for first, last in spans) for start, stop in offsets]
        found = [next(nll) if one else 0.0 for one in inside]
        return torch.tensor(found[: len(completion)], dtype=torch.float64)

    def nll(self, prefix, rows, branches, temperatures=(1.0,), what=""):
        def scored(prompt, ids, first=0):
            return torch.stack([self.tokens(prompt, ids, degree)[first:] for degree in temperatures])

        return [
            [scored(prompt, ids), *(scored(prompt, [*ids[: one.at], *one.ids], one.at) for one in own)]
            for (prompt, ids), own in zip(rows, branches, strict=True)
        ]

    def logits(self, prefix, rows, marked):
        read = [part for row in rows for part in self.parts(*map(self.base.decode, row))]
        logits, targets = (
            torch.full((len(read), 1201), -torch.inf, dtype=torch.float64),
            torch.zeros(len(read), dtype=torch.long),
        )
        for row, part in zip(logits, read, strict=True):  # the gold one, the others thought of, those not thought of
            thought = sorted(part.thought, key=lambda p: abs(p - part.chance))
            known = thought if part.chance in thought else [part.chance, *thought]
            chances = [*known, *[part.floor] * (part.others - (part.chance not in thought))]
            row[: len(chances)] = torch.tensor(chances, dtype=torch.float64).log()
        return logits, targets


@pytest.mark.parametrize("name", READERS)
def test_readings_are_what_the_code_makes_of_a_readers_likelihoods(asked, name):
    items, others, learned = asked
    solutions = [solution for item in items for solution in (item.completion, item.twin_completion)]
    engine = Bluffing(Words(), READERS[name], learned, tuple(solutions))
    expected = solution_readings(engine, None, items, METRICS, others)
    for ours, theirs in zip(outcomes(READERS[name], learned, items, others), expected, strict=True):
        assert set(ours) == set(theirs) == set(METRICS)
        for metric in METRICS:
            # Whoever is never wrong about numbers is fitted by every low temperature: which one is found is chance.
            loose = (
                {"rel": 0.1 if name in (NUMBERS, SURE) else 0, "abs": 0.02} if metric in CALIBRATED else {"abs": 1e-6}
            )
            assert ours[metric] == pytest.approx(theirs[metric], **loose), metric


@pytest.mark.parametrize("name", READERS)
def test_chances_of_a_part_add_up(asked, name):
    items, _, learned = asked
    for item, text in itertools.product(items[:4], ("prompt", "twin_prompt")):
        for page, gold in pages(getattr(item, text), item.completion):
            for part in parts(READERS[name], READERS[name].weigh(learned, page), page, gold):
                assert sum(part.thought) + part.others * part.floor == pytest.approx(1)
                assert part.chance in (*part.thought, part.floor)


# --- who gets what ----------------------------------------------------------------------------------------


def test_who_does_not_read_the_words_tells_no_twins_apart(found):
    for name in TEXTLESS:
        assert (found.loc[name].loc[[TWIN_INFORMATION, TWIN_CHOICE], "value"] == 0).all()


def test_the_one_who_understands_is_ahead_where_words_must_be_understood(found):
    values = found["value"].unstack()
    best = values.drop(UNDERSTANDS).max()
    for metric in (TWIN_INFORMATION, TWIN_CHOICE, CHOICE):
        assert values[metric][UNDERSTANDS] > 2 * best[metric]
    assert values[EXPRESSION_NLL][UNDERSTANDS] < values[EXPRESSION_NLL].drop(UNDERSTANDS).min() / 2


def test_information_is_had_by_numbers_and_more_of_it_by_being_sure(found):
    values = found["value"].unstack()[EXPRESSION_INFORMATION]
    assert values[NUMBERS] > 0.6 * values[UNDERSTANDS]
    assert values[SURE] > values[UNDERSTANDS] and values[SURE] > 1.9 * values[NUMBERS]


def test_a_coin_tells_a_quarter_of_the_twins_apart():
    coin = bluffs("en", readers=[COIN]).set_index("metric").loc[TWIN_CHOICE]
    assert coin["low"] <= 0.25 <= coin["high"] and coin["high"] < 0.4


def test_words_of_a_solution_help_from_the_second_calculation_on(asked):
    items, others, learned = asked
    steps = {item.id: len(item.expressions) for item in items}
    assert {1, 2} <= set(steps.values())
    found = outcomes(READERS["words of the solution"], learned, items, others)
    gained = {item.id: one[TWIN_INFORMATION] for item, one in zip(items, found, strict=True)}
    assert all(gained[name] == 0 for name in gained if steps[name] == 1)
    assert sum(gained.values()) > 0


# --- learning ---------------------------------------------------------------------------------------------


def test_only_the_one_who_understands_sees_asked_problems(asked):
    items, others, learned = asked
    blind = replace(learned, gold={})
    for name in READERS:
        if name != UNDERSTANDS:
            assert outcomes(READERS[name], blind, items, others) == outcomes(READERS[name], learned, items, others)
    texts = {templates.prompt(p) for p in templates.problems("sw", "train", module.TRAINED)}
    assert {text for text, _ in learned.train} == texts and len(learned.examples) == 2


def test_a_word_that_gives_the_operation_away_is_found_and_used(asked):
    learned = asked[-1]
    told = [(f"{'zaidi' if steps[0][1] == '+' else ''} {text}", steps) for text, steps in learned.train]
    assert module.telling_word(replace(learned, train=told)) == "zaidi"


def test_intervals_hold_values_and_all_is_the_same_again(found):
    assert set(found.index) == set(itertools.product(READERS, METRICS))
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    again = [bluffs("te", n=8, readers=[COIN, UNDERSTANDS]) for _ in range(2)]
    assert again[0].equals(again[1])


def test_a_reader_that_is_not_there_is_refused():
    with pytest.raises(RequestError, match="No reader 'letters'"):
        bluffs("sw", n=8, readers=["letters"])
