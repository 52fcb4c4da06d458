"""The methods of the paper, each a slug and a recipe: which experts it needs, and how their task vectors become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xlnb import merging
from xlnb.errors import RequestError
from xlnb.partitions import Partition
from xlnb.task_vectors import TaskVector

MATH, LANGUAGE = "math-only", "language-only"
Vectors = Mapping[str, TaskVector]  # by the expert's slug


@dataclass(frozen=True)
class Method:
    """A recipe: ``recipe`` turns the task vectors of ``experts`` (slugs) and a partition into the merged task vector."""

    slug: str
    title: str
    formula: str  # with base t0, task vectors m and l, and M the share that math owns
    experts: tuple[str, ...]
    recipe: Callable[[Vectors, Partition], TaskVector]
    uses_partition: bool = False

    @property
    def expert(self) -> str:
        """Whose training it uses: math, language, both or none."""
        return {(): "none", (MATH,): "math", (LANGUAGE,): "language"}.get(self.experts, "both")


METHODS: dict[str, Method] = {
    method.slug: method
    for method in (
        Method("base", "Base", "t0", (), lambda v, p: TaskVector({})),
        Method(MATH, "Math only", "t0 + m", (MATH,), lambda v, p: v[MATH]),
        Method(LANGUAGE, "Language only", "t0 + l", (LANGUAGE,), lambda v, p: v[LANGUAGE]),
        Method(
            "soup", "Model soup", "t0 + m/2 + l/2", (MATH, LANGUAGE), lambda v, p: merging.soup([v[MATH], v[LANGUAGE]])
        ),
        Method(
            "task-arithmetic",
            "Task arithmetic",
            "t0 + m + l",
            (MATH, LANGUAGE),
            lambda v, p: merging.task_arithmetic([v[MATH], v[LANGUAGE]], [1, 1]),
        ),
        Method(
            "layer-swapping",
            "Layer-Swapping",
            "t0 + M·m + (1 − M)·l",
            (MATH, LANGUAGE),
            lambda v, p: merging.layer_swapping(v[MATH], v[LANGUAGE], p),
            uses_partition=True,
        ),
    )
}


def method(slug: str) -> Method:
    """Return the method of a slug. Raises :class:`~xlnb.errors.RequestError` for an unknown one.

    >>> method("soup").formula
    't0 + m/2 + l/2'
    """
    if slug not in METHODS:
        raise RequestError(f"No method {slug!r}: choose one of {', '.join(METHODS)}.")
    return METHODS[slug]
