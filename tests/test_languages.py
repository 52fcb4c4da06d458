"""Names of languages, and which one a text is written in."""

import re

import pytest

from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation.answers import extract_number
from xlnb.languages import LANGUAGE_NAMES, written_in

SENTENCES = {
    "en": "She bought three apples and gave one of them to her brother.",
    "sw": "Alinunua maembe matatu na kumpa kaka yake moja.",
    "bn": "সে তিনটি আপেল কিনেছে এবং একটি তার ভাইকে দিয়েছে।",
    "te": "ఆమె మూడు పండ్లు కొని ఒకటి తన తమ్ముడికి ఇచ్చింది.",
    "de": "Sie kaufte drei Äpfel und gab einen davon ihrem Bruder.",
    "es": "Ella compró tres manzanas y le dio una a su hermano.",
    "fr": "Elle a acheté trois pommes et en a donné une à son frère.",
    "ja": "彼女はりんごを三つ買って、一つを弟にあげました。",
    "ru": "Она купила три яблока и отдала одно своему брату.",
    "th": "เธอซื้อแอปเปิลสามผลและให้น้องชายหนึ่งผล",
    "zh": "她买了三个苹果，把其中一个给了弟弟。",
}
FINAL = {
    "en": "The answer is 18.",
    "sw": "Jibu ni 18.",
    "bn": "উত্তর হল ১৮।",
    "te": "సమాధానం ౧౮.",
    "de": "Die Antwort lautet 18.",
    "es": "La respuesta es 18.",
    "fr": "La réponse est 18.",
    "ja": "答えは18です。",
    "ru": "Ответ — 18.",
    "th": "คำตอบคือ 18",
    "zh": "答案是 18。",
}


def test_the_languages_are_those_whose_answers_can_be_read():
    with pytest.raises(RequestError) as told:
        extract_number("5", "xx")
    listed = re.search(r"read in (.*), not in", str(told.value)).group(1).split(", ")
    assert set(listed) == set(LANGUAGE_NAMES) == set(SENTENCES)
    assert len(listed) == len(set(LANGUAGE_NAMES.values())) == 11


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_of_every_language(language):
    assert written_in(SENTENCES[language]) == language
    assert written_in(FINAL[language]) == language, "the shortest answer that is one"


@pytest.mark.parametrize("language", SENTENCES)
def test_numbers_signs_and_lines_do_not_matter(language):
    assert written_in(f"12 + 5 = 17\n## {SENTENCES[language]} * 3,50 € = (১৭) ౧౭ 1_000 ->") == language


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_gold_solutions_are_in_their_language(language):
    problems = templates.problems(language, "scored", 100)
    right = sum(written_in(problem.solution) == language for problem in problems)
    assert right >= 99


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("18 টাকা", "bn"),
        ("ক", "bn"),
        ("18 మీ", "te"),
        ("18 บาท", "th"),
        ("є", "ru"),
        ("өнөөдөр", "ru"),
        ("残 18", "zh"),
        ("買", "zh"),
        ("残り 18", "ja"),
        ("答案は18", "ja"),
        ("18 リンゴ", "ja"),
        ("ﾘﾝｺﾞ", "ja"),
        ("人々", "zh"),
        ("々は", "ja"),
    ],
)
def test_a_script_of_one_language_decides_on_a_single_word(text, language):
    assert written_in(text) == language


def test_a_word_or_two_of_latin_letters_are_given_to_some_language():
    assert {written_in(word) for word in ("Jibu", "Answer", "kg", "La respuesta")} <= set(LANGUAGE_NAMES)


def test_an_english_solution_in_another_script_s_names_stays_english():
    assert written_in("রহিম has 12 mangoes and buys 5 more, so he has 12 + 5 = 17 mangoes.") == "en"


@pytest.mark.parametrize(
    "text",
    [
        "Zij kocht drie appels en gaf er een aan haar broer.",
        "Lei ha comprato tre mele.",
        "उसने तीन सेब खरीदे।",
        "그녀는 사과를 샀다.",
    ],
)
def test_a_text_in_another_language_is_given_to_one_of_ours(text):
    assert written_in(text) in LANGUAGE_NAMES


@pytest.mark.parametrize("text", ["", " \n", "12 + 5 = 17", "…!?", "_", "১২ + ৫ = ১৭", "$18.00 (−5) ✓"])
def test_a_text_without_words_is_in_no_language(text):
    assert written_in(text) is None


@pytest.mark.parametrize("text", ["12 x 5 = 60", "½ + ½ = 1"])
def test_signs_that_unicode_counts_among_letters_or_numbers_are_no_words(text):
    assert written_in(text) is None
