"""Full fine-tuning beside LoRA: the same methods, trainings and problems, all parameters trained. Exploratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xlnb.analysis.lengths import lengths
from xlnb.chapters import figures, scorecard
from xlnb.chapters.pictures import Shown, table, to_come
from xlnb.chapters.words import (
    PARADIGM_NAMES,
    bullets,
    capital,
    improved,
    improvement_title,
    in_prose,
    language_names,
    listed,
    trainings,
)
from xlnb.evaluation.readings import NLL, PRIMARY, READINGS, TWINS
from xlnb.languages import in_order
from xlnb.studies import claims
from xlnb.studies.atlas import load_map
from xlnb.studies.comparisons import ABOVE, BASE, BELOW, EVERY_LANGUAGE, TRAININGS, Arm, contrasts, side
from xlnb.studies.experiments import MAIN_COMPARISON
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.study import Study

NOT_YET = (
    "Full fine-tuning by three trainings is not computed yet: `xlnb grid --experiment main-methods --paradigms full --languages "
    "sw --seeds 0,1,2` does it."
)
_ALIKE = ["language", "test_language", "seed", "method", "partition", "metric"]
_SIDES = {ABOVE: "above", BELOW: "below", "": "not told apart from"}


def outcomes(study: Study) -> dict[str, pd.DataFrame]:
    """Return the committed outcomes by paradigm, lora and full: what both have, and the base with each.

    Of trainings that have all methods of the main comparison alone. Nothing where these are fewer than three: their intervals
    would say little of another training.
    """
    asked = {cell.asked for cell in study.cells(MAIN_COMPARISON)}
    found = {
        paradigm: committed_outcomes(study.results, profile=study.profile.name, paradigm=paradigm, asked=asked)
        for paradigm in PARADIGM_NAMES
    }
    base = select(found["lora"], method=BASE[0])
    trained = {paradigm: part[part["method"] != BASE[0]] for paradigm, part in found.items()}
    rows = {paradigm: pd.MultiIndex.from_frame(part[_ALIKE]) for paradigm, part in trained.items()}
    shared = rows["lora"].intersection(rows["full"]).to_frame(index=False)
    arms = shared.groupby(["language", "seed"])["method"].nunique()
    whole = arms[arms == len({*MAIN_COMPARISON.methods} - {BASE[0]})].index
    shared = shared[pd.MultiIndex.from_frame(shared[["language", "seed"]]).isin(whole)]
    if shared["seed"].nunique() < TRAININGS:
        return {}
    mine = pd.MultiIndex.from_frame(shared)
    base = select(base, language=list(shared["language"].unique()))
    return {p: pd.concat([base, part[rows[p].isin(mine)]], ignore_index=True) for p, part in trained.items()}


def differences(
    both: Mapping[str, pd.DataFrame], metric: str = PRIMARY, pairs: Sequence[tuple[Arm, Arm]] = claims.PLAN.pairs
) -> dict[str, pd.DataFrame]:
    """Return the six pairs of the plan, or others, by paradigm, over the languages that both have: intervals, no verdicts."""
    return {
        paradigm: contrasts(scorecard.overall(part, metric), pairs, EVERY_LANGUAGE, (metric,))
        for paradigm, part in both.items()
    }


def figure(both: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw the plan's six pairs, a panel a paradigm."""
    if not both:
        return to_come(number, NOT_YET)
    rows, where = differences(both), language_names(both["full"]["language"])
    caption = (
        f"The plan's six pairs by both paradigms, in {where}: dots are means over {rows['full']['n'].max()} pairs of "
        f"twins and {trainings(int(rows['full']['seeds'].max()))}, lines their 95 % intervals; right of zero the first is "
        "better. Grey: exploratory, without verdict."
    )
    parts = [(capital(PARADIGM_NAMES[paradigm]), part) for paradigm, part in rows.items()]
    return figures.forest(parts, number=number, caption=caption, one_scale=True)


def reading(both: Mapping[str, pd.DataFrame]) -> str:
    """Return in words on which side of zero full fine-tuning's intervals lie."""
    if not both:
        return NOT_YET
    rows = list(differences(both)["full"].itertuples())
    told = [
        f"{in_prose(row.method_a, row.partition_a)} is {_SIDES[side(row)]} {in_prose(row.method_b, row.partition_b)} "
        f"({improved(row, place == 0)})"
        for place, row in enumerate(rows)
    ]
    where, seeds = language_names(both["full"]["language"]), trainings(int(rows[0].seeds))
    return f"With full fine-tuning in {where}, by {seeds} and intervals alone, {listed(told)}."


