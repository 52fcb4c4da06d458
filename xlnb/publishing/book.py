"""The book: run its chapters, render them with the prose pages, check the result, put it in place.

``xlnb book --live 00,01`` is the command. A chapter that isn't run live still runs, but reads the committed results.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from xlnb.errors import RequestError, WorkError, known
from xlnb.paths import project_root
from xlnb.publishing.notebooks import notebook_parameters, notebook_paths, run_notebook
from xlnb.publishing.pages import Words, check_places, filled

if TYPE_CHECKING:
    from bs4 import Tag

PROFILES = ("smoke", "pocket")
SOME_REPOSITORY = (
    "https://github.com/OWNER/NAME"  # what prose pages call it; a book that knows its repository says which
)


def chapters(root: Path | None = None) -> dict[str, Path]:
    """Return the chapters' notebooks by number ("00", "01", ...), in order."""
    return {path.name[:2]: path for path in notebook_paths((root or project_root()) / "notebooks")}


def chapter_path(name: str, root: Path | None = None) -> Path:
    """Return the notebook that a number ("05", or "5"), a name or a path means."""
    found = {key: path for number, path in chapters(root).items() for key in (number, path.stem)}
    key = name.removesuffix(".ipynb")
    key = key.zfill(2) if key.isdigit() else key
    if key not in found and Path(name).is_file():
        return Path(name)
    return found[known("notebook", key, found)]


def live_chapters(live: str | Collection[str], there: Collection[str]) -> set[str]:
    """Return the numbers of the chapters to run live.

    >>> sorted(live_chapters("00,1", ["00", "01", "02"])), live_chapters("none", ["00"])
    (['00', '01'], set())
    """
    if live in ("all", "none"):
        return set(there) if live == "all" else set()
    given = live.split(",") if isinstance(live, str) else live
    numbers = sorted({part.strip().zfill(2) for part in given if part.strip()})
    return {known("chapter", number, [*there, "all", "none"]) for number in numbers}


def toc_pages(toc: Path) -> list[str]:
    """Return the pages that a _toc.yml names, in order, without suffixes."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    return list(parse_toc_yaml(toc))


def minutes_live(numbers: Collection[str], profile: str, root: Path) -> float | None:
    """Return how many minutes these chapters took live on two cores (book/minutes.yml), or None where one wasn't measured."""
    import yaml

    measured = yaml.safe_load((root / "book" / "minutes.yml").read_text(encoding="utf-8"))
    table = {name[:2]: minutes for name, minutes in measured.get(profile, {}).items()}
    return sum(table[n] for n in numbers) if set(numbers) <= set(table) else None


def build(
    live: str | Collection[str] = "none",
    profile: str = "pocket",
    *,
    out: str | Path | None = None,
    root: str | Path | None = None,
    words: Words | None = None,
    repository: str = "",
    **parameters: str,
) -> Path:
    """Run all chapters, render the book and return the path of its first page.

    live: "all", "none", or the numbers of the chapters that compute; the others read the committed results
    profile: handed to every chapter: smoke or pocket
    out: where the site goes; book/_build/html where nothing is said
    root: the project's folder; for tests
    words: what the prose pages' placeholders say, by name
    repository: https://github.com/OWNER/NAME, where links to the source and buttons for Binder and Colab lead; none without it
    parameters: of the chapters that run live: device, dtype

    Where a chapter or the rendering fails, an older site stays.
    """
    root = Path(root) if root else project_root()
    out = Path(out) if out else root / "book" / "_build" / "html"
    known("profile", profile, PROFILES)
    _buttons(repository)
    _require_tools()
    notebooks = chapters(root)
    numbers = live_chapters(live, notebooks)
    _check_toc(root, notebooks)
    check_places(sorted((root / "book").glob("*.md")), words or {})
    print(_announcement(numbers, notebooks, profile, root), flush=True)
    work = root / "runs" / "book" / profile
    started = time.monotonic()
    for number in sorted(numbers):
        path = notebooks[number]
        print(f"  {path.stem}: running live", flush=True)
        print(_run(path, work / path.name, {"profile": profile, "live": True, **parameters}), flush=True)
    reading = [path for number, path in notebooks.items() if number not in numbers]
    # Each reads committed results on one core; papermill changes the folder that its process is in, so each has its own.
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        told = [pool.submit(_run, path, work / path.name, {"profile": profile, "live": False}) for path in reading]
        try:
            for one in told:
                print(f"{one.result()}, from results", flush=True)
        finally:  # where one fails, no other is begun
            pool.shutdown(cancel_futures=True)
    executed = [work / path.name for path in notebooks.values()]
    if problems := [p for path in executed for p in check_executed(path)]:
        raise WorkError("The book was not rendered: " + " ".join(problems))
    html = _render(root, executed, work, words or {}, repository)
    if problems := check_html(html):
        raise WorkError(f"The rendered book has faults ({html}): " + " ".join(problems[:10]))
    _put_in_place(html, out)
    print(f"The book took {_minutes(time.monotonic() - started)}. Read it: {out / 'index.html'}", flush=True)
    return out / "index.html"


