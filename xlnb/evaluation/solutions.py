"""Readings by likelihood: of gold solutions, of the calculations in them, and of what else might stand in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, prod
from typing import TYPE_CHECKING

from xlnb.corpora import strangers
from xlnb.corpora.benchmarks import Item
from xlnb.evaluation.answers import CALCULATION
from xlnb.evaluation.readings import (
    CALIBRATED,
    CHOICE,
    CHOICE_PROBABILITY,
    CHOICES,
    CLOSING_NLL,
    EXPRESSION_INFORMATION,
    EXPRESSION_NLL,
    INFORMATION,
    INFORMATIONS,
    NLL,
    TWIN_CHOICE,
    TWIN_INFORMATION,
    TWINS,
    calibrated,
)
from xlnb.models.engine import Branch, Row

if TYPE_CHECKING:
    from torch import Tensor

    from xlnb.models.base import Base
    from xlnb.models.engine import Engine, Prefix

OPERATIONS = "+-*/"
_PARTS = re.compile(r"(\S+?)(\s*)([-+*/x×÷−])(\s*)(\S+)")


def solution_readings(
    engine: Engine, prefix: Prefix, items: Sequence[Item], readings: Sequence[str], others: Sequence[Item] = ()
) -> list[dict[str, float]]:
    """Return each problem's readings by likelihood behind the prefix, those of ``readings`` that it allows.

    Calibrated ones are taken at the temperature that fits the model on ``others``.
    """
    found = _readings_at(engine, prefix, items, [reading for reading in readings if reading not in CALIBRATED])
    if plain := [CALIBRATED[reading] for reading in readings if reading in CALIBRATED]:
        at_its_own = replace(engine, temperature=temperature(engine, prefix, others))
        for known, new in zip(found, _readings_at(at_its_own, prefix, items, plain), strict=True):
            known |= {calibrated(reading): value for reading, value in new.items()}
    return [{metric: one[metric] for metric in readings if metric in one} for one in found]


def temperature(engine: Engine, prefix: Prefix, items: Sequence[Item]) -> float:
    """Return the temperature, from 1/8 to 8, at which the calculations in the items' gold solutions are likeliest.

    Plain likelihood punishes a model that is sure of itself more than one that does not know; divided by this temperature a
    model's logits are as sure as they are right. Source: Guo et al., 2017 (temperature scaling); on calculations: ours.
    """
    import torch
    from scipy.optimize import minimize_scalar
    from torch.nn.functional import cross_entropy

    rows = [(engine.base.encode(item.prompt), engine.base.encode(item.completion)) for item in items]
    marked = [expression_tokens(engine.base, item.completion) for item in items]
    logits, targets = engine.logits(prefix, rows, marked)

    def loss(log2: float) -> float:
        with torch.inference_mode():
            return float(cross_entropy(logits / 2**log2, targets))

    return 2 ** float(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 0.01}).x)


def _readings_at(
    engine: Engine, prefix: Prefix, items: Sequence[Item], readings: Sequence[str]
) -> list[dict[str, float]]:
    """Return each problem's readings at the engine's temperature, and what they are made of."""
    wanted = set(readings)
    asked = [_question(engine.base, item, wanted) for item in items]
    if not any(question.completion or question.branches for question in asked):
        return [{} for _ in items]
    rows: list[Row] = [(question.prompt, question.completion) for question in asked]
    branches = [question.branches for question in asked]
    scored = engine.nll(prefix, rows, branches)
    found = [_read(question, *nll) for question, nll in zip(asked, scored, strict=True)]
    solved = [i for i, question in enumerate(asked) if question.completion]
    if wanted & set(INFORMATIONS) and len(solved) > 1:
        others = [rows[j][0] for j in strangers([items[i].group or items[i].id for i in solved])]
        crossed: list[Row] = [(other, rows[i][1]) for i, other in zip(solved, others, strict=True)]
        for i, (tokens, _) in zip(solved, engine.nll(prefix, crossed, what="information"), strict=True):
            unread = _nll(asked[i], tokens)
            gained = {INFORMATION: NLL, EXPRESSION_INFORMATION: EXPRESSION_NLL}
            found[i] |= {new: unread[old] - found[i][old] for new, old in gained.items() if old in unread}
    if wanted & set(TWINS):
        own = {i: tokens[asked[i].in_expression] for i, (tokens, _) in enumerate(scored) if any(asked[i].in_expression)}
        twins = {i: items[i] for i in own if items[i].twin_completion}
        for i, read in _twin_readings(engine, prefix, twins, asked, own, TWIN_CHOICE in wanted).items():
            found[i] |= read
    return found


def _twin_readings(
    engine: Engine,
    prefix: Prefix,
    items: Mapping[int, Item],
    asked: Sequence[_Question],
    own: Mapping[int, Tensor],
    choice: bool,
) -> dict[int, dict[str, float]]:
    """Return what the text of a problem tells of its calculations beyond what its twin's text does, by the items' places.

    Only the calculations count: the words of a solution may be copied from its own text without understanding.
    """
    twin_prompts = {i: engine.base.encode(item.twin_prompt) for i, item in items.items()}
    behind_twin = dict(zip(items, _of_calculations(
        engine, prefix, [(twin_prompts[i], asked[i].completion) for i in items], [asked[i].in_expression for i in items]
    ), strict=True))  # fmt: skip
    found = {i: {TWIN_INFORMATION: (behind_twin[i].mean() - own[i].mean()).item()} for i in items}
    if choice:
        twin = {i: engine.base.encode(item.twin_completion) for i, item in items.items()}
        marked = [expression_tokens(engine.base, item.twin_completion) for item in items.values()]
        crossed = _of_calculations(engine, prefix, [(asked[i].prompt, twin[i]) for i in items], marked)
        straight = _of_calculations(engine, prefix, [(twin_prompts[i], twin[i]) for i in items], marked)
        for i, twins_behind_own, twins_behind_twin in zip(items, crossed, straight, strict=True):
            mine = own[i].sum() < twins_behind_own.sum()
            theirs = twins_behind_twin.sum() < behind_twin[i].sum()
            found[i][TWIN_CHOICE] = float(mine and theirs)
    return found


def _of_calculations(
    engine: Engine, prefix: Prefix, rows: Sequence[Row], marked: Sequence[Sequence[bool]]
) -> list[Tensor]:
    scored = engine.nll(prefix, rows, what="twins")
    return [tokens[list(inside)] for (tokens, _), inside in zip(scored, marked, strict=True)]


@dataclass(frozen=True)
class _Question:
    """A problem in ids: the completion's expression tokens, and branches in groups of which the ``gold``-th is right."""

    prompt: list[int]
    completion: list[int]
    in_expression: list[bool]
    branches: list[Branch]
    choices: list[tuple[int, int]]  # how many branches a choice has, and which is right
    closing: bool  # whether the last branch is the closing sentence


