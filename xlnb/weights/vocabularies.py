"""Vocabularies of several checkpoints: whether they are one, and checkpoints seen as if all had been saved alike.

Savers differ in two harmless ways: some store a tied head, which is the embedding once more, and some pad the embedding with rows
that no token has. Both are left out, so that what remains can be merged. Nothing heavy is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlnb.errors import RequestError
from xlnb.weights.sites import EMBEDDING, HEAD, outside_block
from xlnb.weights.tensor_files import Checkpoint, Stored, language_setting, same_bytes

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TOKEN_ID = re.compile(r"_token_(id|index)$")


def in_common(checkpoints: Sequence[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
    """Return the full checkpoints as if they had been saved alike, and what was left out of each, in words.

    Left out are a head that the config ties to the embedding and that has its very bytes, and rows of the vocabulary beyond the
    smallest one's, if no token of the folder's own tokenizer or config has them. A tied head that differs from the embedding and
    rows that belong to tokens are refused. What does not fit in any other way stays as it is.
    """
    found, notes = list(checkpoints), []
    for i, one in enumerate(checkpoints):
        if copied := _copied_head(one, [other for other in checkpoints if other is not one]):
            found[i] = one.only({name: stored for name, stored in one.tensors.items() if name != copied})
            notes.append(f"{one.folder.name}: {copied} is left out, a copy of the embedding that it is tied to")
    smallest = min(found, key=lambda one: vocabulary_size(one.config), default=None)
    if smallest and _differ_in_rows_alone(found):
        least = vocabulary_size(smallest.config)
        for i, one in enumerate(found):
            if (rows := vocabulary_size(one.config)) > least:
                _check_padding(one, smallest)
                narrow = one.only({name: _cut(one, name, least) for name in one.tensors})
                found[i] = replace(narrow, config=with_vocabulary_size(one.config, least))
                surplus = f"the last {rows - least:,} of {rows:,} rows of the vocabulary"
                notes.append(f"{one.folder.name}: {surplus} are cut off, which no token has")
    return found, notes


def vocabulary_size(config: Mapping[str, Any]) -> int:
    """Return how many rows a config gives to the vocabulary, that of the language model in a wrapper; 0 where it says nothing.

    >>> vocabulary_size({"text_config": {"vocab_size": 260}}), vocabulary_size({})
    (260, 0)
    """
    size = language_setting(config, "vocab_size")
    return size if isinstance(size, int) else 0


def with_vocabulary_size(config: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the config with another number of rows wherever it gives one."""
    inner = (
        {"text_config": with_vocabulary_size(text, size)} if isinstance(text := config.get("text_config"), dict) else {}
    )
    return {**config, **inner} | ({"vocab_size": size} if "vocab_size" in config else {})


def _copied_head(one: Checkpoint, others: Sequence[Checkpoint]) -> str | None:
    """Return the name of a head that is the embedding once more, None where there is none or it may be a head of its own."""
    head = next((name for name in one.tensors if name.endswith(".weight") and outside_block(name) == HEAD), None)
    ties = one.config.get("tie_word_embeddings", language_setting(one.config, "tie_word_embeddings"))
    lacked = any(head not in other.tensors for other in others)
    if head is None or ties is False or (ties is None and not lacked):
        return None
    embeddings = [name for name in one.tensors if name.endswith(".weight") and outside_block(name) == EMBEDDING]
    if any(same_bytes(one.tensors[head], one.tensors[name]) for name in embeddings):
        return head
    if ties and lacked and embeddings:
        raise RequestError(
            f"The config.json of {one.folder} ties the head to the embedding, but its {head!r} differs from {embeddings[0]!r}: "
            "it does not say which of them counts. Take the head out of the file, or save the model as transformers loads it."
        )
    return None


def _differ_in_rows_alone(checkpoints: Sequence[Checkpoint]) -> bool:
    """Say whether the checkpoints are alike but for how many rows their vocabularies have, which each config tells."""
    kinds = []
    for one in checkpoints:
        rows = vocabulary_size(one.config)
        kinds.append({name: _cut(one, name, 1).shape for name in one.tensors})
        if not any(stored.shape[:1] == (rows,) and _is_vocabulary(name) for name, stored in one.tensors.items()):
            return False
    sizes = {vocabulary_size(one.config) for one in checkpoints}
    return len(sizes) > 1 and all(kind == kinds[0] for kind in kinds)


def _is_vocabulary(name: str) -> bool:
    return outside_block(name) in (EMBEDDING, HEAD)


