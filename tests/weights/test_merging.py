"""Task vectors, merges and methods: the algebra, on random task vectors and on a miniature."""

import shutil
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from experts import lora
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from xlnb.checkpoints import streaming, verbs
from xlnb.errors import RequestError
from xlnb.methods import METHODS
from xlnb.models import miniatures
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES
from xlnb.weights import kernels
from xlnb.weights.kernels import (
    MERGES,
    Merge,
    dare_generator,
    dropped,
    kth_magnitude,
    kth_magnitude_streamed,
    slerp_weights,
    trim,
    trim_count,
)
from xlnb.weights.merging import applied, dare, layer_swapping, merged, slerp, soup, task_arithmetic, ties
from xlnb.weights.partitions import Partition, named_partition, outer_layers, partition_c, uniform
from xlnb.weights.task_vectors import TaskVector

DEPTH = 8
SHAPES = {"self_attn.q_proj": (3, 4), "mlp.down_proj": (4, 2)}
OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def names(depth=DEPTH):
    return [f"model.layers.{layer}.{module}.weight" for layer in range(depth) for module in SHAPES]


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SHAPES[name[15:-7]], generator=generator) for name in names()}


def with_embeddings(seed):
    generator = torch.Generator().manual_seed(seed + 1)
    return random_tensors(seed) | {name: torch.randn(2, 3, generator=generator) for name in OUTSIDE}


def layer(name):
    return int(name.split(".")[2])


def share_of(partition, name):
    return (partition.ffn if ".mlp." in name else partition.attention)[layer(name)]


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
rows = st.lists(shares, min_size=DEPTH, max_size=DEPTH).map(tuple)
partitions = st.builds(Partition, st.just("some"), rows, st.one_of(st.just(()), rows))  # by layer and by block
embeddings = st.sampled_from(["base", "math", "language"])
quick = settings(max_examples=40, deadline=None)


# --- merges ----------------------------------------------------------------------------------------------


@given(seeds, seeds, partitions)
@quick
def test_a_swap_is_each_side_on_the_share_it_owns(a, b, partition):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    swapped = layer_swapping(TaskVector.of(m), TaskVector.of(l), partition)
    share = {name: share_of(partition, name) for name in m}
    assert close(swapped, {name: share[name] * m[name] + (1 - share[name]) * l[name] for name in m})


@given(seeds, seeds, partitions, embeddings)
@quick
def test_a_swap_is_the_sum_of_two_reverts(a, b, partition, whose):
    m, l = TaskVector.of(with_embeddings(a)), TaskVector.of(with_embeddings(b))  # noqa: E741
    swapped = layer_swapping(m, l, partition, whose)
    math, language = m.mask(partition, "math", whose), l.mask(partition, "language", whose)
    assert set(swapped) == set(math) | set(language)
    for name in with_embeddings(0):
        parts = [side[name] for side in (math, language) if name in side]
        assert torch.equal(swapped[name] if name in swapped else torch.zeros(1), sum(parts, torch.zeros(1)))


@given(seeds, seeds, partitions, embeddings)
@quick
def test_what_lies_outside_the_layers_is_whose_it_is_said(a, b, partition, whose):
    m, l = with_embeddings(a), with_embeddings(b)  # noqa: E741
    swapped = layer_swapping(TaskVector.of(m), TaskVector.of(l), partition, whose)
    outside = {name: swapped[name] for name in OUTSIDE if name in swapped}
    given_by = {"base": {}, "math": m, "language": l}[whose]
    assert set(outside) == (set() if whose == "base" else set(OUTSIDE))
    assert all(torch.equal(tensor, given_by[name]) for name, tensor in outside.items())


@pytest.mark.parametrize("word", ["", "both", "Math", None])
def test_embeddings_of_nobody_are_refused(word):
    words = "embeddings=None .* it takes a text" if word is None else "say 'base', 'math' or 'language'"
    with pytest.raises(RequestError, match=words):
        layer_swapping(TaskVector.of({}), TaskVector.of({}), partition_c(DEPTH), word)


@given(seeds, seeds)
@quick
def test_partition_a_is_the_language_s_attention_and_the_math_s_ffn(a, b):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    swapped = layer_swapping(TaskVector.of(m), TaskVector.of(l), named_partition("A", DEPTH))
    assert same(swapped, {name: (m if ".mlp." in name else l)[name] for name in m})


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
        for merge in (task_arithmetic, ties, dare):
            with pytest.raises(RequestError, match="one weight for each"):
                merge(vectors, weights)


