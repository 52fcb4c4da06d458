"""LoRA adapters as PEFT writes them: what their config means, their pairs, and merges that stay adapters.

A pair (A, B) of rank r stands for the update ``scaling * B @ A``, that of an embedding for its transpose. Picking pairs picks
updates; a sum of updates is the concatenation of pairs to the sum of their ranks. Averaging A and B apart would not average
updates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlnb.errors import RequestError, WorkError
from xlnb.weights.sites import EMBEDDING, HEAD, bare_name, outside_block
from xlnb.weights.tensor_files import ADAPTER, ADAPTER_CONFIG, FLOATS, Checkpoint, Stored, open_checkpoint, sample

if TYPE_CHECKING:
    from torch import Tensor

_FACTORS = {".lora_A.weight": ".lora_B.weight", ".lora_embedding_A": ".lora_embedding_B"}
_COPY = re.compile(r"\.base_layer(\.(?:weight|bias))$")
_PREFIX = "base_model.model."
_EXTRAS = ("use_dora", "modules_to_save", "fan_in_fan_out", "target_parameters",
           "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
           "monteclora_config")  # fmt: skip
_OWN_BASE = ("gaussian", "eva", "orthogonal")  # initialisations that leave the base as it is; PiSSA and its like do not
Terms = Sequence[tuple[float, "Adapter"]]  # weights and adapters whose updates are added


@dataclass(frozen=True)
class Pair:
    """The factors of a parameter's update, ``scaling * b @ a``; an embedding's, (tokens, width), is ``turned``: the transpose."""

    a: Stored
    b: Stored
    scaling: float
    turned: bool = False

    @property
    def rank(self) -> int:
        """The rank of the update."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the parameter: (outputs, inputs), of an embedding (tokens, width)."""
        shape = self.b.shape[0], self.a.shape[1]
        return shape[::-1] if self.turned else shape

    def update(self, rows: tuple[int, int] | None = None) -> Tensor:
        """Return the update in float32, or its rows from ``rows[0]`` to before ``rows[1]``."""
        import torch

        from xlnb.weights.tensors import load

        if not self.turned:
            return self.scaling * (load(self.b, rows).float() @ load(self.a).float())
        first, end = rows or (0, self.shape[0])
        width = self.a.nbytes // self.a.size
        at = [self.a.start + (row * self.shape[0] + first) * width for row in range(self.rank)]
        parts = [replace(self.a, shape=(end - first,), start=start, stop=start + (end - first) * width) for start in at]
        return self.scaling * (torch.stack([load(part) for part in parts]).float().T @ load(self.b).float().T)


