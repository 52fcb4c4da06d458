"""The book in a real browser, as a reader meets it: every page, every notebook in JupyterLab, the PDF, and planted faults.

The book that is looked at is the one that the publishing workflow makes: its steps are run in a clean copy of the checkout.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from browser import (
    barriers,
    errors_shown,
    figure_faults,
    lab,
    launched,
    run_all,
    visiting,
    wait_for_notebook,
    weight,
    wide,
    with_parameters,
)
from bs4 import BeautifulSoup
from pypdf import PdfReader
from pypdf.generic import ArrayObject

from xlnb.analysis.linearity import grid
from xlnb.chapters.playing import boundary_page, plane_page
from xlnb.errors import RequestError, WorkError
from xlnb.evaluation.readings import PRIMARY
from xlnb.publishing.book import check_html, toc_pages
from xlnb.publishing.notebooks import notebook_paths
from xlnb.publishing.printing import page_title, print_book
from xlnb.studies.comparisons import ARMS, ASKED

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*toc_pages(ROOT / "book" / "_toc.yml"), "search", "genindex"]
NOTEBOOKS = [path.stem for path in notebook_paths(ROOT / "notebooks")]
RUN_LIVE = ("00", "05")
A4_WIDTH, A4_HEIGHT = 680, 990  # CSS pixels inside the margins


@pytest.fixture(scope="session")
def browser():
    with launched() as one:
        yield one


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """What a process in the copy needs: its package first, nothing that this machine has cached, no other project's settings."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MAKE", "MFLAGS", "XLNB_HOME", "GITHUB_"))
    }
    return kept | {"XLNB_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A clean copy of the checkout, with this very environment as its .venv."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    clone = tmp_path_factory.mktemp("clone")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone / name)
    (clone / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".stamp":
            (clone / ".venv" / part.name).symlink_to(part)
    (clone / ".venv" / ".stamp").touch()  # after all else: nothing is to be installed
    return clone


def workflow_steps():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    return [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.fixture(scope="session")
def rendering(clone, environment):
    """The workflow's steps at work: they take a core for a minute or two, and JupyterLab is looked at meanwhile."""
    host = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/name", "PYTHONPATH": str(clone)}
    host |= {"XLNB_POCKET": str(clone / "no-weights")}  # the workflow's machine has none, whatever this one has

    def run_steps():
        for step in workflow_steps():
            assert "${{" not in step["run"]
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=clone, env=environment | host,
                                  capture_output=True, text=True, timeout=600)  # fmt: skip
            assert done.returncode == 0 or step.get("continue-on-error"), done.stdout + done.stderr
            assert "Bringing .venv up to date" not in done.stdout
        return clone / "book" / "_build" / "html"

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_steps)


@pytest.fixture(scope="session")
def site(rendering):
    """The book as the workflow's steps make it."""
    return rendering.result()


# ------------------------------------------------------------------------------------------------- JupyterLab


@pytest.fixture(scope="session")
def lab_address(clone, environment, rendering, tmp_path_factory):
    """JupyterLab over copies of the notebooks; those that are run whole have their parameters changed, as a reader would."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in notebook_paths(clone / "notebooks"):  # without the twins, whose text Lab would open
        shutil.copy(path, folder)
        if path.name[:2] in RUN_LIVE:
            with_parameters(folder / path.name, profile="smoke", live=True)
    with lab(folder, tmp_path_factory.mktemp("lab"), environment | {"PYTHONPATH": str(clone)}) as address:
        yield address


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_in_jupyterlab(browser, lab_address, name):
    with visiting(browser, lab_address % f"{name}.ipynb", width=1600) as visit:
        wait_for_notebook(visit.page)
        if name[:2] in RUN_LIVE:
            run_all(visit.page)
        assert errors_shown(visit.page) == []
        if name[:2] in RUN_LIVE:
            counts = visit.page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()
                .cells.filter(cell => cell.cell_type === 'code').map(cell => cell.execution_count)""")
            assert None not in counts
        assert figure_faults(visit.page) == []
        assert [address for address in visit.asked if "127.0.0.1" not in address and address.startswith("http")] == []


# ------------------------------------------------------------------------------------------------- planted faults

STYLE = "<style>body { margin: 0; font: 16px sans-serif; color: #111; background: #fff }</style>"
SOUND = f"""<!DOCTYPE html><html lang="en"><head><title>Sound</title>{STYLE}</head><body><main><h1>A page</h1><p>Text.</p>%s
</main></body></html>"""


