"""What lies in a checkpoint folder: safetensors headers, read and checked without loading a tensor.

Neither torch nor numpy is imported here, so that a swap of layers starts at once and needs no memory. Whatever is wrong with
a folder is said before anything is written: a header that lies about its file, an index that points elsewhere, a tensor that
is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from xlnb.errors import RequestError
from xlnb.weights.sites import Sites, bare_name, locate_all

BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
FLOATS = {"BF16", "F16", "F32", "F64"}  # what a merge may compute with
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # what a merge may write, and how that is spelt here
DTYPE_NAMES = {code: name for name, code in DTYPES.items()}
_LONGEST = 255  # bytes of a file's name, on every usual file system
MAX_HEADER = 100_000_000  # bytes: the limit of the safetensors library
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: ``start`` and ``stop`` are absolute byte offsets, ``dtype`` is spelt as safetensors does (BF16)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file: its tensors in the order of their bytes, and its header as it stands in the file.

    Some of ``tensors`` may be left out, and rows at their ends: what is left is seen as the whole.
    """

    path: Path
    tensors: dict[str, Stored]
    header: bytes  # length prefix and JSON
    metadata: dict[str, str]
    stamp: tuple[int, int, int]  # what changes where the file is saved again: inode, size, time

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out, so that the header tells of ``tensors``."""
        return len(self.header) + sum(stored.nbytes for stored in self.tensors.values()) == self.stamp[1]

    def is_as_it_was(self) -> bool:
        """Say whether the file is the one that was read, and has the same header still."""
        try:
            with open(self.path, "rb") as file:
                return _stamp(file.fileno()) == self.stamp and file.read(len(self.header)) == self.header
        except OSError:
            return False


def _stamp(descriptor: int) -> tuple[int, int, int]:
    told = os.fstat(descriptor)
    return told.st_ino, told.st_size, told.st_mtime_ns


@dataclass(frozen=True)
class Checkpoint:
    """A folder that transformers or PEFT wrote: ``files`` in a fixed order, ``config`` parsed, all tensors by name."""

    folder: Path
    files: tuple[TensorFile, ...]
    config: dict[str, Any]
    is_adapter: bool

    @cached_property
    def tensors(self) -> dict[str, Stored]:
        """All tensors by name."""
        return {name: stored for file in self.files for name, stored in file.tensors.items()}

    @cached_property
    def by_bare_name(self) -> dict[str, Stored]:
        """All tensors by their names within the decoder, see :func:`~xlnb.weights.sites.bare_name`."""
        return {bare_name(name): stored for name, stored in self.tensors.items()}

    def only(self, tensors: Mapping[str, Stored]) -> Checkpoint:
        """Return the checkpoint with these of its tensors alone, each as it is given here."""
        files = tuple(
            replace(file, tensors={n: tensors[n] for n in file.tensors if n in tensors}) for file in self.files
        )
        return replace(self, files=files)

    @cached_property
    def sites(self) -> Sites:
        """Where each tensor lives."""
        return locate_all(self.tensors)


def read_tensor_file(path: str | Path) -> TensorFile:
    """Read and check the header of a safetensors file.

    Checked is what the format promises: a length within the file, JSON without double names, known dtypes, and tensors that
    cover the rest of the file without holes or overlaps.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RequestError(f"{path} is not a regular file.")
        with open(path, "rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            stamp = _stamp(file.fileno())
            total = stamp[1]
            if len(prefix) < 8 or length > min(MAX_HEADER, total - 8):
                raise _damaged(path, f"its header would be {length:,} bytes long in a file of {total:,}")
            raw = file.read(length)
    except OSError as error:
        remedy = " Download or save it again." if isinstance(error, FileNotFoundError) else ""
        raise RequestError(f"{path} cannot be read: {error.strerror or error}.{remedy}") from error
    entries = _parse_json(path, raw)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _damaged(path, "its __metadata__ is not a table of texts")
    found = {name: _stored(path, name, entry, 8 + length) for name, entry in entries.items()}
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)))
    expected = 8 + length
    for name, stored in tensors.items():
        if stored.start != expected:
            raise _damaged(path, f"the bytes of {name!r} start at {stored.start:,} where {expected:,} was expected")
        expected = stored.stop
    if expected != total:
        raise _damaged(path, f"it has {total:,} bytes where its header tells of {expected:,}")
    return TensorFile(path, tensors, prefix + raw, metadata, stamp)


