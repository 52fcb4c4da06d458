"""Maps: tables of a study's models rather than of their answers. Which parameters matter for what, how straight ways are.

Nothing here looks at a scored problem. How maps are kept and published stands in :mod:`xlnb.studies.atlas`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlnb.analysis import linearity
from xlnb.analysis.elements import element_overlap, element_scores
from xlnb.analysis.fitting import CHANGE, SCORES
from xlnb.analysis.interventions import ablated, patched
from xlnb.analysis.lengths import squares
from xlnb.analysis.sensitivity import FISHER, GOLD, SAMPLED, TAYLOR, linear_modules, sensitivity, slopes
from xlnb.corpora import Example, templates
from xlnb.corpora.prose import held_out_texts
from xlnb.corpora.sources import formatted, load_corpus
from xlnb.methods import LANGUAGE, MATH
from xlnb.models.engine import Row
from xlnb.weights.merging import applied, task_arithmetic
from xlnb.weights.sites import ATTENTION, FFN
from xlnb.weights.task_vectors import TaskVector

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.models.base import Base
    from xlnb.studies.study import Study

IN_ENGLISH, IN_LANGUAGE, TEXT = ASKED = "math", "problems", "language"  # word problems in both languages, and prose
_LEARNED = 1000  # texts like an expert's are drawn by seeds that no training has: from here on


@dataclass(frozen=True)
class Map:
    """A table of a study: what makes it, of which experts (with those of the next seed, too, where ``control``).

    Another ``version`` means something else: what was made before is no longer it.
    """

    make: Callable[[Study], pd.DataFrame]
    experts: tuple[str, ...] = (MATH, LANGUAGE)
    control: bool = False
    version: int = 1

    def needs(self, study: Study) -> list[tuple[Study, str]]:
        """Return the experts that it looks at, each with its study."""
        studies = [study, *([replace(study, seed=study.seed + 1)] if self.control else [])]
        return [(one, slug) for one in studies for slug in self.experts]


# --- texts -------------------------------------------------------------------------------------------------


def learned(study: Study, sample: int = 0, n: int | None = None) -> dict[str, tuple[Example, ...]]:
    """Return texts like those that experts learn from, by what they ask, drawn by a seed that no training has.

    Of English problems no training has one. Prose is a pool that is not much larger than a training takes of it: of a sample's
    texts an expert learned about half.
    Problems in the language are development problems: for looking, never for choosing.
    """
    n, seed, code = n or study.profile.development, _LEARNED + sample, study.language
    return {
        IN_ENGLISH: formatted(load_corpus("templates-english", "en", n, seed))[:n],
        IN_LANGUAGE: templates.math_examples(code, "development", n, seed),
        TEXT: formatted(load_corpus("prose", code, seed=seed))[:n],
    }


def held_out(study: Study) -> dict[str, tuple[Example, ...]]:
    """Return texts that no expert learned from, by what they ask, alike for all seeds: development problems, held-out prose."""
    n, code = study.profile.answered, study.language
    prose = [example for split, example in held_out_texts(code) if split == "development"]
    problems = {
        asked: templates.math_examples(c, "development", n) for asked, c in ((IN_ENGLISH, "en"), (IN_LANGUAGE, code))
    }
    return problems | {TEXT: tuple(prose[:n])}


def rows(study: Study, texts: Mapping[str, Sequence[Example]]) -> dict[str, list[Row]]:
    """Return texts as the base reads them."""
    base = study.base
    return {asked: [base.row(e.prompt, e.completion) for e in some] for asked, some in texts.items()}


# --- what maps are made of ---------------------------------------------------------------------------------


def _sensitivity(study: Study) -> pd.DataFrame:
    """Return Taylor scores (gold) and Fisher traces (sampled) of the base, by module; the seed is that of the sample."""
    import pandas as pd

    parts = []
    for asked, some in rows(study, learned(study, study.seed)).items():
        for labels, measure in ((GOLD, TAYLOR), (SAMPLED, FISHER)):
            found = sensitivity(study.base, some, labels, study.seed)
            parts.append(found[found["measure"] == measure].assign(asked=asked).drop(columns="parameter"))
    return pd.concat(parts, ignore_index=True)


def _lengths(study: Study) -> pd.DataFrame:
    return squares(*_vectors(study), dict(study.base.model.named_parameters()))


def _elements(study: Study) -> pd.DataFrame:
    """Return the overlap of the largest elements: of the experts' changes, and of the base's Fisher and Taylor scores.

    Between math and the language, and, as controls, between two trainings or samples of the same.
    """
    import pandas as pd

    other = replace(study, seed=study.seed + 1)
    parts = []
    for measure in (CHANGE, FISHER, TAYLOR):
        if measure == CHANGE:
            sides = [
                study.task_vector(MATH),
                study.task_vector(LANGUAGE),
                other.task_vector(MATH),
                other.task_vector(LANGUAGE),
            ]
            names = linear_modules(study.base.model)
            sets = [{name: side[name].to(study.base.device) for name in names} for side in sides]
        else:
            n = study.profile.answered
            mine = [rows(study, learned(study, sample, n)) for sample in (study.seed, other.seed)]
            sets = [
                element_scores(study.base, one[asked], measure, study.seed)
                for one in mine
                for asked in (IN_ENGLISH, TEXT)
            ]
        math, language, same_math, same_language = sets
        for pair, a, b in (
            ("math and language", math, same_language), ("math and math", math, same_math),
            ("language and language", language, same_language),
        ):  # fmt: skip
            parts.append(element_overlap(a, b).assign(measure=measure, pair=pair))
    return pd.concat(parts, ignore_index=True)


def _sites(study: Study) -> pd.DataFrame:
    """Return what each expert loses where a site is reverted, and what the base gains by one site of an expert."""
    import pandas as pd

    texts, parts = rows(study, held_out(study)), []
    for expert, vector, about in zip((MATH, LANGUAGE), _vectors(study), (IN_ENGLISH, TEXT), strict=True):
        for intervention, act in (("ablation", ablated), ("patching", patched)):
            for asked in (about, IN_LANGUAGE):
                found = act(study.base, vector, texts[asked], f"{intervention} of {expert}")
                means = found.groupby(["layer", "block"], dropna=False)["loss"].mean().reset_index()
                parts.append(means.assign(intervention=intervention, expert=expert, asked=asked))
    return pd.concat(parts, ignore_index=True)


def _plane(study: Study) -> pd.DataFrame:
    """Return the mean losses over the plane of both task vectors."""
    found = linearity.surface(
        study.base, *_vectors(study), linearity.grid(steps=study.profile.plane), rows(study, held_out(study))
    )
    return found.groupby(["a", "b", "asked"])["loss"].mean().reset_index()


def _merges(study: Study) -> pd.DataFrame:
    """Return the losses of merges, and where they lie on the plane: the nearest point, and how far they are off it."""
    import pandas as pd

    math, language = _vectors(study)
    texts, found = rows(study, held_out(study)), []
    merges = [("soup", ""), ("task-arithmetic", ""), ("ties", ""), ("dare", ""), ("slerp", "")]
    for slug, partition in (*merges, *(("layer-swapping", name) for name in "ABC"), ("train-then-revert", "C")):
        merged = _held(study, study.merged(slug, partition))
        a, b, off = linearity.projected(merged, math, language)
        losses = mean_losses(study.base, merged, texts)
        found += [(slug, partition, a, b, off, asked, loss) for asked, loss in losses.items()]
    return pd.DataFrame(found, columns=["method", "partition", "a", "b", "off", "asked", "loss"])


def _crosses(study: Study) -> pd.DataFrame:
    """Return f(m + l), f(m), f(l) and f(0) of parts of both task vectors: of blocks, projections, shares, and of swaps.

    Of those that the profile names, where it names some.
    """
    import pandas as pd

    texts, found = rows(study, held_out(study)), []
    nothing = mean_losses(study.base, TaskVector({}), texts)
    for part, math, language in _parts(study, *_vectors(study)):
        if study.profile.crosses and part not in study.profile.crosses:
            continue
        alone = [mean_losses(study.base, vector, texts) for vector in (math, language)]
        joint = mean_losses(study.base, task_arithmetic([math, language], [1, 1]), texts)
        found += [(part, asked, joint[asked], *(one[asked] for one in alone), nothing[asked]) for asked in texts]
    return pd.DataFrame(found, columns=["part", "asked", "both", "m", "l", "neither"])


def _parts(study: Study, math: TaskVector, language: TaskVector) -> Iterator[tuple[str, TaskVector, TaskVector]]:
    yield "whole", math, language
    for block in (ATTENTION, FFN):
        yield block, math.at(block=block), language.at(block=block)
    for projection in dict.fromkeys(site.projection for site in math.sites.values() if site.projection):
        yield projection, math.at(projection=projection), language.at(projection=projection)
    for name in ("A", "B", "C", "half and half"):
        partition = study.partition(name)
        for side in ("math", "language"):
            yield f"{side}'s share of {name}", math.mask(partition, side), language.mask(partition, side)
        yield f"swap by {name}", math.mask(partition, "math"), language.mask(partition, "language")


def _slopes(study: Study) -> pd.DataFrame:
    """Return the first-order change of losses at the base along each task vector, by layer and block.

    Of linear modules: norms, which full fine-tuning moves as well, are left out of both vectors.
    """
    import pandas as pd

    texts, parts = rows(study, held_out(study)), []
    for side, vector in zip(("math", "language"), _vectors(study), strict=True):
        linear = TaskVector.of({name: vector[name] for name in linear_modules(study.base.model)})
        for asked, some in texts.items():
            found = slopes(study.base, some, linear, f"slope along {side}")
            told = [(linear.sites[name].layer, linear.sites[name].block, value) for name, value in found.items()]
            part = (
                pd.DataFrame(told, columns=["layer", "block", "slope"])
                .groupby(["layer", "block"], as_index=False)
                .sum()
            )
            parts.append(part.assign(side=side, asked=asked))
    return pd.concat(parts, ignore_index=True)


def _activations(study: Study) -> pd.DataFrame:
    import pandas as pd

    vectors = _vectors(study)
    parts = [
        linearity.cross_task(study.base, *vectors, some).assign(asked=asked)
        for asked, some in rows(study, held_out(study)).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _fits(study: Study) -> pd.DataFrame:
    """Return the scores by which partitions are fitted: of math on English problems, of the language on prose."""
    import pandas as pd

    texts, parts = rows(study, learned(study, study.seed)), []
    for side, vector, asked in zip(("math", "language"), _vectors(study), (IN_ENGLISH, TEXT), strict=True):
        for measure, score in SCORES.items():
            parts.append(score(study.base, texts[asked], vector).assign(side=side, measure=measure))
    return pd.concat(parts, ignore_index=True)


def _held(study: Study, vector: TaskVector) -> TaskVector:
    """Return a task vector whose numbers lie on the device: it is applied a hundred times."""
    return TaskVector.of({name: update.to(study.base.device) for name, update in vector.items()})


def _vectors(study: Study) -> tuple[TaskVector, TaskVector]:
    math, language = (_held(study, study.task_vector(slug)) for slug in (MATH, LANGUAGE))
    return math, language


def mean_losses(base: Base, vector: TaskVector, texts: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """Return the mean loss of base + ``vector`` on texts, by what they ask, in nats per token."""
    with applied(base.model, vector):
        told = {asked: linearity.losses(base, some) for asked, some in texts.items()}
    return {asked: sum(some) / len(some) for asked, some in told.items()}


MAPS = {
    "sensitivity": Map(_sensitivity, ()),
    "lengths": Map(_lengths, version=2),  # without norms
    "elements": Map(_elements, control=True),
    "sites": Map(_sites),
    "plane": Map(_plane),
    "merges": Map(_merges),
    "crosses": Map(_crosses),
    "slopes": Map(_slopes),
    "activations": Map(_activations),
    "fits": Map(_fits),
}
