"""Files of data sets: a local copy or the hub's, as text or row by row from Parquet, CSV and JSON (lines or one array).

Parquet and CSV by pyarrow, JSON by the standard library: `datasets` would first write an Arrow copy of every set, and infers
the types of a JSON or CSV column from its first rows, which fails on rows of another type ("5" read as a number, say).
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isnan
from pathlib import Path
from typing import IO, Any

from xlnb.downloads import DATASET, snapshot
from xlnb.errors import RequestError, WorkError

Row = Mapping[str, Any]
FORMATS = (".parquet", ".jsonl", ".json", ".csv")  # the last three may be gzipped
_BATCH = 2048  # rows of Parquet read at a time
_FIRST_ROWS = 100  # of JSON, which together have all columns
_BLOCK = 1 << 24  # bytes of CSV read at a time; no row may be longer


def suffix(file: Path) -> str:
    """Return the suffix that tells a file's format.

    >>> suffix(Path("a/train.jsonl.gz"))
    '.jsonl'
    """
    return Path(file.name.removesuffix(".gz")).suffix


def local_copy(
    path: str | Path | None, repository: str, patterns: Sequence[str], revision: str | None = None, hint: str = ""
) -> Path:
    """Return where a data set lies: at ``path`` or, without one, where the hub's files do (:func:`xlnb.downloads.snapshot`).

    ``hint`` says how a path is given. This is the only place that asks the hub for data.
    """
    if path is not None:
        found = Path(path).expanduser()
        if not found.exists():
            raise RequestError(f"{found} does not exist: give a folder or a file of {repository}.")
        return found
    try:
        return snapshot(repository, DATASET, patterns, revision)
    except WorkError as error:
        raise WorkError(
            f"{repository} cannot be had from the Hugging Face hub ({error}). Where there is no network, download "
            f"{' and '.join(patterns)} of it elsewhere and give their folder as the path{hint}."
        ) from error


def _check_no_pointer(file: Path, failure: type[Exception]) -> None:
    """Refuse what Git leaves in the place of a large file that was not fetched."""
    if file.is_file() and file.stat().st_size < 1000 and file.read_bytes().startswith(b"version https://git-lfs"):
        raise failure(
            f"{file} is a Git LFS pointer and not the data: run `git lfs pull` there, or download the file itself."
        )


def text(file: Path, failure: type[Exception] = WorkError) -> str:
    """Return the text of a file; ``failure`` is raised where it cannot be read."""
    _check_no_pointer(file, failure)
    try:
        with _open(file) as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise failure(f"{file} cannot be read: it is not UTF-8 ({error}).") from None
    except (OSError, EOFError, zlib.error) as error:
        raise failure(f"{file} cannot be read: {error}.") from None


def rows(file: Path, columns: Sequence[str], failure: type[Exception] = WorkError) -> Iterator[tuple[str, Row]]:
    """Yield each row of a file after its place (such as "a.csv, row 1"), of each the wanted columns alone, in that order.

    A column that ends in ``?`` may be missing. Rows of JSON may leave out any that another of the first rows has: those are None,
    as is what is no number (NaN); bytes are text in UTF-8. Raises ``failure`` where the file is damaged.
    """
    _check_no_pointer(file, failure)
    readers: dict[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {".parquet": _parquet_rows, ".csv": _csv_rows}
    read = readers.get(suffix(file), _json_rows)
    count = 0
    try:
        for count, row in enumerate(read(file, columns), 1):
            yield f"{file}, row {count}", {column: _value(value) for column, value in row.items()}
    except RequestError:
        raise
    except _damages() as error:
        raise failure(f"{file} cannot be read after row {count}: {' '.join(str(error).split())}") from None


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return None if isinstance(value, float) and isnan(value) else value


def _damages() -> tuple[type[Exception], ...]:
    """Return what a damaged file raises; asked only when something was raised, since pyarrow is slow to import."""
    import pyarrow

    return pyarrow.ArrowException, ValueError, OSError, EOFError, csv.Error, zlib.error


def _open(file: Path) -> IO[str]:
    # Line feeds alone end a line: a break at any other character would put line-aligned texts out of step.
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="\n")
    return file.open(encoding="utf-8-sig", newline="\n")


def _wanted(file: Path, columns: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return the columns that a file has of the wanted ones."""
    missing = [column for column in columns if not column.endswith("?") and column not in found]
    if missing:
        raise RequestError(f"{file} has no column {', '.join(missing)}; it has: {', '.join(found) or 'none'}.")
    return [name for name in (column.removesuffix("?") for column in columns) if name in found]


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as parquet:
        wanted = _wanted(file, columns, parquet.schema_arrow.names)
        for batch in parquet.iter_batches(_BATCH, columns=wanted):
            yield from batch.select(wanted).to_pylist()


def _csv_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    with _open(file) as lines:
        wanted = _wanted(file, columns, next(csv.reader(lines), []))
    # Text as it stands: no column of digits is a number, no "null" is nothing.
    as_text = ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pyarrow.string()))
    read, parse = ReadOptions(block_size=_BLOCK), ParseOptions(newlines_in_values=True)
    with pyarrow.input_stream(file) as stream, open_csv(stream, read, parse, as_text) as reader:
        for batch in reader:
            yield from batch.to_pylist()


def _json_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    wanted, needed = [column.removesuffix("?") for column in columns], {c for c in columns if not c.endswith("?")}
    values, first, there = _json_values(file), [], dict[str, None]()
    for value in islice(values, _FIRST_ROWS):  # no more than it takes
        first.append(value)
        there |= dict.fromkeys(value if isinstance(value, dict) else ())
        if needed <= set(there):
            break
    for number, row in enumerate(chain(first, values), 1):
        if not isinstance(row, dict):
            raise RequestError(f"{file}: row {number} is a {type(row).__name__}, where an object of columns is needed.")
        if number == 1:
            _wanted(file, columns, list(there))
        yield {column: row.get(column) for column in wanted}


def _json_values(file: Path) -> Iterator[Any]:
    with _open(file) as lines:
        first = next((line for line in lines if line.strip()), "")
        if first.lstrip().startswith("["):
            yield from json.loads(first + lines.read())
        elif first:
            yield json.loads(first)
            yield from (json.loads(line) for line in lines if line.strip())
