"""The chapter on the experts: made-up trainings and outcomes with known answers, and identities of the committed ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from xlnb.chapters import experts, home
from xlnb.chapters.experts import HALF, LANGUAGE_LAST, MATH_LAST, MIXED, TRAINED
from xlnb.evaluation.readings import NLL, PRIMARY, TWIN_CHOICE, TWIN_INFORMATION
from xlnb.methods import FORMAT_CONTROL, LANGUAGE, MATH, ORACLE
from xlnb.stats import Interval
from xlnb.studies import claims
from xlnb.studies.experiments import KNOWLEDGE
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.profiles import named_profile
from xlnb.studies.search import HELD_OUT, NTREX, PROSE
from xlnb.studies.study import Study

LEVELS = {
    "base": 1.0, MATH: 2.0, LANGUAGE: 0.9, MIXED: 1.7, HALF: 1.5, MATH_LAST: 2.0, LANGUAGE_LAST: 1.25, FORMAT_CONTROL: 0.2,
    ORACLE: 3.0,
}  # fmt: skip
LIKELY = LEVELS | {
    MATH: 1.1,
    MATH_LAST: 1.2,
    MIXED: 1.6,
    HALF: 1.5,
}  # the same by likelihood, where another expert comes first


def made(levels=LEVELS, likely=LIKELY, languages=("sw", "bn", "te"), seeds=3, pairs=8):
    """Outcomes of the experts, each with its level by every metric and in every language."""
    rng, rows = np.random.default_rng(0), []
    for method in ("base", *TRAINED):
        for seed in range(1 if method == "base" else seeds):
            for language in languages:
                for code in (language, "en"):
                    for metric in (PRIMARY, TWIN_INFORMATION, TWIN_CHOICE, NLL):
                        for problem in (f"scored-{i:06d}{twin}" for i in range(pairs) for twin in ("", "-twin")):
                            value = (-likely[method] if metric == NLL else levels[method]) + rng.normal(0, 0.01)
                            value = float(method == ORACLE) if metric == TWIN_CHOICE else value
                            rows.append((method, "", seed, language, code, metric, problem, value))
    names = ["method", "partition", "seed", "language", "test_language", "metric", "problem", "outcome"]
    same = {"benchmark": "templates", "split": "scored", "shots": 2, "profile": "pocket", "paradigm": "lora"}
    return pd.DataFrame(rows, columns=names).assign(**same).reindex(columns=COLUMNS, fill_value="")


def told(loss, steps=20, seeds=3, languages=("sw", "bn")):
    """Histories of experts whose loss is a function of expert, language, seed and step."""
    rows = []
    for slug in TRAINED:
        for language in ("en",) if slug in (MATH, FORMAT_CONTROL) else languages:
            for seed in range(seeds):
                rows += [(slug, language, seed, s, loss(slug, language, seed, s), 100) for s in range(steps)]
    return pd.DataFrame(rows, columns=["expert", "language", "seed", "step", "loss", "tokens"])


@pytest.fixture(scope="module")
def found():
    return made()


def cells(shown):
    page = BeautifulSoup(shown.html, "html.parser")
    return [[cell.get_text() for cell in row.find_all(["td", "th"])] for row in page.table.find_all("tr")]


def test_who_is_above_the_base_and_who_below(found):
    sentence = experts.gains_sentence(found)
    above, below = sentence.split("Below it: ")
    for name in (
        "the math expert",
        "data mixing",
        "data mixing at half the steps",
        "math last",
        "language last",
        "the oracle",
    ):
        assert name in above
    assert below.startswith("the language expert and the format control.")
    assert "the oracle, which learned the task in the language, gains +2.00 nats" in sentence


def test_an_expert_that_gains_in_one_language_alone_is_on_neither_side(found):
    worse = found.copy()
    mine = (worse["method"] == MIXED) & (worse["test_language"] == "te")
    worse.loc[mine & (worse["metric"] == PRIMARY), "outcome"] -= 2
    above, below = experts.gains_sentence(worse).split("Below it: ")
    assert "data mixing," not in above and "data mixing" not in below.split(". ")[0]
    assert "data mixing at half the steps" in above


def test_an_oracle_that_is_no_better_promises_nothing():
    assert "more to be had" not in experts.gains_sentence(made(LEVELS | {ORACLE: 1.5}))


def test_another_metric_may_put_another_expert_first(found):
    assert experts.metrics_sentence(found).startswith(
        "By the likelihood of whole solutions, data mixing comes first (+0.60"
    )
    assert "and the math expert gains +0.10" in experts.metrics_sentence(found)
    alike = experts.metrics_sentence(made(likely=LEVELS | {MATH: 2.2}))
    assert alike.startswith("By the likelihood of whole solutions, the math expert comes first")
    assert "whole interval: in the languages the oracle (+100.0 points" in alike


def test_the_table_of_metrics_has_every_expert_in_both_places(found):
    head, *rows = cells(experts.metrics_table(found, 1))
    assert len(rows) == 2 * len(TRAINED)
    assert head[2:] == [
        "information gained on the twin (nats)",
        "twins told apart (points)",
        "NLL of the solution (nats)",
    ]
    by = {(row[0], row[1]): [cell.split(" ")[0] for cell in row[2:]] for row in rows}
    assert by["the math expert", "languages"] == ["+1.00", "+0.0", "+0.10"]
    assert by["the oracle", "English"] == ["+2.00", "+100.0", "+2.00"], "a likelihood that falls is a gain"


def test_what_an_expert_of_both_costs(found):
    sentence = experts.both_sentence(found)
    assert "data mixing is below the math expert (−0.50 nats" in sentence
    assert "it is below the math expert (−0.30 nats" in sentence
    assert "at equal steps is above the math expert (+0.40 nats" in sentence


@pytest.mark.parametrize(
    ("math", "language", "begins"),
    [(2.0, 1.25, "What is learned last"), (1.25, 2.0, "What is learned first"), (1.5, 1.5, "The order makes no clear")],
)
def test_the_order_of_two_trainings(math, language, begins):
    some = made(LEVELS | {MATH_LAST: math, LANGUAGE_LAST: language})
    assert experts.lines(some, home.committed_study())[-1].startswith(begins)
    assert experts.kept(some, MATH_LAST) == pytest.approx(math - 1, abs=0.02)
    assert experts.kept(some, LANGUAGE_LAST) == pytest.approx(language - 1, abs=0.02)


def test_math_last_that_equals_the_math_expert_is_on_neither_side(found):
    assert "Math last is not clearly away from the math expert (" in experts.order_sentence(found)
    assert "and above language last (+0.75" in experts.order_sentence(found)
    assert "language last is below the math expert (−0.75" in experts.order_sentence(found)


def test_of_no_gain_there_are_no_shares(found):
    study = home.committed_study()
    assert "of the math expert's gain 100% is there where math came last, 25% where" in experts.lines(found, study)[-1]
    assert "%" not in experts.lines(made(LEVELS | {MATH: 0.9}), study)[-1]


def test_figures_have_a_panel_a_language_and_their_rival(found):
    html = experts.gains_figure(found, number=2).html
    for name in ("Swahili", "Bengali", "Telugu", "English"):
        assert f"{name}: math expert +1.00" in html
    assert "Experts against the language expert" in experts.gains_figure(found, (LANGUAGE, "")).html
    both = experts.both_figure(found, 3).html
    assert "All languages: data mixing −0.30" in both and "oracle" not in both
    assert "The language: data mixing −0.30" in experts.both_figure(made(languages=("sw",)), 3).html


def test_curves_are_means_of_ten_steps_with_the_ends_over_trainings():
    line = experts.curves(told(lambda slug, code, seed, step: step + 100 * seed), LANGUAGE)
    assert set(line) == {"sw", "bn"}
    assert tuple(line["sw"].loc[0]) == (100, 0, 200)
    assert tuple(line["bn"].loc[19]) == pytest.approx((114.5, 14.5, 214.5))
    english = experts.curves(told(lambda slug, code, seed, step: 1.0), MATH)
    assert set(english) == {"en"}


def test_where_curves_begin_and_end():
    sentence = experts.curves_sentence(told(lambda slug, code, seed, step: 5.0 if step < 10 else 2.0 + (code == "bn")))
    assert "the math expert goes from 5.00 to 2.00." in sentence
    assert "Data mixing goes from 5.00 to 2.00 (Swahili) and from 5.00 to 3.00 (Bengali)." in sentence


def carried(slug, code, seed, step):
    """The earlier training costs language last 0.3 and a seed's tenth in its first batch, math last nothing; both end alike."""
    return (
        2.0
        + (0.3 + 0.1 * seed if slug == LANGUAGE_LAST and step == 0 else 0)
        + (0.01 if slug == MATH_LAST and step > 9 else 0)
    )


