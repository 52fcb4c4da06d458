"""Any model by name: a folder, or one of the Hugging Face hub, which is fetched."""

from __future__ import annotations

from pathlib import Path

from xlnb.downloads import MODEL, snapshot
from xlnb.errors import RequestError, WorkError

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.txt", "*.tiktoken")


def model_folder(name: str) -> Path:
    """Return the folder of a model by path or by its name on the hub (OWNER/NAME). Raises RequestError for what is neither,
    WorkError where the hub does not give it."""
    if name and Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise RequestError(f"No model {name!r}: give a folder, a name on the hub (OWNER/NAME), or 'base'.")
    try:
        return snapshot(name, MODEL, MODEL_FILES)
    except WorkError as error:
        raise WorkError(f"There is no folder {name}, and the Hugging Face hub does not give it ({error}).") from error
