"""Maps of a study: what they say of the same model agrees, they are made once, and are read where they are committed."""

from dataclasses import replace

import pandas as pd
import pytest

from xlnb.analysis.fitting import FITTED, partition_of
from xlnb.commands.cli import exit_code
from xlnb.errors import RequestError
from xlnb.studies import atlas
from xlnb.studies.maps import MAPS
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("maps")
    return Study(named_profile("smoke"), "sw", 0, folder=home / "runs", results=home / "results", device="cpu")


@pytest.fixture(scope="module")
def maps(study):
    return {name: atlas.table(study, name) for name in MAPS if name not in ("elements", "sites")}


def at(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return row


def test_maps_agree_on_the_same_models(maps):
    plane, merges, crosses = maps["plane"], maps["merges"], maps["crosses"]
    for asked in ("math", "problems", "language"):
        whole = at(crosses, part="whole", asked=asked)
        corners = {(1, 1): whole["both"], (1, 0): whole["m"], (0, 1): whole["l"], (0, 0): whole["neither"]}
        for (a, b), loss in corners.items():
            assert at(plane, a=a, b=b, asked=asked)["loss"] == pytest.approx(loss, rel=1e-5)
        soup = at(merges, method="soup", asked=asked)
        assert (soup["a"], soup["b"], soup["off"]) == pytest.approx((0.5, 0.5, 0), abs=1e-3)
        assert soup["loss"] == pytest.approx(at(plane, a=0.5, b=0.5, asked=asked)["loss"], rel=1e-5)
        swap = at(merges, method="layer-swapping", partition="C", asked=asked)
        assert swap["loss"] == pytest.approx(at(crosses, part="swap by C", asked=asked)["both"], rel=1e-5)
        assert 0 < swap["off"] < 1, "a swap is no point of the plane"


def test_crosses_are_those_of_the_parts_that_the_profile_names(study, maps):
    """Experts of other strengths are looked at in two parts alone: a tenth of the work, the same numbers."""
    named = named_profile("pocket-far").crosses
    few = MAPS["crosses"].make(replace(study, profile=replace(study.profile, crosses=named)))
    assert set(few["part"]) == set(named) and named
    whole = maps["crosses"][maps["crosses"]["part"].isin(named)][few.columns]
    pd.testing.assert_frame_equal(few, whole.reset_index(drop=True))


def test_slopes_are_the_tangents_of_the_plane(maps):
    slopes = maps["slopes"].groupby(["side", "asked"])["slope"].sum()
    for asked in ("math", "problems", "language"):
        line = {a: at(maps["plane"], a=a, b=0, asked=asked)["loss"] for a in (-0.5, 0.5)}
        assert slopes["math", asked] == pytest.approx(line[0.5] - line[-0.5], rel=0.2, abs=2e-4)


def test_a_map_is_made_once_and_read_where_it_is_committed(study, maps, monkeypatch):
    def fails(study):
        raise AssertionError("made again")

    monkeypatch.setitem(MAPS, "plane", replace(MAPS["plane"], make=fails))
    assert atlas.table(study, "plane").equals(maps["plane"])
    atlas.publish_maps([study], ["plane"], study.results)
    reader = replace(study, live=True, folder=study.folder / "elsewhere")
    assert atlas.table(reader, "plane")[list(maps["plane"])].equals(maps["plane"])
    with pytest.raises(AssertionError, match="made again"):
        atlas.table(replace(reader, seed=1), "plane")
    before = atlas.load_map("plane", study.results)
    monkeypatch.setitem(MAPS, "plane", replace(MAPS["plane"], make=lambda study: pd.DataFrame({"a": [7.0]})))
    atlas.publish_maps([replace(study, language="bn")], ["plane"], study.results)
    both = atlas.load_map("plane", study.results)
    assert len(both) == len(before) + 1 and atlas.load_map("plane", study.results, language="bn")["a"].tolist() == [7]
    assert set(atlas.artifacts.read_json(study.results / "maps" / "provenance.json")["plane"]) == {
        "smoke/gemma3-miniature/sw/lora/0", "smoke/gemma3-miniature/bn/lora/0"
    }  # fmt: skip


@pytest.fixture
def committed(study, tmp_path, monkeypatch):
    """A function from whose call on maps are one number, without a training, and which publishes those of studies."""
    monkeypatch.setattr(Study, "expert", lambda *asked: None)

    def publish(number, *studies):
        made = pd.DataFrame({"a": [number]})
        monkeypatch.setitem(MAPS, "plane", replace(MAPS["plane"], make=lambda study: made))
        if studies:
            atlas.publish_maps(studies, ["plane"], tmp_path / "results")

    return publish


@pytest.fixture
def other_data(tmp_path):
    """Two files of problems like GSM8K's."""
    for name in ("one", "two"):
        lines = (
            f'{{"question": "{name}: how many are {n} and 3?", "answer": "{n}+3={n + 3}\\n#### {n + 3}"}}'
            for n in range(20)
        )
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return [f"gsm8k:{tmp_path}/{name}.jsonl" for name in ("one", "two")]


def test_a_committed_map_is_of_its_data_and_precision_alone(study, committed, other_data, tmp_path):
    own = replace(study, results=tmp_path / "results", folder=tmp_path / "runs")
    assert atlas.load_map("plane", own.results, a=1).empty
    committed(1.0, own)
    file = own.results / "maps" / "plane.parquet"
    pd.read_parquet(file).drop(columns=["corpora", "dtype", "spec"]).to_parquet(file)  # as it was committed before
    committed(2.0)
    assert atlas.table(own, "plane")["a"].tolist() == [1]
    one, two = (replace(own, math_data=data) for data in other_data)
    for other in (one, replace(own, dtype="bfloat16"), replace(one, folder=tmp_path / "elsewhere")):
        assert atlas.table(other, "plane")["a"].tolist() == [2], "made anew"
    committed(3.0, one)
    committed(4.0)
    anywhere = {"folder": tmp_path / "third"}
    assert [atlas.table(replace(each, **anywhere), "plane")["a"].tolist() for each in (own, one, two)] == [
        [1],
        [2],
        [4],
    ]
    assert atlas.tables(own, "plane")["a"].tolist() == [1]
    assert [*atlas.load_map("plane", own.results)["a"]] == [1, 2]
    told = atlas.artifacts.read_json(own.results / "maps" / "provenance.json")["plane"]
    assert [*told] == [f"smoke/gemma3-miniature/sw/lora/0{more}" for more in ("", "/gsm8k + prose/float32")]


@pytest.mark.parametrize("told", [True, False])
def test_a_committed_map_is_of_its_version_and_its_training_alone(study, committed, tmp_path, monkeypatch, told):
    """Where it has no digest, as all that were committed before there was one, of what was usual then."""
    own = replace(study, results=tmp_path / "results", folder=tmp_path / "runs")
    trained = replace(study.profile, training=replace(study.profile.training, learning_rate=1.0))
    other = replace(own, profile=trained)
    committed(1.0, own)
    file = own.results / "maps" / "plane.parquet"
    assert set(pd.read_parquet(file)["spec"]) == {atlas._digest(own, "plane")}
    if not told:
        pd.read_parquet(file).drop(columns=["corpora", "dtype", "spec"]).to_parquet(file)
    committed(2.0)
    elsewhere = {"folder": tmp_path / "elsewhere"}
    monkeypatch.setattr("xlnb.studies.study.committed_rows", lambda *a: {"nll": None})
    for reader in (replace(own, **elsewhere), replace(own, live=False), replace(other, live=False)):
        assert atlas.table(reader, "plane")["a"].tolist() == [1]
    assert atlas.table(replace(other, **elsewhere), "plane")["a"].tolist() == [2], "of another training"
    atlas.publish_maps([replace(own, **elsewhere)], ["plane"], own.results)
    assert (pd.read_parquet(file)["spec"] != "").all() == told, (
        "what is committed is not told of as if it were made now"
    )
    monkeypatch.setitem(MAPS, "plane", replace(MAPS["plane"], version=3))
    committed(3.0, own)
    assert atlas.load_map("plane", own.results)["a"].tolist() == [3], "of another version"


def test_partitions_are_fitted_by_experts_of_a_study_s_own_data(study, other_data, tmp_path):
    own = replace(study, results=tmp_path / "results")
    atlas.publish_maps([replace(own, seed=atlas.FITTED_SEED)], ["fits"], own.results)
    other = replace(own, math_data=other_data[0])
    other.partition("by change")
    made = atlas.map_path(replace(other, seed=atlas.FITTED_SEED), "fits")
    assert made.is_file(), "by experts of these data"


def test_what_was_told_of_a_map_stays_where_it_is_published_from_elsewhere(study, committed, tmp_path):
    own = replace(study, results=tmp_path / "results", folder=tmp_path / "runs")
    committed(1.0, own)
    record = own.results / "maps" / "provenance.json"
    told = atlas.artifacts.read_json(record)
    assert told["plane"]["smoke/gemma3-miniature/sw/lora/0"]["versions"]
    committed(2.0, replace(own, folder=tmp_path / "elsewhere"))
    assert atlas.artifacts.read_json(record) == told


def test_what_may_not_be_computed_is_refused(study, monkeypatch):
    monkeypatch.setattr("xlnb.studies.study.committed_rows", lambda *a: {"nll": None})
    with pytest.raises(RequestError, match=r"The map sites is not committed .*language bn"):
        atlas.table(replace(study, language="bn", live=False), "sites")
    assert exit_code(["maps", "valley", "--profile", "smoke"]) == 2


def test_fitted_partitions_are_of_a_language_and_of_no_scored_seed(study):
    partitions = {name: study.partition(name) for name in FITTED}
    assert {name: replace(study, seed=3).partition(name) for name in FITTED} == partitions
    fits = atlas.table(replace(study, seed=atlas.FITTED_SEED), "fits")
    mine = partition_of(fits[fits["measure"] == "fisher"], study.depth, "by fisher", by_block=True)
    assert partitions["by fisher"] == mine
    for name in FITTED:
        if name.endswith("as many as C"):
            assert sum(partitions[name].attention) == sum(study.partition("C").attention)


def test_a_study_of_another_seed_has_its_own_experts(study):
    study.expert_spec("math-only")
    other = replace(study, seed=1)
    assert other.expert_spec("math-only")["seed"] == 1 and other.expert_folder("math-only") != study.expert_folder(
        "math-only"
    )
