"""Merges from disk to disk: equal to the same merge in memory, refused in words or written whole."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from experts import (
    DEPTH,
    Trio,
    digests,
    expert,
    leftovers,
    logits,
    math_share,
    model_of,
    same,
    tensors,
    trio,
)
from safetensors.torch import save_file

from xlnb.checkpoints import streaming, writing
from xlnb.checkpoints.verbs import merge, revert
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.weights import kernels, merging
from xlnb.weights.kernels import MERGES
from xlnb.weights.merging import applied
from xlnb.weights.partitions import Partition, named_partition
from xlnb.weights.task_vectors import TaskVector
from xlnb.weights.tensor_files import DTYPES

ARITHMETIC = [method for method in MERGES if method != "layer-swapping"]
BY_YAML = Partition("by yaml", (0, 0, 0.25, 1, 1, 1, 0, 1), (1, 0, 0.75, 1, 0, 1, 0, 0.5))
PARTITIONS = ["C", "A", "B", "predecessor", "outer 2+1, 1 transition", "complement of C", "yaml"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def changed(trios, tmp_path):
    """A function that copies a Llama trio and lets a function damage one of its folders."""

    def make(change=None, role="language", family="llama"):
        source = trios(family)
        root = tmp_path / "inputs"
        for name in ("base", "math", "language"):
            shutil.copytree(getattr(source, name), root / name)
        if change:
            change(root / role)
        return Trio(root / "base", root / "math", root / "language")

    return make


def chosen(name, folder):
    """The partition of a name, and what to call it in a request."""
    if name != "yaml":
        return named_partition(name, DEPTH), name
    return BY_YAML, BY_YAML.to_yaml(folder / "mine.yaml")


def vectors_of(made):
    return [TaskVector.from_checkpoint(folder, made.base) for folder in made.experts]


def parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_equals_in_memory(out, base, vector):
    """The folder holds base + vector: parameters to 1e-6, and logits; and not just something near it."""
    model, written = load_base(base).model, model_of(out)
    before = logits(model)
    with applied(model, vector):
        expected, wanted = parameters(model), logits(model)
    found = parameters(written)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-6), name
    assert torch.allclose(logits(written), wanted, rtol=0, atol=2e-5)
    assert (wanted - before).abs().max() > 1e-3


def assert_goes_with(out, source):
    """Configuration and tokenizer are the source's, byte for byte."""
    names = {file.name for file in source.iterdir() if file.suffix in (".json", ".jinja", ".model")}
    names -= {"model.safetensors.index.json"}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    for name in names:
        assert (out / name).read_bytes() == (source / name).read_bytes(), name


# --- equal to the merge in memory ------------------------------------------------------------------------


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("name", PARTITIONS)
def test_a_swap_is_what_it_is_in_memory(trios, tmp_path, family, name):
    made, (partition, asked) = trios(family), chosen(name, tmp_path)
    before = digests(made.base, *made.experts)
    done = merge(
        "layer-swapping", tmp_path / "out", math=made.math, language=made.language, base=made.base, partition=asked
    )
    assert_equals_in_memory(tmp_path / "out", made.base, merging.layer_swapping(*vectors_of(made), partition))
    found, base, math, language = (tensors(f) for f in (tmp_path / "out", made.base, made.math, made.language))
    assert found.keys() == base.keys()
    for tensor in found:
        share = math_share(tensor, partition)
        if share in (None, 0, 1):
            owner = {None: base, 0: language, 1: math}[share]
            assert torch.equal(found[tensor], owner[tensor]), tensor
        else:
            mean = share * math[tensor].double() + (1 - share) * language[tensor].double()
            assert torch.allclose(found[tensor].double(), mean, rtol=0, atol=1e-7), tensor
            assert not torch.equal(found[tensor], math[tensor])
    shared = sum(math_share(tensor, partition) not in (None, 0, 1) for tensor in found)
    assert (done.copied, done.computed) == (len(found) - shared, shared)
    assert_goes_with(tmp_path / "out", made.base)
    assert digests(made.base, *made.experts) == before
    assert f"by partition {partition}" in str(done)


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("method", ARITHMETIC)
def test_arithmetic_is_what_it_is_in_memory(trios, tmp_path, family, method):
    made = trios(family)
    before = digests(made.base, *made.experts)
    weights = None if method == "slerp" else [0.75, 0.5]
    options = {"ties": {"density": 0.3}, "dare": {"density": 0.6, "seed": 3}, "slerp": {"t": 0.3}}.get(method, {})
    merge(method, tmp_path / "out", experts=made.experts, base=made.base, weights=weights, **options)
    vectors = vectors_of(made)
    expected = {
        "soup": lambda: merging.task_arithmetic(vectors, [0.6, 0.4]),
        "task-arithmetic": lambda: merging.task_arithmetic(vectors, [0.75, 0.5]),
        "ties": lambda: merging.ties(vectors, [0.75, 0.5], 0.3),
        "dare": lambda: merging.dare(vectors, [0.75, 0.5], 0.6, 3),
        "slerp": lambda: merging.slerp(*vectors, tensors(made.base), 0.3),
    }[method]()
    assert_equals_in_memory(tmp_path / "out", made.base, expected)
    assert_goes_with(tmp_path / "out", made.base)
    assert digests(made.base, *made.experts) == before


