"""How straight the ways between models are: losses along task vectors and over their plane, and what the first order says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlnb import progress
from xlnb.analysis.sensitivity import check_completions, like_lengths, row_losses
from xlnb.errors import RequestError
from xlnb.models.engine import Row, completion_logits, right_aligned
from xlnb.weights.merging import applied, task_arithmetic
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from xlnb.models.base import Base

Point = tuple[float, float]  # how much of the math expert's task vector, and of the language expert's


def losses(base: Base, rows: Sequence[Row]) -> list[float]:
    """Return each row's loss by ``base.model`` as it stands: the mean over its completion's tokens, in nats.

    Raises RequestError for an empty completion.
    """
    import torch

    check_completions(rows)
    found: dict[int, float] = {}
    with torch.inference_mode(), base.autocast():
        for places in like_lengths(base, rows):
            found |= zip(places, row_losses(base, [rows[place] for place in places]), strict=True)
    return [found[place] for place in range(len(rows))]


def surface(
    base: Base, math: TaskVector, language: TaskVector, points: Sequence[Point], rows: Mapping[str, Sequence[Row]]
) -> pd.DataFrame:
    """Return the losses of base + a * math + b * language at points (a, b), row by row.

    ``rows`` are texts by what they ask (math, a language). Columns: a, b, asked, row (its place), loss. Source: ours.
    """
    import pandas as pd

    told = []
    for a, b in progress.bar(points, desc="plane", unit="point"):
        with applied(base.model, task_arithmetic([math, language], [a, b])):
            for asked, some in rows.items():
                told += [(a, b, asked, place, loss) for place, loss in enumerate(losses(base, some))]
    return pd.DataFrame(told, columns=["a", "b", "asked", "row", "loss"])


def grid(low: float = -0.5, high: float = 1.5, steps: int = 9) -> list[Point]:
    """Return the points of a plane, so many along each side.

    >>> grid(0, 1, 3)[:4]
    [(0.0, 0.0), (0.0, 0.5), (0.0, 1.0), (0.5, 0.0)]
    """
    if steps < 2 or not low < high:
        raise RequestError(
            f"A plane of {steps} steps from {low} to {high} has no points: at least 2, and low below high."
        )
    along = [low + (high - low) * i / (steps - 1) for i in range(steps)]
    return [(a, b) for a in along for b in along]


def projected(vector: TaskVector, math: TaskVector, language: TaskVector) -> tuple[float, float, float]:
    """Return where a task vector lies on the plane of two others: the nearest point (a, b), and how far it is off the plane.

    The distance is a share of the vector's own length, 0 for a merge a * math + b * language. Parameters that one of the vectors
    does not have did not change in it. Raises RequestError where the two span no plane.
    """
    import numpy as np

    def dot(one: TaskVector, other: TaskVector) -> float:
        return sum(
            float((one[name].double() * other[name].to(one[name].device).double()).sum())
            for name in one
            if name in other
        )

    between = dot(math, language)
    gram = np.array([[dot(math, math), between], [between, dot(language, language)]])
    if np.linalg.det(gram) <= 1e-12 * gram[0, 0] * gram[1, 1]:
        raise RequestError("The two task vectors span no plane: they are parallel, or one is zero.")
    along = np.array([dot(vector, side) for side in (math, language)])
    a, b = np.linalg.solve(gram, along)
    own = dot(vector, vector)
    off = max(0.0, own - float(along @ np.array([a, b])))
    return float(a), float(b), (off / own) ** 0.5 if own else 0.0


def cross_task(base: Base, math: TaskVector, language: TaskVector, rows: Sequence[Row]) -> pd.DataFrame:
    """Return by layer how near the activations of the soup are to the mean of both experts' activations.

    Columns: layer, cosine and coefficient (of the changes against the base, whose own activations would make any two models look
    alike), error (length of the difference, as a share of the mean change's). The coefficient is how much of the mean change is
    there: 1 where activations are linear in the weights. Over all positions of all rows.
    Source: cross-task linearity (Zhou et al. 2024), taken of the changes: ours.
    """
    import pandas as pd
    import torch

    half = task_arithmetic([math, language], [0.5, 0.5])
    sums = torch.zeros(base.depth, 3, dtype=torch.float64)
    for places in progress.bar(like_lengths(base, rows), desc="activations", unit="batch"):
        part = [rows[place] for place in places]
        origin, m, l, soup = (_activations(base, part, vector) for vector in (None, math, language, half))  # noqa: E741
        for layer, (zero, one, two, mid) in enumerate(zip(origin, m, l, soup, strict=True)):
            mean, change = ((one + two) / 2 - zero).double(), (mid - zero).double()
            sums[layer] += torch.stack([(mean * change).sum(), (mean * mean).sum(), (change * change).sum()]).cpu()
    both, means, changes = sums.T
    table = {
        "layer": range(base.depth),
        "cosine": both / (means * changes).sqrt(),
        "coefficient": both / means,
        "error": ((means - 2 * both + changes).clamp(min=0) / means).sqrt(),
    }
    return pd.DataFrame(table)


def _activations(base: Base, rows: Sequence[Row], vector: TaskVector | None) -> list[Tensor]:
    """Return what each layer gives out, padding set to zero."""
    import torch

    batch = right_aligned(rows, base.pad_id, device=base.device)
    seen = batch.attention_mask[..., None].bool()
    with torch.inference_mode(), base.autocast(), applied(base.model, vector or TaskVector({})):
        kept: list[Tensor] = []

        def keep(module: object, given: object, out: Tensor | tuple[Tensor, ...]) -> None:
            hidden = out[0] if isinstance(out, tuple) else out
            kept.append(torch.where(seen, hidden.float(), 0))

        hooks = [layer.register_forward_hook(keep) for layer in base.layers]
        try:
            completion_logits(base.model, batch, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
    return kept
