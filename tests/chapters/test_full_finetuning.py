"""Full fine-tuning beside LoRA, on made-up outcomes whose answers are known."""

import pandas as pd
import pytest
from made_up import made
from shown import caption, cells

from xlnb.chapters import full_finetuning
from xlnb.chapters.words import in_prose
from xlnb.evaluation.readings import PRIMARY, TWIN_INFORMATION
from xlnb.studies import claims
from xlnb.studies.comparisons import ABOVE, BASE, BELOW, side
from xlnb.studies.experiments import MAIN_COMPARISON
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.study import open_study


def level(method, partition):
    return {"base": 0.0, "math-only": 0.9, "layer-swapping": 0.5, "soup": 0.1, "train-then-revert": 0.6}.get(
        method, 0.3
    )


def turned(method, partition):
    """Where the swap is ahead of the math expert."""
    return 1.5 if method == "layer-swapping" else level(method, partition)


@pytest.fixture
def study():
    return open_study("pocket", "sw", 0, live=False)


@pytest.fixture
def committed(monkeypatch):
    """A function that commits outcomes of both paradigms; of full fine-tuning the main methods, in Swahili alone."""

    def commit(lora, full):
        mine = full[full["method"].isin(MAIN_COMPARISON.methods) & full["partition"].isin(["", "C"])]
        tables = {"lora": lora, "full": mine[mine["test_language"] == "sw"].assign(paradigm="full")}
        monkeypatch.setattr(
            full_finetuning, "committed_outcomes", lambda results, profile, paradigm, asked: tables[paradigm].copy()
        )

    return commit


def test_what_both_have_is_compared(study, committed):
    committed(made(level, seeds=4), made(turned, languages=("sw",)))
    both = full_finetuning.outcomes(study)
    for part in both.values():
        trained = part[part["method"] != BASE[0]]
        assert set(trained["method"]) == set(MAIN_COMPARISON.methods) - {"base"}
        assert set(trained["seed"]) == {0, 1, 2} and set(part["language"]) == set(trained["test_language"]) == {"sw"}
    assert len(both["lora"]) == len(both["full"])


def test_sides_are_told_by_paradigm(study, committed):
    committed(made(level), made(turned, languages=("sw",)))
    both = full_finetuning.outcomes(study)
    rows = full_finetuning.differences(both)
    of_math = {name: next(part.itertuples()) for name, part in rows.items()}
    assert (of_math["lora"].method_a, of_math["lora"].method_b) == ("layer-swapping", "math-only")
    assert (side(of_math["lora"]), side(of_math["full"])) == (BELOW, ABOVE)
    told = full_finetuning.reading(both)
    swap = in_prose(*claims.SWAPPED)
    start = "With full fine-tuning in Swahili, by three trainings and intervals alone, "
    assert told.startswith(f"{start}{swap} is above the math expert (+0.6")
    told = full_finetuning.as_by_lora(both)
    by_lora = "5 are on the same side of zero by full fine-tuning in Swahili as by LoRA in the same trainings, and 1 on opposite"
    by_twins = "Twins share all their numbers: by information gained on the twin the math expert is above the base by LoRA (+0."
    assert f"Of the plan's 6 differences {by_lora} sides. {by_twins}" in told
    assert "above the base by full fine-tuning (+0." in told and "numbers and form" not in told
    assert told.endswith(
        "Of the 6 differences by full fine-tuning 6 are above and 0 below zero by information gained on the twin and 5 are above "
        "and 0 below zero by twins told apart, with intervals that exclude it."
    )


def test_an_expert_that_twins_do_not_tell_from_the_base_is_said_to_be_so(study, committed):
    table = made(turned, languages=("sw",))
    flat = table.assign(outcome=table["outcome"].where(table["metric"] != TWIN_INFORMATION, 0.0))
    committed(made(level), flat)
    told = full_finetuning.as_by_lora(full_finetuning.outcomes(study))
    assert (
        "is above the base by LoRA (+0." in told and "not told apart from the base by full fine-tuning (+0.00" in told
    )
    assert (
        "). Where it is not above, what tells models apart may be numbers and form, not how well a problem is read."
        in told
    )
    assert "; by twins told apart the math expert is above the base by LoRA (+" in told
    assert "full fine-tuning 0 are above and 0 below zero by information gained on the twin and 5 are above" in told


def test_intervals_that_include_zero_are_on_no_side(study, committed):
    """Two of them are not told to agree."""
    committed(made(lambda method, partition: 0.0, spread=0.0), made(turned, languages=("sw",)))
    told = full_finetuning.reading(full_finetuning.outcomes(study))
    summary = full_finetuning.summary(full_finetuning.outcomes(study))
    assert "the swap is" in told and "the swap is" not in summary
    assert (
        "differences 0 are on the same side of zero" in summary
        and "and 0 on opposite sides; of the other 6 at least one" in summary
    )


