"""The search for training budgets: single experts by data, steps and rate, read on development problems. No merge is made.

Nothing here looks at a scored problem, nor at two experts together.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.corpora import Example, templates
from xlnb.corpora.benchmarks import Benchmark, continued, prose_benchmark
from xlnb.corpora.sources import SOURCES, Corpus, aligned_rows, formatted, load_corpus, parallel_examples
from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import (
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_INFORMATION,
    EXPRESSION_NLL,
    INFORMATION,
    NLL,
    TWINS,
)
from xlnb.evaluation.scoring import evaluate
from xlnb.models.base import Base, device_name, kept_ids, load_base
from xlnb.models.pocket_models import GEMMA
from xlnb.paths import results_folder
from xlnb.studies.profiles import Profile
from xlnb.studies.vocabulary import kept_of
from xlnb.training.experts import Lesson
from xlnb.training.sft import train_expert
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd

TARGETS = ("sw", "bn", "te")
BASE = "base"
# What is read, by worked examples before each problem: without them, as experts are trained, and with as many as a study shows,
# of fewer problems, since those examples show a base how answers look.
READ = {
    0: (NLL, EXPRESSION_NLL, INFORMATION, EXPRESSION_INFORMATION, *TWINS),
    Evaluation().shots: (EXPRESSION_INFORMATION, *TWINS, EXPRESSION, EXACT_MATCH),
}
NTREX_TRAINING = 1600  # lines; the others measure
_LONGEST = 600  # characters of a line of NTREX with its translation


@dataclass(frozen=True)
class Setting:
    """One training: of which expert (base: none), in which language, on which data, for how many steps, at which rate."""

    expert: str
    language: str
    data: str = ""
    steps: int = 0
    rate: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of its file."""
        return "-".join(str(value) for value in asdict(self).values() if value != "")


MANY, PARALLEL = "many frames", "parallel frames"
CALCULATION = "many frames, first calculation"  # of each solution nothing else is learned
PROSE, NTREX, HELD_OUT = "prose", "NTREX", "held-out prose"
LANGUAGE_DATA = (PROSE, "grammar", NTREX, "prose without translations", "grammar and prose")


def settings() -> tuple[Setting, ...]:
    """Return all that is tried, the most telling first.

    >>> len({setting.name for setting in settings()}) == len(settings())
    True
    """
    used, longer = (90, 1.5e-4), (240, 3e-4)
    first = TARGETS[0]
    found = [Setting(BASE, language) for language in ("en", *TARGETS)]
    found += [Setting("math", "en", MANY, *used), Setting("math", "en", CALCULATION, 600, 3e-4)]
    found += [Setting("language", language, PROSE, *used) for language in TARGETS]
    found += [Setting("language", first, data, *used) for data in LANGUAGE_DATA if data != PROSE]
    for steps, rate in ((90, 3e-4), (90, 7e-5), longer):
        found += [Setting("math", "en", MANY, steps, rate), Setting("language", first, PROSE, steps, rate)]
    found += [Setting("math", "en", PARALLEL, *used)]
    found += [Setting("oracle", language, PARALLEL, *used) for language in TARGETS]
    return tuple(found)


def search(
    profile: Profile,
    folder: str | Path,
    ntrex: str | Path | None = None,
    device: str = "auto",
    worker: int = 0,
    workers: int = 1,
) -> None:
    """Compute the settings that are missing in a folder, a file each; of several workers each takes its share.

    ``ntrex`` is a folder of NTREX-128's text files; without it what needs them is left out, and so are languages that the
    profile does not have. Raises RequestError for a folder that has no such files, and where what is found was tried with
    another model or otherwise.
    """
    if not 0 <= worker < workers:
        raise RequestError(f"Worker {worker} of {workers}: they are numbered from 0 to {workers - 1}.")
    languages = [code for code in TARGETS if code in profile.languages]
    lines = {code: _lines(ntrex, code) if ntrex else [] for code in languages}
    chosen = [one for one in settings() if one.language in ("en", *languages) and (ntrex or one.data != NTREX)]
    files = {setting: Path(folder) / f"{setting.name}.json" for setting in chosen[worker::workers]}
    missing = {setting: file for setting, file in files.items() if not file.is_file()}
    alike = {"model": profile.model, "ntrex": bool(ntrex), "searched": profile.searched, "answered": profile.answered}
    for file in sorted(Path(folder).glob("*.json")):
        _check_alike(file, alike)
    if not missing:
        return
    checkpoint = profile.checkpoint()
    base = load_base(checkpoint, kept=_kept(checkpoint, profile, lines), device=device)
    for setting, file in missing.items():
        started = time.time()
        told = _tried(base, profile, setting, file.with_suffix(""), lines)
        kept = len(base.kept) if base.kept is not None else None
        spec = {"setting": asdict(setting), "vocabulary": kept} | alike
        artifacts.write_json(file, artifacts.provenance(spec, started) | {"device": device_name(base), **told})


