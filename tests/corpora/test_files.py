"""One reader of data sets: places and order of rows, the exception that the caller chose, the hub's copy."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from xlnb.corpora import files
from xlnb.errors import RequestError, WorkError

ROWS = [{"answer": "4", "more": "x", "question": "2 + 2?"}, {"answer": "5", "more": "y", "question": "2 + 3?"}]


def written(folder, name):
    file = folder / name
    table = pa.Table.from_pylist(ROWS)
    match files.suffix(file):
        case ".parquet":
            pq.write_table(table, file)
        case ".csv":
            pyarrow.csv.write_csv(table, file)
        case ".json":
            file.write_text(json.dumps(ROWS, indent=1))
        case _:
            text = "\ufeff" + "\n\n".join(map(json.dumps, ROWS))  # with a byte order mark and an empty line
            file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.json", "a.jsonl", "a.jsonl.gz", "a.txt"])
def test_rows_have_their_place_and_the_wanted_columns_in_the_wanted_order(tmp_path, name):
    file = written(tmp_path, name)
    found = list(files.rows(file, ("question", "answer")))
    assert [place for place, _ in found] == [f"{file}, row 1", f"{file}, row 2"]
    assert [list(row.items()) for _, row in found] == [
        [("question", row["question"]), ("answer", row["answer"])] for row in ROWS
    ]


def test_the_caller_says_whose_fault_a_damaged_file_is(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"question": 1}\n\xff')
    for failure in (RequestError, WorkError):
        with pytest.raises(failure, match=r"a\.jsonl cannot be read after row 0"):
            list(files.rows(file, ("question",), failure))
        with pytest.raises(failure, match=r"a\.jsonl cannot be read: it is not UTF-8"):
            files.text(file, failure)
    with pytest.raises(RequestError, match="has no column answer; it has: question"):  # a wrong request in any case
        file.write_text('{"question": 1}')
        list(files.rows(file, ("question", "answer"), WorkError))


def test_text_ends_its_lines_at_line_feeds_alone(tmp_path):
    for file, pack in ((tmp_path / "a.txt", bytes), (tmp_path / "a.txt.gz", gzip.compress)):
        file.write_bytes(pack("\ufeffa\u2028b\r\nc\rd".encode()))
        assert files.text(file).split("\n") == ["a\u2028b\r", "c\rd"]


def test_json_is_read_without_pyarrow(tmp_path):
    file = written(tmp_path, "a.jsonl")
    code = (
        "import sys; from pathlib import Path; from xlnb.corpora import files;"
        f"print(len(list(files.rows(Path({str(file)!r}), ['question']))), 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_a_local_copy_is_a_path_or_the_hubs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.local_copy("~", "a/b", ["*.csv"]) == tmp_path
    with pytest.raises(RequestError, match="nowhere does not exist: give a folder or a file of a/b"):
        files.local_copy(tmp_path / "nowhere", "a/b", [])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *asked, **how: f"/{asked[0]}/{how['revision']}")
    assert files.local_copy(None, "a/b", ["*.csv"], "main") == Path("/a/b/main")

    def silent(*asked, **how):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", silent)
    with pytest.raises(
        WorkError, match=r"a/b cannot be had .*\(ConnectionError: \).*\*\.csv.*as the path: b:FOLDER\.$"
    ):
        files.local_copy(None, "a/b", ["*.csv"], hint=": b:FOLDER")
