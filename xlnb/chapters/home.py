"""What the home page and the README say of the results: texts by the name of their placeholder."""

from __future__ import annotations

from collections.abc import Callable

WORDS: dict[str, Callable[[], str]] = {}
