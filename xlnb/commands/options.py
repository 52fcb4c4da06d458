"""Options that several verbs of the command line take."""

from __future__ import annotations

from typing import Annotated

import typer

ProfileName = Annotated[str, typer.Option("--profile", help="smoke (seconds, random weights) or pocket.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="float32, or bfloat16 (autocast; weights stay float32).")]
