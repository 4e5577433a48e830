"""A float recognizer of MMAction2 as a file of OpenVINO, quantized to 8 bits after training (NNCF): the plain rival.

Axes: T frames, H W, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.actions import resized_shape
from mmvideoiq.deploy.engines.openvino_engine import process_core

CALIBRATION_FRAMES = 320
"""NNCF's own default is 300 samples."""


class FramesToScores(nn.Module):
    """Frames uint8 (T, H, W, 3) -> probabilities (1, K), of a network that averages its frames' features.

    Args:
        mean, std: of the normalization, length 3.
        size: short side to which frames are resized (bilinear); None keeps theirs.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Linear,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.classifier, self.size = backbone, classifier, size
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, frames: Tensor) -> Tensor:
        x = ((frames.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        if self.size not in (None, min(x.shape[2:])):
            shape = resized_shape(int(x.shape[2]), int(x.shape[3]), self.size)
            x = F.interpolate(x, size=shape, mode="bilinear", align_corners=False)
        return self.classifier(self.backbone(x).mean((2, 3)).mean(0, keepdim=True)).softmax(-1)


def write_static_int8(network: nn.Module, clips: Iterable[np.ndarray], path: Path) -> None:
    """Quantize ``network`` on calibration clips and write it to ``path`` (.xml, beside it .bin).

    Args:
        network: frames uint8 (T, H, W, 3) -> probabilities, in eval mode.
        clips: uint8 (T, H, W, 3), all of one shape.

    Raises:
        ModuleNotFoundError: without nncf.
    """
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    clips = list(clips)
    sample = torch.from_numpy(clips[0])
    converted = ov.convert_model(network, example_input=sample, input=[ov.PartialShape(list(sample.shape))])
    quantized = nncf.quantize(converted, nncf.Dataset(clips), subset_size=len(clips))
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantized, path, compress_to_fp16=False)


def open_static_int8(path: Path, *, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Frames uint8 (T, H, W, 3) -> probabilities (K,), in OpenVINO."""
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = process_core().compile_model(str(path), "CPU", config).create_infer_request()
    return lambda frames: np.array(request.infer([frames])[0][0])
