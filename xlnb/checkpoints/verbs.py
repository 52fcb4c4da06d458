"""Merges straight from disk to disk: checks first, then bytes.

A swap copies byte ranges between safetensors files and loads no tensor; what needs arithmetic is streamed some rows at a time
(:mod:`xlnb.streaming`). Everything that can be wrong with a request is found before the first byte is written, and a merge
that is killed leaves no output behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.checkpoints.agreement import check_same_outside
from xlnb.checkpoints.recipes import Recipe, Source
from xlnb.checkpoints.requests import (
    ARITHMETIC,
    DARE,
    EMBEDDINGS,
    MERGES,
    REVERT,
    SLERP,
    SOUP,
    SWAP,
    TIES,
    _open,
    _options,
    _title,
)
from xlnb.checkpoints.writing import Merged, _check_room, _copy_companions, _output, _write, _write_provenance
from xlnb.errors import RequestError
from xlnb.weights import adapters
from xlnb.weights.partitions import Partition, chosen_partition
from xlnb.weights.sites import locate_all
from xlnb.weights.tensor_files import ADAPTER, ADAPTER_CONFIG, DTYPE_NAMES, FLOATS, companions, same_bytes

if TYPE_CHECKING:
    from xlnb.checkpoints.requests import Expert, Job, Options


# ------------------------------------------------------------------------------------------------------------- the verbs


def merge(
    method: str,
    out: str | Path,
    *,
    math: str | Path | None = None,
    language: str | Path | None = None,
    experts: Sequence[str | Path] = (),
    weights: Sequence[float | None] | None = None,
    base: str | Path | None = None,
    partition: str | Path | Partition | None = None,
    bottom: int | None = None,
    top: int | None = None,
    transition: int | None = None,
    embeddings: str | None = None,
    density: float | None = None,
    seed: int = 0,
    t: float = 0.5,
    dtype: str | None = None,
    as_checkpoint: bool = False,
    same_base: bool = False,
) -> Merged:
    """Merge experts from disk to disk into the folder ``out``, which must not exist or be empty.

    - ``layer-swapping`` takes ``math`` and ``language`` and a partition: its name, a YAML file, an object, or ``bottom`` and
      ``top`` (and ``transition``) layers; C where nothing is said. ``embeddings`` says whose embeddings, head and final norm
      are taken; the base's by default, or the experts' where both have the same.
    - ``soup``, ``task-arithmetic``, ``ties``, ``dare`` and ``slerp`` take ``experts`` and, where given, one of ``weights``
      for each (None for the default: equal shares in a soup, else 1); slerp takes two and ``t``.

    Experts are checkpoint folders or LoRA adapters. Merges of adapters stay an adapter where their update has low rank (not
    after TIES, DARE, SLERP, or with ``as_checkpoint``); all else needs the ``base`` as well. ``dtype`` is float32, bfloat16 or
    float16; as the inputs have it where nothing is said. ``same_base`` says that adapters whose configs name different bases
    have the same one. Returns what was written. Raises :class:`~xlnb.errors.RequestError` before anything is written for
    everything that does not fit, :class:`~xlnb.errors.WorkError` where the work fails. Source: the methods' papers; ours.
    """
    started = time.time()
    if method not in MERGES:
        raise RequestError(f"No merge {method!r}: choose one of {', '.join(MERGES)}.")
    if method == SWAP:
        if math is None or language is None or experts:
            raise RequestError("Layer-Swapping takes one math and one language expert.")
        folders = {"math": math, "language": language}
    else:
        if math is not None or language is not None or len(experts) < 2:
            raise RequestError(f"{method} takes at least two experts, each with --expert.")
        if any(option is not None for option in (partition, bottom, top, transition, embeddings)):
            raise RequestError(f"{method} takes no partition and no embeddings: it merges all parameters alike.")
        folders = {f"expert {i}": folder for i, folder in enumerate(experts, 1)}
    chosen = _options(method, len(folders), weights, density, seed, t)
    job = _open(method, folders, base, dtype, as_checkpoint, same_base, out)
    if method == SWAP:
        shares = chosen_partition(job.sites.depth, partition, bottom, top, transition)
        return _swap(job, shares, embeddings, started)
    return _arithmetic(job, chosen, started)


def revert(
    base: str | Path,
    expert: str | Path,
    keep: str,
    out: str | Path,
    *,
    partition: str | Path | Partition | None = None,
    bottom: int | None = None,
    top: int | None = None,
    transition: int | None = None,
    embeddings: str | None = None,
    dtype: str | None = None,
    as_checkpoint: bool = False,
) -> Merged:
    """Write the expert with its update kept only on the share that ``keep`` (math or language) owns; all else is the base.

    The partition is chosen as in :func:`merge`. An adapter stays an adapter unless ``as_checkpoint``. Raises as
    :func:`merge`. Source: train-then-revert of arXiv 2505.18356.
    """
    started = time.time()
    if keep not in ("math", "language"):
        raise RequestError(f"keep={keep!r}: say 'math' or 'language'.")
    job = _open(REVERT, {keep: expert}, base, dtype, as_checkpoint, True, out)
    shares = chosen_partition(job.sites.depth, partition, bottom, top, transition)
    return _swap(job, shares, embeddings or "base", started)


# ------------------------------------------------------------------------------------------------------------- planning


def _swap(job: Job, shares: Partition, embeddings: str | None, started: float) -> Merged:
    """Plan and write Layer-Swapping, or a revert (which is a swap with the base)."""
    if embeddings is not None and embeddings not in EMBEDDINGS:
        raise RequestError(f"embeddings={embeddings!r}: choose one of {', '.join(EMBEDDINGS)}.")
    by_role = {expert.role: expert for expert in job.experts}
    if job.stays_adapter:
        return _swap_adapters(job, shares, by_role, started)
    sides = [by_role.get(side, job.base) for side in ("math", "language")]
    math, language = (side for side in sides if side is not None)
    outside, whose = _outside(job, by_role, embeddings)

    def recipe(name: str) -> Recipe:
        site = job.sites.of[name]
        if site.layer is None:
            return _taken(outside, name, job)
        share = shares.share(site)
        if share in (0, 1):
            return _taken(math if share else language, name, job)
        sources = tuple(_source(side, name, job) for side in (math, language))
        if sources[0].stored.dtype not in FLOATS:
            return _equal(name, sources)
        if job.method == REVERT:
            kept, weight = (0, share) if by_role.get("math") else (1, 1 - share)
            return Recipe(name, "deltas", (sources[kept],), (weight,), base=sources[1 - kept])
        base = _source(job.base, name, job) if job.base else None
        return Recipe(name, "linear", sources, (share, 1 - share), base)

    told = (
        f"{_title(job)} by partition {shares}",
        f"Layers located by {job.sites.by}. Embeddings, final norm and head, configuration and tokenizer: {whose}.",
    )
    files = job.base if outside.checkpoint.is_adapter else outside  # an adapter has no configuration of a model
    assert files is not None
    return _write(job, recipe, files, {"partition": str(shares), "embeddings": whose}, told, started)


def _outside(job: Job, by_role: Mapping[str, Expert], embeddings: str | None) -> tuple[Expert, str]:
    """Return who gives what lies outside the layers, and that in words."""
    if embeddings == "base" and job.base is None:
        raise RequestError("embeddings=base, but no base is given: say --base as well.")
    if embeddings in by_role:
        return by_role[str(embeddings)], f"the {embeddings} expert's"
    if job.base is not None:
        return job.base, "the base's"
    math, language = by_role["math"], by_role["language"]
    check_same_outside(math.checkpoint, language.checkpoint)
    return math, "the math expert's (the language expert has the same embeddings, final norm and head)"


def _source(expert: Expert | None, name: str, job: Job) -> Source:
    assert expert is not None
    return expert.source(name, job.base)


def _taken(expert: Expert, name: str, job: Job) -> Recipe:
    """Return the recipe that takes one expert's tensor as it is."""
    source = _source(expert, name, job)
    if source.pair:
        return Recipe(name, "deltas", (source,), (1.0,), base=Source(source.stored))
    return Recipe(name, "copy", (source,))


