"""LoRA adapters as PEFT writes them: what their config means, their pairs, and merges that stay adapters.

A pair (A, B) of rank r stands for the update ``scaling * B @ A``. Picking pairs picks updates; a sum of updates is the
concatenation of pairs to the sum of their ranks. Averaging A and B apart would not average updates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError
from xlnb.weights.tensor_files import ADAPTER, ADAPTER_CONFIG, FLOATS, Checkpoint, Stored, open_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

_A, _B = ".lora_A.weight", ".lora_B.weight"
_PREFIX = "base_model.model."
_EXTRAS = ("use_dora", "modules_to_save", "fan_in_fan_out", "target_parameters",
           "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
           "monteclora_config")  # fmt: skip
_OWN_BASE = ("gaussian", "eva", "orthogonal")  # initialisations that leave the base as it is; PiSSA and its like do not
Terms = Sequence[tuple[float, "Adapter"]]  # weights and adapters whose updates are added


@dataclass(frozen=True)
class Adapter:
    """A plain LoRA adapter: ``pairs`` has (A, B) by the name of the parameter that they change, ``scalings`` what they count."""

    checkpoint: Checkpoint
    pairs: dict[str, tuple[Stored, Stored]]
    scalings: dict[str, float]

    def rank(self, name: str) -> int:
        """Return the rank of a parameter's update; 0 where it has none."""
        return self.pairs[name][0].shape[0] if name in self.pairs else 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape (outputs, inputs) of each parameter that is changed."""
        return {name: (b.shape[0], a.shape[1]) for name, (a, b) in self.pairs.items()}


def open_adapter(folder: str | Path | Checkpoint) -> Adapter:
    """Read an adapter's config and the places of its pairs, no tensor.

    The scaling is alpha / r, or alpha / sqrt(r) if rank-stabilised, with the ranks and alphas that modules have of their own.
    Adapters that are more than LoRA pairs (DoRA, biases, whole modules), whose update this would misstate, are refused.
    """
    if not isinstance(folder, Checkpoint):
        if not Path(folder).is_dir():
            raise RequestError(f"There is no adapter folder {folder}. Give a folder that PEFT's save_pretrained wrote.")
        for file in (ADAPTER_CONFIG, ADAPTER):
            if not (Path(folder) / file).is_file():
                raise RequestError(
                    f"{folder} is not an adapter folder: it has no {file}. Give a folder that PEFT's save_pretrained wrote."
                )
        folder = open_checkpoint(folder)
    _check_config(folder)
    pairs, scalings = {}, {}
    for key, a in folder.tensors.items():
        if not key.startswith(_PREFIX) or not key.endswith((_A, _B)):
            raise _more_than_pairs(folder, f"it has {key}")
        if key.endswith(_A):
            module = key.removeprefix(_PREFIX).removesuffix(_A)
            rank, alpha = (_of_module(folder, module, which) for which in ("rank", "alpha"))
            b = folder.tensors.get(key.removesuffix(_A) + _B)
            fits = b is not None and len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] == rank
            if b is None or not fits or not {a.dtype, b.dtype} <= FLOATS:
                raise RequestError(f"The adapter in {folder.folder} has no fitting pair of rank {rank} for {key}.")
            pairs[f"{module}.weight"] = (a, b)
            scalings[f"{module}.weight"] = alpha / rank**0.5 if folder.config.get("use_rslora") else alpha / rank
    if len(pairs) * 2 != len(folder.tensors) or not pairs:
        raise RequestError(f"The adapter in {folder.folder} has factors without their partner, or none at all.")
    return Adapter(folder, pairs, scalings)


def _of_module(checkpoint: Checkpoint, module: str, which: str) -> Any:
    """Return the rank or alpha of a module: its own where a pattern names it (as PEFT looks for it), else everybody's."""
    patterns = checkpoint.config.get(f"{which}_pattern") or {}
    named = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    everybody = checkpoint.config["r" if which == "rank" else "lora_alpha"]
    return everybody if named is None else _positive(checkpoint, f"{which}_pattern[{named!r}]", patterns[named], which)


