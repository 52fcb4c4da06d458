"""The experts: how they were trained, what each gained and forgot, what an expert of both costs, and what the order does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from xlnb.chapters import budgets, first_swap, home, scorecard
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR
from xlnb.chapters.layer_swapping import NOT_YET
from xlnb.chapters.pictures import Shown, box, panels, paragraphs, picture, table, to_come
from xlnb.chapters.words import bullets, capital, improved, in_prose, listed, lowered, trainings
from xlnb.chapters.words import number as digits
from xlnb.evaluation.readings import NLL, PRIMARY, TWIN_CHOICE, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import EXPERTS, FORMAT_CONTROL, LANGUAGE, MATH, ORACLE, all_streams
from xlnb.studies import claims
from xlnb.studies.comparisons import ABOVE, BELOW, EVERY_LANGUAGE, side, verdicts_of
from xlnb.studies.experiments import COMPARISON
from xlnb.studies.outcomes import load_training, select
from xlnb.studies.study import Study

BASE, MIXED, HALF, MATH_LAST, LANGUAGE_LAST = "base", "data-mixing", "data-mixing-half", "math-last", "language-last"
OF_BOTH = (MIXED, HALF, MATH_LAST, LANGUAGE_LAST)
TRAINED = (MATH, LANGUAGE, *OF_BOTH, FORMAT_CONTROL, ORACLE)
_ASKED = replace(COMPARISON, methods=(BASE, *TRAINED))
_STEPS = 10  # over which losses are averaged
_TRAINING = ["expert", "language", "seed", "step"]
_LEARNED = {
    "math": "word problems in English",
    "language": "prose of the language",
    "in-language math": "word problems in the language",
    "math, shuffled": "word problems in English, each with another's solution",
}
# Neither blue nor orange, which stand for better and worse; the strokes differ, too.
_COLOURS = {"en": MATH_COLOUR, "sw": LANGUAGE_COLOUR, "bn": "#6A51A3", "te": "#8C6D1F"}
_STROKES = {"en": "-", "sw": "-", "bn": "--", "te": "-."}


def outcomes(study: Study) -> pd.DataFrame:
    """Return the experts' outcomes and the base's: all committed ones of the study's paradigm, or, live, those of this study."""
    return select(scorecard.outcomes(study, _ASKED), method=_ASKED.methods, metric=(PRIMARY, *TWINS, NLL))


def histories(study: Study, slugs: Sequence[str] = TRAINED) -> pd.DataFrame:
    """Return loss, rate and tokens by step of experts: of all committed trainings, or, live, of this study's.

    Columns also expert, seed, and language: the target, or English for what is trained on nothing else and serves every target.
    """
    if study.live:
        parts = [study.history(slug).assign(**study.trained_as(slug)) for slug in slugs]
        found = pd.concat(parts, ignore_index=True)
    else:
        corpora = [study.corpora((slug,)) for slug in slugs]
        alike = {"profile": study.profile.name, "paradigm": study.paradigm}
        found = load_training(study.results, **alike, expert=list(slugs), corpora=corpora)
    english = [slug for slug in slugs if all(stream.is_english for stream in all_streams(slug))]
    found.loc[found["expert"].isin(english), "language"] = "en"
    return found.drop_duplicates(_TRAINING, ignore_index=True)


def trainings_table(study: Study, told: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what each expert learned from and for how long; tokens as counted in its histories ``told``."""
    training, rows = study.profile.training, []
    for slug in TRAINED:
        expert, steps = EXPERTS[slug], study.training(slug).steps * len(EXPERTS[slug].streams)
        read = listed([_LEARNED[stream.corpus] for stream in expert.streams])
        later = f", going on from {in_prose(expert.start)}" if expert.start else ""
        rows.append((in_prose(slug), read + later, steps, steps * training.batch_size, _tokens(told, slug)))
    caption = (
        f"How each expert was trained: LoRA of rank {training.rank}, {training.batch_size} examples a step, a peak rate of "
        f"{training.learning_rate:g}. Tokens are those of prompts and completions, by language where they differ."
    )
    columns = ["expert", "learned from", "steps", "examples", "tokens (thousands)"]
    return table(rows, columns, number=number, caption=caption)


def _tokens(told: pd.DataFrame, slug: str) -> str:
    mine = select(told, expert=slug).groupby(["language", "seed"], sort=False)["tokens"].sum()
    counts = {code: f"{count / 1000:.0f}" for code, count in mine.groupby("language", sort=False).mean().items()}
    if len(set(counts.values())) < 2:
        return next(iter(counts.values()), "–")
    return ", ".join(f"{code} {count}" for code, count in counts.items())


def curves(told: pd.DataFrame, slug: str) -> dict[str, pd.DataFrame]:
    """Return an expert's training loss by step and language, as mean, low and high over trainings; each a mean of ten steps."""
    found = {}
    for code, part in select(told, expert=slug).groupby("language", sort=False):
        wide = part.pivot(index="step", columns="seed", values="loss").rolling(_STEPS, min_periods=1).mean()
        found[str(code)] = pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})
    return found


