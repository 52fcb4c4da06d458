"""What the tests share: folders of their own, miniatures, and processes that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from experts import Trio, trio_finder
from filelock import FileLock

from xlnb.errors import WorkError
from xlnb.models import miniatures, pocket
from xlnb.models.pocket_models import POCKET_MODELS
from xlnb.studies.experiments import named_experiment
from xlnb.studies.profiles import named_profile
from xlnb.studies.study import Study

ROOT = Path(__file__).resolve().parents[1]


# Files that take longest first, so that no worker is left alone with one at the end; the others as pytest finds them. A browser,
# JupyterLab and a book in the making need two cores by themselves: what runs live comes when they are done.
LONGEST = ("test_browser", "test_studies", "test_grid", "test_pocket", "test_chapters", "test_cells", "test_text", "test_sft",
           "test_measuring", "test_masks", "test_validation_study")  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A project folder and a cache of the test's own, and no pocket weights from the environment."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XLNB_HOME", str(home))
    monkeypatch.setenv("XLNB_CACHE", str(tmp_path / "cache"))
    for model in POCKET_MODELS.values():
        monkeypatch.delenv(model.variable, raising=False)
    return home


@pytest.fixture(scope="module")
def copied_book(tmp_path_factory):
    """A project folder with a copy of notebooks and book, so that nothing is written into the checkout."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "book", home / "book", ignore=shutil.ignore_patterns("_build"))
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def known_forest():
    """What a forest gets by a problem's numbers alone is said, not computed."""
    from made_up_validation import FOREST

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xlnb.studies.validation._forest", lambda language: FOREST)
        yield


@pytest.fixture
def real_forest(monkeypatch):
    """What a forest gets by the numbers alone is computed, as in the book."""
    from made_up_validation import REAL_FOREST

    monkeypatch.setattr("xlnb.studies.validation._forest", REAL_FOREST)


@pytest.fixture(scope="session")
def first_swap(tmp_path_factory):
    """The runs folder of the first chapter's smoke study of seed 0, made once for all workers; nobody may write there."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "first-swap"
    with FileLock(f"{home}.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLNB_HOME", str(home))
        patch.setenv("XLNB_CACHE", str(home / "cache"))
        Study(named_profile("smoke")).outcomes(*named_experiment("first-swap").asks)
    return home / "runs"


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """A function from a family to the folder of its miniature; nobody may write there."""
    folder = tmp_path_factory.mktemp("miniatures")
    return lambda family="gemma3": miniatures.miniature(folder / family, family)


@pytest.fixture(scope="session")
def trios(tmp_path_factory):
    """A function that makes trios (or finds them made); nobody may write there."""
    return trio_finder(tmp_path_factory.mktemp("trios"), torch.float32)


@pytest.fixture
def three(trios, tmp_path):
    """A function that copies a trio of a family to where it may be changed."""

    def make(family="llama"):
        source, root = trios(family), tmp_path / "inputs"
        for name in ("base", "math", "language"):
            shutil.copytree(getattr(source, name), root / name)
        return Trio(root / "base", root / "math", root / "language")

    return make


def need_weights():
    """Skip where the weights cannot be had, or fail where tests must not be skipped (CI=true); all else that is wrong fails."""
    try:
        pocket.found_pocket()
    except WorkError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"With CI=true the pocket model must be tested. {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pocket_folder():
    """The folder of the real pocket model; nobody may write there."""
    need_weights()
    return pocket.pocket_checkpoint()


@pytest.fixture
def in_child():
    """Start a module's function in another process that has the libraries loaded already; it is ended with the test."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["peft", "transformers.models.gemma3.modeling_gemma3", "xlnb.studies.outcomes", "xlnb.studies.study"]
    )
    started = []

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 96 kB; skips where no file system can be mounted (that takes root, on Linux)."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def one_thread():
    """Tensors as small as those of miniatures are slower in several threads, above all where cores are busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
