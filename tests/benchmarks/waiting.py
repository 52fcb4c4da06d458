"""Threads that wait beside threads that spin, on free cores and beside one busy core, in one run: tokens/s and their ratios.

    python tests/benchmarks/waiting.py [--rounds 3] [--seconds 5] [--policy NAME=VALUE ...]

Needs the pocket model. Two processes hold it: in one torch is loaded as it comes (its threads spin), in the other behind xlnb,
which has them wait. They take turns, round by round; a third process keeps a core busy where that is asked. Prints medians over
the rounds, and exits with 1 where a goal is missed. ``--policy`` tries other variables in the place of xlnb's. "apart" is the
training as xlnb does it, parts of a batch on a core each, where "training" leaves a batch to torch's threads.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

GOAL_BUSY, GOAL_FREE, GOAL_APART = 0.55, 0.95, 1.2
WORK = ("likelihood", "training", "apart")
MODES = ("spinning", "waiting")
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with whoever started it


# --- in a process of its own: tokens/s, as often as it is asked ------------------------------------------


def worker(mode):
    """Load the model, then answer each line "work seconds" of the input with tokens/s."""
    if mode == "spinning":
        import torch  # before xlnb, whose policy then comes too late

        assert torch.get_num_threads() > 1 or os.cpu_count() == 1
    from xlnb.corpora import templates
    from xlnb.evaluation.asking import Evaluation
    from xlnb.models.base import load_base
    from xlnb.models.pocket import pocket_checkpoint
    from xlnb.training.sft import Training

    examples = templates.math_examples("sw", "train", 1000)
    base = load_base(pocket_checkpoint(report=lambda told: None), [e.prompt + e.completion for e in examples], "cpu")
    rows = [(base.start + base.encode(e.prompt), [*base.encode(e.completion), base.eos_id]) for e in examples]
    whole, apart = trainings(base, rows[: Training().batch_size])  # in batches as large as the profile's
    work = {"likelihood": likelihood(base, rows[: Evaluation().batch_size]), "training": whole, "apart": apart}
    for step in work.values():
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        began, tokens = time.perf_counter(), 0
        while time.perf_counter() - began < float(seconds):
            tokens += work[name]()
        print(tokens / (time.perf_counter() - began), flush=True)


def likelihood(base, rows):
    import torch

    from xlnb.models.engine import completion_nll, right_aligned

    batch = right_aligned(rows, base.pad_id, device=base.device)

    def forward():
        with torch.inference_mode():
            completion_nll(base.model.eval(), batch)
        return int(batch.attention_mask.sum())

    return forward


def trainings(base, rows):
    """A step of training with torch's own threads, and one with parts of the batch on a core each."""
    import torch

    from xlnb.models.engine import completion_nll, right_aligned
    from xlnb.training import sft
    from xlnb.training.paradigms import PARADIGMS

    settings = sft.Training()
    batch = right_aligned(rows, base.pad_id, device=base.device)
    trainee = PARADIGMS["lora"].attached(base, settings, 0, None).__enter__()  # it ends with this process
    optimizer = torch.optim.AdamW(trainee.weights.values(), lr=1e-5)

    def step(backward):
        trainee.model.train()
        backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return int(batch.attention_mask.sum())

    def whole():
        completion_nll(trainee.model, batch).mean().backward()

    return partial(step, whole), partial(step, partial(sft._backward, trainee, rows, settings))


# --- side by side ----------------------------------------------------------------------------------------


@contextmanager
def started(*arguments, **options):
    process = subprocess.Popen([sys.executable, *arguments], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(process, line=""):
    """What a worker answers to a line."""
    if line:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    answer = process.stdout.readline().strip()
    if not answer:
        sys.exit("A worker ended early: its message stands above.")
    return answer


def measure(rounds, seconds, policy):
    """Tokens/s of each (work, mode, beside a busy core), a list over the rounds."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    speeds = {(work, mode, busy): [] for work in WORK for busy in (False, True) for mode in MODES}
    with (
        started(__file__, "--worker", "spinning", env=plain, **pipes) as spinning,
        started(__file__, "--worker", "waiting", env=plain | policy, **pipes) as waiting,
    ):
        workers = {"spinning": spinning, "waiting": waiting}
        for process in workers.values():
            asked(process)
        for _ in range(rounds):
            for work, mode, busy in speeds:
                if busy:
                    with started("-c", BUSY):
                        speeds[work, mode, busy].append(float(asked(workers[mode], f"{work} {seconds}")))
                else:
                    speeds[work, mode, busy].append(float(asked(workers[mode], f"{work} {seconds}")))
    return {key: statistics.median(values) for key, values in speeds.items()}


def verdict(what, ratio, goal):
    print(f"{what:62s} {100 * ratio:5.0f} %   goal {100 * goal:.0f} %: {'met' if ratio >= goal else 'MISSED'}")
    return ratio >= goal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement; a round has twelve")
    parser.add_argument("--policy", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--worker", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker)
    speeds = measure(options.rounds, options.seconds, dict(given.split("=", 1) for given in options.policy))
    print(f"{os.cpu_count()} cores, pocket model, tokens/s, medians of {options.rounds}", flush=True)
    good = True
    for work in WORK:
        for busy in (False, True):
            spinning, waiting = (speeds[work, mode, busy] for mode in MODES)
            where = "beside one busy core" if busy else "on free cores"
            print(f"{work:10s} {where:21s} spinning {spinning:6.0f}   waiting {waiting:6.0f}")
        free, beside = (speeds[work, "waiting", busy] for busy in (False, True))
        spun, spun_beside = (speeds[work, "spinning", busy] for busy in (False, True))
        good &= verdict(f"{work}: waiting, of spinning, on free cores", free / spun, GOAL_FREE)
        good &= verdict(f"{work}: waiting, beside a busy core, of free cores", beside / free, GOAL_BUSY)
        print(f"{f'{work}: spinning, beside a busy core, of free cores':62s} {100 * spun_beside / spun:5.0f} %")
    for busy in (False, True):
        gain = speeds["apart", "waiting", busy] / speeds["training", "waiting", busy]
        what = f"apart, of training, {'beside a busy core' if busy else 'on free cores'}"
        good &= verdict(what, gain, GOAL_APART)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
