"""What a decoder's parameters, training and generation take, by formula: numbers alone, so that no weights are needed.

Bytes are those of this package's training: weights, gradients and (but by choice) AdamW's moments in float32, forward passes
under bfloat16 autocast. What is saved for the gradients was counted on miniatures, tensor by tensor, and is exact for them;
tests count again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xlnb.errors import RequestError

FULL, LORA = "full", "lora"
ADAMW, ADAMW_8BIT = "adamw", "adamw-8bit"
# Bytes of a trained parameter's two moments: in float32; in eight bits, with a scale in float32 for each 256 of either.
MOMENTS = {ADAMW: 8.0, ADAMW_8BIT: 2 + 2 * 4 / 256}


@dataclass(frozen=True)
class Family:
    """What tells the decoders of one config class apart, in numbers a layer.

    ``saved`` are the bytes kept for the gradients by a token of a layer in full fine-tuning: so many times the hidden size, the
    queries' width, the keys' width, the FFN's and the number of heads, and some; ``saved_lora`` the same with LoRA, where the
    last number is times the rank.
    """

    norms: int  # vectors of the hidden size
    saved: tuple[int, int, int, int, int, int]
    saved_lora: tuple[int, int, int, int, int, int]
    biased: bool = False  # whether queries, keys and values have biases
    normed: bool = False  # whether queries and keys have norms
    cached: int = 4  # bytes of a cached key or value


_LLAMA = Family(2, (26, 4, 4, 8, 4, 8), (18, 6, 4, 8, 4, 14))
FAMILIES = {
    "LlamaConfig": _LLAMA,
    "MistralConfig": _LLAMA,
    "Qwen2Config": Family(2, _LLAMA.saved, _LLAMA.saved_lora, biased=True),
    "Qwen3Config": Family(2, (26, 10, 10, 8, 16, 8), (18, 10, 8, 8, 16, 14), normed=True),
    "CohereConfig": Family(1, (22, 4, 4, 8, 4, 4), (18, 6, 4, 8, 4, 14), cached=2),
    "Gemma3TextConfig": Family(4, (42, 12, 12, 8, 16, 16), (26, 10, 8, 8, 16, 14), normed=True),
}
# Bytes a completion token and a row of the vocabulary, while the loss is differentiated: log-probabilities, their gradient and
# that of the logits, in float32.
_LOGITS = 12
# The same as Family.saved, for what a layer's gradients need besides while they are computed. Not counted on miniatures, but an
# H200's peaks agree (tests/benchmarks/gpu-h200.txt).
_PASSING = (16, 8, 8, 8)


@dataclass(frozen=True)
class Shape:
    """A decoder as its config.json has it."""

    kind: str  # the transformers config class
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_size: int
    tied: bool = False

    @property
    def family(self) -> Family:
        """What is known of its class; a Llama where that is not known."""
        return FAMILIES.get(self.kind, _LLAMA)

    @property
    def queries(self) -> int:
        """The width of all heads' queries."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """The width of all heads' keys, and of their values."""
        return self.kv_heads * self.head_size

    @property
    def matrices(self) -> int:
        """The parameters of a layer's seven projections."""
        return 2 * self.hidden * (self.queries + self.keys) + 3 * self.hidden * self.ffn

    @property
    def inside(self) -> int:
        """The parameters of all layers: what full fine-tuning trains."""
        vectors = self.family.norms * self.hidden
        vectors += (self.queries + 2 * self.keys) * self.family.biased + 2 * self.head_size * self.family.normed
        return self.layers * (self.matrices + vectors)

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once.

        >>> Shape("LlamaConfig", 4096, 14336, 32, 32, 8, 128256, 128).parameters
        8030261248
        """
        return self.inside + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Return the parameters of a LoRA on all seven projections."""
        attention = 4 * self.hidden + 2 * self.queries + 2 * self.keys
        return self.layers * rank * (attention + 3 * (self.hidden + self.ffn))

    def trained(self, paradigm: str, rank: int) -> int:
        """Return the parameters that a fine-tuning moves."""
        return self.inside if paradigm == FULL else self.adapter(rank)

    def saved(self, paradigm: str, rank: int, tokens: int) -> int:
        """Return the bytes that a layer keeps for its gradients, of so many tokens in rows of one length; weights as bfloat16
        with them."""
        widths = self.hidden, self.queries, self.keys, self.ffn, self.heads
        if paradigm == FULL:
            *each, rest = self.family.saved
            weights = self.matrices
        else:
            *each, per_rank = self.family.saved_lora
            rest, weights = self.family.saved[-1] + per_rank * rank, self.matrices + self.adapter(rank) // self.layers
        return tokens * (sum(a * b for a, b in zip(each, widths, strict=True)) + rest) + 2 * weights

    def flops(self, paradigm: str, rank: int, length: int, completion: int) -> float:
        """Return the floating-point operations of training on a row of so many tokens, the last ``completion`` of them learned.

        Forward 2 a parameter; backward 4 in full fine-tuning, 2 by LoRA (6 in all for its own), and 2 for the frozen head;
        attention 12 a layer, query width and pair of tokens, the whole square of it. Nothing is counted twice.
        """
        matrices, head = self.layers * self.matrices, self.vocabulary * self.hidden
        each = 6 * matrices if paradigm == FULL else 4 * matrices + 6 * self.adapter(rank)
        return length * (each + 12.0 * self.layers * self.queries * length) + 4.0 * head * (completion + 1)


