"""Claims: what is asked of the contrasts, and the one rule that says whether a claim was reproduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.evaluation.readings import PRIMARY
from xlnb.studies.comparisons import ARMS, BETTER, WORSE, Arm

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED, NOT_REPRODUCED, UNCLEAR = "reproduced", "not reproduced", "unclear"


@dataclass(frozen=True)
class Claim:
    """That an arm is better than each of its rivals, by one reading, in the target language or in English."""

    id: str
    question: str
    arm: Arm
    rivals: tuple[Arm, ...]
    metric: str = PRIMARY
    in_english: bool = False


@dataclass(frozen=True)
class Decision:
    """What contrasts say of a claim: the outcome, and the verdict against each rival in the claim's order."""

    outcome: str
    verdicts: tuple[str, ...]


def decide(claim: Claim, contrasts: pd.DataFrame) -> Decision:
    """Return reproduced where the arm is better than every rival, not reproduced where it is worse than one, else unclear."""
    verdicts = tuple(evidence(claim, contrasts)["verdict"])
    if WORSE in verdicts:
        return Decision(NOT_REPRODUCED, verdicts)
    return Decision(REPRODUCED if set(verdicts) == {BETTER} else UNCLEAR, verdicts)


def evidence(claim: Claim, contrasts: pd.DataFrame, metric: str = "") -> pd.DataFrame:
    """Return the contrasts that a claim is about, a row a rival, by its reading or by another ``metric``.

    A rival of which there is no contrast, or several (of two target languages, say), is refused.
    """
    import pandas as pd

    metric = metric or claim.metric
    asked = contrasts[(contrasts["metric"] == metric) & ((contrasts["test_language"] == "en") == claim.in_english)]
    rows = []
    for rival in claim.rivals:
        found = asked[(asked[ARMS] == [*claim.arm, *rival]).all(axis=1)]
        if len(found) != 1:
            where = "English" if claim.in_english else "the target language"
            raise RequestError(
                f"The claim {claim.id!r} needs one contrast of {claim.arm} and {rival} by {metric} in {where}; "
                f"there are {len(found)}."
            )
        rows.append(found)
    return pd.concat(rows, ignore_index=True)
