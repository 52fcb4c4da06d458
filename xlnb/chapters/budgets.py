"""What the search for training budgets found, as the chapter on base and data tells it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pandas as pd

from xlnb.chapters.figures import unit_of
from xlnb.chapters.pictures import Shown, box, table
from xlnb.chapters.words import amount, bracketed, bullets, listed, unit_of_gains
from xlnb.errors import RequestError
from xlnb.evaluation.readings import EXPRESSION, PRIMARY, READINGS, TWIN_CHOICE
from xlnb.evaluation.shortcuts import APART, WORDS, shortcuts, situations
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import Interval, mean_interval
from xlnb.studies.outcomes import select
from xlnb.studies.search import (
    BASE,
    CALCULATION,
    HELD_OUT,
    MANY,
    NTREX,
    PARALLEL,
    PROSE,
    READ,
    TARGETS,
    committed_search,
    settings,
)
from xlnb.training.sft import Training

_MOST, _TAUGHT = 96, 4800  # development problems, at most so many of which were asked; problems of 600 steps of 8
_SETTING = ["expert", "language", "data", "steps", "rate"]
USED = MANY  # the data of the math expert that all chapters have
_NAMES = {
    MANY: "many English situations",
    CALCULATION: "many English situations, the first calculation alone",
    PARALLEL: "the parallel situations",
}
_ON_PROBLEMS = (PRIMARY, TWIN_CHOICE, EXPRESSION)
_SHOWN_EXAMPLES = (
    f"Answers were written after {max(READ)} worked examples; all else is read without any, as experts are trained."
)


def against_base(found: pd.DataFrame) -> pd.DataFrame:
    """Return what each setting of a search gains over the base by each metric, signed so that more is better.

    The setting's columns, test_language, shots, metric, gain (an :class:`xlnb.stats.Interval` over pairs of twin situations, or
    over texts that have none, each paired with the base's), and seconds_of_training. Source: ours.
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
            "gain": _over_pairs(gain if higher else -gain),
            "seconds": part["seconds_of_training"].iloc[0],
        }
        rows.append(dict(zip([*_SETTING, *keys], key, strict=True)) | told)
    return pd.DataFrame(rows)


def _over_pairs(outcomes: pd.Series) -> Interval:
    """Return the mean of outcomes, indexed by problem, with its interval over pairs of twin situations: these share words."""
    pairs = situations(outcomes.index)
    by_pair = outcomes.groupby([pairs.get(problem, problem) for problem in outcomes.index]).mean()
    return mean_interval(by_pair.to_numpy())


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


_MISSING = "<p>There is no committed search yet.</p>"


def _committed() -> pd.DataFrame | None:
    """Return the committed search, None where there is none yet."""
    try:
        return committed_search()
    except RequestError:
        return None


def search_tables(language: str) -> list[Shown]:
    """Return what the committed search found, of math experts and of a language's; a box that says so where there is none yet."""
    if (found := _committed()) is None:
        return [box(_MISSING)]
    return [math_table(found), language_table(found, language)]


def search_reading(training: Training) -> str:
    """Return in words how much of the search is committed, and what it says of the budget that is used, as Markdown."""
    asks = "`xlnb search FOLDER` computes the others, and goes on where it stopped."
    if (found := _committed()) is None:
        return f"The search has not been run for the problems of this version, and the budget is a first guess. {asks}"
    tried, wanted = len(found[_SETTING].drop_duplicates()), len(settings())
    told = f"Of the {wanted} settings of the search {tried} are computed."
    if tried < wanted:
        told += f" So the budget in use ({training.steps} steps at {training.learning_rate:g}) is still a first guess. {asks}"
    else:
        told += f" {_gaining_more(found, training)}"
    return f"{told}\n\n{sentences(found, training.steps, training.learning_rate)}"


