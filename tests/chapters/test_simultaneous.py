"""Simultaneous fine-tuning, on made-up trainings and outcomes whose answers are known, and on what is committed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters import home, scorecard, simultaneous
from xlnb.chapters.simultaneous import APART, NONE, ZERO, drift
from xlnb.errors import RequestError
from xlnb.evaluation.readings import NLL, PRIMARY, TWIN_CHOICE, TWINS
from xlnb.studies.comparisons import BETTER, EVERY_LANGUAGE, NOT_SHOWN, WORSE
from xlnb.studies.experiments import MAIN_COMPARISON
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

STEPS = 40
# How far the loss of each expert is below that of a lane at every step but the first.
BELOW = {"math-only": 0.02, "frozen-math": 0.01, "language-only": 0.3, "frozen-language": 0.1}


def trained(languages=("sw", "bn"), seeds=3, below=BELOW):
    """The records of all six trainings: losses that fall, and a batch's own noise that every model of a lane shares."""
    rows = []
    for language in languages:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            noise = {lane: rng.normal(2, 0.5, STEPS) for lane in ("math", "language")}
            tokens = {lane: rng.integers(100, 900, STEPS) for lane in noise}
            for expert in ("simultaneous", "data-mixing", *BELOW):
                lanes = [lane for lane in noise if expert in ("simultaneous", "data-mixing") or lane in expert]
                lanes = (
                    ["math"] if expert in ("math-only", "frozen-math") else ["language"] if len(lanes) < 2 else lanes
                )
                for place, lane in enumerate(lanes):
                    for step in range(STEPS):
                        loss = noise[lane][step] - (below.get(expert, 0) if step else 0)
                        at = step * len(lanes) + place
                        moves = lane if expert == "simultaneous" else "all"
                        rows.append((at, loss, 1e-4, tokens[lane][step], language, seed, expert, moves, step))
    names = ["step", "loss", "rate", "tokens", "language", "seed", "expert", "moves", "turn"]
    found = pd.DataFrame(rows, columns=names)
    return found.assign(turn=found["turn"].where(found["expert"] != "data-mixing", found["step"]))


def scored(level, languages=("sw", "bn", "te"), seeds=3, pairs=6):
    """Outcomes of the main methods, each with its level by method, test language and metric."""
    rng, rows = np.random.default_rng(0), []
    for method in MAIN_COMPARISON.methods:
        partition = "C" if method in WITH_C else ""
        for seed in range(1 if method == "base" else seeds):
            for language in languages:
                for code in (language, "en"):
                    for metric in (PRIMARY, *TWINS, NLL):
                        for problem in (f"scored-{i:06d}{twin}" for i in range(pairs) for twin in ("", "-twin")):
                            value = level(method, code, metric) + rng.normal(0, 0.01)
                            value = float(value > 0.5) if metric == TWIN_CHOICE else -value if metric == NLL else value
                            rows.append((method, partition, seed, language, code, metric, problem, value))
    names = ["method", "partition", "seed", "language", "test_language", "metric", "problem", "outcome"]
    same = {"benchmark": "templates", "split": "scored", "shots": 2, "profile": "pocket", "paradigm": "lora"}
    return pd.DataFrame(rows, columns=names).assign(**same).reindex(columns=COLUMNS, fill_value="")


WITH_C = ("layer-swapping", "frozen-experts", "simultaneous", "train-then-revert", "freeze-then-train")


def swap_first(method, code, metric):
    """The swap is best in the languages and no better in English; frozen experts are worse, but not by likelihood."""
    if method == "layer-swapping" and code != "en":
        return 1.0
    return (0.9 if metric == NLL else 0.2) if method == "frozen-experts" else 0.6


@pytest.fixture(scope="module")
def found():
    return scored(swap_first)


@pytest.fixture(scope="module")
def study():
    return home.committed_study()


@pytest.fixture(scope="module")
def losses(study):
    return simultaneous.histories(study)


