"""Masked, mixed, alternating and sequential training, by LoRA and whole: what is frozen stays, what moves moves as it should."""

import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xlnb import artifacts
from xlnb.checkpoints.verbs import merge
from xlnb.corpora import templates
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import Base, load_base, trim
from xlnb.training import paradigms, sft
from xlnb.training.experts import Expert, Lesson, Stream
from xlnb.training.masks import rates
from xlnb.training.paradigms import PARADIGMS
from xlnb.training.sft import Lane, Training, alternation, fit
from xlnb.weights.merging import applied
from xlnb.weights.partitions import Partition, named_partition
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("own_home")
TEN = Training(
    steps=10, batch_size=2, learning_rate=1e-3, full_learning_rate=1e-3, rank=4, max_length=1024, weight_decay=0.1,
    checkpoint_every=1,
)  # fmt: skip
BOTH = pytest.mark.parametrize("paradigm", PARADIGMS)
MATH, LANGUAGE = (Stream(side, side) for side in ("math", "language"))
KINDS = {
    "masked": Expert(MATH),
    "mixed": Expert("math", "language"),
    "alternating": Expert(MATH, LANGUAGE),
}


@pytest.fixture
def base(miniature):
    return load_base(miniature(), device="cpu")


def corpus(name):
    return templates.math_examples("en", "train", 8) if name == "math" else templates.language_examples("sw", 8)


def train(base, expert, out, *, training=TEN, paradigm="lora", partition="C", start=None, seed=0):
    """Train an expert of made-up size under a partition of the miniature."""
    shares = named_partition(partition, base.depth) if isinstance(partition, str) else partition
    lessons = expert.lessons(corpus, training.steps)
    spec = {"expert": repr(expert), "seed": seed, "training": training.spec(), "partition": str(shares)}
    return sft.train_expert(
        base, lessons, training, seed, out, spec, paradigm=paradigm, partition=shares, start=start, title="expert"
    )


def weights_of(folder):
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def same_weights(a, b):
    first, second = weights_of(a), weights_of(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def copies(trainee):
    return {name: p.detach().clone() for name, p in trainee.weights.items()}


@pytest.fixture
def optimizers(monkeypatch):
    """The optimizers that are made since."""
    made, plain = [], sft.optimizer_of
    monkeypatch.setattr(sft, "optimizer_of", lambda *arguments: made.append(plain(*arguments)) or made[-1])
    return made


def fitted(base, trainee, mask, tmp_path, training=TEN):
    rows = sft._rows(base, corpus("math"), training)
    return fit(trainee, [Lane(rows, training.steps, mask)], training, 0, tmp_path / "checkpoint.pt", {})


# --- frozen means frozen ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("side", ["math", "language"])
@pytest.mark.parametrize("name", ["A", "C"])
def test_what_is_outside_the_share_is_untouched_to_the_bit(base, tmp_path, paradigm, side, name, optimizers):
    partition = named_partition(name, base.depth)
    with PARADIGMS[paradigm].attached(base, TEN, 0, None) as trainee:
        mask = rates(trainee.weights, partition, side)
        assert 0 < len(mask) < len(trainee.weights)
        before = copies(trainee)
        fitted(base, trainee, mask, tmp_path)
        after = copies(trainee)
        held = {id(p) for group in optimizers[0].param_groups for p in group["params"]}
        moments = {id(p) for p, state in optimizers[0].state.items() if state}
        ids = {name: id(p) for name, p in trainee.weights.items()}
    for name in before:
        assert torch.equal(before[name], after[name]) == (name not in mask), name
        assert (ids[name] in held) == (ids[name] in moments) == (name in mask), "no optimizer state of what is frozen"


@BOTH
def test_what_lies_outside_the_layers_never_moves(base, tmp_path, paradigm):
    outside = {name: p.detach().clone() for name, p in base.model.named_parameters() if ".layers." not in name}
    assert len(outside) >= 2  # embeddings and the final norm
    with PARADIGMS[paradigm].attached(base, TEN, 0, None) as trainee:
        fitted(base, trainee, rates(trainee.weights, None, "all"), tmp_path)
        now = {name.removeprefix("base_model.model."): p for name, p in trainee.model.named_parameters()}
        assert all(torch.equal(now[name], outside[name]) for name in outside)


@BOTH
def test_the_base_is_as_it_was_afterwards(base, tmp_path, paradigm):
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in base.model.named_parameters()}
    train(base, KINDS["alternating"], tmp_path / "expert", paradigm=paradigm)
    after = dict(base.model.named_parameters())
    assert after.keys() == before.keys() and not base.model.training
    for name, (value, trainable) in before.items():
        assert torch.equal(after[name], value) and after[name].requires_grad == trainable and after[name].grad is None


