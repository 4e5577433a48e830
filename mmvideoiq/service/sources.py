"""What a command line names: bundles, videos, configs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvideoiq import zoo
from mmvideoiq.zoo import index

VIDEOS = tuple(".3gp .asf .avi .flv .h264 .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())

FOLDERS_SHOWN = 3


def find_videos(given: Sequence[str]) -> list[str]:
    """Files as they are; in place of a folder the videos in it, by name."""
    found = []
    for path in given:
        inside = [path]
        if os.path.isdir(path):
            inside = sorted(str(file) for file in Path(path).iterdir() if file.suffix.lower() in VIDEOS)
            if not inside:
                raise ValueError(f"{path}: this folder holds no videos ({', '.join(VIDEOS)}){_below(path)}")
        found += inside
    return found


def _below(folder: str) -> str:
    """What to do where the videos may lie in folders below."""
    below = sorted(inner.name for inner in Path(folder).iterdir() if inner.is_dir())
    if not below:
        return ""
    named = ", ".join(below[:FOLDERS_SHOWN]) + ", ..." * (len(below) > FOLDERS_SHOWN)
    return f"; folders below are not searched: name them ({named}), or use mmvideoiq bulk"


def find_bundle(given: str) -> str:
    """The bundle's folder; a published one is fetched where it is not on this machine."""
    if given.startswith(zoo.SCHEME):
        return str(zoo.bundle_folder(given.removeprefix(zoo.SCHEME)))
    if os.path.isfile(given):
        raise ValueError(
            f"{given} is a file; a bundle is a folder, which mmvideoiq export makes of a checkpoint"
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


def complete_bundle(prefix: str, **_: Any) -> list[str]:
    """For a shell: folders, and the bundles of the zoo."""
    from argcomplete.completers import DirectoriesCompleter

    names = [f"{zoo.SCHEME}{name}" for name, model in index.read().items() if model.is_bundle]
    return [name for name in names if name.startswith(prefix)] + list(DirectoriesCompleter()(prefix))


def complete_config(prefix: str, **_: Any) -> list[str]:
    """For a shell: files, and the names of this installation's configs below the folder that was begun."""
    from argcomplete.completers import FilesCompleter

    configs = index.root() / "configs"
    names = [path.relative_to(configs).with_suffix("").as_posix() for path in configs.glob("[a-z]*/*.py")]
    return sorted(name for name in names if name.startswith(prefix)) + list(FilesCompleter()(prefix))
