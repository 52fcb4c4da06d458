"""Cells: their names and identities without a model, what is shared, what is joined, what must not be taken for another."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

from xlnb import artifacts
from xlnb.commands import cli
from xlnb.corpora import prose
from xlnb.corpora.sources import formatted, load_corpus
from xlnb.errors import RequestError
from xlnb.methods import EXPERTS, METHODS, method
from xlnb.studies import study as study_module
from xlnb.studies import vocabulary
from xlnb.studies.committing import publish
from xlnb.studies.experiments import BASE, BY_STRENGTH, EXPERIMENTS, FIRST_SWAP, SWAP, Ask, Experiment
from xlnb.studies.outcomes import distinct, load_outcomes, load_training, scores, select
from xlnb.studies.profiles import PROFILES, STRENGTHS, named_profile
from xlnb.studies.study import Study
from xlnb.training import sft
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("own_home")
SMOKE = named_profile("smoke")
NLL = {"readings": ("nll",)}


@pytest.fixture
def made(first_swap, own_home):
    """The first chapter's study, made in the test's own project."""
    shutil.copytree(first_swap, own_home / "runs")


@pytest.fixture
def evaluated(monkeypatch):
    """The readings of each evaluation since."""
    seen, plain = [], study_module.evaluate

    def counted(base, benchmark, evaluation, **named):
        seen.append(evaluation.readings)
        return plain(base, benchmark, evaluation, **named)

    monkeypatch.setattr(study_module, "evaluate", counted)
    return seen


@pytest.fixture
def no_training(monkeypatch):
    def fail(*arguments, **named):
        raise AssertionError("something was trained")

    return lambda: monkeypatch.setattr(sft, "fit", fail)


def test_strengths_differ_from_the_pocket_profile_in_training_and_parts_of_cross_terms_alone():
    pocket = PROFILES["pocket"]
    assert (pocket.training.steps, pocket.training.learning_rate) == STRENGTHS["pocket"]
    for name in STRENGTHS:
        mine = PROFILES[name]
        assert replace(mine, name="pocket", training=pocket.training, crosses=pocket.crosses) == pocket
        assert mine.crosses == (() if name == "pocket" else ("whole", "swap by C"))
        assert replace(mine.training, steps=90, learning_rate=1.5e-4) == pocket.training
        assert mine.name == name
    moved = [steps * rate for steps, rate in STRENGTHS.values()]
    assert moved == sorted(moved)


# --- without a model -------------------------------------------------------------------------------------


def test_a_thousand_cells_are_listed_without_torch(own_home):
    study = Study(SMOKE)
    study.outcomes(Ask(("base", "math-only"), changes=NLL))
    script = (
        "import sys; from xlnb.commands.cli import exit_code; code = exit_code(sys.argv[1:]);"
        "print(code, *sorted({'torch', 'transformers', 'peft'} & set(sys.modules)), file=sys.stderr)"
    )
    seeds = ",".join(map(str, range(22)))
    command = [
        sys.executable,
        "-c",
        script,
        "study",
        "--profile",
        "smoke",
        "--experiment",
        SWAP,
        "--seeds",
        seeds,
        "--dry-run",
    ]
    times = []
    for _ in range(3):
        before = os.times()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        after = os.times()  # of the processor: other tests may run beside this one
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert run.stderr.split() == ["0"], "nothing of a model is imported"
    cells, experts, *lines = run.stdout.splitlines()
    count, committed, made, missing = map(int, re.findall(r"\d+", cells))
    assert count == committed + made + missing == sum(".parquet" in line for line in lines) > 1000
    assert made == 0, "the sweep and the controls ask on other problems or by more readings"
    assert re.fullmatch(r"Missing cells need 44 experts: 1 made, 43 missing\.", experts)
    assert min(times) < 2


def test_what_is_listed_is_what_is_made(capsys):
    study = Study(SMOKE)
    ask = Ask(("base", "soup"), changes=NLL)
    assert [study.state(cell) for cell in study.cells(ask)] == ["missing"] * 4
    assert not any(folder.exists() for cell in study.cells(ask) for folder in cell.needs)
    study.outcomes(ask)
    assert [study.state(cell) for cell in study.cells(ask)] == ["made"] * 4
    assert all(folder.is_dir() for cell in study.cells(ask) for folder in cell.needs)
    assert all(cell.path.is_file() for cell in study.cells(ask))
    capsys.readouterr()
    assert cli.exit_code(["study", "--profile", "smoke", "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "23 cells: 0 committed, 0 made, 23 missing."  # they ask for more readings
    assert told[1] == "Missing cells need 2 experts: 2 made, 0 missing."


def test_what_is_committed_is_read_without_the_weights(made, tmp_path):
    study = Study(SMOKE)
    publish([study], "first-swap", tmp_path / "results")
    smaller = replace(SMOKE, checkpoint=lambda: 1 / 0)
    reader = Study(smaller, live=False, results=tmp_path / "results")
    assert reader.depth == study.depth == 8
    assert len(reader.outcomes(FIRST_SWAP)) == len(study.outcomes(FIRST_SWAP))
    assert len(reader.history("math-only")) == SMOKE.training.steps
    assert {name: p.depth for name, p in PROFILES.items()} == {
        "smoke": 8, "pocket-smollm2": 30, **dict.fromkeys(STRENGTHS, 18)
    }  # fmt: skip


# --- what is shared --------------------------------------------------------------------------------------


def test_one_math_expert_and_one_english_score_serve_every_language(evaluated, no_training):
    swahili, bengali = Study(SMOKE, "sw"), Study(SMOKE, "bn")
    ask = Ask(("base", "math-only"), languages=("en",), changes=NLL)
    first = swahili.outcomes(ask)
    assert len(evaluated) == 2
    no_training()
    second = bengali.outcomes(ask)
    assert len(evaluated) == 2, "nothing was scored again"
    assert swahili.expert("math-only") == bengali.expert("math-only")
    assert swahili.expert_folder("language-only") != bengali.expert_folder("language-only")
    assert swahili.expert_folder("oracle") != bengali.expert_folder("oracle")
    pd.testing.assert_frame_equal(first.drop(columns="language"), second.drop(columns="language"))
    assert {*first["language"]} == {"sw"} and {*second["language"]} == {"bn"}


def test_only_a_masked_expert_depends_on_the_partition():
    study = Study(SMOKE)
    for slug, expert in EXPERTS.items():
        folders = {study.expert_folder(slug, name) for name in ("C", "A", "complement of C")}
        assert len(folders) == (3 if expert.is_masked else 1), slug
    assert len({study.expert_folder(slug) for slug in EXPERTS}) == len(EXPERTS)
    assert study.expert_folder("math-only") != Study(SMOKE, paradigm="full").expert_folder("math-only")
    assert study.expert_folder("math-only") != Study(SMOKE, seed=1).expert_folder("math-only")


def test_a_vocabulary_is_part_of_an_experts_name(monkeypatch):
    trimmed = replace(SMOKE, trimmed=True)
    folders = {
        Study(trimmed, "sw", vocabulary=kept).expert_folder("math-only")
        for kept in ((), ("en", "sw"), ("en", "sw", "bn"), ("te", "bn", "sw", "en"), ("sw", "en"))
    }
    assert len(folders) == 3
    assert Study(trimmed, "sw").kept == Study(trimmed, "te").kept == ("en", "sw", "bn", "te")
    spec = Study(trimmed, "sw", vocabulary=("en", "sw")).expert_spec("math-only")
    assert spec["base"]["vocabulary"]["languages"] == ["en", "sw"]
    with pytest.raises(RequestError, match="No language of a vocabulary 'xx'"):
        Study(trimmed, vocabulary=("en", "xx"))
    for lacks, words in ((("en", "bn"), "lacks the words of sw, which"), (("bn",), "lacks the words of en, sw, which")):
        with pytest.raises(RequestError, match=words):
            Study(trimmed, "sw", vocabulary=lacks)


@pytest.mark.pocket
def test_the_profiles_vocabulary_holds_that_of_each_language(monkeypatch, own_home, pocket_folder):
    kept = {
        languages: vocabulary.kept_of(pocket_folder, languages)
        for languages in (("en", "sw"), ("en", "sw", "bn", "te"))
    }
    few, all_of_them = (set(ids) for ids in kept.values())
    assert 3422 < len(few) < 10_000, "as many as the first problems had, and those of more problems and of prose"
    assert few < all_of_them and len(all_of_them) < 20_000
    tokenizer = AutoTokenizer.from_pretrained(pocket_folder)
    english = formatted(load_corpus("templates-english", "en", 40, seed=3))
    for kept_here, code in ((few, "sw"), (all_of_them, "sw"), (all_of_them, "bn"), (all_of_them, "te")):
        held_out = [text for _, text in prose.held_out_texts(code)]
        for example in (*english, *formatted(load_corpus("prose", code, 200)), *held_out):
            for text in (example.prompt, example.completion):
                assert set(tokenizer(text, add_special_tokens=False).input_ids) <= kept_here, text
    monkeypatch.setattr(vocabulary, "vocabulary_texts", lambda languages: 1 / 0)
    assert vocabulary.kept_of(pocket_folder, ("en", "sw")) == kept["en", "sw"], "counted once"


@pytest.mark.parametrize(
    ("data", "own"),
    [
        ({}, True),
        ({"math_data": "templates", "language_data": "templates-generic"}, True),
        ({"language_data": "ntrex:somewhere"}, False),
        ({"language_data": "aya"}, False),
        ({"math_data": "gsm8k:somewhere"}, False),
    ],
)
def test_a_vocabulary_is_trimmed_to_the_package_s_own_data(data, own):
    study = Study(replace(SMOKE, trimmed=True), "te", **data)
    assert study.own_data == own
    assert study.kept == (("en", "sw", "bn", "te") if own else ())


def test_the_words_of_a_vocabulary_are_part_of_it(monkeypatch):
    plain = vocabulary.text_of
    for changed in ("sw.yaml", "generic-sw.yaml", "prose-sw.yaml", "frames.yaml", "english-frames.yaml"):
        before = vocabulary.vocabulary_spec(("en", "sw")), vocabulary.vocabulary_spec(("en", "bn"))
        more = {changed: "\nanother: word\n", "bn.yaml": "\n# a comment\n"}
        monkeypatch.setattr(vocabulary, "text_of", lambda name, more=more: plain(name) + more.get(name, ""))
        after = vocabulary.vocabulary_spec(("en", "sw")), vocabulary.vocabulary_spec(("en", "bn"))
        assert after[0] != before[0]
        assert (after[1] != before[1]) == (changed in ("frames.yaml", "english-frames.yaml"))
        monkeypatch.setattr(vocabulary, "text_of", plain)


# --- what must not be taken for another ------------------------------------------------------------------


def corpus_of(folder, words):
    folder.mkdir()
    pairs = [(f"The {i} {word}.", f"{word} {i} iko hapa karibu na mto.") for i in "abcdefghij" for word in words]
    for name, side in (("newstest2019-src.eng.txt", 0), ("newstest2019-ref.swa.txt", 1)):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return f"ntrex:{folder}"


def test_two_studies_on_different_data_never_count_as_one(tmp_path):
    texts = [
        corpus_of(tmp_path / name, words) for name, words in (("one", ("taa", "gari")), ("two", ("ngoma", "nyumba")))
    ]
    studies = [Study(SMOKE, language_data=text) for text in texts]
    ask = Ask(("language-only",), languages=("sw",), changes={**BY_STRENGTH.changes, **NLL})
    both = pd.concat([study.outcomes(ask) for study in studies])
    assert set(both["setting"]) == {"real"} and set(both["corpora"]) == {"ntrex"}  # alike by every name
    kept = distinct(both)
    assert len(kept) == 2 * SMOKE.compared
    assert kept["trained"].nunique() == 2
    assert len(scores(kept)) == 2
    for number, study in enumerate(studies):
        publish([study], f"strength-{number}", tmp_path / "results", "strength")
    with pytest.raises(RequestError, match="two results of language-only that were not made alike"):
        Study(SMOKE, language_data=texts[0], live=False, results=tmp_path / "results").outcomes(ask)


def test_other_problems_are_not_the_same_outcomes():
    study = Study(SMOKE)
    changes = ({}, {"problems": 4, "generated": 2}, {"shots": 1}, {"problem_seed": 1}, {"batch_size": 3})
    cells = [study.cells(Ask(("base",), languages=("en",), changes={**NLL, **change}))[0] for change in changes]
    assert len({cell.asked for cell in cells}) == len({cell.path for cell in cells}) == len(changes)
    assert len({cell.trained for cell in cells}) == 1


def test_blends_that_print_alike_are_different_cells(monkeypatch):
    blends = {f"blend {share}": Partition("blend", (share,) * 8) for share in (0.25, 0.75)}
    assert len({str(one) for one in blends.values()}) == 1
    monkeypatch.setattr(study_module, "named_partition", lambda name, depth: blends[name])
    cells = Study(SMOKE).cells(Ask((SWAP,), tuple(blends), ("en",), NLL))
    assert len({cell.trained for cell in cells}) == 2
    assert len({Study(SMOKE).expert_folder("frozen-math", name) for name in blends}) == 2


# --- what is joined --------------------------------------------------------------------------------------


def test_a_reading_that_is_added_later_is_computed_alone_and_joined(evaluated):
    study = Study(SMOKE)
    ask = Ask(("base",), languages=("sw",), changes={"readings": ("nll", "expression")})
    study.outcomes(ask)
    (cell,) = study.cells(ask)
    more = replace(ask, changes={"readings": ("nll", "choice", "expression", "exact-match")})
    joined = study.outcomes(more)
    assert evaluated == [("nll", "expression"), ("choice", "exact-match")]
    assert [c.path for c in study.cells(more)] == [cell.path]
    assert list(dict.fromkeys(joined["metric"])) == ["nll", "choice", "expression", "exact-match"]
    together = Study(SMOKE, folder=study.folder / "elsewhere").outcomes(more)
    for metric in ("expression", "exact-match", "choice"):
        assert select(joined, metric=metric)["outcome"].equals(select(together, metric=metric)["outcome"])
    study.outcomes(more)
    assert len(evaluated) == 3, "one more for the other folder, none for what is there"
    made = artifacts.read_json(cell.path.with_suffix(".json"))
    assert made["readings"] == ["choice", "exact-match"] and made["before"][0]["readings"] == ["nll", "expression"]
    assert made["device"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("others", [("choice",), ("nll", "choice"), ("expression-nll",)])
def test_two_processes_that_extend_a_cell_leave_each_reading_once(monkeypatch, evaluated, there, others):
    """What another process wrote while this one computed stays, and is not written again."""
    study, mine = Study(SMOKE), ("nll", "choice")
    asked = {read: Ask(("base",), languages=("sw",), changes={"readings": read}) for read in (("nll",), mine, others)}
    if there:
        study.outcomes(asked["nll",])
    counted, inside = study_module.evaluate, []

    def meanwhile(*arguments, **named):
        rows = counted(*arguments, **named)
        if not inside:
            inside.append(True)
            Study(SMOKE).outcomes(asked[others])
        return rows

    monkeypatch.setattr(study_module, "evaluate", meanwhile)
    found = study.outcomes(asked[mine])
    assert found.groupby("metric").size().to_dict() == dict.fromkeys(mine, SMOKE.evaluation.problems)
    (cell,) = study.cells(asked[mine])
    whole = pd.read_parquet(cell.path)
    assert not whole.duplicated(["metric", "problem"]).any() and set(whole["metric"]) == {"nll", *mine, *others}
    told = artifacts.read_json(cell.path.with_suffix(".json"))
    read = [reading for one in (told, *told.get("before", [])) for reading in one["readings"]]
    deeper = [r for one in told.get("before", []) for last in one.get("before", []) for r in last["readings"]]
    assert sorted([*read, *deeper]) == sorted({"nll", *mine, *others}), "each reading is told once"


def test_what_is_committed_counts_as_made(made, own_home, evaluated, no_training):
    study = Study(SMOKE)
    publish([study], "first-swap")
    shutil.rmtree(own_home / "runs" / "smoke" / "gemma3-miniature" / "lora")
    shutil.rmtree(own_home / "runs" / "smoke" / "gemma3-miniature" / "base")
    evaluated.clear()
    no_training()
    expected = load_outcomes(split="scored", metric=list(SMOKE.evaluation.readings))
    found = Study(SMOKE).outcomes()
    assert not evaluated
    pd.testing.assert_frame_equal(distinct(found), expected)
    assert {Study(SMOKE).state(cell) for cell in Study(SMOKE).cells()} == {"committed"}
    longer = Ask(("base",), languages=("en",), changes={"readings": ("nll", "choice")})
    Study(SMOKE).outcomes(longer)
    assert evaluated == [("choice",)], "of what is committed only the rest is computed"
    changed = replace(SMOKE, training=replace(SMOKE.training, learning_rate=1e-4))
    assert {Study(changed).state(cell) for cell in Study(changed).cells(Ask(("math-only",)))} == {"missing"}
    assert {Study(SMOKE, committed=False).state(cell) for cell in Study(SMOKE, committed=False).cells(BASE)} == {
        "missing"
    }


def test_what_is_committed_is_published_again_without_training(made, own_home, evaluated, no_training):
    out = publish([Study(SMOKE)], "first-swap")
    tables = {file.name: pd.read_parquet(file) for file in out.glob("*.parquet")}
    told = artifacts.read_json(out / "provenance.json")
    assert told["spec"]["studies"][0]["cells"]["computed"] > 0
    noted = {"note": "as it was", "reread": [{"outcomes changed": 1}]}
    artifacts.write_json(out / "provenance.json", told | noted)
    shutil.rmtree(own_home / "runs")
    evaluated.clear()
    no_training()
    assert publish([Study(SMOKE)], "first-swap") == out and not evaluated
    assert {"outcomes.parquet", "training.parquet"} <= set(tables)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_parquet(out / name), table)
    again = artifacts.read_json(out / "provenance.json")
    assert again["spec"] == told["spec"], "of cells that were not made here the earlier record says how they were"
    assert again | noted == again
    with pytest.raises(AssertionError, match="something was trained"):
        Study(SMOKE, committed=False).history("math-only")


def test_histories_are_of_one_precision_and_one_setting(monkeypatch, own_home):
    """Also where what is committed of before says no more than names: then of what was usual."""
    few = Experiment((Ask(("math-only",), languages=("en",), changes=NLL),), ("math-only",))
    monkeypatch.setitem(EXPERIMENTS, "first-swap", few)
    changed = replace(SMOKE, training=replace(SMOKE.training, learning_rate=1e-2))
    studies = [Study(SMOKE), Study(SMOKE, dtype="bfloat16"), Study(changed)]
    outs = [publish([study], f"first-swap-{number}") for number, study in enumerate(studies)]
    own = [pd.read_json(study.expert_folder("math-only") / "history.json")["loss"].tolist() for study in studies]
    tables = [pd.read_parquet(out / "training.parquet") for out in outs]
    assert [table["loss"].tolist() for table in tables] == own and own[0] != own[1] != own[2] != own[0]
    assert [set(table["trained"]) for table in tables] == [{study.expert_digest("math-only")} for study in studies]
    assert len(load_training()) == 3 * SMOKE.training.steps
    with pytest.raises(RequestError, match="two trainings of math-only that were not made alike"):
        Study(SMOKE, live=False).history("math-only")
    runs = own_home / "runs"
    shutil.move(runs, own_home / "moved")
    monkeypatch.setattr(Study, "expert", lambda *a: pytest.fail("an expert is trained"))
    assert [replace(study).history("math-only")["loss"].tolist() for study in studies] == own
    tables[0].drop(columns="trained").to_parquet(outs[0] / "training.parquet")  # as it was committed before
    for out in outs[1:]:
        shutil.rmtree(out)
    for usual in (Study(SMOKE), Study(SMOKE, live=False)):
        assert usual.history("math-only")["loss"].tolist() == own[0]
    for other in studies[1:]:
        with pytest.raises(pytest.fail.Exception, match="an expert is trained"):
            replace(other).history("math-only")
    shutil.rmtree(runs)  # in which the base was made anew
    shutil.move(own_home / "moved", runs)
    (outs[0] / "outcomes.parquet").unlink()
    for number, written in ((1, False), (2, True)):  # the usual one is there, without a digest
        out = publish([studies[number - 1]], f"first-swap-again-{number}")
        assert (out / "training.parquet").exists() == written


def test_all_who_computed_a_study_are_told(monkeypatch, own_home):
    """Who computed a cell's first readings, who its later ones, and who the cells that are not here."""

    def told(name="first-swap"):
        publish([Study(SMOKE)], name)
        return artifacts.read_json(own_home / "book" / "results" / name / "provenance.json")["spec"]["studies"][0][
            "cells"
        ]

    def ask(readings, *languages):
        return Ask(("base",), languages=languages, changes={"readings": readings})

    def on(commit, device, when, some):
        provenance = artifacts.provenance
        with monkeypatch.context() as there:
            there.setattr(study_module, "device_name", lambda base: device)
            there.setattr(
                study_module.artifacts, "provenance",
                lambda *asked: provenance(*asked) | {"commit": commit, "when": when, "seconds": 1.5},
            )  # fmt: skip
            Study(SMOKE).outcomes(some)

    first = ask(("nll", "choice"), "sw")
    monkeypatch.setitem(EXPERIMENTS, "first-swap", Experiment((first,), ()))
    on("aaaa", "cpu", "1", ask(("nll",), "sw"))
    on("bbbb", "cuda: H200", "2", first)
    whole = {
        "seconds": 3.0,
        "computed": 1,
        "commit": ["aaaa", "bbbb"],
        "device": ["cpu", "cuda: H200"],
        "when": ["1", "2"],
    }
    assert told() == whole
    shutil.rmtree(own_home / "runs")
    both = Experiment((first, ask(("nll",), "en"), ask(("nll",), "bn")), ())
    monkeypatch.setitem(EXPERIMENTS, "first-swap", both)
    on("cccc", "cpu", "3", both.asks[1])
    on("dddd", "cpu", "4", both.asks[2])
    more = {"seconds": 6.0, "computed": 3, "commit": ["aaaa", "bbbb", "cccc", "dddd"], "when": ["1", "2", "3", "4"]}
    assert told() == whole | more
    assert told() == whole | more, "what is told already is not counted again"


