"""Supervised fine-tuning of experts on completions, by LoRA or whole, under masks, resumable to the bit.

Our own loop and not a Trainer: a run killed at any moment goes on from its last checkpoint to the very same expert, the loss
needs logits of completion positions alone, and the modular methods update different parameters batch by batch.
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from heapq import heapreplace
from itertools import islice
from math import cos, isfinite, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts, progress
from xlnb.cores import PASSES, on_cores
from xlnb.corpora import Example
from xlnb.errors import RequestError, WorkError, known
from xlnb.models.base import device_name
from xlnb.models.engine import Row, completion_nll, right_aligned
from xlnb.models.memory import ADAMW, MOMENTS
from xlnb.training import ranks
from xlnb.training.experts import ALL, Lesson
from xlnb.training.masks import rates
from xlnb.training.optimizers import check, optimizer_of, set_rate
from xlnb.training.paradigms import PARADIGMS, Trainee

if TYPE_CHECKING:
    from torch import Tensor

    from xlnb.models.base import Base
    from xlnb.weights.partitions import Partition

# What a pass through the model costs besides its positions, in positions: reading all weights, starting all kernels.
_A_PASS, _A_PASS_ON_GPU = 64, 2048
_AT_RUN_TIME = ("checkpoint_every", "micro_batch", "checkpointing", "compiled")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Training:
    """How an expert is fine-tuned. Every hyperparameter of the package stands here, once.

    Rank-stabilised LoRA with alpha 16 on these seven projections is the paper's (reported); its rank is 64, its learning rate
    4e-6 to 9e-6, its batch 64 and its data 80,000 examples. The defaults are the pocket profile's (ours).
    """

    steps: int = 90  # optimizer steps
    batch_size: int = 8  # examples a step
    learning_rate: float = 1.5e-4  # at its peak
    full_learning_rate: float = 1e-5  # the same for full fine-tuning; not tuned (the paper's: about 1e-6, recalled)
    warmup: float = 0.1  # share of the steps in which the rate rises from 0; then a cosine down to 0
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    rank: int = 16
    alpha: int = 16
    rank_stabilised: bool = True
    projections: tuple[str, ...] = PROJECTIONS
    max_length: int = 512  # tokens; longer examples are refused
    optimizer: str = ADAMW  # or adamw-8bit: its moments take a quarter of the memory; needs torchao
    # What follows does not change the result but for the last bits, and is no part of the specification.
    checkpoint_every: int = 10  # steps between resumable checkpoints
    micro_batch: int = 0  # examples that a process computes together at most; 0: as many as pay
    checkpointing: bool = False  # whether a layer's activations are computed again for its gradients: a third slower
    compiled: bool = False  # whether the layers are compiled (torch.compile): for GPUs; the first steps take a minute

    def __post_init__(self) -> None:
        known("optimizer", self.optimizer, MOMENTS)
        for name in ("steps", "batch_size", "learning_rate", "full_learning_rate", "clip", "rank", "alpha",
                     "max_length", "checkpoint_every"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise RequestError(f"Training.{name} is {getattr(self, name)}: it must be above 0.")
        if not self.weight_decay >= 0:
            raise RequestError(f"Training.weight_decay is {self.weight_decay}: it must be 0 or above.")
        if self.micro_batch < 0:
            raise RequestError(
                f"Training.micro_batch is {self.micro_batch}: give a number of examples, or 0 for no limit."
            )
        if not 0 <= self.warmup <= 1:
            raise RequestError(f"Training.warmup is {self.warmup}: it is a share of the steps, from 0 to 1.")

    def rate(self, step: int) -> float:
        """Return the learning rate of 0-based ``step``: linear warm-up, then a cosine to 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, self.steps - warm)))

    def spec(self) -> dict[str, Any]:
        """Return the hyperparameters that may change an expert, as plain values."""
        fields = {name: value for name, value in asdict(self).items() if name not in _AT_RUN_TIME}
        if self.optimizer == ADAMW:  # as specifications were before there was a choice
            del fields["optimizer"]
        return fields | {"projections": list(self.projections)}


@dataclass(frozen=True)
class Lane:
    """Steps of one kind: the rows their batches come from, how many, and each moving parameter's share of the learning rate."""

    rows: list[Row]
    steps: int
    rates: Mapping[str, float]
    title: str = ""


