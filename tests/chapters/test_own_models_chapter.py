"""The chapter on a reader's own models: swaps of tiny experts, plans, made-up results, commands that parse."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from experts import digests, same, tensors
from made_up import made
from shown import cells
from texts import text_faults
from typer.main import get_command

from xlnb.chapters import at_scale, own_models, pictures, second_model
from xlnb.checkpoints.verbs import merge
from xlnb.commands.cli import app
from xlnb.errors import RequestError
from xlnb.evaluation.readings import PRIMARY
from xlnb.methods import LANGUAGE, MATH
from xlnb.models.memory import FULL, LORA
from xlnb.studies.outcomes import select
from xlnb.studies.paper import MODELS
from xlnb.studies.planning import CARDS, Setup, setup_of
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

QWEN = "Qwen/Qwen2.5-7B-Instruct"
CHAPTER = Path(__file__).parents[2] / "notebooks" / "10-your-own-models.py"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(tmp_path_factory.mktemp("home")))
        yield own_models.experts()


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, page and phone."""
    kept, draw = [], pictures.picture

    def remembered(function, **more):
        def noted(narrow):
            kept.append(function(narrow))
            return kept[-1]

        return draw(noted, **more)

    for module in (at_scale, second_model):
        monkeypatch.setattr(module, "picture", remembered)
    return kept


# --- two experts on disk


def test_the_tiny_experts_differ_from_their_base_and_are_made_once(pair):
    base, math, language = (tensors(folder) for folder in (pair.base, pair.math, pair.language))
    assert not same(base, math) and not same(math, language) and math.keys() == base.keys()
    before = digests(pair.math)
    assert own_models.experts() == pair and digests(pair.math) == before


def test_experts_are_named_both_or_not_at_all(tmp_path):
    for named in ({"math": "a"}, {"language": "a"}, {"base": "a"}):
        with pytest.raises(RequestError, match="both math_expert and language_expert"):
            own_models.experts(**named)
    mine = own_models.experts(str(tmp_path / "a"), str(tmp_path / "b"))
    assert mine.mine and mine.base is None and mine.math == tmp_path / "a"


def test_what_cannot_be_is_refused_and_nothing_is_written(pair):
    before, there = digests(pair.math, pair.language, pair.base), set(pair.home.glob("*"))
    _, *rows = cells(own_models.refusals(pair))
    assert [said for _, said in rows if not said] == [] and len(rows) == 5
    by = dict(rows)
    for what, word in {
        "broke off": "10,000 bytes",
        "not there": "no folder",
        "more layers": "8 layers",
        "holds": "--out",
    }.items():
        assert word in next(said for asked, said in by.items() if what in asked)
    assert digests(pair.math, pair.language, pair.base) == before
    assert set(pair.home.glob("*")) - there <= {pair.home / "cut"}


def test_the_command_writes_what_python_writes_and_tells_its_cost(pair):
    shown = cells(own_models.measured(pair, "A"))
    merge("layer-swapping", pair.fresh("python"), math=pair.math, language=pair.language, base=pair.base, partition="A")
    assert same(tensors(pair.home / "measured"), tensors(pair.home / "python"))
    alone, swap = (float(row[2]) for row in shown[1:3])
    assert 5 < alone <= swap < 64, "a swap imports neither torch nor numpy"


def test_no_folder_of_this_machine_is_told(pair):
    out = pair.fresh()
    told = pair.told(merge("layer-swapping", out, math=pair.math, language=pair.language, base=pair.base))
    assert str(pair.home) not in told and "MATH" in told and "swapped" in told


@pytest.mark.usefixtures("one_thread")
def test_a_merge_is_scored_against_the_math_expert(pair):
    out = pair.fresh("scored")
    merge("layer-swapping", out, math=pair.math, language=pair.language, base=pair.base, bottom=0, top=0)
    shown = own_models.scored(pair, out, "sw", "pocket", "cpu")
    rows = cells(shown)[1:]
    assert {row[0] for row in rows} == {"the math expert", "the base", "the language expert", "the swap"}
    swap = [row for row in rows if row[0] == "the swap"]
    assert {row[3] for row in swap} <= {"+0.000 [+0.000, +0.000]"}, "the swap of no layer is the math expert"
    assert any(row[3] not in ("", "+0.000 [+0.000, +0.000]") for row in rows)
    assert "mean nothing" in shown.html


@pytest.mark.usefixtures("one_thread")
def test_a_reader_s_adapters_stay_adapters_and_are_scored_on_their_base(pair):
    study = Study(named_profile("smoke"), device="cpu", committed=False)
    mine = own_models.experts(*(str(study.expert(slug)) for slug in (MATH, LANGUAGE)), str(study.profile.checkpoint()))
    out = mine.fresh()
    merge("layer-swapping", out, math=mine.math, language=mine.language, base=mine.base)
    assert (out / "adapter_config.json").is_file() and out.parent != pair.home
    assert len(cells(own_models.refusals(mine))) == 6
    shown = own_models.scored(mine, out, "sw", "smoke", "cpu")
    assert len(cells(shown)) == 1 + 4 * 2 and f"{own_models.PROBLEMS} problems in Swahili" in shown.html


