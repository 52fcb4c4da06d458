"""Plans of studies at the paper's scale: what is counted, what is refused, what is assumed, and that it takes no torch."""

import json
import subprocess
import sys
import time

import pytest

from xlnb.corpora.sources import SOURCES
from xlnb.errors import RequestError
from xlnb.models.memory import FULL, LORA
from xlnb.studies import planning
from xlnb.studies.experiments import EXPERIMENTS
from xlnb.studies.paper import KNOWN, LANGUAGE_CORPORA, MATH_CORPUS, MODELS, PAPER, paper, paper_table
from xlnb.studies.planning import Assumed, Setup, plan, refusal, remedies, shape_for, work
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study
from xlnb.training.sft import PROJECTIONS

THREE = ("sw", "bn", "te")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "xlnb", "plan", *arguments], capture_output=True, text=True)


@pytest.fixture
def todo():
    return work(EXPERIMENTS["paper"], THREE)


# --- the setting -----------------------------------------------------------------------------------------


def test_every_value_has_a_source_and_a_certainty():
    assert all(fact.known in KNOWN and len(fact.source) > 5 for fact in PAPER)
    assert len({(fact.item, str(fact.value)) for fact in PAPER}) == len(PAPER)
    assert list(paper_table().columns) == ["item", "value", "known", "source"]
    assert len(paper_table()) == len(PAPER)


def test_the_paper_s_corpora_are_known_corpora():
    assert SOURCES[MATH_CORPUS].kind == "math"
    for code, names in LANGUAGE_CORPORA.items():
        assert all(code in SOURCES[name].languages and SOURCES[name].kind == "language" for name in names)
    assert [f"{p}_proj" for p in paper("LoRA on")] == list(PROJECTIONS)
    assert {fact.value for fact in PAPER if fact.item == "model"} == set(MODELS)


# --- what is trained and asked, against the studies' own count -----------------------------------------------


@pytest.mark.parametrize("name", ["paper", "first-swap", "methods", "partitions"])
def test_as_many_experts_and_cells_as_the_studies_have(own_home, name):
    experiment = EXPERIMENTS[name]
    studies = [Study(named_profile("smoke"), code) for code in THREE]
    folders, cells = set(), set()
    for study in studies:
        for ask in experiment.asks:
            # MGSM is not at hand: a cell's name does not say what is asked here, so its parts do.
            for slug in ask.methods:
                for cell in study.cells(planning_ask(ask, slug)):
                    folders |= set(cell.needs)
                    folders |= {study.expert_folder(*start) for start in starts(slug, cell.partition)}
                    cells.add(
                        (
                            study.place(planning.METHODS[slug].experts),
                            slug,
                            cell.partition,
                            cell.test_language,
                            repr(ask.changes),
                        )
                    )
    found = work(experiment, THREE)
    assert len(found.experts) == len(folders)
    assert found.cells == len(cells)


def planning_ask(ask, slug):
    from dataclasses import replace

    return replace(ask, methods=(slug,), changes={}, fitting=False)


def starts(slug, partition):
    experts = [planning.EXPERTS[expert] for expert in planning.METHODS[slug].experts]
    return [(expert.start, partition) for expert in experts if expert.start]


def test_what_all_languages_share_comes_first(todo):
    homes = [home for *_, home in todo.experts]
    assert homes == sorted(homes, key=bool)
    assert homes.count("") == 2  # math-only and frozen-math
    assert work(EXPERIMENTS["paper"], ["sw"]).experts.keys() < todo.experts.keys()


def test_an_expert_that_goes_on_from_another_needs_it(todo):
    from xlnb.studies.experiments import Ask, Experiment

    found = work(Experiment((Ask(("math-last",)),), ()), ["sw"])
    assert list(found.experts) == [("language-only", "", "sw"), ("math-last", "", "sw")]


def test_a_mixture_sees_twice_the_examples(todo):
    budgets = {slug: budget for (slug, *_), budget in todo.experts.items()}
    assert (budgets["math-only"], budgets["data-mixing"], budgets["simultaneous"]) == (1, 2, 2)
    one = plan("it", shape_for("Qwen/Qwen2.5-7B-Instruct"), Setup(), todo)
    assert one.tokens == 80_000 * 400 * sum(todo.experts.values())


# --- numbers ----------------------------------------------------------------------------------------------


def test_seeds_and_utilisation_scale_as_they_must(todo):
    shape = shape_for("Qwen/Qwen2.5-7B-Instruct")
    one = plan("it", shape, Setup(), todo)
    slow = plan("it", shape, Setup(), todo, assumed=Assumed(utilisation=0.175))
    assert slow.training_hours == pytest.approx(2 * one.training_hours)
    three = plan("it", shape, Setup(), work(EXPERIMENTS["paper"], THREE, 3), 3)
    assert three.experts == 3 * one.experts
    assert three.training_hours == pytest.approx(3 * one.training_hours)
    assert plan("it", shape, Setup(checkpointing=True), todo).training_hours == pytest.approx(
        4 / 3 * one.training_hours
    )


@pytest.mark.parametrize("paradigm", [LORA, FULL])
def test_dropped_experts_leave_the_peak_below_all_that_is_kept(todo, paradigm):
    one = plan("it", shape_for("Qwen/Qwen2.5-7B-Instruct"), Setup(paradigm), todo)
    assert one.disk_kept - one.disk_peak == 8 * one.expert_bytes  # four experts of each of two languages
    assert one.disk_peak > one.download + 6 * one.expert_bytes


