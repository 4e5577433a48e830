"""Checkpoints that fit a model, in part, or not."""

import copy

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmvideoiq.checkpoint import check_finite, load_fitting
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone


def network(**parts: nn.Module) -> nn.Module:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    return nn.ModuleDict({"backbone": backbone, "cls_head": nn.Linear(4, 2), **parts})


def test_a_whole_checkpoint_loads_also_from_a_wrapped_model():
    source, target = network(), network()
    load_fitting(target, {f"module.{name}": value for name, value in source.state_dict().items()}, source="x")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("begin", [False, True])
def test_what_is_wrong_is_named_in_one_line(begin):
    state = network().state_dict()
    cases = {
        "x does not fit: backbone.0.weight, backbone.0.bias, backbone.1.weight and 5 more missing": {},
        "x does not fit: cls_head.bias missing": {k: v for k, v in state.items() if k != "cls_head.bias"},
        "x does not fit: cls_head.scale unexpected": state | {"cls_head.scale": torch.zeros(1)},
        "x does not fit: cls_head.weight [7, 4] for [2, 4], cls_head.bias [7] for [2] of another shape": state
        | {"cls_head.weight": torch.zeros(7, 4), "cls_head.bias": torch.zeros(7)},
        "x does not fit: backbone.0.bias missing; backbone.0.gain unexpected": {
            k.replace("0.bias", "0.gain"): v for k, v in state.items()
        },
    }
    for message, given in cases.items():
        with pytest.raises(ValueError) as error:
            load_fitting(network(), given, source="x", begin=begin)
        assert str(error.value) == message


def test_tensors_without_names():
    with pytest.raises(ValueError, match=r"^x does not fit: 0 is not the name of a tensor$"):
        load_fitting(network(), dict(enumerate(network().state_dict().values())), source="x")


def test_a_training_may_begin_from_a_network_without_its_new_parts():
    state = network(loss=nn.Linear(1, 1)).state_dict()
    larger = network(policy=nn.Linear(2, 2), teacher=nn.Linear(2, 2))
    load_fitting(larger, state, source="x", begin=True)
    with pytest.raises(ValueError, match=r"x does not fit: policy\.weight, policy\.bias missing$"):
        load_fitting(larger, state, source="x")
    head = {name: value for name, value in state.items() if name.startswith("cls_head")}
    with pytest.raises(ValueError, match=r"backbone\.0\.weight.* missing"):
        load_fitting(larger, head, source="x", begin=True)


def test_a_training_of_all_precisions_may_begin_from_a_float_checkpoint_and_no_test_of_them():
    config = dict(type="SlimResNet", base_channels=8, stage_blocks=(1,))
    model = nn.ModuleDict(
        {
            "backbone": AnyPrecisionBackbone(backbone=config, precisions=(32, 4, 2)),
            "cls_head": nn.Linear(8, 2),
        }
    )
    twin = copy.deepcopy(model)
    floats = nn.ModuleDict({"backbone": MODELS.build(config), "cls_head": nn.Linear(8, 2)}).state_dict()
    load_fitting(model, floats, source="x", begin=True)
    with pytest.raises(ValueError, match=r"quantizer\.clip.* missing"):
        load_fitting(model, floats, source="x")
    load_fitting(twin, model.state_dict(), source="x")
    part = {
        name: value for name, value in model.state_dict().items() if "quantizer" not in name or "2" in name
    }
    with pytest.raises(ValueError, match=r"clip\.\* for precisions \(2\), the model for \(4, 2\): use"):
        load_fitting(twin, part, source="x", begin=True)


def test_weights_that_are_not_finite_are_named():
    state = network().state_dict()
    check_finite(state, source="x")
    state["cls_head.bias"][0] = torch.nan
    with pytest.raises(ValueError, match=r"^x is damaged: cls_head\.bias with NaN or infinite values$"):
        check_finite(state, source="x")


def test_publishing_wants_all_weights_of_the_training_config(load_tool, tsn_config, tmp_path, capsys):
    tool = load_tool("publish_model.py")
    config = Config.fromfile(tsn_config)
    init_default_scope("mmaction")
    state = MODELS.build(config.model).state_dict()
    path, out = tmp_path / "a.pth", tmp_path / "out.pth"

    def publish(state: dict, *flags: str, **meta: str) -> str:
        torch.save(dict(state_dict=state, meta=meta), path)
        with pytest.raises(SystemExit, match="2"):
            tool.main([str(path), str(out), *flags])
        assert not out.exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    part = {name: value for name, value in state.items() if name != "cls_head.fc_cls.bias"}
    held = config.pretty_text
    assert publish(part, cfg=held).endswith("a.pth does not fit: cls_head.fc_cls.bias missing")
    assert publish(part, "--config", str(tsn_config)).endswith("does not fit: cls_head.fc_cls.bias missing")
    assert "does not contain its config: give --config, or --no-strict" in publish(state)
    assert "does not contain its config" in publish(
        state, cfg="model = open('/etc/passwd')"
    )  # read, never run
    nan = state | {"cls_head.fc_cls.bias": torch.full((2,), torch.nan)}
    assert "is damaged: cls_head.fc_cls.bias with NaN" in publish(nan, "--no-strict", cfg=held)
    torch.save(dict(state_dict=state, meta=dict(cfg=held)), path)
    tool.main([str(path), str(out)])
    assert out.is_file()


def test_the_settings_of_a_checkpoint_s_config_keep_their_types(load_tool):
    held = load_tool("publish_model.py").held_config("model = dict(topk=(1,), sizes=[8, (4, 2)])")
    assert held == dict(model=dict(topk=(1,), sizes=[8, (4, 2)]))
