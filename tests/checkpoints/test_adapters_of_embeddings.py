"""Adapters of the embeddings and the head as PEFT saves them, with a copy of the base's: merged as PEFT merges them."""

import shutil

import pytest
import torch
from experts import DEPTH, leftovers, lora, model_of, reconfigured, rewritten, same, tensors
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from xlnb.artifacts import read_json
from xlnb.checkpoints.differences import diff
from xlnb.checkpoints.verbs import merge, revert
from xlnb.errors import RequestError
from xlnb.weights.partitions import named_partition
from xlnb.weights.sites import locate_all
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("one_thread")

TARGETS = [["q_proj", "lm_head"], ["q_proj", "embed_tokens"], ["up_proj", "embed_tokens", "lm_head"]]
COPY = "base_model.model.{}.base_layer.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def base(miniature):
    return lambda family="llama": miniature(family)


@pytest.fixture(scope="module")
def pair(base, tmp_path_factory):
    """A function that makes two adapters of the same modules as PEFT saves them (or finds them made); nobody may write there."""
    root, made = tmp_path_factory.mktemp("adapters"), {}

    def find(targets, family="llama"):
        key = (*targets, family)
        if key not in made:
            made[key] = [
                saved(base(family), root / str(len(made)) / role, targets, i)
                for i, role in enumerate(("math", "language"))
            ]
        return made[key]

    return find


def saved(base, folder, targets, seed, dtype=torch.float32, r=2):
    torch.manual_seed(seed)
    config = LoraConfig(
        r=r + seed, lora_alpha=0.05, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(model_of(base, dtype), config).save_pretrained(folder)
    return folder


def by_peft(base, adapter):
    """All parameters of the base with an adapter that PEFT merged into it."""
    merged = PeftModel.from_pretrained(model_of(base), adapter).merge_and_unload()
    return {name: parameter.detach().clone() for name, parameter in merged.named_parameters()}


def by_folder(out, base):
    return (
        {n: p.detach() for n, p in model_of(out).named_parameters()}
        if (out / "config.json").exists()
        else by_peft(base, out)
    )


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=2e-6, msg=name)


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_an_update_is_what_peft_merges(base, pair, targets):
    math, wanted, before = pair(targets)[0], by_peft(base(), pair(targets)[0]), tensors(base())
    assert any(".base_layer." in name for name in tensors(math)), "PEFT saves copies"
    vector = TaskVector.from_adapter(math, base())
    assert {name for name in before if not torch.equal(before[name], wanted[name])} == set(vector)
    for name in vector:
        torch.testing.assert_close(before[name] + vector[name], wanted[name], rtol=0, atol=2e-6)
    assert same(dict(TaskVector.of_expert(math, base())), dict(vector))
    with pytest.raises(RequestError, match="say the base"):
        TaskVector.from_adapter(math)


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "checkpoint"])
@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
@pytest.mark.parametrize("method", ["soup", "task-arithmetic"])
def test_sums_are_those_of_what_peft_merges(base, pair, tmp_path, targets, method, full):
    adapters = pair(targets)
    done = merge(method, tmp_path / "out", experts=adapters, weights=[0.5, -0.25], base=base(), as_checkpoint=full)
    one, two = (by_peft(base(), adapter) for adapter in adapters)
    origin, shares = tensors(base()), [2, -1] if method == "soup" else [0.5, -0.25]
    wanted = {n: origin[n] + shares[0] * (one[n] - origin[n]) + shares[1] * (two[n] - origin[n]) for n in origin}
    assert_close(by_folder(tmp_path / "out", base()), wanted)
    assert not any(".base_layer." in name for name in tensors(tmp_path / "out"))
    notes = read_json(tmp_path / "out" / "provenance.json")["spec"]["left_out"]
    assert "is left out, the base's own" in notes[0] and notes[0] in str(done)


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "checkpoint"])
@pytest.mark.parametrize("embeddings", ["math", "language", "base"])
@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_swaps_are_those_of_what_peft_merges(base, pair, tmp_path, targets, embeddings, full):
    math, language = pair(targets)
    options = {"base": base(), "embeddings": embeddings, "as_checkpoint": full}
    merge("layer-swapping", tmp_path / "out", math=math, language=language, **options)
    sources = {"math": by_peft(base(), math), "language": by_peft(base(), language), "base": tensors(base())}
    partition, sites = named_partition("C", DEPTH), locate_all(sources["base"]).of
    owners = {
        n: embeddings if s.layer is None else ("language", "math")[int(partition.share(s))] for n, s in sites.items()
    }
    assert_close(by_folder(tmp_path / "out", base()), {name: sources[owner][name] for name, owner in owners.items()})


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_a_swap_asks_whose_embeddings_and_a_revert_gives_them_back(base, pair, tmp_path, targets):
    math, language = pair(targets)
    with pytest.raises(RequestError, match="outside the layers: say whose to take, --embeddings"):
        merge("layer-swapping", tmp_path / "out", math=math, language=language, base=base())
    revert(base(), math, "math", tmp_path / "out", partition="all math")
    found, wanted, before = by_peft(base(), tmp_path / "out"), by_peft(base(), math), tensors(base())
    assert_close(found, {name: before[name] if name in (EMBEDDING, HEAD) else wanted[name] for name in wanted})
    revert(base(), math, "math", tmp_path / "kept", partition="all math", embeddings="math")
    assert_close(by_peft(base(), tmp_path / "kept"), wanted)


