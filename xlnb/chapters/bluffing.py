"""What readers that understand nothing get by the metrics, as the chapter on measuring tells it."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from xlnb.chapters.pictures import Shown, table
from xlnb.chapters.words import amount, lowered, number
from xlnb.evaluation.bluffs import READERS, bluffs
from xlnb.evaluation.readings import CHOICE, EXPRESSION_INFORMATION, READINGS, TWIN_CHOICE, TWIN_INFORMATION, calibrated
from xlnb.languages import LANGUAGE_NAMES

UNDERSTANDS = "who understands"
_PLAIN = (EXPRESSION_INFORMATION, TWIN_INFORMATION, TWIN_CHOICE, CHOICE)
_CALIBRATED = (calibrated(EXPRESSION_INFORMATION), calibrated(TWIN_INFORMATION))


@lru_cache(maxsize=4)
def bluffed(language: str) -> pd.DataFrame:
    """Return :func:`xlnb.evaluation.bluffs.bluffs` on development problems: reader, metric, value, low, high."""
    return bluffs(language)


def bluffs_table(language: str, number: int | None = None, calibration: bool = False) -> Shown:
    """Return what each reader gets by the plain metrics, or by calibrated ones, a row a reader."""
    found = {(row.reader, row.metric): (row.value, row.low, row.high) for row in bluffed(language).itertuples()}
    rows = []
    for name, reader in READERS.items():
        told = {"reader": f"{name}: {reader.says}"}
        for metric in _CALIBRATED if calibration else _PLAIN:
            value, low, high = found[name, metric]
            told[_head(metric)] = amount(value, low, high, metric, with_unit=False)
        rows.append(told)
    caption = (
        f"Readers that are no models, on {LANGUAGE_NAMES[language]} development problems{', calibrated' if calibration else ''}: "
        "all but the last know nothing of which operation a text asks for. In nats per number or sign, or percent, with 95 % "
        "intervals over pairs of twin situations."
    )
    return table(rows, number=number, caption=caption)


def _head(metric: str) -> str:
    return f"{READINGS[metric].title} ({READINGS[metric].unit})"


def best_bluff(metric: str, language: str) -> tuple[str, float]:
    """Return the reader that gets most by a metric without understanding, and its share of what understanding gets."""
    found = bluffed(language)
    mine = found[found["metric"] == metric].set_index("reader")["value"]
    others = mine.drop(UNDERSTANDS)
    return str(others.idxmax()), float(others.max() / mine[UNDERSTANDS])


def bluffs_sentence(language: str) -> str:
    """Return in words how much of what understanding gets the best trick gets, by each metric of which more is better."""
    told = []
    for metric in (*_PLAIN, *_CALIBRATED):
        reader, share = best_bluff(metric, language)
        told.append(f"by {lowered(READINGS[metric].title)} {number(share, '.0%')} (*{reader}*)")
    alone = bluffed(language).set_index(["reader", "metric"])["value"]
    share = alone["numbers alone", EXPRESSION_INFORMATION] / alone[UNDERSTANDS, EXPRESSION_INFORMATION]
    return (
        f"Of what understanding gets, the best trick gets {', '.join(told)}. Numbers alone get {number(share, '.0%')} by "
        f"{lowered(READINGS[EXPRESSION_INFORMATION].title)}."
    )
