"""Freezing or reverting: the same parameters given up before training or after it, of one expert and of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from xlnb.chapters import figures, home, scorecard
from xlnb.chapters.layer_swapping import NOT_YET
from xlnb.chapters.pictures import Shown, box, paragraphs, table, to_come
from xlnb.chapters.words import (
    bullets,
    capital,
    improved,
    improved_corrected,
    improvement_title,
    in_prose,
    language_names,
    listed,
    trainings,
)
from xlnb.evaluation.readings import EXPRESSION_NLL, NLL, PRIMARY, READINGS, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import (
    ABOVE,
    BELOW,
    EVERY_LANGUAGE,
    TRAININGS,
    Arm,
    by_pairs,
    contrasts,
    of_pairs,
    side,
    verdicts_of,
)
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.study import Study

_F4 = tuple(claim for claim in claims.CLAIMS.values() if claim.id == "F4")
# After training against before it: of both experts, and of the math expert alone.
PAIRS: tuple[tuple[Arm, Arm], ...] = tuple((claim.arm, rival) for claim in _F4 for rival in claim.rivals)
# What giving parameters up costs, and what the other expert's add in their place.
_STEPS: tuple[tuple[str, Arm, Arm], ...] = (
    ("given up by reverting", claims.REVERTED, claims.MATH_EXPERT),
    ("given up by freezing", claims.FROZEN_MATH, claims.MATH_EXPERT),
    ("filled by the language expert, all of it trained", claims.SWAPPED, claims.REVERTED),
    ("filled by the language expert, its share alone trained", claims.FROZEN, claims.FROZEN_MATH),
)
_WHO = {ABOVE: "reverting", BELOW: "freezing"}
_BY_GRID = "`xlnb grid --experiment partitions` and `xlnb grid --experiment main-methods --paradigms full` compute it."


def of_freezing(planned: pd.DataFrame) -> pd.DataFrame:
    """Return those two of the plan's contrasts that F4 is about, corrected with the other four."""
    return of_pairs(planned, PAIRS)


