"""Committed results of another profile, the second pocket model's, change nothing that the chapters say of the first."""

import ast
import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_up import made

from xlnb import chapters
from xlnb.chapters import (
    budgets,
    experts,
    foretelling,
    freezing,
    home,
    importance,
    measuring,
    scorecard,
    simultaneous,
)
from xlnb.errors import RequestError
from xlnb.paths import project_root
from xlnb.studies import experiments
from xlnb.studies.maps import MAPS
from xlnb.studies.outcomes import load_outcomes, load_training
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import open_study

OTHER = "pocket-smollm2"
RESULTS = project_root() / "book" / "results"
REMEMBERED = (home.committed_study, home.tables, home._planned, home.linear, measuring._committed)
LOADERS = {"committed_outcomes", "load_outcomes", "load_scores", "load_training", "load_costs", "committed_rows"}


def of_another_model(table, kind):
    """Return rows as the other profile's would be, far from the first's."""
    table, model = table.assign(profile=OTHER), named_profile(OTHER).model
    if kind == "outcomes":
        others = {"model": model, "trained": "other-" + table["trained"].astype(str)}
        return table.assign(**others, outcome=7.0 - 3.0 * table["outcome"])
    if kind in MAPS:
        return table.assign(**{name: 7.0 - 3.0 * table[name] for name in table.select_dtypes("float")})
    return table.assign(**{"training": {"loss": 99.0, "model": model}, "costs": {"seconds": 1e6}}[kind])


def told():
    """Return what chapters say by the committed results, and the tables that figures are drawn from."""
    for cached in REMEMBERED:
        cached.cache_clear()
    study = open_study("pocket", "sw", 0, live=False)
    elsewhere = freezing.elsewhere_figure(freezing.elsewhere(study))
    shown = [scorecard.answer().html, freezing.answer().html, elsewhere.html, home.findings_table()]
    outcomes, costs = measuring.committed_validation()
    tables = {
        "plan": home.planned(),
        "first swap": study.repeated(experiments.FIRST_SWAP),
        "base": study.outcomes(experiments.BASE),
        "scorecard": scorecard.outcomes(study),
        "experts": experts.outcomes(study),
        "trainings": experts.histories(study),
        "simultaneous": simultaneous.outcomes(study),
        "validation": outcomes,
        "costs": costs,
        "own costs": study.costs(),
        "search": budgets._committed(),
        "foretelling": foretelling.cells(study),
        **{f"map of {name}": table for name, table in importance.maps(study).items() if len(table)},
    }
    return shown, tables


@pytest.fixture
def results(own_home):
    """The committed results in a home of the test's own; what is remembered of them is forgotten behind it."""
    folder = own_home / "book" / "results"
    shutil.copytree(RESULTS, folder)
    yield folder
    for cached in REMEMBERED:
        cached.cache_clear()


def write(folder, rows):
    folder.mkdir()
    rows.to_parquet(folder / "outcomes.parquet", index=False)


def test_rows_of_another_profile_change_nothing(results):
    shown, tables = told()
    assert all(len(table) for table in tables.values()), "little is looked at"
    for file in sorted(results.glob("*/*.parquet")):
        out = results / (file.parent.name + "-smollm2") / file.name
        if file.stem in MAPS:  # where those of all profiles are in one file
            rows = pd.read_parquet(file)
            pd.concat([of_another_model(rows, file.stem), rows]).to_parquet(file, index=False)
        elif file.stem != "search":  # that is named by its model
            out.parent.mkdir(exist_ok=True)
            of_another_model(pd.read_parquet(file), file.stem).to_parquet(out, index=False)
    soup_first = made(lambda method, partition: 5.0 * (method == "soup"))
    write(results / "main-methods-made-up", soup_first.assign(profile=OTHER, trained="made up", asked="made up"))
    assert len(load_outcomes(profile=OTHER)) and len(load_training(profile=OTHER)), "the other rows are not there"
    again, others = told()
    assert again == shown
    for name, table in tables.items():
        pd.testing.assert_frame_equal(others[name], table, obj=name)


def test_the_other_profile_reads_its_own_alone(results):
    with pytest.raises(RequestError, match="No committed result of profile pocket-smollm2"):
        open_study(OTHER, "sw", 0, live=False)
    theirs = made(lambda method, partition: 1.0).assign(profile=OTHER, model="smollm2-135m-instruct")
    write(results / "main-methods-smollm2", theirs)
    study = open_study(OTHER, "sw", 0, live=False)
    assert study.depth == 30
    assert scorecard.outcomes(study).empty, "the comparison of all methods was made of Gemma alone"
    write(results / "methods-smollm2", theirs)
    assert set(scorecard.outcomes(study)["profile"]) == {OTHER}


def test_chapters_ask_for_results_by_profile():
    asked = []
    for path in sorted(Path(chapters.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in LOADERS:
                asked.append((f"{path.stem}, line {node.lineno}", {keyword.arg for keyword in node.keywords}))
    assert len(asked) > 10, "the loaders have other names"
    assert [place for place, named in asked if not named & {"profile", None}] == [], "reads the rows of every profile"
