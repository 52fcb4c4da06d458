"""On one card: how fast the package's own training loop is, what memory it takes, and whether numbers agree with the CPU's.

    python tests/benchmarks/gpu.py --out FOLDER                     # pace and memory of random-weight models of about 1 B
    python tests/benchmarks/gpu.py --out FOLDER --tiny --device cpu --parts memory,pace        # the same, tried on a CPU
    python tests/benchmarks/gpu.py --out FOLDER --device cpu --parts reference --pocket DIR    # writes FOLDER/reference.json
    python tests/benchmarks/gpu.py --out FOLDER --parts pocket --pocket DIR --reference FILE.json

Needs no network. Rows have as many tokens as is said, half of them a completion; all have one length, so nothing is padding.

FLOPs of a token in a row of T tokens, with N parameters in the matrices of the layers, H in the head's, of which the share c of
positions has logits, L layers with attention of width d = heads x head size, and a LoRA of R parameters:

    forward            2 N + 2 c H + 4 L d T                                  (4 L d T: queries by keys, weights by values)
    backward, full     4 N + 2 c H + 8 L d T                                  (the head is frozen: gradients of its input alone)
    backward, lora     2 N + 2 c H + 8 L d T, and 6 R for both passes of the adapters

"used" is these by the seconds by the card's dense bf16 peak. The convention counts the whole square of attention; "causal" is
stricter and counts half of it. Nothing that is computed twice (checkpointing) counts twice.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

GOAL = 0.40  # of the card's dense bf16 peak
WARM, STEPS = 3, 10
# Dense bf16 peaks with float32 sums in TFLOP/s, from the makers' data sheets; the first name found in the card's counts.
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165,
         "3090": 71, "A10": 125}  # fmt: skip
# hidden, FFN, layers, heads, kv heads, vocabulary: Llama 3.2 1B as published, and Qwen2.5 1.5B's widths with 20 of 28 layers
SHAPES = {
    "llama": ("LlamaConfig", 2048, 8192, 16, 32, 8, 128256),
    "qwen2": ("Qwen2Config", 1536, 8960, 20, 12, 2, 151936),
}
TINY = {name: (shape[0], 64, 128, 2, 4, 2, 512) for name, shape in SHAPES.items()}


@dataclass
class Card:
    """What the script runs on."""

    device: str
    tiny: bool

    @property
    def name(self):
        import torch

        return torch.cuda.get_device_name() if self.device != "cpu" else f"CPU, {platform.machine()}"

    @property
    def peak(self):
        return next((1e12 * peak for key, peak in PEAKS.items() if key in self.name), None)

    def wait(self):
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize()

    def clear(self):
        import gc

        import torch

        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self, peak=True):
        """Bytes at the peak since it was cleared, or now; the process's where there is no card."""
        import psutil
        import torch

        if self.device == "cpu":
            return psutil.Process().memory_info().rss
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()


