"""`xlnb fetch`: models and data for nodes without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlnb.commands.options import Experiment, LanguageData, Languages, MathData, Mgsm, Models, Reference, studies_of
from xlnb.errors import known


def fetch_command(
    out: Annotated[Path, typer.Argument(help="The folder to fill; what is there with its checksum stays.")],
    profile: Annotated[str, typer.Option(help="paper.")] = "paper",
    model: Models = "",
    languages: Languages = "sw,bn,te",
    experiment: Experiment = "paper",
    math_data: MathData = "",
    language_data: LanguageData = "",
    mgsm: Mgsm = "",
    reference: Reference = "",
) -> None:
    """Bring models and data of the hub, with checksums, into a folder from which all runs without a network; goes on where it
    stopped.

    On the node that has a network; `xlnb plan` says beforehand how much it is.
    """
    from shlex import join

    from xlnb.studies.experiments import named_experiment
    from xlnb.studies.fetching import fetch_studies, offline

    known("profile", profile, ("paper",))
    given = {"math_data": math_data, "language_data": language_data, "mgsm": mgsm, "reference": reference}
    studies = studies_of(profile, languages, "0", "lora", model, experiment, **given)
    root = fetch_studies(studies, named_experiment(experiment), out, lambda told: print(told, flush=True))
    said = {"experiment": experiment, "profile": profile, "model": model, "languages": languages, "seeds": "0"}
    said |= {name.replace("_", "-"): text for name, text in given.items() if text}
    asked = [word for name, text in said.items() for word in (f"--{name}", text)]
    print(f"\nAll is in {root}, checksums in SHA256SUMS. Without a network, there or where you bring it:\n")
    print(f"{offline(root)} {join(['xlnb', 'grid', *asked])} --dtype bfloat16")
