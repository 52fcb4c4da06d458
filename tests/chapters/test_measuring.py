"""What the chapter on measuring says of what metrics are worth, and its figure and tables."""

import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up_answers import generated
from made_up_validation import (
    BUDGETS,
    COSTS,
    GAINS,
    NO_FORMAT,
    ONCE,
    ONE_TRAINING,
    ORACLE_GAINS,
    REAL_FOREST,
    STEADY,
    in_languages,
    validated,
    worth_of,
)
from shown import caption, cells

from xlnb import stats
from xlnb.chapters import budgets, figures, home, measuring, pictures, power, reading_answers, words
from xlnb.corpora import templates
from xlnb.evaluation.harness import STRICT
from xlnb.evaluation.readings import EXPRESSION, PRIMARY, READINGS, TWIN_CHOICE, TWIN_INFORMATION, TWINS
from xlnb.methods import MATH, ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.studies import claims, validation
from xlnb.studies.comparisons import BASE, BETTER, NOT_SHOWN, UNJUDGED, WORSE, judged
from xlnb.studies.outcomes import load_outcomes, select
from xlnb.studies.validation import CANDIDATES, MOST_FORMAT

pytestmark = pytest.mark.usefixtures("known_forest")


def test_it_is_told_how_many_twins_experts_tell_apart():
    told, study = measuring.experts_apart(), home.committed_study()
    asked = {"method": MATH, "metric": TWIN_CHOICE, "test_language": "sw", "language": "sw"}
    for experiment, profile in (("methods", "pocket"), ("strength", "pocket-by-heart")):
        found = load_outcomes(study.results, experiment, profile=profile, paradigm="lora", **asked)
        assert re.search(rf"apart .*\b{100 * found['outcome'].mean():.0f} \[[^]]*\] % in Swahili", told)
    assert told.endswith("; a coin tells 25 %.") and told.count(" in Swahili") == 2 and " in English" in told


def test_twins_are_told_by_arm():
    usual = [metric for metric in CANDIDATES if metric not in TWINS]
    levels = {arm: np.full((3, 4), 0.01 * i) for i, arm in enumerate((PLACEBO, *BUDGETS))}
    outcomes = pd.concat([
        validated(GAINS, usual),
        validated(levels, [TWIN_CHOICE], base=np.array([[0.0, 0.0, 0.2, 0.2]])),
        validated(levels, [TWIN_INFORMATION], base=np.array([[0.0, -0.1, 0.0, 0.0]])),
    ])  # fmt: skip
    told = measuring.twins_sentence(outcomes)
    names = ["Base", *(words.label(arm) for arm in BUDGETS)]
    shares, nats = ([float(re.sub("−", "-", number)) for number in re.findall(rf"([−\d.]+) \[[^]]*\]{unit}", told)]
                    for unit in (" % of", " nats per"))  # fmt: skip
    assert shares == [10, 11, 12, 13] and nats == pytest.approx([-0.025, -0.015, -0.005, 0.005], abs=0.0051)
    assert [told.index(f"{name}: ") for name in names] == sorted(told.index(f"{name}: ") for name in names)
    assert words.label(PLACEBO) not in told
    table = np.array([[0.0, 0.0, 0.2, 0.2]])
    i = stats.crossed_interval(100 * table)
    assert f"Base: {words.bracketed(i.value, i.low, i.high, '.0f')} % of the twins" in told
    assert told.endswith("A coin tells 25 % apart, a reader of the numbers alone none.")


