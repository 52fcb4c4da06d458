"""Grade-school word problems as a grammar, parallel in every language, and a generic language set.

`data/frames.yaml` says what happens in a problem (numbers, steps, who and what), `data/<language>.yaml`
says it in a language; a language is added by adding its file. Frames, names, things and numbers are
split into train, few-shot, development and scored, so no scored problem shares any of them with training.

The numbers tell nothing: frames that state as many of them draw them from one pool, each tuple of which serves every one of
these frames. Each development and scored frame has a twin, the same but for a few words and the operation.

>>> swahili, english = problems("sw", "scored", 1)[0], problems("en", "scored", 1)[0]
>>> swahili.numbers == english.numbers, swahili.expressions == english.expressions
(True, True)
"""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar

from xlnb.corpora import Example, grammar
from xlnb.corpora.grammar import Forms, Template
from xlnb.errors import RequestError, known, whole_number

SPLITS = ("train", "few-shot", "development", "scored")
WITH_TWINS = ("development", "scored")

# Codes of the data files that are languages, English (the source) first.
_CODES = [match[1] for name in grammar.data_names() if (match := re.fullmatch(r"([a-z]{2,3})\.yaml", name))]
LANGUAGES: tuple[str, ...] = tuple(sorted(_CODES, key=lambda code: (code != "en", code)))
GENERIC_LANGUAGES: tuple[str, ...] = tuple(code for code in LANGUAGES if f"generic-{code}.yaml" in grammar.data_names())

