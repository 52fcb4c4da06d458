"""Profiles: a size of everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.models.miniatures import miniature
from xlnb.models.pocket import pocket_checkpoint
from xlnb.paths import runs_folder
from xlnb.training.sft import Training


@dataclass(frozen=True)
class Profile:
    """A size of everything: which model, how much training and how much evaluation."""

    name: str
    model: str
    checkpoint: Callable[[], Path]
    examples: int  # in each expert's training set
    training: Training
    evaluation: Evaluation
    development: int  # problems of the development split on which the base is tried out
    trimmed: bool


PROFILES = {
    "smoke": Profile(
        name="smoke",
        model="gemma3-miniature",
        checkpoint=lambda: miniature(runs_folder() / "smoke" / "gemma3-miniature" / "checkpoint"),
        examples=8,
        training=Training(steps=3, batch_size=2, rank=4, max_length=1024, checkpoint_every=1),
        evaluation=Evaluation(problems=6, generated=3, max_new_tokens=8, batch_size=4),
        development=4,
        trimmed=False,
    ),
    "pocket": Profile(
        name="pocket",
        model="gemma-3-270m",
        checkpoint=pocket_checkpoint,
        examples=480,
        training=Training(),
        evaluation=Evaluation(),
        development=96,
        trimmed=True,
    ),
}


def named_profile(name: str) -> Profile:
    """Return a profile by name. Raises :class:`~xlnb.errors.RequestError` for an unknown one."""
    if name not in PROFILES:
        raise RequestError(f"No profile {name!r}: choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]
