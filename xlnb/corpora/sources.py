"""Corpora by name: each from the Hugging Face hub or from a local path, as (prompt, completion), filtered and counted.

>>> [source.name for source in SOURCES.values() if source.hub and "te" in source.languages]
['aya', 'xp3mt', 'indic-align', 'telugu-alpaca', 'ntrex']
"""

from __future__ import annotations

import hashlib
import heapq
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.corpora import Example, files, fingerprint, prose, templates
from xlnb.corpora.files import Row
from xlnb.downloads import RECORD
from xlnb.errors import RequestError, WorkError, known, whole_number
from xlnb.languages import LANGUAGE_NAMES, likeliest_language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ToExamples = Callable[[Row, str], Iterable[Example]]  # of a row and the language
# Why an example is dropped, asked in this order.
REASONS = ("empty", "too long", "other script", "other language", "arithmetic", "duplicate")


@dataclass(frozen=True)
class Corpus:
    """Examples of one source in one language, as people would write them: no labels, no chat markers (see `formatted`).

    ``source`` says where they were read from. ``counts`` has ``read`` (examples before filtering), ``kept`` (after it) and
    every one of `REASONS`; read = kept + the reasons. ``examples`` are n of the kept ones.
    """

    name: str
    language: str
    kind: str
    examples: tuple[Example, ...]
    source: str
    counts: Mapping[str, int]

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the examples in their order."""
        return fingerprint(self.examples)


def _unlike(value: Any, expected: str) -> RequestError:
    told = f"A row holds {str(value)[:60]}, where {expected} must be"
    return RequestError(f"{told}: the set has another layout than is known here.")


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise _unlike(value, "a text")
    return "" if value is None else str(value).replace("\r\n", "\n").strip()


def _instruction(row: Row, language: str) -> Iterable[Example]:
    """Yield what is asked, a column a line, and the answer, which is the last column."""
    *asked, answered = map(_text, row.values())
    yield Example("\n".join(filter(None, asked)), answered)


def _word_problem(row: Row, language: str) -> Iterable[Example]:
    question, answer = map(_text, row.values())
    yield Example(question, one_line(answer))


def one_line(answer: str) -> str:
    """Put a solution on one line, as MGSM's own exemplars are: the evaluation reads up to the first line break.

    GSM8K's calculator marks go, and its last line is said in words. A line that ends like a sentence, in the midst of one (a
    comma, say) or in the midst of an equation gets no full stop.

    >>> one_line("So, with 3 cats,\\nshe adds:\\n\\n3 + 4 = <<3+4=7>>7\\n#### 7")
    'So, with 3 cats, she adds: 3 + 4 = 7. The answer is 7.'
    >>> one_line("x = 3\\n+ 4\\n= 7")
    'x = 3 + 4 = 7.'
    """
    unmarked = re.sub(r"<<[^<>]*>>", "", answer)
    told = re.sub(r"^#### *(.+?)\s*$", r"The answer is \1.", unmarked, flags=re.MULTILINE)
    lines = [line.strip() for line in told.split("\n") if line.strip()]
    ended = [
        line if _goes_on(line, after) else f"{line}." for line, after in zip(lines, [*lines[1:], ""], strict=False)
    ]
    return " ".join(ended)


def _goes_on(line: str, after: str) -> bool:
    """Say whether a line needs no full stop: it has an end, or goes on in the next line."""
    return line[-1] in ".!?:;,([{\\=+*/×÷-" or re.match(r"[=+*/×÷]|- ?\d+(?:[.,]\d+)?$", after) is not None


def _first_turn(row: Row, language: str) -> Iterable[Example]:
    """Yield the first turn of a conversation, [[prompt, answer], ...] or [prompt, answer, ...]; later ones need its context."""
    (turns,) = row.values()
    if not isinstance(turns, list | None):
        raise _unlike(turns, "turns of a conversation")
    turn = turns[0] if turns and isinstance(turns[0], list) else turns or []
    asked, answered = (_text(said) for said in (*turn, "", "")[:2])
    yield Example(asked, answered)


_ENGLISH = {
    "to-target": ("Translate into {name}: {text}", "How does one say this in {name}?\n{text}"),
    "to-english": ("Translate into English: {text}", "What does this {name} sentence mean in English?\n{text}"),
    "continuation": ("Go on in {name}: {text}", "Complete this {name} sentence:\n{text}"),
}
# Ours, not read by native speakers.
_OWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sw": {
        "to-target": ("Tafsiri kwa Kiswahili: {text}", "Sema sentensi hii kwa Kiswahili:\n{text}"),
        "to-english": ("Tafsiri kwa Kiingereza: {text}", "Sema sentensi hii kwa Kiingereza:\n{text}"),
        "continuation": ("Endeleza sentensi hii: {text}", "Malizia sentensi ifuatayo:\n{text}"),
    },
    "bn": {
        "to-target": ("বাংলায় অনুবাদ করো: {text}", "নিচের বাক্যটি বাংলায় লেখো:\n{text}"),
        "to-english": ("ইংরেজিতে অনুবাদ করো: {text}", "নিচের বাক্যটি ইংরেজিতে লেখো:\n{text}"),
        "continuation": ("এই বাক্যটি শেষ করো: {text}", "নিচের বাক্যটি সম্পূর্ণ করো:\n{text}"),
    },
    "te": {
        "to-target": ("తెలుగులోకి అనువదించండి: {text}", "కింది వాక్యాన్ని తెలుగులో రాయండి:\n{text}"),
        "to-english": ("ఇంగ్లీషులోకి అనువదించండి: {text}", "కింది వాక్యాన్ని ఇంగ్లీషులో రాయండి:\n{text}"),
        "continuation": ("ఈ వాక్యాన్ని పూర్తి చేయండి: {text}", "కింది వాక్యాన్ని పూర్తి చేయండి:\n{text}"),
    },
}


def _asked(kind: str, text: str, language: str) -> str:
    wordings = _ENGLISH[kind] + _OWN[language][kind]
    wording = wordings[zlib.crc32(text.encode()) % len(wordings)]  # the text decides, so that no order of lines matters
    return wording.format(name=LANGUAGE_NAMES[language], text=text) if text else ""


def _translations(english: str, target: str, language: str) -> Iterator[Example]:
    yield Example(_asked("to-target", english, language), target, "to-target")
    yield Example(_asked("to-english", target, language), english, "to-english")


def parallel_examples(row: Row, language: str) -> Iterable[Example]:
    """Yield a sentence pair as translation both ways and, where it is long enough, as a continuation. Ours."""
    english, target = _text(row["english"]), _text(row["target"])
    yield from _translations(english, target, language)
    words = target.split()
    if len(words) >= 6:  # worth cutting in two
        first, second = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
        yield Example(_asked("continuation", first, language), second, "continuation")


@dataclass(frozen=True)
class Source:
    """A row of the table of corpora: where it lies and how one of its rows becomes examples.

    ``names`` maps our language codes to what the set calls them; ``{}`` in ``files`` (patterns of paths inside the
    repository) and ``columns`` stands for that name. A column that ends in ``?`` may be missing.
    """

    name: str
    kind: str  # math or language
    names: Mapping[str, str]
    licence: str
    known: str  # how well the layout is known, and from where
    hub: str = ""  # the dataset repository; "" for a corpus that the package makes itself
    files: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    examples: ToExamples = _instruction
    revision: str | None = None
    all_splits: bool = False  # files named test or validation belong to the training text, too

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of its languages."""
        return tuple(self.names)

    def patterns(self, language: str) -> list[str]:
        """Return the patterns of a language's files in the repository."""
        return [pattern.format(self.names[language]) for pattern in self.files]


