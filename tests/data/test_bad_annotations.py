"""Bad annotations end in one line that names file, line and value, and write nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmvideoiq.data.activitynet import read_activitynet_json
from mmvideoiq.data.annotations import BENCHMARKS, read_classes
from tests.data.published import class_file

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
