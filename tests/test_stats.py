"""Statistics: known values, independent references, coverage and error rates on simulated data, pairing, planning."""

import math
from dataclasses import astuple, replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

import xlnb.stats
from xlnb.errors import RequestError
from xlnb.stats import (
    Components,
    Interval,
    binary_components,
    crossed_interval,
    holm,
    mcnemar,
    mean_interval,
    needed_problems,
    outcome_table,
    paired_difference,
    paired_table,
    power,
    power_table,
    simulated_error_rate,
    spearman_test_retest,
    variance_components,
)


def frame(table, seeds=None):
    table = np.atleast_2d(table)
    seeds = seeds or range(len(table))
    rows = [(s, f"p{j:03}", x) for s, row in zip(seeds, table, strict=True) for j, x in enumerate(row)]
    return pd.DataFrame(rows, columns=["seed", "problem", "outcome"])


def test_wilson_where_outcomes_are_right_or_wrong():
    interval = mean_interval(np.array([1] * 10 + [0] * 90))
    assert (interval.value, interval.n) == (0.1, 100)
    # the textbook's value of Wilson's interval for 10 of 100
    assert (interval.low, interval.high) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert (interval.low, interval.high) == pytest.approx(proportion_confint(10, 100, method="wilson"))


@pytest.mark.parametrize("value", [0, 1])
def test_all_right_or_all_wrong_still_has_a_width(value):
    interval = mean_interval(np.full(64, value))
    assert interval.value == value
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high - interval.low == pytest.approx(0.0566, abs=1e-3)


def test_the_mean_of_continuous_outcomes():
    values = np.random.default_rng(0).normal(2, 3, 400)
    interval = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05)
    assert mean_interval(values) == interval


def test_the_bootstrap_in_parts_is_that_of_the_whole(monkeypatch):
    values = np.random.default_rng(3).normal(2, 1, 700)
    found = []
    for at_once in (2**20, 2**30, 1000):  # 1497 resamples at a time, all of them, and one
        monkeypatch.setattr(xlnb.stats, "_AT_ONCE", at_once)
        found.append(mean_interval(values))
    assert found[0] == found[1] == found[2]


def test_one_value_and_constant_values():
    for one in (mean_interval(np.array([0.5])), crossed_interval(np.array([[0.5]]))):
        assert (one.value, one.n, one.p) == (0.5, 1, None)
        assert math.isnan(one.low) and math.isnan(one.high) and not one.excludes_zero, "one value tells no spread"
    constant = mean_interval(np.full(5, 0.5))
    assert (constant.value, constant.low, constant.high, constant.n) == (0.5, 0.5, 0.5, 5)


@pytest.mark.parametrize("make", [mean_interval, crossed_interval])
def test_no_values_are_refused(make):
    with pytest.raises(RequestError, match="at least one"):
        make(np.array([]))


def test_excluding_zero():
    assert Interval(0.2, 0.1, 0.3, 5).excludes_zero
    assert Interval(-0.2, -0.3, -0.1, 5).excludes_zero
    assert not Interval(0.0, -0.1, 0.1, 5).excludes_zero
    assert not Interval(0.0, 0.0, 0.0, 5).excludes_zero


