"""What a metric is worth, by hand."""

import numpy as np
import pandas as pd
import pytest
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

from xlnb import stats
from xlnb.chapters import measuring
from xlnb.evaluation.readings import (
    CALIBRATED,
    CHOICE,
    COST_GROUPS,
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_NLL,
    PRIMARY,
    READINGS,
    TWIN_INFORMATION,
    TWINS,
    VALIDATED,
    calibrated,
)
from xlnb.evaluation.shortcuts import EXACT, FIRST
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.stats import Components
from xlnb.studies import validation
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE
from xlnb.studies.outcomes import select
from xlnb.studies.validation import CANDIDATES, MOST_FORMAT

pytestmark = pytest.mark.usefixtures("known_forest")


SECONDS = dict(
    zip(CANDIDATES, (20, 20, 50, 50, 40, 45, 80, 80, 600, 600, 600, 30, 30, 70, 70, 60), strict=True)
)  # a 100 problems
NUMBERS = dict.fromkeys((*TWINS, EXPRESSION_NLL, PRIMARY, EXPRESSION, EXACT_MATCH), 0.0) | {CHOICE: 0.1}  # others: none
NUMBERS |= {new: 0.0 for new, old in CALIBRATED.items() if old in NUMBERS}


@pytest.fixture(scope="module")
def outcomes_by_hand():
    return validated()


@pytest.fixture(scope="module")
def by_hand(outcomes_by_hand):
    return validation.worth_of_metrics(outcomes_by_hand, COSTS).set_index("metric")


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
    row = validation.worth_of_metrics(outcomes, COSTS).set_index("metric").loc["nll"]
    table, components = gains[ORACLE], stats.variance_components(gains[ORACLE])
    assert row["retest"] == pytest.approx(stats.spearman_test_retest(table))
    assert row["placebo"] == pytest.approx(gains[PLACEBO].mean() / table.mean())
    assert row["problems"] == stats.needed_problems(0.25 * table.mean(), components, 3)
    for arm, expected in ((ORACLE, components), (PLACEBO, stats.variance_components(gains[PLACEBO]))):
        noise = validation.noise(outcomes, "nll", arm)
        for name in ("seed", "problem", "residual", "seeds"):
            assert getattr(noise, name) == pytest.approx(getattr(expected, name))
    assert validation.noise(outcomes, "nll") == validation.noise(outcomes, "nll", ORACLE)


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
    ordered = validation.worth_of_metrics(pd.concat(parts), COSTS).set_index("metric")["ordered"]
    assert {metric: ordered[metric] for metric in cases} == pytest.approx({m: case[-1] for m, case in cases.items()})


def test_a_metric_by_which_no_gain_of_the_oracle_is_significant_has_no_share_and_no_number():
    cases = [
        -ORACLE_GAINS,
        np.zeros((3, 4)),
        np.array([[0.9, -0.3, 0.9, -0.3]] * 3),  # 0.3 on average, and zero is in the interval
    ]
    parts = [validated(GAINS | {ORACLE: cases[i % 3]}, [metric]) for i, metric in enumerate(CANDIDATES)]
    worth = validation.worth_of_metrics(pd.concat(parts), COSTS)
    gains = [cases[i % 3].mean() * READINGS[metric].scale for i, metric in enumerate(CANDIDATES)]
    assert worth["gain"].to_numpy() == pytest.approx(gains)
    assert list(worth["verdict"]) == [(WORSE, NOT_SHOWN, NOT_SHOWN)[i % 3] for i in range(len(CANDIDATES))]
    numbers = ["placebo", "numbers", "problems", "minutes"]
    assert worth[numbers].isna().all(axis=None)
    assert {worth[column].dtype.kind for column in numbers} == {"f"}, "numbers, none a None"
    assert validation.best_metric(worth) is None