# Nothing could be downloaded where this was written. `known` says what was seen instead: a hub page (its list of files, its
# card), or code of others that reads the set.
SOURCES: Mapping[str, Source] = {source.name: source for source in (
    Source("templates", "math", {code: code for code in templates.LANGUAGES}, "Apache-2.0",
           "this package's own word problems"),
    Source("templates-english", "math", {"en": "en"}, "Apache-2.0",
           "this package's own English word problems, of many more frames in three wordings each"),
    Source("templates-generic", "language", {code: code for code in templates.GENERIC_LANGUAGES}, "Apache-2.0",
           "this package's own instructions without arithmetic, put together from parts"),
    Source("prose", "language", {code: code for code in prose.PROSE_LANGUAGES}, "Apache-2.0",
           "this package's own stories, dialogues, letters, questions about them and translations, each written by hand"),
    Source("gsm8k", "math", {"en": "main"}, "MIT",
           "files and columns: hub page and card; the same rows as JSON lines: read in tests",
           "openai/gsm8k", ("{}/train-*.parquet",), ("question", "answer"), _word_problem),
    Source("orca-math", "math", {"en": "en"}, "MIT",
           "files: hub page; columns: code of others",
           "microsoft/orca-math-word-problems-200k", ("data/train-*.parquet",), ("question", "answer"), _word_problem),
    Source("aya", "language", {"sw": "swahili", "bn": "bengali", "te": "telugu"}, "Apache-2.0",
           "files (Swahili): hub page; columns: hub card of the collection it splits, and code of others",
           "CohereLabs/aya_collection_language_split", ("{}/train-*.parquet",), ("inputs", "targets")),
    Source("inkuba", "language", {"sw": "swahili"}, "CC BY-NC 4.0 (its sister set's)",
           "format (parquet): hub page; columns: code of others, and the card of another set of its makers; folder: a guess",
           "lelapa/Inkuba-instruct", ("*{}_train-*.parquet",), ("instruction?", "inputs", "targets")),
    Source("xp3mt", "language", {"sw": "sw", "bn": "bn", "te": "te"}, "Apache-2.0",
           "JSON lines on main, parquet on the converted branch: hub pages; columns: code of others. Main has a loading "
           "script, which the datasets library runs no more, so the converted branch is read",
           "bigscience/xP3mt", ("{}/*.parquet", "{}/*.jsonl"), ("inputs", "targets"),
           # Its files are named after the splits of the many sets that it draws on.
           revision="refs/convert/parquet", all_splits=True),
    Source("bongchat", "language", {"bn": "bn"}, "CC (which one was not seen)",
           "files: as on the hub page of its smaller version; columns: code of others alone",
           "lumatic-ai/BongChat-v1-253k", ("data/train-*.parquet",), ("instruction", "input?", "output")),
    Source("indic-align", "language", {"bn": "ben_Beng", "te": "tel_Telu"}, "CC BY 4.0",
           "file: hub page; columns and nesting: code of others that asserts them",
           "ai4bharat/indic-align", ("indicalign-instruct/indicsharellama/*.parquet",), ("{}",), _first_turn),
    Source("telugu-alpaca", "language", {"te": "telugu"}, "CC BY 4.0",
           "file (one CSV): hub page; columns: code of others",
           "Telugu-LLM-Labs/telugu_alpaca_yahma_cleaned_filtered_romanized", ("*.csv",),
           ("telugu_instruction", "telugu_input?", "telugu_output")),
    Source("ntrex", "language", {"sw": "swa", "bn": "ben", "te": "tel"}, "CC BY-SA 4.0",
           "GitHub's files (MicrosoftTranslator/NTREX): read in tests; the hub's copy of them: hub pages of other languages",
           "davidstap/NTREX", ("*newstest2019-*.eng.txt", "*newstest2019-*.{}.txt"), (), parallel_examples),
)}  # fmt: skip


