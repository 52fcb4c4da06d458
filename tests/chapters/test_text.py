"""The book from the committed results: its text and what it shows belong together, and the exercises' solutions run.

The solutions stand as cells at the end of each chapter that is run and rendered here.
"""

import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters.home import WORDS
from xlnb.publishing.book import build, chapters, check_html
from xlnb.publishing.pages import refill

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = chapters(ROOT)
NAMED = re.compile(r"\b(Figure|Table) (\d+)")
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
SOLUTION = "solution"


def with_solutions(path):
    """Add the exercises' solutions to a notebook, as its last cells."""
    notebook = nbformat.read(path, as_version=4)
    blocks = [block for cell in notebook.cells if cell.cell_type == "markdown" for block in FENCE.findall(cell.source)]
    notebook.cells += [nbformat.v4.new_code_cell(block, metadata={"tags": [SOLUTION]}) for block in blocks]
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def home(copied_book):
    """A copy of notebooks and book, where the book was made from the committed results."""
    for path in chapters(copied_book).values():
        with_solutions(path)
    build("none", root=copied_book, out=copied_book / "site", words=WORDS)
    return copied_book


@pytest.fixture(scope="module")
def executed(home):
    """A function from a chapter's number to its executed notebook."""
    return cache(lambda n: nbformat.read(home / "runs" / "book" / "pocket" / CHAPTERS[n].name, as_version=4))


@pytest.fixture(params=CHAPTERS)
def chapter(request, executed):
    return executed(request.param)


def solutions(chapter):
    return [cell for cell in chapter.cells if SOLUTION in cell.metadata.get("tags", [])]


def prose(chapter):
    return "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")


def told(output):
    """Return what a cell's output says, as HTML, Markdown or text."""
    data = output.get("data", {})
    return data.get("text/html") or data.get("text/markdown") or output.get("text") or data.get("text/plain", "")


def parts(chapter):
    """Yield what a chapter shows without its solutions, cell by cell: its text or HTML, and whether it is folded away."""
    for cell in chapter.cells:
        tags = set(cell.metadata.get("tags", []))
        if SOLUTION in tags:
            continue
        yield cell.source, bool(tags & {"hide-input", "hide-cell", "remove-input"})
        for output in cell.get("outputs", []):
            yield told(output), bool(tags & {"hide-output", "hide-cell"})


def pages(chapter):
    """Return what a chapter's cells show, its solutions' too, as HTML."""
    outputs = [output for cell in chapter.cells for output in cell.get("outputs", [])]
    return [BeautifulSoup(html, "html.parser") for one in outputs if (html := one.get("data", {}).get("text/html"))]


def verdicts(page):
    """Yield the contrasts of a page with their verdicts."""
    for tag in page.find_all(attrs={"data-verdicts": True}):
        yield from json.loads(tag["data-verdicts"]).items()


# ------------------------------------------------------------------------------------------------- the whole book


def test_the_book_stands_alone_and_nothing_was_trained(home):
    assert check_html(home / "site") == []
    assert not list((home / "runs").glob("pocket"))


def test_the_readme_says_what_the_results_say():
    assert refill(ROOT / "README.md", WORDS, write=False) == []


def test_no_contrast_has_two_verdicts_in_the_whole_book(executed, home):
    said = defaultdict(set)
    of_chapters = {number: [pair for page in pages(executed(number)) for pair in verdicts(page)] for number in CHAPTERS}
    front = BeautifulSoup((home / "site" / "index.html").read_text(), "html.parser")
    for contrast, verdict in [*verdicts(front), *(pair for pairs in of_chapters.values() for pair in pairs)]:
        said[contrast].add(verdict)
    assert all(of_chapters.values()), "a chapter without a verdict"
    assert len(said) > 30
    assert {contrast: words for contrast, words in said.items() if len(words) > 1} == {}
    contrasts = {c for c in said if c.count("|") >= 4}  # what is said of F1 has no other side
    turned = {"|".join([*c.split("|")[2:4], *c.split("|")[:2], *c.split("|")[4:]]) for c in contrasts}
    assert not turned & contrasts, "a contrast and its reverse"


