"""A request to merge, opened and checked: everything that can be wrong is found here, before a byte is written."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from xlnb.checkpoints.agreement import check_agreement, check_whole
from xlnb.checkpoints.recipes import Expert, seen_alike
from xlnb.errors import RequestError
from xlnb.weights.adapters import Adapter
from xlnb.weights.kernels import Merge
from xlnb.weights.sites import Sites, bare_name, locate_all, locate_among
from xlnb.weights.tensor_files import DTYPES, Checkpoint, language_setting, open_checkpoint
from xlnb.weights.vocabularies import in_common


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
    adapters: list[Adapter]  # the experts that are some
    out: Path
    started: float
    trust_configs: bool = False
    left_out: tuple[str, ...] = ()  # of the inputs, in words

    @property
    def everyone(self) -> dict[str, Expert]:
        """The experts and the base, if any, by their roles."""
        return {one.role: one for one in (*self.experts, self.base) if one}

    @property
    def title(self) -> str:
        """What is merged, in words."""
        return f"{self.merge.title} of " + ", ".join(
            f"{role} {one.checkpoint.folder}" for role, one in self.everyone.items()
        )


def _open(
    merge: Merge,
    folders: Mapping[str, str | Path],
    base: str | Path | None,
    dtype: str | None,
    as_checkpoint: bool,
    same_base: bool,
    out: str | Path,
    trust_configs: bool = False,
) -> Job:
    started = time.time()
    if dtype is not None and dtype not in DTYPES:
        raise RequestError(f"dtype={dtype!r}: choose one of {', '.join(DTYPES)}.")
    out, inputs = Path(out), [Path(folder) for folder in [*folders.values(), *([base] if base else [])]]
    for path in (out, *inputs):
        _check_spelling(path)
    _check_out(out, inputs)
    experts = tuple(Expert(role, open_checkpoint(folder)) for role, folder in folders.items())
    origin = Expert("base", open_checkpoint(base)) if base else None
    if origin and origin.checkpoint.is_adapter:
        raise RequestError(f"The base {base} is an adapter: give the checkpoint that it was trained on.")
    low_rank = [expert for expert in experts if expert.adapter]
    stays = len(low_rank) == len(experts) and merge.linear and not as_checkpoint
    if low_rank and not stays and origin is None:
        mixed = len(low_rank) < len(experts)
        what = "of adapters and checkpoints together" if mixed else "of adapters, to a checkpoint,"
        raise RequestError(
            f"{low_rank[0].role} is an adapter, and {merge.slug} {what} needs the model it was trained on: say --base."
        )
    if merge.updates and origin is None and not stays:
        raise RequestError(f"{merge.slug} adds updates to the base: say --base.")
    adapters = [expert.adapter for expert in experts if expert.adapter]
    _check_base_names(adapters, same_base)
    full = [one for one in (origin, *experts) if one and one.adapter is None]
    for one in full:
        check_whole(one, merge.by_partition)
    everyone, left_out = seen_alike([one for one in (origin, *experts) if one], origin)
    if origin:
        origin = everyone.pop(0)
    experts = tuple(everyone)
    full, low_rank = ([one for one in (origin, *experts) if one and bool(one.adapter) == has] for has in (False, True))
    adapters = [expert.adapter for expert in low_rank if expert.adapter]
    _check_shapes(low_rank, origin, stays)
    for adapter in adapters:
        adapter.check_numbers()
    if origin:
        _tell_bases(low_rank, origin, same_base, trust_configs)
    for one, other in combinations(full, 2):
        check_agreement(one, other, () if dtype else DTYPES, trust_configs, merge.by_partition)
    # Where all parameters are merged alike nobody needs to know where they lie.
    sites = _sites(experts, full, stays) if merge.by_partition else Sites({}, 0, "")
    reference = full[0] if full and not stays else experts[0]
    stored = DTYPES.get(dtype or "")
    return Job(
        merge, experts, origin, reference, sites, stored, stays, adapters, out, started, trust_configs, tuple(left_out)
    )


_LONGEST = 220  # bytes of the output's name: while it is written it has some more, and file systems end at 255


def _check_spelling(path: Path) -> None:
    """Refuse a name that is no text, which neither provenance nor messages could have, or none of a file."""
    if "\0" in str(path):
        raise RequestError(f"The path {str(path)!r} has a null character: no file can be called so.")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RequestError(f"The path {str(path)!r} is not UTF-8: rename the folder, or give a link to it.") from None


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    if out.name in ("", ".."):
        raise RequestError(f"--out {out} is no name for a new folder: give one.")
    if len(os.fsencode(out.name)) > _LONGEST:
        raise RequestError(f"--out: the name {out.name[:40]}... is too long, give one of at most {_LONGEST} bytes.")
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
    if not os.access(above, os.W_OK | os.X_OK):
        raise RequestError(f"--out {out} cannot be made: you may not write in {above}. Choose another place.")


def _check_base_names(found: Sequence[Adapter], same_base: bool) -> None:
    configs = [adapter.checkpoint.config for adapter in found]
    names = {str(config.get("base_model_name_or_path") or "").rstrip("/") for config in configs}
    if len(names) > 1 and not same_base:
        raise RequestError(
            f"The adapters were trained on different bases: {', '.join(sorted(map(repr, names)))}. If these are names of the "
            "same model, say --same-base."
        )


def _tell_bases(adapted: Sequence[Expert], base: Expert, same_base: bool, trust_configs: bool) -> None:
    told = dict.fromkeys(check_named_base(expert, base, trust_configs) for expert in adapted)
    for line in filter(None, () if same_base else told):
        print(line, file=sys.stderr)


def check_named_base(expert: Expert, base: Expert, trust_configs: bool = False) -> str:
    """Refuse an adapter whose config names a folder of other weights than the ``base``, as full checkpoints are refused.

    Where it names something else than the base that cannot be looked at, nothing is refused, since the hub and a local copy have
    different names: then a line that says so is returned, else nothing.
    """
    name = str(expert.checkpoint.config.get("base_model_name_or_path") or "").rstrip("/")
    if not name or _is_called(base.checkpoint.folder, name):
        return ""
    if (found := _unquantized(name)) is None:
        return f"The adapter says that its base is {name}; taken onto {base.checkpoint.folder}."
    named, seen = in_common([found, base.checkpoint])[0]
    owner = Expert(f"the base that {expert.role} was trained on", named)
    check_agreement(owner, Expert(base.role, seen), (), trust_configs, located=False)
    return ""


def _is_called(folder: Path, name: str) -> bool:
    """Say whether a folder is what a name means: its path, or what the hub's cache has of that name."""
    real = os.path.realpath(folder)
    return real == os.path.realpath(name) or f"models--{name.replace('/', '--')}" in Path(real).parts


