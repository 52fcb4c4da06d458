"""Safetensors headers: what the library writes is read as it reads it, and whatever is wrong is refused in words."""

import json
import os
import random
import shutil
import threading
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import deserialize, safe_open
from safetensors.torch import save, save_file

from xlnb.checkpoints.verbs import merge
from xlnb.errors import RequestError
from xlnb.weights.tensor_files import (
    BYTES,
    blocks,
    companions,
    header_bytes,
    open_checkpoint,
    read_tensor_file,
    same_bytes,
    sample,
)

TORCH = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "U32": torch.uint32,
    "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64,
}  # fmt: skip


def some_tensors():
    generator = torch.Generator().manual_seed(0)
    raw = {
        code: torch.randint(
            0, 2 if code == "BOOL" else 120, (3, 2 * BYTES[code]), dtype=torch.uint8, generator=generator
        )
        for code in TORCH
    }
    tensors = {f"of {code}": raw[code].view(dtype) for code, dtype in TORCH.items()}
    return tensors | {
        "a scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4, dtype=torch.bfloat16),
        "empty too": torch.zeros(3, 0),
        'ሰላም "quoted" \\ 🌍 \n': torch.arange(5, dtype=torch.int64),
        "four dimensions": torch.zeros(1, 2, 1, 3),
    }


