"""Merges straight from disk to disk: checks first, then bytes.

A swap copies byte ranges between safetensors files and loads no tensor; what needs arithmetic is streamed some rows at a time
(:mod:`xlnb.streaming`). Everything that can be wrong with a request is found before the first byte is written, and a merge
that is killed leaves no output behind.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from xlnb import adapters, artifacts
from xlnb.adapters import Adapter, open_adapter
from xlnb.agreement import check_agreement, check_same_outside, check_unquantized, check_whole
from xlnb.errors import RequestError, WorkError
from xlnb.merging import DARE_DENSITY, TIES_DENSITY, check_density, check_t
from xlnb.partitions import Partition, chosen_partition
from xlnb.sites import Sites, locate_all
from xlnb.tensor_files import (
    ADAPTER,
    ADAPTER_CONFIG,
    BYTES,
    DTYPE_NAMES,
    DTYPES,
    FLOATS,
    INDEX,
    Checkpoint,
    Stored,
    TensorFile,
    companions,
    header_bytes,
    open_checkpoint,
    same_bytes,
)

if TYPE_CHECKING:
    from xlnb.streaming import Rounding

SWAP, SOUP, ARITHMETIC, TIES, DARE, SLERP = "layer-swapping", "soup", "task-arithmetic", "ties", "dare", "slerp"
MERGES = (SWAP, SOUP, ARITHMETIC, TIES, DARE, SLERP)
REVERT = "revert"
EMBEDDINGS = ("base", "math", "language")
_STAYS_ADAPTER = (SWAP, SOUP, ARITHMETIC, REVERT)
_AIR = 16 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Source:
    """Where an expert's tensor comes from: a stored tensor, and a LoRA pair whose update is added to it, if any."""

    stored: Stored
    pair: tuple[Stored, Stored] | None = None
    scaling: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the output comes about: ``copy`` byte for byte, ``cast``, ``linear`` (weighted sum of the sources,
    divided by ``total``), ``deltas`` (base plus weighted sum of updates), ``ties``, ``dare`` or ``slerp``."""

    name: str
    kind: str
    sources: tuple[Source, ...]
    weights: tuple[float, ...] = ()
    base: Source | None = None
    total: float = 1.0
    density: float = 1.0
    seed: int = 0
    t: float = 0.5


@dataclass(frozen=True)
class Expert:
    """A folder that takes part in a merge, under the name that messages use for it (``math``, ``expert 1``)."""

    role: str
    checkpoint: Checkpoint

    @cached_property
    def adapter(self) -> Adapter | None:
        """The LoRA adapter, or None for a full checkpoint."""
        return open_adapter(self.checkpoint) if self.checkpoint.is_adapter else None

    def source(self, name: str, base: Expert | None) -> Source:
        """Return where this expert's tensor ``name`` comes from."""
        if self.adapter is None:
            return Source(self.checkpoint.tensors[name])
        assert base is not None
        pair = self.adapter.pairs.get(name)
        return Source(base.checkpoint.tensors[name], pair, self.adapter.scaling if pair else 1.0)


@dataclass(frozen=True)
class Merged:
    """What a merge wrote: the folder, how many tensors were copied and computed, their bytes, seconds, and the rounding floor.

    ``rounding`` is the norm of what storing in the output's dtype took away, relative to the norm of what the merge changed.
    """

    out: Path
    told: tuple[str, ...]
    copied: int
    computed: int
    nbytes: int
    seconds: float
    rounding: float = 0.0

    def __str__(self) -> str:
        lines = [*self.told, f"{self.copied} tensors copied byte for byte, {self.computed} computed."]
        if self.rounding:
            lines.append(f"Rounding floor: storing the computed tensors took away {self.rounding:.1%} of what the merge "
                         "changed. --dtype float32 keeps all of it.")  # fmt: skip
        lines.append(f"{self.nbytes / 1e6:,.1f} MB in {self.seconds:.1f} s: {self.out}")
        return "\n".join(lines)


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


# ----------------------------------------------------------------------------------------------------- opening, checking


@dataclass(frozen=True)
class Job:
    """A request that was checked: who takes part, what the output looks like, and where it goes."""

    method: str
    experts: tuple[Expert, ...]
    base: Expert | None
    reference: Expert  # whose files the output's are like
    sites: Sites
    dtype: str | None
    stays_adapter: bool
    out: Path


@dataclass(frozen=True)
class Options:
    """What an arithmetic merge is told beside its experts; the weights of a soup are shares of their ``total``."""

    weights: tuple[float, ...] = ()
    total: float = 1.0
    density: float = 1.0
    seed: int = 0
    t: float = 0.5


