"""Weights as they were quantised: what is stored is as small as the GGUF file's tensors, and comes back bit by bit."""

import json

import ggufs
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file

from xlnb.models.quantised import BYTES, PLAN, rebuild, store
from xlnb.weights.tensor_files import read_tensor_file

ROWS, WIDTH = 300, 64
KINDS = {
    "model.embed_tokens.weight": ("token_embd.weight", GGMLQuantizationType.Q8_0),
    "model.layers.0.mlp.up_proj.weight": ("blk.0.ffn_up.weight", GGMLQuantizationType.Q4_0),
    "model.layers.0.mlp.down_proj.weight": ("blk.0.ffn_down.weight", GGMLQuantizationType.Q8_0),
    "model.layers.0.self_attn.q_proj.weight": ("blk.0.attn_q.weight", GGMLQuantizationType.F32),
    "model.norm.weight": ("output_norm.weight", GGMLQuantizationType.F32),
}
CHANGED = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def checkpoint(tmp_path):
    """A file of weights that was dequantised from the GGUF file beside it, but for one tensor that was changed since."""
    rng, tensors = np.random.default_rng(0), {}
    writer = GGUFWriter(tmp_path / "weights.gguf", "gemma3")
    writer.add_block_count(1)
    for name, (told, kind) in KINDS.items():
        shape = (ROWS, WIDTH) if "embed" in name else (WIDTH,) if "norm" in name else (96, WIDTH)
        data = quantize(rng.normal(size=shape).astype(np.float32), kind)
        writer.add_tensor(told, data, raw_dtype=kind)
        tensors[name] = torch.from_numpy(dequantize(data, kind).copy()).bfloat16()
    ggufs.finish(writer)
    tensors[CHANGED][3, 5] += 1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def packed(checkpoint, **options):
    out = checkpoint / "stored"
    out.mkdir()
    plan = store([read_tensor_file(checkpoint / "model.safetensors")], out, **options)
    (checkpoint / "again").mkdir()
    return out, {tensor["name"]: tensor for tensor in plan["files"][0]["tensors"]}


def test_what_dequantises_to_the_weights_is_stored_quantised_and_the_rest_as_it_is(checkpoint):
    out, told = packed(checkpoint, gguf=checkpoint / "weights.gguf")
    kinds = {name: tensor["kind"] for name, tensor in told.items()}
    assert kinds == {
        "model.embed_tokens.weight": GGMLQuantizationType.Q8_0,
        "model.layers.0.mlp.up_proj.weight": GGMLQuantizationType.Q4_0,
        CHANGED: None,
        "model.layers.0.self_attn.q_proj.weight": None,  # float32 is larger than what it became
        "model.norm.weight": None,
    }
    rebuild(out, checkpoint / "again")
    assert (checkpoint / "again" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    whole = (checkpoint / "model.safetensors").stat().st_size
    saved = 2 * ROWS * WIDTH + 2 * 96 * WIDTH - ROWS * (WIDTH // 32) * 34 - 96 * (WIDTH // 32) * 18
    assert (out / BYTES).stat().st_size == whole - saved


@pytest.mark.parametrize("quantised", [True, False], ids=["quantised", "as-it-is"])
def test_rows_that_are_kept_come_back_at_their_places(checkpoint, monkeypatch, quantised):
    monkeypatch.setattr(
        "xlnb.models.quantised._ROWS", 32
    )  # so that blocks begin and end among them, and some have none
    kept = [0, 31, 32, 33, 150, 151, 299]
    out, told = packed(checkpoint, gguf=checkpoint / "weights.gguf" if quantised else None, kept=kept)
    assert [name for name, tensor in told.items() if tensor["cut"]] == ["model.embed_tokens.weight"]
    rebuild(out, checkpoint / "again")
    found, expected = (load_file(checkpoint / place / "model.safetensors") for place in ("again", "."))
    for name in KINDS:
        if "embed" in name:
            others = [row for row in range(ROWS) if row not in kept]
            assert torch.equal(found[name][kept], expected[name][kept])
            assert not found[name][others].any()
        else:
            assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_dtypes_come_back_too(checkpoint, dtype):
    file = checkpoint / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    out, _ = packed(checkpoint, gguf=checkpoint / "weights.gguf", kept=[5, 200])
    rebuild(out, checkpoint / "again")
    found, expected = load_file(checkpoint / "again" / file.name), load_file(file)
    assert all(torch.equal(found[name], expected[name]) for name in KINDS if "embed" not in name)
    assert torch.equal(found["model.embed_tokens.weight"][[5, 200]], expected["model.embed_tokens.weight"][[5, 200]])


def test_a_gguf_file_of_another_architecture_changes_nothing(checkpoint):
    writer = GGUFWriter(checkpoint / "other.gguf", "none-that-is-known")
    writer.add_tensor("token_embd.weight", np.zeros((ROWS, WIDTH), dtype=np.float32))
    ggufs.finish(writer)
    out, told = packed(checkpoint, gguf=checkpoint / "other.gguf")
    assert {tensor["kind"] for tensor in told.values()} == {None}
    rebuild(out, checkpoint / "again")
    assert (checkpoint / "again" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_a_bit_that_flips_in_what_is_stored_is_noticed(checkpoint):
    out, _ = packed(checkpoint, gguf=checkpoint / "weights.gguf")
    data = bytearray((out / BYTES).read_bytes())
    data[len(data) // 2] ^= 1
    (out / BYTES).write_bytes(data)
    with pytest.raises(ValueError, match="is not the file that was packed"):
        rebuild(out, checkpoint / "again")
    plan = json.loads((out / PLAN).read_text())
    assert plan["files"][0]["sha256"]
