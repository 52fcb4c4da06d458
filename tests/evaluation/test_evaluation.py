"""Batches, likelihoods, greedy answers and how answers are read; on miniatures, against plain forwards one by one."""

import json
import shutil
from dataclasses import replace
from decimal import Decimal

import pytest
import torch
from lively import lively

from xlnb.corpora import mismatched, strangers, templates
from xlnb.corpora.benchmarks import Benchmark, Item, templates_benchmark
from xlnb.errors import RequestError
from xlnb.evaluation.answers import calculations, extract_number, has_calculations
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.readings import CHOICES, READINGS, allowed
from xlnb.evaluation.scoring import answer_readings, evaluate
from xlnb.evaluation.solutions import calculation_choices, calculation_variants, expression_tokens, solution_readings
from xlnb.models import generation
from xlnb.models.base import Base, load_base, trim
from xlnb.models.engine import IGNORED, Branch, Engine, completion_nll, right_aligned
from xlnb.models.generation import answers
from xlnb.models.miniatures import MINIATURES

pytestmark = pytest.mark.usefixtures("own_home")
each_family = pytest.mark.parametrize("family", MINIATURES)
SMALL = Evaluation(problems=5, generated=4, max_new_tokens=8, batch_size=3, generation_batch_size=3)
LIKELIHOOD = ("nll", "expression-nll", "choice", "choice-probability", "information")


def some(language, n, shots=0):
    return templates_benchmark(language, n=n, shots=shots).items


def solution_nll(base, prefix, items, batch_size):
    found = solution_readings(Engine(base, batch_size), prefix, items, ("nll", "expression-nll"))
    return [tuple(one.values()) for one in found]


def cut(items):
    """The problems with prompts that break off at different words: asked in full, a miniature gives all the same answer."""
    return [replace(item, prompt=item.prompt[: -1 - 7 * i]) for i, item in enumerate(items)]


def run_prefix(base, text):
    return Engine(base).prefix(text)


def generate_answers(base, prefix, items, tokens, batch_size):
    prompts = [base.encode(item.prompt) for item in items]
    return answers(Engine(base, generation_batch_size=batch_size), prefix, prompts, tokens)


@pytest.fixture
def base(miniature):
    return lively(load_base(miniature()))


def asked(base, language, settings):
    return evaluate(base, settings.asked(language), settings)


# --- plain readings, one by one, without cache, batch or trimmed logits ----------------------------------


def plain_nll(base, prefix, problem):
    """The likelihood of each solution token, and which characters the tokens are."""
    read = prefix + base.encode(problem.prompt)
    solution = base.encode(problem.completion)
    with torch.inference_mode():
        logits = base.model(torch.tensor([read + solution]), use_cache=False).logits[0].double()
    log_probs = logits.log_softmax(-1)[len(read) - 1 : -1]
    return -log_probs.gather(1, torch.tensor(solution)[:, None])[:, 0]


def plain_ids(base, prefix, problem, tokens, stop):
    ids = prefix + base.encode(problem.prompt)
    answer = []
    while len(answer) < tokens and not (answer and answer[-1] in stop):
        with torch.inference_mode():
            answer.append(int(base.model(torch.tensor([ids + answer]), use_cache=False).logits[0, -1].argmax()))
    return answer


def plain_answer(base, prefix, problem, tokens):
    return base.decode(plain_ids(base, prefix, problem, tokens, base.stop_ids)).partition("\n")[0].strip()


def in_expressions(problem):
    """Which characters of the completion belong to an expression, found by looking for each one."""
    text = problem.completion
    marked = [False] * len(text)
    for expression in problem.expressions:
        start = text.index(f"{expression} = ")
        marked[start : start + len(expression)] = [True] * len(expression)
    return marked


# --- batches ---------------------------------------------------------------------------------------------


