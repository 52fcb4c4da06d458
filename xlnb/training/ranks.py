"""Several processes train one expert: each holds its share of every tensor and computes its share of each batch's rows.

By PyTorch's FSDP2 (``fully_shard``), layer by layer, for LoRA and full fine-tuning alike; forward passes are autocast over
float32 weights, as in one process. All seeds are shared, so every process takes the same lane at the same step, and the loss's
denominator is the tokens of the whole step. What a lane may not move keeps its gradients, which no optimizer reads: under FSDP
no flag may change between steps. What is written is whole, so that any number of processes goes on from it. In one process every
function here gives back what it got. Tested with processes on CPUs (gloo); nobody has run it on GPUs (NCCL) yet.
Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError, WorkError
from xlnb.models.base import load_base

if TYPE_CHECKING:
    from torch.nn import Parameter

    from xlnb.models.base import Base
    from xlnb.models.engine import Row


@contextmanager
def joined(device: str = "auto") -> Iterator[str]:
    """Join the processes that torchrun, `accelerate launch` or `xlnb train --processes` started, where there are several.

    Yields the device on which a base is to be loaded: the processor's memory, from which each process takes its share to a GPU of
    its own. All but the first are silent. Raises RequestError for a device that processes cannot share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield device
        return
    import torch
    import torch.distributed as dist

    if device not in ("auto", "cpu", "cuda"):
        raise RequestError(f"Several processes take a GPU each: give --device auto, cpu or cuda, not {device}.")
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        here, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
        if local >= here:
            raise RequestError(
                f"Each process takes a GPU, and this machine has {here}: start no more processes, or give --device cpu."
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    with open(os.devnull, "w") as nowhere:
        if first():
            yield "cpu"
        else:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield "cpu"
    dist.destroy_process_group()  # after an error the others may never come: then the process's end does it


def several() -> bool:
    """Say whether processes have joined."""
    from torch.distributed import is_available, is_initialized

    return is_available() and is_initialized()


def count() -> int:
    """Return how many processes train together."""
    from torch.distributed import get_world_size

    return get_world_size() if several() else 1


def rank() -> int:
    """Return which of them this is, from 0."""
    from torch.distributed import get_rank

    return get_rank() if several() else 0


def first() -> bool:
    """Say whether this is the process that writes."""
    return rank() == 0


def _kind() -> str:
    from torch.distributed import get_backend

    return "cuda" if get_backend() == "nccl" else "cpu"


def renew(base: Base) -> None:
    """Load a base's model again where a training shared it out among processes, which cannot be undone."""
    if not several():
        return
    from torch.distributed.fsdp import FSDPModule

    if isinstance(base.model, FSDPModule):
        kept = None if base.kept is None else base.kept.tolist()
        base.model = load_base(base.folder, device="cpu", dtype=base.dtype, kept=kept).model


def shared_out(model: Any) -> dict[str, Parameter]:
    """Share a model's tensors out among the processes, in place, and return its parameters by name."""
    if several():
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(_kind(), (count(),))
        for layer in model.get_decoder().layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return dict(model.named_parameters())


def share(rows: Sequence[Row], which: int, of: int) -> list[Row]:
    """Return the ``which``-th share of rows that are sorted by length: as many and as long as the others'.

    What is missing is filled with rows of one token that learn nothing.

    >>> share([([1, 2], [3]), ([1], [3]), ([1], [2])], 1, 2)
    [([1], [3]), ([1], [])]
    """
    filled = [*rows, *[([(rows[-1][0] + rows[-1][1])[0]], [])] * (-len(rows) % of)]
    return filled[which::of]


def total(value: float) -> float:
    """Return the sum of all processes' values."""
    if not several():
        return value
    import torch
    import torch.distributed as dist

    summed = torch.tensor(value, dtype=torch.float64, device=_kind())
    dist.all_reduce(summed)
    return float(summed)


def agree(what: str, value: Any) -> None:
    """Wait for all processes; raise WorkError where they have different values."""
    if several():
        import torch.distributed as dist

        found: list[Any] = [None] * count()
        dist.all_gather_object(found, value)
        if any(one != value for one in found):
            raise WorkError(
                f"The processes do not agree on {what}. They must run the same command on the same data and share the folder "
                "in which the expert is written."
            )


def whole(value: Any) -> Any:
    """Return tensors (in lists and mappings) whole, in the processor's memory; all but the first process get None for them."""
    if not several():
        return value
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if first() else None
    if isinstance(value, Mapping):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def like(tensor: Any, parameter: Parameter) -> Any:
    """Return this process's share of a whole tensor, where it is shaped as the parameter and that is shared out."""
    if not several() or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(
        tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def moments(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's whole state as this process's share of it."""
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    of = {i: p for saved, mine in groups for i, p in zip(saved["params"], mine["params"], strict=True)}
    shares = {i: {name: like(one, of[i]) for name, one in kept.items()} for i, kept in state["state"].items()}
    return state | {"state": shares}
