"""The two ways in which a request can fail: everything public raises one of them, and the command line prints its message.

Other exceptions are defects of the package, or of what was handed to it by a program.
"""

from __future__ import annotations

from collections.abc import Iterable


class RequestError(ValueError):
    """What was asked for is wrong: the message says which value, what is allowed and how to fix it (exit code 2)."""


class WorkError(RuntimeError):
    """The request was right but the work failed: the message says why and what to do (exit code 1)."""


def known(what: str, value: str, allowed: Iterable[str]) -> str:
    """Return a value that is among those allowed, or raise RequestError: ``what`` is its noun, such as "partition".

    >>> known("partition", "A", "ABC")
    'A'
    >>> known("method", "layer-swaping", ["base", "layer-swapping"])
    Traceback (most recent call last):
    xlnb.errors.RequestError: No method 'layer-swaping': choose one of base, layer-swapping. Did you mean layer-swapping?
    """
    choices = list(allowed)
    if value in choices:
        return value
    from difflib import get_close_matches  # here, since most requests are right

    close = get_close_matches(str(value), choices, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    listed = f"choose one of {', '.join(choices)}" if choices else "there are none"
    raise RequestError(f"No {what} {value!r}: {listed}.{meant}")


def whole_number(what: str, value: int, least: int = 0) -> int:
    """Return a whole number from ``least`` on, or raise RequestError.

    >>> whole_number("shots", 2)
    2
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RequestError(f"{what} must be a whole number from {least} on, not {value!r}.")
    return value
