"""The finding, once: in three sentences, one figure and one table, for the home page, the README and the first chapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape
from math import exp
from pathlib import Path

import pandas as pd

from xlnb.artifacts import whole_file
from xlnb.chapters import figures, strength
from xlnb.chapters.pictures import Shown, box
from xlnb.chapters.words import MEASURE_NAMES, bracketed, capital, in_prose, listed, percent, standing
from xlnb.evaluation.readings import PRIMARY
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import LANGUAGE, MATH
from xlnb.paths import project_root
from xlnb.stats import Interval
from xlnb.studies import claims, experiments, importances, overlaps
from xlnb.studies.additivity import Additivity, additivity
from xlnb.studies.atlas import load_map
from xlnb.studies.claims import CLAIMS, NOT_REPRODUCED, REPRODUCED, UNCLEAR, UNTESTED, Claim, decide
from xlnb.studies.comparisons import BETTER, UNJUDGED, WORSE, judged, verdicts_of
from xlnb.studies.outcomes import committed_outcomes
from xlnb.studies.overlaps import DISTINCT, SHARED
from xlnb.studies.study import Study, open_study

_CHAPTERS = "notebooks"
IMPORTANCE, FREEZING = "03-importance", "06-freezing-or-reverting"
LINEARITY, SCORECARD = "08-linearity", "09-scorecard"


@lru_cache(maxsize=1)
def committed_study() -> Study:
    """Return the study whose committed results the home page tells: the pocket model in Swahili."""
    return open_study("pocket", "sw", 0, live=False)


@lru_cache(maxsize=1)
def tables() -> dict[str, pd.DataFrame]:
    """Return the judged contrasts behind the finding, by family."""
    study = committed_study()
    outcomes = study.repeated(experiments.FIRST_SWAP)
    found = {family.id: judged(family, outcomes) for family in (claims.GAINS, claims.RIVALS, claims.COST)}
    return found | {claims.KNOWLEDGE.id: judged(claims.KNOWLEDGE, study.repeated(experiments.KNOWLEDGE))}


def planned(arranged: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> pd.DataFrame:
    """Return the plan's judged contrasts from the committed results, ``arranged`` before; no rows where they are not whole."""
    study = committed_study()
    return _planned(study.results, study.profile.name, study.paradigm, arranged)


@lru_cache(maxsize=2)
def _planned(
    results: Path, profile: str, paradigm: str, arranged: Callable[[pd.DataFrame], pd.DataFrame] | None
) -> pd.DataFrame:
    found = committed_outcomes(results, "methods", profile=profile, paradigm=paradigm, metric=PRIMARY)
    return claims.planned(arranged(found) if arranged else found)


def overlap() -> pd.DataFrame:
    """Return the overlap of what matters most for math and for the language, by the committed maps, if any."""
    study = committed_study()
    return _overlap(study.results, study.profile.name, study.paradigm)


@lru_cache(maxsize=2)
def _overlap(results: Path, profile: str, paradigm: str) -> pd.DataFrame:
    found = {name: load_map(name, results, profile=profile, paradigm=paradigm) for name in importances.MAPS}
    return overlaps.overlaps(importances.scores(found))


_SHARES = {
    DISTINCT: "less in common than the same task twice, and not clearly more than chance, by {}",
    SHARED: "more in common than chance by {}",
    UNCLEAR: "nothing clear by {}",
}


def of_overlap(told: pd.DataFrame) -> str:
    """Return in sentences what became of F1, and which measures say so."""
    decided = overlaps.decide(told)
    if decided.outcome == UNTESTED:
        return "Not tested yet."
    words = dict(zip(overlaps.RULE.measures, decided.verdicts, strict=True))
    by = {word: [MEASURE_NAMES[measure] for measure, mine in words.items() if mine == word] for word in _SHARES}
    parts = [text.format(listed(by[word])) for word, text in _SHARES.items() if by[word]]
    return (
        f"{capital(decided.outcome)} with these experts. The top {percent(overlaps.RULE.share)} of sites for math and for the "
        f"language have {'; '.join(parts)}."
    )


def by_the_plan(*names: str) -> str:
    """Return in sentences what the plan's contrasts say of some of its claims, by the committed results of all languages."""
    made = planned()
    told = " ".join(decided(CLAIMS[name], made) for name in names)
    return f"By the plan, over three languages (chapter {SCORECARD[:2]}): {told}"