def _source(name: str, language: str) -> Source:
    source = SOURCES[known("corpus", name, SOURCES)]
    if language not in source.names:
        have = [other.name for other in SOURCES.values() if language in other.names]
        hint = f" In {language!r} there are: {', '.join(have)}." if have else ""
        raise RequestError(f"{name} has no {language!r}; it has: {', '.join(source.languages)}.{hint}")
    return source


def check_source(text: str, language: str, kind: str) -> None:
    """Raise RequestError where NAME or NAME:PATH is no corpus of a kind (math or language) in a language.

    >>> check_source("gsm8k", "en", "math")
    """
    for name, _ in names_and_paths(text):
        source = _source(name, language)
        if source.kind != kind:
            others = [other.name for other in SOURCES.values() if other.kind == kind]
            raise RequestError(f"{name} is {source.kind} data: choose {kind} data, {', '.join(others)}.")


def together(text: str) -> list[str]:
    """Return the corpora, each NAME or NAME:PATH, of a text that names several with + between.

    >>> together("aya+inkuba:my/c++/inkuba"), together("ntrex")
    (['aya', 'inkuba:my/c++/inkuba'], ['ntrex'])
    """
    names = "|".join(re.escape(name) for name in SOURCES)
    return re.split(rf"\+(?=(?:{names})(?:[:+]|$))", text)


