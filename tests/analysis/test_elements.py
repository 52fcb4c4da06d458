"""Single elements: their scores against a plain loop of single backward passes, their overlap by hand."""

import pytest
import torch
from plain_loops import loss_of, rows_of

from xlnb.analysis.elements import element_overlap, element_scores
from xlnb.analysis.sensitivity import SAMPLED, linear_modules, sensitivity
from xlnb.errors import RequestError
from xlnb.models.base import load_base


@pytest.fixture
def base(miniature):
    return load_base(miniature())


def test_taylor_by_element_is_that_of_single_backward_passes(base):
    rows, weights = rows_of(base), linear_modules(base.model)
    expected = {name: torch.zeros_like(module.weight) for name, module in weights.items()}
    for row in rows:
        base.model.zero_grad()
        loss_of(base, row).backward()
        for name, module in weights.items():
            expected[name] += (module.weight.grad * module.weight.detach()).abs() / len(rows)
    found = element_scores(base, rows, "taylor")
    largest = max(float(one.max()) for one in expected.values())
    assert all(torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-6 * largest) for name in weights)


def test_fisher_by_element_adds_up_to_the_trace(base):
    rows = rows_of(base)
    traces = sensitivity(base, rows, SAMPLED, seed=3)
    traces = traces[traces["measure"] == "fisher"].set_index("parameter")["score"]
    found = element_scores(base, rows, "fisher", seed=3)
    assert {name: float(one.sum()) for name, one in found.items()} == pytest.approx(dict(traces), rel=1e-4)


def test_overlap_by_hand():
    a = {"x": torch.tensor([4.0, -3.0]), "y": torch.tensor([2.0, 1.0])}
    b = {"x": torch.tensor([1.0, 9.0]), "y": torch.tensor([-8.0, 0.0])}
    found = element_overlap(a, b, (0.25, 0.5, 1))
    assert found["jaccard"].tolist() == pytest.approx([0, 1 / 3, 1])
    assert found["chance"].tolist() == pytest.approx([0.25 / 1.75, 1 / 3, 1])
    assert (element_overlap(a, a)["jaccard"] == 1).all()
    with pytest.raises(RequestError, match="the same weights"):
        element_overlap(a, {"x": b["x"]})
    for share in (0, 1.5, float("nan")):
        with pytest.raises(RequestError, match=f"The share of the top is {share}: it lies above 0, up to 1"):
            element_overlap(a, b, (0.5, share))


def test_independent_scores_overlap_by_chance():
    drawn = [{"x": torch.randn(400, 500, generator=torch.Generator().manual_seed(seed))} for seed in (0, 1)]
    found = element_overlap(*drawn, (0.1, 0.2, 0.5))
    assert found["jaccard"].tolist() == pytest.approx(found["chance"].tolist(), rel=0.05)