def _check_config(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    surplus = [key for key in _EXTRAS if config.get(key)]
    if config.get("bias", "none") != "none":
        surplus.append("bias")
    if isinstance(config.get("init_lora_weights"), str) and config["init_lora_weights"] not in _OWN_BASE:
        surplus.append("init_lora_weights")
    if config.get("peft_type") != "LORA":
        raise _more_than_pairs(checkpoint, f"its type is {config.get('peft_type')}")
    if surplus:
        raise _more_than_pairs(checkpoint, f"it sets {', '.join(surplus)}")
    for which, key in (("rank", "r"), ("alpha", "lora_alpha")):
        _positive(checkpoint, key, config.get(key), which)
        patterns = config.get(f"{which}_pattern") or {}
        if not isinstance(patterns, dict):
            raise RequestError(
                f"{checkpoint.folder / ADAPTER_CONFIG} says {which}_pattern = {patterns!r}: it takes a table."
            )


def _positive(checkpoint: Checkpoint, key: str, value: Any, which: str) -> Any:
    kinds, wanted = (int, "a positive whole number") if which == "rank" else (int | float, "a positive number")
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < inf:
        raise RequestError(f"{checkpoint.folder / ADAPTER_CONFIG} says {key} = {value!r}: it takes {wanted}.")
    return value


def _more_than_pairs(checkpoint: Checkpoint, why: str) -> RequestError:
    return RequestError(
        f"The adapter in {checkpoint.folder} is more than plain LoRA pairs ({why}): merge it into its base first."
    )


def pickable(adapters: Sequence[Adapter]) -> bool:
    """Say whether pairs of these adapters can stand side by side as they are: equal names, shapes, dtypes and scalings."""
    kinds = [
        (one.scalings, {name: (s.dtype, s.shape) for name, s in one.checkpoint.tensors.items()}) for one in adapters
    ]
    return all(kind == kinds[0] for kind in kinds)


def combined(
    terms: Mapping[str, Terms], adapters: Sequence[Adapter], dtype: str = "float32"
) -> tuple[dict[str, Tensor], int]:
    """Return the factors of the weighted sums of updates of each parameter, by PEFT's names and in ``dtype``, and their rank.

    Every pair gets the same rank, that of the longest sum, filled up with zeros, and the scaling 1: weights and scalings are
    in B. A parameter without terms gets zeros, whose update is zero. Source: ours.
    """
    import torch

    from xlnb.weights.tensors import load

    rank = max(sum(adapter.rank(name) for _, adapter in chosen) for name, chosen in terms.items())
    shapes = {name: shape for adapter in adapters for name, shape in adapter.shapes.items()}
    tensors = {}
    for name, chosen in terms.items():
        outputs, inputs = shapes[name]
        a, b, at = torch.zeros(rank, inputs), torch.zeros(outputs, rank), 0
        for weight, adapter in chosen:
            if name in adapter.pairs:
                stored_a, stored_b = adapter.pairs[name]
                mine = slice(at, at + adapter.rank(name))
                a[mine] = load(stored_a).float()
                b[:, mine] = (weight * adapter.scalings[name]) * load(stored_b).float()
                at = mine.stop
        module = _PREFIX + name.removesuffix(".weight")
        tensors[module + _A], tensors[module + _B] = (factor.to(getattr(torch, dtype)) for factor in (a, b))
    return tensors, rank


def combined_config(adapters: Sequence[Adapter], names: Sequence[str], rank: int) -> dict[str, Any]:
    """Return the PEFT config of combined factors: that of the first adapter, with their rank and a scaling of 1."""
    modules = [name.removesuffix(".weight") for name in names]
    short = sorted({module.rpartition(".")[2] for module in modules})
    by_short = [sum(module.endswith("." + last) for module in modules) for last in short]
    everywhere = {target for adapter in adapters for target in _targets_of_all_layers(adapter.checkpoint.config)}
    in_short = len(set(by_short)) == 1 and everywhere.issuperset(short)
    return dict(adapters[0].checkpoint.config) | {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        # Where some layers are not adapted, each module is named in full: PEFT would adapt the others as well, at random.
        "target_modules": short if in_short else sorted(modules),
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "inference_mode": True,
    }


def _targets_of_all_layers(config: Mapping[str, Any]) -> list[str]:
    """Return the module names that an adapter's config targets wherever they occur; none where it restricts them."""
    targets = config.get("target_modules")
    restricted = any(config.get(key) not in (None, [], "") for key in ("layers_to_transform", "exclude_modules"))
    return targets if isinstance(targets, list) and not restricted else []
