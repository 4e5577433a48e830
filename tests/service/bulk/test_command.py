"""The command in one process: what it writes and tells, how it refuses, how it goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.jobs.lock import locked
from mmvideoiq.service.bulk import main
from mmvideoiq.service.bulk.arguments import size
from mmvideoiq.service.bulk.summary import error_kind
from mmvideoiq.video.errors import VideoError
from tests.service.bulk.runs import rows, start, wait_for_shards

NO_VIDEO = "is not a video, or cut off (Invalid data found when processing input)"


@pytest.fixture
def bulk(bundle, tmp_path, capsys):
    """Run the command without Ray: exit code, stdout, stderr."""

    def run(*args: object, of: Path = bundle) -> tuple[int, str, str]:
        options = ["--out", tmp_path / "out", "--no-ray", "--threads", 1, "--decoders", 1]
        try:
            code = main([str(of), *map(str, args), *map(str, options)])
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_rows_are_what_the_session_says(bulk, bundle, linked, tmp_path):
    folder = linked(7)
    code, out, err = bulk(folder, "--shard-size", 3)
    assert (code, err) == (0, "7 videos\n")
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == [str(folder / f"{n:05d}.mp4") for n in range(7)]
    with VideoSession.open(bundle, threads=1) as session:
        for row, want in zip(found, session.run_many([row["path"] for row in found]), strict=True):
            if isinstance(want, VideoError):
                assert row["error"] == want.reason and row["label"] is None and row["decode_ms"] is None
                continue
            assert (row["label"], row["label_index"], row["error"]) == (want.name, want.label, None)
            assert row["scores"] == want.scores.tolist() and row["score"] == np.float32(want.score)
            assert row["actions"] == [session.actions.names[action] for action in want.actions]
            assert (row["cost"], row["frames"], row["lost"]) == (want.cost, want.frames, 0)
            assert row["decode_ms"] > 0 and row["recognize_ms"] > 0
            assert row["float_precision"] == want.float_precision
    assert [row["error"] for row in found[3:5]] == [NO_VIDEO, "is empty"]
    assert out.startswith("7 of 7 videos done; now 7 in ") and "errors: 2\n" in out
    unreadable, empty = folder / "00003.mp4", folder / "00004.mp4"
    assert out.endswith(
        f"  1  is not a video, or cut off, first {unreadable}\n  1  is empty, first {empty}\n"
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    costs = [row["cost"] for row in found if row["error"] is None]
    assert summary["mean_cost"] == pytest.approx(np.mean(costs)) and summary["done"] == 7
    assert summary["share_saved"] == pytest.approx(1 - np.mean(costs))
    assert sorted(os.listdir(tmp_path / "out/results")) == [f"0000{shard}.parquet" for shard in range(3)]


def test_json_lines(bulk, linked):
    folder = linked(4, good=True)
    _, out, err = bulk(folder, "--shard-size", 2, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["plan", "shard", "shard", "summary"] and err == ""
    assert events[0] == dict(event="plan", videos=4, done=0, shards=2)
    assert [event["shard"] for event in events[1:3]] == ["00000.parquet", "00001.parquet"]
    assert events[3]["errors"] == 0 and events[3]["now"]["videos"] == 4


def test_finished_shards_are_not_done_again(bulk, linked, tmp_path):
    folder, results = linked(5, good=True), tmp_path / "out/results"
    bulk(folder, "--shard-size", 2)
    before = {file.name: file.read_bytes() for file in results.iterdir()}
    (results / "00001.parquet").unlink()
    for name in ("00000", "00001", "00004"):  # of finished shards nothing is needed
        (folder / f"{name}.mp4").unlink()
    code, out, err = bulk(folder, "--shard-size", 2)
    assert code == 0 and err == "5 videos, 3 of them done before\n" and "now 2 in" in out
    after = rows(tmp_path / "out")
    assert {file.name for file in results.iterdir()} == set(before)
    assert all((results / name).read_bytes() == before[name] for name in ("00000.parquet", "00002.parquet"))
    assert [row["place"] for row in after] == list(range(5)) and not any(row["error"] for row in after)
    code, out, _ = bulk(folder, "--shard-size", 2)
    said = f"all 5 videos were done before; their rows are in {results}\nall 2 starts: 7 in "
    assert code == 0 and out.startswith(said)


def test_the_summary_has_the_figures_of_this_start_beside_those_of_all(bulk, linked, tmp_path):
    def summary() -> dict:
        bulk(folder, "--shard-size", 2)
        return json.loads((tmp_path / "out/summary.json").read_text())

    folder = linked(5)
    first = summary()
    assert first["total"] == dict(first["now"], starts=1) and first["now"]["videos"] == 5
    again = summary()
    assert (again["now"]["videos"], again["now"]["clips_per_s"]) == (0, 0)
    assert {**again, "now": None} == {**first, "now": None}
    (tmp_path / "out/results/00001.parquet").unlink()
    third = summary()
    seconds = first["now"]["seconds"] + third["now"]["seconds"]
    assert (third["now"]["videos"], third["done"], third["errors"]) == (2, 5, 2)
    assert third["total"] == dict(starts=2, videos=7, seconds=seconds, clips_per_s=7 / seconds)
    (tmp_path / "out/starts.json").write_text("[")  # nothing but these figures depends on it
    assert summary()["total"] == dict(starts=0, videos=0, seconds=0, clips_per_s=0)


def test_a_run_that_recognized_nothing_fails(bulk, linked, tmp_path):
    """Its rows are written all the same, and another start says it again."""
    linked(1, good=True)
    (tmp_path / "list.txt").write_text("gone/a.mp4 0\ngone/b.mp4 1\n")
    for first in (True, False):
        code, out, err = bulk(tmp_path / "list.txt")
        assert code == 1 and ("errors: 2\n" in out) and out.startswith("2 of 2" if first else "all 2 videos")
        assert err.splitlines()[1].endswith(
            f": error: none of the 2 videos could be recognized: there is no such file, first {tmp_path}/gone/a.mp4; "
            "give --data-root, at which relative paths of lists begin, and another --out"
        )
        assert err.count("\n") == 2
    assert len(rows(tmp_path / "out")) == 2 and (tmp_path / "out/summary.json").is_file()
    (tmp_path / "list.txt").write_text("00000.mp4 0\ngone.mp4 1\n")
    shutil.rmtree(tmp_path / "out")
    code, out, err = bulk(tmp_path / "list.txt", "--data-root", tmp_path / "videos")
    assert code == 0 and "errors: 1\n" in out and err == "2 videos\n"


def test_errors_are_retried_when_asked(bulk, linked, originals, tmp_path):
    folder = linked(5)
    bulk(folder)
    (folder / "00003.mp4").unlink()
    shutil.copy(originals[1], folder / "00003.mp4")
    assert bulk(folder)[1].count("errors: 2\n") == 1
    assert bulk(folder, "--retry-errors")[1].count("errors: 1\n") == 1
    assert [row["error"] for row in rows(tmp_path / "out")] == [None] * 4 + ["is empty"]


def test_what_the_engine_refuses_is_an_error_of_that_video(bulk, linked, tmp_path, monkeypatch):
    run, calls = VideoSession.run, []

    def refuses(session, frames, **options):
        calls.append(frames)
        if len(calls) == 2:
            raise RuntimeError("no\nmemory")
        return run(session, frames, **options)

    monkeypatch.setattr(VideoSession, "run", refuses)
    assert bulk(linked(3, good=True))[0] == 0
    errors = [row["error"] for row in rows(tmp_path / "out")]
    assert errors == [None, "cannot be recognized (RuntimeError: no memory)", None]


@pytest.mark.parametrize("where", [["--no-ray"], []])
def test_a_machine_that_cannot_decode_ends_the_run(bundle, linked, tmp_path, monkeypatch, capsys, where):
    """In one line, without rows, before Ray starts; where it can, the same command goes on."""
    given = [str(bundle), str(linked(3, good=True)), "--out", str(tmp_path / "out"), "--threads", "1"]
    (tmp_path / "av.py").write_text("raise ImportError('libav.so: cannot open')\n")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        assert main([*given, *where]) == 1
    captured = capsys.readouterr()
    first, line = captured.err.splitlines()
    assert (captured.out, first) == ("", "3 videos")
    assert line.endswith(": error: no decoder can be started: libav.so: cannot open")
    assert not os.listdir(tmp_path / "out/results")
    if where:
        assert main([*given, *where]) == 0 and capsys.readouterr().out.startswith("3 of 3 videos done")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["gone"], "gone: there is no such file or folder"),
        (["videos", "--engine", "none"], "none"),
        (["videos", "--budget", "30ms"], "times differ between machines: give a mean cost, such as 0.4"),
        (["videos", "--budget", "x"], "budget"),
        (["videos", "--budget", "30"], "--budget 30: a mean cost of a frame is at most 1, such as 0.4"),
        (["videos", "--size-limit", "big"], "'big' is not a number of bytes, such as 500M"),
        (["videos", "--recognizers", "2"], "--no-ray recognizes in one process"),
        (["videos", "--address", "auto"], "not allowed with argument"),
    ],
)
def test_mistakes_are_one_line(bulk, linked, tmp_path, monkeypatch, args, said):
    linked(1, good=True)
    monkeypatch.chdir(tmp_path)
    code, out, err = bulk(*args)
    assert code == 2 and out == "" and err.count("\n") == 1 and said in err and ": error: " in err
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_cannot_be_opened_leaves_the_disk_as_it_was(bundle, linked, tmp_path, capsys):
    folder, bad = linked(1, good=True), tmp_path / "bad"
    shutil.copytree(bundle, bad)
    (bad / "manifest.json").write_text("{}")
    (tmp_path / "mine").mkdir()
    for given in ("new/runs/1", "mine"):
        assert main([str(bad), str(folder), "--no-ray", "--out", str(tmp_path / given)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["bad", "mine", "videos"] and not os.listdir(tmp_path / "mine")


@pytest.mark.parametrize(
    ("out", "why"), [("/proc/x", "No such file"), ("file", "File exists"), ("file/x", "Not a")]
)
def test_a_folder_that_cannot_be_made(bundle, tmp_path, monkeypatch, capsys, out, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main([str(bundle), "file", "--out", out]) == 2
    said = capsys.readouterr().err
    assert f": error: --out {out}: this folder cannot be made ({why}" in said and said.count("\n") == 1


def test_another_run_in_the_folder_is_refused(bulk, linked):
    folder = linked(2, good=True)
    bulk(folder)
    code, out, err = bulk(folder, "--sampling", "keyframe")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "holds another run (its sampling: exact, given: keyframe): give what it was begun with" in err


def test_a_folder_belongs_to_one_run(bulk, linked, tmp_path):
    with locked(tmp_path / "out", ValueError):
        code, out, err = bulk(linked(1, good=True))
    assert (code, out) == (2, "") and err.endswith(": end it, or choose another --out\n")


def test_sizes():
    assert [size(text) for text in ("7", "2k", "500M", "4G")] == [7, 2048, 500 * 2**20, 2**32]


def test_kinds_of_errors():
    assert error_kind(NO_VIDEO) == "is not a video, or cut off"
    assert error_kind("is damaged: 7 of 16 frames cannot be decoded") == (
        "is damaged: N of N frames cannot be decoded"
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_that_was_ended_goes_on(bulk, bundle, linked, tmp_path, ending):
    folder, out = linked(300, good=True), tmp_path / "out"
    process = start(bundle, folder, out, "--no-ray", "--decoders", "1", "--shard-size", "10")
    wait_for_shards(out, 2, process)
    process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if ending == signal.SIGKILL else 128 + ending)
    assert ("interrupted: the same command goes on" in said) == (ending != signal.SIGKILL)
    done = {file.name: file.read_bytes() for file in out.glob("results/0*.parquet")}
    assert 2 <= len(done) < 30
    code, _, err = bulk(folder, "--shard-size", 10)
    assert code == 0 and f"{10 * len(done)} of them done before" in err
    assert [row["place"] for row in rows(out)] == list(range(300))
    assert all((out / "results" / name).read_bytes() == content for name, content in done.items())
