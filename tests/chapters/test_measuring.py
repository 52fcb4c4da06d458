"""The chapter on measuring: what it computes, by hand; what it says of it; and the models behind it, on a small smoke study."""

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb import artifacts, stats
from xlnb.chapters import budgets, figures, measuring, pictures, words
from xlnb.chapters.measuring import CANDIDATES, MOST_FORMAT
from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.harness import FLEXIBLE, STRICT, harness_counts_right
from xlnb.evaluation.readings import (
    CALIBRATED,
    CHOICE,
    COST_GROUPS,
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_NLL,
    PRIMARY,
    READINGS,
    TWIN_CHOICE,
    TWIN_INFORMATION,
    TWINS,
    VALIDATED,
    calibrated,
)
from xlnb.evaluation.shortcuts import EXACT, FIRST
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.stats import Components
from xlnb.studies import claims, committing
from xlnb.studies import outcomes as results
from xlnb.studies import study as study_module
from xlnb.studies.comparisons import BASE, BETTER, NOT_SHOWN, UNJUDGED, WORSE, judged
from xlnb.studies.experiments import MEASURING, VALIDATION
from xlnb.studies.outcomes import COLUMNS, costs_for, load_costs, select
from xlnb.studies.profiles import PROFILES
from xlnb.studies.study import Study

BUDGETS = tuple(ORACLE_BUDGETS)
FOREST = pd.Series(
    {FIRST: 1.45, EXACT: 1.25}
)  # of a base of 1.25 and an oracle that gains 2: a tenth of it, and nothing
REAL_FOREST = measuring._forest


