"""Zoo models by name: metafiles, downloads from servers of every temper, the cache, building, ``zoo://`` in configs."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmvideoiq import zoo
from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.zoo import __main__ as command
from mmvideoiq.zoo import fetch, host, index, store
from tests.conftest import write_video
from tests.deploy.toy_bundle import make_toy_bundle

BUNDLE = "demo_videoiq_bundle"  # shipped
CONFIG = """
custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)
model = dict(
    type="Recognizer2D",
    backbone=dict(type="SlimResNet", base_channels=4, stage_blocks=(1,)),
    cls_head=dict(type="TSNHead", num_classes=3, in_channels=4),
)
"""


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path -> bytes); ``temper`` says how; ``asked`` holds (path, Range header) of each request.

    Tempers: ``ranges`` serves parts, ``whole`` knows none, ``breaks`` ends each reply after 1000 bytes, ``once`` only
    the first, ``early`` begins parts 10 bytes before the asked place, ``slow`` sends 150 bytes every 20 ms, ``hangs``
    sends nothing, ``busy`` answers 503 at first, ``missing`` always answers 404,
    ``endless`` never stops, ``redirects`` to ``target``, ``colours`` sends control characters, ``misstates``
    the length.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.temper, self.target = "ranges", ""

    def handle_error(self, *_) -> None:  # clients hang up; it is what is tested
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        temper = server.temper
        if temper == "missing" or self.path not in server.files:
            return self.send_error(404)
        if temper == "busy" and len(server.asked) == 1:
            return self.send_error(503)
        if temper == "hangs":
            return time.sleep(1)
        if temper == "endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(bytes(2**16))
        if temper == "redirects":
            self.send_response(302)
            self.send_header("Location", server.target)
            return self.end_headers()
        if temper == "colours":
            self.send_response(404, "\x1b[31mred\x07")
            return self.end_headers()
        if temper == "misstates":
            self.send_response(200)
            self.send_header("Content-Length", "many")
            return self.end_headers()
        data, start = server.files[self.path], 0
        if asked is not None and temper != "whole":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self.send_error(416)
            start -= 10 if temper == "early" else 0
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if temper == "breaks" or (temper == "once" and len(server.asked) == 1):
            self.wfile.write(data[start : start + 1000])
        elif temper == "slow":
            for i in range(start, len(data), 150):
                self.wfile.write(data[i : i + 150])
                time.sleep(0.02)
        else:
            self.wfile.write(data[start:])


@pytest.fixture(scope="module")
def only_server():
    with Server() as running:
        Thread(target=running.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def server(only_server):
    only_server.files, only_server.asked, only_server.temper = {}, [], "ranges"
    return only_server


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, **changes) -> dict:
    """A model of the metafile; ``sha256`` goes into its Metadata, None leaves a key out."""
    model = {"Name": name, "In Collection": "Toys", "Config": "configs/toy/toy.py"}
    if "sha256" in changes:
        model["Metadata"] = {"SHA256": changes.pop("sha256")}
    model.update({key.replace("_", " "): value for key, value in changes.items()})
    return {key: value for key, value in model.items() if value is not None}


@pytest.fixture
def shelf(tmp_path, monkeypatch, server):
    """An empty zoo with a cache of its own: ``publish(entries...)`` writes its metafile."""
    root, home = tmp_path / "root", tmp_path / "home"
    (root / "configs/toy").mkdir(parents=True)
    (root / "configs/toy/toy.py").write_text(CONFIG)
    (root / index.INDEX).write_text("Import:\n- configs/toy/metafile.yml\n")

    def publish(*entries: dict, collections: tuple = ("Toys",)) -> None:
        content = {"Collections": [{"Name": name} for name in collections], "Models": list(entries)}
        (root / "configs/toy/metafile.yml").write_text(yaml.safe_dump(content, sort_keys=False))

    publish()
    monkeypatch.setattr(index, "root", lambda: root)
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(home))
    monkeypatch.setenv("MMVIDEOIQ_ZOO", f"http://127.0.0.1:{server.server_port}/zoo")
    monkeypatch.delenv("MMVIDEOIQ_OFFLINE", raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    return SimpleNamespace(root=root, home=home, publish=publish)


DATA = bytes(i * i % 251 for i in range(4321))


@pytest.fixture
def weights(shelf, server) -> Path:
    """``toy`` is published: DATA, which is no checkpoint. Given is its place in the cache."""
    server.files["/zoo/weights/toy.pth"] = DATA
    shelf.publish(entry("toy", Weights="weights/toy.pth", sha256=sha256(DATA)))
    return shelf.home / "zoo" / sha256(DATA)[:16] / "toy.pth"


def files(folder: Path) -> list[str]:
    """All files below a folder but the locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


