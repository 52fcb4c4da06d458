"""The questions of the book as families of contrasts, and what correcting them as wholes changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from xlnb.chapters import home
from xlnb.chapters.layer_swapping import with_pooled_random
from xlnb.chapters.pictures import Shown, table
from xlnb.chapters.words import listed, unjudged
from xlnb.errors import RequestError
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, WORSE, judged
from xlnb.studies.study import open_study

# What a family is about, as it was asked; those of two chapters are told here by their committed outcomes.
ASKED = {
    "gains": (experiments.FIRST_SWAP,),
    "rivals": (experiments.FIRST_SWAP,),
    "cost": (experiments.FIRST_SWAP,),
    "layers": (experiments.CONTROLS,),
    "counts": (experiments.SWEEP,),
    "knowledge": (experiments.KNOWLEDGE,),
    "shots": experiments.BY_SHOTS,
    "gap": (experiments.BASE,),
    "validation": (experiments.VALIDATION,),
    "format": (experiments.VALIDATION,),
}


def judged_families(
    arranged: Callable[[pd.DataFrame, int], pd.DataFrame] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the judged contrasts of each declared family whose outcomes are committed: of the pocket model, in Swahili but for
    the plan's. Outcomes are ``arranged`` before, with the seed of their problems, such as by
    :func:`xlnb.studies.comparisons.by_situations`.
    """
    study, found = open_study("pocket", "sw", 0, live=False), {}
    for name, asked in ASKED.items():
        try:
            outcomes = study.repeated(*asked)
        except RequestError:  # not committed
            continue
        (seed,) = {ask.evaluation(study.profile).problem_seed for ask in asked}
        outcomes = arranged(outcomes, seed) if arranged else outcomes
        family = claims.FAMILIES[name]
        found[name] = judged(family, with_pooled_random(outcomes) if family is claims.LAYERS else outcomes)
    drawn = experiments.COMPARISON.evaluation(study.profile).problem_seed
    plan = home.planned((lambda found: arranged(found, drawn)) if arranged else None)
    return found | ({claims.PLAN.id: plan} if len(plan) else {})


def _counts(found: pd.DataFrame) -> tuple[int, int]:
    """Return how many of a family's contrasts have an interval without zero, and how many are significant after Holm."""
    alone = ((found["low"] > 0) | (found["high"] < 0)).sum()
    return int(alone), int(found["verdict"].isin((BETTER, WORSE)).sum())


def families_table(
    found: Mapping[str, pd.DataFrame], situations: Mapping[str, pd.DataFrame], number: int | None = None
) -> Shown:
    """Return the declared families: question, how many contrasts, significant each for itself and after Holm's correction, over
    problems and over their ``situations``.
    """
    rows = []
    for name, part in found.items():
        models = {*part["method_a"], *part["method_b"]} - {"base"}
        trained = int(part["seeds"].max()) if models else "none"
        counts = ("no verdict",) * 3 if unjudged(part) else (*_counts(part), _counts(situations[name])[1])
        rows.append((claims.FAMILIES[name].question, len(part), trained, *counts))
    caption = (
        "The questions of this book, each a family. How many of its contrasts have an interval that excludes zero, and how many "
        "are significant after Holm's correction over the family, by intervals over problems (the plan's: over pairs "
        "of twins), as in the chapters, and over pairs of twin situations."
    )
    columns = ["question", "contrasts", "trainings", "each for itself", "after Holm", "by situations"]
    return table(rows, columns, number=number, caption=caption)


def families_sentence(found: Mapping[str, pd.DataFrame]) -> str:
    """Return in words what correcting whole families changes, of those with verdicts."""
    counts = {name: _counts(part) for name, part in found.items() if not unjudged(part)}
    if not counts:
        return "No family has a verdict yet."
    alone, kept = (sum(column) for column in zip(*counts.values(), strict=True))
    contrasts = sum(len(found[name]) for name in counts)
    told = (
        f"Of {contrasts} contrasts in {len(counts)} families {alone} have an interval that excludes zero; after Holm's "
        f"correction {kept} are significant."
    )
    name = max(counts, key=lambda name: counts[name][0] - counts[name][1])
    mine, left = counts[name]
    if mine == left:
        return f"{told} Here it takes nothing away."
    return f"{told} It takes most away from “{claims.FAMILIES[name].question}”: {left} of {mine} remain."


def situations_sentence(found: Mapping[str, pd.DataFrame], situations: Mapping[str, pd.DataFrame]) -> str:
    """Return in words which verdicts are others where intervals are over pairs of twin situations and not over problems."""
    told = {name: part for name, part in found.items() if not unjudged(part)}
    others = {name: int((list(part["verdict"]) != situations[name]["verdict"]).sum()) for name, part in told.items()}
    changed = [
        f"{count} of {len(told[name])} to “{claims.FAMILIES[name].question}”" for name, count in others.items() if count
    ]
    told_of = "Over pairs of twin situations, which are fewer than problems,"
    if not changed:
        return f"{told_of} all verdicts are the same."
    return f"{told_of} {listed(changed)} get another verdict; all other verdicts are the same."