@pytest.mark.parametrize("method", ARITHMETIC)
def test_what_is_not_said_has_the_papers_values(trios, tmp_path, method):
    made, vectors = trios(), vectors_of(trios())
    merge(method, tmp_path / "out", experts=made.experts, base=made.base)
    expected = {
        "soup": lambda: merging.soup(vectors),
        "task-arithmetic": lambda: merging.task_arithmetic(vectors, [1, 1]),
        "ties": lambda: merging.ties(vectors, density=0.2),
        "dare": lambda: merging.dare(vectors, density=0.1, seed=0),
        "slerp": lambda: merging.slerp(*vectors, tensors(made.base), 0.5),
    }[method]()
    assert_equals_in_memory(tmp_path / "out", made.base, expected)


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("keep", ["math", "language"])
@pytest.mark.parametrize("name", ["C", "B", "predecessor", "yaml"])
def test_a_revert_is_what_it_is_in_memory(trios, tmp_path, family, keep, name):
    made, (partition, asked) = trios(family), chosen(name, tmp_path)
    folder = getattr(made, keep)
    before = digests(made.base, folder)
    revert(made.base, folder, keep, tmp_path / "out", partition=asked)
    vector = TaskVector.from_checkpoint(folder, made.base).mask(partition, keep)
    assert_equals_in_memory(tmp_path / "out", made.base, vector)
    found, base, update = (tensors(f) for f in (tmp_path / "out", made.base, folder))
    for tensor in found:
        share = math_share(tensor, partition)
        if share in (None, 0, 1):
            kept = share is not None and (share == 1) == (keep == "math")
            assert torch.equal(found[tensor], (update if kept else base)[tensor]), tensor
    assert digests(made.base, folder) == before
    assert_goes_with(tmp_path / "out", made.base)


def test_counts_choose_the_partition(trios, tmp_path):
    made = trios()
    options = {"math": made.math, "language": made.language, "base": made.base}
    merge("layer-swapping", tmp_path / "counted", **options, bottom=2, top=1, transition=1)
    merge("layer-swapping", tmp_path / "named", **options, partition="outer 2+1, 1 transition")
    merge("layer-swapping", tmp_path / "object", **options, partition=Partition("x", (0, 0, 0.5, 1, 1, 1, 0.5, 0)))
    merge("layer-swapping", tmp_path / "default", **options)
    assert same(tensors(tmp_path / "counted"), tensors(tmp_path / "named"))
    assert same(tensors(tmp_path / "counted"), tensors(tmp_path / "object"))
    assert not same(tensors(tmp_path / "counted"), tensors(tmp_path / "default"))


@pytest.mark.parametrize("method", [*ARITHMETIC, "predecessor", "revert"])
def test_the_size_of_chunks_does_not_matter(trios, tmp_path, monkeypatch, method):
    made = trios()

    def done(out):
        if method == "revert":
            revert(made.base, made.math, "math", out, partition="predecessor")
        elif method == "predecessor":
            merge("layer-swapping", out, math=made.math, language=made.language, base=made.base, partition=method)
        else:
            merge(method, out, experts=made.experts, base=made.base)
        return tensors(out)

    whole = done(tmp_path / "whole")
    monkeypatch.setattr(streaming, "_CHUNK", 100)
    assert same(done(tmp_path / "chunks"), whole)


def test_updates_that_are_held_and_those_that_are_streamed_give_the_same(trios, tmp_path, monkeypatch):
    made = trios("llama")
    outs = []
    for held in (0, 1 << 24):
        monkeypatch.setattr(kernels, "HELD", held)
        monkeypatch.setattr(streaming, "_CHUNK", 100)
        outs.append(merge("ties", tmp_path / str(held), experts=made.experts, base=made.base, density=0.37).out)
    assert same(*map(tensors, outs))


