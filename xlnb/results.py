"""The committed results that the book reads: outcomes problem by problem, and the scores computed from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import RequestError
from xlnb.evaluation import INFORMATIONS
from xlnb.methods import LANGUAGE, MATH, ORACLE_BUDGETS, PLACEBO
from xlnb.partitions import COMPLEMENT
from xlnb.paths import results_folder
from xlnb.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies import Study

KEYS = ["profile", "setting", "model", "language", "test_language", "paradigm", "seed", "partition", "method", "expert",
        "split", "benchmark", "shots", "metric"]  # fmt: skip
COLUMNS = [*KEYS, "problem", "outcome", "text"]

# What the chapter on Layer-Swapping compares, live or from committed results.
SWAP = "layer-swapping"
SINGLE_EXPERTS = ("base", "math-only", "language-only")
SWEEP_BOTTOMS, SWEEP_TOPS = (0, 1, 2, 3, 4, 6), (0, 1, 2, 4)
RANDOM_CONTROLS = tuple(f"random {seed} of C" for seed in range(5))
SWAP_CONTROLS = ("C", COMPLEMENT, *RANDOM_CONTROLS, "half and half", "predecessor", "A", "complement of A", "B")


def sweep_partitions(bottoms: Sequence[int], tops: Sequence[int], depth: int) -> list[str]:
    """Return the names of the partitions with so many first and last layers to the language, those that fit ``depth``.

    >>> sweep_partitions([0, 2], [0, 1], 2)
    ['outer 0+0', 'outer 0+1', 'outer 2+0']
    """
    return [f"outer {bottom}+{top}" for bottom in bottoms for top in tops if bottom + top <= depth]


def load_outcomes(folder: str | Path | None = None, experiment: str | None = None, **filters: Any) -> pd.DataFrame:
    """Return the per-problem outcomes behind all committed results, or those of one ``experiment``.

    Columns: profile, setting (templates or real), model, language (the study's), test_language, paradigm, seed, partition,
    method, expert (math, language, both, none), split, benchmark, shots, metric, problem, outcome, text (the generated answer,
    if any). ``filters`` keep the rows whose column equals a value or is in a list of them. Raises
    :class:`~xlnb.errors.RequestError` for an unknown column and where there are no results.
    """
    import pandas as pd

    home = Path(folder or results_folder())
    files = sorted(home.glob("*/outcomes.parquet"))
    if not files:
        raise RequestError(f"No results in {home}: it holds no folder with an outcomes.parquet.")
    if experiment is not None:
        files = [file for file in files if _is_of(file.parent.name, experiment)]
    if not files:
        raise RequestError(f"No committed result of the experiment {experiment!r} in {home}.")
    return select(distinct(pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)), **filters)


def load_scores(folder: str | Path | None = None, experiment: str | None = None, **filters: Any) -> pd.DataFrame:
    """Return all committed results, a row a score: the keys of :func:`load_outcomes`, then value, low, high, n.

    ``low`` and ``high`` bound the 95 % interval over problems. The base has seed 0. Raises as :func:`load_outcomes`.
    """
    return scores(load_outcomes(folder, experiment, **filters))


def load_costs(folder: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Return what groups of readings cost, as :meth:`xlnb.Study.costs` measured them: profile, language, readings, problems,
    seconds. Raises :class:`~xlnb.errors.RequestError` where none are committed.
    """
    import pandas as pd

    home = Path(folder or results_folder())
    files = sorted(home.glob(f"{MEASURING}*/costs.parquet"))
    if not files:
        raise RequestError(f"No costs of readings in {home}: it holds no {MEASURING} with a costs.parquet.")
    return select(pd.concat([pd.read_parquet(file) for file in files], ignore_index=True), **filters)


def _is_of(name: str, experiment: str) -> bool:
    """Say whether a result's folder is named after the experiment: ``first-swap`` or ``first-swap-bn``."""
    return name == experiment or name.startswith(f"{experiment}-")


def distinct(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return each outcome once: the base belongs to every seed of a language and would otherwise count with each."""
    return outcomes.drop_duplicates([*KEYS, "problem"]).reset_index(drop=True)


def select(outcomes: pd.DataFrame, **filters: Any) -> pd.DataFrame:
    """Return the rows whose columns equal the given values, or are among the given lists.

    Raises :class:`~xlnb.errors.RequestError` for a column that is not there.
    """
    for column, wanted in filters.items():
        if column not in outcomes:
            raise RequestError(f"Outcomes have no column {column!r}: choose among {', '.join(outcomes.columns)}.")
        allowed = wanted if isinstance(wanted, list | tuple | set) else [wanted]
        outcomes = outcomes[outcomes[column].isin(allowed)]
    return outcomes.reset_index(drop=True)


def scores(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each score's outcomes with its interval over problems: the keys, value, low, high, n."""
    rows = []
    for key, group in outcomes.groupby(KEYS, sort=False):
        interval = mean_interval(group["outcome"].to_numpy())
        rows.append((*key, interval.value, interval.low, interval.high, interval.n))
    import pandas as pd

    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n"])


@dataclass(frozen=True)
class Experiment:
    """What is computed and published together: the experts trained for it, their outcomes, and tables besides."""

    experts: tuple[str, ...]
    outcomes: Callable[[Study], list[pd.DataFrame]]
    tables: Mapping[str, Callable[[Study], pd.DataFrame]] = field(default_factory=dict)


MEASURING = "measuring"
EXPERIMENTS: dict[str, Experiment] = {
    "first-swap": Experiment((MATH, LANGUAGE), lambda study: [study.outcomes(), study.base_by_shots()]),
    # What the outcomes of first-swap were published without: the readings that chapter 02 added.
    "first-swap-information": Experiment(
        (MATH, LANGUAGE),
        lambda study: [study.outcomes(readings=INFORMATIONS, generated=0)],
    ),
    SWAP: Experiment((MATH, LANGUAGE), lambda study: [study.sweep(), study.swap_controls()]),
    MEASURING: Experiment(
        (PLACEBO, *ORACLE_BUDGETS), lambda study: [study.validation()], {"costs": lambda study: study.costs()}
    ),
}


def named_experiment(name: str) -> Experiment:
    """Return an experiment by its name. Raises :class:`~xlnb.errors.RequestError` for an unknown one."""
    if name not in EXPERIMENTS:
        raise RequestError(f"No experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def publish(
    studies: Iterable[Study], name: str, folder: str | Path | None = None, experiment: str = "first-swap"
) -> Path:
    """Write an experiment's outcomes of studies, finishing those that are not, as the committed result ``name``.

    Returns its folder, which receives outcomes.parquet, training.parquet (loss by step of each expert), the experiment's other
    tables and provenance.json.
    Raises :class:`~xlnb.errors.RequestError` for a name that is none and an unknown experiment.
    """
    import time

    import pandas as pd

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise RequestError(f"A result is named by small letters, digits and hyphens, not {name!r}.")
    chosen = named_experiment(experiment)
    if not _is_of(name, experiment):
        raise RequestError(f"A result of {experiment} is named {experiment} or {experiment}-SOMETHING, not {name!r}.")
    started = time.time()
    parts: dict[str, list[pd.DataFrame]] = {"outcomes": [], "training": [], **{table: [] for table in chosen.tables}}
    specs = []
    for study in studies:
        parts["outcomes"] += chosen.outcomes(study)
        keys = {"profile": study.profile.name, "language": study.language, "seed": study.seed}
        parts["training"] += [study.history(slug).assign(**keys, expert=slug) for slug in chosen.experts]
        for table, make in chosen.tables.items():
            parts[table].append(make(study))
        specs.append(study.spec(chosen.experts))
    out = Path(folder or results_folder()) / name
    for table, some in parts.items():
        whole = pd.concat(some, ignore_index=True)
        whole = distinct(whole) if table == "outcomes" else whole.drop_duplicates(ignore_index=True)
        with artifacts.whole_file(out / f"{table}.parquet") as partial:
            whole.to_parquet(partial, index=False, compression="zstd")
    artifacts.write_json(
        out / "provenance.json", artifacts.provenance({"experiment": experiment, "studies": specs}, started)
    )
    return out


def reread(name: str, folder: str | Path | None = None) -> int:
    """Read a committed result's stored answers again, by today's :mod:`xlnb.answers`; return how many outcomes changed.

    Answers are kept as text, so that a better reading needs no model. What changed is noted in provenance.json. Only our own
    problems are known here; other benchmarks' rows stay. Raises :class:`~xlnb.errors.RequestError` where there is no such result.
    """
    import time

    import pandas as pd

    from xlnb.benchmarks import templates_benchmark
    from xlnb.evaluation import READINGS, answer_readings

    home = Path(folder or results_folder()) / name
    if not (home / "outcomes.parquet").is_file():
        raise RequestError(f"No committed result {name!r} in {home.parent}.")
    table = pd.read_parquet(home / "outcomes.parquet")
    generated = [metric for metric, reading in READINGS.items() if reading.generates]
    rows = table[table["metric"].isin(generated) & (table["benchmark"] == "templates")]
    outcomes = table["outcome"].copy()
    for (language, split), part in rows.groupby(["test_language", "split"]):
        n = 1 + int(part["problem"].str.rpartition("-")[2].astype(int).max())
        items = {item.id: item for item in templates_benchmark(language, split, n).items}
        for row in part.itertuples():
            outcomes[row.Index] = answer_readings(items[row.problem], row.text)[row.metric]
    changed = int((outcomes != table["outcome"]).sum())
    if changed:
        with artifacts.whole_file(home / "outcomes.parquet") as partial:
            table.assign(outcome=outcomes).to_parquet(partial, index=False, compression="zstd")
        made = artifacts.read_json(home / "provenance.json")
        again = {"outcomes changed": changed, **artifacts.provenance({}, time.time())}
        artifacts.write_json(home / "provenance.json", made | {"reread": [*made.get("reread", []), again]})
    return changed


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
