"""The scorecard: every method by language, what the plan's contrasts say, how often a method wins, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import product

import numpy as np
import pandas as pd

from xlnb.analysis.fitting import FITTED
from xlnb.chapters import figures, home
from xlnb.chapters.figures import how_to_read
from xlnb.chapters.fitted import with_fitted, with_the_best
from xlnb.chapters.layer_swapping import NOT_YET, with_pooled_random
from xlnb.chapters.pictures import Shown, box, table, to_come
from xlnb.chapters.words import (
    amount,
    bullets,
    capital,
    improved,
    improved_corrected,
    in_prose,
    listed,
    lowered,
    standing,
    trainings,
    unit_of_gains,
)
from xlnb.chapters.words import number as digits
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, NLL, PRIMARY, READINGS, TWIN_CHOICE, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import EXPERTS, FORMAT_CONTROL, METHODS, ORACLE
from xlnb.stats import crossed_interval, mean_interval, outcome_table
from xlnb.studies import claims
from xlnb.studies.comparisons import (
    ABOVE,
    BASE,
    BETTER,
    EVERY_LANGUAGE,
    NOT_SHOWN,
    UNJUDGED,
    WORSE,
    Arm,
    arms_of,
    by_pairs,
    contrasts,
    everywhere,
    of_arms,
    of_pairs,
    over_languages,
    side,
    verdicts_of,
)
from xlnb.studies.experiments import ANSWERS, COMPARISON, COMPARISON_CONTROLS, EVERY_METHOD, RANDOM_CONTROLS, Ask
from xlnb.studies.outcomes import committed_outcomes, select
from xlnb.studies.study import Study

_MATH = claims.MATH_EXPERT
_FAR = (FORMAT_CONTROL, ORACLE)
_REFERENCES = ("base", *_FAR)  # no methods: what they are held against
_OF_THE_SWAP = tuple(pair for pair in claims.PLAN.pairs if pair[0] == claims.SWAPPED)
_GAINS = (
    "Gains over the base, over all languages, by what numbers alone cannot give and by plain likelihood: 95 % intervals, more is "
    "better. Exploratory."
)
_VERDICTS = {BETTER: "better than", WORSE: "worse than", NOT_SHOWN: "not significantly different from"}


def outcomes(study: Study, *asked: Ask) -> pd.DataFrame:
    """Return the comparison's outcomes: all committed ones of the study's paradigm, or, live, those of this study.

    A live study computes what is ``asked`` (all of the comparison, its controls and answers).
    """
    if study.live:
        found = study.outcomes(*(asked or (COMPARISON, COMPARISON_CONTROLS, ANSWERS)))
    else:
        found = committed_outcomes(study.results, "methods", profile=study.profile.name, paradigm=study.paradigm)
        found = with_fitted(found, study)
    pooled = with_the_best(with_pooled_random(found))
    return pooled[~pooled["partition"].isin(RANDOM_CONTROLS)]


def decisions(table: pd.DataFrame) -> list[str]:
    """Return what the plan's contrasts say of each claim, a sentence a claim."""
    return [home.decided(claim, table) for claim in claims.CLAIMS.values()]


_SIX = "The plan's six contrasts, averaged over the languages; right of zero the first is better."


def plan_figure(table: pd.DataFrame, number: int | None = None, what: str = _SIX) -> Shown:
    """Draw contrasts of the plan: each method against its rival, over all languages."""
    if table.empty:
        return to_come(number, NOT_YET)
    caption = f"{what} {how_to_read(table, 'pairs of twins in each language')}"
    return figures.forest([("All languages", table)], number=number, caption=caption)


def overall(found: pd.DataFrame, metric: str = PRIMARY, in_english: bool = False) -> pd.DataFrame:
    """Return outcomes by a metric averaged over the languages (or in English), of the trainings that all languages have."""
    return over_languages(everywhere(select(found, metric=metric)), in_english)


