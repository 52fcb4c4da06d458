"""The curve of strength, on made-up outcomes whose answers are known: whole, in part, none; its words, its axes, its numbers."""

import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up import made
from texts import text_faults

from xlnb.chapters import home, pictures, strength, updates
from xlnb.evaluation.readings import NLL, PRIMARY, TWINS
from xlnb.studies.claims import ADDITION, MATH_EXPERT, REVERTED, SOUP, SWAPPED
from xlnb.studies.experiments import BY_STRENGTH
from xlnb.studies.outcomes import load_outcomes, select
from xlnb.studies.profiles import STRENGTHS
from xlnb.studies.study import open_study

BARELY, USUAL, FAR, BY_HEART = STRENGTHS
METHODS = [arm[0] for arm in (("base", ""), MATH_EXPERT, *strength.ARMS)]


def level(method, addition=0.0, swap=0.0):
    """The math expert is 1 above the base; addition and the swap so much above that; the soup and reverting half below it."""
    return {"base": 0.0, "math-only": 1.0, "task-arithmetic": 1 + addition, "layer-swapping": 1 + swap}.get(method, 0.5)


def outcomes_of(profiles):
    """Outcomes of strengths: a dictionary of profiles with how much addition and the swap are above the math expert."""
    parts = []
    for profile, (addition, swap) in profiles.items():
        table = made(lambda method, _: level(method, addition, swap), languages=("sw",))  # noqa: B023
        parts.append(
            select(table, method=METHODS, partition=["", "C"], metric=strength.TOLD, test_language="sw").assign(
                profile=profile
            )
        )
    return pd.concat(parts, ignore_index=True)


WHOLE = dict(zip(STRENGTHS, ((0.0, -0.2), (-0.1, -0.1), (-0.2, 0.1), (-0.3, 0.2)), strict=True))


@pytest.fixture(scope="module")
def found():
    return outcomes_of(WHOLE)


@pytest.fixture(scope="module")
def rows(found):
    return strength.curve(found)


@pytest.fixture(scope="module")
def study():
    return open_study("pocket", "sw", 0, live=False)


def trained(moved=True, profiles=STRENGTHS):
    """What is known of the experts: how far each moved, fourfold from strength to strength, the language twice as far."""
    table = {
        profile: {"steps": 90, "rate": 1e-4, "cross": 0.01 * place if moved else np.nan}
        | {f"loss {slug}": 1.5 - place / 4 + at for at, slug in enumerate(updates.EXPERTS)}
        | {f"moved {slug}": 0.001 * 4**place * (1 + at) if moved else np.nan for at, slug in enumerate(updates.EXPERTS)}
        for place, profile in enumerate(profiles)
    }
    return pd.DataFrame.from_dict(table, orient="index", dtype=float)


# --- what is computed


def test_differences_are_to_the_math_expert_of_the_same_strength(rows):
    by = rows[rows["metric"] == PRIMARY].set_index(["profile", "method_a", "method_b"])["difference"]
    for profile, (addition, swap) in WHOLE.items():
        assert by[profile, ADDITION[0], "math-only"] == pytest.approx(addition, abs=0.02)
        assert by[profile, SWAPPED[0], "math-only"] == pytest.approx(swap, abs=0.02)
        assert by[profile, SWAPPED[0], ADDITION[0]] == pytest.approx(swap - addition, abs=0.02)
        assert by[profile, "math-only", "base"] == pytest.approx(1, abs=0.02)


def test_single_trainings_are_on_the_side_of_their_mean(rows):
    """By either metric: a likelihood that falls is a gain, in the dots as in the line; and the mean of the dots is the line."""
    for row in rows.itertuples():
        turned = -1 if row.metric == NLL else 1
        assert len(row.each) == row.seeds == 3
        assert np.mean(row.each) == pytest.approx(turned * row.difference, abs=1e-9)


# --- what is told


@pytest.mark.parametrize(("size", "said"), [(0.2, "yes"), (-0.2, "no"), (0.0, "cannot be told")])
def test_addition_among_small_updates(size, said):
    told = strength.lines(strength.curve(outcomes_of({BARELY: (size, 0.0), BY_HEART: (-0.3, 0.0)})))[0]
    assert told.startswith(
        "Is nothing lost by addition while updates are small? With experts that barely moved, by the "
    )
    assert told.count(f": {said} (task arithmetic ") == 2, "by both metrics"
    assert told.count("against the math expert") == 2