@pytest.fixture(scope="module")
def committed(study):
    return simultaneous.outcomes(study)


# ------------------------------------------------------------------------------------------------ trainings


def test_a_turn_moves_the_layers_of_its_side(study):
    shown = simultaneous.turns_figure(study, steps=(9, 3), turns=8, number=1)
    order = BeautifulSoup(shown.html, "html.parser").svg["aria-label"].split(": ")[1].rstrip(".").split(", ")
    assert order == ["math", "math", "language", "math", "math", "math", "language", "math"]
    assert "The first 8 of 12 turns" in shown.html


def test_budgets_are_counted_from_the_records():
    made = trained()
    spent = simultaneous.budgets(made, "sw", batch_size=8).set_index("method")
    assert list(spent["trainings"]) == [1, 1, 2, 2]
    assert set(spent["steps"]) == {2 * STEPS}
    assert set(spent["examples"]) == {16 * STEPS}
    assert spent["tokens"].nunique() == 1
    assert tuple(spent.loc["simultaneous", ["middle", "outer"]]) == (STEPS, STEPS)
    assert tuple(spent.loc["data-mixing", ["middle", "outer"]]) == (2 * STEPS, 2 * STEPS)
    longer = made[(made["expert"] != "simultaneous") | (made["moves"] != "language") | (made["turn"] < 10)]
    spent = simultaneous.budgets(longer, "sw", batch_size=8).set_index("method")
    assert tuple(spent.loc["simultaneous", ["steps", "middle", "outer"]]) == (STEPS + 10, STEPS, 10)


def test_a_lane_is_held_against_its_experts_batch_by_batch():
    ends = simultaneous.gaps(trained()).set_index(["moves", "against"])
    for (lane, against), expert in zip(
        [("math", "whole"), ("math", "frozen"), ("language", "whole"), ("language", "frozen")], BELOW, strict=True
    ):
        assert tuple(ends.loc[(lane, against), ["mean", "low", "high"]]) == pytest.approx([BELOW[expert]] * 3)
    assert set(ends["cells"]) == {6}
    told = simultaneous.gaps_told(trained())
    assert "+0.010 (from +0.010 to +0.010) nats per token on math batches and +0.100" in told
    assert told.startswith("Over the last 30 steps of a lane") and told.endswith("over 6 trainings in 2 languages.")
    assert simultaneous.gaps_told(trained(("sw",), 1)).endswith("over one training.")


def test_other_batches_or_rates_are_not_compared():
    for column, lane in (("tokens", "math"), ("rate", "language")):
        made = trained()
        at = made[(made["expert"] == f"frozen-{lane}") & (made["turn"] == 3)].index[0]
        made.loc[at, column] *= 2
        with pytest.raises(RequestError, match=f"frozen-{lane} did not have the same {lane} batches"):
            simultaneous.paired(made)


def test_a_running_mean_is_of_the_steps_so_far():
    part = pd.DataFrame({"turn": [0, 1, 0, 1], "seed": [0, 0, 1, 1], "loss": [1.0, 3.0, 2.0, 8.0]})
    found = simultaneous.smoothed(part, "loss")
    assert found.loc[0].tolist() == [1.5, 1, 2]
    assert found.loc[1].tolist() == [3.5, 2, 5]


def test_committed_lanes_begin_where_their_experts_begin(losses):
    both = simultaneous.paired(losses)  # refuses other batches
    first = both[(both["turn"] == 0) & (both["moves"] == "math")]
    assert len(first) == 15
    assert (first["loss"] == first["whole"]).all() and (first["loss"] == first["frozen"]).all(), "nothing has moved yet"
    other = both[(both["turn"] == 0) & (both["moves"] == "language")]
    assert (other["loss"] != other["frozen"]).all(), "math has had a turn"
    assert (other["whole"] == other["frozen"]).all()


