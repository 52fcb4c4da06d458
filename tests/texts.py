"""What is wrong with a figure's texts: two that overlap, one that is cut off."""

from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from xlnb.chapters import pictures


def text_faults(figure):
    """Return a sentence for each fault of the texts that a figure really draws."""
    drawn, draw = [], Text.draw

    def looking(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        return draw(text, renderer, *args, **kwargs)

    figure.draw_without_rendering()  # the layout settles
    with patch.object(Text, "draw", looking):
        FigureCanvasAgg(figure).draw()
    page, boxes = figure.bbox, list({repr(name) + str(box.bounds): (name, box) for name, box in drawn}.values())
    faults = [
        f"{name!r} is cut"
        for name, box in boxes
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1 or box.y1 > page.y1 + 1
    ]
    for place, (name, box) in enumerate(boxes):
        for other, second in boxes[place + 1 :]:
            across = min(box.x1, second.x1) - max(box.x0, second.x0)
            down = min(box.y1, second.y1) - max(box.y0, second.y0)
            if across > 1 and down > 1:
                faults.append(f"{name!r} overlaps {other!r}")
    return faults


def watched(monkeypatch, *modules):
    """Return a list that gets the width and the faults of every figure that these chapters' modules draw."""
    found, make = [], pictures.picture

    def looking(draw, **options):
        def looked(narrow):
            figure = draw(narrow)
            found.append((narrow, text_faults(figure)))
            return figure

        return make(looked, **options)

    for module in modules:
        monkeypatch.setattr(module, "picture", looking)
    return found


def no_faults(looked_at):
    """Assert that figures were looked at, each for page and phone, and that nothing is wrong with them."""
    assert [narrow for narrow, _ in looked_at] == [False, True] * (len(looked_at) // 2) and looked_at
    assert [fault for _, faults in looked_at for fault in faults] == []
