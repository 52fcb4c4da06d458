"""The one engine that calls a model: likelihoods of rows behind a few-shot text, on the model's own device.

Rows of (prompt, completion) become right-aligned batches; training takes its batches and their loss from here, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from xlnb import progress
from xlnb.cores import PASSES, on_cores
from xlnb.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from xlnb.models.base import Base

Row = tuple[list[int], list[int]]  # ids of the prompt, ids of the completion
Told = TypeVar("Told")
IGNORED = -100
_MOST_LOGITS = 2**25  # in a batch: more of them only wait for memory, however large the vocabulary


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


def right_aligned(rows: Sequence[Row], pad_id: int, past: int = 0, *, device: Any) -> Batch:
    """Return the rows as one batch behind ``past`` cached positions.

    Right-aligned, since then the logits of all completions lie in the last ``width`` + 1 positions, and a head over a large
    vocabulary is computed for those alone. Raises RequestError for a row with nothing before its completion.
    """
    if not past and not all(prompt for prompt, _ in rows):
        raise RequestError(
            "A row has an empty prompt and nothing before it, so its first token would be predicted from padding: give a prompt, "
            "since this tokenizer opens no text with a token of its own."
        )
    lengths = [len(prompt) + len(completion) for prompt, completion in rows]
    length, width = max(lengths), max(len(completion) for _, completion in rows)
    mask = [[1] * past + [0] * (length - n) + [1] * n for n in lengths]
    return Batch(
        input_ids=_flush([prompt + completion for prompt, completion in rows], pad_id, length, device),
        attention_mask=_flush(mask, 0, past + length, device),
        position_ids=_flush([range(past, past + n) for n in lengths], past, length, device),
        labels=_flush([completion for _, completion in rows], IGNORED, width, device),
        width=width,
    )


def _flush(lists: Sequence[Sequence[int]], filler: int, width: int, device: Any) -> Tensor:
    import torch

    filled = [[*[filler] * (width - len(numbers)), *numbers] for numbers in lists]
    return torch.tensor(filled, dtype=torch.long, device=device)


def completion_logits(model: Any, batch: Batch, **kwargs: Any) -> Tensor:
    """Return the logits of each completion token, shape (rows, width, vocabulary), float32.

    They are computed for completion positions alone. ``kwargs`` go to the model (a cache, or another mask).
    """
    return model(**(batch.inputs() | kwargs), logits_to_keep=batch.width + 1).logits[:, :-1].float()


def completion_nll(model: Any, batch: Batch, **kwargs: Any) -> Tensor:
    """Return the negative log-likelihood in nats of each completion token, shape (rows, width), 0 where there is none."""
    return token_nll(completion_logits(model, batch, **kwargs), batch.labels)


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats of each label, shape (rows, width), 0 where it is ``IGNORED``."""
    from torch.nn.functional import cross_entropy

    flat = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view_as(labels)


@dataclass(frozen=True)
class BranchedBatch:
    """Rows with branches behind their completions, each branch seeing only what it would see in its place.

    ``inputs`` is what the model's forward takes; its attention_mask, of shape (rows, 1, length, past + length) or one for each
    kind of layer, is 0 where a position is seen and a very negative number elsewhere. ``scored`` holds for each row where, among
    the last ``width`` + 1 positions, each token of the completion and then of the branches is predicted; these tokens; and how
    many each part has.
    """

    inputs: dict[str, Any]
    scored: list[tuple[list[int], list[int], list[int]]]
    width: int


def branched(rows: Sequence[Row], branches: Sequence[Sequence[Branch]], base: Base, past: int = 0) -> BranchedBatch:
    """Return rows and their branches as one right-aligned batch behind ``past`` cached positions.

    One forward then scores a completion and all that might stand in its stead, instead of one a variant. Prompts must not be
    empty. Source: ours (tree attention, as speculative decoding uses it).
    """
    import torch

    targets = [_written(completion, own) for (_, completion), own in zip(rows, branches, strict=True)]
    ids = [prompt + written for (prompt, _), written in zip(rows, targets, strict=True)]
    length, width = max(map(len, ids)), max(map(len, targets))
    seen = torch.zeros((len(rows), length, past + length), dtype=torch.bool, device="cpu")
    positions, scored = [], []
    for i, ((prompt, completion), own) in enumerate(zip(rows, branches, strict=True)):
        start, trunk = length - len(ids[i]), len(prompt) + len(completion)
        seen[i, start:, :past] = True
        here = seen[i, start:, past + start :]
        here[:trunk, :trunk].fill_(True).tril_()
        places, predicted = list(range(trunk)), list(range(len(prompt) - 1, trunk - 1))
        for branch in own:
            first, last, parent = len(places), len(places) + len(branch.ids), len(prompt) + branch.at
            here[first:last, :parent] = True
            here[first:last, first:last].fill_(True).tril_()
            places += range(parent, parent + len(branch.ids))
            predicted += [parent - 1, *range(first, last - 1)]
        positions.append([past + place for place in places])
        sources = [place - len(ids[i]) + width + 1 for place in predicted]
        scored.append((sources, targets[i], [len(completion), *(len(branch.ids) for branch in own)]))
    read = _flush(positions, 0, length, "cpu")
    before = torch.arange(past, device="cpu").expand(len(rows), -1)
    inputs = {
        "input_ids": _flush(ids, base.pad_id, length, base.device),
        "position_ids": read.to(base.device),
        "attention_mask": masks(base, seen, read, torch.cat([before, read], dim=1)),
    }
    return BranchedBatch(inputs, scored, width)


