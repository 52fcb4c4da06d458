"""A packed study: what is unpacked elsewhere is the same study, or nothing; what was made there is published here."""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from xlnb import artifacts, unpacking
from xlnb.commands import cli
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import identity
from xlnb.studies import archives, packing, study, wheels
from xlnb.studies.committing import publish
from xlnb.studies.experiments import Ask, named_experiment
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study
from xlnb.studies.vocabulary import vocabulary_file

EXPERIMENT = "strength"  # the fewest cells
SMOKE = named_profile("smoke")
# No network, and nothing that only the book needs; pipes between processes are sockets of the machine's own.
SITE = """
import socket, sys

def watch(event, arguments):
    if event.startswith("socket.") and not (event == "socket.__new__" and arguments[1] == socket.AF_UNIX):
        raise OSError(f"no network: {event}")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("matplotlib", "seaborn", "nbformat", "snakemake"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.addaudithook(watch)
sys.meta_path.insert(0, Missing())
"""


def environment(**more):
    mine = {name: value for name, value in os.environ.items() if not name.startswith("XLNB_") and name != "PYTHONPATH"}
    return {**mine, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project's folder in which the smoke study is computed by a plain loop; the environment names it."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(folder / "home"))
        patch.setenv("XLNB_CACHE", str(folder / "cache"))
        patch.delenv("XLNB_POCKET", raising=False)
        yield folder / "home"


@pytest.fixture(scope="module")
def studied(home):
    return Study(SMOKE, "sw", 0)


@pytest.fixture(scope="module")
def packed(home, studied, tmp_path_factory):
    """The study packed into several parts; nobody may write there."""
    out = tmp_path_factory.mktemp("packed") / "packed"
    size = {"part_mb": 0.4, "report": lambda text: None}
    return packing.pack_study(packing.Packing(EXPERIMENT, [studied], wheels=False), out, **size)


@pytest.fixture(scope="module")
def run_there(packed, tmp_path_factory):
    """The folder where the study was unpacked and run, by another process and without a network."""
    there = tmp_path_factory.mktemp("there") / "target"
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "sitecustomize.py").write_text(SITE)
    command = [sys.executable, str(packed / "unpack.py"), str(there)]
    done = subprocess.run(command, env=environment(PYTHONPATH=str(blocked)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, then, taken_home = done.stdout.strip().splitlines()[-3:]
    assert then == unpacking.TAKEN_HOME and taken_home.endswith(" -m xlnb pack MADE --outcomes")
    assert taken_home.split(" -m ")[0] == line.split(" -m ")[0], "by the same variables"
    assert line in (there / "run.sh").read_text()
    said = dict(word.split("=", 1) for word in shlex.split(line)[:5])
    assert said["PYTHONPATH"] == str(there / "site")
    (there / "site" / "sitecustomize.py").write_text(SITE)
    ran = subprocess.run(f"{line} --jobs 2", shell=True, env=environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return there


def outcomes(runs):
    return {file.relative_to(runs): pd.read_parquet(file) for file in sorted(runs.rglob("outcomes/*.parquet"))}


def test_what_is_run_there_is_what_a_plain_loop_makes_at_home(run_there, studied, home):
    studied.outcomes(*named_experiment(EXPERIMENT).asks)
    found, expected = outcomes(run_there / "project" / "runs"), outcomes(home / "runs")
    assert list(found) == list(expected)
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, expected[name])


def test_the_base_is_the_same_there(run_there, studied):
    mine = studied.profile.checkpoint()
    there = run_there / "project" / "runs" / "smoke" / "gemma3-miniature" / "checkpoint"
    assert (there / "model.safetensors").read_bytes() == (mine / "model.safetensors").read_bytes()
    assert identity(there) == identity(mine)
    assert not (run_there / "stored").exists()


def test_provenance_there_tells_version_and_commit(run_there):
    (told, *_) = [artifacts.read_json(file) for file in run_there.rglob("experts/*/provenance.json")]
    assert told["versions"] == artifacts.versions()
    assert told["commit"] == artifacts.commit()


def test_only_kept_rows_are_packed_and_the_base_keeps_its_name(home, tmp_path):
    trimmed = Study(replace(SMOKE, trimmed=True), "sw", 0)
    checkpoint = trimmed.profile.checkpoint()
    kept = [0, 1, 2, 3, 50, 51, 259]
    file = vocabulary_file(checkpoint, trimmed.kept)
    artifacts.write_json(file, kept)
    asked = packing.Packing(EXPERIMENT, [trimmed], wheels=False)
    unpacking.unpack(packing.pack_study(asked, tmp_path / "packed"), tmp_path / "there")
    assert artifacts.read_json(tmp_path / "there" / "cache" / file.name) == kept
    there = tmp_path / "there" / "project" / checkpoint.relative_to(home)
    found, expected = (load_file(folder / "model.safetensors") for folder in (there, checkpoint))
    others = [row for row in range(260) if row not in kept]
    for name, tensor in expected.items():
        if "embed_tokens" in name:
            assert torch.equal(found[name][kept], tensor[kept])
            assert not found[name][others].any()
        else:
            assert torch.equal(found[name], tensor)
    assert identity(there) == identity(checkpoint), "by the checksum at home, though other rows are zeros"
    expert = trimmed.expert_folder("math-only").name
    elsewhere = replace(trimmed, profile=replace(trimmed.profile, checkpoint=lambda: there))
    assert elsewhere.expert_folder("math-only").name == expert


# --- parts that are not as they were written -----------------------------------------------------------------


def spoilt(packed, tmp_path, how):
    folder = tmp_path / "brought"
    shutil.copytree(packed, folder)
    part = folder / "part-002"
    if how == "missing":
        part.unlink()
    elif how == "short":
        os.truncate(part, part.stat().st_size - 1)
    elif how == "damaged":
        data = bytearray(part.read_bytes())
        data[1000] ^= 4
        part.write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "part-002 is missing"),
        ("short", "part-002 has 399,999 bytes instead of 400,000"),
        ("damaged", "part-002 is damaged"),
    ],
    ids=["missing", "short", "damaged"],
)
def test_a_part_that_is_not_right_is_named_and_nothing_is_unpacked(packed, tmp_path, how, told):
    folder = spoilt(packed, tmp_path, how)
    done = subprocess.run(
        [sys.executable, str(folder / "unpack.py"), str(tmp_path / "there")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["brought"]
    shutil.copyfile(packed / "part-002", folder / "part-002")
    assert unpacking.unpack(folder, tmp_path / "there", report=lambda text: None)


def test_every_part_that_is_missing_is_told_by_the_command_too(packed, tmp_path, home, capsys):
    folder = spoilt(packed, tmp_path, "missing")
    (folder / "part-001").unlink()
    assert cli.exit_code(["unpack", str(folder), str(tmp_path / "there")]) == 1
    error = capsys.readouterr().err
    assert "part-001 is missing" in error
    assert "part-002 is missing" in error


@pytest.mark.parametrize("text", ["", '{"parts": []}', '{"parts": [{"name": "../x"}], "files": []}', None])
def test_contents_that_are_not_right_are_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "contents.json").write_text(text)
    with pytest.raises(unpacking.UnpackError, match=r"contents\.json (is missing|is damaged|names)"):
        unpacking.unpack(tmp_path, tmp_path / "there")


def test_a_target_that_is_there_stays(packed, tmp_path):
    with pytest.raises(unpacking.UnpackError, match="is there already"):
        unpacking.unpack(packed, tmp_path)


@pytest.mark.parametrize("step", ["extract", "_rebuild"])
def test_killed_while_unpacking_it_leaves_nothing_half(packed, tmp_path, step):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(packed)!r})
sys.dont_write_bytecode = True
import unpack
plain = unpack.{step}
def killed(*arguments):
    plain(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
unpack.{step} = killed
unpack.unpack({str(packed)!r}, {str(tmp_path / "there")!r})
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -9
    assert not (tmp_path / "there").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".there.unpacking-")
    unpacking.unpack(packed, tmp_path / "there", report=lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_unpack_needs_the_standard_library_alone(packed):
    tree = ast.parse((packed / "unpack.py").read_text(), feature_version=(3, 10))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


# --- what comes home -----------------------------------------------------------------------------------------


@pytest.fixture
def brought(run_there, tmp_path):
    """What was made there, packed by the command in the unpacked copy."""
    names = {"PYTHONPATH": "site", "XLNB_HOME": "project", "XLNB_CACHE": "cache"}
    command = [sys.executable, "-m", "xlnb", "pack", str(tmp_path / "made"), "--outcomes", "--part-mb", "0.01"]
    subprocess.run(command, env=environment(**{k: str(run_there / v) for k, v in names.items()}), check=True)
    return tmp_path / "made"


def test_what_was_made_there_is_published_here_without_weights(brought, run_there, tmp_path, monkeypatch, own_home):
    parts = list(brought.glob("part-*"))
    assert len(parts) > 1
    assert all(part.stat().st_size <= 10_000 for part in parts)
    named = [one["path"] for one in artifacts.read_json(brought / "contents.json")["files"]]
    assert not [name for name in named if "safetensors" in name or "checkpoint" in name]
    assert cli.exit_code(["unpack", str(brought)]) == 0
    monkeypatch.setattr(study, "load_base", lambda *a, **b: pytest.fail("no weights are needed"))
    here = Study(SMOKE, "sw", 0)
    here.profile.checkpoint()  # its name comes from it
    out = publish([here], EXPERIMENT, tmp_path / "results", EXPERIMENT)
    made = outcomes(run_there / "project" / "runs")
    assert len(pd.read_parquet(out / "outcomes.parquet")) == sum(map(len, made.values()))
    history = pd.read_parquet(out / "training.parquet")
    assert set(history["expert"]) == set(named_experiment(EXPERIMENT).experts)
    before = {file: file.stat().st_mtime_ns for file in own_home.rglob("*") if file.is_file()}
    assert archives.unpack(brought, report=lambda text: None)[0].startswith("0 of")
    assert {file: file.stat().st_mtime_ns for file in own_home.rglob("*") if file.is_file()} == before


def test_an_expert_without_weights_is_trained_where_its_weights_are_needed(brought, own_home):
    archives.unpack(brought)
    here = Study(SMOKE, "sw", 0)
    folder = here.expert_folder("math-only")
    assert not folder.exists(), "what lies there counts as trained"
    assert len(here.history("math-only")) == SMOKE.training.steps
    here.task_vector("math-only")
    assert list(folder.glob("*.safetensors"))


def test_an_expert_s_folder_that_lost_its_weights_is_told(own_home):
    here = Study(SMOKE, "sw", 0)
    folder = here.expert("math-only")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(WorkError, match="has no weights"):
        here.task_vector("math-only")


def test_a_cell_that_is_here_gets_the_readings_that_it_lacks(own_home, tmp_path):
    here = Study(SMOKE, "sw", 0)

    def score(*readings):
        ask = Ask(("base",), languages=("sw",), changes={"readings": readings, "generated": 0})
        return here.outcomes(ask), here.cells(ask)[0].path

    brought, path = score("nll", "choice")
    there = artifacts.read_json(path.with_suffix(".json"))
    packed_there = archives.pack_outcomes(tmp_path / "made", report=lambda text: None)
    shutil.rmtree(path.parent)
    mine, _ = score("nll")
    told = artifacts.read_json(path.with_suffix(".json"))
    (line,) = archives.unpack(packed_there)
    assert line.endswith(" 1 that were here got readings that they lacked.")
    both = pd.read_parquet(path)
    assert both["metric"].value_counts().to_dict() == brought["metric"].value_counts().to_dict()
    assert artifacts.read_json(path.with_suffix(".json")) == told | {"before": [there]}
    pd.testing.assert_frame_equal(score("nll")[0], mine)
    assert "lacked" not in archives.unpack(packed_there)[0], "once is enough"


def test_nothing_made_is_nothing_to_pack(own_home, tmp_path):
    with pytest.raises(RequestError, match="Nothing was made yet"):
        archives.pack_outcomes(tmp_path / "made")


# --- what is asked -------------------------------------------------------------------------------------------


def test_data_given_by_path_go_along_and_are_named_there(own_home, tmp_path):
    (tmp_path / "mgsm").mkdir()
    problem = "Juma ana maembe 3 na ndizi 4 nyumbani kwake.\t7\n"
    for code in ("en", "sw"):
        (tmp_path / "mgsm" / f"mgsm_{code}.tsv").write_text(problem)
    (tmp_path / "train.jsonl").write_text('{"question": "3 and 4?", "answer": "3 + 4 = 7\\n#### 7"}\n')
    given = {"mgsm": str(tmp_path / "mgsm"), "reference": str(tmp_path / "train.jsonl")}
    one = Study(SMOKE, "sw", 0, math_data=f"gsm8k:{tmp_path / 'train.jsonl'}", **given)
    out = packing.pack_study(packing.Packing("real", [one], wheels=False), tmp_path / "packed")
    (line,) = unpacking.unpack(out, tmp_path / "there")
    words = shlex.split(line)
    for option in ("--mgsm", "--reference", "--math-data"):
        place = Path(words[words.index(option) + 1].removeprefix("gsm8k:"))
        assert place.is_relative_to(tmp_path / "there")
        assert place.exists()
    assert "--language-data" not in words


def test_a_shell_reads_paths_with_its_own_characters(own_home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = tmp_path / "my rows; $(touch spoilt) 'so'.jsonl"
    rows.write_text('{"question": "3 and 4?", "answer": "3 + 4 = 7"}\n')
    one = Study(SMOKE, "sw", 0, math_data=f"gsm8k:~/{rows.name}")
    out = packing.pack_study(
        packing.Packing(EXPERIMENT, [one], wheels=False), tmp_path / "packed", report=lambda _: None
    )
    there = tmp_path / "a place with spaces"
    (line,) = unpacking.unpack(out, there, report=lambda _: None)
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    words = read.stdout.splitlines()
    assert words == shlex.split(line)
    name, _, path = words[words.index("--math-data") + 1].partition(":")
    assert (name, path) == ("gsm8k", f"{there}/data/math-data/gsm8k/{rows.name}")
    assert Path(path).read_text() == rows.read_text()
    assert not (tmp_path / "spoilt").exists()


def test_all_profiles_are_run_there():
    both = [Study(named_profile(name), "sw", 0) for name in ("pocket-barely", "pocket-far")]
    (line,) = packing._commands(packing.Packing("strength", both), {"math-data": "", "language-data": ""})
    assert " --profile pocket-barely,pocket-far " in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--experiment", "real"], "juletxara/mgsm, openai/gsm8k would be fetched from the hub, which is not there"),
        (
            ["--language-data", "ntrex"],
            "give copies by path: --math-data NAME:PATH, --language-data NAME:PATH, --mgsm PATH",
        ),
        (["--math-data", "gsm8k:nowhere"], "there is no nowhere"),
        (["--part-mb", "-1"], "--part-mb -1"),
        (["--part-mb", "0"], "--part-mb 0"),
        (["--part-mb", "inf"], "--part-mb inf: say a finite number of megabytes"),
        (["--ntrex", "nowhere"], "--ntrex: there is no nowhere"),
        (["--experiment", "strength,lairs"], "No experiment 'lairs'"),
        (["--python", "three"], "--python 'three'"),
    ],
)
def test_what_cannot_be_packed_is_told_and_nothing_is_written(own_home, tmp_path, capsys, options, told):
    asked = ["pack", str(tmp_path / "out"), "--profile", "smoke", "--languages", "sw", "--seeds", "0", *options]
    assert cli.exit_code(asked) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_not_written_to(own_home, tmp_path, capsys):
    assert cli.exit_code(["pack", str(tmp_path), "--profile", "smoke"]) == 2
    assert "is there already" in capsys.readouterr().err


