"""Overlap: how much of what matters for math matters for the language, beside chance and the same task; what becomes of F1."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb.analysis.fitting import CHANGE
from xlnb.analysis.overlap import likeness
from xlnb.analysis.sensitivity import FISHER, TAYLOR
from xlnb.chapters import agreeing, home, measured
from xlnb.chapters.figures import GREY, LANGUAGE_COLOUR, MATH_COLOUR
from xlnb.chapters.importance import NO_MAPS, seeds_in_words, there
from xlnb.chapters.pictures import NARROW, WIDE, Shown, box, panels, picture, table, to_come
from xlnb.chapters.words import MEASURE_NAMES, bracketed, bullets, capital, listed, lowered, percent
from xlnb.chapters.words import number as digits
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies import atlas, importances, overlaps
from xlnb.studies.claims import UNTESTED
from xlnb.studies.comparisons import EVERY_LANGUAGE
from xlnb.studies.importances import MEASURES
from xlnb.studies.overlaps import BETWEEN, CHANCE, OVER_CHANCE, OVER_CONTROL, PAIRS, RULE, SAME_LANGUAGE, SAME_MATH
from xlnb.studies.study import Study

_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
_INK = "#010203"
_LINES: dict[str, dict[str, Any]] = {
    BETWEEN: {"color": _INK, "linestyle": "-", "linewidth": 2.2},
    SAME_MATH: {"color": MATH_COLOUR, "linestyle": "--", "linewidth": 1.6},
    SAME_LANGUAGE: {"color": LANGUAGE_COLOUR, "linestyle": "-.", "linewidth": 1.6},
}
_CHANCE: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.6}
_LEGEND = [Line2D([], [], label=name, **style) for name, style in (*_LINES.items(), (CHANCE, _CHANCE))]
_SITES_WORDS = {"block": "layers by attention and FFN", "projection": "layers by projection"}


def figure(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw how much the top shares of sites have in common, over the languages: a panel a measure."""
    if not there(found):
        return to_come(number, NO_MAPS)
    curves = overlaps.curves(importances.scores(found), _SHARES)
    mine = curves[curves["language"] == EVERY_LANGUAGE]

    def draw(narrow: bool) -> Figure:
        rows, columns = (5, 1) if narrow else (2, 3)
        size = (NARROW, 5 * 1.7 + 0.6) if narrow else (WIDE, 4.2)
        drawn = Figure(figsize=size, layout="constrained")
        axes = drawn.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axis, measure in zip(axes, MEASURES, strict=False):
            _lines(axis, mine[mine["measure"] == measure])
            axis.set_title(capital(MEASURE_NAMES[measure]))
        for axis in axes[len(MEASURES) :]:
            axis.axis("off")
        drawn.supxlabel("top share of sites (%)", fontsize="medium")
        drawn.supylabel("Jaccard index of the tops", fontsize="medium")
        drawn.legend(handles=_LEGEND, loc="outside upper center", ncols=1 if narrow else 4)
        return drawn

    at = mine[mine["share"] == RULE.share].set_index(["measure", "quantity"])["value"]
    told = [
        f"by {MEASURE_NAMES[m]} {at[m, BETWEEN]:.2f}, {at[m, SAME_MATH]:.2f} and {at[m, SAME_LANGUAGE]:.2f}"
        for m in MEASURES
    ]
    caption = (
        f"How much the most important sites ({_SITES_WORDS['block']}) have in common, over the languages: pairs of different "
        f"seeds, bands are 95 % intervals over {seeds_in_words(found)}. Chance is that of two random sets. Exploratory, but for "
        f"the top {percent(RULE.share)}."
    )
    alt = f"Jaccard index at the top {percent(RULE.share)} of {', '.join(PAIRS)}: {listed(told)}."
    return picture(draw, number=number, caption=caption, alt=alt)


