"""Where a model runs: devices and arithmetic by name, no tensor on a device by accident, and GPUs that agree with the CPU.

What needs a CUDA device is marked and skipped elsewhere; there the same bodies run once more on the CPU.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lively import lively
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._device import _device_constructors
from trainings import train_expert

import xlnb
from xlnb import artifacts
from xlnb.corpora import templates
from xlnb.corpora.benchmarks import templates_benchmark
from xlnb.errors import RequestError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import CHOICE_PROBABILITY, INFORMATIONS, LIKELIHOODS, READINGS, TWIN_INFORMATION
from xlnb.evaluation.scoring import evaluate
from xlnb.models import base as base_module
from xlnb.models.base import device_name, load_base, resolved_device
from xlnb.models.engine import Engine
from xlnb.models.generation import answers
from xlnb.training.sft import Training

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.usefixtures("one_thread")]
PACKAGE = str(Path(xlnb.__file__).parent)
FACTORIES = _device_constructors.__wrapped__()  # not the cached ones: transformers patches some for a while
FAMILIES = ("gemma3", "llama", "qwen2", "cohere")
each_device = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
            ],
        ),
    ],
)
EVERY = Evaluation(
    problems=4, generated=3, max_new_tokens=6, batch_size=3, generation_batch_size=2, readings=tuple(READINGS), shots=1
)
TRAINING = Training(steps=3, batch_size=2, learning_rate=1e-3, rank=4, max_length=1024, checkpoint_every=2)


def losses(base, folder, training):
    """The loss of each step of a training on a base."""
    expert = train_expert(base, templates.math_examples("en", "train", 8), training, 0, folder)
    return [step["loss"] for step in artifacts.read_json(expert / "history.json")]


# --- names -----------------------------------------------------------------------------------------------


def test_devices_by_name(monkeypatch):
    assert resolved_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolved_device() == resolved_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolved_device("auto") == resolved_device("cuda") == torch.device("cuda")
    assert resolved_device("cuda:1") == torch.device("cuda:1")
    assert resolved_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "gpu", "", "meta"])
def test_a_device_that_is_not_there_is_refused(monkeypatch, miniature, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RequestError, match=rf"No device '{name}': choose one of auto, cpu\."):
        load_base(miniature(), device=name)


def test_a_gpu_too_many_is_refused_by_the_names_of_those_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RequestError, match=r"No device 'cuda:2': choose one of auto, cpu, cuda, cuda:0, cuda:1\."):
        resolved_device("cuda:2")


@pytest.mark.parametrize("name", ["float16", "float64", "bf16", ""])
def test_another_arithmetic_is_refused(miniature, name):
    with pytest.raises(RequestError, match=f"No dtype '{name}': choose one of float32, bfloat16"):
        load_base(miniature(), device="cpu", dtype=name)


def test_provenance_can_name_the_device(miniature, monkeypatch):
    base = load_base(miniature(), device="cpu")
    assert (device_name(base), base.device, base.dtype) == ("cpu", torch.device("cpu"), "float32")
    assert device_name(replace(base, dtype="bfloat16")) == "cpu, bf16 autocast"
    monkeypatch.setattr(base_module.Base, "device", torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {"cuda:1": "NVIDIA H100 PCIe"}[str(device)])
    assert device_name(replace(base, dtype="bfloat16")) == "cuda: NVIDIA H100 PCIe, bf16 autocast"


# --- no tensor on a device by accident -------------------------------------------------------------------


class Factories(TorchFunctionMode):
    """Notes each tensor that the package makes without saying on which device."""

    def __init__(self, package):
        super().__init__()
        self.package, self.calls, self.careless = package, 0, []

    def note(self, name, frame, device):
        if frame.f_code.co_filename.startswith(self.package):
            self.calls += 1
            if device is None:
                self.careless.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {name}")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in FACTORIES:
            self.note(function.__name__, sys._getframe(1), (kwargs or {}).get("device"))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def factories(monkeypatch):
    """Starts to watch a package's factory calls; random generators are watched apart, since no mode sees them."""
    plain = torch.Generator

    def start(package=PACKAGE):
        watch = Factories(package)

        class Watched(type):
            def __instancecheck__(cls, one):
                return isinstance(one, plain)

            def __call__(cls, device=None):
                watch.note("Generator", sys._getframe(1), device)
                return plain("cpu" if device is None else device)

        monkeypatch.setattr(torch, "Generator", Watched("Generator", (), {}))
        return watch

    return start


def test_every_tensor_is_made_on_a_device_that_is_named(miniature, tmp_path, factories):
    few_shot, examples = templates.few_shot_prefix("en", 1), templates.math_examples("en", "train", 8)
    texts = [few_shot, *(e.prompt + e.completion for e in examples)]
    with factories() as watch:
        base = load_base(miniature(), texts, "cpu")
        losses(base, tmp_path / "expert", TRAINING)
        found = evaluate(base, templates_benchmark("en", "scored", 4, shots=1), EVERY)
    assert watch.careless == []
    assert watch.calls > 20
    assert {"nll", "choice", "information", "exact-match"} <= set(found["metric"])


