import json
import os
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import huggingface_hub
import pytest

from xlnb.corpora import benchmarks, prose, templates
from xlnb.corpora.benchmarks import (
    Item,
    belebele,
    global_mmlu,
    load_benchmark,
    mgsm,
    prose_benchmark,
    templates_benchmark,
)
from xlnb.corpora.sources import formatted, load_corpus
from xlnb.errors import RequestError, WorkError
from xlnb.evaluation.answers import extract_number
from xlnb.languages import LANGUAGE_NAMES

# --- miniatures in the real file formats -----------------------------------------------------------------

# Invented problems; the third answer has a thousands separator, as some of MGSM's have.
PROBLEMS = {
    "en": ("Ann has 3 pens and buys 4. How many?", "Five bags of 6  nuts. How many?", "What is 2,000 and 125?"),
    "sw": ("Ana kalamu 3, ananunua 4. Ngapi?", "Mifuko 5 ya njugu 6. Ngapi?", "2,000 na 125 ni ngapi?"),
    "zh": ("安有3支笔，又买了4支。一共几支？", "五袋，每袋6个。一共几个？", "2,000加125是多少？"),
}
ANSWERS = ("7", "30", "2,125")
THOUGHTS = (
    "She has 3+4=<<3+4=7>>7 pens.\n#### 7",
    "A bag has 6 nuts\nSo 5*6=$<<5*6=30>>30.\n#### 30",
    "2000+100=<<2000+100=2100>>2,100\nIt is 2000+100+25=<<2000+100+25=2125>>2,125\n#### 2,125",
)
EXEMPLARS = {
    "en": [
        ("Question: Tom has 5. He gets 6. How many?", "Step-by-Step Answer: 5 + 6 = 11. The answer is 11."),
        ("Question: At 8:00 he had 9?", "Step-by-Step Answer: He had 9 balls. The answer is 9."),
        ("Question: 8 less 3?", "Step-by-Step Answer: 8 - 3 = 5 balls. The answer is 5."),
    ],
    "sw": [
        ("Swali: Tom ana 5. Anapata 6. Ngapi?", "Jibu la Hatua kwa Hatua: 5 + 6 = 11. Jibu ni 11."),
        ("Swali: Alikuwa na 9?", "Jibu la Hatua kwa Hatua: Alikuwa na mipira 9 Jibu ni 9.mipira"),
        ("Swali: 8 toa 3?", "Jibu la Hatua kwa Hatua: 8 - 3 = 5. Jibu ni 5."),
    ],
    "zh": [
        ("问题：有5个，又有6个？", "逐步解答：5 + 6 = 11。答案是 11。"),
        ("问题：有9个？", "逐步解答：有9个球。答案是 9。"),
        ("问题：8减3？", "逐步解答：8 - 3 = 5。答案是 5。"),
    ],
}


def numbered(pairs):
    return {str(i): {"q": q, "a": a} for i, (q, a) in enumerate(pairs, 1)}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_lines(path, rows):
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_mgsm(folder):
    for language, questions in PROBLEMS.items():
        rows = zip(questions, ANSWERS, strict=True)
        write(folder / f"mgsm_{language}.tsv", "".join(f"{q}\t{a}\n" for q, a in rows))
    exemplars = {language: numbered(pairs) for language, pairs in EXEMPLARS.items()}
    write(folder / "exemplars.json", json.dumps({"exemplars": exemplars, "number_answers": [11, 9, 5]}))
    return folder


@pytest.fixture
def mgsm_folder(tmp_path):
    return write_mgsm(tmp_path / "mgsm")


@pytest.fixture
def gsm8k(tmp_path):
    rows = [{"question": q, "answer": a} for q, a in zip(PROBLEMS["en"], THOUGHTS, strict=True)]
    return write_lines(tmp_path / "gsm8k" / "test.jsonl", [*rows, {"question": "More?", "answer": "Yes.\n#### 1"}])


def belebele_rows(dialect):
    """Six questions on four passages, told apart by the language's name."""
    return [
        {
            "link": f"https://en.wikinews.org/wiki/{page}",
            "question_number": number,
            "flores_passage": f"{dialect} passage {page}.",
            "question": f" {dialect} question {page}{number}? ",
            **{f"mc_answer{i}": f"{dialect} {page}{number} option {i}" for i in (1, 2, 3, 4)},
            "correct_answer_num": str(gold),
            "dialect": dialect,
            "ds": "2023-05-03",
        }
        for page, number, gold in (("a", 1, 1), ("a", 2, 4), ("b", 1, 2), ("c", 1, 3), ("c", 2, 1), ("d", 1, 4))
    ]


def write_belebele(folder):
    write_lines(folder / "data" / "eng_Latn.jsonl", belebele_rows("eng_Latn"))
    write_lines(folder / "data" / "swh_Latn.jsonl", belebele_rows("swh_Latn")[::-1])  # the real files differ in order
    return folder


@pytest.fixture
def belebele_folder(tmp_path):
    return write_belebele(tmp_path / "belebele")


def mmlu_row(language, subject, split, i):
    return {
        "sample_id": f"{subject}/{split}/{i}",
        "subject": subject,
        "subject_category": "STEM",
        "question": f"{language} {subject} {split} {i}?",
        **{f"option_{letter}": f"{letter}{i}" for letter in "abcd"},
        "answer": "ABCD"[i % 4],
        "required_knowledge": "[]",
        "cultural_sensitivity_label": "-",
        "is_annotated": False,
    }


