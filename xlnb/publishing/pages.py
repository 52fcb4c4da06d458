"""Prose that is computed: a page says where, with ``<!-- xlnb: NAME -->``, and a function of that name says what.

A page of the book is filled when the book is made. README.md is read as it stands, so there the text lies between that line and
``<!-- /xlnb: NAME -->``, and ``xlnb readme`` brings it up to date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from xlnb.artifacts import whole_file
from xlnb.errors import RequestError, known

Words = Mapping[str, Callable[[], str]]

_PLACE = re.compile(r"^<!-- xlnb: (\S+) -->[ \t]*$", flags=re.MULTILINE)
_SPAN = re.compile(r"^(<!-- xlnb: (\S+) -->)\n.*?^(<!-- /xlnb: \2 -->)[ \t]*$", flags=re.MULTILINE | re.DOTALL)
_ANY_MARK = re.compile(r"^<!-- (/?xlnb: \S+) -->[ \t]*$", flags=re.MULTILINE)


def filled(text: str, words: Words) -> str:
    """Return a page's text with each placeholder replaced by its words.

    >>> filled("# A page\\n\\n<!-- xlnb: sum -->\\n", {"sum": lambda: f"It is {1 + 1}."})
    '# A page\\n\\nIt is 2.\\n'
    """
    return _PLACE.sub(lambda found: words[found[1]]().strip("\n"), text)


def check_places(pages: Iterable[Path], words: Words) -> None:
    """Refuse pages with a placeholder that nothing fills."""
    for page in pages:
        for name in _PLACE.findall(page.read_text(encoding="utf-8")):
            try:
                known("placeholder", name, words)
            except RequestError as error:
                raise RequestError(f"{page.name}: {error}") from None


def refilled(text: str, words: Words) -> str:
    """Return text with what stands between each placeholder and its end replaced.

    >>> refilled("<!-- xlnb: sum -->\\nold\\n<!-- /xlnb: sum -->\\n", {"sum": lambda: "2"})
    '<!-- xlnb: sum -->\\n2\\n<!-- /xlnb: sum -->\\n'
    """
    paired = [mark for found in _SPAN.finditer(text) for mark in (f"xlnb: {found[2]}", f"/xlnb: {found[2]}")]
    if paired != (marks := _ANY_MARK.findall(text)):
        odd = next((mark for mark in marks if marks.count(mark) > paired.count(mark)), marks[0])
        raise RequestError(f"<!-- {odd} --> has no counterpart: a text to fill in starts with <!-- xlnb: NAME --> and ends "
                           "with <!-- /xlnb: NAME -->, each on a line of its own.")  # fmt: skip
    for name in (found[2] for found in _SPAN.finditer(text)):
        known("placeholder", name, words)
    return _SPAN.sub(lambda found: f"{found[1]}\n{words[found[2]]().strip(chr(10))}\n{found[3]}", text)


def refill(path: Path, words: Words, write: bool = True) -> list[str]:
    """Bring a file's filled-in texts up to date, whole or not at all; return the names of those that changed, or would."""
    before = path.read_text(encoding="utf-8")
    after = refilled(before, words)
    pairs = zip(_SPAN.finditer(before), _SPAN.finditer(after), strict=True)
    changed = [old[2] for old, new in pairs if old[0] != new[0]]
    if changed and write:
        with whole_file(path) as partial:
            partial.write_text(after, encoding="utf-8")
    return changed
