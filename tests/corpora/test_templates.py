"""The word problems and the generic language set: parallel, disjoint, right, and agreeing."""

from __future__ import annotations

import doctest
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from xlnb.corpora import Example, fingerprint, grammar, templates
from xlnb.corpora.templates import (
    LANGUAGES,
    SPLITS,
    completion,
    difficulty,
    english_problems,
    few_shot_prefix,
    language_examples,
    math_examples,
    numbers_split,
    problems,
    prompt,
    twins,
)

ROUNDS = 12  # of every frame, in the tests that read problems
SHARED = grammar.read("frames.yaml")
WITH_TWINS = [frame for frame in SHARED["frames"] if "twin" in frame]
# A frame, and behind it its twin where it has one.
FRAMES = {
    split: [one["id"] for f in SHARED["frames"] if f["split"] == split for one in (f, f.get("twin")) if one]
    for split in SPLITS
}


def some(language, split, seed=0):
    return problems(language, split, ROUNDS * len(FRAMES[split]), seed)


def words(text):
    """The words of a text; `'s` is no word of its own nor part of one, the apostrophe of `ng'ombe` is."""
    return set(re.findall(r"\w+(?:'(?!s\b)\w+)?", text))


def in_another_process(code, hashseed="0"):
    """What a fresh interpreter prints."""
    path = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONHASHSEED": hashseed, "PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def listed(text):
    return set(text.split())


EVERY = [(language, split) for language in LANGUAGES for split in SPLITS]
every = pytest.mark.parametrize(("language", "split"), EVERY)
each_split = pytest.mark.parametrize("split", SPLITS)


# --- what there is ---------------------------------------------------------------------------------------


def test_languages_are_found_with_english_first():
    assert LANGUAGES[0] == "en" and "sw" in LANGUAGES


AMOUNTS = {"train": 1000, "few-shot": 200, "development": 1000, "scored": 1000}  # few-shot has four frames


def test_frames_a_split():
    assert {split: len(frames) for split, frames in FRAMES.items()} == {
        "train": 50,
        "few-shot": 4,
        "development": 24,
        "scored": 48,
    }
    twins = [frame["twin"]["id"] for frame in WITH_TWINS]
    assert len(set(twins)) == len(twins) and {frame["split"] for frame in WITH_TWINS} == {"development", "scored"}


@each_split
def test_each_split_has_all_operations_one_and_two_steps(split):
    counts = difficulty(problems("sw", split, len(FRAMES[split])))
    assert all(counts["operations"][sign] for sign in "+-*/")
    assert {1, 2} <= set(counts["steps"])
    assert counts["problems"] == {"n": len(FRAMES[split]), "frames": len(FRAMES[split])}
    assert sum(counts["digits"].values()) == len(FRAMES[split])


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_files_have_the_frames_in_the_same_order(language):
    assert list(grammar.read(f"{language}.yaml")["frames"]) == list(itertools.chain(*FRAMES.values()))


def test_enough_names_and_things():
    shared = grammar.read("frames.yaml")
    for split, names, things in [
        ("train", 10, 8),
        ("scored", 10, 8),
        ("few-shot", 4, 4),
        ("development", 4, 4),
    ]:
        assert len(shared["names"][split]) >= names
        slots = [slot for frame in templates._frames(split) for slot in frame.things]
        used = {thing for _, allowed in slots for thing in allowed}
        assert len(used) >= things
        assert used == set(shared["things"][split]), "a thing that no frame can take"


# --- parallel, stable ------------------------------------------------------------------------------------


@each_split
@pytest.mark.parametrize("seed", [0, 5])
def test_parallel_over_languages(split, seed):
    same = ("id", "frame", "split", "answer", "expressions", "numbers")
    columns = []
    for language in LANGUAGES:
        columns.append([[getattr(p, name) for name in same] for p in some(language, split, seed)])
    assert all(column == columns[0] for column in columns)


@each_split
def test_the_same_names_and_things_in_both_languages(split):
    english, swahili = grammar.read("en.yaml")["things"], grammar.read("sw.yaml")["things"]
    shared = grammar.read("frames.yaml")
    names = shared["names"][split]

    for en, sw in zip(some("en", split), some("sw", split), strict=True):
        sw_words = words(sw.question.lower())
        # With capitals: "zawadi" is a present, "Zawadi" a person.
        assert set(names) & words(en.question) == set(names) & words(sw.question)
        for thing in shared["things"][split]:
            if f" {english[thing]['many']}" in en.question and " " not in english[thing]["many"]:
                assert swahili[thing]["many"] in sw_words or swahili[thing]["one"] in sw_words, (en, sw)


