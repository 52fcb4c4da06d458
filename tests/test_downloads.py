"""Fetching from a hub over HTTP: what is there stays, what breaks goes on, what is refused is told."""

import hashlib
import json
import time

import huggingface_hub
import pytest
from local_hub import COMMIT, LocalHub, pointed_to, serving

from xlnb import artifacts, downloads
from xlnb.downloads import DATASET, MODEL, checksums, fetch, place, snapshot
from xlnb.errors import WorkError

FILES = {"config.json": b"{}", "model-1.safetensors": bytes(range(256)) * 400, "model-2.safetensors": b"b" * 50_000,
         "pytorch_model.bin": b"not wanted"}  # fmt: skip
MODEL_GROUPS = [["config.json"], ["*.safetensors"]]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A local hub with one model, to which the client is pointed; the client's own waits between tries are left out."""
    hub = LocalHub()
    hub.add(MODEL, "some/model", FILES)
    with serving(hub) as address, pointed_to(address, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        pause = time.sleep
        monkeypatch.setattr("time.sleep", lambda seconds: pause(min(seconds, 0.01)))
        yield hub


def get(root, **changes):
    return fetch(**{"repository": "some/model", "kind": MODEL, "groups": MODEL_GROUPS, "root": root} | changes)


def test_a_repository_comes_whole_with_checksums_and_once(hub, tmp_path, capsys):
    folder = get(tmp_path)
    assert folder == tmp_path / "models/some/model"
    wanted = {name: content for name, content in FILES.items() if not name.endswith(".bin")}
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "provenance.json"} == wanted
    spec = artifacts.read_json(folder / "provenance.json")["spec"]
    assert spec["revision"] == COMMIT
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    assert spec["checksums"] == sums
    assert checksums(tmp_path) == {f"models/some/model/{name}": told for name, told in sums.items()}
    hub.asked.clear()
    assert get(tmp_path) == folder
    assert hub.asked == [], "what is whole is not even asked for"
    (folder / "model-2.safetensors").write_bytes(b"c" * 50_000)
    get(tmp_path)
    assert hub.downloads() == ["model-2.safetensors"], "what is damaged comes again, and nothing else"
    assert (folder / "model-2.safetensors").read_bytes() == FILES["model-2.safetensors"]


def test_it_goes_on_where_the_hub_went_down(hub, tmp_path):
    broken = []

    def down(method, path):
        if path.endswith("model-1.safetensors") and method == "GET":
            broken.append(path)
            return 60_000 if len(broken) == 1 else (503, {})
        return None

    hub.trouble = down
    with pytest.raises(
        WorkError, match=r"some/model cannot be fetched: the hub is out of order.*503.*run this again, and it goes"
    ):
        get(tmp_path)
    folder = place(tmp_path, "some/model", MODEL)
    assert not (folder / "provenance.json").exists(), "it does not count as fetched"
    assert not (folder / "model-1.safetensors").exists()
    assert checksums(tmp_path) == {}
    hub.trouble = lambda method, path: None
    there = {file.name for file in folder.iterdir() if file.is_file()}
    hub.asked.clear()
    get(tmp_path)
    assert set(hub.downloads()) == {"config.json", "model-1.safetensors", "model-2.safetensors"} - there
    assert (folder / "model-1.safetensors").read_bytes() == FILES["model-1.safetensors"]
    assert not (folder / ".cache").exists()


def test_a_try_that_broke_off_leaves_nothing_of_an_earlier_commit(hub, tmp_path):
    first = {f"data/train-0000{i}-of-00002.parquet": bytes([i]) * 900 for i in range(2)}
    hub.add(DATASET, "a/set", first)
    hub.trouble = lambda method, path: (503, {}) if path.endswith("train-00001-of-00002.parquet") else None
    asked = {"repository": "a/set", "kind": DATASET, "groups": [["data/train-*.parquet"]]}
    with pytest.raises(WorkError, match="run this again, and it goes on"):
        get(tmp_path, **asked)
    folder = place(tmp_path, "a/set", DATASET)
    assert [file.name for file in folder.glob("data/*.parquet")] == ["train-00000-of-00002.parquet"]
    (folder / "notes.txt").write_text("the reader's own")
    hub.trouble = lambda method, path: None
    hub.commit = COMMIT[::-1]
    hub.add(DATASET, "a/set", {"data/train-00000-of-00001.parquet": b"all" * 600})
    get(tmp_path, **asked)
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert there == {"data/train-00000-of-00001.parquet", "provenance.json", "notes.txt"}


