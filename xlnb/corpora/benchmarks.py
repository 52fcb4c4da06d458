"""Benchmarks as data: what a model is asked, and what is right. No model runs here.

The template problems ship with the package; MGSM, Belebele and Global-MMLU come from the Hugging Face hub, or
from a folder laid out as their hub repository is.

>>> benchmark = load_benchmark("templates", "sw", n=3)
>>> benchmark.items[0].id, benchmark.items[0].prompt.endswith("Jibu:")
('scored-000000', True)
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from xlnb.corpora import files, prose, templates
from xlnb.corpora.grammar import sample
from xlnb.corpora.sources import one_line
from xlnb.errors import RequestError, WorkError, known, whole_number
from xlnb.languages import LANGUAGE_NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One problem as a model reads it and should answer it.

    `id` is the same in every language, `prompt` has no space at the end, `completion` is the gold solution ('' where there is
    none), `answer` the final number, `expressions` the calculations "a op b" of the gold solution in order, `closing` the
    answer sentence of the language, scored apart. `options` are completions to choose among and `gold` is the index of the
    right one. `group` is what items share: frame, subject, passage. `twin_prompt` and `twin_completion` are those of a problem
    with the same numbers that another calculation answers. Completion, closing and options start with a space.
    """

    id: str
    language: str
    prompt: str
    completion: str = ""
    answer: Decimal | None = None
    expressions: tuple[str, ...] = ()
    closing: str = ""
    options: tuple[str, ...] = ()
    gold: int | None = None
    group: str = ""
    twin_prompt: str = ""
    twin_completion: str = ""


@dataclass(frozen=True)
class Benchmark:
    """Items of one language, and the few-shot text that stands before every prompt ('' without shots).

    `note` is one sentence for the reader: shots, language of the exemplars, where the data came from. `others` are problems of
    the same kind that are not scored: on these a model's temperature is fitted. `stops` are texts that end an answer.
    """

    name: str
    language: str
    prefix: str
    items: tuple[Item, ...]
    note: str
    others: tuple[Item, ...] = ()
    stops: tuple[str, ...] = ("\n",)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that a model reads and is scored by, as 64 hex digits.

        Name, note, ids and groups do not count: they are labels.

        >>> a, b = templates_benchmark("sw", n=2), templates_benchmark("sw", n=2)
        >>> a.fingerprint == b.fingerprint, len(a.fingerprint)
        (True, 64)
        """
        read = [
            (i.language, i.prompt, i.completion, None if i.answer is None else _plain(i.answer), i.expressions, i.closing,
             i.options, i.gold, *filter(None, (i.twin_prompt, i.twin_completion)))
            for i in (*self.items, *self.others)
        ]  # fmt: skip
        return _digest(json.dumps([self.prefix, len(self.items), *read]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(number: Decimal) -> str:
    """A number in plain digits, however it was written.

    >>> _plain(Decimal("18.00")), _plain(Decimal("2E+3"))
    ('18', '2000')
    """
    return format(number.normalize(), "f")


def _check_counts(shots: int, n: int | None) -> None:
    whole_number("shots", shots)
    if n is not None:
        whole_number("n", n, 1)


def _first(n: int | None, items: list[T], name: str) -> list[T]:
    """The first n of a benchmark's items, all of them for None; raises RequestError where there are not as many, or none."""
    if not items:
        raise RequestError(f"{name} has no problems for this request: the file is empty, or every row lacks something")
    if n is not None and n > len(items):
        raise RequestError(f"n = {n}: {name} has {len(items)} problems for this request, so n is at most {len(items)}")
    return items[:n]


def _shuffled(items: Iterable[Item]) -> list[Item]:
    """Items by a hash of their ids: whatever the order of the rows, the same order in every language."""
    return sorted(items, key=lambda item: _digest(item.id))


def _files(path: str | Path | None, repository: str, *patterns: str, needed: bool = True) -> list[Path]:
    """The files of the first pattern that matches any, in a folder or, without one, in the hub's copy."""
    folder = files.local_copy(path, repository, patterns)
    found = next((matching for pattern in patterns if (matching := sorted(folder.glob(pattern)))), [])
    if needed and not found and path is None:
        raise WorkError(f"the hub's {repository} has no file {patterns[0]} any more: give a local copy that has it")
    if needed and not found:
        raise RequestError(f"no file {patterns[0]} in {folder}; it should be laid out as the hub's {repository}")
    return found


