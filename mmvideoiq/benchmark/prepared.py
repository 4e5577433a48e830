"""The contenders of the inference benchmark: settings, files, and the specs that ``contenders.py`` runs.

All are one network with random weights of one seed: MMAction2's, its exports, and mmvideoiq's bundles.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvideoiq.fileio import write_text
from mmvideoiq.quant.quantizers import WEIGHT_QUANTIZERS
from mmvideoiq.video.preprocessing import Preprocessing
from mmvideoiq.video.reader import read_frames


class Mix(NamedTuple):
    """A bundle of ours, and the share of frames that each action and then the skip gets.

    Attributes:
        modes: bits, and the part of the frame's side.
    """

    modes: Sequence[tuple[int, Fraction]]
    usage: Sequence[float]

    def actions(self, size: int) -> list[dict[str, int]]:
        """Without the skip, of frames of this size."""
        return [
            dict(bits=bits) if part == 1 else dict(bits=bits, size=int(size * part))
            for bits, part in self.modes
        ]


WHOLE, MIDDLE, HALF = Fraction(1), Fraction(5, 7), Fraction(1, 2)  # of the frame's side: 224, 160, 112
PAPER_USAGE = (0.2, 0.3, 0.2, 0.3)
MIXES = {
    "ours-32-4-2": Mix([(bits, WHOLE) for bits in (32, 4, 2)], PAPER_USAGE),
    "ours-8-4-2": Mix([(bits, WHOLE) for bits in (8, 4, 2)], PAPER_USAGE),
    "ours-8-sizes": Mix([(8, part) for part in (WHOLE, MIDDLE, HALF)], (0.3, 0.0, 0.4, 0.3)),
}
FP32 = ("onnxruntime-fp32", "openvino-fp32")
#: Static INT8 of smaller or fewer frames: part of the side, part of the frames.
STATIC = {
    "openvino-int8": (WHOLE, WHOLE),
    "openvino-int8-middle-size": (MIDDLE, WHOLE),
    "openvino-int8-half-size": (HALF, WHOLE),
    "openvino-int8-half-frames": (WHOLE, HALF),
    "openvino-int8-quarter-frames": (WHOLE, HALF * HALF),
}
PEERS = ("mmaction2-eager", "torch-compile", *FP32, "openvino-auto", *STATIC)
#: Settings that the files depend on.
BUILT_FROM = (
    *("depth", "size", "frames", "threads", "engine", "weight", "per_channel", "float_stem", "policy"),
    *("video", "sampling", "tolerance"),
)
POLICY_SIZE = 84
MOBILENET = dict(
    backbone=dict(type="MobileNetV2", out_indices=(7,)), channels=1280, hidden=512, size=POLICY_SIZE
)
SLIM = dict(type="SlimResNet", base_channels=16, stage_blocks=(1, 1, 1, 1))
#: Policies of ours: the paper's, in float and at 8 bits, and that of configs/_base_/models/integer_policy.py.
POLICIES: dict[str, dict[str, Any]] = {
    "float": MOBILENET,
    "int8": MOBILENET,
    "tiny": dict(backbone=SLIM, channels=128, hidden=128, size=64),
}
CLASSES = 200
CALIBRATION_CLIPS = 3


@dataclass(frozen=True, kw_only=True)
class InferSettings:
    """What :func:`measure_inference` measures: clips of ``frames`` at ``size``, in ``repeats`` rounds."""

    depth: int = 50
    size: int = 224
    frames: int = 16
    threads: int = 2
    repeats: int = 17
    warmup: int = 3
    engine: str = "openvino"
    weight: str = "nested"
    per_channel: bool = False  # nested and lsq: a weight scale for each output channel, not one for the layer
    float_stem: bool = False  # as in the paper: the frame and the first convolution stay float
    policy: str = "tiny"  # of ours, one of POLICIES
    video: Path | None = None  # from file to label of this one; None makes one of 10 seconds
    sampling: str = "nearby"  # how ours reads it; the others read the exact frames with decord
    tolerance: int = 3  # seconds that a key frame may be away
    only: Sequence[str] = ()  # of the contenders; empty for all

    def __post_init__(self) -> None:
        unknown = sorted(set(self.only) - {*PEERS, *MIXES})
        if unknown:
            raise ValueError(f"only={', '.join(unknown)}: choose among {', '.join([*PEERS, *MIXES])}")
        if self.depth not in (18, 34, 50, 101, 152):
            raise ValueError(f"depth={self.depth} must be one of 18, 34, 50, 101, 152")
        for field, least in dict(frames=1, threads=1, repeats=2, warmup=1).items():
            if getattr(self, field) < least:
                raise ValueError(f"{field}={getattr(self, field)} must be at least {least}")
        if self.weight not in WEIGHT_QUANTIZERS:
            raise ValueError(f"weight={self.weight!r} must be one of {sorted(WEIGHT_QUANTIZERS)}")
        if self.policy not in POLICIES:
            raise ValueError(f"policy={self.policy!r} must be one of {', '.join(POLICIES)}")
        if self.per_channel and self.weight == "dorefa":
            raise ValueError("per_channel is for weight='nested' and 'lsq': dorefa has one scale for a layer")
        if self.size < POLICY_SIZE:
            raise ValueError(f"size={self.size} must be at least {POLICY_SIZE}, the policy's own")
        preprocessing_of(self.size, self.frames)._replace(
            sampling=self.sampling, tolerance_s=self.tolerance
        ).checked()


def prepared(settings: InferSettings, folder: Path, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Name -> spec of the contenders in ``folder``: those of an earlier run with the same settings, or new ones."""
    file = folder / "specs.json"
    wanted = {name: getattr(settings, name) for name in BUILT_FROM}
    wanted["video"] = settings.video and str(settings.video)
    if file.is_file():
        found = json.loads(file.read_text())
        if found["settings"] == wanted:
            log(f"contenders of an earlier run: {folder}")
            return found["specs"]
        file.unlink()
    with quiet():
        specs = prepare(settings, folder, log)
    write_text(file, json.dumps(dict(settings=wanted, specs=specs)))
    return specs


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MMAction2's log of each initialized parameter, and the output and warnings of exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def prepare(settings: InferSettings, folder: Path, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Build the contenders' files, random weights of one seed, and a video; returns name -> spec."""
    import torch

    from mmvideoiq.deploy.bundle.bundle import Bundle

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    video, clip = settings.video or folder / "video.mp4", folder / "clip.npy"
    if settings.video is None:
        log("a video")
        write_video(video, rng)
    shape = preprocessing_of(settings.size, settings.frames)
    reading = dict(sampling=settings.sampling, tolerance_s=settings.tolerance)
    common = dict(threads=settings.threads, videos=[str(video)], clip=str(clip))
    frames = read_frames(video, shape)
    np.save(clip, frames)
    log("the float network: MMAction2, ONNX, OpenVINO, static INT8")
    files = write_peers(settings, folder, frames)
    host = dict(kind="mmaction2", config=files["config"], checkpoint=files["checkpoint"])
    specs: dict[str, dict[str, Any]] = {
        "mmaction2-eager": dict(host, compile=False),
        "torch-compile": dict(host, compile=True),
        "onnxruntime-fp32": dict(kind="onnxruntime", model=files["onnx"]),
        "openvino-fp32": dict(kind="openvino", model=files["openvino"], precision="f32"),
        "openvino-auto": dict(kind="openvino", model=files["openvino"], precision=None),
    }
    for name, (side, count) in STATIC.items():
        log(name)
        specs[name] = dict(
            kind="openvino", precision="f32", **write_static(files["int8"], settings, side, count)
        )
    by_decord = common | dict(preprocessing=shape._replace(reader="decord")._asdict())
    specs = {name: by_decord | spec for name, spec in specs.items()}
    for name, mix in MIXES.items():
        log(f"{name}: a bundle")
        path = folder / name
        write_bundle(settings, path, mix.actions(settings.size), frames)
        Bundle.open(path)
        specs[name] = common | dict(
            kind="ours",
            bundle=str(path),
            engine=settings.engine,
            usage=mix.usage,
            preprocessing=shape._replace(**reading)._asdict(),
        )
    return specs


def write_static(model: str, settings: InferSettings, side: Fraction, count: Fraction) -> dict[str, Any]:
    """What differs in the spec of static INT8 on smaller or fewer frames; the whole is ``model`` itself."""
    if side == count == 1:
        return dict(model=model)
    import openvino as ov

    size, frames = int(settings.size * side), max(1, int(settings.frames * count))
    folder, shape = Path(model).parent, preprocessing_of(size, frames)
    path = folder / f"tsn_int8_{size}x{frames}"
    network = ov.Core().read_model(model)
    network.reshape([frames, size, size, 3])
    ov.save_model(network, path.with_suffix(".xml"), compress_to_fp16=False)
    video = settings.video or folder / "video.mp4"
    np.save(path.with_suffix(".npy"), read_frames(video, shape))
    return dict(
        model=str(path.with_suffix(".xml")),
        clip=str(path.with_suffix(".npy")),
        preprocessing=shape._replace(reader="decord")._asdict(),
    )


def preprocessing_of(size: int, frames: int) -> Preprocessing:
    """As usual in testing: the short side 256 / 224 of the crop."""
    return Preprocessing(frames, 256 * size // 224, size, (size, size))


def write_video(
    path: Path, rng: np.random.Generator, *, width: int = 340, height: int = 256, frames: int = 300
) -> None:
    """Ten seconds of moving blobs, H.264, as large as videos are kept for training."""
    import av
    import cv2

    low = rng.integers(0, 256, (8, 9, 12, 3), dtype=np.uint8)
    keys = np.stack(
        [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in low]
    ).astype(float)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            place = t / frames * (len(keys) - 1)
            share = place - int(place)
            image = (1 - share) * keys[int(place)] + share * keys[int(place) + 1]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(image.clip(0, 255).astype(np.uint8)), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


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


def black_to_white() -> tuple[float, float]:
    """Lowest and highest value of a normalized frame."""
    from mmvideoiq.latency.contenders import MEAN, STD

    mean, std = np.array(MEAN), np.array(STD)
    return float((-mean / std).min()), float(((255 - mean) / std).max())


def _channels(depth: int) -> int:
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
        channels=_channels(settings.depth),
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
                type="FrameAverageHead", num_classes=CLASSES, in_channels=_channels(settings.depth)
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
