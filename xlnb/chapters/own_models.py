"""What the chapter on a reader's own models does: a swap of two experts on disk, checked, measured, and scored."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.chapters import at_scale, home, second_model
from xlnb.chapters.pictures import Shown, box, table
from xlnb.chapters.words import bracketed, bullets, caveat, lowered, number, standing
from xlnb.checkpoints.verbs import merge
from xlnb.errors import RequestError, WorkError
from xlnb.evaluation.readings import NLL, PRIMARY, READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import LANGUAGE, MATH
from xlnb.models.miniatures import miniature
from xlnb.paths import project_root, runs_folder
from xlnb.studies import claims
from xlnb.studies.comparisons import verdicts_of
from xlnb.studies.experiments import SWAP
from xlnb.studies.outcomes import select
from xlnb.studies.own_models import evaluate_models
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

if TYPE_CHECKING:
    import pandas as pd

PROBLEMS = 24  # that a reader's merge is scored on
FAMILY = "llama"  # of the miniature: that of two of the paper's models


@dataclass(frozen=True)
class Pair:
    """Two experts on disk, their base if it is known, and a folder for merges of them; ``mine`` where they are a reader's."""

    math: Path
    language: Path
    base: Path | None
    home: Path
    mine: bool

    def fresh(self, name: str = "swapped") -> Path:
        """Return a folder for a merge; what an earlier run of the chapter left there goes."""
        folder = self.home / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def told(self, text: object) -> str:
        """Return a text with the experts by their roles, and without the folders that hold them."""
        found = str(text)
        for name, folder in self._names():
            found = found.replace(str(folder), name)
        return found.replace(f"{self.home}{os.sep}", "").replace(f"{project_root()}{os.sep}", "")

    def _names(self) -> list[tuple[str, Path]]:
        if self.mine:
            return []
        return [("MATH", self.math), ("LANGUAGE", self.language), *([("BASE", self.base)] if self.base else [])]


def experts(math: str = "", language: str = "", base: str = "", code: str = "sw") -> Pair:
    """Return a reader's two experts, by their folders; where none is named, two tiny ones, trained of a miniature in seconds.

    Raises RequestError where one is named without the other.
    """
    place = runs_folder() / "own-models"
    if bool(math) != bool(language) or (base and not math):
        raise RequestError("Name both math_expert and language_expert (and base), or none of them.")
    if math:
        mine, other, under = (Path(one).expanduser().resolve() for one in (math, language, base))
        return Pair(mine, other, under if base else None, place / "mine", mine=True)
    folder = runs_folder() / "smoke" / f"{FAMILY}-miniature" / "checkpoint"
    tiny = replace(named_profile("smoke"), model=f"{FAMILY}-miniature", checkpoint=partial(miniature, folder, FAMILY))
    study = Study(tiny, code, paradigm="full", device="cpu", committed=False)
    with redirect_stderr(io.StringIO()):  # a training tells how much memory it takes
        trained = {slug: study.expert(slug) for slug in (MATH, LANGUAGE)}
    return Pair(trained[MATH], trained[LANGUAGE], tiny.checkpoint(), place / "miniature", mine=False)


def refusals(pair: Pair, number: int | None = None) -> Shown:
    """Ask for merges that cannot be, and return what each is refused with; nothing is written."""
    other = miniature(runs_folder() / "own-models" / "another-family", "cohere")
    cut = pair.home / "cut"
    if not cut.is_dir():
        shutil.copytree(other, cut)
        with (cut / "model.safetensors").open("r+b") as file:
            file.truncate(10_000)
    usual: dict[str, Any] = {"math": pair.math, "language": pair.language, "base": pair.base}
    asked: dict[str, dict[str, Any]] = {
        "a folder that is not there": {"language": pair.home / "nowhere"},
        "a download that broke off": {"language": cut},
        "an expert of another model": {"language": other},
        "more layers than there are": {"bottom": 500, "top": 2},
        "a folder that holds something": {"out": pair.math},
    }
    rows = []
    for what, changed in asked.items():
        wanted = {"out": pair.home / "refused", **usual, **changed}
        try:
            merge(SWAP, wanted.pop("out"), **wanted)
        except (RequestError, WorkError) as error:
            rows.append((what, pair.told(error)))
        else:
            raise WorkError(f"A merge that asks for {what} was not refused.")
    return table(rows, ["what is asked for", "what xlnb says"], number=number, caption="Said before a byte is written.")


def command(pair: Pair, partition: str, out: Path) -> list[str]:
    """Return the command line of the swap, word by word."""
    base = ["--base", str(pair.base)] if pair.base else []
    return ["merge", SWAP, "--math", str(pair.math), "--language", str(pair.language), *base,
            "--partition", partition, "--out", str(out)]  # fmt: skip