def _rows(
    found: Iterable[Path], columns: Sequence[str], left_out: Sequence[str] = ()
) -> tuple[list[dict[str, str]], int]:
    """The named columns of rows as text; rows that lack one of ``left_out`` are left out and counted, other gaps refused."""
    rows, without = [], 0
    for place, row in (pair for file in found for pair in files.rows(file, columns, RequestError)):
        gaps = [column for column in columns if row[column] is None or not str(row[column]).strip()]
        if set(gaps) & set(left_out):
            without += 1
        elif gaps:
            raise RequestError(f"{place}: no {gaps[0]!r}; a row needs {', '.join(columns)}")
        else:
            rows.append({column: str(row[column]) for column in columns})
    return rows, without


def _number(text: str, where: str) -> Decimal:
    """A number with or without thousands separators.

    >>> _number(" 2,125", "mgsm_en.tsv, line 1")
    Decimal('2125')
    """
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise RequestError(f"{where}: the answer {text!r} is not a number")
    return number


def _told(shots: int, which: str) -> str:
    """What a note says of the shots.

    >>> _told(2, "in Swahili"), _told(0, "in Swahili")
    ('2 shots in Swahili', 'no shots')
    """
    return f"{shots} shot{'s' if shots > 1 else ''} {which}" if shots else "no shots"


def _source(path: str | Path | None, repository: str) -> str:
    return f"from the hub set {repository}" if path is None else "from a local copy"


