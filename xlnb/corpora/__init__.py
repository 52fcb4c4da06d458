"""Text the experts are trained and scored on: examples as (prompt, completion)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xlnb.errors import RequestError

# What experts learn from where nothing else is named: see xlnb.corpora.sources.
MATH_DATA, LANGUAGE_DATA, IN_LANGUAGE_DATA = "templates-english", "prose", "templates"


@dataclass(frozen=True)
class Example:
    """One training example; loss is taken on the completion alone.

    >>> Example("Swali: ...\\nJibu:", " Jibu ni 17.").kind
    ''
    """

    prompt: str
    completion: str
    kind: str = ""


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over prompts and completions in their order, as 64 hex digits.

    Kinds do not count: they are labels, not training text.

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


def strangers(groups: Sequence[str]) -> list[int]:
    """For each item the place of another one, of another group where there is one.

    The nearest one at half the list's length or after; it may be of the twin's group, or share a number. A single item has none
    and is refused. Source: ours.

    >>> strangers(["a", "b", "a", "b"])
    [3, 0, 1, 2]
    """
    n = len(groups)
    if n < 2:
        raise RequestError("One problem has no other to be compared with: ask for two or more.")
    places = [[(i + n // 2 + k) % n for k in range(n)] for i in range(n)]
    return [
        next((j for j in order if groups[j] != groups[i]), next(j for j in order if j != i))
        for i, order in enumerate(places)
    ]


def mismatched(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Each prompt with the completion of an example of another kind: the format of a task without the task. Source: ours.

    >>> [e.completion for e in mismatched([Example("p", "a", "x"), Example("q", "b", "y")])]
    ['b', 'a']
    """
    others = strangers([example.kind for example in examples])
    return tuple(replace(e, completion=examples[j].completion) for e, j in zip(examples, others, strict=True))