def drawn(*texts, kind="wide"):
    groups = "".join(
        f'<g id="text_{i}"><text x="{x}" y="{y}" font-size="20">{text}</text></g>'
        for i, (text, x, y) in enumerate(texts)
    )
    return (f'<figure class="xlnb-figure"><svg class="{kind}" role="img" aria-label="Two words" width="300" height="100" '
            f'viewBox="0 0 300 100">{groups}</svg></figure>')  # fmt: skip


@pytest.fixture
def planted(browser, tmp_path):
    """A function from a part of a page to what is found on that page."""

    def found(part, **how):
        (tmp_path / "page.html").write_text(SOUND % part)
        with visiting(browser, tmp_path / "page.html", **how) as visit:
            return visit.faults() + barriers(visit.page)

    return found


def test_a_sound_page_passes(planted):
    sound = drawn(("left", 10, 50), ("right", 200, 50)) + "<p><a href='https://example.org/'>a link</a></p>"
    assert planted(sound) == []
    assert planted(sound, width=390) == []


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (drawn(("left", 10, 50), ("right", 30, 55)), "texts left and right overlap"),
        (drawn(("left", 10, 50), ("right", 280, 50)), "a text right is cut"),
        (drawn(("left", 10, 8)), "a text left is cut"),
        ("<table><tr>" + "<td>a number</td>" * 60 + "</tr></table>", "px wide in a window of"),
        ('<img src="https://example.org/x.png" alt="A picture">', "asks for https://example.org/x.png"),
        ('<p style="color: #bbb">Hardly to be seen</p>', "color-contrast (serious"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt (critical"),
        ("<script>undefinedFunction()</script>", "says in the console: undefinedFunction"),
        ('<div class="output traceback">KeyError: 1</div>', "shows an error: 'KeyError: 1'"),
        ('<pre data-mime-type="application/vnd.jupyter.stderr">a warning</pre>', "shows an error: 'a warning'"),
        ("<details><summary>More</summary><pre>Traceback (most recent call last):</pre></details>", "says 'Traceback"),
    ],
)
def test_a_planted_fault_is_found(planted, part, told):
    assert any(told in fault for fault in planted(part))


def test_what_is_hidden_or_as_wide_as_the_window_is_no_fault(planted):
    hidden = drawn(("left", 10, 50), ("right", 30, 55), kind="narrow")
    assert planted("<style>svg.narrow { display: none }</style>" + hidden) == []
    scrolling = (
        "<div tabindex='0' style='overflow-x: auto'><table><tr>" + "<td>a number</td>" * 60 + "</tr></table></div>"
    )
    assert planted(scrolling, width=390) == []


def test_a_page_that_fits_a_desk_may_be_too_wide_for_a_phone(browser, tmp_path):
    (tmp_path / "page.html").write_text(SOUND % "<div style='width: 600px'>wide</div>")
    with visiting(browser, tmp_path / "page.html") as visit:
        assert wide(visit.page) == []
    with visiting(browser, tmp_path / "page.html", width=390) as visit:
        assert len(wide(visit.page)) == 1


