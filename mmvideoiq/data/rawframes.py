"""MMAction2's dataset of extracted frames, which checks its lists before training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmaction.datasets import RawframeDataset
from mmaction.registry import DATASETS

from mmvideoiq.data.dataset import parse_labels, read_lines


@DATASETS.register_module()
class CheckedRawframeDataset(RawframeDataset):
    """MMAction2's ``RawframeDataset`` with checks when it is built: each line is ``folder frames label``, each label
    is a class, each folder exists.

    Args:
        ann_file: lines ``folder frames label`` (``folder frames label label ...`` with ``multi_class``), split at
            white space, local.
        pipeline: MMAction2's transforms; ``RawFrameDecode`` reads the frames.
        num_classes: labels are in [0, num_classes).
        data_root: folder before ``ann_file`` and ``data_prefix["img"]`` where these are relative.
        data_prefix: ``img`` is the folder before each frame folder.
        filename_tmpl: name of a frame by its number; the first is ``start_index``.
        multi_class: several labels a clip, packed as 0/1 over the classes.
        metainfo: e.g. ``classes``, the names or a file with one a line.
        indices: use the first ``indices`` clips, or these.
        check_folders: whether the folders must exist; False for frames in an LMDB.

    Raises:
        FileNotFoundError: the list or a folder is missing.
        ValueError: the list is empty, or a line, count or label is wrong; names file, line and value.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        pipeline: Sequence[dict | Callable],
        num_classes: int,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        filename_tmpl: str = "img_{:05}.jpg",
        start_index: int = 1,
        multi_class: bool = False,
        test_mode: bool = False,
        metainfo: Mapping[str, Any] | None = None,
        indices: int | Sequence[int] | None = None,
        check_folders: bool = True,
    ) -> None:
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(f"num_classes must be an int >= 1, got {num_classes!r}")
        self.check_folders = check_folders
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=dict(data_prefix or {"img": ""}),
            filename_tmpl=filename_tmpl,
            start_index=start_index,
            multi_class=multi_class,
            num_classes=num_classes,
            test_mode=test_mode,
            data_root=data_root,
            metainfo=metainfo,
            indices=indices,
        )

    def load_data_list(self) -> list[dict]:
        lines = read_lines(self.ann_file, layout="folder frames label")
        samples = [self._parse(line, where=f"{self.ann_file}, line {number}") for number, line in lines]
        if not self.check_folders:
            return samples
        missing = [i for i, sample in enumerate(samples) if not os.path.isdir(sample["frame_dir"])]
        if missing:
            raise FileNotFoundError(
                f"{self.ann_file}, line {lines[missing[0]][0]}: no folder {samples[missing[0]]['frame_dir']} "
                f"({len(missing)} of {len(samples)} are missing); check DATA_ROOT or data_prefix"
            )
        return samples

    def _parse(self, line: str, *, where: str) -> dict:
        folder, *columns = line.split()
        if len(columns) < 2 or not columns[0].isdigit() or int(columns[0]) < 1:
            raise ValueError(f"{where}: {line!r} is not a folder, its number of frames and a class number")
        label = parse_labels(
            columns[1:], self.num_classes, multi_class=self.multi_class, delimiter=" ", line=line, where=where
        )
        folder = os.path.join(self.data_prefix["img"], folder)
        return {"frame_dir": folder, "total_frames": int(columns[0]), "label": label}
