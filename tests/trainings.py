"""What tests of training share: an expert trained as the math and the language expert are."""

from xlnb.corpora import fingerprint
from xlnb.training import sft
from xlnb.training.experts import Lesson


def train_expert(base, examples, training, seed, out, title="expert"):
    """Train by LoRA on all parameters, or find what equal settings gave."""
    spec = {"base": base.fingerprint, "data": fingerprint(examples), "seed": seed, "training": training.spec()}
    return sft.train_expert(base, [Lesson(tuple(examples), training.steps)], training, seed, out, spec, title=title)