def curve_figure(
    told: pd.DataFrame, slugs: tuple[str, ...] = (MATH, LANGUAGE, MIXED, ORACLE), number: int | None = None
) -> Shown:
    """Draw the training loss of experts by step, a panel an expert, a line a language."""
    if told.empty:
        return to_come(number, NOT_YET)
    drawn = {slug: curves(told, slug) for slug in slugs}
    names = LANGUAGE_NAMES | {"en": "English alone"}

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(slugs), 1.9 if narrow else 2.4, narrow)
        for axis, (slug, lines) in zip(axes, drawn.items(), strict=True):
            for code, line in lines.items():
                style = {"color": _COLOURS[code], "linestyle": _STROKES[code], "label": names[code]}
                axis.plot(line.index + 1, line["mean"], linewidth=2, **style)
                axis.fill_between(
                    line.index + 1, line["low"], line["high"], color=_COLOURS[code], alpha=0.25, linewidth=0
                )
            axis.set(title=capital(in_prose(slug).removeprefix("the ")), xlabel="optimizer step")
            axis.set_ylim(bottom=0)
        for axis in axes if narrow else axes[:1]:
            axis.set_ylabel("training loss\n(nats per token)")
        told_apart = {line.get_label(): line for axis in axes for line in axis.lines}
        figure.legend(handles=list(told_apart.values()), loc="outside upper center", ncols=2 if narrow else 4)
        return figure

    caption = (
        f"Training loss by step: lines are means over {trainings(told['seed'].nunique())}, each of which is averaged over the "
        f"last {_STEPS} steps; bands reach from the lowest to the highest training. Every panel has an axis of its own."
    )
    ends = [
        f"{in_prose(slug)} ({names[code]}) from {line['mean'].iloc[0]:.2f} to {line['mean'].iloc[-1]:.2f}"
        for slug, lines in drawn.items()
        for code, line in lines.items()
    ]
    return picture(draw, number=number, caption=caption, alt=f"Curves of the loss: {listed(ends)}.")


def gains_figure(
    found: pd.DataFrame, rival: str = BASE, slugs: tuple[str, ...] = TRAINED, number: int | None = None
) -> Shown:
    """Draw experts against the base, or against one of them, a panel a language."""
    if found.empty:
        return to_come(number, NOT_YET)
    mine = select(found, method=(rival, *slugs))
    codes = [*scorecard.targets(mine), "en"]
    parts = [(LANGUAGE_NAMES[code], scorecard.against(mine, (rival, ""), code)) for code in codes]
    return scorecard.exploratory(parts, f"Experts against {in_prose(rival)}", number)


