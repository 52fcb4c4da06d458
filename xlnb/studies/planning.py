"""What a study at the paper's scale takes, before a byte is downloaded: memory, disk, tokens, hours, cost, and in which order.

Counted by formula (see xlnb.models.memory) from shapes and from what is compared; what no formula gives is in ``Assumed``, said
with every plan. Needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlnb.downloads import MODEL, VARIABLE, place, reason
from xlnb.errors import RequestError, known
from xlnb.methods import EXPERTS, METHODS, all_streams
from xlnb.models.memory import (
    ADAMW,
    ADAMW_8BIT,
    FULL,
    LORA,
    MOMENTS,
    Memory,
    Shape,
    generation_memory,
    shape_of,
    training_memory,
)
from xlnb.studies.experiments import TARGET, Experiment
from xlnb.studies.paper import MODELS, paper
from xlnb.studies.profiles import named_profile
from xlnb.training.experts import ALL
from xlnb.weights.tensor_files import read_settings

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU by its maker's data sheet: GiB that programs get, dense bf16 TFLOP/s, TB/s of its memory."""

    gib: float
    tflops: float
    bandwidth: float


CARDS = {
    "RTX-4090": Card(23.5, 165, 1.0),
    "L40S": Card(44.4, 362, 0.86),
    "A100-40": Card(39.4, 312, 1.55),
    "A100-80": Card(79.2, 312, 2.0),
    "H100": Card(79.2, 989, 3.35),
    "H200": Card(139.8, 989, 4.8),
}


@dataclass(frozen=True)
class Assumed:
    """What no formula gives. Tokens differ by tokenizer: measure a sample, and say it by ``--tokens``."""

    utilisation: float = 0.35  # of the card's bf16 peak, in training
    tokens: int = 400  # of an example, prompt and completion
    learned: float = 0.6  # share of them that are completion
    shown: int = 800  # tokens of a problem behind its worked examples
    answered: int = 400  # tokens of the longest answer of a batch
    step: float = 0.03  # seconds of a step of generation at least
    rows: int = 64  # problems answered at once
    reserve: float = 0.06  # share of a card's memory that the allocator and the kernels keep
    corpus: float = 1.0  # GB of a data set on the hub


@dataclass(frozen=True)
class Setup:
    """How a model is fine-tuned, and on what."""

    paradigm: str = LORA
    card: str = "H100"
    gpus: int = 1
    micro_batch: int = 4
    checkpointing: bool = False
    length: int = 1024
    optimizer: str = ADAMW

    def __post_init__(self) -> None:
        known("paradigm", self.paradigm, (LORA, FULL))
        known("optimizer", self.optimizer, MOMENTS)
        known("card", self.card, CARDS)
        for name in ("gpus", "micro_batch", "length"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} is {getattr(self, name)}: it must be 1 or more.")
        if self.gpus > 1 and self.optimizer == ADAMW_8BIT:
            raise RequestError(f"The optimizer {ADAMW_8BIT} is for one GPU: several share their moments in float32.")

    def memory(self, shape: Shape) -> Memory:
        """Return the bytes on each GPU at the peak of a training, of the longest rows, all learned."""
        return training_memory(
            shape, self.paradigm, rank=paper("LoRA rank"), micro_batch=self.micro_batch, length=self.length,
            checkpointing=self.checkpointing, gpus=self.gpus, parts=2, optimizer=self.optimizer,
        )  # fmt: skip

    def fits(self, shape: Shape, assumed: Assumed) -> bool:
        """Say whether training fits on the cards."""
        return self.memory(shape).total <= self.room(assumed)

    def room(self, assumed: Assumed) -> float:
        """Return the bytes of a card that may be used."""
        return CARDS[self.card].gib * GIB * (1 - assumed.reserve)

    def __str__(self) -> str:
        again = ", checkpointing" if self.checkpointing else ""
        moments = ", moments of eight bits" if self.optimizer == ADAMW_8BIT else ""
        return f"{self.paradigm} on {self.gpus} x {self.card}, micro-batch {self.micro_batch}{again}{moments}"


def setup_of(profile: str, paradigm: str, card: str, **changes: Any) -> Setup:
    """Return how a profile of large models trains on a card: its micro-batch, checkpointing, length and optimizer, but for
    ``changes``."""
    training = named_profile(profile, "any").training
    usual = {"micro_batch": training.micro_batch, "checkpointing": training.checkpointing, "length": training.max_length,
             "optimizer": training.optimizer}  # fmt: skip
    return Setup(paradigm, card, **{**usual, **changes})