@dataclass(frozen=True)
class Adapter:
    """A plain LoRA adapter: ``pairs`` has the factors by the name of the parameter that they change.

    ``copies`` are parameters of the base that PEFT saved beside them, as it does where embeddings or the head are adapted;
    ``checkpoint`` is seen without them.
    """

    checkpoint: Checkpoint
    pairs: dict[str, Pair]
    copies: dict[str, Stored] = field(default_factory=dict)

    def rank(self, name: str) -> int:
        """Return the rank of a parameter's update; 0 where it has none."""
        return self.pairs[name].rank if name in self.pairs else 0

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The shape of each parameter that is changed."""
        return {name: pair.shape for name, pair in self.pairs.items()}

    @cached_property
    def _by_bare_name(self) -> dict[str, Pair]:
        return {bare_name(name): pair for name, pair in self.pairs.items()}

    def pair_of(self, name: str) -> Pair | None:
        """Return the pair that changes a parameter of the base, as the base's files name it; None where there is none."""
        return self.pairs.get(name) or self._by_bare_name.get(bare_name(name))

    def check_base(self, base: Checkpoint, whose: str = "") -> None:
        """Refuse an adapter of another model than the ``base``: of a parameter that this lacks or has in another shape.

        ``whose`` names the adapter in the message.
        """
        for name, shape in self.shapes.items():
            has = of_base(base, name)
            if has is None or has.shape != shape:
                raise RequestError(
                    f"{whose or f'The adapter in {self.checkpoint.folder}'} adapts {name!r} of shape {list(shape)}, but the base "
                    f"{base.folder} has "
                    + (f"it in shape {list(has.shape)}." if has else "no such parameter.")
                    + " Give the base that it was trained on."
                )

    def check_numbers(self) -> None:
        """Refuse an adapter of NaN, or whose update is zero everywhere, as far as a sample of each factor shows."""
        zero = True
        for name, pair in self.pairs.items():
            a, b = sample(pair.a), sample(pair.b)
            if not all(map(isfinite, (*a, *b))):
                raise RequestError(
                    f"The adapter in {self.checkpoint.folder} has NaN or infinite numbers at {name!r}: its training diverged."
                )
            zero = zero and not (any(a) and any(b))
        if zero:
            raise RequestError(
                f"The update of the adapter in {self.checkpoint.folder} is zero, as far as was looked: it was not trained, or "
                "its weights were not saved."
            )

    def check_copies(self, base: Checkpoint | None) -> None:
        """Refuse copies of the base's parameters that differ from the ``base``'s, in the copy's dtype: they were trained, too."""
        for name, copy in self.copies.items():
            if base is None:
                raise RequestError(
                    f"The adapter in {self.checkpoint.folder} holds {name!r} of its base as well: say the base, so that "
                    "it can be seen whether that was trained."
                )
            own = of_base(base, name)
            if own is None or not _is_rounded(copy, own):
                raise _more_than_pairs(self.checkpoint, f"its {name!r} differs from that of the base {base.folder}")

    @property
    def of_tokens(self) -> list[str]:
        """Which of the parameters that are changed are the embedding or the head."""
        return [name for name in self.pairs if outside_block(name) in (EMBEDDING, HEAD)]

    def check_tied(self, base: Checkpoint, otherwise: str = "") -> None:
        """Refuse an update of the embedding or the head alone where the ``base`` ties them: PEFT changes one of the two.

        ``otherwise`` says what else could be done.
        """
        if self.of_tokens and ties_head(base):
            raise RequestError(
                f"The adapter in {self.checkpoint.folder} adapts {self.of_tokens[0]!r}, and the base {base.folder} ties its head "
                f"to the embedding: in a checkpoint the change would reach both. {otherwise}Untie the base."
            )


def _is_rounded(copy: Stored, own: Stored) -> bool:
    """Say whether ``copy`` is ``own`` in its own dtype, some rows at a time: a trainer loads the base in another."""
    from xlnb.weights.tensors import DTYPES, load

    if copy.shape != own.shape:
        return False
    parts = [(at, min(at + 1024, copy.shape[0])) for at in range(0, copy.shape[0], 1024)]
    return all(bool((load(own, part).to(DTYPES[copy.dtype]) == load(copy, part)).all()) for part in parts)


def of_base(base: Checkpoint, name: str) -> Stored | None:
    """Return a parameter of the base, which for a head that is tied is the embedding; None where it has no such parameter.

    The base's files may call it otherwise than the loaded model, see :func:`~xlnb.weights.sites.bare_name`.
    """
    if name in base.tensors:
        return base.tensors[name]
    if outside_block(name) != HEAD or not ties_head(base):
        # A name that is bare itself is of the model without its head, which an adapter of the whole never names.
        bare = bare_name(name)
        return base.by_bare_name.get(bare) if bare != name or outside_block(name) == HEAD else None
    return next((stored for other, stored in base.tensors.items() if outside_block(other) == EMBEDDING), None)


def ties_head(base: Checkpoint) -> bool:
    """Say whether a checkpoint has no head of its own, so that its embedding is the head as well."""
    return not any(outside_block(name) == HEAD for name in base.tensors)


