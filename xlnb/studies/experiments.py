"""What the chapters compare, as names of methods and partitions."""

from __future__ import annotations

from collections.abc import Sequence

from xlnb.weights.partitions import COMPLEMENT

# What the chapter on Layer-Swapping compares, live or from committed results.
SWAP = "layer-swapping"
SINGLE_EXPERTS = ("base", "math-only", "language-only")
SWEEP_BOTTOMS, SWEEP_TOPS = (0, 1, 2, 3, 4, 6), (0, 1, 2, 4)
RANDOM_CONTROLS = tuple(f"random {seed} of C" for seed in range(5))
SWAP_CONTROLS = ("C", COMPLEMENT, *RANDOM_CONTROLS, "half and half", "predecessor", "A", "complement of A", "B")


def sweep_partitions(bottoms: Sequence[int], tops: Sequence[int], depth: int) -> list[str]:
    """Return the names of the partitions with so many first and last layers to the language, those that fit ``depth``.

    >>> sweep_partitions([0, 2], [0, 1], 2)
    ['outer 0+0', 'outer 0+1', 'outer 2+0']
    """
    return [f"outer {bottom}+{top}" for bottom in bottoms for top in tops if bottom + top <= depth]


MEASURING = "measuring"
