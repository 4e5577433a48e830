"""Gesture clips: composed from photos of people who give one of several signals, or stand idle.

There are no videos of these signals. A clip has 16 frames, each a photo of its own: 2 to 6 hold the signal that
is the clip's class, in one or two runs at random places, the rest are idle. How much resolution a signal needs
depends on how far away the person stands. Photos of one split make clips of that split.

The photos lie below ``photos/``; ``index.csv`` gives the file, class, room and split of each.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.random import Generator
from rich.progress import track

from mmvideoiq.data.whole_folder import check_ints, make_once

FRAMES = 16
RATE = 4
"""Frames per second."""
FEWEST, MOST = 2, 6
"""Frames with the signal in a clip."""
WIDTH, HEIGHT = 320, 240
IDLE = "no_class"
ROOM = "B"
"""The room with idle photos too: in its clips every frame is from the same room."""
SPLITS = ("train", "val", "test")
COLUMNS = ("file", "class", "room", "split")
VERSION = 1
"""Goes up when the same seed would give other files."""
VIDEOS = "videos"


class Photo(NamedTuple):
    """A line of the index; ``file`` is below ``photos/``."""

    file: str
    gesture: str
    room: str
    split: str


def read_index(folder: str | Path) -> list[Photo]:
    """The photos of a folder, in the order of ``index.csv``.

    Raises:
        NotADirectoryError, FileNotFoundError: no such folder, index or photo.
        ValueError: the index has other columns, or a line of it is wrong; names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; name the one with index.csv and photos/")
    path = folder / "index.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it has the columns {','.join(COLUMNS)}")
    try:
        header, *rows = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of comma-separated values: {error}") from None
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path}: the columns are {','.join(header)}, expected {','.join(COLUMNS)}")
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS) or not all(row) or row[3] not in SPLITS or row[0] in seen:
            raise ValueError(
                f"{path}, line {number}: {','.join(row)} must be file,class,room and train, val or test, "
                "and each file stands once"
            )
        seen.add(row[0])
    missing = [name for name in seen if not (folder / "photos" / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(seen)} photos of {path} are missing, for example photos/{min(missing)}"
        )
    photos = [Photo(*row) for row in rows]
    for split in SPLITS:
        if not any(photo.split == split and photo.gesture != IDLE for photo in photos):
            raise ValueError(f"{path} has no photos of a signal in {split}")
    return photos


def place_signal(rng: Generator) -> list[bool]:
    """For each of 16 frames whether it holds the signal: 2 to 6 do, in one or two runs."""
    count, runs = int(rng.integers(FEWEST, MOST + 1)), int(rng.integers(1, 3))
    first = count if runs == 1 else int(rng.integers(1, count))
    # a run stands before one of the idle frames or after the last, two of them at different places
    places = sorted(rng.choice(FRAMES - count + 1, runs, replace=False))
    lengths = dict(zip(places, (first, count - first), strict=False))
    held: list[bool] = []
    for place in range(FRAMES - count + 1):
        held += [True] * lengths.get(place, 0) + [False]
    return held[:FRAMES]


def choose_photos(
    rng: Generator, photos: Sequence[Photo], *, gesture: str, room: str | None = None
) -> list[Photo]:
    """The photos of a clip, in the order of its frames, none of them twice.

    All that hold the signal are from one room, and so are the idle ones if that room has any.

    Args:
        photos: of one split.
        room: None takes each room as often as its photos of the signal are.

    Raises:
        ValueError: too few photos for a clip.
    """
    if room is None:
        rooms = [p.room for p in photos if p.gesture == gesture]
        room = rooms[rng.integers(len(rooms))] if rooms else "any"
    signal = [p for p in photos if p.gesture == gesture and p.room == room]
    idle = [p for p in photos if p.gesture == IDLE]
    idle = [p for p in idle if p.room == room] or idle
    for found, needed, name in ((signal, MOST, gesture), (idle, FRAMES - FEWEST, IDLE)):
        if len(found) < needed:
            where = f"{photos[0].split}, room {room}"
            raise ValueError(f"{where}: {len(found)} photos of {name}, a clip takes up to {needed}")
    held = place_signal(rng)
    taken = {
        kind: iter(rng.choice(len(pool), held.count(kind), replace=False))
        for kind, pool in ((True, signal), (False, idle))
    }
    return [(signal if kind else idle)[next(taken[kind])] for kind in held]


