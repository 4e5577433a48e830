"""The cache: one download for all, nothing in it that is not checked, bundles of several files."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

import mmvideoiq.zoo.host  # noqa: F401  MMEngine reads zoo://
from mmvideoiq import zoo
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.zoo import index, store
from tests.zoo.server import DATA, entry, files, sha256


def test_download_once(weights, server):
    assert store.state(index.find("toy")) == "online"
    assert zoo.download("toy") == weights and weights.read_bytes() == DATA
    assert zoo.download("toy") == weights and server.asked == [("/zoo/weights/toy.pth", None)]
    assert store.state(index.find("toy")) == "cached" and files(weights.parents[1]) == ["toy.pth"]


def test_full_addresses_need_no_base(shelf, server, monkeypatch):
    monkeypatch.delenv("MMVIDEOIQ_ZOO")
    server.files["/else%20where/toy.pth?v=2"] = DATA
    whole = entry("toy", f"{server.address}/else%20where/toy.pth?v=2")
    whole["Metadata"]["SHA256"] = sha256(DATA).upper()
    shelf.publish(whole, entry("below", "weights/toy.pth", b"other"))
    assert zoo.download("toy").name == "toy.pth"
    with pytest.raises(ValueError, match=r"below lies at weights/toy\.pth below MMVIDEOIQ_ZOO, which is ''"):
        zoo.download("below")


@pytest.mark.parametrize("served", [DATA[:-1], DATA[:-1] + b"!", b""], ids=["truncated", "changed", "empty"])
def test_another_file_is_removed_and_never_used(weights, server, served, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    server.files["/zoo/weights/toy.pth"] = served
    for use in (zoo.download, zoo.load, lambda name: CheckpointLoader.load_checkpoint(f"zoo://{name}")):
        with pytest.raises(ValueError, match=f"SHA-256 {sha256(served)}, expected {sha256(DATA)}: removed"):
            use("toy")
    assert files(weights.parents[1]) == []


def test_offline(weights, server, monkeypatch):
    def offline(value: str) -> Path:
        monkeypatch.setenv("MMVIDEOIQ_OFFLINE", value)
        return zoo.download("toy")

    with pytest.raises(FileNotFoundError, match="MMVIDEOIQ_OFFLINE forbids to fetch it"):
        offline("1")
    assert server.asked == []
    assert offline("0") == offline("1") == weights and len(server.asked) == 1
    weights.write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="or damaged there"):
        offline("1")
    assert offline("0").read_bytes() == DATA


def test_several_at_once_download_once(weights, server):
    server.tempers = ["slow"]
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(zoo.download, ["toy"] * 3)) == {weights}
    assert len(server.asked) == 1


def test_what_is_shipped_is_used_from_there(shelf, weights, server):
    file = shelf.root / "weights/toy.pth"
    file.parent.mkdir()
    file.write_bytes(DATA)
    assert zoo.download("toy") == file and store.state(index.find("toy")) == "shipped"
    file.write_bytes(DATA[1:])
    with pytest.raises(ValueError, match="does not have the SHA-256 of toy: restore it from the repository"):
        zoo.download("toy")
    assert file.exists() and server.asked == []


def test_without_weights(shelf):
    shelf.publish(entry("toy"))
    with pytest.raises(ValueError, match=r"toy has no published weights: train it with configs/toy/toy\.py"):
        zoo.load("toy")


def test_bundles(bundle, server, tmp_path):
    tensors = server.files["/zoo/toy_bundle/recognition.safetensors"]
    server.files["/zoo/toy_bundle/recognition.safetensors"] = tensors[:-1] + b"!"
    with pytest.raises(ValueError, match=r"recognition\.safetensors has the SHA-256"):
        zoo.download("toy_bundle")
    toy = index.find("toy_bundle")
    assert store.state(toy) == "online" and store.size(toy) is None

    server.files["/zoo/toy_bundle/recognition.safetensors"] = tensors
    server.asked = []
    path = zoo.download("toy_bundle")
    assert (
        path.name == "toy_bundle"
        and Bundle.open(path).manifest == Bundle.open(tmp_path / "toy_bundle").manifest
    )
    assert len(server.asked) == 1  # the other files were complete
    assert store.size(toy) == sum(file.stat().st_size for file in path.iterdir())
    (path / "graphs.json").unlink()
    assert Bundle.open(zoo.download("toy_bundle"))
    with pytest.raises(ValueError, match="toy_bundle is a bundle, which runs without PyTorch"):
        zoo.load("toy_bundle")


WRONG_MANIFESTS = [
    *(b"", b"{", b"[]", b"7", b"{}", b"[" * 10**5, b"\xff\xfe", b'{"files": 3}', b'{"files": {"a": 3}}'),
    *(b'{"files": {"a": {"sha256": "0"}}}', b'{"files": {"a": {"sha256": 0, "bytes": 1}}}'),
    *(b'{"files": {"a": {"sha256": "0", "bytes": "1"}}}', b'{"files": {"": {"sha256": "0", "bytes": 1}}}'),
]


@pytest.mark.parametrize("manifest", WRONG_MANIFESTS, ids=lambda manifest: repr(manifest[:40]))
def test_a_bundle_that_was_published_wrongly_is_one_line(shelf, server, manifest):
    server.files["/zoo/toy_bundle/manifest.json"] = manifest
    shelf.publish(
        entry(
            "toy_bundle",
            "toy_bundle/manifest.json",
            manifest,
            Metadata=dict(SHA256=sha256(manifest), Size=max(1, len(manifest))),
        )
    )
    with pytest.raises(
        ValueError, match=r"manifest\.json is not the manifest of a bundle: what was published"
    ):
        zoo.download("toy_bundle")


def test_a_bundle_s_other_files_have_the_sizes_of_its_manifest(bundle, server, tmp_path):
    server.tempers = ["ranges", "endless"]
    with pytest.raises(
        OSError, match=r"cannot be fetched: it is longer than the expected \d+ bytes$"
    ) as error:
        zoo.download("toy_bundle")
    name = str(error.value).partition(" ")[0].rpartition("/")[2]
    size = (tmp_path / "toy_bundle" / name).stat().st_size
    assert f"expected {size} bytes" in str(error.value)
    assert name != "manifest.json"
