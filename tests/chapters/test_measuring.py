"""The chapter on measuring: what it computes, by hand; what it says of it; and the models behind it, on a small smoke study."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from xlnb import artifacts, stats
from xlnb.chapters import base_and_data, figures, measuring, words
from xlnb.chapters.measuring import CANDIDATES, MOST_FORMAT
from xlnb.corpora import templates
from xlnb.corpora.sources import SOURCES
from xlnb.errors import RequestError
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.harness import FLEXIBLE, STRICT, harness_counts_right
from xlnb.evaluation.readings import COST_GROUPS, EXPRESSION, PRIMARY, READINGS, VALIDATED
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.stats import Components, Interval
from xlnb.studies import committing, comparisons
from xlnb.studies import outcomes as results
from xlnb.studies import study as study_module
from xlnb.studies.experiments import MEASURING, VALIDATION
from xlnb.studies.outcomes import COLUMNS, load_costs, select
from xlnb.studies.profiles import PROFILES
from xlnb.studies.study import Study

BUDGETS = tuple(ORACLE_BUDGETS)


class Cells(HTMLParser):
    """The text of a table's cells, row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data.strip()


def cells(table):
    """The rows of a great_tables table as a browser gets them, titles and heads among them."""
    parser = Cells()
    parser.feed(table.as_raw_html())
    return parser.rows


# --- reading answers -------------------------------------------------------------------------------------


def test_the_table_of_ways_to_answer():
    head, *rows = cells(measuring.ways_table())
    assert head == ["language", "answer", "right", "xlnb", "harness, strict", "harness, flexible"]
    assert [row[1] for row in rows] == [text for _, text, _ in measuring.WAYS_TO_ANSWER]
    for (language, text, right), (name, _, number, ours, *_) in zip(measuring.WAYS_TO_ANSWER, rows, strict=True):
        assert (name, int(number)) == (LANGUAGE_NAMES[language], right)
        assert ours == f"{extract_number(text, language)} ✓", "the book claims to read them all"
    shown = {row[1]: tuple(row[4:]) for row in rows}
    assert shown["The answer is $18.00 a day."] == ("[invalid] ✗", "$18.00 ✗")
    assert shown["The answer is 18 eggs, since 16 and 2 make 18.0."] == ("18 ✓", "18.0. ✗")
    assert shown["Jibu ni shilingi 18 kila siku, si 20."] == ("[invalid] ✗", "20. ✗")
    assert shown["মোট 9 * 2 = 18 টাকা। উত্তর হল 18।"] == ("[invalid] ✗", "18 ✓")
    assert shown["మొత్తం ౯ * ౨ = ౧౮ రూపాయలు. సమాధానం ౧౮."] == ("[invalid] ✗", "[invalid] ✗")
    assert shown["Die Antwort lautet 18,00 Euro."] == ("18,00 ✗", "18,00 ✗")
    assert shown["La réponse est 2 125 euros."] == ("2 ✗", "125 ✗")


def test_gold_solutions_are_counted_by_language():
    n = 12
    found = measuring.gold_readings(n, "development")
    assert list(found.columns) == ["language", "problems", "xlnb", STRICT, FLEXIBLE]
    assert tuple(found["language"]) == templates.LANGUAGES
    assert set(found["problems"]) == {n} and set(found["xlnb"]) == {1.0}
    for row in found.set_index("language").itertuples():
        problems = templates.problems(row.Index, "development", n)
        right = [harness_counts_right(p.solution, p.answer, row.Index) for p in problems]
        assert found.set_index("language").loc[row.Index, STRICT] == sum(one[STRICT] for one in right) / n
        assert found.set_index("language").loc[row.Index, FLEXIBLE] == sum(one[FLEXIBLE] for one in right) / n
    shares = found.set_index("language")[STRICT]
    assert (shares["en"], shares["sw"], shares["bn"]) == (1, 1, 0), "it looks for English words in Bengali"


GOLD = pd.DataFrame(
    [("en", 200, 1.0, 0.75, 1.0), ("sw", 200, 1.0, 0.5, 0.9), ("bn", 200, 0.995, 0.0, 0.125)],
    columns=["language", "problems", "xlnb", STRICT, FLEXIBLE],
)


def test_the_table_of_gold_readings_is_in_percent():
    assert cells(measuring.gold_table(GOLD)) == [
        ["", "problems", "xlnb", "harness, strict", "harness, flexible"],
        ["English", "200", "100%", "75%", "100%"],
        ["Swahili", "200", "100%", "50%", "90%"],
        ["Bengali", "200", "100%", "0%", "12%"],  # of 12.5 %, to even
    ]


def gold(language, split, i):
    return templates.problems(language, split, i + 1)[i].answer


def native(number, zero):
    return "".join(chr(ord(zero) + int(digit)) for digit in str(number))


def generated():
    """Answers with what is right, ours, strict, flexible: one row each, and rows that are no answers beside them."""
    d, s = (lambda i: gold("en", "development", i)), gold("en", "scored", 3)
    long = "Kwanza anahesabu yote kwa makini sana, halafu anahesabu tena mara ya pili ili kuwa na uhakika kabisa. "
    cases = [
        ("sw", "development", 0, f"Jibu ni {d(0)}.", True, True, True),
        ("sw", "development", 1, f"Jibu ni {d(1)} kwa jumla, si {d(1) + 1}.", True, True, False),
        ("sw", "scored", 3, f"{long}Jibu ni {s}.00", True, False, False),
        ("bn", "development", 2, f"উত্তর হল {native(d(2), '০')}।", True, False, False),
        ("bn", "development", 0, f"উত্তর হল {d(0)}।", True, False, True),
        ("te", "development", 1, f"సమాధానం {native(d(1), '౦')}.", True, False, False),
        ("en", "development", 2, f"The answer is {d(2)}. No, the answer is {d(2) + 1}.", False, True, False),
        ("en", "development", 1, f"The answer is {d(1) + 1}.", False, False, False),
        ("en", "scored", 3, "", False, False, False),
    ]
    rows = [
        (language, split, f"{split}-{i:06d}", metric, text)
        for language, split, i, text, *_ in cases
        for metric in ("nll", "exact-match", "expression")
    ]
    frame = pd.DataFrame(rows, columns=["test_language", "split", "problem", "metric", "text"])
    frame.loc[frame["metric"] == "nll", "text"] = None
    return frame.assign(seed=0, benchmark="templates"), pd.DataFrame(
        [case[4:] for case in cases], columns=["xlnb", STRICT, FLEXIBLE]
    )


def test_answers_are_read_again_by_each_reader():
    outcomes, expected = generated()
    found = measuring.reread(outcomes)
    assert set(found["metric"]) == {"exact-match"}
    pd.testing.assert_frame_equal(found[["xlnb", STRICT, FLEXIBLE]], expected)
    assert list(found["gold"]) == [
        gold(row.test_language, row.split, int(row.problem[-6:])) for row in found.itertuples()
    ], "each split has its own problems"


def test_answers_to_other_benchmarks_are_left_out():
    outcomes, expected = generated()
    others = outcomes.assign(benchmark="mgsm", split="test", problem="mgsm-sw-0", text="Jibu ni 5.")
    pd.testing.assert_frame_equal(measuring.reread(pd.concat([others, outcomes]))[list(expected)], expected)