def write_mmlu(folder):
    for language in ("sw", "en"):
        for split, count in (("test", 3), ("dev", 2)):
            rows = [mmlu_row(language, s, split, i) for s in ("anatomy", "virology") for i in range(count)]
            name = f"{split}-00000-of-00001.parquet"
            write_parquet(folder / language / name, rows if language == "sw" else rows[::-1])
    return folder


@pytest.fixture
def mmlu_folder(tmp_path):
    return write_mmlu(tmp_path / "mmlu")


# --- items and fingerprints ------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_all_that_is_read_or_scored_and_with_nothing_else():
    benchmark = templates_benchmark("sw", n=3, shots=1)
    first, *others = benchmark.items

    def changed(**fields):
        return replace(benchmark, items=(replace(first, **fields), *others)).fingerprint

    scored = {
        "twin_prompt": "??", "twin_completion": " !!",
        "language": "en", "prompt": "?", "completion": " !", "answer": Decimal(-1), "expressions": ("1 + 1",),
        "closing": " Jibu ni 1.", "options": (" A", " B"), "gold": 1,
    }  # fmt: skip
    different = {changed(**{name: value}) for name, value in scored.items()}
    different |= {replace(benchmark, prefix="").fingerprint, replace(benchmark, items=tuple(others)).fingerprint}
    # The others, on which a temperature is fitted, count too; and whether a problem is one of them.
    more = benchmark.others
    different |= {replace(benchmark, others=more[1:]).fingerprint}
    different |= {replace(benchmark, items=(*benchmark.items, more[0]), others=more[1:]).fingerprint}
    assert len(different) == len(scored) + 4 and benchmark.fingerprint not in different
    assert all(len(found) == 64 and set(found) <= set("0123456789abcdef") for found in different)
    labels = replace(benchmark, name="other", note="other").fingerprint
    assert benchmark.fingerprint == changed(id="other", group="other") == labels
    assert benchmark.fingerprint == changed(answer=first.answer.quantize(Decimal("1.00")))


def well_formed(benchmark):
    """What the readings rely on: how texts join, ids that tell items apart, a right option."""
    assert len({item.id for item in benchmark.items}) == len(benchmark.items) > 0
    assert benchmark.prefix == "" or benchmark.prefix.endswith("\n\n")
    for item in benchmark.items:
        assert item.language == benchmark.language
        assert item.prompt == item.prompt.strip() != ""
        for text in (item.completion, item.closing, *item.options):
            assert text == "" or (text[0] == " " and text[1:] == text.strip() != "")
        assert (item.gold is None) == (item.options == ())
        assert item.gold is None or 0 <= item.gold < len(item.options)
    return True


# --- templates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_templates_are_the_problems_of_the_corpus(language):
    benchmark = templates_benchmark(language, "development", 12, shots=2, problem_seed=3, exemplar_seed=4)
    problems = templates.problems(language, "development", 12, 3)
    assert well_formed(benchmark)
    assert benchmark.prefix == templates.few_shot_prefix(language, 2, 4)
    assert [(i.id, i.group, i.expressions) for i in benchmark.items] == [
        (p.id, p.frame, p.expressions) for p in problems
    ]
    for item, problem in zip(benchmark.items, problems, strict=True):
        assert (item.prompt, item.completion) == (templates.prompt(problem), templates.completion(problem))
        assert item.answer == problem.answer == extract_number(item.completion, language)


@pytest.mark.parametrize("language", templates.LANGUAGES)
@pytest.mark.parametrize("split", templates.SPLITS)
def test_templates_have_their_twins_where_there_are_any(language, split):
    benchmark = templates_benchmark(language, split, 12, shots=1, problem_seed=3)
    found = [(item.twin_prompt, item.twin_completion) for item in benchmark.items]
    if split not in templates.WITH_TWINS:
        assert found == [("", "")] * 12
        return
    twins = templates.twins(language, split, 12, 3)
    assert found == [(templates.prompt(twin), templates.completion(twin)) for twin in twins]
    for item in benchmark.items:
        assert item.twin_prompt != item.prompt and extract_number(item.twin_completion, language) != item.answer


@pytest.mark.parametrize("split", ["scored", "development"])
def test_templates_have_other_problems_for_a_temperature(split):
    """The development problems of another seed, with their twins; none is asked, and the number of those asked is no matter."""
    benchmark = templates_benchmark("sw", split, 48)
    others = benchmark.others
    assert len(others) == benchmarks.CALIBRATION == 48
    assert len({item.group for item in others}) == 24 and all(item.twin_prompt for item in others)
    asked = {text for item in benchmark.items for text in (item.prompt, item.twin_prompt)}
    assert not asked & {text for item in others for text in (item.prompt, item.twin_prompt)}
    assert {item.group for item in others} <= {p.frame for p in templates.problems("sw", "development", 24)}
    assert split == "development" or templates_benchmark("sw", split, 12).others == others
    assert templates_benchmark("sw", split, 12, problem_seed=1).others != others
    english = templates_benchmark("en", split, 48).others
    assert [(i.group, i.expressions, i.answer) for i in english] == [(i.group, i.expressions, i.answer) for i in others]


