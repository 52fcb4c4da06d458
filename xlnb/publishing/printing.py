"""The book as one PDF: Chromium prints its pages, pypdf joins them."""

from __future__ import annotations

import os
import shutil

from xlnb.errors import WorkError

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Return the path of a Chromium: XLNB_CHROMIUM, or else one of the usual names on the PATH."""
    given = os.environ.get("XLNB_CHROMIUM")
    for name in [given] if given else CHROMIUM:
        if found := shutil.which(name):
            return found
    where = (
        f"XLNB_CHROMIUM is {given}, which is no program" if given else f"none of {', '.join(CHROMIUM)} is on the PATH"
    )
    raise WorkError(
        f"No Chromium was found: {where}. Install it (on Debian: apt-get install chromium), or say where it is with "
        "XLNB_CHROMIUM=/path/to/chromium."
    )
