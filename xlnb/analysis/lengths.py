"""How far experts moved each weight from the base, and whether they moved the same way."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.weights.partitions import block_of
from xlnb.weights.sites import locate_all
from xlnb.weights.task_vectors import check_names, check_shape

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SQUARES = ["own", "m", "l", "dot"]


def squares(math: Mapping[str, Tensor], language: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return by layer, block and projection the sums of squares of the weights, of both updates, and of their products.

    Columns: layer, block (attention or ffn), projection, elements, own (the weights), m and l (math's and the language's update),
    dot. Norms and biases are left out: Gemma's norms are up to a hundred times as long as the matrices of their layer, and would
    hide how far these moved. So is what neither vector has, and what lies outside the layers. Raises RequestError where the
    vectors have nothing in common or are of another model than the base, or some numbers are not finite.
    """
    import pandas as pd

    if not any(name in language for name in math):
        raise RequestError("The task vectors have no parameter in common: they are not of one model.")
    for side in (math, language):
        check_names(side, base)
    names = [name for name in base if name in math or name in language]
    sites, rows = locate_all(names).of, []
    for name in names:
        site, own = sites[name], base[name].detach().float()
        if site.layer is None or own.dim() < 2:
            continue
        m, l = (side[name].to(own.device).float() if name in side else own.new_zeros(()) for side in (math, language))  # noqa: E741
        for update in (m, l):
            if update.dim():
                check_shape(name, update, own)
        sums = [float((x * y).sum()) for x, y in ((own, own), (m, m), (l, l), (m, l))]
        for what, value in zip(("base", "math expert", "language expert"), sums, strict=False):
            if not isfinite(value):  # pandas would leave it out of the sums
                who = "expert" if math is language and what != "base" else what
                raise RequestError(f"The {who} has NaN or infinite numbers at {name!r}: its training diverged.")
        rows.append((site.layer, block_of(site), site.projection or "", own.numel(), *sums))
    table = pd.DataFrame(rows, columns=["layer", "block", "projection", "elements", *SQUARES])
    return table.groupby(["layer", "block", "projection"], as_index=False).sum()


def lengths(table: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Return of :func:`squares` the lengths (Frobenius norms) of both updates as shares of what is there, and their cosine.

    ``by`` names the columns that stay apart (layer, block, projection; none: the whole). Columns: those, m, l, cosine
    (nan where one is zero). Source: relative Frobenius change as in 2601.22620.
    """
    sums = table.groupby(list(by), as_index=False)[SQUARES].sum() if by else table[SQUARES].sum().to_frame().T
    relative = {name: (sums[name] / sums["own"]) ** 0.5 for name in ("m", "l")}
    cosine = sums["dot"] / (sums["m"] * sums["l"]) ** 0.5
    return sums[list(by)].assign(**relative, cosine=cosine)


def changed(vector: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return how far a task vector moves each block of each layer, as a share of what is there: columns layer, block, score."""
    found = lengths(squares(vector, vector, base), "layer", "block")
    return found.rename(columns={"m": "score"})[["layer", "block", "score"]]
