"""Writing results whole or not at all, and saying where they came from.

Everything the package keeps on disk goes through :func:`whole_file` or :func:`whole_folder`: the work is written beside
its destination and renamed when complete, so a killed process never leaves a half-file that looks finished.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from xlnb.errors import RequestError, WorkError

_PARTIAL = ".partial-"
_LONG = 24 * 3600  # seconds; nobody writes so long without making a file


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes ``path`` when the block ends without an exception.

    Raises RequestError where ``path`` is a folder.
    """
    if Path(path).is_dir():
        raise RequestError(f"{path} is a folder: name a file.")
    with _beside(Path(path)) as partial:
        yield partial
        _flush_to_disk(partial)


@contextmanager
def whole_folder(path: str | Path, flush: bool = True, fresh: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes ``path`` (which must not exist) when the block ends well.

    With ``flush`` the files are on the disk before that, so that not even a loss of power leaves a folder that looks finished;
    for gigabytes it takes longer than writing them. Where ``path`` appeared meanwhile, it is another process's equal work, and
    kept; with ``fresh`` it is an error.
    """
    with _beside(Path(path), fresh) as partial:
        partial.mkdir()
        mode = (
            partial.stat().st_mode & 0o666
        )  # what the umask leaves to a file: safetensors writes files for their owner alone
        yield partial
        for file in sorted(partial.rglob("*")):
            if file.is_file() and not file.is_symlink():
                file.chmod(mode)
                if flush:
                    _flush_to_disk(file)


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Let one process at a time into a block over a folder, which is made; another waits. For what takes moments.

    A file of whole writes may still be read, changed and written again by two: one change of them would be lost.
    """
    import fcntl  # not on Windows, where all else here works

    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / ".lock", "a") as lock:  # stays: whoever removed it might take it from one that waits
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process, however it ends
        yield


@contextmanager
def _beside(path: Path, fresh: bool = False) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_partials(path)
    partial = path.with_name(f".{path.name}{_PARTIAL}{_space()}-{os.getpid()}")
    _remove(partial)
    try:
        yield partial
        if fresh and path.exists():
            raise _appeared(path)
        # Another process finished the same work first; equal specifications give equal artifacts.
        if path.is_dir() and partial.is_dir():
            return
        os.replace(partial, path)
    except Exception as error:  # safetensors, for one, raises a kind of its own where the disk is full
        if fresh and getattr(error, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST):
            raise _appeared(path) from error
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise WorkError(
                f"The disk is full: {path} could not be written. Free some space and run this again."
            ) from error
        raise
    finally:
        _remove(partial)


def _appeared(path: Path) -> WorkError:
    return WorkError(f"{path} appeared while it was being written elsewhere: nothing was changed there.")


@lru_cache(maxsize=1)
def _space() -> str:
    """Return what names the machine and the space in which a process number means one process: containers have their own."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _remove_stale_partials(path: Path) -> None:
    """Remove what killed processes left of earlier attempts to write ``path``: here, or elsewhere and a day old."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}{_PARTIAL}*"):
        import psutil  # seldom needed

        space, _, pid = leftover.name.rpartition(_PARTIAL)[2].rpartition("-")
        if space != _space():
            with suppress(FileNotFoundError):  # another process may be quicker
                if time.time() - leftover.stat().st_mtime > _LONG:
                    _remove(leftover)
        elif not (pid.isdigit() and psutil.pid_exists(int(pid))):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as readable JSON, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file written by :func:`write_json`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a JSON-able value; equal values give equal digests on any machine.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(spec: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Return what a reader needs to trust or repeat a result: command, versions, specification, time and machine.

    ``started`` is a :func:`time.time`; durations are in seconds. Names no path of the machine beyond the command's. The commit is
    that of the code that runs, as it was when the process began.
    """
    started_as = Path(sys.argv[0])
    program = started_as.parent.name if started_as.name == "__main__.py" else started_as.name
    return {
        # A notebook's arguments say nothing but where the kernel's files lie.
        "command": "a notebook" if program == "ipykernel_launcher.py" else " ".join([program, *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "spec": dict(spec),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "threads": threads()},
    }


def threads(at_once: int = 1) -> int:
    """Return on how many threads each of so many processes computes: as it was told, or on its share of the cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(told) if told.isdigit() else (os.cpu_count() or 1) // at_once)


_COMPUTING, _ANSWERING = ("xlnb", "torch", "transformers", "peft", "numpy"), ("vllm",)


def versions(names: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python and of packages (by default those that numbers depend on), without importing them.

    By default also of those that write answers where they are installed, and only there.
    """
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in names or (*_COMPUTING, *_ANSWERING):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if names or name in _COMPUTING:
                found[name] = "not installed"
    return found


COMMIT = "COMMIT"  # a file beside this one: of which commit a packed copy of the package is


@lru_cache(maxsize=1)
def commit() -> str | None:
    """Return the commit of the package as it was imported, with ``+changes`` where it was changed since that commit; None where
    neither git nor a note tells.
    """
    with suppress(OSError):
        return Path(__file__).with_name(COMMIT).read_text(encoding="utf-8").strip() or None
    # A result computed from a dirty tree says so: its commit alone would not repeat it.
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        asked = [[*git, "rev-parse", "--short=12", "HEAD"], [*git, "status", "--porcelain", "--", "."]]
        last, changes = (
            subprocess.check_output(one, text=True, stderr=subprocess.DEVNULL, timeout=10) for one in asked
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return last.strip() + ("+changes" if changes else "")


commit()  # the code that runs is that of now: hours later, when it is recorded, another may be checked out