# The child tells its own peak: what a parent is told of it counts the parent's memory, too.
_CHILD = """
import resource, sys
from xlnb.commands.cli import exit_code
code = exit_code(sys.argv[1:])
status = [line.split() for line in open("/proc/self/status")] if sys.platform == "linux" else []
peak = {words[0]: int(words[1]) / 1024 for words in status if words[0] == "VmHWM:"}
print(peak.get("VmHWM:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))
sys.exit(code)
"""


def measured(pair: Pair, partition: str = "C", number: int | None = None) -> Shown:
    """Run the swap as a command of its own and return its time and memory, beside a command that does nothing, and a copy."""
    out = pair.fresh("measured")
    rows = []
    for what, words in (("xlnb --version: starting alone", ["--version"]), ("the swap", command(pair, partition, out))):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _CHILD, *words], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise WorkError(done.stderr)
        rows.append((what, f"{seconds:.2f}", f"{float(done.stdout.split()[-1]):.0f}"))
    written = sum(file.stat().st_size for file in out.glob("*.safetensors")) / 1e6
    started = time.perf_counter()
    shutil.copytree(out, pair.fresh("copied"))
    rows.append(("copying what it wrote", f"{time.perf_counter() - started:.2f}", "–"))
    caption = f"What a swap costs, measured here: {written:,.1f} MB of tensors were written."
    return table(rows, ["command", "seconds", "memory at the peak (MB)"], number=number, caption=caption)


def scored(
    pair: Pair, merged: Path, language: str, profile: str, device: str = "auto", dtype: str = "float32"
) -> Shown:
    """Score experts and merge on a few problems in the language: values, and how each differs from the math expert."""
    chosen = profile if pair.mine else "smoke"
    names = {str(pair.math): "the math expert", str(pair.language): "the language expert", str(merged): "the swap"}
    names = ({str(pair.base): "the base"} if pair.base else {}) | names
    asked = [str(pair.math), *(name for name in names if name != str(pair.math))]
    adapters = (pair.math / "adapter_config.json").is_file()
    values, differences = evaluate_models(
        asked, language, chosen, base=str(pair.base) if adapters and pair.base else "", device=device, dtype=dtype,
        problems=PROBLEMS if pair.mine else 4, generated=0,
    )  # fmt: skip
    apart = {(row.model, row.metric): (row.difference, row.low, row.high) for row in differences.itertuples()}
    values, rows = select(values, metric=[PRIMARY, NLL]), []
    for row in values.itertuples():
        found = apart.get((row.model, row.metric))
        rows.append({
            "model": names[row.model], "metric": READINGS[row.metric].title, "nats per token": number(row.value, ".3f"),
            "minus the math expert": bracketed(*found, "+.3f") if found else "",
        })  # fmt: skip
    problems = f"{int(values['n'].max())} problems in {LANGUAGE_NAMES[language]}"
    told = f"{problems}, 95 % intervals over problems, one merge: no verdict."
    return table(rows, caption=told if pair.mine else f"{told} Random weights: these scores mean nothing.")


def planned() -> pd.DataFrame:
    """Return the plan's judged contrasts of the small model; no rows where nothing is committed."""
    try:
        return home.planned()
    except RequestError:
        import pandas as pd

        return pd.DataFrame()


def answer(model: str = "Qwen/Qwen2.5-7B-Instruct") -> Shown:
    """Return the chapter's answer in a box: by the plan's formulas, and by the committed results."""
    made = planned()
    told = [
        "<strong>With two experts on disk, no GPU is needed:</strong> a swap copies bytes, loads no tensor, and takes about as "
        "long as copying a model.",
        f"Training them takes more, for a model of 7 billion parameters say. {at_scale.memory_told(model)} This is calculated: "
        "no model of that size was run here.",
    ]
    if len(made):
        swap = standing(claims.evidence(claims.CLAIMS["F2"], made), numbers=False)
        told.append(
            f"Score your merge before you trust it, against your math expert, too: with our small model {lowered(swap)}"
        )
    return box("".join(f"<p>{one}</p>" for one in told), verdicts_of(made) if len(made) else {})


def summary(profile: str, rows: pd.DataFrame, model: str) -> str:
    """Return the chapter's summary as Markdown bullets."""
    lines = [
        "Made and measured by this page: a swap of two experts on disk, with the checks before it.",
        f"By calculation alone: {lowered(at_scale.memory_told(model))}",
        home.by_the_plan("F2", "F3") if len(planned()) else "Nothing of the small model is committed here.",
        second_model.told(rows),
    ]
    return caveat(profile) + bullets(lines)