def test_each_language_is_told_with_its_faults():
    nothing = {arm: np.array([[0.5, -0.5, 0.5, -0.5]] * 3) for arm in (*ORACLE_BUDGETS, PLACEBO)}
    fooled = {PLACEBO: np.array([[0.4, 0.6, 0.4, 0.6]] * 3)}
    arms = {"sw": STEADY | NO_FORMAT, "bn": STEADY | fooled, "te": GAINS, "de": nothing, "fr": ONCE}
    found = validation.by_language(*in_languages(**arms))
    told = measuring.by_language_reading(found)
    assert told.startswith("In Swahili the primary metric passes. ")
    assert "In Bengali it does **not** pass: the placebo has 50% of the oracle's gain. " in told
    assert "In Telugu it does **not** pass: base and oracles are not in order in every training. " in told
    assert (
        "In German it does **not** pass: base and oracles are not in order in every training and the oracle's gain"
        in told
    )
    assert told.endswith("In French (one training) it was not tested: fewer than three trainings get no verdict.")
    head, *rows = cells(measuring.by_language_table(found, number=2))
    assert head[3:] == ["oracle gains (nats per token)", "placebo gains (nats per token)", "passes"]
    assert [row[-1] for row in rows] == ["yes", "no", "no", "no", "not tested"]
    assert rows[0][:3] == ["Swahili", "3", "100%"] and rows[2][:3] == ["Telugu", "3", "67%"]
    low, high = found["gain_low"][0], found["gain_high"][0]
    assert rows[0][3] == f"+1.00 [{low:+.2f}, {high:+.2f}]" and rows[0][4].startswith("−0.10 [−")


def test_what_the_numbers_give_speaks_against_a_metric_in_a_language():
    outcomes, costs = in_languages(sw=STEADY | NO_FORMAT, bn=STEADY | NO_FORMAT)
    on_the_twin = (outcomes["metric"] == TWIN_INFORMATION) & (outcomes["language"] == "bn")
    outcomes = pd.concat([
        outcomes[~on_the_twin],
        validated({arm: 0.1 * table for arm, table in (STEADY | NO_FORMAT).items()}, [TWIN_INFORMATION], "bn"),
    ])  # fmt: skip
    found = validation.by_language(outcomes, costs)
    assert list(found["numbers"]) == pytest.approx([1 - 2 / 1, 1 - 0.1 / 1])
    assert list(found["named"]) == [PRIMARY, TWIN_INFORMATION], "the twins are told apart by words alone"
    assert measuring.by_language_reading(found) == (
        "In Swahili the primary metric passes. In Bengali it does **not** pass: a reader of the numbers alone has 90% of the "
        "oracle's gain."
    )
    _, swahili, bengali = cells(measuring.by_language_table(found))
    assert (swahili[-1], bengali[-1]) == ("yes", "no")


def test_the_metrics_are_told_by_the_rule():
    rows = [
        ("nll", 1, 0.8, 40, 1.0),
        ("expression-nll", 0.5, 0.3, 40, 1.0),
        ("choice", 1, 0.1, 1234, 9.04),
        ("exact-match", 0, float("nan"), None, None),
    ]
    worth = worth_of(*rows, verdict=[BETTER, BETTER, BETTER, NOT_SHOWN])
    assert measuring.validation_reading(worth) == (
        "The oracle gains significantly by 3 of the 4 metrics; of these it is in order with base and shorter oracles in"
        " every training by NLL of the solution and right choice. The placebo has more than a quarter of that gain by "
        "NLL of the solution (80% of it) and NLL of the calculations (30% of it). The rule names **right choice**: "
        "1,234 problems show a quarter of the oracle's gain, in 9.0 minutes a model."
    )
    assert "placebo" not in measuring.validation_reading(worth_of(rows[2]))
    told = measuring.validation_reading(worth_of(rows[1]))
    assert "in every training by none." in told
    assert told.endswith(
        f"No metric qualifies: the rule names none. The book keeps {READINGS[PRIMARY].title}, the earlier one."
    )


def test_metrics_of_which_the_numbers_give_most_are_told():
    rows = [(PRIMARY, 1, 0.0, 50, 1.0), ("expression-nll", 1, 0.0, 50, 1.0), ("twin-choice", 2 / 3, 0.0, 50, 1.0)]
    told = measuring.validation_reading(worth_of(*rows, numbers=[0.9, 1.04, 0.0]))
    assert (
        "A reader of the numbers alone has more than a quarter of it by information gained on the calculations (90%) and NLL of "
        "the calculations (104%). No metric qualifies: the rule names none." in told
    )
    assert told.endswith("What it says is to be read as what the numbers of a problem give, not its words.")
    assert "numbers" not in measuring.validation_reading(worth_of(rows[0], numbers=MOST_FORMAT)), "just at most"


