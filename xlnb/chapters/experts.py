"""The experts: how they were trained, what each gained and forgot, what an expert of both costs, and what the order does."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xlnb.chapters import budgets, figures, first_swap, home
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR
from xlnb.chapters.layer_swapping import NOT_YET, at_hand
from xlnb.chapters.pictures import Shown, box, panels, picture, table, to_come
from xlnb.chapters.scorecard import against
from xlnb.chapters.words import bracketed, bullets, capital, improved, in_prose, listed, lowered, trainings
from xlnb.chapters.words import number as digits
from xlnb.errors import RequestError
from xlnb.evaluation.readings import NLL, PRIMARY, READINGS, TWIN_CHOICE, TWINS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import EXPERTS, FORMAT_CONTROL, LANGUAGE, MATH, ORACLE, all_streams
from xlnb.studies import claims
from xlnb.studies.comparisons import BASE, EVERY_LANGUAGE, Arm, improvement, verdicts_of
from xlnb.studies.experiments import COMPARISON, KNOWLEDGE
from xlnb.studies.outcomes import COLUMNS, load_outcomes, select
from xlnb.studies.search import BASE as SEARCHED_BASE
from xlnb.studies.search import HELD_OUT, NTREX, PROSE, TARGETS, committed_search, settings
from xlnb.studies.study import Study
from xlnb.training.sft import Training

MIXED, HALF, MATH_LAST, LANGUAGE_LAST = "data-mixing", "data-mixing-half", "math-last", "language-last"
TRAINED = (MATH, LANGUAGE, MIXED, HALF, MATH_LAST, LANGUAGE_LAST, FORMAT_CONTROL, ORACLE)
_REFERENCES = (FORMAT_CONTROL, ORACLE)
_METRICS = (PRIMARY, *TWINS, NLL)
_ASKED = replace(COMPARISON, methods=("base", *TRAINED))
_STEPS = 10  # over which losses are averaged
_LEARNED = {
    "math": "word problems in English",
    "language": "prose of the language",
    "in-language math": "word problems in the language",
    "math, shuffled": "word problems in English, each with another's solution",
}
# Neither blue nor orange, which stand for better and worse; the strokes differ, too.
_LINES: dict[str, tuple[str, Any]] = {
    "en": (MATH_COLOUR, "-"),
    "sw": (LANGUAGE_COLOUR, "-"),
    "bn": ("#6A51A3", "--"),
    "te": ("#8C6D1F", "-."),
}


def outcomes(study: Study) -> pd.DataFrame:
    """Return the experts' outcomes and the base's: all committed ones of the study's paradigm, or, live, those of this study."""
    if study.live:
        return select(study.outcomes(_ASKED), metric=_METRICS)
    alike = {"profile": study.profile.name, "paradigm": study.paradigm}
    try:
        return load_outcomes(experiment="methods", method=_ASKED.methods, metric=_METRICS, **alike)
    except RequestError:  # nothing is committed yet
        return pd.DataFrame(columns=COLUMNS)


def histories(study: Study, slugs: tuple[str, ...] = TRAINED) -> pd.DataFrame:
    """Return loss, rate and tokens by step of experts: of all committed trainings, or, live, of this study's.

    Columns also expert, seed, and language: the target, or English for what is trained on nothing else and serves every target.
    """
    if study.live:
        parts = [study.history(slug).assign(language=study.language, seed=study.seed, expert=slug) for slug in slugs]
    else:
        files = sorted(study.results.glob("methods*/training.parquet"))
        parts = [select(pd.read_parquet(file), profile=study.profile.name, expert=slugs) for file in files]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_TRAINING, "loss", "tokens"])
    # What learned English alone serves every language, and is no training more for that.
    found.loc[found["expert"].isin([slug for slug in slugs if _is_english(slug)]), "language"] = "en"
    return found.drop_duplicates(_TRAINING, ignore_index=True)


_TRAINING = ["expert", "language", "seed", "step"]


def _is_english(slug: str) -> bool:
    return all(stream.is_english for stream in all_streams(slug))


def _called(slug: str) -> str:
    return lowered(in_prose(slug))


# --- how they were trained -----------------------------------------------------------------------------------------


