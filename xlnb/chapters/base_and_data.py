"""The base and the language data: what the language expert reads, and what the base makes of the problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from math import ceil, exp

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters.pictures import Foreign, Shown, box, panels, paragraphs, picture, table
from xlnb.chapters.word_problems import steps_in_words
from xlnb.chapters.words import amount, bracketed, bullets, improved, listed
from xlnb.chapters.words import number as digits
from xlnb.corpora import prose, templates
from xlnb.corpora.sources import SOURCES, load_corpus
from xlnb.evaluation.readings import (
    EXPRESSION,
    EXPRESSION_NLL,
    LIKELIHOODS,
    NLL,
    PRIMARY,
    READINGS,
    SHOTS_READINGS,
    TRIMMED,
    TWIN_CHOICE,
)
from xlnb.languages import LANGUAGE_NAMES
from xlnb.stats import mean_interval
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, WORSE, judged, verdicts_of
from xlnb.studies.experiments import Ask
from xlnb.studies.outcomes import scores, select
from xlnb.studies.profiles import Profile
from xlnb.studies.study import Study, open_study

_DRAWN = (NLL, EXPRESSION_NLL, EXPRESSION)  # by number of worked examples


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    study = open_study("pocket", "sw", 0, live=False)
    base = study.outcomes(experiments.BASE)
    gap = judged(claims.GAP, base)
    right, told = (_levels(base, metric) for metric in (EXPRESSION, PRIMARY))
    twins = study.outcomes(replace(experiments.EVERY_READING, methods=("base",)))
    apart = _levels(twins, TWIN_CHOICE)[study.language]
    name = LANGUAGE_NAMES[study.language]
    word = gap.set_index("metric")["verdict"]
    says = {
        BETTER: "English is significantly ahead",
        WORSE: f"{name} is significantly ahead",
        NOT_SHOWN: "The difference between the languages is not significant",
    }
    sentences = (
        f"With two worked examples the base gets all calculations of a problem right in {digits(right['en'], '.0f')} % of cases "
        f"in English and in {digits(right[study.language], '.0f')} % in {name}. {says[word[EXPRESSION]]}.",
        "But something of a problem arrives in both. Given its own problem a calculation is, on average, likelier than given "
        f"another one: {exp(told['en']):.1f} times per token in English and {exp(told[study.language]):.1f} times in {name}. "
        f"{says[word[PRIMARY]]}. {_twins_sentence(apart, name)}",
        "The problems come from a grammar: the same ones in four languages. No situation and no set of numbers that is scored "
        "occurs in what the math expert learned.",
    )
    return box(paragraphs(sentences), verdicts_of(gap))


def _twins_sentence(apart: float, language: str) -> str:
    """Return in words how many twins the base tells apart, in percent, and what follows where they are fewer than by a coin."""
    told = (
        f"Of twins, which have the same numbers and ask for another calculation, it tells {digits(apart, '.0f')} % apart in "
        f"{language}; a coin tells 25 %."
    )
    return f"{told} So it is the numbers that arrive, and hardly what is asked about them." if apart < 25 else told


def _levels(outcomes: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return the mean of a metric by test language, in its unit."""
    means = select(outcomes, metric=metric).groupby("test_language")["outcome"].mean()
    return {str(code): READINGS[metric].scale * float(mean) for code, mean in means.items()}


def language_samples(language: str, n: int = 4, number: int | None = None) -> Shown:
    """Return a table of ``n`` pieces of the prose, of different kinds: what was asked, the text, a question on it."""
    first = {piece.kind: piece for piece in reversed(prose.pieces(language))}
    rows = [
        (piece.kind, *(Foreign(text, language) for text in (piece.ask, piece.text, "\n".join(piece.answered[0]))))
        for piece in list(first.values())[:n]
    ]
    caption = f"What the {LANGUAGE_NAMES[language]} expert reads: {n} pieces of different kinds."
    return table(rows, ["kind", "asked for", "text", "a question about it"], number=number, caption=caption)


def language_data_table(number: int | None = None) -> Shown:
    """Return a table of the language data: pieces of prose, examples, translations, texts held out, kinds of the grammar."""
    rows = []
    for code in prose.PROSE_LANGUAGES:
        examples = load_corpus("prose", code).examples
        translated = sum(example.kind.startswith("to-") for example in examples)
        held_out = Counter(split for split, _ in prose.held_out_texts(code))
        halves, kinds = (held_out[split] for split in prose.HELD_OUT_SPLITS), len(templates.generic_kinds(code))
        rows.append((LANGUAGE_NAMES[code], len(prose.pieces(code)), len(examples), translated, *halves, kinds))
    caption = (
        "The language data that ship with xlnb: prose, written piece by piece, and beside it a grammar that makes instructions "
        "of several kinds without end."
    )
    columns = [
        "language",
        "pieces of prose",
        "examples",
        "of these translations",
        "texts held out for choosing budgets",
        "texts held out for measuring",
        "kinds of the grammar",
    ]
    return table(rows, columns, number=number, caption=caption)