def test_an_other_problem_that_is_asked_gives_way_to_the_next(monkeypatch):
    usual = templates_benchmark("sw", n=12).others
    whole = templates.problems

    def same_for_all(language, split, n, seed=0):
        return whole(language, split, n, 1_000_000)  # what is asked is what the others are drawn from

    monkeypatch.setattr(templates, "problems", same_for_all)
    benchmark = templates_benchmark("sw", "development", 12)
    assert [item.prompt for item in benchmark.items] == [item.prompt for item in usual[:12]]
    assert [item.prompt for item in benchmark.others[:36]] == [item.prompt for item in usual[12:]]
    assert len(benchmark.others) == 48


def test_an_other_problem_whose_twin_is_asked_gives_way_too(monkeypatch):
    usual = templates_benchmark("sw", n=12).others
    whole, twins = templates.problems, templates.twins

    def swapped(one, other):
        return lambda language, split, n, seed=0: (other if (split, seed) == ("development", 0) else one)(
            language, split, n, 10**6
        )

    monkeypatch.setattr(templates, "problems", swapped(whole, twins))
    monkeypatch.setattr(templates, "twins", swapped(twins, whole))
    benchmark = templates_benchmark(
        "sw", "development", 12, shots=0
    )  # asks for the twins of what the others begin with
    assert [item.twin_prompt for item in benchmark.items] == [item.prompt for item in usual[:12]]
    assert [item.prompt for item in benchmark.others[:36]] == [item.prompt for item in usual[12:]]


# --- prose -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", prose.PROSE_LANGUAGES)
def test_prose_asks_for_held_out_texts_given_their_first_word(language):
    benchmark, other = prose_benchmark(language), prose_benchmark(language, split="development")
    texts = [text for split, text in prose.held_out_texts(language) if split == "scored"]
    assert well_formed(benchmark) and len(benchmark.items) == len(texts) >= 30
    assert not {item.id for item in benchmark.items} & {item.id for item in other.items}
    assert len(benchmark.items) + len(other.items) == len(prose.held_out_texts(language))
    assert [item.prompt + item.completion for item in benchmark.items] == [text.completion for text in texts]
    assert [item.group for item in benchmark.items] == [text.kind for text in texts]
    for item in benchmark.items:
        assert " " not in item.prompt and len(item.completion.split()) >= 4
        assert item.answer is None and item.options == () and item.expressions == () and item.twin_prompt == ""
    assert prose_benchmark(language, 5).items == benchmark.items[:5]
    assert (benchmark.prefix, benchmark.others) == ("", ())


# --- MGSM ------------------------------------------------------------------------------------------------


def test_mgsm_prompts_exemplars_and_closing_in_the_language(mgsm_folder):
    benchmark = mgsm("sw", mgsm_folder, n=3)
    assert well_formed(benchmark)
    assert benchmark.prefix == (
        "Swali: Tom ana 5. Anapata 6. Ngapi?\nJibu la Hatua kwa Hatua: 5 + 6 = 11. Jibu ni 11.\n\n"
        "Swali: Alikuwa na 9?\nJibu la Hatua kwa Hatua: Alikuwa na mipira 9 Jibu ni 9.mipira\n\n"
    )
    last = benchmark.items[2]
    assert last.prompt == "Swali: 2,000 na 125 ni ngapi?\nJibu la Hatua kwa Hatua:"
    assert last == Item("mgsm-002", "sw", last.prompt, answer=Decimal(2125), closing=" Jibu ni 2125.")
    assert "in-language math" in benchmark.note and "2 shots in Swahili" in benchmark.note


def test_mgsm_labels_without_a_space_get_one_in_every_place(mgsm_folder):
    benchmark = mgsm("zh", mgsm_folder, n=1, shots=1)
    assert benchmark.prefix == "问题： 有5个，又有6个？\n逐步解答： 5 + 6 = 11。答案是 11。\n\n"
    assert benchmark.items[0].prompt == "问题： 安有3支笔，又买了4支。一共几支？\n逐步解答："
    assert benchmark.items[0].closing == " 答案是 7。"


def test_mgsm_with_english_and_with_cross_exemplars(mgsm_folder, gsm8k):
    english = mgsm("sw", mgsm_folder, n=3, shots=1, exemplars="english")
    assert english.prefix == mgsm("en", mgsm_folder, n=3, shots=1).prefix
    assert english.items[0].prompt == "Question: Ana kalamu 3, ananunua 4. Ngapi?\nStep-by-Step Answer:"
    cross = mgsm("sw", mgsm_folder, n=3, shots=1, exemplars="cross", reference=gsm8k)
    assert cross.prefix == (
        "Swali: Tom ana 5. Anapata 6. Ngapi?\nStep-by-Step Answer: 5 + 6 = 11. The answer is 11.\n\n"
    )
    assert cross.items[0].prompt == "Swali: Ana kalamu 3, ananunua 4. Ngapi?\nStep-by-Step Answer:"
    for benchmark in (english, cross):
        assert well_formed(benchmark)
        assert [item.closing for item in benchmark.items] == [" Jibu ni 7.", " Jibu ni 30.", " Jibu ni 2125."]
        assert "in-language" not in benchmark.note
    assert "Swahili questions and English solutions" in cross.note


