"""Evaluation beside lm-evaluation-harness, in one run: the same model, prompts and problems; seconds, ratios, equal scores.

    python tests/benchmarks/evaluations.py [--problems 250] [--language sw] [--batch 8] [--only likelihood,generation,templates]
    python tests/benchmarks/evaluations.py --mgsm FOLDER --reference FILE --problems 16 --batch 2

Needs the pocket model and the `book` extra. Prints a table, the problems on which the two read an answer differently, and
exits with 1 where a goal is missed. Each side gets its model loaded beforehand; only the evaluation is timed. MGSM's prompts
of two worked examples are longer than the window of Gemma's local layers; its words need the whole vocabulary.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from xlnb.corpora import templates
from xlnb.errors import RequestError
from xlnb.evaluation import harness
from xlnb.evaluation.answers import extract_number
from xlnb.evaluation.asking import Evaluation
from xlnb.evaluation.scoring import evaluate
from xlnb.models import base as base_module
from xlnb.models import pocket
from xlnb.models.engine import Engine
from xlnb.models.generation import answers
from xlnb.studies.vocabulary import vocabulary_texts

GOALS = {"likelihood": 3.0, "generation": 2.0}
TEMPLATES, SECONDS = 100_000, 5.0
STOPS = ("\n",)  # of both sides


def asked(language, problems, mgsm=None, reference=None):
    settings = Evaluation(problems=problems, generated=problems, readings=("nll", "expression-nll"))
    if mgsm:
        settings = replace(settings, benchmark="mgsm", path=mgsm, reference=reference)
    return settings, settings.asked(language)


# --- lm-evaluation-harness -------------------------------------------------------------------------------


def tasks(benchmark, folder, max_new_tokens):
    """Its task configurations over the very texts that we score, from a local file."""
    import json

    file = Path(folder) / "problems.jsonl"
    with open(file, "w") as lines:
        for item in benchmark.items:
            row = {"id": item.id, "text": benchmark.prefix + item.prompt, "solution": item.completion,
                   "answer": str(item.answer)}  # fmt: skip
            lines.write(json.dumps(row) + "\n")
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "doc_to_text": "{{text}}",
        "target_delimiter": "",
        "num_fewshot": 0,
    }
    likelihood = common | {
        "task": "likelihood",
        "output_type": "loglikelihood",
        "doc_to_target": "{{solution}}",
        "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    }
    generation = common | {
        "task": "generation",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": list(STOPS), "do_sample": False, "max_gen_toks": max_new_tokens},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
                         "ignore_case": True, "ignore_punctuation": True}],
        "filter_list": [{"name": "none", "filter": [{"function": "take_first"}]}],
    }  # fmt: skip
    return {"likelihood": likelihood, "generation": generation}


def theirs(checkpoint, task, batch_size):
    """Seconds and its samples in the order of the problems: log-likelihoods, or answers."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=batch_size)
    started = time.perf_counter()
    found = simple_evaluate(model, tasks=[task], log_samples=True, bootstrap_iters=0)
    seconds = time.perf_counter() - started
    samples = sorted(found["samples"][task["task"]], key=lambda sample: sample["doc_id"])
    return seconds, [sample["resps"][0][0] for sample in samples]


# --- ours ------------------------------------------------------------------------------------------------


def our_likelihoods(base, benchmark, settings):
    started = time.perf_counter()
    rows = evaluate(base, benchmark, settings)
    seconds = time.perf_counter() - started
    nll = rows[rows["metric"] == "nll"]["outcome"]
    tokens = [len(base.encode(item.completion)) for item in benchmark.items]
    return seconds, [-value * n for value, n in zip(nll, tokens, strict=True)]


def our_answers(base, benchmark, settings):
    started = time.perf_counter()
    engine = Engine(base, generation_batch_size=settings.generation_batch_size)
    prompts = [base.encode(item.prompt) for item in benchmark.items]
    written = answers(engine, engine.prefix(benchmark.prefix), prompts, settings.max_new_tokens, STOPS)
    return time.perf_counter() - started, written


# --- side by side ----------------------------------------------------------------------------------------


def line(what, ours, other, goal=None):
    ratio = other / ours
    verdict = "" if goal is None else f"   goal {goal:g} x: {'met' if ratio >= goal else 'MISSED'}"
    print(f"{what:58s} ours {ours:7.1f} s   harness {other:7.1f} s   {ratio:5.1f} x{verdict}", flush=True)
    return goal is None or ratio >= goal


