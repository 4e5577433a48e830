"""Videos and bundles, for ``mmvideoiq infer`` and ``bundle info``."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path

import numpy as np

from mmvideoiq.data.synthetic import make_clip, write_lossless
from tests.deploy.mutated_bundles import mutate_json, mutate_tensor
from tests.deploy.signed_bundle import canonical, sign
from tests.trust.isolated import ROOT, finite_answers
from tests.trust.kinds import Kind
from tests.trust.mutations import change_bytes, change_tree
from tests.video.damage import KINDS as VIDEOS
from tests.video.odd import write

BUNDLE = ROOT / "zoo/demo/demo_videoiq_bundle"
ENGINES = ("openvino", "onnxruntime")
READING = (
    *([], [], ["--sampling", "keyframe"], ["--sampling", "nearby"], ["--reader", "decord"]),
    ["--stream", "--every", "7"],
)
BOXES = (
    b"ftyp",
    b"moov",
    b"mvhd",
    b"tkhd",
    b"mdhd",
    b"stsd",
    b"stts",
    b"stsz",
    b"stsc",
    b"stco",
    b"ctts",
    b"mdat",
)
COUNTS = (0, 1, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def infer(bundle: Path, video: Path, engine: str, *options: str) -> list[str]:
    fixed = ["--engine", engine, "--threads", "1", "--json", "-"]
    return ["mmvideoiq", "infer", str(bundle), str(video), *fixed, *options]


# --- videos ---------------------------------------------------------------------------------------------------------


def write_videos(folder: Path) -> None:
    for name, odd in VIDEOS.items():
        write(folder / name, odd)


def change_box(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A number of a container's header becomes another one."""
    found = [name for name in BOXES if name in data]
    name = rng.choice(found) if found else b""
    place = data.index(name) + rng.choice((-4, 4, 8, 12, 16, 20)) if found else rng.randrange(0, 512, 4)
    place, number = max(0, place), rng.choice(COUNTS)
    return f"{name.decode()}@{place} is {number}", data[:place] + struct.pack(">I", number) + data[
        place + 4 :
    ]


def change_video(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    name = rng.choice(list(VIDEOS))
    data = (originals / name).read_bytes()
    what, data = change_box(data, rng) if rng.random() < 0.3 else change_bytes(data, rng)
    path = folder / f"video{Path(name).suffix}"
    path.write_bytes(data)
    return f"{name}: {what}", infer(BUNDLE, path, rng.choice(ENGINES), *rng.choice(READING))


# --- bundles --------------------------------------------------------------------------------------------------------


def write_clip(folder: Path) -> None:
    clip, _ = make_clip(np.random.default_rng(0), label=3, kind="bold")
    write_lossless(folder / "clip.mkv", clip, rate=6)


def change_file(path: Path, rng: random.Random) -> str:
    """A file is damaged, missing, a folder, or another one."""
    file = rng.choice(sorted(path.iterdir()))
    way = rng.randrange(6)
    if way == 0:
        file.unlink()
        return f"{file.name} is missing"
    if way == 1:
        file.unlink()
        file.mkdir()
        return f"{file.name} is a folder"
    if way == 2:
        shutil.copy(rng.choice(sorted(path.iterdir())), file.with_name("more.bin"))
        return "one file more"
    what, data = change_bytes(file.read_bytes(), rng)
    file.write_bytes(data)
    return f"{file.name}: {what}"


def change_content(path: Path, rng: random.Random) -> str:
    """A value of the manifest, the graphs or the tensors, under checksums that fit."""
    way = rng.randrange(5)
    if way == 0:
        return mutate_tensor(rng, rng.choice(sorted(path.glob("*.safetensors"))))
    file = path / rng.choice(("graphs.json", "graphs.json", "manifest.json"))
    if way < 3:
        return mutate_json(rng, file)
    tree = json.loads(file.read_text())
    kept = {key: tree.pop(key) for key in ("files", "digest") if key in tree}
    what = change_tree(tree, rng)
    file.write_bytes(canonical(tree | kept))
    return f"{file.name}: {what}"


def change_bundle(originals: Path, folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    path = folder / "bundle"
    shutil.copytree(BUNDLE, path)
    if rng.random() < 0.25:
        what = change_file(path, rng)
    else:
        what = change_content(path, rng)
        sign(path)
    if rng.random() < 0.1:
        return what, ["mmvideoiq", "bundle", "info", str(path), "--json"]
    return what, infer(path, originals / "clip.mkv", rng.choice(ENGINES))


def check_answer(out: str) -> str:
    """Of ``infer``; ``bundle info`` has answered if it has the bundle's path."""
    return "" if out.startswith('{"path"') else finite_answers(out)


KINDS = {
    "videos": Kind(write_videos, change_video, finite_answers),
    "bundles": Kind(write_clip, change_bundle, check_answer),
}
