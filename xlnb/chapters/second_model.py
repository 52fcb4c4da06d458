"""The second pocket model beside the first: the same comparison in Swahili, by intervals alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters import figures
from xlnb.chapters.pictures import Shown, panels, picture, to_come
from xlnb.chapters.words import improved, in_prose
from xlnb.evaluation.readings import PRIMARY, READINGS
from xlnb.paths import results_folder
from xlnb.studies import claims
from xlnb.studies.comparisons import BASE, by_pairs, contrasts, improvement
from xlnb.studies.outcomes import COLUMNS, committed_outcomes, select

SECOND = "second-model"
MODELS = {"pocket": ("methods", "Gemma 3 270M"), "pocket-smollm2": (SECOND, "SmolLM2 135M")}
_RIVALS = (BASE, claims.MATH_EXPERT, claims.DATA_MIXING, claims.SOUP, claims.FROZEN, claims.SIMULTANEOUS)
_PAIRS = [(claims.SWAPPED, rival) for rival in _RIVALS]
_NOT_YET = (
    "No result of the second model is committed yet: xlnb grid --experiment second-model --profile pocket-smollm2 --languages sw "
    "--seeds 0,1,2 computes it."
)


def outcomes(results: Path | None = None) -> pd.DataFrame:
    """Return the committed outcomes in Swahili of both pocket models by the primary metric; one model's where the other lacks."""
    parts, alike = [], {"language": "sw", "test_language": "sw", "metric": PRIMARY, "paradigm": "lora"}
    for profile, (experiment, _) in MODELS.items():
        found = committed_outcomes(results or results_folder(), experiment, profile=profile, **alike)
        there = set(zip(found["method"], found["partition"], strict=True))
        if {claims.SWAPPED, *_RIVALS} <= there:
            parts.append(found)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def rows(found: pd.DataFrame) -> pd.DataFrame:
    """Return how the swap differs from each rival, a model at a time; no rows where the second model is not there."""
    if set(found["profile"]) != set(MODELS):
        return pd.DataFrame(columns=["profile"])
    parts = [
        contrasts(by_pairs(select(found, profile=profile)), _PAIRS, "sw", [PRIMARY]).assign(profile=profile)
        for profile in MODELS
    ]
    return pd.concat(parts, ignore_index=True)


def figure(rows: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw the swap against each rival for both models, an axis each: their nats are of other tokens."""
    if rows.empty:
        return to_come(number, _NOT_YET)

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(MODELS), 2.6, narrow, sharey=True)
        for axis, (profile, (_, title)) in zip(axes, MODELS.items(), strict=True):
            for place, row in enumerate(select(rows, profile=profile).itertuples()):
                value, low, high = improvement(row)
                colour = figures.BETTER_COLOUR if low > 0 else figures.WORSE_COLOUR if high < 0 else figures.GREY
                figures.dot(axis, place, (value, low, high), colour)
            axis.axvline(0, color="#010203", linewidth=1)
            axis.set(title=title, xlabel="swap minus rival\n(nats per token,\nright is better)")
            axis.set_yticks(range(len(_PAIRS)), [in_prose(*rival) for _, rival in _PAIRS])
            axis.set_ylim(len(_PAIRS) - 0.5, -0.5)
        return figure

    caption = (
        f"The swap against rivals in Swahili, {READINGS[PRIMARY].title}, 95 % intervals; blue above zero, orange below. Nats of "
        "the two models are of other tokens: compare sides, not sizes. Exploratory."
    )
    return picture(draw, number=number, caption=caption, alt=told(rows))


def told(rows: pd.DataFrame) -> str:
    """Return in words what both models say of the swap, where they are both there."""
    if rows.empty:
        return "Whether the second model says the same is not computed yet."
    parts = []
    for profile, (_, title) in MODELS.items():
        mine = select(rows, profile=profile).itertuples()
        parts.append(
            f"{title}: the swap "
            + ", ".join(f"{improved(r, False)} against {in_prose(r.method_b, r.partition_b)}" for r in mine)
        )
    return "; ".join(parts) + "."
