"""Merges of LoRA adapters from disk to disk: what PEFT makes of the result is the same merge of the updates in memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from experts import (
    DEPTH,
    copy_tokenizer,
    digests,
    expert,
    locate,
    logits,
    lora,
    model_of,
    same,
    tensors,
)
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from xlnb.checkpoints.verbs import merge, revert
from xlnb.errors import RequestError, WorkError
from xlnb.models.base import load_base
from xlnb.models.miniatures import MINIATURES, miniature
from xlnb.weights import merging
from xlnb.weights.merging import applied
from xlnb.weights.partitions import Partition, named_partition
from xlnb.weights.task_vectors import TaskVector

# What the language expert has otherwise than the math expert: r 4, alpha 6, on q, v and down.
OTHER = {
    "alike": {},
    "another rank": {"r": 3, "lora_alpha": 4.5},
    "another scaling": {"lora_alpha": 16},
    "rank-stabilised": {"use_rslora": True},
    "other modules": {"target_modules": ["q_proj", "o_proj", "up_proj"]},
    "some layers": {"layers_to_transform": [0, 1, 4]},
    "all of it": {"r": 7, "lora_alpha": 3, "use_rslora": True, "target_modules": ["k_proj", "down_proj", "gate_proj"]},
}


UNEVEN = Partition("uneven", (0.25, 0, 0.75, 1, 0.75, 1, 0, 1), (1, 0.25, 0.75, 1, 0, 1, 0, 0.25))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(miniature):
    """A function from a family to a miniature; nobody may write there."""
    return lambda family="llama": miniature(family)


@pytest.fixture(scope="module")
def pair(base, tmp_path_factory):
    """A function that makes a math and a language adapter (or finds them made); nobody may write there."""
    root, made = tmp_path_factory.mktemp("adapters"), {}

    def find(family="llama", other="alike"):
        key = (family, other)
        if key not in made:
            folder = root / str(len(made))
            made[key] = [
                lora(base(family), folder / "math", 1),
                lora(base(family), folder / "language", 2, **OTHER[other]),
            ]
        return made[key]

    return find


def with_peft(base, adapter):
    """The logits of the base with an adapter that PEFT loads."""
    return logits(PeftModel.from_pretrained(model_of(base), adapter).eval())


def assert_is(base, out, vector, full=False):
    """``out``, an adapter or a full checkpoint, is base + vector."""
    model = load_base(base).model
    before = logits(model)
    with applied(model, vector):
        wanted = logits(model)
    assert (wanted - before).abs().max() > 1e-2
    assert (out / "adapter_config.json").exists() != full
    found = logits(out) if full else with_peft(base, out)
    assert torch.allclose(found, wanted, rtol=0, atol=5e-5), (found - wanted).abs().max()


def vectors_of(adapters):
    return [TaskVector.from_adapter(folder) for folder in adapters]


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


# --- picking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["C", "A", "B", "complement of C"])
def test_a_swap_of_adapters_alike_picks_their_pairs(base, pair, tmp_path, name):
    math, language = pair()
    before = digests(math, language)
    done = merge("layer-swapping", tmp_path / "out", math=math, language=language, partition=name)
    partition, found = named_partition(name, DEPTH), tensors(tmp_path / "out")
    sources = {1: tensors(math), 0: tensors(language)}
    assert found.keys() == sources[0].keys()
    for tensor in found:
        owner = sources[partition.share(locate(tensor))]
        assert torch.equal(found[tensor], owner[tensor])
        assert not torch.equal(sources[0][tensor], sources[1][tensor])
    assert (done.copied, done.computed) == (len(found), 0)
    assert (tmp_path / "out" / "adapter_config.json").read_bytes() == (math / "adapter_config.json").read_bytes()
    assert digests(math, language) == before
    assert_is(base(), tmp_path / "out", merging.layer_swapping(*vectors_of(pair()), partition))


def test_picking_pairs_loads_neither_torch_nor_numpy(pair, base, tmp_path):
    script = """