def templates_benchmark(
    language: str,
    split: str = "scored",
    n: int = 200,
    shots: int = 2,
    problem_seed: int = 0,
    exemplar_seed: int = 0,
    twins: bool = False,
) -> Benchmark:
    """The first n template problems of a split, after solved problems of the split `few-shot`.

    The i-th item is the same problem in every language. With `twins` every other problem is the twin of the one before.

    >>> items = templates_benchmark("en", n=2, shots=0).items
    >>> [item.group for item in items] == [p.frame for p in templates.problems("en", "scored", 2)]
    True
    """
    _check_counts(shots, n)
    prefix = templates.few_shot_prefix(language, shots, exemplar_seed)
    asked_of = _with_twins(language, split, (n + 1) // 2 if twins else n, problem_seed)
    if twins:
        known("split with twins", split, templates.WITH_TWINS)
        asked_of = [pair for one, other in asked_of if other for pair in ((one, other), (other, one))][:n]
    items = tuple(itertools.starmap(_template_item, asked_of))
    # Of the development split under a seed of their own: none of them is among the items or their twins, whatever the split.
    others = _with_twins(language, "development", 2 * CALIBRATION, problem_seed + 1_000_000)
    asked = {prompt for item in items for prompt in (item.prompt, item.twin_prompt)}
    unasked = [
        item for item in itertools.starmap(_template_item, others) if not {item.prompt, item.twin_prompt} & asked
    ]
    told = _told(shots, "in its language (in-language math in the context)")
    note = f"Template problems of the split {split}, which ship with the package, {told}."
    return Benchmark("templates", language, prefix, items, note, tuple(unasked[:CALIBRATION]))


CALIBRATION = 48  # development problems on which a model's temperature is fitted


def _with_twins(
    language: str, split: str, n: int, seed: int
) -> Sequence[tuple[templates.Problem, templates.Problem | None]]:
    asked = templates.problems(language, split, n, seed)
    twins = templates.twins(language, split, n, seed) if split in templates.WITH_TWINS else [None] * n
    return list(zip(asked, twins, strict=True))


def _template_item(problem: templates.Problem, twin: templates.Problem | None) -> Item:
    return Item(
        id=problem.id,
        language=problem.language,
        prompt=templates.prompt(problem),
        completion=templates.completion(problem),
        answer=Decimal(problem.answer),
        expressions=problem.expressions,
        group=problem.frame,
        twin_prompt=templates.prompt(twin) if twin else "",
        twin_completion=templates.completion(twin) if twin else "",
    )


MGSM, GSM8K = "juletxara/mgsm", "openai/gsm8k"
EXEMPLARS = ("native", "english", "cross")


class _Exemplars(NamedTuple):
    """Solved problems of one language, without their labels, by their published numbers."""

    labels: tuple[str, str]  # of question and answer, colon included
    solved: Mapping[int, tuple[str, str]]
    closing: tuple[str, str]  # what stands before and after the number; two times '' if that varies


def mgsm(
    language: str,
    path: str | Path | None = None,
    n: int = 250,
    shots: int = 2,
    exemplars: str = "native",
    exemplar_seed: int = 0,
    reference: str | Path | None = None,
) -> Benchmark:
    """The first n problems of MGSM, parallel in its eleven languages.

    `path` is a folder with `mgsm_<language>.tsv` (question, tab, answer; no header) and, for shots, the
    exemplars as `exemplars.json` or as the published `exemplars.py`, which is read and never run; without it,
    both come from the hub's `juletxara/mgsm`. A prompt is a label, the question, a newline and a label, the
    labels as the exemplars have them; one space follows a label in every language, so in Chinese and Japanese
    too, and the exemplars' text is otherwise as published, slips included.

    `exemplars`: "native", question and solution in the language (in-language math in the context); "english",
    both in English, with English labels; "cross", the question in the language and its solution in English.
    Seed 0 takes the first in the published order, another seed draws; the same numbers in every language.

    `reference` is a GSM8K test file (JSON lines or Parquet), a folder laid out as on the hub, or "hub" for `openai/gsm8k`, which
    "cross" takes where nothing is said. An item's completion is then GSM8K's English chain of thought without its marks, ending
    in " The answer is N.", and `expressions` are its calculations where all are of two numbers. Without a reference there is no
    completion. `closing` is the last sentence of the language's exemplars with the item's number in plain digits, '' where there
    are no exemplars.

    A reference whose answers (in English: whose questions too) are not MGSM's is refused. Source: Shi et al.,
    "Language Models are Multilingual Chain-of-Thought Reasoners", 2023; Cobbe et al., 2021 (GSM8K).
    """
    known("language of MGSM", language, LANGUAGE_NAMES)
    known("exemplars", exemplars, EXEMPLARS)
    _check_counts(shots, n)
    problems = _first(n, _mgsm_problems(_files(path, MGSM, f"mgsm_{language}.tsv")[0]), f"MGSM ({language})")
    found = _exemplars(_files(path, MGSM, "exemplars.json", "exemplars.py", needed=False))
    asked, solved = {"native": (language, language), "english": ("en", "en"), "cross": (language, "en")}[exemplars]
    labels, prefix = _context(found, asked, solved, shots, exemplar_seed)
    if reference is None and exemplars == "cross":
        reference = "hub"
    solutions = _references(reference, problems, language) if reference is not None else ()
    before, after = found[language].closing if language in found else ("", "")
    items = tuple(
        Item(
            id=f"mgsm-{i:03d}",
            language=language,
            prompt=f"{labels[0]} {question}\n{labels[1]}",
            completion=solutions[i][0] if solutions else "",
            answer=answer,
            expressions=solutions[i][1] if solutions else (),
            closing=f"{before}{_plain(answer)}{after}" if before else "",
        )
        for i, (question, answer) in enumerate(problems)
    )
    note = _mgsm_note(asked, solved, shots, reference, path)
    return Benchmark("mgsm", language, prefix, items, note, stops=(f"\n{labels[0]}",))  # a solution may have many lines


def _mgsm_problems(file: Path) -> list[tuple[str, Decimal]]:
    problems = []
    for i, line in enumerate(re.split(r"\r\n?|\n", files.text(file, RequestError)), 1):
        where = f"{file}, line {i}"
        if not line.strip():
            continue
        question, *answers = line.split("\t")
        if re.fullmatch(r'"(?:[^"]|"")*"', question):  # as tables write text with quotation marks in it
            question = question[1:-1].replace('""', '"')
        if len(answers) != 1 or not question.strip():
            wrong = "no question" if len(answers) == 1 else f"{len(answers) or 'no'} tab{'s' * bool(answers)}"
            raise RequestError(f"{where}: {wrong}; a line is question, tab, answer, without a header")
        answer = answers[0]
        problems.append((question.strip(), _number(answer, where)))
    return problems


def _mgsm_note(asked: str, solved: str, shots: int, reference: str | Path | None, path: str | Path | None) -> str:
    question, solution = LANGUAGE_NAMES[asked], LANGUAGE_NAMES[solved]
    if asked != solved:
        which = f"with {question} questions and {solution} solutions"
    else:
        which = f"in {question}" + ("" if asked == "en" else " (in-language math in the context)")
    gold = "" if reference is None else ", GSM8K's English chains of thought as solutions"
    return f"MGSM, {_source(path, MGSM)}, {_told(shots, which)}{gold}."


def _exemplars(found: Sequence[Path]) -> dict[str, _Exemplars]:
    """The exemplars of each language; none where there is no file."""
    if not found:
        return {}
    file = found[0]
    text = files.text(file, RequestError)
    try:
        raw = _literal(text, "MGSM_EXEMPLARS", file) if file.suffix == ".py" else json.loads(text)["exemplars"]
        return {language: _unlabelled(entries) for language, entries in raw.items()}
    except json.JSONDecodeError as error:
        raise RequestError(f"{file}: not JSON ({error})") from error
    except RequestError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestError(
            f"{file}: exemplars should be, for each language, numbers with a question q and an answer a, each after "
            f"a label with a colon, as MGSM's are ({error})"
        ) from error


def _literal(source: str, name: str, file: Path) -> Any:
    """The value that a Python source assigns to a name, if it is made of literals; nothing is run."""
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise RequestError(f"{file}: {name} should be literals alone ({error})") from error
    raise RequestError(f"{file}: there is no {name}")


def _unlabelled(entries: Mapping[str, Mapping[str, str]]) -> _Exemplars:
    """Exemplars of one language as published, their labels taken off.

    >>> _unlabelled({"1": {"q": "Swali: Ana 5?", "a": "Jibu: Ana 5. Jibu ni 5."}})
    _Exemplars(labels=('Swali:', 'Jibu:'), solved={1: ('Ana 5?', 'Ana 5. Jibu ni 5.')}, closing=(' Jibu ni ', '.'))
    """
    published = [(int(number), entry["q"], entry["a"]) for number, entry in entries.items()]
    question, answer = _label([q for _, q, _ in published]), _label([a for _, _, a in published])
    solved = {i: (q.removeprefix(question).strip(), a.removeprefix(answer).strip()) for i, q, a in sorted(published)}
    return _Exemplars((question, answer), solved, _closing([a for _, a in solved.values()]))


def _label(texts: Sequence[str]) -> str:
    """What all texts start with, up to the first colon."""
    label = re.match(r"[^:：]*[:：]", _common_start(texts))
    if label is None:
        raise ValueError(f"no label in {texts[:1]}")
    return label[0]


def _common_start(texts: Sequence[str]) -> str:
    """The longest text that all start with.

    >>> _common_start(["Jibu ni 5.", "Jibu ni 7."])
    'Jibu ni '
    """
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in columns)


