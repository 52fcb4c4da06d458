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
                                   (``1 250 000``), before 000, or where it is stated; and a no-break or a thin one always
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
_MONEY_WORDS = r"\b(?:rs|[kt]?shs?|tk|usd|eur|kes|tzs|రూ)(?!\w)"
_NUMBER_AHEAD = rf"(?=\s{{0,3}}(?:{_MONEY_WORDS}\s?|[-({_CURRENCY}]{{0,3}}\s?)\.?\d)"
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
        ",", rf"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?\s?(?:คือ|เท่ากับ|เป็น|{_NUMBER_AHEAD})|(?:^|(?<=^\s))ตอบ{_NUMBER_AHEAD}",
        r"คำตอบ(?:สุดท้าย|ที่ถูกต้อง)?"),
}  # fmt: skip

_PROBLEM_LABELS = (
    "question|problem|exercise|task|q|swali|tatizo|zoezi|প্রশ্ন|সমস্যা|ప్రశ్న|సమస్య|frage|aufgabe|übung|pregunta|problema|ejercicio|"
    "problème|probleme|exercice|задача|задание|вопрос|问题|問題|题目|題目|质问|質問|问|問|题|題|โจทย์|คำถาม|ปัญหา|ข้อ"
)
_EXAMPLE_LABELS = "example|mfano|উদাহরণ|ఉదాహరణ|beispiel|ejemplo|exemple|пример|例题?|例題|ตัวอย่าง"
_SPEAKERS = (
    "user|human|student|assistant|system|instruction|input|prompt|mtumiaji|ব্যবহারকারী|వినియోగదారు|benutzer|nutzer|usuario|"
    "utilisateur|пользователь|用户|用戶|ユーザー|ผู้ใช้"
)
_MARKED_NUMBER = r"[ ]?(?:n[°ºo]\.?|n\.[°º]|nr\.?|nambari|namba|নং|నం\.?|№|#|la|wa|ya|ที่)?[ ]?\(?\d{1,3}\)?"
_ORDER = rf"(?:{_MARKED_NUMBER}|[ ]?[一二三四五六七八九十]{{1,3}})?"
_COLON = r"[ *]{0,4}(?:[:ঃ]| [-—](?=\s))"
_LINE_HEAD = r"^[ \t#*>_(\[<【]{0,12}"
# A line that starts like this is the next problem, in whatever language the model goes on.
_NEXT_PROBLEM = re.compile(rf"^[ \t#*>_]{{0,12}}(?:{_PROBLEM_LABELS}){_ORDER}[ *]{{0,4}}[:ঃ]", re.M)
_TURN = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>")  # of a chat
# Where an answer was stated, that is said by less: a label within a line, or without a colon on a line of its own.
_GOES_ON = re.compile(
    rf"(?<![^\W\d_])(?:(?:{_PROBLEM_LABELS}){_ORDER}|(?:{_EXAMPLE_LABELS}){_MARKED_NUMBER}|{_SPEAKERS}){_COLON}"
    rf"|(?:^|(?<=[.!?।。] ))(?:(?:{_PROBLEM_LABELS})(?: [^\s:]{{1,12}}){{1,2}} ?:|q\d{{0,3}}\. )"
    rf"|[\[<【](?:{_PROBLEM_LABELS}){_ORDER}[\]>】]|第 ?\d{{1,3}} ?[题題问問]"
    rf"|{_LINE_HEAD}(?:(?:{_PROBLEM_LABELS}){_ORDER}[ *)\]>】.।-]{{0,4}}$|(?:{_EXAMPLE_LABELS})(?:{_MARKED_NUMBER}|[ *]{{0,4}}:)"
    rf"|(?:{_SPEAKERS})[ ]?\d{{0,3}}[ *]{{0,4}}:|#{{1,6}} ?(?:instruction|response|input)\b)"
    rf"|{_TURN.pattern}|</?s>|\[/?inst\]",
    re.M,
)
# A check of an answer that is there: "Check: 14 + 6 = 20".
_CHECK = re.compile(
    r"(?:ตรวจ|(?:^|(?<=[.!?;।。*)])|(?<=[.!?;।。*)] ))(?:(?:to |let us |let's )?(?:check|verif|proof)|probe|überprüfung|kontrolle"
    r"|comproba|vérifi|preuve|(?:ku|u)?hakiki|ukaguzi|যাচাই|తనిఖీ|సరిచూ|ధృవీకరణ|провер|检验|檢驗|验算|驗算|验证|驗證|検算|検証|確認))"
    r"[^\s\d:]{0,20}(?: (?:the|our|my|of the|de la|du|der|das|la|le|el) [^\s\d:]{1,12})?\s?:",
    re.M,
)
# What comes after these explains an answer that was given.
_ASIDE = re.compile(
    r"[,;(){}،、]|\b(?:because|since|kwa sababu|kwani|porque|ya que|parce que|car|weil|denn|потому что|так как)\b"
    "|কারণ|ఎందుకంటే|因为|因為|なぜなら|เพราะ|ตรวจ",
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
_REFERENCE = re.compile(r"(?<=[^\s=:(]) ?\[\^?\d{1,2}(?:, ?\d{1,2}){0,4}\](?=[\s.,;:।。\[]|$)")
_LONE_MARK = re.compile(
    r"(?<=\n)[ \t#*>(-]{0,8}(\d|(?<=[.!?:;।。]\n)\d\d)[.)।、](?: (?=[^\W\d_])|(?=[\u0900-\uffff])(?=[^\W\d_]))"
)
_LIST_MARK = re.compile(r"(?:^[\s#>*-]{0,8}|(?<=[.!?:;।。] ))(\d{1,3})[.)](?=\s)", re.M)


# Full-width forms, then signs that are written in several ways. The no-break spaces become one, which groups everywhere.
_CHARACTERS = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\u2212\u2013\u2010\u2011\u2012\ufe63\u2796"), "-"),
    **dict.fromkeys(map(ord, "’‘′´`＇ʼʹ٬"), "'"),
    **dict.fromkeys(map(ord, "\u2044\u2215"), "/"),
    **dict.fromkeys([*map(ord, "\u00a0\u202f\u205f"), *range(0x2000, 0x200B)], "\u00a0"),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202b\u202c\u202d\u202e")),
    0x3000: " ",
    0xFE50: ",",
    0xFFE5: "¥",
    0xFFE1: "£",
    0xFFE0: "¢",
}


