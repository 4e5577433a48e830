import copy
import io

import mmaction.models  # noqa: F401
import pytest
import torch
from mmaction.models.backbones.mobilenet_v2 import InvertedResidual
from mmaction.models.backbones.resnet import BasicBlock, Bottleneck
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Conv2d, Linear
from mmengine.runner import load_checkpoint
from torch import nn

from mmvideoiq.quant import (
    AnyPrecisionConv2d,
    AnyPrecisionLinear,
    Pact,
    PrecisionSwitch,
    SampleError,
    SwitchableBatchNorm,
    to_any_precision_,
)

BLOCKS = {
    BasicBlock: ("conv1", "downsample"),
    Bottleneck: ("conv1", "downsample"),
    InvertedResidual: ("conv.0",),
}


def host(training: bool = False, **cfg) -> nn.Module:
    model = MODELS.build(dict(cfg, pretrained=None, _scope_="mmaction"))
    model.train(training)  # MMAction2's returns nothing
    return model


def convert(model, precisions=(32, 4, 2), sample=None, weight="nested", **options):
    switch = PrecisionSwitch(precisions)
    report = to_any_precision_(
        model,
        switch=switch,
        sample=torch.randn(2, 3, 32, 32) if sample is None else sample,
        weight=dict(type=weight),
        activation=dict(type="pact"),
        blocks=BLOCKS,
        plain=(Conv2d, Linear),
        **options,
    )
    return switch, report


def lived_in(model: nn.Module) -> nn.Module:
    """Batch norms with statistics as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


class Small(nn.Module):
    """Convolution - norm - relu, twice, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))


# --- MMAction2's backbones ---