@every
def test_prefix_stable(language, split):
    many = some(language, split)
    for k in (0, 1, 3, len(FRAMES[split]) + 1):
        assert problems(language, split, k) == many[:k]


def test_seeds_differ():
    assert {p.question for p in some("sw", "scored", 0)} != {p.question for p in some("sw", "scored", 1)}


def test_the_same_in_another_process():
    code = (
        "import json; from xlnb.corpora import fingerprint; from xlnb.corpora import templates as t;"
        "print(json.dumps([fingerprint(t.math_examples(l, s, 40, 3)) for l in t.LANGUAGES for s in t.SPLITS]"
        " + [fingerprint(t.language_examples('sw', 100, 3)), t.few_shot_prefix('sw', 3, 3)]))"
    )
    here = [fingerprint(math_examples(language, split, 40, 3)) for language, split in EVERY]
    here += [fingerprint(language_examples("sw", 100, 3)), few_shot_prefix("sw", 3, 3)]
    for hashseed in ("1", "4242"):
        assert json.loads(in_another_process(code, hashseed)) == here


@each_split
def test_frames_in_balanced_shuffled_rotation(split):
    k = len(FRAMES[split])
    order = [p.frame for p in problems("en", split, ROUNDS * k)]
    rounds = [order[i : i + k] for i in range(0, len(order), k)]
    assert all(sorted(each) == sorted(FRAMES[split]) for each in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert max(Counter(p.frame for p in problems("en", split, k + 1)).values()) <= 2


@every
def test_no_question_twice(language, split):
    questions = [p.question for p in some(language, split)]
    assert len(set(questions)) == len(questions)


def test_ids():
    assert [p.id for p in problems("sw", "scored", 2)] == ["scored-000000", "scored-000001"]


# --- splits apart ----------------------------------------------------------------------------------------


def test_names_and_things_are_in_one_split_alone():
    shared = grammar.read("frames.yaml")
    for kind in ("names", "things"):
        for one, other in itertools.combinations(SPLITS, 2):
            assert not set(shared[kind][one]) & set(shared[kind][other])
    frames = list(itertools.chain(*FRAMES.values()))
    assert len(set(frames)) == len(frames)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_for_things_differ(language):
    words = [forms["many"] for forms in grammar.read(f"{language}.yaml")["things"].values()]
    assert len(set(words)) == len(words)


def test_number_tuples_are_in_one_split_alone():
    tuples = {split: {tuple(sorted(p.numbers)) for p in problems("en", split, AMOUNTS[split])} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not tuples[one] & tuples[other]
    for split in SPLITS:
        assert all(numbers_split(numbers) == split for numbers in tuples[split])


def test_the_documented_hash_of_numbers():
    share = int.from_bytes(hashlib.sha256(b"5,12").digest()[:4], "big") % 100
    bounds = {"train": 50, "few-shot": 60, "development": 75, "scored": 100}
    expected = next(split for split, bound in bounds.items() if share < bound)
    assert numbers_split((12, 5)) == numbers_split((5, 12)) == expected


# --- right -----------------------------------------------------------------------------------------------

SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@every
def test_solutions_are_right_and_use_the_numbers_of_the_problem(language, split):
    for p in some(language, split):
        assert tuple(map(int, re.findall(r"\d+", p.question))) == p.numbers, p  # in the order of frames.yaml
        known = list(p.numbers)
        equations = EQUATION.findall(p.solution)
        assert tuple(f"{a} {sign} {b}" for a, sign, b, _ in equations) == p.expressions
        for a, sign, b, result in equations:
            assert int(a) in known and int(b) in known and a != b, p
            assert SIGNS[sign](int(a), int(b)) == int(result) >= 2, p
            known.append(int(result))
        assert known[-1] == p.answer == int(re.findall(r"\d+", p.solution)[-1])
        assert all(2 <= result <= 1200 for result in known[len(p.numbers) :])
        assert len(set(known)) == len(known), p
        # Nothing in the solution but the equations, their results again in words, and the answer.
        assert len(re.findall(r"\d+", p.solution)) == 4 * len(equations) + 1


@every
def test_a_step_begins_with_its_equation(language, split):
    sentence = grammar.read(f"{language}.yaml")["final"]
    stop = sentence[-1]
    for p in some(language, split):
        start, *parts = re.split(r"(\d+ [-+*/] \d+ = \d+)", p.solution.removesuffix(sentence.format(answer=p.answer)))
        equations, tellings = parts[::2], parts[1::2]
        assert start == "" and [equation.split(" = ")[0] for equation in equations] == list(p.expressions)
        for equation, told in zip(equations, tellings, strict=True):
            # No word of a step stands before its equation; behind it stands a sentence with the result and no other number.
            assert told.startswith(f"{stop} ") and told.endswith(f"{stop} ") and told.count(stop) == 2, p
            assert re.findall(r"\d+", told) == [equation.split()[-1]] and not re.search(r"[=+*/]| - ", told), p


@every
def test_text_is_whole(language, split):
    for p in some(language, split):
        for text in (p.question, p.solution):
            assert not re.search(r"[{}%]|  |\n|\bNone\b|\s[.,?;]|\.\.", text), text
            assert text == text.strip() and not text[0].islower()
        assert p.question.endswith("?") and p.solution.endswith((".", "।"))
        if language in ("en", "sw"):
            assert (p.question + p.solution).isascii()


@each_split
def test_english_questions_are_short(split):
    lengths = [len(p.question.split()) for p in some("en", split)]
    assert min(lengths) >= 15 and max(lengths) <= 55


def test_final_sentences_and_labels():
    en, sw = problems("en", "train", 1)[0], problems("sw", "train", 1)[0]
    assert en.solution.endswith(f" The answer is {en.answer}.")
    assert sw.solution.endswith(f" Jibu ni {sw.answer}.")
    assert prompt(en) == f"Question: {en.question}\nAnswer:"
    assert prompt(sw) == f"Swali: {sw.question}\nJibu:"
    assert completion(sw) == " " + sw.solution
    assert math_examples("sw", "train", 1) == (Example(prompt(sw), completion(sw), sw.frame),)


def test_few_shot_prefix():
    for seed in range(12):
        for shots in (1, 2, 3, 4):
            text = few_shot_prefix("sw", shots, seed)
            blocks = text.split("\n\n")
            assert blocks.pop() == "" and len(blocks) == shots
            assert all(re.fullmatch(r"Swali: .+\nJibu: .+ Jibu ni \d+\.", block) for block in blocks)
            assert shots == 1 or any(len(EQUATION.findall(block)) > 1 for block in blocks)
            chosen = [p for p in problems("sw", "few-shot", 4, seed) if p.question in text]
            assert len({p.frame for p in chosen}) == shots
    assert few_shot_prefix("en", 0) == ""
    assert few_shot_prefix("en").count("Question: ") == 2


GOLDEN = {
    "en": (
        (
            "Question: Achieng's hotel has 9 glasses fewer than Jabali's hotel, and Jabali's hotel has 126 "
            "glasses. How many glasses does Achieng's hotel have?\n"
            "Answer: 126 - 9 = 117. Achieng's hotel has 117 glasses. The answer is 117."
        ),
        (
            "Question: Mwajuma brought 190 chapatis to the school party, packed in 5 baskets. Then the "
            "children ate 2 of these chapatis. How many chapatis were there after that?\n"
            "Answer: 190 - 2 = 188. After that there were 188 chapatis. The answer is 188."
        ),
        (
            "Question: Yusufu looks after a library with 84 story books and 6 song books. This week pupils "
            "borrow 7 of these books, and the library buys 74 new books. How many books are there in the "
            "library then?\n"
            "Answer: 84 + 6 = 90. At first the library had 90 books. 90 - 7 = 83. After the borrowing 83 "
            "books remain. 83 + 74 = 157. With the new ones there are 157 books. The answer is 157."
        ),
    ),
    "sw": (
        (
            "Swali: Idadi ya glasi katika hoteli ya Achieng ni pungufu kwa 9 kuliko idadi iliyopo katika "
            "hoteli ya Jabali, na hoteli ya Jabali ina glasi 126. Hoteli ya Achieng ina glasi ngapi?\n"
            "Jibu: 126 - 9 = 117. Hoteli ya Achieng ina glasi 117. Jibu ni 117."
        ),
        (
            "Swali: Mwajuma alileta kwenye sherehe ya shule chapati 190 zilizopakiwa katika vikapu 5. Kisha "
            "watoto walikula chapati 2. Baada ya hapo kulikuwa na chapati ngapi?\n"
            "Jibu: 190 - 2 = 188. Baada ya hapo kulikuwa na chapati 188. Jibu ni 188."
        ),
        (
            "Swali: Yusufu anasimamia maktaba yenye vitabu 84 vya hadithi na vitabu 6 vya nyimbo. Wiki hii "
            "wanafunzi wanaazima vitabu 7 kati ya hivyo, na maktaba inanunua vitabu vipya 74. Baada ya hapo "
            "kuna vitabu vingapi katika maktaba?\n"
            "Jibu: 84 + 6 = 90. Mwanzoni maktaba ilikuwa na vitabu 90. 90 - 7 = 83. Baada ya kuazimwa, "
            "vinabaki vitabu 83. 83 + 74 = 157. Pamoja na vitabu vipya kuna vitabu 157. Jibu ni 157."
        ),
    ),
}


@pytest.mark.parametrize("language", GOLDEN)
def test_golden(language):
    assert tuple(prompt(p) + completion(p) for p in problems(language, "scored", 3)) == GOLDEN[language]


def test_speed():
    start = time.perf_counter()
    problems("sw", "train", 100_000)
    assert time.perf_counter() - start < 30  # about 4 s on a quiet machine


# --- Swahili agreement -----------------------------------------------------------------------------------

# Written apart from sw.yaml, from the noun classes: -ngapi, -ote, -ingine, -pya, -a, subject, object and
# relative of the plural, -moja of the singular.
FORMS = ("how_many", "all", "other", "new", "of", "s", "o", "rel", "single")
AGREEMENT = {
    "ki-vi": "vingapi vyote vingine vipya vya vi vi vyo kimoja",
    "ji-ma": "mangapi yote mengine mapya ya ya ya yo moja",
    "n-n": "ngapi zote nyingine mpya za zi zi zo moja",
    "m-mi": "mingapi yote mingine mipya ya i i yo mmoja",
    "u-n": "ngapi zote nyingine mpya za zi zi zo mmoja",
    "u-ma": "mangapi yote mengine mapya ya ya ya yo mmoja",
    "n-animal": "wangapi wote wengine wapya wa wa wa o mmoja",
}
# What a singular and a plural of a class begin with.
SHAPES = {
    "ki-vi": (r"ki|ch", r"vi|vy"),
    "ji-ma": (r"", r"ma"),
    "m-mi": (r"m", r"mi"),
    "u-n": (r"u", r"m|n"),
    "u-ma": (r"u", r"ma"),
}
# The nouns of the frames themselves.
FIXED = {
    "ngapi": "shilingi kilomita timu lita sentimita dakika kilo kurasa siku mita tiketi ndizi",
    "wangapi": "abiria",
    "mangapi": "masanduku mazima mayai madirisha magunia",
    "vingapi": "vitabu viti",
    "mingapi": "mistari mifuko",
}


def test_swahili_concords_by_class():
    raw = grammar.read("sw.yaml")
    assert set(raw["classes"]) == set(AGREEMENT)
    for name, text in AGREEMENT.items():
        assert raw["classes"][name] == dict(zip(FORMS, text.split(), strict=True))


def test_swahili_nouns_have_the_shape_of_their_class():
    for thing, forms in grammar.read("sw.yaml")["things"].items():
        assert set(forms) == {"one", "many", "class"}, thing
        if forms["class"] in ("n-n", "n-animal"):
            assert forms["one"] == forms["many"]
        else:
            one, many = SHAPES[forms["class"]]
            assert re.match(one, forms["one"]) and re.match(many, forms["many"]), thing
            assert forms["one"] != forms["many"]


@each_split
def test_swahili_how_many_agrees_with_its_noun(split):
    expected = {noun: {concord} for concord, nouns in FIXED.items() for noun in nouns.split()}
    for forms in grammar.read("sw.yaml")["things"].values():
        expected.setdefault(forms["many"], set()).add(AGREEMENT[forms["class"]].split()[0])
    for p in some("sw", split):
        asked = re.findall(r"([\w']+) (\w*ngapi)\b", p.question)
        assert asked, p.question
        for noun, concord in asked:
            assert expected[noun.lower()] == {concord}, p.question


def test_swahili_quantifiers_agree_with_their_noun():
    things = {forms["many"]: forms["class"] for forms in grammar.read("sw.yaml")["things"].values()}
    checked = 0
    for split in SPLITS:
        for p in some("sw", split):
            for noun, word in re.findall(r"([\w']+) (\wote|\w\wote)\b", p.question + " " + p.solution):
                if noun in things:
                    assert word == AGREEMENT[things[noun]].split()[1], p
                    checked += 1
    assert checked > 50


# --- the generic set -------------------------------------------------------------------------------------

GENERIC = language_examples("sw", 4000)
_STEMS = listed("wili tatu nne tano nane")
_PREFIXES = ("", "wa", "vi", "ma", "mi", "m", "ki")
NUMBER_WORDS = {prefix + stem for prefix in _PREFIXES for stem in _STEMS} - {"mwili"}  # a body
NUMBER_WORDS |= listed("moja mmoja kimoja limoja mbili pili sita saba tisa kumi ishirini hamsini mia elfu")
NUMBER_WORDS |= listed("nusu robo theluthi jumla hesabu idadi gawanya zidisha jumlisha shilingi bei zaidi")
NUMBER_WORDS |= listed("jumatatu jumanne jumatano ngapi wangapi mangapi vingapi mingapi")
NUMBER_WORDS |= listed("one two three four five six seven eight nine ten hundred half more less fewer many")


def test_generic_kinds():
    counts = Counter(example.kind for example in GENERIC)
    assert len(counts) >= 12
    assert max(counts.values()) - min(counts.values()) <= 1
    assert counts["translate-to-english"] / len(GENERIC) <= 0.15


def test_generic_has_no_numbers():
    for example in GENERIC:
        text = f"{example.prompt}\n{example.completion}"
        assert not any(ch.isdigit() for ch in text), text
        assert not re.search(r"[=+*/%{}]", text), text
        assert not NUMBER_WORDS & words(text.lower()), text


def test_generic_format_stays_apart_from_the_word_problems():
    files = [grammar.read(f"{language}.yaml") for language in LANGUAGES]
    labels = [label for file in files for label in file["labels"].values()]
    for example in GENERIC:
        text = f"{example.prompt}{example.completion}".lower()
        assert not any(f"{label.lower()}:" in text for label in labels)
        assert "jibu ni" not in text and "the answer is" not in text
        assert example.prompt.startswith("### Maagizo\n") and example.prompt.endswith("\n\n### Maandishi\n")


def test_generic_text_is_whole():
    for example in GENERIC:
        assert "  " not in example.prompt + example.completion
        assert not re.search(r"\s[.,?;]|[.]{2}|[?!][.]", example.prompt + example.completion), example
        assert example.completion == example.completion.strip() and "\n" not in example.completion
        assert example.completion[0].isupper() and example.completion[-1] in ".?!"


def test_generic_completions_are_swahili_of_good_length():
    english = listed("the and of is was with in at to")
    share = sum(bool(english & words(e.completion.lower())) for e in GENERIC) / len(GENERIC)
    assert share <= 0.15
    lengths = [len(example.completion.split()) for example in GENERIC]
    assert sum(8 <= n <= 45 for n in lengths) / len(lengths) > 0.95


def test_generic_is_distinct_prefix_stable_and_without_scored_names():
    assert len({example.prompt for example in GENERIC}) == len(GENERIC)
    assert language_examples("sw", 37) == GENERIC[:37]
    scored = set(grammar.read("frames.yaml")["names"]["scored"])
    assert not any(scored & words(e.prompt + e.completion) for e in GENERIC)


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: problems("xx", "train", 1), ["'xx'", ", ".join(LANGUAGES)]),
        (lambda: problems("sw", "test", 1), ["'test'", "train, few-shot, development, scored"]),
        (lambda: problems("sw", "train", -1), ["n ", "-1"]),
        (lambda: problems("sw", "train", 1.5), ["1.5"]),
        (lambda: problems("sw", "train", True), ["True"]),
        (lambda: few_shot_prefix("sw", 5), ["5", "4 few-shot frames"]),
        (lambda: few_shot_prefix("xx", 0), ["'xx'"]),
        (lambda: language_examples("en", 1), ["'en'", "sw"]),
        (lambda: language_examples("sw", -1), ["-1"]),
        (lambda: twins("sw", "train", 1), ["split with twins", "'train'", "development, scored"]),
        (lambda: twins("xx", "scored", 1), ["'xx'"]),
        (lambda: twins("sw", "scored", -1), ["-1"]),
        (lambda: english_problems(-1), ["-1"]),
    ],
)
def test_bad_requests_say_what_is_allowed(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), error.value