def recipe(training: Training, examples: int) -> str:
    """Return in words how every expert is trained."""
    return (
        f"Every expert is a LoRA of rank {training.rank} (alpha {training.alpha}"
        f"{', rank-stabilised' if training.rank_stabilised else ''}) on the {len(training.projections)} projections of each "
        f"layer. A step has {training.batch_size} examples; the rate rises to {training.learning_rate:g} over the first "
        f"{training.warmup:.0%} of the steps and falls to zero along a cosine. A set has {examples} examples."
    )


def trainings_table(study: Study, told: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what each expert learned from and for how long; tokens as counted in its histories ``told``."""
    rows = []
    for slug in TRAINED:
        expert, steps = EXPERTS[slug], study.training(slug).steps * len(EXPERTS[slug].streams)
        read = listed([_LEARNED[stream.corpus] for stream in expert.streams])
        later = f", going on from {in_prose(expert.start)}" if expert.start else ""
        rows.append(
            (_called(slug), read + later, steps, steps * study.profile.training.batch_size, _tokens(told, slug))
        )
    caption = (
        "How each expert was trained. Tokens are those of prompts and completions, by language where they differ. An expert that "
        "goes on has the other's training on top."
    )
    columns = ["expert", "learned from", "steps", "examples", "tokens (thousands)"]
    return table(rows, columns, number=number, caption=caption)


def _tokens(told: pd.DataFrame, slug: str) -> str:
    mine = select(told, expert=slug).groupby(["language", "seed"], sort=False)["tokens"].sum()
    told = {code: f"{count / 1000:.0f}" for code, count in mine.groupby("language", sort=False).mean().items()}
    if len(set(told.values())) < 2:
        return next(iter(told.values()), "–")
    return ", ".join(f"{code} {count}" for code, count in told.items())


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
    codes = list(dict.fromkeys(code for lines in drawn.values() for code in lines))

    def draw(narrow: bool) -> Figure:
        figure, axes = panels(len(slugs), 1.9 if narrow else 2.4, narrow)
        for axis, (slug, lines) in zip(axes, drawn.items(), strict=True):
            for code, line in lines.items():
                colour, stroke = _LINES[code]
                axis.plot(line.index + 1, line["mean"], color=colour, linestyle=stroke, linewidth=2)
                axis.fill_between(line.index + 1, line["low"], line["high"], color=colour, alpha=0.25, linewidth=0)
            axis.set(title=capital(in_prose(slug).removeprefix("the ")), xlabel="optimizer step")
            axis.set_ylim(bottom=0)
        for axis in axes if narrow else axes[:1]:
            axis.set_ylabel("training loss\n(nats per token)")
        names = [Line2D([], [], color=_LINES[c][0], linestyle=_LINES[c][1], label=_learner(c)) for c in codes]
        figure.legend(handles=names, loc="outside upper center", ncols=2 if narrow else 4)
        return figure

    seeds = trainings(told["seed"].nunique())
    caption = (
        f"Training loss by step: lines are means over {seeds}, each of which is averaged over the last {_STEPS} steps; bands "
        "reach from the lowest to the highest training. Every panel has an axis of its own."
    )
    return picture(draw, number=number, caption=caption, alt=f"Falling curves. {curves_sentence(told, slugs)}")


def _learner(code: str) -> str:
    return "English alone" if code == "en" else LANGUAGE_NAMES[code]


def curves_sentence(told: pd.DataFrame, slugs: tuple[str, ...] = (MATH, LANGUAGE, MIXED, ORACLE)) -> str:
    """Return in words where each expert's loss began and ended."""
    if told.empty:
        return NOT_YET
    sentences = []
    for slug in slugs:
        ends = []
        for code, part in select(told, expert=slug).groupby("language", sort=False):
            by_step = part.groupby("step")["loss"].mean()
            where = "" if code == "en" else f" ({LANGUAGE_NAMES[str(code)]})"
            ends.append(f"from {by_step.head(_STEPS).mean():.2f} to {by_step.tail(_STEPS).mean():.2f}{where}")
        sentences.append(f"{capital(_called(slug))} goes {listed(ends)}.")
    return f"Means of the first and the last {_STEPS} steps, in nats per token: {lowered(' '.join(sentences))}"


# --- what each gained and forgot -----------------------------------------------------------------------------------


def _targets(found: pd.DataFrame) -> list[str]:
    return [code for code in dict.fromkeys(found["language"]) if (found["test_language"] == code).any()]


def gains_figure(found: pd.DataFrame, rival: Arm = BASE, number: int | None = None) -> Shown:
    """Draw every expert against the base, or another one, a panel a language."""
    if found.empty:
        return to_come(number, NOT_YET)
    parts = [(LANGUAGE_NAMES[code], against(found, rival, code)) for code in [*_targets(found), "en"]]
    return _forest(parts, rival, number)


def _forest(parts: list[tuple[str, pd.DataFrame]], rival: Arm, number: int | None) -> Shown:
    seeds = max(int(part["seeds"].max()) for _, part in parts)
    caption = (
        f"Experts against {in_prose(*rival)}: dots are means over {parts[0][1]['n'].max()} pairs of twins and "
        f"{trainings(seeds)}, lines their 95 % intervals, not corrected for their number. Grey: exploratory, without verdict."
    )
    name = in_prose(*rival)
    return figures.forest(
        parts, lambda *arm: lowered(in_prose(*arm)), number=number, caption=caption, against=name, one_scale=True
    )


def row_of(
    found: pd.DataFrame, slug: str, rival: str = "base", code: str = EVERY_LANGUAGE, metric: str = PRIMARY
) -> Any:
    """Return the contrast of one expert with another or the base, over all languages where nothing is said."""
    return next(against(select(found, method=[slug, rival]), (rival, ""), code, metric).itertuples())


def side(row: Any) -> int:
    """Return 1 where a contrast's whole interval says better, -1 where it says worse, else 0."""
    _, low, high = improvement(row)
    return int(low > 0) - int(high < 0)


_STANDS = {1: "above", -1: "below", 0: "not clearly away from"}


def _stands(row: Any) -> str:
    return f"{_STANDS[side(row)]} {_called(row.method_b)} ({improved(row)})"


def gains_sentence(found: pd.DataFrame) -> str:
    """Return in words which experts are above the base in every language, which below, and how far math carries."""
    if found.empty:
        return NOT_YET
    sides: dict[str, set[int]] = {}
    for code in _targets(found):
        for row in against(found, BASE, code).itertuples():
            sides.setdefault(row.method_a, set()).add(side(row))
    above, below = ([_called(slug) for slug, some in sides.items() if some == {one}] for one in (1, -1))
    names = listed([LANGUAGE_NAMES[code] for code in _targets(found)])
    math, english, oracle = row_of(found, MATH), row_of(found, MATH, code="en"), row_of(found, ORACLE)
    told = f"With the whole interval above the base in {names}: {listed(above) if above else 'none'}. Below it: "
    told += (
        f"{listed(below) if below else 'none'}. The math expert, whose training had no word of these languages, gains "
    )
    told += f"{improved(math)} in them, and {improved(english)} in English."
    if side(row_of(found, ORACLE, MATH)) > 0:
        told += (
            f" There is more to be had: the oracle, which learned the task in the language, gains {improved(oracle)}."
        )
    return told


def metrics_table(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Return what experts gain over the base by the metrics of twins and by likelihood, in the languages and in English."""
    if found.empty:
        return to_come(number, NOT_YET)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for metric in (*TWINS, NLL):
        unit = "points" if READINGS[metric].unit == "%" else "nats"
        for code, where in ((EVERY_LANGUAGE, "languages"), ("en", "English")):
            for row in against(found, BASE, code, metric).itertuples():
                line = rows.setdefault((row.method_a, where), {"expert": _called(row.method_a), "in": where})
                line[f"{READINGS[metric].title} ({unit})"] = improved(row, with_unit=False)
    caption = (
        "Gains over the base by other metrics, on average over the target languages and in English; more is better. 95 % "
        "intervals over trainings and pairs of twins, not corrected for their number. Exploratory."
    )
    return table(
        [rows[slug, where] for slug in TRAINED for where in ("languages", "English")], number=number, caption=caption
    )


def metrics_sentence(found: pd.DataFrame) -> str:
    """Return in words what the other metrics say: whether they put the experts in the same order, and who tells twins apart."""
    if found.empty:
        return NOT_YET
    table = against(found, BASE, metric=NLL)
    first = max(
        (row for row in table.itertuples() if row.method_a not in _REFERENCES), key=lambda row: improvement(row)[0]
    )
    told = f"By the likelihood of whole solutions, {_called(first.method_a)} comes first ({improved(first)})"
    told += (
        "." if first.method_a == MATH else f", and the math expert gains {improved(row_of(found, MATH, metric=NLL))}."
    )
    apart = []
    for code, where in ((EVERY_LANGUAGE, "in the languages"), ("en", "in English")):
        rows = [row for row in against(found, BASE, code, TWIN_CHOICE).itertuples() if side(row) > 0]
        who = [f"{_called(row.method_a)} ({improved(row)})" for row in rows]
        apart.append(f"{where} {listed(who) if who else 'no expert'}")
    return f"{told} Twins told apart more often than by the base, with the whole interval: {'; '.join(apart)}."


# --- who knows the language ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _texts() -> pd.DataFrame:
    """Return what the language experts of the committed search gain over the base on texts; no rows where there is no search."""
    try:
        found = select(committed_search(), expert=[SEARCHED_BASE, "language"], metric=[HELD_OUT, NTREX])
    except RequestError:
        return pd.DataFrame(columns=["language", "data", "steps", "rate", "metric", "gain"])
    return budgets.against_base(found)


def _usual(gains: pd.DataFrame) -> pd.DataFrame:
    training = home.committed_study().profile.training
    return select(gains, steps=training.steps, rate=training.learning_rate)


def knowledge_table(number: int | None = None) -> Shown:
    """Return how much likelier each language's expert of the search makes texts that no expert was trained on."""
    gains = select(_usual(_texts()), data=PROSE)
    if gains.empty:
        return to_come(number, NOT_YET)
    rows = []
    for code in TARGETS:
        line = {"expert of": LANGUAGE_NAMES[code]}
        for row in select(gains, language=code).itertuples():
            name = "lines of NTREX-128" if row.metric == NTREX else row.metric
            line[f"{name} (nats)"] = bracketed(row.gain.value, row.gain.low, row.gain.high, "+.2f")
        rows.append(line)
    caption = (
        "What a language expert adds to the likelihood of its language's texts, per token, over the base; more is better. Prose "
        "is by the authors of the training's, lines are news. One training each, 95 % intervals over texts. Exploratory."
    )
    return table(rows, number=number, caption=caption)


def texts_sentence() -> str:
    """Return in words on which texts each language's expert of the search is likelier right than the base, or less."""
    gains = select(_usual(_texts()), data=PROSE)
    if gains.empty:
        return NOT_YET
    told = []
    for metric, name in ((HELD_OUT, "held-out prose"), (NTREX, "lines of news")):
        where: dict[str, list[str]] = {}
        for row in select(gains, metric=metric).itertuples():
            way = "likelier" if row.gain.low > 0 else "less likely" if row.gain.high < 0 else "neither"
            where.setdefault(way, []).append(LANGUAGE_NAMES[row.language])
        told.append(f"{name} {', '.join(f'{way} in {listed(codes)}' for way, codes in where.items())}")
    return f"Against the base the experts make {'; '.join(told)}."


def knowledge_sentence(study: Study) -> str:
    """Return what the first chapter's contrasts say of who knows the language, with their verdicts' words."""
    asked = study if at_hand(study, KNOWLEDGE) else home.committed_study()
    return first_swap.knowledge_sentence(asked)


def search_sentence() -> str:
    """Return in words what the search tried for the experts' budgets, and which data taught a language most."""
    gains = _texts()
    if gains.empty:
        return NOT_YET
    training = home.committed_study().profile.training
    tried = committed_search()[["expert", "language", "data", "steps", "rate"]].drop_duplicates()
    wanted = [setting for setting in settings() if setting.steps]
    other = [s for s in wanted if (s.steps, s.rate) != (training.steps, training.learning_rate)]
    done = select(tried, steps=[s.steps for s in other], rate=[s.rate for s in other])
    done = done[(done["steps"] != training.steps) | (done["rate"] != training.learning_rate)]
    told = (
        f"Of {len(wanted)} trainings that the search asks for, {len(select(tried, steps=[s.steps for s in wanted]))} are "
        f"computed; of the {len(other)} with other steps or rates than ours, {len(done)}."
    )
    if len(done) < len(other):
        told += " So our budget is a guess that was held against few others."
    mine, best = select(_usual(gains), language=TARGETS[0]), []
    for metric, name in ((HELD_OUT, "held-out prose"), (NTREX, "lines of NTREX-128")):
        rows = select(mine, metric=metric)
        top = rows.loc[rows["gain"].map(lambda gain: gain.value).idxmax()]
        gain = top["gain"]
        value = bracketed(gain.value, gain.low, gain.high, "+.2f")
        best.append(f"{top['data']} makes {name} likeliest ({value} nats per token)")
    return (
        f"{told} Of {mine['data'].nunique()} kinds of data for a {LANGUAGE_NAMES[TARGETS[0]]} expert, all for as many steps, "
        f"{listed(best)}."
    )


# --- both, and one after the other ---------------------------------------------------------------------------------

_ORDERS = {MATH_LAST: MATH, LANGUAGE_LAST: LANGUAGE}


def both_figure(found: pd.DataFrame, number: int | None = None) -> Shown:
    """Draw the experts that learned math and the language against the math expert."""
    if found.empty:
        return to_come(number, NOT_YET)
    some = select(found, method=[MATH, MIXED, HALF, MATH_LAST, LANGUAGE_LAST])
    titles = {EVERY_LANGUAGE: "All languages" if len(_targets(found)) > 1 else "The language", "en": "English"}
    parts = [(title, against(some, (MATH, ""), code)) for code, title in titles.items()]
    return _forest(parts, (MATH, ""), number)


def both_sentence(found: pd.DataFrame) -> str:
    """Return in words what an expert of both costs next to a math expert, at equal steps and with as much math."""
    if found.empty:
        return NOT_YET
    half, whole = row_of(found, HALF, MATH), row_of(found, MIXED, MATH)
    english = row_of(found, HALF, MATH, "en")
    by_likelihood = row_of(found, HALF, MATH, metric=NLL)
    return (
        f"At equal steps, so with half as much math, data mixing is {_stands(half)} in the languages; in English the "
        f"difference is {improved(english)}. At twice the steps, so with as much math, it is {_stands(whole)} in the languages. "
        f"By the likelihood of whole solutions, data mixing at equal steps is {_stands(by_likelihood)}."
    )


def kept(found: pd.DataFrame, slug: str) -> float:
    """Return which share of the math expert's gain over the base another expert has, over all languages."""
    return float(row_of(found, slug).difference / row_of(found, MATH).difference)


def order_sentence(found: pd.DataFrame) -> str:
    """Return in words what is left of math where it was learned last, and where the language was."""
    if found.empty:
        return NOT_YET
    first, last = (row_of(found, slug, MATH) for slug in (MATH_LAST, LANGUAGE_LAST))
    between, likelihood = row_of(found, MATH_LAST, LANGUAGE_LAST), row_of(found, MATH_LAST, MATH, metric=NLL)
    return (
        f"Math last is {_stands(first)}, and {_stands(between)}; language last is {_stands(last)}. By the likelihood of whole "
        f"solutions math last is {_stands(likelihood)}."
    )


def inherited(told: pd.DataFrame) -> pd.DataFrame:
    """Return how far an earlier training moved the loss of a later one, against the same training from the base.

    Both have the same batches in the same order. Columns: expert, language, first (of the first batch, before any step) and last
    (the mean of the last ten steps), each with low and high, the ends over trainings.
    """
    rows = []
    for slug, alone in _ORDERS.items():
        keys = ["seed", "step"] if _is_english(alone) else ["language", "seed", "step"]
        rival = select(told, expert=alone)[[*keys, "loss"]]
        both = select(told, expert=slug).merge(rival, on=keys, suffixes=("", "_alone"))
        both = both.assign(gap=both["loss"] - both["loss_alone"])
        for code, part in both.groupby("language", sort=False):
            ends = []
            for some in (part[part["step"] == 0], part[part["step"] > part["step"].max() - _STEPS]):
                by_seed = some.groupby("seed")["gap"].mean()
                ends += [by_seed.mean(), by_seed.min(), by_seed.max()]
            rows.append((slug, code, *ends))
    columns = ["expert", "language", "first", "first_low", "first_high", "last", "last_low", "last_high"]
    return pd.DataFrame(rows, columns=columns)


def order_table(told: pd.DataFrame, number: int | None = None) -> Shown:
    """Return :func:`inherited` for a reader."""
    if told.empty:
        return to_come(number, NOT_YET)
    rows = []
    for row in inherited(told).itertuples():
        both = [_LEARNED["math"], f"prose, {LANGUAGE_NAMES[row.language]}"]
        last, first = both if row.expert == MATH_LAST else both[::-1]
        at_first = bracketed(row.first, row.first_low, row.first_high, "+.2f")
        rows.append((last, first, at_first, bracketed(row.last, row.last_low, row.last_high, "+.3f")))
    caption = (
        "How much higher the training loss is where another training came before, against the same training from the base, on "
        f"the same batches: mean of {trainings(told['seed'].nunique())} [lowest, highest]. The first batch comes before any step."
    )
    columns = ["trained last on", "after", "first batch (nats)", f"last {_STEPS} steps (nats)"]
    return table(rows, columns, number=number, caption=caption)


def losses_sentence(told: pd.DataFrame) -> str:
    """Return :func:`inherited` in words, means over trainings alone."""
    if told.empty:
        return NOT_YET
    table, sentences = inherited(told), []
    for slug, text in ((LANGUAGE_LAST, "prose"), (MATH_LAST, "word problems")):
        mine = select(table, expert=slug)
        first = [f"{digits(row.first, '+.2f')} ({LANGUAGE_NAMES[row.language]})" for row in mine.itertuples()]
        sentences.append(
            f"Before its first step {_called(slug)} finds {text} harder by {listed(first)}; over its last {_STEPS} steps the "
            f"means differ by at most {mine['last'].abs().max():.3f}."
        )
    return f"In nats per token, against the same training from the base: {lowered(' '.join(sentences))}"


# --- in short ------------------------------------------------------------------------------------------------------


def lines(found: pd.DataFrame, study: Study) -> list[str]:
    """Return what the chapter says, a sentence or two a point."""
    if found.empty:
        return [NOT_YET]
    math, english, language = row_of(found, MATH), row_of(found, MATH, code="en"), row_of(found, LANGUAGE)
    half, likelihood = row_of(found, HALF, MATH), row_of(found, HALF, MATH, metric=NLL)
    order = row_of(found, MATH_LAST, LANGUAGE_LAST)
    which = {
        1: "What is learned last weighs more",
        -1: "What is learned first weighs more",
        0: "The order makes no clear difference",
    }
    last = f"{which[side(order)]} on problems"
    if side(math) > 0:  # or there is nothing of which to have a share
        shares = kept(found, MATH_LAST), kept(found, LANGUAGE_LAST)
        last += f": of the math expert's gain {shares[0]:.0%} is there where math came last, {shares[1]:.0%} where prose did"
    return [
        f"The math expert is {_stands(math)} on problems in the languages, of which its training had none; in English it is "
        f"{_stands(english)}.",
        f"{knowledge_sentence(study)} On problems the language expert is {_stands(language)}.",
        f"At equal steps an expert of both is {_stands(half)}; by the likelihood of whole solutions it is {_stands(likelihood)}.",
        f"{last}.",
    ]


def answer() -> Shown:
    """Return the chapter's answer in a box, from the committed results."""
    study = home.committed_study()
    sentences = lines(outcomes(study), study)
    verdicts = verdicts_of(home.tables()[claims.KNOWLEDGE.id])
    return box("".join(f"<p>{escape(sentence)}</p>" for sentence in sentences), verdicts)


def summary(study: Study) -> str:
    """Return the chapter's summary as Markdown bullets."""
    return bullets(lines(outcomes(study), study))
