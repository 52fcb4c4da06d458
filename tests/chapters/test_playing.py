"""What a reader moves: the widgets and the page say what the plane says, and a point is computed by the reader's own experts."""

import json
import sys

import pytest
from bs4 import BeautifulSoup
from test_linear import made_maps, words_of

from xlnb.chapters import playing
from xlnb.chapters.interactive import Explorer
from xlnb.chapters.planes import heights, read_off
from xlnb.errors import RequestError
from xlnb.studies import atlas
from xlnb.studies.maps import ASKED
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study


@pytest.fixture(scope="module")
def plane():
    return made_maps(seeds=range(3))["plane"]


@pytest.fixture
def study(tmp_path):
    return Study(named_profile("smoke"), "sw", 0, folder=tmp_path / "runs", results=tmp_path / "results", device="cpu")


def test_sliders_say_what_the_plane_says(plane, study):
    player = playing.plane_player(study, plane)
    assert isinstance(player, Explorer)
    for name, value in (("a", 0.4), ("b", 0.85), ("language", "te")):
        player.controls[name].value = value
    for asked in ASKED:
        assert f"{read_off(heights(plane, 'te', asked), 0.4, 0.85):.3f}" in player.shown


def test_the_page_has_the_plane_s_data_a_slider_a_side_and_a_table(plane):
    page = BeautifulSoup(playing.plane_page(plane, "bn").html, "html.parser")
    data = json.loads(page.find("script", type="application/json").string)
    assert list(data["loss"]) == ["bn", "sw", "te"], "the study's language first"
    grid = heights(plane, "sw", "problems")
    assert data["loss"]["sw"]["problems"][2][5] == pytest.approx(grid.iloc[2, 5], abs=1e-4)
    assert [one["name"] for one in page.find_all("input", type="range")] == ["a", "b"]
    assert all(one.find_parent("label").get_text() for one in page.find_all(["input", "select"]))
    assert page.find(class_="xlnb-play-live").has_attr("hidden"), "nothing that does not work is shown without a script"
    assert "http" not in playing.plane_page(plane, "bn").html
    base = page.find("th", string="The base").find_parent("tr").get_text(" ")
    assert f"{heights(plane, 'bn', 'math').loc[0, 0]:.3f}" in base


def test_without_widgets_or_maps(plane, study, monkeypatch):
    assert "not computed yet" in words_of(playing.plane_player(study, plane[:0]))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert "xlnb-play" in playing.plane_player(study, plane).html


def test_the_reader_s_own_point_is_that_of_the_map(study):
    """On the miniature all texts are fewer than the button takes: its numbers are the map's."""
    made = atlas.table(study, "plane")
    compute = playing.own_point(study)
    told = words_of(compute("sw", 0.5, -0.5))
    row = made[(made["a"] == 0.5) & (made["b"] == -0.5)].set_index("asked")["loss"]
    assert all(f"{row[asked]:.3f}" in told for asked in ASKED)


def test_the_button_says_what_is_missing_and_computes_what_is_there(plane, study):
    player = playing.plane_player(study, plane)
    button, result = player.widget.children[-3:-1]
    button.click()
    assert "xlnb train math-only --profile smoke --language sw --seed 0" in result.value and not button.disabled
    for slug in ("math-only", "language-only"):
        study.expert(slug)
    button.click()
    assert "by the experts of seed 0" in result.value and "Computed" in result.value


def test_missing_experts_are_named(study):
    study.expert("math-only")
    with pytest.raises(RequestError, match=r"not on this disk: xlnb train language-only .*minutes") as told:
        playing.own_point(study)("sw", 1.0, 1.0)
    assert "math-only" not in str(told.value)
