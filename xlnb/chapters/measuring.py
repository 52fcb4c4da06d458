"""What the chapter on measuring says: what metrics are worth, in which languages, and which is named primary."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb import stats
from xlnb.chapters import home, power, reading_answers
from xlnb.chapters.budgets import reading_sentence
from xlnb.chapters.figures import GREY, VERDICT_COLOURS, WORSE_COLOUR, dot, unit_of, wrapped
from xlnb.chapters.layer_swapping import NOT_YET
from xlnb.chapters.pictures import Foreign, Shown, box, panels, paragraphs, picture, table
from xlnb.chapters.words import bracketed, bullets, improved, label, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.corpora import templates
from xlnb.evaluation import harness
from xlnb.evaluation.readings import CHOICE, PRIMARY, READINGS, TRIMMED, TWIN_CHOICE, TWIN_INFORMATION
from xlnb.evaluation.solutions import calculation_variants
from xlnb.languages import LANGUAGE_NAMES, in_order
from xlnb.methods import MATH, ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.paths import results_folder
from xlnb.studies import claims, validation
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, by_pairs, judged, verdicts_of
from xlnb.studies.outcomes import committed_outcomes, costs_for, load_costs, load_outcomes, select
from xlnb.studies.validation import CANDIDATES, MOST_FORMAT, TRAININGS


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    outcomes, costs = committed_validation()
    swahili = select(outcomes, language="sw")
    named = validation.best_metric(validation.worth_of_metrics(swahili, costs_for(costs, "sw")))
    gain, apart = (judged(family, swahili) for family in (claims.VALIDATION, claims.FORMAT))
    gold = reading_answers.gold_readings().set_index("language").loc["bn", harness.STRICT]
    alone = validation.numbers_alone(swahili)[PRIMARY]
    twins = 100 * select(swahili, metric=TWIN_CHOICE, method=ORACLE)["outcome"].mean()
    sentences = (
        "Which metric measures calculation? We trained an oracle on Swahili word problems, and a placebo on the same problems "
        f"with their solutions exchanged. {_apart_sentence(apart)}",
        f"A problem's numbers alone would give {alone:.0%} of what the oracle gains over the base by the "
        f"{READINGS[PRIMARY].title}. Of twins, problems with the same "
        f"numbers and another operation, the oracle tells {twins:.0f} % apart; a coin gets 25 %. "
        + ("No metric passes our rule with this model." if named is None else f"Our rule names {_title(named)}.")
        + f" {reading_sentence()}",
        f"Of the gold solutions in Bengali, all of them right, lm-evaluation-harness counts {gold:.0%} by its strict filter: it "
        "looks for English words there.",
        f"{power.power_sentence(power.ASSUMED, power.THREE_POINTS, power.MGSM, TRAININGS)} "
        "MGSM has as many a language: alone it cannot rank methods by three points.",
    )
    verdicts = verdicts_of(gain) | verdicts_of(apart)
    return box(paragraphs(sentences), verdicts)


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


def validation_figure(outcomes: pd.DataFrame, number: int | None = None, own: pd.DataFrame | None = None) -> Shown:
    """Draw what oracles and placebo gain over the base, a row a metric, on one axis (:func:`effects`).

    ``own`` are outcomes of one training, drawn hollow.
    """
    found, mine = validation.effects(outcomes), None if own is None else validation.effects(own)
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
            WORSE_COLOUR if validation.is_fooled(parts[metric]) else GREY,
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
    """Return :func:`~xlnb.studies.validation.worth_of_metrics` as a table."""
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
        "rank the problems, by Spearman's correlation. Needed: to see a quarter of the oracle's gain with three trainings. "
        "Shares, and what is needed, only where the oracle gains significantly."
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
        f"The oracle gains significantly by {len(gains)} of the {len(worth)} metrics; of these it is in order with base and "
        f"shorter oracles in every training by {listed(ordered) if ordered else 'none'}."
    ]
    if fooled:
        told.append(f"The placebo has more than a quarter of that gain by {listed(fooled)}.")
    counted = [
        f"{READINGS[row.metric].title} ({row.numbers:.0%})" for row in worth.itertuples() if row.numbers > MOST_FORMAT
    ]
    if counted:
        told.append(f"A reader of the numbers alone has more than a quarter of it by {listed(counted)}.")
    if chosen := validation.best_metric(worth):
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


def experts_apart() -> str:
    """Return in words how many twins of scored problems the usual math expert tells apart, and that which learned by heart."""
    study, told = home.committed_study(), []
    trained = (
        ("methods", study.profile.name, "usual math expert"),
        ("strength", "pocket-by-heart", "one that learned by heart"),
    )
    for experiment, profile, who in trained:
        alike = {"profile": profile, "paradigm": study.paradigm, "method": MATH, "metric": TWIN_CHOICE}
        found = committed_outcomes(study.results, experiment, **alike)
        found, levels = select(found, language=study.language), []  # in English each stands once for every language
        for code in ("en", study.language):
            if len(part := select(found, test_language=code)):
                levels.append(f"{_level(by_pairs(part), '.0f', 100)} % in {LANGUAGE_NAMES[code]}")
        if levels:
            told.append(f"the {who} tells apart {listed(levels)}")
    return f"Of scored problems and their twins {', '.join(told)}; a coin tells 25 %." if told else NOT_YET


def _level(part: pd.DataFrame, form: str, factor: float) -> str:
    """Return an arm's mean outcome with its interval over trainings and problems."""
    i = stats.crossed_interval(stats.outcome_table(part))
    return bracketed(factor * i.value, factor * i.low, factor * i.high, form)


def _title(metric: str | None) -> str:
    return READINGS[metric].title if metric else "none"


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


def summary(worth: pd.DataFrame, languages: pd.DataFrame, answers: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets: the primary metric, where it passes, the harness, power."""
    named = validation.best_metric(worth)
    rule = (
        "The rule names it on these outcomes"
        if named == PRIMARY
        else f"On these outcomes the rule would name {_title(named)}"
    )
    if set(worth["verdict"]) == {UNJUDGED}:
        rule = "Named by the committed trainings; here are too few for a verdict"
    lines = [f"**Primary metric: {_title(PRIMARY)}.** {rule}. {by_language_reading(languages)}", reading_sentence()]
    for code in in_order(answers["test_language"]):
        lines.append(reading_answers.harness_sentence(answers, code))
    lines.append(power.power_sentence(power.ASSUMED, power.THREE_POINTS, power.MGSM, TRAININGS))
    return bullets(lines)
