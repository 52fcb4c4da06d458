"""How one tensor of a merge comes about."""

from __future__ import annotations

from dataclasses import dataclass

from xlnb.weights.tensor_files import Stored


@dataclass(frozen=True)
class Source:
    """Where an expert's tensor comes from: a stored tensor, and a LoRA pair whose update is added to it, if any."""

    stored: Stored
    pair: tuple[Stored, Stored] | None = None
    scaling: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the output comes about: ``copy`` byte for byte, ``cast``, ``linear`` (weighted sum of the sources,
    divided by ``total``), ``deltas`` (base plus weighted sum of updates), ``ties``, ``dare`` or ``slerp``."""

    name: str
    kind: str
    sources: tuple[Source, ...]
    weights: tuple[float, ...] = ()
    base: Source | None = None
    total: float = 1.0
    density: float = 1.0
    seed: int = 0
    t: float = 0.5
