"""A zoo of its own for each test, and the server that it downloads from."""

from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import yaml

from mmvideoiq.zoo import index
from tests.deploy.toy_bundle import make_toy_bundle
from tests.zoo.server import DATA, Server, entry, sha256

CONFIG = """
custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)
model = dict(
    type="Recognizer2D",
    backbone=dict(type="SlimResNet", base_channels=4, stage_blocks=(1,)),
    cls_head=dict(type="TSNHead", num_classes=3, in_channels=4),
)
"""


@pytest.fixture(scope="package")
def only_server():
    with Server() as running:
        Thread(target=running.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def server(only_server):
    only_server.reset()
    return only_server


@pytest.fixture
def shelf(tmp_path, monkeypatch, server):
    """An empty zoo with a cache of its own: ``publish(entries...)`` writes its metafile."""
    root, home = tmp_path / "root", tmp_path / "home"
    (root / "configs/toy").mkdir(parents=True)
    (root / "configs/toy/toy.py").write_text(CONFIG)
    (root / index.INDEX).write_text("Import:\n- configs/toy/metafile.yml\n")

    def publish(*entries: dict) -> None:
        content = {"Collections": [{"Name": "Toys"}], "Models": list(entries)}
        (root / "configs/toy/metafile.yml").write_text(yaml.safe_dump(content, sort_keys=False))

    publish()
    monkeypatch.setattr(index, "root", lambda: root)
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(home))
    monkeypatch.setenv("MMVIDEOIQ_ZOO", f"{server.address}/zoo")
    monkeypatch.delenv("MMVIDEOIQ_OFFLINE", raising=False)
    return SimpleNamespace(root=root, home=home, publish=publish)


@pytest.fixture
def weights(shelf, server) -> Path:
    """``toy`` is published: DATA, which is not a checkpoint. Given is its place in the cache."""
    server.files["/zoo/weights/toy.pth"] = DATA
    shelf.publish(entry("toy", "weights/toy.pth"))
    return shelf.home / "zoo" / sha256(DATA)[:16] / "toy.pth"


@pytest.fixture
def bundle(shelf, server, tmp_path) -> dict:
    """``toy_bundle``, made in ``tmp_path``, is published; given is its entry."""
    folder = make_toy_bundle(tmp_path / "toy_bundle")
    for path in folder.iterdir():
        server.files[f"/zoo/toy_bundle/{path.name}"] = path.read_bytes()
    published = entry("toy_bundle", "toy_bundle/manifest.json", (folder / "manifest.json").read_bytes())
    shelf.publish(published)
    return published
