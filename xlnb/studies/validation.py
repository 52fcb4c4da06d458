"""What a metric is worth: does it tell an oracle from a placebo and from the numbers alone, and at what price?"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from xlnb import stats
from xlnb.evaluation.readings import (
    CHOICE,
    COST_GROUPS,
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_INFORMATION,
    EXPRESSION_NLL,
    PRIMARY,
    READINGS,
    TWIN_INFORMATION,
    TWINS,
    VALIDATED,
    calibrated,
)
from xlnb.evaluation.shortcuts import EXACT, FIRST, NUMBERS, shortcuts
from xlnb.languages import in_order
from xlnb.methods import ORACLE, ORACLE_BUDGETS, PLACEBO
from xlnb.studies import claims
from xlnb.studies.comparisons import BETTER, judged
from xlnb.studies.outcomes import costs_for, select

CANDIDATES = tuple(metric for metric in READINGS if metric in VALIDATED)
TRAININGS = 3  # for which problems are counted in the choice of the primary metric
SHARE_SEEN = 0.25  # of the oracle's gain: the difference that should be seen
MOST_FORMAT = 0.25  # the placebo may gain at most this share of what the oracle gains


def worth_of_metrics(outcomes: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return what each metric is worth, a row a metric, by base, placebo and oracles of one language.

    metric; ``ordered``: the share of trainings in which base, quarter, half and whole oracle come in this order; ``gain``: the
    oracle's over the base, in units, and its ``verdict``; ``apart``: the verdict of oracle against placebo; ``placebo``: the
    share of the gain that the placebo has, too (NaN where no gain is significant); ``numbers``: the share of it that a reader of
    the numbers alone has (:func:`numbers_alone`); ``retest``: Spearman's correlation of the
    gains by problem between trainings (NaN for one); ``effect``: the gain in standard deviations of it over problems;
    ``problems``: how many show a quarter of the gain with three trainings (80 % power; NaN where no number does); ``seconds`` a
    100 problems and model; ``minutes``: for that many problems. Source: ours.
    """
    rows = []
    rate = dict(zip(costs["readings"], costs["seconds"] / costs["problems"], strict=True))
    gained, apart = (
        judged(family, outcomes).set_index("metric")["verdict"] for family in (claims.VALIDATION, claims.FORMAT)
    )
    alone = numbers_alone(outcomes)
    for metric in CANDIDATES:
        gains = signed_gains(select(outcomes, metric=metric), metric)
        # 0 is the base; the oracles come in the order of their budgets.
        steps = np.diff([0 * gains[ORACLE].mean(axis=1), *(gains[arm].mean(axis=1) for arm in ORACLE_BUDGETS)], axis=0)
        gain, spread = gains[ORACLE].mean(), gains[ORACLE].mean(axis=0).std(ddof=1)
        shown = gained[metric] == BETTER
        components = stats.variance_components(gains[ORACLE])
        seen = stats.needed_problems(SHARE_SEEN * gain, components, TRAININGS) if shown else None
        problems = float("nan") if seen is None else seen
        cheapest = min(rate[name] for name, readings in COST_GROUPS.items() if metric in readings)
        rows.append({
            "metric": metric,
            "ordered": float((steps > 0).all(axis=0).mean()),
            "gain": READINGS[metric].scale * gain,
            "verdict": gained[metric],
            "apart": apart[metric],
            "placebo": gains[PLACEBO].mean() / gain if shown else float("nan"),
            "numbers": alone.get(metric, float("nan")) if shown else float("nan"),
            "retest": stats.spearman_test_retest(gains[ORACLE]) if len(gains[ORACLE]) > 1 else float("nan"),
            "effect": gain / spread if spread else float("nan"),
            "problems": problems,
            "seconds": 100 * cheapest,
            "minutes": problems * cheapest / 60,
        })  # fmt: skip
    return pd.DataFrame(rows)


def numbers_alone(outcomes: pd.DataFrame) -> dict[str, float]:
    """Return the share of the oracle's gain over the base that a reader of the numbers alone has, by metric, where there is one.

    Behind the twin's text the numbers are right and the words are not: what the oracle gains there on the calculations is what
    the numbers give. Twins are told apart by words alone, so there it is none. Where answers are counted, a random forest that
    saw the numbers of training problems takes the reader's place. Metrics of whole solutions or of the language of answers do
    not ask for calculations: no such reader is defined. Source: ours.
    """

    def gain(metric: str) -> float:
        return float(signed_gain(select(outcomes, metric=metric), metric, ORACLE).mean())

    found = dict.fromkeys((*TWINS, calibrated(TWIN_INFORMATION)), 0.0)
    for metric in (EXPRESSION_NLL, EXPRESSION_INFORMATION):
        found[metric] = 1 - _ratio(gain(TWIN_INFORMATION), gain(metric))
        found[calibrated(metric)] = 1 - _ratio(gain(calibrated(TWIN_INFORMATION)), gain(calibrated(metric)))
    forest = _forest(str(outcomes["test_language"].iloc[0]))
    for metric, asked in ((CHOICE, FIRST), (EXPRESSION, EXACT), (EXACT_MATCH, EXACT)):
        base = select(outcomes, metric=metric, method="base")["outcome"].mean()
        found[metric] = _ratio(float(forest[asked] - base), gain(metric))
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@lru_cache(maxsize=8)
def _forest(language: str) -> pd.Series:
    found = shortcuts(language, "development", readers=(NUMBERS,))
    return found.set_index("asked")["value"]


