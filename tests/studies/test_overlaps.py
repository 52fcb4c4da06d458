"""Overlap over seeds: pairs of other seeds alone, intervals that hold, and a rule that says what it should of made-up maps."""

import numpy as np
import pytest
from made_up_maps import DEPTH, made_maps
from scipy.stats import spearmanr

from xlnb.analysis.overlap import alike, by_chance, jaccard, jackknife, top
from xlnb.errors import RequestError
from xlnb.studies import importances, overlaps
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED
from xlnb.studies.comparisons import EVERY_LANGUAGE
from xlnb.studies.overlaps import BETWEEN, DISTINCT, OVER_CHANCE, OVER_CONTROL, PAIRS, SHARED


@pytest.fixture(scope="module")
def maps():
    return made_maps()


def judged(**changes):
    return overlaps.decide(overlaps.overlaps(importances.scores(made_maps(**changes))))


def test_scores_are_those_of_the_maps(maps):
    found = importances.scores(maps).set_index(["measure", "language", "seed", "side", "layer", "site"])["score"]
    assert len(found) == 5 * 3 * 3 * 2 * DEPTH * 2
    lengths, sites = maps["lengths"], maps["sites"]
    mine = lengths[(lengths["language"] == "bn") & (lengths["seed"] == 1) & (lengths["layer"] == 4)]
    mine = mine[mine["block"] == "ffn"]
    assert found["change", "bn", 1, "language", 4, "ffn"] == pytest.approx((mine["l"].sum() / mine["own"].sum()) ** 0.5)
    there = sites[(sites["language"] == "te") & (sites["seed"] == 2) & (sites["expert"] == "math-only")]
    there = there[(there["asked"] == "math") & (there["intervention"] == "patching")]
    loss = there[(there["layer"] == 7) & (there["block"] == "attention")]["loss"].item()
    assert found["patching", "te", 2, "math", 7, "attention"] == pytest.approx(3.0 - loss) and loss < 3.0
    finer = importances.scores(maps, "projection").set_index(["measure", "language", "seed", "side", "layer", "site"])[
        "score"
    ]
    assert finer["taylor", "sw", 0, "math", 3, "q"] == 0
    attention = [finer["fisher", "sw", 0, "math", 3, projection] for projection in "qkvo"]
    assert found["fisher", "sw", 0, "math", 3, "attention"] == pytest.approx(sum(attention))


def test_pairs_are_of_different_seeds(maps):
    values = overlaps.arrays(importances.scores(maps), "change")["sw"]
    assert values.shape == (2, 3, 36)
    found = alike(values, 0.2)
    told = overlaps.means(found, range(3))
    by_hand = {
        BETWEEN: [(values[0, i], values[1, j]) for i in range(3) for j in range(3) if i != j],
        PAIRS[1]: [(values[0, i], values[0, j]) for i in range(3) for j in range(i)],
        PAIRS[2]: [(values[1, i], values[1, j]) for i in range(3) for j in range(i)],
    }
    for name, pairs in by_hand.items():
        assert told[name] == pytest.approx(np.mean([jaccard(top(a, 0.2), top(b, 0.2)) for a, b in pairs]))
        correlation = overlaps.means(alike(values), range(3))[name]
        assert correlation == pytest.approx(np.mean([spearmanr(a, b).statistic for a, b in pairs]))


def test_equal_ranks_and_no_spread():
    flat = np.stack([np.zeros((2, 4)), np.array([[1.0, 2, 2, 3], [3, 1, 2, 2]])])
    found = alike(flat)
    assert (found[0] == 0).all()
    assert found[1, 0, 1, 1] == pytest.approx(spearmanr(*flat[1]).statistic)


def test_a_table_has_the_differences_that_it_names(maps):
    found = overlaps.overlaps(importances.scores(maps), 0.2)
    value = found.set_index(["measure", "language", "quantity"])["value"]
    for measure in importances.MEASURES:
        mine = value[measure]
        for code in ("sw", "bn", "te", EVERY_LANGUAGE):
            between, math, language, chance, control = mine[code][[*PAIRS, OVER_CHANCE, OVER_CONTROL]]
            assert chance == pytest.approx(between - by_chance(36, 7))
            assert control == pytest.approx(between - (math + language) / 2)
        assert mine[EVERY_LANGUAGE][BETWEEN] == pytest.approx(
            np.mean([mine[code][BETWEEN] for code in ("sw", "bn", "te")])
        )


