"""Arithmetic on tensors that stay on disk: some rows at a time, so that memory stays small at any model size."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from math import prod
from operator import add
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlnb.cores import on_cores
from xlnb.errors import WorkError
from xlnb.weights import kernels
from xlnb.weights.tensor_files import Stored
from xlnb.weights.tensors import DTYPES, load

if TYPE_CHECKING:
    from xlnb.checkpoints.recipes import Recipe, Source
    from xlnb.weights.tensors import Rows

_CHUNK = 1 << 19  # elements at a time: so few that they stay in a processor's cache


@dataclass
class Rounding:
    """What storing in the output's dtype took away: squared norms of the rounding error and of what the merge changed."""

    error: float = 0.0
    change: float = 0.0

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(self.error + other.error, self.change + other.change)

    @property
    def share(self) -> float:
        """The norm of the rounding error relative to that of the change; 0 where nothing changed."""
        return (self.error / self.change) ** 0.5 if self.change else 0.0


def values(source: Source, rows: Rows | None = None) -> Tensor:
    """Return what a source holds, in float32: a stored tensor, and a LoRA update on top of it where it has one."""
    held = load(source.stored, rows).float()
    if source.pair:
        held += source.pair.update(rows)
    return held


def _keep_freed_memory() -> None:
    """Let the C library reuse what a chunk freed instead of giving it back to the system each time: a third of all time.

    Only where it is glibc's; elsewhere nothing happens.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        library.mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD


def compute(jobs: Sequence[tuple[Recipe, Stored]], descriptor: int) -> Rounding:
    """Compute tensors and write each to its place in an open file, in the place's dtype; return what rounding took away.

    Each processor works on a tensor of its own (see :mod:`xlnb.cores`).
    """
    _keep_freed_memory()
    largest_first = sorted(jobs, key=lambda job: -job[1].nbytes)
    return reduce(add, on_cores(lambda job: _compute_one(*job, descriptor), largest_first), Rounding())


def _compute_one(recipe: Recipe, place: Stored, descriptor: int) -> Rounding:
    stored, at, rounding = DTYPES[place.dtype], place.start, Rounding()
    for merged, before in _merged(recipe):
        rounded = merged.to(stored)
        if not bool(rounded.isfinite().all()):
            raise _no_number(recipe, merged, place)
        if before is not None and stored != torch.float32:
            difference = rounded.float().sub_(merged)
            rounding.error += _squared_norm(difference)
            rounding.change += _squared_norm(torch.sub(before, merged, out=difference))
        at += _write(descriptor, rounded, at)
    return rounding


def _no_number(recipe: Recipe, merged: Tensor, place: Stored) -> WorkError:
    if bool(merged.isfinite().all()):
        found, most = float(merged.abs().max()), torch.finfo(DTYPES[place.dtype]).max
        return WorkError(
            f"{recipe.name!r} has numbers up to {found:,.0f}, and {place.dtype} ends at {most:,.0f}: choose --dtype bfloat16 or "
            "float32."
        )
    read = [one for source in (*recipe.sources, recipe.base) if source for one in _tensors(source)]
    spoilt = ", ".join(dict.fromkeys(str(one.file) for one in dict.fromkeys(read) if not _is_finite(one)))
    if spoilt:
        return WorkError(f"{recipe.name!r} has NaN or infinite numbers in {spoilt}: its training diverged.")
    files = ", ".join(dict.fromkeys(str(one.file) for one in read))
    return WorkError(
        f"{recipe.name!r} is finite in {files}, but not merged: smaller weights may keep it within float32."
    )


def _tensors(source: Source) -> list[Stored]:
    """Return the stored tensors that a source is made of."""
    return [source.stored, *((source.pair.a, source.pair.b) if source.pair else ())]


def _is_finite(stored: Stored) -> bool:
    return all(bool(load(stored, rows).isfinite().all()) for rows in _chunks(stored.shape))


def _squared_norm(difference: Tensor) -> float:
    flat = difference.flatten()
    return float(torch.dot(flat, flat))


def _merged(recipe: Recipe) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the merged tensor chunk by chunk, each with what stood there before: the base, else the first source.

    Nothing stood there before a tensor that only changes its dtype.
    """
    first = recipe.sources[0].stored
    chunks = _chunks(first.shape)
    if recipe.kind == "cast":
        yield from ((load(first, rows), None) for rows in chunks)
        return
    merge = kernels.MERGES[recipe.kind]
    origin = recipe.base or recipe.sources[0]
    before = lru_cache(maxsize=1)(partial(values, origin))  # the experts' updates of the same rows need it, too

    def read(source: Source) -> Iterator[Tensor]:
        if merge.updates:
            return (values(source, rows).sub_(before(rows)) for rows in chunks)
        return map(before if source == origin else partial(values, source), chunks)

    reads: list[kernels.Read] = [partial(read, source) for source in recipe.sources]
    if merge.looks_again and 0 < first.size <= kernels.HELD:
        reads = [_held(i, one, first, chunks) for i, one in enumerate(reads)]
    merged = merge.kernel(kernels.Seen(recipe.name, first.size, reads), recipe.options)
    for rows, chunk in zip(chunks, merged, strict=True):
        yield before(rows) + chunk if merge.updates else chunk, before(rows)


def _held(key: int, read: kernels.Read, like: Stored, chunks: Sequence[Rows | None]) -> kernels.Read:
    """Read a tensor once, into memory, and return how to read it again from there."""
    whole = kernels.scratch(key, like.size).view(like.shape)
    parts = [whole[slice(*rows)] if rows else whole for rows in chunks]
    for part, chunk in zip(parts, read(), strict=True):
        part.copy_(chunk)
    return lambda: parts


def _chunks(shape: tuple[int, ...]) -> list[Rows | None]:
    """Return the rows of each chunk of a tensor; None where it is taken whole."""
    if not shape or 0 in shape:
        return [None]
    step = max(1, _CHUNK // prod(shape[1:]))
    return [(first, min(first + step, shape[0])) for first in range(0, shape[0], step)]


def _write(descriptor: int, tensor: Tensor, at: int) -> int:
    """Write the bytes of a tensor at a place of an open file, and return how many."""
    view = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], at + done)
    return done
