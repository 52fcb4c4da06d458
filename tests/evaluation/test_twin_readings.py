"""Pairs of problems with the same numbers: what the words tell of the calculations, by models and by planted readers."""

import re
from dataclasses import dataclass, field, replace

import pytest
import torch
from lively import lively

from xlnb.corpora import templates
from xlnb.corpora.benchmarks import Benchmark, Item, load_benchmark, templates_benchmark
from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import TWIN_CHOICE, TWIN_INFORMATION, TWINS, allowed
from xlnb.evaluation.scoring import evaluate
from xlnb.evaluation.solutions import expression_tokens, solution_readings
from xlnb.models.base import load_base
from xlnb.models.engine import Engine

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.usefixtures("one_thread")]
each_language = pytest.mark.parametrize("language", templates.LANGUAGES)


@pytest.fixture
def base(miniature):
    """A miniature whose predictions depend strongly on what it reads."""
    return lively(load_base(miniature()))


def some(language, n, split="scored"):
    return templates_benchmark(language, split, n=n, shots=0).items


def read(engine, items, readings=TWINS):
    return solution_readings(engine, engine.prefix(""), items, readings)


# --- of models -------------------------------------------------------------------------------------------


def plain_calculations(base, prompt, completion):
    """The likelihood of each token of the calculations in a completion, alone."""
    before, ids = base.start + base.encode(prompt), base.encode(completion)
    with torch.inference_mode():
        logits = base.model(torch.tensor([before + ids]), use_cache=False).logits[0].double()
    nll = -logits.log_softmax(-1)[len(before) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]
    return nll[torch.tensor(expression_tokens(base, completion))]


def test_what_a_model_tells_of_twins(base):
    items = some("en", 6)
    for item, found in zip(items, read(Engine(base, 4), items), strict=True):
        texts = (item.prompt, item.twin_prompt)
        own, own_behind_twin = (plain_calculations(base, text, item.completion) for text in texts)
        twin_behind_own, twin = (plain_calculations(base, text, item.twin_completion) for text in texts)
        assert list(found) == list(TWINS)
        assert found[TWIN_INFORMATION] == pytest.approx((own_behind_twin.mean() - own.mean()).item(), abs=1e-4)
        assert abs(found[TWIN_INFORMATION]) > 1e-3
        assert found[TWIN_CHOICE] == (own.sum() < twin_behind_own.sum() and twin.sum() < own_behind_twin.sum())


@each_language
def test_twins_in_equal_words_tell_nothing(base, language):
    items = [replace(item, twin_prompt=item.prompt) for item in some(language, 5)]
    for found in read(Engine(base, 2), items):
        assert found == {TWIN_INFORMATION: pytest.approx(0, abs=1e-5), TWIN_CHOICE: 0}


def test_neither_order_nor_batches_matter(base):
    items = some("en", 7)
    plain = read(Engine(base, 7), items)
    for order, batch_size in (((6, 2, 0, 5, 1, 3, 4), 7), (range(7), 1), ((3, 1, 0, 2, 6, 4, 5), 2)):
        found = read(Engine(base, batch_size), [items[i] for i in order])
        for metric in TWINS:
            assert [one[metric] for one in found] == pytest.approx([plain[i][metric] for i in order], abs=1e-4)


def test_a_reading_of_twins_does_not_depend_on_what_else_is_read(base):
    items = some("en", 3)
    alone = [one[TWIN_INFORMATION] for one in read(Engine(base), items, (TWIN_INFORMATION,))]
    every = read(Engine(base), items, ("nll", "choice", TWIN_CHOICE, TWIN_INFORMATION, "information"))
    assert [one[TWIN_INFORMATION] for one in every] == pytest.approx(alone, abs=1e-4)
    assert list(every[0]) == ["nll", "choice", TWIN_CHOICE, TWIN_INFORMATION, "information"]


@dataclass(frozen=True)
class Counting(Engine):
    """Counts the texts that it is asked about, and the tokens behind them."""

    calls: list = field(default_factory=list)

    def nll(self, prefix, rows, branches=None, temperatures=(1.0,), what=""):
        behind = [len(c) + sum(len(b.ids) for b in own) for (_, c), own in zip(rows, branches, strict=True)]
        self.calls.append((len(rows), sum(behind)))
        return super().nll(prefix, rows, branches, temperatures, what)


def test_pairs_are_read_as_each_alone_by_half_the_texts(base):
    every = ("nll", "expression-nll", "information", "expression-information", *TWINS)
    pairs = templates_benchmark("sw", n=8, shots=0, twins=True).items
    single = some("sw", 4)
    assert [item.id for item in pairs[::2]] == [item.id for item in single]
    assert [item.id for item in pairs[1::2]] == [f"{item.id}-twin" for item in single]
    assert [(i.prompt, i.completion) for i in pairs[1::2]] == [(i.twin_prompt, i.twin_completion) for i in single]
    engine = Counting(base)
    together = read(engine, pairs, every)
    apart = [read(engine, [item], TWINS)[0] for item in pairs]
    (rows, _), *others = engine.calls
    assert (rows, sum(n for n, _ in others)) == (8, 16)
    for one, other in zip(together, apart, strict=True):
        assert set(one) == set(every)
        assert {metric: one[metric] for metric in TWINS} == pytest.approx(other, abs=1e-4)
    for one, other in zip(together[::2], together[1::2], strict=True):
        assert one[TWIN_CHOICE] == other[TWIN_CHOICE], "a pair is told apart, or not"


def test_nothing_after_the_last_calculation_is_scored_where_calculations_count(base):
    items, engine = some("en", 4), Counting(base)
    calculations = read(engine, items, ("expression-information", *TWINS))
    whole = read(engine, items, ("information", "expression-information", *TWINS))
    (_, fewer), (_, more) = engine.calls
    assert fewer < more
    for one, other in zip(calculations, whole, strict=True):
        assert one == pytest.approx({metric: other[metric] for metric in one}, abs=1e-4)