def test_the_summary_tells_the_primary_metric_beside_what_the_rule_names():
    languages = validation.by_language(*in_languages(sw=STEADY | NO_FORMAT))
    answers = reading_answers.reread(generated()[0])

    def first(worth):
        return measuring.summary(worth, languages, answers).split("\n")[0]

    title = READINGS[PRIMARY].title
    same = first(worth_of((PRIMARY, 1, 0.1, 50, 1.0), ("choice", 1, 0.1, 50, 2.0)))
    assert (
        same
        == f"- **Primary metric: {title}.** The rule names it on these outcomes. In Swahili the primary metric passes."
    )
    other = first(worth_of((PRIMARY, 1, 0.1, 50, 3.0), ("choice", 1, 0.1, 50, 2.0)))
    assert f"**Primary metric: {title}.** On these outcomes the rule would name right choice." in other
    assert "the rule would name none." in first(worth_of((PRIMARY, 0, 0.1, 50, 3.0)))
    few = first(worth_of((PRIMARY, 1, 0.1, 50, 3.0), verdict=UNJUDGED))
    assert "Named by the committed trainings; here are too few for a verdict." in few
    lines = measuring.summary(worth_of((PRIMARY, 1, 0.1, 50, 1.0)), languages, answers).split("\n")
    assert len(lines) == 2 + 4 + 1 and "Bengali" in lines[4] and "nan" not in "".join(lines)
    assert lines[1] == f"- {budgets.reading_sentence()}"


def test_the_box_follows_the_verdicts():
    def told(**words):
        outcomes = validated()
        table = judged(claims.FORMAT, outcomes).set_index("metric", drop=False)
        for metric, word in words.items():
            table.loc[metric.replace("_", "-"), "verdict"] = word
        return measuring._apart_sentence(table)

    usual = told(expression_information=BETTER, choice=NOT_SHOWN)
    assert "information gained on the calculations, puts the oracle ahead (+1.80 nats per token [" in usual
    assert "right choice, does not tell them apart significantly (+180.0 points [" in usual
    assert "right choice, puts the placebo ahead" in told(choice=WORSE)
    assert "has no verdict yet" in told(expression_information=UNJUDGED)


def test_the_table_of_metrics():
    head, *rows = cells(measuring.metrics_table())
    assert head == ["metric", "an outcome is", "unit", "better", "writes an answer"]
    found = {row[0]: row[2:] for row in rows}
    assert list(found) == [READINGS[metric].title for metric in CANDIDATES]
    assert found["NLL of the solution"] == ["nats per token", "lower", "no"]
    assert found["information gained on the solution"] == ["nats per token", "higher", "no"]
    assert found["right choice"] == ["%", "higher", "no"]
    assert found["final number right"] == ["%", "higher", "yes"]
    assert "`" not in measuring.metrics_table().html


def test_the_table_of_what_metrics_are_worth():
    table = worth_of(("information", 2 / 3, -0.123, 1234, 9.04), ("nll", 1, float("nan"), None, None))
    table = table.assign(
        retest=[-0.5, float("nan")],
        verdict=[BETTER, NOT_SHOWN],
        apart=[NOT_SHOWN, BETTER],
        numbers=[0.88, float("nan")],
    )
    head, first, second = cells(measuring.validation_table(table))
    assert head == [
        "metric", "oracle over base", "oracle over placebo", "in order", "placebo’s share", "share of the numbers alone",
        "retest", "problems needed", "minutes needed",
    ]  # fmt: skip
    title = "information gained on the solution"
    assert first == [title, BETTER, NOT_SHOWN, "67%", "−12%", "88%", "−0.50", "1,234", "9.04"]
    assert second == ["NLL of the solution", NOT_SHOWN, BETTER, "100%", "–", "–", "–", "–", "–"]


