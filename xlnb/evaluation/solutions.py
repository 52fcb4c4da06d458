"""Readings by likelihood: of gold solutions, of the calculations in them, and of what else might stand in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
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

    Calibrated ones are taken at the temperature that fits the model on ``others``. Each text is read once, with all that is asked
    of it.
    """
    wanted = {CALIBRATED.get(reading, reading) for reading in readings}
    texts = _Texts(engine.base)
    asked = [_question(texts, item, wanted) for item in items]
    if not texts.rows:
        return [{} for _ in items]
    if wanted & set(TWINS):
        _ask_twins(texts, items, asked)
    if wanted & set(INFORMATIONS):
        _ask_strangers(texts, items, asked, whole=INFORMATION in wanted)
    calibrates = bool(set(readings) & set(CALIBRATED))
    degrees = [1.0, *([temperature(engine, prefix, others)] if calibrates else [])]
    scored = engine.nll(prefix, texts.rows, texts.branches, degrees)
    found: list[dict[str, float]] = [{} for _ in items]
    for place in range(len(degrees)):
        for known, question in zip(found, asked, strict=True):
            new = _read(question, lambda text, part: scored[text][part][place])  # noqa: B023
            known |= {calibrated(reading): value for reading, value in new.items()} if place else new
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


Part = tuple[int, int]  # where a likelihood is found: a text's place, and which of the parts behind it


@dataclass(frozen=True)
class _Texts:
    """Texts, and what is scored behind each: a completion (part 0) and branches (parts 1 and on)."""

    base: Base
    rows: list[Row] = field(default_factory=list)
    branches: list[list[Branch]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)  # where a text stands, the first time

    def add(self, text: str, completion: list[int]) -> Part:
        """Add a text with its completion, which may be none."""
        self.places.setdefault(text, len(self.rows))
        self.rows.append((self.base.encode(text), completion))
        self.branches.append([])
        return len(self.rows) - 1, 0

    def behind(self, text: str, completion: list[int]) -> Part:
        """Return where a completion behind a text is scored (or one that goes on from it), adding what is not there."""
        if text not in self.places:
            return self.add(text, completion)
        place = self.places[text]
        there = [self.rows[place][1], *(() if branch.at else branch.ids for branch in self.branches[place])]
        for part, ids in enumerate(there):
            if ids[: len(completion)] == completion:
                return place, part
        return self.beside((place, 0), [Branch(0, completion)])[0]

    def beside(self, part: Part, branches: Sequence[Branch]) -> list[Part]:
        """Add branches behind the text of a part that is there."""
        there = self.branches[part[0]]
        there += branches
        return [(part[0], len(there) - k) for k in range(len(branches) - 1, -1, -1)]


@dataclass
class _Question:
    """Of one problem where each likelihood is found, and which tokens count."""

    own: Part | None = None  # the gold solution behind its own text
    inside: list[bool] = field(default_factory=list)  # which of its tokens are of calculations
    choices: list[tuple[list[Part], int]] = field(default_factory=list)  # the parts of each choice, and which is right
    closing: Part | None = None
    stranger: Part | None = None  # the gold solution behind another problem's text
    twin: _Twin | None = None


@dataclass(frozen=True)
class _Twin:
    """The solutions of a problem and of its twin behind either text, and which tokens of the twin's are of calculations.

    Only the calculations count: the words of a solution may be copied from its own text without understanding.
    """

    own_behind_twin: Part
    twin_behind_own: Part
    twin_behind_twin: Part
    inside: list[bool]


def _question(texts: _Texts, item: Item, wanted: set[str]) -> _Question:
    base = texts.base
    solved = item.completion and wanted & {NLL, EXPRESSION_NLL, *INFORMATIONS, *TWINS, *CHOICES}
    completion = base.encode(item.completion) if solved else []
    choices: list[tuple[list[Branch], int]] = []
    if wanted & set(CHOICES):
        if item.options and item.gold is not None:
            choices = [([Branch(0, base.encode(option)) for option in item.options], item.gold)]
        elif completion:
            choices = [(offered, 0) for offered in calculation_choices(base, item.completion)]
    closes = bool(item.closing) and CLOSING_NLL in wanted
    if not (completion or choices or closes):
        return _Question()
    inside = expression_tokens(base, item.completion) if completion else []
    if any(inside) and not wanted & {NLL, INFORMATION, *CHOICES}:  # then nothing is read of what stands after them
        inside = _up_to_the_last(inside)
        completion = completion[: len(inside)]
    text = texts.add(item.prompt, completion)
    asked = _Question(choices=[(texts.beside(text, offered), gold) for offered, gold in choices])
    if closes:
        (asked.closing,) = texts.beside(text, [Branch(0, base.encode(item.closing))])
    if completion:
        asked.own, asked.inside = text, inside
    return asked


