"""Writes the clips of a benchmark as MMAction2's lists, of videos or of extracted frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from rich.progress import track

from mmvideoiq.data.annotations import Annotations, Benchmark, Clip
from mmvideoiq.data.folder import write_texts

PATTERN_FIELDS = ("path", "id", "class")
IMAGES = (".jpg", ".jpeg", ".png")


@dataclass
class Written:
    """One list: its file, the names it holds, and the clips whose files were not found."""

    file: Path
    names: list[str]
    several_labels: int = 0
    missing: list[Clip] = field(default_factory=list)


def write_lists(
    out: str | Path,
    annotations: Annotations,
    benchmark: Benchmark,
    *,
    rawframes: bool = False,
    pattern: str | None = None,
    media: str | Path | None = None,
    existing: bool = False,
    underscores: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Written]:
    """Write ``train.txt``, ... (or ``train_rawframes.txt``, ...) and ``classes.txt`` into ``out``.

    Videos: ``path label [label ...]`` with the benchmark's delimiter. Frames: ``folder frames label ...``
    with spaces, for MMAction2's ``RawframeDataset``; spaces in names become ``_``. Paths are relative to
    ``media``. Files are written atomically.

    Args:
        pattern: the name of a video or frame folder, with ``{path}`` as published, ``{id}`` its last part,
            ``{class}`` its first class; default ``{path}.mp4``, of frames ``{path}``. With ``existing``, ``*``
            may replace folders and the suffix: ``*/v_{id}.*``; of several files the first is taken.
        media: the folder of the videos or frame folders; default ``out/videos``, ``out/rawframes``.
        existing: keep only what exists; the frames of a folder are counted.
        underscores: your files have ``_`` where the annotation has a space.
        overwrite: replace lists that differ from these.

    Raises:
        ValueError: an invalid pattern, a name that the list cannot hold, two clips of one name, no
        file found, unknown frame counts.
        NotADirectoryError: ``existing``, and ``media`` is not a folder.
        FileExistsError: other lists exist, and ``overwrite`` is False.
    """
    out = Path(out)
    pattern = pattern or ("{path}" if rawframes else "{path}.mp4")
    folder = Path(media) if media is not None else out / ("rawframes" if rawframes else "videos")
    files = _Files(folder, pattern, rawframes=rawframes) if existing else None
    if files is None and "*" in pattern:
        raise ValueError(f"pattern {pattern!r}: '*' is looked up on disk, which needs --existing")
    delimiter = " " if rawframes else benchmark.delimiter

    texts = {out / "classes.txt": "".join(f"{name}\n" for name in annotations.classes)}
    written: dict[str, Written] = {}
    for split, clips in annotations.splits.items():
        result = Written(out / f"{split}{'_rawframes' if rawframes else ''}.txt", [])
        lines: dict[str, str] = {}
        first: dict[str, Clip] = {}
        shown: Iterable[Clip] = clips
        if progress and existing:
            shown = track(clips, description=f"looking for {split}", transient=True)
        for clip in shown:
            name = _name(clip, pattern, annotations.classes, underscores=underscores or rawframes)
            frames = clip.frames
            if files is not None:
                found = files.find(name)
                frames = files.count_frames(found) if found and rawframes else frames
                if found is None or (rawframes and not frames):
                    result.missing.append(clip)
                    continue
                name = found
            elif rawframes and frames is None:
                raise ValueError(f"{clip.where}: no frame count is published; count them with --existing")
            elif rawframes and frames == 0:
                result.missing.append(clip)
                continue
            _check_name(name, delimiter, clip, rawframes=rawframes)
            if name in first:
                raise ValueError(
                    f"{clip.where}: {name!r} is also the name of {first[name].path!r} ({first[name].where}); "
                    f"pattern {pattern!r} must distinguish them"
                )
            first[name] = clip
            result.several_labels += len(clip.labels) > 1
            columns = [name, *([frames] if rawframes else []), *clip.labels]
            lines[name] = delimiter.join(map(str, columns))
        if not lines:
            example = _name(clips[0], pattern, annotations.classes, underscores=underscores or rawframes)
            raise ValueError(
                f"none of the {len(clips):,} clips of {split} exists, for example {folder / example}; "
                "check --media and --pattern"
            )
        result.names = list(lines)
        written[split] = result
        texts[result.file] = "".join(f"{line}\n" for line in lines.values())
    write_texts(texts, overwrite=overwrite)
    return written


class _Files:
    """The content of a folder: videos, or folders of frames."""

    def __init__(self, folder: Path, pattern: str, *, rawframes: bool) -> None:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; name the one with the files with --media")
        stem = PurePosixPath(pattern).name if rawframes else PurePosixPath(pattern).stem
        if "*" in stem:
            raise ValueError(f"pattern {pattern!r}: '*' may replace folders and the suffix")
        self._folder = folder
        self._rawframes = rawframes
        self._by_stem: dict[str, list[str]] | None = self._index() if "*" in pattern else None

    def _index(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for root, folders, files in os.walk(self._folder, followlinks=True):
            folders.sort()
            below = Path(root).relative_to(self._folder)
            for name in folders if self._rawframes else sorted(files):
                stem = name if self._rawframes else PurePosixPath(name).stem
                index.setdefault(stem, []).append((below / name).as_posix())
        return index

    def find(self, name: str) -> str | None:
        """The path of a clip below the folder, or None."""
        if self._by_stem is None:
            path = self._folder / name
            return name if (path.is_dir() if self._rawframes else path.is_file()) else None
        last = PurePosixPath(name)
        candidates = self._by_stem.get(last.name if self._rawframes else last.stem, [])
        glob = name.replace("[", "[[]").replace("?", "[?]")
        return next((path for path in candidates if fnmatchcase(path, glob)), None)

    def count_frames(self, name: str) -> int:
        """Images in a folder, without those of optical flow."""
        with os.scandir(self._folder / name) as entries:
            return sum(e.name.lower().endswith(IMAGES) and not e.name.startswith("flow_") for e in entries)


def _name(clip: Clip, pattern: str, classes: Sequence[str], *, underscores: bool) -> str:
    fields = {"path": clip.path, "id": clip.path.rsplit("/", 1)[-1], "class": classes[clip.labels[0]]}
    try:
        name = pattern.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(
            f"pattern {pattern!r} may hold {', '.join(f'{{{f}}}' for f in PATTERN_FIELDS)}, for example v_{{id}}.mp4"
        ) from None
    return name.replace(" ", "_") if underscores else name


def _check_name(name: str, delimiter: str, clip: Clip, *, rawframes: bool) -> None:
    if (
        delimiter in name
        or name != name.strip()
        or len(name.splitlines()) != 1
        or (rawframes and name.split() != [name])
    ):
        remedy = "" if rawframes else " or --underscores"
        raise ValueError(
            f"{clip.where}: {name!r} cannot be in a list with {delimiter!r} between path and labels; "
            f"rename it{remedy}"
        )
