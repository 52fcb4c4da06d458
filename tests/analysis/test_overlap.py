"""Overlap against cases counted by hand, against enumeration, and the false-alarm rate of its test."""

from itertools import combinations

import numpy as np
import pytest

from xlnb.analysis.overlap import by_chance, jaccard, likeness, top
from xlnb.errors import RequestError


def test_the_top_by_hand():
    assert top([5, 5, 1, 5], 0.5).tolist() == [True, True, False, False], "of equal ones the first"
    assert top([1, 2, 3], 0.01).tolist() == [False, False, True], "at least one"
    assert top([1, 2, 3], 1).all()
    shares = [jaccard(top([4, 3, 2, 1], share), top([4, 1, 3, 2], share)) for share in (0.25, 0.5, 1)]
    assert shares == [1, pytest.approx(1 / 3), 1]


@pytest.mark.parametrize(("n", "chosen"), [(4, 1), (5, 2), (6, 3), (7, 7)])
def test_chance_is_the_mean_over_all_pairs_of_sets(n, chosen):
    sets = [np.isin(range(n), some) for some in combinations(range(n), chosen)]
    expected = np.mean([jaccard(a, b) for a in sets for b in sets])
    assert by_chance(n, chosen) == pytest.approx(expected)


def test_what_is_alike_and_what_is_not():
    rng = np.random.default_rng(0)
    a = rng.normal(size=36)
    same, turned = likeness(a, a + 0.1 * rng.normal(size=36)), likeness(a, -a)
    assert same.correlation > 0.9 and same.p_more < 0.001 and same.p_less > 0.99
    assert turned.correlation == pytest.approx(-1) and turned.p_less < 0.001
    assert likeness(a, np.ones(36)).p_less == likeness(a, np.ones(36)).p_more == 1, "nothing is told apart"


def test_the_correlation_is_spearman_s():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20), rng.integers(0, 4, size=20)
    assert likeness(a, b).correlation == pytest.approx(spearmanr(a, b).statistic)


def test_false_alarms_are_as_rare_as_said():
    rng = np.random.default_rng(2)
    p = np.array([likeness(*rng.normal(size=(2, 20)), seed=i).p_less for i in range(200)])
    assert 0.01 < (p < 0.05).mean() < 0.1
    assert abs(p.mean() - 0.5) < 0.08


def test_what_cannot_be_compared():
    with pytest.raises(RequestError, match="3 scores are held against 2"):
        likeness([1, 2, 3], [1, 2])
    with pytest.raises(RequestError, match="finite"):
        top([1, float("nan")], 0.5)
    with pytest.raises(RequestError, match="share of the top is 0"):
        top([1, 2], 0)
