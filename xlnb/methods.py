"""The paper on one screen: what experts there are, and how their task vectors become one model.

t0 is the base, M the share of each parameter that math owns, m and l the task vectors of the math and the language expert. A new
expert is a row; a new method is a function of the experts it takes, of ``M`` and of ``base`` (the base's own parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from types import CodeType
from typing import Any

from xlnb.errors import known
from xlnb.training.experts import Expert, Stream
from xlnb.weights import merging
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector

MATH, LANGUAGE, ORACLE = "math-only", "language-only", "oracle"
FORMAT_CONTROL, PLACEBO = "format-control", "placebo"
Recipe = Callable[..., TaskVector]

EXPERTS: dict[str, Expert] = {
    MATH: Expert("math"),
    LANGUAGE: Expert("language"),
    "data-mixing": Expert("math", "language"),
    "data-mixing-half": Expert("math", "language", budget=0.5, title="Data mixing, half the steps"),
    "math-last": Expert("math", start=LANGUAGE),
    "language-last": Expert("language", start=MATH),
    "simultaneous": Expert(Stream("math", "math"), Stream("language", "language"), title="Simultaneous fine-tuning"),
    "frozen-math": Expert(Stream("math", "math")),
    "frozen-language": Expert(Stream("language", "language")),
    # Controls and references, no methods of the paper: format without the task, and the in-language math that nobody has.
    FORMAT_CONTROL: Expert("math, shuffled"),
    PLACEBO: Expert("in-language math, shuffled"),
    "oracle-quarter": Expert("in-language math", budget=0.25, title="Oracle, 25% of the steps"),
    "oracle-half": Expert("in-language math", budget=0.5, title="Oracle, 50% of the steps"),
    ORACLE: Expert("in-language math"),
}
ORACLE_BUDGETS = {slug: expert.budget for slug, expert in EXPERTS.items() if slug.startswith(ORACLE)}


@dataclass(frozen=True)
class Method:
    """A recipe: what it makes of the task vectors of ``experts`` (slugs) and, where ``needs`` has them, ``M`` and ``base``."""

    slug: str
    title: str
    formula: str
    recipe: Recipe
    experts: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def uses_partition(self) -> bool:
        """Whether a partition says how experts are merged, or what they may move."""
        return "M" in self.needs or any(EXPERTS[slug].is_masked for slug in self.experts)

    @property
    def body(self) -> str:
        """What a recipe of a reader's own says, which may change under one name; what it takes from outside is not seen."""
        return "" if self.recipe.__module__ == __name__ else _body(self.recipe.__code__)

    @property
    def expert(self) -> str:
        """Whose training it uses: math, language, both (so for word problems in the language) or none."""
        streams = [stream for slug in self.experts for stream in all_streams(slug)]
        sides = {"math" if s.is_english else "language" if s.corpus == "language" else "both" for s in streams}
        return "none" if not sides else sides.pop() if len(sides) == 1 else "both"

    def merged(self, vectors: Mapping[str, TaskVector], **others: Any) -> TaskVector:
        """Return what the method adds to the base; ``others`` are M and base, where it needs them."""
        named = {slug.replace("-", "_"): vectors[slug] for slug in self.experts}
        return self.recipe(**named, **{name: others[name] for name in self.needs})


def _body(code: CodeType) -> str:
    inner = [_body(one) if isinstance(one, CodeType) else _constant(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {inner}"


def _constant(value: object) -> str:
    if isinstance(value, frozenset):  # whose order differs from process to process
        return f"frozenset({{{', '.join(sorted(map(repr, value)))}}})"
    return repr(value)


def all_streams(slug: str) -> tuple[Stream, ...]:
    """Return the streams of an expert, and those of the experts that it goes on from."""
    expert = EXPERTS[known("expert", slug, EXPERTS)]
    return (*expert.streams, *(all_streams(expert.start) if expert.start else ()))


METHODS: dict[str, Method] = {}
for _slug, _expert in EXPERTS.items():  # each expert alone is a method
    _title = _expert.title or _slug.replace("-", " ").capitalize()
    METHODS[_slug] = Method(_slug, _title, f"t0 + {_slug}", lambda **given: given.popitem()[1], (_slug,))


def method(title: str, formula: str) -> Callable[[Recipe], Recipe]:
    """Enter a recipe among the methods, under the name of its function.

    Its parameters are experts (``math_only``: see ``EXPERTS``), ``M`` and ``base``. Raises RequestError for any other.
    """

    def enter(recipe: Recipe) -> Recipe:
        slug, *names = (name.replace("_", "-") for name in (recipe.__name__, *signature(recipe).parameters))
        needs = tuple(name for name in names if name in ("M", "base"))
        for name in names:
            if name not in needs:
                known("expert", name, EXPERTS)
        METHODS[slug] = Method(slug, title, formula, recipe, tuple(n for n in names if n not in needs), needs)
        return recipe

    return enter


@method("Base", "t0")
def base() -> TaskVector:
    return TaskVector({})


@method("Model soup", "t0 + m/2 + l/2")
def soup(math_only: TaskVector, language_only: TaskVector) -> TaskVector:
    return merging.soup([math_only, language_only])


@method("Task arithmetic", "t0 + m + l")
def task_arithmetic(math_only: TaskVector, language_only: TaskVector) -> TaskVector:
    return merging.task_arithmetic([math_only, language_only], [1, 1])


@method("TIES", "t0 + elected mean of the trimmed m and l")
def ties(math_only: TaskVector, language_only: TaskVector) -> TaskVector:
    return merging.ties([math_only, language_only])


@method("DARE", "t0 + m and l, thinned and rescaled")
def dare(math_only: TaskVector, language_only: TaskVector) -> TaskVector:
    return merging.dare([math_only, language_only])  # one draw: intervals over trainings hold none of DARE's own chance


@method("SLERP", "halfway from t0 + m to t0 + l along the sphere")
def slerp(math_only: TaskVector, language_only: TaskVector, base: Mapping[str, Any]) -> TaskVector:
    return merging.slerp(math_only, language_only, base)


@method("Layer-Swapping", "t0 + M·m + (1 − M)·l")
def layer_swapping(math_only: TaskVector, language_only: TaskVector, M: Partition) -> TaskVector:
    return merging.layer_swapping(math_only, language_only, M)


@method("Train, then revert", "t0 + M·m")
def train_then_revert(math_only: TaskVector, M: Partition) -> TaskVector:
    return math_only.mask(M, "math")


@method("Freeze, then train", "t0 + m trained on M alone")
def freeze_then_train(frozen_math: TaskVector) -> TaskVector:
    return frozen_math


@method("Frozen experts", "t0 + m trained on M alone + l trained on 1 − M alone")
def frozen_experts(frozen_math: TaskVector, frozen_language: TaskVector) -> TaskVector:
    return frozen_math + frozen_language
