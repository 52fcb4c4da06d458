"""Twins: the same people, things and numbers in almost the same words, and another operation."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

import pytest

from xlnb.corpora import grammar, templates
from xlnb.corpora.templates import LANGUAGES, WITH_TWINS, problems, twins

ROUNDS = 3
SHARED = grammar.read("frames.yaml")
PAIRED = {frame["id"]: frame["twin"]["id"] for frame in SHARED["frames"] if "twin" in frame}
BOTH_WAYS = PAIRED | {twin: frame for frame, twin in PAIRED.items()}

each = pytest.mark.parametrize(("language", "split"), [(code, split) for code in LANGUAGES for split in WITH_TWINS])


def count(split):
    return ROUNDS * len(templates._frames(split))


def pairs(language, split):
    return list(zip(problems(language, split, count(split)), twins(language, split, count(split)), strict=True))


def common(one, other):
    """The share of the longer text's words that both have, each as often as in both."""
    a, b = one.split(), other.split()
    return (Counter(a) & Counter(b)).total() / max(len(a), len(b))


def test_pairs_of_one_and_of_two_steps():
    for split, least in (("development", 12), ("scored", 24)):
        frames = [frame for frame in SHARED["frames"] if frame["split"] == split]
        assert len(frames) >= least and all("twin" in frame for frame in frames)
        steps = Counter(len(frame["steps"]) for frame in frames)
        assert min(steps[1], steps[2]) >= least / 4
        # Each operation begins as many as it can with each other one on the other side.
        firsts = {frozenset(one["steps"][0].split()[1] for one in (frame, frame["twin"])) for frame in frames}
        assert set.union(*map(set, firsts)) == set("+-*/") and len(firsts) == 6


@each
def test_a_twin_has_the_same_numbers_in_the_same_places_and_another_first_operation(language, split):
    for one, twin in pairs(language, split):
        assert twin.frame == BOTH_WAYS[one.frame] and twin.id == f"{one.id}-twin"
        assert (twin.language, twin.split, twin.numbers) == (one.language, one.split, one.numbers)
        stated = [re.findall(r"\d+", p.question) for p in (one, twin)]
        assert stated[0] == stated[1] == list(map(str, one.numbers))
        assert len(twin.expressions) == len(one.expressions)
        assert one.expressions[0].split()[1] != twin.expressions[0].split()[1]
        assert one.answer != twin.answer and one.question != twin.question


@each
def test_a_twin_has_the_same_people_and_things_in_the_same_order(language, split):
    words, rows = templates._language(language), grammar.read(f"{language}.yaml")["things"]
    names = {name: words.names[name].get("base", "") or words.names[name][""] for name in SHARED["names"][split]}
    deals = templates._deals(split, count(split), 0)
    for (one, twin), deal in zip(pairs(language, split), deals, strict=True):
        for p in (one, twin):
            # In the order in which they come first; no name begins as another does.
            places = {name: p.question.find(base) for name, base in names.items() if base in p.question}
            assert set(places) == set(deal.people), p
        firsts = [sorted(deal.people, key=lambda name: p.question.find(names[name])) for p in (one, twin)]
        assert firsts[0] == firsts[1], (one, twin)
        for thing in deal.things:
            forms = {form for name, form in rows[thing].items() if name != "class"}
            assert all(any(form in p.question for form in forms) for p in (one, twin)), (one, twin)


@each
def test_a_twin_reads_nearly_the_same(language, split):
    found = pairs(language, split)
    shares = [common(one.question, twin.question) for one, twin in found]
    assert min(shares) > 0.5 and median(shares) > 0.7
    # No other frame's problem comes as near with the words that are not numbers.
    masked = {one.frame: re.sub(r"\d+", "#", one.question) for one, _ in found}
    for frame, text in masked.items():
        nearest = max((other for other in masked if other != frame), key=lambda other: common(text, masked[other]))
        assert nearest == BOTH_WAYS[frame], (frame, nearest)


def test_twins_come_with_their_problems_whatever_the_language_and_the_seed():
    for split in WITH_TWINS:
        n = count(split)
        columns = [[(p.id, p.expressions, p.answer) for p in twins(language, split, n, 5)] for language in LANGUAGES]
        assert all(column == columns[0] for column in columns)
        assert twins("sw", split, 7, 5) == twins("sw", split, n, 5)[:7]
        assert {p.question for p in twins("sw", split, n, 5)} != {p.question for p in twins("sw", split, n, 6)}


def test_the_twin_of_a_twin_is_the_problem():
    """Either frame of a pair has its own problems; with the numbers of the other it would be that one's twin."""
    for split in WITH_TWINS:
        asked, other = problems("en", split, count(split)), twins("en", split, count(split))
        frames = {frame.id: frame for frame in templates._frames(split)}
        for one, twin in zip(asked, other, strict=True):
            values = dict(zip(frames[twin.frame].stated, twin.numbers, strict=True))
            found, good = templates._results(frames[one.frame], values)
            assert good and found[frames[one.frame].steps[-1].result] == one.answer
