"""Archives in parts: how they are written, and how what was made elsewhere comes home without weights."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from xlnb import artifacts, unpacking
from xlnb.errors import RequestError, WorkError
from xlnb.paths import runs_folder
from xlnb.studies.outcomes import made_readings
from xlnb.studies.study import LIGHT, without_weights
from xlnb.unpacking import OUTCOMES

_PACKED_ALREADY = {".whl", ".bin", ".parquet"}  # what does not get smaller
MB = 1_000_000


def pack_outcomes(out: str | Path, part_mb: float = 15, report: Callable[[str], None] = print) -> Path:
    """Write what was made here, but no weights, into parts of at most so many megabytes, and return their folder.

    That is outcomes, costs, maps and tables, each expert's history and provenance, and what searches found.
    """
    out, runs, started = free(out, part_mb), runs_folder(), time.time()
    with tempfile.TemporaryDirectory(prefix="xlnb-pack-") as folder:
        found = [file for file in sorted(runs.rglob("*")) if file.is_file() and _is_outcome(file.relative_to(runs))]
        if not found:
            raise RequestError(f"Nothing was made yet in {runs}: there are no outcomes to pack.")
        for file in found:
            target = Path(folder) / file.relative_to(runs)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return write_parts(Path(folder), out, OUTCOMES, {}, part_mb, started, report)


def unpack(folder: str | Path, target: str | Path | None = None, report: Callable[[str], None] = print) -> list[str]:
    """Unpack what was packed and return lines that say how to go on; outcomes go to ``target`` or this project's runs.

    A cell that is there keeps its outcomes, and gets those of readings that it does not have. Raises WorkError for parts that are
    missing or damaged, RequestError for a study without a target.
    """
    try:
        told = unpacking.contents(folder)
        if told["kind"] == OUTCOMES:
            return [_restored(Path(folder), told, Path(target or runs_folder()))]
        if target is None:
            raise RequestError("A study is unpacked into a folder of its own: xlnb unpack FOLDER TARGET.")
        lines = unpacking.unpack(folder, target, report)
        return [*lines, unpacking.TAKEN_HOME, unpacking.homeward(folder, target)]
    except unpacking.UnpackError as error:
        raise WorkError(str(error)) from None


def _is_outcome(file: Path) -> bool:
    """Say whether a file under runs is kept without weights, by where it lies."""
    if any(part.startswith(".") for part in file.parts):
        return False
    if len(file.parts) > 2 and file.parts[-3] == "experts":
        return file.name in LIGHT
    return {"outcomes", "costs", "maps", "tables"} & set(file.parts[:-1]) != set() or (
        file.parts[0].startswith("search") and file.suffix == ".json"
    )


def free(out: str | Path, part_mb: float) -> Path:
    """Return a folder that is to be written; raises RequestError where it is there, or parts would be empty."""
    out = Path(out)
    if out.exists():
        raise RequestError(f"{out} is there already: name another folder, or remove it.")
    if not part_mb * MB >= 1:
        raise RequestError(f"--part-mb {part_mb:g}: a part has at least some bytes.")
    return out


def write_parts(
    work: Path,
    out: Path,
    kind: str,
    told: Mapping[str, Any],
    part_mb: float,
    started: float,
    report: Callable[[str], None],
) -> Path:
    """Write a folder's files into parts in ``out``, with contents.json and unpack.py, whole or not at all."""
    files = sorted(file for file in work.rglob("*") if file.is_file())
    size = int(part_mb * MB)
    with artifacts.whole_folder(out, fresh=True) as folder:
        joined = folder / ".joined.zip"
        with zipfile.ZipFile(joined, "w") as archive:
            for file in files:
                method = zipfile.ZIP_STORED if file.suffix in _PACKED_ALREADY else zipfile.ZIP_LZMA
                archive.write(file, file.relative_to(work), method)
        parts: list[dict[str, Any]] = []
        with open(joined, "rb") as whole:
            for data in iter(partial(whole.read, size), b""):
                part = folder / f"part-{len(parts) + 1:03}"
                part.write_bytes(data)
                parts.append({"name": part.name, "size": len(data), "sha256": artifacts.file_digest(part)})
        joined.unlink()
        listed = [
            {
                "path": file.relative_to(work).as_posix(),
                "size": file.stat().st_size,
                "sha256": artifacts.file_digest(file),
            }
            for file in files
        ]
        made = artifacts.provenance({}, started)
        del made["spec"]
        artifacts.write_json(
            folder / unpacking.CONTENTS, {"kind": kind, **told, **made, "parts": parts, "files": listed}
        )
        shutil.copyfile(unpacking.__file__, folder / "unpack.py")
    report(f"{out}: {len(parts)} parts, {sum(part['size'] for part in parts) / MB:.1f} MB, {len(files)} files.")
    return out


def _restored(folder: Path, told: dict[str, Any], runs: Path) -> str:
    """Put outcomes that were packed where they would have been made here; what is there already stays, and gets what it lacks."""
    runs.mkdir(parents=True, exist_ok=True)
    new = extended = 0
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=runs) as work:
        unpacking.extract(folder, told, Path(work))
        # A cell's table comes last: its presence says that the cell is done.
        for path in sorted((one["path"] for one in told["files"]), key=lambda path: path.endswith(".parquet")):
            target = runs / path
            if target.parent.parent.name == "experts" and not target.parent.is_dir():
                target = without_weights(target.parent) / target.name
            of_cells = target.parent.name == "outcomes"  # which a study may extend meanwhile
            with artifacts.alone(target.parent) if of_cells else nullcontext():
                if target.exists():
                    extended += of_cells and _is_extended(target, Path(work) / path)
                    continue
                with artifacts.whole_file(target) as file:
                    shutil.copyfile(Path(work) / path, file)
            new += 1
    more = f" {extended} that were here got readings that they lacked." if extended else ""
    return f"{new} of {len(told['files'])} files are new in {runs}.{more}"


def _is_extended(here: Path, brought: Path) -> bool:
    """Give a cell's table the readings that only the brought one has, and say whether there are any."""
    import pandas as pd

    if here.suffix != ".parquet" or not (lacking := made_readings(brought) - made_readings(here)):
        return False
    told, others = (artifacts.read_json(path.with_suffix(".json")) for path in (here, brought))
    if others not in told.get("before", []):  # as where this was interrupted
        artifacts.write_json(here.with_suffix(".json"), told | {"before": [*told.get("before", []), others]})
    rows = pd.read_parquet(brought)
    whole = pd.concat([pd.read_parquet(here), rows[rows["metric"].isin(lacking)]], ignore_index=True)
    with artifacts.whole_file(here) as partial:
        whole.to_parquet(partial, index=False)
    return True
