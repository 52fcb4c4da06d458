"""Profile paper: a model by folder or name, its chat template, the paper's kind of data and problems, on miniatures."""

import json
import shutil
from dataclasses import replace

import pytest

from xlnb.corpora.sources import mixture, together
from xlnb.errors import RequestError
from xlnb.models import hub
from xlnb.models.base import load_base
from xlnb.studies.experiments import AS_THE_PAPER
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

pytestmark = pytest.mark.usefixtures("own_home")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
SENTENCES = ("రవి పండ్లు కొన్నాడు", "సీత పూలు ఇచ్చింది", "అమ్మ అన్నం వండింది", "పిల్లలు బడికి వెళ్ళారు", "వాన బాగా కురిసింది", "ఆవు గడ్డి తింది")


@pytest.fixture
def chatty(miniature, tmp_path):
    """A function that writes a miniature with a chat template, as a hub's folder has it."""

    def make(family):
        folder = shutil.copytree(miniature(family), tmp_path / f"{family}-Instruct")
        tokenizer = load_base(folder).tokenizer
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        return folder

    return make


def lines(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def data(tmp_path):
    """Word problems and Telugu instructions in the layouts of the paper's sets, and MGSM with two problems of our own."""
    math = lines(tmp_path / "orca.jsonl", [{"question": f"{i} + {i}?", "answer": f"It is {2 * i}."} for i in range(9)])
    telugu = [lines(tmp_path / f"{name}.jsonl", [{"inputs": f"{s} {tail}?", "targets": s} for s in SENTENCES])
              for name, tail in (("aya", "ఏమిటి"), ("xp3mt", "ఎందుకు"))]  # fmt: skip
    mgsm = tmp_path / "mgsm"
    mgsm.mkdir()
    (mgsm / "mgsm_te.tsv").write_text(
        "రవి దగ్గర 5 పండ్లు, 4 కొన్నాడు. ఎన్ని?\t9\nసీత 12 పూలలో 3 ఇచ్చింది. ఎన్ని?\t9\n", encoding="utf-8"
    )
    shots = {
        str(i): {"q": f"ప్రశ్న: {i} + {i}?", "a": f"దశలవారీగా సమాధానం: {i} + {i} = {2 * i}. సమాధానం {2 * i}."}
        for i in range(1, 9)
    }
    lines(mgsm / "exemplars.json", [{"exemplars": {"te": shots}}])
    gold = lines(mgsm / "gsm8k.jsonl", [{"question": "?", "answer": f"<<{a}=9>>9\n#### 9"} for a in ("5+4", "12-3")])
    return {"math_data": f"orca-math:{math}", "language_data": f"aya:{telugu[0]}+xp3mt:{telugu[1]}", "mgsm": str(mgsm),
            "reference": str(gold)}  # fmt: skip


def small(folder):
    """Profile paper of a folder, with what a test can wait for."""
    full = named_profile("paper", str(folder))
    return replace(full, examples=6, training=replace(full.training, steps=2, batch_size=2, rank=4))


def test_a_chat_template_and_a_tokenizer_are_part_of_an_expert_s_name(miniature, tmp_path):
    folder = shutil.copytree(miniature("llama"), tmp_path / "Named-Instruct")
    for file in folder.glob("*.jinja"):
        file.unlink()
    config, vocabulary = folder / "tokenizer_config.json", folder / "tokenizer.json"
    plain = json.loads(config.read_text())
    templates = {name: TEMPLATE.replace("assistant", name) for name in ("assistant", "model")}
    choices = (None, *templates.values(), [{"name": name, "template": text} for name, text in templates.items()])
    names = []
    for template in choices:
        config.write_text(json.dumps(plain | ({"chat_template": template} if template else {})))
        names.append(Study(small(folder), "te").base_spec)
    words = json.loads(vocabulary.read_text())
    vocabulary.write_text(json.dumps(words | {"truncation": None, "padding": None, "version": "2.0"}))
    names.append(Study(small(folder), "te").base_spec)
    assert len({json.dumps(name) for name in names}) == len(names) == 5
    assert names[0]["chat"] == [], "where there is none, the name is as before"


def test_the_names_of_the_package_s_own_models_say_nothing_of_tokenizers():
    """Committed results are found by them."""
    assert list(Study(named_profile("smoke")).base_spec) == ["weights", "vocabulary", "chat", "dtype"]
    assert Study(named_profile("smoke")).base_spec["chat"] == []


@pytest.mark.parametrize("family", ["qwen2", "llama", "cohere"])  # Falcon3 is a Llama
def test_the_exact_architectures_run_through(chatty, data, family):
    study = Study(small(chatty(family)), "te", dtype="bfloat16", device="cpu", **data)
    changes = {**AS_THE_PAPER.changes, "problems": 2, "generated": 2, "max_new_tokens": 4, "shots": 1}
    ask = replace(AS_THE_PAPER, methods=("base", "layer-swapping"), languages=("te",), changes=changes)
    rows = study.outcomes(ask)
    assert set(rows["method"]) == {"base", "layer-swapping"}
    assert set(rows["metric"]) == {"exact-match"}
    assert set(rows["setting"]) == {"real"}
    assert set(rows["corpora"]) == {"", "orca-math + aya + xp3mt"}
    assert [study.state(cell) for cell in study.cells(ask)] == ["made"] * 2
    learned = study.training_examples("language-only")
    assert len(learned) == 6
    assert all("<assistant>" in example.prompt for example in learned)


def test_examples_longer_in_the_model_s_tokens_are_left_out(chatty, data, capsys):
    profile = small(chatty("qwen2"))
    study = Study(profile, "te", dtype="bfloat16", device="cpu", **data)
    lengths = [len(study.base.encode(e.prompt)) + len(study.base.encode(e.completion)) + len(study.base.start) + 1
               for e in study.training_examples("language-only")]  # fmt: skip
    most = sorted(lengths)[-2]
    shorter = replace(study, profile=replace(profile, training=replace(profile.training, max_length=most)))
    assert len(shorter.training_examples("language-only")) == sum(length <= most for length in lengths) < 6
    assert f"of 6 examples are longer than {most} tokens and left out" in capsys.readouterr().err
    assert shorter.expert("language-only").is_dir()


def test_several_corpora_give_their_shares(chatty, data):
    study = Study(small(chatty("qwen2")), "te", device="cpu", **data)
    kinds = [example.kind for example in study.training_examples("language-only")]
    assert sorted(kinds) == ["aya"] * 3 + ["xp3mt"] * 3
    with pytest.raises(RequestError, match="xp3mt has no 'en'"):
        replace(study, math_data="xp3mt+orca-math", language="te")
    assert together(data["language_data"]) == data["language_data"].split("+")
    corpus = study._corpus("math")
    assert mixture([corpus]) is corpus


def test_the_profile_is_the_paper_s_setting():
    profile = named_profile("paper", "Qwen/Qwen2.5-7B-Instruct")
    training = profile.training
    assert (profile.depth, profile.examples, training.steps, training.batch_size) == (28, 80_000, 1250, 64)
    assert (training.rank, training.alpha, training.rank_stabilised, training.max_length) == (64, 16, True, 1024)
    evaluation = profile.evaluation
    assert (evaluation.benchmark, evaluation.problems, evaluation.shots, evaluation.chat) == ("mgsm", 250, 2, True)


def test_a_model_of_the_hub_is_fetched_once_and_only_when_used(monkeypatch, miniature):
    fetched = []

    def snapshot(name, allow_patterns):
        fetched.append(name)
        return str(miniature("qwen2"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    profile = named_profile("paper", "someone/some-model")
    assert fetched == []
    assert profile.checkpoint() == profile.checkpoint() == miniature("qwen2")
    assert fetched == ["someone/some-model"]
    assert hub.model_folder(str(miniature("llama"))) == miniature("llama")


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [("paper", "", r"Say the --model of profile paper"), ("pocket", "a/b", "Profile pocket has a model of its own"),
     ("papers", "", "No profile 'papers'")],
)  # fmt: skip
def test_a_profile_and_its_model(name, model, message):
    with pytest.raises(RequestError, match=message):
        named_profile(name, model)


def test_the_command_takes_a_model_and_the_paper_s_data(monkeypatch, capsys):
    from xlnb.commands.cli import main
    from xlnb.studies import study as studies

    asked = []

    class Noted(Study):
        def __post_init__(self):
            super().__post_init__()
            asked.append((self.profile.model, self.language, self.math_data, self.language_data))
            if self.language == "te":
                raise RequestError("seen")

    monkeypatch.setattr(studies, "Study", Noted)
    usual = ["study", "--profile", "paper", "--experiment", "paper", "--dry-run"]
    model = ["--model", "a/b-Instruct", "--language"]
    ours = ["--math-data", "templates-english", "--language-data", "prose"]
    for arguments, message in (
        ([], "Say the --model"),
        ([], "A command without --model takes another profile: smoke, pocket"),
        ([*model, "sw,te"], "seen"),
        ([*model, "te", *ours], "seen"),
    ):
        with pytest.raises(SystemExit) as exit:
            main([*usual, *arguments])
        assert exit.value.code == 2
        assert message in capsys.readouterr().err
    assert asked == [
        ("b-Instruct", "sw", "orca-math", "aya+inkuba+xp3mt"),
        ("b-Instruct", "te", "orca-math", "aya+xp3mt+telugu-alpaca"),
        ("b-Instruct", "te", "templates-english", "prose"),  # where ours are named
    ]
