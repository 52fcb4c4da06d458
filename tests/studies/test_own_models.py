"""A reader's own models: adapters, checkpoints and hub names, alone and side by side, in a chat template, up to a stop."""

import json
import shutil
import weakref

import huggingface_hub
import pandas as pd
import pytest
import torch
from lively import lively
from safetensors.torch import load_file, save_file

from xlnb.commands.cli import exit_code
from xlnb.corpora.benchmarks import in_chat, templates_benchmark
from xlnb.errors import RequestError, WorkError
from xlnb.evaluation.scoring import evaluate
from xlnb.models import miniatures
from xlnb.models.base import load_base
from xlnb.models.engine import Engine
from xlnb.models.generation import answers, until
from xlnb.stats import paired_difference
from xlnb.studies import own_models
from xlnb.studies.experiments import Ask
from xlnb.studies.own_models import evaluate_models, own_model
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study
from xlnb.weights.merging import applied

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.usefixtures("one_thread")]
SMOKE = named_profile("smoke")
QUICK = {"problems": 4, "generated": 2}


@pytest.fixture
def study():
    return Study(SMOKE)


@pytest.fixture
def merged(study, tmp_path):
    """The math expert as a whole checkpoint of its own."""
    folder = tmp_path / "merged"
    with applied(study.base.model, study.task_vector("math-only")):
        study.base.model.save_pretrained(folder)
    study.base.tokenizer.save_pretrained(folder)
    return folder


def test_an_adapter_and_its_merged_checkpoint_score_the_same(study, merged):
    adapter = str(study.expert("math-only"))
    scores, differences = evaluate_models(["base", adapter, str(merged)], "en", "smoke", **QUICK)
    by_model = {name: part.drop(columns="model").reset_index(drop=True) for name, part in scores.groupby("model")}
    assert list(by_model[adapter]["metric"]) == list(by_model[str(merged)]["metric"])
    assert by_model[adapter]["value"].tolist() == pytest.approx(by_model[str(merged)]["value"].tolist(), abs=1e-5)
    assert set(differences["model"]) == {adapter, str(merged)}
    value = scores.set_index(["model", "metric"])["value"]
    for row in differences.itertuples():
        assert row.difference == pytest.approx(value[row.model, row.metric] - value["base", row.metric], abs=1e-9)
    assert (differences["difference"].abs() > 1e-6).any(), "the expert is another model than the base"


def test_one_model_is_in_memory_at_a_time(merged, monkeypatch):
    loaded = []

    def watched(*args, **options):
        assert not any(one() for one in loaded), "the model before is still there"
        base = load_base(*args, **options)
        loaded.append(weakref.ref(base.model))
        return base

    monkeypatch.setattr(own_models, "load_base", watched)
    evaluate_models(["base", str(merged)], "en", "smoke", **QUICK)
    assert len(loaded) == 2


def test_what_is_the_base_itself_is_not_scored_as_another_model(study, merged, tmp_path):
    """A merge that did not happen would have the base's scores, and nobody would see it."""
    copy = shutil.copytree(study.profile.checkpoint(), tmp_path / "copy")
    with pytest.raises(RequestError, match="copy has the very weights of the base"):
        evaluate_models(["base", str(merged), str(copy)], "en", "smoke", **QUICK)
    with pytest.raises(RequestError, match="copy has the very weights of the base"):
        evaluate_models([str(copy)], "en", "smoke", base=str(study.profile.checkpoint()), **QUICK)
    untrained = shutil.copytree(study.expert("math-only"), tmp_path / "untrained")
    weights = load_file(untrained / "adapter_model.safetensors")
    zeroed = {name: torch.zeros_like(one) if "lora_B" in name else one for name, one in weights.items()}
    save_file(zeroed, untrained / "adapter_model.safetensors")
    with pytest.raises(WorkError, match="untrained changes nothing"):
        evaluate_models([str(untrained)], "en", "smoke", **QUICK)


def test_a_method_that_is_the_base_is_not_scored(study):
    ask = Ask(("train-then-revert",), ("all language",), ("en",), {"readings": ("nll",)})
    with pytest.raises(WorkError, match="train-then-revert under all language is the base itself"):
        study.outcomes(ask)


def test_differences_are_paired_by_problem(study, monkeypatch):
    adapter, kept = str(study.expert("math-only")), {}

    def remembered(base, benchmark, evaluation, title=""):
        kept[title] = evaluate(base, benchmark, evaluation, title)
        return kept[title]

    monkeypatch.setattr(own_models, "evaluate", remembered)
    _, differences = evaluate_models([adapter, "base"], "sw", "smoke", **QUICK)
    nll = differences.set_index("metric").loc["nll"]
    mine, first = (kept[name][kept[name]["metric"] == "nll"].assign(seed=0) for name in ("base", adapter))
    expected = paired_difference(mine, first)
    assert (nll["difference"], nll["low"], nll["high"]) == pytest.approx((expected.value, expected.low, expected.high))


