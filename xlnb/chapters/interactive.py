"""What a reader can move in JupyterLab, and what stands in its place where nothing moves: in the book, on GitHub, on paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlnb.chapters.pictures import Shown


@dataclass(frozen=True)
class Explorer:
    """Controls with what they show (an ipywidgets ``interactive``), and a static twin of it."""

    widget: Any
    static: Shown

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return both: a front end that has widgets prefers those."""
        made = self.widget._repr_mimebundle_(**options)
        data = made[0] if isinstance(made, tuple) else made
        return {**data, "text/html": self.static.html, "text/plain": "controls, and what they show"}


def explorer(show: Callable[..., Shown], static: Shown, **controls: Any) -> Explorer | Shown:
    """Return controls, one for each argument of ``show``, that show its result anew when they are moved.

    ``controls`` are what ``ipywidgets.interactive`` takes: a widget, a range (low, high, step), a list of options. Where nothing
    moves, ``static`` stands in their place; it is all there is without ipywidgets.
    """
    try:
        from ipywidgets import interactive
    except ImportError:
        return static
    return Explorer(interactive(show, {"auto_display": True}, **controls), static)


def steps(options: Sequence[int], name: str) -> Any:
    """Return a slider over numbers that need not be evenly spaced, for :func:`explorer`."""
    try:
        from ipywidgets import SelectionSlider
    except ImportError:
        return list(options)
    return SelectionSlider(
        options=list(options), value=list(options)[-1], description=name, style={"description_width": "initial"}
    )
