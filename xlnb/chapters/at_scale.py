"""What a reader's own study takes on a reader's own cards, as `xlnb plan` counts it, and what was ever run on which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from xlnb import artifacts
from xlnb.chapters.figures import wrapped
from xlnb.chapters.pictures import Shown, panels, picture, table, to_come
from xlnb.chapters.words import PARADIGM_NAMES, listed
from xlnb.languages import LANGUAGE_NAMES
from xlnb.models.memory import FULL, LORA, Memory, Shape
from xlnb.paths import results_folder
from xlnb.studies.experiments import EXPERIMENTS
from xlnb.studies.paper import LANGUAGE_CORPORA, MATH_CORPUS, paper_table
from xlnb.studies.planning import CARDS, GIB, Assumed, Plan, Setup, plan, setup_of, shape_for, work
from xlnb.studies.profiles import PAPER_8BIT, PAPER_PROFILE

ASSUMED, EXPERIMENT, GB = Assumed(), "paper", 1e9


@dataclass(frozen=True)
class Place:
    """Where a reader's study runs: so many cards of a kind, each with a training of its own, as many seeds."""

    title: str
    card: str
    seeds: int


PLACES = {
    "one": Place("one GPU of 24 GB", "RTX-4090", 1),
    "eight": Place("eight GPUs of 80 GB", "H100", 8),
    "cluster": Place("a cluster, three jobs", "H200", 3),
}
# Smaller decoders, as their public config.json has them, as recalled; a test adds up their parameters.
SMALLER = {
    "Qwen2.5-3B": Shape("Qwen2Config", 2048, 11008, 36, 16, 2, 151936, 128, tied=True),
    "Llama-3.2-3B": Shape("LlamaConfig", 3072, 8192, 28, 24, 8, 128256, 128, tied=True),
    "Qwen2.5-1.5B": Shape("Qwen2Config", 1536, 8960, 28, 12, 2, 151936, 128, tied=True),
    "Llama-3.2-1B": Shape("LlamaConfig", 2048, 8192, 16, 32, 8, 128256, 64, tied=True),
}


def planned(
    model: str,
    language: str,
    card: str,
    paradigm: str,
    seeds: int = 1,
    shape: Shape | None = None,
    profile: str = PAPER_PROFILE,
) -> Plan:
    """Return what the paper's comparison in one language takes of a model: by name, by folder, or by its shape."""
    todo = work(EXPERIMENTS[EXPERIMENT], [language], seeds)
    return plan(model, shape or shape_for(model), setup_of(profile, paradigm, card), todo, seeds, ASSUMED)


def would(one: Plan) -> str:
    """Return the smallest card that holds both training and answering; "none here" where none does."""
    for name, card in sorted(CARDS.items(), key=lambda item: item[1].gib):
        if replace(one, setup=replace(one.setup, card=name)).fits(ASSUMED):
            return f"{name} ({card.gib:.0f} GiB)"
    return "none of these cards"


def memory_figure(model: str, number: int | None = None) -> Shown:
    """Draw the memory of a training on one card by part, LoRA and full, with and without checkpointing (and in full with moments
    of eight bits), beside answering."""
    shape = shape_for(model)
    bars: dict[str, Memory | int] = {}
    for paradigm, title in PARADIGM_NAMES.items():
        for again, told in ((False, ""), (True, ", checkpointing")):
            bars[f"{title}{told}"] = setup_of(PAPER_PROFILE, paradigm, "H100", checkpointing=again).memory(shape)
    bars[f"{PARADIGM_NAMES[FULL]}, {PAPER_8BIT}"] = _in_eight_bits(model).memory
    bars["answering"] = planned(model, "sw", "H100", LORA).answering
    parts = ("weights", "gradients", "moments", "activations", "logits")
    colours = dict(zip(parts, ("#00224E", "#575D6D", "#A59C74", "#D9C55E", "#7D3C98"), strict=True))
    sizes = {name: sum(vars(bar).values()) if isinstance(bar, Memory) else bar for name, bar in bars.items()}
    lines = {name: CARDS[name].gib for name in ("RTX-4090", "H100", "H200")}

    def draw(narrow: bool) -> Figure:
        figure, (axis,) = panels(1, 3.4 if narrow else 2.9, narrow)
        for place, bar in enumerate(bars.values()):
            left = 0.0
            sized = vars(bar) if isinstance(bar, Memory) else {"weights": bar}
            for part, size in sized.items():
                axis.barh(place, size / GIB, left=left, color=colours[part], edgecolor="white", linewidth=0.5)
                left += size / GIB
        for name, gib in lines.items():
            axis.vlines(gib, -0.5, len(bars) - 0.4, color="#010203", linestyle=":", linewidth=1)
            axis.text(gib, -0.6, f"{gib:.0f}" if narrow else name, fontsize=8, ha="center", va="bottom")
        axis.set_yticks(range(len(bars)), [wrapped(name, 17 if narrow else 40) for name in bars])
        axis.set(xlabel="GiB on one card", xlim=(0, 1.06 * max(*lines.values(), max(sizes.values()) / GIB)))
        axis.set_ylim(len(bars) - 0.4, -1.0)
        axis.grid(axis="y", visible=False)
        handles = [axis.barh(0, 0, color=colours[part], label=part) for part in parts]
        figure.legend(handles=handles, loc="outside upper center", ncols=2 if narrow else 5)
        return figure

    seen = "; ".join(f"{name} {size / GIB:.0f} GiB" for name, size in sizes.items())
    cards = listed([f"{name} with {gib:.0f} GiB" for name, gib in lines.items()])
    usual = setup_of(PAPER_PROFILE, LORA, "H100")
    caption = (
        f"Memory on one card, {shape.parameters / 1e9:.1f} billion parameters, micro-batch {usual.micro_batch} (of {PAPER_8BIT} "
        f"{_in_eight_bits(model).setup.micro_batch}) of {usual.length} tokens, by formula. Dotted: {cards}. Of answering the bar "
        "is one piece: weights, their copies, keys and values."
    )
    return picture(draw, number=number, caption=caption, alt=f"Horizontal bars: {seen}. Cards: {cards}.")