def _closing(solutions: Sequence[str]) -> tuple[str, str]:
    """The answer sentence that solutions share, before and after its number; two times '' if they share none.

    Some published exemplars have stray words before or after the sentence: what follows the number is decided
    by the majority, and what precedes it by what these have in common.

    >>> _closing(["5+6=11. సమాధానం 11.", "అవి 29 సమాధానం 29.", "74-35=39. సమాధానం 39.చాక్లెట్"])
    (' సమాధానం ', '.')
    """
    ends = [found[-1] for text in solutions if (found := list(re.finditer(r"\d(?:[\d.,]*\d)?", text)))]
    if not ends:
        return "", ""
    after = Counter(end.string[end.end() :] for end in ends).most_common(1)[0][0]
    heads = [" " + end.string[: end.start()] for end in ends if end.string[end.end() :] == after]
    shared = _common_start([head[::-1] for head in heads])[::-1]
    *earlier, sentence = re.split(r"[.!?।。！？]", shared)
    if not earlier and " " in sentence.strip():
        sentence = sentence[sentence.index(" ") :]  # it may start within a word
    return (" " + sentence.lstrip(), after) if sentence.strip() else ("", "")


def _context(
    found: Mapping[str, _Exemplars], asked: str, solved: str, shots: int, seed: int
) -> tuple[tuple[str, str], str]:
    """Labels for questions and answers, and the few-shot text."""
    missing = [language for language in (asked, solved) if language not in found]
    if missing and shots:
        raise RequestError(
            f"shots = {shots}, but there are no exemplars for {missing[0]!r}: put MGSM's exemplars.py (or "
            "exemplars.json) into the folder, or ask for shots=0"
        )
    if missing:  # MGSM's English labels
        return ("Question:", "Step-by-Step Answer:"), ""
    labels = found[asked].labels[0], found[solved].labels[1]
    numbers = sorted({number for one in found.values() for number in one.solved})
    if shots > len(numbers):
        raise RequestError(f"shots = {shots}: there are {len(numbers)} exemplars, so at most {len(numbers)} shots")
    chosen = sample(random.Random(f"xlnb mgsm exemplars {seed}"), numbers, shots) if seed else numbers[:shots]
    for number in chosen:
        for language in (asked, solved):
            if number not in found[language].solved:
                raise RequestError(f"exemplar {number} is not there for {language!r}, though other languages have it")
    pairs = [(found[asked].solved[number][0], found[solved].solved[number][1]) for number in chosen]
    return labels, "".join(f"{labels[0]} {q}\n{labels[1]} {a}\n\n" for q, a in pairs)