@pytest.mark.parametrize("slug", ["soup", "ties"])
@pytest.mark.parametrize("weight", [1e-7, -1e-46])
def test_weights_that_a_mean_cannot_be_divided_by_are_too_small(slug, weight):
    vectors = [TaskVector.of(random_tensors(seed)) for seed in range(2)]
    with pytest.raises(RequestError, match=f"A weight of {slug} is 0, or at least 1e-06 in size"):
        merged(slug, vectors, weights=[weight, weight])
    assert all(update.isfinite().all() for update in merged(slug, vectors, weights=[1e-6, 0]).values())


def test_a_weight_that_is_too_large_is_told_the_bound():
    with pytest.raises(RequestError, match=r"between -1e\+06 and 1e\+06, not one of \[1000000"):
        task_arithmetic([TaskVector.of(random_tensors(0))], [1e6])


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


def of_depth(depth=DEPTH):
    tensors = random_tensors(0)
    return TaskVector({name: tensors[name].clone for name in tensors}, depth=depth)


@pytest.mark.parametrize(
    "kept",
    [
        lambda vector: vector,
        lambda vector: 2 * vector,
        lambda vector: vector + TaskVector.of(random_tensors(1)),
        lambda vector: TaskVector.of(random_tensors(1)) + vector,
        lambda vector: vector.at(block="ffn"),
        lambda vector: vector.mask(partition_c(DEPTH), "math"),
        lambda vector: soup([TaskVector.of(random_tensors(1)), vector]),
    ],
    ids=["itself", "times", "plus", "added", "at", "mask", "merged"],
)
def test_a_partition_of_a_deeper_model_is_refused_where_the_depth_is_known(kept):
    with pytest.raises(RequestError, match="Partition C is of 32 layers, but the model has 8"):
        kept(of_depth()).mask(named_partition("C", 32), "math")
    assert kept(of_depth(None)).mask(named_partition("C", 32), "math").depth is None


def test_a_task_vector_knows_its_model_s_depth(miniature, tmp_path):
    base = miniature("llama")
    full, adapter = miniatures.miniature(tmp_path / "full", "llama", seed=1), lora(base, tmp_path / "adapter")
    assert [TaskVector.of_expert(folder, base).depth for folder in (full, adapter)] == [DEPTH, DEPTH]
    assert TaskVector.of_expert(adapter).depth is None


def test_norm_and_cosine():
    m, l = random_tensors(1), random_tensors(2)  # noqa: E741
    flat = [torch.cat([t.flatten() for t in tensors.values()]).double() for tensors in (m, l)]
    vectors = [TaskVector.of(m), TaskVector.of(l)]
    assert vectors[0].norm() == pytest.approx(flat[0].norm().item())
    assert vectors[0].cosine(vectors[1]) == pytest.approx(torch.cosine_similarity(*flat, dim=0).item())
    assert vectors[0].cosine(-2 * vectors[0]) == pytest.approx(-1)
    assert vectors[0].cosine(TaskVector({})) == 0


# --- TIES ------------------------------------------------------------------------------------------------


def trimmed(delta, density):
    """What TIES leaves of one update."""
    return ties([TaskVector.of({NAME: delta})], density=density)[NAME]


# Small whole numbers make every sum exact, and equal magnitudes and elections that end in a tie frequent.
NAME = "model.layers.0.mlp.up_proj.weight"
weighings = st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0])
densities = st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.5, 0.75, 0.99, 1.0])


@st.composite
def votes(draw):
    n, experts = draw(st.integers(1, 15)), draw(st.integers(1, 4))
    value = st.integers(-3, 3).map(float)
    deltas = [draw(st.lists(value, min_size=n, max_size=n)) for _ in range(experts)]
    return deltas, draw(st.lists(weighings, min_size=experts, max_size=experts))


def largest(values, k):
    """The k largest by magnitude, one element after the other; of equal magnitudes the first ones are kept."""
    kept = [0.0] * len(values)
    for i in sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:k]:
        kept[i] = values[i]
    return kept


def kept_by_trimming(values, density):
    """The paper's top-k%."""
    return largest(values, max(1, int(Fraction(str(density)) * len(values))))


def ties_of_the_paper(deltas, weights, density):
    """Trim, elect the sign of the larger total mass (positive where both are equal), and average those that agree."""
    columns = zip(*(kept_by_trimming(values, density) for values in deltas), strict=True)
    merged = []
    for column in columns:
        mass = {sign: sum(w * abs(v) for v, w in zip(column, weights, strict=True) if v * sign > 0) for sign in (1, -1)}
        sign = 1 if mass[1] >= mass[-1] else -1
        agreeing = [w for v, w in zip(column, weights, strict=True) if v * sign > 0]
        merged.append(sign * mass[sign] / sum(agreeing) if agreeing else 0.0)
    return merged


