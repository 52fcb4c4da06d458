"""The scorecard, on made-up outcomes whose answers are known, whole and as they come."""

import numpy as np
import pandas as pd
import pytest

from xlnb.chapters import scorecard
from xlnb.evaluation.readings import EXACT_MATCH, EXPRESSION, NLL, PRIMARY, TWIN_CHOICE, TWINS
from xlnb.methods import METHODS
from xlnb.studies import claims
from xlnb.studies.comparisons import BASE, BETTER
from xlnb.studies.experiments import EVERY_METHOD, MAIN_METHODS, RANDOM_CONTROLS
from xlnb.studies.outcomes import COLUMNS
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

ARMS = [(slug, "C" if METHODS[slug].uses_partition else "") for slug in EVERY_METHOD]
CONTROLS = [("layer-swapping", name) for name in ("complement of C", "half and half", *RANDOM_CONTROLS)]


def made(level, languages=("sw", "bn", "te"), seeds=3, pairs=6, spread=0.01):
    """Outcomes of every method, each with its level in every language, as the experiment has them."""
    rng, rows = np.random.default_rng(0), []
    for method, partition in (*ARMS, *CONTROLS):
        for seed in range(1 if method == "base" else seeds):
            for language in languages:
                asked = [(code, metric) for code in (language, "en") for metric in (PRIMARY, *TWINS, NLL)]
                told = [(language, metric) for metric in (EXPRESSION, EXACT_MATCH) if method in MAIN_METHODS]
                for code, metric in asked + told:
                    for problem in (f"scored-{i:06d}{twin}" for i in range(pairs) for twin in ("", "-twin")):
                        value = level(method, partition) + rng.normal(0, spread)
                        value = float(value > 0.5) if metric in (TWIN_CHOICE, EXPRESSION, EXACT_MATCH) else value
                        value = -value if metric == NLL else value
                        rows.append((method, partition, seed, language, code, metric, problem, value))
    names = ["method", "partition", "seed", "language", "test_language", "metric", "problem", "outcome"]
    same = {"benchmark": "templates", "split": "scored", "shots": 2, "profile": "pocket", "paradigm": "lora"}
    return pd.DataFrame(rows, columns=names).assign(**same).reindex(columns=COLUMNS, fill_value="")


def swap_first(method, partition):
    return 1.0 if (method, partition) == ("layer-swapping", "C") else 0.0 if method == "base" else 0.6


@pytest.fixture
def found():
    return made(swap_first)


def test_a_swap_that_is_the_best_is_called_so(found):
    table = scorecard.planned(found)
    word = {(row.method_a, row.method_b): row.verdict for row in table.itertuples()}
    rivals = [b for a, (b, _) in claims.PLAN.pairs if a == claims.SWAPPED]
    assert [word["layer-swapping", rival] for rival in rivals] == [BETTER] * 5
    assert [text.split(": ")[1] for text in scorecard.decisions(table)][:3] == ["reproduced with these experts."] * 3
    assert "The swap is better than the math expert (+0.40 nats per token" in scorecard.reading(table)


def test_languages_and_trainings_that_are_not_there_yet(found):
    early = found[(found["language"] == "sw") | (found["seed"] == 0)]  # one training in two languages, three in one
    table = scorecard.planned(early)
    assert set(table["seeds"]) == {1}, "only trainings that every language has"
    assert scorecard.reading(table) == "Fewer than three trainings: no verdict."
    assert scorecard.figure(early).html
    assert set(scorecard.against(early, code="sw")["seeds"]) == {3}
    lacking = found[found["method"] != "simultaneous"]
    assert scorecard.planned(lacking).empty
    assert scorecard.decisions(scorecard.planned(lacking))[0] == "F2: not tested yet."


def test_nothing_is_there(found):
    nothing = found.iloc[:0]
    shown = [
        scorecard.plan_figure(scorecard.planned(nothing), 1),
        *(draw(nothing, number=1) for draw in (scorecard.figure, scorecard.wins_table, scorecard.other_readings)),
        *(draw(nothing, number=1) for draw in (scorecard.english_table, scorecard.answers_table)),
    ]
    assert all("was not computed yet" in one.html for one in shown)


def test_wins_are_counted_over_trainings_and_languages():
    levels = {"base": 0.5, "math-only": 0.6, "soup": 0.4, "layer-swapping": 0.9}
    table = scorecard.wins(made(lambda method, partition: levels.get(method, 0.55), spread=0.001))
    by = table.set_index(["method", "partition"])
    assert set(table["cells"]) == {9}
    assert tuple(by.loc[("soup", ""), ["over_base", "over_math"]]) == (0, 0)
    assert tuple(by.loc[("layer-swapping", "C"), ["over_base", "over_math", "rank", "best", "worst"]]) == (
        1,
        1,
        1,
        1,
        1,
    )
    assert by.loc[("math-only", ""), "rank"] == 2
    assert by.loc[("soup", ""), "rank"] == len(ARMS) - 3, "the base and both references have no rank"
    for reference in (("format-control", ""), ("oracle", ""), ("layer-swapping", "half and half")):
        assert np.isnan(by.loc[reference, "rank"])


def test_every_arm_is_against_the_rival_that_is_asked_for(found):
    table = scorecard.against(found, ("soup", ""), "bn")
    assert set(zip(table["method_b"], table["partition_b"], strict=True)) == {("soup", "")}
    assert len(table) == len(ARMS) + len(CONTROLS) - 1
    assert table.iloc[0]["method_a"] == "base"
    assert table.iloc[0]["difference"] == pytest.approx(-0.6, abs=0.02)
    assert set(table["n"]) == {6}, "a pair counts once"


def test_in_english_a_model_of_no_language_counts_once(found):
    table = scorecard.against(found, code="en")
    assert set(table["n"]) == {6}
    assert set(table["seeds"]) == {3}


def test_other_metrics_are_gains_too(found):
    html = scorecard.other_readings(found, 1).html
    cells = html[html.index("the swap</th>") :].split("</tr>")[0].split("<td")[1:]
    gains = [cell.split(">")[1].split(" ")[0] for cell in cells]
    assert gains == ["+1.00", "+100.0", "+1.00"], "a likelihood that falls is a gain"


def test_what_methods_cost(own_home):
    html = scorecard.budgets_table(Study(named_profile("smoke")), 1).html
    steps = named_profile("smoke").training.steps
    cells = {row.split("</th>")[0]: row for row in html.split('<th scope="row">')[1:]}
    for name, trainings, total in (
        ("the base", 0, 0),
        ("the math expert", 1, steps),
        ("the swap", 2, 2 * steps),
        ("data mixing", 1, 2 * steps),
        ("Math last", 1, 2 * steps),
        ("simultaneous fine-tuning", 1, 2 * steps),
    ):
        told = [part.split("</td>")[0].split(">")[-1] for part in cells[name].split("<td")[2:]]
        assert told == [str(trainings), str(total), str(total * named_profile("smoke").training.batch_size)], name


def test_the_base_is_below_all(found):
    table = scorecard.against(found, BASE)
    assert (table["difference"] > 0).all()
