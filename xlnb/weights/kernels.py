"""The arithmetic of merging, one tensor at a time: a merge is one function and one row of ``MERGES``, in memory and on disk.

A kernel reads the experts' values of a tensor chunk by chunk, as often as it likes, and yields the merged chunks. It changes
nothing that it reads, and works on the device where that lies. Nothing heavy is imported before a kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import acos, sin
from threading import local
from typing import TYPE_CHECKING

from xlnb.errors import RequestError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from torch import Generator, Tensor

TIES_DENSITY, DARE_DENSITY = 0.2, 0.1  # kept of each task vector: the defaults of the two papers
HELD = 1 << 24  # elements of an update that a merge which looks at it several times keeps in memory
_LARGEST, _SMALLEST = 1e6, 1e-6  # of a weight; what is divided by a smaller sum is lost in float32
_SAME_DIRECTION = 0.9995  # where |cosine| is larger, SLERP is linear interpolation, as everywhere
Weights = Sequence[float | None] | None  # one for each expert, or none at all; what is None has its default
Read = Callable[[], Iterable["Tensor"]]  # float32 chunks, the same each time


@dataclass(frozen=True)
class Seen:
    """A tensor as a kernel sees it: its name, its number of elements, and how to read each expert's chunks."""

    name: str
    size: int
    experts: Sequence[Read]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Go through the chunks of all experts side by side."""
        return zip(*(read() for read in self.experts), strict=True)


@dataclass(frozen=True)
class Options:
    """What a merge is told beside its experts; the weights of a soup are shares of their ``total``."""

    weights: tuple[float, ...] = ()
    total: float = 1.0
    density: float = 1.0
    seed: int = 0
    t: float = 0.5


@dataclass(frozen=True)
class Merge:
    """A merge: its kernel, whose first line is the command's help, and what it takes.

    The kernel sees the experts' whole values, or their ``updates``, to which the base is added afterwards. Where it is
    ``linear``, the updates of what it merges are merged in the same way, so that adapters can stay adapters.
    """

    slug: str
    title: str
    kernel: Callable[[Seen, Options], Iterator[Tensor]]
    updates: bool = False
    linear: bool = False
    looks_again: bool = False  # at its updates, which are held in memory if they are not too large
    by_partition: bool = False
    pair: bool = False  # of two experts only
    weights: bool = True
    mean: bool = False  # it is divided by weights
    shares: bool = False  # the weights are divided by their sum
    density: float | None = None  # the default, where it takes one
    seed: bool = False
    t: bool = False

    def options(
        self, n: int, weights: Weights = None, density: float | None = None, seed: int = 0, t: float = 0.5
    ) -> Options:
        """Return the checked options for ``n`` experts; what is None has its default."""
        given = [None] * n if weights is None else list(weights)
        if not n or len(given) != n:
            raise RequestError(
                f"{n} experts and {len(given)} weights: give one weight for each of at least one expert."
            )
        if any(weight is not None for weight in given) and not self.weights:
            raise RequestError(f"{self.slug} takes no weights" + ("; say --t." if self.t else "."))
        if any(weight is not None and not abs(weight) < _LARGEST for weight in given):
            raise RequestError(f"A weight is a number between -{_LARGEST:g} and {_LARGEST:g}, not one of {given}.")
        numbers = tuple(1.0 if weight is None else float(weight) for weight in given)
        if self.mean and any(0 < abs(weight) < _SMALLEST for weight in numbers):
            raise RequestError(
                f"A weight of {self.slug} is 0, or at least {_SMALLEST:g} in size, not one of {given}: give larger ones."
            )
        total = sum(numbers) if self.shares else 1.0
        if abs(total) < _SMALLEST:
            raise RequestError("The weights of a soup add up to 0: they are shares, so give others.")
        if density is not None and self.density is None:
            raise RequestError(f"{self.slug} takes no density.")
        kept = (self.density or 1.0) if density is None else density
        if not 0 < kept <= 1:
            raise RequestError(f"density={kept}: the share that is kept is larger than 0 and at most 1.")
        if t != Options.t and not self.t:
            raise RequestError(f"{self.slug} takes no t.")
        if seed and not self.seed:
            raise RequestError(f"{self.slug} takes no seed.")
        if not 0 <= t <= 1:
            raise RequestError(f"t={t}: it lies between 0 (the first expert) and 1 (the second).")
        if self.pair and n != 2:
            raise RequestError(f"{self.title} goes between two experts, not {n}.")
        if seed < 0:
            raise RequestError(f"The seed is {seed}: it must be 0 or more.")
        return Options(numbers, total, kept, seed, t)

    def told(self, options: Options) -> str:
        """Return the options that it takes, in words."""
        shares = ", ".join(f"{weight / options.total:g}" for weight in options.weights)
        chosen = [f"density {options.density:g}"] if self.density else []
        chosen += [f"seed {options.seed}"] if self.seed else []
        chosen += [f"t {options.t:g}"] if self.t else []
        return "; ".join(part for part in (f"weights {shares}" if self.weights else "", ", ".join(chosen)) if part)


def soup(tensor: Seen, options: Options) -> Iterator[Tensor]:
    """Average the experts; weights are shares and are divided by their sum."""
    for values in tensor:
        # A mean is divided once at the end: so it rounds as it should where the shares, such as a third, cannot be stored.
        merged = weighted_sum(values, options.weights)
        yield merged if options.total == 1 else merged.div_(options.total)


def task_arithmetic(tensor: Seen, options: Options) -> Iterator[Tensor]:
    """Add the experts' updates to the base, each times its weight (1 where none is said)."""
    return (_added(updates, options.weights) for updates in tensor)