def _options(
    method: str, n: int, weights: Sequence[float | None] | None, density: float | None, seed: int, t: float
) -> Options:
    given = [None] * n if weights is None else list(weights)
    if len(given) != n:
        raise RequestError(f"{n} experts and {len(given)} weights: give one weight for each, or none at all.")
    if any(weight is not None for weight in given) and method in (SWAP, SLERP):
        raise RequestError(f"{method} takes no weights" + ("; say --t." if method == SLERP else "."))
    if any(weight is not None and not -1e6 < weight < 1e6 for weight in given):
        raise RequestError(f"A weight is a number, not one of {given}.")
    numbers = [1.0 if weight is None else float(weight) for weight in given]
    total = sum(numbers) if method == SOUP else 1.0
    if abs(total) < 1e-6:
        raise RequestError("The weights of a soup add up to 0: they are shares, so give others.")
    if density is not None and method not in (TIES, DARE):
        raise RequestError(f"{method} takes no density.")
    kept = {TIES: TIES_DENSITY, DARE: DARE_DENSITY}.get(method, 1.0) if density is None else density
    check_density(kept)
    check_t(t)
    if method == SLERP and n != 2:
        raise RequestError(f"SLERP goes between two experts, not {n}.")
    if seed < 0:
        raise RequestError(f"The seed is {seed}: it must be 0 or more.")
    return Options(tuple(numbers), total, kept, seed, t)


def _open(
    method: str,
    folders: Mapping[str, str | Path],
    base: str | Path | None,
    dtype: str | None,
    as_checkpoint: bool,
    same_base: bool,
    out: str | Path,
) -> Job:
    if dtype is not None and dtype not in DTYPES:
        raise RequestError(f"dtype={dtype!r}: choose one of {', '.join(DTYPES)}.")
    out = Path(out)
    _check_out(out, [Path(folder) for folder in [*folders.values(), *([base] if base else [])]])
    experts = tuple(Expert(role, open_checkpoint(folder)) for role, folder in folders.items())
    origin = Expert("base", open_checkpoint(base)) if base else None
    if origin and origin.checkpoint.is_adapter:
        raise RequestError(f"The base {base} is an adapter: give the checkpoint that it was trained on.")
    found = [expert.adapter for expert in experts]
    low_rank = [adapter for adapter in found if adapter is not None]
    stays = len(low_rank) == len(experts) and method in _STAYS_ADAPTER and not as_checkpoint
    if low_rank and not stays and origin is None:
        raise RequestError(
            f"{_first_adapter(experts).role} is an adapter, and {method} "
            + (
                "of adapters and checkpoints together"
                if len(low_rank) < len(experts)
                else "of adapters, to a checkpoint,"
            )
            + " needs the model it was trained on: say --base."
        )
    if method in (ARITHMETIC, TIES, DARE) and origin is None and not stays:
        raise RequestError(f"{method} adds updates to the base: say --base.")
    _check_base_names(low_rank, same_base)
    _check_shapes(experts)
    full = [expert for expert in [origin, *experts] if expert and not expert.checkpoint.is_adapter]
    for one in full:
        check_unquantized(one.checkpoint, one.role)
        check_whole(one.checkpoint, one.role)
    for one, other in combinations(full, 2):
        check_agreement(one.checkpoint, other.checkpoint, (one.role, other.role), () if dtype else DTYPES)
    sites = _sites(experts, full, stays)
    for expert in experts:
        if expert.adapter is not None and origin:
            _check_fit(expert, expert.adapter, origin)
    reference = full[0] if full and not stays else experts[0]
    return Job(method, experts, origin, reference, sites, DTYPES.get(dtype or ""), stays, out)


def _first_adapter(experts: Sequence[Expert]) -> Expert:
    return next(expert for expert in experts if expert.adapter is not None)


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    if out.name in ("", ".."):
        raise RequestError(f"--out {out} is no name for a new folder: give one.")
    real = Path(os.path.realpath(out))
    for folder in inputs:
        if real.is_relative_to(os.path.realpath(folder)):
            raise RequestError(
                f"--out {out} lies inside the input {folder}, and inputs are never changed: choose another place."
            )
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise RequestError(f"--out {out} exists already: give a folder that does not exist or is empty.")
    above = next(parent for parent in out.absolute().parents if parent.exists() or parent.is_symlink())
    if not above.is_dir():
        raise RequestError(f"--out {out} cannot be made: {above} is not a folder.")


def _check_base_names(found: Sequence[Adapter], same_base: bool) -> None:
    names = {adapter.base_name.rstrip("/") for adapter in found}
    if len(names) > 1 and not same_base:
        raise RequestError(
            f"The adapters were trained on different bases: {', '.join(sorted(map(repr, names)))}. If these are names of the "
            "same model, say --same-base."
        )


