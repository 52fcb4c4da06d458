"""The search for training budgets: a file a setting, development problems and single experts alone, and what it publishes."""

import re
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from xlnb import artifacts, methods
from xlnb.commands import cli
from xlnb.corpora import prose, templates
from xlnb.corpora.sources import formatted, load_corpus
from xlnb.errors import RequestError
from xlnb.models.pocket_models import GEMMA
from xlnb.studies import search as searching
from xlnb.studies.profiles import named_profile
from xlnb.studies.search import (
    CALCULATION,
    HELD_OUT,
    LANGUAGE_DATA,
    MANY,
    NTREX,
    NTREX_TRAINING,
    PARALLEL,
    PROSE,
    READ,
    TARGETS,
    Setting,
    collected,
    committed_search,
    publish_search,
    search,
    settings,
)
from xlnb.training import sft

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.usefixtures("one_thread")]
SMOKE = named_profile("smoke")
MATH, ORACLE = Setting("math", "en", MANY, 3, 1e-3), Setting("oracle", "sw", PARALLEL, 2, 1e-3)
PARALLEL_TEXT = Setting("language", "sw", NTREX, 2, 1e-3)
TRIED = (MATH, ORACLE, PARALLEL_TEXT)
WORDS = ("lamp", "taa"), ("drum", "ngoma"), ("river", "mto"), ("house", "nyumba"), ("door", "mlango")
CODES = {"sw": "swa", "bn": "ben", "te": "tel"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few held-out texts, and three settings: two that need nothing, one that needs NTREX."""
    monkeypatch.setattr(searching, "settings", lambda: TRIED)
    monkeypatch.setattr(searching, "NTREX_TRAINING", 15)
    plain = searching.prose_benchmark
    monkeypatch.setattr(searching, "prose_benchmark", lambda language, split: plain(language, 5, split))


@pytest.fixture
def ntrex(tmp_path):
    """A folder of NTREX's shape, with lines of our own."""
    folder = tmp_path / "ntrex"
    folder.mkdir()
    lines = [(f"The {one} is by the {two}, line {i}.", f"{eine} iko karibu na {andere} hapa, mstari {i}.")
             for i, ((one, eine), (two, andere)) in enumerate((a, b) for a in WORDS for b in WORDS if a != b)]  # fmt: skip
    (folder / "newstest2019-src.eng.txt").write_text("".join(f"{english}\n" for english, _ in lines))
    for code in CODES.values():
        (folder / f"newstest2019-ref.{code}.txt").write_text("".join(f"{other}\n" for _, other in lines))
    return folder


@pytest.fixture
def trained(monkeypatch):
    """The titles of the trainings since."""
    titles, plain = [], searching.train_expert
    monkeypatch.setattr(
        searching, "train_expert", lambda *a, title, **named: (titles.append(title), plain(*a, title=title, **named))[1]
    )
    return titles


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- a run -----------------------------------------------------------------------------------------------


def test_a_file_a_setting_and_nothing_computed_twice(tmp_path, trained):
    folder = tmp_path / "found"
    search(SMOKE, folder)
    first = files(folder)
    assert sorted(first) == sorted(f"{setting.name}.json" for setting in (MATH, ORACLE)), "no expert is kept"
    assert trained == [MATH.name, ORACLE.name], "without NTREX's files what needs them is left out"
    search(SMOKE, folder)
    (folder / f"{MATH.name}.json").unlink()
    assert len(trained) == 2
    search(SMOKE, folder)
    assert trained[2:] == [MATH.name]
    again = files(folder)
    assert again[f"{ORACLE.name}.json"] == first[f"{ORACLE.name}.json"]
    one, other = (artifacts.read_json(folder / f"{MATH.name}.json"), artifacts.json.loads(first[f"{MATH.name}.json"]))
    assert one["scores"] == other["scores"] and one["spec"] == other["spec"]
    assert one["spec"]["setting"] == {
        "expert": "math", "language": "en", "data": MANY, "steps": 3, "rate": 1e-3, "seed": 0,
    }  # fmt: skip
    assert {"commit", "device", "versions", "when", "seconds"} <= set(one)


def test_an_interrupted_search_goes_on(tmp_path, monkeypatch, trained):
    folder, plain = tmp_path / "found", searching.evaluate

    def interrupted(*arguments):
        if trained == [MATH.name, ORACLE.name]:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(searching, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(SMOKE, folder)
    assert [path.name for path in folder.glob("*.json")] == [f"{MATH.name}.json"]
    before = files(folder)[f"{MATH.name}.json"]
    monkeypatch.setattr(searching, "evaluate", plain)
    monkeypatch.setattr(sft, "fit", lambda *_: pytest.fail("an expert that was done is trained again"))
    search(SMOKE, folder)
    assert sorted(files(folder)) == [f"{MATH.name}.json", f"{ORACLE.name}.json"]
    assert files(folder)[f"{MATH.name}.json"] == before


def test_an_expert_that_an_ended_search_left_is_of_its_model_and_training_alone(tmp_path, monkeypatch):
    folder = tmp_path / "found"
    with monkeypatch.context() as ended:
        ended.setattr(searching, "evaluate", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            search(SMOKE, folder)
    assert (folder / MATH.name).is_dir() and not [*folder.glob("*.json")]
    monkeypatch.setattr(sft, "fit", lambda *_: pytest.fail("it is trained, and another was there"))
    for other in (replace(SMOKE, model="another"), replace(SMOKE, training=replace(SMOKE.training, rank=2))):
        with pytest.raises(
            RequestError, match="an expert of another specification: choose another folder or remove it"
        ):
            search(other, folder)


@pytest.mark.parametrize(("worker", "workers"), [(2, 2), (-1, 2), (0, 0)])
def test_a_worker_that_is_none_of_them(tmp_path, worker, workers):
    with pytest.raises(RequestError, match=f"Worker {worker} of {workers}"):
        search(SMOKE, tmp_path, worker=worker, workers=workers)


def test_workers_share_the_settings(tmp_path, trained):
    folder = tmp_path / "found"
    search(SMOKE, folder, worker=1, workers=2)
    assert trained == [ORACLE.name]
    search(SMOKE, folder, worker=0, workers=2)
    assert trained == [ORACLE.name, MATH.name]
    search(SMOKE, folder)
    assert len(trained) == 2


def test_no_scored_problem_and_no_merge(tmp_path, monkeypatch, ntrex):
    asked, vectors, experts = [], [], []
    evaluate, applied, of_expert = searching.evaluate, searching.applied, searching.TaskVector.of_expert

    def seen(base, benchmark, evaluation):
        asked.append((benchmark, evaluation))
        return evaluate(base, benchmark, evaluation)

    def alone(model, vector):
        vectors.append(vector)
        return applied(model, vector)

    class Watched(searching.TaskVector):
        @classmethod
        def of_expert(cls, *arguments):
            experts.append(of_expert(*arguments))
            return experts[-1]

    monkeypatch.setattr(searching, "evaluate", seen)
    monkeypatch.setattr(searching, "applied", alone)
    monkeypatch.setattr(searching, "TaskVector", Watched)
    monkeypatch.setattr(methods.Method, "merged", lambda *_, **__: pytest.fail("two experts are merged"))
    search(SMOKE, tmp_path / "found", ntrex)
    assert len(vectors) == len(experts) == 3
    assert all(vector is expert for vector, expert in zip(vectors, experts, strict=True)), "each expert as it is"
    problems = [(benchmark, evaluation) for benchmark, evaluation in asked if benchmark.name == "templates"]
    asked_for = [(benchmark.language, evaluation.shots) for benchmark, evaluation in problems]
    assert asked_for == [(language, shots) for language in ("en", "sw", "sw", "sw") for shots in (0, 2)]
    for benchmark, evaluation in problems:
        assert evaluation.split == "development"
        assert len(benchmark.items) == (SMOKE.answered if evaluation.shots else SMOKE.searched)
        assert all(item.id.startswith("development-") for item in benchmark.items)
    frames = {problem.frame for code in ("en", "sw") for problem in templates.problems(code, "scored", 200)}
    assert not frames & {item.group for benchmark, _ in problems for item in (*benchmark.items, *benchmark.others)}
    assert {benchmark.name for benchmark, _ in asked} == {"templates", "prose", "ntrex"}


def test_what_a_search_reads(tmp_path, ntrex):
    search(SMOKE, tmp_path / "found", ntrex)
    found = collected(tmp_path / "found")
    assert list(found.columns) == ["expert", "language", "data", "steps", "rate", "seed", "loss", "tokens",
                                   "seconds_of_training", "test_language", "shots", "metric", "problem", "outcome"]  # fmt: skip
    math, oracle, parallel = (found[found["data"] == setting.data] for setting in TRIED)
    assert set(math["test_language"]) == {"en", "sw"} and set(math["language"]) == {"en"}
    assert set(oracle["test_language"]) == set(parallel["test_language"]) == {"sw"}
    counts = found.groupby(["data", "test_language", "shots", "metric"])["problem"].nunique()
    english = math[math["test_language"] == "en"]
    assert {shots: set(part["metric"]) for shots, part in english.groupby("shots")} == {
        shots: set(readings) for shots, readings in READ.items()
    }
    for (_, language, shots, metric), n in counts.items():
        assert n == (5 if metric in (HELD_OUT, NTREX) else SMOKE.answered if shots else SMOKE.searched)
        assert language == "sw" or metric not in (HELD_OUT, NTREX)
    assert {HELD_OUT, NTREX} <= set(parallel["metric"])
    assert found["outcome"].notna().all() and (found["loss"] > 0).all() and (found["tokens"] > 0).all()
    assert len(set(found["loss"])) == 3


def test_the_base_is_tried_in_every_language_and_trains_nothing(tmp_path, monkeypatch, trained):
    bases = tuple(setting for setting in settings() if setting.expert == searching.BASE)
    monkeypatch.setattr(searching, "settings", lambda: bases)
    search(replace(SMOKE, searched=2, answered=2), tmp_path / "found")
    found = collected(tmp_path / "found")
    assert set(found["test_language"]) == {"en", *TARGETS} and trained == []
    assert set(found["tokens"]) == {0} and found["loss"].isna().all()


# --- NTREX -----------------------------------------------------------------------------------------------


def test_a_folder_without_ntrex_is_told_before_anything_is_loaded(tmp_path, monkeypatch, capsys, ntrex):
    monkeypatch.setattr(searching, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    (empty := tmp_path / "empty").mkdir()
    for folder, words in (
        (empty, r"empty has 0 files like newstest2019-\*\.eng\.txt, not one.*ntrex that holds English and Swahili"),
        (ntrex, r"ntrex has 0 files like newstest2019-\*\.ben\.txt.* English and Bengali"),
    ):
        (ntrex / "newstest2019-ref.ben.txt").unlink(missing_ok=True)
        with pytest.raises(RequestError, match=words):
            search(SMOKE, tmp_path / "found", folder)
    assert cli.exit_code(["search", str(tmp_path / "found"), "--profile", "smoke", "--ntrex", str(empty)]) == 2
    assert re.fullmatch(r"xlnb: .*empty has 0 files like .*\n", capsys.readouterr().err)
    assert not (tmp_path / "found").exists()


def test_lines_are_for_training_or_for_measuring(ntrex):
    lines = {"sw": searching._lines(ntrex, "sw")}
    assert len(lines["sw"]) == 20
    found = searching.examples(PARALLEL_TEXT, 10**6, lines)
    learned = {int(number) for e in found for number in re.findall(r"(?:line|mstari) (\d+)", e.prompt + e.completion)}
    assert learned == set(range(15)) and {e.kind for e in found} == {"to-target", "to-english", "continuation"}
    assert searching.examples(PARALLEL_TEXT, 7, lines) == found[:7]
    other = searching.examples(replace(PARALLEL_TEXT, seed=1), 10**6, lines)
    assert other != found and sorted(e.prompt for e in other) == sorted(e.prompt for e in found)


# --- settings and data -----------------------------------------------------------------------------------


def test_the_settings_are_of_single_experts():
    tried = settings()
    assert len({setting.name for setting in tried}) == len(tried)
    assert {setting.expert for setting in tried} == {"base", "math", "language", "oracle"}
    assert {(s.expert, s.language) for s in tried if s.expert in ("language", "oracle")} == {
        (expert, code) for expert in ("language", "oracle") for code in TARGETS
    }
    assert {s.data for s in tried if s.expert == "language"} == set(LANGUAGE_DATA)
    assert {s.data for s in tried if s.expert == "math"} == {MANY, PARALLEL, CALCULATION}
    assert all(setting.steps and setting.rate for setting in tried if setting.expert != "base")
    assert NTREX_TRAINING < 1997, "lines of NTREX: some are left to measure"


@pytest.mark.parametrize("language", TARGETS)
@pytest.mark.parametrize("data", [data for data in LANGUAGE_DATA if data != NTREX])
def test_data_of_the_language(language, data):
    found = searching.examples(Setting("language", language, data), 200)
    assert len(found) == len(set(found)) == 200
    assert found != searching.examples(Setting("language", language, data, seed=1), 200)
    assert found[:50] == searching.examples(Setting("language", language, data), 50) or data == "grammar and prose"
    held_out = {text.completion for _, text in prose.held_out_texts(language)}
    assert not held_out & {e.completion for e in found}
    written = set(formatted(load_corpus("prose", language)))
    assert len([e for e in found if e in written]) == {"grammar": 0, "grammar and prose": 100}.get(data, 200)
    translated = {e.kind for e in found} & {"to-target", "to-english"}
    assert len(translated) == (2 if data in (PROSE, "grammar and prose") else 0)


def test_data_of_calculations():
    many, parallel, oracle = (
        searching.examples(setting, 30) for setting in (MATH, replace(MATH, data=PARALLEL), ORACLE)
    )
    assert parallel == templates.math_examples("en", "train", 30) and oracle == templates.math_examples(
        "sw", "train", 30
    )
    assert len(many) == 30 and not {e.kind for e in many} & {e.kind for e in parallel}
    assert all(e.prompt.startswith("Question: ") for e in many + parallel)
    firsts = searching.examples(replace(MATH, data=CALCULATION), 30)
    for first, whole in zip(firsts, many, strict=True):
        assert (first.prompt, first.kind) == (whole.prompt, whole.kind) and whole.completion.startswith(
            first.completion
        )
        assert re.fullmatch(r" \d+ [-+*/] \d+ = \d+\.", first.completion)


# --- what is published -----------------------------------------------------------------------------------


publish, committed = (partial(of_model, model=SMOKE.model) for of_model in (publish_search, committed_search))


def test_what_is_collected_is_what_is_committed(tmp_path, own_home, capsys):
    folder = tmp_path / "found"
    assert cli.exit_code(["search", str(folder), "--profile", "smoke", "--worker", "0", "--workers", "2"]) == 0
    with pytest.raises(RequestError, match=r"There is no committed search in .*search"):
        committed()
    out = publish(folder)
    assert out == own_home / "book" / "results" / "search-gemma3-miniature"
    assert sorted(path.name for path in out.iterdir()) == ["provenance.json", "search.parquet"]
    pd.testing.assert_frame_equal(committed(), collected(folder))
    assert artifacts.read_json(out / "provenance.json")["settings"] == 1
    search(SMOKE, folder)
    capsys.readouterr()
    assert cli.exit_code(["search", str(folder), "--profile", "smoke", "--publish"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    told = artifacts.read_json(out / "provenance.json")
    made = [artifacts.read_json(path) for path in folder.glob("*.json")]
    assert told["settings"] == 2 and told["command"] == "xlnb search"
    assert told["seconds"] == pytest.approx(sum(one["seconds"] for one in made), abs=0.11)
    assert told["when"] == sorted(one["when"] for one in made)
    pd.testing.assert_frame_equal(committed(), collected(folder), check_exact=True)
    assert len(committed()) == sum(len(score["problem"]) for one in made for score in one["scores"])
    elsewhere = publish(folder, tmp_path / "elsewhere")
    assert elsewhere == tmp_path / "elsewhere" / out.name and committed(tmp_path / "elsewhere").equals(committed())


def test_a_search_that_goes_on_elsewhere_keeps_what_is_committed(tmp_path, own_home):
    here, there, whole = tmp_path / "here", tmp_path / "there", tmp_path / "whole"
    search(SMOKE, whole)
    for folder, setting in ((here, MATH), (there, ORACLE)):
        folder.mkdir()
        (folder / f"{setting.name}.json").write_bytes((whole / f"{setting.name}.json").read_bytes())
    publish(here)
    out = publish(there)
    order = ["expert", "test_language", "shots", "metric", "problem"]
    found, wanted = (table.sort_values(order, ignore_index=True) for table in (committed(), collected(whole)))
    pd.testing.assert_frame_equal(found, wanted)
    told, made = artifacts.read_json(out / "provenance.json"), [artifacts.read_json(p) for p in whole.glob("*.json")]
    assert told["settings"] == 2 and told["when"] == sorted({one["when"] for one in made})
    assert told["seconds"] == pytest.approx(sum(one["seconds"] for one in made), abs=0.11)
    changed = artifacts.read_json(there / f"{ORACLE.name}.json")
    artifacts.write_json(there / f"{ORACLE.name}.json", changed | {"tokens": 7})
    publish(there)
    assert set(committed().query("expert == 'oracle'")["tokens"]) == {7}, (
        "a setting made anew takes the old one's place"
    )
    assert len(committed()) == len(wanted)


def test_an_empty_search_is_told(tmp_path):
    for wrong in (collected, publish_search):
        with pytest.raises(RequestError, match=f"{tmp_path} holds nothing of a search"):
            wrong(tmp_path)


def test_each_model_has_its_own_committed_search(tmp_path, own_home, monkeypatch):
    monkeypatch.setattr(searching, "settings", lambda: (MATH, replace(ORACLE, language="bn")))
    folder = tmp_path / "found"
    search(replace(SMOKE, languages=("sw",)), folder)
    assert [path.name for path in folder.glob("*.json")] == [f"{MATH.name}.json"], "a language that the profile has not"
    out = publish_search(folder, model=SMOKE.model)
    assert out.name == "search-gemma3-miniature" and committed_search(model=SMOKE.model).equals(collected(folder))
    with pytest.raises(RequestError, match="no committed search"):
        committed_search()
    (other,) = folder.glob("*.json")
    told = artifacts.read_json(other)
    artifacts.write_json(other, told | {"spec": told["spec"] | {"model": "another"}})
    with pytest.raises(RequestError, match="not of one model, but of another, gemma3-miniature"):
        publish_search(folder, model=SMOKE.model)


def test_a_folder_is_of_one_model_and_one_way_of_trying(tmp_path, own_home, ntrex, trained):
    folder = tmp_path / "found"
    search(SMOKE, folder, worker=0, workers=2)
    for other, given, words in (
        (replace(SMOKE, model="smollm"), None, "model gemma3-miniature instead of smollm"),
        (replace(SMOKE, searched=5, answered=1), None, "searched 6 instead of 5, answered 2 instead of 1"),
        (SMOKE, ntrex, "ntrex False instead of True"),
    ):
        with pytest.raises(RequestError, match=f"{MATH.name}.json was tried with {words}: name another folder"):
            search(other, folder, given)
    assert trained == [MATH.name]
    with pytest.raises(
        RequestError, match="not of one model, but of gemma-3-270m, gemma3-miniature: name its --profile"
    ):
        publish_search(folder)
    (file,) = folder.glob("*.json")
    told = artifacts.read_json(file)
    artifacts.write_json(file, told | {"spec": {"setting": told["spec"]["setting"]}})  # as the first were written
    assert publish_search(folder).name == "search"
    search(replace(SMOKE, model=GEMMA), folder, worker=0, workers=2)
    assert trained == [MATH.name]
