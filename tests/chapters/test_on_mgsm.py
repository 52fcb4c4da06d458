"""Problems that people wrote, on made-up outcomes whose answers are known."""

import re

import pandas as pd
import pytest
from made_up import made
from shown import caption, cells

from xlnb.chapters import on_mgsm
from xlnb.chapters.words import in_prose
from xlnb.evaluation.readings import EXACT_MATCH, NLL, PRIMARY, READINGS, TWINS
from xlnb.studies import claims
from xlnb.studies.comparisons import arms_of
from xlnb.studies.experiments import MAIN_METHODS
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.study import open_study


def level(method, partition):
    return {"base": 0.0, "math-only": 0.4, "layer-swapping": 0.3, "soup": 0.6}.get(method, 0.1)


def asked(**options):
    """The main methods' outcomes, as MGSM has them: without twins."""
    found = made(level, languages=("sw",), **options)
    found = found[
        found["method"].isin(MAIN_METHODS) & found["partition"].isin(["", "C"]) & ~found["metric"].isin(TWINS)
    ]
    return found[~found["problem"].str.endswith("-twin")].assign(benchmark="mgsm", setting="real")


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(on_mgsm, "committed_outcomes", lambda results, name, profile, paradigm: asked())
    return on_mgsm.outcomes(open_study("pocket", "sw", 0, live=False))


def test_who_is_above_the_math_expert_and_who_below(found):
    told = on_mgsm.reading(found)
    swap = f"By the {READINGS[PRIMARY].title} the swap is at −0."
    assert told.startswith(swap) and f"By the {READINGS[NLL].title} the swap is at −0." in told
    assert told.count(f"{in_prose(*claims.SOUP)} is above it, ") == 2
    below = told.split(" is above it, ")[1].split(" below.")[0]
    assert {in_prose(*claims.SWAPPED), in_prose("base"), in_prose("data-mixing")} < {*re.split(", | and ", below)}
    assert told.endswith("No method gets more than 100.0 % of the final numbers right."), "of 0.6 all are"


def test_the_figure_is_of_problems_and_has_no_verdict(found):
    shown = on_mgsm.figure(found, 5)
    assert caption(shown).startswith(
        "Figure 5. MGSM in Swahili: every method against the math expert, right of zero it is better: "
    )
    assert "dots are means over 6 problems and three trainings" in caption(shown) and not shown.verdicts


def test_gains_are_over_the_base_and_more_is_better(found):
    head, *rows = cells(on_mgsm.gains_table(found, 10))
    assert head == ["method", f"{READINGS[PRIMARY].title} (nats)", f"{READINGS[NLL].title} (nats)"]
    assert {row[0] for row in rows} == {in_prose(*arm) for arm in arms_of(found) if arm[0] != "base"}
    (swap,) = [row for row in rows if row[0] == in_prose(*claims.SWAPPED)]
    assert all(value.startswith("+0.") for value in swap[1:]), "less surprise is a gain, too"


def test_answers_are_counted_by_method(found):
    head, *rows = cells(on_mgsm.answers_table(found, 11))
    assert len(rows) == len(MAIN_METHODS) and f"{READINGS[EXACT_MATCH].title} (%)" in head


def test_two_trainings_and_nothing_are_not_told(monkeypatch):
    study = open_study("pocket", "sw", 0, live=False)
    monkeypatch.setattr(on_mgsm, "committed_outcomes", lambda *named, **filters: asked(seeds=2))
    few = on_mgsm.outcomes(study)

    monkeypatch.setattr(on_mgsm, "committed_outcomes", lambda *named, **filters: pd.DataFrame(columns=COLUMNS))
    none = on_mgsm.outcomes(study)
    for found in (few, none):
        assert found.empty and isinstance(found, pd.DataFrame)
        for shown in (on_mgsm.figure(found, 5), on_mgsm.gains_table(found, 10), on_mgsm.answers_table(found, 11)):
            assert "--experiment real" in shown.html
        assert "--experiment real" in on_mgsm.reading(found)
