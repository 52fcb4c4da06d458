"""The prose: whole texts in their language without a number, some held out, none near another nor near the word problems."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import pytest

from xlnb.corpora import grammar, prose, sources, templates
from xlnb.corpora.prose import HELD_OUT_SPLITS, KINDS, PROSE_LANGUAGES, held_out_texts, pieces, written_examples
from xlnb.corpora.sources import load_corpus

EVERY = {code: (*pieces(code), *pieces(code, held_out=True)) for code in PROSE_LANGUAGES}
LETTERS = {"sw": "A-Za-z", "bn": "\u0980-\u09e5\u09f0-\u09ff", "te": "\u0c00-\u0c63\u0c70-\u0c7f"}
each = pytest.mark.parametrize("language", PROSE_LANGUAGES)


def texts(piece):
    """All that a piece has in its language."""
    return [piece.ask, piece.text, *(text for pair in piece.answered for text in pair)]


def grams(text, n=4):
    found = re.findall(r"[\u0980-\u09ff]+|[\u0c00-\u0c7f]+|[a-z']+|\d+", text.lower())
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def nearest(own, others):
    """The largest share of a text's runs of four words that one of the others has."""
    return max(len(own & other) for other in others) / max(1, len(own))


# --- what there is ---------------------------------------------------------------------------------------


def test_every_language_but_english_has_prose():
    assert set(PROSE_LANGUAGES) == set(templates.LANGUAGES) - {"en"} == set(LETTERS)


@each
def test_pieces_of_all_kinds_and_many_places(language):
    found = EVERY[language]
    assert len(found) >= 150
    assert set(KINDS) == {piece.kind for piece in found}
    assert len({piece.place for piece in found}) >= 7
    assert min(Counter(piece.kind for piece in found).values()) >= 10
    assert sum(bool(piece.english) for piece in found) >= len(found) / 2
    assert all(len(piece.answered) == 3 and piece.about for piece in found)
    for part in ("about", "ask", "text"):
        assert len({getattr(piece, part) for piece in found}) == len(found), f"{part} twice"


@each
def test_texts_are_of_good_length(language):
    least = {"sw": 38, "bn": 30, "te": 20}[language]  # Telugu says in a word what takes two in Swahili
    lengths = [len(piece.text.split()) for piece in EVERY[language]]
    assert min(lengths) >= least and max(lengths) <= 120
    assert all(len(piece.english.split()) >= 30 for piece in EVERY[language] if piece.english)
    answers = [len(answer.split()) for piece in EVERY[language] for _, answer in piece.answered]
    assert sum(n >= 4 for n in answers) > 0.95 * len(answers)


@each
def test_a_piece_teaches_to_write_it_and_to_answer(language):
    for piece in EVERY[language][:20]:
        first, *answers = written_examples(piece)
        assert (first.prompt, first.completion, first.kind) == (piece.ask, piece.text, piece.kind)
        assert [(e.prompt, e.completion) for e in answers] == [(f"{piece.text}\n{a}", b) for a, b in piece.answered]


# --- no numbers, the right language ----------------------------------------------------------------------


@each
def test_no_digits_and_nothing_to_calculate(language):
    for piece in EVERY[language]:
        for text in (*texts(piece), piece.english):
            assert not any(unicodedata.numeric(ch, None) is not None for ch in text), text
            assert not re.search(r"[=+*/%{}<>#]|\d", text), text
            assert not sources._has_calculation(text), text


@each
def test_labels_of_the_word_problems_do_not_stand_before_anything(language):
    labels = [*templates._language(language).labels.values(), *templates._language("en").labels.values()]
    labelled = re.compile(rf"(?:{'|'.join(labels)})\s*:", re.IGNORECASE)
    assert labelled.search(templates.prompt(templates.problems(language, "train", 1)[0]))
    final = [part for part in re.split(r"\{answer\}", grammar.read(f"{language}.yaml")["final"]) if len(part) > 3]
    for piece in EVERY[language]:
        for text in (*texts(piece), piece.english):
            assert not labelled.search(text) and "###" not in text, text
            assert not any(re.search(rf"(?:^|[.।?] ){re.escape(start)}\S+[.।]$", text) for start in final), text


@each
def test_the_script_is_the_languages_own(language):
    own = re.compile(f"[{LETTERS[language]}]")
    for piece in EVERY[language]:
        for text in texts(piece):
            foreign = {ch for ch in text if (ch.isalpha() or unicodedata.combining(ch)) and not own.match(ch)}
            assert not foreign, (foreign, text)
            assert unicodedata.is_normalized("NFC", text)
            assert text == text.strip() and not re.search(r"  |\s[,.?!;।]|(?<!\.)\.\.(?!\.)|\bNone\b", text), text
        assert piece.english.replace("—", "-").isascii() and "  " not in piece.english


