"""`xlnb merge`, `revert`, `partition` and `export`: from the command line to the files, and what goes wrong in words."""

import os
import subprocess
import sys
from math import prod

import huggingface_hub
import pytest
import yaml
from experts import DEPTH, lora, model_of, same, tensors, trio
from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata, TensorInfo

from xlnb.checkpoints.exporting import export_mergekit
from xlnb.checkpoints.verbs import merge, revert
from xlnb.commands import cli
from xlnb.commands.merge_commands import split_weight
from xlnb.errors import RequestError
from xlnb.weights.kernels import MERGES
from xlnb.weights.partitions import NAMES, named_partition, read_partition

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return trio(tmp_path_factory.mktemp("trio"), "llama")


@pytest.fixture
def xlnb(capsys, monkeypatch):
    """A function that runs a command line and returns its exit code, what it printed, and what it complained of."""
    monkeypatch.delenv("XLNB_DEBUG", raising=False)

    def run(*arguments):
        capsys.readouterr()
        code = cli.exit_code([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def assert_refused(told, code, words):
    """The command ended with ``code`` and one readable paragraph on stderr."""
    found, out, err = told
    assert (found, out) == (code, "")
    assert err.startswith("xlnb: ")
    assert err.count("\n") == 1
    assert words in err
    assert "Traceback" not in err
    assert "unexpected" not in err


# --- merge -----------------------------------------------------------------------------------------------


def experts(made):
    return ["--expert", made.math, "--expert", made.language]


LINES = {
    "layer-swapping": lambda m: ["--math", m.math, "--language", m.language],
    "soup": experts,
    "task-arithmetic": experts,
    "ties": experts,
    "dare": experts,
    "slerp": experts,
}


@pytest.mark.parametrize("method", MERGES)
def test_every_merge_from_the_command_line(xlnb, made, tmp_path, method):
    code, out, err = xlnb("merge", method, *LINES[method](made), "--base", made.base, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert f"tensors copied byte for byte, {0 if method == 'layer-swapping' else 75} computed." in out
    assert out.rstrip().endswith(f": {tmp_path / 'out'}")
    folders = (
        {"math": made.math, "language": made.language} if method == "layer-swapping" else {"experts": made.experts}
    )
    merge(method, tmp_path / "expected", **folders, base=made.base)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "expected"))


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("layer-swapping", ["--partition", "A"], {"partition": "A"}),
        ("layer-swapping", ["--bottom", "3", "--top", "2"], {"bottom": 3, "top": 2}),
        (
            "layer-swapping",
            ["--bottom", "1", "--top", "1", "--transition", "1"],
            {"bottom": 1, "top": 1, "transition": 1},
        ),
        ("layer-swapping", ["--embeddings", "language"], {"embeddings": "language"}),
        ("layer-swapping", ["--dtype", "float16"], {"dtype": "float16"}),
        ("ties", ["--density", "0.5"], {"density": 0.5}),
        ("dare", ["--density", "0.5", "--seed", "7"], {"density": 0.5, "seed": 7}),
        ("slerp", ["--t", "0.1"], {"t": 0.1}),
        ("soup", ["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_mean_what_they_say(xlnb, made, tmp_path, method, arguments, options):
    line = ["merge", method, *LINES[method](made), "--base", made.base, "--out"]
    assert xlnb(*line, tmp_path / "out", *arguments)[0] == 0
    folders = (
        {"math": made.math, "language": made.language} if method == "layer-swapping" else {"experts": made.experts}
    )
    merge(method, tmp_path / "expected", **folders, base=made.base, **options)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "expected"))
    merge(method, tmp_path / "plain", **folders, base=made.base)
    assert not same(tensors(tmp_path / "out"), tensors(tmp_path / "plain"))


@pytest.mark.parametrize("method", ["soup", "task-arithmetic", "ties", "dare"])
def test_weights_stand_after_a_colon(xlnb, made, tmp_path, method):
    line = ["--expert", f"{made.math}:0.25", "--expert", f"{made.language}:1.5", "--base", made.base]
    assert xlnb("merge", method, *line, "--out", tmp_path / "out")[0] == 0
    merge(method, tmp_path / "expected", experts=made.experts, weights=[0.25, 1.5], base=made.base)
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "expected"))