# --- of planted readers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted(Engine):
    """Finds the tokens of a completion as likely as ``rule`` says: of prompt, completion and whether they calculate.

    A completion may be cut off after its last calculation: the rule sees the whole one, among ``solutions``.
    """

    rule: object = None
    solutions: tuple[str, ...] = ()

    def nll(self, prefix, rows, branches=None, temperatures=(1.0,), what=""):
        return [
            [self.planted(*map(self.base.decode, (prompt, ids))) for ids in (completion, *(b.ids for b in own))]
            for (prompt, completion), own in zip(rows, branches, strict=True)
        ]

    def planted(self, prompt, asked):
        completion = next((whole for whole in self.solutions if whole.startswith(asked)), asked)
        marked = expression_tokens(self.base, completion)[: len(self.base.encode(asked))]
        return torch.tensor([[self.rule(prompt, completion, inside) for inside in marked]])


def solutions(items):
    return {(i.prompt, i.completion) for i in items} | {(i.twin_prompt, i.twin_completion) for i in items}


def planted(base, items, rule):
    found = read(Planted(base, rule=rule, solutions=tuple(c for _, c in solutions(items))), items)
    return tuple([one[metric] for one in found] for metric in TWINS)


@each_language
@pytest.mark.parametrize("split", templates.WITH_TWINS)
def test_who_knows_the_words_tells_all_twins_apart(base, language, split):
    items = some(language, 12, split)
    known = solutions(items)
    information, choice = planted(base, items, lambda p, c, inside: 0.25 if (p, c) in known else 2.0)
    assert information == [1.75] * 12 and choice == [1] * 12


@each_language
@pytest.mark.parametrize("split", templates.WITH_TWINS)
def test_who_sees_only_the_numbers_tells_none_apart(base, language, split):
    items, seen = some(language, 12, split), {}

    def by_numbers(prompt, completion, inside):
        numbers = tuple(sorted(re.findall(r"\d+", prompt)))
        return 0.5 + seen.setdefault((numbers, completion, inside), len(seen)) / 8

    information, choice = planted(base, items, by_numbers)
    assert information == [0] * 12 and choice == [0] * 12
    assert len(seen) == 12 * 4, "each pair's numbers, both completions, calculations or not"


def test_who_prefers_one_calculation_whatever_is_asked_tells_none_apart(base):
    items = some("en", 6)
    mine = {item.completion for item in items}
    for preferred in (True, False):
        information, choice = planted(base, items, lambda p, c, inside: 0.25 if (c in mine) == preferred else 2.0)  # noqa: B023
        assert information == choice == [0] * 6


def test_words_of_a_solution_that_are_copied_from_its_text_do_not_count(base):
    items = some("sw", 6)
    known = solutions(items)
    information, choice = planted(base, items, lambda p, c, inside: 1.0 if inside else 0.25 if (p, c) in known else 2.0)
    assert information == choice == [0] * 6


def test_who_takes_each_text_for_its_twins_is_wrong_throughout(base):
    items = some("en", 6)
    known = solutions(items)
    information, choice = planted(base, items, lambda p, c, inside: 2.0 if (p, c) in known else 0.25)
    assert information == [-1.75] * 6 and choice == [0] * 6


# --- where they are allowed ------------------------------------------------------------------------------

SOLVED = Item("s", "en", "Why?\nAnswer:", completion=" 12 + 5 = 17.", group="sums")
PAIRED = replace(SOLVED, id="t", twin_prompt="Why not?\nAnswer:", twin_completion=" 12 - 5 = 7.", group="differences")
UNCALCULATED = replace(PAIRED, id="u", completion=" Seventeen.")


def benchmark(*items):
    return Benchmark("b", "en", "", items, "")


@pytest.mark.parametrize(
    "asked",
    [
        benchmark(SOLVED),
        benchmark(PAIRED, SOLVED),
        benchmark(UNCALCULATED),
        templates_benchmark("sw", "few-shot", n=4, shots=0),
        templates_benchmark("sw", "train", n=4, shots=0),
        load_benchmark("prose", "sw", n=4),
    ],
    ids=["no twin", "not each", "no calculation", "few-shot", "train", "prose"],
)
def test_no_twins_no_reading_of_them(base, asked):
    assert allowed(asked, TWINS) == ()
    with pytest.raises(RequestError, match="allows none of the readings twin-information, twin-choice"):
        evaluate(base, asked, Evaluation(readings=TWINS))


def test_a_solution_without_calculations_has_no_row(base):
    asked = benchmark(PAIRED, UNCALCULATED)
    assert allowed(asked, TWINS) == TWINS
    rows = evaluate(base, asked, Evaluation(readings=TWINS))
    assert list(rows["problem"]) == ["t", "t"] and list(rows["metric"]) == list(TWINS)
    assert [list(one) for one in read(Engine(base), (SOLVED, PAIRED, UNCALCULATED))] == [[], list(TWINS), []]


@each_language
@pytest.mark.parametrize("split", templates.WITH_TWINS)
def test_word_problems_have_twins(language, split):
    asked = templates_benchmark(language, split, n=8, shots=0)
    assert allowed(asked, TWINS) == TWINS
    others = templates.twins(language, split, 8)
    assert [item.twin_completion for item in asked.items] == list(map(templates.completion, others))
    for change in ({"twin_prompt": "?"}, {"twin_completion": " 1 + 1 = 2."}):
        items = (replace(asked.items[0], **change), *asked.items[1:])
        assert replace(asked, items=items).fingerprint != asked.fingerprint
