"""Model merging for cross-lingual transfer, as a Jupyter book and the package behind it.

Names below are loaded when first used, so that ``import xlnb`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Study": "studies",
    "Training": "sft",
    "Evaluation": "evaluation",
    "TaskVector": "task_vectors",
    "Partition": "partitions",
    "partition_c": "partitions",
    "named_partition": "partitions",
    "partition": "ownership",
    "merge": "checkpoints",
    "revert": "checkpoints",
    "export_mergekit": "exporting",
    "layer_swapping": "merging",
    "soup": "merging",
    "task_arithmetic": "merging",
    "ties": "merging",
    "dare": "merging",
    "slerp": "merging",
    "applied": "merging",
    "METHODS": "methods",
    "extract_number": "answers",
    "load_outcomes": "results",
    "load_scores": "results",
    "scores": "results",
    "select": "results",
    "load_base": "models",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from xlnb.answers import extract_number as extract_number
    from xlnb.checkpoints import merge as merge
    from xlnb.checkpoints import revert as revert
    from xlnb.evaluation import Evaluation as Evaluation
    from xlnb.exporting import export_mergekit as export_mergekit
    from xlnb.merging import applied as applied
    from xlnb.merging import dare as dare
    from xlnb.merging import layer_swapping as layer_swapping
    from xlnb.merging import slerp as slerp
    from xlnb.merging import soup as soup
    from xlnb.merging import task_arithmetic as task_arithmetic
    from xlnb.merging import ties as ties
    from xlnb.methods import METHODS as METHODS
    from xlnb.models import load_base as load_base
    from xlnb.ownership import partition as partition
    from xlnb.partitions import Partition as Partition
    from xlnb.partitions import named_partition as named_partition
    from xlnb.partitions import partition_c as partition_c
    from xlnb.results import load_outcomes as load_outcomes
    from xlnb.results import load_scores as load_scores
    from xlnb.results import scores as scores
    from xlnb.results import select as select
    from xlnb.sft import Training as Training
    from xlnb.studies import Study as Study
    from xlnb.task_vectors import TaskVector as TaskVector


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"xlnb.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xlnb' has no attribute {name!r}")