@pytest.fixture(scope="module", autouse=True)
def known_forest():
    """What a forest gets by the numbers alone is said, not computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_forest", lambda language: FOREST)
        yield


@pytest.fixture
def real_forest(monkeypatch):
    """What a forest gets by the numbers alone is computed, as in the book."""
    monkeypatch.setattr(measuring, "_forest", REAL_FOREST)


def cells(shown):
    """The rows of a table as a browser gets them, its head first."""
    page = BeautifulSoup(shown.html, "html.parser")
    return [[cell.get_text("\n") for cell in row.find_all(["td", "th"])] for row in page.table.find_all("tr")]


def caption(shown):
    return BeautifulSoup(shown.html, "html.parser").figcaption.get_text()


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


def test_a_reader_s_own_ways_to_answer():
    shown = measuring.ways_table([("bn", "উত্তর হল ১৮।", 18), ("sw", "Jibu ni 17.", 18)], number=3)
    _, bengali, swahili = cells(shown)
    assert bengali[2:] == ["18", "18 ✓", "[invalid] ✗", "[invalid] ✗"]
    assert swahili[2:] == ["18", "17 ✗", "17. ✗", "17. ✗"]
    assert 'lang="bn"' in shown.html and caption(shown).startswith("Table 3. ")


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
        ["language", "solutions", "xlnb", "harness, strict", "harness, flexible"],
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


def test_the_referee_s_counts_by_language():
    head, *rows = cells(measuring.referee_table(measuring.reread(generated()[0])))
    assert head[3:5] == ["of these, harness, strict", "of these, harness, flexible"]
    assert rows == [
        ["English", "3", "0", "0", "0", "1"],  # the strict filter counts one that we do not
        ["Swahili", "3", "3", "2", "1", "0"],
        ["Bengali", "2", "2", "0", "1", "0"],
        ["Telugu", "1", "1", "0", "0", "0"],
    ]


def test_the_referee_s_examples():
    answers = measuring.reread(generated()[0])
    head, *rows = cells(measuring.referee_examples(answers))
    assert head == ["language", "answer", "right is", "harness"]
    ending = f"… {answers['text'][2][-90:]}"
    assert ["Swahili", ending, str(gold("en", "scored", 3)), "harness, strict: wrong"] in rows
    assert ["English", answers["text"][6], str(gold("en", "development", 2)), "harness, strict: right"] in rows
    kinds = [(row[0], row[3]) for row in rows]
    assert max(map(kinds.count, kinds)) <= 2
    assert all((row[3].endswith("right")) == (row[0] == "English") for row in rows)


def test_the_harness_is_told_by_the_right_answers_alone():
    answers = measuring.reread(generated()[0])
    assert measuring.harness_sentence(answers, "bn") == (
        "Of the 2 answers in Bengali that are right, lm-evaluation-harness counts 0 by its strict filter and 1 by the flexible "
        "one."
    )
    assert measuring.harness_sentence(answers, "sw").startswith("Of the 3 answers in Swahili that are right")
    assert "counts 0" in measuring.harness_sentence(answers, "en"), "what it counts and is wrong, is not among them"


# --- what a metric is worth, by hand ----------------------------------------------------------------------

# Of three trainings (rows) and four problems: what each arm gains over the base.
ORACLE_GAINS = 1.5 + np.array([[0.2, 0.4, 0.6, 0.8], [0.4, 0.2, 0.8, 0.6], [0.3, 0.3, 0.7, 0.7]])
GAINS = {
    "oracle-quarter": np.full((3, 4), 0.1),
    "oracle-half": np.array([[0.3] * 4, [2.4] * 4, [0.3] * 4]),  # in the second training it gains more than the oracle
    ORACLE: ORACLE_GAINS,
    PLACEBO: np.array([[0.0, 0.4, 0.0, 0.4], [0.4, 0.0, 0.4, 0.0], [0.2] * 4]),
}
USUAL_BASE = np.array([[0.5, 1.0, 1.5, 2.0]])
ONE_TRAINING = {arm: table[:1] for arm, table in GAINS.items()}
COSTS = pd.DataFrame(
    [
        ("likelihood", 100, 20.0),
        ("likelihood and forced choice", 100, 80.0),
        ("information", 50, 25.0),
        ("twin-information", 50, 20.0),
        ("twins", 100, 45.0),
        ("calibrated likelihood", 100, 30.0),
        ("calibrated information", 100, 70.0),
        ("calibrated twin-information", 100, 60.0),
        ("generation", 10, 60.0),
    ],
    columns=["readings", "problems", "seconds"],
).assign(profile="pocket", language="sw")
SECONDS = dict(
    zip(CANDIDATES, (20, 20, 50, 50, 40, 45, 80, 80, 600, 600, 600, 30, 30, 70, 70, 60), strict=True)
)  # a 100 problems
NUMBERS = dict.fromkeys((*TWINS, EXPRESSION_NLL, PRIMARY, EXPRESSION, EXACT_MATCH), 0.0) | {CHOICE: 0.1}  # others: none
NUMBERS |= {new: 0.0 for new, old in CALIBRATED.items() if old in NUMBERS}


def validated(gains=GAINS, metrics=CANDIDATES, language="sw", base=USUAL_BASE):
    """Outcomes as a study's validation has them, with these gains on every metric, the base with one seed alone."""
    tables = []
    for metric in metrics:
        sign = 1 if READINGS[metric].higher_is_better else -1
        arms = {"base": base} | {arm: base + sign * np.asarray(gain, float) for arm, gain in gains.items()}
        for arm, table in arms.items():
            rows = [(seed, f"development-{p:06d}", value) for (seed, p), value in np.ndenumerate(table)]
            frame = pd.DataFrame(rows, columns=["seed", "problem", "outcome"])
            tables.append(
                frame.assign(metric=metric, method=arm, partition="", test_language=language, language=language)
            )
    return pd.concat(tables, ignore_index=True).assign(benchmark="templates", split="development", shots=2, model="m")


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
def test_what_a_metric_is_worth(by_hand, metric):
    row = by_hand.loc[metric]
    scale = 100 if READINGS[metric].unit == "%" else 1
    assert row["ordered"] == pytest.approx(2 / 3)
    assert row["gain"] == pytest.approx(scale * 2.0)
    assert (row["verdict"], row["apart"]) == (BETTER, BETTER)
    assert row["placebo"] == pytest.approx(0.2 / 2)
    assert row["numbers"] == pytest.approx(NUMBERS.get(metric, float("nan")), nan_ok=True)
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15). Each with 1.5 1.5 3.5 3.5: 4 over the root of 5 * 4.
    assert row["retest"] == pytest.approx((0.6 + 2 * 4 / 20**0.5) / 3)
    assert row["effect"] == pytest.approx(2 / (4 * 0.2**2 / 3) ** 0.5)  # problem means 1.8, 1.8, 2.2, 2.2
    # 0.08 is the sum of squares that trainings and problems leave; all trainings have the mean 2.
    components = Components(seed=0.0, problem=0.16 / 3 - 0.08 / 6 / 3, residual=0.08 / 6, seeds=3)
    assert row["problems"] == stats.needed_problems(0.25 * 2, components, 3)
    assert row["seconds"] == pytest.approx(SECONDS[metric])
    assert row["minutes"] == pytest.approx(row["problems"] * SECONDS[metric] / 100 / 60)


def test_what_a_reading_is_worth_agrees_with_the_statistics():
    rng = np.random.default_rng(0)
    gains = {arm: rng.normal(4 * share, 0.3, (3, 40)) for arm, share in {**ORACLE_BUDGETS, PLACEBO: 0.1}.items()}
    outcomes = validated(gains, base=np.zeros((1, 40)))
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
    parts = [validated(ONE_TRAINING, [m for m in CANDIDATES if m not in cases])]
    for metric, (*means, _) in cases.items():
        gains = {arm: np.array(mean)[:, None] + steady for arm, mean in zip(BUDGETS, means, strict=True)}
        parts.append(validated(gains | {PLACEBO: np.zeros((3, 4))}, [metric]))
    ordered = measuring.validation(pd.concat(parts), COSTS).set_index("metric")["ordered"]
    assert {metric: ordered[metric] for metric in cases} == pytest.approx({m: case[-1] for m, case in cases.items()})