# --- metafiles --------------------------------------------------------------------------------------------


def test_names(shelf):
    shelf.publish(entry("demo_videoiq"), entry("demo_float"), entry("r50_float"))
    assert zoo.list_models() == ["demo_float", "demo_videoiq", "r50_float"]
    assert zoo.list_models("demo*") == ["demo_float", "demo_videoiq"]
    with pytest.raises(ValueError, match="no model 'demo_vidoiq' in the zoo; closest: demo_videoiq"):
        zoo.download("demo_vidoiq")
    with pytest.raises(ValueError, match=r"python -m mmvideoiq\.zoo list shows them all"):
        zoo.load("%")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(Config=None), "Config must be a text, got None"),
        (dict(Config="configs/toy/no.py"), "Config configs/toy/no.py does not exist"),
        (dict(In_Collection="Toy"), r"In Collection 'Toy' is none of \['Toys'\]"),
        (dict(Weights="a.pth"), "Weights need Metadata SHA256, 64 hexadecimal digits, got ''"),
        (dict(Weights="a.pth", sha256="0123abcd"), "Weights need .* got '0123abcd'"),
        (
            dict(Weights="ftp://a/b.pth", sha256="0" * 64),
            "Weights must be .* http or https, got ftp://a/b.pth",
        ),
        (dict(Weights=["a.pth"]), "Weights must be a text"),
        (dict(Metadata=["a"]), "Metadata must be a mapping"),
        (dict(Results={"Task": "x"}), "Results must be a list"),
        (dict(Results=[{"Task": "x", "Dataset": "y", "Metrics": 3}]), "Results must be a list"),
    ],
)
def test_wrong_metafiles(shelf, changes, message):
    shelf.publish(entry("toy", **changes))
    with pytest.raises(ValueError, match=f"configs/toy/metafile.yml: model 'toy': {message}"):
        zoo.list_models()


def test_wrong_files(shelf):
    shelf.publish(entry("toy"), entry("toy"))
    with pytest.raises(ValueError, match="model 'toy' stands in the zoo twice"):
        zoo.list_models()
    shelf.publish({"Config": "configs/toy/toy.py"})
    with pytest.raises(ValueError, match=r"configs/toy/metafile\.yml: Name must be a text, got None"):
        zoo.list_models()
    (shelf.root / "configs/toy/metafile.yml").write_text("Models: [")
    with pytest.raises(ValueError, match=r"metafile\.yml is not YAML"):
        zoo.list_models()


def test_an_installation_without_configs_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "__file__", str(tmp_path / "mmvideoiq/zoo/index.py"))
    with pytest.raises(FileNotFoundError, match="installed without its configs"):
        index.root()
    (tmp_path / "mmvideoiq/.mim").mkdir(parents=True)
    (tmp_path / "mmvideoiq/.mim" / index.INDEX).touch()
    assert index.root() == tmp_path / "mmvideoiq/.mim"


def test_the_zoo_of_this_repository(repo):
    """Its metafiles are valid and all named in the index; what it ships is whole."""
    named = yaml.safe_load((repo / index.INDEX).read_text())["Import"]
    assert named == sorted(path.relative_to(repo).as_posix() for path in repo.glob("configs/*/metafile.yml"))
    assert index.root() == repo
    for model in index.read().values():
        if store.state(model) == "shipped":
            assert zoo.download(model.name).is_relative_to(repo)