def _check_alike(file: Path, alike: Mapping[str, Any]) -> None:
    """Refuse a file of a setting that was tried otherwise; one of before this was written says less."""
    spec = {"model": GEMMA} | artifacts.read_json(file)["spec"]
    if other := [name for name, value in alike.items() if spec.get(name, value) != value]:
        told = ", ".join(f"{name} {spec[name]} instead of {alike[name]}" for name in other)
        raise RequestError(f"{file} was tried with {told}: name another folder, or search as that was.")


def collected(folder: str | Path) -> pd.DataFrame:
    """Return what a search found, a row a setting, metric and problem: the setting, test_language, metric, problem, outcome, and
    of the training loss (of its last ten steps), tokens and seconds.
    """
    import pandas as pd

    rows = []
    for file in sorted(Path(folder).glob("*.json")):
        told = artifacts.read_json(file)
        training = {name: told[name] for name in ("loss", "tokens", "seconds_of_training")}
        rows += [told["spec"]["setting"] | training | row for row in told["scores"]]
    if not rows:
        raise RequestError(f"{folder} holds nothing of a search.")
    return pd.DataFrame(rows).explode(["problem", "outcome"], ignore_index=True).astype({"outcome": float})


def publish_search(folder: str | Path, results: str | Path | None = None, model: str = GEMMA) -> Path:
    """Write what a search found as the committed result of a model and return its folder.

    What is committed of settings that the folder does not have stays, so that a search may go on on another machine. Raises
    RequestError where the folder, or what is committed, is of another model.
    """
    import pandas as pd

    found, out = collected(folder), _home(results, model)
    told = [artifacts.read_json(file) for file in sorted(Path(folder).glob("*.json"))]
    made = {model, *(one["spec"].get("model", GEMMA) for one in told)}
    before = artifacts.read_json(out / "provenance.json") if (out / "provenance.json").is_file() else {}
    if before:
        made.add(before.get("model", GEMMA))
    if len(made) > 1:
        raise RequestError(
            f"{folder} and {out} are not of one model, but of {', '.join(sorted(made))}: name its --profile."
        )
    several = {name: {str(one[name]) for one in told} for name in ("commit", "device", "when", "versions")}
    seconds = sum(one["seconds"] for one in told)
    key = [field.name for field in fields(Setting)]
    if before:
        there = committed_search(results, model)
        kept = there[~there.set_index(key).index.isin(found.set_index(key).index)]
        if len(kept):
            found = pd.concat([kept, found], ignore_index=True)
            several = {name: values | set(before[name]) for name, values in several.items()}
            seconds += before["seconds"]
    count = len(found[key].drop_duplicates())
    with artifacts.whole_file(out / "search.parquet") as partial:
        found.to_parquet(partial, index=False, compression="zstd")
    record = {"command": "xlnb search", "model": model, "settings": count, "seconds": round(seconds, 1)}
    artifacts.write_json(out / "provenance.json", record | {name: sorted(values) for name, values in several.items()})
    return out


def committed_search(results: str | Path | None = None, model: str = GEMMA) -> pd.DataFrame:
    """Return the committed search of a model, columns as :func:`collected` gives them."""
    import pandas as pd

    file = _home(results, model) / "search.parquet"
    if not file.is_file():
        raise RequestError(f"There is no committed search in {file.parent}.")
    return pd.read_parquet(file)


def _home(results: str | Path | None, model: str) -> Path:
    return Path(results or results_folder()) / ("search" if model == GEMMA else f"search-{model}")


def _tried(
    base: Base, profile: Profile, setting: Setting, work: Path, lines: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, Any]:
    """Train by a setting and return its scores; the expert itself is not kept."""
    if setting.expert == BASE:
        scores = _scores(base, profile, setting.language, lines)
        return {"loss": None, "tokens": 0, "seconds_of_training": 0.0, "scores": scores}
    n = setting.steps * profile.training.batch_size
    training = replace(
        profile.training, steps=setting.steps, learning_rate=setting.rate, checkpoint_every=setting.steps
    )
    fitting = [e for e in examples(setting, n, lines) if _length(base, e) < training.max_length]
    lesson = Lesson(tuple(fitting), setting.steps)
    started = time.time()
    # Where a search was ended its expert stays, which is of this model, these tokens and this training alone.
    spec = {"setting": asdict(setting), "model": profile.model, "base": base.fingerprint, "training": training.spec()}
    folder = train_expert(base, [lesson], training, setting.seed, work, spec, title=setting.name)
    seconds = round(time.time() - started, 1)
    history = artifacts.read_json(folder / "history.json")
    with applied(base.model, TaskVector.of_expert(folder, base.folder)):
        languages = ("en", TARGETS[0]) if setting.language == "en" else (setting.language,)
        scores = [row for code in languages for row in _scores(base, profile, code, lines, setting.expert != "math")]
    shutil.rmtree(folder)
    loss = sum(step["loss"] for step in history[-10:]) / len(history[-10:])
    return {
        "loss": loss, "tokens": sum(step["tokens"] for step in history), "seconds_of_training": seconds, "scores": scores,
    }  # fmt: skip


