"""The two ways in which a request can fail: everything public raises one of them, and the command line prints its message.

Other exceptions are defects of the package, or of what was handed to it by a program.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from functools import cache, wraps
from inspect import signature, unwrap
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WORDS = {
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    NoneType: "None",
}


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


def typed(function: _Function) -> _Function:
    """Let a public function refuse, before it runs, arguments of other types than its annotations say.

    Numbers of numpy count as numbers, True does not; where a sequence is wanted, so are other ordered collections, but no text.

    >>> @typed
    ... def seen(experts: Collection[str | Path], seed: int = 0) -> None: ...
    >>> seen("folder")
    Traceback (most recent call last):
    xlnb.errors.RequestError: experts='folder' is a str: it takes a list, each a text or a path.
    """

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = signature(function).bind(*args, **kwargs).arguments
        for name, wanted in _annotations(function).items():
            if name in given:
                check_type(name, given[name], wanted)
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def check_type(name: str, value: Any, wanted: Any) -> None:
    """Refuse a value that an annotation does not allow, in one sentence."""
    if not _fits(value, wanted):
        from reprlib import repr as short

        raise RequestError(f"{name}={short(value)} is a {type(value).__name__}: it takes {_in_words(wanted)}.")


class _Names(dict[str, Any]):
    """Names for annotations: those that only type checkers import stand for anything."""

    def __missing__(self, name: str) -> Any:
        if name.startswith("__"):
            raise KeyError(name)
        return Any


@cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    names = _Names({**vars(builtins), **unwrap(function).__globals__})
    return {name: wanted for name, wanted in get_type_hints(function, localns=names).items() if name != "return"}


def _fits(value: Any, wanted: Any) -> bool:
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin in (int, float):
        kind = Integral if origin is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if origin is Path:
        return isinstance(value, PathLike)
    if isinstance(origin, type) and issubclass(origin, Collection) and not issubclass(origin, Mapping | str):
        listed = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping | Set | PathLike)
        return listed and all(_fits(one, part) for part in parts[:1] for one in value)
    return isinstance(value, NoneType if origin is None else origin)


def _in_words(wanted: Any) -> str:
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        *others, last = map(_in_words, parts)
        return f"{', '.join(others)} or {last}"
    if origin in _WORDS:
        return _WORDS[origin]
    if issubclass(origin, Mapping):
        return "a table"
    if issubclass(origin, Collection):
        return "a list" + "".join(f", each {_in_words(part)}" for part in parts[:1] if part is not Any)
    return f"a {origin.__name__}"