def test_a_metric_by_which_no_gain_of_the_oracle_is_significant_has_no_share_and_no_number():
    cases = [
        -ORACLE_GAINS,
        np.zeros((3, 4)),
        np.array([[0.9, -0.3, 0.9, -0.3]] * 3),  # 0.3 on average, and zero is in the interval
    ]
    parts = [validated(GAINS | {ORACLE: cases[i % 3]}, [metric]) for i, metric in enumerate(CANDIDATES)]
    worth = measuring.validation(pd.concat(parts), COSTS)
    gains = [cases[i % 3].mean() * READINGS[metric].scale for i, metric in enumerate(CANDIDATES)]
    assert worth["gain"].to_numpy() == pytest.approx(gains)
    assert list(worth["verdict"]) == [(WORSE, NOT_SHOWN, NOT_SHOWN)[i % 3] for i in range(len(CANDIDATES))]
    numbers = ["placebo", "numbers", "problems", "minutes"]
    assert worth[numbers].isna().all(axis=None)
    assert {worth[column].dtype.kind for column in numbers} == {"f"}, "numbers, none a None"
    assert measuring.best_reading(worth) is None


def test_a_gain_is_significant_after_the_correction_for_all_metrics_or_not_at_all():
    """A gain whose own interval excludes zero, and which Holm over all metrics takes away."""
    faint = np.array([[0.9, 1.1, 1.2, 0.8]] * 3) * 0.3 + np.array([[0.04], [0.0], [-0.04]])
    alone = stats.crossed_interval(faint)
    assert alone.low > 0 and 0.05 / len(CANDIDATES) < alone.p < 0.05
    outcomes = pd.concat([
        validated(GAINS | {ORACLE: faint}, ["nll"]),
        validated(GAINS | {ORACLE: np.zeros((3, 4))}, [metric for metric in CANDIDATES if metric != "nll"]),
    ])  # fmt: skip
    row = measuring.validation(outcomes, COSTS).set_index("metric").loc["nll"]
    assert row["verdict"] == NOT_SHOWN and np.isnan(row["placebo"])


def test_one_or_two_trainings_have_no_verdict_no_share_and_no_number():
    for count in (1, 2):
        worth = measuring.validation(validated({arm: table[:count] for arm, table in GAINS.items()}), COSTS)
        assert {*worth["verdict"], *worth["apart"]} == {UNJUDGED}
        assert worth["placebo"].isna().all() and worth["problems"].isna().all()
        assert measuring.best_reading(worth) is None
        assert "have no verdict" in measuring.validation_reading(worth)
    assert measuring.validation(validated(ONE_TRAINING), COSTS)["retest"].isna().all()
    assert set(measuring.validation(validated(ONE_TRAINING), COSTS)["ordered"]) == {1.0}


def test_a_reading_costs_what_the_cheapest_way_to_it_costs(outcomes_by_hand):
    costs = COSTS.assign(seconds=[90.0, *COSTS["seconds"][1:]])  # likelihood alone dearer than with forced choice
    worth = measuring.validation(outcomes_by_hand, costs).set_index("metric")
    assert worth.loc["nll", "seconds"] == worth.loc["choice", "seconds"] == pytest.approx(80)


def test_effects_are_gains_in_standard_deviations_of_the_oracle_s(outcomes_by_hand):
    found = measuring.effects(outcomes_by_hand).set_index(["metric", "method"])
    assert len(found) == len(CANDIDATES) * 4
    spread = (4 * 0.2**2 / 3) ** 0.5
    for metric in CANDIDATES:  # whichever way the metric points
        for arm, gain in (("oracle-quarter", 0.1), ("oracle-half", 1.0), (ORACLE, 2.0), (PLACEBO, 0.2)):
            row = found.loc[(metric, arm)]
            assert row["value"] == pytest.approx(gain / spread)
            interval = stats.crossed_interval(GAINS[arm])
            assert (row["low"], row["high"]) == pytest.approx((interval.low / spread, interval.high / spread))


def test_effects_without_a_spread():
    alike = {arm: np.full((3, 4), 0.5) for arm in GAINS}
    assert measuring.effects(validated(alike))["value"].isna().all(), "all problems gain alike: no unit"
    nothing = {arm: np.zeros((3, 4)) for arm in GAINS}
    assert set(measuring.effects(validated(nothing))["value"]) == {0.0}


@pytest.mark.parametrize(("share", "fooled"), [(0.24, False), (0.26, True), (-0.5, False), (1.4, True)])
def test_the_placebo_fools_a_metric_by_more_than_a_quarter(share, fooled):
    found = measuring.effects(validated(GAINS | {PLACEBO: share * ORACLE_GAINS}))
    for metric in CANDIDATES:
        assert measuring.is_fooled(found[found["metric"] == metric]) is fooled


# --- what the numbers alone give --------------------------------------------------------------------------