def test_a_line_that_breaks_once_is_taken_up_at_the_byte(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what comes is kept by the chunk
    broken = []

    def once(method, path):
        if path.endswith("model-1.safetensors") and method == "GET" and not broken:
            return broken.append(path) or 60_000
        return None

    hub.trouble = once
    assert (get(tmp_path) / "model-1.safetensors").read_bytes() == FILES["model-1.safetensors"]
    assert hub.ranges == [("model-1.safetensors", 60_000)]


def test_a_hub_that_is_away_leaves_nothing_that_looks_whole(hub, tmp_path, monkeypatch):
    """The client itself returns a folder that is half there, with a warning, where the hub does not answer."""
    place(tmp_path, "some/model", MODEL).mkdir(parents=True)
    (place(tmp_path, "some/model", MODEL) / "config.json").write_bytes(FILES["config.json"])
    with (
        pointed_to("http://127.0.0.1:9", monkeypatch),
        pytest.raises(WorkError, match=r"some/model cannot be fetched: .*Connect.*What came is kept"),
    ):
        get(tmp_path)


def test_asked_too_often(hub, tmp_path):
    hub.trouble = lambda method, path: (429, {"Retry-After": "0"})
    with pytest.raises(WorkError, match=r"asked too often from here \(429\): wait some minutes, or give a token"):
        get(tmp_path)
    tries = []

    def twice(method, path):
        tries.append(path)
        return (429, {"Retry-After": "0"}) if "tree" in path and sum("tree" in one for one in tries) < 3 else None

    hub.trouble = twice
    assert get(tmp_path).is_dir(), "a limit that passes is waited for"


@pytest.mark.parametrize(
    ("status", "headers"), [(401, {"X-Error-Code": "GatedRepo"}), (403, {"X-Error-Code": "GatedRepo"})]
)
@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_a_gated_model_without_a_token(hub, tmp_path, status, headers, where):
    hub.trouble = lambda method, path: (status, headers) if where in path else None
    with pytest.raises(
        WorkError, match=r"gated: accept its terms at https://huggingface.co/some/model, wait.*HF_TOKEN"
    ):
        get(tmp_path)
    if where == "/resolve/":
        with pytest.raises(WorkError, match=r"^it is gated: accept its terms"):
            snapshot("some/model", MODEL, ["*.json"])


def test_what_the_hub_does_not_have(hub, tmp_path):
    with pytest.raises(WorkError, match=r"other/model cannot be fetched: the hub has no such model, or it is private"):
        get(tmp_path, repository="other/model")
    with pytest.raises(
        WorkError, match=r"no file like swahili/\*.parquet or \*.csv: it was laid out anew, and has config.json"
    ):
        get(tmp_path, groups=[["swahili/*.parquet", "*.csv"]])
    assert not place(tmp_path, "some/model", MODEL).exists()


def test_bytes_that_are_not_what_the_hub_says(hub, tmp_path, monkeypatch):
    plain = hub.answer

    def answer(method, path, headers):
        status, told, body = plain(method, path, headers)
        return status, told, body.replace(b"b", b"x") if path.endswith("model-2.safetensors") else body

    monkeypatch.setattr(hub, "answer", answer)
    with pytest.raises(
        WorkError, match=r"some/model came damaged: model-2.safetensors has another checksum than the hub says"
    ):
        get(tmp_path)
    assert not (place(tmp_path, "some/model", MODEL) / "model-2.safetensors").exists()
    monkeypatch.setattr(hub, "answer", plain)
    assert get(tmp_path).is_dir()


def test_more_of_a_repository_is_added(hub, tmp_path):
    hub.add(DATASET, "a/set", {f"{code}/train-0.parquet": code.encode() for code in ("sw", "te")})
    one = get(tmp_path, repository="a/set", kind=DATASET, groups=[["sw/train-*.parquet"]])
    get(tmp_path, repository="a/set", kind=DATASET, groups=[["te/train-*.parquet"]])
    assert hub.downloads() == ["sw/train-0.parquet", "te/train-0.parquet"]
    assert set(artifacts.read_json(one / "provenance.json")["spec"]["checksums"]) == {
        "sw/train-0.parquet",
        "te/train-0.parquet",
    }


def test_a_folder_stands_for_the_hub(hub, tmp_path, monkeypatch):
    folder = get(tmp_path / "all")
    hub.asked.clear()
    monkeypatch.setenv("XLNB_HUB", str(tmp_path / "all"))
    assert snapshot("some/model", MODEL, ["*.safetensors"]) == folder
    with pytest.raises(
        WorkError, match=r"XLNB_HUB is .*all, which has not \*.txt of it: bring it there by `xlnb fetch`"
    ):
        snapshot("some/model", MODEL, ["*.txt"])
    with pytest.raises(WorkError, match="XLNB_HUB"):
        snapshot("some/set", DATASET, ["*.csv"])
    assert hub.asked == []


def test_a_dry_run_downloads_nothing(hub, tmp_path):
    with (
        downloads.nothing_downloaded(),
        pytest.raises(WorkError, match="not on this machine, and a dry run downloads nothing"),
    ):
        snapshot("some/model", MODEL, ["*.json"])
    assert hub.asked == []
    assert json.loads((snapshot("some/model", MODEL, ["*.json"]) / "config.json").read_text()) == {}


def test_a_config_alone_is_no_model_to_a_dry_run(hub):
    """As xlnb plan brings it to the cache."""
    wanted = ["*.json", "*.safetensors"]
    snapshot("some/model", MODEL, ["config.json"])
    with (
        downloads.nothing_downloaded(),
        pytest.raises(WorkError, match="not on this machine, and a dry run downloads nothing"),
    ):
        snapshot("some/model", MODEL, wanted)
    whole = snapshot("some/model", MODEL, wanted)
    with downloads.nothing_downloaded():
        assert snapshot("some/model", MODEL, wanted) == whole


def test_a_full_disk(hub, small_disk):
    with pytest.raises(
        WorkError, match=r"The disk is too full: .* is to get 0.00 GB.*Free some space and run this again"
    ):
        get(small_disk)
    assert hub.downloads() == [], "known before a byte is fetched"


@pytest.mark.filterwarnings("ignore:Not enough free disk space")
def test_a_disk_that_fills_up_meanwhile(hub, small_disk, monkeypatch):
    monkeypatch.setattr(downloads, "_check_room", lambda folder, wanted: folder.mkdir(parents=True, exist_ok=True))
    with pytest.raises(
        WorkError, match=r"some/model cannot be fetched: the disk is full: free some space\. What came is kept"
    ):
        get(small_disk)
    assert not list(small_disk.rglob("provenance.json"))