@dataclass(frozen=True)
class Work:
    """What is trained and asked of one model by one paradigm: experts (slug, partition, language; "" where all languages
    share it) with their budget of streams, and the number of cells."""

    experts: dict[tuple[str, str, str], float]
    cells: int


def work(experiment: Experiment, languages: Sequence[str], seeds: int = 1) -> Work:
    """Return what an experiment trains and asks in these languages: what saw but English counts once for all of them.

    >>> from xlnb.studies.experiments import EXPERIMENTS
    >>> work(EXPERIMENTS["first-swap"], ["sw", "bn"]).experts
    {('math-only', '', ''): 1.0, ('language-only', '', 'sw'): 1.0, ('language-only', '', 'bn'): 1.0}
    """
    experts: dict[tuple[str, str, str], float] = {}
    cells = set()
    for ask in experiment.asks:
        for slug in ask.methods:
            method = METHODS[slug]
            for partition in ask.partitions if method.uses_partition else ("",):
                for language in languages:
                    keys = [key for expert in method.experts for key in _needed(expert, partition, language)]
                    experts |= {key: EXPERTS[key[0]].budget * len(EXPERTS[key[0]].streams) for key in keys}
                    home = max((key[2] for key in keys), default="")
                    asked = [language if tested == TARGET else tested for tested in ask.languages]
                    what = repr(sorted(ask.changes.items(), key=str))
                    cells |= {(slug, partition, home, tested, what) for tested in asked}
    shared_first = dict(sorted(experts.items(), key=lambda item: bool(item[0][2])))
    return Work(shared_first, seeds * len(cells))


def _needed(slug: str, partition: str, language: str) -> Iterable[tuple[str, str, str]]:
    """Yield the keys of an expert and of those it goes on from, these first."""
    if EXPERTS[slug].start:
        yield from _needed(EXPERTS[slug].start, partition, language)
    streams = all_streams(slug)
    masked = any(stream.moves != ALL for stream in streams)
    english = all(stream.is_english for stream in streams)
    yield slug, (partition or "C") if masked else "", "" if english else language


@dataclass(frozen=True)
class Plan:
    """One model by one paradigm: bytes, tokens, hours."""

    model: str
    shape: Shape
    setup: Setup
    experts: int
    cells: int
    memory: Memory
    answering: int  # bytes on a GPU while problems are answered
    download: int  # bytes of the model's files
    expert_bytes: int
    disk_kept: int  # bytes if every expert stays
    disk_peak: int  # ... if a language's experts go after its scores
    tokens: float
    training_hours: float
    answering_hours: float

    @property
    def hours(self) -> float:
        """Hours of all its GPUs together."""
        return self.training_hours + self.answering_hours

    def fits(self, assumed: Assumed) -> bool:
        """Say whether training and answering fit on the cards."""
        return self.setup.fits(self.shape, assumed) and self.answering <= self.setup.room(assumed)