def _references(
    reference: str | Path, problems: Sequence[tuple[str, Decimal]], language: str
) -> list[tuple[str, tuple[str, ...]]]:
    """Completion and expressions of each problem, from the GSM8K row with its number."""
    place = None if reference == "hub" else Path(reference).expanduser()
    if place and not place.exists():
        raise RequestError(
            f"reference {reference} is not a file; give GSM8K's test file (JSON lines or Parquet), a folder with "
            "main/test-*.parquet, or 'hub'"
        )
    found = [place] if place and place.is_file() else _files(place, GSM8K, "main/test-*.parquet")
    rows, _ = _rows(found, ("question", "answer"))
    wrong = f"the reference should be GSM8K's test set in its order, whose first rows are MGSM's problems ({reference})"
    if len(rows) < len(problems):
        raise RequestError(f"{wrong}: it has {len(rows)} rows for {len(problems)} problems")
    solutions = []
    for i, (row, (question, answer)) in enumerate(zip(rows[: len(problems)], problems, strict=True)):
        _, mark, final = row["answer"].rpartition("####")
        if not mark or _number(final, f"{reference}, row {i}") != answer:
            raise RequestError(f"{wrong}: row {i} ends in {row['answer'][-20:]!r}, but MGSM's answer is {answer}")
        if language == "en" and row["question"].strip() != question:
            raise RequestError(f"{wrong}: row {i} is another problem, {row['question'][:60]!r}")
        solutions.append(_solution(row["answer"]))
    return solutions


def _solution(answer: str) -> tuple[str, tuple[str, ...]]:
    """GSM8K's answer as a completion, written as the corpus of that name writes it, and the calculations of its marks.

    >>> _solution("He has 2+3=<<2+3=5>>5 eggs.\\nHe sells 5*4=$<<5*4=20>>20\\n#### 20")
    (' He has 2+3=5 eggs. He sells 5*4=$20. The answer is 20.', ('2 + 3', '5 * 4'))
    """
    marks = re.findall(r"<<([^<>]*)>>", answer)
    number = r"((?:\d+(?:\.\d+)?|\.\d+))"
    found = [re.fullmatch(rf"{number}([-+*/]){number}=.*", mark.replace(" ", "").replace(",", "")) for mark in marks]
    # All or none: a part of the calculations would pass for the whole solution.
    expressions = tuple(" ".join(one.groups()) for one in found if one)
    return f" {one_line(answer)}", expressions if len(expressions) == len(marks) else ()


