"""Prose in a language, written for this package: the world of the word problems without calculating.

A piece of `data/prose-<language>.yaml` is a short text that was asked for, three questions or tasks about it, and in every
second piece its English. Some pieces, chosen by a hash, are held out, never for training: half of them (development) for
choosing budgets, the other half (scored) for measuring who knows a language.

>>> pieces("sw")[0].kind in KINDS
True
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from xlnb.corpora import Example, grammar
from xlnb.errors import known

KINDS = ("story", "dialogue", "explanation", "letter", "instructions", "description")
PROSE_LANGUAGES: tuple[str, ...] = tuple(
    match[1] for name in grammar.data_names() if (match := re.fullmatch(r"prose-([a-z]{2,3})\.yaml", name))
)
_HELD_OUT = 10  # one piece in so many
HELD_OUT_SPLITS = ("development", "scored")


@dataclass(frozen=True)
class Piece:
    """A text with what asked for it, what it is about in English, pairs of question and answer, and its English or ''."""

    kind: str
    place: str
    about: str
    ask: str
    text: str
    english: str
    answered: tuple[tuple[str, str], ...]

    @property
    def held_out(self) -> bool:
        """Whether no expert may see it: decided by a hash of the text, so that no order matters."""
        return _hashed(self.text)[0] % _HELD_OUT == 0

    @property
    def split(self) -> str:
        """What the piece is for: train, development or scored."""
        return HELD_OUT_SPLITS[_hashed(self.text)[1] % len(HELD_OUT_SPLITS)] if self.held_out else "train"


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def pieces(language: str, held_out: bool = False) -> tuple[Piece, ...]:
    """The pieces of a language for training, or those held out.

    >>> {piece.about for piece in pieces("sw")} & {piece.about for piece in pieces("sw", held_out=True)}
    set()
    """
    known("prose in language", language, PROSE_LANGUAGES)
    entries = grammar.read(f"prose-{language}.yaml")["pieces"]
    found = (
        Piece(
            kind=entry["kind"],
            place=entry["place"],
            about=entry["about"],
            ask=entry["ask"],
            text=entry["text"],
            english=entry.get("english", ""),
            answered=tuple((asked, answered) for asked, answered in entry["then"]),
        )
        for entry in entries
    )
    return tuple(piece for piece in found if piece.held_out == held_out)


def written_examples(piece: Piece) -> Iterator[Example]:
    """Yield what a piece teaches in its language alone: to write the text when asked, and the answers behind it.

    >>> len(list(written_examples(pieces("sw")[0])))
    4
    """
    yield Example(piece.ask, piece.text, piece.kind)
    for asked, answered in piece.answered:
        yield Example(f"{piece.text}\n{asked}", answered, "question")


def held_out_texts(language: str) -> tuple[tuple[str, Example], ...]:
    """The texts and answers of held-out pieces that have six words or more, without prompts, each with its split: for asking
    who knows a language.

    >>> {split for split, _ in held_out_texts("sw")} == {"development", "scored"}
    True
    """
    return tuple(
        (piece.split, Example("", example.completion, example.kind))
        for piece in pieces(language, held_out=True)
        for example in written_examples(piece)
        if len(example.completion.split()) >= 6
    )
