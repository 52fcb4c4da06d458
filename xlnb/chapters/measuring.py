"""What the chapter on measuring compares and says: what each metric is worth, how answers are read, noise, power, families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb import stats
from xlnb.chapters import home
from xlnb.chapters.budgets import reading_sentence
from xlnb.chapters.figures import BETTER_COLOUR, GREY, VERDICT_COLOURS, WORSE_COLOUR, dot, unit_of, wrapped
from xlnb.chapters.interactive import Explorer, explorer
from xlnb.chapters.layer_swapping import with_pooled_random
from xlnb.chapters.pictures import Foreign, Shown, box, panels, picture, table
from xlnb.chapters.words import (
    bracketed,
    bullets,
    improved,
    label,
    listed,
    trainings,
    unit_of_gains,
    unjudged,
)
from xlnb.chapters.words import (
    number as digits,
)
from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation import harness
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.readings import (
    CHOICE,
    COST_GROUPS,
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_INFORMATION,
    EXPRESSION_NLL,
    PRIMARY,
    READINGS,
    TRIMMED,
    TWIN_CHOICE,
    TWIN_INFORMATION,
    TWINS,
    VALIDATED,
    calibrated,
)
from xlnb.evaluation.shortcuts import EXACT, FIRST, NUMBERS, shortcuts
from xlnb.evaluation.solutions import calculation_variants
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.paths import results_folder
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE, judged, verdicts_of
from xlnb.studies.outcomes import costs_for, load_costs, load_outcomes, select
from xlnb.studies.study import open_study

CANDIDATES = tuple(metric for metric in READINGS if metric in VALIDATED)
TRAININGS = 3  # for which problems are counted in the choice of the primary metric
SHARE_SEEN = 0.25  # of the oracle's gain: the difference that should be seen
MOST_FORMAT = 0.25  # the placebo may gain at most this share of what the oracle gains
THREE_POINTS = 0.03
MGSM = 250  # problems a language
# Exact match of two larger models of about 50 % that differ on one problem in five, trainings by one point: no measurement.
ASSUMED = stats.binary_components(0.5, discordant=0.2, seed_sd=0.01)

_FILTERS = {harness.STRICT: "harness, strict", harness.FLEXIBLE: "harness, flexible"}


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    outcomes, costs = committed_validation()
    swahili = select(outcomes, language="sw")
    named = best_reading(validation(swahili, costs_for(costs, "sw")))
    gain, apart = (judged(family, swahili) for family in (claims.VALIDATION, claims.FORMAT))
    gold = gold_readings().set_index("language").loc["bn", harness.STRICT]
    twins = 100 * select(swahili, metric=TWIN_CHOICE, method=ORACLE)["outcome"].mean()
    sentences = (
        "Which metric measures calculation? We trained an oracle on Swahili word problems, and a placebo on the same problems "
        f"with their solutions exchanged. {_apart_sentence(apart)}",
        f"A problem's numbers alone would give {numbers_alone(swahili)[PRIMARY]:.0%} of what the oracle gains by it. Of twins, "
        f"problems with the same numbers and another operation, the oracle tells {twins:.0f} % apart; a coin gets 25 %. "
        + ("No metric passes our rule with this model." if named is None else f"Our rule names {_title(named)}.")
        + f" {reading_sentence()}",
        f"Of the gold solutions in Bengali, all of them right, lm-evaluation-harness counts {gold:.0%} by its strict filter: it "
        "looks for English words there.",
        f"{power_sentence(ASSUMED, THREE_POINTS, MGSM, TRAININGS)} "
        "MGSM has as many a language: alone it cannot rank methods by three points.",
    )
    verdicts = verdicts_of(gain) | verdicts_of(apart)
    return box("".join(f"<p>{escape(sentence)}</p>" for sentence in sentences), verdicts)


@lru_cache(maxsize=1)
def _committed(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the committed outcomes of the pocket model's validation in all languages, and what its metrics cost."""
    return load_outcomes(folder, "measuring", profile="pocket"), load_costs(folder, profile="pocket")


def committed_validation() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the committed outcomes of base, placebo and oracles in every language, and the metrics' costs."""
    return _committed(results_folder())


def _apart_sentence(apart: pd.DataFrame) -> str:
    """Return how far the primary metric and the forced choice tell the oracle from the placebo, in words."""
    by_metric = apart.set_index("metric", drop=False)

    def said(metric: str) -> str:
        row = by_metric.loc[metric]
        if row["verdict"] == UNJUDGED:
            return "has no verdict yet"
        if row["verdict"] == NOT_SHOWN:
            return f"does not tell them apart significantly ({improved(row)})"
        which = "the oracle" if row["verdict"] == BETTER else "the placebo"
        return f"puts {which} ahead ({improved(row)})"

    return (
        f"The metric of this book, {READINGS[PRIMARY].title}, {said(PRIMARY)}. A forced choice between calculations, "
        f"{READINGS[CHOICE].title}, {said(CHOICE)}."
    )


# --- what a metric is worth -------------------------------------------------------------------------------