@pytest.mark.parametrize("method", ["soup", "task-arithmetic", "ties", "dare", "slerp"])
def test_what_no_expert_changed_is_copied(tmp_path, method):
    made = trio(tmp_path, "llama", torch.bfloat16, outside=False)
    done = merge(method, tmp_path / "out", experts=made.experts, base=made.base)
    outside = [name for name in tensors(made.base) if ".layers." not in name]
    assert done.copied == len(outside) == 3
    before, after = tensors(made.base), tensors(done.out)
    assert same({name: before[name] for name in outside}, {name: after[name] for name in outside})
    assert done.computed == len(before) - 3


def test_three_experts(trios, tmp_path):
    made = trios()
    third = expert(made.base, tmp_path / "third", 3)
    folders = [made.math, made.language, third]
    vectors = [TaskVector.from_checkpoint(folder, made.base) for folder in folders]
    merge("soup", tmp_path / "soup", experts=folders)
    assert_equals_in_memory(tmp_path / "soup", made.base, merging.soup(vectors))
    merge("ties", tmp_path / "ties", experts=folders, base=made.base, weights=[1, None, 0.5])
    assert_equals_in_memory(tmp_path / "ties", made.base, merging.ties(vectors, [1, 1, 0.5]))


def test_outputs_are_split_as_the_reference_is(trios, tmp_path):
    made = trios()
    merge("soup", tmp_path / "single", experts=[made.math, made.language])
    merge("soup", tmp_path / "sharded", experts=[made.language, made.math])
    files = lambda folder: {p.name for p in folder.iterdir() if "safetensors" in p.name}  # noqa: E731
    assert files(tmp_path / "single") == {"model.safetensors"}
    assert files(tmp_path / "sharded") == files(made.language)
    assert len(files(made.language)) > 4
    assert_goes_with(tmp_path / "sharded", made.language)


def test_an_output_can_be_merged_again(trios, tmp_path):
    made = trios()
    merge("layer-swapping", tmp_path / "once", math=made.math, language=made.language, base=made.base)
    merge(
        "layer-swapping",
        tmp_path / "twice",
        math=made.math,
        language=tmp_path / "once",
        base=made.base,
        embeddings="base",
    )
    assert same(tensors(tmp_path / "once"), tensors(tmp_path / "twice"))


