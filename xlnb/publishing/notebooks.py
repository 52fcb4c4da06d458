"""Notebooks: run one with checked parameters, and keep each in step with its plain-text twin.

A notebook NN-name.ipynb has a twin NN-name.py in jupytext's percent format. The twin is the one to edit by hand and to read in
a diff; ``xlnb twins --write`` makes the notebook anew from it.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from xlnb.artifacts import whole_file
from xlnb.errors import RequestError, WorkError
from xlnb.progress import TEXT_BARS

# As jupytext.toml has it, and as JupyterLab writes it into both halves when it saves.
PAIR = {
    "cell_metadata_filter": "tags,-all",
    "formats": "ipynb,py:percent",
    "notebook_metadata_filter": "kernelspec,jupytext,-jupytext.text_representation.jupytext_version",
}
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def notebook_parameters(path: str | Path) -> dict[str, dict[str, Any]]:
    """Return the parameters of a notebook by name, each with its ``default`` (a value) and its ``help`` (a comment)."""
    import papermill

    try:
        found = papermill.inspect_notebook(str(_notebook(path)))
    except Exception as error:
        raise RequestError(f"{path} cannot be read as a notebook: {_first_line(error)}") from error
    return {name: {"default": _literal(info["default"]), "help": info["help"] or ""} for name, info in found.items()}


def checked_parameters(path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given parameters with strings turned into the type of the notebook's default."""
    known = notebook_parameters(path)
    if unknown := [name for name in given if name not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        listed = "; ".join(_described(name, info) for name, info in known.items()) or "none at all"
        raise RequestError(f"{Path(path).name} has no parameter {', '.join(unknown)}.{meant} It has: {listed}.")
    return {name: coerced(name, value, known[name]["default"]) for name, value in given.items()}


def coerced(name: str, value: Any, default: Any) -> Any:
    """Return ``value`` as the type of ``default``; a string is read as the command line means it.

    >>> coerced("steps", "40", 10), coerced("live", "no", True), coerced("languages", "sw,bn", ["te"])
    (40, False, ['sw', 'bn'])
    """
    if default is None:
        return _literal(value) if isinstance(value, str) else value
    wanted = type(default)
    try:
        result = _from_text(value, default) if isinstance(value, str) else value
    except ValueError:
        result = None
    if isinstance(default, float) and isinstance(result, int) and not isinstance(result, bool):
        result = float(result)
    if isinstance(default, list) and isinstance(result, tuple):
        result = list(result)
    if type(result) is not wanted:
        raise RequestError(
            f"The parameter {name} is of type {wanted.__name__} (default {default!r}); {value!r} is not."
        )
    return result


def _from_text(text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.strip().lower())
    if isinstance(default, int | float):
        return type(default)(text)
    value = _literal(text)
    if isinstance(default, list | tuple) and not isinstance(value, list | tuple):
        value = [_literal(part.strip()) for part in text.split(",") if part.strip()]
    return type(default)(value) if isinstance(value, list | tuple) else value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _described(name: str, info: Mapping[str, Any]) -> str:
    return f"{name}={info['default']!r}" + (f" ({info['help']})" if info["help"] else "")


def run_notebook(path: str | Path, out: str | Path, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute a notebook in its folder and write it with its outputs to ``out``, which appears only when all cells have run.

    path: the .ipynb, or its .py twin's name (the .ipynb beside it is run)
    parameters: by name; strings are read as the type of the notebook's default

    Unknown parameters, and an ``out`` that is a folder, the notebook or its twin, are refused before anything runs. Where a cell
    fails, the notebook up to there is kept beside ``out`` as NAME.failed.ipynb, and an older ``out`` stays as it was. Progress
    bars show where stderr is a terminal.
    """
    path, out = _notebook(path), Path(out)
    values = checked_parameters(path, parameters or {})
    if out.is_dir():
        raise RequestError(f"{out} is a folder: name the file to write, such as {out / path.name}.")
    if any(out.exists() and one.exists() and out.samefile(one) for one in (path, path.with_suffix(".py"))):
        raise RequestError(f"{out} is the notebook that is run, or its twin: write its outputs elsewhere.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as words:
        return _run(path, out, values, words)


def _run(path: Path, out: Path, values: dict[str, Any], words: IO[bytes]) -> Path:
    """Do what :func:`run_notebook` says; ``words`` takes what the kernel's process itself says on stderr."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    partial, failed = out.with_name(f".{out.stem}.partial.ipynb"), out.with_name(f"{out.stem}.failed.ipynb")
    try:
        notebook = papermill.execute_notebook(
            str(path),
            str(partial),
            parameters=values,
            kernel_name=KERNEL["name"],
            cwd=str(path.parent),
            progress_bar=False,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
            kernel_manager_class=_kernel_manager(words),
            extra_arguments=["--log-level=ERROR"],  # or the kernel warns, each time, that it talks over localhost
        )
        nbformat.write(_settled(notebook), partial)
        os.replace(partial, out)
    except PapermillExecutionError as error:
        os.replace(partial, failed)
        where = _cell_number(path, error.source)
        what = _first_line(f"{error.ename}: {_plain(error.evalue)}")
        raise WorkError(
            f"{path.name} failed in {where}: {what} The notebook up to there is kept in {failed}"
        ) from error
    except OSError:
        raise
    except Exception as error:  # the kernel died or never started
        kept = f" The notebook up to there is kept in {failed}" if partial.exists() else ""
        if partial.exists():
            os.replace(partial, failed)
        hint = " (out of memory?)" if "died" in str(error) else ""
        said = _last_words(words)
        raise WorkError(f"{path.name} could not be run to its end: {_first_line(error)}{hint}.{said}{kept}") from error
    finally:
        partial.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    return out


def _kernel_manager(words: IO[bytes]) -> type:
    """Return a class of kernel managers whose kernels' own stderr goes to ``words``, apart from what their cells write.

    A kernel that leaves may stumble over its own sockets ("Assertion failed: ... (src/signaler.cpp)") when everything is done,
    and without the variable those of Python 3.11 greet every notebook with a warning of the debugger.
    """
    from jupyter_client import AsyncKernelManager

    bars = {TEXT_BARS: "1"} if sys.stderr.isatty() else {}

    class KernelManager(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            options["env"] = {**options["env"], "PYDEVD_DISABLE_FILE_VALIDATION": "1", **bars}
            await super()._async_launch_kernel(kernel_cmd, **{**options, "stderr": words})

    return KernelManager


def _last_words(words: IO[bytes]) -> str:
    words.seek(0)
    lines = [line.strip() for line in words.read().decode(errors="replace").splitlines() if line.strip()]
    return f" Its last words: {lines[-1]}." if lines else ""


def _settled(notebook: Any) -> Any:
    """Return the notebook as it looks when all is done, without this machine's paths in its metadata.

    Progress bars are gone, and widgets, which only a kernel can draw: where one comes with HTML of itself, that stays.
    """
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = list(_settled_outputs(cell.outputs))
    return notebook


def _settled_outputs(outputs: Iterable[Any]) -> Iterator[Any]:
    for name, group in itertools.groupby(outputs, key=lambda output: output.get("name")):
        if name is None:  # no stream
            yield from filter(_without_widget, group)
        else:
            first, *rest = group
            first.text = _as_on_screen("".join([first.text, *(one.text for one in rest)]))
            if first.text.strip():
                yield first


def _without_widget(output: Any) -> bool:
    """Take the widget out of an output; return whether something remains that a page can show."""
    data = output.get("data", {})
    widget = data.pop(WIDGET, None)
    return widget is None or "text/html" in data


def _as_on_screen(text: str) -> str:
    r"""Return what a terminal would show in the end of text with carriage returns.

    >>> _as_on_screen("10 %\r50 %\r100 %\ndone\n")
    '100 %\ndone\n'
    """
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in _plain(text).split("\n"))


def _cell_number(path: Path, source: str) -> str:
    import nbformat

    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, start=1):
        if cell.cell_type == "code" and cell.source == source:
            return f"cell {number}"
    return "the cell of parameters"  # the only one that papermill adds


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if text.endswith((".", "!", "?")) else text + "."


def _notebook(path: str | Path) -> Path:
    path = Path(path)
    path = path.with_suffix(".ipynb") if path.suffix == ".py" else path
    if path.suffix != ".ipynb" or not path.is_file():
        raise RequestError(f"There is no notebook {path}.")
    return path


def notebook_paths(folder: str | Path) -> list[Path]:
    """Return the chapters NN-name.ipynb of a folder, in order."""
    return sorted(path for path in Path(folder).glob("[0-9][0-9]-*.ipynb"))


def twins_differ(ipynb: str | Path, py: str | Path) -> str | None:
    """Return in what a notebook and its text twin differ (cells, order, tags), or None where they say the same.

    Outputs and times of modification don't count. Source: jupytext's own comparison.
    """
    import jupytext
    from jupytext.compare import NotebookDifference, compare_notebooks

    for path in (Path(ipynb), Path(py)):
        if not path.is_file():
            return f"{path.name} is missing"
    ours, theirs = jupytext.read(ipynb), jupytext.read(py)
    if [_content(cell) for cell in ours.cells] == [_content(cell) for cell in theirs.cells]:
        return None
    try:
        compare_notebooks(ours, theirs, fmt="py:percent", allow_expected_differences=False)
    except NotebookDifference as difference:
        return " ".join(str(difference).split())
    return "the tags of their cells differ"


def _content(cell: Any) -> tuple[str, str, tuple[str, ...]]:
    return cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ()))


