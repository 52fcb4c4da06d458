"""The grid: what is missing becomes processes that depend on each other; what fails is told; what is killed goes on."""

import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import killing
import pandas as pd
import psutil
import pytest
import yaml

from xlnb import artifacts
from xlnb.commands import cli
from xlnb.errors import RequestError, WorkError
from xlnb.methods import EXPERTS, METHODS
from xlnb.paths import snakefile
from xlnb.studies import grid
from xlnb.studies.experiments import FIRST_SWAP, Ask, Experiment, named_experiment
from xlnb.studies.profiles import PROFILES, named_profile
from xlnb.studies.study import Study, without_weights

pytestmark = pytest.mark.usefixtures("own_home")
SMOKE = named_profile("smoke")
METHODS_EXPERIMENT = named_experiment("methods")
FEW = Experiment(
    (Ask(("base", "layer-swapping"), languages=("sw",), changes={"generated": 0, "readings": ("nll",)}),), ()
)


def studies(languages=("sw",), seeds=(0,)):
    return [Study(SMOKE, language, seed) for seed in seeds for language in languages]


def make(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            pd.DataFrame({"metric": [*SMOKE.evaluation.readings, "twin-information", "twin-choice"]}).to_parquet(path)
        else:
            path.mkdir()


def write_told(path, told):
    path.parent.mkdir(parents=True)
    artifacts.write_json(path, told)


# --- which processes there are ---------------------------------------------------------------------------


def test_every_missing_cell_and_expert_is_made_once_and_after_what_it_needs(own_home):
    both = studies(("sw", "bn"), (0, 1))
    found = grid.jobs(both, METHODS_EXPERIMENT)
    made = [path for job in found for path in job.makes]
    assert len(made) == len(set(made))
    surveyed = grid.survey(both, METHODS_EXPERIMENT)
    assert set(made) >= {path for path, state in surveyed.items() if state == "missing"}
    there = set()
    for job in found:
        assert set(job.needs) <= there
        there |= {path for path in job.makes if not path.suffix}
        assert {folder for cell in job.cells for folder in cell.needs} <= there
    trained = [job.expert[0] for job in found if job.expert]
    english = {"math-only", "frozen-math", "format-control"}
    for slug in {slug for method in METHODS_EXPERIMENT.asks[0].methods for slug in METHODS[method].experts}:
        assert trained.count(slug) == (2 if slug in english else 4), (
            "an expert that saw but English serves all languages"
        )


def test_what_is_made_is_not_listed(own_home):
    one = studies()
    for job in grid.jobs(one, METHODS_EXPERIMENT):
        make(*job.makes)
    assert grid.jobs(one, METHODS_EXPERIMENT) == []
    added = grid.jobs(studies(seeds=(0, 1)), METHODS_EXPERIMENT)
    assert added
    assert {job.study.seed for job in added} == {1}, "a seed that is added is all that is listed"
    assert all("seed-1" in job.name for job in added), "the base is there"


def test_an_expert_that_is_there_is_not_trained_for_a_new_cell(own_home):
    (study,) = studies()
    make(study.expert_folder("math-only"))
    found = grid.jobs([study], FEW)
    assert [job.expert[0] for job in found if job.expert] == ["language-only"]
    (merges,) = [job for job in found if len(job.needs) == 2]
    assert [cell.method for cell in merges.cells] == ["layer-swapping"]


def test_where_an_expert_goes_on_from_is_trained_first(own_home):
    asked = Experiment((Ask(("math-last",), languages=("sw",)),), ())
    first, second = grid.jobs(studies(), asked)
    assert (first.expert[0], second.expert[0]) == (EXPERTS["math-last"].start, "math-last")
    assert second.needs == (first.makes[0],)


@pytest.mark.parametrize("languages", [("te",), ("sw", "bn")])
def test_a_job_is_the_same_once_it_was_listed(own_home, tmp_path, languages):
    """Of several languages, too: what they share is scored in all of them by one job."""
    found = grid.jobs(studies(languages, (3,)), METHODS_EXPERIMENT)
    artifacts.write_json(tmp_path / "jobs.json", grid.listed(found, "methods", tmp_path))
    for job, told in zip(found, artifacts.read_json(tmp_path / "jobs.json"), strict=True):
        again = grid.job_of(told)
        assert (again.name, again.makes, again.needs) == (job.name, job.makes, job.needs)


def test_each_profile_s_base_is_a_job_of_its_own(own_home, monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke-again", replace(SMOKE, name="smoke-again"))
    both = [Study(named_profile(name)) for name in ("smoke", "smoke-again")]
    found = grid.jobs(both, named_experiment("first-swap"))
    told = grid.listed(found, "first-swap", own_home)
    assert [{*grid.job_of(one).makes} for one in told] == [{*job.makes} for job in found]
    assert len({job.name for job in found}) == len(found)
    (base,) = [one for one in told if one["name"] == "smoke/gemma3-miniature/base/base"]
    with pytest.raises(
        WorkError, match=r"1 cells that its studies do not have \(gone, for one\).*Run `xlnb grid` again"
    ):
        grid.job_of(base | {"makes": [*base["makes"], "gone.parquet"]})


# --- one process -----------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_told_and_keeps_no_other_from_being_made(own_home, monkeypatch, capsys):
    (study,) = studies()
    job = grid.jobs([study], METHODS_EXPERIMENT)[0]
    bad, plain, made = job.cells[0], Study.make, []

    def meddling(self, cell):
        if cell.path == bad.path:
            raise ZeroDivisionError("nothing to divide by")
        made.append(cell.path)
        plain(self, cell)

    monkeypatch.setattr(Study, "make", meddling)
    with pytest.raises(WorkError, match=f"1 of {len(job.cells)} cells failed: {bad.path.stem}"):
        grid.work(job)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: nothing to divide by" in told
    assert made == [cell.path for cell in job.cells[1:]]
    assert [path.exists() for path in job.makes] == [True, False, *[True] * (len(job.makes) - 2)]


# --- by Snakemake ----------------------------------------------------------------------------------------

ASKED = ("grid", "--profile", "smoke", "--experiment", "first-swap", "--languages", "sw", "--seeds", "0", "--jobs", "2")


def outcomes(home):
    files = sorted(home.rglob("outcomes/*.parquet"))
    return {str(file.relative_to(home)): pd.read_parquet(file) for file in files}


def test_a_grid_that_is_killed_goes_on_to_the_same(own_home, first_swap, tmp_path, capsys):
    command, home = [sys.executable, "-m", "xlnb", *ASKED], own_home / "runs"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}  # Snakemake leaves folders there
    before = killing.killed_often(command, environment, home, kills=4, seed=0)
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    killing.assert_kept(before, killing.made(home))
    assert cli.exit_code([*ASKED]) == 0
    assert capsys.readouterr().out.strip() == "Nothing is missing."
    found, expected = outcomes(home), outcomes(first_swap)
    assert list(found) == list(expected)
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, expected[name])