def stands(found: pd.DataFrame, *pairs: tuple[str, str], code: str = EVERY_LANGUAGE, metric: str = PRIMARY) -> str:
    """Return in words on which side of its rival each expert is, for pairs of both, over all languages or in English."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for place, (slug, rival) in enumerate(pairs):
        both = select(found, method=(slug, rival))
        row = next(scorecard.against(both, (rival, ""), code, metric).itertuples())
        named = in_prose(slug), improved(row, with_unit=place == 0)
        groups.setdefault((side(row) or "neither above nor below", in_prose(rival)), []).append(named)
    told = []
    for (where, rival), arms in groups.items():
        names, sizes = zip(*arms, strict=True)
        told.append(f"{listed(names)} {'are' if names[1:] else 'is'} {where} {rival} ({', '.join(sizes)})")
    return "; ".join(told)


def gains_sentence(found: pd.DataFrame) -> str:
    """Return in words which experts are above the base in every language, which below, and how far math carries."""
    if found.empty:
        return NOT_YET
    sides: dict[str, set[str]] = {}
    for code in scorecard.targets(found):
        for row in scorecard.against(found, (BASE, ""), code).itertuples():
            sides.setdefault(row.method_a, set()).add(side(row))
    above, below = ([in_prose(slug) for slug, some in sides.items() if some == {one}] for one in (ABOVE, BELOW))
    names = listed([LANGUAGE_NAMES[code] for code in scorecard.targets(found)])
    return (
        f"With the whole interval above the base in {names}: {listed(above) or 'none'}. Below it: "
        f"{listed(below) or 'none'}. On average over the languages {stands(found, (MATH, BASE), (ORACLE, MATH))}. "
        f"In English {stands(found, (MATH, BASE), (LANGUAGE, BASE), code='en')}."
    )


def metrics_sentence(found: pd.DataFrame) -> str:
    """Return in words what other metrics say: who tells twins apart, and who is above the math expert by likelihood."""
    if found.empty:
        return NOT_YET
    apart = f"With intervals that exclude zero, {scorecard.apart(found)}; in English {scorecard.apart(found, 'en')}."
    asked = select(found, metric=TWIN_CHOICE, test_language=scorecard.targets(found))
    shares = {slug: 100 * select(asked, method=slug)["outcome"].mean() for slug in (BASE, ORACLE)}
    apart += f" But a coin tells 25 % apart, the base {shares[BASE]:.0f} % and the oracle {shares[ORACLE]:.0f} %."
    likely = stands(found, (MATH, BASE), *((slug, MATH) for slug in OF_BOTH), metric=NLL)
    return f"{apart} By the likelihood of whole solutions {likely}."


def knowledge_sentence() -> str:
    """Return what the first chapter's contrasts say of who knows the language, with their verdicts' words."""
    return first_swap.knowledge_in_words(home.tables()[claims.KNOWLEDGE.id])


def both_sentence(found: pd.DataFrame) -> str:
    """Return in words where experts of both stand next to the math expert, and which of two trainings in a row decides."""
    if found.empty:
        return NOT_YET
    return f"On average over the languages {stands(found, *((slug, MATH) for slug in OF_BOTH))}. {_order(found)}"


def _order(found: pd.DataFrame) -> str:
    return f"Of two trainings in a row, {stands(found, (MATH_LAST, LANGUAGE_LAST))}."


def inherited(told: pd.DataFrame, slug: str) -> pd.DataFrame:
    """Return by language how far an earlier training moved the loss of a later one, against the same training from the base.

    Both read the same batches in the same order. Columns: first (of the first batch, before any step) and last (of ten steps).
    """
    alone, keys = (MATH, ["seed", "step"]) if slug == MATH_LAST else (LANGUAGE, ["language", "seed", "step"])
    rival = select(told, expert=alone)[[*keys, "loss"]]
    both = select(told, expert=slug).merge(rival, on=keys, suffixes=("", "_alone"))
    gaps = (both["loss"] - both["loss_alone"]).groupby([both["step"], both["language"]]).mean().unstack()
    return pd.DataFrame({"first": gaps.iloc[0], "last": gaps.tail(_STEPS).mean()})


def losses_sentence(told: pd.DataFrame) -> str:
    """Return :func:`inherited` in words."""
    if told.empty:
        return NOT_YET
    gaps = {slug: inherited(told, slug) for slug in (LANGUAGE_LAST, MATH_LAST)}
    first = [f"{digits(gap['first'].mean(), '+.2f')} for {in_prose(slug)}" for slug, gap in gaps.items()]
    most = max(gap["last"].abs().max() for gap in gaps.values())
    return (
        f"Before any step the loss is higher by {listed(first)} (nats per token, on average over languages and trainings); over "
        f"the last {_STEPS} steps no language's mean differs by more than {most:.3f}."
    )


def lines(found: pd.DataFrame) -> list[str]:
    """Return what the chapter says, a sentence or two a point."""
    if found.empty:
        return [NOT_YET]
    return [
        f"On problems in the languages, of which its training had none, {stands(found, (MATH, BASE))}; in English "
        f"{stands(found, (MATH, BASE), code='en')}.",
        f"By the first chapter, {lowered(knowledge_sentence())} On problems {stands(found, (LANGUAGE, BASE))}. "
        f"{budgets.news_sentence(home.committed_study().profile.training)}",
        f"At equal steps an expert of both has half as much math: {stands(found, (HALF, MATH))}. By the likelihood of "
        f"whole solutions {stands(found, (HALF, MATH), metric=NLL)}.",
        _order(found),
    ]


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    verdicts = verdicts_of(home.tables()[claims.KNOWLEDGE.id])
    told = lines(outcomes(home.committed_study()))
    return box(paragraphs(told), verdicts)


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets."""
    return bullets(lines(outcomes(study)))
