"""A video dataset that checks its lists and videos before a run and survives bad videos during it."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import decord
import torch
from mmaction.datasets import VideoDataset
from mmaction.datasets.transforms import DecordInit
from mmaction.registry import DATASETS
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log

from mmvideoiq.data.probe import find_unreadable
from mmvideoiq.jobs.environment import usable_cpus
from mmvideoiq.video.reader import reason_of

BROADCAST_EVERY_S = 60.0  # below every time limit of torch.distributed


@DATASETS.register_module()
class CheckedVideoDataset(VideoDataset):
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

    Any other error of the pipeline is raised: a failure counts as the video's only if the decoder raised it.
    Local videos are opened by their path; from memory, as in MMAction2, decord reads past the end of some
    damaged files.

    Args:
        ann_file: lines ``path label`` (``path label label ...`` with ``multi_class``), local.
        pipeline: MMAction2's transforms.
        num_classes: labels are in [0, num_classes).
        data_root: folder before ``ann_file`` and ``data_prefix["video"]`` where these are relative.
        data_prefix: ``video`` is the folder before each path.
        multi_class: several labels a clip, packed as 0/1 over the classes; paths cannot hold the delimiter.
        metainfo: e.g. ``classes``, the names or a file with one a line.
        indices: use the first ``indices`` clips, or these.
        check_videos: try the videos when built.
        keep_in_memory: keep each prepared clip and return a copy of it next time. Only for pipelines without
            randomness, and loaders without workers (each would keep its own).

    Attributes:
        unreadable: number of videos found unreadable so far.

    Raises:
        FileNotFoundError: the list or a video is missing.
        ValueError: the list is empty, or a line or label is wrong; names file, line and value.
        RuntimeError: none of the videos can be read.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        pipeline: Sequence[dict | Callable],
        num_classes: int,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        multi_class: bool = False,
        delimiter: str = " ",
        test_mode: bool = False,
        metainfo: Mapping[str, Any] | None = None,
        indices: int | Sequence[int] | None = None,
        check_videos: bool = True,
        keep_in_memory: bool = False,
    ) -> None:
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(f"num_classes must be an int >= 1, got {num_classes!r}")
        self.check_videos = check_videos
        self._kept: dict[int, dict] | None = {} if keep_in_memory else None
        self._left_out = 0
        self._indices: int | Sequence[int] | None
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=dict(data_prefix or {"video": ""}),
            multi_class=multi_class,
            num_classes=num_classes,
            test_mode=test_mode,
            delimiter=delimiter,
            data_root=data_root,
            metainfo=metainfo,
            indices=indices,
        )
        for transform in self.pipeline.transforms:
            if type(transform) is DecordInit and transform.io_backend in ("disk", "local"):
                transform._get_video_reader = functools.partial(open_video, num_threads=transform.num_threads)
        # one byte per clip, in memory that all loader workers share
        self._failed = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    @property
    def unreadable(self) -> int:
        return self._left_out + int(self._failed.sum())

    def load_data_list(self) -> list[dict]:
        layout = f"path{self.delimiter}label"
        lines = read_lines(self.ann_file, layout=layout)
        samples = [self._parse(line, where=f"{self.ann_file}, line {number}") for number, line in lines]
        missing = [i for i, sample in enumerate(samples) if not os.path.isfile(sample["filename"])]
        if missing:
            raise FileNotFoundError(
                f"{self.ann_file}, line {lines[missing[0]][0]}: no video {samples[missing[0]]['filename']} "
                f"({len(missing)} of {len(samples)} videos are missing); check DATA_ROOT or data_prefix"
            )
        return samples

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
        return find_unreadable(paths, cache=self._record, progress=sys.stderr.isatty())

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
            if not _raised_by_decoder(error):
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


def open_video(path: str, *, num_threads: int = 1) -> decord.VideoReader:
    """A reader of a local video, opened by its path.

    Raises:
        decord.DECORDError: it cannot be read, or has no frames.
    """
    reader = decord.VideoReader(path, num_threads=num_threads)
    if len(reader) == 0:
        raise decord.DECORDError("has no frames")
    return reader


def _raised_by_decoder(error: Exception) -> bool:
    if isinstance(error, decord.DECORDError):
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


def read_lines(ann_file: str, *, layout: str) -> list[tuple[int, str]]:
    """Numbers (from 1) and texts of a list's lines, without the empty ones.

    Raises:
        FileNotFoundError: no such file. ValueError: it has no line.
    """
    if not os.path.isfile(ann_file):
        raise FileNotFoundError(
            f"ann_file {ann_file} does not exist; set the environment variable DATA_ROOT to the "
            "folder with the lists, or data_root of the dataset with --cfg-options"
        )
    with open(ann_file, encoding="utf-8") as stream:
        lines = [(number, line.strip()) for number, line in enumerate(stream, 1) if line.strip()]
    if not lines:
        raise ValueError(f"ann_file {ann_file} is empty; it needs lines '{layout}'")
    return lines


def parse_labels(
    texts: Sequence[str], num_classes: int, *, multi_class: bool, delimiter: str, line: str, where: str
) -> int | list[int]:
    """The label, or with ``multi_class`` the labels, of one line.

    Raises:
        ValueError: none, one that is not a number, or one outside [0, num_classes); names ``line`` and ``where``.
    """
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        numbers = []
    if not numbers or (len(numbers) > 1 and not multi_class):
        labels_word = "class numbers" if multi_class else "a class number"
        raise ValueError(f"{where}: {line!r} is not a path and {labels_word} with {delimiter!r} between")
    for number in numbers:
        if not 0 <= number < num_classes:
            raise ValueError(
                f"{where}: label {number} is outside 0..{num_classes - 1} "
                f"(num_classes={num_classes}); correct the list or num_classes"
            )
    return numbers if multi_class else numbers[0]


def _warn(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)
