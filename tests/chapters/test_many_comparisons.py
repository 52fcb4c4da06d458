"""Families of contrasts, before and after they are corrected as wholes."""

from itertools import combinations

import pandas as pd
from shown import cells

from xlnb.chapters import many_comparisons
from xlnb.corpora import templates
from xlnb.evaluation.shortcuts import situations
from xlnb.methods import ORACLE
from xlnb.studies import claims
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE, by_situations


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
    situations = FOUND | {"gap": FOUND["gap"].assign(verdict=NOT_SHOWN)}
    head, *rows = cells(many_comparisons.families_table(FOUND, situations, number=7))
    assert head == ["question", "contrasts", "trainings", "each for itself", "after Holm", "by situations"]
    assert rows == [
        [claims.GAINS.question, "4", "3", "3", "1", "1"],
        [claims.GAP.question, "1", "none", "1", "1", "0"],
        [claims.COST.question, "2", "3", "no verdict", "no verdict", "no verdict"],
    ]
    told = many_comparisons.situations_sentence(FOUND, situations)
    assert f"1 of 1 to “{claims.GAP.question}” get another verdict" in told
    assert many_comparisons.situations_sentence(FOUND, FOUND).endswith("all verdicts are the same.")
    assert many_comparisons.families_sentence(FOUND) == (
        "Of 5 contrasts in 2 families 4 have an interval that excludes zero; after Holm's correction 2 are significant. It takes "
        f"most away from “{claims.GAINS.question}”: 1 of 3 remain."
    )
    assert many_comparisons.families_sentence({"gap": FOUND["gap"]}).endswith("Here it takes nothing away.")
    assert many_comparisons.families_sentence({"cost": FOUND["cost"]}) == "No family has a verdict yet."


def test_by_situations_committed_families_have_a_draw_a_pair_of_twin_situations():
    found, by_pairs = many_comparisons.judged_families(), many_comparisons.judged_families(by_situations)
    assert set(found) == set(by_pairs)
    for name, part in by_pairs.items():
        assert list(part["metric"]) == list(found[name]["metric"])
        problems = part[part["benchmark"] == "templates"]
        assert (problems["n"] == problems["split"].map({"scored": 24, "development": 12})).all(), name
        assert (part["difference"] - found[name]["difference"]).abs().max() < 0.2 * found[name][
            "difference"
        ].abs().max()


def test_situations_are_those_of_the_problems_that_were_drawn():
    handed = {}

    def arranged(outcomes, seed):
        handed[seed] = handed.get(seed, 0) + 1
        return outcomes

    found = many_comparisons.judged_families(arranged)
    assert handed == {0: len(found) - 1, 1: 1}, "the plan's problems are drawn by another seed"
    for seed in handed:
        problems = templates.problems("sw", "scored", 50, seed), templates.twins("sw", "scored", 50, seed)
        frames = {one.id: {one.frame, twin.frame} for one, twin in zip(*problems, strict=True)}
        named = situations(frames, seed)
        for one, other in combinations(frames, 2):
            assert (named[one] == named[other]) == (frames[one] == frames[other])


def test_each_declared_family_is_known_by_what_was_asked():
    assert {*many_comparisons.ASKED, claims.PLAN.id} == set(claims.FAMILIES)


def test_committed_families_are_corrected_as_wholes():
    found = many_comparisons.judged_families()
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
