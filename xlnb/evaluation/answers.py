"""Reading a final number and the calculations out of a generated answer, in every language of MGSM.

Which number is the answer: the one in the last ``\\boxed{}`` or after the last ``####``; else the one that the last
statement gives ("the answer is", "Jibu ni", ...); else the last number. Once an answer is there, what follows a label that
opens another problem, or a mark of a chat, is not read.

What a number is written like depends on the language, and some writings can be read in two ways:

=================  ==============  ========================================================================
writing            read as         why
=================  ==============  ========================================================================
en ``2.125``       2.125           English groups with a comma alone; the same in sw, bn, te, th, zh, ja
de, es ``2.125``   2125            the locale's grouping, and answers with three decimals hardly exist
fr, ru ``2.125``   2.125           no grouping of theirs, so models mean the English decimal point
``2,125``          2125            in every language, also where the comma is decimal: models write English
                                   grouping everywhere, and so do MGSM's own answers
de ``12,5``        12.5            the comma is decimal in de, es, fr, ru and no grouping has one digit
en ``12,5``        12 and 5        a list: the comma is never decimal there
``1,25,000``       125000          in bn and te; a list elsewhere
fr, ru ``2 125``   2125            a plain space groups there; elsewhere behind a currency sign, or twice and more
                                   (``1 250 000``), and a no-break or a thin one always
=================  ==============  ========================================================================

Numbers in words (seven, 十八, 3万, 5 lakh) are not read, and "The answer is not 5 but 6" gives 5.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from html import unescape
from itertools import pairwise
from typing import Any, NamedTuple

from xlnb.errors import RequestError

_NUMERAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
# A calculation as a text has it, whole numbers and all: where something else may stand in its place.
CALCULATION = re.compile(rf"(?<![\d.,])({_NUMERAL})\s*([+\-*/x×÷−])\s*([$€£]?{_NUMERAL})(?!\d|[.,]\d)")

_CURRENCY = "$€£¥₹৳฿₽₨₩¢"
_NUMBER_AHEAD = rf"(?=\s{{0,3}}[-({_CURRENCY}]{{0,3}}\s?\.?\d)"
_GAP = r"[^.:\n\d]{1,60}?"


@dataclass(frozen=True)
class _Habits:
    """How a language writes numbers and states an answer.

    ``grouping``: its own thousands separators; without a comma among them the comma is decimal. ``states``: after these the
    answer follows. ``heads``: these do so with a colon or a dash, but may as well head the whole solution ("Answer: first ...").
    """

    grouping: str
    states: str
    heads: str
    lakhs: bool = False  # groups of two digits before the last three


_LANGUAGES = {
    "en": _Habits(
        ",", rf"(?:\banswers?|(?<!of the )(?<!in the )\bsolution)(?: (?:to|for|of) {_GAP})? "
             r"(?:is|are|was|would be|will be|should be|must be|equals)\b"
             r"|\bfinal answer\s?[:=]",
        r"(?<!step )\b(?:answer|ans)\b(?:\s?\([^()\n]{1,30}\))?"),
    "sw": _Habits(
        ",", r"\b(?:jibu|suluhisho)(?: (?:la|sahihi|lake|letu|langu)\b[^.:\n\d]{0,40}?)? (?:ni|litakuwa)\b"
             rf"|\bjibu la mwisho\s?[:=]|\bjibu{_NUMBER_AHEAD}",
        r"\bjibu\b(?: sahihi)?"),
    "bn": _Habits(
        ",", rf"(?:(?<!ধাপে )উত্তর|সমাধান)(?:টি|টা)?(?: (?:হ'?ল|হচ্ছে|হবে|দাঁড়ায়)|{_NUMBER_AHEAD})",
        r"(?<!ধাপে )উত্তর(?:টি|টা)?", lakhs=True),
    "te": _Habits(
        ",", rf"(?<!దశలవారీగా )(?:సమాధాన(?:ం|ము)|జవాబు|పరిష్కారం)(?: (?:ఏమిటంటే|అనేది)|{_NUMBER_AHEAD})",
        r"(?<!దశలవారీగా )(?:సమాధాన(?:ం|ము)|జవాబు)", lakhs=True),
    "de": _Habits(
        ".", rf"(?<!schritt-)\b(?:(?:end)?antwort|lösung)(?: (?:auf|von|für) {_GAP})? (?:lautet|ist|wäre|beträgt)\b"
             r"|\b(?:lautet|ist|beträgt) die antwort\b|\bendgültige antwort\s?[:=]",
        r"(?<!schritt-)\b(?:end)?antwort"),
    "es": _Habits(
        ".", rf"\b(?:respuesta|solución)(?: (?:final|correcta))?(?: (?:al?|del?|para) {_GAP})? (?:es|son|será|sería)\b"
             r"|\brespuesta final\s?[:=]",
        r"\brespuesta(?: correcta)?"),
    "fr": _Habits(
        " ", rf"\b(?:r[ée]ponse|solution)(?: (?:finale|correcte))?(?: (?:à|au|du?|de) {_GAP})? (?:est|sera|serait|vaut)\b"
             r"|\br[ée]ponse finale\s?[:=]",
        r"\br[ée]ponse(?: correcte)?"),
    "ru": _Habits(
        " ", rf"\b(?:ответ(?:ом)?|решение[м]?)(?: на {_GAP})? (?:является|равн?[оеё]н?|будет|составляет|это)\b"
             rf"|\bокончательный ответ\s?[:=]|\bответ{_NUMBER_AHEAD}",
        r"\bответ"),
    "zh": _Habits(",", rf"(?:答案|(?<!求)解)(?:就?是|应该是|应为|[为為]|等于|{_NUMBER_AHEAD})", r"(?:答案|(?<!解)答)"),
    "ja": _Habits(",", rf"(?<!ごとの)(?:答え?|正解|回答|解)(?:は|{_NUMBER_AHEAD})", r"(?<!ごとの)(?:答え?|正解|回答)"),
    "th": _Habits(
        ",", rf"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?\s?(?:คือ|เท่ากับ|เป็น|{_NUMBER_AHEAD})|^\s?ตอบ{_NUMBER_AHEAD}",
        r"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?"),
}  # fmt: skip

_PROBLEM_LABELS = (
    "question|problem|q|swali|tatizo|প্রশ্ন|সমস্যা|ప్రశ్న|సమస్య|frage|aufgabe|pregunta|problema|problème|"
    "задача|вопрос|问题|問題|题目|題目|質問|โจทย์|คำถาม"
)
_ORDER = r"[ ]?(?:n[°ºo]\.?|№|#|la|wa|ya|ที่)?[ ]?\d{0,3}"
# A line that starts like this is the next problem, in whatever language the model goes on.
_NEXT_PROBLEM = re.compile(rf"^[ \t#*>_]{{0,12}}(?:{_PROBLEM_LABELS}){_ORDER}[ *]{{0,4}}[:ঃ]", re.I | re.M)
_TURN = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>")  # of a chat
# Where an answer was stated, that is said by less: a label within a line, or without a colon on a line of its own.
_GOES_ON = re.compile(
    rf"(?<![^\W_])(?:{_PROBLEM_LABELS}){_ORDER}[ *]{{0,4}}[:ঃ]"
    rf"|^[ \t#*>_]{{0,12}}(?:(?:{_PROBLEM_LABELS}){_ORDER}[ *]{{0,4}}$"
    r"|(?:example|mfano|উদাহরণ|ఉదాహరణ|beispiel|ejemplo|exemple|пример|例题?|例題|ตัวอย่าง)"
    rf"{_ORDER.replace('{0,3}', '{1,3}')}"
    r"|(?:user|human|assistant|system|instruction|mtumiaji)[ *]{0,4}:|#{1,6} ?(?:instruction|response|input)\b)"
    rf"|{_TURN.pattern}|</?s>|\[/?INST\]",
    re.I | re.M,
)
# What comes after these explains an answer that was given.
_ASIDE = re.compile(
    r"[,;(){}،、]|\b(?:because|since|kwa sababu|kwani|porque|ya que|parce que|car|weil|denn|потому что|так как)\b"
    "|কারণ|ఎందుకంటే|因为|因為|なぜなら|เพราะ",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?।॥。｡\n]")
_MARKED = re.compile(rf"\\f?boxed\s?\{{(?!\s?\}})|####(?!\s?\d{{1,2}}[.)]\s+[^\W\d_]){_NUMBER_AHEAD}")
_ORDINAL = re.compile(
    r"(?:st|nd|rd|th|er|ère|re|è?me|e|nde|\.?[ºª]|-(?:й|я|е|го|му|м|ом|ый|ая|ое|х)|番目|回目|ম|য়|র্থ|ষ্ঠ|వ)(?![\w\u0900-\u0963\u0966-\u0dff])"
)
_BEFORE_ORDINAL = re.compile(r"(?:第|(?:วัน|ครั้ง|ลำดับ)ที่)\s?$")
_STEP = re.compile(
    r"(?:\b(?:step|hatua(?: ya)?|schritt|paso|étape|шаг)|ধাপ|దశ|步骤|步驟|第|ステップ|(?:ขั้นตอน|ขั้น|ข้อ)ที่)\s?$", re.I
)
_REFERENCE = re.compile(r"(?<=\w) ?\[(\d{1,2})\](?=[\s.,;:]|$)")
_LONE_MARK = re.compile(r"(?<=\n)[ \t]{0,8}(\d)[.)] (?=[^\W\d_])")
_LIST_MARK = re.compile(r"(?:^[\s#>*-]{0,8}|(?<=[.!?:;।。] ))(\d{1,3})[.)](?=\s)", re.M)


# Full-width forms, then signs that are written in several ways. The no-break spaces become one, which groups everywhere.
_CHARACTERS = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\u2212\u2013\u2010\u2011"), "-"),
    **dict.fromkeys(map(ord, "’‘′´＇ʼ٬"), "'"),
    **dict.fromkeys([*map(ord, "\u00a0\u202f"), *range(0x2000, 0x200B)], "\u00a0"),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202b\u202c\u202d\u202e")),
    0x3000: " ",
    0xFFE5: "¥",
    0xFFE1: "£",
    0xFFE0: "¢",
}


def _joined(match: re.Match[str]) -> str:
    """Return a number whose groups are set apart by plain spaces with such as group everywhere."""
    return match[0].lstrip().replace(" ", "\u00a0")


_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_UNIT = "mm|cm|dm|km|m|in|ft|yd|mi|мм|см|дм|км|м"
_NEGATIVE = r"\b(?:negative|minus|hasi|negativ[eoa]?|moins|menos|минус|মাইনাস|ঋণাত্মক|మైనస్|ఋణ)\s|(?:负|負の?|マイナス|ลบ)\s?"
_WHOLE = r"\d{1,3}(?:,\d{3}){1,3}|\d{1,9}"
_NO_OPERAND = r"(?<![\d)\]%])(?<![\d)\]%] )"  # what stands behind one is an operation


def _compiled(*rewrites: tuple[str, Any]) -> list[tuple[re.Pattern[str], Any]]:
    return [(re.compile(pattern, re.I), new) for pattern, new in rewrites]


_LATEX = _compiled(
    (r"\{,\}", ","),
    (r"\\,", "\u00a0"),
    (r"\\[!;: ]", ""),
    (r"\\([$%])", r"\1"),
    (r"\\(?:times|cdot)(?![a-z])", "×"),
    (r"\\div(?![a-z])", "÷"),
    (r"\\approx(?![a-z])", "≈"),
    (r"\\(?:text(?:bf|rm)?|math(?:bf|rm)|mbox)\s?\{([^{}\n]*)\}", r"\1"),
    (r"(?<=\d)\\[dt]?frac(?=\s?[{\d])", r" \\frac"),
    (r"\\[dt]?frac\s?(\d)\s?(\d)(?!\d)", r"\1/\2"),
    (rf"\\[dt]?frac\s?\{{({_WHOLE})\}}\s?\{{({_WHOLE})\}}", lambda part: f"{part[1]}/{part[2]}".replace(",", "")),
)
_REWRITES = _compiled(
    ("ํา", "ำ"),
    (r"(?<=\d)،(?=\d)", ","),
    (r"(?<=\d)/[=-](?! ?\d)", ""),  # shillings: 2,500/=
    (r"(?<![\d.,'])\d{1,3}(?: \d{3}){2,}(?!\d|[.,']\d)", _joined),
    (rf"(?<=[{_CURRENCY}]) ?\d{{1,3}}(?: \d{{3}})+(?!\d)", _joined),
    (r"(?<!\d)\*\*|\*\*(?!\d)", ""),  # bold, not a power
    (r"\b(rs|sh|tsh|ksh|tk|ca|approx|no|nr)\.(?=\s?\d)", r"\1"),  # no end of a sentence
    (r"([=≈]) ?- (?=\d)", r"\1 -"),
    (rf"(?<=\d)(\s?(?:{_UNIT}))\^?\{{?[23]\}}?(?!\w)", r"\1"),  # of squares and cubes, no number
    (rf"{_NO_OPERAND}(?:{_NEGATIVE})(?=\d)", "-"),
    (rf"{_NO_OPERAND}-\s?\(\s?(\d[\d.,]*)\s?\)", r"-\1"),
)
_RAISED = re.compile(r"(\d)([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_CALCULATOR_MARK = re.compile(r"<<([^<>\n]*)>>")
_SHOWN = re.compile(rf"\s?[{_CURRENCY}]?\d")


def _plain(text: str) -> str:
    """Return ``text`` with ASCII digits and one way of writing each sign, without LaTeX's and Markdown's dress."""
    plain = unicodedata.normalize("NFC", unescape(text)).translate(_CHARACTERS)
    plain = _RAISED.sub(lambda raised: f"{raised[1]}^{raised[2].translate(_SUPERSCRIPTS)}", plain)
    plain = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), plain)
    for pattern, new in (*(_LATEX if "\\" in plain or "{" in plain else ()), *_REWRITES):
        plain = pattern.sub(new, plain)
    return plain


def _without_marks(text: str) -> str:
    """Return ``text`` without GSM8K's ``<<3*6=18>>``; where the result does not stand behind, the mark's inside stays."""
    return _CALCULATOR_MARK.sub(lambda mark: "" if _SHOWN.match(text, mark.end()) else f" {mark[1]} ", text)


Places = list[re.Match[str]]


def _this_problem(text: str, places: Sequence[Places]) -> str:
    """Return ``text`` up to where it goes on to another problem, or to another turn of a chat.

    A label at the start of a line counts behind any number, or where nothing is stated behind it; one within a line, or what else
    says so, once an answer was stated. ``places`` are those of statements.
    """
    given = min((end for some in places if (end := _given(text, some)) is not None), default=None)
    ends = [len(text)]
    if given is not None and (mark := _GOES_ON.search(text, given)):
        ends.append(mark.start())
    labels = [match.start() for pattern in (_NEXT_PROBLEM, _TURN) for match in pattern.finditer(text)]
    number = re.search(r"\d", text)
    for start in labels:
        behind_number = number is not None and number.start() < start
        if behind_number or (text[:start].strip() and (given is None or given < start)):
            ends.append(start)
    return text[: min(ends)]


_TO_NUMBER = re.compile(r"\s{0,9}([^\d.!?।॥。｡\n]{0,200})\.?\d")


def _given(text: str, places: Places) -> int | None:
    """Return where the first number that is stated as an answer ends; None where none is."""
    for place in places:
        number = _TO_NUMBER.match(text, place.end())
        if number and not (place.groupdict().get("head") and re.search(r"[^\W\d_]", number[1])):
            return number.end()
    return None


class _Number(NamedTuple):
    value: Decimal
    start: int
    end: int


@lru_cache(maxsize=2)
def _number_pattern(spaces: str) -> re.Pattern[str]:
    """Digits with whatever may stand inside a number, as long as it goes; possessive, so that time stays linear."""
    run = rf"(?<![\w.,])\.\d++(?![.,]\d)|\d++(?:[.,'٫]\d++|[{spaces}]\d{{3}}(?!\d))*+"
    power = r"e([+-]?\d{1,3})(?!\w|\.\d)|\s?[x×*·⋅∙]\s?10\s?\^\s?\{?(-?\d{1,3})"
    return re.compile(rf"(?<![\d.,])10\^\{{?(-?\d{{1,3}})\}}?|({run})(?:{power})?", re.I)


def _numbers(text: str, habits: _Habits) -> list[_Number]:
    """Return the numbers of a plain text, in order."""
    found: list[_Number] = []
    for match in _number_pattern(" \u00a0" if habits.grouping == " " else "\u00a0").finditer(text):
        if match[1]:  # a power of ten
            sign, begin = _sign(text, found[-1].end if found else 0, match.start())
            found.append(_Number(Decimal(f"{sign}1e{match[1]}"), begin, match.end()))
            continue
        pieces = list(_pieces(match[2], match.start(), habits))
        last = len(pieces) - 1
        for i, (digits, start, end) in enumerate(pieces):
            sign, begin = _sign(text, found[-1].end if found else 0, start) if i == 0 else ("", start)
            power = (match[3] or match[4]) if i == last else None
            value = Decimal(f"{sign}{digits}e{power}" if power else f"{sign}{digits}")
            found.append(_Number(value, begin, match.end() if i == last else end))
    return found


def _pieces(
    run: str, start: int, habits: _Habits, splitters: tuple[str, ...] | None = None
) -> Iterator[tuple[str, int, int]]:
    """Yield the numbers of a run of digits and separators as (plain decimal, start, end): one, or those of a list."""
    digits = _one_number(run, habits)
    if digits is not None:
        yield digits, start, start + len(run)
        return
    first, *others = splitters or (" \u00a0'", habits.grouping + "'", ".,٫'")
    for part in re.finditer(rf"[^{re.escape(first)}]+", run):
        yield from _pieces(part[0], start + part.start(), habits, tuple(others))


def _one_number(run: str, habits: _Habits) -> str | None:
    """Return a run as a plain decimal where it is one number in ``habits``, else None (the module says what is chosen).

    >>> [_one_number("2,125", _LANGUAGES[code]) for code in ("en", "de")], _one_number("12,5", _LANGUAGES["en"])
    (['2125', '2125'], None)
    """
    run = run.replace("\u00a0", " ")
    parts, marks = re.split(r"\D", run), re.findall(r"\D", run)
    if not marks or run.startswith("."):
        return run
    *before, last = marks
    grouped = _grouped(parts, marks, habits.lakhs)
    if before:
        decimal = last in ".,٫" and last not in before and _grouped(parts[:-1], before, habits.lakhs)
    elif last == ",":
        decimal = "," not in habits.grouping and not grouped
    elif last == ".":
        decimal = not (grouped and "." in habits.grouping)
    else:
        decimal = last == "٫"
    if decimal:
        return f"{''.join(parts[:-1])}.{parts[-1]}"
    return "".join(parts) if grouped else None


def _grouped(parts: list[str], marks: list[str], lakhs: bool) -> bool:
    """Say whether the parts of a number are groups of thousands, all set apart by the same mark."""
    head, *groups = parts
    if len(set(marks)) > 1 or marks[0] == "٫" or head.startswith("0"):
        return False
    if len(head) <= 3 and all(len(group) == 3 for group in groups):
        return True
    return lakhs and marks[0] == "," and len(head) <= 2 and [len(g) for g in groups] == [2] * (len(groups) - 1) + [3]


def _sign(text: str, earlier: int, start: int) -> tuple[str, int]:
    """Return the sign of the number at ``start`` and where it begins; a minus between two numbers is none."""
    minus = start - 1
    if minus > earlier and text[minus] in _CURRENCY:
        minus -= 1
    if minus < earlier or text[minus] != "-":
        return "", start
    gap = text[earlier:minus]
    bare = gap.rstrip(f" \t\u00a0{_CURRENCY}")
    # Scripts from Thai on do without spaces, so that a letter before the minus says nothing there.
    glued = gap[-1:] in tuple(")]}%-") or (gap and gap[-1] < "\u0e00" and unicodedata.category(gap[-1])[0] in "LNM")
    between = (not bare and earlier > 0) or bare[-1:] in tuple(")]}%")
    return ("", start) if glued or between else ("-", minus)


_OPERATION = re.compile(rf"([ \t\u00a0)\]}}%]*)([-+*/x×÷·⋅∙•^])([ \t\u00a0(\[{{{_CURRENCY}]*)", re.I)


# The same with words behind the first number: 2 trains * 80, $20/hour * 35.
_WITH_UNITS = re.compile(
    rf"((?:[ /]{{1,3}}[^\W\d_]+(?:['-][^\W\d_]+)*'?\.?){{1,8}}|[^\W\d_]{{1,4}}(?=/)) ?"
    rf"([-+*/×÷·⋅∙•]|(?<= )x(?= ))([ \t\u00a0{_CURRENCY}]*)",
    re.I,
)


def _operations(text: str, numbers: list[_Number], units: bool = False) -> list[str]:
    """Return for each number the sign of operation between it and the next one; ``(`` if in brackets, '' for none.

    ``units``: also where words stand behind a number, what it counts.
    """
    signs = []
    for a, b in pairwise(numbers):
        gap = _OPERATION.fullmatch(text, a.end, b.start)
        if gap is None and units and b.start - a.end < 100:
            gap = _WITH_UNITS.fullmatch(text, a.end, b.start)
        bracketed = gap and set(gap[1] + gap[3]) & set("()[]{}%")
        signs.append("(" if bracketed else gap[2] if gap else "")
    return signs + [""] * bool(numbers)


def extract_number(text: str, language: str) -> Decimal | None:
    """Return the final number of an answer in a language of MGSM; None without any.

    Digits of any script count, ``18.00`` equals 18, percent and currency signs and units are left out, ``3/4`` stated as the
    answer is 0.75. The module's text says which number is the answer and how separators are read. Source: ours.

    >>> extract_number("12 + 5 = 17. The answer is 17.", "en"), extract_number("Jibu ni 2,125", "sw")
    (Decimal('17'), Decimal('2125'))
    >>> extract_number("Die Antwort lautet 2.125,50 €. Frage 2: ...", "de"), extract_number("উত্তর হল ১,২৫,০০০ টাকা।", "bn")
    (Decimal('2125.50'), Decimal('125000'))
    >>> extract_number("no idea", "en") is None
    True
    """
    if language not in _LANGUAGES:
        raise RequestError(
            f"Answers can be read in {', '.join(_LANGUAGES)}, not in {language!r}: give one of these codes."
        )
    whole = _without_marks(_plain(text))
    places = [list(statement.finditer(whole)) for statement in (_MARKED, _statements(language))]
    plain = _this_problem(whole, places)
    numbers = _numbers(plain, _LANGUAGES[language])
    solution = _Solution(plain, numbers, _operations(plain, numbers))
    if not solution.numbers:
        return None
    for some in places:
        value = _stated(solution, [place for place in some if place.end() <= len(plain)])
        if value is not None:
            return value
    fraction = _fraction(plain, 0)
    return fraction[0] if fraction and not plain[fraction[1] :].strip() else _last(solution)


@dataclass(frozen=True)
class _Solution:
    """A plain text with its numbers and, for each, the operation that joins it to the next."""

    text: str
    numbers: list[_Number]
    operations: list[str]

    def gap(self, i: int) -> str:
        """The text between number i and the one before it."""
        return self.text[self.numbers[i - 1].end if i else 0 : self.numbers[i].start]

    def operand(self, i: int) -> bool:
        """Whether number i stands beside a sign of operation."""
        return bool(self.operations[i] or (i and self.operations[i - 1]))


@lru_cache(maxsize=len(_LANGUAGES))
def _statements(language: str) -> re.Pattern[str]:
    """What states an answer in a language or in English, since models switch; group ``head`` where it may head a solution."""
    habits = [_LANGUAGES[code] for code in dict.fromkeys((language, "en"))]
    states, heads = "|".join(h.states for h in habits), "|".join(h.heads for h in habits)
    return re.compile(rf"(?:{states})|(?P<head>(?:{heads})\s{{0,2}}(?:[:=ঃ]|—|-(?=\s)))", re.I | re.M)


def _stated(solution: _Solution, places: Places) -> Decimal | None:
    """Return the number that the last of the statements gives; None where none of them gives one."""
    starts = [number.start for number in solution.numbers]
    stop = len(starts)
    for place in reversed(places):
        first = bisect_left(starts, place.end())
        if first < stop and not _SENTENCE_END.search(solution.text[place.end() : starts[first]].strip()):
            value = _clause_number(solution, place, first, stop)
            if value is not None:
                return value
        stop = min(stop, first)
    return None


def _clause_number(solution: _Solution, place: re.Match[str], first: int, stop: int) -> Decimal | None:
    """Return the number of the sentence in which the ``first`` of the numbers up to ``stop`` follows a statement.

    The number after the last equals sign; else the first one that is no operand; what explains it is left out. A mere
    heading ("Answer: She has 9 eggs. ...") gives none.
    """
    ends = (i for i in range(first + 1, stop) if _SENTENCE_END.search(solution.gap(i)))
    end = next(ends, stop)
    fraction = _fraction(solution.text, place.end())
    if fraction and not _goes_on_to_equal(solution, fraction[1], first, end):
        return fraction[0]
    if place.groupdict().get("head") and end < len(solution.numbers):
        between = solution.text[place.end() : solution.numbers[first].start]
        if end - first > 1 or re.search(r"[^\W\d_]", between):
            return None
    best = None
    for i in range(first, end):
        if best is not None and _ASIDE.search(solution.gap(i)):
            break
        if not solution.operand(i) and (best is None or _equals(solution.gap(i))):
            best = i
    return solution.numbers[first if best is None else best].value


def _goes_on_to_equal(solution: _Solution, start: int, first: int, end: int) -> bool:
    """Say whether behind ``start`` an equals sign follows in the same sentence, before anything that explains: 3/4 of 60 = 45."""
    for i in range(first, end):
        if solution.numbers[i].start >= start:
            if _ASIDE.search(solution.gap(i)):
                return False
            if _equals(solution.gap(i)):
                return True
    return False


def _equals(gap: str) -> bool:
    return "=" in gap or "≈" in gap


_FRACTION = re.compile(
    rf"[\s:{{(\[]{{0,4}}(-?)[{_CURRENCY}]?\s?(?:(\d{{1,9}}) )?(\d{{1,9}}) ?/ ?(\d{{1,9}})"
    rf"(?!\d|[.,]\d|\s?[-+*/x×÷=^≈]\s?[\d{_CURRENCY}])"
)


def _fraction(text: str, start: int) -> tuple[Decimal, int] | None:
    """Return the value of a fraction ``3/4`` or ``1 3/4`` that stands at ``start``, and its end; None if none does."""
    match = _FRACTION.match(text, start)
    if match is None or not int(match[4]):
        return None
    value = Decimal(match[2] or 0) + Decimal(match[3]) / Decimal(match[4])
    return (-value if match[1] else value), match.end()


def _last(solution: _Solution) -> Decimal:
    """Return the last number that does not number a list or a step and, where something is calculated, is no ordinal."""
    numbering = _numbering(solution)
    kept = [i for i in range(len(solution.numbers)) if i not in numbering] or list(range(len(solution.numbers)))
    if any(_equals(solution.gap(i)) for i in kept):
        kept = [i for i in kept if not _ordinal(solution, i)] or kept
    return solution.numbers[kept[-1]].value


def _numbering(solution: _Solution) -> set[int]:
    """Return which numbers are the marks of a list (1., 2., 3., in this order) or follow a word for step."""
    marks, due = set(), 1
    for match in _LIST_MARK.finditer(solution.text):
        if int(match[1]) == due:
            marks.add(match.start(1))
            due += 1
    marks |= {match.start(1) for match in _REFERENCE.finditer(solution.text)}
    marks |= {match.start(1) for match in _LONE_MARK.finditer(solution.text)}
    return {
        i
        for i, number in enumerate(solution.numbers)
        if number.start in marks or _STEP.search(solution.text, max(0, number.start - 16), number.start)
    }


def _ordinal(solution: _Solution, i: int) -> bool:
    number = solution.numbers[i]
    before = _BEFORE_ORDINAL.search(solution.text, max(0, number.start - 8), number.start)
    return bool(before or _ORDINAL.match(solution.text, number.end))


_SAME_SIGN = {"x": "*", "X": "*", "×": "*", "·": "*", "⋅": "*", "∙": "*", "•": "*", "÷": "/"}


def calculations(text: str) -> Counter[tuple[str, Decimal, Decimal]]:
    """Return the calculations ``a op b`` of a text, counted; operands of + and * are ordered, since either order is right.

    Numbers are read as in English (``2,125 + 5``, ``2.5 * 4``), whatever script their digits are of; a currency sign may
    stand before the second, and behind the first what it counts (``2 trains * 80``). A number belongs to one calculation at most:
    ``2 + 3 + 4`` is 2 + 3.

    >>> calculations("5 + 12 = 17 and 17 * 2 = 34") == calculations("12 + 5, then 2 x 17")
    True
    """
    plain = _CALCULATOR_MARK.sub(r" \1 ", _plain(text))
    numbers = _numbers(plain, _LANGUAGES["en"])
    found: Counter[tuple[str, Decimal, Decimal]] = Counter()
    taken = -1
    for i, sign in enumerate(_operations(plain, numbers, units=True)):
        operation = _SAME_SIGN.get(sign, sign)
        if operation in tuple("+-*/") and taken != i:
            pair = numbers[i].value, numbers[i + 1].value
            a, b = sorted(pair) if operation in "+*" else pair
            found[operation, a, b] += 1
            taken = i + 1
    return found


def has_calculations(text: str, expressions: tuple[str, ...]) -> bool:
    """Say whether every expected calculation stands in ``text`` (others may stand there too)."""
    return not calculations(" ; ".join(expressions)) - calculations(text)
