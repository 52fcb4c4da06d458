"""How far experts moved: by hand."""

import pytest
import torch

from xlnb.analysis.lengths import changed, lengths, squares
from xlnb.errors import RequestError

UP, DOWN = (f"model.layers.{{}}.mlp.{name}_proj.weight" for name in ("up", "down"))


def test_lengths_and_angles_by_hand():
    base = {
        UP.format(0): torch.tensor([[0.0, 5.0]]),
        UP.format(1): torch.tensor([[2.0, 0.0]]),
        DOWN.format(1): torch.ones(1, 3),
    }
    math = {UP.format(0): torch.tensor([[3.0, 0.0]]), UP.format(1): torch.tensor([[1.0, 1.0]])}
    language = {UP.format(0): torch.tensor([[0.0, 4.0]]), UP.format(1): torch.tensor([[2.0, 2.0]])}
    table = squares(math, language, base)
    assert len(table) == 2 and table["elements"].tolist() == [2, 2], "what neither moved is left out"
    found = lengths(table, "layer").set_index("layer")
    assert tuple(found.loc[0]) == pytest.approx((3 / 5, 4 / 5, 0))
    assert tuple(found.loc[1]) == pytest.approx((2**0.5 / 2, 8**0.5 / 2, 1))
    whole = lengths(table).iloc[0]
    assert tuple(whole) == pytest.approx(((11 / 29) ** 0.5, (24 / 29) ** 0.5, 4 / (11 * 24) ** 0.5))
    with pytest.raises(RequestError, match="no parameter in common"):
        squares(math, {DOWN.format(0): torch.ones(1)}, base)


@pytest.mark.parametrize(
    ("which", "who"), [(0, "math expert"), (1, "language expert"), (2, "base")], ids=["math", "language", "base"]
)
def test_what_diverged_has_no_length(which, who):
    sides = [{UP.format(0): torch.ones(2, 2)} for _ in range(3)]
    sides[which][UP.format(0)][0, 0] = float("nan")
    with pytest.raises(RequestError, match=f"The {who} has NaN or infinite numbers at '{UP.format(0)}'"):
        squares(*sides)


@pytest.mark.parametrize("side", [0, 1])
def test_vectors_of_another_model_have_no_length(side):
    base = {UP.format(0): torch.ones(2, 2)}
    sides = [base, base]
    sides[side] = base | {UP.format(1): torch.ones(2, 2)}
    with pytest.raises(RequestError, match=r"has no parameter 'model\.layers\.1\..* \(1 such\)"):
        squares(*sides, base)
    sides[side] = {UP.format(0): torch.ones(1, 2)}  # which torch would repeat
    with pytest.raises(RequestError, match=r"has shape \(1, 2\), the parameter \(2, 2\)"):
        squares(*sides, base)


def test_one_side_may_have_more():
    base = {UP.format(0): torch.ones(1, 2), DOWN.format(0): torch.ones(1, 2)}
    found = squares({UP.format(0): torch.ones(1, 2)}, base, base).set_index("projection")
    assert found.loc["down", ["m", "l", "dot"]].tolist() == [0, 2, 0]
    assert found.loc["up", ["m", "l", "dot"]].tolist() == [2, 2, 2]


def test_change_is_a_share_of_what_is_there():
    weight = {UP.format(0): torch.full((2, 2), 2.0)}
    norm = "model.layers.0.pre_feedforward_layernorm.weight"
    moved = changed({name: 0.5 * value for name, value in weight.items()}, weight)
    assert moved["score"].tolist() == pytest.approx([0.5])
    long, bent = {norm: torch.full((3,), 1e4)}, {norm: torch.ones(3)}
    both = changed({name: 0.5 * value for name, value in weight.items()} | bent, weight | long)
    assert both["score"].tolist() == pytest.approx([0.5]), "a norm, however long, hides nothing"
