"""Claims: each is decided by its own contrasts and one rule, and a title decides nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xlnb import methods
from xlnb.chapters import figures, first_swap, layer_swapping, words
from xlnb.errors import RequestError
from xlnb.evaluation.readings import PRIMARY, READINGS
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNCLEAR, Claim, decide, evidence
from xlnb.studies.comparisons import ARMS, BASE, contrasts

SWAP, MATH, SOUP = ("layer-swapping", "C"), ("math-only", ""), ("soup", "")
CLAIM = Claim("made-up", "Is it better?", SWAP, (MATH, SOUP))


def made_up(*rows):
    """Contrasts of the swap with a rival: (rival, verdict), then what differs from the usual."""
    usual = {"test_language": "sw", "metric": PRIMARY, "method_a": SWAP[0], "partition_a": SWAP[1]}
    return pd.DataFrame(
        {**usual, "method_b": rival[0], "partition_b": rival[1], "verdict": verdict, **dict(*other)}
        for rival, verdict, *other in rows
    )


@pytest.mark.parametrize(
    ("math", "soup", "outcome"),
    [
        ("better", "better", REPRODUCED),
        ("better", "not shown", UNCLEAR),
        ("not shown", "not shown", UNCLEAR),
        ("worse", "better", NOT_REPRODUCED),
        ("not shown", "worse", NOT_REPRODUCED),
        ("worse", "worse", NOT_REPRODUCED),
    ],
)
def test_a_claim_is_decided_by_its_verdicts(math, soup, outcome):
    for table in (made_up((MATH, math), (SOUP, soup)), made_up((SOUP, soup), (MATH, math))):
        decision = decide(CLAIM, table)
        assert (decision.outcome, decision.verdicts) == (outcome, (math, soup)), "in the order of the rivals"


def test_other_contrasts_have_no_say():
    mine = [(MATH, "better"), (SOUP, "better")]
    others = [
        (MATH, "worse", {"metric": "nll"}),
        (MATH, "worse", {"test_language": "en"}),
        (SOUP, "worse", {"partition_a": "A"}),
        (SOUP, "worse", {"method_a": "soup", "partition_a": ""}),
        (("soup", "C"), "worse"),
        (BASE, "worse"),
    ]
    assert decide(CLAIM, made_up(*others, *mine)).outcome == REPRODUCED


def test_a_claim_may_be_one_about_english():
    table = made_up((MATH, "worse"), (MATH, "better", {"test_language": "en"}))
    claim = replace(CLAIM, rivals=(MATH,))
    assert decide(claim, table).outcome == NOT_REPRODUCED
    assert decide(replace(claim, in_english=True), table).outcome == REPRODUCED


def test_a_claim_is_decided_by_its_reading_and_may_be_looked_at_by_others():
    table = made_up((MATH, "worse"), (MATH, "better", {"metric": "nll"}))
    claim = replace(CLAIM, rivals=(MATH,))
    assert decide(replace(claim, metric="nll"), table).outcome == REPRODUCED
    assert list(evidence(claim, table, "nll")["verdict"]) == ["better"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [(MATH, "better")],
            "'made-up' needs one contrast of .*C.* and .*soup.* by .* in the target language; there are 0",
        ),
        ([(MATH, "better"), (SOUP, "better"), (SOUP, "better", {"test_language": "bn"})], "soup.* there are 2"),
    ],
)
def test_a_claim_without_its_contrasts_is_refused(rows, message):
    with pytest.raises(RequestError, match=message):
        decide(CLAIM, made_up(*rows))


ARMS_AND_GAINS = {
    BASE: 0.0,
    MATH: 0.3,
    ("language-only", ""): 0.1,
    SOUP: 0.2,
    ("task-arithmetic", ""): 0.25,
    SWAP: 0.5,
    ("layer-swapping", "complement of C"): -0.2,
    ("layer-swapping", layer_swapping.RANDOM): 0.2,
    ("layer-swapping", "predecessor"): 0.5,
}


def outcomes(gains):
    """Outcomes of three trainings in two languages, in which each arm has its gain on every reading, a little noise beside it."""
    rng = np.random.default_rng(5)
    rows = [
        (metric, code, *arm, seed, f"p{i}", (gain if READINGS[metric].higher_is_better else -gain) + noise)
        for metric in figures.SHOWN
        for code in ("sw", "en")
        for arm, gain in gains.items()
        for seed in ((0,) if arm == BASE else (0, 1, 2))
        for i, noise in enumerate(rng.normal(0, 0.02, 12))
    ]
    return pd.DataFrame(rows, columns=["metric", "test_language", "method", "partition", "seed", "problem", "outcome"])


def tables(gains):
    """All contrasts that the chapters' claims need, in the target language and in English."""
    claims = (first_swap, layer_swapping)
    asked = [claim for chapter in claims for claim in (chapter.CLAIM, *chapter.QUESTIONS)]
    pairs = list(dict.fromkeys((claim.arm, rival) for claim in asked for rival in claim.rivals))
    return [contrasts(outcomes(gains), pairs, code, figures.SHOWN) for code in ("sw", "en")]