def test_a_swap_loads_neither_torch_nor_numpy(trios, tmp_path):
    made = trios()
    script = """
import sys
from xlnb.checkpoints.verbs import merge, revert
base, math, language, out = sys.argv[1:]
merge("layer-swapping", out + "/swap", math=math, language=language, base=base)
merge("layer-swapping", out + "/without", math=math, language=language, embeddings="math", partition="A")
revert(base, math, "math", out + "/revert")
print(*sorted({"torch", "numpy", "transformers", "safetensors", "pandas", "peft"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script, made.base, made.math, made.language, tmp_path],
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (run.stdout, run.stderr) == ("\n", "")
    assert model_of(tmp_path / "swap")


def test_provenance_names_inputs_but_no_place_of_this_machine(trios, tmp_path):
    made = trios()
    merge("layer-swapping", tmp_path / "out", math=made.math, language=made.language, base=made.base)
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["spec"]["inputs"] == {"math": "math", "language": "language", "base": "base"}
    assert told["spec"]["partition"] == "C: LLMMMMML"
    assert str(made.base.parent) not in json.dumps(told["spec"])


# --- whose embeddings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("embeddings", ["base", "math", "language"])
def test_embeddings_norm_and_head_are_whose_is_said(trios, tmp_path, family, embeddings):
    made = trios(family)
    merge(
        "layer-swapping",
        tmp_path / "out",
        math=made.math,
        language=made.language,
        base=made.base,
        embeddings=embeddings,
    )
    found, expected = tensors(tmp_path / "out"), tensors(getattr(made, embeddings))
    outside = [name for name in found if ".layers." not in name]
    assert len(outside) == (3 if family == "llama" else 2)
    for name in outside:
        assert torch.equal(found[name], expected[name])
    vector = merging.layer_swapping(*vectors_of(made), named_partition("C", DEPTH), embeddings)
    assert_equals_in_memory(tmp_path / "out", made.base, vector)
    assert_goes_with(tmp_path / "out", getattr(made, embeddings))


@pytest.mark.parametrize("keep", ["math", "language"])
def test_a_revert_may_keep_the_expert_s_embeddings(trios, tmp_path, keep):
    made = trios()
    folder = getattr(made, keep)
    revert(made.base, folder, keep, tmp_path / "out", embeddings=keep)
    name = "model.embed_tokens.weight"
    assert torch.equal(tensors(tmp_path / "out")[name], tensors(folder)[name])


def test_without_a_base_equal_embeddings_are_taken(trios, tmp_path):
    made = trios(outside=False)
    merge("layer-swapping", tmp_path / "with", math=made.math, language=made.language, base=made.base)
    merge("layer-swapping", tmp_path / "without", math=made.math, language=made.language)
    assert same(tensors(tmp_path / "with"), tensors(tmp_path / "without"))


def test_without_a_base_one_bit_of_difference_needs_a_word(trios, tmp_path, changed):
    def flip(folder):
        found = tensors(folder)
        found["model.norm.weight"].view(torch.int32)[5] ^= 1
        save_file(found, folder / "model.safetensors")

    made = changed(flip, "math")
    shutil.rmtree(made.language)
    shutil.copytree(trios().math, made.language)
    with pytest.raises(
        RequestError, match=r"'model.norm.weight' lies outside the layers and differs .* --embeddings math or"
    ):
        merge("layer-swapping", tmp_path / "out", math=made.math, language=made.language)
    merge("layer-swapping", tmp_path / "out", math=made.math, language=made.language, embeddings="language")
    assert same(tensors(tmp_path / "out"), tensors(made.language))


@pytest.mark.parametrize("family", MINIATURES)
def test_tied_heads_stay_tied(trios, tmp_path, family):
    made = trios(family)
    merge("soup", tmp_path / "out", experts=made.experts)
    model = model_of(tmp_path / "out")
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (family in ("gemma3", "cohere")) == ("lm_head.weight" not in tensors(tmp_path / "out"))


# --- dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_swap_of_bfloat16_in_another_dtype(trios, tmp_path, dtype):
    made = trios(dtype=torch.bfloat16)
    merge("layer-swapping", tmp_path / "plain", math=made.math, language=made.language, base=made.base)
    merge("layer-swapping", tmp_path / "cast", math=made.math, language=made.language, base=made.base, dtype=dtype)
    plain, cast = tensors(tmp_path / "plain"), tensors(tmp_path / "cast")
    assert {t.dtype for t in plain.values()} == {torch.bfloat16}
    assert same(cast, {name: t.to(getattr(torch, dtype)) for name, t in plain.items()})
    assert json.loads((tmp_path / "cast" / "config.json").read_text())["dtype"] == dtype
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("role", ["math", "language"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_is_said_in_the_config_and_the_index(trios, tmp_path, dtype, role):
    made = trios(dtype=torch.bfloat16)
    experts = [getattr(made, role), made.base]
    merge("soup", tmp_path / "out", experts=experts, dtype=dtype)
    found = tensors(tmp_path / "out")
    assert {t.dtype for t in found.values()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    index = tmp_path / "out" / "model.safetensors.index.json"
    assert index.exists() == (role == "language")
    if index.exists():
        told = json.loads(index.read_text())
        assert told["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in found.values())
    assert loaded_dtype(tmp_path / "out") == getattr(torch, dtype)


def loaded_dtype(folder):
    """The dtype that transformers loads by itself."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype


@pytest.mark.parametrize("method", ["soup", "task-arithmetic", "ties", "dare"])
@pytest.mark.parametrize("dtype", [None, "float16", "float32"])
def test_the_rounding_floor_is_what_rounding_took_away(trios, tmp_path, method, dtype):
    made = trios(dtype=torch.bfloat16)
    done = merge(method, tmp_path / "out", experts=made.experts, base=made.base, dtype=dtype)
    base = tensors(made.base)
    vectors = vectors_of(made)
    exact = {"soup": merging.soup, "task-arithmetic": lambda v: merging.task_arithmetic(v, [1, 1]), "ties": merging.ties,
             "dare": merging.dare}[method](vectors)  # fmt: skip
    found = tensors(tmp_path / "out")
    error = change = 0.0
    for name in found:
        wanted = base[name].double() + exact[name].double()
        error += float((found[name].double() - wanted).square().sum())
        change += float((wanted - base[name].double()).square().sum())
    if dtype == "float32":
        assert done.rounding == 0.0
        assert "Rounding floor" not in str(done)
        assert (error / change) ** 0.5 < 1e-5
    else:
        assert done.rounding == pytest.approx((error / change) ** 0.5, rel=1e-3)
        assert done.rounding > 0
        assert f"took away {done.rounding:.1%} of what" in str(done)


