"""Zoo models as models: built with their weights, and named by ``zoo://`` in configs."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmvideoiq import zoo
from mmvideoiq.zoo import host
from tests.zoo.server import entry


@pytest.fixture
def checkpoint(shelf, server):
    """``toy`` is a checkpoint of the toy config; given is its state dict."""
    init_default_scope("mmaction")
    state = MODELS.build(Config.fromfile(shelf.root / "configs/toy/toy.py").model).state_dict()

    def publish(content: dict) -> None:
        torch.save(content, shelf.root / "toy.pth")
        data = (shelf.root / "toy.pth").read_bytes()
        server.files["/zoo/new.pth"] = data
        shelf.publish(entry("toy", "new.pth", data))

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
    """Where MMEngine loads a checkpoint; files are read as before."""
    assert CheckpointLoader._get_checkpoint_loader("zoo://toy") is host.load_from_zoo
    loaded = CheckpointLoader.load_checkpoint("zoo://toy", map_location="cpu")
    assert loaded["meta"] == dict(epoch=1)
    for name in ("zoo://toy", str(tmp_path / "root/toy.pth")):
        part = BaseModule(dict(type="Pretrained", checkpoint=name, prefix="cls_head."))
        part.fc_cls = torch.nn.Linear(4, 3)
        part.init_weights()
        assert torch.equal(part.fc_cls.weight, checkpoint.state["cls_head.fc_cls.weight"])
    with pytest.raises(ValueError, match="no model 'tory' in the zoo; closest: toy"):
        load_checkpoint(part, "zoo://tory")


def test_zoo_names_as_load_from(checkpoint, tmp_path):
    """``load_from`` of a run, here of the any-precision stage, which takes the float model."""
    state = {name: torch.rand_like(value.float()) for name, value in checkpoint.state.items()}
    checkpoint.publish(dict(state_dict=state))
    cfg = Config.fromfile(tmp_path / "root/configs/toy/toy.py").model
    cfg.type = "AnyPrecisionRecognizer"
    cfg.backbone = dict(type="AnyPrecisionBackbone", backbone=cfg.backbone)
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
    """``pretrained`` of MMAction2's backbones, alone and inside an any-precision one."""
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