def _check_shapes(experts: Sequence[Expert]) -> None:
    seen: dict[str, tuple[Expert, tuple[int, ...]]] = {}
    for expert in experts:
        for name, shape in (expert.adapter.shapes if expert.adapter else {}).items():
            other, before = seen.setdefault(name, (expert, shape))
            if shape != before:
                raise RequestError(
                    f"{other.role} ({other.checkpoint.folder}) and {expert.role} ({expert.checkpoint.folder}) adapt {name!r} of "
                    f"shapes {list(before)} and {list(shape)}: they are of different models."
                )


def _check_fit(expert: Expert, adapter: Adapter, base: Expert) -> None:
    for name, shape in adapter.shapes.items():
        if name not in base.checkpoint.tensors or base.checkpoint.tensors[name].shape != shape:
            has = base.checkpoint.tensors.get(name)
            raise RequestError(
                f"{expert.role} ({expert.checkpoint.folder}) adapts {name!r} of shape {list(shape)}, but the base "
                f"{base.checkpoint.folder} has " + (f"it in shape {list(has.shape)}." if has else "no such parameter.")
            )


def _sites(experts: Sequence[Expert], full: Sequence[Expert], stays: bool) -> Sites:
    if full and not stays:
        return full[0].checkpoint.sites
    names = [name for expert in experts for name in expert.checkpoint.tensors]
    sites = locate_all(names)
    if full:  # the depth is the base's: adapters need not have all layers
        return replace(sites, depth=full[0].checkpoint.sites.depth)
    if any(_picks_layers(expert.checkpoint.config) for expert in experts):
        raise RequestError("An adapter changes some layers only, so it does not tell how many there are: say --base.")
    return sites


def _picks_layers(config: Mapping[str, Any]) -> bool:
    """Say whether an adapter's config picks layers, so that its last layer need not be the model's."""
    modules = config.get("target_modules")
    if config.get("layers_to_transform") is not None or (isinstance(modules, str) and modules != "all-linear"):
        return True
    excluded = config.get("exclude_modules") or []
    named = [*(modules or []), *([excluded] if isinstance(excluded, str) else excluded)]
    return any(character.isdigit() for name in named for character in str(name))


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


def _title(job: Job) -> str:
    names = {SWAP: "Layer-Swapping", REVERT: "Revert", SOUP: "Soup", ARITHMETIC: "Task arithmetic", TIES: "TIES", DARE: "DARE",
             SLERP: "SLERP"}  # fmt: skip
    who = ", ".join(f"{e.role} {e.checkpoint.folder}" for e in [*job.experts, *([job.base] if job.base else [])])
    return f"{names[job.method]} of {who}"


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


# -------------------------------------------------------------------------------------------------------------- writing


def _write(
    job: Job,
    recipe: Callable[[str], Recipe],
    companion: Expert,
    spec: Mapping[str, Any],
    told: tuple[str, ...],
    started: float,
) -> Merged:
    """Write all tensors by their recipes into files like the reference's, with the companion's configuration and tokenizer."""
    planned = [_planned_file(file, recipe, job.dtype) for file in job.reference.checkpoint.files]
    extras = companions(companion.checkpoint)
    nbytes = sum(stored.nbytes for file in planned for stored in file.tensors.values())
    _check_room(job.out, nbytes + sum(path.stat().st_size for path in extras) + sum(len(f.header) for f in planned))
    recipes = [one for file in planned for one in file.recipes]
    computed = any(one.kind != "copy" for one in recipes)
    if computed:  # it takes a second to import: let that pass while bytes are copied
        Thread(target=import_module, args=("xlnb.streaming",), daemon=True).start()
    with _output(job.out) as folder:
        for file in planned:
            _copy_ranges(folder, file)
        roundings = [_compute(folder, file) for file in planned] if computed else []
        _copy_companions(extras, companion.checkpoint.folder, folder)
        _write_index(folder, job.reference.checkpoint, nbytes)
        _adjust_config(folder, job.dtype)
        _write_provenance(folder, job, spec, started)
    copied = sum(one.kind == "copy" for one in recipes)
    floor = sum(roundings[1:], roundings[0]).share if roundings else 0.0
    return Merged(job.out, told, copied, len(recipes) - copied, nbytes, time.time() - started, floor)


@dataclass(frozen=True)
class PlannedFile:
    """A file of the output: its header, the place of each tensor, and how each comes about, in the order of the bytes."""

    name: str
    header: bytes
    tensors: dict[str, Stored]
    recipes: tuple[Recipe, ...]


