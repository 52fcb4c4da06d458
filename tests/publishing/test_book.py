"""The book: its contents agree, a small one is rendered whole and alone, and planted faults are found."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters import home
from xlnb.errors import RequestError, WorkError
from xlnb.publishing import book
from xlnb.publishing.book import build, chapter_path, chapters, check_html, live_chapters, minutes_live, toc_pages
from xlnb.publishing.notebooks import write_ipynb_from_py

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = """\
# %% [markdown]
# # A tiny chapter
#
# A formula, $M \\odot m$, a source
# ([Ilharco et al. 2023](https://arxiv.org/abs/2212.04089)), and [all sources](../book/bibliography.md).

# %% tags=["parameters"]
profile = "pocket"  # smoke, pocket or paper
live = True  # compute, or read the committed results

# %%
import sys

import matplotlib.pyplot as plt

print("40 %", "of the way", file=sys.stderr)
print(f"profile {profile}, live {live}")
_ = plt.plot([1, 2], [2, 1])

# %% [markdown]
# ## Summary
"""


WORDS = {"finding": lambda: "It is **found** ([Ilharco et al. 2023](https://arxiv.org/abs/2212.04089))."}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the real configuration and style, and one small chapter."""
    root = tmp_path_factory.mktemp("project")
    pages = root / "book"
    pages.mkdir()
    for name in ("_config.yml", "references.bib", "bibliography.md"):
        shutil.copy(ROOT / "book" / name, pages)
    shutil.copytree(ROOT / "book" / "_static", pages / "_static")
    (pages / "index.md").write_text(
        "# A book\n\n`git clone https://github.com/OWNER/NAME`\n\n<!-- xlnb: finding -->\n\n$$\n\\theta = \\theta_0 + m\n$$\n"
    )
    (pages / "minutes.yml").write_text("pocket: {00-tiny: 7}\n")
    (pages / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n  - file: notebooks/00-tiny\n  - file: bibliography\n"
    )
    (root / "notebooks").mkdir()
    (root / "notebooks" / "00-tiny.py").write_text(CHAPTER)
    write_ipynb_from_py(root / "notebooks" / "00-tiny.py")
    return root


@pytest.fixture(scope="module")
def site(root):
    return build("none", root=root, words=WORDS).parent


def test_contents_name_each_page_and_each_chapter():
    pages = toc_pages(ROOT / "book" / "_toc.yml")
    there = {path.stem for path in (ROOT / "book").glob("*.md")}
    there |= {f"notebooks/{path.stem}" for path in chapters(ROOT).values()}
    assert set(pages) == there
    assert len(pages) == len(there)
    named = [page for page in pages if page.startswith("notebooks/")]
    assert named == sorted(named)


def test_a_small_book_stands_alone(site, root):
    assert site == root / "book" / "_build" / "html"
    assert check_html(site) == []
    page = (site / "notebooks" / "00-tiny.html").read_text()
    assert "profile pocket, live False" in page
    assert "Ilharco" in page
    assert 'href="../bibliography.html"' in page
    assert "40 % of the way" not in page  # what went to stderr stays in the notebook
    for trace in ("binder", "colab", "thebe", "unpkg", "cdnjs", "jsdelivr", str(root)):
        assert trace not in page.lower(), trace
    home = (site / "index.html").read_text()
    assert "It is <strong>found</strong>" in home and "Ilharco" in home
    assert "xlnb: finding" not in home
    assert "Gemma Terms of Use" in page  # the footer
    assert "mathjax/tex-svg.js" in home
    assert (site / "mathjax" / "tex-svg.js").stat().st_size > 1_000_000
    assert (site / "mathjax" / "LICENSE").exists()
    leftovers = [path.name for path in site.parent.iterdir() if path != site]
    assert leftovers == []


def test_no_page_loads_a_script_twice(site):
    for page in site.glob("*.html"):
        assert page.read_text().count("tex-svg.js") <= 1


def test_a_repository_gives_buttons_that_open_the_chapter_and_load_nothing(root, site):
    there = build(
        "none", root=root, out=root / "hosted", words=WORDS, repository="https://github.com/owner/name"
    ).parent
    assert check_html(there) == []
    page = (there / "notebooks" / "00-tiny.html").read_text()
    for link in (
        "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/00-tiny.ipynb",
        "https://colab.research.google.com/github/owner/name/blob/main/notebooks/00-tiny.ipynb",
        "https://github.com/owner/name",
    ):
        assert f'href="{link}"' in page
    assert "thebe" not in page
    for pages, address in ((there, "https://github.com/owner/name"), (site, "https://github.com/OWNER/NAME")):
        text = BeautifulSoup((pages / "index.html").read_text(), "html.parser").get_text()
        assert f"git clone {address}\n" in text


def test_live_is_handed_on_and_said_beforehand(root, site, capsys):
    build(["00"], profile="smoke", root=root, out=root / "elsewhere", words=WORDS)
    told = capsys.readouterr().out
    assert told.splitlines()[0] == "Making the book, profile smoke: chapter 00 live (how long was not measured)"
    assert told.splitlines()[-1].endswith(str(root / "elsewhere" / "index.html"))
    assert "profile smoke, live True" in (root / "elsewhere" / "notebooks" / "00-tiny.html").read_text()