# --- at scale


def test_smaller_models_have_the_parameters_of_their_names():
    billions = {name: shape.parameters / 1e9 for name, shape in at_scale.SMALLER.items()}
    assert billions == pytest.approx(
        {"Qwen2.5-3B": 3.09, "Llama-3.2-3B": 3.21, "Qwen2.5-1.5B": 1.54, "Llama-3.2-1B": 1.24}, abs=0.006
    )


@pytest.mark.parametrize("paradigm", [LORA, FULL])
@pytest.mark.parametrize("model", MODELS)
def test_the_card_that_would_is_the_smallest_that_does(model, paradigm):
    said = at_scale.would(at_scale.planned(model, "sw", "RTX-4090", paradigm))
    fitting = [
        card.gib for name, card in CARDS.items() if at_scale.planned(model, "sw", name, paradigm).fits(at_scale.ASSUMED)
    ]
    if fitting:
        assert CARDS[said.split()[0]].gib == min(fitting)
    else:
        assert said == "none of these cards"


def test_moments_of_eight_bits_are_told_and_drawn():
    setup = setup_of("paper-8bit", FULL, "H100")
    memory = setup.memory(MODELS[QWEN].shape)
    assert memory.moments < at_scale.planned(QWEN, "sw", "H100", FULL).memory.moments / 3.9
    told = at_scale.memory_told(QWEN)
    assert (
        f"(profile paper-8bit), it takes {memory.total / at_scale.GIB:.0f} GiB, and the smallest card is A100-80"
        in told
    )
    small = [one for one in MODELS if "card is A100-80" in at_scale.memory_told(one)]
    assert len(small) == 3, "as book/reproducing.md says"
    assert f"paper-8bit {memory.total / at_scale.GIB:.0f} GiB" in at_scale.memory_figure(QWEN).html


def test_training_is_planned_as_profile_paper_trains():
    setup = setup_of("paper", LORA, "H100")
    assert setup == Setup(LORA, "H100", 1, micro_batch=4, checkpointing=True, length=1024)


def test_places_take_as_many_seeds_as_cards(capsys):
    head, *rows = cells(at_scale.places_table(QWEN, "sw", 2.0))
    table = pd.DataFrame(rows, columns=head).set_index("where")
    eight, one = (at_scale.planned(QWEN, "sw", "H100", LORA, seeds) for seeds in (8, 1))
    assert eight.hours == pytest.approx(8 * one.hours)
    row = table.loc["eight GPUs of 80 GB, LoRA"]
    assert row[["fits", "GPU-hours", "hours", "cost"]].tolist() == [
        "yes", f"{8 * one.hours:,.0f}", f"{one.hours:,.0f}", f"{16 * one.hours:,.0f}"
    ]  # fmt: skip
    refused = table.loc["one GPU of 24 GB, LoRA"]
    assert refused["fits"].startswith("no, ") and refused["hours"] == "–"
    with pytest.raises(SystemExit):  # refused by the command, too
        from xlnb.commands.cli import main

        main(["plan", *shlex.split(f"--model {QWEN} --languages sw --card RTX-4090 --micro-batch 4 --checkpointing")])
    assert f"{one.memory.total / at_scale.GIB:.1f}" in capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS)
def test_the_figure_of_memory(model, drawn):
    shown = at_scale.memory_figure(model, 2)
    assert drawn and [fault for figure in drawn for fault in text_faults(figure)] == []
    memory = at_scale.planned(model, "sw", "H100", FULL).memory.total / at_scale.GIB
    assert f"full fine-tuning, checkpointing {memory:.0f} GiB" in shown.html


def test_a_model_of_a_folder_is_planned_too(pair):
    assert "0.0 billion" in at_scale.memory_figure(str(pair.base)).html
    assert cells(at_scale.smaller_table(str(pair.base), "te"))[1][-1] == "LoRA and full fine-tuning"


# --- commands


def lines(text):
    """The xlnb commands of shell blocks, word by word."""
    blocks = re.findall(r"```shell\n(.*?)```", text, flags=re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        found = re.search(
            r"xlnb .*", line.split("#")[0].replace("&", "").replace("path/to", "path").replace("$seed", "0")
        )
        if found:
            yield shlex.split(found[0].replace('"', ""))[1:]


def parsed(words):
    """Return the verb's parameters, as the command line reads them, without running it."""
    command, context = get_command(app), None
    context = command.make_context("xlnb", list(words))
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, list(words), parent=context)
    return context.params


