"""Where a parameter lives in a decoder: its layer, its block and its projection.

The names are those that transformers and PEFT write. The paper's methods speak of layers, attention and FFN; this module is
the only place that knows how checkpoints spell them. It imports nothing heavy: merges from disk to disk start with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from xlnb.errors import RequestError

ATTENTION, FFN, NORM, EMBEDDING, HEAD = "attention", "ffn", "norm", "embedding", "head"
BESIDE = "beside"  # of what stands beside a language model: a vision tower, a projector

# Llama (Llama 3.1, Falcon 3), Mistral, Qwen2 and 2.5 (biases), Qwen3 (q/k norms), Cohere (parallel blocks), Gemma 3.
_PROJECTIONS = {
    "self_attn.q_proj": (ATTENTION, "q"),
    "self_attn.k_proj": (ATTENTION, "k"),
    "self_attn.v_proj": (ATTENTION, "v"),
    "self_attn.o_proj": (ATTENTION, "o"),
    "self_attn.q_norm": (ATTENTION, "q_norm"),
    "self_attn.k_norm": (ATTENTION, "k_norm"),
    "mlp.gate_proj": (FFN, "gate"),
    "mlp.up_proj": (FFN, "up"),
    "mlp.down_proj": (FFN, "down"),
    "input_layernorm": (NORM, "input"),
    "post_attention_layernorm": (NORM, "post_attention"),
    "pre_feedforward_layernorm": (NORM, "pre_ffn"),
    "post_feedforward_layernorm": (NORM, "post_ffn"),
}
_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_WRAPPED = re.compile(r"^(?:model\.)?language_model\.(?:model\.)?(lm_head\.)?")
_OUTER = re.compile(r"^(?:model|transformer|gpt_neox|backbone)\.")  # what a model with a head calls the model without
_BESIDE = re.compile(
    r"(?:^|\.)(?:vision_tower|vision_model|visual|audio_tower|multi_modal_projector|mm_projector|embed_vision|embed_audio)\."
)
_OUTSIDE = {"model.embed_tokens": (EMBEDDING, "embed"), "model.norm": (NORM, "final"), "lm_head": (HEAD, "head")}

# How decoders that are not in the table tend to name a layer's children, and what lies outside the layers.
_CHILD_WORDS = (
    (NORM, re.compile(r"norm|(^|_)ln_?\d*($|_)")),
    (ATTENTION, re.compile(r"attn|attention")),
    (FFN, re.compile(r"mlp|ffn|feed_?forward|moe|expert|(^|_)fc\d*$")),
)
_OUTSIDE_WORDS = (
    (NORM, re.compile(r"norm|(^|_)ln_?f?$")),
    (HEAD, re.compile(r"lm_head|embed_out|^output$")),
    (EMBEDDING, re.compile(r"embed|^w[tp]e$")),
)
_NUMBERED = re.compile(r"^(.*?)\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class Site:
    """Where a parameter lives: 0-based ``layer`` (None outside the layers), ``block`` and ``projection``."""

    layer: int | None
    block: str
    projection: str


@dataclass(frozen=True)
class Sites:
    """The sites of a whole model: by parameter name, the number of layers, and how they were found.

    ``by`` is ``"name"`` where every name is one of a known decoder, ``"structure"`` where the layers were found by counting.
    """

    of: dict[str, Site]
    depth: int
    by: str


def plain_name(name: str) -> str:
    """Return the name of the parameter that a LoRA factor belongs to; other names as they are.

    >>> plain_name("base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> plain_name("base_model.model.model.embed_tokens.lora_embedding_B")
    'model.embed_tokens.weight'
    """
    name = re.sub(r"\.lora_[AB](\.\w+)?(?=\.weight$)", "", name.removeprefix("base_model.model."))
    return re.sub(r"\.lora_embedding_[AB](\.\w+)?$", ".weight", name)


def bare_name(name: str) -> str:
    """Return a parameter's name within its decoder, whatever that lies in: a model that sees, or one that adds a head.

    Files and loaded models, and so adapters of these, call the same parameter differently.

    >>> bare_name("language_model.model.layers.0.mlp.up_proj.weight"), bare_name("model.language_model.lm_head.weight")
    ('layers.0.mlp.up_proj.weight', 'lm_head.weight')
    """
    return _OUTER.sub("", _unwrapped(name))


def _unwrapped(name: str) -> str:
    return _WRAPPED.sub(lambda wrap: wrap[1] or "model.", name)


def outside_block(name: str) -> str | None:
    """Return the block of a parameter outside the layers by its name alone, of whatever decoder; None for any other name.

    >>> outside_block("transformer.wte.weight"), outside_block("lm_head.weight"), outside_block("h.0.attn.weight")
    ('embedding', 'head', None)
    """
    plain = plain_name(name)
    last = plain.rpartition(".")[0].rpartition(".")[2]
    found = (block for block, words in _OUTSIDE_WORDS if words.search(last))
    return None if _NUMBERED.match(plain) else next(found, None)


def locate_all(names: Collection[str]) -> Sites:
    """Return the sites of all parameters of a model, full or LoRA factors; a decoder that is not in the table, by its structure.

    By structure means: one run of numbered layers 0, 1, 2, ... with the same parameters in each, whose children are called
    norm, attention or FFN in one of the usual ways, and nothing outside but embeddings, a final norm and a head. What stands
    beside a language model (a vision tower) lies outside its layers. Source: ours.

    >>> locate_all(names := ["model.layers.0.self_attn.q_proj.lora_A.weight"]).of[names[0]]
    Site(layer=0, block='attention', projection='q')
    >>> found = locate_all(["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "transformer.h.1.attn.c_attn.weight"])
    >>> found.depth, found.by, found.of["transformer.h.1.attn.c_attn.weight"].block
    (2, 'structure', 'attention')
    """
    beside = {name: Site(None, BESIDE, name.rpartition(".")[0]) for name in names if _BESIDE.search(name)}
    own = [name for name in names if name not in beside]
    named = {name: _by_name(plain_name(name)) for name in own}
    sites = {name: site for name, site in named.items() if site is not None}
    by = "name"
    if len(sites) < len(named) or not sites:
        sites, by = _by_structure(own), "structure"
    layers = {site.layer for site in sites.values() if site.layer is not None}
    if layers and len(layers) <= max(layers) and by == "structure":  # no range: a name may hold any number
        listed = [str(layer) for layer in sorted(layers)]
        shown = listed if len(listed) < 9 else [*listed[:4], "...", *listed[-2:]]
        raise RequestError(f"The layers are numbered {', '.join(shown)}: some between 0 and {max(layers)} are missing.")
    return Sites(sites | beside, max(layers) + 1 if layers else 0, by)


def locate_among(names: Collection[str], others: Collection[str]) -> Sites:
    """Return the sites of an adapter's ``names`` where ``others`` are those of its base, which has all the layers.

    >>> others = [f"transformer.h.{layer}.attn.c_attn.weight" for layer in range(3)]
    >>> locate_among(["transformer.h.1.attn.c_attn.lora_A.weight"], others).depth
    3
    """
    found = locate_all([*others, *names])
    return Sites({name: found.of[name] for name in names}, found.depth, found.by)


def _by_name(name: str) -> Site | None:
    name = _unwrapped(name)
    if match := _LAYER.match(name):
        if match[2] in _PROJECTIONS:
            return Site(int(match[1]), *_PROJECTIONS[match[2]])
    elif (module := name.rpartition(".")[0]) in _OUTSIDE:
        return Site(None, *_OUTSIDE[module])
    return None


def _by_structure(names: Collection[str]) -> dict[str, Site]:
    plain = {name: plain_name(name) for name in names}
    numbered = {name: match for name, text in plain.items() if (match := _NUMBERED.match(text))}
    stacks = Counter(match[1] for match in numbered.values())
    if len(stacks) != 1:
        what = f"several stacks of layers ({', '.join(sorted(stacks))})" if stacks else "no numbered layers"
        raise RequestError(
            f"This is no decoder that can be located: it has {what}. Known by name are Llama, Mistral, Qwen2, Qwen3, Cohere "
            "and Gemma 3; others need one run of numbered layers."
        )
    children: dict[int, set[str]] = {}
    for match in numbered.values():
        children.setdefault(int(match[2]), set()).add(match[3])
    for layer, found in children.items():
        if differing := sorted(found ^ children[min(children)]):
            raise RequestError(
                f"Layer {layer} does not have the same parameters as layer {min(children)} (first difference: {differing[0]!r}): "
                "such a decoder cannot be located by its structure."
            )
    return {
        name: _child_site(text, numbered[name]) if name in numbered else _outside_site(text)
        for name, text in plain.items()
    }


def _child_site(name: str, match: re.Match[str]) -> Site:
    path = match[3].rpartition(".")[0] or match[3]
    child = path.split(".")[0]
    for block, words in _CHILD_WORDS:
        if words.search(child):
            return Site(int(match[2]), block, path)
    raise RequestError(
        f"The parameter {name!r} belongs to neither attention, FFN nor norms as far as its name tells: this decoder is not "
        "known here."
    )


def _outside_site(name: str) -> Site:
    if block := outside_block(name):
        return Site(None, block, name.rpartition(".")[0].rpartition(".")[2])
    raise RequestError(
        f"The parameter {name!r} lies outside the layers and is no embedding, norm or head as far as its name tells: this "
        "decoder is not known here."
    )
