"""How the book shows a figure or a table: numbered, captioned, on the reader's own ground, as wide as the reader's screen.

A figure is drawn twice, for a page and for a phone, as inline SVG whose ink is the page's text colour: the reader's screen
chooses, and dark mode needs no twin. What a chapter's figures and tables say of contrasts is kept beside them, for a test that
no contrast has two verdicts.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from xlnb.artifacts import whole_file
from xlnb.chapters.words import capital, is_number

WIDE, NARROW = 7.4, 3.45  # inches: a page's text column, and a phone's
_INK, _GRID = "#010203", "#040506"  # stand for colours that the page decides
_STYLE: dict[Any, Any] = {
    "font.size": 9.0, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5, "ytick.labelsize": 9.0, "legend.fontsize": 8.5, "legend.frameon": False,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "axes.titlecolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.grid": True, "grid.color": _GRID, "grid.linewidth": 0.8,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.major.size": 0, "ytick.major.size": 0, "svg.fonttype": "path", "svg.hashsalt": "xlnb", "font.family": "DejaVu Sans",
}  # fmt: skip
_NUMERIC, _SENTENCE = ' class="n"', ' class="t"'
_LONG_TEXT = 40  # characters, from which a cell keeps a column that can be read on a phone: the table scrolls
_CSS = """<style>
.xlnb-figure{container-type:inline-size;margin:1.2rem 0}.xlnb-figure svg{max-width:100%;height:auto;color:inherit}
.xlnb-figure svg.narrow{display:none}.xlnb-table{margin:1.2rem 0}.xlnb-table div{overflow-x:auto}
.xlnb-figure figcaption,.xlnb-table figcaption{font-size:.92em;text-align:left;margin:.3rem 0}
.xlnb-table table{border-collapse:collapse;font-size:.88em;margin:0;width:auto}
.xlnb-table th,.xlnb-table td{padding:.25rem .6rem;text-align:left;vertical-align:top;border:0;border-bottom:1px solid #8886;
 white-space:normal;background:none}
