"""A benchmark in small: annotations in its published format, videos or frame folders, and the converter's lists."""

from pathlib import Path

import cv2
import numpy as np

from mmvideoiq.data.annotations import BENCHMARKS
from mmvideoiq.data.convert_command import convert
from tests.conftest import write_video

HEIGHT, WIDTH = 48, 64
# path and labels of each clip, as published; some have several labels where the benchmark allows it
CLIPS = {
    "activitynet": [("abc", (3,)), ("d-e_f", (7, 3)), ("ghi", (7,))],
    "fcvid": [("abc", (0,)), ("d_e", (238, 1)), ("ghi", (0,))],
    "mini_sports1m": [("a sport/abc", (486,)), ("a sport/def", (0, 486)), ("b/ghi", (0,))],
    "mini_kinetics": [("a class/abc_000", (0,)), ("class 199/d_001", (199,)), ("a class/g_002", (0,))],
}


def class_file(folder: Path, name: str, *, numbered: bool = False) -> Path:
    path = folder / f"{name}_classes.txt"
    names = [f"class {i}" for i in range(BENCHMARKS[name].num_classes)]
    path.write_text("".join(f"{i},{n}\n" if numbered else f"{n}\n" for i, n in enumerate(names)))
    return path


def make_benchmark(folder: Path, name: str, media: str, *, frames: int = 6) -> Path:
    """Lists ``train`` and ``val`` of three clips each below ``folder``; ``media``: ``videos`` or ``rawframes``."""
    benchmark = BENCHMARKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [benchmark.separator.join(map(str, (path, frames, *labels))) for path, labels in CLIPS[name]]
    (folder / "published.txt").write_text("\n".join(lines) + "\n")
    classes = class_file(folder, name)
    rng = np.random.default_rng(0)
    for number, (path, _) in enumerate(CLIPS[name]):
        clip = rng.integers(0, 60, (frames, HEIGHT, WIDTH, 3)) + 90 * number
        if media == "videos":
            file = folder / "videos" / f"{path}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_video(file, clip.astype(np.uint8))
            continue
        images = folder / "rawframes" / path.replace(" ", "_")
        images.mkdir(parents=True)
        for i, frame in enumerate(clip, 1):
            cv2.imwrite(str(images / f"img_{i:05d}.jpg"), frame)
    published = f"{folder}/published.txt"
    options = ["--train", published, "--val", published, "--classes", str(classes), "--existing"]
    convert(name, None, [str(folder), *options, *(["--rawframes"] if media == "rawframes" else [])])
    return folder