def mixture(corpora: Sequence[Corpus]) -> Corpus:
    """Return several corpora of one kind and language as one, their examples one corpus after the other."""
    if len(corpora) == 1:
        return corpora[0]
    names, places = ("+".join(getattr(corpus, field) for corpus in corpora) for field in ("name", "source"))
    counts = {reason: sum(corpus.counts.get(reason, 0) for corpus in corpora) for reason in corpora[0].counts}
    return replace(
        corpora[0], name=names, source=places, counts=counts, examples=sum((c.examples for c in corpora), ())
    )


def name_and_path(text: str) -> tuple[str, Path | None]:
    """Return the corpus and the path of NAME or NAME:PATH, in which ~ is the home folder.

    >>> name_and_path("aya"), name_and_path("ntrex:data/ntrex")[0]
    (('aya', None), 'ntrex')
    """
    name, colon, path = text.partition(":")
    if colon and not path:
        raise RequestError(f"{text!r} has no path behind the colon: write {name} for the hub, or {name}:FOLDER.")
    return name, Path(path).expanduser() if path else None


def names_and_paths(text: str) -> list[tuple[str, Path | None]]:
    """Return the corpus and the path, if any, of each corpus of a text that names several with + between.

    >>> names_and_paths("aya+xp3mt")
    [('aya', None), ('xp3mt', None)]
    """
    return [name_and_path(one) for one in together(text)]


