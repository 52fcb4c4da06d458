"""Checkpoints as other people's tools leave them: harmless differences pass, harmful ones are named, nothing is left behind."""

import json
import os
import subprocess
import sys

import pytest
import torch
from experts import Trio, digests, leftovers, lora, reconfigured, rewritten
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xlnb import artifacts
from xlnb.checkpoints import writing
from xlnb.checkpoints.differences import diff
from xlnb.checkpoints.requests import _picks_layers
from xlnb.checkpoints.verbs import merge, revert
from xlnb.commands.cli import exit_code
from xlnb.errors import RequestError, WorkError
from xlnb.weights.partitions import named_partition
from xlnb.weights.task_vectors import TaskVector
from xlnb.weights.tensor_files import open_checkpoint, sample

pytestmark = pytest.mark.usefixtures("one_thread")


def swap(three, out, **options):
    return merge("layer-swapping", out, math=three.math, language=three.language, base=three.base, **options)


# --- configs by what they mean ---------------------------------------------------------------------------

NO_WINDOW = {"sliding_window": None, "use_sliding_window": False}
THETA = {"rope_type": "default", "rope_theta": 10000.0}
OTHER_THETA = THETA | {"rope_theta": 500000.0}
HARMLESS = [
    ("qwen2", {"sliding_window": 131072, "use_sliding_window": False}, NO_WINDOW),
    ("llama", {"head_dim": None}, {"head_dim": 8}),
    ("qwen2", {"head_dim": None}, {"head_dim": 8}),
    ("llama", {"rope_parameters": ..., "rope_theta": 10000.0, "rope_scaling": None}, {"rope_parameters": THETA}),
    ("llama", {"auto_map": {"AutoModel": "someone--model.Model"}}, {"auto_map": {"AutoModel": "model.Model"}}),
    ("llama", {"attention_dropout": 0.1, "resid_pdrop": 0.1}, {"attention_dropout": 0.0, "resid_pdrop": 0.0}),
    ("llama", {"output_router_logits": True}, {"output_router_logits": False}),
    ("llama", {"_attn_implementation": "sdpa"}, {"_attn_implementation": "eager"}),
    ("llama", {"gradient_checkpointing": True, "temperature": 0.6}, {"gradient_checkpointing": False, "temperature": 1.0}),
    ("llama", {"tokenizer_class": "A", "torchscript": True}, {"tokenizer_class": "B", "torchscript": False}),
    ("llama", {"hidden_act": "swish", "attention_bias": None}, {"hidden_act": "silu", "attention_bias": False}),
    ("qwen2", {"max_window_layers": 28}, {"max_window_layers": 21}),
    ("llama", {"rope_parameters": ..., "rope_theta": 10000, "rope_scaling": {"type": "linear", "factor": 2.0}},
     {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
]  # fmt: skip
HARMFUL = [
    ("llama", {"rope_parameters": ..., "rope_theta": 10000}, {"rope_parameters": OTHER_THETA}, "rope_parameters"),
    ("llama", {"hidden_act": "silu"}, {"hidden_act": "gelu"}, "hidden_act"),
    ("qwen2", {"sliding_window": 64, "use_sliding_window": True}, NO_WINDOW, "use_sliding_window"),
    ("llama", {"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    ("llama", {"attention_bias": True}, {"attention_bias": None}, "attention_bias"),
    ("llama", {"rope_parameters": ..., "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"rope_parameters": THETA},
     "rope_parameters"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
     {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 4}, "max_window_layers|layer_types"),
    ("gemma3", {"final_logit_softcapping": 30.0}, {"final_logit_softcapping": None}, "final_logit_softcapping"),
    ("llama", {"model_type": "unheard-of", "scale": 2}, {"model_type": "unheard-of", "scale": 3}, "scale"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "of_base", "of_experts"), HARMLESS)
def test_configs_that_mean_the_same_are_one(three, tmp_path, family, of_base, of_experts):
    found = three(family)
    reconfigured(found.base, **of_base)
    for expert in found.experts:
        reconfigured(expert, **of_experts)
    swap(found, tmp_path / "out")
    revert(found.base, found.math, "math", tmp_path / "reverted")


@pytest.mark.parametrize(("family", "of_base", "of_experts", "setting"), HARMFUL)
def test_configs_that_mean_different_models_are_refused_or_trusted(
    three, tmp_path, family, of_base, of_experts, setting
):
    found = three(family)
    reconfigured(found.base, **of_base)
    for expert in found.experts:
        reconfigured(expert, **of_experts)
    with pytest.raises(RequestError, match=rf"differ in config.json: {setting}.* say --trust-configs"):
        swap(found, tmp_path / "out")
    swap(found, tmp_path / "out", trust_configs=True)
    assert artifacts.read_json(tmp_path / "out" / "provenance.json")["spec"]["configs"] == "trusted, though they differ"


# --- numbers that are none -------------------------------------------------------------------------------


def everywhere(value):
    return lambda tensors: [tensor.fill_(value) for tensor in tensors.values()]


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "has NaN or infinite numbers"), (float("inf"), "has NaN or infinite"), (0.0, "holds zeros alone")],
)
def test_an_expert_without_numbers_is_refused_at_once(three, tmp_path, value, words):
    found = three()
    rewritten(found.math, everywhere(value))
    with pytest.raises(RequestError, match=words):
        swap(found, tmp_path / "out")
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(("spoilt", "method"), [("math", "soup"), ("base", "ties")])
def test_a_lone_nan_is_found_while_it_is_computed_and_its_file_named(three, tmp_path, spoilt, method):
    found, name = three(), "model.layers.5.mlp.up_proj.weight"
    folder = getattr(found, spoilt)
    rewritten(folder, lambda tensors: name in tensors and tensors[name][3].__setitem__(5, float("nan")))
    with pytest.raises(WorkError, match=rf"'{name}' has NaN or infinite numbers in {folder}/[^/,]*: its training"):
        merge(method, tmp_path / "out", experts=found.experts, base=found.base)
    assert not leftovers(tmp_path)


def test_what_only_the_merge_makes_infinite_is_nobody_s_fault(three, tmp_path):
    found, name = three(), "model.layers.5.mlp.up_proj.weight"
    rewritten(found.math, lambda tensors: name in tensors and tensors[name][3].__setitem__(5, 3e38))
    words = f"is finite in {found.math}/.*, {found.language}/.*, {found.base}/.*, but not merged: smaller weights"
    with pytest.raises(WorkError, match=words):
        merge("task-arithmetic", tmp_path / "out", experts=found.experts, weights=[100, 1], base=found.base)
    assert not leftovers(tmp_path)


def test_an_overflow_is_told(three, tmp_path):
    found = three()
    for folder in (found.base, *found.experts):
        rewritten(
            folder, lambda tensors: "model.norm.weight" in tensors and tensors["model.norm.weight"].fill_(70000.0)
        )
    with pytest.raises(WorkError, match="numbers up to 70,000, and F16 ends at 65,504: choose --dtype bfloat16"):
        swap(found, tmp_path / "out", dtype="float16")
    assert not leftovers(tmp_path)
    swap(found, tmp_path / "out", dtype="bfloat16")


def test_tensors_without_numbers_are_what_zero_3_leaves(three, tmp_path):
    found = three()
    rewritten(found.math, lambda tensors: tensors.update({name: torch.zeros(0) for name in tensors}))
    with pytest.raises(RequestError, match=r"shape \[0\]\): DeepSpeed's ZeRO-3"):
        swap(found, tmp_path / "out")


def test_a_layer_of_a_huge_number_is_no_work(three, tmp_path):
    found = three()

    def renamed(tensors):
        tensors["model.layers.1000000000.mlp.up_proj.weight"] = tensors.pop("model.layers.7.mlp.up_proj.weight")

    rewritten(found.math, renamed)
    with pytest.raises(RequestError, match=r"1000000001 layers|not whole"):
        swap(found, tmp_path / "out")


# --- beside and outside the layers -----------------------------------------------------------------------


def test_a_language_model_inside_a_vision_wrapper(tmp_path):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 6, "num_attention_heads": 2, "vocab_size": 60,
            "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=5)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    found = Trio(*(tmp_path / role for role in ("base", "math", "language")))
    for folder in (found.base, *found.experts):
        model.save_pretrained(folder)
        with torch.no_grad():
            for parameter in model.model.language_model.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    swap(found, tmp_path / "out")
    merged, math, language, base = (
        {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
        for folder in (tmp_path / "out", found.math, found.language, found.base)
    )
    layers = [(name, int(name.split("layers.")[1].split(".")[0])) for name in merged if "language_model.layers." in name
              or "language_model.model.layers." in name]  # fmt: skip
    assert {layer for _, layer in layers} == set(range(6))
    owners = named_partition("C", 6).attention
    for name, layer in layers:
        assert torch.equal(merged[name], (math if owners[layer] else language)[name]), name
    beside = [name for name in merged if "vision" in name or "projector" in name]
    assert beside and all(torch.equal(merged[name], base[name]) for name in beside)


@pytest.mark.parametrize(
    ("nested", "words"),
    [
        ({"num_hidden_layers": 9}, "is not whole: its config.json tells of 9 layers, and its tensors are of 8"),
        ({"quantization_config": {"bits": 4}}, "is quantized: merge the unquantized weights"),
    ],
    ids=["truncated", "quantized"],
)
def test_what_a_wrapper_s_config_says_of_its_language_model_counts(three, tmp_path, nested, words):
    found = three()
    reconfigured(found.math, num_hidden_layers=..., text_config=nested)
    with pytest.raises(RequestError, match=words):
        swap(found, tmp_path / "out", trust_configs=True)


@pytest.mark.parametrize("embeddings", ["math", "language", "base", None])
def test_adapters_of_the_head(three, tmp_path, embeddings):
    found, folders = three(), []
    for i in range(2):
        torch.manual_seed(i)
        model = AutoModelForCausalLM.from_pretrained(found.base)
        config = LoraConfig(r=2, target_modules=["up_proj", "lm_head"], init_lora_weights=False)
        folders.append(tmp_path / f"adapter-{i}")
        get_peft_model(model, config).save_pretrained(folders[-1], save_embedding_layers=False)
    math, language = map(TaskVector.from_adapter, folders)
    if embeddings is None:
        with pytest.raises(RequestError, match="outside the layers: say whose to take, --embeddings"):
            merge("layer-swapping", tmp_path / "out", math=folders[0], language=folders[1])
        return
    merge("layer-swapping", tmp_path / "out", math=folders[0], language=folders[1], embeddings=embeddings)
    merged = TaskVector.from_adapter(tmp_path / "out")
    expected = {"math": math, "language": language}.get(embeddings)
    head = expected["lm_head.weight"] if expected else torch.zeros_like(math["lm_head.weight"])
    torch.testing.assert_close(merged["lm_head.weight"], head, atol=1e-6, rtol=1e-5)
    name = "model.layers.4.mlp.up_proj.weight"
    torch.testing.assert_close(merged[name], math[name], atol=1e-6, rtol=1e-5)


@pytest.fixture
def adapters(three, tmp_path):
    """A base, and two adapters of it that may be changed."""
    base = three().base
    return base, [lora(base, tmp_path / f"adapter-{i}", i) for i in range(2)]


def filled(value):
    return lambda found: [tensor.fill_(value) for tensor in found.values()]


def zeroed(which):
    return lambda found: [tensor.zero_() for name, tensor in found.items() if which in name]


def ungathered(found):
    found.update({name: torch.zeros(0, tensor.shape[1]) for name, tensor in found.items()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (filled(float("nan")), "adapter-1 has NaN or infinite numbers at 'model.layers"),
        (filled(float("-inf")), "adapter-1 has NaN or infinite numbers at 'model.layers"),
        (zeroed("lora_B"), "The update of the adapter in .*adapter-1 is zero"),
        (zeroed("lora_A"), "The update of the adapter in .*adapter-1 is zero"),
        (ungathered, r"has no numbers in .*lora_A.weight \(shape \[0, \d+\]\): DeepSpeed's ZeRO-3"),
    ],
    ids=["nan", "inf", "no B", "no A", "ZeRO-3"],
)
def test_adapters_without_numbers_are_refused_at_once(adapters, tmp_path, change, words):
    base, folders = adapters
    rewritten(folders[1], change)
    for options in ({}, {"as_checkpoint": True}):
        with pytest.raises(RequestError, match=words):
            merge("soup", tmp_path / "out", experts=folders, base=base, **options)
        with pytest.raises(RequestError, match=words):
            merge("layer-swapping", tmp_path / "out", math=folders[1], language=folders[0], base=base, **options)
    with pytest.raises(RequestError, match=words):
        revert(base, folders[1], "math", tmp_path / "out")
    assert not leftovers(tmp_path)


def test_a_lone_nan_of_an_adapter_is_found_while_it_is_computed(adapters, tmp_path):
    base, folders = adapters
    name = "base_model.model.model.layers.5.mlp.down_proj.lora_A.weight"
    wide = lora(base, tmp_path / "wide", 3, r=32, lora_alpha=8)  # more numbers than are looked at beforehand

    def damaged(found):
        seen = {float(value) for value in sample(open_checkpoint(wide).tensors[name])}
        flat = found[name].view(-1)
        flat[next(i for i, value in enumerate(flat.tolist()) if value not in seen)] = float("nan")

    rewritten(wide, damaged)
    with pytest.raises(WorkError, match=r"factors of 'model.layers.5.mlp.down_proj.weight' have NaN"):
        merge("soup", tmp_path / "out", experts=[folders[0], wide])
    with pytest.raises(
        WorkError, match=rf"'model.layers.5.mlp.down_proj.weight' has NaN or infinite numbers in {wide}/[^/,]*: its"
    ):
        merge("soup", tmp_path / "out", experts=[folders[0], wide], base=base, as_checkpoint=True)
    assert not leftovers(tmp_path)


def test_an_adapter_s_overflow_is_told(adapters, tmp_path):
    _, folders = adapters
    rewritten(folders[0], lambda found: [tensor.mul_(1e6) for tensor in found.values()])
    with pytest.raises(WorkError, match=r"in float16: .*--dtype is too narrow"):
        merge("soup", tmp_path / "out", experts=folders, dtype="float16")
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank_pattern": {"(": 4}}, r"rank_pattern = {'\(': 4}: one of its names is no pattern"),
        ({"alpha_pattern": {"[": 4}}, "one of its names is no pattern"),
        ({"init_lora_weights": "pissa_niter_4"}, "it sets init_lora_weights"),
        ({"init_lora_weights": "lora_ga"}, "it sets init_lora_weights"),
        ({"peft_type": "ADALORA"}, "its type is ADALORA"),
    ],
)
def test_configs_of_adapters_that_mean_more_are_refused(adapters, tmp_path, settings, words):
    _, folders = adapters
    reconfigured(folders[0], "adapter_config.json", **settings)
    with pytest.raises(RequestError, match=words):
        merge("soup", tmp_path / "out", experts=folders)


def test_an_adapter_that_ties_its_updates_is_refused(three, tmp_path):
    folder = lora(three().base, tmp_path / "adapter", target_modules=["up_proj", "lm_head"])
    reconfigured(folder, "adapter_config.json", ensure_weight_tying=True)
    with pytest.raises(
        RequestError, match="sets ensure_weight_tying, and its update of the embedding is one of the head"
    ):
        merge("soup", tmp_path / "out", experts=[folder, folder])


# --- folders ---------------------------------------------------------------------------------------------


def test_a_folder_with_an_adapter_and_a_model_is_refused(three, tmp_path):
    found = three()
    (found.math / "adapter_model.safetensors").touch()
    with pytest.raises(RequestError, match="holds an adapter and a whole model"):
        swap(found, tmp_path / "out")


def test_a_name_that_is_there_twice_is_said_once(tmp_path):
    header = (
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    )
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="names 'a' twice") as refused:
        open_checkpoint(tmp_path)
    assert str(refused.value).count("is no whole safetensors file") == 1


@pytest.mark.parametrize("method", ["layer-swapping", "soup"])
def test_an_expert_that_is_saved_again_meanwhile_is_noticed(three, tmp_path, monkeypatch, method):
    found, plain = three(), writing.tensor_files.copy_companions

    def saved_again(*arguments):
        path = found.math / "model.safetensors"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1, 1))
        return plain(*arguments)

    monkeypatch.setattr(writing.tensor_files, "copy_companions", saved_again)
    with pytest.raises(WorkError, match=r"math/model.safetensors was written again while it was read"):
        if method == "soup":
            merge("soup", tmp_path / "out", experts=found.experts)
        else:
            swap(found, tmp_path / "out")
    assert not leftovers(tmp_path)


