"""Outcomes of the comparison with known answers, for the chapters that read it."""

import numpy as np
import pandas as pd

from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, EXPRESSION_NLL, NLL, PRIMARY, TWIN_CHOICE, TWINS
from xlnb.methods import METHODS
from xlnb.studies.experiments import EVERY_METHOD, MAIN_METHODS, RANDOM_CONTROLS
from xlnb.studies.outcomes import COLUMNS

ARMS = [(slug, "C" if METHODS[slug].uses_partition else "") for slug in EVERY_METHOD]
CONTROLS = [("layer-swapping", name) for name in ("complement of C", "half and half", *RANDOM_CONTROLS)]


_NLL = (NLL, EXPRESSION_NLL)


def made(level, languages=("sw", "bn", "te"), seeds=3, pairs=6, spread=0.01):
    """Outcomes of every method, each with its level in every language, as the experiment has them."""
    rng, rows = np.random.default_rng(0), []
    for method, partition in (*ARMS, *CONTROLS):
        for seed in range(1 if method == "base" else seeds):
            for language in languages:
                asked = [(code, metric) for code in (language, "en") for metric in (PRIMARY, *TWINS, *_NLL)]
                told = [(language, metric) for metric in (EXPRESSION, EXACT_MATCH) if method in MAIN_METHODS]
                for code, metric in asked + told:
                    for problem in (f"scored-{i:06d}{twin}" for i in range(pairs) for twin in ("", "-twin")):
                        value = level(method, partition) + rng.normal(0, spread)
                        value = float(value > 0.5) if metric in (TWIN_CHOICE, EXPRESSION, EXACT_MATCH) else value
                        value = -value if metric in _NLL else value
                        rows.append((method, partition, seed, language, code, metric, problem, value))
    names = ["method", "partition", "seed", "language", "test_language", "metric", "problem", "outcome"]
    same = {"benchmark": "templates", "split": "scored", "shots": 2, "profile": "pocket", "paradigm": "lora"}
    return pd.DataFrame(rows, columns=names).assign(**same).reindex(columns=COLUMNS, fill_value="")
