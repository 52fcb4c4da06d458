"""The plane of both task vectors: losses over it, and where merges lie on it or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb.chapters.figures import BETTER_COLOUR, WORSE_COLOUR, wrapped
from xlnb.chapters.pictures import Shown, panels, picture, table, to_come
from xlnb.chapters.tangents import NOT_YET, TEXTS
from xlnb.chapters.words import bracketed, capital, in_prose, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies.additivity import over_trainings
from xlnb.studies.comparisons import seeds_everywhere
from xlnb.studies.maps import ASKED

CORNERS = {"the base": (0.0, 0.0), "the math expert": (1.0, 0.0), "the language expert": (0.0, 1.0),
           "the soup": (0.5, 0.5), "task arithmetic": (1.0, 1.0)}  # fmt: skip
_ON = {"the base": "o", "the math expert": "^", "the language expert": "s", "the soup": "D", "task arithmetic": "P"}
_OFF = {("layer-swapping", "A"): "<", ("layer-swapping", "B"): ">", ("layer-swapping", "C"): "v", ("ties", ""): "*",
        ("dare", ""): "X", ("slerp", ""): "d", ("train-then-revert", "C"): "h"}  # fmt: skip
MIDDLE = "#F2F2F2"
LEAST = 0.001  # nats: what reading between points may err by


def heights(plane: pd.DataFrame, language: str, asked: str) -> pd.DataFrame:
    """Return the mean losses of a language's plane over trainings: a row a share of math, a column a share of the language."""
    mine = plane[(plane["language"] == language) & (plane["asked"] == asked)]
    return mine.pivot_table(index="a", columns="b", values="loss", aggfunc="mean")


def read_off(grid: pd.DataFrame, a: float, b: float, degree: int = 1) -> float:
    """Return a plane's loss between its points, linear in both directions or by splines of a degree; nan outside of it."""
    from scipy.interpolate import RectBivariateSpline

    if not (grid.index[0] <= a <= grid.index[-1] and grid.columns[0] <= b <= grid.columns[-1]):
        return float("nan")
    return float(RectBivariateSpline(grid.index, grid.columns, grid.to_numpy(), kx=degree, ky=degree)(a, b)[0, 0])


def of_language(plane: pd.DataFrame, language: str) -> list[tuple[str, pd.DataFrame]]:
    """Return a language's planes for :func:`plane_figure`, one a kind of text."""
    return (
        [(TEXTS[asked], heights(plane, language, asked)) for asked in ASKED]
        if language in set(plane["language"])
        else []
    )


def of_problems(plane: pd.DataFrame, but: str = "") -> list[tuple[str, pd.DataFrame]]:
    """Return the planes of problems in each language but one for :func:`plane_figure`."""
    codes = [code for code in plane["language"].unique() if code != but]
    return [(f"problems in {LANGUAGE_NAMES[code]}", heights(plane, code, "problems")) for code in codes]


