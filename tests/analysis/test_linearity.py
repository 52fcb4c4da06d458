"""Planes, cross terms and activations on models where they are known: linear ones, and random ones against a plain loop."""

import plain_loops
import pytest
from plain_loops import losses_by_loop, rows_of

from xlnb.analysis.linearity import cross_task, grid, losses, projected, surface
from xlnb.analysis.sensitivity import linear_modules, slopes
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.weights.task_vectors import TaskVector


@pytest.fixture
def base(miniature):
    return load_base(miniature())


def vector_of(base, seed, size=0.05):
    return plain_loops.vector_of(base, linear_modules(base.model), seed, size)


def test_a_point_of_the_plane_is_the_merge_there(base):
    math, language, rows = vector_of(base, 0), vector_of(base, 1), rows_of(base)
    found = surface(base, math, language, [(0, 0), (1, 0.5), (-0.5, 1.5)], {"math": rows, "sw": rows[:1]})
    assert len(found) == 3 * (3 + 1)
    for (a, b), part in found.groupby(["a", "b"]):
        mine = part[part["asked"] == "math"].sort_values("row")["loss"]
        assert list(mine) == pytest.approx(losses_by_loop(base, a * math + b * language, rows), rel=1e-5)
    assert losses(base, rows) == pytest.approx(losses_by_loop(base, TaskVector({}), rows), rel=1e-5), (
        "the base is itself again"
    )


def test_a_row_without_a_completion_has_no_loss(base):
    with pytest.raises(RequestError, match="Row 1 has an empty completion"):
        losses(base, [([3], [4]), ([3], [])])


def test_small_updates_are_linear(base):
    """Far enough down, the plane is what the first order says, and activations of the soup are the experts' mean."""
    rows = rows_of(base)
    math, language = vector_of(base, 0, 2e-4), vector_of(base, 1, 2e-4)
    large = cross_task(base, vector_of(base, 0, 0.2), vector_of(base, 1, 0.2), rows)
    small = cross_task(base, math, language, rows)
    assert (small["cosine"] > 0.99).all() and small["coefficient"].between(0.97, 1.03).all()
    assert (large["error"] > 3 * small["error"]).all()
    assert small["error"].lt(0.15).all()


def test_the_first_order_is_the_tangent_of_the_line(base):
    rows, math = rows_of(base), vector_of(base, 0)
    slope = slopes(base, rows, math).sum()
    found = (
        surface(base, math, TaskVector({}), [(0, 0), (0.004, 0), (-0.004, 0)], {"math": rows})
        .groupby("a")["loss"]
        .mean()
    )
    assert slope == pytest.approx((found[0.004] - found[-0.004]) / 0.008, rel=0.05)


def test_where_a_merge_lies_on_the_plane(base):
    math, language, other = (vector_of(base, seed) for seed in range(3))
    assert projected(0.25 * math + -2 * language, math, language) == pytest.approx((0.25, -2, 0), abs=1e-5)
    a, b, off = projected(math + other, math, language)
    assert (a, b) == pytest.approx((1, 0), abs=0.05) and off == pytest.approx(0.5**0.5, abs=0.02), (
        "random vectors are orthogonal"
    )
    part = TaskVector.of({name: math[name] for name in list(math)[:3]})
    assert projected(part, math, language)[0] == pytest.approx((part.norm() / math.norm()) ** 2, rel=0.05)
    with pytest.raises(RequestError, match="span no plane"):
        projected(math, math, 2 * math)


def test_equal_experts_have_their_own_activations(base):
    """Halfway between an expert and itself lies the expert."""
    math = vector_of(base, 0)
    found = cross_task(base, math, math, rows_of(base))
    assert found["cosine"].min() == pytest.approx(1, abs=1e-6) and found["error"].max() < 1e-3


def test_a_plane_has_corners():
    assert grid(-0.5, 1.5, 9)[0] == (-0.5, -0.5) and len(grid()) == 81 and (0.0, 1.0) in grid() and (1.0, 1.0) in grid()
    for wrong in ((0, 1, 1), (1, 0, 3)):
        with pytest.raises(RequestError, match="has no points"):
            grid(*wrong)
