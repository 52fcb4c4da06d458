"""Nodes without a network: what the paper's studies need is fetched into a folder, and runs from there."""

import re
import shlex
import shutil
import socket

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from local_hub import LocalHub, pointed_to, serving
from transformers import AutoModelForCausalLM

from xlnb.commands.cli import main
from xlnb.corpora.benchmarks import GSM8K, MGSM
from xlnb.corpora.sources import SOURCES
from xlnb.downloads import DATASET, MODEL, checksums, place
from xlnb.models.base import identity, load_base
from xlnb.studies import fetching, grid, profiles, study
from xlnb.studies.experiments import AS_THE_PAPER, Ask, Experiment, named_experiment
from xlnb.studies.paper import LANGUAGE_CORPORA, MATH_CORPUS
from xlnb.studies.planning import work
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

pytestmark = pytest.mark.usefixtures("own_home", "one_thread")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
TEXTS = {
    "sw": ("Habari za asubuhi", "Mama anapika wali", "Watoto wanacheza nje", "Mvua inanyesha", "Ninapenda kusoma", "Karibu"),
    "bn": ("আমি ভাত খাই", "মা রান্না করেন", "শিশুরা খেলছে", "আজ বৃষ্টি হচ্ছে", "সে বই পড়ে", "বাড়ি এসো"),
    "te": ("రవి పండ్లు కొన్నాడు", "సీత పూలు ఇచ్చింది", "అమ్మ అన్నం వండింది", "వాన కురిసింది", "ఆవు గడ్డి తింది", "నేను చదువుతాను"),
}  # fmt: skip
# The paper's four, as miniatures of their architectures: Falcon3 is a Llama.
FOUR = {
    "Qwen2.5-7B-Instruct": "qwen2",
    "Falcon3-7B-Instruct": "llama",
    "Llama-3.1-8B-Instruct": "llama",
    "aya-expanse-8b": "cohere",
}
SMALL = {
    "examples an expert": 6,
    "batch": 3,
    "problems a language": 2,
    "shots": 1,
    "new tokens at most": 3,
    "LoRA rank": 4,
}


@pytest.fixture(autouse=True)
def of_a_size_to_wait_for(monkeypatch):
    """Profile paper with few examples and problems, and nothing kept from another test's data."""
    plain = profiles.paper
    monkeypatch.setattr(profiles, "paper", lambda item: SMALL.get(item) or plain(item))
    study._corpus.cache_clear()


def parquet(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)


def csv(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), file)


def write_data(root):
    """Write each of the paper's sets as it lies on the hub: the same files and columns, a few rows."""
    at = lambda name: place(root, SOURCES[name].hub, DATASET)  # noqa: E731
    parquet(at("orca-math") / "data/train-00000-of-00001.parquet",
            [{"question": f"{i} and {i}?", "answer": f"It is {i} + {i} = {2 * i}."} for i in range(9)])  # fmt: skip
    for code, texts in TEXTS.items():
        asked = {
            name: [{"inputs": f"{text}, {name}?", "targets": text} for text in texts]
            for name in ("aya", "xp3mt", "inkuba")
        }
        folder = SOURCES["aya"].names[code]
        parquet(
            at("aya") / f"{folder}/train-00000-of-00001.parquet", [row | {"task_type": "qa"} for row in asked["aya"]]
        )
        parquet(at("aya") / f"{folder}/validation-00000-of-00001.parquet", asked["aya"])
        parquet(at("xp3mt") / f"{code}/train/0000.parquet", asked["xp3mt"])
    parquet(at("inkuba") / "data/swahili_train-00000-of-00001.parquet",
            [{"instruction": "Jibu.", "inputs": f"{text}!", "targets": text} for text in TEXTS["sw"]])  # fmt: skip
    parquet(at("bongchat") / "data/train-00000-of-00001.parquet",
            [{"instruction": f"{text}?", "input": "", "output": text} for text in TEXTS["bn"]])  # fmt: skip
    parquet(at("indic-align") / "indicalign-instruct/indicsharellama/indic_sharellama.parquet",
            [{"ben_Beng": [[f"{text}!", text]], "tel_Telu": [["x", "y"]]} for text in TEXTS["bn"]])  # fmt: skip
    csv(at("telugu-alpaca") / "yahma_alpaca_cleaned_telugu_filtered_and_romanized.csv",
        [{"telugu_instruction": f"{text}!", "telugu_input": "", "telugu_output": text} for text in TEXTS["te"]])  # fmt: skip
    mgsm = place(root, MGSM, DATASET)
    mgsm.mkdir(parents=True)
    for code in ("en", *TEXTS):
        (mgsm / f"mgsm_{code}.tsv").write_text("5 + 4?\t9\n12 - 3?\t9\n", encoding="utf-8")
    labels = {
        "en": ("Question:", "Answer:"),
        "sw": ("Swali:", "Jibu:"),
        "bn": ("প্রশ্ন:", "উত্তর:"),
        "te": ("ప్రశ్న:", "జవాబు:"),
    }
    solved = {code: {str(i): {"q": f"{q} {i} + 1?", "a": f"{a} {i} + 1 = {i + 1}."} for i in range(1, 9)}
              for code, (q, a) in labels.items()}  # fmt: skip
    (mgsm / "exemplars.py").write_text(f"MGSM_EXEMPLARS = {solved!r}\n", encoding="utf-8")
    parquet(place(root, GSM8K, DATASET) / "main/test-00000-of-00001.parquet",
            [{"question": f"{a}?", "answer": f"<<{a}=9>>9\n#### 9"} for a in ("5 + 4", "12 - 3")])  # fmt: skip