def test_a_swap_of_whole_layers_rounds_nothing(trios, tmp_path):
    made = trios(dtype=torch.bfloat16)
    done = merge("layer-swapping", tmp_path / "out", math=made.math, language=made.language, base=made.base)
    assert done.rounding == 0.0
    assert done.computed == 0


def test_mixed_dtypes_need_a_word(trios, tmp_path):
    made = trios()
    small = expert(made.base, tmp_path / "small", 1, dtype=torch.bfloat16)
    with pytest.raises(
        RequestError, match=r"is stored as F32 and BF16\. Say with --dtype what to write: float32, bfloat16"
    ):
        merge("layer-swapping", tmp_path / "out", math=small, language=made.language, base=made.base)
    assert not (tmp_path / "out").exists()
    merge("layer-swapping", tmp_path / "out", math=small, language=made.language, base=made.base, dtype="float32")
    partition, found = named_partition("C", DEPTH), tensors(tmp_path / "out")
    sources = {None: tensors(made.base), 1.0: tensors(small), 0.0: tensors(made.language)}
    for name in found:
        assert torch.equal(found[name], sources[math_share(name, partition)][name].float())


# --- refusals --------------------------------------------------------------------------------------------


def with_tensors(change):
    """A damage that rewrites a folder's weights as one file after ``change`` of the table of its tensors."""

    def damage(folder):
        found = tensors(folder)
        change(found)
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        save_file(found, folder / "model.safetensors")

    return damage


def with_config(**settings):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))

    return damage


def with_tokenizer(change):
    def damage(folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return damage


def renamed_token(content):
    content["model"]["vocab"]["other"] = content["model"]["vocab"].pop("A")


def added_token(content):
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 261, "content": "<new>"})


def unrelated(folder):
    def shuffled(found):
        generator = torch.Generator().manual_seed(9)
        for name in found:
            found[name] = 0.02 * torch.randn(found[name].shape, generator=generator)

    with_tensors(shuffled)(folder)


def without_layer(found):
    for name in [name for name in found if ".layers.7." in name]:
        del found[name]


NORM = "model.layers.3.input_layernorm.weight"
DAMAGE = {
    "a missing tensor": (with_tensors(lambda t: t.pop(NORM)), rf"has '{NORM}', .* does not; 1 tensors"),
    "an extra tensor": (
        with_tensors(lambda t: t.update({"model.layers.3.self_attn.q_proj.bias": torch.ones(32)})),
        r"has 'model.layers.3.self_attn.q_proj.bias', .* does not",
    ),
    "an unknown tensor": (with_tensors(lambda t: t.update({"surplus": torch.ones(3)})), "surplus|no decoder"),
    "another shape": (with_tensors(lambda t: t.update({NORM: torch.ones(33)})), r"has shape \[32\] and \[33\]: another base"),
    "another vocabulary size": (
        with_tensors(lambda t: t.update({"model.embed_tokens.weight": torch.ones(262, 32)})),
        r"\[260, 32\] and \[262, 32\]: another vocabulary",
    ),
    "fewer layers": (with_tensors(without_layer), "is not whole: its config.json tells of 8 layers, and its tensors are of 7"),
    "another setting": (with_config(rms_norm_eps=0.1), "differ in config.json: rms_norm_eps is 1e-06 and 0.1"),
    "another architecture": (with_config(model_type="mistral"), "model_type is 'llama' and 'mistral'"),
    "a nested setting": (with_config(rope_parameters={"rope_theta": 5.0, "rope_type": "default"}), "rope_parameters is"),
    "quantized": (with_config(quantization_config={"bits": 4}), "is quantized: merge the unquantized weights"),
    "another token": (with_tokenizer(renamed_token), "different vocabularies: .*tokenizer.json do not list the same tokens"),
    "one more token": (with_tokenizer(added_token), "different vocabularies"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("[]"), "is no tokenizer"),
    "unrelated weights": (unrelated, r"have a cosine of -?0\.\d\d: they do not come from one base"),
    "a damaged file": (lambda f: os.truncate(next(f.glob("*.safetensors")), 5000), "no whole safetensors file"),
    "no config": (lambda f: (f / "config.json").unlink(), r"it has no config\.json"),
    "no weights": (lambda f: [file.unlink() for file in f.glob("*.safetensors*")], "holds no weights"),
    "nothing": (shutil.rmtree, "There is no folder"),
}  # fmt: skip


