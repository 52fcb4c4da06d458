"""The chapter on the experts: made-up trainings and outcomes with known answers, and identities of the committed ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from shown import cells

from xlnb.chapters import experts, first_swap, home
from xlnb.chapters.experts import HALF, LANGUAGE_LAST, MATH_LAST, MIXED, TRAINED
from xlnb.evaluation.readings import NLL, PRIMARY, TWIN_CHOICE, TWIN_INFORMATION
from xlnb.methods import FORMAT_CONTROL, LANGUAGE, MATH, ORACLE
from xlnb.studies import claims
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.profiles import named_profile
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


def test_who_is_above_the_base_and_who_below(found):
    sentence = experts.gains_sentence(found)
    above, below = sentence.split("Below it: ")
    for name in (
        "the math expert",
        "data mixing",
        "data mixing for half the steps",
        "math last",
        "language last",
        "the oracle",
    ):
        assert name in above
    assert below.startswith("the language expert and the format control.")
    assert "the math expert is above the base (+1.00 nats" in sentence
    assert "In English the math expert is above the base (+1.00 nats" in sentence
    assert "the language expert is below the base (−0.10 [" in sentence


def test_an_expert_that_gains_in_one_language_alone_is_on_neither_side(found):
    worse = found.copy()
    mine = (worse["method"] == MIXED) & (worse["test_language"] == "te")
    worse.loc[mine & (worse["metric"] == PRIMARY), "outcome"] -= 2
    above, below = experts.gains_sentence(worse).split("Below it: ")
    assert "data mixing," not in above and "data mixing" not in below.split(". ")[0]
    assert "data mixing for half the steps" in above


def test_the_oracle_is_where_it_is():
    assert "the oracle is above the math expert (+1.00 [" in experts.gains_sentence(made())
    assert "the oracle is below the math expert (−0.50 [" in experts.gains_sentence(made(LEVELS | {ORACLE: 1.5}))


def test_arms_on_one_side_of_one_rival_are_told_together(found):
    told = experts.stands(found, (MIXED, MATH), (MATH_LAST, MATH), (HALF, MATH), (MATH, "base"))
    below, neither, above = told.split("; ")
    assert below.startswith(
        "data mixing and data mixing for half the steps are below the math expert (−0.30 nats per token ["
    )
    assert ", −0.50 [" in below
    assert neither.startswith("math last is neither above nor below the math expert (")
    assert above.startswith("the math expert is above the base (+1.00 [")


def test_another_metric_may_put_an_expert_of_both_above(found):
    sentence = experts.metrics_sentence(found)
    assert "only the oracle tells more twins apart than the base; in English only the oracle tells" in sentence
    assert "the math expert is above the base (+0.10 nats" in sentence, "a likelihood that falls is a gain"
    assert (
        "data mixing, data mixing for half the steps, math last and language last are above the math expert (+0.50 ["
        in sentence
    )
    assert "are below the math expert" in experts.metrics_sentence(made(likely=LEVELS | {MATH: 2.2}))


def test_twins_are_told_apart_in_one_place_alone(found):
    none = found.copy()
    none.loc[(none["metric"] == TWIN_CHOICE) & (none["test_language"] == "en"), "outcome"] = 0
    assert "only the oracle tells" in experts.metrics_sentence(none)
    assert "in English none tells" in experts.metrics_sentence(none)


def test_what_an_expert_of_both_costs(found):
    sentence = experts.both_sentence(found)
    assert (
        "data mixing, data mixing for half the steps and language last are below the math expert (−0.30 nats"
        in sentence
    )
    assert "math last is neither above nor below the math expert (" in sentence
    line = experts.lines(found)[2]
    assert "data mixing for half the steps is below the math expert (−0.50 nats" in line
    assert "whole solutions data mixing for half the steps is above the math expert (+0.40 nats" in line


@pytest.mark.parametrize(
    ("math", "language", "where"), [(2.0, 1.25, "above"), (1.25, 2.0, "below"), (1.5, 1.5, "neither above nor below")]
)
def test_the_order_of_two_trainings(math, language, where):
    some = made(LEVELS | {MATH_LAST: math, LANGUAGE_LAST: language})
    last = experts.lines(some)[-1]
    assert last.startswith(f"Of two trainings in a row, math last is {where} language last (")
    assert experts.both_sentence(some).endswith(last)


def test_figures_have_a_panel_a_language_and_their_rival(found):
    html = experts.gains_figure(found, number=2).html
    for name in ("Swahili", "Bengali", "Telugu", "English"):
        assert f"{name}: math expert +1.00" in html
    assert "Experts against the language expert" in experts.gains_figure(found, LANGUAGE).html
    both = experts.gains_figure(found, MATH, experts.OF_BOTH).html
    assert "Swahili: data mixing −0.30" in both and "oracle" not in both
    alone = experts.gains_figure(made(languages=("sw",)), MATH, experts.OF_BOTH).html
    assert "Swahili: data mixing −0.30" in alone and "Bengali" not in alone


def test_curves_are_means_of_ten_steps_with_the_ends_over_trainings():
    line = experts.curves(told(lambda slug, code, seed, step: step + 100 * seed), LANGUAGE)
    assert set(line) == {"sw", "bn"}
    assert tuple(line["sw"].loc[0]) == (100, 0, 200)
    assert tuple(line["bn"].loc[19]) == pytest.approx((114.5, 14.5, 214.5))
    english = experts.curves(told(lambda slug, code, seed, step: 1.0), MATH)
    assert set(english) == {"en"}


def test_the_figure_says_where_curves_begin_and_end():
    some = told(lambda slug, code, seed, step: 5.0 if step < 10 else 2.0 + (code == "bn"))
    html = experts.curve_figure(some).html
    assert "the math expert (English alone) from 5.00 to 2.00," in html
    assert "data mixing (Swahili) from 5.00 to 2.00, data mixing (Bengali) from 5.00 to 3.00" in html


def carried(slug, code, seed, step):
    """The earlier training costs language last 0.3 and a seed's tenth in its first batch, math last nothing; both end alike."""
    return (
        2.0
        + (0.3 + 0.1 * seed if slug == LANGUAGE_LAST and step == 0 else 0)
        + (0.01 if slug == MATH_LAST and step > 9 else 0)
    )


