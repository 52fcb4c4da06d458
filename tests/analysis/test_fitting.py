"""Partitions from measurement: planted answers are found, on every measure, and written where merges read them."""

import shutil

import pandas as pd
import pytest
import torch
from experts import decoder, lora, rewritten, wrapper

from xlnb.analysis import fitting
from xlnb.analysis.fitting import MEASURES, Fit, fit_partition, partition_of
from xlnb.commands.cli import exit_code
from xlnb.errors import RequestError
from xlnb.models.base import load_base
from xlnb.weights.partitions import read_partition

FEW = {"samples": 6}


def planted(folder, base, layers, seed):
    """An expert's checkpoint in which a few layers moved far and all others a little."""
    generator = torch.Generator().manual_seed(seed)
    loaded = load_base(base)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "_proj" in name:
                far = int(name.split("layers.")[1].split(".")[0]) in layers
                parameter += (0.02 if far else 0.0005) * torch.randn(parameter.shape, generator=generator)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def experts(miniature, tmp_path_factory):
    home = tmp_path_factory.mktemp("experts")
    base = miniature("llama")
    return base, planted(home / "math", base, {2, 3, 4, 5}, 1), planted(home / "language", base, {0, 1, 6, 7}, 2)


def test_the_layers_that_moved_are_given_to_whom_they_moved_for(experts):
    found, scores = fit_partition(experts[0], Fit("change"), *experts[1:])
    assert str(found) == "by change: LLMMMMLL"
    assert len(scores) == 2 * 8 * 2 and set(scores["side"]) == {"math", "language"}


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_makes_a_partition_that_a_merge_takes(measure, experts, tmp_path):
    base, math, language = experts
    out, merged = tmp_path / "mine.yaml", tmp_path / "merged"
    of_experts = ["--math", str(math), "--language", str(language)] if measure in ("change", "ablation") else []
    asked = ["--measure", measure, "--base", str(base), "--out", str(out), "--samples", "4", "--budget", "0.5"]
    assert exit_code(["partition", "fit", *asked, *of_experts]) == 0
    partition = read_partition(out)
    assert partition.depth == 8 and sorted(partition.attention) == [0.0] * 4 + [1.0] * 4
    both = ["--math", str(math), "--language", str(language), "--base", str(base), "--partition", str(out)]
    assert exit_code(["merge", "layer-swapping", *both, "--out", str(merged)]) == 0
    middle = next(layer for layer, share in enumerate(partition.attention) if share == 1)
    name = f"model.layers.{middle}.mlp.up_proj.weight"
    assert torch.equal(load_base(merged).model.state_dict()[name], load_base(math).model.state_dict()[name])


def test_blocks_apart_and_the_same_again(experts):
    base = experts[0]
    first, second = (fit_partition(base, Fit(by_block=True, blend=0.02, **FEW))[0] for _ in range(2))
    assert first == second and first.depth == 8


def test_what_cannot_be_fitted(experts, tmp_path, capsys):
    base, math, _ = experts
    with pytest.raises(RequestError, match="change looks at experts"):
        fit_partition(base, Fit("change"), math)
    with pytest.raises(RequestError, match="fisher looks at the base alone"):
        fit_partition(base, Fit(), math, math)
    with pytest.raises(RequestError, match="prose has no 'en'"):
        Fit(math="prose")
    with pytest.raises(RequestError, match="choose language data"):
        Fit(language="templates")
    with pytest.raises(RequestError, match="measure"):
        Fit("magnitude")
    with pytest.raises(RequestError, match="blend is 2"):
        Fit(blend=2)
    with pytest.raises(RequestError, match=r"budget is 1\.5"):
        Fit(budget=1.5)
    taken = tmp_path / "taken.yaml"
    taken.write_text("x")
    assert exit_code(["partition", "fit", "--base", str(base), "--out", str(taken)]) == 2
    assert "taken.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("measure", ["fisher", "taylor"])
@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe", "Qwen2Moe", "GPT2"])
def test_a_model_of_which_a_measure_sees_parts_only_gives_no_partition(tmp_path, kind, measure):
    with pytest.raises(RequestError, match=r"belongs to no linear module.*would not see it\. Choose another measure"):
        fit_partition(decoder(tmp_path / kind, kind), Fit(measure, **FEW))


@pytest.mark.parametrize("measure", ["change", "ablation"])
def test_experts_whose_files_name_parameters_otherwise_give_no_partition(tmp_path, measure):
    base = decoder(tmp_path / "base", "Mixtral")  # its experts are many matrices in a file, and one where it is loaded
    other = shutil.copytree(base, tmp_path / "other")
    rewritten(other, lambda found: [tensor.mul_(1.1) for tensor in found.values()])
    with pytest.raises(
        RequestError, match=r"The model has no parameter .*experts.*\(52 such\).* name parameters otherwise"
    ):
        fit_partition(base, Fit(measure, **FEW), other, other)


@pytest.mark.parametrize("measure", ["change", "ablation"])
@pytest.mark.parametrize("setting", [{"depth": 12}, {"hidden_size": 64}], ids=["deeper", "wider"])
def test_an_adapter_of_another_model_gives_no_partition(experts, tmp_path, measure, setting):
    alien = lora(
        wrapper(tmp_path / "wrapper", **setting), tmp_path / "alien", target_modules=r".*language_model.*q_proj"
    )
    rewritten(alien, lambda found: [found.update({n.replace("language_model.", ""): found.pop(n)}) for n in [*found]])
    with pytest.raises(RequestError, match=r"alien adapts .* but the base .* has (no such|it in shape)"):
        fit_partition(experts[0], Fit(measure, **FEW), experts[1], alien)


@pytest.mark.parametrize("side", ["math", "language"])
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_gives_no_partition(side, score):
    rows = [
        (one, layer, block, 1.0) for one in ("math", "language") for layer in range(2) for block in ("attention", "ffn")
    ]
    scores = pd.DataFrame(rows, columns=["side", "layer", "block", "score"])
    scores.loc[(scores["side"] == side) & (scores["layer"] == 1) & (scores["block"] == "ffn"), "score"] = score
    with pytest.raises(RequestError, match=rf"The {side} score of layer 1 \(ffn\) is {score}"):
        partition_of(scores, 2, "mine")


@pytest.mark.parametrize(
    ("place", "where"), [(0, "the whole model"), (-1, r"layer 7 \(ffn\)")], ids=["whole", "reverted"]
)
def test_a_loss_that_is_no_number_gives_no_partition(experts, monkeypatch, place, where):
    def diverged(*arguments):
        found = ablated(*arguments)
        found.loc[found.index[place], "loss"] = float("nan")
        return found

    ablated = fitting.ablated
    monkeypatch.setattr(fitting, "ablated", diverged)
    with pytest.raises(RequestError, match=f"The expert's loss of {where} is nan"):
        fit_partition(experts[0], Fit("ablation", **FEW), *experts[1:])


@pytest.mark.parametrize(
    ("measure", "said"),
    [("fisher", "The model predicts no numbers"), ("taylor", "The taylor score of layer .* is nan")],
)
def test_a_base_that_diverged_gives_no_partition(experts, tmp_path, measure, said):
    broken = shutil.copytree(experts[0], tmp_path / "broken")
    rewritten(broken, lambda found: found["model.layers.7.mlp.up_proj.weight"].fill_(float("nan")))
    with pytest.raises(RequestError, match=said):
        fit_partition(broken, Fit(measure, **FEW))