def metrics_table(number: int | None = None) -> Shown:
    """Return a table of the metrics: name, what an outcome means, unit, which way is better, whether answers are generated."""
    rows = []
    for r in (READINGS[metric] for metric in CANDIDATES):
        better, generates = "higher" if r.higher_is_better else "lower", "yes" if r.generates else "no"
        rows.append((r.title, r.meaning.replace("`", ""), r.unit_in_words, better, generates))
    caption = f"The metrics. All are taken problem by problem. {TRIMMED}"
    return table(
        rows, ["metric", "an outcome is", "unit", "better", "writes an answer"], number=number, caption=caption
    )


def choices_table(language: str, number: int | None = None) -> Shown:
    """Return one development problem with the choices offered at its first calculation, the right one first."""
    problem = templates.problems(language, "development", 1)[0]
    offered = list(calculation_variants(problem.expressions[0]))
    before = problem.solution.partition(problem.expressions[0])[0]
    row = (Foreign(problem.question, language), Foreign(f"{before}…", language), "\n".join(offered))
    caption = (
        "Forced choice on a development problem, the right calculation first. Guessing is right once in "
        f"{len(offered)} at each step."
    )
    return table([row], ["problem", "its solution begins", "the choices"], number=number, caption=caption, heads=False)


def validation(outcomes: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return what each metric is worth, a row a metric, by base, placebo and oracles of one language.

    metric; ``ordered``: the share of trainings in which base, quarter, half and whole oracle come in this order; ``gain``: the
    oracle's over the base, in units, and its ``verdict``; ``apart``: the verdict of oracle against placebo; ``placebo``: the
    share of the gain that the placebo has, too (NaN where no gain is significant); ``numbers``: the share of it that a reader of
    the numbers alone has (:func:`numbers_alone`); ``retest``: Spearman's correlation of the
    gains by problem between trainings (NaN for one); ``effect``: the gain in standard deviations of it over problems;
    ``problems``: how many show a quarter of the gain with three trainings (80 % power; NaN where no number does); ``seconds`` a
    100 problems and model; ``minutes``: for that many problems. Source: ours.
    """
    rows = []
    rate = dict(zip(costs["readings"], costs["seconds"] / costs["problems"], strict=True))
    gained, apart = (
        judged(family, outcomes).set_index("metric")["verdict"] for family in (claims.VALIDATION, claims.FORMAT)
    )
    alone = numbers_alone(outcomes)
    for metric in CANDIDATES:
        gains = _signed_gains(select(outcomes, metric=metric), metric)
        # 0 is the base; the oracles come in the order of their budgets.
        steps = np.diff([0 * gains[ORACLE].mean(axis=1), *(gains[arm].mean(axis=1) for arm in ORACLE_BUDGETS)], axis=0)
        gain, spread = gains[ORACLE].mean(), gains[ORACLE].mean(axis=0).std(ddof=1)
        shown = gained[metric] == BETTER
        components = stats.variance_components(gains[ORACLE])
        seen = stats.needed_problems(SHARE_SEEN * gain, components, TRAININGS) if shown else None
        problems = float("nan") if seen is None else seen
        cheapest = min(rate[name] for name, readings in COST_GROUPS.items() if metric in readings)
        rows.append({
            "metric": metric,
            "ordered": float((steps > 0).all(axis=0).mean()),
            "gain": READINGS[metric].scale * gain,
            "verdict": gained[metric],
            "apart": apart[metric],
            "placebo": gains[PLACEBO].mean() / gain if shown else float("nan"),
            "numbers": alone.get(metric, float("nan")) if shown else float("nan"),
            "retest": stats.spearman_test_retest(gains[ORACLE]) if len(gains[ORACLE]) > 1 else float("nan"),
            "effect": gain / spread if spread else float("nan"),
            "problems": problems,
            "seconds": 100 * cheapest,
            "minutes": problems * cheapest / 60,
        })  # fmt: skip
    return pd.DataFrame(rows)


def numbers_alone(outcomes: pd.DataFrame) -> dict[str, float]:
    """Return the share of the oracle's gain over the base that a reader of the numbers alone has, by metric, where there is one.

    Behind the twin's text the numbers are right and the words are not: what the oracle gains there on the calculations is what
    the numbers give. Twins are told apart by words alone, so there it is none. Where answers are counted, a random forest that
    saw the numbers of training problems takes the reader's place. Metrics of whole solutions or of the language of answers do
    not ask for calculations: no such reader is defined. Source: ours.
    """

    def gain(metric: str) -> float:
        return float(_signed_gains(select(outcomes, metric=metric), metric)[ORACLE].mean())

    found = dict.fromkeys((*TWINS, calibrated(TWIN_INFORMATION)), 0.0)
    for metric in (EXPRESSION_NLL, EXPRESSION_INFORMATION):
        found[metric] = 1 - _ratio(gain(TWIN_INFORMATION), gain(metric))
        found[calibrated(metric)] = 1 - _ratio(gain(calibrated(TWIN_INFORMATION)), gain(calibrated(metric)))
    forest = _forest(str(outcomes["test_language"].iloc[0]))
    for metric, asked in ((CHOICE, FIRST), (EXPRESSION, EXACT), (EXACT_MATCH, EXACT)):
        base = select(outcomes, metric=metric, method="base")["outcome"].mean()
        found[metric] = _ratio(float(forest[asked] - base), gain(metric))
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@lru_cache(maxsize=8)
def _forest(language: str) -> pd.Series:
    found = shortcuts(language, "development", readers=(NUMBERS,))
    return found.set_index("asked")["value"]


def _signed_gains(part: pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    """Return for each trained arm the (seeds x problems) table of what it gains over the base on a metric; more is better."""
    sign = 1 if READINGS[metric].higher_is_better else -1
    return {arm: sign * _gains(part, arm) for arm in (*ORACLE_BUDGETS, PLACEBO)}


def _gains(part: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the (seeds x problems) table of an arm minus the base, on one metric."""
    return stats.paired_table(*(part[part["method"] == method] for method in (arm, "base")))


def best_reading(worth: pd.DataFrame, most: float = MOST_FORMAT) -> str | None:
    """Return the metric to be named primary, by a rule said before any merge is looked at; None where none qualifies.

    Qualified is a metric that puts base and oracles in order in every training and gives the placebo, and a reader of the
    numbers alone, at most a quarter (``most``) of the oracle's gain: it measures the task, and neither format nor numbers. Of
    those, the one that takes the least time to show a quarter of the oracle's gain. Source: ours.
    """
    qualified = (worth["ordered"] == 1) & (worth["placebo"] <= most) & (worth["numbers"] <= most)
    fit = worth[qualified].dropna(subset=["minutes"])
    return None if fit.empty else str(fit.sort_values("minutes")["metric"].iloc[0])


def effects(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return what each trained arm gains over the base on each metric, in standard deviations of the oracle's gain over problems.

    metric, method, value, low, high. Where all problems gain alike there is no such unit: NaN, or 0 where nothing is gained.
    """
    rows = []
    for metric in CANDIDATES:
        gains = _signed_gains(select(outcomes, metric=metric), metric)
        spread = float(gains[ORACLE].mean(axis=0).std(ddof=1))
        for arm, gain in gains.items():
            i = stats.crossed_interval(gain)
            ends = [
                end / spread if spread else 0.0 if not gain.any() else float("nan") for end in (i.value, i.low, i.high)
            ]
            rows.append((metric, arm, *ends))
    return pd.DataFrame(rows, columns=["metric", "method", "value", "low", "high"])


def is_fooled(found: pd.DataFrame) -> bool:
    """Say whether the placebo has more than a quarter of the oracle's gain, by one metric's rows of :func:`effects`."""
    value = found.set_index("method")["value"]
    return bool(value[PLACEBO] > MOST_FORMAT * value[ORACLE])


def validation_figure(outcomes: pd.DataFrame, number: int | None = None, own: pd.DataFrame | None = None) -> Shown:
    """Draw what oracles and placebo gain over the base, a row a metric, on one axis (:func:`effects`).

    ``own`` are outcomes of one training, drawn hollow.
    """
    found, mine = effects(outcomes), None if own is None else effects(own)
    gain, apart = (judged(family, outcomes) for family in (claims.VALIDATION, claims.FORMAT))
    verdict = gain.set_index("metric")["verdict"]
    sizes = dict(zip(ORACLE_BUDGETS, (3.5, 5, 7.5), strict=True))
    parts = {metric: found[found["metric"] == metric] for metric in CANDIDATES}

    def row(axis: Any, place: int, metric: str) -> None:
        arms, colour = parts[metric].set_index("method"), VERDICT_COLOURS[verdict[metric]]
        ends = {arm: tuple(arms.loc[arm, ["value", "low", "high"]]) for arm in arms.index}
        axis.plot([ends[arm][0] for arm in sizes], [place - 0.14] * 3, color=colour, linewidth=0.8)
        for arm, size in sizes.items():
            if arm == ORACLE:
                dot(axis, place - 0.14, ends[arm], colour, markersize=size)
            else:
                axis.plot(ends[arm][0], place - 0.14, marker="o", markersize=size, color=colour)
        dot(
            axis,
            place + 0.18,
            ends[PLACEBO],
            WORSE_COLOUR if is_fooled(parts[metric]) else GREY,
            marker="D",
            markersize=5,
        )
        if mine is not None:
            value = mine[mine["metric"] == metric].set_index("method")["value"]
            for arm, shape, shift in ((ORACLE, "o", -0.14), (PLACEBO, "D", 0.18)):
                axis.plot(value[arm], place + shift, marker=shape, markersize=8, color=GREY, markerfacecolor="none")

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 1.3 + (0.7 if narrow else 0.36) * len(CANDIDATES), narrow)
        for place, metric in enumerate(CANDIDATES):
            row(axis, place, metric)
        axis.axvline(0, color="#010203", linewidth=1)
        names = [READINGS[metric].title for metric in CANDIDATES]
        axis.set_yticks(range(len(names)), [wrapped(name, 16 if narrow else 40) for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlabel(
            wrapped("gain over the base, in standard deviations over problems\n(right is better)", 30 if narrow else 70)
        )
        marks = [("oracle", "o", 7.5), ("half of it", "o", 5), ("a quarter", "o", 3.5), ("placebo", "D", 5)]
        handles = [
            Line2D([], [], marker=shape, markersize=size, linestyle="", color=GREY, label=name)
            for name, shape, size in marks
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2 if narrow else 4)
        return figure

    n, trained = (
        outcomes.groupby("metric")["problem"].nunique(),
        outcomes.loc[outcomes["method"] == ORACLE, "seed"].nunique(),
    )
    name = LANGUAGE_NAMES[outcomes["test_language"].iloc[0]]
    blue = (
        "The oracle is blue where its gain is significant, grey where it is not"
        if UNJUDGED not in set(verdict)
        else "Grey oracles have no verdict, since fewer than three trainings say nothing of another one"
    )
    caption = (
        "What oracles of a quarter, half and all of the training, and the placebo, gain over the base (the line) by each metric: "
        f"{name}, {n.max()} development problems ({n.min()} by written answers), {trainings(trained)} of each, 95 % intervals. "
        f"{blue}; the placebo is orange where it has more than a quarter of the oracle's gain."
    )
    alt = "; ".join(
        f"{READINGS[metric].title}: oracle {digits(by[ORACLE], '+.1f')} ({verdict[metric]}), placebo "
        f"{digits(by[PLACEBO], '+.1f')}"
        for metric, by in ((metric, part.set_index("method")["value"]) for metric, part in parts.items())
    )
    return picture(draw, number=number, caption=caption, alt=f"{alt}.", verdicts=verdicts_of(gain) | verdicts_of(apart))


def validation_table(worth: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`validation` as a table."""
    forms = {
        "ordered": ("in order", ".0%"),
        "placebo": ("placebo’s share", ".0%"),
        "numbers": ("share of the numbers alone", ".0%"),
        "retest": ("retest", ".2f"),
        "problems": ("problems needed", ",.0f"),
        "minutes": ("minutes needed", ",.2f"),
    }
    rows = [
        (
            READINGS[row["metric"]].title,
            row["verdict"],
            row["apart"],
            *(digits(row[column], form) for column, (_, form) in forms.items()),
        )
        for _, row in worth.iterrows()
    ]
    caption = (
        "What each metric is worth. In order: the share of trainings in which base and oracles are. Retest: how alike trainings "
        "rank the problems, by Spearman's correlation. Needed: to see a quarter of the oracle's gain with three trainings."
    )
    columns = ["metric", "oracle over base", "oracle over placebo", *(head for head, _ in forms.values())]
    return table(rows, columns, number=number, caption=caption)


def validation_reading(worth: pd.DataFrame) -> str:
    """Return in words by which metrics the oracle gains, which are in order, which measure the format, and which is named."""
    if UNJUDGED in set(worth["verdict"]):
        return "One or two trainings: the metrics have no verdict, and the rule names none."
    gains = [READINGS[row.metric].title for row in worth.itertuples() if row.verdict == BETTER]
    ordered = [READINGS[row.metric].title for row in worth.itertuples() if row.verdict == BETTER and row.ordered == 1]
    fooled = [
        f"{READINGS[row.metric].title} ({row.placebo:.0%} of it)"
        for row in worth.itertuples()
        if row.placebo > MOST_FORMAT
    ]
    told = [
        f"The oracle gains significantly by {len(gains)} of the {len(worth)} metrics; with base and shorter oracles it is in "
        f"order in every training by {listed(ordered) if ordered else 'none of these'}."
    ]
    if fooled:
        told.append(f"The placebo has more than a quarter of that gain by {listed(fooled)}.")
    counted = [
        f"{READINGS[row.metric].title} ({row.numbers:.0%})" for row in worth.itertuples() if row.numbers > MOST_FORMAT
    ]
    if counted:
        told.append(f"A reader of the numbers alone has more than a quarter of it by {listed(counted)}.")
    if chosen := best_reading(worth):
        row = worth.set_index("metric").loc[chosen]
        told.append(
            f"The rule names **{_title(chosen)}**: {row['problems']:,.0f} problems show a quarter of the oracle's gain, in "
            f"{row['minutes']:.1f} minutes a model."
        )
    else:
        told.append(f"No metric qualifies: the rule names none. The book keeps {_title(PRIMARY)}, the earlier one.")
        if any(row.metric == PRIMARY and row.numbers > MOST_FORMAT for row in worth.itertuples()):
            told.append("What it says is to be read as what the numbers of a problem give, not its words.")
    return " ".join(told)


def twins_sentence(outcomes: pd.DataFrame) -> str:
    """Return in words how far base and oracles, by their budgets, tell twins apart, and what they gain on the twin's text."""
    told = []
    for arm in ("base", *ORACLE_BUDGETS):
        apart, gained = (
            _level(select(outcomes, metric=metric, method=arm), form, factor)
            for metric, form, factor in ((TWIN_CHOICE, ".0f", 100), (TWIN_INFORMATION, ".2f", 1))
        )
        told.append(f"{label(arm)}: {apart} % of the twins, {gained} nats per token")
    return (
        "Twins told apart, and information gained on the twin, with intervals over trainings and problems. "
        f"{'; '.join(told)}. A coin tells 25 % apart, a reader of the numbers alone none."
    )


def _level(part: pd.DataFrame, form: str, factor: float) -> str:
    """Return an arm's mean outcome with its interval over trainings and problems."""
    i = stats.crossed_interval(stats.outcome_table(part))
    return bracketed(factor * i.value, factor * i.low, factor * i.high, form)


def _title(metric: str | None) -> str:
    return READINGS[metric].title if metric else "none"


# --- other languages --------------------------------------------------------------------------------------


def by_language(outcomes: pd.DataFrame, costs: pd.DataFrame, metric: str = PRIMARY) -> pd.DataFrame:
    """Return what a metric is worth in each target language, a row a language, the outcomes being of several studies.

    language; trainings; ``ordered``, ``problems``, ``verdict`` (of the oracle's gain), ``numbers`` as :func:`validation` has
    them; what oracle and placebo gain over the base, each with its interval, in units (``gain``, ``gain_low``, ``gain_high``,
    ``placebo``, ``placebo_low``, ``placebo_high``); ``named``: the metric that the rule names there, or empty. Source: ours.
    """
    rows = []
    for language in _in_order(outcomes["language"]):
        mine = select(outcomes, language=language)
        worth = validation(mine, costs_for(costs, language))
        gains = _signed_gains(select(mine, metric=metric), metric)
        found: dict[str, Any] = {
            "language": language,
            "trainings": len(gains[ORACLE]),
            **worth.set_index("metric").loc[metric, ["ordered", "problems", "verdict", "numbers"]],
            "named": best_reading(worth) or "",
        }
        for name, arm in (("gain", ORACLE), ("placebo", PLACEBO)):
            i = stats.crossed_interval(READINGS[metric].scale * gains[arm])
            found |= {name: i.value, f"{name}_low": i.low, f"{name}_high": i.high}
        rows.append(found)
    return pd.DataFrame(rows)


def _in_order(languages: pd.Series) -> list[str]:
    """Return the languages of a column in the order of the book."""
    return [code for code in LANGUAGE_NAMES if code in set(languages)]


def by_language_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`by_language` of the primary metric as a table."""
    unit = unit_of(PRIMARY, difference=True)
    rows = [
        {
            "language": LANGUAGE_NAMES[row.language],
            "trainings": row.trainings,
            "in order": f"{row.ordered:.0%}",
            f"oracle gains ({unit})": bracketed(row.gain, row.gain_low, row.gain_high, "+.2f"),
            f"placebo gains ({unit})": bracketed(row.placebo, row.placebo_low, row.placebo_high, "+.2f"),
            "passes": _passes(row),
        }
        for row in found.itertuples()
    ]
    caption = (
        f"Oracle and placebo by {_title(PRIMARY)} in each language, with 95 % intervals "
        "(of one training: over problems alone)."
    )
    return table(rows, number=number, caption=caption)


def _faults(row: Any) -> list[str]:
    """Return what speaks against a metric in a language, the row being one of :func:`by_language`."""
    faults = []
    if row.ordered < 1:
        faults.append("base and oracles are not in order in every training")
    if row.verdict != BETTER:
        faults.append("the oracle's gain is not significant")
    elif row.placebo > MOST_FORMAT * row.gain:
        faults.append(f"the placebo has {row.placebo / row.gain:.0%} of the oracle's gain")
    if row.numbers > MOST_FORMAT:
        faults.append(f"a reader of the numbers alone has {row.numbers:.0%} of the oracle's gain")
    return faults


def _passes(row: Any) -> str:
    return "not tested" if row.verdict == UNJUDGED else "no" if _faults(row) else "yes"


def by_language_reading(found: pd.DataFrame) -> str:
    """Return in words in which languages the primary metric passes, in which it was not tested, and what speaks against it."""
    passed, untested = ([r for r in found.itertuples() if _passes(r) == word] for word in ("yes", "not tested"))
    told = [f"In {listed([LANGUAGE_NAMES[r.language] for r in passed])} the primary metric passes."] if passed else []
    for row in found.itertuples():
        if _passes(row) == "no":
            told.append(f"In {LANGUAGE_NAMES[row.language]} it does **not** pass: {listed(_faults(row))}.")
    if untested:
        told.append(
            f"In {listed([f'{LANGUAGE_NAMES[r.language]} ({trainings(r.trainings)})' for r in untested])} it was not tested: "
            "fewer than three trainings get no verdict."
        )
    return " ".join(told)


# --- reading answers --------------------------------------------------------------------------------------


# How the same answers may be written, in several languages; all say 18, but for the last two (-5 and 2125).
WAYS_TO_ANSWER = (
    ("en", "She earns 9 * 2 = 18 dollars. The answer is 18.", 18),
    ("en", "The answer is $18.00 a day.", 18),
    ("en", "The answer is 18 eggs, since 16 and 2 make 18.0.", 18),
    ("sw", "Jumla ni shilingi 9 * 2 = 18. Jibu ni 18.", 18),
    ("sw", "Jibu ni shilingi 18 kila siku, si 20.", 18),
    ("bn", "মোট 9 * 2 = 18 টাকা। উত্তর হল 18।", 18),
    ("bn", "মোট ৯ * ২ = ১৮ টাকা। উত্তর হল ১৮।", 18),
    ("te", "మొత్తం 9 * 2 = 18 రూపాయలు. సమాధానం 18.", 18),
    ("te", "మొత్తం ౯ * ౨ = ౧౮ రూపాయలు. సమాధానం ౧౮.", 18),
    ("de", "Die Antwort lautet 18,00 Euro.", 18),
    ("en", r"It falls by 5, so the answer is \boxed{-5}.", -5),
    ("fr", "La réponse est 2 125 euros.", 2125),
)


def ways_table(ways: Sequence[tuple[str, str, int]] = WAYS_TO_ANSWER, number: int | None = None) -> Shown:
    """Return a table of answers (language, text, right number) with what we and the harness's filters read; ✓ marks the right."""
    rows = []
    for language, text, right in ways:
        theirs, counted = harness.harness_reads(text, language), harness.harness_counts_right(text, right, language)
        ours = extract_number(text, language)
        read = [(ours, ours == right), *((theirs[name], counted[name]) for name in _FILTERS)]
        shown = [f"{what} {'✓' if is_right else '✗'}" for what, is_right in read]
        rows.append((LANGUAGE_NAMES[language], Foreign(text, language), right, *shown))
    caption = f"What is read from an answer. The harness is lm-evaluation-harness {harness.harness_version()}; ✓ counts as right."
    return table(rows, ["language", "answer", "right", "xlnb", *_FILTERS.values()], number=number, caption=caption)


def gold_readings(n: int = 200, split: str = "scored") -> pd.DataFrame:
    """Return which shares of our own problems' gold solutions each reader reads right, a row a language."""
    rows = []
    for language in templates.LANGUAGES:
        problems = templates.problems(language, split, n)
        ours = [extract_number(p.solution, language) == p.answer for p in problems]
        theirs = [harness.harness_counts_right(p.solution, p.answer, language) for p in problems]
        shares = [sum(one[name] for one in theirs) / n for name in _FILTERS]
        rows.append((language, n, sum(ours) / n, *shares))
    return pd.DataFrame(rows, columns=["language", "problems", "xlnb", *_FILTERS])


def gold_table(readings: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`gold_readings` as a table in percent."""
    rows = [
        (LANGUAGE_NAMES[row["language"]], row["problems"], *(f"{row[name]:.0%}" for name in ("xlnb", *_FILTERS)))
        for _, row in readings.iterrows()
    ]
    caption = "The gold solutions of our own problems, all of them right: the share that counts as right."
    return table(rows, ["language", "solutions", "xlnb", *_FILTERS.values()], number=number, caption=caption)


def reread(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the generated answers to our own problems, with gold and whether each reader counts them right, in columns."""
    answers = select(outcomes, metric="exact-match", benchmark="templates")
    gold: dict[str, int] = {}
    for split in answers["split"].unique():
        n = 1 + int(answers.loc[answers["split"] == split, "problem"].max().rpartition("-")[2])
        gold |= {p.id: p.answer for p in templates.problems("en", split, n)}
    answers = answers.assign(gold=answers["problem"].map(gold))
    rows = list(answers.itertuples())
    right = [harness.harness_counts_right(row.text, row.gold, row.test_language) for row in rows]
    return answers.assign(
        xlnb=[extract_number(row.text, row.test_language) == row.gold for row in rows],
        **{name: [one[name] for one in right] for name in _FILTERS},
    )


def referee_table(answers: pd.DataFrame, number: int | None = None) -> Shown:
    """Return how many of the :func:`reread` answers in each language we count right, and of those the harness's filters."""
    rows = []
    for code in _in_order(answers["test_language"]):
        mine = select(answers, test_language=code)
        right = mine[mine["xlnb"]]
        more = [int((~mine["xlnb"] & mine[name]).sum()) for name in _FILTERS]
        rows.append(
            (LANGUAGE_NAMES[code], len(mine), len(right), *(int(right[name].sum()) for name in _FILTERS), max(more))
        )
    caption = (
        "All answers of these models, read by both. Beside those we count right: how many of them each filter counts."
    )
    columns = [
        "language",
        "answers",
        "right by xlnb",
        *(f"of these, {name}" for name in _FILTERS.values()),
        "right by it alone",
    ]
    return table(rows, columns, number=number, caption=caption)


def referee_examples(answers: pd.DataFrame, number: int | None = None) -> Shown:
    """Return answers on which we and a filter of the harness differ, two of a kind and language at most."""
    rows = []
    for code in _in_order(answers["test_language"]):
        mine = select(answers, test_language=code)
        for name, filter_ in _FILTERS.items():
            for what, differ in (
                (f"{filter_}: wrong", mine["xlnb"] & ~mine[name]),
                (f"{filter_}: right", ~mine["xlnb"] & mine[name]),
            ):
                for row in mine[differ].head(2).itertuples():
                    ending = row.text if len(row.text) <= 90 else f"… {row.text[-90:]}"
                    rows.append((LANGUAGE_NAMES[code], Foreign(ending.strip(), code), row.gold, what))
    caption = "Answers on which the two differ: what the harness's filter says of one that we count the other way."
    return table(rows, ["language", "answer", "right is", "harness"], number=number, caption=caption)


def harness_sentence(answers: pd.DataFrame, language: str) -> str:
    """Return how many of the answers in a language that we count right the harness counts, in words."""
    right = answers[(answers["test_language"] == language) & answers["xlnb"]]
    strict, flexible = (int(right[name].sum()) for name in _FILTERS)
    return (
        f"Of the {len(right)} answers in {LANGUAGE_NAMES[language]} that are right, lm-evaluation-harness counts {strict} by its "
        f"strict filter and {flexible} by the flexible one."
    )


# --- noise and power --------------------------------------------------------------------------------------


def noise(outcomes: pd.DataFrame, metric: str, arm: str = ORACLE) -> stats.Components:
    """Return the variance components of an arm's paired differences to the base."""
    return stats.variance_components(_gains(select(outcomes, metric=metric), arm))


def noise_table(measured: Mapping[str, stats.Components], problems: int = MGSM, number: int | None = None) -> Shown:
    """Return where the noise of a difference comes from, a row a metric, and what one training over some problems has."""
    rows = []
    for metric, components in measured.items():
        parts = (components.seed, components.problem, components.residual)
        shares = [part / sum(parts) if any(parts) else 0.0 for part in parts]
        single = (
            READINGS[metric].scale * (components.seed + (components.problem + components.residual) / problems) ** 0.5
        )
        between = "unknown" if components.seeds == 1 else f"{shares[0]:.0%}"
        rows.append(
            (
                READINGS[metric].title,
                between,
                *(f"{share:.0%}" for share in shares[1:]),
                f"{single:.2g} {unit_of_gains(metric)}",
            )
        )
    caption = (
        "The variance of the oracle's difference to the base, by its sources, and the standard error that one training has over "
        f"{problems} problems."
    )
    columns = ["metric", "between trainings", "between problems", "the rest", "standard error"]
    return table(rows, columns, number=number, caption=caption)


def power_sentence(components: stats.Components, difference: float, problems: int, seeds: int) -> str:
    """Return in words how often a true difference of a score in percent is seen."""
    found = stats.power(difference, components, problems, seeds)
    return (
        f"With {trainings(seeds)} a true gain of {100 * difference:g} points on {problems:,} problems is seen in "
        f"{100 * found:.0f} % of experiments."
    )


def power_table(
    components: stats.Components,
    difference: float,
    problems: Sequence[int],
    seeds: Sequence[int],
    what: str,
    number: int | None = None,
) -> Shown:
    """Return a table of the power to see a difference: a row a number of problems, a column a number of trainings."""
    found = stats.power_table(components, difference, problems, seeds)
    rows = [(f"{n:,} problems", *(f"{100 * share:.0f} %" for share in found.loc[n])) for n in problems]
    caption = f"The power to see {what}: in how many experiments it would be significant."
    return table(rows, ["", *(trainings(n) for n in seeds)], number=number, caption=caption)


def needed_sentence(components: stats.Components, difference: float, seeds: Sequence[int], what: str) -> str:
    """Return how many problems show a difference with 80 % power, for each number of trainings."""
    needed = {count: stats.needed_problems(difference, components, count) for count in seeds}
    told = [f"{'no number' if n is None else f'{n:,}'} with {trainings(count)}" for count, n in needed.items()]
    return f"Problems needed to see {what} in four experiments of five: {listed(told)}."


def power_figure(
    components: stats.Components, difference: float, problems: int, seeds: int, number: int | None = None
) -> Shown:
    """Draw the power to see a difference by the number of problems, for one number of trainings, with a dot where asked."""
    counts = sorted({*np.unique(np.geomspace(10, 10_000, 25).astype(int)).tolist(), problems})
    line = [100 * stats.power(difference, components, n, seeds) for n in counts]
    here = 100 * stats.power(difference, components, problems, seeds)

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 2.4, narrow)
        axis.plot(counts, line, color=BETTER_COLOUR, linewidth=2)
        axis.plot(problems, here, marker="o", markersize=9, color=BETTER_COLOUR)
        axis.axhline(80, color="#010203", linestyle=":", linewidth=1)
        axis.set(xscale="log", ylim=(0, 105), xlabel="problems", ylabel="power (%)")
        axis.set_xticks([10, 100, 1000, 10_000], ["10", "100", "1,000", "10,000"])
        axis.minorticks_off()
        return figure

    told = f"{problems:,} problems and {trainings(seeds)} show the difference in {here:.0f} % of experiments."
    return picture(draw, number=number, caption=f"{told} The dotted line is at 80 %.", alt=told)


def power_calculator(
    measured: Mapping[str, stats.Components], difference: float = THREE_POINTS, number: int | None = None
) -> Explorer | Shown:
    """Return controls over the power to see a difference: by which noise, how large, with how many problems and trainings.

    ``measured`` are components by a name for the reader. Where nothing moves there is a table by the first of them.
    """
    first, *_ = measured
    what = f"{100 * difference:g} points by {first}"
    static = power_table(measured[first], difference, (MGSM, 1000, 2000), (3, 5, 10), what, number)

    def show(
        noise: str = first,
        hundredths: int = round(100 * difference),
        problems: int = MGSM,
        trainings: int = TRAININGS,
    ) -> Shown:
        return power_figure(measured[noise], hundredths / 100, problems, trainings)

    controls = {"hundredths": (1, 50, 1), "problems": (25, 5000, 25), "trainings": (1, 20, 1)}
    return explorer(show, static, noise=list(measured), **controls)


def mcnemar_sentence(outcomes: pd.DataFrame, metric: str, a: str, b: str, test_language: str, seed: int) -> str:
    """Return McNemar's exact test of two arms of one training on a 0/1 reading, in words."""
    part = _there(outcomes, metric=metric, test_language=test_language)
    left, right = (_there(part, method=arm, seed=0 if arm == "base" else seed) for arm in (a, b))  # the base has seed 0
    found = stats.mcnemar(left.assign(seed=seed), right.assign(seed=seed))
    return (
        f"The {label(a).lower()} against the {label(b).lower()}, {READINGS[metric].title}, training {seed}: only the first is "
        f"right on {found.only_a} problems, only the second on {found.only_b} (both on {found.both}, neither on "
        f"{found.neither}); McNemar's exact p is {found.p:.2g}."
    )


def _there(outcomes: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Select rows column by column; refused where a column leaves none."""
    for column, value in wanted.items():
        found = select(outcomes, **{column: value})
        if found.empty:
            there = ", ".join(str(other) for other in sorted(outcomes[column].unique()))
            raise RequestError(f"No outcomes with {column} {value!r}; there are: {there or 'none at all'}.")
        outcomes = found
    return outcomes


# --- few trainings, many comparisons ----------------------------------------------------------------------


def error_rate_sentence(seeds: Sequence[int], components: stats.Components, problems: int, trials: int = 2000) -> str:
    """Return how often an interval of this book cries wolf at 5 %, simulated with these components, by number of trainings."""
    rates = {count: stats.simulated_error_rate(components, problems, count, trials) for count in seeds}
    told = [f"{100 * rate.value:.1f} % with {trainings(count)}" for count, rate in rates.items()]
    return (
        f"In {trials:,} simulated experiments in which nothing differs, with the noise measured here and {problems} problems, a "
        f"95 % interval excludes zero in {listed(told)}. It should in 5 % at most."
    )


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


def judged_families() -> dict[str, pd.DataFrame]:
    """Return the judged contrasts of each declared family whose outcomes are committed: of the pocket model, in Swahili but for
    the plan's.
    """
    study, found = open_study("pocket", "sw", 0, live=False), {}
    for name, asked in ASKED.items():
        try:
            outcomes = study.repeated(*asked)
        except RequestError:  # not committed
            continue
        family = claims.FAMILIES[name]
        found[name] = judged(family, with_pooled_random(outcomes) if family is claims.LAYERS else outcomes)
    plan = home.planned()
    return found | ({claims.PLAN.id: plan} if len(plan) else {})


def _counts(found: pd.DataFrame) -> tuple[int, int]:
    """Return how many of a family's contrasts have an interval without zero, and how many are significant after Holm."""
    alone = ((found["low"] > 0) | (found["high"] < 0)).sum()
    return int(alone), int(found["verdict"].isin((BETTER, WORSE)).sum())


def families_table(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return the declared families: question, how many contrasts, significant each for itself and after Holm's correction."""
    rows = []
    for name, part in found.items():
        models = {*part["method_a"], *part["method_b"]} - {"base"}
        trained = int(part["seeds"].max()) if models else "none"
        counts = ("no verdict", "no verdict") if unjudged(part) else _counts(part)
        rows.append((claims.FAMILIES[name].question, len(part), trained, *counts))
    caption = (
        "The questions of this book, each a family. How many of its contrasts have an interval that excludes zero, and how many "
        "are significant after Holm's correction over the family."
    )
    columns = ["question", "contrasts", "trainings", "each for itself", "after Holm"]
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


# --- the summary ------------------------------------------------------------------------------------------


def summary(worth: pd.DataFrame, languages: pd.DataFrame, answers: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets: the primary metric, where it passes, the harness, power."""
    named = best_reading(worth)
    rule = (
        "The rule names it on these outcomes"
        if named == PRIMARY
        else f"On these outcomes the rule would name {_title(named)}"
    )
    if set(worth["verdict"]) == {UNJUDGED}:
        rule = "Named by the committed trainings; here are too few for a verdict"
    lines = [f"**Primary metric: {_title(PRIMARY)}.** {rule}. {by_language_reading(languages)}", reading_sentence()]
    for code in _in_order(answers["test_language"]):
        lines.append(harness_sentence(answers, code))
    lines.append(power_sentence(ASSUMED, THREE_POINTS, MGSM, TRAININGS))
    return bullets(lines)
