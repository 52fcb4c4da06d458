"""Putting experts together in memory: each merge takes task vectors and returns one, computed when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError, typed
from xlnb.weights.kernels import DARE_DENSITY, MERGES, TIES_DENSITY, Seen
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector, check_names, check_shape, known_depth, known_sites

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@typed
def layer_swapping(
    math: TaskVector, language: TaskVector, partition: Partition, embeddings: str = "base"
) -> TaskVector:
    """Return M*m + (1-M)*l: each side's update on the share it owns (arXiv 2410.01335; 2505.18356).

    What lies outside the layers stays the base's, unless ``embeddings`` is ``math`` or ``language``.
    """
    return math.mask(partition, "math", embeddings) + language.mask(partition, "language", embeddings)


@typed
def soup(vectors: Sequence[TaskVector]) -> TaskVector:
    """Return the mean of the task vectors: the uniform model soup (arXiv 2203.05482)."""
    return merged("soup", vectors)


@typed
def task_arithmetic(vectors: Sequence[TaskVector], weights: Sequence[float]) -> TaskVector:
    """Return the weighted sum of the task vectors (arXiv 2212.04089)."""
    return merged("task-arithmetic", vectors, weights=weights)


@typed
def ties(
    vectors: Sequence[TaskVector], weights: Sequence[float] | None = None, density: float = TIES_DENSITY
) -> TaskVector:
    """Return the TIES merge: trim each update, elect a sign for each parameter, average those that agree (arXiv 2306.01708).

    ``density`` is the share of each tensor that is kept, the largest by magnitude; ``weights`` are 1 where none are given.
    """
    return merged("ties", vectors, weights=weights, density=density)


@typed
def dare(
    vectors: Sequence[TaskVector], weights: Sequence[float] | None = None, density: float = DARE_DENSITY, seed: int = 0
) -> TaskVector:
    """Return the sum of the updates after dropping elements at random and rescaling the rest: DARE (arXiv 2311.03099).

    Each element is kept with probability ``density`` and divided by it. The same ``seed`` drops the same elements, whatever
    else is merged, on every device. ``weights`` are 1 where none are given.
    """
    return merged("dare", vectors, weights=weights, density=density, seed=seed)


@typed
def slerp(first: TaskVector, second: TaskVector, base: Mapping[str, Tensor], t: float = 0.5) -> TaskVector:
    """Return what the spherical interpolation between two experts adds to the base, tensor by tensor.

    ``base`` maps names to the base's tensors: SLERP turns whole parameters, not updates. ``t`` = 0 is the first expert, 1 the
    second. Fine-tuned experts are so near each other that this is almost always linear interpolation. Source: the method of
    that name in merging tools.
    """
    return merged("slerp", [first, second], base, t=t)


def merged(
    slug: str, vectors: Sequence[TaskVector], base: Mapping[str, Tensor] | None = None, **options: Any
) -> TaskVector:
    """Return the merge of a slug of ``kernels.MERGES``, parameter by parameter; a vector that lacks a name did not change it.

    A merge of whole values that is not linear needs the ``base``. It works on the device where the updates lie. ``options`` are
    ``weights``, ``density``, ``seed`` and ``t``, as far as the merge takes them.
    """
    merge = MERGES[slug]
    checked = merge.options(len(vectors), **options)
    names = dict.fromkeys(name for vector in vectors for name in vector)
    of_values = not (merge.updates or merge.linear)
    if of_values and (missing := [name for name in names if name not in (base or {})]):
        raise RequestError(f"The base has no parameter {missing[0]!r}.")

    def computed(name: str) -> Tensor:
        import torch

        found = [vector.get(name) for vector in vectors]
        zeros = torch.zeros_like(next(update for update in found if update is not None))
        seen = [zeros if update is None else update for update in found]
        if of_values and base is not None:
            origin = base[name].detach().to(zeros.device).float()
            seen = [origin + update for update in seen]
        reads = [lambda update=update: [update] for update in seen]
        (result,) = merge.kernel(Seen(name, zeros.numel(), reads), checked)
        return result - origin if of_values else result

    thunks: dict[str, Callable[[], Tensor]] = {name: lambda name=name: computed(name) for name in names}  # type: ignore[misc]
    return TaskVector(thunks, known_sites(vectors, names), known_depth(vectors))


@typed
@contextmanager
def applied(model: Module, vector: TaskVector) -> Iterator[Module]:
    """Make ``model`` base + ``vector`` inside the block, and the base again, to the last bit, after it.

    The sum is formed in float32, on the model's device, and stored in the model's dtype.
    """
    import torch

    parameters = dict(model.named_parameters())
    check_names(vector, parameters)
    originals: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name, update in vector.items():
                parameter = parameters[name]
                check_shape(name, update, parameter)
                originals[name] = parameter.detach().clone()
                parameter.copy_(parameter.float() + update.to(parameter.device))
        yield model
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                parameters[name].copy_(original)
