"""Few-shot evaluation: likelihood of the solution, and greedy answers read for number and calculations.

The few-shot prefix is run through the model once and its key-value cache reused over all problems. Outcomes are kept problem
by problem, so that every comparison can be paired.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xlnb.answers import CALCULATION, extract_number, has_calculations
from xlnb.batches import Row, completion_nll, right_aligned
from xlnb.corpora import templates
from xlnb.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.models import Base

NLL, EXPRESSION_NLL, EXACT_MATCH, EXPRESSION = "nll", "expression-nll", "exact-match", "expression"
METRICS = (NLL, EXPRESSION_NLL, EXPRESSION, EXACT_MATCH)
HIGHER_IS_BETTER = {NLL: False, EXPRESSION_NLL: False, EXACT_MATCH: True, EXPRESSION: True}


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a model, and how: the same for all methods of a comparison."""

    split: str = "scored"  # of the templates corpus
    problems: int = 200  # problems whose solutions are scored by likelihood
    generated: int = 64  # of these, the first so many are answered by generation
    shots: int = 2  # worked examples before each problem, in the problem's language
    exemplar_seed: int = 0  # which worked examples: the same for all methods
    problem_seed: int = 0  # which problems
    max_new_tokens: int = 110  # an answer is cut there, or at its first line break
    batch_size: int = 32  # rows of a likelihood batch; fixed, since it may change the last bits of a score
    generation_batch_size: int = 64  # rows of a generation batch

    def __post_init__(self) -> None:
        if not 0 <= self.generated <= self.problems or self.problems < 1:
            raise RequestError(
                f"problems={self.problems} and generated={self.generated}: ask for at least one problem, and generate "
                "answers to at most as many."
            )
        for name in ("shots", "max_new_tokens", "batch_size", "generation_batch_size"):
            if getattr(self, name) < (0 if name == "shots" else 1):
                raise RequestError(f"Evaluation.{name} is {getattr(self, name)}: it is too small.")


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


def evaluate(base: Base, language: str, evaluation: Evaluation, title: str = "") -> pd.DataFrame:
    """Evaluate ``base.model`` as it stands on the templates problems of ``language``.

    Returns one row a problem and metric: problem, metric, outcome (float), text (the generated answer, or None). Outcomes are
    nats per token for ``nll`` (all tokens of the gold solution) and ``expression-nll`` (those of its ``a op b`` alone: which
    numbers, which operation), and 0 or 1 for ``expression`` and ``exact-match`` of the generated answer. The base model, under
    :func:`xlnb.merging.applied`, is any expert or merge. Source: readings ours, 2-shot as in the paper (reported).
    """
    import pandas as pd

    problems = templates.problems(language, evaluation.split, evaluation.problems, evaluation.problem_seed)
    prefix = run_prefix(base, templates.few_shot_prefix(language, evaluation.shots, evaluation.exemplar_seed))
    rows: list[tuple[str, str, float, str | None]] = []
    for p, (nll, expression_nll) in zip(
        problems, solution_nll(base, prefix, problems, evaluation.batch_size, title), strict=True
    ):
        rows += [(p.id, NLL, nll, None), (p.id, EXPRESSION_NLL, expression_nll, None)]
    asked = problems[: evaluation.generated]
    answers = generate_answers(base, prefix, asked, evaluation.max_new_tokens, evaluation.generation_batch_size, title)
    for p, text in zip(asked, answers, strict=True):
        rows.append((p.id, EXACT_MATCH, float(extract_number(text, language) == p.answer), text))
        rows.append((p.id, EXPRESSION, float(has_calculations(text, p.expressions)), text))
    return pd.DataFrame(rows, columns=["problem", "metric", "outcome", "text"])


def solution_nll(
    base: Base, prefix: Prefix, problems: Sequence[templates.Problem], batch_size: int, title: str = ""
) -> list[tuple[float, float]]:
    """Return, for each problem behind the prefix, the negative log-likelihood per token, in nats, of its gold solution and of
    the solution's expressions alone."""
    import torch

    rows = [(base.encode(templates.prompt(p)), base.encode(templates.completion(p))) for p in problems]
    values = [(0.0, 0.0)] * len(rows)
    with torch.inference_mode():
        for indices in _by_length(rows, batch_size, _exceeds_window(base, prefix, rows, 0), f"{title} likelihood"):
            batch = right_aligned([rows[i] for i in indices], base.pad_id, past=len(prefix.ids))
            tokens = completion_nll(base.model, batch, past_key_values=prefix.for_rows(len(indices)))
            for i, row in zip(indices, tokens, strict=True):
                solution = row[batch.width - len(rows[i][1]) :]
                marked = torch.tensor(expression_tokens(base, templates.completion(problems[i])))
                values[i] = (solution.mean().item(), solution[marked].mean().item())
    return values


def expression_tokens(base: Base, text: str) -> list[bool]:
    """Say of each token of ``text`` whether it belongs to an expression ``a op b`` (spaces between count, results do not)."""
    offsets = base.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    spans = [match.span() for match in CALCULATION.finditer(text)]
    return [any(start < stop and first <= start and stop <= last for first, last in spans) for start, stop in offsets]


def generate_answers(
    base: Base,
    prefix: Prefix,
    problems: Sequence[templates.Problem],
    max_new_tokens: int,
    batch_size: int,
    title: str = "",
) -> list[str]:
    """Return each problem's greedy answer behind the prefix, up to its first line break."""
    prompts: list[Row] = [(base.encode(templates.prompt(p)), []) for p in problems]
    answers = [""] * len(prompts)
    equal = _exceeds_window(base, prefix, prompts, max_new_tokens)
    for indices in _by_length(prompts, batch_size, equal, f"{title} answers"):
        ids = greedy(base, prefix, [prompts[i] for i in indices], max_new_tokens)
        for i, answer in zip(indices, ids, strict=True):
            answers[i] = base.decode(answer).partition("\n")[0].strip()
    return answers


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
    from itertools import groupby

    from tqdm import tqdm

    def length(i: int) -> int:
        return len(rows[i][0]) + len(rows[i][1])

    order = sorted(range(len(rows)), key=lambda i: (length(i), i))
    groups = [list(group) for _, group in groupby(order, key=length)] if equal else [order]
    batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]
    return tqdm(batches, desc=title.strip(), unit="batch", leave=False, mininterval=1)
