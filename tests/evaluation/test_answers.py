"""The number of a generated answer, in eleven languages; and the calculations that stand in it."""

import gc
import time
from decimal import Decimal

import pytest
from answer_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation.answers import CALCULATION, calculations, extract_number, has_calculations

LANGUAGES = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "te", "bn")
# Thousands separators and decimal mark, digits of the script, and a sentence that states the answer.
FORMATS = {
    "en": (",", ".", "", "The answer is {}."),
    "sw": (",", ".", "", "Jibu ni {}."),
    "th": (",", ".", "๐๑๒๓๔๕๖๗๘๙", "คำตอบคือ {} บาท"),
    "zh": (",", ".", "０１２３４５６７８９", "答案是{}。"),
    "ja": (",", ".", "０１２３４５６７８９", "答えは{}円です。"),
    "bn": (",", ".", "০১২৩৪৫৬৭৮৯", "উত্তর হল {}টি।"),
    "te": (",", ".", "౦౧౨౩౪౫౬౭౮౯", "సమాధానం {}."),
    "de": (".", ",", "", "Die Antwort lautet {} €."),
    "es": (".", ",", "", "La respuesta es {}."),
    "fr": (" ", ",", "", "La réponse est {} €."),
    "ru": ("\u00a0", ",", "", "Ответ — {}."),
}

numbered = [
    pytest.param(*case, id=f"{kind}-{i}-{case[1]}".replace(" ", "-"))
    for kind, cases in CASES.items()
    for i, case in enumerate(cases)
]


@pytest.mark.parametrize(("text", "language", "number"), numbered)
def test_the_number_of_an_answer(text, language, number):
    assert extract_number(text, language) == (None if number is None else Decimal(number))


def test_the_cases_cover_every_language_and_are_all_different():
    cases = [case for cases in CASES.values() for case in cases]
    assert len(cases) >= 300
    assert len({case[:2] for case in cases}) == len(cases)
    for language in LANGUAGES:
        kinds = [kind for kind, cases in CASES.items() if any(case[1] == language for case in cases)]
        assert len(kinds) >= 9, (language, kinds)


@pytest.mark.parametrize("language", ["xx", "EN", "", "eng"])
def test_an_unknown_language_is_refused_with_all_that_are_known(language):
    with pytest.raises(RequestError) as refused:
        extract_number("18", language)
    assert repr(language) in str(refused.value)
    assert all(code in str(refused.value) for code in LANGUAGES)


# --- round trips -----------------------------------------------------------------------------------------


def grouped(digits, mark, lakhs):
    """An independent formatter: cut groups off the end, of three and then, for lakhs, of two digits."""
    groups, size = [], 3
    while len(digits) > size:
        digits, group = digits[:-size], digits[-size:]
        groups.insert(0, group)
        size = 2 if lakhs else 3
    return mark.join([digits, *groups])


def written(number, language, native, lakhs=False):
    group, mark, digits, _ = FORMATS[language]
    sign, whole, fraction = ("-" if number < 0 else ""), *f"{abs(number):f}.".split(".")[:2]
    text = sign + grouped(whole, group, lakhs) + (mark + fraction if fraction else "")
    return text.translate(dict(zip(map(ord, "0123456789"), digits, strict=True))) if native and digits else text


def ambiguous(number, language):
    """1,125 is 1125 also where the comma is decimal, as the module says."""
    return FORMATS[language][1] == "," and number.as_tuple().exponent == -3 and 1 <= abs(number) < 1000


numbers = st.one_of(
    st.integers(-(10**12), 10**12).map(Decimal),
    st.decimals(-(10**9), 10**9, allow_nan=False, places=2),
    st.decimals(-(10**5), 10**5, allow_nan=False, places=3),
)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=60, deadline=None)
@given(number=numbers, native=st.booleans(), stated=st.booleans())
def test_what_a_locale_writes_is_read_back(language, number, native, stated):
    if ambiguous(number, language):
        return
    text = written(number, language, native)
    assert (
        extract_number(f"3 + 4 = 7. {FORMATS[language][3].format(text)} Bis 12" if stated else text, language) == number
    )


