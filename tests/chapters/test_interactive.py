"""What moves in JupyterLab, and stands still elsewhere."""

import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from ipywidgets import IntSlider

from xlnb.chapters import word_problems
from xlnb.chapters.interactive import Explorer, explorer
from xlnb.chapters.pictures import Shown
from xlnb.corpora import templates
from xlnb.publishing.notebooks import WIDGET, run_notebook, write_ipynb_from_py

STATIC = Shown("<p>a twin</p>")


def show(number: int = 3, word: str = "b") -> Shown:
    return Shown(f"<p>{word} {number}</p>")


def made():
    return explorer(show, STATIC, number=(0, 9, 1), word=["a", "b"])


def test_it_begins_at_the_defaults_and_follows_its_controls():
    found = made()
    assert isinstance(found, Explorer) and "<p>b 3</p>" in found.shown
    assert [control.description for control in found.controls.values()] == ["number", "word"]
    found.controls["number"].value = 7
    assert "<p>b 7</p>" in found.shown
    found.controls["word"].value = "a"
    assert "<p>a 7</p>" in found.shown
    assert found.static is STATIC


def test_a_control_of_one_s_own():
    found = explorer(show, STATIC, number=IntSlider(5, 0, 9, description="how many"))
    assert "<p>b 5</p>" in found.shown and found.controls["number"].description == "how many"


def test_a_front_end_gets_the_widget_and_its_twin():
    bundle = made()._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] and bundle["text/html"] == "<p>a twin</p>"


def test_without_ipywidgets_there_is_the_twin(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert made() is STATIC


@pytest.fixture
def executed(tmp_path):
    py = tmp_path / "notebooks" / "07-moving.py"
    py.parent.mkdir()
    text = '# %%\nfrom xlnb.chapters import word_problems\n\nword_problems.browser("sw", "scored", 2)\n'
    py.write_text(text)
    (cell,) = nbformat.read(run_notebook(write_ipynb_from_py(py), tmp_path / "out.ipynb"), as_version=4).cells
    return cell.outputs


def test_an_executed_notebook_keeps_the_twin_alone(executed):
    (output,) = executed
    assert WIDGET not in output.data
    assert (
        templates.problems("sw", "scored", 3)[2].question in BeautifulSoup(output.data["text/html"], "html.parser").text
    )


def test_the_browser_shows_what_is_chosen():
    found = word_problems.browser("te", "development", 4)

    def text():
        return BeautifulSoup(found.shown, "html.parser").get_text("\n")

    assert templates.problems("te", "development", 5)[4].question in text()
    found.controls["language"].value = "bn"
    found.controls["split"].value = "train"
    found.controls["problem"].value = 12
    for code in ("en", "bn"):
        assert templates.problems(code, "train", 13)[12].solution in text()
    assert 'lang="bn"' in found.shown
    for split in templates.SPLITS:  # as far as the slider goes, wherever
        found.controls["split"].value = split
        found.controls["problem"].value = found.controls["problem"].max
        assert found.controls["problem"].max == 199 and "Problem 199" in text()