def all_commands():
    chapter = re.sub(r"^# ?", "", CHAPTER.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = list(lines(chapter))
    for place in at_scale.PLACES:
        found += lines(at_scale.commands(place, QWEN, "bn", 1.5, math_data="gsm8k", language_data="ntrex:folder"))
    return found


def test_there_are_commands_of_every_verb():
    verbs = {words[0] for words in all_commands()}
    verbs_told = {"partition", "merge", "diff", "evaluate", "run", "plan", "study", "grid", "pack", "unpack", "fetch"}
    assert verbs == verbs_told


@pytest.mark.parametrize("words", all_commands(), ids=lambda words: " ".join(words)[:60])
def test_a_command_is_read_by_the_command_line(words):
    assert parsed(words)


def test_a_wrong_option_would_be_seen():
    with pytest.raises(Exception, match="micro-bach"):
        parsed(["plan", "--micro-bach", "4"])


def test_commands_say_what_the_reader_chose():
    study = next(
        words for words in lines(at_scale.commands("eight", QWEN, "te", math_data="gsm8k")) if words[0] == "study"
    )
    read = parsed(study)
    assert (read["model"], read["language"], read["math_data"], read["device"]) == (QWEN, "te", "gsm8k", "cuda:0")


# --- the second model, and where results come from


def both(first=1.0, second=-1.0):
    def level(swap):
        return lambda method, _: swap if method == "layer-swapping" else 0.0

    tables = [
        select(made(level(swap), languages=("sw",)), metric=PRIMARY, test_language="sw").assign(profile=profile)
        for profile, swap in zip(second_model.MODELS, (first, second), strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def test_the_swap_of_both_models_is_told_with_its_side(drawn):
    rows = second_model.rows(both())
    assert (rows[rows["profile"] == "pocket"]["difference"] > 0.9).all()
    assert (rows[rows["profile"] == "pocket-smollm2"]["difference"] < -0.9).all()
    shown = second_model.figure(rows, 3)
    assert drawn and [fault for figure in drawn for fault in text_faults(figure)] == []
    told = second_model.told(rows)
    assert told.startswith("Gemma 3 270M: the swap +1.0") and "SmolLM2 135M: the swap −1.0" in told
    assert "Figure 3" in shown.html and not shown.verdicts


def test_without_the_second_model_the_figure_says_what_computes_it(tmp_path):
    for found in (select(both(), profile="pocket"), both().iloc[:0]):
        rows = second_model.rows(found)
        assert rows.empty and "not computed yet" in second_model.told(rows)
        assert "xlnb grid --experiment second-model" in second_model.figure(rows, 3).html
    assert second_model.outcomes(tmp_path).empty


def test_outcomes_of_either_model_are_read_where_they_are_whole(tmp_path):
    for (profile, (experiment, _)), table in zip(second_model.MODELS.items(), (both(), both()), strict=True):
        (tmp_path / experiment).mkdir()
        mine = select(table, profile=profile)
        mine.to_parquet(tmp_path / experiment / "outcomes.parquet", index=False)
    assert set(second_model.outcomes(tmp_path)["profile"]) == set(second_model.MODELS)
    part = mine[mine["method"] != "soup"]
    part.to_parquet(tmp_path / second_model.SECOND / "outcomes.parquet", index=False)
    assert set(second_model.outcomes(tmp_path)["profile"]) == {"pocket"}


def test_provenance_of_every_kind_is_read(tmp_path):
    told = {
        "study": {"commit": "aaaaaaaaaaaa", "when": "2026-01-02T00:00:00Z", "versions": {"torch": "2.1"},
                  "spec": {"studies": [{"cells": {"commit": ["bbbbbbbbbbbb"], "device": ["cpu", "None"]}}]}},
        "maps": {"plane": {"sw": {"commit": "cccccccccccc", "device": "cuda: X", "when": "2026-01-03",
                                  "versions": {"torch": "2.2"}}}},
        "search": {"commit": [], "versions": ["{'python': '3', 'torch': '2.3'}"]},
    }  # fmt: skip
    for name, content in told.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps(content))
    _, *rows = cells(at_scale.provenance_table(tmp_path))
    assert rows == [
        ["maps", "cuda: X", "2.2", "ccccccc", "2026-01-03"],
        ["search", "not recorded", "2.3", "not recorded", "not recorded"],
        ["study", "cpu", "2.1", "aaaaaaa and 1 more", "2026-01-02"],
    ]
    assert "No result is committed" in at_scale.provenance_table(tmp_path / "none").html


def test_the_committed_results_are_all_there():
    results = CHAPTER.parents[1] / "book" / "results"
    _, *rows = cells(at_scale.provenance_table(results))
    assert {row[0] for row in rows} == {file.parent.name for file in results.glob("*/*.json")}


def test_the_answer_and_the_summary(own_home, monkeypatch):
    """Without committed results they stand on calculation alone; with them they say what the small model showed."""
    monkeypatch.setattr(own_models, "planned", pd.DataFrame)  # whatever another test had it remember
    assert own_models.answer().verdicts == {}
    assert "not computed yet" in own_models.summary("smoke", pd.DataFrame(), QWEN)
