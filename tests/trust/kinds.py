"""Kinds of mutated inputs, and the command that each is given to. ``feed`` is what a process of its own runs."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path

from tests.trust.isolated import UNEXPLAINED, WORKED, call, judge

MEMORY = 8 * 2**30  # address space of a process
#: Room of each kind, and how many of 1,100 inputs are of it.
SHARES = {
    "videos": ("tests.trust.runtime_inputs", 300),
    "bundles": ("tests.trust.runtime_inputs", 300),
    "lists": ("tests.trust.training_inputs", 150),
    "configs": ("tests.trust.training_inputs", 150),
    "checkpoints": ("tests.trust.training_inputs", 100),
    "zoo": ("tests.trust.zoo_inputs", 100),
}
#: Imported once, before processes are forked.
PRELOADED = (
    "mmvideoiq.cli",
    "mmvideoiq.plugin",
    "openvino",
    "onnxruntime",
    "rich.progress",
    "pebble",
    "pytest",
)


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        prepare: writes the originals into a folder.
        mutate: of the originals and a generator, writes an input into a folder; what was changed, and the command.
        check: of what the command printed, what is wrong with it; "" if nothing.
    """

    prepare: Callable[[Path], None]
    mutate: Callable[[Path, Path, random.Random], tuple[str, list[str]]]
    check: Callable[[str], str] = lambda out: ""


def kind_of(name: str) -> Kind:
    return import_module(SHARES[name][0]).KINDS[name]


def in_turn(names: list[str]) -> Iterator[tuple[str, int]]:
    """Kind and number of one input after the other, endless, evenly mixed by their shares."""
    turns = dict.fromkeys(names, 0)
    for _ in count():
        name = min(names, key=lambda each: ((turns[each] + 0.5) / SHARES[each][1], each))
        yield name, turns[name]
        turns[name] += 1


def prepare(name: str, folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    kind_of(name).prepare(Path(folder))


def feed(name: str, seed: int, number: int, originals: str, folder: str) -> tuple[str, str, str]:
    """What was changed, how the command ended, and its line of error, or what is wrong; see ``isolated.py``."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["MMVIDEOIQ_HOME"] = str(Path(folder) / "home")
    kind, place = kind_of(name), Path(folder)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    changed, argv = kind.mutate(Path(originals), place, random.Random(f"{seed}/{name}/{number}"))
    (place / "input.txt").write_text(f"{changed}\n{argv}\n", errors="backslashreplace")
    code = call(argv, place)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # commands raise an error instead
    out, err = ((place / stream).read_text(errors="replace") for stream in ("stdout", "stderr"))
    end, line = judge(code, out, err)
    if end == WORKED and (wrong := kind.check(out)):
        end, line = UNEXPLAINED, wrong
    return changed, end, line