def _length(base: Base, example: Example) -> int:
    return len(base.encode(example.prompt)) + len(base.encode(example.completion)) + 2  # with both ends


def examples(
    setting: Setting, n: int, lines: Mapping[str, Sequence[tuple[str, str]]] | None = None
) -> tuple[Example, ...]:
    """Return the first n training examples of a setting, fewer where its data have no more.

    >>> len(examples(Setting("language", "sw", "grammar and prose"), 10))
    10
    """
    language, seed = setting.language, setting.seed
    if setting.expert == "oracle" or setting.data == PARALLEL:
        return templates.math_examples(language, "train", n, seed)
    if setting.data in (MANY, CALCULATION):
        found = formatted(load_corpus("templates-english", language, n, seed))
        return tuple(map(_first_calculation, found)) if setting.data == CALCULATION else found
    if setting.data == NTREX:
        pairs = [
            {"english": e, "target": t} for e, t in (lines or {})[language][:NTREX_TRAINING] if len(e + t) < _LONGEST
        ]
        read = [example for pair in pairs for example in parallel_examples(pair, language)]
        corpus = Corpus("ntrex", language, "language", tuple(filter(lambda e: e.prompt, read)), "", {})
        shuffled = list(formatted(corpus))
        random.Random(seed).shuffle(shuffled)
        return tuple(shuffled[:n])
    prose = formatted(load_corpus("prose", language, seed=seed))
    if setting.data == "prose without translations":
        prose = tuple(example for example in prose if not example.kind.startswith("to-"))
    if setting.data == "grammar":
        return templates.language_examples(language, n, seed)
    if setting.data == "grammar and prose":
        return prose[: n // 2] + templates.language_examples(language, n - len(prose[: n // 2]), seed)
    return prose[:n]


def _first_calculation(example: Example) -> Example:
    """Return the example whose completion ends behind its first calculation."""
    return replace(example, completion=example.completion.partition(". ")[0] + ".")


def _lines(folder: str | Path, language: str) -> list[tuple[str, str]]:
    return [(row["english"], row["target"]) for row in aligned_rows(SOURCES["ntrex"], language, Path(folder))]


def _kept(checkpoint: Path, profile: Profile, lines: Mapping[str, Sequence[tuple[str, str]]]) -> list[int] | None:
    """Return the profile's trimmed vocabulary, and the tokens of NTREX where it is used; all models here have the same."""
    kept = kept_of(checkpoint, profile.vocabulary)
    if kept is None or not any(lines.values()):
        return kept
    from transformers import AutoTokenizer

    texts = [text for pairs in lines.values() for pair in pairs for text in pair]
    texts += [
        text
        for code in lines
        for e in examples(Setting("", code, NTREX), 10**6, lines)
        for text in (e.prompt, e.completion)
    ]
    # As they are read when scored, too: the first word, then the rest behind a space.
    scored = [continued("", code, line) for code, pairs in lines.items() for _, line in pairs]
    texts += [text for item in scored for text in (item.prompt, item.completion)]
    return sorted({*kept, *kept_ids(AutoTokenizer.from_pretrained(checkpoint), texts).tolist()})


def kept_in_search(checkpoint: Path, profile: Profile, ntrex: str | Path) -> list[int] | None:
    """Return the ids that a checkpoint keeps in a search with a folder of NTREX-128, ascending; None for all."""
    return _kept(checkpoint, profile, {code: _lines(ntrex, code) for code in TARGETS})


def _is_measured(line: str) -> bool:
    return len(line) < _LONGEST and bool(line.partition(" ")[2])


def _scores(
    base: Base,
    profile: Profile,
    language: str,
    lines: Mapping[str, Sequence[tuple[str, str]]],
    with_texts: bool = True,
) -> list[dict[str, Any]]:
    """Return the scores on development problems of a language, ``with_texts`` also the NLL of held-out prose and of NTREX."""
    asked = replace(profile.evaluation, split="development")
    found = []
    for shots, readings in READ.items():
        problems, answers = (profile.searched, 0) if shots == 0 else (profile.answered, profile.answered)
        told = replace(asked, shots=shots, problems=problems, generated=answers, readings=readings)
        found += [(shots, *each) for each in evaluate(base, told.asked(language), told).groupby("metric", sort=False)]
    texts = {HELD_OUT: prose_benchmark(language, split="development")} if with_texts and language in TARGETS else {}
    if with_texts and lines.get(language):
        held_out = enumerate(target for _, target in lines[language][NTREX_TRAINING:])
        items = [continued(f"ntrex-{i}", language, text) for i, text in held_out if _is_measured(text)]
        texts[NTREX] = Benchmark("ntrex", language, "", tuple(items), "")
    for name, benchmark in texts.items():
        found.append((0, name, evaluate(base, benchmark, replace(asked, shots=0, generated=0, readings=(NLL,)))))
    return [
        {
            "test_language": language,
            "shots": shots,
            "metric": str(metric),
            "problem": part["problem"].tolist(),
            "outcome": [round(float(value), 5) for value in part["outcome"]],
        }
        for shots, metric, part in found
    ]
