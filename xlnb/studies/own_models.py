"""A reader's own models, asked what the book's are: adapters, full checkpoints and models of the hub, one or several."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.checkpoints.recipes import Expert
from xlnb.checkpoints.requests import check_named_base
from xlnb.errors import RequestError, WorkError, known
from xlnb.evaluation.asking import Evaluation, check_read
from xlnb.evaluation.readings import CHOICES, CLOSING_NLL, READINGS
from xlnb.evaluation.scoring import evaluate
from xlnb.models.base import DTYPES, Base, identity, load_base
from xlnb.models.hub import model_folder
from xlnb.stats import mean_interval, paired_difference
from xlnb.studies.cells import OWN_BENCHMARKS
from xlnb.studies.paper import paper
from xlnb.studies.profiles import PAPER_PROFILES, Profile, named_profile
from xlnb.studies.vocabulary import kept_of
from xlnb.weights.adapters import open_adapter
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector
from xlnb.weights.tensor_files import open_checkpoint

if TYPE_CHECKING:
    import pandas as pd

BASE, ALL = "base", "all"
MGSM_PROBLEMS = 250
_DIFFERENCES = ["model", "metric", "difference", "low", "high", "n"]
_CHOSEN = ("belebele", "global-mmlu")  # answered by likelihood of the options
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


@dataclass(frozen=True)
class OwnModel:
    """A model by the name it was asked for: its checkpoint, the adapter on it if any, whether its base is the profile's."""

    name: str
    checkpoint: Path
    adapter: Path | None = None
    of_profile: bool = False


def evaluate_models(
    models: Sequence[str],
    language: str,
    profile: str = "pocket",
    *,
    base: str = "",
    problems: int | None = None,
    generated: int | str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    **changes: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of models on a benchmark, and how each differs from the first on the same problems.

    ``models``: an adapter's folder (on ``base``, a checkpoint or a name on the hub; the profile's base where none is said), the
    folder of a full checkpoint, a name on the Hugging Face hub, or "base", the profile's. ``generated`` problems are answered,
    or "all"; of MGSM all where nothing is said. ``changes`` replace fields of the profile's :class:`xlnb.Evaluation`, each of
    which the benchmark must read.

    Scores: model, metric, value, low, high, n. Differences: model, metric, difference (minus the first; up is better or worse as
    the metric has it), low, high, n, by paired problems; in nats only between models of one tokenizer. The profile's trimmed
    vocabulary is used where all are models of its base and the problems are ours (then ``scores.attrs["trimmed"]``). Raises
    RequestError before any model is loaded for a name that is no model and for an adapter of another one, WorkError where the
    hub gives none or an adapter changes nothing, and Unfinished where a model fails, or gives NaN, when others are scored.
    Source: ours.
    """
    if profile in PAPER_PROFILES:
        raise RequestError(
            f"Profile {profile} is of one model, and here models are named one by one: leave --profile out, and ask as it does "
            f"by --benchmark mgsm --chat --shots {paper('shots')}."
        )
    chosen = named_profile(profile)
    known("dtype", dtype, DTYPES)
    evaluation = _evaluation(chosen, problems, generated, changes)
    evaluation.asked(language)  # a wrong request is refused before anything is loaded
    if twice := [name for name in dict.fromkeys(models) if models.count(name) > 1]:
        raise RequestError(f"{twice[0]} is named twice: name each model once.")
    opened = [own_model(name, chosen, base) for name in models or (BASE,)]
    _check_files(opened, told=bool(base))
    _check_merged(opened, base)
    trimmed = chosen.trimmed and evaluation.benchmark in OWN_BENCHMARKS and all(model.of_profile for model in opened)
    outcomes: dict[str, pd.DataFrame] = {}
    diverged: list[str] = []
    vocabularies: dict[str, dict[str, int]] = {}
    try:
        # One checkpoint after another in memory, each loaded once for all its adapters that follow each other.
        for checkpoint, some in groupby(opened, key=lambda model: model.checkpoint):
            kept = kept_of(checkpoint, chosen.vocabulary) if trimmed else None
            loaded = load_base(checkpoint, kept=kept, device=device, dtype=dtype)
            for model in some:
                vocabularies[model.name] = loaded.tokenizer.get_vocab()
                with _speaking(loaded, model):
                    found = evaluate(loaded, evaluation.asked(language), evaluation, title=model.name)
                if _is_finite(found):
                    outcomes[model.name] = found
                else:  # its numbers have no mean, and no differences: the others' tables go without it
                    diverged.append(model.name)
            del loaded  # or it would be in memory until the next one is, which needs the room
            gc.collect()  # a model holds itself in circles
    except Exception as error:  # of whatever kind: what took hours is not lost
        if not outcomes:
            raise
        failed = opened[len(outcomes) + len(diverged)].name
        said = [f"{failed} could not be scored: {_in_words(error)}", *_of_diverged(diverged)]
        raise Unfinished(" ".join(said), *_tables(outcomes, vocabularies, trimmed)) from error
    said = _of_diverged(diverged)
    if not outcomes:
        raise WorkError(" ".join(said))
    tables = _tables(outcomes, vocabularies, trimmed)
    if said:
        raise Unfinished(" ".join(said), *tables)
    return tables


class Unfinished(WorkError):
    """A model could not be scored; ``scores`` and ``differences`` have those before it, or all others where one diverged."""

    def __init__(self, message: str, scores: pd.DataFrame, differences: pd.DataFrame):
        super().__init__(message)
        self.scores, self.differences = scores, differences


def _is_finite(outcomes: pd.DataFrame) -> bool:
    import numpy as np

    return bool(np.isfinite(outcomes["outcome"].to_numpy(dtype=float)).all())


def _of_diverged(names: Sequence[str]) -> list[str]:
    return [f"{name} gives NaN or infinite numbers and is left out: its training diverged." for name in names]


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, RequestError | WorkError) else f"{type(error).__name__}: {error}"


def _tables(
    outcomes: dict[str, pd.DataFrame], vocabularies: dict[str, dict[str, int]], trimmed: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return scores and differences as :func:`evaluate_models` does."""
    import pandas as pd

    first, *others = outcomes
    alike = {name for name in others if vocabularies[name] == vocabularies[first]}
    differences = [_differences(outcomes[name], outcomes[first], name, name in alike) for name in others]
    scores = pd.concat([_scores(found, name) for name, found in outcomes.items()], ignore_index=True)
    scores.attrs["trimmed"] = trimmed
    nothing = pd.DataFrame(columns=_DIFFERENCES)
    return scores, pd.concat(differences or [nothing], ignore_index=True)