def test_right_aligned_rows():
    batch = right_aligned([([5, 6], [7]), ([8], [9, 10, 11])], pad_id=0, past=2, device="cpu")
    assert batch.input_ids.tolist() == [[0, 5, 6, 7], [8, 9, 10, 11]]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 1, 1, 1], [1] * 6]
    assert batch.position_ids.tolist()[0][1:] == [2, 3, 4]
    assert batch.position_ids.tolist()[1] == [2, 3, 4, 5]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7], [9, 10, 11]]
    assert batch.width == 3


def test_a_row_with_nothing_before_its_completion_is_refused():
    rows = [([5], [7]), ([], [8, 9])]
    with pytest.raises(RequestError, match="A row has an empty prompt and nothing before it"):
        right_aligned(rows, pad_id=0, device="cpu")
    assert right_aligned(rows, pad_id=0, past=1, device="cpu").width == 2


def test_rows_without_completions():
    batch = right_aligned([([5, 6], []), ([8], [])], pad_id=0, device="cpu")
    assert batch.input_ids.tolist() == [[5, 6], [0, 8]]
    assert batch.attention_mask.tolist() == [[1, 1], [0, 1]]
    assert batch.labels.shape == (2, 0)


@each_family
def test_a_batch_gives_each_row_its_own_likelihood(miniature, family):
    base = lively(load_base(miniature(family)))
    rows = [
        (base.encode(p), base.encode(c)) for p, c in (("a prompt", " x"), ("b", " a longer completion"), ("cd ", "1"))
    ]
    with torch.inference_mode():
        together = completion_nll(base.model, right_aligned(rows, base.pad_id, device=base.device))
        for row, (prompt, completion) in zip(together, rows, strict=True):
            logits = base.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            nll = -logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
            assert torch.allclose(row[-len(completion) :], nll, atol=1e-4)
            assert not row[: -len(completion)].any()


# --- likelihoods -----------------------------------------------------------------------------------------


@each_family
@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_prefix_cache_and_batches_give_the_plain_likelihood(miniature, family, batch_size):
    base = lively(load_base(miniature(family)))
    prefix = run_prefix(base, templates.few_shot_prefix("en", 1)[-120:])
    problems = some("en", 6)
    rows = [base.encode(p.prompt + p.completion) for p in problems]
    assert len({len(row) for row in rows}) > 3
    assert len(prefix.ids) + max(map(len, rows)) <= 512, "longer ones are another test's"
    for problem, (nll, expression_nll) in zip(problems, solution_nll(base, prefix, problems, batch_size), strict=True):
        plain = plain_nll(base, prefix.ids, problem)
        assert nll == pytest.approx(plain.mean().item(), abs=1e-4)
        marked = torch.tensor(in_expressions(problem))  # a token is a byte, and English a byte a character
        assert expression_nll == pytest.approx(plain[marked].mean().item(), abs=1e-4)
        assert abs(nll - expression_nll) > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_beyond_a_sliding_window_too(miniature, batch_size):
    # Gemma 3's local layers see 512 tokens back, by place in the batch: padding between prefix and problem takes up places.
    base = lively(load_base(miniature("gemma3")))
    prefix = run_prefix(base, templates.few_shot_prefix("sw", 2))
    assert len(prefix.ids) > base.model.config.sliding_window
    problems = some("sw", 6)
    for problem, (nll, _) in zip(problems, solution_nll(base, prefix, problems, batch_size), strict=True):
        assert nll == pytest.approx(plain_nll(base, prefix.ids, problem).mean().item(), abs=1e-4)


@pytest.mark.parametrize("family", ["gemma3", "mistral"])  # windows in five of six layers, and in all
@pytest.mark.parametrize("before", [0, 150, 1000])
@pytest.mark.parametrize("batch_size", [2, 6])
def test_answers_beyond_a_sliding_window_too(miniature, tmp_path, family, before, batch_size):
    narrow = lively(load_base(with_window(miniature(family), tmp_path, 200)))
    prefix = run_prefix(narrow, templates.few_shot_prefix("sw", 2)[:before])
    problems = cut(some("sw", 6))
    ids = [narrow.encode(p.prompt) for p in problems]
    assert max(map(len, ids)) > 200 > min(map(len, ids)) and len(set(map(len, ids))) > 4, "padding is next to text"
    found = generate_answers(narrow, prefix, problems, 12, batch_size)
    assert found == [plain_answer(narrow, prefix.ids, p, 12) for p in problems]
    wide = lively(load_base(miniature(family)))
    assert found != [plain_answer(wide, prefix.ids, p, 12) for p in problems], "the window must matter"


