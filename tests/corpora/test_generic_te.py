"""The generic Telugu set: right in its forms and its agreement, and nothing in it to calculate."""

from __future__ import annotations

import re
import unicodedata

import pytest

from xlnb.corpora import fingerprint, grammar, templates
from xlnb.corpora.templates import language_examples

FILE = grammar.read("generic-te.yaml")
TABLES = FILE["tables"]
GENERIC = {seed: language_examples("te", 4000, seed) for seed in (0, 1000)}
EVERY = GENERIC[0] + GENERIC[1000]
HEAD, TAIL = "### సూచన\n", "\n\n### రచన\n"


def words(text):
    """The words of a text; `\\w` would cut a Telugu word at its vowel signs."""
    return re.findall(r"[\u0c00-\u0c7f]+|[A-Za-z]+", text)


def listed(text):
    return set(text.split())


def task(example):
    """The prompt without its headings and its instruction."""
    return example.prompt.removeprefix(HEAD).removesuffix(TAIL).split("\n", 1)[1]


def of_kind(kind):
    """Text and completion of the examples of a kind."""
    found = [(task(example), example.completion) for example in EVERY if example.kind == kind]
    assert len(found) >= 300
    return found


def rows(table, *forms):
    return [tuple(row[form] for form in forms) for row in TABLES[table]]


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
    for table, entries in TABLES.items():
        assert len({str(row) for row in entries}) == len(entries), f"a row twice in {table}"


def test_every_table_form_and_slot_is_used():
    used = {table for kind in FILE["kinds"].values() for v in kind["variants"] for table in v["draw"].values()}
    assert used == set(TABLES)
    read = set()
    for kind in templates._generic("te").kinds:
        for variant in kind.variants:
            keys = {*variant.text.keys, *variant.completion.keys}
            assert {slot for slot, _ in keys} == {slot for slot, _ in variant.slots}, variant
            read |= {form[:1].lower() + form[1:] for _, form in keys}
    written = {form for entries in TABLES.values() for row in entries if isinstance(row, dict) for form in row}
    written |= {form for forms in FILE["classes"].values() for form in forms}
    assert written - {"base", "class"} <= read


def test_the_same_again_from_the_start_and_with_another_seed_something_else():
    assert language_examples("te", 37) == GENERIC[0][:37]
    templates._generic.cache_clear()
    assert fingerprint(language_examples("te", 4000)) == fingerprint(GENERIC[0])
    assert {e.prompt for e in GENERIC[0]} != {e.prompt for e in GENERIC[1000]}


def test_names_are_not_those_of_scored_word_problems():
    problem_names = templates._language("te").names
    scored = {form for name in grammar.read("frames.yaml")["names"]["scored"] for form in problem_names[name].values()}
    assert not scored & (WOMEN | MEN)


# --- nothing to calculate --------------------------------------------------------------------------------

# Short words that other words begin with (ఆరు six, ఆరుబయట outdoors) are matched whole, the rest as beginnings.
NUMBER_WORDS = listed(
    "మూడు మూడో మూడవ మూడింటి ఆరు ఆరో ఆరవ ఏడు ఏడో ఏడవ పది పదో పదవ పదిమంది నూరు వేలు వేల వెయ్యి వేయి కోటి కోట్లు అర పావు "
    "మొదటి ఎంత ఎందరు మంది ధర ధరలు వెల కంటే కన్నా జత జతలు సమానం డబ్బు డబ్బులు పైసా"
)
NUMBER_STEMS = tuple(
    listed(
        "ఒక ఓక రెండ ఇద్దర ఇరువుర ముగ్గుర నాలుగ నలుగుర అయిద ఐద ఆరుగుర ఏడుగుర ఎనిమిద ఎనమండుగుర తొమ్మిద తొమ్మండుగుర పదకొండ "
        "పన్నెండ పదమూడ పద్నాలుగ పదిహేన పదహార పదిహేడ పద్దెనిమిద పంతొమ్మిద ఇరవై ముప్పై నలభై యాభై అరవై డెబ్బై ఎనభై తొంభై "
        "వంద లక్ష సగం సున్న మొత్తం లెక్క సంఖ్య ఎన్ని ఎంతమంది రూపాయ ఎక్కువ తక్కువ రెట్ట రెట్ల కూడిక తీసివేత గుణకార "
        "భాగహార భాగించ"
    )
)
ENGLISH_NUMBERS = listed(
    "one two three four five six seven eight nine ten hundred thousand first second third half more less fewer many "
    "much price cost twice double pair total sum"
)


