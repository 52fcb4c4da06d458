"""The text of chapters and what they show belong together: figures and tables in order and referred to, solutions that run."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup

from xlnb.paths import project_root
from xlnb.publishing.book import chapters
from xlnb.publishing.notebooks import run_notebook

CHAPTERS = chapters(project_root())
NUMBERS = ("01", "02", "03", "04", "06", "07", "08", "09", "10")
NAMED = re.compile(r"\b(Figure|Table) (\d+)")
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module", params=NUMBERS)
def chapter(request, tmp_path_factory):
    found = executed(request.param, tmp_path_factory.mktemp("chapter"))
    found.metadata["number"] = request.param
    return found


def executed(number, folder):
    """Return an executed chapter, from the committed results, with its exercises' solutions run after all of its cells."""
    path = CHAPTERS[number]
    notebook = nbformat.read(path, as_version=4)
    solutions = [
        block for cell in notebook.cells if cell.cell_type == "markdown" for block in FENCE.findall(cell.source)
    ]
    notebook.cells += [nbformat.v4.new_code_cell(block, metadata={"tags": ["solution"]}) for block in solutions]
    copy = folder / path.name
    nbformat.write(notebook, copy)
    return nbformat.read(run_notebook(copy, folder / "out.ipynb"), as_version=4)


def prose(chapter):
    return "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")


def pages(chapter):
    for cell in chapter.cells:
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).get("text/html"):
                yield BeautifulSoup(html, "html.parser")


def numbered(chapter):
    captions = [caption for page in pages(chapter) for caption in page.find_all("figcaption")]
    return [match.groups() for caption in captions if (match := NAMED.match(caption.get_text()))]


def test_figures_and_tables_are_numbered_in_order(chapter):
    found = numbered(chapter)
    for name in ("Figure", "Table"):
        assert [int(n) for kind, n in found if kind == name] == list(
            range(1, 1 + sum(kind == name for kind, _ in found))
        )
    assert len(found) >= 3


def test_the_text_refers_to_each_and_to_no_other(chapter):
    assert set(NAMED.findall(prose(chapter))) == set(numbered(chapter))


def test_all_that_is_shown_has_a_caption_and_no_backtick(chapter):
    for page in pages(chapter):
        for figure in page.find_all("figure"):
            assert len(figure.figcaption.get_text()) > 20
            assert "`" not in figure.get_text()
        for drawing in page.find_all("svg"):
            assert len(drawing["aria-label"]) > 20


def test_a_chapter_s_shape(chapter):
    title, answer, question = chapter.cells[:3]
    assert title.source.startswith("# ") and len(title.source.strip().split("\n")) <= 4
    assert ".answer()" in answer.source and "xlnb-answer" in answer.outputs[0].data["text/html"]
    assert question.source.startswith("**The question.**")
    text = prose(chapter)
    assert 1 <= text.count("**Change this:**") <= 2
    assert text.count("<details><summary>Solution</summary>") == text.count("</details>") == 2
    assert text.index("## Exercises") < text.index("## Summary") < text.index("**What would change our mind:**")
    assert "{cite" not in text and "Next: [" in text


# What the solutions show; None where that is a picture or a number of its own.
SHOWN = {
    "01": ["True", "(0, set())"],
    "02": [None, ""],
    "03": ["[0.05, 0.39, 0.05]", "['measured: LLMM', 'measured: LtMt']"],
    "04": ["(0, 720)", None],
    "06": ["True"],
    "07": [None, None],
    "08": ["True", "[0.78, 0.22]"],
    "09": [str(0.5**15), ""],
    "10": ["[8, 4]", "(True, 28)"],
}


def test_the_solutions_run_and_show_something(chapter):
    solutions = [cell for cell in chapter.cells if "solution" in cell.metadata.get("tags", [])]
    assert all(cell.execution_count for cell in solutions)
    shown = ["".join(output.data["text/plain"] for output in cell.outputs) for cell in solutions]
    expected = SHOWN[chapter.metadata["number"]]
    assert [want if want is None else have for have, want in zip(shown, expected, strict=True)] == expected
    assert all(have for have, want in zip(shown, expected, strict=True) if want is None)
    if chapter.metadata["number"] == "02":
        assert max(float(share) for share in re.findall(r"0\.\d+", shown[0])) < 0.5, "no number of trainings is enough"


@pytest.mark.parametrize(
    ("number", "right"),
    [("00", ["0.0", "0.0"]), ("05", ["[0, 1, 2, 3, 4, 5, 6, 7, 28, 29, 30, 31]"]), ("06", ["True"])],
)
def test_the_solutions_about_merging_are_right(number, right, tmp_path):
    cells = executed(number, tmp_path).cells
    shown = [cell.outputs[0].data["text/plain"] for cell in cells if "solution" in cell.metadata.get("tags", [])]
    assert shown == right


def test_no_word_of_the_old_ones(chapter):
    for word in (r"\breadings?\b", "crossed bootstrap", r"resampl\w+", "not shown", r"\bbehind\b"):
        assert not re.search(word, prose(chapter)), word


def test_no_contrast_has_two_verdicts(chapter):
    import json

    found = {}
    for page in pages(chapter):
        for part in page.find_all(attrs={"data-verdicts": True}):
            for name, word in json.loads(part["data-verdicts"]).items():
                assert found.setdefault(name, word) == word
    assert found
