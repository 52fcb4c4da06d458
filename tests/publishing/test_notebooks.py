"""Running notebooks with checked parameters, and the twins."""

import jupytext
import nbformat
import pytest

from xlnb.errors import RequestError, WorkError
from xlnb.progress import TEXT_BARS
from xlnb.publishing.notebooks import (
    checked_parameters,
    coerced,
    has_outputs,
    notebook_parameters,
    run_notebook,
    strip_outputs,
    twin_problems,
    twins_differ,
    write_ipynb_from_py,
)

TEXT = """\
# %% [markdown]
# # A tiny notebook

# %% tags=["parameters"]
steps = 3  # how many
rate = 0.5
languages = ["sw"]
live = True
note = "none"  # whatever

# %%
import os
import sys
from pathlib import Path

print("steps", steps + 1, languages, live, Path.cwd().name)
print("loading 1 %\\rloading 100 %", file=sys.stderr)

# %%
print(1 / steps)
"""


@pytest.fixture
def tiny(tmp_path):
    py = tmp_path / "notebooks" / "07-tiny.py"
    py.parent.mkdir()
    py.write_text(TEXT)
    return write_ipynb_from_py(py)


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream")


def test_parameters_with_defaults_and_help(tiny):
    known = notebook_parameters(tiny)
    assert known["steps"] == {"default": 3, "help": "how many"}
    assert known["languages"]["default"] == ["sw"]
    assert list(known) == ["steps", "rate", "languages", "live", "note"]


def test_runs_beside_the_notebook_with_the_given_values(tiny, tmp_path, capfd):
    out = run_notebook(tiny, tmp_path / "out" / "done.ipynb", {"steps": "4", "languages": "sw,bn", "live": "no"})
    text = printed(out)
    assert "steps 5 ['sw', 'bn'] False notebooks" in text
    assert "loading 100 %" in text and "1 %\r" not in text
    assert [p.name for p in out.parent.iterdir()] == ["done.ipynb"]
    assert str(tmp_path) not in out.read_text()
    assert not has_outputs(tiny)
    assert not capfd.readouterr().err


LEAVING_NOISILY = """
# %%
import atexit

atexit.register(os.abort)
atexit.register(lambda: os.write(2, b"Assertion failed: leaving\\n"))
"""


def test_a_kernel_that_stumbles_when_all_is_done_is_not_heard(tiny, tmp_path, capfd):
    write(tiny, LEAVING_NOISILY)
    out = run_notebook(tiny, tmp_path / "out" / "done.ipynb")
    assert [p.name for p in out.parent.iterdir()] == ["done.ipynb"]
    assert not capfd.readouterr().err


WITH_BARS = """
# %%
import time

from xlnb import progress

for _ in progress.bar(range(3), desc="training"):
    time.sleep(0.6)
shown = progress.bar(total=9, desc="at work")
print('a widget' if hasattr(shown, 'container') else 'text')
"""
WITH_WIDGETS = """
# %%
import ipywidgets
from IPython.display import display

slider = ipywidgets.IntSlider()
display(slider)
still = {"text/html": "<b>a still</b>", "text/plain": "x"}
display(slider._repr_mimebundle_() | still, raw=True)
"""


def write(tiny, *more):
    tiny.with_suffix(".py").write_text("".join([TEXT, *more]))
    return write_ipynb_from_py(tiny.with_suffix(".py"))


@pytest.mark.parametrize(("text", "wanted"), [("", "a widget"), ("1", "text")])
def test_no_bar_is_left_when_all_is_done(tiny, tmp_path, monkeypatch, text, wanted):
    monkeypatch.setenv(TEXT_BARS, text)
    out = run_notebook(write(tiny, WITH_BARS), tmp_path / "done.ipynb")
    (output,) = nbformat.read(out, as_version=4).cells[-1].outputs
    assert (output.name, output.text) == ("stdout", wanted + "\n")


def test_a_widget_leaves_its_still_or_nothing(tiny, tmp_path):
    out = run_notebook(write(tiny, WITH_WIDGETS), tmp_path / "done.ipynb")
    (output,) = nbformat.read(out, as_version=4).cells[-1].outputs
    assert output.data == {"text/html": "<b>a still</b>", "text/plain": "x"}
    assert "widgets" not in nbformat.read(out, as_version=4).metadata


def test_unknown_parameter_is_refused_before_anything_runs(tiny, tmp_path):
    with pytest.raises(
        RequestError, match=r"no parameter step\b.*Did you mean steps\?.*steps=3 \(how many\); rate=0.5"
    ):
        run_notebook(tiny, tmp_path / "out" / "done.ipynb", {"step": 4})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("steps", "many"), ("steps", 1.5), ("live", "perhaps"), ("rate", "x"), ("note", 3)]
)
def test_wrong_types_are_refused(tiny, name, value):
    with pytest.raises(RequestError, match=f"parameter {name} is of type"):
        checked_parameters(tiny, {name: value})


@pytest.mark.parametrize(
    ("value", "default", "wanted"),
    [
        ("1e-4", 0.1, 1e-4),
        (2, 0.1, 2.0),
        ("5", "x", "5"),
        ("true", False, True),
        ("['a', 'b']", ["c"], ["a", "b"]),
        ("a", ["c"], ["a"]),
        ("1,2", [3], [1, 2]),
        (("a",), ["c"], ["a"]),
        ("7", None, 7),
        ("seven", None, "seven"),
    ],
)
def test_coercion(value, default, wanted):
    result = coerced("p", value, default)
    assert result == wanted
    assert type(result) is type(wanted)


