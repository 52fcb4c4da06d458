"""The chapter on linearity, on made-up maps whose answers are known, whole, partly there, and missing."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from texts import no_faults, watched

from xlnb.analysis.linearity import grid
from xlnb.chapters import foretelling, home, layerwise, linearity, planes, tangents
from xlnb.evaluation.readings import PRIMARY
from xlnb.paths import project_root
from xlnb.studies import atlas
from xlnb.studies.claims import NOT_REPRODUCED, REPRODUCED, UNTESTED
from xlnb.studies.maps import ASKED
from xlnb.studies.outcomes import load_outcomes
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

STEEP = {("math", "math"): 1.0, ("math", "problems"): 0.6, ("math", "language"): 0.1,
         ("language", "math"): 0.1, ("language", "problems"): 0.2, ("language", "language"): 0.8}  # fmt: skip
BENT = 0.4  # of the square along each vector
LANGUAGES = ("sw", "bn", "te")


def told(language, seed, paradigm="lora", profile="pocket"):
    return {"profile": profile, "model": "gemma-3-270m", "language": language, "paradigm": paradigm, "seed": seed}


def loss(asked, a, b, cross, noise=0.0):
    """A quadratic: what each vector saves, bent, and how the two meddle."""
    saved = sum(STEEP[side, asked] * (x - BENT / 2 * x * x) for side, x in (("math", a), ("language", b)))
    return 3.0 + noise - saved + cross * a * b


def alone(asked):
    return (1 - BENT / 2) * (STEEP["math", asked] + STEEP["language", asked])


def made_maps(share=0.3, languages=LANGUAGES, seeds=range(5), paradigm="lora", profile="pocket"):
    """Maps in which the cross term of plain addition is this share of what both do alone, and of which slopes are exact."""
    rows = {name: [] for name in ("plane", "slopes", "merges", "crosses", "activations", "lengths")}
    for place, language in enumerate(languages):
        for seed in seeds:
            key, noise = (
                told(language, seed, paradigm, profile),
                np.random.default_rng([seed, place]).normal(scale=0.02),
            )
            for asked in ASKED:
                cross = (share + noise) * alone(asked)

                def at(a, b, asked=asked, cross=cross):
                    return loss(asked, a, b, cross, 0.1 * noise)  # noqa: B023

                if seed < 3:
                    rows["plane"] += [
                        {**key, "a": a, "b": b, "asked": asked, "loss": at(a, b)} for a, b in grid(steps=9)
                    ]
                for side in ("math", "language"):
                    for layer in range(4):
                        part = {
                            "layer": layer,
                            "block": "ffn",
                            "slope": -STEEP[side, asked] / 4,
                            "side": side,
                            "asked": asked,
                        }
                        rows["slopes"].append({**key, **part})
                for part in dict.fromkeys((*linearity.PLACES, *linearity.SHARES)):
                    if part in linearity.HALVES.values():  # made of the plane
                        continue
                    some = 1.0 if part == "whole" else 0.5
                    corners = {"m": at(some, 0), "l": at(0, some), "neither": at(0, 0)}
                    both = at(some, some) if "swap" not in part else corners["m"] + corners["l"] - corners["neither"]
                    rows["crosses"].append({**key, "part": part, "asked": asked, "both": both, **corners})
                for method, partition, a, b, off, more in (
                    ("soup", "", 0.5, 0.5, 0.0, 0.0), ("task-arithmetic", "", 1.0, 1.0, 0.0, 0.0),
                    ("slerp", "", 0.5, 0.5, 0.01, 0.0), ("ties", "", 0.55, 0.51, 0.66, 0.0), ("dare", "", 1.0, 0.97, 0.95, 0.3),
                    ("layer-swapping", "A", 0.6, 0.4, 0.66, 0.0), ("layer-swapping", "B", 0.87, 0.14, 0.45, 0.0),
                    ("layer-swapping", "C", 0.63, 0.38, 0.65, -0.2), ("train-then-revert", "C", 0.63, 0.0, 0.61, 0.0),
                ):  # fmt: skip
                    here = {"method": method, "partition": partition, "a": a, "b": b, "off": off, "asked": asked}
                    rows["merges"].append({**key, **here, "loss": at(a, b) + more * (1 + noise)})
                for layer in range(18):
                    one = {
                        "cosine": 0.99 - 0.01 * layer,
                        "coefficient": 1.01,
                        "error": 0.04 + 0.01 * layer + noise / 10,
                    }
                    rows["activations"].append({**key, "layer": layer, "asked": asked, **one})
            for layer in range(18):
                squares = {"own": 100.0, "m": 1.0 + layer / 10, "l": 0.5, "dot": 0.1, "elements": 10}
                rows["lengths"].append({**key, "layer": layer, "block": "ffn", "projection": "up", **squares})
    return {name: pd.DataFrame(some) for name, some in rows.items()}


def publish(folder, *several):
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    for name in several[0]:
        pd.concat([maps[name] for maps in several]).to_parquet(folder / "maps" / f"{name}.parquet")


@pytest.fixture(scope="module")
def maps():
    return made_maps()


def words_of(shown):
    return BeautifulSoup(re.sub("</?code>", "`", shown.html), "html.parser").get_text(" ")


@pytest.fixture
def study(tmp_path, maps):
    """The pocket study, reading what is committed but for the maps, which are made up."""
    for folder in (project_root() / "book" / "results").iterdir():
        if folder.name != "maps":
            (tmp_path / folder.name).symlink_to(folder)
    far = made_maps(0.7, ("sw",), range(3), profile="pocket-far")
    publish(tmp_path, maps, made_maps(0.2, seeds=range(3), paradigm="full"), far)
    return Study(named_profile("pocket"), live=False, results=tmp_path)


@pytest.fixture
def without(study):
    """The same study where no map was computed."""
    shutil.rmtree(study.results / "maps")
    return study


# --- along one vector ------------------------------------------------------------------------------------


def test_tangents_are_held_against_the_line(maps):
    lines = tangents.along(maps["plane"], maps["slopes"])
    assert set(lines["seed"]) == {0, 1, 2}, "of the seeds that have planes"
    row = lines[
        (lines["side"] == "math") & (lines["asked"] == "problems") & (lines["at"] == 0.5) & (lines["seed"] == 0)
    ].iloc[0]
    assert row["saved"] == pytest.approx(0.6 * (0.5 - BENT / 2 * 0.25)) and row["tangent"] == pytest.approx(0.3)
    found = tangents.misses(lines)
    # The tangent is off by BENT / 2 * a of the slope: a tenth of the change from a = 0.4545 on.
    assert set(found["first"]) == {0.5} and len(found) == 6
    assert list(found["asked"][:3]) == list(ASKED)
    told_ = tangents.lines_told(lines)
    assert told_.startswith("By three trainings in Swahili, Bengali and Telugu: of 6 lines")
    assert "6 of the tangents promise more than is kept, none point the wrong way" in told_
    straight = lines.assign(saved=lines["tangent"])
    assert tangents.misses(straight)["first"].isna().all() and "6 keep to it all the way" in tangents.lines_told(
        straight
    )
    assert "not up to 1.5" in words_of(tangents.misses_table({"lora": straight}))


def test_a_tangent_that_points_the_wrong_way_is_told(maps):
    lines = tangents.along(maps["plane"], maps["slopes"])
    assert "6 point the wrong way" in tangents.lines_told(lines.assign(saved=-lines["saved"]))


# --- the plane -------------------------------------------------------------------------------------------


def test_the_plane_is_read_off_between_its_points(maps):
    grid_ = planes.heights(maps["plane"], "sw", "problems")
    assert planes.read_off(grid_, 0.5, 1.0) == pytest.approx(grid_.loc[0.5, 1.0])
    half = (grid_.loc[0.5, 1.0] + grid_.loc[0.75, 1.0]) / 2
    assert planes.read_off(grid_, 0.625, 1.0) == pytest.approx(half)
    assert np.isnan(planes.read_off(grid_, 2.0, 0.0))
    truth = np.mean([cross_of(maps, seed) for seed in range(3)])
    exact = loss("problems", 0.63, 0.38, 0) + truth * 0.63 * 0.38
    noise = np.mean(
        [planes.heights(maps["plane"][maps["plane"]["seed"] == s], "sw", "problems").loc[0, 0] - 3 for s in range(3)]
    )
    assert planes.read_off(grid_, 0.63, 0.38, 3) == pytest.approx(exact + noise, abs=1e-6)


def cross_of(maps, seed):
    """The cross term that made-up problems in Swahili have by this seed."""
    crosses = maps["crosses"]
    row = crosses[(crosses["part"] == "whole") & (crosses["asked"] == "problems") & (crosses["language"] == "sw")]
    row = row[row["seed"] == seed].iloc[0]
    return row["both"] - row["m"] - row["l"] + row["neither"]


def test_a_merge_is_held_against_its_nearest_point(maps):
    found = planes.beside(maps["plane"], maps["merges"])
    means = found[found["asked"] == "problems"].groupby(["method", "partition"])["beyond"].mean()
    assert means["soup", ""] == pytest.approx(0, abs=1e-9) and means["layer-swapping", "A"] == pytest.approx(
        0, abs=1e-6
    )
    assert means["layer-swapping", "C"] == pytest.approx(0.2, abs=0.02), "better than its point by what it was made"
    assert means["dare", ""] == pytest.approx(-0.3, abs=0.02)
    told_ = planes.merges_told(found)
    assert "the swap is better than the plane says; DARE is worse than the plane says" in told_
    assert "not clearly apart from what the plane says" in told_ and "soup" not in told_
    assert "65%" in words_of(planes.merges_table(found))
    assert "95 % intervals over three trainings" in words_of(planes.merges_table(found))


def test_one_training_says_nothing_of_merges(maps):
    found = planes.beside(maps["plane"][maps["plane"]["seed"] == 0], maps["merges"])
    assert planes.merges_told(found) == "One training does not tell which merges do otherwise than the plane says."
    assert "of one training, without intervals" in words_of(planes.merges_table(found))


def test_the_lowest_point_is_found(maps):
    best = planes.optimum(maps["plane"]).set_index(["language", "asked"])
    assert (best["saved"] >= best["beyond"]).all() and len(best) == 9
    grid_ = planes.heights(maps["plane"], "te", "language")
    row = best.loc["te", "language"]
    assert grid_.loc[row["a"], row["b"]] == grid_.to_numpy().min()


# --- the cross term --------------------------------------------------------------------------------------


def test_halves_of_a_quadratic_meddle_by_its_curvature(maps):
    found = linearity.halves(maps["plane"])
    cross = found["both"] - 2 * found["m"] + found["neither"]
    math = found[(found["part"] == linearity.HALVES["math"]) & (found["asked"] == "problems")]
    assert cross[math.index].to_numpy() == pytest.approx(0.6 * BENT / 4)


@pytest.mark.parametrize(("share", "outcome"), [(0.0, REPRODUCED), (0.3, NOT_REPRODUCED)])
def test_the_verdict_is_told_with_its_numbers(share, outcome):
    crosses = made_maps(share, seeds=range(5))["crosses"]
    told_ = linearity.verdict_told(crosses)
    assert told_.lower().startswith(f"{outcome} with these experts") and "on English problems" in told_
    assert "three trainings" in linearity.verdict_told(crosses[crosses["seed"] < 2])


def test_what_the_cross_term_is_made_of_is_told():
    told_ = linearity.effects_told(made_maps(0.5, ("sw", "bn"), range(3))["crosses"])
    assert (
        "On problems in the language math saves +0.48 and the language +0.16, in sum +0.64; together they save +0.3"
        in told_
    )
    assert "three trainings that all languages have: Swahili +50 [+50, +51] % and Bengali +51 [+49, +52] %" in told_


def test_what_is_on_one_side_of_zero_is_told(maps):
    found = linearity.with_halves(maps["crosses"], maps["plane"])
    assert set(linearity.HALVES.values()) < set(found["part"])
    fewer = linearity.with_halves(maps["crosses"], maps["plane"][maps["plane"]["seed"] < 2])
    assert not set(linearity.HALVES.values()) & set(fewer["part"]), "two trainings are too few for a control"
    told_ = linearity.crosses_told(found)
    assert "together worse than the sum in attention, FFN, q, k, v, o, gate, up and down" in told_
    better = linearity.crosses_told(found.assign(share=-found["share"]))
    assert "better than the sum in attention" in better and "worse" not in better
    swaps = linearity.swaps_told(found)
    assert "by its whole interval swap by A, swap by B, swap by C and swap by half and half within a tenth" in swaps
    assert "none is surely within a tenth" in linearity.swaps_told(found.assign(share=found["share"] + 0.5))


# --- what foretells --------------------------------------------------------------------------------------


def foretold(slope, spread=0.0, seeds=5):
    """Cells whose gain goes with the surplus by a slope, within languages that differ the other way."""
    rng, rows = np.random.default_rng(0), []
    for place, language in enumerate(LANGUAGES):
        for seed in range(seeds):
            surplus = -10.0 * slope * place + seed + 0.1 * rng.normal()
            gain = 10.0 * place + slope * (surplus + 10.0 * slope * place) + spread * rng.normal()
            rows.append({**told(language, seed), "method": "task-arithmetic", "partition": "", "surplus": surplus, "gain": gain,
                         "alone": rng.normal(), "error": float("nan")})  # fmt: skip
    return pd.DataFrame(rows)


def test_a_correlation_is_that_within_languages_or_over_all():
    cells = foretold(1.0)
    assert foretelling.rank_correlation(cells, "surplus", within=True)[0] > 0.9
    assert foretelling.rank_correlation(cells, "surplus")[0] < 0, "languages differ the other way"
    value, low, high = foretelling.rank_correlation(cells, "surplus", within=True)
    assert low > 0 and low <= value <= high
    assert all(np.isnan(foretelling.rank_correlation(cells, "error")))


def test_an_interval_over_trainings_holds_zero_where_nothing_goes_with_anything():
    held = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        cells = foretold(0.0).assign(gain=rng.normal(size=15), surplus=rng.normal(size=15))
        _, low, high = foretelling.rank_correlation(cells, "surplus", within=True, draws=200)
        held += low <= 0 <= high
    assert held >= 34


def test_what_foretells_is_told():
    cells = foretold(1.0)
    assert "goes with what addition gains" in foretelling.in_short(cells)
    assert "goes against" in foretelling.in_short(cells.assign(gain=-cells["gain"]))
    assert foretelling.in_short(cells[:0]) == ""
    table_ = foretelling.correlations(cells)
    assert "goes with the gain of task arithmetic" in foretelling.told(table_)
    assert "too few that differ" in words_of(foretelling.correlations_table(table_))


def test_gains_are_those_of_the_committed_outcomes(study):
    cells = foretelling.cells(study)
    assert set(cells["method"]) == {"task-arithmetic", "soup", "layer-swapping"}
    far = load_outcomes(study.results, "strength", profile="pocket-far", metric=PRIMARY)["seed"].nunique()
    full = load_outcomes(study.results, "main-methods", profile="pocket", paradigm="full", metric=PRIMARY)[
        "seed"
    ].nunique()
    found = cells.groupby(["profile", "paradigm"]).size().to_dict()
    expected = {("pocket", "lora"): 3 * 15, ("pocket-far", "lora"): 3 * far, ("pocket", "full"): 2 * full}
    assert found == expected, "of all there are maps; in full, addition is no main method"
    outcomes = load_outcomes(study.results, "methods", metric=PRIMARY, language="te", test_language="te", seed=2)
    means = outcomes.groupby(["method", "partition"])["outcome"].mean()
    row = cells[(cells["method"] == "layer-swapping") & (cells["language"] == "te") & (cells["seed"] == 2)].iloc[0]
    assert row["gain"] == pytest.approx(means["layer-swapping", "C"] - means["math-only", ""])


# --- the chapter -----------------------------------------------------------------------------------------


def test_figures_have_no_text_on_another(maps, study, monkeypatch):
    looked_at = watched(monkeypatch, tangents, planes, linearity, layerwise, foretelling)
    lines = tangents.along(maps["plane"], maps["slopes"])
    found = linearity.with_halves(maps["crosses"], maps["plane"])
    shown = [
        tangents.lines_figure(lines, "lora", 1),
        planes.plane_figure(planes.of_language(maps["plane"], "sw"), maps["merges"], 3, 2),
        planes.plane_figure(planes.of_problems(maps["plane"], "sw"), maps["merges"], 3, 3),
        linearity.crosses_figure(found, linearity.PLACES, "Parts.", 4),
        linearity.crosses_figure(found, linearity.SHARES, "Shares.", 5),
        layerwise.activations_figure(layerwise.by_layer(maps["activations"]), 6),
        layerwise.lengths_figure(layerwise.moved(maps["lengths"]), 7),
        foretelling.scatter(cells := foretelling.cells(study), foretelling.correlations(cells), 8),
    ]
    no_faults(looked_at)
    assert [f"Figure {n + 1}." in words_of(one) for n, one in enumerate(shown)] == [True] * 8
    assert all(one.html.count("<svg") == 2 for one in shown)


def test_strengths_stand_beside_each_other(study):
    text = words_of(linearity.strengths_table(study, 4))
    assert "far" in text and "barely" not in text and "240" not in text and "0.00015" in text
    shares = {name: plain["share"].mean() for name, plain in linearity.by_strength(study).items()}
    assert list(shares) == ["pocket", "pocket-far"]
    told_ = linearity.strengths_told(study)
    assert shares["pocket"] < shares["pocket-far"] and "rises with every step on English problems" in told_
    assert "falls" not in told_ and "neither" not in told_


@pytest.mark.parametrize(
    ("shares", "way"), [((0.5, 0.2, -0.1), "falls with every step"), ((0.2, 0.5, 0.1), "does neither")]
)
def test_a_share_falls_or_does_neither(shares, way, tmp_path):
    profiles = ("pocket-barely", "pocket", "pocket-far")
    several = [made_maps(share, ("sw",), range(3), profile=name) for share, name in zip(shares, profiles, strict=True)]
    publish(tmp_path, *several)
    told_ = linearity.strengths_told(Study(named_profile("pocket"), "sw", 0, results=tmp_path))
    assert f"the share {way} on English problems" in told_ and "rises" not in told_


def test_the_chapter_and_the_home_page_tell_the_same(study, monkeypatch):
    monkeypatch.setattr(home, "committed_study", lambda: study)
    home.linear.cache_clear()
    try:
        shown = linearity.answer()
        assert set(shown.verdicts.values()) == {NOT_REPRODUCED}
        told_, chapter = home.found()["F5"]
        assert chapter == "08-linearity" and told_ in words_of(shown) and told_ in linearity.summary(study)
        assert "By full fine-tuning (no part of the verdict)" in linearity.summary(study)
    finally:
        home.linear.cache_clear()


def test_without_maps_all_say_so(without, monkeypatch):
    monkeypatch.setattr(home, "committed_study", lambda: without)
    home.linear.cache_clear()
    try:
        assert home.linear().outcome == UNTESTED and home.found()["F5"] == ("Not tested yet.", "")
        shown = linearity.answer()
        assert tangents.NOT_YET in words_of(shown) and not shown.verdicts
        assert tangents.NOT_YET in linearity.summary(without)
    finally:
        home.linear.cache_clear()
    plane, crosses = atlas.tables(without, "plane"), atlas.tables(without, "crosses")
    lines, found = tangents.along(plane, atlas.tables(without, "slopes")), linearity.with_halves(crosses, plane)
    cells = foretelling.cells(without)
    for shown in (
        tangents.lines_figure(lines, "lora", 1), tangents.misses_table({"lora": lines}, 1),
        planes.plane_figure([], crosses, 0, 1),
        planes.merges_table(planes.beside(plane, atlas.tables(without, "merges")), 1), linearity.crosses_table(found, 1),
        linearity.crosses_figure(found, linearity.PLACES, "Parts.", 1), linearity.strengths_table(without, 1),
        layerwise.activations_figure(layerwise.by_layer(atlas.tables(without, "activations")), 1),
        layerwise.lengths_figure(layerwise.moved(atlas.tables(without, "lengths")), 1),
    ):  # fmt: skip
        assert tangents.NOT_YET in words_of(shown) and "<svg" not in shown.html
    for told_ in (
        tangents.lines_told(lines),
        linearity.effects_told(crosses),
        planes.optimum_told(plane),
        linearity.crosses_told(found),
        linearity.swaps_told(found),
        linearity.strengths_told(without),
    ):
        assert told_ == tangents.NOT_YET
    assert foretelling.in_short(cells) == ""
    found = foretelling.correlations(cells)
    for shown in (foretelling.scatter(cells, found, 9), foretelling.correlations_table(found, 5)):
        assert foretelling.NOT_YET in words_of(shown)