def train_expert(
    base: Base,
    lessons: Sequence[Lesson],
    training: Training,
    seed: int,
    out: str | Path,
    spec: Mapping[str, Any],
    *,
    paradigm: str = "lora",
    partition: Partition | None = None,
    start: Path | None = None,
    title: str = "expert",
) -> Path:
    """Fine-tune an expert of ``base`` on lessons and return its folder; reuse it when it is there.

    ``spec`` is what determines the expert: equal ones give equal experts on the same machine. ``partition`` says what a masked
    lesson may move; ``start`` is the folder of the expert that this one goes on from. ``out`` receives an adapter as PEFT's
    save_pretrained writes it, or a checkpoint, with history.json (loss and rate by step) and provenance.json. An interrupted run
    goes on from ``<out>.checkpoint.pt``. ``base.model`` is left as it was. Where several processes have joined (see
    :mod:`xlnb.training.ranks`) all of them call this, share the work, and get the folder that the first one wrote. Raises
    RequestError for too few or too long examples, for a partition of another depth, where nothing may move, and where ``out``
    holds another expert; WorkError where the loss is no number.
    """
    out = Path(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint.pt")
    ranks.agree("what is trained, and whether it is there", [artifacts.digest(spec), out.is_dir()])
    if out.is_dir():
        told = artifacts.read_json(out / "provenance.json")["spec"]
        if artifacts.digest(told) != artifacts.digest(spec):  # as JSON has it: a list where the caller has a tuple
            raise RequestError(f"{out} holds an expert of another specification: choose another folder or remove it.")
        if not any(out.glob("*.safetensors")):
            raise WorkError(
                f"{out} has no weights: they were not kept, or not brought along. Remove it to train it again."
            )
        checkpoint.unlink(missing_ok=True)  # left where a run was killed between the last two lines below
        return out
    known("paradigm", paradigm, PARADIGMS)
    check(training.optimizer)
    if partition is None and any(lesson.moves != ALL for lesson in lessons):
        raise RequestError(f"{title} is trained under a mask: say the partition.")
    if partition is not None:
        partition.check_depth(base.depth)
    started = time.time()
    ranks.renew(base)
    encoded = [(lesson, _rows(base, lesson.examples, training)) for lesson in lessons]
    with PARADIGMS[paradigm].attached(base, training, seed, start) as trainee:
        masks = [rates(trainee.weights, partition, lesson.moves) for lesson in lessons]
        lanes = [
            Lane(rows, lesson.steps, mask, lesson.moves)
            for (lesson, rows), mask in zip(encoded, masks, strict=True)
            if mask
        ]
        if not lanes:
            raise RequestError(f"Nothing of the model may move in the training of {title} under partition {partition}.")
        peak = training.learning_rate if paradigm == "lora" else training.full_learning_rate
        history = fit(trainee, lanes, replace(training, learning_rate=peak), seed, checkpoint, spec, title)
        result = replace(trainee, weights=ranks.whole(trainee.weights))
        if ranks.first():
            with artifacts.whole_folder(out) as partial:
                PARADIGMS[paradigm].save(result, partial)
                artifacts.write_json(partial / "history.json", history)
                told = artifacts.provenance(spec, started) | {"device": device_name(base)}
                told |= {"processes": ranks.count()} if ranks.several() else {}
                artifacts.write_json(partial / "provenance.json", told)
            checkpoint.unlink(missing_ok=True)
    ranks.agree("the expert", artifacts.digest(spec))  # nobody leaves before it is written
    return out


def _rows(base: Base, examples: Sequence[Example], training: Training) -> list[Row]:
    if len(examples) < training.batch_size:
        raise RequestError(f"{len(examples)} examples do not fill a batch of {training.batch_size}: give more of them.")
    told = (base.row(e.prompt, e.completion) for e in examples)
    rows = [(prompt, [*completion, base.eos_id]) for prompt, completion in told]
    longest = max(range(len(rows)), key=lambda i: _length(rows[i]))
    if (length := _length(rows[longest])) > training.max_length:
        raise RequestError(
            f"The example {examples[longest].prompt[:60]!r} has {length} tokens; max_length allows {training.max_length}. "
            "Leave long examples out or raise max_length."
        )
    return rows


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1])


