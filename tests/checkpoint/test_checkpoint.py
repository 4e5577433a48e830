"""Names and shapes of converted checkpoints against models of MMAction2, and one clear error for each bad file."""

import argparse
import re

import pytest
import torch
from mmaction.models.backbones import MobileNetV2, ResNet, ResNetTSM

from mmvideoiq.checkpoint import (
    complete,
    convert_float,
    convert_release,
    load_state,
    read_float,
    read_release,
    release_model,
    unwrap,
    write_config,
)
from tests.reference.release_state import meta_state, release_shapes

NORM = re.compile(r"\.bn\.norms\.\d+\.")


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def part(state, prefix):
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("depth", "precisions", "skips", "separate", "teacher", "classifier"),
    [
        (18, (32, 4, 2), (1,), False, True, True),
        (34, (8, 4, 2), (), False, False, False),
        (50, (32, 8, 4, 2), (1, 2, 4), False, True, False),
        (101, (4, 2), (1, 2), True, True, True),
        (152, (6,), (3,), False, False, True),
    ],
)
def test_release_names_are_those_of_the_host(depth, precisions, skips, separate, teacher, classifier):
    actions = len(precisions) + len(skips) + separate
    source = meta_state(
        release_shapes(
            depth=depth,
            precisions=precisions,
            actions=actions,
            teacher=teacher,
            policy_classifier=classifier,
        )
    )
    spec = read_release(source, skip_list=skips, separate_fp32_action=separate)
    assert (spec.depth, spec.precisions, spec.skips) == (depth, precisions, skips)
    assert (spec.teacher, spec.policy_classifier, spec.separate) == (teacher, classifier, separate)
    assert len(release_model(spec)["actions"]) == actions

    converted = convert_release(source, spec)
    host = shapes(ResNet(depth, pretrained=None).state_dict())
    net = part(converted, "backbone.net.")
    clips = {name for name in net if ".clip." in name}
    # every precision has MMAction2's names; the stem is shared
    for bits in precisions:
        own = {
            n: v for n, v in net.items() if n not in clips and (f".norms.{bits}." in n or not NORM.search(n))
        }
        assert shapes({n.replace(f"norms.{bits}.", ""): v for n, v in own.items()}) == host
    convs = sum(name.endswith("conv.weight") and "downsample" not in name for name in host) - 1
    assert len(clips) == convs * len(precisions)
    assert shapes(part(converted, "policy.backbone.")) == shapes(MobileNetV2().state_dict())
    assert converted["policy.head.fc_policy.weight"].shape == (actions, 512)
    assert ("policy.head.fc_cls.weight" in converted) == classifier
    assert shapes(part(converted, "teacher.backbone.")) == (host if teacher else {})


def test_values_go_where_they_belong():
    source = {
        name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(release_shapes(precisions=(8, 2)))
    }
    for name in source:
        if re.search(r"layer\d\.0\.downsample_2\.0", name):
            source[name] = source[name.replace("downsample_2", "downsample_8")]
    out = convert_release(source, read_release(source, skip_list=[1, 2]))
    for target_name, source_name in {
        "backbone.net.conv1.bn.running_var": "backbone.bn1.running_var",
        "backbone.net.layer1.0.input_quantizer.clip.2": "backbone.layer1.0.q_alpha1_2",
        "backbone.net.layer4.1.conv2.conv.act_quantizer.clip.8": "backbone.layer4.1.q_alpha2_8",
        "backbone.net.layer2.0.downsample.conv.weight": "backbone.layer2.0.downsample_8.0.weight",
        "backbone.net.layer2.0.downsample.bn.norms.2.bias": "backbone.layer2.0.downsample_2.1.bias",
        "backbone.net.layer3.1.conv1.bn.norms.8.weight": "backbone.layer3.1.bn1_8.weight",
        "policy.backbone.layer1.0.conv.1.conv.weight": "policy_net.features.1.conv.3.weight",
        "policy.backbone.layer7.0.conv.2.bn.weight": "policy_net.features.17.conv.7.weight",
        "policy.backbone.conv1.conv.weight": "policy_net.features.0.0.weight",
        "policy.backbone.conv2.conv.weight": "policy_net.conv.0.weight",
        "policy.backbone.conv2.bn.bias": "policy_net.conv.1.bias",
        "policy.head.lstm.weight_hh_l0": "policy_net.rnn.weight_hh",
        "teacher.backbone.layer2.0.downsample.bn.weight": "backbone.layer2_32fp.0.downsample_32.1.weight",
        "teacher.backbone.layer2.0.conv1.bn.weight": "backbone.layer2_32fp.0.bn1.weight",
        "teacher.cls_head.fc_cls.bias": "backbone.fc_32fp.bias",
        "cls_head.fc_cls.weight": "fc.weight",
    }.items():
        assert torch.equal(out[target_name], source[source_name]), target_name