# --- wheels --------------------------------------------------------------------------------------------------


def test_what_studies_need_and_what_torch_and_transformers_need():
    assert {"py3langid", "gguf", "shellingham"} <= wheels.needed(["py3langid", "gguf", "typer"], "3.12")
    assert {"numpy", "tokenizers", "filelock"} <= wheels.needed(["torch", "transformers"], "3.12")


def test_wheels_are_asked_for_that_python_in_the_versions_that_are_here(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        wheels.subprocess, "run", lambda command, **_: asked.append(command) or subprocess.CompletedProcess([], 0)
    )
    names = wheels.fetch_wheels(tmp_path / "wheels", "3.12")
    ours = dict(name.split("==") for name in names)
    assert {"gguf", "py3langid"} <= set(ours)
    assert not {"torch", "transformers", "numpy", "pandas", "matplotlib", "scikit-learn"} & set(ours)
    assert artifacts.versions(["py3langid"])["py3langid"] == ours["py3langid"]
    assert "--python-version=3.12" in asked[0]
    assert "pandas" in {
        name.split("==")[0] for name in wheels.fetch_wheels(tmp_path, "3.12", ("torch", "transformers"))
    }


def test_what_only_some_studies_need_is_fetched_too_or_told(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.subprocess, "run", lambda command, **_: subprocess.CompletedProcess([], 0))
    names = {name.split("==")[0] for name in wheels.fetch_wheels(tmp_path / "a", "3.12", also=["hypothesis"])}
    assert "hypothesis" in names and "hypothesis" not in {
        n.split("==")[0] for n in wheels.fetch_wheels(tmp_path / "b", "3.12")
    }
    with pytest.raises(RequestError, match="no-such-package is needed there and not installed here"):
        wheels.fetch_wheels(tmp_path / "c", "3.12", also=["no-such-package"])
    assert wheels.fetch_wheels(tmp_path / "d", "3.12", ("no-such-package", "torch"), also=["no-such-package"])