@BOTH
def test_a_share_of_a_half_halves_the_step(base, tmp_path, paradigm):
    one = replace(TEN, steps=1)
    moved = {}
    for share in (1.0, 0.5):
        partition = Partition("even", (share,) * base.depth)
        with PARADIGMS[paradigm].attached(base, one, 0, None) as trainee:
            before = copies(trainee)
            fitted(base, trainee, rates(trainee.weights, partition, "math"), tmp_path, one)
            moved[share] = {name: p - before[name] for name, p in copies(trainee).items()}
    assert all(whole.any() for whole in moved[1.0].values())
    for name, whole in moved[1.0].items():
        assert torch.allclose(moved[0.5][name], whole / 2, atol=3e-7, rtol=1e-3), name


def test_a_transition_layer_is_moved_by_both_sides(base):
    names = [name for name, _ in base.model.named_parameters()]
    partition = named_partition("outer 2+1, 1 transition", base.depth)
    math, language = (rates(names, partition, side) for side in ("math", "language"))
    layers = [{int(name.split(".")[2]) for name in mask} for mask in (math, language)]
    assert layers == [{2, 3, 4, 5, 6}, {0, 1, 2, 6, 7}]
    assert {math[name] + language[name] for name in math.keys() & language.keys()} == {1.0}


# --- alternation, mixtures, sequences --------------------------------------------------------------------


@BOTH
def test_alternation_with_all_math_is_plain_math_training(base, tmp_path, paradigm):
    alternating = train(base, KINDS["alternating"], tmp_path / "a", paradigm=paradigm, partition="all math")
    plain = train(base, Expert("math"), tmp_path / "b", paradigm=paradigm)
    assert same_weights(alternating, plain)
    assert len(artifacts.read_json(alternating / "history.json")) == TEN.steps


def test_alternation_moves_each_share_by_its_own_batches(base, tmp_path):
    together = train(base, KINDS["alternating"], tmp_path / "together")
    history = artifacts.read_json(together / "history.json")
    assert [row["moves"] for row in history] == ["math", "language"] * TEN.steps
    assert [row["rate"] for row in history[::2]] == [row["rate"] for row in history[1::2]]
    vectors = [TaskVector.from_adapter(train(base, KINDS[kind], tmp_path / kind)) for kind in ("masked", "mixed")]
    swapped = TaskVector.from_adapter(together)
    assert all(swapped[name].any() for name in swapped)  # both shares moved
    assert not all(vectors[0][name].any() for name in vectors[0])  # math's share alone
    assert all(vectors[1][name].any() for name in vectors[1])


def test_turns_are_spread_over_the_whole():
    assert alternation([3, 3]) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    long = alternation([2, 10])
    assert sorted(long) == [(0, i) for i in range(2)] + [(1, i) for i in range(10)]
    places = [i for i, turn in enumerate(long) if turn[0] == 0]
    assert 1 <= places[0] < 6 <= places[1] < 11


def test_data_mixing_shuffles_both_sets_into_one(base, tmp_path, monkeypatch):
    (lesson,) = KINDS["mixed"].lessons(corpus, 7)
    assert lesson == Lesson((*corpus("math"), *corpus("language")), 14)
    prompts = []
    plain = sft.alike
    seen = lambda rows, a_pass: prompts.append([prompt for prompt, _ in rows]) or plain(rows, a_pass)  # noqa: E731
    monkeypatch.setattr(sft, "alike", seen)
    train(base, KINDS["mixed"], tmp_path / "expert", training=replace(TEN, batch_size=4))
    sides = [{base.decode(prompt).startswith("Question:") for prompt in batch} for batch in prompts]
    assert {True, False} in sides, "a batch may hold both"
    assert len(prompts) == 2 * TEN.steps


