"""A study: one cell of the grid (profile, language, seed). It knows where its artifacts lie, makes what is missing, reuses
what is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from xlnb import artifacts
from xlnb.corpora import Example, mismatched, templates
from xlnb.corpora.sources import check_source, formatted, load_corpus, name_and_path
from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import CHOICES, CLOSING_NLL, COST_GROUPS, LIKELIHOODS, SHOTS_READINGS, VALIDATED
from xlnb.evaluation.scoring import evaluate
from xlnb.methods import LANGUAGE, MATH, METHODS, ORACLE_BUDGETS, PLACEBO, method
from xlnb.models.base import Base, load_base
from xlnb.paths import results_folder, runs_folder
from xlnb.studies.experiments import (
    MEASURING,
    SINGLE_EXPERTS,
    SWAP,
    SWAP_CONTROLS,
    SWEEP_BOTTOMS,
    SWEEP_TOPS,
    sweep_partitions,
)
from xlnb.studies.outcomes import COLUMNS, load_costs, load_outcomes, select
from xlnb.studies.profiles import named_profile
from xlnb.training.sft import Training, train_expert, training_spec
from xlnb.weights.merging import applied
from xlnb.weights.partitions import COMPLEMENT, Partition, named_partition
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies.profiles import Profile


@dataclass(frozen=True)
class CommittedStudy:
    """A study read from the committed results: the same questions as :class:`xlnb.Study` answers, without a model.

    Raises :class:`~xlnb.errors.RequestError` where no committed result has this profile, language and seed.
    """

    profile: str
    language: str
    seed: int
    folder: Path = field(default_factory=results_folder)

    def __post_init__(self) -> None:
        self._result(None)

    def _rows(self) -> pd.DataFrame:
        return self._result("first-swap")

    def _result(self, experiment: str | None) -> pd.DataFrame:
        """Return this study's rows of an experiment (of all for None); RequestError where it has no trained model in them."""
        found = load_outcomes(self.folder, experiment=experiment, profile=self.profile, language=self.language)
        rows = found[(found["seed"] == self.seed) | (found["method"] == "base")]
        if not (rows["method"] != "base").any():  # the base belongs to every seed
            of = f" of {experiment}" if experiment else ""
            raise RequestError(
                f"No committed result{of} of profile {self.profile}, language {self.language}, seed {self.seed}: run live, or "
                "choose a seed that book/results has."
            )
        return rows

    @property
    def depth(self) -> int:
        """The number of transformer layers of the base."""
        for file in sorted(self.folder.glob("*/provenance.json")):
            for spec in artifacts.read_json(file)["spec"]["studies"]:
                if (spec["language"], spec["seed"]) == (self.language, self.seed):
                    return spec["depth"]
        raise RequestError(f"No provenance in {self.folder} has language {self.language} and seed {self.seed}.")

    def outcomes(
        self, methods: Iterable[str] | None = None, test_languages: Sequence[str] | None = None, **filters: Any
    ) -> pd.DataFrame:
        """Return this study's committed outcomes, as :meth:`xlnb.Study.outcomes` does; on scored problems, 2-shot by default."""
        filters = {"split": "scored", "shots": 2, **filters}
        if methods:
            filters["method"] = list(methods)
        if test_languages:
            filters["test_language"] = list(test_languages)
        return select(self._rows(), **filters)

    def sweep(self, bottoms: Sequence[int] = SWEEP_BOTTOMS, tops: Sequence[int] = SWEEP_TOPS) -> pd.DataFrame:
        """Return the committed outcomes that :meth:`xlnb.Study.sweep` computes."""
        return self._swaps(["", *sweep_partitions(bottoms, tops, self.depth)], SINGLE_EXPERTS, "development")

    def swap_controls(self) -> pd.DataFrame:
        """Return the committed outcomes that :meth:`xlnb.Study.swap_controls` computes."""
        return self._swaps(["", *SWAP_CONTROLS], [*SINGLE_EXPERTS, "soup"], "scored")

    def _swaps(self, partitions: list[str], others: Sequence[str], split: str) -> pd.DataFrame:
        return select(self._result(SWAP), split=split, method=[*others, SWAP], partition=partitions)

    def validation(self) -> pd.DataFrame:
        """Return the committed outcomes that :meth:`xlnb.Study.validation` computes."""
        return self._result(MEASURING)

    def costs(self) -> pd.DataFrame:
        """Return the committed costs of readings, as :meth:`xlnb.Study.costs` measures them."""
        return load_costs(self.folder, profile=self.profile, language=self.language)

    def base_by_shots(self, shots: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
        """Return the base's outcomes on development problems with different numbers of worked examples."""
        return select(self._rows(), split="development", method="base", shots=list(shots))

    def history(self, slug: str) -> pd.DataFrame:
        """Return loss, learning rate and tokens of each training step of an expert."""
        import pandas as pd

        table = pd.concat([pd.read_parquet(file) for file in sorted(self.folder.glob("first-swap*/training.parquet"))])
        return select(table, profile=self.profile, language=self.language, seed=self.seed, expert=slug)


PARADIGM = "lora"
MATH_DATA, LANGUAGE_DATA = "templates", "templates-generic"


def open_study(
    profile: str, language: str, seed: int, live: bool, device: str = "auto", dtype: str = "float32"
) -> Study | CommittedStudy:
    """Return a study that computes what is missing (``live``), or one that reads the committed results.

    Raises :class:`~xlnb.errors.RequestError` for an unknown profile or language, or where nothing is committed.
    """
    return Study(named_profile(profile), language, seed) if live else CommittedStudy(profile, language, seed)


@dataclass(frozen=True)
class Study:
    """Math expert, language expert and merges of one profile, language and seed, evaluated in English and that language.

    ``language`` is the target language's code (a language of the templates corpus that has a generic set); ``seed`` decides
    the LoRA initialisation, the training examples and their order. ``math_data`` and ``language_data`` are corpora by name, or
    NAME:PATH for a local copy (see :mod:`xlnb.corpora.sources`). Raises :class:`~xlnb.errors.RequestError` for an unknown
    language or corpus, or a negative seed.
    """

    profile: Profile
    language: str = "sw"
    seed: int = 0
    folder: Path = field(default_factory=runs_folder)
    math_data: str = MATH_DATA
    language_data: str = LANGUAGE_DATA

    def __post_init__(self) -> None:
        if self.language not in templates.LANGUAGES or self.language == "en":
            others = [code for code in templates.LANGUAGES if code != "en"]
            raise RequestError(f"No study of language {self.language!r}: choose one of {', '.join(others)}.")
        if self.seed < 0:
            raise RequestError(f"The seed is {self.seed}: it must be 0 or more.")
        check_source(self.math_data, "en", "math")
        check_source(self.language_data, self.language, "language")

    # -- the models

    experts: ClassVar[tuple[str, ...]] = (MATH, LANGUAGE, *ORACLE_BUDGETS, PLACEBO)  # the slugs of what can be trained

    @cached_property
    def base(self) -> Base:
        """The base model, loaded when first asked for; with the whole vocabulary where the data are not our own."""
        trimmed = self.profile.trimmed and self._own_data
        return _shared_base(self.profile.checkpoint(), ("en", self.language) if trimmed else None)

    @property
    def _own_data(self) -> bool:
        return (self.math_data, self.language_data) == (MATH_DATA, LANGUAGE_DATA)

    @property
    def home(self) -> Path:
        """The folder of this study's artifacts."""
        names = [name_and_path(data)[0] for data in (self.math_data, self.language_data)]
        data = () if self._own_data else ("+".join(names),)
        place = self.folder / self.profile.name / self.profile.model / self.language / PARADIGM
        return place.joinpath(*data, f"seed-{self.seed}")

    def training_examples(self, expert: str) -> tuple[Example, ...]:
        """Return the training set of an expert: English word problems, generic text of the language without arithmetic, or
        (for oracle and placebo alone) word problems in the language, the placebo's with the solutions of other problems."""
        n = self.profile.examples
        if expert in (MATH, LANGUAGE):
            text, language = (self.math_data, "en") if expert == MATH else (self.language_data, self.language)
            return _formatted_corpus(
                text, language, n, self.seed, self.profile.training.max_length, self.base.tokenizer
            )
        examples = templates.math_examples(self.language, "train", n, self.seed)
        return mismatched(examples) if expert == PLACEBO else examples

    def training(self, expert: str) -> Training:
        """Return how an expert is trained: as the profile says, an oracle on a smaller budget with fewer steps."""
        full = self.profile.training
        return replace(full, steps=max(1, round(ORACLE_BUDGETS.get(expert, 1.0) * full.steps)))

    def expert(self, slug: str) -> Path:
        """Return the adapter folder of an expert (math, language or an oracle), training it where it is missing."""
        if slug not in self.experts:
            raise RequestError(f"No expert {slug!r}: choose one of {', '.join(self.experts)}.")
        spec = self.expert_spec(slug)
        out = self.home / "experts" / f"{slug}-{artifacts.digest(spec)[:8]}"
        return train_expert(self.base, self.training_examples(slug), self.training(slug), self.seed, out, title=slug)

    def expert_spec(self, slug: str) -> dict[str, Any]:
        """Return what determines an expert: base, data, hyperparameters and seed."""
        return training_spec(self.base, self.training_examples(slug), self.training(slug), self.seed)

    def history(self, slug: str) -> pd.DataFrame:
        """Return loss, learning rate and tokens of each training step of an expert."""
        import pandas as pd

        return pd.DataFrame(artifacts.read_json(self.expert(slug) / "history.json"))

    def task_vector(self, slug: str) -> TaskVector:
        """Return the task vector of ``math-only`` or ``language-only``."""
        return TaskVector.from_adapter(self.expert(slug))

    def merged(self, slug: str, partition: str = "C") -> TaskVector:
        """Return what a method adds to the base."""
        chosen = method(slug)
        vectors = {expert: self.task_vector(expert) for expert in chosen.experts}
        return chosen.recipe(vectors, self.partition(partition))

    @property
    def depth(self) -> int:
        """The number of transformer layers of the base."""
        return self.base.depth

    def partition(self, name: str = "C") -> Partition:
        """Return a partition, by name, of the base's layers. Raises :class:`~xlnb.errors.RequestError` for an unknown one."""
        return named_partition(name, self.depth)

    # -- the outcomes

    def outcomes(
        self,
        methods: Iterable[str] | None = None,
        test_languages: Sequence[str] | None = None,
        partitions: Sequence[str] = ("C", COMPLEMENT),
        **changes: Any,
    ) -> pd.DataFrame:
        """Return the per-problem outcomes of the methods (all of them by default), computing those that are missing.

        Columns as :func:`xlnb.load_outcomes` has them. A method that uses a partition is evaluated under each of ``partitions``.
        ``changes`` replace fields of the profile's :class:`xlnb.Evaluation`, such as split or shots.
        """
        import pandas as pd

        evaluation = replace(self.profile.evaluation, **changes)
        cells = [
            (slug, partition, test_language)
            for slug in methods or METHODS
            for partition in (partitions if method(slug).uses_partition else ("",))
            for test_language in (test_languages or ("en", self.language))
        ]
        return pd.concat([self._cell(*cell, evaluation) for cell in cells], ignore_index=True)

    def sweep(self, bottoms: Sequence[int] = SWEEP_BOTTOMS, tops: Sequence[int] = SWEEP_TOPS) -> pd.DataFrame:
        """Return the outcomes of Layer-Swapping with the first ``bottoms`` and last ``tops`` layers to the language.

        Every pair of counts that fits the depth, read by likelihood on the development problems of the target language, with
        base and single experts beside them: a description, on problems by which nothing is chosen.
        """
        names = sweep_partitions(bottoms, tops, self.depth)
        return self.outcomes([*SINGLE_EXPERTS, SWAP], [self.language], names, split="development", readings=LIKELIHOODS,
                             problems=self.profile.development, generated=0)  # fmt: skip

    def swap_controls(self) -> pd.DataFrame:
        """Return the outcomes of Layer-Swapping by the named partitions and their controls, on the scored problems by
        likelihood, with base, single experts and soup beside them."""
        arms = [*SINGLE_EXPERTS, "soup", SWAP]
        return self.outcomes(arms, partitions=SWAP_CONTROLS, readings=LIKELIHOODS, generated=0)

    def validation(self) -> pd.DataFrame:
        """Return the outcomes, by every reading, of base, placebo and oracles on development problems of the target language.

        They tell what a reading is worth: the oracle should come first, a longer training before a shorter one, and the
        placebo, which learned the format alone, no better than the base. No merge is among them.
        """
        import pandas as pd

        arms, generated = (
            ["base", PLACEBO, *ORACLE_BUDGETS],
            min(self.profile.evaluation.problems, self.profile.development),
        )
        parts = [
            self.outcomes(arms, [self.language], split="development", readings=readings, generated=generated)
            for readings in VALIDATED
        ]
        return pd.concat(parts, ignore_index=True)

    def costs(self) -> pd.DataFrame:
        """Return what each group of readings costs the base on development problems: readings, problems, seconds.

        Columns also profile, language; seconds are of this machine, and were measured when the outcomes were computed.
        """
        import pandas as pd

        rows = []
        n = min(self.profile.development, self.profile.evaluation.problems)
        for name, readings in COST_GROUPS.items():
            usual = self.profile.evaluation
            evaluation = replace(usual, split="development", readings=readings, problems=n, generated=n)
            self._cell("base", "", self.language, evaluation)
            made = self._cell_path("base", "", self.language, evaluation).with_suffix(".json")
            rows.append((self.profile.name, self.language, name, n, artifacts.read_json(made)["seconds"]))
        return pd.DataFrame(rows, columns=["profile", "language", "readings", "problems", "seconds"])

    def base_by_shots(self, shots: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
        """Return the base's outcomes on development problems with different numbers of worked examples."""
        import pandas as pd

        n = self.profile.development
        parts = [
            self.outcomes(["base"], shots=k, split="development", problems=n, generated=n // 2, readings=SHOTS_READINGS)
            for k in shots
        ]
        return pd.concat(parts, ignore_index=True)

    def _cell(self, slug: str, partition: str, test_language: str, evaluation: Evaluation) -> pd.DataFrame:
        import pandas as pd

        path = self._cell_path(slug, partition, test_language, evaluation)
        if not path.is_file():
            spec = self._cell_spec(slug, partition, test_language, evaluation)
            merged = self.merged(slug, partition or "C")  # may train first, which has a provenance of its own
            started = time.time()
            with applied(self.base.model, merged):
                asked = evaluation.asked(test_language)
                rows = evaluate(self.base, asked, evaluation, title=f"{slug} {test_language}")
            artifacts.write_json(path.with_suffix(".json"), artifacts.provenance(spec, started))
            with artifacts.whole_file(path) as partial:  # last: its presence says that the cell is done
                rows.to_parquet(partial, index=False)
        rows = pd.read_parquet(path)
        return rows.assign(**self._keys(slug, partition, test_language, evaluation))[COLUMNS]

    def _cell_path(self, slug: str, partition: str, test_language: str, evaluation: Evaluation) -> Path:
        spec = self._cell_spec(slug, partition, test_language, evaluation)
        # The base has no seed: one evaluation serves all studies of the same vocabulary.
        home = self.home if method(slug).experts else self.home.parent / "base"
        name = "--".join(part.replace(" ", "-") for part in (slug, partition, test_language) if part)
        return home / "outcomes" / f"{name}-{artifacts.digest(spec)[:8]}.parquet"

    def _cell_spec(self, slug: str, partition: str, test_language: str, evaluation: Evaluation) -> dict[str, Any]:
        return {
            "base": self.base.fingerprint,
            "method": slug,
            "partition": str(self.partition(partition)) if partition else "",
            "experts": {expert: self.expert_spec(expert) for expert in method(slug).experts},
            "test_language": test_language,
            "evaluation": evaluation.spec(),
            "data": evaluation.asked(test_language).fingerprint,
        }

    def spec(self, experts: Sequence[str] = (MATH, LANGUAGE)) -> dict[str, Any]:
        """Return what determines this study's results with these experts: model, data, training and evaluation."""
        return {
            "seed": self.seed,
            "depth": self.depth,
            "language": self.language,
            "base": {
                "folder": self.base.folder.name,
                "fingerprint": self.base.fingerprint,
                "trimmed": self.profile.trimmed,
            },
            "experts": {expert: self.expert_spec(expert) for expert in experts},
            "evaluation": self.profile.evaluation.spec(),
        }

    def _keys(self, slug: str, partition: str, test_language: str, evaluation: Evaluation) -> dict[str, Any]:
        return {
            "profile": self.profile.name,
            "setting": "templates" if evaluation.benchmark == "templates" and self._own_data else "real",
            "model": self.profile.model,
            "language": self.language,
            "test_language": test_language,
            "paradigm": PARADIGM,
            "seed": self.seed if method(slug).experts else 0,
            "partition": partition,
            "method": slug,
            "expert": method(slug).expert,
            "split": evaluation.split,
            "benchmark": evaluation.benchmark,
            "shots": evaluation.shots,
        }


def evaluate_adapter(
    profile_name: str, adapter: Path | None, language: str, problems: int | None = None, **changes: Any
) -> pd.DataFrame:
    """Return the scores of an adapter (None: the base) on a benchmark: metric, value, low, high, n.

    ``changes`` replace fields of the profile's :class:`xlnb.Evaluation`, such as benchmark, shots or path. The whole vocabulary
    is kept where the profile does not trim or the problems are not our own. Raises :class:`~xlnb.errors.RequestError` for an
    unknown profile, benchmark or language, an unusable adapter folder and a wrong number of problems.
    """
    import pandas as pd

    from xlnb.stats import mean_interval

    chosen = named_profile(profile_name)
    evaluation = replace(chosen.evaluation, **changes)
    if evaluation.benchmark in ("belebele", "global-mmlu"):
        evaluation = replace(evaluation, readings=CHOICES, generated=0)
    if evaluation.benchmark == "mgsm":  # its problems and solutions are longer
        longer = max(evaluation.max_new_tokens, 256) if chosen.trimmed else evaluation.max_new_tokens
        evaluation = replace(evaluation, max_new_tokens=longer, readings=(CLOSING_NLL, *evaluation.readings))
    if problems is not None:
        evaluation = replace(evaluation, problems=problems, generated=min(problems, evaluation.generated))
    asked = evaluation.asked(language)
    vector = TaskVector.from_adapter(adapter) if adapter else TaskVector({})
    own = chosen.trimmed and evaluation.benchmark == "templates"
    kept_languages = tuple(dict.fromkeys(("en", language))) if own else None
    base = _shared_base(chosen.checkpoint(), kept_languages)
    with applied(base.model, vector):
        rows = evaluate(base, asked, evaluation)
    found = {metric: mean_interval(part["outcome"].to_numpy()) for metric, part in rows.groupby("metric", sort=False)}
    return pd.DataFrame(
        [(m, i.value, i.low, i.high, i.n) for m, i in found.items()], columns=["metric", "value", "low", "high", "n"]
    )


@lru_cache(maxsize=8)
def _formatted_corpus(
    text: str, language: str, n: int, seed: int, max_length: int, tokenizer: Any
) -> tuple[Example, ...]:
    # Two characters a token is fewer than any of our languages has: what is kept fits the training's length.
    name, path = name_and_path(text)
    return formatted(load_corpus(name, language, n, seed, path, max_characters=2 * max_length), tokenizer)


@lru_cache(maxsize=1)
def _shared_base(checkpoint: Path, kept_languages: tuple[str, ...] | None) -> Base:
    # One model in memory for studies that differ in their seed alone: training and merging leave the base as it was.
    return load_base(checkpoint, _vocabulary_texts(kept_languages) if kept_languages else None)


def _vocabulary_texts(languages: Sequence[str]) -> list[str]:
    """Return the texts whose tokens a trimmed vocabulary keeps: so large a sample of the corpora that no word is missing.

    It does not depend on a study's seed, so that all seeds share one vocabulary and one base.
    """
    texts: list[str] = []
    for code in languages:
        for split in templates.SPLITS:
            n = 400 if split == "few-shot" else 1000  # few-shot has no more than some 430 problems
            texts += [e.prompt + e.completion for e in templates.math_examples(code, split, n, seed=1000)]
        if code != "en":
            for seed in range(1000, 1005):
                texts += [e.prompt + e.completion for e in templates.language_examples(code, 4000, seed)]
    return [*texts, "\n\n"]
