"""Merges from disk to disk beside cp and mergekit, in one run: wall time, peak memory, ratios, goals.

    python tests/benchmarks/merges.py [--folder DIR] [--repeat 3] [--only swap,soup] [--layers 16]

Makes a base and two experts of 0.75 billion parameters in bfloat16 (4.5 GB, removed afterwards unless --folder is given) and
runs each command as a person would. Prints a table; exits with 1 where a goal is missed. Needs the `test` extra.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BIN = Path(sys.executable).parent
SHAPE = {"hidden": 1536, "ffn": 6144, "heads": 12, "kv": 4, "vocabulary": 64000}


def run(command):
    """Return seconds and peak memory (MB) of a command; this process stays small, since a child starts with its size."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{told.decode()}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def measure(command, out, repeat):
    """Return the medians of several runs, each into a fresh place."""
    results = []
    for _ in range(repeat):
        if out:
            shutil.rmtree(out, ignore_errors=True)
        os.sync()  # what the last run left to write does not count against this one
        results.append(run([str(part) for part in command]))
    return median(seconds for seconds, _ in results), max(memory for _, memory in results)


MAKE = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import save_file
folder, layers, shape = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
h, f, kv, v = shape["hidden"], shape["ffn"], shape["hidden"] // shape["heads"] * shape["kv"], shape["vocabulary"]
sizes = {"model.embed_tokens.weight": (v, h), "model.norm.weight": (h,), "lm_head.weight": (v, h)}
for i in range(layers):
    p = f"model.layers.{i}."
    sizes |= {p + f"self_attn.{q}_proj.weight": s for q, s in {"q": (h, h), "k": (kv, h), "v": (kv, h), "o": (h, h)}.items()}
    sizes |= {p + f"mlp.{q}_proj.weight": s for q, s in {"gate": (f, h), "up": (f, h), "down": (h, f)}.items()}
    sizes |= {p + "input_layernorm.weight": (h,), p + "post_attention_layernorm.weight": (h,)}
config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h, "intermediate_size": f,
          "num_hidden_layers": layers, "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv"], "vocab_size": v,
          "torch_dtype": "bfloat16", "tie_word_embeddings": False, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
