"""Fixtures shared by all tests; patches MMAction2 before any test imports it."""

import importlib.util
import os
import random
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mmvideoiq import compat

compat.apply()

from mmengine.registry import DefaultScope

torch.set_num_threads(1)  # tests run side by side

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _default_scope() -> Iterator[None]:
    """What a test names MMAction2's registries by is not left to the next one."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data: MMVIDEOIQ_SHARED, or ``shared`` beside the repository."""
    path = Path(os.environ.get("MMVIDEOIQ_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference data at {path}; set MMVIDEOIQ_SHARED")
    return path


def load_module(path: Path) -> types.ModuleType:
    """Import a Python file that is not in a package."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], types.ModuleType]:
    """Import a file of ``tools/`` by its path below it, for example ``load_tool("train.py")``."""

    return lambda name: load_module(ROOT / "tools" / name)


def write_video(path: Path, frames: np.ndarray, fps: int = 10) -> None:
    """Write RGB frames (T, H, W, 3) uint8, H and W even, as an MP4."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 videos of 8 frames (32x32), dark ones of class 0, bright ones of class 1, and a ``list.txt``."""
    folder = tmp_path_factory.mktemp("tiny_videos")
    rng = np.random.default_rng(0)
    lines = []
    for i in range(8):
        label = i % 2
        frames = rng.integers(0, 40, size=(8, 32, 32, 3)) + 180 * label
        write_video(folder / f"{i}.mp4", frames.astype(np.uint8))
        lines.append(f"{i}.mp4 {label}")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def tsn_config(tiny_videos: Path) -> Path:
    """A config of MMAction2's TSN (ResNet-18) on ``tiny_videos``: one epoch, nothing of this project in it."""
    text = f"""
default_scope = "mmaction"
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=1),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, save_best="acc/top1"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    sync_buffers=dict(type="SyncBuffersHook"),
)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl"))
log_level = "WARNING"
model = dict(
    type="Recognizer2D",
    backbone=dict(type="ResNet", depth=18, pretrained=None),
    cls_head=dict(type="TSNHead", num_classes=2, in_channels=512, dropout_ratio=0.0, average_clips="prob"),
    data_preprocessor=dict(
        type="ActionDataPreprocessor", mean=[127.5] * 3, std=[60.0] * 3, format_shape="NCHW"
    ),
)
pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]
dataset = dict(
    type="VideoDataset", ann_file=r"{tiny_videos / "list.txt"}", data_prefix=dict(video=r"{tiny_videos}"),
    pipeline=pipeline,
)
sampler = dict(type="DefaultSampler", shuffle=False)
val_dataloader = dict(batch_size=4, num_workers=0, sampler=sampler, dataset=dataset)
test_dataloader = val_dataloader
train_dataloader = dict(val_dataloader, sampler=dict(type="DefaultSampler", shuffle=True))
val_evaluator = dict(type="AccMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9))
param_scheduler = [dict(type="MultiStepLR", milestones=[1], gamma=0.5)]
randomness = dict(seed=3)
"""
    path = tiny_videos / "tsn.py"
    path.write_text(text)
    return path