import sys
from xlnb.checkpoints.verbs import merge
math, language, base, out = sys.argv[1:]
print(merge("layer-swapping", out + "/without", math=math, language=language).copied)
print(merge("layer-swapping", out + "/with", math=math, language=language, base=base).copied)
print(*sorted({"torch", "numpy", "transformers", "safetensors", "pandas", "peft"} & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, *pair(), base(), tmp_path], capture_output=True, text=True, timeout=60
    )
    told = f"The adapter says that its base is owner/base; taken onto {base()}.\n"
    assert (run.stdout, run.stderr) == ("48\n48\n\n", told)
    assert same(tensors(tmp_path / "with"), tensors(tmp_path / "without"))


# --- adding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("method", ["layer-swapping", "soup", "task-arithmetic"])
def test_merges_of_every_family_stay_adapters(base, pair, tmp_path, family, method):
    adapters = pair(family, "another rank")
    vectors = vectors_of(adapters)
    if method == "layer-swapping":
        merge(method, tmp_path / "out", math=adapters[0], language=adapters[1])
        expected = merging.layer_swapping(*vectors, named_partition("C", DEPTH))
    else:
        merge(method, tmp_path / "out", experts=adapters)
        expected = merging.task_arithmetic(vectors, [0.5, 0.5] if method == "soup" else [1, 1])
    assert_is(base(family), tmp_path / "out", expected)


@pytest.mark.parametrize("other", OTHER)
@pytest.mark.parametrize("method", ["C", "A", "predecessor", "soup", "task-arithmetic"])
def test_adapters_that_differ_are_added_update_by_update(base, pair, tmp_path, other, method):
    adapters = pair("llama", other)
    vectors, before = vectors_of(adapters), digests(*adapters)
    if method in ("soup", "task-arithmetic"):
        merge(method, tmp_path / "out", experts=adapters, weights=[0.9, -0.3], base=base())
        weights = [1.5, -0.5] if method == "soup" else [0.9, -0.3]
        expected = merging.task_arithmetic(vectors, weights)
    else:
        merge("layer-swapping", tmp_path / "out", math=adapters[0], language=adapters[1], partition=method, base=base())
        expected = merging.layer_swapping(*vectors, named_partition(method, DEPTH))
    assert_is(base(), tmp_path / "out", expected)
    assert digests(*adapters) == before
    if not (other == "alike" and method in "CA"):
        config, ranks = config_of(tmp_path / "out"), [config_of(folder)["r"] for folder in adapters]
        added = method in ("soup", "task-arithmetic", "predecessor")
        assert config["r"] == config["lora_alpha"] == (sum(ranks) if added else max(ranks))
        assert {t.dtype for t in tensors(tmp_path / "out").values()} == {torch.float32}


@pytest.mark.parametrize("other", ["alike", "all of it"])
@pytest.mark.parametrize("full", [False, True])
def test_layers_are_shared_unevenly(base, pair, tmp_path, other, full):
    math, language = pair("llama", other)
    merge(
        "layer-swapping",
        tmp_path / "out",
        math=math,
        language=language,
        base=base(),
        partition=UNEVEN,
        as_checkpoint=full,
    )
    assert_is(base(), tmp_path / "out", merging.layer_swapping(*vectors_of([math, language]), UNEVEN), full=full)


@pytest.mark.parametrize("keep", ["math", "language"])
@pytest.mark.parametrize("name", ["C", "B", "predecessor", "uneven"])
@pytest.mark.parametrize("other", ["rank-stabilised", "some layers"])
def test_a_revert_of_an_adapter_stays_an_adapter(base, pair, tmp_path, keep, name, other):
    adapter = pair("llama", other)[1]
    partition = UNEVEN if name == "uneven" else named_partition(name, DEPTH)
    revert(base(), adapter, keep, tmp_path / "out", partition=partition)
    assert_is(base(), tmp_path / "out", TaskVector.from_adapter(adapter).mask(partition, keep))
    revert(base(), adapter, keep, tmp_path / "full", partition=partition, as_checkpoint=True)
    assert_is(base(), tmp_path / "full", TaskVector.from_adapter(adapter).mask(partition, keep), full=True)


