"""Rows of (prompt, completion) as one right-aligned batch, and the log-likelihood of its completions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from xlnb.models.base import Base


Row = tuple[list[int], list[int]]  # ids of the prompt, ids of the completion
IGNORED = -100


@dataclass(frozen=True)
class Branch:
    """Tokens that may stand in the place of a completion's tokens from its ``at``-th on."""

    at: int
    ids: list[int]


@dataclass(frozen=True)
class Batch:
    """Tensors of shape (rows, length), completions flush at the right; ``width`` is the longest completion.

    ``attention_mask`` also covers ``past`` cached positions at the left. ``labels`` has shape (rows, width).
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor
    width: int

    def inputs(self) -> dict[str, Tensor]:
        """Return what the model's forward takes."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": self.position_ids}


def right_aligned(rows: Sequence[Row], pad_id: int, past: int = 0) -> Batch:
    """Return the rows as one batch behind ``past`` cached positions.

    Right-aligned, since then the logits of all completions lie in the last ``width`` + 1 positions, and a head over a large
    vocabulary is computed for those alone.
    """
    import torch

    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    width = max(len(completion) for _, completion in rows)
    input_ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, completion) in enumerate(rows):
        ids = torch.tensor([*prompt, *completion])
        input_ids[i, length - len(ids) :] = ids
        mask[i, length - len(ids) :] = 1
        if completion:
            labels[i, width - len(completion) :] = torch.tensor(completion)
    positions = past + (mask.cumsum(1) - 1).clamp(min=0)
    mask = torch.cat([torch.ones((len(rows), past), dtype=torch.long), mask], dim=1)
    return Batch(input_ids, mask, positions, labels, width)


def completion_nll(model: Any, batch: Batch, **kwargs: Any) -> Tensor:
    """Return the negative log-likelihood in nats of each completion token, shape (rows, width), 0 where there is none.

    Logits are computed for completion positions alone. ``kwargs`` go to the model (a cache, for one).
    """
    from torch.nn.functional import cross_entropy

    logits = model(**batch.inputs(), logits_to_keep=batch.width + 1, **kwargs).logits[:, :-1]
    flat = cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view_as(batch.labels)


@dataclass(frozen=True)
class BranchedBatch:
    """Rows with branches behind their completions, each branch seeing only what it would see in its place.

    ``attention`` has shape (rows, 1, length, past + length): 0 where a position is seen, a very negative number elsewhere.
    ``scored`` lists, for each row, the (last positions back from the end, ids) pairs: where a token is predicted, and the token;
    those of the completion first, then those of each branch, whose lengths are ``parts``.
    """

    input_ids: Tensor
    attention: Tensor
    position_ids: Tensor
    sources: list[list[int]]
    targets: list[list[int]]
    parts: list[list[int]]
    width: int


def branched(
    rows: Sequence[Row], branches: Sequence[Sequence[Branch]], pad_id: int, past: int = 0, dtype: Any = None
) -> BranchedBatch:
    """Return rows and their branches as one right-aligned batch behind ``past`` cached positions.

    One forward then scores a completion and all that might stand in its stead, instead of one a variant. Prompts must not be
    empty. Source: ours (tree attention, as speculative decoding uses it).
    """
    import torch

    dtype = dtype or torch.float32
    width = max(len(c) + sum(len(b.ids) for b in own) for (_, c), own in zip(rows, branches, strict=True))
    length = max(len(p) + len(c) + sum(len(b.ids) for b in own) for (p, c), own in zip(rows, branches, strict=True))
    input_ids = torch.full((len(rows), length), pad_id)
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    seen = torch.zeros((len(rows), length, past + length), dtype=torch.bool)
    batch = BranchedBatch(input_ids, seen, positions, [], [], [], width)
    for i, ((prompt, completion), own) in enumerate(zip(rows, branches, strict=True)):
        ids = [*prompt, *completion, *(token for b in own for token in b.ids)]
        trunk, start = len(prompt) + len(completion), length - len(ids)
        input_ids[i, start:] = torch.tensor(ids)
        positions[i, start : start + trunk] = torch.arange(past, past + trunk)
        seen[i, start:, :past] = True
        here = seen[i, start:, past + start :]
        here[:trunk, :trunk] = torch.ones(trunk, trunk, dtype=torch.bool).tril()
        sources = list(range(len(prompt) - 1, trunk - 1))
        first = trunk
        for b in own:
            n, parent = len(b.ids), len(prompt) + b.at
            here[first : first + n, :parent] = True
            here[first : first + n, first : first + n] = torch.ones(n, n, dtype=torch.bool).tril()
            positions[i, start + first : start + first + n] = torch.arange(past + parent, past + parent + n)
            sources += [parent - 1, *range(first, first + n - 1)]
            first += n
        batch.sources.append([j - len(ids) + width + 1 for j in sources])  # among the last width + 1 positions
        batch.targets.append(ids[len(prompt) :])
        batch.parts.append([len(completion), *(len(b.ids) for b in own)])
    hidden = torch.zeros((len(rows), 1, length, past + length), dtype=dtype)
    hidden.masked_fill_(~seen[:, None], torch.finfo(dtype).min)
    return replace(batch, attention=hidden)


def branched_nll(model: Any, batch: BranchedBatch, **kwargs: Any) -> list[list[Tensor]]:
    """Return for each row the negative log-likelihoods in nats: of each token of its completion, then of each branch's."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention,
        position_ids=batch.position_ids,
        logits_to_keep=batch.width + 1,
        **kwargs,
    ).logits
    found = []
    for row, sources, targets, parts in zip(logits, batch.sources, batch.targets, batch.parts, strict=True):
        nll = cross_entropy(row[sources].float(), torch.tensor(targets), reduction="none")
        found.append(list(nll.split(parts)))
    return found


@dataclass(frozen=True)
class Prefix:
    """The few-shot text's ids and, on the side, their key-value cache for one row."""

    ids: list[int]
    cache: Any

    def for_rows(self, n: int) -> Any:
        """Return a fresh cache of ``n`` rows; the model appends to it, so each batch gets its own."""
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(n)
        return cache