def numbers_in(text):
    """What in a text says or writes a number."""
    found = [word for word in words(text) if word in NUMBER_WORDS or word.startswith(NUMBER_STEMS)]
    found += [word for word in words(text.lower()) if word in ENGLISH_NUMBERS]
    return found + [ch for ch in text if unicodedata.numeric(ch, None) is not None]


@pytest.mark.parametrize("text", ["ఒకరోజు వచ్చాడు", "రెండవ పాట", "ఆరు పండ్లు", "three birds", "౩", "3", "½", "ఎన్ని పండ్లు?"])
def test_numbers_are_found(text):
    assert numbers_in(text)


def test_no_numbers_and_no_sums():
    for example in EVERY:
        text = f"{example.prompt}\n{example.completion}"
        assert not numbers_in(text), (numbers_in(text), text)
        assert not re.search(r"[=+*/%{}]", text), text


def test_format_stays_apart_from_the_word_problems():
    for example in EVERY:
        assert example.prompt.startswith(HEAD) and example.prompt.endswith(TAIL)
        assert not {"ప్రశ్న", "సమాధానం"} & set(words(example.prompt + example.completion)), example


# --- the text itself -------------------------------------------------------------------------------------

TELUGU = r"[\u0c01-\u0c4d\u0c55\u0c56\u0c58-\u0c63 .,:;?!'\"()_]+"  # the script without its digits and fractions
ENGLISH = r"[A-Za-z ,.]+"


def test_script_is_pure_but_for_the_english_side_of_translations():
    for example in EVERY:
        text, instruction = task(example), example.prompt.removeprefix(HEAD).split("\n")[0]
        assert re.fullmatch(TELUGU, instruction), instruction
        assert re.fullmatch(ENGLISH if example.kind == "translate-to-telugu" else TELUGU, text), text
        expected = ENGLISH if example.kind == "translate-to-english" else TELUGU
        assert re.fullmatch(expected, example.completion), example.completion


def test_text_is_whole():
    for example in EVERY:
        text = example.prompt + example.completion
        assert unicodedata.is_normalized("NFC", text)
        assert not re.search(r"  |\s[.,?!;:]|[.]{2}|[?!][.]|\(\s|\bNone\b", text), text
        # A vowel sign needs a consonant before it: no ending may stand alone or follow another vowel sign.
        assert not re.search(r"(?<![\u0c15-\u0c39])[\u0c3e-\u0c4d]", text), text
        assert example.completion == example.completion.strip() and "\n" not in example.completion
        assert example.completion[-1] in ".?!"
        assert example.kind == "odd-one-out" or task(example)[-1] in '.?!")'


def test_completions_have_a_good_length():
    lengths = [len(example.completion.split()) for example in EVERY]
    assert sum(5 <= n <= 45 for n in lengths) / len(lengths) > 0.95


# --- forms, checked against rules written apart from the file ----------------------------------------------

WOMEN = listed("అనసూయ భానుమతి జానకి మల్లిక శారద వాసంతి యశోద అన్నపూర్ణ హైమావతి సుగుణ షబానా మేరీ")
MEN = listed("చలపతి నారాయణ మాధవయ్య వీరన్న రంగయ్య కేశవ భూపతి మురళి సాంబయ్య గణపతి కరీముల్లా యేసుదాసు")
AUNTS = listed("అమ్మ అమ్మమ్మ నాయనమ్మ అత్తయ్య పిన్ని అక్క వదిన")
UNCLES = listed("నాన్న తాతయ్య మామయ్య బాబాయి అన్నయ్య")
WORKING_WOMEN = listed("నర్సు విద్యార్థిని అమ్మాయి గృహిణి రచయిత్రి గాయని వృద్ధురాలు")
OBLIQUE = {"ఇల్లు": "ఇంటి", "ఊరు": "ఊరి", "పెరడు": "పెరటి"}  # nouns whose cases are put to another stem
LOCATIVE = {"ఇల్లు": "ఇంట్లో", "ఊరు": "ఊళ్ళో", "పెరడు": "పెరట్లో"}


def dative(noun):
    """కి after i, కు after other vowels, -ానికి for nouns in -ం."""
    stem = OBLIQUE.get(noun, noun)
    if stem.endswith("ం"):
        return stem.removesuffix("ం") + "ానికి"
    return stem + ("కి" if stem[-1] in "ిీఇఈ" else "కు")


