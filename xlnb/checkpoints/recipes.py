"""Who takes part in a merge, and how one tensor of it comes about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from xlnb.weights.adapters import Adapter, Pair, open_adapter
from xlnb.weights.kernels import Options
from xlnb.weights.tensor_files import Checkpoint, Stored
from xlnb.weights.vocabularies import in_common


@dataclass(frozen=True)
class Source:
    """Where an expert's tensor comes from: a stored tensor, and a LoRA pair whose update is added to it, if any."""

    stored: Stored
    pair: Pair | None = None


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
        return Source(base.checkpoint.tensors[name], self.adapter.pair_of(name))

    def __str__(self) -> str:
        return f"{self.role} ({self.checkpoint.folder})"


def seen_alike(everyone: Sequence[Expert], base: Expert | None) -> tuple[list[Expert], list[str]]:
    """Return who takes part as if all had been saved alike, and what was left out of each, in words.

    Full checkpoints are seen as :func:`~xlnb.weights.vocabularies.in_common` sees them, adapters without the embeddings and
    heads of the ``base`` that their files hold.
    """
    full = [one for one in everyone if one.adapter is None]
    found, left_out = in_common([one.checkpoint for one in full])
    seen = {one.role: checkpoint for one, checkpoint in zip(full, found, strict=True)}
    origin = seen.get(base.role, base.checkpoint) if base else None
    for one in everyone:
        if one.adapter:
            one.adapter.check_copies(origin)
            seen[one.role] = one.adapter.checkpoint
            left_out += [
                f"{one.checkpoint.folder.name}: {name} is left out, the base's own" for name in one.adapter.copies
            ]
    return [replace(one, checkpoint=seen[one.role]) for one in everyone], left_out