def alike(rows: Sequence[Row], a_pass: int) -> list[list[Row]]:
    """Return a batch in parts of like lengths, each padded to its longest row, so that the fewest positions are computed.

    Each part costs as much as ``a_pass`` positions besides its own. The gradients of all parts add up to the batch's.

    >>> a, b, c = ([1] * 90, [2] * 10), ([1] * 20, [2] * 9), ([1] * 20, [2] * 10)
    >>> alike([b, a, c], a_pass=30) == [[a], [c, b]], len(alike([b, a, c], a_pass=200))
    (True, 1)
    """
    rows = sorted(rows, key=_length, reverse=True)
    best: list[tuple[int, list[list[Row]]]] = [(0, [])]  # of the first so many rows: what they cost, and their parts
    for end in range(1, len(rows) + 1):
        ways = (
            (cost + a_pass + _length(rows[start]) * (end - start), [*parts, rows[start:end]])
            for start, (cost, parts) in enumerate(best)
        )
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]


def batch_order(n: int, batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Return the indices of each step's batch: all ``n`` examples shuffled anew each epoch, the seed deciding the order.

    >>> sorted(sum(batch_order(4, 2, 2, seed=0), []))
    [0, 1, 2, 3]
    """
    stream: list[int] = []
    epoch = 0
    while len(stream) < steps * batch_size:
        order = list(range(n))
        random.Random(f"batches {seed} {epoch}").shuffle(order)
        stream += order
        epoch += 1
    return [stream[i * batch_size : (i + 1) * batch_size] for i in range(steps)]


def alternation(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Return in which order lanes of so many steps take turns, as (lane, step of the lane), each spread over the whole.

    >>> alternation([2, 2]), alternation([1, 3])
    ([(0, 0), (1, 0), (0, 1), (1, 1)], [(1, 0), (0, 0), (1, 1), (1, 2)])
    """
    turns = [(lane, step) for lane, count in enumerate(steps) for step in range(count)]
    return sorted(turns, key=lambda turn: ((2 * turn[1] + 1) / steps[turn[0]], turn[0]))


@contextmanager
def _eased(model: Any, training: Training) -> Iterator[None]:
    """Let the model keep no cache and its layers be checkpointed or compiled, by choice; afterwards all is as it was.

    By the layers' own switch and not by transformers' method, which also asks for gradients of the embeddings' output and goes
    on asking.
    """
    from torch.utils.checkpoint import checkpoint

    layers, caches = model.get_decoder().layers, model.config.use_cache
    model.config.use_cache = False
    for layer in layers:
        if training.checkpointing:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            layer.gradient_checkpointing = True
        if training.compiled:
            layer.compile()
    try:
        yield
    finally:
        model.config.use_cache = caches
        for layer in layers:
            layer.gradient_checkpointing, layer._compiled_call_impl = False, None


def fit(
    trainee: Trainee,
    lanes: Sequence[Lane],
    training: Training,
    seed: int,
    checkpoint: Path,
    spec: Mapping[str, Any],
    title: str = "",
) -> list[dict[str, Any]]:
    """Run the optimizers from the last checkpoint (or the start) to the end; return loss, rate and tokens of each step.

    Lanes take turns. Each has its own optimizer and schedule: alternating with a lane that moves other parameters changes nothing
    in its own steps but the model that it sees.
    """
    import torch

    weights, model = trainee.weights, trainee.model
    optimizers = [optimizer_of(lane.rates, weights, training) for lane in lanes]
    plans = [replace(training, steps=lane.steps) for lane in lanes]
    orders = [batch_order(len(lane.rows), training.batch_size, lane.steps, seed) for lane in lanes]
    turns = alternation([lane.steps for lane in lanes])
    history = _resume(checkpoint, spec, weights, optimizers)
    ranks.agree(f"the checkpoint {checkpoint.name}", len(history))
    together = ranks.several()
    model.train()
    shown = progress.bar(total=len(turns), initial=len(history), desc=title, unit="step")
    began, tokens_done = time.time(), 0
    with _eased(trainee.base.model, training):
        for turn, (i, step) in list(enumerate(turns))[len(history) :]:
            lane, optimizer, rate = lanes[i], optimizers[i], plans[i].rate(step)
            set_rate(optimizer, rate)
            for name, parameter in weights.items():  # said anew each time: PEFT sets it at a whim
                parameter.requires_grad_(together or name in lane.rates)
            rows = [lane.rows[j] for j in orders[i][step]]
            loss, training = _within_memory(trainee, rows, training)
            if not isfinite(loss):
                raise WorkError(
                    f"Training of {title} failed at step {turn}: the loss is {loss}. Lower the learning rate."
                )
            moved = [weights[name] for name in weights if name in lane.rates]
            clipped: Any = torch.nn.utils.clip_grad_norm_(moved, training.clip)
            norm = float(clipped.full_tensor() if together else clipped)  # each process has a part of it
            if not isfinite(norm):  # the loss tells it a step later, and after the last step nothing does
                raise WorkError(
                    f"Training of {title} failed at step {turn}: its gradient's norm is {norm}. Lower the learning rate."
                )
            optimizer.step()
            model.zero_grad(set_to_none=True)  # of all: what strayed must not wait for another lane's turn
            tokens = sum(map(_length, rows))
            tokens_done += tokens
            told = {"step": turn, "loss": loss, "rate": rate, "tokens": tokens}
            history.append(told | ({"moves": lane.title} if len(lanes) > 1 else {}))
            shown.set_postfix_str(f"loss {loss:.3f}, {tokens_done / (time.time() - began):.0f} tokens/s", refresh=False)
            shown.update()
            if (turn + 1) % training.checkpoint_every == 0 and turn + 1 < len(turns):
                _save(checkpoint, spec, weights, optimizers, history)
    shown.close()
    return history


def _within_memory(trainee: Trainee, rows: Sequence[Row], training: Training) -> tuple[float, Training]:
    """Do :func:`_backward`; where memory does not suffice with half as many examples at once, and half of these.

    Returns the training that sufficed, too: the batch, and so its loss, is the same but for rounding. Raises WorkError where one
    is too many.
    """
    import torch

    while True:
        failed = ""
        try:
            return _backward(trainee, rows, training), training
        except RuntimeError as error:
            failed = str(error).partition("\n")[0]
            if not (isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in failed):
                raise
        # Behind the handler: there the error's traceback would still hold what the failed pass had made.
        trainee.model.zero_grad(set_to_none=True)
        if trainee.base.device.type == "cuda":
            torch.cuda.empty_cache()
        at_once = min(training.micro_batch or len(rows), len(rows))
        if ranks.several():  # the others wait for this one in the middle of the same pass
            raise WorkError(
                f"Out of memory with {at_once} examples at a time ({failed}): all processes end here, and go on from the last "
                "checkpoint when they are started again. Take a smaller micro_batch, or more GPUs."
            )
        if at_once == 1:
            raise WorkError(
                f"Out of memory with one example at a time, the longest of {max(map(_length, rows))} tokens ({failed}). Take "
                "Training.checkpointing, a shorter max_length, LoRA in place of full fine-tuning, or a larger device: see `xlnb "
                "plan`. Run again, the training goes on from its last checkpoint."
            )
        training = replace(training, micro_batch=at_once // 2)
        print(f"Out of memory: {at_once // 2} examples at a time from here on; the batch stays.", file=sys.stderr)


def _backward(trainee: Trainee, rows: Sequence[Row], training: Training) -> float:
    """Add the gradients of a batch, part by part, and return its loss in nats a completion token."""
    if trainee.base.device.type == "cpu" and not ranks.several():
        return _backward_on_cores(trainee, rows, training)
    shares = []
    for part in _parts(rows, training, trainee.base.device.type):
        share = _share(trainee, part, rows)
        (share * ranks.count()).backward()  # FSDP divides the sum of all gradients by the number of processes
        shares.append(share.detach())
    # read once a step: each reading waits for the device
    return ranks.total(float(sum(share.item() for share in shares)))


def _share(trainee: Trainee, part: Sequence[Row], rows: Sequence[Row]) -> Tensor:
    """Return what part of a batch adds to its loss."""
    base = trainee.base
    batch = right_aligned(part, base.pad_id, device=base.device)
    with base.autocast():
        return completion_nll(trainee.model, batch).sum() / sum(len(completion) for _, completion in rows)


def _backward_on_cores(trainee: Trainee, rows: Sequence[Row], training: Training) -> float:
    """Do :func:`_backward` with several parts at once, and their gradients apart until they are added."""
    import torch

    moving = [parameter for parameter in trainee.weights.values() if parameter.requires_grad]

    def gradients(part: Sequence[Row]) -> tuple[float, tuple[Tensor | None, ...]]:
        share = _share(trainee, part, rows)
        return share.item(), torch.autograd.grad(share, moving, allow_unused=True)

    loss, at_once = 0.0, min(torch.get_num_threads(), PASSES, training.micro_batch or len(rows))
    parts = _side_by_side(rows, at_once, training.micro_batch)
    for share, found in on_cores(gradients, parts, at_once):
        loss += share
        for parameter, gradient in zip(moving, found, strict=True):  # in the parts' order: the same sum each time
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return loss


def _side_by_side(rows: Sequence[Row], at_once: int, micro_batch: int) -> list[list[Row]]:
    """Return a batch in parts, the costliest first, that end the soonest where so many are computed at once.

    >>> rows = [([1] * 50, [2] * 50)] * 8
    >>> [[len(part) for part in _side_by_side(rows, n, 0)] for n in (1, 2, 3)]
    [[8], [4, 4], [3, 3, 2]]
    """
    largest = max(1, micro_batch // at_once) if micro_batch else len(rows)
    parts = alike(rows, _A_PASS)
    ways = [list(_at_most(n, parts)) for n in range(1, min(largest, len(rows)) + 1)]
    return min(
        (sorted(way, key=_cost, reverse=True) for way in ways), key=lambda way: _last_end(map(_cost, way), at_once)
    )


def _cost(part: Sequence[Row]) -> int:
    return _A_PASS + max(map(_length, part)) * len(part)


def _last_end(costs: Iterable[int], at_once: int) -> int:
    """Return when the last of several pieces ends, each begun by whoever is free first."""
    ends = [0] * at_once
    for cost in costs:
        heapreplace(ends, ends[0] + cost)
    return max(ends)


def _parts(rows: Sequence[Row], training: Training, device: str) -> Iterator[list[Row]]:
    """Yield this process's rows of a batch in parts, as many and as large as every other's: they compute in step."""
    ordered = sorted(rows, key=_length, reverse=True)
    a_pass = _A_PASS if device == "cpu" else _A_PASS_ON_GPU
    longest = alike(ranks.share(ordered, 0, ranks.count()), a_pass) if ranks.several() else alike(rows, a_pass)
    mine = iter(ranks.share(ordered, ranks.rank(), ranks.count()))
    for part in _at_most(training.micro_batch, longest):
        yield list(islice(mine, len(part)))


def _at_most(n: int, parts: Sequence[list[Row]]) -> Iterator[list[Row]]:
    """Yield parts of at most ``n`` rows each (0: as they are)."""
    for part in parts:
        for start in range(0, len(part), n or len(part)):
            yield part[start : start + (n or len(part))]


def _save(path: Path, spec: Mapping[str, Any], weights: dict, optimizers: Sequence[Any], history: list) -> None:
    import torch

    state = {"weights": {k: p.detach() for k, p in weights.items()}, "optimizers": [o.state_dict() for o in optimizers]}
    state = ranks.whole(state)
    if not ranks.first():
        return
    buffer = io.BytesIO()  # torch.save to a path does not say why it failed where the disk is full
    torch.save({**state, "history": history, "spec": artifacts.digest(spec)}, buffer)
    with artifacts.whole_file(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def _resume(path: Path, spec: Mapping[str, Any], weights: dict, optimizers: Sequence[Any]) -> list[dict[str, Any]]:
    """Load a checkpoint of the same specification, in place, and return its history; [] where there is none."""
    import torch

    if not path.is_file():
        return []
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=ranks.several())  # shares alone are read
    if saved["spec"] != artifacts.digest(spec):
        return []
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(ranks.like(saved["weights"][name], parameter))
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(ranks.moments(state, optimizer))
    return saved["history"]
