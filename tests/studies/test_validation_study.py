"""The models that validate metrics, on a small smoke study."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up_validation import BUDGETS
from shown import cells

from xlnb import artifacts, stats
from xlnb.chapters import reading_answers
from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation.readings import COST_GROUPS, READINGS
from xlnb.methods import ORACLE, PLACEBO
from xlnb.studies import committing, validation
from xlnb.studies import outcomes as results
from xlnb.studies import study as study_module
from xlnb.studies.comparisons import BETTER
from xlnb.studies.experiments import MEASURING, VALIDATION
from xlnb.studies.outcomes import COLUMNS, costs_for, load_costs, select
from xlnb.studies.profiles import PROFILES
from xlnb.studies.study import Study
from xlnb.studies.validation import CANDIDATES

# Four steps, so that a quarter of them is one; shorter texts than smoke has, for speed: nothing is learned anyway.
SMALL = replace(
    PROFILES["smoke"],
    training=replace(PROFILES["smoke"].training, steps=4),
    evaluation=replace(PROFILES["smoke"].evaluation, problems=4, generated=2, shots=0, max_new_tokens=4, batch_size=32),
    development=3,
)
SEEDS = (0, 1, 2)
ARMS = ["base", PLACEBO, *BUDGETS]


def other_training(study, seed):
    """What publish asks of a study, as another training would answer it: the base's outcomes, and others a little moved."""
    outcomes = study.outcomes(VALIDATION)
    trained = (outcomes["method"] != "base").astype(int)
    moved = outcomes.assign(seed=seed * trained, outcome=outcomes["outcome"] + 0.01 * seed * trained)
    return SimpleNamespace(
        profile=study.profile,
        language=study.language,
        seed=seed,
        outcomes=lambda *asks: moved,
        cells=lambda ask: [],
        costs=study.costs,
        history=study.history,
        trained_as=lambda slug: study.trained_as(slug) | {"seed": seed},
        usual_training=study.usual_training,
        expert_digest=study.expert_digest,
        spec=lambda experts: {**study.spec(experts), "seed": seed},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory, one_thread):
    """A home with the experiment of a small smoke study, published together with other trainings of it."""
    home = tmp_path_factory.mktemp("measuring")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        study = Study(SMALL)
        committing.publish(
            [study, *(other_training(study, seed) for seed in SEEDS[1:])], MEASURING, experiment=MEASURING
        )
        yield home


@pytest.fixture
def nothing_to_compute(home, monkeypatch):
    """Whoever trains or evaluates fails."""

    def fail(*arguments, **options):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(study_module, "evaluate", fail)
    monkeypatch.setattr("xlnb.training.sft.fit", fail)


@pytest.fixture
def committed_folder(home, tmp_path):
    """The published results alone, in a folder of the test's own."""
    shutil.copytree(home / "book" / "results" / MEASURING, tmp_path / MEASURING)
    return tmp_path


def test_base_placebo_and_oracles_are_read_by_every_reading(nothing_to_compute):
    outcomes = Study(SMALL).outcomes(VALIDATION)
    assert list(outcomes.columns) == COLUMNS
    assert list(dict.fromkeys(outcomes["method"])) == ARMS
    assert set(outcomes["metric"]) == set(CANDIDATES)
    asked = {"split": {"development"}, "test_language": {"sw"}, "shots": {0}, "benchmark": {"templates"}, "seed": {0}}
    assert {column: set(outcomes[column]) for column in asked} == asked
    problems = outcomes.groupby(["method", "metric"])["problem"].apply(tuple)
    assert len(problems) == len(ARMS) * len(CANDIDATES)
    for (_, metric), names in problems.items():
        n = 3 if READINGS[metric].generates else 4  # answers to as many as the profile tries things out on
        assert names == tuple(f"development-{i:06d}" for i in range(n))
    assert outcomes["text"].notna().equals(outcomes["metric"].map(lambda metric: READINGS[metric].generates))


def test_every_arm_is_another_model(nothing_to_compute):
    nll = select(Study(SMALL).outcomes(VALIDATION), metric="nll")
    scored = nll.groupby("method")["outcome"].apply(tuple)
    assert len(set(scored)) == len(scored) == len(ARMS)


@pytest.mark.parametrize("profile", ["smoke", "pocket"])
def test_budgets_are_shares_of_the_steps_and_change_nothing_else(profile):
    study = Study(PROFILES[profile])
    full = study.profile.training
    assert study.training(ORACLE) == study.training(PLACEBO) == study.training("math-only") == full
    for slug, share in (("oracle-quarter", 1 / 4), ("oracle-half", 1 / 2)):
        assert abs(study.training(slug).steps - share * full.steps) <= 0.5
        assert replace(study.training(slug), steps=full.steps) == full


