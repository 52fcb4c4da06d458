"""Fine-tuning beside TRL's SFTTrainer, in one run: the same model, examples, batches and loss; seconds, memory, equal losses.

    pip install trl
    python tests/benchmarks/training.py [--steps 12] [--rounds 2] [--expert language-only] [--language sw]

Needs the pocket model. Each side trains in a process of its own, in turns; the first steps, which warm up, are not timed. Both
begin with the same adapter and take the same batches in the same order, so their losses must be equal within rounding. Prints
tokens/s, the largest memory of either process, padding, and exits with 1 where a goal is missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

GOAL, PADDING, ROUNDING = 1.3, 10.0, 2e-3
SIDES = ("xlnb", "trl")
WARM = 2  # steps


def prepared(expert, language, steps, dtype="float32"):
    """The base, the rows of each step's batch, and how they are learned: without a warm-up, by a cosine."""
    from xlnb.methods import EXPERTS
    from xlnb.studies.profiles import named_profile
    from xlnb.studies.study import Study
    from xlnb.training import sft

    study = Study(named_profile("pocket"), language, 0, device="cpu", dtype=dtype)
    training = replace(study.profile.training, steps=steps, warmup=0.0, checkpoint_every=10**6)
    (lesson,) = EXPERTS[expert].lessons(study._formatted, steps)
    rows = sft._rows(study.base, lesson.examples, training)
    order = sft.batch_order(len(rows), training.batch_size, steps, seed=0)
    return study.base, [[rows[i] for i in batch] for batch in order], training


def by_xlnb(base, batches, training):
    """Losses and seconds of our steps."""
    import torch

    from xlnb.training import sft
    from xlnb.training.paradigms import PARADIGMS

    rows, ends, plain = [row for batch in batches for row in batch], [], torch.optim.AdamW.step
    timed = lambda self, *a, **k: (plain(self, *a, **k), ends.append(time.perf_counter()))[0]  # noqa: E731
    in_order = lambda n, size, steps, seed: [list(range(i * size, (i + 1) * size)) for i in range(steps)]  # noqa: E731
    with (
        patch.object(torch.optim.AdamW, "step", timed),
        patch.object(sft, "batch_order", in_order),
        PARADIGMS["lora"].attached(base, training, 0, None) as trainee,
        tempfile.TemporaryDirectory() as folder,
    ):
        lane = sft.Lane(rows, training.steps, dict.fromkeys(trainee.weights, 1.0))
        history = sft.fit(trainee, [lane], training, 0, Path(folder) / "checkpoint.pt", {})
    return [step["loss"] for step in history], ends


def by_trl(base, batches, training):
    """Losses and seconds of SFTTrainer's steps, from the same adapter over the same batches."""
    import torch
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from xlnb.training.paradigms import PARADIGMS

    ends, losses = [], []

    class Timer(TrainerCallback):
        def on_step_end(self, *arguments, **named):
            ends.append(time.perf_counter())

        def on_log(self, args, state, control, logs=None, **named):
            if "loss" in (logs or {}):
                losses.append(logs["loss"])

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *arguments):
            return SequentialSampler(self.train_dataset)

    rows = [row for batch in batches for row in batch]
    dataset = Dataset.from_list([{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows])
    with PARADIGMS["lora"].attached(base, training, 0, None) as trainee, tempfile.TemporaryDirectory() as folder:
        for parameter in trainee.weights.values():
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(list(trainee.weights.values()), lr=training.learning_rate, weight_decay=0.0)
        schedule = LambdaLR(optimizer, lambda step: training.rate(step) / training.learning_rate)
        settings = SFTConfig(
            output_dir=folder, max_steps=training.steps, per_device_train_batch_size=training.batch_size, logging_steps=1,
            max_grad_norm=training.clip, completion_only_loss=True, report_to=[], use_cpu=True, bf16=False, save_strategy="no",
            gradient_checkpointing=False, max_length=None, remove_unused_columns=False, disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        trainer = InOrder(
            trainee.model, settings, train_dataset=dataset, processing_class=base.tokenizer,
            optimizers=(optimizer, schedule), callbacks=[Timer()],
        )  # fmt: skip
        trainer.train()
    return losses, ends


def worker(side, expert, language, steps):
    """Train on one side and print what was found, as JSON in the last line."""
    base, batches, training = prepared(expert, language, steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses, ends = {"xlnb": by_xlnb, "trl": by_trl}[side](base, batches, training)
    tokens = [sum(len(p) + len(c) for p, c in batch) for batch in batches]
    told = {
        "losses": losses,
        "pace": sum(tokens[WARM:]) / (ends[-1] - ends[WARM - 1]),
        "before": before / 2**20,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(told))


def padding(expert, language):
    """Percent of computed positions that hold nothing, over a whole training, by parts of like lengths and by whole batches."""
    from xlnb.studies.profiles import named_profile
    from xlnb.training import sft

    _, batches, _ = prepared(expert, language, named_profile("pocket").training.steps)
    length = lambda row: len(row[0]) + len(row[1])  # noqa: E731
    used = sum(length(row) for batch in batches for row in batch)
    shares = []
    for a_pass in (sft._A_PASS, 10**9):
        parts = [part for batch in batches for part in sft.alike(batch, a_pass)]
        shares.append(100 * (1 - used / sum(max(map(length, part)) * len(part) for part in parts)))
    return shares


def main():
    """Take turns, print the table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--expert", default="language-only")
    parser.add_argument("--language", default="sw")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        worker(asked.side, asked.expert, asked.language, asked.steps)
        return 0
    found = {side: [] for side in SIDES}
    for _ in range(asked.rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--steps", str(asked.steps), "--expert", asked.expert]
            command += ["--language", asked.language]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[side].append(json.loads(out.splitlines()[-1]))
    pace = {side: median(one["pace"] for one in rounds) for side, rounds in found.items()}
    memory = {side: max(one["memory"] for one in rounds) for side, rounds in found.items()}
    losses = [found[side][0]["losses"] for side in SIDES]
    apart = max(abs(a - b) for a, b in zip(*losses, strict=True))
    parts, whole = padding(asked.expert, asked.language)
    print(f"{'':6}{'tokens/s':>10}{'memory, GiB':>13}")
    for side in SIDES:
        print(f"{side:6}{pace[side]:10.0f}{memory[side]:13.2f}")
    ratio = pace["xlnb"] / pace["trl"]
    print(f"{ratio:.2f} times as quick (goal: {GOAL}); losses of {asked.steps} steps differ by {apart:.1e} at most")
    print(
        f"padding: {parts:.1f} % of positions in parts of like lengths (goal: {PADDING:.0f}), {whole:.1f} % in whole batches"
    )
    met = [ratio >= GOAL, memory["xlnb"] <= memory["trl"], apart <= ROUNDING, parts < PADDING]
    print("all goals met" if all(met) else f"goals missed: {met.count(False)}")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
