"""The chapter on linearity, on made-up maps whose answers are known, whole, partly there, and missing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from texts import text_faults

from xlnb.analysis.linearity import grid
from xlnb.chapters import foretelling, home, layerwise, linearity, pictures, planes, tangents
from xlnb.studies import atlas
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNTESTED
from xlnb.studies.maps import ASKED
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

STEEP = {("math", "math"): 1.0, ("math", "problems"): 0.6, ("math", "language"): 0.1,
         ("language", "math"): 0.1, ("language", "problems"): 0.2, ("language", "language"): 0.8}  # fmt: skip
BENT = 0.4  # of the square along each vector
LANGUAGES = ("sw", "bn", "te")


def told(language, seed, paradigm="lora", profile="pocket"):
    return {"profile": profile, "model": "gemma-3-270m", "language": language, "paradigm": paradigm, "seed": seed}


def loss(asked, a, b, cross, noise=0.0):
    """A quadratic: what each vector saves, bent, and how the two meddle."""
    saved = sum(STEEP[side, asked] * (x - BENT / 2 * x * x) for side, x in (("math", a), ("language", b)))
    return 3.0 + noise - saved + cross * a * b


def alone(asked):
    return (1 - BENT / 2) * (STEEP["math", asked] + STEEP["language", asked])


def made_maps(share=0.3, languages=LANGUAGES, seeds=range(5), paradigm="lora", profile="pocket"):
    """Maps in which the cross term of plain addition is this share of what both do alone, and of which slopes are exact."""
    rows = {name: [] for name in ("plane", "slopes", "merges", "crosses", "activations", "lengths")}
    for place, language in enumerate(languages):
        for seed in seeds:
            key, noise = told(language, seed, paradigm, profile), np.random.default_rng([seed, place]).normal(scale=0.02)
            for asked in ASKED:
                cross = (share + noise) * alone(asked)

                def at(a, b, asked=asked, cross=cross):
                    return loss(asked, a, b, cross, 0.1 * noise)  # noqa: B023

                if seed < 3:
                    rows["plane"] += [{**key, "a": a, "b": b, "asked": asked, "loss": at(a, b)} for a, b in grid(steps=9)]
                for side in ("math", "language"):
                    for layer in range(4):
                        part = {"layer": layer, "block": "ffn", "slope": -STEEP[side, asked] / 4, "side": side, "asked": asked}
                        rows["slopes"].append({**key, **part})
                for part in dict.fromkeys((*linearity.PLACES, *linearity.SHARES)):
                    if part in linearity.HALVES.values():  # made of the plane
                        continue
                    some = 1.0 if part == "whole" else 0.5
                    corners = {"m": at(some, 0), "l": at(0, some), "neither": at(0, 0)}
                    both = at(some, some) if "swap" not in part else corners["m"] + corners["l"] - corners["neither"]
                    rows["crosses"].append({**key, "part": part, "asked": asked, "both": both, **corners})
                for method, partition, a, b, off, more in (
                    ("soup", "", 0.5, 0.5, 0.0, 0.0), ("task-arithmetic", "", 1.0, 1.0, 0.0, 0.0), ("slerp", "", 0.5, 0.5, 0.01, 0.0),
                    ("ties", "", 0.55, 0.51, 0.66, 0.0), ("dare", "", 1.0, 0.97, 0.95, 0.3),
                    ("layer-swapping", "A", 0.6, 0.4, 0.66, 0.0), ("layer-swapping", "B", 0.87, 0.14, 0.45, 0.0),
                    ("layer-swapping", "C", 0.63, 0.38, 0.65, -0.2), ("train-then-revert", "C", 0.63, 0.0, 0.61, 0.0),
                ):  # fmt: skip
                    here = {"method": method, "partition": partition, "a": a, "b": b, "off": off, "asked": asked}
                    rows["merges"].append({**key, **here, "loss": at(a, b) + more * (1 + noise)})
                for layer in range(18):
                    one = {"cosine": 0.99 - 0.01 * layer, "coefficient": 1.01, "error": 0.04 + 0.01 * layer + noise / 10}
                    rows["activations"].append({**key, "layer": layer, "asked": asked, **one})
            for layer in range(18):
                squares = {"own": 100.0, "m": 1.0 + layer / 10, "l": 0.5, "dot": 0.1, "elements": 10}
                rows["lengths"].append({**key, "layer": layer, "block": "ffn", "projection": "up", **squares})
    return {name: pd.DataFrame(some) for name, some in rows.items()}


def publish(folder, *several):
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    for name in several[0]:
        pd.concat([maps[name] for maps in several]).to_parquet(folder / "maps" / f"{name}.parquet")


@pytest.fixture(scope="module")
def maps():
    return made_maps()


def words_of(shown):
    return BeautifulSoup(shown.html, "html.parser").get_text(" ")
