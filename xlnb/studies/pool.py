"""The grid without Snakemake: some processes that stay, so that libraries, a GPU and the base are loaded once in each."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from xlnb import artifacts

Told = Mapping[str, Any]  # a job as xlnb.studies.grid.listed gives it


def by_longest_chain(everything: Sequence[Told]) -> list[int]:
    """Return the places of jobs, those first behind which the longest chain waits, counted in what its jobs make.

    >>> jobs = [{"after": [], "makes": [1]}, {"after": [], "makes": [1]}, {"after": [1], "makes": [1]}]
    >>> by_longest_chain(jobs)
    [1, 0, 2]
    """
    waiting: dict[int, list[int]] = {place: [] for place in range(len(everything))}
    for place, job in enumerate(everything):
        for before in job["after"]:
            waiting[before].append(place)
    length: dict[int, int] = {}

    def chain(place: int) -> int:
        if place not in length:
            length[place] = len(everything[place]["makes"]) + max(map(chain, waiting[place]), default=0)
        return length[place]

    return sorted(waiting, key=lambda place: (-chain(place), place))


def run_here(do: Callable[[Told], None], everything: Sequence[Told], at_once: int) -> None:
    """``do`` jobs, so many at once, each when what it needs is done; a job that is done leaves its mark.

    One that fails, or whose process ends, leaves its log, and what needs it is not started.
    """
    left, done = by_longest_chain(everything), set[int]()
    idle: list[_Worker] = []
    busy: dict[_Worker, int] = {}
    threads = artifacts.threads(at_once)
    try:
        while True:
            ready = [place for place in left if done.issuperset(everything[place]["after"])]
            for place in ready[: at_once - len(busy)]:
                left.remove(place)
                print(f"{place + 1} of {len(everything)}: {everything[place]['name']}", flush=True)
                worker = idle.pop() if idle else _started(threads)
                worker.pipe.send((do, everything[place]))
                busy[worker] = place
            if not busy:
                return
            heard = connection.wait([worker.pipe for worker in busy])
            for worker in [one for one in busy if one.pipe in heard]:
                place = busy.pop(worker)
                try:
                    succeeded = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    _note(everything[place], f"Its process ended with exit code {worker.process.exitcode}.")
                    continue
                idle.append(worker)
                if succeeded:
                    mark = Path(everything[place]["done"])
                    mark.parent.mkdir(parents=True, exist_ok=True)
                    mark.touch()
                    done.add(place)
    finally:
        for worker in idle:
            worker.pipe.close()  # which ends it
        for worker in busy:
            worker.process.kill()
        for worker in [*idle, *busy]:
            worker.process.join()


def _note(job: Told, text: str) -> None:
    log = Path(job["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        print(text, file=file)


@dataclass(frozen=True, eq=False)
class _Worker:
    """A process that does jobs, and the pipe by which it is told of them."""

    process: Any
    pipe: Any


def _started(threads: int) -> _Worker:
    context = get_context("spawn")  # a process that was forked cannot use a GPU
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Any, threads: int) -> None:
    """Do the jobs that come by a pipe and say of each whether it is done; end with the process that sends them."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is loaded: by the first job
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            do, told = pipe.recv()  # a function comes by its name, and its module is loaded only here
        except EOFError:
            return
        pipe.send(_done(do, told))


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _done(do: Callable[[Told], None], told: Told) -> bool:
    """Do a job, all that it says going to its log, and say whether it succeeded."""
    log = Path(told["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb", buffering=0) as file:
        for number in (1, 2):  # of the process, not of Python alone: libraries write there too
            os.dup2(file.fileno(), number)
    try:
        do(told)
    except Exception:  # the next job may succeed
        traceback.print_exc()
        return False
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return True
