"""Base models: what identifies a checkpoint, and loading it with its whole vocabulary or a trimmed one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError, known
from xlnb.paths import cache_folder
from xlnb.progress import without_loading_bars
from xlnb.weights.tensor_files import language_setting, open_checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Identity(NamedTuple):
    """What a checkpoint is called wherever results of it are kept: 16 hexadecimal digits, and its number of layers."""

    fingerprint: str
    depth: int


def identity(folder: str | Path) -> Identity:
    """Return a checkpoint's identity without loading it: its :attr:`Base.fingerprint`, untrimmed, and its depth.

    Checksums are taken from where they are recorded, so that asking is quick (source: ours).
    """
    depth = language_setting(open_checkpoint(folder).config, "num_hidden_layers")
    if not depth:
        raise RequestError(f"{folder} holds no decoder: its config.json has no num_hidden_layers.")
    return Identity(_fingerprint(Path(folder)), depth)


def _fingerprint(folder: Path, kept: list[int] | None = None) -> str:
    return artifacts.digest([[checksum(file) for file in sorted(folder.glob("*.safetensors"))], kept])[:16]


def checksum(file: Path) -> str:
    """Return a weights file's SHA-256: the recorded one where there is any, or else computed once and remembered."""
    real, found = file.resolve(), file.stat()
    if real.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", real.name):  # the hub's cache names files by it
        return real.name
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = file.with_name("provenance.json")
        spec = artifacts.read_json(record)["spec"]  # as a conversion of the pocket weights writes it, or `xlnb unpack`
        if spec["sizes"][file.name] == found.st_size and found.st_mtime_ns <= record.stat().st_mtime_ns:
            return str(spec["checksums"][file.name] if "checksums" in spec else spec["weights_sha256"])
    key = artifacts.digest([str(real), found.st_size, found.st_mtime_ns])
    remembered = cache_folder() / "checksums" / f"{key}.json"
    if remembered.is_file():
        return artifacts.read_json(remembered)
    checksum = artifacts.file_digest(real)
    with suppress(OSError, WorkError):  # where nothing can be written, time alone is lost
        artifacts.write_json(remembered, checksum)
    return checksum


FLOAT32, BFLOAT16 = DTYPES = "float32", "bfloat16"  # float16's range is too narrow to train without scaled losses


def resolved_device(name: str = "auto") -> torch.device:
    """Return the device of a name: ``cpu``, ``cuda``, ``cuda:1`` and so on, or ``auto``, a GPU where there is one.

    >>> resolved_device("cpu")
    device(type='cpu')
    """
    import torch

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    default = "cuda" if gpus else "cpu"
    known("device", name, dict.fromkeys(["auto", "cpu", default, *gpus]))
    return torch.device(default if name == "auto" else name)


def device_name(base: Base) -> str:
    """Return what provenance calls a base's device and arithmetic: ``cpu``, or ``cuda: NVIDIA H100 PCIe, bf16 autocast``."""
    import torch

    gpu = f": {torch.cuda.get_device_name(base.device)}" if base.device.type == "cuda" else ""
    return f"{base.device.type}{gpu}{', bf16 autocast' if base.dtype == BFLOAT16 else ''}"


