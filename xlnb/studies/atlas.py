"""The atlas: maps of studies, each made once, kept beside the study's outcomes, and published like them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.analysis.fitting import fitted_by, partition_of
from xlnb.errors import RequestError, known
from xlnb.models.base import device_name
from xlnb.paths import results_folder
from xlnb.studies.maps import MAPS, held_out, learned
from xlnb.studies.outcomes import select
from xlnb.weights.partitions import Partition, named_partition

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies.study import Study

KEYS = ["profile", "model", "language", "paradigm", "seed"]
FITTED_SEED = 5  # partitions are fitted by experts of this seed, which no comparison scores


def table(study: Study, name: str) -> pd.DataFrame:
    """Return a map of a study with the columns that tell the study: what is committed or made is read, what is missing is made.

    Raises RequestError for a name that there is not, and where something is missing that may not be computed.
    """
    import pandas as pd

    wanted, keys = MAPS[known("map", name, MAPS)], study.keys
    if study.committed and len(found := load_map(name, study.results, **keys)):
        return found
    if not study.live:
        told = ", ".join(f"{key} {value}" for key, value in keys.items())
        raise RequestError(f"The map {name} is not committed ({told}): run live, or `xlnb maps` first.")
    path = map_path(study, name)
    if not path.is_file():
        for one, slug in wanted.needs(study):
            one.expert(slug)  # a training has a provenance of its own
        started = time.time()
        made = wanted.make(study)
        told_of = artifacts.provenance(_spec(study, name), started) | {"device": device_name(study.base)}
        artifacts.write_json(path.with_suffix(".json"), told_of)
        with artifacts.whole_file(path) as beside:  # last: its presence says that the map is done
            made.to_parquet(beside, index=False)
    return pd.read_parquet(path).assign(**keys)


def map_path(study: Study, name: str) -> Path:
    """Return where a study keeps a map."""
    return study.home / "maps" / f"{name}-{artifacts.digest(_spec(study, name))[:8]}.parquet"


def load_map(name: str, folder: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Return a committed map of all studies, or of those whose columns have these values; no rows where there are none."""
    import pandas as pd

    file = Path(folder or results_folder()) / "maps" / f"{known('map', name, MAPS)}.parquet"
    if not file.is_file():
        return pd.DataFrame(columns=KEYS)
    found = pd.read_parquet(file)
    return select(found, **filters)


def tables(study: Study, name: str, paradigm: str = "") -> pd.DataFrame:
    """Return a map of all committed studies of the profile and paradigm (the study's own), or, live, of this study alone.

    No rows where none are committed, nor, live, of another paradigm.
    """
    if study.live:
        return table(study, name) if paradigm in ("", study.paradigm) else load_map(name, study.results)[:0]
    return load_map(name, study.results, profile=study.profile.name, paradigm=paradigm or study.paradigm)


def publish_maps(studies: Sequence[Study], names: Sequence[str] = (), folder: str | Path | None = None) -> Path:
    """Write maps of studies (all of them where none are named), making what is missing, among the committed results.

    What is committed of other studies stays. Returns the folder, which receives a table a map and provenance.json.
    """
    import pandas as pd

    out = Path(folder or results_folder()) / "maps"
    record = out / "provenance.json"
    told: dict[str, Any] = artifacts.read_json(record) if record.is_file() else {"command": "xlnb maps --publish"}
    for name in names or MAPS:
        earlier, parts = load_map(name, out.parent), []
        for study in studies:
            keys = study.keys
            parts.append(table(study, name))
            earlier = earlier[(earlier[KEYS] != pd.Series(keys)).any(axis=1)]
            told.setdefault(name, {})["/".join(map(str, keys.values()))] = _told(study, name)
        whole = pd.concat([part for part in (earlier, *parts) if len(part)], ignore_index=True)
        with artifacts.whole_file(out / f"{name}.parquet") as beside:
            whole[[*KEYS, *(column for column in whole if column not in KEYS)]].to_parquet(
                beside, index=False, compression="zstd", compression_level=12
            )
        artifacts.write_json(record, told)
    return out


def fitted(study: Study, name: str) -> Partition:
    """Return one of ``FITTED`` for a study's language: chosen on English math and generic text, by experts of another seed."""
    measure, like_c = fitted_by(name)
    found = load_map("fits", study.results, **study.keys | {"seed": FITTED_SEED})
    if found.empty:
        found = table(replace(study, seed=FITTED_SEED, committed=True), "fits")
    scores = found[found["measure"] == measure]
    if not like_c:
        return partition_of(scores, study.depth, name, by_block=True)
    c = named_partition("C", study.depth)
    return partition_of(scores, study.depth, name, budget=1 - sum(c.attention) / study.depth)


def _told(study: Study, name: str) -> dict[str, Any]:
    """Return when, how long, by which commit, on which device and with which versions a map was made."""
    file = map_path(study, name).with_suffix(".json")
    made = artifacts.read_json(file) if file.is_file() else {}
    return {what: made[what] for what in ("when", "seconds", "commit", "device", "versions") if what in made}


def _spec(study: Study, name: str) -> dict[str, Any]:
    texts = [*learned(study, study.seed).values(), *held_out(study).values()]
    later = {"version": MAPS[name].version} if MAPS[name].version > 1 else {}
    return {
        "map": name,
        **later,
        "base": study.base_spec,
        "seed": study.seed,
        "experts": [one.expert_spec(slug) for one, slug in MAPS[name].needs(study)],
        "texts": artifacts.digest([[e.prompt, e.completion] for some in texts for e in some])[:16],
    }
