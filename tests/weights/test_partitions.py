"""Partitions: who owns which layer, by name, by count and from files, and how many parameters that makes."""

import json
import shutil
from collections import Counter
from functools import partial

import numpy as np
import pytest
from experts import locate, lora, rewritten
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import xlnb
from xlnb.errors import RequestError
from xlnb.weights.partitions import (
    COMPLEMENT,
    NAMES,
    Choice,
    Partition,
    named_partition,
    outer_layers,
    owned,
    partition_c,
    read_partition,
    scaled_count,
    uniform,
)
from xlnb.weights.sites import Site, locate_all

partition_a, partition_b, predecessor, half_and_half = (
    partial(named_partition, name) for name in ("A", "B", "predecessor", "half and half")
)

DEPTH = 8
DEPTHS = (2, 4, 8, 16, 18, 24, 28, 30, 32, 36, 40, 48, 64, 80)
SIZES = {"self_attn.q_proj": 24, "self_attn.q_norm": 2, "mlp.up_proj": 70, "input_layernorm": 3,
         "post_attention_layernorm": 5, "pre_feedforward_layernorm": 7, "post_feedforward_layernorm": 11}  # fmt: skip
OUTSIDE = {"model.embed_tokens.weight": 1000, "model.norm.weight": 13, "lm_head.weight": 2000}
ATTENTION_SIZE, FFN_SIZE = 24 + 2 + 3 + 5, 70 + 7 + 11  # of a layer, with the norms that go with each

shares = st.one_of(st.sampled_from([0, 1, 0.0, 1.0, 0.5, 0.1, 1e-05, 5e-324]), st.floats(0, 1))
rows = st.integers(1, 12).flatmap(lambda depth: st.lists(shares, min_size=depth, max_size=depth))
names = st.one_of(
    st.sampled_from(["", "yes", "no", "null", "~", "1", "1e3", "2001-01-01", "a: b", "'", '"x"', "# no", "- a", "{a}", "ปุ่ม",
                     "a\nb", " x ", "&a", "*a", "!t", "%", "\u2028", "\x85", "\ufeff"]), st.text()
)  # fmt: skip


@st.composite
def partitions(draw, depth=None, values=shares):
    depth = depth or draw(st.integers(1, 12))
    row = st.lists(values, min_size=depth, max_size=depth).map(tuple)
    return Partition(draw(names), draw(row), draw(st.one_of(st.just(()), row)))


quick = settings(max_examples=40, deadline=None)


def sizes(depth=DEPTH):
    inside = {f"model.layers.{i}.{module}.weight": size for i in range(depth) for module, size in SIZES.items()}
    return inside | OUTSIDE


def counted(partition, depth=DEPTH):
    return owned(partition, locate_all(sizes(depth)), sizes(depth))


def totals(table):
    return {side: sum(row[side] for row in table.values()) for side in ("math", "language", "neither")}


# --- shares ----------------------------------------------------------------------------------------------


def test_shares_may_be_numbers_of_numpy():
    whole, real = Partition("made", np.array([0, 1, 1])), Partition("made", np.array([0, 0.5], dtype=np.float32))
    assert whole == Partition("made", (0, 1, 1)) and real.shares["ffn"] == [0.0, 0.5]


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf"), 5, True, "1", None, [0]])
def test_shares_that_are_no_numbers_from_0_to_1_are_refused(share):
    with pytest.raises(RequestError, match=r"between 0 \(language\) and 1 \(math\)"):
        Partition("wrong", (0.5, share))
    with pytest.raises(RequestError, match=r"between 0 \(language\) and 1 \(math\)"):
        Partition("wrong", (0.5, 0.5), (0.5, share))


def test_shares_are_plain_json_that_tells_all_blends_apart():
    partition = Partition("blend", (0, 0.25, 1), (1, 0.5, 0))
    assert json.dumps(partition.shares) == '{"attention": [0.0, 0.25, 1.0], "ffn": [1.0, 0.5, 0.0]}'
    assert Partition("again", **partition.shares).shares == partition.shares
    assert Partition("by layer", (0, 1)).shares == {"attention": [0.0, 1.0], "ffn": [0.0, 1.0]}