def own_model(name: str, profile: Profile, base: str = "") -> OwnModel:
    """Return what a name means: "base", the folder of an adapter or of a checkpoint, or a model of the hub, which is fetched."""
    if name == BASE and not base:
        return OwnModel(BASE, profile.checkpoint(), of_profile=True)
    folder = model_folder(base if name == BASE else name)
    has_adapter, has_model = ((folder / file).is_file() for file in ("adapter_config.json", "config.json"))
    if has_adapter and any(folder.glob("model*.safetensors")):
        raise RequestError(f"{folder} holds an adapter and a whole model: say which, by a folder that has one of them.")
    if has_adapter:
        under = model_folder(base) if base else profile.checkpoint()
        return OwnModel(name, under, folder, of_profile=not base)
    if not has_model:
        raise RequestError(f"{folder} holds no model: it has neither config.json nor adapter_config.json.")
    return OwnModel(name, folder)


def _check_files(opened: Sequence[OwnModel], told: bool) -> None:
    """Refuse, before a model is loaded, checkpoints without weights or tokenizer, and adapters of nothing or of another model.

    ``told`` says whether the base was named, so that it is told where an adapter's config names another.
    """
    for checkpoint in dict.fromkeys(model.checkpoint for model in opened):
        open_checkpoint(checkpoint)  # what transformers reads beside safetensors has no headers, to compare models by
        _check_tokenizer(checkpoint)
    for checkpoint, some in groupby(opened, key=lambda model: model.checkpoint):
        adapters = [(model.name, model.adapter) for model in some if model.adapter is not None]
        shapes = _shapes(checkpoint) if adapters else {}
        for name, folder in adapters:
            _check_adapter(name, folder, checkpoint, shapes)
            expert = Expert("the adapter", open_checkpoint(folder))
            line = check_named_base(expert, Expert("base", open_checkpoint(checkpoint)), trust_configs=True)
            if line and told:
                print(line, file=sys.stderr)


