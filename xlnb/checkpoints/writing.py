"""Writing a merge: headers first, bytes copied between files, what is computed put in place, the folder renamed when whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.weights import tensor_files
from xlnb.weights.tensor_files import INDEX, Checkpoint, Stored, TensorFile
from xlnb.weights.vocabularies import vocabulary_size, with_vocabulary_size

if TYPE_CHECKING:
    from xlnb.checkpoints.recipes import Expert, Recipe
    from xlnb.checkpoints.requests import Job
    from xlnb.checkpoints.streaming import Rounding

_AIR = 16 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Merged:
    """What a merge wrote: the folder, how many tensors were copied and computed, their bytes, seconds, and the rounding floor.

    ``rounding`` is the norm of what storing in the output's dtype took away, relative to the norm of what the merge changed.
    """

    out: Path
    told: tuple[str, ...]
    copied: int
    computed: int
    nbytes: int
    seconds: float
    rounding: float = 0.0

    def __str__(self) -> str:
        lines = [*self.told, f"{self.copied} tensors copied byte for byte, {self.computed} computed."]
        if self.rounding:
            lines.append(f"Rounding floor: storing the computed tensors took away {self.rounding:.1%} of what the merge "
                         "changed. --dtype float32 keeps all of it.")  # fmt: skip
        lines.append(f"{self.nbytes / 1e6:,.1f} MB in {self.seconds:.1f} s: {self.out}")
        return "\n".join(lines)


def _write(
    job: Job, recipe: Callable[[str], Recipe], companion: Expert, spec: Mapping[str, Any], told: tuple[str, ...]
) -> Merged:
    """Write all tensors by their recipes into files like the reference's, with the companion's configuration and tokenizer."""
    planned = [_planned_file(file, recipe, job.dtype) for file in job.reference.checkpoint.files if file.tensors]
    extras = tensor_files.companions(companion.checkpoint)
    nbytes = sum(stored.nbytes for file in planned for stored in file.tensors.values())
    _check_room(job.out, nbytes + sum(path.stat().st_size for path in extras) + sum(len(f.header) for f in planned))
    recipes = [one for file in planned for one in file.recipes]
    computed = any(one.kind != "copy" for one in recipes)
    if computed:  # it takes a second to import: let that pass while bytes are copied
        Thread(target=import_module, args=("xlnb.checkpoints.streaming",), daemon=True).start()
    with _output(job.out) as folder:
        for file in planned:
            _copy_ranges(folder, file)
        roundings = [_compute(folder, file) for file in planned] if computed else []
        tensor_files.copy_companions(extras, companion.checkpoint.folder, folder)
        _write_index(folder, job.reference.checkpoint, planned)
        _adjust_config(folder, job.dtype, vocabulary_size(companion.checkpoint.config))
        _write_provenance(folder, job, spec)
        _check_unchanged(job)
    copied = sum(one.kind == "copy" for one in recipes)
    floor = sum(roundings[1:], roundings[0]).share if roundings else 0.0
    return Merged(
        job.out, (*told, *job.left_out), copied, len(recipes) - copied, nbytes, time.time() - job.started, floor
    )


@dataclass(frozen=True)
class PlannedFile:
    """A file of the output: its header, the place of each tensor, and how each comes about, in the order of the bytes."""

    name: str
    header: bytes
    tensors: dict[str, Stored]
    recipes: tuple[Recipe, ...]


def _planned_file(file: TensorFile, recipe: Callable[[str], Recipe], dtype: str | None) -> PlannedFile:
    recipes, stored_as = [], {}
    for name, stored in file.tensors.items():
        one = recipe(name)
        wanted = dtype if dtype and stored.dtype in tensor_files.FLOATS else stored.dtype
        if one.kind == "copy" and one.sources[0].stored.dtype != wanted:
            one = replace(one, kind="cast")
        recipes.append(one)
        stored_as[name] = (wanted, stored.shape)
    same = file.is_whole and all(stored.dtype == stored_as[name][0] for name, stored in file.tensors.items())
    header = file.header if same else tensor_files.header_bytes(stored_as, file.metadata)
    tensors, at = {}, len(header)
    for name, (kind, shape) in stored_as.items():
        place = Stored(Path(file.path.name), kind, shape, at, at)
        at += place.size * tensor_files.BYTES[kind]
        tensors[name] = replace(place, stop=at)
    return PlannedFile(file.path.name, header, tensors, tuple(recipes))


def _copy_ranges(folder: Path, file: PlannedFile) -> None:
    """Make a planned file with its header and all that is copied; what is computed is left to :func:`_compute`."""
    with ExitStack() as stack:
        out = stack.enter_context(open(folder / file.name, "xb", buffering=0)).fileno()
        inputs: dict[Path, int] = {}
        os.write(out, file.header)
        for source, start, stop, at in _ranges(file):
            if source not in inputs:
                inputs[source] = stack.enter_context(open(source, "rb", buffering=0)).fileno()
            _copy_range(inputs[source], out, start, stop - start, at, source)


def _compute(folder: Path, file: PlannedFile) -> Rounding:
    """Write what is computed of a planned file into its place, and return what rounding took away."""
    from xlnb.checkpoints.streaming import compute

    with open(folder / file.name, "r+b", buffering=0) as out:
        return compute([(one, file.tensors[one.name]) for one in file.recipes if one.kind != "copy"], out.fileno())


def _ranges(file: PlannedFile) -> list[tuple[Path, int, int, int]]:
    """Return what is copied: file, first byte, last byte, and where it goes; neighbours go together."""
    ranges: list[tuple[Path, int, int, int]] = []
    for one in file.recipes:
        if one.kind == "copy":
            stored, at = one.sources[0].stored, file.tensors[one.name].start
            last = ranges[-1] if ranges else None
            if last and last[0] == stored.file and last[2] == stored.start and last[3] + last[2] - last[1] == at:
                ranges[-1] = (*last[:2], stored.stop, last[3])
            else:
                ranges.append((stored.file, stored.start, stored.stop, at))
    return ranges


def _copy_range(source: int, target: int, start: int, count: int, at: int, path: Path) -> None:
    """Copy bytes from one open file to a place in another, inside the kernel where the system can."""
    while count:
        done = 0
        try:
            done = os.copy_file_range(source, target, min(count, 1 << 30), offset_src=start, offset_dst=at)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
        # some file systems say that nothing was copied where there is more to read
        done = done or os.pwrite(target, os.pread(source, min(count, 1 << 22), start), at)
        if not done:
            raise WorkError(f"{path} became shorter while it was read: start again.")
        start, at, count = start + done, at + done, count - done


def _check_unchanged(job: Job) -> None:
    """Refuse what was read from files that somebody saved again meanwhile."""
    for one in job.everyone.values():
        for file in one.checkpoint.files:
            if not file.is_as_it_was():
                raise WorkError(
                    f"{file.path} was written again while it was read: nothing is left behind, start again."
                )


def _output(out: Path) -> Any:
    if out.is_dir():
        try:
            out.rmdir()  # empty, as was checked: the finished folder takes its place
        except OSError as error:
            raise RequestError(
                f"--out {out} cannot be replaced by the finished folder ({error.strerror}; is it a mount point?): give a new "
                "folder inside it."
            ) from error
    # As cp does, the bytes are left to the system to write out: to wait for gigabytes would more than double the time. After a
    # loss of power a file may be short, which the check of its header tells.
    return artifacts.whole_folder(out, flush=False, fresh=True)


def _check_room(out: Path, nbytes: int) -> None:
    place = next(parent for parent in [out.absolute(), *out.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < (needed := nbytes + _AIR):
        raise WorkError(
            f"The merge needs {_in_units(needed)} in {place}, and {_in_units(free)} are free. Make room, or choose another --out."
        )


def _in_units(nbytes: int) -> str:
    """Return a number of bytes in words; a small disk's in MB, or both would be 0.00 GB.

    >>> [_in_units(count) for count in (300_000, 10_000_000, 999_000_000, 16_060_000_000)]
    ['0.3 MB', '10.0 MB', '999.0 MB', '16.06 GB']
    """
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"


def _write_index(folder: Path, reference: Checkpoint, planned: Sequence[PlannedFile]) -> None:
    path = reference.folder / INDEX
    if reference.is_adapter or not path.exists():
        return
    if [file.header for file in planned] == [file.header for file in reference.files]:
        shutil.copyfile(path, folder / INDEX)
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    nbytes = sum(stored.nbytes for file in planned for stored in file.tensors.values())
    index["metadata"] = (index.get("metadata") or {}) | {"total_size": nbytes}
    index["weight_map"] = {name: file.name for file in planned for name in file.tensors}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _adjust_config(folder: Path, dtype: str | None, vocabulary: int) -> None:
    """Say the chosen dtype and the size of the vocabulary in config.json, which is otherwise the byte-for-byte copy."""
    path = folder / "config.json"
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    config = with_vocabulary_size(before, vocabulary) if vocabulary else before  # an adapter's config has none
    if dtype is not None:
        config = tensor_files.with_dtype(config, tensor_files.DTYPE_NAMES[dtype])
    if config == before:
        return
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_provenance(folder: Path, job: Job, spec: Mapping[str, Any]) -> None:
    inputs = {role: one.checkpoint.folder.name for role, one in job.everyone.items()}
    noted: dict[str, Any] = {"configs": "trusted, though they differ"} if job.trust_configs else {}
    if job.left_out:
        noted["left_out"] = list(job.left_out)
    told = artifacts.provenance({"method": job.merge.slug, "inputs": inputs, **spec, **noted}, job.started)
    (folder / "provenance.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
