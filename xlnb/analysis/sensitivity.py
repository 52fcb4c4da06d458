"""How sensitive a model's loss is to each of its weights, to first order: per-sample gradients, without forming any.

A linear module's gradient for one sample is the sum over positions of its output's gradient times its input. Taylor scores and
the trace of the Fisher matrix need inner products with it and its norm alone, which follow from the activations: no gradient of a
weight is ever formed, and a whole batch takes one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xlnb import progress
from xlnb.errors import RequestError, known
from xlnb.models.engine import IGNORED, Row, completion_logits, right_aligned, token_nll
from xlnb.weights.sites import locate_all

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from torch.nn import Linear

    from xlnb.models.base import Base

GOLD, SAMPLED = LABELS = "gold", "sampled"
TAYLOR, FISHER = "taylor", "fisher"
_POSITIONS, _POSITIONS_ON_GPU = 512, 8192  # in a batch, padding included: what bounds the memory


@dataclass(frozen=True)
class Seen:
    """What one linear module saw of a batch: inputs, outputs (without bias) and their gradients, (rows, length, features)."""

    inputs: Tensor
    outputs: Tensor
    gradients: Tensor


def taylor(seen: Seen) -> Tensor:
    """Return for each sample how much the loss would change to first order if the module's weight were zero, signed.

    The inner product of weight and gradient: positions' output gradients times what the weight makes of their inputs.
    """
    return (seen.outputs * seen.gradients).sum(dim=(1, 2)).neg()


def along(update: Tensor, seen: Seen) -> Tensor:
    """Return for each sample how much the loss changes to first order if an update is added to the module's weight."""
    import torch

    return (torch.nn.functional.linear(seen.inputs, update) * seen.gradients).sum(dim=(1, 2))


def squared_norm(seen: Seen) -> Tensor:
    """Return for each sample the squared norm of the weight's gradient, by the smaller of two products.

    That over pairs of positions (the kernel trick) forms no gradient; where a text is long the gradient itself is smaller.
    """
    import torch

    x, g = seen.inputs, seen.gradients
    if x.shape[1] * (x.shape[2] + g.shape[2]) < x.shape[2] * g.shape[2]:
        return (torch.bmm(x, x.transpose(1, 2)) * torch.bmm(g, g.transpose(1, 2))).sum(dim=(1, 2))
    return torch.bmm(g.transpose(1, 2), x).square().sum(dim=(1, 2))


def sensitivity(
    base: Base, rows: Sequence[Row], labels: str = GOLD, seed: int = 0, title: str = "sensitivity"
) -> pd.DataFrame:
    """Return the Taylor score and the Fisher trace of every linear module inside the layers of ``base.model`` as it stands.

    Columns: parameter, layer, block, projection, measure (taylor or fisher), elements, score. A sample's loss is its mean over
    the completion's tokens, in nats. ``taylor`` is the mean over samples of the absolute first-order change of the loss if the
    weight were zero; where a norm follows, as after q and k of Qwen3, the scale of a weight does not matter and it is zero
    (of Gemma 3, which norms what each block puts out, that leaves little but the FFN's gate). ``fisher`` is the mean over
    samples of the squared norm of the gradient. ``labels`` are the completion's own tokens (``gold``: the empirical Fisher), or
    drawn from the model's prediction at each of them (``sampled``: an unbiased estimate of the true Fisher). Norms and biases
    are left out. Memory is bounded by one batch's activations.
    Source: Molchanov et al. 2019 (Taylor); Martens 2020 (the true Fisher); Goodfellow 2015 (norms of per-sample gradients).
    """
    import pandas as pd

    weights = linear_modules(base.model)
    sites = locate_all(list(weights)).of
    sums: dict[tuple[str, str], float] = dict.fromkeys(
        ((name, measure) for name in weights for measure in (TAYLOR, FISHER)), 0.0
    )

    def add(name: str, seen: Seen) -> None:
        sums[name, TAYLOR] += float(taylor(seen).abs().sum())
        sums[name, FISHER] += float(squared_norm(seen).sum())

    backward(base, rows, weights, add, labels, seed, title)
    table = [
        (
            name,
            sites[name].layer,
            sites[name].block,
            sites[name].projection,
            measure,
            weights[name].weight.numel(),
            total / len(rows),
        )
        for (name, measure), total in sums.items()
    ]
    return pd.DataFrame(table, columns=["parameter", "layer", "block", "projection", "measure", "elements", "score"])


def slopes(base: Base, rows: Sequence[Row], vector: Mapping[str, Tensor], title: str = "slope") -> pd.Series:
    """Return by parameter how much the mean loss of rows changes to first order along a task vector, in nats per unit of it.

    Its sum is the derivative of the loss at the base along the whole vector. A vector that moves anything but linear modules
    inside the layers is refused.
    """
    import pandas as pd

    weights = linear_modules(base.model)
    if others := [name for name in vector if name not in weights]:
        raise RequestError(
            f"The slope along {others[0]} isn't known: only linear modules inside the layers are looked at."
        )
    updates = {name: vector[name].to(base.device) for name in vector}
    sums = dict.fromkeys(updates, 0.0)

    def add(name: str, seen: Seen) -> None:
        sums[name] += float(along(updates[name], seen).sum())

    backward(base, rows, {name: weights[name] for name in updates}, add, GOLD, 0, title)
    return pd.Series(sums, dtype=float) / len(rows)


