"""Independent pieces of work, each on processor cores of its own.

Torch's own threads wait for each other after every operation: asleep they are late, and spinning they take a core from whatever
else runs. Threads that have nothing in common but the weights wait once, at the end (tests/benchmarks/waiting.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

PASSES = 4  # through a model at once, at most: what each makes needs memory, and torch's own threads share what cores are left
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def on_cores(do: Callable[[Piece], Result], pieces: Sequence[Piece], at_once: int | None = None) -> Iterator[Result]:
    """Yield ``do`` of each piece, in their order; as many are under way as torch has threads, or ``at_once``.

    They begin in their order: the largest first, and nobody waits long for the last. What is local to a thread, such as
    autocast or inference mode, is entered inside ``do``. Where one fails, none begins any more, and its error is raised. With a
    single thread, or a single piece, nothing is special.

    >>> list(on_cores(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(threads if at_once is None else at_once, threads, len(pieces))
    if workers < 2:
        yield from map(do, pieces)
        return
    torch.set_num_threads(threads // workers)  # of each thread that begins from here on, and of MKL
    pool = ThreadPoolExecutor(workers)
    try:
        for future in [pool.submit(do, piece) for piece in pieces]:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
