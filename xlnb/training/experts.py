"""An expert is its streams: what it learns from, which share of the parameters each may move, where it starts, how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xlnb.corpora import Example, mismatched
from xlnb.errors import RequestError, known

ALL, MATH, LANGUAGE = "all", "math", "language"  # whose parameters a stream may move
# What a stream may be of: English word problems, generic text of the language, and word problems in the language, which the
# paper's problem says nobody has. Behind SHUFFLED stands the same with each completion behind another prompt.
IN_LANGUAGE, SHUFFLED = "in-language math", ", shuffled"
CORPORA = (MATH, LANGUAGE, IN_LANGUAGE, MATH + SHUFFLED, IN_LANGUAGE + SHUFFLED)


@dataclass(frozen=True)
class Stream:
    """Batches of one corpus, and whose share of a partition (math, language, or all parameters) they may move."""

    corpus: str
    moves: str = ALL

    def __post_init__(self) -> None:
        known("corpus of a stream", self.corpus, CORPORA)
        known("share that a stream moves", self.moves, (ALL, MATH, LANGUAGE))

    @property
    def source(self) -> str:
        """The corpus, shuffled or not."""
        return self.corpus.removesuffix(SHUFFLED)

    @property
    def is_english(self) -> bool:
        """Whether the stream is the same for every target language."""
        return self.source == MATH


@dataclass(frozen=True)
class Lesson:
    """What streams that move the same share become in a study: their examples together, and so many steps."""

    examples: tuple[Example, ...]
    steps: int
    moves: str = ALL


@dataclass(frozen=True, init=False)
class Expert:
    """A fine-tuning of the base, or of the expert ``start``, on streams; each takes ``budget`` times the study's steps.

    Streams that move the same share are mixed: one shuffled set, as many steps as all of them. Others alternate, batch by batch,
    each with an optimizer and a schedule of its own (the paper's simultaneous partition SFT).

    >>> Expert("math", "language").is_masked, Expert(Stream("math", "math")).is_masked
    (False, True)
    """

    streams: tuple[Stream, ...]
    start: str
    budget: float
    title: str

    def __init__(self, *streams: Stream | str, start: str = "", budget: float = 1.0, title: str = ""):
        if not budget > 0:
            raise RequestError(
                f"An expert's budget is {budget}: it is how many times the study's steps it takes, above 0."
            )
        whole = tuple(stream if isinstance(stream, Stream) else Stream(stream) for stream in streams)
        for name, value in {"streams": whole, "start": start, "budget": budget, "title": title}.items():
            object.__setattr__(self, name, value)

    @property
    def is_masked(self) -> bool:
        """Whether a partition says what may move."""
        return any(stream.moves != ALL for stream in self.streams)

    def lessons(self, corpus: Callable[[str], Sequence[Example]], steps: int) -> tuple[Lesson, ...]:
        """Return what is trained where ``corpus`` gives examples by name and an expert takes ``steps`` a stream."""
        mine = max(1, round(self.budget * steps))
        lessons = []
        for moves in dict.fromkeys(stream.moves for stream in self.streams):
            sets = [_examples(stream, corpus) for stream in self.streams if stream.moves == moves]
            lessons.append(Lesson(tuple(example for some in sets for example in some), len(sets) * mine, moves))
        return tuple(lessons)


def _examples(stream: Stream, corpus: Callable[[str], Sequence[Example]]) -> Sequence[Example]:
    plain = corpus(stream.source)
    return mismatched(plain) if stream.corpus.endswith(SHUFFLED) else plain
