"""Arithmetic on tensors that stay on disk: some rows at a time, so that memory stays small at any model size."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add
from threading import local
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlnb.weights import kernels
from xlnb.weights.tensor_files import Stored
from xlnb.weights.tensors import DTYPES, load

if TYPE_CHECKING:
    from xlnb.checkpoints.recipes import Recipe, Source
    from xlnb.weights.tensors import Rows


_CHUNK = 1 << 19  # elements at a time: so few that they stay in a processor's cache
_HELD = 1 << 24  # elements of an update that TIES, which looks at it several times, keeps in memory


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
        a, b = source.pair
        held += source.scaling * (load(b, rows).float() @ load(a).float())
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

    Each processor works on a tensor of its own: torch's own threads would wait for each other after every small step, which
    takes many times longer where anything else runs.
    """
    _keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max(1, before)) as pool:
            # The largest first, so that nobody is left with it at the end; the sum is in a fixed order.
            order = sorted(range(len(jobs)), key=lambda i: -jobs[i][1].nbytes)
            futures = {i: pool.submit(_compute_one, *jobs[i], descriptor) for i in order}
            parts = [futures[i].result() for i in range(len(jobs))]
    finally:
        torch.set_num_threads(before)
    return reduce(add, parts, Rounding())


def _compute_one(recipe: Recipe, place: Stored, descriptor: int) -> Rounding:
    stored, at, rounding = DTYPES[place.dtype], place.start, Rounding()
    for merged, before in _merged(recipe):
        rounded = merged.to(stored)
        if before is not None and stored != torch.float32:
            rounding.error += _squared_distance(rounded.float(), merged)
            rounding.change += _squared_distance(before, merged)
        at += _write(descriptor, rounded, at)
    return rounding


def _squared_distance(a: Tensor, b: Tensor) -> float:
    """Return the squared distance of two tensors; ``a`` is overwritten."""
    difference = a.sub_(b).flatten()
    return float(torch.dot(difference, difference))


def _merged(recipe: Recipe) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the merged tensor chunk by chunk, each with what stood there before: the base, else the first source.

    Nothing stood there before a tensor that only changes its dtype.
    """
    chunks = list(_chunks(recipe.sources[0].stored.shape))
    if recipe.kind == "ties":
        yield from _ties(recipe, chunks)
        return
    weights = recipe.weights
    if recipe.kind == "slerp":
        pairs = ((values(recipe.sources[0], rows), values(recipe.sources[1], rows)) for rows in chunks)
        weights = kernels.slerp_weights(*kernels.dot_and_norms(pairs), recipe.t)
    drops = [kernels.dare_generator(recipe.seed, i, recipe.name) for i in range(len(recipe.sources))]
    for rows in chunks:
        if recipe.kind == "cast":
            yield load(recipe.sources[0].stored, rows), None
            continue
        experts = [values(source, rows) for source in recipe.sources]
        before = values(recipe.base, rows) if recipe.base else experts[0]
        if recipe.kind in ("linear", "slerp"):
            # A mean is divided once at the end: so it rounds as it should where the shares, such as a third, cannot be stored.
            merged = kernels.weighted_sum(experts, weights)
            yield merged if recipe.total == 1 else merged.div_(recipe.total), before
            continue
        changes = [expert.sub_(before) for expert in experts]
        if recipe.kind == "dare":
            changes = [kernels.dropped(c, recipe.density, drop) for c, drop in zip(changes, drops, strict=True)]
        yield before + reduce(add, (w * change for change, w in zip(changes, weights, strict=True))), before


def _ties(recipe: Recipe, chunks: Sequence[Rows | None]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the TIES merge and the base chunk by chunk; updates that are not too large are held in memory meanwhile."""
    assert recipe.base is not None
    base, size = recipe.base, recipe.sources[0].stored.size
    k = kernels.trim_count(recipe.density, size)

    def update(source: Source, rows: Rows | None) -> Tensor:
        return values(source, rows).sub_(values(base, rows))

    held, trims = [], []
    for i, source in enumerate(recipe.sources):
        if 0 < size <= _HELD:
            held.append(_scratch(i, size).view(recipe.sources[0].stored.shape))
            for rows in chunks:
                held[i][slice(*rows) if rows else ...] = update(source, rows)
            magnitudes = torch.abs(held[i].view(-1), out=_scratch(-1, size)).numpy()
            trims.append(kernels.Trim(*kernels.kth_magnitude(magnitudes, k)))
        else:
            parts = lambda source=source: (update(source, rows) for rows in chunks)  # noqa: E731
            trims.append(kernels.Trim(*kernels.kth_magnitude_streamed(parts, k)))
    for rows in chunks:
        updates = [
            held[i][slice(*rows) if rows else ...] if held else update(s, rows) for i, s in enumerate(recipe.sources)
        ]
        before = values(base, rows)
        yield (
            before + kernels.elected([trim(u) for trim, u in zip(trims, updates, strict=True)], recipe.weights),
            before,
        )


_mine = local()


def _scratch(key: int, size: int) -> Tensor:
    """Return memory of this thread that its last tensor used: fresh memory costs more than the arithmetic on it."""
    if not hasattr(_mine, "scratch"):
        _mine.scratch = {}
    if key not in _mine.scratch:
        _mine.scratch[key] = torch.empty(_HELD)
    return _mine.scratch[key][:size]


def _chunks(shape: tuple[int, ...]) -> Iterator[Rows | None]:
    """Yield the rows of each chunk of a tensor; None where it is taken whole."""
    if not shape or 0 in shape:
        yield None
        return
    width = 1
    for size in shape[1:]:
        width *= size
    step = max(1, _CHUNK // width)
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def _write(descriptor: int, tensor: Tensor, at: int) -> int:
    """Write the bytes of a tensor at a place of an open file, and return how many."""
    view = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], at + done)
    return done