def test_nats_of_different_tokenizers_are_not_compared(miniature, tmp_path):
    other = shutil.copytree(miniature("llama"), tmp_path / "other")
    base = load_base(other)
    base.tokenizer.add_tokens(["apples"])
    base.tokenizer.save_pretrained(other)
    base.model.resize_token_embeddings(len(base.tokenizer))
    base.model.save_pretrained(other)
    scores, differences = evaluate_models([str(miniature("llama")), str(other)], "en", "smoke", **QUICK)
    assert "nll" in set(scores["metric"])
    assert set(differences["metric"]) == {"exact-match", "expression"}


def test_a_name_on_the_hub_is_fetched(miniature, monkeypatch):
    asked = []

    def fetched(name, allow_patterns):
        asked.append((name, "*.safetensors" in allow_patterns))
        return str(miniature("qwen2"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    scores, _ = evaluate_models(["someone/model"], "en", "smoke", **QUICK)
    assert asked == [("someone/model", True)] and set(scores["model"]) == {"someone/model"}

    def away(name, allow_patterns):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(WorkError, match=r"no folder someone/model.*\(ConnectionError: no network\)"):
        evaluate_models(["someone/model"], "en", "smoke", **QUICK)


def test_an_adapter_on_a_base_of_ones_own(study, miniature):
    adapter = str(study.expert("math-only"))
    found = own_model(adapter, SMOKE, str(miniature("gemma3")))
    assert found.checkpoint == miniature("gemma3") and not found.of_profile
    assert own_model("base", SMOKE, str(miniature("gemma3"))).checkpoint == miniature("gemma3")
    assert own_model(adapter, SMOKE).of_profile


def test_an_adapter_of_a_folder_of_other_weights_is_not_asked_on_another(study, tmp_path, monkeypatch, capsys):
    expert, stranger = study.expert("math-only"), miniatures.miniature(tmp_path / "stranger", "gemma3", seed=5)
    with pytest.raises(
        RequestError, match=r"base that the adapter was trained on .*stranger\) have a cosine of -?0\.0"
    ):
        evaluate_models([str(expert)], "en", "smoke", base=str(stranger), **QUICK)
    elsewhere = shutil.copytree(expert, tmp_path / "elsewhere")
    config = json.loads((elsewhere / "adapter_config.json").read_text()) | {"base_model_name_or_path": "owner/base"}
    (elsewhere / "adapter_config.json").write_text(json.dumps(config))
    evaluate_models([str(elsewhere)], "en", "smoke", base=str(study.profile.checkpoint()), **QUICK)
    assert "says that its base is owner/base; taken onto" in capsys.readouterr().err
    evaluate_models([str(elsewhere)], "en", "smoke", **QUICK)
    assert "its base is" not in capsys.readouterr().err, "nobody named a base"


def test_a_trimmed_vocabulary_is_for_models_of_the_profile_alone(study, merged, monkeypatch):
    loaded = []
    trimming = own_models.replace(SMOKE, trimmed=True)
    monkeypatch.setattr(own_models, "named_profile", lambda name: trimming)
    monkeypatch.setattr(own_models, "kept_of", lambda *_: "trimmed")
    monkeypatch.setattr(own_models, "load_base", lambda folder, kept, **_: loaded.append(kept) or load_base(folder))
    assert evaluate_models(["base"], "en", "smoke", **QUICK)[0].attrs["trimmed"]
    assert not evaluate_models(["base", str(merged)], "en", "smoke", **QUICK)[0].attrs["trimmed"]
    assert loaded == ["trimmed", None, None], "likelihoods over two vocabularies are not compared"


def test_how_many_are_answered():
    def counts(problems, generated, **changes):
        found = own_models._evaluation(SMOKE, problems, generated, changes)
        return found.problems, found.generated

    usual = SMOKE.evaluation
    assert counts(None, None) == (usual.problems, usual.generated)
    assert counts(None, "all") == (usual.problems, usual.problems)
    assert counts(2, None) == (2, 2) and counts(6, "1") == (6, 1)
    assert counts(None, None, benchmark="mgsm") == (250, 250) and counts(20, None, benchmark="mgsm") == (20, 20)
    assert counts(5, "all", benchmark="belebele") == (5, 0)


# --- up to a stop ----------------------------------------------------------------------------------------


def test_an_answer_ends_at_a_stop_or_where_the_model_ends(miniature):
    base = lively(load_base(miniature("llama")))
    engine, prompts = Engine(base, generation_batch_size=2), [base.encode(text) for text in ("Q: 5?\nA:", "Q\nA:", "2")]
    prefix = engine.prefix("")
    whole = answers(engine, prefix, prompts, 16, ["\x00"])
    stop = whole[0][len(whole[0]) // 2]
    assert answers(engine, prefix, prompts, 16, [stop]) == [until(text, [stop]).strip() for text in whole]
    assert max(map(len, whole)) > 3
    base.model.generation_config.eos_token_id = [base.tokenizer.eos_token_id, base.encode(stop)[0]]
    ended = load_base(miniature("llama"))
    ended.model.generation_config.eos_token_id = base.model.generation_config.eos_token_id
    assert set(ended.end_ids) == {base.tokenizer.eos_token_id, base.encode(stop)[0]}


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("one\ntwo", ["\n"], "one"),
        ("\none", ["\n"], ""),
        ("one\ntwo\nQuestion: three", ["\nQuestion:"], "one\ntwo"),
        ("one</s>two###", ["###", "</s>"], "one"),
        ("one", ["two"], "one"),
        ("one\ntwo", [], "one\ntwo"),
    ],
)
def test_up_to_a_stop(text, stops, left):
    assert until(text, stops) == left


# --- in a chat template ----------------------------------------------------------------------------------

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


def test_a_problem_in_a_chat_template(miniature):
    tokenizer = load_base(miniature("llama")).tokenizer
    plain = templates_benchmark("sw", n=2, shots=1)
    with pytest.raises(RequestError, match="has no chat template"):
        in_chat(plain, tokenizer)
    tokenizer.chat_template = TEMPLATE
    asked = in_chat(plain, tokenizer)
    for item, one in zip(plain.items, asked.items, strict=True):
        turn = [{"role": "user", "content": plain.prefix + item.prompt}]
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert tokenizer.bos_token + asked.prefix + one.prompt == whole
        assert one.completion == item.completion.lstrip() and one.twin_prompt.endswith("<assistant>\n")
    assert asked.stops == () and len(asked.others) == len(plain.others)
    tokenizer.chat_template = "{{ messages[0].content | upper }}"
    with pytest.raises(RequestError, match="changes what is said"):
        in_chat(plain, tokenizer)


def test_a_model_is_asked_in_its_chat_template(miniature, tmp_path):
    folder = shutil.copytree(miniature("llama"), tmp_path / "chatty")
    tokenizer = load_base(folder).tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    plain, chat = (evaluate_models([str(folder)], "en", "smoke", chat=on, **QUICK)[0] for on in (False, True))
    assert list(plain["metric"]) == list(chat["metric"])
    assert plain["value"].tolist() != chat["value"].tolist()
    with pytest.raises(RequestError, match="has no chat template"):
        evaluate_models([str(miniature("llama"))], "en", "smoke", chat=True, **QUICK)


def test_a_checkpoint_without_a_tokenizer_is_refused_before_it_is_loaded(merged, monkeypatch):
    monkeypatch.setattr(own_models, "load_base", None)
    for file in merged.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RequestError, match="holds no tokenizer"):
        evaluate_models([str(merged)], "en", "smoke", **QUICK)


