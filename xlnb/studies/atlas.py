"""The atlas: maps of studies, each made once, kept beside the study's outcomes, and published like them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb import artifacts
from xlnb.analysis.fitting import fitted_by, partition_of
from xlnb.corpora import LANGUAGE_DATA, MATH_DATA
from xlnb.errors import RequestError, known
from xlnb.methods import LANGUAGE, MATH
from xlnb.models.base import device_name
from xlnb.paths import results_folder
from xlnb.studies.maps import MAPS, held_out, learned
from xlnb.studies.outcomes import select
from xlnb.weights.partitions import Partition, named_partition

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.studies.study import Study

KEYS = ["profile", "model", "language", "paradigm", "seed"]
# What experts learned and in which precision all is computed, where a committed map has no columns that say so.
_USUAL = {"corpora": f"{MATH_DATA} + {LANGUAGE_DATA}", "dtype": "float32"}
_SPEC = "spec"  # a digest of all that made a map; "" where it was committed before there was one, in the usual setting
_UNTOLD = {"lengths": 2}  # which version such a map is, where it is not the first
FITTED_SEED = 5  # partitions are fitted by experts of this seed, which no comparison scores


def table(study: Study, name: str) -> pd.DataFrame:
    """Return a map of a study with the columns that tell the study: what is committed or made is read, what is missing is made.

    Raises RequestError for a name that there is not, and where something is missing that may not be computed.
    """
    import pandas as pd

    wanted, keys = MAPS[known("map", name, MAPS)], study.keys
    if study.committed and len(found := _found(study, name)):
        return found.drop(columns=[*_USUAL, _SPEC])
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
    return study.home / "maps" / f"{name}-{_digest(study, name)}.parquet"


def load_map(name: str, folder: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Return a committed map of all studies, or of those whose columns (``KEYS``, corpora, dtype) have these values.

    No rows where there are none.
    """
    found = _committed(name, folder)
    # Of a map that is not committed nobody knows the columns.
    return (select(found, **filters) if len(found) else found).drop(columns=[*_USUAL, _SPEC])


def _committed(name: str, folder: str | Path | None) -> pd.DataFrame:
    """Return a committed map with the columns that say of which data and precision it is."""
    import pandas as pd

    file = Path(folder or results_folder()) / "maps" / f"{known('map', name, MAPS)}.parquet"
    found = pd.read_parquet(file) if file.is_file() else pd.DataFrame(columns=KEYS)
    missing = {column: value for column, value in {**_USUAL, _SPEC: ""}.items() if column not in found}
    return found.assign(**missing)


def _data(study: Study) -> dict[str, str]:
    """Return what a study's experts learn, by name, and its precision."""
    return {"corpora": study.corpora((MATH, LANGUAGE)), "dtype": study.dtype}


def _found(study: Study, name: str, **other: Any) -> pd.DataFrame:
    """Return the committed rows of a map that are a study's: by names (but ``other``) and data, and where it has the weights by
    all that made them.
    """
    found = _committed(name, study.results)
    found = select(found, **study.keys | _data(study) | other) if len(found) else found
    if not study.live or found.empty:
        return found
    usual = study.as_named and _data(study) == _USUAL and MAPS[name].version == _UNTOLD.get(name, 1)
    told = found[_SPEC] != ""
    mine = (found[_SPEC] == _digest(study, name)) & told if told.any() else told  # it takes a while to find
    return found[mine | ~told] if usual else found[mine]


def _digest(study: Study, name: str) -> str:
    return artifacts.digest(_spec(study, name))[:8]


def tables(study: Study, name: str, paradigm: str = "") -> pd.DataFrame:
    """Return a map of all committed studies of the profile and paradigm (the study's own), or, live, of this study alone.

    No rows where none are committed, nor, live, of another paradigm.
    """
    if study.live:
        return table(study, name) if paradigm in ("", study.paradigm) else load_map(name, study.results)[:0]
    data = _USUAL if _data(study) == _USUAL else {}  # of other data each language has its own
    return load_map(name, study.results, profile=study.profile.name, paradigm=paradigm or study.paradigm, **data)


def publish_maps(studies: Sequence[Study], names: Sequence[str] = (), folder: str | Path | None = None) -> Path:
    """Write maps of studies (all of them where none are named), making what is missing, among the committed results.

    What is committed of other studies stays. Returns the folder, which receives a table a map and provenance.json.
    """
    import pandas as pd

    out = Path(folder or results_folder()) / "maps"
    record = out / "provenance.json"
    told: dict[str, Any] = artifacts.read_json(record) if record.is_file() else {"command": "xlnb maps --publish"}
    for name in names or MAPS:
        earlier, parts = _committed(name, out.parent), []
        for study in studies:
            data = _data(study)
            keys, others = study.keys | data, {} if data == _USUAL else data
            told_as = set(_found(study, name)[_SPEC]) if study.committed else set()
            spec = told_as.pop() if told_as else _digest(study, name)
            parts.append(table(study, name).assign(**data, **{_SPEC: spec}))
            earlier = earlier[(earlier[[*keys]] != pd.Series(keys)).any(axis=1)]
            if made := _told(study, name):  # else what was told when it was made stays
                told.setdefault(name, {})["/".join(map(str, (study.keys | others).values()))] = made
        whole = pd.concat([part for part in (earlier, *parts) if len(part)], ignore_index=True)
        first = [*KEYS, *_USUAL, _SPEC]
        with artifacts.whole_file(out / f"{name}.parquet") as beside:
            whole[[*first, *(column for column in whole if column not in first)]].to_parquet(
                beside, index=False, compression="zstd", compression_level=12
            )
        artifacts.write_json(record, told)
    return out


def fitted(study: Study, name: str) -> Partition:
    """Return one of ``FITTED`` for a study's language: chosen on English math and generic text, by experts of another seed.

    Committed measurements are read whatever the study says of committed results, so that a partition's name means one partition.
    """
    measure, like_c = fitted_by(name)
    of_seed = replace(study, seed=FITTED_SEED) if study.live else study  # of which nothing else need be committed
    found = _found(of_seed, "fits", seed=FITTED_SEED)
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
