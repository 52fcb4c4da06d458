"""How far one gets with the word problems without understanding them: by numbers, by words, by the nearest question.

Each reader learns from training problems which recipe (which operations between which of the numbers) goes with a question, and
is asked about problems of another split. What it gets there is what a model may get without reading.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xlnb.corpora import templates
from xlnb.corpora.templates import Problem
from xlnb.errors import RequestError, known
from xlnb.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

NUMBERS, WORDS, BOTH, NEAREST = "numbers alone", "words alone", "words and numbers", "nearest training question"
READERS = (NUMBERS, WORDS, BOTH, NEAREST)
FIRST, EXACT, APART = "first operation", "exact answer", "twins told apart"
ASKED = (FIRST, EXACT, APART)
_NUMBER = re.compile(r"\d+")


def shortcuts(
    language: str,
    split: str = "scored",
    n: int = 480,
    trained: int = 3000,
    readers: Sequence[str] = READERS,
    many_frames: bool = False,
) -> pd.DataFrame:
    """Return what each reader gets: reader, asked (first operation, exact answer, twins told apart), value, low, high.

    Shares from 0 to 1 with 95 % intervals over pairs of situations that are twins (over frames where
    there are none). Twins are told apart where behind either text its own first operation is held likelier than the twin's:
    impossible for whoever reads the numbers alone. Forests of 200 trees, a nearest neighbour by TF-IDF. With ``many_frames`` they
    learn from the many situations that English alone has, as the math expert does. Raises RequestError for these in another
    language. Source: ours.
    """
    import pandas as pd

    if many_frames and language != "en":
        raise RequestError(f"many_frames: these situations are in English alone, not in {language!r}.")
    asked, twins = templates.problems(language, split, n), templates.twins(language, split, n)
    train = templates.english_problems(trained) if many_frames else templates.problems(language, "train", trained)
    pairs = list(pairs_of_twins(language, split, n).values())
    rows = []
    for reader in readers:
        known("reader", reader, READERS)
        recipes, own, other = _read(reader, train, asked, twins)
        firsts = [recipe[0][1] for recipe in recipes]
        for what, right in (
            (FIRST, [firsts[row.argmax()] == _first(p) for row, p in zip(_by_first(own, firsts), asked, strict=True)]),
            (EXACT, [_answer(recipes[row.argmax()], p) == p.answer for row, p in zip(own, asked, strict=True)]),
            (APART, list(_told_apart(own, other, firsts, asked, twins))),
        ):
            by_frame = pd.Series(right, dtype=float).groupby(pairs).mean()
            interval = mean_interval(by_frame.to_numpy())
            rows.append((reader, what, interval.value, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["reader", "asked", "value", "low", "high"])


def pairs_of_twins(language: str, split: str, n: int, seed: int = 0) -> dict[str, str]:
    """Return by the id of each of the first n problems of a split, drawn by a seed, a name that it shares with its twin.

    >>> len(set(pairs_of_twins("en", "development", 96).values()))
    12
    """
    both = zip(templates.problems(language, split, n, seed), templates.twins(language, split, n, seed), strict=True)
    return {one.id: min(one.frame, twin.frame) for one, twin in both}


def situations(problems: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Return by the ids of problems a name that each shares with all problems of its situation and of its twin's; ids that are
    none of problems with twins are left out. They are the same in every language, but not for every ``seed`` of the problems,
    which an id does not tell.

    >>> situations(["development-000000", "a piece of prose"])
    {'development-000000': 'classmates-larger-collection'}
    """
    problems = set(problems)
    found: dict[str, str] = {}
    for split in templates.WITH_TWINS:
        places = [int(name.rpartition("-")[2]) for name in problems if re.fullmatch(rf"{split}-\d+", name)]
        if places:
            found |= pairs_of_twins("en", split, max(places) + 1, seed)
    return {name: found[name] for name in problems if name in found}


Recipe = tuple[tuple[str, str, str], ...]  # of each step: left, sign, right; a number's place in the text, or s1, s2


def recipe(problem: Problem) -> Recipe:
    """Return how a problem is solved, in terms of the places that its numbers have in the text.

    >>> problem = templates.problems("en", "scored", 1)[0]
    >>> _answer(recipe(problem), problem) == problem.answer
    True
    """
    places = {number: f"n{i}" for i, number in enumerate(stated(problem.question))}
    steps = []
    for i, expression in enumerate(problem.expressions, 1):
        left, sign, right = expression.split()
        steps.append((places[int(left)], sign, places[int(right)]))
        places[_calculated(int(left), sign, int(right))] = f"s{i}"
    return tuple(steps)


