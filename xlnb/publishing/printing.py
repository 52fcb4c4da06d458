"""The book as one PDF: Chromium prints its pages, pypdf joins them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from xlnb.artifacts import whole_file
from xlnb.errors import RequestError, WorkError
from xlnb.publishing.book import toc_pages

if TYPE_CHECKING:
    from pypdf import PdfWriter

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Return the path of a Chromium: XLNB_CHROMIUM, or else one of the usual names on the PATH."""
    given = os.environ.get("XLNB_CHROMIUM")
    for name in [given] if given else CHROMIUM:
        if found := shutil.which(name):
            return found
    where = f"XLNB_CHROMIUM is {given}, which is no program" if given else f"none of {', '.join(CHROMIUM)} is there"
    raise WorkError(
        f"No Chromium was found: {where}. Install it (on Debian: apt-get install chromium), or say where it is: "
        "XLNB_CHROMIUM=/path/to/chromium."
    )


def print_book(site: Path, toc: Path, out: Path) -> int:
    """Print the pages of a rendered book, in the order of its contents, as one PDF with bookmarks; return how many sheets it has.

    Links between the book's pages lead to their place in the PDF. Raises RequestError, before a page is printed, where there is
    no rendered book or ``out`` is a folder.
    """
    from pypdf import PdfWriter

    if out.is_dir():
        raise RequestError(f"{out} is a folder: name the file to write, such as {out / 'xlnb.pdf'}.")
    program = chromium()
    pages = [site / f"{name}.html" for name in toc_pages(toc)]
    if missing := [page for page in pages if not page.is_file()]:
        raise RequestError(f"There is no rendered book: {missing[0]} is missing. `make book-results` renders it.")
    starts: dict[Path, int] = {}
    with PdfWriter() as writer, tempfile.TemporaryDirectory() as scratch:
        for number, page in enumerate(pages):
            starts[page.resolve()] = len(writer.pages)
            printed = _printed(program, page, Path(scratch), number)
            writer.append(printed, outline_item=page_title(page), import_outline=False)
        _link_within(writer, starts)
        writer.add_metadata({"/Title": page_title(pages[0]), "/Creator": "xlnb pdf"})
        with whole_file(out) as partial:
            writer.write(partial)
        return len(writer.pages)


def page_title(page: Path) -> str:
    """Return a rendered page's first heading."""
    from bs4 import BeautifulSoup

    heading = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one("article h1")
    if heading is None:
        return page.stem
    for link in heading.select(".headerlink"):
        link.decompose()
    return " ".join(heading.get_text().split())


def _printed(program: str, page: Path, scratch: Path, number: int) -> Path:
    out = scratch / f"{number}.pdf"
    # Formulas are typeset after the page has loaded: virtual time lets that finish.
    command = [program, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--virtual-time-budget=30000",
               f"--user-data-dir={scratch / 'profile'}", f"--print-to-pdf={out}"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # root has no other way
    try:
        done = subprocess.run(
            [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=180, check=False
        )
    except subprocess.TimeoutExpired:
        raise WorkError(f"{program} did not print {page} within three minutes.") from None
    if done.returncode or not out.is_file():
        said = " ".join(done.stderr.split()[-30:])
        raise WorkError(f"{program} could not print {page} (exit code {done.returncode}): {said}")
    return out


def _link_within(writer: PdfWriter, starts: dict[Path, int]) -> None:
    """Let links to the book's own pages lead to their place here; drop those to other files, which would name this machine's."""
    from pypdf.generic import ArrayObject, NameObject

    for sheet in writer.pages:
        kept = ArrayObject()
        for reference in sheet.get("/Annots") or []:
            annotation: Any = reference.get_object()
            address = str((annotation.get("/A") or {}).get("/URI", ""))
            if address.startswith("file:"):
                place = starts.get(Path(unquote(urlsplit(address).path)))
                if place is None:
                    continue
                del annotation[NameObject("/A")]
                annotation[NameObject("/Dest")] = ArrayObject(
                    [writer.pages[place].indirect_reference, NameObject("/Fit")]
                )
            kept.append(reference)
        if "/Annots" in sheet:
            sheet[NameObject("/Annots")] = kept
