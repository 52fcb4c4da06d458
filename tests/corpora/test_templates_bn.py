"""The word problems in Bengali: cases, classifiers, script, and the same people and things as in English."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations

import pytest

from xlnb.corpora import grammar, templates
from xlnb.corpora.templates import SPLITS, completion, few_shot_prefix, problems, prompt
from xlnb.evaluation.answers import extract_number

ROUNDS = 12
RAW = grammar.read("bn.yaml")
SHARED = grammar.read("frames.yaml")
NAMES, THINGS = RAW["names"], RAW["things"]


def listed(text):
    """Words with their dotted letters decomposed, as NFC has them."""
    return set(unicodedata.normalize("NFC", text).split())


def words(text):
    r"""Runs of Bengali letters and signs; \w leaves out the vowel signs."""
    return re.findall(r"[\u0980-\u09ff]+", text)


def some(split, language="bn"):
    return problems(language, split, ROUNDS * sum(f["split"] == split for f in SHARED["frames"]))


def things_of(split):
    """Ids of the things in each problem of `some`."""
    return [deal.things for deal in templates._deals(split, len(some(split)), 0)]


def texts():
    return [text for split in SPLITS for p in some(split) for text in (p.question, p.solution)]


each_split = pytest.mark.parametrize("split", SPLITS)

# --- the rules of the language, written apart from bn.yaml -----------------------------------------------

# The signs of a, i, i:, u, u:, e, o; the letters that are vowels of their own; the letters of consonants.
SIGNS, VOWELS = "\u09be\u09bf\u09c0\u09c1\u09c2\u09c7\u09cb", "\u0987\u0989\u098f\u0993"
CONSONANT = re.compile("[\u0995-\u09b9]\u09bc?$")


def genitive(noun):
    """-র after a vowel sign, -য়ের after a vowel of its own, -ের after a consonant."""
    if noun[-1] in SIGNS:
        return noun + "\u09b0"
    if noun[-1] in VOWELS:
        return noun + "\u09af\u09bc\u09c7\u09b0"
    assert CONSONANT.search(noun), noun
    return noun + "\u09c7\u09b0"


FLAT = {"plank", "mat", "chapati"}  # counted with খানা
WOMEN = listed("আমিনা সুমি রেহানা মিতা ফারজানা মরিয়ম আয়েশা হালিমা জেসমিন ফাতেমা সাবিনা নাসরিন জোহরা পলি সাঈদা অঞ্জনা ফরিদা মমতাজ রোকেয়া")
PEOPLE = listed("যাত্রী শিক্ষার্থী শিক্ষার্থীর শিক্ষার্থীকে দৌড়বিদ শ্রোতা")
# What is counted without a classifier, in the forms of the frames; some of it with one elsewhere.
EITHER = listed("সারি বাক্স থান")
UNITS = EITHER | listed("টাকা টাকায় টাকার লিটার লিটারের কেজি মিটার মিটারের কিলোমিটার কিলোমিটারের সেন্টিমিটার পৃষ্ঠা গুণ ট্রে ছড়া বস্তা")
UNITS |= listed("মিনিট মিনিটে মিনিটের ঘণ্টা ঘণ্টায় দিন দিনে দিনের")
# The nouns of the frames themselves that are counted with টি.
COUNTED = listed("বাক্স বই ডিম তাক থলে দল চেয়ার সারি সারিতে জানালা টিকিট বোতল কলা")
NUMBER_WORDS = listed(
    "এক একটি একটা একজন একই একসঙ্গে দুই দুটি দুটো দুজন তিন তিনটি চার চারটি পাঁচ পাঁচটি ছয় সাত আট নয় দশ এগারো বারো"
    " কুড়ি বিশ পঞ্চাশ শত শ একশ হাজার আধা অর্ধেক দেড় আড়াই ডজন হালি জোড়া দ্বিগুণ তিনগুণ প্রথম প্রথমে দ্বিতীয় তৃতীয়"
)
HONORED = listed("শিক্ষক মামা দাদি শ্রোতা")


@pytest.mark.parametrize(
    ("noun", "expected"), [("আম", "আমের"), ("খাতা", "খাতার"), ("গরু", "গরুর"), ("বই", "বইয়ের"), ("বলদ", "বলদের")]
)
def test_the_rule_itself(noun, expected):
    assert genitive(noun) == unicodedata.normalize("NFC", expected)


# --- rows ------------------------------------------------------------------------------------------------


def test_every_name_and_thing_has_a_row_and_no_other():
    assert list(NAMES) == [name for split in SPLITS for name in SHARED["names"][split]]
    assert set(THINGS) == {thing for split in SPLITS for thing in SHARED["things"][split]}


def test_names_differ_and_are_of_one_split_alone():
    bases = {name: row["base"] for name, row in NAMES.items()}
    assert len(set(bases.values())) == len(bases)
    # Nor is one the beginning of another, which would blur them where endings are written on.
    assert not [(a, b) for a, b in combinations(bases.values(), 2) if a.startswith(b) or b.startswith(a)]
    for split in SPLITS:
        own = {bases[name] for name in SHARED["names"][split]}
        others = set(bases.values()) - own
        used = {w for p in some(split) for w in words(p.question + p.solution)}
        assert not used & (others | {genitive(name) for name in others})
        assert own <= used | {name for name in own if genitive(name) in used}


def test_genders_are_those_of_the_english_names():
    english = grammar.read("en.yaml")["names"]
    for name, row in NAMES.items():
        assert row["class"] == english[name]["class"] == ("she" if row["base"] in WOMEN else "he"), name


def test_genitives_follow_the_last_letter():
    for row in NAMES.values():
        assert set(row) == {"base", "gen", "class"} and row["gen"] == genitive(row["base"])
    for row in THINGS.values():
        assert set(row) == {"many", "gen", "class"} and row["gen"] == genitive(row["many"])


def test_classifiers_by_class():
    assert {thing for thing, row in THINGS.items() if row["class"] == "khana"} == FLAT
    for name, classifier in [("ti", "টি"), ("khana", "খানা")]:
        forms = {"cl": classifier, "how_many": "কয়" + classifier, "each": "প্রতি" + classifier}
        assert RAW["classes"][name] == {form: unicodedata.normalize("NFC", text) for form, text in forms.items()}
    assert {row["class"] for row in THINGS.values()} == {"ti", "khana"}


# --- agreement in the problems ---------------------------------------------------------------------------


@each_split
def test_classifier_before_a_thing_is_its_own(split):
    checked = 0
    for p, ids in zip(some(split), things_of(split), strict=True):
        text = f"{p.question} {p.solution}"
        for thing in ids:
            noun = THINGS[thing]["many"]
            classifier = "খানা" if thing in FLAT else "টি"
            for before in re.findall(rf"(\S+) (?:{noun}|{genitive(noun)})(?![\u0980-\u09ff])", text):
                if re.match(r"\d|কয\u09bc|প্রতি", before):
                    assert before.endswith(classifier), (before, text)
                    checked += 1
        assert bool(re.search("(?<!কার)খানা", text)) <= bool(FLAT & set(ids)), text  # কারখানা is a workshop
        if ids and set(ids) <= FLAT:  # also where the noun itself is left out: "খেল", "করে"
            assert set(re.findall(r"\d+টি (\S+)", text)) <= COUNTED | listed("তাকে স্তূপ স্তূপে ঝুড়িতে ট্রের বাক্সে"), text
    assert checked > 2 * ROUNDS


@each_split
def test_numbers_are_followed_by_what_they_count(split):
    number = re.compile(
        r"(?<!= )(?<!\d)\d+(?! [-+*/=]|\d)([\u0980-\u09ff]*)(?: ([\u0980-\u09ff]+))?(?: ([\u0980-\u09ff]+))?"
    )
    for p in some(split):
        for text in (p.question, p.solution.rsplit(" উত্তর", 1)[0]):
            for glued, unit, counted in number.findall(text):
                assert glued in ("", "টি", "খানা"), text
                if glued:
                    assert unit not in PEOPLE | {"জন"} | UNITS - EITHER, text
                elif unit == "জন":
                    assert counted in PEOPLE, text
                else:
                    assert unit in UNITS, text


@each_split
def test_the_question_asks_with_the_word_that_fits(split):
    nouns = {row["many"]: row["class"] for row in THINGS.values()}
    kinds = set()
    for p in some(split):
        asked = re.search(r"(কয\u09bcটি|কয\u09bcখানা|কতজন|কত) (?:আস্ত |ভালো )?([\u0980-\u09ff]+)[^।]*\?$", p.question)
        assert asked, p.question
        word, noun = asked.groups()
        kinds.add(word)
        if word == "কত":
            assert noun in UNITS, p.question
        elif word == "কতজন":
            assert noun in PEOPLE, p.question
        elif word.endswith("খানা"):
            assert nouns[noun] == "khana", p.question
        else:
            assert nouns.get(noun) == "ti" or noun in COUNTED, p.question
    assert len(kinds) >= 2


def test_nouns_have_no_plural_ending_after_a_classifier():
    for text in texts():
        assert not re.search(r"(?:টি|খানা|জন) \S+(?:গুলি|গুলো|সমূহ)", text), text


def test_postpositions_follow_a_genitive():
    found = [
        pair
        for text in texts()
        for pair in re.findall(r"([\u0980-\u09ff]+) (চেয\u09bcে|কাছে|মধ্যে|জন্য|সঙ্গে)(?![\u0980-\u09ff])", text)
    ]
    assert {postposition for _, postposition in found} == listed("চেয়ে কাছে মধ্যে জন্য সঙ্গে")
    assert all(noun.endswith("র") for noun, _ in found)


def test_honorific_verbs_go_with_honored_people_alone():
    seen = set()
    for text in texts():
        spoken_of = HONORED & set(words(text))
        if "তিনি" in words(text):
            assert spoken_of == {"মামা"} or "মামার" in words(text), text
        for sentence in re.split("[।?]", text):
            honorific = [w for w in words(sentence) if re.search("(?:ছ|ল|ব|কর)েন$", w)]
            present = HONORED & set(words(sentence))
            assert not honorific or present or "তিনি" in words(sentence), sentence
            # And their verbs have no ordinary form: the last word of such a sentence.
            if present or "তিনি" in words(sentence):
                assert honorific, sentence
            seen |= present if honorific else set()
    assert seen == HONORED


# --- script ----------------------------------------------------------------------------------------------


def test_script_is_pure():
    for text in texts():
        # Bengali letters and signs, but neither Bengali digits nor the signs behind them; no Latin letters.
        assert re.fullmatch(r"[\u0980-\u09e5\u0964 0-9+*/=?,-]+", text), text
        assert text == unicodedata.normalize("NFC", text)
        assert not re.search(r"  | [?,।]|[?,।](?! |$)|,,", text), text


def test_no_number_is_given_in_words():
    for text in texts():
        assert not NUMBER_WORDS & set(words(text)), text


def test_sentences_end_with_a_danda_and_questions_with_a_question_mark():
    for split in SPLITS:
        for p in some(split):
            assert p.question.count("?") == 1 and p.question.endswith("?")
            assert "?" not in p.solution and p.solution.count("।") == 2 * len(p.expressions) + 1


def test_questions_are_about_as_long_as_the_english():
    for split in SPLITS:
        for bn, en in zip(some(split), some(split, "en"), strict=True):
            assert 10 <= len(bn.question.split()) <= len(en.question.split()) + 3, bn.question


# --- parallel --------------------------------------------------------------------------------------------


@each_split
def test_the_same_people_and_things_as_in_english(split):
    ids = things_of(split)
    forms = {}
    for name, row in NAMES.items():
        forms |= {row["base"]: name, row["gen"]: name, row["base"] + "কে": name}
    for bn, en, things in zip(some(split), some(split, "en"), ids, strict=True):
        mentioned = [forms[w] for w in words(bn.question) if w in forms]
        english = [w for w in re.findall(r"[A-Z]\w+", en.question) if w in NAMES]
        assert set(mentioned) == set(english), bn
        for thing in things:
            noun = THINGS[thing]["many"]
            assert {noun, genitive(noun), noun + "টি"} & set(words(bn.question)), bn


def test_final_sentence_and_labels():
    for split in SPLITS:
        for p in some(split):
            assert p.solution.endswith(f" উত্তর হল {p.answer}।")
            assert extract_number(p.solution, "bn") == p.answer
            assert prompt(p) == f"প্রশ্ন: {p.question}\nউত্তর:"
            assert completion(p) == " " + p.solution


def test_few_shot_prefix_is_bengali():
    for seed in range(4):
        blocks = few_shot_prefix("bn", 2, seed).split("\n\n")
        assert blocks.pop() == "" and len(blocks) == 2
        assert all(re.fullmatch(r"প্রশ্ন: .+\?\nউত্তর: .+ উত্তর হল \d+।", block) for block in blocks)


GOLDEN = (
    (
        "প্রশ্ন: অঞ্জনার হোটেলে জামালের হোটেলের চেয়ে 9টি গ্লাস কম আছে, আর জামালের হোটেলে 126টি গ্লাস "
        "আছে। অঞ্জনার হোটেলে কয়টি গ্লাস আছে?\n"
        "উত্তর: 126 - 9 = 117। অঞ্জনার হোটেলে 117টি গ্লাস আছে। উত্তর হল 117।"
    ),
    (
        "প্রশ্ন: মমতাজ স্কুলের অনুষ্ঠানে মোট 190খানা পরোটা 5টি ঝুড়িতে ভরে আনল। তারপর শিশুরা সেগুলির "
        "মধ্যে 2খানা খেল। এখন সেখানে কয়খানা পরোটা আছে?\n"
        "উত্তর: 190 - 2 = 188। এখন সেখানে 188খানা পরোটা আছে। উত্তর হল 188।"
    ),
    (
        "প্রশ্ন: ইউসুফ যে পাঠাগার দেখাশোনা করে, সেখানে 84টি গল্পের বই ও 6টি গানের বই আছে। এই সপ্তাহে "
        "শিক্ষার্থীরা এসব বইয়ের মধ্যে 7টি ধার নিল এবং পাঠাগারের জন্য 74টি নতুন বই কেনা হল। এরপর "
        "পাঠাগারে কয়টি বই হল?\n"
        "উত্তর: 84 + 6 = 90। শুরুতে পাঠাগারে 90টি বই ছিল। 90 - 7 = 83। ধার নেওয়ার পর 83টি বই রইল। 83 + "
        "74 = 157। নতুন বই মিলিয়ে 157টি বই হল। উত্তর হল 157।"
    ),
)


def test_golden():
    expected = tuple(unicodedata.normalize("NFC", text) for text in GOLDEN)
    assert tuple(prompt(p) + completion(p) for p in problems("bn", "scored", 3)) == expected
