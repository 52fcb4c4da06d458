"""Data as they come: gaps, pointers, byte-order marks, bytes, other languages, lines without a word."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xlnb.corpora import files
from xlnb.corpora.benchmarks import load_benchmark
from xlnb.corpora.sources import load_corpus
from xlnb.errors import RequestError, WorkError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def mmlu(tmp_path):
    """A function that writes three rows of Global-MMLU, changed by place, and returns the folder."""

    def write(changes):
        rows = [
            {"sample_id": f"s{i}", "subject": "x", "question": f"q{i}?", **dict.fromkeys(COLUMNS, "o"), "answer": "A"}
            | changes.get(i, {})
            for i in range(3)
        ]
        (tmp_path / "sw").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(tmp_path / "sw" / "test-0.parquet")
        return tmp_path

    return write


COLUMNS = ("option_a", "option_b", "option_c", "option_d")


@pytest.mark.parametrize("gap", [None, "", "  ", float("nan")])
def test_a_row_that_lacks_an_option_is_left_out_and_counted(mmlu, gap):
    whole = load_benchmark("global-mmlu", "sw", mmlu({}), shots=0)
    assert len(whole.items) == 3 and "left out" not in whole.note
    found = load_benchmark("global-mmlu", "sw", mmlu({1: {"option_c": gap}}), shots=0)
    assert {item.id for item in found.items} == {"s0", "s2"}
    assert "1 rows without a question or an option left out" in found.note


def test_a_nought_is_an_option(mmlu):
    folder = mmlu({place: {"option_a": number} for place, number in enumerate((0, 1, 2))})
    assert len(load_benchmark("global-mmlu", "sw", folder, shots=0).items) == 3


def test_where_every_row_lacks_something_there_is_nothing_to_ask(mmlu, tmp_path):
    with pytest.raises(RequestError, match="has no problems for this request"):
        load_benchmark("global-mmlu", "sw", mmlu({place: {"option_a": None} for place in range(3)}), shots=0)
    (tmp_path / "mgsm_sw.tsv").write_text("\n")
    with pytest.raises(RequestError, match="has no problems for this request"):
        load_benchmark("mgsm", "sw", tmp_path, n=1, shots=0)


@pytest.mark.parametrize("gap", [None, "", " "])
def test_belebele_is_whole_as_published_so_that_a_gap_is_refused(tmp_path, gap):
    answers = {f"mc_answer{i}": "x" for i in range(1, 5)}
    rows = [
        {"link": f"l{i}", "question_number": 1, "flores_passage": "p", "question": "q?", "correct_answer_num": "1"}
        | answers
        for i in range(3)
    ]
    rows[1]["mc_answer3"] = gap
    (tmp_path / "swh_Latn.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(RequestError, match="row 2: no 'mc_answer3'"):
        load_benchmark("belebele", "sw", tmp_path, shots=0)


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("Ana 5?\t5\r\nBen?\t6\r\n", "Ana 5?"),
        ("Ana 5?\t5\rBen?\t6\r", "Ana 5?"),
        ('"Ana said ""five"", why?"\t5\n', 'Ana said "five", why?'),
        ('"Five" said Ana, why?\t5\n', '"Five" said Ana, why?'),
        ('He said "five", why?\t5\n', 'He said "five", why?'),
    ],
)
def test_line_ends_and_quotes_of_a_table_are_no_text(tmp_path, line, question):
    (tmp_path / "mgsm_sw.tsv").write_bytes(line.encode())
    (item,) = load_benchmark("mgsm", "sw", tmp_path, n=1, shots=0).items
    assert item.prompt.startswith(f"Question: {question}\n") and item.answer == 5


@pytest.mark.parametrize(
    ("line", "wrong"), [("\t5\n", "no question"), ("1\tAna?\t5\n", "2 tabs"), ("Ana? 5\n", "no tab")]
)
def test_a_line_that_is_no_question_with_its_answer_is_refused(tmp_path, line, wrong):
    (tmp_path / "mgsm_sw.tsv").write_text(line)
    with pytest.raises(RequestError, match=f"line 1: {wrong}; a line is question, tab, answer"):
        load_benchmark("mgsm", "sw", tmp_path, n=1, shots=0)


def test_a_later_row_of_json_may_lack_its_answer(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"question": "q", "answer": "three"}\n{"question": "r"}\n')
    corpus = load_corpus("gsm8k", "en", path=tmp_path)
    assert [example.prompt for example in corpus.examples] == ["q"] and corpus.counts["empty"] == 1


def test_a_question_that_is_there_twice_is_refused(mmlu):
    with pytest.raises(RequestError, match="s0: it is there twice"):
        load_benchmark("global-mmlu", "sw", mmlu({2: {"sample_id": "s0"}}), shots=0)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "mgsm_sw.tsv").write_bytes("\ufeffAna 5?\t5\n".encode())
    assert load_benchmark("mgsm", "sw", tmp_path, n=1, shots=0).items[0].prompt.startswith("Question: Ana")


def test_the_first_row_of_json_may_lack_a_column(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "q"}\n{"question": "r", "answer": "3"}\n')
    assert [row["answer"] for _, row in files.rows(file, ("question", "answer"))] == [None, "3"]
    file.write_text('{"question": "q"}\n{"question": "r"}\n')
    with pytest.raises(RequestError, match="has no column answer; it has: question"):
        list(files.rows(file, ("question", "answer")))


def test_bytes_are_text_and_what_is_no_number_is_none(tmp_path):
    for column, prompts in (([b"three apples", b"four"], {"three apples", "four"}), ([1.5, float("nan")], {"1.5"})):
        pq.write_table(
            pa.table({"question": pa.array(column), "answer": pa.array(["a", "b"])}), tmp_path / "train-0.parquet"
        )
        assert {example.prompt for example in load_corpus("gsm8k", "en", path=tmp_path).examples} == prompts


@pytest.fixture
def aligned(tmp_path):
    """A function that writes lines of English and Swahili as NTREX has them, and returns the folder."""

    def write(*pairs):
        for name, lines in zip(("src.eng", "ref.swa"), zip(*pairs, strict=True), strict=True):
            (tmp_path / f"newstest2019-{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return write


WEATHER = ("The weather is good today in town.", "Hali ya hewa ni nzuri leo mjini.")


def test_a_line_without_a_word_is_no_translation(aligned):
    corpus = load_corpus("ntrex", "sw", path=aligned(WEATHER, (".", "."), ("...", "—")))
    assert corpus.counts["empty"] == 4 and {e.kind for e in corpus.examples} == {
        "to-target",
        "to-english",
        "continuation",
    }
    assert len(corpus.examples) == 3


@pytest.mark.parametrize(
    "line",
    [
        "Hello there my good friend, how are you today?",
        "Gbogbo ènìyàn ni a bí ní òmìnira; iyì àti ẹ̀tọ́ kọ̀ọ̀kan sì dọ́gba.",
        "Il faut bien le faire demain matin.",
    ],
)
def test_another_language_in_the_same_script_is_dropped(aligned, line):
    corpus = load_corpus("ntrex", "sw", path=aligned(WEATHER, (WEATHER[0] + "!", line)))
    assert corpus.counts["other language"] >= 2
    assert not any(line in (e.prompt + e.completion) for e in corpus.examples if e.kind != "continuation")


def test_a_git_lfs_pointer_is_called_what_it_is(tmp_path):
    for name in ("train-0.parquet", "mgsm_sw.tsv"):
        (tmp_path / name).write_text(POINTER)
    with pytest.raises(WorkError, match="is a Git LFS pointer and not the data: run `git lfs pull`"):
        load_corpus("gsm8k", "en", path=tmp_path)
    with pytest.raises(RequestError, match="is a Git LFS pointer"):
        load_benchmark("mgsm", "sw", tmp_path, n=1, shots=0)
