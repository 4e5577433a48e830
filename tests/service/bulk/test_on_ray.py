"""Bulk on Ray: what one process gives, bit for bit; nothing is lost or doubled when workers, nodes or all of it die."""

import signal
import subprocess
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from mmvideoiq.jobs.errors import RunStopped
from mmvideoiq.jobs.signals import Terminated
from mmvideoiq.service.bulk import main
from mmvideoiq.service.bulk.command import in_rounds
from mmvideoiq.service.bulk.on_ray import Pools, cause, connected, store_bytes, videos_of_block
from mmvideoiq.service.bulk.plan import Plan
from mmvideoiq.service.bulk.shards import Shards, failed
from mmvideoiq.service.bulk.stages import failed_row
from mmvideoiq.video.preprocessing import Preprocessing
from tests.service.bulk.runs import PATIENCE_S, rows, start, wait_for_shards

ray = pytest.importorskip("ray", reason="pip install 'mmvideoiq[bulk]'")
pytest.importorskip("ray.data", reason="pip install 'mmvideoiq[bulk]'")

SMALL = ("--decoders", "2", "--recognizers", "2")
TIMES = {"decode_ms", "recognize_ms"}


def make_plan(folder: Path, videos: int) -> Plan:
    (folder / "results").mkdir()
    paths = pa.chunked_array([[f"/v/{number}.mp4".encode() for number in range(videos)]], pa.binary())
    return Plan(folder=folder, paths=paths, shard_size=4, digest="d")


def answers(out: Path) -> list[dict]:
    """The rows without what differs from run to run."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows(out)]


@pytest.fixture(scope="module")
def alone(bundle, originals, tmp_path_factory) -> list[dict]:
    """Of each original the answer of one process, without Ray."""
    out = tmp_path_factory.mktemp("alone") / "out"
    given = [str(bundle), str(originals[0].parent), "--out", str(out), "--no-ray", "--threads", "1"]
    assert main(given) == 0
    return [{key: row[key] for key in row if key not in ("place", "path")} for row in answers(out)]


def check(out: Path, folder: Path, count: int, want: list[dict]) -> None:
    """Each video once, in order, with the answer of its original."""
    found = answers(out)
    assert [row["place"] for row in found] == list(range(count))
    for number, row in enumerate(found):
        expected = dict(want[number % len(want)], place=number, path=str(folder / f"{number:05d}.mp4"))
        assert row == expected


def finish(process: subprocess.Popen) -> str:
    """What it told; it has ended well, without a word on stderr but the plan."""
    told, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert len(errors.splitlines()) == 1 and " videos" in errors
    return told


def workers(process: subprocess.Popen, stage: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.name().startswith("ray::MapWorker") and stage in "".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.slow
def test_two_thousand_videos_are_what_one_process_says(bundle, linked, alone, tmp_path):
    folder, out = linked(2000), tmp_path / "out"
    told = finish(start(bundle, folder, out, *SMALL))
    check(out, folder, 2000, alone)
    assert told.startswith("2000 of 2000 videos done") and "errors: 800\n" in told
    assert len(list((out / "results").iterdir())) == 4


@pytest.mark.slow
def test_killed_workers_lose_and_double_nothing_and_a_killed_run_goes_on(bundle, linked, alone, tmp_path):
    folder, out = linked(600, good=True), tmp_path / "out"
    process = start(bundle, folder, out, *SMALL, "--shard-size", "20")
    for shards, stage in ((2, "Decode"), (4, "Recognize")):
        wait_for_shards(out, shards, process)
        victim = workers(process, stage)[0]
        victim.kill()
        victim.wait(60)
    wait_for_shards(out, 12, process)
    working = workers(process, "MapBatches")
    working += [child for worker in working for child in worker.children()]  # what decodes
    process.kill()
    process.communicate(timeout=60)
    psutil.wait_procs(working, timeout=60)
    assert not [left for left in working if left.is_running() and left.status() != psutil.STATUS_ZOMBIE]
    done = {file.name: file.read_bytes() for file in out.glob("results/0*.parquet")}
    assert 12 <= len(done) < 30
    process = start(bundle, folder, out, *SMALL, "--shard-size", "20")
    wait_for_shards(out, len(done) + 3, process)
    workers(process, "Recognize")[0].send_signal(signal.SIGKILL)
    finish(process)
    check(out, folder, 600, alone[:3])
    assert all((out / "results" / name).read_bytes() == content for name, content in done.items())


@pytest.mark.slow
def test_two_nodes_of_which_one_dies(bundle, linked, alone, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder, out = linked(600, good=True), tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    try:
        second = cluster.add_node(num_cpus=1)
        process = start(bundle, folder, out, *SMALL, "--shard-size", "20", "--address", cluster.address)
        wait_for_shards(out, 4, process)
        cluster.remove_node(second, allow_graceful=False)
        finish(process)
    finally:
        cluster.shutdown()
    check(out, folder, 600, alone[:3])


def test_sigterm_ends_a_run_on_ray_as_any_other(monkeypatch):
    """Ray puts a handler of its own in place, which exits at once."""

    def init(**_):
        signal.signal(signal.SIGTERM, lambda *_: None)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(Terminated), connected({}, failed="Ray does not start"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_rounds_ask_again_and_give_up_at_last(tmp_path):
    """Of ten videos 3 comes in the second round, alone, and 7 never."""
    shards, asked = Shards(make_plan(tmp_path, 10)), []

    def run(places, *, alone):
        asked.append((list(places), list(alone)))
        here = [place for place in [*places, *alone] if place != 7 and (place != 3 or alone)]
        yield failed([dict(failed_row(place, ""), error=None) for place in here])

    for table in in_rounds(shards, run):
        shards.take(table)
    assert asked == [(list(range(10)), []), ([], [3, 7]), ([], [7])]
    errors = [row["error"] for row in rows(tmp_path)]
    assert errors == [None] * 7 + ["ended its worker 3 times"] + [None] * 2


def test_a_round_without_any_result_ends_the_run(tmp_path):
    with pytest.raises(RunStopped, match="gave no result of any video"):
        list(in_rounds(Shards(make_plan(tmp_path, 3)), lambda places, *, alone: iter(())))


def test_actors_fit_the_cpus():
    pools = Pools.fit(2, decoders=None, recognizers=None, threads=None)
    assert pools == Pools(decoders=2, recognizers=2, threads=1, share=0.25)
    pools = Pools.fit(16, decoders=None, recognizers=None, threads=4)
    assert (pools.decoders, pools.recognizers, pools.share) == (16, 4, 0.25)
    assert Pools.fit(8, decoders=1, recognizers=2, threads=None).share == 0.5
    assert Pools.fit(0.5, decoders=None, recognizers=None, threads=None).decoders == 1


def test_blocks_are_bounded_in_bytes():
    assert videos_of_block(Preprocessing(16, 256, 224, (224, 224))) == 6
    assert videos_of_block(Preprocessing(500, 256, 224, (224, 224))) == 1
    assert videos_of_block(Preprocessing(4, 36, 32, (32, 32))) == 32
    large = Preprocessing(16, 256, 224, (224, 224))
    assert store_bytes(large, 4) < store_bytes(large, 64) < 64 * 6 * 2**24


def test_the_cause_is_one_line():
    assert cause(RuntimeError("Traceback:\n  File x\nValueError: no engine\n\n")) == "ValueError: no engine"
    assert cause(RuntimeError()) == "RuntimeError"