@pytest.mark.parametrize(
    ("addition", "swap", "said"),
    [
        (-0.3, 0.2, "yes"),
        (0.4, 0.2, "no"),  # above the math expert and the soup, below addition
        (-0.3, -0.2, "no"),
        (0.2, 0.2, "cannot be told"),
        (-0.3, 0.0, "cannot be told"),
    ],
)
def test_the_swap_among_large_updates(addition, swap, said):
    told = strength.lines(strength.curve(outcomes_of({BARELY: (0.0, 0.0), BY_HEART: (addition, swap)})))[1]
    assert told.startswith("Does the swap win where updates are large? With experts that learned by heart, ")
    assert told.count(f": {said} (the swap ") == 2
    for rival in ("the math expert", "task arithmetic", "the soup"):
        assert told.count(f"against {rival}") == 2


def test_metrics_that_disagree_are_told_apart(found):
    """Of 16 differences all agree but those that are zero; with the likelihood turned around, all that agreed are opposite."""
    told = strength.lines(strength.curve(found))[3]
    assert "Of 16 differences to the math expert both metrics put 15 on one side and 0 on opposite sides" in told
    turned = found.assign(outcome=found["outcome"].where(found["metric"] == PRIMARY, -found["outcome"]))
    told = strength.lines(strength.curve(turned))
    assert "put 0 on one side and 15 on opposite sides" in told[3] and "of the other 1 at least" in told[3]
    assert ": yes (the swap +0.20" in told[1] and ": no (the swap −0.20" in told[1]


@pytest.mark.parametrize(("swap", "above", "below"), [(0.2, 4, 0), (-0.5, 0, 0), (-0.9, 0, 4)])
def test_the_swap_is_held_against_the_base_in_the_place_of_the_language_expert(swap, above, below):
    """Reverting lies half below the math expert."""
    told = strength.lines(strength.curve(outcomes_of({BARELY: (0.0, swap), BY_HEART: (0.0, swap)})))[2]
    assert f"with experts that learned by heart the swap is {swap + 0.5:+.2f} [".replace("-", "−") in told
    assert (
        f"Of 4 such differences over all strengths, by both metrics, {above} are above zero and {below} below" in told
    )


def test_the_home_page_holds_the_usual_strength_against_the_last(found):
    told = strength.in_short(strength.curve(found))
    sizes = [float(size.replace("−", "-")) for size in re.findall(r"([+−]\d\.\d\d) \[", told)]
    assert sizes == pytest.approx([-0.1, 0.2, -0.5, -0.5, 0.2], abs=0.02) and "three trainings" in told
    for some in ([BARELY, BY_HEART], [BARELY, USUAL]):
        assert "not computed yet" in strength.in_short(strength.curve(select(found, profile=some)))
    assert "not computed yet" in strength.in_short(strength.curve(found.iloc[:0]))


def test_strengths_that_are_missing_are_named(found):
    told = strength.lines(strength.curve(select(found, profile=[USUAL, FAR])))
    assert "With experts of the usual strength" in told[0] and "With experts that moved far" in told[1]
    assert told[-1] == "Not computed yet: barely and by heart."
    told = strength.lines(strength.curve(select(found, profile=[BARELY, USUAL])))
    assert "With experts that barely moved" in told[0]
    assert told[1] == (
        "Does the swap win where updates are large? Experts that moved far or that learned by heart are not computed yet."
    )
    assert told[3].startswith("Of 8 differences")
    told = strength.lines(strength.curve(select(found, profile=[FAR, BY_HEART])))
    assert told[0].endswith("Experts that barely moved or of the usual strength are not computed yet.")
    (alone,) = strength.lines(strength.curve(select(found, profile=USUAL)))
    assert alone == "Of one strength alone nothing is told of small and large updates."


def test_nothing_is_there(found, study):
    rows = strength.curve(found.iloc[:0])
    told = updates.strengths(study, rows)
    pages = [strength.figure(rows, told, 3), strength.differences_table(rows, 6), strength.experts_table(told, 7)]
    labels = [BeautifulSoup(page.html, "html.parser").figcaption.get_text().split(". ")[0] for page in pages]
    assert labels == ["Figure 3", "Table 6", "Table 7"]
    assert all("not computed yet: <code>xlnb grid --experiment strength" in page.html for page in pages)
    assert strength.summary(rows).startswith("- Experts of several strengths are not computed yet")


# --- what is committed