def in_the_format_of_torch(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_what_torch_saved_is_refused_wherever_it_stands(study, merged, monkeypatch):
    binned, adapter = str(in_the_format_of_torch(merged)), str(study.expert("math-only"))
    said = r"holds no weights: .* It has pytorch_model\.bin: load that and save_pretrained it as safetensors"
    monkeypatch.setattr(own_models, "load_base", None)
    for models, base in (([binned], ""), (["base", binned], ""), ([adapter], binned), ([binned, "base"], binned)):
        with pytest.raises(RequestError, match=said):
            evaluate_models(models, "en", "smoke", base=base, **QUICK)
    with pytest.raises(RequestError, match=said):
        load_base(binned)


@pytest.mark.parametrize(("names", "said"), [(["base", "base"], "base is named twice"), ([""], "No model ''")])
def test_names_that_name_nothing_or_the_same_are_refused(names, said):
    with pytest.raises(RequestError, match=said):
        evaluate_models(names, "en", "smoke", **QUICK)


def test_a_stop_is_a_text(capsys):
    assert exit_code(["evaluate", "--profile", "smoke", "--stop", ""]) == 2
    assert "--stop takes the text that ends an answer" in capsys.readouterr().err


# --- what fails ------------------------------------------------------------------------------------------


def without_weights(merged, adapter, folder):
    shutil.copytree(merged, folder)
    (folder / "model.safetensors").unlink()


def of_more_layers(merged, adapter, folder):
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    renumbered = {name.replace(".layers.0.", ".layers.99."): one for name, one in weights.items()}
    save_file(renumbered, folder / "adapter_model.safetensors")


def of_a_wider_model(merged, adapter, folder):
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    wider = {name: torch.ones(8 + len(one), one.shape[1]) if "lora_B" in name else one for name, one in weights.items()}
    save_file(wider, folder / "adapter_model.safetensors")


def of_zeros(merged, adapter, folder):
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(one) for name, one in weights.items()}, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("spoilt", "kind", "said"),
    [
        (without_weights, RequestError, "spoilt holds no weights"),
        (
            of_more_layers,
            RequestError,
            r"spoilt is of another model than .*layers\.99\..* there is no such parameter.*--base",
        ),
        (
            of_a_wider_model,
            RequestError,
            r"spoilt is of another model than .* of shape \(\d+, \d+\), and there is one of \(",
        ),
        (of_zeros, WorkError, "spoilt changes nothing"),
    ],
)
def test_files_are_looked_at_before_a_model_is_loaded(study, merged, tmp_path, monkeypatch, spoilt, kind, said):
    adapter, folder = str(study.expert("math-only")), tmp_path / "spoilt"
    spoilt(merged, adapter, folder)
    monkeypatch.setattr(own_models, "load_base", None)
    with pytest.raises(kind, match=said):
        evaluate_models([adapter, str(merged), str(folder)], "en", "smoke", **QUICK)


