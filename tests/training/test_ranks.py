"""Two processes (gloo, on the processor) train what one trains; what is frozen stays; one that is killed goes on."""

import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from trainings import stopped_at_its_first_checkpoint

from xlnb import artifacts
from xlnb.commands.cli import exit_code
from xlnb.commands.train_commands import launched
from xlnb.corpora import LANGUAGE_DATA, MATH_DATA, Example, templates
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import load_base
from xlnb.studies.profiles import corpora_of
from xlnb.training import ranks, sft
from xlnb.training.experts import Expert, Stream
from xlnb.training.sft import Training
from xlnb.weights.partitions import named_partition
from xlnb.weights.sites import locate_all

pytestmark = pytest.mark.usefixtures("own_home")
MATH, LANGUAGE = (Stream(side, side) for side in ("math", "language"))
ALTERNATING = Expert(MATH, LANGUAGE)
SHORT = Training(
    steps=2, batch_size=3, learning_rate=1e-3, full_learning_rate=1e-3, rank=4, max_length=1024, weight_decay=0.1
)
LONG = replace(SHORT, steps=4, batch_size=2, checkpoint_every=2)
# name: family, paradigm, arithmetic, expert, how, and which it goes on from
CASES = {
    "lora-alternating": ("gemma3", "lora", "float32", ALTERNATING, SHORT, None),
    "lora-after-it": ("gemma3", "lora", "float32", Expert(MATH), replace(SHORT, micro_batch=1), "lora-alternating"),
    "full-masked": ("gemma3", "full", "float32", Expert(MATH), replace(SHORT, checkpointing=True), None),
    "full-alternating": ("llama", "full", "bfloat16", ALTERNATING, replace(SHORT, batch_size=4), None),
}


def corpus(name):
    long = templates.math_examples("en", "train", 8) if name == "math" else templates.language_examples("sw", 8)
    return [Example(e.prompt[-40:], e.completion[: 20 + 9 * i]) for i, e in enumerate(long)]


def train(base, paradigm, expert, training, out, start=None):
    lessons, partition = expert.lessons(corpus, training.steps), named_partition("C", base.depth)
    spec = {"expert": repr(expert), "training": training.spec()}
    return sft.train_expert(
        base, lessons, training, 0, out, spec, paradigm=paradigm, partition=partition, start=start, title="expert"
    )


def train_all(folders, out):
    for name, (family, paradigm, dtype, expert, training, start) in CASES.items():
        base = load_base(folders[family], device="cpu", dtype=dtype)
        train(base, paradigm, expert, training, out / name, start and out / start)


# --- what runs in other processes ------------------------------------------------------------------------


def as_rank(rank, port, function, *arguments):
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    torch.set_num_threads(1)
    with ranks.joined("cpu") as device:
        assert (device, ranks.count(), ranks.rank(), ranks.first()) == ("cpu", 2, rank, rank == 0)
        function(*arguments)


def train_all_watched(folders, out):
    """Each optimizer's steps leave this process's share of what the lane may not move as it is, to the bit."""
    plain, steps = sft.optimizer_of, []

    def watched(rates, weights, training):
        optimizer = plain(rates, weights, training)
        step = optimizer.step

        def checked():
            before = {name: p.detach().to_local().clone() for name, p in weights.items()}
            # what is masked has gradients (FSDP's flags stay as they are), which must reach nothing
            assert all(p.grad is not None for p in weights.values())
            step()
            moved = {name for name, p in weights.items() if not torch.equal(p.detach().to_local(), before[name])}
            assert moved and moved <= rates.keys()
            steps.append(len(rates) < len(weights))

        optimizer.step = checked
        return optimizer

    sft.optimizer_of = watched
    train_all(folders, out)
    assert steps == [True] * sum(len(case[3].streams) * case[4].steps for case in CASES.values())


def train_long(folder, out):
    train(load_base(folder, device="cpu"), "full", ALTERNATING, LONG, out)


def disagree():
    assert ranks.total(ranks.rank() + 0.25) == 1.5
    ranks.agree("nothing", 1)
    with pytest.raises(WorkError, match="do not agree on the number"):
        ranks.agree("the number", ranks.rank())


def start_two(in_child, function, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [in_child(as_rank, rank, port, function, *arguments) for rank in range(2)]


def both_done(processes):
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]


