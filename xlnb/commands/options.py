"""Options that several verbs of the command line take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlnb.corpora import LANGUAGE_DATA, MATH_DATA
from xlnb.errors import RequestError

if TYPE_CHECKING:
    from xlnb.studies.profiles import Profile
    from xlnb.studies.study import Study

Language = Annotated[str, typer.Option(help="The target language, such as sw.")]
Seed = Annotated[int, typer.Option(help="Decides the initialisation and the training examples.")]
Paradigm = Annotated[str, typer.Option(help="lora, or full (all parameters inside the layers).")]
ProfileName = Annotated[
    str, typer.Option("--profile", help="smoke (seconds, random weights), pocket; of train: paper, paper-8bit.")
]
ProfileNames = Annotated[
    str, typer.Option("--profile", help="smoke, pocket or a strength of it, with commas between; or paper, paper-8bit.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="float32, or bfloat16 (autocast; weights stay float32).")]
# Empty where nothing is named, which xlnb.studies.profiles.corpora_of makes the profile's: so what is named counts, always.
MathData = Annotated[
    str,
    typer.Option(
        metavar="NAME[:PATH]",
        help=f"What the math expert learns: see `xlnb corpus`. [default: {MATH_DATA}; of profile paper the paper's]",
    ),
]
LanguageData = Annotated[
    str,
    typer.Option(
        metavar="NAME[:PATH]",
        help=f"What the language expert learns. [default: {LANGUAGE_DATA}; of profile paper the paper's]",
    ),
]
Mgsm = Annotated[
    str, typer.Option(metavar="FOLDER", help="Of the experiment real: a copy of MGSM; the hub's by default.")
]
Reference = Annotated[
    str, typer.Option(metavar="FILE", help="... and a test file of GSM8K, whose solutions are scored.")
]
Model = Annotated[
    str, typer.Option(metavar="NAME|FOLDER", help="Of profile paper: any decoder of the hub, or a folder.")
]
Models = Annotated[
    str, typer.Option("--model", metavar="NAME|FOLDER,...", help="Of profile paper: decoders of the hub, or folders.")
]
Experiment = Annotated[
    str,
    typer.Option(
        help="What is compared: methods (all), main-methods, partitions, strength, first-swap, ...; several with commas."
    ),
]
Languages = Annotated[str, typer.Option(help="The target languages, with commas between.")]
Seeds = Annotated[str, typer.Option(help="The seeds, such as 0,1,2.")]
Paradigms = Annotated[str, typer.Option(help="lora, full, or both with a comma between.")]
Ntrex = Annotated[Path | None, typer.Option(help="A folder of NTREX-128's text files; left out where none is given.")]


def numbers(seeds: str) -> list[int]:
    """Return seeds that were given with commas between."""
    try:
        found = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise RequestError(f"--seeds takes whole numbers with commas between, not {seeds!r}.") from None
    if len(set(found)) < len(found):
        raise RequestError(f"--seeds names a seed twice: {seeds}.")
    return found


def language_by_language(studies: Sequence[Study]) -> list[Study]:
    """Return studies profile by profile and language by language, each as it first comes, the seeds in their order."""
    profiles, codes = (
        list(dict.fromkeys(named)) for named in zip(*((s.profile, s.language) for s in studies), strict=True)
    )
    return sorted(studies, key=lambda study: (profiles.index(study.profile), codes.index(study.language)))


def studies_of(
    profiles: str, languages: str, seeds: str, paradigms: str, models: str = "", experiments: str = "", **more: Any
) -> list[Study]:
    """Return the studies of a comparison, profile by profile (and model by model), the first seed's first.

    Of profile paper the data are the paper's, where none are named. Raises RequestError for MGSM's files where none of the named
    ``experiments`` asks it.
    """
    from xlnb.studies.profiles import corpora_of, named_profile
    from xlnb.studies.study import Study

    chosen = [named_profile(name, model) for name in profiles.split(",") for model in models.split(",")]
    _check_mgsm(experiments, chosen[0], more)
    math, text = more.pop("math_data", ""), more.pop("language_data", "")
    data = {one.name: corpora_of(one.name, math, text, languages.split(",")) for one in chosen}
    return [
        Study(profile, code, seed, math_data=data[profile.name][0], language_data=data[profile.name][1][code],
              paradigm=paradigm, **more)
        for profile in chosen
        for seed in numbers(seeds)
        for paradigm in paradigms.split(",")
        for code in languages.split(",")
    ]  # fmt: skip


def _check_mgsm(experiments: str, profile: Profile, given: Mapping[str, Any]) -> None:
    from xlnb.studies.experiments import named_experiment

    named = [f"--{name}" for name in ("mgsm", "reference") if given.get(name)]
    if not (named and experiments):
        return
    if not any(named_experiment(name).has("mgsm", profile) for name in experiments.split(",")):
        raise RequestError(
            f"{' and '.join(named)}: {experiments} does not ask MGSM. Leave out its files, or say an --experiment that does, "
            "such as real."
        )