def against(found: pd.DataFrame, rival: Arm = _MATH, code: str = EVERY_LANGUAGE, metric: str = PRIMARY) -> pd.DataFrame:
    """Return every arm against one, in a test language (the target where it is a study's, or English) or over all languages.

    Exploratory: the intervals are not corrected, and there are no verdicts.
    """
    if code in (EVERY_LANGUAGE, "en"):
        mine = overall(found, metric, in_english=code == "en")
    else:
        mine = by_pairs(select(found, metric=metric, language=code, test_language=code))
    pairs = [(arm, rival) for arm in arms_of(mine) if arm != rival]
    order = {slug: place for place, slug in enumerate(EVERY_METHOD)}
    pairs.sort(key=lambda pair: (order.get(pair[0][0], len(order)), pair[0][1] != "C", pair[0][1]))
    return contrasts(mine, pairs, code, (metric,))


def targets(found: pd.DataFrame) -> list[str]:
    """Return the target languages that outcomes are in."""
    return [code for code in found["language"].unique() if (found["test_language"] == code).any()]


def figure(found: pd.DataFrame, rival: Arm = _MATH, number: int | None = None) -> Shown:
    """Draw the scorecard: methods as rows, the best first, languages as columns, differences to one of them with intervals.

    What learned the language's own problems or the wrong solutions is left out: it is no method, and far from all of them.
    """
    if found.empty:
        return to_come(number, NOT_YET)
    mine = found[~found["method"].isin(_FAR) & ~found["partition"].isin(FITTED)]  # their mean is shown
    parts = [(LANGUAGE_NAMES[code], against(mine, rival, code)) for code in targets(mine)]
    arms = ["method_a", "partition_a"]
    order = pd.concat([part for _, part in parts]).groupby(arms)["difference"].mean().sort_values(ascending=False).index
    parts = [(name, part.set_index(arms).reindex(order).dropna(how="all").reset_index()) for name, part in parts]
    return exploratory(parts, f"Every method against {in_prose(*rival)}, language by language, the best first", number)


def exploratory(
    parts: Sequence[tuple[str, pd.DataFrame]], what: str, number: int | None = None, of: str = "pairs of twins"
) -> Shown:
    """Draw contrasts of arms with one arm, a panel a part (title, contrasts), without verdicts.

    ``what`` opens the caption; means are over so many ``of`` these.
    """
    seeds = max(int(part["seeds"].max()) for _, part in parts)
    first = parts[0][1].iloc[0]
    caption = (
        f"{what}: dots are means over {parts[0][1]['n'].max()} {of} and {trainings(seeds)}, lines their 95 % "
        "intervals, not corrected for their number. Grey: exploratory, without verdict."
    )
    rival = in_prose(first["method_b"], first["partition_b"])
    return figures.forest(parts, number=number, caption=caption, against=rival, one_scale=True)


def far_off(found: pd.DataFrame) -> str:
    """Return in a sentence how far the references that the figure leaves out are from the math expert, over all languages."""
    if found.empty:
        return ""
    table = against(found)
    told = [f"{in_prose(row.method_a)} at {improved(row)}" for row in table.itertuples() if row.method_a in _FAR]
    return f"Left out, since they are far off: {listed(told)}." if told else ""


def wins(found: pd.DataFrame) -> pd.DataFrame:
    """Return for every arm over trainings and languages how often it is above the base and the math expert, and its ranks.

    Columns: method, partition, cells (trainings by languages), over_base, over_math (shares), rank (mean; 1 is the best), best,
    worst. Controls have no rank among the methods.
    """
    mine = select(found, metric=PRIMARY)
    mine = mine[mine["test_language"] == mine["language"]]
    means = mine.groupby(["language", "seed", "method", "partition"])["outcome"].mean().reset_index()
    base = select(means, method="base").set_index("language")["outcome"]
    trained = means[means["method"] != "base"]
    wide = trained.pivot(index=["language", "seed"], columns=["method", "partition"], values="outcome")
    floor = base.reindex(wide.index.get_level_values("language")).to_numpy()
    ranked = [arm for arm in wide if arm[1] in ("", "C") and arm[0] not in _REFERENCES]
    ranks = wide[ranked].rank(axis=1, ascending=False)
    rows = []
    for arm in wide:
        own = wide[arm].dropna()
        math = wide.loc[own.index, [_MATH]].iloc[:, 0]
        rank = ranks[arm].dropna() if arm in ranked else pd.Series(dtype=float)
        ends = (rank.mean(), rank.min(), rank.max()) if len(rank) else (float("nan"),) * 3
        above = (own.to_numpy() > floor[wide.index.isin(own.index)]).mean()
        rows.append((*arm, len(own), above, (own > math).mean() if arm != _MATH else float("nan"), *ends))
    columns = ["method", "partition", "cells", "over_base", "over_math", "rank", "best", "worst"]
    return pd.DataFrame(rows, columns=columns).sort_values("rank", ignore_index=True)