def test_a_process_that_fails_is_told_with_its_log_and_the_others_go_on(own_home):
    (study,) = studies()
    found = grid.jobs([study], named_experiment("main-methods"))[:3]
    broken = found[0]
    folder = broken.makes[0]
    folder.parent.mkdir(parents=True)
    folder.with_name(f"{folder.name}.checkpoint.pt").mkdir()  # where training writes what it goes on from
    failed = grid.run(found, "main-methods", own_home / "runs" / "grid", at_once=2)
    assert len(failed) == 1
    assert failed[0].startswith(f"{broken.name} is not done")
    assert "checkpoint.pt" in failed[0]
    for job in found[1:]:
        assert all(path.exists() for path in job.makes)


def test_a_cell_that_gets_more_readings_keeps_those_that_it_has(own_home):
    (study,) = studies()
    few = replace(FIRST_SWAP, methods=("base",), languages=("sw",), changes={"readings": ("nll", "choice")})
    study.outcomes(few)
    (cell,) = study.cells(few)
    found = grid.jobs([study], Experiment((replace(FIRST_SWAP, methods=("base",), languages=("sw",)),), ()))
    assert [job.makes for job in found] == [[cell.path]], "the file is there, and more is asked of it"
    assert grid.run(found, "first-swap", own_home / "runs" / "grid") == []
    assert {"nll", "choice", *cell.readings} <= set(pd.read_parquet(cell.path)["metric"])
    assert "exact-match" in set(pd.read_parquet(cell.path)["metric"])


def test_two_grids_in_one_folder(own_home):
    folder = own_home / "grid"
    folder.mkdir()
    holding = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holding, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(WorkError, match="Another grid is running"):
            grid.run(grid.jobs(studies(), FEW), "first-swap", folder)
    finally:
        other.kill()
        other.communicate()