# Limits that hold for every frame. Numbers and results of a problem all differ, so that neither copying a
# number nor mixing up two of them is right by accident.
_RESULTS = range(2, 1201)
_SMALL, _MIDDLE, _MOST = range(2, 13), range(13, 100), 300
SIZES = ("big", "small", "small", "middle")  # of the numbers a problem states; three of them are big, small and small
ANY = "any"
# Percent of number tuples that go to each split, in the order of SPLITS.
_SHARES = (50, 10, 15, 25)
_SPLIT_OF_SHARE = [split for split, percent in zip(SPLITS, _SHARES, strict=True) for _ in range(percent)]
_TRIES = 5000  # draws for a problem before the search counts as long

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv,
}  # fmt: skip
Values = dict[str, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """A word problem in one language; `id`, `frame`, `answer`, `expressions`, `numbers` are the same in all.

    `expressions` has one entry a step, `numbers` are those the question states, in the order of `frames.yaml`.
    """

    id: str
    frame: str
    language: str
    split: str
    question: str
    solution: str
    answer: int
    expressions: tuple[str, ...]
    numbers: tuple[int, ...]


class _Step(NamedTuple):
    left: str
    sign: str
    right: str
    result: str


@dataclass(frozen=True)
class _Frame:
    """A frame compiled: who and what is in it, how large its numbers are, what is calculated."""

    id: str
    split: str
    people: tuple[str, ...]  # slots
    things: tuple[tuple[str, tuple[str, ...]], ...]  # slot, the things it may take
    sizes: tuple[tuple[str, str], ...]  # variable and size, in the order in which the question states them
    steps: tuple[_Step, ...]
    twin: str = ""

    @cached_property
    def stated(self) -> tuple[str, ...]:
        """The variables that the question states."""
        return tuple(name for name, _ in self.sizes)


class _Deal(NamedTuple):
    """A problem before it has a language."""

    frame: _Frame
    people: tuple[str, ...]
    things: tuple[str, ...]
    values: Values


class _Wording(NamedTuple):
    """A frame in one language; the solution includes the final sentence."""

    question: Template
    solution: Template


class _Language(NamedTuple):
    labels: Forms
    names: Mapping[str, Forms]
    things: Mapping[str, Forms]
    wordings: Mapping[str, _Wording]


def _step(text: str, result: str) -> _Step:
    match text.split():
        case left, sign, right if sign in OPERATIONS:
            return _Step(left, sign, right, result)
    raise RequestError(f"step {text!r} in frames.yaml must be two names with + - * or / between them")


def _frame(entry: Mapping[str, Any], things: Mapping[str, Any]) -> _Frame:
    split = entry["split"]
    known(f"split of frame {entry['id']}", split, SPLITS)
    allowed = tuple(
        (slot, tuple(thing for thing, kinds in things[split].items() if kind in kinds))
        for slot, kind in (entry.get("things") or {}).items()
    )
    sizes = tuple(entry["numbers"].items())
    given = sorted(size for _, size in sizes)
    if given not in ([ANY] * len(sizes), sorted(SIZES[: len(sizes)])):
        raise RequestError(
            f"frame {entry['id']} in frames.yaml: its numbers are {', '.join(given)}, not {SIZES[: len(sizes)]}"
        )
    steps = tuple(_step(text, f"s{i}") for i, text in enumerate(entry["steps"], 1))
    return _Frame(entry["id"], split, tuple(entry.get("people") or ()), allowed, sizes, steps, entry.get("twin", ""))


def _with_twin(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an entry of frames.yaml and, where it has one, its twin: the same with other steps."""
    twin = entry.get("twin")
    yield {**entry, "twin": twin["id"] if twin else ""}
    if twin:
        yield {**entry, **twin, "twin": entry["id"]}


@cache
def _frames(split: str) -> tuple[_Frame, ...]:
    known("split", split, SPLITS)
    raw = grammar.read("frames.yaml")
    entries = (entry for entry in raw["frames"] if entry["split"] == split)
    return tuple(_frame(one, raw["things"]) for entry in entries for one in _with_twin(entry))


@cache
def _english_frames() -> Mapping[str, tuple[_Frame, tuple[_Wording, ...]]]:
    """The frames that English alone has, for training, and their wordings, by id."""
    frames = {}
    stop = grammar.read("en.yaml")["final"]
    for entry in grammar.read("english-frames.yaml")["frames"]:
        frame = _frame({**entry, "split": "train"}, {"train": {}})
        frames[frame.id] = frame, tuple(_wording(wording, stop) for wording in entry["wordings"])
    return frames


def numbers_split(numbers: tuple[int, ...]) -> str:
    """The split that a problem's numbers belong to, whatever the frame and whatever their order.

    The sorted numbers, written in decimal with commas between, are hashed with SHA-256; the first four bytes as a big-endian
    integer modulo 100 choose train (0 to 49), few-shot (to 59), development (to 74) or scored.

    >>> numbers_split((12, 5)) == numbers_split((5, 12))
    True
    """
    digest = hashlib.sha256(",".join(map(str, sorted(numbers))).encode()).digest()
    return _SPLIT_OF_SHARE[int.from_bytes(digest[:4], "big") % 100]


def _results(frame: _Frame, values: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The values with those of the steps, and whether they make a problem; of whole columns of numbers, too."""
    found, good = dict(values), True
    for step in frame.steps:
        left, right = found[step.left], found[step.right]
        result = OPERATIONS[step.sign](left, right)
        good = good & (result >= _RESULTS.start) & (result < _RESULTS.stop)
        if step.sign == "/":
            good = good & (left % right == 0)
        for other in found.values():
            good = good & (result != other)
        found[step.result] = result
    return found, good


def _orders(frame: _Frame, numbers: Sequence[T]) -> Iterator[dict[str, T]]:
    """Every way to give (big, small, small, middle), as many as there are, to a frame's variables."""
    if frame.sizes[0][1] == ANY:
        yield from (dict(zip(frame.stated, order, strict=True)) for order in itertools.permutations(numbers))
        return
    for order in itertools.permutations(range(len(numbers))):
        if all(SIZES[place] == size for place, (_, size) in zip(order, frame.sizes, strict=True)):
            yield {name: numbers[place] for place, name in zip(order, frame.stated, strict=True)}


@cache
def _pool(count: int) -> tuple[tuple[int, ...], ...]:
    """All (big, small, small, middle), or the first so many of these, that every frame that states as many can take."""
    import numpy as np

    candidates: list[tuple[int, ...]] = []
    for second in _SMALL:
        for third in _SMALL if count > 2 else (1,):
            if third < second:  # the larger of the two comes first
                common = math.lcm(second, third)
                top = min(_MOST, _RESULTS.stop // second)
                candidates += [
                    (big, second, third)[:count] for big in range(common, top + 1, common) if big >= 2 * second
                ]
    if count == len(SIZES):
        candidates = [(*numbers, middle) for numbers in candidates for middle in _MIDDLE if middle != numbers[0]]
    columns = np.array(candidates).T
    good = np.ones(len(candidates), dtype=bool)
    patterns = {
        (frame.sizes, frame.steps): frame for split in SPLITS for frame in _frames(split) if len(frame.sizes) == count
    }
    for frame in patterns.values():
        for values in _orders(frame, list(columns)):
            good &= _results(frame, values)[1]
    return tuple(numbers for numbers, fits in zip(candidates, good, strict=True) if fits)


@cache
def _by_split(count: int) -> dict[str, list[tuple[int, ...]]]:
    """The pool, each tuple in the split that may use it."""
    found: dict[str, list[tuple[int, ...]]] = {split: [] for split in SPLITS}
    for numbers in _pool(count):
        found[numbers_split(numbers)].append(numbers)
    return found


def _tuples(count: int, split: str) -> list[tuple[int, ...]]:
    return _by_split(count)[split]


@cache
def _capacity(frame: _Frame) -> int:
    """How many different problems a frame can give in its split."""
    count = len(frame.sizes)
    numbers = len(_tuples(count, frame.split)) * sum(1 for _ in _orders(frame, range(count)))
    people = math.perm(len(grammar.read("frames.yaml")["names"][frame.split]), len(frame.people))
    choices = itertools.product(*(things for _, things in frame.things))
    things = sum(len(set(choice)) == len(choice) for choice in choices)
    return numbers * people * things


def _at_most(split: str) -> int:
    """How many different problems a split has."""
    return sum(map(_capacity, _frames(split)))


def _too_many(split: str, n: int) -> RequestError:
    return RequestError(
        f"n = {n} is too much for split {split!r}: its {len(_frames(split))} frames have at most {_at_most(split)} different "
        "problems, the last of them found only by long search"
    )


@lru_cache(maxsize=16)  # the same for every language
def _deals(split: str, n: int, seed: int) -> tuple[_Deal, ...]:
    """The first n problems of a split, without a language; a longer run starts with the shorter one."""
    frames = _frames(split)
    # Counting what there is needs every pool, so it is done ahead only where n is near what could be too much.
    if n > 10_000 * len(frames) and n > _at_most(split):
        raise _too_many(split, n)
    found = tuple(itertools.islice(_dealt(frames, random.Random(f"xlnb templates {split} {seed}")), n))
    if len(found) < n:
        raise _too_many(split, n)
    return found


def _dealt(frames: Iterable[_Frame], rng: random.Random) -> Iterator[_Deal]:
    """Yield problems, the frames in balanced rotation, each as long as it has new ones."""
    left = list(frames)
    names = tuple(grammar.read("frames.yaml")["names"][left[0].split])
    seen: set[tuple] = set()
    while left:
        # The whole round is shuffled even if it is read in part alone: that keeps prefixes stable.
        for frame in grammar.sample(rng, left, len(left)):
            if deal := _deal(frame, names, seen, rng):
                yield deal
            else:
                left.remove(frame)  # it has no more: the others go on without it


def _deal(frame: _Frame, names: tuple[str, ...], seen: set[tuple], rng: random.Random) -> _Deal | None:
    pool = _tuples(len(frame.sizes), frame.split)
    for _ in range(_TRIES):
        values = _draw(frame, grammar.pick(rng, pool), rng)
        people = grammar.sample(rng, names, len(frame.people))
        things = tuple(grammar.pick(rng, allowed) for _, allowed in frame.things)
        key = (frame.id, people, things, *values.values())
        if len(set(things)) == len(things) and key not in seen:
            found, good = _results(frame, values)
            if good:
                seen.add(key)
                return _Deal(frame, people, things, found)
    return None


def _draw(frame: _Frame, numbers: tuple[int, ...], rng: random.Random) -> Values:
    """Give numbers to a frame's variables: any to any, or in random order to those of one size."""
    if frame.sizes[0][1] == ANY:
        return dict(zip(frame.stated, grammar.sample(rng, numbers, len(numbers)), strict=True))
    smalls = iter(numbers[1:3] if rng.random() < 0.5 else numbers[2:0:-1])
    return {
        name: numbers[0] if size == "big" else numbers[3] if size == "middle" else next(smalls)
        for name, size in frame.sizes
    }


@cache
def _language(code: str) -> _Language:
    """A language file compiled and checked: every slot of every frame must be fillable."""
    known("language", code, LANGUAGES)
    raw, shared = grammar.read(f"{code}.yaml"), grammar.read("frames.yaml")
    classes = raw.get("classes") or {}
    ids = [name for split in SPLITS for name in shared["names"][split]]
    # `as written`: the names of frames.yaml are good in this language too.
    rows = dict.fromkeys(ids) if raw["names"] == "as written" else raw["names"]
    names = {name: grammar.inflect(row, classes, base=name) for name, row in rows.items()}
    things = {thing: grammar.inflect(row, classes) for thing, row in raw["things"].items()}
    wordings = {}
    for frame_id, entry in raw["frames"].items():
        wordings[frame_id] = _wording(entry, raw["final"])
    language = _Language(raw["labels"], names, things, wordings)
    for split in SPLITS:
        for frame in _frames(split):
            _check_wording(code, frame, language, tuple(shared["names"][split]))
    return language


def _wording(entry: Mapping[str, Any], final: str) -> _Wording:
    """A question and its solution: of each step the equation first, then the sentence that says what its result is.

    The equation comes first so that no word of the solution gives away its operation: it is read off the question or guessed.
    """
    steps = [f"{{equation{i}}}{final[-1]} {sentence}" for i, sentence in enumerate(entry["steps"], 1)]
    solution = " ".join([*steps, final])
    return _Wording(grammar.compile_template(entry["question"]), grammar.compile_template(solution))


def _check_wording(code: str, frame: _Frame, language: _Language, names: tuple[str, ...]) -> None:
    where = f"{code}.yaml, frame {frame.id}"
    if frame.id not in language.wordings:
        raise RequestError(f"{where}: not there")
    question, solution = language.wordings[frame.id]
    slots = {slot for slot, _ in question.keys}
    expected = {*frame.people, *frame.stated, *(slot for slot, _ in frame.things)}
    if slots != expected:
        raise RequestError(f"{where}: question slots are {sorted(slots)}, should be {sorted(expected)}")
    results = [slot for slot, _ in solution.keys if slot.isdigit()]
    if results != [str(i) for i in range(1, len(frame.steps) + 1)]:
        raise RequestError(f"{where}: the results are {results}, of {len(frame.steps)} steps")
    equations = [f"equation{i}" for i in results]
    numbers = {slot: {"": "2"} for slot in (*frame.stated, *results, *equations, "answer")}
    fillers = [(slot, language.names, names) for slot in frame.people]
    fillers += [(slot, language.things, allowed) for slot, allowed in frame.things]
    for slot, rows, ids in fillers:
        for name in ids:
            if name not in rows:
                raise RequestError(f"{where}: slot {slot} may be {name}, which the file does not have")
    for i in range(max([len(ids) for _, _, ids in fillers], default=1)):
        binding = numbers | {slot: rows[ids[i % len(ids)]] for slot, rows, ids in fillers}
        gap = grammar.missing(question, binding) or grammar.missing(solution, binding)
        if gap:
            who = {slot: ids[i % len(ids)] for slot, _, ids in fillers}
            raise RequestError(f"{where}: nothing to put in {{{gap}}} (with {who})")


def _problem(index: int, deal: _Deal, code: str, language: _Language, wording: _Wording | None = None) -> Problem:
    frame, values = deal.frame, deal.values
    binding: dict[str, Forms] = {name: _number(values[name]) for name in frame.stated}
    binding.update(zip(frame.people, [language.names[name] for name in deal.people], strict=True))
    binding.update(
        zip([slot for slot, _ in frame.things], [language.things[name] for name in deal.things], strict=True)
    )
    expressions = []
    for i, step in enumerate(frame.steps, 1):
        expression, result = f"{values[step.left]} {step.sign} {values[step.right]}", values[step.result]
        expressions.append(expression)
        binding[str(i)] = _number(result)
        binding[f"equation{i}"] = {"": f"{expression} = {result}"}
    answer = values[frame.steps[-1].result]
    binding["answer"] = _number(answer)
    templates = wording or language.wordings[frame.id]
    question, solution = (grammar.render(template, binding) for template in templates)
    numbers = tuple([values[name] for name in frame.stated])
    number = f"{frame.split}-{index:06d}"
    return Problem(number, frame.id, code, frame.split, question, solution, answer, tuple(expressions), numbers)


@cache
def _number(value: int) -> Forms:
    return {"": str(value)}


def problems(language: str, split: str, n: int, seed: int = 0) -> tuple[Problem, ...]:
    """The first n problems of a split; the i-th is the same problem in every language.

    Frames come in balanced rotation, shuffled in each round, each as long as it has new problems. No question
    comes twice; more problems than the split has are refused. Source: ours.

    >>> a, b = problems("sw", "train", 3), problems("sw", "train", 5)
    >>> a == b[:3], a[0].id
    (True, 'train-000000')
    """
    words = _language(language)
    whole_number("n", n)
    return tuple(_problem(i, deal, language, words) for i, deal in enumerate(_deals(split, n, seed)))


def twins(language: str, split: str, n: int, seed: int = 0) -> tuple[Problem, ...]:
    """The twins of the first n problems of a split: the same people, things, numbers, other few words and operation.

    The i-th is the twin of the i-th of :func:`problems`. Splits without twins are refused. Source: ours.

    >>> one, other = problems("en", "scored", 1)[0], twins("en", "scored", 1)[0]
    >>> one.numbers == other.numbers, one.expressions[0] == other.expressions[0]
    (True, False)
    """
    words = _language(language)
    frames = {frame.id: frame for frame in _frames(split)}
    known("split with twins", split, WITH_TWINS)
    whole_number("n", n)
    others = [deal._replace(frame=frames[deal.frame.twin]) for deal in _deals(split, n, seed)]
    dealt = [
        deal._replace(values=_results(deal.frame, {v: deal.values[v] for v in deal.frame.stated})[0]) for deal in others
    ]
    return tuple(
        replace(_problem(i, deal, language, words), id=f"{split}-{i:06d}-twin") for i, deal in enumerate(dealt)
    )


def english_problems(n: int, seed: int = 0) -> tuple[Problem, ...]:
    """The first n of the English problems for training, whose frames no other language has; each in one of three wordings.

    Names and numbers are those of the split `train`, frames in balanced rotation. Source: ours.

    >>> english_problems(2)[0].language
    'en'
    """
    whole_number("n", n)
    frames, words = _english_frames(), _language("en")
    rng = random.Random(f"xlnb english {seed}")
    found = []
    for i, deal in enumerate(itertools.islice(_dealt([frame for frame, _ in frames.values()], rng), n)):
        found.append(_problem(i, deal, "en", words, grammar.pick(rng, frames[deal.frame.id][1])))
    if len(found) < n:
        raise RequestError(f"n = {n}: there are {len(found)} different English problems")
    return tuple(found)


def prompt(problem: Problem) -> str:
    """What a model reads, without a space at the end.

    >>> prompt(problems("sw", "scored", 1)[0]).startswith("Swali: ")
    True
    """
    labels = _language(problem.language).labels
    return f"{labels['question']}: {problem.question}\n{labels['answer']}:"


def completion(problem: Problem) -> str:
    """What a model should write: a space and the solution, no newline.

    >>> problem = problems("sw", "scored", 1)[0]
    >>> completion(problem) == " " + problem.solution
    True
    """
    return " " + problem.solution


def math_examples(language: str, split: str, n: int, seed: int = 0) -> tuple[Example, ...]:
    """Problems as examples, the frame as their kind.

    >>> math_examples("en", "train", 1)[0].prompt.endswith("Answer:")
    True
    """
    return tuple(Example(prompt(p), completion(p), p.frame) for p in problems(language, split, n, seed))


def few_shot_prefix(language: str, shots: int = 2, seed: int = 0) -> str:
    """Solved problems to put before a prompt, each followed by an empty line; '' for no shots.

    All of different frames of the split `few-shot`; from two shots on at least one has two steps or more.

    >>> few_shot_prefix("sw", 2).count("Swali: "), few_shot_prefix("sw", 0)
    (2, '')
    """
    whole_number("shots", shots)
    frames = len(_frames("few-shot"))
    if shots > frames:
        raise RequestError(f"shots = {shots}: there are {frames} few-shot frames, so at most {frames} shots")
    pool = problems(language, "few-shot", frames, seed)  # one round: each frame once
    chosen = list(pool[:shots])
    if shots >= 2 and all(len(p.expressions) == 1 for p in chosen):
        chosen[-1] = next(p for p in pool[shots:] if len(p.expressions) > 1)
    return "".join(f"{prompt(p)}{completion(p)}\n\n" for p in chosen)


def difficulty(asked: Sequence[Problem]) -> dict[str, dict]:
    """Counts over problems: steps a problem, operations, digits of the answer.

    {"problems": {"n": n, "frames": ...}, "steps": {1: ...}, "operations": {"+": ...}, "digits": {1: ...}};
    operations count steps, the others count problems. The language does not matter.

    >>> sum(difficulty(problems("sw", "scored", 24))["steps"].values())
    24
    """
    steps = Counter(len(problem.expressions) for problem in asked)
    signs = Counter(expression.split()[1] for problem in asked for expression in problem.expressions)
    digits = Counter(len(str(problem.answer)) for problem in asked)
    return {
        "problems": {"n": len(asked), "frames": len({problem.frame for problem in asked})},
        "steps": dict(sorted(steps.items())),
        "operations": {sign: signs[sign] for sign in "+-*/"},
        "digits": dict(sorted(digits.items())),
    }


def inventory(split: str) -> tuple[int, int, int]:
    """How many frames, people's names and things a split has.

    >>> all(count > 0 for count in inventory("scored"))
    True
    """
    raw = grammar.read("frames.yaml")
    return len(_frames(split)), len(raw["names"][split]), len(raw["things"][split])


def file_head(language: str) -> list[str]:
    """The comment at the head of a language's file, line by line: how to read it, and its known weaknesses.

    >>> any(line.startswith("Known weaknesses") for line in file_head("sw"))
    True
    """
    known("language", language, LANGUAGES)
    lines = grammar.text_of(f"{language}.yaml").splitlines()
    return [line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]


@dataclass(frozen=True)
class _Variant:
    """One way to make an example of a kind: a row for each slot, no row twice from the same table."""

    slots: tuple[tuple[str, str], ...]  # slot, table
    text: Template
    completion: Template


@dataclass(frozen=True)
class _Kind:
    id: str
    instructions: tuple[str, ...]
    variants: tuple[_Variant, ...]


class _Generic(NamedTuple):
    layout: str
    tables: Mapping[str, tuple[Forms, ...]]
    kinds: tuple[_Kind, ...]


def generic_kinds(language: str) -> tuple[str, ...]:
    """The kinds of instruction in a language's generic set.

    >>> "summary" in generic_kinds("sw")
    True
    """
    return tuple(kind.id for kind in _generic(language).kinds)


def generic_headings(language: str) -> tuple[str, str]:
    """The text before and after the task in the prompts of a language's generic set.

    >>> generic_headings("sw")
    ('### Maagizo\\n', '\\n\\n### Maandishi\\n')
    """
    before, _, after = _generic(language).layout.partition("{instruction}\n{text}")
    return before, after


@cache
def _generic(code: str) -> _Generic:
    known("generic set for language", code, GENERIC_LANGUAGES)
    name = f"generic-{code}.yaml"
    raw = grammar.read(name)
    classes = raw.get("classes") or {}
    tables = {table: tuple(grammar.inflect(row, classes) for row in rows) for table, rows in raw["tables"].items()}
    kinds = tuple(
        _Kind(kind, tuple(entry["instructions"]), tuple(map(_variant, entry["variants"])))
        for kind, entry in raw["kinds"].items()
    )
    for kind in kinds:
        for variant in kind.variants:
            _check_variant(f"{name}, kind {kind.id}", variant, tables)
    return _Generic(raw["layout"], tables, kinds)


def _variant(entry: Mapping[str, Any]) -> _Variant:
    slots = tuple(entry["draw"].items())
    return _Variant(slots, grammar.compile_template(entry["text"]), grammar.compile_template(entry["completion"]))


def _check_variant(where: str, variant: _Variant, tables: Mapping[str, tuple[Forms, ...]]) -> None:
    for slot, table in variant.slots:
        if table not in tables:
            raise RequestError(f"{where}: no table {table} for slot {slot}; there are: {', '.join(tables)}")
    for i in range(max(len(tables[table]) for _, table in variant.slots)):
        binding = {slot: tables[table][i % len(tables[table])] for slot, table in variant.slots}
        gap = grammar.missing(variant.text, binding) or grammar.missing(variant.completion, binding)
        if gap:
            raise RequestError(f"{where}: nothing to put in {{{gap}}} in row {i}")


def _bind(variant: _Variant, tables: Mapping[str, tuple[Forms, ...]], rng: random.Random) -> dict[str, Forms]:
    wanted = Counter(table for _, table in variant.slots)
    rows = {table: iter(grammar.sample(rng, tables[table], count)) for table, count in wanted.items()}
    return {slot: next(rows[table]) for slot, table in variant.slots}


def _generic_example(kind: _Kind, generic: _Generic, seen: set[str], rng: random.Random) -> Example | None:
    for _ in range(_TRIES):
        variant = grammar.pick(rng, kind.variants)
        binding = _bind(variant, generic.tables, rng)
        text = grammar.render(variant.text, binding)
        instruction = grammar.pick(rng, kind.instructions)
        # The text decides, not the wording of the instruction: the same task asked otherwise is no new one.
        if text not in seen:
            seen.add(text)
            filled = generic.layout.format(instruction=instruction, text=text)
            return Example(filled, grammar.render(variant.completion, binding), kind.id)
    return None


def language_examples(language: str, n: int, seed: int = 0) -> tuple[Example, ...]:
    """The first n examples of the generic set: instructions of many kinds, no arithmetic, no digits.

    Kinds come in balanced rotation, and no task comes twice. The prompt's format is not that of the word
    problems: language data in the evaluation's own format teaches a model not to calculate. Source: ours.

    >>> len({example.kind for example in language_examples("sw", 20)}) >= 12
    True
    """
    whole_number("n", n)
    generic = _generic(language)
    rng = random.Random(f"xlnb generic {language} {seed}")
    seen: dict[str, set[str]] = {kind.id: set() for kind in generic.kinds}
    out: list[Example] = []
    while len(out) < n:
        for kind in grammar.sample(rng, generic.kinds, len(generic.kinds))[: n - len(out)]:
            example = _generic_example(kind, generic, seen[kind.id], rng)
            if example is None:
                raise RequestError(
                    f"n = {n} is too much for the generic set of {language!r}: kind {kind.id!r} has about "
                    f"{len(seen[kind.id])} different tasks, so there are at most about "
                    f"{len(seen[kind.id]) * len(generic.kinds)} examples in balanced rotation"
                )
            out.append(example)
    return tuple(out)
