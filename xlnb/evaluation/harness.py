"""How lm-evaluation-harness reads an answer: its own MGSM task files and filters, applied to one text. A referee, no part of
our scores."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from xlnb.errors import RequestError, WorkError

STRICT, FLEXIBLE = "strict-match", "flexible-extract"


def harness_reads(text: str, language: str) -> dict[str, str]:
    """Return what each filter of the harness's native chain-of-thought MGSM task takes from an answer, by the filter's name.

    The answer ends, as there, at the task's stop words; ``[invalid]`` where a filter finds nothing. Source:
    lm-evaluation-harness, read from the installed version.

    >>> harness_reads("Jumla ni 12 + 5 = 17. Jibu ni 17.", "sw")
    {'strict-match': '17.', 'flexible-extract': '17.'}
    """
    answer = text
    for stop in _task(language)["generation_kwargs"]["until"]:  # where its models end an answer
        answer = answer.split(stop)[0]
    return {name: filter_.apply([[answer]], [{}])[0][0] for name, filter_ in _filters(language).items()}


def harness_counts_right(text: str, answer: Any, language: str) -> dict[str, bool]:
    """Say of each filter whether the harness would count an answer right: exact match, case and punctuation ignored.

    >>> harness_counts_right("Jibu ni 17.", 17, "sw"), harness_counts_right("উত্তর হল ১৭।", 17, "bn")
    ({'strict-match': True, 'flexible-extract': True}, {'strict-match': False, 'flexible-extract': False})
    """
    reads = harness_reads(text, language)  # first: it says what is missing
    from lm_eval.api.metrics import exact_match_hf_evaluate as score

    return {
        name: bool(score([read], [str(answer)], ignore_case=True, ignore_punctuation=True)["exact_match"])
        for name, read in reads.items()
    }


def harness_version() -> str:
    """Return the installed version of lm-evaluation-harness."""
    from importlib.metadata import version

    _folder()
    return version("lm_eval")


def _folder() -> Path:
    from importlib.util import find_spec

    found = find_spec("lm_eval")  # located, not imported: it takes seconds
    if found is None or not found.submodule_search_locations:
        raise WorkError("lm-evaluation-harness is not installed: pip install 'xlnb[book]' installs it.")
    return Path(found.submodule_search_locations[0])


@lru_cache
def _task(language: str) -> dict[str, Any]:
    import yaml

    tasks = _folder() / "tasks" / "mgsm" / "native_cot"
    file = tasks / f"mgsm_native_cot_{language}.yaml"
    if not file.is_file():
        known = sorted(path.stem.removeprefix("mgsm_native_cot_") for path in tasks.glob("*.yaml"))
        raise RequestError(f"lm-evaluation-harness has no MGSM in {language!r}: choose one of {', '.join(known)}.")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@lru_cache
def _filters(language: str) -> dict[str, Any]:
    task = _task(language)  # first: it says what is missing
    from lm_eval.filters.extraction import RegexFilter

    found = {}
    for entry in task["filter_list"]:
        settings = [step for step in entry["filter"] if step["function"] == "regex"]
        found[entry["name"]] = RegexFilter(**{k: v for k, v in settings[0].items() if k != "function"})
    return found
