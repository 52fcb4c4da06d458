"""A study: one profile, language, paradigm and seed. It looks in the committed results, then in runs/, then computes."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.analysis.fitting import FITTED
from xlnb.corpora import IN_LANGUAGE_DATA, LANGUAGE_DATA, MATH_DATA, Example, templates
from xlnb.corpora.sources import (
    SOURCES,
    Corpus,
    check_source,
    formatted,
    load_corpus,
    mixture,
    name_and_path,
    together,
)
from xlnb.errors import RequestError, WorkError, known, whole_number
from xlnb.evaluation.readings import COST_GROUPS
from xlnb.evaluation.scoring import evaluate
from xlnb.methods import EXPERTS, LANGUAGE, MATH, METHODS, all_streams
from xlnb.models.base import DTYPES, FLOAT32, Base, Identity, checksum, device_name, identity, load_base
from xlnb.paths import results_folder, runs_folder
from xlnb.studies.atlas import fitted
from xlnb.studies.cells import Cell
from xlnb.studies.experiments import FIRST_SWAP, TARGET, Ask
from xlnb.studies.outcomes import (
    COLUMNS,
    committed_readings,
    committed_rows,
    costs_for,
    load_costs,
    load_outcomes,
    load_training,
    made_readings,
)
from xlnb.studies.profiles import PROFILES, Profile, named_profile
from xlnb.studies.vocabulary import kept_of, vocabulary_spec
from xlnb.training.experts import ALL, IN_LANGUAGE
from xlnb.training.paradigms import PARADIGMS
from xlnb.training.sft import Training, train_expert
from xlnb.weights.merging import applied
from xlnb.weights.partitions import Partition, named_partition
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd


def open_study(
    profile: str, language: str, seed: int, live: bool, device: str = "auto", dtype: str = "float32"
) -> Study:
    """Return a study that computes what is missing and looks at nothing committed (``live``), or one that reads what is
    committed and needs no model. Partitions that are fitted by measurements are read where those are committed, live or not.
    """
    chosen = named_profile(profile)
    return Study(chosen, language, seed, device=device, dtype=dtype, live=live, committed=not live)


@dataclass(frozen=True)
class Study:
    """Experts and merges of one profile, language, paradigm and seed, evaluated in English and that language.

    ``seed`` decides the initialisation, the training examples and their order. ``math_data`` and ``language_data`` are corpora
    by name, or NAME:PATH for a local copy (see :mod:`xlnb.corpora.sources`); ``mgsm`` is a folder of MGSM and ``reference`` a
    test file of GSM8K where those are asked, the hub's where nothing is said. ``vocabulary`` lists the languages whose tokens a
    trimmed model keeps: the profile's where nothing is said, so that one math expert serves all its languages. ``committed`` and
    ``live`` say whether committed results count as made, and whether what is missing is computed.
    """

    profile: Profile
    language: str = "sw"
    seed: int = 0
    folder: Path = field(default_factory=runs_folder)
    math_data: str = MATH_DATA
    language_data: str = LANGUAGE_DATA
    paradigm: str = "lora"
    vocabulary: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "float32"
    mgsm: str = ""
    reference: str = ""
    live: bool = True
    committed: bool = True
    results: Path = field(default_factory=results_folder)
    _specs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _fitted: dict[str, Partition] = field(default_factory=dict, init=False, repr=False, compare=False)
    digests: dict[tuple[str, ...], str] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # found once, of any kind

    def __post_init__(self) -> None:
        known("study of language", self.language, [code for code in templates.LANGUAGES if code != "en"])
        whole_number("seed", self.seed, 0)
        known("paradigm", self.paradigm, PARADIGMS)
        for code in self.vocabulary:
            known("language of a vocabulary", code, templates.LANGUAGES)
        if self.vocabulary and (lacking := {"en", self.language} - {*self.vocabulary}):
            raise RequestError(
                f"A vocabulary of {', '.join(self.vocabulary)} lacks the words of {', '.join(sorted(lacking))}, which a study of "
                f"{self.language} reads: name English (en) and the study's language, too."
            )
        check_source(self.math_data, "en", "math")
        check_source(self.language_data, self.language, "language")
        known("dtype", self.dtype, DTYPES)
        if not self.live and not committed_rows(self.results, self.keys):
            raise RequestError(
                f"No committed result of profile {self.profile.name}, language {self.language}, seed {self.seed}: run live, or "
                "choose a seed that book/results has."
            )

    # -- what there is without a model

    @property
    def own_data(self) -> bool:
        """Whether the experts learn from what ships with the package."""
        return not any(SOURCES[name].hub for text in (self.math_data, self.language_data) for name in _names(text))

    @property
    def as_named(self) -> bool:
        """Whether the profile is the package's by that name, with nothing changed."""
        return PROFILES.get(self.profile.name) == self.profile

    @property
    def usual_training(self) -> bool:
        """Whether committed histories that have no digest are of trainings like this study's: they came before there was one."""
        return self.as_named and (self.dtype == FLOAT32 or not self.own_data)

    @cached_property
    def _identity(self) -> Identity:
        return identity(self.profile.checkpoint())

    @property
    def depth(self) -> int:
        """The number of transformer layers: of the weights at hand, or of the profile's model where nothing is computed."""
        return self._identity.depth if self.live else self.profile.depth

    @property
    def kept(self) -> tuple[str, ...]:
        """The languages of the trimmed vocabulary; none where it is whole, as with data that are not our own."""
        if not (self.profile.trimmed and self.own_data):
            return ()
        # In one order, however they were given: the same tokens are the same base.
        order = dict.fromkeys((*self.profile.vocabulary, *templates.LANGUAGES))
        return tuple(code for code in order if code in (self.vocabulary or self.profile.vocabulary))

    @cached_property
    def base_spec(self) -> dict[str, Any]:
        """What determines the base: its weights, vocabulary, chat templates, precision, and the tokenizer of a reader's model."""
        folder = self.profile.checkpoint()
        # A profile's own model has one tokenizer; a named one may come again with another.
        own = {"tokenizer": _tokenizer_digests(folder)} if self.profile.named else {}
        return {
            "weights": self._identity.fingerprint,
            "vocabulary": vocabulary_spec(self.kept),
            "chat": _chat_digests(folder),
            "dtype": self.dtype,
            **own,
        }

    def place(self, experts: Sequence[str]) -> Path:
        """Return the folder of what is made with these experts: the same for all languages where they saw but English."""
        home = self.profile.name, self.profile.model
        if not experts:
            return self.folder.joinpath(*home, "base")
        english = all(stream.is_english for slug in experts for stream in all_streams(slug))
        used = [self.math_data] if english else [self.math_data, self.language_data]
        names = [name_and_path(text)[0] for text in used]
        data = ["+".join(names)] if used != [MATH_DATA, LANGUAGE_DATA][: len(used)] else []
        language = "en" if english else self.language
        return self.folder.joinpath(*home, self.paradigm, language, *data, f"seed-{self.seed}")

    @property
    def home(self) -> Path:
        """The folder of what is made of both experts."""
        return self.place((MATH, LANGUAGE))

    def _source(self, stream: str) -> tuple[str, str]:
        """Return the corpus (NAME or NAME:PATH) and the language that a stream reads."""
        data = {"math": (self.math_data, "en"), "language": (self.language_data, self.language)}
        return data.get(stream, (IN_LANGUAGE_DATA, self.language))

    def corpora(self, experts: Sequence[str]) -> str:
        """Return the names of the corpora that experts learned from, such as ``templates + ntrex``."""
        sources = [self._source(stream.source)[0] for slug in experts for stream in all_streams(slug)]
        return " + ".join(dict.fromkeys(name for text in sources for name in _names(text)))

    def _corpus(self, stream: str) -> Corpus:
        return _corpus(*self._source(stream), self.profile.examples, self.seed, self.profile.training.max_length)

    def training_examples(self, slug: str) -> tuple[Example, ...]:
        """Return what an expert learns from, as its model reads it."""
        lessons = EXPERTS[known("expert", slug, EXPERTS)].lessons(self._formatted, self.profile.training.steps)
        return tuple(example for lesson in lessons for example in lesson.examples)

    def _formatted(self, stream: str) -> tuple[Example, ...]:
        examples = formatted(self._corpus(stream), None if stream == IN_LANGUAGE else self.base.tokenizer)
        return examples if self.own_data else self._short(examples)

    def _short(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Return the examples that fit the training's length; what a model's tokens make of a text no corpus can know."""
        most, encode = self.profile.training.max_length, self.base.encode
        more = len(self.base.start) + 1  # what opens a text, and its end
        short = tuple(e for e in examples if len(encode(e.prompt)) + len(encode(e.completion)) + more <= most)
        if left := len(examples) - len(short):
            print(
                f"{left:,} of {len(examples):,} examples are longer than {most:,} tokens and left out.", file=sys.stderr
            )
        return short

    def training(self, slug: str) -> Training:
        """Return how an expert is trained: as the profile says, with its budget of steps a stream."""
        full = self.profile.training
        return replace(full, steps=max(1, round(EXPERTS[slug].budget * full.steps)))

    def expert_spec(self, slug: str, partition: str = "C") -> dict[str, Any]:
        """Return what determines an expert: base, data, hyperparameters, seed, and the partition where its streams are masked."""
        expert = EXPERTS[known("expert", slug, EXPERTS)]
        # What no mask touches, here or in the expert that it goes on from, is the same under every partition.
        masked = any(stream.moves != ALL for stream in all_streams(slug))
        key = slug, (partition or "C") if masked else "C"
        if key not in self._specs:
            streams = [
                {
                    "corpus": stream.corpus,
                    "source": "+".join(_names(self._source(stream.source)[0])),
                    "data": self._corpus(stream.source).fingerprint,
                    "moves": stream.moves,
                }
                for stream in expert.streams
            ]
            self._specs[key] = {
                "base": self.base_spec,
                "paradigm": self.paradigm,
                "streams": streams,
                "examples": self.profile.examples,
                "partition": self.partition(key[1]).shares if expert.is_masked else None,
                "start": self.expert_spec(expert.start, key[1]) if expert.start else None,
                "seed": self.seed,
                "training": self.training(slug).spec(),
            }
        return self._specs[key]

    def expert_folder(self, slug: str, partition: str = "C") -> Path:
        """Return where an expert lies, or will."""
        return self.place((slug,)) / "experts" / f"{slug}-{self.expert_digest(slug, partition)[:8]}"

    def expert_digest(self, slug: str, partition: str = "C") -> str:
        """Return a digest of everything that determines an expert, 16 hexadecimal digits."""
        key = "expert", slug, partition
        if key not in self.digests:
            self.digests[key] = artifacts.digest(self.expert_spec(slug, partition))[:16]
        return self.digests[key]

    def partition(self, name: str = "C") -> Partition:
        """Return a partition, by name, of the base's layers; one that was fitted is of the study's language."""
        if name in FITTED:
            if name not in self._fitted:
                self._fitted[name] = fitted(self, name)
            return self._fitted[name]
        return named_partition(name or "C", self.depth)

    # -- the models

    @property
    def base(self) -> Base:
        """The base model, loaded when first asked for, and again where a study of another base was asked meanwhile."""
        # Not kept here: as many models would be in memory as there are studies of different bases.
        return _shared_base(self.profile.checkpoint(), self.kept, self.device, self.dtype)

    def expert(self, slug: str, partition: str = "C") -> Path:
        """Return the folder of an expert, training it (and the one that it goes on from) where it is missing."""
        expert = EXPERTS[known("expert", slug, EXPERTS)]
        return train_expert(
            self.base,
            expert.lessons(self._formatted, self.profile.training.steps),
            self.training(slug),
            self.seed,
            self.expert_folder(slug, partition),
            self.expert_spec(slug, partition),
            paradigm=self.paradigm,
            partition=self.partition(partition) if expert.is_masked else None,
            start=self.expert(expert.start, partition) if expert.start else None,
            title=slug,
        )

    def trained_as(self, slug: str) -> dict[str, Any]:
        """Return what tells the training of an expert from others in committed results."""
        return self.keys | {"corpora": self.corpora((slug,)), "expert": slug}

    @property
    def keys(self) -> dict[str, Any]:
        """What tells committed rows of this study from others': profile, model, language, paradigm and seed."""
        return self._committed_by | {"seed": self.seed}

    @property
    def _committed_by(self) -> dict[str, Any]:
        """Which committed rows are of this profile, its model, the language and paradigm, by whichever seed."""
        names = {"profile": self.profile.name, "model": self.profile.model}
        return names | {"language": self.language, "paradigm": self.paradigm}

    def history(self, slug: str) -> pd.DataFrame:
        """Return loss, learning rate and tokens of each training step of an expert (by partition C, where it has one).

        What was made is read before what is committed, which has the columns of :func:`xlnb.studies.outcomes.load_training`;
        where there is neither, a live study trains. Raises RequestError where one that is not live finds nothing committed, or
        several trainings that were not made alike.
        """
        import pandas as pd

        made, told = [], "history.json"
        if self.live:  # where it would lie depends on the base, which a reader of committed results need not have
            folder = self.expert_folder(slug)
            made = [one / told for one in (folder, without_weights(folder)) if (one / told).is_file()]
        if not made and (self.committed or not self.live):
            found = load_training(self.results, **self.trained_as(slug))
            if self.live:
                mine = found[found["trained"] == self.expert_digest(slug)]
                found = found[found["trained"] == ""] if mine.empty and self.usual_training else mine
            elif found["trained"].nunique() > 1:
                raise RequestError(
                    f"{self.results} holds two trainings of {slug} that were not made alike (seed {self.seed}): their base, "
                    "data, precision or settings differ. Remove one, or run live."
                )
            if not found.empty:
                return found.reset_index(drop=True)
            if not self.live:
                raise RequestError(
                    f"No committed training of {slug} (profile {self.profile.name}, language {self.language}, seed {self.seed})."
                )
        return pd.DataFrame(artifacts.read_json(made[0] if made else self.expert(slug) / told))

    def task_vector(self, slug: str, partition: str = "C") -> TaskVector:
        """Return the task vector of an expert."""
        return TaskVector.of_expert(self.expert(slug, partition), self.base.folder)

    def merged(self, slug: str, partition: str = "C") -> TaskVector:
        """Return what a method adds to the base."""
        method = METHODS[known("method", slug, METHODS)]
        vectors = {expert: self.task_vector(expert, partition) for expert in method.experts}
        return method.merged(vectors, M=self.partition(partition), base=dict(self.base.model.named_parameters()))

    # -- the outcomes

    def cells(self, ask: Ask = FIRST_SWAP) -> list[Cell]:
        """Return the cells of what is asked."""
        names = [name for name in ask.partitions if not ask.fitting or _fits(name, self.depth)]
        evaluation = ask.evaluation(self.profile)
        if evaluation.benchmark == "mgsm":
            evaluation = replace(evaluation, path=self.mgsm or None, reference=self.reference or "hub")
        return [
            Cell(self, slug, partition, self.language if language == TARGET else language, evaluation)
            for slug in ask.methods
            for partition in (names if METHODS[slug].uses_partition else ("",))
            for language in ask.languages
        ]

    def outcomes(self, *asks: Ask) -> pd.DataFrame:
        """Return the per-problem outcomes of what is asked (the first chapter's where nothing is), columns as in
        :func:`xlnb.load_outcomes`.

        What is committed or made is read, what is missing is computed, as the study's ``committed`` and ``live`` allow. Raises
        RequestError where something is missing that may not be computed.
        """
        import pandas as pd

        cells = [cell for ask in asks or (FIRST_SWAP,) for cell in self.cells(ask)]
        return pd.concat([self._rows(cell) for cell in cells], ignore_index=True)

    def repeated(self, *asks: Ask) -> pd.DataFrame:
        """Return the committed outcomes of what is asked, by all trainings of this profile, language and paradigm; this study's
        own (see :meth:`outcomes`) where none are committed. Verdicts rest on these: one training says nothing of another.
        """
        import pandas as pd

        cells = [cell for ask in asks or (FIRST_SWAP,) for cell in self.cells(ask)]
        alike = self._committed_by
        kept = {(cell.method, cell.partition, cell.asked, metric) for cell in cells for metric in cell.readings}
        if committed_rows(self.results, alike):
            keys = ["method", "partition", "asked", "metric"]
            asked, metrics = {asked for _, _, asked, _ in kept}, {metric for *_, metric in kept}
            rows = load_outcomes(self.results, **alike, asked=asked, metric=metrics).merge(
                pd.DataFrame(kept, columns=keys)
            )
            if len(rows[keys].drop_duplicates()) == len(kept):
                return rows
        return self.outcomes(*asks)

    def state(self, cell: Cell) -> str:
        """Say whether a cell is committed, made or missing, from files' columns alone."""
        committed = committed_readings(self.results, self._committed_as(cell)) if self.committed else set()
        wanted = set(cell.readings) - committed
        if not wanted:
            return "committed"
        # Where nothing may be computed nothing made is read either, and a cell's place is not asked for: it takes the weights.
        return "made" if self.live and wanted <= made_readings(cell.path) else "missing"

    def _committed_as(self, cell: Cell) -> dict[str, Any]:
        """Return by which columns a cell's rows are found: by all that made the model, or, without weights, by its names."""
        return {"trained": cell.trained, "asked": cell.asked} if self.live else cell.names

    def _committed(self, cell: Cell) -> dict[str, pd.DataFrame]:
        """Return the committed rows of a cell by reading."""
        return committed_rows(self.results, self._committed_as(cell)) if self.committed else {}

    def make(self, cell: Cell) -> None:
        """Compute what is missing of a cell, training first where an expert is missing."""
        self._rows(cell)

    def _rows(self, cell: Cell) -> pd.DataFrame:
        import pandas as pd

        found = self._committed(cell)
        if missing := [reading for reading in cell.readings if reading not in found]:
            if not self.live:
                raise RequestError(
                    f"{cell.method}{' by ' + cell.partition if cell.partition else ''} in {cell.test_language} is not committed "
                    f"with {', '.join(missing)} (profile {self.profile.name}, language {self.language}, seed {self.seed}): run "
                    "live."
                )
            made = self._made(cell, missing).assign(trained=cell.trained)
            found |= {reading: made[made["metric"] == reading] for reading in missing}
        rows = pd.concat([found[reading] for reading in cell.readings], ignore_index=True)
        return rows.assign(**cell.names)[COLUMNS]

    def _made(self, cell: Cell, readings: Sequence[str]) -> pd.DataFrame:
        """Return a cell's outcomes from its file, which first gets those of ``readings`` that it does not have."""
        import pandas as pd

        path = cell.path
        have = made_readings(path)
        missing = tuple(reading for reading in readings if reading not in have)
        if not missing:
            return pd.read_parquet(path)
        merged = self.merged(cell.method, cell.partition)  # may train first, which has a provenance of its own
        if METHODS[cell.method].experts and merged.is_zero:
            name = f"{cell.method}{' under ' + cell.partition if cell.partition else ''}"
            raise WorkError(f"{name} is the base itself, to the last bit: no expert's training is in it.")
        started = time.time()
        with applied(self.base.model, merged):
            evaluation = replace(cell.evaluation, readings=missing)
            rows = evaluate(self.base, cell.benchmark, evaluation, title=f"{cell.method} {cell.test_language}")
        told = artifacts.provenance(cell.spec, started) | {"device": device_name(self.base)}
        with artifacts.alone(path.parent):
            # Computing took hours, in which another process may have written: what it has is asked once more.
            have = made_readings(path)
            if new := [reading for reading in missing if reading not in have]:
                rows, earlier = rows[rows["metric"].isin(new)], []
                if have:
                    rows = pd.concat([pd.read_parquet(path), rows], ignore_index=True)
                    earlier = [artifacts.read_json(path.with_suffix(".json"))]
                told |= {"readings": new} | ({"before": earlier} if earlier else {})
                artifacts.write_json(path.with_suffix(".json"), told)
                with artifacts.whole_file(path) as partial:  # last: its presence says that the cell is done
                    rows.to_parquet(partial, index=False)
            return pd.read_parquet(path)

    def costs(self, brought: bool = False) -> pd.DataFrame:
        """Return what each group of readings costs the base on development problems: readings, problems, seconds.

        Columns also profile, language; seconds are of this machine and device, and measured once. Where nothing but what another
        device measured lies among what was made it is returned with ``brought``, without a model.
        """
        import pandas as pd

        if not self.live:
            return costs_for(load_costs(self.results, profile=self.profile.name), self.language)
        n = self.profile.development
        usual = replace(self.profile.evaluation, split="development", problems=n, generated=n)
        spec = {
            "base": self.base_spec,
            "asked": usual.spec(),
            "problems": usual.asked(self.language).fingerprint,
            "groups": {name: list(readings) for name, readings in COST_GROUPS.items()},
        }
        folder, name = self.place(()) / "costs", f"{self.language}-{artifacts.digest(spec)[:8]}"
        there = [*folder.glob(f"{name}-*.parquet")]
        if brought and len(there) == 1:
            return pd.read_parquet(there[0])
        device = device_name(self.base)
        path = folder / f"{name}-{artifacts.digest(device)[:4]}.parquet"
        if not path.is_file():
            rows, begun = [], time.time()
            for name, readings in COST_GROUPS.items():
                started = time.perf_counter()
                evaluate(
                    self.base, usual.asked(self.language), replace(usual, readings=readings), title=f"cost of {name}"
                )
                rows.append((self.profile.name, self.language, name, n, round(time.perf_counter() - started, 1)))
            table = pd.DataFrame(rows, columns=["profile", "language", "readings", "problems", "seconds"])
            artifacts.write_json(path.with_suffix(".json"), artifacts.provenance(spec, begun) | {"device": device})
            with artifacts.whole_file(path) as partial:
                table.to_parquet(partial, index=False)
        return pd.read_parquet(path)

    def spec(self, experts: Sequence[str] = (MATH, LANGUAGE)) -> dict[str, Any]:
        """Return what determines this study's results with these experts: model, data, training and evaluation."""
        return {
            "seed": self.seed,
            "depth": self.depth,
            "language": self.language,
            "paradigm": self.paradigm,
            "base": {"folder": self.profile.checkpoint().name, **self.base_spec},
            "experts": {expert: self.expert_spec(expert) for expert in experts},
            "evaluation": self.profile.evaluation.spec(),
        }


_TOKENIZERS = "tokenizer.json", "*.model", "vocab.*", "merges.txt", "*.tiktoken"  # one checkpoint has some of these
LIGHT = ("history.json", "provenance.json")  # what an expert's folder has besides weights


def without_weights(expert: Path) -> Path:
    """Return where the history and provenance of an expert lie that was trained elsewhere; its own folder has weights, always."""
    return expert.with_name(f"{expert.name.removesuffix('.told')}.told")


def _chat_digests(folder: Path) -> list[str]:
    """Return digests of a checkpoint's chat templates: of files of their own, and of that in the tokenizer's config, if any."""
    found = [artifacts.file_digest(file)[:16] for file in sorted(folder.glob("*.jinja"))]
    config = folder / "tokenizer_config.json"
    template = artifacts.read_json(config).get("chat_template") if config.is_file() else None
    return [*found, artifacts.digest(template)[:16]] if template else found


def _tokenizer_digests(folder: Path) -> list[str]:
    files = {file for pattern in _TOKENIZERS for file in folder.glob(pattern)}
    return [checksum(file)[:16] for file in sorted(files)]


@lru_cache(maxsize=64)
def _corpus(text: str, language: str, n: int, seed: int, max_length: int) -> Corpus:
    # Two characters a token is fewer than any of our languages has in Gemma's tokens. Of several corpora each gives its share.
    named = [name_and_path(part) for part in together(text)]
    shares = [n // len(named) + (i < n % len(named)) for i in range(len(named))]
    return mixture(
        [
            load_corpus(name, language, share, seed, path, max_characters=2 * max_length)
            for (name, path), share in zip(named, shares, strict=True)
        ]
    )


def _names(text: str) -> list[str]:
    return [name_and_path(part)[0] for part in together(text)]


_LOADED: dict[tuple[Any, ...], Base] = {}  # at most one


def _shared_base(checkpoint: Path, languages: tuple[str, ...], device: str, dtype: str) -> Base:
    # One model in memory for studies that differ in their seed alone: training and merging leave the base as it was.
    key = checkpoint, languages, device, dtype
    if key not in _LOADED:
        _LOADED.clear()
        gc.collect()  # a model holds itself in circles, and goes before another one comes
        _LOADED[key] = load_base(checkpoint, kept=kept_of(checkpoint, languages), device=device, dtype=dtype)
    return _LOADED[key]


def _fits(partition: str, depth: int) -> bool:
    try:
        return bool(named_partition(partition, depth))
    except RequestError:
        return False
