"""Whether two checkpoints can be merged at all: same architecture, same vocabulary, one base.

Each check says the first thing that differs, with both folders, before anything is written. Nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError
from xlnb.weights.partitions import OWNERS, SIDES, check_word
from xlnb.weights.sites import EMBEDDING, HEAD, outside_block
from xlnb.weights.tensor_files import FLOATS, Checkpoint, language_setting, same_bytes, sample
from xlnb.weights.vocabularies import check_vocabularies

if TYPE_CHECKING:
    from xlnb.checkpoints.recipes import Expert

_RELATED = 0.5  # cosine of two models' weights; experts of one base have 0.9 and more, strangers about 0

# Settings that may differ between fine-tunings of one base: they change nothing of a forward pass, dropouts included.
_FREE_SETTINGS = {"architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "torch_dtype", "auto_map",
                  "transformers_version", "use_cache", "max_position_embeddings", "unsloth_version", "unsloth_fixed",
                  "initializer_range", "output_router_logits", "router_aux_loss_coef", "attn_implementation",
                  "output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type",
                  "gradient_checkpointing", "neftune_noise_alpha", "torchscript", "tokenizer_class", "use_flash_attn",
                  "keys_to_ignore_at_inference", "chunk_size_feed_forward", "temperature", "top_p", "top_k", "do_sample",
                  "repetition_penalty", "max_length", "max_new_tokens", "num_beams"}  # fmt: skip
_FREE = re.compile(r"^_|drop(?:out|_prob)|_pdrop$")
_SAME = {"swish": "silu"}  # two names of one activation


def check_agreement(
    first: Expert, second: Expert, dtypes: Collection[str], trust_configs: bool = False, located: bool = True
) -> None:
    """Refuse two full checkpoints that cannot be merged, saying the first thing that differs.

    ``dtypes`` are the choices to offer where stored dtypes differ and none was made, empty where one was; with ``trust_configs``
    the configs are not compared; ``located`` says whether layers are asked for.
    """
    one, other, both = first.checkpoint, second.checkpoint, f"{first} and {second}"
    depths = [checkpoint.sites.depth if located else 0 for checkpoint in (one, other)]
    if depths[0] != depths[1]:
        raise RequestError(f"{both} have {depths[0]} and {depths[1]} layers: they are no experts of one base.")
    if not trust_configs:
        _check_configs(one.config, other.config, both)
    if alone := sorted(one.tensors.keys() ^ other.tensors.keys()):
        has, lacks = (first, second) if alone[0] in one.tensors else (second, first)
        tied = " (one of them ties its head to the embeddings: save both the same way)" if "head" in alone[0] else ""
        raise RequestError(
            f"{has} has {alone[0]!r}, {lacks} does not; {len(alone)} tensors are in one of them only{tied}."
        )
    for name, stored in one.tensors.items():
        twin = other.tensors[name]
        if stored.shape != twin.shape:
            what = "vocabulary" if outside_block(name) in (EMBEDDING, HEAD) else "base"
            raise RequestError(
                f"{both}: {name!r} has shape {list(stored.shape)} and {list(twin.shape)}: another {what}."
            )
        if stored.dtype != twin.dtype and (dtypes or not {stored.dtype, twin.dtype} <= FLOATS):
            raise RequestError(
                f"{both}: {name!r} is stored as {stored.dtype} and {twin.dtype}. Say with --dtype what to write: "
                f"{', '.join(dtypes)}."
            )
    check_vocabularies(one, other, both)
    _check_related(one, other, both)


def owner_outside(found: Mapping[str, Checkpoint], embeddings: str | None) -> str:
    """Return whose embeddings, final norm and head are taken: ``base``, ``math`` or ``language``.

    ``found`` has the checkpoints by these names; where nothing is said it is the base, or either expert if both have the same.
    """
    if embeddings is not None:
        check_word("embeddings", embeddings, OWNERS)
        if embeddings == "base" and "base" not in found:
            raise RequestError("embeddings=base, but no base is given: say --base as well.")
    if embeddings in found:
        return str(embeddings)
    if "base" in found:
        return "base"
    for name, site in found["math"].sites.of.items():
        if site.layer is None and not same_bytes(*(found[side].tensors[name] for side in SIDES)):
            raise RequestError(
                f"{name!r} lies outside the layers and differs between the experts: say whose to take, --embeddings math or "
                "--embeddings language, or give the --base."
            )
    return "math"


def check_whole(expert: Expert, located: bool = True) -> None:
    """Refuse a full checkpoint that is quantized, since its stored numbers are no weights, that holds tensors without numbers,
    or, where they are ``located``, does not have all its layers.
    """
    checkpoint = expert.checkpoint
    if language_setting(checkpoint.config, "quantization_config"):
        raise RequestError(f"{expert} is quantized: merge the unquantized weights.")
    if empty := [name for name, stored in checkpoint.tensors.items() if 0 in stored.shape]:
        raise RequestError(
            f"{expert} has no numbers in {empty[0]!r} (shape {list(checkpoint.tensors[empty[0]].shape)}): DeepSpeed's ZeRO-3 "
            "leaves such files. Save the gathered weights (zero_to_fp32.py makes them of its checkpoint)."
        )
    if not located:
        return
    layers = {site.layer for site in checkpoint.sites.of.values() if site.layer is not None}
    told = language_setting(checkpoint.config, "num_hidden_layers")
    told = len(layers) if told is None else told
    if layers != set(range(len(layers))) or told != len(layers) or not layers:
        raise RequestError(
            f"{expert} is not whole: its config.json tells of {told} layers, and its tensors are of {len(layers)}"
            + (f", up to number {max(layers)}." if layers else ".")
        )


def _check_configs(one: Mapping[str, Any], other: Mapping[str, Any], both: str) -> None:
    """Refuse configs that mean different models: compared as they stand and, where they differ, as transformers builds them."""
    if _settings(one) == _settings(other):
        return
    one, other = _meaning(one), _meaning(other)
    for name in one:
        if _differs(one, other, name):
            raise RequestError(
                f"{both} differ in config.json: {name} is {one[name]!r} and {other[name]!r}. They are no experts of one base, or "
                "one of the files is wrong; if it is harmless, say --trust-configs."
            )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that may change a forward pass."""
    return {
        name: _settings(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _FREE_SETTINGS and not _FREE.search(name)
    }


def _meaning(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as transformers builds them, where it knows the type: defaults filled in, old spellings in the new."""
    import logging

    from transformers import CONFIG_MAPPING

    built = dict(config)
    quiet = logging.getLogger("transformers")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it has much to say of old spellings
    try:
        if config.get("model_type") in CONFIG_MAPPING:
            built = CONFIG_MAPPING[config["model_type"]](**config).to_dict()
    except (
        Exception
    ):  # each version of transformers has other reasons to refuse a config: then it is taken as it stands
        built = dict(config)
    finally:
        quiet.setLevel(level)
    if built.get("head_dim", "") is None and built.get("num_attention_heads"):
        built["head_dim"] = built.get("hidden_size", 0) // built["num_attention_heads"]
    if built.get("use_sliding_window") is False:
        built = {name: value for name, value in built.items() if name not in ("sliding_window", "max_window_layers")}
    return _settings(
        {name: _SAME.get(value, value) if isinstance(value, str) else value for name, value in built.items()}
    )


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Say whether a setting has two values; one that is missing on one side is a default of another library version, and
    null stands for false."""
    if name not in other:
        return False
    a, b = one[name], other[name]
    if isinstance(a, dict) and isinstance(b, dict):
        return any(_differs(a, b, key) for key in a)
    return bool(a != b) and not all(value is None or value is False for value in (a, b))


def _check_related(one: Checkpoint, other: Checkpoint, both: str) -> None:
    """Refuse checkpoints whose weights have nothing to do with each other: a swap of such layers gives noise."""
    names = [n for n, s in one.tensors.items() if len(s.shape) == 2 and s.size >= 64 and s.dtype in FLOATS]
    dot = first = second = 0.0
    for name in names[:: max(1, len(names) // 8)]:
        a, b = (sample(checkpoint.tensors[name]) for checkpoint in (one, other))
        for checkpoint, found in ((one, a), (other, b)):
            if not all(map(isfinite, found)):
                raise RequestError(
                    f"{checkpoint.folder} has NaN or infinite numbers in {name!r}: its training diverged."
                )
        dot += sum(x * y for x, y in zip(a, b, strict=True))
        first += sum(x * x for x in a)
        second += sum(y * y for y in b)
    for checkpoint, square in ((one, first), (other, second)):
        if names and square == 0:
            raise RequestError(
                f"{checkpoint.folder} holds zeros alone, as far as was looked: its weights were not saved."
            )
    scale = (first * second) ** 0.5
    if scale > 0 and dot < _RELATED * scale:
        raise RequestError(
            f"The weights of {both} have a cosine of {dot / scale:.2f}: they do not come from one base, and a merge of them "
            "would be noise."
        )
