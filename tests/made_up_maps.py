"""Maps of importance with known answers: where math matters, where the language does, and how much seeds differ."""

import numpy as np
import pandas as pd

from xlnb.studies import importances, overlaps

DEPTH = 18
PROJECTIONS = {"attention": ("q", "k", "v", "o"), "ffn": ("gate", "up", "down")}
SITES = [(layer, block) for layer in range(DEPTH) for block in PROJECTIONS]


def importance(apart, seed, language, side, noise):
    """Weights of 36 sites: they fall with depth; where ``apart`` math's rise. Seeds and languages differ by noise."""
    falling = np.linspace(3, 0, len(SITES))
    rng = np.random.default_rng([seed, ("sw", "bn", "te", "en").index(language if side == "language" else "en")])
    return np.exp((falling[::-1] if apart and side == "math" else falling) + rng.normal(0, noise, len(SITES)))


def made_maps(apart=True, languages=("sw", "bn", "te"), seeds=3, noise=0.1, lone=()):
    """The maps that the chapter on importance reads, by name; the measures in ``lone`` are not apart though the others are."""
    parts = {name: [] for name in ("lengths", "sensitivity", "sites", "elements", "fits")}
    for language in languages:
        for seed in range(seeds):
            keys = {
                "profile": "pocket",
                "model": "gemma-3-270m",
                "language": language,
                "paradigm": "lora",
                "seed": seed,
            }
            for name, table in _of_a_study(apart, seed, language, noise, lone).items():
                parts[name].append(table.assign(**keys))
    return {name: pd.concat(some, ignore_index=True) for name, some in parts.items()}


def _of_a_study(apart, seed, language, noise, lone):
    def of(measure, side):
        return importance(apart and measure not in lone, seed, language, side, noise)

    rows = {name: [] for name in ("lengths", "sensitivity", "sites", "elements", "fits")}
    change = [of("change", side) for side in importances.SIDES]
    for place, (layer, block) in enumerate(SITES):
        for projection in PROJECTIONS[block]:
            squares = (one[place] ** 2 * 1e-4 for one in change)
            rows["lengths"].append((layer, block, projection, 100, 1.0, *squares, 0.0))
            for asked, side in (("math", "math"), ("language", "language"), ("problems", "math")):
                for measure in ("taylor", "fisher"):
                    silent = measure == "taylor" and projection in "qk"
                    score = 0.0 if silent else of(measure, side)[place]
                    rows["sensitivity"].append((layer, block, projection, measure, 100, score, asked))
    for side, expert, about in (("math", "math-only", "math"), ("language", "language-only", "language")):
        for intervention, sign in (("ablation", 1), ("patching", -1)):
            for asked in (about, "problems"):
                rows["sites"].append((None, None, 3.0, intervention, expert, asked))
                told = of(intervention, side)
                for place, (layer, block) in enumerate(SITES):
                    rows["sites"].append((layer, block, 3.0 + sign * told[place] / 100, intervention, expert, asked))
        for measure in ("fisher", "taylor", "change", "ablation"):
            for place, (layer, block) in enumerate(SITES):
                rows["fits"].append((layer, block, of(measure, side)[place], side, measure))
    for measure in ("change", "fisher", "taylor"):
        for pair in overlaps.PAIRS:
            for share in (0.01, 0.1, 0.5):
                level = share / (2 - share) * (1 if apart and pair == overlaps.BETWEEN else 1.5)
                rows["elements"].append((share, level, share / (2 - share), measure, pair))
    columns = {
        "lengths": ["layer", "block", "projection", "elements", "own", "m", "l", "dot"],
        "sensitivity": ["layer", "block", "projection", "measure", "elements", "score", "asked"],
        "sites": ["layer", "block", "loss", "intervention", "expert", "asked"],
        "elements": ["share", "jaccard", "chance", "measure", "pair"],
        "fits": ["layer", "block", "score", "side", "measure"],
    }
    return {name: pd.DataFrame(some, columns=columns[name]) for name, some in rows.items()}
