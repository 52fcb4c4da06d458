"""Checkpoints whose savers stored a tied head or padded the vocabulary: merged as if all had been saved alike, or refused."""

import json
import shutil

import pytest
import torch
from experts import digests, expert, leftovers, model_of, reconfigured, rewritten, same, tensors
from transformers import AutoConfig, AutoTokenizer

from xlnb.artifacts import read_json
from xlnb.checkpoints.differences import diff
from xlnb.checkpoints.verbs import merge, revert
from xlnb.errors import RequestError
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("one_thread")

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROWS, PADDED = 260, 320
METHODS = ["layer-swapping", "soup", "task-arithmetic", "ties", "dare", "slerp"]


def run(method, found, out, **options):
    experts = (
        {"math": found.math, "language": found.language} if method == "layer-swapping" else {"experts": found.experts}
    )
    return merge(method, out, **experts, base=found.base, **options)


def with_copy(folder, change=lambda head: head):
    """Store the head, which is tied to the embedding, as well."""

    def add(found):
        if EMBEDDING in found:
            found[HEAD] = change(found[EMBEDDING].clone())

    rewritten(folder, add)
    if (index := folder / "model.safetensors.index.json").is_file():
        told = read_json(index)
        told["weight_map"][HEAD] = told["weight_map"][EMBEDDING]
        index.write_text(json.dumps(told))


def padded(folder, rows=PADDED):
    """Add rows that no token has, as trainers do that want a multiple of 64."""
    model = model_of(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    shutil.copytree(folder, kept := folder.with_name(f"{folder.name}-before"))
    shutil.rmtree(folder)
    model.save_pretrained(folder, max_shard_size="60KB")
    for file in kept.glob("tok*"):
        shutil.copy(file, folder)
    shutil.rmtree(kept)


def merged_all_the_same(method, found, out, roles, change):
    """Merge before and after a change of some folders into ``out``, where nothing may differ; return what the second one told."""
    run(method, found, out / "wanted")
    for role in roles:
        change(getattr(found, role))
    before = digests(found.base, *found.experts)
    done = run(method, found, out / "out")
    assert same(tensors(out / "out"), tensors(out / "wanted"))
    assert digests(found.base, *found.experts) == before
    return done


# --- tied heads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stored_in", [["math"], ["base"], ["language"], ["base", "math", "language"]], ids=" ".join)
def test_a_stored_copy_of_a_tied_head_changes_nothing(three, tmp_path, method, stored_in):
    found = three("gemma3")
    done = merged_all_the_same(method, found, tmp_path, stored_in, with_copy)
    model = model_of(tmp_path / "out")
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    notes = read_json(tmp_path / "out" / "provenance.json")["spec"]["left_out"]
    assert notes == [f"{role}: {HEAD} is left out, a copy of the embedding that it is tied to" for role in stored_in]
    assert all(note in str(done) for note in notes)


@pytest.mark.parametrize("role", ["base", "math", "language"])
def test_a_tied_head_that_is_no_copy_is_refused(three, tmp_path, role):
    found = three("gemma3")

    def one_bit(head):
        head[7, 3] = torch.nextafter(head[7, 3], torch.tensor(9.0))
        return head

    with_copy(getattr(found, role), one_bit)
    for method in ("layer-swapping", "soup"):
        with pytest.raises(RequestError, match=rf"{role} ties the head .* 'lm_head.weight' differs from 'model.embed"):
            run(method, found, tmp_path / "out")
    assert not leftovers(tmp_path) and not (tmp_path / "out").exists()


def test_a_head_of_its_own_that_is_missing_is_refused(three, tmp_path):
    found = three()
    rewritten(found.math, lambda held: held.pop(HEAD, None))
    with pytest.raises(RequestError, match=r"has 'lm_head.weight', math .* does not"):
        run("layer-swapping", found, tmp_path / "out")


def test_an_index_does_not_list_a_head_that_is_left_out(three, tmp_path):
    found = three("gemma3")
    for folder in (found.base, *found.experts):
        expert(folder, tmp_path / "sharded" / folder.name, 4, shards="60KB")
        with_copy(tmp_path / "sharded" / folder.name)
    parts = {role: tmp_path / "sharded" / role for role in ("base", "math", "language")}
    merge("layer-swapping", tmp_path / "out", **parts)
    listed = read_json(tmp_path / "out" / "model.safetensors.index.json")
    held = tensors(tmp_path / "out")
    assert listed["weight_map"].keys() == held.keys() and HEAD not in held
    assert listed["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in held.values())
    merge("layer-swapping", tmp_path / "again", **parts | {"math": tmp_path / "out"})


# --- padding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wide", [["math"], ["math", "language"], ["base"]], ids=" ".join)
def test_rows_that_pad_a_vocabulary_are_cut_off(three, tmp_path, family, method, wide):
    found = three(family)
    done = merged_all_the_same(method, found, tmp_path, wide, padded)
    assert AutoConfig.from_pretrained(tmp_path / "out").vocab_size == ROWS
    model_of(tmp_path / "out")
    notes = read_json(tmp_path / "out" / "provenance.json")["spec"]["left_out"]
    assert notes == [
        f"{role}: the last 60 of 320 rows of the vocabulary are cut off, which no token has"
        for role in ("base", "math", "language")
        if role in wide
    ]
    assert notes[0] in str(done)


@pytest.mark.parametrize("embeddings", ["math", "language", "base"])
def test_whose_embeddings_are_taken_of_padded_experts(three, tmp_path, embeddings):
    found = three()
    run("layer-swapping", found, tmp_path / "wanted", embeddings=embeddings)
    padded(found.math)
    run("layer-swapping", found, tmp_path / "out", embeddings=embeddings)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "wanted"))
    assert AutoConfig.from_pretrained(tmp_path / "out").vocab_size == ROWS
    assert model_of(tmp_path / "out").lm_head.weight.shape[0] == ROWS