def test_a_result_is_not_written_over_by_one_that_has_less(made, own_home, no_training):
    study = Study(SMOKE)
    out = publish([study], "first-swap")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(RequestError, match="committed already, by other results"):
        publish([study], "first-swap-again")
    assert not (out.parent / "first-swap-again").exists()
    more = pd.read_parquet(out / "outcomes.parquet")
    both = pd.concat([more, more[more["method"] == "layer-swapping"].assign(method="ties")])
    both.to_parquet(out / "outcomes.parquet")
    with pytest.raises(RequestError, match=r"scores that the new result would not have .*ties.*another name"):
        publish([study], "first-swap")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "outcomes.parquet"), both)
    assert set(before) == {file.name for file in out.iterdir()}
    assert (out / "provenance.json").read_bytes() == before["provenance.json"]


def test_what_would_be_lost_is_told_before_anything_is_computed(made, own_home, no_training, monkeypatch):
    out = publish([Study(SMOKE)], "first-swap")
    monkeypatch.setattr(Study, "outcomes", lambda *asked: pytest.fail("computed first"))
    with pytest.raises(
        RequestError, match=r"1 trainings that are not asked for \(smoke, .*sw, lora, 0, for one\).*name them"
    ):
        publish([Study(SMOKE, seed=7)], "first-swap")
    assert out.is_dir()


