"""The checker: what it finds, that it survives its decoder, and that it resumes."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.data import check, probe
from mmvideoiq.data.check import check_list, read_paths
from mmvideoiq.data.synthetic import write_lossless
from tests.data import damaged

forks = pytest.mark.skipif(
    probe.CONTEXT.get_start_method() != "fork", reason="the decoder is replaced by fork"
)


def write(path: Path, frames: int, *, noise: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = np.zeros((frames, 32, 32, 3), np.uint8)
    if noise:
        clip = np.random.default_rng(0).integers(0, 256, clip.shape, dtype=np.uint8)
    write_lossless(path, clip, rate=5)
    return path


def make_list(folder: Path, names: list[str]) -> Path:
    path = folder / "list.txt"
    path.write_text("".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A list whose lines are good, cut, good and twice, text, empty, missing, short."""
    names = "good.mp4|cut.mp4|a b/twice.mp4|text.mp4|empty.mp4|gone.mp4|short|a b/twice.mp4".split("|")
    write(tmp_path / "good.mp4", 8)
    write(tmp_path / "a b/twice.mp4", 8)
    write(tmp_path / "short.mp4", 3)
    cut = write(tmp_path / "cut.mp4", 8)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("no video " * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    return make_list(tmp_path, names)


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    names = [f"{i}.mp4" for i in range(8)]
    for name in names:
        write(tmp_path / name, 4)
    return make_list(tmp_path, names)


# findings


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_found(mixed: Path, workers):
    found = check_list(mixed, mixed.parent, min_frames=4, workers=workers)
    assert found["missing"] == [dict(line=6, path="gone.mp4")]
    unreadable = [(item["line"], item["path"]) for item in found["unreadable"]]
    assert unreadable == [(2, "cut.mp4"), (4, "text.mp4"), (5, "empty.mp4")]
    assert all(item["reason"] and "\n" not in item["reason"] for item in found["unreadable"])
    assert found["too_short"] == [dict(line=7, path="short.mp4", frames=3)]
    assert found["duplicates"] == [dict(path="a b/twice.mp4", lines=[3, 8])]
    assert (found["lines"], found["videos"], found["good"]) == (8, 7, 2)
    assert found["checked"]["good.mp4"]["frames"] == 8
    short = [item["path"] for item in check_list(mixed, mixed.parent, min_frames=9)["too_short"]]
    assert short == ["good.mp4", "a b/twice.mp4", "short.mp4"]


@pytest.mark.parametrize(("share", "kind"), [(0.3, "damaged"), (0.8, "unreadable")])
def test_damage_inside_is_found_by_decoding(tmp_path: Path, share, kind):
    damaged.hole(tmp_path / "a.mp4", share)
    ann_file = make_list(tmp_path, ["a.mp4"])
    assert check_list(ann_file, tmp_path)["good"] == 1
    assert len(check_list(ann_file, tmp_path, decode=True)[kind]) == 1


def test_real_clips(shared_dir: Path):
    folder = shared_dir / "data/fights"
    found = check_list(folder / "val.txt", folder / "videos", min_frames=8)
    assert found["good"] == found["lines"] == len((folder / "val.txt").read_text().splitlines())


@pytest.mark.parametrize("separator", [" ", ";", ",", "\t"])
def test_lists_of_every_separator_and_of_several_labels(tmp_path: Path, separator):
    path = tmp_path / "list.txt"
    rows = [["a b/c d.mp4", "3"], ["e 1.mp4", "4", "5"], ["./f", "6"], ["f", "6"]]
    path.write_text("\n".join(separator.join(row) for row in rows))
    assert read_paths(path) == {"a b/c d.mp4": [1], "e 1.mp4": [2], "f.mp4": [3, 4]}


# a decoder that misbehaves


def crash(path: str, **_) -> dict:
    faulthandler.disable()  # it would print a long trace
    if "3" in Path(path).name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "5" in Path(path).name:
        os._exit(7)
    return {"frames": 9}


def hang(path: str, **_) -> dict:
    while Path(path).name in ("2.mp4", "7.mp4"):
        time.sleep(0.05)
    return {"frames": 9}


CRASHES = {"3.mp4": "the decoder crashed (SIGSEGV)", "5.mp4": "the decoder crashed (exit code 7)"}
LATE = "no answer within 2 seconds"


@forks
@pytest.mark.parametrize(
    ("tried", "workers", "reasons"),
    [*((crash, n, CRASHES) for n in (1, 2, 20)), (hang, 2, dict.fromkeys(("2.mp4", "7.mp4"), LATE))],
)
def test_it_costs_its_video_and_no_other(eight: Path, monkeypatch, tried, workers, reasons):
    monkeypatch.setattr(probe, "probe", tried)
    found = check_list(eight, eight.parent, workers=workers, timeout=2 if tried is hang else 300)
    assert {item["path"]: item["reason"] for item in found["unreadable"]} == reasons
    assert found["good"] == 6


# report and resuming


@pytest.fixture
def looked(tmp_path: Path, monkeypatch) -> list[str]:
    """The videos that were looked at since it was last cleared."""
    seen: list[str] = []
    probe_all = check.probe_all
    monkeypatch.setattr(
        check, "probe_all", lambda paths, **kw: (seen.extend(paths), probe_all(paths, **kw))[1]
    )
    return seen


def interrupt_after(count: int):
    def watch(found, **_):
        for i, item in enumerate(found):
            if i == count:
                raise KeyboardInterrupt
            yield item

    return watch


def test_an_interrupted_run_goes_on(eight: Path, looked: list[str], monkeypatch):
    report, partial = eight.parent / "report.json", eight.parent / "report.json.partial"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(check, "with_bar", interrupt_after(3))
        check_list(eight, eight.parent, report=report, workers=1)
    assert not report.exists() and len(partial.read_text().split()) >= 3
    with partial.open("a") as stream:
        stream.write('{"4.mp4": {"si')  # cut in the middle of a line
    with pytest.raises(FileExistsError, match=r"report.json.partial is left .* --resume"):
        check_list(eight, eight.parent, report=report)

    looked.clear()
    resumed = check_list(eight, eight.parent, report=report, resume=True)
    assert sorted(Path(p).name for p in looked) == [f"{i}.mp4" for i in range(3, 8)]
    assert not partial.exists()
    assert json.loads(report.read_text()) == resumed
    whole = check_list(eight, eight.parent)
    assert resumed == whole


def test_a_finished_report_spares_what_has_not_changed(eight: Path, looked: list[str]):
    report = eight.parent / "report.json"
    check_list(eight, eight.parent, report=report)
    write(eight.parent / "2.mp4", 6)
    (eight.parent / "5.mp4").unlink()
    looked.clear()
    found = check_list(eight, eight.parent, report=report, resume=True, min_frames=5)
    assert [Path(p).name for p in looked] == ["2.mp4"]
    assert found["good"] == 1 and found["missing"] == [dict(line=6, path="5.mp4")]
    looked.clear()
    check_list(eight, eight.parent, report=report, resume=True, decode=True)
    assert len(looked) == 7  # opened before, not decoded
    looked.clear()
    check_list(eight, eight.parent, report=report)  # not asked to resume
    assert len(looked) == 7


# bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", r"list.txt is empty"),
        ("0.mp4 0\n0.mp4\n", r"list.txt, line 2: '0.mp4' is not a path and class numbers with ' ' between"),
        ("0.mp4 one\n", r"line 1: '0.mp4 one' is not a path and class numbers"),
        ("0.mp4 0\n1.mp4 Archery\n", r"line 2: '1.mp4 Archery' is not a path and class numbers"),
        ("0.mp4;0\n1.mp4 0\n", r"line 2: '1.mp4 0' is not a path and class numbers with ';' between"),
        ("0.mp4 -1\n", r"line 1: '0.mp4 -1' is not"),
        ("x.mp4 0\n", r"none of its 1 videos is in .*, for example .*x.mp4"),
    ],
)
def test_bad_lists(eight: Path, text, message):
    eight.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        check_list(eight, eight.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(min_frames=0), ValueError, "min_frames must be above 0, got 0"),
        (dict(workers=0), ValueError, "workers must be above 0, got 0"),
        (dict(timeout=0), ValueError, "timeout must be above 0, got 0"),
        (dict(resume=True), ValueError, "resume needs a report"),
        (dict(ann_file="none.txt"), FileNotFoundError, "none.txt does not exist"),
        (dict(data_root="nowhere"), NotADirectoryError, "nowhere is not a folder"),
        (dict(report="nowhere/a.json"), NotADirectoryError, "nowhere, the folder for the report"),
        (dict(report="list.txt", resume=True), ValueError, "list.txt is not a report of this checker"),
    ],
)
def test_bad_settings(eight: Path, monkeypatch, options, error, message):
    monkeypatch.chdir(eight.parent)
    with pytest.raises(error, match=message):
        check_list(**dict(ann_file="list.txt", data_root=".") | options)


