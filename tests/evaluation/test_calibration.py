"""Temperatures: likelihoods at one, the one that fits, and readings that do not depend on how sure a model is of itself."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy
from trainings import train_expert

from xlnb.corpora import templates
from xlnb.corpora.benchmarks import Benchmark, Item, load_benchmark, templates_benchmark
from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import CALIBRATED, LIKELIHOODS, READINGS, TWIN_INFORMATION, VALIDATED, allowed, calibrated
from xlnb.evaluation.scoring import evaluate
from xlnb.evaluation.solutions import expression_tokens, solution_readings, temperature
from xlnb.models.base import load_base
from xlnb.models.engine import Branch, Engine
from xlnb.training.sft import Training
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.usefixtures("one_thread")]
PLAIN = tuple(CALIBRATED.values())
EVERY = (*PLAIN, *CALIBRATED)


@pytest.fixture(scope="module")
def learned(miniature, tmp_path_factory):
    """What a miniature learned of English problems."""
    training = Training(steps=24, batch_size=4, learning_rate=1e-2, rank=8, max_length=1024)
    base = load_base(miniature("llama"))
    examples = templates.math_examples("en", "train", 48)
    return TaskVector.of_expert(
        train_expert(base, examples, training, 0, tmp_path_factory.mktemp("learned") / "e"), base.folder
    )


@pytest.fixture
def base(miniature, learned):
    """A model that has learned something, and whose best temperature is none of the limits."""
    base = load_base(miniature("llama"))
    surer(base, 8)
    with applied(base.model, learned):
        yield base


@pytest.fixture(scope="module")
def asked():
    return templates_benchmark("en", n=4, shots=0)


def surer(base, factor):
    """Make a model ``factor`` times as sure of itself: of the same mind, and its logits so many times as far apart."""
    return base.model.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits * factor)


def plain_logits(base, before, ids):
    with torch.inference_mode():
        return base.model(torch.tensor([before + ids]), use_cache=False).logits[0, len(before) - 1 : -1].double()


def plain_nll(base, before, ids, temperature):
    """Each token's likelihood at a temperature: one row, no cache, no trimmed logits."""
    return cross_entropy(plain_logits(base, before, ids) / temperature, torch.tensor(ids), reduction="none")


def encoded(base, items):
    return [(base.encode(item.prompt), base.encode(item.completion)) for item in items]


# --- the engine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branching", [False, True])
@pytest.mark.parametrize("degree", [0.5, 3.0])
@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_a_likelihood_at_a_temperature(miniature, family, degree, branching):
    base = load_base(miniature(family))
    surer(base, 20)
    rows = [(base.encode(p), base.encode(c)) for p, c in (("Q: a\nA:", " 12 + 5 = 17."), ("Q: longer\nA:", " x"))]
    branches = [[Branch(1, base.encode("12 - 5 =")), Branch(0, base.encode(" no"))], [Branch(0, base.encode(" y"))]]
    for text in ("", "Some text before. ", "Text beyond a sliding window. " * 20):
        engine = Engine(base)
        prefix = engine.prefix(text)
        found = engine.nll(prefix, rows, branches if branching else None, [1.0, degree])
        for (prompt, completion), own, (tokens, *others) in zip(rows, branches, found, strict=True):
            before = prefix.ids + prompt
            plain, expected = (plain_nll(base, before, completion, one) for one in (1.0, degree))
            assert tokens[0].tolist() == pytest.approx(plain.tolist(), abs=1e-3)
            assert tokens[1].tolist() == pytest.approx(expected.tolist(), abs=1e-3)
            assert (expected - plain).abs().max() > 0.1
            assert len(others) == (len(own) if branching else 0)
            for branch, scored in zip(own, others, strict=False):
                alone = plain_nll(base, before + completion[: branch.at], branch.ids, degree)
                assert scored[1].tolist() == pytest.approx(alone.tolist(), abs=1e-3)


@pytest.mark.parametrize("repeated", [1, 40])  # the second is beyond the sliding window
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_logits_are_those_of_the_wanted_tokens(base, asked, batch_size, repeated):
    items = sorted(asked.items, key=lambda item: len(base.encode(item.prompt + item.completion)))  # as batches are
    engine = Engine(base, batch_size)
    prefix, rows = engine.prefix("Some text before. " * repeated), encoded(base, items)
    wanted = [expression_tokens(base, item.completion) for item in items]
    logits, targets = engine.logits(prefix, rows, wanted)
    assert base.decode(targets.tolist()) == "".join(expression for item in items for expression in item.expressions)
    alone = [plain_logits(base, prefix.ids + p, c)[w] for (p, c), w in zip(rows, wanted, strict=True)]
    assert torch.allclose(logits.double(), torch.cat(alone), atol=1e-3)  # as the model has them


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("branching", [False, True])
def test_batches_side_by_side_have_the_same_numbers(miniature, asked, dtype, branching):
    base = load_base(miniature("gemma3"), dtype=dtype)
    engine, rows = Engine(base, 1), encoded(base, asked.items)
    branches = [[Branch(0, base.encode(" no"))] for _ in rows] if branching else None
    wanted = [expression_tokens(base, item.completion) for item in asked.items]
    prefix, found = engine.prefix("Some text before. "), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        likelihoods = engine.nll(prefix, rows, branches, [1.0, 2.0])
        found.append([part for parts in likelihoods for part in parts] + list(engine.logits(prefix, rows, wanted)))
    torch.set_num_threads(1)
    assert len(found[0]) > len(rows)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) and not other.requires_grad


# --- the temperature that fits ---------------------------------------------------------------------------


