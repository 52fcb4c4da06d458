"""Experiments, and how their outcomes become committed results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xlnb import artifacts
from xlnb.errors import RequestError
from xlnb.evaluation.readings import INFORMATIONS
from xlnb.methods import LANGUAGE, MATH, ORACLE_BUDGETS, PLACEBO
from xlnb.paths import results_folder
from xlnb.studies.experiments import MEASURING, SWAP
from xlnb.studies.outcomes import _is_of, distinct

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies.study import Study


@dataclass(frozen=True)
class Experiment:
    """What is computed and published together: the experts trained for it, their outcomes, and tables besides."""

    experts: tuple[str, ...]
    outcomes: Callable[[Study], list[pd.DataFrame]]
    tables: Mapping[str, Callable[[Study], pd.DataFrame]] = field(default_factory=dict)


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

    from xlnb.corpora.benchmarks import templates_benchmark
    from xlnb.evaluation.readings import READINGS
    from xlnb.evaluation.scoring import answer_readings

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
