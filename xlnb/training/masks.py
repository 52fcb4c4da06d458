"""One mask, applied while training: which share of the learning rate each parameter takes."""

from __future__ import annotations

from collections.abc import Collection

from xlnb.training.experts import ALL
from xlnb.weights.partitions import Partition
from xlnb.weights.sites import locate_all


def rates(names: Collection[str], partition: Partition | None, side: str) -> dict[str, float]:
    """Return the share of the learning rate of each parameter that ``side`` (math, language or all) may move; others are out.

    A parameter that is not among them is frozen: no gradient, no optimizer state, no decay. A share between 0 and 1, of a
    transition layer, scales the *rate*: AdamW divides a scaled gradient out again. What lies outside the layers is in neither
    share. Source: ours, for the paper's masked fine-tuning.

    >>> names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
    >>> rates(names, Partition("mine", (0.25, 1)), "language")
    {'model.layers.0.mlp.up_proj.weight': 0.75}
    """
    if side == ALL:
        return dict.fromkeys(names, 1.0)
    assert partition is not None
    sites = locate_all(names).of
    shares = {name: partition.share(site, side) for name, site in sites.items() if site.layer is not None}
    return {name: share for name, share in shares.items() if share > 0}
