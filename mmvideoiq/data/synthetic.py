"""Synthetic clips with a known right policy: for each frame, the precision that it needs is known.

A frame has grey level 1/3 (a level of both the 2-bit and the 4-bit grid on [0, 1]). An evidence frame carries
a grating whose orientation is the class, at one of three contrasts; a blank one carries none. Rounded to b
bits, a deviation from 1/3 below half a step is lost: half a step is 1/6 at 2 bits, 1/30 at 4 bits. So

    kind      contrast   2 bits (0.167)   4 bits (0.033)   more
    bold      0.3        readable         readable         readable
    medium    0.06       lost             readable         readable
    faint     0.012      lost             lost             readable (3 of 255 levels)

and lost means in every pixel: contrast, jitter and noise are bounded, and their sum stays below half
a step. The distractors are opaque and flat, so that nothing shines through where a square lifts a pixel near
a threshold.

Axes: T frames, S height and width, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmvideoiq.data.whole_folder import MANIFEST, check_ints, make_once

NUM_CLASSES = 8
CONTRASTS = {"bold": 0.3, "medium": 0.06, "faint": 0.012}
SUFFICIENT_BITS = {"bold": 2, "medium": 4, "faint": 5}
"""Fewest bits at which each kind is readable; for faint any precision above 4."""
KINDS = ("blank", *CONTRASTS)
BACKGROUND = 1 / 3
NOISE = 0.003
"""Standard deviation of the pixel noise, which is cut off at ``NOISE_BOUND`` of them."""
NOISE_BOUND = 3.0
JITTER = 0.008
"""Largest offset of a whole frame."""
VERSION = 1
"""Goes up when the same seed would give other files."""
VIDEOS = "videos"


def make_frame(rng: Generator, *, label: int, kind: str, size: int = 64) -> NDArray[np.uint8]:
    """``1/3 + jitter + contrast * sin(2 pi (x cos a + y sin a) / period + phase) + noise``, then squares.

    ``a = pi * label / 8``, ``period = size / 5``; the phase is random, so that no single pixel depends on the class.

    Args:
        label: class in [0, 8).
        kind: ``blank``, ``bold``, ``medium`` or ``faint``.

    Returns: (S, S, 3) RGB; divided by 255 it lies in [0, 1].
    """
    offset = BACKGROUND + rng.uniform(-JITTER, JITTER)
    noise = NOISE * np.clip(rng.standard_normal((size, size, 3)), -NOISE_BOUND, NOISE_BOUND)
    frame = offset + noise
    if kind != "blank":
        frame += CONTRASTS[kind] * grating(label, phase=rng.uniform(0, 2 * math.pi), size=size)[..., None]
    for _ in range(rng.integers(1, 4)):
        side = int(rng.integers(max(2, size // 13), size // 8 + 1))
        top, left = rng.integers(0, size - side + 1, size=2)
        frame[top : top + side, left : left + side] = rng.uniform(0, 1, size=3)
    return np.round(np.clip(frame, 0, 1) * 255).astype(np.uint8)


def grating(label: int, *, phase: float, size: int = 64) -> NDArray[np.float64]:
    """The class's pattern at contrast 1: (S, S) in [-1, 1]."""
    angle = math.pi * label / NUM_CLASSES
    y, x = np.mgrid[:size, :size]
    return np.sin(2 * math.pi * 5 / size * (x * math.cos(angle) + y * math.sin(angle)) + phase)


def make_clip(
    rng: Generator, *, label: int, kind: str, frames: int = 6, size: int = 64
) -> tuple[NDArray[np.uint8], list[str]]:
    """A clip of which each frame is evidence of ``kind`` with probability 1/2, and at least one is.

    Returns: frames (T, S, S, 3) and the kind of each, ``blank`` or ``kind``, in the order of time.
    """
    evidence = rng.random(frames) < 0.5
    evidence[rng.integers(frames)] |= not evidence.any()
    kinds = [kind if e else "blank" for e in evidence]
    return np.stack([make_frame(rng, label=label, kind=k, size=size) for k in kinds]), kinds


