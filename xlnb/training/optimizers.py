"""What moves the parameters of a lane: AdamW, its two moments in float32 or in eight bits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError
from xlnb.models.memory import ADAMW, ADAMW_8BIT
from xlnb.training import ranks

if TYPE_CHECKING:
    from torch.nn import Parameter

    from xlnb.training.sft import Training


def check(optimizer: str) -> None:
    """Raise RequestError where an optimizer cannot be had here."""
    if optimizer == ADAMW:
        return
    if ranks.several():
        raise RequestError(
            f"The optimizer {ADAMW_8BIT} is for one process: several share their moments in float32. Take {ADAMW} (profile "
            "paper), or a single process."
        )
    if find_spec("torchao") is None:
        raise RequestError(
            f"The optimizer {ADAMW_8BIT} is torchao's, which is not installed: pip install 'xlnb[eight-bit]'."
        )


def optimizer_of(rates: Mapping[str, float], weights: Mapping[str, Parameter], training: Training) -> Any:
    """Return the optimizer of parameters with these shares of the rate; it holds nothing else: the rest has no moments, no decay.

    Moments of eight bits are torchao's: in blocks of 256 elements, each with a scale (Dettmers et al. 2022, arXiv 2110.02861).
    """
    from torch.optim import AdamW

    groups = [
        {"params": [weights[name] for name in weights if rates.get(name) == share], "share": share}
        for share in sorted(set(rates.values()), reverse=True)
    ]
    asked: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    kind = next(iter(weights.values())).device.type
    if training.optimizer == ADAMW_8BIT:
        return _in_eight_bits(groups, kind, **asked)
    # On a GPU in one kernel, which needs no room for what lies between; elsewhere as ever, to the last bit.
    return AdamW(groups, fused=True if kind == "cuda" else None, **asked)


def _in_eight_bits(groups: list[dict[str, Any]], kind: str, **asked: float) -> Any:
    import torch
    from torchao.optim import AdamW8bit

    made = AdamW8bit(groups, **asked)
    if kind == "cpu":  # its step is compiled, which takes a compiler and longer than a short training
        made.step = torch.compiler.set_stance("force_eager")(made.step)
    return made


def set_rate(optimizer: Any, rate: float) -> None:
    """Let each group of parameters take its share of a learning rate."""
    for group in optimizer.param_groups:
        mine = group["share"] * rate
        if hasattr(group["lr"], "fill_"):  # torchao's is a tensor, since its step is compiled
            group["lr"].fill_(mine)
        else:
            group["lr"] = mine
