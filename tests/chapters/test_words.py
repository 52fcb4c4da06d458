"""Comparisons in sentences: whom an arm beats, to whom it loses, where the difference is not significant."""

import pandas as pd
import pytest

from xlnb.chapters.words import improved, in_prose, listed, standing
from xlnb.evaluation.readings import PRIMARY
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE


def rows(*rivals, metric=PRIMARY):
    return pd.DataFrame(
        {
            "method_a": "layer-swapping", "partition_a": "C", "method_b": method, "partition_b": partition, "metric": metric,
            "difference": 0.2, "low": 0.1, "high": 0.3, "verdict": verdict,
        }
        for (method, partition), verdict in rivals
    )  # fmt: skip


BASE, MATH, SOUP, OTHER = ("base", ""), ("math-only", ""), ("soup", ""), ("layer-swapping", "complement of C")


@pytest.mark.parametrize(
    ("rivals", "told"),
    [
        ([(MATH, WORSE)], "The swap loses to the math expert."),
        ([(MATH, WORSE), (SOUP, BETTER)], "The swap beats the soup, but loses to the math expert."),
        ([(SOUP, BETTER), (OTHER, BETTER)], "The swap beats the soup and the same layers exchanged."),
        ([(SOUP, NOT_SHOWN)], "The swap does not differ significantly from the soup."),
        (
            [(BASE, BETTER), (SOUP, NOT_SHOWN), (MATH, WORSE)],
            "The swap beats the base, but loses to the math expert; it does not differ significantly from the soup.",
        ),
        ([(MATH, UNJUDGED)], "The swap has no verdict yet: that takes three trainings."),
    ],
)
def test_where_an_arm_stands(rivals, told):
    assert standing(rows(*rivals), numbers=False) == told


def test_numbers_stand_beside_the_names_and_the_unit_once():
    told = standing(rows((SOUP, BETTER), (OTHER, BETTER)))
    assert told == (
        "The swap beats the soup (+0.20 nats per token [+0.10, +0.30]) and the same layers exchanged (+0.20 [+0.10, +0.30])."
    )


def test_an_interval_without_zero_that_is_not_significant_is_explained():
    told = standing(rows((SOUP, NOT_SHOWN)).assign(p=0.09))
    assert told == (
        "The swap does not differ significantly from the soup (+0.20 nats per token [+0.10, +0.30], p 0.09 once corrected)."
    )
    assert standing(rows((SOUP, NOT_SHOWN)).assign(low=-0.1)).endswith("[−0.10, +0.30]).")


def test_improvement_is_more_whichever_way_the_metric_points():
    assert improved(rows((SOUP, WORSE), metric="nll").iloc[0]) == "−0.20 nats per token [−0.30, −0.10]"
    assert improved(rows((SOUP, BETTER), metric="exact-match").iloc[0]) == "+20.0 points [+10.0, +30.0]"


def test_arms_that_have_no_name_in_prose_go_by_their_title():
    assert in_prose("dare") == "DARE" and in_prose("layer-swapping", "outer 2+1") == "the swap by outer 2+1"
    assert listed([]) == ""
