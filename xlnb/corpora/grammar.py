"""Text with slots: `{name}` or `{thing.form}`, filled from rows of grammatical forms.

Shared by the word problems and the generic language set, and the same for every language: what a
language needs (plural, concords, pronouns) is a form of a row in its data file.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from xlnb.errors import RequestError, known

T = TypeVar("T")
Forms = Mapping[str, str]

_SLOT = re.compile(r"\{([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?\}")


@dataclass(frozen=True)
class Template:
    """A text cut into a %-format and the (slot, form) keys that fill it."""

    format: str
    keys: tuple[tuple[str, str], ...]


def compile_template(text: str) -> Template:
    """Cut a text at its slots; a slot without a form has the form "".

    >>> compile_template("{p} has {n} {t.many}.").keys
    (('p', ''), ('n', ''), ('t', 'many'))
    """
    rest = _SLOT.sub("", text)
    if "{" in rest or "}" in rest:
        raise RequestError(f"braces that are no slot in {text!r}; a slot is {{name}} or {{name.form}}")
    keys = tuple((match[1], match[2] or "") for match in _SLOT.finditer(text))
    return Template(_SLOT.sub("%s", text.replace("%", "%%")), keys)


def render(template: Template, binding: Mapping[str, Forms]) -> str:
    """Fill a template; every slot is a row of forms.

    >>> render(compile_template("{p} ana {t.many}."), {"p": {"": "Asha"}, "t": {"many": "vitabu"}})
    'Asha ana vitabu.'
    """
    return template.format % tuple([binding[slot][form] for slot, form in template.keys])


def inflect(row: Any, classes: Mapping[str, Forms], base: str = "") -> dict[str, str]:
    """All forms of a row: its own, those of its class, and each with a capital first letter.

    A plain string is a row with the base form alone. `class: ki-vi` adds the forms of that class;
    the row's own forms win. The capital of form `many` is called `Many`, of the base form `Base`.

    >>> forms = inflect({"many": "vitabu", "class": "ki-vi"}, {"ki-vi": {"how_many": "vingapi"}})
    >>> forms["many"], forms["Many"], forms["how_many"]
    ('vitabu', 'Vitabu', 'vingapi')
    """
    own = {"": row} if isinstance(row, str) else dict(row or {})
    name = own.pop("class", None)
    of_class = classes[known("class", name, classes)] if name is not None else {}
    forms = {"": own.get("base", base), **of_class, **own}
    bad = [form for form, text in forms.items() if not isinstance(text, str)]
    if bad:  # YAML reads a bare `yes` or `1` as something else than text
        raise RequestError(f"form {bad[0]!r} of {row!r} must be text, put it in quotes")
    return forms | {form[:1].upper() + form[1:] or "Base": text[:1].upper() + text[1:] for form, text in forms.items()}


def missing(template: Template, binding: Mapping[str, Forms]) -> str | None:
    """The first slot of a template that a binding cannot fill, as `slot.form`, or None.

    >>> missing(compile_template("{t.one}"), {"t": {"many": "vitabu"}})
    't.one'
    """
    for slot, form in template.keys:
        if form not in binding.get(slot, ()):
            return f"{slot}.{form}" if form else slot
    return None


def data_names() -> tuple[str, ...]:
    """Names of the data files that ship with the package, sorted.

    >>> "frames.yaml" in data_names()
    True
    """
    return tuple(sorted(entry.name for entry in files("xlnb.corpora").joinpath("data").iterdir()))


def text_of(name: str) -> str:
    """The text of a data file."""
    return files("xlnb.corpora").joinpath("data", name).read_text(encoding="utf-8")


@cache
def read(name: str) -> dict[str, Any]:
    """One data file as a mapping; read once a process, so do not change what comes back."""
    import yaml  # here, so that importing the package does not cost it

    return yaml.load(text_of(name), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


# Only Random.random() promises the same numbers in every Python version; the helpers use nothing else.


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One item of a sequence."""
    return items[int(rng.random() * len(items))]


def sample(rng: random.Random, items: Sequence[T], k: int) -> tuple[T, ...]:
    """Pick k different items in random order; k = len(items) is a shuffle.

    >>> sorted(sample(random.Random("x"), "abc", 3))
    ['a', 'b', 'c']
    """
    pool = list(items)
    for i in range(k):
        j = i + int(rng.random() * (len(pool) - i))
        pool[i], pool[j] = pool[j], pool[i]
    return tuple(pool[:k])