def random_base(card, family):
    """A base of random weights, made where it is used; its folder is empty, since nothing of it is saved."""
    import torch
    import transformers

    from xlnb.models.base import Base
    from xlnb.models.miniatures import _byte_tokenizer

    kind, hidden, ffn, layers, heads, kv, vocabulary = (TINY if card.tiny else SHAPES)[family]
    config = getattr(transformers, kind)(
        hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, vocab_size=vocabulary, tie_word_embeddings=True, max_position_embeddings=8192,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(card.device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    return Base(Path(), model, _byte_tokenizer(), None, "bfloat16")


def random_rows(vocabulary, length, n):
    """Rows of one length, the latter half of each a completion."""
    from random import Random

    draw = Random(0)
    ids = [[draw.randrange(3, vocabulary) for _ in range(length)] for _ in range(n)]
    return [(row[: length // 2], row[length // 2 :]) for row in ids]


def flops(model, lora, length):
    """FLOPs a token by the convention, and with half the square of attention; and the counts that they come from."""
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n)
    share = (length // 2 + 1) / length
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    square = 12 * config.num_hidden_layers * width * length
    rest = (4 * matrices + 6 * lora if lora else 6 * matrices) + 4 * share * head
    return {"convention": rest + square, "causal": rest + square / 2, "matrices": matrices, "head": head, "lora": lora}


def trained(card, trainee, training, rows):
    """Run the package's loop; the clock after each step, losses, bytes before and at the peak, and the trainable parameters."""
    import torch

    from xlnb.training import sft

    ends, plain = [], torch.optim.AdamW.step

    def step(self, *arguments, **named):
        found = plain(self, *arguments, **named)
        card.wait()
        ends.append(time.perf_counter())
        return found

    card.clear()
    settled = {"model": card.memory(peak=False), "trainable": sum(p.numel() for p in trainee.weights.values())}
    lane = sft.Lane(rows, training.steps, dict.fromkeys(trainee.weights, 1.0))
    torch.optim.AdamW.step = step
    try:
        with tempfile.TemporaryDirectory() as folder:
            history = sft.fit(trainee, [lane], training, 0, Path(folder) / "checkpoint.pt", {})
    finally:
        torch.optim.AdamW.step = plain
        trainee.model.zero_grad(set_to_none=True)
    return ends, [told["loss"] for told in history], settled | {"peak": card.memory()}


def options(compiled=False, **more):
    """The package's settings of the paper's LoRA, without files."""
    from xlnb.training.sft import Training

    return replace(Training(rank=64, checkpoint_every=10**9, max_length=10**6, compiled=compiled), **more)


def pace(card, asked):
    """Rows of tokens a second and the share of the peak: each family and paradigm, plain and with its layers compiled."""
    import torch

    from xlnb.training.paradigms import PARADIGMS

    length, batch, micro = (32, 4, 2) if card.tiny else (asked.length, asked.batch, asked.micro)
    for family in asked.families.split(","):
        base = random_base(card, family)
        data = random_rows(base.model.config.vocab_size, length, batch)
        for compiled in (False, True) if asked.compiled else (False,):
            for paradigm in ("full", "lora"):
                which = {"part": "pace", "family": family, "paradigm": paradigm, "compiled": compiled}
                torch._dynamo.reset()
                training = options(compiled, steps=WARM + STEPS, batch_size=batch, micro_batch=micro)
                began = time.perf_counter()
                try:
                    with PARADIGMS[paradigm].attached(base, training, 0, None) as trainee:
                        ends, losses, settled = trained(card, trainee, training, data)
                except Exception as error:  # one way that fails leaves the others to be measured
                    yield which | {"error": repr(error)[:600]}
                    continue
                seconds = (ends[-1] - ends[WARM - 1]) / STEPS
                lora = settled["trainable"] if paradigm == "lora" else 0
                counted = flops(base.model, lora, length)
                tokens = batch * length / seconds
                yield which | {
                    "dtype": "bf16 autocast", "attention": base.model.config._attn_implementation,
                    "length": length, "batch": batch, "micro": micro,
                    "parameters": base.model.num_parameters(), "tokens/s": tokens, "seconds a step": seconds,
                    "warm-up": ends[WARM - 1] - began, "TFLOP/s": tokens * counted["convention"] / 1e12,
                    "used": card.peak and tokens * counted["convention"] / card.peak,
                    "used, causal": card.peak and tokens * counted["causal"] / card.peak,
                    "flops": counted, "losses": losses, **settled,
                }  # fmt: skip
        del base


def memory(card, asked):
    """Rows of measured peaks: micro-batches, lengths, both paradigms, with and without checkpointing; what fails is a row too."""
    from itertools import product as every

    from xlnb.training.paradigms import PARADIGMS

    lengths = (16, 32) if card.tiny else (512, 1024)
    for family in asked.families.split(","):
        base = random_base(card, family)
        for paradigm in ("lora", "full"):
            with PARADIGMS[paradigm].attached(base, options(), 0, None) as trainee:
                for checkpointing, length, micro in every((False, True), lengths, (1, 2, 4)):
                    training = options(steps=2, batch_size=micro, micro_batch=micro, checkpointing=checkpointing)
                    row = {"part": "memory", "family": family, "shape": (TINY if card.tiny else SHAPES)[family][1:],
                           "paradigm": paradigm, "checkpointing": checkpointing, "length": length, "completion": length // 2,
                           "micro": micro}  # fmt: skip
                    try:
                        data = random_rows(base.model.config.vocab_size, length, micro)
                        yield row | trained(card, trainee, training, data)[2]
                    except Exception as error:
                        yield row | {"error": repr(error)[:600]}
        del base, trainee


def product(card, asked):
    """The pace of a plain product of two bf16 matrices, the card's own ceiling on this machine."""
    import torch

    size, rounds = (256, 2) if card.tiny else (8192, 20)
    a, b = (torch.randn(size, size, device=card.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    card.wait()
    began = time.perf_counter()
    for _ in range(rounds):
        a @ b
    card.wait()
    yield {"part": "product", "size": size, "TFLOP/s": rounds * 2 * size**3 / (time.perf_counter() - began) / 1e12}


def outcomes(asked, device, dtype):
    """Losses of four steps of a LoRA of the pocket model, and the likelihoods of eight problems, by the package's own ways."""
    from xlnb import artifacts
    from xlnb.corpora import templates
    from xlnb.evaluation.asking import Evaluation
    from xlnb.evaluation.scoring import evaluate
    from xlnb.models.base import load_base
    from xlnb.training.experts import Lesson
    from xlnb.training.sft import Training, train_expert

    examples = templates.math_examples("en", "train", 32)
    settings = Evaluation(problems=8, generated=0, readings=("nll",))
    benchmark = settings.asked("sw")
    texts = [benchmark.prefix, *(e.prompt + e.completion for e in examples)]
    texts += [item.prompt + item.completion for item in (*benchmark.items, *benchmark.others)]
    base = load_base(asked.pocket, texts, device, dtype)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(steps=4)
        expert = train_expert(base, [Lesson(tuple(examples), 4)], training, 0, Path(folder) / "expert", {})
        losses = [told["loss"] for told in artifacts.read_json(expert / "history.json")]
    return {
        "losses": losses,
        "nll": evaluate(base, benchmark, settings)["outcome"].tolist(),
        "vocabulary": len(base.kept),
    }


def reference(card, asked):
    """The CPU's numbers in float32, to be compared with."""
    yield {"part": "reference", **outcomes(asked, "cpu", "float32")}


def pocket(card, asked):
    """The card's numbers beside the reference's: float32 must agree within 1e-3, bf16 is told."""
    stored = json.loads(Path(asked.reference).read_text(encoding="utf-8"))
    for dtype in ("float32", "bfloat16"):
        found = outcomes(asked, card.device, dtype)
        apart = {
            name: max(abs(a - b) for a, b in zip(found[name], stored[name], strict=True)) for name in ("losses", "nll")
        }
        agree = max(apart.values()) < 1e-3 if dtype == "float32" else None
        told = {"losses apart": apart["losses"], "nll apart": apart["nll"], "agree": agree}
        yield {"part": "pocket", "dtype": dtype, **told, **found}


PARTS = {part.__name__: part for part in (product, pace, memory, reference, pocket)}
COLUMNS = {
    "product": ("size", "TFLOP/s"),
    "pace": ("family", "paradigm", "compiled", "length", "batch", "micro", "parameters", "tokens/s", "TFLOP/s", "used",
             "used, causal", "seconds a step", "warm-up", "peak"),
    "memory": ("family", "paradigm", "checkpointing", "length", "micro", "trainable", "model", "peak"),
    "reference": ("vocabulary",),
    "pocket": ("dtype", "losses apart", "nll apart", "agree"),
}  # fmt: skip


def shown(column, value):
    """A value as the table has it: shares in percent, bytes in GiB."""
    if column in ("peak", "model") and value is not None:
        return f"{value / 2**30:.2f} GiB"
    if column.startswith("used") and value is not None:
        return f"{100 * value:.1f} %"
    if isinstance(value, float):
        return f"{value:.2e}" if abs(value) < 1e-2 else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool) and column == "parameters"
        else str(value)
    )


def table(rows):
    """All rows as text, a table a part."""
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        cells = [list(COLUMNS[part])]
        cells += [[shown(c, row.get(c)) for c in COLUMNS[part]] for row in mine if "error" not in row]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines += ["", part, *("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)]
        lines += [f"failed: {row}" for row in mine if "error" in row]
    return "\n".join(lines)


def write(out, card, rows):
    """Write the table and the JSON anew: whatever ends the script leaves what was found."""
    import peft
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    told = {
        "card": card.name,
        "dense bf16 peak": card.peak,
        "python": platform.python_version(),
        **versions,
        "rows": rows,
    }
    head = f"{card.name}; dense bf16 peak {card.peak and card.peak / 1e12} TFLOP/s; {versions}"
    (out / "gpu.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (out / "gpu.txt").write_text(f"{head}\n{table(rows)}\n", encoding="utf-8")
    for row in rows:
        if row["part"] == "reference":
            (out / "reference.json").write_text(json.dumps(row), encoding="utf-8")
    return f"{head}\n{table(rows)}"


def main():
    """Measure the parts asked for, write and print them, and say whether the goal is met."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.txt and gpu.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", default="product,memory,pace", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--families", default="llama", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--plain", dest="compiled", action="store_false", help="do not try compiled layers")
    parser.add_argument("--seconds", type=float, default=120, help="no row is begun after so many")
    parser.add_argument("--pocket", type=Path)
    parser.add_argument("--reference", type=Path)
    asked = parser.parse_args()
    card, rows, began = Card(asked.device, asked.tiny), [], time.perf_counter()
    asked.out.mkdir(parents=True, exist_ok=True)
    for part in asked.parts.split(","):
        for row in PARTS[part](card, asked):
            rows.append(row)
            print(f"{time.perf_counter() - began:6.1f} s", {c: shown(c, row.get(c)) for c in COLUMNS[part]}, row.get("error", ""),
                  file=sys.stderr, flush=True)  # fmt: skip
            write(asked.out, card, rows)
            if time.perf_counter() - began > asked.seconds:
                print(f"Out of time in {part}.", file=sys.stderr)
                break
    print(write(asked.out, card, rows))
    best = max((row["used"] for row in rows if row.get("used")), default=None)
    if best is not None:
        print(f"best: {100 * best:.1f} % of the peak (goal: {100 * GOAL:.0f})")
    failed = any("error" in row or row.get("agree") is False for row in rows)
    return 1 if failed or (best is not None and best < GOAL) else 0


if __name__ == "__main__":
    sys.exit(main())