def _unquantized(name: str) -> Checkpoint | None:
    """Return the checkpoint in a folder, None where there is none to compare weights by: quantized numbers are none."""
    try:
        found = open_checkpoint(name) if Path(name).is_dir() else None
    except RequestError:
        return None
    return None if found is None or found.is_adapter or language_setting(found.config, "quantization_config") else found


def _check_shapes(adapted: Sequence[Expert], base: Expert | None, stays: bool) -> None:
    seen: dict[str, tuple[str, Expert, tuple[int, ...]]] = {}
    for expert in adapted:
        for name, shape in (expert.adapter.shapes if expert.adapter else {}).items():
            called, other, before = seen.setdefault(bare_name(name), (name, expert, shape))
            if shape != before:
                raise RequestError(
                    f"{other} and {expert} adapt {name!r} of shapes {list(before)} and {list(shape)}: they are of different "
                    "models."
                )
            if stays and called != name:
                raise RequestError(
                    f"{other} and {expert} call the same parameter {called!r} and {name!r}: no adapter fits both models. Merge "
                    "them into their base, --as-checkpoint."
                )
        if base and expert.adapter:
            expert.adapter.check_base(base.checkpoint, str(expert))
        if base and not stays and expert.adapter:
            expert.adapter.check_tied(base.checkpoint, "Merge adapters alone, which stay an adapter. ")


def _sites(experts: Sequence[Expert], full: Sequence[Expert], stays: bool) -> Sites:
    if full and not stays:
        return full[0].checkpoint.sites
    names = [name for expert in experts for name in expert.checkpoint.tensors]
    if full:  # adapters need not have all layers
        return locate_among(names, full[0].checkpoint.tensors)
    check_depth(experts)
    return locate_all(names)


def check_depth(adapted: Sequence[Expert]) -> None:
    """Refuse to guess from adapters alone how many layers there are, where one of them changes some layers only."""
    if any(_picks_layers(expert.checkpoint.config) for expert in adapted):
        raise RequestError("An adapter changes some layers only, so it does not tell how many there are: say --base.")


def _picks_layers(config: Mapping[str, Any]) -> bool:
    """Say whether an adapter's config picks layers, so that its last layer need not be the model's.

    >>> wanted = (["fc1"], r".*layers\\.\\d+\\..*_proj", r".*\\.(0|1)\\.q_proj", ["layers.3.mlp"])
    >>> [_picks_layers({"target_modules": modules}) for modules in wanted]
    [False, False, True, True]
    >>> [_picks_layers({"target_modules": modules}) for modules in (r".*\\.fc\\d", r".*layers\\.\\d\\..*_proj")]
    [False, True]
    """
    if config.get("layers_to_transform") is not None:
        return True
    named = [config.get(key) or [] for key in ("target_modules", "exclude_modules")]
    texts = [text for one in named for text in ([one] if isinstance(one, str) else one)]
    return any(_LAYER_NUMBER.search(str(text)) for text in texts)


# A number that is no part of a name (as that of fc1 is), or a pattern of numbers that does not take all of them: \d without +.
_LAYER_NUMBER = re.compile(r"(?:^|[.(|\[,:-])(?:\d+(?=[.)|\],\\-]|$)|(?:\\d|\[[^\]]*\d[^\]]*\])(?![+*]))")