def test_a_page_weighs_what_it_loads_for_itself(browser, tmp_path):
    for name, size in (("picture.svg", 3000), ("_static/theme.css", 5000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(" " * size)
    loads = '<img src="picture.svg" alt=""><link rel="stylesheet" href="_static/theme.css">'
    (tmp_path / "page.html").write_text(SOUND % loads)
    with visiting(browser, tmp_path / "page.html") as visit:
        assert weight(visit) == 3000 + (tmp_path / "page.html").stat().st_size


# ------------------------------------------------------------------------------------------------- what moves on a page


@pytest.fixture
def moving(browser, tmp_path):
    """A page with the plane of a made-up loss, 3 - a + b / 2 on English problems, opened from its file."""
    losses = {
        "math": lambda a, b: 3 - a + b / 2,
        "problems": lambda a, b: 2 + a * b,
        "language": lambda a, b: 1 + 0 * a,
    }
    rows = [
        {"language": "sw", "seed": 0, "a": a, "b": b, "asked": asked, "loss": loss(a, b)}
        for a, b in grid()
        for asked, loss in losses.items()
    ]
    (tmp_path / "page.html").write_text(SOUND % plane_page(pd.DataFrame(rows), "sw").html)
    with visiting(browser, tmp_path / "page.html", width=390) as visit:
        yield visit


def test_a_merge_is_moved_by_the_keyboard(moving):
    page = moving.page
    assert moving.faults() == [] and barriers(page) == []
    told = page.locator(".xlnb-play .told")
    assert "At 1.00 of math and 1.00 of the language: English problems 2.500" in told.inner_text()
    page.locator("input[name=a]").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert "At 0.75 of math and 1.10 of the language" in told.inner_text()
    assert "English problems 2.800 nats per token (+0.200 saved" in told.inner_text()
    assert "problems in the language 2.825" in told.inner_text(), "0.75 x 1.1, between the points"
    assert page.locator("output[data-of=a]").inner_text() == "0.75"
    page.locator("input[name=a]").press("End")
    assert "At 1.50 of math" in told.inner_text() and "English problems 2.050" in told.inner_text()


def test_the_map_follows_what_is_chosen_and_where_it_is_clicked(moving):
    page, you = moving.page, moving.page.locator(".xlnb-play svg .you")
    before = page.locator(".xlnb-play svg rect").first.get_attribute("fill")
    page.locator("select[name=asked]").select_option("problems")
    assert page.locator(".xlnb-play svg rect").first.get_attribute("fill") != before
    assert "problems in the language" in page.locator(".xlnb-play svg").get_attribute("aria-label")
    frame = page.locator(".xlnb-play svg").bounding_box()
    page.locator(".xlnb-play svg").click(position={"x": frame["width"] / 4, "y": frame["height"] / 2})
    assert float(you.get_attribute("cx")) == pytest.approx(50, abs=2) and float(
        you.get_attribute("cy")
    ) == pytest.approx(100, abs=2)
    assert "At 0.00 of math and 0.50 of the language" in page.locator(".xlnb-play .told").inner_text()


def test_without_a_script_there_is_the_table(browser, moving):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(moving.page.url)
    assert not page.locator("input[name=a]").is_visible() and "The math expert" in page.locator("table").inner_text()
    context.close()


def test_a_boundary_is_moved_by_the_keyboard(browser, tmp_path):
    cells = [(b, t, 0.1 * b - 0.2 * t) for b in (0, 2, 4) for t in (0, 1) if b + t]
    same = dict.fromkeys((*ARMS, *ASKED), "x") | {"metric": PRIMARY, "verdict": "better", "n": 96, "seeds": 3}
    rows = [
        {"bottom": b, "top": t, "difference": value, "low": value - 0.05, "high": value + 0.05, **same}
        for b, t, value in cells
    ]
    (tmp_path / "page.html").write_text(SOUND % boundary_page(pd.DataFrame(rows), [[0, 2, 4], [0, 1]]).html)
    with visiting(browser, tmp_path / "page.html") as visit:
        told = visit.page.locator(".xlnb-play .told")
        assert "first 4 and the last 1 layers" in told.inner_text() and "+0.20" in told.inner_text()
        visit.page.locator("input[name=bottom]").press("ArrowLeft")
        assert "first 2 and the last 1 layers" in told.inner_text() and "+0.00" in told.inner_text()
        visit.page.locator("input[name=bottom]").press("Home")
        visit.page.locator("input[name=top]").press("ArrowLeft")
        assert "swaps nothing" in told.inner_text()
        assert visit.page.locator("input[name=bottom]").get_attribute("aria-valuetext") == "0 first layers"
        assert visit.faults() == [] and barriers(visit.page) == []


# ------------------------------------------------------------------------------------------------- every page


def test_the_published_book_is_whole_and_its_buttons_open_each_chapter(site):
    assert check_html(site) == []
    for name in NOTEBOOKS:
        page = (site / "notebooks" / f"{name}.html").read_text()
        assert f'href="https://colab.research.google.com/github/owner/name/blob/main/notebooks/{name}.ipynb"' in page
        assert f'href="https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/{name}.ipynb"' in page


def test_every_page_is_looked_at(site):
    there = {
        str(path.relative_to(site).with_suffix("")) for path in site.rglob("*.html") if "_static" not in path.parts
    }
    assert there == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_as_a_reader_meets_it(browser, site, page):
    with visiting(browser, site / f"{page}.html") as visit:
        assert visit.page.evaluate("document.getAnimations().length") == 0, "motion, for a reader who asks for none"
        assert visit.faults() == []
        assert weight(visit) < 1_500_000
        assert barriers(visit.page) == []
    with visiting(browser, site / f"{page}.html", dark=True) as visit:
        assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert barriers(visit.page) == []
    with visiting(browser, site / f"{page}.html", width=390) as visit:
        assert visit.faults() == []


# ------------------------------------------------------------------------------------------------- the PDF


@pytest.fixture(scope="session")
def pdf(browser, site):
    """The PDF that the workflow's steps made, where there is a Chromium."""
    return PdfReader(site.parent / "xlnb.pdf")


def test_the_pdf_holds_every_page_of_the_contents_under_its_title(pdf, site):
    titles = [page_title(site / f"{page}.html") for page in toc_pages(ROOT / "book" / "_toc.yml")]
    assert [mark.title for mark in pdf.outline] == titles
    assert len(pdf.pages) > 10
    for mark in pdf.outline:
        assert mark.title in " ".join(pdf.pages[pdf.get_destination_page_number(mark)].extract_text().split())


def test_what_is_folded_on_the_screen_is_on_paper(pdf, site):
    printed = "".join("".join(page.extract_text().split()) for page in pdf.pages)
    assert "Traceback" not in printed
    for name in NOTEBOOKS:
        page = BeautifulSoup((site / "notebooks" / f"{name}.html").read_text(), "html.parser")
        for part in page.select("article details pre"):
            assert "".join(part.get_text().split())[-20:] in printed, (name, part.get_text())


def test_the_pdf_leads_to_itself_and_names_no_file_of_this_machine(pdf):
    notes = [note.get_object() for page in pdf.pages for note in page.get("/Annots") or []]
    addresses = [str(note.get("/A", {}).get("/URI", "")) for note in notes]
    assert not [address for address in addresses if address.startswith("file:")]
    sheets = {page.indirect_reference.idnum for page in pdf.pages}
    inside = [note["/Dest"][0].idnum for note in notes if isinstance(note.get("/Dest"), ArrayObject)]
    assert len(set(inside)) > 3 and set(inside) <= sheets
    assert str(ROOT) not in str(pdf.metadata)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_figure_of_a_chapter_is_cut_on_paper(browser, site, name):
    with visiting(browser, site / "notebooks" / f"{name}.html", width=A4_WIDTH) as visit:
        visit.page.emulate_media(media="print")
        assert wide(visit.page) == []
        assert figure_faults(visit.page) == []
        heights = visit.page.evaluate("""() => [...document.querySelectorAll('figure.xlnb-figure, img')]
            .map(figure => [figure.getBoundingClientRect().height, getComputedStyle(figure).breakInside])""")
        assert all(height < A4_HEIGHT and breaks == "avoid" for height, breaks in heights), heights
        shown = ".bd-sidebar-primary, .bd-header-article, .copybtn, .bd-footer-content"
        assert (
            visit.page.evaluate(
                "what => [...document.querySelectorAll(what)].filter(e => e.getClientRects().length).length", shown
            )
            == 0
        )


# ------------------------------------------------------------------------------------------------- what is missing


def test_a_folder_is_refused_before_a_page_is_printed(tmp_path):
    with pytest.raises(RequestError, match=r"is a folder: name the file to write, such as .*xlnb.pdf"):
        print_book(tmp_path, ROOT / "book" / "_toc.yml", tmp_path)


def test_printing_says_what_is_missing(browser, tmp_path, monkeypatch):
    toc, out = ROOT / "book" / "_toc.yml", tmp_path / "out.pdf"
    with pytest.raises(
        RequestError, match=r"no rendered book: .*index.html is missing. `make book-results` renders it"
    ):
        print_book(tmp_path, toc, out)
    monkeypatch.setenv("XLNB_CHROMIUM", str(tmp_path / "nothing"))
    with pytest.raises(
        WorkError, match=r"No Chromium was found: XLNB_CHROMIUM is .*nothing, .* apt-get install chromium"
    ):
        print_book(tmp_path, toc, out)
    monkeypatch.setenv("XLNB_CHROMIUM", shutil.which("false"))
    (tmp_path / "toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "index.html").write_text("<article><h1>A page</h1></article>")
    with pytest.raises(WorkError, match=r"could not print .*index.html \(exit code 1\)"):
        print_book(tmp_path, tmp_path / "toc.yml", out)
    assert not out.exists()