def plan_figure(made: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw both contrasts over all languages: right of zero reverting is better."""
    what = "Reverting against freezing, over all languages: right of zero reverting is better."
    return scorecard.plan_figure(made, number, what)


def by_language(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the same two differences language by language. Exploratory."""
    mine = select(found, metric=PRIMARY)
    pairs = {code: by_pairs(select(mine, language=code, test_language=code)) for code in scorecard.targets(mine)}
    return {code: contrasts(some, PAIRS, code, (PRIMARY,)) for code, some in pairs.items()}


def languages_figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw :func:`by_language`."""
    if found.empty:
        return to_come(number, NOT_YET)
    parts = [(LANGUAGE_NAMES[code], part) for code, part in by_language(found).items()]
    caption = (
        f"The same language by language, by {trainings(int(parts[0][1]['seeds'].max()))}; lines are 95 % intervals. Grey: "
        "exploratory, without verdict."
    )
    return figures.forest(parts, number=number, caption=caption, one_scale=True)


def languages_reading(found: pd.DataFrame) -> str:
    """Return in words in which languages an interval excludes zero, and on which side."""
    if found.empty:
        return NOT_YET
    rows = [
        (side(row), LANGUAGE_NAMES[code], _of_whom(row))
        for code, part in by_language(found).items()
        for row in part.itertuples()
    ]
    return _sides([(where, f"in {language} ({whom})") for where, language, whom in rows])


def _of_whom(row: Any) -> str:
    return "both experts" if row.method_a == claims.SWAPPED[0] else "the math expert alone"


def _sides(told: Sequence[tuple[str, str]]) -> str:
    sides = {who: [what for found, what in told if found == where] for where, who in _WHO.items()}
    parts = [f"{who} is ahead {listed(what)}" for who, what in sides.items() if what]
    if not parts:
        return "No interval excludes zero."
    rest = "; all others include it" if any(not found for found, _ in told) else ""
    return f"With intervals that exclude zero, {listed(parts)}{rest}."


def steps_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what giving parameters up costs and what the language expert adds there, over all languages and in English."""
    if found.empty:
        return to_come(number, NOT_YET)
    rows = []
    for what, a, b in _STEPS:
        line = {"the outer layers are": what, "difference": f"{in_prose(*a)} − {in_prose(*b)}"}
        for in_english, code in ((False, EVERY_LANGUAGE), (True, "en")):
            some = scorecard.overall(found, in_english=in_english)
            (row,) = contrasts(some, [(a, b)], code, (PRIMARY,)).itertuples()
            line["in English" if in_english else EVERY_LANGUAGE] = improved(row, with_unit=False)
        rows.append(line)
    caption = f"Step by step, {READINGS[PRIMARY].title} in nats per token with 95 % intervals; below zero is lost. Exploratory."
    return table(rows, number=number, caption=caption)


def other_metrics(found: pd.DataFrame) -> pd.DataFrame:
    """Return both differences by the other metrics, over all languages."""
    some = [
        contrasts(scorecard.overall(found, metric), PAIRS, EVERY_LANGUAGE, (metric,))
        for metric in (EXPRESSION_NLL, NLL, *TWINS)
    ]
    return pd.concat(some, ignore_index=True)


def metrics_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`other_metrics` for a reader."""
    if found.empty:
        return to_come(number, NOT_YET)
    rows: dict[str, dict[str, str]] = {}
    for row in other_metrics(found).itertuples():
        who = f"{in_prose(row.method_a, row.partition_a)} − {in_prose(row.method_b, row.partition_b)}"
        rows.setdefault(who, {"difference": who})[improvement_title(row.metric, unit=True)] = improved(
            row, with_unit=False
        )
    caption = "Reverting against freezing by other metrics; above zero reverting is better. Exploratory."
    return table(list(rows.values()), number=number, caption=caption)


def metrics_reading(found: pd.DataFrame) -> str:
    """Return in words by which other metrics an interval excludes zero, and on which side."""
    if found.empty:
        return NOT_YET
    rows = other_metrics(found).itertuples()
    return _sides([(side(row), f"by the {READINGS[row.metric].title} ({_of_whom(row)})") for row in rows])


def elsewhere(study: Study) -> dict[str, pd.DataFrame]:
    """Return both differences under other partitions and with full fine-tuning, by title: no rows where they are not committed.

    ``where`` names the languages. Exploratory.
    """
    asked = [
        (f"Partition {name} (LoRA)" if len(name) == 1 else f"{capital(name)} (LoRA)", "partitions", "lora", name)
        for name in experiments.OTHER_PARTITIONS.partitions
    ]
    found = {}
    for title, experiment, paradigm, name in [*asked, ("Partition C (full fine-tuning)", "main-methods", "full", "C")]:
        some = committed_outcomes(study.results, experiment, profile=study.profile.name, paradigm=paradigm)
        pairs = [((a[0], name), (b[0], name)) for a, b in PAIRS]
        made = contrasts(scorecard.overall(some), pairs, EVERY_LANGUAGE, (PRIMARY,)) if len(some) else some
        found[title] = made.assign(where=language_names(some["language"]))
    return found


def elsewhere_figure(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw :func:`elsewhere`, as far as it is committed."""
    parts = [(title, part) for title, part in found.items() if len(part)]
    missing = [title for title, part in found.items() if part.empty]
    if not parts:
        return to_come(number, f"Not computed yet. {_BY_GRID}")
    told = [f"{title}, in {part['where'].iloc[0]} by {trainings(int(part['seeds'].max()))}" for title, part in parts]
    fewest = min(part["seeds"].max() for _, part in parts)
    caption = (
        f"Reverting against freezing elsewhere: dots are means over {parts[0][1]['n'].max()} pairs of twins, lines 95 % intervals"
        + (" (of one training over problems alone)" if fewest == 1 else "")
        + f"; right of zero reverting is better. Exploratory: {listed(told)}."
        + (f" Not computed yet: {listed(missing)}." if missing else "")
    )
    return figures.forest(parts, number=number, caption=caption)


def elsewhere_reading(found: Mapping[str, pd.DataFrame]) -> str:
    """Return in words where an interval of :func:`elsewhere` excludes zero, and on which side; of three trainings or more."""
    told = [
        (side(row), f"with {_of_whom(row)} under {title[0].lower()}{title[1:]} in {row.where} ({improved(row)})")
        for title, part in found.items()
        for row in part.itertuples()
        if row.seeds >= TRAININGS
    ]
    return _sides(told) if told else f"Not computed yet by three trainings. {_BY_GRID}"


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    made = of_freezing(home.planned())
    if made.empty:
        return box(f"<p>{NOT_YET}</p>")
    return box(paragraphs(decisions(made)), verdicts_of(made))


def decisions(made: pd.DataFrame) -> list[str]:
    """Return what the plan says of F4, a sentence a claim, with the difference."""
    if made.empty:
        return [home.decided(_F4[0], made)]
    sizes = [improved_corrected(row) for row in made.itertuples()]
    return [f"{home.decided(claim, made).removesuffix('.')} ({size})." for claim, size in zip(_F4, sizes, strict=True)]


def summary(made: pd.DataFrame, found: pd.DataFrame, there: Mapping[str, pd.DataFrame]) -> str:
    """Return the chapter's summary as Markdown bullets: of the plan's contrasts, the other metrics, and elsewhere."""
    return bullets([*decisions(made), metrics_reading(found), elsewhere_reading(there)])
