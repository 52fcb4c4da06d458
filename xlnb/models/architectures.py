"""Decoders whose parameters are located by name: their public shapes, built without weights, and a table of their sites."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from xlnb.errors import known
from xlnb.models.memory import Shape, shape_of
from xlnb.weights.partitions import Partition, named_partition, owned
from xlnb.weights.sites import ATTENTION, FFN, NORM, Sites, locate_all

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Architecture:
    """A model's shape as its public config.json has it: the transformers config class, and the settings that count."""

    config: str
    settings: dict[str, Any]
    peculiar: str  # what sets its parameters apart


def _shape(hidden: int, ffn: int, layers: int, heads: int, kv: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv, "vocab_size": vocabulary, **more}  # fmt: skip


ARCHITECTURES = {
    "Llama-3.1-8B": Architecture("LlamaConfig", _shape(4096, 14336, 32, 32, 8, 128256), "none"),
    "Falcon3-7B": Architecture("LlamaConfig", _shape(3072, 23040, 28, 12, 4, 131072, head_dim=256), "none (a Llama)"),
    "Mistral-7B-v0.3": Architecture("MistralConfig", _shape(4096, 14336, 32, 32, 8, 32768), "none"),
    "Qwen2.5-7B": Architecture("Qwen2Config", _shape(3584, 18944, 28, 28, 4, 152064), "biases of q, k, v"),
    "Qwen3-8B": Architecture("Qwen3Config", _shape(4096, 12288, 36, 32, 8, 151936, head_dim=128), "norms of q and k"),
    "Aya-Expanse-8B": Architecture(
        "CohereConfig", _shape(4096, 14336, 32, 32, 8, 256000, tie_word_embeddings=True), "parallel blocks: one norm; tied"
    ),
    "Gemma-3-270M": Architecture(
        "Gemma3TextConfig", _shape(640, 2048, 18, 4, 1, 262144, head_dim=256), "four norms, norms of q and k; tied"
    ),
}  # fmt: skip


def shape(name: str) -> Shape:
    """Return the numbers of an architecture by which memory is planned, without torch."""
    chosen = ARCHITECTURES[known("architecture", name, ARCHITECTURES)]
    return shape_of(chosen.settings | {"config": chosen.config}, name)


@lru_cache
def parameter_sizes(name: str) -> dict[str, int]:
    """Return the number of elements of each parameter of an architecture, as its checkpoint would name them.

    The model is built on torch's meta device: no memory, no weights.
    """
    import torch
    import transformers

    chosen = ARCHITECTURES[known("architecture", name, ARCHITECTURES)]
    config = getattr(transformers, chosen.config)(**chosen.settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return {key: parameter.numel() for key, parameter in model.named_parameters()}  # tied ones once, as saved


def sites_table() -> pd.DataFrame:
    """Return a row an architecture: layers, the projections of each block, and the parameters (in millions) of each block."""
    import pandas as pd

    rows = []
    for name, chosen in ARCHITECTURES.items():
        sizes = parameter_sizes(name)
        sites = locate_all(sizes)
        attention, ffn, norms = (_projections(sites, block) for block in (ATTENTION, FFN, NORM))
        counted = owned(named_partition("C", sites.depth), sites, sizes)
        millions = {block: sum(row.values()) / 1e6 for block, row in counted.items()}
        rows.append({
            "model": name, "layers": sites.depth, "attention": attention, "FFN": ffn, "norms": norms,
            "peculiar": chosen.peculiar,
            "attention (M)": millions[ATTENTION], "FFN (M)": millions[FFN],
            "outside (M)": sum(row["neither"] for row in counted.values()) / 1e6,
        })  # fmt: skip
    return pd.DataFrame(rows)


def ownership_table(names: list[str]) -> pd.DataFrame:
    """Return what share of the parameters inside the layers the language owns, in percent: a row an architecture, a column a
    partition."""
    import pandas as pd

    rows = {}
    for model in ARCHITECTURES:
        sizes = parameter_sizes(model)
        sites = locate_all(sizes)
        partitions: list[Partition] = [named_partition(name, sites.depth) for name in names]
        rows[model] = {one.name: 100 * _language_share(one, sites, sizes) for one in partitions}
    return pd.DataFrame.from_dict(rows, orient="index")


def _language_share(partition: Partition, sites: Sites, sizes: dict[str, int]) -> float:
    counted = owned(partition, sites, sizes).values()
    language, math = (sum(row[side] for row in counted) for side in ("language", "math"))
    return language / (language + math)


def _projections(sites: Sites, block: str) -> str:
    return ", ".join(
        dict.fromkeys(site.projection for site in sites.of.values() if site.block == block and site.layer == 0)
    )
