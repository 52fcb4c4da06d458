"""A request to merge, opened and checked: everything that can be wrong is found here, before a byte is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from xlnb.checkpoints.agreement import check_agreement, check_unquantized, check_whole
from xlnb.checkpoints.recipes import Source
from xlnb.errors import RequestError
from xlnb.weights.adapters import Adapter, open_adapter
from xlnb.weights.kernels import Merge
from xlnb.weights.sites import Sites, locate_all
from xlnb.weights.tensor_files import DTYPES, Checkpoint, open_checkpoint


@dataclass(frozen=True)
class Expert:
    """A folder that takes part in a merge, under the name that messages use for it (``math``, ``expert 1``)."""

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
        return Source(base.checkpoint.tensors[name], pair, self.adapter.scaling if pair else 1.0)


# ----------------------------------------------------------------------------------------------------- opening, checking


@dataclass(frozen=True)
class Job:
    """A request that was checked: who takes part, what the output looks like, and where it goes."""

    merge: Merge
    experts: tuple[Expert, ...]
    base: Expert | None
    reference: Expert  # whose files the output's are like
    sites: Sites
    dtype: str | None
    stays_adapter: bool
    out: Path


def _open(
    merge: Merge,
    folders: Mapping[str, str | Path],
    base: str | Path | None,
    dtype: str | None,
    as_checkpoint: bool,
    same_base: bool,
    out: str | Path,
) -> Job:
    if dtype is not None and dtype not in DTYPES:
        raise RequestError(f"dtype={dtype!r}: choose one of {', '.join(DTYPES)}.")
    out = Path(out)
    _check_out(out, [Path(folder) for folder in [*folders.values(), *([base] if base else [])]])
    experts = tuple(Expert(role, open_checkpoint(folder)) for role, folder in folders.items())
    origin = Expert("base", open_checkpoint(base)) if base else None
    if origin and origin.checkpoint.is_adapter:
        raise RequestError(f"The base {base} is an adapter: give the checkpoint that it was trained on.")
    found = [expert.adapter for expert in experts]
    low_rank = [adapter for adapter in found if adapter is not None]
    stays = len(low_rank) == len(experts) and merge.linear and not as_checkpoint
    if low_rank and not stays and origin is None:
        raise RequestError(
            f"{_first_adapter(experts).role} is an adapter, and {merge.slug} "
            + (
                "of adapters and checkpoints together"
                if len(low_rank) < len(experts)
                else "of adapters, to a checkpoint,"
            )
            + " needs the model it was trained on: say --base."
        )
    if merge.updates and origin is None and not stays:
        raise RequestError(f"{merge.slug} adds updates to the base: say --base.")
    _check_base_names(low_rank, same_base)
    _check_shapes(experts)
    full = [expert for expert in [origin, *experts] if expert and not expert.checkpoint.is_adapter]
    for one in full:
        check_unquantized(one.checkpoint, one.role)
        check_whole(one.checkpoint, one.role)
    for one, other in combinations(full, 2):
        check_agreement(one.checkpoint, other.checkpoint, (one.role, other.role), () if dtype else DTYPES)
    sites = _sites(experts, full, stays)
    for expert in experts:
        if expert.adapter is not None and origin:
            _check_fit(expert, expert.adapter, origin)
    reference = full[0] if full and not stays else experts[0]
    return Job(merge, experts, origin, reference, sites, DTYPES.get(dtype or ""), stays, out)


def _first_adapter(experts: Sequence[Expert]) -> Expert:
    return next(expert for expert in experts if expert.adapter is not None)


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    if out.name in ("", ".."):
        raise RequestError(f"--out {out} is no name for a new folder: give one.")
    real = Path(os.path.realpath(out))
    for folder in inputs:
        if real.is_relative_to(os.path.realpath(folder)):
            raise RequestError(
                f"--out {out} lies inside the input {folder}, and inputs are never changed: choose another place."
            )
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise RequestError(f"--out {out} exists already: give a folder that does not exist or is empty.")
    above = next(parent for parent in out.absolute().parents if parent.exists() or parent.is_symlink())
    if not above.is_dir():
        raise RequestError(f"--out {out} cannot be made: {above} is not a folder.")


def _check_base_names(found: Sequence[Adapter], same_base: bool) -> None:
    names = {adapter.base_name.rstrip("/") for adapter in found}
    if len(names) > 1 and not same_base:
        raise RequestError(
            f"The adapters were trained on different bases: {', '.join(sorted(map(repr, names)))}. If these are names of the "
            "same model, say --same-base."
        )


def _check_shapes(experts: Sequence[Expert]) -> None:
    seen: dict[str, tuple[Expert, tuple[int, ...]]] = {}
    for expert in experts:
        for name, shape in (expert.adapter.shapes if expert.adapter else {}).items():
            other, before = seen.setdefault(name, (expert, shape))
            if shape != before:
                raise RequestError(
                    f"{other.role} ({other.checkpoint.folder}) and {expert.role} ({expert.checkpoint.folder}) adapt {name!r} of "
                    f"shapes {list(before)} and {list(shape)}: they are of different models."
                )


def _check_fit(expert: Expert, adapter: Adapter, base: Expert) -> None:
    for name, shape in adapter.shapes.items():
        if name not in base.checkpoint.tensors or base.checkpoint.tensors[name].shape != shape:
            has = base.checkpoint.tensors.get(name)
            raise RequestError(
                f"{expert.role} ({expert.checkpoint.folder}) adapts {name!r} of shape {list(shape)}, but the base "
                f"{base.checkpoint.folder} has " + (f"it in shape {list(has.shape)}." if has else "no such parameter.")
            )


def _sites(experts: Sequence[Expert], full: Sequence[Expert], stays: bool) -> Sites:
    if full and not stays:
        return full[0].checkpoint.sites
    names = [name for expert in experts for name in expert.checkpoint.tensors]
    sites = locate_all(names)
    if full:  # the depth is the base's: adapters need not have all layers
        return replace(sites, depth=full[0].checkpoint.sites.depth)
    if any(_picks_layers(expert.checkpoint.config) for expert in experts):
        raise RequestError("An adapter changes some layers only, so it does not tell how many there are: say --base.")
    return sites


def _picks_layers(config: Mapping[str, Any]) -> bool:
    """Say whether an adapter's config picks layers, so that its last layer need not be the model's."""
    modules = config.get("target_modules")
    if config.get("layers_to_transform") is not None or (isinstance(modules, str) and modules != "all-linear"):
        return True
    excluded = config.get("exclude_modules") or []
    named = [*(modules or []), *([excluded] if isinstance(excluded, str) else excluded)]
    return any(character.isdigit() for name in named for character in str(name))


def _title(job: Job) -> str:
    who = ", ".join(f"{e.role} {e.checkpoint.folder}" for e in [*job.experts, *([job.base] if job.base else [])])
    return f"{job.merge.title} of {who}"
