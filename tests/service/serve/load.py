"""Many clients at a time on ``mmvideoiq serve``; memory and descriptors of the server and its children watched.

    python -m tests.service.serve.load zoo/demo/demo_videoiq_bundle --clients 50 --seconds 60

Each client has a loopback address of its own, sends videos without a pause, now and then a bad one or one that it
follows frame by frame, and waits as long as a 503 asks. Exit code 1: another answer than 200, 422 for the bad ones,
429 and 503; or memory or descriptors that grow.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
from requests.adapters import HTTPAdapter

from mmvideoiq.data.synthetic import make_clip, write_lossless
from mmvideoiq.jobs.signals import restore_signals
from tests.service.serve.serving import parsed

WARM_UP = 0.3  # share of the time after which memory is taken
GROWTH = 0.02  # of memory, and
SLACK_MB = 16.0  # an allocator's habits
DESCRIPTORS = 8  # that may be open for a moment
PATIENCE_S = 60.0
EXPECTED = {"good": {200}, "followed": {200}, "bad": {422}}
REFUSED = {429, 503}


@dataclass
class Seen:
    """What all clients saw."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of answers to good videos
    problems: list[str] = field(default_factory=list)


class FromAddress(HTTPAdapter):
    """Connections from one of this machine's loopback addresses."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


def client(number: int, server: str, videos: dict[str, bytes], until: float, seen: Seen) -> None:
    session = requests.Session()
    session.mount("http://", FromAddress(f"127.0.1.{number + 1}"))
    turn = number  # not all begin alike
    while time.monotonic() < until:
        turn += 1
        kind = "bad" if turn % 20 == 0 else "followed" if turn % 5 == 0 else "good"
        began = time.perf_counter()
        try:
            if kind == "followed":
                status = follow(session, server, videos["good"])
            else:
                files = {"file": ("clip", videos[kind])}
                done = session.post(f"{server}/v1/recognize", files=files, timeout=PATIENCE_S)
                status = done.status_code
        except (requests.RequestException, ValueError, KeyError) as error:
            seen.problems.append(f"{kind}: {type(error).__name__}: {error}")
            continue
        seen.statuses[kind, status] += 1
        if status in REFUSED:
            time.sleep(1)
        elif status not in EXPECTED[kind]:
            seen.problems.append(f"{kind}: answered {status}")
        elif kind == "good":
            seen.seconds.append(time.perf_counter() - began)


def follow(session: requests.Session, server: str, video: bytes) -> int:
    """The status of a video that is kept, followed to its end, and forgotten."""
    kept = session.post(f"{server}/v1/videos", files={"file": ("clip", video)}, timeout=PATIENCE_S)
    if kept.status_code != 201:
        return kept.status_code
    path = f"{server}/v1/videos/{kept.json()['id']}"
    done = session.get(f"{path}/events", timeout=PATIENCE_S)
    status = done.status_code
    if status == 200:
        kind, data = parsed(done.text)[-1]
        status = 200 if kind == "result" else data["status"]
    session.delete(path, timeout=PATIENCE_S)
    return status


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            children += (task / "children").read_text().split()
    return [pid, *map(int, children)]


def footprint(pid: int) -> tuple[float, int]:
    """Resident MB of a server and its children, and its own open descriptors."""
    pages = 0
    for each in family(pid):
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            pass  # a decoder that was just replaced
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd"))


def end(process: subprocess.Popen[str], *, patience_s: float = 30) -> None:
    """End a server in order, so that it removes its folder; kill it where it does not end."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def soak(bundle: Path, *, clients: int, seconds: float, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run it; ``problems`` of the result is empty if all is well."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        clip, _ = make_clip(np.random.default_rng(0), label=3, kind="bold", frames=24)
        write_lossless(path, clip, rate=24)
        videos = dict(good=path.read_bytes(), bad=bytes(range(256)) * 64)
    process = subprocess.Popen(
        [sys.executable, "-m", "mmvideoiq", "serve", str(bundle), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    seen, samples = Seen(), []
    try:
        server = process.stdout.readline().split()[2]
        began = time.monotonic()
        until = began + seconds
        threads = [
            threading.Thread(target=client, args=(number, server, videos, until, seen))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            samples.append((time.monotonic() - began, *footprint(process.pid)))
        for thread in threads:
            thread.join()
        time.sleep(1.0)
        rest = footprint(process.pid)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    finally:
        end(process)
    return summary(seen, samples, rest, seconds, code)


def growth(samples: list[tuple[float, float, int]], seconds: float) -> tuple[float, float, list[str]]:
    """The most MB in the first half after the warm-up and in the second, and a problem if they grew.

    Args:
        samples: seconds since the start, MB, descriptors.
    """
    warm = [sample for sample in samples if sample[0] >= WARM_UP * seconds]
    half = warm[: max(1, len(warm) // 2)]
    before, after = max(mb for _, mb, _ in half), max(mb for _, mb, _ in warm[len(half) :] or half)
    grown = after > before * (1 + GROWTH) + SLACK_MB
    return before, after, [f"memory grew from {before:.0f} to {after:.0f} MB"] * grown


def summary(
    seen: Seen, samples: list[tuple[float, float, int]], rest: tuple[float, int], seconds: float, code: int
) -> dict[str, Any]:
    before, after, grown = growth(samples, seconds)
    problems = seen.problems + grown
    if rest[1] > min(count for *_, count in samples) + DESCRIPTORS:
        problems.append(f"{rest[1]} descriptors are open at rest, {samples[0][2]} were at the beginning")
    if code != 0:
        problems.append(f"the server ended with code {code}")
    if not seen.seconds:
        problems.append("no video was answered")
    p50, p99 = np.percentile(seen.seconds or [0.0], [50, 99])
    return dict(
        answered=len(seen.seconds),
        per_second=len(seen.seconds) / seconds,
        p50_ms=1e3 * float(p50),
        p99_ms=1e3 * float(p99),
        statuses={f"{kind} {status}": count for (kind, status), count in sorted(seen.statuses.items())},
        memory_mb=dict(first_half=before, second_half=after, at_rest=rest[0]),
        descriptors=dict(most=max(count for *_, count in samples), at_rest=rest[1]),
        problems=sorted(Counter(problems).items()),
    )


def main() -> int:
    restore_signals()  # the server ends with this command
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("options", nargs="*", help="of mmvideoiq serve, after --")
    args = parser.parse_args()
    found = soak(args.bundle, clients=args.clients, seconds=args.seconds, options=tuple(args.options))
    print(json.dumps(found, indent=1))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