def wins_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`wins` for a reader."""
    if found.empty:
        return to_come(number, NOT_YET)
    counted = wins(found)
    rows = [
        {
            "method": in_prose(row.method, row.partition),
            "above the base": digits(row.over_base, ".0%"),
            "above the math expert": digits(row.over_math, ".0%"),
            "mean rank": digits(row.rank, ".1f"),
            "from, to": "–" if row.rank != row.rank else f"{row.best:.0f}, {row.worst:.0f}",
        }
        for row in counted.itertuples()
    ]
    most = int(counted["cells"].max())
    caption = (
        f"How often each method's mean is above the base's and the math expert's, of {most} trainings by languages at most, and "
        "its rank among the methods by partition C (1 is the best). Counts of wins, whatever their size: no verdict."
    )
    return table(rows, number=number, caption=caption)


def other_readings(
    found: pd.DataFrame, number: int | None = None, metrics: Sequence[str] = (*TWINS, NLL), caption: str = _GAINS
) -> Shown:
    """Return every method's gain over the base by several metrics (those of twins and plain likelihood), over all languages."""
    if found.empty:
        return to_come(number, NOT_YET)
    mine = found[~found["partition"].isin(FITTED)]
    rows: dict[Arm, dict[str, str]] = {}
    for metric in metrics:
        for row in against(mine, BASE, metric=metric).itertuples():
            line = rows.setdefault((row.method_a, row.partition_a), {"method": in_prose(row.method_a, row.partition_a)})
            line[f"{READINGS[metric].title} ({unit_of_gains(metric)})"] = improved(row, with_unit=False)
    return table(list(rows.values()), number=number, caption=caption)


def apart(found: pd.DataFrame, code: str = EVERY_LANGUAGE) -> str:
    """Return in words who tells more twins apart than the base, by intervals that exclude zero."""
    gains = against(found, BASE, code, TWIN_CHOICE)
    able = [in_prose(row.method_a, row.partition_a) for row in gains.itertuples() if side(row) == ABOVE]
    who = f"only {listed(able)} tells" if len(able) == 1 else f"{listed(able)} tell" if able else "none tells"
    return f"{who} more twins apart than the base"


def likelihood_reading(found: pd.DataFrame) -> str:
    """Return in words what the other metrics say: who tells twins apart, and whom the math expert loses to by likelihood."""
    if found.empty:
        return NOT_YET
    likely = contrasts(
        overall(found, NLL),
        [(arm, _MATH) for arm in (claims.SWAPPED, claims.SOUP, claims.DATA_MIXING, claims.REVERTED)],
        EVERY_LANGUAGE,
        (NLL,),
    )
    told = [
        f"{in_prose(row.method_a, row.partition_a)} {improved(row, place == 0)}"
        for place, row in enumerate(likely.itertuples())
    ]
    above = all(side(row) == ABOVE for row in likely.itertuples())
    return (
        f"{capital(apart(found))} with an interval that excludes zero. By plain likelihood of the whole solution, words "
        f"included, the differences to the math expert are: {listed(told)}."
        + (" All four are above it, the last without a word of the language in its training." if above else "")
    )


