"""Swaps under measured partitions among the comparison's outcomes: each of them, their mean, and the best in hindsight."""

from __future__ import annotations

import pandas as pd

from xlnb.analysis.fitting import FITTED
from xlnb.evaluation.readings import PRIMARY
from xlnb.studies.claims import RANDOM
from xlnb.studies.comparisons import Arm
from xlnb.studies.experiments import SWAP
from xlnb.studies.outcomes import COLUMNS, committed_outcomes, select
from xlnb.studies.study import Study

MEASURED: Arm = (SWAP, f"measured, mean of {len(FITTED)}")
HINDSIGHT: Arm = (SWAP, "best in hindsight")
_TRAINING = ["language", "seed"]


def with_fitted(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return outcomes with those of committed swaps under measured partitions, of the trainings that the others have.

    Where a language or a training lacks them they are left out: averages need all of them.
    """
    found = _committed(study)
    wanted = select(outcomes, method=SWAP)[_TRAINING].drop_duplicates()
    there = found[[*_TRAINING, "partition"]].drop_duplicates().merge(wanted).groupby("partition").size()
    whole = there[there == len(wanted)].index
    mine = found[found["partition"].isin(whole)].merge(wanted)
    return pd.concat([outcomes, mine[COLUMNS]], ignore_index=True) if len(mine) else outcomes


def where_fitted(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return outcomes of the trainings that have committed swaps under every measured partition.

    Only of the languages with the most such trainings: averages over languages need the same ones in each.
    """
    there = _committed(study)[[*_TRAINING, "partition"]].drop_duplicates().groupby(_TRAINING).size()
    whole = there[there == len(FITTED)].reset_index()[_TRAINING]
    most = whole.groupby("language")["seed"].transform("size")
    return outcomes.merge(whole[most == most.max()])


def _committed(study: Study) -> pd.DataFrame:
    alike = {"paradigm": study.paradigm, "partition": list(FITTED)}
    return committed_outcomes(study.results, "fitted", profile=study.profile.name, **alike)


def with_the_best(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return outcomes with two arms more: the measured partitions taken together, and for each language and training the
    partition whose mean outcome on these very problems is the highest.

    Nobody could have chosen the latter: it is chosen by what it is scored on, and a little of it is luck.
    """
    swaps = outcomes[(outcomes["method"] == SWAP) & (outcomes["partition"] != RANDOM[1])]
    swaps = swaps[swaps["test_language"] == swaps["language"]]
    measured = select(swaps, partition=list(FITTED))
    if measured.empty:
        return outcomes
    keys = [column for column in COLUMNS if column not in ("partition", "trained", "outcome", "text")]
    pooled = measured.groupby(keys, sort=False, as_index=False)["outcome"].mean().assign(partition=MEASURED[1])
    means = select(swaps, metric=PRIMARY).groupby(["language", "seed", "partition"])["outcome"].mean()
    best = pd.DataFrame([*means.groupby(["language", "seed"]).idxmax()], columns=["language", "seed", "partition"])
    chosen = swaps.merge(best).assign(partition=HINDSIGHT[1])
    parts = [outcomes, *(one.assign(trained="", text=None)[COLUMNS] for one in (pooled, chosen))]
    return pd.concat(parts, ignore_index=True)
