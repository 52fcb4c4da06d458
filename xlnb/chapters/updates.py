"""Experts of several strengths: how they were trained, how far they moved, and whether both updates meddle with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from xlnb.analysis.lengths import lengths
from xlnb.chapters.pictures import Shown, table
from xlnb.chapters.words import number as digits
from xlnb.methods import LANGUAGE, MATH
from xlnb.studies import additivity
from xlnb.studies.atlas import load_map
from xlnb.studies.maps import IN_LANGUAGE
from xlnb.studies.outcomes import load_training, select
from xlnb.studies.profiles import STRENGTHS, named_profile
from xlnb.studies.study import Study

EXPERTS, SEEDS = (MATH, LANGUAGE), [0, 1, 2]
NAMES = dict(zip(STRENGTHS, ("barely", "as usual", "far", "by heart"), strict=True))
MOVED, CROSSED = ["profile", "expert", "seed", "relative"], ["profile", "seed", "cross"]


_SIDES = {MATH: "math", LANGUAGE: "language"}
_OF_CROSSES = (
    ". The cross term is what both updates together lose on problems in the language beyond what each loses alone (nats per "
    "token)"
)


def named(profile: Any) -> str:
    """Return what a strength is called."""
    return NAMES.get(str(profile), str(profile))


def moved(study: Study) -> pd.DataFrame:
    """Return how far each expert moved, as a share of the weights' length, from the committed map of lengths: columns ``MOVED``.

    No rows where it is not known, as live.
    """
    sums = _map(study, "lengths")
    if sums.empty:
        return pd.DataFrame(columns=MOVED)
    both = lengths(sums, "profile", "seed").rename(columns={"m": MATH, "l": LANGUAGE})
    return both.melt(["profile", "seed"], list(EXPERTS), "expert", "relative")[MOVED]


def crossed(study: Study) -> pd.DataFrame:
    """Return f(m + l) - f(m) - f(l) + f(0) of the loss on development problems in the language, columns ``CROSSED``.

    In nats per token, from the committed map of crosses; zero where the two updates do not meddle. No rows where it is not known.
    """
    found = _map(study, "crosses")
    if found.empty:
        return pd.DataFrame(columns=CROSSED)
    mine = select(found, part="whole", asked=IN_LANGUAGE)
    return mine.assign(cross=additivity.crossed(mine))[CROSSED]


def _map(study: Study, name: str) -> pd.DataFrame:
    if study.live:
        return pd.DataFrame()
    alike = {"language": study.language, "paradigm": study.paradigm, "seed": SEEDS, "profile": list(STRENGTHS)}
    return load_map(name, study.results, **alike)


def strengths(
    study: Study, found: pd.DataFrame, far: pd.DataFrame | None = None, crosses: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return of each strength that rows of ``found`` are of, by profile, means over trainings.

    Columns: steps, rate, cross, and of both experts (``loss math-only``, ...) the training loss reached and how far they moved.
    ``far`` has the columns ``MOVED``, ``crosses`` ``CROSSED``: what these lack is nan.
    """
    far = pd.DataFrame(columns=MOVED) if far is None else far
    crosses = pd.DataFrame(columns=CROSSED) if crosses is None else crosses
    rows = {}
    for profile in found["profile"].unique():
        training = named_profile(profile).training
        cross = select(crosses, profile=profile)["cross"].mean()
        rows[profile] = {"steps": training.steps, "rate": training.learning_rate, "cross": cross}
        for slug in EXPERTS:
            alike = study.trained_as(slug) | {"profile": profile, "seed": SEEDS}
            told = study.history(slug).assign(seed=0) if study.live else load_training(study.results, **alike)
            rows[profile][f"loss {slug}"] = told.sort_values("step").groupby("seed").tail(10)["loss"].mean()
            rows[profile][f"moved {slug}"] = select(far, profile=profile, expert=slug)["relative"].mean()
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def places(told: pd.DataFrame) -> tuple[list[float], list[str], str]:
    """Return where strengths stand on an axis, their names there, and what these say.

    By the logarithm of how far both experts moved, where that is known and tells them apart; else in their order.
    """
    far = told[[f"moved {slug}" for slug in EXPERTS]]
    known, at = bool((far > 0).all(axis=None)), np.arange(float(len(told)))
    what, form = ("moved", ".2%") if known else ("loss", ".2f")
    names = [
        "\n".join([named(profile), *(digits(row[f"{what} {slug}"], form) for slug in EXPERTS)])
        for profile, row in told.iterrows()
    ]
    logs = np.log(far).mean(axis=1).to_numpy() if known else at
    if len(at) > 1 and logs[-1] > logs[0]:
        scaled = (logs - logs[0]) / (logs[-1] - logs[0]) * at[-1]
        at = scaled if np.diff(scaled).min() > 0.6 else at  # or names would lie on each other
    return list(at), names, "how far they moved, of the weights' length" if known else "the training loss they reached"


def experts_table(told: pd.DataFrame, number: int | None = None) -> Shown:
    """Return for a reader how the experts of each strength were trained, and how far they came."""
    columns = ["loss {}", "moved {}"] if told[f"moved {MATH}"].notna().any() else ["loss {}"]
    rows = []
    for profile, row in told.iterrows():
        rate = np.format_float_positional(row["rate"])
        line = {"experts": named(profile), "steps": f"{row['steps']:.0f}", "peak rate": rate}
        for column in columns:
            form, title = (".2f", "loss") if column.startswith("loss") else (".2%", "moved")
            line |= {f"{title}, {side}": digits(row[column.format(slug)], form) for slug, side in _SIDES.items()}
        rows.append(line | ({"cross term": digits(row["cross"], "+.3f")} if told["cross"].notna().any() else {}))
    caption = "The experts of each strength: the training loss of the last ten steps (nats per token)"
    caption += ", and how far they moved, as a share of the weights' length" if columns[1:] else ""
    return table(rows, number=number, caption=f"{caption}{_OF_CROSSES if told['cross'].notna().any() else ''}.")
