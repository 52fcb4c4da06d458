"""The project as a whole: versions agree, nothing stray lies about, no machine's path is named, notebooks are in order."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xlnb.publishing.notebooks import (
    PAIR,
    has_outputs,
    notebook_parameters,
    notebook_paths,
    twin_problems,
    twins_differ,
)

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"book", "test", "pocket", "grid"}
TOP_LEVEL = {
    ".binder",
    ".ci",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "book",
    "constraints.txt",
    "environment.yml",
    "jupytext.toml",
    "notebooks",
    "pyproject.toml",
    "tests",
    "xlnb",
}


def project_files():
    """Return the files that git keeps or would keep."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def locked():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


# ---------------------------------------------------------------------------------------------------------- versions


def test_the_lock_holds_only_versions():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_the_lock_fits_the_ranges():
    versions = locked()
    wanted = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, wanted):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)


def test_the_lock_suits_cpu_cuda_and_macos():
    versions = locked()
    assert versions["torch"] == "2.13.0"
    assert versions["sphinx-book-theme"] == "1.2.0"
    assert not [name for name in versions if re.match("nvidia|cuda|triton|pywin|appnope", name)]


def test_extras():
    assert set(PROJECT["optional-dependencies"]) == EXTRAS | {"eight-bit"}


def test_environment_yml_has_no_second_list_of_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "xlnb"
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert conda == ["python=3.11", "pip"]
    assert pip[0] == "-c constraints.txt"
    assert len(pip) == 2
    requirement = Requirement(pip[1].replace("-e .", "xlnb"))
    assert requirement.extras == EXTRAS, "without torchao, which every LoRA would import"


def test_conda_can_read_environment_yml():
    rattler = pytest.importorskip("rattler")
    for line in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]:
        if isinstance(line, str):
            rattler.MatchSpec(line, strict=True)


# ----------------------------------------------------------------------------------------------------------- files


def test_nothing_stray_at_the_top():
    assert {path.relative_to(ROOT).parts[0] for path in project_files()} <= TOP_LEVEL


def test_no_two_test_files_have_one_name():
    # Without packages pytest imports a test file by its bare name, and a second of that name hides the first.
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_file_names_a_machine():
    machine = re.compile(r"(?<![\w.])/(?:work|root|opt|home|Users|tmp)/\w|\.library\b")
    indexes = re.compile(r"(?:index-url|find-links)[ =]+(?!https://download\.pytorch\.org/whl/)\S+")
    for path in project_files():
        if path.suffix in {".png", ".parquet", ".svg"} or "mathjax" in path.parts or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        for pattern in (machine, indexes):
            assert not (found := pattern.search(text)), f"{path.relative_to(ROOT)}: {found.group()}"
        if "tests" not in path.relative_to(ROOT).parts:
            assert "../shared" not in text, path


def test_no_weights_and_no_big_files():
    for path in project_files():
        assert path.suffix not in {".safetensors", ".gguf", ".bin", ".pt", ".pth"}, path
        assert path.stat().st_size < 3_000_000, path


def test_licence_and_readme():
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    readme = (ROOT / "README.md").read_text()
    for word in ("make book", "make test", "make lab", "environment.yml", "Gemma Terms of Use", "Apache"):
        assert word in readme, word
    for path in notebook_paths(ROOT / "notebooks"):
        assert f"(notebooks/{path.name})" in readme, path.name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_ci_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_packaged_data_is_there():
    files = list((ROOT / "xlnb" / "corpora" / "data").rglob("*"))
    assert files
    assert {path.suffix for path in files if path.is_file()} <= {".yaml", ".json", ".txt", ".md"}


# -------------------------------------------------------------------------------------------------------- Makefile

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def clone(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "xlnb").mkdir()
    (tmp_path / "xlnb" / "__init__.py").write_text('__version__ = "0"\n')
    return tmp_path


def make(folder, *arguments, **environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PIP_"))}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        env=inherited | environment,
        timeout=120,
    )


@needs_make
def test_make_lists_its_targets():
    told = make(ROOT).stdout
    for target in (
        "env",
        "pocket",
        "book",
        "book-live",
        "book-results",
        "test",
        "lab",
        "lint",
        "lock",
        "clean",
        "help",
    ):
        assert f"make {target} " in told, target


@needs_make
def test_make_says_that_python_is_missing(clone):
    done = make(clone, "env", "PYTHON=/no/such/python3.11")
    assert done.returncode
    assert "no Python 3.11 found at /no/such/python3.11" in done.stderr
    assert not (clone / ".venv").exists()


@needs_make
def test_make_says_that_the_disk_is_full(clone):
    tools = clone / "tools"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho header\necho disk 100 90 1048576 90% /\n")
    (tools / "df").chmod(0o755)
    done = make(clone, "env", PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode
    assert "6 GB of free disk are needed here, 1 GB are free" in done.stderr
    assert not (clone / ".venv").exists()


@needs_make
def test_make_says_that_the_network_is_missing_and_leaves_no_stamp(clone):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    done = make(clone, "env", **nowhere)
    assert done.returncode
    assert "cannot be reached (no network?); pip's own words are in .venv/pip.log" in done.stderr
    assert not (clone / ".venv" / ".stamp").exists()


# ------------------------------------------------------------------------------------------------------- notebooks


def test_jupytext_is_told_the_same_everywhere():
    told = tomllib.loads((ROOT / "jupytext.toml").read_text())
    assert {key: told[key] for key in PAIR} == PAIR


def test_notebooks_equal_their_twins_and_carry_no_outputs():
    assert twin_problems(ROOT / "notebooks") == []


@pytest.mark.parametrize("path", notebook_paths(ROOT / "notebooks"), ids=lambda path: path.stem)
def test_notebook_is_in_order(path):
    assert twins_differ(path, path.with_suffix(".py")) is None
    assert not has_outputs(path)
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.display_name == "Python 3 (ipykernel)"
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    known = notebook_parameters(path)
    assert isinstance(known["profile"]["default"], str)
    assert isinstance(known["live"]["default"], bool)
    assert all(info["help"] for info in known.values()), "each parameter says in a comment what it is"
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert "## Summary" in headings
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
