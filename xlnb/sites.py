"""Where a parameter lives in a decoder: its layer, its block and its projection.

The names are those that transformers and PEFT write. The paper's methods speak of layers, attention and FFN; this module is
the only place that knows how checkpoints spell them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xlnb.errors import RequestError

ATTENTION, FFN, NORM, EMBEDDING, HEAD = "attention", "ffn", "norm", "embedding", "head"
BLOCKS = (ATTENTION, FFN, NORM, EMBEDDING, HEAD)

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
_OUTSIDE = {"model.embed_tokens": (EMBEDDING, "embed"), "model.norm": (NORM, "final"), "lm_head": (HEAD, "head")}


@dataclass(frozen=True)
class Site:
    """Where a parameter lives: 0-based ``layer`` (None outside the layers), ``block`` and ``projection``."""

    layer: int | None
    block: str
    projection: str


def locate(name: str) -> Site:
    """Return the site of a parameter by its checkpoint name, full parameter or LoRA factor.

    Raises :class:`~xlnb.errors.RequestError` for a name of no known decoder: nothing is guessed. Source: ours.

    >>> locate("model.layers.3.mlp.gate_proj.weight")
    Site(layer=3, block='ffn', projection='gate')
    >>> locate("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").projection
    'q'
    """
    plain = re.sub(r"\.lora_[AB](\.\w+)?(?=\.weight$)", "", name.removeprefix("base_model.model."))
    if match := _LAYER.match(plain):
        layer, module = int(match[1]), match[2]
        if module in _PROJECTIONS:
            return Site(layer, *_PROJECTIONS[module])
    elif (module := plain.rpartition(".")[0]) in _OUTSIDE:
        return Site(None, *_OUTSIDE[module])
    raise RequestError(
        f"The parameter {name!r} is of no decoder known here. Known are 'model.layers.N.' followed by one of "
        f"{', '.join(_PROJECTIONS)}, and {', '.join(_OUTSIDE)}."
    )
