"""Few-shot evaluation: likelihoods of solutions, forced choices, and greedy answers read for number, calculations and language.

The few-shot prefix is run through the model once and its key-value cache reused over all problems. Outcomes are kept problem
by problem, so that every comparison can be paired.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import exp, prod
from typing import TYPE_CHECKING, Any

from xlnb.answers import CALCULATION, extract_number, has_calculations
from xlnb.batches import Branch, Row, branched, branched_nll, completion_nll, right_aligned
from xlnb.benchmarks import Benchmark, Item, load_benchmark
from xlnb.corpora import strangers
from xlnb.errors import RequestError
from xlnb.languages import written_in

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from xlnb.models import Base

NLL, EXPRESSION_NLL, CLOSING_NLL = "nll", "expression-nll", "closing-nll"
INFORMATION, EXPRESSION_INFORMATION = "information", "expression-information"
CHOICE, CHOICE_PROBABILITY = "choice", "choice-probability"
EXACT_MATCH, EXPRESSION, IN_LANGUAGE = "exact-match", "expression", "in-language"


@dataclass(frozen=True)
class Reading:
    """One way to score a model on a problem: a number of nats (``unit`` "nats") or a share from 0 to 1 (``unit`` "%")."""

    title: str
    meaning: str
    unit: str
    higher_is_better: bool
    generates: bool = False  # needs an answer written token by token

    @property
    def scale(self) -> int:
        """What outcomes are multiplied with to be in their unit."""
        return 100 if self.unit == "%" else 1

    @property
    def unit_in_words(self) -> str:
        """The unit as an axis or a table's head says it."""
        return "%" if self.unit == "%" else "nats per token"


