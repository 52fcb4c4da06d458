"""Which share of each parameter belongs to math and which to the language.

A partition maps a site to the share in [0, 1] that math owns: 1 is math, 0 is language, between is a transition. It says so
for the attention and the FFN of every layer. A layer's norms go with the block in their name: the input norm and the
post-attention norm with attention, the norms around the FFN with the FFN. Source of that rule: ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from xlnb.errors import RequestError, check_type, typed
from xlnb.weights.sites import ATTENTION, FFN, NORM, Site, Sites

COMPLEMENT = "complement of C"  # the control: the same layers, given to the other side
SIDES = ("math", "language")
OWNERS = ("base", *SIDES)  # of what lies outside the layers, where somebody says so
_STATED_DEPTHS = range(28, 33)  # on the paper's own depths the counts stand as given
_FFN_NORM = re.compile(r"ffn|mlp|feed_?forward")  # how the norms around the FFN are called, in known and other decoders


def block_of(site: Site) -> str:
    """Return the block that a site inside the layers goes with: a norm, with the block that it is called after."""
    with_ffn = site.block == FFN or (site.block == NORM and _FFN_NORM.search(site.projection) is not None)
    return FFN if with_ffn else ATTENTION


@dataclass(frozen=True)
class Partition:
    """Shares by layer: math owns ``attention[i]`` of layer i's attention and ``ffn[i]`` of its FFN (the same if not given).

    Sites outside the layers belong to neither side.

    >>> print(Partition("mine", (0, 0.5, 1, 1)))
    mine: LtMM
    >>> print(Partition("by block", attention=(0, 0), ffn=(1, 1)))
    by block: attention LL, FFN MM
    """

    name: str
    attention: tuple[float, ...]
    ffn: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_type("name", self.name, str)
        for block in ("attention", "ffn"):
            shares = getattr(self, block)
            check_type(block, shares, Collection[Any])
            # numpy's numbers are plain ones from here on
            plain = tuple(share.item() if hasattr(share, "item") else share for share in shares)
            object.__setattr__(self, block, plain)
        object.__setattr__(self, "ffn", self.ffn or self.attention)
        for share in self.attention + self.ffn:
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise RequestError(f"A partition's shares lie between 0 (language) and 1 (math), not {share!r}.")
        if not self.attention or len(self.attention) != len(self.ffn):
            raise RequestError(
                f"Partition {self.name} has {len(self.attention)} shares of attention and {len(self.ffn)} of FFN: give one "
                "for each layer in both."
            )

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.attention)

    @property
    def shares(self) -> dict[str, list[float]]:
        """The shares as plain JSON, which digests and tables hold: ``{"attention": [...], "ffn": [...]}``."""
        return {"attention": [float(share) for share in self.attention], "ffn": [float(share) for share in self.ffn]}

    @property
    def is_by_layer(self) -> bool:
        """Whether every layer belongs to one side as a whole (or is shared evenly by its blocks)."""
        return self.attention == self.ffn

    def check_depth(self, depth: int) -> None:
        """Refuse a model of another number of layers."""
        if self.depth != depth:
            raise RequestError(f"Partition {self.name} is of {self.depth} layers, but the model has {depth}.")

    def share(self, site: Site, side: str = "math") -> float:
        """Return the share of ``site`` that a side (``math`` or ``language``) owns.

        A site outside the layers is refused: recalled of the paper, embeddings, head and final norm stay the base's.
        """
        check_word("side", side, SIDES)
        if site.layer is None:
            raise RequestError(
                f"The {site.block} belongs to neither side: a partition divides transformer layers only."
            )
        if site.layer >= self.depth:
            raise RequestError(f"Partition {self.name} has {self.depth} layers, but layer {site.layer} was asked for.")
        share = (self.ffn if block_of(site) == FFN else self.attention)[site.layer]
        return share if side == "math" else 1 - share

    @classmethod
    @typed
    def from_scores(
        cls,
        math: Mapping[str, Sequence[float]],
        language: Mapping[str, Sequence[float]],
        name: str = "measured",
        blend: float = 0.0,
        budget: float | None = None,
    ) -> Partition:
        """Return the partition that gives each block of each layer to whom it matters more.

        ``math`` and ``language`` have a score, zero or above, for each layer under ``"attention"`` and ``"ffn"``, or under
        ``"layers"`` for whole layers. Each is counted as a share of its own sum, since losses of different texts have no common
        scale. A site whose two shares differ by at most ``blend`` of their sum is shared by half. With a ``budget``, the share of
        sites that the language gets, those go to it that matter most to it beside math. Source: ours.

        >>> print(Partition.from_scores({"layers": [1, 2, 5]}, {"layers": [4, 2, 2]}))
        measured: LtM
        >>> print(Partition.from_scores({"layers": [1, 2, 5]}, {"layers": [4, 2, 2]}, blend=0.5))
        measured: Ltt
        >>> print(Partition.from_scores({"layers": [1, 2, 5]}, {"layers": [4, 2, 2]}, budget=1 / 3))
        measured: LMM
        """
        check_fit(blend, budget)
        leans = _leanings(math, language)
        by_site = {(block, layer): lean for block, row in leans.items() for layer, lean in enumerate(row)}
        if budget is None:
            shares = {site: 0.5 if abs(lean) <= blend else float(lean > 0) for site, lean in by_site.items()}
        else:
            given = set(sorted(by_site, key=lambda site: by_site[site])[: round(budget * len(by_site))])
            shares = {site: float(site not in given) for site in by_site}
        rows = {block: tuple(shares[block, layer] for layer in range(len(row))) for block, row in leans.items()}
        return cls(name, rows.get("layers", rows.get(ATTENTION, ())), rows.get(FFN, ()))

    def complement(self) -> Partition:
        """Return the partition with the two sides exchanged (a control)."""
        rows = (tuple(1 - share for share in row) for row in (self.attention, self.ffn))
        return Partition(f"complement of {self.name}", *rows)

    @typed
    def shuffled(self, seed: int) -> Partition:
        """Return a random partition of equal size (a control): the same shares, given to other layers; never this one itself.

        Whole layers stay whole; otherwise attention and FFN are shuffled each for itself, so that the number of parameters of
        each side stays what it is.
        """
        from random import Random

        if len(set(self.attention)) == len(set(self.ffn)) == 1:
            raise RequestError(f"Every shuffle of partition {self.name} is itself: use its complement as a control.")
        rng, name = Random(seed), f"random {seed} of {self.name}"
        while True:
            order = rng.sample(range(self.depth), self.depth)
            other = order if self.is_by_layer else rng.sample(range(self.depth), self.depth)
            drawn = Partition(name, tuple(self.attention[i] for i in order), tuple(self.ffn[i] for i in other))
            if (drawn.attention, drawn.ffn) != (self.attention, self.ffn):
                return drawn

    @typed
    def to_yaml(self, path: str | Path) -> Path:
        """Write the partition as a YAML file that :func:`read_partition` reads, and return its path."""
        import yaml

        from xlnb.artifacts import whole_file

        rows = {"layers": self.attention} if self.is_by_layer else {"attention": self.attention, "ffn": self.ffn}
        content = {"name": self.name, **{key: list(row) for key, row in rows.items()}}
        plain = self.name.isprintable()  # some line breaks of Unicode do not survive YAML unless they are escaped
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=plain, default_flow_style=None, width=10_000)
        with whole_file(path) as partial:
            partial.write_text(
                f"# The share that math owns of each layer, first layer first.\n{text}", encoding="utf-8"
            )
        return Path(path)

    @property
    def marks(self) -> dict[str, str]:
        """The rows as letters: M math, L language, t shared."""
        letters = {0.0: "L", 1.0: "M"}
        return {block: "".join(letters.get(share, "t") for share in row) for block, row in self.shares.items()}

    def __str__(self) -> str:
        attention, ffn = self.marks.values()
        return f"{self.name}: " + (attention if self.is_by_layer else f"attention {attention}, FFN {ffn}")


def check_word(what: str, word: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of :data:`SIDES`, or of :data:`OWNERS`."""
    if word not in allowed:
        *others, last = map(repr, allowed)
        raise RequestError(f"{what}={word!r}: say {', '.join(others)} or {last}.")


