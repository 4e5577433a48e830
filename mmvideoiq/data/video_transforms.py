"""MMAction2's ``DecordInit`` and ``DecordDecode`` with this project's reader: the right frames of any file.

pipeline = [dict(type="VideoInit"), dict(type="SampleFrames", ...), dict(type="VideoDecode"), ...]
"""

import logging
from typing import Any

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mmvideoiq.video.av_reader import SAMPLING, AvReader


@TRANSFORMS.register_module()
class VideoInit(BaseTransform):
    """Open a video: drop-in for ``DecordInit``.

    Needs ``filename``; adds ``video_reader``, ``total_frames`` and ``avg_fps``.

    Args:
        num_threads: of the decoder, >= 1.
        time_limit_s: for listing the frames, and again for decoding those that are wanted.

    Raises:
        VideoError: the file cannot be read; ``CheckedVideoDataset`` replaces such a clip or leaves it out.
    """

    def __init__(self, *, num_threads: int = 1, time_limit_s: float = 60.0) -> None:
        if num_threads < 1 or time_limit_s <= 0:
            raise ValueError(
                f"VideoInit needs num_threads >= 1 and time_limit_s > 0, got {num_threads} and {time_limit_s}"
            )
        self.num_threads, self.time_limit_s = num_threads, time_limit_s

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        reader = AvReader(results["filename"], threads=self.num_threads, time_limit_s=self.time_limit_s)
        results.update(video_reader=reader, total_frames=len(reader), avg_fps=reader.rate)
        return results


@TRANSFORMS.register_module()
class VideoDecode(BaseTransform):
    """Decode the sampled frames: drop-in for ``DecordDecode``.

    Needs ``video_reader`` (of ``VideoInit``) and ``frame_inds``; adds ``imgs``, ``original_shape``, ``img_shape`` and
    ``lost_frames``, how many of them are damaged (``AvReader.lost``); the first time, a video's are logged.

    Args:
        sampling: 'exact', 'nearby' or 'keyframe' (:meth:`mmvideoiq.video.av_reader.AvReader.read`).
        tolerance_s: how far away a key frame may be, in seconds, with 'keyframe'.
    """

    def __init__(self, *, sampling: str = "exact", tolerance_s: float = 1.0) -> None:
        if sampling not in SAMPLING:
            raise ValueError(f"VideoDecode sampling={sampling!r} must be one of {SAMPLING}")
        if tolerance_s < 0:
            raise ValueError(f"VideoDecode tolerance_s={tolerance_s} must not be negative")
        self.sampling, self.tolerance_s = sampling, tolerance_s
        self._logged: set[str] = set()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        reader: AvReader = results["video_reader"]
        results["frame_inds"] = np.asarray(results["frame_inds"]).reshape(-1)
        places = results["frame_inds"].clip(0, len(reader) - 1)
        images = reader.read(places, sampling=self.sampling, tolerance_s=self.tolerance_s)
        if reader.lost and reader.path not in self._logged:
            self._logged.add(reader.path)
            text = f"{reader.path}: {reader.lost} of {len(images)} frames are damaged"
            print_log(text, logger="current", level=logging.WARNING)
        shape = images[0].shape[:2]
        results.update(
            video_reader=None,
            imgs=images,
            original_shape=shape,
            img_shape=shape,
            lost_frames=reader.lost,
        )
        if "gt_bboxes" in results:
            height, width = shape
            scale = np.array([width, height, width, height])
            for key in ("gt_bboxes", "proposals"):
                if results.get(key) is not None:
                    results[key] = (results[key] * scale).astype(np.float32)
        return results

    def __repr__(self) -> str:
        return f"VideoDecode(sampling={self.sampling!r}, tolerance_s={self.tolerance_s})"
