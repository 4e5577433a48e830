"""``python -m mmvideoiq.zoo``, and the tools that take or make what the zoo publishes."""

import json
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch

from mmvideoiq import zoo
from mmvideoiq.service import infer as service_infer
from mmvideoiq.zoo import __main__ as command
from tests.zoo.server import entry, files, sha256


def test_list(shelf, capsys):
    metrics = {"Top 1 Accuracy": 99.5, "Cost": 0.1}
    rows = [dict(Task="Action Recognition", Dataset="synthetic", Metrics=metrics)]
    shelf.publish(entry("a_videoiq"), entry("demo_float", "toy.pth", Results=rows), entry("demo_videoiq"))

    def shown(*args: str) -> list[str]:
        assert command.main(["list", *args]) == 0
        return capsys.readouterr().out.splitlines()[1:]

    measured = "synthetic: Top 1 Accuracy 99.5, Cost 0.1"
    row, caption = shown()
    assert row.startswith("demo_float ") and measured in row
    assert caption.strip() == "2 without published weights: add --all"
    first, second = shown("demo*", "--all")
    assert first.startswith("demo_float ") and measured in first
    assert second.split() == ["demo_videoiq", "checkpoint", "nothing", "yet", "unpublished"]
    assert len(shown("*float")) == 1
    assert command.main(["list", "*flaot"]) == 2
    assert capsys.readouterr().err.count("no model matches '*flaot'") == 1
    assert command.main(["list", "demo*", "--all", "--json"]) == 0
    published, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert published["results"] == rows and published["size"] > 0
    assert (other["name"], other["kind"], other["state"]) == ("demo_videoiq", "checkpoint", "unpublished")


def test_root_and_download(weights, shelf, server, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mmvideoiq zoo"])
    assert command.main(["root"]) == 0 and capsys.readouterr().out == f"{shelf.root}\n"
    assert command.main(["download", "toy", "tyo"]) == 2 and server.asked == []
    assert capsys.readouterr().err == "mmvideoiq zoo: error: no model 'tyo' in the zoo; closest: toy\n"
    assert command.main(["download", "toy"]) == 0
    assert capsys.readouterr().out == f"{weights}\n"


def test_the_command_needs_no_torch(repo):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'mmengine', 'mmaction', 'mmcv')));"
        "from mmvideoiq.zoo.__main__ import main; sys.exit(main(['list']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repo, check=True)


INFER = [
    ("toy_bundel", "no bundle 'toy_bundel' in the zoo; published are toy_bundle"),
    ("toy", "toy is not a bundle; published are toy_bundle, and mmvideoiq export makes one"),
]


def test_infer_takes_zoo_names(shelf, bundle, tiny_videos, capsys):
    """A published bundle is fetched and run; anything else is one line."""
    pytest.importorskip("openvino")
    shelf.publish(bundle, entry("toy"))

    def infer(name: str) -> tuple[int, str, str]:
        code = service_infer.main([f"zoo://{name}", str(tiny_videos / "0.mp4"), "--threads", "1"])
        return code, *capsys.readouterr()

    code, out, _ = infer("toy_bundle")
    assert code == 0 and str(tiny_videos / "0.mp4") in out
    for name, message in INFER:
        code, _, err = infer(name)
        assert code == 2 and err.count("\n") == 1 and f"error: {message}" in err


def test_stopped(weights, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "download", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(sys, "argv", [command.__file__])
    assert command.main(["download", "toy"]) == 130
    stopped = "python -m mmvideoiq.zoo: stopped; what was downloaded is kept, run again to go on\n"
    assert capsys.readouterr().err == stopped


def test_publish(load_tool, tmp_path, capsys):
    """Of a training's checkpoint weights and classes stay, always in the same bytes; nothing of the machine."""
    tool = load_tool("publish_model.py")
    state = dict(weight=torch.rand(3))
    meta = dict(epoch=2, cfg=f"work_dir = '{tmp_path}'", dataset_meta=dict(classes=["a"]), time="now")
    torch.save(dict(state_dict=state, meta=meta, optimizer=dict(state={})), tmp_path / "in.pth")
    (tmp_path / "out").mkdir()
    published = set()
    for path in (tmp_path / "toy.pth", tmp_path / "out/toy.pth"):
        tool.main([str(tmp_path / "in.pth"), str(path), "--no-strict"])
        published.add(data := path.read_bytes())
        assert f"SHA256: {sha256(data)}\n    Size: {len(data)}\n" in capsys.readouterr().out
        assert str(tmp_path).encode() not in data
    assert len(published) == 1 and files(tmp_path / "out") == ["toy.pth"]
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"state_dict", "meta"} and torch.equal(
        content["state_dict"]["weight"], state["weight"]
    )
    assert content["meta"] == dict(epoch=2, dataset_meta=dict(classes=["a"]))
    with pytest.raises(SystemExit, match="2"):
        tool.main([str(tmp_path / "in.pth"), str(tmp_path / "toy.bin")])
    assert "must end in .pth" in capsys.readouterr().err
