"""Outcomes of a study that validates metrics, with gains that are said, and what metrics are worth as it is said."""

import numpy as np
import pandas as pd

from xlnb.evaluation.readings import PRIMARY, READINGS
from xlnb.evaluation.shortcuts import EXACT, FIRST
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.studies import validation
from xlnb.studies.comparisons import BETTER
from xlnb.studies.validation import CANDIDATES

BUDGETS = tuple(ORACLE_BUDGETS)
REAL_FOREST = validation._forest  # before a test says what it finds
FOREST = pd.Series(
    {FIRST: 1.45, EXACT: 1.25}
)  # of a base of 1.25 and an oracle that gains 2: a tenth of it, and nothing
# Of three trainings (rows) and four problems: what each arm gains over the base.
ORACLE_GAINS = 1.5 + np.array([[0.2, 0.4, 0.6, 0.8], [0.4, 0.2, 0.8, 0.6], [0.3, 0.3, 0.7, 0.7]])
GAINS = {
    "oracle-quarter": np.full((3, 4), 0.1),
    "oracle-half": np.array([[0.3] * 4, [2.4] * 4, [0.3] * 4]),  # in the second training it gains more than the oracle
    ORACLE: ORACLE_GAINS,
    PLACEBO: np.array([[0.0, 0.4, 0.0, 0.4], [0.4, 0.0, 0.4, 0.0], [0.2] * 4]),
}
USUAL_BASE = np.array([[0.5, 1.0, 1.5, 2.0]])
ONE_TRAINING = {arm: table[:1] for arm, table in GAINS.items()}
COSTS = pd.DataFrame(
    [
        ("likelihood", 100, 20.0),
        ("likelihood and forced choice", 100, 80.0),
        ("information", 50, 25.0),
        ("twin-information", 50, 20.0),
        ("twins", 100, 45.0),
        ("calibrated likelihood", 100, 30.0),
        ("calibrated information", 100, 70.0),
        ("calibrated twin-information", 100, 60.0),
        ("generation", 10, 60.0),
    ],
    columns=["readings", "problems", "seconds"],
).assign(profile="pocket", language="sw")


def validated(gains=GAINS, metrics=CANDIDATES, language="sw", base=USUAL_BASE):
    """Outcomes as a study's validation has them, with these gains on every metric, the base with one seed alone."""
    tables = []
    for metric in metrics:
        sign = 1 if READINGS[metric].higher_is_better else -1
        arms = {"base": base} | {arm: base + sign * np.asarray(gain, float) for arm, gain in gains.items()}
        for arm, table in arms.items():
            rows = [(seed, f"development-{p:06d}", value) for (seed, p), value in np.ndenumerate(table)]
            frame = pd.DataFrame(rows, columns=["seed", "problem", "outcome"])
            tables.append(
                frame.assign(metric=metric, method=arm, partition="", test_language=language, language=language)
            )
    return pd.concat(tables, ignore_index=True).assign(benchmark="templates", split="development", shots=2, model="m")


def in_languages(**gains):
    """Outcomes of a study in each language with these gains on the primary metric, and what they cost."""
    usual = [metric for metric in CANDIDATES if metric != PRIMARY]
    outcomes = [
        pd.concat([validated(arms, [PRIMARY], code), validated(GAINS, usual, code)]) for code, arms in gains.items()
    ]
    return pd.concat(outcomes), pd.concat([COSTS.assign(language=code) for code in gains])


STEADY = {arm: np.array([[0.9, 1.1, 0.9, 1.1]] * 3) * share for arm, share in ORACLE_BUDGETS.items()}
NO_FORMAT = {PLACEBO: np.array([[-0.2, 0.0, -0.2, 0.0]] * 3)}
ONCE = {arm: table[:1] for arm, table in (STEADY | NO_FORMAT).items()}


def worth_of(*rows, verdict=BETTER, apart=BETTER, numbers=0.0):
    """A table as validation gives it, of rows (metric, ordered, placebo, problems, minutes)."""
    table = pd.DataFrame(rows, columns=["metric", "ordered", "placebo", "problems", "minutes"])
    table = table.astype({"problems": float, "minutes": float})  # None becomes NaN
    return table.assign(gain=1.0, retest=0.5, effect=1.0, seconds=10.0, verdict=verdict, apart=apart, numbers=numbers)
