"""Who owns what of a model: a partition, drawn in letters and counted in parameters."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from xlnb.errors import RequestError, WorkError, typed
from xlnb.weights.partitions import Choice, Partition, owned
from xlnb.weights.sites import locate_all
from xlnb.weights.tensor_files import open_checkpoint
from xlnb.weights.vocabularies import in_common


@dataclass(frozen=True)
class Ownership:
    """A partition of a model: ``counts[block]`` has the number of parameters of math, language and neither."""

    model: str
    partition: Partition
    located_by: str
    counts: dict[str, dict[str, float]]

    def __str__(self) -> str:
        shares, marks = self.partition, self.partition.marks
        ruler = "".join(str(layer // 10 % 10) if layer % 10 == 0 else "." for layer in range(shares.depth))
        total = {side: sum(row[side] for row in self.counts.values()) for side in ("math", "language", "neither")}
        percent = [f"{100 * count / sum(total.values()):.1f} %" for count in total.values()]
        lines = [
            f"Partition {shares.name} of {self.model}: {shares.depth} layers, located by {self.located_by}",
            f"{'layer':12}{ruler}",
            *(f"{name:12}{row}" for name, row in marks.items()),
            "            M math, L language" + (", t shared" if any("t" in row for row in marks.values()) else ""),
            "",
            f"{'parameters':12}{'math':>16}{'language':>16}{'neither':>16}",
        ]
        for block, row in {**self.counts, "all": total}.items():
            lines.append(f"{block:12}" + "".join(f"{round(row[side]):>16,}" for side in total))
        return "\n".join([*lines, f"{'':12}" + "".join(f"{share:>16}" for share in percent)])


@typed
def partition(
    choice: str | Path | Partition | None = None,
    model: str | Path = "",
    *,
    bottom: int | None = None,
    top: int | None = None,
    transition: int | None = None,
) -> Ownership:
    """Return who owns how many parameters of ``model`` (a checkpoint folder, or a model's name on the Hugging Face hub).

    The partition is chosen as in :func:`xlnb.merge`. Of a folder, a head that is the embedding's copy does not count; else only
    headers are read, and from the hub nothing else is downloaded (there such a head counts). Source: ours.
    """
    sizes = _sizes(model)
    sites = locate_all(sizes)
    shares = Choice(choice, bottom, top, transition).on(sites.depth)
    return Ownership(str(model), shares, sites.by, owned(shares, sites, sizes))


def _sizes(model: str | Path) -> dict[str, int]:
    if Path(model).is_dir():
        opened = open_checkpoint(model)
        if opened.is_adapter:
            raise RequestError(
                f"{model} is an adapter, and its pairs are not the model's parameters: give the model that it was trained on."
            )
        (seen,), _ = in_common([opened])  # without a head that is the embedding once more
        return {name: stored.size for name, stored in seen.tensors.items()}
    name = str(model)
    if name.count("/") != 1 or name.startswith((".", "/")) or name.endswith("/"):
        raise RequestError(f"There is no folder {name!r}, and it is no model's name on the hub (owner/name) either.")
    from huggingface_hub import get_safetensors_metadata

    try:
        found = get_safetensors_metadata(name)
    except Exception as error:  # the hub library has many: offline, not there, gated, no safetensors
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WorkError(f"The headers of {name} could not be had from the Hugging Face hub: {why}") from error
    return {tensor: prod(info.shape) for file in found.files_metadata.values() for tensor, info in file.tensors.items()}
