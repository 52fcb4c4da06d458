"""What the chapter on base and data tells of the search for budgets: paired differences, signs, tables with and without it."""

import numpy as np
import pandas as pd
import pytest
from shown import cells

from xlnb.chapters import budgets
from xlnb.evaluation.readings import EXPRESSION, EXPRESSION_NLL, NLL, PRIMARY, TWIN_CHOICE
from xlnb.evaluation.shortcuts import APART, WORDS, pairs_of_twins, shortcuts
from xlnb.studies import search as searching
from xlnb.studies.search import BASE, HELD_OUT, MANY, NTREX, PARALLEL, PROSE, Setting, settings
from xlnb.training.sft import Training

LESS_IS_BETTER = {NLL, EXPRESSION_NLL, HELD_OUT, NTREX}
PROBLEMS = [f"development-{i:06d}" for i in range(24)]  # as many of each pair of twins
SHARES = {EXPRESSION}
MATH = [Setting("math", "en", MANY, 90, 3e-4), Setting("math", "en", MANY, 60, 1.5e-4)]
SWAHILI = [
    Setting("oracle", "sw", PARALLEL, 60, 1.5e-4),
    Setting("language", "sw", PROSE, 60, 1.5e-4),
    Setting("language", "sw", NTREX, 60, 1.5e-4),
]
TELUGU = Setting("language", "te", PROSE, 60, 1.5e-4)


def outcomes(setting, language, metrics, gain=0.0):
    """Outcomes of a setting by metrics, in an order of its own, better than those of no gain by about as much."""
    rng = np.random.default_rng(len(setting.name))
    rows = []
    for metric in metrics:
        sign = -1 if metric in LESS_IS_BETTER else 1
        for i in rng.permutation(len(PROBLEMS)):
            value = 2 + 0.1 * i + sign * gain * (1 + 0.1 * (i % 3))
            rows.append((metric, PROBLEMS[i], float(value > 2.9) if metric in SHARES else value))
    frame = pd.DataFrame(rows, columns=["metric", "problem", "outcome"])
    told = {name: getattr(setting, name) for name in ("expert", "language", "data", "steps", "rate", "seed")}
    frame["shots"] = [2 if metric in SHARES else 0 for metric in frame["metric"]]
    return frame.assign(**told, test_language=language, loss=1.0, tokens=1000, seconds_of_training=float(setting.steps))


ON_PROBLEMS = (NLL, EXPRESSION_NLL, PRIMARY, TWIN_CHOICE, EXPRESSION)
IN_LANGUAGE = (*ON_PROBLEMS, HELD_OUT)


@pytest.fixture(scope="module")
def found():
    """A small search: the base, math experts in English and Swahili, experts of Swahili and of Telugu."""
    base = Setting(BASE, "en")
    parts = [
        outcomes(base, code, ON_PROBLEMS if code == "en" else (*IN_LANGUAGE, NTREX)) for code in ("en", "sw", "te")
    ]
    parts += [outcomes(MATH[0], "en", ON_PROBLEMS, 0.5), outcomes(MATH[0], "sw", ON_PROBLEMS, 0.2)]
    parts += [outcomes(MATH[1], "en", ON_PROBLEMS, 0.3)]
    parts += [
        outcomes(setting, "sw", IN_LANGUAGE, gain) for setting, gain in zip(SWAHILI, (0.9, 0.1, 0.4), strict=True)
    ]
    parts += [outcomes(SWAHILI[2], "sw", (NTREX,), 0.6), outcomes(TELUGU, "te", IN_LANGUAGE, -0.2)]
    return pd.concat(parts, ignore_index=True)


def test_gains_are_paired_by_problem_and_more_is_better(found):
    gains = budgets.against_base(found)
    keys = ["expert", "language", "data", "steps", "rate", "test_language", "metric"]
    there = found[found["expert"] != BASE]
    assert sorted(map(tuple, gains[keys].to_numpy())) == sorted(set(map(tuple, there[keys].to_numpy())))
    for row in gains.itertuples():
        differences = []
        for _, one in there.iterrows():
            if all(one[key] == getattr(row, key) for key in keys):
                same = (found["expert"] == BASE) & (found["problem"] == one["problem"])
                same &= (found["test_language"] == row.test_language) & (found["metric"] == row.metric)
                (base,) = found.loc[same, "outcome"]
                differences.append((base - one["outcome"]) if row.metric in LESS_IS_BETTER else (one["outcome"] - base))
        assert len(differences) == len(PROBLEMS)
        assert row.gain.n == len(
            {pairs_of_twins(row.test_language, "development", 96)[problem] for problem in PROBLEMS}
        )
        assert row.gain.value == pytest.approx(np.mean(differences))
        assert row.gain.low <= row.gain.value <= row.gain.high
        assert row.seconds == row.steps
    english = gains[(gains["test_language"] == "en") & ~gains["metric"].isin(SHARES)]
    assert (english["gain"].map(lambda gain: gain.low) > 0).all(), "whichever way a metric points"


