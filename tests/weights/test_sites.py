"""Sites: where the parameters of real architectures live, by name or by structure, and what is refused."""

import pytest
import torch
import transformers
from experts import locate
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.training.sft import PROJECTIONS
from xlnb.weights.sites import ATTENTION, BESIDE, EMBEDDING, FFN, HEAD, NORM, Site, _by_name, locate_all, plain_name
from xlnb.weights.tensor_files import open_checkpoint

LLAMA_LIKE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
              "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
NEOX_LIKE = {key: value for key, value in LLAMA_LIKE.items() if key != "num_key_value_heads"}
FALCON_LIKE = {key: value for key, value in LLAMA_LIKE.items() if "key_value" not in key and "intermediate" not in key}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}


def saved_names(config_class, **settings):
    """The names that save_pretrained writes of a model, which is built without memory: a tied head is not among them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(getattr(transformers, config_class)(**settings))
    return [name for name in model.state_dict() if name not in model.all_tied_weights_keys]


def count(sites, layer):
    found = [site.block for site in sites.of.values() if site.layer == layer]
    return tuple(found.count(block) for block in (ATTENTION, FFN, NORM))


# --- by name ---------------------------------------------------------------------------------------------

KNOWN = {  # settings, layers, parameters of a layer (attention, FFN, norms), whether the head is tied
    "Llama": ("LlamaConfig", {}, 5, (4, 3, 2), False),
    "Llama with biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}, 3, (8, 6, 2), False),
    "Mistral": ("MistralConfig", {}, 4, (4, 3, 2), False),
    "Qwen2": ("Qwen2Config", {}, 7, (7, 3, 2), False),
    "Qwen2, tied": ("Qwen2Config", {"tie_word_embeddings": True}, 2, (7, 3, 2), True),
    "Qwen3": ("Qwen3Config", {"head_dim": 8}, 6, (6, 3, 2), False),
    "Cohere": ("CohereConfig", {}, 3, (4, 3, 1), True),
    "Cohere with q/k norms": ("CohereConfig", {"use_qk_norm": True}, 11, (6, 3, 1), True),
    "Gemma 3": ("Gemma3TextConfig", {"head_dim": 8}, 13, (6, 3, 4), True),
}


@pytest.mark.parametrize("family", KNOWN)
def test_known_families_are_located_by_name(family):
    config_class, settings, depth, blocks, tied = KNOWN[family]
    names = saved_names(config_class, num_hidden_layers=depth, **LLAMA_LIKE, **settings)
    sites = locate_all(names)
    assert (sites.by, sites.depth) == ("name", depth)
    assert set(sites.of) == set(names)
    assert [count(sites, layer) for layer in range(depth)] == [blocks] * depth
    outside = {name: site.block for name, site in sites.of.items() if site.layer is None}
    assert outside.pop("model.embed_tokens.weight") == EMBEDDING
    assert outside.pop("model.norm.weight") == NORM
    assert outside == ({} if tied else {"lm_head.weight": HEAD})
    assert all(sites.of[name] == locate(name) for name in names)


@pytest.mark.parametrize("family", MINIATURES)
def test_what_save_pretrained_writes_is_located_by_name(miniature, family):
    stored = open_checkpoint(miniature(family)).tensors
    sites = locate_all(stored)
    assert (sites.by, sites.depth) == ("name", 8)
    for name, site in sites.of.items():
        assert f".layers.{site.layer}." in name if site.layer is not None else ".layers." not in name
        assert (site.block == FFN) == (".mlp." in name)
        assert (site.block == ATTENTION) == (".self_attn." in name)
    weights = [site for name, site in sites.of.items() if name.endswith(".weight")]
    assert len(set(weights)) == len(weights)
    assert {site.block for site in sites.of.values()} <= {ATTENTION, FFN, NORM, EMBEDDING, HEAD}


@pytest.mark.parametrize("family", MINIATURES)
def test_an_adapter_s_factors_live_where_their_parameters_do(miniature, family):
    model = load_base(miniature(family)).model
    parameters = set(model.state_dict())
    adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=list(PROJECTIONS)))
    factors = list(get_peft_model_state_dict(adapted))
    assert len(factors) == 2 * 8 * len(PROJECTIONS)
    sites = locate_all(factors)
    assert (sites.by, sites.depth) == ("name", 8)
    for name in factors:
        assert plain_name(name) in parameters
        assert sites.of[name] == locate(plain_name(name))
    in_training = [name for name, p in adapted.named_parameters() if p.requires_grad]  # "...lora_A.default.weight"
    assert {plain_name(name) for name in in_training} == {plain_name(name) for name in factors}


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.11.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.11.mlp.up_proj.lora_B.default.weight",
        "model.layers.11.mlp.up_proj.bias",
    ],
)
def test_lora_factors_and_biases_live_where_their_module_does(name):
    assert locate(name) == Site(11, "ffn", "up")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "model.layers.0.mixer.in_proj.weight",
        "transformer.h.0.attn.c_attn.weight",
        "model.layers.x.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.weight.absmax",
        "model.layers.0.mlp.up_proj.lora_C.weight",
        "my_model.layers.0.mlp.up_proj.weight",
        "model.embed_tokens",
    ],
)
def test_unknown_parameters_are_not_guessed_by_name(name):
    assert _by_name(plain_name(name)) is None


def test_an_adapter_of_the_upper_layers_only_is_located_by_name():
    names = [f"model.layers.{i}.self_attn.{p}_proj.weight" for i in (5, 9) for p in "qv"]
    assert (locate_all(names).by, locate_all(names).depth) == ("name", 10)


# --- by structure ----------------------------------------------------------------------------------------

UNKNOWN = {  # config, settings, the name of a layer, parameters of a layer by block
    "GPT-2": ("GPT2Config", GPT2 | {"n_layer": 3}, "transformer.h.{}.", {
        "ln_1.weight": NORM, "ln_1.bias": NORM, "ln_2.weight": NORM, "ln_2.bias": NORM,
        "attn.c_attn.weight": ATTENTION, "attn.c_attn.bias": ATTENTION, "attn.c_proj.weight": ATTENTION,
        "attn.c_proj.bias": ATTENTION, "mlp.c_fc.weight": FFN, "mlp.c_fc.bias": FFN, "mlp.c_proj.weight": FFN,
        "mlp.c_proj.bias": FFN,
    }),
    "GPT-NeoX": ("GPTNeoXConfig", NEOX_LIKE | {"num_hidden_layers": 3}, "gpt_neox.layers.{}.", {
        "input_layernorm.weight": NORM, "input_layernorm.bias": NORM, "post_attention_layernorm.weight": NORM,
        "post_attention_layernorm.bias": NORM, "attention.query_key_value.weight": ATTENTION,
        "attention.query_key_value.bias": ATTENTION, "attention.dense.weight": ATTENTION, "attention.dense.bias": ATTENTION,
        "mlp.dense_h_to_4h.weight": FFN, "mlp.dense_h_to_4h.bias": FFN, "mlp.dense_4h_to_h.weight": FFN,
        "mlp.dense_4h_to_h.bias": FFN,
    }),
    "Phi-3": ("Phi3Config", LLAMA_LIKE | {"num_hidden_layers": 3}, "model.layers.{}.", {
        "self_attn.qkv_proj.weight": ATTENTION, "self_attn.o_proj.weight": ATTENTION, "mlp.gate_up_proj.weight": FFN,
        "mlp.down_proj.weight": FFN, "input_layernorm.weight": NORM, "post_attention_layernorm.weight": NORM,
    }),
    "Falcon": ("FalconConfig", FALCON_LIKE | {"num_hidden_layers": 3}, "transformer.h.{}.", {
        "self_attention.query_key_value.weight": ATTENTION, "self_attention.dense.weight": ATTENTION,
        "mlp.dense_h_to_4h.weight": FFN, "mlp.dense_4h_to_h.weight": FFN, "input_layernorm.weight": NORM,
        "input_layernorm.bias": NORM,
    }),
    "OPT": ("OPTConfig", {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "word_embed_proj_dim": 32,
                          "num_attention_heads": 4, "enable_bias": False}, "model.decoder.layers.{}.", {
        "self_attn.q_proj.weight": ATTENTION, "self_attn.k_proj.weight": ATTENTION, "self_attn.v_proj.weight": ATTENTION,
        "self_attn.out_proj.weight": ATTENTION, "self_attn_layer_norm.weight": NORM, "self_attn_layer_norm.bias": NORM,
        "fc1.weight": FFN, "fc2.weight": FFN, "final_layer_norm.weight": NORM, "final_layer_norm.bias": NORM,
    }),
    "Mixtral": ("MixtralConfig", LLAMA_LIKE | {"num_hidden_layers": 3, "num_local_experts": 2}, "model.layers.{}.", {
        "self_attn.q_proj.weight": ATTENTION, "self_attn.k_proj.weight": ATTENTION, "self_attn.v_proj.weight": ATTENTION,
        "self_attn.o_proj.weight": ATTENTION, "mlp.gate.weight": FFN, "mlp.experts.gate_up_proj": FFN,
        "mlp.experts.down_proj": FFN, "input_layernorm.weight": NORM, "post_attention_layernorm.weight": NORM,
    }),
}  # fmt: skip
OUTSIDE = {
    "GPT-2": {"transformer.wte.weight": EMBEDDING, "transformer.wpe.weight": EMBEDDING, "transformer.ln_f.weight": NORM,
              "transformer.ln_f.bias": NORM},
    "GPT-NeoX": {"gpt_neox.embed_in.weight": EMBEDDING, "gpt_neox.final_layer_norm.weight": NORM,
                 "gpt_neox.final_layer_norm.bias": NORM, "lm_head.weight": HEAD},
    "Phi-3": {"model.embed_tokens.weight": EMBEDDING, "model.norm.weight": NORM, "lm_head.weight": HEAD},
    "Falcon": {"transformer.word_embeddings.weight": EMBEDDING, "transformer.ln_f.weight": NORM,
               "transformer.ln_f.bias": NORM},
    "OPT": {"model.decoder.embed_tokens.weight": EMBEDDING, "model.decoder.embed_positions.weight": EMBEDDING,
            "model.decoder.final_layer_norm.weight": NORM, "model.decoder.final_layer_norm.bias": NORM},
    "Mixtral": {"model.embed_tokens.weight": EMBEDDING, "model.norm.weight": NORM, "lm_head.weight": HEAD},
}  # fmt: skip


@pytest.mark.parametrize("family", UNKNOWN)
def test_other_decoders_are_located_by_their_structure(family):
    config_class, settings, prefix, blocks = UNKNOWN[family]
    sites = locate_all(saved_names(config_class, **settings))
    assert (sites.by, sites.depth) == ("structure", 3)
    expected = {prefix.format(i) + name: (i, block) for i in range(3) for name, block in blocks.items()}
    expected |= {name: (None, block) for name, block in OUTSIDE[family].items()}
    assert {name: (site.layer, site.block) for name, site in sites.of.items()} == expected


def test_olmo_2_has_only_names_that_are_known():
    sites = locate_all(saved_names("Olmo2Config", num_hidden_layers=3, **LLAMA_LIKE))
    assert (sites.by, sites.depth, count(sites, 1)) == ("name", 3, (6, 3, 2))
    assert sites.of["model.layers.1.post_feedforward_layernorm.weight"] == Site(1, NORM, "post_ffn")


def test_a_new_falcon_has_a_norm_for_each_block():
    settings = FALCON_LIKE | {"num_hidden_layers": 2, "new_decoder_architecture": True, "num_kv_heads": 2}
    sites = locate_all(saved_names("FalconConfig", **settings))
    assert sites.of["transformer.h.1.ln_attn.weight"] == Site(1, NORM, "ln_attn")
    assert sites.of["transformer.h.1.ln_mlp.bias"] == Site(1, NORM, "ln_mlp")


def test_the_experts_of_a_layer_are_no_layers():
    names = [f"model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight" for i in range(2) for e in range(4)]
    sites = locate_all(names)
    assert sites.depth == 2
    assert sites.of[names[-1]] == Site(1, FFN, "block_sparse_moe.experts.3.w1")


def test_layers_without_a_model_around_them_are_located():
    names = [
        "wte.weight",
        *(f"h.{i}.{name}" for i in range(12) for name in ("ln_1.weight", "attn.c_attn.weight")),
        "ln_f.bias",
    ]
    sites = locate_all(names)
    assert (sites.by, sites.depth, sites.of["h.10.attn.c_attn.weight"].layer) == ("structure", 12, 10)
    assert (sites.of["wte.weight"].block, sites.of["ln_f.bias"].block) == (EMBEDDING, NORM)


@pytest.mark.parametrize("child", ["self_attn.c", "mlp.c"])
def test_an_adapter_of_a_decoder_that_is_not_known_is_located(child):
    names = [f"base_model.model.transformer.h.{i}.{child}.lora_{f}.weight" for i in range(3) for f in "AB"]
    sites = locate_all(names)
    assert (sites.by, sites.depth) == ("structure", 3)
    assert set(sites.of) == set(names)
    assert {site.projection for site in sites.of.values()} == {child}


# --- refused ---------------------------------------------------------------------------------------------

LAYERS = [f"h.{i}.{child}.weight" for i in range(3) for child in ("attn.qkv", "mlp.up", "ln_1")]


def test_the_layers_that_the_refusals_start_from_are_located():
    assert locate_all(["wte.weight", *LAYERS]).depth == 3


def test_an_encoder_decoder_is_refused():
    config = transformers.T5Config(vocab_size=64, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2)
    with torch.device("meta"):
        names = list(transformers.T5ForConditionalGeneration(config).state_dict())
    with pytest.raises(RequestError, match=r"several stacks of layers \(decoder.block, encoder.block\)"):
        locate_all(names)


def test_of_a_model_that_sees_the_language_model_is_located():
    vision = [f"vision_tower.layers.{i}.self_attn.q_proj.weight" for i in range(3)]
    for wrapped in ("language_model", "language_model.model", "model.language_model", "model"):
        text = [f"{wrapped}.layers.{i}.self_attn.q_proj.weight" for i in range(2)]
        found = locate_all([*vision, *text, f"{wrapped}.embed_tokens.weight"])
        assert found.depth == 2 and found.by == "name"
        assert [found.of[name].layer for name in text] == [0, 1]
        assert {(found.of[name].layer, found.of[name].block) for name in vision} == {(None, BESIDE)}
    other = [f"encoder_of_another_kind.layers.{i}.self_attn.q_proj.weight" for i in range(2)]
    with pytest.raises(
        RequestError, match=r"several stacks of layers \(encoder_of_another_kind.layers, model.layers\)"
    ):
        locate_all([*other, *text])


@pytest.mark.parametrize("names", [[], ["wte.weight", "lm_head.weight"], ["layer.attn.weight"]])
def test_names_without_layers_are_refused(names):
    with pytest.raises(RequestError, match="no numbered layers"):
        locate_all(names)


def test_a_gap_in_the_layers_is_refused():
    with pytest.raises(RequestError, match=r"numbered 0, 2: some between 0 and 2 are missing"):
        locate_all([name for name in LAYERS if not name.startswith("h.1.")])
    with pytest.raises(RequestError, match=r"numbered 1, 2: some between 0 and 2 are missing"):
        locate_all([name for name in LAYERS if not name.startswith("h.0.")])
    with pytest.raises(RequestError, match=r"numbered 0, 1, 2, 3, \.\.\., 18, 19: some between"):
        locate_all([f"h.{i}.attn.weight" for i in range(20) if i != 9])


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_layers_with_different_parameters_are_refused(change):
    names = (
        [*LAYERS, "h.2.attn.gate.weight"] if change == "one more" else [n for n in LAYERS if n != "h.2.attn.qkv.weight"]
    )
    first = "attn.gate.weight" if change == "one more" else "attn.qkv.weight"
    with pytest.raises(RequestError, match=rf"Layer 2 does not have .* as layer 0 \(first difference: '{first}'\)"):
        locate_all(names)


def test_a_mixture_of_experts_with_one_dense_layer_is_refused():
    settings = {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "mlp_only_layers": [1],
        "head_dim": 8,
    }
    names = saved_names("Qwen3MoeConfig", num_hidden_layers=3, **LLAMA_LIKE, **settings)
    with pytest.raises(RequestError, match="Layer 1 does not have the same parameters as layer 0"):
        locate_all(names)


def test_a_child_of_unknown_name_is_refused():
    settings = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    with pytest.raises(
        RequestError, match=r"'backbone.layers.0.mixer.\w+' belongs to neither attention, FFN nor norms"
    ):
        locate_all(saved_names("MambaConfig", **settings))
    with pytest.raises(RequestError, match=r"'h.0.gate.weight' belongs to neither"):
        locate_all([*LAYERS, *(f"h.{i}.gate.weight" for i in range(3))])


def test_a_name_outside_the_layers_of_unknown_kind_is_refused():
    with pytest.raises(RequestError, match=r"'score.weight' lies outside the layers and is no embedding, norm or head"):
        locate_all([*LAYERS, "wte.weight", "score.weight"])
    with pytest.raises(RequestError, match=r"'model.rotary.inv_freq' lies outside the layers"):
        locate_all([*LAYERS, "model.rotary.inv_freq"])