@pytest.mark.parametrize("language", ["bn", "te"])
@settings(max_examples=60, deadline=None)
@given(number=numbers, native=st.booleans())
def test_lakhs_are_read_back(language, number, native):
    assert extract_number(written(number, language, native, lakhs=True), language) == number


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=30, deadline=None)
@given(number=st.integers(-(10**9), 10**9))
def test_english_grouping_of_whole_numbers_is_read_everywhere(language, number):
    assert extract_number(f"{number:,}", language) == number


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_gold_solutions_give_their_answers_and_calculations(language):
    for problem in templates.problems(language, "scored", 50):
        assert extract_number(problem.solution, language) == problem.answer
        assert has_calculations(problem.solution, problem.expressions)


# --- any text, in linear time ----------------------------------------------------------------------------

PIECES = [
    *[
        "0",
        "7",
        "12",
        "125",
        "1,234",
        ".5",
        "٣",
        "৫",
        ",",
        ".",
        "'",
        " ",
        "\u00a0",
        "\n",
        "-",
        "−",
        "$",
        "€",
        "%",
        "e9",
        "/",
        "=",
    ],
    *[
        "+",
        "x",
        "×",
        "^",
        "(",
        ")",
        "{",
        "}",
        "**",
        "\\",
        r"\boxed{",
        r"\frac{1}{",
        "####",
        "<<",
        ">>",
        "1. ",
        "Step ",
        "第",
    ],
    *[
        "answer is ",
        "Answer: ",
        "Question: ",
        "\nSwali: ",
        "Jibu ni ",
        "উত্তর ",
        "సమాధానం",
        "Ответ — ",
        "คำตอบคือ",
        "because",
    ],
]


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
def test_no_text_is_too_strange(language, text):
    found = extract_number(text, language)
    assert found is None or found.is_finite()
    assert (found is None) or any(c.isdecimal() for c in text)
    assert all(count > 0 for count in calculations(text).values())


LONG = [
    *["1", "1,", "1.", "1'", "1 ", "111,", "111.", "111 ", "11,", "1.1,", "1-", "-", "- ", "--1", ",", "$", " "],
    *["\n", "\u00a0", "1/", "1+1=", "1e9 ", "{", "\\frac{", "\\boxed{", "\\boxed{1 ", "<<", "<<1", "<<1>>", "#### "],
    *["#### 1", "**", "1. ", "x", "answer ", "answer is ", "answer is. ", "answer to ", "answer: a1. ", "(1)*", "1st "],
    *[
        "1 250 000 ",
        "$1 250 ",
        "minus ",
        "minus 1 ",
        "-(",
        "-(1",
        "[1] ",
        "a [1]",
        "10^3 ",
        "10^",
        "1⁸",
        "\\frac1",
        "\\text{",
        "1 m2",
    ],
    *[
        "118 000 ",
        "1 250 ",
        "½",
        "2^",
        "2**",
        "Check: ",
        "\nCheck: ",
        "[1][",
        "<sup>",
        "rs. ",
        "1 €",
        "is - ",
        "[Question] ",
    ],
    *["&nbsp;", "Question: ", "answer is 1 question ", "User:", "<|", "\n3. a ", "1/=", "\\frac{1,000}", "1،"],
    *["the answer: 1 + ", "\nQuestion: ", " \n", "Step 1 ", "1 because ", "jibu la ", "উত্তর ", "คำตอบ", "ответ на "],
]


