"""Arithmetic on tensors that stay on disk: some rows at a time, so that memory stays small at any model size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlnb import merging
from xlnb.errors import WorkError
from xlnb.tensor_files import Stored

if TYPE_CHECKING:
    from xlnb.checkpoints import Recipe, Source

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "U32": torch.uint32,
    "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64,
}  # fmt: skip
_CHUNK = 1 << 20  # elements at a time
Rows = tuple[int, int]


@dataclass
class Rounding:
    """What storing in the output's dtype took away: squared norms of the rounding error and of what the merge changed."""

    error: float = 0.0
    change: float = 0.0

    @property
    def share(self) -> float:
        """The norm of the rounding error relative to that of the change; 0 where nothing changed."""
        return (self.error / self.change) ** 0.5 if self.change else 0.0


def load(stored: Stored, rows: Rows | None = None) -> Tensor:
    """Return a stored tensor in its own dtype and shape, or its rows from ``rows[0]`` to before ``rows[1]``.

    Raises :class:`~xlnb.errors.WorkError` where the file became shorter than its header says.
    """
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


def values(source: Source, rows: Rows | None = None) -> Tensor:
    """Return what a source holds, in float32: a stored tensor, and a LoRA update on top of it where it has one."""
    held = load(source.stored, rows).float()
    if source.pair:
        a, b = source.pair
        held += source.scaling * (load(b, rows).float() @ load(a).float())
    return held


def compute(recipe: Recipe, dtype: str, write: Callable[[Tensor], None], rounding: Rounding) -> None:
    """Compute one tensor and ``write`` it in pieces, in order, in ``dtype``; add to ``rounding`` what that took away."""
    stored = DTYPES[dtype]
    reference = recipe.base or recipe.sources[0]
    for rows, merged in _merged(recipe):
        rounded = merged.to(stored)
        if recipe.kind != "cast" and stored != torch.float32:
            rounding.error += float((rounded.float() - merged).square().sum())
            rounding.change += float((merged - values(reference, rows)).square().sum())
        write(rounded)


def _merged(recipe: Recipe) -> Iterator[tuple[Rows | None, Tensor]]:
    # Trimming looks at a tensor several times: there a chunk is larger.
    chunks = list(_chunks(recipe.sources[0].stored.shape, (16 if recipe.kind == "ties" else 1) * _CHUNK))

    @lru_cache(maxsize=1)  # a tensor that is one chunk is read once, however often it is looked at
    def deltas(rows: Rows | None) -> tuple[Tensor, list[Tensor]]:
        assert recipe.base is not None
        base = values(recipe.base, rows)
        return base, [values(source, rows) - base for source in recipe.sources]

    weights = recipe.weights
    if recipe.kind == "slerp":
        pairs = ((values(recipe.sources[0], rows), values(recipe.sources[1], rows)) for rows in chunks)
        weights = merging.slerp_weights(*merging.dot_and_norms(pairs), recipe.t)
    trims = _trims(recipe, chunks, deltas) if recipe.kind == "ties" else []
    drops = [merging.dare_generator(recipe.seed, i, recipe.name) for i in range(len(recipe.sources))]
    for rows in chunks:
        if recipe.kind == "cast":
            yield (
                rows,
                load(recipe.sources[0].stored, rows) if not recipe.sources[0].pair else values(recipe.sources[0], rows),
            )
        elif recipe.kind in ("linear", "slerp"):
            yield rows, merging.weighted_sum([values(source, rows) for source in recipe.sources], weights)
        else:
            base, changes = deltas(rows)
            if recipe.kind == "ties":
                changes = [change * trim(change) for change, trim in zip(changes, trims, strict=True)]
                yield rows, base + merging.elected(changes, weights)
                continue
            if recipe.kind == "dare":
                changes = [merging.dropped(c, recipe.density, drop) for c, drop in zip(changes, drops, strict=True)]
            yield rows, base + _sum(changes, weights)


def _sum(changes: Iterable[Tensor], weights: Iterable[float]) -> Tensor:
    return reduce(add, (weight * change for change, weight in zip(changes, weights, strict=True)))


def _trims(
    recipe: Recipe, chunks: Sequence[Rows | None], deltas: Callable[[Rows | None], tuple[Tensor, list[Tensor]]]
) -> list[merging.Trim]:
    k = merging.trim_count(recipe.density, recipe.sources[0].stored.size)
    return [
        merging.Trim(*merging.kth_magnitude(lambda i=i: (deltas(rows)[1][i] for rows in chunks), k))  # type: ignore[misc]
        for i in range(len(recipe.sources))
    ]


def _chunks(shape: tuple[int, ...], elements: int) -> Iterator[Rows | None]:
    """Yield the rows of each chunk of about ``elements`` of a tensor; None where it is taken whole."""
    if not shape or 0 in shape:
        yield None
        return
    width = 1
    for size in shape[1:]:
        width *= size
    step = max(1, elements // width)
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def write_all(descriptor: int, tensor: Tensor) -> None:
    """Write the bytes of a tensor to an open file."""
    view = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
    while view:
        view = view[os.write(descriptor, view) :]
