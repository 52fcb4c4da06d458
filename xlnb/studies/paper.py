"""The paper's setting as data: every value with where it is known from, and how well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xlnb.models.architectures import shape
from xlnb.models.memory import Shape

if TYPE_CHECKING:
    import pandas as pd

# How well a value is known: by title, abstract or proceedings; by someone who had the paper open (the comments of a student's
# reproduction, reviews); by a published machine summary of version 1; likely, but not checked; this project's choice.
STATED, REPORTED, DIGEST, RECALLED, OURS = KNOWN = "stated", "reported", "digest", "recalled", "ours"
_STUDENT, _SUMMARY = "comments in a student's reproduction", "machine summary of version 1 (May 2025)"


@dataclass(frozen=True)
class Fact:
    """One value of the setting, its certainty (one of ``KNOWN``), and its source in words."""

    item: str
    value: Any
    known: str
    source: str


@dataclass(frozen=True)
class Model:
    """One of the paper's models: its name on the hub, the name of its shape, and how well it is known to be the paper's."""

    hub: str
    architecture: str
    known: str
    source: str

    @property
    def shape(self) -> Shape:
        """Its layers and widths (recalled from its config.json; the sums of its parameters agree with its card)."""
        return shape(self.architecture)


MODELS = {model.hub: model for model in (
    Model("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B", REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Model("tiiuae/Falcon3-7B-Instruct", "Falcon3-7B", DIGEST, f"{_SUMMARY}; that it is the Instruct model is likely"),
    Model("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B", DIGEST, _SUMMARY),
    Model("CohereLabs/aya-expanse-8b", "Aya-Expanse-8B", DIGEST, _SUMMARY),
)}  # fmt: skip
MATH_CORPUS = "orca-math"
LANGUAGE_CORPORA = {
    "sw": ("aya", "inkuba", "xp3mt"),
    "bn": ("aya", "bongchat", "indic-align"),
    "te": ("aya", "xp3mt", "telugu-alpaca"),
}

PAPER: tuple[Fact, ...] = (
    *(Fact("model", model.hub, model.known, model.source) for model in MODELS.values()),
    Fact("languages", tuple(LANGUAGE_CORPORA), REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Fact("math data", MATH_CORPUS, REPORTED, _STUDENT),
    *(Fact(f"language data, {code}", names, REPORTED, _STUDENT) for code, names in LANGUAGE_CORPORA.items()),
    Fact("examples an expert", 80_000, REPORTED, _STUDENT),
    Fact("batch", 64, REPORTED, f"{_STUDENT}; may be the student's own"),
    Fact("epochs", 1, REPORTED, f"{_STUDENT}; may be the student's own"),
    Fact("tokens an example at most", 1024, REPORTED, f"{_STUDENT}; may be the student's own"),
    Fact("LoRA rank", 64, REPORTED, _STUDENT),
    Fact("LoRA alpha", 16, REPORTED, _STUDENT),
    Fact("LoRA rank-stabilised", True, REPORTED, _STUDENT),
    Fact("LoRA on", ("q", "k", "v", "o", "gate", "up", "down"), REPORTED, _STUDENT),
    Fact("LoRA learning rate", 9e-6, REPORTED, f"{_STUDENT}: 4e-6 to 9e-6, of which the highest is taken here"),
    Fact("full learning rate", 1e-6, RECALLED, "likely; not checked"),
    Fact("schedule", "10 % warm-up, cosine", OURS, "not known of the paper"),
    Fact("embeddings, head, final norm", "as in the base", RECALLED, "likely; not checked"),
    Fact("partition", "C", REPORTED, f"{_STUDENT}: first six and last two layers to the language"),
    Fact("arithmetic", "bfloat16", OURS, "bf16 autocast over float32 weights"),
    Fact("prompts", "the model's chat template", OURS, "all four models are tuned on instructions"),
    Fact("benchmark", "MGSM", REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Fact("problems a language", 250, REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Fact("shots", 2, REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Fact("decoding", "greedy", REPORTED, f"{_STUDENT}; {_SUMMARY}"),
    Fact("new tokens at most", 512, OURS, "not known of the paper"),
)  # fmt: skip


def paper(item: str) -> Any:
    """Return the value of the first fact of this name.

    >>> paper("LoRA rank"), paper("batch")
    (64, 64)
    """
    return next(fact.value for fact in PAPER if fact.item == item)


def paper_table() -> pd.DataFrame:
    """Return all facts as a table for the book: item, value, known, source."""
    import pandas as pd

    def told(value: Any) -> str:
        return (
            ", ".join(map(str, value))
            if isinstance(value, tuple)
            else f"{value:,}"
            if type(value) is int
            else str(value)
        )

    rows = [(fact.item, told(fact.value), fact.known, fact.source) for fact in PAPER]
    return pd.DataFrame(rows, columns=["item", "value", "known", "source"])