def test_what_an_earlier_training_leaves():
    table = experts.inherited(told(carried)).set_index(["expert", "language"])
    assert set(table.index) == {(slug, code) for slug in (MATH_LAST, LANGUAGE_LAST) for code in ("sw", "bn")}
    row = table.loc[(LANGUAGE_LAST, "bn")]
    assert tuple(row) == pytest.approx((0.4, 0.3, 0.5, 0, 0, 0))
    assert tuple(table.loc[(MATH_LAST, "sw")]) == pytest.approx((0, 0, 0, 0.01, 0.01, 0.01))
    sentence = experts.losses_sentence(told(carried))
    assert "language last finds prose harder by +0.40 (Swahili) and +0.40 (Bengali)" in sentence
    assert "differ by at most 0.010." in sentence
    assert len(cells(experts.order_table(told(carried), 4))) == 5


def test_the_table_of_trainings_counts(own_home):
    study = Study(named_profile("smoke"))
    steps, batch = study.profile.training.steps, study.profile.training.batch_size
    rows = {row[0]: row[1:] for row in cells(experts.trainings_table(study, told(carried), 1))[1:]}
    assert list(rows["the math expert"][1:]) == [str(steps), str(steps * batch), "2"]
    assert rows["data mixing"][1] == str(2 * steps)
    assert rows["data mixing at half the steps"][1] == str(2 * max(1, round(steps / 2)))
    assert rows["language last"][0] == "prose of the language, going on from the math expert"
    longer = told(carried)
    longer.loc[longer["language"] == "bn", "tokens"] = 200
    rows = {row[0]: row[1:] for row in cells(experts.trainings_table(study, longer, 1))[1:]}
    assert rows["the oracle"][-1] == "sw 2, bn 4"
    assert rows["the math expert"][-1] == "2"