# --- crossed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 40), (40, 1)])
def test_one_seed_or_one_problem_gives_the_paired_t_test(shape):
    values = np.random.default_rng(1).normal(0.3, 1, 40)
    interval, reference = crossed_interval(values.reshape(shape)), stats.ttest_1samp(values, 0)
    assert (interval.seeds, interval.n) == shape
    assert (interval.low, interval.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert interval.p == pytest.approx(reference.pvalue)


def test_the_half_width_is_made_of_mean_squares():
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = simulated(Components(2, 1, 0.5, 0), 4, 7, 1, np.random.default_rng(1))[0]
    squares = anova_lm(ols("outcome ~ C(seed) + C(problem)", frame(table)).fit())["mean_sq"] / 28
    half = math.sqrt(
        squares["C(seed)"] * stats.t.isf(0.025, 3) ** 2 + squares["C(problem)"] * stats.t.isf(0.025, 6) ** 2
    )
    interval = crossed_interval(table)
    assert (interval.low, interval.high) == pytest.approx((table.mean() - half, table.mean() + half))


@pytest.mark.parametrize("make", [mean_interval, crossed_interval])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(make, wrong):
    with pytest.raises(RequestError, match="1 of 4 outcomes are no finite number"):
        make(np.array([0.5, 1.0, wrong, 0.25]))


def test_constant_outcomes_have_no_width():
    interval = crossed_interval(np.full((3, 7), 0.25))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (interval.n, interval.seeds) == (7, 3)
    assert not crossed_interval(np.array([[2.0]])).excludes_zero, "of one cell nobody knows the width"


def test_the_interval_covers_another_training_too():
    # Seeds differ, problems do not: all the width must come from the seeds.
    table = np.repeat(np.array([[-1.0], [0.0], [1.0]]), 200, axis=1)
    assert crossed_interval(table).high - crossed_interval(table).low > 1
    assert crossed_interval(table[:1]).high == pytest.approx(crossed_interval(table[:1]).low)


def test_ignoring_seeds_or_problems_would_be_too_narrow():
    table = simulated(Components(0.3, 9, 0.1, 0), 8, 40, 1, np.random.default_rng(3))[0]
    full, *partial = (crossed_interval(part) for part in (table, table.mean(axis=0), table.mean(axis=1)[:, None]))
    assert all(full.high - full.low > 1.1 * (part.high - part.low) for part in partial)


# --- paired ----------------------------------------------------------------------------------------------


def two_sides(seeds=3, problems=60):
    rng = np.random.default_rng(7)
    difficulty = rng.normal(0, 5, problems)
    return [frame(difficulty + shift + rng.normal(0, 0.1, (seeds, problems))) for shift in (0.5, 0.0)]


def test_pairing_takes_away_what_problems_share():
    a, b = two_sides()
    interval = paired_difference(a, b)
    assert interval.value == pytest.approx(a["outcome"].mean() - b["outcome"].mean())
    assert 0.4 < interval.low < 0.5 < interval.high < 0.6
    assert interval.excludes_zero
    assert (interval.n, interval.seeds) == (60, 3)


def test_pairs_are_found_by_problem_and_seed_not_by_row():
    a, b = two_sides()
    shuffled = paired_difference(a.sample(frac=1, random_state=1), b.sample(frac=1, random_state=2))
    assert shuffled == paired_difference(a, b)


def test_exchanging_sides_changes_the_sign():
    a, b = two_sides()
    assert paired_difference(a, b).value == pytest.approx(-paired_difference(b, a).value)


def test_the_base_with_its_one_seed_stands_against_every_seed():
    a, b = two_sides()
    base = b[b["seed"] == 0]
    interval = paired_difference(a, base)
    assert interval.seeds == 3
    mean = np.mean([paired_difference(a[a["seed"] == s], base).value for s in range(3)])
    assert interval.value == pytest.approx(mean)
    assert paired_difference(base, a).value == pytest.approx(-mean)


def test_what_cannot_be_paired_is_refused():
    a, b = two_sides()
    with pytest.raises(RequestError, match="different problems"):
        paired_difference(a, b[b["problem"] != "p007"])
    with pytest.raises(RequestError, match="must be the same"):
        paired_difference(a[a["seed"] < 2], b)
    with pytest.raises(RequestError, match="must be the same"):
        paired_difference(a[a["seed"] < 2], b[b["seed"] > 0])
    with pytest.raises(RequestError, match="stands twice"):
        paired_difference(pd.concat([a, a.head(1)]), b)
    with pytest.raises(RequestError, match="missing"):
        paired_difference(a.drop(index=5), b)
    with pytest.raises(RequestError, match="missing"):
        paired_difference(a.head(0), b)


def test_the_same_number_of_other_problems_is_refused():
    a, b = two_sides()
    with pytest.raises(RequestError, match="different problems"):
        paired_difference(a, b.assign(problem="q" + b["problem"]))


def test_the_table_of_pairs_is_what_the_difference_is_the_mean_of():
    a, b = two_sides()
    table = paired_table(a, b)
    assert table.shape == (3, 60)
    assert table[1, 7] == a["outcome"][67] - b["outcome"][67]
    assert crossed_interval(table) == paired_difference(a, b)
    yes, no = (frame(np.full((2, 3), right)) for right in (True, False))
    assert paired_table(yes, no).tolist() == [[1.0] * 3] * 2


# --- p-values --------------------------------------------------------------------------------------------


def simulated(components, seeds, problems, trials, rng, difference=0.0):
    by_seed, by_problem, by_cell = (math.sqrt(x) for x in astuple(components)[:3])
    return (
        difference
        + by_seed * rng.normal(size=(trials, seeds, 1))
        + by_problem * rng.normal(size=(trials, 1, problems))
        + by_cell * rng.normal(size=(trials, seeds, problems))
    )


@pytest.mark.parametrize(("seeds", "problems"), [(4, 30), (2, 2), (1, 9), (3, 250)])
def test_p_is_below_5_percent_just_where_the_interval_excludes_zero(seeds, problems):
    tables = simulated(Components(0.05, 1, 1, 0), seeds, problems, 120, np.random.default_rng(2))
    means = np.linspace(0, 12 / math.sqrt(seeds * problems), 120)
    found = [crossed_interval(table + mean) for mean, table in zip(means, tables, strict=True)]
    assert [one.p < 0.05 for one in found] == [one.excludes_zero for one in found]
    assert 5 < sum(one.excludes_zero for one in found) < 115


def test_at_the_level_p_the_interval_just_reaches_zero():
    for mean, table in product((0.1, 1, 20), simulated(Components(0.1, 1, 1, 0), 3, 20, 5, np.random.default_rng(0))):
        interval = crossed_interval(table - table.mean() + mean)
        parts = (table.mean(axis=1), table.mean(axis=0))
        half = math.hypot(*(stats.sem(part) * stats.t.isf(interval.p / 2, len(part) - 1) for part in parts))
        assert half == pytest.approx(mean)


def test_p_has_bounds():
    assert crossed_interval(np.full((3, 7), 0.25)).p == 0
    assert crossed_interval(np.zeros((3, 7))).p == 1
    assert crossed_interval(np.array([[1.0, -1.0], [-1.0, 1.0]])).p == 1
    assert crossed_interval(np.array([[2.0]])).p is None
    assert mean_interval(np.array([0, 1])).p is None
    # Seeds or problems that do not differ leave the other's t-test.
    same_seeds = np.tile(np.arange(1.0, 9), (3, 1))
    for table in (same_seeds, same_seeds.T):
        assert crossed_interval(table).p == pytest.approx(stats.ttest_1samp(np.arange(1, 9), 0).pvalue)
    assert crossed_interval(np.tile([1e9, 1e9 + 1], 500)).p == 0
    for p in (crossed_interval(np.full((3, 7), value)).p for value in (0.1, 1 / 3)):
        assert 0 <= p < 1e-20, "rounding is no variance"


def test_p_survives_an_exchange_of_sides():
    a, b = two_sides()
    noisy = a.assign(outcome=a["outcome"] + np.random.default_rng(1).normal(-0.4, 1, len(a)))
    there, back = paired_difference(noisy, b), paired_difference(b, noisy)
    assert 0.01 < there.p < 0.9
    assert there.p == back.p


TRIALS = 10_000


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("components", "low", "high"),
    [
        pytest.param(Components(1, 1, 1, 0), 0.035, 0.058, id="seeds dominate"),
        pytest.param(Components(0, 1, 0.02, 0), 0.035, 0.058, id="problems dominate"),
        pytest.param(Components(0, 0, 1, 0), 0.002, 0.01, id="cells dominate, which count twice"),
        pytest.param(Components(0.01, 0.5, 0.5, 0), 0.01, 0.045, id="all three"),
    ],
)
def test_false_alarms_are_at_most_5_percent_and_not_absurdly_fewer(components, seeds, low, high):
    rate = simulated_error_rate(components, 60, seeds, TRIALS)
    assert low < rate.value < high
    assert rate.value <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    exact = power(0, components, 60, seeds)
    assert exact <= 0.05 + 1e-9
    assert rate.value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / TRIALS))


