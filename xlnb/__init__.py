"""Model merging for cross-lingual transfer, as a Jupyter book and the package behind it.

Names below are loaded when first used, so that ``import xlnb`` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: beside another busy process spinning ones steal each other's core.
# OpenMP reads this when torch is loaded; it changes no result, and what a user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "Study": "studies.study",
    "Training": "training.sft",
    "Evaluation": "evaluation.asking",
    "TaskVector": "weights.task_vectors",
    "Partition": "weights.partitions",
    "partition_c": "weights.partitions",
    "named_partition": "weights.partitions",
    "partition": "weights.ownership",
    "merge": "checkpoints.verbs",
    "revert": "checkpoints.verbs",
    "diff": "checkpoints.differences",
    "export_mergekit": "checkpoints.exporting",
    "layer_swapping": "weights.merging",
    "soup": "weights.merging",
    "task_arithmetic": "weights.merging",
    "ties": "weights.merging",
    "dare": "weights.merging",
    "slerp": "weights.merging",
    "applied": "weights.merging",
    "METHODS": "methods",
    "extract_number": "evaluation.answers",
    "load_outcomes": "studies.outcomes",
    "load_scores": "studies.outcomes",
    "scores": "studies.outcomes",
    "select": "studies.outcomes",
    "load_base": "models.base",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from xlnb.checkpoints.differences import diff as diff
    from xlnb.checkpoints.exporting import export_mergekit as export_mergekit
    from xlnb.checkpoints.verbs import merge as merge
    from xlnb.checkpoints.verbs import revert as revert
    from xlnb.evaluation.answers import extract_number as extract_number
    from xlnb.evaluation.asking import Evaluation as Evaluation
    from xlnb.methods import METHODS as METHODS
    from xlnb.models.base import load_base as load_base
    from xlnb.studies.outcomes import load_outcomes as load_outcomes
    from xlnb.studies.outcomes import load_scores as load_scores
    from xlnb.studies.outcomes import scores as scores
    from xlnb.studies.outcomes import select as select
    from xlnb.studies.study import Study as Study
    from xlnb.training.sft import Training as Training
    from xlnb.weights.merging import applied as applied
    from xlnb.weights.merging import dare as dare
    from xlnb.weights.merging import layer_swapping as layer_swapping
    from xlnb.weights.merging import slerp as slerp
    from xlnb.weights.merging import soup as soup
    from xlnb.weights.merging import task_arithmetic as task_arithmetic
    from xlnb.weights.merging import ties as ties
    from xlnb.weights.ownership import partition as partition
    from xlnb.weights.partitions import Partition as Partition
    from xlnb.weights.partitions import named_partition as named_partition
    from xlnb.weights.partitions import partition_c as partition_c
    from xlnb.weights.task_vectors import TaskVector as TaskVector


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"xlnb.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xlnb' has no attribute {name!r}")
