"""The scorecard, on made-up outcomes whose answers are known, whole and as they come."""

import numpy as np
import pandas as pd
import pytest
from made_up import ARMS, CONTROLS, made
from statsmodels.stats.proportion import proportion_confint

from xlnb.chapters import scorecard
from xlnb.studies import claims
from xlnb.studies.comparisons import BASE, BETTER, UNJUDGED
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study


def swap_first(method, partition):
    return 1.0 if (method, partition) == ("layer-swapping", "C") else 0.0 if method == "base" else 0.6


@pytest.fixture
def found():
    return made(swap_first)


def test_a_swap_that_is_the_best_is_called_so(found):
    table = claims.planned(found)
    word = {(row.method_a, row.method_b): row.verdict for row in table.itertuples()}
    rivals = [b for a, (b, _) in claims.PLAN.pairs if a == claims.SWAPPED]
    assert [word["layer-swapping", rival] for rival in rivals] == [BETTER] * 5
    assert [text.split(": ")[1] for text in scorecard.decisions(table)][:3] == ["reproduced with these experts."] * 3
    assert "The swap is better than the math expert (+0.40 nats per token" in scorecard.reading(table)


def test_languages_and_trainings_that_are_not_there_yet(found):
    early = found[(found["language"] == "sw") | (found["seed"] == 0)]  # one training in two languages, three in one
    table = claims.planned(early)
    assert set(table["seeds"]) == {1}, "only trainings that every language has"
    assert scorecard.reading(table) == "Fewer than three trainings, or not of all three languages: no verdict."
    two = claims.planned(found[found["language"] != "te"])
    assert set(two["seeds"]) == {3} and set(two["verdict"]) == {UNJUDGED}, "the plan is about three languages"
    assert scorecard.figure(early).html
    assert set(scorecard.against(early, code="sw")["seeds"]) == {3}
    lacking = found[found["method"] != "simultaneous"]
    assert claims.planned(lacking).empty
    assert scorecard.decisions(claims.planned(lacking))[0] == "F2: not tested yet."


def test_nothing_is_there(found):
    nothing = found.iloc[:0]
    shown = [
        scorecard.plan_figure(claims.planned(nothing), 1),
        *(draw(nothing, number=1) for draw in (scorecard.figure, scorecard.wins_table, scorecard.other_readings)),
        *(draw(nothing, number=1) for draw in (scorecard.english_table, scorecard.answers_table)),
    ]
    assert all("was not computed yet" in one.html for one in shown)


def test_wins_are_counted_over_trainings_and_languages():
    levels = {"base": 0.5, "math-only": 0.6, "soup": 0.4, "layer-swapping": 0.9}
    table = scorecard.wins(made(lambda method, partition: levels.get(method, 0.55), spread=0.001))
    by = table.set_index(["method", "partition"])
    assert set(table["cells"]) == {9}
    assert tuple(by.loc[("soup", ""), ["over_base", "over_math"]]) == (0, 0)
    assert tuple(by.loc[("layer-swapping", "C"), ["over_base", "over_math", "rank", "best", "worst"]]) == (
        1,
        1,
        1,
        1,
        1,
    )
    assert by.loc[("math-only", ""), "rank"] == 2
    assert by.loc[("soup", ""), "rank"] == len(ARMS) - 3, "the base and both references have no rank"
    for reference in (("format-control", ""), ("oracle", ""), ("layer-swapping", "half and half")):
        assert np.isnan(by.loc[reference, "rank"])


def test_every_arm_is_against_the_rival_that_is_asked_for(found):
    table = scorecard.against(found, ("soup", ""), "bn")
    assert set(zip(table["method_b"], table["partition_b"], strict=True)) == {("soup", "")}
    assert len(table) == len(ARMS) + len(CONTROLS) - 1
    assert table.iloc[0]["method_a"] == "base"
    assert table.iloc[0]["difference"] == pytest.approx(-0.6, abs=0.02)
    assert set(table["n"]) == {6}, "a pair counts once"


def test_the_figure_has_the_best_first_and_leaves_out_what_is_far_off(found):
    seen = scorecard.figure(found, number=2).html
    alt = seen[seen.index("Swahili: ") :].split(".")[0]
    assert alt.startswith("Swahili: swap ")
    assert "oracle" not in alt and "format control" not in alt
    assert scorecard.far_off(found).startswith("Left out, since they are far off: the format control at ")


def test_who_tells_twins_apart_and_what_likelihood_says(found):
    told = scorecard.likelihood_reading(found)
    assert told.count("tell") == 1 and "than the base" in told
    assert "the swap +0.40 nats per token" in told
    assert "All four are above it" not in told, "the soup is not"
    higher = made(lambda method, partition: {"base": 0.0, "math-only": 0.1}.get(method, 0.4))
    assert "All four are above it, the last without" in scorecard.likelihood_reading(higher)
    none = found[found["metric"] != "twin-choice"]
    flat = found[found["metric"] == "twin-choice"].assign(outcome=0.5)
    assert scorecard.likelihood_reading(pd.concat([none, flat])).startswith("None tells more twins apart")


def test_a_share_s_interval_stays_a_share():
    rare = made(lambda method, partition: 0.49, spread=0.02)
    ends = [
        float(end)
        for row in scorecard.answers_table(rare, 5).html.split("[")[1:]
        for end in row.split("]")[0].split(", ")
    ]
    assert min(ends) >= 0 and max(ends) <= 100


def test_a_share_that_no_training_has_still_has_an_interval():
    never = scorecard.answers_table(made(lambda method, partition: 0.1, spread=0.001), 5).html
    low, high = (100 * end for end in proportion_confint(0, 12, method="wilson"))
    assert "0.0 [0.0, 0.0]" not in never and f"0.0 [0.0, {high:.1f}]" in never and low == 0
    assert "12 problems a language, without their twins, and three trainings (the base once)" in never


def test_in_english_a_model_of_no_language_counts_once(found):
    table = scorecard.against(found, code="en")
    assert set(table["n"]) == {6}
    assert set(table["seeds"]) == {3}


def test_other_metrics_are_gains_too(found):
    html = scorecard.other_readings(found, 1).html
    cells = html[html.index("the swap</th>") :].split("</tr>")[0].split("<td")[1:]
    gains = [cell.split(">")[1].split(" ")[0] for cell in cells]
    assert gains == ["+1.00", "+100.0", "+1.00"], "a likelihood that falls is a gain"


def test_what_methods_cost(own_home):
    html = scorecard.budgets_table(Study(named_profile("smoke")), 1).html
    steps = named_profile("smoke").training.steps
    cells = {row.split("</th>")[0]: row for row in html.split('<th scope="row">')[1:]}
    for name, trainings, total in (
        ("the base", 0, 0),
        ("the math expert", 1, steps),
        ("the swap", 2, 2 * steps),
        ("data mixing", 1, 2 * steps),
        ("math last", 2, 2 * steps),
        ("simultaneous fine-tuning", 1, 2 * steps),
    ):
        told = [part.split("</td>")[0].split(">")[-1] for part in cells[name].split("<td")[2:]]
        assert told == [str(trainings), str(total), str(total * named_profile("smoke").training.batch_size)], name


def test_the_base_is_below_all(found):
    table = scorecard.against(found, BASE)
    assert (table["difference"] > 0).all()
