"""Numbers in words and tables: what a comparison shows, what it does not, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlnb.evaluation import METRICS, PRIMARY, READINGS, SHOTS_READINGS
from xlnb.languages import LANGUAGE_NAMES
from xlnb.methods import METHODS
from xlnb.plots import label
from xlnb.results import select
from xlnb.stats import ALPHA, Interval, holm, mean_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from xlnb.corpora.templates import Problem
    from xlnb.partitions import Partition
    from xlnb.task_vectors import TaskVector

_VERDICTS = ("better", "worse", "not shown")
Arm = tuple[str, str]  # method and partition ("" where the method uses none)


def contrast(outcomes: pd.DataFrame, a: Arm, b: Arm, metric: str, test_language: str) -> Interval:
    """Return the paired difference a minus b of two methods, each (slug, partition), with its interval."""
    chosen = select(outcomes, metric=metric, test_language=test_language)
    left, right = (select(chosen, method=method, partition=partition) for method, partition in (a, b))
    return paired_difference(left, right)


def contrasts(
    outcomes: pd.DataFrame, pairs: Sequence[tuple[Arm, Arm]], test_language: str, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return a row a pair and metric: name, metric, difference, low, high, n (problems), seeds, p, verdict.

    ``p`` is Holm's, corrected for the pairs of this table on each metric, and decides the verdict; intervals are not corrected.
    """
    import pandas as pd

    tables = []
    for metric in metrics:
        found = {f"{label(*a)} − {label(*b)}": contrast(outcomes, a, b, metric, test_language) for a, b in pairs}
        tables.append(corrected(found, metric))
    table = pd.concat(tables, ignore_index=True)
    order = {name: place for place, name in enumerate(dict.fromkeys(table["name"]))}
    return table.sort_values("name", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def corrected(differences: Mapping[str, Interval], metric: str) -> pd.DataFrame:
    """Return a row a difference with Holm's p over all of them, and the verdict by it; columns as :func:`contrasts`."""
    import pandas as pd

    adjusted = holm([1.0 if d.p is None else d.p for d in differences.values()])
    rows = [
        (name, metric, d.value, d.low, d.high, d.n, d.seeds, p, verdict(d, metric, p))
        for (name, d), p in zip(differences.items(), adjusted, strict=True)
    ]
    return pd.DataFrame(rows, columns=["name", "metric", "difference", "low", "high", "n", "seeds", "p", "verdict"])


def against_base(outcomes: pd.DataFrame, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Return every method's contrast to the base in each test language, with its method and partition."""
    import pandas as pd

    arms = [
        arm for arm in dict.fromkeys(zip(outcomes["method"], outcomes["partition"], strict=True)) if arm[0] != "base"
    ]
    tables = []
    for language in sorted(outcomes["test_language"].unique(), key=lambda code: code == "en"):
        for method, partition in arms:
            table = contrasts(outcomes, [((method, partition), ("base", ""))], language, metrics)
            tables.append(table.assign(method=method, partition=partition, test_language=language))
    return pd.concat(tables, ignore_index=True)


def verdict(difference: Interval, metric: str, p: float | None = None) -> str:
    """Say whether a difference is better, worse or not shown: its interval must exclude zero and, where given, p be below 5 %.

    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll"), verdict(Interval(0.02, -0.01, 0.05, 250), "exact-match")
    ('better', 'not shown')
    >>> verdict(Interval(-0.2, -0.3, -0.1, 250), "nll", p=0.06)
    'not shown'
    """
    if not difference.excludes_zero or (p is not None and p >= ALPHA):
        return "not shown"
    return "better" if (difference.value > 0) == READINGS[metric].higher_is_better else "worse"


def amount(value: float, low: float, high: float, metric: str, signed: bool = False) -> str:
    """Return a value with its interval in the metric's unit: nats per token, or percent (points where ``signed``).

    >>> amount(0.125, 0.05, 0.2, "exact-match", signed=True)
    '+12.5 points [+5.0, +20.0]'
    """
    unit = "nats" if READINGS[metric].unit == "nats" else "points" if signed else "%"
    mean, _, interval = bare_amount(value, low, high, metric, signed).partition(" ")
    return f"{mean} {unit} {interval}"


def bare_amount(value: float, low: float, high: float, metric: str, signed: bool = False) -> str:
    """Return what :func:`amount` does without the unit, for a table whose header has it.

    >>> bare_amount(1.5, 1.25, 1.75, "nll")
    '1.500 [1.250, 1.750]'
    """
    factor, digits = (100, 1) if READINGS[metric].unit == "%" else (1, 3)
    mean, start, end = (f"{factor * number:{'+' if signed else ''}.{digits}f}" for number in (value, low, high))
    return f"{mean} [{start}, {end}]".replace("-", "−")


def scores_table(scores: pd.DataFrame, caption: str = "") -> Any:
    """Return a table of scores with intervals: a row a method (and test language, if several), a column a metric."""
    scores = scores[scores["metric"].isin(METRICS)].sort_values("metric", key=_shown_order, kind="stable")
    rows = list(scores.itertuples())
    several = scores["test_language"].nunique() > 1
    table = scores.assign(
        model=[label(r.method, r.partition) + several * f", {LANGUAGE_NAMES[r.test_language]}" for r in rows],
        column=[f"{READINGS[r.metric].title} ({READINGS[r.metric].unit_in_words})" for r in rows],
        shown=[bare_amount(r.value, r.low, r.high, r.metric) for r in rows],
    )
    built = _grid(table, "model")
    return built.tab_header(title=caption) if caption else built


def _shown_order(metrics: pd.Series) -> pd.Series:
    return metrics.map({metric: place for place, metric in enumerate(METRICS)})


def _grid(table: pd.DataFrame, rows: str) -> Any:
    """Lay out ``shown`` as a table, its rows and columns in the order in which they first come."""
    from great_tables import GT

    wide = table.pivot(index=rows, columns="column", values="shown")
    wide = wide.loc[list(dict.fromkeys(table[rows])), list(dict.fromkeys(table["column"]))]
    return GT(wide.reset_index(), rowname_col=rows).tab_options(table_font_size="80%")


def caveat(profile: str) -> str:
    """Return the warning that numbers of the smoke profile are none."""
    if profile != "smoke":
        return ""
    return "*This is the `smoke` profile: a model of random weights and a few steps. These numbers are **not a result**.*\n\n"


def versions_line(versions: Mapping[str, str]) -> str:
    """Return the versions that numbers depend on, as one line of Markdown."""
    return "Made with " + ", ".join(f"{name} {number}" for name, number in versions.items()) + "."


def training_sentence(histories: Mapping[str, pd.DataFrame]) -> str:
    """Return what each expert's training did, in a sentence an expert: steps, tokens, loss at both ends."""
    sentences = []
    for slug, history in histories.items():
        ends = history["loss"].head(5).mean(), history["loss"].tail(5).mean()
        sentences.append(
            f"The {METHODS[slug].expert} expert took {len(history)} steps over {history['tokens'].sum():,} tokens; its training "
            f"loss went from {ends[0]:.2f} to {ends[1]:.2f} nats per token (means of the first and the last five steps)."
        )
    return " ".join(sentences)


def identities(
    math: TaskVector, language: TaskVector, all_math: Partition, swapped: TaskVector, exchanged: TaskVector
) -> str:
    """Return, as Markdown, what the identities of Layer-Swapping give on these very experts: largest deviations and norms."""
    from xlnb.merging import layer_swapping

    whole = layer_swapping(math, language, all_math)
    first = max(float((whole[name] - math[name]).abs().max()) for name in math)
    both, halves = math + language, swapped + exchanged
    second = max(float((both[name] - halves[name]).abs().max()) for name in both)
    return (
        f"- All layers to math, minus the math expert: at most {first:g} in any parameter ({len(whole)} matrices compared).\n"
        f"- Swap plus its complement, minus both task vectors: at most {second:g}.\n"
        f"- Norms: math {math.norm():.2f}, language {language.norm():.2f}, swapped {swapped.norm():.2f}; the cosine between the "
        f"math and the language task vector is {math.cosine(language):+.3f}."
    )


def figure_title(outcomes: pd.DataFrame, test_language: str | None = None) -> str:
    """Return what a figure's reader must know: model, how many problems and trainings, in which language."""
    n = outcomes.groupby("metric")["problem"].nunique()
    trained = outcomes[outcomes["method"] != "base"]["seed"].nunique()
    where = f"{LANGUAGE_NAMES[test_language]}, " if test_language else ""
    trainings = f"{trained} trainings of each expert" if trained > 1 else "one training of each expert"
    answered = f", {n['expression']} by answer" if "expression" in n else ""
    return f"{outcomes['model'].iloc[0]}, {where}{n['nll']} problems by likelihood{answered}; {trainings}"


def validation_title(outcomes: pd.DataFrame) -> str:
    """Return what a reader of the readings' figure must know: model, language, problems, trainings."""
    n = outcomes.groupby("metric")["problem"].nunique()
    trained = outcomes[outcomes["method"] != "base"]["seed"].nunique()
    language = LANGUAGE_NAMES[outcomes["test_language"].iloc[0]]
    trainings = f"{trained} trainings" if trained > 1 else "one training"
    return f"{outcomes['model'].iloc[0]}, {language}, development: {n.max()} problems ({n.min()} by answer); {trainings} of each"


def differences_table(differences: pd.DataFrame) -> Any:
    """Return a table of contrasts: a row a pair, a column a metric, each cell with interval and verdict."""
    rows = list(differences.itertuples())
    table = differences.assign(
        column=[
            f"{READINGS[r.metric].title} ({READINGS[r.metric].unit_in_words.replace('%', 'points')})" for r in rows
        ],
        shown=[f"{bare_amount(r.difference, r.low, r.high, r.metric, signed=True)} {r.verdict}" for r in rows],
    )
    return _grid(table, "name")


def reading(differences: pd.DataFrame, test_language: str) -> str:
    """Return the contrasts in words, as Markdown: for each metric what is better, what is worse, and what is not shown."""
    bullets = []
    for metric, part in differences.groupby("metric", sort=False):
        told = [
            f"{word}: {'; '.join(names)}"
            for word in _VERDICTS
            if (names := list(part[part["verdict"] == word]["name"]))
        ]
        bullets.append(
            f"- **{READINGS[metric].title}**. " + ". ".join(f"{text[0].upper()}{text[1:]}" for text in told) + "."
        )
    n, seeds = differences["n"].max(), differences["seeds"].max()
    trainings = f"{seeds} trainings" if seeds > 1 else "one training"
    return (
        f"{LANGUAGE_NAMES[test_language]}, up to {n} problems, {trainings}. *Better* and *worse* mean that the difference is "
        "shown at 5 %, after Holm's correction for the comparisons of this table on each reading; *not shown* that it is not. "
        "The 95 % intervals are not corrected.\n\n" + "\n".join(bullets)
    )


def answers_table(outcomes: pd.DataFrame, problem: Problem) -> Any:
    """Return what each model wrote to one problem, beside whether its calculations and its final number are right."""
    import pandas as pd
    from great_tables import GT

    mine = select(outcomes, problem=problem.id, test_language=problem.language)
    rows = []
    for arm in dict.fromkeys(zip(mine["method"], mine["partition"], strict=True)):
        part = select(mine, method=arm[0], partition=arm[1]).set_index("metric")
        right = ["yes" if part.loc[metric, "outcome"] else "no" for metric in ("expression", "exact-match")]
        rows.append((label(*arm), part.loc["expression", "text"], *right))
    table = pd.DataFrame(rows, columns=["model", "answer", "calculations right", "final number right"])
    return GT(table, rowname_col="model").tab_options(table_font_size="80%")


def first_swap_summary(target: pd.DataFrame, english: pd.DataFrame) -> str:
    """Return the summary of the first chapter as Markdown bullets, each claim decided by its interval.

    ``target`` and ``english`` are contrasts in the target language and in English.
    """

    def told(table: pd.DataFrame, a: str, b: str, metric: str = PRIMARY) -> str:
        row = table[(table["name"] == f"{a} − {b}") & (table["metric"] == metric)].iloc[0]
        return f"{row['verdict']} ({amount(row['difference'], row['low'], row['high'], metric, signed=True)})"

    swap, both = "Layer-Swapping", (PRIMARY, "expression-nll", "expression")
    lines = [
        ("Did the math expert learn math in English?", english, "Math only", "Base"),
        ("Does it carry over to the target language by itself?", target, "Math only", "Base"),
        ("Is the swapped model better than the base in the target language?", target, swap, "Base"),
        ("Is it better than the math expert alone (the paper's F2)?", target, swap, "Math only"),
        ("Is it better than adding both task vectors?", target, swap, "Task arithmetic"),
        ("Is it better than averaging them?", target, swap, "Model soup"),
        ("Does it matter which layers go where (against the complement)?", target, swap, f"{swap} (complement)"),
    ]
    bullets = [
        f"- {question} {a} minus {b}: " + "; ".join(f"{READINGS[m].title} {told(table, a, b, m)}" for m in both) + "."
        for question, table, a, b in lines
    ]
    finding = [told(target, swap, other).split(" ")[0] for other in ("Math only", "Task arithmetic", "Model soup")]
    if all(word == "better" for word in finding):
        verdict_line = "**Reproduced at this size**, by the primary reading: the swap is better than its rivals."
    elif "worse" in finding:
        verdict_line = "**Not reproduced at this size**: by the primary reading at least one simpler rival is better."
    else:
        verdict_line = "**Unclear at this size**: by the primary reading not every difference to the rivals is shown."
    return "\n".join([f"- {verdict_line}", *bullets])


def shots_reading(outcomes: pd.DataFrame, language: str) -> str:
    """Return, as Markdown bullets, what worked examples do to the base: each number of shots against none, paired."""
    bullets = []
    for code in ("en", language):
        for shots in sorted(set(outcomes["shots"]) - {0}):
            told = []
            for metric in SHOTS_READINGS:
                few, none = (select(outcomes, metric=metric, test_language=code, shots=n) for n in (shots, 0))
                d = paired_difference(few, none)
                told.append(
                    f"{READINGS[metric].title} {amount(d.value, d.low, d.high, metric, signed=True)} **{verdict(d, metric)}**"
                )
            bullets.append(f"- {LANGUAGE_NAMES[code]}, {shots} worked examples minus none: " + "; ".join(told) + ".")
    return "\n".join(bullets)


def base_summary(base: pd.DataFrame, language: str) -> str:
    """Return the summary of the second chapter: what the base can do in each language, and how far below it is."""
    lines = []
    for code in ("en", language):
        told = []
        for metric in ("expression", "exact-match"):
            i = mean_interval(select(base, metric=metric, test_language=code)["outcome"].to_numpy())
            told.append(f"{READINGS[metric].title} {amount(i.value, i.low, i.high, metric)}")
        lines.append(f"- {LANGUAGE_NAMES[code]}, two worked examples, scored problems: " + "; ".join(told) + ".")
    calculations = [select(base, metric="expression", test_language=code) for code in ("en", language)]
    gap = paired_difference(*calculations)
    shown = {"better": "it does better in English", "worse": "it does worse in English", "not shown": "no gap is shown"}
    lines.append(
        f"- The same problems, English minus {LANGUAGE_NAMES[language]}: "
        f"{amount(gap.value, gap.low, gap.high, 'expression', signed=True)}; {shown[verdict(gap, 'expression')]}."
    )
    low = mean_interval(calculations[0]["outcome"].to_numpy()).low
    can = "The base can do the task at times" if low > 0.02 else "The base hardly does the task at all"
    return "\n".join([f"- **{can}**, which leaves room for an expert in either language.", *lines])