def finding() -> list[str]:
    """Return the finding in three sentences, computed from the committed results."""
    return finding_of(*(tables()[family.id] for family in (claims.GAINS, claims.RIVALS, claims.KNOWLEDGE)))


def finding_of(gains: pd.DataFrame, rivals: pd.DataFrame, knowledge: pd.DataFrame) -> list[str]:
    """Return the finding in three sentences: what the swap does, what math does alone, what the language expert had to give."""
    name = LANGUAGE_NAMES[str(rivals["test_language"].iloc[0])]
    math, language = (
        gains[(gains["method_a"] == arm) & (gains["test_language"] != "en")].iloc[0] for arm in (MATH, LANGUAGE)
    )
    knows = knowledge[knowledge["method_a"] == LANGUAGE].iloc[0]
    by_itself = {
        BETTER: (
            f"carries over: what a {name} problem adds to the likelihood of its right calculations grows "
            f"{exp(math['difference']):.1f}-fold per token"
        ),
        WORSE: f"makes {name} problems harder",
    }.get(math["verdict"], f"does not make {name} problems significantly easier")
    beaten = rivals.set_index("method_b").loc[MATH, "verdict"]
    opening = {BETTER: "Yes, with our experts", UNJUDGED: "Not tested yet"}.get(beaten, "Not with our experts")
    gave = {
        BETTER: "does know its language better than the base",
        WORSE: "knows its language less well than the base",
    }.get(knows["verdict"], "does not know its language significantly better than the base")
    alone = {BETTER: f"gains on {name} problems", WORSE: f"makes {name} problems harder"}.get(
        language["verdict"], f"gains nothing significant on {name} problems"
    )
    joined = "and" if (knows["verdict"] == BETTER) == (language["verdict"] == BETTER) else "but"
    return [
        f"{opening}: giving the outer layers to a {name} expert, the paper's best method, makes a model that "
        f"{standing(rivals, numbers=False).removeprefix('The swap ')}",
        f"Fine-tuning on math in English {by_itself}, with no {name} math in any training.",
        f"Our {name} expert {gave}, {joined} by itself it {alone}"
        + ("." if beaten == BETTER else ": there is little to swap in, and a better one may change the picture."),
    ]


def finding_box() -> Shown:
    """Return the finding in a box."""
    verdicts = {name: word for table in tables().values() for name, word in verdicts_of(table).items()}
    answer, *others = (escape(sentence) for sentence in finding())
    first, _, rest = answer.partition(":")
    told = [f"<strong>{first}:</strong>{rest}", *others]
    return box("".join(f"<p>{sentence}</p>" for sentence in told), verdicts)


def finding_figure(number: int | None = None) -> Shown:
    """Draw what each model gains over the base in both languages: the book's one figure."""
    return figures.gains(tables()[claims.GAINS.id], number=number)


def decided(claim: Claim, table: pd.DataFrame) -> str:
    """Return in a sentence what contrasts say of one of the paper's claims; none where there are no contrasts yet."""
    if table.empty:
        return f"{claim.id}: not tested yet."
    outcome = decide(claim, table).outcome
    rivals = listed([in_prose(*rival) for rival in claim.rivals])
    name = f"{claim.id}, for {in_prose(*claim.arm)} against {rivals}"
    return {
        REPRODUCED: f"{name}: reproduced with these experts.",
        NOT_REPRODUCED: f"{name}: not reproduced with these experts.",
        UNCLEAR: f"{name}: unclear, since {'not every' if len(claim.rivals) > 1 else 'the'} difference is "
        f"{'' if len(claim.rivals) > 1 else 'not '}significant.",
        UNTESTED: f"{name}: not tested.",
    }[outcome]


@lru_cache(maxsize=1)
def linear() -> Additivity:
    """Return what the committed maps say of F5: whether the experts' task vectors add up."""
    study = committed_study()
    return additivity(load_map("crosses", study.results, profile=study.profile.name, paradigm=study.paradigm))


def linear_told(found: Additivity) -> str:
    """Return in words what maps say of F5."""
    if found.outcome == UNTESTED:
        return "Not tested yet."
    why = {
        REPRODUCED: "what the two experts' vectors do adds up to within a tenth",
        NOT_REPRODUCED: "what the two experts' vectors do doesn't add up to within a tenth",
        UNCLEAR: "whether what the two experts' vectors do adds up to within a tenth cannot be told",
    }[found.outcome]
    return (
        f"{capital(found.outcome)} with these experts: {why}. As a share of what both do alone, the cross term is "
        f"{shares_told(found.shares)}: above zero both together lose more than the sum, below zero less. The three intervals "
        "hold together at 95 %."
    )


