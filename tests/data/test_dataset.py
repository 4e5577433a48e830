import functools
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmvideoiq.data import dataset as dataset_file
from mmvideoiq.data import probe as probing
from mmvideoiq.data.dataset import CheckedVideoDataset
from mmvideoiq.data.probe import find_unreadable, probe
from mmvideoiq.data.synthetic import write_lossless
from tests.data import damaged
from tests.video import odd
from tests.video.damage import mutations

pytestmark = pytest.mark.filterwarnings("ignore:.*FileClient:DeprecationWarning")


READERS = ("Video", "Decord")  # of the pipeline: VideoInit and VideoDecode, or MMAction2's


def pipeline(segments: int = 4, *, reader: str = "Video", **sampling) -> list[dict]:
    return [
        dict(type=f"mmaction.{reader}Init"),
        dict(type="mmaction.SampleFrames", clip_len=1, frame_interval=1, num_clips=segments, **sampling),
        dict(type=f"mmaction.{reader}Decode"),
        dict(type="mmaction.FormatShape", input_format="NCHW"),
        dict(type="mmaction.PackActionInputs", meta_keys=("filename", "frame_inds")),
    ]


def write(path: Path, frames: int, *, level: int = 0) -> Path:
    """A clip of 32x32 whose frame t has the level ``level + t``."""
    levels = np.arange(frames, dtype=np.uint8) + np.uint8(level)
    clip = np.broadcast_to(levels[:, None, None, None], (frames, 32, 32, 3))
    write_lossless(path, clip, rate=5)
    return path


def write_corrupt(path: Path, kind: str) -> Path:
    if kind == "text":
        path.write_text("this is no video " * 50)
    elif kind == "nothing":
        path.write_bytes(b"")
    elif kind == "sound":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            sound.rate = 8000
            container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
    elif kind == "hole":  # opens, but most of its frames are gone
        damaged.hole(path, 0.8)
    return path