@pytest.mark.parametrize("language", SMOKE.languages)
def test_every_training_text_fits_the_smoke_profile(language):
    """A token of a miniature is a byte, of which Bengali and Telugu letters have three."""
    for source in ("prose", "templates", "templates-generic", "templates-english"):
        code = "en" if source == "templates-english" else language
        examples = formatted(load_corpus(source, code, None if source == "prose" else 400))
        longest = max(len((e.prompt + e.completion).encode()) for e in examples)
        assert longest + 2 <= SMOKE.training.max_length, source


# --- every method, every expert --------------------------------------------------------------------------


def test_every_method_is_evaluated(own_home):
    study = Study(SMOKE)
    outcomes = study.outcomes(Ask(tuple(METHODS), languages=("sw",), changes=NLL))
    assert list(dict.fromkeys(outcomes["method"])) == list(METHODS)
    values = outcomes.groupby("method", sort=False)["outcome"].apply(tuple)
    same = {"frozen-math", "freeze-then-train"}  # the expert alone is the method
    assert len(set(values)) == len(METHODS) - 1 and values["frozen-math"] == values["freeze-then-train"]
    assert {m: METHODS[m].expert for m in ("base", "math-only", "language-only", "soup", "train-then-revert", "oracle")} == {
        "base": "none", "math-only": "math", "language-only": "language", "soup": "both", "train-then-revert": "math",
        "oracle": "both",
    }  # fmt: skip
    assert same <= set(METHODS)


