"""The commands `xlnb merge`, `xlnb revert`, `xlnb partition` and `xlnb export`: only options and words, no work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlnb.errors import RequestError

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


@merge_app.command("layer-swapping")
def _layer_swapping(
    math: Math,
    language: Language,
    out: Out,
    base: Base = None,
    partition: PartitionName = None,
    bottom: Bottom = None,
    top: Top = None,
    transition: Transition = None,
    embeddings: Embeddings = None,
    dtype: Dtype = None,
    as_checkpoint: AsCheckpoint = False,
    same_base: SameBase = False,
) -> None:
    """Take each layer from the expert who owns it.

    By partition C the outer layers come from the language expert, the middle from the math expert. Without --base the
    experts' embeddings, final norm and head must be equal, or --embeddings says whose to take.
    """
    from xlnb.checkpoints.verbs import merge

    print(merge("layer-swapping", out, math=math, language=language, base=base, partition=partition, bottom=bottom, top=top,
                transition=transition, embeddings=embeddings, dtype=dtype, as_checkpoint=as_checkpoint,
                same_base=same_base))  # fmt: skip


@merge_app.command("soup")
def _soup(
    expert: Experts,
    out: Out,
    base: Base = None,
    dtype: Dtype = None,
    as_checkpoint: AsCheckpoint = False,
    same_base: SameBase = False,
) -> None:
    """Average the experts; weights are shares and are divided by their sum."""
    _merge("soup", expert, out, base, dtype, as_checkpoint, same_base)


@merge_app.command("task-arithmetic")
def _task_arithmetic(
    expert: Experts,
    out: Out,
    base: Base = None,
    dtype: Dtype = None,
    as_checkpoint: AsCheckpoint = False,
    same_base: SameBase = False,
) -> None:
    """Add the experts' updates to the base, each times its weight (1 where none is said)."""
    _merge("task-arithmetic", expert, out, base, dtype, as_checkpoint, same_base)


@merge_app.command("ties")
def _ties(
    expert: Experts,
    out: Out,
    base: Base = None,
    density: Density = None,
    dtype: Dtype = None,
    same_base: SameBase = False,
) -> None:
    """Trim each update to its largest elements (--density, 0.2 where nothing is said), elect signs, average those that agree."""
    _merge("ties", expert, out, base, dtype, False, same_base, density=density)


@merge_app.command("dare")
def _dare(
    expert: Experts,
    out: Out,
    base: Base = None,
    density: Density = None,
    seed: Annotated[int, typer.Option(help="Decides what is dropped.")] = 0,
    dtype: Dtype = None,
    same_base: SameBase = False,
) -> None:
    """Drop elements of each update at random (--density are kept, 0.1 where nothing is said), rescale the rest, add all."""
    _merge("dare", expert, out, base, dtype, False, same_base, density=density, seed=seed)


@merge_app.command("slerp")
def _slerp(
    expert: TwoExperts,
    out: Out,
    base: Base = None,
    t: Annotated[float, typer.Option("--t", help="0 is the first expert, 1 the second.")] = 0.5,
    dtype: Dtype = None,
    same_base: SameBase = False,
) -> None:
    """Interpolate between two experts along the sphere, tensor by tensor."""
    _merge("slerp", expert, out, base, dtype, False, same_base, t=t)


def _merge(
    method: str,
    experts: list[str],
    out: Path,
    base: Path | None,
    dtype: str | None,
    as_checkpoint: bool,
    same_base: bool,
    **options: Any,
) -> None:
    from xlnb.checkpoints.verbs import merge

    folders, weights = zip(*(split_weight(text) for text in experts), strict=True)
    print(merge(method, out, experts=folders, weights=weights, base=base, dtype=dtype, as_checkpoint=as_checkpoint,
                same_base=same_base, **options))  # fmt: skip


def split_weight(text: str) -> tuple[str, float | None]:
    """Return the folder and the weight of DIR:WEIGHT; a folder of that very name comes first.

    >>> split_weight("experts/math:0.3"), split_weight("experts/math")
    (('experts/math', 0.3), ('experts/math', None))

    Raises RequestError where what follows the last colon is no number.
    """
    folder, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, None
    try:
        return folder, float(weight)
    except ValueError:
        raise RequestError(f"An expert is written DIR or DIR:WEIGHT with a number, not {text!r}.") from None


def revert_command(
    base: Annotated[Path, typer.Option(help="The base model's folder.")],
    expert: Annotated[Path, typer.Option(help="A checkpoint or adapter folder.")],
    keep: Annotated[str, typer.Option(help="Whose share of the update stays: math or language.")],
    out: Out,
    partition: PartitionName = None,
    bottom: Bottom = None,
    top: Top = None,
    transition: Transition = None,
    embeddings: Embeddings = None,
    dtype: Dtype = None,
    as_checkpoint: AsCheckpoint = False,
) -> None:
    """Keep an expert's update on the share that one side owns; all else goes back to the base."""
    from xlnb.checkpoints.verbs import revert

    print(revert(base, expert, keep, out, partition=partition, bottom=bottom, top=top, transition=transition,
                 embeddings=embeddings, dtype=dtype, as_checkpoint=as_checkpoint))  # fmt: skip


@partition_app.command("show")
def _show(
    model: Annotated[str, typer.Option(help="A checkpoint folder, or a model's name on the Hugging Face hub.")],
    partition: Annotated[str | None, typer.Argument(help="A name or a YAML file. [default: C]")] = None,
    bottom: Bottom = None,
    top: Top = None,
    transition: Transition = None,
    save: Annotated[Path | None, typer.Option(help="Write the partition to this YAML file as well.")] = None,
) -> None:
    """Draw a partition of a model and count the parameters that each side owns."""
    from xlnb.weights.ownership import partition as ownership

    if save and (save.exists() or save.suffix not in (".yaml", ".yml")):
        raise RequestError(f"--save {save}: give a .yaml file that does not exist yet.")
    found = ownership(partition, model, bottom=bottom, top=top, transition=transition)
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
def _mergekit(
    math: Math,
    language: Language,
    base: Base = None,
    partition: PartitionName = None,
    bottom: Bottom = None,
    top: Top = None,
    transition: Transition = None,
    embeddings: Embeddings = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; printed where none is said.")] = None,
) -> None:
    """Write a mergekit configuration that gives the same tensors as `xlnb merge layer-swapping`."""
    from xlnb.artifacts import whole_file
    from xlnb.checkpoints.exporting import export_mergekit

    text = export_mergekit(math, language, base, partition=partition, bottom=bottom, top=top, transition=transition,
                           embeddings=embeddings)  # fmt: skip
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise RequestError(f"--out {out} exists already: give a file that does not.")
    with whole_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)
