"""``mmvideoiq infer``: what it tells, what it writes, and how it refuses."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmvideoiq.deploy.bundle.bundle import write_bundle
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.service import answers
from mmvideoiq.service import infer as command
from mmvideoiq.video.av_reader import AvReader
from mmvideoiq.video.errors import VideoError
from mmvideoiq.video.reader import prepare
from tests.conftest import ROOT, write_video
from tests.deploy.toy_bundle import toy_parts
from tests.video.servers import encode, live, serving
from tests.visualization.html_page import ReportPage, columns_of

pytest.importorskip("openvino")

SIZE, FRAMES = 32, 6
NO_VIDEO = "is not a video, or cut off (Invalid data found when processing input)"
EXPLAINED = " (docs/videos.md#damaged-files)"  # the end of its line on the terminal
CURVE = [
    dict(multiplier=-4.0, cost=0.8, accuracy=None, usage=[0.8, 0.0, 0.0, 0.2]),
    dict(multiplier=0.0, cost=0.4, accuracy=0.9, usage=[0.4, 0.0, 0.0, 0.6]),
    dict(multiplier=8.0, cost=0.2, accuracy=None, usage=[0.2, 0.0, 0.0, 0.8]),
]
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "mmengine", "mmcv", "mmaction", "decord", "matplotlib"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    path, parts = tmp_path_factory.mktemp("bundle") / "toy", toy_parts(frames=FRAMES, size=SIZE)
    parts["manifest"]["budget"] = CURVE
    write_bundle(path, **parts)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of b.mp4, a.mkv, text.mp4 (which is no video) and a file that nobody takes for one."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for name in ("b.mp4", "a.mkv"):
        write_video(folder / name, rng.integers(0, 256, (9, 48, 64, 3), dtype=np.uint8))
    (folder / "text.mp4").write_text("no video\n" * 99)
    (folder / "list.txt").write_text("a.mkv 0\n")
    return folder


@pytest.fixture
def infer(bundle, capsys):
    """Run the command on the toy bundle: exit code, stdout, stderr."""

    def run(*args: object, of: Path = bundle) -> tuple[int, str, str]:
        try:
            code = command.main([str(of), *map(str, args), "--threads", "1"])
        except SystemExit as ended:  # of the parser
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(outcome: tuple[int, str, str]) -> str:
    """The one line of an error of the user."""
    code, out, err = outcome
    assert (code, out) == (2, "") and err.count("\n") == 1 and ": error: " in err
    return err


# --- clips ----------------------------------------------------------------------------------------------------------


def test_what_is_told_and_written_is_what_the_session_says(infer, bundle, videos, tmp_path):
    paths, file = [videos / "b.mp4", videos / "a.mkv"], tmp_path / "out.json"
    code, out, err = infer(*paths, "--json", file, "--top", 2)
    assert (code, err) == (0, "")
    entries = json.loads(file.read_text())
    assert [entry["video"] for entry in entries] == [str(path) for path in paths]
    with VideoSession.open(bundle, threads=1) as session:
        for entry, want in zip(entries, session.run_many(paths), strict=True):
            assert (entry["label"], entry["name"], entry["frames"]) == (want.label, want.name, FRAMES)
            assert entry["score"] == want.score and entry["cost"] == want.cost
            assert entry["actions"] == [session.actions.names[action] for action in want.actions]
            best = sorted(range(5), key=lambda k: -want.scores[k])[:2]
            assert entry["top"] == [
                dict(label=k, name=f"class {k}", score=float(want.scores[k])) for k in best
            ]
            assert set(entry["ms"]) == {"decode", "policy", "recognition"} and min(entry["ms"].values()) > 0
            assert f"{entry['video']}  {entry['name']}  {entry['score']:.3f}\n" in out
            assert f"  class {best[1]}  {want.scores[best[1]]:.3f}\n" in out
            marks = ["." if name == "skip" else name for name in entry["actions"]]
            assert f"  {' '.join(marks)}\n  cost {entry['cost']:.3f}; ms: decode " in out
    assert out.startswith(
        "toy knows 5 classes: class 0, class 1, class 2, ...\nframes:  8 bits  4 bits  2 bits  . skipped\n"
    )
    assert out.splitlines()[-1].startswith("2 videos in ")
    assert sorted(os.listdir(tmp_path)) == ["out.json"]


def test_a_bad_video_beside_good_ones(infer, videos, tmp_path):
    file = tmp_path / "out.json"
    given = [videos / "b.mp4", videos / "text.mp4", videos / "gone.mp4", videos / "a.mkv"]
    code, out, err = infer(*given, "--json", file)
    assert code == 2
    lines = err.splitlines()
    assert [line.split(": error: ")[1] for line in lines] == [
        f"{videos / 'text.mp4'}: {NO_VIDEO}{EXPLAINED}",
        f"{videos / 'gone.mp4'}: there is no such file",
    ]
    entries = json.loads(file.read_text())
    assert [entry["video"] for entry in entries] == [str(path) for path in given]
    assert ["error" in entry for entry in entries] == [False, True, True, False]
    assert entries[2] == dict(video=str(videos / "gone.mp4"), error="there is no such file")
    assert "4 videos in" in out and out.endswith(", 2 of them bad\n")


def test_lines_on_stdout_in_place_of_a_list(infer, videos, tmp_path):
    given = [videos / "b.mp4", videos / "text.mp4", videos / "a.mkv"]
    code, out, err = infer(*given, "--json", "-")
    assert code == 2 and err.count("\n") == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert infer(*given, "--json", tmp_path / "out.json")[0] == 2
    entries = json.loads((tmp_path / "out.json").read_text())
    assert [{**row, "ms": 0} for row in rows] == [{**entry, "ms": 0} for entry in entries]
    code, out, _ = infer(videos / "a.mkv", "--stream", "--json", "-")
    assert code == 0 and json.loads(out)["frames"] == 9
    assert infer(videos / "text.mp4", "--stream", "--json", "-")[1].count("\n") == 1


def test_lines_are_not_kept(bundle, capsys):
    with VideoSession.open(bundle, threads=1) as session:
        report = answers.Report(session, top=1, lines=True)
    for _ in range(2):
        report.error("a.mkv", VideoError("a.mkv", "is empty"))
        report.end()
    assert report.entries == [] and report.failed
    assert capsys.readouterr().out == '{"video": "a.mkv", "error": "is empty"}\n' * 2


def test_one_video_has_no_summary(infer, videos):
    code, out, _ = infer(videos / "a.mkv")
    assert code == 0 and "videos in" not in out and len(out.splitlines()) == 5


def test_a_folder_is_its_videos_by_name(infer, videos, tmp_path):
    infer(videos, videos / "b.mp4", "--json", tmp_path / "out.json")
    names = [Path(entry["video"]).name for entry in json.loads((tmp_path / "out.json").read_text())]
    assert names == ["a.mkv", "b.mp4", "text.mp4", "b.mp4"]
    (tmp_path / "empty").mkdir()
    line = refused(infer(tmp_path / "empty"))
    assert "empty: this folder holds no videos (.3gp, .asf, .avi" in line and "bulk" not in line
    for name in "dcba":
        (tmp_path / "empty" / name).mkdir()
    line = refused(infer(tmp_path / "empty"))
    assert "folders below are not searched: name them (a, b, c, ...), or use mmvideoiq bulk" in line


def test_a_budget_changes_what_is_done(infer, videos, tmp_path):
    costs = []
    for budget in ("0.8", "0.2"):
        assert infer(videos / "a.mkv", "--budget", budget, "--json", tmp_path / "out.json")[0] == 0
        costs.append(json.loads((tmp_path / "out.json").read_text())[0]["cost"])
    assert costs[0] > costs[1]


def test_sampling_and_reader_reach_the_session(infer, videos, monkeypatch):
    seen = []

    def watched(_, **options):
        seen.append((options["sampling"], options["reader"]))
        raise ValueError("seen")

    monkeypatch.setattr(command.VideoSession, "open", watched)
    for options in ([], ["--sampling", "keyframe"], ["--reader", "decord"]):
        infer(videos / "a.mkv", *options)
    assert seen == [(None, "av"), ("keyframe", "av"), (None, "decord")]


def test_another_engine_says_the_same(infer, videos, tmp_path):
    pytest.importorskip("onnxruntime")
    found = []
    for engine in ("openvino", "onnxruntime"):
        assert infer(videos / "a.mkv", "--engine", engine, "--json", tmp_path / "out.json")[0] == 0
        found.append(json.loads((tmp_path / "out.json").read_text())[0])
    assert found[0]["actions"] == found[1]["actions"] and found[0]["label"] == found[1]["label"]
    assert found[0]["score"] == pytest.approx(found[1]["score"], abs=1e-3)


def test_an_older_list_is_replaced_or_kept_as_a_whole(infer, videos, tmp_path, monkeypatch):
    file = tmp_path / "out.json"
    file.write_text("old")
    assert infer(videos / "a.mkv", "--budget", 99, "--json", file)[0] == 2
    assert file.read_text() == "old"

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        code, _, err = infer(videos / "a.mkv", "--json", file)
    assert code == 2 and "No space left on device" in err
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["out.json"]


def test_a_page_of_the_answers(infer, videos, tmp_path):
    out, file = tmp_path / "page.html", tmp_path / "out.json"
    given = [videos / "b.mp4", videos / "text.mp4", videos / "a.mkv"]
    assert infer(*given, "--report", out, "--json", file)[0] == 2
    page, entries = ReportPage(out.read_text()), json.loads(file.read_text())
    answers = columns_of(page.tables["answers"][0])
    assert answers["video"] == ["b.mp4", "a.mkv"]
    good = [entry for entry in entries if "label" in entry]
    assert answers["label"] == [entry["name"] for entry in good]
    assert answers["cost"] == [f"{entry['cost']:.3f}" for entry in good]
    assert answers["recognition ms"] == [f"{entry['ms']['recognition']:.1f}" for entry in good]
    shown = [kind for kind in page.kinds["frames"] if kind]
    assert shown == ["skip" if a == "skip" else "done" for entry in good for a in entry["actions"]]
    assert len(page.images["frames"]) == 2 * FRAMES
    assert page.tables["videos-that-could-not-be-read"][0][1][1] == NO_VIDEO
    assert sorted(os.listdir(tmp_path)) == ["out.json", "page.html"]


def test_a_page_of_a_stream(infer, videos, tmp_path):
    assert infer(videos / "b.mp4", "--stream", "--report", tmp_path / "page.html")[0] == 0
    page = ReportPage((tmp_path / "page.html").read_text())
    assert [alt for alt, _ in page.images["frames"]] == [f"frame {n}" for n in range(9)]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gone/x.html", "there is no folder gone"),
        (".", "is a folder; name a file"),
        ("/proc/x.html", "no file can be written to /proc ("),
    ],
)
def test_where_no_page_can_be_written_is_said_first(infer, tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    line = refused(infer("gone.mp4", "--report", place, of=tmp_path / "no bundle"))
    assert f": error: --report {place}: {message}" in line


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_answers_after_every_frame(infer, bundle, videos, tmp_path):
    code, out, err = infer(videos / "b.mp4", "--stream", "--every", 2, "--json", tmp_path / "out.json")
    assert (code, err) == (0, "")
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    with VideoSession.open(bundle, threads=1) as session:
        for frame in AvReader(videos / "b.mp4").read([0, 2, 4, 6, 8]):
            action = session.push(prepare(frame, session.preprocessing))
            so_far = session.result()
            line = (
                f"frame {so_far.frames}: {session.actions.names[action]}, {so_far.name} {so_far.score:.3f}\n"
            )
            assert line in out
        assert (entry["label"], entry["frames"], entry["cost"]) == (so_far.label, 5, so_far.cost)
        assert entry["actions"] == [session.actions.names[action] for action in so_far.actions]


def test_a_stream_that_breaks_still_answers(infer, videos, tmp_path, monkeypatch):
    def broken(self, source, *, every, fps, **_):
        assert (source, every, fps) == (0, 1, 4.0)
        yield from np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
        raise VideoError(source, "stopped giving frames")

    monkeypatch.setattr(command.Decoder, "stream", broken)
    monkeypatch.chdir(tmp_path)
    code, out, err = infer("0", "--stream", "--fps", 4, "--json", "out.json")
    assert code == 2 and err.endswith("error: camera 0: stopped giving frames\n")
    (entry,) = json.loads(Path("out.json").read_text())
    assert (entry["video"], entry["frames"], entry["error"]) == ("0", 3, "stopped giving frames")
    assert f"0  {entry['name']}  {entry['score']:.3f}\n" in out


def test_a_live_stream_counts_what_it_dropped(infer, tmp_path):
    part = encode(tmp_path / "part.ts", range(40)).read_bytes()
    with serving(tmp_path, {"live": live([part])}) as address:
        code, out, err = infer(f"{address}/live", "--stream", "--retries", 0, "--json", tmp_path / "out.json")
    assert code == 2 and "connection lost (the stream ended); attempts to reconnect: 0" in err
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    assert entry["frames"] > 0 and entry["frames"] + entry["dropped"] == 40
    assert entry["video"] == f"{address}/live" and ("frames dropped" in out) == (entry["dropped"] > 0)


def test_an_interrupted_stream_answers_too(infer, tmp_path, monkeypatch):
    def interrupted(self, source, **_):
        yield np.zeros((SIZE, SIZE, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Decoder, "stream", interrupted)
    code, out, err = infer("0", "--stream", "--json", tmp_path / "out.json")
    assert (code, err) == (130, "") and "  cost " in out
    assert json.loads((tmp_path / "out.json").read_text())[0]["frames"] == 1


def test_a_bad_stream(infer, videos):
    code, out, err = infer(videos / "text.mp4", "--stream")
    assert code == 2 and err.endswith(f"text.mp4: {NO_VIDEO}{EXPLAINED}\n") and len(out.splitlines()) == 2


# --- the terminal ---------------------------------------------------------------------------------------------------


def test_in_a_terminal_cells_have_colours_and_lines_its_width(infer, bundle, videos, monkeypatch):
    shown = io.StringIO()

    def terminal(*_, stderr=False, **__):
        return Console(file=shown, force_terminal=True, color_system="standard", width=40, highlight=False)

    for module in (answers, command):
        monkeypatch.setattr(module, "Console", terminal)
    assert infer(videos / "a.mkv", videos / "b.mp4")[0] == 0
    assert infer(videos / "a.mkv", "--stream")[0] == 0
    text = shown.getvalue()
    assert "\x1b[37;41m8\x1b[0m" in text or "\x1b[30;43m4\x1b[0m" in text
    with VideoSession.open(bundle, threads=1) as session:
        report = answers.Report(session, top=1)
        report.console.width = 9
        assert report.timeline([0, 1, 2, 3, 0, 3, 1, 1]).plain == "  8 4 2\n  . 8 .\n  4 4"
        assert report.timeline([0, 1, 2, 3, 0, 3, 1, 1], 1).plain == "  4 4"
    assert "after 9 frames" in text and "2/2" in text  # the running answer, the progress bar


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--budget", "7"],
            "a budget of 7 is out of reach: a mean cost of a frame is at most 1, such as 0.4; for a time of a clip "
            "give 7ms (docs/deployment.md#budgets)",
        ),
        (
            ["--budget", "0.9"],
            "a budget of 0.9 is out of reach: this model spends 0.2 to 0.8 (docs/deployment.md#budgets)",
        ),
        (
            ["--budget", "cheap"],
            "budget 'cheap' is neither a mean cost such as 0.4 nor a time such as '30ms'",
        ),
        (
            ["--engine", "tensorrt"],
            "unknown engine 'tensorrt'; choose one of openvino, onnxruntime (docs/deployment.md#engines)",
        ),
        (["--threads", "0"], "argument --threads: '0' is not a whole number of at least 1"),
        (["--top", "few"], "argument --top: 'few' is not a whole number of at least 1"),
        (["--every", "2"], "--every and --fps set the pace of --stream: give it too"),
        (["--fps", "2"], "--every and --fps set the pace of --stream: give it too"),
        (["--stream", "--fps", "0"], "argument --fps: '0' is not a number above 0"),
        (["--stream", "--fps", "nan"], "argument --fps: 'nan' is not a number above 0"),
        (["--stream", "--every", "2", "--fps", "2"], "argument --fps: not allowed with argument --every"),
        (["more.mp4", "--stream"], "--stream takes one file or camera, got 2"),
        (["--stream", "--retries=1"], "--timeout and --retries are for addresses: leave them out"),
        (["--json", "nowhere/out.json"], "--json nowhere/out.json: there is no folder nowhere"),
        (["--json", "."], "--json .: is a folder; name a file"),
        (["0"], "0: there is no such file; a camera needs --stream"),
        (["--decoders", "0"], "argument --decoders: '0' is not a whole number of at least 1"),
        (
            ["--sampling", "nearby", "--reader", "decord"],
            "decord reads with sampling 'exact' alone, not 'nearby': choose it (--sampling exact)",
        ),
        (["--timeout", "3"], "--timeout and --retries are for --stream: give it too"),
        (
            ["--stream", "--sampling", "nearby"],
            "--stream takes each frame, one by one: leave out --sampling and --decoders",
        ),
        (["--wrong"], "unrecognized arguments: --wrong"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_wrong_arguments(infer, videos, args, message):
    assert refused(infer(videos / "a.mkv", *args)).endswith(f": error: {message}\n")


def test_an_engine_that_is_not_installed(infer, videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime is not installed" in refused(infer(videos / "a.mkv", "--engine", "onnxruntime"))


def test_a_missing_or_damaged_bundle(infer, bundle, videos, tmp_path):
    assert "nowhere: there is no such folder" in refused(infer(videos / "a.mkv", of=tmp_path / "nowhere"))
    for name in sorted(os.listdir(bundle)):
        damaged = tmp_path / f"damaged-{name}"
        shutil.copytree(bundle, damaged)
        data = bytearray((damaged / name).read_bytes())
        data[len(data) // 2] ^= 1
        (damaged / name).write_bytes(data)
        assert f"{damaged / name}: " in refused(infer(videos / "a.mkv", of=damaged))


def test_errors_keep_their_traceback_if_asked(infer, bundle, videos, monkeypatch):
    monkeypatch.setenv("MMVIDEOIQ_TRACEBACK", "1")
    with pytest.raises(ValueError, match="out of reach"):
        command.main([str(bundle), str(videos / "a.mkv"), "--budget", "7"])


# --- as a command ---------------------------------------------------------------------------------------------------


def test_the_runtime_alone_is_enough(bundle, videos, tmp_path):
    """Run as a command from elsewhere, with PyTorch and MMAction2 out of reach, into a pipe."""
    tool = ROOT / "tools" / "infer.py"
    code = f"{BLOCKER}\nimport runpy\nsys.argv[0] = {str(tool)!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(videos), "--json", "out.json", "--report", "out.html"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"infer.py: error: {videos / 'text.mp4'}: {NO_VIDEO}{EXPLAINED}\n"
    assert "\x1b" not in done.stdout and done.stdout.splitlines()[-1].endswith("1 of them bad")
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    page = ReportPage((tmp_path / "out.html").read_text())
    assert len(page.images["frames"]) == 2 * FRAMES


def ignore_signals() -> None:
    """As in a background job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_keeps_what_there_is(bundle, videos, tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/infer.py", bundle, *[videos / "a.mkv"] * 5000, "--json", "out.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=ignore_signals,
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    entries = json.loads((tmp_path / "out.json").read_text())
    assert 5 < len(entries) < 5000 and not any("error" in entry for entry in entries)
    assert os.listdir(tmp_path) == ["out.json"]


def test_names_that_the_terminal_or_utf_8_cannot_hold(bundle, videos, tmp_path):
    names = [b"gr\xc3\xbc\xc3\x9f.mkv", b"\xff.mkv"]
    for name in names:
        shutil.copy(videos / "a.mkv", os.path.join(os.fsencode(tmp_path), name))
    done = subprocess.run(
        [sys.executable, ROOT / "tools/infer.py", bundle, *names, "--json", "out.json"],
        capture_output=True,
        cwd=tmp_path,
        env=dict(os.environ, PYTHONIOENCODING="ascii", LANG="C"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode("ascii")
    assert "\ngr\\xfc\\xdf.mkv  class " in told and "\n\\udcff.mkv  class " in told
    entries = json.loads((tmp_path / "out.json").read_text())
    assert [os.fsencode(entry["video"]) for entry in entries] == names
    assert [entry["frames"] for entry in entries] == [FRAMES] * 2
