"""Where two models differ: what a plain loop over loaded tensors finds, of checkpoints and of adapters."""

import math
import shutil

import pandas as pd
import pytest
import torch
from experts import DEPTH, lora, rewritten, tensors, trio_finder, wrapper
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import xlnb
from xlnb.checkpoints import streaming
from xlnb.checkpoints.differences import diff
from xlnb.checkpoints.verbs import merge
from xlnb.commands import cli
from xlnb.errors import RequestError
from xlnb.weights.partitions import named_partition
from xlnb.weights.sites import locate_all
from xlnb.weights.task_vectors import TaskVector

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    return trio_finder(tmp_path_factory.mktemp("trios"), torch.float32)("llama")


@pytest.fixture(scope="module")
def adapters(trio, tmp_path_factory):
    """Two adapters of the base, of different ranks, on some of the projections."""
    home, folders = tmp_path_factory.mktemp("adapters"), []
    for i, modules in enumerate((["q_proj", "up_proj"], ["q_proj", "up_proj", "down_proj"])):
        torch.manual_seed(i)
        config = LoraConfig(r=2 + i, lora_alpha=3, target_modules=modules, init_lora_weights=False)
        folders.append(home / str(i))
        get_peft_model(AutoModelForCausalLM.from_pretrained(trio.base), config).save_pretrained(folders[-1])
    return folders


def stored(folder):
    return {name: t.double() for path in folder.glob("*.safetensors") for name, t in load_file(path).items()}


def plainly(a, b):
    """Relative change and cosine by (layer, block), from whole tensors."""
    sites = locate_all(list(a)).of
    groups = {}
    for name in a.keys() & b.keys():
        groups.setdefault((sites[name].layer, sites[name].block), []).append(name)
    found = {}
    for key, names in groups.items():
        one, other = (torch.cat([tensors[name].double().flatten() for name in sorted(names)]) for tensors in (a, b))
        cosine = torch.nn.functional.cosine_similarity(one, other, dim=0).item()
        found[key] = ((other - one).norm() / one.norm()).item(), cosine, len(one)
    return found


def check(found, expected):
    table = found.table
    assert len(table) == len(expected)
    for row in table.itertuples():
        layer = None if row.layer is None or pd.isna(row.layer) else int(row.layer)
        change, cosine, count = expected[layer, row.block]
        assert row.change == pytest.approx(change, rel=1e-5, abs=1e-12)
        assert row.cosine == pytest.approx(cosine, abs=1e-7)  # sums of float32
        assert row.parameters == count


def test_two_checkpoints(trio):
    check(diff(trio.math, trio.language), plainly(stored(trio.math), stored(trio.language)))


def test_a_model_and_itself(trio):
    table = diff(trio.base, trio.base).table
    assert (table["change"] == 0).all() and table["cosine"].tolist() == pytest.approx([1.0] * len(table))


def test_an_adapter_and_its_base(trio, adapters):
    base, update = stored(trio.base), TaskVector.from_adapter(adapters[0])
    adapted = {name: tensor + (update[name].double() if name in update else 0) for name, tensor in base.items()}
    check(diff(trio.base, adapters[0]), plainly(base, adapted))
    check(diff(adapters[0], trio.base), plainly(adapted, base))


def test_two_adapters_by_their_updates_or_on_a_base(trio, adapters):
    one, two = ({name: v[name].double() for name in v} for v in map(TaskVector.from_adapter, adapters))
    check(diff(*adapters), plainly(one, {name: two[name] for name in one}))
    base = stored(trio.base)
    check(diff(*adapters, base=trio.base), plainly(*({n: base[n] + v.get(n, 0) for n in base} for v in (one, two))))


def test_what_one_of_them_has_alone_is_told(trio, adapters, miniature, tmp_path):
    """Two architectures share many names: what they share would pass for all of both."""
    there, other = (stored(folder) for folder in (trio.base, miniature("qwen2")))
    alone = [name for name in other if name not in there]
    said = f"{len(alone)} tensors are in one of them only ({alone[0]}, ...) and are not compared"
    assert alone and not there.keys() - other.keys()
    assert diff(trio.base, miniature("qwen2")).title.splitlines()[1:] == [said]
    assert diff(miniature("qwen2"), trio.base).title.splitlines()[1:] == [said]
    down = "model.layers.0.mlp.down_proj.weight"
    assert diff(*adapters).title.endswith(f"{DEPTH} tensors are in one of them only ({down}, ...) and are not compared")
    lacking = shutil.copytree(trio.math, tmp_path / "lacking")
    rewritten(lacking, lambda tensors: tensors.pop(down))
    assert diff(lacking, trio.base).title.endswith(f"1 tensor is in one of them only ({down}) and is not compared")


def test_what_both_have_is_all_of_it(trio, adapters):
    everything = (trio.base, trio.math), (trio.base, adapters[0]), (adapters[1], trio.base)
    assert not [pair for pair in everything if "only" in diff(*pair).title]
    assert "only" not in diff(*adapters, base=trio.base).title


def test_updates_in_chunks_are_the_updates(adapters, monkeypatch):
    whole = diff(*adapters).table
    monkeypatch.setattr(streaming, "_CHUNK", 100)
    pd.testing.assert_frame_equal(diff(*adapters).table, whole, rtol=1e-6)