LETTERS = "ABCD"
SCORED = ("letter", "text")


def _options(texts: Sequence[str], scored: str, separator: str) -> tuple[str, tuple[str, ...]]:
    """The lines of the prompt that list the options, and the options as completions.

    >>> _options(("one", "two", "six", "ten"), "letter", ". ")[0].splitlines()[1]
    'B. two'
    """
    if scored == "text":
        return "", tuple(" " + text.strip() for text in texts)
    lines = "".join(f"{letter}{separator}{text.strip()}\n" for letter, text in zip(LETTERS, texts, strict=True))
    return lines, tuple(" " + letter for letter in LETTERS)


def _solved(items: Iterable[Item]) -> str:
    return "".join(f"{item.prompt}{item.options[item.gold]}\n\n" for item in items if item.gold is not None)


BELEBELE = "facebook/belebele"
_FLORES = {
    "en": "eng_Latn", "sw": "swh_Latn", "bn": "ben_Beng", "te": "tel_Telu", "de": "deu_Latn", "es": "spa_Latn",
    "fr": "fra_Latn", "ja": "jpn_Jpan", "ru": "rus_Cyrl", "th": "tha_Thai", "zh": "zho_Hans",
}  # fmt: skip
_ANSWERS = ("mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4")


def belebele(
    language: str, path: str | Path | None = None, n: int | None = None, shots: int = 0, scored: str = "letter"
) -> Benchmark:
    """Belebele: questions on a short passage, four options, parallel in all languages.

    `path` is a folder with `<code>.jsonl` or `data/<code>.jsonl` (codes as `swh_Latn`), one object a line with
    link, question_number, flores_passage, question, mc_answer1 to 4 and correct_answer_num (1 to 4); without
    it, the hub's `facebook/belebele`. The format is lm-evaluation-harness's:

        P: <passage>
        Q: <question>
        A: <option>   (four such lines)
        Answer:

    and the options are the letters " A" to " D"; scored="text" leaves the four lines out and scores the options'
    texts. The hub's files list their rows in different orders; here items are ordered by a hash of their id, which
    is made of link and question_number, so the i-th is the same in every language. `n` takes the first of them.
    The set has no training split: shots are questions on the last passages in that order, and no item is on these.
    Source: Bandarkar et al., "The Belebele Benchmark", 2024.
    """
    known("language of Belebele", language, _FLORES)
    known("way to score", scored, SCORED)
    _check_counts(shots, n)
    code = _FLORES[language]
    columns = ("link", "question_number", "flores_passage", "question", *_ANSWERS, "correct_answer_num")
    rows, _ = _rows(_files(path, BELEBELE, f"data/{code}.jsonl", f"{code}.jsonl"), columns)
    items = _shuffled(_belebele_items(rows, language, scored))
    one_each = list({item.group: item for item in items}.values())
    if shots >= len(one_each):
        raise RequestError(f"shots = {shots}: there are {len(one_each)} passages, and some must be left to ask about")
    solved = one_each[len(one_each) - shots :]
    items = [item for item in items if item.group not in {one.group for one in solved}]
    items = _first(n, items, f"Belebele ({language})")
    told = _told(shots, f"in {LANGUAGE_NAMES[language]} on passages set aside")
    note = f"Belebele, {_source(path, BELEBELE)}, {told}."
    return Benchmark("belebele", language, _solved(solved), tuple(items), note)


def _belebele_items(rows: Iterable[Mapping[str, str]], language: str, scored: str) -> Iterable[Item]:
    items: dict[str, Item] = {}
    for row in rows:
        where = f"Belebele ({language}), {row['link']}, question {row['question_number']}"
        group = _digest(row["link"])[:10]
        number = f"belebele-{group}-{row['question_number']}"
        if number in items:
            raise RequestError(f"{where}: it is there twice")
        if row["correct_answer_num"] not in ("1", "2", "3", "4"):
            raise RequestError(f"{where}: correct_answer_num is {row['correct_answer_num']!r}, not one of 1 to 4")
        listed, options = _options([row[name] for name in _ANSWERS], scored, ": ")
        prompt = f"P: {row['flores_passage'].strip()}\nQ: {row['question'].strip()}\n{listed}Answer:"
        gold = int(row["correct_answer_num"]) - 1
        items[number] = Item(number, language, prompt, options=options, gold=gold, group=group)
    return items.values()


