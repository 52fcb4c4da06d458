"""Arguments of wrong types in Python: each public verb refuses them in one sentence, before it looks at anything."""

from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from experts import lora

import xlnb
from xlnb.errors import RequestError
from xlnb.weights import partitions
from xlnb.weights.partitions import Partition
from xlnb.weights.task_vectors import TaskVector

FOLDER = [5, b"x", ["x"], True, 1.5]
TEXT = [5, b"C", ["C"], True, Path("C")]
NUMBER = ["0.5", True, [0.5], None, 1j]
WHOLE = ["3", 1.5, True, [1], np.float64(1)]
LIST = ["folder", b"folder", 5, Path("folder"), {"a": "b"}, {"a"}, [5, 6], [None, "a"], (name for name in "ab")]
WEIGHTS = [["1", "2"], "12", 0.5, [True, 1], {0.5: 1}, [[1], [2]]]
YES = ["yes", 1, None, [True]]
PARTITION = [5, b"C", ["C"], True, {"layers": [1]}]
WRONG = {
    "method": [*TEXT, None], "out": [*FOLDER, None], "math": FOLDER, "language": FOLDER, "experts": LIST, "weights": WEIGHTS,
    "base": FOLDER, "partition": PARTITION, "bottom": WHOLE, "top": WHOLE, "transition": WHOLE, "embeddings": TEXT,
    "density": NUMBER[:3], "seed": [*WHOLE, None], "t": NUMBER, "dtype": TEXT, "as_checkpoint": YES, "same_base": YES,
    "trust_configs": YES, "expert": [*FOLDER, None], "keep": [*TEXT, None], "a": [*FOLDER, None], "b": [*FOLDER, None],
    "choice": PARTITION, "model": [*FOLDER, None],
}  # fmt: skip
VERBS = {
    xlnb.merge: {"method": "soup", "out": "out", "experts": ["a", "b"]},
    xlnb.revert: {"base": "base", "expert": "a", "keep": "math", "out": "out"},
    xlnb.diff: {"a": "a", "b": "b"},
    xlnb.export_mergekit: {"math": "a", "language": "b"},
    xlnb.partition: {"choice": "C", "model": "a"},
}
OPTIONAL = {
    (xlnb.revert, "base"): [None],
    (xlnb.export_mergekit, "math"): [None],
    (xlnb.export_mergekit, "language"): [None],
}
CASES = [
    (verb, name, value)
    for verb in VERBS
    for name in signature(verb).parameters
    for value in [*WRONG[name], *OPTIONAL.get((verb, name), [])]
]


@pytest.mark.parametrize(
    ("verb", "name", "value"), CASES, ids=lambda part: getattr(part, "__name__", None) or repr(part)[:30]
)
def test_every_argument_of_every_verb(tmp_path, monkeypatch, verb, name, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=rf"^{name}=.* is a \w+: it takes [^.]*\.$") as refused:
        verb(**VERBS[verb] | {name: value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 200
    assert not list(tmp_path.iterdir())


VECTOR = TaskVector.of({"model.layers.0.mlp.up_proj.weight": torch.ones(2, 2)})
ONE = Partition("one", (1,))


@pytest.mark.parametrize(
    "call",
    [
        lambda: TaskVector.from_checkpoint(5, "base"),
        lambda: TaskVector.from_checkpoint("expert", None),
        lambda: TaskVector.from_checkpoint(["expert"], "base"),
        lambda: TaskVector.from_adapter(b"adapter"),
        lambda: TaskVector.of_expert(None),
        lambda: TaskVector.of([torch.ones(2)]),
        lambda: VECTOR.mask("C", "math"),
        lambda: VECTOR.mask(ONE, 1),
        lambda: VECTOR.at(layer="0"),
        lambda: xlnb.named_partition(5, 8),
        lambda: xlnb.named_partition("C", "8"),
        lambda: xlnb.named_partition("C", True),
        lambda: xlnb.partition_c(None),
        lambda: xlnb.partition_c(8.0),
        lambda: partitions.outer_layers("1", 1, 8),
        lambda: partitions.read_partition(5),
        lambda: partitions.uniform("1", 8),
        lambda: ONE.shuffled("0"),
        lambda: ONE.to_yaml(None),
        lambda: Partition("p", 5),
        lambda: Partition("p", "1010"),
        lambda: Partition(5, (1, 0)),
        lambda: Partition("p", (1, 0), {1: 0}),
        lambda: xlnb.layer_swapping(VECTOR, "language", ONE),
        lambda: xlnb.layer_swapping(VECTOR, VECTOR, "C"),
        lambda: xlnb.soup(VECTOR),
        lambda: xlnb.soup([VECTOR, None]),
        lambda: xlnb.task_arithmetic([VECTOR, VECTOR], ["1", 1]),
        lambda: xlnb.ties([VECTOR, VECTOR], density="0.2"),
        lambda: xlnb.dare([VECTOR, VECTOR], seed=1.5),
        lambda: xlnb.slerp(VECTOR, VECTOR, VECTOR, t="0.5"),
        lambda: xlnb.slerp(VECTOR, [VECTOR], {}),
        lambda: xlnb.applied(None, {}),
    ],
)
def test_what_works_in_memory(call):
    with pytest.raises(RequestError, match=r"=.* is a \w+: it takes a[^.]*\.$"):
        call()


def test_what_counts_as_numbers_and_lists(miniature, tmp_path):
    """Paths and texts, numbers of numpy, and ordered collections of any kind."""
    adapters = [lora(miniature("llama"), tmp_path / str(i), i) for i in range(2)]
    numbers = [(1, 3), np.array([0.25, 0.75]), [np.float32(1), np.int64(3)]]
    for i, weights in enumerate(numbers):
        experts = tuple(adapters) if i else list(map(str, adapters))
        xlnb.merge("soup", tmp_path / f"out{i}", experts=experts, weights=weights, seed=np.int64(0))
    first, *others = (dict(TaskVector.from_adapter(tmp_path / f"out{i}")) for i in range(3))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    assert str(xlnb.named_partition("C", np.int64(8))) == str(xlnb.partition_c(8))


def test_what_is_missing_or_too_much_is_python_s_to_say():
    with pytest.raises(TypeError, match="missing a required argument: 'out'"):
        xlnb.merge("soup")
    with pytest.raises(TypeError, match="unexpected keyword argument 'expert'"):
        xlnb.merge("soup", "out", expert=["a"])
