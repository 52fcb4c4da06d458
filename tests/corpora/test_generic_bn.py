"""The generic Bengali set: right in its forms and its agreement, and nothing in it to calculate."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import pytest

from xlnb.corpora import fingerprint, grammar, templates
from xlnb.corpora.templates import language_examples

FILE = grammar.read("generic-bn.yaml")
TABLES, CLASSES = FILE["tables"], FILE["classes"]
GENERIC = {seed: language_examples("bn", 4000, seed) for seed in (0, 1000)}
EVERY = GENERIC[0] + GENERIC[1000]
TRANSLATIONS = ("translate-to-bengali", "translate-to-english")
HEAD, TAIL = "### নির্দেশ\n", "\n\n### লেখা\n"


def nfc(text):
    return unicodedata.normalize("NFC", text)


def words(text):
    """The words of a text; `\\w` would cut a Bengali word at its vowel signs."""
    return re.findall(r"[\u0980-\u09FF\u200c\u200d]+|[A-Za-z]+", text)


def listed(text):
    return set(nfc(text).split())


def of_kind(kind):
    """Text and completion of the examples of a kind; the text without its instruction."""
    found = [(task(example), example.completion) for example in EVERY if example.kind == kind]
    assert len(found) >= 300
    return found


def task(example):
    return example.prompt.removeprefix(HEAD).removesuffix(TAIL).split("\n", 1)[1]


def bases(table):
    return [row["base"] for row in TABLES[table]]


# --- what there is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", GENERIC)
def test_many_kinds_in_balanced_rotation_and_no_task_twice(seed):
    examples = GENERIC[seed]
    kinds = list(FILE["kinds"])
    assert len(kinds) >= 14 and len(examples) == 4000
    rounds = [examples[i : i + len(kinds)] for i in range(0, len(examples), len(kinds))]
    assert all(sorted(e.kind for e in each) == sorted(kinds) for each in rounds)
    assert len({(e.kind, task(e)) for e in examples}) == len(examples)


def test_as_rich_as_the_swahili_set():
    assert len(TABLES["name"]) >= 18 and len(TABLES["work"]) >= 30
    assert len(FILE["kinds"]) >= len(grammar.read("generic-sw.yaml")["kinds"])
    for table, rows in TABLES.items():
        assert len({str(row) for row in rows}) == len(rows), f"a row twice in {table}"
    used = {table for kind in FILE["kinds"].values() for v in kind["variants"] for table in v["draw"].values()}
    assert used == set(TABLES), "a table that no kind draws from"


def test_every_form_and_every_slot_is_used():
    read = {key for kind in templates._generic("bn").kinds for v in kind.variants for key in v.text.keys}
    read |= {key for kind in templates._generic("bn").kinds for v in kind.variants for key in v.completion.keys}
    forms = {form[:1].lower() + form[1:] for _, form in read} | {"base", "class"}
    written = {form for rows in TABLES.values() for row in rows if isinstance(row, dict) for form in row}
    assert written <= forms
    assert {form for verb in CLASSES.values() for form in verb} <= forms
    for kind in FILE["kinds"].values():
        for variant in kind["variants"]:
            for slot in variant["draw"]:
                assert re.search(rf"\{{{slot}[.}}]", variant["text"] + variant["completion"]), variant


def test_the_same_again_from_the_start_and_with_another_seed_something_else():
    assert language_examples("bn", 37) == GENERIC[0][:37]
    templates._generic.cache_clear()
    assert fingerprint(language_examples("bn", 4000)) == fingerprint(GENERIC[0])
    assert {e.prompt for e in GENERIC[0]} != {e.prompt for e in GENERIC[1000]}


def test_too_many_says_how_many_there_are():
    with pytest.raises(ValueError, match=r"generic set of 'bn': kind .* at most about \d+ examples"):
        language_examples("bn", 20_000)


# --- nothing to calculate --------------------------------------------------------------------------------

_CARDINALS = listed(
    "দু দুই দো তিন চার পাঁচ ছয় সাত আট নয় দশ এগারো বারো তেরো চৌদ্দ পনেরো ষোলো সতেরো আঠারো উনিশ বিশ কুড়ি ত্রিশ "
    "চল্লিশ পঞ্চাশ ষাট সত্তর আশি নব্বই শ শত হাজার লাখ লক্ষ কোটি ক কয় কত"
)
_CLASSIFIERS = listed("টি টা টো টে জন জনে জনের জনকে খানা খানি বার গুণ দিন টির টিকে টিতে শো")
NUMBER_WORDS = _CARDINALS | {number + classifier for number in _CARDINALS for classifier in _CLASSIFIERS}
NUMBER_WORDS -= {"লক্ষ"}  # লক্ষ করা is to notice
NUMBER_WORDS |= listed(
    "প্রথম প্রথমে দ্বিতীয় তৃতীয় চতুর্থ পঞ্চম শূন্য অর্ধেক আধা আধ দেড় আড়াই সাড়ে দ্বিগুণ তিনগুণ উভয় জোড়া কয়েক "
    "মোট যোগ বিয়োগ ভাগ গুণ সংখ্যা হিসাব হিসেব গণনা গোনা সমান যোগফল দাম মূল্য টাকা পয়সা বেশি কম চেয়ে আরও পরিমাণ"
)
ENGLISH_NUMBERS = listed(
    "one two three four five six seven eight nine ten hundred thousand first second third half more less fewer many "
    "much price cost twice double pair total sum"
)


def numbers_in(text):
    """What in a text says or writes a number."""
    found = [word for word in words(text) if word in NUMBER_WORDS or word.startswith("এক")]
    found += [word for word in words(text.lower()) if word in ENGLISH_NUMBERS]
    return found + [ch for ch in text if unicodedata.numeric(ch, None) is not None]


@pytest.mark.parametrize(
    "text", ["৩টি আম", "7", "একটি আম", "একদিন", "দুজন লোক", "তিনটি", "ছয় জন", "কত", "half", "প্রথমে"]
)
def test_a_number_is_found(text):
    assert numbers_in(nfc(text))


def test_words_that_only_look_like_numbers_are_not_found():
    assert not numbers_in(nfc("তিনি দুপুরে দুধ আর আটা আনলেন, চারা লাগালেন, ছুরি আর ছাতা কিনলেন, ব্যাপারটি লক্ষ করলেন।"))


def test_no_numbers():
    for example in EVERY:
        text = example.prompt + example.completion
        assert not numbers_in(text), (numbers_in(text), text)
        assert not re.search(r"[=+*/%{}<>]", text), text


def test_format_stays_apart_from_the_word_problems():
    labels = listed("প্রশ্ন উত্তর")
    if "bn" in templates.LANGUAGES:
        labels |= set(grammar.read("bn.yaml")["labels"].values())
    for example in EVERY:
        assert not any(label in example.prompt + example.completion for label in labels), example
        assert example.prompt.startswith(HEAD) and example.prompt.endswith(TAIL)


def test_names_of_scored_problems_are_absent():
    if "bn" not in templates.LANGUAGES:
        pytest.skip("no word problems in Bengali")
    names = grammar.read("bn.yaml")["names"]
    scored = {names[name]["base"] for name in grammar.read("frames.yaml")["names"]["scored"]}
    assert len(scored) >= 10 and not scored & set(bases("name"))
    assert not any(scored & set(words(e.prompt + e.completion)) for e in EVERY)


# --- text ------------------------------------------------------------------------------------------------


def test_text_is_whole():
    for example in EVERY:
        text, completion = task(example), example.completion
        for part in (text, completion):
            assert part == part.strip() and "\n" not in part and "  " not in part
            assert not re.search(r"\s[.,?;:।!]|[।.]{2}|[?!][।.]|[,;:][।.]|\u200b", part), part
            assert unicodedata.is_normalized("NFC", part)
        end = "." if example.kind == "translate-to-english" else "।?!"
        assert completion[-1] in end, completion
        if example.kind not in ("odd-one-out", "fitting-word", "translate-to-bengali"):
            assert text[-1] in "।?!", text


def test_every_instruction_is_a_sentence():
    for kind, entry in FILE["kinds"].items():
        assert len(set(entry["instructions"])) == len(entry["instructions"]) >= 3, kind
        for text in entry["instructions"]:
            assert text[-1] in "।?" or (kind in TRANSLATIONS and text[-1] == ":")


def test_one_script():
    for example in EVERY:
        english = {"translate-to-bengali": task(example), "translate-to-english": example.completion}.get(example.kind)
        bengali = example.prompt + example.completion
        if english is not None:
            assert english.isascii() and english[0].isupper() and english.endswith(".")
            bengali = bengali.replace(english, "")
        for ch in bengali:
            if ch.isalpha() or unicodedata.category(ch).startswith("M"):
                assert unicodedata.name(ch).startswith("BENGALI"), (ch, bengali)
            else:
                assert ch in " \n।?!,;:-'()_#", (ch, bengali)


def test_completions_are_of_good_length():
    lengths = [len(example.completion.split()) for example in EVERY]
    assert sum(6 <= n <= 45 for n in lengths) / len(lengths) > 0.95


# --- forms, by rules written apart from the file ---------------------------------------------------------

_VOWEL_SIGNS = "ািীুূৃেৈোৌ"
_VOWELS = "অআইঈউঊঋএঐওঔ"


def ends_in_vowel(word):
    return word[-1] in _VOWEL_SIGNS + _VOWELS


def genitive(word):
    last = word.split()[-1]
    if last[-1] in _VOWELS or (ends_in_vowel(last) and len(re.findall(r"[ক-হ\u09df]", last)) == 1):
        return word + nfc("য়ের")
    return word + ("র" if ends_in_vowel(word) else "ের")


def locative(word):
    if word[-1] == "া":
        return word + nfc("য়")
    return word + ("তে" if ends_in_vowel(word) else "ে")


def test_the_rules_themselves():
    pairs = {"মা": "মায়ের", "ভাই": "ভাইয়ের", "রিনা": "রিনার", "পলাশ": "পলাশের", "দাদু": "দাদুর", "বড় বোন": "বড় বোনের"}
    assert all(genitive(nfc(word)) == nfc(form) for word, form in pairs.items())
    places = {"মেলা": "মেলায়", "নদী": "নদীতে", "বাজার": "বাজারে"}
    assert all(locative(nfc(word)) == nfc(form) for word, form in places.items())


@pytest.mark.parametrize("table", ["name", "kin", "beast"])
def test_genitives(table):
    for row in TABLES[table]:
        assert row["of"] == genitive(row["base"])


def test_genitives_without_a_base_form():
    for table in ("keep", "crop", "stall"):
        assert all(re.search(r"(ের|[ািীুেো]র)$", phrase) for phrase in TABLES[table]), table


def test_plurals_of_people():
    for row in TABLES["work"]:
        assert row["pl"] == row["base"] + ("রা" if ends_in_vowel(row["base"]) else "েরা")


def test_where_and_from_where():
    for row in TABLES["trip"]:
        place, word = row["from"].rsplit(" ", 1)
        assert word == "থেকে" and row["to"] == locative(place)
        assert row["for"].endswith("তে")
    for place in [row["at"] for row in TABLES["work"]] + TABLES["spot"] + TABLES["corner"] + TABLES["venue"]:
        assert place.endswith(("ে", "তে", nfc("য়"))), place


# Root: what changes before the endings. Present, progressive (and future), perfect; of the causatives the stem in
# the perfect.
ROOTS = {
    "kor": "কর কর কর",
    "por": "পড় পড় পড়",
    "bol": "বল বল বল",
    "kat": "কাট কাট কেট",
    "dekh": "দেখ দেখ দেখ",
    "radh": "রাঁধ রাঁধ রেঁধ",
    "badh": "বাঁধ বাঁধ বেঁধ",
    "gath": "গাঁথ গাঁথ গেঁথ",
    "ank": "আঁক আঁক এঁক",
    "bhab": "ভাব ভাব ভেব",
    "bon": "বোন বুন বুন",
    "shon": "শোন শুন শুন",
    "lekh": "লেখ লিখ লিখ",
    "ken": "কেন কিন কিন",
}
CAUSATIVES = {
    "bana": "বানা বানি",
    "baja": "বাজা বাজি",
    "saja": "সাজা সাজি",
    "laga": "লাগা লাগি",
    "chala": "চালা চালি",
    "dekha": "দেখা দেখি",
    "shona": "শোনা শুনি",
    "shekha": "শেখা শিখি",
    "peta": "পেটা পিটি",
}
IRREGULAR = {
    "kha": "খায় খাচ্ছে খেয়েছিল খাবে খাব খান খাইতেছেন খাইয়াছিলেন",
    "de": "দেয় দিচ্ছে দিয়েছিল দেবে দেব দেন দিতেছেন দিয়াছিলেন",
    "ne": "নেয় নিচ্ছে নিয়েছিল নেবে নেব নেন লইতেছেন লইয়াছিলেন",
}
ORDER = ("cpres", "cnow", "cpast", "cwill", "iwill", "pres", "old_now", "old_past")


def conjugated(verb):
    if verb in ROOTS:
        low, high, perfect = ROOTS[verb].split()
        forms = [low + "ে", high + "ছে", perfect + "েছিল", high + "বে", high + "ব", low + "েন"]
        return [*forms, high + "িতেছেন", high + "িয়াছিলেন"]
    if verb in CAUSATIVES:
        stem, perfect = CAUSATIVES[verb].split()
        old = perfect[:-1] + "া" if verb in ("shona", "shekha", "peta") else stem
        forms = [stem + "য়", stem + "চ্ছে", perfect + "য়েছিল", stem + "বে", stem + "ব", stem + "ন"]
        return [*forms, old + "ইতেছেন", old + "ইয়াছিলেন"]
    return IRREGULAR[verb].split()


@pytest.mark.parametrize("verb", CLASSES)
def test_verbs(verb):
    forms = CLASSES[verb]
    assert [forms[name] for name in ORDER] == [nfc(form) for form in conjugated(verb)]
    assert all(forms[name] == forms["c" + name] + "ন" for name in ("now", "will"))
    assert forms["past"] == forms["cpast"] + "েন"
    assert forms["cwas"] == forms["cnow"][:-1] + "িল" and forms["was"] == forms["cwas"] + "েন"
    assert forms["inow"] == forms["cnow"][:-1] + "ি"
    assert forms["neg"] == forms["pres"] + "নি"
    assert set(forms) == {*ORDER, "now", "cwas", "was", "past", "will", "inow", "neg"}


def test_praise_differs_in_the_pronoun_alone():
    pronouns = {"তার": ("তাঁর", "তাঁদের"), "তাকে": ("তাঁকে", "তাঁদের")}
    for row in TABLES["praise"]:
        (ordinary,) = pronouns.keys() & set(row["o"].split())
        polite, plural = pronouns[ordinary]
        assert row["h"] == row["o"].replace(ordinary, polite)
        assert row["pl"] == row["o"].replace(ordinary, plural)


def test_past_tense_of_the_english_side():
    strong = {"reads": "read", "cuts": "cut", "sees": "saw", "makes": "made", "sells": "sold", "writes": "wrote"}
    strong |= {"weaves": "wove", "buys": "bought", "tells": "told", "builds": "built", "teaches": "taught"}
    strong |= {"thinks": "thought", "speaks": "spoke", "drinks": "drank", "hums": "hummed", "chats": "chatted"}
    for row in TABLES["work"] + TABLES["also"]:
        does, did, do = (row[form].split() for form in ("does", "did", "do"))
        assert does[1:] == did[1:] == do[1:]
        assert does[0] in (do[0] + "s", do[0] + "es")
        regular = do[0] + "d" if do[0].endswith("e") else do[0] + "ed"
        assert did[0] == strong.get(does[0], regular), row


# --- agreement in the text -------------------------------------------------------------------------------

NAMES = set(bases("name"))
POLITE_PRONOUNS = listed("তিনি তাঁর তাঁকে তাঁরা তাঁদের")
ORDINARY_PRONOUNS = listed("সে তার তাকে তারা তাদের")


@pytest.mark.parametrize("kind", ["past-tense", "future-tense"])
def test_young_people_take_the_ordinary_verb_and_others_the_polite_one(kind):
    for text, completion in of_kind(kind):
        for clause in (text + completion).replace("।", ", আর ").split(", আর ")[:-1]:
            *_, verb = said = clause.split()
            subject = said[1] if said[0] in listed("এখন আজ গতকাল আগামীকাল") else said[0]
            assert verb.endswith("ন") == (subject not in NAMES), clause


def test_honorific_changes_pronouns_and_verbs():
    for text, completion in of_kind("honorific"):
        assert not POLITE_PRONOUNS & set(words(text)) and "সে" in words(text)
        assert not ORDINARY_PRONOUNS & set(words(completion)) and "তিনি" in words(completion)
        first, second = text.split("।")[0], completion.split("।")[0]
        assert second.endswith("ন") and not first.endswith("ন")
        assert len(first.split()) == len(second.split())


def test_plural_leaves_nobody_single():
    for text, completion in of_kind("plural"):
        assert {"তাঁরা", "তাঁদের"} & set(words(completion))
        assert not {"তিনি", "তাঁর", "তাঁকে"} & set(words(completion))
        assert not {"তাঁরা", "তাঁদের"} & set(words(text))
        assert words(completion)[0] in {row["pl"] for row in TABLES["work"]}


def test_negative_denies_both_parts():
    for text, completion in of_kind("negative"):
        assert " এবং " in text and not re.search(r"নি[,।]| না[,।]", text)
        first, second = completion.split(", ")
        assert re.search(r"(ননি| না)$", first) and re.search(r"ও \S+(ননি| না)।$", second), completion


def test_chalit_has_no_sadhu_form():
    sadhu = re.compile(nfc("তাঁহা|কাহা|িতেছ|ইতেছ|িয়া|ইয়া|ইবে|িবার|সহিত|নাই|গতকল্য|পূর্ব|বৎসর"))
    for text, completion in of_kind("sadhu-to-chalit"):
        assert len(sadhu.findall(text)) >= 2
        assert not sadhu.search(completion), completion


def test_reported_speech_changes_the_person():
    for text, completion in of_kind("reported-speech"):
        speaker, said = text.split(": ")
        assert said.startswith("আমি ") and re.search("(ি|ব)।$", said)
        young = speaker.split()[0] in NAMES
        assert speaker.endswith(" বলল" if young else " বললেন")
        told = completion.removeprefix(f"{speaker} যে ")
        assert told.startswith("সে " if young else "তিনি ")
        assert told.endswith("ন।") != young
        assert nfc("আগামী") not in told  # পরদিন "the day after", পরের "the following"


def test_corrected_sentences_are_right_and_the_others_wrong():
    wrong: Counter[str] = Counter()
    for text, completion in of_kind("correct-sentence"):
        right = completion.split("।")[0] + "।"
        assert right != text and len(right.split()) == len(text.split())
        changed = [(a, b) for a, b in zip(words(text), words(right), strict=True) if a != b]
        ((bad, good),) = changed
        assert f"'{good}'" in completion
        if text.startswith("সব "):
            assert bad in (good + "গুলি", good + "রা", good + "েরা")
            wrong["plural after সব"] += 1
        elif " আমি " in text:
            assert bad == good + "ে" and good.endswith("ব")
            wrong["person"] += 1
        else:
            assert good == bad + "েন"
            wrong["respect"] += 1
    assert len(wrong) == 3 and min(wrong.values()) > 20


def test_politeness_addresses_as_apni():
    familiar = listed("দাও করো খোলো এসো বসো বলো আনো তোমার তুমি তোমাকে তুই")
    for row in TABLES["order"]:
        assert re.search("(ো|াও|োও|দাও)$", row["raw"]), row
        assert row["kind"].endswith("ন")
    for _, completion in of_kind("polite"):
        assert re.search(nfc("দয়া করে|অনুগ্রহ করে"), completion)
        assert not familiar & set(words(completion))


@pytest.mark.parametrize("kind", ["dialogue", "advice", "invitation"])
def test_friends_do_not_say_apni(kind):
    for text, completion in of_kind(kind):
        assert not {"আপনি", "আপনার", "আপনাকে"} & set(words(text + completion))


# --- the answers -----------------------------------------------------------------------------------------


def test_odd_one_out():
    tables = [TABLES["group"], TABLES["other_group"]]
    groups = {row[form]: row["kind"] for rows in tables for row in rows for form in "abc"}
    assert len(groups) == 3 * sum(map(len, tables))
    plants = {"ফল", "গাছ", "সবজি", "ফুল"}
    for text, completion in of_kind("odd-one-out"):
        kinds = Counter(groups[word] for word in text.split(", "))
        (odd,) = [word for word in text.split(", ") if kinds[groups[word]] == 1]
        assert len(plants & set(kinds)) < 2, text  # a mango is a fruit and a tree
        assert completion.startswith(f"বেমানান শব্দটি হল {odd}। ")
        assert completion.endswith(f"কিন্তু {odd} হল {groups[odd]}।")


def test_fitting_word():
    tables = [TABLES["tool"], TABLES["other_tool"]]
    fits = {row["did"]: row["w"] for rows in tables for row in rows}
    alike = [listed("খুন্তি কোদাল"), listed("দড়ি বালতি")]
    for text, completion in of_kind("fitting-word"):
        did = text.split(nfc(" ____ দিয়ে "))[1].split("। ")[0]
        for pair in alike:  # of two that do the same work never both where one of them is right
            assert fits[did] not in pair or not pair <= set(words(text.split("(")[1])), text
        assert fits[did] in text.split("(")[1] and f"মানানসই শব্দটি হল {fits[did]}," in completion


def test_events_in_order():
    for text, completion in of_kind("order-events"):
        (row,) = [row for row in TABLES["process"] if f" {row['t']}: " in text]
        steps = [completion.index(row[step]) for step in "abc"]
        assert steps == sorted(steps) and all(row[step] in text for step in "abc")
        assert [text.index(row[step]) for step in "abc"] != sorted(text.index(row[step]) for step in "abc")


def test_opposites():
    other = {row["a"]: row["b"] for row in TABLES["contrast"]}
    other |= {b: a for a, b in other.items()}
    assert len(other) == 2 * len(TABLES["contrast"])
    for text, completion in of_kind("opposite"):
        for said, turned in zip(*(re.split(nfc(", (?:কিন্তু|আর) "), t[:-1]) for t in (text, completion)), strict=True):
            assert other[said] == turned


@pytest.mark.parametrize("kind", ["summary", "passage"])
def test_answers_come_from_the_passage(kind):
    for text, completion in of_kind(kind):
        assert set(words(completion)) <= set(words(text)) | {"আর"}, (text, completion)


# --- golden ----------------------------------------------------------------------------------------------

GOLDEN = {
    "translate-to-bengali": (
        "### নির্দেশ\nবাক্যটি বাংলায় অনুবাদ করুন।\n"
        "Last month the potter made clay pots in the yard and showed travellers the way.\n\n### লেখা\n",
        "গত মাসে কুমার উঠানে মাটির হাঁড়ি বানিয়েছিলেন এবং পথিকদের পথ দেখিয়েছিলেন।",
    ),
    "honorific": (
        "### নির্দেশ\nমানুষটি শ্রদ্ধেয়; সর্বনাম ও ক্রিয়া সেভাবে বদলান।\n"
        "ছুটির সময়ে সে মিলনায়তনে গানের চর্চা করেছিল। সবাই তার প্রশংসা করে।\n\n### লেখা\n",
        "ছুটির সময়ে তিনি মিলনায়তনে গানের চর্চা করেছিলেন। সবাই তাঁর প্রশংসা করে।",
    ),
    "sadhu-to-chalit": (
        "### নির্দেশ\nবাক্যগুলি আজকের চলিত ভাষায় বলুন।\n"
        "উৎসবের পূর্বদিন ডাকপিয়ন গ্রামে চিঠি বিলি করিয়াছিলেন। তাঁহার মুখে সর্বদা হাসি লাগিয়া থাকে।\n\n### লেখা\n",
        "উৎসবের আগের দিন ডাকপিয়ন গ্রামে চিঠি বিলি করেছিলেন। তাঁর মুখে সব সময় হাসি লেগে থাকে।",
    ),
}


def test_golden():
    first = {example.kind: (example.prompt, example.completion) for example in reversed(GENERIC[0][:25])}
    golden = {kind: (nfc(prompt), nfc(completion)) for kind, (prompt, completion) in GOLDEN.items()}
    assert {kind: first[kind] for kind in golden} == golden
