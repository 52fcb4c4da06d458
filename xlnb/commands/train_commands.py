"""The command `xlnb train`, in one process or in several that share the work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated

import typer

from xlnb import artifacts
from xlnb.commands.options import (
    Device,
    Dtype,
    Language,
    LanguageData,
    MathData,
    Model,
    Paradigm,
    ProfileName,
    Seed,
)
from xlnb.errors import WorkError, known

_PATIENCE = 10.0  # seconds in which the others may tell why they fail, too


def train_command(
    context: typer.Context,
    expert: Annotated[
        str, typer.Argument(help="math-only, language-only, data-mixing, simultaneous, frozen-math, ...")
    ],
    language: Language = "sw",
    seed: Seed = 0,
    profile: ProfileName = "pocket",
    model: Model = "",
    paradigm: Paradigm = "lora",
    partition: Annotated[str, typer.Option(help="Who owns what, where the expert is trained under a mask.")] = "C",
    math_data: MathData = "",
    language_data: LanguageData = "",
    device: Device = "auto",
    dtype: Dtype = "float32",
    processes: Annotated[
        int, typer.Option(min=1, help="That share the training, each on a GPU of its own; or see torchrun.")
    ] = 1,
) -> None:
    """Train an expert, or find the one that is there; print its folder."""
    if processes > 1:
        given = {name: value for name, value in context.params.items() if name not in ("expert", "processes")}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        code = launched(processes, [sys.executable, "-m", "xlnb", "train", *options, "--", expert])
        raise typer.Exit(code)
    from xlnb.analysis.fitting import FITTED
    from xlnb.methods import EXPERTS
    from xlnb.studies.profiles import corpora_of, named_profile
    from xlnb.studies.study import Study
    from xlnb.training import optimizers, ranks

    chosen = named_profile(profile, model)
    math, texts = corpora_of(profile, math_data, language_data, [language])
    known("expert", expert, EXPERTS)
    study = Study(chosen, language, seed, math_data=math, language_data=texts[language], paradigm=paradigm, dtype=dtype)
    with ranks.joined(device) as where:
        optimizers.check(chosen.training.optimizer)
        if ranks.first():
            chosen.checkpoint()  # fetched or made once; transformers writes nothing in the others
        ranks.agree("the base", profile)
        if partition not in FITTED:  # which are made, and need not be where no mask is
            study.partition(partition)  # a wrong one is told, though the expert may have no mask
        print(replace(study, device=where).expert(expert, partition))


def launched(processes: int, command: Sequence[str]) -> int:
    """Run a command in so many processes that find each other, and return the exit code; where one fails all end.

    The first one's words are seen as it says them; another's only where that one fails by itself. Raises WorkError where one was
    ended from outside.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    shared |= {"OMP_NUM_THREADS": str(artifacts.threads(processes))}
    with ExitStack() as stack:
        words = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(processes - 1)]
        running = [
            subprocess.Popen(
                command,
                env=os.environ | shared | {"RANK": str(i), "LOCAL_RANK": str(i)},
                stderr=words[i - 1] if i else None,
            )
            for i in range(processes)
        ]
        try:
            guilty = _first_to_fail(running)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if guilty is None:
            return 0
        code = running[guilty].returncode
        if code < 0:
            raise WorkError(
                f"Process {guilty} of {processes} was ended by {signal.Signals(-code).name}, and with it the others. Run the "
                "same again: it goes on from its last checkpoint, with any number of processes."
            )
        if guilty:
            words[guilty - 1].seek(0)
            print(words[guilty - 1].read(), end="", file=sys.stderr)
        return code


def _first_to_fail(running: Sequence[subprocess.Popen]) -> int | None:
    """Wait for all processes, or until one fails and the first had time to tell why; return whose words count, if any fails."""
    while True:
        codes = [process.poll() for process in running]
        failed = [i for i, code in enumerate(codes) if code]
        if not failed:
            if None not in codes:
                return None
            time.sleep(0.05)
            continue
        ended = [i for i in failed if (codes[i] or 0) < 0]
        if ended:
            return ended[0]
        try:  # a wrong request fails all of them alike: the first one tells it, once
            return 0 if running[0].wait(_PATIENCE) == codes[failed[0]] else failed[0]
        except subprocess.TimeoutExpired:
            return failed[0]
