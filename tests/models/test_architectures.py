"""The public shapes: their sizes are the published ones, and every parameter is located by name."""

import pytest

from xlnb.errors import RequestError
from xlnb.models.architectures import ARCHITECTURES, ownership_table, parameter_sizes, sites_table
from xlnb.weights.sites import locate_all

# Numbers of parameters as the model cards and the hub tell them.
PUBLISHED = {
    "Llama-3.1-8B": 8_030_261_248,
    "Falcon3-7B": 7_455_550_464,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen3-8B": 8_190_735_360,
    "Aya-Expanse-8B": 8_028_033_024,
    "Gemma-3-270M": 268_098_176,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shapes_give_the_published_number_of_parameters(name):
    assert sum(parameter_sizes(name).values()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_is_located_by_name(name):
    sites = locate_all(parameter_sizes(name))
    assert (sites.by, sites.depth) == ("name", ARCHITECTURES[name].settings["num_hidden_layers"])


def test_the_table_of_sites_counts_every_parameter_but_the_norms():
    table = sites_table().set_index("model")
    for name, total in PUBLISHED.items():
        row = table.loc[name]
        counted = 1e6 * (row["attention (M)"] + row["FFN (M)"] + row["outside (M)"])
        assert 0 <= total - counted < 2e6  # the norms inside the layers
    assert table.loc["Qwen3-8B", "attention"].endswith("q_norm, k_norm")
    assert table.loc["Aya-Expanse-8B", "norms"] == "input"


def test_ownership_by_hand():
    table = ownership_table(["C", "A", "complement of C"])
    assert table.loc["Llama-3.1-8B", "C"] == pytest.approx(100 * 8 / 32)
    assert table.loc["Qwen2.5-7B", "C"] == pytest.approx(100 * 8 / 28)
    assert table.loc["Gemma-3-270M", "C"] == pytest.approx(100 * 4 / 18)
    assert (table["C"] + table["complement of C"]).tolist() == pytest.approx([100] * len(ARCHITECTURES))
    llama = parameter_sizes("Llama-3.1-8B")
    attention = sum(n for name, n in llama.items() if "self_attn" in name or "layernorm" in name)
    inside = sum(n for name, n in llama.items() if ".layers." in name)
    assert table.loc["Llama-3.1-8B", "A"] == pytest.approx(100 * attention / inside)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(RequestError, match=r"No architecture 'GPT-9': choose one of Llama-3.1-8B"):
        parameter_sizes("GPT-9")
