"""Sites, partitions, task vectors, merges and methods: the algebra, on random task vectors and on a miniature."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from xlnb.errors import RequestError
from xlnb.merging import applied, layer_swapping, soup, task_arithmetic
from xlnb.methods import METHODS, method
from xlnb.models import MINIATURES, load_base
from xlnb.partitions import COMPLEMENT, Partition, named_partition, outer_layers, partition_c, scaled_count, uniform
from xlnb.sft import PROJECTIONS
from xlnb.sites import BLOCKS, Site, locate
from xlnb.task_vectors import TaskVector

DEPTH = 8
SHAPES = {"self_attn.q_proj": (3, 4), "mlp.down_proj": (4, 2)}


def names(depth=DEPTH):
    return [f"model.layers.{layer}.{module}.weight" for layer in range(depth) for module in SHAPES]


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SHAPES[name[15:-7]], generator=generator) for name in names()}


def layer(name):
    return int(name.split(".")[2])


def same(vector, tensors):
    """Whether both are the same update to the last bit; what is absent is zero."""
    return all(torch.equal(vector[name] if name in vector else torch.zeros_like(t), t) for name, t in tensors.items())


def close(vector, tensors):
    return all(
        torch.allclose(vector[name] if name in vector else torch.zeros_like(t), t, atol=1e-6)
        for name, t in tensors.items()
    )


seeds = st.integers(0, 2**32)
shares = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
partitions = st.lists(shares, min_size=DEPTH, max_size=DEPTH).map(lambda s: Partition("some", tuple(s)))
quick = settings(max_examples=40, deadline=None)


# --- sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MINIATURES)
def test_every_parameter_of_every_family_has_a_site(miniature, family):
    base = load_base(miniature(family))
    sites = {name: locate(name) for name in base.model.state_dict()}
    weights = [site for name, site in sites.items() if name.endswith(".weight")]
    assert len(set(weights)) == len(weights)
    assert {site.layer for site in sites.values()} == {None, *range(base.depth)}
    assert {site.block for site in sites.values()} <= set(BLOCKS)
    for name, site in sites.items():
        assert (site.layer is None) == (".layers." not in name)
        assert (site.block == "ffn") == (".mlp." in name)
        assert (site.block == "attention") == (".self_attn." in name)


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
    ],
)
def test_unknown_parameters_are_refused(name):
    with pytest.raises(RequestError, match="no decoder known here"):
        locate(name)


# --- partitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "bottom", "top"),
    [(4, 1, 1), (8, 2, 1), (18, 3, 1), (24, 5, 2), (28, 6, 2), (30, 6, 2), (32, 6, 2), (36, 7, 2), (64, 12, 4)],
)
def test_partition_c_by_depth(depth, bottom, top):
    assert (scaled_count(6, depth), scaled_count(2, depth)) == (bottom, top)
    expected = "L" * bottom + "M" * (depth - bottom - top) + "L" * top
    assert str(partition_c(depth)) == f"C: {expected}"


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf"), 5])
def test_shares_outside_0_to_1_are_refused(share):
    with pytest.raises(RequestError, match=r"between 0 \(language\) and 1 \(math\)"):
        Partition("wrong", (0.5, share))


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"])
def test_what_lies_outside_the_layers_belongs_to_neither_side(name):
    with pytest.raises(RequestError, match="belongs to neither side"):
        partition_c(DEPTH).share(locate(name))


def test_a_layer_beyond_the_partition_is_refused():
    with pytest.raises(RequestError, match="has 8 layers, but layer 8 was asked for"):
        partition_c(8).share(Site(8, "ffn", "up"))


@pytest.mark.parametrize(("bottom", "top"), [(-1, 2), (2, -1), (5, 4)])
def test_outer_layers_that_do_not_fit_are_refused(bottom, top):
    with pytest.raises(RequestError, match="do not fit into 8 layers"):
        outer_layers(bottom, top, 8)


@given(partitions)
@quick
def test_the_complement_owns_the_rest(partition):
    for i in range(DEPTH):
        site = Site(i, "ffn", "up")
        assert partition.share(site) + partition.complement().share(site) == pytest.approx(1)


def test_named_partitions():
    assert named_partition("C", 18) == partition_c(18)
    assert named_partition(COMPLEMENT, 18) == partition_c(18).complement()
    with pytest.raises(RequestError, match="No partition 'Z': choose one of C, complement of C"):
        named_partition("Z", 18)


# --- merges ----------------------------------------------------------------------------------------------


@given(seeds, seeds, partitions)
@quick
def test_a_swap_is_each_side_on_the_share_it_owns(a, b, partition):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    swapped = layer_swapping(TaskVector.of(m), TaskVector.of(l), partition)
    share = {name: partition.attention[layer(name)] for name in m}
    assert close(swapped, {name: share[name] * m[name] + (1 - share[name]) * l[name] for name in m})


@given(seeds, seeds, partitions)
@quick
def test_a_swap_is_the_sum_of_two_reverts(a, b, partition):
    m, l = TaskVector.of(random_tensors(a)), TaskVector.of(random_tensors(b))  # noqa: E741
    swapped = layer_swapping(m, l, partition)
    reverted = [m.mask(partition, "math"), l.mask(partition, "language")]
    zeros = {name: torch.zeros(SHAPES[name[15:-7]]) for name in names()}
    assert close(swapped, {name: sum((v[name] for v in reverted if name in v), zeros[name]) for name in names()})


@given(seeds, seeds)
@quick
def test_all_math_is_the_math_expert_to_the_last_bit(a, b):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    assert same(layer_swapping(TaskVector.of(m), TaskVector.of(l), uniform(1, DEPTH)), m)
    assert same(layer_swapping(TaskVector.of(m), TaskVector.of(l), uniform(0, DEPTH)), l)


@given(seeds, seeds)
@quick
def test_whole_layers_are_taken_to_the_last_bit(a, b):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    swapped = layer_swapping(TaskVector.of(m), TaskVector.of(l), partition_c(DEPTH))
    assert same(swapped, {name: (m if 2 <= layer(name) < 7 else l)[name] for name in m})


@given(seeds, seeds, partitions)
@quick
def test_a_swap_and_its_complement_add_to_both(a, b, partition):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    both = [layer_swapping(TaskVector.of(m), TaskVector.of(l), one) for one in (partition, partition.complement())]
    assert close(both[0] + both[1], {name: m[name] + l[name] for name in m})


@given(seeds, partitions)
@quick
def test_what_both_sides_keep_adds_to_the_whole(a, partition):
    m = random_tensors(a)
    vector = TaskVector.of(m)
    assert close(vector.mask(partition, "math") + vector.mask(partition, "language"), m)


@given(seeds, seeds)
@quick
def test_soup_is_the_mean(a, b):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    assert close(soup([TaskVector.of(m), TaskVector.of(l)]), {name: (m[name] + l[name]) / 2 for name in m})
    assert close(soup([TaskVector.of(m)] * 3), m)


@given(seeds, seeds, st.floats(-2, 2), st.floats(-2, 2))
@quick
def test_task_arithmetic_weighs(a, b, x, y):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    total = task_arithmetic([TaskVector.of(m), TaskVector.of(l)], [x, y])
    assert all(torch.allclose(total[name], x * m[name] + y * l[name], atol=1e-5) for name in m)


def test_task_vectors_of_different_modules_add_up():
    m = {names()[0]: torch.ones(3, 4)}
    l = {names()[1]: torch.ones(4, 2)}  # noqa: E741
    assert same(TaskVector.of(m) + TaskVector.of(l), m | l)
    assert same(task_arithmetic([TaskVector.of(m), TaskVector.of(l)], [1, 1]), m | l)


def test_one_weight_a_vector_is_needed():
    vector = TaskVector.of(random_tensors(0))
    for vectors, weights in (([], []), ([vector], [1, 2]), ([vector, vector], [1])):
        with pytest.raises(RequestError, match="one weight for each"):
            task_arithmetic(vectors, weights)


def test_a_soup_of_nothing_is_refused_in_words():
    with pytest.raises(RequestError, match="at least one"):
        soup([])


def test_masking_drops_what_neither_side_owns():
    vector = TaskVector.of({"model.embed_tokens.weight": torch.ones(3, 2), **random_tensors(0)})
    assert set(vector.mask(uniform(1, DEPTH), "math")) == set(names())


def test_a_side_that_is_none_is_refused():
    with pytest.raises(RequestError, match="say 'math' or 'language'"):
        TaskVector.of({}).mask(partition_c(DEPTH), "both")


def test_a_swap_deeper_than_its_partition_is_refused():
    vector = TaskVector.of(random_tensors(0))
    with pytest.raises(RequestError, match="has 4 layers"):
        layer_swapping(vector, vector, partition_c(4))


def test_norm_and_cosine():
    m, l = random_tensors(1), random_tensors(2)  # noqa: E741
    flat = [torch.cat([t.flatten() for t in tensors.values()]).double() for tensors in (m, l)]
    vectors = [TaskVector.of(m), TaskVector.of(l)]
    assert vectors[0].norm() == pytest.approx(flat[0].norm().item())
    assert vectors[0].cosine(vectors[1]) == pytest.approx(torch.cosine_similarity(*flat, dim=0).item())
    assert vectors[0].cosine(-2 * vectors[0]) == pytest.approx(-1)
    assert vectors[0].cosine(TaskVector({})) == 0


# --- methods ---------------------------------------------------------------------------------------------


def test_the_recipes_say_what_they_do():
    m, l = random_tensors(1), random_tensors(2)  # noqa: E741
    vectors = {"math-only": TaskVector.of(m), "language-only": TaskVector.of(l)}
    middle = {name: float(2 <= layer(name) < 7) for name in m}
    expected = {
        "base": {name: torch.zeros_like(m[name]) for name in m},
        "math-only": m,
        "language-only": l,
        "soup": {name: (m[name] + l[name]) / 2 for name in m},
        "task-arithmetic": {name: m[name] + l[name] for name in m},
        "layer-swapping": {name: middle[name] * m[name] + (1 - middle[name]) * l[name] for name in m},
    }
    assert set(METHODS) >= set(expected)
    for slug, tensors in expected.items():
        chosen = method(slug)
        given_vectors = {expert: vectors[expert] for expert in chosen.experts}  # what it says it needs suffices
        assert close(chosen.recipe(given_vectors, partition_c(DEPTH)), tensors), slug


def test_whose_training_a_method_uses():
    experts = {slug: method(slug).expert for slug in METHODS}
    assert experts["base"] == "none"
    assert (experts["math-only"], experts["language-only"]) == ("math", "language")
    assert {experts[slug] for slug in ("soup", "task-arithmetic", "layer-swapping")} == {"both"}
    assert [slug for slug in METHODS if method(slug).uses_partition] == ["layer-swapping"]


def test_an_unknown_method_is_refused():
    with pytest.raises(RequestError, match="No method 'ties': choose one of base, math-only"):
        method("ties")


# --- adapters --------------------------------------------------------------------------------------------


def adapter(base, folder, **settings):
    """Save an adapter with random factors; return the update that PEFT itself merges into the base."""
    before = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    settings = {"r": 4, "lora_alpha": 10, "target_modules": list(PROJECTIONS), **settings}
    torch.manual_seed(5)
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
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "bias"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed"),
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


# --- applied ---------------------------------------------------------------------------------------------


@pytest.fixture
def model(miniature):
    return load_base(miniature("gemma3")).model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def random_update(model, seed=0):
    torch.manual_seed(seed)
    return {
        name: torch.randn_like(p) for name, p in model.named_parameters() if "_proj" in name or "embed_tokens" in name
    }


def test_applied_adds_and_takes_away(model):
    before, update = state(model), random_update(model)
    with applied(model, TaskVector.of(update)) as changed:
        assert changed is model
        for name, p in model.named_parameters():
            expected = before[name] + update[name] if name in update else before[name]
            assert torch.equal(p, expected), name
    assert unchanged(model, before)


def test_applied_takes_away_after_an_exception(model):
    before = state(model)
    with pytest.raises(KeyboardInterrupt), applied(model, TaskVector.of(random_update(model))):
        raise KeyboardInterrupt
    assert unchanged(model, before)


def test_applied_takes_away_when_an_update_cannot_be_computed(model):
    def fail():
        raise MemoryError

    before, update = state(model), random_update(model)
    thunks = {name: lambda t=tensor: t for name, tensor in update.items()}
    thunks[list(thunks)[-1]] = fail
    with pytest.raises(MemoryError), applied(model, TaskVector(thunks)):
        pass
    assert unchanged(model, before)


def test_applied_refuses_foreign_names_before_anything_changes(model):
    before = state(model)
    looked = []
    thunks = {name: lambda n=name: looked.append(n) for name in random_update(model)}
    thunks["model.layers.99.mlp.up_proj.weight"] = lambda: looked.append("foreign")
    with (
        pytest.raises(RequestError, match=r"no parameter 'model.layers.99.mlp.up_proj.weight' \(1 such\)"),
        applied(model, TaskVector(thunks)),
    ):
        pass
    assert looked == []
    assert unchanged(model, before)


@pytest.mark.parametrize("shape", [(7, 5), (1, 32)])
def test_applied_refuses_updates_of_another_shape(model, shape):
    name = "model.layers.0.self_attn.q_proj.weight"
    before = state(model)
    with (
        pytest.raises(RequestError, match=name),
        applied(model, TaskVector.of({name: torch.ones(shape)})),
    ):
        pass
    assert unchanged(model, before)


def test_applied_sums_in_float32_and_keeps_the_model_s_dtype(model):
    model.bfloat16()
    before, update = state(model), random_update(model)
    with applied(model, TaskVector.of(update)):
        for name, tensor in update.items():
            p = model.get_parameter(name)
            assert p.dtype == torch.bfloat16
            assert torch.equal(p, (before[name].float() + tensor.float()).bfloat16())
    assert unchanged(model, before)
