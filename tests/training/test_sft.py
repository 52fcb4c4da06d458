"""Fine-tuning on miniatures: what is learned from, interruption to the bit, reuse, and refusals."""

import os
import random
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from trainings import stopped_at_its_first_checkpoint, train_expert

from xlnb import artifacts
from xlnb.corpora import Example, templates
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import Base, load_base, trim
from xlnb.training import sft
from xlnb.training.experts import Lesson
from xlnb.training.sft import PROJECTIONS, Training, batch_order
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("own_home")
SHORT = Training(steps=4, batch_size=2, learning_rate=1e-3, rank=4, max_length=1024, checkpoint_every=1)
LONG = replace(SHORT, steps=40, checkpoint_every=3)


@pytest.fixture
def examples():
    return templates.math_examples("en", "train", 8)


@pytest.fixture
def base(miniature):
    return load_base(miniature())


def adapter_bytes(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def counted_steps(monkeypatch):
    """The list of batches of rows that were trained on since."""
    batches = []
    plain = sft.alike
    monkeypatch.setattr(sft, "alike", lambda rows, a_pass: (batches.append(rows), plain(rows, a_pass))[1])
    return batches


# --- what is learned -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_the_loss_is_the_mean_over_completion_tokens(miniature, tmp_path, examples, family):
    base = load_base(miniature(family))
    training = replace(SHORT, steps=1, batch_size=3)
    folder = train_expert(base, examples, training, 0, tmp_path / "expert")
    (step,) = artifacts.read_json(folder / "history.json")
    # LoRA starts at zero, so the first loss is the base's: one example after the other, with Hugging Face's own labels
    total = tokens = 0
    for i in batch_order(len(examples), 3, 1, seed=0)[0]:
        prompt = base.start + base.encode(examples[i].prompt)
        completion = [*base.encode(examples[i].completion), base.eos_id]
        labels = torch.tensor([[-100] * len(prompt) + completion])
        with torch.inference_mode():
            loss = base.model(input_ids=torch.tensor([prompt + completion]), labels=labels).loss
        total += loss.item() * len(completion)
        tokens += len(completion)
    assert step["loss"] == pytest.approx(total / tokens, abs=1e-5)


def test_parts_of_like_lengths_have_the_gradient_of_the_batch(base, tmp_path, examples, monkeypatch):
    norms, gradients, batches = [], [], []
    clip, part = torch.nn.utils.clip_grad_norm_, sft.right_aligned

    def seen(weights, largest):
        gradients.append([w.grad.clone() for w in weights])
        norms.append(clip(weights, largest))
        return norms[-1]

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", seen)
    monkeypatch.setattr(sft, "right_aligned", lambda rows, *a, **k: batches.append(len(rows)) or part(rows, *a, **k))
    mixed = [replace(e, completion=e.completion * (1 + i % 3)) for i, e in enumerate(examples)]
    training = replace(SHORT, steps=1, batch_size=8)
    for a_pass in (0, 10**6):
        monkeypatch.setattr(sft, "_A_PASS", a_pass)
        train_expert(base, mixed, training, 0, tmp_path / str(a_pass))
    *parts, whole = batches
    assert whole == sum(parts) == 8, "all rows, in parts and at once"
    assert len(parts) > 1
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * float(norms[0]))
    losses = [artifacts.read_json(tmp_path / str(a) / "history.json")[0]["loss"] for a in (0, 10**6)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("paradigm", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_side_by_side_have_the_gradient_of_the_batch(
    miniature, tmp_path, examples, monkeypatch, threads, paradigm, dtype
):
    base, rounding = load_base(miniature(), dtype=dtype), 1e-6 if dtype == "float32" else 1e-2
    gradients, under_way, most = [], [], []
    clip, nll = torch.nn.utils.clip_grad_norm_, sft.completion_nll

    def seen(weights, largest):
        gradients.append([None if w.grad is None else w.grad.clone() for w in weights])
        return clip(weights, largest)

    def slow(model, batch):
        under_way.append(len(batch.input_ids))
        most.append((len(under_way), sum(under_way)))
        time.sleep(0.1)
        under_way.pop()
        return nll(model, batch)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", seen)
    monkeypatch.setattr(sft, "completion_nll", slow)
    training = replace(SHORT, steps=1, batch_size=7)
    for name, n, micro_batch in (("one", 1, 0), ("three", 3, 0), ("again", 3, 0), ("small", 3, 2)):
        threads(n)
        most.clear()
        train_expert(base, examples, replace(training, micro_batch=micro_batch), 0, tmp_path / name, paradigm=paradigm)
        assert max(parts for parts, _ in most) == (min(n, micro_batch or n)), "so many at once"
        assert not micro_batch or max(rows for _, rows in most) <= micro_batch
    alone, *others = gradients
    for other in others:
        for one, apart in zip(alone, other, strict=True):
            assert torch.allclose(one, apart, rtol=100 * rounding, atol=rounding * max(float(g.norm()) for g in alone))
    three, again = ((tmp_path / name) for name in ("three", "again"))
    assert [f.read_bytes() for f in three.glob("*.safetensors")] == [
        f.read_bytes() for f in again.glob("*.safetensors")
    ]
    losses = [artifacts.read_json(tmp_path / name / "history.json")[0]["loss"] for name in ("one", "three", "small")]
    assert losses == pytest.approx([losses[0]] * 3, rel=rounding)


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [0, 1, 4])
def test_parts_side_by_side_end_no_later_than_those_of_least_cost(at_once, micro_batch):
    for seed in range(20):
        draw = random.Random(seed)
        rows = [([1] * draw.randint(1, 90), [2] * draw.randint(1, 90)) for _ in range(draw.randint(1, 9))]
        parts = sft._side_by_side(rows, at_once, micro_batch)
        assert sorted(row for part in parts for row in part) == sorted(rows)
        costs = [64 + max(len(p) + len(c) for p, c in part) * len(part) for part in parts]
        assert costs == sorted(costs, reverse=True)
        if micro_batch:
            assert max(map(len, parts)) <= max(1, micro_batch // at_once)
        else:
            plain = [64 + max(len(p) + len(c) for p, c in part) * len(part) for part in sft.alike(rows, 64)]
            assert last_end(costs, at_once) <= last_end(sorted(plain, reverse=True), at_once)


def last_end(costs, at_once):
    ends = [0] * at_once
    for cost in costs:
        ends[ends.index(min(ends))] += cost
    return max(ends)


@pytest.mark.parametrize("a_pass", [0, 7, 64, 10**6])
def test_no_other_parts_cost_less(a_pass):
    rows = [([1] * n, [2]) for n in (3, 90, 40, 41, 39, 3, 7, 88)]
    cost = lambda parts: sum(a_pass + max(map(len_of, part)) * len(part) for part in parts)  # noqa: E731
    len_of = lambda row: len(row[0]) + len(row[1])  # noqa: E731
    found = sft.alike(rows, a_pass)
    assert sorted(row for part in found for row in part) == sorted(rows)
    ordered = sorted(rows, key=len_of)
    for cuts in range(2 ** (len(rows) - 1)):  # every way to cut the rows in order
        parts, at = [], 0
        for i in range(1, len(rows) + 1):
            if i == len(rows) or cuts >> (i - 1) & 1:
                parts, at = [*parts, ordered[at:i]], i
        assert cost(found) <= cost(parts)


@pytest.mark.parametrize(("family", "paradigm"), [("gemma3", "lora"), ("llama", "full"), ("cohere", "lora")])
@pytest.mark.parametrize("change", [{"micro_batch": 1}, {"micro_batch": 2, "checkpointing": True}])
def test_memory_is_saved_without_another_result(miniature, tmp_path, examples, family, paradigm, change, monkeypatch):
    sizes, part = [], sft.right_aligned
    monkeypatch.setattr(sft, "right_aligned", lambda rows, *a, **k: (sizes.append(len(rows)), part(rows, *a, **k))[1])
    base = load_base(miniature(family))
    once_more = [0]
    base.model.get_decoder().layers[0].input_layernorm.register_forward_hook(lambda *_: once_more.append(1))
    training = replace(SHORT, steps=3, batch_size=4)
    lesson, histories, passes = [Lesson(tuple(examples), 3)], [], []
    for name, settings in {"plain": training, "eased": replace(training, **change)}.items():
        sizes.clear(), once_more.clear()
        folder = sft.train_expert(base, lesson, settings, 0, tmp_path / name, settings.spec(), paradigm=paradigm)
        histories.append([step["loss"] for step in artifacts.read_json(folder / "history.json")])
        passes.append(len(once_more) / len(sizes))
        assert max(sizes) <= (settings.micro_batch or 4)
    assert histories[1] == pytest.approx(histories[0], abs=2e-5)
    assert passes == [1, 2 if "checkpointing" in change else 1]
    assert training.spec() == replace(training, **change).spec()
    assert not any(layer.gradient_checkpointing for layer in base.model.get_decoder().layers)


def test_compiled_layers_learn_the_same(base, tmp_path, examples, monkeypatch):
    compiled, plain = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: (compiled.append(1), plain(*a, **k, backend="eager"))[1])
    losses = []
    for name, training in {"plain": SHORT, "compiled": replace(SHORT, compiled=True)}.items():
        folder = train_expert(base, examples, training, 0, tmp_path / name)
        losses.append([step["loss"] for step in artifacts.read_json(folder / "history.json")])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert len(compiled) == base.depth
    assert all(layer._compiled_call_impl is None for layer in base.model.get_decoder().layers)


def test_the_prompt_is_read_but_not_learned(base, tmp_path, monkeypatch):
    batches, plain = [], sft.completion_nll
    monkeypatch.setattr(sft, "completion_nll", lambda model, batch: (batches.append(batch), plain(model, batch))[1])
    pairs = [Example(f"prompt {i}:", " yes") for i in range(4)]
    train_expert(base, pairs, SHORT, 0, tmp_path / "expert")
    assert batches
    for batch in batches:
        for labels, ids in zip(batch.labels, batch.input_ids, strict=True):
            assert base.decode(labels[labels >= 0]) == " yes"
            assert labels[-1] == base.eos_id
            assert base.decode(ids).startswith("prompt ")


def test_training_lowers_the_loss(base, tmp_path):
    pairs = [Example(f"{i} ", "abc") for i in range(4)]
    folder = train_expert(base, pairs, replace(SHORT, steps=30, learning_rate=1e-2), 0, tmp_path / "expert")
    history = artifacts.read_json(folder / "history.json")
    assert [row["step"] for row in history] == list(range(30))
    assert history[-1]["loss"] < history[0]["loss"] - 0.2


def test_the_rate_rises_and_falls():
    training = Training(steps=100, warmup=0.1, learning_rate=2e-4)
    rates = [training.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(2e-5)
    assert max(rates) == rates[9] == rates[10] == 2e-4
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-6
    assert rates[55] == pytest.approx(1e-4)


def test_the_rate_of_the_history_is_the_schedule(base, tmp_path, examples):
    folder = train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    history = artifacts.read_json(folder / "history.json")
    assert [row["rate"] for row in history] == [SHORT.rate(step) for step in range(4)]


def test_batches_go_through_the_examples_in_shuffled_epochs():
    order = [i for batch in batch_order(10, 4, 5, seed=1) for i in batch]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert order[:10] != list(range(10))
    assert batch_order(10, 4, 5, seed=1) == batch_order(10, 4, 7, seed=1)[:5]
    assert batch_order(10, 4, 5, seed=2) != batch_order(10, 4, 5, seed=1)


def test_an_adapter_of_all_seven_projections(base, tmp_path, examples):
    folder = train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    found = {tuple(key.split(".")[-4:-1]) for key in load_file(folder / "adapter_model.safetensors")}
    assert {key[1] for key in found} == set(PROJECTIONS)
    vector = TaskVector.from_adapter(folder)
    assert len(vector) == base.depth * len(PROJECTIONS)
    assert all(vector[name].any() for name in vector)
    # alpha / sqrt(rank), as the paper's rank-stabilised LoRA
    a, b = (load_file(folder / "adapter_model.safetensors")[k] for k in lora_names("model.layers.3.mlp.up_proj"))
    assert torch.allclose(vector["model.layers.3.mlp.up_proj.weight"], 16 / 4**0.5 * b @ a, atol=1e-7)


def lora_names(module):
    return [f"base_model.model.{module}.lora_{factor}.weight" for factor in "AB"]


def test_a_trimmed_base_trains_the_same_kind_of_adapter(base, tmp_path, examples):
    kept = {i for e in examples for i in base.encode(e.prompt + e.completion)} | set(base.tokenizer.all_special_ids)
    kept = torch.tensor(sorted(kept))
    trim(base.model, kept)
    trimmed = Base(base.folder, base.model, base.tokenizer, kept)
    folder = train_expert(trimmed, examples, SHORT, 0, tmp_path / "expert")
    assert not [key for key in load_file(folder / "adapter_model.safetensors") if "embed" in key or "head" in key]


# --- the base stays what it was --------------------------------------------------------------------------


def frozen(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same_model(model, before):
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not model.training


def test_the_base_stays_as_it_was(base, tmp_path, examples):
    before = frozen(base.model)
    train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    assert_same_model(base.model, before)


def test_the_base_stays_as_it_was_when_training_fails(base, tmp_path, examples, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    before = frozen(base.model)
    monkeypatch.setattr(sft, "completion_nll", fail)
    with pytest.raises(KeyboardInterrupt):
        train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    assert_same_model(base.model, before)


# --- the same again --------------------------------------------------------------------------------------


def test_the_seed_decides_the_bytes(miniature, tmp_path, examples):
    base = load_base(miniature())
    first = train_expert(base, examples, SHORT, 0, tmp_path / "first")
    train_expert(base, examples, SHORT, 1, tmp_path / "between")  # what was trained before does not matter
    torch.rand(3)
    again = train_expert(load_base(miniature()), examples, SHORT, 0, tmp_path / "again")
    assert adapter_bytes(first) == adapter_bytes(again)
    assert artifacts.read_json(first / "history.json") == artifacts.read_json(again / "history.json")
    assert adapter_bytes(first) != adapter_bytes(tmp_path / "between")


def test_checkpoints_do_not_change_the_result(base, tmp_path, examples):
    often = train_expert(base, examples, SHORT, 0, tmp_path / "often")
    never = train_expert(base, examples, replace(SHORT, checkpoint_every=100), 0, tmp_path / "never")
    assert adapter_bytes(often) == adapter_bytes(never)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("home", "cache")) == ["never", "often"]


def train_in_child(folder, out):
    """In another process: the training that is going to be killed."""
    train_expert(load_base(folder), templates.math_examples("en", "train", 8), LONG, 0, out)


def test_a_killed_training_goes_on_to_the_same_bytes(base, tmp_path, examples, in_child, counted_steps):
    whole = train_expert(base, examples, LONG, 0, tmp_path / "uninterrupted")
    assert len(counted_steps) == LONG.steps
    out = tmp_path / "experts" / "killed"
    for kill in range(2):  # twice: what was resumed must be resumable
        process = in_child(train_in_child, base.folder, out)
        checkpoint = out.with_name("killed.checkpoint.pt")
        seen = checkpoint.stat().st_mtime_ns if kill else 0
        deadline = time.time() + 60
        while not checkpoint.is_file() or checkpoint.stat().st_mtime_ns == seen:
            assert time.time() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not out.exists(), "the training ended before it was killed: this test would prove nothing"
    counted_steps.clear()
    resumed = train_expert(base, examples, LONG, 0, out)
    assert 0 < len(counted_steps) <= LONG.steps - 2 * LONG.checkpoint_every
    assert adapter_bytes(resumed) == adapter_bytes(whole)
    histories = [artifacts.read_json(folder / "history.json") for folder in (resumed, whole)]
    assert histories[0] == histories[1]
    assert sorted(path.name for path in out.parent.iterdir()) == ["killed"]


def test_a_checkpoint_of_another_specification_is_not_used(base, tmp_path, examples, counted_steps, monkeypatch):
    with stopped_at_its_first_checkpoint(monkeypatch):
        train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    assert (tmp_path / "expert.checkpoint.pt").is_file()
    counted_steps.clear()
    other = replace(SHORT, learning_rate=2e-3)
    folder = train_expert(base, examples, other, 0, tmp_path / "expert")
    assert len(counted_steps) == SHORT.steps
    assert adapter_bytes(folder) == adapter_bytes(train_expert(base, examples, other, 0, tmp_path / "apart"))


def test_a_finished_expert_is_reused(base, tmp_path, examples, monkeypatch):
    folder = train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(sft, "fit", None)  # training would fail
    assert train_expert(base, examples, replace(SHORT, checkpoint_every=2), 0, tmp_path / "expert") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_finished_expert_is_found_by_a_specification_with_a_tuple(base, tmp_path, examples):
    """JSON has a list where the caller has a tuple."""
    lessons, spec = [Lesson(tuple(examples), SHORT.steps)], {"languages": ("sw", "bn")}
    for _ in range(2):
        assert sft.train_expert(base, lessons, SHORT, 0, tmp_path / "expert", spec) == tmp_path / "expert"


def test_a_checkpoint_left_beside_a_finished_expert_goes(base, tmp_path, examples):
    # as a kill between the last two lines of a training leaves it
    train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    (tmp_path / "expert.checkpoint.pt").write_bytes(b"old")
    train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    assert not (tmp_path / "expert.checkpoint.pt").exists()


@pytest.mark.parametrize("change", ["seed", "examples", "rate", "base"])
def test_another_specification_in_the_same_place_is_refused(miniature, tmp_path, examples, base, change):
    folder = train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    before = adapter_bytes(folder)
    changed = {
        "seed": (base, examples, SHORT, 1),
        "examples": (base, examples[:-1], SHORT, 0),
        "rate": (base, examples, replace(SHORT, learning_rate=1e-5), 0),
        "base": (load_base(miniature("llama")), examples, SHORT, 0),
    }[change]
    with pytest.raises(RequestError, match="holds an expert of another specification"):
        train_expert(*changed, folder)
    assert adapter_bytes(folder) == before


# --- refusals --------------------------------------------------------------------------------------------


def test_too_few_examples(base, tmp_path, examples):
    with pytest.raises(RequestError, match="2 examples do not fill a batch of 3"):
        train_expert(base, examples[:2], replace(SHORT, batch_size=3), 0, tmp_path / "expert")


def test_a_too_long_example_is_named(base, tmp_path, examples):
    long = [*examples, Example("A very long prompt " * 60, " yes")]
    with pytest.raises(RequestError, match=r"'A very long prompt A.*has 1146 tokens; max_length allows 1024"):
        train_expert(base, long, SHORT, 0, tmp_path / "expert")
    assert not list(tmp_path.glob("expert*"))


def test_a_loss_that_is_no_number(base, tmp_path, examples):
    with torch.no_grad():
        base.model.get_parameter("model.layers.3.mlp.up_proj.weight").fill_(float("nan"))
    with pytest.raises(
        WorkError, match=r"Training of expert failed at step 0: the loss is nan\. Lower the learning rate"
    ):
        train_expert(base, examples, SHORT, 0, tmp_path / "expert")
    assert not list(tmp_path.glob("expert*"))


def test_a_gradient_that_is_no_number_after_the_last_step(base, tmp_path, examples, monkeypatch):
    """No loss tells it any more: the expert would be saved, of NaN."""
    plain = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda parameters, most: plain(parameters, most) * float("inf")
    )
    with pytest.raises(WorkError, match=r"failed at step 0: its gradient's norm is inf\. Lower the learning rate"):
        train_expert(base, examples, replace(SHORT, steps=1), 0, tmp_path / "expert")
    assert not list(tmp_path.glob("expert*"))


def test_projections_that_the_model_does_not_have(base, tmp_path, examples):
    """PEFT is content where it finds one of them; the others would stay as they are, though the expert says otherwise."""
    fused = replace(SHORT, projections=("o_proj", "qkv_proj", "gate_up_proj"))
    with pytest.raises(RequestError, match=r"asked for qkv_proj, gate_up_proj, which .* does not have"):
        train_expert(base, examples, fused, 0, tmp_path / "expert")
    assert not list(tmp_path.glob("expert*"))


def test_a_full_disk_while_training(base, small_disk, examples):
    with pytest.raises(WorkError, match="disk is full"):
        train_expert(base, examples, SHORT, 0, small_disk / "expert")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *[
            {name: 0}
            for name in (
                "steps",
                "batch_size",
                "learning_rate",
                "full_learning_rate",
                "rank",
                "alpha",
                "max_length",
                "clip",
            )
        ],
        {"checkpoint_every": 0},
        {"learning_rate": float("nan")},
        {"steps": -1},
        {"warmup": 1.5},
        {"warmup": -0.1},
        {"clip": -1.0},
        {"clip": float("nan")},
        {"weight_decay": -0.1},
        {"weight_decay": float("nan")},
    ],
    ids=str,
)
def test_wrong_hyperparameters_are_refused(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Training(**wrong)