def test_references_are_gsm8k_without_marks(mgsm_folder, gsm8k):
    items = mgsm("sw", mgsm_folder, n=3, exemplars="cross", reference=gsm8k).items
    assert [item.completion for item in items] == [
        " She has 3+4=7 pens. The answer is 7.",
        " A bag has 6 nuts. So 5*6=$30. The answer is 30.",
        " 2000+100=2,100. It is 2000+100+25=2,125. The answer is 2,125.",
    ]
    learned = shutil.copy(gsm8k, gsm8k.with_name("rows.jsonl"))
    same = formatted(load_corpus("gsm8k", "en", path=learned))
    assert {item.completion for item in items} < {example.completion for example in same}, "as they are learned"
    assert [item.expressions for item in items] == [("3 + 4",), ("5 * 6",), ()]  # the last has a mark of three numbers
    parquet = write_parquet(
        gsm8k.with_suffix(".parquet"), [json.loads(line) for line in gsm8k.read_text().splitlines()]
    )
    assert mgsm("sw", mgsm_folder, n=3, exemplars="cross", reference=parquet).items == items
    as_on_hub = gsm8k.parent / "hub"
    (as_on_hub / "main").mkdir(parents=True)
    shutil.copy(parquet, as_on_hub / "main" / "test-00000-of-00001.parquet")
    assert mgsm("sw", mgsm_folder, n=3, exemplars="cross", reference=as_on_hub).items == items
    with pytest.raises(RequestError, match=r"no file main/test-\*\.parquet in .*laid out as the hub's openai/gsm8k"):
        mgsm("sw", mgsm_folder, n=3, reference=mgsm_folder)
    assert [item.completion for item in mgsm("sw", mgsm_folder, n=3).items] == ["", "", ""]


def test_the_hub_gives_what_a_local_copy_gives(tmp_path, mgsm_folder, gsm8k, monkeypatch):
    hub = tmp_path / "hub"
    write_mgsm(hub / "juletxara/mgsm")
    rows = [json.loads(line) for line in gsm8k.read_text().splitlines()]
    write_parquet(hub / "openai/gsm8k" / "main" / "test-00000-of-00001.parquet", rows)
    write_belebele(hub / "facebook/belebele")
    write_mmlu(hub / "CohereLabs/Global-MMLU")
    asked = []

    def snapshot_download(name, **options):
        asked.append((name, *options["allow_patterns"]))
        return str(hub / name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    local = mgsm("sw", mgsm_folder, n=3, exemplars="cross", reference=gsm8k)
    assert mgsm("sw", n=3, exemplars="cross").items == local.items  # cross fetches the reference by itself
    assert "hub set juletxara/mgsm" in mgsm("sw", n=3).note and "hub" not in local.note
    assert all(item.completion == "" for item in mgsm("sw", n=3).items)
    assert mgsm("sw", n=3, reference="hub").items[0].completion == local.items[0].completion
    assert len(belebele("sw").items) == 6 and len(global_mmlu("sw", shots=0).items) == 6
    assert set(asked) == {
        ("juletxara/mgsm", "mgsm_sw.tsv"),
        ("juletxara/mgsm", "exemplars.json", "exemplars.py"),
        ("openai/gsm8k", "main/test-*.parquet"),
        ("facebook/belebele", "data/swh_Latn.jsonl", "swh_Latn.jsonl"),
        ("CohereLabs/Global-MMLU", "sw/test-*.parquet"),
    }
    with pytest.raises(WorkError, match=r"the hub's juletxara/mgsm has no file mgsm_bn.tsv any more"):
        mgsm("bn", n=3)


def test_a_hub_that_cannot_be_reached_is_a_work_error(monkeypatch):
    def fail(*args, **options):
        assert options["repo_type"] == "dataset"
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(
        WorkError,
        match=r"juletxara/mgsm cannot be had.*no route to host.*download mgsm_sw.tsv.*give their folder",
    ):
        mgsm("sw")


def test_published_exemplars_are_read_and_never_run(mgsm_folder):
    expected = [mgsm(language, mgsm_folder, n=3, shots=3).prefix for language in EXEMPLARS]
    (mgsm_folder / "exemplars.json").unlink()
    lines = [
        '"""Prompts for mgsm."""',
        "raise SystemExit('this was run')",
        "NUMBERS = [11, 9, 5]",
        "MGSM_EXEMPLARS = {",
    ]
    for language, pairs in EXEMPLARS.items():
        lines.append(f"    {language!r}: {{")
        for number, (q, a) in enumerate(pairs, 1):  # each text in two literals with escapes, as published
            lines.append(f"'{number}': {{'q': {q[:7]!a}\n  {q[7:]!a}, 'a': {a[:4]!a} {a[4:]!a}}},")
        lines.append("    },")
    write(mgsm_folder / "exemplars.py", "\n".join([*lines, "}"]))
    assert [mgsm(language, mgsm_folder, n=3, shots=3).prefix for language in EXEMPLARS] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("exemplars.py", "MGSM_EXEMPLARS = dict(en=1)", "should be literals alone"),
        ("exemplars.py", "MGSM_EXEMPLARS = {", "should be literals alone"),
        ("exemplars.py", "OTHER = {}", "there is no MGSM_EXEMPLARS"),
        ("exemplars.json", "[1]", "numbers with a question q and an answer a"),
        ("exemplars.json", "{", "not JSON"),
        ("exemplars.json", '{"exemplars": {"en": {"1": {"q": "Question: 1?"}}}}', "numbers with a question q"),
        ("exemplars.json", '{"exemplars": {"en": {"1": {"q": "no label", "a": "A: 1"}}}}', "no label in .*'no label'"),
        ("exemplars.json", '{"exemplars": {"en": {}}}', "numbers with a question q"),
    ],
)
def test_broken_exemplars(mgsm_folder, name, text, message):
    (mgsm_folder / "exemplars.json").unlink()
    write(mgsm_folder / name, text)
    with pytest.raises(RequestError, match=message):
        mgsm("en", mgsm_folder, n=1)