def corpora_table(number: int | None = None) -> Shown:
    """Return a table of the corpora that xlnb reads by name: kind, languages, hub repository, licence."""
    rows = [(s.name, s.kind, " ".join(s.languages), s.hub or "ships with xlnb", s.licence) for s in SOURCES.values()]
    caption = "Corpora that can be named wherever ours stand."
    return table(
        rows, ["name", "kind", "languages", "on the Hugging Face hub", "licence"], number=number, caption=caption
    )


def shots_figure(outcomes: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw the base's means by the number of worked examples, a panel a metric, a line a test language; up is better."""
    found = scores(outcomes)
    codes = sorted(found["test_language"].unique(), key=lambda code: code != "en")

    def part(metric: str, code: str) -> pd.DataFrame:
        return select(found, metric=metric, test_language=code).sort_values("shots")

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(_DRAWN), 2.4, narrow)
        for axis, metric in zip(axes, _DRAWN, strict=True):
            reading = READINGS[metric]
            for code, offset, line, face in zip(codes, (-0.04, 0.04), ("-", "--"), ("#010203", "none"), strict=False):
                mine = part(metric, code)
                x = mine["shots"] + offset  # beside each other, so that intervals do not hide one another
                value, low, high = (reading.scale * mine[column] for column in ("value", "low", "high"))
                axis.vlines(x, low, high, color="#010203", linewidth=1.5)
                style = {"marker": "o", "color": "#010203", "markerfacecolor": face, "linestyle": line, "linewidth": 1}
                axis.plot(x, value, **style, label=LANGUAGE_NAMES[code])
            axis.set(title=reading.title, xlabel="worked examples", xticks=sorted(found["shots"].unique()))
            axis.set_ylabel(f"{reading.unit_in_words.replace('%', '% of problems')}\n(up is better)")
            axis.set_ylim(bottom=0)
            if not reading.higher_is_better:
                axis.invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return figure

    def seen(metric: str, code: str) -> str:
        form = ".0f" if READINGS[metric].unit == "%" else ".2f"
        return listed([digits(READINGS[metric].scale * value, form) for value in part(metric, code)["value"]])

    alt = [f"{READINGS[m].title} in {LANGUAGE_NAMES[code]}: {seen(m, code)}" for m in _DRAWN for code in codes]
    caption = (
        "The base by the number of worked examples before each problem. Likelihoods (NLL) run downwards, so that up is better "
        f"everywhere. Dots are means over development problems, lines 95 % intervals over problems. {TRIMMED}"
    )
    return picture(draw, number=number, caption=caption, alt=f"{'; '.join(alt)}.")


def shots_sentence(outcomes: pd.DataFrame) -> str:
    """Return, as Markdown, what each worked example adds to the base, by the family's verdicts."""
    found = judged(claims.SHOTS, outcomes)
    lines = []
    for code, part in found.groupby("test_language", sort=False):
        told = []
        for (more, _), name in zip(claims.SHOTS.pairs, ("first", "second"), strict=True):
            mine = part[part["partition_a"] == more[1]].set_index("metric", drop=False)
            better, worse = (int((mine["verdict"] == word).sum()) for word in (BETTER, WORSE))
            said = f"is significantly better by {better} of {len(mine)} metrics" + f" and worse by {worse}" * bool(
                worse
            )
            value = improved(next(mine.loc[[EXPRESSION_NLL]].itertuples()))
            told.append(f"the {name} worked example {said} ({READINGS[EXPRESSION_NLL].title}: {value})")
        lines.append(f"In {LANGUAGE_NAMES[str(code)]} {listed(told)}.")
    return bullets(lines)


def base_table(outcomes: pd.DataFrame, number: int | None = None) -> Shown:
    """Return the base's level in both languages by each metric of the family on their gap, and the difference."""
    gap = judged(claims.GAP, outcomes)
    language = str(gap["language"].iloc[0])
    rows = []
    for row in gap.itertuples():
        levels = [
            mean_interval(select(outcomes, metric=row.metric, test_language=code)["outcome"].to_numpy())
            for code in ("en", language)
        ]
        unit = READINGS[row.metric].unit_in_words
        shown = [amount(i.value, i.low, i.high, row.metric, with_unit=False) for i in levels]
        rows.append((f"{READINGS[row.metric].title} ({unit})", *shown, improved(row, with_unit=False), row.verdict))
    caption = (
        f"The base with two worked examples on {gap['n'].max()} scored problems (answers to {gap['n'].min()}), with 95 % "
        f"intervals over problems. {TRIMMED}"
    )
    columns = ["metric", "English", LANGUAGE_NAMES[language], "English minus the other", "English is"]
    return table(rows, columns, number=number, caption=caption, verdicts=verdicts_of(gap))