@BOTH
def test_a_second_training_goes_on_from_the_first(base, tmp_path, paradigm):
    first = train(base, Expert("language"), tmp_path / "first", paradigm=paradigm)
    still = replace(TEN, learning_rate=1e-30, full_learning_rate=1e-30)  # a step of nothing
    again = train(base, Expert("math"), tmp_path / "again", paradigm=paradigm, training=still, start=first)
    assert same_weights(first, again)
    further = train(base, Expert("math"), tmp_path / "further", paradigm=paradigm, start=first)
    assert not same_weights(first, further)


# --- PEFT's own mind -------------------------------------------------------------------------------------


def test_adapter_calls_of_peft_do_not_flip_the_mask(base, tmp_path, monkeypatch):
    quiet = train(base, KINDS["alternating"], tmp_path / "quiet")
    plain, flipped = sft.completion_nll, []

    def meddling(model, batch):
        before = [p.requires_grad for p in model.parameters()]
        with model.disable_adapter():
            pass
        model.set_adapter("default")
        flipped.append(before != [p.requires_grad for p in model.parameters()])
        model.requires_grad_(True)  # as bad as it can get: the base, too
        return plain(model, batch)

    monkeypatch.setattr(sft, "completion_nll", meddling)
    meddled = train(base, KINDS["alternating"], tmp_path / "meddled")
    assert any(flipped), "PEFT left the flags alone: this test would prove nothing"
    masked = train(base, KINDS["masked"], tmp_path / "masked")
    shares = named_partition("C", base.depth)
    update = TaskVector.from_adapter(masked)
    assert {name for name in update if update[name].any()} == set(update.mask(shares, "math"))
    for name in weights_of(quiet):
        assert torch.equal(weights_of(quiet)[name], weights_of(meddled)[name])


# --- interruptions ---------------------------------------------------------------------------------------

LONG = replace(TEN, steps=30, checkpoint_every=3)


def train_in_child(folder, out, kind, paradigm):
    """In another process: the training that is going to be killed."""
    train(load_base(folder, device="cpu"), KINDS[kind], out, training=LONG, paradigm=paradigm)


@pytest.mark.parametrize(("kind", "paradigm"), [("masked", "lora"), ("alternating", "lora"), ("alternating", "full")])
def test_a_killed_training_goes_on_to_the_same_bits(base, tmp_path, in_child, kind, paradigm, optimizers):
    whole = train(base, KINDS[kind], tmp_path / "whole", training=LONG, paradigm=paradigm)
    out = tmp_path / "experts" / "killed"
    process = in_child(train_in_child, base.folder, out, kind, paradigm)
    checkpoint = out.with_name("killed.checkpoint.pt")
    deadline = time.time() + 60
    while not checkpoint.is_file():
        assert time.time() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not out.exists(), "the training ended before it was killed: this test would prove nothing"
    optimizers.clear()
    resumed = train(base, KINDS[kind], out, training=LONG, paradigm=paradigm)
    steps = sum(int(next(iter(o.state.values()))["step"]) for o in optimizers)
    assert steps == len(artifacts.read_json(resumed / "history.json")), "each optimizer went on from its own step"
    assert same_weights(resumed, whole)
    assert artifacts.read_json(resumed / "history.json") == artifacts.read_json(whole / "history.json")


# --- full fine-tuning ------------------------------------------------------------------------------------