def test_seeds_draw_the_same_exemplars_in_every_language(mgsm_folder):
    def chosen(language, seed, shots=2, exemplars="native"):
        """Numbers of the exemplars in the prefix, by their published text."""
        prefix = mgsm(language, mgsm_folder, n=1, shots=shots, exemplar_seed=seed, exemplars=exemplars).prefix
        found = {
            prefix.find(q.split("：")[-1].split(": ", 1)[-1]): i for i, (q, _) in enumerate(EXEMPLARS[language], 1)
        }
        return [found[place] for place in sorted(found) if place >= 0]

    draws = {seed: chosen("sw", seed) for seed in range(12)}
    assert draws[0] == [1, 2] and len({tuple(draw) for draw in draws.values()}) > 3
    for seed, draw in draws.items():
        assert chosen("en", seed) == chosen("zh", seed) == draw
        assert chosen("sw", seed, shots=3)[:2] == draw


def test_no_exemplars(mgsm_folder):
    (mgsm_folder / "exemplars.json").unlink()
    with pytest.raises(RequestError, match=r"shots = 2, but there are no exemplars for 'sw'.*exemplars.py.*shots=0"):
        mgsm("sw", mgsm_folder, n=1)
    benchmark = mgsm("sw", mgsm_folder, n=1, shots=0)
    assert well_formed(benchmark) and benchmark.prefix == "" and "no shots" in benchmark.note
    assert benchmark.items[0].prompt == "Question: Ana kalamu 3, ananunua 4. Ngapi?\nStep-by-Step Answer:"
    assert benchmark.items[0].closing == ""


def test_an_exemplar_that_one_language_lacks(mgsm_folder):
    exemplars = {"en": numbered(EXEMPLARS["en"]), "sw": numbered(EXEMPLARS["sw"][:1])}
    write(mgsm_folder / "exemplars.json", json.dumps({"exemplars": exemplars}))
    assert mgsm("sw", mgsm_folder, n=1, shots=1).prefix.count("Swali:") == 1
    with pytest.raises(RequestError, match="exemplar 2 is not there for 'sw'"):
        mgsm("sw", mgsm_folder, n=1, shots=2)
    with pytest.raises(RequestError, match="no exemplars for 'zh'"):
        mgsm("zh", mgsm_folder, n=1, shots=1)


@pytest.mark.parametrize(
    ("solutions", "closing"),
    [
        (["5 + 6 = 11. The answer is 11.", "So 9 + 20 = 29 computers. The answer is 29."], (" The answer is ", ".")),
        (["5 + 6 = 11。答案是 11。", "有9个球。答案是 9。"], (" 答案是 ", "。")),
        (["全部で11個。答えは11です。", "5*3=15。答えは39個。", "23-15=8。答えは8です。"], (" 答えは", "です。")),
        (["รวม 11 ลูก คำตอบคือ 11", "เหลือ 9 ตัวลูก คำตอบคือ 9"], (" คำตอบคือ ", "")),
        (["У него 11. Ответ — 11.", "Осталось 23 - 15 = 8 $. Ответ — 8."], (" Ответ — ", ".")),
        (["৫ + ৬ = ১১। উত্তর হল ১১।", "মোট ৯টি। উত্তর হল ৯।"], (" উত্তর হল ", "।")),
        (["The answer is 5."], (" The answer is ", ".")),
        (["It is 2,125. The answer is 2,125.", "It is 7. The answer is 7."], (" The answer is ", ".")),
        (["5 it is", "he has 6 left", "so 7 too"], ("", "")),  # nothing shared
        (["none", "of them"], ("", "")),
    ],
)
def test_the_answer_sentence_is_found(solutions, closing):
    found = benchmarks._closing(solutions)
    assert found == closing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:2], "it has 2 rows for 3 problems"),
        (lambda rows: [rows[1], rows[0], rows[2]], "row 0 ends in .*#### 30.*, but MGSM's answer is 7"),
        (lambda rows: [{**rows[0], "answer": "no mark"}, *rows[1:]], "row 0 ends in 'no mark'"),
        (lambda rows: [{"question": "?"}, *rows[1:]], r"row 1: no 'answer'; a row needs question, answer"),
        (lambda rows: [1, *rows[1:]], r"row 1 is a int, where an object of columns is needed"),
    ],
)
def test_a_reference_that_does_not_belong(mgsm_folder, gsm8k, change, message):
    write_lines(gsm8k, change([json.loads(line) for line in gsm8k.read_text().splitlines()]))
    with pytest.raises(RequestError, match=message):
        mgsm("sw", mgsm_folder, n=3, reference=gsm8k)


