"""Few-shot evaluation: likelihoods of solutions, forced choices, and greedy answers read for number, calculations and language.

The few-shot prefix is run through the model once and its key-value cache reused over all problems. Outcomes are kept problem
by problem, so that every comparison can be paired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xlnb.corpora.benchmarks import Benchmark, Item, in_chat
from xlnb.errors import RequestError
from xlnb.evaluation.answers import extract_number, has_calculations
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, IN_LANGUAGE, READINGS, allowed
from xlnb.evaluation.solutions import solution_readings
from xlnb.languages import written_in
from xlnb.models.engine import Engine

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.evaluation.asking import Evaluation
    from xlnb.models.base import Base


def evaluate(base: Base, benchmark: Benchmark, evaluation: Evaluation, title: str = "") -> pd.DataFrame:
    """Evaluate ``base.model`` as it stands on a benchmark.

    Returns one row a problem and reading: problem, metric, outcome (float), text (the generated answer, or None). What each
    outcome means and its unit stand in ``READINGS``; a reading that a problem does not allow (forced choice where nothing is
    calculated, an answer where there is no number) has no row. The base model, under :func:`xlnb.applied`, is any
    expert or merge. Raises :class:`~xlnb.errors.RequestError` where the benchmark allows none of the readings.
    Source: readings ours, 2-shot as in the paper (reported).
    """
    import pandas as pd

    possible = allowed(benchmark, evaluation.readings)
    if not possible:
        raise RequestError(
            f"{benchmark.name} ({benchmark.language}) allows none of the readings {', '.join(evaluation.readings)}."
        )
    readings = [reading for reading in possible if evaluation.generated or not READINGS[reading].generates]
    if not readings:
        raise RequestError(
            f"The readings {', '.join(possible)} need generated answers, and generated is 0: say how many problems to answer."
        )
    benchmark = in_chat(benchmark, base.tokenizer) if evaluation.chat else benchmark
    engine = Engine(base, evaluation.batch_size, evaluation.generation_batch_size, title)
    prefix = engine.prefix(benchmark.prefix)
    rows: list[tuple[str, str, float, str | None]] = [
        (item.id, metric, value, None)
        for item, found in zip(
            benchmark.items,
            solution_readings(engine, prefix, benchmark.items, readings, benchmark.others),
            strict=True,
        )
        for metric, value in found.items()
    ]
    if any(READINGS[reading].generates for reading in readings):
        from xlnb.models.generation import answers  # here, since it takes torch, and a grid is listed without

        asked = [item for item in benchmark.items if item.answer is not None][: evaluation.generated]
        prompts = [base.encode(item.prompt) for item in asked]
        stops = evaluation.stops or benchmark.stops
        for item, text in zip(asked, answers(engine, prefix, prompts, evaluation.max_new_tokens, stops), strict=True):
            read = answer_readings(item, text)
            rows += [(item.id, metric, read[metric], text) for metric in readings if metric in read]
    return pd.DataFrame(rows, columns=["problem", "metric", "outcome", "text"])


# What a generated answer is worth, 0 or 1, None where a problem does not say. An answer without words counts as not in the
# language, and one of a word or two in Latin letters as written_in guesses: without an outcome a problem could not be paired.
OF_ANSWERS: dict[str, Callable[[Item, str], bool | None]] = {
    EXACT_MATCH: lambda item, text: extract_number(text, item.language) == item.answer,
    IN_LANGUAGE: lambda item, text: written_in(text) == item.language,
    EXPRESSION: lambda item, text: has_calculations(text, item.expressions) if item.expressions else None,
}


def answer_readings(item: Item, text: str) -> dict[str, float]:
    """Return what a generated answer is worth, by every reading of answers that the problem allows."""
    found = {metric: read(item, text) for metric, read in OF_ANSWERS.items()}
    return {metric: float(right) for metric, right in found.items() if right is not None}
