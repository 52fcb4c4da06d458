"""What a reader can move in JupyterLab, and what stands in its place where nothing moves: in the book, on GitHub, on paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from xlnb.chapters.pictures import Shown


@dataclass(frozen=True)
class Explorer:
    """Controls by name with what they show, as one widget, and a static twin of it."""

    widget: Any
    controls: Mapping[str, Any]
    static: Shown

    @property
    def shown(self) -> str:
        """The HTML that is shown now."""
        return str(self.widget.children[-1].value)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return both: a front end that has widgets prefers those."""
        return {**self.widget._repr_mimebundle_(**options), "text/html": self.static.html, "text/plain": "controls"}


def explorer(show: Callable[..., Shown], static: Shown, **controls: Any) -> Explorer | Shown:
    """Return controls, one for each argument of ``show``, that show its result anew when they are moved.

    ``controls`` are what ``ipywidgets.interact`` takes: a widget, a range (low, high, step), a list of options; they begin at the
    defaults of ``show``. Where nothing moves, ``static`` stands in their place; it is all there is without ipywidgets.
    """
    try:
        from ipywidgets import HTML, VBox, interactive
    except ImportError:
        return static
    defaults = signature(show).parameters
    made = {name: interactive.widget_from_abbrev(given, defaults[name].default) for name, given in controls.items()}
    # HTML and not Output: a notebook that runs without a front end may wait for ever for a cell that writes to an Output.
    result = HTML()

    def update(_: Any = None) -> None:
        shown = show(**{name: control.value for name, control in made.items()})
        result.value = f'<div style="line-height:1.4">{shown.html}</div>'  # a widget's lines are far apart

    for name, control in made.items():
        control.description = control.description or name
        control.observe(update, "value")
    update()
    return Explorer(VBox([*made.values(), result]), made, static)


def steps(options: Sequence[int], name: str) -> Any:
    """Return a slider over numbers that need not be evenly spaced, for :func:`explorer`."""
    try:
        from ipywidgets import SelectionSlider
    except ImportError:
        return list(options)
    style = {"description_width": "initial"}
    return SelectionSlider(options=list(options), value=list(options)[-1], description=name, style=style)
