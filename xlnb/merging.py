"""Putting experts together: each merge takes task vectors and returns one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.partitions import Partition
from xlnb.task_vectors import TaskVector

if TYPE_CHECKING:
    from torch.nn import Module


def layer_swapping(math: TaskVector, language: TaskVector, partition: Partition) -> TaskVector:
    """Return M*m + (1-M)*l: each side's update on the share it owns (arXiv 2410.01335; 2505.18356).

    Raises :class:`~xlnb.errors.RequestError` where the partition does not fit the depth of the task vectors.
    """
    return math.mask(partition, "math") + language.mask(partition, "language")


def soup(vectors: Sequence[TaskVector]) -> TaskVector:
    """Return the mean of the task vectors: the uniform model soup (arXiv 2203.05482)."""
    return task_arithmetic(vectors, [1 / max(1, len(vectors))] * len(vectors))


def task_arithmetic(vectors: Sequence[TaskVector], weights: Sequence[float]) -> TaskVector:
    """Return the weighted sum of the task vectors (arXiv 2212.04089).

    Raises :class:`~xlnb.errors.RequestError` unless there is one weight a vector and at least one vector.
    """
    if not vectors or len(vectors) != len(weights):
        raise RequestError(
            f"{len(vectors)} task vectors and {len(weights)} weights: give one weight for each of at least one vector."
        )
    return reduce(add, (weight * vector for vector, weight in zip(vectors, weights, strict=True)))


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