def gained(**gains):
    """Outcomes in which the oracle gains as much by a metric as is said here, and 2 by the others."""
    parts = [validated(GAINS, [metric for metric in CANDIDATES if metric.replace("-", "_") not in gains])]
    for name, gain in gains.items():
        parts.append(validated(GAINS | {ORACLE: ORACLE_GAINS - 2 + gain}, [name.replace("_", "-")]))
    return pd.concat(parts)


@pytest.mark.parametrize(("on_the_twin", "share"), [(0.0, 1.0), (2.0, 0.0), (0.5, 0.75), (-0.5, 1.25)])
def test_what_is_not_gained_on_the_twin_s_text_the_numbers_give(on_the_twin, share):
    plain = measuring.numbers_alone(gained(twin_information=on_the_twin))
    assert [plain[metric] for metric in (EXPRESSION_NLL, PRIMARY)] == pytest.approx([share] * 2)
    assert plain[calibrated(PRIMARY)] == plain[calibrated(EXPRESSION_NLL)] == 0, "by its own twins"
    own = measuring.numbers_alone(gained(calibrated_twin_information=on_the_twin))
    assert [own[calibrated(metric)] for metric in (EXPRESSION_NLL, PRIMARY)] == pytest.approx([share] * 2)
    assert own[PRIMARY] == 0
    for found in (plain, own):
        assert {found[metric] for metric in (*TWINS, calibrated(TWIN_INFORMATION))} == {0.0}, (
            "words alone tell them apart"
        )
        assert set(found) == set(NUMBERS), "no reader of numbers is defined for the others"


def test_where_answers_are_counted_a_forest_reads_the_numbers():
    found = measuring.numbers_alone(gained(choice=0.5, expression=-2.0, exact_match=0.0))
    assert found[CHOICE] == pytest.approx((1.45 - 1.25) / 0.5), "of the base it has what is above it"
    assert found[EXPRESSION] == 0 and np.isnan(found[EXACT_MATCH]), "of no gain there is no share"
    assert np.isnan(measuring.numbers_alone(gained(expression_information=0.0))[PRIMARY])


def test_a_forest_is_asked_about_the_language_s_development_problems(monkeypatch, real_forest):
    asked = []

    def shortcuts(language, split, readers):
        asked.append((language, split, readers))
        return pd.DataFrame({"asked": [FIRST, EXACT], "value": [0.3, 0.07]})

    monkeypatch.setattr(measuring, "shortcuts", shortcuts)
    REAL_FOREST.cache_clear()
    measuring.numbers_alone(validated(language="te"))
    assert measuring._forest("te").to_dict() == {FIRST: 0.3, EXACT: 0.07}
    assert asked == [("te", "development", ("numbers alone",))], "once"
    REAL_FOREST.cache_clear()


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


# --- in other languages ----------------------------------------------------------------------------------


def in_languages(**gains):
    """Outcomes of a study in each language with these gains on the primary metric, and what they cost."""
    usual = [metric for metric in CANDIDATES if metric != PRIMARY]
    outcomes = [
        pd.concat([validated(arms, [PRIMARY], code), validated(GAINS, usual, code)]) for code, arms in gains.items()
    ]
    return pd.concat(outcomes), pd.concat([COSTS.assign(language=code) for code in gains])


STEADY = {arm: np.array([[0.9, 1.1, 0.9, 1.1]] * 3) * share for arm, share in ORACLE_BUDGETS.items()}
NO_FORMAT = {PLACEBO: np.array([[-0.2, 0.0, -0.2, 0.0]] * 3)}
ONCE = {arm: table[:1] for arm, table in (STEADY | NO_FORMAT).items()}


def test_a_metric_in_each_language_by_hand():
    outcomes, costs = in_languages(te=GAINS, sw=STEADY | NO_FORMAT, bn=ONCE)
    found = measuring.by_language(outcomes, costs)
    assert list(found["language"]) == ["sw", "bn", "te"], "in the order of the book"
    assert list(found["trainings"]) == [3, 1, 3]
    assert list(found["ordered"]) == pytest.approx([1, 1, 2 / 3])
    assert list(found["verdict"]) == [BETTER, UNJUDGED, BETTER]
    assert list(found["gain"]) == pytest.approx([1.0, 1.0, 2.0])
    assert list(found["placebo"]) == pytest.approx([-0.1, -0.1, 0.2])
    for place, count in ((0, 3), (1, 1)):
        interval = stats.crossed_interval(np.array([[0.9, 1.1, 0.9, 1.1]] * count))
        assert (found["gain_low"][place], found["gain_high"][place]) == pytest.approx((interval.low, interval.high))
    alone = measuring.validation(select(outcomes, language="te"), COSTS).set_index("metric")
    assert found["problems"][2] == alone.loc[PRIMARY, "problems"]
    assert list(found["named"]) == [PRIMARY, "", ""], "the usual gains are out of order in one training of three"


def test_a_metric_of_which_less_is_better_gains_where_it_falls():
    found = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT), "nll")
    assert found["gain"][0] == pytest.approx(2.0) and found["placebo"][0] == pytest.approx(0.2)