def test_metafiles_are_valid_for_openmim(repo):
    """Its own reader finds no fault in them and the same models as ours."""
    schema = pytest.importorskip("modelindex", reason="pip install model-index")
    read = schema.load(str(repo / index.INDEX))
    assert read.check(silent=True) == []
    models = {model.name: model for model in read.models}
    assert models.keys() == index.read().keys()
    for name, ours in index.read().items():
        assert (models[name].config, models[name].weights) == (ours.config, ours.weights)
        assert len(models[name].results or []) == len(ours.results)


# --- downloads --------------------------------------------------------------------------------------------


def test_download_once(weights, server):
    assert store.state(index.find("toy")) == "online"
    assert zoo.download("toy") == weights and weights.read_bytes() == DATA
    assert zoo.download("toy") == weights and server.asked == [("/zoo/weights/toy.pth", None)]
    assert store.state(index.find("toy")) == "cached" and files(weights.parents[1]) == ["toy.pth"]


def test_whole_addresses_need_no_base(shelf, server, monkeypatch):
    monkeypatch.delenv("MMVIDEOIQ_ZOO")
    address = f"http://127.0.0.1:{server.server_port}/else where/toy.pth?v=2".replace(" ", "%20")
    server.files["/else%20where/toy.pth?v=2"] = DATA
    shelf.publish(
        entry("toy", Weights=address, sha256=sha256(DATA).upper()),
        entry("below", Weights="weights/toy.pth", sha256="0" * 64),
    )
    assert zoo.download("toy").name == "toy.pth"
    with pytest.raises(ValueError, match=r"below lies at weights/toy\.pth below MMVIDEOIQ_ZOO, which is ''"):
        zoo.download("below")


def test_broken_off_and_resumed_in_the_same_call(weights, server):
    server.temper = "breaks"
    assert zoo.download("toy").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, *(f"bytes={n}-" for n in (1000, 2000, 3000, 4000))]


def test_broken_off_and_resumed_in_a_later_call(weights, server, monkeypatch):
    server.temper = "once"
    monkeypatch.setattr(fetch.time, "sleep", lambda _: setattr(server, "temper", "missing"))
    with pytest.raises(OSError, match=r"toy.pth cannot be fetched: HTTP status 404 Not Found"):
        zoo.download("toy")
    assert not weights.exists() and store.state(index.find("toy")) == "online"
    server.temper, server.asked = "ranges", []
    assert zoo.download("toy").read_bytes() == DATA
    assert server.asked == [("/zoo/weights/toy.pth", "bytes=1000-")]


@pytest.mark.parametrize("temper", ["whole", "early"])
def test_servers_that_answer_with_more_than_was_asked(weights, server, temper, monkeypatch):
    server.temper = "once"
    monkeypatch.setattr(fetch.time, "sleep", lambda _: setattr(server, "temper", temper))
    assert zoo.download("toy").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-"]


def test_a_longer_rest_of_something_else_is_dropped(weights, server):
    part = weights.parent.with_name(f"{weights.parent.name}.part") / "toy.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 9999)
    assert zoo.download("toy").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ["bytes=9999-", None]


def test_a_rest_of_something_else_is_fetched_anew(weights, server):
    part = weights.parent.with_name(f"{weights.parent.name}.part") / "toy.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"<html>please log in")
    assert zoo.download("toy").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ["bytes=19-", None]


@pytest.mark.parametrize(
    "temper, why",
    [
        ("endless", "it is longer than the 4321 bytes that are allowed"),
        ("colours", r"HTTP status 404 \\x1b\[31mred\\x07$"),
        ("misstates", "its header Content-Length is 'many'"),
    ],
)
def test_replies_that_are_refused_at_once(shelf, weights, server, temper, why):
    shelf.publish(
        entry("toy", Weights="weights/toy.pth", Metadata={"SHA256": sha256(DATA), "Size": len(DATA)})
    )
    server.temper = temper
    with pytest.raises(OSError, match=rf"/zoo/weights/toy\.pth cannot be fetched: {why}"):
        zoo.download("toy")
    assert len(server.asked) == 1
    assert all(path.stat().st_size == 0 for path in shelf.home.rglob("*") if path.is_file())


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_redirects_to_other_schemes_are_refused(weights, server, target):
    server.temper, server.target = "redirects", target
    with pytest.raises(OSError, match=rf"toy\.pth cannot be fetched: .*{target}"):
        zoo.download("toy")
    assert len(server.asked) == 1


