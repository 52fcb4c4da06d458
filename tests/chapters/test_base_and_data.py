"""The chapter on base and data: its tables say what the corpus has, its words what the verdicts say."""

from types import SimpleNamespace

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from shown import cells

from xlnb.chapters import base_and_data, word_problems
from xlnb.corpora import prose, templates
from xlnb.corpora.sources import SOURCES
from xlnb.errors import RequestError
from xlnb.evaluation.readings import (
    EXACT_MATCH,
    EXPRESSION,
    EXPRESSION_NLL,
    INFORMATION,
    NLL,
    PRIMARY,
    READINGS,
    SHOTS_READINGS,
    TWIN_CHOICE,
)
from xlnb.evaluation.shortcuts import ASKED, READERS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE, judged
from xlnb.studies.outcomes import select
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import open_study


def page(shown):
    return BeautifulSoup(shown.html, "html.parser")


# --- the data ---------------------------------------------------------------------------------------------


def test_one_problem_in_every_language():
    shown = word_problems.one_problem_everywhere("development", 2, number=1)
    _, *rows = cells(shown)
    assert [row[0] for row in rows] == [LANGUAGE_NAMES[code] for code in templates.LANGUAGES]
    for row, code in zip(rows, templates.LANGUAGES, strict=True):
        problem = templates.problems(code, "development", 3)[2]
        assert row[1:] == [problem.question, problem.solution]
        assert len(page(shown).find_all(lang=code)) == 2


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_weaknesses_are_those_of_the_file(language):
    bullets = word_problems.weaknesses(language).split("\n")
    assert len(bullets) > 1 and all(bullet.startswith("- ") for bullet in bullets)
    head = " ".join(templates.file_head(language))
    assert head.endswith(" ".join(bullets)) or f"{' '.join(bullets)} " in head
    assert head[: head.index(bullets[0])].count("Known weaknesses") == 1


