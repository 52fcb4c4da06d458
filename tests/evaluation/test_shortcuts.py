"""Shortcuts: numbers tell nothing, words not enough; and a reader gets right what is given away."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from xlnb.corpora import templates
from xlnb.corpora.templates import LANGUAGES, problems, twins
from xlnb.errors import RequestError
from xlnb.evaluation import shortcuts as module
from xlnb.evaluation.shortcuts import APART, ASKED, EXACT, FIRST, NEAREST, NUMBERS, READERS, WORDS, recipe, shortcuts

SIGNS = "+-*/"


def shares(language, n=192, trained=1500, **options):
    """What readers get, by reader and what is asked."""
    found = shortcuts(language, n=n, trained=trained, **options)
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    return found.set_index(["reader", "asked"])["value"]


# --- the problems as they are ----------------------------------------------------------------------------


def test_numbers_alone_tell_little_and_never_a_problem_from_its_twin():
    # As asked in every language: all state the same numbers in the same order.
    found = shares("en", n=480, trained=3000, readers=[NUMBERS])
    assert found[NUMBERS, FIRST] <= 0.35 and found[NUMBERS, EXACT] <= 0.10
    assert found[NUMBERS, APART] == 0
    for language in LANGUAGES:
        for one, other in ((problems, problems), (twins, twins), (problems, twins)):
            ours, english = (
                module._of_numbers(one(language, "scored", 96)),
                module._of_numbers(other("en", "scored", 96)),
            )
            assert np.array_equal(ours, english)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_alone_are_not_enough(language):
    found = shares(language, readers=[WORDS])
    assert found[WORDS, FIRST] <= 0.5 and found[WORDS, EXACT] <= 0.2 and found[WORDS, APART] <= 0.5


def test_every_reader_is_asked_everything():
    found = shortcuts("sw", "development", n=48, trained=200)
    assert list(zip(found["reader"], found["asked"], strict=True)) == [(r, a) for r in READERS for a in ASKED]
    assert found["value"].between(0, 1).all()
    with pytest.raises(ValueError, match="No reader 'letters'"):
        shortcuts("sw", n=48, trained=200, readers=["letters"])


# --- recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", templates.WITH_TWINS)
def test_a_problem_is_solved_by_its_recipe_and_not_by_that_of_its_twin(split):
    n = 2 * len(templates._frames(split))
    for one, twin in zip(problems("sw", split, n), twins("sw", split, n), strict=True):
        assert module._answer(recipe(one), one) == one.answer
        assert module._answer(recipe(twin), one) == twin.answer != one.answer
        assert recipe(one)[0][1] == one.expressions[0].split()[1] != recipe(twin)[0][1]


def test_a_recipe_that_asks_for_a_number_that_is_not_there_has_no_answer():
    one = next(p for p in problems("en", "scored", 48) if len(p.numbers) == 2)
    assert module._answer((("n0", "+", "n2"),), one) is None
    assert module._answer((("n0", "+", "n1"),), one) == sum(one.numbers)


# --- planted faults --------------------------------------------------------------------------------------


def planted(monkeypatch, given_away):
    """Problems whose questions give their first operation away."""

    def spoiled(make):
        return lambda *asked: tuple(replace(p, question=given_away(p)) for p in make(*asked))

    monkeypatch.setattr(module.templates, "problems", spoiled(problems))
    monkeypatch.setattr(module.templates, "twins", spoiled(twins))


def first(problem):
    return problem.expressions[0].split()[1]


def test_a_reader_of_words_gets_right_what_a_word_gives_away(monkeypatch):
    names = dict(zip(SIGNS, ("plus", "minus", "times", "by"), strict=True))
    planted(monkeypatch, lambda p: f"{names[first(p)]} {names[first(p)]} {p.question}")
    found = shares("sw", n=96, readers=[WORDS, NUMBERS])
    assert found[WORDS, FIRST] > 0.9 and found[WORDS, APART] > 0.9
    assert found[NUMBERS, FIRST] <= 0.4 and found[NUMBERS, APART] == 0  # and one who does not see the word does not


def test_a_reader_of_numbers_gets_right_what_a_number_gives_away(monkeypatch):
    planted(monkeypatch, lambda p: f"{5000 + 1000 * SIGNS.index(first(p))} {p.question}")
    found = shares("sw", n=96, readers=[NUMBERS])
    assert found[NUMBERS, FIRST] > 0.9 and found[NUMBERS, APART] > 0.9


def test_the_nearest_question_is_found(monkeypatch):
    """Where the scored questions are training questions with other numbers, the nearest one tells all."""
    asked = {}

    def same(language, split, n, seed=0):
        return asked.setdefault((language, n), problems(language, "train", n))

    def others(language, split, n, seed=0):
        return tuple(
            replace(p, expressions=(p.expressions[0].translate(str.maketrans(SIGNS, "-+/*")),))
            for p in same(language, split, n)
        )

    monkeypatch.setattr(module.templates, "problems", same)
    monkeypatch.setattr(module.templates, "twins", others)
    found = shares("en", n=100, trained=600, readers=[NEAREST])
    assert found[NEAREST, FIRST] > 0.95 and found[NEAREST, EXACT] > 0.95
    assert found[NEAREST, APART] == 0  # their texts are the same


def test_words_are_read_without_their_numbers():
    for p in problems("te", "scored", 48):
        assert not re.search(r"\d", module._masked(p)) and module._masked(p).count("#") == len(p.numbers)


def test_many_frames_are_english_alone_and_teach_other_readers():
    with pytest.raises(RequestError, match="in English alone, not in 'sw'"):
        shortcuts("sw", n=24, many_frames=True)
    few, many = (
        shortcuts("en", "development", 48, 600, readers=(NUMBERS,), many_frames=which).set_index("asked")["value"]
        for which in (False, True)
    )
    assert (few != many).any() and many[APART] == 0