def with_window(folder, root, window):
    """A copy of a checkpoint whose layers look back no farther than so many tokens, where they have a window at all."""
    narrow = shutil.copytree(folder, root / "narrow")
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps(config | {"sliding_window": window}))
    return narrow


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_without_worked_examples(base, language):
    prefix = run_prefix(base, "")
    problems = some(language, 3)
    for problem, (nll, _) in zip(problems, solution_nll(base, prefix, problems, 3), strict=True):
        assert nll == pytest.approx(plain_nll(base, base.start, problem).mean().item(), abs=1e-4)


def test_a_tokenizer_without_an_opening_token(base):
    base.__dict__["start"] = []
    prefix = run_prefix(base, "")
    assert prefix.ids == []
    problems = some("en", 3)
    for problem, (nll, _) in zip(problems, solution_nll(base, prefix, problems, 3), strict=True):
        assert nll == pytest.approx(plain_nll(base, [], problem).mean().item(), abs=1e-4)
    assert generate_answers(base, prefix, problems, 6, 3) == [plain_answer(base, [], p, 6) for p in problems]


def test_a_prefix_serves_many_batches(base):
    prefix = run_prefix(base, templates.few_shot_prefix("en", 1))
    problems = some("en", 4)
    first = solution_nll(base, prefix, problems, 2)
    generate_answers(base, prefix, problems, 4, 2)
    assert solution_nll(base, prefix, problems, 2) == first


# --- expressions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        (" She has 12 + 5 = 17 left. The answer is 17.", "12 + 5"),
        (" 3 * 4 = 12. 12 / 6 = 2.", "3 * 412 / 6"),
        (" Ng'ombe watano: 20 - 5 = 15. Jibu ni 15.", "20 - 5"),
        (" উত্তর: 7 * 8 = 56।", "7 * 8"),
        (" 3×4 = 12, 9 − 2 = 7", "3×49 − 2"),
        (" nothing to 5 calculate", ""),
    ],
)
def test_expression_tokens_are_those_of_the_expressions(base, text, marked):
    ids = base.encode(text)
    found = expression_tokens(base, text)
    assert len(found) == len(ids)
    assert base.decode([i for i, wanted in zip(ids, found, strict=True) if wanted]) == marked


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_every_solution_has_expression_tokens(base, language):
    for problem in some(language, 24):
        text = problem.completion
        found = expression_tokens(base, text)
        chosen = base.decode([i for i, wanted in zip(base.encode(text), found, strict=True) if wanted])
        assert chosen == "".join(problem.expressions)


# --- answers ---------------------------------------------------------------------------------------------


@each_family
@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_batched_answers_are_the_plain_greedy_ones(miniature, family, batch_size):
    base = lively(load_base(miniature(family)))
    prefix = run_prefix(base, templates.few_shot_prefix("en", 1)[-120:])
    problems = cut(some("en", 5))
    free = [plain_ids(base, prefix.ids, p, 10, ()) for p in problems]

    def ends(stop):
        return {ids.index(stop) if stop in ids else 10 for ids in free}

    stop = max({i for ids in free for i in ids}, key=lambda i: len(ends(i)))
    assert len(ends(stop)) > 1, "all answers end together: this test would prove little"
    base.__dict__["stop_ids"] = [stop]  # so that answers end here and there
    plain = [plain_answer(base, prefix.ids, p, 10) for p in problems]
    assert generate_answers(base, prefix, problems, 10, batch_size) == plain


def test_an_answer_ends_at_the_line_s_end(base, monkeypatch):
    # also where a token has more than the line break in it
    monkeypatch.setattr(Base, "decode", lambda self, ids: "  The answer is 7.\nQuestion: 8")
    answers = generate_answers(base, run_prefix(base, ""), some("en", 2), 3, 2)
    assert answers == ["The answer is 7."] * 2


