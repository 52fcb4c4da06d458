"""Grade-school word problems as a grammar, parallel in every language, and a generic language set.

`data/frames.yaml` says what happens in a problem (numbers, steps, who and what), `data/<language>.yaml`
says it in a language; a language is added by adding its file. Frames, names, things and numbers are
split into train, few-shot, development and scored, so no scored problem shares any of them with training.

>>> swahili, english = problems("sw", "scored", 1)[0], problems("en", "scored", 1)[0]
>>> swahili.numbers == english.numbers, swahili.expressions == english.expressions
(True, True)
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import math
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

from xlnb.corpora import Example, grammar
from xlnb.corpora.grammar import Forms, Template
from xlnb.errors import RequestError, known, whole_number
from xlnb.languages import written_in

SPLITS = ("train", "few-shot", "development", "scored")

# Codes of the data files that are languages, English (the source) first.
_CODES = [match[1] for name in grammar.data_names() if (match := re.fullmatch(r"([a-z]{2,3})\.yaml", name))]
LANGUAGES: tuple[str, ...] = tuple(sorted(_CODES, key=lambda code: (code != "en", code)))
GENERIC_LANGUAGES: tuple[str, ...] = tuple(code for code in LANGUAGES if f"generic-{code}.yaml" in grammar.data_names())

# Limits that hold for every frame. Numbers and results of a problem all differ, so that neither copying a
# number nor mixing up two of them is right by accident.
_ANSWERS = range(2, 501)
_RESULTS = range(2, 1001)
# Percent of number tuples that go to each split, in the order of SPLITS.
_SHARES = (50, 10, 15, 25)
_TRIES = 5000  # draws for a problem before the search counts as long

_OPERATIONS: dict[type, tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.floordiv), ast.Mod: ("%", operator.mod),
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne),
}  # fmt: skip
Values = dict[str, int]


@dataclass(frozen=True)
class Problem:
    """A word problem in one language; `id`, `frame`, `answer`, `expressions`, `numbers` are the same in all.

    `expressions` has one entry a step, `numbers` are those the question states, in the order the steps use them.
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
    function: Callable[[int, int], int]
    right: str
    result: str


@dataclass(frozen=True)
class _Frame:
    """A frame compiled: what is drawn, what must hold, what is calculated."""

    id: str
    split: str
    people: tuple[str, ...]  # slots
    things: tuple[tuple[str, tuple[str, ...]], ...]  # slot, the things it may take
    draw: tuple[tuple[str, int, int], ...]  # variable, lowest value, how many values
    derive: tuple[tuple[str, Callable[[Values], int]], ...]
    where: tuple[Callable[[Values], int], ...]
    steps: tuple[_Step, ...]
    stated: tuple[str, ...]  # variables the question states


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


def _calculator(text: str) -> Callable[[Values], int]:
    """An expression of a data file as a function of the variables; names, whole numbers, + - * / % and
    comparisons, nothing else.

    >>> _calculator("a * b > 12")({"a": 3, "b": 5})
    True
    """
    return _closure(ast.parse(text, mode="eval").body, text)


def _closure(node: ast.expr, text: str) -> Callable[[Values], int]:
    match node:
        case ast.Name(id=name):
            return operator.itemgetter(name)
        case ast.Constant(value=constant) if type(constant) is int:
            return lambda values: constant
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]) if (
            type(op) in _OPERATIONS
        ):
            function = _OPERATIONS[type(op)][1]
            first, second = _closure(left, text), _closure(right, text)
            return lambda values: function(first(values), second(values))
    raise RequestError(f"{text!r} in frames.yaml: names, whole numbers, + - * / % and a comparison are allowed")


def _step(text: str, result: str) -> _Step:
    match ast.parse(text, mode="eval").body:
        case ast.BinOp(left=ast.Name(id=left), op=op, right=ast.Name(id=right)) if type(op) in _OPERATIONS:
            sign, function = _OPERATIONS[type(op)]
            if sign in "+-*/":
                return _Step(left, sign, function, right, result)
    raise RequestError(f"step {text!r} in frames.yaml must be two names with + - * or / between them")


