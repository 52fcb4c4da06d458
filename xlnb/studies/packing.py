"""Packing a study for a machine that has neither a network nor our environment: all that it needs, the base as it was quantised.

`xlnb.unpacking`, which goes along, unpacks it there; `xlnb.studies.archives` takes home what was made.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlnb import artifacts
from xlnb.corpora.sources import names_and_paths
from xlnb.downloads import DATASET, VARIABLE, place, snapshot
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import checksum
from xlnb.models.memory import ADAMW_8BIT
from xlnb.models.pocket import pocket_gguf
from xlnb.models.pocket_models import pocket_model
from xlnb.models.quantised import store
from xlnb.paths import project_root, results_folder
from xlnb.studies.archives import MB, free, write_parts
from xlnb.studies.experiments import named_experiment
from xlnb.studies.fetching import wanted
from xlnb.studies.profiles import corpora_of
from xlnb.studies.study import Study
from xlnb.studies.vocabulary import kept_of, vocabulary_file
from xlnb.studies.wheels import THERE, fetch_wheels
from xlnb.unpacking import STUDY
from xlnb.weights.tensor_files import companions, open_checkpoint

HUB = "hub"  # what XLNB_HUB is called there


@dataclass(frozen=True)
class Packing:
    """What is packed: experiments (names with commas between), their studies, the data, wheels and committed results."""

    experiment: str
    studies: Sequence[Study]
    ntrex: Path | None = None
    wheels: bool = True
    python: str = ""  # for which the wheels are; the running one's where nothing is said
    there: Sequence[str] = THERE  # packages which that machine has, with what these need
    results: bool = True  # whether what is committed counts as made there, too


def pack_study(packing: Packing, out: str | Path, part_mb: float = 60, report: Callable[[str], None] = print) -> Path:
    """Write a study into parts of at most so many megabytes, with contents.json and unpack.py, and return their folder.

    Raises RequestError, before anything is written, for an ``out`` that is there, and for data of the hub that XLNB_HUB has not.
    """
    out = free(out, part_mb)
    study = packing.studies[0]
    for one in packing.studies:
        _check_data(one, packing.ntrex)
    if any(one.profile.checkpoint() != study.profile.checkpoint() for one in packing.studies):
        raise RequestError("All studies that are packed together must be of one model.")
    hub = _fetched(packing)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="xlnb-pack-") as temporary:
        work = Path(temporary)
        report(f"The package, of commit {artifacts.commit()}.")
        _copy_package(work / "site")
        if packing.wheels:
            eight_bit = any(one.profile.training.optimizer == ADAMW_8BIT for one in packing.studies)
            also = ("torchao",) if eight_bit else ()
            names = fetch_wheels(work / "wheels", packing.python, packing.there, also)
            report(f"Wheels: {', '.join(names) or 'none is missing there'}.")
        if packing.results and results_folder().is_dir():
            shutil.copytree(results_folder(), work / "project" / "book" / "results")
        moved = _copy_data(packing, work / "data")
        for repository, folder in hub.items():
            report(f"{repository}, as it was fetched.")
            _copy(folder, place(work / HUB, repository, DATASET))
        checkpoint, environment = _copy_checkpoint(packing, work, report)
        if study.profile.named:
            moved["model"] = f"{{target}}/{checkpoint}"
        if hub:
            environment |= {VARIABLE: HUB}
        told = {
            "checkpoint": checkpoint,
            "python": packing.python or ".".join(platform.python_version_tuple()[:2]),  # of the wheels
            "environment": {"PYTHONPATH": "site", "XLNB_HOME": "project", "XLNB_CACHE": "cache", **environment},
            "commands": _commands(packing, moved),
        }
        return write_parts(work, out, STUDY, told, part_mb, started, report)


# --- what goes in ------------------------------------------------------------------------------------------


def _check_data(study: Study, ntrex: Path | None) -> None:
    """Refuse paths where nothing is."""
    given = [("--mgsm", study.mgsm), ("--reference", study.reference), ("--ntrex", str(ntrex or ""))]
    for option, text in (("--math-data", study.math_data), ("--language-data", study.language_data)):
        given += [(option, str(path or "")) for _, path in names_and_paths(text)]
    for option, path in given:
        if path and not Path(path).exists():
            raise RequestError(f"{option}: there is no {path}. Name data that are here.")


def _fetched(packing: Packing) -> dict[str, Path]:
    """Return the data that were not given by path, by repository, as they lie whole in XLNB_HUB; refuse what does not."""
    found, lacking = {}, []
    for one in wanted(packing.studies, named_experiment(packing.experiment)):
        if one.kind != DATASET:
            continue
        try:
            if not os.environ.get(VARIABLE):  # the hub's own cache has no record of what came
                raise WorkError(f"{VARIABLE} is not set")
            patterns = [pattern for group in one.groups for pattern in group]
            found[one.repository] = snapshot(one.repository, one.kind, patterns)
        except WorkError:
            lacking.append(one.repository)
    if lacking:
        raise RequestError(
            f"{', '.join(lacking)} would be fetched from the hub, which is not there: bring it by `xlnb fetch` and set "
            f"{VARIABLE}, or give copies by path: --math-data NAME:PATH, --language-data NAME:PATH, --mgsm PATH, "
            "--reference PATH."
        )
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copyfile(source, target)


def _copy_package(site: Path) -> None:
    """Copy this package, with what tells its version and its commit."""
    package = Path(artifacts.__file__).parent
    _copy(package, site / package.name)
    (site / package.name / artifacts.COMMIT).write_text(f"{artifacts.commit() or ''}\n", encoding="utf-8")
    version = artifacts.versions(("xlnb",))["xlnb"]
    told = site / f"xlnb-{version}.dist-info" / "METADATA"
    told.parent.mkdir()
    told.write_text(f"Metadata-Version: 2.1\nName: xlnb\nVersion: {version}\n", encoding="utf-8")


def _copy_data(packing: Packing, folder: Path) -> dict[str, str]:
    """Copy data that were given by path, and return what each option says in the unpacked copy."""
    study, moved = packing.studies[0], {}
    for option, text in (("math-data", study.math_data), ("language-data", study.language_data)):
        said = []
        for name, path in names_and_paths(text):
            if path:
                _copy(path, folder / option / name / path.name)
            said.append(f"{name}:{{target}}/data/{option}/{name}/{path.name}" if path else name)
        moved[option] = "+".join(said)
    for option, given in (("mgsm", study.mgsm), ("reference", study.reference), ("ntrex", str(packing.ntrex or ""))):
        if given:
            path = Path(given).resolve()
            _copy(path, folder / option / path.name)
            moved[option] = f"{{target}}/data/{option}/{path.name}"
    return moved


def _copy_checkpoint(packing: Packing, work: Path, report: Callable[[str], None]) -> tuple[str, dict[str, str]]:
    """Store the base's weights, and return where the checkpoint comes to lie and by which variable it is found there."""
    profile = packing.studies[0].profile
    source = profile.checkpoint()
    inside = source.resolve().is_relative_to(project_root().resolve())
    where = (
        f"project/{source.resolve().relative_to(project_root().resolve())}" if inside else f"weights/{profile.model}"
    )
    checkpoint, target = open_checkpoint(source), work / where
    for file in companions(checkpoint):
        _copy(file, target / file.relative_to(source))
    for file in source.glob("*.index.json"):
        _copy(file, target / file.name)
    artifacts.write_json(target / "provenance.json", _record(source, [file.path for file in checkpoint.files]))
    kept = _kept(packing, source, work / "cache")
    (work / "stored").mkdir()
    with nullcontext() if inside or profile.named else pocket_gguf(profile.model) as gguf:
        plan = store(checkpoint.files, work / "stored", gguf, kept)
    tensors = [tensor for file in plan["files"] for tensor in file["tensors"]]
    quantised = sum(tensor["kind"] is not None for tensor in tensors)
    rows = "whole vocabulary" if kept is None else f"{len(kept):,} tokens of the vocabulary"
    size = (work / "stored" / "bytes.bin").stat().st_size
    report(f"{source.name}: {rows}, {quantised} of {len(tensors)} tensors quantised, {size / MB:.1f} MB.")
    return where, {} if inside or profile.named else {pocket_model(profile.model).variable: where}