def test_torchao_goes_along_where_moments_take_eight_bits(own_home, tmp_path, monkeypatch):
    asked = []

    def fetch(folder, python, there, also):
        asked.append(also)
        raise WorkError("enough")

    monkeypatch.setattr(packing, "fetch_wheels", fetch)
    smoke = named_profile("smoke")
    for training in (smoke.training, replace(smoke.training, optimizer="adamw-8bit")):
        study = Study(replace(smoke, training=training))
        with pytest.raises(WorkError, match="enough"):
            packing.pack_study(packing.Packing("first-swap", [study]), tmp_path / "out")
    assert asked == [(), ("torchao",)]


def test_wheels_that_cannot_be_fetched_are_told(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stderr="ERROR: no network\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WorkError, match=r"ERROR: no network.*--no-wheels"):
        wheels.fetch_wheels(tmp_path)


def test_a_wheel_is_unpacked_where_its_package_is_missing(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_is_installed", lambda name: name == "there")
    told, plain = unpacking.contents(packed), unpacking.extract

    def with_wheels(folder, told, out):
        import zipfile

        plain(folder, told, out)
        (out / "wheels").mkdir()
        for name in ("there", "missing"):
            with zipfile.ZipFile(out / "wheels" / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{name}.py", "")

    monkeypatch.setattr(unpacking, "extract", with_wheels)
    unpacking.unpack(packed, tmp_path / "target", report=lambda text: None)
    assert told["kind"] == "study"
    assert (tmp_path / "target" / "site" / "missing.py").exists()
    assert not (tmp_path / "target" / "site" / "there.py").exists()


def test_a_wheel_of_another_python_is_refused_before_anything_is_unpacked(packed, tmp_path, monkeypatch):
    own, other = sys.version_info.minor, sys.version_info.minor + 1
    told = unpacking.contents(packed)
    assert told["python"] == f"3.{own}"
    monkeypatch.setattr(unpacking, "_is_installed", lambda name: name == "there")

    def attempt(wheel):
        files = [*told["files"], {"path": f"wheels/{wheel}-manylinux_2_28_x86_64.whl"}]
        monkeypatch.setattr(unpacking, "contents", lambda folder: {**told, "python": f"3.{other}", "files": files})
        monkeypatch.setattr(unpacking, "extract", lambda *_: (_ for _ in ()).throw(unpacking.UnpackError("extracted")))
        with pytest.raises(unpacking.UnpackError) as caught:
            unpacking.unpack(packed, tmp_path / "target", report=lambda text: None)
        return str(caught.value)

    said = attempt(f"yaml-6.0-cp3{other}-cp3{other}")
    assert f"is for Python 3.{other}, this is 3.{own}: unpack by that one" in said
    assert f"pack anew with --python 3.{own}" in said
    assert "unpack by that one" in attempt(f"yaml-6.0-cp3{other}-abi3")
    for suits in (
        f"there-6.0-cp3{other}-cp3{other}",
        f"yaml-6.0-cp3{own}-cp3{own}",
        "yaml-6.0-cp38-abi3",
        "yaml-6.0-py3-none",
    ):
        assert attempt(suits) == "extracted"
