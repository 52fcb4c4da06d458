"""Questions and claims as data: the families of contrasts, and the one rule that says whether a claim was reproduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, EXPRESSION_NLL, NLL, PRIMARY, SHOTS_READINGS, VALIDATED
from xlnb.methods import LANGUAGE, MATH, ORACLE, PLACEBO
from xlnb.studies.comparisons import (
    ARMS,
    BASE,
    BETTER,
    EVERY_LANGUAGE,
    UNJUDGED,
    WORSE,
    Arm,
    Family,
    everywhere,
    judged,
    of_arms,
    over_languages,
)
from xlnb.studies.experiments import SWAP, TARGET
from xlnb.studies.outcomes import select
from xlnb.weights.partitions import COMPLEMENT

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED, NOT_REPRODUCED, UNCLEAR, UNTESTED = "reproduced", "not reproduced", "unclear", "not tested"

MATH_EXPERT, LANGUAGE_EXPERT, SOUP, ADDITION = (MATH, ""), (LANGUAGE, ""), ("soup", ""), ("task-arithmetic", "")
SWAPPED, EXCHANGED = (SWAP, "C"), (SWAP, COMPLEMENT)
RANDOM: Arm = (SWAP, "random, mean of 5")  # the random controls taken together
_MODELS = (MATH_EXPERT, LANGUAGE_EXPERT, SOUP, ADDITION, SWAPPED, EXCHANGED)
OUTER = tuple((SWAP, f"outer {bottom}+{top}") for bottom in (0, 1, 2, 3, 4, 6) for top in (0, 1, 2, 4))

_DEVELOPMENT = {"benchmark": "templates", "split": "development", "shots": 2}

GAINS = Family(
    "gains", "What does each model gain over the base?", tuple((arm, BASE) for arm in _MODELS), (TARGET, "en")
)
RIVALS = Family(
    "rivals",
    "Is the swap better than what else can be made of the two experts?",
    tuple((SWAPPED, arm) for arm in (MATH_EXPERT, ADDITION, SOUP, LANGUAGE_EXPERT, EXCHANGED)),
)
COST = Family("cost", "What does the swap cost in English?", ((SWAPPED, MATH_EXPERT), (SWAPPED, ADDITION)), ("en",))
LAYERS = Family(
    "layers",
    "Does it matter which layers are swapped?",
    tuple((SWAPPED, (SWAP, name)) for name in (RANDOM[1], "half and half", "predecessor", "A", "B")),
)
COUNTS = Family(
    "counts",
    "Does any number of swapped layers beat the math expert?",
    tuple((arm, MATH_EXPERT) for arm in OUTER if arm[1] != "outer 0+0"),
    metrics=(EXPRESSION_NLL,),  # half the price of the primary metric, for a map by which nothing is chosen
    where=_DEVELOPMENT,
)
KNOWLEDGE = Family(
    "knowledge",
    "Who knows the language better than the base?",
    ((LANGUAGE_EXPERT, BASE), (MATH_EXPERT, BASE)),
    metrics=(NLL,),
    where={"benchmark": "prose"},
)


def _by_shots(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return outcomes whose partition is the number of worked examples."""
    return outcomes.assign(partition=outcomes["shots"].map(shown_examples))


def shown_examples(shots: int) -> str:
    """Return what the model is shown before a problem, as an arm's name has it.

    >>> [shown_examples(shots) for shots in range(3)]
    ['no worked example', '1 worked example', '2 worked examples']
    """
    return f"{shots or 'no'} worked example{'s' if shots > 1 else ''}"


