"""`xlnb pack` and `xlnb unpack`: a study for a machine without a network, and what was made there for home."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from xlnb.commands.options import (
    Dtype,
    Experiment,
    LanguageData,
    Languages,
    MathData,
    Mgsm,
    Models,
    Ntrex,
    Paradigms,
    ProfileNames,
    Reference,
    Seeds,
    studies_of,
)
from xlnb.errors import RequestError

_OF_OUTCOMES, _OF_STUDY = 15.0, 60.0  # megabytes


def pack_command(
    out: Annotated[Path, typer.Argument(help="The folder to write, which must not exist.")],
    outcomes: Annotated[
        bool, typer.Option("--outcomes", help="Pack what was made here, without weights, to take it home.")
    ] = False,
    part_mb: Annotated[
        float | None, typer.Option(help="How large a part may be. [default: 60; of outcomes 15]", show_default=False)
    ] = None,
    experiment: Experiment = "methods",
    languages: Languages = "sw,bn,te",
    seeds: Seeds = "0,1,2,3,4",
    paradigms: Paradigms = "lora",
    profile: ProfileNames = "pocket",
    model: Models = "",
    math_data: MathData = "",
    language_data: LanguageData = "",
    mgsm: Mgsm = "",
    reference: Reference = "",
    dtype: Dtype = "float32",
    ntrex: Ntrex = None,
    python: Annotated[
        str, typer.Option(metavar="3.X", help="That machine's Python, for the wheels. [default: the running one]")
    ] = "",
    there: Annotated[
        str, typer.Option(help="Packages which that machine has, with what they need. [default: a list]")
    ] = "",
    wheels: Annotated[bool, typer.Option(help="Fetch the wheels of what is not there.")] = True,
    results: Annotated[bool, typer.Option(help="Let what is committed count as made there, too.")] = True,
) -> None:
    """Pack a study for a machine that has no network and little but torch and transformers; or the outcomes made there.

    Takes what `xlnb grid` takes. The folder has parts, contents.json and unpack.py, which needs Python alone.
    """
    from xlnb.studies import archives, packing

    if part_mb is not None and not isfinite(part_mb):
        raise RequestError(f"--part-mb {part_mb}: say a finite number of megabytes.")
    if outcomes:
        print(archives.pack_outcomes(out, _OF_OUTCOMES if part_mb is None else part_mb))
        return
    studies = studies_of(
        profile, languages, seeds, paradigms, model, experiment, math_data=math_data, language_data=language_data, mgsm=mgsm,
        reference=reference, dtype=dtype,
    )  # fmt: skip
    asked = packing.Packing(
        experiment, studies, ntrex, wheels, python, tuple(filter(None, there.split(","))) or packing.THERE, results
    )
    packing.pack_study(asked, out, _OF_STUDY if part_mb is None else part_mb)


def unpack_command(
    folder: Annotated[Path, typer.Argument(help="What `xlnb pack` wrote.")],
    target: Annotated[
        Path | None, typer.Argument(help="Where a study goes, or outcomes. [default: of outcomes this project's runs]")
    ] = None,
) -> None:
    """Verify and unpack what `xlnb pack` wrote: a study into a folder of its own, outcomes among what is made here."""
    from xlnb.studies import archives

    print("\n".join(archives.unpack(folder, target)))
