"""What is installed, what is missing, and where the pocket weights would come from."""

from __future__ import annotations

import os
import shutil

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.models.pocket import cached_pocket, pocket_sources
from xlnb.models.pocket_models import POCKET_MODELS, PocketModel
from xlnb.paths import cache_folder, project_root, results_folder, runs_folder

_BOOK = ("jupyterlab", "jupytext", "papermill", "jupyter-book", "matplotlib", "seaborn")


def report() -> str:
    """Return what was found on this machine as a readable text: versions, machine, folders, pocket weights, results."""
    sections = {
        "Packages": _packages(),
        "Machine": _machine(),
        "Folders": _folders(),
    }
    sections |= {
        f"Pocket weights ({model.title}, under {model.terms})": _weights(model) for model in POCKET_MODELS.values()
    }
    return "\n\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def _packages() -> list[str]:
    found = artifacts.versions() | artifacts.versions(_BOOK)
    return [
        f"{name}: not installed (pip install 'xlnb[book]')" if version == "not installed" else f"{name} {version}"
        for name, version in found.items()
    ]


def _machine() -> list[str]:
    import psutil

    root = project_root()
    existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
    return [
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB of memory "
        f"({psutil.virtual_memory().available / 1e9:.0f} GB available; the pocket profile needs 6)",
        f"{shutil.disk_usage(existing).free / 1e9:.0f} GB of disk are free in {existing}",
    ]


def _folders() -> list[str]:
    results = sorted(path.parent.name for path in results_folder().glob("*/outcomes.parquet"))
    return [
        f"artifacts: {runs_folder()}",
        f"committed results: {', '.join(results) if results else 'none'}",
        f"converted weights: {cache_folder()}",
    ]


def _weights(model: PocketModel) -> list[str]:
    lines = []
    try:
        for source in pocket_sources(model=model.name):
            lines.append(f"{'found    ' if source.files else 'not found'} {source.kind}: {source.note}")
        state = cached_pocket(model.name)
        lines.append(f"converted: {state}")
        if not any(line.startswith("found") for line in lines) and "verified" not in state:
            lines.append(model.how_to_get)
    except (RequestError, WorkError) as error:
        lines.append(str(error))
    return lines
