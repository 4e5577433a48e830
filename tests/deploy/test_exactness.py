"""Engines compute what training-time testing computes: whole networks, real frames, code by code.

Random weights make of one code that falls to the other side of a tie another picture, so these networks are compared
layer by layer (:mod:`mmvideoiq.deploy.export.verify`). The trained demo is compared from end to end.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.data.synthetic import make_clip
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.factory import ENGINES, open_engine
from mmvideoiq.deploy.export import Preprocessing, export, verify
from mmvideoiq.deploy.export.from_config import load
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.video.preprocessing import Preprocessing as Steps
from mmvideoiq.video.reader import read_frames
from tests.conftest import ROOT
from tests.models.toys import any_precision, build, lived_in, slim

FRAMES, CLASSES = 4, 6
FLOOR_DB = 40.0  # of a trained network from end to end
BF16_FLOOR_DB = 30.0  # of the demo's logits; seen: 36
IMAGENET = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)
UNIT = dict(IMAGENET, mean=[0.0] * 3, std=[255.0] * 3)
RESNET = dict(type="ResNet", depth=18, pretrained=None)
TSM = dict(num_segments=FRAMES, shift_div=8, pretrained2d=False)
SLOW = pytest.mark.slow


class Case(NamedTuple):
    backbone: dict
    features: int
    precisions: tuple[int | str, ...] = (8, 4, 2)
    weight: str = "nested"
    size: int = 64
    options: dict = {}
    preprocessor: dict = IMAGENET


ALIGNED = dict(quantize_stem=True, input_range=(0.0, 1.0))  # at 8 bits each pixel is a level
CASES = {
    "slim": Case(slim(), 16, (32, 8, 4, 2, 1), "lsq", 48),
    "slim-sizes": Case(slim(), 16, (32, "32@24", 8, "8@36", "8@24", "4@48", "2@24"), size=48),
    "mobilenet_v2-quarter": Case(dict(type="MobileNetV2", widen_factor=0.25), 1280, (8, 4)),
    "slim-sizes-stem": Case(
        slim(), 16, (8, "8@40", "8@24", "4@24"), size=48, options=ALIGNED, preprocessor=UNIT
    ),
    "resnet18": Case(RESNET, 512, (32, 8, 4, 2), size=112),
    "resnet18-dorefa": Case(RESNET, 512, weight="dorefa", size=112),
    "resnet18-sizes": Case(RESNET, 512, (8, "8@160", "8@112", "4@80"), size=224),
    "resnet50": Case(dict(RESNET, depth=50), 2048, (32, 4, 2), size=112),
    "resnet50-8": Case(dict(RESNET, depth=50), 2048, weight="dorefa", size=112),
    "mobilenet_v2": Case(dict(type="MobileNetV2"), 1280, (32, 8, 4, 2), size=112),
    "resnet_tsm": Case(dict(RESNET, type="ResNetTSM", **TSM), 512),
    "resnet50_tsm": Case(dict(RESNET, type="ResNetTSM", depth=50, **TSM), 2048),
    "mobilenet_v2_tsm": Case(dict(type="MobileNetV2TSM", **TSM), 1280, (32, 8, 4)),
}
FAST = ("slim", "slim-sizes", "slim-sizes-stem")


@pytest.fixture(scope="module", autouse=True)
def _mmaction_scope() -> Iterator[None]:
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    MMLogger.get_current_instance().setLevel("ERROR")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def frames_of(size: int) -> np.ndarray:
    """Two clips, uint8 (2 FRAMES, size, size, 3): real ones where there are any, else smooth noise."""
    shared = ROOT.parent / "shared/data/fights/videos"
    videos = sorted(shared.rglob("*.mp4"))[::120][:2]
    if videos:
        steps = Steps(FRAMES, size * 8 // 7, size, (size, size))
        return np.concatenate([read_frames(video, steps) for video in videos])
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * FRAMES, 3, 9, 9, generator=generator)
    fine = F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return (255 * fine).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in FAST else SLOW) for name in CASES],
)
def prepared(request, tmp_path_factory) -> tuple[nn.Module, Bundle, np.ndarray]:
    """A model whose norms and clips suit the frames, its bundle, and the frames."""
    case = CASES[request.param]
    torch.manual_seed(0)
    model = build(
        dict(
            type="AnyPrecisionRecognizer",
            backbone=any_precision(
                case.backbone,
                precisions=case.precisions,
                weight=dict(type=case.weight),
                **case.options,
            ),
            cls_head=dict(type="TSNHead", num_classes=CLASSES, in_channels=case.features),
            data_preprocessor=case.preprocessor,
        )
    )
    frames = frames_of(case.size)
    settle(model, normalized(model, frames))
    path = tmp_path_factory.mktemp(request.param) / "bundle"
    export(
        model,
        path,
        classes=[str(k) for k in range(CLASSES)],
        preprocessing=Preprocessing(frames=FRAMES, crop=case.size),
    )
    return model, Bundle.open(path), frames


@torch.no_grad()
def settle(model: nn.Module, x: Tensor) -> None:
    """Norms that have seen ``x``, as after training, affine numbers of their own, and clips that fit."""
    lived_in(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
            module.train()
    model.backbone.forward_at(x, model.backbone.modes[0])
    model.eval()
    model.backbone.calibrate_(x)


def normalized(model: nn.Module, frames: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return model.data_preprocessor.preprocess([pixels], None)[0][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_computes_what_the_simulation_computes(prepared, engine):
    pytest.importorskip(engine)
    model, bundle, frames = prepared
    weight, bias = (torch.from_numpy(array).double() for array in bundle.head())
    for mode in bundle.actions.modes:
        found = verify.compare(model, bundle, open_engine(engine, threads=1), frames, mode)
        print(
            f"{engine} {mode}: {found.near} of {found.codes} near a tie, {found.differing} differ, at most "
            f"{found.distance:.4f} steps from it; {found.decibels:.1f} dB"
        )
        assert found.problem is None
        assert (found.codes > 0) == (not str(mode).startswith("32"))
        got, want = (rows.double() @ weight.T + bias for rows in (found.features, found.expected))
        assert verify.decibels(got, want) >= verify.FLOOR_DB
        clips = [rows.unflatten(0, (-1, FRAMES)).mean(1) for rows in (got, want)]
        best = clips[1].topk(2).values
        apart = (best[:, 0] - best[:, 1]) > 1e-4
        assert torch.equal(clips[0].argmax(-1)[apart], clips[1].argmax(-1)[apart]), mode


# --- trained networks: nothing is given, label by label ---------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> tuple[nn.Module, list[np.ndarray]]:
    """The shipped model of the demo, and clips of every class and kind."""
    model = MODELS.build(Config.fromfile(ROOT / "configs/videoiq/demo_videoiq.py").model).eval()
    load(model, str(ROOT / "zoo/demo/demo_videoiq.pth"))
    rng = np.random.default_rng(7)
    kinds = [(label, kind) for label in range(8) for kind in ("bold", "medium", "faint")]
    return model, [make_clip(rng, label=label, kind=kind)[0] for label, kind in kinds]


@pytest.mark.parametrize(
    ("engine", "floats"), [*((engine, "f32") for engine in ENGINES), ("openvino", "auto")]
)
@torch.no_grad()
def test_the_shipped_demo_decides_and_answers_as_in_testing(demo, engine, floats):
    """Also where its frames at 32 bits run in bf16."""
    pytest.importorskip(engine)
    model, clips = demo
    session = VideoSession.open(
        ROOT / "zoo/demo/demo_videoiq_bundle", engine=engine, threads=1, float_precision=floats
    )
    floor = FLOOR_DB if session.engine.float_precision == "f32" else BF16_FLOOR_DB
    for action in (None, 0, 1, 2):  # the policy's choice, or one action for all frames
        model.set_fixed_action(None if action is None else session.actions[action].bits)
        logits: list[list[Tensor]] = [[], []]
        for clip in clips:
            want = model.recognize(normalized(model, clip)[None])
            got = session.run(clip, actions=None if action is None else np.full(len(clip), action))
            if action is None:
                best = want.policy.log_probs[0].topk(2).values
                apart = (best[:, 0] - best[:, 1]) > 1e-4
                assert apart.any()
            else:
                apart = torch.ones(len(clip), dtype=torch.bool)
            assert torch.equal(torch.from_numpy(got.actions)[apart], want.actions[0][apart])
            logits[0].append(torch.from_numpy(got.logits))
            logits[1].append(want.logits[0])
        ours, theirs = map(torch.stack, logits)
        assert verify.decibels(ours, theirs) >= floor, action
        assert torch.equal(ours.argmax(-1), theirs.argmax(-1)), action