def open_adapter(folder: str | Path | Checkpoint) -> Adapter:
    """Read an adapter's config and the places of its pairs, no tensor.

    The scaling is alpha / r, or alpha / sqrt(r) if rank-stabilised, with the ranks and alphas that modules have of their own.
    Adapters that are more than LoRA pairs (DoRA, biases, whole modules), whose update this would misstate, are refused.
    """
    if not isinstance(folder, Checkpoint):
        if not Path(folder).is_dir():
            raise RequestError(f"There is no adapter folder {folder}. Give a folder that PEFT's save_pretrained wrote.")
        for file in (ADAPTER_CONFIG, ADAPTER):
            if not (Path(folder) / file).is_file():
                raise RequestError(
                    f"{folder} is not an adapter folder: it has no {file}. Give a folder that PEFT's save_pretrained wrote."
                )
        folder = open_checkpoint(folder)
    _check_config(folder)
    pairs: dict[str, Pair] = {}
    copies: dict[str, Stored] = {}
    for key, a in folder.tensors.items():
        name = key.removeprefix(_PREFIX)
        end = next((end for ends in _FACTORS.items() for end in ends if name.endswith(end)), None)
        if name == key or (end is None and not _is_copy(name)):
            raise _more_than_pairs(folder, f"it has {key}")
        if end is None:
            copies[_COPY.sub(r"\1", name)] = a
        elif end in _FACTORS:
            module = name.removesuffix(end)
            rank, alpha = (_of_module(folder, module, which) for which in ("rank", "alpha"))
            b = folder.tensors.get(key.removesuffix(end) + _FACTORS[end])
            if 0 in a.shape:
                raise RequestError(
                    f"The adapter in {folder.folder} has no numbers in {key} (shape {list(a.shape)}): DeepSpeed's ZeRO-3 leaves "
                    "such files. Save the gathered weights."
                )
            fits = b is not None and len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] == rank
            if b is None or not fits or not {a.dtype, b.dtype} <= FLOATS:
                raise RequestError(f"The adapter in {folder.folder} has no fitting pair of rank {rank} for {key}.")
            scaling = alpha / rank**0.5 if folder.config.get("use_rslora") else alpha / rank
            pairs[f"{module}.weight"] = Pair(a, b, scaling, "embedding" in end)
    if len(pairs) * 2 + len(copies) != len(folder.tensors) or not pairs:
        raise RequestError(f"The adapter in {folder.folder} has factors without their partner, or none at all.")
    if folder.config.get("ensure_weight_tying") and any(outside_block(name) for name in pairs):
        raise _more_than_pairs(
            folder, "it sets ensure_weight_tying, and its update of the embedding is one of the head as well"
        )
    held = {stored for pair in pairs.values() for stored in (pair.a, pair.b)}
    return Adapter(folder.only({name: one for name, one in folder.tensors.items() if one in held}), pairs, copies)


def _is_copy(name: str) -> bool:
    """Say whether a tensor is an embedding or a head of the base, as PEFT saves them where they are adapted."""
    return _COPY.search(name) is not None and outside_block(_COPY.sub(r"\1", name)) in (EMBEDDING, HEAD)


def _of_module(checkpoint: Checkpoint, module: str, which: str) -> Any:
    """Return the rank or alpha of a module: its own where a pattern names it (as PEFT looks for it), else everybody's."""
    patterns = checkpoint.config.get(f"{which}_pattern") or {}
    try:
        named = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    except re.error as error:
        raise RequestError(
            f"{checkpoint.folder / ADAPTER_CONFIG} says {which}_pattern = {patterns!r}: one of its names is no pattern ({error})."
        ) from error
    everybody = checkpoint.config["r" if which == "rank" else "lora_alpha"]
    return everybody if named is None else _positive(checkpoint, f"{which}_pattern[{named!r}]", patterns[named], which)


