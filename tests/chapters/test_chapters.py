"""The real chapters: each runs live at `smoke`, reads the committed results, and renders without a warning."""

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters.home import WORDS
from xlnb.errors import WorkError
from xlnb.publishing.book import build, chapters, check_html, minutes_live
from xlnb.publishing.notebooks import notebook_parameters, run_notebook

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = chapters(ROOT)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A copy of notebooks and book, so that nothing is written into the checkout."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "book", home / "book", ignore=shutil.ignore_patterns("_build"))
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def live(home):
    """The chapters' notebooks, executed live at smoke while the book is made of them."""
    build("all", profile="smoke", root=home, out=home / "site-live", words=WORDS)
    return home / "runs" / "book" / "smoke"


def shown(path):
    """Return all that an executed notebook shows, as one text."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts.append(data.get("text/markdown") or data.get("text/html") or output.get("text") or "")
    return "\n".join(parts)


@pytest.mark.parametrize("number", CHAPTERS)
def test_smoke_says_that_it_is_no_result(live, number):
    assert "not a result" in shown(live / CHAPTERS[number].name)


def test_the_live_book_stands_alone(live, home):
    assert check_html(home / "site-live") == []
    page = (home / "site-live" / "notebooks" / "00-a-first-swap.html").read_text()
    assert page.count('class="xlnb-figure"') >= 4


@pytest.fixture(scope="module")
def results(home):
    """The chapters' notebooks, executed from the committed results, and the book rendered of them."""
    build("none", root=home, out=home / "site-results", words=WORDS)
    return home / "runs" / "book" / "pocket"


def test_the_book_from_committed_results(home, results):
    assert check_html(home / "site-results") == []
    for path in CHAPTERS.values():
        text = shown(results / path.name)
        assert "not a result" not in text
        assert not re.search(r"\bnan\b", text)
    assert not list((home / "runs").glob("pocket")), "something was trained"


@pytest.mark.parametrize("number", CHAPTERS)
def test_each_chapter_takes_the_book_s_parameters(number):
    assert {"profile", "live"} <= set(notebook_parameters(CHAPTERS[number]))


@pytest.mark.parametrize("number", CHAPTERS)
def test_a_notebook_computes_only_when_told_and_says_for_how_long(number):
    live = notebook_parameters(CHAPTERS[number])["live"]
    assert live["default"] is False
    minutes = minutes_live({number}, "pocket", ROOT)
    assert live["help"] == f"True computes what is missing: {minutes} min on two cores"


def test_a_seed_without_committed_results_is_refused_in_words(home, tmp_path):
    with pytest.raises(WorkError, match="No committed result of profile pocket, language sw, seed 999"):
        run_notebook(CHAPTERS["00"], tmp_path / "out.ipynb", {"live": False, "seed": 999})


# ------------------------------------------------------------------------------------------------ what readers found


def parts(path):
    """Yield what an executed chapter shows, cell by cell: its text or HTML, and whether it is folded away."""
    for cell in nbformat.read(path, as_version=4).cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            yield cell.source, False
            continue
        yield cell.source, bool(tags & {"hide-input", "hide-cell", "remove-input"})
        for output in cell.outputs:
            data = output.get("data", {})
            shown = data.get("text/html") or data.get("text/markdown") or output.get("text") or ""
            yield shown, bool(tags & {"hide-output", "hide-cell"})


def test_no_contrast_has_two_verdicts_in_the_whole_book(results, home):
    pages = [shown for path in CHAPTERS.values() for shown, _ in parts(results / path.name)]
    pages.append((home / "site-results" / "index.html").read_text())
    said = defaultdict(set)
    for page in pages:
        for tag in BeautifulSoup(page, "html.parser").find_all(attrs={"data-verdicts": True}):
            for contrast, verdict in json.loads(tag["data-verdicts"]).items():
                said[contrast].add(verdict)
    assert len(said) > 30
    assert {contrast: verdicts for contrast, verdicts in said.items() if len(verdicts) > 1} == {}
    contrasts = {c for c in said if c.count("|") >= 4}  # what is said of F1 has no other side
    turned = {"|".join([*c.split("|")[2:4], *c.split("|")[:2], *c.split("|")[4:]]) for c in contrasts}
    assert not turned & contrasts, "a contrast and its reverse"


@pytest.mark.parametrize("number", CHAPTERS)
def test_figures_and_tables_are_numbered_in_order_and_read_in_the_text(results, number):
    found, text = defaultdict(list), ""
    for shown, _ in parts(results / CHAPTERS[number].name):
        page = BeautifulSoup(shown, "html.parser")
        for figure in page.find_all("figure"):
            label = re.match(r"(Figure|Table) (\d+)\.", figure.figcaption.get_text()) if figure.figcaption else None
            if label:
                found[label[1]].append(int(label[2]))
            figure.decompose()
        text += page.get_text()
    assert found["Figure"]
    for kind, numbers in found.items():
        assert numbers == list(range(1, len(numbers) + 1)), kind
        read = {int(n) for n in re.findall(rf"{kind} (\d+)", text)}
        assert read == set(numbers), f"{kind}s that are shown, and that the text reads"


@pytest.mark.parametrize("number", CHAPTERS)
def test_a_chapter_opens_with_its_answer_and_ends_with_a_summary(results, number):
    shown = [one for one, _ in parts(results / CHAPTERS[number].name) if one.strip()]
    assert shown[0].startswith("# ") and len(shown[0].split()) < 60
    assert "xlnb-answer" in shown[2], "the box is the first output"
    assert len(BeautifulSoup(shown[2], "html.parser").get_text().split()) > 20
    headings = [line for one in shown for line in one.splitlines() if line.startswith("## ")]
    assert headings[-1] == "## Summary"
    assert sum("**Change this:**" in one for one in shown) >= 1
    assert sum("<summary>Solution</summary>" in one for one in shown) >= 1
    assert not any("{cite" in one for one in shown), "it would stand raw in JupyterLab"


def test_the_first_chapter_is_read_in_ten_minutes(results):
    words, counted = 0, 0
    for shown, folded in parts(results / CHAPTERS["00"].name):
        page = BeautifulSoup(shown, "html.parser")
        for hidden in page.find_all(["details", "style", "svg"]):
            hidden.decompose()
        if not folded:
            words += len(re.sub(r"\]\([^)]*\)", "]", page.get_text()).split())
            counted += len(page.find_all("figure"))
    assert words <= 1500
    assert counted <= 5


def test_no_formatting_is_left_raw(home, results):
    """In the rendered pages: no backtick outside code, no MyST role, no emphasis that nobody turned into type."""
    for page in (home / "site-results").rglob("*.html"):
        if "_static" in page.parts:
            continue
        soup = BeautifulSoup(page.read_text(), "html.parser")
        body = soup.find("article") or soup
        for code in body.find_all(["pre", "code", "script", "style", "math", "mjx-container"]):
            code.decompose()
        for raw in ("`", "{cite", "**", "{glue"):
            assert raw not in body.get_text(), (page.name, raw)


def test_steps_of_a_training_are_unique():
    for file in sorted((ROOT / "book" / "results").glob("*/training.parquet")):
        table = pd.read_parquet(file)
        keys = ["profile", "language", "seed", "expert", "step"]
        assert not table.duplicated(keys).any(), file