def test_an_english_reference_must_have_the_same_questions(mgsm_folder, gsm8k):
    rows = [json.loads(line) for line in gsm8k.read_text().splitlines()]
    assert mgsm("en", mgsm_folder, n=3, reference=gsm8k).items[1].completion.startswith(" A bag has 6 nuts")
    write_lines(gsm8k, [rows[0], {**rows[1], "question": "Another with 30?"}, rows[2]])
    mgsm("sw", mgsm_folder, n=3, reference=gsm8k)
    with pytest.raises(RequestError, match="row 1 is another problem, 'Another with 30"):
        mgsm("en", mgsm_folder, n=3, reference=gsm8k)


@pytest.mark.parametrize(
    ("line", "message"),
    [("no tab here 7", r"mgsm_sw.tsv, line 2: no tab"), ("Ngapi?\tsaba", r"line 2: the answer 'saba' is not a number")],
)
def test_broken_problems(mgsm_folder, line, message):
    write(mgsm_folder / "mgsm_sw.tsv", f"Ana 3?\t3\r\n{line}\n")
    with pytest.raises(RequestError, match=message):
        mgsm("sw", mgsm_folder, n=1)


def test_problems_with_windows_line_ends_and_unicode_separators(mgsm_folder):
    (mgsm_folder / "mgsm_sw.tsv").write_bytes("Ana\u2028 3?\t3\r\n\r\nAna 4?\t4".encode())
    items = mgsm("sw", mgsm_folder, n=2).items
    assert [item.answer for item in items] == [3, 4] and "Ana\u2028 3?" in items[0].prompt


# --- Belebele --------------------------------------------------------------------------------------------


def test_belebele_by_letter_and_by_text(belebele_folder):
    items = {item.prompt.split("\n")[1]: item for item in belebele("en", belebele_folder).items}
    item = items["Q: eng_Latn question a2?"]
    assert item.prompt == (
        "P: eng_Latn passage a.\nQ: eng_Latn question a2?\nA: eng_Latn a2 option 1\nB: eng_Latn a2 option 2\n"
        "C: eng_Latn a2 option 3\nD: eng_Latn a2 option 4\nAnswer:"
    )
    assert (item.options, item.gold) == ((" A", " B", " C", " D"), 3)
    text = next(one for one in belebele("en", belebele_folder, scored="text").items if one.id == item.id)
    assert text.prompt == "P: eng_Latn passage a.\nQ: eng_Latn question a2?\nAnswer:"
    assert text.options[text.gold] == " eng_Latn a2 option 4" and text.answer is None and text.completion == ""


def test_belebele_is_parallel_though_its_files_differ_in_order(belebele_folder):
    for n, shots in ((None, 0), (2, 0), (None, 2), (2, 1)):
        english, swahili = (belebele(language, belebele_folder, n=n, shots=shots) for language in ("en", "sw"))
        assert well_formed(english) and well_formed(swahili)
        assert [(i.id, i.group, i.gold) for i in english.items] == [(i.id, i.group, i.gold) for i in swahili.items]
        assert [i.prompt.replace("eng_Latn", "swh_Latn") for i in english.items] == [i.prompt for i in swahili.items]
        assert english.prefix.replace("eng_Latn", "swh_Latn") == swahili.prefix
    every = belebele("en", belebele_folder)
    assert len(every.items) == 6 and len({item.group for item in every.items}) == 4
    assert belebele("en", belebele_folder, n=2).items == every.items[:2]


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_belebele_shots_and_items_share_no_passage(belebele_folder, shots):
    benchmark = belebele("en", belebele_folder, shots=shots, scored="text")
    passages = [line for line in benchmark.prefix.split("\n") if line.startswith("P: ")]
    assert len(set(passages)) == len(passages) == shots and benchmark.prefix.count("\n\n") == shots
    assert not {item.prompt.split("\n")[0] for item in benchmark.items} & set(passages)
    rows = {row["question"].strip(): row for row in belebele_rows("eng_Latn")}
    for block in benchmark.prefix.split("\n\n")[:-1]:  # each ends in its right option
        row = rows[block.split("\n")[1].removeprefix("Q: ")]
        assert block.endswith("Answer: " + row[f"mc_answer{row['correct_answer_num']}"])
    assert f"{shots} shot" in benchmark.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_answer_num": "5"}, "correct_answer_num is '5', not one of 1 to 4"),
        ({"question_number": 2}, "question 2: it is there twice"),
        ({"mc_answer3": None}, r"eng_Latn.jsonl, row 1: no 'mc_answer3'"),
    ],
)
def test_broken_belebele(belebele_folder, change, message):
    rows = belebele_rows("eng_Latn")
    write_lines(belebele_folder / "data" / "eng_Latn.jsonl", [rows[0] | change, *rows[1:]])
    with pytest.raises(RequestError, match=message):
        belebele("en", belebele_folder)


def test_belebele_as_unpacked_from_its_archive(belebele_folder):
    flat = belebele("sw", belebele_folder / "data")
    assert flat.fingerprint == belebele("sw", belebele_folder).fingerprint


