"""The command line: what it says, how it exits, how soon it answers."""

import subprocess
import sys
import time

import pytest
import typer

from xlnb import __version__
from xlnb.analysis import fitting
from xlnb.commands import book_commands, cli
from xlnb.errors import RequestError, WorkError
from xlnb.publishing import notebooks
from xlnb.studies import own_models


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def best_time(*arguments, tries=5):
    def once():
        started = time.perf_counter()
        assert python(*arguments).returncode == 0
        return time.perf_counter() - started

    return min(once() for _ in range(tries))


def test_help_lists_the_verbs(capsys):
    assert cli.exit_code(["--help"]) == 0
    told = capsys.readouterr()
    assert not told.err
    for verb in ("run", "book", "pdf", "readme", "twins", "search"):
        assert f"\n  {verb} " in told.out


def test_version(capsys):
    assert cli.exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"xlnb {__version__}\n"


def test_no_arguments_means_help(capsys):
    assert cli.exit_code([]) == 0
    assert "Usage: xlnb" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["--no-such-option"],
        ["run"],
        ["run", "no-such-notebook.ipynb"],
        ["run", "00", "-p", "no equals sign"],
        ["book", "--live", "77"],
        ["book", "--profile", "huge"],
        ["search"],
        ["search", "nowhere", "--profile", "huge"],
        ["search", "nowhere", "--publish"],
    ],
)
def test_wrong_requests_exit_with_2_and_one_paragraph(arguments, capsys):
    assert cli.exit_code(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("xlnb: ")
    assert told.count("\n") == 1


def test_what_is_no_model_is_told_before_one_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(own_models, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    assert cli.exit_code(["evaluate", "base", str(tmp_path / "nodir"), "--profile", "smoke"]) == 2
    assert capsys.readouterr().err.startswith(
        f"xlnb: No model '{tmp_path / 'nodir'}': give a folder, a name on the hub"
    )
    assert cli.exit_code(["evaluate", "base", str(tmp_path), "--profile", "smoke"]) == 2
    assert f"{tmp_path} holds no model: it has neither config.json nor adapter_config.json" in capsys.readouterr().err
    for file in ("adapter_config.json", "model.safetensors"):
        (tmp_path / file).touch()
    assert cli.exit_code(["evaluate", str(tmp_path), "--profile", "smoke"]) == 2
    assert "holds an adapter and a whole model" in capsys.readouterr().err
    assert cli.exit_code(["evaluate", "--generated", "some", "--profile", "smoke"]) == 2
    assert "--generated takes a number or all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--exemplars", "bogus"], "The benchmark templates does not read exemplars: leave it out"),
        (["--reference", "/nonexistent"], "The benchmark templates does not read reference"),
        (["--benchmark", "belebele", "--reference", "hub"], "The benchmark belebele does not read reference"),
        (["--benchmark", "prose", "--shots", "2"], "The benchmark prose does not read shots"),
        (["--benchmark", "mgms", "--shots", "2"], "No benchmark 'mgms'"),
        (["--mgsm", "folder"], "--mgsm FOLDER goes with --benchmark mgsm"),
        (["--profile", "paper"], "leave --profile out, and ask as it does by --benchmark mgsm --chat --shots 2"),
    ],
)
def test_options_that_would_not_count_are_refused(options, told, monkeypatch, capsys):
    monkeypatch.setattr(own_models, "load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    assert cli.exit_code(["evaluate", "--profile", "smoke", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["study", "--dry-run"], ["grid", "--dry-run"], ["pack", "out"]],
)
@pytest.mark.parametrize("option", ["--mgsm", "--reference"])
def test_files_of_mgsm_are_of_experiments_that_ask_it(own_home, capsys, command, option):
    assert cli.exit_code([*command, "--experiment", "first-swap", option, "folder"]) == 2
    assert f"{option}: first-swap does not ask MGSM" in capsys.readouterr().err
    assert not (own_home / "out").exists()


def test_options_that_count_reach_the_evaluation(monkeypatch):
    given = ["--benchmark", "mgsm", "--exemplars", "cross", "--reference", "gold", "--shots", "3"]
    _, changes = reached(monkeypatch, own_models, "evaluate_models", ["evaluate", *given])
    assert {name: changes[name] for name in ("exemplars", "reference", "shots")} == {
        "exemplars": "cross",
        "reference": "gold",
        "shots": 3,
    }
    _, changes = reached(monkeypatch, own_models, "evaluate_models", ["evaluate"])
    assert not {"exemplars", "reference", "shots"} & set(changes)


