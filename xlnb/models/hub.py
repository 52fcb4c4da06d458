"""Any model by name: a folder, or one of the Hugging Face hub, which is fetched."""

from __future__ import annotations

from pathlib import Path

from xlnb.errors import RequestError, WorkError

_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.txt", "*.tiktoken")


def model_folder(name: str) -> Path:
    """Return the folder of a model by path or by its name on the hub (OWNER/NAME). Raises RequestError for what is neither,
    WorkError where the hub does not give it."""
    if name and Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise RequestError(f"No model {name!r}: give a folder, a name on the hub (OWNER/NAME), or 'base'.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_MODEL_FILES)))
    except Exception as error:  # network, access and cache errors share no class
        reason = str(error).strip().partition("\n")[0]
        raise WorkError(
            f"There is no folder {name}, and the Hugging Face hub does not give it ({type(error).__name__}: {reason})."
        ) from error