# --- the same as one process -----------------------------------------------------------------------------


def weights_of(folder):
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def losses(folder):
    return [step["loss"] for step in artifacts.read_json(folder / "history.json")]


def assert_alike(shared, alone, abs=2e-5):
    """Two experts differ by no more than rounding does."""
    assert losses(shared) == pytest.approx(losses(alone), abs=abs)
    mine, theirs = weights_of(shared), weights_of(alone)
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert mine[name].dtype == tensor.dtype
        # AdamW makes steps of a size of what is nothing but rounding
        assert (mine[name] - tensor).float().abs().mean() <= 1e-5 * (1 if abs < 1e-3 else 20), name


@pytest.fixture
def folders(miniature):
    return {family: miniature(family) for family in ("gemma3", "llama")}


def test_two_processes_learn_what_one_learns(in_child, folders, tmp_path):
    both_done(start_two(in_child, train_all_watched, folders, tmp_path / "shared"))
    train_all(folders, tmp_path / "alone")
    for name, (family, paradigm, dtype, expert, _, _) in CASES.items():
        shared, alone = (tmp_path / place / name for place in ("shared", "alone"))
        assert_alike(shared, alone, abs=2e-5 if dtype == "float32" else 2e-3)
        assert sorted(p.name for p in shared.iterdir()) == sorted(p.name for p in alone.iterdir())
        assert artifacts.read_json(shared / "provenance.json")["processes"] == 2
        if paradigm == "full":
            before, after = weights_of(folders[family]), weights_of(shared)
            sites, partition = locate_all(before).of, named_partition("C", 8)
            may = {
                n for n, site in sites.items() if site.layer is not None and any(
                    partition.share(site, stream.moves) > 0 for stream in expert.streams)
            }  # fmt: skip
            assert {n for n in before if not torch.equal(before[n], after[n])} == may
    assert not list((tmp_path / "shared").glob("*.checkpoint.pt"))


def test_a_killed_process_goes_on_to_the_same_expert(in_child, folders, tmp_path):
    whole, out, copied = (tmp_path / name / "expert" for name in ("whole", "killed", "copied"))
    both_done(start_two(in_child, train_long, folders["gemma3"], whole))
    processes = start_two(in_child, train_long, folders["gemma3"], out)
    checkpoint = out.with_name("expert.checkpoint.pt")
    deadline = time.time() + 60
    while not checkpoint.is_file():
        assert time.time() < deadline
        time.sleep(0.005)
    os.kill(processes[1].pid, signal.SIGKILL)
    processes[0].join(60)
    assert processes[0].exitcode == 1, "the other cannot go on alone"
    assert not out.exists()
    copied.parent.mkdir()
    shutil.copyfile(checkpoint, copied.with_name(checkpoint.name))
    done = len(torch.load(checkpoint, weights_only=True)["history"])
    assert 0 < done < 8

    both_done(start_two(in_child, train_long, folders["gemma3"], out))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert losses(out) == losses(whole)
    # one process goes on from what two left
    train_long(folders["gemma3"], copied)
    assert losses(copied)[:done] == losses(whole)[:done]
    assert losses(copied) == pytest.approx(losses(whole), abs=1e-3)


def test_two_go_on_from_what_one_left(in_child, folders, tmp_path, monkeypatch):
    with stopped_at_its_first_checkpoint(monkeypatch):
        train_long(folders["gemma3"], tmp_path / "expert")
    both_done(start_two(in_child, train_long, folders["gemma3"], tmp_path / "expert"))
    train_long(folders["gemma3"], tmp_path / "alone")
    assert losses(tmp_path / "expert")[:2] == losses(tmp_path / "alone")[:2]
    assert losses(tmp_path / "expert") == pytest.approx(losses(tmp_path / "alone"), abs=1e-3)


def test_processes_that_disagree_say_so(in_child):
    both_done(start_two(in_child, disagree))