def _damaged(path: Path, why: str) -> RequestError:
    return RequestError(f"{path} is no whole safetensors file: {why}. Download or save it again.")


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in names if names.count(name) > 1)
            raise _damaged(path, f"its header names {double!r} twice")
        return table

    if not raw.startswith(b"{"):
        raise _damaged(path, "its header is not JSON")
    try:
        # "-0" is no size; nor are numbers of thousands of digits, for which Python has an error of its own
        whole = lambda text: -1 if text.startswith("-") else int(text)  # noqa: E731
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_int=whole)
        if b"\\u" in raw:
            json.dumps(entries, ensure_ascii=False).encode()  # half a surrogate is no text
    except RequestError:  # it is a ValueError, and says enough
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    return entries


def _stored(path: Path, name: str, entry: Any, data_start: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, stop]} if (
            len(entry) == 3
            and len(shape) <= 64
            and all(type(n) is int and 0 <= n < 1 << 63 for n in [*shape, start, stop])
        ):
            pass
        case _:
            raise _damaged(path, f"its header's entry for {name!r} is not a dtype, a shape and two offsets")
    if dtype not in BYTES:
        raise RequestError(
            f"{path}: {name!r} is stored as {dtype}, which is not known here; known are {', '.join(BYTES)}."
        )
    if stop - start != prod(shape) * BYTES[dtype]:
        raise _damaged(path, f"{name!r} of shape {shape[:8]} in {dtype} does not fill {stop - start:,} bytes")
    return Stored(path, dtype, tuple(shape), data_start + start, data_start + stop)


def header_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file that holds ``tensors`` (name: dtype and shape) one after the other, in this order."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, (dtype, shape) in tensors.items():
        stop = start + prod(shape) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors' bytes are aligned
    return len(text).to_bytes(8, "little") + text


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Read what a checkpoint or adapter folder holds, headers only.

    Sharded or single safetensors, or a PEFT adapter. An index that does not fit its files is refused, and so are links and
    paths that lead out of the folder, other than those of a download from the Hugging Face hub to its cache.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder}. Give a folder that save_pretrained wrote.")
    if (folder / ADAPTER).exists() and ((folder / SINGLE).exists() or (folder / INDEX).exists()):
        raise RequestError(
            f"{folder} holds an adapter and a whole model, and it does not say which counts: put one of them into a folder of "
            "its own."
        )
    if (folder / ADAPTER).exists() or ((folder / ADAPTER_CONFIG).exists() and not (folder / "config.json").exists()):
        config = _read_config(folder, ADAPTER_CONFIG)
        if not os.path.lexists(folder / ADAPTER):
            raise RequestError(f"{folder} holds no weights: it has no {ADAPTER}.{_other_weights(folder)}")
        return Checkpoint(folder, (read_tensor_file(_inside(folder, ADAPTER)),), config, is_adapter=True)
    config = _read_config(folder, "config.json")
    single, index = (folder / SINGLE).exists(), (folder / INDEX).exists()
    if single and index:
        raise RequestError(f"{folder} holds both {SINGLE} and {INDEX}: which one counts? Remove the other.")
    if index:
        files = _indexed_files(folder)
    elif single:
        files = (read_tensor_file(_inside(folder, SINGLE)),)
    else:
        raise RequestError(f"{folder} holds no weights: it has neither {SINGLE} nor {INDEX}.{_other_weights(folder)}")
    return Checkpoint(folder, files, config, is_adapter=False)


