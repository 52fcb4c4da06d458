"""A checkpoint in as few bytes as it was quantised to: stored, and written again to the very same bits.

A tensor is stored as its quantised bytes in a GGUF file where they dequantise to it, and as it is where they do not. Of
embeddings and heads a choice of rows may be kept; the others come back as zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy import ndarray

    from xlnb.weights.tensor_files import Stored, TensorFile

PLAN, BYTES = "plan.json", "bytes.bin"
_DTYPES = ("BF16", "F16", "F32")  # as safetensors spells those that quantised rows come out as
_ROWS = 8192  # at once: what is held in memory is little, whatever the vocabulary


def store(
    files: Sequence[TensorFile], out: str | Path, gguf: Path | None = None, kept: Sequence[int] | None = None
) -> dict[str, Any]:
    """Write the tensors of a checkpoint's files into a folder that is there, for :func:`rebuild`, and return the plan.

    ``gguf`` is the file that the checkpoint was converted from, ``kept`` are ascending ids: the rows that stay of each
    embedding and head; all where it is None. The plan counts tensors and bytes by how they are stored, and has the SHA-256 that
    each file, so trimmed, has.
    """
    from xlnb.weights.sites import EMBEDDING, HEAD, locate_all

    sites = locate_all([name for file in files for name in file.tensors]).of
    quantised = _quantised(gguf, list(sites)) if gguf else {}
    plan: dict[str, Any] = {"rows": list(kept) if kept is not None else None, "files": []}
    with open(Path(out) / BYTES, "wb") as blob:
        for file in files:
            trimmed, tensors = hashlib.sha256(file.header), []
            blob.write(file.header)
            for name, stored in file.tensors.items():
                cut = kept is not None and sites[name].block in (EMBEDDING, HEAD)
                rows = _rows_of(stored)
                chosen = rows[list(kept or ())] if cut else rows
                kind, data = _smallest(stored, chosen, quantised.get(name), kept if cut else None)
                blob.write(data.tobytes())
                shape = [rows.shape[0], data.shape[1], rows.shape[1]]  # rows, bytes of a stored one, bytes of a row
                tensors.append({"name": name, "dtype": stored.dtype, "kind": kind, "cut": cut, "shape": shape})
                for part in _spread(iter([chosen]), kept, rows.shape) if cut else [rows]:
                    trimmed.update(part.data)
            plan["files"].append(
                {"name": file.path.name, "header": len(file.header), "sha256": trimmed.hexdigest(), "tensors": tensors}
            )
    (Path(out) / PLAN).write_text(json.dumps(plan), encoding="utf-8")
    return plan


def rebuild(stored: str | Path, out: str | Path) -> None:
    """Write the files of a stored checkpoint into a folder; raises ValueError where one is not, bit by bit, what was stored."""
    plan = json.loads((Path(stored) / PLAN).read_text(encoding="utf-8"))
    with open(Path(stored) / BYTES, "rb") as blob:
        for file in plan["files"]:
            found = hashlib.sha256()
            with open(Path(out) / file["name"], "wb") as target:
                for part in _parts(blob, file, plan["rows"]):
                    target.write(part)
                    found.update(part)
            if found.hexdigest() != file["sha256"]:
                raise ValueError(
                    f"{file['name']} is not the file that was packed: SHA-256 {found.hexdigest()}, not {file['sha256']}"
                )


def _parts(blob: BinaryIO, file: Mapping[str, Any], kept: Sequence[int] | None) -> Iterator[Any]:
    yield blob.read(file["header"])
    for tensor in file["tensors"]:
        rows, small, width = tensor["shape"]
        n = len(kept or ()) if tensor["cut"] else rows
        found = _read(blob, n, small, tensor["kind"], tensor["dtype"])
        yield from _spread(found, kept, (rows, width)) if tensor["cut"] else found


def _read(blob: BinaryIO, n: int, small: int, kind: int | None, dtype: str) -> Iterator[ndarray]:
    """Yield n rows as the checkpoint has them, of ``small`` bytes each as they are stored."""
    import numpy as np

    for start in range(0, n, _ROWS):
        count = min(_ROWS, n - start)
        data = np.frombuffer(blob.read(count * small), dtype=np.uint8).reshape(count, small)
        yield data if kind is None else _dequantised(data, kind, dtype)


def _spread(found: Iterator[ndarray], kept: Sequence[int] | None, shape: tuple[int, ...]) -> Iterator[ndarray]:
    """Yield all rows of a matrix of bytes, some thousand at a time: those found at the places kept, zeros elsewhere."""
    import numpy as np

    places, have = np.asarray(kept), np.zeros((0, shape[1]), dtype=np.uint8)
    for start in range(0, shape[0], _ROWS):
        block = np.zeros((min(_ROWS, shape[0] - start), shape[1]), dtype=np.uint8)
        here = places[(places >= start) & (places < start + _ROWS)] - start
        while len(have) < len(here):
            have = np.concatenate([have, next(found)])
        block[here], have = have[: len(here)], have[len(here) :]
        yield block


def _rows_of(stored: Stored) -> ndarray:
    """Return a tensor's bytes, a row a row; a vector is one row."""
    import numpy as np

    rows = stored.shape[0] if len(stored.shape) > 1 else 1
    if not stored.size:
        return np.zeros((1, 0), dtype=np.uint8)
    return np.memmap(stored.file, np.uint8, "r", stored.start, (rows, stored.nbytes // rows))


def _smallest(
    stored: Stored, chosen: ndarray, quantised: Any, kept: Sequence[int] | None
) -> tuple[int | None, ndarray]:
    """Return how these rows are stored (the number of a GGUF type, None for as they are) and their bytes."""
    import numpy as np

    if (
        quantised is None
        or stored.dtype not in _DTYPES
        or [int(n) for n in reversed(quantised.shape)] != list(stored.shape)
    ):
        return None, chosen
    data = quantised.data if len(stored.shape) > 1 else quantised.data.reshape(1, -1)
    data = (data if kept is None else data[list(kept)]).view(np.uint8)
    if data.ndim != 2 or data.nbytes >= chosen.nbytes:
        return None, chosen
    kind = int(quantised.tensor_type)
    with suppress(NotImplementedError):  # by which gguf says that it cannot dequantise a type
        for start in range(0, len(data), _ROWS):
            part = slice(start, start + _ROWS)
            if not np.array_equal(_dequantised(data[part], kind, stored.dtype), chosen[part]):
                return None, chosen
        return kind, data
    return None, chosen


def _dequantised(data: ndarray, kind: int, dtype: str) -> ndarray:
    """Return rows of quantised bytes as bytes of a dtype, one of ``_DTYPES``."""
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    values = np.ascontiguousarray(dequantize(data, GGMLQuantizationType(kind)), dtype=np.float32)
    if dtype == "BF16":  # rounded to the nearest, ties to even, as torch does
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).view(np.uint8)
    return values.astype({"F16": np.float16, "F32": np.float32}[dtype]).view(np.uint8)


def _quantised(gguf: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the tensors of a GGUF file by the names that a checkpoint has for them, where gguf knows such a model."""
    from gguf import GGUFReader, get_tensor_name_map
    from gguf.constants import MODEL_ARCH_NAMES

    reader = GGUFReader(gguf)
    architecture = reader.get_field("general.architecture")
    told = architecture.contents() if architecture else ""
    known = [key for key, name in MODEL_ARCH_NAMES.items() if name == told]
    blocks = reader.get_field(f"{told}.block_count")
    if not known or blocks is None:
        return {}
    table, there = get_tensor_name_map(known[0], blocks.contents()), {one.name: one for one in reader.tensors}
    found = {name: table.get_name(name, try_suffixes=(".weight", ".bias")) for name in names}
    return {name: there[other] for name, other in found.items() if other in there}
