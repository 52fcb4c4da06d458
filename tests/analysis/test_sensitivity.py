"""Taylor scores, Fisher traces and slopes against a plain loop of single backward passes, and against finite differences."""

import plain_loops
import pytest
import torch
from plain_loops import loss_of

from xlnb.analysis.sensitivity import FISHER, SAMPLED, TAYLOR, linear_modules, sensitivity, slopes
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.weights.merging import applied
from xlnb.weights.task_vectors import TaskVector


@pytest.fixture(params=MINIATURES)
def base(request, miniature):
    return load_base(miniature(request.param))


def rows_of(base):
    return plain_loops.rows_of(base, 4)


def plain_loop(base):
    """One sample after the other, gradients of whole weights: the definition."""
    weights = {name: module.weight for name, module in linear_modules(base.model).items()}
    taylor, fisher = dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)
    rows = rows_of(base)
    for row in rows:
        found = torch.autograd.grad(loss_of(base, row), list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), found, strict=True):
            taylor[name] += (weight * gradient).sum().abs().item() / len(rows)
            fisher[name] += gradient.square().sum().item() / len(rows)
    return {TAYLOR: taylor, FISHER: fisher}


def test_the_same_as_one_backward_pass_a_sample(base):
    found = sensitivity(base, rows_of(base))
    expected = plain_loop(base)
    assert len(found) == 2 * len(linear_modules(base.model)) == 2 * 8 * 7
    for row in found.itertuples():
        # Of q and k that a norm follows the loss does not depend on the scale: there a Taylor score is rounding alone.
        assert row.score == pytest.approx(expected[row.measure][row.parameter], rel=1e-5, abs=1e-8), row
    assert not any(hook for module in base.model.modules() for hook in module._forward_hooks.values())


def test_weights_are_left_as_they_were(base):
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in base.model.named_parameters()}
    sensitivity(base, rows_of(base))
    for name, parameter in base.model.named_parameters():
        assert torch.equal(parameter, before[name][0]) and parameter.requires_grad == before[name][1]
        assert parameter.grad is None


def test_both_ways_to_the_norm_agree():
    from xlnb.analysis.sensitivity import Seen, squared_norm

    generator = torch.Generator().manual_seed(0)
    for length in (3, 200):  # shorter and longer than where the ways part
        x, g = (torch.randn(2, length, n, generator=generator) for n in (20, 30))
        expected = torch.einsum("bto,bti->boi", g, x).square().sum(dim=(1, 2))
        assert torch.allclose(squared_norm(Seen(x, torch.zeros_like(g), g)), expected, rtol=1e-4)


def test_a_slope_is_the_derivative(miniature):
    """Against central differences of the loss along a vector, in double precision: the loss is far from straight."""
    base = load_base(miniature())
    rows = rows_of(base)
    vector = plain_loops.vector_of(base, linear_modules(base.model), size=0.02)
    told = slopes(base, rows, vector)
    assert set(told.index) == set(vector)
    base.model.double()

    def mean_loss(share):
        with torch.no_grad(), applied(base.model, share * vector):
            return sum(float(loss_of(base, row)) for row in rows) / len(rows)

    by_difference = (mean_loss(0.002) - mean_loss(-0.002)) / 0.004
    assert told.sum() == pytest.approx(by_difference, rel=0.01)


def test_sampled_labels_estimate_the_true_fisher(miniature):
    """The mean over all labels, weighted by what the model predicts, is what draws come near to."""
    base = load_base(miniature("llama"))
    prompt, name = base.start + base.encode("7 x 8"), "model.layers.3.mlp.down_proj.weight"
    weight = linear_modules(base.model)[name].weight
    with torch.no_grad():
        shares = base.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    true = sum(
        float(share) * float(torch.autograd.grad(loss_of(base, (prompt, [label])), [weight])[0].square().sum())
        for label, share in enumerate(shares)
    )
    drawn = sensitivity(base, [(prompt, [5])] * 400, labels=SAMPLED)
    score = drawn[(drawn["parameter"] == name) & (drawn["measure"] == FISHER)]["score"].item()
    assert score == pytest.approx(true, rel=0.15)
    gold = sensitivity(base, [(prompt, [5])])
    assert score != pytest.approx(gold[gold["parameter"] == name]["score"].iloc[1], rel=0.15)


def test_what_cannot_be_looked_at(miniature):
    base = load_base(miniature())
    with pytest.raises(RequestError, match="No texts to look at"):
        sensitivity(base, [])
    with pytest.raises(RequestError, match="Row 1 has an empty completion"):
        sensitivity(base, [([3], [4]), ([3], [])])
    with pytest.raises(RequestError, match="labels"):
        sensitivity(base, rows_of(base), labels="soft")
    with pytest.raises(RequestError, match=r"The slope along model.norm.weight isn't known"):
        slopes(base, rows_of(base), TaskVector.of({"model.norm.weight": torch.zeros(32)}))
