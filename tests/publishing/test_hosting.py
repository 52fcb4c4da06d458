"""What hosts are told: the workflow that publishes the book (test_browser.py runs its steps), and what Binder installs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCHEMA = "vendor.github-workflows"


def valid(workflow):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMA, str(workflow)]
    return subprocess.run(command, capture_output=True, text=True).returncode == 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_valid_and_its_actions_are_pinned_to_majors(workflow):
    assert valid(workflow)
    steps = [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", action), action


def test_an_invalid_workflow_is_found(tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert not valid(broken)


def test_what_is_uploaded_is_what_the_steps_make():
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())["jobs"]["render"]["steps"]
    uploaded = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/upload-")]
    assert uploaded == ["book/_build/xlnb.pdf", "book/_build/html"]
    assert [step["run"].split()[:2] for step in steps if "run" in step] == [["make", "book-results"], ["make", "pdf"]]


def test_binder_installs_the_locked_versions_of_this_project():
    folder = ROOT / ".binder"
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    options = dict(line.split(" ", 1) for line in lines)
    assert options.keys() == {"--extra-index-url", "-c", "-e"}  # each line an option: pip reads nothing else from it
    assert options["--extra-index-url"] == "https://download.pytorch.org/whl/cpu"
    assert (folder / options["-c"]).resolve() == ROOT / "constraints.txt"
    requirement = Requirement(
        options["-e"].replace(".", "xlnb", 1)
    )  # pip reads the dot from where it runs: the repository
    assert requirement.extras == {"book"} <= PROJECT["optional-dependencies"].keys()
    version = (folder / "runtime.txt").read_text().strip().removeprefix("python-")
    assert version == "3.11"
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")
