"""Simultaneous fine-tuning, on made-up trainings and outcomes whose answers are known, and on what is committed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up import made

from xlnb.chapters import experts, home, scorecard, simultaneous
from xlnb.errors import RequestError
from xlnb.evaluation.readings import NLL, TWIN_CHOICE
from xlnb.studies import claims
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, WORSE
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

STEPS = 40
# How far the loss of each expert is below that of a lane at every step but the first.
BELOW = {"math-only": 0.02, "frozen-math": 0.01, "language-only": 0.3, "frozen-language": 0.1}


def trained(languages=("sw", "bn"), seeds=3):
    """The histories of all six trainings: losses that fall, and a batch's own noise that every model of a lane shares."""
    rows = []
    for language in (*languages, "en"):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)  # the math batches are those of every language
            noise = {lane: rng.normal(2, 0.5, STEPS) for lane in ("math", "language")}
            tokens = {lane: rng.integers(100, 900, STEPS) for lane in noise}
            for expert in ("simultaneous", "data-mixing", *BELOW):
                lanes = [lane for lane in noise if expert not in BELOW or lane in expert]
                if (lanes == ["math"]) != (language == "en"):
                    continue
                for place, lane in enumerate(lanes):
                    for step in range(STEPS):
                        loss = noise[lane][step] - (BELOW.get(expert, 0) if step else 0)
                        at = step * len(lanes) + place
                        moves = lane if expert == "simultaneous" else None
                        rows.append((at, loss, 1e-4, tokens[lane][step], language, seed, expert, moves))
    return pd.DataFrame(rows, columns=["step", "loss", "rate", "tokens", "language", "seed", "expert", "moves"])


def swap_first(method, partition):
    """The swap is best, frozen experts are worst."""
    return {"layer-swapping": 1.0, "frozen-experts": 0.2}.get(method, 0.6)


def scored():
    """Outcomes where the swap is first in the languages alone, and frozen experts are better by likelihood."""
    found = made(swap_first)
    english = (found["test_language"] == "en") & (found["method"] == "layer-swapping")
    likely = (found["metric"] == NLL) & (found["method"] == "frozen-experts")
    moved = np.where(english, np.where(found["metric"] == NLL, 0.4, -0.4), np.where(likely, -0.7, 0))
    moved = np.where(found["metric"] == TWIN_CHOICE, 0, moved)
    return found.assign(outcome=found["outcome"] + moved)


@pytest.fixture(scope="module")
def found():
    return scored()


@pytest.fixture(scope="module")
def study():
    return home.committed_study()


@pytest.fixture(scope="module")
def losses(study):
    return experts.histories(study, simultaneous.TRAINED)


@pytest.fixture(scope="module")
def committed(study):
    return simultaneous.outcomes(study)


# ------------------------------------------------------------------------------------------------ trainings


def test_a_turn_moves_the_layers_of_its_side(study):
    shown = simultaneous.turns_figure(study, steps=(9, 3), turns=8, number=1)
    order = BeautifulSoup(shown.html, "html.parser").svg["aria-label"].split(": ")[1].rstrip(".").split(", ")
    assert order == ["math", "math", "language", "math", "math", "math", "language", "math"]
    assert "The first 8 of 12 turns" in shown.html


def spent(study, losses):
    """Table 1, a method a row: trainings, steps, examples, tokens, steps of each layer."""
    page = BeautifulSoup(simultaneous.budgets_table(study, losses, 1).html, "html.parser")
    return {row.th.get_text(): [cell.get_text() for cell in row.find_all("td")] for row in page.tbody.find_all("tr")}


