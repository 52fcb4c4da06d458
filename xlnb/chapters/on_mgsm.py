"""Problems that people wrote: experts of public data, asked MGSM, every method against the math expert. Exploratory."""

from __future__ import annotations

import pandas as pd

from xlnb.chapters import scorecard
from xlnb.chapters.pictures import Shown, to_come
from xlnb.chapters.words import capital, improved, in_prose, language_names, listed
from xlnb.evaluation.readings import CLOSING_NLL, EXACT_MATCH, INFORMATION, NLL, PRIMARY, READINGS
from xlnb.studies import claims
from xlnb.studies.comparisons import ABOVE, BASE, BELOW, TRAININGS, everywhere, side
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.study import Study

_DRAWN, _TOLD = (PRIMARY, NLL), (PRIMARY, INFORMATION, NLL, CLOSING_NLL)
_NOT_YET = (
    "Not computed yet by three trainings: `xlnb grid --experiment real --math-data gsm8k --language-data ntrex:FOLDER "
    "--languages sw --seeds 0,1,2` does it."
)


def outcomes(study: Study) -> pd.DataFrame:
    """Return the committed outcomes on MGSM of the trainings that all languages have; no rows where they are fewer than three."""
    mine = everywhere(committed_outcomes(study.results, "real", profile=study.profile.name, paradigm=study.paradigm))
    return mine if mine.loc[mine["method"] != BASE[0], "seed"].nunique() >= TRAININGS else mine.iloc[:0]


def figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw every method against the math expert, by information gained on the calculations and by plain likelihood."""
    if found.empty:
        return to_come(number, _NOT_YET)
    parts = [(capital(READINGS[metric].title), scorecard.against(found, metric=metric)) for metric in _DRAWN]
    what = (
        f"MGSM in {language_names(found['language'])}: every method against the math expert, right of zero it is better"
    )
    return scorecard.exploratory(parts, what, number, of="problems")


def gains_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what every method gains over the base on MGSM, by each metric that needs no written answer."""
    if found.empty:
        return to_come(number, _NOT_YET, "table")
    metrics = [metric for metric in _TOLD if metric in set(found["metric"])]
    caption = f"Gains over the base on MGSM in {language_names(found['language'])}, 95 % intervals, more is better. Exploratory."
    return scorecard.other_readings(found, number, metrics, caption)


def answers_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return how many problems of MGSM are answered right in words, by method and language."""
    return to_come(number, _NOT_YET, "table") if found.empty else scorecard.answers_table(found, number)


def reading(found: pd.DataFrame) -> str:
    """Return in words who is above and below the math expert by either drawn metric, and how many answers are right at most."""
    if found.empty:
        return _NOT_YET
    told = []
    for metric in _DRAWN:
        rows = list(scorecard.against(found, metric=metric).itertuples())
        sides = {
            where: [in_prose(r.method_a, r.partition_a) for r in rows if side(r) == where] for where in (ABOVE, BELOW)
        }
        swap = next(r for r in rows if (r.method_a, r.partition_a) == claims.SWAPPED)
        told.append(
            f"By the {READINGS[metric].title} the swap is at {improved(swap)} against the math expert; by their whole interval "
            f"{listed(sides[ABOVE]) or 'none'} {'is' if len(sides[ABOVE]) < 2 else 'are'} above it, "
            f"{listed(sides[BELOW]) or 'none'} below."
        )
    right = select(found, metric=EXACT_MATCH)
    right = right[right["test_language"] == right["language"]].groupby("method")["outcome"].mean()
    if len(right):
        told.append(f"No method gets more than {100 * right.max():.1f} % of the final numbers right.")
    return " ".join(told)
