"""The numbers of the word problems tell nothing: one pool for all frames that state as many, against a plain reference."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict

import pytest
from scipy.stats import chisquare

from xlnb.corpora import grammar, templates
from xlnb.corpora.templates import SIZES, SPLITS, english_problems, numbers_split, problems

COUNTS = (2, 3, 4)
SMALL, MIDDLE, BIG = range(2, 13), range(13, 100), range(2, 301)
MOST = 1200


def frames_of(file):
    """The frames of a file, twins too: their split, the sizes of their numbers by name, their steps."""
    for frame in grammar.read(file)["frames"]:
        for steps in (frame["steps"], *([frame["twin"]["steps"]] if "twin" in frame else [])):
            yield frame.get("split", "train"), frame["numbers"], [step.split() for step in steps]


FRAMES = list(frames_of("frames.yaml"))
ENGLISH = list(frames_of("english-frames.yaml"))


def orders(sizes, numbers):
    """Every way to give (big, small, small, middle) to variables of these sizes; any takes every one."""
    for order in itertools.permutations(zip(SIZES, numbers, strict=False)):
        if all(wanted in (size, "any") for (size, _), wanted in zip(order, sizes.values(), strict=True)):
            yield dict(zip(sizes, (number for _, number in order), strict=True))


def fits(values, steps):
    """Whether these numbers make a problem: whole results from 2 to 1200, and nothing comes twice."""
    known = dict(values)
    for i, (left, sign, right) in enumerate(steps, 1):
        a, b = known[left], known[right]
        if sign == "/" and a % b:
            return False
        known[f"s{i}"] = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if not 2 <= known[f"s{i}"] <= MOST:
            return False
    return len(set(known.values())) == len(known)


def serves_all(numbers, frames):
    return all(fits(values, steps) for sizes, steps in frames for values in orders(sizes, numbers))


def different(frames, count):
    """The frames that state so many numbers, each kind of calculation once."""
    found = {repr((sizes, steps)): (sizes, steps) for _, sizes, steps in frames if len(sizes) == count}
    return list(found.values())


# --- one pool --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
def test_every_tuple_of_the_pool_serves_every_frame_in_every_order(count):
    pool = templates._pool(count)
    frames = different(FRAMES, count)
    assert len(set(pool)) == len(pool) > 300 and len(frames) >= 20
    for numbers in pool if count < 4 else random.Random(0).sample(pool, 2000):
        big, *smalls = numbers[:3]
        assert big in BIG and all(small in SMALL and big % small == 0 for small in smalls), numbers
        assert smalls == sorted(smalls, reverse=True) and all(number in MIDDLE for number in numbers[3:])
        assert serves_all(numbers, frames), numbers


@pytest.mark.parametrize("count", COUNTS)
def test_nothing_that_serves_every_frame_is_missing_from_the_pool(count):
    sides = [BIG, SMALL, SMALL, MIDDLE][:count]
    candidates = [numbers for numbers in itertools.product(*sides[:3]) if all(numbers[0] % n == 0 for n in numbers[1:])]
    candidates = [numbers for numbers in candidates if count == 2 or numbers[1] > numbers[2]]
    rng = random.Random(0)
    if count == 4:
        candidates = [(*rng.choice(candidates), rng.choice(MIDDLE)) for _ in range(3000)]
    pool, frames = set(templates._pool(count)), different(FRAMES, count)
    outside = 0
    for numbers in candidates:
        assert (numbers in pool) == serves_all(numbers, frames), numbers
        outside += numbers not in pool
    assert outside > 50, "the frames should exclude some"


@pytest.mark.parametrize(
    "steps", ["b / a", "a * a", "b - a", "b + c, s1 - c"]
)  # broken, too much, too little, a number again
def test_a_tuple_that_one_frame_cannot_take_is_not_served(steps):
    frames, numbers = different(FRAMES, 3), (60, 3, 2)
    assert serves_all(numbers, frames)
    wrong = {"a": "big", "b": "small", "c": "small"}, [step.split() for step in steps.split(", ")]
    assert not serves_all(numbers, [*frames, wrong])


def test_english_frames_take_most_of_the_pool():
    for count in COUNTS:
        pool = random.Random(1).sample(templates._pool(count), 200)
        for sizes, steps in different(ENGLISH, count):
            served = [fits(values, steps) for numbers in pool for values in orders(sizes, numbers)]
            assert sum(served) / len(served) > 0.7, steps


# --- the same distribution -------------------------------------------------------------------------------

DRAWN, BINS = 600, 6


def drawn(frame):
    """How often a frame draws numbers of each sixth of the tuples it may have, in their order; and how often it should."""
    tuples = sorted(tuple(sorted(numbers)) for numbers in templates._tuples(len(frame.sizes), frame.split))
    bins = {numbers: BINS * rank // len(tuples) for rank, numbers in enumerate(tuples)}
    names = tuple(grammar.read("frames.yaml")["names"][frame.split])
    rng = random.Random(frame.id)
    deals = [templates._deal(frame, names, set(), rng) for _ in range(DRAWN)]
    counts = Counter(bins[tuple(sorted(deal.values[name] for name in frame.stated))] for deal in deals)
    sizes = Counter(bins.values())
    return [counts[i] for i in range(BINS)], [DRAWN * sizes[i] / len(tuples) for i in range(BINS)]


@pytest.mark.parametrize("split", SPLITS)
def test_frames_that_state_as_many_numbers_have_the_same_distribution_of_them(split):
    frames = templates._frames(split)
    for frame in frames:
        counts, expected = drawn(frame)
        assert chisquare(counts, expected).pvalue > 1e-3 / len(frames), frame.id


def test_a_frame_with_numbers_of_its_own_would_be_seen(monkeypatch):
    frame = templates._frames("scored")[0]
    results = templates._results
    monkeypatch.setattr(
        templates, "_results", lambda frame, values: (*results(frame, values)[:1], max(values.values()) < 180)
    )
    counts, expected = drawn(frame)
    assert chisquare(counts, expected).pvalue < 1e-9


@pytest.mark.parametrize("split", SPLITS)
def test_a_third_of_the_frames_state_a_number_that_no_step_uses(split):
    frames = [(sizes, steps) for own, sizes, steps in FRAMES if own == split]
    unused = [not set(sizes) <= {name for left, _, right in steps for name in (left, right)} for sizes, steps in frames]
    assert 0.25 <= sum(unused) / len(frames) <= 0.4


@pytest.mark.parametrize("split", ["train", "development", "scored"])
def test_how_many_numbers_there_are_tells_neither_the_steps_nor_the_first_operation(split):
    steps, signs = defaultdict(set), defaultdict(set)
    for own, sizes, calculation in FRAMES:
        if own == split:
            steps[len(sizes)].add(len(calculation))
            signs[len(sizes)].add(calculation[0][1])
    assert steps == {2: {1, 2}, 3: {1, 2}, 4: {2, 3}}
    assert signs[2] == signs[3] == set("+-*/") and len(signs[4]) >= 3


def test_english_numbers_are_of_the_split_train():
    found = {tuple(sorted(p.numbers)) for p in english_problems(4000)}
    assert {numbers_split(numbers) for numbers in found} == {"train"} and len(found) > 500
    for split in ("few-shot", "development", "scored"):
        assert not found & {tuple(sorted(p.numbers)) for p in problems("en", split, 1000)}
