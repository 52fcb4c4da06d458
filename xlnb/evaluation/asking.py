"""What is asked of a model, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

from xlnb.corpora.benchmarks import BENCHMARKS, Benchmark, load_benchmark
from xlnb.errors import RequestError, known
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, INFORMATIONS, LIKELIHOODS, READINGS

# Fields of an evaluation that some benchmarks read and others do not.
_OF_SOME = {"split", "shots", "exemplars", "exemplar_seed", "problem_seed", "reference", "twins"}


def check_read(benchmark: str, given: Iterable[str]) -> None:
    """Raise RequestError where one of the fields of an evaluation that were given is none that a benchmark reads.

    >>> check_read("mgsm", ["exemplars", "chat"])
    """
    read = signature(BENCHMARKS[known("benchmark", benchmark, BENCHMARKS)]).parameters
    for name in given:
        if name in _OF_SOME and name not in read:
            raise RequestError(f"The benchmark {benchmark} does not read {name}: leave it out.")


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a model, and how: the same for all methods of a comparison."""

    benchmark: str = "templates"  # or prose (held-out text), mgsm, belebele, global-mmlu
    split: str = "scored"  # of the templates corpus and the prose; the others have one
    problems: int = 200  # problems whose solutions are scored by likelihood
    generated: int = 64  # of these, the first so many are answered by generation
    shots: int = 2  # worked examples before each problem
    exemplars: str = "native"  # of MGSM: their language, see xlnb.corpora.benchmarks.mgsm
    exemplar_seed: int = 0  # which worked examples: the same for all methods
    problem_seed: int = 0  # which problems
    max_new_tokens: int = 110  # an answer is cut there, or at the first of the stops
    batch_size: int = 32  # rows of a likelihood batch; fixed, since it may change the last bits of a score
    generation_batch_size: int = 64  # rows of a generation batch
    readings: tuple[str, ...] = (*LIKELIHOODS, *INFORMATIONS, EXPRESSION, EXACT_MATCH)
    path: str | None = None  # of a local copy of the benchmark; from the hub where there is none
    reference: str | None = None  # of MGSM: a GSM8K test file, whose solutions are scored
    stops: tuple[str, ...] = ()  # texts that end an answer; the benchmark's own where none is given
    chat: bool = False  # whether problems are asked in the model's own chat template
    twins: bool = False  # of the templates: whether every other problem is the twin of the one before

    def __post_init__(self) -> None:
        if not self.readings:
            raise RequestError("No reading is asked for.")
        if unknown := [reading for reading in self.readings if reading not in READINGS]:
            raise RequestError(f"No reading {unknown[0]!r}: choose among {', '.join(READINGS)}.")
        if not 0 <= self.generated <= self.problems or self.problems < 1:
            raise RequestError(
                f"problems={self.problems} and generated={self.generated}: ask for at least one problem, and generate "
                "answers to at most as many."
            )
        for name in ("shots", "max_new_tokens", "batch_size", "generation_batch_size"):
            if getattr(self, name) < (0 if name == "shots" else 1):
                raise RequestError(f"Evaluation.{name} is {getattr(self, name)}: it is too small.")

    def asked(self, language: str) -> Benchmark:
        """Return the benchmark with the problems of a language, as :func:`xlnb.corpora.benchmarks.load_benchmark` does."""
        options: dict[str, Any] = {"n": self.problems, "shots": self.shots}
        if self.benchmark == "prose":
            options = {"n": self.problems, "split": self.split}
        if self.benchmark == "templates":
            options |= {name: getattr(self, name) for name in ("split", "problem_seed", "exemplar_seed", "twins")}
        if self.benchmark == "mgsm":
            options |= {name: getattr(self, name) for name in ("exemplars", "exemplar_seed", "reference")}
        return load_benchmark(self.benchmark, language, self.path, **options)

    def spec(self) -> dict[str, Any]:
        """Return the fields that may change an outcome: neither which others are read, nor where the data lie.

        A field that is added later belongs here only where it is not at its default: else all that is committed is asked anew.
        """
        added = {name for name in ("stops", "chat", "twins") if not getattr(self, name)}
        left_out = {"readings", "path", "reference", *added}
        return {name: value for name, value in asdict(self).items() if name not in left_out}
