"""From the published annotations to lists that MMAction2's datasets and mmvideoiq's load."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
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

pytestmark = pytest.mark.filterwarnings("ignore:.*FileClient:DeprecationWarning")

VIDEO_PIPELINE = [
    dict(type="mmaction.DecordInit"),
    dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="mmaction.DecordDecode"),
    dict(type="mmaction.FormatShape", input_format="NCHW"),
    dict(type="mmaction.PackActionInputs", meta_keys=()),
]
FRAME_PIPELINE = [
    dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="mmaction.RawFrameDecode"),
    *VIDEO_PIPELINE[3:],
]


def class_file(folder: Path, name: str, *, numbered: bool = False) -> Path:
    path = folder / f"{name}_classes.txt"
    names = [f"class {i}" for i in range(BENCHMARKS[name].num_classes)]
    path.write_text("".join(f"{i},{n}\n" if numbered else f"{n}\n" for i, n in enumerate(names)))
    return path


def make_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lossless(path, np.zeros((3, 32, 32, 3), np.uint8), rate=5)


def make_frames(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"img_{i + 1:05d}.jpg"), np.zeros((32, 32, 3), np.uint8))


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[..., str]:
    """Convert ``text`` as the validation list of a benchmark into ``tmp_path / "out"``; what was printed."""

    def go(name: str, text: str, *options: str) -> str:
        source = tmp_path / "list.txt"
        source.write_text(text)
        classes = class_file(tmp_path, name)
        convert(
            name, None, [str(tmp_path / "out"), "--val", str(source), "--classes", str(classes), *options]
        )
        return capsys.readouterr().out

    return go


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


# bad input: one line that names file, line and value


BAD_LISTS = {
    "activitynet": {
        "\n \n": r"list.txt is empty; it needs lines 'path,frames,label\[",
        "a,70,1\nb,70\n": r"list.txt, line 2: 'b,70' has 2 columns; ActivityNet-v1.3 needs 'path,fr",
        "a,70,1\nb\n": r"line 2: 'b' has 1 columns",
        "a,70,1\n,70,1\n": r"line 2: ',70,1' has 3 columns",
        "a,70,1\nb,many,1\n": r"line 2: frame count 'many' \(column 2\) is not a number",
        "a,70,1\nb,70,1,\n": r"line 2: label '' \(column 4\) is not a number",
        "a,70,1\nb,70,Archery\n": r"line 2: label 'Archery' \(column 3\) is not a number",
        "a,70,1\nb,70,1.0\n": r"line 2: label '1.0' \(column 3\) is not a number",
        "a,70,1\nb,-2,1\n": r"line 2: 'b,-2,1' has -2 frames",
        "a,70,1\nb,70,1,200\n": r"line 2: 'b,70,1,200': class 200 is unknown; .* classes 0..199",
        "a,70,1\nb,70,-1\n": r"line 2: .*class -1 is unknown",
        "a,70,1\nb,70,1\na,70,2\n": r"line 3: 'a' is also in line 1",
        "a 70 1\n": r"line 1: 'a 70 1' is separated by a space, not by ','; .*--separator ' '",
        "a,70,1\nb;70;1\n": r"line 2: 'b;70;1' is separated by ';', not by ','",
    },
    "fcvid": {
        "a,70,1\n": r"line 1: 'a,70,1' is separated by ',', not by a space",
        "making cake/a 70 1\n": r"line 1: frame count 'cake/a' \(column 2\) is not a number",
        "a 1 70 5\nb 12 80 5\n": r"line 2: 'b 12 80 5' is frames 12 to 80; .* begin at 0 or 1",
        "a 1 70 5\nb 80 5\n": r"line 2: 'b 80 5' lacks a column",
        "a 12 300 5\n": r"line 1: .*class 300 is unknown",
    },
    "mini_sports1m": {
        "a b 70 1\n": r"line 1: 'a b 70 1' is separated by a space, not by ';'",
        "a;70;487\n": r"class 487 is unknown; Mini-Sports1M has classes 0..486",
    },
    "mini_kinetics": {
        "a b/c;70;1\n": r"line 1: .* is separated by ';', not by a space",
        "a b/c 70 1\na b/c 1\n": r"line 2: frame count 'b/c' \(column 2\) is not a number",
    },
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [(name, *case) for name, cases in BAD_LISTS.items() for case in cases.items()],
)
def test_bad_lists(tmp_path: Path, run, name, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        run(name, text)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names[:-1], r"fcvid_classes.txt: 238 classes, but FCVID has 239"),
        (lambda names: ["class 1", *names[1:]], r"line 2: class 'class 1' is also in line 1"),
        (lambda names: ["", *names[1:]], r"line 1: empty"),
        (lambda names: [f"{i},{n}" for i, n in enumerate(names, 1)], r"line 1: class number 1, expected 0"),
    ],
)
def test_bad_class_names(tmp_path: Path, change, message):
    path = class_file(tmp_path, "fcvid")
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(ValueError, match=message):
        read_classes(path, BENCHMARKS["fcvid"])


def official(**changes) -> dict:
    taxonomy = [dict(nodeId=0, nodeName="Root", parentId=None)]
    taxonomy += [dict(nodeId=i, nodeName=f"class {i}", parentId=0) for i in range(1, 201)]
    video = dict(subset="training", annotations=[dict(label="class 7", segment=[0, 1])])
    return {**dict(database={"abc": {**video, **changes}}, taxonomy=taxonomy)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a.json is not JSON"),
        ([], r"a.json has no 'database'"),
        (dict(database={}, taxonomy=[]), r"a.json has no 'taxonomy' .*--classes"),
        (dict(official(), taxonomy=official()["taxonomy"][:-1]), r"taxonomy of .*a.json: 199 classes"),
        (dict(official(), taxonomy=[dict(nodeName="x")]), r"each entry of 'taxonomy' needs nodeId"),
        (official(subset="train"), r"video abc: subset 'train' is not one of training, validation, testing"),
        (official(annotations=[dict(label="Golf")]), r"video abc: 'Golf' is not one of the 200 classes"),
        (official(annotations=[dict(name="Golf")]), r"video abc: needs 'subset' and 'annotations'"),
        (official(annotations=[]), r"no annotated video"),
    ],
)
def test_bad_json(tmp_path: Path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_activitynet_json(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("--pattern {name}.mp4", ValueError, r"pattern '{name}.mp4' may hold {path}, {id}, {class}"),
        ("--pattern same.mp4", ValueError, r"line 2: 'same.mp4' is also the name of 'a' \(.*line 1\)"),
        ("--pattern {class}.mp4", ValueError, r"'class 1.mp4' cannot be in a list .*--underscores"),
        ("--pattern {id}.*", ValueError, r"needs --existing"),
        ("--existing", NotADirectoryError, r"out/videos is not a folder; .*--media"),
        ("--existing --media .", ValueError, r"none of the 2 clips of val exists, for example a.mp4"),
        ("--existing --media . --pattern *.mp4", ValueError, r"'\*' may replace folders and"),
        ("--val gone.txt", FileNotFoundError, r"no file gone.txt"),
    ],
)
def test_bad_options(tmp_path: Path, run, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run("fcvid", "a 70 1\nb 70 2\n", *options.split())
    assert not (tmp_path / "out").exists()


def test_commands_end_with_one_line_and_code_2(repo: Path, tmp_path: Path):
    for name in BENCHMARKS:
        assert (repo / "tools/data" / name / "README.md").is_file()
    command = [sys.executable, str(repo / "tools/data/fcvid/convert.py"), str(tmp_path), "--val", "gone.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    message = "convert.py: error: name --classes FILE and at least one of --train, --val, --test FILE\n"
    assert done.stderr.endswith(message) and done.stderr.count("\n") == 1


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