def test_the_referee_is_told_with_its_counts_and_examples():
    answers = measuring.reread(generated()[0])
    told = measuring.referee_reading(answers).split("\n")
    assert told[:2] == ["Of 9 answers we count 6 right.", ""]
    strict = told.index(
        "- The harness's *strict-match* counts 3: 4 that we count it does not, 1 that it counts we do not."
    )
    flexible = told.index(
        "- The harness's *flexible-extract* counts 2: 4 that we count it does not, 0 that it counts we do not."
    )
    assert strict == 2 and flexible == 6 and len(told) == 9, "two examples of a kind at most"
    ending = answers["text"][2][-90:]
    assert told[3] == f"  - we count, it does not (right is {gold('en', 'scored', 3)}): `… {ending}`"
    assert told[5] == (f"  - it counts, we do not (right is {gold('en', 'development', 2)}): `{answers['text'][6]}`")


def test_the_referee_is_told_for_each_language():
    answers = measuring.reread(generated()[0])
    english, swahili, bengali, telugu = measuring.referee_by_language(answers).split("\n\n**")
    assert english.startswith("**English.** Of 3 answers we count 0 right.")
    for told, name, code in ((swahili, "Swahili", "sw"), (bengali, "Bengali", "bn"), (telugu, "Telugu", "te")):
        assert told == f"{name}.** {measuring.referee_reading(select(answers, test_language=code))}"


# --- what a reading is worth, by hand --------------------------------------------------------------------

# Of two trainings (rows) and four problems: what each arm gains over the base.
ORACLE_GAINS = np.array([[0.2, 0.4, 0.6, 0.8], [0.4, 0.2, 0.8, 0.6]])
GAINS = {
    "oracle-quarter": np.full((2, 4), 0.1),
    "oracle-half": np.array([[0.3] * 4, [0.6] * 4]),  # in the second training it gains more than the oracle
    ORACLE: ORACLE_GAINS,
    PLACEBO: np.array([[0.0, 0.1, 0.0, 0.1], [0.1, 0.0, 0.1, 0.0]]),
}
COSTS = pd.DataFrame(
    [
        ("likelihood", 100, 20.0),
        ("likelihood and forced choice", 100, 80.0),
        ("information", 50, 25.0),
        ("generation", 10, 60.0),
    ],
    columns=["readings", "problems", "seconds"],
).assign(profile="pocket", language="sw")
SECONDS = dict(zip(CANDIDATES, (20, 20, 50, 50, 80, 80, 600, 600, 600), strict=True))  # a 100 problems


def validated(gains=GAINS, metrics=CANDIDATES):
    """Outcomes as a study's validation has them, with these gains on every reading, the base with one seed alone."""
    base = np.array([[0.5, 1.0, 1.5, 2.0]])
    tables = []
    for metric in metrics:
        sign = 1 if READINGS[metric].higher_is_better else -1
        arms = {"base": base} | {arm: base + sign * np.asarray(gain, float) for arm, gain in gains.items()}
        for arm, table in arms.items():
            rows = [(seed, f"development-{p:06d}", value) for (seed, p), value in np.ndenumerate(table)]
            frame = pd.DataFrame(rows, columns=["seed", "problem", "outcome"])
            tables.append(frame.assign(metric=metric, method=arm, partition="", test_language="sw", model="m"))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def outcomes_by_hand():
    return validated()


@pytest.fixture(scope="module")
def by_hand(outcomes_by_hand):
    return measuring.validation(outcomes_by_hand, COSTS).set_index("metric")


def test_candidates_are_the_readings_that_are_validated_and_each_has_a_cost():
    assert set(CANDIDATES) == set(VALIDATED)
    assert set(CANDIDATES) == {metric for group in COST_GROUPS.values() for metric in group}
    assert PRIMARY in CANDIDATES


@pytest.mark.parametrize("metric", CANDIDATES)
def test_what_a_reading_is_worth(by_hand, metric):
    row = by_hand.loc[metric]
    scale = 100 if READINGS[metric].unit == "%" else 1
    assert row["ordered"] == 0.5
    assert row["gain"] == pytest.approx(scale * 0.5)
    assert row["placebo"] == pytest.approx(0.05 / 0.5)
    assert row["retest"] == pytest.approx(0.6)  # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    assert row["effect"] == pytest.approx(0.5 / (4 * 0.2**2 / 3) ** 0.5)  # problem means 0.3, 0.3, 0.7, 0.7
    # 0.08 is the sum of squares that trainings and problems leave; both trainings have the mean 0.5.
    components = Components(seed=0.0, problem=0.16 / 3 - 0.08 / 3 / 2, residual=0.08 / 3, seeds=2)
    assert row["problems"] == stats.needed_problems(0.25 * 0.5, components, 3)
    assert row["seconds"] == pytest.approx(SECONDS[metric])
    assert row["minutes"] == pytest.approx(row["problems"] * SECONDS[metric] / 100 / 60)


def test_what_a_reading_is_worth_agrees_with_the_statistics():
    rng = np.random.default_rng(0)
    gains = {arm: rng.normal(share, 0.3, (3, 4)) for arm, share in {**ORACLE_BUDGETS, PLACEBO: 0.1}.items()}
    outcomes = validated(gains)
    row = measuring.validation(outcomes, COSTS).set_index("metric").loc["nll"]
    table, components = gains[ORACLE], stats.variance_components(gains[ORACLE])
    assert row["retest"] == pytest.approx(stats.spearman_test_retest(table))
    assert row["placebo"] == pytest.approx(gains[PLACEBO].mean() / table.mean())
    assert row["problems"] == stats.needed_problems(0.25 * table.mean(), components, 3)
    for arm, expected in ((ORACLE, components), (PLACEBO, stats.variance_components(gains[PLACEBO]))):
        noise = measuring.noise(outcomes, "nll", arm)
        for name in ("seed", "problem", "residual", "seeds"):
            assert getattr(noise, name) == pytest.approx(getattr(expected, name))
    assert measuring.noise(outcomes, "nll") == measuring.noise(outcomes, "nll", ORACLE)


def test_the_share_of_trainings_in_order():
    cases = {  # means of a quarter, half, whole oracle in three trainings
        "nll": ([0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3], 1),
        "expression-nll": ([-0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3], 2 / 3),  # a quarter below the base
        "choice": ([0.0, 0.1, 0.1], [0.2, 0.1, 0.2], [0.3, 0.3, 0.3], 1 / 3),  # equals are in no order
        "information": ([0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.4, 0.4, 0.4], 0),
    }
    steady = np.array([[-0.05, 0.05, -0.05, 0.05]])
    parts = [validated({arm: table[:1] for arm, table in GAINS.items()}, [m for m in CANDIDATES if m not in cases])]
    for metric, (*means, _) in cases.items():
        gains = {arm: np.array(mean)[:, None] + steady for arm, mean in zip(BUDGETS, means, strict=True)}
        parts.append(validated(gains | {PLACEBO: np.zeros((3, 4))}, [metric]))
    ordered = measuring.validation(pd.concat(parts), COSTS).set_index("metric")["ordered"]
    assert {metric: ordered[metric] for metric in cases} == pytest.approx({m: case[-1] for m, case in cases.items()})