def test_belebele_has_all_languages():
    assert set(benchmarks._FLORES) == set(LANGUAGE_NAMES)


# --- Global-MMLU -----------------------------------------------------------------------------------------


def test_global_mmlu_shots_are_of_the_same_subject_and_within_the_prompt(mmlu_folder):
    benchmark = global_mmlu("sw", mmlu_folder, shots=2)
    assert well_formed(benchmark) and benchmark.prefix == "" and "2 shots of the same subject" in benchmark.note
    item = next(one for one in benchmark.items if one.id == "virology/test/1")
    assert item.prompt == (
        "sw virology dev 0?\nA. a0\nB. b0\nC. c0\nD. d0\nAnswer: A\n\n"
        "sw virology dev 1?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer: B\n\n"
        "sw virology test 1?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer:"
    )
    assert (item.options, item.gold, item.group) == ((" A", " B", " C", " D"), 1, "virology")
    text = next(one for one in global_mmlu("sw", mmlu_folder, shots=1, scored="text").items if one.id == item.id)
    assert text.prompt == "sw virology dev 0?\nAnswer: a0\n\nsw virology test 1?\nAnswer:"
    assert text.options[text.gold] == " b1"


def test_global_mmlu_is_parallel_and_takes_subjects(mmlu_folder):
    english, swahili = (global_mmlu(language, mmlu_folder, shots=2) for language in ("en", "sw"))
    assert [(i.id, i.gold) for i in english.items] == [(i.id, i.gold) for i in swahili.items]
    assert [i.prompt.replace("en ", "sw ") for i in english.items] == [i.prompt for i in swahili.items]
    assert global_mmlu("sw", mmlu_folder, n=4, shots=2).items == swahili.items[:4]
    virology = tuple(item for item in swahili.items if item.group == "virology")
    assert global_mmlu("sw", mmlu_folder, shots=2, subjects=["virology"]).items == virology
    assert global_mmlu("sw", mmlu_folder, shots=2, subjects="virology").items == virology


def test_global_mmlu_without_shots_needs_no_development_split(mmlu_folder):
    (mmlu_folder / "sw" / "dev-00000-of-00001.parquet").unlink()
    assert global_mmlu("sw", mmlu_folder, shots=0).items[0].prompt.startswith("sw ")
    with pytest.raises(RequestError, match=r"no file sw/dev-\*.parquet"):
        global_mmlu("sw", mmlu_folder, shots=1)


def test_broken_global_mmlu(mmlu_folder):
    file = mmlu_folder / "sw" / "test-00000-of-00001.parquet"
    write_parquet(file, [mmlu_row("sw", "anatomy", "test", 0) | {"answer": "E"}])
    with pytest.raises(RequestError, match="anatomy/test/0: the answer 'E' is none of A, B, C, D"):
        global_mmlu("sw", mmlu_folder)
    write_parquet(file, [{"sample_id": "x", "question": "?"}])
    with pytest.raises(RequestError, match=r"no column subject, option_a.*it has: sample_id, question"):
        global_mmlu("sw", mmlu_folder)
    file.write_bytes(b"not parquet")
    with pytest.raises(RequestError, match="cannot be read after row 0: Parquet"):
        global_mmlu("sw", mmlu_folder)


# --- by name, and what is refused ------------------------------------------------------------------------


def test_load_benchmark_calls_the_function_of_that_name(mgsm_folder, belebele_folder, mmlu_folder):
    assert load_benchmark("prose", "sw", n=3) == prose_benchmark("sw", n=3)
    assert load_benchmark("templates", "en", n=4, shots=1) == templates_benchmark("en", n=4, shots=1)
    assert load_benchmark("mgsm", "sw", mgsm_folder, n=2) == mgsm("sw", mgsm_folder, n=2)
    assert load_benchmark("belebele", "sw", str(belebele_folder), n=2) == belebele("sw", belebele_folder, n=2)
    assert load_benchmark("global-mmlu", "sw", mmlu_folder, shots=1) == global_mmlu("sw", mmlu_folder, shots=1)


FOLDERS = {"mgsm": "mgsm_folder", "belebele": "belebele_folder", "global-mmlu": "mmlu_folder"}


