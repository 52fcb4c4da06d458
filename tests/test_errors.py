"""One shape for every value that is not among those allowed."""

from __future__ import annotations

import pytest

from xlnb.errors import RequestError, known


def test_what_is_allowed_comes_back_from_any_collection():
    assert known("partition", "B", "ABC") == known("partition", "B", {"B": 1}) == known("partition", "B", iter("AB"))


@pytest.mark.parametrize(
    "value, message",
    [
        ("D", "No split 'D': choose one of train, scored."),
        ("scord", "No split 'scord': choose one of train, scored. Did you mean scored?"),
        (None, "No split None: choose one of train, scored."),
        ([1], "No split [1]: choose one of train, scored."),  # not hashable: no TypeError of a dictionary
    ],
)
def test_what_is_not_is_refused_with_all_that_is(value, message):
    with pytest.raises(RequestError) as caught:
        known("split", value, {"train": 1, "scored": 2})
    assert str(caught.value) == message
