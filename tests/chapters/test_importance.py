"""Importance, on made-up maps whose answers are known: whole, partly there, none."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up import made
from made_up_maps import DEPTH, made_maps
from texts import no_faults, watched

from xlnb.analysis.fitting import FITTED
from xlnb.chapters import agreeing, fitted, home, importance, measured, overlapping, scorecard, words
from xlnb.chapters.figures import LANGUAGE_COLOUR, MATH_COLOUR
from xlnb.chapters.layer_swapping import with_pooled_random
from xlnb.studies import importances, overlaps
from xlnb.studies.claims import NOT_REPRODUCED, RANDOM, REPRODUCED, UNTESTED
from xlnb.studies.experiments import RANDOM_CONTROLS
from xlnb.studies.importances import MEASURES
from xlnb.studies.overlaps import BETWEEN, OVER_CONTROL, PAIRS
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study


@pytest.fixture(scope="module")
def maps():
    return made_maps()


@pytest.fixture(scope="module")
def study():
    return home.committed_study()


def empty(maps, *names):
    return {name: table.iloc[:0] if name in (names or maps) else table for name, table in maps.items()}


def luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# ------------------------------------------------------------------------------------------------ where


def test_leaning_is_of_shares():
    keys = {"measure": "fisher", "language": "sw", "layer": 0}
    rows = [
        {**keys, "seed": seed, "side": side, "site": site, "score": score}
        for seed in (0, 1)
        for side, scores in (("math", (1, 3, -5)), ("language", (60, 20, 0)))
        for site, score in zip(("q", "k", "v"), scores, strict=True)
    ]
    found = importance.leanings(pd.DataFrame(rows)).set_index("site")
    assert found["lean"].to_dict() == pytest.approx({"q": -0.5, "k": 0.5, "v": 0})
    assert found["weight"].to_dict() == pytest.approx({"q": 0.5, "k": 0.5, "v": 0})


def test_sides_are_told_apart_in_greyscale():
    ends = [luminance(colour) for colour in (MATH_COLOUR, importance._TO_LANGUAGE, importance._MIDDLE)]
    assert ends[0] > 2 * ends[1] and ends[2] > 2 * ends[0], "dark, middling, light"
    assert all(0.1 <= end <= 0.3 for end in ends[:2]), "a contrast of 3 on white and on black"
    assert luminance(LANGUAGE_COLOUR) == pytest.approx(ends[0], abs=0.05), "the usual green would not do"


def test_the_poster_says_what_is_seen(maps):
    alt = BeautifulSoup(importance.poster(maps, 1).html, "html.parser").svg["aria-label"]
    assert alt == importance.seen(maps) and "layer 17 for math" in alt and "layer 0 for the language" in alt
    assert "for both" in importance.seen(made_maps(apart=False, noise=0.01, seeds=2))


def test_the_poster_is_written_whole(maps, tmp_path):
    file = importance.save_poster(maps, str(tmp_path / "poster.pdf"))
    assert file.read_bytes()[:5] == b"%PDF-" and [one.name for one in tmp_path.iterdir()] == ["poster.pdf"]


def test_depth_and_the_share_of_ffn():
    found = agreeing.where(importances.scores(made_maps(noise=0.001))).set_index(["measure", "what", "side"])["value"]
    weights = np.exp(np.linspace(3, 0, 2 * DEPTH))
    depth = (weights * np.repeat(np.arange(DEPTH), 2)).sum() / weights.sum()
    assert found["change", "depth", "language"] == pytest.approx(depth, abs=0.02)
    assert found["change", "depth", "math"] == pytest.approx(DEPTH - 1 - depth, abs=0.02)
    assert found["ablation", "ffn", "language"] == pytest.approx(weights[1::2].sum() / weights.sum(), abs=0.01)
    assert found["fisher", "depth", "difference"] == pytest.approx(DEPTH - 1 - 2 * depth, abs=0.05)


def test_measures_that_say_the_same_agree(maps):
    page = BeautifulSoup(agreeing.agreement_table(maps, 6).html, "html.parser")
    cells = [[cell.get_text() for cell in row.find_all("td")] for row in page.tbody.find_all("tr")]
    assert len(cells) == 5 and [row[place] for place, row in enumerate(cells)] == [""] * 5
    assert cells[0][3].startswith("+1.00"), "made of the same numbers"
    assert "correlate by +1.00 [+1.00, +1.00]" in agreeing.in_language(maps)
    sites = maps["sites"].copy()
    turned = (sites["asked"] == "problems") & (sites["expert"] == "math-only") & sites["layer"].notna()
    sites.loc[turned, "loss"] = 6 - sites.loc[turned, "loss"]
    assert "for problems in the language correlate by −1.00" in agreeing.in_language({**maps, "sites": sites})


# ------------------------------------------------------------------------------------------------ overlap


def test_the_table_has_the_verdicts(maps):
    shown = overlapping.table_of(maps, 3)
    assert shown.verdicts == {"F1": REPRODUCED, **{f"F1|{measure}": "distinct" for measure in MEASURES}}
    told = overlaps.overlaps(importances.scores(made_maps(apart=False)))
    assert overlapping.verdicts(told)["F1"] == NOT_REPRODUCED
    assert overlapping.reading(told) == (
        "Not reproduced with these experts. The top 20 % of sites for math and for the language have more in common than "
        "chance by relative change, Taylor, Fisher, ablation and patching."
    )
    few = overlaps.overlaps(importances.scores(made_maps(seeds=2)))
    assert overlapping.verdicts(few) == {"F1": UNTESTED} and overlapping.reading(few) == "Not tested yet."


def test_overlap_is_counted_in_sites(maps):
    told = overlaps.overlaps(importances.scores(made_maps(apart=False, noise=0.001)))
    assert "Of 7 sites about so many are the same: 7.0 by relative change, 7.0 by Taylor" in agreeing.in_sites(told)
    assert agreeing.in_sites(told).endswith(
        "chance gives 1.4. Less in common than the same task twice, by the whole interval: by no measure."
    )
    assert agreeing.in_sites(overlaps.overlaps(importances.scores(maps))).endswith(
        "relative change, Taylor, Fisher, ablation and patching."
    )
    assert f"would give {overlaps.by_chance(18, 7):.2f}, where 1.00 [1.00, 1.00]" in agreeing.among_ffn(told)


def test_seeds_that_only_some_measures_have(maps):
    late = {**maps, "sites": maps["sites"][maps["sites"]["seed"] > 0]}
    assert importance.seeds_in_words(late) == "2 to 3 seeds" and importance.seeds_in_words(maps) == "3 seeds"
    page = BeautifulSoup(agreeing.agreement_table(late, 6).html, "html.parser")
    assert page.tbody.find_all("td")[3].get_text().startswith("+1.00"), "pairs are of the same seed"
    assert "95 % intervals over 2 seeds." in page.figcaption.get_text(), "of those that all measures have"


def test_every_language_has_its_rows(maps):
    for by, measures in (("block", 5), ("projection", 3)):
        page = BeautifulSoup(overlapping.by_language(maps, by, 4).html, "html.parser")
        rows = [[cell.get_text() for cell in row.find_all("td")] for row in page.tbody.find_all("tr")]
        assert [row[0] for row in rows] == ["Swahili", "Bengali", "Telugu"] * measures
        assert not overlapping.by_language(maps, by, 4).verdicts
    assert all(float(row[5]) < 0.001 for row in rows if row[3].startswith("−")), "shuffled sites are hardly as unlike"


def test_single_weights_are_held_against_the_same_task(maps, study):
    table = overlaps.elements(maps["elements"]).set_index(["measure", "share", "quantity"])["value"]
    assert table["change", 0.5, BETWEEN] == pytest.approx(1 / 3)
    assert table["change", 0.5, OVER_CONTROL] == pytest.approx(1 / 3 - 1 / 2)
    told = overlapping.elements_told(study, maps)
    assert told.count("where chance gives 0.005") == 3 and "by change, LoRA 0.005" in told
    mine = maps["elements"]
    one = mine["seed"] == 1
    moved = mine.assign(jaccard=mine["jaccard"].where(~one | (mine["pair"] != BETWEEN), 0.9))
    at = overlaps.elements(moved).set_index(["measure", "share", "quantity"]).loc[("fisher", 0.5, BETWEEN)]
    assert at["low"] < 1 / 3 < at["value"] == pytest.approx((2 / 3 + 0.9) / 3)


# ------------------------------------------------------------------------------------------------ partitions


def with_measured(level=0.7, languages=("sw", "bn", "te")):
    """Outcomes of the comparison with swaps by each measured partition, the last of which is the best."""
    found = made(lambda method, partition: {"C": 0.6, "half and half": 0.9}.get(partition, 0.5), languages)
    swap = found[(found["method"] == "layer-swapping") & (found["partition"] == "C")]
    swap = swap[swap["test_language"] == swap["language"]]
    parts = [
        swap.assign(partition=name, outcome=swap["outcome"] + (place - 3) * (level - 0.6))
        for place, name in enumerate(FITTED)
    ]
    return found, pd.concat(parts, ignore_index=True)


def test_measured_partitions_are_above_or_below_c(study):
    found, more = with_measured()
    whole = fitted.with_the_best(with_pooled_random(pd.concat([found, more], ignore_index=True)))
    table = measured.against_c(study, whole[~whole["partition"].isin(RANDOM_CONTROLS)])
    at = table.set_index("partition_a")["difference"]
    assert list(at.index[:8]) == list(FITTED)
    assert at[FITTED[0]] == pytest.approx(-0.3) and at[FITTED[7]] == pytest.approx(0.4)
    assert at[fitted.MEASURED[1]] == pytest.approx(np.mean([(place - 3) * 0.1 for place in range(8)]))
    assert at[fitted.HINDSIGHT[1]] == pytest.approx(0.4, abs=0.02), "the best of all, the lower half (+0.3) included"
    told = measured.reading(table)
    assert "clearly above C: Fisher, size of C (+0.10 nats per token" in told
    assert "clearly below C: Fisher (−0.30" in told and "not clearly apart from C: ablation (" in told
    assert "Of 8 measured partitions 4 are clearly better" in measured.answered(table)
    assert not measured.figure(table, 5).verdicts


def test_the_scorecard_lists_them_once_they_are_whole(tmp_path, study):
    found, more = with_measured()
    (tmp_path / "fitted").mkdir()
    there = Study(study.profile, results=tmp_path)
    more.to_parquet(tmp_path / "fitted" / "outcomes.parquet")
    whole = fitted.with_the_best(fitted.with_fitted(found, there))
    rows = scorecard.wins(whole)
    assert set(FITTED) | {fitted.MEASURED[1], fitted.HINDSIGHT[1]} <= set(rows["partition"])
    assert rows[rows["partition"].isin(FITTED)]["rank"].isna().all(), "controls have no rank"
    drawn = scorecard.figure(whole, number=2).html
    assert "measured layers" in drawn and "swap by Fisher" not in drawn
    more[(more["language"] != "te") | (more["seed"] != 2)].to_parquet(tmp_path / "fitted" / "outcomes.parquet")
    assert fitted.with_fitted(found, there).equals(found), "a training is missing in a language"


def test_chapter_03_tells_them_of_the_languages_that_have_them(tmp_path, study):
    found, more = with_measured()
    (tmp_path / "methods").mkdir()
    found.assign(model=study.keys["model"]).to_parquet(tmp_path / "methods" / "outcomes.parquet")
    there = Study(study.profile, results=tmp_path, live=False)
    assert measured.against_c(there, measured.outcomes(there)).empty
    (tmp_path / "fitted").mkdir()
    lacking = (more["language"] == "te") & (more["seed"] == 2) & (more["partition"] == FITTED[3])
    for committed, told in (
        (more, "Swahili, Bengali and Telugu, three trainings"),
        (more[~lacking], "Swahili and Bengali, three trainings"),
        (more[~lacking & (more["language"] != "bn")], "Swahili, three trainings"),
        (more[(more["language"] == "te") & ~lacking], "Telugu, two trainings"),
    ):
        committed.to_parquet(tmp_path / "fitted" / "outcomes.parquet")
        table = measured.against_c(there, measured.outcomes(there))
        at = table.set_index("partition_a")["difference"]
        assert list(at.index[:8]) == list(FITTED) and {"half and half", RANDOM[1]} <= set(at.index)
        assert at[FITTED[0]] == pytest.approx(-0.3) and at[FITTED[7]] == pytest.approx(0.4)
        assert f"clearly worse ({told}): by intervals" in measured.answered(table)
        assert f"Against C, {told.rsplit(',', 1)[0]}" in measured.figure(table, 5).html
    assert "A and B" not in measured.reading(table)
    more.to_parquet(tmp_path / "fitted" / "outcomes.parquet")
    mine = more[(more["partition"] == FITTED[0]) & (more["seed"] < 2)]
    (tmp_path / "partitions").mkdir()
    pd.concat([mine.assign(partition="A"), mine.assign(partition="B")]).to_parquet(
        tmp_path / "partitions" / "outcomes.parquet"
    )
    with_hand = measured.against_c(there, measured.outcomes(there))
    assert with_hand.set_index("partition_a")["difference"]["B"] == pytest.approx(-0.3)
    assert measured.reading(with_hand).endswith("A and B: two trainings.")


def test_names_of_swaps():
    assert words.in_prose("layer-swapping", "by fisher, as many as C") == "the swap by Fisher in the size of C"
    assert words.in_prose(*fitted.MEASURED) == "measured layers"
    assert words.in_prose(*fitted.HINDSIGHT) == "the best swap in hindsight"


# ------------------------------------------------------------------------------------------------ whole, partly, none


def shown_of(maps, study):
    return {
        "pictures": [
            importance.poster(maps, 1),
            agreeing.where_table(maps, 2),
            overlapping.figure(maps, 2),
            overlapping.table_of(maps, 3),
            overlapping.by_language(maps, number=4),
            overlapping.by_language(maps, "projection", number=5),
            agreeing.agreement_table(maps, 6),
            overlapping.elements(study, maps, 3),
        ],
        "words": [importance.seen(maps), agreeing.in_language(maps), overlapping.elements_told(study, maps)],
    }


def test_what_is_missing_says_what_computes_it(maps, study):
    nothing = shown_of(empty(maps), study)
    assert all("not among the committed results yet" in one.html for one in nothing["pictures"])
    assert all("not among the committed results yet" in one for one in nothing["words"])
    some = shown_of(empty(maps, "sites"), study)
    assert [("not among" in one.html) for one in some["pictures"]] == [True] * 4 + [False, False, True, False]
    none = pd.DataFrame()
    assert "was not computed yet" in measured.figure(none, 5).html + measured.reading(none)
    assert "was not computed yet" in measured.answered(none)
    told = overlaps.overlaps(importances.scores(empty(maps)))
    assert overlapping.summary(told, none).startswith("- F1: not tested yet.\n- Does measuring beat C?")


def test_no_text_overlaps(maps, study, monkeypatch):
    looked_at = watched(monkeypatch, importance, overlapping)
    wild = made_maps(apart=False, languages=("sw",), seeds=2, noise=2.0)
    for some in (maps, wild):
        shown_of(some, study)
    no_faults(looked_at)


def test_live_at_smoke(own_home, one_thread):
    live = Study(named_profile("smoke"), live=True, committed=False)
    found = importance.maps(live)
    assert {name: set(found[name]["seed"]) for name in importances.MAPS} == {name: {0, 1} for name in importances.MAPS}
    told = overlaps.overlaps(importances.scores(found))
    assert overlaps.decide(told).outcome == UNTESTED and told["low"].isna().all()
    assert importance.poster(found, 1).html and overlapping.table_of(found, 3).verdicts == {"F1": UNTESTED}
    assert set(overlaps.elements(found["elements"])["quantity"]) >= set(PAIRS)
