"""Out of memory while training: fewer examples at a time, the same batch, the same losses."""

from dataclasses import replace

import pytest
import torch
from trainings import train_expert

from xlnb import artifacts
from xlnb.corpora import templates
from xlnb.errors import WorkError
from xlnb.models.base import load_base
from xlnb.training import sft
from xlnb.training.paradigms import Trainee
from xlnb.training.sft import Training

pytestmark = pytest.mark.usefixtures("own_home", "one_thread")
TRAINING = Training(steps=3, batch_size=4, learning_rate=1e-3, rank=4, max_length=2048, checkpoint_every=1)
OF_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
OF_A_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


@pytest.fixture
def base(miniature):
    return load_base(miniature("llama"))


@pytest.fixture
def examples():
    """One in four is much longer: it makes a part of its own, which is computed before memory ends."""
    found = templates.math_examples("en", "train", 12)
    return [replace(e, completion=e.completion * (1 if i % 4 else 6)) for i, e in enumerate(found)]


def with_room_for(base, monkeypatch, rows, error):
    """Let the model fail with more rows than that; return the list of the numbers of rows that it was given."""
    plain, given = base.model.model.forward, []

    def forward(*args, **kwargs):
        given.append(len(kwargs["input_ids"]))
        if given[-1] > rows:
            raise error
        return plain(*args, **kwargs)

    monkeypatch.setattr(base.model.model, "forward", forward)
    return given


@pytest.mark.parametrize("error", [OF_A_GPU, OF_A_CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_a_batch_is_learned_in_smaller_parts(base, examples, tmp_path, monkeypatch, capsys, error, micro_batch):
    training = replace(TRAINING, micro_batch=micro_batch)
    whole = train_expert(base, examples, training, 0, tmp_path / "whole")
    given = with_room_for(base, monkeypatch, 1, error)
    parts = train_expert(base, examples, training, 0, tmp_path / "parts")
    assert max(given) > 1
    assert sum(rows for rows in given if rows == 1) >= 12, "every example was learned from"
    assert "Out of memory: 1 examples at a time from here on; the batch stays." in capsys.readouterr().err
    one, other = (artifacts.read_json(folder / "history.json") for folder in (whole, parts))
    assert [step["loss"] for step in other] == pytest.approx([step["loss"] for step in one], rel=1e-4)
    assert [step["tokens"] for step in other] == [step["tokens"] for step in one]
    fewer = [rows for rows in given if rows > 1]
    assert len(fewer) <= 2, "what was learned of the memory is kept for the next steps"


def test_one_example_that_does_not_fit_is_told_and_the_rest_is_kept(base, examples, tmp_path, monkeypatch):
    expected = train_expert(base, examples, TRAINING, 0, tmp_path / "expected")
    with monkeypatch.context() as patch:
        plain, steps = base.model.model.forward, []

        def forward(*args, **kwargs):
            if len(list(tmp_path.glob("*.checkpoint.pt"))) and steps.append(1) is None:
                raise OF_A_CPU
            return plain(*args, **kwargs)

        patch.setattr(base.model.model, "forward", forward)
        with pytest.raises(
            WorkError, match=r"with one example at a time.*checkpointing.*goes on from its last checkpoint"
        ):
            train_expert(base, examples, TRAINING, 0, tmp_path / "expert")
    assert not (tmp_path / "expert").exists()
    again = train_expert(base, examples, TRAINING, 0, tmp_path / "expert")  # with more memory
    assert (again / "adapter_model.safetensors").read_bytes() == (expected / "adapter_model.safetensors").read_bytes()


def test_another_failure_is_none_of_memory(base, examples, tmp_path, monkeypatch):
    given = with_room_for(base, monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train_expert(base, examples, TRAINING, 0, tmp_path / "expert")
    assert len(given) == 1


def test_of_several_processes_none_tries_again(base, monkeypatch):
    """The others wait in the midst of a pass: one that began anew would wait for ever."""
    trainee = Trainee(base, base.model, dict(base.model.named_parameters()))

    def failing(*arguments):
        raise OF_A_GPU

    monkeypatch.setattr(sft, "_backward", failing)
    monkeypatch.setattr(sft.ranks, "several", lambda: True)
    with pytest.raises(
        WorkError, match=r"Out of memory with 2 examples at a time.*all processes end here.*smaller micro_batch"
    ):
        sft._within_memory(trainee, [([1], [2])] * 2, TRAINING)
