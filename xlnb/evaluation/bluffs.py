"""How well one scores by the readings without understanding which operation a text asks for, and without any model.

A reader sees what stands before a calculation, the text and what is written of the solution, and weighs what it might write next.
That gives the likelihood of every gold calculation behind any text, and so the readings, by the definitions of `solutions.py`.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import log
from typing import TYPE_CHECKING, Any, NamedTuple

from xlnb.corpora import strangers, templates
from xlnb.corpora.benchmarks import Item, templates_benchmark
from xlnb.errors import known
from xlnb.evaluation import readings, shortcuts
from xlnb.evaluation.answers import CALCULATION
from xlnb.evaluation.solutions import calculation_variants
from xlnb.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

PLAIN = (readings.EXPRESSION_INFORMATION, readings.TWIN_INFORMATION, readings.EXPRESSION_NLL)
METRICS = (*PLAIN, readings.TWIN_CHOICE, readings.CHOICE, *map(readings.calibrated, PLAIN))
SLIP = 0.01  # the probability that a number or sign is any at all
TRUST = 0.9  # how far a reader trusts its trick
KNOWS = 0.95  # how often one who understands is right, and how far it trusts itself
DOUBT = 3  # how strongly strange words are taken
TRAINED = 300  # training problems to learn from: six of each frame
Calculation = tuple[Any, ...]  # left, sign, right
Weights = Mapping[Calculation, float]
Solved = Sequence[tuple[str, shortcuts.Recipe]]


class Page(NamedTuple):
    """What stands before a calculation; its numbers by place (n0, n1 ... in the text's order, s1, s2 results), steps so far."""

    text: str
    written: str
    numbers: Mapping[str, int]
    steps: shortcuts.Recipe


@dataclass(frozen=True, eq=False)
class Lessons:
    """Training problems and worked examples, as texts and recipes; and by text the gold calculations, for who understands."""

    train: Solved
    examples: Solved
    gold: Mapping[str, Sequence[Calculation]]


@dataclass(frozen=True)
class Reader:
    """How a reader weighs calculations, how sure it is (1: as sure as its weights) and how likely it slips on a page."""

    says: str
    weigh: Callable[[Lessons, Page], Weights]
    sure: float = 1.0
    slip: Callable[[Page], float] = lambda page: SLIP


class Part(NamedTuple):
    """A number or sign of a gold calculation: its chance, those of all thought of, how many others there are and theirs each."""

    chance: float
    thought: Sequence[float]
    others: int
    floor: float

    def nll(self, sure: float = 1.0) -> float:
        """Return the negative log-likelihood in nats; ``sure`` is one by the temperature."""
        return log(sum(p**sure for p in self.thought) + self.others * self.floor**sure) - sure * log(self.chance)


def lessons(language: str, items: Sequence[Item], prefix: str = "") -> Lessons:
    """Return what may be learned, the worked examples being those in ``prefix``, and the calculations of the items and twins."""
    train, shots = (templates.problems(language, split, TRAINED) for split in ("train", "few-shot"))
    examples = [one for one in shots if one.question in prefix]
    learned, shown = ([(templates.prompt(p), shortcuts.recipe(p)) for p in part] for part in (train, examples))
    solved = [pair for i in items for pair in ((i.prompt, i.completion), (i.twin_prompt, i.twin_completion))]
    return Lessons(learned, shown, {text: [gold for _, gold in pages(text, solution)] for text, solution in solved})


def pages(text: str, solution: str) -> Iterator[tuple[Page, Calculation]]:
    """Yield each calculation of a solution behind a text, after the page before it."""
    numbers = {f"n{i}": n for i, n in enumerate(shortcuts.stated(text))}
    steps: shortcuts.Recipe = ()
    for i, match in enumerate(CALCULATION.finditer(solution), 1):
        left, sign, right = int(match[1]), match[2], int(match[3])
        yield Page(text, solution[: match.start()], dict(numbers), steps), (left, sign, right)
        places = {number: place for place, number in numbers.items()}
        steps = (*steps, (places.get(left, ""), sign, places.get(right, "")))
        numbers[f"s{i}"] = templates.OPERATIONS[sign](left, right)


def parts(reader: Reader, weights: Weights, page: Page, calculation: Calculation) -> Iterator[Part]:
    """Yield the parts of a calculation, each given those before it (given fewer where the reader thinks of none such)."""
    slip = reader.slip(page)
    for place, values in enumerate((1200, len(templates.OPERATIONS), 1200)):  # how many there are: no number is larger
        for given in range(place, -1, -1):
            chances: dict[Any, float] = {}
            for one, weight in weights.items():
                if one[:given] == calculation[:given]:
                    chances[one[place]] = chances.get(one[place], 0.0) + weight
            if chances:
                break
        total, floor = sum(chances.values()), slip / values
        thought = {one: ((1 - slip) * chance / total + floor) ** reader.sure for one, chance in chances.items()}
        low = floor**reader.sure
        scale = sum(thought.values()) + (values - len(thought)) * low
        found = [p / scale for p in thought.values()]
        yield Part(thought.get(calculation[place], low) / scale, found, values - len(thought), low / scale)


def outcomes(reader: Reader, learned: Lessons, items: Sequence[Item], others: Sequence[Item]) -> list[dict[str, float]]:
    """Return each item's outcomes by METRICS, calibrated at the temperature, 1/8 to 8, that fits the reader on ``others``."""
    from scipy.optimize import minimize_scalar

    weighed: dict[tuple[str, str], Weights] = {}

    def weigh(page: Page) -> Weights:
        if page[:2] not in weighed:
            weighed[page[:2]] = reader.weigh(learned, page)
        return weighed[page[:2]]

    @cache
    def read(text: str, solution: str) -> list[Part]:
        before = pages(text, solution)
        return [part for page, gold in before for part in parts(reader, weigh(page), page, gold)]

    def nll(text: str, solution: str, sure: float = 1.0) -> list[float]:
        return [part.nll(sure) for part in read(text, solution)]

    def loss(log2: float) -> float:
        return _mean([one for item in others for one in nll(item.prompt, item.completion, 2**-log2)])

    def chosen(page: Page, gold: Calculation) -> bool:
        offered = [text.split() for text in calculation_variants("{} {} {}".format(*gold))]
        every = [parts(reader, weigh(page), page, (int(a), sign, int(b))) for a, sign, b in offered]
        right, *wrong = [sum(part.nll() for part in one) for one in every]
        return all(right < other for other in wrong)

    fitted = 2 ** -float(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 0.01}).x)
    found = []
    for item, place in zip(items, strangers([item.group for item in items]), strict=True):
        one: dict[str, float] = {}
        for named, sure in ((str, 1.0), (readings.calibrated, fitted)):
            texts = (item.prompt, items[place].prompt, item.twin_prompt)
            behind = [_mean(nll(text, item.completion, sure)) for text in texts]
            one |= zip(map(named, PLAIN), (behind[1] - behind[0], behind[2] - behind[0], behind[0]), strict=True)
        own, other = item.completion, item.twin_completion
        mine = sum(nll(item.prompt, own)) < sum(nll(item.prompt, other))
        theirs = sum(nll(item.twin_prompt, other)) < sum(nll(item.twin_prompt, own))
        one[readings.TWIN_CHOICE] = float(mine and theirs)
        one[readings.CHOICE] = float(all(itertools.starmap(chosen, pages(item.prompt, own))))
        found.append({metric: one[metric] for metric in METRICS})
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@lru_cache(4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip(".,!?;:'\"") for word in re.sub(r"[\d=*/+-]", " ", text.lower()).split())