def test_a_revert_a_dtype_a_comparison_and_a_task_vector_of_a_padded_expert(three, tmp_path):
    found = three()
    revert(found.base, found.math, "math", tmp_path / "wanted", dtype="bfloat16")
    compared, vector = diff(found.base, found.math), dict(TaskVector.from_checkpoint(found.math, found.base))
    padded(found.math)
    revert(found.base, found.math, "math", tmp_path / "out", dtype="bfloat16")
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "wanted"))
    again = diff(found.base, found.math)
    assert again.table.equals(compared.table) and "the last 60 of 320 rows" in str(again)
    assert same(dict(TaskVector.from_checkpoint(found.math, found.base)), vector)


def test_all_padded_alike_keep_their_padding(three, tmp_path):
    found = three()
    for folder in (found.base, *found.experts):
        padded(folder)
    run("soup", found, tmp_path / "out")
    assert tensors(tmp_path / "out")[EMBEDDING].shape[0] == PADDED
    assert "left_out" not in read_json(tmp_path / "out" / "provenance.json")["spec"]


def new_token(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<step>"])
    tokenizer.save_pretrained(folder)


REFUSED = {
    "a new token": (new_token, r"the token '<step>' of its tokenizer.json has the id 260: it is no padding"),
    "a token in added_tokens.json": (
        lambda folder: (folder / "added_tokens.json").write_text('{"<pad>": 261}'),
        "the token '<pad>' of its added_tokens.json has the id 261",
    ),
    "a token in tokenizer_config.json": (
        lambda folder: reconfigured(
            folder, "tokenizer_config.json", added_tokens_decoder={"262": {"content": "<pad>"}}
        ),
        "the token 262 of its tokenizer_config.json",
    ),
    "a padding token in the config": (
        lambda folder: reconfigured(folder, pad_token_id=319),
        r"pad_token_id of its config.json has the id 319",
    ),
    "an end token in the config": (
        lambda folder: reconfigured(folder, "generation_config.json", eos_token_id=[1, 300]),
        r"eos_token_id of its generation_config.json has the id 300",
    ),
    "no tokenizer": (
        lambda folder: [file.unlink() for file in folder.glob("tok*")],
        "unless the rest is padding, which its tokenizer.json",
    ),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
}


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("role", ["math", "base"])
def test_rows_that_may_belong_to_tokens_are_not_cut_off(three, tmp_path, why, role):
    found, (change, words) = three(), REFUSED[why]
    padded(getattr(found, role))
    change(getattr(found, role))
    for method in ("layer-swapping", "soup"):
        with pytest.raises(RequestError, match=words):
            run(method, found, tmp_path / "out")
    with pytest.raises(RequestError, match=words):
        diff(found.base, found.math)
    assert not leftovers(tmp_path) and not (tmp_path / "out").exists()


def test_a_new_token_within_the_rows_is_named(three, tmp_path):
    found = three()
    for folder in (found.base, *found.experts):
        padded(folder)
    new_token(found.math)
    with pytest.raises(RequestError, match=r"do not list the same tokens \('<step>' has no id and the id 260\)"):
        run("soup", found, tmp_path / "out")