@dataclass
class Base:
    """A loaded base model with its tokenizer; ``kept`` lists the original ids of a trimmed vocabulary, ascending, or is None.

    Token ids below are the model's: positions in ``kept`` where the vocabulary is trimmed. Weights are float32; ``dtype`` is the
    arithmetic of a forward pass, see :meth:`autocast`.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kept: Tensor | None = None
    dtype: str = FLOAT32

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where each batch must be made."""
        return self.model.device

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass: float32 as the weights are, or bfloat16 where an operation allows it."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == BFLOAT16)

    @property
    def depth(self) -> int:
        """The number of transformer layers."""
        return self.language_config.num_hidden_layers

    @property
    def language_config(self) -> Any:
        """The config of the language model, which in a wrapper (Gemma 3 that sees) is one of several."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def layers(self) -> list[Module]:
        """The transformer layers, the first one first. Raises RequestError for a decoder that keeps them under another name."""
        decoder = self.model.get_decoder()
        if not hasattr(decoder, "layers"):
            raise RequestError(
                f"The layers of {type(self.model).__name__} cannot be looked into: its decoder has no list of them that is "
                "called 'layers', as those of Llama, Mistral, Qwen, Cohere and Gemma have. Choose such a model."
            )
        return list(decoder.layers)

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the weights: the SHA-256 over the safetensors files and the kept ids, 16 hexadecimal digits."""
        return _fingerprint(self.folder, None if self.kept is None else self.kept.tolist())

    @cached_property
    def _new_ids(self) -> dict[int, int] | None:
        return None if self.kept is None else {int(old): new for new, old in enumerate(self.kept)}

    @cached_property
    def start(self) -> list[int]:
        """The ids with which the tokenizer opens a text (the beginning-of-sequence token, or nothing)."""
        return self._renumber(self.tokenizer("").input_ids, "the opening of a text")

    @cached_property
    def end_ids(self) -> list[int]:
        """The ids that end what a model says: end of sequence, and what its generation config names (the end of a turn, say)."""
        named = self.model.generation_config.eos_token_id if self.kept is None else None
        old = {self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
        return self._renumber(sorted(old), "the end of sequence")

    @cached_property
    def stop_ids(self) -> list[int]:
        """The ids that end an answer of one line: those that end anything, and every token with a line break in it."""
        vocabulary, added = self.tokenizer.get_vocab(), self.tokenizer.get_added_vocab()
        # SentencePiece spells a line break as it is, or as its byte. Byte-level vocabularies spell it Ċ, which elsewhere is the
        # letter; only what was added to them is spelt as it is.
        spelt = "<0x0A>" in vocabulary or any("\n" in piece for piece in vocabulary if piece not in added)
        breaks = ("\n", "<0x0A>") if spelt else ("\n", "Ċ")
        old = [i for piece, i in vocabulary.items() if any(mark in piece for mark in breaks)]
        new = old if self._new_ids is None else [self._new_ids[i] for i in old if i in self._new_ids]
        return sorted({*new, *self.end_ids})

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
        """Return the ids of ``text``, which goes on from another, without opening or closing tokens.

        Raises RequestError for a token that was trimmed away, and for a tokenizer that begins every text with a space of its own.
        """
        self._check_goes_on()
        return self._renumber(self.tokenizer(text, add_special_tokens=False).input_ids, text)

    def _check_goes_on(self) -> None:
        """Refuse a tokenizer by which a text has other tokens than behind another text: Llama 2's begins each with a space."""
        if not self._goes_on:
            raise RequestError(
                f"The tokenizer of {self.folder} begins each text with a space of its own: a completion, which is read apart "
                "from its prompt, would have a token more than in the whole text. Save it with add_prefix_space=False (which "
                "AutoTokenizer.from_pretrained takes) beside the model, or choose a model whose tokenizer does not (Llama 3, "
                "Gemma, Qwen, Cohere)."
            )

    @cached_property
    def _goes_on(self) -> bool:
        texts = ("x", " a"), ("x\n", "5")  # some tokenizers spare a text that begins with a space the second one
        read = [
            self.tokenizer([before, after, before + after], add_special_tokens=False).input_ids
            for before, after in texts
        ]
        return all(both[: len(before)] != before or both[len(before) :] == after for before, after, both in read)

    def row(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Return a text as the engine reads it: the ids of the prompt, which open it, and of the completion."""
        return self.start + self.encode(prompt), self.encode(completion)

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


def load_base(
    folder: str | Path,
    texts: Iterable[str] | None = None,
    device: str = "auto",
    dtype: str = FLOAT32,
    kept: Sequence[int] | None = None,
) -> Base:
    """Load a checkpoint folder with float32 weights; with ``texts``, or the ids ``kept`` themselves, trim its vocabulary to them.

    Float32 because a merge then has no rounding floor, and because every processor computes in it; on a GPU it is float32 indeed,
    without TF32. With ``dtype`` bfloat16 forward passes are autocast, which is faster where a processor has instructions for it,
    and slower where it has none. Trimming is exact on the kept tokens: same ids up to renaming, same logits (source: ours).
    Raises RequestError for a folder that is no checkpoint, and for one that lacks a parameter or has it in another shape.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _threads()  # as it is before anybody changes it
    folder, where = Path(folder), resolved_device(device)
    known("dtype", dtype, DTYPES)
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"{folder} holds no checkpoint: it has no config.json. Give a folder that save_pretrained wrote."
        )
    if not any(folder.glob("*.safetensors")):
        # Says what is there instead: transformers reads *.bin, too, of which no fingerprint is taken.
        open_checkpoint(folder)
    with without_loading_bars():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    model, told = loaded
    _check_loaded(folder, told)
    model.eval()
    # Said once, the number of threads is MKL's as well: left to its own choice it may change the last bits of a sum. A
    # miniature is quicker with one.
    torch.set_num_threads(1 if model.num_parameters() < 1_000_000 else _threads())
    if where.type == "cuda":
        torch.set_float32_matmul_precision("highest")
    if texts is not None:
        kept = kept_ids(tokenizer, texts).tolist()
    rows = None if kept is None else torch.tensor(kept, device="cpu")
    if rows is not None:
        trim(model, rows)
    if dtype != FLOAT32:
        model.get_output_embeddings().register_forward_pre_hook(_alone)
    return Base(folder, model.to(where), tokenizer, rows, dtype)


def _check_loaded(folder: Path, told: Mapping[str, Any]) -> None:
    """Refuse a model of which a parameter was not in the files, or there in another shape: transformers draws it at random."""
    wrong = {name: "in another shape" for name, *_ in told["mismatched_keys"]} | dict.fromkeys(
        told["missing_keys"], "missing"
    )
    if wrong:
        first = min(wrong)
        raise RequestError(
            f"{folder} is not whole: {first!r} is {wrong[first]} in its files ({len(wrong)} such), and would be random numbers. "
            "Save or download the checkpoint again, with the config.json that it was saved with."
        )


def _alone(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a head's inputs without what lay around them: of a slice of a single row's positions torch takes a product for
    batches, and under autocast copies the whole rounded head for it (half of the time that a long text takes).
    """
    import torch

    return tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)


def kept_ids(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Tensor:
    """Return the ids, ascending, of the special tokens, all single characters and bytes, and all tokens of ``texts``."""
    import torch

    if not (texts := list(texts)):
        raise RequestError("No texts to keep the vocabulary of: give at least one, or None to keep all of it.")
    kept = set(tokenizer.all_special_ids)
    kept.update(i for piece, i in tokenizer.get_vocab().items() if _is_small(piece))
    for ids in tokenizer(texts, add_special_tokens=False).input_ids:
        kept.update(ids)
    return torch.tensor(sorted(kept), device="cpu")


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
    if getattr(head, "bias", None) is not None:  # that of Phi has one
        head.bias = Parameter(head.bias.detach()[kept].clone())
    embedding.num_embeddings = head.out_features = model.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        old = getattr(model.config, name, None)
        new = new_ids.get(old) if isinstance(old, int) else None
        setattr(model.config, name, new)
        setattr(model.generation_config, name, new)
    embedding.padding_idx = model.config.pad_token_id