@lru_cache(4096)
def _count(text: str) -> int:
    return len(shortcuts.stated(text))


def _any(learned: Lessons, page: Page) -> Weights:
    pairs = itertools.permutations(dict.fromkeys(page.numbers.values()), 2)
    return {(left, sign, right): 1.0 for left, right in pairs for sign in templates.OPERATIONS}


def _tossed(learned: Lessons, page: Page) -> Weights:
    """Return what makes a whole number above one, in weights drawn anew on every page."""
    coin = random.Random(page.text + page.written)
    good = [one for one in _any(learned, page) if one[1] != "/" or one[0] % one[2] == 0]
    return {one: coin.random() for one in good if templates.OPERATIONS[one[1]](one[0], one[2]) > 1}


def _trusting(trick: Weights, page: Page, trust: float = TRUST) -> Weights:
    """Return a trick's calculations with the weight ``trust``, the rest going to any two numbers."""
    total, anything = sum(trick.values()), _any(Lessons((), (), {}), page)
    return {one: (1 - trust) / len(anything) + trust * trick.get(one, 0.0) / (total or 1) for one in anything}


def _adds(learned: Lessons, page: Page) -> Weights:
    return _trusting({one: 1.0 for one in _any(learned, page) if one[1] == "+"}, page)


def _as(solved: Callable[[Lessons, str], Solved]) -> Callable[[Lessons, Page], Weights]:
    """Return who goes on as these solved problems did, those that began as this solution did where there are such."""
    chosen = lru_cache(4096)(solved)

    def weigh(learned: Lessons, page: Page) -> Weights:
        k = len(page.steps)
        longer = [steps for _, steps in chosen(learned, page.text) if len(steps) > k]
        places = [steps[k] for steps in longer if steps[:k] == page.steps] or [steps[k] for steps in longer]
        there = [(a, sign, b) for a, sign, b in places if {a, b} <= set(page.numbers)]
        return _trusting(Counter((page.numbers[a], sign, page.numbers[b]) for a, sign, b in there), page)

    return weigh