@pytest.fixture
def chatty(miniature, tmp_path):
    """A function that writes a miniature with a chat template under a name, as a hub's folder has it."""

    def make(name, family):
        folder = tmp_path / "originals" / name
        if folder.is_dir():
            return folder
        shutil.copytree(miniature(family), folder)
        tokenizer = load_base(folder).tokenizer
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def hub(tmp_path, chatty):
    """A hub with the paper's data sets and one model."""
    write_data(tmp_path / "on-hub")
    hub = LocalHub()
    for folder in (tmp_path / "on-hub/datasets").glob("*/*"):
        hub.add_folder(DATASET, "/".join(folder.parts[-2:]), folder)
    hub.add_folder(MODEL, "some/mini-Instruct", chatty("mini-Instruct", "qwen2"))
    return hub


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A folder that stands for the hub, with the paper's data sets."""
    root = tmp_path / "fetched"
    hub = LocalHub()
    write_data(tmp_path / "on-hub")
    for folder in (tmp_path / "on-hub/datasets").glob("*/*"):
        hub.add_folder(DATASET, "/".join(folder.parts[-2:]), folder)
    with serving(hub) as address, pointed_to(address, monkeypatch):
        studies = [Study(named_profile("paper", str(tmp_path)), code, **theirs(code)) for code in TEXTS]
        fetching.fetch_studies(studies, named_experiment("paper"), root, lambda told: None)
    monkeypatch.setenv("XLNB_HUB", str(root))
    return root


def theirs(language):
    """The paper's data in a language."""
    return {"math_data": MATH_CORPUS, "language_data": "+".join(LANGUAGE_CORPORA[language])}


def command(*arguments):
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    return exit.value.code


