import copy
import importlib.util
import sys

import pytest
import torch
from mmaction.models.backbones.resnet import BasicBlock
from mmaction.registry import MODELS
from torch import nn

from mmvideoiq.quant import Pact
from tests.models.toys import any_precision, build, clips, lived_in, slim

SLOW = pytest.mark.slow
FAMILIES = [  # config, converted layers (every convolution but the first), residual blocks, features
    pytest.param(slim(), 5, 2, (16, 16, 16), id="SlimResNet"),
    pytest.param(dict(type="ResNet", depth=18), 19, 8, (512, 1, 1), id="ResNet18"),
    pytest.param(dict(type="ResNet", depth=34), 35, 16, (512, 1, 1), id="ResNet34", marks=SLOW),
    pytest.param(dict(type="ResNet", depth=50), 52, 16, (2048, 1, 1), id="ResNet50"),
    pytest.param(dict(type="ResNet", depth=101), 103, 33, (2048, 1, 1), id="ResNet101", marks=SLOW),
    pytest.param(dict(type="ResNet", depth=152), 154, 50, (2048, 1, 1), id="ResNet152", marks=SLOW),
    pytest.param(dict(type="ResNetTSM", depth=18, num_segments=4), 19, 8, (512, 1, 1), id="ResNetTSM18"),
    pytest.param(
        dict(type="ResNetTSM", depth=50, num_segments=4), 52, 16, (2048, 1, 1), id="ResNetTSM50", marks=SLOW
    ),
    pytest.param(dict(type="MobileNetV2"), 51, 17, (1280, 1, 1), id="MobileNetV2"),
    pytest.param(dict(type="MobileNetV2TSM", num_segments=4), 51, 17, (1280, 1, 1), id="MobileNetV2TSM"),
]


def frames(num: int = 4, size: int = 32) -> torch.Tensor:
    return clips(1, num, size).flatten(0, 1)


@pytest.mark.parametrize("cfg, converted, blocks, shape", FAMILIES)
def test_family_converts_and_equals_the_float_network_at_32_bits(cfg, converted, blocks, shape):
    reference = lived_in(MODELS.build(copy.deepcopy(cfg)))
    actual = MODELS.build(any_precision(cfg))
    missing, unexpected = actual.load_state_dict(reference.state_dict(), strict=False)
    assert not unexpected
    assert all(".clip." in name for name in missing)

    assert len(actual.report.converted) == converted == len(set(actual.report.converted))
    assert len(actual.report.norms) == converted
    assert len(actual.report.block_inputs) == blocks
    assert set(actual.report.left) == {"conv1.conv", "conv1.bn"}

    x = frames()
    for mode in (False, True):
        reference.train(mode)
        actual.train(mode)
        with torch.no_grad():
            expected = reference(x)
            assert torch.equal(actual(x), expected)
            assert actual.forward_all(x)[32].equal(expected)
    actual.eval()
    with torch.no_grad():
        for bits, features in actual.forward_all(x).items():
            assert torch.isfinite(features).all(), bits
            assert features.shape == (4, *([shape[0], 8, 8] if cfg["type"] == "SlimResNet" else shape))


def test_precisions_differ_from_one_another():
    actual = lived_in(build(any_precision())).eval()
    with torch.no_grad():
        features = actual.forward_all(frames())
    assert list(features) == [32, 4, 2]
    for high, low in ((32, 4), (4, 2), (32, 2)):
        assert (features[high] - features[low]).abs().max() > 0.1


def test_gradients_at_32_bits_equal_the_float_networks():
    reference = lived_in(build(slim()))
    actual = build(any_precision())
    actual.load_state_dict(reference.state_dict(), strict=False)
    x = frames()
    reference(x).square().sum().backward()
    actual(x).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in actual.net.named_parameters()}
    for name, parameter in reference.named_parameters():
        leaf = name if name in grads else name.replace("bn.", "bn.norms.32.")
        assert torch.equal(grads[leaf], parameter.grad), name


def test_init_weights_keeps_the_optimizers_parameters():
    """MMEngine builds its optimizer before ``init_weights``, which must fill the same Parameter objects."""
    actual = MODELS.build(any_precision())
    held = {name: id(p) for name, p in actual.named_parameters()}
    before = actual.net.stages[0][0].conv1.conv.weight.clone()
    actual.init_weights()
    assert {name: id(p) for name, p in actual.named_parameters()} == held
    assert not torch.equal(actual.net.stages[0][0].conv1.conv.weight, before)


