"""Supervised fine-tuning of experts: LoRA on completions, resumable to the bit.

Our own loop and not a Trainer: a run killed at any moment goes on from its last checkpoint to the very same adapter, the loss
needs logits of completion positions alone, and the modular methods update different parameters batch by batch.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.corpora import Example, fingerprint
from xlnb.errors import RequestError, WorkError
from xlnb.models.engine import IGNORED, Row, completion_nll, right_aligned

if TYPE_CHECKING:
    from xlnb.models.base import Base


PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Training:
    """How an expert is fine-tuned. Every hyperparameter of the package stands here, once.

    Rank-stabilised LoRA with alpha 16 on these seven projections is the paper's (reported); its rank is 64, its learning rate
    4e-6 to 9e-6, its batch 64 and its data 80,000 examples. The defaults are the pocket profile's (ours).
    """

    steps: int = 60  # optimizer steps
    batch_size: int = 8  # examples a step
    learning_rate: float = 7e-5  # at its peak; chosen on development problems
    warmup: float = 0.1  # share of the steps in which the rate rises from 0; then a cosine down to 0
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    rank: int = 16
    alpha: int = 16
    rank_stabilised: bool = True
    projections: tuple[str, ...] = PROJECTIONS
    max_length: int = 512  # tokens; longer examples are refused
    checkpoint_every: int = 10  # steps between resumable checkpoints; does not change the result

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "rank", "alpha", "max_length", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise RequestError(f"Training.{name} is {getattr(self, name)}: it must be above 0.")
        if not 0 <= self.warmup <= 1:
            raise RequestError(f"Training.warmup is {self.warmup}: it is a share of the steps, from 0 to 1.")

    def rate(self, step: int) -> float:
        """Return the learning rate of 0-based ``step``: linear warm-up, then a cosine to 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, self.steps - warm)))


def training_spec(base: Base, examples: Sequence[Example], training: Training, seed: int) -> dict[str, Any]:
    """Return what determines an expert: equal specifications give equal adapters on the same machine."""
    hyperparameters = {k: v for k, v in asdict(training).items() if k != "checkpoint_every"}
    return {
        "base": base.fingerprint,
        "data": fingerprint(examples),
        "examples": len(examples),
        "seed": seed,
        "training": {**hyperparameters, "projections": list(training.projections)},
    }


def train_expert(
    base: Base, examples: Sequence[Example], training: Training, seed: int, out: str | Path, title: str = "expert"
) -> Path:
    """Fine-tune a LoRA expert of ``base`` on ``examples`` and return its adapter folder; reuse it when it is there.

    ``out`` receives what PEFT's save_pretrained writes, history.json (loss and rate by step) and provenance.json. An
    interrupted run goes on from ``<out>.checkpoint.pt``. ``base.model`` is left as it was. Raises
    :class:`~xlnb.errors.RequestError` for too few or too long examples and where ``out`` holds another expert,
    :class:`~xlnb.errors.WorkError` where the loss is no number.
    """
    out = Path(out)
    spec = training_spec(base, examples, training, seed)
    checkpoint = out.with_name(f"{out.name}.checkpoint.pt")
    if out.is_dir():
        if artifacts.read_json(out / "provenance.json")["spec"] != spec:
            raise RequestError(f"{out} holds an expert of another specification: choose another folder or remove it.")
        checkpoint.unlink(missing_ok=True)  # left where a run was killed between the last two lines below
        return out
    started = time.time()
    rows = _rows(base, examples, training)
    model = _with_lora(base, training, seed)
    try:
        history = _fit(model, base, rows, training, seed, checkpoint, spec, title)
        with artifacts.whole_folder(out) as partial:
            model.save_pretrained(partial, save_embedding_layers=False)  # the adapter fits the untrimmed base
            artifacts.write_json(partial / "history.json", history)
            artifacts.write_json(partial / "provenance.json", artifacts.provenance(spec, started))
    finally:
        model.unload()
        base.model.eval()
    checkpoint.unlink(missing_ok=True)
    return out


def _rows(base: Base, examples: Sequence[Example], training: Training) -> list[Row]:
    if len(examples) < training.batch_size:
        raise RequestError(f"{len(examples)} examples do not fill a batch of {training.batch_size}: give more of them.")
    rows = [(base.start + base.encode(e.prompt), [*base.encode(e.completion), base.eos_id]) for e in examples]
    longest = max(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    if (length := sum(map(len, rows[longest]))) > training.max_length:
        raise RequestError(
            f"The example {examples[longest].prompt[:60]!r} has {length} tokens; max_length allows {training.max_length}. "
            "Leave long examples out or raise max_length."
        )
    return rows


def _with_lora(base: Base, training: Training, seed: int) -> Any:
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        use_rslora=training.rank_stabilised,
        target_modules=list(training.projections),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # A is drawn at random, B starts at zero
        with warnings.catch_warnings():
            # PEFT asks transformers for a name that is about to change; not the reader's business
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(base.model, config)


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


def _fit(
    model: Any, base: Base, rows: list[Row], training: Training, seed: int, checkpoint: Path, spec: dict, title: str
) -> list[dict[str, float]]:
    """Run the optimizer from the last checkpoint (or the start) to the end; return loss, rate and tokens of each step."""
    import torch
    from tqdm import tqdm

    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=training.learning_rate, weight_decay=training.weight_decay)
    history = _resume(checkpoint, spec, weights, optimizer)
    order = batch_order(len(rows), training.batch_size, training.steps, seed)
    model.train()
    bar = tqdm(total=training.steps, initial=len(history), desc=title, unit="step", mininterval=1)
    began, tokens_done = time.time(), 0
    for step in range(len(history), training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate(step)
        batch = right_aligned([rows[i] for i in order[step]], base.pad_id, device=base.device)
        counted = int((batch.labels != IGNORED).sum())
        with base.autocast():
            loss = completion_nll(model, batch).sum() / counted
        if not torch.isfinite(loss):
            raise WorkError(
                f"Training of {title} failed at step {step}: the loss is {loss.item()}. Lower the learning rate."
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens = int(batch.attention_mask.sum())
        tokens_done += tokens
        history.append({"step": step, "loss": loss.item(), "rate": training.rate(step), "tokens": tokens})
        bar.set_postfix_str(
            f"loss {loss.item():.3f}, {tokens_done / (time.time() - began):.0f} tokens/s", refresh=False
        )
        bar.update()
        if (step + 1) % training.checkpoint_every == 0 and step + 1 < training.steps:
            _save(checkpoint, spec, weights, optimizer, history)
    bar.close()
    return history


def _save(path: Path, spec: dict, weights: dict, optimizer: Any, history: list) -> None:
    import torch

    state = {"weights": {k: p.detach() for k, p in weights.items()}, "optimizer": optimizer.state_dict()}
    buffer = io.BytesIO()  # torch.save to a path does not say why it failed where the disk is full
    torch.save({**state, "history": history, "spec": artifacts.digest(spec)}, buffer)
    with artifacts.whole_file(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def _resume(path: Path, spec: dict, weights: dict, optimizer: Any) -> list[dict[str, float]]:
    """Load a checkpoint of the same specification, in place, and return its history; [] where there is none."""
    import torch

    if not path.is_file():
        return []
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["spec"] != artifacts.digest(spec):
        return []
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved["weights"][name])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["history"]
