"""The worked examples of CONTRIBUTING.md, each run in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = {
    section.partition("\n")[0].split()[-1]: section.split("```python\n")[1].split("```")[0]
    for section in re.split("^## ", TEXT, flags=re.MULTILINE)
    if "```python" in section
}
SHOWN = {
    "method": "math-and-a-little-language",
    "expert": "short-language-after-math-",
    "partition": "complement of every other: MLMLMLML",
    "reading": "brief",
    "language": "Frage: ",
}


def test_every_example_is_short_and_there():
    assert EXAMPLES.keys() == SHOWN.keys()
    assert all(code.count("\n") < 30 and "# then" in code for code in EXAMPLES.values())


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_runs(name, tmp_path):
    shutil.copytree(ROOT / "xlnb", tmp_path / "xlnb")  # compiled as it is: nothing is compiled anew
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "XLNB_HOME": str(tmp_path),
        "XLNB_CACHE": str(tmp_path / "cache"),
    }
    run = subprocess.run(
        [sys.executable, "-c", EXAMPLES[name]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert SHOWN[name] in run.stdout


def test_rooms_that_are_named_are_there():
    rooms = {
        name.removesuffix(".py")
        for name in re.findall(r"`([\w.]+)`", TEXT.split("## A chapter")[0].split("|---|---|")[1])
    }
    there = {path.stem for path in (ROOT / "xlnb").iterdir() if not path.name.startswith("_")}
    assert there <= rooms
