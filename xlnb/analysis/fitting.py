"""Partitions from measurement: which block of which layer matters more to math, by English math and generic text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from xlnb.analysis.interventions import ablated
from xlnb.analysis.lengths import changed
from xlnb.analysis.sensitivity import FISHER, GOLD, SAMPLED, TAYLOR, sensitivity
from xlnb.corpora.sources import check_source, formatted, load_corpus, name_and_path
from xlnb.errors import RequestError, known, whole_number
from xlnb.models.base import load_base
from xlnb.models.engine import Row
from xlnb.weights.partitions import Partition, check_fit
from xlnb.weights.sites import ATTENTION, FFN
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.models.base import Base

CHANGE, ABLATION = "change", "ablation"
OF_EXPERTS = (CHANGE, ABLATION)  # the others look at the base
MEASURES = (FISHER, TAYLOR, *OF_EXPERTS)
# Partitions of a study by name: each block to whom it matters more, or as many whole layers to the language as C gives it.
_LIKE_C = ", as many as C"
FITTED = tuple(f"by {measure}{how}" for how in ("", _LIKE_C) for measure in MEASURES)
_LONGEST = 512  # characters of a text, which bounds time and memory: prompts and completions beyond it are left out


def fitted_by(name: str) -> tuple[str, bool]:
    """Return the measure by which a partition of ``FITTED`` is fitted, and whether it gives the language as many layers as C.

    >>> fitted_by("by fisher"), fitted_by("by change, as many as C")
    (('fisher', False), ('change', True))
    """
    known("fitted partition", name, FITTED)
    return name.removeprefix("by ").removesuffix(_LIKE_C), name.endswith(_LIKE_C)


@dataclass(frozen=True)
class Fit:
    """How a partition is fitted: by which ``measure``, on how many ``samples`` of which ``math`` and ``language`` data.

    Data are corpora by name, or NAME:PATH. ``code`` is the target language. Whole layers, or attention and FFN apart where
    ``by_block``; ``blend`` and ``budget`` as in :meth:`xlnb.weights.partitions.Partition.from_scores`.
    """

    measure: str = FISHER
    code: str = "sw"
    math: str = "templates-english"
    language: str = "prose"
    samples: int = 256
    seed: int = 1000  # no training's; of prose, which is one pool, an expert saw a part all the same
    by_block: bool = False
    blend: float = 0.0
    budget: float | None = None

    def __post_init__(self) -> None:
        known("measure", self.measure, MEASURES)
        whole_number("samples", self.samples, 1)
        check_source(self.math, "en", "math")
        check_source(self.language, self.code, "language")
        check_fit(self.blend, self.budget)


def fit_partition(
    base: str | Path,
    fit: Fit,
    math_expert: str | Path | None = None,
    language_expert: str | Path | None = None,
    device: str = "auto",
) -> tuple[Partition, pd.DataFrame]:
    """Return the partition that a measure gives a model, and the scores behind it by side, layer and block.

    ``fisher`` and ``taylor`` look at the base; ``change`` (how far the experts moved from it) and ``ablation`` (what they lose
    where a site is reverted) at the two experts, which must be given then. Raises RequestError where they are not, where they
    are of another model, and for a model of which a measure would see parts only.
    """
    import pandas as pd

    experts = {"math": math_expert, "language": language_expert}
    if fit.measure in OF_EXPERTS and None in experts.values():
        raise RequestError(f"The measure {fit.measure} looks at experts: give the math expert and the language expert.")
    if fit.measure not in OF_EXPERTS and set(experts.values()) != {None}:
        raise RequestError(
            f"The measure {fit.measure} looks at the base alone: give no experts, or choose {' or '.join(OF_EXPERTS)}."
        )
    vectors = {side: None if folder is None else TaskVector.of_expert(folder, base) for side, folder in experts.items()}
    loaded = load_base(base, device=device)
    texts = {"math": (fit.math, "en"), "language": (fit.language, fit.code)}
    parts = []
    for side, (data, code) in texts.items():
        rows = [] if fit.measure == CHANGE else _rows(loaded, data, code, fit)
        parts.append(SCORES[fit.measure](loaded, rows, vectors[side]).assign(side=side))
    found = pd.concat(parts, ignore_index=True)
    made = partition_of(found, loaded.depth, f"by {fit.measure}", fit.by_block, fit.blend, fit.budget)
    return made, found


def partition_of(
    scores: pd.DataFrame,
    depth: int,
    name: str,
    by_block: bool = False,
    blend: float = 0.0,
    budget: float | None = None,
) -> Partition:
    """Return the partition that scores give: columns side (math, language), layer, block, score. See :class:`Fit`.

    Raises RequestError for a score that is no finite number.
    """
    for side in ("math", "language"):
        _check_finite(scores[scores["side"] == side], "score", f"{side} score")
    math, language = (_by_layer(scores[scores["side"] == side], depth, by_block) for side in ("math", "language"))
    return Partition.from_scores(math, language, name, blend=blend, budget=budget)


def _by_change(base: Base, rows: Sequence[Row], vector: TaskVector | None) -> pd.DataFrame:
    assert vector is not None
    return changed(vector, dict(base.model.named_parameters()))


def _by_ablation(base: Base, rows: Sequence[Row], vector: TaskVector | None) -> pd.DataFrame:
    """Return how much higher the expert's loss is where a block of a layer is reverted; what gains by it counts as zero."""
    assert vector is not None
    losses = ablated(base, vector, rows)
    _check_finite(losses, "loss", "expert's loss")
    means = losses.groupby(["layer", "block"], dropna=False)["loss"].mean().reset_index()
    whole = means[means["layer"].isna()]["loss"].item()
    lost = means.dropna(subset=["layer"])
    return lost.assign(score=(lost["loss"] - whole).clip(lower=0))[["layer", "block", "score"]]


