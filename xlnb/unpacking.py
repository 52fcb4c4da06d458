"""Unpacks what `xlnb pack` wrote, whole or not at all: `python3 unpack.py [TARGET]`, from the folder where this file lies.

The standard library alone is needed (Python 3.10 or later): this file is copied beside what is packed and imports nothing of
the package. Rebuilding quantised weights takes numpy, which torch and transformers bring.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

CONTENTS, STUDY, OUTCOMES = "contents.json", "study", "outcomes"
TAKEN_HOME = "When it is done, pack what was made, to take it home, by:"
_CHUNK = 1 << 22


class UnpackError(RuntimeError):
    """What is packed cannot be unpacked: the message says why, and what to do."""


def contents(folder: str | Path) -> dict[str, Any]:
    """Return what contents.json of a packed folder says."""
    file = Path(folder) / CONTENTS
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        names = [one["name"] for one in told["parts"]] + [one["path"] for one in told["files"]]
    except OSError:
        raise UnpackError(f"{file} is missing: bring it with the parts; it says what they are.") from None
    except (ValueError, KeyError, TypeError):
        raise UnpackError(f"{file} is damaged: bring it again.") from None
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnpackError(f"{file} names {name!r}, which lies outside: this was not written by xlnb pack.")
    return told


def flaws(folder: str | Path, told: dict[str, Any]) -> list[str]:
    """Return a sentence for each part that is missing, cut short or damaged."""
    found = []
    for part in told["parts"]:
        file = Path(folder) / part["name"]
        size = file.stat().st_size if file.is_file() else None
        if size is None:
            found.append(f"{part['name']} is missing")
        elif size != part["size"]:
            found.append(f"{part['name']} has {size:,} bytes instead of {part['size']:,}")
        elif _digest(file) != part["sha256"]:
            found.append(f"{part['name']} is damaged (its SHA-256 is another)")
    return found


def extract(folder: str | Path, told: dict[str, Any], out: Path) -> None:
    """Verify all parts, and write the files that are in them into a folder that is there; each is verified again."""
    if bad := flaws(folder, told):
        raise UnpackError(f"Not all of {len(told['parts'])} parts are there: {'; '.join(bad)}. Bring these again.")
    joined = out / ".joined.zip"
    with open(joined, "wb") as whole:
        for part in told["parts"]:
            with open(Path(folder) / part["name"], "rb") as file:
                shutil.copyfileobj(file, whole, _CHUNK)
    with zipfile.ZipFile(joined) as archive:
        for one in told["files"]:
            target = out / one["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(one["path"]) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
            if _digest(target) != one["sha256"]:
                raise UnpackError(f"{one['path']} is not what was packed: pack anew.")
    joined.unlink()


def unpack(folder: str | Path, target: str | Path, report: Callable[[str], None] = print) -> list[str]:
    """Unpack a study into a folder that must not exist, and return the command lines that run it.

    Raises UnpackError where a part is missing or damaged, a wheel that is needed is another Python's, or the weights do not come
    out bit by bit as they were packed; ``target`` is then not there.
    """
    folder, target = Path(folder), Path(target).absolute()
    told = contents(folder)
    if target.exists():
        raise UnpackError(f"{target} is there already: name another folder, or remove it.")
    _check_wheels(told)
    size = sum(part["size"] for part in told["parts"])
    report(f"Verifying and unpacking {len(told['parts'])} parts, {size / 1e6:.1f} MB ...")
    with _whole(target) as partial:
        extract(folder, told, partial)
        if told["kind"] != STUDY:
            return []
        site = partial / "site"
        for wheel in sorted((partial / "wheels").glob("*.whl")):
            if not _is_installed(wheel.name.split("-")[0]):
                zipfile.ZipFile(wheel).extractall(site)
        _rebuild(partial, told["checkpoint"], report)
        lines = [_line(told, target, command) for command in told["commands"]]
        (partial / "run.sh").write_text("\n".join(["set -e", *lines, ""]), encoding="utf-8")
    return lines


def _check_wheels(told: dict[str, Any]) -> None:
    """Refuse a compiled wheel of another Python that would be extracted: its package could not be imported."""
    running = f"3.{sys.version_info.minor}"
    for path in (PurePosixPath(one["path"]) for one in told["files"]):
        if path.suffix == ".whl" and not _is_installed(path.name.split("-")[0]) and not _suits(path.name):
            raise UnpackError(
                f"{path.name} is for Python {told.get('python', 'of another version')}, this is {running}: unpack by that one "
                f"(it runs the study, too), or pack anew with --python {running}."
            )


def _suits(wheel: str) -> bool:
    """Say whether a wheel is for the running Python, by its name: NAME-VERSION-PYTHON-ABI-PLATFORM.whl."""
    python, abi = wheel.split("-")[-3:-1]
    own = sys.version_info.minor
    kinds = [kind[3:] for kind in python.split(".") if kind.startswith("cp3") and kind[3:].isdecimal()]
    return not kinds or str(own) in kinds or (abi == "abi3" and min(map(int, kinds)) <= own)


def homeward(folder: str | Path, target: str | Path) -> str:
    """Return the command line that packs what was made in an unpacked study, to take it home."""
    return _line(contents(folder), Path(target).absolute(), "pack MADE --outcomes")


def _rebuild(partial: Path, checkpoint: str, report: Callable[[str], None]) -> None:
    """Write the weights beside their configuration, and last the record of their checksums: it must not be older."""
    stored = partial / "stored"
    report(f"Rebuilding {checkpoint} ...")
    code = "import sys; from xlnb.models.quantised import rebuild; rebuild(*sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(partial / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, str(stored), str(partial / checkpoint)]
    # There, lest a copy of the package that lies in the working directory is taken.
    done = subprocess.run(command, env=environment, cwd=partial, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UnpackError(f"The weights could not be rebuilt: {last}")
    os.utime(partial / checkpoint / "provenance.json")
    shutil.rmtree(stored)


def _line(told: dict[str, Any], target: Path, command: str) -> str:
    """Return a command line, with the variables by which the unpacked copy finds what is its own."""
    places = {name: str(target / place) for name, place in told["environment"].items()}
    # Without the working directory among the places of modules: another copy may lie there.
    variables = {**places, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    said = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    words = [word.replace("{target}", str(target)) for word in shlex.split(command)]
    return f"{said} {shlex.join([sys.executable, '-m', 'xlnb', *words])}"


def _is_installed(name: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when all went well; what a killed process left of an earlier try is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.unpacking-*"):
        if not _is_running(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f".{target.name}.unpacking-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:  # somebody else's
        return True
    return int(pid) != os.getpid()


def main(arguments: list[str]) -> int:
    """Unpack the folder in which this file lies, and return the exit code."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print("python3 unpack.py [TARGET]: verifies the parts beside it and unpacks them into TARGET.")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    folder = Path(__file__).resolve().parent
    target = Path(arguments[0]) if arguments else folder.with_name(f"{folder.name}-unpacked")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half written goes
    try:
        lines = unpack(folder, target)
    except (UnpackError, OSError) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("unpack: interrupted; nothing is left.", file=sys.stderr)
        return 130
    said = ["Run it by:", *lines, TAKEN_HOME, homeward(folder, target)] if lines else []
    print("\n".join([f"All is in {target}.", *said]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
