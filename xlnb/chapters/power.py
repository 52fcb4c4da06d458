"""Where the noise of a difference comes from, and what it takes to see one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xlnb import stats
from xlnb.chapters.figures import BETTER_COLOUR
from xlnb.chapters.interactive import Explorer, explorer
from xlnb.chapters.pictures import Shown, panels, picture, table
from xlnb.chapters.words import label, listed, trainings, unit_of_gains
from xlnb.errors import RequestError
from xlnb.evaluation.readings import READINGS
from xlnb.studies.outcomes import select
from xlnb.studies.validation import TRAININGS

THREE_POINTS = 0.03
MGSM = 250  # problems a language
# Exact match of two larger models of about 50 % that differ on one problem in five, trainings by one point: no measurement.
ASSUMED = stats.binary_components(0.5, discordant=0.2, seed_sd=0.01)


def noise_table(measured: Mapping[str, stats.Components], problems: int = MGSM, number: int | None = None) -> Shown:
    """Return where the noise of a difference comes from, a row a metric, and what one training over some problems has."""
    rows = []
    for metric, components in measured.items():
        parts = (components.seed, components.problem, components.residual)
        shares = [part / sum(parts) if any(parts) else 0.0 for part in parts]
        single = (
            READINGS[metric].scale * (components.seed + (components.problem + components.residual) / problems) ** 0.5
        )
        between = "unknown" if components.seeds == 1 else f"{shares[0]:.0%}"
        rows.append(
            (
                READINGS[metric].title,
                between,
                *(f"{share:.0%}" for share in shares[1:]),
                f"{single:.2g} {unit_of_gains(metric)}",
            )
        )
    caption = (
        "The variance of the oracle's difference to the base, by its sources, and the standard error that one training has over "
        f"{problems} problems."
    )
    columns = ["metric", "between trainings", "between problems", "the rest", "standard error"]
    return table(rows, columns, number=number, caption=caption)


def power_sentence(components: stats.Components, difference: float, problems: int, seeds: int) -> str:
    """Return in words how often a true difference of a score in percent is seen."""
    found = stats.power(difference, components, problems, seeds)
    return (
        f"With {trainings(seeds)} a true gain of {100 * difference:g} points on {problems:,} problems is seen in "
        f"{100 * found:.0f} % of experiments."
    )


def power_table(
    components: stats.Components,
    difference: float,
    problems: Sequence[int],
    seeds: Sequence[int],
    what: str,
    number: int | None = None,
) -> Shown:
    """Return a table of the power to see a difference: a row a number of problems, a column a number of trainings."""
    found = stats.power_table(components, difference, problems, seeds)
    rows = [(f"{n:,} problems", *(f"{100 * share:.0f} %" for share in found.loc[n])) for n in problems]
    caption = f"The power to see {what}: in how many experiments it would be significant."
    return table(rows, ["", *(trainings(n) for n in seeds)], number=number, caption=caption)


def needed_sentence(components: stats.Components, difference: float, seeds: Sequence[int], what: str) -> str:
    """Return how many problems show a difference with 80 % power, for each number of trainings."""
    needed = {count: stats.needed_problems(difference, components, count) for count in seeds}
    told = [f"{'no number' if n is None else f'{n:,}'} with {trainings(count)}" for count, n in needed.items()]
    return f"Problems needed to see {what} in four experiments of five: {listed(told)}."


def power_figure(
    components: stats.Components, difference: float, problems: int, seeds: int, number: int | None = None
) -> Shown:
    """Draw the power to see a difference by the number of problems, for one number of trainings, with a dot where asked."""
    counts = sorted({*np.unique(np.geomspace(10, 10_000, 25).astype(int)).tolist(), problems})
    line = [100 * stats.power(difference, components, n, seeds) for n in counts]
    here = 100 * stats.power(difference, components, problems, seeds)

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 2.4, narrow)
        axis.plot(counts, line, color=BETTER_COLOUR, linewidth=2)
        axis.plot(problems, here, marker="o", markersize=9, color=BETTER_COLOUR)
        axis.axhline(80, color="#010203", linestyle=":", linewidth=1)
        axis.set(xscale="log", ylim=(0, 105), xlabel="problems", ylabel="power (%)")
        axis.set_xticks([10, 100, 1000, 10_000], ["10", "100", "1,000", "10,000"])
        axis.minorticks_off()
        return figure

    told = f"{problems:,} problems and {trainings(seeds)} show the difference in {here:.0f} % of experiments."
    return picture(draw, number=number, caption=f"{told} The dotted line is at 80 %.", alt=told)


def power_calculator(
    measured: Mapping[str, stats.Components], difference: float = THREE_POINTS, number: int | None = None
) -> Explorer | Shown:
    """Return controls over the power to see a difference: by which noise, how large, with how many problems and trainings.

    ``measured`` are components by a name for the reader. Where nothing moves there is a table by the first of them.
    """
    first, *_ = measured
    what = f"{100 * difference:g} points by {first}"
    static = power_table(measured[first], difference, (MGSM, 1000, 2000), (3, 5, 10), what, number)

    def show(
        noise: str = first,
        hundredths: int = round(100 * difference),
        problems: int = MGSM,
        trainings: int = TRAININGS,
    ) -> Shown:
        return power_figure(measured[noise], hundredths / 100, problems, trainings)

    controls = {"hundredths": (1, 50, 1), "problems": (25, 5000, 25), "trainings": (1, 20, 1)}
    return explorer(show, static, noise=list(measured), **controls)


def mcnemar_sentence(outcomes: pd.DataFrame, metric: str, a: str, b: str, test_language: str, seed: int) -> str:
    """Return McNemar's exact test of two arms of one training on a 0/1 reading, in words."""
    part = _there(outcomes, metric=metric, test_language=test_language)
    left, right = (_there(part, method=arm, seed=0 if arm == "base" else seed) for arm in (a, b))  # the base has seed 0
    found = stats.mcnemar(left.assign(seed=seed), right.assign(seed=seed))
    return (
        f"The {label(a).lower()} against the {label(b).lower()}, {READINGS[metric].title}, training {seed}: only the first is "
        f"right on {found.only_a} problems, only the second on {found.only_b} (both on {found.both}, neither on "
        f"{found.neither}); McNemar's exact p is {found.p:.2g}."
    )


def _there(outcomes: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Select rows column by column; refused where a column leaves none."""
    for column, value in wanted.items():
        found = select(outcomes, **{column: value})
        if found.empty:
            there = ", ".join(str(other) for other in sorted(outcomes[column].unique()))
            raise RequestError(f"No outcomes with {column} {value!r}; there are: {there or 'none at all'}.")
        outcomes = found
    return outcomes


def error_rate_sentence(seeds: Sequence[int], components: stats.Components, problems: int, trials: int = 2000) -> str:
    """Return how often an interval of this book cries wolf at 5 %, simulated with these components, by number of trainings."""
    rates = {count: stats.simulated_error_rate(components, problems, count, trials) for count in seeds}
    told = [f"{100 * rate.value:.1f} % with {trainings(count)}" for count, rate in rates.items()]
    return (
        f"In {trials:,} simulated experiments in which nothing differs, with the noise measured here and {problems} problems, a "
        f"95 % interval excludes zero in {listed(told)}. It should in 5 % at most."
    )