def test_answers_of_a_trimmed_vocabulary_are_text(base):
    problems = some("en", 2)
    texts = [p.prompt + p.completion for p in problems]
    kept = torch.tensor(sorted({i for t in texts for i in base.encode(t)} | set(base.tokenizer.all_special_ids)))
    trim(base.model, kept)
    trimmed = Base(base.folder, base.model, base.tokenizer, kept)
    (answer, _) = generate_answers(trimmed, run_prefix(trimmed, ""), problems, 5, 2)
    assert answer == plain_answer(trimmed, trimmed.start, problems[0], 5)


@pytest.mark.parametrize(
    ("text", "language", "number"),
    [
        ("12 + 5 = 17. The answer is 17.", "en", 17),
        ("The answer is 17. 12 + 5 = 18", "en", 17),  # what is stated goes before what comes last
        ("the ANSWER IS: 17, not 18", "en", 17),
        ("The answer is 3. No, the answer is 4.", "en", 4),
        ("12 + 5 = 17 apples", "en", 17),  # nothing stated: the last number
        ("The answer is unknown", "en", None),
        ("I have 5. The answer is unknown", "en", 5),
        ("Jibu ni 2,125.", "sw", 2125),
        ("12 - 5 = 7. Jibu ni 7. Swali 9", "sw", 7),
        ("Jibu ni 7 kati ya 9", "sw", 7),
        ("The answer is 1,234,567.50 shillings", "en", "1234567.5"),
        ("The answer is 18.00", "en", 18),
        ("The answer is $18.", "en", 18),
        ("The answer is 17.", "sw", 17),
        ("The answer is -4", "en", -4),
        ("উত্তর ১২৩", "bn", 123),
        ("సమాధానం ౪౨", "te", 42),
        ("২,১২৫ টাকা", "bn", 2125),
        ("Jibu ni ١٧", "sw", 17),
        ("no idea", "en", None),
        ("", "sw", None),
        ("1, 2, 3", "en", 3),
        ("4 - 1 = 3", "en", 3),
        ("7-3", "en", 3),  # a minus between numbers is no sign
    ],
)
def test_numbers_are_read(text, language, number):
    found = extract_number(text, language)
    assert found == (None if number is None else Decimal(number))


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_every_gold_solution_is_read_right(language):
    for problem in templates.problems(language, "scored", 100):
        assert extract_number(problem.solution, language) == problem.answer
        assert has_calculations(problem.solution, problem.expressions)
        assert not has_calculations(problem.question, problem.expressions)


@pytest.mark.parametrize(
    ("text", "expressions", "right"),
    [
        ("12 + 5 = 17", ("12 + 5",), True),
        ("5 + 12 = 17", ("12 + 5",), True),  # either order of a sum
        ("3 x 4, 4×3", ("4 * 3",), True),
        ("12 - 5", ("12 - 5",), True),
        ("12 − 5", ("12 - 5",), True),
        ("5 - 12", ("12 - 5",), False),  # but not of a difference
        ("6 / 12", ("12 / 6",), False),
        ("12 ÷ 6", ("12 / 6",), True),
        ("12 + 5 = 17", ("12 + 5", "17 * 2"), False),
        ("12+5=17; 2 * 17 = 34; 1 + 1", ("12 + 5", "17 * 2"), True),  # more may stand there
        ("4 + 4", ("4 + 4", "4 + 4"), False),  # wanted twice, there once
        ("4 + 4 = 8, 4 + 4 = 8", ("4 + 4", "4 + 4"), True),
        ("112 + 5", ("12 + 5",), False),
        ("12 + 55", ("12 + 5",), False),
        ("১২ + ৫", ("12 + 5",), True),
        ("17", ("12 + 5",), False),
        ("", ("12 + 5",), False),
        ("anything", (), True),
    ],
)
def test_calculations_are_found(text, expressions, right):
    assert has_calculations(text, expressions) == right