def plane_figure(
    grids: Sequence[tuple[str, pd.DataFrame]], merges: pd.DataFrame, seeds: int, number: int | None = None
) -> Shown:
    """Draw planes, a panel a grid of losses: what each point saves against the base, and where merges are or come nearest."""
    if not grids:
        return to_come(number, NOT_YET)
    places = merges.groupby(["method", "partition"])[["a", "b"]].mean() if len(merges) else pd.DataFrame()
    beside = {arm: places.loc[arm] for arm in _OFF if arm in places.index}

    def draw(narrow: bool) -> Figure:
        columns = 2 if narrow else 4
        rows = -(-(len(CORNERS) + len(beside)) // columns)
        figure, axes = panels(
            len(grids), (2.8 if narrow else 3.3) + 0.22 * rows / (len(grids) if narrow else 1), narrow
        )
        colours = LinearSegmentedColormap.from_list("saved", [WORSE_COLOUR, MIDDLE, BETTER_COLOUR])
        for axis, (title, grid) in zip(axes, grids, strict=True):
            saved = (grid.loc[0, 0] - grid).to_numpy().T
            limit = float(np.abs(saved).max()) or 1.0
            levels = np.linspace(-limit, limit, 17)
            shown = axis.contourf(grid.index, grid.columns, saved, levels, cmap=colours)
            axis.contour(grid.index, grid.columns, saved, levels, colors="#555555", linewidths=0.4)
            for name, (a, b) in CORNERS.items():
                axis.plot(a, b, marker=_ON[name], color="#1A1A1A", markersize=5, linestyle="")
            for arm, place in beside.items():
                axis.plot(place["a"], place["b"], marker=_OFF[arm], color="#1A1A1A", markersize=6, markerfacecolor="none",
                          linestyle="")  # fmt: skip
            axis.set(
                title=wrapped(capital(title), 22),
                xlabel="how much of math",
                ylabel="how much of\nthe language",
                aspect="equal",
            )
            axis.set_xticks([0, 0.5, 1, 1.5], ["0", "0.5", "1", ""])
            axis.set_yticks([-0.5, 0, 0.5, 1, 1.5], ["−0.5", "0", "0.5", "1", "1.5"])
            axis.grid(False)
            bar = figure.colorbar(
                shown,
                ax=axis,
                location="bottom",
                shrink=0.6 if narrow else {1: 0.35, 2: 0.6}.get(len(grids), 1),
                ticks=[-limit / 2, 0, limit / 2],
            )
            bar.ax.set_xticklabels([digits(end, "+.2f") for end in (-limit / 2, 0, limit / 2)])
            bar.set_label("nats saved (blue is better)")
        handles = [_handle(name, _ON[name], True) for name in CORNERS]
        handles += [_handle(in_prose(*arm), _OFF[arm], False) for arm in beside]
        figure.legend(handles=handles, loc="outside upper center", ncols=columns)
        return figure

    alt = []
    for title, grid in grids:
        a, b = grid.stack().idxmin()
        alt.append(
            f"{capital(title)}: the lowest loss is at {digits(a, 'g')} of math and {digits(b, 'g')} of the language"
        )
    caption = (
        f"Loss saved against the base over the plane of both task vectors, {'of' if seeds == 1 else 'mean over'} "
        f"{trainings(seeds)}; nats per token. The "
        "lines are of equal loss. Filled marks are points of the plane, hollow ones the nearest points of merges that lie off it."
    )
    return picture(draw, number=number, caption=caption, alt=". ".join(alt) + ".")


def _handle(name: str, marker: str, filled: bool) -> Line2D:
    face = {} if filled else {"markerfacecolor": "none"}
    return Line2D([], [], marker=marker, linestyle="", color="#1A1A1A" if filled else "#555555", label=name, **face)  # type: ignore[arg-type]


def optimum(plane: pd.DataFrame) -> pd.DataFrame:
    """Return of each language and kind of text where the mean plane is lowest, and what that saves beyond the better expert.

    Columns: language, asked, a, b, saved, beyond (nats).
    """
    rows = []
    for language in plane["language"].unique() if len(plane) else ():
        for asked in ASKED:
            grid = heights(plane, language, asked)
            a, b = grid.stack().idxmin()
            least = float(grid.loc[a, b])
            rows.append((language, asked, a, b, grid.loc[0, 0] - least, min(grid.loc[1, 0], grid.loc[0, 1]) - least))
    return pd.DataFrame(rows, columns=["language", "asked", "a", "b", "saved", "beyond"])


def optimum_told(plane: pd.DataFrame) -> str:
    """Return in words where planes are lowest."""
    found = optimum(plane)
    if found.empty:
        return NOT_YET
    told = []
    for asked, mine in found.groupby("asked", sort=False):
        where = [
            f"{digits(a, 'g')} of math and {digits(b, 'g')} of the language ({_named(some['language'])})"
            for (a, b), some in mine.groupby(["a", "b"], sort=False)
        ]
        told.append(f"for {TEXTS[str(asked)]} at {listed(where)}")
    best = found.loc[found[found["asked"] == "problems"]["beyond"].idxmax()]
    return (
        f"Of the points computed the lowest loss is {'; '.join(told)}. On problems in the language the best point of a plane is "
        f"at most {digits(best['beyond'], '.2f')} nats per token better than the better expert alone "
        f"({LANGUAGE_NAMES[best['language']]}). The best of many points is partly luck: no merge of this book was chosen by it."
    )


def _named(codes: pd.Series) -> str:
    return listed([LANGUAGE_NAMES[code] for code in codes])


# --- merges and the plane ----------------------------------------------------------------------------------


def beside(plane: pd.DataFrame, merges: pd.DataFrame) -> pd.DataFrame:
    """Return of each merge what it saves beyond the plane's own value at its nearest point (cubic between points).

    Columns: method, partition, asked, seed, a, b, off, beyond (nats: above zero the merge is better than its point), means over
    languages, of the seeds that have planes. A point outside the plane has no value.
    """
    columns = ["method", "partition", "asked", "seed", "a", "b", "off", "beyond"]
    if plane.empty or merges.empty:
        return pd.DataFrame(columns=columns)
    rows: list[dict[str, Any]] = []
    mine = merges[merges["seed"].isin(seeds_everywhere(plane))]
    for (language, seed, asked), some in mine.groupby(["language", "seed", "asked"]):
        own = plane[plane["seed"] == seed]
        grid = heights(own, language, asked)
        for row in some.itertuples() if len(grid) else ():
            told = read_off(grid, row.a, row.b, 3) - row.loss
            rows.append({**{name: getattr(row, name) for name in columns if name != "beyond"}, "beyond": told})
    found = pd.DataFrame(rows, columns=columns)
    return found.groupby(["method", "partition", "asked", "seed"], as_index=False, sort=False).mean()


def merges_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return where merges lie and what each saves beyond its nearest point of the plane."""
    if found.empty:
        return to_come(number, NOT_YET, "table")
    rows = []
    for (method, partition), mine in found.groupby(["method", "partition"], sort=False):
        a, b, off = mine[["a", "b", "off"]].mean()
        row = {"merge": capital(in_prose(method, partition)), "of math": digits(a, ".2f"), "of the language": digits(b, ".2f"),
               "off the plane": digits(off, ".0%")}  # fmt: skip
        for asked in ASKED:
            one = over_trainings(mine.loc[mine["asked"] == asked, "beyond"].to_numpy())
            row[TEXTS[asked]] = bracketed(one.value, one.low, one.high, "+.3f")
        rows.append(row)
    seeds = found["seed"].nunique()
    caption = (
        "Merges and the plane: the nearest point, the share of the merge's length that sticks out of the plane, and what the "
        "merge saves beyond that point (nats per token; above zero the merge is better), means over the languages that have "
        "planes, "
        + (f"with 95 % intervals over {trainings(seeds)}." if seeds > 1 else "of one training, without intervals.")
    )
    return table(rows, number=number, caption=caption)


def merges_told(found: pd.DataFrame) -> str:
    """Return in words which merges do otherwise than the plane's nearest point says, by their own intervals, on problems."""
    if found.empty:
        return NOT_YET
    if found["seed"].nunique() < 2:
        return "One training does not tell which merges do otherwise than the plane says."
    better, worse, alike = (
        "better than the plane says",
        "worse than the plane says",
        "not clearly apart from what the plane says",
    )
    words: dict[str, list[str]] = {better: [], worse: [], alike: []}
    for (method, partition), mine in found[found["asked"] == "problems"].groupby(["method", "partition"], sort=False):
        if mine["off"].mean() < 0.05:
            continue
        one = over_trainings(mine["beyond"].to_numpy())
        words[better if one.low > LEAST else worse if one.high < -LEAST else alike].append(in_prose(method, partition))
    told = [f"{listed(names)} {'are' if len(names) > 1 else 'is'} {way}" for way, names in words.items() if names]
    return f"On problems in the language, {'; '.join(told)}." if told else "No merge lies off the plane."
