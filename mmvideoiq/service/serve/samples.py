"""Videos to try without one of one's own: a folder's, or gratings for a bundle that knows them."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.service.serve.uploads import Uploads

GRATINGS = (("bold", 2), ("medium", 5), ("faint", 1), ("bold", 6))  # kind and class
FRAMES = 24  # of a generated sample
MOST = 12  # of a folder


class Sample(NamedTuple):
    """``id``: of its video; ``name`` and ``about``: for people."""

    id: str
    name: str
    about: str


def add_samples(uploads: Uploads, bundle: Bundle, folder: str | os.PathLike[str] | None) -> list[Sample]:
    """Put the samples among the videos.

    Args:
        folder: of videos, the first :data:`MOST` by name; None generates some if the bundle is of the demo.

    Raises:
        ValueError: no such folder.
    """
    if folder is not None:
        return _of_folder(uploads, Path(folder))
    return _gratings(uploads) if _knows_gratings(bundle) else []


def _of_folder(uploads: Uploads, folder: Path) -> list[Sample]:
    if not folder.is_dir():
        raise ValueError(f"--samples {folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    samples = []
    for number, path in enumerate(files[:MOST]):
        sample = Sample(f"sample-{number}", path.stem, "")
        uploads.add_sample(sample.id, partial(shutil.copyfile, path))
        samples.append(sample)
    return samples


def _knows_gratings(bundle: Bundle) -> bool:
    from mmvideoiq.data.synthetic import NUM_CLASSES

    names = [f"{180 * k / NUM_CLASSES:g} degrees" for k in range(NUM_CLASSES)]
    return list(bundle.manifest["classes"]) == names


def _gratings(uploads: Uploads) -> list[Sample]:
    from mmvideoiq.data.synthetic import NUM_CLASSES, SUFFICIENT_BITS, make_clip, write_lossless

    samples = []
    for number, (kind, label) in enumerate(GRATINGS):
        rng = np.random.default_rng([7, number])
        clip, _ = make_clip(rng, label=label, kind=kind, frames=FRAMES)
        name = f"{180 * label / NUM_CLASSES:g}°, {kind}"
        about = f"readable from {SUFFICIENT_BITS[kind]} bits on"
        sample = Sample(f"sample-{number}", name, about)
        uploads.add_sample(sample.id, lambda path, clip=clip: _write(path, clip, write_lossless))
        samples.append(sample)
    return samples


def _write(path: Path, clip: np.ndarray, write) -> None:
    as_matroska = path.with_suffix(".mkv")
    write(as_matroska, clip, rate=8)
    as_matroska.replace(path)