def memory_told(model: str) -> str:
    """Return in words which of the cards hold a model, and what of it is the most."""
    told = []
    for paradigm, title in PARADIGM_NAMES.items():
        one = planned(model, "sw", "RTX-4090", paradigm)
        parts = sorted(vars(one.memory).items(), key=lambda part: -part[1])
        told.append(
            f"By {title} a training, {_how(one.setup)}, takes {one.memory.total / GIB:.0f} GiB, "
            f"{parts[0][1] / GIB:.0f} of them {parts[0][0]}; the smallest single card that holds it, and the "
            f"answering, is {would(one)}."
        )
    eight = _in_eight_bits(model)
    told.append(
        f"With the optimizer's moments in eight bits, {_how(eight.setup)} (profile "
        f"{PAPER_8BIT}), it takes {eight.memory.total / GIB:.0f} GiB, and the smallest card is {would(eight)}."
    )
    return " ".join(told)


def _how(setup: Setup) -> str:
    return f"with{'' if setup.checkpointing else 'out'} checkpointing and {setup.micro_batch} examples at a time"


def _in_eight_bits(model: str) -> Plan:
    return planned(model, "sw", "RTX-4090", FULL, profile=PAPER_8BIT)


def places_table(
    model: str, language: str, price: float, number: int | None = None, places: Iterable[Place] = PLACES.values()
) -> Shown:
    """Return what the paper's comparison in one language takes in each place, by LoRA and in full."""
    rows = []
    for place in places:
        for paradigm, title in PARADIGM_NAMES.items():
            one = planned(model, language, place.card, paradigm, place.seeds)
            fits, most = one.fits(ASSUMED), max(one.memory.total, one.answering)
            known = (one.hours, one.hours / place.seeds, one.hours * price)
            counted = [f"{value:,.0f}" if fits else "–" for value in known]
            rows.append({
                "where": f"{place.title}, {title}", "card": place.card, "fits": "yes" if fits else f"no, {would(one)} would",
                "GiB of a card": f"{most / GIB:.0f} of {one.setup.room(ASSUMED) / GIB:.0f}", "trainings": f"{one.experts}",
                "download (GB)": f"{one.download / GB:.0f}", "disk (GB)": f"{one.disk_peak / GB:,.0f}",
                **dict(zip(("GPU-hours", "hours", "cost"), counted, strict=True)),
            })  # fmt: skip
    corpora = {MATH_CORPUS, *LANGUAGE_CORPORA.get(language, ("one in the language",))}
    caption = (
        f"The paper's comparison of {model} in {LANGUAGE_NAMES[language]}, as many seeds as cards. Where it does not fit, the "
        f"smallest single card that would. Besides come {len(corpora)} data sets of about {ASSUMED.corpus:g} GB each "
        f"(assumed). Hours assume {ASSUMED.utilisation:.0%} of a card's peak; cost at {price:g} a GPU-hour."
    )
    return table(rows, number=number, caption=caption)