def _by_test_language(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return outcomes whose partition is the language of the problems, all counted as the study's."""
    english = outcomes["test_language"] == "en"
    partition = english.map({True: IN_ENGLISH[1], False: IN_TARGET[1]})
    return outcomes.assign(partition=partition, test_language=outcomes["language"])


_NONE, _ONE, _TWO = ((BASE[0], shown_examples(shots)) for shots in range(3))
IN_ENGLISH, IN_TARGET = (BASE[0], "in English"), (BASE[0], "in the target language")
SHOTS = Family(
    "shots",
    "What does each worked example add?",
    ((_ONE, _NONE), (_TWO, _ONE)),
    ("en", TARGET),
    SHOTS_READINGS,
    {"benchmark": "templates", "split": "development"},
    _by_shots,
)
GAP = Family(
    "gap",
    "Does the base do better in English?",
    ((IN_ENGLISH, IN_TARGET),),
    metrics=(PRIMARY, EXPRESSION, EXACT_MATCH),
    arranged=_by_test_language,
)
VALIDATION = Family(
    "validation",
    "By which metrics does the oracle gain over the base?",
    (((ORACLE, ""), BASE),),
    metrics=VALIDATED,
    where=_DEVELOPMENT,
)
FORMAT = Family(
    "format",
    "Which metrics tell the oracle from the placebo?",
    (((ORACLE, ""), (PLACEBO, "")),),
    metrics=VALIDATED,
    where=_DEVELOPMENT,
)
# The plan (book/plan.md): written before any of these models was scored.
DATA_MIXING, FROZEN, SIMULTANEOUS = ("data-mixing", ""), ("frozen-experts", "C"), ("simultaneous", "C")
REVERTED, FROZEN_MATH = ("train-then-revert", "C"), ("freeze-then-train", "C")
PLANNED_LANGUAGES = {"sw", "bn", "te"}
PLAN = Family(
    "plan",
    "Do modular methods beat their baselines, and which of them is best?",
    (*((SWAPPED, arm) for arm in (MATH_EXPERT, DATA_MIXING, SOUP, FROZEN, SIMULTANEOUS)), (REVERTED, FROZEN_MATH)),
    (EVERY_LANGUAGE,),
    arranged=over_languages,
)


def planned(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the plan's six contrasts, judged; no rows where a method, or a training of one, is missing.

    No verdicts where one of the plan's languages is missing.
    """
    import pandas as pd

    asked = {arm for pair in PLAN.pairs for arm in pair}
    mine = of_arms(select(outcomes, metric=PRIMARY), *asked)
    if mine.empty:
        return pd.DataFrame()
    mine = everywhere(mine)
    counts = mine[mine["test_language"] == mine["language"]].groupby(["method", "partition"])["outcome"].size()
    whole = set(counts.index) == asked and counts.nunique() == 1
    if not whole:
        return pd.DataFrame()
    made = judged(PLAN, mine)
    return made if set(mine["language"]) >= PLANNED_LANGUAGES else made.assign(verdict=UNJUDGED)


FAMILIES = {
    family.id: family
    for family in (GAINS, RIVALS, COST, LAYERS, COUNTS, KNOWLEDGE, SHOTS, GAP, VALIDATION, FORMAT, PLAN)
}


@dataclass(frozen=True)
class Claim:
    """That an arm is better than each of its rivals, by the contrasts of one family, in the target language or in English."""

    id: str
    question: str
    arm: Arm
    rivals: tuple[Arm, ...]
    family: Family
    in_english: bool = False


# F2 to F4 over all languages, by the plan.
CLAIMS = {
    "F2": Claim("F2", "Does the swap beat its baselines?", SWAPPED, (MATH_EXPERT, DATA_MIXING), PLAN),
    "F3": Claim("F3", "Is the swap the best modular method?", SWAPPED, (SOUP, FROZEN, SIMULTANEOUS), PLAN),
    "F4 swap": Claim("F4", "Is training whole and swapping better than freezing first?", SWAPPED, (FROZEN,), PLAN),
    "F4 revert": Claim("F4", "Is reverting better than freezing?", REVERTED, (FROZEN_MATH,), PLAN),
}


@dataclass(frozen=True)
class Decision:
    """What contrasts say of a claim: the outcome, and the verdict against each rival in the claim's order."""

    outcome: str
    verdicts: tuple[str, ...]


def decide(claim: Claim, judged: pd.DataFrame) -> Decision:
    """Return reproduced where the arm is better than every rival, not reproduced where it is worse than one, else unclear.

    Where a contrast has no verdict, for want of trainings, the claim was not tested.
    """
    verdicts = tuple(evidence(claim, judged)["verdict"])
    if UNJUDGED in verdicts:
        return Decision(UNTESTED, verdicts)
    if WORSE in verdicts:
        return Decision(NOT_REPRODUCED, verdicts)
    return Decision(REPRODUCED if set(verdicts) == {BETTER} else UNCLEAR, verdicts)


def evidence(claim: Claim, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the judged contrasts that a claim is about, a row a rival, in the claim's order.

    A rival of which there is no contrast, or several (of two target languages, say), is refused.
    """
    import pandas as pd

    asked = judged[(judged["family"] == claim.family.id) & ((judged["test_language"] == "en") == claim.in_english)]
    rows = []
    for rival in claim.rivals:
        found = asked[(asked[ARMS] == [*claim.arm, *rival]).all(axis=1)]
        if len(found) != 1:
            where = "English" if claim.in_english else "the target language"
            raise RequestError(
                f"The claim {claim.id!r} needs one contrast of {claim.arm} and {rival} of the family {claim.family.id!r} in "
                f"{where}; there are {len(found)}."
            )
        rows.append(found)
    return pd.concat(rows, ignore_index=True)