def test_the_calculations_are_likeliest_at_the_fitted_temperature(base, asked):
    engine = Engine(base)
    prefix, rows = engine.prefix(""), encoded(base, asked.others)
    marked = [expression_tokens(base, item.completion) for item in asked.others]
    alone = torch.cat([plain_logits(base, prefix.ids + p, c)[m] for (p, c), m in zip(rows, marked, strict=True)])
    targets = torch.tensor(
        [i for (_, c), m in zip(rows, marked, strict=True) for i, there in zip(c, m, strict=True) if there]
    )
    best = temperature(engine, prefix, asked.others)
    at_best, colder, hotter = (cross_entropy(alone / (best * change), targets).item() for change in (1, 0.9, 1 / 0.9))
    assert at_best < min(colder, hotter)
    assert 0.2 < best < 5, "at a limit this test would prove little"


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_planted_temperature_is_found(base, asked, factor):
    engine = Engine(base)
    before = temperature(engine, engine.prefix(""), asked.others)
    surer(base, factor)
    assert temperature(engine, engine.prefix(""), asked.others) == pytest.approx(factor * before, rel=0.02)


def test_a_model_that_is_surely_wrong_gets_the_highest_temperature(miniature, asked):
    base = load_base(miniature("llama"))  # nothing learned
    surer(base, 200)
    assert 7.9 < temperature(Engine(base), Engine(base).prefix(""), asked.others) <= 8


def test_calibrated_readings_are_the_plain_ones_at_the_fitted_temperature(base, asked):
    engine = Engine(base)
    prefix = engine.prefix("")
    best = temperature(engine, prefix, asked.others)
    found = solution_readings(engine, prefix, asked.items, EVERY, asked.others)
    surer(base, 1 / best)
    at_best = solution_readings(engine, engine.prefix(""), asked.items, PLAIN)
    surer(base, best)
    for item, one, other in zip(asked.items, found, at_best, strict=True):
        assert list(one) == list(EVERY)
        assert [one[calibrated(reading)] for reading in PLAIN] == pytest.approx(
            [other[reading] for reading in PLAIN], abs=1e-5
        )
        nll = plain_nll(base, prefix.ids + base.encode(item.prompt), base.encode(item.completion), best)
        assert one["calibrated-nll"] == pytest.approx(nll.mean().item(), abs=1e-4)
        own = nll[torch.tensor(expression_tokens(base, item.completion))].mean()
        assert one["calibrated-expression-nll"] == pytest.approx(own.item(), abs=1e-4)
        assert abs(one["calibrated-nll"] - one["nll"]) > 1e-3


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_how_sure_a_model_is_changes_the_plain_readings_and_no_calibrated_one(base, asked, factor):
    settings = Evaluation(problems=4, generated=0, shots=0, readings=EVERY)
    before = evaluate(base, asked, settings)
    surer(base, factor)
    after = evaluate(base, asked, settings)
    assert set(before["metric"]) == set(EVERY)
    change = (after["outcome"] - before["outcome"]).abs().groupby(before["metric"]).max()
    # The fit ends within a hundredth of an octave, so the two are alike but for that.
    assert all(change[new] < 0.03 and change[old] > 5 * change[new] for new, old in CALIBRATED.items()), change


def test_a_calibrated_reading_does_not_depend_on_what_else_is_read(base, asked):
    alone = solution_readings(Engine(base), Engine(base).prefix(""), asked.items, ("calibrated-nll",), asked.others)
    every = solution_readings(Engine(base), Engine(base).prefix(""), asked.items, EVERY, asked.others)
    assert [list(one) for one in alone] == [["calibrated-nll"]] * len(asked.items)
    expected = [one["calibrated-nll"] for one in every]
    assert [one["calibrated-nll"] for one in alone] == pytest.approx(expected, abs=1e-5)


# --- where it is allowed ---------------------------------------------------------------------------------


def test_no_temperature_without_other_problems(base, asked):
    bare = replace(asked, others=())
    assert allowed(bare, EVERY) == PLAIN
    assert allowed(asked, EVERY) == EVERY
    assert allowed(load_benchmark("prose", "sw", n=3), EVERY) == ("nll", "information")
    with pytest.raises(RequestError, match="allows none of the readings calibrated-nll"):
        evaluate(base, bare, Evaluation(readings=("calibrated-nll",)))


def test_no_temperature_without_calculations_in_the_other_problems(asked):
    others = (Item("o", "en", "Why?\nAnswer:", completion=" Because."),)
    assert allowed(replace(asked, others=others), EVERY) == PLAIN


@pytest.mark.parametrize("split", templates.SPLITS)
def test_the_fit_sees_no_problem_that_is_asked(split):
    asked = templates_benchmark("sw", split, n=24, shots=0)
    prompts = {prompt for item in asked.items for prompt in (item.prompt, item.twin_prompt)}
    assert len(asked.others) == 48 and not {item.prompt for item in asked.others} & prompts
    assert asked.fingerprint != replace(asked, others=asked.others[1:]).fingerprint


def test_a_calibrated_reading_is_told_as_such():
    assert set(CALIBRATED) <= set(READINGS) and set(CALIBRATED.values()) >= {*LIKELIHOODS, TWIN_INFORMATION}
    assert set(CALIBRATED) <= set(VALIDATED)
    for new, old in CALIBRATED.items():
        assert READINGS[new].title == f"{READINGS[old].title}, calibrated"
        assert (READINGS[new].unit, READINGS[new].higher_is_better, READINGS[new].generates) == (
            READINGS[old].unit, READINGS[old].higher_is_better, False,
        )  # fmt: skip


def test_a_benchmark_knows_its_others():
    item = Item("a", "en", "?", completion=" 1 + 1 = 2")
    one, two = Benchmark("b", "en", "", (item, item), ""), Benchmark("b", "en", "", (item,), "", (item,))
    assert one.fingerprint != two.fingerprint