def breaking(monkeypatch, name):
    """Let a model by this name find no room in memory; others are scored as before."""
    plain = own_models.evaluate

    def evaluated(base, benchmark, evaluation, title=""):
        if title == name:
            raise MemoryError("no room")
        return plain(base, benchmark, evaluation, title)

    monkeypatch.setattr(own_models, "evaluate", evaluated)


def test_scores_are_shown_though_a_later_model_fails(study, merged, monkeypatch, capsys):
    adapter = str(study.expert("math-only"))
    breaking(monkeypatch, str(merged))
    arguments = ["--profile", "smoke", "--language", "en", "--problems", "4", "--device", "cpu"]
    assert exit_code(["evaluate", "base", adapter, str(merged), *arguments]) == 1
    told = capsys.readouterr()
    assert "Differences to base" in told.out and adapter in told.out and str(merged) not in told.out
    assert f"xlnb: {merged} could not be scored: MemoryError: no room" in told.err
    with pytest.raises(MemoryError):
        evaluate_models([str(merged), "base"], "en", "smoke", **QUICK)


def diverging(monkeypatch, *names):
    """Let models by these names give NaN, as one does whose training diverged: in the nats of a problem."""
    plain = own_models.evaluate

    def spoilt(base, benchmark, evaluation, title=""):
        found = plain(base, benchmark, evaluation, title)
        if title in names:
            found.loc[found["metric"] == "nll", "outcome"] = float("nan")
        return found

    monkeypatch.setattr(own_models, "evaluate", spoilt)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "between", "last"])
def test_one_that_diverged_is_named_and_the_others_are_shown(study, merged, monkeypatch, capsys, place):
    adapter = str(study.expert("math-only"))
    models = ["base", adapter, str(merged)]
    spoilt, others = models[place], models[:place] + models[place + 1 :]
    expected = evaluate_models(others, "en", "smoke", **QUICK)
    diverging(monkeypatch, spoilt)
    with pytest.raises(own_models.Unfinished, match=f"^{spoilt} gives NaN .* its training diverged\\.$") as raised:
        evaluate_models(models, "en", "smoke", **QUICK)
    for found, wanted in zip((raised.value.scores, raised.value.differences), expected, strict=True):
        pd.testing.assert_frame_equal(found, wanted)
    line = ["evaluate", *models, "--profile", "smoke", "--language", "en", "--problems", "4", "--device", "cpu"]
    assert exit_code(line) == 1
    told = capsys.readouterr()
    assert f"Differences to {others[0]}" in told.out and f"xlnb: {spoilt} gives NaN" in told.err


def test_where_all_diverged_there_is_no_table(study, merged, monkeypatch):
    diverging(monkeypatch, "base", str(merged))
    with pytest.raises(WorkError, match=f"base gives NaN .* diverged. {merged} gives NaN") as raised:
        evaluate_models(["base", str(merged)], "en", "smoke", **QUICK)
    assert not isinstance(raised.value, own_models.Unfinished)


def test_one_that_fails_after_one_that_diverged_is_named_by_its_own_name(study, merged, monkeypatch):
    adapter = str(study.expert("math-only"))
    diverging(monkeypatch, adapter)
    breaking(monkeypatch, str(merged))
    with pytest.raises(own_models.Unfinished, match=f"^{merged} could not .*: no room {adapter} gives NaN") as raised:
        evaluate_models(["base", adapter, str(merged)], "en", "smoke", **QUICK)
    assert set(raised.value.scores["model"]) == {"base"}