@given(votes(), densities)
@settings(quick, max_examples=50)
def test_ties_is_that_of_the_paper(vote, density):
    deltas, weights = vote
    vectors = [TaskVector.of({NAME: torch.tensor(values)}) for values in deltas]
    expected = ties_of_the_paper(deltas, weights, density)
    assert ties(vectors, weights, density)[NAME].tolist() == pytest.approx(expected, abs=1e-6)


@given(votes(), densities)
@settings(quick, max_examples=15)
def test_the_weights_of_ties_are_1_where_none_are_given(vote, density):
    vectors = [TaskVector.of({NAME: torch.tensor(values)}) for values in vote[0]]
    expected = ties_of_the_paper(vote[0], [1] * len(vectors), density)
    assert ties(vectors, density=density)[NAME].tolist() == pytest.approx(expected, abs=1e-6)


def test_ties_on_an_example_by_hand():
    vectors = [TaskVector.of({NAME: torch.tensor(row)}) for row in
               ([3.0, 1.0, -2.0, 4.0], [-1.0, 5.0, -4.0, 2.0], [-1.0, 0.0, 1.0, 6.0])]  # fmt: skip
    merged = ties(vectors, density=0.5)[NAME]  # kept: (3, ., ., 4), (., 5, -4, .), (-1, ., ., 6)
    assert merged.tolist() == [3.0, 5.0, -4.0, 5.0]
    weighted = ties(vectors, [1, 1, 4], density=0.5)[NAME]
    assert weighted.tolist() == [-1.0, 5.0, -4.0, pytest.approx((4 + 4 * 6) / 5)]


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30), densities)
@settings(quick, max_examples=60)
def test_trimming_keeps_the_largest(values, density):
    assert trimmed(torch.tensor(values), density).tolist() == kept_by_trimming(values, density)


@pytest.mark.parametrize(
    ("density", "n", "k"), [(0.2, 7, 1), (0.2, 10, 2), (0.01, 7, 1), (0.99, 7, 6), (1, 7, 7), (0.5, 1, 1), (1, 0, 0)]
)  # fmt: skip
def test_how_many_a_trim_keeps(density, n, k):
    assert trim_count(density, n) == k
    delta = torch.arange(1.0, n + 1)
    assert trimmed(delta, density).count_nonzero() == k


def test_each_tensor_is_trimmed_for_itself():
    large, small = torch.full((4,), 100.0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    merged = ties([TaskVector.of({names()[0]: large, names()[1]: small})], density=0.5)
    assert merged[names()[0]].tolist() == [100, 100, 0, 0]
    assert merged[names()[1]].tolist() == [0, 0, 3, 4]


@given(st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=4, max_size=4), weighings)
@settings(quick, max_examples=15)
def test_ties_is_a_mean(values, weight):
    one, other = (TaskVector.of({NAME: torch.tensor(half)}) for half in (values[:2], values[2:]))
    assert torch.allclose(ties([one], [weight], density=1)[NAME], one[NAME])
    both = ties([one, other], [weight, weight], density=1)[NAME]  # so that a factor in all weights does not count
    assert torch.allclose(both, ties([one, other], density=1)[NAME])


# --- the k-th magnitude ----------------------------------------------------------------------------------

floats = st.one_of(
    st.floats(width=32, allow_nan=False),  # with subnormals and infinities
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, np.inf, -np.inf]),
    st.integers(-2, 2).map(float),
)


def by_sorting(values, k):
    ordered = -np.sort(-np.abs(values))
    equal, kept = (int((some == ordered[k - 1]).sum()) for some in (ordered, ordered[:k]))
    return float(ordered[k - 1]), None if kept == equal else kept


