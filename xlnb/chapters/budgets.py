"""What the search for training budgets found, as the chapter on base and data tells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from xlnb.chapters.pictures import Shown, box, table
from xlnb.chapters.words import amount, bracketed, bullets, listed
from xlnb.errors import RequestError
from xlnb.evaluation.readings import EXPRESSION, PRIMARY, READINGS, TWIN_CHOICE
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import Interval, mean_interval
from xlnb.studies.outcomes import select
from xlnb.studies.search import BASE, HELD_OUT, NTREX, PROSE, READ, TARGETS, committed_search

_SETTING = ["expert", "language", "data", "steps", "rate"]
_ON_PROBLEMS = (PRIMARY, TWIN_CHOICE, EXPRESSION)
_SHOWN_EXAMPLES = (
    f"Answers were written behind {max(READ)} worked examples; all else is read without any, as experts are trained."
)


def against_base(found: pd.DataFrame) -> pd.DataFrame:
    """Return what each setting of a search gains over the base by each metric, signed so that more is better.

    The setting's columns, test_language, shots, metric, gain (an :class:`xlnb.stats.Interval` over problems, each paired with the
    base's), and seconds_of_training. Source: ours.
    """
    keys = ["test_language", "shots", "metric"]
    base = found[found["expert"] == BASE].set_index([*keys, "problem"])["outcome"].sort_index()
    rows = []
    for key, part in found[found["expert"] != BASE].groupby([*_SETTING, *keys], sort=False):
        metric = str(key[-1])
        own = part.set_index("problem")["outcome"]
        gain = own - base.loc[key[-3:]].reindex(own.index)
        higher = metric in READINGS and READINGS[metric].higher_is_better
        told = {
            "gain": mean_interval((gain if higher else -gain).to_numpy()),
            "seconds": part["seconds_of_training"].iloc[0],
        }
        rows.append(dict(zip([*_SETTING, *keys], key, strict=True)) | told)
    return pd.DataFrame(rows)


def _gain(gains: pd.DataFrame, metric: str, **wanted: Any) -> Interval | None:
    """Return a gain, of answers behind worked examples, of all else without any; None where it was not measured."""
    shots = max(READ) if metric in READINGS and READINGS[metric].generates else 0
    found = select(gains, metric=metric, shots=shots, **wanted)["gain"]
    return None if found.empty else found.iloc[0]


def _told(gain: Interval | None, metric: str) -> str:
    """Return a gain with its interval, or a dash where it was not measured."""
    if gain is None:
        return "–"
    if metric in (HELD_OUT, NTREX):
        return bracketed(gain.value, gain.low, gain.high, "+.2f")
    return amount(gain.value, gain.low, gain.high, metric, signed=True, with_unit=False)


def search_tables(language: str) -> list[Shown]:
    """Return what the committed search found, of math experts and of a language's; a box that says so where there is none yet."""
    try:
        found = committed_search()
    except RequestError:
        told = (
            "<p>The search over data, steps and rates of single experts was not finished for the problems of this version; "
            "<code>xlnb search FOLDER</code> computes it. Until then the budget is a first guess.</p>"
        )
        return [box(told)]
    return [math_table(found), language_table(found, language)]


def math_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what math experts gain over the base, a row a budget: in English and in Swahili, on development problems."""
    gains = select(against_base(found), expert="math")
    asked = [(code, metric) for code in ("en", TARGETS[0]) for metric in _ON_PROBLEMS]
    rows = []
    for key, part in gains.groupby(["data", "steps", "rate"], sort=True):
        told = [_told(_gain(part, metric, test_language=code), metric) for code, metric in asked]
        rows.append((*_named(key), *told))
    columns = [
        "data",
        "steps",
        "rate",
        *(f"{_short(metric)}, {LANGUAGE_NAMES[code]}" for code, metric in asked),
    ]
    caption = (
        "Math experts by data, steps and peak rate: what each gains over the base on development problems, with 95 % intervals "
        f"over problems. One training each. {_SHOWN_EXAMPLES}"
    )
    return table(rows, columns, number=number, caption=caption)


def language_table(found: pd.DataFrame, language: str, number: int | None = None) -> Shown:
    """Return what experts of a language gain over the base, a row a setting: on texts of the language, on its problems."""
    gains = select(against_base(found), language=language)
    rows = []
    for key, part in gains.groupby(["expert", "data", "steps", "rate"], sort=True):
        told = [_told(_gain(part, metric), metric) for metric in (HELD_OUT, NTREX, *_ON_PROBLEMS)]
        rows.append((("oracle: " if key[0] == "oracle" else "") + str(key[1]), *_named(key[1:])[1:], *told))
    caption = (
        f"{LANGUAGE_NAMES[language]} experts by data, steps and peak rate, against the base: likelihood of held-out prose "
        "and of lines of NTREX-128 (in nats per token, more is better), and development problems. 95 % intervals over texts or "
        f"problems, one training each. {_SHOWN_EXAMPLES}"
    )
    columns = ["data", "steps", "rate", "held-out prose", "NTREX", *map(_short, _ON_PROBLEMS)]
    return table(rows, columns, number=number, caption=caption)


def _named(key: Iterable[Any]) -> tuple[str, int, str]:
    data, steps, rate = key
    return str(data), int(steps), f"{rate:g}"


def _unit(metric: str) -> str:
    return "points" if READINGS[metric].unit == "%" else "nats per token"


def _short(metric: str) -> str:
    return f"{READINGS[metric].title} ({_unit(metric).partition(' ')[0]})"


def sentences(found: pd.DataFrame, steps: int, rate: float) -> str:
    """Return in words what the chosen budget gives each single expert, as Markdown."""
    gains = select(against_base(found), steps=steps, rate=rate)
    lines = []
    math = select(gains, expert="math", data="many frames", test_language="en")
    if len(math):
        told = [f"{_told(_gain(math, m), m)} {_unit(m)} by {READINGS[m].title}" for m in (PRIMARY, EXPRESSION)]
        lines.append(f"The math expert gains {listed(told)} on English problems of situations that it never saw.")
    for language in TARGETS:
        mine = select(gains, expert="language", language=language, data=PROSE)
        if len(mine):
            lines.append(_language_line(mine, language))
    return bullets(lines)


def _language_line(gains: pd.DataFrame, language: str) -> str:
    texts = [
        f"{name} by {_told(_gain(gains, metric), metric)} nats per token"
        for metric, name in ((HELD_OUT, "held-out prose"), (NTREX, "lines of NTREX-128"))
        if _gain(gains, metric) is not None
    ]
    primary = _gain(gains, PRIMARY)
    assert primary is not None
    clear = (
        "above the base"
        if primary.low > 0
        else "below the base"
        if primary.high < 0
        else "not clearly different from the base"
    )
    return (
        f"The {LANGUAGE_NAMES[language]} expert makes likelier {listed(texts)}; on problems it is {clear} "
        f"({_told(primary, PRIMARY)} nats per token by {READINGS[PRIMARY].title})."
    )