def test_calculations_are_counted():
    assert calculations("5 + 12, 12 + 5, 3 - 1") == {("+", 5, 12): 2, ("-", 3, 1): 1}


# --- branches: what might stand in a completion's stead, in one forward --------------------------------------


def plain_total(base, before, ids):
    """The likelihood of ids behind others, alone."""
    with torch.inference_mode():
        logits = base.model(torch.tensor([before + ids]), use_cache=False).logits[0].double()
    log_probs = logits.log_softmax(-1)[len(before) - 1 : -1]
    return -log_probs.gather(1, torch.tensor(ids)[:, None]).sum().item()


@each_family
@pytest.mark.parametrize("shots", ["none", "some", "beyond the window"])
def test_branches_have_the_likelihood_they_have_alone(miniature, family, shots):
    base = lively(load_base(miniature(family)))
    text = {"none": "", "some": few_shot("en")[-100:], "beyond the window": few_shot("sw") * 2}[shots]
    prefix = run_prefix(base, text)
    prompts, completions = ["Q: a\nA:", "Q: long one\nA:", "Q\nA:"], [" 12 + 5 = 17.", " x", ""]
    rows = [(base.encode(p), base.encode(c)) for p, c in zip(prompts, completions, strict=True)]
    branches = [
        [Branch(1, base.encode("12 - 5 =")), Branch(0, base.encode(" nothing at all, and much longer than the rest"))],
        [],
        [Branch(0, base.encode(" A")), Branch(0, base.encode(" B")), Branch(0, base.encode(" C"))],
    ]
    for (prompt, completion), own, (tokens, *others) in zip(
        rows, branches, Engine(base, 2).nll(prefix, rows, branches), strict=True
    ):
        before = prefix.ids + prompt
        if completion:
            assert tokens.sum().item() == pytest.approx(plain_total(base, before, completion), rel=1e-4)
        assert tokens.shape == (1, len(completion)) and len(others) == len(own)
        for branch, found in zip(own, others, strict=True):
            alone = plain_total(base, before + completion[: branch.at], branch.ids)
            assert found.sum().item() == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("family", ["gemma3", "mistral"])  # windows in five of six layers, and in all
@pytest.mark.parametrize("before", ["", "A text. ", "A longer text, which no window of this size takes in. "])
def test_a_window_may_end_anywhere(miniature, tmp_path, family, before):
    base = lively(load_base(with_window(miniature(family), tmp_path, 24)))
    engine = Engine(base, 2)
    prefix = engine.prefix(before)
    texts = [("Q: a\nA:", " 12 + 5 = 17, said at some length."), ("Q\nA:", " x"), ("Q: how many is this?\nA:", " 3")]
    rows = [(base.encode(p), base.encode(c)) for p, c in texts]
    branches = [
        [Branch(20, base.encode(" not so long")), Branch(2, base.encode("1"))],
        [Branch(0, base.encode(" y"))],
        [],
    ]

    def alone(base):
        texts = [[(p, c), *((p + c[: b.at], b.ids) for b in own)] for (p, c), own in zip(rows, branches, strict=True)]
        return [plain_total(base, prefix.ids + text, ids) for one in texts for text, ids in one]

    found = [part.sum().item() for parts in engine.nll(prefix, rows, branches) for part in parts]
    assert found == pytest.approx(alone(base), rel=1e-4)
    assert found != pytest.approx(alone(lively(load_base(miniature(family)))), rel=1e-3), "the window must matter"


def few_shot(language):
    return templates.few_shot_prefix(language, 2)


def test_a_calculation_s_variants_are_wrong_but_for_the_first():
    for calculation in ("12 + 5", "12 - 5", "12 * 5", "12 / 4"):
        texts = calculation_variants(calculation)
        assert texts[0] == calculation and len(set(texts)) == 6
        values = [eval(text) for text in texts]
        assert values.count(values[0]) == 1
    assert calculation_variants("3×4")[1:] == ["3+4", "3-4", "3/4", "4-3", "4/3"]


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_choices_change_a_calculation_and_nothing_else(base, language):
    for item in some(language, 12):
        ids, choices = base.encode(item.completion), calculation_choices(base, item.completion)
        assert len(choices) == len(item.expressions)
        for offered, expression in zip(choices, item.expressions, strict=True):
            texts = [base.decode(ids[: b.at] + b.ids) for b in offered]
            assert all(base.decode(ids).startswith(text) for text in texts[:1])
            before = item.completion[: item.completion.index(f"{expression} =")]
            assert [text.removeprefix(before) for text in texts] == [f"{v} =" for v in calculation_variants(expression)]


