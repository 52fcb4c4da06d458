"""Whole or not at all: files and folders under exceptions, kill -9 and full disks; digests and provenance."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError

KINDS = {"file": artifacts.whole_file, "folder": artifacts.whole_folder}
each_kind = pytest.mark.parametrize("kind", KINDS)


def fill(partial, text, kind):
    (partial / "inside" if kind == "folder" else partial).write_text(text)


def content(path):
    return (path / "inside" if path.is_dir() else path).read_text()


def writer(path, kind):
    """Another process in the middle of writing `path`: it goes on and ends once it reads a line."""
    code = f"""
import sys
from pathlib import Path
from xlnb import artifacts
with artifacts.whole_{kind}({str(path)!r}) as partial:
    {"(partial / 'inside')" if kind == "folder" else "partial"}.write_text("the other's")
    print("writing", flush=True)
    sys.stdin.readline()
"""
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    return process


@each_kind
def test_written_whole(tmp_path, kind):
    path = tmp_path / "new" / "thing"
    with KINDS[kind](path) as partial:
        fill(partial, "text", kind)
        assert not path.exists()
    assert content(path) == "text"
    assert list(path.parent.iterdir()) == [path]


@each_kind
def test_an_exception_leaves_nothing(tmp_path, kind):
    def attempt():
        with KINDS[kind](tmp_path / "thing") as partial:
            fill(partial, "half", kind)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_leaves_the_old_file(tmp_path):
    def attempt():
        with artifacts.whole_file(tmp_path / "thing") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    (tmp_path / "thing").write_text("old")
    with pytest.raises(ZeroDivisionError):
        attempt()
    assert content(tmp_path / "thing") == "old"
    assert len(list(tmp_path.iterdir())) == 1


@each_kind
def test_kill_leaves_no_target_and_the_next_attempt_cleans_up(tmp_path, kind):
    path = tmp_path / "thing"
    process = writer(path, kind)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    assert list(tmp_path.iterdir()), "the killed process should have left its partial: this test would prove nothing"
    with KINDS[kind](path) as partial:
        fill(partial, "whole", kind)
    assert list(tmp_path.iterdir()) == [path]
    assert content(path) == "whole"


@each_kind
def test_two_processes_may_write_the_same(tmp_path, kind):
    path = tmp_path / "thing"
    other = writer(path, kind)
    with KINDS[kind](path) as partial:
        fill(partial, "mine", kind)
    other.communicate(b"\n")
    assert other.returncode == 0
    assert content(path) in ("mine", "the other's")
    assert list(tmp_path.iterdir()) == [path]


@each_kind
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),  # as safetensors says it
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, kind, error):
    def attempt():
        with KINDS[kind](tmp_path / "thing") as partial:
            fill(partial, "half", kind)
            raise error

    with pytest.raises(WorkError, match=r"disk is full.*thing.*Free some space"):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk(small_disk):
    with (
        pytest.raises(WorkError, match="disk is full"),
        artifacts.whole_file(small_disk / "thing") as partial,
    ):
        partial.write_bytes(bytes(1_000_000))
    assert list(small_disk.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), artifacts.whole_file(tmp_path / "thing"):
        raise PermissionError(errno.EACCES, "not yours")


def test_json_there_and_back(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": "Jibu ni পাঁচ"}
    artifacts.write_json(tmp_path / "value.json", value)
    assert artifacts.read_json(tmp_path / "value.json") == value
    assert "পাঁচ" in (tmp_path / "value.json").read_text(encoding="utf-8")


def test_a_file_does_not_give_way_to_a_folder(tmp_path):
    with pytest.raises(RequestError, match="is a folder: name a file"):
        artifacts.write_json(tmp_path, 1)
    target = tmp_path / "target"

    def attempt():
        with artifacts.whole_file(target) as partial:
            partial.write_text("text")
            target.mkdir()

    with pytest.raises(IsADirectoryError, match="target"):
        attempt()
    assert list(tmp_path.iterdir()) == [target] and not list(target.iterdir())


def test_digest_is_the_sha256_of_canonical_json():
    canonical = '{"a":[1,2.5,null],"ü":{"x":"ß","y":false}}'
    value = {"ü": {"y": False, "x": "ß"}, "a": (1, 2.5, None)}
    assert artifacts.digest(value) == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None}, [["a", 1]]])
def test_different_values_have_different_digests(other):
    assert artifacts.digest(other) != artifacts.digest({"a": 1})


def test_file_digest(tmp_path):
    (tmp_path / "thing").write_bytes(b"bytes" * 100_000)
    assert artifacts.file_digest(tmp_path / "thing") == hashlib.sha256(b"bytes" * 100_000).hexdigest()


def test_provenance_says_what_repeats_a_result():
    found = artifacts.provenance({"seed": 3}, started=time.time() - 5)
    assert found["spec"] == {"seed": 3}
    assert 5 <= found["seconds"] < 60
    assert set(found["versions"]) == {"python", "xlnb", "torch", "transformers", "peft", "numpy"}
    assert {"command", "commit", "when", "machine"} <= set(found)
    json.dumps(found)


def test_the_version_of_what_writes_answers_is_told_where_it_is_installed(tmp_path, monkeypatch):
    before = artifacts.versions()
    (tmp_path / "vllm-1.2.3.dist-info").mkdir()
    (tmp_path / "vllm-1.2.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert artifacts.versions() == {**before, "vllm": "1.2.3"}
    assert artifacts.provenance({}, started=0.0)["versions"]["vllm"] == "1.2.3" and "vllm" not in sys.modules
    assert "vllm" not in artifacts.versions(["numpy"])


def test_the_commit_is_that_of_the_code_that_runs(tmp_path):
    """Not of what is checked out when a result is written."""

    def git(*words):
        named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.check_output(["git", "-C", str(tmp_path), *named, *words], text=True).strip()

    file = tmp_path / "package" / "artifacts.py"
    file.parent.mkdir()
    file.write_text(Path(artifacts.__file__).read_text())
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    code = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(file.parent)!r}); import artifacts;"
        "print(flush=True); sys.stdin.readline(); print(artifacts.provenance({}, 0.0)['commit'])"
    )
    command = [sys.executable, "-c", code]
    here = {
        "cwd": Path(artifacts.__file__).parents[1],
        "text": True,
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
    }
    first = git("rev-parse", "--short=12", "HEAD")
    told = []
    for change in (lambda: git("commit", "-qam", "two"), lambda: git("checkout", "-q", ".")):
        with subprocess.Popen(command, **here) as process:
            process.stdout.readline()
            file.write_text(f"{file.read_text()}# changed\n")
            change()
            told.append(process.communicate("\n")[0].strip())
    assert told == [first, git("rev-parse", "--short=12", "HEAD")] and told[0] != told[1]
    file.write_text(f"{file.read_text()}# changed\n")
    assert subprocess.run(command, **here | {"stdin": subprocess.DEVNULL}).stdout.split() == [f"{told[1]}+changes"]


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("3", 3), ("", os.cpu_count())])
def test_provenance_says_how_many_threads_computed(monkeypatch, told, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert artifacts.provenance({}, started=0.0)["machine"]["threads"] == threads


@pytest.mark.parametrize("program", ["/here/bin/xlnb", "/here/site/xlnb/__main__.py"])
def test_a_command_is_told_as_it_may_be_given_again(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program, "maps", "--publish"])
    assert artifacts.provenance({}, started=0.0)["command"] == "xlnb maps --publish"


def test_a_fresh_folder_does_not_give_way_to_another(tmp_path):
    out = tmp_path / "out"
    with (
        pytest.raises(WorkError, match="appeared while it was being written"),
        artifacts.whole_folder(out, fresh=True) as partial,
    ):
        (partial / "mine").write_text("mine")
        out.mkdir()
        (out / "theirs").write_text("theirs")
    assert [path.name for path in out.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_leftover_of_a_name_with_brackets_goes(tmp_path):
    leftover = tmp_path / f".a[1].json{artifacts._PARTIAL}{artifacts._space()}-gone"
    leftover.write_text("half")
    artifacts.write_json(tmp_path / "a[1].json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a[1].json"]