def _question(base: Base, item: Item, wanted: set[str]) -> _Question:
    solved = item.completion and wanted & {NLL, EXPRESSION_NLL, *INFORMATIONS, *TWINS, *CHOICES}
    completion = base.encode(item.completion) if solved else []
    branches: list[Branch] = []
    choices: list[tuple[int, int]] = []
    if wanted & set(CHOICES):
        if item.options and item.gold is not None:
            branches += [Branch(0, base.encode(option)) for option in item.options]
            choices.append((len(item.options), item.gold))
        elif completion:
            for offered in calculation_choices(base, item.completion):
                branches += offered
                choices.append((len(offered), 0))
    closing = bool(item.closing) and CLOSING_NLL in wanted
    if closing:
        branches.append(Branch(0, base.encode(item.closing)))
    marked = expression_tokens(base, item.completion) if completion else []
    return _Question(base.encode(item.prompt), completion, marked, branches, choices, closing)


def _nll(question: _Question, tokens: Tensor) -> dict[str, float]:
    """Return the mean over the completion's tokens and over those of its expressions."""
    found: dict[str, float] = {}
    if question.completion:
        found[NLL] = tokens.mean().item()
    if any(question.in_expression):
        found[EXPRESSION_NLL] = tokens[question.in_expression].mean().item()
    return found


def _read(question: _Question, tokens: Tensor, branches: list[Tensor]) -> dict[str, float]:
    """Return the readings of one problem from the likelihoods of its completion's tokens and of its branches' tokens."""
    found = _nll(question, tokens)
    if question.closing:
        found[CLOSING_NLL] = branches[-1].mean().item()
    if question.choices:
        totals, right, shares = [branch.sum().item() for branch in branches], [], []
        for n, gold in question.choices:
            offered, totals = totals[:n], totals[n:]
            shares.append(1 / sum(exp(min(offered[gold] - nll, 700.0)) for nll in offered))
            right.append(all(offered[gold] < nll for i, nll in enumerate(offered) if i != gold))
        found |= {CHOICE: float(all(right)), CHOICE_PROBABILITY: prod(shares)}
    return found


def calculation_choices(base: Base, completion: str) -> list[list[Branch]]:
    """Return for each calculation ``a op b`` of a solution its six variants as branches, the right one first.

    The others put another operation between the same numbers; where order matters it is tried, too, so that guessing is right
    once in six times. Source: ours.
    """
    ids = base.encode(completion)
    choices = []
    for match in CALCULATION.finditer(completion):
        texts = calculation_variants(match.group())
        choices.append([_branch(base, completion, ids, match.span(), text) for text in texts])
    return choices


def calculation_variants(calculation: str) -> list[str]:
    """Return a calculation ``a op b`` and its five wrong variants.

    >>> calculation_variants("12 - 5")
    ['12 - 5', '12 + 5', '12 * 5', '12 / 5', '5 - 12', '5 / 12']
    """
    a, before, sign, after, b = _PARTS.fullmatch(calculation).groups()  # type: ignore[union-attr]
    same = {"x": "*", "×": "*", "÷": "/", "−": "-"}
    others = [f"{a}{before}{op}{after}{b}" for op in OPERATIONS if op != same.get(sign, sign)]
    turned = [f"{b}{before}{op}{after}{a}" for op in "-/"]
    return [calculation, *others, *turned]


def _branch(base: Base, completion: str, ids: list[int], span: tuple[int, int], text: str) -> Branch:
    """Return the tokens of a completion in which ``text`` stands at ``span``, from the first that may differ to the = sign."""
    start, stop = span
    changed = completion[:start] + text + completion[stop:]
    new = base.encode(changed)
    offsets = base.tokenizer(changed, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    end = start + len(text) + (2 if completion[stop:].startswith(" =") else 0)
    first = next(i for i, (_, last) in enumerate(offsets) if last > start)
    first = next((i for i, pair in enumerate(zip(ids, new, strict=False)) if i == first or pair[0] != pair[1]), first)
    return Branch(first, [token for token, (begin, _) in zip(new[first:], offsets[first:], strict=True) if begin < end])


def expression_tokens(base: Base, text: str) -> list[bool]:
    """Say of each token of ``text`` whether it belongs to an expression ``a op b`` (spaces between count, results do not)."""
    offsets = base.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    spans = [match.span() for match in CALCULATION.finditer(text)]
    return [any(start < stop and first <= start and stop <= last for first, last in spans) for start, stop in offsets]