def _check_config(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    surplus = [key for key in _EXTRAS if config.get(key)]
    if config.get("bias", "none") != "none":
        surplus.append("bias")
    if isinstance(config.get("init_lora_weights"), str) and config["init_lora_weights"] not in _OWN_BASE:
        surplus.append("init_lora_weights")
    if config.get("peft_type") != "LORA":
        raise _more_than_pairs(checkpoint, f"its type is {config.get('peft_type')}")
    if surplus:
        raise _more_than_pairs(checkpoint, f"it sets {', '.join(surplus)}")
    for which, key in (("rank", "r"), ("alpha", "lora_alpha")):
        _positive(checkpoint, key, config.get(key), which)
        patterns = config.get(f"{which}_pattern") or {}
        if not isinstance(patterns, dict):
            raise RequestError(
                f"{checkpoint.folder / ADAPTER_CONFIG} says {which}_pattern = {patterns!r}: it takes a table."
            )


def _positive(checkpoint: Checkpoint, key: str, value: Any, which: str) -> Any:
    kinds, wanted = (int, "a positive whole number") if which == "rank" else (int | float, "a positive number")
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < inf:
        raise RequestError(f"{checkpoint.folder / ADAPTER_CONFIG} says {key} = {value!r}: it takes {wanted}.")
    return value


def _more_than_pairs(checkpoint: Checkpoint, why: str) -> RequestError:
    return RequestError(
        f"The adapter in {checkpoint.folder} is more than plain LoRA pairs ({why}): merge it into its base first."
    )


def pickable(adapters: Sequence[Adapter]) -> bool:
    """Say whether pairs of these adapters can stand side by side as they are: equal names, shapes, dtypes and scalings."""
    kinds = [
        {
            name: (pair.scaling, pair.a.dtype, pair.a.shape, pair.b.dtype, pair.b.shape)
            for name, pair in one.pairs.items()
        }
        for one in adapters
    ]
    return all(kind == kinds[0] for kind in kinds)


def combined(
    terms: Mapping[str, Terms], adapters: Sequence[Adapter], dtype: str = "float32"
) -> tuple[dict[str, Tensor], int]:
    """Return the factors of the weighted sums of updates of each parameter, by PEFT's names and in ``dtype``, and their rank.

    Every pair gets the same rank, that of the longest sum, filled up with zeros, and the scaling 1: weights and scalings are
    in B. A parameter without terms gets zeros, whose update is zero. Source: ours.
    """
    import torch

    from xlnb.weights.tensors import load

    rank = max(sum(adapter.rank(name) for _, adapter in chosen) for name, chosen in terms.items())
    pairs = {name: pair for adapter in adapters for name, pair in adapter.pairs.items()}
    tensors = {}
    for name, chosen in terms.items():
        outputs, inputs = pairs[name].b.shape[0], pairs[name].a.shape[1]
        a, b, at = torch.zeros(rank, inputs), torch.zeros(outputs, rank), 0
        for weight, adapter in chosen:
            if name in adapter.pairs:
                pair = adapter.pairs[name]
                mine = slice(at, at + pair.rank)
                a[mine] = load(pair.a).float()
                b[:, mine] = (weight * pair.scaling) * load(pair.b).float()
                at = mine.stop
        ends = list(_FACTORS.items())[pairs[name].turned]
        for end, factor in zip(ends, (a, b), strict=True):
            stored = factor.to(getattr(torch, dtype))
            if not bool(stored.isfinite().all()):
                raise WorkError(
                    f"The factors of {name!r} have NaN or infinite numbers in {dtype}: the training of an adapter diverged, or "
                    "--dtype is too narrow for them."
                )
            tensors[_PREFIX + name.removesuffix(".weight") + end] = stored
    return tensors, rank


def combined_config(adapters: Sequence[Adapter], names: Sequence[str], rank: int) -> dict[str, Any]:
    """Return the PEFT config of combined factors: that of the first adapter, with their rank and a scaling of 1."""
    modules = [name.removesuffix(".weight") for name in names]
    short = sorted({module.rpartition(".")[2] for module in modules})
    by_short = [sum(module.endswith("." + last) for module in modules) for last in short]
    everywhere = {target for adapter in adapters for target in _targets_of_all_layers(adapter.checkpoint.config)}
    in_short = len(set(by_short)) == 1 and everywhere.issuperset(short)
    return dict(adapters[0].checkpoint.config) | {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        # Where some layers are not adapted, each module is named in full: PEFT would adapt the others as well, at random.
        "target_modules": short if in_short else sorted(modules),
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        # The factors are loaded over whatever is drawn, and some draws refuse the new rank (orthogonal an odd one).
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _targets_of_all_layers(config: Mapping[str, Any]) -> list[str]:
    """Return the module names that an adapter's config targets wherever they occur; none where it restricts them."""
    targets = config.get("target_modules")
    restricted = any(config.get(key) not in (None, [], "") for key in ("layers_to_transform", "exclude_modules"))
    return targets if isinstance(targets, list) and not restricted else []