def _frame(entry: Mapping[str, Any], things: Mapping[str, Any]) -> _Frame:
    split = entry["split"]
    known(f"split of frame {entry['id']}", split, SPLITS)
    steps = tuple(_step(text, f"s{i}") for i, text in enumerate(entry["steps"], 1))
    results = {step.result for step in steps}
    operands = (name for step in steps for name in (step.left, step.right))
    allowed = tuple(
        (slot, tuple(thing for thing, kinds in things[split].items() if kind in kinds))
        for slot, kind in (entry.get("things") or {}).items()
    )
    return _Frame(
        id=entry["id"],
        split=split,
        people=tuple(entry.get("people") or ()),
        things=allowed,
        draw=tuple((name, low, high - low + 1) for name, (low, high) in entry["draw"].items()),
        derive=tuple((name, _calculator(text)) for name, text in (entry.get("derive") or {}).items()),
        where=tuple(_calculator(text) for text in entry.get("where") or ()),
        steps=steps,
        stated=tuple(dict.fromkeys(name for name in operands if name not in results)),
    )


@cache
def _frames(split: str) -> tuple[_Frame, ...]:
    known("split", split, SPLITS)
    raw = grammar.read("frames.yaml")
    return tuple(_frame(entry, raw["things"]) for entry in raw["frames"] if entry["split"] == split)


@cache
def numbers_split(numbers: tuple[int, ...]) -> str:
    """The split that a problem's numbers belong to, whatever the frame and whatever their order.

    The sorted numbers, written in decimal with commas between, are hashed with SHA-256; the first four bytes as a big-endian
    integer modulo 100 choose train (0 to 49), few-shot (to 59), development (to 74) or scored.

    >>> numbers_split((12, 5)) == numbers_split((5, 12))
    True
    """
    digest = hashlib.sha256(",".join(map(str, sorted(numbers))).encode()).digest()
    share = int.from_bytes(digest[:4], "big") % 100
    tops = itertools.accumulate(_SHARES)
    return next(split for split, top in zip(SPLITS, tops, strict=True) if share < top)


def _complete(frame: _Frame, values: Values) -> bool:
    """Add what follows from the drawn variables; False where the numbers do not make a problem."""
    for name, calculate in frame.derive:
        values[name] = calculate(values)
    for holds in frame.where:
        if not holds(values):
            return False
    numbers = [values[name] for name in frame.stated]
    if len(set(numbers)) < len(numbers) or min(numbers) < 2:
        return False
    if numbers_split(tuple(numbers)) != frame.split:
        return False
    result = 0
    for step in frame.steps:
        left, right = values[step.left], values[step.right]
        if step.sign == "/" and left % right:
            return False
        result = values[step.result] = step.function(left, right)
        if result not in _RESULTS or result in numbers:
            return False
        numbers.append(result)
    return result in _ANSWERS


@cache
def _capacity(frame: _Frame) -> int:
    """How many different problems a frame can give in its split."""
    names = [name for name, _, _ in frame.draw]
    ranges = [range(low, low + count) for _, low, count in frame.draw]
    tuples = set()
    for drawn in itertools.product(*ranges):
        values = dict(zip(names, drawn, strict=True))
        if _complete(frame, values):
            tuples.add(tuple(values[name] for name in frame.stated))
    people = math.perm(len(grammar.read("frames.yaml")["names"][frame.split]), len(frame.people))
    choices = itertools.product(*(things for _, things in frame.things))
    things = sum(len(set(choice)) == len(choice) for choice in choices)
    return len(tuples) * people * things


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
    frames = list(_frames(split))
    # Counting takes a second or two, so it is done ahead only where n is near what could be too much.
    if n > 10_000 * len(frames) and n > _at_most(split):
        raise _too_many(split, n)
    rng = random.Random(f"xlnb templates {split} {seed}")
    names = tuple(grammar.read("frames.yaml")["names"][split])
    seen: set[tuple] = set()
    found: list[_Deal] = []
    while len(found) < n:
        if not frames:
            raise _too_many(split, n)
        # The whole round is shuffled even if n ends within it: that keeps prefixes stable.
        for frame in grammar.sample(rng, frames, len(frames)):
            if len(found) == n:
                break
            if deal := _deal(frame, names, seen, rng):
                found.append(deal)
            else:
                frames.remove(frame)  # it has no more: the others go on without it
    return tuple(found)


def _deal(frame: _Frame, names: tuple[str, ...], seen: set[tuple], rng: random.Random) -> _Deal | None:
    for _ in range(_TRIES):
        values = {name: low + grammar.below(rng, count) for name, low, count in frame.draw}
        if not _complete(frame, values):
            continue
        people = grammar.sample(rng, names, len(frame.people))
        things = tuple(grammar.pick(rng, allowed) for _, allowed in frame.things)
        key = (frame.id, people, things, tuple(values[name] for name in frame.stated))
        if len(set(things)) == len(things) and key not in seen:
            seen.add(key)
            return _Deal(frame, people, things, values)
    return None


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
        solution = " ".join([*entry["steps"], raw["final"]])
        wordings[frame_id] = _Wording(grammar.compile_template(entry["question"]), grammar.compile_template(solution))
    language = _Language(raw["labels"], names, things, wordings)
    for split in SPLITS:
        for frame in _frames(split):
            _check_wording(code, frame, language, tuple(shared["names"][split]))
    return language


