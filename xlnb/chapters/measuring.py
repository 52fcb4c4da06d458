"""What the chapter on measuring compares and says: how answers are read, what each reading is worth, noise and power."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xlnb import stats
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR, OTHER_COLOUR, dot, subplots
from xlnb.chapters.words import bracketed, bullets, capital, label, number, table, trainings
from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation import harness
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.readings import COST_GROUPS, PRIMARY, READINGS, VALIDATED
from xlnb.evaluation.solutions import calculation_variants
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, verdict
from xlnb.studies.outcomes import select

CANDIDATES = tuple(metric for metric in READINGS if metric in VALIDATED)
TRAININGS = 3  # for which problems are counted in the choice of the primary reading
SHARE_SEEN = 0.25  # of the oracle's gain: the difference that should be seen
MOST_FORMAT = 0.25  # the placebo may gain at most this share of what the oracle gains

_FILTERS = {harness.STRICT: "harness, strict", harness.FLEXIBLE: "harness, flexible"}
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


def ways_table() -> Any:
    """Return a table of answers as models write them, with what we and the harness's two filters read, right ones marked."""
    rows = []
    for language, text, right in WAYS_TO_ANSWER:
        theirs, counted = harness.harness_reads(text, language), harness.harness_counts_right(text, right, language)
        ours = extract_number(text, language)
        read = [(ours, ours == right), *((theirs[name], counted[name]) for name in _FILTERS)]
        shown = [f"{what} {'✓' if is_right else '✗'}" for what, is_right in read]
        rows.append((LANGUAGE_NAMES[language], text, right, *shown))
    return table(rows, ["language", "answer", "right", "xlnb", *_FILTERS.values()], heads=False)


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


def gold_table(readings: pd.DataFrame) -> Any:
    """Return :func:`gold_readings` as a table in percent."""
    shown = readings.assign(language=readings["language"].map(LANGUAGE_NAMES)).rename(columns=_FILTERS)
    return table(shown, size=85).fmt_percent(columns=list(shown.columns[2:]), decimals=0)


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


def referee_reading(answers: pd.DataFrame) -> str:
    """Return in words how our reading of :func:`reread` answers and the harness's differ, and on which answers."""
    lines = [f"Of {len(answers)} answers we count {int(answers['xlnb'].sum())} right.", ""]
    for name in _FILTERS:
        more = answers[answers["xlnb"] & ~answers[name]]
        less = answers[~answers["xlnb"] & answers[name]]
        lines.append(
            f"- The harness's *{name}* counts {int(answers[name].sum())}: {len(more)} that we count it does not, {len(less)} "
            "that it counts we do not."
        )
        for what, part in (("we count, it does not", more), ("it counts, we do not", less)):
            for row in part.head(2).itertuples():
                ending = row.text if len(row.text) <= 90 else f"… {row.text[-90:]}"
                lines.append(f"  - {what} (right is {row.gold}): `{ending}`")
    return "\n".join(lines)


def referee_by_language(answers: pd.DataFrame) -> str:
    """Return :func:`referee_reading` of the answers in each language, under the language's name."""
    parts = {code: select(answers, test_language=code) for code in _in_order(answers["test_language"])}
    return "\n\n".join(f"**{LANGUAGE_NAMES[code]}.** {referee_reading(part)}" for code, part in parts.items())


def readings_table() -> Any:
    """Return a table of the readings: name, what an outcome means, unit, which way is better, whether answers are generated."""
    rows = []
    for r in (READINGS[metric] for metric in CANDIDATES):
        better, generates = "higher" if r.higher_is_better else "lower", "yes" if r.generates else "no"
        rows.append((r.title, r.meaning, r.unit_in_words, better, generates))
    return table(rows, ["reading", "an outcome is", "unit", "better", "generates"])


def choices_example(language: str) -> str:
    """Return, as Markdown, one development problem and the choices offered at its first calculation."""
    problem = templates.problems(language, "development", 1)[0]
    right, *others = calculation_variants(problem.expressions[0])
    before = problem.solution.partition(problem.expressions[0])[0]
    return f"> {problem.question}\n>\n> {before}… {', '.join([f'**{right}**', *others])}"