def scaled_count(count: int, depth: int) -> int:
    """Return how many of ``depth`` layers stand for ``count`` of the paper's: as given on 28 to 32 layers, else scaled.

    Source: ours; max(1, floor(count * depth / 32 + 0.5)).

    >>> scaled_count(6, 18), scaled_count(2, 18), scaled_count(6, 28)
    (3, 1, 6)
    """
    return count if depth in _STATED_DEPTHS else max(1, floor(count * depth / 32 + 0.5))


@typed
def outer_layers(bottom: int, top: int, depth: int, name: str = "", transition: int = 0) -> Partition:
    """Return the partition that gives the first ``bottom`` and last ``top`` of ``depth`` layers to the language.

    ``transition`` layers just inside the swapped ones, on each side that has any, are shared half and half.

    >>> print(outer_layers(1, 1, 4, "small"))
    small: LMML
    >>> print(outer_layers(2, 1, 8, transition=1))
    outer 2+1, 1 transition: LLtMMMtL
    """
    below, above = (transition if count else 0 for count in (bottom, top))
    middle = depth - bottom - top - below - above
    if min(bottom, top, transition) < 0 or middle < 0:
        more = f" with {transition} transition layers a side" if transition else ""
        raise RequestError(
            f"bottom={bottom} and top={top}{more} do not fit into {depth} layers: use counts from 0 that add to at most it."
        )
    shares = (0.0,) * bottom + (0.5,) * below + (1.0,) * middle + (0.5,) * above + (0.0,) * top
    return Partition(name or f"outer {bottom}+{top}" + (f", {transition} transition" if transition else ""), shares)