_NOT_DATA = (RECORD, "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
_HELD_OUT = re.compile(r"(?<![a-z])(test|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)


def _files(source: Source, language: str, root: Path) -> list[Path]:
    """Return the files of a language below ``root``: those where the hub has them, otherwise all data but held-out splits."""
    folder = root.parent if root.is_file() else root
    inside = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    names = {file: file.relative_to(folder).as_posix() for file in inside}
    patterns = source.patterns(language)
    if as_on_hub := [file for file in inside if any(fnmatch(names[file], pattern) for pattern in patterns)]:
        return as_on_hub
    data = [file for file in inside if files.suffix(file) in files.FORMATS and file.name not in _NOT_DATA]
    if training := [file for file in data if source.all_splits or not _HELD_OUT.search(names[file])]:
        return training
    if data:
        split = f"{data[0]} is by its name a test or validation split"
        raise RequestError(f"{split}, which is not for training: give the training files of {source.name}.")
    raise RequestError(
        f"{root} has no files of {source.name}: it needs {' or '.join(patterns)}, or files ending in "
        f"{', '.join(files.FORMATS)} (.gz as well)."
    )


def aligned_rows(source: Source, language: str, root: Path) -> Iterator[Row]:
    """Yield the lines of an English text and of its translation, pair by pair."""
    found = []
    for pattern in source.patterns(language):
        texts = sorted(file for file in root.rglob("*.txt") if fnmatch(file.name, pattern))
        if len(texts) != 1:
            raise RequestError(
                f"{root} has {len(texts)} files like {pattern.lstrip('*')}, not one: give the folder of {source.name} that "
                f"holds English and {LANGUAGE_NAMES[language]}."
            )
        found += texts
    english, target = (files.text(file).removesuffix("\n").split("\n") for file in found)
    if len(english) != len(target):
        raise RequestError(
            f"{found[0].name} has {len(english)} lines and {found[1].name} {len(target)}: they must be translations line by line."
        )
    yield from ({"english": first, "target": second} for first, second in zip(english, target, strict=True))


_SCRIPTS = {"en": "A-Za-zÀ-ɏ", "sw": "A-Za-zÀ-ɏ", "bn": "\u0980-\u09ff", "te": "\u0c00-\u0c7f"}
_INSIDE = {code: re.compile(f"[{script}]+") for code, script in _SCRIPTS.items()}
_OUTSIDE = {code: re.compile(rf"[^\W\d_{script}]+") for code, script in _SCRIPTS.items()}
_CALCULATION = re.compile(
    r"\d\s*[+*×÷]\s*\d"  # 3+4, 3 × 4
    r"|\d\s+[-−/xX]\s+\d"  # 3 - 4, but no 3-4 (a score), 2019-20, 3/4, 3x4
    r"|\d\s*=|=\s*[-−]?\s*\d"  # 7 =, x = 7
    r"|\\(?:frac|times|cdot|div|sqrt)"
)


def _has_calculation(text: str) -> bool:
    """Say whether a text calculates, in digits of any script; it errs towards yes and does not know number words.

    >>> _has_calculation("3 + 4"), _has_calculation("৩×৪"), _has_calculation("a 2-1 win on 3/4 in 2019-20, 10:30")
    (True, True, False)
    """
    return _CALCULATION.search(text) is not None


def _mostly_in_script(text: str, language: str) -> bool:
    inside, outside = (sum(map(len, part[language].findall(text))) for part in (_INSIDE, _OUTSIDE))
    return inside > outside


def _may_be_in(text: str, language: str) -> bool:
    """Say whether a text may be in a language: where many share its script, a longer one must look like it."""
    return _INSIDE[language] != _INSIDE["en"] or len(text.split()) < 5 or likeliest_language(text) == language


def _flaw(example: Example, language: str, kind: str, max_characters: int) -> str:
    """Return the first of `REASONS` to drop an example, "" for none; duplicates are found elsewhere."""
    sides = (example.prompt, example.completion)
    if not all(any(map(str.isalnum, side)) for side in sides):
        return "empty"
    if sum(map(len, sides)) > max_characters:
        return "too long"
    if kind == "language":
        # One side is enough: the other one of a translation is English, and so are many instructions.
        if not any(_mostly_in_script(side, language) for side in sides):
            return "other script"
        if not any(_may_be_in(side, language) for side in sides):
            return "other language"
        if any(map(_has_calculation, sides)):
            return "arithmetic"
    return ""


def _key(example: Example, seed: int) -> int:
    prompt, completion = example.prompt.encode(), example.completion.encode()
    text = len(prompt).to_bytes(8, "big") + prompt + completion
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=str(seed).encode()).digest(), "big")


def _chosen(examples: Iterable[Example], n: int | None, seed: int) -> tuple[tuple[Example, ...], int, int]:
    """Return the n examples of lowest key in the order of their keys, how many examples there were, how many distinct.

    A key is a hash of the seed and the text: a random order that depends neither on the order of rows nor on how they are
    spread over files, begins alike for every n, and is found in one pass that holds n examples and 8 bytes for each other.
    Equal texts have equal keys. (That two of 10 million texts share a key by accident has a chance of 3 in a million.)
    """
    import numpy as np

    held: dict[int, Example] = {}
    highest: list[int] = []  # a heap of the held keys, negated
    keys = array("Q")
    for example in examples:
        key = _key(example, seed)
        keys.append(key)
        if key in held or (len(held) == n and key > -highest[0]):
            continue
        held[key] = example
        if n is not None:
            heapq.heappush(highest, -key)
            if len(held) > n:
                del held[-heapq.heappop(highest)]
    return tuple(held[key] for key in sorted(held)), len(keys), len(np.unique(np.asarray(keys)))