@pytest.mark.parametrize(
    "call",
    ["tensor([1])", "zeros(2)", "ones(2)", "full((2,), 1)", "empty(2)", "arange(3)", "rand(2)", "randn(2)",
     "randint(3, (2,))", "randperm(3)", "eye(2)", "linspace(0, 1, 2)", "as_tensor([1])", "Generator()"],
)  # fmt: skip
def test_a_careless_tensor_is_seen(tmp_path, factories, call):
    planted = tmp_path / "planted.py"
    careful = (
        call.replace(")", "device='cpu')" if call.endswith("()") else ", device='cpu')")
        if call.count(")") == 1
        else None
    )
    lines = ["import torch", f"torch.{call}", *([f"torch.{careful}"] if careful else [])]
    code = compile("\n".join(lines), str(planted), "exec")
    with factories(str(tmp_path)) as watch:
        exec(code, {})
    assert watch.careless == [f"{planted}:2 {call.partition('(')[0]}"]
    assert watch.calls == len(lines) - 1


# --- the CPU is the reference ----------------------------------------------------------------------------


@each_device
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_likelihoods(miniature, family, device):
    cpu, there = (lively(load_base(miniature(family), device=name)) for name in ("cpu", device))
    assert there.device.type == device
    settings = replace(EVERY, readings=(*LIKELIHOODS, *INFORMATIONS, TWIN_INFORMATION, CHOICE_PROBABILITY))
    expected, found = (evaluate(base, settings.asked("en"), settings) for base in (cpu, there))
    assert found[["problem", "metric"]].equals(expected[["problem", "metric"]])
    assert (found["outcome"] - expected["outcome"]).abs().max() < 1e-3


@each_device
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_greedy_answers(miniature, family, device):
    written = []
    for name in ("cpu", device):
        base = lively(load_base(miniature(family), device=name))
        engine = Engine(base, generation_batch_size=3)
        # Cut at different words: asked in full, a miniature gives all the same answer.
        prompts = [
            base.encode(item.prompt[: -1 - 7 * i]) for i, item in enumerate(templates_benchmark("en", n=5).items)
        ]
        written.append(answers(engine, engine.prefix(templates.few_shot_prefix("en", 1)), prompts, 12))
    assert written[0] == written[1]
    assert len(set(written[0])) > 1


@each_device
def test_training_falls_alike(miniature, tmp_path, device):
    training = replace(TRAINING, steps=12, learning_rate=1e-2, batch_size=4)
    expected, found = (
        losses(lively(load_base(miniature(), device=name)), tmp_path / f"{i}", training)
        for i, name in enumerate(("cpu", device))
    )
    assert found == pytest.approx(expected, rel=0.03)
    assert found[-1] < 0.8 * found[0]


@each_device
def test_a_gpu_leaves_the_cpu_s_adapter_usable(miniature, tmp_path, device):
    """What was trained on one device is read, applied and asked on the other."""
    base = load_base(miniature(), device=device)
    losses(base, tmp_path / "expert", TRAINING)
    vector = xlnb.TaskVector.from_adapter(tmp_path / "expert")
    settings = replace(EVERY, readings=("nll",))
    outcomes = []
    for one in (base, load_base(miniature(), device="cpu")):
        with xlnb.applied(one.model, vector):
            outcomes.append(evaluate(one, settings.asked("en"), settings)["outcome"])
    assert (outcomes[0] - outcomes[1]).abs().max() < 1e-3


# --- bfloat16 --------------------------------------------------------------------------------------------


@each_device
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_by_autocast_is_near(miniature, family, device):
    plain, rounded = (load_base(miniature(family), device=device, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert {p.dtype for p in rounded.model.parameters()} == {torch.float32}
    settings = replace(EVERY, readings=("nll", "choice-probability", "exact-match"))
    expected, found = (evaluate(base, settings.asked("en"), settings) for base in (plain, rounded))
    difference = (found["outcome"] - expected["outcome"]).abs()
    assert 0 < difference.max() < 0.05


@each_device
def test_bfloat16_trains_float32_weights(miniature, tmp_path, device):
    training = replace(TRAINING, steps=12, learning_rate=1e-2, batch_size=4)
    bases = [lively(load_base(miniature(), device=device, dtype=dtype)) for dtype in ("float32", "bfloat16")]
    expected, found = (losses(base, tmp_path / base.dtype, training) for base in bases)
    assert found == pytest.approx(expected, rel=0.03)
    assert found != expected
    vector = xlnb.TaskVector.from_adapter(tmp_path / "bfloat16")
    assert {vector[name].dtype for name in vector} == {torch.float32}


@pytest.mark.parametrize("n", [1, 3])
def test_the_rounded_head_is_not_copied_for_its_product(miniature, n):
    base = load_base(miniature(), device="cpu", dtype="bfloat16")
    rows = [(base.encode(prompt), base.encode(" 12")) for prompt in ("one", "two", "three")[:n]]
    engine = Engine(base)
    prefix, size = engine.prefix("Some text."), len(base.model.get_output_embeddings().weight)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        engine.nll(prefix, rows)
    products = [event for event in record.events() if event.name in ("aten::mm", "aten::bmm")]
    heads = [event.name for event in products if [32, size] in [shape[-2:] for shape in event.input_shapes]]
    assert heads == ["aten::mm"], "a product for batches makes a copy of it"


def test_weights_are_rounded_once_for_all_tokens_of_all_answers(miniature):
    base = lively(load_base(miniature(), device="cpu", dtype="bfloat16"))
    engine = Engine(base, generation_batch_size=2)
    prefix, size = engine.prefix("Some text."), len(base.model.get_output_embeddings().weight)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        answers(engine, prefix, [base.encode(prompt) for prompt in ("one", "two", "three", "four")], 5, ("never",))
    copies = [event for event in record.events() if event.name == "aten::copy_" and event.input_shapes[0] == [size, 32]]
    assert len(copies) == 1