def test_a_merged_adapter_can_be_merged_again(base, pair, tmp_path):
    adapters = pair("llama", "all of it")
    merge("soup", tmp_path / "once", experts=adapters)
    merge("task-arithmetic", tmp_path / "twice", experts=[tmp_path / "once", adapters[0]], weights=[2, -1])
    assert_is(base(), tmp_path / "twice", vectors_of(adapters)[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_adapter_in_another_dtype(base, pair, tmp_path, dtype):
    math, language = pair()
    merge("layer-swapping", tmp_path / "out", math=math, language=language, dtype=dtype)
    found, sources = tensors(tmp_path / "out"), (tensors(language), tensors(math))
    for name in found:
        owner = sources[int(named_partition("C", DEPTH).share(locate(name)))]
        factor = 1.5 if "lora_B" in name else 1.0  # the scaling, 6 / 4, goes into B
        assert torch.equal(found[name], (factor * owner[name]).to(getattr(torch, dtype)))


def test_bfloat16_adapters_are_added_in_float32(base, tmp_path):
    adapters = [lora(base(), tmp_path / str(i), i, dtype=torch.bfloat16) for i in range(2)]
    assert {t.dtype for t in tensors(adapters[0]).values()} == {torch.bfloat16}
    merge("soup", tmp_path / "out", experts=adapters)
    assert_is(base(), tmp_path / "out", merging.soup(vectors_of(adapters)))


# --- full checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["alike", "all of it"])
@pytest.mark.parametrize("method", ["C", "predecessor", "soup", "task-arithmetic", "ties", "dare", "slerp"])
def test_a_checkpoint_of_adapters_is_what_it_is_in_memory(base, pair, tmp_path, other, method):
    adapters = pair("llama", other)
    vectors, before = vectors_of(adapters), digests(base(), *adapters)
    stays = method in ("C", "predecessor", "soup", "task-arithmetic")
    if method in ("C", "predecessor"):
        merge("layer-swapping", tmp_path / "out", math=adapters[0], language=adapters[1], partition=method, base=base(),
              as_checkpoint=True)  # fmt: skip
        expected = merging.layer_swapping(*vectors, named_partition(method, DEPTH))
    else:
        merge(method, tmp_path / "out", experts=adapters, base=base(), as_checkpoint=stays)
        expected = {
            "soup": lambda: merging.soup(vectors),
            "task-arithmetic": lambda: merging.task_arithmetic(vectors, [1, 1]),
            "ties": lambda: merging.ties(vectors),
            "dare": lambda: merging.dare(vectors),
            "slerp": lambda: merging.slerp(*vectors, tensors(base())),
        }[method]()
    assert_is(base(), tmp_path / "out", expected, full=True)
    assert digests(base(), *adapters) == before
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base() / name).read_bytes()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("full", ["math", "language"])
@pytest.mark.parametrize("method", ["C", "predecessor", "soup", "task-arithmetic", "ties"])
def test_an_adapter_and_a_checkpoint_go_together(base, pair, tmp_path, family, full, method):
    folder = expert(base(family), tmp_path / "full", 1, scale=0.005)
    adapter = pair(family)[0]
    folders = [folder, adapter] if full == "math" else [adapter, folder]
    vectors = [
        TaskVector.from_checkpoint(f, base(family)) if f == folder else TaskVector.from_adapter(f) for f in folders
    ]
    if method in ("C", "predecessor"):
        merge(
            "layer-swapping",
            tmp_path / "out",
            math=folders[0],
            language=folders[1],
            partition=method,
            base=base(family),
        )
        expected = merging.layer_swapping(*vectors, named_partition(method, DEPTH))
    else:
        merge(method, tmp_path / "out", experts=folders, base=base(family))
        expected = {
            "soup": lambda: merging.soup(vectors),
            "task-arithmetic": lambda: merging.task_arithmetic(vectors, [1, 1]),
            "ties": lambda: merging.ties(vectors),
        }[method]()
    assert_is(base(family), tmp_path / "out", expected, full=True)


@pytest.mark.parametrize("role", ["math", "language"])
def test_embeddings_of_an_adapter_are_the_base_s(base, pair, tmp_path, role):
    folder = expert(base(), tmp_path / "full", 1)
    adapter = pair()[0]
    folders = {"math": folder, "language": folder, role: adapter}
    merge("layer-swapping", tmp_path / "out", **folders, base=base(), embeddings=role)
    name = "model.embed_tokens.weight"
    assert torch.equal(tensors(tmp_path / "out")[name], tensors(base())[name])
    assert model_of(tmp_path / "out")


# --- refusals --------------------------------------------------------------------------------------------


def assert_refused(tmp_path, words, method, kind=RequestError, **options):
    with pytest.raises(kind, match=words):
        merge(method, tmp_path / "place" / "out", **options)
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("method", ["ties", "dare", "slerp"])
def test_what_has_no_low_rank_needs_the_base(pair, tmp_path, method):
    assert_refused(
        tmp_path, "expert 1 is an adapter, .* needs the model it was trained on: say --base", method, experts=pair()
    )


def test_a_checkpoint_of_adapters_needs_the_base(pair, tmp_path):
    assert_refused(tmp_path, "say --base", "soup", experts=pair(), as_checkpoint=True)


def test_adapters_and_checkpoints_together_need_the_base(base, pair, tmp_path):
    folder = expert(base(), tmp_path / "full", 1)
    words = "expert 2 is an adapter, and soup of adapters and checkpoints together needs"
    assert_refused(tmp_path, words, "soup", experts=[folder, pair()[0]])


def test_adapters_of_differently_named_bases_are_refused_unless_they_are_one(base, pair, tmp_path):
    math = pair()[0]
    stranger = lora(base(), tmp_path / "stranger", 2, base_name="owner/other")
    words = "different bases: 'owner/base', 'owner/other'. .* say --same-base"
    assert_refused(tmp_path, words, "soup", experts=[math, stranger])
    assert_refused(tmp_path, words, "layer-swapping", math=math, language=stranger)
    merge("soup", tmp_path / "out", experts=[math, stranger], same_base=True)
    assert_is(base(), tmp_path / "out", merging.soup(vectors_of([math, stranger])))


def named(base, folder, name, seed=1):
    """An adapter whose config names this base."""
    return lora(base, folder, seed, base_name=str(name))


@pytest.mark.parametrize("method", ["soup", "ties"])
@pytest.mark.parametrize("same_base", [False, True])
def test_adapters_that_name_a_folder_of_other_weights_are_refused(base, tmp_path, method, same_base):
    stranger = miniature(tmp_path / "stranger", "llama", seed=5)
    experts = [named(stranger, tmp_path / str(seed), stranger, seed) for seed in (1, 2)]
    words = r"base that expert 1 was trained on \(.*stranger\) and base \(.*\) have a cosine of -?0\.0"
    assert_refused(tmp_path, words, method, experts=experts, base=base(), same_base=same_base)
    merge(method, tmp_path / "out", experts=experts, base=stranger)
    with pytest.raises(RequestError, match=r"base that math was trained on .* have a cosine"):
        revert(base(), experts[0], "math", tmp_path / "reverted")


def test_adapters_that_name_a_copy_of_the_base_are_taken(base, tmp_path, capsys):
    copy = tmp_path / "copy"
    model_of(base()).to(torch.bfloat16).save_pretrained(copy)
    (link := tmp_path / "link").symlink_to(base(), target_is_directory=True)
    experts = [named(base(), tmp_path / "1", copy), named(base(), tmp_path / "2", f"{link}/")]
    for one in experts:
        revert(base(), one, "math", tmp_path / f"out-{one.name}")
    assert "base is" not in capsys.readouterr().err


def test_an_adapter_that_names_what_cannot_be_looked_at_is_taken_and_told(base, tmp_path, capsys):
    hub = tmp_path / "models--owner--base" / "snapshots" / "1"
    shutil.copytree(base(), hub)
    quantized = shutil.copytree(base(), tmp_path / "quantized")
    settings = json.loads((quantized / "config.json").read_text()) | {"quantization_config": {"bits": 4}}
    (quantized / "config.json").write_text(json.dumps(settings))
    (torn := tmp_path / "torn").mkdir()
    for name in ("owner/base", str(quantized), str(torn)):
        experts = [named(base(), tmp_path / f"{Path(name).name}-{seed}", name, seed) for seed in (1, 2)]
        merge("soup", tmp_path / f"{Path(name).name}-out", experts=experts, base=base())
        lines = [line for line in capsys.readouterr().err.splitlines() if "base is" in line]
        assert lines == [f"The adapter says that its base is {name}; taken onto {base()}."], "once for both"
        merge("soup", tmp_path / f"{Path(name).name}-same", experts=experts, base=base(), same_base=True)
        assert "base is" not in capsys.readouterr().err
    experts = [named(base(), tmp_path / f"hub-{seed}", "owner/base", seed) for seed in (1, 2)]
    merge("soup", tmp_path / "from-hub", experts=experts, base=hub)
    assert "base is" not in capsys.readouterr().err, "the hub's cache has the name"


@pytest.mark.parametrize("method", ["soup", "layer-swapping"])
@pytest.mark.parametrize("given", [True, False], ids=["with base", "without base"])
def test_an_adapter_of_another_shape_is_refused(base, pair, tmp_path, method, given):
    math = pair()[0]
    wide = shutil.copytree(math, tmp_path / "wide")
    save_file(
        {n: t.repeat(1, 2) if "lora_A" in n else t for n, t in tensors(math).items()},
        wide / "adapter_model.safetensors",
    )
    experts = {"math": math, "language": wide} if method == "layer-swapping" else {"experts": [math, wide]}
    words = r"adapt 'model.layers.0.* of shapes \[32, 64\] and \[32, 128\]: they are of different models"
    assert_refused(tmp_path, words, method, **experts, base=base() if given else None)


def test_an_adapter_of_a_parameter_that_the_base_lacks_is_refused(base, pair, tmp_path):
    deep = shutil.copytree(pair()[0], tmp_path / "deep")
    renamed = {name.replace(".7.", ".8."): t for name, t in tensors(deep).items()}
    save_file(renamed, deep / "adapter_model.safetensors")
    words = r"adapts 'model.layers.8.* has no such parameter"
    assert_refused(tmp_path, words, "soup", experts=[pair()[0], deep], base=base())


@pytest.mark.parametrize("given", [True, False], ids=["with base", "without base"])
def test_adapters_that_call_a_parameter_differently_make_no_adapter(base, pair, tmp_path, given):
    renamed = shutil.copytree(pair()[0], tmp_path / "renamed")
    found = {
        name.replace("model.model.layers", "model.model.language_model.layers"): t
        for name, t in tensors(renamed).items()
    }
    save_file(found, renamed / "adapter_model.safetensors")
    words = r"call the same parameter 'model\.layers\.0.* and 'model\.language_model\.layers.* --as-checkpoint"
    assert_refused(tmp_path, words, "soup", experts=[pair()[0], renamed], base=base() if given else None)


def test_a_base_that_is_an_adapter_is_refused(pair, tmp_path):
    assert_refused(tmp_path, "is an adapter: give the checkpoint that", "soup", experts=pair(), base=pair()[0])


def test_a_quantized_base_is_refused(base, pair, tmp_path):
    quantized = shutil.copytree(base(), tmp_path / "quantized")
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    assert_refused(tmp_path, r"base \(.* is quantized", "soup", experts=pair(), base=quantized, as_checkpoint=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_to_transform": [0, 1]},
        {"target_modules": r".*layers\.[0-3]\.self_attn\.q_proj"},
        {"target_modules": ["layers.2.self_attn.q_proj", "layers.0.mlp.up_proj"]},
        {"exclude_modules": r".*layers\.7\..*"},
        {"target_modules": r".*layers\.\d\.self_attn\.q_proj"},  # of a deeper model it would be the first ten
        {"target_modules": r".*layers\.[^7]\.self_attn\.q_proj"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_adapters_of_some_layers_do_not_tell_the_depth(base, tmp_path, settings):
    adapters = [lora(base(), tmp_path / str(i), i, **settings) for i in range(2)]
    options = {"math": adapters[0], "language": adapters[1]}
    assert_refused(tmp_path, "does not tell how many there are: say --base", "layer-swapping", **options)
    merge("layer-swapping", tmp_path / "out", **options, base=base())
    partition = named_partition("C", DEPTH)
    assert_is(base(), tmp_path / "out", merging.layer_swapping(*vectors_of(adapters), partition))


def test_adapters_of_some_layers_of_a_decoder_that_is_not_known(tmp_path):
    """Its layers are located by counting, which takes the base's: the adapters have some of them."""
    config = GPTNeoXConfig(
        vocab_size=70, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    settings = {"target_modules": ["query_key_value"], "layers_to_transform": [1, 3]}
    math, language = (lora(tmp_path / "base", tmp_path / role, **settings) for role in ("math", "language"))
    roles = {"math": math, "language": language, "base": tmp_path / "base"}
    merge("layer-swapping", tmp_path / "out", **roles, partition="C")
    for name, tensor in tensors(tmp_path / "out").items():
        assert torch.equal(tensor, tensors(math if ".layers.1." in name else language)[name]), name
    merge("layer-swapping", tmp_path / "shared", **roles, partition=Partition("shared", (0.5,) * 4))
    assert len(tensors(tmp_path / "shared")) == len(tensors(math)) == 4


def test_a_merge_that_leaves_nothing_is_refused(base, tmp_path):
    adapters = [lora(base(), tmp_path / str(i), i, target_modules=["q_proj"]) for i in range(2)]
    with pytest.raises(RequestError, match="Nothing of the adapters is left"):
        revert(base(), adapters[0], "math", tmp_path / "out", partition="A")
    assert not (tmp_path / "out").exists()


def test_owners_who_own_nothing_that_they_changed_are_refused(base, tmp_path):
    """Both have shares; what is theirs they never adapted, and the sum of their updates would have rank 0."""
    math = lora(base(), tmp_path / "math", target_modules=["up_proj"])
    language = lora(base(), tmp_path / "language", 1, target_modules=["q_proj"])
    roles = {"math": math, "language": language, "partition": "complement of A"}
    assert_refused(tmp_path, "Nothing of the adapters is left", "layer-swapping", **roles)


def test_a_config_of_a_model_beside_an_adapter_keeps_its_vocabulary(base, pair, tmp_path):
    """It is a companion like others: an adapter's own config has no size to write there."""
    math = shutil.copytree(pair()[0], tmp_path / "math")
    shutil.copy(base() / "config.json", math)
    merge("layer-swapping", tmp_path / "out", math=math, language=pair()[1])
    assert (tmp_path / "out" / "config.json").read_bytes() == (base() / "config.json").read_bytes()


def test_no_room_for_an_adapter_is_said(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 10**12, 10_000_000))
    assert_refused(tmp_path, "Make room", "soup", kind=WorkError, experts=pair())
    assert_refused(tmp_path, "Make room", "layer-swapping", kind=WorkError, math=pair()[0], language=pair()[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_that_are_told_are_those_of_the_file(pair, tmp_path, dtype):
    done = merge("soup", tmp_path / "out", experts=pair(), dtype=dtype)
    assert done.nbytes == sum(tensor.nbytes for tensor in tensors(tmp_path / "out").values())


def test_an_adapter_beside_a_tokenizer_takes_it_along(base, pair, tmp_path):
    math = shutil.copytree(pair()[0], tmp_path / "math")
    copy_tokenizer(base(), math)
    merge("soup", tmp_path / "out", experts=[math, pair()[1]])
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base() / "tokenizer.json").read_bytes()