def test_methods_are_what_their_formulas_say():
    study = Study(SMOKE)
    shares = study.partition("C")
    math, language = study.task_vector("math-only"), study.task_vector("language-only")
    expected = {
        "layer-swapping": math.mask(shares, "math") + language.mask(shares, "language"),
        "train-then-revert": math.mask(shares, "math"),
        "freeze-then-train": study.task_vector("frozen-math"),
        "frozen-experts": study.task_vector("frozen-math") + study.task_vector("frozen-language"),
        "task-arithmetic": math + language,
        "soup": 0.5 * math + 0.5 * language,
        "base": TaskVector({}),
    }
    for slug, vector in expected.items():
        found = study.merged(slug)
        names = {name for name in {*found, *vector} if not (name in found and name in vector)}
        assert not any((found if name in found else vector)[name].any() for name in names), slug
        assert all(float((found[name] - vector[name]).abs().max()) < 1e-7 for name in vector if name in found), slug
    frozen = study.task_vector("frozen-math")
    assert {name for name in frozen if frozen[name].any()} == set(frozen.mask(shares, "math"))


@pytest.mark.parametrize("slug", EXPERTS)
def test_every_expert_is_trained_by_the_command_line(own_home, capsys, slug):
    assert cli.exit_code(["train", slug, "--profile", "smoke"]) == 0
    folder = study_module.Path(capsys.readouterr().out.strip())
    assert folder.name.startswith(f"{slug}-") and folder == Study(SMOKE).expert_folder(slug)
    history = artifacts.read_json(folder / "history.json")
    steps = max(1, round(EXPERTS[slug].budget * SMOKE.training.steps))
    assert len(history) == len(EXPERTS[slug].streams) * steps
    assert artifacts.read_json(folder / "provenance.json")["device"]


