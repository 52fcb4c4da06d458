"""Models and data sets of the Hugging Face hub: in its cache, or with checksums in a folder that stands for the hub.

XLNB_HUB names such a folder, as `xlnb fetch` fills it: with it the hub is asked for nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

from xlnb import artifacts
from xlnb.errors import WorkError

VARIABLE = "XLNB_HUB"
RECORD = "provenance.json"  # in the folder of each repository that came whole: its files, their sizes and checksums
MODEL, DATASET = "model", "dataset"
_at_hand: ContextVar[bool] = ContextVar("nothing is downloaded", default=False)


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """Let nothing be downloaded inside: what is not here is told."""
    before = _at_hand.set(True)
    try:
        yield
    finally:
        _at_hand.reset(before)


def snapshot(repository: str, kind: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    """Return the folder with a repository's files: of XLNB_HUB, or else of the hub's cache, where what is missing is put.

    ``kind`` is model or dataset. Raises WorkError, whose message begins with a reason for a sentence to go on with, where they
    cannot be had.
    """
    if given := os.environ.get(VARIABLE):
        folder = place(given, repository, kind)
        if set(patterns) <= set(_recorded(folder).get("patterns", ())):
            return folder
        raise WorkError(
            f"{VARIABLE} is {given}, which has not {' or '.join(patterns)} of it: bring it there by `xlnb fetch` where there "
            "is a network"
        )
    from huggingface_hub import snapshot_download

    how: dict[str, Any] = {} if kind == MODEL else {"repo_type": kind, "revision": revision}
    if _at_hand.get():
        how["local_files_only"] = True
    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(patterns), **how))
    except Exception as error:  # network, access and cache errors share no class
        if _at_hand.get():
            raise _not_here() from error
        raise WorkError(reason(error, repository, kind)) from error
    if _at_hand.get() and not _has_main(folder, patterns):
        raise _not_here()
    return folder


def _not_here() -> WorkError:
    return WorkError(
        "it is not on this machine, and a dry run downloads nothing: `xlnb fetch` brings it, `xlnb plan` says what it takes"
    )


def _has_main(folder: Path, patterns: Sequence[str]) -> bool:
    """Say whether a file that fits a pattern is there, of a model its weights: a plan brings config.json alone to the cache."""
    main = [pattern for pattern in patterns if pattern.endswith(".safetensors")] or patterns
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return any(fnmatch(name, pattern) for name in names for pattern in main)


def place(root: str | Path, repository: str, kind: str) -> Path:
    """Return where a repository lies in a folder that stands for the hub, as in the hub's own addresses.

    >>> place("hub", "openai/gsm8k", DATASET).as_posix()
    'hub/datasets/openai/gsm8k'
    """
    return Path(root).expanduser() / f"{kind}s" / repository


def _recorded(folder: Path) -> Mapping[str, Any]:
    record = folder / RECORD
    return artifacts.read_json(record)["spec"] if record.is_file() else {}


def checksums(root: str | Path) -> dict[str, str]:
    """Return the SHA-256 of every file that was fetched into a folder, by its path there."""
    root = Path(root)
    return {
        (record.parent / name).relative_to(root).as_posix(): told
        for record in sorted(root.glob(f"*/*/*/{RECORD}"))
        for name, told in _recorded(record.parent)["checksums"].items()
    }


def fetch(
    repository: str,
    kind: str,
    groups: Sequence[Sequence[str]],
    root: str | Path,
    revision: str | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Bring a repository's files into a folder that stands for the hub, and return where they lie there.

    ``groups`` are lists of patterns, of each of which the hub must have a file. What is there with its checksum is not fetched
    again, and what was interrupted goes on, so that all is of one commit: what fits a pattern and is not of it goes.
    Raises WorkError where it cannot be had whole.
    """
    folder, started = place(root, repository, kind), time.time()
    had = _recorded(folder)
    patterns = sorted({*had.get("patterns", ()), *(pattern for group in groups for pattern in group)})
    told = had.get("checksums", {})
    if patterns == had.get("patterns") and all(_sha256(folder / name) == told[name] for name in told):
        report(f"{repository}: all is there.")
        return folder
    try:
        commit, files = _listed(repository, kind, patterns, revision, groups)
        missing = [name for name, entry in files.items() if not _is(folder / name, entry)]
        (folder / RECORD).unlink(missing_ok=True)  # until it is whole again
        _remove_unlisted(folder, patterns, files)
        report(
            f"{repository}: {len(missing)} of {len(files)} files, {sum(files[n].size for n in missing) / 1e9:.2f} GB."
        )
        _check_room(folder, sum(files[name].size for name in missing))
        for name in missing:
            (folder / name).unlink(missing_ok=True)  # another one, or damaged
        if missing:
            from huggingface_hub import snapshot_download

            only = [escape(name) for name in missing]
            snapshot_download(repository, repo_type=kind, revision=commit, allow_patterns=only, local_dir=folder)
    except WorkError:
        raise
    except Exception as error:  # network, access and disk errors share no class
        raise WorkError(
            f"{repository} cannot be fetched: {reason(error, repository, kind)}. What came is kept: run this again, and it goes "
            "on."
        ) from error
    if damaged := [name for name in missing if not _is(folder / name, files[name])]:
        for name in damaged:
            (folder / name).unlink(missing_ok=True)
        raise WorkError(
            f"{repository} came damaged: {', '.join(damaged)} has another checksum than the hub says. Run this again."
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes of what is half there
    spec = {
        "repository": repository, "revision": commit, "patterns": patterns,
        "sizes": {name: entry.size for name, entry in files.items()},
        "checksums": {name: entry.lfs.sha256 if entry.lfs else _sha256(folder / name) for name, entry in files.items()},
    }  # fmt: skip
    artifacts.write_json(folder / RECORD, artifacts.provenance(spec, started))
    return folder


def _listed(
    repository: str, kind: str, patterns: Sequence[str], revision: str | None, groups: Sequence[Sequence[str]]
) -> tuple[str, dict[str, Any]]:
    """Return the commit that the hub has now, and of each file that fits a pattern what the hub says of it."""
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    commit = api.repo_info(repository, repo_type=kind, revision=revision).sha
    tree = list(api.list_repo_tree(repository, recursive=True, revision=commit, repo_type=kind))
    files = {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}
    for group in groups:
        if not any(fnmatch(name, pattern) for name in files for pattern in group):
            raise WorkError(
                f"The hub's {repository} has no file like {' or '.join(group)}: it was laid out anew, and has "
                f"{', '.join(sorted(files)[:6])}, ... Give a copy of an earlier one by its path."
            )
    fitting = {name: one for name, one in files.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    return str(commit), fitting


def _remove_unlisted(folder: Path, patterns: Sequence[str], files: Collection[str]) -> None:
    """Remove what an interrupted try brought of an earlier commit: all files that fit a pattern are read."""
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        name = file.relative_to(folder).as_posix()
        half_there = name.startswith(".cache/")
        if name not in files and not half_there and any(fnmatch(name, pattern) for pattern in patterns):
            file.unlink()


def _sha256(file: Path) -> str:
    return artifacts.file_digest(file) if file.is_file() else ""


def _is(file: Path, entry: Any) -> bool:
    """Say whether a file is the one that the hub tells of: by SHA-256, or a small one by its number in git."""
    if not file.is_file() or file.stat().st_size != entry.size:
        return False
    if entry.lfs:
        return _sha256(file) == entry.lfs.sha256
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == entry.blob_id


def _check_room(folder: Path, wanted: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if wanted > (free := shutil.disk_usage(folder).free):
        raise WorkError(
            f"The disk is too full: {folder} is to get {wanted / 1e9:.2f} GB, and {free / 1e9:.2f} are free. Free some space and "
            "run this again."
        )


def reason(error: BaseException, repository: str, kind: str) -> str:
    """Return in a few words why the hub did not give something, and what helps."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    chain = list(_causes(error))
    statuses = {getattr(getattr(one, "response", None), "status_code", 0) for one in chain}
    first = str(error).strip().partition("\n")[0]
    if any(isinstance(one, GatedRepoError) for one in chain):
        page = f"https://huggingface.co/{'' if kind == MODEL else f'{kind}s/'}{repository}"
        return (
            f"it is gated: accept its terms at {page}, wait where they must be granted, and give this machine the token of that "
            "account (`hf auth login`, or the variable HF_TOKEN)"
        )
    if any(isinstance(one, RepositoryNotFoundError) for one in chain):
        return (
            f"the hub has no such {kind}, or it is private, and this machine has no token of somebody who may read it"
        )
    if 429 in statuses:
        return "the hub was asked too often from here (429): wait some minutes, or give a token (HF_TOKEN), which may ask more"
    if any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return "the disk is full: free some space"
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return "HF_HUB_OFFLINE is set, and it is not on this machine: fetch it where there is a network"
    if any(status >= 500 for status in statuses):
        return f"the hub is out of order ({first})"
    return f"{type(error).__name__}: {first}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
