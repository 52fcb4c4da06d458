"""What tests of training share: an expert trained as the math and the language expert are."""

from contextlib import contextmanager

import pytest

from xlnb.corpora import fingerprint
from xlnb.training import sft
from xlnb.training.experts import Lesson


def train_expert(base, examples, training, seed, out, title="expert", paradigm="lora"):
    """Train all parameters, or find what equal settings gave."""
    spec = {"base": base.fingerprint, "data": fingerprint(examples), "seed": seed, "training": training.spec()}
    lessons = [Lesson(tuple(examples), training.steps)]
    return sft.train_expert(base, lessons, training, seed, out, spec, title=title, paradigm=paradigm)


@contextmanager
def stopped_at_its_first_checkpoint(monkeypatch):
    """Interrupt the training inside as soon as it has saved what it goes on from."""

    def stop(path, *arguments):
        plain(path, *arguments)
        raise KeyboardInterrupt

    plain = sft._save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sft, "_save", stop)
        yield
