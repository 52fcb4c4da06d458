"""The commands `xlnb merge`, `xlnb revert`, `xlnb partition` and `xlnb export`: only options and words, no work."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from xlnb.errors import RequestError
from xlnb.weights.kernels import MERGES, Merge

_SETTINGS: dict[str, Any] = {"rich_markup_mode": None}
merge_app = typer.Typer(help="Merge experts from disk to disk; inputs are never changed.", **_SETTINGS)
partition_app = typer.Typer(help="Look at partitions: who owns which layers.", **_SETTINGS)
export_app = typer.Typer(help="Write a merge as another tool's configuration.", **_SETTINGS)

Out = Annotated[Path, typer.Option(help="Where to write; it must not exist, or be empty.")]
Base = Annotated[Path | None, typer.Option(help="The base model's folder.")]
Math = Annotated[Path, typer.Option(help="The math expert: a checkpoint or adapter folder.")]
Language = Annotated[Path, typer.Option(help="The language expert: a checkpoint or adapter folder.")]
PartitionName = Annotated[
    str | None,
    typer.Option(
        help="A, B, C, predecessor, 'half and half', 'complement of C', 'random 0 of C', ..., or a YAML file. [default: C]"
    ),
]
Bottom = Annotated[int | None, typer.Option(help="How many of the first layers the language gets.")]
Top = Annotated[int | None, typer.Option(help="How many of the last layers the language gets.")]
Transition = Annotated[int | None, typer.Option(help="How many layers inside these are shared, on each side.")]
Embeddings = Annotated[
    str | None, typer.Option(help="Whose embeddings, final norm and head: base, math or language. [default: base]")
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. [default: as the inputs have it]")]
AsCheckpoint = Annotated[
    bool, typer.Option("--checkpoint", help="Write a full checkpoint even where adapters suffice.")
]
SameBase = Annotated[bool, typer.Option("--same-base", help="The adapters' bases are one, though their names differ.")]
Experts = Annotated[
    list[str], typer.Option("--expert", metavar="DIR[:WEIGHT]", help="An expert and its weight; say it twice or more.")
]
TwoExperts = Annotated[list[str], typer.Option("--expert", metavar="DIR", help="An expert; say it twice.")]
Density = Annotated[float | None, typer.Option(help="The share of each update that is kept.")]
Seed = Annotated[int, typer.Option(help="Decides what is dropped.")]
T = Annotated[float, typer.Option("--t", help="0 is the first expert, 1 the second.")]

Save = Annotated[Path | None, typer.Option(help="Write the partition to this YAML file as well.")]
File = Annotated[Path | None, typer.Option(help="The file to write; printed where none is said.")]

COUNTS = {"bottom": (Bottom, None), "top": (Top, None), "transition": (Transition, None)}
CHOICE = {"partition": (PartitionName, None), **COUNTS, "embeddings": (Embeddings, None)}
OUTPUT = {"dtype": (Dtype, None), "as_checkpoint": (AsCheckpoint, False)}
ONE_BASE = {"same_base": (SameBase, False)}
ALIKE = {
    "expert": (Experts, Parameter.empty),
    "out": (Out, Parameter.empty),
    "base": (Base, None),
    "density": (Density, None),
    "seed": (Seed, 0),
    "t": (T, 0.5),
    **OUTPUT,
    **ONE_BASE,
}


def _with_options(options: dict[str, tuple[Any, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command's ``**options`` these names, types and defaults, as typer wants to see them."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command, eval_str=True).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        more = [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in options.items()
        ]
        command.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
        return command

    return decorated


@merge_app.command("layer-swapping")
@_with_options(CHOICE | OUTPUT | ONE_BASE)
def _layer_swapping(math: Math, language: Language, out: Out, base: Base = None, **options: Any) -> None:
    """Take each layer from the expert who owns it.

    By partition C the outer layers come from the language expert, the middle from the math expert. Without --base the
    experts' embeddings, final norm and head must be equal, or --embeddings says whose to take.
    """
    from xlnb.checkpoints.verbs import merge

    print(merge("layer-swapping", out, math=math, language=language, base=base, **options))


def _alike(asked: Merge) -> Callable[..., None]:
    """Return the command of a merge that treats all parameters alike."""
    takes = {"density": asked.density, "seed": asked.seed, "t": asked.t, "as_checkpoint": asked.linear}
    shown = {name: option for name, option in ALIKE.items() if takes.get(name, True)}
    if asked.pair:
        shown["expert"] = (TwoExperts, Parameter.empty)

    @_with_options(shown)
    def command(**options: Any) -> None:
        from xlnb.checkpoints.verbs import merge

        folders, weights = zip(*(split_weight(text) for text in options.pop("expert")), strict=True)
        print(merge(asked.slug, experts=folders, weights=weights, **options))

    command.__doc__ = asked.kernel.__doc__
    return command


for _asked in MERGES.values():
    if not _asked.by_partition:
        merge_app.command(_asked.slug)(_alike(_asked))


def split_weight(text: str) -> tuple[str, float | None]:
    """Return the folder and the weight of DIR:WEIGHT; a folder of that very name comes first.

    >>> split_weight("experts/math:0.3"), split_weight("experts/math")
    (('experts/math', 0.3), ('experts/math', None))
    """
    folder, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, None
    try:
        return folder, float(weight)
    except ValueError:
        raise RequestError(f"An expert is written DIR or DIR:WEIGHT with a number, not {text!r}.") from None


@_with_options(CHOICE | OUTPUT)
def revert_command(
    base: Annotated[Path, typer.Option(help="The base model's folder.")],
    expert: Annotated[Path, typer.Option(help="A checkpoint or adapter folder.")],
    keep: Annotated[str, typer.Option(help="Whose share of the update stays: math or language.")],
    out: Out,
    **options: Any,
) -> None:
    """Keep an expert's update on the share that one side owns; all else goes back to the base."""
    from xlnb.checkpoints.verbs import revert

    print(revert(base, expert, keep, out, **options))


@partition_app.command("show")
@_with_options(COUNTS | {"save": (Save, None)})
def _show(
    model: Annotated[str, typer.Option(help="A checkpoint folder, or a model's name on the Hugging Face hub.")],
    partition: Annotated[str | None, typer.Argument(help="A name or a YAML file. [default: C]")] = None,
    **options: Any,
) -> None:
    """Draw a partition of a model and count the parameters that each side owns."""
    from xlnb.weights.ownership import partition as ownership

    save = options.pop("save")
    if save and (save.exists() or save.suffix not in (".yaml", ".yml")):
        raise RequestError(f"--save {save}: give a .yaml file that does not exist yet.")
    found = ownership(partition, model, **options)
    print(found)
    if save:
        print(f"\nWritten to {found.partition.to_yaml(save)}")


@partition_app.command("list")
def _list() -> None:
    """List the partitions that have names."""
    from xlnb.weights.partitions import NAMES

    print(
        "\n".join(
            [*NAMES, "or a YAML file: `xlnb partition show C --model DIR --save mine.yaml` writes one to start from"]
        )
    )


@export_app.command("mergekit")
@_with_options(CHOICE | {"out": (File, None)})
def _mergekit(math: Math, language: Language, base: Base = None, **options: Any) -> None:
    """Write a mergekit configuration that gives the same tensors as `xlnb merge layer-swapping`."""
    from xlnb.artifacts import whole_file
    from xlnb.checkpoints.exporting import export_mergekit

    out = options.pop("out")
    text = export_mergekit(math, language, base, **options)
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise RequestError(f"--out {out} exists already: give a file that does not.")
    with whole_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)
