"""A video dataset that checks its lists and videos before a run and survives bad videos during it."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from mmaction.datasets import VideoDataset
from mmaction.datasets.transforms import DecordInit
from mmaction.registry import DATASETS
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log

from mmvideoiq.data.checked_list import CheckedList, parse_labels
from mmvideoiq.data.probe import find_unreadable
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.video.decord_reader import reason_of
from mmvideoiq.video.errors import VideoError

BROADCAST_EVERY_S = 60.0  # below every time limit of torch.distributed


@DATASETS.register_module()
class CheckedVideoDataset(CheckedList, VideoDataset):
    """MMAction2's ``VideoDataset`` with checks.

    When built: the list exists, is not empty, each line is ``path label`` and each label and video is there.
    The label is what follows the *last* delimiter, so that file names may hold spaces.

    A damaged video does not end a run:

    - When built, each video of the list is opened and some of its frames are decoded, in worker processes
      with a time limit, so that a file that crashes or hangs the decoder is one file's error. Files that
      fail are logged and left out: the number of clips in the figures is the length of the dataset. What
      was found is kept beside the list in ``.<list>.videos.json`` (in the user's cache if that folder is
      read-only), and only new or changed files are tried in the next run. With several processes the
      first one checks, and all leave out the same.
    - A video that fails later in training is replaced by another one, drawn at random. The first failure of a
      video is logged with the running count; the video is not tried again in this run. Loader workers share
      the record.
    - A video that fails later in testing is replaced by the next readable one, which counts twice, with a
      warning in the log.

    Any other error of the pipeline is raised: a failure counts as the video's only if the reader raised it.
    The reader is that of the pipeline: of ``VideoInit``, or decord where MMAction2's ``DecordInit`` stands there.

    Args:
        ann_file: lines ``path label`` (``path label label ...`` with ``multi_class``, whose paths cannot hold the
            delimiter); ``data_prefix["video"]`` stands before each path.
        check_videos: try the videos when built.
        keep_in_memory: keep each prepared clip and return a copy of it next time. Only for pipelines without
            randomness, and loaders without workers (each would keep its own).
        common: of :class:`CheckedList`.

    Attributes:
        unreadable: number of videos found unreadable so far.

    Raises:
        RuntimeError: none of the videos can be read.
    """

    LAYOUT, PREFIX = "path label", "video"

    def __init__(
        self,
        *,
        delimiter: str = " ",
        check_videos: bool = True,
        keep_in_memory: bool = False,
        **common: Any,
    ) -> None:
        self.check_videos = check_videos
        self._kept: dict[int, dict] | None = {} if keep_in_memory else None
        self._left_out = 0
        self._indices: int | Sequence[int] | None
        super().__init__(delimiter=delimiter, **common)
        for transform in self._decord:
            if transform.io_backend in ("disk", "local"):
                transform._get_video_reader = functools.partial(
                    _open_with_decord, num_threads=transform.num_threads
                )
        # one byte per clip, in memory that all loader workers share
        self._failed = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    @property
    def _decord(self) -> list[DecordInit]:
        return [transform for transform in self.pipeline.transforms if isinstance(transform, DecordInit)]

    @property
    def unreadable(self) -> int:
        return self._left_out + int(self._failed.sum())

    def _parse(self, line: str, *, where: str) -> dict:
        path, *labels = line.split(self.delimiter) if self.multi_class else line.rsplit(self.delimiter, 1)
        label = parse_labels(
            labels,
            self.num_classes,
            multi_class=self.multi_class,
            delimiter=self.delimiter,
            line=line,
            where=where,
        )
        path = path.strip()
        if not os.path.splitext(path)[1]:
            path += ".mp4"  # as DecordInit does
        path = os.path.join(self.data_prefix["video"], path)
        return {"filename": path, "label": label}

    def _missing(self, sample: dict) -> str | None:
        return None if os.path.isfile(sample["filename"]) else f"video {sample['filename']}"

    def filter_data(self) -> list[dict]:
        """The clips whose videos can be read."""
        indices, self._indices = self._indices, None
        if indices is not None:  # before the check, not after it as in MMAction2
            self.data_list = self._get_unserialized_subset(indices)
        if not self.check_videos:
            return self.data_list
        bad = _by_the_first_process(self._find_unreadable)
        for i, reason in bad.items():
            _warn(f"{self.data_list[i]['filename']} cannot be read ({reason})")
        if len(bad) == len(self.data_list):
            raise RuntimeError(
                f"none of the {len(bad)} videos of {self.ann_file} can be read; the log has the reasons"
            )
        if bad:
            _warn(
                f"{len(bad)} of {len(self.data_list)} videos of {self.ann_file} are unreadable: left out "
                f"(remembered in {self._record})"
            )
        self._left_out = len(bad)
        return [sample for i, sample in enumerate(self.data_list) if i not in bad]

    @property
    def _record(self) -> Path:
        """Beside the list; in the user's cache if that folder is read-only."""
        ann_file = Path(self.ann_file).absolute()
        folder = ann_file.parent
        if folder.stat().st_mode & 0o222 and os.access(folder, os.W_OK):
            return folder / f".{ann_file.name}.videos.json"
        cache = Path(os.environ.get("MMVIDEOIQ_HOME") or "~/.cache/mmvideoiq").expanduser()
        return cache / "videos" / f"{hashlib.sha256(os.fsencode(ann_file)).hexdigest()[:16]}.videos.json"

    def _find_unreadable(self) -> dict[int, str]:
        print_log(
            f"checking {len(self.data_list):,} videos of {self.ann_file} in {usable_cpus()} processes; those that "
            f"{self._record.name} knows are not tried again",
            logger="current",
            level=logging.INFO,
        )
        paths = [sample["filename"] for sample in self.data_list]
        return find_unreadable(
            paths, reader="decord" if self._decord else "av", cache=self._record, progress=sys.stderr.isatty()
        )

    def prepare_data(self, idx: int) -> dict | None:
        """The prepared clip; None, which makes MMAction2 draw another, for an unreadable one in training."""
        if not self.test_mode:
            return self._prepare(idx)
        for step in range(len(self)):
            data = self._prepare((idx + step) % len(self))
            if data is not None:
                if step:
                    stand_in = self.get_data_info((idx + step) % len(self))["filename"]
                    _warn(f"clip {idx} of the test set cannot be read: {stand_in} stands in and counts twice")
                return data
        raise self._nothing_left()

    def _prepare(self, idx: int) -> dict | None:
        if self._failed[idx]:
            return None
        if self._kept is not None and idx in self._kept:
            return copy.deepcopy(self._kept[idx])
        try:
            data = super().prepare_data(idx)
        except Exception as error:
            if not _raised_by_reader(error):
                raise
            self._failed[idx] = 1
            path = self.get_data_info(idx)["filename"]
            _warn(
                f"{path} cannot be read ({reason_of(error)}); so far {self.unreadable} of {len(self)} cannot"
            )
            return None
        if self._kept is not None and data is not None:
            self._kept[idx] = copy.deepcopy(data)
        return data

    def _rand_another(self) -> int:
        readable = torch.nonzero(self._failed == 0).flatten()
        if len(readable) == 0:
            raise self._nothing_left()
        return int(readable[super()._rand_another() % len(readable)])

    def _nothing_left(self) -> RuntimeError:
        return RuntimeError(
            f"none of the {len(self)} videos of {self.ann_file} can be read; the log has the reasons"
        )