.xlnb-table td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.xlnb-table tbody th{min-width:5.5rem}.xlnb-table td.t{min-width:10rem}
@container (max-width:560px){.xlnb-figure svg.wide{display:none}.xlnb-figure svg.narrow{display:block}}
</style>"""


@dataclass(frozen=True)
class Shown:
    """A figure or a table as HTML, with the verdicts that it shows: contrast to verdict."""

    html: str = field(repr=False)  # or a saved notebook would hold it twice
    verdicts: Mapping[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return self.html


def _framed(kind: str, name: str, inside: str, number: int | None, caption: str, verdicts: Mapping[str, str]) -> Shown:
    label = f"{name} {number}. " if number else ""
    told = f"<figcaption><strong>{label}</strong>{caption}</figcaption>" if label or caption else ""
    kept = f' data-verdicts="{escape(json.dumps(dict(verdicts)))}"' if verdicts else ""
    ends = (told, "") if kind == "table" else ("", told)
    return Shown(f'<figure class="xlnb-{kind}"{kept}>{_CSS}{ends[0]}{inside}{ends[1]}</figure>', verdicts)


def picture(
    draw: Callable[[bool], Figure],
    *,
    number: int | None,
    caption: str,
    alt: str,
    verdicts: Mapping[str, str] | None = None,
) -> Shown:
    """Return a figure drawn for a page and for a phone (``draw(narrow)``), with its caption and what is seen in words."""
    drawn = []
    for name, narrow in (("wide", False), ("narrow", True)):
        with mpl.rc_context(_STYLE):
            figure = draw(narrow)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        drawn.append(_inline(file.getvalue(), name, alt))
    return _framed("figure", "Figure", "".join(drawn), number, caption, verdicts or {})


def printed(draw: Callable[[bool], Figure], file: str | Path) -> Path:
    """Write a figure (``draw(narrow)``, as for a page) as a file to print, PDF, SVG or PNG by its name, and return its path."""
    with mpl.rc_context(_STYLE), whole_file(file) as beside:
        draw(False).savefig(beside, format=Path(file).suffix[1:], facecolor="white", dpi=300)
    return Path(file)


def panels(count: int, height: float, narrow: bool, **options: Any) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes: beside each other on a page, below each other on a phone, each ``height`` inches high."""
    rows, columns = (count, 1) if narrow else (1, count)
    figure = Figure(figsize=(NARROW if narrow else WIDE, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


# Matplotlib writes places to a millionth of a point. A hundredth is finer than any screen, and saves 100 kB of chapter 08.
_PLACES = re.compile(r' (?:d|[xy][12]?)="[^"]*"|translate\([^)]*\)')
_LONG = re.compile(r"-?\d+\.\d{3,}")


def _inline(svg: str, name: str, alt: str) -> str:
    """Return a file's SVG as an element of a page: ids of its own, the page's ink, a name for whoever cannot see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _PLACES.sub(lambda places: _LONG.sub(lambda n: f"{float(n[0]):.2f}", places[0]), svg)
    own = f"f{hashlib.sha256((name + svg).encode()).hexdigest()[:6]}"
    svg = re.sub(r'<g id="text_\d+"', r'<g class="text"', svg)
    svg = re.sub(
        r' id="(?:figure|axes|patch|line2d|matplotlib\.axis|xtick|ytick|LineCollection|legend|QuadMesh)_\d+"', "", svg
    )
    svg = re.sub(r'id="([^"]+)"', rf'id="{own}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{own}-", svg)
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "#8885")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = (float(part) * 96 / 72 for part in size.groups()) if size else (0, 0)
    head = f'<svg class="{name}" role="img" aria-label="{escape(alt)}" width="{width:.0f}" height="{height:.0f}" '
    rest = re.sub(r'^<svg|\b(?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", svg[: svg.index(">")])
    body = re.sub(r"\s*\n\s*", " ", svg[svg.index(">") :])
    return head + " ".join(rest.split()) + body.strip()


@dataclass(frozen=True)
class Foreign:
    """A text in another language than the page's."""

    text: str
    language: str


def table(
    rows: Any,
    columns: Sequence[str] | None = None,
    *,
    number: int | None = None,
    caption: str = "",
    heads: bool = True,
    verdicts: Mapping[str, str] | None = None,
) -> Shown:
    """Return rows (tuples under ``columns``, dictionaries or a frame) as a table of the book.

    The first column holds the heads of the rows, where there are ``heads``; numbers stand at the right.
    """
    frame = pd.DataFrame(rows, columns=columns)
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' if name else "<td></td>" for name in frame.columns)
    lines = []
    for row in frame.itertuples(index=False, name=None):
        cells = [_cell(value, head=heads and not place) for place, value in enumerate(row)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    inside = f'<div tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    return _framed("table", "Table", inside, number, caption, verdicts or {})


def _cell(value: Any, head: bool) -> str:
    text, language = (value.text, f' lang="{value.language}"') if isinstance(value, Foreign) else (str(value), "")
    shown = escape(text).replace("\n", "<br>")
    if head:
        return f'<th scope="row"{language}>{shown}</th>'
    kind = _NUMERIC if is_number(text) else language + _SENTENCE * (len(text) > _LONG_TEXT)
    return f"<td{kind}>{shown}</td>"


def to_come(number: int | None, told: str, kind: str = "figure") -> Shown:
    """Return what stands in the place of a figure, or a table, that cannot be drawn yet: its number, and why."""
    return _framed(kind, capital(kind), "", number, escaped(told), {})


def escaped(text: str) -> str:
    """Return a sentence as HTML; what stands between backticks is code.

    >>> escaped("a < b: `xlnb grid` does it")
    'a &lt; b: <code>xlnb grid</code> does it'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def paragraphs(sentences: Iterable[str]) -> str:
    """Return plain sentences as paragraphs, for :func:`box`."""
    return "".join(f"<p>{escaped(one)}</p>" for one in sentences)


def box(text: str, verdicts: Mapping[str, str] | None = None) -> Shown:
    """Return the box in which a chapter's answer stands; ``text`` is HTML."""
    kept = f' data-verdicts="{escape(json.dumps(dict(verdicts)))}"' if verdicts else ""
    style = "border-left:4px solid #0072B2;padding:.4rem 1rem;margin:1rem 0;background:#0072B218"
    return Shown(f'<div class="xlnb-answer"{kept} style="{style}">{text}</div>', verdicts or {})