def test_a_folder_with_a_colon_is_a_folder(tmp_path):
    (tmp_path / "expert:0.5").mkdir()
    assert split_weight(f"{tmp_path}/expert:0.5") == (f"{tmp_path}/expert:0.5", None)
    assert split_weight(f"{tmp_path}/expert:0.5:2") == (f"{tmp_path}/expert:0.5", 2.0)
    with pytest.raises(RequestError, match="with a number, not 'a:b'"):
        split_weight("a:b")


def test_adapters_from_the_command_line(xlnb, made, tmp_path):
    first = lora(made.base, tmp_path / "1", 1)
    second = lora(made.base, tmp_path / "2", 2, base_name="owner/other")
    line = ["merge", "soup", "--expert", first, "--expert", second, "--base", made.base]
    assert_refused(xlnb(*line, "--out", tmp_path / "out"), 2, "say --same-base")
    assert xlnb(*line, "--same-base", "--out", tmp_path / "adapter")[0] == 0
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
    assert xlnb(*line, "--same-base", "--checkpoint", "--out", tmp_path / "full")[0] == 0
    assert model_of(tmp_path / "full")
    assert not (tmp_path / "full" / "adapter_config.json").exists()


def test_what_is_written_can_be_read_by_those_whom_the_umask_lets(xlnb, made, tmp_path):
    first, second = (lora(made.base, tmp_path / str(seed), seed) for seed in (1, 2))
    before = os.umask(0o022)
    try:
        for line in (
            ["merge", "soup", "--expert", first, "--expert", second],
            ["merge", "layer-swapping", "--math", first, "--language", second],
            ["merge", "soup", "--expert", made.math, "--expert", made.language],
            ["merge", "layer-swapping", "--math", made.math, "--language", made.language],
            ["revert", "--expert", made.math, "--keep", "math"],
            ["revert", "--expert", first, "--keep", "math"],
        ):
            out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
            assert xlnb(*line, "--base", made.base, "--out", out)[0] == 0
            modes = {path.name: oct(path.stat().st_mode & 0o777) for path in out.iterdir()}
            assert set(modes.values()) == {"0o644"}, modes
            assert oct(out.stat().st_mode & 0o777) == "0o755"
    finally:
        os.umask(before)


