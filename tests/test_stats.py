"""Intervals: known values, coverage on simulated data, pairing."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from xlnb.errors import RequestError
from xlnb.stats import Interval, crossed_interval, mean_interval, paired_difference


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


def test_one_value_and_constant_values():
    assert mean_interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5, 1)
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


def test_one_seed_is_a_bootstrap_over_problems():
    values = np.random.default_rng(1).normal(0, 1, 400)
    interval = crossed_interval(values)
    assert (interval.n, interval.seeds) == (400, 1)
    half = 1.96 * values.std(ddof=1) / 20
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_constant_outcomes_have_no_width():
    interval = crossed_interval(np.full((3, 7), 0.25))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (interval.n, interval.seeds) == (7, 3)
    assert crossed_interval(np.array([[2.0]])) == Interval(2.0, 2.0, 2.0, 1, 1)


def test_the_interval_covers_another_training_too():
    # Seeds differ, problems do not: all the width must come from the seeds.
    table = np.repeat(np.array([[-1.0], [0.0], [1.0]]), 200, axis=1)
    assert crossed_interval(table).high - crossed_interval(table).low > 1
    assert crossed_interval(table[:1]).high == pytest.approx(crossed_interval(table[:1]).low)


def test_repeatable():
    table = np.random.default_rng(0).normal(size=(3, 30))
    assert crossed_interval(table, seed=4) == crossed_interval(table, seed=4)
    assert crossed_interval(table, seed=5) != crossed_interval(table, seed=4)
    assert crossed_interval(table, seed=5).value == crossed_interval(table, seed=4).value


def test_coverage_on_simulated_data():
    # Truth 0; effects of seeds, of problems, and noise. 95 % intervals should hold 0 about that often: the crossed bootstrap
    # is conservative in the interaction, and a little narrow with few seeds.
    rng = np.random.default_rng(3)
    trials, seeds, problems = 150, 8, 40
    covered = 0
    for _ in range(trials):
        table = (
            rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 0.7, (1, problems)) + rng.normal(0, 0.7, (seeds, problems))
        )
        interval = crossed_interval(table)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / trials <= 0.995
    # An interval that ignores either seeds or problems would be much too narrow here:
    ignoring = crossed_interval(table.mean(axis=0))
    assert interval.high - interval.low > 1.1 * (ignoring.high - ignoring.low)


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