@pytest.mark.parametrize(("attention", "ffn"), [((), ()), ((1, 0), (1,)), ((), (1, 0))])
def test_rows_of_unequal_length_are_refused(attention, ffn):
    with pytest.raises(RequestError, match=f"{len(attention)} shares of attention and {len(ffn)} of FFN"):
        Partition("wrong", attention, ffn)


@pytest.mark.parametrize("name", list(OUTSIDE))
def test_what_lies_outside_the_layers_belongs_to_neither_side(name):
    with pytest.raises(RequestError, match="belongs to neither side"):
        partition_c(DEPTH).share(locate(name))


def test_a_layer_beyond_the_partition_is_refused():
    with pytest.raises(RequestError, match="has 8 layers, but layer 8 was asked for"):
        partition_c(8).share(Site(8, "ffn", "up"))


@pytest.mark.parametrize(
    ("module", "owner"),
    [
        ("self_attn.q_proj", "attention"),
        ("self_attn.k_norm", "attention"),
        ("input_layernorm", "attention"),
        ("post_attention_layernorm", "attention"),
        ("mlp.down_proj", "ffn"),
        ("pre_feedforward_layernorm", "ffn"),
        ("post_feedforward_layernorm", "ffn"),
    ],
)
def test_a_norm_goes_with_the_block_in_its_name(module, owner):
    partition = Partition("by block", (0.25, 0.5), (0.75, 1))
    expected = {"attention": (0.25, 0.5), "ffn": (0.75, 1)}[owner]
    assert tuple(partition.share(locate(f"model.layers.{i}.{module}.weight")) for i in (0, 1)) == expected


@pytest.mark.parametrize(
    ("norm", "share"), [("ln_attn", 0), ("ln_mlp", 1), ("post_self_attn_layernorm", 0), ("post_mlp_layernorm", 1), ("ln_1", 0),
                        ("ffn_norm", 1), ("feed_forward_norm", 1)]
)  # fmt: skip
def test_so_do_the_norms_of_other_decoders(norm, share):
    names = [f"h.{i}.{child}.weight" for i in range(2) for child in (norm, "attn.qkv", "mlp.fc")]
    sites = locate_all(names)
    assert sites.by == "structure"
    assert partition_a(2).share(sites.of[f"h.1.{norm}.weight"]) == share


@given(partitions(depth=DEPTH))
@quick
def test_the_complement_owns_the_rest(partition):
    other = partition.complement()
    for i in range(DEPTH):
        for site in (Site(i, "ffn", "up"), Site(i, "attention", "q")):
            assert partition.share(site) + other.share(site) == pytest.approx(1)


@given(partitions(depth=DEPTH))
@quick
def test_what_math_does_not_own_the_language_owns(partition):
    for site in (Site(3, "ffn", "up"), Site(3, "attention", "q")):
        math = partition.share(site)
        assert partition.share(site, "math") == math
        assert partition.share(site, "language") == 1 - math


def test_a_share_is_of_one_of_two_sides():
    with pytest.raises(RequestError, match="side='both': say 'math' or 'language'"):
        partition_c(8).share(Site(3, "ffn", "up"), "both")


@given(partitions(values=st.integers(0, 64).map(lambda n: n / 64)))
@quick
def test_the_complement_of_the_complement_is_the_same(partition):
    twice = partition.complement().complement()
    assert (twice.attention, twice.ffn) == (partition.attention, partition.ffn)
    assert twice.is_by_layer == partition.is_by_layer


def test_letters_show_the_shares():
    assert str(Partition("p", (0, 0.01, 0.99, 1))) == "p: LttM"
    assert str(Partition("p", (0, 1), (0.5, 1))) == "p: attention LM, FFN tM"


# --- the paper's and others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "bottom", "top"),
    [(4, 1, 1), (8, 2, 1), (18, 3, 1), (24, 5, 2), (28, 6, 2), (30, 6, 2), (32, 6, 2), (36, 7, 2), (64, 12, 4)],
)
def test_partition_c_by_depth(depth, bottom, top):
    assert (scaled_count(6, depth), scaled_count(2, depth)) == (bottom, top)
    expected = "L" * bottom + "M" * (depth - bottom - top) + "L" * top
    assert str(partition_c(depth)) == f"C: {expected}"