def _run(path: Path, out: Path, parameters: Mapping[str, Any]) -> str:
    begun = time.monotonic()
    run_notebook(path, out, parameters)
    return f"  {path.stem}: {_minutes(time.monotonic() - begun)}"


def _require_tools() -> None:
    if missing := [name for name in ("papermill", "jupyter_book", "nbformat") if find_spec(name) is None]:
        raise WorkError(
            f"{', '.join(missing)} cannot be found: the book needs the extra `book` (pip install -e '.[book]')."
        )


def _check_toc(root: Path, notebooks: dict[str, Path]) -> None:
    named = {page for page in toc_pages(root / "book" / "_toc.yml") if page.startswith("notebooks/")}
    there = {f"notebooks/{path.stem}" for path in notebooks.values()}
    if named != there:
        raise RequestError(f"book/_toc.yml and notebooks/ disagree about {', '.join(sorted(named ^ there))}.")


def _announcement(numbers: set[str], notebooks: dict[str, Path], profile: str, root: Path) -> str:
    rest = len(notebooks) - len(numbers)
    others = f", {rest} from committed results" if rest else ""
    if not numbers:
        return f"Making the book, profile {profile}: no chapter live{others}"
    minutes = minutes_live(numbers, profile, root)
    long = f"about {minutes:.0f} minutes on two cores" if minutes else "how long was not measured"
    what = f"{'chapter' if len(numbers) == 1 else 'chapters'} {', '.join(sorted(numbers))} live ({long})"
    return f"Making the book, profile {profile}: {what}{others}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def _render(root: Path, executed: list[Path], work: Path, words: Words, repository: str) -> Path:
    """Render pages and executed notebooks with Jupyter Book, warnings being errors, and return the site's folder."""
    source, built, log = work / "source", work / "built", work / "jupyter-book.log"
    for folder in (source, built):  # afresh each time: Sphinx would not warn again about a page it has cached
        shutil.rmtree(folder, ignore_errors=True)
    assemble(root / "book", executed, source, words, repository)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", "-n", "-W", "--keep-going", "--path-output", str(built), str(source)]
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=work, check=False).returncode
    html = built / "_build" / "html"
    if code or not (html / "index.html").exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [re.sub(r"\x1b\[[0-9;]*m", "", line).replace(f"{source}/", "") for line in lines]
        warnings = [line for line in told if re.search(r"WARNING|ERROR|Error:", line)] or told[-3:]
        raise WorkError(f"Jupyter Book refused the book (its words are in {log}): " + " ".join(warnings[:8]))
    return html


def _buttons(repository: str) -> dict[str, Any]:
    """Return the theme's options for a repository: links that lead there, and to Binder and Colab with a chapter of it."""
    if not repository:
        return {}
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
        raise RequestError(f"--repository takes {SOME_REPOSITORY}, as Binder and Colab do, not {repository!r}.")
    return {
        "repository_url": repository,
        "repository_branch": "main",
        "path_to_docs": "",  # a chapter lies in notebooks/, both there and where the book is laid out
        "use_repository_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }


def _add_theme_options(path: Path, options: dict[str, Any]) -> None:
    import yaml

    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["sphinx"]["config"]["html_theme_options"].update(options)
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def assemble(book: Path, executed: list[Path], source: Path, words: Words, repository: str = "") -> None:
    """Lay out the Sphinx source: the book's pages, filled in, at its top, the executed notebooks in notebooks/."""
    import nbformat

    shutil.copytree(book, source, ignore=shutil.ignore_patterns("_build", "results", ".*"))
    # Jupyter Book would load every script of _static on every page; the pages with formulas alone need this one.
    if (source / "_static" / "mathjax").exists():
        shutil.move(source / "_static" / "mathjax", source / "_extra" / "mathjax")
    for page in sorted(source.glob("*.md")):
        text = filled(page.read_text(encoding="utf-8"), words)
        page.write_text(text.replace(SOME_REPOSITORY, repository or SOME_REPOSITORY), encoding="utf-8")
    _add_theme_options(source / "_config.yml", _buttons(repository))
    (source / "notebooks").mkdir()
    for path in executed:
        notebook = nbformat.read(path, as_version=4)
        if _ran_with_defaults(path, notebook):  # then papermill's cell says nothing that the cell above it doesn't say
            notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":  # what leads to the prose pages in JupyterLab leads there in the book, too
                cell.source = cell.source.replace("](../book/", "](../")
        nbformat.write(notebook, source / "notebooks" / path.name)


def _ran_with_defaults(path: Path, notebook: Any) -> bool:
    used = notebook.metadata.get("papermill", {}).get("parameters", {})
    defaults = {name: info["default"] for name, info in notebook_parameters(path).items()}
    return all(name in defaults and defaults[name] == value for name, value in used.items())


def _put_in_place(html: Path, out: Path) -> None:
    """Replace the site at ``out``: copied beside, then renamed."""
    fresh, old = out.with_name(f".{out.name}-new"), out.with_name(f".{out.name}-old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(html, fresh)
    if out.exists():
        os.replace(out, old)
    os.replace(fresh, out)
    shutil.rmtree(old, ignore_errors=True)


def check_executed(path: Path) -> list[str]:
    """Return a sentence for each fault of an executed notebook: an error among its outputs, a cell that wasn't run."""
    import nbformat

    problems = []
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, start=1):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"{path.name}, cell {number}: {output.ename}: {output.evalue}.")
        if cell.source.strip() and cell.execution_count is None:
            problems.append(f"{path.name}, cell {number} was not run.")
    return problems