def stated(text: str) -> list[int]:
    """Return the numbers of a text in their order, each once.

    >>> stated("3 of 12, then 3 more")
    [3, 12]
    """
    return list(dict.fromkeys(int(number) for number in _NUMBER.findall(text)))


def _calculated(left: int, sign: str, right: int) -> int:
    return 0 if sign == "/" and not right else templates.OPERATIONS[sign](left, right)


def _answer(steps: Recipe, problem: Problem) -> int | None:
    """What a recipe makes of a problem's numbers; None where it asks for a number that is not there."""
    values = {f"n{i}": number for i, number in enumerate(stated(problem.question))}
    for i, (left, sign, right) in enumerate(steps, 1):
        if not {left, right} <= set(values):
            return None
        values[f"s{i}"] = _calculated(values[left], sign, values[right])
    return values[f"s{len(steps)}"]


def _first(problem: Problem) -> str:
    return problem.expressions[0].split()[1]


def _by_first(chances: NDArray[Any], firsts: Sequence[str]) -> NDArray[Any]:
    """Put in each recipe's place the chance of all recipes that begin with its operation."""
    import numpy as np

    signs = np.array(firsts)
    return np.stack([chances[:, signs == sign].sum(axis=1) for sign in firsts], axis=1)


def _told_apart(
    own: NDArray[Any], other: NDArray[Any], firsts: Sequence[str], asked: Sequence[Problem], twins: Sequence[Problem]
) -> list[bool]:
    behind_own, behind_twin = _by_first(own, firsts), _by_first(other, firsts)
    found = []
    for i, (one, twin) in enumerate(zip(asked, twins, strict=True)):
        mine, theirs = firsts.index(_first(one)), firsts.index(_first(twin))
        found.append(
            bool(behind_own[i, mine] > behind_own[i, theirs] and behind_twin[i, theirs] > behind_twin[i, mine])
        )
    return found


def _read(
    reader: str, train: Sequence[Problem], *asked: Sequence[Problem]
) -> tuple[list[Recipe], NDArray[Any], NDArray[Any]]:
    """Return the recipes of the training problems, and how likely a reader holds each for the problems asked and their twins."""
    import numpy as np

    recipes = sorted({recipe(problem) for problem in train})
    labels = np.array([recipes.index(recipe(problem)) for problem in train])
    features = _features(reader, train)
    known_features = features(train)
    if reader == NEAREST:
        found = [np.eye(len(recipes))[labels[(features(part) @ known_features.T).argmax(axis=1).A1]] for part in asked]
        return recipes, found[0], found[1]
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0, n_jobs=-1).fit(known_features, labels)
    found = []
    for part in asked:
        chances = np.zeros((len(part), len(recipes)))
        chances[:, forest.classes_] = forest.predict_proba(features(part))
        found.append(chances)
    return recipes, found[0], found[1]


def _features(reader: str, train: Sequence[Problem]) -> Callable[[Sequence[Problem]], Any]:
    """Return what makes a matrix of problems, a row each, of what a reader sees; its words are those of the training problems."""
    if reader == NUMBERS:
        return _of_numbers
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), min_df=2, max_features=4000, sublinear_tf=True)
    words.fit(map(_masked, train))

    def of_words(problems: Sequence[Problem]) -> Any:
        return csr_matrix(words.transform(map(_masked, problems)))

    if reader == BOTH:
        return lambda problems: hstack([of_words(problems), csr_matrix(_of_numbers(problems))]).tocsr()
    return of_words


def _masked(problem: Problem) -> str:
    """Return the words of a question, a mark in the place of each number."""
    return _NUMBER.sub("#", problem.question.lower())


def _of_numbers(problems: Sequence[Problem]) -> NDArray[Any]:
    """Return the numbers in the order of the text, how many they are, and of each two of them ratio, order and divisibility."""
    import numpy as np

    rows = []
    for problem in problems:
        numbers = (stated(problem.question) + [0] * 4)[:4]
        row: list[float] = [*numbers, sum(number > 0 for number in numbers)]
        for a, b in itertools.combinations(numbers, 2):
            row += [a / b if b else 0.0, a > b, bool(b) and a % b == 0, bool(a) and b % a == 0]
        rows.append(row)
    return np.array(rows, dtype=float)