def test_a_reading_on_which_no_gain_of_the_oracle_is_shown_has_no_share_and_no_number():
    cases = [
        -ORACLE_GAINS,
        np.zeros((2, 4)),
        np.array([[0.9, -0.3, 0.9, -0.3], [0.9, -0.3, 0.3, 0.3]]),  # 0.3 on average, and zero is in the interval
    ]
    parts = [validated(GAINS | {ORACLE: cases[i % 3]}, [metric]) for i, metric in enumerate(CANDIDATES)]
    worth = measuring.validation(pd.concat(parts), COSTS)
    gains = [cases[i % 3].mean() * READINGS[metric].scale for i, metric in enumerate(CANDIDATES)]
    assert worth["gain"].to_numpy() == pytest.approx(gains)
    assert worth["placebo"].isna().all() and worth["problems"].isna().all() and worth["minutes"].isna().all()
    assert {worth[column].dtype.kind for column in ("placebo", "problems", "minutes")} == {"f"}, "numbers, none a None"
    assert measuring.best_reading(worth) is None


def test_one_training_has_no_retest():
    worth = measuring.validation(validated({arm: table[:1] for arm, table in GAINS.items()}), COSTS)
    assert worth["retest"].isna().all()
    assert set(worth["ordered"]) == {1.0}
    components = Components(0.0, float(ORACLE_GAINS[0].var(ddof=1)), 0.0, 1)
    assert set(worth["problems"]) == {stats.needed_problems(0.25 * 0.5, components, 3)}


def test_a_reading_costs_what_the_cheapest_way_to_it_costs(outcomes_by_hand):
    costs = COSTS.assign(seconds=[90.0, 80.0, 25.0, 60.0])  # likelihood alone dearer than with forced choice
    worth = measuring.validation(outcomes_by_hand, costs).set_index("metric")
    assert worth.loc["nll", "seconds"] == worth.loc["choice", "seconds"] == pytest.approx(80)


def test_means_have_their_units_and_intervals(outcomes_by_hand):
    means = measuring.validation_means(outcomes_by_hand).set_index(["metric", "method"])
    assert len(means) == len(CANDIDATES) * 5
    part = select(outcomes_by_hand, metric="nll", method=ORACLE)
    expected = stats.crossed_interval(part.pivot(index="seed", columns="problem", values="outcome").to_numpy())
    row = means.loc[("nll", ORACLE)]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([expected.value, expected.low, expected.high])
    assert (row["n"], row["seeds"], means.loc[("nll", "base"), "seeds"]) == (4, 2, 1)
    assert row["value"] == pytest.approx(1.25 - 0.5)


def test_the_interval_of_a_share_stays_within_0_and_100_percent():
    right = answered(base={0: "01" * 50}, oracle={0: "0001" + "0" * 96}, placebo={0: "1" * 99 + "0"})
    means = measuring.validation_means(right).set_index("method")
    half = 100 * 1.984217 * 0.502519 / 10  # Student's quantile with 99 degrees of freedom times the standard error
    assert means.loc["base", ["value", "low", "high"]].tolist() == pytest.approx([50, 50 - half, 50 + half])
    assert means.loc["oracle", "low"] == 0 and 1 < means.loc["oracle", "high"] < 4
    assert means.loc["placebo", "high"] == 100 and 96 < means.loc["placebo", "low"] < 99


# --- in other languages ----------------------------------------------------------------------------------


def in_languages(**gains):
    """Outcomes of a study in each language with these gains on the primary reading, and what they cost."""
    usual = [metric for metric in CANDIDATES if metric != PRIMARY]
    outcomes = [
        pd.concat([validated(arms, [PRIMARY]), validated(GAINS, usual)]).assign(language=code, test_language=code)
        for code, arms in gains.items()
    ]
    return pd.concat(outcomes), pd.concat([COSTS.assign(language=code) for code in gains])


STEADY = {arm: np.array([[0.9, 1.1, 0.9, 1.1]]) * share for arm, share in ORACLE_BUDGETS.items()}
NO_FORMAT = {PLACEBO: np.array([[-0.2, 0.0, -0.2, 0.0]])}


def test_a_reading_in_each_language_by_hand():
    outcomes, costs = in_languages(te=GAINS, sw=STEADY | NO_FORMAT)
    found = measuring.by_language(outcomes, costs)
    assert list(found["language"]) == ["sw", "te"], "in the order of the book"
    assert list(found["trainings"]) == [1, 2]
    assert list(found["ordered"]) == [1, 0.5]
    assert list(found["gain"]) == pytest.approx([1.0, 0.5])
    assert list(found["placebo"]) == pytest.approx([-0.1, 0.05])
    interval = stats.crossed_interval(np.array([[0.9, 1.1, 0.9, 1.1]]))
    assert (found["gain_low"][0], found["gain_high"][0]) == pytest.approx((interval.low, interval.high))
    alone = measuring.validation(select(outcomes, language="te"), COSTS).set_index("metric")
    assert found["problems"][1] == alone.loc[PRIMARY, "problems"]
    assert list(found["named"]) == [PRIMARY, ""], "the usual gains are out of order in one training of two"


def test_a_reading_of_which_less_is_better_gains_where_it_falls():
    found = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT), "nll")
    assert found["gain"][0] == pytest.approx(0.5) and found["placebo"][0] == pytest.approx(0.05)


def test_each_language_is_told_with_its_faults():
    nothing = {arm: np.array([[0.5, -0.5, 0.5, -0.5]]) for arm in (*ORACLE_BUDGETS, PLACEBO)}
    fooled = {PLACEBO: np.array([[0.4, 0.6, 0.4, 0.6]])}
    found = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT, bn=STEADY | fooled, te=GAINS, de=nothing))
    sw, bn, te, de = measuring.by_language_reading(found).split("\n")
    title = READINGS[PRIMARY].title
    assert sw == f"- Swahili (one training): {title} passes; the rule names it."
    assert bn.startswith(
        f"- Bengali (one training): {title} does **not** pass: the placebo has 50% of the oracle's gain;"
    )
    assert te == (
        f"- Telugu (2 trainings): {title} does **not** pass: base and oracles are not in order in every training; "
        "the rule would name none."
    )
    assert "not in order in every training, no gain of the oracle is shown" in de
    assert "placebo" not in de, "no share of a gain that is not shown"


def test_the_summary_of_languages():
    found = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT, te=GAINS))
    first, _, swahili, bengali, _ = measuring.by_language_summary(found, measuring.reread(generated()[0])).split("\n")
    assert first.endswith("passes what is asked of a primary reading in Swahili, and not in Telugu.")
    assert swahili == (
        "- Of the 3 answers of these models in Swahili that we count right, the harness counts 2 by its strict filter, 1 by "
        "the flexible one."
    )
    assert "Of the 2 answers of these models in Bengali" in bengali and "counts 0 by its strict filter, 1" in bengali
    all_pass = measuring.by_language_summary(found[:1], measuring.reread(generated()[0])[:0])
    assert all_pass.endswith("in Swahili (all that were tried).") and "\n" not in all_pass


