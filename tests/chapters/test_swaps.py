"""The experiment on Layer-Swapping: what it compares, that committed and live say the same, and what is told of it."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters import layer_swapping, playing
from xlnb.chapters.home import by_the_plan, committed_study
from xlnb.chapters.words import lowered, standing
from xlnb.errors import RequestError
from xlnb.evaluation.readings import LIKELIHOODS, PRIMARY
from xlnb.studies import claims, committing
from xlnb.studies import outcomes as results
from xlnb.studies.comparisons import ARMS, BETTER, NOT_SHOWN, UNJUDGED, WORSE
from xlnb.studies.experiments import CONTROLS, FIRST_SWAP, RANDOM_CONTROLS, SWAP, SWAP_CONTROLS, SWEEP
from xlnb.studies.outcomes import COLUMNS, select
from xlnb.studies.profiles import PROFILES
from xlnb.studies.study import Study

ROOT = Path(__file__).resolve().parents[2]
SMALL_SWEEP = replace(SWEEP, partitions=tuple(f"outer {bottom}+{top}" for bottom in (0, 2, 9) for top in (0, 1)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with the finished experiment of one smoke study, published."""
    home = tmp_path_factory.mktemp("swaps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        committing.publish([Study(PROFILES["smoke"])], SWAP, experiment=SWAP)
        yield home


@pytest.fixture
def study(home):
    return Study(PROFILES["smoke"])


@pytest.fixture
def committed(home, tmp_path):
    """The same study, read from results alone."""
    shutil.copytree(home / "book" / "results" / SWAP, tmp_path / SWAP)
    return Study(PROFILES["smoke"], live=False, results=tmp_path)


def test_the_sweep_has_every_pair_of_counts_that_fits(study):
    sweep = study.outcomes(SMALL_SWEEP)
    assert set(sweep["partition"]) == {"", "outer 0+0", "outer 0+1", "outer 2+0", "outer 2+1"}  # 9 layers there are not
    assert set(sweep["split"]) == {"development"}
    assert set(sweep["metric"]) == set(LIKELIHOODS)
    assert set(sweep["test_language"]) == {"sw"}


def test_swapping_no_layer_is_the_math_expert(study):
    assert "at most 0 nats" in layer_swapping.sweep_baseline(study)
    found = layer_swapping.counted(study.outcomes(SMALL_SWEEP))
    assert len(found) == 3 and (found["difference"] != 0).all()


def test_committed_and_live_say_the_same(study, committed):
    for ask in (SWEEP, CONTROLS):
        live, read = (
            one.outcomes(ask)[COLUMNS].sort_values(["metric", "method", "partition", "test_language", "problem"])
            for one in (study, committed)
        )
        pd.testing.assert_frame_equal(live.reset_index(drop=True), read.reset_index(drop=True), check_exact=True)


def test_controls_are_scored_on_the_same_problems(study):
    outcomes = study.outcomes(CONTROLS)
    arms = outcomes.groupby(["method", "partition", "test_language", "metric"])["problem"].apply(tuple)
    assert arms.groupby(["test_language", "metric"]).nunique().eq(1).all()
    assert {p for m, p in outcomes[["method", "partition"]].itertuples(index=False) if m == SWAP} == set(SWAP_CONTROLS)


def test_the_pooled_random_arm_is_the_mean_of_the_random_ones(study):
    outcomes = study.outcomes(CONTROLS)
    pooled = select(
        layer_swapping.with_pooled_random(outcomes), partition=claims.RANDOM[1], metric="nll", test_language="sw"
    )
    each = [
        select(outcomes, method=SWAP, partition=name, metric="nll", test_language="sw").set_index("problem")["outcome"]
        for name in RANDOM_CONTROLS
    ]
    expected = sum(each) / len(each)
    got = pooled.set_index("problem")["outcome"]
    assert np.allclose(got, expected.loc[got.index])
    assert len(got) == len(expected) > 0


def test_the_swap_by_c_is_held_against_each_rival_once(study):
    table = layer_swapping.controls(study)
    assert set(table["metric"]) == {PRIMARY} and set(table["split"]) == {"scored"}
    assert set(table["method_a"]) == {SWAP} and set(table["partition_a"]) == {"C"}
    others = list(zip(table["method_b"], table["partition_b"], strict=True))
    assert len(others) == len(set(others))
    assert {("math-only", ""), ("task-arithmetic", ""), (SWAP, "complement of C"), claims.RANDOM, (SWAP, "A")} <= set(
        others
    )
    row = table[table["method_b"] == "math-only"].iloc[0]
    outcomes = select(study.outcomes(CONTROLS), metric=PRIMARY, test_language="sw")
    means = [select(outcomes, method=m, partition=p)["outcome"].mean() for m, p in ((SWAP, "C"), ("math-only", ""))]
    assert row["difference"] == pytest.approx(means[0] - means[1])
    assert set(table["verdict"]) == {UNJUDGED}, "one training"


def cells(*verdicts):
    """Judged cells of a small sweep: gains of -0.2, +0.1 and -0.01 with these verdicts."""
    rows = [(0, 1, -0.2, -0.3, -0.1), (2, 0, 0.1, 0.05, 0.2), (2, 1, -0.01, -0.1, 0.1)]
    columns = ["bottom", "top", "difference", "low", "high"]
    usual = {
        "method_a": SWAP,
        "method_b": "math-only",
        "partition_b": "",
        "language": "sw",
        "test_language": "sw",
        "n": 96,
    }
    usual |= {"benchmark": "templates", "split": "development", "metric": PRIMARY, "seeds": 3, "family": "counts"}
    table = pd.DataFrame(rows, columns=columns).assign(**usual, verdict=verdicts)
    return table.assign(partition_a=[f"outer {row.bottom}+{row.top}" for row in table.itertuples()])


CELLS = cells(WORSE, BETTER, NOT_SHOWN)


def test_the_answer_counts_each_training_s_swaps_and_those_of_all():
    study = committed_study()
    several = layer_swapping.sweep(study)
    told, lesson = (
        layer_swapping.answer().html,
        layer_swapping.lesson(layer_swapping.one_training(study), several, study),
    )
    each = re.search(r"that were made give ([\d, and]+) cells", lesson)[1]
    outside = int(((several["low"] > 0) | (several["high"] < 0)).sum())
    assert f"each alone, three trainings call {each} of {len(several)} swaps different from the math expert; " in told
    assert f"together they call {outside} so, and corrected for all of them " in told
    assert f", and {outside} of them exclude zero before Holm's correction" in lesson


def test_the_sweep_is_told_by_its_extremes():
    told = layer_swapping.sweep_reading(CELLS)
    assert "best cell of the map is 2+0 (+0.10 nats" in told and "the worst 0+1 (−0.20 nats" in told


def test_the_map_shows_each_cell_and_what_is_significant():
    shown = layer_swapping.sweep_figure(CELLS, number=3)
    assert set(shown.verdicts.values()) == {WORSE, BETTER, NOT_SHOWN} and len(shown.verdicts) == 3
    assert "highest 2+0 with +0.10, lowest 0+1 with −0.20" in shown.html
    assert shown.html.count("<svg") == 2 and "Figure 3." in shown.html


def test_cells_outside_zero_are_counted_by_their_own_interval():
    assert list(layer_swapping.outside_zero(CELLS)) == [-1, 1, 0]
    told = layer_swapping.lesson(CELLS, cells(*[UNJUDGED] * 3), None)
    assert "1 of 3 swaps are worse" in told and "1 better" in told and "no second training" in told


def test_one_training_is_the_training_that_is_asked_for(study):
    one = layer_swapping.one_training(study)
    assert set(one["seeds"]) == {1} and set(one["verdict"]) == {UNJUDGED}
    several = layer_swapping.sweep(study)
    assert list(one["difference"]) == list(several["difference"]), "there is but one here"
    assert (0, 0) not in set(zip(one["bottom"], one["top"], strict=True))


def test_a_slider_s_cell_is_told():
    assert (
        "+0.10 nats" in layer_swapping.cell_told(CELLS, 2, 0).html
        and BETTER in layer_swapping.cell_told(CELLS, 2, 0).html
    )
    assert "math expert" in layer_swapping.cell_told(CELLS, 0, 0).html


def test_a_merge_from_disk_is_the_merge_in_memory(study):
    assert "at most 0 in any parameter" in layer_swapping.disk_check(study)
    again = layer_swapping.disk_check(study, "predecessor")  # with transition layers, which are computed
    assert "computed" in again
    worst = float(again.partition("at most ")[2].split()[0])
    assert worst < 1e-6


def test_results_are_named_after_their_experiment(study):
    with pytest.raises(RequestError, match="named layer-swapping or layer-swapping-SOMETHING, not 'first-swap'"):
        committing.publish([study], "first-swap", experiment=SWAP)
    with pytest.raises(RequestError, match=r"No experiment 'ties': choose one of first-swap, .*layer-swapping"):
        committing.named_experiment("ties")


def test_only_one_experiment_is_read(committed):
    assert set(results.load_outcomes(committed.results, SWAP)["method"]) == {
        "base",
        "math-only",
        "language-only",
        "soup",
        "task-arithmetic",
        SWAP,
    }
    with pytest.raises(RequestError, match="No committed result of the experiment 'scorecard'"):
        results.load_outcomes(committed.results, "scorecard")


@pytest.mark.parametrize("math_only", [BETTER, WORSE, NOT_SHOWN])
def test_the_summary_says_what_the_verdicts_say(monkeypatch, math_only):
    monkeypatch.setattr(layer_swapping.home, "by_the_plan", lambda *names: f"By the plan: {names}")
    word = {("math-only", ""): math_only}

    def table(family):
        sides = [[*a, *b] for a, b in family.pairs]
        judged = pd.DataFrame(sides, columns=ARMS).assign(
            difference=0.1, low=0.05, high=0.2, metric=PRIMARY, family=family.id
        )
        verdicts = [word.get((row.method_b, row.partition_b), BETTER) for row in judged.itertuples()]
        return judged.assign(verdict=verdicts, test_language="sw")

    controls = pd.concat([table(claims.RIVALS), table(claims.LAYERS)], ignore_index=True)
    summary = layer_swapping.summary_of(controls, CELLS, table(claims.COST))
    assert "By the plan: ('F3',)" in summary
    assert (
        "of 3 pairs of counts 1 are better than the math expert on development problems, 1 worse, 1 not significant"
        in summary
    )
    assert ("loses to the math expert" in summary) == (math_only == WORSE)
    unjudged = controls.assign(verdict=UNJUDGED)
    assert layer_swapping.summary_of(unjudged, CELLS, table(claims.COST)).startswith("- One training")


# --- what was not computed yet --------------------------------------------------------------------------


@pytest.fixture
def first_chapter_alone(tmp_path, monkeypatch):
    """The pocket study whose committed results are the first chapter's alone, where there are no weights."""
    shutil.copytree(ROOT / "book" / "results" / "first-swap", tmp_path / "first-swap")
    without_weights = replace(PROFILES["pocket"], checkpoint=lambda: pytest.fail("the weights were asked for"))
    study = Study(without_weights, live=False, results=tmp_path)
    monkeypatch.setattr(layer_swapping.home, "committed_study", lambda: study)
    return study


def words_of(shown):
    return BeautifulSoup(shown.html, "html.parser").get_text(" ")


def test_what_is_at_hand(study, committed, first_chapter_alone):
    assert layer_swapping.at_hand(study, SWEEP) and layer_swapping.at_hand(committed, CONTROLS)
    assert layer_swapping.at_hand(first_chapter_alone, FIRST_SWAP)
    assert not layer_swapping.at_hand(first_chapter_alone, CONTROLS)
    assert not layer_swapping.at_hand(first_chapter_alone, SWEEP)


def test_without_the_controls_the_rivals_are_told_and_no_other_layers(first_chapter_alone):
    found = layer_swapping.controls(first_chapter_alone)
    assert set(found["family"]) == {claims.RIVALS.id} and len(found) == len(claims.RIVALS.pairs)
    told = layer_swapping.reading(found)
    assert told.startswith(standing(found)) and told.endswith(f"Other layers: {lowered(layer_swapping.NOT_YET)}")
    assert words_of(layer_swapping.by_likelihood(first_chapter_alone)) == layer_swapping.NOT_YET


def test_without_the_sweep_its_maps_are_boxes_that_say_so(first_chapter_alone):
    cells, one = layer_swapping.sweep(first_chapter_alone), layer_swapping.one_training(first_chapter_alone)
    assert cells.empty and one.empty
    figure, sliders = layer_swapping.sweep_figure(cells, number=3), playing.boundary_player(one)
    assert figure.html.count("<figcaption>") == 1 and "Figure 3. " in words_of(figure), "the text refers to it"
    for shown in (figure, sliders):
        assert layer_swapping.NOT_YET in words_of(shown) and "<svg" not in shown.html and not shown.verdicts
    assert {
        layer_swapping.sweep_reading(cells),
        layer_swapping.lesson(one, cells, first_chapter_alone),
        layer_swapping.sweep_baseline(first_chapter_alone),
    } == {layer_swapping.NOT_YET}


def test_answer_and_summary_say_what_is_still_to_be_computed(first_chapter_alone):
    shown = layer_swapping.answer()
    rivals = layer_swapping.controls(first_chapter_alone)
    assert lowered(standing(rivals, numbers=False)) in words_of(shown)
    assert "other layers, and other numbers of layers, are still to be computed on them" in words_of(shown)
    assert len(shown.verdicts) == len(rivals)
    *_, missing, claim = layer_swapping.summary(first_chapter_alone).split("\n")
    assert missing == f"- Other layers, and how many: {lowered(layer_swapping.NOT_YET)}"
    assert claim == f"- {by_the_plan('F3')}"
