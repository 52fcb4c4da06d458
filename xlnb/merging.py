"""Putting experts together: each merge takes task vectors and returns one; below them, the same arithmetic on plain tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from math import acos, sin
from operator import add
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.partitions import Partition
from xlnb.task_vectors import TaskVector

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from torch import Generator, Tensor
    from torch.nn import Module

TIES_DENSITY, DARE_DENSITY = 0.2, 0.1  # kept of each task vector: the defaults of the two papers
_SAME_DIRECTION = 0.9995  # where |cosine| is larger, SLERP is linear interpolation, as everywhere


# --------------------------------------------------------------------------------------------------- on task vectors


def layer_swapping(
    math: TaskVector, language: TaskVector, partition: Partition, embeddings: str = "base"
) -> TaskVector:
    """Return M*m + (1-M)*l: each side's update on the share it owns (arXiv 2410.01335; 2505.18356).

    What lies outside the layers stays the base's, unless ``embeddings`` is ``math`` or ``language``. Raises
    :class:`~xlnb.errors.RequestError` where the partition does not fit the depth of the task vectors.
    """
    return math.mask(partition, "math", embeddings) + language.mask(partition, "language", embeddings)


def soup(vectors: Sequence[TaskVector]) -> TaskVector:
    """Return the mean of the task vectors: the uniform model soup (arXiv 2203.05482)."""
    return task_arithmetic(vectors, [1 / max(1, len(vectors))] * len(vectors))


def task_arithmetic(vectors: Sequence[TaskVector], weights: Sequence[float]) -> TaskVector:
    """Return the weighted sum of the task vectors (arXiv 2212.04089).

    Raises :class:`~xlnb.errors.RequestError` unless there is one weight a vector and at least one vector.
    """
    _one_weight_each(vectors, weights)
    return reduce(add, (weight * vector for vector, weight in zip(vectors, weights, strict=True)))


def ties(
    vectors: Sequence[TaskVector], weights: Sequence[float] | None = None, density: float = TIES_DENSITY
) -> TaskVector:
    """Return the TIES merge: trim each update, elect a sign for each parameter, average those that agree (arXiv 2306.01708).

    ``density`` is the share of each parameter tensor that is kept, the largest by magnitude; ``weights`` are 1 where none are
    given. Raises :class:`~xlnb.errors.RequestError` for a density outside (0, 1] and as :func:`task_arithmetic`.
    """
    weights = [1.0] * len(vectors) if weights is None else weights
    _one_weight_each(vectors, weights)
    check_density(density)
    return _by_name(vectors, lambda name, deltas: elected([trimmed(delta, density) for delta in deltas], weights))


def dare(
    vectors: Sequence[TaskVector],
    weights: Sequence[float] | None = None,
    density: float = DARE_DENSITY,
    seed: int = 0,
) -> TaskVector:
    """Return the sum of the updates after dropping elements at random and rescaling the rest: DARE (arXiv 2311.03099).

    Each element is kept with probability ``density`` and divided by it. The same ``seed`` drops the same elements, whatever
    else is merged. ``weights`` are 1 where none are given. Raises as :func:`ties`.
    """
    weights = [1.0] * len(vectors) if weights is None else weights
    _one_weight_each(vectors, weights)
    check_density(density)

    def merged(name: str, deltas: list[Tensor]) -> Tensor:
        kept = [dropped(delta, density, dare_generator(seed, i, name)) for i, delta in enumerate(deltas)]
        return reduce(add, (weight * delta for weight, delta in zip(weights, kept, strict=True)))

    return _by_name(vectors, merged)


def slerp(first: TaskVector, second: TaskVector, base: Mapping[str, Tensor], t: float = 0.5) -> TaskVector:
    """Return what the spherical interpolation between two experts adds to the base, tensor by tensor.

    ``base`` maps names to the base's tensors: SLERP turns whole parameters, not updates. ``t`` = 0 is the first expert, 1 the
    second. Fine-tuned experts are so near each other that this is almost always linear interpolation. Raises
    :class:`~xlnb.errors.RequestError` for a ``t`` outside [0, 1] and a parameter that the base does not have. Source: the
    method of that name in merging tools.
    """
    check_t(t)
    if missing := [name for name in [*first, *second] if name not in base]:
        raise RequestError(f"The base has no parameter {missing[0]!r}.")

    def merged(name: str, deltas: list[Tensor]) -> Tensor:
        origin = base[name].detach().float()
        a, b = (origin + delta for delta in deltas)
        weights = slerp_weights(*dot_and_norms([(a, b)]), t)
        return weighted_sum([a, b], weights) - origin

    return _by_name([first, second], merged)


def _by_name(vectors: Sequence[TaskVector], merge: Callable[[str, list[Tensor]], Tensor]) -> TaskVector:
    """Merge parameter by parameter, lazily; a vector that lacks a name did not change it."""

    def merged(name: str) -> Callable[[], Tensor]:
        def compute() -> Tensor:
            import torch

            found = [vector.get(name) for vector in vectors]
            zeros = torch.zeros_like(next(delta for delta in found if delta is not None))
            return merge(name, [zeros if delta is None else delta for delta in found])

        return compute

    return TaskVector({name: merged(name) for name in dict.fromkeys(name for vector in vectors for name in vector)})


def _one_weight_each(vectors: Sequence[object], weights: Sequence[float]) -> None:
    if not vectors or len(vectors) != len(weights):
        raise RequestError(
            f"{len(vectors)} task vectors and {len(weights)} weights: give one weight for each of at least one vector."
        )


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


# --------------------------------------------------------------------------------------------------------- on a model


@contextmanager
def applied(model: Module, vector: TaskVector) -> Iterator[Module]:
    """Make ``model`` base + ``vector`` inside the block, and the base again, to the last bit, after it.

    The sum is formed in float32 and stored in the model's dtype. Raises :class:`~xlnb.errors.RequestError` before anything
    is changed where the vector names a parameter that the model does not have, or has in another shape.
    """
    import torch

    parameters = dict(model.named_parameters())
    if missing := [name for name in vector if name not in parameters]:
        raise RequestError(
            f"The model has no parameter {missing[0]!r} ({len(missing)} such): the task vector is of another architecture."
        )
    shapes = {name: (tuple(vector[name].shape), tuple(parameters[name].shape)) for name in vector}
    if wrong := [name for name, (update, parameter) in shapes.items() if update != parameter]:
        update, parameter = shapes[wrong[0]]
        raise RequestError(
            f"The update of {wrong[0]} has shape {update}, the parameter {parameter}: it is of another model."
        )
    originals = {name: parameters[name].detach().clone() for name in vector}
    try:
        with torch.no_grad():
            for name in vector:
                parameters[name].copy_(originals[name].float() + vector[name].to(originals[name].device))
        yield model
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                parameters[name].copy_(original)