@pytest.fixture
def committed(study, found, tmp_path):
    """A study whose results are made up: the base and the usual strength by one experiment, the others by another."""
    (asked,) = {cell.asked for cell in study.cells(BY_STRENGTH)}
    whole = found.assign(asked=asked)

    def write(some, name):
        (tmp_path / name).mkdir(exist_ok=True)
        some.to_parquet(tmp_path / name / "outcomes.parquet", index=False)

    write(select(whole, profile=USUAL), "methods")
    others = select(whole, profile=[BARELY, FAR, BY_HEART], method=METHODS[1:])
    write(others, "strength")
    made = open_study("pocket", "sw", 0, live=False)
    object.__setattr__(made, "results", tmp_path)
    return made, write, others


def test_the_base_of_one_experiment_serves_all_strengths(committed, rows):
    mine = strength.outcomes(committed[0])
    assert list(mine["profile"].unique()) == list(STRENGTHS)
    pd.testing.assert_series_equal(strength.curve(mine)["difference"], rows["difference"], rtol=0, atol=0.02)


def test_only_whole_strengths_that_were_asked_the_same_count(committed):
    study, write, others = committed
    some = others[(others["profile"] != FAR) | (others["method"] != SOUP[0])]
    some = some.assign(asked=some["asked"].where(some["profile"] != BARELY, "others"))
    write(some, "strength")
    assert list(strength.outcomes(study)["profile"].unique()) == [USUAL, BY_HEART]
    write(others.iloc[:0], "strength")
    assert strength.outcomes(study).empty, "one strength is no curve"


def test_what_is_committed_is_told_or_said_to_be_missing(study):
    rows = strength.curve(strength.outcomes(study))
    alike = {"profile": list(STRENGTHS), "method": "soup", "metric": NLL, "problem": "scored-000000-twin"}
    there = set(load_outcomes(study.results, language="sw", paradigm="lora", **alike)["profile"])
    assert set(rows["profile"]) == (there if len(there) > 1 else set())
    assert strength.lines(rows)


def test_what_numbers_alone_cannot_give_is_told(found):
    """Only addition and the swap tell twins apart as well as math experts do, here; the others do as badly as the base."""
    twins = found["metric"].isin(TWINS)
    able = found["method"].isin(["math-only", "task-arithmetic", "layer-swapping"])
    problem = found["problem"].str.extract(r"(\d+)")[0].astype(int)
    some = found.assign(outcome=found["outcome"].where(~twins, able + 0.01 * (problem % 7)))
    *_, told = strength.lines(strength.curve(some))
    assert "0 of 32 differences to the math expert are above zero and 16 below it" in told
    assert "of the math experts' 8 differences to the base 8 are above and 0 below" in told
    rows = strength.curve(some)
    heads = BeautifulSoup(strength.differences_table(rows, 7, TWINS).html, "html.parser").find_all("th", scope="col")
    assert [head.get_text() for head in heads][2:] == [
        "information gained on the twin (nats)",
        "twins told apart (points)",
    ]


def test_lengths_are_those_of_the_whole_weights(committed):
    """From sums of squares by layer: 3 and 4 of weights of length 10 each make 5 of 14.14."""
    study = committed[0]
    assert updates.moved(study).empty and updates.crossed(study).empty
    (study.results / "maps").mkdir()
    keys = {"profile": FAR, "language": "sw", "paradigm": "lora", "seed": 1}
    layers = pd.DataFrame(
        {"layer": [0, 1], "own": [100.0, 100.0], "m": [9.0, 16.0], "l": [1.0, 1.0], "dot": [0.0, 0.0]}
    )
    layers.assign(**keys).to_parquet(study.results / "maps" / "lengths.parquet")
    assert list(updates.moved(study)) == updates.MOVED
    far = updates.moved(study).set_index("expert")
    assert far.loc["math-only", "relative"] == pytest.approx(5 / 200**0.5)
    assert far.loc["language-only", "relative"] == pytest.approx(0.1)
    corners = {"both": 1.0, "m": 0.7, "l": 1.3, "neither": 1.2, "asked": "problems"}
    pd.DataFrame([{"part": "whole", **corners, **keys}, {"part": "ffn", **corners, **keys}]).to_parquet(
        study.results / "maps" / "crosses.parquet"
    )
    assert list(updates.crossed(study)["cross"]) == [pytest.approx(0.2)]
    told = updates.strengths(study, pd.DataFrame({"profile": [FAR]}), updates.moved(study), updates.crossed(study)).loc[
        FAR
    ]
    assert (told["steps"], told["rate"]) == STRENGTHS[FAR]
    assert told["moved math-only"] == pytest.approx(5 / 200**0.5) and told["cross"] == pytest.approx(0.2)