def test_each_language_is_told_with_its_faults():
    nothing = {arm: np.array([[0.5, -0.5, 0.5, -0.5]] * 3) for arm in (*ORACLE_BUDGETS, PLACEBO)}
    fooled = {PLACEBO: np.array([[0.4, 0.6, 0.4, 0.6]] * 3)}
    arms = {"sw": STEADY | NO_FORMAT, "bn": STEADY | fooled, "te": GAINS, "de": nothing, "fr": ONCE}
    found = measuring.by_language(*in_languages(**arms))
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
    found = measuring.by_language(outcomes, costs)
    assert list(found["numbers"]) == pytest.approx([1 - 2 / 1, 1 - 0.1 / 1])
    assert list(found["named"]) == [PRIMARY, TWIN_INFORMATION], "the twins are told apart by words alone"
    assert measuring.by_language_reading(found) == (
        "In Swahili the primary metric passes. In Bengali it does **not** pass: a reader of the numbers alone has 90% of the "
        "oracle's gain."
    )
    _, swahili, bengali = cells(measuring.by_language_table(found))
    assert (swahili[-1], bengali[-1]) == ("yes", "no")


# --- the rule and its words ------------------------------------------------------------------------------


def worth_of(*rows, verdict=BETTER, apart=BETTER, numbers=0.0):
    """A table as validation gives it, of rows (metric, ordered, placebo, problems, minutes)."""
    table = pd.DataFrame(rows, columns=["metric", "ordered", "placebo", "problems", "minutes"])
    table = table.astype({"problems": float, "minutes": float})  # None becomes NaN
    return table.assign(gain=1.0, retest=0.5, effect=1.0, seconds=10.0, verdict=verdict, apart=apart, numbers=numbers)


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


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ([0.1, 0.9], GOOD),  # the cheaper one has a placebo of 0, and the numbers alone give it
        ([0.9, 0.1], OTHER),
        ([0.9, 0.9], None),
        ([0.1, float("nan")], GOOD),  # no reader of numbers is defined: it cannot qualify
        ([MOST_FORMAT, 0.26], GOOD),  # just at most
        ([-0.2, 1.1], GOOD),
    ],
)
def test_the_rule_asks_for_the_numbers_too(numbers, named):
    worth = worth_of((GOOD, 1, 0.0, 50, 9.0), (OTHER, 1, 0.0, 90, 2.0), numbers=numbers)
    assert measuring.best_reading(worth) == named
    assert measuring.best_reading(worth, most=2) == (OTHER if numbers[1] == numbers[1] else GOOD)


def test_the_rule_with_another_limit():
    worth = worth_of((GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, 0.6, 90, 2.0))
    assert [measuring.best_reading(worth, most=most) for most in (0.05, 0.25, 0.6)] == [None, GOOD, OTHER]


def test_the_metrics_are_told_by_the_rule():
    rows = [
        ("nll", 1, 0.8, 40, 1.0),
        ("expression-nll", 0.5, 0.3, 40, 1.0),
        ("choice", 1, 0.1, 1234, 9.04),
        ("exact-match", 0, float("nan"), None, None),
    ]
    worth = worth_of(*rows, verdict=[BETTER, BETTER, BETTER, NOT_SHOWN])
    assert measuring.validation_reading(worth) == (
        "The oracle gains significantly by 3 of the 4 metrics; with base and shorter oracles it is in order in every training by "
        "NLL of the solution and right choice. The placebo has more than a quarter of that gain by NLL of the solution (80% of "
        "it) and NLL of the calculations (30% of it). The rule names **right choice**: 1,234 problems show a quarter of the "
        "oracle's gain, in 9.0 minutes a model."
    )
    assert "placebo" not in measuring.validation_reading(worth_of(rows[2]))
    told = measuring.validation_reading(worth_of(rows[1]))
    assert "in every training by none of these" in told
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
    languages = measuring.by_language(*in_languages(sw=STEADY | NO_FORMAT))
    answers = measuring.reread(generated()[0])

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


# --- noise and power -------------------------------------------------------------------------------------

NOISE = Components(seed=0.01, problem=0.5, residual=0.49, seeds=3)


def test_noise_by_its_sources():
    head, nats, points = cells(measuring.noise_table({"nll": NOISE, EXPRESSION: NOISE}, 100))
    assert head == ["metric", "between trainings", "between problems", "the rest", "standard error"]
    # 0.01 + (0.5 + 0.49) / 100, and its root
    assert nats == ["NLL of the solution", "1%", "50%", "49%", f"{0.0199**0.5:.2g} nats"]
    assert points[-1] == f"{100 * 0.0199**0.5:.2g} points"
    once = measuring.noise_table({"nll": Components(0, 0.5, 0, 1), PRIMARY: Components(0, 0, 0, 1)}, 100)
    _, one, none = cells(once)
    assert one[1:4] == ["unknown", "100%", "0%"] and none[1:] == ["unknown", "0%", "0%", "0 nats"]