_SHORT = [
    rf"\b{word}\." for word in ["rs", "sh", "shs", "tsh", "tshs", "ksh", "kshs", "tk", "ca", "approx", "no", "nr", "రూ"]
]
_BEFORE_NEGATIVE = [
    "[=≈]-",
    "[=≈] -",
    *(rf"\b{word} -" for word in ["is", "ni", "ist", "lautet", "es", "est", "равен"]),
]
_UNITS = [rf"\d{space}(?:{units})." for space in ("", " ") for units in ("m|м", "mm|cm|dm|km|in|ft|yd|mi|мм|см|дм|км")]
_NEGATIVE = (
    r"\b(?:minus|hasi|negativ[eoa]?|négati(?:f|ve)|moins|menos|минус|отрицательн[а-я]{2,3}|মাইনাস|ঋণাত্মক|మైనస్|(?:ఋణ|రుణ)(?:ాత్మక)?)\s"
    r"|(?:负|負の?|マイナス|ลบ)\s?"
)
_NEGATIVES = "minus hasi negativ négati moins menos минус отрицательн মাইনাস ঋণাত্মক మైనస్ ఋణ రుణ 负 負 マイナス ลบ"
_WHOLE = r"\d{1,3}(?:,\d{3}){1,3}|\d{1,9}"
_PART = r"(?:\{(-?)[^{}\d]{0,3}((?:\d{1,3}(?:[, ]\d{3}){1,3}|\d{1,9})(?:\.\d{1,4})?)[^{}\d]{0,30}\}|(\d))"
_MONEY = rf"(?:[{_CURRENCY}]|{_MONEY_WORDS})"
_NO_OPERAND = r"(?<![\d)\]%]{0})(?<![\d)\]%] {0})"  # what stands behind one is an operation
_BEFORE_MONEY, _AFTER_MONEY = re.compile(rf"{_MONEY} ?$"), re.compile(rf" ?[{_CURRENCY}](?! ?\d)| ?/[=-]")
_SPACED = r"\d(?<![\d.,']\d)\d{{0,2}}{}(?:[.,]\d{{1,2}})?(?!\d|[.,']\d)"
_UNGROUPED = str.maketrans("", "", ", ")