def test_the_table_of_languages_says_the_same():
    found = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT, te=GAINS))
    head, sw, te = cells(measuring.by_language_table(found))
    assert head[3:5] == ["oracle gains (nats per token)", "placebo gains (nats per token)"]
    assert sw[:3] == ["Swahili", "1", "100%"] and te[:3] == ["Telugu", "2", "50%"]
    low, high = found["gain_low"][0], found["gain_high"][0]
    assert sw[3] == f"+1.00 [{low:+.2f}, {high:+.2f}]" and sw[4].startswith("−0.10 [−")
    assert sw[5] == f"{found['problems'][0]:,.0f}"
    assert (sw[6], te[6]) == (READINGS[PRIMARY].title, "none")


# --- the rule and its words ------------------------------------------------------------------------------


def worth_of(*rows):
    """A table as validation gives it, of rows (metric, ordered, placebo, problems, minutes)."""
    table = pd.DataFrame(rows, columns=["metric", "ordered", "placebo", "problems", "minutes"])
    table = table.astype({"problems": float, "minutes": float})  # None becomes NaN
    return table.assign(gain=1.0, retest=0.5, effect=1.0, seconds=10.0)


GOOD, OTHER = PRIMARY, "choice"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, 0.1, 90, 2.0)], OTHER),  # the cheapest, and not the fewest problems
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 2 / 3, 0.1, 90, 2.0)], GOOD),  # the cheaper one is in disorder
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, 0.26, 90, 2.0)], GOOD),  # the placebo satisfies it
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, float("nan"), 90, 2.0)], GOOD),
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, 0.1, None, None)], GOOD),  # no number of problems shows the gain
        ([(GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, MOST_FORMAT, 90, 2.0)], OTHER),  # just at most
        ([(GOOD, 1, -0.4, 50, 9.0)], GOOD),  # a placebo worse than the base
        ([(GOOD, 0, 0.1, 50, 9.0), (OTHER, 1, 0.5, 90, 2.0)], None),
        ([(GOOD, 1, 0.1, None, None)], None),
    ],
)
def test_the_rule(rows, named):
    assert measuring.best_reading(worth_of(*rows)) == named
    assert measuring.best_reading(worth_of(*rows[::-1])) == named


def test_the_readings_are_told_by_the_rule():
    rows = [
        ("nll", 1, 0.8, 40, 1.0),
        ("expression-nll", 0.5, 0.3, 40, 1.0),
        ("choice", 1, 0.1, 1234, 9.04),
        ("exact-match", 0, -0.2, None, None),
    ]
    assert measuring.validation_reading(worth_of(*rows)).split("\n") == [
        "- Not in order in every training: NLL of the expressions, final number right.",
        "- The placebo has more than a quarter of the oracle's gain: NLL of the solution (80%), NLL of the expressions (30%).",
        "- Of those that pass both, **right choice** takes the least time: 1,234 problems for a quarter of the oracle's gain, "
        "9.04 minutes a model.",
    ]
    assert measuring.validation_reading(worth_of(rows[2])).split("\n")[:2] == [
        "- Not in order in every training: none.",
        "- The placebo has more than a quarter of the oracle's gain: none.",
    ]
    assert measuring.validation_reading(worth_of(rows[0])).endswith("- No reading qualifies: here the rule names none.")


def test_the_primary_reading_is_told_beside_what_the_rule_names():
    title = READINGS[PRIMARY].title
    same = measuring.primary_sentence(worth_of((PRIMARY, 1, 0.1, 50, 1.0), ("choice", 1, 0.1, 50, 2.0)))
    assert same.startswith(f"- **Primary reading: {title}**") and same.endswith("The rule names it on these outcomes.")
    other = measuring.primary_sentence(worth_of((PRIMARY, 1, 0.1, 50, 3.0), ("choice", 1, 0.1, 50, 2.0)))
    assert other.startswith(f"- **Primary reading: {title}** by the committed trainings")
    assert other.endswith("on these outcomes the rule would name right choice.")
    none = measuring.primary_sentence(worth_of((PRIMARY, 0, 0.1, 50, 3.0)))
    assert none.endswith("on these outcomes the rule would name none.")


@pytest.mark.parametrize(("wording", "word"), [(0.8, "80%"), (-0.14, "−14%"), (float("nan"), "no telling share")])
def test_the_summary_says_what_the_placebo_has(wording, word):
    told = measuring.measuring_summary(worth_of((PRIMARY, 1, 0.12, 1234, 3.0), ("nll", 1, wording, 50, 1.0)), GOLD)
    lines = told.split("\n")
    assert "the placebo has 12% of the oracle's gain on the primary reading" in lines[0]
    assert lines[0].endswith(f"and {word} on the NLL of the whole solution.")
    assert (
        lines[1] == "- With three trainings 1,234 problems show a quarter of the oracle's gain on the primary reading."
    )
    assert lines[2] == (
        "- Of right answers in Bengali the harness's flexible filter counts 12% and its strict one 0%; ours counts 100%."
    )
    assert len(lines) == 3


NOTHING_GAINED = {arm: np.array([[0.1, -0.1, 0.1, -0.1], [-0.1, 0.1, -0.1, 0.1]]) - 0.3 for arm in GAINS}
FEW_TRAININGS = GAINS | {ORACLE: np.array([[0.1, 0.1, 0.1, 0.2], [0.9, 0.9, 0.9, 0.8]])}  # they vary too much for three


@pytest.mark.parametrize("primary", [NOTHING_GAINED, FEW_TRAININGS])
def test_the_summary_says_that_no_number_of_problems_shows_it(primary):
    others = [metric for metric in CANDIDATES if metric != PRIMARY]
    outcomes = pd.concat([validated(GAINS, others), validated(primary, [PRIMARY])], ignore_index=True)
    told = measuring.measuring_summary(measuring.validation(outcomes, COSTS), GOLD)
    assert "no number of problems shows a quarter of the oracle's gain" in told
    assert "nan" not in told


# --- noise and power -------------------------------------------------------------------------------------

NOISE = Components(seed=0.01, problem=0.5, residual=0.49, seeds=3)


def test_noise_is_told_by_its_shares():
    told = measuring.noise_sentence(NOISE, "nll", 100)
    assert told.startswith(f"NLL of the solution, {words.label(ORACLE)} minus base (3 trainings): ")
    assert "1% lies between trainings, 50% between problems, 49% in what neither explains" in told
    # 0.01 + (0.5 + 0.49) / 100, and its root
    assert told.endswith(f"over 100 problems of one training is {0.0199**0.5:.3g} nats.")
    percent = measuring.noise_sentence(NOISE, EXPRESSION, 100)
    assert percent.endswith(f"is {100 * 0.0199**0.5:.3g} points.")
    one = measuring.noise_sentence(Components(0, 0.5, 0, 1), "nll", 100)
    assert "(one training, so that of trainings is unknown)" in one and "100% between problems" in one
    assert "0% lies between trainings, 0% between problems" in measuring.noise_sentence(
        Components(0, 0, 0, 1), "nll", 100
    )
    assert ", Placebo minus base (" in measuring.noise_sentence(NOISE, "nll", 100, PLACEBO)
    assert measuring.noise_sentence(NOISE, PRIMARY, 100).startswith("Information gained")