def test_a_whole_expert_is_a_checkpoint_that_everything_reads(base, tmp_path):
    math = train(base, Expert("math"), tmp_path / "math", paradigm="full")
    language = train(base, Expert("language"), tmp_path / "language", paradigm="full")
    vector = TaskVector.of_expert(math, base.folder)
    changed = {name for name in vector if vector[name].any()}
    assert changed == {name for name, _ in base.model.named_parameters() if ".layers." in name}
    assert "model.embed_tokens.weight" not in vector
    ids = torch.tensor([base.start + base.encode("Question: 12 + 5?")])
    saved = AutoModelForCausalLM.from_pretrained(math, dtype=torch.float32).eval()
    with torch.inference_mode(), applied(base.model, vector) as model:
        assert torch.allclose(model(ids).logits, saved(ids).logits, atol=1e-5)
        assert not torch.allclose(
            model(ids).logits, AutoModelForCausalLM.from_pretrained(base.folder)(ids).logits, atol=1e-3
        )
    merge("layer-swapping", tmp_path / "out", math=math, language=language, base=base.folder)
    merged = weights_of(tmp_path / "out")
    for side, name in (
        ("math", "model.layers.4.mlp.up_proj.weight"),
        ("language", "model.layers.0.mlp.up_proj.weight"),
    ):
        assert torch.equal(merged[name], weights_of({"math": math, "language": language}[side])[name])


def test_a_trimmed_base_gives_a_checkpoint_of_the_whole_vocabulary(base, miniature, tmp_path):
    kept = {i for name in ("math", "language") for e in corpus(name) for i in base.encode(e.prompt + e.completion)}
    kept = torch.tensor(sorted(kept | set(base.tokenizer.all_special_ids)))
    trim(base.model, kept)
    folder = train(Base(base.folder, base.model, base.tokenizer, kept), Expert("math"), tmp_path / "e", paradigm="full")
    original = weights_of(miniature())
    assert torch.equal(weights_of(folder)["model.embed_tokens.weight"], original["model.embed_tokens.weight"])
    assert "model.embed_tokens.weight" not in TaskVector.of_expert(folder, base.folder)


def test_full_fine_tuning_says_what_it_needs(base, tmp_path, capsys, monkeypatch):
    train(base, Expert("math"), tmp_path / "expert", paradigm="full")
    inside = sum(p.numel() for name, p in base.model.named_parameters() if ".layers." in name)
    assert f"Full fine-tuning of {inside / 1e6:,.1f} million parameters needs" in capsys.readouterr().err
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(WorkError, match="train with LoRA"):
        train(base, Expert("math"), tmp_path / "other", paradigm="full")
    assert not (tmp_path / "other").exists()


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stream("poetry"), "No corpus of a stream 'poetry': choose one of math"),
        (lambda: Stream("math", "half"), "No share that a stream moves 'half': choose one of all"),
        (lambda: Expert("math", budget=0), "An expert's budget is 0: "),
        (lambda: Expert("math", budget=float("nan")), "An expert's budget is nan: "),
    ],
)
def test_wrong_streams(make, words):
    with pytest.raises(RequestError, match=words):
        make()


def test_where_nothing_may_move_nothing_is_trained(base, tmp_path):
    with pytest.raises(RequestError, match="Nothing of the model may move"):
        train(base, KINDS["masked"], tmp_path / "expert", partition="all language")
    with pytest.raises(RequestError, match="say the partition"):
        sft.train_expert(base, KINDS["masked"].lessons(corpus, 2), TEN, 0, tmp_path / "expert", {})
    with pytest.raises(RequestError, match="No paradigm 'prefix': choose one of lora, full"):
        sft.train_expert(base, Expert("math").lessons(corpus, 2), TEN, 0, tmp_path / "expert", {}, paradigm="prefix")
    deep = named_partition("C", 32)
    with pytest.raises(RequestError, match="Partition C is of 32 layers, but the model has 8"):
        sft.train_expert(base, KINDS["masked"].lessons(corpus, 2), TEN, 0, tmp_path / "expert", {}, partition=deep)
    assert not list(tmp_path.glob("expert*"))


def test_a_budget_is_a_share_of_the_steps():
    (lesson,) = Expert("math", budget=0.25).lessons(corpus, 60)
    assert lesson.steps == 15
    (shuffled,) = Expert("math, shuffled").lessons(corpus, 60)
    assert [e.prompt for e in shuffled.examples] == [e.prompt for e in corpus("math")]
    assert all(a.completion != b.completion for a, b in zip(shuffled.examples, corpus("math"), strict=True))
    assert paradigms.PARADIGMS.keys() == {"lora", "full"}
