"""What a reader's browser shows: pages opened in the machine's own Chromium and looked over; JupyterLab driven.

``python tests/publishing/browser.py PAGE OUT.png [WIDTH] [dark]`` saves what a page looks like.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from xlnb.errors import WorkError
from xlnb.publishing.printing import chromium

HEIGHT = 900


def need_chromium() -> str:
    """Skip where there is no Chromium, or fail where tests must not be skipped (CI=true)."""
    try:
        return chromium()
    except WorkError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"With CI=true the book must be opened in a browser. {error}")
        pytest.skip(str(error))


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page, and what happened while it opened: the addresses it asked for, the errors of its console."""

    page: Page
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Return a sentence for each fault that any page may have."""
        outside = [f"asks for {address}" for address in self.asked if _is_outside(address)]
        told = [f"says in the console: {error}" for error in self.errors if "ERR_" not in error or not outside]
        return [*outside, *told, *wide(self.page), *errors_shown(self.page), *figure_faults(self.page)]


def _is_outside(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("file", "data", "blob", "about") and parts.hostname != "127.0.0.1"


@contextmanager
def visiting(browser: Browser, address: str | Path, width: int = 1300, dark: bool = False) -> Iterator[Visit]:
    """Open a page at a width, in one of the book's two themes, with all that is folded open."""
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, reduced_motion="reduce")
    theme = "dark" if dark else "light"
    context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    visit = Visit(context.new_page())
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    visit.page.on("console", lambda said: visit.errors.append(said.text) if said.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.goto(address.as_uri() if isinstance(address, Path) else address)
    visit.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    visit.page.evaluate("() => window.MathJax?.startup?.promise ?? null")
    yield visit
    context.close()


def wide(page: Page) -> list[str]:
    """Return which elements make a page scroll sideways, if it does."""
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    if widths[0] <= widths[1]:
        return []
    culprits = page.evaluate("""() => [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .slice(-3).map(e => e.outerHTML.slice(0, 80))""")
    return [f"is {widths[0]} px wide in a window of {widths[1]}: {culprits}"]


def errors_shown(page: Page) -> list[str]:
    """Return what stands on a page that only a failing program writes: tracebacks, and all that went to stderr."""
    found = page.evaluate("""() => [...document.querySelectorAll(
            '.traceback, .output.stderr, [data-mime-type="application/vnd.jupyter.stderr"], '
            + '[data-mime-type="application/vnd.jupyter.error"], .jp-Dialog')]
        .filter(e => e.getClientRects().length).map(e => e.innerText.slice(0, 200))""")
    text = page.inner_text("body")
    words = ("Traceback (most recent call last)", "IProgress not found", "Error displaying widget")
    return [f"shows an error: {told!r}" for told in found] + [f"says {w!r}" for w in words if w in text]


def figure_faults(page: Page) -> list[str]:
    """Return which texts of a visible figure overlap another by more than a pixel, or stick out of it."""
    return page.evaluate("""() => [...document.querySelectorAll('figure.xlnb-figure svg')].flatMap((svg, number) => {
        const frame = svg.getBoundingClientRect();
        if (!frame.width) return [];
        const said = group => (group.getAttribute('aria-label') || group.textContent).trim().slice(0, 40);
        const boxes = [...svg.querySelectorAll('g.text, g[id*="text_"]')]
            .map(group => [said(group), group.getBoundingClientRect()]).filter(([_, box]) => box.width && box.height);
        const name = `${svg.getAttribute('class')} figure ${number + 1} (${(svg.getAttribute('aria-label') || '').slice(0, 60)})`;
        const cut = boxes.filter(([_, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([text]) => `${name}: a text ${text} is cut`);
        const overlaps = boxes.flatMap(([text, a], i) => boxes.slice(i + 1).filter(([_, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1
        ).map(([other, b]) => `${name}: texts ${text} and ${other} overlap at ${Math.round(b.left)}, ${Math.round(b.top)}`));
        return [...cut, ...overlaps];
    })""")


def barriers(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical, with the first elements it means."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']} ({one['impact']}, {len(one['nodes'])}): {one['help']}: {[n['html'][:160] for n in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def weight(visit: Visit) -> int:
    """Return the bytes of a page and of what it loads for itself: all but the files that every page shares."""
    paths = {Path(unquote(urlsplit(address).path)) for address in visit.asked if address.startswith("file:")}
    return sum(path.stat().st_size for path in paths if not {"_static", "mathjax"} & set(path.parts) and path.is_file())


def screenshot(address: str | Path, out: Path, width: int = 1300, dark: bool = False) -> None:
    with launched() as browser, visiting(browser, address, width, dark) as visit:
        visit.page.screenshot(path=out, full_page=True)


# ------------------------------------------------------------------------------------------------------- JupyterLab

QUIET = {  # every cell is in the page, not only those in view; nobody is asked about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


@contextmanager
def lab(folder: Path, scratch: Path, environment: dict[str, str]) -> Iterator[str]:
    """Start JupyterLab in a folder with notebooks, with settings of its own; yield its address with %s for a notebook's name."""
    for name, settings in QUIET.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"JUPYTERLAB_SETTINGS_DIR": scratch / "settings", "JUPYTERLAB_WORKSPACES_DIR": scratch / "workspaces",
           "JUPYTER_CONFIG_DIR": scratch / "config", "JUPYTER_RUNTIME_DIR": scratch / "runtime"}  # fmt: skip
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
               f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}"]  # fmt: skip
    with open(scratch / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**environment, **{k: str(v) for k, v in own.items()}},
                                  stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"http://127.0.0.1:{port}/api/status?token={token}"):
            assert server.poll() is None and time.monotonic() < deadline, (scratch / "lab.log").read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/%s?reset&token={token}"  # reset: no tabs of the visit before
    finally:
        server.terminate()
        server.wait(30)


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=2).status == 200
    except OSError:
        return False


READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady && location.pathname.endsWith(panel.context.path)
        && panel.sessionContext?.session?.kernel?.status === 'idle';
}"""


def wait_for_notebook(page: Page) -> None:
    page.wait_for_function(READY, timeout=60_000)


def run_all(page: Page, seconds: int = 400) -> None:
    """Run all cells of the notebook that is open, to the end."""
    page.evaluate("""() => {
        window.xlnbRan = false;
        window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.xlnbRan = true; });
    }""")
    page.wait_for_function("window.xlnbRan", timeout=seconds * 1000)
    page.wait_for_function(READY, timeout=30_000)


def with_parameters(notebook: Path, **values: object) -> None:
    """Change defaults in a notebook's cell of parameters, as a reader would."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    text = "".join(cell["source"])
    for name, value in values.items():
        text, found = re.subn(rf"^({name}\b[^=\n]*= *)[^\s#]+", rf"\g<1>{value!r}", text, flags=re.MULTILINE)
        assert found == 1, name
    cell["source"] = text
    notebook.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    page, out, *more = sys.argv[1:]
    numbers = [int(word) for word in more if word.isdigit()]
    screenshot(Path(page).resolve(), Path(out), *numbers, dark="dark" in more)
