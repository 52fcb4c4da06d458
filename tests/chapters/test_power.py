"""Noise and power, and what is said of them."""

import pandas as pd
import pytest
from shown import caption, cells

from xlnb import stats
from xlnb.chapters import power
from xlnb.errors import RequestError
from xlnb.evaluation.readings import EXPRESSION, PRIMARY
from xlnb.stats import Components
from xlnb.studies.outcomes import select

NOISE = Components(seed=0.01, problem=0.5, residual=0.49, seeds=3)


def test_noise_by_its_sources():
    head, nats, points = cells(power.noise_table({"nll": NOISE, EXPRESSION: NOISE}, 100))
    assert head == ["metric", "between trainings", "between problems", "the rest", "standard error"]
    # 0.01 + (0.5 + 0.49) / 100, and its root
    assert nats == ["NLL of the solution", "1%", "50%", "49%", f"{0.0199**0.5:.2g} nats"]
    assert points[-1] == f"{100 * 0.0199**0.5:.2g} points"
    once = power.noise_table({"nll": Components(0, 0.5, 0, 1), PRIMARY: Components(0, 0, 0, 1)}, 100)
    _, one, none = cells(once)
    assert one[1:4] == ["unknown", "100%", "0%"] and none[1:] == ["unknown", "0%", "0%", "0 nats"]


def test_needed_problems_are_told_for_each_number_of_trainings():
    told = power.needed_sentence(NOISE, 0.25, (1, 3, 10), "it")
    three, ten = (stats.needed_problems(0.25, NOISE, seeds) for seeds in (3, 10))
    assert told == (
        "Problems needed to see it in four experiments of five: no number with one training, "
        f"{'no number' if three is None else f'{three:,}'} with three trainings and {ten:,} with ten trainings."
    )
    alone = power.needed_sentence(Components(0, 1.0, 0, 1), 0.05, (1,), "that")
    assert alone == "Problems needed to see that in four experiments of five: 3,142 with one training."
    assert stats.needed_problems(0.05, Components(0, 1.0, 0, 1), 1) == 3142  # about (1.96 + 0.84)^2 / 0.05^2


def test_the_table_of_power():
    shown = power.power_table(NOISE, 0.25, (50, 1000), (1, 3, 10), "it", 6)
    assert caption(shown).startswith("Table 6. The power to see it:")
    head, *rows = cells(shown)
    assert head == ["", "one training", "three trainings", "ten trainings"]
    for row, problems, name in zip(rows, (50, 1000), ("50 problems", "1,000 problems"), strict=True):
        expected = [stats.power(0.25, NOISE, problems, seeds) for seeds in (1, 3, 10)]
        assert row == [name, *(f"{100 * share:.0f} %" for share in expected)]


def test_power_is_told_as_it_is():
    share = stats.power(0.03, power.ASSUMED, 250, 3)
    assert power.power_sentence(power.ASSUMED, 0.03, 250, 3) == (
        f"With three trainings a true gain of 3 points on 250 problems is seen in {100 * share:.0f} % of experiments."
    )
    assert 0.1 < share < 0.2


def test_moving_the_calculator_s_controls_changes_what_is_shown():
    made = power.power_calculator({"a": power.ASSUMED, "b": NOISE}, number=6)
    assert caption(made.static).startswith("Table 6. The power to see 3 points by a")
    assert {name: control.value for name, control in made.controls.items()} == {
        "noise": "a", "hundredths": 3, "problems": 250, "trainings": 3,
    }  # fmt: skip

    def shown(components, difference, problems, seeds):
        return f"the difference in {100 * stats.power(difference, components, problems, seeds):.0f} % of experiments"

    assert shown(power.ASSUMED, 0.03, 250, 3) in made.shown
    made.controls["problems"].value = 2000
    made.controls["trainings"].value = 10
    assert shown(power.ASSUMED, 0.03, 2000, 10) in made.shown
    made.controls["noise"].value = "b"
    made.controls["hundredths"].value = 25
    assert shown(NOISE, 0.25, 2000, 10) in made.shown


def test_false_alarms_are_told_for_each_number_of_trainings():
    told = power.error_rate_sentence((3, 10), NOISE, 20, trials=400)
    three, ten = (100 * stats.simulated_error_rate(NOISE, 20, seeds, trials=400).value for seeds in (3, 10))
    assert f"excludes zero in {three:.1f} % with three trainings and {ten:.1f} % with ten trainings." in told
    assert told.startswith("In 400 simulated experiments") and "20 problems" in told


def answered(**arms):
    """Right and wrong answers by method, a list a seed; the base has one seed."""
    rows = [
        (method, seed, f"p{i}", float(mark == "1"))
        for method, seeds in arms.items()
        for seed, marks in seeds.items()
        for i, mark in enumerate(marks)
    ]
    frame = pd.DataFrame(rows, columns=["method", "seed", "problem", "outcome"])
    return frame.assign(metric=EXPRESSION, test_language="sw", partition="")


def test_mcnemar_is_told_of_two_models_of_one_training():
    outcomes = answered(base={0: "0000000111"}, oracle={0: "1111111111", 1: "1111110011"})
    others = pd.concat([
        outcomes,
        outcomes.assign(metric="exact-match", outcome=0.0),
        outcomes.assign(test_language="en", outcome=1.0),
    ])  # fmt: skip
    told = power.mcnemar_sentence(others, EXPRESSION, "oracle", "base", "sw", seed=1)
    expected = stats.mcnemar(*(
        select(outcomes, method=method).query(f"seed == {seed}").assign(seed=0)
        for method, seed in (("oracle", 1), ("base", 0))
    ))  # fmt: skip
    assert (expected.only_a, expected.only_b, expected.both, expected.neither) == (6, 1, 2, 1)
    assert expected.p == pytest.approx(2 * (1 + 7) / 2**7)  # one or none of seven by chance, on either side
    assert told == (
        "The oracle against the base, calculations right, training 1: only the first is right on 6 problems, only the second on "
        "1 (both on 2, neither on 1); McNemar's exact p is 0.12."
    )
    other = power.mcnemar_sentence(others, EXPRESSION, "base", "oracle", "sw", seed=0)
    assert (
        "The base against the oracle" in other
        and "only the first is right on 0 problems, only the second on 7" in other
    )
    assert f"p is {2 / 2**7:.2g}." in other


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 7}, r"No outcomes with seed 7; there are: 0, 1\."),
        ({"a": "orcale"}, r"No outcomes with method 'orcale'; there are: base, oracle\."),
        ({"b": "placebo"}, r"No outcomes with method 'placebo'; there are: base, oracle\."),
        ({"metric": "choice"}, rf"No outcomes with metric 'choice'; there are: {EXPRESSION}\."),
        ({"test_language": "bn"}, r"No outcomes with test_language 'bn'; there are: sw\."),
    ],
)
def test_mcnemar_of_what_is_not_there(changed, message):
    outcomes = answered(base={0: "01"}, oracle={0: "11", 1: "10"})
    asked = {"metric": EXPRESSION, "a": "oracle", "b": "base", "test_language": "sw", "seed": 1}
    with pytest.raises(RequestError, match=message):
        power.mcnemar_sentence(outcomes, **asked | changed)
    with pytest.raises(RequestError, match="there are: none at all"):
        power.mcnemar_sentence(outcomes.head(0), **asked)