def test_a_partition_that_is_none_is_told_though_no_mask_is_asked(own_home, capsys):
    asked = ["train", "math-only", "--profile", "smoke", "--device", "cpu", "--partition", "ZZZ"]
    assert cli.exit_code(asked) == 2
    assert "No partition 'ZZZ'" in capsys.readouterr().err
    assert not list(own_home.rglob("experts"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RequestError("no such\n  thing"), 2, "xlnb: no such thing\n"),
        (WorkError("it broke"), 1, "xlnb: it broke\n"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero (set XLNB_DEBUG=1"),
        (RuntimeError("odd"), 1, "RuntimeError: odd (set XLNB_DEBUG=1"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes_of_failures(error, code, words, monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.delenv("XLNB_DEBUG", raising=False)
    assert cli.exit_code(["--"]) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_debug_shows_the_traceback(monkeypatch):
    app = typer.Typer()

    @app.command()
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setenv("XLNB_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.exit_code(["--"])


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(RequestError, match="twice"):
        book_commands.assignments(["seed=1", "seed=2"])


def test_import_is_quick():
    bare = best_time("-c", "pass")
    assert best_time("-c", "import xlnb") - bare < 0.5


def test_help_is_quick():
    assert best_time("-c", "from xlnb.commands.cli import main; main(['--help'])") < 0.5


@pytest.mark.parametrize("statement", ["import xlnb", "import xlnb.commands.cli"])
def test_import_loads_nothing_heavy(statement):
    done = python("-c", f"{statement}, sys; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "transformers", "numpy", "pandas", "scipy", "matplotlib", "papermill", "datasets"}


class Reached(Exception):
    """What a command hands to the work."""


def reached(monkeypatch, module, name, command):
    """Return the arguments with which a command calls a function, in place of the work."""

    def stop(*arguments, **options):
        raise Reached(arguments, options)

    monkeypatch.setattr(module, name, stop)
    with pytest.raises(Reached) as caught:
        typer.main.get_command(cli.app)(command, standalone_mode=False)
    return caught.value.args


def test_parameters_reach_the_notebook(monkeypatch, tmp_path):
    command = ["run", "00", "-p", "live=yes", "-p", "seed=3", "--out", str(tmp_path / "out.ipynb")]
    (path, out, values), _ = reached(monkeypatch, notebooks, "run_notebook", command)
    assert (path.stem, out, values) == ("00-a-first-swap", tmp_path / "out.ipynb", {"live": "yes", "seed": "3"})


def test_options_of_a_fitted_partition_reach_it(monkeypatch, tmp_path):
    command = ["partition", "fit", "--base", "BASE", "--out", str(tmp_path / "mine.yaml"), "--measure", "change"]
    command += [
        "--target",
        "te",
        "--math-data",
        "gsm8k:M",
        "--language-data",
        "ntrex:L",
        "--samples",
        "7",
        "--seed",
        "9",
    ]
    command += ["--by-block", "--budget", "0.25", "--math", "m", "--language", "l", "--device", "cpu"]
    (base, asked, math, language, device), _ = reached(monkeypatch, fitting, "fit_partition", command)
    assert asked == fitting.Fit(
        measure="change",
        code="te",
        math="gsm8k:M",
        language="ntrex:L",
        samples=7,
        seed=9,
        by_block=True,
        budget=0.25,
    )
    assert (str(base), str(math), str(language), device) == ("BASE", "m", "l", "cpu")
    short = ["partition", "fit", "--base", "BASE", "--out", str(tmp_path / "mine.yaml"), "--blend", "0.1"]
    (_, asked, *_), _ = reached(monkeypatch, fitting, "fit_partition", short)
    assert asked == fitting.Fit(blend=0.1)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (["grid", "--jobs", "0"], "xlnb grid"),
        (["merge", "soup", "--experts", "x"], "xlnb merge soup"),
        (["diff", "A"], "xlnb diff"),
        (["nonsense"], "xlnb"),
    ],
)
def test_a_wrong_option_points_at_the_help_that_lists_it(asked, where, capsys):
    assert cli.exit_code(asked) == 2
    assert capsys.readouterr().err.rstrip().endswith(f". See `{where} --help`.")