GLOBAL_MMLU = "CohereLabs/Global-MMLU"
_MMLU_LANGUAGES = tuple(code for code in LANGUAGE_NAMES if code != "th")  # the set has no Thai


def global_mmlu(
    language: str,
    path: str | Path | None = None,
    n: int | None = None,
    shots: int = 5,
    subjects: Sequence[str] | None = None,
    scored: str = "letter",
) -> Benchmark:
    """Global-MMLU: questions of 57 subjects with four options, parallel in the languages of MGSM but Thai.

    `path` is a folder with `<language>/test-*.parquet` and, for shots, `<language>/dev-*.parquet`, with the
    columns sample_id, subject, question, option_a to option_d and answer ("A" to "D"); without it, the hub's
    `CohereLabs/Global-MMLU`. The format is MMLU's: the question, four lines "A. <option>" and "Answer:", options
    " A" to " D"; scored="text" leaves the four lines out and scores the options' texts.

    The shots are the first development questions of an item's own subject. They differ between subjects, so they
    stand at the start of each prompt, and the benchmark's prefix is empty. Items, of all subjects or those named,
    are ordered by a hash of their sample_id; `n` takes the first of them. Rows that lack the question or an option are left out,
    and the note counts them. Source: Singh et al., "Global MMLU", 2024;
    Hendrycks et al., "Measuring Massive Multitask Language Understanding", 2021.
    """
    known("language of Global-MMLU", language, _MMLU_LANGUAGES)
    known("way to score", scored, SCORED)
    _check_counts(shots, n)
    found, left_out = _mmlu_items(path, language, "test", scored)
    items = _shuffled(found)
    if subjects is not None:
        there = sorted({item.group for item in items})
        wanted = (subjects,) if isinstance(subjects, str) else tuple(subjects)
        for subject in wanted:
            known("subject", subject, there)
        items = [item for item in items if item.group in wanted]
    items = _first(n, items, f"Global-MMLU ({language})")
    if shots:
        items = _with_shots(items, _mmlu_items(path, language, "dev", scored)[0], shots)
    told = _told(shots, f"of the same subject in {LANGUAGE_NAMES[language]}, within the prompts")
    gaps = f", {left_out} rows without a question or an option left out" if left_out else ""
    note = f"Global-MMLU, {_source(path, GLOBAL_MMLU)}, {told}{gaps}."
    return Benchmark("global-mmlu", language, "", tuple(items), note)


def _mmlu_items(path: str | Path | None, language: str, split: str, scored: str) -> tuple[list[Item], int]:
    """The items of a split, and how many rows were left out: a question or an option is missing there."""
    names = tuple(f"option_{letter.lower()}" for letter in LETTERS)
    found = _files(path, GLOBAL_MMLU, f"{language}/{split}-*.parquet")
    items: dict[str, Item] = {}
    rows, left_out = _rows(found, ("sample_id", "subject", "question", *names, "answer"), ("question", *names))
    for row in rows:
        number = row["sample_id"]
        if number in items:
            raise RequestError(f"Global-MMLU ({language}), {number}: it is there twice")
        if row["answer"] not in tuple(LETTERS):
            raise RequestError(f"Global-MMLU, {number}: the answer {row['answer']!r} is none of A, B, C, D")
        listed, options = _options([row[name] for name in names], scored, ". ")
        prompt = f"{row['question'].strip()}\n{listed}Answer:"
        gold = LETTERS.index(row["answer"])
        items[number] = Item(number, language, prompt, options=options, gold=gold, group=row["subject"])
    return list(items.values()), left_out