def write_ipynb_from_py(py: str | Path) -> Path:
    """Write the notebook beside a text twin, without outputs; a cell that is still there keeps its id.

    The twin gets the header that JupyterLab would give it, so that saving there changes nothing.
    """
    import jupytext
    import nbformat

    py = Path(py)
    ipynb = py.with_suffix(".ipynb")
    notebook = jupytext.read(py)
    old = nbformat.read(ipynb, as_version=4).cells if ipynb.exists() else []
    for cell, identity in zip(notebook.cells, _stable_ids(old, notebook.cells), strict=True):
        cell["id"] = identity
        cell.metadata = nbformat.NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.NotebookNode(jupytext=PAIR, kernelspec=KERNEL, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    _write_if_changed(py, jupytext.writes(notebook, fmt="py:percent"))
    _write_if_changed(ipynb, nbformat.writes(notebook) + "\n")
    return ipynb


def _write_if_changed(path: Path, text: str) -> bool:
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    if changed:
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return changed


def _stable_ids(old: list[Any], new: list[Any]) -> list[str]:
    """Return an id for each new cell: that of the old cell in its place, or else a digest of its content."""
    ids = [""] * len(new)
    before, after = ([(cell.cell_type, cell.source) for cell in cells] for cells in (old, new))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind == "equal" or (kind == "replace" and i2 - i1 == j2 - j1):
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                ids[j] = old[i].get("id", "")
    for j, cell in enumerate(new):
        texts = (f"{cell.cell_type}\n{cell.source}\n{salt}" for salt in itertools.count())
        digests = (hashlib.sha256(text.encode()).hexdigest()[:8] for text in texts)
        ids[j] = ids[j] or next(digest for digest in digests if digest not in ids)
    return ids


def has_outputs(ipynb: str | Path) -> bool:
    """Return whether a notebook carries outputs or execution counts."""
    import nbformat

    cells = nbformat.read(ipynb, as_version=4).cells
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def strip_outputs(ipynb: str | Path) -> bool:
    """Take out of a notebook what running it in JupyterLab left there; all else stays. Return whether anything was to be done.

    That is outputs, execution counts, the state of widgets, and what the kernel said about its language.
    """
    import nbformat

    path = Path(ipynb)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    if "language_info" in notebook.metadata:
        notebook.metadata.language_info = {"name": notebook.metadata.language_info.get("name", KERNEL["language"])}
    return _write_if_changed(path, nbformat.writes(notebook) + "\n")


def twin_problems(folder: str | Path) -> list[str]:
    """Return a sentence for each notebook of a folder that differs from its twin or carries outputs."""
    folder = Path(folder)
    problems = []
    for stem in sorted({p.stem for p in folder.glob("[0-9][0-9]-*") if p.suffix in (".ipynb", ".py")}):
        ipynb, py = folder / f"{stem}.ipynb", folder / f"{stem}.py"
        if difference := twins_differ(ipynb, py):
            problems.append(f"{stem}: the twins differ: {difference}")
        elif has_outputs(ipynb):
            problems.append(f"{stem}.ipynb carries outputs")
    return problems
