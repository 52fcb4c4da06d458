"""mergekit as the referee of our merges, and as the reader of the configurations that we write for it."""

import json

import pytest
import torch
import yaml
from experts import expert, reconfigured, same, tensors, trio_finder
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from xlnb.checkpoints import exporting
from xlnb.checkpoints.exporting import export_mergekit
from xlnb.checkpoints.verbs import merge
from xlnb.errors import RequestError

FAMILIES = ["llama", "qwen2"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trios(tmp_path_factory):
    """A function that makes trios (or finds them made); nobody may write there."""
    return trio_finder(tmp_path_factory.mktemp("trios"), torch.bfloat16)


def by_mergekit(config, out):
    """Run mergekit and return the tensors that it writes."""
    config = yaml.safe_load(config) if isinstance(config, str) else config
    run_merge(MergeConfiguration.model_validate(config), str(out), MergeOptions(quiet=True, write_model_card=False))
    return tensors(out)


def models(folders, **parameters):
    return [{"model": str(f), "parameters": {k: v[i] for k, v in parameters.items()}} for i, f in enumerate(folders)]


def equal_numbers(a, b):
    """Whether two tables of tensors have equal numbers; zeros may differ in their sign."""
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def ours(method, out, **options):
    merge(method, out, **options)
    return tensors(out)


# --- the arithmetic --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_soup_is_mergekit_s_linear_to_the_last_bit(trios, tmp_path, family):
    made = trios(family)
    config = {"models": models(made.experts, weight=[1, 1]), "merge_method": "linear", "dtype": "bfloat16"}
    assert same(ours("soup", tmp_path / "ours", experts=made.experts), by_mergekit(config, tmp_path / "theirs"))


@pytest.mark.parametrize("weights", [[0.75, 0.25], [3, 1], [0.3, 0.7], [-0.5, 1.5]], ids=str)
def test_a_weighted_soup_is_mergekit_s_linear_to_the_last_bit(trios, tmp_path, weights):
    made = trios("llama")
    config = {"models": models(made.experts, weight=weights), "merge_method": "linear", "dtype": "bfloat16"}
    found = ours("soup", tmp_path / "ours", experts=made.experts, weights=weights)
    assert equal_numbers(found, by_mergekit(config, tmp_path / "theirs"))


@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 4], [0.5, 0.2, 0.1]], ids=str)
def test_a_soup_of_three_is_mergekit_s_linear_to_the_last_bit(trios, tmp_path, weights):
    made = trios("llama")
    folders = [*made.experts, expert(made.base, tmp_path / "third", 3, dtype=torch.bfloat16)]
    config = {"models": models(folders, weight=weights), "merge_method": "linear", "dtype": "bfloat16"}
    found = ours("soup", tmp_path / "ours", experts=folders, weights=weights)
    assert equal_numbers(found, by_mergekit(config, tmp_path / "theirs"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weights", [[1, 1], [0.6, 0.9]], ids=str)
@pytest.mark.parametrize("density", [0.5, 0.2, 1.0])
def test_ties_is_mergekit_s_to_the_last_bit(trios, tmp_path, family, weights, density):
    made = trios(family, torch.float32)
    config = {
        "models": models(made.experts, weight=weights, density=[density] * 2),
        "merge_method": "ties",
        "base_model": str(made.base),
        "parameters": {"normalize": True},
        "dtype": "float32",
    }
    found = ours("ties", tmp_path / "ours", experts=made.experts, base=made.base, weights=weights, density=density)
    assert same(found, by_mergekit(config, tmp_path / "theirs"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weights", [[1, 1], [0.6, -0.9]], ids=str)
def test_task_arithmetic_in_float32_is_mergekit_s_to_the_last_bit(trios, tmp_path, family, weights):
    made = trios(family)  # stored in bfloat16, computed and written in float32
    config = {
        "models": models(made.experts, weight=weights),
        "merge_method": "task_arithmetic",
        "base_model": str(made.base),
        "dtype": "float32",
    }
    found = ours(
        "task-arithmetic", tmp_path / "ours", experts=made.experts, base=made.base, weights=weights, dtype="float32"
    )
    assert same(found, by_mergekit(config, tmp_path / "theirs"))


def test_task_arithmetic_in_bfloat16_is_nearer_to_the_exact_sum_than_mergekit_s(trios, tmp_path):
    """Mergekit rounds each update to bfloat16 before it adds them; here they are added in float32 and rounded once."""
    made = trios("llama")
    weights = [0.6, 0.9]
    config = {
        "models": models(made.experts, weight=weights),
        "merge_method": "task_arithmetic",
        "base_model": str(made.base),
        "dtype": "bfloat16",
    }
    found = ours("task-arithmetic", tmp_path / "ours", experts=made.experts, base=made.base, weights=weights)
    theirs = by_mergekit(config, tmp_path / "theirs")
    base, math, language = (
        {name: t.double() for name, t in tensors(folder).items()} for folder in (made.base, *made.experts)
    )
    for name in found:
        exact = base[name] + 0.6 * (math[name] - base[name]) + 0.9 * (language[name] - base[name])
        errors = [(merged[name].double() - exact).abs() for merged in (found, theirs)]
        assert errors[0].sum() <= errors[1].sum(), name
        step = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp(min=1e-30))) - 7)  # of bfloat16 around there
        assert (errors[0] <= 0.5001 * step).all(), name


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.005, 0.02], ids=["linear", "spherical"])
def test_slerp_is_mergekit_s(trios, tmp_path, t, scale):
    made = trios("llama", torch.float32, scale=scale)
    config = {
        "models": [{"model": str(folder)} for folder in made.experts],
        "merge_method": "slerp",
        "base_model": str(made.math),
        "parameters": {"t": t},
        "dtype": "float32",
    }
    experts = made.experts if scale < 0.01 else [made.math, made.base]
    if scale > 0.01:  # the experts are too far from each other to be taken for experts of one base
        config["models"][1] = {"model": str(made.base)}
    found = ours("slerp", tmp_path / "ours", experts=experts, t=t)
    theirs = by_mergekit(config, tmp_path / "theirs")
    for name in found:
        assert torch.allclose(found[name], theirs[name], rtol=1e-5, atol=1e-7), name


