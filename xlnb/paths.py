"""Where things are kept: the project's folders and the cache shared between checkouts."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """Return the project's folder: the checkout that holds the package, or XLNB_HOME where that is set."""
    return Path(os.environ.get("XLNB_HOME") or Path(__file__).resolve().parent.parent)


def snakefile() -> Path:
    """Return the file by which Snakemake runs the grid; it lies in the checkout, wherever results are kept."""
    return Path(__file__).resolve().parent.parent / "notebooks" / "Snakefile"


def runs_folder() -> Path:
    """Return the folder of artifacts (experts, outcomes, executed notebooks): never committed."""
    return project_root() / "runs"


def results_folder() -> Path:
    """Return the folder of the committed results that the book reads."""
    return project_root() / "book" / "results"


def cache_folder() -> Path:
    """Return the folder of converted weights, shared between checkouts: XLNB_CACHE, or xlnb in the user's cache."""
    if given := os.environ.get("XLNB_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xlnb"
