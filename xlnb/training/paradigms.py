"""LoRA and full fine-tuning: what may be trained of a base model, and how the result is written."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.errors import RequestError, WorkError
from xlnb.models.memory import MOMENTS
from xlnb.training import ranks
from xlnb.weights.sites import locate_all
from xlnb.weights.tensor_files import ADAPTER, SINGLE, companions, copy_companions, open_checkpoint, with_dtype

if TYPE_CHECKING:
    from torch.nn import Parameter

    from xlnb.models.base import Base
    from xlnb.training.sft import Training


@dataclass(frozen=True)
class Trainee:
    """A model while it is fine-tuned: what is called, and what may be trained of it, by name."""

    base: Base
    model: Any
    weights: dict[str, Parameter]


@dataclass(frozen=True)
class Paradigm:
    """How a base is fine-tuned: ``attached(base, training, seed, start)`` gives a trainee and afterwards the base as it was,
    to the last bit (or shared out, where several processes train); ``save(trainee, folder)`` writes an expert's folder."""

    attached: Callable[[Base, Training, int, Path | None], AbstractContextManager[Trainee]]
    save: Callable[[Trainee, Path], None]


@contextmanager
def _flags_kept(model: Any) -> Iterator[None]:
    """Leave the model as it was in what counts as trainable, without gradients, in evaluation mode."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
            parameter.grad = None
        model.eval()


@contextmanager
def _lora(base: Base, training: Training, seed: int, start: Path | None) -> Iterator[Trainee]:
    import torch
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        use_rslora=training.rank_stabilised,
        target_modules=list(training.projections),
        task_type="CAUSAL_LM",
    )
    modules = [name for name, _ in base.model.named_modules()]
    # PEFT is content where it finds one of them
    if missing := [one for one in training.projections if not any(name.endswith(f".{one}") for name in modules)]:
        raise RequestError(
            f"LoRA is asked for {', '.join(missing)}, which {base.folder} does not have: its projections are fused or have "
            "other names. Name its own in the training's projections, or fine-tune it in full."
        )
    with _flags_kept(base.model):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(seed)  # A is drawn at random, B starts at zero
            # PEFT asks transformers for a name that is about to change; not the reader's business
            warnings.simplefilter("ignore", FutureWarning)
            model = get_peft_model(base.model, config)
        try:
            if start is not None:
                set_peft_model_state_dict(model, load_file(start / ADAPTER, device=str(base.device)))
            ranks.shared_out(base.model)
            yield Trainee(base, model, {name: p for name, p in model.named_parameters() if p.requires_grad})
        finally:
            model.unload()


def _save_adapter(trainee: Trainee, folder: Path) -> None:
    # no embeddings: the adapter fits the untrimmed base
    trainee.model.save_pretrained(folder, save_embedding_layers=False, state_dict=trainee.weights)


@contextmanager
def _full(base: Base, training: Training, seed: int, start: Path | None) -> Iterator[Trainee]:
    """Embeddings, head and final norm are frozen (recalled of the paper); all inside the layers is trained, in float32."""
    import torch

    from xlnb.weights.tensors import load

    parameters = dict(base.model.named_parameters())
    inside = [name for name, site in locate_all(parameters).of.items() if site.layer is not None]
    _say_memory(sum(parameters[name].numel() for name in inside), base.device, training.optimizer)
    kept = () if ranks.several() else inside  # what is shared out is loaded again where it is needed
    originals = {name: parameters[name].detach().to("cpu", copy=True) for name in kept}
    with _flags_kept(base.model):
        try:
            base.model.requires_grad_(False)
            with torch.no_grad():
                stored = open_checkpoint(start).tensors if start else {}
                for name in inside if start else ():
                    parameters[name].copy_(load(stored[name]))
            for name in inside:  # FSDP wants to know beforehand
                parameters[name].requires_grad_(ranks.several())
            parameters = ranks.shared_out(base.model)
            yield Trainee(base, base.model, {name: parameters[name] for name in inside})
        finally:
            with torch.no_grad():
                for name, original in originals.items():
                    parameters[name].copy_(original)


def _say_memory(trained: int, device: Any, optimizer: str) -> None:
    """Say what full fine-tuning holds beside the model: gradients and AdamW's two moments where the model lies, and a copy of
    the base in the machine's memory. Several processes share what they need, and are not told beforehand."""
    import psutil
    import torch

    if ranks.several():
        return
    on_gpu = device.type == "cuda"
    each = 4 + MOMENTS[optimizer] + (0 if on_gpu else 4)  # in float32 all but the moments, which may be in eight bits
    needed, free = each * trained, psutil.virtual_memory().available
    if on_gpu:
        free = torch.cuda.mem_get_info(device)[0]
    told = (
        f"Full fine-tuning of {trained / 1e6:,.1f} million parameters needs {needed / 1e9:.2f} GB of memory beside the model "
        f"and its activations; {free / 1e9:.1f} GB are available{' on the GPU' if on_gpu else ''}."
    )
    if needed > free:
        raise WorkError(f"{told} Close other programs, take a smaller model, or train with LoRA.")
    print(told, file=sys.stderr)


def _save_checkpoint(trainee: Trainee, folder: Path) -> None:
    """Write a checkpoint like the base's: what was trained in float32, since bfloat16 would round small updates away, the rest
    (the whole vocabulary, too) as the base's files have it."""
    from safetensors.torch import save_file

    from xlnb.weights.tensors import load

    origin = open_checkpoint(trainee.base.folder)
    trained = {name: p.detach().float().cpu().contiguous() for name, p in trainee.weights.items()}
    kept = {name: load(stored) for name, stored in origin.tensors.items() if name not in trained}
    save_file(kept | trained, folder / SINGLE, metadata={"format": "pt"})
    copy_companions(companions(origin), origin.folder, folder)
    config = artifacts.read_json(folder / "config.json")
    artifacts.write_json(folder / "config.json", with_dtype(config, "float32"))


PARADIGMS = {"lora": Paradigm(_lora, _save_adapter), "full": Paradigm(_full, _save_checkpoint)}
