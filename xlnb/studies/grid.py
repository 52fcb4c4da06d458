"""The grid: which cells and experts of an experiment are missing, in which processes they are made, and how long that takes.

Snakemake runs the processes (notebooks/Snakefile), or xlnb.studies.pool where it is not there: each trains an expert and scores
what it alone is read by, or scores what is merged of experts that others train.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.evaluation.readings import COST_GROUPS, READINGS
from xlnb.methods import EXPERTS, LANGUAGE, MATH, METHODS, ORACLE
from xlnb.models.base import resolved_device
from xlnb.paths import snakefile
from xlnb.studies.cells import Cell
from xlnb.studies.experiments import Experiment, named_experiment
from xlnb.studies.outcomes import load_costs, load_training, select
from xlnb.studies.pool import run_here
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import LANGUAGE_DATA, MATH_DATA, Study


def survey(studies: Sequence[Study], experiment: Experiment) -> dict[Path, str]:
    """Return what each file of an experiment is: committed, made or missing; no model is loaded.

    Cells first, then the folders of the experts that missing cells need (made or missing).
    """
    cells: dict[Path, str] = {}
    experts: dict[Path, str] = {}
    for study in studies:
        for cell in _cells(study, experiment):
            # Two asks of an experiment may share a file and want other readings of it.
            cells[cell.path] = max(cells.get(cell.path, _STATES[0]), study.state(cell), key=_STATES.index)
            if cells[cell.path] == "missing":
                experts |= {folder: "made" if folder.is_dir() else "missing" for folder in cell.needs}
    return cells | experts


_STATES = ("committed", "made", "missing")  # what is still to be done is told


def _cells(study: Study, experiment: Experiment) -> list[Cell]:
    return [cell for ask in experiment.asks for cell in study.cells(ask)]


def survey_text(studies: Sequence[Study], experiment: Experiment) -> str:
    """Return :func:`survey` for a reader: a line a file, below a line of counts."""
    found = survey(studies, experiment)
    cells, experts = (
        Counter(state for path, state in found.items() if (path.suffix == ".parquet") == is_cell)
        for is_cell in (True, False)
    )
    counted = ", ".join(f"{cells[state]} {state}" for state in ("committed", "made", "missing"))
    head = [f"{sum(cells.values())} cells: {counted}."]
    if experts:
        head.append(
            f"Missing cells need {sum(experts.values())} experts: {experts['made']} made, {experts['missing']} missing."
        )
    root = studies[0].folder
    return "\n".join([*head, *(f"{state:9} {path.relative_to(root)}" for path, state in found.items())])


@dataclass
class Job:
    """What one process makes: an expert where it is missing, and all missing cells that need the same experts."""

    study: Study
    needs: tuple[Path, ...]  # experts' folders that must be there first
    expert: tuple[str, str] | None = None  # which is trained, under which partition
    cells: list[Cell] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Where and what, as its log is named."""
        if self.expert:
            folder = self.study.expert_folder(*self.expert)
            return str(folder.relative_to(self.study.folder)).replace("/experts/", "/")
        place = self.study.place(METHODS[self.cells[0].method].experts).relative_to(self.study.folder)
        return f"{place}/{'+'.join(folder.name for folder in self.needs) or 'base'}"

    @property
    def studies(self) -> list[Study]:
        """Its own study, and the others whose cells it has."""
        return list({id(study): study for study in (self.study, *(cell.study for cell in self.cells))}.values())

    @property
    def makes(self) -> list[Path]:
        """The expert's folder and the cells' files."""
        trained = [self.study.expert_folder(*self.expert)] if self.expert else []
        return [*trained, *(cell.path for cell in self.cells)]


def jobs(studies: Sequence[Study], experiment: Experiment) -> list[Job]:
    """Return the processes that make what is missing, study by study, experts before what is made of them."""
    training: dict[Path, Job] = {}
    merging: dict[tuple[Path, tuple[Path, ...]], Job] = {}
    seen: set[Path] = set()
    for study in studies:
        for cell in _cells(study, experiment):
            if cell.path in seen or study.state(cell) != "missing":
                continue
            seen.add(cell.path)
            for slug in METHODS[cell.method].experts:
                _train(training, study, slug, cell.partition)
            if len(cell.needs) == 1 and cell.needs[0] in training:
                training[cell.needs[0]].cells.append(cell)
            else:
                model = study.place(())  # the base needs nothing, whichever it is
                merging.setdefault((model, cell.needs), Job(study, cell.needs)).cells.append(cell)
    place = {id(study): i for i, study in enumerate(studies)}
    return sorted([*training.values(), *merging.values()], key=lambda job: place[id(job.study)])