def test_budgets_are_counted_from_the_records(study):
    found = trained()
    table = spent(study, found)
    tokens = mixed_tokens(found)
    assert table == {
        "simultaneous fine-tuning": ["1", "80", "640", tokens, "40"],
        "data mixing": ["1", "80", "640", tokens, "80"],
        "the swap": ["2", "80", "640", tokens, "40"],
        "frozen experts": ["2", "80", "640", tokens, "40"],
    }
    short = found[(found["moves"] != "language") | (found["step"] < 20)]
    assert spent(study, short)["simultaneous fine-tuning"][1::3] == ["50", "10 or 40"]
    assert spent(study, short)["the swap"] == table["the swap"]


def mixed_tokens(found):
    mixed = found[(found["expert"] == "data-mixing") & (found["language"] == "sw")]
    return f"{mixed.groupby('seed')['tokens'].sum().mean():,.0f}"


def test_a_lane_is_held_against_its_experts_batch_by_batch():
    found = trained()
    every = simultaneous.saved(found)
    assert len(every) == 4 * 2 * 3 * STEPS, "experts, languages, seeds, steps"
    for slug, below in BELOW.items():
        mine = every[every["expert"] == slug]
        assert mine.loc[mine["step"] == 0, "loss"].abs().max() == 0
        assert mine.loc[mine["step"] > 0, "loss"].to_numpy() == pytest.approx(-below)
    told = simultaneous.gaps(found)
    assert "−0.010 (from −0.010 to −0.010) against the frozen expert on math batches, −0.020" in told
    assert "−0.100 (from −0.100 to −0.100) against the frozen expert on language batches" in told
    assert told.startswith("Loss saved over the last 30 steps of a lane") and "six trainings in 2 languages." in told
    assert simultaneous.gaps(trained(("sw",), 1)).endswith("over one training.")


def test_other_batches_or_rates_are_not_compared():
    for column, lane in (("tokens", "math"), ("rate", "language")):
        found = trained()
        at = found[(found["expert"] == f"frozen-{lane}") & (found["step"] == 3)].index[0]
        found.loc[at, column] *= 2
        with pytest.raises(RequestError, match=f"Another training than frozen-{lane}: its {lane} batches"):
            simultaneous.saved(found)


def test_committed_lanes_begin_where_their_experts_begin(losses):
    first = simultaneous.saved(losses).query("step == 0")  # refuses other batches
    math = first[first["expert"].isin(["math-only", "frozen-math"])]
    assert len(math) == 30
    assert math["loss"].abs().max() < 1e-6, "nothing has moved yet, and some were trained in another run"
    whole, frozen = (first[first["expert"] == slug]["loss"].to_numpy() for slug in ("language-only", "frozen-language"))
    assert len(frozen) == 15 and (frozen != 0).all(), "math has had a turn"
    assert abs(whole - frozen).max() < 1e-6


@pytest.mark.parametrize("language", ["sw", "bn", "te"])
def test_committed_methods_saw_as_many_tokens(study, losses, language):
    table = spent(replace(study, language=language), losses)
    assert len(table) == 4
    assert len({tuple(cells[1:4]) for cells in table.values()}) == 1, "steps, examples, tokens"


# ------------------------------------------------------------------------------------------------ outcomes


def test_the_plan_s_contrast_has_its_verdict(found):
    def contrast(outcomes):
        return simultaneous.of_simultaneous(claims.planned(outcomes))

    assert list(contrast(found)["verdict"]) == [BETTER]
    assert scorecard.reading(contrast(found)).startswith("The swap is better than simultaneous fine-tuning (+0.40 nats")
    worse = contrast(made(lambda method, _: 0.2 if method == "layer-swapping" else 0.6))
    assert list(worse["verdict"]) == [WORSE]
    assert list(contrast(made(lambda *_: 0.6))["verdict"]) == [NOT_SHOWN]


def test_the_verdict_is_corrected_with_the_plan_s_other_contrasts(committed):
    whole = home.planned()
    mine = simultaneous.of_simultaneous(claims.planned(committed))
    pd.testing.assert_frame_equal(mine, whole[whole["method_b"] == "simultaneous"])
    shown = simultaneous.answer().verdicts
    assert len(shown) == 1 and shown.items() <= scorecard.answer().verdicts.items()


