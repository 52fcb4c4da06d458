"""Figures and tables as the book shows them: nothing overlaps or is cut, ink is the page's, each is named and captioned."""

import re

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from texts import no_faults, text_faults, watched

from xlnb.chapters import figures, first_swap, home, layer_swapping
from xlnb.chapters.pictures import Foreign, box, panels, picture, table
from xlnb.evaluation.readings import READINGS
from xlnb.studies import claims
from xlnb.studies.comparisons import BETTER, NOT_SHOWN, UNJUDGED, WORSE
from xlnb.weights.partitions import NAMED, named_partition


def drawn(narrow):
    figure, axes = panels(2, 2, narrow)
    for axis in axes:
        axis.plot([0, 1], [0, 1])
        axis.set(title="A panel", xlabel="unit")
    return figure


def test_a_picture_is_drawn_for_page_and_phone():
    shown = picture(drawn, number=2, caption="What is seen.", alt='A line that "rises" & ends')
    page = BeautifulSoup(shown.html, "html.parser")
    wide, narrow = page.find_all("svg")
    assert (wide["class"], narrow["class"]) == (["wide"], ["narrow"])
    assert float(wide["width"]) > 600 and float(narrow["width"]) < 350
    assert float(narrow["height"]) > 1.5 * float(wide["height"]), "panels are below each other"
    assert wide["role"] == "img" and wide["aria-label"] == 'A line that "rises" & ends'
    assert page.figcaption.get_text() == "Figure 2. What is seen."


def test_ink_is_the_page_s_and_the_ground_is_none():
    html = picture(drawn, number=1, caption="", alt="a").html
    assert "currentColor" in html
    assert not re.search(r"#010203|#040506|#000000|fill: ?#ffffff", html)


def test_ids_are_unique_among_pictures_and_what_they_refer_to_is_there():
    html = picture(drawn, number=1, caption="", alt="a").html + figures.partition_figure([named_partition("C", 8)]).html
    found = re.findall(r'\bid="([^"]+)"', html)
    assert len(found) == len(set(found))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(found)


def test_places_are_to_a_hundredth_of_a_point_and_scales_as_they_were():
    """Places are most of a map's weight; a rounded scale would move every letter."""
    html = picture(drawn, number=1, caption="", alt="a").html
    places = re.findall(r' (?:d|[xy])="([^"]*)"|translate\(([^)]*)\)', html)
    numbers = re.findall(r"\d+\.(\d+)", " ".join(part for place in places for part in place))
    assert numbers and max(map(len, numbers)) == 2
    assert "scale(0.015625)" in html


def test_drawing_leaves_a_reader_s_matplotlib_alone():
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    picture(drawn, number=1, caption="", alt="a")
    assert dict(mpl.rcParams) == before and plt.get_fignums() == []


@pytest.mark.parametrize(("second", "fault"), [((0.5, 0.5), "overlaps"), ((0.98, 0.1), "is cut"), ((0.1, 0.9), "")])
def test_faults_of_texts_are_found(second, fault):
    figure = Figure(figsize=(4, 3))
    figure.text(0.5, 0.5, "a first text")
    figure.text(*second, "a second text")
    faults = text_faults(figure)
    assert (len(faults) == 1 and fault in faults[0]) if fault else faults == []


def test_a_table_has_a_caption_heads_numbers_and_languages():
    rows = [("a & b", Foreign("১২টি আম", "bn"), "−0.19 [−0.24, −0.13]"), ("c", Foreign("నీరు", "te"), "3")]
    page = BeautifulSoup(table(rows, ["", "text", "value"], number=4, caption="Texts.").html, "html.parser")
    assert page.figcaption.get_text() == "Table 4. Texts."
    assert [cell.get_text() for cell in page.tbody.find_all("th")] == ["a & b", "c"]
    assert [cell.get("lang") for cell in page.tbody.find_all("td")][::2] == ["bn", "te"]
    assert [cell.get("class") for cell in page.tbody.find_all("td")][1::2] == [["n"], ["n"]]
    assert [cell.get_text() for cell in page.thead.find_all(["th", "td"])] == ["", "text", "value"]


def test_a_sentence_keeps_a_column_that_can_be_read_on_a_phone():
    sentence = "mean over texts of the loss that one step would change"
    page = BeautifulSoup(table([("Taylor", sentence, "a pass a site")], ["measure", "is", "cost"]).html, "html.parser")
    assert [cell.get("class") for cell in page.tbody.find_all("td")] == [["t"], None]
    assert "td.t{min-width:" in page.style.get_text()


def test_verdicts_are_kept_beside_what_shows_them():
    inner = box("<p>x</p>", {"a|b": BETTER})
    assert 'data-verdicts="{&quot;a|b&quot;: &quot;better&quot;}"' in inner.html


# ----------------------------------------------------------------------------------------- the book's own, at both widths


def contrast_rows(values, verdicts, family=claims.GAINS, code="sw"):
    rows = []
    for (a, b), value, verdict in zip(family.pairs, values, verdicts, strict=True):
        rows.append(
            (
                *a,
                *b,
                "sw",
                code,
                "templates",
                "scored",
                family.metrics[0],
                value,
                value - 0.1,
                value + 0.1,
                200,
                3,
                verdict,
            )
        )
    names = [
        "method_a",
        "partition_a",
        "method_b",
        "partition_b",
        "language",
        "test_language",
        "benchmark",
        "split",
        "metric",
    ]
    return pd.DataFrame(rows, columns=[*names, "difference", "low", "high", "n", "seeds", "verdict"])