@pytest.mark.parametrize("role", ["math", "language"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_experts_that_do_not_fit_are_refused_before_anything_is_written(changed, tmp_path, damage, role):
    change, words = DAMAGE[damage]
    made = changed(change, role)
    for base in (made.base, None):
        out = tmp_path / "outputs" / "out"
        out.parent.mkdir(exist_ok=True)
        with pytest.raises(RequestError) as refused:
            merge("layer-swapping", out, math=made.math, language=made.language, base=base, embeddings="math")
        assert not list(out.parent.iterdir())
        if base:
            assert re.search(words, str(refused.value)), refused.value
    with pytest.raises(RequestError):
        merge("soup", out, experts=made.experts)
    with pytest.raises(RequestError, match=words):
        revert(made.base, getattr(made, role), "math", out)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        with_tokenizer(lambda c: c.update(truncation={"max_length": 8, "strategy": "LongestFirst"})),
        with_tokenizer(lambda c: c.update(padding={"strategy": "BatchLongest"})),
        with_tokenizer(lambda c: c["model"].update(dropout=None)),
        lambda folder: (folder / "tokenizer.json").unlink(),
        with_config(use_cache=False, transformers_version="4.0.0", _name_or_path="elsewhere", eos_token_id=3),
        with_config(a_setting_of_another_version=1),
        with_tensors(lambda t: None),
    ],
)
def test_harmless_differences_are_accepted(changed, trios, tmp_path, change):
    made = changed(change)
    merge("layer-swapping", tmp_path / "out", math=made.math, language=made.language, base=made.base)
    plain = trios()
    merge("layer-swapping", tmp_path / "plain", math=plain.math, language=plain.language, base=plain.base)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "plain"))


def test_another_seed_of_the_same_architecture_is_refused(trios, tmp_path):
    from xlnb.models.miniatures import miniature

    stranger = miniature(tmp_path / "stranger", "llama", seed=1)
    with pytest.raises(RequestError, match="do not come from one base"):
        merge("soup", tmp_path / "out", experts=[trios().math, stranger])


SWAP, SOUP = "layer-swapping", "soup"
Ask = namedtuple("Ask", "method options words")
WRONG = [
    Ask("fusion", {}, "No merge 'fusion': choose one of layer-swapping, soup"),
    Ask(SWAP, {"dtype": "float64"}, "dtype='float64': choose one of float32, bfloat16, float16"),
    Ask(SWAP, {"embeddings": "both"}, "embeddings='both': say 'base', 'math' or 'language'"),
    Ask(SWAP, {"base": None, "embeddings": "base"}, "no base is given: say --base as well"),
    Ask(SWAP, {"partition": "Z"}, "No partition 'Z'"),
    Ask(SWAP, {"partition": "C", "bottom": 1, "top": 1}, "either a partition or --bottom and --top"),
    Ask(SWAP, {"bottom": 1}, "go together"),
    Ask(SWAP, {"bottom": 8, "top": 1}, "do not fit into 8 layers"),
    Ask(SWAP, {"transition": 1}, "goes with --bottom and --top"),
    Ask(SWAP, {"partition": Partition("short", (0, 1))}, "is of 2 layers, but the model has 8"),
    Ask(SWAP, {"partition": "no-such.yaml"}, "cannot be read"),
    Ask(SWAP, {"weights": [1, 1]}, "takes no weights"),
    Ask(SWAP, {"density": 0.5}, "takes no density"),
    Ask(SWAP, {"math": None}, "takes one math and one language expert"),
    Ask(SWAP, {"experts": ["a", "b"]}, "takes one math and one language expert"),
    Ask(SOUP, {"math": "a"}, "takes at least two experts"),
    Ask(SOUP, {"experts": []}, "takes at least two experts"),
    Ask(SOUP, {"weights": [1]}, "2 experts and 1 weights"),
    Ask(SOUP, {"weights": [1, -1]}, "add up to 0"),
    Ask(SOUP, {"weights": [1, float("nan")]}, "A weight is a number"),
    Ask(SOUP, {"weights": [1, float("inf")]}, "A weight is a number"),
    Ask(SOUP, {"density": 0.5}, "takes no density"),
    Ask(SOUP, {"t": 0.3}, "soup takes no t"),
    Ask(SOUP, {"seed": 3}, "soup takes no seed"),
    Ask(SOUP, {"partition": "A"}, "takes no partition"),
    Ask(SOUP, {"bottom": 1, "top": 1}, "takes no partition"),
    Ask(SOUP, {"embeddings": "math"}, "takes no partition"),
    Ask("task-arithmetic", {"base": None}, "adds updates to the base: say --base"),
    Ask("ties", {"base": None}, "adds updates to the base: say --base"),
    Ask("dare", {"base": None}, "adds updates to the base: say --base"),
    Ask("ties", {"density": 0}, "density=0: the share that is kept"),
    Ask("ties", {"density": 1.5}, "density=1.5: the share that is kept"),
    Ask("dare", {"density": float("nan")}, "density=nan"),
    Ask("dare", {"seed": -1}, "seed is -1"),
    Ask("slerp", {"t": 1.5}, "t=1.5: it lies between 0"),
    Ask("slerp", {"t": -0.1}, "t=-0.1"),
    Ask("slerp", {"t": float("nan")}, "t=nan"),
    Ask("slerp", {"weights": [1, 1]}, "takes no weights; say --t"),
    Ask("slerp", {"third": True}, "SLERP goes between two experts, not 3"),
]  # fmt: skip


