"""Stored tensors, loaded: whole or some rows."""

from __future__ import annotations

import torch
from torch import Tensor

from xlnb.errors import WorkError
from xlnb.weights.tensor_files import Stored

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "U32": torch.uint32,
    "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64,
}  # fmt: skip
Rows = tuple[int, int]


def load(stored: Stored, rows: Rows | None = None) -> Tensor:
    """Return a stored tensor in its own dtype and shape, or its rows from ``rows[0]`` to before ``rows[1]``."""
    shape, start, nbytes = stored.shape, stored.start, stored.nbytes
    if rows:
        width = nbytes // shape[0]
        shape, start, nbytes = (rows[1] - rows[0], *shape[1:]), start + rows[0] * width, (rows[1] - rows[0]) * width
    buffer = torch.empty(nbytes, dtype=torch.uint8)
    with open(stored.file, "rb", buffering=0) as file:
        file.seek(start)
        view, done = buffer.numpy().data, 0
        while done < nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise WorkError(f"{stored.file} became shorter while it was read: start again.")
            done += count
    return buffer.view(DTYPES[stored.dtype]).view(shape)
