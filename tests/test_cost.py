from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from mmaction.models.backbones import ResNet
from torch import nn

import mmvideoiq.models  # noqa: F401, registers them
from mmvideoiq.actions import ActionSpace, bitops_cost, paper_cost
from mmvideoiq.cost import OTHER, ModelCost, count_macs, count_model
from tests.models.toys import SIZE, any_precision, build

PAPER = [dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)]
PRINTED = [66.7, 18.8, 6.8]  # arXiv:2108.10394, GFLOPs with every frame at 32, 4, 2 bits


class Toy(nn.Module):
    """On an 8x8 frame: stem 3->4 (to 4x4), depthwise 4, pointwise 4->6 with bias, linear 6->5."""

    def __init__(self):
        super().__init__()
        self.late = nn.Linear(6, 5)  # declared first, runs last
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.point = nn.Conv2d(4, 6, 1)
        self.idle = nn.Linear(2, 3)

    def forward(self, x):
        x = self.point(self.deep(self.bn(self.stem(x))))
        return self.late(x.mean((2, 3)))


def count_toy(model=None, **kwargs):
    return count_model(model or Toy(), (3, 8, 8), ["deep", "point"], **kwargs)


def toy_cost(**kwargs):
    layers = [layer for layer in count_toy() if layer.name != "idle"]
    return ModelCost(layers=layers, classifier_macs=50, policy_macs=100, **kwargs)


@pytest.mark.parametrize(("bits", "paper"), [(32, 1.0), (8, 1.0), (4, 1 / 4), (2, 1 / 16), (1, 1 / 64)])
def test_cost_rules(bits, paper):
    assert paper_cost(bits) == paper
    assert bitops_cost(bits) == bits**2 / 1024


def test_toy_layers_by_hand():
    rows = {layer.name: layer for layer in count_toy()}
    assert list(rows) == ["stem", "deep", "point", "late", "idle"]
    shown = {
        n: (r.macs, r.weight_elements, r.input_elements, r.output_elements, r.norm_channels, r.bias_elements)
        for n, r in rows.items()
    }
    assert shown == {
        "stem": (16 * 4 * 27, 108, 192, 64, 4, 0),
        "deep": (16 * 4 * 9, 36, 64, 64, 4, 0),
        "point": (16 * 6 * 4, 24, 64, 96, 0, 6),
        "late": (30, 30, 6, 5, 0, 5),
        "idle": (0, 6, 0, 0, 0, 3),
    }
    assert [n for n, r in rows.items() if r.quantized] == ["deep", "point"]


def test_toy_gflops_by_hand():
    # quantized 576 + 2*64 + 384 = 1088; float 1728 + 2*64 + 30 = 1886; policy 100
    assert toy_cost().paper_gflops(0.25, 4) == pytest.approx(4 * (272 + 1886 + 100) / 1e9, rel=1e-12)
    assert toy_cost().paper_gflops(0.0, 4) == pytest.approx(4 * 1986 / 1e9, rel=1e-12)


def test_toy_bitops_by_hand():
    # quantized 960 MACs at 32, 4, 2 bits; float 1758 MACs in three frames; classifier once; policy four times
    expected = 960 * (1024 + 16 + 4) + 1024 * (3 * 1758 + 50 + 4 * 100)
    assert toy_cost().bitops([32, 4, 0, 2]) == expected
    assert toy_cost().bitops([0, 0]) == 1024 * (50 + 2 * 100)
    assert toy_cost().bitops([[32, 4, 0, 2], [0, 0, 0, 0]]).tolist() == [expected, 1024 * 450]


@pytest.mark.parametrize(
    ("precisions", "separate", "expected"),
    [
        # float: stem 4*108 + 16*4, late 4*35, classifier and policy 4*10
        ((32, 4, 2), False, 676 + (4 * 36 + 16 * 4 * 3) + (4 * 24 + 4 * 6)),
        ((4, 2), False, 676 + (18 + 16 * 4 * 2) + (12 + 24)),
        ((3,), False, 676 + (14 + 16 * 4) + (9 + 24)),  # 36 * 3 bits = 13.5 bytes
        ((4,), True, (676 + (18 + 64) + (12 + 24)) + (676 - 12 + (144 + 64) + (96 + 24))),
        ((), True, 676 + (144 + 64) + (96 + 24)),
    ],
)
def test_toy_weight_bytes_by_hand(precisions, separate, expected):
    cost = toy_cost(classifier_elements=7, policy_elements=3)
    assert cost.weight_bytes(precisions, separate=separate) == expected