def linear_modules(model: Any) -> dict[str, Linear]:
    """Return the linear modules inside a model's layers by their weights' names.

    Raises RequestError where a matrix inside the layers is in none of them, as in a mixture of experts: it would not be seen.
    """
    from torch.nn import Linear

    found = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Linear)}
    parameters = dict(model.named_parameters())
    sites = locate_all(list(parameters)).of
    inside = [name for name, one in parameters.items() if one.dim() > 1 and sites[name].layer is not None]
    if others := [name for name in inside if name not in found]:
        raise RequestError(
            f"{others[0]!r} ({len(others)} such) belongs to no linear module, as the matrices of a mixture of experts or of "
            "GPT-2 do not: fisher, taylor and slopes look at linear modules alone, and would not see it. Choose another measure "
            "or model."
        )
    return {name: module for name, module in found.items() if name in sites and sites[name].layer is not None}


def backward(
    base: Base,
    rows: Sequence[Row],
    weights: Mapping[str, Linear],
    each: Callable[[str, Seen], None],
    labels: str,
    seed: int,
    title: str,
) -> None:
    """Call ``each`` with what every linear module saw of every batch, as the gradient comes by: nothing is held for later."""
    import torch

    known("labels", labels, LABELS)
    if not rows:
        raise RequestError("No texts to look at: give at least one row.")
    check_completions(rows)
    generator = torch.Generator().manual_seed(seed)
    with _watched(base.model, weights, each):
        for places in progress.bar(like_lengths(base, rows), desc=title, unit="batch"):
            batch = right_aligned([rows[place] for place in places], base.pad_id, device=base.device)
            with torch.enable_grad(), base.autocast():
                logits = completion_logits(base.model, batch, use_cache=False)
                loss = mean_losses(logits, _targets(logits, batch.labels, labels, generator)).sum()
            loss.backward()


def like_lengths(base: Base, rows: Sequence[Row]) -> list[list[int]]:
    """Return the places of rows in batches of like lengths, the longest first, of so many positions as the device allows."""
    most = _POSITIONS if base.device.type == "cpu" else _POSITIONS_ON_GPU
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    parts: list[list[int]] = []
    for place in sorted(range(len(rows)), key=lambda place: lengths[place], reverse=True):
        if parts and lengths[parts[-1][0]] * (len(parts[-1]) + 1) <= most:
            parts[-1].append(place)
        else:
            parts.append([place])
    return parts


def _targets(logits: Tensor, gold: Tensor, labels: str, generator: Any) -> Tensor:
    import torch

    if labels == GOLD:
        return gold
    shares = logits.detach().float().softmax(-1).flatten(0, 1).cpu()
    if not bool(shares.isfinite().all()):
        raise RequestError("The model predicts no numbers, so no labels can be drawn from it: its training diverged.")
    drawn = torch.multinomial(shares, 1, generator=generator).view_as(gold).to(gold.device)
    return torch.where(gold == IGNORED, gold, drawn)


def mean_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's loss: the mean over its completion's tokens."""
    return token_nll(logits, labels).sum(dim=1) / (labels != IGNORED).sum(dim=1)


def check_completions(rows: Sequence[Row]) -> None:
    """Refuse rows of which one has an empty completion, whose mean loss is no number."""
    for place, (_, completion) in enumerate(rows):
        if not completion:
            raise RequestError(f"Row {place} has an empty completion, so it has no loss: leave such rows out.")


def row_losses(base: Base, rows: Sequence[Row]) -> list[float]:
    """Return each row's loss by ``base.model`` as it stands, the rows in one batch."""
    batch = right_aligned(rows, base.pad_id, device=base.device)
    return mean_losses(completion_logits(base.model, batch, use_cache=False), batch.labels).tolist()


@contextmanager
def _watched(model: Any, weights: Mapping[str, Linear], each: Callable[[str, Seen], None]) -> Iterator[None]:
    """Tell ``each`` what the modules see; no weight requires a gradient meanwhile, only the embeddings' output does."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}

    def watch(name: str) -> Callable[..., None]:
        def forward(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Detached here: a hook that held its own tensor would keep the whole graph until the garbage is collected.
            given, plain, bias = inputs[0].detach(), output.detach(), module.bias

            def backward(gradient: Tensor) -> None:
                made = plain if bias is None else plain - bias.detach()
                each(name, Seen(given.float(), made.float(), gradient.detach().float()))

            output.register_hook(backward)

        return forward

    def start(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    hooks = [module.register_forward_hook(watch(name)) for name, module in weights.items()]
    hooks.append(model.get_input_embeddings().register_forward_hook(start))
    try:
        for parameter in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