def test_the_jackknife_is_the_interval_of_a_mean_and_holds_for_pairs():
    values = np.array([1.0, 2.0, 4.0, 3.0])
    told = jackknife(lambda kept: float(values[list(kept)].mean()), 4)
    half = 3.182446 * values.std(ddof=1) / 2
    assert (told.low, told.high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-6)
    rng, missed, trials = np.random.default_rng(0), 0, 400
    for _ in range(
        trials
    ):  # rows of seeds around a common profile: how alike math and the language are, by many seeds, is 0.32
        common = rng.normal(size=30) * 0
        rows = rng.normal(size=(2, 5, 30)) + common
        found = alike(rows)
        one = jackknife(lambda kept, found=found: overlaps.means(found, kept)[BETWEEN], 5)
        missed += not one.low <= 0 <= one.high
    assert missed / trials < 0.08
    few = jackknife(lambda kept: 1.0, 2)
    assert few.value == 1 and np.isnan(few.low) and few.seeds == 2


def test_the_same_task_under_two_names_is_seldom_called_distinct():
    rng, called, trials = np.random.default_rng(1), 0, 300
    for _ in range(trials):  # both sides have one profile, and every seed its own noise
        found = alike(rng.normal(size=36) + rng.normal(size=(2, 5, 36)), 0.2)
        called += jackknife(lambda kept, found=found: apart(found, kept), 5).high < 0
    assert called / trials < 0.06


def apart(found, kept):
    between, *within = overlaps.means(found, kept).values()
    return between - sum(within) / 2


def test_the_rule():
    apart = judged()
    assert (apart.outcome, apart.verdicts) == (REPRODUCED, (DISTINCT,) * 5)
    same = judged(apart=False)
    assert (same.outcome, same.verdicts) == (NOT_REPRODUCED, (SHARED,) * 5)
    mixed = judged(lone=("fisher", "taylor"))
    assert mixed.outcome == REPRODUCED and mixed.verdicts.count(SHARED) == 2, "most measures count"
    assert judged(lone=("fisher", "taylor", "change")).outcome == NOT_REPRODUCED
    noisy = judged(noise=30.0)
    assert (noisy.outcome, set(noisy.verdicts)) == (UNCLEAR, {UNCLEAR}), "no seed is like another: no control"
    assert judged(seeds=2).outcome == UNTESTED


def test_what_is_missing_is_not_judged(maps):
    found = importances.scores(maps | {"sites": maps["sites"].iloc[:0]})
    assert set(found["measure"]) == {"change", "taylor", "fisher"}
    assert overlaps.decide(overlaps.overlaps(found)).outcome == UNTESTED
    nothing = importances.scores({name: maps[name].iloc[:0] for name in importances.MAPS})
    assert nothing.empty and overlaps.overlaps(nothing).empty
    assert overlaps.decide(overlaps.overlaps(nothing)).outcome == UNTESTED


def test_seeds_that_a_language_lacks_count_nowhere(maps):
    found = importances.scores(maps)
    early = found[(found["language"] != "te") | (found["seed"] < 2)]
    assert set(overlaps.overlaps(early)["seeds"]) == {2}
    other = found[(found["language"] != "te") | (found["layer"] < 9)]
    with pytest.raises(RequestError, match="other sites in one language"):
        overlaps.overlaps(other)


def test_curves_have_a_share(maps):
    found = overlaps.curves(importances.scores(maps), (0.1, 1.0))
    whole = found[(found["share"] == 1.0) & found["quantity"].isin(PAIRS)]
    assert (whole["value"] == 1).all() and set(found["share"]) == {0.1, 1.0}


def test_a_seed_that_is_left_out_takes_its_pairs_of_single_weights():
    """A seed's experts are held against the next one's, whatever they learned."""
    every = {name: {0: 0.1, 1: 0.2, 2: 0.4} for name in PAIRS}
    for name in PAIRS:
        left = overlaps._of_elements(every, {name: 1.0}, [0, 1, 2, 3], [0, 2, 3])
        assert left == 0.4, "seed 1 is in the pairs of 0 and of 1"