@pytest.mark.parametrize(
    ("depth", "bottom", "top"),
    [(4, 1, 1), (8, 2, 1), (18, 5, 2), (24, 6, 3), (28, 8, 4), (32, 8, 4), (40, 10, 5), (64, 16, 8)],
)
def test_partition_b_by_depth(depth, bottom, top):
    attention = "L" * bottom + "M" * (depth - bottom - top) + "L" * top
    assert str(partition_b(depth)) == f"B: attention {attention}, FFN {'M' * depth}"


@pytest.mark.parametrize(
    ("depth", "letters"),
    [
        (4, "LttL"),
        (8, "LtMMMMtL"),
        (16, "LLLtMMMMMMMMMMtL"),  # 2.5, 0.5 and 1 round up
        (32, "LLLLLt" + 23 * "M" + "tLL"),
        (64, 10 * "L" + "tt" + 46 * "M" + "tt" + "LLLL"),
    ],
)
def test_the_predecessor_by_depth(depth, letters):
    assert str(predecessor(depth)) == f"predecessor: {letters}"


@pytest.mark.parametrize("depth", DEPTHS)
def test_partition_a_is_attention_and_ffn(depth):
    assert str(partition_a(depth)) == f"A: attention {'L' * depth}, FFN {'M' * depth}"