def _planned_file(file: TensorFile, recipe: Callable[[str], Recipe], dtype: str | None) -> PlannedFile:
    recipes, stored_as = [], {}
    for name, stored in file.tensors.items():
        one = recipe(name)
        wanted = dtype if dtype and stored.dtype in FLOATS else stored.dtype
        if one.kind == "copy" and one.sources[0].stored.dtype != wanted:
            one = replace(one, kind="cast")
        recipes.append(one)
        stored_as[name] = (wanted, stored.shape)
    same = all(stored.dtype == stored_as[name][0] for name, stored in file.tensors.items())
    header = file.header if same else header_bytes(stored_as, file.metadata)
    tensors, at = {}, len(header)
    for name, (kind, shape) in stored_as.items():
        place = Stored(Path(file.path.name), kind, shape, at, at)
        at += place.size * BYTES[kind]
        tensors[name] = replace(place, stop=at)
    return PlannedFile(file.path.name, header, tensors, tuple(recipes))


def _copy_ranges(folder: Path, file: PlannedFile) -> None:
    """Make a planned file with its header and all that is copied; what is computed is left to :func:`_compute`."""
    with ExitStack() as stack:
        out = stack.enter_context(open(folder / file.name, "xb", buffering=0)).fileno()
        inputs: dict[Path, int] = {}
        os.write(out, file.header)
        for source, start, stop, at in _ranges(file):
            if source not in inputs:
                inputs[source] = stack.enter_context(open(source, "rb", buffering=0)).fileno()
            _copy_range(inputs[source], out, start, stop - start, at, source)


def _compute(folder: Path, file: PlannedFile) -> Rounding:
    """Write what is computed of a planned file into its place, and return what rounding took away."""
    from xlnb.streaming import compute

    with open(folder / file.name, "r+b", buffering=0) as out:
        return compute([(one, file.tensors[one.name]) for one in file.recipes if one.kind != "copy"], out.fileno())


def _ranges(file: PlannedFile) -> list[tuple[Path, int, int, int]]:
    """Return what is copied: file, first byte, last byte, and where it goes; neighbours go together."""
    ranges: list[tuple[Path, int, int, int]] = []
    for one in file.recipes:
        if one.kind == "copy":
            stored, at = one.sources[0].stored, file.tensors[one.name].start
            last = ranges[-1] if ranges else None
            if last and last[0] == stored.file and last[2] == stored.start and last[3] + last[2] - last[1] == at:
                ranges[-1] = (*last[:2], stored.stop, last[3])
            else:
                ranges.append((stored.file, stored.start, stored.stop, at))
    return ranges


def _copy_range(source: int, target: int, start: int, count: int, at: int, path: Path) -> None:
    """Copy bytes from one open file to a place in another, inside the kernel where the system can."""
    while count:
        try:
            done = os.copy_file_range(source, target, min(count, 1 << 30), offset_src=start, offset_dst=at)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            done = os.pwrite(target, os.pread(source, min(count, 1 << 22), start), at)
        if not done:
            raise WorkError(f"{path} became shorter while it was read: start again.")
        start, at, count = start + done, at + done, count - done


def _output(out: Path) -> Any:
    if out.is_dir():
        out.rmdir()  # empty, as was checked: the finished folder takes its place
    # As cp does, the bytes are left to the system to write out: to wait for gigabytes would more than double the time. After a
    # loss of power a file may be short, which the check of its header tells.
    return artifacts.whole_folder(out, flush=False, fresh=True)


def _check_room(out: Path, nbytes: int) -> None:
    place = next(parent for parent in [out.absolute(), *out.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < nbytes + _AIR:
        raise WorkError(
            f"The merge needs {nbytes / 1e9:.2f} GB in {place}, and {free / 1e9:.2f} GB are free. Make room, or choose another "
            "--out."
        )


def _copy_companions(paths: Sequence[Path], source: Path, folder: Path, without: Set[str] = frozenset()) -> None:
    for path in paths:
        if path.name not in without:
            target = folder / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def _write_index(folder: Path, reference: Checkpoint, nbytes: int) -> None:
    path = reference.folder / INDEX
    if reference.is_adapter or not path.exists():
        return
    if nbytes == reference.nbytes:
        shutil.copyfile(path, folder / INDEX)
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    index["metadata"] = (index.get("metadata") or {}) | {"total_size": nbytes}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _adjust_config(folder: Path, dtype: str | None) -> None:
    """Say the chosen dtype in config.json, which is otherwise the byte-for-byte copy."""
    path = folder / "config.json"
    if dtype is None or not path.exists():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = DTYPE_NAMES[dtype]
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_provenance(folder: Path, job: Job, spec: Mapping[str, Any], started: float) -> None:
    inputs = {e.role: e.checkpoint.folder.name for e in [*job.experts, *([job.base] if job.base else [])]}
    told = artifacts.provenance({"method": job.method, "inputs": inputs, **spec}, started)
    (folder / "provenance.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