def _with_shots(items: Iterable[Item], solved: Iterable[Item], shots: int) -> list[Item]:
    """Items, each after the first solved ones of its group."""
    pools = defaultdict(list)
    for one in sorted(solved, key=lambda item: item.id):
        pools[one.group].append(one)
    for group in {item.group for item in items}:
        if shots > (there := len(pools[group])):
            raise RequestError(
                f"shots = {shots}: subject {group} has {there} development questions, so at most {there}"
            )
    return [replace(item, prompt=_solved(pools[item.group][:shots]) + item.prompt) for item in items]


def continued(name: str, language: str, text: str, group: str = "") -> Item:
    """A text of two words or more as an item: it is to be gone on with after its first word.

    >>> continued("a", "sw", "Habari za asubuhi").completion
    ' za asubuhi'
    """
    first, _, rest = text.partition(" ")
    return Item(name, language, prompt=first, completion=f" {rest}", group=group)


def prose_benchmark(language: str, n: int | None = None, split: str = "scored") -> Benchmark:
    """The first n held-out texts of the prose, fewer where there are no more, each given its first word: who knows the language.

    ``split`` is scored, or development: other pieces, by which budgets are chosen.

    >>> prose_benchmark("sw", n=2).items[0].answer is None
    True
    """
    _check_counts(0, n)
    known("split of the prose", split, prose.HELD_OUT_SPLITS)
    items = [
        continued(f"held-out-{place:06}", language, text.completion, text.kind)
        for place, (part, text) in enumerate(prose.held_out_texts(language))
        if part == split
    ]
    note = "Texts of the package's own prose that no expert was trained on, each given its first word."
    return Benchmark("prose", language, "", tuple(items[:n]), note)


def in_chat(benchmark: Benchmark, tokenizer: PreTrainedTokenizerBase) -> Benchmark:
    """Return a benchmark as it is asked in a model's chat template: worked examples and problem in one turn of the user.

    The answer is the model's turn, as the template opens it; an answer may have many lines. Raises RequestError for a tokenizer
    without a chat template, and for a template that changes what is said in it.
    """
    if not tokenizer.chat_template:
        raise RequestError(f"{tokenizer.name_or_path or 'This tokenizer'} has no chat template: ask without it.")
    mark = "what the user says"
    asked = [{"role": "user", "content": mark}]
    whole = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    if whole.count(mark) != 1:
        raise RequestError(f"The chat template of {tokenizer.name_or_path} changes what is said in it: ask without it.")
    before, after = whole.removeprefix(str(tokenizer.bos_token or "")).split(mark)

    def turned(item: Item) -> Item:
        return replace(
            item,
            prompt=item.prompt + after,
            completion=item.completion.lstrip(),
            closing=item.closing.lstrip(),
            options=tuple(option.lstrip() for option in item.options),
            twin_prompt=item.twin_prompt and item.twin_prompt + after,
            twin_completion=item.twin_completion.lstrip(),
        )

    items, others = (tuple(map(turned, some)) for some in (benchmark.items, benchmark.others))
    note = f"{benchmark.note.removesuffix('.')}, in the model's chat template."
    return replace(benchmark, prefix=before + benchmark.prefix, items=items, others=others, note=note, stops=())


BENCHMARKS: dict[str, Callable[..., Benchmark]] = {
    "templates": templates_benchmark, "prose": prose_benchmark,
    "mgsm": mgsm, "belebele": belebele, "global-mmlu": global_mmlu,
}  # fmt: skip


def load_benchmark(name: str, language: str, path: str | Path | None = None, **options: Any) -> Benchmark:
    """A benchmark by its name: templates, prose, mgsm, belebele or global-mmlu.

    `path` is a local copy (the hub's where there is none); `options` are the arguments of the benchmark's function.

    >>> len(load_benchmark("templates", "sw", n=5, shots=0).items)
    5
    """
    known("benchmark", name, BENCHMARKS)
    parameters = inspect.signature(BENCHMARKS[name]).parameters
    for option in options:
        known(f"option of the benchmark {name}", option, [each for each in parameters if each != "language"])
    if path is not None and "path" not in parameters:
        raise RequestError(f"the benchmark {name} ships with the package: leave its path out (it is {path})")
    return BENCHMARKS[name](language, **({} if path is None else {"path": path}), **options)
