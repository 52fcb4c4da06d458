"""LoRA adapters: what is read, what is refused, and merges of adapters that stay adapters."""

import json
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from experts import locate
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from xlnb.checkpoints.verbs import merge
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.training.sft import PROJECTIONS
from xlnb.weights.adapters import combined, combined_config, open_adapter, pickable
from xlnb.weights.merging import applied, layer_swapping, task_arithmetic
from xlnb.weights.partitions import Partition, outer_layers
from xlnb.weights.task_vectors import TaskVector

DEPTH = 8
UP, QUERY = "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"
SHAPES = {UP: (6, 4), QUERY: (5, 5)}  # outputs, inputs
quick = settings(max_examples=40, deadline=None)


def written(folder, rank=2, alpha=4, modules=SHAPES, seed=0, config=(), dtype=torch.float32):
    """Write an adapter as PEFT would, without PEFT."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module in modules:
        outputs, inputs = SHAPES[module]
        for factor, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            key = f"base_model.model.{module}.lora_{factor}.weight"
            tensors[key] = torch.randn(shape, generator=generator).to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "init_lora_weights": True}
    (folder / "adapter_config.json").write_text(json.dumps({**content, **dict(config)}))
    return folder


def scalings(adapter):
    return {pair.scaling for pair in adapter.pairs.values()}


def change_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(change(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})


# --- what is read ----------------------------------------------------------------------------------------


def adapter(base, folder, seed=5, **settings):
    """Save an adapter with random factors; return the update that PEFT itself merges into the base."""
    before = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    settings = {"r": 4, "lora_alpha": 10, "target_modules": list(PROJECTIONS), **settings}
    torch.manual_seed(seed)
    model = get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings))
    model.save_pretrained(folder)
    merged = model.merge_and_unload()
    return {name: p.detach() - before[name] for name, p in merged.named_parameters()}


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_an_adapter_s_update_is_what_peft_merges(miniature, tmp_path, family, rank_stabilised):
    update = adapter(load_base(miniature(family)), tmp_path / "adapter", use_rslora=rank_stabilised)
    vector = TaskVector.from_adapter(tmp_path / "adapter")
    assert set(vector) == {name for name, change in update.items() if change.any()}
    assert len(vector) == DEPTH * len(PROJECTIONS)
    for name in vector:
        assert vector[name].dtype == torch.float32
        assert torch.allclose(vector[name], update[name], atol=1e-6), name
        assert update[name].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_adapters_that_are_more_than_lora_pairs_are_refused(miniature, tmp_path, settings, named):
    adapter(load_base(miniature("qwen2")), tmp_path / "adapter", **settings)
    with pytest.raises(RequestError, match=named):
        TaskVector.from_adapter(tmp_path / "adapter")


def test_adapters_of_another_kind_are_refused(miniature, tmp_path):
    adapter(load_base(miniature("llama")), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "LOHA"}))
    with pytest.raises(RequestError, match="LOHA"):
        TaskVector.from_adapter(tmp_path)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter_is_refused(miniature, tmp_path, file):
    adapter(load_base(miniature("llama")), tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(RequestError, match=f"no {file}"):
        TaskVector.from_adapter(tmp_path)


# --- what is refused -------------------------------------------------------------------------------------

A, B = f"base_model.model.{UP}.lora_A.weight", f"base_model.model.{UP}.lora_B.weight"


def test_the_adapter_that_the_refusals_start_from_is_read(tmp_path):
    adapter = open_adapter(written(tmp_path))
    assert [adapter.rank(name) for name in adapter.pairs] == [2, 2] and {
        pair.scaling for pair in adapter.pairs.values()
    } == {2.0}
    assert {name: (pair.a.shape, pair.b.shape) for name, pair in adapter.pairs.items()} == {
        UP + ".weight": ((2, 4), (6, 2)),
        QUERY + ".weight": ((2, 5), (5, 2)),
    }


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 2.5), (True, 5.0)])
def test_the_scaling(tmp_path, rslora, scaling):
    adapter = open_adapter(written(tmp_path, rank=4, alpha=10, config={"use_rslora": rslora}))
    assert scalings(adapter) == {scaling}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != B}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: {k: v for k, v in t.items() if k != A}, "factors without their partner"),
        (lambda t: {k: v for k, v in t.items() if "lora_B" in k}, "factors without their partner, or none at all"),
        (lambda t: {}, "factors without their partner, or none at all"),
        (lambda t: t | {A: torch.ones(3, 4)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {B: torch.ones(6, 3)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {A: torch.ones(3, 4), B: torch.ones(6, 3)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {A: torch.ones(4, 2), B: torch.ones(2, 6)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {A: torch.ones(8), B: torch.ones(12)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {A: torch.ones(2, 4, 1)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {A: torch.ones(2, 4, dtype=torch.int32)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {B: torch.ones(6, 2, dtype=torch.int8)}, f"no fitting pair of rank 2 for {A}"),
        (lambda t: t | {"base_model.model.lm_head.weight": torch.ones(2)}, "it has base_model.model.lm_head.weight"),
        (lambda t: t | {f"base_model.model.{UP}.lora_magnitude_vector": torch.ones(6)}, "it has .*magnitude_vector"),
        (lambda t: t | {f"{UP}.lora_A.weight": torch.ones(2, 4)}, f"it has {UP}.lora_A.weight"),
    ],
)
def test_factors_that_are_no_pairs_are_refused(tmp_path, change, said):
    change_tensors(written(tmp_path), change)
    with pytest.raises(RequestError, match=said):
        open_adapter(tmp_path)


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
@pytest.mark.parametrize("value", [0, -1, -0.5, True, "2", None, [2], float("nan"), float("inf")])
def test_a_rank_or_alpha_that_is_no_positive_number_is_refused(tmp_path, key, value):
    change_config(written(tmp_path), **{key: value})
    with pytest.raises(RequestError, match=f"adapter_config.json says {key} = .*: it takes a positive"):
        open_adapter(tmp_path)


@pytest.mark.parametrize("rank", [2.0, 2.5])
def test_a_rank_is_a_whole_number_and_alpha_any(tmp_path, rank):
    change_config(written(tmp_path), lora_alpha=2.5)
    assert scalings(open_adapter(tmp_path)) == {1.25}
    change_config(tmp_path, r=rank)
    with pytest.raises(RequestError, match=f"says r = {rank}: it takes a positive whole number"):
        open_adapter(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("fan_in_fan_out", True),
        ("modules_to_save", ["lm_head"]),
        ("bias", "lora_only"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("target_parameters", ["up_proj.weight"]),
        ("layer_replication", [[0, 4], [2, 8]]),
        ("alora_invocation_tokens", [5, 6]),
        ("use_qalora", True),
        ("arrow_config", {"top_k": 3}),
        ("kasa_config", {"beta": 1}),
    ],
)
def test_settings_under_which_the_pairs_are_not_the_whole_update_are_refused(tmp_path, key, value):
    change_config(written(tmp_path), **{key: value})
    with pytest.raises(
        RequestError, match=rf"more than plain LoRA pairs \(it sets {key}\): merge it into its base first"
    ):
        open_adapter(tmp_path)


@pytest.mark.parametrize("value", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_how_the_factors_were_drawn_does_not_matter(tmp_path, value):
    change_config(written(tmp_path), init_lora_weights=value)
    assert len(open_adapter(tmp_path).pairs) == 2


@pytest.mark.parametrize(
    ("key", "value"), [("rank_pattern", [3]), ("alpha_pattern", {"up_proj": -1}), ("rank_pattern", {"up_proj": 0.5})]
)
def test_a_pattern_that_gives_no_rank_or_alpha_is_refused(tmp_path, key, value):
    change_config(written(tmp_path), **{key: value})
    with pytest.raises(RequestError, match=rf"says {key}.*: it takes a"):
        open_adapter(tmp_path)


@pytest.mark.parametrize("rslora", [False, True])
def test_modules_with_ranks_and_alphas_of_their_own(miniature, tmp_path, rslora):
    base = miniature("llama")
    config = LoraConfig(
        r=2, lora_alpha=3, target_modules=["q_proj", "up_proj", "down_proj"], use_rslora=rslora, init_lora_weights=False,
        rank_pattern={"up_proj": 5, r"layers\.1\..*down_proj": 4}, alpha_pattern={"q_proj": 7, r"layers\.2\.mlp\.up_proj": 1},
    )  # fmt: skip
    for place in ("one", "two"):
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / place)
    plain = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())

    def by_peft(folder):
        merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload()
        return {
            name: tensor - plain[name] for name, tensor in merged.named_parameters() if (tensor != plain[name]).any()
        }

    expected = by_peft(tmp_path / "one")
    found = TaskVector.from_adapter(tmp_path / "one")
    assert set(found) == set(expected) and len({open_adapter(tmp_path / "one").rank(name) for name in found}) == 3
    for name, update in expected.items():
        torch.testing.assert_close(found[name], update, atol=1e-5, rtol=1e-4)
    merge("task-arithmetic", tmp_path / "sum", experts=[tmp_path / "one", tmp_path / "two"])
    other, together = by_peft(tmp_path / "two"), by_peft(tmp_path / "sum")
    for name, update in expected.items():
        torch.testing.assert_close(together[name], update + other[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_a_config_that_is_none_is_refused(tmp_path, content):
    (written(tmp_path) / "adapter_config.json").write_bytes(content)
    with pytest.raises(RequestError, match=r"adapter_config\.json"):
        open_adapter(tmp_path)


# --- side by side ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "may"),
    [
        ({"seed": 1}, True),
        ({"alpha": 4 / 2**0.5, "config": {"use_rslora": True}}, True),
        ({"alpha": 5}, False),
        ({"rank": 3, "alpha": 6}, False),
        ({"modules": [UP]}, False),
        ({"dtype": torch.bfloat16}, False),
    ],
)
def test_which_pairs_may_stand_side_by_side(tmp_path, other, may):
    one, two = (open_adapter(written(tmp_path / name, **kind)) for name, kind in (("one", {}), ("two", other)))
    if other.get("config"):
        assert sorted(scalings(two)) == pytest.approx(sorted(scalings(one)))
        may = scalings(two) == scalings(one)
    assert pickable([one, two]) == pickable([two, one]) == may
    assert pickable([one, one, two]) == may


# --- combined --------------------------------------------------------------------------------------------

kinds = st.fixed_dictionaries({
    "rank": st.integers(1, 5),
    "alpha": st.one_of(st.integers(1, 64), st.floats(0.1, 30)),
    "modules": st.sampled_from([(UP,), (QUERY,), (UP, QUERY)]),
    "config": st.booleans().map(lambda rslora: {"use_rslora": rslora}),
    "dtype": st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
})  # fmt: skip
weights = st.one_of(st.floats(-2, 2), st.sampled_from([0.0, 1.0, -1.0]))


def update_of(folder, module):
    """The update of one module, from PEFT's definition, in float64."""
    config, tensors = (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )
    if f"base_model.model.{module}.lora_A.weight" not in tensors:
        return torch.zeros(SHAPES[module], dtype=torch.float64)
    a, b = (tensors[f"base_model.model.{module}.lora_{factor}.weight"].double() for factor in "AB")
    return config["lora_alpha"] / (config["r"] ** (0.5 if config["use_rslora"] else 1)) * b @ a


