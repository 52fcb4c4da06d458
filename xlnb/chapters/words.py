"""Numbers in words and tables: what a comparison shows, what it does not, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from great_tables import GT

from xlnb.evaluation.readings import METRICS, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.studies.claims import Claim, evidence
from xlnb.studies.comparisons import ARMS, VERDICTS

Naming = Callable[[str, str], str]  # from method and partition to an arm's name


def label(method: str, partition: str = "") -> str:
    """Return an arm's name for a figure or table; partition C goes without saying.

    >>> label("layer-swapping", "complement of C")
    'Layer-Swapping (complement)'
    """
    title = METHODS[method].title if method in METHODS else method
    return title if partition in ("", "C") else f"{title} ({partition.removesuffix(' of C')})"


def number(value: float, form: str) -> str:
    """Return a number in a format, with a real minus sign; a dash for one that is not known.

    >>> number(-0.123, ".0%"), number(float("nan"), ".2f")
    ('−12%', '–')
    """
    return "–" if value != value else format(value, form).replace("-", "−")


def bracketed(value: float, low: float, high: float, form: str) -> str:
    """Return a value and its interval, each in the format.

    >>> bracketed(1.5, -1.25, 1.75, "+.2f")
    '+1.50 [−1.25, +1.75]'
    """
    return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"


def amount(value: float, low: float, high: float, metric: str, signed: bool = False, with_unit: bool = True) -> str:
    """Return a value with its interval in the metric's unit: nats per token, or percent (points where ``signed``).

    >>> amount(0.125, 0.05, 0.2, "exact-match", signed=True)
    '+12.5 points [+5.0, +20.0]'
    """
    factor, digits = (100, 1) if READINGS[metric].unit == "%" else (1, 3)
    shown = bracketed(factor * value, factor * low, factor * high, f"{'+' if signed else ''}.{digits}f")
    unit = "nats" if READINGS[metric].unit == "nats" else "points" if signed else "%"
    return shown.replace(" ", f" {unit} ", 1) if with_unit else shown


def trainings(count: int) -> str:
    """Return how many trainings, in words."""
    return f"{count} trainings" if count > 1 else "one training"


def capital(text: str) -> str:
    """Return a text with its first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def bullets(lines: Iterable[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def table(
    rows: Any, columns: Any = None, *, size: int = 80, heads: bool = True, group: str | None = None, title: str = ""
) -> Any:
    """Return rows (tuples under ``columns``, or a frame) laid out for the book.

    The first column holds the heads of the rows, where there are ``heads``; one named ``group`` goes above them.
    """
    frame = pd.DataFrame(rows, columns=columns)
    head = next(name for name in frame.columns if name != group) if heads else None
    built = GT(frame, rowname_col=head, groupname_col=group).tab_options(table_font_size=f"{size}%")
    return built.tab_header(title=title) if title else built


def scores_table(scores: pd.DataFrame, caption: str = "") -> Any:
    """Return a table of scores with intervals: a row a method (and test language, if several), a column a metric."""
    order = {metric: place for place, metric in enumerate(METRICS)}
    scores = scores[scores["metric"].isin(order)].sort_values("metric", key=lambda m: m.map(order), kind="stable")
    several = scores["test_language"].nunique() > 1
    return _grid(
        scores,
        ["method", "partition", "test_language"],
        lambda row: label(row.method, row.partition) + several * f", {LANGUAGE_NAMES[row.test_language]}",
        lambda row: amount(row.value, row.low, row.high, row.metric, with_unit=False),
        caption,
    )


def differences_table(differences: pd.DataFrame, naming: Naming = label) -> Any:
    """Return a table of contrasts: a row a pair, a column a metric, each cell with interval and verdict."""

    def shown(row: Any) -> str:
        return f"{amount(row.difference, row.low, row.high, row.metric, True, with_unit=False)} {row.verdict}"

    return _grid(differences, ARMS, lambda row: pair_name(row, naming), shown, percent="points")


def _grid(found: pd.DataFrame, keys: list[str], name: Any, shown: Any, title: str = "", percent: str = "%") -> Any:
    """Lay out what is ``shown`` of a row: a line for each of ``keys``, a column a metric, in the order in which they come."""
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in found.itertuples():
        line = lines.setdefault(tuple(getattr(row, key) for key in keys), {"": name(row)})
        line[f"{READINGS[row.metric].title} ({READINGS[row.metric].unit_in_words.replace('%', percent)})"] = shown(row)
    return table(list(lines.values()), title=title)


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
    trained = trainings(outcomes[outcomes["method"] != "base"]["seed"].nunique())
    where = f"{LANGUAGE_NAMES[test_language]}, " if test_language else ""
    answered = f", {n['expression']} by answer" if "expression" in n else ""
    return f"{outcomes['model'].iloc[0]}, {where}{n['nll']} problems by likelihood{answered}; {trained} of each expert"


def pair_name(row: Any, naming: Naming = label) -> str:
    """Return the name of a contrast, a row of :func:`xlnb.studies.comparisons.contrasts`: a minus b."""
    return f"{naming(row.method_a, row.partition_a)} − {naming(row.method_b, row.partition_b)}"


def difference_in_words(row: Any, strong: str = "") -> str:
    """Return a contrast's verdict, between ``strong`` marks, with the difference behind it."""
    value = amount(row.difference, row.low, row.high, row.metric, signed=True)
    return f"{strong}{row.verdict}{strong} ({value})"


def answer(claim: Claim, contrasts: pd.DataFrame) -> str:
    """Return, as Markdown, what contrasts say of a claim's arm against each rival."""
    return "; ".join(difference_in_words(row, "**") for row in evidence(claim, contrasts).itertuples())


def reading(differences: pd.DataFrame, test_language: str, naming: Naming = label) -> str:
    """Return the contrasts in words, as Markdown: for each metric what is better, what is worse, and what is not shown."""
    lines = []
    for metric, part in differences.groupby("metric", sort=False):
        names = {word: [pair_name(r, naming) for r in part.itertuples() if r.verdict == word] for word in VERDICTS}
        told = [f"{capital(word)}: {'; '.join(those)}" for word, those in names.items() if those]
        lines.append(f"**{READINGS[metric].title}**. {'. '.join(told)}.")
    return (
        f"{LANGUAGE_NAMES[test_language]}, up to {differences['n'].max()} problems, {trainings(differences['seeds'].max())}. "
        "*Better* and *worse* mean that the difference is shown at 5 %, after Holm's correction for the comparisons of this "
        "table on each reading; *not shown* that it is not. The 95 % intervals are not corrected.\n\n" + bullets(lines)
    )