def test_a_choice_is_right_where_the_gold_calculation_is_likeliest(base):
    prefix, items = run_prefix(base, few_shot("en")[-80:]), some("en", 6)
    for item, found in zip(items, solution_readings(Engine(base, 4), prefix, items, LIKELIHOOD), strict=True):
        ids, before = base.encode(item.completion), prefix.ids + base.encode(item.prompt)
        shares, right = 1.0, True
        for offered in calculation_choices(base, item.completion):
            nll = torch.tensor([plain_total(base, before + ids[: b.at], b.ids) for b in offered])
            shares *= (-nll).softmax(0)[0].item()
            right &= int(nll.argmin()) == 0
        assert found["choice-probability"] == pytest.approx(shares, abs=1e-4)
        assert found["choice"] == float(right)


def test_guessing_among_the_variants_is_right_once_in_six(base):
    with torch.no_grad():  # a model that finds every token equally likely
        base.model.get_output_embeddings().weight.zero_()
    items = some("en", 6)
    scored = solution_readings(Engine(base), run_prefix(base, ""), items, CHOICES)
    for item, found in zip(items, scored, strict=True):
        assert found["choice-probability"] == pytest.approx(6 ** -len(item.expressions), rel=1e-4)
        assert found["choice"] == 0  # a tie is not right


def test_information_is_the_likelihood_behind_another_problem_minus_that_behind_its_own(base):
    items = some("en", 6)
    prefix = run_prefix(base, "")
    other = [items[j] for j in strangers([item.group for item in items])]
    readings = ("nll", "expression-nll", "information", "expression-information")
    found = solution_readings(Engine(base), prefix, items, readings)
    for item, stranger, one in zip(items, other, found, strict=True):
        assert stranger.group != item.group
        crossed = plain_nll(base, prefix.ids, replace(stranger, completion=item.completion))
        assert one["information"] == pytest.approx(crossed.mean().item() - one["nll"], abs=1e-4)
        calculated = crossed[torch.tensor(in_expressions(item))].mean().item()
        assert one["expression-information"] == pytest.approx(calculated - one["expression-nll"], abs=1e-4)


def test_no_information_where_the_problem_is_not_read(base):
    # No token sees another: what stands before the completion cannot matter, but for its last token, which is the same.
    with torch.no_grad():
        for name, p in base.model.named_parameters():
            if "o_proj" in name:
                p.zero_()
    found = solution_readings(Engine(base), run_prefix(base, ""), some("en", 4), ("information",))
    assert [one["information"] for one in found] == pytest.approx([0] * 4, abs=1e-5)
    assert all(set(one) == {"information"} for one in found)


def test_information_takes_two_problems(base):
    found = solution_readings(Engine(base), run_prefix(base, ""), some("en", 1), ("nll", "information"))
    assert [set(one) for one in found] == [{"nll"}]
    with pytest.raises(RequestError, match="two or more"):
        strangers(["alone"])


def test_a_placebo_s_solutions_are_those_of_other_problems():
    examples = templates.math_examples("sw", "train", 60)
    wrong = mismatched(examples)
    assert [e.prompt for e in wrong] == [e.prompt for e in examples]
    assert sorted(e.completion for e in wrong) == sorted(e.completion for e in examples)  # all of them, each once
    own = {e.completion: e.kind for e in examples}
    assert all(own[e.completion] != e.kind for e in wrong)


