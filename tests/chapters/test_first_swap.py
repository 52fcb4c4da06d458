"""What the first chapter says beside its figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from xlnb.chapters import first_swap
from xlnb.evaluation.readings import TWIN_CHOICE
from xlnb.studies.experiments import EVERY_READING


def asked(math, language):
    """A study of three trainings in which the base tells half of eight pairs apart, each expert so many more or fewer."""
    base = np.array([0, 1] * 4, dtype=float)
    rows = []
    for method, change in (("base", 0), ("math-only", math), ("language-only", language)):
        for seed in range(1 if method == "base" else 3):
            noise = np.roll([0.2, -0.2] * 4, seed)
            rows += [
                {"seed": seed, "method": method, "partition": "", "metric": TWIN_CHOICE, "test_language": "sw", "language": "sw",
                 "benchmark": "templates", "split": "scored", "problem": f"p{i}", "outcome": outcome}
                for i, outcome in enumerate(base + change + (noise if method != "base" else 0))
            ]  # fmt: skip

    def repeated(ask):
        assert ask == EVERY_READING
        return pd.DataFrame(rows)

    return SimpleNamespace(repeated=repeated, language="sw")


@pytest.mark.parametrize(
    ("math", "language", "end"),
    [
        (-0.1, -0.05, "So neither expert reads the operation better than the base."),
        (0.2, 0.01, "So the math expert may read better."),
        (0.2, 0.3, "So the math expert and the language expert may read better."),
    ],
)
def test_twins_say_which_expert_may_read(math, language, end):
    told = first_swap.twins_sentence(asked(math, language))
    assert told.endswith(end)
    sizes = [f"{name} {100 * change:+.1f} points [".replace("-", "−")
             for name, change in (("the math expert", math), ("the language expert", language))]  # fmt: skip
    assert told.index(sizes[0]) < told.index(sizes[1])
