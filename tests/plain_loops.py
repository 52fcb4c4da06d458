"""Texts, task vectors and losses for tests of analysis: one text after the other, merged and computed anew."""

import torch

from xlnb.models.engine import completion_nll, right_aligned
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector

TEXTS = [
    ("2 + 3 = ", "5."),
    ("Mama ana maembe ", "kumi na mbili sokoni."),
    ("a", "b c d e f g h i j k"),
    ("x y z ", "w"),
]


def rows_of(base, count=3):
    return [(base.start + base.encode(prompt), base.encode(completion)) for prompt, completion in TEXTS[:count]]


def vector_of(base, names, seed=0, size=0.05):
    """A random task vector over some parameters."""
    generator, parameters = torch.Generator().manual_seed(seed), dict(base.model.named_parameters())
    return TaskVector.of({name: size * torch.randn(parameters[name].shape, generator=generator) for name in names})


def loss_of(base, row):
    """A text's mean loss over its completion's tokens, as a tensor."""
    batch = right_aligned([row], base.pad_id, device=base.device)
    return completion_nll(base.model, batch, use_cache=False).sum() / len(row[1])


def losses_by_loop(base, vector, rows):
    with torch.no_grad(), applied(base.model, vector):
        return [loss_of(base, row).item() for row in rows]