@pytest.mark.parametrize(("depth", "letters"), [(1, "M"), (2, "LM"), (5, "LLMMM"), (8, "LLLLMMMM")])
def test_half_and_half(depth, letters):
    assert str(half_and_half(depth)) == f"half and half: {letters}"


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["A", "B", "C", "predecessor"])
def test_the_named_ones_stand_on_every_depth(name, depth):
    if (name, depth) == ("predecessor", 2):
        with pytest.raises(RequestError, match="with 1 transition layers a side do not fit into 2 layers"):
            named_partition(name, depth)
        return
    partition = named_partition(name, depth)
    assert (partition.name, partition.depth, len(partition.ffn)) == (name, depth, depth)
    assert set(partition.attention + partition.ffn) <= {0, 0.5, 1}
    assert partition.attention[0] == partition.attention[-1] == 0  # the outer layers' attention is the language's
    if depth > 4 and name != "A":
        assert partition.attention[depth // 2] == partition.ffn[depth // 2] == 1  # the middle is math's
    assert (partition.attention == partition.ffn) == partition.is_by_layer == (name in ("C", "predecessor"))


@pytest.mark.parametrize("name", ["B", "C"])
def test_one_layer_has_no_outer_layers(name):
    with pytest.raises(RequestError, match="at least 2 are needed"):
        named_partition(name, 1)


@given(st.integers(1, 400), st.integers(1, 8))
@quick
def test_scaled_counts_grow_with_the_depth_and_round_half_up(depth, count):
    scaled = scaled_count(count, depth)
    if 28 <= depth <= 32:
        assert scaled == count
    else:
        assert scaled == max(1, (2 * count * depth + 32) // 64)


@pytest.mark.parametrize(
    ("bottom", "top", "transition", "letters"),
    [
        (2, 1, 0, "LLMMMMML"),
        (2, 1, 1, "LLtMMMtL"),
        (0, 2, 2, "MMMMttLL"),
        (3, 0, 1, "LLLtMMMM"),
        (0, 0, 3, "MMMMMMMM"),
        (8, 0, 0, "LLLLLLLL"),
        (3, 3, 1, "LLLttLLL"),
    ],
)
def test_outer_layers(bottom, top, transition, letters):
    assert str(outer_layers(bottom, top, 8, "o", transition)) == f"o: {letters}"


@pytest.mark.parametrize(
    ("bottom", "top", "transition"), [(-1, 2, 0), (2, -1, 0), (5, 4, 0), (3, 3, 2), (8, 0, 1), (2, 2, -1), (0, 9, 0)]
)
def test_outer_layers_that_do_not_fit_are_refused(bottom, top, transition):
    with pytest.raises(RequestError, match="do not fit into 8 layers"):
        outer_layers(bottom, top, 8, transition=transition)


# --- names -----------------------------------------------------------------------------------------------

EVERY_NAME = (
    *("A", "B", "C", "predecessor", "half and half", "all math", "all language"),
    "outer 2+1",
    "outer 0+3",
    "outer 2+1, 1 transition",
    "complement of C",
    "complement of outer 2+1, 2 transition",
    "complement of complement of B",
    "random 0 of C",
    "random 123456789 of predecessor",
    "random 7 of complement of outer 1+1",
    "complement of random 3 of B",
)


def test_every_form_of_name_is_tried():
    forms = {"outer B+T", "outer B+T, N transition", "complement of NAME", "random SEED of NAME"}
    assert set(NAMES) - forms == set(EVERY_NAME[:7])
    assert set(NAMES) >= forms


@pytest.mark.parametrize("depth", [8, 18, 32])
@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_name_s_partition_has_that_name(name, depth):
    partition = named_partition(name, depth)
    assert partition.name == name
    assert partition.depth == depth
    assert named_partition(partition.name, depth) == partition


def test_names_mean_what_they_say():
    assert named_partition("C", 18) == partition_c(18)
    assert named_partition(COMPLEMENT, 18) == partition_c(18).complement()
    assert named_partition("random 3 of C", 18) == partition_c(18).shuffled(3)
    assert named_partition("outer 3+2, 1 transition", 18) == outer_layers(3, 2, 18, transition=1)
    assert str(named_partition("all math", 3)) == "all math: MMM"
    assert str(named_partition("all language", 3)) == "all language: LLL"
    assert str(named_partition("complement of A", 2)) == "complement of A: attention MM, FFN LL"


@pytest.mark.parametrize(
    "name",
    ["Z", "c", "", "C ", "outer 2", "outer 2+1, 1", "outer -1+2", "random of C", "random -1 of C", "complement C"],
)
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(RequestError) as refused:
        named_partition(name, 18)
    assert str(refused.value) == f"No partition {name!r}: choose one of {', '.join(NAMES)}."


@pytest.mark.parametrize("name", ["complement of Z", "random 1 of Z", "complement of random 1 of Z"])
def test_the_unknown_part_of_a_name_is_said(name):
    with pytest.raises(RequestError, match="No partition 'Z'"):
        named_partition(name, 18)


# --- shuffles --------------------------------------------------------------------------------------------


@given(partitions(values=st.sampled_from([0.0, 0.25, 1.0])), st.integers(0, 2**32))
@settings(quick, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_shuffle_is_another_partition_of_the_same_shares(partition, seed):
    assume(len(set(partition.attention)) > 1 or len(set(partition.ffn)) > 1)
    shuffled = partition.shuffled(seed)
    assert (shuffled.attention, shuffled.ffn) != (partition.attention, partition.ffn)
    if partition.is_by_layer:
        assert shuffled.is_by_layer
    assert Counter(shuffled.attention) == Counter(partition.attention)
    assert Counter(shuffled.ffn) == Counter(partition.ffn)
    assert shuffled == partition.shuffled(seed)  # the seed decides
    assert shuffled.name == f"random {seed} of {partition.name}"
    assert totals(counted(shuffled, partition.depth)) == pytest.approx(totals(counted(partition, partition.depth)))


def test_seeds_give_different_shuffles():
    drawn = {partition_c(18).shuffled(seed).attention for seed in range(20)}
    assert len(drawn) > 15


def test_a_shuffle_of_two_layers_is_never_itself():
    assert {Partition("two", (0, 1)).shuffled(seed).attention for seed in range(30)} == {(1, 0)}


def test_attention_and_ffn_are_shuffled_each_for_itself():
    partition = Partition("by block", (0, 1, 1, 1), (1, 1, 1, 1))
    drawn = {partition.shuffled(seed).attention for seed in range(40)}
    assert drawn == {(1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)}
    opposite = Partition("opposite", (0, 0, 1, 1), (1, 1, 0, 0))
    assert any(not _adds_to_one(opposite.shuffled(seed)) for seed in range(40))


def _adds_to_one(partition):
    return all(a + f == 1 for a, f in zip(partition.attention, partition.ffn, strict=True))


@pytest.mark.parametrize("name", ["A", "all math", "all language", "complement of A"])
def test_a_partition_that_every_shuffle_leaves_as_it_is_has_none(name):
    with pytest.raises(RequestError, match=f"Every shuffle of partition {name} is itself"):
        named_partition(name, DEPTH).shuffled(0)


# --- files -----------------------------------------------------------------------------------------------


@given(partitions())
@settings(quick, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_partition_survives_its_file(tmp_path, partition):
    path = partition.to_yaml(tmp_path / "mine.yaml")
    assert read_partition(path) == partition
    assert (
        "layers:" in path.read_text(encoding="utf-8").split("\n")
    ) is False  # the rows stand on one line, to be edited


@pytest.mark.parametrize(
    "name", ["\x85", "\u2028", "\u2029", "\ufeff", "a\r\nb", "\t", "\x00", "\x7f", "ปุ่ม", "😀", "#", "'\"", "? -"]
)
def test_every_name_survives_its_file(tmp_path, name):
    partition = Partition(name, (0, 1))
    assert read_partition(partition.to_yaml(tmp_path / "mine.yaml")) == partition


def test_a_name_in_another_script_stays_readable(tmp_path):
    assert "name: ปุ่ม\n" in Partition("ปุ่ม", (0, 1)).to_yaml(tmp_path / "mine.yaml").read_text(encoding="utf-8")


def test_what_a_file_says(tmp_path):
    path = Partition("ours", (0, 0.5, 1)).to_yaml(tmp_path / "p.yaml")
    assert path.read_text() == (
        "# The share that math owns of each layer, first layer first.\nname: ours\nlayers: [0, 0.5, 1]\n"
    )
    path = Partition("ours", (0.0, 1.0), (1e-05, 1)).to_yaml(tmp_path / "p.yaml")
    assert path.read_text().split("\n", 1)[1] == "name: ours\nattention: [0.0, 1.0]\nffn: [1.0e-05, 1]\n"


@pytest.mark.parametrize("text", ["layers: [0, 1]", "name:\nlayers: [0, 1]", "layers:\n- 0\n- 1", '{"layers": [0, 1]}'])
def test_a_file_without_a_name_is_called_as_the_file(tmp_path, text):
    (tmp_path / "by-hand.yaml").write_text(text)
    assert read_partition(tmp_path / "by-hand.yaml") == Partition("by-hand", (0, 1))


@pytest.mark.parametrize(
    "text",
    [
        "", "name: x", "[0, 1]", "3", "just words", "layers:", "layers: 3", "layers: []", "layers: {0: 1}", "layers: '[0, 1]'",
        "attention: [0, 1]", "ffn: [0, 1]", "attention: [0, 1]\nffn: []", "layers: [0, 1]\nattention: [0, 1]\nffn: [0, 1]",
        "layers: [0, 1]\ntransition: 1", "Layers: [0, 1]", "layer: [0, 1]", "null: [0, 1]",
    ],
)  # fmt: skip
def test_a_file_with_missing_or_other_keys_is_refused(tmp_path, text):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(
        RequestError, match=r"wrong.yaml needs 'layers: \[shares\]', or 'attention.*nothing else may stand"
    ):
        read_partition(tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    ("row", "said"),
    [("'0', 1", "not '0'"), ("[0, 1]", r"not \[0, 1\]"), ("true, 0", "not True"), ("null", "not None"), ("1.5", "not 1.5"),
     (".nan", "not nan"), ("-.inf", "not -inf"), ("M, L", "not 'M'"), ("{a: 1}", "not {'a': 1}"), ("2020-01-01", "not datetime")],
)  # fmt: skip
def test_a_file_with_other_shares_is_refused(tmp_path, row, said):
    (tmp_path / "wrong.yaml").write_text(f"layers: [{row}]")
    with pytest.raises(RequestError, match=rf"between 0 \(language\) and 1 \(math\), {said}"):
        read_partition(tmp_path / "wrong.yaml")


def test_a_file_with_rows_of_unequal_length_is_refused(tmp_path):
    (tmp_path / "wrong.yaml").write_text("name: odd\nattention: [0, 1]\nffn: [1]")
    with pytest.raises(RequestError, match="Partition odd has 2 shares of attention and 1 of FFN"):
        read_partition(tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    "content",
    [
        b"layers: [0, 1", b"\tlayers: [0]", b"layers: [0]\n---\nlayers: [1]", b"? [a]\n: 1", b"\xff\xfe\x00\x01",
        bytes(range(256)), b"\x00", b"layers: !!python/object/apply:os.getcwd []", b"name: 2001-13-45\nlayers: [0]", b"[" * 5000,
        b"layers: [" + b"9" * 5000 + b"]", b"layers: *nobody",
    ],
)  # fmt: skip
def test_a_file_that_is_no_yaml_is_refused_in_words(tmp_path, content):
    (tmp_path / "wrong.yaml").write_bytes(content)
    with pytest.raises(RequestError, match=r"The partition file .*wrong.yaml cannot be read: .+"):
        read_partition(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("name", ["nowhere.yaml", ".", "nowhere/p.yaml", "a\0b.yaml"])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(RequestError, match="cannot be read"):
        read_partition(tmp_path / name)


# --- what a user chooses ---------------------------------------------------------------------------------


def test_the_choice_may_be_an_object_a_name_a_file_or_counts(tmp_path):
    mine = Partition("mine", (0, 1, 1, 0), (1, 1, 1, 1))
    for suffix in ("yaml", "yml"):
        path = mine.to_yaml(tmp_path / f"mine.{suffix}")
        assert Choice(path).on(4) == Choice(str(path)).on(4) == mine
    assert Choice(mine).on(4) is mine
    assert Choice().on(8) == Choice("C").on(8) == partition_c(8)
    assert Choice("B").on(8) == partition_b(8)
    assert Choice(bottom=2, top=0).on(8) == outer_layers(2, 0, 8)
    assert Choice(bottom=0, top=0).on(8) == outer_layers(0, 0, 8)
    assert Choice(bottom=2, top=1, transition=1).on(8) == outer_layers(2, 1, 8, transition=1)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"partition": "C", "bottom": 2, "top": 1}, "either a partition or --bottom and --top, not both"),
        ({"partition": "C", "bottom": 0}, "either a partition or --bottom and --top, not both"),
        ({"bottom": 2}, "go together: say both"),
        ({"top": 0}, "go together: say both"),
        ({"bottom": 2, "transition": 1}, "go together: say both"),
        ({"transition": 1}, "--transition goes with --bottom and --top"),
        ({"transition": 0}, "--transition goes with --bottom and --top"),
        ({"partition": "C", "transition": 1}, "--transition goes with --bottom and --top"),
        ({"partition": "D"}, "No partition 'D'"),
        ({"partition": ""}, "No partition ''"),
        ({"partition": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"partition": uniform(1, 4)}, "Partition all math is of 4 layers, but the model has 8"),
        ({"bottom": 6, "top": 3}, "do not fit into 8 layers"),
    ],
)
def test_choices_that_contradict_themselves_are_refused(choice, said):
    with pytest.raises(RequestError, match=said):
        Choice(**choice).on(8)


def test_a_file_of_another_depth_is_refused(tmp_path):
    path = Partition("short", (0, 1)).to_yaml(tmp_path / "short.yaml")
    with pytest.raises(RequestError, match="Partition short is of 2 layers, but the model has 8"):
        Choice(path).on(8)


# --- ownership -------------------------------------------------------------------------------------------


@given(partitions(depth=DEPTH))
@quick
def test_every_parameter_is_owned_once(partition):
    table, all_sizes = counted(partition), sizes()
    assert sum(totals(table).values()) == pytest.approx(sum(all_sizes.values()))
    assert totals(table)["neither"] == sum(OUTSIDE.values())
    assert totals(table)["math"] == pytest.approx(
        sum(partition.attention) * ATTENTION_SIZE + sum(partition.ffn) * FFN_SIZE
    )


@given(partitions(depth=DEPTH))
@quick
def test_the_complement_owns_what_the_other_side_owned(partition):
    table, other = counted(partition), counted(partition.complement())
    assert list(table) == list(other)
    for block, row in table.items():
        swapped = {"math": row["language"], "language": row["math"], "neither": row["neither"]}
        assert other[block] == pytest.approx(swapped, abs=1e-9)


def test_a_head_that_is_the_embedding_once_more_does_not_count(miniature, tmp_path):
    folder = shutil.copytree(miniature("gemma3"), tmp_path / "headed")
    rewritten(folder, lambda found: found.update({"lm_head.weight": found["model.embed_tokens.weight"].clone()}))
    assert xlnb.partition("C", folder).counts == xlnb.partition("C", miniature("gemma3")).counts


def test_an_adapter_is_no_model_to_count(miniature, tmp_path):
    with pytest.raises(RequestError, match="is an adapter, and its pairs are not the model's parameters"):
        xlnb.partition("C", lora(miniature("llama"), tmp_path / "adapter"))


def test_ownership_of_a_and_c_by_block():
    assert counted(partition_a(DEPTH)) == {
        "attention": {"math": 0, "language": 8 * 26, "neither": 0},
        "ffn": {"math": 8 * 70, "language": 0, "neither": 0},
        "norm": {"math": 8 * (7 + 11), "language": 8 * (3 + 5), "neither": 13},
        "embedding": {"math": 0, "language": 0, "neither": 1000},
        "head": {"math": 0, "language": 0, "neither": 2000},
    }
    assert counted(partition_c(DEPTH))["ffn"] == {"math": 5 * 70, "language": 3 * 70, "neither": 0}
    assert counted(outer_layers(1, 1, DEPTH, transition=1))["ffn"] == {"math": 5 * 70, "language": 3 * 70, "neither": 0}


# --- from scores --------------------------------------------------------------------------------------------

SCORES = st.lists(st.floats(0.01, 100), min_size=DEPTH, max_size=DEPTH)


def by_block(attention, ffn):
    return {"attention": attention, "ffn": ffn}


@given(SCORES, SCORES, SCORES, SCORES, st.floats(0.01, 100), st.floats(0, 0.9))
@quick
def test_only_shares_of_a_side_s_own_scores_count(a, b, c, d, scale, blend):
    """Losses of different texts have no common scale; and who is asked for first does not matter."""
    math, language = by_block(a, b), by_block(c, d)
    found = Partition.from_scores(math, language, blend=blend)
    turned = Partition.from_scores(language, math, blend=blend).complement()
    assert (found.attention, found.ffn) == (turned.attention, turned.ffn)
    leans = sorted(
        abs(x / sum(a + b) - y / sum(c + d)) / (x / sum(a + b) + y / sum(c + d))
        for x, y in zip(a + b, c + d, strict=True)
    )
    assume(all(abs(lean - blend) > 1e-6 for lean in leans))
    scaled = Partition.from_scores(
        {block: [scale * x for x in row] for block, row in math.items()}, language, blend=blend
    )
    assert found.shares == scaled.shares


@given(SCORES, SCORES, st.integers(0, DEPTH))
@quick
def test_a_budget_is_kept_and_given_to_whom_it_matters_most(a, b, count):
    found = Partition.from_scores({"layers": a}, {"layers": b}, budget=count / DEPTH)
    assert found.is_by_layer and sum(share == 0 for share in found.attention) == count
    ratio = [x / y for x, y in zip(a, b, strict=True)]
    given_away = [ratio[i] for i, share in enumerate(found.attention) if share == 0]
    kept = [ratio[i] for i, share in enumerate(found.attention) if share == 1]
    assert not given_away or not kept or max(given_away) <= min(kept) * (1 + 1e-9)


def test_scores_that_say_nothing():
    with pytest.raises(RequestError, match="scores of the language must be finite, zero or above, and not all zero"):
        Partition.from_scores({"layers": [1, 2]}, {"layers": [0, 0]})
    with pytest.raises(RequestError, match="differ in length"):
        Partition.from_scores(by_block([1, 2], [1]), by_block([1, 2], [1]))
    with pytest.raises(RequestError, match="under 'layers', or under 'attention' and 'ffn'"):
        Partition.from_scores({"layers": [1, 2]}, by_block([1], [1]))
    for wrong in ({"blend": 1}, {"blend": -0.1}, {"budget": 1.5}, {"budget": 0.5, "blend": 0.1}):
        with pytest.raises(RequestError, match=r"blend is|budget is"):
            Partition.from_scores({"layers": [1, 2]}, {"layers": [2, 1]}, **wrong)
