"""How linear task vectors are: whether what two of them do adds up, whole and in parts, and the verdict on F5."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters import foretelling, home, updates
from xlnb.chapters.figures import GREY, dot, wrapped
from xlnb.chapters.pictures import Shown, box, panels, paragraphs, picture, table, to_come
from xlnb.chapters.tangents import NOT_YET, SIDES, TEXTS, along, lines_told
from xlnb.chapters.words import PARADIGM_NAMES, bracketed, bullets, capital, listed, trainings
from xlnb.chapters.words import number as digits
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import Interval
from xlnb.studies.additivity import MARGIN, WHOLE, additivity, cross_terms, over_trainings
from xlnb.studies.atlas import load_map, tables
from xlnb.studies.claims import UNTESTED
from xlnb.studies.comparisons import TRAININGS, seeds_everywhere
from xlnb.studies.maps import ASKED
from xlnb.studies.outcomes import select
from xlnb.studies.profiles import STRENGTHS
from xlnb.studies.study import Study
from xlnb.training.paradigms import PARADIGMS

HALVES = {"math": "two halves of math", "language": "two halves of the language"}
PLACES = (WHOLE, *HALVES.values(), "attention", "ffn", "q", "k", "v", "o", "gate", "up", "down")
_SHARES = {name: (f"math's share of {name}", f"language's share of {name}", f"swap by {name}")
           for name in ("A", "B", "C", "half and half")}  # fmt: skip
SHARES = (WHOLE, *(part for parts in _SHARES.values() for part in parts))


def halves(plane: pd.DataFrame) -> pd.DataFrame:
    """Return, as rows of the map ``crosses``, each task vector as the sum of its two halves: the control that has to meddle."""
    keys, parts = ["language", "seed", "asked"], []
    for side, at, other in SIDES if len(plane) else ():
        line = plane[plane[other] == 0].pivot(index=keys, columns=at, values="loss")
        told = line[[1.0, 0.5, 0.0]].set_axis(["both", "m", "neither"], axis=1)
        parts.append(told.assign(l=told["m"], part=HALVES[side]).reset_index())
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def with_halves(crosses: pd.DataFrame, plane: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`cross_terms` of the map, and of the halves of each vector where three trainings or more have planes."""
    if crosses.empty:
        return cross_terms(crosses)
    enough = len(plane) and len(seeds_everywhere(plane)) >= TRAININGS
    tables = [cross_terms(one) for one in (crosses, halves(plane) if enough else plane[:0]) if len(one)]
    return pd.concat(tables, ignore_index=True)


def crosses_figure(found: pd.DataFrame, parts: Sequence[str], what: str, number: int | None = None) -> Shown:
    """Draw the cross terms of parts as shares of what both sides do alone, a panel a kind of text: right of zero is better."""
    if found.empty:
        return to_come(number, NOT_YET)
    there = [part for part in parts if part in set(found["part"])]
    told = {
        (asked, part): over_trainings(-100 * mine["share"].to_numpy())
        for (asked, part), mine in found[found["part"].isin(there)].groupby(["asked", "part"])
    }
    reach = min(200.0, 1.4 * max(abs(one.value) for one in told.values()) + 10)

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(3, 0.9 + (0.38 if narrow else 0.22) * len(there), narrow, sharey=not narrow)
        for axis, asked in zip(axes, ASKED, strict=True):
            axis.axvspan(-100 * MARGIN, 100 * MARGIN, color=GREY, alpha=0.2, linewidth=0)
            for place, part in enumerate(there):
                one = told[asked, part]
                dot(axis, place, (one.value, one.low, one.high), "#010203" if part == WHOLE else GREY)
            axis.axvline(0, color="#010203", linewidth=1)
            axis.set_yticks(range(len(there)), [wrapped(named(part), 16 if narrow else 40) for part in there])
            axis.set_xticks([-round(reach / 2, -1), 0, round(reach / 2, -1)])
            axis.set_ylim(len(there) - 0.5, -0.5)
            axis.set_xlim(-reach, reach)
            axis.set(
                title=wrapped(capital(TEXTS[asked]), 16),
                xlabel=wrapped("saved beyond the sum (%, right is better)", 22),
            )
        return figure

    alt = " ".join(
        f"{TEXTS[asked].capitalize()}: "
        + listed([f"{named(part)} {digits(told[asked, part].value, '+.0f')}" for part in there])
        + "."
        for asked in ASKED
    )
    seeds = found.loc[found["part"].isin(there), "seed"].nunique()
    caption = (
        f"{what} What both together save beyond the sum of what each saves alone, in percent of what each does alone. Dots are "
        f"means, lines 95 % intervals over {trainings(seeds)}, not corrected for their number; the grey band is a tenth. "
        "This is the cross term with its sign turned, so that right is better."
    )
    return picture(draw, number=number, caption=caption, alt=alt)