def test_the_table_of_a_validation_is_whole():
    _, *rows = cells(measuring.validation_table(validation.worth_of_metrics(validated(), COSTS)))
    assert [row[0] for row in rows] == [READINGS[metric].title for metric in CANDIDATES]
    assert all(row[1:5] == [BETTER, BETTER, "67%", "10%"] for row in rows)


@pytest.mark.parametrize("language", [code for code in templates.LANGUAGES if code != "en"])
def test_the_example_of_a_choice(language):
    problem = templates.problems(language, "development", 1)[0]
    shown = measuring.choices_table(language)
    _, (question, begins, choices) = cells(shown)
    assert question == problem.question and shown.html.count(f'lang="{language}"') == 2
    first, *others = choices.split("\n")
    assert first == problem.expressions[0]
    a, _, b = problem.expressions[0].split(" ")
    expected = {f"{a} {op} {b}" for op in "+-*/"} | {f"{b} - {a}", f"{b} / {a}"}
    assert {first, *others} == expected and len(others) == 5
    assert problem.solution.startswith(begins.removesuffix("…") + problem.expressions[0])


class Rows:
    """What is drawn where, by the colour of the marks in each row."""

    def __init__(self, figure):
        (axis,) = figure.axes
        self.names = [tick.get_text().replace("\n", " ") for tick in axis.get_yticklabels()]
        self.marks = {}
        for line in axis.lines:
            if line.get_marker() in ("o", "D") and len(line.get_xdata()) == 1:
                (x,), (y,) = line.get_xdata(), line.get_ydata()
                row = self.names[round(float(y))]
                hollow = line.get_markerfacecolor() == "none"
                self.marks.setdefault(row, []).append((line.get_marker(), float(x), line.get_color(), hollow))


def drawn(monkeypatch, narrow=False, *arguments, **options):
    figures_made = []

    def looking(draw, **others):
        figures_made.append(draw(narrow))
        return pictures.picture(draw, **others)

    monkeypatch.setattr(measuring, "picture", looking)
    shown = measuring.validation_figure(*arguments, **options)
    return Rows(figures_made[0]), shown


@pytest.mark.parametrize("narrow", [False, True])
def test_the_figure_has_a_row_a_metric_and_its_colours_say_what_the_verdicts_say(monkeypatch, narrow):
    fooled = GAINS | {PLACEBO: ORACLE_GAINS}
    nothing = {arm: np.array([[0.5, -0.4, 0.5, -0.4]] * 3) for arm in GAINS}
    cases = {"nll": fooled, "choice": nothing}
    parts = [validated(cases.get(metric, GAINS), [metric]) for metric in CANDIDATES]
    rows, shown = drawn(monkeypatch, narrow, pd.concat(parts))
    assert rows.names == [READINGS[metric].title for metric in CANDIDATES]
    value = validation.effects(pd.concat(parts)).set_index(["metric", "method"])["value"]
    for metric in CANDIDATES:
        *oracles, placebo = rows.marks[READINGS[metric].title]
        blue = figures.GREY if metric == "choice" else figures.BETTER_COLOUR
        orange = figures.WORSE_COLOUR if metric in cases else figures.GREY
        assert [mark[0] for mark in oracles] == ["o"] * 3 and {mark[2] for mark in oracles} == {blue}
        assert placebo[0] == "D" and placebo[2] == orange
        assert [mark[1] for mark in oracles] == pytest.approx([value[metric, arm] for arm in BUDGETS])
    assert caption(shown).startswith("What oracles of a quarter, half and all")
    assert "Swahili, 4 development problems (4 by written answers), three trainings of each" in caption(shown)
    assert shown.verdicts[f"{ORACLE}||base||sw|sw|templates|development|choice"] == NOT_SHOWN
    assert shown.verdicts[f"{ORACLE}||{PLACEBO}||sw|sw|templates|development|information"] == BETTER


