"""The commands `xlnb run`, `book`, `pdf`, `readme` and `twins`: the chapters, the book made of them, the README."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from xlnb.commands.options import Device, Dtype, ProfileName
from xlnb.errors import RequestError, WorkError


def run_command(
    notebook: Annotated[
        Path, typer.Argument(help="A notebook, by its path or its number: notebooks/00-a-first-swap.ipynb, 00.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME=VALUE",
            help="Set a parameter; a path is seen from the notebook's folder.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the executed notebook.")] = None,
) -> None:
    """Run a notebook with checked parameters.

    A parameter that the notebook doesn't have, or a value of the wrong type, is refused before anything runs.
    """
    from xlnb.paths import runs_folder
    from xlnb.publishing.book import chapter_path
    from xlnb.publishing.notebooks import run_notebook

    path = chapter_path(str(notebook))
    out = out or runs_folder() / "notebooks" / path.with_suffix(".ipynb").name
    print(run_notebook(path, out, assignments(parameter or [])))


def assignments(texts: list[str]) -> dict[str, str]:
    """Return NAME=VALUE texts, each name once, as a dictionary.

    >>> assignments(["steps=40", "note=a=b"])
    {'steps': '40', 'note': 'a=b'}
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"A parameter is written NAME=VALUE, not {text!r}.")
        if name in values:
            raise RequestError(f"The parameter {name} is given twice.")
        values[name] = value
    return values


def book_command(
    live: Annotated[str, typer.Option(help="The chapters to run live: all, none, or numbers such as 00,01.")] = "none",
    profile: ProfileName = "pocket",
    device: Device = "auto",
    dtype: Dtype = "float32",
    repository: Annotated[
        str,
        typer.Option(
            metavar="https://github.com/OWNER/NAME", help="Add links to the source, and buttons for Binder and Colab."
        ),
    ] = "",
) -> None:
    """Run the chapters and render the book.

    Chapters that aren't run live read the committed results. GitHub's Actions say themselves which repository it is.
    """
    from xlnb.chapters.home import WORDS
    from xlnb.publishing.book import build

    repository = repository or repository_of(os.environ)
    build(live, profile=profile, words=WORDS, repository=repository, device=device, dtype=dtype)


def repository_of(environment: Mapping[str, str]) -> str:
    """Return the address of the repository on whose behalf a workflow of github.com runs, or nothing.

    >>> repository_of({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/name"}), repository_of({})
    ('https://github.com/owner/name', '')
    """
    server, name = (environment.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY"))
    return f"{server}/{name}" if server == "https://github.com" and name else ""


def pdf_command(
    out: Annotated[Path | None, typer.Option(help="Where to write it.", show_default="book/_build/xlnb.pdf")] = None,
) -> None:
    """Print the rendered book as one PDF, with the machine's own Chromium."""
    from xlnb.paths import project_root
    from xlnb.publishing.printing import print_book

    book = project_root() / "book"
    out = out or book / "_build" / "xlnb.pdf"
    sheets = print_book(book / "_build" / "html", book / "_toc.yml", out)
    print(f"{sheets} pages, {out.stat().st_size / 1e6:.1f} MB: {out}")


def readme_command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 where a text would change.")
    ] = False,
) -> None:
    """Bring the README's computed texts and figures up to date with the committed results."""
    from xlnb.chapters import home
    from xlnb.paths import project_root
    from xlnb.publishing.pages import refill

    changed = refill(project_root() / "README.md", home.WORDS, write=not check)
    if check and changed:
        raise WorkError(f"README.md is not what the results say: {', '.join(changed)}. `xlnb readme` writes it anew.")
    if not check:
        home.save_figures()
        print(f"README.md: {', '.join(changed) or 'nothing'} changed.")


def twins_command(
    write: Annotated[bool, typer.Option("--write", help="Make each .ipynb anew from its .py.")] = False,
    strip: Annotated[
        bool, typer.Option("--strip", help="Take outputs and execution counts out of each .ipynb.")
    ] = False,
) -> None:
    """Check the notebooks against their .py twins.

    Each must say the same as its twin and carry no outputs.
    """
    from xlnb.paths import project_root
    from xlnb.publishing.notebooks import notebook_paths, strip_outputs, twin_problems, write_ipynb_from_py

    folder = project_root() / "notebooks"
    if write:
        for py in sorted(folder.glob("[0-9][0-9]-*.py")):
            print(write_ipynb_from_py(py))
    if strip:
        for path in filter(strip_outputs, notebook_paths(folder)):
            print(f"{path}: outputs taken out")
    if problems := twin_problems(folder):
        raise RequestError(". ".join(problems) + ". `xlnb twins --write` makes the notebooks anew from the .py files; "
                           "`xlnb twins --strip` takes outputs out.")  # fmt: skip