def test_action_rows_follow_the_order_of_the_lists():
    source = dict(meta_state(release_shapes(precisions=(8, 4), actions=6)))
    source["policy_net.linear.bias"] = torch.tensor([32.0, 4.0, 8.0, -2.0, -4.0, -1.0])
    spec = read_release(source, precisions=[4, 8], skip_list=[2, 4, 1], separate_fp32_action=True)
    bias = convert_release(source, spec)["policy.head.fc_policy.bias"]
    assert bias.tolist() == [32, 8, 4, -1, -2, -4]


def release(**options):
    return dict(meta_state(release_shapes(**options)))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s.pop("backbone.layer1.0.bn1_4.weight"), {}, "precisions differ"),
        (lambda s: s.pop("backbone.layer3.0.bn2_4.bias"), {}, r"names missing: backbone\.layer3\.0\.bn2_4\.bias$"),
        (lambda s: s.pop("policy_net.linear.weight"), {}, "names missing: policy_net.linear.weight"),
        (lambda s: [s.pop(n) for n in list(s) if "layer3.1." in n], {}, r"unknown depth: \(2, 2, 1, 2\)"),
        (lambda s: s.update(surprise=torch.zeros(1)), {}, "not known: surprise"),
        (lambda s: s.update({"backbone.conv1.weight": torch.zeros(64, 1, 7, 7)}), {}, r"shape \(64, 1, 7, 7\), exp"),
        (
            lambda s: s.update({"backbone.layer2.0.downsample_4.0.weight": torch.ones(128, 64, 1, 1)}),
            {},
            "shared by all precisions",
        ),
        (None, dict(skip_list=[1, 2]), r"skip list \[1, 2\] does not match"),
        (None, dict(skip_list=[0]), r"skip list \[0\]: distinct"),
        (None, dict(precisions=[32, 8, 2]), r"precisions \[32, 8, 2\] do not match the file: it holds \[32, 4, 2\]"),
        (None, dict(separate_fp32_action=True, skip_list=[1]), "leave 0 skips"),
    ],
)  # fmt: skip
def test_bad_release_files(change, options, message):
    source = release()
    if change:
        change(source)
    with pytest.raises(ValueError, match=message) as error:
        convert_release(source, read_release(source, **options))
    assert "\n" not in str(error.value)


def test_several_skips_need_a_list_and_a_float_action_its_network():
    with pytest.raises(ValueError, match="leave 3 skips; give --skip-list"):
        read_release(release(actions=6))
    with pytest.raises(ValueError, match="lacks"):
        read_release(release(actions=5, teacher=False), separate_fp32_action=True, skip_list=[1])


def plain_resnet(depth):
    """MMAction2's ResNet under torchvision's names, from files before torch 0.4.1 (no num_batches_tracked)."""
    out = {}
    for name, value in ResNet(depth, pretrained=None).state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"downsample\.conv", "downsample.0", name)
        name = re.sub(r"downsample\.bn", "downsample.1", name)
        name = re.sub(r"conv(\d)\.bn", r"bn\1", name)
        out[re.sub(r"conv(\d)\.conv", r"conv\1", name)] = value
    return out