@given(st.lists(st.tuples(kinds, weights, weights), min_size=1, max_size=4))
@quick
def test_the_combined_update_is_the_weighted_sum(chosen):
    with tempfile.TemporaryDirectory() as temporary:
        folders = [written(Path(temporary) / str(i), seed=i, **kind) for i, (kind, _, _) in enumerate(chosen)]
        loaded = [open_adapter(folder) for folder in folders]
        each = {UP: [w for _, w, _ in chosen], QUERY: [w for _, _, w in chosen]}
        present = {module: each[module] for module in SHAPES if any(module + ".weight" in a.pairs for a in loaded)}
        terms = {module + ".weight": list(zip(row, loaded, strict=True)) for module, row in present.items()}
        tensors, rank = combined(terms, loaded)
        assert rank == max(sum(k["rank"] for k, _, _ in chosen if module in k["modules"]) for module in present)
        assert set(tensors) == {f"base_model.model.{m}.lora_{factor}.weight" for m in present for factor in "AB"}
        for module, row in present.items():
            a, b = (tensors[f"base_model.model.{module}.lora_{factor}.weight"] for factor in "AB")
            assert a.dtype == b.dtype == torch.float32
            assert (a.shape, b.shape) == ((rank, SHAPES[module][1]), (SHAPES[module][0], rank))
            expected = sum(w * update_of(folder, module) for w, folder in zip(row, folders, strict=True))
            scale = sum(abs(w) * update_of(folder, module).abs().max() for w, folder in zip(row, folders, strict=True))
            assert torch.allclose((b @ a).double(), expected, rtol=0, atol=float(1e-5 * scale + 1e-30))