def _ask_twins(texts: _Texts, items: Sequence[Item], asked: Sequence[_Question]) -> None:
    """Add the solutions of each problem and of its twin behind either text, once all problems' own texts are there."""
    for item, question in zip(items, asked, strict=True):
        if not (question.own and any(question.inside) and CALCULATION.search(item.twin_completion)):
            continue
        inside = _up_to_the_last(expression_tokens(texts.base, item.twin_completion))
        own = texts.rows[question.own[0]][1][: len(_up_to_the_last(question.inside))]
        twin = texts.base.encode(item.twin_completion)[: len(inside)]
        twin_behind_twin = texts.behind(item.twin_prompt, twin)
        own_behind_twin, twin_behind_own = texts.behind(item.twin_prompt, own), texts.behind(item.prompt, twin)
        question.twin = _Twin(own_behind_twin, twin_behind_own, twin_behind_twin, inside)


def _up_to_the_last(inside: list[bool]) -> list[bool]:
    """Return marks of tokens up to the last marked one: nothing after it changes what is read of it."""
    return inside[: max((i + 1 for i, marked in enumerate(inside) if marked), default=0)]


def _ask_strangers(texts: _Texts, items: Sequence[Item], asked: Sequence[_Question], whole: bool) -> None:
    """Add each solution (to its last calculation, or ``whole``) behind the text of a problem that shares nothing with its own but
    the format.
    """
    solved = [i for i, question in enumerate(asked) if question.own]
    if len(solved) < 2:
        return
    for i, place in zip(solved, strangers([items[i].group or items[i].id for i in solved]), strict=True):
        mine, other = asked[i].own, asked[solved[place]].own
        assert mine and other
        completion = texts.rows[mine[0]][1]
        if not whole and any(asked[i].inside):
            completion = completion[: len(_up_to_the_last(asked[i].inside))]
        (asked[i].stranger,) = texts.beside(other, [Branch(0, completion)])


def _read(asked: _Question, nll: Callable[[int, int], Tensor]) -> dict[str, float]:
    """Return the readings of one problem, by the likelihoods of each part's tokens."""
    found: dict[str, float] = {}
    if asked.own:
        own = nll(*asked.own)
        found[NLL] = own.mean().item()
        if any(asked.inside):
            found[EXPRESSION_NLL] = own[asked.inside].mean().item()
        if asked.stranger:
            unread = nll(*asked.stranger)
            if len(unread) == len(own):
                found[INFORMATION] = unread.mean().item() - found[NLL]
            if any(asked.inside):
                found[EXPRESSION_INFORMATION] = _marked(unread, asked.inside).mean().item() - found[EXPRESSION_NLL]
        if twin := asked.twin:
            mine, mine_elsewhere = (_marked(tokens, asked.inside) for tokens in (own, nll(*twin.own_behind_twin)))
            theirs, theirs_elsewhere = (
                _marked(nll(*part), twin.inside) for part in (twin.twin_behind_twin, twin.twin_behind_own)
            )
            found[TWIN_INFORMATION] = (mine_elsewhere.mean() - mine.mean()).item()
            apart = mine.sum() < theirs_elsewhere.sum() and theirs.sum() < mine_elsewhere.sum()
            found[TWIN_CHOICE] = float(apart)
    if asked.closing:
        found[CLOSING_NLL] = nll(*asked.closing).mean().item()
    if asked.choices:
        right, shares = [], []
        for parts, gold in asked.choices:
            offered = [nll(*part).sum().item() for part in parts]
            shares.append(1 / sum(exp(min(offered[gold] - other, 700.0)) for other in offered))
            right.append(all(offered[gold] < other for i, other in enumerate(offered) if i != gold))
        found |= {CHOICE: float(all(right)), CHOICE_PROBABILITY: prod(shares)}
    return found


def _marked(tokens: Tensor, inside: list[bool]) -> Tensor:
    """Return the marked tokens' values; tokens and marks end where nothing more is marked, or later."""
    return tokens[[i for i, marked in enumerate(inside) if marked]]


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
    """Return a calculation ``a op b`` and its five wrong variants; of equal numbers three, since turned they are the same.

    >>> calculation_variants("12 - 5")
    ['12 - 5', '12 + 5', '12 * 5', '12 / 5', '5 - 12', '5 / 12']
    >>> calculation_variants("2 / 2")
    ['2 / 2', '2 + 2', '2 - 2', '2 * 2']
    >>> calculation_variants("2.0 - $2")
    ['2.0 - $2', '2.0 + $2', '2.0 * $2', '2.0 / $2']
    """
    a, before, sign, after, b = _PARTS.fullmatch(calculation).groups()  # type: ignore[union-attr]
    same = {"x": "*", "×": "*", "÷": "/", "−": "-"}
    others = [f"{a}{before}{op}{after}{b}" for op in OPERATIONS if op != same.get(sign, sign)]
    turned = [f"{b}{before}{op}{after}{a}" for op in "-/"]
    return list(dict.fromkeys((calculation, *others, *(turned if _value(a) != _value(b) else ()))))


def _value(number: str) -> Decimal:
    return Decimal(re.sub(r"[^\d.]", "", number))


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