def test_a_download_has_a_time_limit(weights, server, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL_TIME", 0.05)
    server.temper = "slow"
    with pytest.raises(OSError, match=r"it takes longer than 0\.05 seconds; run again to go on"):
        zoo.download("toy")
    server.temper = "ranges"
    assert zoo.download("toy").read_bytes() == DATA


def test_size_must_be_a_number_of_bytes(shelf):
    shelf.publish(entry("toy", Metadata={"Size": "big"}))
    with pytest.raises(ValueError, match="Metadata Size must be a number of bytes, got 'big'"):
        zoo.list_models()


def test_slow_is_no_error(weights, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)  # the whole reply takes longer
    server.temper = "slow"
    assert zoo.download("toy").read_bytes() == DATA and len(server.asked) == 1


def test_hanging_is_an_error(weights, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    server.temper = "hangs"
    with pytest.raises(
        OSError, match=r"toy.pth cannot be fetched \(timed out\); 0 bytes of it are kept, run again"
    ):
        zoo.download("toy")
    assert len(server.asked) == fetch.ATTEMPTS


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(weights, server):
    server.temper = "busy"
    assert zoo.download("toy").is_file() and len(server.asked) == 2
    shutil.rmtree(weights.parent)
    server.temper, server.asked = "missing", []
    with pytest.raises(OSError, match="HTTP status 404 Not Found"):
        zoo.download("toy")
    assert len(server.asked) == 1


def test_no_server(weights, monkeypatch):
    monkeypatch.setenv("MMVIDEOIQ_ZOO", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/weights/toy\.pth cannot be fetched"):
        zoo.download("toy")


@pytest.mark.parametrize("served", [DATA[:-1], DATA[:-1] + b"!", b""], ids=["truncated", "changed", "empty"])
def test_another_file_is_removed_and_never_used(weights, server, served, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    server.files["/zoo/weights/toy.pth"] = served
    for use in (zoo.download, zoo.load, lambda name: CheckpointLoader.load_checkpoint(f"zoo://{name}")):
        with pytest.raises(ValueError, match=f"SHA-256 {sha256(served)}, expected {sha256(DATA)}: removed"):
            use("toy")
    assert files(weights.parents[1]) == []


def test_damage_in_the_cache_is_repaired(weights, server):
    zoo.download("toy").write_bytes(DATA[:-1])
    assert zoo.download("toy").read_bytes() == DATA and len(server.asked) == 2


def test_offline(weights, server, monkeypatch):
    monkeypatch.setenv("MMVIDEOIQ_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="MMVIDEOIQ_OFFLINE forbids to fetch it"):
        zoo.download("toy")
    assert server.asked == []
    monkeypatch.setenv("MMVIDEOIQ_OFFLINE", "0")
    zoo.download("toy")
    monkeypatch.setenv("MMVIDEOIQ_OFFLINE", "1")
    assert zoo.download("toy") == weights and len(server.asked) == 1
    weights.write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="or damaged there"):
        zoo.download("toy")


def test_several_at_once_download_once(weights, server):
    server.temper = "slow"
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(zoo.download, ["toy"] * 3)) == {weights}
    assert len(server.asked) == 1


def test_what_is_shipped_is_used_from_there(shelf, server):
    (shelf.root / "weights").mkdir()
    file = shelf.root / "weights/toy.pth"
    file.write_bytes(DATA)
    shelf.publish(entry("toy", Weights="weights/toy.pth", sha256=sha256(DATA)))
    assert zoo.download("toy") == file and store.state(index.find("toy")) == "shipped"
    file.write_bytes(DATA[1:])
    with pytest.raises(ValueError, match="does not fit the SHA-256 of toy: restore it from the repository"):
        zoo.download("toy")
    assert file.exists() and server.asked == []


def test_without_weights(shelf):
    shelf.publish(entry("toy"))
    with pytest.raises(ValueError, match=r"toy has no published weights: train it with configs/toy/toy\.py"):
        zoo.load("toy")


def test_bundles(shelf, server, tmp_path):
    bundle = make_toy_bundle(tmp_path / "toy_bundle", policy=False)
    for path in bundle.iterdir():
        server.files[f"/zoo/weights/toy_bundle/{path.name}"] = path.read_bytes()
    manifest = sha256((bundle / "manifest.json").read_bytes())
    shelf.publish(entry("toy_bundle", Weights="weights/toy_bundle/manifest.json", sha256=manifest))
    tensors = server.files["/zoo/weights/toy_bundle/recognition.safetensors"]
    server.files["/zoo/weights/toy_bundle/recognition.safetensors"] = tensors[:-1] + b"!"
    with pytest.raises(ValueError, match=r"recognition\.safetensors has the SHA-256"):
        zoo.download("toy_bundle")
    assert store.state(index.find("toy_bundle")) == "online"

    server.files["/zoo/weights/toy_bundle/recognition.safetensors"] = tensors
    server.asked = []
    path = zoo.download("toy_bundle")
    assert path.name == "toy_bundle" and Bundle.open(path).manifest == Bundle.open(bundle).manifest
    assert len(server.asked) == 1  # the other files had come whole
    (path / "graphs.json").unlink()
    assert Bundle.open(zoo.download("toy_bundle"))
    with pytest.raises(ValueError, match="toy_bundle is a bundle, which runs without PyTorch"):
        zoo.load("toy_bundle")


# --- models -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(shelf, server):
    """``toy`` is a checkpoint of the toy config; given is its state dict."""
    init_default_scope("mmaction")
    state = MODELS.build(Config.fromfile(shelf.root / "configs/toy/toy.py").model).state_dict()

    def publish(content: dict) -> None:
        torch.save(content, shelf.root / "toy.pth")
        data = (shelf.root / "toy.pth").read_bytes()
        server.files["/zoo/new.pth"] = data
        shelf.publish(entry("toy", Weights="new.pth", sha256=sha256(data)))

    publish(dict(state_dict=state, meta=dict(epoch=1)))
    return SimpleNamespace(state=state, publish=publish)


def test_load(checkpoint):
    model = zoo.load("toy")
    assert type(model).__name__ == "Recognizer2D" and not model.training
    assert model.cfg.model.type == "Recognizer2D"
    assert model.state_dict().keys() == checkpoint.state.keys()
    assert all(torch.equal(value, checkpoint.state[name]) for name, value in model.state_dict().items())


def test_load_is_strict_and_safe(checkpoint):
    state = dict(checkpoint.state)
    state.pop("cls_head.fc_cls.bias")
    checkpoint.publish(dict(state_dict=state))
    with pytest.raises(RuntimeError, match=r"cls_head\.fc_cls\.bias"):
        zoo.load("toy")
    checkpoint.publish(dict(state_dict=checkpoint.state, meta=SimpleNamespace(epoch=1)))
    with pytest.raises(pickle.UnpicklingError, match="SimpleNamespace"):
        zoo.load("toy")


def test_zoo_names_in_configs(checkpoint, tmp_path):
    """Where the host loads a checkpoint; files are read as before."""
    assert CheckpointLoader._get_checkpoint_loader("zoo://toy") is host.load_from_zoo
    loaded = CheckpointLoader.load_checkpoint("zoo://toy", map_location="cpu")
    assert loaded["meta"] == dict(epoch=1)

    class Part(BaseModule):
        def __init__(self, init_cfg: dict) -> None:
            super().__init__(init_cfg)
            self.fc_cls = torch.nn.Linear(4, 3)

    part = Part(dict(type="Pretrained", checkpoint="zoo://toy", prefix="cls_head."))
    part.init_weights()
    assert torch.equal(part.fc_cls.weight, checkpoint.state["cls_head.fc_cls.weight"])
    plain = Part(dict(type="Pretrained", checkpoint=str(tmp_path / "root/toy.pth"), prefix="cls_head."))
    plain.init_weights()
    assert torch.equal(plain.fc_cls.weight, part.fc_cls.weight)
    with pytest.raises(ValueError, match="no model 'tory' in the zoo; closest: toy"):
        load_checkpoint(part, "zoo://tory")


def test_zoo_names_under_the_hosts_runner(checkpoint, tmp_path):
    """``load_from`` of a run, here of the any-precision stage, which takes the float model."""
    state = {name: torch.rand_like(value.float()) for name, value in checkpoint.state.items()}
    checkpoint.publish(dict(state_dict=state))
    cfg = Config.fromstring(CONFIG, ".py").model
    cfg.type, cfg.backbone = (
        "AnyPrecisionRecognizer",
        dict(type="AnyPrecisionBackbone", backbone=cfg.backbone),
    )
    options = dict(work_dir=str(tmp_path / "run"), default_scope="mmaction", log_level="ERROR")
    Runner(model=(model := MODELS.build(cfg)), load_from="zoo://toy", **options).load_or_resume()
    for bits in (32, 4, 2):
        norm = model.state_dict()[f"backbone.net.stages.0.0.conv1.bn.norms.{bits}.running_mean"]
        assert torch.equal(norm, state["backbone.stages.0.0.conv1.bn.running_mean"])
    runner = Runner(model=MODELS.build(cfg), load_from="zoo://tory", experiment_name="unknown", **options)
    with pytest.raises(ValueError, match="no model 'tory' in the zoo; closest: toy"):
        runner.load_or_resume()


@pytest.mark.parametrize("plain", [True, False])
def test_zoo_names_as_pretrained(checkpoint, plain):
    """``pretrained`` of the host's backbones, alone and inside an any-precision one."""
    small = dict(type="ResNet", depth=18, num_stages=1, out_indices=(0,), strides=(1,), dilations=(1,))
    small["torchvision_pretrain"] = False
    wanted = MODELS.build(small).state_dict()
    checkpoint.publish({name: torch.rand_like(value.float()) for name, value in wanted.items()})
    published = torch.load(zoo.download("toy"), weights_only=True)
    inner = dict(small, pretrained="zoo://toy")
    model = MODELS.build(inner if plain else dict(type="AnyPrecisionBackbone", backbone=inner))
    model.init_weights()
    loaded = (model if plain else model.net).state_dict()
    assert torch.equal(loaded["conv1.conv.weight"], published["conv1.conv.weight"])
    assert torch.equal(loaded["layer1.1.conv2.conv.weight"], published["layer1.1.conv2.conv.weight"])


# --- the command ------------------------------------------------------------------------------------------


def test_list(shelf, capsys):
    rows = [
        {
            "Task": "Action Recognition",
            "Dataset": "synthetic",
            "Metrics": {"Top 1 Accuracy": 99.5, "Cost": 0.1},
        }
    ]
    published = entry("demo_float", Results=rows, Weights="toy.pth", sha256=sha256(DATA))
    shelf.publish(entry("a_videoiq"), published, entry("demo_videoiq"))
    assert command.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "2 without published weights: add --all" in shown and "videoiq" not in shown
    assert command.main(["list", "demo*", "--all"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert (
        first.split("  ")[0].strip() == "demo_float" and "synthetic: Top 1 Accuracy 99.5, Cost 0.1" in first
    )
    assert second.split() == ["demo_videoiq", "checkpoint", "nothing", "yet", "unpublished"]
    assert command.main(["list", "*float"]) == 0
    assert "demo_videoiq" not in capsys.readouterr().out


def test_download_command(weights, server, capsys):
    assert command.main(["download", "toy", "tyo"]) == 2 and server.asked == []
    assert capsys.readouterr().err == "zoo: error: no model 'tyo' in the zoo; closest: toy\n"
    assert command.main(["download", "toy"]) == 0
    assert capsys.readouterr().out == f"{weights}\n"


def test_the_command_needs_no_torch(repo):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'mmengine', 'mmaction', 'mmcv')));"
        "from mmvideoiq.zoo.__main__ import main; sys.exit(main(['list']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repo, check=True)


def test_root_command(repo, capsys):
    assert command.main(["root"]) == 0
    assert capsys.readouterr().out == f"{repo}\n"


def test_infer_takes_zoo_names(shelf, server, tmp_path, tiny_videos, load_tool, capsys):
    """A published bundle is fetched and run; anything else is one line."""
    pytest.importorskip("openvino")
    bundle = make_toy_bundle(tmp_path / "toy_bundle")
    for path in bundle.iterdir():
        server.files[f"/zoo/toy_bundle/{path.name}"] = path.read_bytes()
    manifest = sha256((bundle / "manifest.json").read_bytes())
    shelf.publish(entry("toy_bundle", Weights="toy_bundle/manifest.json", sha256=manifest), entry("toy"))
    tool = load_tool("infer.py")

    def infer(name: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            tool.main([f"zoo://{name}", str(tiny_videos / "0.mp4"), "--threads", "1"])
        return ended.value.code, *capsys.readouterr()

    code, out, _ = infer("toy_bundle")
    assert code == 0 and str(tiny_videos / "0.mp4") in out
    code, _, err = infer("toy_bundel")
    assert code == 2 and "error: no model 'toy_bundel' in the zoo; closest: toy_bundle" in err
    code, _, err = infer("toy")
    assert code == 2 and err.count("\n") == 1
    assert "error: toy is no bundle; published are toy_bundle, and tools/export.py makes one" in err


def test_stopped(weights, monkeypatch, capsys):
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "download", stop)
    assert command.main(["download", "toy"]) == 130
    assert capsys.readouterr().err == "zoo: stopped; what has come is kept, run again to go on\n"


def test_publish(load_tool, tmp_path, capsys):
    """Of a training's checkpoint weights and classes stay, always in the same bytes; nothing of the machine."""
    tool = load_tool("publish_model.py")
    state = dict(weight=torch.rand(3))
    meta = dict(epoch=2, cfg=f"work_dir = '{tmp_path}'", dataset_meta=dict(classes=["a"]), time="now")
    torch.save(
        dict(state_dict=state, meta=meta, optimizer=dict(state={0: torch.zeros(3)})), tmp_path / "in.pth"
    )
    (tmp_path / "out").mkdir()
    digests = []
    for folder in (tmp_path, tmp_path / "out"):
        tool.main([str(tmp_path / "in.pth"), str(folder / "toy.pth"), "--no-strict"])
        digests.append(sha256((folder / "toy.pth").read_bytes()))
        assert f"SHA256: {digests[-1]}\n" in capsys.readouterr().out
        assert str(tmp_path).encode() not in (folder / "toy.pth").read_bytes()
    assert digests[0] == digests[1]
    published = torch.load(tmp_path / "toy.pth", weights_only=True)
    assert published["meta"] == dict(epoch=2, dataset_meta=dict(classes=["a"]))
    assert published.keys() == {"state_dict", "meta"} and torch.equal(
        published["state_dict"]["weight"], state["weight"]
    )
    assert files(tmp_path / "out") == ["toy.pth"]
    with pytest.raises(SystemExit, match="2"):
        tool.main([str(tmp_path / "in.pth"), str(tmp_path / "toy.bin")])
    assert "must end in .pth" in capsys.readouterr().err


# --- what is shipped --------------------------------------------------------------------------------------


def test_shipped_models_recognize_new_clips(tmp_path):
    """Checkpoint and bundle of the demo: right, and the same, on clips that neither was trained on."""
    pytest.importorskip("openvino")
    data = tmp_path / "data"
    make_synthetic(data, train=1, val=1, test=16, seed=7)
    model = zoo.load("demo_videoiq")
    config = model.cfg.test_dataloader
    config.dataset.data_root = str(data)
    loader = Runner.build_dataloader(config, seed=0)
    tested = [sample for batch in loader for sample in model.test_step(batch)]
    paths = [loader.dataset.get_data_info(i)["filename"] for i in range(len(tested))]
    with VideoSession.open(zoo.download(BUNDLE), engine="openvino", threads=1) as session:
        answers = list(session.run_many(paths))
    right = [int(sample.pred_label) == int(sample.gt_label) for sample in tested]
    same = [int(sample.pred_label) == answer.label for sample, answer in zip(tested, answers, strict=True)]
    actions = [sample.policy_actions.numpy() == a.actions for sample, a in zip(tested, answers, strict=True)]
    assert sum(right) >= 15 and sum(same) >= 15 and np.mean(actions) >= 0.9


def test_shipped_bundle_takes_videos_of_any_size(tmp_path, load_tool, capsys):
    pytest.importorskip("openvino")
    frames = np.random.default_rng(0).integers(0, 256, (9, 90, 120, 3), dtype=np.uint8)
    write_video(tmp_path / "mine.mp4", frames)
    with pytest.raises(SystemExit, match="0"):
        load_tool("infer.py").main([f"zoo://{BUNDLE}", str(tmp_path / "mine.mp4"), "--threads", "1"])
    assert "degrees" in capsys.readouterr().out


def test_every_shipped_checkpoint_fits_its_config(repo):
    shipped = [name for name, model in index.read().items() if store.state(model) == "shipped"]
    assert len(shipped) == 5
    for name in shipped:
        if name != BUNDLE:
            assert not zoo.load(name).training
    assert sum(path.stat().st_size for path in (repo / "zoo").rglob("*")) < 2e6


# --- what is installed ------------------------------------------------------------------------------------

SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
PACKED = ("configs", "tools", "zoo")


def tree(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files below a folder, but those of setuptools' own and caches."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    passed = ("build", "mmvideoiq.egg-info")
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in found
        if path.parts[0] not in passed and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_a_wheel_holds_the_zoo(repo, tmp_path, tiny_videos):
    """From the tree an sdist, from it a wheel, whose ``mmvideoiq/.mim`` holds all; the trees stay as they were."""
    source = tmp_path / "source"
    kept = shutil.ignore_patterns(
        ".*", "work_dirs", "tests", "docs", "__pycache__", "*.egg-info", "build", "dist"
    )
    shutil.copytree(repo, source, ignore=kept)
    before = tree(source)

    subprocess.run([sys.executable, "-c", SDIST, tmp_path], cwd=source, check=True, capture_output=True)
    assert tree(source) == before
    (packed,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(packed, tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    before = tree(unpacked)
    stale = unpacked / "build/lib/mmvideoiq/.mim/configs/toy.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", tmp_path, unpacked], check=True)
    assert tree(unpacked) == before

    site = tmp_path / "site"
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    for name in PACKED:
        assert tree(site / "mmvideoiq/.mim" / name) == tree(source / name) == tree(unpacked / name)
    assert not list(site.glob("zoo")) and not list(site.glob("configs"))

    def run(*args: object) -> str:
        home = dict(PYTHONPATH=str(site), MMVIDEOIQ_HOME=str(tmp_path / "home"), MMVIDEOIQ_OFFLINE="1")
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, **home},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    root = Path(run("-m", "mmvideoiq.zoo", "root").strip())
    assert root == site / "mmvideoiq/.mim"
    shipped = [name for name, model in index.read().items() if store.state(model) == "shipped"]
    paths = run("-m", "mmvideoiq.zoo", "download", *shipped).split()
    assert len(paths) == len(shipped) > 0 and all(Path(path).is_relative_to(root) for path in paths)
    answer = tmp_path / "answer.json"
    run(root / "tools/infer.py", f"zoo://{BUNDLE}", tiny_videos / "0.mp4", "--threads", 1, "--json", answer)
    assert json.loads(answer.read_text())[0]["frames"] > 0