def laplace(rng, seeds, problems):
    return rng.laplace(size=(seeds, 1)) + rng.laplace(size=(1, problems)) + 2 * rng.laplace(size=(seeds, problems))


def right_or_wrong(rng, seeds, problems):
    """Answers of two models, right where skill plus the trainings' luck exceeds a difficulty that each has of its own."""
    shared, luck = rng.normal(size=(1, 1, problems)), rng.normal(0, 0.4, (2, seeds, 1))
    margins = shared + rng.normal(size=(2, 1, problems)) + luck + rng.normal(size=(2, seeds, problems))
    return np.subtract(*(margins > 0).astype(float))


@pytest.mark.parametrize("draw", [laplace, right_or_wrong])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_false_alarms_where_effects_are_not_normal(draw, seeds):
    rng, trials = np.random.default_rng(1), 2000
    rate = np.mean([crossed_interval(draw(rng, seeds, 100)).excludes_zero for _ in range(trials)])
    assert 0.005 < rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_the_simulated_error_rate_is_that_of_crossed_interval():
    components = Components(0.3, 1, 1, 0)
    rate = simulated_error_rate(components, 20, 3, trials=1000)
    tables = simulated(components, 3, 20, 1000, np.random.default_rng(6))
    assert rate.value == pytest.approx(np.mean([crossed_interval(table).p < 0.05 for table in tables]), abs=0.03)
    assert rate.n == 1000 and rate.low < rate.value < rate.high
    assert simulated_error_rate(components, 20, 3, trials=30) == simulated_error_rate(components, 20, 3, trials=30)
    assert simulated_error_rate(components, 1, 1, trials=30).value == 0, "one cell has no interval"
    with pytest.raises(RequestError, match="at least one of each"):
        simulated_error_rate(components, 20, 0)


