"""Languages by their codes: names, and which one a text is written in."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# The languages of MGSM; the paper's three and English first.
LANGUAGE_NAMES = {
    "en": "English",
    "sw": "Swahili",
    "bn": "Bengali",
    "te": "Telugu",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "ja": "Japanese",
    "ru": "Russian",
    "th": "Thai",
    "zh": "Chinese",
}
_WORD = re.compile(r"[^\W\d_]+")


def written_in(text: str) -> str | None:
    """Return the code of the language a text is written in, among those of MGSM; None for a text without words.

    py3langid's classifier on the words alone, without digits and signs. Source: ours.

    >>> written_in("Jumla ya maembe ni 12 + 5 = 17. Jibu ni 17."), written_in("12 + 5 = 17")
    ('sw', None)
    """
    # x is the sign of multiplication; isalpha, since ½ is no letter.
    words = " ".join(word for word in _WORD.findall(text) if word.isalpha() and word.lower() != "x")
    return str(_identifier().classify(words)[0]) if words else None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid import langid

    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    found.set_languages(list(LANGUAGE_NAMES))
    return found