def load_corpus(
    name: str,
    language: str,
    n: int | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    *,
    max_characters: int = 2000,
) -> Corpus:
    """Return n examples of a corpus (all of them for None) in a language, in an order that the seed decides.

    Read from ``path`` (a file, a folder laid out as on the hub, or a folder of files of any names; test and validation splits
    are left out) or else from the Hugging Face hub. The choice depends on the texts and the seed alone, not on the order of
    rows or files, and fewer examples are the first of more.

    Dropped and counted are examples with a side without a letter or digit, of more than ``max_characters`` in both sides
    together, and exact duplicates; of language corpora also those with no side mostly in the language's script or, where many
    share it, in the language, and those that calculate: a sign between numbers, an equals sign at a number, LaTeX arithmetic.
    Word problems without signs stay. Source: ours.

    >>> load_corpus("templates", "sw", 3).examples == load_corpus("templates", "sw", 5).examples[:3]
    True
    """
    source = _source(name, language)
    if n is not None:
        whole_number("n", n, 1)
    if not source.hub:
        return _generated(source, language, n, seed, path)
    root = files.local_copy(path, source.hub, source.patterns(language), source.revision, f": {name}:FOLDER")
    where = f"{source.hub}, {root.name[:12]} (Hugging Face hub)" if path is None else str(path)
    counts: Counter[str] = Counter()

    def good() -> Iterator[Example]:
        for example in _read(source, language, root):
            flaw = _flaw(example, language, source.kind, max_characters)
            counts.update(("read", flaw) if flaw else ("read",))
            if not flaw:
                yield example

    examples, passed, kept = _chosen(good(), n, seed)
    counts.update(kept=kept, duplicate=passed - kept)
    if kept < (n or 1):
        dropped = ", ".join(f"{counts[reason]:,} {reason}" for reason in REASONS if counts[reason])
        raise RequestError(
            f"{name} in {language!r} has {kept:,} examples, {n or 1:,} are wanted ({where}: {counts['read']:,} read; dropped: "
            f"{dropped or 'none'})."
        )
    ordered = {reason: counts[reason] for reason in ("read", "kept", *REASONS)}
    labelled = tuple(example if example.kind else replace(example, kind=name) for example in examples)
    return Corpus(name, language, source.kind, labelled, where, ordered)


def check_layout(name: str, language: str, path: str | Path) -> None:
    """Raise WorkError where a copy of a corpus is laid out otherwise than is known here: one row is read."""
    source = _source(name, language)
    try:
        if next(iter(_read(source, language, Path(path))), None) is None:
            raise RequestError(f"{path} has no rows.")
    except RequestError as error:
        raise WorkError(
            f"{source.hub} is laid out otherwise than is known here: {error} Read an earlier one, or a copy with the columns "
            f"{', '.join(source.columns)}, as {name}:FOLDER."
        ) from error


def _read(source: Source, language: str, root: Path) -> Iterator[Example]:
    rows: Iterable[Row] = aligned_rows(source, language, root)
    if columns := [column.format(source.names[language]) for column in source.columns]:
        rows = (row for file in _files(source, language, root) for _, row in files.rows(file, columns))
    return (example for row in rows for example in source.examples(row, language))


