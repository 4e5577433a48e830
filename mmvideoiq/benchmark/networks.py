"""The networks of the inference benchmark, with random weights: MMAction2's and its exports, and bundles of ours."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.benchmark.inference_settings import POLICIES, InferSettings, preprocessing_of
from mmvideoiq.video.reader import read_frames

CLASSES = 200
CALIBRATION_CLIPS = 3
CONFIG = """\
model = dict(
    type="Recognizer2D",
    backbone=dict(type="ResNet", depth={depth}),
    cls_head=dict(type="TSNHead", num_classes={classes}, in_channels={channels}, average_clips="prob"),
    data_preprocessor=dict(
        type="ActionDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], format_shape="NCHW"
    ),
)
test_pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips={frames}, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, {short_side})),
    dict(type="CenterCrop", crop_size={size}),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]
"""


def write_peers(settings: InferSettings, folder: Path, frames: np.ndarray) -> dict[str, str]:
    """MMAction2's TSN with random weights: config, checkpoint, ONNX, OpenVINO, OpenVINO after static quantization."""
    import openvino as ov
    import torch
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmvideoiq.deploy.export.static_int8 import FramesToScores, write_static_int8
    from mmvideoiq.latency.contenders import MEAN, STD

    files = {
        key: str(folder / name)
        for key, name in dict(
            config="tsn.py", checkpoint="tsn.pth", onnx="tsn.onnx", openvino="tsn.xml", int8="tsn_int8.xml"
        ).items()
    }
    text = CONFIG.format(
        depth=settings.depth,
        classes=CLASSES,
        channels=channels_of(settings.depth),
        frames=settings.frames,
        size=settings.size,
        short_side=256 * settings.size // 224,
    )
    Path(files["config"]).write_text(text)
    init_default_scope("mmaction")
    model = MODELS.build(Config.fromfile(files["config"]).model)
    model.init_weights()
    vary_norms(model)
    model.eval()
    torch.save({"state_dict": model.state_dict()}, files["checkpoint"])

    end_to_end = FramesToScores(model.backbone, model.cls_head.fc_cls, mean=MEAN, std=STD).eval()
    sample = torch.from_numpy(frames)
    torch.onnx.export(end_to_end, (sample,), files["onnx"], dynamo=False)
    converted = ov.convert_model(
        end_to_end, example_input=sample, input=[ov.PartialShape(list(sample.shape))]
    )
    ov.save_model(converted, files["openvino"], compress_to_fp16=False)
    noise = np.random.default_rng(1).integers(-20, 21, (CALIBRATION_CLIPS, *frames.shape))
    clips = [(frames + shift).clip(0, 255).astype(np.uint8) for shift in noise]
    write_static_int8(end_to_end, clips, Path(files["int8"]))
    return files


def write_static(
    model: str, video: Path, settings: InferSettings, side: Fraction, count: Fraction
) -> dict[str, Any]:
    """What differs in the spec of static INT8 on smaller or fewer frames; the whole is ``model`` itself."""
    if side == count == 1:
        return dict(model=model)
    import openvino as ov

    size, frames = int(settings.size * side), max(1, int(settings.frames * count))
    shape, path = preprocessing_of(size, frames), Path(model).with_name(f"tsn_int8_{size}x{frames}")
    network = ov.Core().read_model(model)
    network.reshape([frames, size, size, 3])
    ov.save_model(network, path.with_suffix(".xml"), compress_to_fp16=False)
    np.save(path.with_suffix(".npy"), read_frames(video, shape))
    return dict(
        model=str(path.with_suffix(".xml")),
        clip=str(path.with_suffix(".npy")),
        preprocessing=shape._replace(reader="decord")._asdict(),
    )


def write_bundle(
    settings: InferSettings, path: Path, actions: Sequence[dict[str, int]], frames: np.ndarray
) -> None:
    """A bundle with random weights: the same backbone and a policy, their clips fitted to the frames."""
    import torch
    from mmaction.registry import MODELS

    import mmvideoiq.models  # noqa: F401
    from mmvideoiq.deploy.export import export
    from mmvideoiq.latency.contenders import MEAN, STD

    weight = dict(type=settings.weight)
    if settings.weight != "dorefa":
        weight["per_channel"] = settings.per_channel
    backbone = dict(
        type="AnyPrecisionBackbone",
        backbone=dict(type="ResNet", depth=settings.depth),
        precisions=list(actions),
        weight=weight,
    )
    if not settings.float_stem:
        backbone |= dict(quantize_stem=True, input_range=black_to_white())
    chosen = POLICIES[settings.policy]
    net = chosen["backbone"]
    if settings.policy != "float":
        net = dict(type="AnyPrecisionBackbone", backbone=net, precisions=(8,), weight=dict(type="nested"))
        net |= dict(quantize_stem=True, input_range=black_to_white())
    policy = dict(
        type="PrecisionPolicy",
        backbone=net,
        head=dict(type="PolicyHead", in_channels=chosen["channels"], hidden=chosen["hidden"]),
        input_size=chosen["size"],
    )
    model = MODELS.build(
        dict(
            type="VideoIQRecognizer",
            backbone=backbone,
            policy=policy,
            cls_head=dict(
                type="FrameAverageHead", num_classes=CLASSES, in_channels=channels_of(settings.depth)
            ),
            actions=dict(actions=[*actions, dict(skip=1)], frame_size=settings.size),
            data_preprocessor=dict(type="ActionDataPreprocessor", mean=MEAN, std=STD, format_shape="NCHW"),
        )
    )
    model.init_weights()
    vary_norms(model)
    model.eval()
    normalized = (torch.from_numpy(frames).float() - torch.tensor(MEAN)) / torch.tensor(STD)
    normalized = normalized.permute(0, 3, 1, 2).contiguous()
    model.backbone.calibrate_(normalized)
    if settings.policy != "float":
        model.policy.calibrate_(normalized)
    classes = [str(k) for k in range(CLASSES)]
    export(model, path, classes=classes, preprocessing=preprocessing_of(settings.size, settings.frames))


def black_to_white() -> tuple[float, float]:
    """Lowest and highest value of a normalized frame."""
    from mmvideoiq.latency.contenders import MEAN, STD

    mean, std = np.array(MEAN), np.array(STD)
    return float((-mean / std).min()), float(((255 - mean) / std).max())


def channels_of(depth: int) -> int:
    """Of a ResNet's last feature map."""
    return 512 if depth < 50 else 2048


def vary_norms(model: Any) -> None:
    """Batch norms as in a trained network: at their first values they fold into biases of zero, which engines drop."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