_ASKED = (*experiments.BY_SHOTS, experiments.BASE)  # what the chapter shows of the base


def asked_anew(study: Study) -> str:
    """Return in words how far a quarter of the chapter's outcomes, computed here, are from those that it shows; live only."""
    if not study.live:
        return "All this is committed. Live, the chapter asks the base a quarter of it anew, and says how far both are apart."
    now = study.outcomes(*(_quarter(ask, study.profile) for ask in _ASKED))
    both = now.merge(
        study.repeated(*_ASKED), on=["test_language", "split", "shots", "metric", "problem"], suffixes=("", "_shown")
    )
    likelihoods, answers = both[both["metric"].isin(LIKELIHOODS)], select(both, metric=EXPRESSION)
    far = float((likelihoods["outcome"] - likelihoods["outcome_shown"]).abs().max())
    same = int((answers["text"] == answers["text_shown"]).sum())
    return (
        f"A quarter of it was asked anew on this computer: {len(likelihoods)} likelihoods are off by at most "
        f"{ceil(round(far * 1e5, 3)) / 1e5:.5f} nats per token, and {same} of {len(answers)} answers are the same to the letter."
    )


def _quarter(ask: Ask, profile: Profile) -> Ask:
    """Return an ask of a quarter of its problems and answers, by what does not depend on which others are asked."""
    whole = ask.evaluation(profile)
    fewer = {"problems": max(2, whole.problems // 4), "generated": max(1, whole.generated // 4)}
    return replace(ask, changes={**ask.changes, **fewer, "readings": SHOTS_READINGS})


def by_steps_table(outcomes: pd.DataFrame, number: int | None = None) -> Shown:
    """Return a table of the share of problems with right calculations, by number of steps, with 95 % intervals."""
    found = select(outcomes, metric=EXPRESSION)
    last = int(found["problem"].max().rpartition("-")[2])
    steps = {p.id: len(p.expressions) for p in templates.problems("en", found["split"].iloc[0], last + 1)}
    codes = sorted(found["test_language"].unique(), key=lambda code: code != "en")
    rows = []
    for count, part in found.groupby(found["problem"].map(steps)):
        mine = [mean_interval(select(part, test_language=code)["outcome"].to_numpy()) for code in codes]
        shown = [f"{bracketed(100 * i.value, 100 * i.low, 100 * i.high, '.0f')}" for i in mine]
        rows.append((steps_in_words(int(str(count))), mine[0].n, *shown))
    columns = ["", "problems", *(f"{LANGUAGE_NAMES[code]} (%)" for code in codes)]
    caption = "Problems whose calculations are all right, by the number of steps, with 95 % intervals over problems."
    return table(rows, columns, number=number, caption=caption)


def answer_samples(outcomes: pd.DataFrame, language: str, n: int, number: int | None = None) -> Shown:
    """Return a table of the first ``n`` problems with the base's answer, the right one, and what was counted right."""
    found = select(outcomes, metric=EXPRESSION, test_language=language)
    problems = {p.id: p for p in templates.problems(language, found["split"].iloc[0], n)}
    foreign = partial(Foreign, language=language)
    rows = [
        (
            *map(foreign, (problems[r.problem].question, r.text.strip(), problems[r.problem].solution)),
            "yes" if r.outcome else "no",
        )
        for r in found.sort_values("problem").itertuples()
        if r.problem in problems
    ]
    caption = f"What the base answered to the first {len(rows[:n])} scored problems in {LANGUAGE_NAMES[language]}."
    columns = ["problem", "the base's answer", "right solution", "calculations right"]
    return table(rows[:n], columns, number=number, caption=caption, heads=False)


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets: what the base can do, in which language, and what examples add."""
    gap = judged(claims.GAP, study.repeated(experiments.BASE)).set_index("metric", drop=False)
    name = LANGUAGE_NAMES[study.language]
    says = {
        BETTER: "the base is significantly better in English",
        WORSE: f"the base is significantly better in {name}",
        NOT_SHOWN: f"English and {name} do not differ significantly",
    }
    lines = [
        f"By {READINGS[row.metric].title} {says[row.verdict]} ({improved(row)}, English minus {name})."
        for row in gap.loc[[PRIMARY, EXPRESSION]].itertuples()
    ]
    shots = judged(claims.SHOTS, study.repeated(*experiments.BY_SHOTS))
    first = shots[shots["partition_b"] == claims.shown_examples(0)]
    better = int((first["verdict"] == BETTER).sum())
    lines.append(
        f"The first worked example is significantly better than none by {better} of {len(first)} contrasts "
        f"({len(SHOTS_READINGS)} metrics, two languages)."
    )
    return bullets(lines)
