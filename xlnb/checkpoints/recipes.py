"""How one tensor of a merge comes about."""

from __future__ import annotations

from dataclasses import dataclass, field

from xlnb.weights.kernels import Options
from xlnb.weights.tensor_files import Stored


@dataclass(frozen=True)
class Source:
    """Where an expert's tensor comes from: a stored tensor, and a LoRA pair whose update is added to it, if any."""

    stored: Stored
    pair: tuple[Stored, Stored] | None = None
    scaling: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the output comes about: ``copy`` byte for byte, ``cast``, or by the kernel of a merge's slug."""

    name: str
    kind: str
    sources: tuple[Source, ...]
    options: Options = field(default_factory=Options)
    base: Source | None = None