def _open_with_decord(path: str, *, num_threads: int) -> Any:
    """By its path: from memory, as in MMAction2, decord reads past the end of some damaged files."""
    import decord

    video = decord.VideoReader(path, num_threads=num_threads)
    if len(video) == 0:
        raise decord.DECORDError("has no frames")
    return video


def _raised_by_reader(error: Exception) -> bool:
    """Whether an error is the video's: ours, or of any kind from inside decord."""
    if isinstance(error, VideoError) or type(error).__module__.startswith("decord."):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, (RuntimeError, UnicodeDecodeError)) and any(
        str(frame.f_globals.get("__name__")).partition(".")[0] == "decord" for frame, _ in frames
    )


def _by_the_first_process(find: Callable[[], dict[int, str]]) -> dict[int, str]:
    """The first process's result, in all of them; broadcasts in between keep the others from timing out."""
    if get_world_size() == 1:
        return find()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(find) if is_main_process() else None
        while True:
            answer: list[Any] = [None]
            if future is not None and wait([future], timeout=BROADCAST_EVERY_S).done:
                answer[0] = future.exception() or future.result()
            broadcast_object_list(answer)
            if isinstance(answer[0], BaseException):
                raise answer[0]
            if answer[0] is not None:
                return answer[0]


def _warn(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)
