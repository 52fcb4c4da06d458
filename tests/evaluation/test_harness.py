"""lm-evaluation-harness as a referee: what we take from its task files is what its own tasks make of the same answer."""

import importlib.util
import logging
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from xlnb.errors import RequestError, WorkError
from xlnb.evaluation import harness
from xlnb.evaluation.harness import FLEXIBLE, STRICT, harness_counts_right, harness_reads, harness_version
from xlnb.languages import LANGUAGE_NAMES

# What its strict filter looks for, a number in braces, as the worked examples of MGSM end.
STATED = {
    "en": "The answer is {}.",
    "sw": "Jibu ni {}.",
    "bn": "The answer is {}.",  # sic
    "te": "సమాధానం {}.",
    "de": "Die Antwort lautet {}.",
    "es": "La respuesta es {}.",
    "fr": "La réponse est {}.",
    "ja": "答えは{}です。",
    "ru": "Ответ — {}.",
    "th": "คำตอบคือ {}",
    "zh": "答案是 {}。",
}
DIGITS = {
    "bn": "০১২৩৪৫৬৭৮৯",
    "te": "౦౧౨౩౪౫౬౭౮౯",
    "th": "๐๑๒๓๔๕๖๗๘๙",
    "ja": "０１２３４５６７８９",
    "zh": "０１２３４５６７８９",
}
WRITINGS = [
    "18",
    "-18",
    "1,800",
    "1.800",
    "18.00",
    "18,00",
    "$18",
    "18%",
    "18 (9 * 2)",
    "1 800",
    "+18",
    ".18",
    "eighteen",
]
ANSWERS = (18, -18, 1800, 2)


def native(number, language):
    """A number in a language's own digits."""
    return str(number).translate(str.maketrans("0123456789", DIGITS[language]))


def answers_in(language):
    """Answers as models write them: the language's statement with all writings, without it, twice, and none at all."""
    stated = [STATED[language].format(writing) for writing in WRITINGS]
    if language in DIGITS:
        stated.append(STATED[language].format(native(18, language)))
    return [
        *stated,
        *(text.upper() for text in stated[:2]),
        stated[0] + " Wait, 2 more: " + STATED[language].format(2),
        "9 * 2 = 18",
        r"\boxed{18}",
        "#### 18\n",
        "18.\n\n2.",
        "$.,",
        "no idea",
        "",
    ]


@pytest.fixture(scope="module")
def tasks():
    """The harness's own tasks by language, as its task files define them, on one document of our own: no network."""
    import datasets
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    rows = [{"question": "How many?", "answer": None, "answer_number": answer} for answer in ANSWERS]
    own = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "test")})
    folder = Path(lm_eval.__file__).parent / "tasks" / "mgsm" / "native_cot"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return {
        file.stem.removeprefix("mgsm_native_cot_"): ConfigurableTask(
            config={**load_yaml(file), "custom_dataset": lambda **metadata: own}
        )
        for file in folder.glob("*.yaml")
    }


def theirs(task, text):
    """What a task's filters take from an answer, and for each document whether its metric counts that right."""
    from lm_eval.api.instance import Instance

    docs = list(task.eval_docs)
    task._instances = [
        Instance("generate_until", doc, ("", {}), 0, task_name="mgsm", doc_id=i, repeats=1)
        for i, doc in enumerate(docs)
    ]
    for instance in task.instances:
        instance.resps = [text]
    task.apply_filters()
    reads = dict(task.instances[0].filtered_resps)
    counts = {
        doc["answer_number"]: {
            name: bool(task.process_results(doc, [read])["exact_match"])
            for name, read in instance.filtered_resps.items()
        }
        for doc, instance in zip(docs, task.instances, strict=True)
    }
    return reads, counts


def test_its_languages_are_ours(tasks):
    assert set(tasks) == set(LANGUAGE_NAMES) == set(STATED)


