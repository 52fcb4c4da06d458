"""Families and claims: a contrast has one family and so one verdict, and a claim is decided by its own contrasts and one rule."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xlnb import methods
from xlnb.errors import RequestError
from xlnb.evaluation.readings import PRIMARY
from xlnb.paths import project_root
from xlnb.stats import crossed_interval, holm
from xlnb.studies import claims
from xlnb.studies.claims import (
    CLAIMS,
    FAMILIES,
    NOT_REPRODUCED,
    REPRODUCED,
    RIVALS,
    UNCLEAR,
    UNTESTED,
    Claim,
    decide,
    evidence,
)
from xlnb.studies.comparisons import (
    ARMS,
    BASE,
    BETTER,
    EVERY_LANGUAGE,
    NOT_SHOWN,
    UNJUDGED,
    WORSE,
    Family,
    contrasts,
    improvement,
    judged,
    verdicts_of,
)
from xlnb.studies.experiments import TARGET, named_experiment
from xlnb.studies.profiles import named_profile

SWAP, MATH, SOUP = ("layer-swapping", "C"), ("math-only", ""), ("soup", "")
FAMILY = Family("made-up", "Is it better?", ((SWAP, MATH), (SWAP, SOUP)), (TARGET, "en"))
CLAIM = Claim("made-up", "Is it better?", SWAP, (MATH, SOUP), FAMILY)


def made_up(*rows):
    """Judged contrasts of the swap with a rival: (rival, verdict), then what differs from the usual."""
    usual = {"family": "made-up", "test_language": "sw", "method_a": SWAP[0], "partition_a": SWAP[1]}
    return pd.DataFrame(
        {**usual, "method_b": rival[0], "partition_b": rival[1], "verdict": verdict, **dict(*other)}
        for rival, verdict, *other in rows
    )


@pytest.mark.parametrize(
    ("math", "soup", "outcome"),
    [
        (BETTER, BETTER, REPRODUCED),
        (BETTER, NOT_SHOWN, UNCLEAR),
        (NOT_SHOWN, NOT_SHOWN, UNCLEAR),
        (WORSE, BETTER, NOT_REPRODUCED),
        (NOT_SHOWN, WORSE, NOT_REPRODUCED),
        (WORSE, WORSE, NOT_REPRODUCED),
        (UNJUDGED, UNJUDGED, UNTESTED),
    ],
)
def test_a_claim_is_decided_by_its_verdicts(math, soup, outcome):
    for table in (made_up((MATH, math), (SOUP, soup)), made_up((SOUP, soup), (MATH, math))):
        decision = decide(CLAIM, table)
        assert (decision.outcome, decision.verdicts) == (outcome, (math, soup)), "in the order of the rivals"


def test_other_contrasts_have_no_say():
    mine = [(MATH, BETTER), (SOUP, BETTER)]
    others = [
        (MATH, WORSE, {"family": "another"}),
        (MATH, WORSE, {"test_language": "en"}),
        (SOUP, WORSE, {"partition_a": "A"}),
        (SOUP, WORSE, {"method_a": "soup", "partition_a": ""}),
        (("soup", "C"), WORSE),
        (BASE, WORSE),
    ]
    assert decide(CLAIM, made_up(*others, *mine)).outcome == REPRODUCED


def test_a_claim_may_be_one_about_english():
    table = made_up((MATH, WORSE), (MATH, BETTER, {"test_language": "en"}))
    claim = replace(CLAIM, rivals=(MATH,))
    assert decide(claim, table).outcome == NOT_REPRODUCED
    assert decide(replace(claim, in_english=True), table).outcome == REPRODUCED


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(MATH, BETTER)], "'made-up' needs one contrast of .*C.* and .*soup.* in the target language; there are 0"),
        ([(MATH, BETTER), (SOUP, BETTER), (SOUP, BETTER, {"test_language": "bn"})], "soup.* there are 2"),
    ],
)
def test_a_claim_without_its_contrasts_is_refused(rows, message):
    with pytest.raises(RequestError, match=message):
        evidence(CLAIM, made_up(*rows))


def outcomes(gains, seeds=3, spread=0.02, language="sw"):
    """Outcomes in two languages, in which each arm has its gain by the primary metric, trainings and problems a little noise."""
    rng = np.random.default_rng(5)
    rows = [
        (language, code, "templates", "scored", 2, PRIMARY, *arm, seed, f"p{i}", gain + moved + noise)
        for code in (language, "en")
        for arm, gain in gains.items()
        for seed in ((0,) if arm == BASE else range(seeds))
        for moved in [rng.normal(0, spread)]
        for i, noise in enumerate(rng.normal(0, spread, 12))
    ]
    names = [
        "language",
        "test_language",
        "benchmark",
        "split",
        "shots",
        "metric",
        "method",
        "partition",
        "seed",
        "problem",
    ]
    return pd.DataFrame(rows, columns=[*names, "outcome"])


GAINS = {BASE: 0.0, SWAP: 0.5, MATH: 0.3, SOUP: 0.49}


def test_a_family_is_corrected_as_a_whole():
    made = outcomes(GAINS, spread=0.005)
    table = judged(FAMILY, made)
    alone = pd.concat([contrasts(made, FAMILY.pairs, code, [PRIMARY]) for code in ("sw", "en")], ignore_index=True)
    assert len(table) == 4, "two pairs in two languages"
    assert list(table["p"]) == holm(list(alone["p"]))
    assert (table["p"] > alone["p"]).any()
    word = table.set_index(["method_b", "test_language"])["verdict"]
    assert word["math-only", "sw"] == word["math-only", "en"] == BETTER
    pd.testing.assert_frame_equal(table[["difference", "low", "high"]], alone[["difference", "low", "high"]])


def test_a_wider_family_asks_more_of_each_contrast():
    """A contrast that is significant by itself may not be so among many that are not."""
    others = {("language-only", f"made up {i}"): 0.0 for i in range(20)}
    table = outcomes({BASE: 0.0, MATH: 0.1} | others)
    narrow = judged(Family("n", "", ((MATH, BASE),)), table)
    wide = judged(Family("w", "", ((MATH, BASE), *((arm, BASE) for arm in others))), table)
    assert narrow["verdict"].iloc[0] == BETTER
    assert wide["verdict"].iloc[0] == NOT_SHOWN
    assert wide["low"].iloc[0] == narrow["low"].iloc[0] > 0, "the interval is the same"


def test_fewer_than_three_trainings_have_no_verdict():
    for seeds in (1, 2):
        table = judged(FAMILY, outcomes(GAINS, seeds))
        assert set(table["verdict"]) == {UNJUDGED}
        assert verdicts_of(table) == {}
    assert UNJUDGED not in set(judged(FAMILY, outcomes(GAINS, 3))["verdict"])


def test_models_without_a_training_are_judged_by_problems_alone():
    asked = outcomes({BASE: 0.0, ("base", "asked otherwise"): 0.5}, seeds=1)
    table = judged(Family("b", "", ((("base", "asked otherwise"), BASE),)), asked)
    assert list(table["verdict"]) == [BETTER]


@pytest.mark.parametrize("kept", [[0], [0, 1]])
def test_trainings_are_compared_seed_by_seed(kept):
    """One training against all of another model would count as three, and its own luck as none."""
    made = outcomes(GAINS)
    lacking = made[(made["method"] != SOUP[0]) | made["seed"].isin(kept)]
    with pytest.raises(
        RequestError, match=rf"has seeds \[0, 1, 2\] and {SOUP[0]} \{kept}: compare those that both have"
    ):
        contrasts(lacking, [(SWAP, SOUP)], "sw", [PRIMARY])
    assert len(contrasts(lacking, [(SOUP, BASE), (SWAP, MATH)], "sw", [PRIMARY])) == 2


def test_outcomes_of_two_kinds_are_not_compared():
    mixed = pd.concat([outcomes(GAINS), outcomes(GAINS).assign(benchmark="prose")])
    with pytest.raises(RequestError, match=r"several kinds are compared \(benchmark: templates, prose\)|stands twice"):
        contrasts(mixed, FAMILY.pairs, "sw", [PRIMARY])


def test_no_contrast_is_in_two_families():
    keys = Counter(
        (a, b, code, metric, tuple(sorted(family.where.items())))
        for family in FAMILIES.values()
        for a, b in family.pairs
        for code in family.languages
        for metric in family.metrics
    )
    assert max(keys.values()) == 1
    turned = {(b, a, *rest) for a, b, *rest in keys}
    assert not turned & set(keys), "nor the other way round"


def test_ids_are_unique_and_each_claim_s_contrasts_are_in_its_family():
    assert len({family.question for family in FAMILIES.values()}) == len(FAMILIES)
    for claim in CLAIMS.values():
        assert {(claim.arm, rival) for rival in claim.rivals} <= set(claim.family.pairs), claim.id
        assert claim.family.id in FAMILIES


def test_improvement_points_one_way():
    row = pd.DataFrame({"metric": ["nll"], "difference": [-0.2], "low": [-0.3], "high": [-0.1]}).iloc[0]
    assert improvement(row) == (0.2, 0.1, 0.3)
    assert improvement(row.replace("nll", "exact-match")) == pytest.approx((-20, -30, -10))


def test_no_title_is_a_key(monkeypatch):
    """Where every method has the same title, all verdicts stay."""
    gains = {BASE: 0.0, SWAP: 0.5} | {arm: 0.1 * i for i, (_, arm) in enumerate(RIVALS.pairs)}
    before = judged(RIVALS, outcomes(gains))
    for slug, method in methods.METHODS.items():
        monkeypatch.setitem(methods.METHODS, slug, replace(method, title="Same"))
    after = judged(RIVALS, outcomes(gains))
    pd.testing.assert_frame_equal(before, after)
    assert len(verdicts_of(after)) == len(after) == len(after.drop_duplicates(ARMS))
    claim = claims.Claim("best", "Is the swap better than other merges?", SWAP, (claims.ADDITION, claims.SOUP), RIVALS)
    assert decide(claim, after) == decide(claim, before)


# --- over pairs of twins, and over languages --------------------------------------------------------------

LANGUAGES = ("sw", "bn", "te")


def compared(values, languages=LANGUAGES):
    """Outcomes of methods by (seed, pair, twin, language), as an experiment has them."""
    rows = [
        {
            "method": method, "partition": partition, "seed": seed, "language": language, "test_language": language,
            "benchmark": "templates", "split": "scored", "shots": 2, "metric": PRIMARY,
            "problem": f"scored-{pair:06d}{'-twin' if twin else ''}", "outcome": value,
        }
        for (method, partition), table in values.items()
        for (seed, pair, twin, place), value in np.ndenumerate(table)
        for language in languages[place : place + 1]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_pairs_and_languages_are_averaged_not_counted():
    rng = np.random.default_rng(0)
    swap, math = rng.normal(1, 1, (5, 8, 2, 3)), rng.normal(0, 1, (5, 8, 2, 3))
    family = replace(claims.PLAN, pairs=((SWAP, MATH),))
    (row,) = judged(family, compared({SWAP: swap, MATH: math})).itertuples()
    expected = crossed_interval((swap - math).mean(axis=(2, 3)))
    assert (row.n, row.seeds) == (8, 5), "pairs, not problems; trainings, not trainings by languages"
    assert (row.difference, row.low, row.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert row.language == row.test_language == EVERY_LANGUAGE
    assert row.p == pytest.approx(expected.p)


def test_the_base_stands_against_every_training():
    base, math = np.zeros((1, 4, 2, 3)), np.ones((3, 4, 2, 3))
    family = replace(claims.PLAN, pairs=((MATH, BASE),))
    (row,) = judged(family, compared({BASE: base, MATH: math})).itertuples()
    assert (row.difference, row.seeds, row.verdict) == (1, 3, BETTER)


@pytest.mark.parametrize("lost", [{"language": "te", "problem": "scored-000002"}, {"problem": "scored-000001-twin"}])
def test_an_average_over_less_than_all_is_refused(lost):
    rows = compared({SWAP: np.ones((3, 4, 2, 3)), MATH: np.zeros((3, 4, 2, 3))})
    gone = (rows["method"] == "math-only") & (rows["seed"] == 2)
    for column, value in lost.items():
        gone &= rows[column] == value
    with pytest.raises(RequestError, match=r"math-only \(seed 2\) has . outcomes of scored-00000"):
        judged(replace(claims.PLAN, pairs=((SWAP, MATH),)), rows[~gone])


def test_the_plan_in_the_book_is_the_one_that_is_judged():
    text = (project_root() / "book" / "plan.md").read_text()
    rows = re.findall(r"^\| \d \| (.+?) − (.+?) \|", text, re.M)
    titles = {
        SOUP[0]: "soup",
        MATH[0]: "math expert",
        "train-then-revert": "train, then revert",
        "simultaneous": "simultaneous fine-tuning",
    }
    named = lambda arm: titles.get(arm[0]) or methods.METHODS[arm[0]].title.lower()  # noqa: E731
    assert [(a.lower(), b.lower()) for a, b in rows] == [(named(a), named(b)) for a, b in claims.PLAN.pairs]
    compares = named_experiment("methods").asks[0]
    assert f"{named_profile('pocket').compared} scored ones a language" in text
    assert f"problem seed {compares.changes['problem_seed']}" in text
    asked = {slug for pair in claims.PLAN.pairs for slug, _ in pair}
    assert asked <= set(compares.methods)
    for claim in claims.CLAIMS.values():
        assert {(claim.arm, rival) for rival in claim.rivals} <= set(claims.PLAN.pairs)