def test_losses_reached_are_those_of_the_last_steps(study):
    told = updates.strengths(study, pd.DataFrame({"profile": [USUAL]}))
    losses = study.history("math-only")["loss"].tail(10).mean()
    assert told.loc[USUAL, "loss math-only"] == pytest.approx(losses, rel=0.1), "one of three trainings"
    assert np.isnan(told.loc[USUAL, "moved math-only"])


# --- the picture


def test_strengths_stand_where_their_lengths_say():
    at, names, _ = updates.places(trained())
    assert at == pytest.approx([0, 1, 2, 3]) and names[0] == "barely\n0.10%\n0.20%"
    told = trained()
    told.loc[USUAL, ["moved math-only", "moved language-only"]] *= 0.7
    assert 0.6 < updates.places(told)[0][1] < 0.9
    told.loc[USUAL, ["moved math-only", "moved language-only"]] *= 0.5
    assert updates.places(told)[0] == [0, 1, 2, 3], "too near for their names"
    at, names, label = updates.places(trained(moved=False))
    assert at == [0, 1, 2, 3] and names[0] == "barely\n1.50\n2.50" and "loss" in label
    lacking = trained()
    lacking.loc[FAR, "moved math-only"] = np.nan
    assert "loss" in updates.places(lacking)[2], "one scale for all"


@pytest.fixture
def drawn(monkeypatch):
    figures, make = [], pictures.picture

    def looked(draw, **options):
        def looking(narrow):
            figures.append(draw(narrow))
            assert text_faults(figures[-1]) == []
            return figures[-1]

        return make(looking, **options)

    monkeypatch.setattr(strength, "picture", looked)
    return figures


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("size", [1.0, 0.001, 3000.0])
def test_the_picture(drawn, rows, moved, size):
    rows = rows.assign(each=[[size * one for one in some] for some in rows["each"]])
    rows[["difference", "low", "high"]] *= size
    html = strength.figure(rows, trained(moved), 3).html
    wide, narrow = drawn
    for figure in drawn:
        assert len(figure.axes) == 4
        for axis in figure.axes:
            low, high = axis.get_ylim()
            assert low <= 0 <= high, "up is better by either metric, and zero is in sight"
            assert len(axis.get_xticks()) == 4
    assert len({axis.get_position().x0.round(1) for axis in wide.axes}) == 2
    assert len({axis.get_position().x0.round(1) for axis in narrow.axes}) == 1
    assert [axis.get_title(loc="left") != "" for axis in narrow.axes] == [True, False, True, False]
    caption = BeautifulSoup(html, "html.parser").figcaption.get_text()
    assert "Exploratory: no test is made." in caption and "three trainings" in caption


def test_the_picture_of_some_and_of_one(drawn, found):
    for profiles in ([BARELY, BY_HEART], [USUAL]):
        strength.figure(strength.curve(select(found, profile=profiles)), trained(profiles=profiles), 3)
    assert len(drawn) == 4


def test_lines_end_where_the_table_says(drawn, rows):
    strength.figure(rows, trained(), 3)
    page = BeautifulSoup(strength.differences_table(rows, 6).html, "html.parser")
    cells = {
        (row[0], row[1]): row[2:]
        for line in page.tbody.find_all("tr")
        if (row := [c.get_text() for c in line.find_all(["th", "td"])])
    }
    assert len(cells) == 4 * 6 and ("far", "the swap − training and reverting") in cells
    for axis, column in ((drawn[0].axes[0], 0), (drawn[0].axes[1], 1)):
        for container in axis.containers:
            ends = container.lines[0].get_ydata()
            for name, value in zip(("barely", "as usual", "far", "by heart"), ends, strict=True):
                told = cells[name, f"{container.get_label()} − the math expert"][column]
                assert told.split(" ")[0] == f"{value:+.2f}".replace("-", "−")


def test_the_table_of_experts_has_what_is_known():
    heads = [
        cell.get_text()
        for cell in BeautifulSoup(strength.experts_table(trained(), 7).html, "html.parser").find_all("th")
    ]
    assert "moved, math" in heads and "cross term" in heads
    assert "0.00005" in strength.experts_table(trained().assign(rate=5e-5), 7).html, "one notation for all rates"
    page = strength.experts_table(trained(moved=False), 7).html
    assert "moved, math" not in page and "cross term" not in page and "loss, language" in page


def test_what_is_merged_is_what_was_asked():
    assert {arm[0] for arm in (*strength.ARMS, MATH_EXPERT)} | {"base"} <= set(BY_STRENGTH.methods)
    assert REVERTED in strength.ARMS and home.SCORECARD.startswith("09")