@pytest.mark.parametrize("language", LANGUAGE_NAMES)
def test_we_read_as_its_own_task_does(tasks, language):
    seen = set()
    for text in answers_in(language):
        reads, counts = theirs(tasks[language], text)
        assert harness_reads(text, language) == reads, text
        for answer, right in counts.items():
            assert harness_counts_right(text, answer, language) == right, (text, answer)
            seen |= set(right.items())
    assert seen == {(name, said) for name in (STRICT, FLEXIBLE) for said in (True, False)}, "else little was compared"


def test_the_answer_may_be_any_number():
    from decimal import Decimal

    for answer in (18, "18", Decimal(18)):
        assert harness_counts_right("The answer is 18.", answer, "en") == {STRICT: True, FLEXIBLE: True}


@pytest.mark.parametrize("language", LANGUAGE_NAMES)
def test_what_follows_the_task_s_stop_words_is_not_read(tasks, language):
    from lm_eval.models.utils import postprocess_generated_text

    stop = tasks[language].config.generation_kwargs["until"]
    text = f"{STATED[language].format(18)} {stop[0]} 2"
    cut = postprocess_generated_text(text, stop, None)  # as its models end an answer
    assert cut != text
    assert harness_counts_right(text, 18, language) == theirs(tasks[language], cut)[1][18]


# --- what the book says of it ----------------------------------------------------------------------------


def test_a_right_statement_counts_in_every_language_but_bengali():
    for language in LANGUAGE_NAMES:
        assert harness_counts_right(STATED[language].format(18), 18, language) == {STRICT: True, FLEXIBLE: True}
    assert harness_reads("উত্তর হল 18।", "bn") == {STRICT: "[invalid]", FLEXIBLE: "18"}
    assert harness_counts_right("উত্তর হল 18।", 18, "bn") == {STRICT: False, FLEXIBLE: True}


@pytest.mark.parametrize("language", DIGITS)
def test_native_digits_never_count(language):
    text = STATED[language].format(native(18, language))
    assert re.search(r"\d", text) and not re.search("[0-9]", text)
    assert harness_reads(text, language) == {STRICT: "[invalid]", FLEXIBLE: "[invalid]"}
    for answer in (18, native(18, language)):
        assert harness_counts_right(text, answer, language) == {STRICT: False, FLEXIBLE: False}


def test_decimals_and_signs_are_punctuation_to_it():
    both = {STRICT: True, FLEXIBLE: True}
    neither = {STRICT: False, FLEXIBLE: False}
    assert harness_counts_right("The answer is 18.00.", 18, "en") == neither
    assert harness_counts_right("The answer is 18.00.", 1800, "en") == both
    assert harness_counts_right("The answer is 5.", -5, "en") == both


def test_its_flexible_filter_takes_the_last_number_and_its_strict_one_the_first_statement():
    text = "The answer is 18. No, the answer is 20, and not 7"
    assert harness_reads(text, "en") == {STRICT: "18.", FLEXIBLE: "7"}
    assert harness_reads("Jibu ni shilingi 18.", "sw") == {STRICT: "[invalid]", FLEXIBLE: "18."}


# --- wrong requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", [lambda code: harness_reads("18", code), lambda code: harness_counts_right("18", 18, code)]
)
@pytest.mark.parametrize("code", ["xx", "", "EN", "en/../en"])
def test_a_language_that_it_does_not_have(read, code):
    with pytest.raises(RequestError, match="no MGSM in") as told:
        read(code)
    assert repr(code) in str(told.value)
    assert str(told.value).endswith(f"choose one of {', '.join(sorted(LANGUAGE_NAMES))}.")


def test_without_lm_eval_it_says_how_to_get_it(monkeypatch):
    for read_before in (harness._filters, harness._task):  # that needs no installation
        read_before.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    for ask in (lambda: harness_reads("18", "en"), lambda: harness_counts_right("18", 18, "en"), harness_version):
        with pytest.raises(WorkError, match=r"lm-evaluation-harness is not installed: pip install 'xlnb\[book\]'"):
            ask()


def test_its_version():
    assert harness_version() == version("lm_eval")