def check_html(folder: str | Path) -> list[str]:
    """Return a sentence for each fault of a rendered site; none means it is whole and stands alone.

    Faults: something loaded from another address (styles, scripts, images, fonts, frames; ordinary links are fine), a local file
    or page that is missing or empty, an error or traceback among the outputs, no page at all.
    """
    from bs4 import BeautifulSoup

    folder = Path(folder)
    # The theme leaves templates in _static: no pages.
    pages = [page for page in sorted(folder.rglob("*.html")) if "_static" not in page.parts]
    if not pages:
        return [f"{folder} holds no pages."]
    problems = []
    for file in pages:
        name = file.relative_to(folder)
        page = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        if page.find(class_="traceback") or "Traceback (most recent call last)" in page.get_text():
            problems.append(f"{name} shows an error among its outputs.")
        loaded = [address for tag in page.find_all(True) for address in _loaded(tag)]
        linked = [str(link.get("href", "")) for link in page.find_all("a")]
        problems += [f"{name} loads {address}." for address in loaded if _is_external(address)]
        for address in loaded + linked:
            if _is_missing(address, file, folder):
                problems.append(f"{name} needs {address}, which is missing or empty.")
    for style in sorted(folder.rglob("*.css")):
        for address in _addresses_in_css(style.read_text(encoding="utf-8", errors="replace")):
            if _is_external(address):
                problems.append(f"{style.relative_to(folder)} loads {address}.")
    return problems


_HARMLESS_RELATIONS = {"canonical", "license", "author", "next", "prev", "search", "alternate", "index"}
_ADDRESS_IN_SCRIPT = re.compile(r"""(?:import|from|importScripts|fetch)\s*\(?\s*["'](https?:[^"']+|//[^"']+)["']""")


def _loaded(tag: Tag) -> Iterator[str]:
    """Yield what an element loads: by its attributes, its style or its script."""
    values: dict[str, Any] = tag.attrs
    yield from (values[name] for name in ("src", "poster", "background") if name in values)
    yield from (part.split()[0] for part in values.get("srcset", "").split(",") if part.split())
    yield from _addresses_in_css(values.get("style", ""))
    if tag.name == "object":
        yield values.get("data", "")
    elif tag.name == "link" and not _HARMLESS_RELATIONS.intersection(values.get("rel", [])):
        yield values.get("href", "")
    elif tag.name in ("image", "use", "feimage"):
        yield values.get("href") or values.get("xlink:href", "")
    elif tag.name == "style":
        yield from _addresses_in_css(tag.get_text())
    elif tag.name == "script":
        yield from _ADDRESS_IN_SCRIPT.findall(tag.get_text())


def _addresses_in_css(text: str) -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = re.findall(r"""url\(\s*["']?([^"')\s]+)|@import\s+["']([^"']+)""", text)
    return [first or second for first, second in found]


def _is_external(address: str) -> bool:
    return bool(re.match(r"\s*(?:https?:|ftp:|wss?:)?//", address, flags=re.IGNORECASE))


def _is_missing(address: str, page: Path, folder: Path) -> bool:
    """Return whether an address means a local file that isn't there or holds nothing."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return False
    path = unquote(parts.path)
    target = folder / path.lstrip("/") if path.startswith("/") else page.parent / path
    return not target.is_dir() and not (target.is_file() and target.stat().st_size)