def test_an_empty_mount_point_is_told(three, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()

    def busy(self):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(type(out), "rmdir", busy)
    with pytest.raises(RequestError, match="is it a mount point"):
        swap(three(), out)


@pytest.mark.parametrize("method", ["soup", "ties"])
def test_a_merge_of_all_parameters_alike_locates_no_layer(three, tmp_path, method):
    found = three()

    def unheard_of(tensors):
        for name in list(tensors):
            tensors[name.replace("model.layers.3.mlp", "blocks.3.mixer.of.another")] = tensors.pop(name)

    for folder in (found.base, *found.experts):
        rewritten(folder, unheard_of)
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            told = json.loads(index.read_text())
            unheard_of(told["weight_map"])
            index.write_text(json.dumps(told))
    with pytest.raises(RequestError):
        swap(found, tmp_path / "out")
    merge(method, tmp_path / "out", experts=found.experts, base=found.base)
    assert any("blocks.3.mixer" in name for name in open_checkpoint(tmp_path / "out").tensors)


def test_what_goes_with_the_weights(three, tmp_path):
    found = three()
    for name in ("pytorch_model.bin.index.json", "qwen.tiktoken", "assets/deep/words.dict"):
        (found.base / name).parent.mkdir(parents=True, exist_ok=True)
        (found.base / name).write_text("{}")
    reconfigured(found.base, "tokenizer_config.json", vocab_file="assets/deep/words.dict")
    swap(found, tmp_path / "out")
    assert (tmp_path / "out" / "qwen.tiktoken").is_file() and (tmp_path / "out" / "assets/deep/words.dict").is_file()
    assert not (tmp_path / "out" / "pytorch_model.bin.index.json").exists(), "an index of files that are not there"


def test_a_path_that_is_no_text_is_refused_at_once(three, tmp_path):
    found = three()
    strange = tmp_path / os.fsdecode(b"math\xff")
    try:
        found.math.rename(strange)
    except OSError:
        pytest.skip("this file system has no such names")
    for math, out in ((strange, tmp_path / "out"), (found.language, tmp_path / os.fsdecode(b"out\xff"))):
        with pytest.raises(RequestError, match="is not UTF-8: rename the folder"):
            merge("layer-swapping", out, math=math, language=found.language, base=found.base)
    assert not leftovers(tmp_path)


def test_an_adapter_in_another_format_is_named(adapters, tmp_path):
    _, folders = adapters
    (folders[0] / "adapter_model.safetensors").rename(folders[0] / "adapter_model.bin")
    with pytest.raises(RequestError, match=r"has no adapter_model.safetensors. It has adapter_model.bin: load that"):
        merge("soup", tmp_path / "out", experts=folders)


def test_weights_of_another_name_are_named(three, tmp_path):
    found = three()
    (found.math / "model.safetensors").rename(found.math / "model.fp16.safetensors")
    with pytest.raises(
        RequestError, match=r"nor model.safetensors.index.json. It has model.fp16.safetensors: load that"
    ):
        swap(found, tmp_path / "out")


def test_a_shard_that_the_index_names_and_nobody_has(three, tmp_path):
    found = three()
    next(found.language.glob("*.safetensors")).unlink()
    said = r"model-000\d\d-of-000\d\d.safetensors cannot be read: No such file or directory\. Download or save it again"
    with pytest.raises(RequestError, match=said):
        swap(found, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 240, "is too long"), ("ü" * 200, "is too long"), ("a\0b", "null character")]
)
def test_a_name_that_no_output_can_have(three, tmp_path, name, words):
    found = three()
    with pytest.raises(RequestError, match=words):
        swap(found, tmp_path / name)
    swap(found, tmp_path / ("y" * 220))
    assert not leftovers(tmp_path)