READINGS: dict[str, Reading] = {
    NLL: Reading("NLL of the solution", "negative log-likelihood of the gold solution, per token", "nats", False),
    EXPRESSION_NLL: Reading(
        "NLL of the expressions", "the same over the tokens of its calculations `a op b` alone", "nats", False
    ),
    CLOSING_NLL: Reading(
        "NLL of the answer sentence", "negative log-likelihood of the answer sentence in the language", "nats", False
    ),
    INFORMATION: Reading(
        "information gained",
        "NLL of the gold solution behind another problem's text minus behind its own",
        "nats",
        True,
    ),
    EXPRESSION_INFORMATION: Reading(
        "information gained on the expressions", "the same over the tokens of its calculations alone", "nats", True
    ),
    CHOICE: Reading(
        "right choice", "every right calculation (or option) is likelier than all the others offered", "%", True
    ),
    CHOICE_PROBABILITY: Reading(
        "probability of the right choice", "the share of likelihood that falls on the right choices", "%", True
    ),
    EXPRESSION: Reading(
        "calculations right", "every calculation of the solution stands in the answer", "%", True, True
    ),
    EXACT_MATCH: Reading("final number right", "the number read from the answer is the right one", "%", True, True),
    IN_LANGUAGE: Reading("in the language", "the answer is written in the problem's language", "%", True, True),
}
CHOICES = (CHOICE, CHOICE_PROBABILITY)
LIKELIHOODS = (NLL, EXPRESSION_NLL)
INFORMATIONS = (INFORMATION, EXPRESSION_INFORMATION)
SHOTS_READINGS = (*LIKELIHOODS, EXPRESSION, EXACT_MATCH)
# What chapter 02 compares, and what can be had in one pass over the problems.
VALIDATED = (
    (NLL, EXPRESSION_NLL, INFORMATION, CHOICE, CHOICE_PROBABILITY, EXPRESSION, EXACT_MATCH, IN_LANGUAGE),
    (EXPRESSION_INFORMATION,),  # apart: outcomes are stored a group, and this one came later
)
COST_GROUPS = {
    "likelihood": LIKELIHOODS,
    "likelihood and forced choice": (*LIKELIHOODS, *CHOICES),
    "information": INFORMATIONS,
    "generation": (EXPRESSION, EXACT_MATCH, IN_LANGUAGE),
}
PRIMARY = EXPRESSION_INFORMATION  # named in chapter 02 by a rule on base, placebo and oracles, without a look at merges
METRICS = (PRIMARY, EXPRESSION_NLL, NLL, EXPRESSION, EXACT_MATCH)  # what tables show of a merge
OPERATIONS = "+-*/"
_PARTS = re.compile(r"(\S+?)(\s*)([-+*/x×÷−])(\s*)(\S+)")


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a model, and how: the same for all methods of a comparison."""

    benchmark: str = "templates"  # or mgsm, belebele, global-mmlu
    split: str = "scored"  # of the templates corpus; the others have one
    problems: int = 200  # problems whose solutions are scored by likelihood
    generated: int = 64  # of these, the first so many are answered by generation
    shots: int = 2  # worked examples before each problem
    exemplars: str = "native"  # of MGSM: their language, see xlnb.benchmarks.mgsm
    exemplar_seed: int = 0  # which worked examples: the same for all methods
    problem_seed: int = 0  # which problems
    max_new_tokens: int = 110  # an answer is cut there, or at its first line break
    batch_size: int = 32  # rows of a likelihood batch; fixed, since it may change the last bits of a score
    generation_batch_size: int = 64  # rows of a generation batch
    readings: tuple[str, ...] = (NLL, EXPRESSION_NLL, *INFORMATIONS, EXPRESSION, EXACT_MATCH)
    path: str | None = None  # of a local copy of the benchmark; from the hub where there is none
    reference: str | None = None  # of MGSM: a GSM8K test file, whose solutions are scored

    def __post_init__(self) -> None:
        unknown = [reading for reading in self.readings if reading not in READINGS]
        if unknown or not self.readings:
            raise RequestError(
                f"No reading {unknown[0]!r}: choose among {', '.join(READINGS)}."
                if unknown
                else "No reading is asked for."
            )
        if not 0 <= self.generated <= self.problems or self.problems < 1:
            raise RequestError(
                f"problems={self.problems} and generated={self.generated}: ask for at least one problem, and generate "
                "answers to at most as many."
            )
        for name in ("shots", "max_new_tokens", "batch_size", "generation_batch_size"):
            if getattr(self, name) < (0 if name == "shots" else 1):
                raise RequestError(f"Evaluation.{name} is {getattr(self, name)}: it is too small.")

    def asked(self, language: str) -> Benchmark:
        """Return the benchmark with the problems of a language; errors as :func:`xlnb.benchmarks.load_benchmark` has them."""
        options: dict[str, Any] = {"n": self.problems, "shots": self.shots}
        if self.benchmark == "templates":
            seeds = {"problem_seed": self.problem_seed, "exemplar_seed": self.exemplar_seed}
            options |= {"split": self.split, **seeds}
        if self.benchmark == "mgsm":
            options |= {
                "exemplars": self.exemplars, "exemplar_seed": self.exemplar_seed, "reference": self.reference
            }  # fmt: skip
        return load_benchmark(self.benchmark, language, self.path, **options)

    def spec(self) -> dict[str, Any]:
        """Return the fields that may change an outcome; where the data lie does not, their fingerprint stands elsewhere."""
        return {name: value for name, value in asdict(self).items() if name not in ("path", "reference")}


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


def evaluate(base: Base, benchmark: Benchmark, evaluation: Evaluation, title: str = "") -> pd.DataFrame:
    """Evaluate ``base.model`` as it stands on a benchmark.

    Returns one row a problem and reading: problem, metric, outcome (float), text (the generated answer, or None). What each
    outcome means and its unit stand in ``READINGS``; a reading that a problem does not allow (forced choice where nothing is
    calculated, an answer where there is no number) has no row. The base model, under :func:`xlnb.merging.applied`, is any
    expert or merge. Raises :class:`~xlnb.errors.RequestError` where the benchmark allows none of the readings.
    Source: readings ours, 2-shot as in the paper (reported).
    """
    import pandas as pd

    prefix = run_prefix(base, benchmark.prefix)
    scored = solution_readings(base, prefix, benchmark.items, evaluation, title)
    rows: list[tuple[str, str, float, str | None]] = [
        (item.id, metric, value, None)
        for item, found in zip(benchmark.items, scored, strict=True)
        for metric, value in found.items()
    ]
    if any(READINGS[reading].generates for reading in evaluation.readings):
        asked = [item for item in benchmark.items if item.answer is not None][: evaluation.generated]
        sizes = evaluation.max_new_tokens, evaluation.generation_batch_size
        for item, text in zip(asked, generate_answers(base, prefix, asked, *sizes, title), strict=True):
            read = answer_readings(item, text)
            rows += [(item.id, metric, read[metric], text) for metric in evaluation.readings if metric in read]
    if not rows:
        raise RequestError(
            f"{benchmark.name} ({benchmark.language}) allows none of the readings {', '.join(evaluation.readings)}."
        )
    return pd.DataFrame(rows, columns=["problem", "metric", "outcome", "text"])


def answer_readings(item: Item, text: str) -> dict[str, float]:
    """Return what a generated answer is worth, 0 or 1 a reading: right number, right calculations, right language.

    An answer without words counts as not in the language, and one of a word or two in Latin letters as
    :func:`xlnb.languages.written_in` guesses: without an outcome a problem could not be paired.
    """
    found = {
        EXACT_MATCH: float(extract_number(text, item.language) == item.answer),
        IN_LANGUAGE: float(written_in(text) == item.language),
    }
    return found | ({EXPRESSION: float(has_calculations(text, item.expressions))} if item.expressions else {})


# ------------------------------------------------------------------------------------------------------- likelihoods


def solution_readings(
    base: Base, prefix: Prefix, items: Sequence[Item], evaluation: Evaluation, title: str = ""
) -> list[dict[str, float]]:
    """Return each problem's readings by likelihood behind the prefix, those of ``evaluation.readings`` that it allows."""
    wanted = set(evaluation.readings)
    asked = [_question(base, item, wanted) for item in items]
    if not any(question.completion or question.branches for question in asked):
        return [{} for _ in items]
    rows: list[Row] = [(question.prompt, question.completion) for question in asked]
    branches = [question.branches for question in asked]
    scored = likelihoods(base, prefix, rows, branches, evaluation.batch_size, f"{title} likelihood")
    found = [_read(question, *nll) for question, nll in zip(asked, scored, strict=True)]
    solved = [i for i, question in enumerate(asked) if question.completion]
    if wanted & set(INFORMATIONS) and len(solved) > 1:
        others = [rows[j][0] for j in strangers([items[i].group or items[i].id for i in solved])]
        crossed: list[Row] = [(other, rows[i][1]) for i, other in zip(solved, others, strict=True)]
        blind = likelihoods(base, prefix, crossed, [[]] * len(crossed), evaluation.batch_size, f"{title} information")
        for i, (tokens, _) in zip(solved, blind, strict=True):
            unread = _nll(asked[i], tokens)
            gained = {INFORMATION: NLL, EXPRESSION_INFORMATION: EXPRESSION_NLL}
            found[i] |= {new: unread[old] - found[i][old] for new, old in gained.items() if old in unread}
    return [{metric: one[metric] for metric in evaluation.readings if metric in one} for one in found]


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
    solved = item.completion and wanted & {NLL, EXPRESSION_NLL, *INFORMATIONS, *CHOICES}
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
    import torch

    found: dict[str, float] = {}
    if question.completion:
        found[NLL] = tokens.mean().item()
    if any(question.in_expression):
        found[EXPRESSION_NLL] = tokens[torch.tensor(question.in_expression)].mean().item()
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


def generate_answers(
    base: Base,
    prefix: Prefix,
    items: Sequence[Item],
    max_new_tokens: int,
    batch_size: int,
    title: str = "",
) -> list[str]:
    """Return each problem's greedy answer behind the prefix, up to its first line break."""
    prompts: list[Row] = [(base.encode(item.prompt), []) for item in items]
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
    from tqdm import tqdm

    def length(i: int) -> int:
        return len(rows[i][0]) + len(rows[i][1])

    order = sorted(range(len(rows)), key=lambda i: (length(i), i))
    groups = [list(group) for _, group in groupby(order, key=length)] if equal else [order]
    batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]
    return tqdm(batches, desc=title.strip(), unit="batch", leave=False, mininterval=1)