@functools.lru_cache(maxsize=512)
def read_jpeg(path: Path) -> bytes:
    """A photo as a JPEG of 320x240 pixels, 4:2:0: the file itself if it is one, else scaled to cover and cropped.

    Raises:
        ValueError: not a picture.
    """
    try:
        with av.open(str(path)) as file:
            video = file.streams.video[0]
            if (video.codec.name, video.format and video.format.name, video.width, video.height) == (
                "mjpeg",
                "yuvj420p",
                WIDTH,
                HEIGHT,
            ):
                return path.read_bytes()
    except (av.FFmpegError, IndexError):
        raise ValueError(f"{path} is not a picture") from None
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path} is not a picture")
    height, width = picture.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height)
    width, height = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    picture = picture[top : top + HEIGHT, left : left + WIDTH]
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write_jpegs(path: Path, pictures: Sequence[bytes]) -> None:
    """Write JPEGs of 320x240 pixels as the frames of a Motion JPEG video: each is kept bit for bit."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as video:
        stream = video.add_mux_stream("mjpeg", rate=RATE, width=WIDTH, height=HEIGHT)
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.time_base = stream, Fraction(1, RATE)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            video.mux(packet)


def make_gestures(
    photos: str | Path,
    out: str | Path,
    *,
    train: int = 1040,
    val: int = 260,
    test: int = 520,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Compose the clips, their lists and the record of their frames below ``out``.

    ``{train,val,test}.txt`` (``path label``, relative to ``videos/``) hold clips of both rooms, as often as their
    photos are; ``{val,test}_room_b.txt`` as many clips whose frames are all from room B. Classes, the signals by
    name, are balanced in each list and stand in ``classes.txt``. ``frames.json`` says what each frame is
    (:func:`load_frames`). The same photos and parameters give the same files. All appears at once, or not at
    all; a set with the same parameters is kept as it is.

    Args:
        photos: the folder of ``index.csv`` and ``photos/``.
        train, val, test: clips of each list, >= 1.
        progress: draw a bar on the terminal.

    Returns: the manifest.

    Raises:
        TypeError, ValueError: a parameter is out of range, the index is wrong, or a photo is no picture.
        NotADirectoryError, FileNotFoundError: no such folder, index or photo.
        FileExistsError: ``out`` holds something else, or a set with other parameters or photos.
    """
    splits = dict(train=train, val=val, test=test)
    check_ints(splits, low=1)
    check_ints(dict(seed=seed), low=0)
    photos = Path(photos)
    index = read_index(photos)
    digest = hashlib.sha256(repr(index).encode()).hexdigest()
    manifest = dict(version=VERSION, seed=seed, splits=splits, photos=digest)
    make_once(
        Path(out),
        manifest,
        lambda part: _write_set(part, photos, index, manifest, progress=progress),
        files=lambda root: (f"{VIDEOS}/{name}" for name in load_frames(root)),
        what="gesture clips",
    )
    return manifest


def _write_set(
    root: Path, folder: Path, index: Sequence[Photo], manifest: Mapping[str, Any], *, progress: bool
) -> None:
    classes = sorted({photo.gesture for photo in index} - {IDLE})
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    clips = list(_choose_clips(index, classes, manifest))
    lines: dict[str, list[str]] = {}
    for name, label, chosen in track(clips, description="gesture clips", disable=not progress):
        path = root / VIDEOS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpegs(path, [read_jpeg(folder / "photos" / photo.file) for photo in chosen])
        lines.setdefault(path.parent.name, []).append(f"{name} {label}\n")
    for name, texts in lines.items():
        (root / f"{name}.txt").write_text("".join(texts))
    frames = {
        name: [
            {
                "photo": photo.file,
                "class": photo.gesture,
                "room": photo.room,
                "kind": "idle" if photo.gesture == IDLE else "signal",
            }
            for photo in chosen
        ]
        for name, _, chosen in clips
    }
    (root / "frames.json").write_text(json.dumps(frames))


def _choose_clips(
    index: Sequence[Photo], classes: Sequence[str], manifest: Mapping[str, Any]
) -> Iterator[tuple[str, int, list[Photo]]]:
    """Name, label and photos of every clip, list by list."""
    lists = [(split, split, None) for split in SPLITS]
    lists += [(f"{split}_room_b", split, ROOM) for split in ("val", "test")]
    for number, (name, split, room) in enumerate(lists):
        photos = [photo for photo in index if photo.split == split]
        count = manifest["splits"][split]
        order = np.random.default_rng([manifest["seed"], number]).permutation(count)
        for i in range(count):
            label = int(order[i]) % len(classes)
            rng = np.random.default_rng([manifest["seed"], number, i])
            yield (
                f"{name}/{i:05d}.mkv",
                label,
                choose_photos(rng, photos, gesture=classes[label], room=room),
            )


def load_frames(root: str | Path) -> dict[str, list[dict[str, str]]]:
    """What each frame below a composed folder is, clip by clip.

    Returns: ``{path in the lists: [{"photo", "class", "room", "kind": "signal" | "idle"} of each frame]}``.
    """
    return json.loads((Path(root) / "frames.json").read_text())
