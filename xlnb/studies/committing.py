"""How the outcomes of experiments become committed results, and how stored answers are read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import RequestError
from xlnb.paths import results_folder
from xlnb.studies.experiments import Experiment, named_experiment
from xlnb.studies.outcomes import TRAINING_KEYS, TRAINING_NAMES, _is_of, distinct

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies.cells import Cell
    from xlnb.studies.study import Study


def publish(
    studies: Iterable[Study], name: str, folder: str | Path | None = None, experiment: str = "first-swap"
) -> Path:
    """Write an experiment's outcomes of studies, finishing those that are not, as the committed result ``name``.

    Returns its folder, which receives outcomes.parquet, training.parquet (loss by step of each expert), costs.parquet where the
    experiment has them, and provenance.json, which keeps what an earlier one told of cells that were not made here. What another
    committed result has already is not written twice. Raises RequestError where nothing is left to write, or where a result of
    that name has what the new one has not.
    """
    import time

    import pandas as pd

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise RequestError(f"A result is named by small letters, digits and hyphens, not {name!r}.")
    chosen = named_experiment(experiment)
    if not _is_of(name, experiment):
        raise RequestError(f"A result of {experiment} is named {experiment} or {experiment}-SOMETHING, not {name!r}.")
    started, out, studies = time.time(), Path(folder or results_folder()) / name, list(studies)
    _refuse_other_studies(studies, out)
    parts: dict[str, list[pd.DataFrame]] = {"outcomes": [], "training": []} | ({"costs": []} if chosen.costs else {})
    specs, files, untold = [], [], _untold(out)
    for study in studies:
        parts["outcomes"].append(study.outcomes(*chosen.asks))
        parts["training"] += [_history(study, slug, untold) for slug in chosen.experts]
        if chosen.costs and not _measured_elsewhere(study.profile.name, out):
            parts["costs"].append(study.costs(brought=True))
        specs.append({"profile": study.profile.name} | study.spec(chosen.experts))
        files.append(dict.fromkeys(cell.path.with_suffix(".json") for ask in chosen.asks for cell in study.cells(ask)))
    for table, some in parts.items():
        if not some:
            continue
        whole = pd.concat(some, ignore_index=True)
        whole = distinct(whole) if table == "outcomes" else whole.drop_duplicates(ignore_index=True)
        whole = _not_elsewhere(whole, table, out)
        if table == "outcomes":
            _refuse_to_lose(whole, out)
        if whole.empty:
            continue
        with artifacts.whole_file(out / f"{table}.parquet") as partial:
            _write(whole, partial)
    record = out / "provenance.json"
    earlier = artifacts.read_json(record) if record.is_file() else {}
    specs = [spec | {"cells": _made(some, _earlier(spec, earlier))} for spec, some in zip(specs, files, strict=True)]
    # Other keys, such as of answers that were read again, stay.
    artifacts.write_json(record, earlier | artifacts.provenance({"experiment": experiment, "studies": specs}, started))
    return out


def _earlier(spec: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an earlier record told of a study's cells."""
    for before in record.get("spec", {}).get("studies", ()):
        if _which(before, spec["profile"]) == _which(spec, spec["profile"]):
            return before.get("cells", {})
    return {}


def _which(spec: Mapping[str, Any], profile: str) -> list[Any]:
    """Return which study a record tells of; the first records name no profile."""
    names = [spec[name] for name in ("language", "paradigm", "seed")]
    return [*names, spec.get("profile", profile), spec["base"]["weights"], spec["base"]["dtype"]]


_SCORED = ["profile", "model", "language", "test_language", "paradigm", "seed", "partition", "method", "metric"]