def ties(tensor: Seen, options: Options) -> Iterator[Tensor]:
    """Trim each update to its largest elements (--density, 0.2 where nothing is said), elect signs, average those that agree."""
    k = trim_count(options.density, tensor.size)
    trims = [trim(read(), *_threshold(read, k, tensor.size)) for read in tensor.experts]
    return (elected(updates, options.weights) for updates in zip(*trims, strict=True))


def dare(tensor: Seen, options: Options) -> Iterator[Tensor]:
    """Drop elements of each update at random (--density are kept, 0.1 where nothing is said), rescale the rest, add all."""
    drops = [dare_generator(options.seed, i, tensor.name) for i in range(len(tensor.experts))]
    for updates in tensor:
        kept = [dropped(update, options.density, drop) for update, drop in zip(updates, drops, strict=True)]
        yield _added(kept, options.weights)


def slerp(tensor: Seen, options: Options) -> Iterator[Tensor]:
    """Interpolate between two experts along the sphere, tensor by tensor."""
    dot = first = second = 0.0  # in float64
    for a, b in tensor:
        a, b = a.double(), b.double()
        dot += float((a * b).sum())
        first += float(a.square().sum())
        second += float(b.square().sum())
    weights = slerp_weights(dot, first**0.5, second**0.5, options.t)
    return (weighted_sum(values, weights) for values in tensor)


# A layer that two sides share is a soup of both by their shares; one that goes back to the base in part is task arithmetic.
MERGES = {
    merge.slug: merge
    for merge in (
        Merge("layer-swapping", "Layer-Swapping", soup, linear=True, by_partition=True, weights=False),
        Merge("soup", "Soup", soup, linear=True, mean=True, shares=True),
        Merge("task-arithmetic", "Task arithmetic", task_arithmetic, updates=True, linear=True),
        Merge("ties", "TIES", ties, updates=True, looks_again=True, mean=True, density=TIES_DENSITY),
        Merge("dare", "DARE", dare, updates=True, density=DARE_DENSITY, seed=True),
        Merge("slerp", "SLERP", slerp, pair=True, weights=False, t=True),
    )
}
REVERT = Merge("revert", "Revert", task_arithmetic, updates=True, linear=True, by_partition=True, weights=False)


def weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of float32 tensors, added up in the order given, each product and sum rounded at once."""
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total.add_(value, alpha=weight)
    return total


def _added(updates: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum with each product rounded before it is added."""
    total = weights[0] * updates[0]
    for update, weight in zip(updates[1:], weights[1:], strict=True):
        total.add_(weight * update)
    return total


def trim_count(density: float, n: int) -> int:
    """Return how many of ``n`` elements a trim keeps: rounded down, but at least one."""
    return min(n, max(1, int(density * n)))


def trim(chunks: Iterable[Tensor], threshold: float, ties: int | None) -> Iterator[Tensor]:
    """Yield the chunks without their small elements: kept are all above a threshold, and of those equal to it the first ``ties``.

    ``ties`` is None where all equal to the threshold are kept.
    """
    import numpy as np
    from torch.nn.functional import hardshrink

    for delta in chunks:
        if threshold == 0:
            yield delta.clone()  # what is left is zero anyway
        elif ties is None:
            yield hardshrink(delta, float(np.nextafter(np.float32(threshold), np.float32(0))))
        else:
            kept = hardshrink(delta.contiguous(), threshold)
            # numpy finds them in a third of the time
            first = np.flatnonzero((delta.abs() == threshold).cpu().numpy())[:ties]
            kept.view(-1)[first] = delta.flatten()[first]
            ties -= len(first)
            yield kept


def _threshold(read: Read, k: int, size: int) -> tuple[float, int | None]:
    """Return the k-th largest magnitude of all chunks together, and how many equal to it are among the k largest."""
    import torch

    if not size:
        return 0.0, None
    if size > HELD or next(iter(read())).device.type != "cpu":
        return kth_magnitude_streamed(read, k)
    magnitudes, at = scratch("magnitudes", size), 0
    for chunk in read():
        torch.abs(chunk.detach().flatten(), out=magnitudes[at : at + chunk.numel()])
        at += chunk.numel()
    return kth_magnitude(magnitudes.numpy(), k)


