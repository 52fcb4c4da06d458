"""Moments in eight bits: what they change, what they leave alone, what they save; and what is said where they cannot be had.

Torchao is no part of the environment. One test fetches it into a folder of its own and runs in a process that finds it there the
tests that need it.
"""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from trainings import stopped_at_its_first_checkpoint, train_expert

from xlnb.commands.cli import exit_code
from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.models.memory import ADAMW, ADAMW_8BIT, FULL, LORA, MOMENTS, training_memory
from xlnb.studies.paper import MODELS
from xlnb.studies.planning import Assumed, Setup, remedies
from xlnb.studies.profiles import PAPER_8BIT, named_profile
from xlnb.training import optimizers, ranks, sft
from xlnb.training.paradigms import PARADIGMS
from xlnb.training.sft import Training
from xlnb.weights.tensor_files import open_checkpoint
from xlnb.weights.tensors import load

ROOT = Path(__file__).resolve().parents[2]
TEN = Training(
    steps=10, batch_size=2, learning_rate=1e-3, full_learning_rate=1e-3, rank=16, max_length=1024, checkpoint_every=4,
    weight_decay=0.1, optimizer=ADAMW_8BIT,
)  # fmt: skip
AT_HAND = find_spec("torchao") is not None
NEEDS_TORCHAO = pytest.mark.skipif(not AT_HAND, reason="run by test_with_torchao_at_hand")


@pytest.mark.skipif(AT_HAND, reason="torchao is at hand here")
def test_with_torchao_at_hand(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-c", "constraints.txt", "--target", tmp_path]
    fetched = subprocess.run([*install, "torchao"], cwd=ROOT, capture_output=True, text=True)
    if fetched.returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            f"torchao cannot be had: {fetched.stderr[-300:]}"
        )
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    for name in [name for name in env if name.startswith("PYTEST_")]:
        del env[name]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        __file__,
        "-m",
        "not cuda",
    ]
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-2000:]
    assert "1 skipped" in found.stdout.splitlines()[-1], "only this test has nothing to do there"


# --- with torchao ----------------------------------------------------------------------------------------


@pytest.fixture
def base(miniature):
    return load_base(miniature(), device="cpu")


def trained(base, out, training=TEN, paradigm=FULL):
    folder = train_expert(base, templates.math_examples("en", "train", 8), training, 0, out, paradigm=paradigm)
    return (
        {name: load(stored) for name, stored in open_checkpoint(folder).tensors.items()} if paradigm == FULL else folder
    )


def losses(folder):
    from xlnb import artifacts

    return [step["loss"] for step in artifacts.read_json(folder / "history.json")]


@NEEDS_TORCHAO
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_it_learns_nearly_what_whole_moments_learn(base, own_home, tmp_path, paradigm):
    for name in MOMENTS:
        trained(base, tmp_path / name, replace(TEN, optimizer=name), paradigm)
    whole, short = (losses(tmp_path / name) for name in (ADAMW, ADAMW_8BIT))
    assert whole[0] == pytest.approx(short[0], rel=1e-6), "before the first step there is no moment"
    assert whole != short and whole[-1] < whole[0] - 0.15
    assert short == pytest.approx(whole, abs=0.005)


@NEEDS_TORCHAO
def test_what_is_frozen_stays_and_has_no_moments(base, own_home, tmp_path):
    with PARADIGMS[FULL].attached(base, TEN, 0, None) as trainee:
        names = [name for name in trainee.weights if ".layers.1." in name]
        before = {name: p.detach().clone() for name, p in trainee.weights.items()}
        made, plain = [], sft.optimizer_of
        with patch.object(sft, "optimizer_of", lambda *given: made.append(plain(*given)) or made[-1]):
            lane = sft.Lane([([5], [6, 7])] * 8, 4, dict.fromkeys(names[::2], 1.0) | dict.fromkeys(names[1::2], 0.5))
            sft.fit(trainee, [lane], TEN, 0, tmp_path / "checkpoint.pt", {})
        moved = {name for name, p in trainee.weights.items() if not torch.equal(p, before[name])}
        moments = {id(p) for p, state in made[0].state.items() if state}
    assert moved == set(names) and moments == {id(trainee.weights[name]) for name in names}
    rates = [float(group["lr"]) for group in made[0].param_groups]
    assert rates[0] == pytest.approx(2 * rates[1]) and 0 < rates[0] < TEN.learning_rate, "the schedule is followed"