def _cut(one: Checkpoint, name: str, rows: int) -> Stored:
    """Return the first rows of a tensor that has one for each token, any other as it is."""
    stored = one.tensors[name]
    if not _is_vocabulary(name) or stored.shape[:1] != (vocabulary_size(one.config),):
        return stored
    width = stored.nbytes // stored.shape[0]
    return replace(stored, shape=(rows, *stored.shape[1:]), stop=stored.start + rows * width)


def _check_padding(one: Checkpoint, smallest: Checkpoint) -> None:
    """Refuse to cut rows that a token has, or of which no tokenizer says that none has them."""
    rows = vocabulary_size(smallest.config)
    sizes = (
        f"The vocabulary of {one.folder} has {vocabulary_size(one.config):,} rows, that of {smallest.folder} {rows:,}"
    )
    if not any((one.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise RequestError(
            f"{sizes}: they are no models of one base, unless the rest is padding, which its tokenizer.json or vocab.json would "
            "tell. Put its tokenizer beside the weights (AutoTokenizer's save_pretrained writes it)."
        )
    for id_, what in _ids(one):
        if id_ >= rows:
            raise RequestError(
                f"{sizes}, and {what} has the id {id_:,}: it is no padding, tokens were added. Experts of one base share its "
                "vocabulary: train without new tokens, or give all of them the same ones."
            )


def _ids(one: Checkpoint) -> Iterator[tuple[int, str]]:
    """Yield the token ids that a folder's tokenizer and config refer to, and what has them."""
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
        if (path := one.folder / name).is_file():
            yield from ((id_, f"the token {token!r} of its {name}") for token, id_ in tokens(path).items())
    decoder = _table(one.folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    yield from ((int(id_), f"the token {id_} of its tokenizer_config.json") for id_ in decoder if str(id_).isdigit())
    for name in ("config.json", "generation_config.json"):
        table = _table(one.folder / name)
        for settings in (table, table.get("text_config") or {}):
            for key, value in settings.items():
                ids = value if isinstance(value, list) else [value]
                yield from ((i, f"{key} of its {name}") for i in ids if _TOKEN_ID.search(key) and isinstance(i, int))


def _table(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds, nothing where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read: {error}.") from error
    return found if isinstance(found, dict) else {}


def check_vocabularies(one: Checkpoint, other: Checkpoint, both: str) -> None:
    """Refuse two checkpoints whose tokenizers do not list the same tokens, naming one that differs."""
    for name in _TOKENIZERS:
        a, b = (checkpoint.folder / name for checkpoint in (one, other))
        if not (a.is_file() and b.is_file()) or _same_files(a, b):
            continue
        differing = _first_difference(a, b) if name != "tokenizer.model" else ""
        if differing is not None:
            raise RequestError(
                f"{both} have different vocabularies: {a} and {b} do not list the same tokens{differing}. Experts of one base "
                "share its vocabulary."
            )


def _first_difference(a: Path, b: Path) -> str | None:
    """Return how the tokens of two files differ, in words; None where they do not."""
    listed = tokens(a), tokens(b)
    differing = sorted(listed[0].items() ^ listed[1].items(), key=lambda item: (item[1], item[0]))
    if not differing:
        return None
    token = differing[0][0]
    ids = [table.get(token) for table in listed]
    return f" ({token!r} has " + " and ".join("no id" if i is None else f"the id {i}" for i in ids) + ")"


def _same_files(a: Path, b: Path) -> bool:
    """Say whether two tokenizer files are equal as far as tokens go; they need not be parsed then.

    Training sets truncation and padding, which stand before the tokens of a tokenizer.json.
    """
    with open(a, "rb") as x, open(b, "rb") as y:
        if a.name == "tokenizer.json":
            for file in (x, y):
                file.seek(max(0, file.read(1 << 16).find(b'"added_tokens"')))
        while (block := x.read(1 << 20)) == y.read(1 << 20):
            if not block:
                return True
    return False


def tokens(path: Path) -> dict[str, int]:
    """Return the tokens that a tokenizer.json, vocab.json or added_tokens.json lists, with their ids."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "tokenizer.json":
            vocabulary = content["model"]["vocab"]
            listed = (
                vocabulary.items() if isinstance(vocabulary, dict) else ((t, i) for i, (t, *_) in enumerate(vocabulary))
            )
            content = dict(listed) | {token["content"]: token["id"] for token in content.get("added_tokens") or []}
        if not all(isinstance(id_, int) for id_ in content.values()):
            raise ValueError("its ids are no whole numbers")
        return dict(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is no tokenizer: {error}.") from error
