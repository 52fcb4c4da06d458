"""Which share of each parameter belongs to math and which to the language.

A partition maps a site to the share in [0, 1] that math owns: 1 is math, 0 is language, between is a transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from xlnb.errors import RequestError
from xlnb.sites import Site

_C_BOTTOM, _C_TOP = 6, 2  # paper, reported: the first six and the last two transformer layers go to the language
COMPLEMENT = "complement of C"  # the control: the same layers, given to the other side
_STATED_DEPTHS = range(28, 33)  # on the paper's own depths the counts stand as given


@dataclass(frozen=True)
class Partition:
    """Shares by layer: ``shares[i]`` is what math owns of layer ``i``. Sites outside the layers belong to the base."""

    name: str
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if wrong := [share for share in self.shares if not 0 <= share <= 1]:
            raise RequestError(f"A partition's shares lie between 0 (language) and 1 (math), not {wrong[0]}.")

    def share(self, site: Site) -> float:
        """Return the share of ``site`` that math owns.

        Raises :class:`~xlnb.errors.RequestError` for a site outside the layers, which neither side owns (recalled of the
        paper: embeddings, head and final norm stay the base's), and for a layer that the partition does not have.
        """
        if site.layer is None:
            raise RequestError(
                f"The {site.block} belongs to neither side: a partition divides transformer layers only."
            )
        if site.layer >= len(self.shares):
            raise RequestError(
                f"Partition {self.name} has {len(self.shares)} layers, but layer {site.layer} was asked for."
            )
        return self.shares[site.layer]

    def complement(self) -> Partition:
        """Return the partition with the two sides exchanged (a control)."""
        return Partition(f"complement of {self.name}", tuple(1 - share for share in self.shares))

    def __str__(self) -> str:
        marks = {0.0: "L", 1.0: "M"}
        return f"{self.name}: " + "".join(marks.get(share, "t") for share in self.shares)


def scaled_count(count: int, depth: int) -> int:
    """Return how many of ``depth`` layers stand for ``count`` of the paper's: as given on 28 to 32 layers, else scaled.

    Source: ours; max(1, floor(count * depth / 32 + 0.5)).

    >>> scaled_count(6, 18), scaled_count(2, 18), scaled_count(6, 28)
    (3, 1, 6)
    """
    return count if depth in _STATED_DEPTHS else max(1, floor(count * depth / 32 + 0.5))


def outer_layers(bottom: int, top: int, depth: int, name: str = "") -> Partition:
    """Return the partition that gives the first ``bottom`` and last ``top`` of ``depth`` layers to the language.

    Raises :class:`~xlnb.errors.RequestError` where the counts are negative or exceed the depth.

    >>> print(outer_layers(1, 1, 4, "small"))
    small: LMML
    """
    if min(bottom, top) < 0 or bottom + top > depth:
        raise RequestError(
            f"bottom={bottom} and top={top} do not fit into {depth} layers: use counts from 0 that add to at most it."
        )
    return Partition(name or f"outer {bottom}+{top}", (0.0,) * bottom + (1.0,) * (depth - bottom - top) + (0.0,) * top)


def partition_c(depth: int) -> Partition:
    """Return partition C on ``depth`` layers: outer layers to the language, the middle to math (paper, reported).

    >>> print(partition_c(18))
    C: LLLMMMMMMMMMMMMMML
    """
    return outer_layers(scaled_count(_C_BOTTOM, depth), scaled_count(_C_TOP, depth), depth, "C")


def named_partition(name: str, depth: int) -> Partition:
    """Return the partition of a name on ``depth`` layers: C, or its complement. Raises for an unknown name.

    >>> print(named_partition("complement of C", 8))
    complement of C: MMLLLLLM
    """
    known = {"C": partition_c, COMPLEMENT: lambda depth: partition_c(depth).complement()}
    if name not in known:
        raise RequestError(f"No partition {name!r}: choose one of {', '.join(known)}.")
    return known[name](depth)


def uniform(share: float, depth: int) -> Partition:
    """Return the partition that gives math the same share of every layer (1: all math; 0: all language)."""
    return Partition({1.0: "all math", 0.0: "all language"}.get(share, f"uniform {share}"), (float(share),) * depth)