@pytest.mark.parametrize(
    ("name", "language", "options", "message"),
    [
        ("gsm", "sw", {}, "No benchmark 'gsm': choose one of templates, prose, mgsm, belebele, global-mmlu"),
        ("mgsm", "sw", {"shot": 2}, "No option of the benchmark mgsm 'shot': choose one of .*shots"),
        ("templates", "sw", {"exemplars": "native"}, "No option of the benchmark templates 'exemplars'"),
        ("templates", "sw", {"path": "here"}, "templates ships with the package: leave its path out"),
        ("templates", "xx", {}, "No language 'xx'"),
        ("prose", "en", {}, "No prose in language 'en': choose one of .*sw"),
        ("prose", "sw", {"n": 0}, "n must be a whole number from 1 on, not 0"),
        ("prose", "sw", {"shots": 1}, "No option of the benchmark prose 'shots'"),
        ("prose", "sw", {"path": "here"}, "prose ships with the package: leave its path out"),
        ("templates", "sw", {"shots": -1}, "shots must be a whole number from 0 on, not -1"),
        ("templates", "sw", {"n": 0}, "n must be a whole number from 1 on, not 0"),
        ("mgsm", "xx", {}, "No language of MGSM 'xx': choose one of en, sw"),
        ("mgsm", "bn", {"n": 3}, "no file mgsm_bn.tsv in .*laid out as the hub's juletxara/mgsm"),
        ("mgsm", "sw", {"n": 4}, r"n = 4: MGSM \(sw\) has 3 problems"),
        ("mgsm", "sw", {"n": 3, "shots": 4}, "shots = 4: there are 3 exemplars, so at most 3"),
        ("mgsm", "sw", {"n": 3, "shots": -2}, "shots must be a whole number from 0 on, not -2"),
        ("mgsm", "sw", {"n": True}, "n must be a whole number from 1 on, not True"),
        (
            "mgsm",
            "sw",
            {"exemplars": "swahili"},
            "No exemplars 'swahili': choose one of native, english, cross",
        ),
        ("mgsm", "sw", {"n": 3, "reference": "no/such.jsonl"}, "reference no/such.jsonl is not a file"),
        ("mgsm", "sw", {"path": "no/such/folder"}, "no/such/folder does not exist: give a folder"),
        ("belebele", "xx", {}, "No language of Belebele 'xx'"),
        ("belebele", "bn", {}, "no file data/ben_Beng.jsonl"),
        ("belebele", "sw", {"n": 7}, r"n = 7: Belebele \(sw\) has 6 problems"),
        ("belebele", "sw", {"shots": 4}, "shots = 4: there are 4 passages"),
        ("belebele", "sw", {"shots": -1}, "shots must be a whole number from 0 on"),
        ("belebele", "sw", {"scored": "words"}, "No way to score 'words': choose one of letter, text"),
        ("global-mmlu", "th", {}, "No language of Global-MMLU 'th'"),
        ("global-mmlu", "sw", {"n": 7}, r"n = 7: Global-MMLU \(sw\) has 6 problems"),
        ("global-mmlu", "sw", {}, "shots = 5: subject .* has 2 development questions, so at most 2"),
        ("global-mmlu", "sw", {"subjects": ["law"]}, "No subject 'law': choose one of anatomy, virology"),
        ("global-mmlu", "sw", {"scored": ""}, "No way to score ''"),
    ],
)
def test_wrong_requests(request, name, language, options, message):
    if name in FOLDERS:
        options = {"path": request.getfixturevalue(FOLDERS[name])} | options
    with pytest.raises(RequestError, match=message):
        load_benchmark(name, language, **options)


# --- the real files --------------------------------------------------------------------------------------

DATA = Path(os.environ.get("XLNB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
REAL = [language for language in LANGUAGE_NAMES if (DATA / "mgsm" / f"mgsm_{language}.tsv").is_file()]
real = pytest.mark.skipif(
    not REAL or not (DATA / "gsm8k" / "test.jsonl").is_file(),
    reason="no MGSM and GSM8K files; set XLNB_TEST_DATA to a folder with mgsm/ and gsm8k/test.jsonl",
)


@real
@pytest.mark.parametrize("language", REAL)
def test_real_mgsm_is_parallel_and_its_references_agree(language):
    english, other = (
        mgsm(code, DATA / "mgsm", exemplars="cross", reference=DATA / "gsm8k" / "test.jsonl")
        for code in ("en", language)
    )
    assert well_formed(other) and len(other.items) == 250
    for one, two in zip(english.items, other.items, strict=True):
        same = replace(one, language=language, prompt=two.prompt, closing=two.closing)
        assert same == two  # all but the question and the answer sentence
        assert extract_number(two.completion, "en") == two.answer
        assert extract_number(two.closing, language) == two.answer
        assert not any(mark in two.completion for mark in ("<<", ">>", "####", "\n"))
    assert {item.answer for item in other.items} >= {Decimal(2125), Decimal(276000)}
    assert sum(bool(item.expressions) for item in other.items) > 100


@real
@pytest.mark.parametrize("language", REAL)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_real_exemplars_are_parallel(language, seed):
    published = json.loads((DATA / "mgsm" / "exemplars.json").read_text(encoding="utf-8"))
    benchmark = mgsm(language, DATA / "mgsm", shots=8, exemplar_seed=seed)
    blocks = benchmark.prefix.split("\n\n")[:-1]
    texts = {f"{one['q']}\n{one['a']}".strip(): number for number, one in published["exemplars"][language].items()}
    numbers = [texts[block] for block in blocks]  # as published, to the letter
    assert sorted(numbers) == list("12345678") and (seed > 0 or numbers == sorted(numbers))
    english = mgsm("en", DATA / "mgsm", shots=8, exemplar_seed=seed).prefix
    asked = {one["q"]: number for number, one in published["exemplars"]["en"].items()}
    assert [asked[line] for line in english.split("\n") if line.startswith("Question:")] == numbers


@real
def test_real_answer_sentences():
    found = {code: mgsm(code, DATA / "mgsm", n=1).items[0].closing for code in REAL}
    expected = {"en": " The answer is 18.", "sw": " Jibu ni 18.", "bn": " উত্তর হল 18।", "te": " సమాధానం 18."}
    assert {code: found[code] for code in expected if code in found} == {
        c: s for c, s in expected.items() if c in found
    }
