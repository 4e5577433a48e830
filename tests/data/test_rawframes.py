"""Frame lists that are checked before training."""

import re
from pathlib import Path

import pytest

from mmvideoiq.data.rawframes import CheckedRawframeDataset
from tests.data.published import make_benchmark

PIPELINE = [
    dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="mmaction.RawFrameDecode"),
    dict(type="mmaction.FormatShape", input_format="NCHW"),
    dict(type="mmaction.PackActionInputs", meta_keys=()),
]


def build(root: Path, ann_file: str = "list.txt", **options) -> CheckedRawframeDataset:
    options = {"num_classes": 3, "data_prefix": dict(img="rawframes"), **options}
    return CheckedRawframeDataset(ann_file=ann_file, data_root=str(root), pipeline=PIPELINE, **options)


def write(root: Path, text: str) -> Path:
    (root / "rawframes/a").mkdir(parents=True)
    (root / "list.txt").write_text(text)
    return root


def test_what_the_converter_wrote(tmp_path: Path):
    root = make_benchmark(tmp_path, "fcvid", "rawframes")
    dataset = build(root, "train_rawframes.txt", num_classes=239, multi_class=True)
    assert [sorted(sample["data_samples"].gt_label.nonzero().flatten().tolist()) for sample in dataset] == [
        [0],
        [1, 238],
        [0],
    ]
    assert dataset[0]["inputs"].shape == (2, 3, 48, 64)
    single = make_benchmark(tmp_path / "single", "mini_kinetics", "rawframes")
    dataset = build(single, "val_rawframes.txt", num_classes=200)
    assert [sample["data_samples"].gt_label.item() for sample in dataset] == [0, 199, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt is empty; it needs lines 'folder frames label'"),
        ("a 5\n", "line 1: 'a 5' is not a folder, its number of frames and a class number"),
        ("a five 1\n", "line 1: 'a five 1' is not a folder, its number of frames"),
        ("a 0 1\n", "line 1: 'a 0 1' is not a folder, its number of frames"),
        ("a;5;1\n", "line 1: 'a;5;1' is not a folder, its number of frames"),
        ("a 5 1\n\na 5 3\n", "line 3: label 3 is outside 0..2"),
        ("a 5 -1\n", "line 1: label -1 is outside 0..2"),
        ("a 5 x\n", "line 1: 'a 5 x' is not a path and a class number"),
        ("a 5 1 2\n", "line 1: 'a 5 1 2' is not a path and a class number"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(write(tmp_path, text))


def test_missing_files(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"list.txt does not exist; set .*DATA_ROOT"):
        build(tmp_path)
    write(tmp_path, "a 5 1\nb 5 1\nc 5 1\n")
    with pytest.raises(FileNotFoundError, match=r"line 2: no folder .*rawframes/b \(2 of 3 are missing\)"):
        build(tmp_path)
    assert len(build(tmp_path, check_folders=False)) == 3
    with pytest.raises(ValueError, match="num_classes must be an int"):
        build(tmp_path, num_classes=None)
