"""Looking at the data: sample problems, answers and language examples, and what the splits hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xlnb.corpora import templates
from xlnb.languages import LANGUAGE_NAMES
from xlnb.results import select
from xlnb.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

_COUNTED = 400  # problems a split on which shares are counted; few-shot has few more


def parallel_problems(language: str, split: str, n: int) -> Any:
    """Return a table of ``n`` problems of different frames with their solutions, in English beside ``language``."""
    import pandas as pd
    from great_tables import GT

    pairs = zip(templates.problems("en", split, n), templates.problems(language, split, n), strict=True)
    rows = []
    for english, target in pairs:
        rows.append((english.frame, "problem", english.question, target.question))
        rows.append((english.frame, "solution", english.solution, target.solution))
    columns = ["frame", "", LANGUAGE_NAMES["en"], LANGUAGE_NAMES[language]]
    return GT(pd.DataFrame(rows, columns=columns), groupname_col="frame", rowname_col="").tab_options(
        table_font_size="85%"
    )


def one_problem_everywhere(split: str, index: int = 0) -> Any:
    """Return a table of one problem and its solution in every language of the corpus."""
    import pandas as pd
    from great_tables import GT

    found = [templates.problems(code, split, index + 1)[index] for code in templates.LANGUAGES]
    rows = [(LANGUAGE_NAMES[p.language], p.question, p.solution) for p in found]
    return GT(pd.DataFrame(rows, columns=["", "problem", "solution"]), rowname_col="").tab_options(
        table_font_size="85%"
    )


def weaknesses(language: str) -> str:
    """Return, as Markdown bullets, the known weaknesses that a language's file of word problems names at its head.

    A sentence where it names none, as the English one. Raises :class:`~xlnb.errors.RequestError` for an unknown language.
    """
    lines = templates.file_head(language)
    start = next((i for i, line in enumerate(lines) if line.startswith("Known weaknesses")), len(lines))
    bullets: list[str] = []
    for line in lines[start + 1 :]:
        if line.startswith("- "):
            bullets.append(line)
        elif line and bullets:
            bullets[-1] += f" {line}"
        elif not line and bullets:
            break
    why = ": it is the original from which the others were translated" if language == "en" else ""
    return "\n".join(bullets) or f"The {LANGUAGE_NAMES[language]} file names no weaknesses{why}."


def generic_table() -> Any:
    """Return a table of the generic language sets: language, how many kinds of instruction, which."""
    import pandas as pd
    from great_tables import GT

    rows = []
    for code in templates.GENERIC_LANGUAGES:
        kinds = templates.generic_kinds(code)
        rows.append((LANGUAGE_NAMES[code], len(kinds), ", ".join(kinds)))
    table = GT(pd.DataFrame(rows, columns=["language", "kinds", "which"]), rowname_col="language")
    return table.tab_options(table_font_size="80%")


def corpora_table() -> Any:
    """Return a table of the corpora that xlnb reads by name: kind, languages, hub repository, licence."""
    import pandas as pd
    from great_tables import GT

    from xlnb.corpora.sources import SOURCES

    rows = [(s.name, s.kind, " ".join(s.languages), s.hub or "ships with xlnb", s.licence) for s in SOURCES.values()]
    columns = ["name", "kind", "languages", "on the Hugging Face hub", "licence"]
    return GT(pd.DataFrame(rows, columns=columns), rowname_col="name").tab_options(table_font_size="80%")


def splits_table() -> Any:
    """Return a table of what each split holds: frames, people's names, things, and what it is for."""
    import pandas as pd
    from great_tables import GT

    uses = {
        "train": "math expert (English only)",
        "few-shot": "worked examples before each problem",
        "development": "our choices",
        "scored": "the results",
    }
    rows = [(split, *templates.inventory(split), use) for split, use in uses.items()]
    table = pd.DataFrame(rows, columns=["split", "frames", "names", "things", "used for"])
    return GT(table, rowname_col="split").tab_options(table_font_size="85%")


def step_shares() -> pd.DataFrame:
    """Return the share of problems by number of steps: a row a split, a column a number of steps."""
    import pandas as pd

    counts = {split: templates.difficulty(split, _COUNTED)["steps"] for split in templates.SPLITS}
    table = pd.DataFrame(counts).T.fillna(0)
    return table[sorted(table.columns)] / _COUNTED


def difficulty_sentence() -> str:
    """Return how the scored problems compare with the training ones: operations and digits, in words."""

    def shares(split: str, what: str) -> str:
        counts = templates.difficulty(split, _COUNTED)[what]
        return ", ".join(f"`{key}` {100 * n / sum(counts.values()):.0f} %" for key, n in counts.items())

    return (
        f"Operations in training: {shares('train', 'operations')}; in the scored problems: {shares('scored', 'operations')}. "
        f"Digits of the answer in training: {shares('train', 'digits')}; in the scored problems: {shares('scored', 'digits')}."
    )


def language_samples(language: str, seed: int, n: int = 5) -> Any:
    """Return a table of ``n`` examples of the generic language set, of different kinds."""
    import pandas as pd
    from great_tables import GT

    examples = templates.language_examples(language, n, seed)
    rows = [(e.kind, e.prompt.replace("\n", " ⏎ "), e.completion) for e in examples]
    return GT(pd.DataFrame(rows, columns=["kind", "prompt", "completion"]), rowname_col="kind").tab_options(
        table_font_size="80%"
    )


def by_steps_table(outcomes: pd.DataFrame) -> Any:
    """Return a table of the share of problems with right calculations, by number of steps, with 95 % intervals."""
    import pandas as pd
    from great_tables import GT

    found = select(outcomes, metric="expression")
    problems = templates.problems("en", found["split"].iloc[0], 1 + _index(found["problem"].max()))
    steps = {p.id: len(p.expressions) for p in problems}
    rows = []
    for (code, count), part in found.groupby(["test_language", found["problem"].map(steps)]):
        i = mean_interval(part["outcome"].to_numpy())
        rows.append(
            (LANGUAGE_NAMES[code], count, i.n, f"{100 * i.value:.0f} % [{100 * i.low:.0f}, {100 * i.high:.0f}]")
        )
    return GT(pd.DataFrame(rows, columns=["language", "steps", "problems", "calculations right"])).tab_options(
        table_font_size="85%"
    )


def _index(problem: str) -> int:
    return int(problem.rpartition("-")[2])


def answer_samples(outcomes: pd.DataFrame, language: str, n: int) -> Any:
    """Return a table of the first ``n`` problems with the model's answer, the right one, and what was counted right."""
    import pandas as pd
    from great_tables import GT

    found = select(outcomes, metric="expression", test_language=language)
    problems = {p.id: p for p in templates.problems(language, found["split"].iloc[0], n)}
    rows = [
        (problems[row.problem].question, row.text, problems[row.problem].solution, "yes" if row.outcome else "no")
        for row in found.sort_values("problem").itertuples()
        if row.problem in problems
    ]
    columns = ["problem", "the model's answer", "right solution", "calculations right"]
    return GT(pd.DataFrame(rows[:n], columns=columns)).tab_options(table_font_size="80%")
