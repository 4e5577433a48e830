"""What a command line names: bundles, videos, configs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmvideoiq import zoo
from mmvideoiq.zoo import index

VIDEOS = tuple(".3gp .asf .avi .flv .h264 .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())


def find_videos(given: Sequence[str]) -> list[str]:
    """Files as they are; in place of a folder the videos in it, by name."""
    found = []
    for path in given:
        inside = [path]
        if os.path.isdir(path):
            inside = sorted(str(file) for file in Path(path).iterdir() if file.suffix.lower() in VIDEOS)
            if not inside:
                raise ValueError(f"{path}: this folder holds no videos ({', '.join(VIDEOS)})")
        found += inside
    return found


def find_bundle(given: str) -> str:
    """The bundle's folder; a published one is fetched where it is not on this machine."""
    if given.startswith(zoo.SCHEME):
        return str(zoo.bundle_folder(given.removeprefix(zoo.SCHEME)))
    if os.path.isfile(given):
        raise ValueError(
            f"{given} is a file; a bundle is a folder, which tools/export.py makes of a checkpoint"
        )
    return given


def find_config(given: str) -> str:
    """The path of a config or recipe, which is a file or one of this installation: ``videoiq/demo_recipe``.

    What is neither is returned as it is: who reads it says that it does not exist.
    """
    if not Path(given).exists():
        for name in (given, f"{given}.py"):
            path = index.root() / "configs" / name
            if path.is_file():
                return str(path)
    return given