def _equal(name: str, sources: Sequence[Source]) -> Recipe:
    """Return the recipe that copies a tensor of whole numbers, which must be the same everywhere. Raises where it is not."""
    first = sources[0].stored
    if not all(same_bytes(first, source.stored) for source in sources[1:]):
        raise RequestError(f"{name!r} is stored as {first.dtype} and differs between the experts: it has no mean.")
    return Recipe(name, "copy", (sources[0],))


def _arithmetic(job: Job, options: Options, started: float) -> Merged:
    shares = [weight / options.total for weight in options.weights]
    weights = ", ".join(f"{share:g}" for share in shares)
    if job.stays_adapter:
        chosen = [e.adapter for e in job.experts if e.adapter is not None]
        names = dict.fromkeys(name for adapter in chosen for name in adapter.pairs)
        terms = list(zip(shares, chosen, strict=True))
        return _write_adapter(job, dict.fromkeys(names, terms), {"weights": weights}, started)
    kinds = {SOUP: "linear", ARITHMETIC: "deltas", TIES: "ties", DARE: "dare", SLERP: "slerp"}

    def recipe(name: str) -> Recipe:
        sources = tuple(expert.source(name, job.base) for expert in job.experts)
        reference = job.reference.checkpoint.tensors[name]
        if all(source.pair is None and same_bytes(reference, source.stored) for source in sources):
            return Recipe(name, "copy", (Source(reference),))  # what nobody changed stays, embeddings say
        if sources[0].stored.dtype not in FLOATS:
            return _equal(name, sources)
        base = Source(job.base.checkpoint.tensors[name]) if job.base else None
        return Recipe(name, kinds[job.method], sources, options.weights, base, options.total, options.density, options.seed,
                      options.t)  # fmt: skip

    extra = {TIES: f"density {options.density:g}", SLERP: f"t {options.t:g}", SOUP: "", ARITHMETIC: "",
             DARE: f"density {options.density:g}, seed {options.seed}"}[job.method]  # fmt: skip
    settings = "; ".join(part for part in ("" if job.method == SLERP else f"weights {weights}", extra) if part)
    told = (
        f"{_title(job)}; {settings}",
        f"All parameters are merged, embeddings and head too. Configuration and tokenizer: the {job.reference.role}'s.",
    )
    return _write(job, recipe, job.reference, {"settings": settings}, told, started)