def as_by_lora(both: Mapping[str, pd.DataFrame]) -> str:
    """Return in words how many of the differences lie as they do by LoRA, and what twins tell."""
    if not both:
        return NOT_YET
    rows = {paradigm: list(part.itertuples()) for paradigm, part in differences(both).items()}
    sides = [(side(a), side(b)) for a, b in zip(rows["lora"], rows["full"], strict=True)]
    same, turned = sum(a == b != "" for a, b in sides), sum({a, b} == {ABOVE, BELOW} for a, b in sides)
    n, open_ = len(sides), len(sides) - same - turned
    return (
        f"Of the plan's {n} differences {same} are on the same side of zero by full fine-tuning in "
        f"{language_names(both['full']['language'])} as by LoRA in the same trainings, and {turned} on opposite sides"
        + (f"; of the other {open_} at least one interval includes zero. " if open_ else ". ")
        + f"{by_twins(both)} Of the {n} differences by full fine-tuning {_twins_apart(both)}, with intervals that exclude it."
    )


def _twins_apart(both: Mapping[str, pd.DataFrame]) -> str:
    """Return in words how many of the plan's differences by full fine-tuning lie on either side of zero by metrics of twins."""
    told = []
    for metric in TWINS:
        sides = [side(row) for row in differences(both, metric)["full"].itertuples()]
        told.append(f"{sides.count(ABOVE)} are above and {sides.count(BELOW)} below zero by {READINGS[metric].title}")
    return listed(told)


def by_twins(both: Mapping[str, pd.DataFrame]) -> str:
    """Return in words whether twins, whose numbers are the same, tell the math expert of either paradigm from the base."""
    if not both:
        return NOT_YET
    told, above = [], True
    for metric in TWINS:
        found = differences(both, metric, [(claims.MATH_EXPERT, BASE)])
        rows = {paradigm: next(part.itertuples()) for paradigm, part in found.items()}
        sides = [
            f"{_SIDES[side(row)]} the base by {PARADIGM_NAMES[name]} ({improved(row)})" for name, row in rows.items()
        ]
        told.append(f"by {READINGS[metric].title} the math expert is {listed(sides)}")
        above &= all(side(row) == ABOVE for row in rows.values())
    blind = " Where it is not above, what tells models apart may be numbers and form, not how well a problem is read."
    return f"Twins share all their numbers: {'; '.join(told)}.{'' if above else blind}"


def summary(both: Mapping[str, pd.DataFrame]) -> str:
    """Return :func:`as_by_lora` as a bullet on a line of its own; nothing where full fine-tuning is not computed."""
    return f"\n{bullets([as_by_lora(both)])}" if both else ""


def methods_table(both: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return every method against the math expert, by both paradigms, and that of full fine-tuning by other metrics."""
    if not both:
        return to_come(number, NOT_YET, "table")
    rows: dict[str, dict[str, str]] = {}
    for paradigm, metric in (("lora", PRIMARY), *(("full", metric) for metric in (PRIMARY, *TWINS, NLL))):
        for row in scorecard.against(both[paradigm], metric=metric).itertuples():
            who = in_prose(row.method_a, row.partition_a)
            line = rows.setdefault(who, {"method": who})
            line[f"{improvement_title(metric, unit=True)}, {PARADIGM_NAMES[paradigm]}"] = improved(row, with_unit=False)
    where = language_names(both["full"]["language"])
    caption = (
        f"Every method against the math expert of the same paradigm, in {where}, with 95 % intervals; more is better. "
        "Exploratory."
    )
    return table(list(rows.values()), number=number, caption=caption)


def wins_table(both: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return how often each method, trained in full, is above the base and the math expert, and its ranks."""
    return scorecard.wins_table(both["full"], number) if both else to_come(number, NOT_YET, "table")


def strength_sentence(study: Study, both: Mapping[str, pd.DataFrame]) -> str:
    """Return by which rates the experts of both paradigms were trained, and how far they moved where that is committed."""
    if not both:
        return "Rates, and how far experts moved, are told here once both paradigms are computed."
    training = study.profile.training
    told = []
    for paradigm, rate in (("lora", training.learning_rate), ("full", training.full_learning_rate)):
        trained = both["full"][both["full"]["method"] != BASE[0]]
        alike = {"language": in_order(trained["language"]), "seed": sorted(trained["seed"].unique())}
        sums = load_map("lengths", study.results, profile=study.profile.name, paradigm=paradigm, **alike)
        far = _far(lengths(sums, "language", "seed")) if set(alike["seed"]) <= set(sums["seed"]) else ""
        told.append(f"{PARADIGM_NAMES[paradigm]} by a peak rate of {np.format_float_positional(rate)}{far}")
    return f"Both paradigms trained for {training.steps} steps on the same examples: {listed(told)}. Neither rate was tuned."


def _far(moved: pd.DataFrame) -> str:
    math, language = (moved[letter].mean() for letter in "ml")
    return f" (the math expert moved by {math:.2%} of the weights' length, the language expert by {language:.2%})"
