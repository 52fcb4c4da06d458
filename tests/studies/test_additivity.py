"""F5's rule, on made-up maps whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from xlnb.stats import crossed_interval
from xlnb.studies.additivity import additivity, cross_terms, over_trainings
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED

TEXTS = ("math", "problems", "language")


def crosses(share, seeds=5, spread=0.01, languages=("sw", "bn", "te"), **shares):
    """A map in which both vectors do 1 nat alone, and the cross term is this share of it (by text, where given)."""
    rows = []
    for seed in range(seeds):
        noise = spread * np.random.default_rng(seed).normal()
        for place, language in enumerate(languages):
            for asked in TEXTS:
                cross = shares.get(asked, share) + noise + 0.02 * (place - 1)  # languages differ around their mean
                rows.append(("whole", asked, language, seed, 2 - 1 + cross, 2 - 0.8, 2 - 0.2, 2.0))
                rows.append(("ffn", asked, language, seed, 1.0, 2.0, 2.0, 2.0))
    return pd.DataFrame(rows, columns=["part", "asked", "language", "seed", "both", "m", "l", "neither"])


def test_the_cross_term_is_averaged_over_languages_first():
    table = crosses(0.3, spread=0)
    found = cross_terms(table)
    whole = found[found["part"] == "whole"]
    assert len(whole) == 15 and whole["share"].to_numpy() == pytest.approx(0.3)
    first = table.iloc[0]
    alone = cross_terms(table[:1]).iloc[0]
    assert alone["cross"] == pytest.approx(first["both"] - first["m"] - first["l"] + first["neither"])
    assert alone["alone"] == pytest.approx(1)


def test_seeds_that_a_language_lacks_are_left_out():
    table = crosses(0.3)
    assert set(cross_terms(table[(table["language"] != "bn") | (table["seed"] < 2)])["seed"]) == {0, 1}


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (crosses(0.02), REPRODUCED),
        (crosses(-0.02), REPRODUCED),
        (crosses(0.3), NOT_REPRODUCED),
        (crosses(0.0, problems=-0.3), NOT_REPRODUCED),
        (crosses(0.1), UNCLEAR),
        (crosses(0.0, spread=0.5), UNCLEAR),
        (crosses(0.0, language=0.1), UNCLEAR),
        (crosses(0.0, seeds=2), UNTESTED),
        (crosses(0.3).query("asked != 'language'"), UNTESTED),
        (pd.DataFrame(columns=["profile", "language", "seed"]), UNTESTED),
    ],
)
def test_the_rule(table, outcome):
    assert additivity(table).outcome == outcome


def test_the_interval_is_student_s():
    values = np.array([0.1, 0.4, 0.2, 0.9])
    ours, theirs = over_trainings(values), crossed_interval(values)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
    assert np.isnan(over_trainings([0.3]).low)


def test_the_rule_seldom_errs_where_nothing_is_beyond_the_margin():
    """Just at the margin on all three texts, independently: not reproduced at most once in twenty."""
    table = crosses(0.12, spread=0, languages=("sw",)).query("part == 'whole'")  # the one language is 0.02 off
    rng, errs = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = table["both"] + rng.normal(scale=0.05, size=len(table))
        errs += additivity(table.assign(both=drawn)).outcome == NOT_REPRODUCED
    assert 0 < errs / 200 < 0.07