def test_full_fine_tuning_by_the_command_line(own_home, capsys):
    arguments = ["train", "simultaneous", "--profile", "smoke", "--paradigm", "full", "--partition", "A"]
    assert cli.exit_code(arguments) == 0
    out, err = capsys.readouterr()
    folder = study_module.Path(out.strip())
    assert (folder / "model.safetensors").is_file() and "Full fine-tuning of" in err
    study = Study(SMOKE, paradigm="full")
    assert study.expert("simultaneous", "A") == folder != study.expert_folder("simultaneous", "C")
    outcomes = study.outcomes(Ask(("simultaneous", "layer-swapping", "slerp"), ("A",), ("sw",), NLL))
    assert set(outcomes["paradigm"]) == {"full"} and outcomes["outcome"].notna().all()
    assert cli.exit_code(["train", "math-only", "--profile", "smoke", "--paradigm", "prefix"]) == 2
    assert cli.exit_code(["train", "frozen-math", "--profile", "smoke", "--partition", "D"]) == 2


def test_several_profiles_are_one_table(tmp_path, monkeypatch, capsys):
    """As experts of several strengths are published: each training once, and the base, which is the same for all, with each."""
    far = replace(SMOKE, name="smoke-far", training=replace(SMOKE.training, steps=5))
    monkeypatch.setitem(PROFILES, "smoke-far", far)
    monkeypatch.setitem(
        EXPERIMENTS, "strength", Experiment((Ask(("base", "soup"), languages=("sw",), changes=NLL),), ("math-only",))
    )
    arguments = ["study", "--experiment", "strength", "--profile", "smoke,smoke-far", "--publish", "strength"]
    assert cli.exit_code(arguments) == 0
    home = Path(capsys.readouterr().out.strip())
    found = load_outcomes(home.parent, experiment="strength")
    assert found.groupby(["profile", "method"], sort=False).size().to_dict() == {
        (name, method): SMOKE.evaluation.problems for name in ("smoke", "smoke-far") for method in ("base", "soup")
    }
    means = found.groupby(["profile", "method"])["outcome"].mean()
    assert means["smoke", "base"] == means["smoke-far", "base"] and means["smoke", "soup"] != means["smoke-far", "soup"]
    steps = load_training(home.parent).groupby("profile")["step"].size()
    assert steps.to_dict() == {"smoke": SMOKE.training.steps, "smoke-far": 5}
    assert [one["profile"] for one in artifacts.read_json(home / "provenance.json")["spec"]["studies"]] == [
        "smoke",
        "smoke-far",
    ]
    assert cli.exit_code(["study", "--profile", "smoke,huge"]) == 2
    assert "No profile 'huge'" in capsys.readouterr().err