def test_the_rank_is_that_of_the_longest_sum(tmp_path):
    one, two = (open_adapter(written(tmp_path / str(r), rank=r, seed=r)) for r in (2, 3))
    tensors, rank = combined({UP + ".weight": [(1, one)], QUERY + ".weight": [(0.5, two)]}, [one, two])
    assert rank == 3
    assert tensors[A][2].count_nonzero() == tensors[B][:, 2].count_nonzero() == 0
    assert tensors[A][:2].count_nonzero() == 8
    tensors, rank = combined({UP + ".weight": [(1, one), (1, two)], QUERY + ".weight": []}, [one, two])
    assert rank == 5
    assert all(tensor.count_nonzero() == 0 for name, tensor in tensors.items() if QUERY in name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_combined_adapter_is_an_adapter(tmp_path, dtype):
    one, two = (open_adapter(written(tmp_path / str(r), rank=r, seed=r, config={"use_rslora": True})) for r in (2, 3))
    terms = {name: [(0.5, one), (-2, two)] for name in one.pairs}
    out = tmp_path / "out"
    out.mkdir()
    tensors, rank = combined(terms, [one, two], dtype)
    save_file(tensors, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(combined_config([one, two], list(terms), rank)))
    again = open_adapter(out)
    assert ({again.rank(name) for name in again.pairs}, scalings(again)) == ({5}, {1.0})
    assert {stored.dtype for pair in again.pairs.values() for stored in (pair.a, pair.b)} == {
        {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[dtype]
    }
    vector = TaskVector.from_adapter(out)
    expected = task_arithmetic([TaskVector.from_adapter(tmp_path / str(r)) for r in (2, 3)], [0.5, -2])
    error = (vector + -1 * expected).norm() / expected.norm()
    assert error < {"float32": 1e-6, "bfloat16": 0.01, "float16": 0.001}[dtype]


# --- combined, and loaded by PEFT ------------------------------------------------------------------------

IDS = torch.arange(4, 28).view(2, 12)
ALL = {"r": 4, "lora_alpha": 10}
LOWER = {"r": 3, "lora_alpha": 6, "use_rslora": True, "layers_to_transform": [0, 1, 5]}
PAIRS = {
    "all modules of all layers": (ALL, ALL | {"r": 2}),
    "rank-stabilised": (ALL, {"r": 2, "lora_alpha": 3, "use_rslora": True}),
    "some modules of one": (ALL, {"r": 2, "target_modules": ["q_proj", "v_proj"]}),
    "each its own modules": ({"target_modules": ["q_proj"]}, {"target_modules": ["up_proj", "down_proj"]}),
    "some layers of one": (LOWER, ALL),
    "the same layers of both": (LOWER, LOWER | {"r": 1}),
    "other layers of both": (LOWER, LOWER | {"layers_to_transform": [6]}),
    "by pattern": ({"target_modules": r".*\.[23]\..*(q|o)_proj"}, {"target_modules": r".*\.4\.mlp\.\w+_proj"}),
    "all but some": ({"exclude_modules": r".*layers\.7\..*"}, {"exclude_modules": r".*layers\.7\..*", "r": 3}),
    "all but some of one": ({"exclude_modules": r".*layers\.7\..*"}, ALL),
    "all linear": ({"target_modules": "all-linear"}, ALL),
}


def saved_pair(miniature, tmp_path, settings, family="llama"):
    for i, name in enumerate(("one", "two")):
        adapter(load_base(miniature(family)), tmp_path / name, seed=i, **settings[i])
    return [open_adapter(tmp_path / name) for name in ("one", "two")]


def loaded_by_peft(base, folder):
    """The adapter as PEFT loads it, and what PEFT says about keys while it does."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(load_base(base).model, folder).eval()
    return model, [str(warning.message) for warning in said if "key" in str(warning.message).lower()]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def check(base, out, terms, adapters, expected):
    out.mkdir()
    tensors, rank = combined(terms, adapters)
    save_file(tensors, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(combined_config(adapters, list(terms), rank)))
    model, complaints = loaded_by_peft(base, out)
    assert complaints == []
    adapted = {name.split(".lora_A")[0] for name in model.state_dict() if ".lora_A" in name}
    assert adapted == {"base_model.model." + name.removesuffix(".weight") for name in terms}
    plain = load_base(base).model
    before = logits(plain)
    with applied(plain, expected):
        wanted = logits(plain)
    assert (wanted - before).abs().max() > 0.01
    assert torch.allclose(logits(model), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", PAIRS)
def test_peft_loads_a_sum_of_adapters(miniature, tmp_path, kind):
    adapters = saved_pair(miniature, tmp_path, PAIRS[kind])
    terms = {name: list(zip((0.7, -0.4), adapters, strict=True)) for one in adapters for name in one.pairs}
    vectors = [TaskVector.from_adapter(tmp_path / name) for name in ("one", "two")]
    check(miniature("llama"), tmp_path / "out", terms, adapters, task_arithmetic(vectors, [0.7, -0.4]))


def test_peft_loads_a_sum_whatever_draw_the_first_adapter_began_with(miniature, tmp_path):
    saved_pair(miniature, tmp_path, (ALL, ALL | {"r": 3}))  # together of an odd rank, which an orthogonal draw refuses
    change_config(tmp_path / "one", init_lora_weights="orthogonal")
    adapters = [open_adapter(tmp_path / name) for name in ("one", "two")]
    terms = {name: list(zip((0.7, -0.4), adapters, strict=True)) for name in adapters[0].pairs}
    vectors = [TaskVector.from_adapter(tmp_path / name) for name in ("one", "two")]
    check(miniature("llama"), tmp_path / "out", terms, adapters, task_arithmetic(vectors, [0.7, -0.4]))


def test_modules_of_all_layers_are_named_in_short(miniature, tmp_path):
    adapters = saved_pair(miniature, tmp_path, (ALL, ALL))
    config = combined_config(adapters, list(adapters[0].pairs), 8)
    assert config["target_modules"] == sorted(PROJECTIONS)
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
    for key, value in (("layers_to_transform", 0), ("exclude_modules", "lm_head"), ("target_modules", "all-linear")):
        for name in ("one", "two"):
            change_config(tmp_path / name, **{"layers_to_transform": None, "exclude_modules": None, key: value})
        changed = [open_adapter(tmp_path / name) for name in ("one", "two")]
        in_full = combined_config(changed, list(changed[0].pairs), 8)["target_modules"]
        assert in_full == sorted(name.removesuffix(".weight") for name in changed[0].pairs)


@pytest.mark.parametrize("family", MINIATURES)
def test_peft_loads_a_swap_of_adapters(miniature, tmp_path, family):
    math, language = saved_pair(miniature, tmp_path, (ALL, LOWER), family)
    partition = Partition("by block", outer_layers(2, 1, DEPTH, transition=1).attention, (1,) * 4 + (0.25,) * 4)
    terms = {}
    for name in math.pairs:
        share = partition.share(locate(name))
        terms[name] = [(weight, side) for weight, side in ((share, math), (1 - share, language)) if weight]
    vectors = [TaskVector.from_adapter(tmp_path / name) for name in ("one", "two")]
    check(miniature(family), tmp_path / "out", terms, [math, language], layer_swapping(*vectors, partition))