def _lines(axis: Any, mine: pd.DataFrame) -> None:
    for name, style in (*_LINES.items(), (CHANCE, _CHANCE)):
        line = mine[mine["quantity"] == name].sort_values("share")
        low, high = line["low"].clip(0, 1), line["high"].clip(0, 1)
        axis.fill_between(100 * line["share"], low, high, color=style["color"], alpha=0.13, linewidth=0)
        axis.plot(100 * line["share"], line["value"], **style)
    axis.set(ylim=(0, 1.02), xlim=(0, 82))


def table_of(found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Return the overlap of the top share that the rule is about, over the languages, with each measure's verdict."""
    if not there(found):
        return to_come(number, NO_MAPS, "table")
    told = overlaps.overlaps(importances.scores(found))
    decided = overlaps.decide(told)
    words = decided.verdicts or ("–",) * len(MEASURES)
    mine = told[told["language"] == EVERY_LANGUAGE].set_index(["measure", "quantity"])
    rows = []
    for measure, word in zip(MEASURES, words, strict=True):
        values = [digits(mine.loc[(measure, name), "value"], ".2f") for name in PAIRS]
        ends = [_told(mine.loc[(measure, name)]) for name in (OVER_CHANCE, OVER_CONTROL)]
        rows.append((MEASURE_NAMES[measure], *values, *ends, word))
    sites = int(told["sites"].iloc[0])
    caption = (
        f"Jaccard index of the top {percent(RULE.share)} of {sites} sites, over the languages. Over chance and over the control "
        f"(the mean of both same-task columns): differences with 95 % intervals over {seeds_in_words(found)}."
    )
    columns = ["measure", *PAIRS, OVER_CHANCE, OVER_CONTROL, "verdict"]
    return table(rows, columns, number=number, caption=caption, verdicts=verdicts(told))


def _told(row: Any, form: str = "+.2f") -> str:
    return bracketed(row["value"], row["low"], row["high"], form)


def verdicts(told: pd.DataFrame) -> dict[str, str]:
    """Return the verdict of F1 and of each measure, by names."""
    decided = overlaps.decide(told)
    each = zip(RULE.measures, decided.verdicts, strict=False)
    return {"F1": decided.outcome, **{f"F1|{measure}": word for measure, word in each}}


def by_language(found: Mapping[str, pd.DataFrame], by: str = "block", number: int | None = None, of: str = "") -> Shown:
    """Return overlap and rank correlation language by language, of blocks or of projections, with a permutation test over sites.

    ``of`` says which experts, where they are others than the page's. The test is of the means over seeds: how often shuffled
    sites are as unlike, or as alike. Exploratory.
    """
    scores = importances.scores(found, by)
    if scores.empty:
        return to_come(number, NO_MAPS, "table")
    top, rank = (overlaps.overlaps(scores, share) for share in (RULE.share, None))
    keys, rows = ["measure", "language", "quantity"], []
    top, rank = (one.set_index(keys) for one in (top, rank))
    for measure in dict.fromkeys(top.index.get_level_values(0)):
        for code, values in overlaps.arrays(scores, measure).items():
            at = (measure, code)
            math, language = values.mean(axis=1)
            chance = likeness(math, language)
            rows.append(
                {
                    "measure": MEASURE_NAMES[measure],
                    "language": LANGUAGE_NAMES[code],
                    "top over chance": _told(top.loc[(*at, OVER_CHANCE)]),
                    "top over the control": _told(top.loc[(*at, OVER_CONTROL)]),
                    "rank correlation": _told(rank.loc[(*at, BETWEEN)]),
                    "rank over the control": _told(rank.loc[(*at, OVER_CONTROL)]),
                    "p, less alike": digits(chance.p_less, ".4f"),
                    "p, more alike": digits(chance.p_more, ".4f"),
                }
            )
    sites = int(top["sites"].iloc[0])
    caption = (
        f"The same in each language{of}, of {_SITES_WORDS[by]} ({sites} sites): Jaccard index of the top {percent(RULE.share)}, "
        "and the rank correlation of all sites, also minus that of the same task twice, 95 % intervals over seeds; p-values of a "
        "permutation of sites. Exploratory."
    )
    return table(rows, number=number, caption=caption)


# --- single weights ------------------------------------------------------------------------------------------


def elements(study: Study, found: Mapping[str, pd.DataFrame], number: int | None = None) -> Shown:
    """Draw how many of the largest single weights two tasks have in common; by full fine-tuning, too, where it is there."""
    parts = element_parts(study, found)
    if not parts:
        return to_come(number, NO_MAPS)

    def draw(narrow: bool) -> Figure:
        drawn, axes = panels(len(parts), 2.0 if narrow else 2.5, narrow, sharey=True)
        for axis, (title, part) in zip(axes, parts.items(), strict=True):
            _lines(axis, part)
            axis.set(title=capital(title), xscale="log", xlim=(0.9, 55))
            axis.set_xticks([1, 10, 50], ["1", "10", "50"])
        drawn.supxlabel("top share of weights (%)", fontsize="medium")
        drawn.supylabel("Jaccard index", fontsize="medium")
        drawn.legend(handles=_LEGEND, loc="outside upper center", ncols=1 if narrow else 4)
        return drawn

    caption = (
        "How many of the largest single weights two tasks, or the same one twice, have in common, over the languages; bands are "
        "95 % intervals over seeds. Exploratory."
    )
    return picture(draw, number=number, caption=caption, alt=elements_told(study, found))


def element_parts(study: Study, found: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the overlap of single weights by what is compared: changes (by LoRA, in full), Fisher and Taylor scores."""
    mine = overlaps.elements(found["elements"])
    parts = {MEASURE_NAMES[measure]: mine[mine["measure"] == measure] for measure in (CHANGE, FISHER, TAYLOR)}
    if not study.live and study.paradigm == "lora":
        full = atlas.tables(study, "elements", "full")
        whole = overlaps.elements(full)
        parts = {
            "change, LoRA": parts.pop("relative change"),
            "change, full": whole[whole["measure"] == CHANGE],
            **parts,
        }
    return {title: part for title, part in parts.items() if len(part)}


def elements_told(study: Study, found: Mapping[str, pd.DataFrame], share: float = 0.01) -> str:
    """Return in words how much the very largest weights have in common, against chance and the same task."""
    told = []
    for title, part in element_parts(study, found).items():
        at = part[part["share"] == share].set_index("quantity")
        between, chance = (digits(at.loc[name, "value"], ".3f") for name in (BETWEEN, CHANCE))
        told.append(
            f"by {title} {between} where chance gives {chance}, and the difference to the same task is "
            f"{_told(at.loc[OVER_CONTROL], '+.3f')}"
        )
    whole = f"Of the largest {percent(share)} of single weights, math and the language have in common (Jaccard index)"
    return f"{whole}: {'; '.join(told)}." if told else NO_MAPS


# --- words ---------------------------------------------------------------------------------------------------


def reading(told: pd.DataFrame) -> str:
    """Return in words what the measures say, by the rule; ``told`` is :func:`xlnb.studies.overlaps.overlaps`."""
    return home.of_overlap(told)


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed maps."""
    told = home.overlap()
    if told.empty:
        return box(f"<p>{escape(NO_MAPS)}</p>", {"F1": UNTESTED})
    return box(f"<p><strong>F1:</strong> {escape(lowered(home.of_overlap(told)))}</p>", verdicts(told))


def summary(told: pd.DataFrame, swaps: pd.DataFrame) -> str:
    """Return the chapter's summary as Markdown bullets: F1 by the rule, and whether measured partitions are better ones."""
    counted = [agreeing.in_sites(told)] if len(told) else []
    return bullets([f"F1: {lowered(reading(told))}", *counted, measured.answered(swaps)])