# ------------------------------------------------------------------------------------------------------------- adapters


def _swap_adapters(job: Job, shares: Partition, by_role: Mapping[str, Expert], started: float) -> Merged:
    chosen = {role: expert.adapter for role, expert in by_role.items() if expert.adapter is not None}
    spec = {"partition": str(shares)}
    told = (
        f"{_title(job)} by partition {shares}",
        f"Layers located by {job.sites.by}. The result is an adapter again.",
    )

    def owner_share(name: str, role: str) -> float:
        share = shares.share(job.sites.of[name])
        return share if role == "math" else 1 - share

    names = list(job.experts[0].checkpoint.tensors)
    whole = all(owner_share(name, "math") in (0, 1) for name in job.sites.of)
    if len(chosen) == 2 and whole and job.dtype is None and adapters.pickable(list(chosen.values())):
        owners = {name: by_role["math" if owner_share(name, "math") else "language"] for name in names}
        return _write(job, lambda name: Recipe(name, "copy", (Source(owners[name].checkpoint.tensors[name]),)),
                      job.reference, spec, told, started)  # fmt: skip
    by_parameter = locate_all({n for a in chosen.values() for n in a.pairs}).of
    terms = {
        name: [(weight, adapter) for role, adapter in chosen.items()
               if (weight := shares.share(site) if role == "math" else 1 - shares.share(site))]
        for name, site in by_parameter.items()
    }  # fmt: skip
    return _write_adapter(job, terms, spec, started)


def _write_adapter(job: Job, terms: Mapping[str, adapters.Terms], spec: Mapping[str, Any], started: float) -> Merged:
    """Write the sums of updates as one adapter; what no expert changes there gets a pair of zeros."""
    used = [expert.adapter for expert in job.experts if expert.adapter is not None]
    if not any(terms.values()):
        raise RequestError("Nothing of the adapters is left in this merge: it is the base itself.")
    ranks = [sum(adapter.rank for _, adapter in chosen) for chosen in terms.values()]
    shapes = {name: shape for adapter in used for name, shape in adapter.shapes.items()}
    nbytes = sum(4 * max(ranks) * sum(shapes[name]) for name in terms)
    _check_room(job.out, nbytes)
    dtype = DTYPE_NAMES[job.dtype or "F32"]
    with _output(job.out) as folder:
        rank = adapters.save_combined(folder / ADAPTER, terms, used, dtype)
        config = adapters.combined_config(used, list(terms), rank)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _copy_companions(
            companions(job.reference.checkpoint), job.reference.checkpoint.folder, folder, {ADAPTER_CONFIG}
        )
        _write_provenance(folder, job, {**spec, "rank": rank}, started)
    told = (
        f"{_title(job)}; " + ", ".join(f"{key} {value}" for key, value in spec.items()),
        f"The result is an adapter of rank {rank}, scaling 1, stored in {dtype}: a sum of updates is the concatenation of their "
        "pairs.",
    )
    return Merged(job.out, told, 0, 2 * len(terms), nbytes, time.time() - started)