def test_oracles_were_trained_for_their_budgets(home, nothing_to_compute):
    steps = {"oracle-quarter": 1, "oracle-half": 2, ORACLE: 4, PLACEBO: 4}
    training = pd.read_parquet(home / "book" / "results" / MEASURING / "training.parquet")
    assert training.groupby(["expert", "seed"]).size().to_dict() == {
        (slug, seed): n for slug, n in steps.items() for seed in SEEDS
    }
    study = Study(SMALL)
    assert {slug: len(study.history(slug)) for slug in steps} == steps
    assert len({study.expert(slug) for slug in steps}) == 4


def test_a_budget_is_at_least_one_step():
    short = replace(SMALL, training=replace(SMALL.training, steps=1))
    assert {Study(short).training(slug).steps for slug in BUDGETS} == {1}


@pytest.mark.parametrize("language", templates.GENERIC_LANGUAGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_placebo_has_the_oracle_s_problems_with_solutions_of_others(language, seed):
    study = Study(PROFILES["pocket"], language, seed)
    oracle, placebo = (study.training_examples(slug) for slug in (ORACLE, PLACEBO))
    assert len(oracle) == len(placebo) == study.profile.examples
    assert oracle == templates.math_examples(language, "train", study.profile.examples, seed)
    assert all(study.training_examples(slug) == oracle for slug in BUDGETS)
    assert [e.prompt for e in placebo] == [e.prompt for e in oracle]
    frames = {}
    for example in oracle:
        frames.setdefault(example.completion, set()).add(example.kind)
    for own, other in zip(oracle, placebo, strict=True):
        assert other.completion != own.completion
        assert frames[other.completion] and own.kind not in frames[other.completion], "a solution of another frame"


def test_the_placebo_is_no_oracle_by_its_specification(nothing_to_compute):
    study = Study(SMALL)
    specs = {slug: study.expert_spec(slug) for slug in (ORACLE, PLACEBO, *BUDGETS)}
    assert len({artifacts.digest(spec) for spec in specs.values()}) == 4


def test_costs_have_a_row_a_group_and_are_not_measured_again(home, nothing_to_compute):
    costs = Study(SMALL).costs()
    assert list(costs.columns) == ["profile", "language", "readings", "problems", "seconds"]
    assert list(costs["readings"]) == list(COST_GROUPS)
    assert set(costs["problems"]) == {3} and set(costs["profile"]) == {"smoke"} and set(costs["language"]) == {"sw"}
    assert (costs["seconds"] >= 0).all()  # kept to a tenth: so small a model may take none
    pd.testing.assert_frame_equal(Study(SMALL, "sw", 7).costs(), costs)  # the base is the same for every seed


def test_costs_are_of_a_device_and_of_what_was_grouped(home, monkeypatch):
    folder = Study(SMALL).place(()) / "costs"
    (path,) = folder.glob("sw-*.parquet")
    told = artifacts.read_json(path.with_suffix(".json"))
    assert told["device"] == "cpu" and set(told["spec"]["groups"]) == set(COST_GROUPS)
    assert told["seconds"] >= 0 and told["commit"] == artifacts.commit()

    def measured(*arguments, **named):
        raise AssertionError("measured")

    monkeypatch.setattr(study_module, "evaluate", measured)
    Study(SMALL).costs()
    with monkeypatch.context() as other:
        other.setattr(study_module, "device_name", lambda base: "cuda: another")
        with pytest.raises(AssertionError, match="measured"):
            Study(SMALL).costs()
        other.setattr(study_module, "load_base", measured)
        assert len(Study(SMALL).costs(brought=True)) == len(COST_GROUPS), "what came from there is published here"
    monkeypatch.setattr(study_module, "COST_GROUPS", {**COST_GROUPS, "one more": ("nll",)})
    with pytest.raises(AssertionError, match="measured"):
        Study(SMALL).costs()


def test_the_published_result_is_whole(home):
    out = home / "book" / "results" / MEASURING
    assert sorted(path.name for path in out.iterdir()) == [
        "costs.parquet", "outcomes.parquet", "provenance.json", "training.parquet",
    ]  # fmt: skip
    outcomes = results.load_outcomes(out.parent, MEASURING)
    assert not outcomes.duplicated([*results.KEYS, "problem"]).any()
    assert len(outcomes) == (1 + 3 * (len(ARMS) - 1)) * (13 * 4 + 3 * 3), "the base counts once"
    spec = artifacts.read_json(out / "provenance.json")["spec"]
    assert spec["experiment"] == MEASURING
    assert [set(study["experts"]) for study in spec["studies"]] == [{PLACEBO, *BUDGETS}] * 3
    assert len(pd.read_parquet(out / "costs.parquet")) == len(COST_GROUPS), "costs of the same base, once"


@pytest.mark.parametrize("seed", SEEDS)
def test_committed_and_live_say_the_same(committed_folder, seed, nothing_to_compute):
    live, committed = Study(SMALL), Study(SMALL, "sw", seed, live=False, results=committed_folder)
    live = live if seed == 0 else other_training(live, seed)
    order = ["metric", "method", "problem"]
    expected, found = (
        one.outcomes(VALIDATION).sort_values(order, ignore_index=True)[COLUMNS] for one in (live, committed)
    )
    texts = [one.pop("text").fillna("").tolist() for one in (expected, found)]  # how "none" is stored may differ
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    pd.testing.assert_frame_equal(committed.costs(), live.costs(), check_exact=True)


def test_a_language_may_have_been_measured_and_nothing_else(committed_folder, nothing_to_compute):
    study = Study(SMALL, live=False, results=committed_folder)
    shutil.copytree(committed_folder / MEASURING, committed_folder / "first-swap-bn")
    other = pd.read_parquet(committed_folder / MEASURING / "outcomes.parquet").assign(language="bn")
    other.to_parquet(committed_folder / "first-swap-bn" / "outcomes.parquet")
    assert set(study.outcomes(VALIDATION)["method"]) == set(ARMS)
    with pytest.raises(RequestError, match=r"base in en is not committed with nll.*language sw, seed 0\): run live"):
        study.outcomes()


def test_costs_are_measured_in_one_language_for_all(committed_folder, tmp_path, nothing_to_compute):
    costs = load_costs(committed_folder)
    assert costs_for(costs, "sw").equals(select(costs, language="sw")) and costs_for(costs, "bn").equals(costs)
    first, again = (committed_folder / name / "outcomes.parquet" for name in (MEASURING, f"{MEASURING}-again"))
    whole = pd.read_parquet(first)
    again.parent.mkdir()
    select(whole, method="placebo", seed=0).to_parquet(again)
    whole[whole["method"] != "placebo"].to_parquet(first)
    out = committing.publish([Study(SMALL)], again.parent.name, committed_folder, MEASURING)
    assert set(pd.read_parquet(out / "outcomes.parquet")["method"]) == {"placebo"}
    assert not (out / "costs.parquet").exists(), "another result has them"


def test_costs_that_are_not_committed(committed_folder, tmp_path):
    assert load_costs(committed_folder, language="bn").empty
    with pytest.raises(RequestError, match=r"No costs of readings in .*: it holds no measuring with a costs\.parquet"):
        load_costs(tmp_path / "nothing")
    with pytest.raises(RequestError, match="no column 'reading'"):
        load_costs(committed_folder, reading="nll")


def test_a_result_of_measuring_is_named_so(home):
    with pytest.raises(
        RequestError, match="A result of measuring is named measuring or measuring-SOMETHING, not 'costs'"
    ):
        committing.publish([], "costs", experiment=MEASURING)


def test_the_chapter_s_numbers_are_means_of_the_outcomes(committed_folder, nothing_to_compute):
    outcomes = results.load_outcomes(committed_folder, MEASURING).assign(shots=2)  # smoke shows no worked example
    costs = load_costs(committed_folder)
    worth = validation.worth_of_metrics(outcomes, costs).set_index("metric")
    means = outcomes.groupby(["metric", "method", "seed"])["outcome"].mean()
    arms = {metric: [select(outcomes, metric=metric, method=arm) for arm in (ORACLE, "base")] for metric in CANDIDATES}
    alone = {metric: stats.paired_difference(*pair) for metric, pair in arms.items()}
    corrected = dict(zip(CANDIDATES, stats.holm([1.0 if d.p is None else d.p for d in alone.values()]), strict=True))
    for metric in CANDIDATES:
        sign = 1 if READINGS[metric].higher_is_better else -1
        base = means[metric, "base", 0]
        gains = [[sign * (means[metric, arm, seed] - base) for seed in SEEDS] for arm in (*BUDGETS, PLACEBO)]
        *oracles, placebo = gains
        in_order = [0 < a < b < c for a, b, c in zip(*oracles, strict=True)]
        assert worth.loc[metric, "ordered"] == np.mean(in_order)
        gain = np.mean(oracles[-1])
        assert worth.loc[metric, "gain"] == pytest.approx(gain * READINGS[metric].scale)
        found = alone[metric]
        shown = (found.low > 0 if sign > 0 else found.high < 0) and corrected[metric] < 0.05
        assert (worth.loc[metric, "verdict"] == BETTER) == shown
        share = np.mean(placebo) / gain if shown else np.nan
        assert worth.loc[metric, "placebo"] == pytest.approx(share, nan_ok=True)
        rate = min(row.seconds / row.problems for row in costs.itertuples() if metric in COST_GROUPS[row.readings])
        assert worth.loc[metric, "seconds"] == pytest.approx(100 * rate)


def test_generated_answers_are_read_again_as_they_were(committed_folder):
    answers = reading_answers.reread(select(results.load_outcomes(committed_folder, MEASURING), seed=0))
    assert len(answers) == len(ARMS) * 3
    assert list(answers["xlnb"]) == list(answers["outcome"] == 1)
    (_, row) = cells(reading_answers.referee_table(answers))
    assert row[:3] == ["Swahili", "15", f"{answers['outcome'].sum():.0f}"]
