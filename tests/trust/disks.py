"""Commands that write onto a disk that is full or read-only: one line says so; with room they go on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.trust.isolated import ROOT, TRACEBACK
from tests.trust.kills import PATIENCE_S, Reference, last_run
from tests.trust.subjects import Subject, errors, mmvideoiq, start
from tests.trust.table import Row
from tests.zoo.server import DATA, Server, entry

PAGE = 4096  # bytes that a file of a tmpfs takes at least
ROOM = "1g"
BUNDLE, CLIP = ROOT / "zoo/demo/demo_videoiq_bundle", "clip.mkv"
FULL = ("no space left", "disk quota")
#: The command ``mmvideoiq`` on a zoo whose folder is the first argument.
ON_ZOO = (
    "import sys, pathlib; from mmvideoiq.zoo import index; root = pathlib.Path(sys.argv.pop(1)); "
    "index.root = lambda: root; from mmvideoiq.service.main import main; sys.exit(main())"
)


class Skipped(Exception):
    """The machine does not allow it; the message says why."""


@contextmanager
def disk(folder: Path, size: str = ROOM) -> Iterator[Path]:
    """A disk of its own at ``folder``, in memory.

    Raises:
        Skipped: this process may not mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "mmvideoiq", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Skipped(f"no disk may be mounted here: {' '.join(done.stderr.split())}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def used(folder: Path) -> int:
    """Bytes that the files of a folder take."""
    pages = (-(-path.stat().st_size // PAGE) for path in folder.rglob("*") if path.is_file())
    return PAGE * sum(pages)


def refused(code: int, said: str, *, words: tuple[str, ...]) -> list[str]:
    """What is wrong with how a command ended that could not write."""
    lines = said.strip().splitlines()
    last = lines[-1] if lines else "nothing"
    if TRACEBACK in said or code not in (1, 2) or "error: " not in last:
        return [f"ended with code {code}: {said.strip()[-300:]}"]
    return [] if any(word in last.lower() for word in words) else [f"does not say why: {last}"]


def on_full_disks(
    subject: Subject,
    folder: Path,
    *,
    reference: Reference,
    tries: int,
    seed: int,
    until: float,
    tell: Callable[[str], None],
) -> Row:
    """A run on a disk that is too small by chance, which becomes large enough later."""
    began, rng, row = time.monotonic(), random.Random(f"{seed}/disk"), Row(f"{subject.name}, full disk")
    held = tried = 0
    whole = used(reference.folder)
    while tried < tries and time.monotonic() < until:
        tell(f"{row.name}: {tried}")
        size = int(whole * rng.uniform(0.05, 0.9))
        with disk(folder / f"full{tried}", f"{max(1, size // PAGE) * PAGE}") as place:
            out, log = place / "out", folder / f"full{tried}.log"
            code = start(subject.argv(out), log).wait(PATIENCE_S)
            problems = refused(code, errors(log), words=FULL)
            remount(place, f"size={ROOM}")
            problems += last_run(subject, out, reference.content)
        row.problems += [f"a disk of {size} bytes: {problem}" for problem in problems]
        tried, held = tried + 1, held + (not problems)
    row.figures = dict(tried=tried, held=held, runs=tried, seconds=time.monotonic() - began)
    return row


def writing_commands(folder: Path) -> dict[str, Callable[[Path], list[str]]]:
    """Commands that write, each of the place where it does."""
    root = folder / "zoo"
    (root / "configs/toy").mkdir(parents=True, exist_ok=True)
    content = dict(Collections=[dict(Name="Toys")], Models=[entry("toy", "toy.pth")])
    (root / "configs/toy/metafile.yml").write_text(yaml.safe_dump(content))
    (root / "configs/toy/toy.py").touch()
    (root / "model-index.yml").write_text("Import:\n- configs/toy/metafile.yml\n")
    checkpoint = ROOT / "zoo/demo/demo_videoiq.pth"
    clip = folder / CLIP
    return {
        "infer --json": lambda out: mmvideoiq(
            "infer", BUNDLE, clip, "--threads", 1, "--json", out / "a.json"
        ),
        "bulk": lambda out: mmvideoiq(
            "bulk", BUNDLE, clip, "--no-ray", "--threads", 1, "--out", out / "bulk"
        ),
        "zoo download": lambda out: [sys.executable, "-c", ON_ZOO, str(root), "zoo", "download", "toy"],
        "export": lambda out: mmvideoiq(
            "export", "videoiq/demo_videoiq", checkpoint, out / "bundle", "--no-calibration"
        ),
        "recipe": lambda out: mmvideoiq(
            "recipe", "videoiq/demo_recipe", "--fast", "--resume", "--work-dir", out / "recipe"
        ),
    }


def fill(place: Path) -> Path:
    """A file that takes all the room that is left."""
    path = place / "filling"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(PAGE))
    return path


def unwritable(folder: Path, *, how: str, names: tuple[str, ...], tell: Callable[[str], None]) -> Row:
    """Each command on a disk that is ``full`` or ``read-only``, and after that on one that is not.

    Args:
        names: of :func:`writing_commands`; a recipe, which would train, is not tried again.
    """
    from tests.trust.runtime_inputs import write_clip

    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder)
    began, row, held = time.monotonic(), Row(f"commands, {how} disk"), 0
    commands = writing_commands(folder)
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        server.files["/toy.pth"] = DATA
        for name in names:
            tell(f"{row.name}: {name}")
            with disk(folder / "disk") as place:
                log = folder / f"{name.split()[0]}-{how}.log"
                environment = dict(MMVIDEOIQ_HOME=str(place / "home"), MMVIDEOIQ_ZOO=server.address)
                filling = fill(place) if how == "full" else None
                if how == "read-only":
                    remount(place, "ro")
                words = FULL if how == "full" else ("read-only",)
                problems = ended(commands[name](place), log, environment, words=words)
                if filling:
                    filling.unlink()
                else:
                    remount(place, "rw")
                if name != "recipe":
                    problems += ended(commands[name](place), log, environment, words=())
            row.problems += [f"{name}: {problem}" for problem in problems]
            held += not problems
        server.shutdown()
    row.figures = dict(tried=len(names), held=held, runs=len(names), seconds=time.monotonic() - began)
    return row


def ended(argv: list[str], log: Path, environment: dict[str, Any], *, words: tuple[str, ...]) -> list[str]:
    """What is wrong with the end of a command, which must say one of ``words``; without these, work."""
    try:
        code = start(argv, log, **environment).wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return ["hangs"]
    if words:
        return refused(code, errors(log), words=words)
    return [f"with room it ends with code {code}: {errors(log).strip()[-300:]}"] if code else []
