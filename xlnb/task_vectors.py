"""Task vectors: what fine-tuning changed, as named float32 tensors computed when they are asked for (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xlnb.artifacts import read_json
from xlnb.errors import RequestError
from xlnb.partitions import Partition
from xlnb.sites import locate

if TYPE_CHECKING:
    from torch import Tensor


class TaskVector(Mapping[str, "Tensor"]):
    """Expert minus base: a read-only mapping from parameter name to float32 update, computed lazily.

    ``thunks`` maps each name to a function returning its update. Names that are absent did not change.
    """

    def __init__(self, thunks: Mapping[str, Callable[[], Tensor]]):
        self._thunks = dict(thunks)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TaskVector:
        """Return the task vector that holds ``tensors``, cast to float32."""
        return cls({name: lambda tensor=tensor: tensor.float() for name, tensor in tensors.items()})  # type: ignore[misc]

    @classmethod
    def from_adapter(cls, folder: str | Path) -> TaskVector:
        """Return the update of a LoRA adapter saved by PEFT: scaling * B @ A of each module, in float32.

        ``folder`` holds adapter_config.json and adapter_model.safetensors. The scaling is alpha / r, or alpha / sqrt(r) if
        rank-stabilised. Raises :class:`~xlnb.errors.RequestError` for a folder without these files and for adapters that
        are more than LoRA pairs (DoRA, biases, whole modules, per-module ranks), whose update this would misstate.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        config = _plain_lora_config(folder)
        rank, alpha = config["r"], config["lora_alpha"]
        scaling = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
        tensors = load_file(folder / "adapter_model.safetensors")
        thunks = {}
        if other := [key for key in tensors if not key.endswith((".lora_A.weight", ".lora_B.weight"))]:
            raise RequestError(
                f"The adapter in {folder} is more than plain LoRA pairs (it has {other[0]}): merge it into its base first."
            )
        for key in tensors:
            if key.endswith(".lora_A.weight"):
                module = key.removesuffix(".lora_A.weight")
                a, b = tensors[key], tensors[f"{module}.lora_B.weight"]
                name = f"{module.removeprefix('base_model.model.')}.weight"
                thunks[name] = lambda a=a, b=b: scaling * (b.float() @ a.float())
        return cls(thunks)

    def __getitem__(self, name: str) -> Tensor:
        return self._thunks[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._thunks)

    def __len__(self) -> int:
        return len(self._thunks)

    def __add__(self, other: TaskVector) -> TaskVector:
        """Return the sum; a name that only one side has keeps that side's update."""

        def total(name: str) -> Callable[[], Tensor]:
            if name in self and name in other:
                return lambda: self[name] + other[name]
            return (self if name in self else other)._thunks[name]

        return TaskVector({name: total(name) for name in {**self._thunks, **other._thunks}})

    def __mul__(self, weight: float) -> TaskVector:
        """Return the task vector scaled by ``weight``."""
        return TaskVector({name: lambda name=name: weight * self[name] for name in self})  # type: ignore[misc]

    __rmul__ = __mul__

    def mask(self, partition: Partition, keep: str) -> TaskVector:
        """Return the part of the update on the share that ``keep`` (``math`` or ``language``) owns; all else is zero.

        This is the paper's revert. A parameter outside the layers is owned by neither side and is dropped.
        """
        if keep not in ("math", "language"):
            raise RequestError(f"keep={keep!r}: say 'math' or 'language'.")
        thunks: dict[str, Callable[[], Tensor]] = {}
        for name in self:
            site = locate(name)
            if site.layer is None:
                continue
            share = partition.share(site) if keep == "math" else 1 - partition.share(site)
            if (
                share == 1
            ):  # the very same numbers, not multiplied: a swap with all-math is the math expert to the last bit
                thunks[name] = self._thunks[name]
            elif share > 0:
                thunks[name] = lambda name=name, share=share: share * self[name]  # type: ignore[misc]
        return TaskVector(thunks)

    def norm(self) -> float:
        """Return the Euclidean norm over all parameters."""
        return sum(float(self[name].double().square().sum()) for name in self) ** 0.5

    def cosine(self, other: TaskVector) -> float:
        """Return the cosine of the angle between two task vectors, over all parameters; 0 where one of them is zero."""
        dot = sum(float((self[name].double() * other[name].double()).sum()) for name in self if name in other)
        norms = self.norm() * other.norm()
        return dot / norms if norms else 0.0


def _plain_lora_config(folder: Path) -> dict:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise RequestError(
                f"{folder} is not an adapter folder: it has no {file}. Give a folder that PEFT's save_pretrained wrote."
            )
    config = read_json(folder / "adapter_config.json")
    surplus = [
        key
        for key in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out")
        if config.get(key)
    ]
    if config.get("bias", "none") != "none":
        surplus.append("bias")
    if isinstance(config.get("init_lora_weights"), str) and config["init_lora_weights"] != "gaussian":
        surplus.append("init_lora_weights")  # PiSSA and its like change the base, too
    if config.get("peft_type") != "LORA" or surplus:
        why = f"it sets {', '.join(surplus)}" if surplus else f"its type is {config.get('peft_type')}"
        raise RequestError(
            f"The adapter in {folder} is more than plain LoRA pairs ({why}): merge it into its base first."
        )
    return config