@typed
def partition_c(depth: int) -> Partition:
    """Return partition C: the first six and the last two of 32 layers to the language, the middle to math (paper, reported).

    >>> print(partition_c(18))
    C: LLLMMMMMMMMMMMMMML
    """
    return _scaled_outer(6, 2, depth, "C")


@typed
def uniform(share: float, depth: int) -> Partition:
    """Return the partition that gives math the same share of every layer (1: all math; 0: all language)."""
    return Partition({1.0: "all math", 0.0: "all language"}.get(share, f"uniform {share}"), (float(share),) * depth)


def _scaled_outer(bottom: int, top: int, depth: int, name: str, transition: int = 0) -> Partition:
    if depth < 2:
        raise RequestError(f"A model of {depth} layers has no outer layers and a middle: at least 2 are needed.")
    bottom, top, transition = (scaled_count(count, depth) if count else 0 for count in (bottom, top, transition))
    return outer_layers(bottom, top, depth, name, transition)


NAMED: dict[str, Callable[[int], Partition]] = {  # by the number of layers
    # All attention to the language, all FFN to math (recalled, ours).
    "A": lambda depth: Partition("A", (0.0,) * depth, (1.0,) * depth),
    # The attention of the first eight and the last four of 32 layers to the language, all else to math (recalled, ours).
    "B": lambda depth: Partition("B", _scaled_outer(8, 4, depth, "").attention, (1.0,) * depth),
    "C": partition_c,
    # With a transition layer on each side (arXiv 2410.01335, reported).
    "predecessor": lambda depth: _scaled_outer(5, 2, depth, "predecessor", 1),
    "half and half": lambda depth: Partition("half and half", (0.0,) * (depth // 2) + (1.0,) * (depth - depth // 2)),
    "all math": lambda depth: uniform(1, depth),
    "all language": lambda depth: uniform(0, depth),
}
_OUTER = re.compile(r"outer (\d{1,4})\+(\d{1,4})(?:, (\d{1,4}) transition)?")
_RANDOM = re.compile(r"random (\d{1,9}) of (.+)")
NAMES = (*NAMED, "outer B+T", "outer B+T, N transition", "complement of NAME", "random SEED of NAME")


@typed
def named_partition(name: str, depth: int) -> Partition:
    """Return the partition of a name on ``depth`` layers; names are listed in ``NAMES``.

    >>> for name in ("A", "B", "predecessor", "half and half"):
    ...     print(named_partition(name, 9))
    A: attention LLLLLLLLL, FFN MMMMMMMMM
    B: attention LLMMMMMML, FFN MMMMMMMMM
    predecessor: LtMMMMMtL
    half and half: LLLLMMMMM
    >>> print(named_partition("complement of C", 8))
    complement of C: MMLLLLLM
    >>> print(named_partition("random 0 of outer 2+1", 8))
    random 0 of outer 2+1: MLMLMMLM
    """
    if name in NAMED:
        return NAMED[name](depth)
    if match := _OUTER.fullmatch(name):
        return outer_layers(int(match[1]), int(match[2]), depth, transition=int(match[3] or 0))
    if name.startswith("complement of "):
        return named_partition(name.removeprefix("complement of "), depth).complement()
    if match := _RANDOM.fullmatch(name):
        return named_partition(match[2], depth).shuffled(int(match[1]))
    raise RequestError(f"No partition {name!r}: choose one of {', '.join(NAMES)}.")


def check_fit(blend: float, budget: float | None) -> None:
    """Raise RequestError where a blend or a budget of :meth:`Partition.from_scores` is none."""
    if budget is None and not 0 <= blend < 1:
        raise RequestError(f"blend is {blend}: it is a share, from 0 to below 1.")
    if budget is not None and (blend or not 0 <= budget <= 1):
        raise RequestError(f"budget is {budget}, blend {blend}: give a budget from 0 to 1 alone, or a blend alone.")


def _leanings(math: Mapping[str, Sequence[float]], language: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return for each site how much more it matters to math, from -1 (to the language alone) to 1; 0 where to neither."""
    if set(math) != set(language) or set(math) not in ({"layers"}, {ATTENTION, FFN}):
        raise RequestError("Scores are given under 'layers', or under 'attention' and 'ffn', the same for both sides.")
    if len({len(row) for scores in (math, language) for row in scores.values()}) != 1:
        raise RequestError("Scores need a number for each layer: some of the lists differ in length.")
    totals = []
    for side, scores in zip(SIDES, (math, language), strict=True):
        values = [value for row in scores.values() for value in row]
        if not all(0 <= value < float("inf") for value in values) or not sum(values):
            raise RequestError(f"The scores of the {side} must be finite, zero or above, and not all zero.")
        totals.append(sum(values))
    found = {}
    for block in math:
        shares = [(a / totals[0], b / totals[1]) for a, b in zip(math[block], language[block], strict=True)]
        found[block] = [(a - b) / (a + b) if a + b else 0.0 for a, b in shares]
    return found


@dataclass(frozen=True)
class Choice:
    """How a user says a partition: an object, a name or a YAML file, or counts of layers; C where nothing is said."""

    partition: str | Path | Partition | None = None
    bottom: int | None = None
    top: int | None = None
    transition: int | None = None

    def on(self, depth: int) -> Partition:
        """Return the partition of ``depth`` layers that is meant.

        >>> print(Choice(bottom=1, top=2).on(5))
        outer 1+2: LMMLL
        """
        if self.bottom is not None or self.top is not None:
            if self.partition is not None:
                raise RequestError("Say either a partition or --bottom and --top, not both.")
            if self.bottom is None or self.top is None:
                raise RequestError("--bottom and --top go together: say both (0 where a side is not swapped).")
            return outer_layers(self.bottom, self.top, depth, transition=self.transition or 0)
        if self.transition is not None:
            raise RequestError("--transition goes with --bottom and --top; a partition says its own transition layers.")
        found = self.partition
        if not isinstance(found, Partition):
            name = "C" if found is None else str(found)
            if not name.endswith((".yaml", ".yml")):
                return named_partition(name, depth)
            found = read_partition(name)
        found.check_depth(depth)
        return found


@typed
def read_partition(path: str | Path) -> Partition:
    """Read a partition from a YAML file: ``name``, and ``layers`` or both ``attention`` and ``ffn``, lists of shares."""
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or no such date
        why = str(error).splitlines()[0]
        raise RequestError(f"The partition file {path} cannot be read: {why}.") from error
    match content:
        case {"layers": [_, *_] as layers, **rest} if rest.keys() <= {"name"}:
            rows = [layers]
        case {"attention": [_, *_] as attention, "ffn": [_, *_] as ffn, **rest} if rest.keys() <= {"name"}:
            rows = [attention, ffn]
        case _:
            raise RequestError(
                f"The partition file {path} needs 'layers: [shares]', or 'attention: [shares]' and 'ffn: [shares]', each a list "
                "of numbers from 0 (language) to 1 (math), one a layer; 'name' is free, and nothing else may stand there."
            )
    name = content.get("name")
    return Partition(path.stem if name is None else str(name), *map(tuple, rows))


def owned(partition: Partition, sites: Sites, sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return how many parameters each side owns, by block: ``{block: {"math": n, "language": n, "neither": n}}``.

    ``sizes`` has the number of elements of each parameter. A transition layer counts with its shares; what lies outside the
    layers is owned by neither side. Source: ours.
    """
    table: dict[str, dict[str, float]] = {}
    for name, size in sizes.items():
        site = sites.of[name]
        row = table.setdefault(site.block, {"math": 0, "language": 0, "neither": 0})
        if site.layer is None:
            row["neither"] += size
        else:
            for side in SIDES:
                row[side] += partition.share(site, side) * size
    first = [block for block in (ATTENTION, FFN, NORM) if block in table]
    return {block: table[block] for block in (*first, *sorted(table.keys() - first))}