@pytest.mark.parametrize("keep", ["math", "language"])
def test_a_revert_from_the_command_line(xlnb, made, tmp_path, keep):
    line = ["revert", "--base", made.base, "--expert", made.math, "--keep", keep, "--partition", "B"]
    code, out, _ = xlnb(*line, "--out", tmp_path / "out")
    assert code == 0
    assert "by partition B: attention" in out
    revert(made.base, made.math, keep, tmp_path / "expected", partition="B")
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "expected"))


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("merge fusion --out OUT", "No such command 'fusion'"),
        ("merge layer-swapping --math MATH --out OUT", "'--language'"),
        ("merge layer-swapping --math MATH --language nowhere --base BASE --out OUT", "There is no folder nowhere"),
        ("merge layer-swapping --math MATH --language LANGUAGE --out OUT", "say whose to take, --embeddings math"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out OUT --partition Z", "No partition 'Z'"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out OUT --top 1", "go together"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out OUT --top x", "Invalid value for '--top'"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out OUT --dtype int8", "dtype='int8'"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out BASE", "inputs are never changed"),
        ("merge layer-swapping --math MATH --language LANGUAGE --base BASE --out OUT --density 1", "--density"),
        ("merge soup --expert MATH --out OUT", "at least two experts"),
        ("merge soup --out OUT", "'--expert'"),
        ("merge soup --expert MATH:much --expert LANGUAGE --out OUT", "DIR:WEIGHT with a number"),
        ("merge soup --expert MATH:nan --expert LANGUAGE --out OUT", "A weight is a number"),
        ("merge soup --expert MATH:1 --expert LANGUAGE:-1 --out OUT", "add up to 0"),
        ("merge task-arithmetic --expert MATH --expert LANGUAGE --out OUT", "say --base"),
        ("merge ties --expert MATH --expert LANGUAGE --base BASE --density 2 --out OUT", "density=2"),
        ("merge slerp --expert MATH:0.5 --expert LANGUAGE --out OUT", "say --t"),
        ("merge slerp --expert MATH --expert LANGUAGE --expert BASE --out OUT", "not 3"),
        ("revert --base BASE --expert MATH --keep all --out OUT", "keep='all'"),
        ("revert --base BASE --expert MATH --out OUT", "'--keep'"),
        ("partition show", "'--model'"),
        ("partition show Z --model BASE", "No partition 'Z'"),
        ("partition show --model nowhere", "no model's name on the hub"),
        ("partition show --model BASE --save OUT", "give a .yaml file"),
        ("export mergekit --math MATH --language LANGUAGE", "say whose to take"),
        ("export mergekit --math MATH --language nowhere", "There is no folder nowhere"),
    ],
)  # fmt: skip
def test_wrong_requests_exit_with_2_and_one_paragraph(xlnb, made, tmp_path, arguments, words):
    places = {"MATH": made.math, "LANGUAGE": made.language, "BASE": made.base, "OUT": tmp_path / "out"}
    for word, place in places.items():
        arguments = arguments.replace(word, str(place))
    told = xlnb(*arguments.split())
    if "--save" in arguments:  # the drawing is printed before
        assert told[0] == 2 and words in told[2]
    else:
        assert_refused(told, 2, words)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_exits_with_1(xlnb, made, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1, 1, 1))
    told = xlnb("merge", "soup", *experts(made), "--out", tmp_path / "out")
    assert_refused(told, 1, "Make room, or choose another --out")
    assert not list(tmp_path.iterdir())


