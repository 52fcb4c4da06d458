"""What studies need of the hub, brought with checksums into one folder, from which they run where there is no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlnb import artifacts
from xlnb.corpora.benchmarks import GSM8K, MGSM
from xlnb.corpora.sources import SOURCES, check_layout, names_and_paths
from xlnb.downloads import DATASET, MODEL, VARIABLE, checksums, fetch
from xlnb.models.hub import MODEL_FILES
from xlnb.studies.experiments import Experiment
from xlnb.studies.study import Study

SUMS = "SHA256SUMS"  # as sha256sum writes and checks it


@dataclass(frozen=True)
class Wanted:
    """A repository of the hub, its kind, and lists of patterns, of each of which a file is needed."""

    repository: str
    kind: str
    groups: tuple[tuple[str, ...], ...]
    revision: str | None = None
    read_as: tuple[tuple[str, str], ...] = ()  # corpora and languages, whose layout is looked at


def wanted(studies: Sequence[Study], experiment: Experiment) -> list[Wanted]:
    """Return what studies need of the hub: models, corpora that were not given by path, MGSM and the solutions of GSM8K."""
    found: dict[str, Wanted] = {}

    def want(
        repository: str, kind: str, groups: Sequence[Sequence[str]], revision: str | None = None, *as_: str
    ) -> None:
        before = found.get(repository, Wanted(repository, kind, (), revision))
        all_groups = tuple(dict.fromkeys([*before.groups, *map(tuple, groups)]))
        read_as = tuple(dict.fromkeys([*before.read_as, *([(as_[0], as_[1])] if as_ else [])]))
        found[repository] = Wanted(repository, kind, all_groups, revision, read_as)

    for study in studies:
        if study.profile.named and not Path(study.profile.named).is_dir():
            want(study.profile.named, MODEL, [(pattern,) for pattern in ("config.json", "*.safetensors")])
            want(study.profile.named, MODEL, [MODEL_FILES])
        for text, language in ((study.math_data, "en"), (study.language_data, study.language)):
            for name, path in names_and_paths(text):
                if SOURCES[name].hub and path is None:
                    source = SOURCES[name]
                    want(source.hub, DATASET, [source.patterns(language)], source.revision, name, language)
        if experiment.has("mgsm", study.profile):
            if not study.mgsm:
                asked = [(f"mgsm_{language}.tsv",) for language in ("en", study.language)]
                want(MGSM, DATASET, [*asked, ("exemplars.json", "exemplars.py")])
            if not study.reference:
                want(GSM8K, DATASET, [("main/test-*.parquet",)])
    return list(found.values())


def fetch_studies(
    studies: Sequence[Study], experiment: Experiment, root: str | Path, report: Callable[[str], None] = print
) -> Path:
    """Bring all that studies need into a folder, with the checksums of all in SHA256SUMS, and return the folder.

    What is there with its checksum is not fetched again; where something fails the rest is kept. Raises WorkError where the hub
    does not give something, or gives a data set of another layout than is known here.
    """
    root = Path(root).expanduser().resolve()
    for one in wanted(studies, experiment):
        folder = fetch(one.repository, one.kind, one.groups, root, one.revision, report)
        for name, language in one.read_as:
            check_layout(name, language, folder)
    with artifacts.whole_file(root / SUMS) as partial:
        partial.write_text("".join(f"{told}  {name}\n" for name, told in checksums(root).items()), encoding="utf-8")
    return root


def offline(root: Path) -> str:
    """Return what stands before a command that is to run from a folder without a network."""
    from shlex import quote

    return f"HF_HUB_OFFLINE=1 {VARIABLE}={quote(str(root))}"