def _check_adapter(name: str, folder: Path, checkpoint: Path, there: Mapping[str, tuple[int, ...]]) -> None:
    for parameter, shape in open_adapter(folder).shapes.items():
        if there.get(parameter) != shape:
            has = f"one of {there[parameter]}" if parameter in there else "no such parameter"
            raise RequestError(
                f"The adapter {name} is of another model than {checkpoint}: it changes {parameter} of shape {shape}, and there "
                f"is {has}. Say what it belongs to by --base."
            )
    if TaskVector.from_adapter(folder, checkpoint).is_zero:
        raise WorkError(
            f"The adapter {name} changes nothing: its scores would be the base's. Was it saved before it was trained?"
        )


def _shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of a loaded checkpoint, which may have other names in its files; no number is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(checkpoint))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _check_tokenizer(checkpoint: Path) -> None:
    """Refuse a checkpoint without a tokenizer: transformers would make an empty one, which reads every text alike."""
    if not any(file for pattern in _VOCABULARIES for file in checkpoint.glob(pattern)):
        raise RequestError(
            f"{checkpoint} holds no tokenizer ({', '.join(_VOCABULARIES)}): copy the tokenizer's files of its base there."
        )


@contextmanager
def _speaking(base: Base, model: OwnModel) -> Iterator[None]:
    if model.adapter is None:
        yield
        return
    with applied(base.model, TaskVector.from_adapter(model.adapter, model.checkpoint)):
        yield


def _check_merged(opened: Sequence[OwnModel], base: str) -> None:
    """Refuse a checkpoint with the very weights of the base, where that is named: a merge or a training that did not happen."""
    under = {model.checkpoint for model in opened if model.name == BASE} | ({model_folder(base)} if base else set())
    others = [model for model in opened if model.adapter is None and model.checkpoint not in under]
    if under and others:  # or no checksum is asked: large files take a while
        weights = {identity(folder).fingerprint for folder in under}
        for model in others:
            if identity(model.checkpoint).fingerprint in weights:
                raise RequestError(f"{model.name} has the very weights of the base: no merge or training is in it.")


def _evaluation(
    profile: Profile, problems: int | None, generated: int | str | None, changes: dict[str, Any]
) -> Evaluation:
    """Return what is asked: the profile's evaluation with the changes, and what a benchmark needs."""
    usual = profile.evaluation
    check_read(changes.get("benchmark", usual.benchmark), changes)
    found = replace(usual, **{"generated": 0, **changes})
    if found.benchmark in _CHOSEN:
        found, generated = replace(found, readings=CHOICES), 0
    if found.benchmark == "mgsm":  # its problems and solutions are longer
        longer = max(found.max_new_tokens, 256) if profile.trimmed else found.max_new_tokens
        found = replace(found, max_new_tokens=longer, readings=(CLOSING_NLL, *found.readings))
    asked = problems if problems is not None else MGSM_PROBLEMS if found.benchmark == "mgsm" else usual.problems
    if generated is None:
        generated = ALL if found.benchmark == "mgsm" else min(asked, usual.generated)
    return replace(found, problems=asked, generated=asked if generated == ALL else int(generated))


def _scores(outcomes: pd.DataFrame, name: str) -> pd.DataFrame:
    import pandas as pd

    found = {
        metric: mean_interval(part["outcome"].to_numpy()) for metric, part in outcomes.groupby("metric", sort=False)
    }
    rows = [(name, metric, i.value, i.low, i.high, i.n) for metric, i in found.items()]
    return pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high", "n"])


def _differences(outcomes: pd.DataFrame, first: pd.DataFrame, name: str, alike: bool) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for metric, part in outcomes.groupby("metric", sort=False):
        if alike or READINGS[str(metric)].unit == "%":
            other = first[first["metric"] == metric]
            i = paired_difference(part.assign(seed=0), other.assign(seed=0))
            rows.append((name, metric, i.value, i.low, i.high, i.n))
    return pd.DataFrame(rows, columns=_DIFFERENCES)