def test_needed_problems_are_told_for_each_number_of_trainings():
    told = measuring.needed_sentence(NOISE, 0.25, (1, 3, 10), "it")
    three, ten = (stats.needed_problems(0.25, NOISE, seeds) for seeds in (3, 10))
    assert told == (
        "Problems needed to see it in four experiments of five: no number with one training, "
        f"{'no number' if three is None else f'{three:,}'} with three trainings and {ten:,} with ten trainings."
    )
    alone = measuring.needed_sentence(Components(0, 1.0, 0, 1), 0.05, (1,), "that")
    assert alone == "Problems needed to see that in four experiments of five: 3,142 with one training."
    assert stats.needed_problems(0.05, Components(0, 1.0, 0, 1), 1) == 3142  # about (1.96 + 0.84)^2 / 0.05^2


def test_the_table_of_power():
    shown = measuring.power_table(NOISE, 0.25, (50, 1000), (1, 3, 10), "it", 6)
    assert caption(shown).startswith("Table 6. The power to see it:")
    head, *rows = cells(shown)
    assert head == ["", "one training", "three trainings", "ten trainings"]
    for row, problems, name in zip(rows, (50, 1000), ("50 problems", "1,000 problems"), strict=True):
        expected = [stats.power(0.25, NOISE, problems, seeds) for seeds in (1, 3, 10)]
        assert row == [name, *(f"{100 * share:.0f} %" for share in expected)]


def test_power_is_told_as_it_is():
    share = stats.power(0.03, measuring.ASSUMED, 250, 3)
    assert measuring.power_sentence(measuring.ASSUMED, 0.03, 250, 3) == (
        f"With three trainings a true gain of 3 points on 250 problems is seen in {100 * share:.0f} % of experiments."
    )
    assert 0.1 < share < 0.2


def test_moving_the_calculator_s_controls_changes_what_is_shown():
    made = measuring.power_calculator({"a": measuring.ASSUMED, "b": NOISE}, number=6)
    assert caption(made.static).startswith("Table 6. The power to see 3 points by a")
    assert {name: control.value for name, control in made.controls.items()} == {
        "noise": "a", "hundredths": 3, "problems": 250, "trainings": 3,
    }  # fmt: skip

    def shown(components, difference, problems, seeds):
        return f"the difference in {100 * stats.power(difference, components, problems, seeds):.0f} % of experiments"

    assert shown(measuring.ASSUMED, 0.03, 250, 3) in made.shown
    made.controls["problems"].value = 2000
    made.controls["trainings"].value = 10
    assert shown(measuring.ASSUMED, 0.03, 2000, 10) in made.shown
    made.controls["noise"].value = "b"
    made.controls["hundredths"].value = 25
    assert shown(NOISE, 0.25, 2000, 10) in made.shown