def _refuse_other_studies(studies: Sequence[Study], out: Path) -> None:
    """Refuse, before hours of computing, to write over a result of studies that are not among these."""
    import pandas as pd

    file, names = out / "outcomes.parquet", [*studies[0].keys] if studies else []
    if not names or not file.is_file():
        return
    there = pd.read_parquet(file, columns=["method", *names])
    there = there.loc[there["method"] != "base", names].drop_duplicates()
    asked = {tuple(study.keys.values()) for study in studies}
    if others := [one for one in there.itertuples(index=False, name=None) if one not in asked]:
        raise RequestError(
            f"{out} has scores of {len(others)} trainings that are not asked for ({', '.join(map(str, others[0]))}, for one) and "
            "that the new result would not have: name them, too, publish under another name, or remove that folder first."
        )


def _refuse_to_lose(outcomes: pd.DataFrame, out: Path) -> None:
    """Refuse to write a result that has no outcomes of its own, or over one that has other scores than it."""
    import pandas as pd

    if outcomes.empty:
        raise RequestError(
            f"All these outcomes are committed already, by other results in {out.parent}: nothing to publish."
        )
    file = out / "outcomes.parquet"
    if not file.is_file():
        return
    there = pd.read_parquet(file, columns=_SCORED).drop_duplicates()
    new = set(outcomes[_SCORED].itertuples(index=False, name=None))
    if lost := [one for one in there.itertuples(index=False, name=None) if one not in new]:
        named = ", ".join(str(value) for value in lost[0] if value != "")
        raise RequestError(
            f"{out} has {len(lost)} scores that the new result would not have ({named}, for one): publish under another name, or "
            "remove that folder first."
        )


def _write(table: pd.DataFrame, path: Path) -> None:
    # Numbers that differ in their last bits are a fifth smaller byte by byte; text has few values.
    numbers = [name for name, kind in table.dtypes.items() if kind.kind == "f"]
    packed = {"compression": "zstd", "compression_level": 12, "use_byte_stream_split": numbers}
    table.to_parquet(path, index=False, use_dictionary=[name for name in table if name not in numbers], **packed)


_ALIKE = {
    "outcomes": ["trained", "asked", "metric", "language"],
    "training": TRAINING_KEYS,
    "costs": ["profile", "language", "readings"],
}


def _measured_elsewhere(profile: str, out: Path) -> bool:
    """Say whether another committed result has a profile's costs: one language's say enough."""
    import pandas as pd

    others = [file for file in out.parent.glob("*/costs.parquet") if file.parent != out]
    return any(profile in set(pd.read_parquet(file, columns=["profile"])["profile"]) for file in others)


def _history(study: Study, slug: str, untold: set[tuple[Any, ...]]) -> pd.DataFrame:
    """Return an expert's history with its names and its digest, "" where another result has that training without one."""
    found = study.history(slug).assign(**(names := study.trained_as(slug)))
    if "trained" in found:  # was read where it is committed
        return found
    known = study.usual_training and tuple(names[name] for name in TRAINING_NAMES) in untold
    return found.assign(trained="" if known else study.expert_digest(slug))


def _untold(out: Path) -> set[tuple[Any, ...]]:
    """Return the names of trainings that committed results beside ``out`` have without a digest."""
    found: set[tuple[Any, ...]] = set()
    for file in out.parent.glob("*/training.parquet"):
        if file.parent != out:
            rows = _keys(file, TRAINING_KEYS)
            found |= set(rows.loc[rows["trained"] == "", TRAINING_NAMES].itertuples(index=False, name=None))
    return found


def _keys(file: Path, keys: list[str]) -> pd.DataFrame:
    """Return columns of a committed table; "" in one that it does not have."""
    import pandas as pd
    from pyarrow.parquet import read_schema

    there = [key for key in keys if key in read_schema(file).names]
    return pd.read_parquet(file, columns=there).reindex(columns=keys, fill_value="").drop_duplicates()


def _not_elsewhere(rows: pd.DataFrame, table: str, out: Path) -> pd.DataFrame:
    """Return the rows that no committed result beside ``out`` has."""
    import pandas as pd

    keys = _ALIKE[table]
    others = [_keys(file, keys) for file in out.parent.glob(f"*/{table}.parquet") if file.parent != out]
    if not others:
        return rows
    there = set(pd.concat(others).drop_duplicates().itertuples(index=False, name=None))
    return rows[[key not in there for key in rows[keys].itertuples(index=False, name=None)]].reset_index(drop=True)


