"""Importance and overlap weight by weight: which single elements matter most, and how many of them two abilities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlnb.analysis.overlap import SHARES, check_share
from xlnb.analysis.sensitivity import FISHER, GOLD, SAMPLED, TAYLOR, Seen, backward, linear_modules
from xlnb.errors import RequestError, known
from xlnb.models.engine import Row

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from xlnb.models.base import Base


def element_scores(base: Base, rows: Sequence[Row], measure: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the score of every element of the linear modules inside the layers of ``base.model`` as it stands.

    ``fisher``: the mean over samples of the squared gradient, labels drawn from the model (the diagonal of the true Fisher
    matrix, estimated). ``taylor``: the mean over samples of the absolute product of weight and gradient, by the text's own
    tokens. One gradient of one weight and one sample is formed at a time; what is returned is as large as the weights.
    Source: as :func:`xlnb.analysis.sensitivity.sensitivity`.
    """
    import torch

    known("measure", measure, (FISHER, TAYLOR))
    weights = linear_modules(base.model)
    sums = {name: torch.zeros_like(module.weight, dtype=torch.float32) for name, module in weights.items()}

    def add(name: str, seen: Seen) -> None:
        for x, g in zip(seen.inputs, seen.gradients, strict=True):
            gradient = g.T @ x
            change = gradient.square() if measure == FISHER else (gradient * weights[name].weight.detach()).abs()
            sums[name] += change / len(rows)

    backward(base, rows, weights, add, SAMPLED if measure == FISHER else GOLD, seed, f"{measure} by element")
    return sums


def element_overlap(a: Mapping[str, Tensor], b: Mapping[str, Tensor], shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Return how much the largest elements of two sets of scores of the same weights have in common, a row a share of the top.

    Columns: share, jaccard, chance. Scores count by their absolute values. Elements that tie with the last of the top belong to
    it; ``chance`` is that of two random sets of the same two sizes, whose spread is nil among millions. Raises RequestError where
    the weights are not the same, or for a share that is none.
    """
    import pandas as pd

    if list(a) != list(b) or not a:
        raise RequestError("Elements are compared of the same weights, in one order, at least one of them.")
    for share in shares:
        check_share(share)
    ends = [_least_of_top(scores, shares) for scores in (a, b)]
    count, rows = sum(one.numel() for one in a.values()), []
    for share, first, second in zip(shares, *ends, strict=True):
        tops = [(a[name].abs() >= first, b[name].to(a[name].device).abs() >= second) for name in a]
        both = sum(int((x & y).sum()) for x, y in tops)
        sizes = [sum(int(pair[i].sum()) for pair in tops) for i in range(2)]
        expected = sizes[0] * sizes[1] / count
        rows.append((share, both / (sum(sizes) - both), expected / (sum(sizes) - expected)))
    return pd.DataFrame(rows, columns=["share", "jaccard", "chance"])


def _least_of_top(scores: Mapping[str, Tensor], shares: Sequence[float]) -> list[float]:
    """Return for each share the smallest absolute score that is among the top."""
    import numpy as np
    import torch

    values = torch.cat([one.detach().float().abs().flatten() for one in scores.values()])
    places = [len(values) - max(1, round(share * len(values))) for share in shares]
    if values.is_cuda:
        ordered = values.sort().values
        return [float(ordered[place]) for place in places]
    whole = np.partition(values.numpy(), places)
    return [float(whole[place]) for place in places]