def test_a_place_where_one_may_not_write(three, tmp_path, monkeypatch):
    found = three()
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root, who runs this, may write everywhere
    with pytest.raises(RequestError, match=r"you may not write in .*\. Choose another place"):
        swap(found, tmp_path / "out")


@pytest.mark.parametrize("out", ["math/inner/out", "math", "link/out"])
def test_an_output_inside_an_input_is_refused(three, tmp_path, out):
    found = three()
    (found.base.parent / "link").symlink_to(found.base)
    before = digests(found.base, *found.experts)
    with pytest.raises(RequestError, match=r"lies inside the input .* inputs are never changed"):
        swap(found, found.base.parent / out)
    assert digests(found.base, *found.experts) == before


def test_one_folder_is_no_list_of_experts(three, tmp_path):
    with pytest.raises(RequestError, match=r"experts=.* is a str: it takes a list, each a text or a path"):
        merge("soup", tmp_path / "out", experts=str(three().math))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_quantized_checkpoint_has_no_task_vector(three, wrapped):
    found = three()
    quantized = {"quantization_config": {"bits": 4}}
    reconfigured(found.math, **({"text_config": quantized} if wrapped else quantized))
    with pytest.raises(RequestError, match="is quantized: its numbers are no weights"):
        TaskVector.from_checkpoint(found.math, found.base)


