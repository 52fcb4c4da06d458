"""How much each site matters to math and to the language, by each measure: scores from a study's maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from xlnb.analysis.fitting import ABLATION, CHANGE
from xlnb.analysis.lengths import lengths
from xlnb.analysis.sensitivity import FISHER, TAYLOR
from xlnb.methods import LANGUAGE, MATH
from xlnb.studies.maps import IN_ENGLISH, TEXT

if TYPE_CHECKING:
    import pandas as pd

PATCHING = "patching"
MEASURES = (CHANGE, TAYLOR, FISHER, ABLATION, PATCHING)
BY_PROJECTION = (CHANGE, TAYLOR, FISHER)  # the others look at whole blocks
MAPS = ("lengths", "sensitivity", "sites")
SIDES = ("math", "language")
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


def scores(maps: Mapping[str, pd.DataFrame], by: str = "block") -> pd.DataFrame:
    """Return how much each site matters to math and to the language, by each measure.

    ``maps`` has tables of ``MAPS``, of one profile and paradigm; ``by`` is ``block`` (every measure) or ``projection``
    (``BY_PROJECTION``). Columns: measure, language, seed, side, layer, site (attention and ffn, or q to down), score. Relative
    change as a share of the weight; Taylor, ablation and patching in nats per token; Fisher in squared nats.
    """
    import pandas as pd

    keys, found = ["language", "seed"], []
    moved, felt, sites = (maps[name] for name in MAPS)
    if by == "projection":
        moved, felt = (some[some["projection"].isin(PROJECTIONS)] if len(some) else some for some in (moved, felt))
    if len(moved):
        relative = lengths(moved, *keys, "layer", by).rename(columns={by: "site"})
        for side, column in zip(SIDES, ("m", "l"), strict=True):
            found.append(relative.assign(measure=CHANGE, side=side, score=relative[column]))
    if len(felt):
        mine = felt[felt["asked"].isin([IN_ENGLISH, TEXT])]
        mine = mine.assign(side=mine["asked"].map({IN_ENGLISH: "math", TEXT: "language"}))
        found.append(mine.groupby([*keys, "measure", "side", "layer", by])["score"].sum().reset_index(name="score"))
        found[-1] = found[-1].rename(columns={by: "site"})
    if len(sites) and by == "block":
        found += [effects(sites, expert, asked).assign(side=side) for side, expert, asked in _ABOUT]
    columns = ["measure", *keys, "side", "layer", "site", "score"]
    whole = pd.concat([one[columns] for one in found], ignore_index=True) if found else pd.DataFrame(columns=columns)
    return whole.astype({"layer": int}) if len(whole) else whole


_ABOUT = (("math", MATH, IN_ENGLISH), ("language", LANGUAGE, TEXT))


def effects(sites: pd.DataFrame, expert: str, asked: str) -> pd.DataFrame:
    """Return what an expert loses where a site is reverted, and what the base gains by one of its sites, in nats per token.

    Columns: measure (ablation, patching), language, seed, layer, site, score.
    """
    keys = ["intervention", "language", "seed"]
    mine = sites[(sites["expert"] == expert) & (sites["asked"] == asked)]
    whole = mine[mine["layer"].isna()].set_index(keys)["loss"]
    parts = mine.dropna(subset=["layer"]).join(whole.rename("whole"), on=keys)
    sign = parts["intervention"].map({ABLATION: 1, PATCHING: -1})
    told = parts.assign(score=sign * (parts["loss"] - parts["whole"]))
    told = told.rename(columns={"intervention": "measure", "block": "site"})
    return told[["measure", "language", "seed", "layer", "site", "score"]]