def test_nothing_is_there(found):
    nothing, none = found.iloc[:0], told(carried).iloc[:0]
    shown = [draw(nothing, number=1) for draw in (experts.gains_figure, experts.metrics_table, experts.both_figure)]
    shown += [draw(none, number=1) for draw in (experts.curve_figure, experts.order_table)]
    assert all("was not computed yet" in one.html for one in shown)
    words = [say(nothing) for say in (experts.gains_sentence, experts.metrics_sentence, experts.both_sentence)]
    words += [experts.order_sentence(nothing), experts.curves_sentence(none), experts.losses_sentence(none)]
    assert {*words, *experts.lines(nothing, home.committed_study())} == {experts.NOT_YET}


def test_a_profile_of_which_nothing_is_committed_has_no_histories():
    study = home.committed_study()
    other = replace(study, profile=replace(study.profile, name="other"), live=True)
    object.__setattr__(other, "live", False)  # or it would not open
    assert experts.histories(other).empty
    assert experts.outcomes(other).empty
    assert [row[-1] for row in cells(experts.trainings_table(other, experts.histories(other)))[1:]] == ["–"] * len(
        TRAINED
    )


# ------------------------------------------------------------------------------------------------ texts of the search


def searched(gains):
    rows = [("language", code, PROSE, 90, 1.5e-4, metric, Interval(*ends, 9)) for (code, metric), ends in gains.items()]
    return pd.DataFrame(rows, columns=["expert", "language", "data", "steps", "rate", "metric", "gain"])