def english_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what every method costs in English, against the math expert."""
    if found.empty:
        return to_come(number, NOT_YET)
    rows = [
        (in_prose(row.method_a, row.partition_a), improved(row, with_unit=False))
        for row in against(found, _MATH, "en").itertuples()
    ]
    caption = (
        f"{capital(READINGS[PRIMARY].title)} in English, every method against the math expert (nats per token; below zero is "
        "lost). Exploratory."
    )
    return table(rows, ["method", "difference"], number=number, caption=caption)


def answers_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return how many problems the main methods answer right in words, by language."""
    told = found[found["metric"].isin([EXPRESSION, EXACT_MATCH])]
    if told.empty:
        return to_come(number, NOT_YET)
    rows, shapes = [], []
    for arm, code in product(arms_of(told), told["test_language"].unique()):
        mine = of_arms(select(told, test_language=code), arm)
        if code != "en":  # in English a training answers once for each language that it went on to
            mine = select(mine, language=code)
        line = {"method": in_prose(*arm), "language": LANGUAGE_NAMES[code]}
        for metric in (EXPRESSION, EXACT_MATCH):
            some = select(mine, metric=metric)
            if len(some):
                cells = outcome_table(some)
                shapes.append(cells.shape)
                # Where no training differs, the spread of nothing tells nothing: Wilson's interval, over the problems.
                i = crossed_interval(cells) if len(cells) > 1 and np.ptp(cells) else mean_interval(cells[0])
                low, high = max(i.low, 0.0), min(i.high, 1.0)  # it is a share
                line[f"{READINGS[metric].title} (%)"] = amount(i.value, low, high, metric, with_unit=False)
        rows.append(line)
    most = [max(sizes) for sizes in zip(*shapes, strict=True)]
    caption = (
        f"What is answered in words, with 95 % intervals: {most[1]} problems a language, without their twins, and "
        f"{trainings(most[0])} (the base once). Exploratory."
    )
    return table(rows, number=number, caption=caption)


def budgets_table(study: Study, number: int | None = None) -> Shown:
    """Return what each method is trained on: trainings, optimizer steps, examples."""
    rows = []
    for slug in EVERY_METHOD:
        trained = [one for expert in METHODS[slug].experts for one in _trainings(expert)]
        steps = [len(EXPERTS[one].streams) * study.training(one).steps for one in trained]
        batch = study.profile.training.batch_size
        rows.append(
            (
                in_prose(slug, "C" if METHODS[slug].uses_partition else ""),
                METHODS[slug].formula,
                len(steps),
                sum(steps),
                batch * sum(steps),
            )
        )
    caption = "What each method costs: all its trainings, and that of an expert which another one goes on from."
    return table(rows, ["method", "formula", "trainings", "steps", "examples"], number=number, caption=caption)


def _trainings(slug: str) -> list[str]:
    """Return an expert, behind those that it goes on from."""
    start = EXPERTS[slug].start
    return [*(_trainings(start) if start else []), slug]


def reading(table: pd.DataFrame) -> str:
    """Return the plan's contrasts in words."""
    if table.empty:
        return NOT_YET
    if UNJUDGED in set(table["verdict"]):
        return "Fewer than three trainings, or not of all three languages: no verdict."
    told = [
        f"{capital(in_prose(row.method_a, row.partition_a))} is {_VERDICTS[row.verdict]} "
        f"{in_prose(row.method_b, row.partition_b)} ({improved_corrected(row)})"
        for row in table.itertuples()
    ]
    return f"{'. '.join(told)}."


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results: what became of the plan's claims."""
    made = home.planned()
    told = [escape(sentence) for sentence in decisions(made)]
    if len(made):
        swaps = of_pairs(made, _OF_THE_SWAP)
        words = set(swaps["verdict"])
        opening = "Yes" if words == {BETTER} else "No verdict yet" if UNJUDGED in words else "Not with these experts"
        told.insert(0, f"<strong>{opening}:</strong> {escape(lowered(standing(swaps, numbers=False)))}")
    return box("".join(f"<p>{sentence}</p>" for sentence in told), verdicts_of(made) if len(made) else {})


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets."""
    found = outcomes(study)
    lines = decisions(claims.planned(found))
    if len(found):
        often = wins(found)
        first = often.iloc[0]
        always = [
            in_prose(row.method, row.partition)
            for row in often.itertuples()
            if row.over_base == 1 and row.rank == row.rank  # controls have none
        ]
        lines.append(f"The best mean rank has {in_prose(first['method'], first['partition'])} ({first['rank']:.1f}).")
        lines.append(
            "Of the methods that have a rank, above the base in every training and language: "
            f"{listed(always) if always else 'none'}."
        )
    return bullets(lines)