def _made(files: Iterable[Path], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return when, in how many seconds, by which commits and on which devices cells were computed, by the records beside them.

    Where some of the cells were not made here what was told ``earlier`` stays, and what it did not tell of is added.
    """
    files = list(files)
    here = [_records(artifacts.read_json(file)) for file in files if file.is_file()]
    if here and len(here) == len(files):
        earlier = {}
    before = set(earlier.get("when", ()))
    told = [one for some in here for one in some]
    several = {
        what: sorted({*earlier.get(what, ()), *(str(one.get(what)) for one in told)})
        for what in ("commit", "device", "when")
    }
    seconds = sum(one["seconds"] for one in told if one["when"] not in before)
    computed = sum(not before & {one["when"] for one in some} for some in here)
    return {
        "seconds": round(earlier.get("seconds", 0) + seconds, 1),
        "computed": earlier.get("computed", 0) + computed,
        **several,
    }


def _records(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a cell's record with those of the readings that were computed before, by other processes or machines."""
    return [told, *(one for before in told.get("before", ()) for one in _records(before))]


def reread(name: str, folder: str | Path | None = None) -> int:
    """Read a committed result's stored answers again, by today's reading of answers; return how many outcomes changed.

    Answers are kept as text, so that a better reading needs no model. What changed is noted in provenance.json. Only our own
    problems are known here; other benchmarks' rows stay. Raises RequestError where the experiment asks other problems by now.
    """
    import time

    import pandas as pd

    from xlnb.evaluation.readings import READINGS
    from xlnb.evaluation.scoring import answer_readings

    home = Path(folder or results_folder()) / name
    if not (home / "outcomes.parquet").is_file():
        raise RequestError(f"No committed result {name!r} in {home.parent}.")
    table = pd.read_parquet(home / "outcomes.parquet")
    generated = [metric for metric, reading in READINGS.items() if reading.generates]
    rows = table[table["metric"].isin(generated) & (table["benchmark"] == "templates")]
    outcomes = table["outcome"].copy()
    asked = named_experiment(artifacts.read_json(home / "provenance.json")["spec"]["experiment"])
    for (profile, model, language), mine in rows.groupby(["profile", "model", "language"]):
        cells = _asked_of(asked, profile, model, language)
        if others := set(mine["asked"]) - set(cells):
            raise RequestError(
                f"The answers of {name} (profile {profile}, {language}) are to problems or examples that its experiment asks no "
                f"longer ({', '.join(sorted(others))}): compute them anew, or read them by the commit in provenance.json."
            )
        items = {digest: {item.id: item for item in cells[digest].benchmark.items} for digest in set(mine["asked"])}
        for row in mine.itertuples():
            outcomes[row.Index] = answer_readings(items[row.asked][row.problem], row.text)[row.metric]
    changed = int((outcomes != table["outcome"]).sum())
    if changed:
        with artifacts.whole_file(home / "outcomes.parquet") as partial:
            _write(table.assign(outcome=outcomes), partial)
        made = artifacts.read_json(home / "provenance.json")
        again = {"outcomes changed": changed, **artifacts.provenance({}, time.time())}
        artifacts.write_json(home / "provenance.json", made | {"reread": [*made.get("reread", []), again]})
    return changed


def _asked_of(experiment: Experiment, profile: str, model: str, language: str) -> dict[str, Cell]:
    """Return, by the digest of what is asked, one cell of an experiment that asks it."""
    from xlnb.studies.profiles import PAPER_PROFILES, named_profile
    from xlnb.studies.study import Study

    study = Study(named_profile(profile, model if profile in PAPER_PROFILES else ""), language)
    return {cell.asked: cell for ask in experiment.asks for cell in study.cells(ask)}