def no_sockets(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_study_runs_from_what_was_fetched_without_a_socket(hub, tmp_path, monkeypatch, capsys, own_home):
    out = tmp_path / "for the cluster"
    with serving(hub) as address, pointed_to(address, monkeypatch):
        assert command("fetch", "--model", "some/mini-Instruct", "--languages", "te", str(out)) == 0
        names = {path.split("/resolve/")[0] for _, path in hub.asked if "/resolve/" in path}
        sets = [MGSM, GSM8K, *(SOURCES[name].hub for name in ("orca-math", *LANGUAGE_CORPORA["te"]))]
        assert names == {"/some/mini-Instruct", *(f"/datasets/{name}" for name in sets)}
        assert not [file for file in hub.downloads() if "validation" in file or "_sw" in file or "swahili" in file]
    told = capsys.readouterr().out
    assert (out / "SHA256SUMS").read_text(encoding="utf-8").count("\n") == len(checksums(out)) > 10
    line = told.strip().splitlines()[-1]
    variables, words = {}, shlex.split(line)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert variables == {"HF_HUB_OFFLINE": "1", "XLNB_HUB": str(out)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    no_sockets(monkeypatch)
    assert words[:2] == ["xlnb", "grid"]
    assert command(*words[1:], "--seeds", "0", "--dry-run") == 0
    assert "trainings and" in capsys.readouterr().out
    one = Study(named_profile("paper", "some/mini-Instruct"), "te", dtype="bfloat16", device="cpu", **theirs("te"))
    rows = one.outcomes(Ask(("base", "layer-swapping"), changes=AS_THE_PAPER.changes))
    assert set(rows["corpora"]) == {"", "orca-math + aya + xp3mt + telugu-alpaca"}
    assert len(rows) == 2 * 2 * 2, "two models, two languages, two problems"
    # The folder is the model as it is on the hub: by the checksums that lie beside it, unread.
    assert one._identity == identity(tmp_path / "originals/mini-Instruct")
    assert (own_home / "runs/paper/mini-Instruct").is_dir()


def test_a_set_that_changed_its_columns_is_told_where_it_is_fetched(hub, tmp_path, monkeypatch, capsys):
    name = SOURCES["orca-math"].hub
    parquet(tmp_path / "new.parquet", [{"prompt": "2 and 2?", "solution": "4"}])
    hub.add(DATASET, name, {"data/train-00000-of-00001.parquet": (tmp_path / "new.parquet").read_bytes()})
    with serving(hub) as address, pointed_to(address, monkeypatch):
        assert command("fetch", "--model", "some/mini-Instruct", "--languages", "te", str(tmp_path / "out")) == 1
        err = capsys.readouterr().err
        assert f"{name} is laid out otherwise than is known here" in err
        assert "has no column question, answer; it has: prompt, solution" in err
        assert "orca-math:FOLDER" in err
        # With a copy of an earlier one all the rest is fetched, and this one is not asked for.
        hub.asked.clear()
        copy = place(tmp_path / "on-hub", name, DATASET)
        asked = [
            "--model",
            "some/mini-Instruct",
            "--languages",
            "te",
            "--math-data",
            f"orca-math:{copy}",
            str(tmp_path / "out"),
        ]
        assert command("fetch", *asked) == 0
        assert not [path for _, path in hub.asked if name in path or "mini-Instruct" in path], "the model is there"
    assert f"--math-data orca-math:{copy}" in capsys.readouterr().out


def test_a_set_whose_files_have_other_names(hub, tmp_path, monkeypatch, capsys):
    hub.add(DATASET, SOURCES["aya"].hub, {"README.md": b"moved", "sw.parquet": b""})
    with serving(hub) as address, pointed_to(address, monkeypatch):
        assert command("fetch", "--model", "some/mini-Instruct", "--languages", "te", str(tmp_path / "out")) == 1
    err = capsys.readouterr().err
    assert re.search(r"no file like telugu/train-\*\.parquet: it was laid out anew, and has README.md, sw.parquet", err)


def test_a_dry_run_does_not_download(hub, tmp_path, monkeypatch, capsys):
    asked = ["--profile", "paper", "--experiment", "paper", "--model", "some/mini-Instruct", "--dry-run"]
    with serving(hub) as address, pointed_to(address, monkeypatch):
        for verb in (["grid", "--languages", "te"], ["study", "--language", "te"]):
            assert command(*verb, *asked) == 1
            assert "a dry run downloads nothing: `xlnb fetch` brings it" in capsys.readouterr().err
    assert hub.asked == []


def test_the_whole_grid_as_a_dry_run(fetched, chatty, capsys):
    models = [str(chatty(name, family)) for name, family in FOUR.items()]
    asked = ["--profile", "paper", "--experiment", "paper-methods", "--model", ",".join(models), "--languages", "sw,bn,te",
             "--seeds", "0", "--paradigms", "lora,full", "--dry-run"]  # fmt: skip
    assert command("grid", *asked) == 0
    out = capsys.readouterr().out
    trainings, cells = map(int, re.match(r"(\d+) trainings and (\d+) cells are missing", out).groups())
    todo = work(named_experiment("paper-methods"), list(TEXTS))
    assert trainings == len(FOUR) * 2 * len(todo.experts), "as the plan has counted without a model"
    shared = [slug for slug, _, home in todo.experts if not home]
    assert {"math-only", "frozen-math"} <= set(shared)
    for name in FOUR:
        assert len(re.findall(rf"paper/{name}/\w+/en/orca-math/seed-0/math-only-", out)) == 2, (
            "once a paradigm, for all languages"
        )
    base = len({("base", code) for code in ("en", *TEXTS)})
    assert cells == len(FOUR) * (2 * (todo.cells - base) + base), "the base is asked once for both paradigms"


def test_the_whole_grid_runs_on_miniatures(fetched, chatty, own_home, monkeypatch):
    trained, plain = [], study.train_expert
    monkeypatch.setattr(study, "train_expert", lambda base, lessons, training, seed, out, *rest, **more: (
        out.is_dir() or trained.append(out), plain(base, lessons, training, seed, out, *rest, **more))[1])  # fmt: skip
    methods = ("base", "layer-swapping", "train-then-revert")
    what = Experiment((Ask(methods, changes=AS_THE_PAPER.changes),), ())
    studies = [
        Study(named_profile("paper", str(chatty(name, family))), code, paradigm=paradigm, dtype="bfloat16", device="cpu",
              **theirs(code))
        for name, family in FOUR.items() for paradigm in ("lora", "full") for code in ("sw", "te")
    ]  # fmt: skip
    for job in grid.jobs(studies, what):
        grid.work(job)
    assert grid.jobs(studies, what) == []
    assert len(trained) == len(set(trained)) == len(FOUR) * 2 * 3, "math once, and a language expert each"
    weights = list((own_home / "runs").rglob("*.safetensors"))
    assert {file.parent for file in weights} == set(trained), "merges are made in memory, and dropped"
    rows = {one.profile.model: one.outcomes(*what.asks) for one in studies}
    assert set(rows) == set(FOUR)
    for found in rows.values():
        assert set(found["method"]) == set(methods)


def test_what_was_fetched_is_packed_and_runs_without_the_hub(fetched, chatty, tmp_path, monkeypatch, capsys, own_home):
    model = chatty("mini-Instruct", "qwen2")
    whole = AutoModelForCausalLM.from_pretrained(model)
    (model / "model.safetensors").unlink()
    whole.save_pretrained(model, max_shard_size="50KB")
    assert len(list(model.glob("*.safetensors"))) > 2, "in several files, as large models come"
    asked = [
        "--profile",
        "paper",
        "--experiment",
        "paper",
        "--languages",
        "sw,te",
        "--seeds",
        "0",
        "--dtype",
        "bfloat16",
    ]
    assert command("grid", *asked, "--model", str(model), "--dry-run") == 0
    here, name = capsys.readouterr().out, identity(model)
    packed, there = str(tmp_path / "packed"), tmp_path / "there"
    assert command("pack", packed, *asked, "--model", str(model), "--no-wheels", "--no-results") == 0
    assert command("unpack", packed, str(there)) == 0
    line, *_ = capsys.readouterr().out.strip().splitlines()[-3:]  # behind it stands how to take home what was made
    words = shlex.split(line)
    for gone in (fetched, model, tmp_path / "on-hub"):
        shutil.rmtree(gone)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    no_sockets(monkeypatch)
    assert command(*words[words.index("grid") :], "--dry-run") == 0
    assert capsys.readouterr().out == here, "the same cells under the same names"
    study._corpus.cache_clear()
    one = Study(named_profile("paper", str(there / "weights/mini-Instruct")), "te", dtype="bfloat16", **theirs("te"))
    assert one._identity == name
    rows = one.outcomes(Ask(("base", "layer-swapping"), changes=AS_THE_PAPER.changes))
    assert len(rows) == 2 * 2 * 2, "two models, two languages, two problems"


def test_what_was_not_fetched_is_not_packed(chatty, tmp_path, capsys, monkeypatch):
    asked = ["--profile", "paper", "--experiment", "paper", "--model", str(chatty("mini-Instruct", "qwen2"))]
    monkeypatch.setenv("XLNB_HUB", str(tmp_path / "empty"))
    assert command("pack", str(tmp_path / "packed"), *asked, "--languages", "te", "--seeds", "0") == 2
    error = capsys.readouterr().err
    for name in (MGSM, GSM8K, *(SOURCES[corpus].hub for corpus in ("orca-math", *LANGUAGE_CORPORA["te"]))):
        assert name in error
    assert "bring it by `xlnb fetch` and set XLNB_HUB" in error
    assert not (tmp_path / "packed").exists()


def test_what_was_fetched_of_another_language_is_not_enough_to_pack(hub, chatty, tmp_path, capsys, monkeypatch):
    out = tmp_path / "fetched"
    with serving(hub) as address, pointed_to(address, monkeypatch):
        assert command("fetch", "--model", "some/mini-Instruct", "--languages", "te", str(out)) == 0
    monkeypatch.setenv("XLNB_HUB", str(out))
    asked = ["--profile", "paper", "--experiment", "paper", "--model", "some/mini-Instruct", "--seeds", "0"]
    assert command("pack", str(tmp_path / "packed"), *asked, "--languages", "sw") == 2
    error = capsys.readouterr().err
    assert all(SOURCES[name].hub in error for name in LANGUAGE_CORPORA["sw"])
    assert SOURCES["orca-math"].hub not in error, "that serves every language"


def test_what_is_wanted_is_what_was_not_given(tmp_path):
    given = {"math_data": "gsm8k", "language_data": "aya:here+xp3mt", "mgsm": "mgsm", "reference": "test.jsonl"}
    one = Study(named_profile("paper", str(tmp_path)), "te", **given)
    found = fetching.wanted([one], named_experiment("paper"))
    assert [(w.repository, w.groups, w.revision) for w in found] == [
        ("openai/gsm8k", (("main/train-*.parquet",),), None),
        ("bigscience/xP3mt", (("te/*.parquet", "te/*.jsonl"),), "refs/convert/parquet"),
    ]