def test_an_adapter_that_changes_nothing_somewhere(adapters, tmp_path):
    """There the other's change is infinitely larger; it prints and is drawn all the same."""
    still = shutil.copytree(adapters[0], tmp_path / "still")
    rewritten(still, lambda found: [t.zero_() for name, t in found.items() if "layers.2." in name and "lora_B" in name])
    found = diff(still, adapters[1])
    there = found.table[found.table["layer"] == 2]
    assert there["change"].tolist() == [math.inf] * len(there) and len(there) == 2
    line = next(line for line in str(found).splitlines() if line.split()[:1] == ["2"])
    assert line.count("inf █") == 2
    found.picture()


def test_a_partition_of_adapters_that_pick_layers_needs_the_base(trio, tmp_path):
    adapters = [lora(trio.base, tmp_path / str(i), i, layers_to_transform=[0, 1]) for i in range(2)]
    with pytest.raises(RequestError, match="does not tell how many there are: say --base"):
        diff(*adapters, partition="C")
    owners = diff(*adapters, base=trio.base, partition="C").table.set_index("layer")["math"]
    assert owners.loc[0].eq(0).all() and len(diff(*adapters).table) == 4


def test_a_partition_says_whose_a_layer_is(trio):
    table = diff(trio.base, trio.math, partition="A").table
    partition = named_partition("A", DEPTH)
    for row in table[table["layer"].notna() & (table["block"] != "norm")].itertuples():
        assert row.math == (partition.ffn if row.block == "ffn" else partition.attention)[int(row.layer)]
    assert diff(trio.base, trio.math, partition="C").table.query("layer == 0")["math"].eq(0).all()


def test_what_it_prints_and_draws(trio, tmp_path, capsys):
    figure = tmp_path / "where.png"
    arguments = ["diff", str(trio.base), str(trio.math), "--partition", "C", "--figure", str(figure)]
    assert cli.exit_code(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [line[0] for line in told] == [str(layer) for layer in range(DEPTH)]
    assert told[0][-1] == "language" and told[4][-1] == "math"
    assert figure.stat().st_size > 1000
    assert cli.exit_code(arguments) == 2 and "does not exist yet" in capsys.readouterr().err
    assert xlnb.diff is diff
    assert math.isfinite(diff(trio.base, trio.math).table["change"].max())


def test_an_adapter_of_a_wrapper_changes_what_its_files_call_otherwise(tmp_path):
    """A model that sees is saved as language_model.model.layers, and loaded as model.language_model.layers."""
    base = wrapper(tmp_path / "base")
    one, two = (lora(base, tmp_path / str(i), i, target_modules=r".*language_model.*(q|down)_proj") for i in range(2))
    update, before = TaskVector.from_adapter(one, base), tensors(base)
    assert not any(name in before for name in update)
    table = diff(base, one).table.set_index(["layer", "block"])
    assert table.loc[(3, "ffn"), "change"] == pytest.approx(_moved(update, before, 3), rel=1e-5)
    for keeping in ({}, {"as_checkpoint": True}):
        merge("soup", out := tmp_path / f"out{len(keeping)}", experts=[one, two], base=base, **keeping)
        assert diff(base, out).table["change"].max() > 0.01
    pd.testing.assert_frame_equal(*(diff(base, tmp_path / f"out{i}").table for i in range(2)), rtol=1e-4)


def _moved(update, before, layer):
    """How far the FFN of a layer of a wrapper moved, as a share of what is there."""
    change = update[f"model.language_model.layers.{layer}.mlp.down_proj.weight"].square().sum()
    own = [before[f"language_model.model.layers.{layer}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down")]
    return float((change / sum(one.square().sum() for one in own)) ** 0.5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (".layers.7.", ".layers.11.", r"adapts 'model\.layers\.11\..* has no such parameter\. Give the base"),
        (
            "model.model.layers",
            "model.layers",
            r"adapts 'layers\.0\..* has no such parameter",
        ),  # of the model without a head
    ],
)
def test_an_adapter_of_another_model_is_not_compared(trio, adapters, tmp_path, old, new, said):
    alien = shutil.copytree(adapters[0], tmp_path / "alien")
    rewritten(alien, lambda found: [found.update({n.replace(old, new): found.pop(n)}) for n in [*found] if old in n])
    for arguments in ((trio.base, alien), (alien, trio.base)):
        with pytest.raises(RequestError, match=said):
            diff(*arguments)
    with pytest.raises(RequestError, match=said):
        diff(adapters[1], alien, base=trio.base)
    with pytest.raises(RequestError, match=said):
        TaskVector.from_adapter(alien, trio.base)


def test_an_adapter_of_a_wider_model_is_not_compared(trio, adapters, tmp_path):
    wide = shutil.copytree(adapters[0], tmp_path / "wide")
    rewritten(wide, lambda found: found.update({n: t.repeat(1, 2) for n, t in found.items() if "lora_A" in n}))
    for call in (lambda: diff(trio.base, wide), lambda: TaskVector.from_adapter(wide, trio.base)):
        with pytest.raises(RequestError, match=r"adapts .* of shape \[\d+, \d+\], but the base .* has it in shape \["):
            call()


def test_what_cannot_be_compared(trio, adapters, miniature, tmp_path):
    other = AutoModelForCausalLM.from_pretrained(miniature("llama"))
    other.resize_token_embeddings(300)
    other.save_pretrained(tmp_path / "wider")
    with pytest.raises(RequestError, match="they are no models of one base"):
        diff(trio.base, tmp_path / "wider")
    with pytest.raises(RequestError, match="There is no folder"):
        diff(trio.base, tmp_path / "nowhere")