def test_toy_peak_activation_by_hand():
    cost = toy_cost()
    assert cost.peak_activation_bytes(4) == 4 * 192 + 4 * 64  # the float stem
    assert cost.peak_activation_bytes(0) == 0
    inner = replace(cost, layers=[layer for layer in cost.layers if layer.quantized])
    assert [inner.peak_activation_bytes(b) for b in (32, 4, 2)] == [256 + 384, 32 + 384, 16 + 384]


def test_clip_costs_of_sizes_by_hand():
    """At half the side the toy's convolutions have a quarter of the MACs, its last linear layer has as many."""
    half = [layer for layer in count_model(Toy(), (3, 4, 4), ["deep", "point"]) if layer.name != "idle"]
    cost = toy_cost(classifier_elements=7, policy_elements=3, resized={4: half})
    space = ActionSpace(
        [dict(bits=8), dict(bits=8, size=4), dict(bits=4, size=4), dict(skip=1)], frame_size=8
    )
    (mean,), (gflops,), (bitops,), (stored,), (peak,) = cost.clip_costs([[0, 1, 2, 3]], space).values()
    assert mean == (1 + 1 / 4 + 1 / 16) / 4
    # own size: quantized 1088, float 1886, of the skipped frame too; half: 272 and 464 + 30
    assert gflops == pytest.approx((1088 + 272 + 272 / 4 + 2 * 1886 + 2 * 494 + 4 * 100) / 1e9, rel=1e-12)
    macs = 960 * 64 + 240 * (64 + 16) + 1024 * (1758 + 2 * (432 + 30) + 50 + 4 * 100)
    assert bitops == macs
    # three batch norms behind the quantized layer, two, one per size, behind the stem
    assert stored == cost.weight_bytes((8,)) + 16 * 4 * (2 + 1)
    assert peak == 4 * 192 + 4 * 64
    with pytest.raises(ValueError, match=r"no count for frames of size 5; there are \[4\]"):
        cost.bitops([8], size=5)


def test_clip_costs_equal_a_loop():
    space = ActionSpace([dict(bits=32, separate=True), *PAPER, dict(skip=2)], cost="bitops")
    actions = np.random.default_rng(0).integers(0, len(space), (5, 7))
    cost = toy_cost()
    for batch in (actions, torch.from_numpy(actions)):
        found = cost.clip_costs(batch, space)
        for n, clip in enumerate(actions):
            bits = [space[a].bits or 0 for a in clip]
            assert found["mean_cost"][n] == pytest.approx(sum(space.costs[a] for a in clip) / 7, rel=1e-12)
            paper = sum(paper_cost(b) for b in bits) / 7
            assert found["gflops"][n] == pytest.approx(cost.paper_gflops(paper, 7), rel=1e-12)
            assert found["bitops"][n] == cost.bitops(bits)
            assert found["peak_activation_bytes"][n] == max(cost.peak_activation_bytes(b) for b in bits)
            assert found["weight_bytes"][n] == cost.weight_bytes((32, 4, 2), separate=True)
    assert {key: value.shape for key, value in found.items()} == dict.fromkeys(found, (5,))


@cache
def paper_resnet(depth):
    with torch.device("meta"):  # shapes suffice
        backbone = ResNet(depth=depth, pretrained=None)
    convs = [n for n, m in backbone.named_modules() if isinstance(m, nn.Conv2d)]
    layers = count_model(backbone, (3, 224, 224), convs[1:])
    return ModelCost(layers=layers, policy_macs=round(0.898e9 / 16))


def test_gflops_of_the_papers_resnet50():
    cost = paper_resnet(50)
    assert len(cost.layers) == 53
    assert sum(layer.macs for layer in cost.layers) == 4_087_136_256
    stem = cost.layers[0]
    assert stem.macs == 112 * 112 * 64 * 147
    # the paper rounds both counts to 0.01 per frame, then multiplies by 16 frames
    backbone = 16 * round(sum(layer.billed_macs for layer in cost.layers) / 1e9, 2)
    first = 16 * round(stem.billed_macs / 1e9, 2)
    assert (round(backbone, 2), round(first, 2)) == (65.76, 1.92)
    rounded = [paper_cost(b) * (backbone - first) + first + 0.898 for b in (32, 4, 2)]
    assert [round(figure, 1) for figure in rounded] == PRINTED
    assert [float(cost.paper_gflops(paper_cost(b), 16)) for b in (32, 4, 2)] == pytest.approx(
        rounded, abs=0.011
    )


def test_gflops_of_the_papers_resnet18():
    billed = 16 * sum(layer.billed_macs for layer in paper_resnet(18).layers) / 1e9
    assert round(billed, 1) == 29.1