def masks(base: Base, seen: Tensor, read: Tensor, keys: Tensor) -> Tensor | dict[str, Tensor]:
    """Return the attention mask of what is ``seen``, by kind of layer where some look back no farther than a sliding window.

    ``seen`` has shape (rows, read, keys); ``read`` (rows, read) and ``keys`` (rows, keys) are positions in the text, whatever
    stands between them in a batch: a model's own mask counts padding as text.
    """
    import torch

    def added(seen: Tensor) -> Tensor:
        dtype, hidden = getattr(torch, base.dtype), ~seen[:, None].to(base.device)
        return torch.zeros(hidden.shape, dtype=dtype, device=base.device).masked_fill_(hidden, torch.finfo(dtype).min)

    config = base.language_config
    window = getattr(config, "sliding_window", None)
    if window is None or int(read.max()) < window:
        return added(seen)
    near = seen & (read[:, :, None] - keys[:, None, :] < window)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    told = {kind: added(near if kind == "sliding_attention" else seen) for kind in kinds}
    return told if len(told) > 1 else told.popitem()[1]


def padded_masks(base: Base, there: Tensor, read: Tensor) -> Tensor | dict[str, Tensor]:
    """Return the :func:`masks` of rows whose 2D attention mask is ``there`` and which read the positions ``read``."""
    keys = there.cumsum(dim=1) - 1
    return masks(base, there.bool()[:, None] & (keys[:, None] <= read[:, :, None]), read, keys)


def _written(completion: list[int], branches: Sequence[Branch]) -> list[int]:
    return completion + [token for branch in branches for token in branch.ids]


def branched_nll(
    model: Any, batch: BranchedBatch, temperatures: Sequence[float] = (1.0,), **kwargs: Any
) -> list[list[Tensor]]:
    """Return for each row the negative log-likelihoods in nats: of each token of its completion, then of each branch's.

    Each tensor has shape (temperatures, tokens).
    """
    logits = model(**batch.inputs, logits_to_keep=batch.width + 1, **kwargs).logits
    return [
        list(_nll_at(row[sources], targets, temperatures).split(parts, dim=1))
        for row, (sources, targets, parts) in zip(logits, batch.scored, strict=True)
    ]


def _nll_at(logits: Tensor, targets: Sequence[int], temperatures: Sequence[float]) -> Tensor:
    """Return the negative log-likelihoods of targets, shape (temperatures, tokens), from logits (tokens, vocabulary)."""
    import torch
    from torch.nn.functional import cross_entropy

    wanted = torch.tensor(targets, dtype=torch.long, device=logits.device)
    return torch.stack([cross_entropy(logits.float() / degree, wanted, reduction="none") for degree in temperatures])


@dataclass(frozen=True)
class Prefix:
    """The few-shot text's ids and, on the side, their key-value cache for one row."""

    ids: list[int]
    cache: Any

    def for_rows(self, n: int, whole: bool = False) -> Any:
        """Return a fresh cache of ``n`` rows; the model appends to it, so each batch gets its own.

        With ``whole`` its layers keep all that they are given, as :func:`masks` needs it, also those of a sliding window.
        """
        from transformers import DynamicCache

        cache = copy.deepcopy(self.cache)
        if whole:
            cache = _whole(cache or DynamicCache(), len(self.ids))
        if self.ids:
            cache.batch_repeat_interleave(n)
        return cache


def _whole(cache: Any, past: int) -> Any:
    from torch.nn.functional import pad
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicSlidingWindowLayer:
            kept: list[Any] = [layer.keys, layer.values]
            gone = past - kept[0].shape[2]  # farther back than any window reaches: no mask shows it
            cache.layers[place] = whole = DynamicLayer()
            whole.lazy_initialization(*kept)
            whole.keys, whole.values = (pad(part, (0, 0, gone, 0)) for part in kept)
    return cache