def test_needed_problems_are_told_for_each_number_of_trainings():
    told = measuring.needed_sentence(NOISE, 0.25, (1, 3, 10), "to see it")
    three, ten = (stats.needed_problems(0.25, NOISE, seeds) for seeds in (3, 10))
    assert told == (
        "Problems needed to see it, with 80 % power, by one training: no number is enough; "
        f"3 trainings: {'no number is enough' if three is None else f'{three:,}'}; 10 trainings: {ten:,}."
    )
    alone = measuring.needed_sentence(Components(0, 1.0, 0, 1), 0.05, (1,), "here")
    assert alone == "Problems needed here, with 80 % power, by one training: 3,142."
    assert stats.needed_problems(0.05, Components(0, 1.0, 0, 1), 1) == 3142  # about (1.96 + 0.84)^2 / 0.05^2


def test_the_table_of_power():
    title, head, *rows = cells(measuring.power_table(NOISE, 0.25, "Power to see it", (50, 1000), (1, 3, 10)))
    assert title == ["Power to see it"]
    assert head == ["", "one training", "3 trainings", "10 trainings"]
    for row, problems, name in zip(rows, (50, 1000), ("50 problems", "1,000 problems"), strict=True):
        expected = [stats.power(0.25, NOISE, problems, seeds) for seeds in (1, 3, 10)]
        assert row == [name, *(f"{share:.0%}" for share in expected)]


def test_false_alarms_are_told_for_each_number_of_trainings():
    told = measuring.error_rate_sentence((3, 10), NOISE, 20)
    for seeds in (3, 10):
        rate = stats.simulated_error_rate(NOISE, 20, seeds, trials=400)
        assert f"{seeds} trainings {rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]" in told
    assert told.startswith("Simulated with 20 problems")


def answered(**arms):
    """Right and wrong answers by method, a list a seed; the base has one seed."""
    rows = [
        (method, seed, f"p{i}", float(mark == "1"))
        for method, seeds in arms.items()
        for seed, marks in seeds.items()
        for i, mark in enumerate(marks)
    ]
    frame = pd.DataFrame(rows, columns=["method", "seed", "problem", "outcome"])
    return frame.assign(metric=EXPRESSION, test_language="sw", partition="")


def test_mcnemar_is_told_of_two_models_of_one_training():
    outcomes = answered(base={0: "0000000111"}, oracle={0: "1111111111", 1: "1111110011"})
    others = pd.concat([
        outcomes,
        outcomes.assign(metric="exact-match", outcome=0.0),
        outcomes.assign(test_language="en", outcome=1.0),
    ])  # fmt: skip
    told = measuring.mcnemar_sentence(others, EXPRESSION, "oracle", "base", "sw", seed=1)
    expected = stats.mcnemar(*(
        select(outcomes, method=method).query(f"seed == {seed}").assign(seed=0)
        for method, seed in (("oracle", 1), ("base", 0))
    ))  # fmt: skip
    assert (expected.only_a, expected.only_b, expected.both, expected.neither) == (6, 1, 2, 1)
    assert expected.p == pytest.approx(2 * (1 + 7) / 2**7)  # one or none of seven by chance, on either side
    assert told == (
        f"{words.label(ORACLE)} against Base, calculations right, training 1: only the first is right on 6 problems, only the "
        "second on 1 (both on 2, neither on 1); McNemar's exact p is 0.12."
    )
    other = measuring.mcnemar_sentence(others, EXPRESSION, "base", "oracle", "sw", seed=0)
    assert (
        f"Base against {words.label(ORACLE)}" in other
        and "only the first is right on 0 problems, only the second on 7" in other
    )
    assert f"p is {2 / 2**7:.2g}." in other


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 7}, r"No outcomes with seed 7; there are: 0, 1\."),
        ({"a": "orcale"}, r"No outcomes with method 'orcale'; there are: base, oracle\."),
        ({"b": "placebo"}, r"No outcomes with method 'placebo'; there are: base, oracle\."),
        ({"metric": "choice"}, rf"No outcomes with metric 'choice'; there are: {EXPRESSION}\."),
        ({"test_language": "bn"}, r"No outcomes with test_language 'bn'; there are: sw\."),
    ],
)
def test_mcnemar_of_what_is_not_there(changed, message):
    outcomes = answered(base={0: "01"}, oracle={0: "11", 1: "10"})
    asked = {"metric": EXPRESSION, "a": "oracle", "b": "base", "test_language": "sw", "seed": 1}
    with pytest.raises(RequestError, match=message):
        measuring.mcnemar_sentence(outcomes, **asked | changed)
    with pytest.raises(RequestError, match="there are: none at all"):
        measuring.mcnemar_sentence(outcomes.head(0), **asked)


def uncorrected(found, metric="nll"):
    """Contrasts with each difference's own p, the arms being named by letters: as contrasts() makes them before correction."""
    rows = [
        (name, "", "base", "", "sw", metric, d.value, d.low, d.high, d.n, d.seeds, 1.0 if d.p is None else d.p)
        for name, d in found.items()
    ]
    columns = [*comparisons.ARMS, "test_language", "metric", "difference", "low", "high", "n", "seeds", "p"]
    return pd.DataFrame(rows, columns=columns)


def test_corrected_and_uncorrected_differences_are_counted():
    found = {
        "a": Interval(1, 0.5, 1.5, 9, p=0.01),
        "b": Interval(-1, -2, -0.1, 9, p=0.04),
        "c": Interval(1, -1, 3, 9, p=0.4),
    }
    assert measuring.corrected_sentence(comparisons.corrected(uncorrected(found))) == (
        "Of 3 comparisons 2 have an interval that excludes zero; after Holm's correction 1 are shown."
    )


# --- Holm in the contrasts -------------------------------------------------------------------------------


def test_verdicts_are_holm_s():
    def interval(value, p):
        return Interval(value, value - 0.05, value + 0.05, 50, p=p)

    found = {"a": interval(-0.2, 0.012), "b": interval(0.2, 0.03), "c": interval(0.1, 0.01), "d": interval(0.1, 0.02)}
    table = comparisons.corrected(uncorrected(found)).set_index("method_a")
    # By size 0.01 * 4, 0.012 * 3, 0.02 * 2, 0.03 * 1, none below the one before.
    assert table["p"].to_dict() == pytest.approx({"a": 0.04, "b": 0.04, "c": 0.04, "d": 0.04})
    assert table["verdict"].to_dict() == {"a": "better", "b": "worse", "c": "worse", "d": "worse"}
    found |= {"b": interval(0.2, 0.04), "e": Interval(0.0, -0.1, 0.1, 50, p=None)}
    table = comparisons.corrected(uncorrected(found)).set_index("method_a")
    # Now 0.01 * 5, 0.012 * 4, 0.02 * 3, 0.04 * 2, and what was not tested: counted as a comparison, never shown.
    assert table["p"].to_dict() == pytest.approx({"a": 0.05, "b": 0.08, "c": 0.05, "d": 0.06, "e": 1.0})
    assert set(table["verdict"]) == {"not shown"}, "shown is what is below 5 %, and a p of just that is not"
    assert table.loc["b", ["low", "high"]].tolist() == pytest.approx([0.15, 0.25]), "intervals are not corrected"
    alone = comparisons.corrected(uncorrected({"b": found["b"]}, EXPRESSION))
    assert (alone["p"][0], alone["verdict"][0]) == (0.04, "better")  # of this reading more is better