# --- McNemar, Holm, agreement ----------------------------------------------------------------------------


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 2), (2, 9), (5, 5), (0, 6), (0, 0), (30, 14)])
def test_mcnemar_is_a_sign_test_of_discordant_pairs(only_a, only_b):
    pairs = [(1, 0)] * only_a + [(0, 1)] * only_b + [(1, 1)] * 4 + [(0, 0)] * 3
    a, b = (frame([pair[side] for pair in pairs]) for side in (0, 1))
    found = mcnemar(a, b.sample(frac=1, random_state=0))
    assert (found.only_a, found.only_b, found.both, found.neither) == (only_a, only_b, 4, 3)
    assert found.difference == pytest.approx(paired_difference(a, b).value)
    reference = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found.p == pytest.approx(reference)


def test_what_mcnemar_cannot_do_is_refused():
    a, b = frame(np.eye(3)[:2]), frame(np.eye(3)[:1])
    with pytest.raises(RequestError, match=r"one seed a side, here 2 and 1.*not independent.*paired_difference"):
        mcnemar(a, b)
    with pytest.raises(RequestError, match="outcomes 0 and 1"):
        mcnemar(b, frame([0, 0.5, 1]))
    with pytest.raises(RequestError, match="different problems"):
        mcnemar(b, frame([0, 1]))


