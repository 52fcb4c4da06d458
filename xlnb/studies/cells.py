"""Cells: one method under one partition, asked one thing. A cell has a name, a place and an identity without a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.corpora.benchmarks import Benchmark
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import READINGS, allowed
from xlnb.methods import METHODS

OWN_BENCHMARKS = ("templates", "prose")  # what ships with the package

if TYPE_CHECKING:
    from xlnb.studies.study import Study


@dataclass(frozen=True)
class Cell:
    """A method of a study, its partition ("" where it uses none), and what it is asked in which language."""

    study: Study
    method: str
    partition: str
    test_language: str
    evaluation: Evaluation

    @property
    def benchmark(self) -> Benchmark:
        """The problems."""
        return _benchmark(self.evaluation, self.test_language)

    @property
    def readings(self) -> tuple[str, ...]:
        """The readings that are asked for and that the problems (and the number of answers) allow."""
        return _allowed(self.evaluation, self.test_language)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """What determines the outcomes: everything that made the model, and everything that is asked but for the readings."""
        return {"model": self._model, "asked": _asked(self.evaluation, self.test_language)[0]}

    @property
    def _model(self) -> dict[str, Any]:
        method, study = METHODS[self.method], self.study
        own = {"recipe": method.body} if method.body else {}  # of a reader, who may change it
        return own | {
            "base": study.base_spec,
            "method": self.method,
            "partition": study.partition(self.partition).shares if "M" in method.needs else None,
            "experts": {slug: study.expert_spec(slug, self.partition) for slug in method.experts},
        }

    @cached_property
    def trained(self) -> str:
        """A digest of everything that made the model, which many cells ask."""
        key = "model", self.method, self.partition
        if key not in self.study.digests:
            self.study.digests[key] = artifacts.digest(self._model)[:16]
        return self.study.digests[key]

    @property
    def asked(self) -> str:
        """A digest of what is asked; it takes no model, nor its weights."""
        return _asked(self.evaluation, self.test_language)[1]

    @cached_property
    def path(self) -> Path:
        """The file of the outcomes."""
        shots = f"{self.evaluation.benchmark}-{self.split}-{self.evaluation.shots}-shot"
        parts = (self.method, self.partition, self.test_language, shots)
        name = "--".join(part.replace(" ", "-").replace("/", "-") for part in parts if part)
        digest = artifacts.digest([self.trained, self.asked])[:8]
        return self.study.place(METHODS[self.method].experts).joinpath("outcomes", f"{name}-{digest}.parquet")

    @property
    def split(self) -> str:
        """The part of a corpus that is asked: of the word problems a split, of prose what no training has."""
        return "held-out" if self.evaluation.benchmark == "prose" else self.evaluation.split

    @property
    def needs(self) -> tuple[Path, ...]:
        """The folders of the experts that must be there first."""
        return tuple(self.study.expert_folder(slug, self.partition) for slug in METHODS[self.method].experts)

    @property
    def names(self) -> dict[str, Any]:
        """The columns of the outcomes that say what they are of, without a look at any weights."""
        study, method, evaluation = self.study, METHODS[self.method], self.evaluation
        return {
            "profile": study.profile.name,
            "setting": "templates" if evaluation.benchmark in OWN_BENCHMARKS and study.own_data else "real",
            "model": study.profile.model,
            "language": study.language,
            "test_language": self.test_language,
            "paradigm": study.paradigm,
            "seed": study.seed if method.experts else 0,
            "partition": self.partition,
            "method": self.method,
            "expert": method.expert,
            "split": self.split,
            "benchmark": evaluation.benchmark,
            "shots": evaluation.shots,
            "corpora": study.corpora(method.experts),
            "asked": self.asked,
        }


# A study asks the same of hundreds of models: what that is, is found once.
@lru_cache(maxsize=64)
def _problems(evaluation: Evaluation, language: str) -> Benchmark:
    return evaluation.asked(language)


def _benchmark(evaluation: Evaluation, language: str) -> Benchmark:
    """Return the problems, with what any reading may want of them."""
    return _problems(replace(evaluation, readings=tuple(READINGS)), language)


@lru_cache(maxsize=64)
def _allowed(evaluation: Evaluation, language: str) -> tuple[str, ...]:
    found = allowed(_benchmark(evaluation, language), evaluation.readings)
    return tuple(reading for reading in found if evaluation.generated or not READINGS[reading].generates)


@lru_cache(maxsize=64)
def _asked(evaluation: Evaluation, language: str) -> tuple[dict[str, Any], str]:
    data = _benchmark(evaluation, language).fingerprint
    spec = {"language": language, "evaluation": evaluation.spec(), "data": data}
    return spec, artifacts.digest(spec)[:16]