def run_prefix(base: Base, text: str) -> Prefix:
    """Run the opening token and the few-shot ``text`` through the model once and keep their cache."""
    import torch

    ids = base.start + base.encode(text)
    if not ids:
        return Prefix([], None)
    with torch.inference_mode():
        cache = base.model(torch.tensor([ids]), use_cache=True, logits_to_keep=1).past_key_values
    return Prefix(ids, cache)


def likelihoods(
    base: Base,
    prefix: Prefix,
    rows: Sequence[Row],
    branches: Sequence[Sequence[Branch]],
    batch_size: int,
    title: str = "",
) -> list[tuple[Tensor, list[Tensor]]]:
    """Return for each row behind the prefix the negative log-likelihood in nats of its completion's tokens, and of its
    branches' tokens.

    Branches are scored in the same forward as their completion; only where text is longer than a model's sliding window does
    each become a row of its own.
    """
    import torch

    reach: list[Row] = [
        (prompt, completion + [0] * max((b.at + len(b.ids) - len(completion) for b in own), default=0))
        for (prompt, completion), own in zip(rows, branches, strict=True)
    ]
    if any(branches) and _exceeds_window(base, prefix, reach, 0):
        return _likelihoods_apart(base, prefix, rows, branches, batch_size, title)
    found: list[tuple[Tensor, list[Tensor]]] = [(torch.empty(0), [])] * len(rows)
    flat: list[Row] = [
        (prompt, completion + [token for branch in own for token in branch.ids])
        for (prompt, completion), own in zip(rows, branches, strict=True)
    ]
    past, pad = len(prefix.ids), base.pad_id
    with torch.inference_mode():
        for indices in _by_length(flat, batch_size, _exceeds_window(base, prefix, flat, 0), title):
            some, cache = [rows[i] for i in indices], prefix.for_rows(len(indices))
            if any(branches[i] for i in indices):
                tree = branched(some, [branches[i] for i in indices], pad, past, base.model.dtype)
                scored = branched_nll(base.model, tree, past_key_values=cache)
            else:
                batch = right_aligned(some, pad, past)
                tokens = completion_nll(base.model, batch, past_key_values=cache)
                scored = [[row[batch.width - len(c) :]] for row, (_, c) in zip(tokens, some, strict=True)]
            for i, (own, *others) in zip(indices, scored, strict=True):
                found[i] = own, others
    return found


def _likelihoods_apart(
    base: Base,
    prefix: Prefix,
    rows: Sequence[Row],
    branches: Sequence[Sequence[Branch]],
    batch_size: int,
    title: str,
) -> list[tuple[Tensor, list[Tensor]]]:
    apart: list[Row] = []
    for (prompt, completion), own in zip(rows, branches, strict=True):
        apart += [(prompt, completion), *((prompt + completion[: b.at], b.ids) for b in own)]
    scored = iter(likelihoods(base, prefix, apart, [[]] * len(apart), batch_size, title))
    return [(next(scored)[0], [next(scored)[0] for _ in own]) for own in branches]


def greedy(base: Base, prefix: Prefix, rows: Sequence[Row], max_new_tokens: int) -> list[list[int]]:
    """Return the most likely continuation of each row behind the prefix, token by token, up to a stop token.

    Our own loop and not generate(): finished rows leave the batch, so one rambling answer does not keep all others in it.
    """
    import torch

    batch = right_aligned(rows, base.pad_id, past=len(prefix.ids))
    inputs, alive = batch.inputs(), torch.arange(len(rows))
    cache, stop = prefix.for_rows(len(rows)), torch.tensor(base.stop_ids)
    answers: list[list[int]] = [[] for _ in rows]
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            out = base.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, tokens = out.past_key_values, out.logits[:, -1].argmax(-1)
            for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
                answers[row].append(token)
            going = (~torch.isin(tokens, stop)).nonzero().flatten()
            if not len(going):
                break
            if len(going) < len(tokens):
                cache.batch_select_indices(going)
            alive = alive[going]
            mask, position = inputs["attention_mask"][going], inputs["position_ids"][going, -1:] + 1
            inputs = {
                "input_ids": tokens[going, None],
                "attention_mask": torch.cat([mask, torch.ones_like(position)], dim=1),
                "position_ids": position,
            }
    return answers


def _exceeds_window(base: Base, prefix: Prefix, rows: Sequence[Row], new_tokens: int) -> bool:
    """Say whether some row is longer than the model's sliding window, in which padding would take the place of text."""
    window = getattr(base.model.config, "sliding_window", None)
    longest = len(prefix.ids) + max((len(p) + len(c) for p, c in rows), default=0) + new_tokens
    return window is not None and longest > window


def _by_length(rows: Sequence[Row], batch_size: int, equal: bool, title: str) -> Any:
    """Return the indices of each batch, rows of like (or ``equal``) length together, behind a progress bar."""
    from tqdm import tqdm

    def length(i: int) -> int:
        return len(rows[i][0]) + len(rows[i][1])

    order = sorted(range(len(rows)), key=lambda i: (length(i), i))
    groups = [list(group) for _, group in groupby(order, key=length)] if equal else [order]
    batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]
    return tqdm(batches, desc=title.strip(), unit="batch", leave=False, mininterval=1)
