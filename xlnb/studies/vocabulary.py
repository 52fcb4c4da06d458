"""A trimmed vocabulary, named by its languages: the tokens of so large a sample of the corpora that no word is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from xlnb import artifacts
from xlnb.corpora import prose, templates
from xlnb.corpora.grammar import data_names, text_of
from xlnb.corpora.sources import formatted, load_corpus
from xlnb.paths import cache_folder


def vocabulary_spec(languages: Sequence[str]) -> dict[str, object] | None:
    """Return what determines a vocabulary: its languages, and a digest of the files that hold their words; None for the whole."""
    if not languages:
        return None
    each = [name for code in languages for name in (f"{code}.yaml", f"generic-{code}.yaml", f"prose-{code}.yaml")]
    names = ["frames.yaml", "english-frames.yaml", *(name for name in each if name in data_names())]
    return {"languages": list(languages), "words": _digest_of_words(text_of, tuple(names))}


@lru_cache(maxsize=16)  # a grid has dozens of studies of one vocabulary
def _digest_of_words(read: Callable[[str], str], names: tuple[str, ...]) -> str:
    lines = [line for name in names for line in read(name).splitlines()]
    words = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]  # comments have no tokens
    return artifacts.digest(words)[:16]


def vocabulary_file(checkpoint: Path, languages: Sequence[str]) -> Path:
    """Return where the ids that a checkpoint keeps of these languages are remembered."""
    tokenizer_files = [artifacts.file_digest(path) for path in sorted(checkpoint.glob("tokenizer*"))]
    digest = artifacts.digest([vocabulary_spec(languages), tokenizer_files])[:16]
    return cache_folder() / f"vocabulary-{'-'.join(languages)}-{digest}.json"


def kept_of(checkpoint: Path, languages: Sequence[str]) -> list[int] | None:
    """Return the ids that a checkpoint keeps of these languages, ascending; counted once and remembered. None for all."""
    if not languages:
        return None
    path = vocabulary_file(checkpoint, languages)
    if not path.is_file():
        from transformers import AutoTokenizer

        from xlnb.models.base import kept_ids

        artifacts.write_json(
            path, kept_ids(AutoTokenizer.from_pretrained(checkpoint), vocabulary_texts(languages)).tolist()
        )
    return artifacts.read_json(path)


def vocabulary_texts(languages: Sequence[str]) -> list[str]:
    """Return the texts whose tokens are kept. They depend on no study's seed, so that all seeds share one base."""
    english = formatted(load_corpus("templates-english", "en", 15_000, seed=1000))
    texts: list[str] = [e.prompt + e.completion for e in english]
    for code in languages:
        for split in templates.SPLITS:
            n = 400 if split == "few-shot" else 3000
            texts += [e.prompt + e.completion for e in templates.math_examples(code, split, n, seed=1000)]
        if code in prose.PROSE_LANGUAGES:
            read = formatted(load_corpus("prose", code)) + tuple(text for _, text in prose.held_out_texts(code))
            texts += [text for e in read for text in (e.prompt, e.completion)]
        if code != "en":
            for seed in range(1000, 1005):
                texts += [e.prompt + e.completion for e in templates.language_examples(code, 4000, seed)]
    return [*texts, "\n\n"]
