"""Corpora by name, on miniatures in the hub's own file formats and columns; their formatting; the command `xlnb corpus`."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer

from xlnb.commands import cli
from xlnb.commands.corpus_commands import corpus_command
from xlnb.corpora import Example, files, sources, templates
from xlnb.corpora.sources import REASONS, SOURCES, Corpus, formatted, load_corpus, name_and_path
from xlnb.errors import RequestError, WorkError
from xlnb.models import base as base_module
from xlnb.models import miniatures
from xlnb.paths import project_root

BENGALI = "আমি প্রতিদিন সকালে বাজারে যাই"
TELUGU = "నేను ప్రతి రోజు ఉదయం మార్కెట్‌కు వెళ్తాను"
SWAHILI = "Kila asubuhi mimi huenda sokoni kununua samaki"
DATA = Path(os.environ.get("XLNB_TEST_DATA") or project_root().parent / "shared" / "data")
real_data = pytest.mark.skipif(not (DATA / "ntrex").is_dir(), reason="the real sets are not there (XLNB_TEST_DATA)")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a test asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)


def parquet(file, rows, row_group=1000):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=row_group)


def jsonl(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


def pairs(corpus):
    return {(example.prompt, example.completion) for example in corpus.examples}


def numbered(count, start=0):
    return [{"inputs": f"{SWAHILI} {i}?", "targets": f"Ndiyo {i}."} for i in range(start, start + count)]


# --- each set as it lies on the hub ----------------------------------------------------------------------


def make_gsm8k(root):
    answer = "Ana has 48/2 = <<48/2=24>>24 clips\nTogether 48+24 = $<<48+24=72>>72.\n#### 1,072"
    parquet(root / "main/train-00000-of-00001.parquet", [{"question": "How many?", "answer": answer}])
    parquet(root / "main/test-00000-of-00001.parquet", [{"question": "held out", "answer": "#### 1"}])
    parquet(root / "socratic/train-00000-of-00001.parquet", [{"question": "socratic", "answer": "#### 1"}])
    return {("How many?", "Ana has 48/2 = 24 clips. Together 48+24 = $72. The answer is 1,072.")}


def make_orca_math(root):
    rows = [{"question": "How many?", "answer": "First add.\n\n3 + 4 = 7.\n"}]
    parquet(root / "data/train-00000-of-00001.parquet", rows)
    return {("How many?", "First add. 3 + 4 = 7.")}


def make_aya(root):
    row = {"id": 1, "inputs": BENGALI, "targets": f"{BENGALI}।", "task_type": "paraphrasing", "language": "ben"}
    parquet(root / "bengali/train-00000-of-00001.parquet", [row, {**row, "inputs": None}, {**row, "targets": "  \n"}])
    parquet(root / "bengali/validation-00000-of-00001.parquet", [{**row, "inputs": f"held out {BENGALI}"}])
    parquet(root / "telugu/train-00000-of-00001.parquet", [{**row, "inputs": TELUGU}])
    return {(BENGALI, f"{BENGALI}।")}


def make_inkuba(root):
    row = {"instruction": "Tafsiri.", "inputs": SWAHILI, "targets": "Every morning", "task": "mt", "langs": "swa"}
    parquet(root / "data/swahili_train-00000-of-00002.parquet", [row])
    parquet(root / "data/swahili_train-00001-of-00002.parquet", [{**row, "instruction": None}])
    parquet(root / "data/swahili_test-00000-of-00001.parquet", [{**row, "instruction": "held out"}])
    parquet(root / "data/hausa_train-00000-of-00001.parquet", [{**row, "instruction": "other language"}])
    return {(f"Tafsiri.\n{SWAHILI}", "Every morning"), (SWAHILI, "Every morning")}


def make_xp3mt(root):
    jsonl(root / "sw/xp3_GEM_xlsum_swahili_train_x_swmt.jsonl", [{"inputs": SWAHILI, "targets": "Ndiyo"}])
    jsonl(root / "sw/xp3_GEM_xlsum_swahili_validation_x_swmt.jsonl", [{"inputs": SWAHILI, "targets": "Hapana"}])
    jsonl(root / "te/xp3_x_tewmt.jsonl", [{"inputs": "other language", "targets": "x"}])
    return {(SWAHILI, "Ndiyo"), (SWAHILI, "Hapana")}


def make_xp3mt_converted(root):
    parquet(root / "sw/train/0000.parquet", [{"inputs": SWAHILI, "targets": "Ndiyo"}])
    return {(SWAHILI, "Ndiyo")}


def make_bongchat(root):
    row = {"instruction": BENGALI, "input": "", "output": "ঠিক আছে"}
    parquet(root / "data/train-00000-of-00001.parquet", [row, {**row, "input": "লাল"}])
    return {(BENGALI, "ঠিক আছে"), (f"{BENGALI}\nলাল", "ঠিক আছে")}


def make_indic_align(root):
    turns = [[TELUGU, "సరే"], ["మరొకటి", "లేదు"]]
    rows = [
        {"doc_id": "a", "num_turns": 2.0, "eng_Latn": [["I", "ok"]], "ben_Beng": [[BENGALI, "x"]], "tel_Telu": turns},
        {"doc_id": "b", "num_turns": 1.0, "eng_Latn": [["I", "ok"]], "ben_Beng": [["", ""]], "tel_Telu": [[TELUGU]]},
        {"doc_id": "c", "num_turns": 0.0, "eng_Latn": None, "ben_Beng": [], "tel_Telu": []},
        {"doc_id": "d", "num_turns": 0.0, "eng_Latn": None, "ben_Beng": None, "tel_Telu": None},
        {"doc_id": "e", "num_turns": 1.0, "eng_Latn": None, "ben_Beng": None, "tel_Telu": [[None, "సరే"]]},
    ]
    parquet(root / "indicalign-instruct/indicsharellama/indic_sharellama.parquet", rows)
    parquet(root / "indicalign-instruct/dolly/Dolly.parquet", [{"tel_Telu": [["another set", TELUGU]]}])
    return {(TELUGU, "సరే")}


def make_telugu_alpaca(root):
    root.mkdir(parents=True, exist_ok=True)
    columns = ["instruction", "telugu_instruction", "telugu_input", "telugu_output", "telugu_transliterated_output"]
    rows = [
        ["a", f'"{TELUGU}",\nమరియు', "", "సరే", "sare"],
        ["b", TELUGU, "007", "null", "x"],  # as text: neither a number nor nothing
    ]
    table = pa.table([[row[i] for row in rows] for i in range(len(columns))], names=columns)
    pyarrow.csv.write_csv(table, root / "yahma_alpaca_cleaned_telugu_filtered_and_romanized.csv")
    return {(f'"{TELUGU}",\nమరియు', "సరే"), (f"{TELUGU}\n007", "null")}


LAYOUTS = [
    ("gsm8k", "en", make_gsm8k),
    ("orca-math", "en", make_orca_math),
    ("aya", "bn", make_aya),
    ("inkuba", "sw", make_inkuba),
    ("xp3mt", "sw", make_xp3mt),
    ("xp3mt", "sw", make_xp3mt_converted),
    ("bongchat", "bn", make_bongchat),
    ("indic-align", "te", make_indic_align),
    ("telugu-alpaca", "te", make_telugu_alpaca),
]


@pytest.mark.parametrize(("name", "language", "make"), LAYOUTS)
def test_a_folder_laid_out_as_on_the_hub(tmp_path, monkeypatch, name, language, make):
    expected = make(tmp_path)
    corpus = load_corpus(name, language, path=tmp_path)
    assert pairs(corpus) == expected
    assert corpus.counts["read"] == corpus.counts["kept"] + sum(corpus.counts[reason] for reason in REASONS)
    assert (corpus.kind, corpus.source) == (SOURCES[name].kind, str(tmp_path))
    # The hub is asked for files by the very patterns, and what it returns is read in the same way.
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    from_hub = load_corpus(name, language)
    assert from_hub.examples == corpus.examples
    assert (asked["repository"], asked["repo_type"]) == (SOURCES[name].hub, "dataset")
    files = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()]
    fetched = list(huggingface_hub.utils.filter_repo_objects(files, allow_patterns=asked["allow_patterns"]))
    assert sorted(tmp_path / file for file in fetched) == sources._files(SOURCES[name], language, tmp_path)


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("mine.parquet", parquet),
        ("deep/er/mine.jsonl", jsonl),
        ("mine.jsonl.gz", jsonl),
        ("mine.json", jsonl),  # JSON lines by another name, as some sets have them
        ("mine.json", lambda file, rows: file.write_text(json.dumps(rows, indent=1), encoding="utf-8")),
        ("mine.json.gz", lambda file, rows: file.write_bytes(gzip.compress(json.dumps(rows).encode()))),
        ("mine.csv", lambda file, rows: pyarrow.csv.write_csv(pa.Table.from_pylist(rows), file)),
    ],
)
def test_files_of_any_name_in_every_format(tmp_path, file, write):
    rows = [{"more": i, **row} for i, row in enumerate(numbered(3))]
    write(tmp_path / file, rows)
    jsonl(tmp_path / "test.jsonl", [{"inputs": SWAHILI, "targets": "held out"}])
    (tmp_path / "README.md").write_text("no data")
    (tmp_path / "dataset_infos.json").write_text("{}")
    expected = {(row["inputs"], row["targets"]) for row in rows}
    assert pairs(load_corpus("aya", "sw", path=tmp_path)) == expected
    assert pairs(load_corpus("aya", "sw", path=tmp_path / file)) == expected


def test_held_out_files_of_any_name_are_read_where_they_belong_to_the_set(tmp_path):
    jsonl(tmp_path / "xp3_xlsum_validation.jsonl", numbered(2))
    assert len(load_corpus("xp3mt", "sw", path=tmp_path).examples) == 2
    with pytest.raises(RequestError, match="validation split"):
        load_corpus("aya", "sw", path=tmp_path)


def test_line_breaks_in_a_csv_of_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK", 500)
    rows = [{"inputs": f"{SWAHILI}\n\n{i}\n{SWAHILI}", "targets": f"Ndiyo\n{i}"} for i in range(40)]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "a.csv")
    assert pairs(load_corpus("aya", "sw", path=tmp_path)) == {(row["inputs"], row["targets"]) for row in rows}


def test_unusual_text_survives(tmp_path):
    odd = "Habari\u2028ya \x85 asubuhi 🐟 \u200bnjema\nna mstari"
    jsonl(tmp_path / "a.jsonl", [{"inputs": f"  {odd}\r\nmwisho ", "targets": 12}, {"targets": "hakuna swali"}])
    corpus = load_corpus("aya", "sw", path=tmp_path)
    assert pairs(corpus) == {(f"{odd}\nmwisho", "12")}
    assert corpus.counts["empty"] == 1  # a later row may leave a column out


# --- NTREX -----------------------------------------------------------------------------------------------


def make_ntrex(root, english, target, language="swa"):
    root.mkdir(parents=True, exist_ok=True)
    (root / "newstest2019-src.eng.txt").write_text("".join(f"{line}\n" for line in english), encoding="utf-8")
    (root / f"newstest2019-ref.{language}.txt").write_bytes("".join(f"{line}\n" for line in target).encode())


def test_ntrex_makes_translations_both_ways_and_continuations(tmp_path):
    english, target = ["I buy fish.", "Hello.", ""], [SWAHILI, "Habari.\u2028\rNjema", "tupu"]
    make_ntrex(tmp_path / "NTREX-128", english, target)
    corpus = load_corpus("ntrex", "sw", path=tmp_path)
    by_kind = {(example.kind, example.completion): example.prompt for example in corpus.examples}
    assert set(by_kind) == {
        ("to-target", SWAHILI),
        ("to-english", "I buy fish."),
        ("continuation", "huenda sokoni kununua samaki"),
        ("to-target", "Habari.\u2028\rNjema"),
        ("to-english", "Hello."),
    }
    assert by_kind["to-target", SWAHILI].endswith("I buy fish.")
    assert by_kind["to-english", "I buy fish."].endswith(SWAHILI)
    assert by_kind["continuation", "huenda sokoni kununua samaki"].endswith("Kila asubuhi mimi")
    assert corpus.counts["empty"] == 2  # both translations of the last line


def test_every_wording_of_ntrex_is_used(tmp_path):
    for language, code, text in (("sw", "swa", SWAHILI), ("bn", "ben", BENGALI), ("te", "tel", TELUGU)):
        folder = tmp_path / code
        lines = [f"no{i} {text} {text}" for i in range(60)]
        make_ntrex(folder, [f"{line} in English" for line in lines], lines, code)
        corpus = load_corpus("ntrex", language, path=folder)
        asked = Counter((e.kind, re.split(r"[:\n?]", e.prompt)[0]) for e in corpus.examples)
        assert sorted(Counter(kind for kind, _ in asked).values()) == [4, 4, 4]
        own = [wording for kind, wording in asked if not wording.isascii() or language == "sw"]
        assert len(own) >= 6  # half of them in the language itself


def test_ntrex_refuses_texts_out_of_step_and_folders_without_them(tmp_path):
    make_ntrex(tmp_path / "a", ["one", "two"], ["moja"])
    with pytest.raises(RequestError, match=r"src\.eng\.txt has 2 lines and newstest2019-ref\.swa\.txt 1"):
        load_corpus("ntrex", "sw", path=tmp_path / "a")
    with pytest.raises(RequestError, match=r"0 files like newstest2019-\*\.tel\.txt.*English and Telugu"):
        load_corpus("ntrex", "te", path=tmp_path / "a")
    (tmp_path / "a/newstest2019-ref.swa.txt").write_bytes(b"\xff\n\n")
    with pytest.raises(WorkError, match="not UTF-8"):
        load_corpus("ntrex", "sw", path=tmp_path / "a")


# --- filters ---------------------------------------------------------------------------------------------


def test_every_reason_is_counted_and_the_counts_add_up(tmp_path):
    rows = [
        {"inputs": TELUGU, "targets": "అవును"},
        {"inputs": TELUGU, "targets": "అవును"},  # again
        {"inputs": f" {TELUGU}", "targets": "అవును\n"},  # and again
        {"inputs": "Translate: I go to the market.", "targets": TELUGU},  # one side in Telugu is enough
        {"inputs": TELUGU, "targets": "I go to the market."},
        {"inputs": "Hello", "targets": "World"},
        {"inputs": BENGALI, "targets": BENGALI},
        {"inputs": "123", "targets": "4"},
        {"inputs": TELUGU * 100, "targets": "అవును"},
        {"inputs": "", "targets": "అవును"},
        {"inputs": TELUGU, "targets": "౩ + ౪ అంటే ఏడు"},
    ]
    parquet(tmp_path / "telugu/train-0.parquet", rows)
    corpus = load_corpus("aya", "te", path=tmp_path)
    assert corpus.counts == {
        "read": 11, "kept": 3, "empty": 1, "too long": 1, "other script": 3, "other language": 0, "arithmetic": 1, "duplicate": 2
    }  # fmt: skip
    assert len(load_corpus("aya", "te", path=tmp_path, max_characters=100_000).examples) == 4
    exactly = len(TELUGU) + len("అవును")
    assert load_corpus("aya", "te", path=tmp_path, max_characters=exactly).counts["too long"] == 5
    with pytest.raises(RequestError, match=r"has 0 examples.*1 empty, 8 too long, 2 other script"):
        load_corpus("aya", "te", path=tmp_path, max_characters=exactly - 1)


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4",
        "3+4",
        "12 * 3",
        "৩ × ৪",
        "8 ÷ 2",
        "9 - 4",
        "10 / 2",
        "3 x 4",
        "jumla = 7",
        "x=-2",
        "5 = tano",
        r"\frac{1}{2}",
    ],
)
def test_calculations_are_found(text):
    assert sources._has_calculation(f"Maelezo: {text} basi")


@pytest.mark.parametrize(
    "text", ["2-1", "2019-20", "2019–20", "saa 10:30", "3/4", "C++", "a+b", "kilo 5", "1,000.50", "A - B", "a == b"]
)
def test_what_only_looks_like_a_calculation_stays(text):
    assert not sources._has_calculation(f"Maelezo: {text} basi")


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.kind == "math" and source.hub])
def test_solutions_of_word_problems_are_on_one_line(name):
    answer = "So, we have:\r\n\r\n1. 3 apples,\n2. 4 pears\n\nthat is 3 + 4 =\n7"
    row = {"question": "Two lines:\nhow many?", "answer": answer}
    (example,) = SOURCES[name].examples(row, "en")
    assert example.completion == "So, we have: 1. 3 apples, 2. 4 pears. that is 3 + 4 = 7."
    assert example.prompt == row["question"], "a problem may have several lines"


def test_math_corpora_keep_their_arithmetic(tmp_path):
    make_orca_math(tmp_path)
    assert load_corpus("orca-math", "en", path=tmp_path).counts["arithmetic"] == 0


# --- which examples, in which order ----------------------------------------------------------------------


def test_the_choice_depends_on_texts_and_seed_alone(tmp_path, monkeypatch):
    rows = numbered(300)
    parquet(tmp_path / "one/swahili/train-0.parquet", rows)
    whole = load_corpus("aya", "sw", 40, seed=1, path=tmp_path / "one")
    monkeypatch.setattr(files, "_BATCH", 7)
    np.random.default_rng(0).shuffle(rows)
    parquet(tmp_path / "many/swahili/train-b.parquet", rows[:90], row_group=11)
    jsonl(tmp_path / "many/other.jsonl", rows)  # not where the hub has them, so not read
    parquet(tmp_path / "many/swahili/train-a.parquet", rows[90:])
    spread = load_corpus("aya", "sw", 40, seed=1, path=tmp_path / "many")
    assert spread.examples == whole.examples
    assert spread.fingerprint == whole.fingerprint
    assert spread.counts == whole.counts == {"read": 300, "kept": 300} | dict.fromkeys(REASONS, 0)


def test_fewer_examples_are_the_first_of_more(tmp_path):
    jsonl(tmp_path / "a.jsonl", [row for row in numbered(20) for _ in range(2)] + numbered(50))
    every = load_corpus("aya", "sw", path=tmp_path)
    assert len(every.examples) == 50
    assert every.counts["duplicate"] == 40
    for n in (1, 2, 17, 49, 50):
        assert load_corpus("aya", "sw", n, path=tmp_path).examples == every.examples[:n]


def test_only_the_same_two_sides_are_a_duplicate(tmp_path):
    rows = [{"inputs": SWAHILI, "targets": "ab c"}, {"inputs": f"{SWAHILI}ab", "targets": "c"}]
    jsonl(
        tmp_path / "a.jsonl",
        [*rows, {"inputs": SWAHILI, "targets": "Ab c"}, {"inputs": f"{SWAHILI}a", "targets": "b c"}],
    )
    assert load_corpus("aya", "sw", path=tmp_path).counts["kept"] == 4


def test_seeds_choose_evenly_and_independently(tmp_path):
    jsonl(tmp_path / "a.jsonl", numbered(40))
    chosen = Counter(
        example.prompt
        for seed in range(200)
        for example in load_corpus("aya", "sw", 10, seed=seed, path=tmp_path).examples
    )
    assert len(chosen) == 40
    # Each is drawn in 50 of 200 on average, with a standard deviation of 6: five of them is beyond chance.
    assert min(chosen.values()) > 20
    assert max(chosen.values()) < 80


def test_the_same_in_another_process(tmp_path):
    jsonl(tmp_path / "a.jsonl", numbered(30))
    code = f"from xlnb.corpora.sources import *; print(load_corpus('aya', 'sw', 9, 3, {str(tmp_path)!r}).fingerprint)"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == load_corpus("aya", "sw", 9, 3, tmp_path).fingerprint


def test_the_fingerprint_changes_with_a_character(tmp_path):
    rows = numbered(3)
    jsonl(tmp_path / "a/a.jsonl", rows)
    rows[1]["targets"] = rows[1]["targets"].replace("Ndiyo", "Ndiyò")
    jsonl(tmp_path / "b/a.jsonl", rows)
    a, b = (load_corpus("aya", "sw", path=tmp_path / folder) for folder in "ab")
    assert len({a.fingerprint, b.fingerprint, replace(a, examples=a.examples[::-1]).fingerprint}) == 3


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gsm9k", "en"), "No corpus 'gsm9k': choose one of templates, .*ntrex.* Did you mean gsm8k"),
        (("gsm8k", "sw"), r"gsm8k has no 'sw'; it has: en\. In 'sw' there are: templates, .*ntrex"),
        (("aya", "fi"), r"aya has no 'fi'; it has: sw, bn, te\.$"),
        (("aya", "sw", 0), "n must be a whole number from 1 on.*not 0"),
        (("aya", "sw", True), "n must be"),
        (("aya", "sw", 1, 0, "no/where"), r"no/where does not exist"),
        (("templates", "sw"), "has no end: say how many"),
        (("templates", "sw", 1, 0, "."), "leave the path out"),
        (("templates-generic", "fi", 1), "templates-generic has no 'fi'"),
        (("prose", "en"), "prose has no 'en'"),
        (("prose", "sw", 100_000), r"n = 100000: the prose in 'sw' has [\d,]+ examples"),
        (("prose", "sw", 1, 0, "."), "leave the path out"),
    ],
)
def test_wrong_requests_are_told(arguments, words):
    with pytest.raises(RequestError, match=words):
        load_corpus(*arguments)


def test_too_many_examples_are_refused_with_the_number_there_is(tmp_path):
    jsonl(tmp_path / "a.jsonl", [*numbered(3), *numbered(1), {"inputs": "", "targets": ""}])
    words = r"aya in 'sw' has 3 examples, 80,000 are wanted \(.*5 read; dropped: 1 empty, 1 duplicate\)"
    with pytest.raises(RequestError, match=words):
        load_corpus("aya", "sw", 80_000, path=tmp_path)
    assert len(load_corpus("aya", "sw", 3, path=tmp_path).examples) == 3


def test_a_corpus_of_nothing_is_refused(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"inputs": "", "targets": ""}])
    with pytest.raises(RequestError, match="has 0 examples"):
        load_corpus("aya", "sw", path=tmp_path)


def test_folders_without_training_files_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"no files of aya: it needs swahili/train-\*\.parquet, or files ending in"):
        load_corpus("aya", "sw", path=tmp_path)
    jsonl(tmp_path / "test.jsonl", [{"question": "q", "answer": "#### 1"}])
    for path in (tmp_path, tmp_path / "test.jsonl"):
        with pytest.raises(RequestError, match=r"test\.jsonl is by its name a test or validation split"):
            load_corpus("gsm8k", "en", path=path)


@pytest.mark.parametrize("write", [parquet, jsonl])
def test_missing_columns_are_told_with_those_found(tmp_path, write):
    file = tmp_path / ("a.parquet" if write is parquet else "a.jsonl")
    write(file, [{"instruction": "x", "inputs": "y"}])
    with pytest.raises(RequestError, match=r"a\.\w+ has no column targets; it has: instruction, inputs"):
        load_corpus("aya", "sw", path=tmp_path)


def test_missing_columns_of_a_csv_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("instruction,output\nx,y\n")
    with pytest.raises(RequestError, match="no column telugu_instruction, telugu_output; it has: instruction, output"):
        load_corpus("telugu-alpaca", "te", path=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a.parquet", b"PAR1 but no more", "cannot be read after row 0"),
        ("a.jsonl", json.dumps(numbered(1)[0]).encode() + b"\n{broken\n", "cannot be read after row 1: Expecting"),
        ("a.jsonl", b'{"inputs": "\xff"}\n', "cannot be read after row 0"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"inputs": "a", "targets": "b"}\n' * 9, mtime=0)[:-9],
            "cannot be read after row",
        ),
        ("a.jsonl.gz", b"not gzipped", "cannot be read after row 0"),
    ],
)
def test_damaged_files_are_told(tmp_path, file, content, words):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WorkError, match=words) as failure:
        load_corpus("aya", "sw", path=tmp_path)
    assert file in str(failure.value)


def test_rows_that_are_no_objects_are_told(tmp_path):
    (tmp_path / "a.json").write_text('["a", "b"]')
    with pytest.raises(RequestError, match="row 1 is a str, where an object of columns is needed"):
        load_corpus("aya", "sw", path=tmp_path)


@pytest.mark.parametrize("cell", ["a text", [{"from": "human", "value": TELUGU}, {"from": "gpt", "value": TELUGU}]])
def test_conversations_of_another_shape_are_told(tmp_path, cell):
    jsonl(tmp_path / "a.jsonl", [{"tel_Telu": cell}])
    with pytest.raises(RequestError, match=r"A row holds .*, where (a text|turns of a conversation) must be"):
        load_corpus("indic-align", "te", path=tmp_path)


def test_cells_that_are_no_text_are_told(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"inputs": SWAHILI, "targets": ["Ndiyo"]}])
    with pytest.raises(RequestError, match=r"A row holds \['Ndiyo'\], where a text must be"):
        load_corpus("aya", "sw", path=tmp_path)


def test_conversations_of_plain_turns_are_read(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"tel_Telu": [TELUGU, "సరే", "మరొకటి"]}])
    assert pairs(load_corpus("indic-align", "te", path=tmp_path)) == {(TELUGU, "సరే")}


def test_an_offline_hub_says_how_to_pass_a_path(tmp_path):
    code = (
        "from xlnb.corpora.sources import load_corpus\nfrom xlnb.errors import WorkError\n"
        "try: load_corpus('aya', 'sw', 1)\n"
        "except WorkError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert re.match(r"CohereLabs/aya_collection_language_split cannot be had", done.stdout)
    assert "download swahili/train-*.parquet of it elsewhere" in done.stdout
    assert "aya:FOLDER" in done.stdout


def test_names_with_paths():
    assert name_and_path("ntrex:/a/b:c") == ("ntrex", Path("/a/b:c"))
    with pytest.raises(RequestError, match="no path behind the colon"):
        name_and_path("ntrex:")


# --- plain text ------------------------------------------------------------------------------------------


def corpus_of(*examples, kind="language"):
    return Corpus("aya" if kind == "language" else "gsm8k", "sw", kind, examples, "a test", {})


def test_plain_text():
    language = formatted(corpus_of(Example("Sema.", "Habari.", "k")))
    assert language == (Example("### Instruction\nSema.\n\n### Response\n", "Habari.", "k"),)
    math = formatted(corpus_of(Example("How many?", "The answer is 2."), kind="math"))
    assert math == (Example("Question: How many?\nAnswer:", " The answer is 2."),)


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_word_problems_come_plain_and_unformatted(language):
    corpus = load_corpus("templates", language, 30, seed=4)
    assert formatted(corpus) == templates.math_examples(language, "train", 30, 4)
    problems = templates.problems(language, "train", 30, 4)
    assert [(e.prompt, e.completion) for e in corpus.examples] == [(p.question, p.solution) for p in problems]


@pytest.mark.parametrize("language", SOURCES["templates-generic"].languages)
def test_generic_examples_come_plain_and_unformatted(language):
    corpus = load_corpus("templates-generic", language, 60, seed=4)
    assert formatted(corpus) == templates.language_examples(language, 60, 4)
    assert not any("###" in example.prompt for example in corpus.examples)


# --- chat templates --------------------------------------------------------------------------------------

LOOP = "{% for m in messages %}"
CHATML = LOOP + (
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = ("{{ bos_token }}" + LOOP) + (
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = ("{{ bos_token }}" + LOOP) + (
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = ("{{ bos_token }}" + LOOP) + (
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = CHATML[: -len("{% endif %}")] + "<think>\n{% endif %}"  # opens a thought that the conversation does not have
SILENT = CHATML.replace("{{ m.content }}", "{{ m.content if m.role == 'user' else '' }}")
MARKERS = "<|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> <start_of_turn> <end_of_turn> [INST] [/INST]"
STYLES = {
    "ChatML, no beginning": (CHATML, None, "<|im_end|>"),
    "ChatML of a base, other end": (CHATML, None, "<eos>"),
    "Llama 3": (LLAMA, "<bos>", "<|eot_id|>"),
    "Gemma": (GEMMA, "<bos>", "<eos>"),
    "Mistral": (MISTRAL, "<bos>", "<eos>"),
}


def chat_tokenizer(template, bos="<bos>", eos="<eos>"):
    from tokenizers.processors import TemplateProcessing

    tokenizer = miniatures._byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": MARKERS.split()})
    tokenizer.eos_token, tokenizer.chat_template = eos, template
    if bos is None:
        tokenizer.bos_token = None
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    return tokenizer


@pytest.mark.parametrize("style", STYLES)
def test_training_reads_what_the_chat_template_writes(style):
    tokenizer = chat_tokenizer(*STYLES[style])
    examples = [Example("Sema:\nhabari {x}", "Habari ya 'asubuhi'.\nNjema <b>", "k"), Example(BENGALI, TELUGU)]
    base = base_module.Base(Path(), None, tokenizer)
    for example, chat in zip(examples, formatted(corpus_of(*examples), tokenizer), strict=True):
        asked = [{"role": "user", "content": example.prompt}]
        whole = [*asked, {"role": "assistant", "content": example.completion}]
        generation = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        text = tokenizer.apply_chat_template(whole, tokenize=False).rstrip()
        assert chat.kind == example.kind
        prompt = base.start + base.encode(chat.prompt)  # as training puts rows together
        assert prompt == base.encode(generation)
        ended = text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token
        assert [*prompt, *base.encode(chat.completion), base.eos_id] == base.encode(ended)


def test_end_of_turn_markers_stay_where_they_do_not_end_the_sequence():
    corpus = corpus_of(Example("a", "b"))
    completions = {style: formatted(corpus, chat_tokenizer(*STYLES[style]))[0].completion for style in STYLES}
    assert completions == {
        "ChatML, no beginning": "b",
        "ChatML of a base, other end": "b<|im_end|>",
        "Llama 3": "b",
        "Gemma": "b<end_of_turn>",
        "Mistral": " b",
    }


@pytest.mark.parametrize("template", [THINKING, SILENT])
def test_templates_that_do_not_continue_their_prompt_are_refused(template):
    with pytest.raises(RequestError, match="does not continue its own generation prompt"):
        formatted(corpus_of(Example("a", "b")), chat_tokenizer(template))


def test_a_tokenizer_without_chat_template_gets_plain_text():
    corpus = corpus_of(Example("a", "b"))
    assert formatted(corpus, chat_tokenizer(None)) == formatted(corpus)


# --- the real sets ---------------------------------------------------------------------------------------


@real_data
def test_the_real_gsm8k():
    corpus = load_corpus("gsm8k", "en", path=DATA / "gsm8k")
    assert corpus.counts["kept"] == corpus.counts["read"] == 7473
    assert all(re.search(r"The answer is -?[\d.,]+\.$", example.completion) for example in corpus.examples)
    assert not any(re.search(r"<<|>>|####|\n", example.completion) for example in corpus.examples)
    test = (DATA / "gsm8k/test.jsonl").read_text(encoding="utf-8")
    held_out = {json.loads(line)["question"].strip() for line in test.split("\n") if line}
    assert not held_out & {example.prompt for example in corpus.examples}


@real_data
@pytest.mark.parametrize("language", ["sw", "bn", "te"])
def test_the_real_ntrex(language):
    corpus = load_corpus("ntrex", language, path=DATA / "ntrex")
    kinds = Counter(example.kind for example in corpus.examples)
    assert corpus.counts["read"] - 2 * 1997 > 1800  # continuations of most sentences
    assert corpus.counts["kept"] > 0.98 * corpus.counts["read"]
    assert min(kinds["to-target"], kinds["to-english"]) > 1900
    assert sum(any(digit in example.prompt for digit in "0123456789") for example in corpus.examples) > 0


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def xlnb_corpus(capsys, monkeypatch):
    """A function that runs `xlnb corpus` and returns its exit code, what it printed, and what it complained of."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("corpus")(corpus_command)
    app.callback()(lambda: None)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.delenv("XLNB_DEBUG", raising=False)

    def run(*arguments):
        capsys.readouterr()
        code = cli.exit_code(["corpus", *map(str, arguments)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_the_command_lists_the_table(xlnb_corpus):
    code, out, _ = xlnb_corpus()
    lines = out.splitlines()
    assert (code, len(lines)) == (0, len(SOURCES) + 1)
    aya = next(line for line in lines if line.startswith("aya"))
    assert re.fullmatch(r"aya +language +sw bn te +CohereLabs/aya_collection_language_split +Apache-2\.0", aya)
    assert {line.split()[0] for line in lines[1:]} == set(SOURCES) >= {"templates-english", "prose"}


def test_the_command_shows_examples_as_a_model_reads_them(xlnb_corpus, tmp_path):
    make_bongchat(tmp_path)
    code, out, _ = xlnb_corpus("bongchat", "--path", tmp_path, "-n", 2)
    corpus = load_corpus("bongchat", "bn", 2, path=tmp_path)
    assert code == 0
    assert f"bongchat (language, bn), read from {tmp_path}\nexamples: 2 read, 2 kept\n" in out
    assert corpus.fingerprint in out
    assert f"### Instruction\n{BENGALI}\n\n### Response\n⟦ঠিক আছে⟧" in out
    assert xlnb_corpus(f"bongchat:{tmp_path}", "-n", 2)[1] == out


def test_the_command_shows_chats(xlnb_corpus, tmp_path):
    chat_tokenizer(*STYLES["Gemma"]).save_pretrained(tmp_path)
    code, out, _ = xlnb_corpus("templates", "--language", "sw", "-n", 1, "--tokenizer", tmp_path)
    assert code == 0
    assert re.search(r"<start_of_turn>user\n.*<end_of_turn>\n<start_of_turn>model\n⟦.*<end_of_turn>⟧", out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["aya"], 2, "Say the --language: aya has sw, bn, te."),
        (["aia"], 2, "No corpus 'aia': choose one of templates, "),
        (["aya:a", "--path", "b", "--language", "sw"], 2, "given twice"),
        (["aya:nowhere", "--language", "sw"], 2, "nowhere does not exist"),
    ],
)
def test_the_command_refuses_in_words(xlnb_corpus, arguments, code, words):
    found, out, err = xlnb_corpus(*arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