def _check_wording(code: str, frame: _Frame, language: _Language, names: tuple[str, ...]) -> None:
    where = f"{code}.yaml, frame {frame.id}"
    if frame.id not in language.wordings:
        raise RequestError(f"{where}: not there")
    question, solution = language.wordings[frame.id]
    slots = {slot for slot, _ in question.keys}
    expected = {*frame.people, *frame.stated, *(slot for slot, _ in frame.things)}
    if slots != expected:
        raise RequestError(f"{where}: question slots are {sorted(slots)}, should be {sorted(expected)}")
    equations = [slot for slot, _ in solution.keys if slot.isdigit()]
    if equations != [str(i) for i in range(1, len(frame.steps) + 1)]:
        raise RequestError(f"{where}: the equations are {equations}, of {len(frame.steps)} steps")
    numbers = {slot: {"": "2"} for slot in (*frame.stated, *equations, "answer")}
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


def _problem(index: int, deal: _Deal, code: str, language: _Language) -> Problem:
    frame, values = deal.frame, deal.values
    expressions = tuple(f"{values[s.left]} {s.sign} {values[s.right]}" for s in frame.steps)
    answer = values[frame.steps[-1].result]
    binding: dict[str, Forms] = {"answer": {"": str(answer)}}
    binding |= {name: {"": str(values[name])} for name in frame.stated}
    binding |= {slot: language.names[name] for slot, name in zip(frame.people, deal.people, strict=True)}
    binding |= {slot: language.things[name] for (slot, _), name in zip(frame.things, deal.things, strict=True)}
    for i, (step, expression) in enumerate(zip(frame.steps, expressions, strict=True), 1):
        binding[str(i)] = {"": f"{expression} = {values[step.result]}"}
    question, solution = (grammar.render(template, binding) for template in language.wordings[frame.id])
    numbers = tuple([values[name] for name in frame.stated])
    number = f"{frame.split}-{index:06d}"
    return Problem(number, frame.id, code, frame.split, question, solution, answer, expressions, numbers)


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


def difficulty(split: str, n: int = 1000, seed: int = 0) -> dict[str, dict]:
    """Counts over the first n problems of a split: steps a problem, operations, digits of the answer.

    {"problems": {"n": n, "frames": ...}, "steps": {1: ...}, "operations": {"+": ...}, "digits": {1: ...}};
    operations count steps, the others count problems. The language does not matter.

    >>> sum(difficulty("scored", 24)["steps"].values())
    24
    """
    whole_number("n", n)
    deals = _deals(split, n, seed)
    steps = Counter(len(deal.frame.steps) for deal in deals)
    signs = Counter(step.sign for deal in deals for step in deal.frame.steps)
    digits = Counter(len(str(deal.values[deal.frame.steps[-1].result])) for deal in deals)
    return {
        "problems": {"n": n, "frames": len({deal.frame.id for deal in deals})},
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


_HELD_OUT_SEED, _TRAINED_SEEDS, _TRAINED_EXAMPLES = 1_000_000, range(10), 480


def held_out_texts(language: str, n: int) -> tuple[Example, ...]:
    """The first n texts of the generic set that are in the language and in no training set: for asking who knows it.

    No completion of :func:`language_examples` with 480 examples and a seed from 0 to 9 is among them. They are of the same
    grammar as those, so an expert of the generic set is at home in them. Source: ours.

    >>> [example.prompt for example in held_out_texts("sw", 3)]
    ['', '', '']
    """
    whole_number("n", n, 1)
    trained = (language_examples(language, _TRAINED_EXAMPLES, seed) for seed in _TRAINED_SEEDS)
    seen = {example.completion for examples in trained for example in examples}
    found: dict[str, Example] = {}
    for example in language_examples(language, 5 * n + 100, _HELD_OUT_SEED):
        text = example.completion
        if text not in seen and len(text.split()) >= 6 and written_in(text) == language:
            found.setdefault(text, Example("", text, example.kind))
    if len(found) < n:
        raise RequestError(
            f"n = {n}: of the generic set of {language!r} {len(found)} texts are held out for this request."
        )
    return tuple(found.values())[:n]
