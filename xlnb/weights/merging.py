"""Putting experts together: each merge takes task vectors and returns one; below them, the same arithmetic on plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.weights.kernels import (
    DARE_DENSITY,
    TIES_DENSITY,
    check_density,
    check_t,
    dare_generator,
    dot_and_norms,
    dropped,
    elected,
    slerp_weights,
    trimmed,
    weighted_sum,
)
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


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