def named(part: str) -> str:
    """Return what a part of the vectors is called.

    >>> named("whole"), named("ffn"), named("swap by C")
    ('plain addition', 'FFN', 'swap by C')
    """
    return {WHOLE: "plain addition", "ffn": "FFN"}.get(part, part)


def crosses_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return the cross terms in nats, each beside what both sides do alone."""
    if found.empty:
        return to_come(number, NOT_YET, "table")
    rows: dict[str, dict[str, str]] = {}
    for (part, asked), mine in found.groupby(["part", "asked"], sort=False):
        one = over_trainings(mine["cross"].to_numpy())
        row = rows.setdefault(part, {"part": named(part)})
        row[TEXTS[asked]] = (
            f"{bracketed(one.value, one.low, one.high, '+.2f')} of {digits(mine['alone'].mean(), '.2f')}"
        )
    caption = (
        "The cross term f(m + l) − f(m) − f(l) + f(0) in nats per token, with its 95 % interval over trainings: above zero both "
        "together lose more than the sum. Of what both sides do alone: |f(m) − f(0)| + |f(l) − f(0)|."
    )
    return table(list(rows.values()), number=number, caption=caption)


def crosses_told(found: pd.DataFrame) -> str:
    """Return in words where the cross terms are, by their intervals, on one side of zero, and how the halves compare."""
    if found.empty:
        return NOT_YET
    sentences = []
    for asked in ASKED:
        mine = {
            part: over_trainings(one["share"].to_numpy())
            for part, one in found[found["asked"] == asked].groupby("part")
        }
        worse = [named(part) for part in (*PLACES[3:5], *PLACES[5:]) if part in mine and mine[part].low > 0]
        better = [named(part) for part in (*PLACES[3:5], *PLACES[5:]) if part in mine and mine[part].high < 0]
        told = [f"together worse than the sum in {listed(worse)}"] if worse else []
        told += [f"better than the sum in {listed(better)}"] if better else []
        sentences.append(f"On {TEXTS[asked]}: {listed(told) or 'no block or projection is clearly off the sum'}.")
        own = [f"{digits(100 * mine[name].value, '+.0f')} %" for name in HALVES.values() if name in mine]
        if own:
            sentences.append(
                f"The cross term of two halves of one vector is {listed(own)} (math, language), of plain addition "
                f"{digits(100 * mine[WHOLE].value, '+.0f')} %."
            )
    return " ".join(sentences)


def effects_told(crosses: pd.DataFrame) -> str:
    """Return in words what each vector saves alone, what that adds up to, and what both save: what the cross term is made of."""
    if crosses.empty:
        return NOT_YET
    whole = crosses[(crosses["part"] == WHOLE) & crosses["seed"].isin(seeds_everywhere(crosses))]
    told = []
    for asked, mine in whole.groupby("asked")[["both", "m", "l", "neither"]].mean().reindex(ASKED).iterrows():
        m, l, both = (digits(mine["neither"] - mine[side], "+.2f") for side in ("m", "l", "both"))  # noqa: E741
        summed = digits(2 * mine["neither"] - mine["m"] - mine["l"], "+.2f")
        told.append(
            f"on {TEXTS[str(asked)]} math saves {m} and the language {l}, in sum {summed}; together they save {both}"
        )
    problems = whole[whole["asked"] == "problems"]
    each = []
    for code, mine in problems.groupby("language", sort=False):
        one = over_trainings(100 * cross_terms(mine)["share"].to_numpy())
        each.append(f"{LANGUAGE_NAMES[str(code)]} {bracketed(one.value, one.low, one.high, '+.0f')} %")
    first, *others = told
    return (
        f"In nats per token, against the base: {'. '.join([first, *map(capital, others)])}. The cross term on problems by "
        f"language, of the {trainings(problems['seed'].nunique())} that all languages have: {listed(each)}."
    )


def swaps_told(found: pd.DataFrame) -> str:
    """Return in words whether swaps are free of cross terms, by their own intervals, on problems in the language."""
    mine = found[found["asked"] == "problems"] if len(found) else found
    rows = {
        part: over_trainings(100 * one["share"].to_numpy())
        for part, one in mine.groupby("part")
        if part.startswith("swap")
    }
    if not rows:
        return NOT_YET
    told = [f"{part} {bracketed(one.value, one.low, one.high, '+.0f')} %" for part, one in rows.items()]
    free = [part for part, one in rows.items() if max(-one.low, one.high) < 100 * MARGIN]
    within = f"by its whole interval {listed(free)} within a tenth" if free else "none is surely within a tenth"
    return f"On problems in the language the cross terms of swaps are {listed(told)}; {within}."


def by_strength(study: Study) -> dict[str, pd.DataFrame]:
    """Return the committed cross terms of plain addition in the study's language by the experts' strength, the weakest first."""
    alike = {"paradigm": study.paradigm, "language": study.language, "part": WHOLE}
    every = load_map("crosses", study.results, profile=list(STRENGTHS), **alike)
    found = {name: cross_terms(select(every, profile=name)) for name in STRENGTHS}
    return {name: plain for name, plain in found.items() if len(plain)}


def _share_on(plain: pd.DataFrame, asked: str) -> Interval:
    return over_trainings(100 * plain.loc[plain["asked"] == asked, "share"].to_numpy())


def strengths_table(study: Study, number: int | None = None) -> Shown:
    """Return the shares of plain addition by how far the experts moved, in the study's language."""
    rows = []
    for name, plain in by_strength(study).items():
        steps, rate = STRENGTHS[name]
        row = {
            "experts": updates.named(name),
            "steps": str(steps),
            "peak rate": f"{rate:f}".rstrip("0"),
            "trainings": str(plain["seed"].nunique()),
        }
        for asked in ASKED:
            one = _share_on(plain, asked)
            row[f"{TEXTS[asked]} (%)"] = bracketed(one.value, one.low, one.high, "+.0f")
        rows.append(row)
    if not rows:
        return to_come(number, NOT_YET, "table")
    caption = (
        "The cross term of plain addition as a share of what both vectors do alone, by how long and fast the experts learned, "
        f"{LANGUAGE_NAMES[study.language]}. Above zero both together lose more than the sum; 95 % intervals over trainings."
    )
    return table(rows, number=number, caption=caption)


