"""The contenders of the inference benchmark: their files, and the specs that ``latency/contenders.py`` runs.

All are one network with random weights of one seed: MMAction2's, its exports, and mmvideoiq's bundles.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from mmvideoiq.benchmark.inference_settings import MIXES, STATIC, InferSettings, preprocessing_of
from mmvideoiq.benchmark.networks import write_bundle, write_peers, write_static
from mmvideoiq.fileio import write_text
from mmvideoiq.video.reader import read_frames

#: Settings that the files depend on.
BUILT_FROM = (
    *("depth", "size", "frames", "threads", "engine", "weight", "per_channel", "float_stem", "policy"),
    *("video", "sampling", "tolerance"),
)


def prepared(settings: InferSettings, folder: Path, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Name -> spec of the contenders in ``folder``: those of an earlier run with the same settings, or new ones."""
    file = folder / "specs.json"
    wanted = {name: getattr(settings, name) for name in BUILT_FROM}
    wanted["video"] = settings.video and str(settings.video)
    if file.is_file():
        found = json.loads(file.read_text())
        if found["settings"] == wanted:
            log(f"contenders of an earlier run: {folder}")
            return found["specs"]
        file.unlink()
    with quiet():
        specs = prepare(settings, folder, log)
    write_text(file, json.dumps(dict(settings=wanted, specs=specs)))
    return specs


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MMAction2's log of each initialized parameter, and the output and warnings of exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def prepare(settings: InferSettings, folder: Path, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Build the contenders' files, random weights of one seed, and a video; returns name -> spec."""
    import torch

    from mmvideoiq.deploy.bundle.bundle import Bundle

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    video, clip = settings.video or folder / "video.mp4", folder / "clip.npy"
    if settings.video is None:
        log("a video")
        write_video(video, rng)
    shape = preprocessing_of(settings.size, settings.frames)
    reading = dict(sampling=settings.sampling, tolerance_s=settings.tolerance)
    common = dict(threads=settings.threads, videos=[str(video)], clip=str(clip))
    frames = read_frames(video, shape)
    np.save(clip, frames)
    log("the float network: MMAction2, ONNX, OpenVINO, static INT8")
    files = write_peers(settings, folder, frames)
    host = dict(kind="mmaction2", config=files["config"], checkpoint=files["checkpoint"])
    specs: dict[str, dict[str, Any]] = {
        "mmaction2-eager": dict(host, compile=False),
        "torch-compile": dict(host, compile=True),
        "onnxruntime-fp32": dict(kind="onnxruntime", model=files["onnx"]),
        "openvino-fp32": dict(kind="openvino", model=files["openvino"], precision="f32"),
        "openvino-auto": dict(kind="openvino", model=files["openvino"], precision=None),
    }
    for name, (side, count) in STATIC.items():
        log(name)
        specs[name] = dict(
            kind="openvino", precision="f32", **write_static(files["int8"], video, settings, side, count)
        )
    by_decord = common | dict(preprocessing=shape._replace(reader="decord")._asdict())
    specs = {name: by_decord | spec for name, spec in specs.items()}
    for name, mix in MIXES.items():
        log(f"{name}: a bundle")
        path = folder / name
        write_bundle(settings, path, mix.actions(settings.size), frames)
        Bundle.open(path)
        specs[name] = common | dict(
            kind="ours",
            bundle=str(path),
            engine=settings.engine,
            usage=mix.usage,
            preprocessing=shape._replace(**reading)._asdict(),
        )
    return specs


def write_video(
    path: Path, rng: np.random.Generator, *, width: int = 340, height: int = 256, frames: int = 300
) -> None:
    """Ten seconds of moving blobs, H.264, as large as videos are kept for training."""
    import av
    import cv2

    low = rng.integers(0, 256, (8, 9, 12, 3), dtype=np.uint8)
    keys = np.stack(
        [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in low]
    ).astype(float)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            place = t / frames * (len(keys) - 1)
            share = place - int(place)
            image = (1 - share) * keys[int(place)] + share * keys[int(place) + 1]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(image.clip(0, 255).astype(np.uint8)), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