CELLS = pd.DataFrame({"bottom": [0, 2], "top": [0, 1], "verdict": ["not shown", "better"]})


@pytest.mark.parametrize(
    ("changed", "first", "by_c"),
    [
        ({}, REPRODUCED, REPRODUCED),
        ({MATH: 0.7}, NOT_REPRODUCED, NOT_REPRODUCED),
        ({SOUP: 0.5}, UNCLEAR, REPRODUCED),
        ({("layer-swapping", layer_swapping.RANDOM): 0.5}, REPRODUCED, UNCLEAR),
    ],
)
def test_the_chapters_claims_follow_the_outcomes(changed, first, by_c):
    target, english = tables(ARMS_AND_GAINS | changed)
    assert decide(first_swap.CLAIM, target).outcome == first
    assert decide(layer_swapping.CLAIM, target).outcome == by_c
    opening = {
        REPRODUCED: "- **Reproduced at",
        NOT_REPRODUCED: "- **Not reproduced at",
        UNCLEAR: "- **Unclear at",
    }
    assert first_swap.first_swap_summary(target, english).startswith(opening[first])
    assert layer_swapping.swap_summary(target, english, CELLS).startswith(opening[by_c])


def test_no_title_is_a_key(monkeypatch):
    """Where every method has the same title, all verdicts, the summaries' openings and the rows of tables stay."""
    before = tables(ARMS_AND_GAINS)
    asked = (first_swap.CLAIM, layer_swapping.CLAIM, *layer_swapping.QUESTIONS)
    decisions = [decide(claim, before[0]) for claim in asked]
    told = first_swap.first_swap_summary(*before), layer_swapping.swap_summary(*before, CELLS)
    rows = words.differences_table(before[0]).as_raw_html().count("<tr")
    for slug, method in methods.METHODS.items():
        monkeypatch.setitem(methods.METHODS, slug, replace(method, title="Same"))
    after = tables(ARMS_AND_GAINS)
    for one, other in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert [decide(claim, after[0]) for claim in asked] == decisions
    first, by_c = first_swap.first_swap_summary(*after), layer_swapping.swap_summary(*after, CELLS)
    assert first.split("\n")[0] == told[0].split("\n")[0]
    assert "Math only minus Base" in told[0] and "Same minus Same" in first
    assert by_c == told[1], "it names no method by its title"
    assert words.differences_table(after[0]).as_raw_html().count("<tr") == rows
    assert len(after[0].drop_duplicates(ARMS)) * len(figures.SHOWN) == len(after[0])


def test_ids_of_claims_are_unique():
    claims = [claim for chapter in (first_swap, layer_swapping) for claim in (chapter.CLAIM, *chapter.QUESTIONS)] + [
        layer_swapping.IN_ENGLISH
    ]
    assert len({claim.id for claim in claims}) == len(claims)
