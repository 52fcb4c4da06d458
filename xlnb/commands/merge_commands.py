"""The commands `xlnb merge`, `xlnb revert`, `xlnb partition` and `xlnb export`: only options and words, no work."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer

from xlnb.errors import RequestError
from xlnb.weights.kernels import MERGES, Merge

_SETTINGS: dict[str, Any] = {"rich_markup_mode": None}
merge_app = Typer(help="Merge experts from disk to disk; inputs are never changed.", **_SETTINGS)
partition_app = Typer(help="Look at partitions: who owns which layers.", **_SETTINGS)
export_app = Typer(help="Write a merge as another tool's configuration.", **_SETTINGS)

_FOLDER = "a checkpoint or adapter folder."
_NEEDED = Parameter.empty
# What commands share: type, default, and what typer shows of it.
OPTIONS: dict[str, tuple[Any, Any, Any]] = {
    "math": (Path, _NEEDED, Option(help=f"The math expert: {_FOLDER}")),
    "language": (Path, _NEEDED, Option(help=f"The language expert: {_FOLDER}")),
    "expert": (list[str], _NEEDED, Option(metavar="DIR[:WEIGHT]", help="An expert and its weight; say it twice or more.")),
    "out": (Path, _NEEDED, Option(help="Where to write; it must not exist, or be empty.")),
    "base": (Path | None, None, Option(help="The base model's folder.")),
    "partition": (str | None, None, Option(help="A, B, C, predecessor, 'half and half', 'complement of C', 'random 0 of C', "
                                                "..., or a YAML file. [default: C]")),
    "bottom": (int | None, None, Option(help="How many of the first layers the language gets.")),
    "top": (int | None, None, Option(help="How many of the last layers the language gets.")),
    "transition": (int | None, None, Option(help="How many layers inside these are shared, on each side.")),
    "embeddings": (str | None, None, Option(help="Whose embeddings, final norm and head: base, math or language. "
                                                 "[default: base]")),
    "density": (float | None, None, Option(help="The share of each update that is kept.")),
    "seed": (int, 0, Option(help="Decides what is dropped.")),
    "t": (float, 0.5, Option("--t", help="0 is the first expert, 1 the second.")),
    "dtype": (str | None, None, Option(help="float32, bfloat16 or float16. [default: as the inputs have it]")),
    "as_checkpoint": (bool, False, Option("--checkpoint", help="Write a full checkpoint even where adapters suffice.")),
    "same_base": (bool, False, Option("--same-base", help="The adapters' bases are one, though their names differ.")),
    "trust_configs": (bool, False, Option("--trust-configs", help="The models are one, though their configs differ.")),
}  # fmt: skip
COUNTS = ("bottom", "top", "transition")
CHOICE = ("partition", *COUNTS, "embeddings")


def _takes(*names: str, **own: tuple[Any, Any, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command's ``**options`` these shared options, and some of its own, as typer wants to see them."""
    chosen = {name: OPTIONS[name] for name in names} | own
    more = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
        for name, (kind, default, option) in chosen.items()
    ]

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        mine = [p for p in signature(command, eval_str=True).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        command.__signature__ = Signature([*mine, *more])  # type: ignore[attr-defined]
        return command

    return decorated


@merge_app.command("layer-swapping")
@_takes("math", "language", "out", "base", *CHOICE, "dtype", "as_checkpoint", "same_base", "trust_configs")
def _layer_swapping(**options: Any) -> None:
    """Take each layer from the expert who owns it.

    By partition C the outer layers come from the language expert, the middle from the math expert. Without --base the
    experts' embeddings, final norm and head must be equal, or --embeddings says whose to take.
    """
    from xlnb.checkpoints.verbs import merge

    print(merge("layer-swapping", **options))


def _alike(asked: Merge) -> Callable[..., None]:
    """Return the command of a merge that treats all parameters alike."""
    some = {"density": asked.density, "seed": asked.seed, "t": asked.t, "as_checkpoint": asked.linear}
    every = ("expert", "out", "base", "density", "seed", "t", "dtype", "as_checkpoint", "same_base", "trust_configs")
    own = {"expert": (list[str], _NEEDED, Option(metavar="DIR", help="An expert; say it twice."))} if asked.pair else {}

    @_takes(*(name for name in every if some.get(name, True)), **own)
    def command(**options: Any) -> None:
        from xlnb.checkpoints.verbs import merge

        folders, weights = zip(*map(split_weight, options.pop("expert")), strict=True)
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


def _check_new_file(option: str, path: Path | None, *endings: str) -> None:
    """Refuse a file that exists, has another ending, or cannot be made, before any work."""
    if path is None:
        return
    if path.exists() or (endings and path.suffix not in endings):
        kind = " or ".join(f"a {ending} file" for ending in endings) or "a file"
        there = " exists already" if path.exists() else ""
        raise RequestError(f"{option} {path}{there}: give {kind} that does not exist yet.")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RequestError(f"{option} {path} cannot be made: {above} is not a folder.")


@_takes("out", *CHOICE, "dtype", "as_checkpoint", "trust_configs")
def revert_command(
    base: Annotated[Path, Option(help="The base model's folder.")],
    expert: Annotated[Path, Option(help="A checkpoint or adapter folder.")],
    keep: Annotated[str, Option(help="Whose share of the update stays: math or language.")],
    **options: Any,
) -> None:
    """Keep an expert's update on the share that one side owns; all else goes back to the base."""
    from xlnb.checkpoints.verbs import revert

    print(revert(base, expert, keep, **options))


def diff_command(
    a: Annotated[Path, Argument(help="A checkpoint or adapter folder.")],
    b: Annotated[Path, Argument(help="What is held against it.")],
    base: Annotated[Path | None, Option(help="What adapters belong to; two adapters need none.")] = None,
    partition: Annotated[
        str | None, Option(help="Say of each layer who owns it: A, B, C, ..., or a YAML file.")
    ] = None,
    figure: Annotated[Path | None, Option(metavar="FILE", help="Draw it into this file, too (png, svg, pdf).")] = None,
) -> None:
    """Say where two models differ: relative change and cosine by layer and block."""
    from xlnb.artifacts import whole_file
    from xlnb.checkpoints.differences import diff

    _check_new_file("--figure", figure, ".png", ".svg", ".pdf")
    found = diff(a, b, base=base, partition=partition)
    print(found)
    if figure:
        with whole_file(figure) as partial:
            found.picture().savefig(partial, format=figure.suffix[1:], dpi=200)
        print(f"\nDrawn into {figure}")


@partition_app.command("show")
@_takes(*COUNTS, save=(Path | None, None, Option(help="Write the partition to this YAML file as well.")))
def _show(
    model: Annotated[str, Option(help="A checkpoint folder, or a model's name on the Hugging Face hub.")],
    partition: Annotated[str | None, Argument(help="A name or a YAML file. [default: C]")] = None,
    **options: Any,
) -> None:
    """Draw a partition of a model and count the parameters that each side owns."""
    from xlnb.weights.ownership import partition as ownership

    save = options.pop("save")
    _check_new_file("--save", save, ".yaml", ".yml")
    found = ownership(partition, model, **options)
    print(found)
    if save:
        print(f"\nWritten to {found.partition.to_yaml(save)}")


@partition_app.command("fit")
def _fit(
    base: Annotated[Path, Option(help="The base model's folder.")],
    out: Annotated[Path, Option(help="The YAML file to write, for `xlnb merge --partition`.")],
    measure: Annotated[
        str, Option(help="fisher or taylor, of the base; change or ablation, of two experts.")
    ] = "fisher",
    code: Annotated[str, Option("--target", help="The target language.")] = "sw",
    math: Annotated[
        str, Option("--math-data", metavar="NAME[:PATH]", help="Math in English: see `xlnb corpus`.")
    ] = "templates-english",
    language: Annotated[
        str, Option("--language-data", metavar="NAME[:PATH]", help="Generic text of the language.")
    ] = "prose",
    math_expert: Annotated[Path | None, Option("--math", help=f"The math expert: {_FOLDER}")] = None,
    language_expert: Annotated[Path | None, Option("--language", help=f"The language expert: {_FOLDER}")] = None,
    samples: Annotated[int, Option(min=1, help="Texts of each side.")] = 256,
    seed: Annotated[int, Option(min=0, help="Decides which texts.")] = 1000,
    by_block: Annotated[bool, Option(help="Attention and FFN of a layer each for itself.")] = False,
    blend: Annotated[float, Option(help="Share by half what differs by less than this share of its sum.")] = 0.0,
    budget: Annotated[float | None, Option(help="The share of layers (or blocks) that the language gets.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Fit a partition to a model: each layer goes to whom it matters more, by English math and generic text alone."""
    from xlnb.analysis.fitting import Fit, fit_partition

    _check_new_file("--out", out, ".yaml", ".yml")
    asked = Fit(measure, code, math, language, samples, seed, by_block, blend, budget)
    found, scores = fit_partition(base, asked, math_expert, language_expert, device)
    wide = scores.pivot_table(index=["layer", "block"], columns="side", values="score")
    print(wide.to_string(float_format=lambda value: f"{value:.3g}"))
    print(f"\n{found}\nWritten to {found.to_yaml(out)}")


@partition_app.command("list")
def _list() -> None:
    """List the partitions that have names."""
    from xlnb.weights.partitions import NAMES

    print(*NAMES, sep="\n")
    print("or a YAML file: `xlnb partition show C --model DIR --save mine.yaml` writes one to start from")


_TO_FILE = (Path | None, None, Option(help="The file to write; printed where none is said."))


@export_app.command("mergekit")
@_takes("math", "language", "base", *CHOICE, out=_TO_FILE)
def _mergekit(**options: Any) -> None:
    """Write a mergekit configuration that gives the same tensors as `xlnb merge layer-swapping`."""
    from xlnb.artifacts import whole_file
    from xlnb.checkpoints.exporting import export_mergekit

    out = options.pop("out")
    _check_new_file("--out", out)
    text = export_mergekit(**options)
    if out is None:
        print(text, end="")
        return
    with whole_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(out)
