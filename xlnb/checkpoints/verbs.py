"""Merges straight from disk to disk: checks first, then bytes.

A swap copies byte ranges between safetensors files and loads no tensor; what needs arithmetic is streamed some rows at a time
(:mod:`~xlnb.checkpoints.streaming`). Everything that can be wrong with a request is found before the first byte is written,
and a merge that is killed leaves no output behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.checkpoints.agreement import owner_outside
from xlnb.checkpoints.recipes import Recipe, Source
from xlnb.checkpoints.requests import _open
from xlnb.checkpoints.writing import (
    Merged,
    _check_room,
    _check_unchanged,
    _output,
    _write,
    _write_provenance,
)
from xlnb.errors import RequestError, typed
from xlnb.weights import adapters
from xlnb.weights.kernels import MERGES, REVERT, Options
from xlnb.weights.partitions import OWNERS, SIDES, Choice, Partition, check_word
from xlnb.weights.sites import Site, plain_name
from xlnb.weights.tensor_files import (
    ADAPTER,
    ADAPTER_CONFIG,
    DTYPE_NAMES,
    FLOATS,
    companions,
    copy_companions,
    same_bytes,
)

if TYPE_CHECKING:
    from xlnb.checkpoints.recipes import Expert
    from xlnb.checkpoints.requests import Job


@typed
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
    trust_configs: bool = False,
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
    have the same one, and that it is ``base``; ``trust_configs`` that checkpoints whose configs mean different models are of one;
    the provenance has it. An adapter whose config names a folder of other weights than ``base`` is refused.
    Configuration, tokenizer, chat templates, licence and custom code are copied from one of the inputs, and what these name; no
    weights of another format.

    Returns what was written. What does not fit is refused before anything is written; where a NaN or an overflow shows only while
    numbers are computed, or an input is saved again meanwhile, WorkError, and nothing is left behind. Source: the methods'
    papers; ours.
    """
    if method not in MERGES:
        raise RequestError(f"No merge {method!r}: choose one of {', '.join(MERGES)}.")
    asked, choice = MERGES[method], Choice(partition, bottom, top, transition)
    if asked.by_partition:
        if math is None or language is None or experts:
            raise RequestError(f"{asked.title} takes one math and one language expert.")
        folders = {"math": math, "language": language}
    else:
        if math is not None or language is not None or len(experts) < 2:
            raise RequestError(f"{method} takes at least two experts, each with --expert.")
        if choice != Choice() or embeddings is not None:
            raise RequestError(f"{method} takes no partition and no embeddings: it merges all parameters alike.")
        folders = {f"expert {i}": folder for i, folder in enumerate(experts, 1)}
    options = asked.options(len(folders), weights, density, seed, t)
    job = _open(asked, folders, base, dtype, as_checkpoint, same_base, out, trust_configs)
    if asked.by_partition:
        return _by_partition(job, choice.on(job.sites.depth), embeddings)
    return _alike(job, options)


@typed
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
    trust_configs: bool = False,
) -> Merged:
    """Write the expert with its update kept only on the share that ``keep`` (math or language) owns; all else is the base.

    The partition is chosen as in :func:`merge`. An adapter stays an adapter unless ``as_checkpoint``. Source: train-then-revert
    of arXiv 2505.18356.
    """
    check_word("keep", keep, SIDES)
    job = _open(REVERT, {keep: expert}, base, dtype, as_checkpoint, False, out, trust_configs)
    shares = Choice(partition, bottom, top, transition).on(job.sites.depth)
    return _by_partition(job, shares, embeddings or "base")


def _by_partition(job: Job, shares: Partition, embeddings: str | None) -> Merged:
    """Plan and write Layer-Swapping, or a revert (which is a swap with the base)."""
    if embeddings is not None:
        check_word("embeddings", embeddings, OWNERS)
    by_role = {expert.role: expert for expert in job.experts}
    if job.stays_adapter:
        return _adapter_by_partition(job, shares, by_role, embeddings)
    owner = owner_outside({role: one.checkpoint for role, one in job.everyone.items()}, embeddings)
    outside = job.everyone[owner]
    sides = {side: by_role.get(side) or job.everyone["base"] for side in SIDES}

    def recipe(name: str) -> Recipe:
        site = job.sites.of[name]
        if site.layer is None:
            return _taken(outside, name, job)
        held = {side: share for side in SIDES if (share := shares.share(site, side))}
        if len(held) == 1:
            return _taken(sides[next(iter(held))], name, job)
        sources = {side: expert.source(name, job.base) for side, expert in sides.items()}
        base = job.base.source(name, None) if job.base else None
        if sources["math"].stored.dtype not in FLOATS:
            return _equal(name, list(sources.values()))
        if len(by_role) == 2:
            return Recipe(name, "soup", tuple(sources.values()), Options(tuple(held.values())), base)
        (kept,) = by_role
        return Recipe(name, "task-arithmetic", (sources[kept],), Options((held[kept],)), base)

    whose = "the base's" if owner == "base" else f"the {owner} expert's"
    if embeddings is None and owner != "base":
        whose += " (the language expert has the same embeddings, final norm and head)"
    told = (
        f"{job.title} by partition {shares}",
        f"Layers located by {job.sites.by}. Embeddings, final norm and head, configuration and tokenizer: {whose}.",
    )
    files = job.everyone["base"] if outside.adapter else outside  # an adapter has no configuration of a model
    return _write(job, recipe, files, {"partition": str(shares), "embeddings": whose}, told)