def written(folder, data, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


def encoded(header, body=b"", length=None):
    """The bytes of a file with this header (a value or raw bytes)."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


def by_library(data):
    """What the safetensors library reads: dtype, shape and bytes by name."""
    return {name: (one["dtype"], tuple(one["shape"]), bytes(one["data"])) for name, one in deserialize(data)}


def by_us(path):
    return {
        name: (stored.dtype, stored.shape, b"".join(blocks(stored)))
        for name, stored in read_tensor_file(path).tensors.items()
    }


# --- agreement with the library --------------------------------------------------------------------------


def test_every_dtype_shape_and_name_is_read_as_the_library_reads_it(tmp_path):
    tensors = some_tensors()
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt", "größe": "ü"})
    read = by_us(tmp_path / "a.safetensors")
    assert read == by_library((tmp_path / "a.safetensors").read_bytes())
    assert {name: shape for name, (_, shape, _) in read.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    assert {dtype for dtype, _, _ in read.values()} == set(BYTES) == set(TORCH)
    file = read_tensor_file(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt", "größe": "ü"}
    assert (tmp_path / "a.safetensors").read_bytes().startswith(file.header)
    assert [s.start for s in file.tensors.values()] == sorted(s.start for s in file.tensors.values())


def test_a_file_without_metadata_or_tensors(tmp_path):
    save_file({}, tmp_path / "none.safetensors")
    assert read_tensor_file(tmp_path / "none.safetensors").tensors == {}
    save_file({"one": torch.ones(2)}, tmp_path / "one.safetensors")
    assert read_tensor_file(tmp_path / "one.safetensors").metadata == {}


def test_a_stored_tensor_knows_its_size(tmp_path):
    save_file(some_tensors(), tmp_path / "a.safetensors")
    stored = read_tensor_file(tmp_path / "a.safetensors").tensors
    for name, tensor in some_tensors().items():
        assert (stored[name].size, stored[name].nbytes) == (tensor.numel(), tensor.numel() * tensor.element_size())


@pytest.mark.parametrize("metadata", [{}, {"format": "pt", "größe": "ü"}])
def test_our_headers_are_read_by_the_library(tmp_path, metadata):
    plan = {name: (code, (3, 2)) for name, code in zip(("a", 'ü"\\', "z"), ("BF16", "F64", "BOOL"), strict=True)}
    plan |= {"scalar": ("I16", ()), "empty": ("F32", (0, 7))}
    header = header_bytes(plan, metadata)
    body = bytes(range(12)) + bytes(48) + bytes([1] * 6) + bytes(2)
    path = written(tmp_path, header + body)
    assert {name: one[:2] for name, one in by_library(header + body).items()} == plan
    assert by_us(path) == by_library(header + body)
    assert len(header) % 8 == 0
    with safe_open(path, "pt") as file:
        assert (file.metadata() or {}) == metadata
        assert file.get_tensor("z").all()
    assert list(read_tensor_file(path).tensors) == list(plan)


# --- corruption ------------------------------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}
DATA = bytes(range(16))


def twice(name="a"):
    return f'{{"{name}": {json.dumps(ONE)}, "{name}": {json.dumps(TWO)}}}'.encode()


DAMAGED = {
    "nothing": (b"", "no whole safetensors file"),
    "seven bytes": (bytes(7), "no whole safetensors file"),
    "zeros": (bytes(64), "not JSON"),
    "an absurd length": (encoded({"a": ONE}, DATA[:8], length=2**63), r"9,223,372,036,854,775,808 bytes long in a file of"),
    "a length beyond the end": (encoded({"a": ONE}, DATA[:8], length=10_000), "10,000 bytes long in a file of"),
    "a length that cuts the JSON": (encoded({"a": ONE}, DATA[:8], length=20), "not JSON"),
    "a truncated body": (encoded({"a": ONE, "b": TWO}, DATA[:-1]), "header tells of"),
    "a truncated header": (encoded({"a": ONE})[:-5], "bytes long in a file of"),
    "trailing bytes": (encoded({"a": ONE}, DATA[:9]), "header tells of"),
    "a tensor beyond the end": (encoded({"a": ONE, "b": TWO}, DATA[:8]), "header tells of"),
    "overlapping tensors": (encoded({"a": ONE, "b": {**TWO, "data_offsets": [4, 12]}}, DATA[:12]), "was expected"),
    "the same bytes twice": (encoded({"a": ONE, "b": ONE}, DATA[:8]), "was expected"),
    "a hole": (encoded({"a": ONE, "b": {**TWO, "data_offsets": [12, 20]}}, bytes(20)), "was expected"),
    "a hole in front": (encoded({"b": TWO}, DATA), "was expected"),
    "backward offsets": (encoded({"a": {**ONE, "data_offsets": [8, 0]}}, DATA[:8]), "does not fill -8 bytes"),
    "a name twice": (encoded(twice(), DATA), "names 'a' twice"),
    "a key twice": (encoded(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), "names 'dtype' twice"),
    "an unknown dtype": (encoded({"a": {**ONE, "dtype": "F31"}}, DATA[:8]), "F31, which is not known here; known are BOOL"),
    "no dtype": (encoded({"a": {"shape": [2], "data_offsets": [0, 8]}}, DATA[:8]), "entry for 'a'"),
    "no shape": (encoded({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, DATA[:8]), "entry for 'a'"),
    "no offsets": (encoded({"a": {"dtype": "F32", "shape": [2]}}, DATA[:8]), "entry for 'a'"),
    "an extra key": (encoded({"a": {**ONE, "extra": 1}}, DATA[:8]), "entry for 'a'"),
    "another dtype than fits": (encoded({"a": {**ONE, "dtype": "F64"}}, DATA[:8]), r"shape \[2\] in F64 does not fill 8"),
    "a negative shape": (encoded({"a": {**ONE, "shape": [-2]}}, DATA[:8]), "entry for 'a'"),
    "two negative sizes": (encoded({"a": {**ONE, "shape": [-1, -2]}}, DATA[:8]), "entry for 'a'"),
    "a minus zero": (encoded(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-0, 8]}}', DATA[:8]), "entry for 'a'"),
    "a float in a shape": (encoded({"a": {**ONE, "shape": [2.0]}}, DATA[:8]), "entry for 'a'"),
    "a bool in a shape": (encoded({"a": {**ONE, "shape": [2, True]}}, DATA[:8]), "entry for 'a'"),
    "a text in a shape": (encoded({"a": {**ONE, "shape": ["2"]}}, DATA[:8]), "entry for 'a'"),
    "a text for a shape": (encoded({"a": {**ONE, "shape": "2"}}, DATA[:8]), "entry for 'a'"),
    "a number for a shape": (encoded({"a": {**ONE, "shape": 2}}, DATA[:8]), "entry for 'a'"),
    "a huge shape": (encoded({"a": {**ONE, "shape": [2**62] * 50}}, DATA[:8]), "does not fill 8 bytes"),
    "a size beyond 64 bits": (encoded({"a": {**ONE, "shape": [2**64]}}, DATA[:8]), "entry for 'a'"),
    "a size of 5000 digits": (encoded(b'{"a": {"shape": [' + b"9" * 5000 + b"]}}"), "not JSON"),
    "three offsets": (encoded({"a": {**ONE, "data_offsets": [0, 8, 8]}}, DATA[:8]), "entry for 'a'"),
    "a float offset": (encoded({"a": {**ONE, "data_offsets": [0, 8.0]}}, DATA[:8]), "entry for 'a'"),
    "NaN": (encoded({"a": {**ONE, "shape": [float("nan")]}}, DATA[:8]), "entry for 'a'"),
    "infinity": (encoded({"a": {**ONE, "data_offsets": [0, float("inf")]}}, DATA[:8]), "entry for 'a'"),
    "no JSON": (encoded(b"{not JSON}"), "not JSON"),
    "a list": (encoded([1, 2]), "not JSON"),
    "a blank first": (encoded(b" {}"), "not JSON"),
    "two values": (encoded(b"{} {}"), "not JSON"),
    "wrong UTF-8": (encoded(b'{"\xff\xfe": 1}'), "not JSON"),
    "half a surrogate": (encoded(b'{"\\ud800": ' + json.dumps(ONE).encode() + b"}", DATA[:8]), "not JSON"),
    "deep lists": (encoded(b'{"a":' + b"[" * 200_000), "not JSON"),
    "deep tables": (encoded(b'{"a":' * 100_000), "not JSON"),
    "an entry that is no table": (encoded({"a": 1}), "entry for 'a'"),
    "metadata that is no table": (encoded({"__metadata__": [], "a": ONE}, DATA[:8]), "__metadata__ is not a table"),
    "metadata that is no text": (encoded({"__metadata__": {"a": 1}}), "__metadata__ is not a table of texts"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_refused_in_words(tmp_path, damage):
    data, words = DAMAGED[damage]
    path = written(tmp_path, data)
    with pytest.raises(RequestError, match=words) as refused:
        read_tensor_file(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 600 + len(str(path))


def test_a_file_with_two_good_tensors_is_read(tmp_path):
    """What the damaged files above are made from is not damaged itself."""
    path = written(tmp_path, encoded({"b": TWO, "a": ONE}, DATA))
    assert by_us(path) == {"a": ("F32", (2,), DATA[:8]), "b": ("F32", (2,), DATA[8:])}


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="not a regular file"):
        read_tensor_file(tmp_path)
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        read_tensor_file(tmp_path / "nothing")
    with pytest.raises(RequestError, match="cannot be read"):
        read_tensor_file(tmp_path / ("long" * 100))


def refuses_within_seconds(action):
    """Whether it raises RequestError, and does not hang."""
    raised = []

    def attempt():
        try:
            action()
        except RequestError as error:
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    return bool(raised)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "model.safetensors.index.json", "adapter_config.json"]
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    folder = single(tmp_path / "checkpoint")
    if name == "adapter_config.json":
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert refuses_within_seconds(lambda: open_checkpoint(folder))


def test_a_file_that_becomes_shorter_is_noticed(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "a.safetensors")
    stored = read_tensor_file(tmp_path / "a.safetensors").tensors["a"]
    os.truncate(tmp_path / "a.safetensors", stored.stop - 1)
    with pytest.raises(RequestError, match="became shorter"):
        list(blocks(stored))


# --- folders ---------------------------------------------------------------------------------------------

A, B = {"a": torch.ones(2)}, {"b": torch.zeros(3, dtype=torch.bfloat16)}


def single(folder, tensors=None):
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file(A if tensors is None else tensors, folder / "model.safetensors")
    return folder


def sharded(folder, **changes):
    """A folder of two files and an index; ``changes`` go into the index's weight_map, None takes out."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(A, folder / "1.safetensors")
    save_file(B, folder / "2.safetensors")
    wanted = {"a": "1.safetensors", "b": "2.safetensors", **changes}
    weight_map = {name: file for name, file in wanted.items() if file is not None}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_single_and_sharded_folders_are_read(tmp_path):
    one, two = open_checkpoint(single(tmp_path / "single", A | B)), open_checkpoint(sharded(tmp_path / "sharded"))
    assert {n: (s.dtype, s.shape) for n, s in one.tensors.items()} == {"a": ("F32", (2,)), "b": ("BF16", (3,))}
    assert {n: (s.dtype, s.shape) for n, s in two.tensors.items()} == {"a": ("F32", (2,)), "b": ("BF16", (3,))}
    assert [sum(stored.nbytes for stored in found.tensors.values()) for found in (one, two)] == [14, 14]
    assert one.config == {"model_type": "llama"}
    assert not one.is_adapter


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": "../1.safetensors"}, "which is not in the folder"),
        ({"a": "sub/1.safetensors"}, "which is not in the folder"),
        ({"a": "/etc/hostname"}, "which is not in the folder"),
        ({"a": ".."}, "outside the folder"),
        ({"a": "."}, "not in the folder"),
        ({"a": ""}, "not a regular file"),
        ({"a": "nul\0.safetensors"}, "which is not in the folder"),
        ({"a": "\ud800"}, "which is not in the folder"),
        ({"a": "x" * 300}, "cannot be read"),
        ({"a": "missing.safetensors"}, "missing.safetensors cannot be read"),
        ({"c": "1.safetensors"}, "lists 'c' in 1.safetensors, but the file says otherwise"),
        ({"b": None}, None),
        ({"a": "2.safetensors"}, "'a' in 2.safetensors, but the file says otherwise"),
        ({"a": 1}, "no weight_map"),
        ({"a": None, "b": None}, "no weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, changes, words):
    folder = sharded(tmp_path / "checkpoint", **changes)
    save_file(A, tmp_path / "1.safetensors")
    if words is None:  # a file that the index does not name is not part of the checkpoint
        assert set(open_checkpoint(folder).tensors) == {"a"}
        return
    with pytest.raises(RequestError, match=words):
        open_checkpoint(folder)


def test_a_tensor_that_the_index_does_not_list_is_refused(tmp_path):
    folder = sharded(tmp_path / "checkpoint")
    save_file(A | {"surplus": torch.ones(1)}, folder / "1.safetensors")
    with pytest.raises(RequestError, match=r"does not list 'surplus' in 1\.safetensors"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "index",
    ["[]", "{}", '{"weight_map": []}', '{"weight_map": "1.safetensors"}', "no JSON", "", "[" * 100_000, "\xff"],
)
def test_an_index_that_is_no_table_is_refused(tmp_path, index):
    folder = sharded(tmp_path / "checkpoint")
    (folder / "model.safetensors.index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(RequestError, match=r"index\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize("config", ["", "[]", "no JSON", "\xff", "[" * 100_000, "9" * 5000])
def test_a_config_that_is_no_table_is_refused(tmp_path, config):
    folder = single(tmp_path / "checkpoint")
    (folder / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(RequestError, match=r"config\.json"):
        open_checkpoint(folder)


def test_both_a_file_and_an_index_are_refused(tmp_path):
    folder = sharded(tmp_path / "checkpoint")
    save_file(A, folder / "model.safetensors")
    with pytest.raises(RequestError, match=r"both model\.safetensors and model\.safetensors\.index\.json"):
        open_checkpoint(folder)


def test_folders_without_weights_are_refused(tmp_path):
    folder = tmp_path / "checkpoint"
    with pytest.raises(RequestError, match="There is no folder"):
        open_checkpoint(folder)
    folder.mkdir()
    with pytest.raises(RequestError, match=r"it has no config\.json"):
        open_checkpoint(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="holds no weights"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(RequestError, match=r"It has pytorch_model\.bin: load that"):
        open_checkpoint(folder)
    with pytest.raises(RequestError, match="There is no folder"):
        open_checkpoint(folder / "config.json")


# --- links -----------------------------------------------------------------------------------------------


def hub_download(root):
    """A folder as the Hugging Face cache has it: links into the blobs of the same entry."""
    entry = root / "models--owner--name"
    revision = entry / "snapshots" / "abc"
    revision.parent.mkdir(parents=True)
    (entry / "blobs").mkdir()
    single(revision)
    (revision / "tokenizer.json").write_text("{}")
    for file in list(revision.iterdir()):
        file.rename(entry / "blobs" / f"hash-of-{file.name}")
        file.symlink_to(f"../../blobs/hash-of-{file.name}")
    return revision


def test_a_hub_download_is_read_through_its_links(tmp_path):
    checkpoint = open_checkpoint(hub_download(tmp_path))
    assert list(checkpoint.tensors) == ["a"]
    assert {path.name for path in companions(checkpoint)} == {"config.json", "tokenizer.json"}


def linked(folder, blob_of):
    """Turn the files of a folder into links to the blobs whose paths a function says."""
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        blob = blob_of(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists():
            file.rename(blob)
        file.unlink(missing_ok=True)
        file.symlink_to(blob)


def blob_name(file, digits=64):
    return sha256(file.read_bytes()).hexdigest()[:digits]


def read_whole(folder):
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.tensors) == ["a"]
    assert {path.name for path in companions(checkpoint)} >= {"config.json", "tokenizer.json"}


def test_links_of_a_local_dir_lead_into_the_cache(tmp_path):
    folder = single(tmp_path / "my-model")
    (folder / "tokenizer.json").write_text("{}")
    linked(
        folder,
        lambda file: tmp_path / "hub/models--owner--name/blobs" / blob_name(file, 40 if "json" in file.name else 64),
    )
    read_whole(folder)
    (tmp_path / "link").symlink_to(folder)
    read_whole(tmp_path / "link")


def test_a_cache_whose_entries_share_blobs(tmp_path):
    """As huggingface_hub from version 2 on keeps them: two links, the second into a store beside the entries."""
    from huggingface_hub.utils._shared_blobs import _ensure_shared_blobs_dir, shared_blob_path

    assert _ensure_shared_blobs_dir(tmp_path)
    revision = hub_download(tmp_path)
    linked(revision.parent.parent / "blobs", lambda file: shared_blob_path(tmp_path, blob_name(file)))
    assert Path(os.path.realpath(revision / "model.safetensors")).parents[1] == tmp_path / "blobs"
    read_whole(revision)
    (tmp_path / "blobs" / ".huggingface-shared-blobs").unlink()
    with pytest.raises(RequestError, match="outside the folder"):
        open_checkpoint(revision)


def test_a_folder_within_a_snapshot(tmp_path):
    revision = hub_download(tmp_path)
    (revision / "checkpoints").mkdir()
    inner = single(revision / "checkpoints" / "step-100")
    (inner / "tokenizer.json").write_text("{}")
    linked(inner, lambda file: revision.parent.parent / "blobs" / blob_name(file))
    read_whole(inner)


@pytest.mark.parametrize("name", ["not-a-hash", "ab" * 31, "AB" * 32, "../" + "ab" * 32])
def test_what_is_no_blob_is_refused_behind_a_link(tmp_path, name):
    folder = single(tmp_path / "my-model")
    linked(folder, lambda file: tmp_path / "hub/models--owner--name/blobs" / name)
    with pytest.raises(RequestError, match="outside the folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_links_out_of_the_folder_are_refused(tmp_path, name):
    folder = single(tmp_path / "checkpoint")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(RequestError, match="outside the folder: put the file itself there"):
        open_checkpoint(folder)


@pytest.mark.parametrize("where", ["blobs of another model", "beside the cache"])
def test_links_out_of_a_hub_download_are_refused(tmp_path, where):
    revision = hub_download(tmp_path)
    target = tmp_path / ("models--other" if where == "blobs of another model" else "plain") / "blobs" / "x"
    target.parent.mkdir(parents=True)
    shutil.copy(revision / "model.safetensors", target)
    (revision / "model.safetensors").unlink()
    (revision / "model.safetensors").symlink_to(target)
    with pytest.raises(RequestError, match="outside the folder"):
        open_checkpoint(revision)


def test_blobs_count_only_beside_snapshots(tmp_path):
    folder = tmp_path / "entry" / "elsewhere" / "abc"
    folder.parent.mkdir(parents=True)
    single(folder)
    (tmp_path / "entry" / "blobs").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "entry" / "blobs" / "x")
    (folder / "model.safetensors").symlink_to("../../blobs/x")
    with pytest.raises(RequestError, match="outside the folder"):
        open_checkpoint(folder)


def test_links_within_the_folder_and_to_the_folder_are_followed(tmp_path):
    folder = single(tmp_path / "checkpoint")
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(folder)
    assert list(open_checkpoint(tmp_path / "link").tensors) == ["a"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "1.safetensors"])
def test_a_link_to_itself_is_refused(tmp_path, name):
    folder = (sharded if name[0] == "1" else single)(tmp_path / "checkpoint")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    with pytest.raises(RequestError):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "additional_chat_templates"])
def test_companions_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    folder = single(tmp_path / "checkpoint")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.jinja").write_text("secret")
    target = tmp_path / "secrets" if name == "additional_chat_templates" else tmp_path / "secrets" / "key.jinja"
    (folder / name).symlink_to(target)
    with pytest.raises(RequestError, match="outside the folder"):
        companions(open_checkpoint(folder))


def test_companions_are_what_a_model_needs_and_nothing_of_its_training(tmp_path):
    folder = single(tmp_path / "checkpoint")
    needed = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "LICENSE",
              "chat_template.jinja", "modeling_x.py"}  # fmt: skip
    for name in needed | {"trainer_state.json", "optimizer.pt", "README.md", "provenance.json", "adapter_config.json"}:
        (folder / name).write_text("{}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    found = {str(path.relative_to(folder)) for path in companions(open_checkpoint(folder))}
    assert found == needed | {"additional_chat_templates/tool_use.jinja"}


def test_companions_are_what_the_code_and_the_configs_name_and_no_weights(tmp_path):
    folder = single(tmp_path / "checkpoint")
    (folder / "tokenization_x.py").write_text(
        "FILES = {'vocab_file': \"vocab.bpe\", 'other': 'assets/deep/words.dict'}"
    )
    (folder / "tokenizer_config.json").write_text('{"vocab_file": "tokenizer.model.v3", "weights": "original/a.pth"}')
    (folder / "config.json").write_text(
        '{"a": "pytorch_model.bin", "b": "../outside.txt", "c": "/etc/hostname", "d": ".git/x"}'
    )
    named = {"vocab.bpe", "assets/deep/words.dict", "tokenizer.model.v3", "qwen.tiktoken"}
    never = {"pytorch_model.bin", "pytorch_model.bin.index.json", "model.safetensors.index.fp16.json", "original/a.pth",
             "original/params.json", "original/tokenizer.model", "consolidated.00.pth", "onnx/model.onnx", "onnx/config.json",
             "flax_model.msgpack", "flax_model.msgpack.index.json", "training_args.bin", "checkpoint-5/config.json", ".git/x",
             "zero_to_fp32.py"}  # fmt: skip
    for name in named | never:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    (tmp_path / "outside.txt").write_text("secret")
    found = {str(path.relative_to(folder)) for path in companions(open_checkpoint(folder))}
    assert found == named | {"config.json", "tokenizer_config.json", "tokenization_x.py"}


@pytest.mark.parametrize("text", ["ስ" * 90, "a/" + "ስ" * 90], ids=["a name", "in a folder"])
def test_a_long_text_that_a_config_quotes_is_no_name(tmp_path, text):
    folder = single(tmp_path / "checkpoint")
    (folder / "config.json").write_text(json.dumps({"template": text}, ensure_ascii=False), encoding="utf-8")
    assert {path.name for path in companions(open_checkpoint(folder))} == {"config.json"}


def test_a_named_companion_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = single(tmp_path / "checkpoint")
    (folder / "config.json").write_text('{"a": "assets/key"}')
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    (folder / "assets").symlink_to(tmp_path / "secrets")
    with pytest.raises(RequestError, match="outside the folder"):
        companions(open_checkpoint(folder))


# --- bytes -----------------------------------------------------------------------------------------------


def test_equal_bytes_are_told_from_others(tmp_path):
    x = torch.arange(300_000, dtype=torch.float32)
    y = x.clone()
    y[-1] += 1
    save_file(
        {"x": x, "y": y, "as ints": x.view(torch.int32).clone(), "row": x[None].clone(), "again": x.clone()},
        tmp_path / "a",
    )
    stored = read_tensor_file(tmp_path / "a").tensors
    assert same_bytes(stored["x"], stored["again"])
    for other in ("y", "as ints", "row"):
        assert not same_bytes(stored["x"], stored[other])


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("shape", [(8, 8), (3, 1), (100, 77)])
def test_a_sample_has_elements_of_the_tensor(tmp_path, dtype, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(TORCH[dtype])
    save_file({"before": torch.ones(3), "a": values}, tmp_path / "a")
    found = sample(read_tensor_file(tmp_path / "a").tensors["a"])
    assert set(found) <= set(values.double().flatten().tolist())
    assert min(512, values.numel()) * 0.9 <= len(found) <= 512
    assert len(set(found)) > 0.5 * len(found)


# --- fuzz ------------------------------------------------------------------------------------------------

SCRAPS = [b"-", b"0", b"1", b"9" * 20, b"}", b"{", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"null", b"true", b"NaN",
          b"1e3", b".0", b"\0", b"\xff", b" ", b"\n", b"__metadata__", b"F32", b"BF16"]  # fmt: skip
VALUES = [0, -1, 1, 8, 2**31, 2**63, 2**64, 10**400, 1.0, True, None, "", "F32", "F64", "BF16", "x", [], [0], [2, 2], [0, 8], {},
          {"a": 1}, float("nan"), "\ud800"]  # fmt: skip


def mutant(data, rng):
    """Damage a safetensors file in one of the ways that files are damaged, or forged."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        where = rng.randrange(len(data) + 1)
        length = int.from_bytes(data[:8], "little")
        match rng.randrange(7):
            case 0 if where < len(data):
                data[where] ^= 1 << rng.randrange(8)
            case 1:
                del data[where:]
            case 2:
                data[where:where] = rng.choice(SCRAPS)
            case 3:
                del data[where : where + rng.randrange(1, 9)]
            case 4:
                new = rng.choice([0, 1, length - 1, length + 1, length + 8, len(data) - 8, len(data), 2**32, 2**64 - 1])
                data[:8] = (new % 2**64).to_bytes(8, "little")
            case 5:  # within the header, the length kept right: what a parser gets to see
                header = data[8 : 8 + length]
                at = rng.randrange(len(header) + 1)
                header[at : at + rng.randrange(3)] = rng.choice(SCRAPS)
                data[:] = len(header).to_bytes(8, "little") + header + data[8 + length :]
            case 6:
                data[:] = with_changed_header(data, length, rng)
    return bytes(data)


def with_changed_header(data, length, rng):
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        entry = header[rng.choice(list(header))]
        match rng.randrange(4):
            case 0:
                header[rng.choice([*header, "new"])] = rng.choice([*VALUES, entry])
            case 1:
                entry[rng.choice([*entry, "new"])] = rng.choice(VALUES)
            case 2:
                entry[rng.choice(["shape", "data_offsets"])][rng.randrange(2)] = rng.choice(VALUES)
            case 3:
                first, second = rng.choice(list(header)), rng.choice(list(header))
                header[first], header[second] = header[second], header[first]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return data
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(data[8 + length :])


def test_two_thousand_damaged_files_are_refused_or_read_as_the_library_reads_them(tmp_path):
    whole = save({"a": torch.arange(4.0).view(2, 2), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.zeros(0, 2)},
                 metadata={"format": "pt"})  # fmt: skip
    rng, path, read, refused = random.Random(0), tmp_path / "mutant", 0, 0
    for i in range(2000):
        data = mutant(whole, rng)
        path.write_bytes(data)
        try:
            ours = by_us(path)
        except RequestError:
            refused += 1
            continue
        read += 1
        assert ours == by_library(data), f"mutant {i}: {data!r}"
    assert read > 100  # a flipped bit in a number is no damage that a header tells
    assert refused > 1000


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """Two small experts of two layers that look like a Llama, and their swap."""
    root = tmp_path_factory.mktemp("experts")
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (3, 2), "model.norm.weight": (2,), "lm_head.weight": (3, 2)}
    for layer in range(2):
        shapes |= {
            f"model.layers.{layer}.self_attn.q_proj.weight": (2, 2),
            f"model.layers.{layer}.mlp.up_proj.weight": (2, 2),
        }
    math = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    language = {name: tensor + (".layers." in name) * 0.01 for name, tensor in math.items()}
    folders = single(root / "math", math), single(root / "language", language)
    return *folders, {
        name: (math if ".layers.1" in name or ".layers." not in name else language)[name] for name in math
    }


def test_a_merge_of_damaged_files_is_refused_or_right(tmp_path, experts):
    math, language, swapped = experts
    rng, refused, right = random.Random(1), 0, 0
    for i in range(300):
        folder = tmp_path / str(i)
        which = rng.choice(["math", "language"])
        for role, source in (("math", math), ("language", language)):
            shutil.copytree(source, folder / role)
        data = mutant((folder / which / "model.safetensors").read_bytes(), rng)
        (folder / which / "model.safetensors").write_bytes(data)
        try:
            merge("layer-swapping", folder / "out", math=folder / "math", language=folder / "language", bottom=1, top=0)
        except RequestError:
            refused += 1
            assert sorted(path.name for path in folder.iterdir()) == ["language", "math"]
            continue
        right += 1
        given = by_library(data)  # flipped bits in the numbers are in the output as they are in the input
        expected = by_library((language if which == "math" else math).joinpath("model.safetensors").read_bytes())
        found = by_library((folder / "out" / "model.safetensors").read_bytes())
        assert set(found) == set(swapped)
        for name in swapped:
            owner = "language" if ".layers.0." in name else "math"
            assert found[name] == (given if owner == which else expected)[name], (i, name)
    assert refused > 150
    assert right > 10
