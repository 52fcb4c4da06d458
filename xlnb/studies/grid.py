"""The grid of an experiment: which of its cells and experts are made, committed or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xlnb.studies.experiments import Experiment

if TYPE_CHECKING:
    from xlnb.studies.study import Study


def survey(studies: Sequence[Study], experiment: Experiment) -> dict[Path, str]:
    """Return what each file of an experiment is: committed, made or missing; no model is loaded.

    Cells first, then the folders of the experts that missing cells need (made or missing).
    """
    cells: dict[Path, str] = {}
    experts: dict[Path, str] = {}
    for study in studies:
        for cell in (cell for ask in experiment.asks for cell in study.cells(ask)):
            cells[cell.path] = study.state(cell)
            if cells[cell.path] == "missing":
                experts |= {folder: "made" if folder.is_dir() else "missing" for folder in cell.needs}
    return cells | experts


def survey_text(studies: Sequence[Study], experiment: Experiment) -> str:
    """Return :func:`survey` for a reader: a line a file, below a line of counts."""
    found = survey(studies, experiment)
    cells, experts = (
        Counter(state for path, state in found.items() if (path.suffix == ".parquet") == is_cell)
        for is_cell in (True, False)
    )
    counted = ", ".join(f"{cells[state]} {state}" for state in ("committed", "made", "missing"))
    head = [f"{sum(cells.values())} cells: {counted}."]
    if experts:
        head.append(
            f"Missing cells need {sum(experts.values())} experts: {experts['made']} made, {experts['missing']} missing."
        )
    root = studies[0].folder
    return "\n".join([*head, *(f"{state:9} {path.relative_to(root)}" for path, state in found.items())])
