"""Placeholders: pages are filled when the book is made, the README's texts are brought up to date."""

import pytest

from xlnb.chapters import home
from xlnb.commands import cli
from xlnb.errors import RequestError
from xlnb.publishing.pages import check_places, filled, refill

WORDS = {"finding": lambda: "The swap **wins**.\n", "table": lambda: "| a |\n|---|\n| \\1 |"}
README = """\
# A project
<!-- xlnb: finding -->
Old words.

More.
<!-- /xlnb: finding -->
By hand.
<!-- xlnb: table -->
<!-- /xlnb: table -->
"""
FRESH = """\
# A project
<!-- xlnb: finding -->
The swap **wins**.
<!-- /xlnb: finding -->
By hand.
<!-- xlnb: table -->
| a |
|---|
| \\1 |
<!-- /xlnb: table -->
"""


def test_a_page_is_filled_and_comments_stay():
    text = "# Home\n\n<!-- xlnb: finding -->\n\n<!-- a remark -->\nSee `<!-- xlnb: other -->`.\n"
    wanted = "# Home\n\nThe swap **wins**.\n\n<!-- a remark -->\nSee `<!-- xlnb: other -->`.\n"
    assert filled(text, WORDS) == wanted


def test_an_unknown_placeholder_is_refused_with_its_page(tmp_path):
    page = tmp_path / "index.md"
    page.write_text("<!-- xlnb: findings -->\n")
    with pytest.raises(RequestError, match=r"index.md: No placeholder 'findings'.* Did you mean finding\?"):
        check_places([page], WORDS)


def test_a_file_is_refilled_once(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README)
    assert refill(path, WORDS, write=False) == ["finding", "table"]
    assert path.read_text() == README
    assert refill(path, WORDS) == ["finding", "table"]
    assert path.read_text() == FRESH
    assert refill(path, WORDS) == []
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<!-- xlnb: finding -->\nno end\n", "xlnb: finding"),
        ("<!-- /xlnb: table -->\n", "/xlnb: table"),
        ("<!-- xlnb: finding -->\n<!-- xlnb: table -->\n<!-- /xlnb: finding -->\n", "xlnb: table"),
    ],
)
def test_half_a_pair_is_refused_and_nothing_is_written(tmp_path, text, told):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(RequestError, match=f"<!-- {told} --> has no counterpart"):
        refill(path, WORDS)
    assert path.read_text() == text


def test_words_that_fail_leave_the_file(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README)
    with pytest.raises(ZeroDivisionError):
        refill(path, WORDS | {"table": lambda: 1 / 0})
    assert path.read_text() == README


def test_the_command_checks_and_writes(own_home, monkeypatch, capsys):
    readme, drawn = own_home / "README.md", []
    readme.write_text(README)
    monkeypatch.setattr(home, "WORDS", WORDS)
    monkeypatch.setattr(home, "save_figures", lambda: drawn.append("figure"))
    assert cli.exit_code(["readme", "--check"]) == 1
    assert "finding, table. `xlnb readme` writes it anew" in capsys.readouterr().err
    assert (readme.read_text(), drawn) == (README, [])
    assert cli.exit_code(["readme"]) == 0
    assert (readme.read_text(), drawn) == (FRESH, ["figure"])
    assert cli.exit_code(["readme", "--check"]) == 0