@pytest.mark.parametrize("bits", [4, 2])
def test_block_input_is_quantized_once_for_convolution_and_shortcut(bits):
    actual = lived_in(build(any_precision())).eval()
    block = actual.net.stages[1][0]
    assert isinstance(block, BasicBlock) and block.downsample is not None
    seen = {}
    for name in ("conv1.conv", "conv2.conv", "downsample.conv"):
        block.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, args[0])
        )
    with torch.no_grad():
        actual.forward_at(frames(), bits)
    assert seen["conv1.conv"] is seen["downsample.conv"]
    clip = block.input_quantizer.clip[str(bits)]
    steps = seen["conv1.conv"] / clip * (2**bits - 1)
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert len(seen["conv1.conv"].unique()) <= 2**bits
    assert seen["conv2.conv"].unique().numel() > 2**bits  # this one its own quantizer reads
    assert block.conv1.conv.act_quantizer is None and block.conv2.conv.act_quantizer is not None


def test_state_dict_names():
    """A contract with the checkpoint converter and with users' checkpoints."""
    names = set(MODELS.build(any_precision(dict(type="ResNet", depth=18))).state_dict())
    for name in (
        "net.conv1.conv.weight",
        "net.conv1.bn.running_mean",
        "net.layer1.0.conv1.conv.weight",
        "net.layer1.0.conv1.bn.norms.32.running_mean",
        "net.layer1.0.conv1.bn.norms.2.weight",
        "net.layer1.0.input_quantizer.clip.4",
        "net.layer1.0.conv2.conv.act_quantizer.clip.4",
        "net.layer2.0.downsample.conv.weight",
        "net.layer2.0.downsample.bn.norms.4.weight",
    ):
        assert name in names, name
    assert not any("clip.32" in name for name in names)


# --- forward_all ---


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("cfg", "stem"),
    [
        (slim(), ["conv1"]),
        (dict(type="MobileNetV2", widen_factor=0.35), ["conv1"]),
        (dict(type="ResNet", depth=18), ["conv1", "maxpool"]),
    ],
    ids=["slim", "mobilenet", "resnet"],
)
def test_forward_all_shares_the_stem_and_equals_separate_passes(cfg, stem, training):
    actual = lived_in(build(any_precision(cfg))).train(training)
    twin = copy.deepcopy(actual)
    runs = []
    for name in stem:
        actual.net.get_submodule(name).register_forward_hook(lambda *_, name=name: runs.append(name))
    x = frames(8, 48)
    together = actual.forward_all(x)
    assert runs == stem
    apart = {bits: twin.forward_at(x, bits) for bits in twin.precisions}
    for bits in apart:
        assert torch.equal(together[bits], apart[bits]), bits

    sum(f.square().mean() for f in together.values()).backward()
    sum(f.square().mean() for f in apart.values()).backward()
    expected = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for name, parameter in actual.named_parameters():
        assert parameter.grad is not None, name
        scale = expected[name].abs().max()
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5 * float(scale) + 1e-7)


def test_forward_all_of_some_precisions():
    actual = build(any_precision(precisions=(8, 4, 2))).eval()
    with torch.no_grad():
        assert list(actual.forward_all(frames(), (8, 2))) == [8, 2]


def test_stem_is_back_after_a_failure_inside_forward_all():
    actual = build(any_precision())
    stem = actual.net.conv1
    with pytest.raises(ValueError, match="precision 3"):
        actual.forward_all(frames(), (32, 3))
    assert actual.net.conv1 is stem
    assert actual.switch.bits == 32


def test_quantized_stem_is_not_shared_and_quantizes_the_frame():
    actual = lived_in(build(any_precision(quantize_stem=True, input_range=(-2.0, 2.0)))).eval()
    assert actual.report.converted[0] == actual.report.stem == "conv1.conv"
    seen = []
    actual.net.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = frames()
    with torch.no_grad():
        actual.forward_all(x)
    assert torch.equal(seen[0], x)
    assert [values.unique().numel() for values in seen[1:]] == [16, 4]


def test_only_the_active_batch_norms_statistics_move():
    actual = build(any_precision())
    norm = actual.net.stages[0][0].conv1.bn
    before = {bits: norm.norms[bits].running_mean.clone() for bits in norm.norms}
    actual.forward_at(frames(), 4)
    moved = {bits for bits in norm.norms if not torch.equal(norm.norms[bits].running_mean, before[bits])}
    assert moved == {"4"}


# --- options of MMAction2 that live inside ---