def _behind(*texts: str) -> str:
    """Return a pattern of what stands behind one of several texts, each of a fixed length."""
    return f"(?:{'|'.join(f'(?<={text})' for text in texts)})"


def _joined(number: re.Match[str]) -> str:
    """Return a number whose groups are set apart by plain spaces with such as group everywhere."""
    return number[0].replace(" ", "\u00a0")


def _joined_money(number: re.Match[str]) -> str:
    text, (start, end) = number.string, number.span()
    money = _BEFORE_MONEY.search(text, max(0, start - 5), start) or _AFTER_MONEY.match(text, end)
    return _joined(number) if money else number[0]


def _compiled(*rewrites: tuple[str, str, Any]) -> list[tuple[list[str], re.Pattern[str], Any]]:
    return [(needed.split() or [" "], re.compile(pattern), new) for needed, pattern, new in rewrites]


# Each with what a text has where there is something to rewrite, and with a sign that is rare in front: for speed.
_LATEX = _compiled(
    ("{,}", r"\{,\}", ","),
    ("\\", r"\\,", "\u00a0"),
    ("\\", r"\\[!;: ()\[\]]|\\(?:left|right)(?![a-z])", ""),
    ("~", r"(?<=\d)~", "\u00a0"),
    ("\\", r"\\([$%])", r"\1"),
    ("\\", r"\\(?:times|cdot)(?![a-z])", "×"),
    ("\\", r"\\div(?![a-z])", "÷"),
    ("\\", r"\\approx(?![a-z])", "≈"),
    ("\\", r"\\(?:text(?:bf|rm)?|math(?:bf|rm)|mbox)\s?\{([^{}\n]*)\}", r"\1"),
    ("\\", r"\\(?<=\d\\)[cdt]?frac(?=\s?[{\d])", r" \\frac"),
    (
        "\\",
        rf"\\[cdt]?frac\s?{_PART}\s?{_PART}",
        lambda of: f"{of[1] or ''}{of[2] or of[3]}/{of[5] or of[6]}".translate(_UNGROUPED),
    ),
)
_REWRITES = _compiled(
    ("ํา", "ํา", "ำ"),
    ("،", r"(?<=\d)،(?=\d)", ","),
    ("sup>", r"</?sup>(?=-?\d|\W|$)", lambda mark: "" if "/" in mark[0] else "^"),
    (".", rf"\.(?=\s?\d){_behind(*_SHORT)}", ""),  # no end of a sentence
    (" ", _SPACED.format(r"(?:(?: \d{3}){2,}|(?: \d{3})* 000)"), _joined),
    (f"{' '.join(_CURRENCY)} /= /- rs sh tk usd eur kes tzs రూ", _SPACED.format(r"(?: \d{3})+"), _joined_money),
    ("/= /-", r"(?<=\d) ?/[=-](?! ?\d)", ""),  # shillings: 2,500/=
    ("**", r"(?<!\d)(?<!\*\*)(\d{1,9})\*\*(?=-?\d)", r"\1^"),
    ("½ ¼ ¾ ⅕ ⅖ ⅗ ⅘", r"(?<=\d) ?([½¼¾⅕⅖⅗⅘])", lambda mixed: str(unicodedata.numeric(mixed[1]))[1:]),
    (
        "/",
        rf"(\d/\d{{1,9}} (?:of|ya|von|de|от) [{_CURRENCY}]?\d(?:[\d,]*\d)?(?: (?!which|or)[^\W\d_]+)?),? (?:which )?"
        rf"(?:is|are|equals|makes|gives|or|ni|ist|es|est) (?=[{_CURRENCY}]?\d)",
        r"\1 = ",
    ),
    ("**", r"(?<!\d)\*\*|\*\*(?!\d)", ""),  # bold, not a power
    ("-", rf"-{_behind(*_BEFORE_NEGATIVE)} (?=\d)", "-"),
    ("2 3", rf"[23](?!\w){_behind(*_UNITS)}", ""),  # of squares and cubes, no number
    ("^", r"\^(?<=[^\s\d(){}\[\]]\^)(?:\d(?!\d)|\{\d\})", ""),  # nor what is raised behind a word
    (_NEGATIVES, rf"{_NO_OPERAND.format('')}(?:{_NEGATIVE})(?=[{_CURRENCY}]?\d)", "-"),
    ("-", rf"-{_NO_OPERAND.format('-')}[{_CURRENCY}]?\s?\(\s?(\d[\d.,]*)\s?\)", r"-\1"),
)
_RAISED = re.compile(r"(\d)([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_CALCULATOR_MARK = re.compile(r"<<([^<>\n]*)>>")
_SHOWN = re.compile(rf"\s?[{_CURRENCY}]?\d")


def _plain(text: str) -> str:
    """Return ``text`` in small letters, with ASCII digits and one way of writing each sign, without LaTeX and Markdown."""
    plain = unicodedata.normalize("NFC", unescape(text))
    foreign = {ord(sign): str(unicodedata.decimal(sign)) for sign in set(plain) if sign > "9" and sign.isdecimal()}
    plain = plain.translate(_CHARACTERS | foreign).lower()
    plain = _RAISED.sub(lambda raised: f"{raised[1]}^{raised[2].translate(_SUPERSCRIPTS)}", plain)
    for needed, pattern, new in (*(_LATEX if "\\" in plain or "{" in plain else ()), *_REWRITES):
        if any(sign in plain for sign in needed):
            plain = pattern.sub(new, plain)
    return plain


def _without_marks(text: str) -> str:
    """Return ``text`` without GSM8K's ``<<3*6=18>>``; where the result does not stand behind, the mark's inside stays."""
    return _CALCULATOR_MARK.sub(lambda mark: "" if _SHOWN.match(text, mark.end()) else f" {mark[1]} ", text)


Places = list[re.Match[str]]
_RESULT = re.compile(rf"[=≈]\s?[-{_CURRENCY}]{{0,2}}\s?\d")


def _this_problem(text: str, places: Sequence[Places]) -> str:
    """Return ``text`` up to where it goes on to another problem, or to another turn of a chat.

    Once an answer was stated, any label or mark counts. Before that one at the start of a line does, where a result stands before
    it, or where nothing is stated behind it: a solution may first say the problem again. ``places`` are those of statements.
    """
    given = min((end for some in places if (end := _given(text, some)) is not None), default=None)
    ends = [len(text)]
    if given is not None and (mark := _GOES_ON.search(text, given)):
        ends.append(mark.start())
    labels = [match.start() for pattern in (_NEXT_PROBLEM, _TURN) for match in pattern.finditer(text)]
    word, number, result = (re.search(what, text) for what in (r"\S", r"\d", _RESULT))
    last_result = text.rfind("=")
    for start in labels:
        behind_word, behind_number, behind_result = (
            at is not None and at.start() < start for at in (word, number, result)
        )
        restated = last_result > start or not behind_word
        if behind_result or (given < start if given is not None else behind_number or not restated):
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


_SPACED_STATED = re.compile(rf"\s{{0,2}}(?:{_MONEY})?\d{{1,3}}(?: \d{{3}})+(?!\d|[,;]? ?\d|\s?[-+*/x×÷]\s?\d)")


def _joined_where_stated(text: str, places: Sequence[Places]) -> str:
    """Return ``text`` of the same length, with numbers that a statement gives joined where spaces group them."""
    spans = [match.span() for some in places for place in some if (match := _SPACED_STATED.match(text, place.end()))]
    signs = list(text) if spans else []
    for start, end in spans:
        signs[start:end] = text[start:end].replace(" ", "\u00a0")
    return "".join(signs) or text


class _Number(NamedTuple):
    digits: str  # as Decimal reads them
    start: int
    end: int

    @property
    def value(self) -> Decimal:
        return Decimal(self.digits)


@lru_cache(maxsize=2)
def _number_pattern(spaces: str) -> re.Pattern[str]:
    """Digits with whatever may stand inside a number, as long as it goes; possessive, so that time stays linear."""
    run = rf"(?<![\w.,])\.\d++(?![.,]\d)|\d++(?:[.,'٫]\d++|[{spaces}]\d{{3}}(?!\d))*+"
    power = r"e([+-]?\d{1,3})(?!\w|\.\d)|\s?[x×*·⋅∙]\s?10\s?\^\s?\{?(-?\d{1,3})"
    raised = r"(?<![\d.,])([1-9]\d{0,3})\^\{?(-?\d{1,3})(?!\d|\.\d)\}?"
    return re.compile(rf"(?=[\d.])(?:{raised}|({run})(?:{power})?)")


def _numbers(text: str, habits: _Habits) -> list[_Number]:
    """Return the numbers of a plain text, in order."""
    found: list[_Number] = []
    for match in _number_pattern(" \u00a0" if habits.grouping == " " else "\u00a0").finditer(text):
        base, exponent, run, *powers = match.groups()
        sign, begin = _sign(text, found[-1].end if found else 0, match.start())
        if base:  # to a power
            found.append(_Number(f"{sign}{Decimal(base) ** int(exponent)}", begin, match.end()))
            continue
        if run.isdecimal() and not any(powers):
            found.append(_Number(sign + run, begin, match.end()))
            continue
        pieces = list(_pieces(run, match.start(), habits))
        pieces[0] = _Number(sign + pieces[0].digits, begin, pieces[0].end)
        if power := powers[0] or powers[1]:
            pieces[-1] = _Number(f"{pieces[-1].digits}e{power}", pieces[-1].start, match.end())
        found += pieces
    return found


def _pieces(run: str, start: int, habits: _Habits, splitters: tuple[str, ...] | None = None) -> Iterator[_Number]:
    """Yield the numbers of a run of digits and separators: one, or those of a list."""
    digits = run if run.isdecimal() else _one_number(run, habits)
    if digits is not None:
        yield _Number(digits, start, start + len(run))
        return
    first, *others = splitters or (" \u00a0'", habits.grouping + "'", ".,٫'")
    for part in re.finditer(rf"[^{re.escape(first)}]+", run):
        yield from _pieces(part[0], start + part.start(), habits, tuple(others))


_LONGEST = 60  # with separators, a longer run is a list


def _one_number(run: str, habits: _Habits) -> str | None:
    """Return a run as a plain decimal where it is one number in ``habits``, else None (the module says what is chosen).

    >>> [_one_number("2,125", _LANGUAGES[code]) for code in ("en", "de")], _one_number("12,5", _LANGUAGES["en"])
    (['2125', '2125'], None)
    """
    if len(run) > _LONGEST:
        return None
    run = run.replace("\u00a0", " ")
    parts, marks = re.split(r"\D", run), re.findall(r"\D", run)
    if run.startswith("."):
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


_SIGNS = f"-{_CURRENCY}"


def _sign(text: str, earlier: int, start: int) -> tuple[str, int]:
    """Return the sign of the number at ``start`` and where it begins; a minus between two numbers is none."""
    minus = start - 1
    if minus < earlier or text[minus] not in _SIGNS:
        return "", start
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


_OPERATION = re.compile(rf"([ \t\u00a0)\]}}%]*)([-+*/x×÷·⋅∙•^])([ \t\u00a0(\[{{{_CURRENCY}]*)")


# The same with words behind the first number: 2 trains * 80, $20/hour * 35.
_WITH_UNITS = re.compile(
    rf"((?:[ /]{{1,3}}[^\W\d_]+(?:['-][^\W\d_]+)*'?\.?){{1,8}}|[^\W\d_]{{1,4}}(?=/)) ?"
    rf"([-+*/×÷·⋅∙•]|(?<= )x(?= ))([ \t\u00a0{_CURRENCY}]*)",
)


def _operation(text: str, a: _Number, b: _Number, units: bool = False) -> str:
    """Return the sign of operation between a number and the next one; ``(`` if in brackets, '' for none.

    ``units``: also where words stand behind the first, what it counts.
    """
    gap = _OPERATION.fullmatch(text, a.end, b.start)
    if gap is None and units and b.start - a.end < 100:
        gap = _WITH_UNITS.fullmatch(text, a.end, b.start)
    if gap is None:
        return ""
    return "(" if set(gap[1] + gap[3]) & set("()[]{}%") else gap[2]


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
    plain = _this_problem(_joined_where_stated(whole, places), places)
    numbers = _numbers(plain, _LANGUAGES[language])
    solution = _Solution(plain, numbers)
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
    """A plain text with its numbers."""

    text: str
    numbers: list[_Number]

    def gap(self, i: int) -> str:
        """The text between number i and the one before it."""
        return self.text[self.numbers[i - 1].end if i else 0 : self.numbers[i].start]

    def operand(self, i: int) -> bool:
        """Whether number i stands beside a sign of operation."""
        around = pairwise(self.numbers[max(0, i - 1) : i + 2])
        return any(_operation(self.text, a, b) for a, b in around)


@lru_cache(maxsize=len(_LANGUAGES))
def _statements(language: str) -> re.Pattern[str]:
    """What states an answer in a language or in English, since models switch; group ``head`` where it may head a solution."""
    habits = [_LANGUAGES[code] for code in dict.fromkeys((language, "en"))]
    states, heads = "|".join(h.states for h in habits), "|".join(h.heads for h in habits)
    return re.compile(rf"(?=[^\W\d_])(?:{states}|(?P<head>(?:{heads})\s{{0,2}}(?:[:=ঃ]|—|-(?=\s))))", re.M)


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


_TERM = rf"(?:{_WHOLE})(?:\.\d{{1,4}})?"
_FRACTION = re.compile(
    rf"[\s:{{(\[]{{0,4}}(-?)[{_CURRENCY}]?\s?(?:(\d{{1,9}}) )?({_TERM}) ?/ ?({_TERM})"
    rf"(?!\d|[.,]\d|\s?[-+*/x×÷=^≈]\s?[\d{_CURRENCY}]|\)\s?\(?\d)"
)


def _fraction(text: str, start: int) -> tuple[Decimal, int] | None:
    """Return the value of a fraction ``3/4`` or ``1 3/4`` that stands at ``start``, and its end; None if none does."""
    match = _FRACTION.match(text, start)
    if match is None:
        return None
    above, below = (Decimal(match[term].replace(",", "")) for term in (3, 4))
    if not below:
        return None
    value = Decimal(match[2] or 0) + above / below
    return (-value if match[1] else value), match.end()


def _last(solution: _Solution) -> Decimal:
    """Return the last number before a check; none of a list's or a step's and, where something is calculated, no ordinal."""
    text, numbers, marks = solution.text, solution.numbers, _marks(solution.text)

    def numbers_something(i: int) -> bool:
        start = numbers[i].start
        return start in marks or _STEP.search(text, max(0, start - 16), start) is not None

    first = next((i for i in range(len(numbers)) if not numbers_something(i)), 0)
    check = next((at.start() for at in _CHECK.finditer(text, numbers[first].end)), len(text))
    before = bisect_left([number.start for number in numbers], check)
    last = kept = next((i for i in reversed(range(before)) if not numbers_something(i)), before - 1)
    if re.compile("[=≈]").search(text, 0, numbers[last].start):
        calculated = (i for i in reversed(range(last + 1)) if not numbers_something(i) and not _ordinal(solution, i))
        kept = next(calculated, last)
    return numbers[kept].value


def _marks(text: str) -> set[int]:
    """Return where the numbers stand that mark the items of a list (1., 2., 3., in this order), a new one, or a reference."""
    marks, due = set(), 1
    for match in _LIST_MARK.finditer(text):
        if int(match[1]) == due:
            marks.add(match.start(1))
            due += 1
    for reference in _REFERENCE.finditer(text):
        marks |= {reference.start() + digits.start() for digits in re.finditer(r"\d+", reference[0])}
    return marks | {match.start(1) for match in _LONE_MARK.finditer(text)}


def _ordinal(solution: _Solution, i: int) -> bool:
    number = solution.numbers[i]
    before = _BEFORE_ORDINAL.search(solution.text, max(0, number.start - 8), number.start)
    return bool(before or _ORDINAL.match(solution.text, number.end))


_SAME_SIGN = {"x": "*", "×": "*", "·": "*", "⋅": "*", "∙": "*", "•": "*", "÷": "/"}


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
    for i, (first, second) in enumerate(pairwise(numbers)):
        sign = _operation(plain, first, second, units=True)
        operation = _SAME_SIGN.get(sign, sign)
        if operation in tuple("+-*/") and taken != i:
            pair = first.value, second.value
            a, b = sorted(pair) if operation in "+*" else pair
            found[operation, a, b] += 1
            taken = i + 1
    return found


def has_calculations(text: str, expressions: tuple[str, ...]) -> bool:
    """Say whether every expected calculation stands in ``text`` (others may stand there too)."""
    return not calculations(" ; ".join(expressions)) - calculations(text)