def _taken(expert: Expert, name: str, job: Job) -> Recipe:
    """Return the recipe that takes one expert's tensor as it is."""
    source = expert.source(name, job.base)
    if source.pair:
        return Recipe(name, "task-arithmetic", (source,), Options((1.0,)), base=Source(source.stored))
    return Recipe(name, "copy", (source,))


def _equal(name: str, sources: Sequence[Source]) -> Recipe:
    """Return the recipe that copies a tensor of whole numbers, which must be the same everywhere."""
    first = sources[0].stored
    if not all(same_bytes(first, source.stored) for source in sources[1:]):
        raise RequestError(f"{name!r} is stored as {first.dtype} and differs between the experts: it has no mean.")
    return Recipe(name, "copy", (sources[0],))


def _alike(job: Job, options: Options) -> Merged:
    """Plan and write a merge that treats all parameters alike."""
    if job.stays_adapter:
        names = dict.fromkeys(name for adapter in job.adapters for name in adapter.pairs)
        shares = [weight / options.total for weight in options.weights]
        terms = list(zip(shares, job.adapters, strict=True))
        told = {"weights": ", ".join(f"{share:g}" for share in shares)}
        return _write_adapter(job, dict.fromkeys(names, terms), told)

    def recipe(name: str) -> Recipe:
        sources = tuple(expert.source(name, job.base) for expert in job.experts)
        reference = job.reference.checkpoint.tensors[name]
        if all(source.pair is None and same_bytes(reference, source.stored) for source in sources):
            return Recipe(name, "copy", (Source(reference),))  # what nobody changed stays, embeddings say
        if sources[0].stored.dtype not in FLOATS:
            return _equal(name, sources)
        base = job.base.source(name, None) if job.base else None
        return Recipe(name, job.merge.slug, sources, options, base)

    settings = job.merge.told(options)
    lines = (
        f"{job.title}; {settings}",
        f"All parameters are merged, embeddings and head too. Configuration and tokenizer: the {job.reference.role}'s.",
    )
    return _write(job, recipe, job.reference, {"settings": settings}, lines)


def _adapter_by_partition(job: Job, shares: Partition, by_role: Mapping[str, Expert], embeddings: str | None) -> Merged:
    spec = {"partition": str(shares)}

    def share(name: str, site: Site, side: str) -> float:
        """Return the share of a side; outside the layers all is the one's that ``embeddings`` names."""
        if site.layer is not None:
            return shares.share(site, side)
        if embeddings is None:
            raise RequestError(
                f"An adapter changes {name!r}, outside the layers: say whose to take, --embeddings math, language or base."
            )
        spec["embeddings"] = embeddings
        return float(embeddings == side)

    math_shares = {name: share(name, site, "math") for name, site in job.sites.of.items()}
    whole = {*math_shares.values()} <= {0, 1} and job.dtype is None and embeddings != "base"
    if len(job.adapters) == 2 and whole and adapters.pickable(job.adapters):
        told = (
            f"{job.title} by partition {shares}",
            f"Layers located by {job.sites.by}. The result is an adapter again.",
        )

        def picked(name: str) -> Recipe:
            owner = by_role["math" if math_shares[name] else "language"]
            return Recipe(name, "copy", (Source(owner.checkpoint.tensors[name]),))

        return _write(job, picked, job.reference, spec, told)
    by_parameter = {plain_name(name): site for name, site in job.sites.of.items()}
    terms = {
        name: [
            (part, one) for side, one in zip(by_role, job.adapters, strict=True) if (part := share(name, site, side))
        ]
        for name, site in by_parameter.items()
    }
    return _write_adapter(job, terms, spec)


def _write_adapter(job: Job, terms: Mapping[str, adapters.Terms], spec: Mapping[str, Any]) -> Merged:
    """Write the sums of updates as one adapter; what no expert changes there gets a pair of zeros."""
    from safetensors.torch import save_file

    if not any(one.rank(name) for name, chosen in terms.items() for _, one in chosen):
        raise RequestError("Nothing of the adapters is left in this merge: it is the base itself.")
    dtype = DTYPE_NAMES[job.dtype or "F32"]
    tensors, rank = adapters.combined(terms, job.adapters, dtype)
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    _check_room(job.out, nbytes)
    with _output(job.out) as folder:
        save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
        config = adapters.combined_config(job.adapters, list(terms), rank)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        reference = job.reference.checkpoint
        copy_companions(companions(reference), reference.folder, folder, {ADAPTER_CONFIG})
        _write_provenance(folder, job, {**spec, "rank": rank})
        _check_unchanged(job)
    told = (
        f"{job.title}; " + ", ".join(f"{key} {value}" for key, value in spec.items()),
        f"The result is an adapter of rank {rank}, scaling 1, stored in {dtype}: a sum of updates is the concatenation of their "
        "pairs.",
    )
    return Merged(job.out, (*told, *job.left_out), 0, 2 * len(terms), nbytes, time.time() - job.started)
