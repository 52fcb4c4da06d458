"""What an expert and a cell take on this machine, in float32 and in bfloat16, side by side in one run.

    python tests/benchmarks/pace.py [--steps 6] [--rounds 2] [--language sw]

Needs the pocket model. An expert's time is that of its training's mean step, times its steps; a cell is one model by the
likelihood metrics of the comparison of methods. Prints seconds, ratios, and how far losses and outcomes in bfloat16 are from
those in float32, on average; exits with 1 where a goal is missed in float32, the book's arithmetic.
"""

import argparse
import sys
import time
from statistics import mean, median

from training import WARM, by_xlnb, prepared

from xlnb.evaluation.scoring import evaluate
from xlnb.models.base import BFLOAT16, FLOAT32
from xlnb.studies.experiments import COMPARISON
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

EXPERTS = {"math expert": "math-only", "language expert": "language-only"}
GOALS = {"math expert": 180.0, "language expert": 180.0, "cell": 60.0}  # seconds


def expert(slug, language, steps, dtype):
    """Seconds of a training of the profile's length, by the mean of some steps; their losses."""
    base, batches, training = prepared(slug, language, WARM + steps, dtype)
    losses, ends = by_xlnb(base, batches, training)
    return (ends[-1] - ends[WARM - 1]) / steps * named_profile("pocket").training.steps, losses


def cell(language, dtype):
    """Seconds of the base's likelihood metrics; its outcomes, by metric and problem."""
    study = Study(named_profile("pocket"), language, 0, device="cpu", dtype=dtype)
    asked = next(one for one in study.cells(COMPARISON) if one.test_language == language)
    base, benchmark = study.base, asked.benchmark
    began = time.perf_counter()
    found = evaluate(base, benchmark, asked.evaluation)
    return time.perf_counter() - began, list(found["outcome"])


def main():
    """Take turns, print the table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--language", default="sw")
    asked = parser.parse_args()
    work = {
        name: lambda dtype, slug=slug: expert(slug, asked.language, asked.steps, dtype)
        for name, slug in EXPERTS.items()
    }
    work["cell"] = lambda dtype: cell(asked.language, dtype)
    missed = 0
    print(f"{'':16}{'float32, s':>12}{'bfloat16, s':>12}{'ratio':>7}{'goal, s':>9}   differ by")
    for name, run in work.items():
        rounds = [{dtype: run(dtype) for dtype in (FLOAT32, BFLOAT16)} for _ in range(asked.rounds)]
        plain, short = (median(one[dtype][0] for one in rounds) for dtype in (FLOAT32, BFLOAT16))
        apart = mean(abs(a - b) for a, b in zip(*(rounds[0][dtype][1] for dtype in (FLOAT32, BFLOAT16)), strict=True))
        missed += plain > GOALS[name]
        print(f"{name:16}{plain:12.0f}{short:12.0f}{plain / short:7.2f}{GOALS[name]:9.0f}   {apart:.4f}", flush=True)
    print("all goals met" if not missed else f"goals missed in float32: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