@pytest.fixture
def no_collection():
    """No garbage is collected meanwhile: that takes as long as this process has objects of other tests."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("piece", "language"), [(piece, ("fr", "de", "bn", "th", "en")[i % 5]) for i, piece in enumerate(LONG)]
)
def test_long_texts_take_linear_time(piece, language, no_collection):
    seconds = []
    for length in (25_000, 100_000):
        text = f"1{piece * (length // len(piece))}?5"
        start = time.process_time()
        extract_number(text, language)
        seconds.append(time.process_time() - start)
    # Four times as long a text: where time is quadratic it takes sixteen times as long, and minutes.
    assert seconds[1] < 8 * seconds[0] + 0.5
    assert calculations(text) is not None


# --- calculations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("১২ + ৫ = ১৭", {("+", 5, 12): 1}),
        ("౩ × ౪", {("*", 3, 4): 1}),
        ("๑๒ ÷ ๓", {("/", 12, 3): 1}),
        ("１２－５＝７", {("-", 12, 5): 1}),
        ("2,125 + 5", {("+", 5, 2125): 1}),
        ("1,000 − 250", {("-", 1000, 250): 1}),
        ("2.5 * 4 = 10", {("*", Decimal("2.5"), 4): 1}),
        (r"$3 \times 4 = 12$", {("*", 3, 4): 1}),
        (r"12 \div 4", {("/", 12, 4): 1}),
        (r"3 \cdot 4", {("*", 3, 4): 1}),
        ("3 ∙ 4", {("*", 3, 4): 1}),
        ("3 · 4 and 3 • 4", {("*", 3, 4): 2}),
        ("9 * $2 = $18", {("*", 2, 9): 1}),
        ("3x4", {("*", 3, 4): 1}),
        ("3 X 4", {("*", 3, 4): 1}),
        ("12 -5", {("-", 12, 5): 1}),
        ("12 – 5", {("-", 12, 5): 1}),
        ("2 + 3 + 4 = 9", {("+", 2, 3): 1}),
        ("2 * (3 + 4) = 14", {("+", 3, 4): 1}),
        ("<<3*6=18>>18", {("*", 3, 6): 1}),
        ("2 trains * 80 miles/train = 160 miles", {("*", 2, 80): 1}),
        ("$20/hour * 35 hours/week = $700/week", {("*", 20, 35): 1}),
        ("1 girls’ team + 1 boys’ team = 2 teams", {("+", 1, 1): 1}),
        ("2 hours every day x 7 days in a week", {("*", 2, 7): 1}),
        ("43 brownies x $3/brownie", {("*", 3, 43): 1}),
        ("300g/5", {("/", 300, 5): 1}),
        ("80,000*1.5 = 120,000", {("*", Decimal("1.5"), 80000): 1}),
        ("5 well-known 3", {}),
        ("16 - 7 e-mails, 3 more", {("-", 16, 7): 1}),
        ("She has 12, and 5 - of them", {}),
        ("3, 4 - and 5", {}),
        ("11\n- 5 apples", {}),
        ("12 = 5", {}),
        ("2^3 and 2**3", {}),
        ("", {}),
    ],
)
def test_calculations_in_every_writing(text, expected):
    assert calculations(text) == expected


@given(a=st.integers(0, 10**7), b=st.integers(0, 10**7), sign=st.sampled_from("+-*/"))
def test_a_calculation_is_found_however_it_is_written(a, b, sign):
    other = {"-": "−", "*": "×", "/": "÷", "+": "＋"}[sign]
    for text in (
        f"{a} {sign} {b}",
        f"{a}{other}{b}",
        f"{a:,} {other} {b:,} = 0",
        written(a, "bn", True) + sign + str(b),
    ):
        assert has_calculations(f"so {text}.", (f"{a} {sign} {b}",)), text


def test_spans_of_calculations_in_gold_solutions_keep_their_meaning():
    text = "Kwanza 12 + 5 = 17, kisha ১৭ × 2 = 34."
    assert [(m.group(), m[2]) for m in CALCULATION.finditer(text)] == [("12 + 5", "+"), ("১৭ × 2", "×")]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("80,000*1.5=120,000", ["80,000*1.5"]),
        ("2.5 * 4 = 10, 1,250 - 50.", ["2.5 * 4", "1,250 - 50"]),
        ("9 * $2 = $18", ["9 * $2"]),
        ("3.5.2 * 4 and 1,2*3", []),
        ("12 * 4.5.", ["12 * 4.5"]),
    ],
)
def test_a_span_has_whole_numbers(text, spans):
    assert [match.group() for match in CALCULATION.finditer(text)] == spans