def _gaining_more(found: pd.DataFrame, training: Training) -> str:
    """Return in words which budgets of the math expert gain clearly more than the one in use, problem by problem."""
    asked = select(found, expert="math", test_language="en", shots=0, metric=PRIMARY)
    own = {key: part.set_index("problem")["outcome"] for key, part in asked.groupby(["data", "steps", "rate"])}
    used = own.pop((USED, training.steps, training.learning_rate), None)
    if used is None:
        return "The budget in use is not among the math expert's."
    more = [key for key, one in own.items() if _over_pairs((one - used).dropna()).low > 0]
    each = [f"{steps} steps at {rate:g} on {_named_data(data)}" for data, steps, rate in more]
    return (
        f"The budget in use is not the best: of the math expert's other {len(own)} settings {len(more)} gain clearly more "
        f"on English problems by {READINGS[PRIMARY].title}, problem by problem and by one training each ({'; '.join(each)}). The "
        "results of this book are those of the budget in use all the same."
        if more
        else f"None of the math expert's other {len(own)} settings gains clearly more on English problems than the budget in use."
    )


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
        f"over pairs of twin situations. One training each. {_SHOWN_EXAMPLES}"
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
        "and of lines of NTREX-128 (in nats per token, more is better), and development problems. 95 % intervals over texts "
        f"or pairs of twin situations, one training each. {_SHOWN_EXAMPLES}"
    )
    columns = ["data", "steps", "rate", "held-out prose", "NTREX", *map(_short, _ON_PROBLEMS)]
    return table(rows, columns, number=number, caption=caption)


def _named_data(data: Any) -> str:
    return _NAMES.get(data, str(data))


def _named(key: Iterable[Any]) -> tuple[str, int, str]:
    data, steps, rate = key
    return _named_data(data), int(steps), f"{rate:g}"


def _short(metric: str) -> str:
    return f"{READINGS[metric].title} ({unit_of_gains(metric)})"


def sentences(found: pd.DataFrame, steps: int, rate: float) -> str:
    """Return in words what the chosen budget gives each single expert, as Markdown."""
    gains = select(against_base(found), steps=steps, rate=rate)
    lines = []
    math = select(gains, expert="math", data=USED, test_language="en")
    if len(math):
        told = [
            f"{_told(_gain(math, m), m)} {unit_of(m, difference=True)} by {READINGS[m].title}"
            for m in (PRIMARY, EXPRESSION)
        ]
        lines.append(f"The math expert gains {listed(told)} on English problems of situations that it never saw.")
    return bullets(lines)


def language_sentences(training: Training) -> str:
    """Return in words what each language's expert of the committed search learned of its language and lost, as Markdown."""
    if (found := _committed()) is None:
        return _MISSING
    mine = select(found, expert=[BASE, "language"])
    return bullets(_language_lines(select(against_base(mine), steps=training.steps, rate=training.learning_rate)))


def news_sentence(training: Training) -> str:
    """Return in words whose expert of the committed search makes news of its language likelier; "" where none is committed."""
    if (found := _committed()) is None:
        return ""
    mine = select(found, expert=[BASE, "language"], data=[PROSE, ""], metric=NTREX)
    ways: dict[str, list[str]] = {}
    for one in select(against_base(mine), steps=training.steps, rate=training.learning_rate).itertuples():
        way = _way(one.gain, "likelier", "less likely", "no likelier")
        ways.setdefault(way, []).append(LANGUAGE_NAMES[one.language])
    told = [f"{way} by the {listed(names)} expert{'s' if len(names) > 1 else ''}" for way, names in ways.items()]
    if not told:
        return ""
    text = f"News of the language becomes {listed(told)} (one training each)."
    open_ = (
        ""
        if {*ways} == {"likelier"}
        else " Where it is not likelier, a swap puts in a kind of text rather than a language."
    )
    return text + open_


def _way(gain: Interval, above: str, below: str, neither: str) -> str:
    return above if gain.low > 0 else below if gain.high < 0 else neither


def _language_lines(gains: pd.DataFrame) -> list[str]:
    of = {language: select(gains, expert="language", language=language, data=PROSE) for language in TARGETS}
    return [_language_line(mine, language) for language, mine in of.items() if len(mine)]


def _language_line(gains: pd.DataFrame, language: str) -> str:
    found: dict[str, list[str]] = {}
    for metric, name in ((HELD_OUT, "held-out prose"), (NTREX, "lines of NTREX-128")):
        if (gain := _gain(gains, metric)) is not None:
            way = _way(gain, "likelier", "less likely", "neither likelier nor less likely")
            found.setdefault(way, []).append(f"{name} ({_told(gain, metric)} nats per token)")
    texts = [f"{listed(names)} {way}" for way, names in found.items()]
    primary = _gain(gains, PRIMARY)
    assert primary is not None
    clear = _way(primary, "above the base", "below the base", "not clearly different from the base")
    return (
        f"The {LANGUAGE_NAMES[language]} expert makes {listed(texts)}; on problems, asked without worked "
        f"examples, it is {clear} ({_told(primary, PRIMARY)} nats per token by {READINGS[PRIMARY].title})."
    )


