"""The arithmetic of merging on plain tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from math import acos, sin
from typing import TYPE_CHECKING

from xlnb.errors import RequestError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from torch import Generator, Tensor


TIES_DENSITY, DARE_DENSITY = 0.2, 0.1  # kept of each task vector: the defaults of the two papers
_SAME_DIRECTION = 0.9995  # where |cosine| is larger, SLERP is linear interpolation, as everywhere


def check_density(density: float) -> None:
    """Raise :class:`~xlnb.errors.RequestError` unless ``density`` is in (0, 1]."""
    if not 0 < density <= 1:
        raise RequestError(f"density={density}: the share that is kept is larger than 0 and at most 1.")


def check_t(t: float) -> None:
    """Raise :class:`~xlnb.errors.RequestError` unless ``t`` is in [0, 1]."""
    if not 0 <= t <= 1:
        raise RequestError(f"t={t}: it lies between 0 (the first expert) and 1 (the second).")


# -------------------------------------------------------------------------------------------------------- on tensors


def weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of float32 tensors, added up in the order given."""
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total.add_(value, alpha=weight)
    return total


def trimmed(delta: Tensor, density: float) -> Tensor:
    """Return ``delta`` with all but its ``density`` largest elements, by magnitude, set to zero."""
    if not delta.numel():
        return delta.clone()
    magnitudes = delta.detach().abs().flatten().numpy()
    return Trim(*kth_magnitude(magnitudes, trim_count(density, delta.numel())))(delta)


def trim_count(density: float, n: int) -> int:
    """Return how many of ``n`` elements a trim keeps: rounded down, but at least one."""
    return min(n, max(1, int(density * n)))


class Trim:
    """Set small elements to zero, chunk by chunk; kept are all above a threshold, and of those equal to it the first ``ties``.

    ``ties`` is None where all equal to the threshold are kept.
    """

    def __init__(self, threshold: float, ties: int | None):
        self.threshold, self.ties = threshold, ties

    def __call__(self, delta: Tensor) -> Tensor:
        """Return the next chunk, trimmed."""
        import numpy as np
        import torch
        from torch.nn.functional import hardshrink

        if self.threshold == 0:
            return delta.clone()  # what is left is zero anyway
        if self.ties is None:
            below = torch.nextafter(torch.tensor(self.threshold), torch.tensor(0.0))
            return hardshrink(delta, below.item())
        kept = hardshrink(delta, self.threshold)
        first = np.flatnonzero(delta.abs().numpy() == np.float32(self.threshold))[: self.ties]
        kept.view(-1)[first] = delta.flatten()[first]
        self.ties -= len(first)
        return kept


def kth_magnitude(magnitudes: NDArray[float32], k: int) -> tuple[float, int | None]:
    """Return the k-th largest of all magnitudes, and how many equal to it are among the k largest: None for all.

    ``magnitudes`` is a flat array, which is reordered.
    """
    magnitudes.partition(len(magnitudes) - k)
    smaller, largest = magnitudes[:-k], magnitudes[-k:]
    magnitude = largest[0]
    return float(magnitude), int((largest == magnitude).sum()) if (smaller == magnitude).any() else None


def kth_magnitude_streamed(chunks: Callable[[], Iterable[Tensor]], k: int) -> tuple[float, int | None]:
    """Return what :func:`kth_magnitude` does for the elements of all chunks together, holding one at a time.

    ``chunks`` gives the same float32 tensors each time it is called. Exact, by two histograms over the bits of the numbers
    instead of a sort: the bits of positive floats are ordered as the floats are.
    """
    import torch

    upper = torch.zeros(1 << 15, dtype=torch.int64)
    for chunk in chunks():
        upper += torch.bincount(_magnitude_bits(chunk) >> 16, minlength=1 << 15)
    high, left = _bin_from_the_top(upper, k)
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for chunk in chunks():
        bits = _magnitude_bits(chunk)
        lower += torch.bincount(bits[(bits >> 16) == high] & 0xFFFF, minlength=1 << 16)
    low, ties = _bin_from_the_top(lower, left)
    magnitude = torch.tensor((high << 16) | low, dtype=torch.int32).view(torch.float32).item()
    return magnitude, None if ties == lower[low] else ties


def _magnitude_bits(chunk: Tensor) -> Tensor:
    import torch

    return chunk.detach().abs().contiguous().view(torch.int32).flatten()


def _bin_from_the_top(counts: Tensor, k: int) -> tuple[int, int]:
    """Return the bin in which the k-th element from the top lies, and its rank within the bin."""
    import torch

    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, torch.tensor(k)))
    above = int(from_top[place - 1]) if place else 0
    return len(counts) - 1 - place, k - above


def elected(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return, for each element, the weighted mean of those updates whose sign is that of their weighted sum.

    The ``deltas`` are overwritten.
    """
    import torch
    from torch import Tensor

    # Signs are multiplied in and clamped away, in place: torch's `where` takes ten times as long, and so does fresh memory.
    scaled = [delta if weight == 1 else delta.mul_(weight) for delta, weight in zip(deltas, weights, strict=True)]
    total = reduce(Tensor.add_, scaled[1:], scaled[0].clone())
    sign = torch.copysign(torch.tensor(1.0), total)
    agreeing = [
        delta.mul_(sign).clamp_(min=0) for delta in scaled
    ]  # seen from the elected side the others are negative
    total = reduce(Tensor.add_, agreeing[1:], total.copy_(agreeing[0]))
    parts = [
        one.sign_() if weight == 1 else one.sign_().mul_(weight) for one, weight in zip(agreeing, weights, strict=True)
    ]
    divisor = reduce(Tensor.add_, parts)
    if min(weights) > 0:
        divisor.clamp_(min=min(weights))  # only where nobody agrees is it smaller: 0
    else:
        divisor[divisor == 0] = 1
    return total.div_(divisor).mul_(sign)


def dare_generator(seed: int, expert: int, name: str) -> Generator:
    """Return the random numbers that decide what DARE drops of one tensor of one expert (0, 1, ...)."""
    import torch

    digest = hashlib.sha256(f"{seed}/{expert}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def dropped(delta: Tensor, density: float, generator: Generator) -> Tensor:
    """Return ``delta`` with elements kept with probability ``density`` and divided by it, the others zero."""
    import torch

    kept = torch.rand(delta.numel(), generator=generator).view_as(delta) < density
    return delta * kept / density


def dot_and_norms(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float, float]:
    """Return the dot product and the two norms of tensors given in chunks, summed in float64."""
    dot = first = second = 0.0
    for a, b in pairs:
        a, b = a.double(), b.double()
        dot += float((a * b).sum())
        first += float(a.square().sum())
        second += float(b.square().sum())
    return dot, first**0.5, second**0.5


def slerp_weights(dot: float, first_norm: float, second_norm: float, t: float) -> tuple[float, float]:
    """Return the weights of the two tensors in their spherical interpolation; linear where they point the same way.

    >>> slerp_weights(0.0, 1.0, 1.0, 0.0), slerp_weights(1.0, 1.0, 1.0, 0.25)
    ((1.0, 0.0), (0.75, 0.25))
    """
    cosine = dot / (first_norm * second_norm) if first_norm * second_norm > 0 else 1.0
    if abs(cosine) > _SAME_DIRECTION:
        return 1 - t, t
    angle = acos(cosine)
    return sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)
