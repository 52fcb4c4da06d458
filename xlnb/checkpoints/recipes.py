"""Who takes part in a merge, and how one tensor of it comes about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from xlnb.weights.adapters import Adapter, open_adapter
from xlnb.weights.kernels import Options
from xlnb.weights.tensor_files import Checkpoint, Stored
from xlnb.weights.vocabularies import in_common


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


@dataclass(frozen=True)
class Expert:
    """A folder that takes part, the base as well, under the name that messages use for it (``math``, ``expert 1``)."""

    role: str
    checkpoint: Checkpoint

    @cached_property
    def adapter(self) -> Adapter | None:
        """The LoRA adapter, or None for a full checkpoint."""
        return open_adapter(self.checkpoint) if self.checkpoint.is_adapter else None

    def source(self, name: str, base: Expert | None) -> Source:
        """Return where this expert's tensor ``name`` comes from."""
        if self.adapter is None:
            return Source(self.checkpoint.tensors[name])
        assert base is not None
        pair = self.adapter.pairs.get(name)
        return Source(base.checkpoint.tensors[name], pair, self.adapter.scalings[name] if pair else 1.0)

    def __str__(self) -> str:
        return f"{self.role} ({self.checkpoint.folder})"


def seen_alike(full: Sequence[Expert]) -> tuple[list[Expert], list[str]]:
    """Return full checkpoints as :func:`~xlnb.weights.vocabularies.in_common` sees them, and what was left out, in words."""
    found, left_out = in_common([one.checkpoint for one in full])
    return [replace(one, checkpoint=checkpoint) for one, checkpoint in zip(full, found, strict=True)], left_out
