"""The chapter on base and data: its tables say what the corpus has, its words what the verdicts say."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters import base_and_data
from xlnb.corpora import templates
from xlnb.corpora.sources import SOURCES
from xlnb.errors import RequestError
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, EXPRESSION_NLL, NLL, PRIMARY, READINGS, SHOTS_READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE, judged
from xlnb.studies.study import open_study


def page(shown):
    return BeautifulSoup(shown.html, "html.parser")


def cells(shown):
    return [[cell.get_text("\n") for cell in row.find_all(["td", "th"])] for row in page(shown).table.find_all("tr")]


# --- the data ---------------------------------------------------------------------------------------------


def test_one_problem_in_every_language():
    shown = base_and_data.one_problem_everywhere("development", 2, number=1)
    _, *rows = cells(shown)
    assert [row[0] for row in rows] == [LANGUAGE_NAMES[code] for code in templates.LANGUAGES]
    for row, code in zip(rows, templates.LANGUAGES, strict=True):
        problem = templates.problems(code, "development", 3)[2]
        assert row[1:] == [problem.question, problem.solution]
        assert len(page(shown).find_all(lang=code)) == 2


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_weaknesses_are_those_of_the_file(language):
    bullets = base_and_data.weaknesses(language).split("\n")
    assert len(bullets) > 1 and all(bullet.startswith("- ") for bullet in bullets)
    head = " ".join(templates.file_head(language))
    assert head.endswith(" ".join(bullets)) or f"{' '.join(bullets)} " in head
    assert head[: head.index(bullets[0])].count("Known weaknesses") == 1


def test_a_file_that_names_no_weaknesses(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(templates, "file_head", lambda language: ["The word problems.", "", "How to read this file."])
        assert base_and_data.weaknesses("en") == "The English file names no weaknesses."
    with pytest.raises(RequestError, match="language"):
        base_and_data.weaknesses("xx")


def test_tables_of_the_corpora():
    _, *generic = cells(base_and_data.generic_table())
    assert [row[0] for row in generic] == [LANGUAGE_NAMES[code] for code in templates.GENERIC_LANGUAGES]
    for row, code in zip(generic, templates.GENERIC_LANGUAGES, strict=True):
        kinds = templates.generic_kinds(code)
        assert row[1:] == [str(len(kinds)), ", ".join(kinds)]
    head, *corpora = cells(base_and_data.corpora_table())
    assert head[1:] == ["kind", "languages", "on the Hugging Face hub", "licence"]
    assert [row[0] for row in corpora] == list(SOURCES)
    assert {row[0] for row in corpora if row[3] == "ships with xlnb"} == {"templates", "templates-generic"}


def test_the_table_of_splits():
    _, *rows = cells(base_and_data.splits_table(2))
    assert [row[0] for row in rows] == list(templates.SPLITS)
    for row in rows:
        assert tuple(map(int, row[1:4])) == templates.inventory(row[0])


@pytest.mark.parametrize("language", templates.GENERIC_LANGUAGES)
def test_samples_of_the_language_data_are_without_the_prompt_s_headings(language):
    shown = base_and_data.language_samples(language, 3, 4)
    _, *rows = cells(shown)
    examples = templates.language_examples(language, 4, 3)
    for row, example in zip(rows, examples, strict=True):
        assert row[0] == example.kind and row[1] in example.prompt and len(row[1]) > 10
        assert row[2].strip() == example.completion.strip()
    assert "###" not in page(shown).get_text()


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
    lines = base_and_data.summary(study).split("\n")
    assert len(lines) == 3 and READINGS[PRIMARY].title in lines[0] and "of 8 contrasts" in lines[2]