@pytest.mark.parametrize(
    ("targets", "picks"),
    [
        (["fc1", "dense_h_to_4h"], False),
        (r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|up)_proj", False),
        (r".*layers\.(0|1|2)\..*q_proj", True),
        (["layers.3.mlp.up_proj"], True),
        ("all-linear", False),
    ],
)
def test_a_digit_in_a_name_picks_no_layer(targets, picks):
    assert _picks_layers({"target_modules": targets}) is picks


# --- several at once -------------------------------------------------------------------------------------


def test_a_partial_of_another_container_is_left_to_it(tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setattr(artifacts, "_space", lambda: "elsewhere")
        theirs = artifacts.whole_folder(tmp_path / "out", fresh=True)
        inside = theirs.__enter__()  # the same process number, in another space
    with artifacts.whole_folder(tmp_path / "out", fresh=True) as mine:
        assert mine != inside and inside.is_dir(), "not taken for a dead process's"
        (mine / "a").write_text("mine")
    (inside / "a").write_text("theirs")
    with pytest.raises(WorkError, match="appeared while it was being written elsewhere"):
        theirs.__exit__(None, None, None)
    assert (tmp_path / "out" / "a").read_text() == "mine" and not leftovers(tmp_path)


def test_what_lies_about_for_a_day_goes(tmp_path):
    old, new = (tmp_path / f".out.partial-elsewhere-{pid}" for pid in (1, 2))
    old.mkdir()
    new.mkdir()
    os.utime(old, (1, 1))
    with artifacts.whole_folder(tmp_path / "out"):
        pass
    assert not old.exists() and new.is_dir()


def by_a_program(program, *arguments, **environment):
    """Run a program of its own around the command line, and return how it ended."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("told", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_merge_that_is_told_to_end_leaves_nothing(three, tmp_path, told):
    found = three()
    program = (
        "import os, signal, sys\nfrom xlnb.checkpoints import writing\nfrom xlnb.commands.cli import main\n"
        # As a terminal starts it, whatever whoever runs the tests ignores.
        "usual = signal.default_int_handler if 'TOLD' == 'SIGINT' else signal.SIG_DFL\nsignal.signal(signal.TOLD, usual)\n"
        "writing.tensor_files.copy_companions = lambda *_: os.kill(os.getpid(), signal.TOLD)\n"
        "main(['merge', 'layer-swapping', *sys.argv[1:]])"
    )
    arguments = ["--math", found.math, "--language", found.language, "--base", found.base, "--out", tmp_path / "out"]
    ended = by_a_program(program.replace("TOLD", told), *arguments)
    assert ended.returncode == 130 and "interrupted" in ended.stderr, ended.stderr
    assert not leftovers(tmp_path) and not (tmp_path / "out").exists()


def test_a_merge_whose_terminal_may_close_goes_on(three, tmp_path):
    """As nohup starts it: with the signal ignored."""
    found = three()
    program = (
        "import os, signal, sys\nfrom xlnb.checkpoints import writing\nfrom xlnb.commands.cli import main\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nplain = writing.tensor_files.copy_companions\n"
        "writing.tensor_files.copy_companions = lambda *all: (os.kill(os.getpid(), signal.SIGHUP), plain(*all))\n"
        "main(['merge', 'layer-swapping', *sys.argv[1:]])"
    )
    arguments = ["--math", found.math, "--language", found.language, "--base", found.base, "--out", tmp_path / "out"]
    ended = by_a_program(program, *arguments)
    assert ended.returncode == 0 and (tmp_path / "out" / "provenance.json").is_file(), ended.stderr


def test_a_terminal_that_shows_ascii_alone(three):
    found = three()
    program = "import sys\nfrom xlnb.commands.cli import main\nmain(sys.argv[1:])"
    ended = by_a_program(program, "diff", found.base, found.math, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "") and "?" in ended.stdout and ended.stdout.isascii()


def test_a_nan_has_no_difference(three):
    found, name = three(), "model.layers.5.mlp.up_proj.weight"
    rewritten(found.math, lambda tensors: name in tensors and tensors[name][3].__setitem__(5, float("nan")))
    with pytest.raises(WorkError, match=rf"'{name}' has NaN or infinite numbers in .*base or .*math"):
        diff(found.base, found.math)


@pytest.mark.parametrize(
    "arguments",
    [
        ["diff", "BASE", "MATH", "--figure", "FILE/a.png"],
        ["export", "mergekit", "--math", "MATH", "--language", "LANGUAGE", "--base", "BASE", "--out", "FILE/a.yaml"],
        ["partition", "show", "C", "--model", "BASE", "--save", "FILE/a.yaml"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_below_a_file_is_refused_before_any_work(three, capsys, arguments):
    found = three()
    paths = {"BASE": found.base, "MATH": found.math, "LANGUAGE": found.language, "FILE": found.base / "config.json"}
    for word, path in paths.items():
        arguments = [argument.replace(word, str(path)) for argument in arguments]
    assert exit_code(arguments) == 2
    told = capsys.readouterr()
    assert "config.json is not a folder" in told.err and not told.out
