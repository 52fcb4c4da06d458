"""What tests of merges from disk to disk share: a base, and experts that differ from it by a little noise."""

import json
import shutil
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from xlnb.models.miniatures import _byte_tokenizer, miniature
from xlnb.weights.sites import locate_all

IDS = torch.arange(3, 60, 3).view(1, -1)
DEPTH = 8


@dataclass(frozen=True)
class Trio:
    """Folders of a base and two full experts of it."""

    base: Path
    math: Path
    language: Path

    @property
    def experts(self):
        return [self.math, self.language]


def locate(name):
    """The site of a single parameter of a known decoder."""
    return locate_all([name]).of[name]


def model_of(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def logits(model):
    """The logits of a few tokens, of a model or of a checkpoint folder in float32."""
    model = model if isinstance(model, torch.nn.Module) else model_of(model)
    with torch.no_grad():
        return model(IDS).logits


def copy_tokenizer(source, target):
    for file in Path(source).glob("tok*"):
        shutil.copy(file, target)


def expert(base, folder, seed, *, shards="5GB", dtype=torch.float32, outside=True, scale=0.005):
    """Save base + noise; ``outside`` says whether the embeddings, final norm and head change, too."""
    model = model_of(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if outside or ".layers." in name:
                parameter += scale * torch.randn(parameter.shape, generator=generator)
    model.to(dtype).save_pretrained(folder, max_shard_size=shards)
    copy_tokenizer(base, folder)
    return folder


def trio(root, family, dtype=torch.float32, *, outside=True, scale=0.005):
    """Make a base, a math expert in one file, and a language expert in several."""
    base = miniature(root / "base", family)
    if dtype != torch.float32:
        model_of(base).to(dtype).save_pretrained(base)
    math = expert(base, root / "math", 1, dtype=dtype, outside=outside, scale=scale)
    language = expert(base, root / "language", 2, dtype=dtype, outside=outside, scale=scale, shards="60KB")
    return Trio(base, math, language)


def trio_finder(root, dtype):
    """A function that makes trios below a folder, or finds them made; ``dtype`` is what they have if nothing is said."""
    made = {}

    def find(family="llama", dtype=dtype, **settings):
        key = (family, dtype, *settings.items())
        if key not in made:
            made[key] = trio(root / str(len(made)), family, dtype, **settings)
        return made[key]

    return find


def lora(base, folder, seed=0, *, base_name="owner/base", dtype=torch.float32, **settings):
    """Save an adapter of random factors for ``base`` with PEFT, and return its folder."""
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"], **settings}
    torch.manual_seed(seed)
    model = model_of(base)
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings))
    peft.peft_config["default"].base_model_name_or_path = base_name
    peft.to(dtype).save_pretrained(folder, save_embedding_layers=False)  # else it asks the hub for the base
    return folder


DECODERS = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen3Moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "Qwen2Moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "GPT2": {"n_embd": 32, "n_layer": 4, "n_head": 4},
    "Bloom": {"n_layer": 4, "n_head": 4},
    "Falcon": {},
    "Phi": {},
}


def decoder(folder, kind):
    """Save a random decoder of another kind than the miniatures, of 4 layers, and return its folder."""
    tokenizer = _byte_tokenizer()
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(shape | DECODERS[kind]))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def wrapper(folder, seed=0, depth=8, **text):
    """Save a random Gemma 3 that sees, whose language model has the shape of a miniature, and return its folder."""
    tokenizer = _byte_tokenizer()
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": depth, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "query_pre_attn_scalar": 8, "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    torch.manual_seed(seed)
    config = Gemma3Config(text_config=shape | text, vision_config=vision, mm_tokens_per_image=4, image_token_index=5)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tensors(folder):
    """All tensors of a checkpoint or adapter folder, read by the safetensors library."""
    return {name: t for file in sorted(Path(folder).glob("*.safetensors")) for name, t in load_file(file).items()}


def digests(*folders):
    """The digest of every file in these folders."""
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*")) if file.is_file()]
    return {str(file): sha256(file.read_bytes()).hexdigest() for file in files}


def same(a, b):
    """Whether two tables of tensors are equal to the last bit."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and torch.equal(raw(a[name]), raw(b[name]))
        for name in a
    )


def raw(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8)


@cache
def row(name):
    """Whether a parameter goes with the attention or the FFN of its layer, and which layer; None outside the layers."""
    site = locate(name)
    if site.layer is None:
        return None
    return ("ffn" if ".mlp." in name or "_feedforward_" in name else "attention"), site.layer


def math_share(name, partition):
    """The share of a parameter that math owns, None where neither side does."""
    where = row(name)
    return None if where is None else getattr(partition, where[0])[where[1]]


def leftovers(folder):
    """What an unfinished merge would leave in a folder."""
    return [path.name for path in Path(folder).iterdir() if ".partial-" in path.name]


def reconfigured(folder, name="config.json", /, **changes):
    """Change settings of a config.json or another; ... takes one out."""
    path = Path(folder) / name
    config = (json.loads(path.read_text()) if path.is_file() else {}) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


def rewritten(folder, change):
    """Change the tensors of a checkpoint, file by file."""
    for path in Path(folder).glob("*.safetensors"):
        found = load_file(path)
        change(found)
        save_file(found, path, metadata={"format": "pt"})