def accusative(noun):
    if noun.endswith("ం"):
        return noun.removesuffix("ం") + "ాన్ని"
    return noun + ("ని" if noun[-1] in "ిీఇఈ" else "ను")


def plural(noun):
    """The plural with its sandhi."""
    for end, ends in (("ం", "ాలు"), ("లి", "ళ్ళు"), ("టి", "ట్లు"), ("డు", "డ్లు"), ("ి", "ులు")):
        if noun.endswith(end):
            return noun.removesuffix(end) + ends
    return noun + "లు"


def test_names_and_relatives_have_the_class_of_their_sex_and_ending():
    assert {row["base"] for row in TABLES["name"]} == WOMEN | MEN
    assert {row["base"] for row in TABLES["kin"]} == AUNTS | UNCLES
    for base, cls in rows("name", "base", "class") + rows("kin", "base", "class"):
        sex, ending = cls.split("-")
        assert sex == ("woman" if base in WOMEN | AUNTS else "man"), base
        assert ending == ("i" if base[-1] in "ిీఇఈ" else "a"), base
        forms = FILE["classes"][cls]
        assert (base + forms["to"], base + forms["acc"]) == (dative(base), accusative(base))


def test_cases_of_places_and_animals():
    for base, to, at, source in rows("site", "base", "to", "in", "from"):
        assert to == dative(base) and at == LOCATIVE.get(base, base + "లో")
        assert source == OBLIQUE.get(base, base) + " నుంచి"
    for base, to, obj in rows("beast", "base", "to", "acc"):
        assert (to, obj) == (dative(base), accusative(base))
    for (to,) in rows("trip", "to"):
        assert to.endswith("ానికి") or to == dative(to.removesuffix("కి").removesuffix("కు")), to
    assert (dative("బడి"), dative("తోట"), dative("పొలం")) == ("బడికి", "తోటకు", "పొలానికి")


def test_plurals_of_things():
    assert all(pl == plural(sg) for sg, pl in rows("noun", "sg", "pl"))
    assert [plural(noun) for noun in ("పుస్తకం", "పండు", "ఆవు", "నాగలి")] == ["పుస్తకాలు", "పండ్లు", "ఆవులు", "నాగళ్ళు"]


def test_forms_of_the_verbs_of_work():
    for row in TABLES["work"]:
        woman = row["sg"] in WORKING_WOMEN
        assert row["class"] == ("woman" if woman else "man"), row["sg"]
        ending = "ింది" if woman else "ాడు"
        assert row["did"].endswith(ending), row["did"]
        # శ before -ాడు and -ారు is స before i: చేశాడు, చేశారు, చేసి, చేసింది.
        stem = row["did"].removesuffix(ending)
        soft = re.sub("శ$", "స", re.sub("న్న$", "న", stem))
        hard = re.sub("స$", "శ", stem) if woman else stem
        assert row["dids"] == hard + "ారు" and row["having"] == soft + "ి", row
        # రాయు, చేయు: రాస్త, చేస్త from రాయ, చేయ; -ఇంచు: -ిస్త; కొను: కొంట; others -ుత.
        if row["inf"].endswith("య"):
            assert row["now"] == row["inf"].removesuffix("య") + "స్త"
        elif row["inf"].endswith("ించ"):
            assert row["now"] == row["inf"].removesuffix("ించ") + "ిస్త"
        else:
            assert row["now"].endswith(("ుత", "ుస్త")) or (row["inf"], row["now"]) in {
                ("కొన", "కొంట"),
                ("ఎదురుచూడ", "ఎదురుచూస్త"),
            }
        assert row["pl"].endswith(("లు", "ళ్ళు", "ర్లు"))


def test_stems_of_verbs_that_stand_with_any_subject():
    for row in TABLES["also"]:
        assert row["having"] == row["past"] + "ి"
        assert row["now"] == row["inf"].removesuffix("ించ") + "ిస్త" or row["now"].endswith("ుత")
    bare = [*TABLES["lesson"], *TABLES["happened"]]
    bare += [row["past"] for table in ("met", "feeling", "tool", "other_tool") for row in TABLES[table]]
    bare += [row["cp"] for row in TABLES["process"]] + [row["e"] for row in TABLES["word"]]
    for stem in bare:  # a bare consonant at the end; not శ, న్న, డ్డ, which change before -ింది (but దున్నింది)
        assert "క" <= stem[-1] <= "హ", stem
        assert stem == "దున్న" or not stem.endswith(("శ", "న్న", "డ్డ")), stem