@dataclass(frozen=True)
class Engine:
    """Asks ``base.model`` as it stands: under :func:`xlnb.applied`, an expert or merge. Batch sizes may change last bits."""

    base: Base
    batch_size: int = 32  # rows of a likelihood batch
    generation_batch_size: int = 64
    title: str = ""  # what progress bars begin with

    def prefix(self, text: str | Sequence[int]) -> Prefix:
        """Run the opening token and the few-shot ``text`` (or its ids) through the model once and keep their cache."""
        import torch

        base = self.base
        ids = base.start + (base.encode(text) if isinstance(text, str) else list(text))
        if not ids:
            return Prefix([], None)
        with torch.inference_mode(), base.autocast():
            asked = torch.tensor([ids], device=base.device)
            return Prefix(ids, base.model(asked, use_cache=True, logits_to_keep=1).past_key_values)

    def nll(
        self,
        prefix: Prefix,
        rows: Sequence[Row],
        branches: Sequence[Sequence[Branch]] | None = None,
        temperatures: Sequence[float] = (1.0,),
        what: str = "likelihood",
    ) -> list[list[Tensor]]:
        """Return for each row behind the prefix the negative log-likelihoods in nats: of each token of its completion, then of
        each of its branches', tensors of shape (temperatures, tokens) on the CPU.

        Branches are scored in the same forward as their completion.
        """
        base, past = self.base, len(prefix.ids)
        branches = branches or [[]] * len(rows)
        beyond = self.exceeds_window(prefix, _reach(rows, branches))
        whole = [(p, _written(c, own)) for (p, c), own in zip(rows, branches, strict=True)]

        def scored(indices: Sequence[int]) -> list[list[Tensor]]:
            some, own = [rows[i] for i in indices], [branches[i] for i in indices]
            cache = prefix.for_rows(len(indices), whole=beyond)
            if beyond or any(own):
                found = branched_nll(base.model, branched(some, own, base, past), temperatures, past_key_values=cache)
            else:
                batch = right_aligned(some, base.pad_id, past, device=base.device)
                logits = completion_logits(base.model, batch, past_key_values=cache)
                found = [
                    [_nll_at(row[batch.width - len(c) :], c, temperatures)]
                    for row, (_, c) in zip(logits, some, strict=True)
                ]
            return [[part.cpu() for part in parts] for parts in found]

        found: dict[int, list[Tensor]] = {}
        for indices, some in self._each(scored, whole, what):
            found |= zip(indices, some, strict=True)
        return [found[i] for i in range(len(rows))]

    def logits(self, prefix: Prefix, rows: Sequence[Row], wanted: Sequence[Sequence[bool]]) -> tuple[Tensor, Tensor]:
        """Return the logits of the completions' ``wanted`` tokens, shape (tokens, vocabulary), and these tokens' ids: those of
        the shortest rows first.
        """
        import torch

        past, beyond = len(prefix.ids), self.exceeds_window(prefix, rows)

        def scored(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            some, cache = [rows[i] for i in indices], prefix.for_rows(len(indices), whole=beyond)
            batch = right_aligned(some, self.base.pad_id, past, device=self.base.device)
            asked = {"past_key_values": cache}
            if beyond:
                asked["attention_mask"] = padded_masks(self.base, batch.attention_mask, batch.position_ids)
            here = _flush([wanted[i] for i in indices], 0, batch.width, self.base.device).bool()
            return completion_logits(self.base.model, batch, **asked)[here], batch.labels[here]

        told = [found for _, found in self._each(scored, rows, "temperature")]
        logits, targets = zip(*reversed(told), strict=True)
        return torch.cat(logits), torch.cat(targets)

    def _each(
        self, do: Callable[[Sequence[int]], Told], rows: Sequence[Row], what: str
    ) -> list[tuple[list[int], Told]]:
        """Return each batch of likelihoods, the longest rows first, as indices and ``do`` of them, behind a progress bar."""
        import torch

        def asked(indices: Sequence[int]) -> Told:
            # In the thread that does it; and not inference mode, which keeps no rounded weight.
            with torch.no_grad(), self.base.autocast():
                return do(indices)

        batches = ordered(rows, self._rows_at_once(rows))[::-1]
        done = on_cores(asked, batches, PASSES if self.base.device.type == "cpu" else 1)
        shown = progress.bar(done, total=len(batches), desc=f"{self.title} {what}".strip(), unit="batch")
        with self.base.autocast():  # around all of them, too, so that a GPU rounds the weights once
            return list(zip(batches, shown, strict=True))

    def _rows_at_once(self, rows: Sequence[Row]) -> int:
        widest = 1 + max((len(completion) for _, completion in rows), default=0)
        vocabulary = len(self.base.model.get_output_embeddings().weight)
        return max(1, min(self.batch_size, _MOST_LOGITS // (widest * vocabulary)))

    def exceeds_window(self, prefix: Prefix, rows: Sequence[Row], new_tokens: int = 0) -> bool:
        """Say whether some row is longer than the model's sliding window, where a model's own mask counts padding as text."""
        window = getattr(self.base.language_config, "sliding_window", None)
        longest = len(prefix.ids) + max((len(p) + len(c) for p, c in rows), default=0) + new_tokens
        return window is not None and longest > window


def ordered(rows: Sequence[Row], batch_size: int) -> list[list[int]]:
    """Return each batch's indices: rows of like length together, the shortest first."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _reach(rows: Sequence[Row], branches: Sequence[Sequence[Branch]]) -> list[Row]:
    """Return the rows as long as their longest branch makes them."""
    return [
        (prompt, max([completion, *(completion[: b.at] + b.ids for b in own)], key=len))
        for (prompt, completion), own in zip(rows, branches, strict=True)
    ]