def test_too_many_says_how_many_there_are():
    with pytest.raises(ValueError, match=r"at most (\d+) different problems") as error:
        problems("sw", "few-shot", 50_000)
    most = int(re.search(r"at most (\d+)", str(error.value))[1])
    assert most == templates._at_most("few-shot") < 50_000
    with pytest.raises(ValueError, match="at most"):
        language_examples("sw", 20_000)


def test_a_frame_without_new_problems_drops_out_and_the_others_go_on():
    many = problems("en", "few-shot", 2000)
    counts = Counter(p.frame for p in many)
    capacities = {frame.id: templates._capacity(frame) for frame in templates._frames("few-shot")}
    most = max(counts.values())
    assert len({(p.frame, p.question) for p in many}) == 2000
    dropped = [frame for frame, count in counts.items() if count < most - 1]
    assert dropped and all(0.95 * capacities[frame] < counts[frame] <= capacities[frame] for frame in dropped)
    # Nothing changes before: what a split gave in balanced rotation, it gives still.
    assert [p.frame for p in many[:12]] == [p.frame for p in problems("en", "few-shot", 12)]


@pytest.mark.parametrize("text", ["__import__('os')", "a ** b", "a+b", "a % b", "a + b + c", "a"])
def test_steps_are_restricted(text):
    with pytest.raises(ValueError, match=r"two names with \+ - \* or / between"):
        templates._step(text, "s1")