def test_the_installed_command_exits_as_it_says(made, tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-c", "from xlnb.commands.cli import main; main()", *map(str, arguments)],
                              capture_output=True, text=True, timeout=60)  # fmt: skip

    line = ["merge", "layer-swapping", "--math", made.math, "--language", made.language, "--base", made.base]
    done = run(*line, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    again = run(*line, "--out", tmp_path / "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"xlnb: --out {tmp_path / 'out'} exists already")


HEAVY = {"torch", "numpy", "pandas", "transformers", "scipy", "safetensors", "peft", "huggingface_hub"}


@pytest.mark.parametrize(
    "arguments",
    [["merge", "--help"], ["merge", "soup", "--help"], ["revert", "--help"], ["partition", "list"], ["export", "--help"],
     ["partition", "show", "--model", "BASE"], ["export", "mergekit", "--math", "BASE", "--language", "BASE"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_import_nothing_heavy(made, arguments):
    arguments = [str(made.base) if argument == "BASE" else argument for argument in arguments]
    run = subprocess.run([sys.executable, "-X", "importtime", "-c", "from xlnb.commands.cli import main; main()", *arguments],
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert run.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "xlnb.commands.merge_commands" in imported
    assert not {module.partition(".")[0] for module in imported} & HEAVY


# --- partition -------------------------------------------------------------------------------------------


def test_a_partition_is_drawn_and_counted(xlnb, made):
    code, out, err = xlnb("partition", "show", "B", "--model", made.base)
    assert (code, err) == (0, "")
    partition = named_partition("B", DEPTH)
    letters = lambda row: "".join("M" if share else "L" for share in row)  # noqa: E731
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert lines["layer"] == ["0......."]
    totals = [0, 0, 0]
    for name, tensor in tensors(made.base).items():
        if ".layers." not in name:
            totals[2] += tensor.numel()
        else:
            row = partition.ffn if ".mlp." in name else partition.attention
            totals[int(row[int(name.split(".")[2])] == 0)] += tensor.numel()
    assert lines["all"] == [f"{total:,}" for total in totals]
    assert f"attention   {letters(partition.attention)}\nffn         {letters(partition.ffn)}\n" in out
    shown = [f"{100 * total / sum(totals):.1f} %" for total in totals]
    assert out.splitlines()[-1].split("  ")[-1].strip() == shown[-1]
    assert all(share in out for share in shown)


@pytest.mark.parametrize("name", ["C", "A", "predecessor", "random 3 of B", "outer 2+1, 1 transition"])
def test_a_saved_partition_is_the_same_partition(xlnb, made, tmp_path, name):
    saved = tmp_path / "mine.yaml"
    code, out, _ = xlnb("partition", "show", name, "--model", made.base, "--save", saved)
    assert code == 0
    assert f"Written to {saved}" in out
    assert read_partition(saved) == named_partition(name, DEPTH)
    again = xlnb("partition", "show", saved, "--model", made.base)
    assert again[1].splitlines()[:9] == out.splitlines()[:9]
    before = saved.read_bytes()
    assert xlnb("partition", "show", "C", "--model", made.base, "--save", saved)[0] == 2
    assert saved.read_bytes() == before


def test_the_partitions_are_listed(xlnb):
    code, out, _ = xlnb("partition", "list")
    assert code == 0
    assert out.splitlines()[: len(NAMES)] == list(NAMES)


def test_a_model_of_the_hub_is_read_by_its_headers(xlnb, made, monkeypatch):
    def metadata(name):
        assert name == "owner/model"
        halves = [{}, {}]
        for i, (tensor, value) in enumerate(sorted(tensors(made.base).items())):
            halves[i % 2][tensor] = TensorInfo(
                dtype="BF16", shape=list(value.shape), data_offsets=(0, 2 * prod(value.shape))
            )
        files = {str(i): SafetensorsFileMetadata(metadata={}, tensors=half) for i, half in enumerate(halves)}
        return SafetensorsRepoMetadata(metadata={}, sharded=True, weight_map={}, files_metadata=files)

    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", metadata)
    code, out, err = xlnb("partition", "show", "C", "--model", "owner/model")
    assert (code, err) == (0, "")
    local = xlnb("partition", "show", "C", "--model", made.base)[1]
    assert out.splitlines()[0] == "Partition C of owner/model: 8 layers, located by name"
    assert out.splitlines()[1:] == local.splitlines()[1:]


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), ValueError("gated"), KeyError()])
def test_a_hub_that_cannot_be_reached_exits_with_1(xlnb, monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", fail)
    why = {ConnectionError: "no route", ValueError: "gated", KeyError: "KeyError"}[type(error)]
    told = xlnb("partition", "show", "--model", "owner/model")
    assert_refused(told, 1, f"The headers of owner/model could not be had from the Hugging Face hub: {why}")


# --- export ----------------------------------------------------------------------------------------------


def test_the_export_is_printed_or_written(xlnb, made, tmp_path):
    line = [
        "export",
        "mergekit",
        "--math",
        made.math,
        "--language",
        made.language,
        "--base",
        made.base,
        "--partition",
        "A",
    ]
    code, out, err = xlnb(*line)
    assert (code, err) == (0, "")
    assert out == export_mergekit(made.math, made.language, made.base, partition="A")
    assert yaml.safe_load(out)["dtype"] == "float32"
    assert xlnb(*line, "--out", tmp_path / "a.yaml")[:2] == (0, f"{tmp_path / 'a.yaml'}\n")
    assert (tmp_path / "a.yaml").read_text() == out
    assert_refused(xlnb(*line, "--out", tmp_path / "a.yaml"), 2, "exists already: give a file that does not")
