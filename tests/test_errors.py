"""One shape for every value that is not among those allowed."""

from __future__ import annotations

import pytest

from xlnb.errors import RequestError, known, whole_number


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


def test_where_nothing_is_allowed_that_is_said():
    with pytest.raises(RequestError, match=r"^No seed '3': there are none\.$"):
        known("seed", "3", [])


def test_whole_numbers():
    assert [whole_number("n", value, least) for value, least in ((0, 0), (1, 1), (10**12, 0))] == [0, 1, 10**12]
    for value, least in ((-1, 0), (0, 1), (True, 1), (2.0, 0), ("2", 0), (None, 0)):
        with pytest.raises(RequestError) as caught:
            whole_number("shots", value, least)
        assert str(caught.value) == f"shots must be a whole number from {least} on, not {value!r}."
