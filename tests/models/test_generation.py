"""The stream of answers: joined and left in the middle, nothing copied, and vLLM in its place (a stand-in here).

That answers are the plain greedy ones, family by family, is told in tests/evaluation/test_evaluation.py.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lively import lively
from transformers import AutoModelForCausalLM

from xlnb.models import generation
from xlnb.models.base import load_base
from xlnb.models.engine import Engine
from xlnb.models.generation import WORTH_VLLM, answers, by_vllm, streamed
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector

TEXTS = ("Q: 5?\nA:", "Q\nA:", "2", "Two and", "How many spoons", "9 - 4", "She has 12 + 5", "The answer")


@pytest.fixture
def base(miniature):
    return lively(load_base(miniature()))


def forwards(base, monkeypatch):
    """The rows of every pass through the model since."""
    rows, plain = [], base.model.forward
    monkeypatch.setattr(base.model, "forward", lambda *a, **k: (rows.append(len(k["input_ids"])), plain(*a, **k))[1])
    return rows


def test_the_next_prompt_takes_the_place_of_a_finished_answer(base, monkeypatch):
    engine, prompts = Engine(base, generation_batch_size=2), [base.encode(text) for text in TEXTS]
    prefix = engine.prefix("")
    free = streamed(engine, prefix, prompts, 12, [])
    assert {len(ids) for ids in free} == {12}
    asked = {"".join(map(str, ids)): ids for ids in free}
    assert len(asked) > 4, "answers alike would prove little"
    # One answer goes on to the end, all others end at once: two rows are all the time at work.
    lasting = next(iter(asked.values()))
    base.__dict__["end_ids"] = sorted({ids[0] for ids in free} - {*lasting})
    short = [ids[: next((i + 1 for i, t in enumerate(ids) if t in base.end_ids), 12)] for ids in free]
    assert sum(map(len, short)) < 0.7 * sum(map(len, free))
    rows = forwards(base, monkeypatch)
    assert streamed(engine, prefix, prompts, 12, []) == short
    assert max(rows) <= 2
    batches = [short[i : i + 2] for i in range(0, len(short), 2)]
    one_after_the_other = sum(max(map(len, batch)) for batch in batches)
    assert sum(map(len, short)) == sum(rows), "no row is computed that nobody waits for"
    assert len(rows) < one_after_the_other + len(batches)


def test_a_token_more_copies_nothing_of_what_stands_before_it(base, monkeypatch):
    engine, places = Engine(base), []
    prefix, plain = engine.prefix("Some text."), base.model.forward

    def seen(*arguments, **named):
        layers = getattr(named["past_key_values"], "layers", [])
        places.append({layer.keys.untyped_storage().data_ptr() for layer in layers if layer.is_initialized})
        return plain(*arguments, **named)

    monkeypatch.setattr(base.model, "forward", seen)
    streamed(engine, prefix, [base.encode("Two and")] * 3, 8, [])
    _, first, *others = places  # after the prompts
    assert len(others) == 6 and all(there == first for there in others)


def test_columns_that_nobody_sees_any_more_are_dropped(base, monkeypatch):
    """However many prompts follow one another in one place, a row stays as wide as one text with its answer."""
    engine, widths = Engine(base, generation_batch_size=2), []
    prefix, plain = engine.prefix(""), base.model.forward
    monkeypatch.setattr(
        base.model, "forward", lambda *a, **k: (widths.append(k["attention_mask"].shape[1]), plain(*a, **k))[1]
    )
    prompts = [base.encode(text) for text in TEXTS * 3]
    streamed(engine, prefix, prompts, 6, [])
    assert max(widths) <= len(prefix.ids) + max(map(len, prompts)) + 6


# --- vLLM ------------------------------------------------------------------------------------------------


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for vLLM, which reads the folder that it is given and answers by transformers; what it was asked."""
    asked = []

    class LLM:
        def __init__(self, model, dtype, **options):
            self.model, self.folder = AutoModelForCausalLM.from_pretrained(model, dtype=dtype), Path(model)
            asked.append(options | {"folder": self.folder, "dtype": dtype})

        def generate(self, prompts, params):
            asked.append({"prompts": prompts, **vars(params)})
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=self._one(p, params))]) for p in prompts]

        def _one(self, prompt, params):
            ids = torch.tensor([prompt["prompt_token_ids"]])
            options = {"max_new_tokens": params.max_tokens, "eos_token_id": params.stop_token_ids, "do_sample": False}
            return tuple(self.model.generate(ids, pad_token_id=0, **options)[0, ids.shape[1] :].tolist())

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=SimpleNamespace))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # which is left as it was
    return asked


def test_vllm_serves_the_merge_and_says_what_our_loop_says(base, vllm):
    engine, prompts = Engine(base), [base.encode(text) for text in TEXTS]
    prefix = engine.prefix("Some text before.")
    plain = streamed(engine, prefix, prompts, 8, ["\n"])
    name, weight = next((n, p) for n, p in base.model.named_parameters() if n.endswith("layers.3.mlp.down_proj.weight"))
    update = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    merge = TaskVector({name: lambda: update})
    with applied(base.model, merge):
        prefix = engine.prefix("Some text before.")  # anew: what is kept of a text is the model's that read it
        ours, theirs = (ask(engine, prefix, prompts, 8, ["\n"]) for ask in (streamed, by_vllm))
    assert theirs == ours != plain
    options, told = vllm
    assert not options["folder"].exists(), "the served weights are dropped"
    assert options["dtype"] == "float32" and options["max_model_len"] == max(map(len, prompts)) + len(prefix.ids) + 8
    assert [one["prompt_token_ids"] for one in told["prompts"]] == [prefix.ids + prompt for prompt in prompts]
    assert told["temperature"] == 0 and told["stop_token_ids"] == base.stop_ids and told["max_tokens"] == 8
    by_vllm(engine, prefix, prompts[:1], 8, ["\nQuestion:"])
    assert vllm[-1]["stop_token_ids"] == base.end_ids, "an answer of many lines does not end at the first"


@pytest.mark.parametrize(
    ("device", "parameters", "there", "chosen"),
    [
        ("cuda", WORTH_VLLM, True, "vllm"),
        ("cuda", WORTH_VLLM, False, "ours"),
        ("cuda", WORTH_VLLM - 1, True, "ours"),
        ("cpu", WORTH_VLLM, True, "ours"),
    ],
)
def test_vllm_is_taken_on_a_gpu_where_it_is_and_where_it_pays(monkeypatch, device, parameters, there, chosen):
    base = SimpleNamespace(
        device=torch.device(device),
        model=SimpleNamespace(num_parameters=lambda: parameters),
        decode=lambda ids: f"{ids} it is\nand more",
    )
    monkeypatch.setattr(generation, "find_spec", lambda name: there if name == "vllm" else None)
    monkeypatch.setattr(generation, "by_vllm", lambda *_: ["vllm"])
    monkeypatch.setattr(generation, "streamed", lambda *_: ["ours"])
    assert answers(SimpleNamespace(base=base), None, [[1]], 5) == [f"{chosen} it is"]