def _other_weights(folder: Path) -> str:
    """Return a sentence about weights that lie there in another format, if any do."""
    formats = {".bin", ".pt", ".pth", ".gguf", ".h5", ".safetensors"}
    others = sorted(path.name for path in folder.glob("*") if path.suffix in formats)
    return f" It has {others[0]}: load that and save_pretrained it as safetensors." if others else ""


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = _inside(folder, name)
    if not path.exists():
        raise RequestError(f"{folder} holds no checkpoint: it has no {name}.")
    if not path.is_file():  # a pipe would be waited for
        raise RequestError(f"{path} is not a regular file.")
    return read_settings(path)


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a config.json says. Raises RequestError where it is no table of settings."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise RequestError(f"{path} is not a table of settings.")
    return config


def _indexed_files(folder: Path) -> tuple[TensorFile, ...]:
    weight_map = _read_config(folder, INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise RequestError(f"{folder / INDEX} has no weight_map of tensor names to files.")
    files = {name: read_tensor_file(_inside(folder, name)) for name in sorted(set(weight_map.values()))}
    for name, file in files.items():
        listed = {tensor for tensor, where in weight_map.items() if where == name}
        if differing := sorted(listed ^ set(file.tensors)):
            says = "lists" if differing[0] in listed else "does not list"
            raise RequestError(f"{folder / INDEX} {says} {differing[0]!r} in {name}, but the file says otherwise.")
    return tuple(files.values())


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a file of the folder; a name or a link that leads elsewhere is refused."""
    if name != Path(name).name or not name.isprintable():
        raise RequestError(f"{folder} names the file {name!r}, which is not in the folder.")
    return _checked_place(folder, folder / name)


def _checked_place(folder: Path, path: Path) -> Path:
    real, home = (Path(os.path.realpath(place)) for place in (path, folder))
    if not (real.is_relative_to(home) or _is_blob(real, home)):
        raise RequestError(f"{path} is a link to {real}, outside the folder: put the file itself there.")
    return path


_BLOB = re.compile(r"/models--[^/]+/blobs/(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_SHARED_BLOB = re.compile(r"/blobs/([0-9a-f]{2})/\1[0-9a-f]{62}$")


def _is_blob(real: Path, home: Path) -> bool:
    """Say whether a file is where the Hugging Face cache keeps the contents that a download's links lead to.

    A snapshot's lie beside it, any folder within it included, or in the store that all entries share; a folder of its own
    (``local_dir``) may lead into any entry.
    """
    if _SHARED_BLOB.search(real.as_posix()) and (real.parents[1] / ".huggingface-shared-blobs").is_file():
        return True
    entries = [parent.parent for parent in home.parents if parent.name == "snapshots"]
    if any(real.is_relative_to(entry / "blobs") for entry in entries):
        return True
    in_cache = any(entry.name.startswith("models--") for entry in entries)
    return not in_cache and _BLOB.search(real.as_posix()) is not None


# Everything a model needs beside its weights, and nothing of the training that made it.
_COMPANIONS = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.py",
    "LICENSE*",
    "NOTICE*",
    "additional_chat_templates/*.jinja",
)
_NOT_COMPANIONS = {ADAPTER_CONFIG, "trainer_state.json", "provenance.json", "training_args.json", "all_results.json",
                   "train_results.json", "eval_results.json", "optimizer.json", "zero_to_fp32.py"}  # fmt: skip
# Weights in whatever format, and the indices of weights, which would tell of files that are not there.
_WEIGHTS = re.compile(
    r"\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|ggml|onnx|onnx_data|npz|npy|pkl|pickle|model_state)$|\.index(\.\w+)?\.json$"
)
_QUOTED = re.compile(r"""["']([^"'\\\n]{1,200})["']""")


def companions(checkpoint: Checkpoint) -> list[Path]:
    """Return the files that go with the weights, in the folder or below it.

    These are configuration, tokenizer, chat templates, licence and custom code, by their names; and what the configs (all that
    are called ``*config.json``) or the code name in quotes, if it is there, be it in a sub-folder. Never weights in whatever
    format (``*.bin``, ``consolidated*.pth``, ``onnx/*.onnx``), their indices, or what training left. Links out of the folder
    are refused.
    """
    folder = checkpoint.folder
    found = {path for pattern in _COMPANIONS for path in folder.glob(pattern)}
    for path in [*folder.glob("*config.json"), *folder.glob("*.py")]:
        if path.is_file():
            text = _checked_place(folder, path).read_text(encoding="utf-8", errors="replace")
            found |= {folder / name for name in _QUOTED.findall(text) if _is_name_below(name)}
    kept = {ADAPTER_CONFIG} if checkpoint.is_adapter else set()
    chosen = sorted(
        path for path in found if path.name in kept or not (path.name in _NOT_COMPANIONS or _WEIGHTS.search(path.name))
    )
    return [_checked_place(folder, path) for path in chosen if path.is_file()]


def copy_companions(paths: Iterable[Path], source: Path, folder: Path, without: Set[str] = frozenset()) -> None:
    """Copy files of the folder ``source`` to the same places of another one, but for those with the names ``without``."""
    for path in paths:
        if path.name not in without:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return a config that says which dtype the weights have, under the name that it uses.

    >>> with_dtype({"torch_dtype": "bfloat16"}, "float32"), with_dtype({}, "float32")
    ({'torch_dtype': 'float32'}, {'dtype': 'float32'})
    """
    return {**config, "torch_dtype" if "torch_dtype" in config else "dtype": dtype}


def language_setting(config: Mapping[str, Any], name: str) -> Any:
    """Return a setting of a config, that of the language model in a wrapper; None where it says nothing.

    >>> language_setting({"text_config": {"num_hidden_layers": 26}}, "num_hidden_layers"), language_setting({}, "vocab_size")
    (26, None)
    """
    text = config.get("text_config")
    inner = text.get(name) if isinstance(text, dict) else None
    return config.get(name) if inner is None else inner


def _is_name_below(name: str) -> bool:
    """Say whether a text may be the path of a file below a folder; hidden ones are none.

    >>> [_is_name_below(text) for text in ("vocab.bpe", "assets/vocab.bpe", "../vocab", "/etc/passwd", ".cache/x", "a b")]
    [True, True, False, False, False, True]
    """
    parts = name.split("/")
    # A longer one is no file, and Python 3.11 raises an error where it is looked for.
    fits = name.isprintable() and all(len(part.encode()) <= _LONGEST for part in parts)
    return fits and not any(part.startswith(".") or part == "" for part in parts)


def blocks(stored: Stored) -> Iterator[bytes]:
    """Yield the bytes of a stored tensor, a megabyte at a time."""
    with open(stored.file, "rb") as file:
        file.seek(stored.start)
        left = stored.nbytes
        while left:
            block = file.read(min(1 << 20, left))
            if not block:
                raise _damaged(stored.file, "it became shorter while it was read")
            left -= len(block)
            yield block


def same_bytes(a: Stored, b: Stored) -> bool:
    """Say whether two stored tensors are equal to the last bit."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return all(x == y for x, y in zip(blocks(a), blocks(b), strict=True))


def sample(stored: Stored, count: int = 512) -> list[float]:
    """Return up to ``count`` elements, evenly spread over the tensor's bytes in a few runs, as floats, without numpy."""
    width = BYTES[stored.dtype]
    runs = min(8, max(1, stored.size // 64))
    length = min(count // runs, stored.size // runs) * width
    values: list[float] = []
    with open(stored.file, "rb") as file:
        for run in range(runs):
            file.seek(stored.start + run * (stored.nbytes // width // runs) * width)
            data = file.read(length)
            if stored.dtype == "BF16":  # the upper half of a float32
                halves = struct.unpack(f"<{len(data) // 2}H", data)
                values += struct.unpack(f"<{len(halves)}f", b"".join((h << 16).to_bytes(4, "little") for h in halves))
            else:
                code = {"F16": "e", "F32": "f", "F64": "d"}[stored.dtype]
                values += struct.unpack(f"<{len(data) // width}{code}", data)
    return values
