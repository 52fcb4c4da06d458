"""One site exchanged at a time, against a plain loop that merges and computes everything anew."""

import pytest
import torch
from experts import decoder
from plain_loops import losses_by_loop, rows_of, vector_of

from xlnb.analysis.interventions import ablated, exchanged, patched
from xlnb.analysis.linearity import cross_task
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.weights.merging import layer_swapping
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector


@pytest.fixture(params=MINIATURES)
def base(request, miniature):
    return load_base(miniature(request.param))


def expert_of(base, seed=0):
    """A task vector over linear modules, and over the norms inside the layers."""
    return vector_of(base, [name for name, _ in base.model.named_parameters() if ".layers." in name], seed)


def losses(base, vector):
    return losses_by_loop(base, vector, rows_of(base))


def only(depth, layer, block):
    """A partition that gives one site to math and all else to the language."""
    shares = {name: [float(name == block and i == layer) for i in range(depth)] for name in ("attention", "ffn")}
    return Partition("only", tuple(shares["attention"]), tuple(shares["ffn"]))


def test_the_same_as_a_swap_of_one_site(base):
    now, then = expert_of(base), expert_of(base, seed=1)
    found = exchanged(base, now, then, rows_of(base))
    assert len(found) == 3 * (1 + 2 * base.depth)
    whole = found[found["layer"].isna()]
    assert list(whole["loss"]) == pytest.approx(losses(base, now), rel=1e-5)
    for (layer, block), part in found.dropna(subset=["layer"]).groupby(["layer", "block"]):
        expected = losses(base, layer_swapping(then, now, only(base.depth, layer, block)))
        assert list(part["loss"]) == pytest.approx(expected, rel=1e-5), (layer, block)


def test_reverting_and_giving_are_its_two_ends(miniature):
    base = load_base(miniature())
    expert = expert_of(base)
    reverted, given = ablated(base, expert, rows_of(base)), patched(base, expert, rows_of(base))
    assert list(reverted[reverted["layer"].isna()]["loss"]) == pytest.approx(losses(base, expert), rel=1e-5)
    assert list(given[given["layer"].isna()]["loss"]) == pytest.approx(losses(base, TaskVector({})), rel=1e-5)
    one = layer_swapping(expert, TaskVector({}), only(base.depth, 3, "ffn"))
    alone = given[(given["layer"] == 3) & (given["block"] == "ffn")]
    assert list(alone["loss"]) == pytest.approx(losses(base, one), rel=1e-5)


def test_a_site_that_did_not_change_changes_nothing(miniature):
    base = load_base(miniature("llama"))
    expert = TaskVector.of({"model.layers.2.mlp.up_proj.weight": torch.ones(64, 32)})
    found = ablated(base, expert, rows_of(base))
    assert set(found.dropna()["layer"]) == {2} and set(found.dropna()["block"]) == {"ffn"}, "no site without a change"
    assert list(found.dropna()["loss"]) == pytest.approx(losses(base, TaskVector({})), rel=1e-5)


def test_the_same_text_twice_is_two_rows(miniature):
    base = load_base(miniature("llama"))
    row = rows_of(base)[0]
    found = ablated(base, expert_of(base), [row, row])
    assert found.groupby("row").size().tolist() == [1 + 2 * base.depth] * 2


def test_the_model_is_left_as_it_was(miniature):
    base = load_base(miniature("qwen2"))
    before = {name: parameter.detach().clone() for name, parameter in base.model.named_parameters()}
    ablated(base, expert_of(base), rows_of(base))
    assert all(torch.equal(before[name], parameter) for name, parameter in base.model.named_parameters())
    for layer in base.model.get_decoder().layers:
        assert "forward" not in vars(layer) and not layer._forward_pre_hooks


def test_what_lies_outside_the_layers_stays(miniature):
    base = load_base(miniature())
    outside = {"model.norm.weight": torch.full((32,), 0.5)}
    now = TaskVector.of({**outside, **expert_of(base)})
    found = ablated(base, now, rows_of(base))
    everything = found.groupby(["layer", "block"])["loss"].mean()
    one = layer_swapping(TaskVector({}), expert_of(base), only(base.depth, 0, "attention"))
    expected = losses(base, TaskVector.of({**outside, **one}))
    assert everything[0, "attention"] == pytest.approx(sum(expected) / 3, rel=1e-5)


@pytest.mark.parametrize("kind", ["GPT2", "Bloom", "Falcon"])
def test_a_decoder_whose_layers_have_another_name_is_refused(tmp_path, kind):
    base = load_base(decoder(tmp_path / kind, kind))
    with pytest.raises(RequestError, match=rf"The layers of {kind}\w+ cannot be looked into.*'layers'"):
        ablated(base, TaskVector({}), rows_of(base))
    with pytest.raises(RequestError, match=rf"The layers of {kind}\w+ cannot be looked into"):
        cross_task(base, TaskVector({}), TaskVector({}), rows_of(base))


def test_what_is_given_to_the_base_is_of_the_same_model(miniature):
    base = load_base(miniature("llama"))
    with pytest.raises(RequestError, match=r"The model has no parameter 'model\.layers\.9"):
        patched(base, TaskVector.of({"model.layers.9.mlp.up_proj.weight": torch.zeros(64, 32)}), rows_of(base))


def test_no_text_is_no_question(miniature):
    base = load_base(miniature())
    with pytest.raises(RequestError, match="No texts to look at"):
        ablated(base, expert_of(base), [])
