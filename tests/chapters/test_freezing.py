"""Freezing or reverting, on made-up outcomes whose answers are known, and from what is committed."""

import pytest
from made_up import made
from shown import caption

from xlnb.chapters import freezing, home, scorecard
from xlnb.chapters.words import improved
from xlnb.evaluation.readings import NLL, PRIMARY
from xlnb.studies import claims
from xlnb.studies.comparisons import ABOVE, BETTER, WORSE, side
from xlnb.studies.study import open_study


def planned(found):
    return freezing.of_freezing(claims.planned(found))


def reverting_wins(method, partition):
    return {"layer-swapping": 0.9, "train-then-revert": 0.7, "base": 0.0, "math-only": 1.0}.get(method, 0.4)


@pytest.fixture
def found():
    return made(reverting_wins)


def test_what_is_reverted_and_what_is_frozen():
    assert freezing.PAIRS == ((claims.SWAPPED, claims.FROZEN), (claims.REVERTED, claims.FROZEN_MATH))
    assert set(freezing.PAIRS) <= set(claims.PLAN.pairs), "no verdict that the plan does not have"


def test_reverting_that_wins_is_called_so(found):
    made = planned(found)
    assert list(made["verdict"]) == [BETTER, BETTER]
    assert all("reproduced with these experts (+0." in sentence for sentence in freezing.decisions(made))
    told = freezing.languages_reading(found)
    assert told.count("(both experts)") == told.count("(the math expert alone)") == 3
    assert "reverting is ahead in Swahili (both experts)" in told and "freezing" not in told


def test_the_plan_s_correction_is_over_all_six(found):
    whole = claims.planned(found).set_index(["method_a", "method_b"])["p"]
    mine = planned(found).set_index(["method_a", "method_b"])["p"]
    assert mine.equals(whole.loc[mine.index])


def test_sides_are_told_apart(found):
    turned = found.assign(outcome=-found["outcome"])
    assert list(planned(turned)["verdict"]) == [WORSE, WORSE]
    assert "freezing is ahead in Swahili" in freezing.languages_reading(turned)
    equal = found.assign(outcome=0.5)
    assert freezing.languages_reading(equal) == freezing.metrics_reading(equal) == "No interval excludes zero."


def test_a_likelihood_that_falls_is_a_gain(found):
    told = freezing.metrics_reading(found)
    assert "by the NLL of the solution (both experts)" in told and "freezing" not in told
    higher = found.assign(outcome=found["outcome"].where(found["metric"] != NLL, -found["outcome"]))
    assert "freezing is ahead by the NLL of the solution (both experts)" in freezing.metrics_reading(higher)


def test_the_steps_add_up_to_the_difference(found):
    """What is lost and what is put in its place: the two steps of a method are its difference to the math expert."""
    values = {}
    html = freezing.steps_table(found, 1).html
    for row in html.split("<tr>")[2:]:
        cells = [cell.split(">", 1)[1].split("<")[0] for cell in row.split("<t")[1:]]
        values[cells[0]] = float(cells[2].split(" ")[0].replace("−", "-"))
    by_reverting = values["given up by reverting"] + values["filled by the language expert, all of it trained"]
    by_freezing = values["given up by freezing"] + values["filled by the language expert, its share alone trained"]
    assert by_reverting == pytest.approx(0.9 - 1.0, abs=0.02)
    assert by_freezing == pytest.approx(0.4 - 1.0, abs=0.02)


def test_nothing_is_there(found):
    nothing = found.iloc[:0]
    for draw in (freezing.languages_figure, freezing.steps_table, freezing.metrics_table):
        assert "was not computed yet" in draw(nothing, 1).html
    assert "was not computed yet" in freezing.plan_figure(planned(nothing), 1).html
    assert freezing.decisions(planned(nothing)) == ["F4: not tested yet."]


def test_what_is_committed_is_told_with_the_plan_s_verdicts():
    study = home.committed_study()
    assert dict(freezing.answer().verdicts).items() <= dict(scorecard.answer().verdicts).items()
    found = scorecard.outcomes(study)
    assert len(freezing.summary(planned(found), found, freezing.elsewhere(study)).splitlines()) == 4
    assert set(home.planned()["metric"]) == {PRIMARY}


def test_what_is_committed_elsewhere_is_drawn_with_its_trainings(found, monkeypatch):
    full = found[(found["language"] == "sw") & (found["seed"] < 2)].assign(paradigm="full")
    there = {("main-methods", "full"): full, ("partitions", "lora"): full.iloc[:0]}
    monkeypatch.setattr(freezing, "committed_outcomes", lambda results, name, profile, paradigm: there[name, paradigm])
    study = open_study("pocket", "sw", 0, live=False)
    told = (
        "; right of zero reverting is better. Exploratory: Partition C (full fine-tuning), in Swahili by {}. Not computed yet: "
        "Partition A (LoRA), Partition B (LoRA) and Half and half (LoRA)."
    )

    def drawn():
        return caption(freezing.elsewhere_figure(freezing.elsewhere(study), 3))

    def said():
        return freezing.elsewhere_reading(freezing.elsewhere(study))

    assert drawn().endswith(f" pairs of twins, lines 95 % intervals{told.format('two trainings')}")
    assert said().startswith("Not computed yet by three trainings"), "two would say little of another one"
    there["main-methods", "full"] = full[full["seed"] == 0]
    assert drawn().endswith(f" (of one training over problems alone){told.format('one training')}")
    there["main-methods", "full"] = full.iloc[:0]
    assert "Not computed yet" in drawn() and "Not computed yet" in said()
    there["main-methods", "full"] = found[found["language"] == "sw"].assign(paradigm="full")
    row = freezing.elsewhere(study)["Partition C (full fine-tuning)"].iloc[0]
    ahead = "reverting" if side(row) == ABOVE else "freezing"
    where = "with both experts under partition C (full fine-tuning) in Swahili"
    assert side(row) and f"{ahead} is ahead {where} ({improved(row)})" in said()
    assert ("all others include it" in said()) == any(
        not side(each) for each in freezing.elsewhere(study)["Partition C (full fine-tuning)"].itertuples()
    )