def test_holm_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 which may not fall below the one before.
    assert holm([0.03, 0.005, 0.04, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [None, float("nan"), -0.1, 1.2])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(RequestError, match=f"{wrong} is no p-value"):
        holm([0.1, wrong])


def test_agreement_of_runs():
    table = np.random.default_rng(0).normal(size=(3, 9))
    pairs = [stats.spearmanr(table[i], table[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert spearman_test_retest(table) == pytest.approx(np.mean(pairs))
    constant = np.vstack([table[:2], np.ones(9)])
    assert spearman_test_retest(constant) == pytest.approx(pairs[0])
    assert math.isnan(spearman_test_retest(constant[1:]))
    with pytest.raises(RequestError, match="at least two"):
        spearman_test_retest(table[:1])


# --- variance components and power -----------------------------------------------------------------------


def test_components_are_those_of_an_analysis_of_variance():
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = simulated(Components(2, 1, 0.5, 0), 4, 7, 1, np.random.default_rng(1))[0]
    squares = anova_lm(ols("outcome ~ C(seed) + C(problem)", frame(table)).fit())["mean_sq"]
    found = variance_components(table)
    assert found.residual == pytest.approx(squares["Residual"])
    assert found.seed == pytest.approx((squares["C(seed)"] - squares["Residual"]) / 7)
    assert found.problem == pytest.approx((squares["C(problem)"] - squares["Residual"]) / 4)


def test_components_are_recovered():
    true = Components(0.3, 1.0, 2.0, 0)
    tables = simulated(true, 6, 50, 400, np.random.default_rng(5))
    mean = np.mean([astuple(variance_components(table)) for table in tables], axis=0)
    assert tuple(mean) == pytest.approx((0.3, 1.0, 2.0, 6), rel=0.1)


def test_components_are_never_negative():
    checkers = np.indices((4, 6)).sum(axis=0) % 2  # equal means everywhere: both estimates fall below zero
    found = variance_components(checkers)
    assert (found.seed, found.problem) == (0, 0) and found.residual > 0


def test_components_of_one_training_say_so():
    values = np.random.default_rng(0).normal(size=30)
    assert variance_components(values) == Components(0, values.var(ddof=1), 0, seeds=1)


@pytest.mark.parametrize("table", [[[1.0]], [[1], [2]], [[1, np.nan]], np.zeros((2, 2, 2))])
def test_components_of_what_is_no_table_are_refused(table):
    with pytest.raises(RequestError, match="at least two problems"):
        variance_components(table)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_variance_must_be_one(wrong):
    with pytest.raises(RequestError, match="variance problem is"):
        Components(0, wrong, 0, 1)


def test_power_with_one_seed_is_that_of_the_paired_t_test():
    for difference, problems, level in product((0.0, 0.1, -0.4), (10, 300), (0.05, 0.01)):
        reference = TTestPower().power(abs(difference) / math.sqrt(1.5), problems, level)
        assert power(difference, Components(0, 1, 0.5, 0), problems, 1, level) == pytest.approx(reference)


@pytest.mark.parametrize(("components", "df"), [(Components(1, 0, 0, 0), 2), (Components(0, 1, 0, 0), 4)])
def test_power_has_the_degrees_of_freedom_of_the_only_part(components, df):
    variance = components.seed / 3 + components.problem / 5
    for difference, level in product((0, 0.4, 1, 3), (0.05, 0.01)):
        reference = TTestPower().power(difference / math.sqrt(variance), 1, level, df=df)
        assert power(difference, components, problems=5, seeds=3, level=level) == pytest.approx(reference)


@pytest.mark.parametrize("difference", [0.0, 0.25, 0.5, 1.5])
@pytest.mark.parametrize(("seeds", "problems"), [(2, 50), (3, 9), (5, 40), (12, 25)])
def test_power_is_how_often_crossed_interval_excludes_zero(difference, seeds, problems):
    components, trials = Components(0.1, 1.0, 1.0, 0), 1500
    tables = simulated(components, seeds, problems, trials, np.random.default_rng(seeds), difference)
    shown = np.mean([crossed_interval(table).excludes_zero for table in tables])
    expected = power(difference, components, problems, seeds)
    assert shown == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / trials))


def test_power_under_no_difference_is_at_most_the_level():
    for problems, seeds, level in product((2, 40, 10**6), (2, 3, 9), (0.05, 0.2)):
        assert 0 < power(0, Components(0.2, 1, 1, 0), problems, seeds, level) <= level
    assert power(0, Components(0, 1, 1, 0), 40, 1) == pytest.approx(0.05)


def test_more_problems_never_lower_a_power_above_the_level():
    rng, problems = np.random.default_rng(0), np.unique(np.geomspace(2, 1e6, 60).astype(int))
    for seeds in (1, 2, 3, 10) * 4:
        components = Components(0 if seeds == 1 else 10 ** rng.uniform(-5, 0), 1, rng.uniform(), 0)
        difference = 10 ** rng.uniform(-2, 1)
        found = np.array([power(difference, components, n, seeds) for n in problems])
        above = found[found > 0.05]
        assert np.all(np.diff(above) > -1e-9)


def test_power_is_defined_at_the_edges():
    components = Components(0.2, 1, 1, 0)
    # Another training may differ, and one training cannot tell by how much.
    assert power(100, components, 1000, 1) == 0.05
    assert needed_problems(100, components, 1) is None
    assert power(1e9, components, 10, 2) == pytest.approx(1)
    rising = [power(x, Components(1, 0, 0, 0), 100, 2) for x in np.linspace(0, 60, 200)]
    assert np.all(np.diff(rising) > 0)  # and nowhere NaN
    nothing = Components(0, 0, 0, 0)
    assert [power(x, nothing, 10, 3) for x in (0, 0.1)] == [0, 1]
    assert needed_problems(0.1, nothing, 3) == 2


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0), (3, 0.005), (10, 0.005)])
def test_the_needed_problems_are_just_enough(seeds, seed_sd):
    components = binary_components(0.5, 0.2, seed_sd=seed_sd)
    n = needed_problems(0.03, components, seeds)
    assert power(0.03, components, n, seeds) >= 0.8 > power(0.03, components, n - 1, seeds)