def test_the_folder_below_is_suggested(eight: Path):
    (eight.parent / "videos").mkdir()
    (eight.parent / "0.mp4").rename(eight.parent / "videos/0.mp4")
    eight.write_text("0.mp4 0\n")
    with pytest.raises(ValueError, match=r"did you mean --data-root .*videos\?"):
        check_list(eight, eight.parent)


# the command


def test_the_command(mixed: Path, load_tool, monkeypatch, capsys):
    tool = load_tool("data/check_videos.py")
    report = mixed.parent / "report.json"
    monkeypatch.setattr(
        sys, "argv", ["x", str(mixed), "--min-frames", "4", "--workers", "2", "--json", str(report)]
    )
    assert tool.main() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("8 lines, 7 videos, 2 good\nmissing: 1\n  line 6: gone.mp4\nunreadable: 3\n")
    assert (
        "too short: 1\n  line 7: short.mp4 (3 frames)\nduplicates: 1\n  lines 3, 8: a b/twice.mp4\n"
        in printed
    )
    assert json.loads(report.read_text())["good"] == 2
    mixed.write_text("good.mp4 0\n")
    monkeypatch.setattr(sys, "argv", ["x", str(mixed)])
    assert tool.main() == 0


def test_the_checker_starts_without_torch_and_the_host():
    code = "import sys, mmvideoiq.data.check; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mmengine", "mmaction"} & set(done.stdout.split())