def strengths_told(study: Study) -> str:
    """Return in words whether the share of plain addition rises or falls with how far the experts moved, by its means."""
    found = by_strength(study)
    if len(found) < 2:
        return NOT_YET
    ways: dict[str, list[str]] = {way: [] for way in ("rises with every step", "falls with every step", "does neither")}
    for asked in ASKED:
        means = [_share_on(plain, asked).value for plain in found.values()]
        signs = {before < after for before, after in pairwise(means)}
        way = "does neither" if len(signs) > 1 else f"{'rises' if True in signs else 'falls'} with every step"
        ways[way].append(f"{TEXTS[asked]} ({listed([digits(mean, '+.0f') for mean in means])} %)")
    told = listed([f"{way} on {listed(texts)}" for way, texts in ways.items() if texts])
    return (
        f"From the experts that moved least to those that moved most the share {told}. Below zero, both together lose less, or "
        "save more, than the sum."
    )


# --- the verdict -------------------------------------------------------------------------------------------


def verdict_told(crosses: pd.DataFrame) -> str:
    """Return F5's verdict in words, with the numbers that it rests on."""
    found = additivity(crosses)
    if found.outcome == UNTESTED:
        return (
            f"F5 is not tested with these trainings. {NOT_YET}"
            if crosses.empty
            else "F5 has no verdict: that takes three trainings."
        )
    return home.linear_told(found)


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets."""
    crosses, lines = tables(study, "crosses"), along(tables(study, "plane"), tables(study, "slopes"))
    told = [verdict_told(crosses), lines_told(lines), foretelling.in_short(foretelling.cells(study))]
    for paradigm in PARADIGMS:
        other = tables(study, "crosses", paradigm)
        if paradigm != study.paradigm and len(seeds_everywhere(other)) >= TRAININGS:
            shares = additivity(other).shares
            told.append(
                f"By {PARADIGM_NAMES[paradigm]} (no part of the verdict) the same shares are {home.shares_told(shares)}."
            )
    return bullets(dict.fromkeys(filter(None, told)))


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    study = home.committed_study()
    found = home.linear()
    lines = along(tables(study, "plane"), tables(study, "slopes"))
    sentences = [verdict_told(tables(study, "crosses")), *([lines_told(lines)] if len(lines) else [])]
    sentences += [one] if (one := foretelling.in_short(foretelling.cells(study))) else []
    kept = {} if found.outcome == UNTESTED else {"F5|plain addition": found.outcome}
    return box(paragraphs(sentences), kept)