def test_what_cannot_fit_is_refused_with_what_would():
    todo, assumed, shape = work(EXPERIMENTS["paper"], ["sw"]), Assumed(), shape_for("Qwen/Qwen2.5-7B-Instruct")
    setup = Setup(FULL, "H100", micro_batch=4)
    assert not setup.fits(shape, assumed)
    found = remedies([shape], setup, assumed)
    assert found
    assert all(one.fits(shape, assumed) for one in found)
    assert {one.paradigm for one in found} == {LORA, FULL}
    told = refusal([plan("Qwen", shape, setup, todo)], assumed)
    assert "full on 1 x H100, micro-batch 4 cannot fit" in told
    assert all(str(one) in told for one in found)
    assert refusal([plan("Qwen", shape, found[0], todo)], assumed) == ""


def test_where_answering_alone_does_not_fit_that_is_said():
    assumed = Assumed(rows=640)
    shape, setup = shape_for("Qwen/Qwen2.5-7B-Instruct"), Setup(micro_batch=1, checkpointing=True)
    assert setup.fits(shape, assumed)
    assert "Answering is what does not" in refusal(
        [plan("Qwen", shape, setup, work(EXPERIMENTS["paper"], ["sw"]), 1, assumed)], assumed
    )


# --- models ------------------------------------------------------------------------------------------------


def test_any_folder_and_a_name_without_a_network(miniature, tmp_path, monkeypatch):
    import huggingface_hub

    def nothing(*arguments):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    assert shape_for(str(miniature("qwen2"))).kind == "Qwen2Config"
    with pytest.raises(RequestError, match=r"some/model is none of .* \(OSError: no network\)\. Save that file"):
        shape_for("some/model")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file: str(config))
    with pytest.raises(RequestError, match="has no 'num_attention_heads'"):
        shape_for("some/model")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    here = tmp_path / "hub" / "models" / "some" / "model"
    here.mkdir(parents=True)
    (here / "config.json").write_bytes((miniature("qwen2") / "config.json").read_bytes())
    monkeypatch.setenv("XLNB_HUB", str(tmp_path / "hub"))
    assert shape_for("some/model") == shape_for(str(miniature("qwen2"))), "what was fetched needs no network"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(RequestError, match=r"XLNB_HUB is .*hub, which has none of it: bring it there by `xlnb fetch`"):
        shape_for("other/model")


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\\xff"])
def test_a_config_that_cannot_be_read_is_told(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        RequestError, match=r"config\.json (cannot be read: .*|is not a table of settings)\. Download or save"
    ):
        shape_for(str(tmp_path))


# --- the command ---------------------------------------------------------------------------------------------


def test_the_whole_grid_within_two_seconds_without_torch():
    code = "import sys; from xlnb.commands.cli import main\ntry: main(['plan', '--checkpointing', '--paradigms', 'lora'])\n"
    code += "except SystemExit: pass\nprint('torch' in sys.modules, 'pandas' in sys.modules)"
    best, out = 9.0, ""
    for _ in range(3):  # other tests may hold the cores
        began = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        best = min(best, time.perf_counter() - began)
    assert out.splitlines()[-1] == "False False"
    assert all(model in out for model in MODELS)
    assert best < 2


def test_a_plan_says_what_is_formula_and_what_is_assumed():
    found = run("--model", "Qwen/Qwen2.5-7B-Instruct", "--paradigms", "lora", "--micro-batch", "2", "--price", "2")
    assert found.returncode == 0, found.stderr
    assert "\nby formula" in found.stdout
    assert "\nassumed:" in found.stdout
    row = next(line.split() for line in found.stdout.splitlines() if line.startswith("Qwen"))
    assert float(row[-1]) == pytest.approx(2 * float(row[-2]), abs=1)


def test_without_options_it_plans_what_the_profile_does():
    for profile, fitting in (
        ("paper", 0),
        ("paper-8bit", 3),
    ):  # of full fine-tuning on 80 GB, as book/reproducing.md says
        training = named_profile(profile, "any").training
        setup = planning.setup_of(profile, FULL, "H100")
        assert setup == Setup(FULL, "H100", 1, training.micro_batch, True, training.max_length, training.optimizer)
        found = run("--profile", profile)
        rows = [line.split() for line in found.stdout.splitlines() if line.startswith(tuple(MODELS))]
        fits = {paradigm: sum(row[1] == paradigm and "yes" in row for row in rows) for paradigm in (LORA, FULL)}
        assert fits == {LORA: 4, FULL: fitting}
        assert f"micro-batch {training.micro_batch} of 1024 tokens" in found.stdout
    changed = planning.setup_of("paper", LORA, "H200", gpus=2, checkpointing=False)
    assert (changed.gpus, changed.checkpointing, changed.micro_batch) == (2, False, 4)


def test_a_grid_that_cannot_fit_is_shown_and_refused():
    found = run("--no-checkpointing")
    assert found.returncode == 2
    assert found.stdout.count(" NO ") == 8
    assert "cannot fit" in found.stderr
    assert "What would: " in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--card", "H1000"], "No card 'H1000'"),
        (["--paradigms", "lora,fulll"], "No paradigm 'fulll'"),
        (["--languages", "sw,xx"], "No language 'xx'"),
        (["--profile", "pocket"], "No profile 'pocket': choose one of paper"),
        (["--experiment", "papers"], "No experiment 'papers'"),
        (["--utilisation", "1.5"], "--utilisation is a share"),
        (["--micro-batch", "0"], "micro_batch is 0"),
    ],
)
def test_a_wrong_request_is_refused(arguments, message, capsys):
    from xlnb.commands.cli import main

    with pytest.raises(SystemExit) as exit:
        main(["plan", *arguments])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_the_setting_is_printed():
    assert "rank-stabilised" in run("--setting").stdout