def test_committed_methods_saw_as_many_tokens(losses):
    for language in ("sw", "bn", "te"):
        spent = simultaneous.budgets(losses, language, 8)
        assert spent[["steps", "examples", "tokens"]].nunique().eq(1).all()


# ------------------------------------------------------------------------------------------------ outcomes


def test_the_plan_s_contrast_has_its_verdict(found):
    contrast = simultaneous.planned(found)
    assert list(contrast["verdict"]) == [BETTER]
    assert simultaneous.verdict(found).startswith("The swap is better than simultaneous fine-tuning (+0.40 nats")
    worse = simultaneous.planned(scored(lambda method, *_: 0.2 if method == "layer-swapping" else 0.6))
    assert list(worse["verdict"]) == [WORSE]
    assert list(simultaneous.planned(scored(lambda *_: 0.6))["verdict"]) == [NOT_SHOWN]


def test_the_verdict_is_corrected_with_the_plan_s_other_contrasts(committed):
    mine = simultaneous.planned(committed)
    whole = scorecard.planned(scorecard.outcomes(home.committed_study()))
    pd.testing.assert_frame_equal(mine, whole[whole["method_b"] == "simultaneous"])
    shown = [simultaneous.answer(), simultaneous.plan_figure(committed, 4)]
    assert shown[0].verdicts == shown[1].verdicts and len(shown[0].verdicts) == 1


def test_rivals_minus_simultaneous(found):
    table = simultaneous.against(found).set_index("method_a")
    assert set(table.index) == {"data-mixing", "frozen-experts", "math-only", "layer-swapping"}
    assert table.loc["layer-swapping", "difference"] == pytest.approx(0.4, abs=0.01)
    assert table.loc["frozen-experts", "difference"] == pytest.approx(-0.4, abs=0.01)
    assert simultaneous.against(found, "en").set_index("method_a").loc["layer-swapping", "low"] < 0
    told = simultaneous.reading(found, numbers=False)
    assert told == (
        "Over all languages, clearly above it: the swap; clearly below it: frozen experts; not clearly apart from it: the math "
        "expert and data mixing. In English, clearly below it: frozen experts; not clearly apart from it: the math expert, data "
        "mixing and the swap."
    )


def test_what_it_does_to_train_together(found):
    told = simultaneous.together(found)
    assert "gains something on problems of the target languages (−0.40 nats per token" in told
    assert "gains something in English" in told
    assert "costs something by the plain likelihood of the languages' solutions (+0.30 nats per token" in told
    alike = simultaneous.together(scored(lambda *_: 0.6))
    assert alike.count("makes no clear difference") == 3


def test_other_metrics_are_gains_too(found):
    page = BeautifulSoup(simultaneous.other_metrics(found, 2).html, "html.parser")
    cells = {
        tuple(cell.get_text() for cell in row.find_all(["th", "td"])[:2]): [
            cell.get_text() for cell in row.find_all("td")[1:]
        ]
        for row in page.tbody.find_all("tr")
    }
    assert len(cells) == 8
    gains = [cell.split(" ")[0] for cell in cells["frozen experts", "in the languages"]]
    assert gains == ["−0.40", "−100.0", "+0.30"], "a likelihood that falls is a gain"
    told = simultaneous.by_other_metrics(found)
    assert "Twins told apart: over all languages, clearly below it: frozen experts;" in told
    assert "NLL of the solution: over all languages, clearly above it: the swap and frozen experts;" in told


def test_exploratory_parts_have_no_verdict(committed, losses):
    codes = simultaneous.codes_of(committed)
    assert set(codes) == {"bn", "sw", "te"}
    for shown in (
        simultaneous.figure(committed, number=5),
        simultaneous.figure(committed, codes, number=6),
        simultaneous.other_metrics(committed, 2),
        simultaneous.loss_figure(losses, "bn", 2),
        simultaneous.gap_figure(losses, "te", 3),
    ):
        assert not shown.verdicts and "<figcaption>" in shown.html