def test_a_p_of_just_5_percent_is_not_shown():
    found = Interval(-0.2, -0.3, -0.1, 50)
    assert [comparisons.verdict(found, "nll", p) for p in (0.0499, 0.05, 0.0501)] == [
        "better",
        "not shown",
        "not shown",
    ]


def test_what_was_not_tested_is_a_comparison_and_never_shown():
    one = pd.DataFrame([("a", 0, "p", 1.0), ("base", 0, "p", 0.0)], columns=["method", "seed", "problem", "outcome"])
    outcomes = one.assign(partition="", metric="nll", test_language="sw")
    row = comparisons.contrasts(outcomes, [(("a", ""), comparisons.BASE)], "sw", ["nll"]).iloc[0]
    assert (row["difference"], row["p"], row["verdict"]) == (1.0, 1.0, "not shown")


def test_each_contrast_to_the_base_is_a_family_of_its_own():
    rng = np.random.default_rng(0)
    rows = [
        (method, code, f"p{i}", value)
        for method in ("base", "a", "b")
        for code in ("en", "sw")
        for i, value in enumerate(rng.normal(size=20))
    ]
    outcomes = pd.DataFrame(rows, columns=["method", "test_language", "problem", "outcome"])
    outcomes = outcomes.assign(seed=0, partition="", metric="nll")
    table = comparisons.against_base(outcomes, ["nll"])
    assert list(zip(table["test_language"], table["method_a"], strict=True)) == [
        ("sw", "a"), ("sw", "b"), ("en", "a"), ("en", "b"),
    ]  # fmt: skip
    for row in table.itertuples():
        alone = comparisons.contrast(outcomes, (row.method_a, ""), comparisons.BASE, "nll", row.test_language)
        assert (row.difference, row.p) == (alone.value, alone.p)


def test_contrasts_are_corrected_within_each_reading():
    rng = np.random.default_rng(1)
    arms = ["base", "math-only", "language-only", "soup"]
    rows = [
        (metric, method, 0, f"p{i}", shift + value)
        for metric in ("nll", EXPRESSION)
        for method, shift in zip(arms, (0, -0.3, -0.26, 0.02), strict=True)
        for i, value in enumerate(rng.normal(0, 0.6, 40))
    ]
    outcomes = pd.DataFrame(rows, columns=["metric", "method", "seed", "problem", "outcome"])
    outcomes = outcomes.assign(partition="", test_language="sw")
    pairs = [((arm, ""), ("base", "")) for arm in arms[1:]]
    table = comparisons.contrasts(outcomes, pairs, "sw", ["nll", EXPRESSION])
    assert list(table["metric"]) == ["nll", EXPRESSION] * 3
    for metric, part in table.groupby("metric"):
        alone = {
            arm: stats.paired_difference(*(select(outcomes, metric=metric, method=method) for method in (arm, "base")))
            for arm in arms[1:]
        }
        least = 0.0
        for rank, (arm, found) in enumerate(sorted(alone.items(), key=lambda item: item[1].p)):
            least = max(least, min(1.0, (3 - rank) * found.p))
            row = part.set_index("method_a").loc[arm]
            assert tuple(row[["partition_a", "method_b", "partition_b", "test_language"]]) == ("", "base", "", "sw")
            assert row["p"] == pytest.approx(least)
            better = (found.value > 0) == READINGS[metric].higher_is_better
            shown = found.excludes_zero and least < 0.05
            assert row["verdict"] == (("better" if better else "worse") if shown else "not shown")


# --- tables and figures ----------------------------------------------------------------------------------


def test_the_table_of_readings():
    head, *rows = cells(measuring.readings_table())
    assert head == ["", "an outcome is", "unit", "better", "generates"]
    found = {row[0]: row[2:] for row in rows}
    assert list(found) == [READINGS[metric].title for metric in CANDIDATES]
    assert found["NLL of the solution"] == ["nats per token", "lower", "no"]
    assert found["information gained"] == ["nats per token", "higher", "no"]
    assert found["right choice"] == ["%", "higher", "no"]
    assert found["final number right"] == ["%", "higher", "yes"]


def test_the_table_of_what_readings_are_worth():
    table = worth_of(("information", 2 / 3, -0.123, 1234, 9.04), ("nll", 1, float("nan"), None, None))
    table = table.assign(retest=[-0.5, float("nan")], effect=[1.234, 0.0], seconds=[12.6, 0.4])
    head, first, second = cells(measuring.validation_table(table))
    assert head[1:] == [
        "in order", "placebo’s share", "retest", "effect (sd)", "problems needed", "seconds a 100", "minutes needed",
    ]  # fmt: skip
    assert first == ["information gained", "67%", "−12%", "−0.50", "1.23", "1,234", "13", "9.04"]
    assert second == ["NLL of the solution", "100%", "–", "–", "0.00", "–", "0", "–"]


def test_the_table_of_a_validation_renders_whole(by_hand):
    _, *rows = cells(measuring.validation_table(by_hand.reset_index()))
    assert [row[0] for row in rows] == [READINGS[metric].title for metric in CANDIDATES]
    assert all(row[1:4] == ["50%", "10%", "0.60"] for row in rows)


@pytest.mark.parametrize("language", [code for code in templates.LANGUAGES if code != "en"])
def test_the_example_of_a_choice(language):
    problem = templates.problems(language, "development", 1)[0]
    told = measuring.choices_example(language)
    question, _, offered = told.split("\n")
    assert question == f"> {problem.question}"
    before, _, choices = offered.partition("… ")
    first, *others = choices.split(", ")
    assert first == f"**{problem.expressions[0]}**"
    a, _, b = problem.expressions[0].split(" ")
    expected = {f"{a} {op} {b}" for op in "+-*/"} | {f"{b} - {a}", f"{b} / {a}"}
    assert {first.strip("*"), *others} == expected and len(others) == 5
    assert problem.solution.startswith(before.removeprefix("> ") + problem.expressions[0])


def test_the_figure_has_a_panel_a_reading(outcomes_by_hand):
    outcomes = outcomes_by_hand
    title = measuring.validation_title(outcomes)
    assert title == "m, Swahili, development: 4 problems (4 by answer); 2 trainings of each"
    figure = measuring.validation_figure(measuring.validation_means(outcomes), title)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    arrows = ["↑" if READINGS[metric].higher_is_better else "↓" for metric in CANDIDATES]
    assert [axis.get_title().replace("\n", " ") for axis in shown] == [
        f"{READINGS[metric].title} {arrow}" for metric, arrow in zip(CANDIDATES, arrows, strict=True)
    ]
    for axis, metric in zip(shown, CANDIDATES, strict=True):
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["base", "placebo", "¼", "½", "oracle"]
        assert axis.get_ylabel().startswith("%" if READINGS[metric].unit == "%" else "nats")
    dots = [line.get_ydata()[0] for line in shown[0].lines if line.get_marker() == "o"]
    assert dots == pytest.approx([1.25, 1.25 - 0.05, 1.25 - 0.1, 1.25 - 0.45, 1.25 - 0.5])
    assert figure.get_suptitle() == title