def test_merges_that_leave_no_adapter(base, pair, tmp_path):
    adapters, folders = pair(TARGETS[2]), []
    for adapter in adapters:
        folders.append(tmp_path / adapter.name)
        PeftModel.from_pretrained(model_of(base()), adapter).merge_and_unload().save_pretrained(folders[-1])
    for method in ("ties", "slerp"):
        merge(method, tmp_path / method, experts=adapters, base=base())
        merge(method, tmp_path / f"{method}-of-merged", experts=folders, base=base())
        assert_close(tensors(tmp_path / method), tensors(tmp_path / f"{method}-of-merged"))
    for one, other in ((adapters[0], folders[0]), (adapters[1], folders[1])):
        table, merged = diff(base(), one).table, diff(base(), other).table
        assert (table["change"] - merged["change"]).abs().max() < 1e-6 and table["change"].max() > 0.01


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_a_copy_that_differs_from_the_base_s_is_refused(base, pair, tmp_path, targets):
    math, language = saved(base(), tmp_path / "math", targets, 0), pair(targets)[1]
    for name in [name for name in tensors(math) if ".base_layer." in name]:
        before = tensors(math)[name]
        rewritten(math, lambda found, name=name: found[name].view(-1)[-1].add_(1e-6))
        words = "more than plain LoRA pairs .*differs from that of the base"
        for options in ({"experts": [math, language]}, {"experts": [math, language], "as_checkpoint": True}):
            with pytest.raises(RequestError, match=words):
                merge("soup", tmp_path / "out", base=base(), **options)
        with pytest.raises(RequestError, match=words):
            diff(base(), math)
        with pytest.raises(RequestError, match=words):
            TaskVector.from_adapter(math, base())
        rewritten(math, lambda found, name=name, before=before: found.__setitem__(name, before[:-4]))
        with pytest.raises(RequestError, match=words):
            merge("soup", tmp_path / "out", experts=[math, language], base=base())
        rewritten(math, lambda found, name=name, before=before: found.__setitem__(name, before))
    with pytest.raises(RequestError, match="say the base, so that it can be seen"):
        merge("soup", tmp_path / "out", experts=[math, language])
    assert not (tmp_path / "out").exists() and not leftovers(tmp_path)
    merge("soup", tmp_path / "out", experts=[math, language], base=base())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_copy_may_be_the_base_s_in_another_dtype(base, pair, tmp_path, dtype):
    adapters = [saved(base(), tmp_path / str(i), TARGETS[2], i, dtype) for i in range(2)]
    assert {t.dtype for n, t in tensors(adapters[0]).items() if "base_layer" in n} == {dtype}
    merge("soup", tmp_path / "out", experts=adapters, base=base())
    rewritten(adapters[0], lambda found: found[COPY.format("lm_head")].view(-1)[5].mul_(1.5))
    with pytest.raises(RequestError, match=r"'lm_head.weight' differs from that of the base"):
        merge("soup", tmp_path / "again", experts=adapters, base=base())


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_adapters_of_a_base_that_ties_its_head(base, pair, tmp_path, targets):
    """Merged into a checkpoint the one update would reach both; as an adapter it does what it did."""
    adapters = pair(targets, "gemma3")
    with pytest.raises(
        RequestError, match="ties its head to the embedding: in a checkpoint the change would reach both"
    ):
        merge("soup", tmp_path / "out", experts=adapters, base=base("gemma3"), as_checkpoint=True)
    with pytest.raises(RequestError, match="ties its head to the embedding"):
        TaskVector.from_adapter(adapters[0], base("gemma3"))  # in memory it would be another model as well
    merge("task-arithmetic", tmp_path / "out", experts=adapters, weights=[1, 0], base=base("gemma3"))
    ids = torch.arange(3, 60, 3).view(1, -1)
    with torch.no_grad():
        models = (
            PeftModel.from_pretrained(model_of(base("gemma3")), one).eval() for one in (tmp_path / "out", adapters[0])
        )
        found, wanted = (model(ids).logits for model in models)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_an_adapter_s_whole_head_is_no_copy(base, tmp_path):
    folder = lora(base(), tmp_path / "adapter")
    save_file(
        tensors(folder) | {"base_model.model.lm_head.weight": torch.ones(260, 32)}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(RequestError, match="more than plain LoRA pairs"):
        TaskVector.from_adapter(folder, base())


def test_a_base_that_ties_its_head_and_stores_it_ties_it(base, pair, tmp_path):
    stored = shutil.copytree(base("gemma3"), tmp_path / "stored")
    rewritten(stored, lambda found: found.update({HEAD: found[EMBEDDING].clone()}))
    reconfigured(stored, tie_word_embeddings=True)
    with pytest.raises(RequestError, match="ties its head to the embedding"):
        TaskVector.from_adapter(pair(TARGETS[1], "gemma3")[0], stored)
