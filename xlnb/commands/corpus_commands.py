"""The command `xlnb corpus`: what corpora there are, and what is in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlnb.errors import RequestError


def corpus_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME[:PATH]", help="A corpus; without one, all are listed.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The language, such as sw; not needed where there is one.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Read this file or folder, not the Hugging Face hub.")] = None,
    n: Annotated[int, typer.Option("-n", help="How many examples to show.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides which examples, in which order.")] = 0,
    tokenizer: Annotated[
        str | None, typer.Option(help="A model's folder or hub name: show the examples in its chat template.")
    ] = None,
) -> None:
    """Show where a corpus is read from, what was dropped, and examples as a model reads them."""
    print(_table() if name is None else _shown(name, language, path, n, seed, tokenizer))


def _table() -> str:
    from xlnb.corpora.sources import SOURCES

    rows = [("name", "kind", "languages", "hub repository", "licence")]
    rows += [(s.name, s.kind, " ".join(s.languages), s.hub or "(made by xlnb)", s.licence) for s in SOURCES.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(text: str, language: str | None, path: Path | None, n: int, seed: int, tokenizer: str | None) -> str:
    from xlnb.corpora.sources import SOURCES, formatted, load_corpus, name_and_path

    name, inner = name_and_path(text)
    if inner and path:
        raise RequestError(f"The path is given twice: {inner} and {path}.")
    if language is None:
        languages = SOURCES[name].languages if name in SOURCES else ("",)  # an unknown name is told by load_corpus
        if len(languages) > 1:
            raise RequestError(f"Say the --language: {name} has {', '.join(languages)}.")
        language = languages[0]
    corpus = load_corpus(name, language, n, seed, inner or path)
    template = None
    if tokenizer:
        from transformers import AutoTokenizer

        template = AutoTokenizer.from_pretrained(tokenizer)
    counts = [f"{count:,} {what}" for what, count in corpus.counts.items() if count]
    lines = [
        f"{corpus.name} ({corpus.kind}, {corpus.language}), read from {corpus.source}",
        f"examples: {', '.join(counts)}",
        f"fingerprint of these {len(corpus.examples)}: {corpus.fingerprint}",
        "What is learned stands in ⟦ ⟧.",
    ]
    for i, example in enumerate(formatted(corpus, template), 1):
        lines.append(f"--- {i}, {example.kind}\n{example.prompt}⟦{example.completion}⟧")
    return "\n".join(lines)