def test_bitops_of_resnet18_fall_with_the_square_of_bits():
    cost = replace(paper_resnet(18), policy_macs=0)
    quantized = replace(cost, layers=[layer for layer in cost.layers if layer.quantized])
    assert quantized.bitops([32] * 16) == 256 * quantized.bitops([2] * 16)
    assert cost.bitops([32] * 16) == 16 * 1024 * sum(layer.macs for layer in cost.layers)


class Shift(nn.Module):
    """Mixes 4 frames of a clip, as temporal shift does."""

    def __init__(self):
        super().__init__()
        self.net = Toy()

    def forward(self, x):
        clips = x.reshape(-1, 4, *x.shape[1:])  # (N, T, C, H, W); fails unless frames come in fours
        return self.net(clips.roll(1, dims=1).flatten(0, 1))


def test_frames_per_forward():
    layers = count_model(Shift(), (3, 8, 8), ["net.deep", "net.point"], 4)
    assert [replace(layer, name=layer.name.removeprefix("net.")) for layer in layers] == count_toy()
    with pytest.raises(RuntimeError):
        count_model(Shift(), (3, 8, 8), [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    assert count_toy(Toy().to(dtype)) == count_toy()


def test_counting_does_not_change_the_model():
    torch.manual_seed(0)
    model = Toy().train()
    model.deep.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    count_toy(model)
    count_macs(model, torch.ones(1, 3, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failing_forward_restores_the_model():
    model = Shift().train()
    with pytest.raises(RuntimeError):
        count_model(model, (3, 8, 8), [], 3)
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_products_outside_layers_are_one_float_row():
    class Attention(Toy):
        def forward(self, x):
            rows = self.stem(x).flatten(2)  # (1, 4, 16)
            return rows @ rows.transpose(1, 2)

    last = count_model(Attention(), (3, 8, 8), [])[-1]
    assert (last.name, last.macs, last.quantized) == (OTHER, 4 * 4 * 16, False)


def test_a_layer_that_runs_twice_counts_twice():
    twice = nn.Linear(4, 4)
    layer = count_model(nn.Sequential(twice, twice), (1, 1, 4), [])[0]
    assert (layer.macs, layer.weight_elements) == (32, 16)


def test_count_macs_of_an_lstm_cell():
    assert count_macs(nn.LSTMCell(7, 5), torch.zeros(2, 7)) == 2 * 4 * 5 * (7 + 5)


def test_count_macs_of_an_lstm_that_torch_would_run_as_one_operation():
    fused = torch.backends.mkldnn.enabled
    layers = nn.LSTM(7, 5, num_layers=2, batch_first=True)
    assert count_macs(layers, torch.zeros(3, 4, 7)) == 3 * 4 * 4 * 5 * (7 + 5 + 5 + 5)
    assert torch.backends.mkldnn.enabled == fused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(quantized_names=["deep", "dep"]), "dep is not a Conv2d or Linear of Toy"),
        (dict(quantized_names=["bn"]), "bn is not a Conv2d or Linear of Toy"),
        (dict(frame_shape=(8, 8)), r"\(C, H, W\)"),
        (dict(num_frames_per_forward=0), "must be >= 1, got 0"),
    ],
)
def test_count_model_rejects(change, message):
    arguments = dict(frame_shape=(3, 8, 8), quantized_names=["deep"]) | change
    with pytest.raises(ValueError, match=message):
        count_model(Toy(), **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.bitops([33]), "0..32, got 33..33"),
        (lambda c: c.bitops([-1]), "0..32, got -1..-1"),
        (lambda c: c.bitops([4.0]), "integers of shape"),
        (lambda c: c.bitops([]), "integers of shape"),
        (lambda c: c.bitops(4), "integers of shape"),
        (lambda c: c.weight_bytes(()), "precisions is empty"),
        (lambda c: c.peak_activation_bytes(33), "0..32, got 33"),
        (lambda c: c.clip_costs([0, 1], ActionSpace(PAPER)), r"shape \(N, T\)"),
        (lambda c: c.clip_costs([[0, 9]], ActionSpace(PAPER)), "0..3, got 0..9"),
        (lambda c: replace(c, policy_macs=-1), "policy_macs must be an int >= 0, got -1"),
        (lambda c: replace(c, layers=[]), "layers is empty"),
    ],
)
def test_model_cost_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call(toy_cost())


def test_a_network_made_in_inference_mode_is_counted():
    """The counter follows tensors that require a gradient, which a weight made in inference mode cannot give."""
    with torch.inference_mode():
        network = build(any_precision(precisions=(8,), weight=dict(type="nested")))
        macs = count_macs(network, torch.rand(1, 3, SIZE, SIZE))
    plain = build(any_precision(precisions=(8,), weight=dict(type="nested")))
    assert macs == count_macs(plain, torch.rand(1, 3, SIZE, SIZE)) > 0