def compare(checkpoint, language, settings, benchmark, batch_size, only):
    bases = {"whole vocabulary": lambda: base_module.load_base(checkpoint)}
    if settings.benchmark == "templates":
        kept = vocabulary_texts(tuple(dict.fromkeys(("en", language))))
        bases["trimmed vocabulary (the profile's)"] = lambda: base_module.load_base(checkpoint, kept)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        configured = tasks(benchmark, folder, settings.max_new_tokens)
        for what in [name for name in ("likelihood", "generation") if name in only]:
            other_seconds, other = theirs(checkpoint, configured[what], batch_size)
            for vocabulary, load in bases.items():
                base = load()
                measure = our_likelihoods if what == "likelihood" else our_answers
                seconds, found = measure(base, benchmark, settings)
                good &= line(
                    f"{what}, {len(benchmark.items)} problems, {language}, {vocabulary}",
                    seconds,
                    other_seconds,
                    GOALS[what],
                )
                if what == "likelihood":
                    same_likelihoods(found, other, vocabulary)
                else:
                    same_answers(found, other, benchmark, language, base)
    return good


def same_likelihoods(ours, other, vocabulary):
    difference = max(abs(a - b[0]) for a, b in zip(ours, other, strict=True))
    print(f"  log-likelihoods: largest difference {difference:.2g} nats of a solution ({vocabulary})", flush=True)


def needs_dropped(base, text):
    """Whether a text has a token that this base's vocabulary was trimmed of."""
    try:
        base.encode(text)
    except RequestError:
        return True
    return False


def same_answers(ours, other, benchmark, language, base):
    other = [text.strip() for text in other]
    different = [(a, b) for a, b in zip(ours, other, strict=True) if a != b]
    dropped = sum(needs_dropped(base, text) for _, text in different)
    print(f"  answers: {len(ours) - len(different)} of {len(ours)} equal to the letter")
    if different:
        print(f"    {dropped} of the others hold a token in the harness's answer that the trimmed vocabulary has not")
    ours_right = [
        extract_number(text, language) == item.answer for text, item in zip(ours, benchmark.items, strict=True)
    ]
    right = [
        harness.harness_counts_right(text, item.answer, language)
        for text, item in zip(ours, benchmark.items, strict=True)
    ]
    print(f"  right on our answers: ours {sum(ours_right)}, "
          + ", ".join(f"harness {name} {sum(r[name] for r in right)}" for name in right[0]))  # fmt: skip
    for name in right[0]:
        for text, item, mine, its in zip(ours, benchmark.items, ours_right, right, strict=True):
            if mine != its[name]:
                read = harness.harness_reads(text, language)[name]
                print(
                    f"    {name} reads {read!r}, we {extract_number(text, language)}, gold {item.answer}: {text[-70:]!r}"
                )


def generated_templates():
    """100,000 problems: the training split in balanced rotation, then other seeds of the others."""
    good = True
    for language in templates.LANGUAGES:
        templates.problems(language, "train", 1)  # the language file is read once a process
        started = time.perf_counter()
        found = templates.problems(language, "train", TEMPLATES)
        seconds = time.perf_counter() - started
        good &= seconds <= SECONDS
        print(f"{len(found):,} template problems in {language}: {seconds:.1f} s   goal {SECONDS:g} s: "
              f"{'met' if seconds <= SECONDS else 'MISSED'}", flush=True)  # fmt: skip
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=250)
    parser.add_argument("--language", default="sw", choices=templates.LANGUAGES)
    parser.add_argument("--batch", type=int, default=8, help="of the harness; larger ones take more than 24 GB")
    parser.add_argument("--only", default="likelihood,generation,templates")
    parser.add_argument("--mgsm", help="folder of MGSM, asked instead of the templates")
    parser.add_argument("--reference", help="GSM8K's test file, whose solutions of MGSM's problems are scored")
    options = parser.parse_args()
    only = options.only.split(",")
    good = True
    if "templates" in only and not options.mgsm:
        good &= generated_templates()
    if {"likelihood", "generation"} & set(only):
        print(f"lm-evaluation-harness {harness.harness_version()}, float32, batch {options.batch}", flush=True)
        settings, benchmark = asked(options.language, options.problems, options.mgsm, options.reference)
        good &= compare(pocket.pocket_checkpoint(), options.language, settings, benchmark, options.batch, only)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
