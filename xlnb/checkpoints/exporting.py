"""The same Layer-Swapping as a mergekit configuration, for whoever works with mergekit."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from xlnb.checkpoints.agreement import check_agreement, check_whole, owner_outside
from xlnb.checkpoints.recipes import Expert
from xlnb.errors import RequestError, typed
from xlnb.weights.partitions import SIDES, Choice, Partition
from xlnb.weights.sites import BESIDE
from xlnb.weights.tensor_files import DTYPE_NAMES, DTYPES, Checkpoint, open_checkpoint

# What mergekit 0.1.5 knows of some architectures by a fixed list of tensor names: it stops where one of these is missing,
_NEEDS = {
    "CohereForCausalLM": r"\.self_attn\.q_norm\.",
    "FalconForCausalLM": r"\.ln_attn\.bias$|^lm_head\.",
    "GPTNeoXForCausalLM": r"\.attention\.masked_bias$",
    "Starcoder2ForCausalLM": r"\.self_attn\.q_proj\.bias$",
}
# and writes none of those that the list lacks. The experts of a mixture it renames in every architecture.
_MIXTURE = r"\.experts\."
_BIASES = r"\.(self_attn|mlp|self_attention)\..*bias$"
_QK_NORMS = r"\.self_attn\.[qk]_layernorm\."
_DROPS = {"PhiForCausalLM": _QK_NORMS, "StableLmForCausalLM": _QK_NORMS} | dict.fromkeys(
    ("ArceeForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM", "FalconForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM",
     "GemmaForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Olmo2ForCausalLM", "Qwen3ForCausalLM"), _BIASES
)  # fmt: skip
_FFN_PARTS = ("mlp.", "pre_feedforward_layernorm", "post_feedforward_layernorm")


@typed
def export_mergekit(
    math: str | Path,
    language: str | Path,
    base: str | Path | None = None,
    *,
    partition: str | Path | Partition | None = None,
    bottom: int | None = None,
    top: int | None = None,
    transition: int | None = None,
    embeddings: str | None = None,
) -> str:
    """Return a mergekit configuration (YAML) that gives the same tensors as ``xlnb merge layer-swapping`` of these arguments.

    Whole layers are passed through, to the last bit. Transition layers and partitions by block need mergekit's ``linear`` with
    weights of 1 and 0: equal too, but for the sign of zeros. Refused are adapters, since mergekit swaps none, and models of which
    it would miss, drop or mix up tensors: vision towers, mixtures of experts, Cohere without q/k norms, biases that it does not
    list. Source: ours; read back by mergekit 0.1.5 in the tests.
    """
    folders = {"math": math, "language": language} | ({"base": base} if base else {})
    found = {role: open_checkpoint(folder) for role, folder in folders.items()}
    experts = [Expert(role, checkpoint) for role, checkpoint in found.items()]
    for expert in experts:
        if expert.adapter is not None:
            raise RequestError(f"{expert} is an adapter: mergekit swaps no adapters, xlnb merge does.")
        check_whole(expert)
    for other in experts[1:]:
        check_agreement(experts[0], other, DTYPES)
    sites = found["math"].sites
    shares = Choice(partition, bottom, top, transition).on(sites.depth)
    owner = owner_outside(found, embeddings)
    dtypes = sorted({stored.dtype for stored in found["math"].tensors.values()})
    if len(dtypes) > 1 or dtypes[0] not in DTYPE_NAMES:
        raise RequestError(
            f"{found['math'].folder} stores tensors as {', '.join(dtypes)}: mergekit writes one of BF16, F16 and F32."
        )
    _check_names(found["math"])
    names = {role: str(folder) for role, folder in folders.items()}
    whole = shares.is_by_layer and set(shares.attention) <= {0, 1}
    if not whole and sites.by != "name":
        raise RequestError(
            f"{math} is a decoder whose layers were found by counting: for mergekit only whole layers of it can be swapped."
        )
    config = _passthrough(shares, owner, names) if whole else _linear(shares, owner, names)
    config["dtype"] = DTYPE_NAMES[dtypes[0]]
    head = (
        f"# Layer-Swapping by partition {shares}; embeddings, final norm and head: {owner}'s.\n"
        "# Made by xlnb; run it with: mergekit-yaml THIS_FILE OUT\n"
    )
    return head + str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None, width=200))


def _check_names(checkpoint: Checkpoint) -> None:
    """Refuse a model of which mergekit would miss or drop tensors."""
    listed = checkpoint.config.get("architectures")
    if not isinstance(listed, list) or len(listed) != 1:
        raise RequestError(
            f"{checkpoint.folder / 'config.json'} names no single architecture ({listed!r}), without which mergekit stops: "
            "xlnb merge layer-swapping needs none."
        )
    if beside := [name for name, site in checkpoint.sites.of.items() if site.block == BESIDE]:
        raise RequestError(
            f"{checkpoint.folder} holds more than a language model ({beside[0]!r}), whose layers mergekit would mix up with the "
            "language model's: xlnb merge layer-swapping can tell them apart."
        )
    needs, drops = _NEEDS.get(listed[0], ""), "|".join(filter(None, (_MIXTURE, _DROPS.get(listed[0]))))
    for part in filter(None, needs.split("|")):
        if not any(re.search(part, name) for name in checkpoint.tensors):
            raise RequestError(
                f"mergekit cannot merge this {listed[0]}: it stops where there are no tensors like {_plain(part)!r}, and "
                f"{checkpoint.folder} has none. xlnb merge layer-swapping can."
            )
    if dropped := [name for name in checkpoint.tensors if re.search(drops, name)]:
        raise RequestError(
            f"mergekit cannot merge this {listed[0]}: of {checkpoint.folder} it would drop or rename {len(dropped)} tensors, "
            f"such as {dropped[0]!r}. xlnb merge layer-swapping can."
        )


def _plain(pattern: str) -> str:
    return re.sub(r"[\\^$]", "", pattern).strip(".")


def _passthrough(shares: Partition, owner: str, names: dict[str, str]) -> dict[str, Any]:
    """Slices of whole layers; those of no layers at either end say whose embeddings, final norm and head are taken."""
    ranges, at = [(owner, 0, 0)], 0
    for share, layers in groupby(shares.attention):
        end = at + len(list(layers))
        ranges.append(("math" if share else "language", at, end))
        at = end
    ranges.append((owner, at, at))
    slices = [{"sources": [{"model": names[role], "layer_range": [start, end]}]} for role, start, end in ranges]
    return {"slices": slices, "merge_method": "passthrough"}


def _linear(shares: Partition, owner: str, names: dict[str, str]) -> dict[str, Any]:
    """Weights by filters on tensor names, the first that matches counts; norms follow :meth:`Partition.share`."""
    models = []
    for role, folder in names.items():
        rules: list[dict[str, Any]] = []
        mine = shares if role == "math" else shares.complement()
        for layer in range(shares.depth if role in SIDES else 0):
            if mine.attention[layer] != mine.ffn[layer]:
                rules += [{"filter": f"layers.{layer}.{part}", "value": mine.ffn[layer]} for part in _FFN_PARTS]
            rules.append({"filter": f"layers.{layer}.", "value": mine.attention[layer]})
        rules.append({"filter": ".layers.", "value": 0.0})  # the base's layers
        rules.append({"value": float(role == owner)})
        models.append({"model": folder, "parameters": {"weight": rules}})
    return {"models": models, "merge_method": "linear", "parameters": {"normalize": False}}