def test_what_an_earlier_training_leaves():
    last = experts.inherited(told(carried), LANGUAGE_LAST)
    assert set(last.index) == {"sw", "bn"}
    assert tuple(last.loc["bn"]) == pytest.approx((0.4, 0))
    assert tuple(experts.inherited(told(carried), MATH_LAST).loc["sw"]) == pytest.approx((0, 0.01))
    sentence = experts.losses_sentence(told(carried))
    assert "higher by +0.40 for language last and +0.00 for math last" in sentence
    assert sentence.endswith("differs by more than 0.010.")


def test_the_table_of_trainings_counts(own_home):
    study = Study(named_profile("smoke"))
    steps, batch = study.profile.training.steps, study.profile.training.batch_size
    rows = {row[0]: row[1:] for row in cells(experts.trainings_table(study, told(carried), 1))[1:]}
    assert list(rows["the math expert"][1:]) == [str(steps), str(steps * batch), "2"]
    assert rows["data mixing"][1] == str(2 * steps)
    assert rows["data mixing for half the steps"][1] == str(2 * max(1, round(steps / 2)))
    assert rows["language last"][0] == "prose of the language, going on from the math expert"
    longer = told(carried)
    longer.loc[longer["language"] == "bn", "tokens"] = 200
    rows = {row[0]: row[1:] for row in cells(experts.trainings_table(study, longer, 1))[1:]}
    assert rows["the oracle"][-1] == "sw 2, bn 4"
    assert rows["the math expert"][-1] == "2"


def test_nothing_is_there(found):
    nothing, none = found.iloc[:0], told(carried).iloc[:0]
    shown = [experts.gains_figure(nothing, number=1), experts.curve_figure(none, number=1)]
    assert all("was not computed yet" in one.html for one in shown)
    words = [say(nothing) for say in (experts.gains_sentence, experts.metrics_sentence, experts.both_sentence)]
    assert {*words, experts.losses_sentence(none), *experts.lines(nothing)} == {experts.NOT_YET}


def test_a_profile_of_which_nothing_is_committed_has_no_histories():
    study = home.committed_study()
    other = replace(study, profile=replace(study.profile, name="other"), live=True)
    object.__setattr__(other, "live", False)  # or it would not open
    assert experts.histories(other).empty
    assert experts.outcomes(other).empty
    assert [row[-1] for row in cells(experts.trainings_table(other, experts.histories(other)))[1:]] == ["–"] * len(
        TRAINED
    )


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
    told = experts.lines(experts.outcomes(home.committed_study()))[1]
    assert experts.knowledge_sentence() == first_swap.knowledge_sentence(home.committed_study())
    assert told.startswith("By the first chapter, the language expert") and experts.knowledge_sentence()[1:] in told