def plan(model: str, shape: Shape, setup: Setup, todo: Work, seeds: int = 1, assumed: Assumed | None = None) -> Plan:
    """Return what one model takes by one paradigm."""
    assumed = assumed or Assumed()
    card, rank = CARDS[setup.card], paper("LoRA rank")
    trained = shape.trained(setup.paradigm, rank)
    # As the package writes them: adapters in float32; checkpoints with what was trained in float32, the rest as the hub has it.
    each = 4 * trained if setup.paradigm == LORA else 4 * trained + 2 * (shape.parameters - trained)
    shared = seeds * sum(not home for *_, home in todo.experts)
    homes = {home for *_, home in todo.experts if home}
    by_language = seeds * max((sum(home == one for *_, home in todo.experts) for one in homes), default=0)
    resumable = 12 * trained  # weights and two moments
    examples = seeds * paper("examples an expert") * sum(todo.experts.values())
    mean = min(assumed.tokens, setup.length)
    flops = (
        examples
        * shape.flops(setup.paradigm, rank, mean, round(mean * assumed.learned))
        * (4 / 3 if setup.checkpointing else 1)
    )
    batches = -(-paper("problems a language") // assumed.rows)
    step = max(assumed.step, 2 * shape.parameters / (card.bandwidth * 1e12))
    reading = (
        paper("problems a language") * assumed.shown * 2 * shape.parameters / (card.tflops * 1e12 * assumed.utilisation)
    )
    # An answer's places, and as many free ones: who joins a batch late may write as much as the others have written.
    row = assumed.shown + 2 * paper("new tokens at most")
    return Plan(
        model, shape, setup, seeds * len(todo.experts), todo.cells, setup.memory(shape),
        answering=generation_memory(shape, assumed.rows, row), download=2 * shape.parameters, expert_bytes=each,
        disk_kept=2 * shape.parameters + each * seeds * len(todo.experts) + resumable,
        disk_peak=2 * shape.parameters + each * (shared + by_language) + resumable, tokens=examples * mean,
        training_hours=flops / (card.tflops * 1e12 * assumed.utilisation) / 3600,
        answering_hours=todo.cells * (batches * assumed.answered * step + reading) / 3600,
    )  # fmt: skip


def remedies(shapes: Sequence[Shape], setup: Setup, assumed: Assumed) -> list[Setup]:
    """Return changes by which the trainings of all shapes fit, the smallest of each kind, cheapest kinds first; [] where none is
    known."""
    smaller = [replace(setup, micro_batch=n) for n in (4, 2, 1) if n < setup.micro_batch]
    again = [replace(one, checkpointing=True) for one in (setup, *smaller)]
    every = (setup, *smaller, *again)
    eight = [replace(one, optimizer=ADAMW_8BIT) for one in every if setup.paradigm == FULL and setup.gpus == 1]
    lora = [replace(one, paradigm=LORA) for one in every if setup.paradigm == FULL]
    larger = [replace(one, card=name) for name in CARDS if CARDS[name].gib > CARDS[setup.card].gib for one in every]
    more = [replace(one, gpus=n, optimizer=ADAMW) for n in (2, 4, 8, 16) if n > setup.gpus for one in every]
    found = (
        next((one for one in kind if all(one.fits(shape, assumed) for shape in shapes)), None)
        for kind in (smaller, again, eight, lora, larger, more)
    )
    return [one for one in found if one is not None]


def refusal(plans: Sequence[Plan], assumed: Assumed) -> str:
    """Say which plans cannot fit, what they take, and what would, in a paragraph; "" where all fit."""
    told = []
    for setup in dict.fromkeys(one.setup for one in plans):
        refused = [one for one in plans if one.setup == setup and not one.fits(assumed)]
        if not refused:
            continue
        room, takes = setup.room(assumed) / GIB, [max(one.memory.total, one.answering) / GIB for one in refused]
        each = ", ".join(f"{one.model} {gib:.1f}" for one, gib in zip(refused, takes, strict=True))
        answering = all(setup.fits(one.shape, assumed) for one in refused)
        would = "; or ".join(str(one) for one in remedies([one.shape for one in refused], setup, assumed))
        hint = "Take a smaller model." if not would else f"What would: {would}."
        hint = "Answering is what does not: take a larger card." if answering else hint
        told.append(f"{setup} cannot fit: a card has room for {room:.1f} GiB, and these take: {each}. {hint}")
    return " ".join(told)


def shape_for(model: str) -> Shape:
    """Return the shape of one of the paper's models, of a checkpoint folder, or of any model of the hub, whose config.json alone
    (about 1 kB) is fetched; of XLNB_HUB instead where that is set (see :mod:`xlnb.downloads`). Raises RequestError where there
    is none, or none that can be read."""
    if model in MODELS:
        return MODELS[model].shape
    file, root = Path(model) / "config.json", os.environ.get(VARIABLE)
    if not file.is_file() and root:
        file = place(root, model, MODEL) / "config.json"
        if not file.is_file():
            raise RequestError(
                f"{model} is none of {', '.join(MODELS)}, no folder with a config.json, and {VARIABLE} is {root}, which has none "
                f"of it: bring it there by `xlnb fetch`, or unset {VARIABLE}."
            )
    if not file.is_file():
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(model, "config.json"))
        except Exception as error:  # of many kinds: no network, no such model, no right to read it
            raise RequestError(
                f"{model} is none of {', '.join(MODELS)}, no folder with a config.json, and its config.json could not be had "
                f"from the hub ({reason(error, model, MODEL)}). Save that file of about 1 kB in a folder, and give the folder."
            ) from None
    return shape_of(_config(file), model)


def _config(file: Path) -> dict[str, Any]:
    try:
        return read_settings(file)
    except RequestError as error:
        raise RequestError(f"{error} Download or save it again.") from error