def _of_the_base(measure: str) -> Callable[[Base, Sequence[Row], TaskVector | None], pd.DataFrame]:
    def scores(base: Base, rows: Sequence[Row], vector: TaskVector | None) -> pd.DataFrame:
        found = sensitivity(base, rows, labels=SAMPLED if measure == FISHER else GOLD)
        mine = found[found["measure"] == measure]
        _check_finite(mine, "score", f"{measure} score")
        return mine.groupby(["layer", "block"])["score"].sum().reset_index()

    return scores


SCORES: dict[str, Callable[[Base, Sequence[Row], TaskVector | None], pd.DataFrame]] = {
    FISHER: _of_the_base(FISHER),
    TAYLOR: _of_the_base(TAYLOR),
    CHANGE: _by_change,
    ABLATION: _by_ablation,
}


def _check_finite(table: pd.DataFrame, column: str, what: str) -> None:
    """Refuse numbers that are not finite: pandas would leave them out of sums and means."""
    for row in table.to_dict("records"):
        if not isfinite(row[column]):
            where = f"layer {row['layer']} ({row['block']})" if row["block"] else "the whole model"
            raise RequestError(
                f"The {what} of {where} is {row[column]}: a model whose training diverged has no partition."
            )


def _by_layer(scores: pd.DataFrame, depth: int, by_block: bool) -> dict[str, list[float]]:
    wide = scores.pivot_table(index="layer", columns="block", values="score", aggfunc="sum", fill_value=0)
    wide = wide.reindex(index=range(depth), columns=[ATTENTION, FFN], fill_value=0)
    if by_block:
        return {block: [float(value) for value in wide[block]] for block in (ATTENTION, FFN)}
    return {"layers": [float(value) for value in wide.sum(axis=1)]}


def _rows(base: Base, data: str, code: str, fit: Fit) -> list[Row]:
    name, path = name_and_path(data)
    corpus = load_corpus(name, code, fit.samples, fit.seed, path, max_characters=_LONGEST)
    return [base.row(e.prompt, e.completion) for e in formatted(corpus, base.tokenizer)]
