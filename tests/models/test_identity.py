"""What a checkpoint is called without loading it: recorded checksums, remembered ones, and none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xlnb import artifacts
from xlnb.errors import RequestError
from xlnb.models.base import identity, load_base
from xlnb.models.miniatures import MINIATURES

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def checkpoint(miniature, tmp_path):
    """A miniature's copy that a test may change."""
    return shutil.copytree(miniature("llama"), tmp_path / "checkpoint")


@pytest.fixture
def read_files(monkeypatch):
    """The names of the files whose checksum was computed since."""
    names = []
    plain = artifacts.file_digest
    monkeypatch.setattr(artifacts, "file_digest", lambda path: (names.append(Path(path).name), plain(path))[1])
    return names


def computed(folder):
    return artifacts.digest([[artifacts.file_digest(file) for file in sorted(folder.glob("*.safetensors"))], None])[:16]


def change_a_byte(file):
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)


def record(folder, weights_sha256):
    """Write a provenance as a conversion of the pocket weights does."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    (folder / "provenance.json").write_text(json.dumps({"spec": {"weights_sha256": weights_sha256, "sizes": sizes}}))


@pytest.mark.parametrize("family", MINIATURES)
def test_it_is_the_loaded_base_s(miniature, family):
    base = load_base(miniature(family))
    assert identity(miniature(family)) == (base.fingerprint, base.depth) == (computed(base.folder), 8)


def test_a_checksum_is_computed_once(checkpoint, read_files):
    first = identity(checkpoint)
    assert read_files == ["model.safetensors"]
    assert identity(str(checkpoint)) == first
    assert load_base(checkpoint).fingerprint == first.fingerprint
    assert read_files == ["model.safetensors"]


def test_another_file_has_another_identity(checkpoint):
    first = identity(checkpoint).fingerprint
    change_a_byte(checkpoint / "model.safetensors")  # of the same size
    assert identity(checkpoint).fingerprint == computed(checkpoint) != first
    (checkpoint / "more.safetensors").write_bytes(b"more")
    assert identity(checkpoint).fingerprint == computed(checkpoint)


def test_a_recorded_checksum_is_taken(checkpoint, read_files):
    record(checkpoint, "ab" * 32)
    assert identity(checkpoint).fingerprint == artifacts.digest([["ab" * 32], None])[:16]
    assert read_files == []


@pytest.mark.parametrize("damage", ["another size", "a later change", "no record", "another record", "half a record"])
def test_a_record_that_does_not_fit_is_not_believed(checkpoint, damage):
    record(checkpoint, "ab" * 32)
    weights, made = checkpoint / "model.safetensors", checkpoint / "provenance.json"
    if damage == "another size":
        made.write_text(made.read_text().replace(f": {weights.stat().st_size}", ": 7"))
    elif damage == "a later change":
        change_a_byte(weights)
        os.utime(weights, ns=(0, made.stat().st_mtime_ns + 1))
    elif damage == "no record":
        made.unlink()
    else:
        made.write_text('{"spec": {"method": "soup"}}' if damage == "another record" else '{"spec": ')
    assert identity(checkpoint).fingerprint == computed(checkpoint)


def test_the_hub_s_cache_names_its_files_by_checksum(checkpoint, tmp_path, read_files):
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    expected = computed(checkpoint)
    checksum = artifacts.file_digest(checkpoint / "model.safetensors")
    for name, blob in (("model.safetensors", checksum), ("config.json", "0" * 40)):
        shutil.copy(checkpoint / name, blobs / blob)
        (snapshot / name).symlink_to(blobs / blob)
    read_files.clear()
    assert identity(snapshot) == (expected, 8)
    assert read_files == []


def test_a_killed_computation_leaves_no_half_checksum(checkpoint, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "file_digest", killed)
        identity(checkpoint)
    assert identity(checkpoint).fingerprint == computed(checkpoint)


def test_a_cache_that_cannot_be_written_costs_time_alone(checkpoint, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XLNB_CACHE", str(tmp_path / "a file"))
    assert identity(checkpoint).fingerprint == computed(checkpoint)


def test_the_depth_of_a_model_with_pictures(checkpoint):
    (checkpoint / "config.json").write_text('{"vision_config": {}, "text_config": {"num_hidden_layers": 34}}')
    assert identity(checkpoint).depth == 34


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("config.json", r"no checkpoint: it has no config\.json"),
        ("model.safetensors", r"no weights: it has neither model\.safetensors nor"),
        (None, r"no decoder: its config\.json has no num_hidden_layers"),
    ],
)
def test_a_folder_without_a_checkpoint_is_refused(checkpoint, gone, told):
    if gone:
        (checkpoint / gone).unlink()
    else:
        (checkpoint / "config.json").write_text('{"text_config": null}')
    with pytest.raises(RequestError, match=f"holds {told}"):
        identity(checkpoint)


def test_nothing_heavy_is_imported(checkpoint):
    script = f"""
import sys, time
from xlnb.models.base import identity
identity({str(checkpoint)!r})
began = time.process_time()
print(identity({str(checkpoint)!r}).depth, time.process_time() - began)
print([name for name in ("torch", "transformers", "numpy", "pandas") if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")
    depth, seconds = told[0].split()
    assert (depth, told[1]) == ("8", "[]")
    assert float(seconds) < 0.05
