"""Rows of (prompt, completion) as one right-aligned batch, and the log-likelihood of its completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Row = tuple[list[int], list[int]]  # ids of the prompt, ids of the completion
IGNORED = -100


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
