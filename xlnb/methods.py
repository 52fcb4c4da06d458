"""The methods of the paper, each a slug and a recipe: which experts it needs, and how their task vectors become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xlnb.errors import RequestError
from xlnb.weights import merging
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector

MATH, LANGUAGE = "math-only", "language-only"
# In-language math, which the problem says nobody has: how far training can go at all, at three budgets (shares of the steps).
ORACLE = "oracle"
ORACLE_BUDGETS = {"oracle-quarter": 0.25, "oracle-half": 0.5, ORACLE: 1.0}
# The oracle's training with each solution behind another problem: it learns wording and format, and nothing to calculate.
PLACEBO = "placebo"
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
        """Whose training it uses: math, language, both (so for oracle and placebo: word problems in the language) or none."""
        return {(): "none", (MATH,): "math", (LANGUAGE,): "language"}.get(self.experts, "both")


def _own(slug: str) -> Callable[[Vectors, Partition], TaskVector]:
    return lambda vectors, partition: vectors[slug]


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

# No methods of the paper: they show what a measure can see.
REFERENCES: dict[str, Method] = {
    slug: Method(slug, f"Oracle, {share:.0%} of the steps" if share < 1 else "Oracle", "t0 + o", (slug,), _own(slug))
    for slug, share in ORACLE_BUDGETS.items()
} | {PLACEBO: Method(PLACEBO, "Placebo", "t0 + p", (PLACEBO,), _own(PLACEBO))}


def method(slug: str) -> Method:
    """Return the method (or oracle) of a slug. Raises :class:`~xlnb.errors.RequestError` for an unknown one.

    >>> method("soup").formula
    't0 + m/2 + l/2'
    """
    known = METHODS | REFERENCES
    if slug not in known:
        raise RequestError(f"No method {slug!r}: choose one of {', '.join(known)}.")
    return known[slug]


def label(method: str, partition: str = "") -> str:
    """Return a method's name for a figure or table; partition C goes without saying.

    >>> label("layer-swapping", "complement of C")
    'Layer-Swapping (complement)'
    """
    known = METHODS | REFERENCES
    title = known[method].title if method in known else method
    return title if partition in ("", "C") else f"{title} ({partition.removesuffix(' of C')})"