# --- a reader's own method -------------------------------------------------------------------------------

MINE = """
@method("Mine", "t0 + m / 4")
def mine(math_only):
    return {share} * math_only
"""


def test_a_recipe_of_a_reader_s_own_goes_by_what_it_does(own_home, monkeypatch):
    """Under one name another recipe is another model: what was scored before is not its own."""
    monkeypatch.setitem(METHODS, "mine", METHODS["soup"])  # which is taken back with the test
    paths = []
    for share in ("0.25", "0.5", "0.25"):
        exec(MINE.format(share=share), {"method": method, "__name__": "a notebook"})
        (cell,) = Study(SMOKE).cells(Ask(("mine",), languages=("sw",)))
        paths.append(cell.path)
    assert paths[0] == paths[2] != paths[1]


def test_a_recipe_says_the_same_in_every_process():
    chosen = """
from xlnb.methods import METHODS, method
@method("Mine", "t0 + m")
def mine(math_only):
    return math_only if "a" in {"a", "b", "c", "d"} else 0.5 * math_only
print(METHODS["mine"].body)
"""
    bodies = {
        subprocess.run(
            [sys.executable, "-c", chosen], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "1234"
    }
    assert len(bodies) == 1
    assert b"frozenset({'a', 'b', 'c', 'd'})" in bodies.pop()


def test_a_recipe_of_unknown_experts_is_refused():
    with pytest.raises(RequestError, match="No expert 'm'"):
        exec(MINE.format(share="0.5").replace("math_only", "m"), {"method": method})
    assert "mine" not in METHODS
