"""Text the experts are trained and scored on: examples as (prompt, completion)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Example", "fingerprint"]


@dataclass(frozen=True)
class Example:
    """One training example; loss is taken on the completion alone.

    Source: ours.

    >>> Example("Swali: ...\\nJibu:", " Jibu ni 17.").kind
    ''
    """

    prompt: str
    completion: str
    kind: str = ""


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over prompts and completions in their order, as 64 hex digits.

    Kinds do not count: they are labels, not training text. Source: ours.

    >>> a, b = Example("p", "q"), Example("r", "s")
    >>> fingerprint([a, b]) == fingerprint((a, b)), fingerprint([a, b]) == fingerprint([b, a])
    (True, False)
    """
    digest = hashlib.sha256()
    for example in examples:
        for text in (example.prompt, example.completion):
            raw = text.encode()
            # The length first, so that moving a character over a boundary changes the fingerprint.
            digest.update(len(raw).to_bytes(8, "big"))
            digest.update(raw)
    return digest.hexdigest()
