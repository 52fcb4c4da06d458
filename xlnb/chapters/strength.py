"""A curve of strength: merges of experts that hardly moved, or far, against the math expert of the same strength. Exploratory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters import updates
from xlnb.chapters.figures import BETTER_COLOUR, GREY, MATH_COLOUR, WORSE_COLOUR, wrapped
from xlnb.chapters.pictures import NARROW, WIDE, Shown, picture, table, to_come
from xlnb.chapters.updates import NAMES, SEEDS, named
from xlnb.chapters.words import bullets, capital, improved, improvement_title, in_prose, listed, trainings
from xlnb.evaluation.readings import NLL, PRIMARY, READINGS, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies.claims import ADDITION, MATH_EXPERT, REVERTED, SOUP, SWAPPED
from xlnb.studies.comparisons import ABOVE, BASE, BELOW, Arm, by_pairs, contrasts, improvement, of_pairs, side
from xlnb.studies.experiments import BY_STRENGTH
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.profiles import STRENGTHS
from xlnb.studies.study import Study

ARMS, METRICS = (SWAPPED, ADDITION, SOUP, REVERTED), (PRIMARY, NLL)
TOLD = (*METRICS, *TWINS)  # drawn are the first two
AGAINST_MATH, OF_MATH = [(arm, MATH_EXPERT) for arm in ARMS], [(MATH_EXPERT, BASE)]
OF_THE_SWAP = [(SWAPPED, MATH_EXPERT), (SWAPPED, ADDITION), (SWAPPED, SOUP)]
OF_LAYERS = [(SWAPPED, REVERTED)]  # the language expert's outer layers, or the base's
_BY = {PRIMARY: f"by the {READINGS[PRIMARY].title}", NLL: "by plain likelihood of the whole solution"}
_WHO = dict(
    zip(
        STRENGTHS,
        ("that barely moved", "of the usual strength", "that moved far", "that learned by heart"),
        strict=True,
    )
)
_SMALL, _LARGE = list(STRENGTHS)[:2], list(STRENGTHS)[2:]
_SAYS = {ABOVE: "yes", BELOW: "no", "": "cannot be told"}
# Neither blue nor orange, which stand for better and worse; marks and strokes differ, too.
_STYLES = {
    SWAPPED: ("#010203", "o", "-"), ADDITION: ("#6A51A3", "s", "--"), SOUP: ("#8C6D1F", "^", "-."), REVERTED: (GREY, "D", ":"),
    MATH_EXPERT: (MATH_COLOUR, "o", "-"),
}  # fmt: skip
_NOT_YET = (
    "Experts of several strengths are not computed yet: `xlnb grid --experiment strength --profile "
    "pocket-barely,pocket-far,pocket-by-heart --languages sw --seeds 0,1,2` does it."
)


def outcomes(study: Study) -> pd.DataFrame:
    """Return the committed outcomes by ``TOLD`` of all strengths that are whole, the weakest first; live, the study's own.

    No rows where fewer than two strengths are whole. The base is the same for all, and stands with each.
    """
    if study.live:
        return select(study.outcomes(BY_STRENGTH), metric=TOLD)
    methods, partitions = (list(dict.fromkeys(names)) for names in zip(BASE, MATH_EXPERT, *ARMS, strict=True))
    alike: dict[str, Any] = {"language": study.language, "paradigm": study.paradigm, "metric": TOLD, "seed": SEEDS}
    alike |= {"method": methods, "partition": partitions}
    asked = {cell.asked for cell in study.cells(BY_STRENGTH)}
    found = committed_outcomes(study.results, profile=list(STRENGTHS), asked=asked, **alike)
    base = select(found, method=BASE[0]).drop_duplicates(["metric", "problem"])
    parts = []
    for profile in STRENGTHS:
        mine = select(found, profile=profile, method=methods[1:])
        counts = mine.groupby(["method", "metric"]).size()
        if len(counts) == len(TOLD) * (1 + len(ARMS)) and counts.nunique() == 1 and len(base):
            parts += [base.assign(profile=profile), mine]
    return pd.concat(parts, ignore_index=True) if len(parts) > 2 else found.iloc[:0]


def curve(found: pd.DataFrame) -> pd.DataFrame:
    """Return all that is shown and told: differences as of ``contrasts``, with profile and each (the single trainings').

    No rows where there are no outcomes.
    """
    parts = [pd.DataFrame(columns=["profile"])] if found.empty else []
    for profile, mine in found.groupby("profile", sort=False):
        pairs = [*OF_MATH, *AGAINST_MATH, *OF_THE_SWAP[1:], *OF_LAYERS]
        made = contrasts(by_pairs(mine), pairs, mine["test_language"].iloc[0], TOLD)
        means = mine.groupby(["metric", "method", "seed"])["outcome"].mean()
        each = []
        for row in made.itertuples():
            a, b = (means[row.metric, slug] for slug in (row.method_a, row.method_b))
            turned = 1 if READINGS[row.metric].higher_is_better else -1
            each.append(list(turned * (a - (b.iloc[0] if row.method_b == BASE[0] else b))))
        parts.append(made.assign(profile=profile, each=each))
    return pd.concat(parts, ignore_index=True)


def figure(rows: pd.DataFrame, told: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw merges against the math expert over strength, below it the math expert against the base; a column a metric.

    ``rows`` are those of :func:`curve`, ``told`` what :func:`xlnb.chapters.updates.strengths` says of their experts.
    """
    if rows.empty:
        return to_come(number, _NOT_YET)
    at, names, label = updates.places(told)

    def draw(narrow: bool) -> Figure:
        shape, size = ((4, 1), (NARROW, 11.4)) if narrow else ((2, 2), (WIDE, 6.0))
        drawn = Figure(figsize=size, layout="constrained")
        axes = drawn.subplots(*shape, gridspec_kw={"height_ratios": [3, 2] * (shape[0] // 2)}).T.reshape(2, 2)
        for metric, both in zip(METRICS, axes, strict=True):
            both[0].set_title(wrapped(capital(improvement_title(metric)), 30))
            both[1].set_xlabel(wrapped(f"strength of the experts, and {label} (math, then language)", 34))
            for axis, pairs in zip(both, (AGAINST_MATH, OF_MATH), strict=True):
                for place, pair in enumerate(pairs):
                    mine = of_pairs(select(rows, metric=metric), [pair])
                    _line(axis, np.add(at, 0.13 * (place - (len(pairs) - 1) / 2)), mine, pair[0])
                _ground(axis)
                rival = in_prose(*pairs[0][1])
                axis.set(ylabel=f"against {rival}\n(nats per token)", xlim=(-0.5, at[-1] + 0.5))
                axis.set_xticks(at, names if axis is both[1] else [name.split("\n")[0] for name in names])
                axis.grid(axis="x", visible=False)  # or they would pass for intervals
        handles = [handle for axis in axes[0] for handle in axis.get_legend_handles_labels()[0]]
        drawn.legend(handles=handles, loc="outside upper center", ncols=2 if narrow else 3)
        return drawn

    caption = (
        f"Merges against the math expert of the same strength, and that expert against the base, in "
        f"{LANGUAGE_NAMES[rows['test_language'].iloc[0]]}. Up is better: blue ground; orange is worse. Lines join means over "
        f"{rows['n'].max()} pairs of twins and {trainings(int(rows['seeds'].max()))}, bars are 95 % intervals, small dots single "
        "trainings. Exploratory: no test is made."
    )
    shown = (
        of_pairs(select(rows, metric=METRICS), [*OF_MATH, *AGAINST_MATH])
        .sort_values("metric", kind="stable")
        .itertuples()
    )
    seen = [
        f"{named(r.profile)}, {in_prose(r.method_a, r.partition_a)} {improved(r, False)} {_BY[r.metric]}" for r in shown
    ]
    return picture(draw, number=number, caption=caption, alt=f"{capital('; '.join(seen))}.")


def _line(axis: Any, at: Any, rows: pd.DataFrame, arm: Arm) -> None:
    """Draw differences with their intervals, joined, and the trainings beside them."""
    colour, mark, stroke = _STYLES[arm]
    value, low, high = np.array([improvement(row) for row in rows.itertuples()]).T
    style = {"color": colour, "marker": mark, "linestyle": stroke, "linewidth": 1.3, "markersize": 5}
    axis.errorbar(at, value, (value - low, high - value), elinewidth=1.6, label=in_prose(*arm), **style)
    for place, some in zip(at, rows["each"], strict=True):
        axis.plot([place + 0.05] * len(some), some, ".", color=colour, markersize=3, alpha=0.7)


def _ground(axis: Any) -> None:
    """Colour the ground above and below zero."""
    low, high = min(axis.get_ylim()[0], 0), max(axis.get_ylim()[1], 0)
    axis.axhspan(0, high, color=BETTER_COLOUR, alpha=0.07, linewidth=0)
    axis.axhspan(low, 0, color=WORSE_COLOUR, alpha=0.07, linewidth=0)
    axis.set_ylim(low, high)
    axis.axhline(0, color="#010203", linewidth=1)


def differences_table(rows: pd.DataFrame, number: int | None = None, metrics: Sequence[str] = METRICS) -> Shown:
    """Return the figure's differences, and the swap's to reverting, by its metrics or by those of ``TWINS``."""
    if rows.empty:
        return to_come(number, _NOT_YET, "table")
    shown: dict[tuple[str, ...], dict[str, str]] = {}
    for row in of_pairs(select(rows, metric=metrics), [*OF_MATH, *AGAINST_MATH, *OF_LAYERS]).itertuples():
        names = in_prose(row.method_a, row.partition_a), in_prose(row.method_b, row.partition_b)
        line = shown.setdefault((row.profile, *names), {"experts": named(row.profile), "difference": " − ".join(names)})
        line[improvement_title(row.metric, unit=True)] = improved(row, with_unit=False)
    by = "by what numbers alone cannot give" if metrics == TWINS else "in nats per token"
    caption = (
        f"Differences {by}, with 95 % intervals; above zero the first is better. All experts in a row are of one strength. "
        "Exploratory."
    )
    return table(list(shown.values()), number=number, caption=caption)


def experts_table(told: pd.DataFrame, number: int | None = None) -> Shown:
    """Return how the experts of each strength were trained, and how far they came."""
    return to_come(number, _NOT_YET, "table") if told.empty else updates.experts_table(told, number)


def lines(rows: pd.DataFrame) -> list[str]:
    """Return in words, by intervals alone, whether addition loses while updates are small, and the swap wins where they are not.

    Yes where the interval (of the swap: each of three) is above zero, no where it (or one of them) is below; else it cannot be
    told.
    """
    if rows.empty:
        return [_NOT_YET]
    first, *rest = dict.fromkeys(rows["profile"])
    if not rest:
        return ["Of one strength alone nothing is told of small and large updates."]
    told = []
    for question, profile, pairs, fitting in (
        ("Is nothing lost by addition while updates are small?", first, [(ADDITION, MATH_EXPERT)], _SMALL),
        ("Does the swap win where updates are large?", rest[-1], OF_THE_SWAP, _LARGE),
    ):
        if profile not in fitting:
            told.append(f"{question} Experts {listed([_WHO[name] for name in fitting], 'or')} are not computed yet.")
            continue
        mine = of_pairs(select(rows, profile=profile), pairs)
        by = [f"{_BY[metric]}: {_answer(select(mine, metric=metric))}" for metric in METRICS]
        told.append(f"{question} With experts {_WHO[profile]}, {'; '.join(by)}.")
    told.append(_of_layers(of_pairs(select(rows, metric=METRICS), OF_LAYERS), rest[-1]))
    told.append(_agreement(of_pairs(select(rows, metric=METRICS), AGAINST_MATH)))
    told.append(_by_twins(select(rows, metric=TWINS)))
    lacking = [name for profile, name in NAMES.items() if profile not in {first, *rest}]
    return [*told, *([f"Not computed yet: {listed(lacking)}."] if lacking else [])]


def _answer(rows: pd.DataFrame) -> str:
    sides = {side(row) for row in rows.itertuples()}
    said = _SAYS[BELOW if BELOW in sides else ABOVE if sides == {ABOVE} else ""]
    sizes = [f"{improved(row, False)} against {in_prose(row.method_b, row.partition_b)}" for row in rows.itertuples()]
    return f"{said} ({in_prose(rows['method_a'].iloc[0], rows['partition_a'].iloc[0])} {listed(sizes)})"


def _of_layers(rows: pd.DataFrame, last: str) -> str:
    count, above, below = _counted(rows)
    sizes = [f"{improved(row, False)} {_BY[row.metric]}" for row in select(rows, profile=last).itertuples()]
    return (
        "Is it the language expert's layers that help? Reverting puts the base's in their place: with experts "
        f"{_WHO[last]} the swap is {listed(sizes)} against it. Of {count} such differences over all strengths, by both "
        f"metrics, {above} are above zero and {below} below, with intervals that exclude it."
    )


def _counted(rows: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many differences there are, and how many are above and below zero by their whole intervals."""
    sides = [side(row) for row in rows.itertuples()]
    return len(sides), sides.count(ABOVE), sides.count(BELOW)


def _agreement(rows: pd.DataFrame) -> str:
    both = [{side(row) for row in some.itertuples()} for _, some in rows.groupby(["profile", "method_a"])]
    same, turned = both.count({ABOVE}) + both.count({BELOW}), both.count({ABOVE, BELOW})
    return (
        f"Of {len(both)} differences to the math expert both metrics put {same} on one side and {turned} on opposite sides, with "
        f"intervals that exclude zero; of the other {len(both) - same - turned} at least one interval includes it."
    )


def _by_twins(rows: pd.DataFrame) -> str:
    merges, above, below = _counted(of_pairs(rows, AGAINST_MATH))
    own, gained, lost = _counted(of_pairs(rows, OF_MATH))
    return (
        f"By the two metrics of twins, which numbers alone cannot give, {above} of {merges} differences to the math expert are "
        f"above zero and {below} below it, with intervals that exclude it; of the math experts' {own} differences to the base "
        f"{gained} are above and {lost} below."
    )


def in_short(rows: pd.DataFrame) -> str:
    """Return in short how the swap and reverting stand to the math expert, with usual and with the strongest experts."""
    strengths = [profile for profile in rows["profile"].unique() if profile in (_SMALL[-1], *_LARGE)]
    if len(strengths) < 2:
        return _NOT_YET
    usual, last = strengths[0], strengths[-1]
    shown = {
        (row.method_a, row.metric, row.profile): improved(row, False)
        for row in of_pairs(rows, [(SWAPPED, MATH_EXPERT), (REVERTED, MATH_EXPERT)]).itertuples()
    }
    swaps, reverted = ([shown[arm[0], PRIMARY, one] for one in (usual, last)] for arm in (SWAPPED, REVERTED))
    return (
        f"Against the math expert of the same strength the swap is at {swaps[0]} nats per token with experts {_WHO[usual]}, and "
        f"at {swaps[1]} with experts {_WHO[last]}. With the base's layers in the place of the language expert's these are "
        f"{reverted[0]} and {reverted[1]}. So much by the metric of this book; {_BY[NLL]} the swap of the latter is at "
        f"{shown[SWAPPED[0], NLL, last]}. No test was planned for it: intervals alone, of {trainings(int(rows['seeds'].max()))}."
    )


def summary(rows: pd.DataFrame) -> str:
    """Return the section's points as Markdown bullets."""
    return bullets(lines(rows))
