"""The experiment on Layer-Swapping: what it compares, that committed and live say the same, and what is told of it."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xlnb.chapters import layer_swapping, words
from xlnb.errors import RequestError
from xlnb.evaluation.readings import LIKELIHOODS
from xlnb.studies import committing
from xlnb.studies import outcomes as results
from xlnb.studies.comparisons import ARMS
from xlnb.studies.experiments import CONTROLS, RANDOM_CONTROLS, SWAP, SWAP_CONTROLS, SWEEP
from xlnb.studies.outcomes import COLUMNS, select
from xlnb.studies.profiles import PROFILES
from xlnb.studies.study import Study

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
    assert "at most 0 nats" in layer_swapping.sweep_baseline(study.outcomes(SMALL_SWEEP), "sw")
    cells = layer_swapping.sweep_contrasts(study.outcomes(SMALL_SWEEP), "sw").set_index(["bottom", "top"])
    assert cells.loc[(0, 0), "difference"] == 0
    assert (cells.drop((0, 0))["difference"] != 0).all()


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
        layer_swapping.with_pooled_random(outcomes), partition=layer_swapping.RANDOM, metric="nll", test_language="en"
    )
    each = [
        select(outcomes, method=SWAP, partition=name, metric="nll", test_language="en").set_index("problem")["outcome"]
        for name in RANDOM_CONTROLS
    ]
    expected = sum(each) / len(each)
    got = pooled.set_index("problem")["outcome"]
    assert np.allclose(got, expected.loc[got.index])
    assert len(got) == len(expected) > 0


def test_contrasts_are_of_c_against_each_other(study):
    table = layer_swapping.control_contrasts(study.outcomes(CONTROLS), "sw")
    assert set(table["metric"]) == set(LIKELIHOODS)
    assert set(table["method_a"]) == {SWAP} and set(table["partition_a"]) == {"C"}
    others = set(zip(table["method_b"], table["partition_b"], strict=True))
    assert {("math-only", ""), (SWAP, "complement of C"), (SWAP, layer_swapping.RANDOM), (SWAP, "A")} <= others
    names = {words.pair_name(row, layer_swapping.by_partition) for row in table.itertuples()}
    assert {"C − Math only", "C − complement of C", f"C − {layer_swapping.RANDOM}", "C − A"} <= names
    row = table[(table["method_b"] == "math-only") & (table["metric"] == "nll")].iloc[0]
    outcomes = select(study.outcomes(CONTROLS), metric="nll", test_language="sw")
    means = [select(outcomes, method=m, partition=p)["outcome"].mean() for m, p in ((SWAP, "C"), ("math-only", ""))]
    assert row["difference"] == pytest.approx(means[0] - means[1])


CELLS = pd.DataFrame(
    [
        (0, 0, 0.0, 0.0, 0.0, 96, 3, "not shown"),
        (0, 1, 0.2, 0.1, 0.3, 96, 3, "worse"),
        (2, 0, -0.1, -0.2, -0.05, 96, 3, "better"),
        (2, 1, 0.01, -0.1, 0.1, 96, 3, "not shown"),
    ],
    columns=["bottom", "top", "difference", "low", "high", "n", "seeds", "verdict"],
)


def test_the_sweep_is_told_with_its_counts_and_extremes():
    told = layer_swapping.sweep_reading(CELLS, "sw")
    assert "96 development problems, 3 trainings: of 3 swaps 1 are better than the math expert, 1 worse" in told
    assert "for 1 no difference is shown" in told
    assert "the lowest difference is that of 2+0 (−0.100 nats [−0.200, −0.050])" in told
    assert "the highest difference is that of 0+1 (+0.200 nats" in told


def test_the_map_shows_each_cell_and_prints_shown_ones_bold():
    axis = layer_swapping.sweep_figure(CELLS, "title").axes[0]
    texts = {text.get_text(): text.get_fontweight() for text in axis.texts}
    assert texts["−0.100\n[−0.200, −0.050]"] == "bold"
    assert texts["+0.010\n[−0.100, +0.100]"] == "normal"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["0", "2"]
    assert "last layers" in axis.get_xlabel()


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
        SWAP,
    }
    with pytest.raises(RequestError, match="No committed result of the experiment 'scorecard'"):
        results.load_outcomes(committed.results, "scorecard")


@pytest.mark.parametrize(
    ("math_only", "random", "told"),
    [
        (-0.2, -0.2, "**Reproduced at this size**"),
        (0.2, -0.2, "**Not reproduced at this size**: the swap by C beats random layers"),
        (-0.2, 0.2, "**Not reproduced at this size.**"),
        (0.0, -0.2, "**Unclear at this size**"),
    ],
)
def test_the_summary_s_verdict_is_that_of_the_intervals(math_only, random, told):
    def row(other, d):
        verdict = "not shown" if not d else "better" if d < 0 else "worse"
        return (SWAP, "C", *other, "expression-nll", d, d - 0.1, d + 0.1, 200, 3, verdict)

    others = {
        ("math-only", ""): math_only,
        (SWAP, layer_swapping.RANDOM): random,
        (SWAP, "complement of C"): -0.5,
        (SWAP, "predecessor"): 0.0,
    }
    columns = [*ARMS, "metric", "difference", "low", "high", "n", "seeds", "verdict"]
    table = pd.DataFrame([row(*item) for item in others.items()], columns=columns)
    summary = layer_swapping.swap_summary(table.assign(test_language="sw"), table.assign(test_language="en"), CELLS)
    assert told in summary
    assert "In the sweep 1 of 3 pairs of counts are better" in summary
