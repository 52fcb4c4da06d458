"""What tests of merges from disk to disk share."""

import pytest
import torch
from experts import trio_finder


@pytest.fixture(scope="module")
def trios(tmp_path_factory):
    """A function that makes trios (or finds them made); nobody may write there."""
    return trio_finder(tmp_path_factory.mktemp("trios"), torch.float32)
