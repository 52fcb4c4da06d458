"""Pieces of work side by side: their order, how many at once, on how many cores each, and what happens when one fails."""

import threading
import time

import pytest
import torch

from xlnb.cores import on_cores


@pytest.fixture(params=[2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Watched:
    """Work that takes a moment, and how much of it was under way at once."""

    def __init__(self):
        self.lock, self.now, self.most, self.begun, self.own = threading.Lock(), 0, 0, [], set()

    def __call__(self, piece):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.begun.append(piece)
            self.own.add(torch.get_num_threads())
        time.sleep(0.02 * (piece % 3 + 1))
        with self.lock:
            self.now -= 1
        if piece == 7:
            raise ValueError("seven")
        return piece * piece


@pytest.mark.parametrize("at_once", [None, 1, 2, 3])
def test_results_come_in_their_order_and_so_many_are_under_way(threads, at_once):
    watched, pieces = Watched(), [8, 3, 1, 9, 4, 2]
    assert list(on_cores(watched, pieces, at_once)) == [64, 9, 1, 81, 16, 4]
    assert sorted(watched.begun) == sorted(pieces)
    assert set(watched.begun[:2]) <= set(pieces[:3]), "the first begin first"
    allowed = min(threads, len(pieces), at_once or threads)
    assert watched.most == allowed
    assert watched.own == {threads // allowed}, "torch's own threads share what is left"
    assert torch.get_num_threads() == threads


def test_a_single_piece_has_all_threads(threads):
    watched = Watched()
    assert list(on_cores(watched, [3])) == [9]
    assert watched.own == {threads}
    assert list(on_cores(watched, [])) == []


def test_behind_a_failure_nothing_begins(threads):
    watched, done = Watched(), []
    with pytest.raises(ValueError, match="seven"):
        for result in on_cores(watched, [1, 7, *range(10, 60)]):
            done.append(result)
    assert done == [1]
    assert len(watched.begun) < 40
    assert watched.now == 0, "what was under way has ended"
    assert torch.get_num_threads() == threads


def test_whoever_stops_asking_leaves_nothing_under_way(threads):
    watched = Watched()
    results = on_cores(watched, list(range(10, 60)))
    assert next(results) == 100
    results.close()
    assert len(watched.begun) < 40
    assert watched.now == 0
    assert torch.get_num_threads() == threads
