"""Progress bars: a widget in a notebook, a line of text elsewhere; none is left when all is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

TEXT_BARS = "XLNB_TEXT_BARS"  # set where a terminal follows a notebook that runs: it can draw no widgets


def bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return tqdm's bar over items, or one to update by hand."""
    if os.environ.get(TEXT_BARS):
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(items, leave=False, delay=1, mininterval=1, **options)


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Let transformers read and write a checkpoint without its own bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
