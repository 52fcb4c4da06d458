"""What tests of a grid that is killed share."""

import os
import random
import signal
import subprocess
import time


def times(home):
    """When each table of outcomes and each adapter was written."""
    found = [*home.rglob("outcomes/*.parquet"), *home.rglob("experts/*/adapter_model.safetensors")]
    return {str(file.relative_to(home)): file.stat().st_mtime_ns for file in found}


def killed_often(command, environment, home, kills, seconds, seed):
    """Start a command so often, kill it after some seconds, and return when all was written; what was made stays."""
    rng, before = random.Random(seed), {}
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(*seconds))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        after = times(home)
        assert before.items() <= after.items(), "what was made stays as it was made"
        before = after
    return before