def test_rivals_are_above_or_below(found):
    assert set(simultaneous.rivals(found)["method"]) == {
        "simultaneous", "data-mixing", "frozen-experts", "math-only", "layer-swapping",
    }  # fmt: skip
    assert set(simultaneous.rivals(found)["partition"]) == {"", "C"}
    everywhere, english = simultaneous.reading(found).split(" In English, ")
    assert everywhere.startswith("Over all languages, clearly above it: the swap (+0.40 nats per token [")
    assert "; clearly below it: frozen experts (−0.40 nats per token [" in everywhere
    assert "; not clearly apart from it: the math expert (" in everywhere and " and data mixing (" in everywhere
    assert english.startswith("clearly below it: frozen experts (−0.4") and "and the swap (" in english
    assert "clearly above" not in english
    likely = simultaneous.reading(found, NLL)
    assert "clearly above it: the swap (+0.40 nats per token" in likely and "frozen experts (+0.30" in likely


def test_what_it_does_to_train_together(found):
    told = simultaneous.together(found)
    assert "gains something on problems of the target languages (−0.40 nats per token" in told
    assert "gains something in English" in told
    assert "costs something by the plain likelihood of the languages' solutions (+0.30 nats per token" in told
    alike = simultaneous.together(made(lambda *_: 0.6))
    assert alike.count("makes no clear difference") == 3


def test_exploratory_parts_have_no_verdict(committed, losses):
    for shown in (simultaneous.figure(committed, 3), simultaneous.gap_figure(losses, "te", 2)):
        assert not shown.verdicts and "<figcaption>" in shown.html
    seen = BeautifulSoup(simultaneous.figure(committed, 3).html, "html.parser").svg["aria-label"]
    assert all(f"{name}: math expert " in seen for name in ("Swahili", "Bengali", "Telugu", "English"))


def test_nothing_is_there(tmp_path, study, found):
    (tmp_path / "first-swap").symlink_to(study.results / "first-swap")  # which trained none of the six together
    none = experts.histories(replace(study, results=tmp_path), simultaneous.TRAINED)
    assert set(none["expert"]) == {"math-only", "language-only"}
    nothing = found.iloc[:0]
    part = trained()
    part = part[part["expert"] != "frozen-math"]
    shown = [
        simultaneous.figure(nothing, 3),
        *(simultaneous.gap_figure(some, "sw", 2) for some in (none, part)),
        *(simultaneous.budgets_table(study, some, 1) for some in (none, part)),
    ]
    assert all("was not computed yet" in one.html for one in shown)
    told = [
        simultaneous.gaps(none),
        simultaneous.gaps(part),
        simultaneous.reading(nothing),
        simultaneous.together(nothing),
    ]
    assert all("was not computed yet" in one for one in told)
    assert simultaneous.summary(nothing, claims.planned(nothing)).count("was not computed yet") == 3


# ------------------------------------------------------------------------------------------------ live


def test_live_at_smoke(own_home, one_thread):
    live = Study(named_profile("smoke"), live=True, committed=False)
    losses = experts.histories(live, simultaneous.TRAINED)
    first = simultaneous.saved(losses).query("step == 0").set_index("expert")["loss"]
    assert first["math-only"] == first["frozen-math"] == 0
    assert {cells[1] for cells in spent(live, losses).values()} == {str(2 * named_profile("smoke").training.steps)}
    assert simultaneous.gaps(losses).endswith("over one training.")
    scores = simultaneous.outcomes(live)
    contrast = simultaneous.of_simultaneous(claims.planned(scores))
    assert scorecard.reading(contrast) == "Fewer than three trainings, or not of all three languages: no verdict."
    assert simultaneous.figure(scores, 3).html and simultaneous.reading(scores).startswith("Over all languages")
