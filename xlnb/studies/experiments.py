"""What is compared, as data: which methods, under which partitions, in which languages, asked how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xlnb.analysis.fitting import FITTED
from xlnb.errors import known
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import (
    CALIBRATED,
    CLOSING_NLL,
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_NLL,
    INFORMATION,
    LIKELIHOODS,
    NLL,
    PRIMARY,
    SHOTS_READINGS,
    TWINS,
    VALIDATED,
    WITHOUT_ANSWERS,
)
from xlnb.methods import FORMAT_CONTROL, LANGUAGE, MATH, METHODS, ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.studies.profiles import Profile
from xlnb.weights.partitions import COMPLEMENT

TARGET = "target"  # stands for a study's own language
SWAP, MEASURING = "layer-swapping", "measuring"
SINGLE_EXPERTS = ("base", MATH, LANGUAGE)


@dataclass(frozen=True)
class Ask:
    """Methods, each under every partition if it uses one, tested in languages; ``changes`` are made to the profile's Evaluation.

    A number among the changes may be the name of one of the profile's (``development``). Partitions that do not fit a model's
    depth are left out where ``fitting``.
    """

    methods: tuple[str, ...]
    partitions: tuple[str, ...] = ("C",)
    languages: tuple[str, ...] = ("en", TARGET)
    changes: Mapping[str, Any] = field(default_factory=dict)
    fitting: bool = False

    def __post_init__(self) -> None:
        for slug in self.methods:
            known("method", slug, METHODS)

    def evaluation(self, profile: Profile) -> Evaluation:
        """Return what is asked of each model of a profile."""
        numbers = {
            name: getattr(profile, value) if name in ("problems", "generated") and isinstance(value, str) else value
            for name, value in self.changes.items()
        }
        return replace(profile.evaluation, **numbers)


@dataclass(frozen=True)
class Experiment:
    """What is computed and published together: what is asked, and the experts whose training is told."""

    asks: tuple[Ask, ...]
    experts: tuple[str, ...]
    costs: bool = False  # whether the time that groups of readings take is measured, too

    def has(self, benchmark: str, profile: Profile) -> bool:
        """Say whether a benchmark is asked, in a profile."""
        return any(ask.evaluation(profile).benchmark == benchmark for ask in self.asks)


def experts_of(ask: Ask) -> tuple[str, ...]:
    """Return the experts that the methods of an ask are made of."""
    return tuple(dict.fromkeys(expert for slug in ask.methods for expert in METHODS[slug].experts))


def _development(**changes: Any) -> dict[str, Any]:
    return {"split": "development", "problems": "development", **changes}


# The first chapter: what the two experts give alone, merged, and by the same layers exchanged.
FIRST_SWAP = Ask((*SINGLE_EXPERTS, "soup", "task-arithmetic", SWAP), ("C", COMPLEMENT))
# The same models by every reading that needs no answer, for whoever doubts the one that was chosen.
EVERY_READING = replace(FIRST_SWAP, languages=(TARGET,), changes={"readings": (*WITHOUT_ANSWERS, *CALIBRATED)})
BASE = Ask(("base",))
# Who knows the language: text of it that no expert was trained on.
KNOWLEDGE = Ask(
    SINGLE_EXPERTS,
    languages=(TARGET,),
    changes={"benchmark": "prose", "shots": 0, "generated": 0, "readings": (NLL,)},
)
# The base with 0, 1 and 2 worked examples.
BY_SHOTS = tuple(
    Ask(("base",), changes=_development(shots=shots, generated="answered", readings=SHOTS_READINGS))
    for shots in range(3)
)
# Every pair of counts of first and last layers given to the language: a description, on problems by which nothing is chosen.
SWEEP = Ask(
    (*SINGLE_EXPERTS, SWAP),
    tuple(f"outer {bottom}+{top}" for bottom in (0, 1, 2, 3, 4, 6) for top in (0, 1, 2, 4)),
    (TARGET,),
    _development(readings=LIKELIHOODS),
    fitting=True,
)
RANDOM_CONTROLS = tuple(f"random {seed} of C" for seed in range(5))
SWAP_CONTROLS = ("C", COMPLEMENT, *RANDOM_CONTROLS, "half and half", "predecessor", "A", "B")
_MERGED = (*SINGLE_EXPERTS, "soup", "task-arithmetic", SWAP)
CONTROLS = Ask(_MERGED, SWAP_CONTROLS, (TARGET,), {"readings": WITHOUT_ANSWERS})
IN_ENGLISH = Ask(_MERGED, ("C", COMPLEMENT), ("en",), {"readings": WITHOUT_ANSWERS})
# What a reading is worth: the oracle should come first, a longer training before a shorter one, and the placebo, which learned
# the format alone, no better than the base. No merge is among them.
VALIDATION = Ask(
    ("base", PLACEBO, *ORACLE_BUDGETS),
    languages=(TARGET,),
    changes={"split": "development", "generated": "development", "readings": VALIDATED},
)

# The paper's comparison. Every method has the same problems, each beside its twin, in the language and in English.
MODULAR = (SWAP, "frozen-experts", "simultaneous", "train-then-revert", "freeze-then-train")
BASELINES = (
    "data-mixing",
    "data-mixing-half",
    "math-last",
    "language-last",
    "soup",
    "task-arithmetic",
    "ties",
    "dare",
    "slerp",
)
EVERY_METHOD = (*SINGLE_EXPERTS, *BASELINES, *MODULAR, FORMAT_CONTROL, ORACLE)
MAIN_METHODS = (*SINGLE_EXPERTS, "data-mixing", "soup", SWAP, "frozen-experts", "simultaneous")
# Drawn anew: not the problems that the first chapters look at.
_DRAWN = {"problem_seed": 1}
_COMPARED = {
    **_DRAWN, "problems": "compared", "twins": True, "generated": 0,
    "readings": (PRIMARY, *TWINS, NLL, EXPRESSION_NLL),
}  # fmt: skip
COMPARISON = Ask(EVERY_METHOD, changes=_COMPARED)
COMPARISON_CONTROLS = Ask((SWAP,), (COMPLEMENT, "half and half", *RANDOM_CONTROLS), (TARGET,), _COMPARED)
ANSWERS = Ask(
    MAIN_METHODS,
    languages=(TARGET,),
    changes={**_DRAWN, "problems": "told", "generated": "told", "readings": (EXPRESSION, EXACT_MATCH)},
)
MAIN_COMPARISON = Ask((*MAIN_METHODS, "train-then-revert", "freeze-then-train"), ("C",), (TARGET,), _COMPARED)
# Where a merge's losses and gains come from: the same by experts of every strength (xlnb.studies.profiles).
BY_STRENGTH = Ask((*_MERGED, "train-then-revert"), ("C",), (TARGET,), _COMPARED)
# The same by experts of other data on problems that people wrote: MGSM, solved in English by the worked examples.
ON_MGSM = Ask(
    MAIN_METHODS,
    changes={
        "benchmark": "mgsm", "exemplars": "cross", "problems": "compared", "generated": "told", "max_new_tokens": 200,
        "readings": (PRIMARY, NLL, INFORMATION, CLOSING_NLL, EXPRESSION, EXACT_MATCH),
    },
)  # fmt: skip
# Partitions from measurement, chosen without a look at what is scored here.
FITTED_PARTITIONS = Ask((SWAP,), FITTED, (TARGET,), _COMPARED)
# The paper's own comparison, as far as it is known: MGSM with worked examples in its language, answered in words.
AS_THE_PAPER = Ask(
    (*MAIN_METHODS, "train-then-revert", "freeze-then-train"),
    changes={
        "benchmark": "mgsm", "exemplars": "native", "problems": "compared", "generated": "compared", "chat": True,
        "readings": (EXACT_MATCH,),
    },
)  # fmt: skip
# ... and by all of its methods; the oracle and the control learn from word problems of ours, which are no data of the paper.
EVERY_METHOD_AS_THE_PAPER = replace(AS_THE_PAPER, methods=(*SINGLE_EXPERTS, *BASELINES, *MODULAR))
OTHER_PARTITIONS = Ask(MODULAR, ("A", "B", "half and half"), (TARGET,), _COMPARED)

EXPERIMENTS: dict[str, Experiment] = {
    "first-swap": Experiment((FIRST_SWAP, EVERY_READING, KNOWLEDGE, *BY_SHOTS), (MATH, LANGUAGE)),
    SWAP: Experiment((SWEEP, CONTROLS, IN_ENGLISH), (MATH, LANGUAGE)),
    MEASURING: Experiment((VALIDATION,), (PLACEBO, *ORACLE_BUDGETS), costs=True),
    "methods": Experiment((COMPARISON, COMPARISON_CONTROLS, ANSWERS), experts_of(COMPARISON)),
    "main-methods": Experiment((MAIN_COMPARISON,), experts_of(MAIN_COMPARISON)),
    # The same of another model: in English, too, answered in words, and whether its language expert learned the language.
    "second-model": Experiment(
        (replace(MAIN_COMPARISON, languages=("en", TARGET)), ANSWERS, KNOWLEDGE), experts_of(MAIN_COMPARISON)
    ),
    "strength": Experiment((BY_STRENGTH,), (MATH, LANGUAGE)),
    "real": Experiment((ON_MGSM,), experts_of(ON_MGSM)),
    "fitted": Experiment((FITTED_PARTITIONS,), (MATH, LANGUAGE)),
    "paper": Experiment((AS_THE_PAPER,), experts_of(AS_THE_PAPER)),
    "paper-methods": Experiment((EVERY_METHOD_AS_THE_PAPER,), experts_of(EVERY_METHOD_AS_THE_PAPER)),
    "partitions": Experiment((OTHER_PARTITIONS,), (MATH, LANGUAGE)),
}


def named_experiment(name: str) -> Experiment:
    """Return an experiment by its name; of several names with commas between, all of them as one.

    >>> len(named_experiment("first-swap,partitions").asks) == len(EXPERIMENTS["first-swap"].asks) + 1
    True
    """
    found = [EXPERIMENTS[known("experiment", one, EXPERIMENTS)] for one in name.split(",")]
    if len(found) == 1:
        return found[0]
    asks = tuple(ask for one in found for ask in one.asks)
    experts = tuple(dict.fromkeys(expert for one in found for expert in one.experts))
    return Experiment(asks, experts, any(one.costs for one in found))