def write_lossless(path: Path, clip: NDArray[np.uint8], *, rate: int) -> None:
    """Write (T, H, W, 3) RGB frames as FFV1 in RGB: what is read back equals ``clip`` bit for bit."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "bgr0"
        stream.codec_context.thread_count = 1
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def make_synthetic(
    out: str | Path,
    *,
    train: int = 1200,
    val: int = 300,
    test: int = 300,
    seed: int = 0,
    size: int = 64,
    frames: int = 6,
    progress: bool = False,
) -> dict[str, Any]:
    """Generate the clips, their lists and the record of frame kinds below ``out``.

    ``{train,val,test}.txt`` (``path label``, relative to ``videos/``), ``classes.txt``, ``kinds.json``
    (``{path: [kind of each frame]}``) and ``manifest.json``. Classes and kinds are balanced in each split.
    The same parameters give the same frames. All appears at once, or not at all; a set with the same
    parameters is kept as it is.

    Args:
        train, val, test: clips of each split, >= 1.
        size: height and width in pixels, >= 16.
        frames: T >= 1.
        progress: draw a bar on the terminal.

    Returns: the manifest.

    Raises:
        TypeError, ValueError: a parameter is out of range.
        FileExistsError: ``out`` holds something else, or a set with other parameters.
    """
    splits = dict(train=train, val=val, test=test)
    check_ints(dict(splits, frames=frames), low=1)
    check_ints(dict(seed=seed), low=0)
    check_ints(dict(size=size), low=16)
    out = Path(out)
    manifest = dict(version=VERSION, seed=seed, size=size, frames=frames, splits=splits)
    make_once(
        out,
        manifest,
        lambda part: _write_set(part, manifest, progress=progress),
        files=lambda root: (f"{VIDEOS}/{name}" for name in load_kinds(root)),
        what="synthetic clips",
    )
    return manifest


def _write_set(root: Path, manifest: Mapping[str, Any], *, progress: bool) -> None:
    bar = Progress(
        TextColumn("synthetic clips: {task.fields[split]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    size, frames = manifest["size"], manifest["frames"]
    all_kinds: dict[str, list[str]] = {}
    with bar:
        task = bar.add_task("clips", total=sum(manifest["splits"].values()), split="")
        for number, (split, count) in enumerate(manifest["splits"].items()):
            bar.update(task, split=split)
            (root / VIDEOS / split).mkdir(parents=True)
            order = np.random.default_rng([manifest["seed"], number]).permutation(count)
            lines = []
            for i in range(count):
                # 8 classes and 3 kinds have no common factor: 24 clips in a row hold each pair once
                label, kind = int(order[i]) % NUM_CLASSES, KINDS[1 + int(order[i]) % len(CONTRASTS)]
                rng = np.random.default_rng([manifest["seed"], number, i])
                clip, kinds = make_clip(rng, label=label, kind=kind, frames=frames, size=size)
                name = f"{split}/{i:05d}.mkv"
                write_lossless(root / VIDEOS / name, clip, rate=frames)
                all_kinds[name] = kinds
                lines.append(f"{name} {label}\n")
                bar.advance(task)
            (root / f"{split}.txt").write_text("".join(lines))
    (root / "classes.txt").write_text(
        "".join(f"{180 * k / NUM_CLASSES:g} degrees\n" for k in range(NUM_CLASSES))
    )
    (root / "kinds.json").write_text(json.dumps(all_kinds))


def load_kinds(root: str | Path) -> dict[str, list[str]]:
    """The recorded kinds below a generated folder: ``{path in the lists: [kind of each frame]}``."""
    return json.loads((Path(root) / "kinds.json").read_text())


def frame_size(root: str | Path) -> int:
    """Height and width of the frames below a generated folder."""
    return json.loads((Path(root) / MANIFEST).read_text())["size"]