# --- is the operation read? ------------------------------------------------------------------------------


def reading_levels(found: pd.DataFrame, language: str = "en") -> pd.DataFrame:
    """Return how many twins the base and each math expert tell apart in a language, a row a setting, shorter trainings first.

    The setting's columns, seconds_of_training, and by shots an :class:`xlnb.stats.Interval` over pairs of twin situations,
    which share words. Source: ours.
    """
    asked = select(found, metric=TWIN_CHOICE, test_language=language, expert=[BASE, "math"])
    if asked.empty:
        return asked
    rows = []
    for key, part in asked.groupby([*_SETTING, "seconds_of_training"], sort=False):
        levels = {shots: _over_pairs(one.set_index("problem")["outcome"]) for shots, one in part.groupby("shots")}
        rows.append(dict(zip([*_SETTING, "seconds_of_training"], key, strict=True)) | levels)
    return pd.DataFrame(rows).sort_values(["steps", "rate", "data"], ignore_index=True)


def reading_table(language: str = "en", number: int | None = None) -> Shown:
    """Return :func:`reading_levels` of the committed search as a table; a box that says so where there is none yet."""
    if (found := _committed()) is None:
        return box(_MISSING)
    levels = reading_levels(found, language)
    rows = [
        {
            "trained on": _named_data(row["data"]) or "nothing (base)",
            "steps": row["steps"] or "–",
            "rate": f"{row['rate']:g}" if row["steps"] else "–",
            "minutes": f"{row['seconds_of_training'] / 60:.0f}" if row["steps"] else "–",
            **{f"twins told apart, {_after(shots)} (%)": _percent(row[shots]) for shots in READ},
        }
        for _, row in levels.iterrows()
    ]
    caption = (
        f"Math experts of the search, on {LANGUAGE_NAMES[language]} development problems: how many twins they tell apart. A coin "
        f"tells 25 % apart; {_words_alone()} 95 % intervals over pairs of twin situations; one training each."
    )
    return table(rows, number=number, caption=caption)


@lru_cache(maxsize=1)
def _words_alone() -> str:
    """Return what a reader of words alone gets, taught with the longest training's problems: the control."""
    found = shortcuts("en", "development", _MOST, _TAUGHT, readers=(WORDS,), many_frames=True)
    value, low, high = found.set_index("asked").loc[APART, ["value", "low", "high"]]
    level = bracketed(100 * value, 100 * low, 100 * high, ".0f")
    return (
        f"a random forest that sees but the words tells {level} % apart, taught with as many problems of the same kind."
    )


def _after(shots: int) -> str:
    return f"after {shots} worked examples" if shots else "without worked examples"


def _percent(level: Interval) -> str:
    return bracketed(100 * level.value, 100 * level.low, 100 * level.high, ".0f")


def reading_sentence(language: str = "en", other: str = TARGETS[0]) -> str:
    """Return in words whether any math expert of the committed search tells more twins apart than a coin, at what price, and
    whether it does in another language, in which it was not trained.
    """
    if (found := _committed()) is None:
        return "Whether longer training or other data would do is open."
    levels = reading_levels(found, language)
    better = levels[(levels["expert"] != BASE) & levels[0].map(lambda level: level.low > 0.25)]
    if better.empty:
        return "No math expert of the search tells clearly more twins apart than a coin."
    best = better.loc[max(better.index, key=lambda i: better.loc[i, 0].value)]
    how = f"{best['steps']} steps ({best['seconds_of_training'] / 60:.0f} minutes) on {_named_data(best['data'])}"
    told = (
        f"Which operation is asked can be learned: trained for {how}, a math expert tells {_percent(best[0])} % of the twins "
        f"apart without worked examples, and {_percent(best[max(READ)])} % after {max(READ)} of them."
    )
    told += f" That need not be understanding: {_words_alone()}"
    there = reading_levels(select(found, **best[_SETTING]), other)
    if there.empty:
        return told
    level = there[0].iloc[0]
    told += f" In {LANGUAGE_NAMES[other]}, which the expert never saw, it tells {_percent(level)} % apart"
    return told + (", clearly fewer." if level.high < best[0].low else ".")