def _record(source: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return a checkpoint's provenance, which says the checksums that its weights have at home: by them it is the same base."""
    file = source / "provenance.json"
    told = artifacts.read_json(file) if file.is_file() else {}
    spec = told.get("spec", {})
    if len(files) == 1 and spec.get("weights_sha256") == checksum(files[0]) and files[0].name in spec.get("sizes", {}):
        return told
    known = {
        "sizes": {one.name: one.stat().st_size for one in files},
        "checksums": {one.name: checksum(one) for one in files},
    }
    return {**told, "spec": {**spec, **known}}


def _kept(packing: Packing, checkpoint: Path, cache: Path) -> list[int] | None:
    """Return the ids that any study (and the search) keeps, None for all; their lists are packed, too."""
    from xlnb.studies.search import kept_in_search

    found = []
    for languages in dict.fromkeys(study.kept for study in packing.studies):
        found.append(kept_of(checkpoint, languages))
        if languages:
            file = vocabulary_file(checkpoint, languages)
            _copy(file, cache / file.name)
    if packing.ntrex:
        found.append(kept_in_search(checkpoint, packing.studies[0].profile, packing.ntrex))
    return None if None in found else sorted({token for ids in found for token in ids or ()})


def _commands(packing: Packing, moved: Mapping[str, str]) -> list[str]:
    """Return what is to be run there, as a shell reads it, {target} standing for the folder."""
    studies = packing.studies
    said: dict[str, Iterable[Any]] = {
        "experiment": [packing.experiment],
        "languages": dict.fromkeys(study.language for study in studies),
        "seeds": dict.fromkeys(study.seed for study in studies),
        "paradigms": dict.fromkeys(study.paradigm for study in studies),
        "profile": dict.fromkeys(study.profile.name for study in studies),
        "dtype": [studies[0].dtype],
    }
    options = {name: ",".join(map(str, values)) for name, values in said.items()}
    data = {name: value for name, value in moved.items() if name != "ntrex"}
    profile, codes = studies[0].profile.name, [study.language for study in studies]
    math, texts = corpora_of(profile, "", "", codes)
    if all(study.math_data == math for study in studies):
        del data["math-data"]
    if all(study.language_data == texts[study.language] for study in studies):
        del data["language-data"]
    commands = [
        ["grid", "--here", *(word for name, value in {**options, **data}.items() for word in (f"--{name}", value))]
    ]
    if "ntrex" in moved:
        commands.append(["search", "{target}/project/runs/search", "--ntrex", moved["ntrex"], "--profile", profile])
    return [shlex.join(words) for words in commands]