def test_the_table_of_math_experts(found):
    head, *rows = cells(budgets.math_table(found))
    assert head == [
        "data", "steps", "rate",
        "information gained on the calculations (nats), English", "twins told apart (points), English",
        "calculations right (points), English", "information gained on the calculations (nats), Swahili",
        "twins told apart (points), Swahili", "calculations right (points), Swahili",
    ]  # fmt: skip
    assert [row[:3] for row in rows] == [
        ["many English situations", *told] for told in (["60", "0.00015"], ["90", "0.0003"])
    ]
    assert rows[0][3].startswith("+0.33 [+0.3") and rows[0][6:] == ["–", "–", "–"], "not asked in Swahili"
    assert rows[1][3].startswith("+0.55 [") and rows[1][6].startswith("+0.22 [")
    right = (
        found[(found["metric"] == EXPRESSION) & (found["test_language"] == "en")]
        .groupby(["expert", "steps"])["outcome"]
        .mean()
    )
    assert rows[1][5].startswith(f"+{100 * (right['math', 90] - right[BASE, 0]):.1f} [")


def test_the_table_of_a_language_s_experts(found):
    shown = budgets.language_table(found, "sw")
    head, *rows = cells(shown)
    assert head[3:5] == ["held-out prose", "NTREX"] and "Swahili experts" in shown.html
    assert [row[0] for row in rows] == [NTREX, PROSE, f"oracle: {PARALLEL}"]
    assert rows[0][3].startswith("+0.44 [") and rows[0][4].startswith("+0.66 ["), (
        "less is better there: signs are turned"
    )
    assert rows[1][3].startswith("+0.11 [") and rows[1][4] == "–"
    assert rows[2][5].startswith("+0.99 [")
    (telugu,) = cells(budgets.language_table(found, "te"))[1:]
    assert telugu[:3] == [PROSE, "60", "0.00015"] and telugu[3].startswith("−0.22 [−0.2")
    assert len(cells(budgets.language_table(found, "bn"))) == 1, "nothing was tried"


def test_the_chosen_budget_is_told_of_each_expert(found, monkeypatch):
    monkeypatch.setattr(budgets, "committed_search", lambda: found)
    training = Training(steps=60, learning_rate=1.5e-4)
    swahili, telugu = budgets.language_sentences(training).split("\n")
    assert (
        swahili.startswith("- The Swahili expert makes held-out prose (+0.11 [")
        and "nats per token) likelier;" in swahili
    )
    assert (
        "on problems, asked without worked examples, it is above the base (+0.11 [" in swahili
        and "NTREX" not in swahili
    )
    assert (
        "The Telugu expert makes held-out prose (−0.22 [" in telugu
        and ") less likely;" in telugu
        and "it is below the base (−0.22 [" in telugu
    )
    math = budgets.sentences(found, 60, 1.5e-4)
    assert math.count("\n") == 0, "the math expert alone"
    assert math.startswith("- The math expert gains +0.33 [") and "points by calculations right" in math


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (0.1, "News of the language becomes likelier by the Swahili expert (one training each)."),
        (
            -0.1,
            "News of the language becomes less likely by the Swahili expert (one training each). Where it is not likelier, a",
        ),
        (
            0.0,
            "News of the language becomes no likelier by the Swahili expert (one training each). Where it is not likelier, a",
        ),
    ],
)
def test_whether_news_becomes_likelier(found, monkeypatch, gain, told):
    prose = found[(found["metric"] == HELD_OUT) & found["language"].isin(["sw", "en"])]
    base = prose[prose["expert"] == BASE]["outcome"].mean()
    news = prose.assign(metric=NTREX, outcome=base - gain * (prose["expert"] == "language"))
    monkeypatch.setattr(budgets, "committed_search", lambda: news)
    assert budgets.news_sentence(Training(steps=60, learning_rate=1.5e-4)).startswith(told)


def test_without_a_committed_search_a_box_says_so(own_home):
    (shown,) = budgets.search_tables("sw")
    assert "xlnb-answer" in shown.html and "There is no committed search" in shown.html
    told = budgets.search_reading(Training(steps=60, learning_rate=1.5e-4))
    assert "has not been run" in told and "first guess" in told and "xlnb search" in told
    assert "There is no committed search" in budgets.language_sentences(Training(steps=60, learning_rate=1.5e-4))