def test_three_points_by_pure_arithmetic():
    # The textbook's n = (1.96 + 0.84)² x 0.2 / 0.03², plus about two for Student's t.
    n = needed_problems(0.03, binary_components(0.5, 0.2), seeds=1)
    assert n == pytest.approx((1.95996 + 0.84162) ** 2 * 0.2 / 0.03**2 + 2, abs=1)
    # No number of problems makes up for few, differing trainings.
    assert needed_problems(0.03, binary_components(0.5, 0.2, seed_sd=0.02), seeds=3) is None
    assert needed_problems(0.03, binary_components(0.5, 0.2, seed_sd=0.02), seeds=30) is not None


def test_components_without_data():
    assert astuple(binary_components(0.3)) == pytest.approx((0, 0.42, 0, 0))
    given = binary_components(0.8, discordant=0.2, repeatable=0.25, seed_sd=0.1)
    assert astuple(given) == pytest.approx((0.01, 0.0475, 0.1425, 0))
    # Simulated: two independent models of accuracy 0.3 differ with this variance.
    a, b = np.random.default_rng(0).random((2, 20000)) < 0.3
    assert np.var(a.astype(float) - b) == pytest.approx(0.42, rel=0.03)


def test_planning_refuses_what_cannot_be():
    for wrong, message in [
        ({"accuracy": 1.2}, "accuracy is 1.2"),
        ({"accuracy": 0.1, "discordant": 0.3}, r"discordant is 0.3.* from 0 to 0.2"),
        ({"accuracy": 0.5, "repeatable": 2}, "repeatable is 2"),
        ({"accuracy": 0.5, "discordant": 0.01, "seed_sd": 0.2}, "seed_sd is 0.2"),
    ]:
        with pytest.raises(RequestError, match=message):
            binary_components(**wrong)
    some = Components(0, 1, 0, 0)
    with pytest.raises(RequestError, match="1 problems and 3 seeds"):
        power(1, some, 1, 3)
    with pytest.raises(RequestError, match="10 problems and 0 seeds"):
        power_table(some, 1, problems=(10,), seeds=(0,))
    with pytest.raises(RequestError, match="level is 0"):
        power(1, some, 10, 3, level=0)
    with pytest.raises(RequestError, match="difference is nan"):
        needed_problems(float("nan"), some, 3)
    for wanted in (0.05, 1, 80):
        with pytest.raises(RequestError, match=f"power is {wanted}"):
            needed_problems(1, some, 3, power=wanted)
    with pytest.raises(RequestError, match="difference is 0"):
        needed_problems(0, some, 3)


def test_the_table_of_power():
    components = replace(binary_components(0.5, 0.2), seed=0.0001)
    table = power_table(components, 0.03, problems=(100, 500, 2000), seeds=(2, 5))
    assert (table.index.name, table.columns.name) == ("problems", "seeds")
    assert table.loc[500, 5] == power(0.03, components, 500, 5)
    assert (table.diff().dropna() > 0).all(axis=None) and (table[5] > table[2]).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "No outcomes"),
        ([[], []], "No outcomes"),
        ([1, float("nan")], "1 of 2 outcomes are no finite number"),
        ([1, float("inf")], "1 of 2 outcomes are no finite number"),
        (np.array([1, None], dtype=object), "1 of 2 outcomes are no finite number"),
        (["right", "wrong"], "Outcomes are numbers"),
        ([[1, 2], [3]], "in rows of one length"),
        (np.zeros((2, 2, 2)), "shape (2, 2, 2)"),
    ],
)
def test_what_is_no_table_of_outcomes_is_refused(values, said):
    for interval in (mean_interval, crossed_interval):
        with pytest.raises(RequestError) as refused:
            interval(values)
        assert said in str(refused.value)


def test_a_table_is_no_list_of_outcomes_and_a_frame_needs_its_columns():
    with pytest.raises(RequestError, match=r"shape \(1, 3\)"):
        mean_interval([[1.0, 2.0, 4.0]])
    with pytest.raises(RequestError, match="no outcome"):
        outcome_table(pd.DataFrame({"seed": [0], "problem": ["x"], "value": [1.0]}))
    with pytest.raises(RequestError, match="Outcomes are numbers"):
        outcome_table(pd.DataFrame({"seed": [0], "problem": ["x"], "outcome": ["right"]}))


def test_one_training_or_one_problem_gives_the_t_interval_over_the_other():
    values = [1.0, 2.0, 4.0]
    row, column = crossed_interval([values]), crossed_interval([[value] for value in values])
    assert (row.low, row.high, row.p) == (column.low, column.high, column.p)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (row.low, row.high) == (pytest.approx(low), pytest.approx(high))
