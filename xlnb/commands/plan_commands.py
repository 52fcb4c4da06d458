"""The command `xlnb plan`: what a study of large models takes, before a byte is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xlnb.commands.options import Languages, Paradigms
from xlnb.errors import RequestError

if TYPE_CHECKING:
    from xlnb.studies.planning import Assumed, Plan, Work

FORMULAS = """\
by formula (xlnb/models/memory.py; checked in tests against bytes counted on miniatures):
  parameters   from the model's layers, widths and vocabulary
  weights      4 bytes a parameter (float32; forward passes are bf16 autocast)
  gradients    4, moments 8 bytes a trained parameter (adamw-8bit: 2.03); over several GPUs these and the weights are divided
               (FSDP; not measured), and what lies outside the layers, two layers and one layer's gradients are whole on each
  activations  bytes saved a token and layer by the kind of model, and 2 bytes a weight for its bf16 copy; with checkpointing a
               layer's input, and one layer's activations
  logits       12 bytes an entry: a row of the vocabulary for each token that is learned, all of the longest rows here
  tokens       examples x streams x tokens an example
  hours        FLOPs / (dense bf16 peak x utilisation); checkpointing costs a third more
  disk         files of the model, experts, one resumable training; a language's experts are dropped after its scores"""


def plan_command(
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FOLDER", help="May be repeated. [default: the paper's four]")
    ] = None,
    profile: Annotated[str, typer.Option(help="paper, or paper-8bit.")] = "paper",
    languages: Languages = "sw,bn,te",
    paradigms: Paradigms = "lora,full",
    experiment: Annotated[str, typer.Option(help="What is compared: paper, methods, real, ...")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="How many: a number, no list.")] = 1,
    card: Annotated[str, typer.Option(help="RTX-4090, L40S, A100-40, A100-80, H100 or H200.")] = "H100",
    gpus: Annotated[int, typer.Option(help="That share one training.")] = 1,
    micro_batch: Annotated[
        int | None, typer.Option(help="Examples computed together on a GPU. [default: the profile's]")
    ] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing", help="Compute activations again. [default: as the profile does]"
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw, or adamw-8bit, on one GPU. [default: the profile's]")
    ] = None,
    length: Annotated[int | None, typer.Option(help="Tokens of the longest example. [default: the profile's]")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an example, on average (assumed).")] = 400,
    utilisation: Annotated[float, typer.Option(help="Share of the card's peak in training (assumed).")] = 0.35,
    price: Annotated[float, typer.Option(min=0, help="Of a GPU-hour, for a cost.")] = 0.0,
    setting: Annotated[
        bool, typer.Option("--setting", help="Print the paper's setting, and how well it is known.")
    ] = False,
) -> None:
    """Tell memory, disk, tokens, hours and cost of a study at the paper's scale; refuse what cannot fit, and say what would."""
    from xlnb.errors import known
    from xlnb.languages import LANGUAGE_NAMES
    from xlnb.studies.experiments import named_experiment
    from xlnb.studies.paper import MODELS, paper_table
    from xlnb.studies.planning import Assumed, plan, refusal, setup_of, shape_for, work
    from xlnb.studies.profiles import PAPER_PROFILES

    if setting:
        print(paper_table().to_string(index=False))
        return
    known("profile", profile, PAPER_PROFILES)
    if not 0 < utilisation <= 1:
        raise RequestError(f"--utilisation is a share of the card's peak, above 0 and at most 1, not {utilisation}.")
    codes = [known("language", code, [c for c in LANGUAGE_NAMES if c != "en"]) for code in languages.split(",")]
    assumed = Assumed(tokens=tokens, utilisation=utilisation)
    todo = work(named_experiment(experiment), codes, seeds)
    said = {"micro_batch": micro_batch, "checkpointing": checkpointing, "length": length, "optimizer": optimizer}
    said = {name: value for name, value in said.items() if value is not None}
    setups = [setup_of(profile, paradigm, card, gpus=gpus, **said) for paradigm in paradigms.split(",")]
    shapes = {name: shape_for(name) for name in model or MODELS}
    plans = [plan(name, shape, setup, todo, seeds, assumed) for name, shape in shapes.items() for setup in setups]
    print(
        "\n\n".join(
            (
                _table(plans, assumed, price),
                _sums(plans, codes, assumed, price),
                _order(todo),
                FORMULAS,
                _assumed(assumed),
            )
        )
    )
    if told := refusal(plans, assumed):
        raise RequestError(told)


