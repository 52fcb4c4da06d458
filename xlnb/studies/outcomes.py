"""The committed results that the book reads: outcomes problem by problem, and the scores computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError
from xlnb.paths import results_folder
from xlnb.stats import mean_interval
from xlnb.studies.experiments import EXPERIMENTS, MEASURING

if TYPE_CHECKING:
    import pandas as pd
    from numpy import ndarray
    from pyarrow import Table


# ``corpora`` names what was learned from; ``trained`` and ``asked`` are digests of all that made the model and of all that it was
# asked: rows of different data never count as one.
KEYS = ["profile", "setting", "model", "language", "test_language", "paradigm", "seed", "partition", "method", "expert",
        "split", "benchmark", "shots", "metric", "corpora", "trained", "asked"]  # fmt: skip
COLUMNS = [*KEYS, "problem", "outcome", "text"]


def load_outcomes(folder: str | Path | None = None, experiment: str | None = None, **filters: Any) -> pd.DataFrame:
    """Return the per-problem outcomes behind all committed results, or those of one ``experiment``.

    Columns: profile, setting (templates or real), model, language (the study's), test_language, paradigm, seed, partition,
    method, expert (math, language, both, none), split, benchmark, shots, metric, corpora (what was learned from), trained and
    asked (digests of all that made the model, and of all that it was asked), problem, outcome, text (the generated answer, if
    any). ``filters`` keep the rows whose column equals a value or is in a list of them. Raises RequestError for an unknown column
    and where there are no results.
    """
    home = Path(folder or results_folder())
    files = _result_files(home, experiment)
    if not files and not _result_files(home):
        raise RequestError(f"No results in {home}: it holds no folder with an outcomes.parquet.")
    if not files:
        raise RequestError(f"No committed result of the experiment {experiment!r} in {home}.")
    return distinct(_frame(files, _where(files, filters)))


def committed_outcomes(folder: Path, experiment: str | None = None, **filters: Any) -> pd.DataFrame:
    """Return what :func:`load_outcomes` does, or no rows where nothing is committed: results are committed as they come."""
    import pandas as pd

    there = _result_files(folder, experiment)
    return load_outcomes(folder, experiment, **filters) if there else pd.DataFrame(columns=COLUMNS)


def load_scores(folder: str | Path | None = None, experiment: str | None = None, **filters: Any) -> pd.DataFrame:
    """Return all committed results, a row a score: the keys of :func:`load_outcomes`, then value, low, high, n.

    ``low`` and ``high`` bound the 95 % interval over problems. The base has seed 0. Raises as :func:`load_outcomes`.
    """
    return scores(load_outcomes(folder, experiment, **filters))


def load_costs(folder: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Return what groups of readings cost, as :meth:`xlnb.Study.costs` measured them: profile, language, readings, problems,
    seconds. Raises :class:`~xlnb.errors.RequestError` where none are committed.
    """
    import pandas as pd

    home = Path(folder or results_folder())
    files = sorted(home.glob(f"{MEASURING}*/costs.parquet"))
    if not files:
        raise RequestError(f"No costs of readings in {home}: it holds no {MEASURING} with a costs.parquet.")
    return select(pd.concat([pd.read_parquet(file) for file in files], ignore_index=True), **filters)


def costs_for(costs: pd.DataFrame, language: str) -> pd.DataFrame:
    """Return what readings cost in a language, or where that was not measured in those where it was: they differ little."""
    mine = select(costs, language=language)
    return costs if mine.empty else mine


Files = tuple[tuple[Path, int], ...]  # with the time of the last change


def _result_files(folder: Path, experiment: str | None = None) -> Files:
    paths = sorted(folder.glob("*/outcomes.parquet"))
    return tuple(
        (path, path.stat().st_mtime_ns) for path in paths if experiment is None or _is_of(path.parent.name, experiment)
    )


@lru_cache(maxsize=8)
def _table(file: tuple[Path, int]) -> Table:
    """Return a file's rows; all but outcomes and answers as places in a dictionary, since a million rows have few values."""
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(file[0], read_dictionary=[*KEYS, "problem"]).read().unify_dictionaries().combine_chunks()
    for name in ("seed", "shots"):
        if name in table.column_names:
            table = table.set_column(
                table.column_names.index(name), name, table[name].combine_chunks().dictionary_encode()
            )
    return table


def _where(files: Files, wanted: Mapping[str, Any]) -> list[ndarray]:
    """Return for each file the places of its rows whose columns have these values, or one of a list of them.

    Raises RequestError for a column that there is not.
    """
    import numpy as np

    found = []
    for file in files:
        table, keep = _table(file), None
        for column, value in wanted.items():
            if column not in COLUMNS:
                raise RequestError(f"Outcomes have no column {column!r}: choose among {', '.join(COLUMNS)}.")
            allowed = list(value) if isinstance(value, list | tuple | set) else [value]
            codes, values = _codes(table, column)
            here = np.isin(codes, [i for i, one in enumerate(values) if one in allowed])
            keep = here if keep is None else keep & here
        found.append(np.arange(len(table)) if keep is None else np.flatnonzero(keep))
    return found


def _codes(table: Table, column: str) -> tuple[ndarray, list[Any]]:
    """Return a column as places in the list of its values."""
    import numpy as np
    from pyarrow import types

    if column not in table.column_names:
        return np.zeros(len(table), dtype=int), [None]
    whole = table[column].combine_chunks()
    whole = whole if types.is_dictionary(whole.type) else whole.dictionary_encode()
    return whole.indices.fill_null(-1).to_numpy(), whole.dictionary.to_pylist()


def _frame(files: Files, places: Sequence[ndarray]) -> pd.DataFrame:
    import pandas as pd
    from pyarrow import types

    parts = []
    for file, rows in zip(files, places, strict=True):
        some = _table(file).take(rows)
        plain = [
            column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
            for column in some.columns
        ]
        parts.append(some.from_arrays(plain, some.column_names).to_pandas())
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


@lru_cache(maxsize=32)
def _index(files: Files, columns: tuple[str, ...]) -> dict[tuple[Any, ...], list[tuple[int, ndarray]]]:
    """Return where the rows with each combination of values are: of which file, at which places."""
    import numpy as np

    found: dict[tuple[Any, ...], list[tuple[int, ndarray]]] = {}
    for number, file in enumerate(files):
        table = _table(file)
        if not set(columns) <= set(table.column_names):
            continue
        key, values = np.zeros(len(table), dtype=np.int64), []
        for column in columns:
            codes, dictionary = _codes(table, column)
            # Numbered anew: the product of all dictionaries' lengths might not fit an integer.
            key = np.unique(key * len(dictionary) + codes, return_inverse=True)[1]
            values.append((codes, dictionary))
        order = np.argsort(key, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(order) else ():
            name = tuple(dictionary[codes[rows[0]]] for codes, dictionary in values)
            found.setdefault(name, []).append((number, rows))
    return found


def committed_rows(folder: Path, wanted: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the committed rows whose columns have these values, by metric; none where there are no results.

    Raises RequestError where they are of models that were not made alike.
    """
    files = _result_files(folder)
    there = _index(files, tuple(wanted)).get(tuple(wanted.values()), [])
    if not there:
        return {}
    rows = _frame(tuple(files[number] for number, _ in there), [places for _, places in there])
    found = {}
    for metric, part in rows.groupby("metric", sort=False):
        if "method" in wanted and part["trained"].nunique() > 1:
            raise RequestError(
                f"{folder} holds two results of {wanted['method']} that were not made alike (seed {wanted['seed']}, {metric}): "
                "their base, data or training differs. Remove one, or run live."
            )
        found[str(metric)] = part.drop_duplicates("problem")
    return found


def committed_readings(folder: Path, wanted: Mapping[str, Any]) -> set[str]:
    """Return the metrics of :func:`committed_rows`, from the columns that say it alone; thousands of cells in a second."""
    return _readings(_result_files(folder), tuple(wanted)).get(tuple(wanted.values()), set())


@lru_cache(maxsize=8)
def _readings(files: Files, columns: tuple[str, ...]) -> dict[tuple[Any, ...], set[str]]:
    found: dict[tuple[Any, ...], set[str]] = {}
    for *values, metric in _index(files, (*columns, "metric")):
        found.setdefault(tuple(values), set()).add(metric)
    return found


def made_readings(path: Path) -> set[str]:
    """Return the readings that a cell's file has; none where it isn't there."""
    if not path.is_file():
        return set()
    from pyarrow.parquet import ParquetFile

    return set(ParquetFile(path).read(columns=["metric"])["metric"].to_pylist())


# What tells one training from another: its names, and a digest of all that made it, "" in results of before it was kept.
TRAINING_NAMES = ["profile", "model", "language", "paradigm", "corpora", "seed", "expert"]
TRAINING_KEYS = [*TRAINING_NAMES, "trained"]


def load_training(folder: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Return the committed losses by step of experts: ``TRAINING_KEYS``, step, loss, rate, tokens, moves (of lanes).

    Each training once, where several experiments have it. ``filters`` are as in :func:`load_outcomes`. No rows where there are
    none.
    """
    import pandas as pd

    files = sorted(Path(folder or results_folder()).glob("*/training.parquet"))
    whole = [pd.read_parquet(file) for file in files]
    tables = [select(one if "trained" in one else one.assign(trained=""), **filters) for one in whole]
    if not any(map(len, tables)):
        return pd.DataFrame(columns=[*TRAINING_KEYS, "step", "loss", "rate", "tokens", "moves"])
    return pd.concat([table for table in tables if len(table)]).drop_duplicates(
        [*TRAINING_KEYS, "step"], ignore_index=True
    )


def _is_of(name: str, experiment: str) -> bool:
    """Say whether a result's folder is named after the experiment, ``first-swap`` or ``first-swap-bn``, and after no longer one.

    >>> _is_of("paper-methods-te", "paper-methods"), _is_of("paper-methods-te", "paper")
    (True, False)
    """
    fits = [one for one in (experiment, *EXPERIMENTS) if f"{name}-".startswith(f"{one}-")]
    return experiment in fits and len(experiment) == max(map(len, fits))


def distinct(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return each outcome once: the base belongs to every seed of a language and would otherwise count with each."""
    return outcomes.drop_duplicates([*KEYS, "problem"]).reset_index(drop=True)


def select(outcomes: pd.DataFrame, **filters: Any) -> pd.DataFrame:
    """Return the rows whose columns equal the given values, or are among the given lists.

    Raises :class:`~xlnb.errors.RequestError` for a column that is not there.
    """
    for column, wanted in filters.items():
        if column not in outcomes:
            raise RequestError(f"Outcomes have no column {column!r}: choose among {', '.join(outcomes.columns)}.")
        allowed = wanted if isinstance(wanted, list | tuple | set) else [wanted]
        outcomes = outcomes[outcomes[column].isin(allowed)]
    return outcomes.reset_index(drop=True)


def scores(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each score's outcomes with its interval over problems: the keys, value, low, high, n."""
    rows = []
    for key, group in outcomes.groupby(KEYS, sort=False):
        interval = mean_interval(group["outcome"].to_numpy())
        rows.append((*key, interval.value, interval.low, interval.high, interval.n))
    import pandas as pd

    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n"])