def _generated(source: Source, language: str, n: int | None, seed: int, path: str | Path | None) -> Corpus:
    if path is not None:
        raise RequestError(f"{source.name} is made by this package and read from nowhere: leave the path out.")
    if source.name == "prose":
        examples, _, kept = _chosen(_prose(language), n, seed)
        if n is not None and kept < n:
            raise RequestError(f"n = {n}: the prose in {language!r} has {kept:,} examples.")
        return Corpus(source.name, language, source.kind, examples, "made by xlnb", _all_kept(kept))
    if n is None:
        raise RequestError(f"{source.name} has no end: say how many examples (n).")
    if source.kind == "math":
        english = source.name == "templates-english"
        found = templates.english_problems(n, seed) if english else templates.problems(language, "train", n, seed)
        examples = tuple(Example(p.question, p.solution, p.frame) for p in found)
    else:
        before, after = templates.generic_headings(language)
        examples = tuple(
            replace(example, prompt=example.prompt.removeprefix(before).removesuffix(after))
            for example in templates.language_examples(language, n, seed)
        )
    return Corpus(source.name, language, source.kind, examples, "made by xlnb", _all_kept(n))


def _all_kept(n: int) -> dict[str, int]:
    return {"read": n, "kept": n} | dict.fromkeys(REASONS, 0)


@cache
def _prose(language: str) -> tuple[Example, ...]:
    """Return the examples of the prose that is not held out: written ones, and translations both ways where there is English."""
    found: list[Example] = []
    for piece in prose.pieces(language):
        found += prose.written_examples(piece)
        if piece.english:
            found += _translations(piece.english, piece.text, language)
    return tuple(found)


def formatted(corpus: Corpus, tokenizer: PreTrainedTokenizerBase | None = None) -> tuple[Example, ...]:
    r"""Return the examples as a model reads them: in its chat template where the tokenizer has one, else as plain text.

    Plain text is ``Question: ...\nAnswer:`` and a space before the completion for math, ``### Instruction\n...\n\n###
    Response\n`` for language data: never the labels of the word problems, since language data in the evaluation's own format
    teaches a model not to calculate. The package's own sets keep their labels in their language.

    In a chat template prompt and completion together are the template's text of the whole conversation, but for what
    training adds itself: the token that begins a sequence, and the one that ends it where that is what ends the turn
    (``<|im_end|>`` of Qwen), with the line break behind it. Another end-of-turn marker stays in the completion.

    A template that does not continue its own generation prompt is refused. Source: ours.

    >>> formatted(load_corpus("templates", "sw", 2)) == templates.math_examples("sw", "train", 2)
    True
    """
    if tokenizer is not None and tokenizer.chat_template:
        return tuple(_as_chat(example, tokenizer) for example in corpus.examples)
    before, after, gap = _labels(corpus)
    return tuple(
        replace(example, prompt=before + example.prompt + after, completion=gap + example.completion)
        for example in corpus.examples
    )


def _labels(corpus: Corpus) -> tuple[str, str, str]:
    """Return what stands before a prompt, behind it, and before a completion in plain text."""
    if corpus.name == "templates":
        problem = templates.problems(corpus.language, "train", 1)[0]
        before, after = templates.prompt(problem).split(problem.question)
        return before, after, " "
    if corpus.name in ("templates-generic", "prose"):
        return *templates.generic_headings(corpus.language), ""
    if corpus.kind == "math":
        return "Question: ", "\nAnswer:", " "
    return "### Instruction\n", "\n\n### Response\n", ""


def _as_chat(example: Example, tokenizer: PreTrainedTokenizerBase) -> Example:
    asked = [{"role": "user", "content": example.prompt}]
    answered = [*asked, {"role": "assistant", "content": example.completion}]
    prompt = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(answered, tokenize=False))
    completion = whole.removeprefix(prompt)
    if not whole.startswith(prompt) or example.prompt not in prompt or example.completion not in completion:
        raise RequestError(
            f"The chat template of {tokenizer.name_or_path or 'this tokenizer'} does not continue its own generation prompt: "
            f"{prompt[-60:]!r} is not how {whole[:200]!r} goes on, or an utterance is changed. Use a tokenizer without a chat "
            "template, or another template."
        )
    completion = completion.rstrip().removesuffix(str(tokenizer.eos_token or ""))
    return replace(example, prompt=prompt.removeprefix(str(tokenizer.bos_token or "")), completion=completion)