shards = [[], [], []]
for i, name in enumerate(sizes):
    shards[min(2, i * 3 // len(sizes))].append(name)
print(f"{sum(torch.Size(s).numel() for s in sizes.values()) / 1e9:.2f} billion parameters")
for k, role in enumerate(("base", "math", "language")):
    (folder / role).mkdir(parents=True)
    weight_map = {}
    for n, names in enumerate(shards, 1):
        tensors = {}
        for name in names:
            base = torch.Generator().manual_seed(hash(name) % 2**31)
            noise = torch.Generator().manual_seed(k)
            t = torch.randn(sizes[name], generator=base) * 0.02
            own = name.startswith("model.layers") and k
            tensors[name] = (t + own * 1e-3 * torch.randn(sizes[name], generator=noise)).bfloat16() if own else t.bfloat16()
        file = f"model-{n:05}-of-00003.safetensors"
        save_file(tensors, folder / role / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    (folder / role / "config.json").write_text(json.dumps(config, indent=2))
    index = {"metadata": {"total_size": 2 * sum(torch.Size(s).numel() for s in sizes.values())}, "weight_map": weight_map}
    (folder / role / "model.safetensors.index.json").write_text(json.dumps(index))
"""

TOKENIZER = """
import sys
from xlnb.models.miniatures import _byte_tokenizer
for role in ("base", "math", "language"):
    _byte_tokenizer().save_pretrained(sys.argv[1] + "/" + role)
"""


def mergekit_yaml(folder, name, config):
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the checkpoints here and use them again")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each quick command; the median counts")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--only", default="help,swap,soup,task-arithmetic,ties,transition")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="xlnb-bench-"))
    try:
        if not (folder / "language" / "model.safetensors.index.json").exists():
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            make = [sys.executable, "-c", MAKE, str(folder), str(args.layers), json.dumps(SHAPE)]
            subprocess.run(make, check=True, env=environment)
            subprocess.run([sys.executable, "-c", TOKENIZER, str(folder)], check=True)
        missed = report(folder, args.repeat, args.only.split(","))
    finally:
        if not args.folder:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


def report(folder, repeat, only):
    """Run the chosen comparisons and print a line for each; return how many goals were missed."""
    ours, theirs, copy = folder / "out-xlnb", folder / "out-mergekit", folder / "out-cp"
    base, math, language = (folder / role for role in ("base", "math", "language"))
    xlnb = [BIN / "xlnb"]
    two = ["--expert", math, "--expert", language, "--base", base, "--out", ours]
    swap = [*xlnb, "merge", "layer-swapping", "--math", math, "--language", language, "--base", base, "--out", ours]
    transition = ["--bottom", "3", "--top", "2", "--transition", "1"]
    models = [{"model": str(path), "parameters": {"weight": 0.5}} for path in (math, language)]
    whole = [{"model": str(path), "parameters": {"weight": 1.0, "density": 0.5}} for path in (math, language)]
    task = {"merge_method": "task_arithmetic", "base_model": str(base), "models": whole, "dtype": "bfloat16"}
    configs = {
        "soup": {"merge_method": "linear", "models": models, "dtype": "bfloat16"},
        "task-arithmetic": task,
        "ties": {**task, "merge_method": "ties"},
    }
    commands = {
        "soup": [*xlnb, "merge", "soup", *two],
        "task-arithmetic": [*xlnb, "merge", "task-arithmetic", *two],
        "ties": [*xlnb, "merge", "ties", *two, "--density", "0.5"],
        "transition": [*swap, *transition],
    }
    goals = {"soup": 3, "task-arithmetic": 3, "ties": 10, "transition": 8}
    memory_goal = {"soup": 1024, "task-arithmetic": 1024}
    missed = 0

    def told(what, mine, other, ratio, goal, met):
        nonlocal missed
        missed += not met
        verdict = "met" if met else "MISSED"
        print(
            f"{what:24} {mine[0]:7.2f} s {mine[1]:6.0f} MB  {other:30} {ratio:>14}  goal {goal:22} {verdict}",
            flush=True,
        )

    if "help" in only:
        mine = measure([*xlnb, "merge", "--help"], None, max(5, repeat))
        told("xlnb merge --help", mine, "", "", "0.3 s", mine[0] <= 0.3)
    if "swap" in only:
        start = measure([*xlnb, "merge", "--help"], None, 5)[0]
        mine = measure(swap, ours, repeat)
        cp = measure(["cp", "-r", ours, copy], copy, repeat)
        limit = 1.3 * cp[0] + 0.3
        told(
            "Layer-Swapping",
            mine,
            f"cp -r {cp[0]:.2f} s",
            f"{mine[0] / cp[0]:.2f} x",
            "1.3 x and 0.3 s",
            mine[0] <= limit,
        )
        told("Layer-Swapping, memory", mine, f"(start-up {start:.2f} s)", "", "64 MB", mine[1] <= 64)
        yaml = folder / "swap.yaml"
        yaml.unlink(missing_ok=True)
        export = [*xlnb, "export", "mergekit", "--math", math, "--language", language, "--base", base]
        subprocess.run([*map(str, export), "--out", str(yaml)], check=True, stdout=subprocess.DEVNULL)
        peer = measure([BIN / "mergekit-yaml", yaml, theirs], theirs, repeat)
        compare(told, "Layer-Swapping", mine, peer, 5, None)
        shutil.rmtree(copy, ignore_errors=True)
    for name, command in commands.items():
        if name in only:
            if name == "transition":
                yaml = folder / "transition.yaml"
                yaml.unlink(missing_ok=True)
                export = [
                    *xlnb,
                    "export",
                    "mergekit",
                    "--math",
                    math,
                    "--language",
                    language,
                    "--base",
                    base,
                    *transition,
                ]
                subprocess.run([*map(str, export), "--out", str(yaml)], check=True, stdout=subprocess.DEVNULL)
            else:
                yaml = mergekit_yaml(folder, name, configs[name])
            mine = measure(command, ours, repeat)
            peer = measure([BIN / "mergekit-yaml", yaml, theirs], theirs, 1 if name == "ties" else repeat)
            compare(told, name, mine, peer, goals[name], memory_goal.get(name))
    for path in (ours, theirs):
        shutil.rmtree(path, ignore_errors=True)
    return missed


def compare(told, what, mine, peer, goal, memory):
    ratio = peer[0] / mine[0]
    met = ratio >= goal and (memory is None or mine[1] <= memory)
    wanted = f"{goal} x" + (f", under {memory} MB" if memory else "")
    told(what, mine, f"mergekit {peer[0]:.2f} s {peer[1]:.0f} MB", f"{ratio:.1f} x faster", wanted, met)


if __name__ == "__main__":
    main()