def test_steps_of_work_have_one_stem_in_all_their_forms():
    for row in TABLES["process"]:
        for noun, participle in (("a", "ai"), ("b", "bi")):
            assert row[noun].endswith("డం") and row[participle].endswith(("ి", "ొని")), row
            assert row[noun].split()[:-1] == row[participle].split()[:-1], row
        assert row["c"].split()[:-1] == row["cp"].split()[:-1], row


def test_orders():
    for row in TABLES["order"]:
        assert row["kind"].endswith("ండి") and re.search("(తారా|టారా)$", row["ask"]), row
        assert not row["raw"].endswith(("ండి", "రా?")) and "నీ " not in row["kind"] + row["ask"], row


def test_reported_speech_has_no_first_person():
    for direct, indirect in rows("speech", "d", "i"):
        first = {"నేను": "తాను", "నాకు": "తనకు", "నా": "తన", "మా": "తమ"}
        subject, *rest = direct.split()
        assert indirect.split()[0] == first[subject]
        assert indirect.split()[1:-1] == rest[:-1] and indirect.endswith("ని")


# --- agreement in the examples -----------------------------------------------------------------------------

SUBJECTS = dict.fromkeys(WOMEN | AUNTS | WORKING_WOMEN, "ింది")
SUBJECTS |= dict.fromkeys(MEN | UNCLES, "ాడు")
SUBJECTS |= {row["sg"].split()[-1]: "ాడు" for row in TABLES["work"] if row["sg"] not in WORKING_WOMEN}
ENDINGS = {
    "ింది": ("ింది", "ుంది", "ది", "దు"),
    "ాడు": ("ాడు", "డు"),
}
PEOPLE = {row["pl"].split()[-1] for row in TABLES["work"]}


def check_clauses(text):
    """The last word of every clause must agree with its subject, or with that of the clause before. How many."""
    checked, subject = 0, None
    for clause in re.split(r"[.,]", re.sub(r"\(.*?\)", "", text)):
        tokens = words(clause)
        found = {token for token in tokens if token in SUBJECTS or token in PEOPLE}
        assert len(found) <= 1, clause
        subject = found.pop() if found else subject
        if not tokens or not subject or tokens[-1].endswith("లేదు"):  # లేదు agrees with everybody
            continue
        expected = ("రు",) if subject in PEOPLE else ENDINGS[SUBJECTS[subject]]
        assert tokens[-1].endswith(expected), (subject, clause)
        checked += 1
    return checked


AGREEING = ("translate-to-telugu", "plural", "past-tense", "future-tense", "negative", "join-sentences")


@pytest.mark.parametrize("kind", AGREEING)
def test_verbs_agree_with_their_subject(kind):
    for text, completion in of_kind(kind):
        if kind != "translate-to-telugu":
            assert check_clauses(text) >= 1, text
        assert check_clauses(completion) >= 1 or completion.count("లేదు") > 1, completion


@pytest.mark.parametrize(
    "text", ["శారద పాటలు పాడాడు.", "రంగయ్య పాటలు పాడింది.", "రైతులు పాటలు పాడాడు.", "నర్సు పాటలు పాడడు.", "రైతు పాడుతుంది."]
)
def test_wrong_agreement_is_found(text):
    with pytest.raises(AssertionError):
        check_clauses(text)


def test_people_in_the_plural():
    for text, completion in of_kind("plural"):
        assert all(words(s)[-1].endswith("ారు") for s in completion.rstrip(".").split(".")), completion
        assert not any(words(s)[-1].endswith("ారు") for s in text.rstrip(".").split(".")), text


def test_corrections_are_right_and_say_what_was_wrong():
    for text, completion in of_kind("correct-sentence"):
        first, reason = completion.split(". ", 1)
        wrong, right = words(text)[-1], words(first)[-1]
        assert wrong != right and words(text)[:-1] == words(first)[:-1]
        assert f"'{wrong}' కాదు, '{right}' అనాలి." in reason
        person = set(words(first)) & (WOMEN | MEN)
        thing = words(first)[0]
        if person:
            assert right.endswith("ింది" if person <= WOMEN else "ాడు"), completion
        elif thing in {pl for _, pl in rows("noun", "sg", "pl")}:
            assert right.endswith("ాయి"), completion
        else:
            assert thing in {sg for sg, _ in rows("noun", "sg", "pl")} and right.endswith("ింది"), completion


