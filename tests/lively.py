"""A miniature whose predictions are worth comparing."""

import torch


def lively(base):
    """Make predictions depend strongly on what is read, so that a wrong position, mask or precision shows."""
    with torch.no_grad():
        for name, parameter in base.model.named_parameters():
            if "_proj" in name:
                parameter.mul_(8)
        base.model.get_output_embeddings().weight.mul_(10)
    return base
