"""MMAction2's dataset of extracted frames, which checks its lists before training."""

from __future__ import annotations

import os
from typing import Any

from mmaction.datasets import RawframeDataset
from mmaction.registry import DATASETS

from mmvideoiq.data.checked_list import CheckedList, parse_labels


@DATASETS.register_module()
class CheckedRawframeDataset(CheckedList, RawframeDataset):
    """MMAction2's ``RawframeDataset`` with checks when it is built: each line is ``folder frames label``, each label
    is a class, each folder exists.

    Args:
        ann_file: lines ``folder frames label`` (``folder frames label label ...`` with ``multi_class``), split at
            white space; ``data_prefix["img"]`` stands before each folder. ``RawFrameDecode`` reads the frames.
        filename_tmpl: name of a frame by its number; the first is ``start_index``.
        check_folders: whether the folders must exist; False for frames in an LMDB.
        common: of :class:`CheckedList`.
    """

    LAYOUT, PREFIX = "folder frames label", "img"

    def __init__(
        self,
        *,
        filename_tmpl: str = "img_{:05}.jpg",
        start_index: int = 1,
        check_folders: bool = True,
        **common: Any,
    ) -> None:
        self.check_folders = check_folders
        super().__init__(filename_tmpl=filename_tmpl, start_index=start_index, **common)

    def _parse(self, line: str, *, where: str) -> dict:
        folder, *columns = line.split()
        if len(columns) < 2 or not columns[0].isdigit() or int(columns[0]) < 1:
            raise ValueError(f"{where}: {line!r} is not a folder, its number of frames and a class number")
        label = parse_labels(
            columns[1:], self.num_classes, multi_class=self.multi_class, delimiter=" ", line=line, where=where
        )
        folder = os.path.join(self.data_prefix["img"], folder)
        return {"frame_dir": folder, "total_frames": int(columns[0]), "label": label}

    def _missing(self, sample: dict) -> str | None:
        found = not self.check_folders or os.path.isdir(sample["frame_dir"])
        return None if found else f"folder {sample['frame_dir']}"
