"""Languages by their codes: names, and which one a text is written in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# The languages of MGSM; the paper's three and English first.
LANGUAGE_NAMES = {
    "en": "English", "sw": "Swahili", "bn": "Bengali", "te": "Telugu", "de": "German", "es": "Spanish",
    "fr": "French", "ja": "Japanese", "ru": "Russian", "th": "Thai", "zh": "Chinese",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Scripts that only one of these languages is written in. The first that has all letters counts: Han alone is Chinese, with
# kana Japanese.
_SCRIPTS = {
    code: re.compile(f"[{letters}]+")
    for code, letters in {
        "bn": "\u0980-\u09ff",
        "te": "\u0c00-\u0c7f",
        "th": "\u0e00-\u0e7f",
        "ru": "\u0400-\u052f",
        "zh": _HAN,
        "ja": f"{_HAN}\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    }.items()
}


def written_in(text: str) -> str | None:
    """Return the code of the language a text is written in, among those of MGSM; None for a text without words.

    Digits and signs do not count. A text wholly in a script of one language is in that language (Cyrillic is Russian, Han
    without kana is Chinese); any other goes to py3langid's classifier, whose word on one or two Latin words is a guess: it takes
    "Answer" for German. Source: ours.

    >>> written_in("Jumla ya maembe ni 12 + 5 = 17. Jibu ni 17."), written_in("12 + 5 = 17")
    ('sw', None)
    """
    # x is the sign of multiplication; isalpha, since ½ is no letter.
    words = [word for word in _WORD.findall(text) if word.isalpha() and word.lower() != "x"]
    if not words:
        return None
    letters = "".join(words)
    by_script = next((code for code, script in _SCRIPTS.items() if script.fullmatch(letters)), None)
    return by_script or str(_identifier(tuple(LANGUAGE_NAMES)).classify(" ".join(words))[0])


def in_order(codes: Iterable[str]) -> list[str]:
    """Return languages, each once, in the order of the book; others than MGSM's are left out.

    >>> in_order(["te", "sw", "te"])
    ['sw', 'te']
    """
    found = set(codes)
    return [code for code in LANGUAGE_NAMES if code in found]


def likeliest_language(text: str) -> str:
    """Return the code of the language that a text of some words looks most like, of all that py3langid knows.

    >>> likeliest_language("Gbogbo eniyan ni a bi ni ominira; iyi ati eto kookan si dogba.")
    'yo'
    """
    return str(_identifier().classify(text)[0])


@lru_cache(maxsize=2)
def _identifier(languages: tuple[str, ...] = ()) -> Any:
    from py3langid import langid

    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    if languages:
        found.set_languages(list(languages))
    return found