@pytest.mark.parametrize("layout", ["zoo", "torchvision", "tsm"])
def test_float_resnet(layout):
    net = (ResNetTSM if layout == "tsm" else ResNet)(18, pretrained=None)
    head = dict(weight=torch.randn(5, 512), bias=torch.randn(5))
    if layout == "torchvision":
        source = plain_resnet(18) | {f"fc.{k}": v for k, v in head.items()}
    else:
        source = {f"backbone.{k}": v for k, v in net.state_dict().items()}
        source |= {f"cls_head.fc_cls.{k}": v for k, v in head.items()}
    spec = read_float(source)
    assert (spec.backbone, spec.depth) == ("ResNetTSM" if layout == "tsm" else "ResNet", 18)
    assert (spec.num_classes, spec.features) == (5, 512)
    out = convert_float(source, spec, (8, 4))
    assert torch.equal(out["cls_head.fc_cls.bias"], head["bias"])
    for bits in (8, 4):
        own = {
            n: v
            for n, v in part(out, "backbone.net.").items()
            if f".norms.{bits}." in n or not NORM.search(n)
        }
        net.load_state_dict({n.replace(f"norms.{bits}.", ""): v for n, v in own.items()}, strict=True)  # fmt: skip


def test_float_mobilenet_without_classifier():
    net = MobileNetV2()
    spec = read_float(net.state_dict())
    assert (spec.backbone, spec.depth, spec.num_classes) == ("MobileNetV2", None, None)
    out = part(convert_float(net.state_dict(), spec, (4,)), "backbone.net.")
    assert shapes({n.replace("norms.4.", ""): v for n, v in out.items()}) == shapes(net.state_dict())


def test_torchvision_mobilenet_names():
    host = MobileNetV2().state_dict()
    blocks = sorted({tuple(map(int, re.findall(r"\d+", n)[:2])) for n in host if re.match(r"layer\d\.\d", n)})
    source = {}
    for name, value in host.items():
        if match := re.match(r"layer(\d)\.(\d)\.conv\.(\d)\.(conv|bn)\.(.*)", name):
            stage, block, i = (int(match[k]) for k in (1, 2, 3))
            last = i == (1 if stage == 1 else 2)
            inner = f"{i + (match[4] == 'bn')}" if last else f"{i}.{int(match[4] == 'bn')}"
            source[f"features.{blocks.index((stage, block)) + 1}.conv.{inner}.{match[5]}"] = value
        else:
            stem, kind, leaf = name.split(".")
            source[f"features.{0 if stem == 'conv1' else 18}.{int(kind == 'bn')}.{leaf}"] = value
    source |= {"classifier.1.weight": torch.zeros(3, 1280), "classifier.1.bias": torch.zeros(3)}
    out = part(convert_float(source, read_float(source), (4,)), "backbone.net.")
    assert all(torch.equal(out[n.replace("bn.", "bn.norms.4.") if "layer" in n or "conv2" in n else n], v)
               for n, v in host.items())  # fmt: skip


