"""A merge to play with: a point of the plane or a pair of counts of layers is moved, and what the model then does stands there.

In JupyterLab by widgets, with a button that computes the reader's own point; in the rendered book by a script of our own that
is written into the page with its data, so that it works from a file; without either the table alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import pandas as pd
from matplotlib.colors import to_rgb

from xlnb.chapters.figures import BETTER_COLOUR, WORSE_COLOUR
from xlnb.chapters.interactive import Explorer, explorer, steps
from xlnb.chapters.layer_swapping import NOT_YET as NO_SWEEP
from xlnb.chapters.layer_swapping import cell_told
from xlnb.chapters.pictures import Shown, box, table
from xlnb.chapters.planes import CORNERS, MIDDLE, heights, read_off
from xlnb.chapters.tangents import NOT_YET, TEXTS
from xlnb.chapters.words import capital, listed
from xlnb.chapters.words import number as digits
from xlnb.errors import RequestError, WorkError
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import LANGUAGE, MATH
from xlnb.studies.maps import ASKED, held_out, mean_losses, rows
from xlnb.studies.study import Study
from xlnb.weights.merging import task_arithmetic

OWN_TEXTS = 16  # of each kind, for a point that is computed while the reader waits
_STYLE = """<style>.xlnb-play{margin:1.2rem 0}.xlnb-play label{display:block;margin:.3rem 0}.xlnb-play input{width:min(20rem,90%);
vertical-align:middle}.xlnb-play svg{width:min(20rem,100%);height:auto;display:block;margin:.5rem 0;cursor:crosshair}
@media print{.xlnb-play-live{display:none}}</style>"""

# --- on a page ---------------------------------------------------------------------------------------------


def page(title: str, controls: str, data: Mapping[str, Any], beside: Shown) -> Shown:
    """Return controls with the script that moves them, its data inline, and ``beside``, which is there without a script, too."""
    script = (files("xlnb.chapters") / "play.js").read_text(encoding="utf-8")
    told = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    inside = (
        f'<div class="xlnb-play-live" hidden role="group" aria-label="{escape(title)}"><strong>{escape(title)}</strong>{controls}'
        f'<p class="told" aria-live="polite"></p></div><script type="application/json">{told}</script><script>{script}</script>'
    )
    return Shown(f'{_STYLE}<div class="xlnb-play">{inside}</div>{beside.html}', beside.verdicts)


def _slider(name: str, label: str, low: float, high: float, step: float, value: float) -> str:
    return (
        f'<label>{label} <output data-of="{name}"></output><br><input type="range" name="{name}" min="{low:g}" max="{high:g}" '
        f'step="{step:g}" value="{value:g}"></label>'
    )


def _choice(name: str, label: str, options: Mapping[str, str]) -> str:
    inside = "".join(f'<option value="{key}">{escape(shown)}</option>' for key, shown in options.items())
    return f'<label>{label} <select name="{name}">{inside}</select></label>'


# --- the plane ---------------------------------------------------------------------------------------------


def plane_page(plane: pd.DataFrame, language: str) -> Shown:
    """Return the plane for a page: two sliders, the map, and a table of what the plane says of the best-known points."""
    codes = [language, *(code for code in plane["language"].unique() if code != language)]
    grids = {code: {asked: heights(plane, code, asked) for asked in ASKED} for code in codes}
    one = grids[language][ASKED[0]]
    sides = [[float(value) for value in side] for side in (one.index, one.columns)]
    data = {
        "a": sides[0], "b": sides[1], "texts": TEXTS, "points": CORNERS,
        "loss": {
            code: {asked: grid.round(4).to_numpy().tolist() for asked, grid in some.items()} for code, some in grids.items()
        },
        "colours": [[round(255 * part) for part in to_rgb(colour)] for colour in (WORSE_COLOUR, MIDDLE, BETTER_COLOUR)],
    }  # fmt: skip
    controls = (
        _choice("language", "Language", {code: LANGUAGE_NAMES[code] for code in codes})
        + _choice("asked", "The map is of losses of", TEXTS)
        + '<svg viewBox="0 0 200 200" role="img" aria-label="The plane of losses, and your point on it"></svg>'
        + _slider("a", "How much of math (to the right):", sides[0][0], sides[0][-1], 0.05, 1)
        + _slider("b", "How much of the language (upwards):", sides[1][0], sides[1][-1], 0.05, 1)
    )
    return page("Move the merge", controls, data, known_points(plane, language))


def known_points(plane: pd.DataFrame, language: str) -> Shown:
    """Return a table of what the plane says of the base, both experts, the soup and addition."""
    grids = {asked: heights(plane, language, asked) for asked in ASKED}
    lines = [
        {"model": capital(name), "of math": digits(a, "g"), "of the language": digits(b, "g")}
        | {TEXTS[asked]: digits(read_off(grid, a, b), ".3f") for asked, grid in grids.items()}
        for name, (a, b) in CORNERS.items()
    ]
    caption = (
        f"Losses at the named points of the plane, in nats per token (lower is better), {LANGUAGE_NAMES[language]}."
    )
    return table(lines, caption=caption)


def point_told(plane: pd.DataFrame, language: str, a: float, b: float) -> Shown:
    """Return the plane's losses at a point, between the points that were computed, and what they save against the base."""
    lines = []
    for asked in ASKED:
        grid = heights(plane, language, asked)
        here, base = read_off(grid, a, b), float(grid.loc[0, 0])
        lines.append((TEXTS[asked], digits(here, ".3f"), digits(base - here, "+.3f")))
    caption = f"At {digits(a, '.2f')} of math and {digits(b, '.2f')} of the language, {LANGUAGE_NAMES[language]}; nats per token."
    return table(lines, ["losses of", "loss", "saved against the base"], caption=caption)


