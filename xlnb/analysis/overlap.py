"""How much what matters for one ability is what matters for another: overlap of the top, rank correlation, against chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlnb.errors import RequestError
from xlnb.stats import ALPHA, Interval

if TYPE_CHECKING:
    import numpy as np

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of the top, by default
_SHUFFLES = 10_000
_SEEDS = 3  # at least, for an interval: with one left out there must be a pair


def top(scores: Sequence[float] | np.ndarray, share: float) -> np.ndarray:
    """Return which scores are among the top ``share``, at least one of them; of equal ones the first.

    >>> top([3, 1, 2, 5], 0.5).tolist()
    [True, False, False, True]
    """
    import numpy as np

    values = _numbers(scores)
    check_share(share)
    count = max(1, round(share * len(values)))
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def check_share(share: float) -> None:
    """Refuse a share of the top that is none."""
    if not 0 < share <= 1:
        raise RequestError(f"The share of the top is {share}: it lies above 0, up to 1.")


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of what is in both sets among what is in either.

    >>> jaccard(top([3, 1, 2, 5], 0.5), top([4, 1, 9, 2], 0.5))
    0.3333333333333333
    """
    return float((a & b).sum() / (a | b).sum())


def by_chance(n: int, chosen: int) -> float:
    """Return the Jaccard index to be expected of two random sets of so many out of ``n``.

    The mean over the hypergeometric distribution of how many are in both.

    >>> by_chance(4, 2)
    0.38888888888888884
    """
    import numpy as np
    from scipy.stats import hypergeom

    both = np.arange(chosen + 1)
    return float((hypergeom(n, chosen, chosen).pmf(both) * both / (2 * chosen - both)).sum())


@dataclass(frozen=True)
class Likeness:
    """The rank correlation of two lists of scores, and how often a random assignment of sites gives one as small or as large.

    ``p_less`` is small where they are less alike than by chance (what matters for one does not for the other), ``p_more`` where
    they are more alike.
    """

    correlation: float
    p_less: float
    p_more: float


def likeness(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int = 0) -> Likeness:
    """Return Spearman's correlation of two lists of scores with one-sided p-values of a permutation test over sites.

    Sites of one model are no random sample: what it tests is whether the *labels* of the sites matter. Source: ours.
    """
    import numpy as np
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in _both(a, b)]
    first, second = ((one - one.mean()) / one.std() if one.std() else one * 0 for one in ranks)
    found = float((first * second).mean())
    generator = np.random.default_rng(seed)
    rows = np.broadcast_to(second, (_SHUFFLES, len(second)))
    drawn = generator.permuted(rows, axis=1) @ first / len(first)
    within = 1e-9  # equal up to rounding counts as reached
    less, more = ((drawn <= found + within).sum(), (drawn >= found - within).sum())
    return Likeness(found, float((less + 1) / (_SHUFFLES + 1)), float((more + 1) / (_SHUFFLES + 1)))


def alike(values: np.ndarray, share: float | None = None) -> np.ndarray:
    """Return how alike every two rows of scores are: the Jaccard index of their tops, or their rank correlation.

    ``values`` is (sides, seeds, sites); what is returned (sides, seeds, sides, seeds). Rows without a spread correlate with none.
    """
    import numpy as np
    from scipy.stats import rankdata

    rows = values.reshape(-1, values.shape[-1])
    if share is None:
        ranks = rankdata(rows, axis=1)
        ranks -= ranks.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(ranks, axis=1, keepdims=True)
        ranks /= np.where(norms, norms, 1)
        found = ranks @ ranks.T
    else:
        tops = np.array([top(row, share) for row in rows], dtype=float)
        both = tops @ tops.T
        found = both / (tops.sum(axis=1)[:, None] + tops.sum(axis=1) - both)
    return found.reshape(*values.shape[:2], *values.shape[:2])


def jackknife(estimate: Callable[[Sequence[int]], float], seeds: int, sites: int = 0) -> Interval:
    """Return an estimate from all seeds with a 95 % interval from leaving out one seed at a time.

    ``estimate`` takes the places of the seeds that stay. A seed is in many pairs, and leaves all of them (and all languages) at
    once, so that none counts twice. With fewer than three seeds the interval is not known (nan).
    Source: Arvesen 1969, of U-statistics; Student's t with a degree of freedom less than there are seeds.
    """
    import numpy as np
    from scipy.special import stdtrit

    every = list(range(seeds))
    value = estimate(every)
    if seeds < _SEEDS:
        return Interval(value, float("nan"), float("nan"), sites, seeds)
    left = [estimate([seed for seed in every if seed != out]) for out in every]
    pseudo = seeds * value - (seeds - 1) * np.array(left)
    half = -float(stdtrit(seeds - 1, ALPHA / 2)) * float(pseudo.std(ddof=1)) / seeds**0.5
    return Interval(value, value - half, value + half, sites, seeds)


def _both(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = _numbers(a), _numbers(b)
    if len(first) != len(second):
        raise RequestError(
            f"{len(first)} scores are held against {len(second)}: give both of the same sites, in one order."
        )
    return first, second


def _numbers(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    import numpy as np

    values = np.asarray(scores, dtype=float).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise RequestError("Scores are finite numbers, at least one of them.")
    return values