def shares_told(shares: dict[str, Interval]) -> str:
    """Return in words the cross term of plain addition as shares of what each vector does alone, by what is asked."""
    where = {
        "math": "on English problems",
        "problems": "on problems in the language",
        "language": "on prose in the language",
    }
    parts = []
    for asked, one in shares.items():
        ends = bracketed(100 * one.value, 100 * one.low, 100 * one.high, "+.0f")
        parts.append(f"{ends.replace(' ', ' % ', 1)} {where[asked]}")
    return listed(parts)


CLAIMED = {
    "F1": "The parameters that matter most for math and for the language lie in distinct places.",
    "F2": "Without math data in the language, modular methods beat the baselines.",
    "F3": "The most consistently good of them: train both experts whole and swap layers.",
    "F4": "Reverting updates after training often beats freezing those parameters from the start.",
    "F5": "This fits the linearity of task vectors.",
}


def found() -> dict[str, tuple[str, str]]:
    """Return for each of the paper's findings what this book found, and the chapter that tells it; "" where none does yet."""
    made, told_of, straight = planned(), overlap(), linear()
    first = (of_overlap(told_of), IMPORTANCE if len(told_of) else "")
    fifth = linear_told(straight), LINEARITY if straight.outcome != UNTESTED else ""
    if made.empty:
        return dict.fromkeys(CLAIMED, ("Not tested yet.", "")) | {"F1": first, "F5": fifth}
    told = {
        name: (decide(claim, made).outcome, standing(claims.evidence(claim, made))) for name, claim in CLAIMS.items()
    }
    swap, revert = told["F4 swap"], told["F4 revert"]
    return {
        "F1": first,
        "F2": (f"{capital(told['F2'][0])} with these experts. {told['F2'][1]}", SCORECARD),
        "F3": (f"{capital(told['F3'][0])} with these experts. {told['F3'][1]}", SCORECARD),
        "F4": (
            f"For both experts {swap[0]}, for the math expert alone {revert[0]}. {swap[1]} {revert[1]}",
            FREEZING,
        ),
        "F5": fifth,
    }


def findings_table() -> str:
    """Return the table of the paper's findings as Markdown: what is claimed, what we found, where."""
    lines = ["| | the paper's finding | what we found | chapter |", "|---|---|---|---|"]
    for name, (what, chapter) in found().items():
        link = f"[{chapter[:2]}]({_CHAPTERS}/{chapter}.ipynb)" if chapter else ""
        lines.append(f"| {name} | {CLAIMED[name]} | {what} | {link} |")
    return "\n".join(lines)


def readme_figure() -> str:
    """Return the README's figure: light and dark files, and what is seen."""
    alt = re.search(r'aria-label="([^"]*)"', finding_figure().html).group(1)  # type: ignore[union-attr]
    return (
        '<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="book/_static/gains-dark.svg">\n'
        f'  <img src="book/_static/gains.svg" width="720" alt="{alt}">\n</picture>'
    )


def save_figures(folder: Path | None = None) -> list[Path]:
    """Write the README's figure for light and for dark pages into ``folder`` (book/_static) and return the files."""
    folder = folder or project_root() / "book" / "_static"
    svg = re.search(r'<svg class="wide".*?</svg>', finding_figure().html, flags=re.DOTALL)
    assert svg
    plain = svg[0].replace(
        "<svg", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"', 1
    )
    files = []
    for name, ink in (("gains", "#1f2328"), ("gains-dark", "#e6edf3")):
        files.append(folder / f"{name}.svg")
        with whole_file(files[-1]) as partial:
            partial.write_text(plain.replace("currentColor", ink) + "\n", encoding="utf-8")
    return files


# What the pages `<!-- xlnb: NAME -->` are filled with.
WORDS: dict[str, Callable[[], str]] = {
    "finding": lambda: " ".join(finding()),
    "finding-box": lambda: finding_box().html,
    "figure": lambda: finding_figure(1).html,
    "findings": findings_table,
    "strength": lambda: strength.in_short(strength.curve(strength.outcomes(committed_study()))),
    "readme-figure": readme_figure,
}
