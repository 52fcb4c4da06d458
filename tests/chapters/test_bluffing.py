"""What the chapter says of those who bluff is what they get."""

import pytest

from xlnb.chapters import bluffing
from xlnb.evaluation.bluffs import READERS, bluffs
from xlnb.evaluation.readings import EXPRESSION_INFORMATION, TWIN_CHOICE, TWIN_INFORMATION


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Few problems, so that it is quick."""
    found = bluffs("sw", n=48)
    monkeypatch.setattr(bluffing, "bluffed", lambda language: found)
    return found.set_index(["reader", "metric"])["value"]


def test_the_best_bluff_is_the_best_of_those_who_do_not_understand(few):
    for metric in (EXPRESSION_INFORMATION, TWIN_INFORMATION, TWIN_CHOICE):
        reader, share = bluffing.best_bluff(metric, "sw")
        tricks = {name: few[name, metric] for name in READERS if name != bluffing.UNDERSTANDS}
        assert tricks[reader] == max(tricks.values())
        assert share == pytest.approx(tricks[reader] / few[bluffing.UNDERSTANDS, metric])


def test_the_sentence_says_which_trick_and_how_much(few):
    told = bluffing.bluffs_sentence("sw")
    reader, share = bluffing.best_bluff(EXPRESSION_INFORMATION, "sw")
    assert f"{share:.0%} (*{reader}*)" in told and "likelihood" not in told
    alone, understands = (few[name, EXPRESSION_INFORMATION] for name in ("numbers alone", bluffing.UNDERSTANDS))
    assert f"Numbers alone get {alone / understands:.0%}" in told


def test_the_text_of_the_chapter_holds():
    """Confidence bluffs information gained; by twins a fixed preference gets nothing, and no trick a third."""
    assert bluffing.best_bluff(EXPRESSION_INFORMATION, "sw")[1] > 1
    assert bluffing.best_bluff(TWIN_INFORMATION, "sw")[1] < 1 / 3
    mine = bluffing.bluffed("sw").set_index(["reader", "metric"])["value"]
    assert mine["numbers alone", TWIN_CHOICE] == mine["always adds", TWIN_CHOICE] == 0


def test_the_table_has_a_row_a_reader():
    html = bluffing.bluffs_table("sw", number=2).html
    assert all(name in html for name in READERS) and "Table 2" in html and "calibrated" not in html
    folded = bluffing.bluffs_table("sw", calibration=True).html
    assert all(name in folded for name in READERS) and "calibrated" in folded
