"""Profiles: a size of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from xlnb.corpora import LANGUAGE_DATA, MATH_DATA
from xlnb.errors import RequestError, known
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import EXACT_MATCH
from xlnb.models.hub import model_folder
from xlnb.models.memory import ADAMW_8BIT
from xlnb.models.miniatures import miniature
from xlnb.models.pocket import pocket_checkpoint
from xlnb.models.pocket_models import GEMMA, SMOLLM2
from xlnb.paths import runs_folder
from xlnb.studies.paper import LANGUAGE_CORPORA, MATH_CORPUS, MODELS, paper
from xlnb.training.sft import Training


@dataclass(frozen=True)
class Profile:
    """A size of everything: which model, which languages, how much training and how much evaluation."""

    name: str
    model: str
    depth: int  # the model's transformer layers, for whoever has no weights at hand
    checkpoint: Callable[[], Path]
    languages: tuple[str, ...]  # of the studies; a trimmed vocabulary is that of English and all of these
    trimmed: bool
    examples: int  # in each expert's training set
    training: Training
    evaluation: Evaluation
    development: int  # problems of the development split on which models are tried out
    answered: int  # of these, the first so many are answered where the base is tried out
    searched: int  # development problems on which training budgets are compared
    compared: int  # scored problems, half of them the others' twins, by which all methods are compared
    told: int  # scored problems that the main methods answer in words
    plane: int  # points along each side of the plane of both task vectors
    crosses: tuple[str, ...] = ()  # parts of the task vectors in the map of crosses; all where none are named
    named: str = ""  # of profile paper: its model as it was given, by name on the hub or folder

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The languages whose tokens are kept; none where the vocabulary is not trimmed."""
        return ("en", *self.languages) if self.trimmed else ()


PROFILES = {
    "smoke": Profile(
        "smoke", "gemma3-miniature", depth=8, languages=("sw", "bn", "te"), trimmed=False,
        checkpoint=lambda: miniature(runs_folder() / "smoke" / "gemma3-miniature" / "checkpoint"),
        examples=8, training=Training(steps=3, batch_size=2, rank=4, max_length=2048, checkpoint_every=1),
        evaluation=Evaluation(problems=6, generated=3, max_new_tokens=8, batch_size=4), development=4, answered=2, searched=6,
        compared=4, told=2, plane=5,
    ),
    "pocket": Profile(
        "pocket", GEMMA, depth=18, languages=("sw", "bn", "te"), trimmed=True, checkpoint=pocket_checkpoint,
        examples=720, training=Training(), evaluation=Evaluation(), development=96, answered=48, searched=96,
        compared=250, told=100, plane=9,
    ),
    # Another family, so that nothing is tied to one. Its vocabulary is small enough to stay whole, and has hardly a piece of
    # Bengali or Telugu (10 to 22 tokens a word): Swahili alone. Asked by worked examples in plain text, as all models here.
    "pocket-smollm2": Profile(
        "pocket-smollm2", SMOLLM2, depth=30, languages=("sw",), trimmed=False,
        checkpoint=partial(pocket_checkpoint, model=SMOLLM2), examples=720, training=Training(), evaluation=Evaluation(),
        development=96, answered=48, searched=96, compared=250, told=100, plane=9,
    ),
}  # fmt: skip
# How far experts move, by steps and peak rate: from hardly at all to learning 720 examples by heart; the second is the usual.
STRENGTHS = {
    "pocket-barely": (45, 5e-5),
    "pocket": (90, 1.5e-4),
    "pocket-far": (180, 3e-4),
    "pocket-by-heart": (240, 1e-3),
}
PROFILES |= {
    name: replace(
        PROFILES["pocket"], name=name, training=replace(Training(), steps=steps, learning_rate=learning_rate),
        crosses=("whole", "swap by C"),
    )
    for name, (steps, learning_rate) in STRENGTHS.items()
    if name not in PROFILES
}  # fmt: skip


def named_profile(name: str, model: str = "") -> Profile:
    """Return a profile by name; ``paper`` is of any ``model``, a folder or a name on the hub, and so is ``paper-8bit``, which
    trains with moments of eight bits, fewer examples at a time."""
    if name in PAPER_PROFILES:
        chosen = paper_profile(model)
        if name == PAPER_PROFILE:
            return chosen
        return replace(chosen, name=name, training=replace(chosen.training, optimizer=ADAMW_8BIT, micro_batch=2))
    chosen = PROFILES[known("profile", name, (*PROFILES, *PAPER_PROFILES))]
    if model:
        raise RequestError(
            f"Profile {name} has a model of its own: leave {model} out, or take profile {PAPER_PROFILE}."
        )
    return chosen


PAPER_PROFILE, PAPER_8BIT = PAPER_PROFILES = "paper", "paper-8bit"


def corpora_of(profile: str, math: str, language: str, codes: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return what the math expert and each language's expert learn: where none are named (""), the paper's data in its profile,
    ours in the others."""
    usual = MATH_CORPUS if profile in PAPER_PROFILES else MATH_DATA
    of_paper = LANGUAGE_CORPORA if profile in PAPER_PROFILES and not language else {}
    return math or usual, {code: "+".join(of_paper.get(code, (language or LANGUAGE_DATA,))) for code in codes}


def paper_profile(model: str) -> Profile:
    """Return the paper's setting (see :mod:`xlnb.studies.paper`) for a model, which is fetched where it is first used."""
    if not model:
        raise RequestError(
            f"Say the --model of profile {PAPER_PROFILE}: a folder, or one of the hub, {', '.join(MODELS)}. A command without "
            f"--model takes another profile: {', '.join(PROFILES)}."
        )
    problems, batch, examples = paper("problems a language"), paper("batch"), paper("examples an expert")
    training = Training(
        steps=paper("epochs") * examples // batch, batch_size=batch, learning_rate=paper("LoRA learning rate"),
        full_learning_rate=paper("full learning rate"), rank=paper("LoRA rank"), alpha=paper("LoRA alpha"),
        rank_stabilised=paper("LoRA rank-stabilised"), max_length=paper("tokens an example at most"), checkpoint_every=50,
        micro_batch=4, checkpointing=True,
    )  # fmt: skip
    evaluation = Evaluation(
        benchmark="mgsm", problems=problems, generated=problems, shots=paper("shots"), chat=True,
        max_new_tokens=paper("new tokens at most"), readings=(EXACT_MATCH,),
    )  # fmt: skip
    model = str(Path(model).resolve()) if Path(model).is_dir() else model  # other processes may stand elsewhere
    folder = cache(lambda: model_folder(model))
    return Profile(
        PAPER_PROFILE, Path(model).name, depth=MODELS[model].shape.layers if model in MODELS else 32, checkpoint=folder,
        languages=paper("languages"), trimmed=False, examples=examples, training=training, evaluation=evaluation,
        development=96, answered=48, searched=96, compared=problems, told=problems, plane=9,
        named=model,
    )  # fmt: skip
