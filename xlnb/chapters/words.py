"""Numbers in words and tables: what a comparison shows, what it does not, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xlnb.evaluation.readings import METRICS, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import label
from xlnb.studies.comparisons import _VERDICTS

if TYPE_CHECKING:
    import pandas as pd


def amount(value: float, low: float, high: float, metric: str, signed: bool = False) -> str:
    """Return a value with its interval in the metric's unit: nats per token, or percent (points where ``signed``).

    >>> amount(0.125, 0.05, 0.2, "exact-match", signed=True)
    '+12.5 points [+5.0, +20.0]'
    """
    unit = "nats" if READINGS[metric].unit == "nats" else "points" if signed else "%"
    mean, _, interval = bare_amount(value, low, high, metric, signed).partition(" ")
    return f"{mean} {unit} {interval}"


def bare_amount(value: float, low: float, high: float, metric: str, signed: bool = False) -> str:
    """Return what :func:`amount` does without the unit, for a table whose header has it.

    >>> bare_amount(1.5, 1.25, 1.75, "nll")
    '1.500 [1.250, 1.750]'
    """
    factor, digits = (100, 1) if READINGS[metric].unit == "%" else (1, 3)
    mean, start, end = (f"{factor * number:{'+' if signed else ''}.{digits}f}" for number in (value, low, high))
    return f"{mean} [{start}, {end}]".replace("-", "−")


def scores_table(scores: pd.DataFrame, caption: str = "") -> Any:
    """Return a table of scores with intervals: a row a method (and test language, if several), a column a metric."""
    scores = scores[scores["metric"].isin(METRICS)].sort_values("metric", key=_shown_order, kind="stable")
    rows = list(scores.itertuples())
    several = scores["test_language"].nunique() > 1
    table = scores.assign(
        model=[label(r.method, r.partition) + several * f", {LANGUAGE_NAMES[r.test_language]}" for r in rows],
        column=[f"{READINGS[r.metric].title} ({READINGS[r.metric].unit_in_words})" for r in rows],
        shown=[bare_amount(r.value, r.low, r.high, r.metric) for r in rows],
    )
    built = _grid(table, "model")
    return built.tab_header(title=caption) if caption else built


def _shown_order(metrics: pd.Series) -> pd.Series:
    return metrics.map({metric: place for place, metric in enumerate(METRICS)})


def _grid(table: pd.DataFrame, rows: str) -> Any:
    """Lay out ``shown`` as a table, its rows and columns in the order in which they first come."""
    from great_tables import GT

    wide = table.pivot(index=rows, columns="column", values="shown")
    wide = wide.loc[list(dict.fromkeys(table[rows])), list(dict.fromkeys(table["column"]))]
    return GT(wide.reset_index(), rowname_col=rows).tab_options(table_font_size="80%")


def caveat(profile: str) -> str:
    """Return the warning that numbers of the smoke profile are none."""
    if profile != "smoke":
        return ""
    return "*This is the `smoke` profile: a model of random weights and a few steps. These numbers are **not a result**.*\n\n"


def versions_line(versions: Mapping[str, str]) -> str:
    """Return the versions that numbers depend on, as one line of Markdown."""
    return "Made with " + ", ".join(f"{name} {number}" for name, number in versions.items()) + "."


def figure_title(outcomes: pd.DataFrame, test_language: str | None = None) -> str:
    """Return what a figure's reader must know: model, how many problems and trainings, in which language."""
    n = outcomes.groupby("metric")["problem"].nunique()
    trained = outcomes[outcomes["method"] != "base"]["seed"].nunique()
    where = f"{LANGUAGE_NAMES[test_language]}, " if test_language else ""
    trainings = f"{trained} trainings of each expert" if trained > 1 else "one training of each expert"
    answered = f", {n['expression']} by answer" if "expression" in n else ""
    return f"{outcomes['model'].iloc[0]}, {where}{n['nll']} problems by likelihood{answered}; {trainings}"


def differences_table(differences: pd.DataFrame) -> Any:
    """Return a table of contrasts: a row a pair, a column a metric, each cell with interval and verdict."""
    rows = list(differences.itertuples())
    table = differences.assign(
        column=[
            f"{READINGS[r.metric].title} ({READINGS[r.metric].unit_in_words.replace('%', 'points')})" for r in rows
        ],
        shown=[f"{bare_amount(r.difference, r.low, r.high, r.metric, signed=True)} {r.verdict}" for r in rows],
    )
    return _grid(table, "name")


def reading(differences: pd.DataFrame, test_language: str) -> str:
    """Return the contrasts in words, as Markdown: for each metric what is better, what is worse, and what is not shown."""
    bullets = []
    for metric, part in differences.groupby("metric", sort=False):
        told = [
            f"{word}: {'; '.join(names)}"
            for word in _VERDICTS
            if (names := list(part[part["verdict"] == word]["name"]))
        ]
        bullets.append(
            f"- **{READINGS[metric].title}**. " + ". ".join(f"{text[0].upper()}{text[1:]}" for text in told) + "."
        )
    n, seeds = differences["n"].max(), differences["seeds"].max()
    trainings = f"{seeds} trainings" if seeds > 1 else "one training"
    return (
        f"{LANGUAGE_NAMES[test_language]}, up to {n} problems, {trainings}. *Better* and *worse* mean that the difference is "
        "shown at 5 %, after Holm's correction for the comparisons of this table on each reading; *not shown* that it is not. "
        "The 95 % intervals are not corrected.\n\n" + "\n".join(bullets)
    )