def test_a_committed_search_is_told_in_two_tables(own_home, found, monkeypatch):
    file = own_home / "book" / "results" / "search" / "search.parquet"
    file.parent.mkdir(parents=True)
    found.to_parquet(file)
    math, language = budgets.search_tables("te")
    assert math.html == budgets.math_table(found).html
    assert language.html == budgets.language_table(found, "te").html
    training = Training(steps=60, learning_rate=1.5e-4)
    told = budgets.search_reading(training)
    assert told.startswith(
        f"Of the {len(settings())} settings of the search 7 are computed. So the budget in use (60 steps at "
    )
    assert told.endswith(budgets.sentences(found, 60, 1.5e-4)) and "first guess" in told
    monkeypatch.setattr(budgets, "settings", lambda: range(7))
    told = budgets.search_reading(training)
    assert "first guess" not in told, "all are computed"
    assert "None of the math expert's other" in told or "gain clearly more on English problems" in told


# --- is the operation read? ------------------------------------------------------------------------------


def telling(setting, shares, test_language="en"):
    """A setting that tells so many of 40 pairs apart, by shots."""
    rows = [
        {"metric": TWIN_CHOICE, "shots": shots, "problem": f"p{i}", "outcome": float(i < share * 40)}
        for shots, share in shares.items()
        for i in range(40)
    ]
    told = {name: getattr(setting, name) for name in ("expert", "language", "data", "steps", "rate", "seed")}
    return pd.DataFrame(rows).assign(**told, test_language=test_language, seconds_of_training=60.0 * setting.steps)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (
            0.6,
            "Which operation is asked can be learned: trained for 90 steps (90 minutes) on many English situations, a math "
            "expert tells 60 [",
        ),
        (0.3, "No math expert of the search tells clearly more twins apart than a coin."),
    ],
)
def test_whether_twins_can_be_told_apart(own_home, share, told):
    base = telling(Setting(BASE, "en"), {0: 0.1, 2: 0.2})
    found = pd.concat([telling(MATH[0], {0: share, 2: 0.25}), telling(MATH[1], {0: 0.2, 2: 0.2}), base])
    assert budgets.reading_sentence() == "Whether longer training or other data would do is open."
    assert "There is no committed search" in budgets.reading_table().html
    file = own_home / "book" / "results" / "search" / "search.parquet"
    file.parent.mkdir(parents=True)
    found.to_parquet(file)
    assert budgets.reading_sentence().startswith(told)
    head, *rows = cells(budgets.reading_table(number=3))
    assert head[4:] == [
        "twins told apart, without worked examples (%)",
        "twins told apart, after 2 worked examples (%)",
    ]
    many = "many English situations"
    assert [row[:4] for row in rows] == [
        ["nothing (base)", "–", "–", "–"], [many, "60", "0.00015", "60"], [many, "90", "0.0003", "90"],
    ]  # fmt: skip
    assert (
        rows[2][4].startswith(f"{100 * share:.0f} [")
        and rows[2][5].startswith("25 [")
        and rows[0][4].startswith("10 [")
    )


@pytest.mark.parametrize(
    ("share", "end"),
    [(0.1, "] % apart, clearly fewer."), (0.6, "] % apart.")],
)
def test_whether_reading_carries_over_to_another_language(own_home, share, end):
    file = own_home / "book" / "results" / "search" / "search.parquet"
    file.parent.mkdir(parents=True)
    pd.concat([telling(MATH[0], {0: 0.6, 2: 0.6}), telling(MATH[0], {0: share}, "sw")]).to_parquet(file)
    told = budgets.reading_sentence()
    assert " In Swahili, which the expert never saw, it tells " in told and told.endswith(end)


def test_what_the_second_chapter_s_text_says_of_reading_is_so():
    """By the committed search: twins are not beyond the model in English, and fewer are told apart in Swahili."""
    told = budgets.reading_sentence()
    assert told.startswith("Which operation is asked can be learned: ") and told.endswith(", clearly fewer.")
    levels = budgets.reading_levels(searching.committed_search())
    best = max(levels.loc[levels["expert"] == "math", 0], key=lambda level: level.value)
    assert best.n == 12, "pairs of twins, not problems"
    words = shortcuts("en", "development", 96, 4800, readers=(WORDS,), many_frames=True).set_index("asked")["value"]
    assert words[APART] >= best.value, "whoever counts words does as well"
    assert f"tells {100 * words[APART]:.0f} [" in told