def test_a_gain_is_significant_after_the_correction_for_all_metrics_or_not_at_all():
    """A gain whose own interval excludes zero, and which Holm over all metrics takes away."""
    faint = np.array([[0.9, 1.1, 1.2, 0.8]] * 3) * 0.3 + np.array([[0.04], [0.0], [-0.04]])
    alone = stats.crossed_interval(faint)
    assert alone.low > 0 and 0.05 / len(CANDIDATES) < alone.p < 0.05
    outcomes = pd.concat([
        validated(GAINS | {ORACLE: faint}, ["nll"]),
        validated(GAINS | {ORACLE: np.zeros((3, 4))}, [metric for metric in CANDIDATES if metric != "nll"]),
    ])  # fmt: skip
    row = validation.worth_of_metrics(outcomes, COSTS).set_index("metric").loc["nll"]
    assert row["verdict"] == NOT_SHOWN and np.isnan(row["placebo"])


def test_one_or_two_trainings_have_no_verdict_no_share_and_no_number():
    for count in (1, 2):
        worth = validation.worth_of_metrics(validated({arm: table[:count] for arm, table in GAINS.items()}), COSTS)
        assert {*worth["verdict"], *worth["apart"]} == {UNJUDGED}
        assert worth["placebo"].isna().all() and worth["problems"].isna().all()
        assert validation.best_metric(worth) is None
        assert "have no verdict" in measuring.validation_reading(worth)
    assert validation.worth_of_metrics(validated(ONE_TRAINING), COSTS)["retest"].isna().all()
    assert set(validation.worth_of_metrics(validated(ONE_TRAINING), COSTS)["ordered"]) == {1.0}


def test_a_reading_costs_what_the_cheapest_way_to_it_costs(outcomes_by_hand):
    costs = COSTS.assign(seconds=[90.0, *COSTS["seconds"][1:]])  # likelihood alone dearer than with forced choice
    worth = validation.worth_of_metrics(outcomes_by_hand, costs).set_index("metric")
    assert worth.loc["nll", "seconds"] == worth.loc["choice", "seconds"] == pytest.approx(80)


def test_effects_are_gains_in_standard_deviations_of_the_oracle_s(outcomes_by_hand):
    found = validation.effects(outcomes_by_hand).set_index(["metric", "method"])
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
    assert validation.effects(validated(alike))["value"].isna().all(), "all problems gain alike: no unit"
    nothing = {arm: np.zeros((3, 4)) for arm in GAINS}
    assert set(validation.effects(validated(nothing))["value"]) == {0.0}


@pytest.mark.parametrize(("share", "fooled"), [(0.24, False), (0.26, True), (-0.5, False), (1.4, True)])
def test_the_placebo_fools_a_metric_by_more_than_a_quarter(share, fooled):
    found = validation.effects(validated(GAINS | {PLACEBO: share * ORACLE_GAINS}))
    for metric in CANDIDATES:
        assert validation.is_fooled(found[found["metric"] == metric]) is fooled


def gained(**gains):
    """Outcomes in which the oracle gains as much by a metric as is said here, and 2 by the others."""
    parts = [validated(GAINS, [metric for metric in CANDIDATES if metric.replace("-", "_") not in gains])]
    for name, gain in gains.items():
        parts.append(validated(GAINS | {ORACLE: ORACLE_GAINS - 2 + gain}, [name.replace("_", "-")]))
    return pd.concat(parts)


@pytest.mark.parametrize(("on_the_twin", "share"), [(0.0, 1.0), (2.0, 0.0), (0.5, 0.75), (-0.5, 1.25)])
def test_what_is_not_gained_on_the_twin_s_text_the_numbers_give(on_the_twin, share):
    plain = validation.numbers_alone(gained(twin_information=on_the_twin))
    assert [plain[metric] for metric in (EXPRESSION_NLL, PRIMARY)] == pytest.approx([share] * 2)
    assert plain[calibrated(PRIMARY)] == plain[calibrated(EXPRESSION_NLL)] == 0, "by its own twins"
    own = validation.numbers_alone(gained(calibrated_twin_information=on_the_twin))
    assert [own[calibrated(metric)] for metric in (EXPRESSION_NLL, PRIMARY)] == pytest.approx([share] * 2)
    assert own[PRIMARY] == 0
    for found in (plain, own):
        assert {found[metric] for metric in (*TWINS, calibrated(TWIN_INFORMATION))} == {0.0}, (
            "words alone tell them apart"
        )
        assert set(found) == set(NUMBERS), "no reader of numbers is defined for the others"


