"""The figures of the chapters on data and measuring: no text overlaps another or is cut, on committed and on extreme data."""

import numpy as np
import pandas as pd
import pytest
from texts import no_faults, watched

from xlnb.chapters import (
    base_and_data,
    experts,
    figures,
    freezing,
    home,
    many_comparisons,
    measuring,
    pictures,
    power,
    scorecard,
    simultaneous,
    word_problems,
)
from xlnb.evaluation.readings import READINGS, VALIDATED
from xlnb.methods import ORACLE_BUDGETS, PLACEBO
from xlnb.stats import Components
from xlnb.studies import claims, experiments
from xlnb.studies.comparisons import judged
from xlnb.studies.outcomes import select
from xlnb.studies.study import open_study


@pytest.fixture
def looked_at(monkeypatch):
    modules = (base_and_data, word_problems, measuring, power, experts, figures, simultaneous)
    return watched(monkeypatch, *modules)


def test_a_planted_fault_is_found(looked_at):
    def draw(narrow):
        figure, (axis,) = pictures.panels(1, 1.5, narrow)
        axis.set_xticks([0, 0.01, 1], ["a long label", "another one", "third"])
        return figure

    base_and_data.picture(draw, number=None, caption="", alt="")
    assert all(faults for _, faults in looked_at)


def test_the_committed_figures(looked_at):
    study = open_study("pocket", "sw", 0, live=False)
    word_problems.difficulty_figure(word_problems.step_shares())
    base_and_data.shots_figure(study.outcomes(*experiments.BY_SHOTS))
    everywhere, _ = measuring.committed_validation()
    for language in everywhere["language"].unique():
        mine = select(everywhere, language=language)
        measuring.validation_figure(mine, own=select(mine, seed=0))
    no_faults(looked_at)


def test_the_committed_figures_of_the_comparison(looked_at):
    study = home.committed_study()
    found, losses = scorecard.outcomes(study), experts.histories(study)
    scorecard.plan_figure(home.planned())
    scorecard.figure(found)
    freezing.languages_figure(found)
    experts.curve_figure(losses)
    experts.gains_figure(experts.outcomes(study))
    simultaneous.turns_figure(study)
    simultaneous.gap_figure(experts.histories(study, simultaneous.TRAINED), "sw")
    simultaneous.figure(found)
    no_faults(looked_at)


def test_one_scale_is_one_however_the_panels_stand(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "picture", lambda draw, **_: drawn.extend(draw(narrow) for narrow in (False, True)))
    study = open_study("pocket", "sw", 0, live=False)
    table = judged(claims.GAINS, study.repeated(*many_comparisons.ASKED[claims.GAINS.id]))
    parts = [(code, part) for code, part in table.groupby("test_language")]
    figures.forest(parts, caption="", one_scale=True)
    assert len(drawn) == 2
    for figure in drawn:
        limits = {axis.get_xlim() for axis in figure.axes}
        assert len(figure.axes) == 2 and len(limits) == 1


@pytest.mark.parametrize("size", [0.0, 1e-4, 1.0, 12345.678])
@pytest.mark.parametrize("trainings", [1, 3])
def test_gains_of_any_size(looked_at, size, trainings):
    rng = np.random.default_rng(0)
    rows = []
    for metric in VALIDATED:
        for arm, mean in ({"base": 0} | ORACLE_BUDGETS | {PLACEBO: -40.0}).items():
            seeds = 1 if arm == "base" else trainings
            for seed in range(seeds):
                values = size * (mean + rng.normal(0, 0.3, 12))
                rows += [(metric, arm, seed, f"development-{i:06d}", value) for i, value in enumerate(values)]
    outcomes = pd.DataFrame(rows, columns=["metric", "method", "seed", "problem", "outcome"]).assign(
        partition="", language="sw", test_language="sw", benchmark="templates", split="development", shots=2
    )
    measuring.validation_figure(outcomes)
    no_faults(looked_at)


@pytest.mark.parametrize("size", [0.0, 0.003, 1.0, 54321.0])
def test_levels_of_any_size(looked_at, size):
    rows = [
        (
            metric,
            code,
            shots,
            f"development-{i:06d}",
            float(i % 2) if READINGS[metric].unit == "%" else size * (i + shots),
        )
        for metric in ("nll", "expression-nll", "expression")
        for code in ("en", "te")
        for shots in range(3)
        for i in range(4)
    ]
    outcomes = pd.DataFrame(rows, columns=["metric", "test_language", "shots", "problem", "outcome"])
    keys = {
        "profile": "p",
        "setting": "s",
        "model": "m",
        "language": "te",
        "paradigm": "lora",
        "seed": 0,
        "partition": "",
    }
    others = {"method": "base", "expert": "none", "split": "development", "benchmark": "templates"}
    base_and_data.shots_figure(outcomes.assign(**keys, **others, corpora="", trained="", asked=""))
    no_faults(looked_at)


@pytest.mark.parametrize("counts", [(1,), (1, 2, 3, 4, 5)])
def test_any_number_of_steps(looked_at, counts):
    shares = pd.DataFrame({n: [1 / len(counts)] * 4 for n in counts}, ["train", "few-shot", "development", "scored"])
    word_problems.difficulty_figure(shares)
    no_faults(looked_at)


@pytest.mark.parametrize("components", [Components(0, 0, 0, 0), power.ASSUMED, Components(9, 9, 9, 3)])
@pytest.mark.parametrize(("problems", "trainings"), [(25, 1), (250, 3), (5000, 20)])
def test_power_of_any_noise(looked_at, components, problems, trainings):
    power.power_figure(components, 0.03, problems, trainings)
    no_faults(looked_at)
