"""What a model loses or gains where one of its sites is another model's: an expert's reverted, or the base's taken from one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xlnb import progress
from xlnb.analysis.sensitivity import check_completions, like_lengths, row_losses
from xlnb.errors import RequestError
from xlnb.models.engine import Row
from xlnb.weights.merging import applied
from xlnb.weights.partitions import block_of
from xlnb.weights.sites import locate_all
from xlnb.weights.task_vectors import TaskVector, check_names

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from torch.nn import Module, Parameter

    from xlnb.models.base import Base

NOTHING = TaskVector({})


def ablated(base: Base, expert: TaskVector, rows: Sequence[Row], title: str = "ablation") -> pd.DataFrame:
    """Return the losses of an expert, whole and with one site reverted to the base at a time; see :func:`exchanged`.

    It says what the expert cannot do without, the rest of it being there: sites that stand in for each other look unimportant.
    """
    return exchanged(base, expert, NOTHING, rows, title)


def patched(base: Base, expert: TaskVector, rows: Sequence[Row], title: str = "patching") -> pd.DataFrame:
    """Return the losses of the base, and of the base with one site of an expert at a time; see :func:`exchanged`.

    It says what a site of the expert does alone: one that needs another to be of use looks unimportant.
    """
    return exchanged(base, NOTHING, expert, rows, title)


def exchanged(
    base: Base, now: TaskVector, then: TaskVector, rows: Sequence[Row], title: str = "sites exchanged"
) -> pd.DataFrame:
    """Return each row's loss by base + ``now``, and by it with one site at a time as in base + ``then``.

    Columns: row (its place), layer, block (attention or ffn, norms with the block that they belong to; None and "" where nothing
    is exchanged), loss (mean over the completion's tokens, in nats). What lies before an exchanged layer stays as it is and is
    not computed again; what lies outside the layers is as in base + ``now`` throughout. Source: activation patching as
    TransformerLens has it, of weights; reverting to the base and not to zero is ours.
    """
    import pandas as pd
    import torch

    if not rows:
        raise RequestError("No texts to look at: give at least one row.")
    check_completions(rows)
    layers, parameters = base.layers, dict(base.model.named_parameters())
    check_names(then, parameters)
    by_site = _by_site([name for name in parameters if name in now or name in then])
    others = {name: _value(parameters[name], then.get(name)) for inside in by_site.values() for name in inside}
    found: list[tuple[int, int | None, str, float]] = []
    with torch.inference_mode(), base.autocast(), applied(base.model, now):
        for places in progress.bar(like_lengths(base, rows), desc=title, unit="batch"):
            part = [rows[place] for place in places]
            with _inputs_kept(layers) as inputs:
                found += [(place, None, "", loss) for place, loss in zip(places, row_losses(base, part), strict=True)]
            for (layer, block), inside in by_site.items():
                changed = {name: others[name] for name in inside}
                with _replaced(parameters, changed), _begun(layers, layer, inputs[layer]):
                    some = row_losses(base, part)
                found += [(place, layer, block, loss) for place, loss in zip(places, some, strict=True)]
    table = pd.DataFrame(found, columns=["row", "layer", "block", "loss"]).astype({"layer": "Int64"})
    return table.sort_values(["layer", "block", "row"], ignore_index=True, na_position="first")


def _by_site(names: Sequence[str]) -> dict[tuple[int, str], list[str]]:
    """Return the parameters of each layer's blocks, in the order of the layers."""
    found: dict[tuple[int, str], list[str]] = {}
    for name, site in locate_all(names).of.items() if names else ():
        if site.layer is not None:
            found.setdefault((site.layer, block_of(site)), []).append(name)
    return dict(sorted(found.items()))


def _value(parameter: Parameter, update: Tensor | None) -> Tensor:
    """Return a parameter with an update, as :func:`xlnb.applied` makes it."""
    own = parameter.detach()
    return own.clone() if update is None else (own.float() + update.to(own.device)).to(own.dtype)


@contextmanager
def _replaced(parameters: Mapping[str, Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    kept = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in kept.items():
            parameters[name].data = value


@contextmanager
def _inputs_kept(layers: Sequence[Module]) -> Iterator[list[Tensor]]:
    """Hold what each layer is given."""
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0])) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _begun(layers: Sequence[Module], first: int, given: Tensor) -> Iterator[None]:
    """Begin at a layer: those before it compute nothing and hand on what it is given."""
    try:
        for layer in layers[:first]:
            layer.forward = lambda *args, **kwargs: given
        yield
    finally:
        for layer in layers[:first]:
            del layer.forward