def test_the_figure_s_title_says_how_many_are_answered():
    outcomes = validated({arm: table[:1] for arm, table in GAINS.items()})
    fewer = outcomes[(outcomes["metric"] != EXPRESSION) | (outcomes["problem"] < "development-000002")]
    assert measuring.validation_title(fewer).endswith("4 problems (2 by answer); one training of each")


def test_axes_say_unit_and_direction():
    for metric in CANDIDATES:
        label = figures.axis_label(metric)
        assert label.startswith(READINGS[metric].title)
        assert ("%" if READINGS[metric].unit == "%" else "nats per token") in label
    assert "lower is better" in figures.axis_label("nll") and "higher is better" in figures.axis_label("information")


# --- samples of the data ---------------------------------------------------------------------------------


def test_one_problem_in_every_language():
    _, *rows = cells(base_and_data.one_problem_everywhere("development", 2))
    assert [row[0] for row in rows] == [LANGUAGE_NAMES[code] for code in templates.LANGUAGES]
    for row, code in zip(rows, templates.LANGUAGES, strict=True):
        problem = templates.problems(code, "development", 3)[2]
        assert row[1:] == [problem.question, problem.solution]


@pytest.mark.parametrize("language", [code for code in templates.LANGUAGES if code != "en"])
def test_weaknesses_are_those_of_the_file(language):
    bullets = base_and_data.weaknesses(language).split("\n")
    assert len(bullets) > 1 and all(bullet.startswith("- ") for bullet in bullets)
    head = " ".join(templates.file_head(language))
    assert head.endswith(" ".join(bullets)) or f"{' '.join(bullets)} " in head
    assert head[: head.index(bullets[0])].count("Known weaknesses") == 1


def test_the_original_names_no_weaknesses():
    told = base_and_data.weaknesses("en")
    assert told == "The English file names no weaknesses: it is the original from which the others were translated."
    with pytest.raises(RequestError, match="language"):
        base_and_data.weaknesses("xx")


def test_tables_of_the_corpora():
    _, *generic = cells(base_and_data.generic_table())
    assert [row[0] for row in generic] == [LANGUAGE_NAMES[code] for code in templates.GENERIC_LANGUAGES]
    for row, code in zip(generic, templates.GENERIC_LANGUAGES, strict=True):
        kinds = templates.generic_kinds(code)
        assert row[1:] == [str(len(kinds)), ", ".join(kinds)]
    head, *corpora = cells(base_and_data.corpora_table())
    assert head[1:] == ["kind", "languages", "on the Hugging Face hub", "licence"]
    assert [row[0] for row in corpora] == list(SOURCES)
    assert {row[0] for row in corpora if row[3] == "ships with xlnb"} == {"templates", "templates-generic"}


# --- the models behind it, on a small smoke study --------------------------------------------------------

# Four steps, so that a quarter of them is one; shorter texts than smoke has, for speed: nothing is learned anyway.
SMALL = replace(
    PROFILES["smoke"],
    training=replace(PROFILES["smoke"].training, steps=4),
    evaluation=replace(PROFILES["smoke"].evaluation, problems=4, generated=2, shots=0, max_new_tokens=4, batch_size=32),
    development=3,
)
SEEDS = (0, 1)
ARMS = ["base", PLACEBO, *BUDGETS]


def second_training(study):
    """What publish asks of a study, as another training would answer it: the base's outcomes, and others a little moved."""
    outcomes = study.outcomes(VALIDATION)
    trained = (outcomes["method"] != "base").astype(int)
    moved = outcomes.assign(seed=trained, outcome=outcomes["outcome"] + 0.01 * trained)
    return SimpleNamespace(
        profile=study.profile,
        language=study.language,
        seed=1,
        outcomes=lambda *asks: moved,
        cells=lambda ask: [],
        costs=study.costs,
        history=study.history,
        spec=lambda experts: {**study.spec(experts), "seed": 1},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory, one_thread):
    """A home with the experiment of a small smoke study, published together with a second training of it."""
    home = tmp_path_factory.mktemp("measuring")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        study = Study(SMALL)
        committing.publish([study, second_training(study)], MEASURING, experiment=MEASURING)
        yield home


@pytest.fixture
def nothing_to_compute(home, monkeypatch):
    """Whoever trains or evaluates fails."""

    def fail(*arguments, **options):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(study_module, "evaluate", fail)
    monkeypatch.setattr("xlnb.training.sft.fit", fail)


@pytest.fixture
def committed_folder(home, tmp_path):
    """The published results alone, in a folder of the test's own."""
    shutil.copytree(home / "book" / "results" / MEASURING, tmp_path / MEASURING)
    return tmp_path


def test_base_placebo_and_oracles_are_read_by_every_reading(nothing_to_compute):
    outcomes = Study(SMALL).outcomes(VALIDATION)
    assert list(outcomes.columns) == COLUMNS
    assert list(dict.fromkeys(outcomes["method"])) == ARMS
    assert set(outcomes["metric"]) == set(CANDIDATES)
    asked = {"split": {"development"}, "test_language": {"sw"}, "shots": {0}, "benchmark": {"templates"}, "seed": {0}}
    assert {column: set(outcomes[column]) for column in asked} == asked
    problems = outcomes.groupby(["method", "metric"])["problem"].apply(tuple)
    assert len(problems) == len(ARMS) * len(CANDIDATES)
    for (_, metric), names in problems.items():
        n = 3 if READINGS[metric].generates else 4  # answers to as many as the profile tries things out on
        assert names == tuple(f"development-{i:06d}" for i in range(n))
    assert outcomes["text"].notna().equals(outcomes["metric"].map(lambda metric: READINGS[metric].generates))


def test_every_arm_is_another_model(nothing_to_compute):
    nll = select(Study(SMALL).outcomes(VALIDATION), metric="nll")
    scored = nll.groupby("method")["outcome"].apply(tuple)
    assert len(set(scored)) == len(scored) == len(ARMS)


@pytest.mark.parametrize("profile", ["smoke", "pocket"])
def test_budgets_are_shares_of_the_steps_and_change_nothing_else(profile):
    study = Study(PROFILES[profile])
    full = study.profile.training
    assert study.training(ORACLE) == study.training(PLACEBO) == study.training("math-only") == full
    for slug, share in (("oracle-quarter", 1 / 4), ("oracle-half", 1 / 2)):
        assert abs(study.training(slug).steps - share * full.steps) <= 0.5
        assert replace(study.training(slug), steps=full.steps) == full


def test_oracles_were_trained_for_their_budgets(home, nothing_to_compute):
    steps = {"oracle-quarter": 1, "oracle-half": 2, ORACLE: 4, PLACEBO: 4}
    training = pd.read_parquet(home / "book" / "results" / MEASURING / "training.parquet")
    assert training.groupby(["expert", "seed"]).size().to_dict() == {
        (slug, seed): n for slug, n in steps.items() for seed in SEEDS
    }
    study = Study(SMALL)
    assert {slug: len(study.history(slug)) for slug in steps} == steps
    assert len({study.expert(slug) for slug in steps}) == 4