@pytest.mark.parametrize(
    "cfg, converted, blocks, pacts, signed",
    [
        (dict(type="ResNet", depth=18), 19, 8, 16, 0),
        (dict(type="ResNet", depth=50), 52, 16, 48, 0),
        (dict(type="MobileNetV2"), 51, 17, 51, 17),
        (dict(type="ResNetTSM", depth=18, num_segments=2), 19, 8, 16, 0),
        (dict(type="ResNetTSM", depth=50, num_segments=2), 52, 16, 48, 0),
        (dict(type="MobileNetV2TSM", num_segments=2), 51, 17, 51, 17),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_the_hosts_backbones(cfg, converted, blocks, pacts, signed):
    model = lived_in(host(**cfg))
    x = torch.randn(2, 3, 32, 32)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        expected = model(x)
    state = copy.deepcopy(model.state_dict())
    switch, report = convert(model)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(report.converted) == len(report.norms) == converted == len(convs) - 1
    assert sum(isinstance(m, AnyPrecisionConv2d) for m in model.modules()) == converted
    assert report.stem == "conv1.conv" and set(report.left) == {"conv1.conv", "conv1.bn"}
    assert len(report.block_inputs) == blocks
    quantizers = [m for m in model.modules() if isinstance(m, Pact)]
    assert (len(quantizers), sum(q.signed for q in quantizers)) == (pacts, signed)
    actual = dict(model.named_parameters())
    for name, parameter in parameters.items():  # an optimizer built before would still hold the right objects
        if "bn" not in name or name.startswith("conv1."):
            key = name if name in actual else next(k for k in actual if k.endswith(name.split(".", 1)[1]))
            assert actual[key] is parameter, name
    with torch.no_grad():
        assert torch.equal(model(x), expected)
        with switch.at(4):
            low = model(x)
        with switch.at(2):
            assert not torch.equal(model(x), low)
        with switch.at(4):
            assert torch.equal(model(x), low)
        assert torch.equal(model(x), expected)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    with torch.no_grad():
        assert torch.equal(model(x), expected)
        with switch.at(4):
            assert torch.equal(model(x), low)


def test_a_blocks_input_is_quantized_once_and_feeds_all_its_readers():
    model = host(type="ResNet", depth=18)
    switch, _ = convert(model)
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, Pact):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    seen = {}
    block = model.layer2[0]
    block.conv1.conv.register_forward_pre_hook(lambda _, args: seen.update(conv1=args[0]))
    block.downsample.conv.register_forward_pre_hook(lambda _, args: seen.update(downsample=args[0]))
    with torch.no_grad(), switch.at(2):
        model(torch.randn(1, 3, 32, 32))
    assert len(calls) == 16 == len(set(calls))
    assert calls[:2] == ["layer1.0.input_quantizer", "layer1.0.conv2.conv.act_quantizer"]
    assert seen["conv1"] is seen["downsample"] and seen["conv1"].unique().numel() <= 4
    assert block.conv1.conv.act_quantizer is None and block.downsample.conv.act_quantizer is None


def test_state_dict_names():
    model = host(type="ResNet", depth=18)
    convert(model, weight="lsq")
    names = set(model.state_dict())
    assert {
        "conv1.conv.weight",
        "conv1.bn.weight",
        "layer1.0.conv1.conv.weight",
        "layer1.0.conv1.conv.weight_quantizer.ratio",
        "layer1.0.conv1.bn.norms.4.running_mean",
        "layer1.0.input_quantizer.clip.4",
        "layer1.0.conv2.conv.act_quantizer.clip.2",
        "layer2.0.downsample.conv.weight",
        "layer2.0.downsample.bn.norms.32.weight",
    } <= names
    assert not any("conv1.conv.act_quantizer" in name for name in names)


def test_training_moves_only_the_active_norms():
    model = host(type="ResNet", depth=18, training=True)
    switch, _ = convert(model)
    before = copy.deepcopy(model.state_dict())
    with switch.at(2):
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert moved == {name for name in statistics if ".norms.2." in name or name.startswith("conv1.bn.")}
    assert all(p.grad is None for n, p in model.named_parameters() if ".norms.4." in n or ".clip.4" in n)


# --- checkpoints and copies ---


@pytest.mark.parametrize("through_host", [False, True])
def test_a_float_checkpoint_loads_and_another_precision_list_is_refused(through_host, tmp_path):
    def load(model, state):
        if not through_host:
            return model.load_state_dict(state, strict=False)
        torch.save(dict(state_dict=state), tmp_path / "a.pth")
        return load_checkpoint(model, str(tmp_path / "a.pth"), map_location="cpu")

    plain, x = lived_in(Small()).eval(), torch.randn(2, 3, 8, 8)
    actual = Small().eval()
    switch, _ = convert(actual)
    load(actual, plain.state_dict())
    assert torch.equal(actual(x), plain(x))
    for bits in (32, 4, 2):
        for name, value in plain.bn2.state_dict().items():
            assert torch.equal(actual.bn2.norms[str(bits)].state_dict()[name], value)
    with switch.at(4):
        expected = actual(x)
    twin = Small().eval()
    twin_switch, _ = convert(twin)
    load(twin, actual.state_dict())
    with twin_switch.at(4):
        assert torch.equal(twin(x), expected)
    other = Small()
    convert(other, precisions=(32, 8, 2))
    with pytest.raises(
        ValueError,
        match=r"conv2.act_quantizer.clip.\* for precisions \(4, 2\), the model for \(8, 2\): use",
    ):
        load(other, actual.state_dict())


def test_copies_have_one_switch_of_their_own():
    model = host(type="ResNet", depth=18)
    switch, _ = convert(model)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        high = model(x)
        with switch.at(2):
            low = model(x)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            switches = {
                id(vars(m)[key]): vars(m)[key]
                for m in twin.modules()
                for key in ("switch", "input_switch")
                if key in vars(m)
            }
            (own,) = switches.values()
            assert own is not switch
            with own.at(2):
                assert torch.equal(twin(x), low) and torch.equal(model(x), high)
            with switch.at(2):
                assert torch.equal(twin(x), high)
            nn.init.zeros_(twin.layer1[0].conv1.conv.weight)
            with switch.at(2):
                assert torch.equal(model(x), low)


# --- what is converted ---


def test_linear_layers_and_report():
    model = Small()
    _, report = convert(model, include=["fc", "conv?"], exclude=["conv2"])
    assert isinstance(model.fc, AnyPrecisionLinear) and type(model.conv2) is nn.Conv2d
    assert report.converted == ["fc"] and report.norms == [] and report.stem == "conv1"
    before = "before the first converted layer: the same at every precision"
    assert report.left == {"conv1": "first layer", "conv2": "in exclude", "bn1": before, "bn2": before}
    assert str(report).splitlines() == [
        "1 layers and 0 batch norms follow the precision switch; 0 block inputs are quantized once",
        "  float: conv1 (first layer)",
        "  float: conv2 (in exclude)",
        f"  float: bn1 ({before})",
        f"  float: bn2 ({before})",
    ]


def test_include():
    _, report = convert(Small(), include=["conv2"])
    assert report.converted == ["conv2"] and report.left["fc"] == "not in include"


def test_quantize_stem_leaves_the_frame_to_the_caller():
    model = Small()
    _, report = convert(model, quantize_stem=True)
    assert report.converted == ["conv1", "conv2", "fc"] and report.norms == ["bn1", "bn2"]
    assert model.conv1.act_quantizer is None and model.conv2.act_quantizer is not None


class Standardized(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) / self.weight.std()


class Odd(nn.Module):
    """Layers that cannot be converted, beside some that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.special = Standardized(4, 4, 3)
        self.reparametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
        self.hooked = nn.Conv2d(4, 4, 1)
        self.hooked.register_forward_hook(lambda module, args, out: out * 2)
        self.depth = nn.Conv3d(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTMCell(4, 4)
        self.plain = nn.Conv2d(4, 4, 1)
        self.idle = nn.Linear(4, 4)

    def forward(self, x):
        x = self.hooked(self.reparametrized(self.special(x=self.stem(x))))
        x = self.plain(self.up(self.depth(x[:, :, None])[:, :, 0]))
        tokens = x.flatten(2).mT
        return self.lstm(self.attention(query=tokens, key=tokens, value=tokens)[0].mean(1))[0]


def test_what_cannot_be_converted_is_named():
    _, report = convert(Odd(), sample=torch.randn(1, 3, 9, 9))
    assert report.converted == ["depth", "plain"]
    assert report.left.pop("idle") == "did not run on the sample input"
    assert report.left.pop("attention.out_proj") == "did not run on the sample input"
    assert report.left == {
        "stem": "first layer",
        "special": "Standardized is not supported",
        "reparametrized": "ParametrizedConv2d is not supported",
        "hooked": "Conv2d with hooks or parameters of its own is not supported",
        "up": "ConvTranspose2d is not supported",
        "attention": "MultiheadAttention is not supported",
        "lstm": "LSTMCell is not supported",
    }


def test_a_sample_that_does_not_fit_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    before = dict(model.named_modules())
    with pytest.raises(
        SampleError, match=r"Sequential does not run on a sample of shape \(1, 5, 9, 9\): Given gro"
    ):
        convert(model, sample=torch.randn(1, 5, 9, 9))
    assert dict(model.named_modules()) == before
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_shared_layer_stays_shared():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.bn = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.b, self.same_bn = self.a, self.bn

        def forward(self, x):
            return self.same_bn(self.b(self.bn(self.a(self.stem(x).relu()))))

    model = Shared().eval()
    switch, report = convert(model)
    assert model.a is model.b and isinstance(model.a, AnyPrecisionConv2d)
    assert model.bn is model.same_bn and isinstance(model.bn, SwitchableBatchNorm)
    assert report.converted == ["a"] and model.a.act_quantizer.signed  # its second input takes both signs
    with switch.at(2):
        model(torch.randn(1, 3, 4, 4))


def test_signs_are_seen_per_input():
    class Signs(nn.Sequential):
        pass

    model = Signs(
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 1),
        nn.Sigmoid(),
        nn.Conv2d(4, 1, 1),
    )
    convert(model)
    assert [model[i].act_quantizer.signed for i in (2, 3, 5)] == [False, True, False]


def test_converting_changes_neither_modes_nor_statistics_nor_random_numbers():
    model = lived_in(Small()).train()
    model.bn1.eval()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    sample = torch.ones(1, 3, 8, 8)
    convert(model, sample=sample)
    assert torch.equal(torch.get_rng_state(), rng)
    assert model.training and not model.bn1.training and model.conv2.training and model.bn2.training
    for name in ("bn2.running_mean", "bn2.num_batches_tracked"):
        assert torch.equal(model.state_dict()[name.replace("bn2.", "bn2.norms.2.")], state[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_residual_block_may_be_the_whole_model():
    model = BasicBlock(3, 3, norm_cfg=dict(type="BN")).eval()
    switch, report = convert(model, quantize_stem=True)
    assert report.block_inputs == [""] and model.input_quantizer.signed
    with switch.at(2):
        model(torch.randn(1, 3, 8, 8))


# --- bad input ---


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(include=["conv9"]),
            r"pattern 'conv9' of include/exclude matches no layer; layers are \['conv1'",
        ),
        (dict(exclude=["bn2"]), r"pattern 'bn2' of include/exclude matches no layer"),
        (dict(exclude="conv2"), r"exclude='conv2' must be a list of name patterns"),
        (dict(include=["conv1"]), r"no layer of Small would be converted: \{'conv1': 'first layer'"),
        (dict(weight="twn"), r"weight=dict\(type='twn'\): unknown quantizer; choose one of"),
        (dict(sample=torch.empty(0, 3, 8, 8)), r"sample has shape \(0, 3, 8, 8\): it must hold at least one"),
        (dict(precisions=(2, 4)), "must go from high to low"),
    ],
)
def test_bad_options_are_named_and_leave_the_model_alone(options, message):
    model = Small()
    with pytest.raises(ValueError, match=message):
        convert(model, **options)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(type(m).__module__.startswith(("torch.", "tests.", __name__)) for m in model.modules())


def test_bad_models_are_named():
    with pytest.raises(ValueError, match="the model is itself a layer"):
        convert(nn.Conv2d(3, 3, 1), quantize_stem=True)
    with pytest.raises(ValueError, match="no layer of Sequential would be converted: it has none"):
        convert(nn.Sequential(nn.ReLU()))
    model = Small()
    convert(model)
    with pytest.raises(ValueError, match="Small is any-precision already"):
        convert(model)


def test_one_bit_and_signed_inputs():
    with pytest.raises(ValueError, match="1 bit cannot hold an activation that takes both signs"):
        convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), precisions=(4, 1))
