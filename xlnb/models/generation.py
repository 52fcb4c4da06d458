"""Greedy answers, token by token: one stream in which a finished row's place is taken by the next, or vLLM where it pays.

Our own loop and not transformers' continuous batching, which runs in a thread of its own, where autocast does not reach: its
arithmetic would not be that of the likelihoods beside it.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from xlnb import progress
from xlnb.models.engine import Engine, Prefix, Row, padded_masks, right_aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from xlnb.models.base import Base

LINE_BREAK = "\n"
WORTH_VLLM = 10**9  # parameters: vLLM's start takes about a minute, in which our loop has answered for a smaller model
_SHARE = 0.9  # of the free memory of a GPU that vLLM may take


def answers(
    engine: Engine, prefix: Prefix, prompts: Sequence[list[int]], n: int, stops: Sequence[str] = (LINE_BREAK,)
) -> list[str]:
    """Return each prompt's greedy answer behind the prefix: ``n`` tokens at most, up to the first of the ``stops``.

    By vLLM on a GPU where it is installed and the model has a thousand million parameters, else by our own stream of rows.
    """
    base = engine.base
    by_library = base.device.type == "cuda" and base.model.num_parameters() >= WORTH_VLLM and find_spec("vllm")
    told = (by_vllm if by_library else streamed)(engine, prefix, prompts, n, stops)
    return [until(base.decode(ids), stops).strip() for ids in told]


def streamed(
    engine: Engine, prefix: Prefix, prompts: Sequence[list[int]], n: int, stops: Sequence[str]
) -> list[list[int]]:
    """Return the ids of each prompt's answer, written in one stream of ``engine.generation_batch_size`` rows.

    As soon as a quarter of the rows is done the next prompts join the others (continuous batching), so that one rambling answer
    keeps nobody waiting.
    """
    rows: list[Row] = [(prompt, []) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    told: dict[int, list[int]] = {}
    shown = progress.bar(total=len(prompts), desc=f"{engine.title} answers".strip(), unit="answer")
    asked, at_once = [prompts[i] for i in order], engine.generation_batch_size
    beyond = engine.exceeds_window(prefix, rows, n)
    with engine.base.autocast():  # around all steps, too, so that the weights are rounded once
        for place, ids in _stream(engine.base, prefix, asked, n, stops, at_once, beyond):
            told[order[place]] = ids
            shown.update()
    shown.close()
    return [told[i] for i in range(len(prompts))]


def _stream(
    base: Base, prefix: Prefix, prompts: Sequence[list[int]], n: int, stops: Sequence[str], at_once: int, beyond: bool
) -> Iterator[tuple[int, list[int]]]:
    """Yield the place and the ids of each answer when it is done; ``beyond`` says that texts may exceed a sliding window."""
    answers: list[list[int]] = [[] for _ in prompts]
    ended, waiting, rows = _ends(base, stops), list(range(len(prompts))), _Rows([])
    while waiting or rows.asked:
        free = at_once - len(rows.asked)
        joins = bool(waiting) and (not rows.asked or (rows.roomy and free >= max(1, at_once // 4)))
        with torch.no_grad(), base.autocast():  # inference mode keeps no rounded weight
            new = rows
            if joins:
                some, waiting = waiting[:free], waiting[free:]
                first = right_aligned(
                    [(prompts[i], []) for i in some], base.pad_id, len(prefix.ids), device=base.device
                )
                cache = prefix.for_rows(len(some), whole=beyond)
                new = _Rows(some, cache, first.input_ids, first.attention_mask, first.position_ids)
            new.step(base, beyond)
            for i, token in zip(new.asked, new.input_ids.flatten().tolist(), strict=True):
                answers[i].append(token)
            done = ended(new.input_ids.flatten(), [answers[i] for i in new.asked])
            done |= torch.tensor([len(answers[i]) >= n for i in new.asked], device=base.device)
            finished = [i for i, ends in zip(new.asked, done.tolist(), strict=True) if ends]
            new.keep((~done).nonzero().flatten())
            if joins:
                rows = _joined([part for part in (rows, new) if part.asked], n)
        yield from ((i, answers[i]) for i in finished)


def _ends(base: Base, stops: Sequence[str]) -> Callable[[Tensor, list[list[int]]], Tensor]:
    """Return what says of each row, by its last token and by all of them, whether its answer ends here."""
    ends = torch.tensor(base.stop_ids if LINE_BREAK in stops else base.end_ids, device=base.device)
    texts = [stop for stop in stops if stop != LINE_BREAK]

    def ended(tokens: Tensor, answers: list[list[int]]) -> Tensor:
        done = torch.isin(tokens, ends)
        if texts:
            whole = [base.decode(answer) for answer in answers]
            done |= torch.tensor([until(text, texts) != text for text in whole], device=base.device)
        return done

    return ended


def until(text: str, stops: Sequence[str]) -> str:
    """Return an answer up to the first of the stops; all but a line break count from behind the white space that it begins with.

    >>> until("So 5.\\n\\nQuestion: 7?", ["\\nQuestion:"]), until("\\nQuestion: 7?", ["\\nQuestion:"]) == "\\nQuestion: 7?"
    ('So 5.\\n', True)
    >>> until("Question: 7?", ["Question:"])
    ''
    """
    begun = len(text) - len(text.lstrip())
    places = [text.find(stop, 0 if stop == LINE_BREAK else begun) for stop in stops]
    return text[: min([place for place in places if place >= 0], default=len(text))]


@dataclass
class _Rows:
    """Rows in the middle of their answers: which prompts they answer, what the model has read of them, and what it reads next."""

    asked: list[int]
    cache: Any = None
    input_ids: Any = None  # shape (rows, 1), before the first step (rows, longest prompt)
    attention_mask: Any = None  # shape (rows, what is read and what is read next)
    position_ids: Any = None  # shape as input_ids
    roomy: bool = False  # whether others can join

    def step(self, base: Base, beyond: bool) -> None:
        """Read, and write the likeliest token of each row."""
        mask = padded_masks(base, self.attention_mask, self.position_ids) if beyond else self.attention_mask
        read = {"input_ids": self.input_ids, "attention_mask": mask, "position_ids": self.position_ids}
        out = base.model(**read, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache, self.input_ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
        self.position_ids = self.position_ids[:, -1:] + 1
        self.attention_mask = pad(self.attention_mask, (0, 1), value=1)

    def keep(self, places: Tensor) -> None:
        """Drop all rows but those at some places."""
        if len(places) == len(self.asked):
            return
        self.asked = [self.asked[i] for i in places.tolist()]
        if self.asked:
            self.cache.batch_select_indices(places)
        self.input_ids, self.position_ids = self.input_ids[places], self.position_ids[places]
        self.attention_mask = self.attention_mask[places]


def _joined(parts: Sequence[_Rows], n: int) -> _Rows:
    """Return rows as one batch, flush at the right, with places for the ``n`` tokens that each may still get.

    A cache with other layers than transformers' usual two is left as it is: others join when its rows have ended.
    """
    if not parts:
        return _Rows([])
    if not all(type(layer) in _PLAIN and layer.is_initialized for rows in parts for layer in rows.cache.layers):
        (alone,) = parts
        return alone
    seen = [rows.attention_mask[:, :-1] for rows in parts]  # of what is in the cache
    starts = [int(mask.any(dim=0).int().argmax()) for mask in seen]
    width = max(mask.shape[1] - start for mask, start in zip(seen, starts, strict=True))
    masks = [_flush_right(rows.attention_mask, start, width + 1) for rows, start in zip(parts, starts, strict=True)]
    cache = parts[0].cache
    for place in range(len(cache.layers)):
        same = [rows.cache.layers[place] for rows in parts]
        for rows in parts:
            rows.cache.layers[place] = None  # so that one layer is held twice for a moment, not all
        cache.layers[place] = _Roomy(same, starts, width, n)
    return _Rows(
        [i for rows in parts for i in rows.asked],
        cache,
        torch.cat([rows.input_ids for rows in parts]),
        torch.cat(masks),
        torch.cat([rows.position_ids for rows in parts]),
        roomy=True,
    )


def _flush_right(tensor: Tensor, start: int, width: int, room: int = 0, behind: int = 0) -> Tensor:
    """Return what a tensor has from ``start`` on along its last dimension but ``behind``, flush at the right of ``width`` places,
    with ``room`` more of them after these.
    """
    kept = tensor.narrow(-1 - behind, start, tensor.shape[-1 - behind] - start)
    return pad(kept, (*[0, 0] * behind, width - kept.shape[-1 - behind], room))


class _Roomy(DynamicLayer):
    """A layer's keys and values in blocks with places for more: a token is added without copying all that stands before it."""

    def __init__(self, layers: Sequence[DynamicLayer], starts: Sequence[int], width: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layers[0].dtype, layers[0].device, True
        self.is_sliding = layers[0].is_sliding  # by which a model finds the layer whose mask it makes
        self._length = width
        self._blocks = [
            torch.cat([_flush_right(part, start, width, room, 1) for part, start in zip(parts, starts, strict=True)])
            for parts in zip(*(_kept(layer) for layer in layers), strict=True)
        ]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (block[:, :, : self._length] for block in self._blocks)
        self.keys, self.values = keys, values
        return keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        start, self._length = self._length, self._length + key_states.shape[2]
        for block, new in zip(self._blocks, (key_states, value_states), strict=True):
            block[:, :, start : self._length] = new
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._blocks = [block[indices] for block in self._blocks]
        self._show()


def _kept(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    assert layer.keys is not None and layer.values is not None  # it is initialized
    return layer.keys, layer.values


_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer, _Roomy)


def by_vllm(
    engine: Engine, prefix: Prefix, prompts: Sequence[list[int]], n: int, stops: Sequence[str]
) -> list[list[int]]:
    """Return the ids of each prompt's answer as vLLM writes it with ``base.model`` as it stands, a merge or an expert.

    The weights are written to a folder that is removed afterwards; the same ids are asked, in the base's arithmetic. Stops are
    tokens here: texts among them are looked for by the caller, since vLLM would need the tokenizer for them.
    """
    os.environ.setdefault(
        "VLLM_ENABLE_V1_MULTIPROCESSING", "0"
    )  # in this process, so that its memory is free when it ends
    from vllm import LLM, SamplingParams

    base = engine.base
    params = SamplingParams(
        temperature=0.0,
        max_tokens=n,
        stop_token_ids=base.stop_ids if LINE_BREAK in stops else base.end_ids,
        detokenize=False,
    )
    asked = [{"prompt_token_ids": prefix.ids + prompt} for prompt in prompts]
    longest = max(len(prefix.ids) + len(prompt) for prompt in prompts) + n
    with tempfile.TemporaryDirectory(prefix="xlnb-served-") as folder:
        base.model.save_pretrained(folder)
        llm = LLM(
            model=folder,
            skip_tokenizer_init=True,
            dtype=base.dtype,
            max_model_len=longest,
            gpu_memory_utilization=_share_of_memory(base),
            enable_prefix_caching=True,
            enforce_eager=len(prompts) < 1000,  # capturing graphs takes longer than so few answers
        )
        outputs = llm.generate(asked, params)
        del llm
        gc.collect()
        if base.device.type == "cuda":
            torch.cuda.empty_cache()
    return [list(output.outputs[0].token_ids) for output in outputs]


def _share_of_memory(base: Base) -> float:
    """Return which share of the whole GPU is a fixed share of what is free: the base stays where it is."""
    if base.device.type != "cuda":
        return _SHARE
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info(base.device)
    return round(_SHARE * free / whole, 3)