def test_a_training_that_lacks_a_method_is_left_out(study, committed):
    full = made(turned, languages=("sw",), seeds=4)
    lacking = full[(full["seed"] != 1) | (full["method"] != "simultaneous")]
    committed(made(level, seeds=4), lacking)
    assert set(full_finetuning.outcomes(study)["full"]["seed"]) == {0, 2, 3}
    committed(made(level), lacking)
    assert full_finetuning.outcomes(study) == {}, "two trainings are too few"


def test_methods_are_held_against_the_math_expert_of_their_paradigm(study, committed):
    committed(made(level, spread=0), made(turned, languages=("sw",), spread=0))
    shown = full_finetuning.methods_table(full_finetuning.outcomes(study), number=9)
    head, *rows = cells(shown)
    assert [name.rpartition(", ")[2] for name in head[1:]] == ["LoRA", *["full fine-tuning"] * 4]
    values = {row[0]: row[1:] for row in rows}
    assert len(values) == len(MAIN_COMPARISON.methods) - 1, "all but the math expert"
    in_nats = [place for place, name in enumerate(head[1:]) if "(nats)" in name]
    assert len(in_nats) == 4
    for place, sign in zip(
        in_nats, ("−0.40", "+0.60", "+0.60", "+0.60"), strict=True
    ):  # less likelihood lost is a gain, too
        assert values[in_prose(*claims.SWAPPED)][place].startswith(sign)
    assert all(values["the base"][place].startswith("−0.90") for place in in_nats)
    assert caption(shown).startswith("Table 9. Every method against the math expert of the same paradigm, in Swahili,")


def test_wins_are_those_of_full_fine_tuning(study, committed):
    committed(made(level), made(turned, languages=("sw",)))
    _, *rows = cells(full_finetuning.wins_table(full_finetuning.outcomes(study), 10))
    found = {row[0]: row[1:] for row in rows}
    assert found[in_prose(*claims.SWAPPED)] == ["100%", "100%", "1.0", "1, 1"], "by LoRA it is not the best"
    assert found[in_prose(*claims.SOUP)][:2] == ["100%", "0%"] and len(rows) == len(MAIN_COMPARISON.methods) - 1


def test_rates_and_lengths_are_told(study, committed, monkeypatch):
    committed(made(level), made(turned, languages=("sw",)))
    asked = []

    def no_map(name, results, **filters):
        asked.append(filters)
        return pd.DataFrame(columns=["seed"])

    monkeypatch.setattr(full_finetuning, "load_map", no_map)
    both = full_finetuning.outcomes(study)
    told = full_finetuning.strength_sentence(study, both)
    training = study.profile.training
    assert (training.learning_rate, training.full_learning_rate) == (1.5e-4, 1e-5)
    assert (
        "LoRA by a peak rate of 0.00015 and full fine-tuning by a peak rate of 0.00001. Neither rate was tuned." in told
    )
    assert [one["paradigm"] for one in asked] == ["lora", "full"] and asked[0]["seed"] == [0, 1, 2]
    sums = pd.DataFrame({"language": "sw", "seed": [0, 1], "own": 4.0, "m": 0.01, "l": 0.0004, "dot": 0.0})
    monkeypatch.setattr(full_finetuning, "load_map", lambda *arguments, **filters: sums)
    told = full_finetuning.strength_sentence(study, both)
    assert "moved" not in told, "one of the three trainings is lacking"
    whole = sums.iloc[[0, 0, 1]].assign(seed=[0, 1, 2])
    monkeypatch.setattr(full_finetuning, "load_map", lambda *arguments, **filters: whole)
    told = full_finetuning.strength_sentence(study, both)
    assert told.count("(the math expert moved by 5.00% of the weights' length, the language expert by 1.00%)") == 2


def test_nothing_is_drawn_before_both_are_committed(study, committed, monkeypatch):
    committed(made(level), made(turned).iloc[:0])
    assert full_finetuning.outcomes(study) == {}

    monkeypatch.setattr(full_finetuning, "committed_outcomes", lambda *named, **filters: pd.DataFrame(columns=COLUMNS))
    assert full_finetuning.outcomes(study) == {}
    for draw in (full_finetuning.figure, full_finetuning.methods_table, full_finetuning.wins_table):
        assert "--paradigms full" in draw({}, 4).html
    assert full_finetuning.summary({}) == ""
    for tell in (full_finetuning.reading, full_finetuning.by_twins):
        assert tell({}) == full_finetuning.NOT_YET
    assert full_finetuning.strength_sentence(study, {})


def test_what_is_drawn_is_what_is_told(study, committed):
    committed(made(level), made(turned, languages=("sw",)))
    shown = full_finetuning.figure(full_finetuning.outcomes(study), number=4)
    assert caption(shown).startswith(
        "Figure 4. The plan's six pairs by both paradigms, in Swahili: dots are means over 6 pairs"
    )
    assert not shown.verdicts, "exploratory"
    assert PRIMARY in {*made(level)["metric"]} and set(COLUMNS) >= {"paradigm"}