def smaller_table(model: str, language: str, number: int | None = None) -> Shown:
    """Return which models one card of 24 GB holds: the chosen one and smaller ones."""
    card, rows = PLACES["one"].card, []
    for name, shape in {model: shape_for(model), **SMALLER}.items():
        row = {"model": name, "billions": f"{shape.parameters / 1e9:.2f}"}
        plans = [planned(name, language, card, paradigm, shape=shape) for paradigm in PARADIGM_NAMES]
        for one, title in zip(plans, PARADIGM_NAMES.values(), strict=True):
            row[f"{title} (GiB)"] = f"{one.memory.total / GIB:.0f}"
        room = plans[0].setup.room(ASSUMED)
        row["answering (GiB)"] = f"{plans[0].answering / GIB:.0f}"
        row["fits"] = listed([PARADIGM_NAMES[one.setup.paradigm] for one in plans if one.fits(ASSUMED)]) or "no"
        rows.append(row)
    caption = (
        f"On one {card}, of which {room / GIB:.0f} GiB are used. Shapes of the smaller models are recalled from their public "
        "config.json; their memory is by formula, not measured."
    )
    return table(rows, number=number, caption=caption)


def commands(place: str, model: str, language: str, price: float = 0.0, dtype: str = "bfloat16", **data: str) -> str:
    """Return the commands for a place as a Markdown block; ``data``: math_data and language_data, where they are named."""
    where = PLACES[place]
    more = "".join(f" \\\n    --{name.replace('_', '-')} {value}" for name, value in data.items() if value)
    study = (
        f"xlnb study --profile paper --model {model} \\\n    --experiment {EXPERIMENT} --language {language} "
        f"--dtype {dtype}{more}"
    )
    lines = [
        f"xlnb plan --model {model} --languages {language} --paradigms lora \\\n    --card {where.card}"
        + (f" --price {price:g}" if price else "")
    ]
    if place == "one":
        lines += [f"{study} --dry-run", f"{study} --device cuda"]
    elif place == "eight":
        lines += [f"for seed in {' '.join(map(str, range(where.seeds)))}; do"]
        lines += [f"  {study} \\\n    --seeds $seed --device cuda:$seed &", "done; wait"]
    else:
        lines += [f"for seed in {' '.join(map(str, range(where.seeds)))}; do"]
        lines += [f'  sbatch --gres=gpu:1 --wrap "{study} \\\n    --seeds $seed --device cuda"', "done"]
    return "```shell\n" + "\n".join(lines) + "\n```"


def setting_table(number: int | None = None) -> Shown:
    """Return every value of the paper's setting with its source, and how well it is known."""
    caption = (
        "The setting that profile paper takes. Reported: by someone who had the paper open; digest: a machine summary of its "
        "first version; recalled: likely, not checked; ours: our choice."
    )
    return table(paper_table(), number=number, caption=caption)


def _values(told: Any, key: str) -> Iterator[Any]:
    """Yield all that stands under a key, however deep, lists one by one."""
    if isinstance(told, dict):
        for name, value in told.items():
            if name == key:
                yield from value if isinstance(value, list) else [value]
            else:
                yield from _values(value, key)
    elif isinstance(told, list):
        for value in told:
            yield from _values(value, key)


def _torches(told: Any) -> set[str]:
    found = [value["torch"] if isinstance(value, dict) else value for value in _values(told, "versions")]
    return {
        text.partition("'torch': '")[2].partition("'")[0] if "'torch': '" in text else text for text in map(str, found)
    }


def provenance_table(results: Path | None = None, number: int | None = None) -> Shown:
    """Return where and when each committed result was made, by which commits and versions, from their provenance."""
    rows = []
    for file in sorted((results or results_folder()).glob("*/provenance.json")):
        told = artifacts.read_json(file)
        devices = sorted({str(one) for one in _values(told, "device")} - {"None"})
        commits = sorted({str(one)[:7] for one in _values(told, "commit")} - {"None"})
        days = sorted({str(one)[:10] for one in _values(told, "when")} - {"None"})
        rows.append({
            "result": file.parent.name,
            "device": ", ".join(devices) or "not recorded",
            "torch": ", ".join(sorted(_torches(told))),
            "commits": commits[0] + (f" and {len(commits) - 1} more" if commits[1:] else "") if commits else "not recorded",
            "made": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "not recorded",
        })  # fmt: skip
    if not rows:
        return to_come(number, "No result is committed here: `xlnb study --publish` writes one.", "table")
    caption = (
        "All committed results, by their provenance. The device is that of the models; torch is of the process that computed or "
        "of the one that wrote the table."
    )
    return table(rows, number=number, caption=caption)