def shape_of(config: dict[str, Any], name: str) -> Shape:
    """Return the shape that a config.json describes. Raises RequestError where it is no decoder with the usual entries."""
    config = {**config, **(config.get("text_config") or {})}
    kind = _kind(config)
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        return Shape(
            kind=kind, hidden=hidden, ffn=config["intermediate_size"], layers=config["num_hidden_layers"], heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads, vocabulary=config["vocab_size"],
            head_size=config.get("head_dim") or hidden // heads,
            tied=config.get("tie_word_embeddings", kind.lower().startswith(("gemma", "cohere"))),  # transformers' default
        )  # fmt: skip
    except KeyError as missing:
        raise RequestError(
            f"The config.json of {name} has no {missing}: xlnb plans decoders like Llama, Mistral, Qwen, Cohere and Gemma."
        ) from None


def _kind(config: dict[str, Any]) -> str:
    if "config" in config:
        return str(config["config"])
    known = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "cohere": "Cohere",
             "gemma3_text": "Gemma3Text"}  # fmt: skip
    model_type = str(config.get("model_type", ""))
    return f"{known.get(model_type, model_type)}Config"


@dataclass(frozen=True)
class Memory:
    """Bytes on a GPU at the peak of a training, part by part."""

    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.activations + self.logits


def training_memory(
    shape: Shape,
    paradigm: str,
    *,
    rank: int = 64,
    micro_batch: int = 1,
    length: int = 1024,
    completion: int | None = None,
    checkpointing: bool = False,
    parts: int = 2,
    gpus: int = 1,
    optimizer: str = ADAMW,
) -> Memory:
    """Return the memory of a training step: rows of ``length`` tokens, ``completion`` of them learned (all where not said).

    ``parts`` is how many micro-batches make a batch on a GPU: of one alone the gradients come as its activations go, and
    whichever is more is counted. Weights, gradients and moments are divided by ``gpus`` (FSDP), activations are not; each GPU
    then has whole what lies outside the layers, the layer at work and the next one, and a layer's gradients (not measured).
    """
    tokens, learned = micro_batch * length, micro_batch * (length if completion is None else completion + 1)
    trained = shape.trained(paradigm, rank)
    layer, kept = (
        shape.saved(paradigm, rank, tokens),
        4 * shape.hidden * tokens,
    )  # a checkpoint is a layer's input, in float32
    outside = (
        6 * shape.hidden * tokens + 2 * shape.vocabulary * shape.hidden
    )  # final norm, the head's input and its bf16 weights
    logits = _LOGITS * shape.vocabulary * learned
    passing = tokens * sum(
        a * b for a, b in zip(_PASSING, (shape.hidden, shape.queries, shape.keys, shape.ffn), strict=True)
    )
    layers = shape.layers * (kept if checkpointing else layer)
    working = max(layers + outside + logits, layers + passing + layer * checkpointing)
    gradients = 4 * trained // gpus
    if parts == 1:
        working, gradients = max(working, gradients), 0
    shown = min(logits, working)
    held = shape.parameters + trained * (paradigm == LORA)
    weights = 4 * held // gpus
    if gpus > 1:
        outside_layers = shape.parameters - shape.inside
        weights += 4 * (outside_layers + 2 * (held - outside_layers) // shape.layers)
        gradients += 4 * trained // shape.layers
    return Memory(weights, gradients, int(MOMENTS[optimizer] * trained) // gpus, working - shown, shown)


def generation_memory(shape: Shape, rows: int, tokens: int) -> int:
    """Return the bytes of answering ``rows`` problems of ``tokens`` at once: weights in float32 and their bfloat16 copies, keys
    and values (in float32 but for Cohere), and the logits of one token."""
    cache = 2 * shape.family.cached * shape.layers * shape.keys * tokens
    return 6 * shape.parameters + rows * (cache + 6 * shape.vocabulary)
