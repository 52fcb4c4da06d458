"""Where two models differ: by layer and block, streamed from disk in the memory of one chunk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.checkpoints.agreement import check_whole
from xlnb.checkpoints.recipes import Expert, Source, seen_alike
from xlnb.checkpoints.requests import check_depth
from xlnb.errors import RequestError, WorkError, typed
from xlnb.weights.adapters import Adapter, Pair
from xlnb.weights.partitions import Choice, Partition
from xlnb.weights.sites import ATTENTION, FFN, NORM, Sites, locate_all
from xlnb.weights.tensor_files import FLOATS, Checkpoint, open_checkpoint

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

BLOCKS = (ATTENTION, FFN, NORM)
_BARS = " ▁▂▃▄▅▆▇█"
_EMPTY = "·"


@dataclass(frozen=True)
class Differences:
    """What :func:`diff` found: ``table`` has a row a layer and block; prints as a table with a bar each, and draws itself.

    Columns: layer (None outside the layers), block, parameters, change (the norm of b minus a, by that of a), cosine of the two,
    and with a partition math (the share that math owns).
    """

    title: str
    table: pd.DataFrame

    def __str__(self) -> str:
        change = self.table["change"]
        most = max([1e-30, *change[change < float("inf")]])  # infinite where a is zero
        heads = "".join(f"{block:^24}" for block in BLOCKS)
        lines = [self.title, f"{'':>9}{heads}", f"{'layer':>9}{'    change     cosine   ' * len(BLOCKS)}"]
        inside = self.table[self.table["layer"].notna()]
        for layer, part in inside.groupby("layer"):
            rows = part.set_index("block").to_dict("index")
            lines.append(
                f"{int(layer):>9}{''.join(_cell(rows.get(block), most) for block in BLOCKS)}{_owner(part)}".rstrip()
            )
        outside = self.table[self.table["layer"].isna()]
        lines += [f"{row['block']:>9}{_cell(row, most)}".rstrip() for row in outside.to_dict("records")]
        return "\n".join(lines)

    def picture(self) -> Figure:
        """Draw the relative change of each layer and block; a log scale, darker is more."""
        import matplotlib.pyplot as plt
        import seaborn as sns
        from matplotlib.colors import LogNorm

        inside = self.table[self.table["layer"].notna()]
        wide = inside.astype({"layer": int}).pivot(index="block", columns="layer", values="change").reindex(BLOCKS)
        seen = wide.where((wide > 0) & (wide < float("inf")))
        figure, axis = plt.subplots(figsize=(max(4.0, 0.35 * wide.shape[1] + 2), 2.2), layout="constrained")
        low, high = seen.min(axis=None), seen.max(axis=None)
        norm = LogNorm(low, high) if low < high else None
        sns.heatmap(seen, ax=axis, cmap="cividis_r", norm=norm, cbar_kws={"label": "relative change"}, linewidths=0.5)
        axis.set(xlabel="layer", ylabel="")
        axis.tick_params("y", rotation=0)
        return figure


def _cell(row: Mapping[str, Any] | None, most: float) -> str:
    if row is None:
        return f"{_EMPTY:>8}{'':16}"
    bar = _BARS[0 if row["change"] == 0 else max(1, round(min(row["change"], most) / most * (len(_BARS) - 1)))]
    return f"{row['change']:>10.2e} {bar} {row['cosine']:>8.5f}   "


def _owner(rows: pd.DataFrame) -> str:
    if "math" not in rows:
        return ""
    told = {1.0: "math", 0.0: "language"}
    shares = dict.fromkeys(told.get(share, f"{share:.0%} math") for share in rows["math"])
    return " " + ", ".join(shares)


@typed
def diff(
    a: str | Path,
    b: str | Path,
    *,
    base: str | Path | None = None,
    partition: str | Path | Partition | None = None,
) -> Differences:
    """Say where two models differ, by layer and block: relative change and cosine.

    Checkpoint folders, or LoRA adapters: one of an adapter and its base, two of one ``base``; without the base two adapters'
    updates are compared with each other. With a ``partition`` each row says which share math owns. Only parameters that both
    have are compared, and the title says how many one of them has alone; none in common, or of other shapes, are refused, and so
    are adapters of another base. Nothing is loaded whole. Source: ours (Frobenius norms).
    """
    import pandas as pd

    folders = {"a": a, "b": b} | ({"base": base} if base else {})
    everyone, left_out = _opened({role: open_checkpoint(folder) for role, folder in folders.items()})
    experts = everyone[:2]
    pairs = list(_pairs(experts, everyone[2] if base else None))
    sites = _located(experts, [name for name, *_ in pairs])
    if partition is not None and not any(one.adapter is None for one in everyone):
        check_depth(everyone)
    shares = Choice(partition).on(sites.depth) if partition is not None else None
    sums: dict[tuple[int | None, str], list[float]] = defaultdict(lambda: [0.0] * 4)
    owned: dict[tuple[int | None, str], set[float]] = defaultdict(set)
    for name, one, other, size in pairs:
        site = sites.of[name]
        key = site.layer, site.block
        products = _products(one, other)
        if not all(map(isfinite, products)):
            raise WorkError(
                f"{name!r} has NaN or infinite numbers in {a} or {b}: the training of one of them diverged."
            )
        for i, value in enumerate((*products, float(size))):
            sums[key][i] += value
        if shares is not None and site.layer is not None:
            owned[key].add(shares.share(site))
    rows = []
    for (layer, block), (square_a, square_b, square_change, count) in sorted(sums.items(), key=_order):
        dot = (square_a + square_b - square_change) / 2
        scale = (square_a * square_b) ** 0.5
        change = (square_change / square_a) ** 0.5 if square_a else float("inf") if square_change else 0.0
        told: dict[str, Any] = {"layer": layer, "block": block, "parameters": int(count), "change": change,
                                "cosine": dot / scale if scale else float("nan")}  # fmt: skip
        if shares is not None:
            found = owned[layer, block]
            told["math"] = sum(found) / len(found) if found else None
        rows.append(told)
    alone = _in_one_only(experts, everyone[2] if base else None)
    title = "\n".join([f"{b} against {a}: relative change and cosine", *left_out, *alone])
    return Differences(title, pd.DataFrame(rows))


def _opened(found: Mapping[str, Checkpoint]) -> tuple[list[Expert], list[str]]:
    """Return who is compared, full checkpoints as if saved alike, and what was left out of them, in words."""
    everyone = {role: Expert(role, checkpoint) for role, checkpoint in found.items()}
    full = [one for one in everyone.values() if one.adapter is None]
    for one in full:
        check_whole(one, located=False)
    return seen_alike(list(everyone.values()), everyone.get("base") or next(iter(full), None))


def _in_one_only(experts: Sequence[Expert], base: Expert | None) -> list[str]:
    """Say, in a line or in none, what is not compared because one of the two does not have it."""
    under = base or next((one for one in experts if one.adapter is None), None)  # of two adapters alone: none
    one, other = ((under if under and expert.adapter else expert) for expert in experts)
    names, others = (expert.adapter.shapes if expert.adapter else expert.checkpoint.tensors for expert in (one, other))
    if not (alone := [*(n for n in names if n not in others), *(n for n in others if n not in names)]):
        return []
    if len(alone) == 1:
        return [f"1 tensor is in one of them only ({alone[0]}) and is not compared"]
    return [f"{len(alone)} tensors are in one of them only ({alone[0]}, ...) and are not compared"]


def _order(entry: tuple[tuple[int | None, str], Any]) -> tuple[bool, int, int]:
    (layer, block), _ = entry
    return layer is None, layer or 0, BLOCKS.index(block) if block in BLOCKS else len(BLOCKS)


Chunks = Iterator["Tensor"]


def _pairs(experts: list[Expert], base: Expert | None) -> Iterator[tuple[str, Any, Any, int]]:
    """Yield each parameter that both have: its name, how to read it of either chunk by chunk, and how many numbers it has."""
    from xlnb.checkpoints.streaming import _chunks, values

    adapters = [expert.adapter for expert in experts if expert.adapter]
    if len(adapters) == 2 and base is None:
        yield from _pairs_of_updates(*adapters)
        return
    if len(adapters) == 1 and base is None:
        base = next(expert for expert in experts if expert.adapter is None)
    for adapter in adapters:  # or what it changes is looked up in the base, is not found, and counts as no change
        if base:
            adapter.check_base(base.checkpoint)
            adapter.check_tied(base.checkpoint)
    stored = [(base if base and expert.adapter else expert).checkpoint.tensors for expert in experts]
    common = [name for name in stored[0] if name in stored[1] and stored[0][name].dtype in FLOATS]
    if not common:
        raise RequestError("The two have no parameter in common: they are no models of one architecture.")
    for name in common:
        shape, other = (tensors[name].shape for tensors in stored)
        if shape != other:
            raise RequestError(f"{name!r} has shape {list(shape)} and {list(other)}: they are no models of one base.")

        def read(source: Source, shape: tuple[int, ...] = shape) -> Chunks:
            return (values(source, rows) for rows in _chunks(shape))

        first, second = (partial(read, expert.source(name, base)) for expert in experts)
        yield name, first, second, stored[0][name].size


def _pairs_of_updates(first: Adapter, second: Adapter) -> Iterator[tuple[str, Any, Any, int]]:
    from xlnb.checkpoints.streaming import _chunks

    shapes = first.shapes
    common = [name for name in shapes if name in second.shapes]
    if differing := [name for name in common if shapes[name] != second.shapes[name]]:
        raise RequestError(f"The adapters adapt {differing[0]!r} in different shapes: they are of different models.")
    if not common:
        raise RequestError("The adapters have no module in common.")

    def update(pair: Pair) -> Chunks:
        return (pair.update(rows) for rows in _chunks(pair.shape))

    for name in common:
        mine, other = (partial(update, adapter.pairs[name]) for adapter in (first, second))
        yield name, mine, other, shapes[name][0] * shapes[name][1]


def _located(experts: list[Expert], names: list[str]) -> Sites:
    """Return where the parameters lie; the depth is the models'."""
    whole = [expert.checkpoint.tensors for expert in experts if expert.adapter is None]
    return locate_all(list(whole[0]) if whole else names)


def _products(one: Any, other: Any) -> tuple[float, float, float]:
    """Return the squared norms of a, of b and of b minus a, in float64, chunk by chunk."""
    total = [0.0, 0.0, 0.0]
    for a, b in zip(one(), other(), strict=True):
        for i, tensor in enumerate((a, b, b - a)):
            total[i] += float(tensor.double().square().sum())
    return total[0], total[1], total[2]