def test_a_file_that_names_no_weaknesses(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(templates, "file_head", lambda language: ["The word problems.", "", "How to read this file."])
        assert word_problems.weaknesses("en") == "The English file names no weaknesses."
    with pytest.raises(RequestError, match="language"):
        word_problems.weaknesses("xx")


def test_tables_of_the_corpora():
    head, *corpora = cells(base_and_data.corpora_table())
    assert head[1:] == ["kind", "languages", "on the Hugging Face hub", "licence"]
    assert [row[0] for row in corpora] == list(SOURCES)
    assert {row[0] for row in corpora if row[3] == "ships with xlnb"} == {
        name for name, source in SOURCES.items() if not source.hub
    }


def test_the_table_of_the_language_data_counts_pieces_and_examples():
    _, *rows = cells(base_and_data.language_data_table())
    assert [row[0] for row in rows] == [LANGUAGE_NAMES[code] for code in prose.PROSE_LANGUAGES]
    for row, code in zip(rows, prose.PROSE_LANGUAGES, strict=True):
        pieces = prose.pieces(code)
        translations = [piece for piece in pieces if piece.english]
        written = sum(1 + len(piece.answered) for piece in pieces)
        splits = [split for split, _ in prose.held_out_texts(code)]
        halves = [splits.count(split) for split in ("development", "scored")]
        kinds = len(templates.generic_kinds(code))
        assert [int(cell) for cell in row[1:]] == [
            len(pieces), written + 2 * len(translations), 2 * len(translations), *halves, kinds,
        ]  # fmt: skip


def test_the_table_of_splits():
    _, *rows = cells(word_problems.splits_table(2))
    assert [row[0] for row in rows] == list(templates.SPLITS)
    for row in rows:
        assert tuple(map(int, row[1:4])) == templates.inventory(row[0])


@pytest.mark.parametrize("language", prose.PROSE_LANGUAGES)
def test_samples_of_the_language_data_are_of_different_kinds(language):
    shown = base_and_data.language_samples(language, 3, 5)
    _, *rows = cells(shown)
    assert len({row[0] for row in rows}) == len(rows) == 3
    assert {row[0] for row in rows} <= set(prose.KINDS)
    trained = {(p.kind, p.ask, p.text, "\n".join(p.answered[0])) for p in prose.pieces(language)}
    assert {tuple(row) for row in rows} <= trained, "of pieces to train on, each whole"
    assert len(page(shown).find_all(lang=language)) == 3 * len(rows)
    assert len(cells(base_and_data.language_samples(language, 99))) == 1 + len({p.kind for p in prose.pieces(language)})


@pytest.mark.parametrize("language", [code for code in templates.LANGUAGES if code != "en"])
def test_twins_stand_beside_their_problems(language):
    shown = word_problems.twins_table(language, "development", 2, number=3)
    _, *rows = cells(shown)
    expected = []
    for code in ("en", language):
        for made in (templates.problems, templates.twins):
            one = made(code, "development", 3)[2]
            expected.append([LANGUAGE_NAMES[code], one.question, "; ".join(one.expressions)])
    assert rows == expected
    (first, second), (third, fourth) = rows[:2], rows[2:]
    assert first[2] == third[2] != second[2] == fourth[2], "one calculation in both languages, another one in the twin"
    assert len(page(shown).find_all(lang=language)) == 2


def known_shortcuts(language):
    """What readers get, made up: of the place of reader and of what is asked."""
    rows = [
        (reader, asked, 0.1 * i + 0.25 * j, 0.1 * i, 0.1 * i + 0.3 * j)
        for i, reader in enumerate(READERS)
        for j, asked in enumerate(ASKED)
    ]
    return pd.DataFrame(rows, columns=["reader", "asked", "value", "low", "high"])


def test_shortcuts_are_told_in_percent(monkeypatch):
    monkeypatch.setattr(word_problems, "_shortcuts", known_shortcuts)
    shown = word_problems.shortcuts_table("bn", number=4)
    head, *rows = cells(shown)
    assert head == ["reads", *(f"{asked} (%)" for asked in ASKED)]
    assert [row[0] for row in rows] == list(READERS)
    assert rows[1][1:] == ["10 [10, 10]", "35 [10, 40]", "60 [10, 70]"]
    assert "in Bengali" in shown.html and "one pair of twins in four" in shown.html
    told = word_problems.shortcuts_sentence("bn")
    assert "numbers alone names the first operation in 0 % of the problems" in told
    assert "finds the answer in 25 %" in told and told.endswith("words alone name the first operation in 10 %.")


def test_shortcuts_are_those_of_the_corpus(monkeypatch):
    asked = []
    monkeypatch.setattr(
        word_problems, "shortcuts", lambda language: asked.append(language) or known_shortcuts(language)
    )
    word_problems._shortcuts.cache_clear()
    assert word_problems.shortcuts_table("te").html and word_problems.shortcuts_sentence("te")
    assert asked == ["te"], "once for table and sentence"
    word_problems._shortcuts.cache_clear()


# --- the base ---------------------------------------------------------------------------------------------


def asked(metric, code, right, shots=2, split="scored"):
    """The base's outcomes on problems, one a number."""
    rows = [(f"{split}-{i:06d}", float(value)) for i, value in enumerate(right)]
    return pd.DataFrame(rows, columns=["problem", "outcome"]).assign(
        metric=metric, test_language=code, language="sw", shots=shots, split=split, benchmark="templates",
        method="base", partition="", seed=0, text="12 + 5",
    )  # fmt: skip


def read(english, target):
    return pd.concat([
        asked(metric, code, values[metric])
        for code, values in (("en", english), ("sw", target)) for metric in claims.GAP.metrics
    ])  # fmt: skip


RAMP = [0.01 * i for i in range(40)]
READ = read(
    {PRIMARY: [2 + x for x in RAMP], EXPRESSION: [1] * 20 + [0] * 20, EXACT_MATCH: [1, 0] * 20},
    {PRIMARY: [1 + x * x for x in RAMP], EXPRESSION: [1] * 19 + [0] * 21, EXACT_MATCH: [0] + [1] * 39},
)


def test_the_gap_is_taken_problem_by_problem_between_the_languages():
    gap = judged(claims.GAP, READ).set_index("metric")
    assert gap["verdict"].to_dict() == {PRIMARY: BETTER, EXPRESSION: NOT_SHOWN, EXACT_MATCH: WORSE}
    assert gap.loc[EXPRESSION, "difference"] == pytest.approx(1 / 40)
    assert UNJUDGED not in set(gap["verdict"])
    head, first, second, third = cells(base_and_data.base_table(READ, number=4))
    assert head == ["metric", "English", "Swahili", "English minus the other", "English is"]
    assert first[0] == "information gained on the calculations (nats per token)" and first[-1] == BETTER
    assert second[1].startswith("50.0 [") and second[2].startswith("47.5 [") and second[3].startswith("+2.5 [")
    assert third[-1] == WORSE


def test_the_table_by_steps_counts_problems_of_each_number_of_steps():
    right = pd.concat([asked(EXPRESSION, "en", [1] * 40), asked(EXPRESSION, "sw", [0] * 40)])
    _, *rows = cells(base_and_data.by_steps_table(right))
    steps = [len(p.expressions) for p in templates.problems("en", "scored", 40)]
    assert [(row[0], int(row[1])) for row in rows] == [
        (f"{n} step{'s' * (n > 1)}", steps.count(n)) for n in sorted(set(steps))
    ]
    assert all(row[2].startswith("100 [") and row[3].startswith("0 [0,") for row in rows)


def test_answers_stand_beside_the_problems():
    rows = cells(base_and_data.answer_samples(asked(EXPRESSION, "sw", [1, 0, 1, 0]), "sw", 3))[1:]
    problems = templates.problems("sw", "scored", 3)
    assert [row[0] for row in rows] == [p.question for p in problems]
    assert [row[2] for row in rows] == [p.solution for p in problems]
    assert [row[3] for row in rows] == ["yes", "no", "yes"]


def by_shots(levels):
    """The base's outcomes with no, one and two worked examples: a mean each, in both languages, by every metric."""
    parts = []
    for metric in SHOTS_READINGS:
        for code in ("en", "sw"):
            for shots, level in enumerate(levels[metric]):
                values = [level + 0.02 * ((i * 7 + shots) % 5) for i in range(30)]
                parts.append(asked(metric, code, values, shots, "development"))
    return pd.concat(parts)


def test_what_each_worked_example_adds():
    levels = {NLL: (2, 1, 1), EXPRESSION_NLL: (2, 1, 1.5), EXPRESSION: (0, 0.5, 0.5), EXACT_MATCH: (0.2, 0.2, 0.2)}
    outcomes = by_shots(levels)
    found = judged(claims.SHOTS, outcomes)
    assert len(found) == 2 * 2 * len(SHOTS_READINGS)
    first = found[found["partition_b"] == claims.shown_examples(0)]
    assert set(first.loc[first["metric"] == NLL, "verdict"]) == {BETTER}, "less is better"
    english, swahili = base_and_data.shots_sentence(outcomes).split("\n")
    assert english.startswith(
        "- In English the first worked example is significantly better by 3 of 4 metrics (NLL of the calculations: +1.00 nats "
        "per token ["
    )
    assert "the second worked example is significantly better by 0 of 4 metrics and worse by 1 (" in english
    assert swahili.startswith("- In Swahili the first worked example")


def test_whoever_tells_as_many_twins_apart_as_a_coin_may_read():
    assert base_and_data._twins_sentence(24.9, "Telugu").endswith("hardly what is asked about them.")
    assert base_and_data._twins_sentence(40.0, "Telugu").endswith("it tells 40 % apart in Telugu; a coin tells 25 %.")


def test_what_is_asked_anew_is_held_against_what_is_shown():
    rows = pd.DataFrame(
        [
            {"test_language": "sw", "split": "development", "shots": 1, "metric": metric, "problem": f"p{i}", "outcome": outcome,
             "text": text}
            for metric, outcome, text in ((NLL, 1.5, ""), (EXPRESSION_NLL, 0.5, ""), (EXPRESSION, 1.0, "3 + 4 = 7"))
            for i in range(8)
        ]
    )  # fmt: skip
    asked = []

    def outcomes(*asks):
        asked.extend(asks)
        some = rows[rows["problem"].isin(["p0", "p1"])].copy()
        some.loc[(some["metric"] == NLL) & (some["problem"] == "p1"), "outcome"] -= 0.02
        some.loc[(some["metric"] == EXPRESSION) & (some["problem"] == "p0"), "text"] = "3 + 4 = 8"
        return some

    profile = named_profile("pocket")
    study = SimpleNamespace(live=True, profile=profile, outcomes=outcomes, repeated=lambda *asks: rows)
    told = base_and_data.asked_anew(study)
    assert "4 likelihoods are off by at most 0.02000 nats per token" in told
    assert "1 of 2 answers are the same to the letter" in told
    for fewer, whole in zip(asked, (*experiments.BY_SHOTS, experiments.BASE), strict=True):
        some, every = fewer.evaluation(profile), whole.evaluation(profile)
        assert (4 * some.problems, 4 * some.generated) == (every.problems, every.generated)
        assert (some.shots, some.split) == (every.shots, every.split)
        assert not set(some.readings) & {INFORMATION, PRIMARY}, "they depend on which other problems there are"
    assert "is committed" in base_and_data.asked_anew(SimpleNamespace(live=False))


def test_answer_and_summary_follow_the_committed_verdicts():
    study = open_study("pocket", "sw", 0, live=False)
    gap = judged(claims.GAP, study.outcomes(experiments.BASE)).set_index("metric")
    shown = base_and_data.answer()
    text = page(shown).get_text(" ")
    says = {
        BETTER: "English is significantly ahead",
        WORSE: "Swahili is",
        NOT_SHOWN: "difference between the languages is not",
    }
    for metric in (EXPRESSION, PRIMARY):
        assert says[gap.loc[metric, "verdict"]] in text
        assert gap.loc[metric, "verdict"] in [word for name, word in shown.verdicts.items() if name.endswith(metric)]
    apart = select(study.repeated(experiments.EVERY_READING), metric=TWIN_CHOICE, method="base")["outcome"]
    assert set(apart) <= {0, 1} and f"it tells {100 * apart.mean():.0f} % apart in Swahili; a coin tells 25 %." in text
    assert ("it is the numbers that arrive" in text) == (apart.mean() < 0.25)
    lines = base_and_data.summary(study).split("\n")
    assert len(lines) == 3 and READINGS[PRIMARY].title in lines[0] and "of 8 contrasts" in lines[2]
