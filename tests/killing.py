"""What tests of a grid that is killed share."""

import glob
import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import pandas as pd


def finished(home):
    """The places of tables of outcomes and of adapters that are whole; what is being written has a dot before its name."""
    patterns = ("**/outcomes/*.parquet", "**/experts/*/adapter_model.safetensors")
    # Unlike a path's own it passes over what vanishes while it looks.
    return {name for pattern in patterns for name in glob.glob(pattern, root_dir=home, recursive=True)}  # noqa: PTH207


def made(home):
    """When each of them was written, and the outcomes of tables."""
    tables = {name: pd.read_parquet(home / name) if name.endswith(".parquet") else None for name in finished(home)}
    return {name: ((home / name).stat().st_mtime_ns, table) for name, table in tables.items()}


def assert_kept(before, after):
    """What was made was not made again; a table may have got outcomes of more readings."""
    assert len(before) < len(after)
    for name, (written, table) in before.items():
        again, whole = after[name]
        more = table is not None and len(whole) > len(table) and whole.head(len(table)).equals(table)
        assert written == again or more, f"{name} was made twice"


def wait_until(reached, is_alive, seconds=600):
    """Return when something is reached; fail where the process that is to reach it ends, or takes too long."""
    started = time.time()
    while not reached():
        assert is_alive(), "it ended before it was killed: this test would prove nothing"
        assert time.time() - started < seconds, "it takes too long"
        time.sleep(0.05)


def killed_often(command, environment, home, kills, seed):
    """Start a command so often, kill it soon after it made something, and return what was made; it stays."""
    rng, before = random.Random(seed), made(home)
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
        try:
            wait_until(
                lambda there=before: len(finished(home)) > len(there), lambda child=process: child.poll() is None
            )
            time.sleep(rng.uniform(0, 1))
            assert process.poll() is None, "it ended before it was killed: this test would prove nothing"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        after = made(home)
        assert_kept(before, after)
        before = after
    return before