def validation_means(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return mean and interval of each arm on each reading: metric, method, value, low, high, n, seeds, in units."""
    rows = []
    for (metric, method), part in outcomes.groupby(["metric", "method"], sort=False):
        i = stats.crossed_interval(part.pivot(index="seed", columns="problem", values="outcome").to_numpy())
        scale = READINGS[metric].scale
        low, high = i.low, i.high
        if READINGS[metric].unit == "%":
            low, high = max(low, 0), min(high, 1)  # a share is one
        rows.append((metric, method, scale * i.value, scale * low, scale * high, i.n, i.seeds))
    return pd.DataFrame(rows, columns=["metric", "method", "value", "low", "high", "n", "seeds"])


def validation(outcomes: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return what each reading is worth, a row a reading, the outcomes being those of :meth:`xlnb.Study.validation`.

    metric; ``ordered``: the share of trainings in which base, quarter, half and whole oracle come in this order; ``gain``: the
    oracle's over the base, in units; ``placebo``: the share of it that the placebo has, too (NaN where no gain is shown);
    ``retest``: Spearman's correlation of the gains by problem between trainings (NaN for one); ``effect``: the gain in standard
    deviations of it over problems; ``problems``: how many show a quarter of the gain with three trainings (80 % power; NaN
    where no number does); ``seconds`` a 100 problems and model; ``minutes``: for that many problems. Source: ours.
    """
    rows = []
    rate = dict(zip(costs["readings"], costs["seconds"] / costs["problems"], strict=True))
    for metric in CANDIDATES:
        part = select(outcomes, metric=metric)
        sign = 1 if READINGS[metric].higher_is_better else -1
        gains = {arm: sign * _gains(part, arm) for arm in (*ORACLE_BUDGETS, PLACEBO)}
        # 0 is the base; the oracles come in the order of their budgets.
        steps = np.diff([0 * gains[ORACLE].mean(axis=1), *(gains[arm].mean(axis=1) for arm in ORACLE_BUDGETS)], axis=0)
        gain, spread = gains[ORACLE].mean(), gains[ORACLE].mean(axis=0).std(ddof=1)
        shown = _gain_is_shown(part, metric)
        components = stats.variance_components(gains[ORACLE])
        seen = stats.needed_problems(SHARE_SEEN * gain, components, TRAININGS) if shown else None
        problems = float("nan") if seen is None else seen
        cheapest = min(rate[name] for name, readings in COST_GROUPS.items() if metric in readings)
        rows.append({
            "metric": metric,
            "ordered": float((steps > 0).all(axis=0).mean()),
            "gain": READINGS[metric].scale * gain,
            "placebo": gains[PLACEBO].mean() / gain if shown else float("nan"),
            "retest": stats.spearman_test_retest(gains[ORACLE]) if len(gains[ORACLE]) > 1 else float("nan"),
            "effect": gain / spread if spread else float("nan"),
            "problems": problems,
            "seconds": 100 * cheapest,
            "minutes": problems * cheapest / 60,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _gains(part: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the (seeds x problems) table of an arm minus the base, on one reading."""
    return stats.paired_table(*(part[part["method"] == method] for method in (arm, "base")))


def _gain_is_shown(part: pd.DataFrame, metric: str) -> bool:
    return verdict(stats.crossed_interval(_gains(part, ORACLE)), metric) == BETTER


def best_reading(worth: pd.DataFrame) -> str | None:
    """Return the reading to be named primary, by a rule said before any merge is looked at; None where none qualifies.

    Qualified is a reading that puts base and oracles in order in every training and gives the placebo at most a quarter of the
    oracle's gain: it measures the task and not the format. Of those, the one that takes the least time to show a quarter of the
    oracle's gain. Source: ours.
    """
    fit = worth[(worth["ordered"] == 1) & (worth["placebo"] <= MOST_FORMAT)].dropna(subset=["minutes"])
    return None if fit.empty else str(fit.sort_values("minutes")["metric"].iloc[0])


def validation_table(worth: pd.DataFrame) -> Any:
    """Return :func:`validation` as a table."""
    forms = {
        "ordered": ("in order", ".0%"),
        "placebo": ("placebo’s share", ".0%"),
        "retest": ("retest", ".2f"),
        "effect": ("effect (sd)", ".2f"),
        "problems": ("problems needed", ",.0f"),
        "seconds": ("seconds a 100", ".0f"),
        "minutes": ("minutes needed", ",.2f"),
    }
    rows = [
        (READINGS[row["metric"]].title, *(number(row[column], form) for column, (_, form) in forms.items()))
        for _, row in worth.iterrows()
    ]
    return table(rows, ["reading", *(head for head, _ in forms.values())])


def validation_reading(worth: pd.DataFrame) -> str:
    """Return in words which readings are in order, which measure the format, and which is named."""
    disordered = [_title(row.metric) for row in worth.itertuples() if row.ordered < 1]
    fooled = [f"{_title(row.metric)} ({row.placebo:.0%})" for row in worth.itertuples() if row.placebo > MOST_FORMAT]
    told = "No reading qualifies: here the rule names none."
    if chosen := best_reading(worth):
        row = worth.set_index("metric").loc[chosen]
        told = (
            f"Of those that pass both, **{_title(chosen)}** takes the least time: {row['problems']:,.0f} problems for a "
            f"quarter of the oracle's gain, {row['minutes']:.2f} minutes a model."
        )
    return bullets([
        f"Not in order in every training: {', '.join(disordered) or 'none'}.",
        f"The placebo has more than a quarter of the oracle's gain: {', '.join(fooled) or 'none'}.",
        told,
    ])  # fmt: skip


def primary_sentence(worth: pd.DataFrame) -> str:
    """Return, as Markdown, which reading is this book's primary one and whether these trainings name the same."""
    named, title = best_reading(worth), READINGS[PRIMARY].title
    if named == PRIMARY:
        return f"- **Primary reading: {title}**, {READINGS[PRIMARY].meaning}. The rule names it on these outcomes."
    rule = f"on these outcomes the rule would name {_title(named)}"
    return f"- **Primary reading: {title}** by the committed trainings; {rule}."


def _title(metric: str | None) -> str:
    return READINGS[metric].title if metric else "none"


def by_language(outcomes: pd.DataFrame, costs: pd.DataFrame, metric: str = PRIMARY) -> pd.DataFrame:
    """Return what a reading is worth in each target language, a row a language, the outcomes being of several studies.

    language; trainings; ``ordered`` and ``problems`` as :func:`validation` has them; what oracle and placebo gain over the base,
    each with its interval, in units (``gain``, ``gain_low``, ``gain_high``, ``placebo``, ``placebo_low``, ``placebo_high``);
    ``shown``: whether the oracle's gain is; ``named``: the reading that the rule names there, empty for none. Source: ours.
    """
    sign = READINGS[metric].scale * (1 if READINGS[metric].higher_is_better else -1)
    rows = []
    for language in _in_order(outcomes["language"]):
        mine = select(outcomes, language=language)
        worth = validation(mine, select(costs, language=language))
        row = worth.set_index("metric").loc[metric]
        part = select(mine, metric=metric)
        found: dict[str, Any] = {
            "language": language,
            "trainings": part.loc[part["method"] == ORACLE, "seed"].nunique(),
            **row[["ordered", "problems"]],
            "shown": _gain_is_shown(part, metric),
            "named": best_reading(worth) or "",
        }
        for name, arm in (("gain", ORACLE), ("placebo", PLACEBO)):
            i = stats.crossed_interval(sign * _gains(part, arm))
            found |= {name: i.value, f"{name}_low": i.low, f"{name}_high": i.high}
        rows.append(found)
    return pd.DataFrame(rows)


def _in_order(languages: pd.Series) -> list[str]:
    """Return the languages of a column in the order of the book."""
    return [code for code in LANGUAGE_NAMES if code in set(languages)]


def by_language_table(found: pd.DataFrame) -> Any:
    """Return :func:`by_language` of the primary reading as a table."""
    unit = READINGS[PRIMARY].unit_in_words.replace("%", "points")
    rows = [
        {
            "language": LANGUAGE_NAMES[row.language],
            "trainings": row.trainings,
            "in order": f"{row.ordered:.0%}",
            f"oracle gains ({unit})": bracketed(row.gain, row.gain_low, row.gain_high, "+.2f"),
            f"placebo gains ({unit})": bracketed(row.placebo, row.placebo_low, row.placebo_high, "+.2f"),
            "problems needed": number(row.problems, ",.0f"),
            "the rule names": _title(row.named),
        }
        for row in found.itertuples()
    ]
    return table(rows)


def _faults(row: Any) -> list[str]:
    """Return what speaks against a reading in a language, the row being one of :func:`by_language`."""
    faults = []
    if row.ordered < 1:
        faults.append("base and oracles are not in order in every training")
    if not row.shown:
        faults.append("no gain of the oracle is shown")
    elif row.placebo > MOST_FORMAT * row.gain:
        faults.append(f"the placebo has {row.placebo / row.gain:.0%} of the oracle's gain")
    return faults


def by_language_reading(found: pd.DataFrame) -> str:
    """Return in words in which languages the primary reading passes what is asked of it, and in which the rule names another."""
    lines = []
    for row in found.itertuples():
        faults = _faults(row)
        passed = "passes" if not faults else f"does **not** pass: {', '.join(faults)}"
        rule = "names it" if row.named == PRIMARY else f"would name {_title(row.named)}"
        who = f"{LANGUAGE_NAMES[row.language]} ({trainings(row.trainings)})"
        lines.append(f"{who}: {_title(PRIMARY)} {passed}; the rule {rule}.")
    return bullets(lines)


def by_language_summary(found: pd.DataFrame, answers: pd.DataFrame) -> str:
    """Return, as Markdown bullets, where the primary reading passes and how many answers read right the harness counts."""
    failed = [LANGUAGE_NAMES[row.language] for row in found.itertuples() if _faults(row)]
    passed = [LANGUAGE_NAMES[row.language] for row in found.itertuples() if not _faults(row)]
    where = ", ".join(passed) or "no language"
    rest = f", and not in {', '.join(failed)}." if failed else " (all that were tried)."
    lines = [f"{capital(_title(PRIMARY))} passes what is asked of a primary reading in {where}{rest}"]
    for code in _in_order(answers["test_language"]):
        right = answers[(answers["test_language"] == code) & answers["xlnb"]]
        strict, flexible = (int(right[name].sum()) for name in _FILTERS)
        lines.append(
            f"Of the {len(right)} answers of these models in {LANGUAGE_NAMES[code]} that we count right, the harness counts "
            f"{strict} by its strict filter, {flexible} by the flexible one."
        )
    return bullets(lines)


def noise(outcomes: pd.DataFrame, metric: str, arm: str = ORACLE) -> stats.Components:
    """Return the variance components of an arm's paired differences to the base."""
    return stats.variance_components(_gains(select(outcomes, metric=metric), arm))


def noise_sentence(components: stats.Components, metric: str, problems: int, arm: str = ORACLE) -> str:
    """Return in words where the noise of an arm's difference comes from, as :func:`noise` has it, and what one training has."""
    parts = (components.seed, components.problem, components.residual)
    shares = [part / sum(parts) if any(parts) else 0.0 for part in parts]
    scale, unit = READINGS[metric].scale, "points" if READINGS[metric].unit == "%" else "nats"
    single = scale * (components.seed + (components.problem + components.residual) / problems) ** 0.5
    measured = trainings(components.seeds) + ", so that of trainings is unknown" * (components.seeds == 1)
    return (
        f"{capital(READINGS[metric].title)}, {label(arm)} minus base ({measured}): of the variance of a single difference "
        f"{shares[0]:.0%} lies between trainings, {shares[1]:.0%} between problems, {shares[2]:.0%} in what neither explains. "
        f"The standard error of the mean over {problems} problems of one training is {single:.3g} {unit}."
    )


def power_table(
    components: stats.Components, difference: float, title: str, problems: Sequence[int], seeds: Sequence[int]
) -> Any:
    """Return a table of the power to see a difference: a row a number of problems, a column a number of trainings."""
    columns = {n: trainings(n) for n in seeds}
    shown = stats.power_table(components, difference, problems, seeds).rename(columns=columns).reset_index()
    shown["problems"] = [f"{n:,} problems" for n in shown["problems"]]
    return table(shown, size=85, title=title).fmt_percent(columns=list(columns.values()), decimals=0)


def needed_sentence(components: stats.Components, difference: float, seeds: Sequence[int], what: str) -> str:
    """Return how many problems show a difference with 80 % power, for each number of trainings."""
    needed = {count: stats.needed_problems(difference, components, count) for count in seeds}
    told = [f"{trainings(count)}: {'no number is enough' if n is None else f'{n:,}'}" for count, n in needed.items()]
    return f"Problems needed {what}, with 80 % power, by {'; '.join(told)}."


def mcnemar_sentence(outcomes: pd.DataFrame, metric: str, a: str, b: str, test_language: str, seed: int) -> str:
    """Return McNemar's exact test of two arms of one training on a 0/1 reading, in words."""
    part = _there(outcomes, metric=metric, test_language=test_language)
    left, right = (_there(part, method=arm, seed=0 if arm == "base" else seed) for arm in (a, b))  # the base has seed 0
    found = stats.mcnemar(left.assign(seed=seed), right.assign(seed=seed))
    return (
        f"{label(a)} against {label(b)}, {READINGS[metric].title}, training {seed}: only the first is right on "
        f"{found.only_a} problems, only the second on {found.only_b} (both on {found.both}, neither on {found.neither}); "
        f"McNemar's exact p is {found.p:.2g}."
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


def corrected_sentence(differences: pd.DataFrame) -> str:
    """Return how many contrasts are shown with and without Holm's correction."""
    alone = ((differences["low"] > 0) | (differences["high"] < 0)).sum()
    told = f"Of {len(differences)} comparisons {alone} have an interval that excludes zero; after Holm's correction"
    return f"{told} {(differences['verdict'] != NOT_SHOWN).sum()} are shown."


def error_rate_sentence(seeds: Sequence[int], components: stats.Components, problems: int) -> str:
    """Return how often an interval of this book cries wolf at 5 %, simulated with these components, for each number of seeds."""
    rates = {count: stats.simulated_error_rate(components, problems, count, trials=400) for count in seeds}
    told = [f"{count} trainings {bracketed(rate.value, rate.low, rate.high, '.0%')}" for count, rate in rates.items()]
    return (
        f"Simulated with {problems} problems and these components, where nothing differs, a 95 % interval excludes zero in: "
        f"{'; '.join(told)} of the cases. Nominal is 5 %."
    )


def measuring_summary(worth: pd.DataFrame, gold: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets: how answers are read, which readings measure what."""
    by_metric = worth.set_index("metric")
    primary, wording = by_metric.loc[PRIMARY], by_metric.loc["nll"]
    worst = gold.sort_values(harness.FLEXIBLE).iloc[0]
    needed = primary["problems"]
    seen = "no number of problems shows" if needed != needed else f"{needed:,.0f} problems show"
    both = (primary["placebo"], wording["placebo"])
    shares = ["no telling share" if share != share else number(share, ".0%") for share in both]
    return bullets([
        f"By the committed trainings the placebo has {shares[0]} of the oracle's gain on the primary reading and {shares[1]} on "
        "the NLL of the whole solution.",
        f"With three trainings {seen} a quarter of the oracle's gain on the primary reading.",
        f"Of right answers in {LANGUAGE_NAMES[worst['language']]} the harness's flexible filter counts "
        f"{worst[harness.FLEXIBLE]:.0%} and its strict one {worst[harness.STRICT]:.0%}; ours counts {worst['xlnb']:.0%}.",
    ])  # fmt: skip


def validation_figure(means: pd.DataFrame, title: str = "") -> Figure:
    """Draw :func:`validation_means`, each reading in a panel of its own; the oracles are joined."""
    metrics = [metric for metric in READINGS if metric in set(means["metric"])]
    rows = -(-len(metrics) // 3)
    figure, axes = subplots(rows, 3, 2.4 * rows + 0.4, title)
    names = {"base": "base", "placebo": "placebo", "oracle-quarter": "¼", "oracle-half": "½", "oracle": "oracle"}
    for axis, metric in zip(axes.flat, metrics, strict=False):
        part = means[means["metric"] == metric].set_index("method")
        arms = [arm for arm in names if arm in part.index]
        for place, arm in enumerate(arms):
            row = part.loc[arm]
            colour = {"base": OTHER_COLOUR, "placebo": LANGUAGE_COLOUR}.get(arm, MATH_COLOUR)
            dot(axis, place, row[["value", "low", "high"]], colour, upright=True, markersize=5)
        trained = [(place, part.loc[arm, "value"]) for place, arm in enumerate(arms) if arm.startswith("oracle")]
        axis.plot(*zip(*trained, strict=True), color=MATH_COLOUR, linewidth=1)
        axis.axhline(part.loc["base", "value"], color=OTHER_COLOUR, linestyle=":", linewidth=1)
        axis.set_xticks(range(len(arms)), [names[arm] for arm in arms], rotation=45)
        arrow = "↑" if READINGS[metric].higher_is_better else "↓"
        axis.set_title(fill(f"{READINGS[metric].title} {arrow}", 27), fontsize="small")
        if READINGS[metric].unit == "%":
            axis.set_ylim(bottom=0)
        axis.set_ylabel("% of problems" if READINGS[metric].unit == "%" else "nats per token", fontsize="small")
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    return figure


def validation_title(outcomes: pd.DataFrame) -> str:
    """Return what a reader of the readings' figure must know: model, language, problems, trainings."""
    n = outcomes.groupby("metric")["problem"].nunique()
    trained = trainings(outcomes[outcomes["method"] != "base"]["seed"].nunique())
    language = LANGUAGE_NAMES[outcomes["test_language"].iloc[0]]
    return f"{outcomes['model'].iloc[0]}, {language}, development: {n.max()} problems ({n.min()} by answer); {trained} of each"