def kth_magnitude(magnitudes: NDArray[float32], k: int) -> tuple[float, int | None]:
    """Return the k-th largest, and how many equal to it are among the k largest (None: all); the flat array is reordered."""
    magnitudes.partition(len(magnitudes) - k)
    smaller, largest = magnitudes[:-k], magnitudes[-k:]
    magnitude = largest[0]
    return float(magnitude), int((largest == magnitude).sum()) if (smaller == magnitude).any() else None


def kth_magnitude_streamed(read: Read, k: int) -> tuple[float, int | None]:
    """Return what :func:`kth_magnitude` does for the elements of all chunks together, holding one at a time.

    Exact, by two histograms over the bits of the numbers instead of a sort: the bits of positive floats are ordered as the
    floats are.
    """
    import numpy as np
    import torch

    def all_bits() -> Iterator[Tensor]:
        return (chunk.detach().abs().contiguous().view(torch.int32).flatten() for chunk in read())

    high, left, _ = _bin_from_the_top((bits >> 16 for bits in all_bits()), 1 << 15, k)
    lower = (bits[(bits >> 16) == high] & 0xFFFF for bits in all_bits())
    low, ties, equal = _bin_from_the_top(lower, 1 << 16, left)
    magnitude = np.array((high << 16) | low, dtype=np.int32).view(np.float32)
    return float(magnitude), None if ties == equal else ties


def _bin_from_the_top(numbers: Iterable[Tensor], bins: int, k: int) -> tuple[int, int, int]:
    """Return the bin in which the k-th number from the top lies, its rank within the bin, and how many are in it."""
    import torch

    counts = reduce(torch.Tensor.add_, (torch.bincount(some, minlength=bins) for some in numbers))
    from_top = counts.flip(0).cumsum(0)
    place = int((from_top < k).sum())
    above = int(from_top[place - 1]) if place else 0
    return bins - 1 - place, k - above, int(from_top[place]) - above


def elected(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return, for each element, the weighted mean of those updates whose sign is that of their weighted sum.

    Where their weights add up to nothing (below 1e-6 in size, possible of weights of mixed sign) it is their weighted sum.
    The ``deltas`` are overwritten.
    """
    import torch
    from torch import Tensor

    # Signs are multiplied in and clamped away, in place: torch's `where` takes ten times as long, and so does fresh memory.
    scaled = [delta if weight == 1 else delta.mul_(weight) for delta, weight in zip(deltas, weights, strict=True)]
    total = reduce(Tensor.add_, scaled[1:], scaled[0].clone())
    sign = torch.copysign(total.new_ones(()), total)
    agreeing = [delta.mul_(sign).clamp_(min=0) for delta in scaled]  # from the elected side the others are negative
    total = reduce(Tensor.add_, agreeing[1:], total.copy_(agreeing[0]))
    parts = [
        one.sign_() if weight == 1 else one.sign_().mul_(weight) for one, weight in zip(agreeing, weights, strict=True)
    ]
    divisor = reduce(Tensor.add_, parts)
    if min(weights) > 0:
        divisor.clamp_(min=min(weights))  # only where nobody agrees is it smaller: 0
    else:
        # Weights of mixed sign may add up to nothing, and rounding leaves a little of it: such a sum is divided by 1, as mergekit
        # divides it.
        divisor[divisor.abs() < _SMALLEST] = 1
    return total.div_(divisor).mul_(sign)


def dare_generator(seed: int, expert: int, name: str) -> Generator:
    """Return the random numbers that decide what DARE drops of one tensor of one expert (0, 1, ...)."""
    from hashlib import sha256

    import torch

    digest = sha256(f"{seed}/{expert}/{name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def dropped(delta: Tensor, density: float, generator: Generator) -> Tensor:
    """Return ``delta`` with elements kept with probability ``density`` and divided by it, the others zero.

    They are drawn on the CPU, so that the same ones are kept on every device.
    """
    import torch

    kept = torch.rand(delta.numel(), generator=generator, device="cpu").view(delta.shape) < density
    return delta * kept.to(delta.device) / density


def slerp_weights(dot: float, first_norm: float, second_norm: float, t: float) -> tuple[float, float]:
    """Return the weights of the two tensors in their spherical interpolation; linear where they point the same way.

    >>> slerp_weights(0.0, 1.0, 1.0, 0.0), slerp_weights(1.0, 1.0, 1.0, 0.25)
    ((1.0, 0.0), (0.75, 0.25))
    """
    cosine = dot / (first_norm * second_norm) if first_norm * second_norm > 0 else 1.0
    if abs(cosine) > _SAME_DIRECTION:
        return 1 - t, t
    angle = acos(cosine)
    return sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)


_mine = local()


def scratch(key: object, size: int) -> Tensor:
    """Return memory of this thread that its last tensor used: fresh memory costs more than the arithmetic on it."""
    import torch

    held: dict[object, Tensor] = _mine.__dict__.setdefault("scratch", {})
    if key not in held:
        held[key] = torch.empty(HELD, dtype=torch.float32, device="cpu")
    return held[key][:size]