def signed_gains(part: pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    """Return for each trained arm the (seeds x problems) table of what it gains over the base on a metric; more is better."""
    return {arm: signed_gain(part, metric, arm) for arm in (*ORACLE_BUDGETS, PLACEBO)}


def signed_gain(part: pd.DataFrame, metric: str, arm: str) -> np.ndarray:
    """Return the (seeds x problems) table of what one arm gains over the base on a metric; more is better."""
    return (1 if READINGS[metric].higher_is_better else -1) * gains_over_base(part, arm)


def gains_over_base(part: pd.DataFrame, arm: str) -> np.ndarray:
    """Return the (seeds x problems) table of an arm minus the base, on one metric."""
    return stats.paired_table(*(part[part["method"] == method] for method in (arm, "base")))


def best_metric(worth: pd.DataFrame, most: float = MOST_FORMAT) -> str | None:
    """Return the metric to be named primary, by a rule said before any merge is looked at; None where none qualifies.

    Qualified is a metric that puts base and oracles in order in every training and gives the placebo, and a reader of the
    numbers alone, at most a quarter (``most``) of the oracle's gain: it measures the task, and neither format nor numbers. Of
    those, the one that takes the least time to show a quarter of the oracle's gain. Source: ours.
    """
    qualified = (worth["ordered"] == 1) & (worth["placebo"] <= most) & (worth["numbers"] <= most)
    fit = worth[qualified].dropna(subset=["minutes"])
    return None if fit.empty else str(fit.sort_values("minutes")["metric"].iloc[0])


def effects(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return what each trained arm gains over the base on each metric, in standard deviations of the oracle's gain over problems.

    metric, method, value, low, high. Where all problems gain alike there is no such unit: NaN, or 0 where nothing is gained.
    """
    rows = []
    for metric in CANDIDATES:
        gains = signed_gains(select(outcomes, metric=metric), metric)
        spread = float(gains[ORACLE].mean(axis=0).std(ddof=1))
        for arm, gain in gains.items():
            i = stats.crossed_interval(gain)
            ends = [
                end / spread if spread else 0.0 if not gain.any() else float("nan") for end in (i.value, i.low, i.high)
            ]
            rows.append((metric, arm, *ends))
    return pd.DataFrame(rows, columns=["metric", "method", "value", "low", "high"])


def is_fooled(found: pd.DataFrame) -> bool:
    """Say whether the placebo has more than a quarter of the oracle's gain, by one metric's rows of :func:`effects`."""
    value = found.set_index("method")["value"]
    return bool(value[PLACEBO] > MOST_FORMAT * value[ORACLE])


def by_language(outcomes: pd.DataFrame, costs: pd.DataFrame, metric: str = PRIMARY) -> pd.DataFrame:
    """Return what a metric is worth in each target language, a row a language, the outcomes being of several studies.

    language; trainings; ``ordered``, ``problems``, ``verdict`` (of the oracle's gain), ``numbers`` as
    :func:`worth_of_metrics` has them; what oracle and placebo gain over the base, each with its interval, in units (``gain``,
    ``gain_low``, ``gain_high``, ``placebo``, ``placebo_low``, ``placebo_high``); ``named``: the metric that the rule names
    there, or empty. Source: ours.
    """
    rows = []
    for language in in_order(outcomes["language"]):
        mine = select(outcomes, language=language)
        worth = worth_of_metrics(mine, costs_for(costs, language))
        gains = signed_gains(select(mine, metric=metric), metric)
        found: dict[str, Any] = {
            "language": language,
            "trainings": len(gains[ORACLE]),
            **worth.set_index("metric").loc[metric, ["ordered", "problems", "verdict", "numbers"]],
            "named": best_metric(worth) or "",
        }
        for name, arm in (("gain", ORACLE), ("placebo", PLACEBO)):
            i = stats.crossed_interval(READINGS[metric].scale * gains[arm])
            found |= {name: i.value, f"{name}_low": i.low, f"{name}_high": i.high}
        rows.append(found)
    return pd.DataFrame(rows)


def noise(outcomes: pd.DataFrame, metric: str, arm: str = ORACLE) -> stats.Components:
    """Return the variance components of an arm's paired differences to the base."""
    return stats.variance_components(gains_over_base(select(outcomes, metric=metric), arm))