def test_a_budget_is_at_least_one_step():
    short = replace(SMALL, training=replace(SMALL.training, steps=1))
    assert {Study(short).training(slug).steps for slug in BUDGETS} == {1}


@pytest.mark.parametrize("language", templates.GENERIC_LANGUAGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_placebo_has_the_oracle_s_problems_with_solutions_of_others(language, seed):
    study = Study(PROFILES["pocket"], language, seed)
    oracle, placebo = (study.training_examples(slug) for slug in (ORACLE, PLACEBO))
    assert len(oracle) == len(placebo) == study.profile.examples
    assert oracle == templates.math_examples(language, "train", study.profile.examples, seed)
    assert all(study.training_examples(slug) == oracle for slug in BUDGETS)
    assert [e.prompt for e in placebo] == [e.prompt for e in oracle]
    frames = {}
    for example in oracle:
        frames.setdefault(example.completion, set()).add(example.kind)
    for own, other in zip(oracle, placebo, strict=True):
        assert other.completion != own.completion
        assert frames[other.completion] and own.kind not in frames[other.completion], "a solution of another frame"


def test_the_placebo_is_no_oracle_by_its_specification(nothing_to_compute):
    study = Study(SMALL)
    specs = {slug: study.expert_spec(slug) for slug in (ORACLE, PLACEBO, *BUDGETS)}
    assert len({artifacts.digest(spec) for spec in specs.values()}) == 4


def test_costs_have_a_row_a_group_and_are_not_measured_again(home, nothing_to_compute):
    costs = Study(SMALL).costs()
    assert list(costs.columns) == ["profile", "language", "readings", "problems", "seconds"]
    assert list(costs["readings"]) == list(COST_GROUPS)
    assert set(costs["problems"]) == {3} and set(costs["profile"]) == {"smoke"} and set(costs["language"]) == {"sw"}
    assert (costs["seconds"] >= 0).all()  # kept to a tenth: so small a model may take none
    pd.testing.assert_frame_equal(Study(SMALL, "sw", 7).costs(), costs)  # the base is the same for every seed


def test_the_published_result_is_whole(home):
    out = home / "book" / "results" / MEASURING
    assert sorted(path.name for path in out.iterdir()) == [
        "costs.parquet", "outcomes.parquet", "provenance.json", "training.parquet",
    ]  # fmt: skip
    outcomes = results.load_outcomes(out.parent, MEASURING)
    assert not outcomes.duplicated([*results.KEYS, "problem"]).any()
    assert len(outcomes) == (1 + 2 * (len(ARMS) - 1)) * (6 * 4 + 3 * 3), "the base counts once"
    spec = artifacts.read_json(out / "provenance.json")["spec"]
    assert spec["experiment"] == MEASURING
    assert [set(study["experts"]) for study in spec["studies"]] == [{PLACEBO, *BUDGETS}] * 2
    assert len(pd.read_parquet(out / "costs.parquet")) == len(COST_GROUPS), "costs of the same base, once"


@pytest.mark.parametrize("seed", SEEDS)
def test_committed_and_live_say_the_same(committed_folder, seed, nothing_to_compute):
    live, committed = Study(SMALL), Study(SMALL, "sw", seed, live=False, results=committed_folder)
    live = live if seed == 0 else second_training(live)
    order = ["metric", "method", "problem"]
    expected, found = (
        one.outcomes(VALIDATION).sort_values(order, ignore_index=True)[COLUMNS] for one in (live, committed)
    )
    texts = [one.pop("text").fillna("").tolist() for one in (expected, found)]  # how "none" is stored may differ
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    pd.testing.assert_frame_equal(committed.costs(), live.costs(), check_exact=True)


def test_a_language_may_have_been_measured_and_nothing_else(committed_folder, nothing_to_compute):
    study = Study(SMALL, live=False, results=committed_folder)
    shutil.copytree(committed_folder / MEASURING, committed_folder / "first-swap-bn")
    other = pd.read_parquet(committed_folder / MEASURING / "outcomes.parquet").assign(language="bn")
    other.to_parquet(committed_folder / "first-swap-bn" / "outcomes.parquet")
    assert set(study.outcomes(VALIDATION)["method"]) == set(ARMS)
    with pytest.raises(RequestError, match=r"base in en is not committed with nll.*language sw, seed 0\): run live"):
        study.outcomes()


def test_costs_that_are_not_committed(committed_folder, tmp_path):
    assert load_costs(committed_folder, language="bn").empty
    with pytest.raises(RequestError, match=r"No costs of readings in .*: it holds no measuring with a costs\.parquet"):
        load_costs(tmp_path / "nothing")
    with pytest.raises(RequestError, match="no column 'reading'"):
        load_costs(committed_folder, reading="nll")


def test_a_result_of_measuring_is_named_so(home):
    with pytest.raises(
        RequestError, match="A result of measuring is named measuring or measuring-SOMETHING, not 'costs'"
    ):
        committing.publish([], "costs", experiment=MEASURING)


def test_the_chapter_s_numbers_are_means_of_the_outcomes(committed_folder, nothing_to_compute):
    outcomes = results.load_outcomes(committed_folder, MEASURING)
    costs = load_costs(committed_folder)
    worth = measuring.validation(outcomes, costs).set_index("metric")
    means = outcomes.groupby(["metric", "method", "seed"])["outcome"].mean()
    for metric in CANDIDATES:
        sign = 1 if READINGS[metric].higher_is_better else -1
        base = means[metric, "base", 0]
        gains = [[sign * (means[metric, arm, seed] - base) for seed in SEEDS] for arm in (*BUDGETS, PLACEBO)]
        *oracles, placebo = gains
        in_order = [0 < a < b < c for a, b, c in zip(*oracles, strict=True)]
        assert worth.loc[metric, "ordered"] == np.mean(in_order)
        gain = np.mean(oracles[-1])
        assert worth.loc[metric, "gain"] == pytest.approx(gain * READINGS[metric].scale)
        found = stats.paired_difference(*(select(outcomes, metric=metric, method=arm) for arm in (ORACLE, "base")))
        shown = found.low > 0 if sign > 0 else found.high < 0
        share = np.mean(placebo) / gain if shown else np.nan
        assert worth.loc[metric, "placebo"] == pytest.approx(share, nan_ok=True)
        rate = min(row.seconds / row.problems for row in costs.itertuples() if metric in COST_GROUPS[row.readings])
        assert worth.loc[metric, "seconds"] == pytest.approx(100 * rate)
    assert re.match(r"- Not in order in every training: ", measuring.validation_reading(worth.reset_index()))


def test_generated_answers_are_read_again_as_they_were(committed_folder):
    answers = measuring.reread(select(results.load_outcomes(committed_folder, MEASURING), seed=0))
    assert len(answers) == len(ARMS) * 3
    assert list(answers["xlnb"]) == list(answers["outcome"] == 1)
    assert measuring.referee_reading(answers).startswith(
        f"Of 15 answers we count {answers['outcome'].sum():.0f} right."
    )
