"""Reading a final number and the calculations out of a generated answer."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from decimal import Decimal

_NUMBER = re.compile(r"(?:(?<!\d)-)?(?:(?<![\d.,])\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_STATED = {"en": re.compile(r"answer is", re.IGNORECASE), "sw": re.compile(r"jibu ni", re.IGNORECASE)}
CALCULATION = re.compile(r"(\d+)\s*([+\-*/x×÷−])\s*(\d+)")
_SAME_SIGN = {"x": "*", "×": "*", "÷": "/", "−": "-"}


def extract_number(text: str, language: str) -> Decimal | None:
    """Return the final number of an answer: the first one after the stated answer, else the last one; None without any.

    Digits of any script count, ``,`` groups thousands, ``18.00`` equals 18. Source: ours, for the templates corpus.

    >>> extract_number("12 + 5 = 17. The answer is 17.", "en"), extract_number("Jibu ni 2,125", "sw")
    (Decimal('17'), Decimal('2125'))
    >>> extract_number("no idea", "en") is None
    True
    """
    plain = _ascii_digits(text)
    stated = list(_STATED[language].finditer(plain)) if language in _STATED else []
    after = _NUMBER.findall(plain[stated[-1].end() :]) if stated else []
    found = after[:1] or _NUMBER.findall(plain)[-1:]
    return Decimal(found[0].replace(",", "")) if found else None


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def calculations(text: str) -> Counter[tuple[str, int, int]]:
    """Return the calculations ``a op b`` of a text, counted; operands of + and * are ordered, since either order is right.

    >>> calculations("5 + 12 = 17 and 17 * 2 = 34") == calculations("12 + 5, then 2 x 17")
    True
    """
    found: Counter[tuple[str, int, int]] = Counter()
    for a, sign, b in CALCULATION.findall(_ascii_digits(text)):
        operation = _SAME_SIGN.get(sign, sign)
        operands = sorted((int(a), int(b))) if operation in "+*" else (int(a), int(b))
        found[(operation, *operands)] += 1
    return found


def has_calculations(text: str, expressions: tuple[str, ...]) -> bool:
    """Say whether every expected calculation stands in ``text`` (others may stand there too)."""
    return not calculations(" ; ".join(expressions)) - calculations(text)