def plane_player(study: Study, plane: pd.DataFrame) -> Explorer | Shown:
    """Return the plane to move about on: sliders for both coefficients, and a button for the reader's own point."""
    if plane.empty:
        return box(f"<p>{NOT_YET}</p>")
    code = study.language if study.language in set(plane["language"]) else str(plane["language"].iloc[0])
    low, high = float(plane["a"].min()), float(plane["a"].max())

    def show(language: str = code, a: float = 1.0, b: float = 1.0) -> Shown:
        return point_told(plane, language, a, b)

    made = explorer(
        show,
        plane_page(plane, code),
        language=[(LANGUAGE_NAMES[one], one) for one in plane["language"].unique()],
        a=(low, high, 0.05),
        b=(low, high, 0.05),
    )
    return with_button(made, own_point(study)) if isinstance(made, Explorer) else made


def with_button(made: Explorer, compute: Callable[[str, float, float], Shown]) -> Explorer:
    """Return the controls with a button below them that shows what ``compute`` says of where they stand."""
    from ipywidgets import HTML, Button, Layout, VBox

    button = Button(description=f"Compute this point ({OWN_TEXTS} texts of each kind)", layout=Layout(width="auto"))
    result = HTML("Seconds on two cores, if both experts lie on this disk; else it says how to make them.")

    def clicked(_: Any) -> None:
        button.disabled, result.value = True, "Computing …"
        try:
            result.value = compute(*(made.controls[name].value for name in ("language", "a", "b"))).html
        except (RequestError, WorkError) as error:
            result.value = escape(str(error))
        finally:
            button.disabled = False

    button.on_click(clicked)
    *controls, told = made.widget.children
    return replace(made, widget=VBox([*controls, button, result, told]))


def own_point(study: Study) -> Callable[[str, float, float], Shown]:
    """Return a function that computes the losses of a point of the plane of the study's own experts, which have to be there."""

    @cache
    def parts(language: str) -> tuple[Any, ...]:
        mine = replace(study, language=language)
        if lacking := [slug for slug in (MATH, LANGUAGE) if not mine.expert_folder(slug).is_dir()]:
            commands = [
                f"xlnb train {slug} --profile {mine.profile.name} --language {language} --seed {mine.seed}"
                for slug in lacking
            ]
            raise RequestError(
                f"The experts of seed {mine.seed} are not on this disk: {listed(commands)}. That takes about ten minutes each "
                "on two cores; then press again."
            )
        texts = {asked: some[:OWN_TEXTS] for asked, some in rows(mine, held_out(mine)).items()}
        return mine.base, [mine.task_vector(slug) for slug in (MATH, LANGUAGE)], texts

    @cache
    def means(language: str, a: float, b: float) -> dict[str, float]:
        base, vectors, texts = parts(language)
        return mean_losses(base, task_arithmetic(vectors, [a, b]), texts)

    def compute(language: str, a: float, b: float) -> Shown:
        here = means(language, round(a, 4), round(b, 4))
        lines = [(TEXTS[asked], digits(here[asked], ".3f")) for asked in ASKED]
        caption = (
            f"Computed: the first {OWN_TEXTS} texts of each kind, by the experts of seed {study.seed}; nats per token. The table "
            "below is of all texts, and the mean over trainings."
        )
        return table(lines, ["losses of", "loss"], caption=caption)

    return compute


# --- the boundary ------------------------------------------------------------------------------------------


def boundary_page(swept: pd.DataFrame, sides: Sequence[Sequence[int]]) -> Shown:
    """Return the sweep of layer counts for a page: a slider for each end of the network; without a script the largest swap."""
    told = {f"{bottom}+{top}": _plain(cell_told(swept, bottom, top)) for bottom in sides[0] for top in sides[1]}
    controls = _slider("bottom", "First layers from the language expert:", 0, len(sides[0]) - 1, 1, len(sides[0]) - 1)
    controls += _slider("top", "Last layers from the language expert:", 0, len(sides[1]) - 1, 1, len(sides[1]) - 1)
    data = {"bottom": list(sides[0]), "top": list(sides[1]), "told": told}
    largest = cell_told(swept, int(sides[0][-1]), int(sides[1][-1]))
    return page("Move the boundary", controls, data, Shown(f"<noscript>{largest.html}</noscript>", largest.verdicts))


def _plain(shown: Shown) -> str:
    from bs4 import BeautifulSoup

    return BeautifulSoup(shown.html, "html.parser").get_text(" ", strip=True)


def boundary_player(swept: pd.DataFrame) -> Explorer | Shown:
    """Return chapter 05's sweep to move about on: how many first and last layers come from the language expert."""
    if swept.empty:
        return box(f"<p>{NO_SWEEP}</p>")
    sides = [sorted(int(count) for count in set(swept[side])) for side in ("bottom", "top")]
    return explorer(
        lambda bottom, top: cell_told(swept, bottom, top),
        boundary_page(swept, sides),
        bottom=steps(sides[0], "first layers"),
        top=steps(sides[1], "last layers"),
    )
