"""Miniatures: random-weight models of the real architectures, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import known
from xlnb.progress import without_loading_bars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINIATURES = ("gemma3", "llama", "mistral", "qwen2", "qwen3", "cohere")


def miniature(folder: str | Path, family: str = "gemma3", seed: int = 0) -> Path:
    """Write a random-weight miniature of a real architecture with a byte tokenizer, and return its folder.

    8 layers of width 32, 260 tokens; the same ``seed`` gives the same bytes. Source: ours.
    """
    known("miniature", family, MINIATURES)
    folder = Path(folder)
    if folder.is_dir():
        return folder
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _byte_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_miniature_config(family, tokenizer))
    with artifacts.whole_folder(folder) as partial, without_loading_bars():
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