def test_one_s_own_training_is_hollow_and_too_few_are_grey(monkeypatch):
    rows, _ = drawn(monkeypatch, False, validated(), own=validated(ONE_TRAINING))
    assert sum(mark[3] for mark in rows.marks["right choice"]) == 2
    rows, shown = drawn(monkeypatch, False, validated(ONE_TRAINING))
    assert {mark[2] for marks in rows.marks.values() for mark in marks} == {figures.GREY}
    assert "Grey oracles have no verdict" in caption(shown) and shown.verdicts == {}


def test_the_figure_s_caption_says_how_many_are_answered():
    outcomes = validated()
    fewer = outcomes[(outcomes["metric"] != EXPRESSION) | (outcomes["problem"] < "development-000002")]
    assert "4 development problems (2 by written answers)" in caption(measuring.validation_figure(fewer))


@pytest.fixture(scope="module")
def committed():
    """The committed outcomes in Swahili, and what their metrics are worth."""
    outcomes, costs = (select(table, language="sw") for table in measuring.committed_validation())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "_forest", REAL_FOREST)
        return outcomes, validation.worth_of_metrics(outcomes, costs)


def test_the_answer_is_computed_from_what_is_committed(committed, real_forest):
    outcomes, worth = committed
    shown = measuring.answer()
    text = BeautifulSoup(shown.html, "html.parser").get_text(" ")
    numbers = worth.set_index("metric").loc[PRIMARY, "numbers"]
    assert (
        f"numbers alone would give {numbers:.0%} of what the oracle gains over the base by the {READINGS[PRIMARY].title}."
        in text
    )
    twins = 100 * select(outcomes, metric=TWIN_CHOICE, method=ORACLE)["outcome"].mean()
    assert f"the oracle tells {twins:.0f} % apart; a coin gets 25 %." in text
    named = validation.best_metric(worth)
    rule = "No metric passes our rule" if named is None else f"Our rule names {READINGS[named].title}."
    assert rule in text
    gold = reading_answers.gold_readings().set_index("language").loc["bn", STRICT]
    assert f"counts {gold:.0%} by its strict filter" in text
    assert power.power_sentence(power.ASSUMED, 0.03, 250, 3) in text
    row = judged(claims.FORMAT, outcomes).set_index("metric").loc[PRIMARY]
    assert ("puts the oracle ahead" in text) == (row["verdict"] == BETTER)
    assert shown.verdicts[f"{ORACLE}||{PLACEBO}||sw|sw|templates|development|{PRIMARY}"] == row["verdict"]
    assert BASE == ("base", "")


def test_what_the_rule_names_on_the_committed_trainings_is_what_is_said(committed):
    """PRIMARY was named before the rule asked for the numbers: on these outcomes no metric qualifies, and the book says so."""
    _, worth = committed
    assert set(worth["metric"]) == set(CANDIDATES) and UNJUDGED not in set(worth["verdict"])
    assert validation.best_metric(worth) is None
    primary = worth.set_index("metric").loc[PRIMARY]
    assert primary["verdict"] == primary["apart"] == BETTER and primary["numbers"] > MOST_FORMAT
    assert f"{READINGS[PRIMARY].title} ({primary['numbers']:.0%})" in measuring.validation_reading(worth)
    assert "No metric qualifies: the rule names none." in measuring.validation_reading(worth)


def test_what_the_chapter_s_text_says_of_twins_is_so(committed):
    """Longer training gains more on the twin's text, not significantly; no oracle tells more twins apart than a coin."""
    outcomes, worth = committed
    row = worth.set_index("metric").loc[TWIN_INFORMATION]
    assert row["ordered"] == 1 and row["verdict"] == NOT_SHOWN
    told = measuring.twins_sentence(outcomes)
    for arm in BUDGETS:
        apart = 100 * select(outcomes, metric=TWIN_CHOICE, method=arm)["outcome"].mean()
        assert apart <= 25 and f"{words.label(arm)}: {apart:.0f} [" in told