def test_failure_keeps_the_notebook_up_to_there_and_the_older_result(tiny, tmp_path):
    out = run_notebook(tiny, tmp_path / "done.ipynb")
    before = out.read_bytes()
    with pytest.raises(
        WorkError, match=r"07-tiny.ipynb failed in cell 4: ZeroDivisionError: division by zero"
    ) as caught:
        run_notebook(tiny, out, {"steps": 0})
    failed = tmp_path / "done.failed.ipynb"
    assert str(failed) in str(caught.value) and "\n" not in str(caught.value)
    assert "steps 1" in printed(failed)
    assert out.read_bytes() == before
    run_notebook(tiny, out)
    assert not failed.exists()


def test_a_dying_kernel_is_told_in_a_sentence(tiny, tmp_path):
    tiny.with_suffix(".py").write_text(TEXT + "\n# %%\nos._exit(9)\n")
    write_ipynb_from_py(tiny.with_suffix(".py"))
    with pytest.raises(WorkError, match="could not be run to its end"):
        run_notebook(tiny, tmp_path / "done.ipynb")
    assert not (tmp_path / "done.ipynb").exists()


def test_what_a_dying_kernel_said_is_told(tiny, tmp_path, capfd):
    dying = "\n# %%\nimport faulthandler\n\nfaulthandler.enable(sys.__stderr__)\nos.abort()\n"
    tiny.with_suffix(".py").write_text(TEXT + dying)
    write_ipynb_from_py(tiny.with_suffix(".py"))
    with pytest.raises(WorkError, match=r"died.*Its last words: \S"):
        run_notebook(tiny, tmp_path / "done.ipynb")
    assert not capfd.readouterr().err


def test_not_a_notebook(tmp_path):
    (tmp_path / "broken.ipynb").write_text("{}")
    for name in ("missing.ipynb", "broken.ipynb"):
        with pytest.raises(RequestError, match=name):
            run_notebook(tmp_path / name, tmp_path / "out.ipynb")


def test_where_the_outputs_cannot_go_is_told_before_anything_runs(tiny, tmp_path):
    before = {path: path.read_bytes() for path in tiny.parent.iterdir()}
    with pytest.raises(RequestError, match=r"is a folder: name the file to write, such as .*07-tiny.ipynb"):
        run_notebook(tiny, tmp_path)
    (tmp_path / "link.ipynb").symlink_to(tiny)
    for out in (tiny, tmp_path / "link.ipynb", tiny.with_suffix(".py")):
        with pytest.raises(RequestError, match="is the notebook that is run, or its twin: write its outputs elsewhere"):
            run_notebook(tiny, out)
    assert {path: path.read_bytes() for path in tiny.parent.iterdir()} == before


def test_twins_are_compared_by_content(tiny):
    py = tiny.with_suffix(".py")
    assert twins_differ(tiny, py) is None
    assert twin_problems(tiny.parent) == []
    py.write_text(TEXT.replace("1 / steps", "2 / steps"))
    assert "2 / steps" in twins_differ(tiny, py)
    py.write_text(TEXT.replace(' tags=["parameters"]', ""))
    assert twins_differ(tiny, py)
    py.unlink()
    assert "missing" in twins_differ(tiny, py)


def test_outputs_in_a_notebook_are_a_problem(tiny, tmp_path):
    run_notebook(tiny, tmp_path / "done.ipynb").replace(tiny)
    assert has_outputs(tiny)
    assert twin_problems(tiny.parent)


def test_cell_ids_stay(tiny):
    def ids():
        return {c.source: c.id for c in nbformat.read(tiny, as_version=4).cells}

    py, before, text = tiny.with_suffix(".py"), ids(), tiny.read_bytes()
    header = py.read_text().removesuffix(TEXT)
    assert header.startswith("# ---\n")
    write_ipynb_from_py(py)
    assert tiny.read_bytes() == text
    py.write_text(TEXT.replace("# %%\nprint(1", "# %% [markdown]\n# New words.\n\n# %%\nprint(1"))
    write_ipynb_from_py(py)
    after = ids()
    assert {source: after[source] for source in before} == before
    assert len(set(after.values())) == len(after) == len(before) + 1


def test_a_round_trip_changes_nothing(tiny):
    again = jupytext.reads(jupytext.writes(nbformat.read(tiny, as_version=4), fmt="py:percent"), fmt="py:percent")
    assert [c.source for c in again.cells] == [c.source for c in nbformat.read(tiny, as_version=4).cells]


def test_what_a_saved_run_left_is_taken_out_and_nothing_else(tiny, tmp_path):
    clean = tiny.read_bytes()
    assert not strip_outputs(tiny)
    notebook = nbformat.read(run_notebook(tiny, tmp_path / "done.ipynb"), as_version=4)
    saved = nbformat.read(tiny, as_version=4)
    for cell, ran in zip(
        (c for c in saved.cells if c.cell_type == "code"),
        (c for c in notebook.cells if c.cell_type == "code"),
        strict=True,
    ):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        cell.metadata["execution"] = {"iopub.execute_input": "2025-01-01T00:00:00Z"}
    saved.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    saved.metadata.language_info = {"name": "python", "version": "3.11.2", "file_extension": ".py"}
    nbformat.write(saved, tiny)
    assert has_outputs(tiny)
    assert twin_problems(tiny.parent) == ["07-tiny.ipynb carries outputs"]
    assert strip_outputs(tiny)
    assert tiny.read_bytes() == clean
    assert twin_problems(tiny.parent) == []