def test_nothing_is_there(tmp_path, study, found):
    (tmp_path / "first-swap").symlink_to(study.results / "first-swap")  # which trained none of the six together
    none = simultaneous.histories(replace(study, results=tmp_path))
    assert none.empty
    nothing = found.iloc[:0]
    part = trained()
    part = part[part["expert"] != "frozen-math"]
    shown = [
        simultaneous.plan_figure(nothing, 4), simultaneous.figure(nothing, number=5), simultaneous.figure(nothing, [], 6),
        simultaneous.other_metrics(nothing, 2),
        *(draw(some, "sw", 1) for draw in (simultaneous.loss_figure, simultaneous.gap_figure) for some in (none, part)),
        *(simultaneous.budgets_table(study, some, 1) for some in (none, part)),
    ]  # fmt: skip
    assert all("was not computed yet" in one.html for one in shown)
    told = [simultaneous.gaps_told(none), simultaneous.gaps_told(part)]
    told += [say(nothing) for say in (simultaneous.verdict, simultaneous.reading, simultaneous.together)]
    assert all("was not computed yet" in one for one in told)
    assert simultaneous.summary(study, nothing, none).count("- ") == 2


def test_the_summary_says_whether_budgets_are_alike(study, found):
    assert "saw the same number of steps, examples and tokens." in simultaneous.summary(study, found, trained())
    made = trained()
    short = made[(made["expert"] != "data-mixing") | (made["step"] < STEPS)]
    assert "saw different numbers of steps, examples and tokens." in simultaneous.summary(study, found, short)
    made.loc[(made["expert"] == "data-mixing") & (made["step"] == 0), "tokens"] += 1
    assert "saw the same number of steps and examples, but not of tokens." in simultaneous.summary(study, found, made)


# ------------------------------------------------------------------------------------------------ frozen


def test_a_zero_gradient_is_no_freeze():
    first, second, own = 0.9, 0.999, 3
    mean = first * (1 - first**own) / (1 - first ** (own + 1))
    square = second * (1 - second**own) / (1 - second ** (own + 1))
    assert drift(ZERO, own=own) == pytest.approx(mean / square**0.5, rel=1e-6)
    assert drift(ZERO, weight_decay=0.1) > drift(ZERO)
    assert drift(ZERO, own=0) == pytest.approx(0), "without a step of its own there is no momentum"
    assert drift(ZERO, 20) > drift(ZERO, 5) > drift(ZERO)


@pytest.mark.parametrize("way", [NONE, APART])
def test_without_a_gradient_or_an_optimizer_nothing_moves(way):
    assert drift(way, turns=20, weight_decay=0.1) == 0


def test_the_table_of_freezes():
    cells = [cell.get_text() for cell in BeautifulSoup(simultaneous.drift_table(3).html, "html.parser").find_all("td")]
    assert cells[2:] == ["0.00"] * 4 and float(cells[0]) > 0.5


# ------------------------------------------------------------------------------------------------ live


def test_live_at_smoke(own_home, one_thread):
    live = Study(named_profile("smoke"), live=True, committed=False)
    made = simultaneous.histories(live)
    both = simultaneous.paired(made)
    first = both[(both["turn"] == 0) & (both["moves"] == "math")].iloc[0]
    assert first["loss"] == first["whole"] == first["frozen"]
    spent = simultaneous.budgets(made, "sw", 2)
    assert set(spent["steps"]) == {2 * named_profile("smoke").training.steps}
    told = simultaneous.frozen_check(live)
    assert told.count("the others by 0") == 2 and "up to 0," not in told
    scores = simultaneous.outcomes(live)
    assert simultaneous.verdict(scores) == "Fewer than three trainings: no verdict."
    assert simultaneous.figure(scores, number=5).html and simultaneous.reading(scores).startswith("Over all languages")
    assert set(simultaneous.against(scores, EVERY_LANGUAGE)["seeds"]) == {1}