def test_pronouns_have_the_sex_of_the_name():
    for text, completion in of_kind("pronoun"):
        name = next(word for word in words(text) if word in WOMEN | MEN)
        pronouns = [word for word in words(completion) if re.match("అతను|అతని|అతన్ని|ఆమె", word)]
        assert len(pronouns) == 2 and all((p.startswith("ఆమె")) == (name in WOMEN) for p in pronouns), completion
        assert completion.count(name) == 1 and text.count(name) == 3


def test_the_writer_of_an_invitation_is_a_friend_of_the_right_sex():
    for _, completion in of_kind("invitation"):
        friend, writer = words(completion)[-2:]
        assert friend == ("స్నేహితురాలు" if writer in WOMEN else "స్నేహితుడు")


def test_names_in_cases_in_the_text():
    checked = 0
    for example in EVERY:
        for word in words(f"{task(example)} {example.completion}"):
            for suffix in ("కి", "కు", "ని", "ను"):
                name = word.removesuffix(suffix)
                if name != word and name in WOMEN | MEN:
                    assert word in (dative(name), accusative(name)), word
                    checked += 1
    assert checked > 1000


def test_the_word_out_of_line_is_of_another_group():
    groups = [{row["a"], row["b"], row["c"]} for row in TABLES["group"] + TABLES["other_group"]]
    for text, completion in of_kind("odd-one-out"):
        listing = text.split(", ")
        odd = re.search("'(.+?)'", completion)[1]
        rest = set(listing) - {odd}
        assert odd in listing and rest in groups, text
        assert any(odd in group and not rest & group for group in groups), text


def test_events_come_in_order():
    order = {row["t"]: [row["ai"], row["bi"], row["cp"]] for row in TABLES["process"]}
    for text, completion in of_kind("order-events"):
        work = re.search("చేసిన పని: (.+?)[.]", text)[1]
        places = [completion.index(step) for step in order[work]]
        assert places == sorted(places)


# --- golden ------------------------------------------------------------------------------------------------

GOLDEN = {
    "translate-to-english": (
        "### సూచన\nతెలుగు నుంచి ఆంగ్లానికి మార్చండి:\nసూర్యాస్తమయానికి ముందు తోటమాలి తోటలో మొక్కలకు నీళ్ళు పోసి అందరినీ ఆప్యాయంగా "
        "పలకరించాడు.\n\n### రచన\n",
        "Before sunset the gardener watered the plants in the garden and greeted everybody warmly.",
    ),
    "past-tense": (
        "### సూచన\nఈ వాక్యాన్ని భూతకాలంలో రాయండి.\nఈ రోజు అన్నపూర్ణ పక్షులకు గింజలు చల్లుతున్నది, గాయనులు మేడ మీద సంగీత సాధన "
        "చేస్తున్నారు.\n\n### రచన\n",
        "నిన్న అన్నపూర్ణ పక్షులకు గింజలు చల్లింది, గాయనులు మేడ మీద సంగీత సాధన చేశారు.",
    ),
    "reported-speech": (
        '### సూచన\nఎవరు ఎవరితో ఏం చెప్పారో పరోక్ష కథనంలో రాయండి.\n"నాకు మామిడిపండ్లు ఇష్టం" అని పూజారి మల్లికతో చెప్పాడు.\n\n### రచన\n',
        "తనకు మామిడిపండ్లు ఇష్టమని పూజారి మల్లికతో చెప్పాడు.",
    ),
    "correct-sentence": (
        "### సూచన\nవిద్యార్థి రాసిన ఈ వాక్యాన్ని సరిచేసి తప్పును వివరించండి.\nనిన్న ఉదయం వీరన్న తోటివారిని నవ్వించింది.\n\n### రచన\n",
        "నిన్న ఉదయం వీరన్న తోటివారిని నవ్వించాడు. 'వీరన్న' పురుషుడి పేరు, కాబట్టి 'నవ్వించింది' కాదు, 'నవ్వించాడు' అనాలి.",
    ),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden(kind):
    first = next(example for example in GENERIC[0] if example.kind == kind)
    assert (first.prompt, first.completion) == GOLDEN[kind]