def test_where_answers_are_counted_a_forest_reads_the_numbers():
    found = validation.numbers_alone(gained(choice=0.5, expression=-2.0, exact_match=0.0))
    assert found[CHOICE] == pytest.approx((1.45 - 1.25) / 0.5), "of the base it has what is above it"
    assert found[EXPRESSION] == 0 and np.isnan(found[EXACT_MATCH]), "of no gain there is no share"
    assert np.isnan(validation.numbers_alone(gained(expression_information=0.0))[PRIMARY])


def test_a_forest_is_asked_about_the_language_s_development_problems(monkeypatch, real_forest):
    asked = []

    def shortcuts(language, split, readers):
        asked.append((language, split, readers))
        return pd.DataFrame({"asked": [FIRST, EXACT], "value": [0.3, 0.07]})

    monkeypatch.setattr(validation, "shortcuts", shortcuts)
    REAL_FOREST.cache_clear()
    validation.numbers_alone(validated(language="te"))
    assert validation._forest("te").to_dict() == {FIRST: 0.3, EXACT: 0.07}
    assert asked == [("te", "development", ("numbers alone",))], "once"
    REAL_FOREST.cache_clear()


def test_a_metric_in_each_language_by_hand():
    outcomes, costs = in_languages(te=GAINS, sw=STEADY | NO_FORMAT, bn=ONCE)
    found = validation.by_language(outcomes, costs)
    assert list(found["language"]) == ["sw", "bn", "te"], "in the order of the book"
    assert list(found["trainings"]) == [3, 1, 3]
    assert list(found["ordered"]) == pytest.approx([1, 1, 2 / 3])
    assert list(found["verdict"]) == [BETTER, UNJUDGED, BETTER]
    assert list(found["gain"]) == pytest.approx([1.0, 1.0, 2.0])
    assert list(found["placebo"]) == pytest.approx([-0.1, -0.1, 0.2])
    for place, count in ((0, 3), (1, 1)):
        interval = stats.crossed_interval(np.array([[0.9, 1.1, 0.9, 1.1]] * count))
        assert (found["gain_low"][place], found["gain_high"][place]) == pytest.approx((interval.low, interval.high))
    alone = validation.worth_of_metrics(select(outcomes, language="te"), COSTS).set_index("metric")
    assert found["problems"][2] == alone.loc[PRIMARY, "problems"]
    assert list(found["named"]) == [PRIMARY, "", ""], "the usual gains are out of order in one training of three"


def test_a_metric_of_which_less_is_better_gains_where_it_falls():
    found = validation.by_language(*in_languages(sw=STEADY | NO_FORMAT), "nll")
    assert found["gain"][0] == pytest.approx(2.0) and found["placebo"][0] == pytest.approx(0.2)


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
    assert validation.best_metric(worth_of(*rows)) == named
    assert validation.best_metric(worth_of(*rows[::-1])) == named


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
    assert validation.best_metric(worth) == named
    assert validation.best_metric(worth, most=2) == (OTHER if numbers[1] == numbers[1] else GOOD)


def test_the_rule_with_another_limit():
    worth = worth_of((GOOD, 1, 0.1, 50, 9.0), (OTHER, 1, 0.6, 90, 2.0))
    assert [validation.best_metric(worth, most=most) for most in (0.05, 0.25, 0.6)] == [None, GOOD, OTHER]