# --- who computes what -----------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_every_row_is_computed_once_and_all_in_step(monkeypatch, of, micro_batch):
    rows = [([i + 1] * n, [i + 1] * (1 + i % 3)) for i, n in enumerate((3, 90, 40, 41, 39, 3, 7))]
    monkeypatch.setattr(ranks, "several", lambda: of > 1)
    monkeypatch.setattr(ranks, "count", lambda: of)
    monkeypatch.setattr(sft, "_A_PASS", 10)
    found = []
    for rank in range(of):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        found.append(list(sft._parts(rows, replace(SHORT, micro_batch=micro_batch), "cpu")))
    assert len({tuple(map(len, parts)) for parts in found}) == 1
    assert all(len(part) <= (micro_batch or len(rows)) for part in found[0])
    computed = [row for parts in found for part in parts for row in part]
    assert sorted(row for row in computed if row[1]) == sorted(rows)
    assert all(len(row[0]) == 1 for row in computed if not row[1])
    if of == 1:
        assert found[0] == list(sft._at_most(micro_batch, sft.alike(rows, 10)))


# --- the command -----------------------------------------------------------------------------------------


def test_the_command_trains_in_two_processes(own_home, capfd, monkeypatch, tmp_path):
    assert exit_code(["train", "frozen-math", "--profile", "smoke", "--device", "cpu", "--processes", "2"]) == 0
    (folder,) = capfd.readouterr().out.split()
    monkeypatch.setenv("XLNB_HOME", str(tmp_path / "other"))
    assert exit_code(["train", "frozen-math", "--profile", "smoke", "--device", "cpu"]) == 0
    (other,) = capfd.readouterr().out.split()
    assert folder.removeprefix(str(own_home)) == other.removeprefix(str(tmp_path / "other"))
    assert_alike(own_home / folder, tmp_path / "other" / other)


def test_the_paper_s_profile_wants_a_model_and_has_its_own_data(capsys):
    assert exit_code(["train", "math-only", "--profile", "paper"]) == 2
    assert "Say the --model of profile paper" in capsys.readouterr().err
    assert corpora_of("paper", "", "", ["sw"]) == ("orca-math", {"sw": "aya+inkuba+xp3mt"})
    assert corpora_of("paper", "gsm8k", "ntrex:x", ["sw"]) == ("gsm8k", {"sw": "ntrex:x"})
    assert corpora_of("paper", MATH_DATA, LANGUAGE_DATA, ["sw"]) == (MATH_DATA, {"sw": LANGUAGE_DATA}), (
        "named, so taken"
    )
    assert corpora_of("pocket", "", "", ["bn"]) == (MATH_DATA, {"bn": LANGUAGE_DATA})


SCRIPT = "import os, signal, sys, time; rank = os.environ['RANK']; "


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("print('wrong', file=sys.stderr); sys.exit(2)", 2, ["wrong"]),
        ("rank == '1' and sys.exit('why it failed'); time.sleep(60)", 1, ["why it failed"]),
        ("print(os.environ['WORLD_SIZE'], file=sys.stderr)", 0, ["2"]),
    ],
)
def test_the_cause_is_told_once(capfd, script, code, said, monkeypatch):
    monkeypatch.setattr("xlnb.commands.train_commands._PATIENCE", 0.5)
    assert launched(2, [sys.executable, "-c", SCRIPT + script]) == code
    assert capfd.readouterr().err.split("\n")[:-1] == said


def test_a_process_that_is_killed_ends_the_others(capfd):
    script = "os.kill(os.getpid(), signal.SIGKILL) if rank == '1' else time.sleep(60)"
    began = time.time()
    with pytest.raises(WorkError, match=r"Process 1 of 2 was ended by SIGKILL, and with it the others\. Run the same"):
        launched(2, [sys.executable, "-c", SCRIPT + script])
    assert time.time() - began < 30


@pytest.mark.parametrize(("device", "said"), [("cuda:1", "not cuda:1"), ("cuda", "this machine has 0")])
def test_devices_that_cannot_be_shared(monkeypatch, device, said):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match=said), ranks.joined(device):
        pass


def test_a_base_is_renewed_in_its_own_arithmetic(miniature, monkeypatch):
    from torch.distributed import fsdp

    base = load_base(miniature(), dtype="bfloat16")
    before = base.model
    monkeypatch.setattr(ranks, "several", lambda: True)
    monkeypatch.setattr(fsdp, "FSDPModule", type(before))
    ranks.renew(base)
    assert base.model is not before
    assert [len(model.get_output_embeddings()._forward_pre_hooks) for model in (before, base.model)] == [1, 1]