def _as_many(learned: Lessons, asked: str) -> Solved:
    """Return the training problems that state as many numbers."""
    return [one for one in learned.train if _count(one[0]) == _count(asked)]


def _as_long(learned: Lessons, asked: str) -> Solved:
    """Return the third of them nearest in length."""
    near = sorted(_as_many(learned, asked), key=lambda one: abs(len(one[0]) - len(asked)))
    return near[: len(near) // 3]


def _nearest(learned: Lessons, asked: str) -> Solved:
    """Return the one that shares most words."""
    words = _words(asked)
    return [max(_as_many(learned, asked), key=lambda one: len(words & _words(one[0])) / len(words | _words(one[0])))]


def _with_word(learned: Lessons, asked: str) -> Solved:
    """Return those that have the one telling word, or have it not, as the text."""
    has = telling_word(learned) in _words(asked)
    return [one for one in _as_many(learned, asked) if (telling_word(learned) in _words(one[0])) == has]


@lru_cache(64)
def telling_word(learned: Lessons) -> str:
    """Return the word, in a twentieth of the training texts or more, that tells most of their first operations."""
    often = Counter(word for text, _ in learned.train for word in _words(text))

    def tells(word: str) -> float:
        counts = Counter((word in _words(text), steps[0][1]) for text, steps in learned.train)
        return sum(n * log(n / (often[word] if has else TRAINED - often[word])) for (has, _), n in counts.items())

    return max(sorted(word for word, n in often.items() if TRAINED // 20 <= n < TRAINED), key=tells)


def _doubt(page: Page) -> float:
    """Return how likely a slip is where the words written so far are not the text's: the fewer are, the likelier."""
    written = _words(page.written)
    return max(SLIP, 1 - (len(written & _words(page.text)) / len(written)) ** DOUBT) if written else SLIP


def _understands(learned: Lessons, page: Page) -> Weights:
    gold, k, chance = learned.gold[page.text], len(page.steps), random.Random(page.text + page.written)
    meant = gold[k] if chance.random() < KNOWS and k < len(gold) else chance.choice(list(_any(learned, page)))
    return _trusting({meant: 1.0}, page, KNOWS)


READERS: dict[str, Reader] = {
    "numbers alone": Reader("any operation on any two numbers so far", _any),
    "numbers alone, twice as sure": Reader("the same, likelihoods squared", _any, sure=2),
    "a coin with perfect arithmetic": Reader("what makes a whole number, a coin tossed for each text", _tossed),
    "always adds": Reader("any two numbers so far, added", _adds),
    "copies the worked examples": Reader("the steps of the examples before the text", _as(lambda all_, _: all_.examples)),
    "places of the numbers": Reader("the steps of training problems with as many numbers", _as(_as_many)),
    "length of the text": Reader("the same, of those about as long", _as(_as_long)),
    "one key word": Reader("the same, of those with the most telling word, or without", _as(_with_word)),
    "nearest training question": Reader("the steps of the one with most words in common", _as(_nearest)),
    "words of the solution": Reader("places, and doubts a solution whose words the text lacks", _as(_as_many), slip=_doubt),
    "who understands": Reader("the right calculation, but on one page in twenty", _understands),
}  # fmt: skip


def bluffs(
    language: str, split: str = "development", n: int = 240, readers: Iterable[str] = tuple(READERS)
) -> pd.DataFrame:
    """Return what each reader gets by each of METRICS: reader, metric, value, low, high.

    Shares from 0 to 1, or nats per part (a number or a sign, in place of a token; results do not count), with 95 % intervals over
    pairs of twin situations. Readers learn from training problems and the two worked examples alone. Source: ours.

    >>> found = bluffs("en", n=24, readers=["numbers alone"]).set_index("metric")["value"]
    >>> found["twin-information"].item(), found["twin-choice"].item()
    (0.0, 0.0)
    """
    import pandas as pd

    names = [known("reader", name, READERS) for name in readers]
    benchmark = templates_benchmark(language, split, n)
    pairs = list(shortcuts.pairs_of_twins(language, split, n).values())
    learned, rows = lessons(language, (*benchmark.items, *benchmark.others), benchmark.prefix), []
    for name in names:
        found = pd.DataFrame(outcomes(READERS[name], learned, benchmark.items, benchmark.others))
        for metric, values in found.groupby(pairs).mean().items():
            value = low = high = float(values.iloc[0])
            if values.nunique() > 1 or readings.READINGS[metric].unit == "%":
                interval = mean_interval(values.to_numpy())
                value, low, high = interval.value, interval.low, interval.high
            rows.append((name, metric, value, low, high))
    return pd.DataFrame(rows, columns=["reader", "metric", "value", "low", "high"])