@given(st.lists(floats, min_size=1, max_size=60), st.data())
@settings(quick, max_examples=60)
def test_the_kth_magnitude_is_that_of_sorting(values, data):
    values = np.array(values, dtype=np.float32)
    k = data.draw(st.integers(1, len(values)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    chunks = [torch.from_numpy(values[a:b].copy()) for a, b in pairwise([0, *cuts, len(values)])]
    assert kth_magnitude(np.abs(values).ravel(), k) == by_sorting(values, k)
    assert kth_magnitude_streamed(lambda: chunks, k) == by_sorting(values, k)


@pytest.mark.parametrize("scale", [1.0, 1e-40, 1e30])
def test_the_kth_magnitude_of_many(scale):
    values = (np.random.default_rng(3).standard_normal(100_000) * scale).astype(np.float32)
    values[::7] = values[0]
    tensor = torch.from_numpy(values).view(100, 1000)
    for k in (1, 2, 5_000, 50_000, 99_999, 100_000):
        assert kth_magnitude(tensor.abs().flatten().numpy(), k) == by_sorting(values, k)
        assert kth_magnitude_streamed(lambda: (tensor[i : i + 9] for i in range(0, 100, 9)), k) == by_sorting(values, k)


@given(st.lists(floats, min_size=1, max_size=40), st.data())
@quick
def test_a_trim_chunk_by_chunk_is_that_of_the_whole(values, data):
    delta = torch.tensor(values)
    k = data.draw(st.integers(1, len(values)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    chunks = (delta[a:b] for a, b in pairwise([0, *cuts, len(values)]))
    kept = trim(chunks, *kth_magnitude(delta.abs().flatten().numpy(), k))
    assert torch.cat(list(kept)).tolist() == largest(delta.tolist(), k)
    assert delta.tolist() == torch.tensor(values).tolist()  # the update itself stays as it is


# --- DARE ------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([0.1, 0.3, 0.5, 0.9]), seeds)
@quick
def test_dare_keeps_some_elements_rescaled_and_drops_the_others(a, density, seed):
    m = random_tensors(a)
    merged = dare([TaskVector.of(m)], density=density, seed=seed)
    kept = {name: merged[name] != 0 for name in m}
    for name, delta in m.items():
        assert torch.equal(merged[name], torch.where(kept[name], delta / density, torch.zeros(())))
    assert same(dare([TaskVector.of(m)], density=density, seed=seed), {name: merged[name] for name in m})
    other = dare([TaskVector.of(m)], density=density, seed=seed + 1)
    assert any(not torch.equal(other[name], merged[name]) for name in m)  # 160 elements


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_is_right_on_average(density):
    n = 400_000
    merged = dare([TaskVector.of({NAME: torch.ones(n)})], density=density, seed=3)[NAME]
    deviation = ((1 - density) / density / n) ** 0.5
    assert abs(float(merged.mean()) - 1) < 4 * deviation
    assert float(merged.var()) == pytest.approx((1 - density) / density, rel=0.05)
    assert abs(float((merged[1:] * merged[:-1]).mean()) - 1) < 8 * deviation / density  # neighbours are independent


def test_full_density_drops_nothing():
    m = random_tensors(1)
    assert same(dare([TaskVector.of(m)], density=1), m)


def test_each_expert_and_each_tensor_drops_its_own():
    ones = {name: torch.ones(20, 20) for name in names()[:2]}
    single = [dare([TaskVector.of(ones)] * 2, weights, density=0.5) for weights in ([1, 0], [0, 1])]
    first, second = (merged[names()[0]] for merged in single)
    assert not torch.equal(first, second)
    assert not torch.equal(first, single[0][names()[1]])


@given(seeds, seeds, seeds)
@quick
def test_an_expert_drops_the_same_whatever_else_is_merged(a, b, seed):
    m, l = random_tensors(a), random_tensors(b)  # noqa: E741
    options = {"density": 0.3, "seed": seed}
    alone = dare([TaskVector.of(m)], **options)
    with_another = dare([TaskVector.of(m), TaskVector.of(l)], [1, 0], **options)
    one_name = dare([TaskVector.of({names()[3]: m[names()[3]]})], **options)
    assert same(with_another, dict(alone))
    assert torch.equal(one_name[names()[3]], alone[names()[3]])
    both = dare([TaskVector.of(m), TaskVector.of(l)], [2, -0.5], **options)
    other = dare([TaskVector.of(m), TaskVector.of(l)], [0, 1], **options)
    assert close(both, {name: 2 * alone[name] - 0.5 * other[name] for name in m})


@given(st.integers(1, 200), st.lists(st.integers(0, 200), max_size=5), seeds)
@quick
def test_dropping_chunk_by_chunk_is_dropping_the_whole(n, cuts, seed):
    delta = torch.arange(1.0, n + 1)
    whole = dropped(delta, 0.4, dare_generator(seed, 1, NAME))
    generator = dare_generator(seed, 1, NAME)
    edges = sorted([0, n, *(min(cut, n) for cut in cuts)])
    assert torch.equal(torch.cat([dropped(delta[a:b], 0.4, generator) for a, b in pairwise(edges)]), whole)


# --- SLERP -----------------------------------------------------------------------------------------------


def slerp_in_numpy(a, b, t):
    a, b = a.double().numpy(), b.double().numpy()
    cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    angle = np.arctan2(np.sqrt(max(0.0, 1 - cosine**2)), cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


@given(seeds, seeds, seeds, st.floats(0, 1))
@quick
def test_slerp_is_that_of_numpy(a, b, c, t):
    base, m, l = random_tensors(c), random_tensors(a + 1), random_tensors(b + 2**33)  # noqa: E741
    merged = slerp(TaskVector.of(m), TaskVector.of(l), base, t)
    for name, origin in base.items():
        expected = slerp_in_numpy(origin + m[name], origin + l[name], t)
        assert np.allclose((origin + merged[name]).numpy(), expected, atol=1e-5)


@given(seeds, seeds)
@quick
def test_slerp_ends_at_the_experts(a, b):
    base, m, l = random_tensors(7), random_tensors(a), random_tensors(b)  # noqa: E741
    for t, expert in ((0, m), (1, l)):
        merged = slerp(TaskVector.of(m), TaskVector.of(l), base, t)
        assert all(torch.equal(base[n] + merged[n], base[n] + (base[n] + expert[n] - base[n])) for n in base)


def test_slerp_stays_on_the_sphere():
    base = {NAME: torch.zeros(2)}
    corner = [TaskVector.of({NAME: torch.tensor(row)}) for row in ([2.0, 0.0], [0.0, 2.0])]
    for t in (0.1, 0.5, 0.8):
        merged = slerp(*corner, base, t)[NAME]
        assert merged.tolist() == pytest.approx([2 * np.cos(t * np.pi / 2), 2 * np.sin(t * np.pi / 2)], abs=1e-6)


def test_slerp_of_experts_that_point_the_same_way_is_linear():
    base = {name: 100 * tensor for name, tensor in random_tensors(3).items()}
    m, l = random_tensors(1), random_tensors(2)  # noqa: E741
    merged = slerp(TaskVector.of(m), TaskVector.of(l), base, 0.3)
    for name in base:
        assert torch.allclose(merged[name], 0.7 * m[name] + 0.3 * l[name], atol=1e-4)


@pytest.mark.parametrize(
    ("dot", "first", "second"),
    [(0, 0, 0), (0, 0, 2), (0, 2, 0), (6, 2, 3), (-6, 2, 3), (5.9999, 2, 3), (6.0000001, 2, 3)],
)
def test_slerp_of_zeros_and_of_one_direction_is_linear(dot, first, second):
    assert slerp_weights(dot, first, second, 0.25) == (0.75, 0.25)


def test_slerp_of_a_zero_tensor():
    zeros, ones = TaskVector.of({NAME: torch.zeros(3)}), TaskVector.of({NAME: torch.ones(3)})
    assert slerp(zeros, ones, {NAME: torch.zeros(3)}, 0.25)[NAME].tolist() == [0.25] * 3
    assert slerp(zeros, zeros, {NAME: torch.zeros(3)}, 0.25)[NAME].tolist() == [0] * 3


# --- what merges of several kinds share ------------------------------------------------------------------

MERGES_IN_MEMORY = {
    "soup": soup,
    "arithmetic": lambda vectors: task_arithmetic(vectors, [2, -1]),
    "swap": lambda vectors: layer_swapping(*vectors, named_partition("outer 2+1, 1 transition", DEPTH)),
    "ties": ties,
    "dare": dare,
    "slerp": lambda vectors, **kw: slerp(*vectors, {name: torch.ones(SHAPES[name[15:-7]]) for name in names()}, **kw),
}


@pytest.mark.parametrize("kind", MERGES_IN_MEMORY)
def test_what_an_expert_lacks_it_did_not_change(kind):
    m, l = random_tensors(1), random_tensors(2)  # noqa: E741
    part = dict(list(m.items())[:5])
    filled = {name: part.get(name, torch.zeros_like(m[name])) for name in m}
    merged = MERGES_IN_MEMORY[kind]([TaskVector.of(part), TaskVector.of(l)])
    expected = MERGES_IN_MEMORY[kind]([TaskVector.of(filled), TaskVector.of(l)])
    assert same(merged, dict(expected))


@pytest.mark.parametrize("kind", MERGES_IN_MEMORY)
def test_a_tensor_is_computed_when_it_is_asked_for(kind):
    asked = []

    def compute(name):
        asked.append(name)
        return torch.ones(SHAPES[name[15:-7]])

    vector = TaskVector({name: partial(compute, name) for name in names()})
    merged = MERGES_IN_MEMORY[kind]([vector, vector])
    assert asked == []
    assert merged[names()[4]].shape == SHAPES[names()[4][15:-7]]
    assert set(asked) == {names()[4]}


@pytest.mark.parametrize("merge", [ties, dare])
@pytest.mark.parametrize("density", [0, -0.1, 1.5, float("nan"), float("inf")])
def test_densities_outside_0_to_1_are_refused(merge, density):
    with pytest.raises(RequestError, match="larger than 0 and at most 1"):
        merge([TaskVector.of(random_tensors(0))], density=density)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_a_t_outside_0_to_1_is_refused(t):
    vector = TaskVector.of(random_tensors(0))
    with pytest.raises(RequestError, match="between 0"):
        slerp(vector, vector, random_tensors(1), t)


def test_slerp_needs_the_base_of_every_parameter():
    vector, base = TaskVector.of(random_tensors(0)), random_tensors(1)
    del base[names()[2]]
    with pytest.raises(RequestError, match=f"no parameter '{names()[2]}'"):
        slerp(vector, vector, base)


# --- one more merge, and other devices -------------------------------------------------------------------


def test_a_merge_is_one_function_and_one_row(miniature, tmp_path, monkeypatch):
    def loudest(tensor, options):
        """Take each element from the expert who changed it most, times a density."""
        for one, other in tensor:
            yield options.density * torch.where(one.abs() > other.abs(), one, other)

    row = Merge("loudest", "Loudest", loudest, updates=True, weights=False, pair=True, density=0.5)
    monkeypatch.setitem(MERGES, "loudest", row)
    base, folders = miniature("llama"), []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        tensors = load_file(base / "model.safetensors")
        shutil.copytree(base, folder := tmp_path / str(seed))
        noisy = {name: t + 0.01 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
        save_file(noisy, folder / "model.safetensors")
        folders.append(folder)
    vectors = [TaskVector.from_checkpoint(folder, base) for folder in folders]
    monkeypatch.setattr(streaming, "_CHUNK", 100)
    for density, given_density in ((0.5, {}), (0.25, {"density": 0.25})):
        in_memory = merged("loudest", vectors, **given_density)
        out = verbs.merge("loudest", tmp_path / str(density), experts=folders, base=base, **given_density).out
        for name, tensor in load_file(out / "model.safetensors").items():
            one, other = (vector[name] for vector in vectors)
            assert torch.equal(
                in_memory[name], density * torch.maximum(one.abs(), other.abs()) * in_memory[name].sign()
            )
            assert torch.equal(tensor, tensors[name] + in_memory[name])
    for wrong, words in (({"weights": [1, 1]}, "loudest takes no weights"), ({"density": 2}, "density=2")):
        with pytest.raises(RequestError, match=words):
            merged("loudest", vectors, **wrong)
        with pytest.raises(RequestError, match=words):
            verbs.merge("loudest", tmp_path / "wrong", experts=folders, base=base, **wrong)
    with pytest.raises(RequestError, match="Loudest goes between two experts, not 1"):
        merged("loudest", vectors[:1])


class EveryFactorySaysItsDevice(TorchFunctionMode):
    """Fails where a tensor is made without saying on which device."""

    factories = frozenset({torch.tensor, torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.rand})

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert function not in self.factories or kwargs.get("device") is not None, function
        return function(*args, **kwargs)


@pytest.mark.parametrize("held", [1 << 24, 0])  # 0: thresholds are found as they are on a GPU
@pytest.mark.parametrize("kind", MERGES_IN_MEMORY)
def test_no_tensor_is_made_on_a_device_by_accident(monkeypatch, kind, held):
    monkeypatch.setattr(kernels, "HELD", held)
    monkeypatch.delattr(kernels._mine, "scratch", raising=False)
    result = MERGES_IN_MEMORY[kind]([TaskVector.of(random_tensors(seed)) for seed in (1, 2)])
    with EveryFactorySaysItsDevice():
        assert len([result[name] for name in names()]) == len(names())
        with pytest.raises(AssertionError, match="zeros"):
            torch.zeros(3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", MERGES_IN_MEMORY)
def test_a_merge_works_where_the_tensors_lie(kind):
    tensors = [random_tensors(seed) for seed in (1, 2)]
    on_cpu = MERGES_IN_MEMORY[kind]([TaskVector.of(one) for one in tensors])
    on_gpu = MERGES_IN_MEMORY[kind]([TaskVector.of({n: t.cuda() for n, t in one.items()}) for one in tensors])
    for name in names():
        assert on_gpu[name].device.type == "cuda"
        assert torch.allclose(on_gpu[name].cpu(), on_cpu[name], atol=1e-6)
        assert torch.equal(on_gpu[name].cpu() == 0, on_cpu[name] == 0)  # the same elements are dropped and trimmed


# --- task vectors ----------------------------------------------------------------------------------------


@given(seeds)
@quick
def test_sites_share_out_the_whole_update(a):
    vector = TaskVector.of(with_embeddings(a))
    layers = [vector.at(layer=i) for i in range(DEPTH)] + [vector.at(block=b) for b in ("embedding", "head")]
    layers.append(vector.at(block="norm"))
    blocks = [vector.at(block=b) for b in ("attention", "ffn", "norm", "embedding", "head")]
    projections = [vector.at(projection=p) for p in ("q", "down", "embed", "final", "head")]
    for parts in (layers, blocks, projections):
        assert sorted(name for part in parts for name in part) == sorted(vector)
        assert sum(part.norm() ** 2 for part in parts) == pytest.approx(vector.norm() ** 2)
    assert list(vector.at(layer=3, block="ffn", projection="down")) == ["model.layers.3.mlp.down_proj.weight"]
    assert list(vector.at(layer=3, block="ffn", projection="up")) == list(vector.at(layer=DEPTH)) == []
    assert same(vector.at(), with_embeddings(a))


@pytest.mark.parametrize("family", MINIATURES)
def test_the_base_and_the_task_vector_make_the_expert(miniature, tmp_path, family):
    base, expert = miniature(family), miniatures.miniature(tmp_path / "expert", family, seed=1)
    vector = TaskVector.from_checkpoint(expert, base)
    before, after = load_base(base).model, load_base(expert).model
    wanted = dict(after.named_parameters())
    assert set(vector) == set(wanted)
    assert vector.norm() > 1
    assert all(vector[name].dtype == torch.float32 for name in vector)
    with applied(before, vector):
        for name, p in before.named_parameters():
            assert torch.allclose(p, wanted[name], atol=1e-6), name
    assert TaskVector.from_checkpoint(base, base).norm() == 0


def checkpoint(folder, tensors):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.bfloat16)])
def test_checkpoints_in_other_precisions_are_subtracted_in_float32(tmp_path, dtypes):
    expert, base = (
        {name: tensor.to(dtype) for name, tensor in random_tensors(seed).items()} for seed, dtype in enumerate(dtypes)
    )
    counter = {"counter": torch.tensor([7])}
    vector = TaskVector.from_checkpoint(
        checkpoint(tmp_path / "expert", expert | counter), checkpoint(tmp_path / "base", base | counter)
    )
    assert set(vector) == set(expert)  # whole numbers are no parameters
    assert same(vector, {name: expert[name].float() - base[name].float() for name in expert})


def test_checkpoints_of_other_architectures_are_refused(miniature, tmp_path):
    with pytest.raises(
        RequestError, match=r"not of the same architecture: 'model.layers.0.self_attn.k_proj.bias' .*\(24 such"
    ):
        TaskVector.from_checkpoint(miniature("llama"), miniature("qwen2"))
    with pytest.raises(RequestError, match=r"k_proj.bias' is missing in one .*\(24 such"):
        TaskVector.from_checkpoint(miniature("qwen2"), miniature("llama"))
    wider = random_tensors(1) | {names()[3]: torch.ones(2, 4)}
    one, other = checkpoint(tmp_path / "one", random_tensors(1)), checkpoint(tmp_path / "other", wider)
    with pytest.raises(RequestError, match=rf"'{names()[3]}' is missing in one or has another shape \(1 such"):
        TaskVector.from_checkpoint(one, other)


def test_frozen_embeddings_are_no_part_of_a_full_expert_s_update(miniature, tmp_path):
    for family, outside in (
        ("qwen2", {"model.embed_tokens.weight", "lm_head.weight"}),
        ("gemma3", {"model.embed_tokens.weight"}),
    ):
        base = miniature(family)
        before = load_file(base / "model.safetensors")
        outside &= before.keys()
        trained = {name: t + 0.01 * (name not in outside) for name, t in before.items()}
        shutil.copytree(base, folder := tmp_path / family)
        save_file(trained, folder / "model.safetensors", {"format": "pt"})
        vector = TaskVector.from_checkpoint(folder, base)
        assert set(vector) == before.keys() - outside
        assert not [site for site in vector.sites.values() if site.block in ("embedding", "head")]
        one_bit = trained | {"model.embed_tokens.weight": trained["model.embed_tokens.weight"].clone()}
        one_bit["model.embed_tokens.weight"].view(-1)[-1:].view(torch.int32)[0] ^= 1
        save_file(one_bit, folder / "model.safetensors", {"format": "pt"})
        assert "model.embed_tokens.weight" in TaskVector.from_checkpoint(folder, base)


def test_bytes_are_compared_not_numbers(tmp_path):
    name = "model.embed_tokens.weight"
    base = checkpoint(tmp_path / "base", {name: torch.zeros(2, 3)})
    minus = checkpoint(tmp_path / "minus", {name: -torch.zeros(2, 3)})
    half = checkpoint(tmp_path / "half", {name: torch.zeros(2, 3, dtype=torch.float16)})
    assert [len(TaskVector.from_checkpoint(folder, base)) for folder in (base, minus, half)] == [0, 1, 1]


def test_an_expert_is_an_adapter_or_a_checkpoint(miniature, tmp_path):
    base, full = miniature("llama"), miniatures.miniature(tmp_path / "full", "llama", seed=1)
    adapter = lora(base, tmp_path / "adapter")
    for given_base in (base, None):
        assert same(TaskVector.of_expert(adapter, given_base), dict(TaskVector.from_adapter(adapter)))
    vector = TaskVector.from_checkpoint(full, base)
    assert set(vector) == set(TaskVector.of_expert(full, base))
    assert same(TaskVector.of_expert(full, base), dict(vector))
    with pytest.raises(RequestError, match="full is a full checkpoint: say which base"):
        TaskVector.of_expert(full)
    with pytest.raises(RequestError, match="There is no folder"):
        TaskVector.of_expert(tmp_path / "nowhere", base)


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
        chosen = METHODS[slug]
        given_vectors = {expert: vectors[expert] for expert in chosen.experts}  # what it says it needs suffices
        others = {"M": partition_c(DEPTH)} if "M" in chosen.needs else {}
        assert close(chosen.merged(given_vectors, **others), tensors), slug


def test_whose_training_a_method_uses():
    experts = {slug: chosen.expert for slug, chosen in METHODS.items()}
    assert experts["base"] == "none"
    assert (experts["math-only"], experts["language-only"]) == ("math", "language")
    assert {experts[slug] for slug in ("soup", "task-arithmetic", "layer-swapping")} == {"both"}
    assert {slug for slug, chosen in METHODS.items() if chosen.uses_partition} == {
        "layer-swapping", "train-then-revert", "freeze-then-train", "frozen-experts", "frozen-math", "frozen-language",
        "simultaneous",
    }  # fmt: skip


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


def test_applied_computes_each_update_once(model):
    asked, update = [], random_update(model)

    def compute(name):
        asked.append(name)
        return update[name]

    with applied(model, TaskVector({name: partial(compute, name) for name in update})):
        pass
    assert asked == list(update)


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
    first = "model.embed_tokens.weight"  # by then it is applied, and must be taken away again
    update = {first: torch.ones_like(before[first]), name: torch.ones(shape)}
    with pytest.raises(RequestError, match=name), applied(model, TaskVector.of(update)):
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


def test_what_was_located_by_structure_once_stays_located():
    blocks = ("attn.c_attn", "mlp.c_fc")
    tensors = {f"transformer.h.{i}.{block}.weight": torch.ones(2, 2) for i in range(4) for block in blocks}
    vector = TaskVector.of(tensors | {"transformer.wte.weight": torch.ones(2, 2)})
    kept = vector.mask(outer_layers(1, 1, 4), "language")  # the layers 0 and 3: by themselves these are no decoder
    assert set(kept) == {f"transformer.h.{i}.{block}.weight" for i in (0, 3) for block in blocks}
    assert set(kept.at(layer=3, block="ffn")) == {"transformer.h.3.mlp.c_fc.weight"}
    both = kept + vector.mask(outer_layers(1, 1, 4), "math")
    assert set((2 * both).mask(partition_c(4), "math")) == {
        f"transformer.h.{i}.{b}.weight" for i in (1, 2) for b in blocks
    }


@pytest.mark.parametrize("weights", [(0.3, -0.2, -0.1), (0.6, -0.5, -0.1), (1.0, -0.9, -0.1), (2.0, -1.0, -1.0)])
def test_weights_of_ties_that_cancel_are_not_divided_by(weights):
    """As floats the first three do not add up to 0: what rounding leaves is no divisor."""
    vectors = [TaskVector.of({NAME: torch.full((2, 2), value)}) for value in (1.0, -1.0, -1.0)]
    merged = ties(vectors, weights=weights, density=1.0)[NAME]
    assert merged.flatten().tolist() == pytest.approx([2 * weights[0]] * 4)  # the sum of those that agree


def test_ties_of_one_expert_is_its_trimmed_update():
    delta = torch.tensor([0.5, -2.0, 0.1, -0.3])
    merged = ties([TaskVector.of({"model.layers.0.mlp.up_proj.weight": delta})], density=0.5)
    assert merged["model.layers.0.mlp.up_proj.weight"].tolist() == [0.5, -2.0, 0.0, 0.0]