@pytest.mark.parametrize("ask", WRONG, ids=lambda ask: f"{ask.method} {ask.options}")
def test_wrong_requests_are_refused_before_anything_is_written(trios, tmp_path, ask):
    made = trios()
    options = {"base": made.base}
    options |= {"math": made.math, "language": made.language} if ask.method == SWAP else {"experts": made.experts}
    options |= ask.options
    if options.pop("third", False):
        options["experts"] = [*made.experts, made.math]
    with pytest.raises(RequestError, match=ask.words):
        merge(ask.method, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_revert_keeps_one_of_two_sides(trios, tmp_path):
    with pytest.raises(RequestError, match="keep='both': say 'math' or 'language'"):
        revert(trios().base, trios().math, "both", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def swap_to(out, made, **options):
    return merge(SWAP, out, math=made.math, language=made.language, base=made.base, **options)


@pytest.mark.parametrize("role", ["base", "math", "language"])
@pytest.mark.parametrize("below", ["", "sub", "sub/sub", "../{role}", "../link"])
def test_inputs_are_never_written_to(changed, role, below):
    made = changed()
    folder = getattr(made, role)
    (folder.parent / "link").symlink_to(folder)
    before = digests(folder.parent)
    with pytest.raises(RequestError, match="inputs are never changed: choose another place"):
        swap_to(folder / below.format(role=role), made)
    assert digests(folder.parent) == before


def occupied(out):
    out.mkdir()
    (out / "file").write_text("mine")


@pytest.mark.parametrize(
    "occupy",
    [
        occupied,
        lambda out: out.write_text("mine"),
        lambda out: out.symlink_to("nowhere"),
        lambda out: (out.with_name("empty").mkdir(), out.symlink_to("empty")),
        lambda out: os.mkfifo(out),
    ],
    ids=["a full folder", "a file", "a dangling link", "a link to an empty folder", "a pipe"],
)
def test_what_is_there_already_stays(trios, tmp_path, occupy):
    occupy(tmp_path / "out")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(RequestError, match="exists already: give a folder that does not exist or is empty"):
        swap_to(tmp_path / "out", trios())
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(trios, tmp_path):
    (tmp_path / "out").mkdir()
    swap_to(tmp_path / "out", trios())
    assert model_of(tmp_path / "out")
    assert not leftovers(tmp_path)


def test_folders_above_are_made(trios, tmp_path):
    swap_to(tmp_path / "a" / "b" / "out", trios())
    assert model_of(tmp_path / "a" / "b" / "out")


@pytest.mark.parametrize("out", [".", "", "..", "new/.."])
def test_an_output_without_a_name_is_refused(trios, tmp_path, monkeypatch, out):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(RequestError):
        swap_to(out, trios())
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_an_output_below_a_file_is_refused(trios, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="file is not a folder"):
        swap_to(tmp_path / "file" / "out", trios())
    assert (tmp_path / "file").read_text() == "mine"


# --- room, and the loss of it ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["layer-swapping", "soup", "revert"])
def test_no_room_is_said_before_anything_is_written(trios, tmp_path, monkeypatch, method):
    made, asked = trios(), []

    def usage(place):
        asked.append(Path(place))
        return shutil._ntuple_diskusage(10**12, 10**12, 10_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(
        WorkError, match=r"needs 1[6-9]\.\d MB in .*, and 10\.0 MB are free. Make room, or choose another --out"
    ):
        if method == "revert":
            revert(made.base, made.math, "math", tmp_path / "deep" / "out")
        elif method == "soup":
            merge("soup", tmp_path / "deep" / "out", experts=made.experts)
        else:
            swap_to(tmp_path / "deep" / "out", made)
    assert asked == [tmp_path]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["layer-swapping", "soup"])
def test_a_disk_that_fills_up_leaves_nothing(trios, small_disk, monkeypatch, method):
    made = trios()
    with pytest.raises(WorkError, match="are free"):
        swap_to(small_disk / "out", made)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 0, 10**12))
    with pytest.raises(WorkError, match="The disk is full"):
        if method == "soup":
            merge("soup", small_disk / "out", experts=made.experts)
        else:
            swap_to(small_disk / "out", made)
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("method", ["layer-swapping", "soup"])
def test_an_input_that_becomes_shorter_is_noticed(changed, tmp_path, monkeypatch, method):
    made = changed()
    truncate = lambda *_: os.truncate(made.math / "model.safetensors", 200_000)  # noqa: E731
    monkeypatch.setattr(writing, "_check_room", truncate)
    with pytest.raises(WorkError, match=r"model\.safetensors became shorter while it was read: start again"):
        if method == "soup":
            merge("soup", tmp_path / "out", experts=made.experts)
        else:
            swap_to(tmp_path / "out", made)
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_a_file_system_that_copies_nothing_itself_is_read(trios, tmp_path, monkeypatch):
    """Some say 0 where there is more to read."""
    made = trios()
    swap_to(tmp_path / "plain", made)
    monkeypatch.setattr(os, "copy_file_range", lambda *_, **__: 0, raising=False)
    swap_to(tmp_path / "out", made)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "plain"))


