"""Task vectors: what fine-tuning changed, as named float32 tensors computed when they are asked for (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xlnb.errors import RequestError, typed
from xlnb.weights.adapters import open_adapter
from xlnb.weights.partitions import OWNERS, SIDES, Partition, check_word
from xlnb.weights.sites import EMBEDDING, HEAD, Site, locate_all, outside_block
from xlnb.weights.tensor_files import FLOATS, Checkpoint, language_setting, open_checkpoint, same_bytes
from xlnb.weights.vocabularies import in_common

if TYPE_CHECKING:
    from torch import Tensor


class TaskVector(Mapping[str, "Tensor"]):
    """Expert minus base: a read-only mapping from parameter name to float32 update, computed lazily.

    ``thunks`` maps each name to a function returning its update. Names that are absent did not change. ``sites`` says where the
    parameters live, if that is known already; else it is found when first asked for. ``depth`` is the number of layers of the
    model, None where it is not known.
    """

    def __init__(
        self,
        thunks: Mapping[str, Callable[[], Tensor]],
        sites: Mapping[str, Site] | None = None,
        depth: int | None = None,
    ):
        self._thunks = dict(thunks)
        self._sites = sites
        self.depth = depth

    @property
    def sites(self) -> Mapping[str, Site]:
        """Where each parameter lives."""
        if self._sites is None:
            self._sites = locate_all(self).of if self else {}
        return self._sites

    @classmethod
    @typed
    def of(cls, tensors: Mapping[str, Tensor]) -> TaskVector:
        """Return the task vector that holds ``tensors``, cast to float32."""
        return cls({name: tensor.float for name, tensor in tensors.items()})

    @classmethod
    @typed
    def of_expert(cls, folder: str | Path, base: str | Path | None = None) -> TaskVector:
        """Return the task vector of an expert's folder: of an adapter, or of a full checkpoint, which needs its ``base``."""
        if open_checkpoint(folder).is_adapter:
            return cls.from_adapter(folder, base)
        if base is None:
            raise RequestError(f"The expert {folder} is a full checkpoint: say which base it was trained from, too.")
        return cls.from_checkpoint(folder, base)

    @classmethod
    @typed
    def from_adapter(cls, folder: str | Path, base: str | Path | None = None) -> TaskVector:
        """Return the update of a LoRA adapter saved by PEFT: scaling * B @ A of each module, in float32.

        The ``base`` is needed where the adapter's file holds the base's embeddings or head as well, which must be the base's. An
        adapter of either is refused for a ``base`` that ties them; where no base is given, nobody knows whether it does, and
        such an adapter is taken as one of a base with a head of its own. Raises RequestError for an adapter of another model
        than the ``base``, whose parameters have other names or shapes.
        """
        adapter = open_adapter(folder)
        origin = open_checkpoint(base) if base else None
        if origin and (adapter.copies or adapter.of_tokens):
            origin = in_common([origin])[0][0]  # a head that is the embedding once more is no head of its own
        adapter.check_copies(origin)
        if origin:
            adapter.check_base(origin)
            adapter.check_tied(origin)
        return cls({name: pair.update for name, pair in adapter.pairs.items()}, depth=_depth(origin))

    @classmethod
    @typed
    def from_checkpoint(cls, expert: str | Path, base: str | Path) -> TaskVector:
        """Return the task vector of a fully fine-tuned checkpoint folder: expert minus base, in float32.

        Tensors are read from both folders when they are asked for. Embeddings and a head that have the base's very bytes, since
        they were frozen, are left out, so that such an expert is masked and merged as an adapter is.
        """
        from xlnb.weights.tensors import load

        opened = [open_checkpoint(folder) for folder in (expert, base)]
        for one in opened:
            if language_setting(one.config, "quantization_config"):
                raise RequestError(
                    f"{one.folder} is quantized: its numbers are no weights. Give the unquantized checkpoint."
                )
        after, before = (one.tensors for one in in_common(opened)[0])
        other_shapes = {name for name in after.keys() & before.keys() if after[name].shape != before[name].shape}
        if differing := (after.keys() ^ before.keys()) | other_shapes:
            raise RequestError(
                f"{expert} and {base} are not of the same architecture: {min(differing)!r} is missing in one or has another "
                f"shape ({len(differing)} such)."
            )

        def update(name: str) -> Callable[[], Tensor]:
            return lambda: load(after[name]).float() - load(before[name]).float()

        def is_frozen(name: str) -> bool:
            return outside_block(name) in (EMBEDDING, HEAD) and same_bytes(after[name], before[name])

        changed = {name: update(name) for name in after if after[name].dtype in FLOATS and not is_frozen(name)}
        return cls(changed, depth=_depth(opened[1]))

    def __getitem__(self, name: str) -> Tensor:
        return self._thunks[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._thunks  # without computing it, as a mapping would

    def __iter__(self) -> Iterator[str]:
        return iter(self._thunks)

    def __len__(self) -> int:
        return len(self._thunks)

    def __add__(self, other: TaskVector) -> TaskVector:
        """Return the sum; a name that only one side has keeps that side's update."""
        thunks = {**self._thunks, **other._thunks}
        for name in self._thunks.keys() & other._thunks.keys():
            thunks[name] = lambda name=name: self[name] + other[name]  # type: ignore[misc]
        return TaskVector(thunks, known_sites([self, other], thunks), known_depth([self, other]))

    def __mul__(self, weight: float) -> TaskVector:
        thunks: dict[str, Callable[[], Tensor]] = {name: lambda name=name: weight * self[name] for name in self}  # type: ignore[misc]
        return TaskVector(thunks, self._sites, self.depth)

    __rmul__ = __mul__

    @typed
    def mask(self, partition: Partition, keep: str, embeddings: str = "base") -> TaskVector:
        """Return the part of the update on the share that ``keep`` (``math`` or ``language``) owns; all else is zero.

        This is the paper's revert. A parameter outside the layers (embeddings, final norm, head) is owned by neither side and
        dropped, unless ``embeddings`` gives them to ``keep``'s side. Raises RequestError for a partition of fewer layers than the
        update reaches and, where ``depth`` is known, of more: an adapter that was opened without its base may change the first
        layers of a deeper model alone, so give the base.
        """
        check_word("keep", keep, SIDES)
        check_word("embeddings", embeddings, OWNERS)
        if self.depth is not None:
            partition.check_depth(self.depth)
        thunks: dict[str, Callable[[], Tensor]] = {}
        for name, site in self.sites.items():
            share = float(embeddings == keep) if site.layer is None else partition.share(site, keep)
            if share == 1:  # the very same numbers, so that all-math is the math expert to the last bit
                thunks[name] = self._thunks[name]
            elif share > 0:
                thunks[name] = lambda name=name, share=share: share * self[name]  # type: ignore[misc]
        return TaskVector(thunks, {name: self.sites[name] for name in thunks}, self.depth)

    @typed
    def at(self, layer: int | None = None, block: str | None = None, projection: str | None = None) -> TaskVector:
        """Return the part of the update at some sites: those of a layer, a block, a projection, or several of these.

        >>> import torch
        >>> names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight"]
        >>> vector = TaskVector.of({name: torch.ones(2, 2) for name in names})
        >>> vector.at(layer=1).norm(), list(vector.at(block="ffn"))
        (2.0, ['model.layers.0.mlp.up_proj.weight'])
        """
        wanted = {"layer": layer, "block": block, "projection": projection}
        chosen = {key: value for key, value in wanted.items() if value is not None}
        found = {n: site for n, site in self.sites.items() if all(getattr(site, k) == v for k, v in chosen.items())}
        return TaskVector({name: self._thunks[name] for name in found}, found, self.depth)

    @property
    def is_zero(self) -> bool:
        """Whether nothing is changed anywhere."""
        return not any(bool(update.any()) for update in self.values())

    def norm(self) -> float:
        """Return the Euclidean norm over all parameters."""
        return sum(float(self[name].double().square().sum()) for name in self) ** 0.5

    def cosine(self, other: TaskVector) -> float:
        """Return the cosine of the angle between two task vectors, over all parameters; 0 where one of them is zero."""
        dot = sum(float((self[name].double() * other[name].double()).sum()) for name in self if name in other)
        norms = self.norm() * other.norm()
        return dot / norms if norms else 0.0


def check_names(vector: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Refuse a task vector that changes what a model, as it is loaded, does not have."""
    if missing := [name for name in vector if name not in parameters]:
        raise RequestError(
            f"The model has no parameter {missing[0]!r} ({len(missing)} such): the task vector is of another architecture, or "
            "its files name parameters otherwise than the loaded model."
        )


def check_shape(name: str, update: Tensor, parameter: Tensor) -> None:
    """Refuse an update of another shape than the parameter, which must not be broadcast."""
    if update.shape != parameter.shape:
        raise RequestError(
            f"The update of {name} has shape {tuple(update.shape)}, the parameter {tuple(parameter.shape)}: it is of another "
            "model."
        )


def known_sites(vectors: Sequence[TaskVector], names: Collection[str]) -> Mapping[str, Site] | None:
    """Return where the parameters of several task vectors live, as far as they know it: None unless all ``names`` are known."""
    known = {name: site for vector in vectors for name, site in (vector._sites or {}).items()}
    return known if len(known) == len(names) else None


def known_depth(vectors: Sequence[TaskVector]) -> int | None:
    """Return how many layers the model of several task vectors has: None where none of them knows it."""
    return next((vector.depth for vector in vectors if vector.depth is not None), None)


def _depth(checkpoint: Checkpoint | None) -> int | None:
    told = language_setting(checkpoint.config, "num_hidden_layers") if checkpoint else None
    return told if isinstance(told, int) else None