def test_a_wrong_page_stops_the_book_and_the_older_site_stays(root, site):
    before = (site / "index.html").read_bytes()
    index = root / "book" / "index.md"
    text = index.read_text()
    index.write_text(text + "\n{cite:p}`nobody1999nothing`\n")
    try:
        with pytest.raises(WorkError, match="nobody1999nothing"):
            build("none", root=root, words=WORDS)
    finally:
        index.write_text(text)
    assert (site / "index.html").read_bytes() == before


def test_a_failing_chapter_stops_the_book(root, site):
    before = (site / "index.html").read_bytes()
    notebook = root / "notebooks" / "00-tiny.ipynb"
    text = notebook.read_text()
    broken = nbformat.reads(text, as_version=4)
    broken.cells.append(nbformat.v4.new_code_cell("raise KeyError('gone')"))
    nbformat.write(broken, notebook)
    try:
        with pytest.raises(WorkError, match=r"00-tiny.ipynb failed in cell 5: KeyError: 'gone'"):
            build("none", root=root, words=WORDS)
    finally:
        notebook.write_text(text)
    assert (site / "index.html").read_bytes() == before


def test_requests_are_checked_before_anything_runs(root):
    with pytest.raises(RequestError, match=r"index.md: No placeholder 'finding': there are none"):
        build("none", root=root)
    for address in ("https://example.org/owner/name", "owner/name", "https://github.com/owner/name/tree/main"):
        with pytest.raises(RequestError, match=r"--repository takes https://github\.com/OWNER/NAME"):
            build("none", root=root, words=WORDS, repository=address)
    with pytest.raises(RequestError, match="No profile 'huge': choose one of smoke, pocket"):
        build("none", profile="huge", root=root)
    with pytest.raises(RequestError, match="No chapter '05': choose one of 00, all, none"):
        build("5", root=root)
    (root / "notebooks" / "09-extra.ipynb").write_text("{}")
    try:
        with pytest.raises(RequestError, match="disagree about notebooks/09-extra"):
            build("none", root=root, words=WORDS)
    finally:
        (root / "notebooks" / "09-extra.ipynb").unlink()


def test_a_chapter_goes_by_its_number_its_name_or_its_path():
    wanted = ROOT / "notebooks" / "05-layer-swapping.ipynb"
    for name in ("5", "05", "05-layer-swapping", "05-layer-swapping.ipynb", str(wanted)):
        assert chapter_path(name, ROOT) == wanted
    with pytest.raises(RequestError, match="No notebook '99'"):
        chapter_path("99", ROOT)


def test_the_price_of_running_every_chapter_live_is_known(monkeypatch, capsys):
    monkeypatch.setattr(book, "run_notebook", lambda *_: (_ for _ in ()).throw(WorkError("no time")))
    with pytest.raises(WorkError, match="no time"):
        build("all", root=ROOT, words=home.WORDS)
    first = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(
        r"Making the book, profile pocket: chapters [\d, ]+ live \(about \d+ minutes on two cores\)", first
    )


def test_minutes(root):
    assert minutes_live({"00"}, "pocket", root) == 7
    assert minutes_live({"00"}, "paper", root) is None
    assert live_chapters("all", ["00", "01"]) == {"00", "01"}


GOOD = '<link rel="stylesheet" href="a.css"><a href="https://example.org/x">x</a><img src="a.png">'


@pytest.fixture
def page(tmp_path):
    (tmp_path / "a.css").write_text("p { background: url(a.png) } /* url(https://example.org/comment) */")
    (tmp_path / "a.png").write_bytes(b"png")

    def write(html):
        (tmp_path / "index.html").write_text(f"<html><body>{GOOD}{html}</body></html>")
        return check_html(tmp_path)

    return write


def test_a_clean_page_passes(page):
    assert page('<link rel="canonical" href="https://example.org/"><p>@import "https://example.org" in prose</p>') == []


@pytest.mark.parametrize(
    "fault",
    [
        '<script src="https://example.org/x.js"></script>',
        '<script src="//example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<link rel="preconnect" href="https://example.org">',
        '<img src="https://example.org/x.png">',
        '<img srcset="a.png 1x, https://example.org/x.png 2x">',
        '<iframe src="http://example.org/"></iframe>',
        '<p style="background: url(https://example.org/x.png)">x</p>',
        '<style>@import "https://example.org/x.css";</style>',
        "<style>@font-face { src: url('https://example.org/x.woff2') }</style>",
        '<script type="module">import x from "https://example.org/x.js"</script>',
        '<svg><image href="https://example.org/x.png"/></svg>',
    ],
)
def test_external_addresses_are_found(page, fault):
    assert any("loads" in problem and "example.org" in problem for problem in page(fault))


@pytest.mark.parametrize(
    "fault", ['<img src="missing.png">', '<a href="missing.html#part">x</a>', '<img src="empty.png">']
)
def test_missing_files_are_found(page, tmp_path, fault):
    (tmp_path / "empty.png").touch()
    assert any("missing or empty" in problem for problem in page(fault))


@pytest.mark.parametrize(
    "fault",
    ['<div class="output traceback highlight-ipythontb">x</div>', "<pre>Traceback (most recent call last):</pre>"],
)
def test_errors_among_the_outputs_are_found(page, fault):
    assert any("error among its outputs" in problem for problem in page(fault))


def test_external_addresses_in_styles_are_found(page, tmp_path):
    (tmp_path / "a.css").write_text("@import url(https://example.org/x.css);")
    assert page("") == ["a.css loads https://example.org/x.css."]


def test_no_page_is_a_fault(tmp_path):
    assert check_html(tmp_path)