def test_swahili_is_no_english():
    english = {"the", "and", "of", "is", "was", "with", "in", "to", "that", "for", "you", "it"}
    for piece in EVERY["sw"]:
        assert len(english & set(re.findall(r"[a-z]+", " ".join(texts(piece)).lower()))) <= 1, piece.text
        if piece.english:
            assert len(english & set(re.findall(r"[a-z]+", piece.english.lower()))) >= 3, piece.english


# --- held out --------------------------------------------------------------------------------------------


@each
def test_about_a_tenth_is_held_out_and_never_in_the_corpus(language):
    kept, held_out = pieces(language), pieces(language, held_out=True)
    assert 0.03 < len(held_out) / len(EVERY[language]) < 0.2
    corpus = load_corpus("prose", language)
    read = "\n".join(f"{example.prompt}\n{example.completion}" for example in corpus.examples)
    for piece in held_out:
        assert not any(text in read for text in (piece.text, piece.ask, piece.english) if text), piece.about
    answers = {answer for piece in kept for _, answer in piece.answered}
    assert not answers & {answer for piece in held_out for _, answer in piece.answered}
    assert all(piece.text in read and piece.ask in read for piece in kept)  # and where it is not held out, it is found
    # Nor does a text that is held out come near one that is not.
    near = [grams(piece.text) for piece in kept]
    assert max(nearest(grams(text.completion), near) for _, text in held_out_texts(language)) < 0.3


@each
def test_half_of_what_is_held_out_is_for_choosing_and_half_for_measuring(language):
    held_out = pieces(language, held_out=True)
    halves = [[piece for piece in held_out if piece.split == split] for split in HELD_OUT_SPLITS]
    assert sum(map(len, halves)) == len(held_out) and min(map(len, halves)) > len(held_out) / 3
    assert {piece.split for piece in pieces(language)} == {"train"}
    for split, half in zip(HELD_OUT_SPLITS, halves, strict=True):
        written = {example.completion for piece in half for example in written_examples(piece)}
        mine = [text.completion for part, text in held_out_texts(language) if part == split]
        assert set(mine) <= written and len(mine) > 45


@each
def test_what_is_held_out_is_decided_by_the_text_alone(language, monkeypatch):
    before = {piece.about for piece in pieces(language, held_out=True)}
    entries = grammar.read(f"prose-{language}.yaml")["pieces"]
    monkeypatch.setattr(prose.grammar, "read", lambda name: {"pieces": entries[::-1][: len(entries) // 2]})
    pieces.cache_clear()
    after = {piece.about for piece in pieces(language, held_out=True)}
    pieces.cache_clear()
    assert after == before & {entry["about"] for entry in entries[::-1][: len(entries) // 2]} and after


# --- the corpus ------------------------------------------------------------------------------------------


@each
def test_the_corpus_has_every_example_once(language):
    corpus = load_corpus("prose", language)
    kept = pieces(language)
    translated = sum(bool(piece.english) for piece in kept)
    kinds = Counter(example.kind for example in corpus.examples)
    assert kinds["to-target"] == kinds["to-english"] == translated and kinds["question"] == 3 * len(kept)
    assert sum(kinds[kind] for kind in KINDS) == len(kept)
    assert corpus.counts["kept"] == corpus.counts["read"] == len(corpus.examples) == kinds.total()
    assert len({(example.prompt, example.completion) for example in corpus.examples}) == len(corpus.examples)
    flaws = [sources._flaw(example, language, "language", 2000) for example in corpus.examples]
    assert not any(flaws), "what would be dropped of another corpus"
    assert load_corpus("prose", language, 25).examples == corpus.examples[:25]
    other = load_corpus("prose", language, seed=1)
    assert other.examples != corpus.examples and set(other.examples) == set(corpus.examples)


# --- near duplicates -------------------------------------------------------------------------------------


@each
def test_no_piece_is_nearly_another(language):
    found = [(piece.about, grams(piece.text)) for piece in EVERY[language]]
    for place, (about, own) in enumerate(found):
        share = nearest(own, [other for _, other in found[:place] + found[place + 1 :]])
        assert share < 0.15, about  # 0.03 when this was written
    # A piece with every tenth word left out is found.
    words = EVERY[language][0].text.split()
    fewer = grams(" ".join(word for i, word in enumerate(words) if i % 10 != 9))
    assert nearest(fewer, [own for _, own in found]) > 0.5


@each
def test_no_piece_is_nearly_a_word_problem(language):
    problems = [p for split in templates.SPLITS for p in templates.problems(language, split, 400)]
    known = set().union(*(grams(f"{p.question} {p.solution}") for p in problems))
    for piece in EVERY[language]:
        for text in texts(piece):
            own = grams(text)
            assert len(own & known) <= 0.1 * max(10, len(own)), (
                text
            )  # no run of four words in common when this was written
    assert nearest(grams(problems[0].question), [known]) == 1