def test_options_are_chosen_by_likelihood(base):
    items = tuple(
        Item(f"o-{gold}", "en", "Which?\nAnswer:", options=(" A", " B", " C", " D"), gold=gold) for gold in range(4)
    )
    rows = evaluate(base, Benchmark("letters", "en", "", items, ""), Evaluation(readings=CHOICES))
    before = base.start + base.encode("Which?\nAnswer:")
    nll = torch.tensor([plain_total(base, before, base.encode(option)) for option in items[0].options])
    chosen = rows[rows["metric"] == "choice"]
    assert list(chosen["outcome"]) == [float(gold == nll.argmin()) for gold in range(4)]
    shares = rows[rows["metric"] == "choice-probability"]["outcome"]
    assert list(shares) == pytest.approx((-nll).softmax(0).tolist(), abs=1e-4) and sum(shares) == pytest.approx(1)
    assert set(rows["metric"]) == {"choice", "choice-probability"}


def test_an_answer_sentence_is_scored_apart(base):
    item = Item("c", "en", "Why?\nAnswer:", answer=Decimal(7), closing=" The answer is 7.")
    rows = evaluate(base, Benchmark("c", "en", "", (item,), ""), replace(SMALL, readings=("closing-nll",)))
    ids = base.encode(item.closing)
    alone = plain_total(base, base.start + base.encode(item.prompt), ids) / len(ids)
    assert list(rows["metric"]) == ["closing-nll"] and rows["outcome"][0] == pytest.approx(alone, rel=1e-4)


def test_no_information_is_read_where_no_solution_is_known(base):
    items = tuple(Item(f"c-{i}", "en", f"Why {i}?\nAnswer:", answer=Decimal(7), closing=" It is 7.") for i in range(3))
    readings = ("closing-nll", "information", "nll", "choice", "exact-match")
    rows = evaluate(base, Benchmark("c", "en", "", items, ""), replace(SMALL, readings=readings, generated=2))
    assert list(rows["metric"]) == ["closing-nll"] * 3 + ["exact-match"] * 2


def test_readings_that_a_benchmark_does_not_allow_are_refused(base):
    item = Item("a", "en", "Why?\nAnswer:", options=(" A", " B"), gold=0)
    with pytest.raises(RequestError, match="allows none of the readings nll"):
        evaluate(base, Benchmark("letters", "en", "", (item,), ""), Evaluation(readings=("nll",)))
    for wrong in (("nll", "accuracy"), ()):
        with pytest.raises(RequestError, match="reading"):
            Evaluation(readings=wrong)
    asked = Evaluation(readings=("exact-match",), generated=0)
    with pytest.raises(RequestError, match="The readings exact-match need generated answers, and generated is 0"):
        evaluate(base, Benchmark("sums", "en", "", (Item("a", "en", "Why?", answer=Decimal(7)),), ""), asked)


SOLVED = {"completion": " She has 12 + 5 = 17.", "answer": Decimal(17), "expressions": ("12 + 5",), "group": "sums"}
PLAIN = {"completion": " She has 17.", "answer": Decimal(17)}
CLOSED = {"answer": Decimal(17), "closing": " It is 17."}
OFFERED = {"options": (" A", " B"), "gold": 0}
PAIRED = {**SOLVED, "twin_prompt": "Why not?\nAnswer:", "twin_completion": " She has 12 - 5 = 7."}


@pytest.mark.parametrize("others", [[], [PLAIN], [SOLVED, PLAIN]], ids=["no others", "others", "calculated others"])
@pytest.mark.parametrize(
    "problems",
    [
        [SOLVED],
        [SOLVED, PLAIN],
        [PAIRED],
        [PAIRED, PAIRED],
        [PAIRED, SOLVED],
        [PLAIN, PLAIN],
        [CLOSED],
        [CLOSED, CLOSED],
        [OFFERED],
        [OFFERED | PLAIN, CLOSED],
        [{}],
    ],
    ids=str,
)
def test_what_is_allowed_is_what_is_read(base, problems, others):
    items, unasked = (
        tuple(Item(f"p-{i}", "en", f"Why {i}?\nAnswer:", **problem) for i, problem in enumerate(some))
        for some in (problems, others)
    )
    benchmark, every = Benchmark("b", "en", "", items, "", unasked), replace(SMALL, readings=tuple(READINGS))
    possible = allowed(benchmark, every.readings)
    if possible:
        assert set(evaluate(base, benchmark, every)["metric"]) == set(possible)
    else:
        with pytest.raises(RequestError, match="allows none"):
            evaluate(base, benchmark, every)
    assert allowed(benchmark, reversed(possible)) == tuple(reversed(possible))