def test_false_alarms_are_told_for_each_number_of_trainings():
    told = measuring.error_rate_sentence((3, 10), NOISE, 20, trials=400)
    three, ten = (100 * stats.simulated_error_rate(NOISE, 20, seeds, trials=400).value for seeds in (3, 10))
    assert f"excludes zero in {three:.1f} % with three trainings and {ten:.1f} % with ten trainings." in told
    assert told.startswith("In 400 simulated experiments") and "20 problems" in told


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
        "The oracle against the base, calculations right, training 1: only the first is right on 6 problems, only the second on "
        "1 (both on 2, neither on 1); McNemar's exact p is 0.12."
    )
    other = measuring.mcnemar_sentence(others, EXPRESSION, "base", "oracle", "sw", seed=0)
    assert (
        "The base against the oracle" in other
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


# --- families --------------------------------------------------------------------------------------------


def family_of(name, *rows):
    """Judged contrasts of a family: (low, high, verdict) each."""
    frame = pd.DataFrame(rows, columns=["low", "high", "verdict"])
    trained = name not in ("shots", "gap")
    return frame.assign(seeds=3 if trained else 1, method_a=ORACLE if trained else "base", method_b="base")


FOUND = {
    "gains": family_of("gains", (0.1, 1, BETTER), (-1, -0.1, NOT_SHOWN), (-1, 1, NOT_SHOWN), (0.1, 1, NOT_SHOWN)),
    "gap": family_of("gap", (-2, -1, WORSE)),
    "cost": family_of("cost", (0.1, 1, UNJUDGED), (-1, 1, UNJUDGED)),
}


def test_families_are_counted_before_and_after_the_correction():
    head, *rows = cells(measuring.families_table(FOUND, number=7))
    assert head == ["question", "contrasts", "trainings", "each for itself", "after Holm"]
    assert rows == [
        [claims.GAINS.question, "4", "3", "3", "1"],
        [claims.GAP.question, "1", "none", "1", "1"],
        [claims.COST.question, "2", "3", "no verdict", "no verdict"],
    ]
    assert measuring.families_sentence(FOUND) == (
        "Of 5 contrasts in 2 families 4 have an interval that excludes zero; after Holm's correction 2 are significant. It takes "
        f"most away from “{claims.GAINS.question}”: 1 of 3 remain."
    )
    assert measuring.families_sentence({"gap": FOUND["gap"]}).endswith("Here it takes nothing away.")
    assert measuring.families_sentence({"cost": FOUND["cost"]}) == "No family has a verdict yet."


def test_each_declared_family_is_known_by_what_was_asked():
    assert {*measuring.ASKED, claims.PLAN.id} == set(claims.FAMILIES)


def test_committed_families_are_corrected_as_wholes():
    found = measuring.judged_families()
    assert {"gains", "rivals", "shots", "gap", "validation", "format"} <= set(found)
    for name, part in found.items():
        family = claims.FAMILIES[name]
        assert len(part) == len(family.pairs) * len(family.languages) * len(family.metrics)
        assert set(part["family"]) == {name}
    gap = found["gap"].set_index("metric")
    assert set(gap["test_language"]) == {"sw"} and set(gap["partition_a"]) == {claims.IN_ENGLISH[1]}
    assert UNJUDGED not in set(gap["verdict"]), "the base has no training of which another could differ"
    shots = found["shots"]
    assert set(shots["test_language"]) == {"en", "sw"} and len(set(shots["partition_a"])) == 2


# --- tables and figures ----------------------------------------------------------------------------------


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


def test_the_table_of_a_validation_is_whole(by_hand):
    _, *rows = cells(measuring.validation_table(by_hand.reset_index()))
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
    for metric in CANDIDATES:
        *oracles, placebo = rows.marks[READINGS[metric].title]
        blue = figures.GREY if metric == "choice" else figures.BETTER_COLOUR
        orange = figures.WORSE_COLOUR if metric in cases else figures.GREY
        assert [mark[0] for mark in oracles] == ["o"] * 3 and {mark[2] for mark in oracles} == {blue}
        assert placebo[0] == "D" and placebo[2] == orange
        value = measuring.effects(pd.concat(parts)).set_index(["metric", "method"])["value"]
        assert [mark[1] for mark in oracles] == pytest.approx([value[metric, arm] for arm in BUDGETS])
    assert caption(shown).startswith("What oracles of a quarter, half and all")
    assert "Swahili, 4 development problems (4 by written answers), three trainings of each" in caption(shown)
    assert shown.verdicts[f"{ORACLE}||base||sw|sw|templates|development|choice"] == NOT_SHOWN
    assert shown.verdicts[f"{ORACLE}||{PLACEBO}||sw|sw|templates|development|information"] == BETTER


def test_one_s_own_training_is_hollow_and_too_few_are_grey(monkeypatch, outcomes_by_hand):
    rows, _ = drawn(monkeypatch, False, outcomes_by_hand, own=validated(ONE_TRAINING))
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
        patch.setattr(measuring, "_forest", REAL_FOREST)
        return outcomes, measuring.validation(outcomes, costs)


def test_the_answer_is_computed_from_what_is_committed(committed, real_forest):
    outcomes, worth = committed
    shown = measuring.answer()
    text = BeautifulSoup(shown.html, "html.parser").get_text(" ")
    numbers = worth.set_index("metric").loc[PRIMARY, "numbers"]
    assert f"numbers alone would give {numbers:.0%} of what the oracle gains by it." in text
    twins = 100 * select(outcomes, metric=TWIN_CHOICE, method=ORACLE)["outcome"].mean()
    assert f"the oracle tells {twins:.0f} % apart; a coin gets 25 %." in text
    named = measuring.best_reading(worth)
    rule = "No metric passes our rule" if named is None else f"Our rule names {READINGS[named].title}."
    assert rule in text
    gold = measuring.gold_readings().set_index("language").loc["bn", STRICT]
    assert f"counts {gold:.0%} by its strict filter" in text
    assert measuring.power_sentence(measuring.ASSUMED, 0.03, 250, 3) in text
    row = judged(claims.FORMAT, outcomes).set_index("metric").loc[PRIMARY]
    assert ("puts the oracle ahead" in text) == (row["verdict"] == BETTER)
    assert shown.verdicts[f"{ORACLE}||{PLACEBO}||sw|sw|templates|development|{PRIMARY}"] == row["verdict"]
    assert BASE == ("base", "")


def test_what_the_rule_names_on_the_committed_trainings_is_what_is_said(committed):
    """PRIMARY was named before the rule asked for the numbers: on these outcomes no metric qualifies, and the book says so."""
    _, worth = committed
    assert set(worth["metric"]) == set(CANDIDATES) and UNJUDGED not in set(worth["verdict"])
    assert measuring.best_reading(worth) is None
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


# --- the models behind it, on a small smoke study --------------------------------------------------------

# Four steps, so that a quarter of them is one; shorter texts than smoke has, for speed: nothing is learned anyway.
SMALL = replace(
    PROFILES["smoke"],
    training=replace(PROFILES["smoke"].training, steps=4),
    evaluation=replace(PROFILES["smoke"].evaluation, problems=4, generated=2, shots=0, max_new_tokens=4, batch_size=32),
    development=3,
)
SEEDS = (0, 1, 2)
ARMS = ["base", PLACEBO, *BUDGETS]


def other_training(study, seed):
    """What publish asks of a study, as another training would answer it: the base's outcomes, and others a little moved."""
    outcomes = study.outcomes(VALIDATION)
    trained = (outcomes["method"] != "base").astype(int)
    moved = outcomes.assign(seed=seed * trained, outcome=outcomes["outcome"] + 0.01 * seed * trained)
    return SimpleNamespace(
        profile=study.profile,
        language=study.language,
        seed=seed,
        outcomes=lambda *asks: moved,
        cells=lambda ask: [],
        costs=study.costs,
        history=study.history,
        trained_as=lambda slug: study.trained_as(slug) | {"seed": seed},
        spec=lambda experts: {**study.spec(experts), "seed": seed},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory, one_thread):
    """A home with the experiment of a small smoke study, published together with other trainings of it."""
    home = tmp_path_factory.mktemp("measuring")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        study = Study(SMALL)
        committing.publish(
            [study, *(other_training(study, seed) for seed in SEEDS[1:])], MEASURING, experiment=MEASURING
        )
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
    assert len(outcomes) == (1 + 3 * (len(ARMS) - 1)) * (13 * 4 + 3 * 3), "the base counts once"
    spec = artifacts.read_json(out / "provenance.json")["spec"]
    assert spec["experiment"] == MEASURING
    assert [set(study["experts"]) for study in spec["studies"]] == [{PLACEBO, *BUDGETS}] * 3
    assert len(pd.read_parquet(out / "costs.parquet")) == len(COST_GROUPS), "costs of the same base, once"


@pytest.mark.parametrize("seed", SEEDS)
def test_committed_and_live_say_the_same(committed_folder, seed, nothing_to_compute):
    live, committed = Study(SMALL), Study(SMALL, "sw", seed, live=False, results=committed_folder)
    live = live if seed == 0 else other_training(live, seed)
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


def test_costs_are_measured_in_one_language_for_all(committed_folder, tmp_path, nothing_to_compute):
    costs = load_costs(committed_folder)
    assert costs_for(costs, "sw").equals(select(costs, language="sw")) and costs_for(costs, "bn").equals(costs)
    out = committing.publish([Study(SMALL)], f"{MEASURING}-again", committed_folder, MEASURING)
    assert not (out / "costs.parquet").exists(), "another result has them"


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
    outcomes = results.load_outcomes(committed_folder, MEASURING).assign(shots=2)  # smoke shows no worked example
    costs = load_costs(committed_folder)
    worth = measuring.validation(outcomes, costs).set_index("metric")
    means = outcomes.groupby(["metric", "method", "seed"])["outcome"].mean()
    arms = {metric: [select(outcomes, metric=metric, method=arm) for arm in (ORACLE, "base")] for metric in CANDIDATES}
    alone = {metric: stats.paired_difference(*pair) for metric, pair in arms.items()}
    corrected = dict(zip(CANDIDATES, stats.holm([1.0 if d.p is None else d.p for d in alone.values()]), strict=True))
    for metric in CANDIDATES:
        sign = 1 if READINGS[metric].higher_is_better else -1
        base = means[metric, "base", 0]
        gains = [[sign * (means[metric, arm, seed] - base) for seed in SEEDS] for arm in (*BUDGETS, PLACEBO)]
        *oracles, placebo = gains
        in_order = [0 < a < b < c for a, b, c in zip(*oracles, strict=True)]
        assert worth.loc[metric, "ordered"] == np.mean(in_order)
        gain = np.mean(oracles[-1])
        assert worth.loc[metric, "gain"] == pytest.approx(gain * READINGS[metric].scale)
        found = alone[metric]
        shown = (found.low > 0 if sign > 0 else found.high < 0) and corrected[metric] < 0.05
        assert (worth.loc[metric, "verdict"] == BETTER) == shown
        share = np.mean(placebo) / gain if shown else np.nan
        assert worth.loc[metric, "placebo"] == pytest.approx(share, nan_ok=True)
        rate = min(row.seconds / row.problems for row in costs.itertuples() if metric in COST_GROUPS[row.readings])
        assert worth.loc[metric, "seconds"] == pytest.approx(100 * rate)


def test_generated_answers_are_read_again_as_they_were(committed_folder):
    answers = measuring.reread(select(results.load_outcomes(committed_folder, MEASURING), seed=0))
    assert len(answers) == len(ARMS) * 3
    assert list(answers["xlnb"]) == list(answers["outcome"] == 1)
    (_, row) = cells(measuring.referee_table(answers))
    assert row[:3] == ["Swahili", "15", f"{answers['outcome'].sum():.0f}"]