def _table(plans: Sequence[Plan], assumed: Assumed, price: float) -> str:
    """Return a row a model and paradigm."""
    gib, gb = 2**30, 1e9
    head = [
        "model", "paradigm", "G parameters", "weights", "gradients", "moments", "activations", "logits", "GiB a GPU", "answering",
        "fits", "experts", "GB each", "disk GB", "all kept", "M tokens", "GPU-hours", *(["cost"] * (price > 0)),
    ]  # fmt: skip
    rows = [head]
    for one in plans:
        parts = vars(one.memory).values()
        rows.append([
            one.model, one.setup.paradigm, f"{one.shape.parameters / 1e9:.2f}", *(f"{part / gib:.1f}" for part in parts),
            f"{one.memory.total / gib:.1f}", f"{one.answering / gib:.1f}", "yes" if one.fits(assumed) else "NO",
            f"{one.experts}", f"{one.expert_bytes / gb:.1f}", f"{one.disk_peak / gb:.0f}", f"{one.disk_kept / gb:.0f}",
            f"{one.tokens / 1e6:.0f}", f"{one.hours:.1f}", *([f"{one.hours * price:,.0f}"] * (price > 0)),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            f"{cell:>{width}}" if i else f"{cell:{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    told = plans[0].setup
    return "\n".join(
        [f"memory on each of {told.gpus} x {told.card}, micro-batch {told.micro_batch} of {told.length} tokens", *lines]
    )


def _sums(plans: Sequence[Plan], languages: Sequence[str], assumed: Assumed, price: float) -> str:
    """Return what all rows take together."""
    from xlnb.studies.paper import LANGUAGE_CORPORA, MATH_CORPUS

    models = {one.model: one.download for one in plans}
    corpora = {MATH_CORPUS} | {name for code in languages for name in LANGUAGE_CORPORA.get(code, (f"one in {code}",))}
    hours = sum(one.hours for one in plans)
    cost = f", {hours * price:,.0f} at {price:g} a GPU-hour" if price else ""
    return (
        f"together: {sum(models.values()) / 1e9:.0f} GB of models to download, and {len(corpora)} data sets of about "
        f"{assumed.corpus:g} GB each (assumed); {hours:.0f} GPU-hours ({sum(one.answering_hours for one in plans):.0f} of them "
        f"answering){cost}; {hours / plans[0].setup.gpus:.0f} hours one after the other"
    )


def _order(todo: Work) -> str:
    """Return the cheapest order: what all languages share first, then language by language."""
    homes: dict[str, list[str]] = {}
    for slug, _, home in todo.experts:
        homes.setdefault(home, []).append(slug)
    lines = [
        "the cheapest order, for each model and paradigm (merges are made in memory, when they are asked, and not kept):"
    ]
    for home, slugs in homes.items():
        what = f"{home}, then its scores, then drop its experts" if home else "for all languages"
        lines.append(f"  {', '.join(slugs)}: {what}")
    return "\n".join(lines)


def _assumed(assumed: Assumed) -> str:
    """Return what no formula gives."""
    return (
        f"assumed:\n  training: {assumed.utilisation:g} of the card's peak (--utilisation), {assumed.tokens} tokens an example "
        f"(--tokens), {assumed.learned:.0%} of them learned\n"
        f"  answering: {assumed.rows} problems at once of {assumed.shown} tokens, {assumed.answered} steps a batch, a step "
        f"{1000 * assumed.step:.0f} ms or the time to read the weights\n"
        f"  {assumed.reserve:.0%} of a card is kept free; peaks and bandwidths are the makers'; over several GPUs weights are "
        "sharded (`xlnb train --processes`; never run on GPUs)"
    )