# --- kill -9 ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two experts of about 100 MB each in bfloat16, with the same embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from xlnb.models.miniatures import _byte_tokenizer

    root = tmp_path_factory.mktemp("large")
    shape = {"hidden_size": 640, "intermediate_size": 2560, "num_attention_heads": 8, "num_hidden_layers": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=261, dtype=torch.bfloat16, **shape)).bfloat16()
        model.save_pretrained(root / "math", max_shard_size="30MB")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".layers." in name:
                    parameter += torch.randn(1, dtype=torch.bfloat16) * 0.001
        model.save_pretrained(root / "language")
    for role in ("math", "language"):
        _byte_tokenizer().save_pretrained(root / role)
    yield root
    shutil.rmtree(root)


def merge_large(root, method, out):
    torch.set_num_threads(1)
    if method == SWAP:
        merge(SWAP, out, math=root / "math", language=root / "language")
    else:
        merge(method, out, experts=[root / "math", root / "language"])


def weights_of(folder):
    return {
        file.name: digests(folder)[str(file)] for file in sorted(folder.glob("*")) if file.name != "provenance.json"
    }


@pytest.mark.parametrize(("method", "kills"), [(SWAP, 14), (SOUP, 6)])
def test_a_killed_merge_leaves_no_output_or_a_whole_one(large, tmp_path, in_child, method, kills):
    in_child(time.time).join()  # the libraries are loaded now
    started = time.perf_counter()
    in_child(merge_large, large, method, tmp_path / "reference").join()
    duration = time.perf_counter() - started
    expected, rng, whole, cut = weights_of(tmp_path / "reference"), random.Random(0), 0, 0
    assert "config.json" in expected
    out = tmp_path / "place" / "out"
    for _ in range(kills):
        process = in_child(merge_large, large, method, out)
        process.join(rng.uniform(0, 1.1 * duration))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        if out.exists():
            whole += 1
            assert weights_of(out) == expected
            shutil.rmtree(out)
        elif process.exitcode == -signal.SIGKILL and out.parent.exists():
            cut += bool(leftovers(out.parent))
    assert cut >= 2, "no kill came while something was written"
    assert whole < kills
    merge_large(large, method, out)
    assert weights_of(out) == expected
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_interrupted_merge_cleans_up(large, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_provenance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge_large(large, SWAP, tmp_path / "out")
    assert not list(tmp_path.iterdir())