def test_arguments_behind_two_hyphens_are_snakemakes_own(own_home, monkeypatch, capfd):
    seen = []

    class Snakemake:
        def __init__(self, command, **named):
            seen.append(command)

        def wait(self):
            pass

    monkeypatch.setattr(grid.subprocess, "Popen", Snakemake)
    code = cli.exit_code([*ASKED, "--", "--profile", "notebooks/slurm"])
    assert seen[0][-2:] == ["--profile", "notebooks/slurm"]
    assert code == 1, "nothing was made"
    assert "4 of 4 processes are not done" in capfd.readouterr().err


def test_what_is_not_behind_two_hyphens_is_refused(own_home, capsys):
    assert cli.exit_code(["grid", "strength", "--profile", "smoke", "--dry-run"]) == 2
    assert "--experiment strength" in capsys.readouterr().err
    assert cli.exit_code([*ASKED, "--dry-run", "--here", "--", "--profile", "notebooks/slurm"]) == 2
    assert "--profile notebooks/slurm is for Snakemake" in capsys.readouterr().err


def test_jobs_of_snakemake_share_the_cores(own_home, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    (base,) = [job for job in grid.jobs(studies(), named_experiment("first-swap")) if not job.needs and not job.expert]
    del base.cells[1:]
    folder = own_home / "runs" / "grid"
    assert grid.run([base], "first-swap", folder, at_once=2) == []
    assert artifacts.read_json(base.makes[0].with_suffix(".json"))["machine"]["threads"] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert grid.listed([base], "first-swap", folder)[0]["threads"] == 1


def test_an_old_log_is_no_reason(own_home):
    first, second = grid.jobs(studies(), Experiment((Ask(("math-last",), languages=("sw",)),), ()))
    folder = own_home / "grid"
    for told in grid.listed([first, second], "first-swap", folder):
        log = Path(told["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("an old reason")
    failed = grid.run([first, second], "no such experiment", folder)
    assert "no such experiment" in failed[0]
    assert failed[1].endswith("It was not started.")


def grid_jobs(process):
    return [child for child in process.children(recursive=True) if "grid-job" in child.cmdline()]


@pytest.fixture
def started(own_home, tmp_path):
    """A grid that has begun with jobs; whatever is left of it ends with the test."""
    command, environment = [sys.executable, "-m", "xlnb", *ASKED], {**os.environ, "TMPDIR": str(tmp_path)}
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killing.wait_until(lambda: grid_jobs(process), process.is_running)
    children = process.children(recursive=True)
    yield process, children
    for one in (process, *children):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def test_told_to_end_it_ends_its_jobs(started):
    process, children = started
    process.send_signal(signal.SIGTERM)  # itself alone
    assert process.wait(timeout=60) == 130
    assert psutil.wait_procs(children, timeout=1)[1] == []


def test_while_what_a_killed_grid_started_lives_there_is_no_other(started, own_home):
    process, children = started
    process.kill()
    process.wait()
    assert any(child.is_running() for child in children)
    with pytest.raises(WorkError, match="Another grid is running"):
        grid.run(grid.jobs(studies(), FEW), "first-swap", own_home / "runs" / "grid")


def test_the_profile_for_slurm_is_one():
    profile = yaml.safe_load((snakefile().parent / "slurm" / "config.yaml").read_text())
    assert profile["executor"] == "slurm"
    from snakemake_executor_plugin_slurm import Executor

    assert Executor


# --- how long it takes -----------------------------------------------------------------------------------


def test_a_dry_run_counts_and_makes_nothing(own_home, capsys):
    assert cli.exit_code([*ASKED, "--dry-run"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("2 trainings and 23 cells are missing, in 4 processes")
    assert sum(int(line.split()[0]) for line in lines) == 23
    assert not (own_home / "runs" / "grid").exists()


@pytest.mark.pocket
def test_hours_are_those_of_what_was_measured(pocket_folder, monkeypatch, tmp_path):
    monkeypatch.delenv("XLNB_HOME")
    monkeypatch.delenv("XLNB_CACHE")
    study = replace(Study(named_profile("pocket"), "sw", 0), folder=tmp_path)
    paces = grid.Paces(study)
    math, mixing = (grid.Job(study, (), (slug, "C")) for slug in ("math-only", "data-mixing"))
    language = grid.Job(study, (), ("language-only", "C"))
    assert paces.training(mixing) == pytest.approx(paces.training(math) + paces.training(language))
    assert 60 < paces.training(math) < 1200
    cells = study.cells(METHODS_EXPERIMENT.asks[0])
    assert paces.cells(grid.Job(study, (), None, cells)) == pytest.approx(
        sum(paces.cells(grid.Job(study, (), None, [cell])) for cell in cells)
    )
    data = tmp_path / "train.jsonl"
    lines = (f'{{"question": "How many are {n} and 3?", "answer": "{n}+3={n + 3}\\n#### {n + 3}"}}' for n in range(720))
    data.write_text("\n".join(lines))
    dearer = "may take several times as long"
    assert dearer not in grid.plan_text([math])
    other = replace(math, study=replace(study, math_data=f"gsm8k:{data}"))
    assert dearer in grid.plan_text([other])

    # What was made here of these very data by another seed says how long it takes; one thread of four is a quarter of its time.
    asked = next(cell for cell in other.study.cells(METHODS_EXPERIMENT.asks[0]) if cell.method == "math-only")
    other.cells = [asked]
    assert dearer in grid.plan_text([other])
    seven = replace(other.study, seed=7)
    machine = {"cores": 4, "threads": 1}
    made = {"seconds": 120.0, "machine": machine, "spec": seven.expert_spec("math-only")}
    write_told(seven.expert_folder("math-only") / "provenance.json", made)
    assert grid.Paces(study).training(other) == 30
    assert dearer not in grid.plan_text([other])
    beside = asked.path.parents[2] / "seed-7" / "outcomes" / asked.path.with_suffix(".json").name
    write_told(beside, {"seconds": 80.0, "machine": machine, "spec": asked.spec})
    assert grid.Paces(study).cells(other) == 20
    assert grid.Paces(study).training(math) > 30, "of other data"


@pytest.fixture
def paces(own_home, monkeypatch):
    """Paces of each profile as if they had been measured: an hour a training, half of it a cell; of some they were not."""
    unmeasured, seconds = set(), {"smoke": 3600, "smoke-again": 7200}

    def measured(self, study):
        if study.profile.name in unmeasured:
            raise RequestError("not measured")
        self._made, own = {}, seconds[study.profile.name]
        monkeypatch.setattr(self, "training", lambda job: own * bool(job.expert), raising=False)
        monkeypatch.setattr(self, "cells", lambda job: own / 2 * len(job.cells), raising=False)

    monkeypatch.setattr(grid.Paces, "__init__", measured)
    monkeypatch.setitem(PROFILES, "smoke-again", replace(SMOKE, name="smoke-again"))
    return unmeasured


def test_each_profile_has_its_own_pace(paces):
    found = [job for name in ("smoke", "smoke-again") for job in grid.jobs([Study(named_profile(name))], FEW)]
    assert "4 trainings and 4 cells" in grid.plan_text(found)
    assert "about 6.0 + 3.0 hours" in grid.plan_text(found)
    paces.add("smoke-again")
    told = grid.plan_text(found)
    assert "about 2.0 + 1.0 hours" in told
    assert "what was not measured for the profile smoke-again." in told
    paces.add("smoke")
    assert grid.plan_text(found).endswith("how long that takes was not measured for the profile smoke, smoke-again.")


@pytest.mark.parametrize(
    ("machine", "device", "seconds"),
    [
        ({}, "cpu", 30),
        ({}, "cpu, bf16 autocast", 30),
        ({}, "cuda: NVIDIA H200", 0),
        ({"platform": "another"}, "cpu", 0),
    ],
)
def test_what_was_made_elsewhere_says_nothing_of_this_machine(paces, machine, device, seconds):
    study = Study(SMOKE, device="cpu")
    job = grid.Job(study, (), ("math-only", "C"))
    told = {"seconds": 30.0, "machine": {"cores": 2, "platform": platform.platform()} | machine, "device": device}
    seven = replace(study, seed=7)
    folder = seven.expert_folder("math-only")
    write_told(without_weights(folder) / "provenance.json", told | {"spec": seven.expert_spec("math-only")})
    assert grid.Paces(study).trained_alike(job) == 0, "brought from elsewhere, without weights"
    write_told(folder / "provenance.json", told | {"spec": seven.expert_spec("math-only")})
    assert grid.Paces(study).trained_alike(job) == seconds
    (cell,) = study.cells(FEW.asks[0])[:1]
    write_told(cell.path.with_suffix(".json"), told | {"spec": cell.spec})
    assert grid.Paces(study).made_alike(cell) == seconds
