"""The grid by processes of its own: in what order, what fails, what dies, what is killed and goes on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import killing
import pytest

from xlnb.commands import cli
from xlnb.studies import grid, pool
from xlnb.studies.experiments import named_experiment
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

# What a job makes here is its own name in a file; workers find this function by the name of this module.


def write(told):
    print(f"writing {told['name']}")
    if told["name"] == "failing":
        raise ValueError("as was to be expected")
    if told["name"] == "dying":
        os._exit(7)
    time.sleep(told.get("seconds", 0))
    with open(told["makes"][0], "a") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")


@pytest.fixture
def job(tmp_path):
    """A function that describes a job as the grid does."""

    def describe(name, *after, **more):
        return {
            "name": name,
            "after": list(after),
            "makes": [str(tmp_path / f"{name}.made")],
            "done": str(tmp_path / "done" / name),
            "log": str(tmp_path / "logs" / f"{name}.log"),
            **more,
        }

    return describe


def made(tmp_path):
    return {file.stem for file in tmp_path.glob("*.made")}


def done(tmp_path):
    return {file.name for file in tmp_path.glob("done/*")}


def test_what_the_most_waits_for_comes_first(job):
    jobs = [job("a"), job("b"), job("c", 1), job("d", 2), job("e", makes=["x"] * 2)]
    assert [jobs[place]["name"] for place in pool.by_longest_chain(jobs)] == ["b", "c", "e", "a", "d"]


def test_jobs_start_when_what_they_need_is_done_and_workers_stay(job, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    jobs = [job("a", seconds=0.3), job("b", 0), job("c", 0), job("d", 1, 2)]
    pool.run_here(write, jobs, 2)
    assert made(tmp_path) == done(tmp_path) == {"a", "b", "c", "d"}
    times = {name: (tmp_path / f"{name}.made").stat().st_mtime_ns for name in "abcd"}
    assert times["a"] < min(times["b"], times["c"])
    assert times["d"] > max(times["b"], times["c"])
    told = [(tmp_path / f"{name}.made").read_text().split() for name in "abcd"]
    assert {threads for _, threads in told} == {"3"}, "cores are shared"
    assert len({pid for pid, _ in told}) <= 2, "workers go on to the next job"
    assert (tmp_path / "logs" / "d.log").read_text() == "writing d\n"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("bad", "told"),
    [("failing", "ValueError: as was to be expected"), ("dying", "Its process ended with exit code 7.")],
    ids=["failing", "dying"],
)
def test_a_job_that_fails_is_told_in_its_log_and_stops_only_what_needs_it(job, tmp_path, bad, told):
    jobs = [job(bad), job("needs it", 0), job("next"), job("last", 2)]
    pool.run_here(write, jobs, 1)
    assert made(tmp_path) == done(tmp_path) == {"next", "last"}
    log = (tmp_path / "logs" / f"{bad}.log").read_text()
    assert log.startswith(f"writing {bad}") or bad == "dying", "what was printed is there, where it could be"
    assert told in log
    assert not (tmp_path / "logs" / "needs it.log").exists()


def test_interrupted_it_ends_its_workers(job, tmp_path):
    script = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from test_worker_pool import write
from xlnb.studies import pool
if __name__ == "__main__":
    pool.run_here(write, [{job("long", seconds=60)!r}, {job("longer", seconds=60)!r}], 2)
"""
    (tmp_path / "script.py").write_text(script)
    for number in (signal.SIGINT, signal.SIGKILL):  # killed itself, it can do nothing: workers see that it is gone
        for log in tmp_path.glob("logs/*.log"):
            log.unlink()
        process = subprocess.Popen(
            [sys.executable, tmp_path / "script.py"], start_new_session=True, stderr=subprocess.DEVNULL
        )
        started = time.time()
        while len(list(tmp_path.glob("logs/*.log"))) < 2:
            time.sleep(0.05)
            assert time.time() - started < 60
        os.kill(process.pid, number)
        process.wait(timeout=30)
        while time.time() - started < 90 and _is_there(process.pid):
            time.sleep(0.05)
        assert not _is_there(process.pid), "of its group nobody is left"
    assert made(tmp_path) == set()


def _is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- the grid ------------------------------------------------------------------------------------------------

ASKED = ("grid", "--here", "--profile", "smoke", "--experiment", "strength", "--languages", "sw", "--seeds", "0")


def test_a_grid_without_snakemake_that_is_killed_goes_on(own_home, tmp_path):
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['snakemake'] = None; from xlnb.commands.cli import main; main()",
    ]
    command += [word for word in ASKED if word != "--here"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    before = killing.killed_often(command, environment, own_home, kills=2, seed=1)
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    killing.assert_kept(before, killing.made(own_home))
    (study,) = [Study(named_profile("smoke"), "sw", 0)]
    assert grid.jobs([study], named_experiment("strength")) == []


def test_several_experiments_are_one_grid(own_home):
    study = Study(named_profile("smoke"), "sw", 0)
    both = grid.jobs([study], named_experiment("strength,partitions"))
    each = [grid.jobs([study], named_experiment(name)) for name in ("strength", "partitions")]
    assert {path for job in both for path in job.makes} == {path for jobs in each for job in jobs for path in job.makes}
    told = grid.listed(both, "strength,partitions", own_home)
    assert [grid.job_of(one).makes for one in told] == [job.makes for job in both]


def test_what_fails_is_told_as_with_snakemake(own_home):
    found = grid.jobs([Study(named_profile("smoke"), "sw", 0)], named_experiment("strength"))
    broken = next(job for job in found if job.expert)
    folder = broken.makes[0]
    folder.parent.mkdir(parents=True)
    folder.with_name(f"{folder.name}.checkpoint.pt").mkdir()  # where training writes what it goes on from
    failed = grid.run(found, "strength", own_home / "runs" / "grid", here=True)
    assert failed[0].startswith(f"{broken.name} is not done")
    assert "checkpoint.pt" in failed[0]
    assert failed[-1].endswith("It was not started."), "what is merged of it"
    assert len(failed) == 2
    assert all(path.exists() for job in found if not job.expert and not job.needs for path in job.makes)


def test_arguments_of_snakemake_s_own_need_it(own_home, capsys):
    assert cli.exit_code([*ASKED, "--", "--profile", "notebooks/slurm"]) == 2
    assert "--profile notebooks/slurm is for Snakemake" in capsys.readouterr().err
    assert not (own_home / "runs" / "grid" / "jobs.json").exists()