def test_norm_eval_and_frozen_stages_of_the_host_work_inside():
    cfg = dict(type="ResNet", depth=18, norm_eval=True, frozen_stages=1)
    actual = MODELS.build(any_precision(cfg)).train()
    norms = [m for m in actual.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 1 + 19 * 3
    assert not any(norm.training for norm in norms)
    frozen = {name for name, parameter in actual.net.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in actual.net.named_parameters() if n.startswith(("conv1.", "layer1."))}
    assert actual.net.layer2[0].conv1.conv.training

    before = {name: buffer.clone() for name, buffer in actual.named_buffers()}
    sum(f.mean() for f in actual.forward_all(frames()).values()).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in actual.named_buffers())
    assert actual.net.layer1[0].conv1.conv.weight.grad is None
    assert actual.net.layer2[0].conv1.conv.weight.grad is not None


def test_without_norm_eval_batch_norms_train():
    actual = MODELS.build(any_precision(dict(type="ResNet", depth=18, norm_eval=False))).train()
    assert all(m.training for m in actual.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def test_channels_last_gives_the_same():
    actual = lived_in(build(any_precision())).eval()
    x = frames()
    with torch.no_grad():
        plain = actual.forward_all(x)
        last = actual.to(memory_format=torch.channels_last).forward_all(
            x.to(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(plain[32], last[32], rtol=1e-4, atol=1e-4)
    for bits in (4, 2):  # a sum in another order may land on the other side of a rounding step
        assert ((plain[bits] - last[bits]).abs() > 1e-3).float().mean() < 0.02


def test_a_copy_is_independent_of_its_original():
    actual = lived_in(build(any_precision())).eval()
    x = frames()
    with torch.no_grad():
        before = actual.forward_all(x)
        twin = copy.deepcopy(actual)
        assert twin.switch is not actual.switch
        assert len({id(m.switch) for m in twin.modules() if hasattr(m, "switch")}) == 1
        twin.load_state_dict(lived_in(build(slim(), seed=5), seed=6).state_dict(), strict=False)
        after = actual.forward_all(x)
        assert not torch.allclose(twin.forward_all(x)[2], before[2])
    assert all(torch.equal(before[bits], after[bits]) for bits in before)


def test_frames_of_more_channels():
    actual = build(any_precision(slim(in_channels=10)))
    assert actual(torch.randn(2, 10, 24, 24)).shape[:2] == (2, 16)


def test_a_stem_that_others_change_in_place_is_not_shared():
    cfg = dict(type="OmniResNet", layers=[1, 1, 1, 1])
    actual = MODELS.build(any_precision(cfg))
    x = torch.randn(1, 3, 2, 32, 32)
    sum(features.mean() for features in actual.forward_all(x).values()).backward()
    assert actual.net.layer1[0].conv2.weight.grad.abs().sum() > 0
    actual.eval()
    with torch.no_grad():
        together = actual.forward_all(x)
        for bits in actual.precisions:
            torch.testing.assert_close(together[bits], actual.forward_at(x, bits))


# --- networks over clips ---

OVER_CLIPS = [  # config, converted layers
    pytest.param(
        dict(type="ResNet3d", depth=18, base_channels=4, pretrained=None, pretrained2d=False),
        19,
        id="ResNet3d",
    ),
    pytest.param(  # its attention reads the weight of qkv by itself, which therefore stays float
        dict(type="VisionTransformer", img_size=32, embed_dims=24, depth=2, num_heads=2, num_frames=4),
        6,
        id="VisionTransformer",
    ),
    pytest.param(
        dict(
            type="SwinTransformer3D",
            arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
            pretrained2d=False,
            out_indices=(1,),
        ),
        9,
        id="SwinTransformer3D",
    ),
]


@pytest.mark.parametrize("cfg, converted", OVER_CLIPS)
def test_networks_over_clips_convert_and_equal_the_float_network_at_32_bits(cfg, converted):
    reference, actual = MODELS.build(copy.deepcopy(cfg)), MODELS.build(any_precision(cfg))
    reference.eval()  # of some it returns None
    actual.eval()
    missing, unexpected = actual.load_state_dict(reference.state_dict(), strict=False)
    assert not unexpected and all(".clip." in name for name in missing)
    assert len(actual.report.converted) == converted
    assert actual.reads == "clips" and actual.mixes_frames
    x = torch.randn(2, *actual.sample_shape)
    with torch.no_grad():
        features = actual.forward_all(x)
        torch.testing.assert_close(features[32], reference(x))
    assert not torch.equal(features[4], features[2])
    with pytest.raises(ValueError, match=r"reads clips \(N, C, T, H, W\), got \(2, 3, 8, 8\)"):
        actual(x[:, :, 0, :8, :8])


def test_inputs_of_linear_layers_behind_a_layer_norm_take_both_signs():
    cfg = dict(type="VisionTransformer", img_size=32, embed_dims=24, depth=1, num_heads=2, num_frames=4)
    actual = MODELS.build(any_precision(cfg))
    quantizers = {name: m.signed for name, m in actual.net.named_modules() if isinstance(m, Pact)}
    assert quantizers and all(quantizers.values())
    norms = [m for m in actual.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 3  # one for all precisions: it keeps no statistics


# --- refusals ---


@pytest.mark.parametrize(
    "backbone, message",
    [
        (dict(type="ResNet", depth=18, with_cp=True), "backbone.with_cp=True .*gradient checkpointing"),
        (dict(type="ResNet", depth=18, partial_bn=True), "backbone.partial_bn=True .*counts batch norms"),
        (
            dict(type="ResNet", depth=18, out_indices=(2, 3)),
            r"backbone.out_indices=\(2, 3\).*one feature map",
        ),
        (
            dict(
                type="ResNet3dSlowFast",
                slow_pathway=dict(type="resnet3d", depth=18, pretrained=None, lateral=False, with_cp=True),
            ),
            "backbone.slow_pathway.with_cp=True .*gradient checkpointing",
        ),
        (dict(type="STGCN"), "backbone.type='STGCN' cannot be .*reads skeletons"),
        (dict(type="ResNetAudio", depth=18), "backbone.type='ResNetAudio' cannot be .*spectrograms"),
        (dict(depth=18), r"backbone=\{'depth': 18\} has no type"),
        (
            dict(type="ResNett", depth=18),
            "backbone.type='ResNett' is not in the model registry; closest are ResNet, ",
        ),
        (dict(type="Zzz"), "'Zzz' is not in the model registry; there are AAGCN, C2D"),
        (
            dict(type="TimeSformer", num_frames=4, img_size=64, patch_size=32, embed_dims=24, num_heads=2),
            r"'TimeSformer' does not run on clips of shape \(3, 4, 32, 32\): .*; give sample_shape",
        ),
    ],
)
def test_refused_by_name(backbone, message):
    options = dict(sample_shape=(3, 4, 32, 32)) if backbone.get("type") == "TimeSformer" else {}
    with pytest.raises(ValueError, match=message):
        MODELS.build(any_precision(backbone, **options))


@pytest.mark.parametrize(
    "name, package",
    [
        ("mmpretrain.ResNet", "mmpretrain"),
        ("timm.resnet18", "timm"),
        ("torchvision.resnet18", "torchvision"),
        ("MobileOneTSM", "mmpretrain"),
    ],
)
def test_a_missing_package_is_named(name, package, monkeypatch):
    if name != "MobileOneTSM":
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.models", None)
    elif MODELS.get(name) is not None:
        pytest.skip("mmpretrain is installed")
    with pytest.raises(
        (ImportError, KeyError), match=f"{package}.* (not installed|is not).*pip install {package}"
    ):
        MODELS.build(any_precision(dict(type=name)))


def test_an_operation_that_needs_a_full_mmcv_says_so():
    if importlib.util.find_spec("mmcv._ext") is not None:
        pytest.skip("a full mmcv is installed")
    cfg = dict(type="ResNetTIN", depth=50, num_segments=4, pretrained=None)
    with pytest.raises(ImportError, match=r"backbone.type='ResNetTIN' cannot run here: .*tin_shift"):
        MODELS.build(any_precision(cfg))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(precisions=()), "precisions is empty"),
        (dict(precisions=(2, 4, 32)), r"precisions=\(2, 4, 32\) must go from high to low"),
        (dict(precisions=(32, 4, 4)), r"precisions=\(32, 4, 4\) must go .* without repetition"),
        (dict(precisions=(64, 4)), "64 is not a whole number of bits in 1..32"),
        (dict(weight=dict(type="magic")), r"weight=dict\(type='magic'\): unknown quantizer"),
        (dict(activation=dict(type="relu9")), r"activation=dict\(type='relu9'\): unknown quantizer"),
        (dict(quantize_stem=True), "quantize_stem=True and input_range=None"),
        (dict(input_range=(0, 1)), "quantize_stem=False and input_range"),
        (dict(quantize_stem=True, input_range=(1, 1)), r"input_range=\(1, 1\) must go from low to high"),
        (dict(exclude=("layer9*",)), "'layer9\\*' .*matches no layer"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(any_precision(**options))


def test_built_in_inference_mode():
    """Exported models are built and run there; its tensors do not count their changes."""
    cfg = dict(type="AnyPrecisionBackbone", backbone=dict(type="ResNet", depth=18), precisions=(32, 4))
    with torch.inference_mode():
        inside = MODELS.build(cfg)
    assert inside._stem == MODELS.build(cfg)._stem != ()