def test_an_answer_s_language_is_read():
    item = Item("a", "sw", "?", answer=Decimal(17), expressions=("12 + 5",))
    right = {"exact-match": 1, "in-language": 1, "expression": 1}
    assert answer_readings(item, "Jumla ya maembe ni 12 + 5 = 17. Jibu ni 17.") == right
    assert answer_readings(item, "There are 12 + 5 = 17 mangoes in all. The answer is 17.") == right | {
        "in-language": 0
    }
    assert answer_readings(item, "17") == {"exact-match": 1, "in-language": 0, "expression": 0}


# --- the whole evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize("language", templates.LANGUAGES)
def test_outcomes_problem_by_problem(base, language):
    rows = asked(base, language, SMALL)
    assert list(rows.columns) == ["problem", "metric", "outcome", "text"]
    assert set(rows["metric"]) == set(SMALL.readings)
    problems = [p.id for p in templates.problems(language, "scored", 5)]
    for metric, part in rows.groupby("metric"):
        generated = metric in ("exact-match", "expression")
        assert list(part["problem"]) == (problems[:4] if generated else problems)
        assert part["text"].notna().all() == generated
        if generated:
            assert part["outcome"].isin([0, 1]).all()
        elif metric in ("nll", "expression-nll"):
            assert (part["outcome"] > 0).all()


def test_the_same_again(base):
    assert asked(base, "sw", SMALL).equals(asked(base, "sw", SMALL))


def test_batch_sizes_hardly_matter(base):
    one, other = (asked(base, "en", replace(SMALL, shots=0, batch_size=b, generation_batch_size=b)) for b in (1, 5))
    assert (one["outcome"] - other["outcome"]).abs().max() < 1e-4
    assert one[["problem", "metric", "text"]].equals(other[["problem", "metric", "text"]])


@pytest.mark.parametrize("right", [True, False])
def test_answers_are_scored(base, monkeypatch, right):
    def answers(engine, prefix, prompts, n, stops):
        solutions = [item.completion for item in SMALL.asked("sw").items]
        return [
            one if right else "I do not know. 10000 + 1 = 10001" for one, _ in zip(solutions, prompts, strict=False)
        ]

    monkeypatch.setattr(generation, "answers", answers)
    rows = asked(base, "sw", SMALL)
    for metric in ("exact-match", "expression"):
        assert list(rows.loc[rows["metric"] == metric, "outcome"]) == [float(right)] * 4


def test_settings_decide_what_is_read(base):
    plain = asked(base, "en", replace(SMALL, shots=1, generated=0))
    for change in ({"shots": 0}, {"exemplar_seed": 1}, {"problem_seed": 1}, {"split": "development"}):
        other = asked(base, "en", replace(SMALL, **{"shots": 1, "generated": 0, **change}))
        assert len(other) == len(plain)
        assert (other["outcome"] - plain["outcome"]).abs().max() > 1e-3, change
    assert set(plain["metric"]) == {"nll", "expression-nll", "information", "expression-information"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"problems": 0, "generated": 0},
        {"problems": 5, "generated": 6},
        {"generated": -1},
        {"shots": -1},
        {"max_new_tokens": 0},
        {"batch_size": 0},
        {"generation_batch_size": 0},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(RequestError, match="=" if "generated" in wrong else next(iter(wrong))):
        Evaluation(**wrong)


def test_what_the_corpus_does_not_have_is_refused(base):
    for language, settings in (("xx", SMALL), ("en", replace(SMALL, split="test")), ("en", replace(SMALL, shots=99))):
        with pytest.raises(RequestError):
            asked(base, language, settings)