SIZES = {"usual": 1.0, "tiny": 0.001, "huge": 12345.678}


@pytest.fixture
def looked_at(monkeypatch):
    return watched(monkeypatch, figures, first_swap, layer_swapping)


@pytest.mark.parametrize("size", SIZES)
def test_no_text_of_gains_and_rivals_overlaps(looked_at, size):
    values = [SIZES[size] * x for x in (1.4, -0.07, 0.6, 1.5, 1.2, 0.15)]
    words = [BETTER, WORSE, NOT_SHOWN, UNJUDGED, BETTER, BETTER]
    table = pd.concat([contrast_rows(values, words, code=code) for code in ("sw", "en")], ignore_index=True)
    shown = figures.gains(table, number=1)
    assert "In Swahili: math expert" in shown.html and "In English" in shown.html
    rivals = contrast_rows(values[:5], words[:5], claims.RIVALS)
    figures.rivals(rivals, number=2, own=rivals)
    figures.rivals(pd.concat([rivals, contrast_rows(values[:5], words[:5], claims.LAYERS)]), number=3)
    no_faults(looked_at)


@pytest.mark.parametrize("depth", [8, 18, 32, 80])
def test_no_text_of_partitions_overlaps(looked_at, depth):
    names = ["C", "predecessor", "half and half", "complement of C", "random 0 of C", "A", "B"]
    figures.partition_figure(
        [named_partition(name, depth) for name in names if name in NAMED or " of " in name], number=1
    )
    no_faults(looked_at)


def test_no_text_of_the_map_or_of_losses_overlaps(looked_at):
    family = claims.COUNTS
    values = [0.03 * (place - 12) for place in range(len(family.pairs))]
    cells = contrast_rows(values, [WORSE] * 5 + [NOT_SHOWN] * (len(values) - 5), family)
    cells[["bottom", "top"]] = cells["partition_a"].str.extract(r"(\d+)\+(\d+)").astype(int)
    layer_swapping.sweep_figure(cells, number=1)
    history = pd.DataFrame({"step": range(60), "loss": [2 - 0.02 * x for x in range(60)]})
    first_swap.loss_figure({"math-only": history, "language-only": history})
    no_faults(looked_at)


class Drawn:
    """An axis that keeps the lines which it is asked to draw."""

    def __init__(self):
        self.lines = {}

    def hlines(self, place, low, high, color, **_):
        self.lines[place] = (low, color)

    def plot(self, *_, **__):
        pass


def test_improvement_has_one_direction_and_one_colour_everywhere():
    """Of two contrasts, one better and one worse, the better one lies right and is blue, whichever way the metric points."""
    for metric in READINGS:
        turn = 1 if READINGS[metric].higher_is_better else -1
        table = contrast_rows([turn * 1.0, turn * -1.0, 0, 0, 0, 0], [BETTER, WORSE, *[NOT_SHOWN] * 4]).assign(
            metric=metric
        )
        seen = Drawn()
        for place, row in enumerate(table.head(2).itertuples()):
            figures.dot(seen, place, figures.improvement(row), figures.VERDICT_COLOURS[row.verdict])
        assert seen.lines[0][0] > 0 > seen.lines[1][0]
        assert (seen.lines[0][1], seen.lines[1][1]) == (figures.BETTER_COLOUR, figures.WORSE_COLOUR)


# ----------------------------------------------------------------------------------------- the finding


def test_the_finding_follows_the_verdicts():
    gains = contrast_rows([1.4, 0.0, 0.6, 1.5, 1.2, 0.1], [BETTER, NOT_SHOWN, *[BETTER] * 4])
    knows = contrast_rows([-0.9, 0.0], [BETTER, NOT_SHOWN], claims.KNOWLEDGE)
    worse = contrast_rows([-0.2, -0.2, 0.6, 1, 1], [WORSE, WORSE, BETTER, BETTER, BETTER], claims.RIVALS)
    told = home.finding_of(gains, worse, knows)
    assert len(told) == 3
    assert told[0].startswith("Not with our experts:") and "loses to the math expert and task arithmetic" in told[0]
    assert "grows 4.1-fold per token" in told[1]
    assert "does know its language better than the base, but" in told[2]
    told = home.finding_of(gains, worse.assign(verdict=BETTER), knows.assign(verdict=WORSE))
    assert told[0].startswith("Yes, with our experts:") and "loses" not in told[0]
    assert "knows its language less well" in told[2] and "little to swap in" not in told[2]
    assert home.finding_of(gains, worse.assign(verdict=UNJUDGED), knows)[0].startswith("Not tested yet:")


def test_the_readme_figure_is_written_for_light_and_dark(tmp_path):
    light, dark = home.save_figures(tmp_path)
    for file in (light, dark):
        text = file.read_text()
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"') and "currentColor" not in text
        BeautifulSoup(text, "xml")
    assert light.read_text() != dark.read_text()
