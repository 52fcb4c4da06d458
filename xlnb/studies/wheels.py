"""Wheels of what the package needs on a machine that has some of it: fetched here, for that machine's Python."""

from __future__ import annotations

import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from xlnb.errors import RequestError, WorkError

# What the package imports for pictures and for reading a book, and what a study never does.
_NOT_FOR_STUDIES = {"matplotlib", "nbformat", "scikit-learn", "seaborn"}
# What machines for training have, as a rule.
THERE = ("torch", "transformers", "accelerate", "pandas", "peft", "pyarrow", "scipy", "statsmodels", "typer")
# Of Linux with a C library of 2019 or later.
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux_2_5",
              "manylinux1")  # fmt: skip


def needed(names: Iterable[str], python: str) -> set[str]:
    """Return packages with all that they need by a version of Python, by their normalised names, as they are installed here.

    >>> sorted(needed(["py3langid"], "3.12"))
    ['numpy', 'py3langid']
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    environment = {"extra": "", "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    found: set[str] = set()
    left = [canonicalize_name(name) for name in names]
    while left:
        if (name := left.pop()) in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform, say
            continue
        found.add(name)
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                left.append(canonicalize_name(requirement.name))
    return found


def _own() -> set[str]:
    """Return the packages that this one names: in the checkout, which may be newer than what was installed of it."""
    from packaging.requirements import Requirement

    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        lines = [line for line in metadata.requires("xlnb") or () if "extra ==" not in line]
    if not lines:
        raise WorkError("Which packages are needed is not known of an unpacked copy: pack where xlnb is installed.")
    return {Requirement(line).name for line in lines}


def fetch_wheels(folder: Path, python: str = "", there: Sequence[str] = THERE, also: Sequence[str] = ()) -> list[str]:
    """Download into a folder the wheels of all that studies need beyond what is there, and return them as NAME==VERSION.

    They have the versions that are installed here, for Linux and a version of Python such as 3.12 (the running one where
    nothing is said). ``there`` are packages that the other machine has, with what these need; ``also`` are needed besides what
    this package always needs. Raises RequestError where one of these is neither there nor here.
    """
    python = python or ".".join(platform.python_version_tuple()[:2])
    if len(python.split(".")) != 2 or not all(part.isdecimal() for part in python.split(".")):
        raise RequestError(f"--python {python!r}: say it as 3.12.")
    if lacking := sorted({*also} - needed(also, python) - {*there}):
        raise RequestError(
            f"{', '.join(lacking)} is needed there and not installed here: install it, or name it in --there if that machine "
            "has it."
        )
    missing = needed({*(_own() - _NOT_FOR_STUDIES), *also}, python) - needed(there, python) - {*there}
    pinned = [f"{name}=={metadata.version(name)}" for name in sorted(missing)]
    folder.mkdir(parents=True, exist_ok=True)
    if pinned:
        machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
        platforms = [f"--platform={one}_{machine}" for one in _PLATFORMS]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary=:all:", f"--python-version={python}", *platforms, "-d", str(folder)]
        done = subprocess.run([*command, *pinned], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise WorkError(f"The wheels could not be fetched ({last}). Have a network, or pack with --no-wheels.")
    return pinned
