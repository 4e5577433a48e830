"""Files written atomically, and reading them back."""

import errno
import hashlib
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class DamagedFile(ValueError):
    """A file is empty, cut short or of another kind; the message names it and what to do."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to. It becomes ``path`` at the end of the block, and is removed after an error.

    Readers see the old file or the new one, never a part, also after a loss of power. The folder is made where there
    is none; the suffix is that of ``path``, for writers that depend on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path, *, keys: Iterable[str] = ()) -> Any:
    """The content of a JSON file, None where there is none.

    Raises:
        DamagedFile: it is empty or cut short, or ``keys`` are given and it is not a dict that has them.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    else:
        if all(isinstance(content, dict) and key in content for key in keys):
            return content
    raise DamagedFile(f"{path} is empty, cut short or of another kind: delete it, then go on with --resume")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_text(path, json.dumps(value, indent=1, default=float))


def find_checkpoint(folder: Path) -> Path:
    """The best checkpoint a finished stage saved, else its last one.

    Raises:
        FileNotFoundError: the stage saved none.
    """
    best = sorted(folder.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    last = last_checkpoint(folder)
    if last is None:
        raise FileNotFoundError(
            f"stage in {folder}: no checkpoint was saved; it needs MMAction2's CheckpointHook"
        )
    return last


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, from which an interrupted stage resumes; None where it has to begin again."""
    pointer = folder / "last_checkpoint"
    saved = [path for path in folder.glob("*.pth") if re.fullmatch(r"(epoch|iter)_\d+", path.stem)]
    saved.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if pointer.is_file() and (name := pointer.read_text().strip()):
        saved.insert(0, Path(name))
    return next((path for path in saved if is_complete_checkpoint(path)), None)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(content)


def to_bytes(text: str) -> bytes:
    """UTF-8; what it cannot hold, such as names of files in another encoding, is escaped."""
    return text.encode("utf-8", "backslashreplace")


def check_output(flag: str, path: Path) -> None:
    """Make sure that a file can be written at ``path``, before there is anything to write.

    Args:
        flag: that names the path, for the message.

    Raises:
        OSError: its folder is missing or takes no files, or it is a folder or a device; one line.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{flag} {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise OSError(
            f"{flag} {path}: is {'a folder' if path.is_dir() else 'not a regular file'}; name a file"
        )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{flag} {path}: no file can be written to {path.parent} ({error.strerror})") from None


def make_output_folder(flag: str, path: Path) -> None:
    """Make the folder ``path`` if it is not there, and sure that it takes files.

    Args:
        flag: that names the path, for the message.

    Raises:
        OSError: it cannot be made, or takes no files; one line. A full disk is raised as it is.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = "takes no files" if path.is_dir() else "cannot be made"
        raise OSError(f"{flag} {path}: this folder {what} ({error.strerror}); name another") from None


@contextmanager
def unless_unused(folder: Path) -> Iterator[None]:
    """Folders on the way to ``folder`` that the block made are removed after it where nothing is in them."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        for each in missing:
            with suppress(OSError):  # it is in use, or was not made
                each.rmdir()


def finite(value: Any) -> Any:
    """NaN, which JSON does not know, becomes null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_complete_checkpoint(checkpoint: Path) -> bool:
    """Whether a file of torch has its table of contents, which is at the end, and all checksums match."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
