"""Answers as they are read by us and by lm-evaluation-harness."""

import pandas as pd
from made_up_answers import generated, gold
from shown import caption, cells

from xlnb.chapters import reading_answers
from xlnb.corpora import templates
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.harness import FLEXIBLE, STRICT, harness_counts_right
from xlnb.languages import LANGUAGE_NAMES


def test_the_table_of_ways_to_answer():
    head, *rows = cells(reading_answers.ways_table())
    assert head == ["language", "answer", "right", "xlnb", "harness, strict", "harness, flexible"]
    assert [row[1] for row in rows] == [text for _, text, _ in reading_answers.WAYS_TO_ANSWER]
    for (language, text, right), (name, _, number, ours, *_) in zip(reading_answers.WAYS_TO_ANSWER, rows, strict=True):
        assert (name, int(number)) == (LANGUAGE_NAMES[language], right)
        assert ours == f"{extract_number(text, language)} ✓", "the book claims to read them all"
    shown = {row[1]: tuple(row[4:]) for row in rows}
    assert shown["The answer is $18.00 a day."] == ("[invalid] ✗", "$18.00 ✗")
    assert shown["The answer is 18 eggs, since 16 and 2 make 18.0."] == ("18 ✓", "18.0. ✗")
    assert shown["Jibu ni shilingi 18 kila siku, si 20."] == ("[invalid] ✗", "20. ✗")
    assert shown["মোট 9 * 2 = 18 টাকা। উত্তর হল 18।"] == ("[invalid] ✗", "18 ✓")
    assert shown["మొత్తం ౯ * ౨ = ౧౮ రూపాయలు. సమాధానం ౧౮."] == ("[invalid] ✗", "[invalid] ✗")
    assert shown["Die Antwort lautet 18,00 Euro."] == ("18,00 ✗", "18,00 ✗")
    assert shown["La réponse est 2 125 euros."] == ("2 ✗", "125 ✗")


def test_a_reader_s_own_ways_to_answer():
    shown = reading_answers.ways_table([("bn", "উত্তর হল ১৮।", 18), ("sw", "Jibu ni 17.", 18)], number=3)
    _, bengali, swahili = cells(shown)
    assert bengali[2:] == ["18", "18 ✓", "[invalid] ✗", "[invalid] ✗"]
    assert swahili[2:] == ["18", "17 ✗", "17. ✗", "17. ✗"]
    assert 'lang="bn"' in shown.html and caption(shown).startswith("Table 3. ")


def test_gold_solutions_are_counted_by_language():
    n = 12
    found = reading_answers.gold_readings(n, "development")
    assert list(found.columns) == ["language", "problems", "xlnb", STRICT, FLEXIBLE]
    assert tuple(found["language"]) == templates.LANGUAGES
    assert set(found["problems"]) == {n} and set(found["xlnb"]) == {1.0}
    for row in found.set_index("language").itertuples():
        problems = templates.problems(row.Index, "development", n)
        right = [harness_counts_right(p.solution, p.answer, row.Index) for p in problems]
        assert found.set_index("language").loc[row.Index, STRICT] == sum(one[STRICT] for one in right) / n
        assert found.set_index("language").loc[row.Index, FLEXIBLE] == sum(one[FLEXIBLE] for one in right) / n
    shares = found.set_index("language")[STRICT]
    assert (shares["en"], shares["sw"], shares["bn"]) == (1, 1, 0), "it looks for English words in Bengali"


GOLD = pd.DataFrame(
    [("en", 200, 1.0, 0.75, 1.0), ("sw", 200, 1.0, 0.5, 0.9), ("bn", 200, 0.995, 0.0, 0.125)],
    columns=["language", "problems", "xlnb", STRICT, FLEXIBLE],
)


def test_the_table_of_gold_readings_is_in_percent():
    assert cells(reading_answers.gold_table(GOLD)) == [
        ["language", "solutions", "xlnb", "harness, strict", "harness, flexible"],
        ["English", "200", "100%", "75%", "100%"],
        ["Swahili", "200", "100%", "50%", "90%"],
        ["Bengali", "200", "100%", "0%", "12%"],  # of 12.5 %, to even
    ]


def test_answers_are_read_again_by_each_reader():
    outcomes, expected = generated()
    found = reading_answers.reread(outcomes)
    assert set(found["metric"]) == {"exact-match"}
    pd.testing.assert_frame_equal(found[["xlnb", STRICT, FLEXIBLE]], expected)
    assert list(found["gold"]) == [
        gold(row.test_language, row.split, int(row.problem[-6:])) for row in found.itertuples()
    ], "each split has its own problems"


def test_answers_to_other_benchmarks_are_left_out():
    outcomes, expected = generated()
    others = outcomes.assign(benchmark="mgsm", split="test", problem="mgsm-sw-0", text="Jibu ni 5.")
    pd.testing.assert_frame_equal(reading_answers.reread(pd.concat([others, outcomes]))[list(expected)], expected)


def test_the_referee_s_counts_by_language():
    head, *rows = cells(reading_answers.referee_table(reading_answers.reread(generated()[0])))
    assert head[3:5] == ["of these, harness, strict", "of these, harness, flexible"]
    assert rows == [
        ["English", "3", "0", "0", "0", "1"],  # the strict filter counts one that we do not
        ["Swahili", "3", "3", "2", "1", "0"],
        ["Bengali", "2", "2", "0", "1", "0"],
        ["Telugu", "1", "1", "0", "0", "0"],
    ]


def test_the_referee_s_examples():
    answers = reading_answers.reread(generated()[0])
    head, *rows = cells(reading_answers.referee_examples(answers))
    assert head == ["language", "answer", "right is", "harness"]
    ending = f"… {answers['text'][2][-90:]}"
    assert ["Swahili", ending, str(gold("en", "scored", 3)), "harness, strict: wrong"] in rows
    assert ["English", answers["text"][6], str(gold("en", "development", 2)), "harness, strict: right"] in rows
    kinds = [(row[0], row[3]) for row in rows]
    assert max(map(kinds.count, kinds)) <= 2
    assert all((row[3].endswith("right")) == (row[0] == "English") for row in rows)


def test_the_harness_is_told_by_the_right_answers_alone():
    answers = reading_answers.reread(generated()[0])
    assert reading_answers.harness_sentence(answers, "bn") == (
        "Of the 2 answers in Bengali that are right, lm-evaluation-harness counts 0 by its strict filter and 1 by the flexible "
        "one."
    )
    assert reading_answers.harness_sentence(answers, "sw").startswith("Of the 3 answers in Swahili that are right")
    assert "counts 0" in reading_answers.harness_sentence(answers, "en"), (
        "what it counts and is wrong, is not among them"
    )