def _train(training: dict[Path, Job], study: Study, slug: str, partition: str) -> None:
    """Enter the training of an expert, and of what it goes on from, where they are missing."""
    folder = study.expert_folder(slug, partition)
    if folder in training or folder.is_dir():
        return
    start = EXPERTS[slug].start
    if start:
        _train(training, study, start, partition)
    needs = (study.expert_folder(start, partition),) if start else ()
    training[folder] = Job(study, needs, (slug, partition))


def work(job: Job) -> None:
    """Do a job: what fails is told with its traceback and does not keep the other cells from being made."""
    failed = []
    if job.expert:
        job.study.expert(*job.expert)
    for cell in job.cells:
        try:
            job.study.make(cell)
        except Exception:  # whatever it is, it is this cell's alone
            failed.append(cell.path.stem)
            print(f"{cell.path.stem} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    if failed:
        raise WorkError(f"{len(failed)} of {len(job.cells)} cells failed: {', '.join(failed)}.")


_OF_STUDY = (
    "language",
    "seed",
    "math_data",
    "language_data",
    "paradigm",
    "vocabulary",
    "device",
    "dtype",
    "mgsm",
    "reference",
)


def listed(found: Sequence[Job], experiment: str, folder: Path, threads: int = 1) -> list[dict[str, Any]]:
    """Return jobs as JSON has them: what Snakemake and the process that does one must know.

    ``threads`` are what Snakemake lets each compute on. ``studies`` are all whose cells it has: what languages share (the base, a
    math expert) is scored in each of them by one job. ``after`` are the places of the jobs that make what a job needs. The files
    themselves are hidden from Snakemake, which removes what a job is going to make: a cell that is to get more readings keeps
    those that it has.
    """
    makers = {path: place for place, job in enumerate(found) for path in job.makes}
    return [
        {
            "name": job.name,
            "after": sorted(makers[path] for path in job.needs if path in makers),
            "done": str(folder / "done" / str(place)),
            "profile": job.study.profile.name,
            "model": job.study.profile.named,
            "where": str(Path.cwd()),  # Snakemake works elsewhere, and paths of data may be relative
            "studies": [{name: getattr(study, name) for name in _OF_STUDY} for study in job.studies],
            "experiment": experiment,
            "expert": job.expert,
            "needs": [str(path) for path in job.needs],
            "makes": [str(path) for path in job.makes],
            "log": str(folder / "logs" / f"{job.name}.log"),
            "threads": threads,
        }
        for place, job in enumerate(found)
    ]


def job_of(told: Mapping[str, Any]) -> Job:
    """Return a job that was listed.

    Raises WorkError where its studies no longer have all the cells that it is to make.
    """
    profile, experiment = named_profile(told["profile"], told.get("model", "")), named_experiment(told["experiment"])
    makes = {*told["makes"]}
    studies = [Study(profile, **dict(one, vocabulary=tuple(one["vocabulary"]))) for one in told["studies"]]
    cells: dict[Any, Cell] = {}  # of what studies share the first one's
    for study in studies:
        for cell in _cells(study, experiment):
            if str(cell.path) in makes:
                cells.setdefault((cell.path, cell.readings), cell)
    there = {str(path) for path, _ in cells}
    if lost := [path for path in told["makes"] if path.endswith(".parquet") and path not in there]:
        raise WorkError(
            f"{told['name']} is to make {len(lost)} cells that its studies do not have ({Path(lost[0]).stem}, for one): the "
            "package or its data changed since they were listed. Run `xlnb grid` again."
        )
    expert = told["expert"] and tuple(told["expert"])
    return Job(studies[0], tuple(map(Path, told["needs"])), expert, list(cells.values()))


def do(told: Mapping[str, Any]) -> None:
    """Do a job that was listed."""
    os.chdir(told["where"])
    work(job_of(told))


def run(
    found: Sequence[Job],
    experiment: str,
    folder: Path,
    at_once: int = 1,
    more: Sequence[str] = (),
    here: bool = False,
) -> list[str]:
    """Run jobs by Snakemake, so many at once, and return for each that failed its name and the end of its log.

    ``more`` are arguments of Snakemake's own (a profile of a cluster, say). With ``here``, or without Snakemake, processes of
    our own do the jobs (:mod:`xlnb.studies.pool`). What jobs need and make is written to ``folder``/jobs.json, logs lie beside
    it. One grid at a time runs in a folder. Raises as :func:`is_run_here`.
    """
    here = is_run_here(here, more)
    folder.mkdir(parents=True, exist_ok=True)
    # Elsewhere (``more``) a process computes on what it is given there.
    threads = 1 if more else artifacts.threads(at_once)
    everything = listed(found, experiment, folder, threads)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except OSError:
            raise WorkError(f"Another grid is running in {folder}: wait for it, or stop it.") from None
        # Of an earlier run: what is missing was found anew, and an old log says nothing of what is not started now.
        shutil.rmtree(folder / "done", ignore_errors=True)
        for one in everything:
            Path(one["log"]).unlink(missing_ok=True)
        artifacts.write_json(folder / "jobs.json", everything)
        if here:
            run_here(do, everything, at_once)
        else:
            _by_snakemake(folder, at_once * threads, more, lock.fileno())
    return [_told(one) for one in everything if not Path(one["done"]).exists()]


def is_run_here(here: bool, more: Sequence[str]) -> bool:
    """Return whether processes of our own do the jobs: as asked, or without Snakemake.

    Raises RequestError where there is ``more`` for Snakemake, which then does nothing.
    """
    here = here or not _has_snakemake()
    if here and more:
        raise RequestError(
            f"{' '.join(more)} is for Snakemake, which does not run this: leave it out, or leave --here out and have Snakemake "
            "(pip install 'xlnb[grid]')."
        )
    return here


def _has_snakemake() -> bool:
    try:
        import snakemake  # noqa: F401
    except ImportError:
        return False
    return snakefile().is_file()


def _by_snakemake(folder: Path, cores: int, more: Sequence[str], lock: int) -> None:
    asked = ["--snakefile", str(snakefile()), "--directory", str(folder), "--cores", str(cores), "--keep-going"]
    asked += ["--nolock", "--ignore-incomplete", "--scheduler", "greedy", "--quiet", "all", *more]
    # It has the lock, too: where this process is killed, no other grid begins before Snakemake has ended.
    snakemake = subprocess.Popen([sys.executable, "-m", "snakemake", *asked], pass_fds=[lock])
    try:
        snakemake.wait()
    except BaseException:  # interrupted, or told to end
        _end_children()
        raise


def _end_children() -> None:
    """End all processes that this one and its children started: asked first, so that they leave nothing half made."""
    import psutil

    alive = psutil.Process().children(recursive=True)
    try:
        for process in alive:  # Snakemake first, which then starts nothing more
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        alive = psutil.wait_procs(alive, timeout=30)[1]
    finally:  # interrupted again, too
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _told(job: Mapping[str, Any], lines: int = 12) -> str:
    log = Path(job["log"])
    end = log.read_text(errors="replace").splitlines()[-lines:] if log.is_file() else ["It was not started."]
    return "\n".join([f"{job['name']} is not done ({log}):", *(f"    {line}" for line in end)])


# --- how long it takes -------------------------------------------------------------------------------------


def plan_text(found: Sequence[Job]) -> str:
    """Return how many trainings and cells are missing, and how many hours they take one after the other on two cores."""
    trainings, cells = sum(bool(job.expert) for job in found), sum(len(job.cells) for job in found)
    counted = f"{trainings} trainings and {cells} cells are missing, in {len(found)} processes"
    if not found:
        return "Nothing is missing."
    hours, guessed, unmeasured = [0.0, 0.0], False, dict[str, None]()
    for alike in _by_profile(found):
        try:
            paces = Paces(alike[0].study)
        except RequestError:
            unmeasured[alike[0].study.profile.name] = None
            continue
        parts = [sum(map(price, alike)) / 3600 for price in (paces.training, paces.cells)]
        hours = [sum(pair) for pair in zip(hours, parts, strict=True)]
        guessed = guessed or any(_guessed(job, paces) for job in alike)
    lacking = f"was not measured for the profile {', '.join(unmeasured)}."
    if not any(hours):
        return f"{counted}; how long that takes {lacking}"
    told = f"{counted}: about {hours[0]:.1f} + {hours[1]:.1f} hours at the pace of what was measured on two cores."
    more = [f"To these comes what {lacking}"] if unmeasured else []
    return " ".join([told, *more, *([_DEARER] if guessed else [])])


def _by_profile(found: Sequence[Job]) -> list[list[Job]]:
    """Return jobs by profile and model, which have a pace each."""
    alike: dict[Path, list[Job]] = {}
    for job in found:
        alike.setdefault(job.study.place(()), []).append(job)
    return list(alike.values())


_DEARER = (
    "Those were template problems and the package's own texts, whose vocabulary is trimmed: with other data it may take several "
    "times as long."
)


def _guessed(job: Job, paces: Paces) -> bool:
    """Whether a job's hours are those of other data: its expert or one of its cells has no like among what was made."""
    trained = not job.expert or job.study.own_data or paces.trained_alike(job)
    asked = all(cell.evaluation.benchmark in ("templates", "prose") or paces.made_alike(cell) for cell in job.cells)
    return not (trained and asked)


def _told_in(folder: Path, pattern: str, device: str) -> list[dict[str, Any]]:
    """Return what is told of what was made by a machine like this one, on the kind of device that ``device`` means here."""
    here = [told for file in sorted(folder.glob(pattern)) if _is_of_platform(told := artifacts.read_json(file))]
    if not here:
        return []  # without a look for devices, which takes torch
    kind = resolved_device(device).type
    return [told for told in here if re.split("[:,]", told.get("device", kind))[0] == kind]


def _is_of_platform(told: Mapping[str, Any]) -> bool:
    """Say whether something was made by a machine like this one, and not brought from another."""
    mine = platform.platform()
    return bool(told["machine"].get("platform", mine) == mine)


def _median_alone(told: Sequence[Mapping[str, Any]]) -> float:
    """Return the median seconds of what was made, had each had all cores (several processes share them); 0 where nothing was."""
    alone = []
    for one in told:
        cores = one["machine"]["cores"]
        alone.append(one["seconds"] * one["machine"].get("threads", cores) / cores)
    return median(alone) if alone else 0.0


class Paces:
    """Seconds of trainings and cells of a profile, by those of the same data that were made here, else by committed measurements.

    Raises RequestError where none are committed.
    """

    def __init__(self, study: Study):
        from xlnb.studies.search import committed_search

        profile = study.profile.name
        trained = load_training(study.results, profile=profile, paradigm="lora")
        if trained.empty:
            raise RequestError(f"No committed training of the profile {profile} in {study.results}.")
        own = replace(study, math_data=MATH_DATA, language_data=LANGUAGE_DATA)
        trained = select(trained, corpora=[own.corpora((kind,)) for kind in (MATH, LANGUAGE, ORACLE)])
        self._tokens = trained.groupby(["expert", "language"])["tokens"].mean()
        costs = load_costs(study.results, profile=profile)
        self._costs = dict(
            zip(costs["readings"], costs["seconds"] / costs["problems"], strict=True)
        )  # seconds a problem
        setting = ["expert", "language", "data", "steps", "rate", "seed"]
        tried = committed_search(study.results, study.profile.model).drop_duplicates(setting)
        if not self._costs:
            raise RequestError(f"Nothing was measured of the profile {profile}.")
        self._pace = float(tried["seconds_of_training"].sum() / tried["tokens"].sum())
        self._made: dict[tuple[str, str], float] = {}

    def training(self, job: Job) -> float:
        """Return the seconds of a job's training, by those of other seeds or partitions, else by the tokens of a step."""
        if not job.expert:
            return 0.0
        if alike := self.trained_alike(job):
            return alike
        steps = job.study.training(job.expert[0]).steps
        like = {"math": MATH, "language": LANGUAGE}
        kinds = [like.get(stream.source, ORACLE) for stream in EXPERTS[job.expert[0]].streams]
        return sum(steps * self._step(kind, job.study.language) for kind in kinds) * self._pace

    def _step(self, kind: str, language: str) -> float:
        mine = self._tokens[kind]
        return float(mine[language] if language in mine else mine.mean())

    def cells(self, job: Job) -> float:
        """Return the seconds of a job's cells."""
        return sum(self.made_alike(cell) or self._by_readings(cell) for cell in job.cells)

    def trained_alike(self, job: Job) -> float:
        """Return the median of the same expert's trainings by other seeds or partitions; 0 where there are none."""
        if not job.expert:
            return 0.0
        slug, place = job.expert[0], job.study.place((job.expert[0],)).parent
        if (str(place), slug) not in self._made:
            steps = job.study.training(slug).steps
            here = f"{slug}-{'?' * 8}"  # a folder with weights; one that was brought without is .told
            told = _told_in(place, f"seed-*/experts/{here}/provenance.json", job.study.device)
            alike = [one for one in told if one["spec"]["training"]["steps"] == steps]
            self._made[str(place), slug] = _median_alone(alike)
        return self._made[str(place), slug]

    def made_alike(self, cell: Cell) -> float:
        """Return the median of the cells of this one's folder, or of other seeds', that were asked the same; 0 without any."""
        place = cell.path.parent.parent.parent
        if (str(place), cell.asked) not in self._made:
            told = _told_in(place, f"*/outcomes/*--{cell.test_language}--*.json", cell.study.device)
            alike = [one for one in told if artifacts.digest(one["spec"]["asked"])[:16] == cell.asked]
            self._made[str(place), cell.asked] = _median_alone(alike)
        return self._made[str(place), cell.asked]

    def _by_readings(self, cell: Cell) -> float:
        """Return the sum over both kinds of readings: by likelihood, which share their texts, those that cost most."""
        kinds: dict[bool, list[float]] = {False: [0.0], True: [0.0]}
        for group, readings in COST_GROUPS.items():
            if set(readings) & set(cell.readings) and group in self._costs:
                generates = READINGS[readings[0]].generates
                n = cell.evaluation.generated if generates else cell.evaluation.problems
                kinds[generates].append(float(self._costs[group] * n))
        return sum(map(max, kinds.values()))