def test_no_formatting_is_left_raw(home):
    """In the rendered pages: no backtick outside code, no MyST role, no emphasis that nobody turned into type, no object."""
    for page in (home / "site").rglob("*.html"):
        if "_static" in page.parts:
            continue
        soup = BeautifulSoup(page.read_text(), "html.parser")
        body = soup.find("article") or soup
        assert "IPython.core.display" not in body.get_text(), page.name
        for code in body.find_all(["pre", "code", "script", "style", "math", "mjx-container"]):
            code.decompose()
        for raw in ("`", "{cite", "**", "{glue"):
            assert raw not in body.get_text(), (page.name, raw)


# ------------------------------------------------------------------------------------------------- each chapter


def test_results_are_results(chapter):
    shown = "\n".join(told(output) for cell in chapter.cells for output in cell.get("outputs", []))
    assert "not a result" not in shown
    assert not re.search(r"\bnan\b", shown)


def test_figures_and_tables_are_numbered_in_order_and_read_in_the_text(chapter):
    found, text = defaultdict(list), ""
    for shown, _ in parts(chapter):
        page = BeautifulSoup(shown, "html.parser")
        for figure in page.find_all("figure"):
            if label := re.match(r"(Figure|Table) (\d+)\.", figure.figcaption.get_text()):
                found[label[1]].append(int(label[2]))
            figure.decompose()
        text += page.get_text()
    assert found["Figure"] and sum(map(len, found.values())) >= 3
    for kind, numbers in found.items():
        assert numbers == list(range(1, len(numbers) + 1)), kind
    read = {(kind, int(number)) for kind, number in NAMED.findall(text)}
    assert read == {(kind, number) for kind, numbers in found.items() for number in numbers}


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
    assert len(title.source.split()) < 60
    box = answer.outputs[0].data["text/html"]
    assert ".answer()" in answer.source and "xlnb-answer" in box
    assert len(BeautifulSoup(box, "html.parser").get_text().split()) > 20
    assert question.source.startswith("**The question.**")
    text = prose(chapter)
    assert 1 <= text.count("**Change this:**") <= 2
    assert text.count("<details><summary>Solution</summary>") == text.count("</details>") == 2
    assert text.index("## Exercises") < text.index("## Summary") < text.index("**What would change our mind:**")
    assert re.findall(r"^## .*", text, re.MULTILINE)[-1] == "## Summary"
    assert "{cite" not in text, "it would stand raw in JupyterLab"
    assert "Next: [" in text


def test_no_word_of_the_old_ones(chapter):
    for word in (r"\breadings?\b", "crossed bootstrap", r"resampl\w+", "not shown", r"\bbehind\b"):
        assert not re.search(word, prose(chapter)), word


def test_the_first_chapter_is_read_in_ten_minutes(executed):
    words, counted = 0, 0
    for shown, folded in parts(executed("00")):
        page = BeautifulSoup(shown, "html.parser")
        for hidden in page.find_all(["details", "style", "svg"]):
            hidden.decompose()
        if not folded:
            words += len(re.sub(r"\]\([^)]*\)", "]", page.get_text()).split())
            counted += len(page.find_all("figure"))
    assert words <= 1500
    assert counted <= 5


# What the solutions show; None where that is a picture or a number of its own.
SHOWN = {
    "00": ["0.0", "0.0"],
    "01": ["True", "(0, set())"],
    "02": [None, ""],
    "03": ["[0.05, 0.39, 0.05]", "['measured: LLMM', 'measured: LtMt']"],
    "04": ["(0, 720)", None],
    "05": ["[0, 1, 2, 3, 4, 5, 6, 7, 28, 29, 30, 31]"],
    "06": ["True"],
    "07": [None, None],
    "08": ["True", "[0.78, 0.22]"],
    "09": [str(0.5**15), ""],
    "10": ["[8, 4]", "(True, 28)"],
}


@pytest.mark.parametrize("number", CHAPTERS)
def test_the_solutions_run_and_show_what_is_right(executed, number):
    cells = solutions(executed(number))
    assert all(cell.execution_count for cell in cells)
    shown = ["".join(output.data["text/plain"] for output in cell.outputs) for cell in cells]
    expected = SHOWN[number]
    assert [want if want is None else have for have, want in zip(shown, expected, strict=True)] == expected
    assert all(have for have, want in zip(shown, expected, strict=True) if want is None)


def test_no_number_of_trainings_is_enough(executed):
    shown = "".join(output.data["text/plain"] for output in solutions(executed("02"))[0].outputs)
    assert max(float(share) for share in re.findall(r"0\.\d+", shown)) < 0.5