def test_bad_float_files():
    source = plain_resnet(18)
    with pytest.raises(ValueError, match="unknown layout"):
        read_float({"encoder.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"names missing: layer2\.0\.bn1\.bias"):
        convert_float({k: v for k, v in source.items() if k != "layer2.0.bn1.bias"}, read_float(source), (4,))
    with pytest.raises(ValueError, match=r"not known: layer1\.0\.se\.weight"):
        convert_float(source | {"layer1.0.se.weight": torch.zeros(1)}, read_float(source), (4,))


def test_complete_takes_only_what_is_allowed():
    fresh = {"a": torch.zeros(1), "act_quantizer.clip.4": torch.full((1,), 2.0)}
    done = complete({"a": torch.ones(1)}, fresh, ["quantizer."])
    assert done == {"a": torch.ones(1), "act_quantizer.clip.4": torch.full((1,), 2.0)}
    with pytest.raises(ValueError, match=r"names missing: act_quantizer\.clip\.4"):
        complete({"a": torch.ones(1)}, fresh, [])
    with pytest.raises(ValueError, match=r"a has shape \(2,\), the model \(1,\)"):
        complete({"a": torch.ones(2)}, fresh, ["quantizer."])


def test_wrappers_are_taken_off():
    assert list(unwrap({"state_dict": {"module.a": torch.zeros(1)}, "epoch": 1})) == ["a"]
    for junk in ([], {}, {"epoch": 1}, {"state_dict": {}}):
        with pytest.raises(ValueError, match="unknown layout"):
            unwrap(junk)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "file.pth"
    with pytest.raises(FileNotFoundError, match="checkpoint not found"):
        load_state(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a checkpoint that torch can read"):
        load_state(path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(ValueError, match=r"holds an object of argparse\.Namespace"):
        load_state(path)


@pytest.mark.parametrize("precisions", [(32, 4, 2), (4, 2)], ids=str)
def test_the_model_computes_as_the_release(precisions):
    model = release_model(read_release(release(precisions=precisions, actions=len(precisions) + 1)))
    assert model["policy"]["head"]["hold_cell"] is False
    assert model["policy"]["quantize_32"] == ["conv1.conv", "conv2.conv"]
    assert model["backbone"]["weight"] == dict(type="dorefa", quantize_32=True)
    assert model["all_skip"] == "zero"


def test_the_config_is_python_that_gives_the_model_back():
    model = release_model(read_release(release()))
    scope = {}
    exec(write_config(model, num_frames=8, source="x.pth"), scope)
    assert scope["model"] == model and scope["num_frames"] == 8


@pytest.mark.parametrize("weight", ["dorefa", "nested", "lsq"])
def test_tool_converts_a_float_file(tmp_path, load_tool, capsys, weight):
    from mmaction.registry import MODELS
    from mmengine.config import Config

    net = ResNet(18, pretrained=None)
    net.eval()
    source = {f"backbone.{k}": v for k, v in net.state_dict().items()}
    source |= {"cls_head.fc_cls.weight": torch.randn(3, 512), "cls_head.fc_cls.bias": torch.zeros(3)}
    torch.save({"state_dict": source, "meta": {}}, tmp_path / "src.pth")
    dst = tmp_path / "out" / "dst.pth"
    load_tool("convert_checkpoint.py").main([str(tmp_path / "src.pth"), str(dst), "--weight", weight])
    assert "ResNet" in capsys.readouterr().out
    assert sorted(path.name for path in dst.parent.iterdir()) == ["dst.pth", "dst.py"]
    model = MODELS.build(Config.fromfile(dst.with_suffix(".py")).model)
    model.load_state_dict(torch.load(dst, weights_only=True)["state_dict"], strict=True)
    clips = torch.randn(2, 2, 3, 64, 64)
    features = net(clips.flatten(0, 1)).mean((2, 3)).unflatten(0, (2, 2)).mean(1)
    want = features @ source["cls_head.fc_cls.weight"].T
    torch.testing.assert_close(model.eval()(clips, mode="tensor"), want, rtol=1e-4, atol=1e-4)


def test_tool_says_what_is_wrong_in_one_line(tmp_path, load_tool, capsys):
    tool = load_tool("convert_checkpoint.py")
    torch.save(release(), tmp_path / "src.pth")
    for arguments, message in [
        (["src.pth", "dst.py"], "must end in .pth"),
        (["src.pth", "dst.pth", "--skip-list", "1,2"], "skip list [1, 2] does not match"),
        (["none.pth", "dst.pth"], "checkpoint not found"),
    ]:
        files = [str(tmp_path / name) for name in arguments[:2]]
        with pytest.raises(SystemExit):
            tool.main(files + arguments[2:])
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["src.pth"]