@pytest.mark.parametrize("sizes", [("big", "big"), ("small", "any"), ("big", "small", "middle"), ("big",) * 5])
def test_sizes_of_numbers_are_restricted(sizes):
    entry = {"id": "x", "split": "train", "numbers": dict(zip("abcde", sizes, strict=False)), "steps": ["a + b"]}
    with pytest.raises(ValueError, match=r"frame x in frames\.yaml: its numbers are"):
        templates._frame(entry, {"train": {}})


def test_grammar_errors():
    with pytest.raises(ValueError, match="braces"):
        grammar.compile_template("{p has")
    with pytest.raises(ValueError, match="ki-vi"):
        grammar.inflect({"class": "x"}, {"ki-vi": {}})
    with pytest.raises(ValueError, match="quotes"):
        grammar.inflect({"many": True}, {})


def test_a_language_file_that_lacks_a_form_is_refused():
    frame = next(f for f in templates._frames("train") if f.id == "picked-in-a-day")
    language = templates._language("sw")
    poor = language._replace(things=language.things | {"mango": {"many": "maembe"}})
    message = r"sw.yaml, frame picked-in-a-day: nothing to put in \{t.other\}.*mango"
    with pytest.raises(ValueError, match=message):
        templates._check_wording("sw", frame, poor, ("Amina",))


def test_fingerprint():
    one, other = Example("a", "bc"), Example("ab", "c")
    assert fingerprint([one]) != fingerprint([other])
    assert fingerprint([one, other]) != fingerprint([other, one])
    assert fingerprint([one]) == fingerprint([Example("a", "bc", "kind")])
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint([]))


@pytest.mark.parametrize("name", ["xlnb.corpora", "xlnb.corpora.grammar", "xlnb.corpora.templates"])
def test_doctests(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted and not result.failed


def test_import_is_light():
    # Only the corpora are looked at here: the package itself is imported ahead, whatever it brings.
    code = (
        "import sys, xlnb; before = set(sys.modules); import xlnb.corpora.templates;"
        "print(sorted({'yaml', 'torch', 'numpy', 'pandas'} & (set(sys.modules) - before)))"
    )
    assert in_another_process(code).strip() == "[]"