CORRUPT = ("text", "nothing", "sound", "hole")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve clips of which four are corrupt, each in its own way: numbers 1, 4, 7 and 10."""
    lines = []
    for i in range(12):
        if i % 3 == 1:
            write_corrupt(tmp_path / f"{i}.mp4", CORRUPT[i // 3])
        else:
            write(tmp_path / f"{i}.mp4", 8, level=i)
        lines.append(f"{i}.mp4 {i % 2}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def build(folder: Path, **changes) -> CheckedVideoDataset:
    given = dict(ann_file="list.txt", data_root=str(folder), pipeline=pipeline(test_mode=True), num_classes=2)
    return CheckedVideoDataset(**{**given, **changes})


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(dataset_file, "print_log", lambda message, logger, level: messages.append(message))
    return messages


# lists


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, r"list.txt does not exist; set .*DATA_ROOT"),
        ("", ValueError, r"list.txt is empty"),
        ("\n \n", ValueError, r"list.txt is empty"),
        ("0.mp4 0\n0.mp4\n", ValueError, r"list.txt, line 2: '0.mp4' is not a path and a class number"),
        ("0.mp4 one\n", ValueError, r"line 1: '0.mp4 one' is not a path"),
        ("0.mp4,1\n", ValueError, r"line 1: '0.mp4,1' is not a path"),
        ("0.mp4 0\n\n0.mp4 2\n", ValueError, r"line 3: label 2 is outside 0..1 \(num_classes=2\)"),
        ("0.mp4 -1\n", ValueError, r"line 1: label -1 is outside 0..1"),
        ("0.mp4 0\nx.mp4 0\ny.mp4 1\n", FileNotFoundError, r"line 2: no video .*x.mp4 \(2 of 3"),
    ],
)
def test_bad_lists_give_one_line_before_training(tmp_path: Path, text, error, message):
    write(tmp_path / "0.mp4", 2)
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(error, match=message) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, None, 2.0])
def test_num_classes_is_checked(folder: Path, value):
    with pytest.raises(ValueError, match="num_classes must be an int >= 1"):
        build(folder, num_classes=value)


def test_unknown_arguments_are_refused(folder: Path):
    with pytest.raises(TypeError, match="num_clases"):
        build(folder, num_clases=2)


def test_spaces_delimiters_and_missing_endings(tmp_path: Path):
    write(tmp_path / "a b.mp4", 3)
    (tmp_path / "list.txt").write_text("a b.mp4 1\na b 0\n")
    data = build(tmp_path)
    assert [data[i]["data_samples"].gt_label.item() for i in range(2)] == [1, 0]
    (tmp_path / "list.txt").write_text("a b.mp4,1\n")
    assert len(build(tmp_path, delimiter=",")) == 1


def test_several_labels(tmp_path: Path):
    write(tmp_path / "a.mp4", 3)
    (tmp_path / "list.txt").write_text("a.mp4 0 3\n")
    data = build(tmp_path, num_classes=4, multi_class=True)
    assert data[0]["data_samples"].gt_label.tolist() == [1, 0, 0, 1]
    (tmp_path / "list.txt").write_text("a.mp4 0 4\n")
    with pytest.raises(ValueError, match=r"label 4 is outside 0..3"):
        build(tmp_path, num_classes=4, multi_class=True)


# corrupt videos


@pytest.mark.parametrize("reader", ["av", "decord"])
@pytest.mark.parametrize("kind", CORRUPT)
def test_corrupt_videos_are_found(tmp_path: Path, kind, reader):
    path = write_corrupt(tmp_path / "bad.mp4", kind)
    reason = probe(str(path), reader=reader)["reason"]
    assert reason and "\n" not in reason
    good = write(tmp_path / "good.mp4", 3)
    assert probe(str(good), reader=reader) == {"frames": 3}
    assert list(find_unreadable([good, path, good, tmp_path / "none.mp4"], reader=reader)) == [1, 3]


def test_what_decord_refuses_is_judged_by_the_pipelines_reader(tmp_path: Path, logged: list[str]):
    odd.write(tmp_path / "0.ts", odd.ODD["h264.ts"])
    write(tmp_path / "1.mp4", 3)
    (tmp_path / "list.txt").write_text("0.ts 0\n1.mp4 1\n")
    assert [
        len(build(tmp_path, pipeline=pipeline(reader=reader, test_mode=True)))
        for reader in ("Video", "Decord", "Video")
    ] == [2, 1, 2]  # a record of the one does not hold for the other


def test_a_newer_reader_looks_again(folder: Path, monkeypatch):
    assert len(build(folder)) == 8
    monkeypatch.setattr(probing, "VERSION", probing.VERSION + 1)
    monkeypatch.setattr(
        probing, "probe_all", lambda paths, **_: ((i, {"frames": 8}) for i in range(len(paths)))
    )
    assert len(build(folder)) == 12


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("test_mode", [False, True])
def test_they_are_left_out_before_a_run(folder: Path, logged: list[str], test_mode, reader):
    data = build(folder, test_mode=test_mode, pipeline=pipeline(reader=reader, test_mode=True))
    assert len(data) == 8 and data.unreadable == 4
    assert [int(Path(data.get_data_info(i)["filename"]).stem) % 3 for i in range(8)] == [0, 2] * 4
    assert logged[-1].startswith("4 of 12 videos of") and "left out" in logged[-1]
    assert [any(f"{i}.mp4 cannot be read" in m for m in logged) for i in (1, 4, 7, 10)] == [True] * 4
    assert len(list(DataLoader(data, batch_size=None, num_workers=2))) == 8


def test_only_the_clips_in_use_are_checked(folder: Path, logged: list[str]):
    data = build(folder, test_mode=True, indices=3)
    assert len(data) == 2 and data.unreadable == 1


@pytest.mark.parametrize(("workers", "reader"), [(0, "Video"), (2, "Video"), (2, "Decord")])
def test_training_replaces_them_counts_them_and_goes_on(folder: Path, workers, reader):
    data = build(folder, pipeline=pipeline(reader=reader, test_mode=True), check_videos=False)
    assert len(data) == 12 and data.unreadable == 0
    seen = []
    for _ in range(3):
        loader = DataLoader(data, batch_size=None, num_workers=workers, shuffle=True)
        seen += [Path(d["data_samples"].filename).stem for d in loader]
    assert len(seen) == 36 and not {"1", "4", "7", "10"} & set(seen)
    assert data.unreadable == 4  # also when workers found them


def test_each_is_logged_once_with_the_count(folder: Path, logged: list[str]):
    data = build(folder, check_videos=False)
    for _ in range(3):
        for i in range(12):
            data[i]
    assert len(logged) == 4
    assert "so far 4 of 12" in logged[-1]


def test_a_late_failure_in_testing_has_a_stand_in_and_says_so(folder: Path, logged: list[str]):
    data = build(folder, test_mode=True)
    write_corrupt(folder / "3.mp4", "text")  # sample 2, between clips 2 and 5
    files = [Path(data[i]["data_samples"].filename).stem for i in range(8)]
    assert files == ["0", "2", "5", "5", "6", "8", "9", "11"]
    assert data.unreadable == 5
    assert "5.mp4 stands in and counts twice" in logged[-1]


def test_unchecked_test_set_still_survives(folder: Path, logged: list[str]):
    data = build(folder, test_mode=True, check_videos=False)
    assert len(data) == 12 and not logged
    assert len([data[i] for i in range(12)]) == 12 and data.unreadable == 4


@pytest.mark.parametrize("test_mode", [False, True])
def test_nothing_readable_at_all(tmp_path: Path, test_mode):
    for i in range(2):
        write_corrupt(tmp_path / f"{i}.mp4", "text")
    (tmp_path / "list.txt").write_text("0.mp4 0\n1.mp4 1\n")
    with pytest.raises(RuntimeError, match="none of the 2 videos"):
        build(tmp_path, test_mode=test_mode)[0]
    with pytest.raises(RuntimeError, match="none of the 2 videos"):
        build(tmp_path, test_mode=test_mode, check_videos=False)[0]


def test_an_error_of_the_pipeline_is_not_taken_for_one_of_the_video(folder: Path):
    def broken(results: dict) -> dict:
        raise RuntimeError("a transform of mine")

    data = build(folder, pipeline=[broken], check_videos=False)
    with pytest.raises(RuntimeError, match="a transform of mine"):
        data[0]
    assert data.unreadable == 0


def _checked_by_one_of_two(rank: int, folder: str) -> None:
    from mmvideoiq import compat, plugin  # noqa: F401

    compat.apply()
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    if rank == 1:  # only the first process looks
        dataset_file.find_unreadable = None
    data = build(Path(folder), test_mode=True)
    assert len(data) == 8 and data.unreadable == 4
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_all_processes_leave_out_the_same(folder: Path):
    torch.multiprocessing.spawn(_checked_by_one_of_two, args=(str(folder),), nprocs=2)


# a decoder that crashes or hangs

forks = pytest.mark.skipif(
    probing.CONTEXT.get_start_method() != "fork", reason="the decoder is replaced by fork"
)


def misbehave(path: str, **_) -> dict:
    if Path(path).name == "3.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    while Path(path).name == "5.mp4":  # SIGTERM does not reach Python code
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(1)
    return {"frames": 9}


@forks
@pytest.mark.parametrize("test_mode", [False, True])
def test_a_crash_and_a_hang_are_left_out_and_remembered(
    folder: Path, monkeypatch, logged: list[str], test_mode
):
    monkeypatch.setattr(probing, "probe", misbehave)
    monkeypatch.setattr(
        dataset_file, "find_unreadable", functools.partial(find_unreadable, timeout=1, workers=2)
    )
    data = build(folder, test_mode=test_mode)
    assert len(data) == 10 and data.unreadable == 2
    assert any("3.mp4 cannot be read (the decoder crashed (SIGSEGV))" in line for line in logged)
    assert any("5.mp4 cannot be read (no answer within 1 seconds)" in line for line in logged)
    assert ".list.txt.videos.json" in logged[-1]

    tried: list[str] = []
    probe_all = probing.probe_all
    monkeypatch.setattr(
        probing, "probe_all", lambda paths, **kw: (tried.extend(paths), probe_all(paths, **kw))[1]
    )
    assert len(build(folder, test_mode=test_mode)) == 10 and not tried
    os.utime(folder / "5.mp4", (0, 0))
    monkeypatch.setattr(probing, "probe", probe)
    assert len(build(folder, test_mode=test_mode)) == 11 and [Path(p).name for p in tried] == ["5.mp4"]


def test_an_invalid_record_is_ignored(folder: Path):
    record = folder / ".list.txt.videos.json"
    for text in ("", "{}", '{"videos": 3}', '{"videos": {"a": 1}}', "[1]"):
        record.write_text(text)
        assert len(build(folder)) == 8
    record.unlink()
    record.mkdir()
    assert len(build(folder)) == 8


def test_nothing_is_written_into_a_folder_marked_read_only(folder: Path, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(cache))
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        assert len(build(folder)) == 8
        assert sorted(folder.iterdir()) == before
        monkeypatch.setattr(probing, "probe", None)
        assert len(build(folder)) == 8 and len(list(cache.rglob("*.videos.json"))) == 1
    finally:
        folder.chmod(0o755)


def test_a_pool_that_breaks_is_opened_anew(folder: Path, monkeypatch):
    """As when a worker dies before the pool knows which file it had."""

    class Breaking(probing.ProcessPool):
        def schedule(self, function, args=(), kwargs=None, timeout=None):
            future = super().schedule(function, args, kwargs, timeout)
            if Path(args[0]).name == "2.mp4" and not broken:
                broken.append(True)
                self._pool_manager.handle_broken_pool(BrokenProcessPool("All workers expired"))
            return future

    broken: list[bool] = []
    monkeypatch.setattr(probing, "ProcessPool", Breaking)
    assert list(find_unreadable([folder / f"{i}.mp4" for i in range(12)])) == [1, 4, 7, 10] and broken


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_no_damaged_file_ends_or_stops_a_run(tmp_path: Path, logged: list[str], count, reader):
    named = [damaged.cut_avi(tmp_path / "cut.avi"), damaged.wrong_count_mp4(tmp_path / "count.mp4")]
    paths = [*named, *(path for _, _, path in mutations(tmp_path, count))]
    (tmp_path / "list.txt").write_text("".join(f"{path.name} 0\n" for path in paths))
    data = build(tmp_path, pipeline=pipeline(reader=reader, test_mode=True))
    assert len(data) + data.unreadable == len(paths) and 2 < data.unreadable < count
    assert any("/count.mp4 cannot be read (the decoder crashed" in line for line in logged) == (
        reader == "Decord"
    )
    loader = DataLoader(data, batch_size=None, num_workers=2, timeout=60)
    assert len(list(loader)) == len(data)


# memory and short clips


def test_kept_clips_are_equal_and_independent(folder: Path, monkeypatch):
    plain, kept = build(folder, test_mode=True), build(folder, test_mode=True, keep_in_memory=True)
    first = kept[0]
    assert torch.equal(first["inputs"], plain[0]["inputs"])
    first["inputs"] += 1
    first["data_samples"].gt_label += 1
    again = kept[0]
    assert torch.equal(again["inputs"], plain[0]["inputs"])
    assert torch.equal(again["data_samples"].gt_label, plain[0]["data_samples"].gt_label)
    monkeypatch.setattr(kept.pipeline, "transforms", [lambda results: pytest.fail("prepared again")])
    kept[0]


@pytest.mark.parametrize("frames", [1, 3, 7, 8, 9, 15, 20])
@pytest.mark.parametrize("test_mode", [False, True])
def test_clips_shorter_than_the_segments_stay_in_order(tmp_path: Path, frames, test_mode):
    write(tmp_path / "a.mp4", frames)
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    sampling = dict(test_mode=True) if test_mode else dict(keep_tail_frames=True)
    data = build(tmp_path, pipeline=pipeline(8, **sampling), test_mode=test_mode)
    ever = set()
    for _ in range(1 if test_mode else 30):
        sample = data[0]
        inds = sample["data_samples"].frame_inds
        assert len(inds) == 8 and inds.min() >= 0 and inds.max() < frames
        assert (np.diff(inds) >= 0).all()
        assert sample["inputs"].shape == (8, 3, 32, 32)
        assert (sample["inputs"][:, 0, 0, 0].numpy() == inds).all()
        ever |= set(inds.tolist())
    if frames <= 8 or not test_mode:
        assert ever == set(range(frames))
