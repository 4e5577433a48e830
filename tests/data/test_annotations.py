"""From the published annotations to lists that MMAction2's datasets and mmvideoiq's load."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmaction.datasets import RawframeDataset, VideoDataset

from mmvideoiq.data.activitynet import read_activitynet_json
from mmvideoiq.data.annotations import BENCHMARKS, read_classes, read_list
from mmvideoiq.data.convert_command import convert
from mmvideoiq.data.dataset import CheckedVideoDataset
from mmvideoiq.data.synthetic import write_lossless
from tests.data.published import class_file

pytestmark = pytest.mark.filterwarnings("ignore:.*FileClient:DeprecationWarning")

VIDEO_PIPELINE = [
    dict(type="mmaction.VideoInit"),
    dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="mmaction.VideoDecode"),
    dict(type="mmaction.FormatShape", input_format="NCHW"),
    dict(type="mmaction.PackActionInputs", meta_keys=()),
]
FRAME_PIPELINE = [
    dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="mmaction.RawFrameDecode"),
    *VIDEO_PIPELINE[3:],
]


def make_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lossless(path, np.zeros((3, 32, 32, 3), np.uint8), rate=5)


def make_frames(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"img_{i + 1:05d}.jpg"), np.zeros((32, 32, 3), np.uint8))


# the real lists


def test_activitynet_as_published(shared_dir: Path, tmp_path: Path, capsys):
    source = shared_dir / "annotations/activitynet"
    files = {s: source / f"actnet_{s}_split_org.txt" for s in ("train", "val")}
    given = [f"--{split}={path}" for split, path in files.items()] + [f"--classes={source}/classInd.txt"]
    convert("activitynet", None, [str(tmp_path), *given, "--pattern", "v_{id}.mp4"])
    convert("activitynet", None, [str(tmp_path), *given, "--rawframes"])
    printed = capsys.readouterr().out
    assert "train: 10,024 clips, 6 of several classes" in printed
    assert "val: 4,926 clips, 7 of several classes" in printed
    classes = (tmp_path / "classes.txt").read_text().splitlines()
    assert len(classes) == 200 and classes[0] == "Applying sunscreen" and classes[199] == "Zumba"
    for split, count in dict(train=10_024, val=4_926).items():
        videos = (tmp_path / f"{split}.txt").read_text().splitlines()
        frames = (tmp_path / f"{split}_rawframes.txt").read_text().splitlines()
        assert len(videos) == len(frames) == count
        for published, video, frame in zip(
            files[split].read_text().splitlines(), videos, frames, strict=True
        ):
            name, total, *labels = published.split(",")
            kept = [label for i, label in enumerate(labels) if label not in labels[:i]]
            assert video.split(" ") == [f"v_{name}.mp4", *kept]
            assert frame.split(" ") == [name, total, *kept]
    assert "v_eUvvxpAK3_8.mp4 129 30\n" in (tmp_path / "train.txt").read_text()  # published 129,30,129


def test_mini_kinetics_as_published(shared_dir: Path, tmp_path: Path, capsys):
    source = shared_dir / "annotations/mini_kinetics"
    given = ["--val", str(source / "mini_val_split.txt"), "--classes", str(source / "minik_classInd.txt")]
    convert("mini_kinetics", None, [str(tmp_path), *given])
    convert("mini_kinetics", None, [str(tmp_path), *given, "--rawframes"])
    printed = capsys.readouterr().out
    assert "val: 9,867 clips ->" in printed
    assert "note: 49 clips of class 87 'hurling 0' are published in folder 'hurling 1'" in printed
    videos = (tmp_path / "val.txt").read_text().splitlines()
    frames = (tmp_path / "val_rawframes.txt").read_text().splitlines()
    published = (source / "mini_val_split.txt").read_text().splitlines()
    assert len(videos) == len(frames) == len(published) == 9_867
    for line, video, frame in zip(published, videos, frames, strict=True):
        name, total, label = line.rsplit(" ", 2)
        assert video == f"{name}.mp4;{label}"
        assert frame == f"{name.replace(' ', '_')} {total} {label}"


def test_activitynet_json_gives_the_same_clips_and_class_numbers(shared_dir: Path, tmp_path: Path, capsys):
    source = shared_dir / "annotations/activitynet"
    names = [line.split(",", 1)[1] for line in (source / "classInd.txt").read_text().splitlines()]
    database = {"without": dict(subset="testing", duration=10.0, annotations=[])}
    clips = {}
    for split, subset in dict(train="training", val="validation").items():
        clips[split] = read_list(source / f"actnet_{split}_split_org.txt", BENCHMARKS["activitynet"])
        for clip in clips[split]:
            segments = [dict(label=names[i], segment=[0.0, 1.0]) for i in (*clip.labels, clip.labels[0])]
            database[clip.path] = dict(subset=subset, duration=10.0, annotations=segments)
    taxonomy = [dict(nodeId=0, nodeName="Root", parentId=None, parentName=None)]
    taxonomy += [dict(nodeId=1, nodeName="Sports", parentId=0, parentName="Root")]
    taxonomy += [
        dict(nodeId=i + 2, nodeName=n, parentId=i % 2, parentName="") for i, n in enumerate(names[::-1])
    ]
    path = tmp_path / "activity_net.v1-3.min.json"
    path.write_text(json.dumps(dict(database=database, taxonomy=taxonomy, version="VERSION 1.3")))

    found = read_activitynet_json(path)
    assert found.classes == names
    assert read_activitynet_json(path, source / "classInd.txt").splits == found.splits
    for split in ("train", "val"):
        expected = [(clip.path, clip.labels) for clip in clips[split]]
        assert [(clip.path, clip.labels) for clip in found.splits[split]] == expected
    convert("activitynet", None, [str(tmp_path / "out"), "--json", str(path)])
    printed = capsys.readouterr().out
    assert "train: 10,024 clips" in printed and "val: 4,926 clips" in printed
    assert "1 videos of testing have no published labels" in printed
    with pytest.raises(ValueError, match=r"video JDg|video sJF.*no frame count is published; .*--existing"):
        convert("activitynet", None, [str(tmp_path / "out"), "--json", str(path), "--rawframes"])


# the formats, loaded by both kinds of datasets


@pytest.mark.parametrize(
    ("name", "text", "delimiter", "expected"),
    [
        ("activitynet", "abc,70,5,9,5\n-d_e,80,0\n", " ", {"abc": [5, 9], "-d_e": [0]}),
        ("fcvid", "dog/abc 70 238 1 238\ncat/d 80 0\n", " ", {"dog/abc": [238, 1], "cat/d": [0]}),
        ("fcvid", "dog/abc 1 70 238\ncat/d 1 80 0\n", " ", {"dog/abc": [238], "cat/d": [0]}),
        ("mini_sports1m", "bmx (a b)/abc;70;486;2\nc/d;80;0\n", ";", {"bmx (a b)/abc": [486, 2], "c/d": [0]}),
        ("mini_sports1m", "bmx (a b)/abc;1;70;486\nc/d;1;80;0\n", ";", {"bmx (a b)/abc": [486], "c/d": [0]}),
        ("mini_kinetics", "a b/abc_1_2 70 199\na b/d 80 0\n", ";", {"a b/abc_1_2": [199], "a b/d": [0]}),
    ],
)
def test_every_format_loads(tmp_path: Path, run, name, text, delimiter, expected):
    benchmark = BENCHMARKS[name]
    run(name, text)
    run(name, text, "--rawframes")
    out = tmp_path / "out"
    for path in expected:
        make_video(out / "videos" / f"{path}.mp4")
        make_frames(out / "rawframes" / path.replace(" ", "_"), 80)
    common = dict(data_root=str(out), multi_class=benchmark.multi_class, num_classes=benchmark.num_classes)
    videos = dict(common, ann_file="val.txt", data_prefix=dict(video="videos"), pipeline=VIDEO_PIPELINE)
    frames = dict(
        common, ann_file="val_rawframes.txt", data_prefix=dict(img="rawframes"), pipeline=FRAME_PIPELINE
    )
    for data in (
        VideoDataset(**videos, delimiter=delimiter),
        CheckedVideoDataset(**videos, delimiter=delimiter),
        RawframeDataset(**frames),
    ):
        assert len(data) == len(expected)
        for i, labels in enumerate(expected.values()):
            label = data[i]["data_samples"].gt_label
            found = label.nonzero().flatten().tolist() if benchmark.multi_class else label.tolist()
            assert found == sorted(labels)
            assert data[i]["inputs"].shape == (2, 3, 32, 32)
    assert [data.get_data_info(i)["total_frames"] for i in range(2)] == [70, 80]


def test_other_separators_are_named(run):
    assert "1 of several classes" in run("fcvid", "abc,70,5,9\nd,80,0\n", "--separator", ",")


def test_class_names_of_both_layouts(tmp_path: Path):
    for numbered in (False, True):
        names = read_classes(class_file(tmp_path, "fcvid", numbered=numbered), BENCHMARKS["fcvid"])
        assert names == [f"class {i}" for i in range(239)]
    path = class_file(tmp_path, "mini_sports1m")
    path.write_text(path.read_text().replace("class 7\n", "3x3 (basketball)\n"))
    assert read_classes(path, BENCHMARKS["mini_sports1m"])[7] == "3x3 (basketball)"


# names of files, and what is there


def lines(tmp_path: Path, file: str = "val.txt") -> list[str]:
    return (tmp_path / "out" / file).read_text().splitlines()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "a b/abc.mp4;1"),
        (["--pattern", "v_{id}.webm"], "v_abc.webm;1"),
        (["--pattern", "{class}/{id}.mp4"], "class 1/abc.mp4;1"),
        (["--underscores"], "a_b/abc.mp4;1"),
        (["--rawframes"], "a_b/abc 70 1"),
        (["--rawframes", "--pattern", "v_{id}"], "v_abc 70 1"),
    ],
)
def test_patterns(tmp_path: Path, run, options, expected):
    run("mini_kinetics", "a b/abc 70 1\n", *options)
    assert lines(tmp_path, "val_rawframes.txt" if "--rawframes" in options else "val.txt") == [expected]


def test_published_endings_are_not_doubled(tmp_path: Path, run):
    run("fcvid", "a/abc.avi 70 1\n")
    assert lines(tmp_path) == ["a/abc.mp4 1"]


def test_only_what_is_there(tmp_path: Path, run):
    text = "abc,70,5\nd_e,80,6,7\nfgh,90,8\n"
    (tmp_path / "out/videos/sub").mkdir(parents=True)
    for path in ("abc.mp4", "sub/v_d_e.mkv", "sub/v_d_e.webm", "v_abc.mkv"):
        (tmp_path / "out/videos" / path).write_bytes(b"")
    printed = run("activitynet", text, "--existing")
    assert lines(tmp_path) == ["abc.mp4 5"]
    assert "val: 2 of 3 are missing and left out, the first is d_e" in printed and "line 2)" in printed
    run("activitynet", text, "--existing", "--pattern", "*/v_{id}.*", "--overwrite")
    assert lines(tmp_path) == ["sub/v_d_e.mkv 6 7"]
    other = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out/videos", other)
    run("activitynet", text, "--existing", "--pattern", "v_{id}.*", "--overwrite", "--media", str(other))
    assert lines(tmp_path) == ["v_abc.mkv 5"]


def test_frames_are_counted_on_disk(tmp_path: Path, run):
    make_frames(tmp_path / "out/rawframes/a_b/abc", 4)
    (tmp_path / "out/rawframes/a_b/abc/flow_x_00001.jpg").write_bytes(b"")
    (tmp_path / "out/rawframes/a_b/empty").mkdir()
    text = "a b/abc 70 1\na b/empty 70 1\na b/gone 70 1\n"
    printed = run("mini_kinetics", text, "--rawframes", "--existing")
    assert lines(tmp_path, "val_rawframes.txt") == ["a_b/abc 4 1"]
    assert "2 of 3 are missing" in printed
    make_frames(tmp_path / "out/rawframes/deep/er/gone", 2)
    run("mini_kinetics", text, "--rawframes", "--existing", "--overwrite", "--pattern", "*/{id}")
    assert lines(tmp_path, "val_rawframes.txt") == ["a_b/abc 4 1", "deep/er/gone 2 1"]


def test_lists_are_replaced_on_request_alone(tmp_path: Path, run):
    run("fcvid", "a 70 1\n")
    run("fcvid", "a 70 1\n")  # the same again is no conflict
    with pytest.raises(FileExistsError, match="--overwrite"):
        run("fcvid", "b 70 1\n")
    assert lines(tmp_path) == ["a.mp4 1"]
    run("fcvid", "b 70 1\n", "--overwrite")
    assert lines(tmp_path) == ["b.mp4 1"]


def test_a_video_in_two_splits_is_noted(tmp_path: Path, capsys):
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("a,70,1\n")
    given = [f"--{s}={tmp_path / s}.csv" for s in ("train", "val")]
    convert("activitynet", None, [str(tmp_path), *given, f"--classes={class_file(tmp_path, 'activitynet')}"])
    assert "note: 1 videos of val are in another split too, the first is a (" in capsys.readouterr().out


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_converter_is_of_its_benchmark(load_tool, monkeypatch, name):
    tool = load_tool(f"data/{name}/convert.py")
    assert tool.convert is convert and BENCHMARKS[name].title in tool.__doc__


# frames in one file


def test_frames_packed_into_lmdb_load_like_files(tmp_path: Path, load_tool, run):
    pytest.importorskip("lmdb")
    pack = load_tool("data/make_lmdb.py").pack
    for i, name in enumerate(("a/abc", "d")):
        make_frames(tmp_path / "out/rawframes" / name, 3 + i)
        cv2.imwrite(
            str(tmp_path / "out/rawframes" / name / "img_00002.jpg"), np.full((32, 32, 3), 90, np.uint8)
        )
    run("fcvid", "a/abc 70 1 5\nd 80 0\n", "--rawframes", "--existing")
    assert pack(tmp_path / "out/rawframes", tmp_path / "frames.lmdb") == 2
    common = dict(ann_file=str(tmp_path / "out/val_rawframes.txt"), multi_class=True, num_classes=239)
    decode = dict(type="mmaction.RawFrameDecode", io_backend="lmdb", db_path=str(tmp_path / "frames.lmdb"))
    packed = RawframeDataset(
        **common, data_prefix=dict(img=""), pipeline=[FRAME_PIPELINE[0], decode, *FRAME_PIPELINE[2:]]
    )
    files = RawframeDataset(
        **common, data_prefix=dict(img=str(tmp_path / "out/rawframes")), pipeline=FRAME_PIPELINE
    )
    for i in range(2):
        assert (packed[i]["inputs"] == files[i]["inputs"]).all()
    with pytest.raises(FileExistsError, match=r"frames.lmdb is there"):
        pack(tmp_path / "out/rawframes", tmp_path / "frames.lmdb")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        pack(tmp_path / "empty", tmp_path / "b.lmdb")
