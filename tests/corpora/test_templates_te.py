"""The word problems in Telugu: cases, plurals, verbs, script, and the same people and things as in English."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations

import pytest

from xlnb.corpora import grammar, templates
from xlnb.corpora.templates import SPLITS, completion, few_shot_prefix, problems, prompt
from xlnb.evaluation.answers import extract_number

ROUNDS = 12
RAW = grammar.read("te.yaml")
SHARED = grammar.read("frames.yaml")
NAMES, THINGS = RAW["names"], RAW["things"]
LETTER = "[\u0c00-\u0c7f]"


def words(text):
    r"""Runs of Telugu letters and signs; \w leaves out the vowel signs."""
    return re.findall(LETTER + "+", text)


def listed(text):
    return set(text.split())


def some(split, language="te"):
    return problems(language, split, ROUNDS * sum(f["split"] == split for f in SHARED["frames"]))


def dealt(split):
    """Each problem of `some` with the Telugu names of its people, in the order of their slots, and its things."""
    deals = templates._deals(split, len(some(split)), 0)
    return [(p, [NAMES[n]["base"] for n in d.people], d.things) for p, d in zip(some(split), deals, strict=True)]


def texts():
    return [text for split in SPLITS for p in some(split) for text in (p.question, p.solution)]


each_split = pytest.mark.parametrize("split", SPLITS)

# --- the rules of the language, written apart from te.yaml -----------------------------------------------

FRONT = "\u0c3f\u0c40"  # the signs of i and i:
WOMEN = listed("లక్ష్మి సీత రాధ పద్మ గీత ఫాతిమా ఆశ మాధవి స్వాతి కమల సునీత వనజ అరుణ లలిత షకీలా అనిత రేణుక మంజుల రుక్మిణి")
MEN_AT_WORK = listed("ఉపాధ్యాయుడు దుకాణదారుడు మామయ్య వ్యాపారి")
IN_THE_FEMININE = listed("ఆమె నాయనమ్మ లారీ యంత్రం పంపు కార్యక్రమం అది")  # with names of women; things have that form, too
PEOPLE = listed("ప్రయాణికులు విద్యార్థులు విద్యార్థులకు శ్రోతలు చొప్పున")  # the last stands for the noun: "5 మంది చొప్పున"
# Verbs in -ంది whose subject is a thing that no list has.
OF_THINGS = listed("పడుతుంది పెరిగింది మిగిలింది పట్టింది")
# Verbs in -ారు: what several people do.
OF_SEVERAL = listed("ఉన్నారు ఎక్కారు ఇస్తారు తీసుకెళ్ళారు తిన్నారు పేర్చారు తెరిచారు చేస్తారు కొన్నారు చేశారు ఎక్కించారు")
# What is counted in the frames themselves, in every form that follows a number there.
UNITS = listed("రూపాయలు రూపాయల రూపాయలకు రూపాయలతో కిలోమీటర్లు కిలోమీటర్ల సెంటీమీటర్లు మీటర్లు మీటర్ల మీటర్లను కిలోలు కిలోల")
UNITS |= listed("లీటర్లు లీటర్ల నిమిషాలు నిమిషాల నిమిషాల్లో గంటలు గంటల గంటల్లో రోజులు రోజుల రోజుల్లో రెట్లు పేజీలు బట్ట")
UNITS |= listed("పెట్టెలు పెట్టెలను పెట్టెల పెట్టెల్లో బుట్టలు బుట్టల్లో బస్తాలు బస్తాల సంచులు సంచుల్లో డబ్బాలు సీసాలు సీసాలను అరలు ట్రేల")
UNITS |= listed("ట్రేలలోని వరుసల్లో పుస్తకాలు బొమ్మలు గుడ్లు గుడ్లను కుర్చీలు కుర్చీలను కిటికీలు టిక్కెట్లు సబ్బులు నివేదికలు మంచాల")
UNITS |= listed("బల్లలు జట్లు కుప్పలుగా పాఠశాలలకు లారీల్లో అరటి బియ్యం కథల పాటల తరగతి")
UNITS |= listed("కొత్త ఖాళీ సమాన తిన్నని పగలని")  # adjectives before these
# Bare only where the noun has just been named.
BARE = listed("ఉన్నాయి ఉండేవి తెచ్చింది తెచ్చాడు కొంది కొన్నాడు ఎక్కువ తక్కువ చొప్పున") | {""}
NUMBER_WORDS = listed(
    "ఒక ఒకటి ఒకే ఒక్క ఒక్కో ఒక్కొక్క ఒక్కొక్కరికి ఒకరు ఒకసారి రెండు రెండో రెండవ ఇద్దరు ఇద్దరూ ఇద్దరి మూడు మూడో ముగ్గురు నాలుగు నలుగురు"
    " ఐదు అయిదు ఆరు ఏడు ఎనిమిది తొమ్మిది పది పదకొండు పన్నెండు ఇరవై ముప్పై యాభై వంద నూరు వెయ్యి సగం డజను జత రెట్టింపు మొదటి"
)


def plural(noun):
    """The plural of a noun, with its sandhi."""
    for ending, sandhi in [
        ("ం", "ాలు"),  # పుస్తకం, పుస్తకాలు
        ("ట్టు", "ట్లు"),  # చెట్టు, చెట్లు
        ("ండు", "ండ్లు"),  # పండు, పండ్లు
        ("రాయి", "రాళ్ళు"),
        ("యి", "యిలు"),  # మిఠాయి, మిఠాయిలు
        ("ోడి", "ోళ్ళు"),  # కోడి, కోళ్ళు
        ("డు", "ళ్ళు"),  # తాడు, తాళ్ళు
        ("లు", "ళ్ళు"),  # స్కేలు, స్కేళ్ళు
        ("ి", "ులు"),  # కత్తి, కత్తులు
    ]:
        if noun.endswith(ending):
            return noun.removesuffix(ending) + sandhi
    return noun + "లు"


def dative(name):
    return name + ("కి" if name[-1] in FRONT else "కు")


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("ఆవు", "ఆవులు"), ("చెట్టు", "చెట్లు"), ("పండు", "పండ్లు"), ("ఎద్దు", "ఎద్దులు"), ("గుర్రం", "గుర్రాలు")],
)
def test_the_rule_itself(noun, expected):
    assert plural(noun) == expected


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
        assert not used & (others | {dative(name) for name in others} | {name + "తో" for name in others})
        assert own <= used


def test_classes_of_names_have_the_english_gender_and_the_vowel_of_the_name():
    english = grammar.read("en.yaml")["names"]
    for name, row in NAMES.items():
        assert set(row) == {"base", "class"}
        gender, vowel = row["class"].split("-")
        assert (gender == "woman") == (row["base"] in WOMEN) == (english[name]["class"] == "she"), name
        assert (vowel == "i") == (row["base"][-1] in FRONT), name


def test_endings_of_the_classes():
    verbs = {"past": "చ", "did": "చే", "had": "కొ", "will": "స్త", "now": "స్త"}
    for name, expected in [
        ("man", "చాడు చేశాడు కొన్నాడు స్తాడు స్తున్నాడు"),
        ("woman", "చింది చేసింది కొంది స్తుంది స్తోంది"),
    ]:
        for vowel, case in [("a", "కు"), ("i", "కి")]:
            forms = RAW["classes"][f"{name}-{vowel}"]
            assert [stem + forms[verb] for verb, stem in verbs.items()] == expected.split()
            assert forms["to"] == case
            assert forms["pro_to"] == ("అతనికి" if name == "man" else "ఆమెకు")
    expected = {*verbs, *listed("to pro pro_to friend pupil child head")}
    assert set(RAW["classes"]) == listed("man-a man-i woman-a woman-i")
    assert all(set(row) == expected for row in RAW["classes"].values())


def test_plurals_and_their_stems():
    for thing, row in THINGS.items():
        assert set(row) == {"one", "many", "of"}, thing
        assert row["many"] == plural(row["one"]), thing
        assert row["many"].endswith("ు") and row["of"] == row["many"][:-1], thing


# --- agreement in the problems ---------------------------------------------------------------------------


def subject(before, first):
    """The last bare name, pronoun or man at work before a verb that no postposition follows; else the first person."""
    found = first
    for word, following in re.findall(rf"({LETTER}+)(?= ?({LETTER}*))", before):
        if word in {"అతను"} | MEN_AT_WORK | IN_THE_FEMININE | {row["base"] for row in NAMES.values()}:
            found = word if following not in ("కంటే", "దగ్గర") else found
    return found


@each_split
def test_verbs_agree_with_the_gender_of_their_subject(split):
    seen = set()
    for p, people, _ in dealt(split):
        for sentence in re.split("[.?]", f"{p.question} {p.solution}"):
            for match in re.finditer(rf"{LETTER}+(?:ాడు|ంది)(?!{LETTER})", sentence):
                verb = match[0]
                if verb in OF_THINGS | {"మంది", "తాడు"} or (verb == "ఉంది" and "కూడా" not in sentence):
                    continue
                who = subject(sentence[: match.start()], people[0])
                woman = who in WOMEN | IN_THE_FEMININE
                assert verb.endswith("ంది") == woman, (who, verb, sentence)
                seen.add(woman)
    assert seen == {True, False}


@each_split
def test_pronouns_and_words_for_people_agree_with_the_person(split):
    checked = 0
    for p, people, _ in dealt(split):
        text = f"{p.question} {p.solution}"
        pronouns = {"అతను": False, "అతనికి": False, "ఆమె": True, "ఆమెకు": True}
        for pronoun in set(words(text)) & set(pronouns):
            # Where an uncle comes in, the pronoun is his.
            assert pronouns[pronoun] == (people[0] in WOMEN and "మామయ్య" not in text), text
            checked += 1
        for word, name in re.findall(rf"(విద్యార్థి|విద్యార్థిని) ({LETTER}+)", text):
            who = next(base for base in people if name.startswith(base))
            assert (word == "విద్యార్థిని") == (who in WOMEN), text
            checked += 1
    assert checked >= ROUNDS


def test_datives_of_names():
    used = set()
    for split in SPLITS:
        for p, people, _ in dealt(split):
            for name in people:
                found = {name + "కు", name + "కి"} & set(words(p.question + p.solution))
                assert found <= {dative(name)}, p
                used |= {word[-2:] for word in found}
    assert used == {"కు", "కి"}


@each_split
def test_numbers_are_followed_by_what_they_count(split):
    for p, _, things in dealt(split):
        rows = [THINGS[thing] for thing in things]
        forms = {form for row in rows for form in (row["many"], *(row["of"] + end for end in ("", "ను", "కు", "తో")))}
        for text in (p.question, p.solution.rsplit(" సమాధానం", 1)[0]):
            for rest in re.findall(
                r"\d+(?! [-+*/=]|\d)(?=([^?.]*))", text
            ):  # every number, also the second of a sentence
                assert not re.match(LETTER, rest), text
                counted = [*words(rest), ""]
                if counted[0] == "మంది":
                    assert counted[1] in PEOPLE, text
                elif not re.match(rf" (?:మంచి )?(?:{'|'.join(forms) or 'రూపాయలు'})(?!{LETTER})", rest):
                    assert counted[0] in UNITS | BARE, (counted[0], text)


@each_split
def test_things_are_plural_after_numbers_and_singular_after_each(split):
    checked = 0
    for p, _, things in dealt(split):
        text = f"{p.question} {p.solution}"
        for thing in things:
            one, of = THINGS[thing]["one"], THINGS[thing]["of"]
            assert not re.search(rf"(?:\d|ఎన్ని|అన్ని)(?: మంచి)? {one}(?!{LETTER})", text), text
            assert not re.search(rf"ప్రతి {of}", text), text
            checked += len(re.findall(rf"(?:\d|ఎన్ని)(?: మంచి)? {of}", text))
    assert checked > ROUNDS


def test_animals_as_objects_have_the_accusative():
    kinds = listed("goat cow sheep chicken duck rabbit pigeon camel donkey horse ox")
    animals = [row for thing, row in THINGS.items() if thing in kinds]
    checked = 0
    for text in texts():
        for row in animals:
            for form in re.findall(rf"({row['of']}{LETTER}*) (?:అమ్మ|పెంచు|చూసుకుం)", text):
                assert form == row["of"] + "ను", text
                checked += 1
    assert checked > ROUNDS


@each_split
def test_the_question_asks_with_the_word_that_fits(split):
    for p in some(split):
        last = re.split(r"[.] ", p.question)[-1]
        assert len(re.findall("(?:ఎన్ని|ఎంత)(?!" + LETTER + ")", last)) == 1, last
        person = re.search(rf"ఎంత మంది ({LETTER}+)", last)
        assert bool(person) == ("ఎంత" in words(last)), last
        if person:
            assert person[1] in PEOPLE and last.endswith("ఉన్నారు?"), last
        else:
            assert not PEOPLE & set(words(last.split("ఎన్ని")[1])), last


def test_plural_verbs_are_of_people_or_of_things():
    for text in texts():
        # Named people do alone what they do, but for a few things done together.
        assert {w for w in words(text) if w.endswith("ారు")} <= OF_SEVERAL | {"తయారు"}, text
        for sentence in re.split("[.?]", text):
            if re.search("ఉన్నారు$", sentence):
                assert "మంది" in words(sentence), sentence
            if re.search("(?:ఉన్నాయి|మిగిలాయి|వచ్చాయి)$", sentence):
                assert not re.search(r"(?:\d|ఎంత) మంది", sentence), sentence


# --- script ----------------------------------------------------------------------------------------------


def test_script_is_pure():
    for text in texts():
        # Telugu letters and signs, but neither Telugu digits nor the signs behind them; no Latin letters, no joiners.
        assert re.fullmatch(r"[\u0c00-\u0c63 0-9+*/=?.,-]+", text), text
        assert text == unicodedata.normalize("NFC", text)
        assert not re.search(r"  | [?,.]|[?,.](?! |$)|,,", text), text


def test_endings_join_to_syllables():
    # A vowel sign stands behind a consonant: not behind another sign, nor at the beginning of a word.
    for text in texts():
        assert not re.search(r"(?:^|[^\u0c15-\u0c39])[\u0c3e-\u0c4d]", text), text
        # A word that ends in a bare consonant takes no ending.
        assert set(re.findall(rf"{LETTER}+\u0c4d(?![\u0c15-\u0c39]){LETTER}*", text)) <= {"జూన్"}, text


def test_no_number_is_given_in_words():
    for text in texts():
        assert not NUMBER_WORDS & set(words(text)), text


def test_sentences_end_with_a_full_stop_and_questions_with_a_question_mark():
    for split in SPLITS:
        for p in some(split):
            assert p.question.count("?") == 1 and p.question.endswith("?")
            assert "?" not in p.solution and p.solution.count(".") == 2 * len(p.expressions) + 1


def test_questions_are_about_as_long_as_the_english():
    for split in SPLITS:
        for te, en in zip(some(split), some(split, "en"), strict=True):
            assert 10 <= len(te.question.split()) <= len(en.question.split()) + 3, te.question


# --- parallel --------------------------------------------------------------------------------------------


@each_split
def test_the_same_people_and_things_as_in_english(split):
    forms = {}
    for name, row in NAMES.items():
        base = row["base"]
        forms |= {base: name, dative(base): name, base + "తో": name}
    for (te, _, things), en in zip(dealt(split), some(split, "en"), strict=True):
        mentioned = {forms[w] for w in words(te.question) if w in forms}
        assert mentioned == {w for w in re.findall(r"[A-Z]\w+", en.question) if w in NAMES}, te
        for thing in things:
            row = THINGS[thing]
            assert re.search(rf"(?<!{LETTER})(?:{row['one']}(?!{LETTER})|{row['of']})", te.question), te


def test_final_sentence_and_labels():
    for split in SPLITS:
        for p in some(split):
            assert p.solution.endswith(f" సమాధానం {p.answer}.")
            assert extract_number(p.solution, "te") == p.answer
            assert prompt(p) == f"ప్రశ్న: {p.question}\nసమాధానం:"
            assert completion(p) == " " + p.solution


def test_few_shot_prefix_is_telugu():
    for seed in range(4):
        blocks = few_shot_prefix("te", 2, seed).split("\n\n")
        assert blocks.pop() == "" and len(blocks) == 2
        assert all(re.fullmatch(r"ప్రశ్న: .+\?\nసమాధానం: .+ సమాధానం \d+\.", block) for block in blocks)


GOLDEN = (
    (
        "ప్రశ్న: అనిత హోటల్లోని గ్లాసుల సంఖ్య గోపి హోటల్లోని గ్లాసుల సంఖ్య కంటే 9 తక్కువ. గోపి హోటల్లో "
        "126 గ్లాసులు ఉన్నాయి. అనిత హోటల్లో ఎన్ని గ్లాసులు ఉన్నాయి?\n"
        "సమాధానం: 126 - 9 = 117. అనిత హోటల్లో 117 గ్లాసులు ఉన్నాయి. సమాధానం 117."
    ),
    (
        "ప్రశ్న: మంజుల పాఠశాల వేడుకకు మొత్తం 190 చపాతీలను 5 బుట్టల్లో తెచ్చింది. తర్వాత పిల్లలు వాటిలో 2 "
        "చపాతీలు తిన్నారు. ఆ తర్వాత అక్కడ ఎన్ని చపాతీలు ఉన్నాయి?\n"
        "సమాధానం: 190 - 2 = 188. ఆ తర్వాత అక్కడ 188 చపాతీలు ఉన్నాయి. సమాధానం 188."
    ),
    (
        "ప్రశ్న: రాఘవ చూసుకునే గ్రంథాలయంలో 84 కథల పుస్తకాలు, 6 పాటల పుస్తకాలు ఉన్నాయి. ఈ వారం "
        "విద్యార్థులు వాటిలో 7 పుస్తకాలు తీసుకెళ్ళారు. గ్రంథాలయానికి 74 కొత్త పుస్తకాలు కొన్నారు. ఆ "
        "తర్వాత గ్రంథాలయంలో ఎన్ని పుస్తకాలు ఉన్నాయి?\n"
        "సమాధానం: 84 + 6 = 90. మొదట్లో గ్రంథాలయంలో 90 పుస్తకాలు ఉండేవి. 90 - 7 = 83. తీసుకెళ్ళిన తర్వాత "
        "83 పుస్తకాలు మిగిలాయి. 83 + 74 = 157. కొత్త వాటితో కలిపి 157 పుస్తకాలు ఉన్నాయి. సమాధానం 157."
    ),
)


def test_golden():
    assert tuple(prompt(p) + completion(p) for p in problems("te", "scored", 3)) == GOLDEN