@NEEDS_TORCHAO
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(base, own_home, tmp_path, monkeypatch):
    whole = trained(base, tmp_path / "whole")
    with stopped_at_its_first_checkpoint(monkeypatch):
        trained(base, tmp_path / "stopped")
    resumed = trained(base, tmp_path / "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@NEEDS_TORCHAO
def test_moments_take_the_bytes_that_are_planned():
    weight = torch.nn.Parameter(torch.zeros(256, 512))
    made = optimizers.optimizer_of({"a": 1.0}, {"a": weight}, TEN)
    weight.grad = torch.ones_like(weight)
    made.step()
    parts = [part for moment in ("exp_avg", "exp_avg_sq") for part in (made.state[weight][moment],)]
    held = sum(getattr(part, name).nbytes for part in parts for name in ("codes", "scale"))
    assert held == MOMENTS[ADAMW_8BIT] * weight.numel()


# --- without ---------------------------------------------------------------------------------------------


def test_the_choice_is_part_of_the_specification_and_the_usual_one_is_not():
    assert TEN.spec()["optimizer"] == ADAMW_8BIT
    usual = replace(TEN, optimizer=ADAMW).spec()
    assert "optimizer" not in usual and usual == {k: v for k, v in TEN.spec().items() if k != "optimizer"}
    with pytest.raises(RequestError, match=r"adam-8bit.*adamw, adamw-8bit"):
        Training(optimizer="adam-8bit")


def test_what_cannot_be_had_is_said_before_anything_is_done(base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"is torchao's, which is not installed: pip install 'xlnb\[eight-bit\]'"):
        trained(base, tmp_path / "out")
    monkeypatch.setattr(ranks, "several", lambda: True)
    with pytest.raises(RequestError, match="is for one process: several share their moments in float32"):
        optimizers.check(ADAMW_8BIT)
    optimizers.check(ADAMW)
    monkeypatch.undo()
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    command = ["train", "math-only", "--profile", PAPER_8BIT, "--model", "OWNER/NAME", "--paradigm", "full"]
    assert exit_code(command) == 2 and "torchao" in capsys.readouterr().err, "before anything is fetched"
    assert not (tmp_path / "out").exists()


def test_the_profile_is_the_paper_s_but_for_the_moments():
    usual, short = (named_profile(name, "Qwen/Qwen2.5-7B-Instruct") for name in ("paper", PAPER_8BIT))
    assert short.training.optimizer == ADAMW_8BIT and short.name == PAPER_8BIT
    assert replace(short, name="paper", training=usual.training, checkpoint=usual.checkpoint) == usual
    assert replace(short.training, optimizer=ADAMW, micro_batch=4) == usual.training


@pytest.mark.parametrize("paradigm", [LORA, FULL])
def test_moments_are_a_quarter_and_all_else_is_the_same(paradigm):
    shape = MODELS["Qwen/Qwen2.5-7B-Instruct"].shape
    whole, short = (training_memory(shape, paradigm, optimizer=name) for name in MOMENTS)
    assert short.moments == pytest.approx(whole.moments * 2.03125 / 8)
    assert replace(short, moments=whole.moments) == whole


def test_full_fine_tuning_that_fits_by_it_is_proposed():
    shape = MODELS["Qwen/Qwen2.5-7B-Instruct"].shape
    setup = Setup(FULL, "H100", micro_batch=1, checkpointing=True)
    assert not setup.fits(shape, Assumed())
    proposed = [one for one in remedies([shape], setup, Assumed()) if one.optimizer == ADAMW_8BIT]
    assert all(one.fits(shape, Assumed()) and one.gpus == 1 for one in proposed)
    assert any("moments of eight bits" in str(one) and one.card == "H100" for one in proposed)
    with pytest.raises(RequestError, match="is for one GPU"):
        Setup(FULL, "H100", gpus=2, optimizer=ADAMW_8BIT)