def test_texts_that_are_likelier_less_likely_or_neither(monkeypatch):
    gains = {("sw", HELD_OUT): (1, 0.5, 1.5), ("bn", HELD_OUT): (1, -0.5, 1.5), ("te", HELD_OUT): (1, 0.5, 1.5)}
    gains |= {("sw", NTREX): (-1, -1.5, -0.5), ("bn", NTREX): (1, 0.5, 1.5), ("te", NTREX): (0, -1, 1)}
    monkeypatch.setattr(experts, "_texts", lambda: searched(gains))
    assert experts.texts_sentence() == (
        "Against the base the experts make held-out prose likelier in Swahili and Telugu, neither in Bengali; lines of news less "
        "likely in Swahili, likelier in Bengali, neither in Telugu."
    )
    assert cells(experts.knowledge_table(3))[1] == ["Swahili", "+1.00 [+0.50, +1.50]", "−1.00 [−1.50, −0.50]"]
    monkeypatch.setattr(experts, "_texts", lambda: searched({}))
    assert experts.texts_sentence() == experts.search_sentence() == experts.NOT_YET
    assert "was not computed yet" in experts.knowledge_table(3).html


def test_the_search_names_the_best_data_by_each_text(monkeypatch):
    two = pd.concat(
        [searched({("sw", HELD_OUT): (2, 1, 3), ("sw", NTREX): (1, 0, 2)}),
         searched({("sw", HELD_OUT): (1, 0, 2), ("sw", NTREX): (5, 4, 6)}).assign(data="news")],
        ignore_index=True,
    )  # fmt: skip
    monkeypatch.setattr(experts, "_texts", lambda: two)
    sentence = experts.search_sentence()
    assert "Of 2 kinds of data" in sentence
    assert f"{PROSE} makes held-out prose likeliest (+2.00" in sentence
    assert "news makes lines of NTREX-128 likeliest (+5.00" in sentence


# ------------------------------------------------------------------------------------------------ what is committed


@pytest.fixture(scope="module")
def committed():
    return experts.histories(home.committed_study())


def test_committed_trainings_are_as_long_as_their_profile_says(committed):
    study = home.committed_study()
    assert set(committed["expert"]) == set(TRAINED)
    for (slug, _, _), part in committed.groupby(["expert", "language", "seed"]):
        wanted = study.training(slug).steps * (2 if slug in (MIXED, HALF) else 1)
        assert sorted(part["step"]) == list(range(wanted))


def test_what_learned_english_alone_is_one_training_a_seed(committed):
    languages = committed.groupby("expert")["language"].unique()
    for slug in TRAINED:
        assert set(languages[slug]) == ({"en"} if slug in (MATH, FORMAT_CONTROL) else {"sw", "bn", "te"})


@pytest.mark.parametrize(("last", "alone"), [(MATH_LAST, MATH), (LANGUAGE_LAST, LANGUAGE)])
def test_a_training_after_another_reads_the_same_batches(committed, last, alone):
    keys = ["seed", "step"] + (["language"] if alone == LANGUAGE else [])
    both = committed[committed["expert"] == last].merge(committed[committed["expert"] == alone], on=keys)
    assert len(both) == (committed["expert"] == last).sum()
    assert (both["tokens_x"] == both["tokens_y"]).all()
    assert not np.allclose(both["loss_x"], both["loss_y"])


def test_the_box_has_the_first_chapter_s_verdicts_and_no_other():
    shown = experts.answer()
    assert {name.split("|")[0] for name in shown.verdicts} == {arm[0] for arm, _ in claims.KNOWLEDGE.pairs}


def test_a_language_without_contrasts_is_told_by_that_which_has_them():
    study = replace(home.committed_study(), language="bn")
    assert all(study.state(cell) == "missing" for cell in study.cells(KNOWLEDGE))
    assert experts.knowledge_sentence(study) == experts.knowledge_sentence(home.committed_study())