# --- the export ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("embeddings", [None, "base", "math", "language"])
@pytest.mark.parametrize("name", ["C", "complement of C", "half and half"])
def test_whole_layers_are_swapped_by_mergekit_to_the_last_bit(trios, tmp_path, family, embeddings, name):
    made = trios(family)
    options = {"base": made.base, "partition": name, "embeddings": embeddings}
    text = export_mergekit(made.math, made.language, **options)
    assert yaml.safe_load(text)["merge_method"] == "passthrough"
    found = ours("layer-swapping", tmp_path / "ours", math=made.math, language=made.language, **options)
    assert same(found, by_mergekit(text, tmp_path / "theirs"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("embeddings", [None, "math", "language"])
@pytest.mark.parametrize("name", ["A", "B", "predecessor", "outer 2+1, 1 transition"])
def test_partial_layers_are_swapped_by_mergekit_but_for_the_sign_of_zeros(trios, tmp_path, family, embeddings, name):
    made = trios(family)
    options = {"base": made.base, "partition": name, "embeddings": embeddings}
    text = export_mergekit(made.math, made.language, **options)
    assert yaml.safe_load(text)["merge_method"] == "linear"
    found = ours("layer-swapping", tmp_path / "ours", math=made.math, language=made.language, **options)
    assert equal_numbers(found, by_mergekit(text, tmp_path / "theirs"))


def test_both_blocks_shared_unevenly(trios, tmp_path):
    made = trios("llama")
    mine = tmp_path / "mine.yaml"
    mine.write_text("attention: [0, 0.25, 1, 1, 0, 1, 0.5, 0]\nffn: [1, 0.75, 1, 0, 0, 0.5, 0.5, 1]\n")
    options = {"base": made.base, "partition": mine}
    found = ours("layer-swapping", tmp_path / "ours", math=made.math, language=made.language, **options)
    text = export_mergekit(made.math, made.language, **options)
    assert equal_numbers(found, by_mergekit(text, tmp_path / "theirs"))


def test_without_a_base_equal_embeddings_are_the_math_expert_s(trios, tmp_path):
    made = trios("llama", outside=False)
    text = export_mergekit(made.math, made.language)
    assert str(made.base) not in text
    assert "embeddings, final norm and head: math's" in text
    found = ours("layer-swapping", tmp_path / "ours", math=made.math, language=made.language)
    assert same(found, by_mergekit(text, tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "say whose to take, --embeddings math or --embeddings language"),
        ({"embeddings": "base"}, "no base is given: say --base as well"),
        ({"embeddings": "both"}, "say 'base', 'math' or 'language'"),
        ({"embeddings": "math", "partition": "Z"}, "No partition 'Z'"),
    ],
)
def test_exports_that_cannot_be_are_refused(trios, options, words):
    made = trios("llama")
    with pytest.raises(RequestError, match=words):
        export_mergekit(made.math, made.language, **options)


def test_strangers_and_adapters_are_not_exported(trios, tmp_path):
    made = trios("llama")
    with pytest.raises(RequestError, match="of one base"):
        export_mergekit(made.math, trios("qwen2").language)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(RequestError):
        export_mergekit(made.math, tmp_path)


def test_partial_layers_of_an_unknown_decoder_are_not_exported(tmp_path):
    """Mergekit's filters go by names; those of a decoder that was located by structure are not known."""
    names = [
        "transformer.wte.weight",
        *(f"transformer.h.{i}.{m}.weight" for i in range(4) for m in ("attn.q", "mlp.up")),
    ]
    for role in ("math", "language"):
        (tmp_path / role).mkdir()
        save_file({name: torch.ones(8, 8) for name in names}, tmp_path / role / "model.safetensors")
        config = {"model_type": "unheard-of", "architectures": ["UnheardOf"]}
        (tmp_path / role / "config.json").write_text(json.dumps(config))
    assert "passthrough" in export_mergekit(tmp_path / "math", tmp_path / "language")
    with pytest.raises(RequestError, match="found by counting: for mergekit only whole layers"):
        export_mergekit(tmp_path / "math", tmp_path / "language", partition="A")


# --- what mergekit cannot do -----------------------------------------------------------------------------

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 64,
         "num_key_value_heads": 2, "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0,
         "moe_intermediate_size": 16, "ffn_hidden_size": 48, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
NEW = {"new_decoder_architecture": True}
CAN = [
    ("cohere", {"use_qk_norm": True}),
    ("cohere2", {}),
    ("falcon", NEW | {"tie_word_embeddings": False}),
    ("gemma2", {}),
    ("gpt2", {}),
    ("mistral", {}),
    ("olmo2", {}),
    ("phi", {}),
    ("phi3", {}),
    ("qwen3", {}),
    ("smollm3", {"attention_bias": True}),
    ("starcoder2", {}),
    ("stablelm", {"use_qkv_bias": True}),
]
CANNOT = [
    ("arcee", {"mlp_bias": True}),
    ("cohere", {}),
    ("cohere", {"use_qk_norm": True, "attention_bias": True}),
    ("cohere2", {"attention_bias": True}),
    ("falcon", {}),
    ("falcon", NEW),
    ("falcon", NEW | {"tie_word_embeddings": False, "bias": True}),
    ("gemma", {"attention_bias": True}),
    ("gemma2", {"attention_bias": True}),
    ("gemma3_text", {"attention_bias": True}),
    ("gpt_neox", {}),
    ("llama", {"attention_bias": True}),
    ("llama", {"mlp_bias": True}),
    ("mixtral", {}),
    ("olmo2", {"attention_bias": True}),
    ("olmoe", {}),
    ("phi", {"qk_layernorm": True}),
    ("qwen3", {"attention_bias": True}),
    ("qwen3_moe", {}),
    ("stablelm", {"qk_layernorm": True}),
    ("starcoder2", {"use_bias": False}),
]


def three_of(root, model_type, settings):
    """Save a base and two experts of any architecture of transformers."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**SMALL | settings))
    for role in ("base", "math", "language"):
        model.save_pretrained(root / role)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.005 * torch.randn_like(parameter)
    return {role: root / role for role in ("math", "language", "base")}


@pytest.mark.parametrize(("model_type", "settings"), CAN, ids=str)
def test_what_mergekit_can_do_it_does_to_the_last_bit(tmp_path, model_type, settings):
    folders = three_of(tmp_path, model_type, settings)
    theirs = by_mergekit(export_mergekit(**folders), tmp_path / "theirs")
    assert same(ours("layer-swapping", tmp_path / "ours", **folders), theirs)


@pytest.mark.parametrize(("model_type", "settings"), CANNOT, ids=str)
def test_what_mergekit_cannot_do_is_refused(tmp_path, monkeypatch, model_type, settings):
    folders = three_of(tmp_path, model_type, settings)
    with pytest.raises(RequestError, match=r"mergekit cannot merge this \w+: (it stops|of .* it would drop or rename)"):
        export_mergekit(**folders)
    merged = ours("layer-swapping", tmp_path / "ours", **folders)
    monkeypatch.setattr(exporting, "_check_names", lambda checkpoint: None)
    try:
        theirs = by_mergekit(export_mergekit(**folders), tmp_path / "theirs")
    except RuntimeError as error:
        assert "required but not present" in str(error)
    else:
        assert merged.keys() - theirs.keys(), "nothing was dropped: it need not be refused"


def test_a_config_that_names_no_architecture_is_not_exported(tmp_path):
    folders = three_of(tmp_path, "llama", {})
    for folder in folders.values():
        reconfigured(folder, architectures=...)
    with pytest.raises(RequestError, match="names no single architecture"):
        export_mergekit(**folders)


@pytest.mark.parametrize("partition", ["C", "A"])
def test_a_model_with_a_vision_tower_is_not_exported(tmp_path, partition):
    """Filters such as ``layers.0.`` would match the tower's layers as well."""
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)]
    found = {name: torch.eye(8) for name in ("vision_tower.layers.0.mlp.fc1.weight", *names)}
    for role in ("math", "language"):
        (tmp_path / role).mkdir()
        save_file(found, tmp_path / role / "model.safetensors")
        (tmp_path / role / "config.json").write_text('{"architectures": ["LlavaForConditionalGeneration"]}')
    with pytest.raises(RequestError, match=r"more than a language model \('vision_tower.layers.0.mlp.fc1.weight'\)"):
        export_mergekit(tmp_path / "math", tmp_path / "language", partition=partition)
