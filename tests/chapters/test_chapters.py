"""The real chapters, live at `smoke`: each runs, says that it is no result, and renders without a warning."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from xlnb.chapters.home import WORDS
from xlnb.errors import WorkError
from xlnb.publishing.book import build, chapters, check_html, minutes_live
from xlnb.publishing.notebooks import notebook_parameters, run_notebook

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = chapters(ROOT)


@pytest.fixture(scope="module")
def live(copied_book):
    """The chapters' notebooks, executed live at smoke while the book is made of them."""
    build("all", profile="smoke", root=copied_book, out=copied_book / "site-live", words=WORDS)
    return copied_book / "runs" / "book" / "smoke"


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


def test_what_a_live_chapter_asks_anew_is_what_it_shows(live):
    told = re.search(r"at most ([\d.]+) nats per token, and (\d+) of (\d+) answers", shown(live / CHAPTERS["01"].name))
    assert float(told[1]) < 1e-4
    assert told[2] == told[3] != "0"


def test_the_live_book_stands_alone(live, copied_book):
    assert check_html(copied_book / "site-live") == []
    page = (copied_book / "site-live" / "notebooks" / "00-a-first-swap.html").read_text()
    assert page.count('class="xlnb-figure"') >= 4


@pytest.mark.parametrize("number", CHAPTERS)
def test_each_chapter_takes_the_book_s_parameters(number):
    assert {"profile", "live"} <= set(notebook_parameters(CHAPTERS[number]))


@pytest.mark.parametrize("number", CHAPTERS)
def test_a_notebook_computes_only_when_told_and_says_for_how_long(number):
    live = notebook_parameters(CHAPTERS[number])["live"]
    assert live["default"] is False
    minutes = minutes_live({number}, "pocket", ROOT)
    assert live["help"] == f"True computes what is missing: {minutes} min on two cores"


def test_a_seed_without_committed_results_is_refused_in_words(copied_book, tmp_path):
    with pytest.raises(WorkError, match="No committed result of profile pocket, language sw, seed 999"):
        run_notebook(CHAPTERS["00"], tmp_path / "out.ipynb", {"live": False, "seed": 999})


def test_steps_of_a_training_are_unique():
    files = sorted((ROOT / "book" / "results").glob("*/training.parquet"))
    assert files
    for file in files:
        table = pd.read_parquet(file)
        keys = ["profile", "model", "language", "seed", "expert", "step"]
        assert not table.duplicated(keys).any(), file
