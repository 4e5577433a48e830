"""What a command line names -> videos, in order: files, folders, globs, lists and tables, here or in a bucket."""

from __future__ import annotations

import csv
import glob
import io
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from mmvideoiq.service.bulk.fetch import WEB, file_system, meant, reason
from mmvideoiq.service.sources import VIDEOS
from mmvideoiq.video.errors import shown
from mmvideoiq.video.network import is_address

LISTS = (".txt", ".csv", ".parquet")
LABELS = re.compile(rf"^(.+(?:{'|'.join(map(re.escape, VIDEOS))}))(?:\s+-?\d+)+$", re.IGNORECASE)


def find_all(sources: Sequence[str], *, column: str = "path", data_root: str | None = None) -> list[str]:
    """The videos of all sources in order, each once: absolute paths and addresses.

    - A folder: the videos in it and in the folders below, by name; in a bucket too.
    - A glob (``*``, ``?``, ``[...]``, ``**``): what matches, in folders as above; in a bucket too.
    - ``.txt``: a path a line, ``#`` begins a comment, labels as MMAction2 writes them behind it are left out.
    - ``.csv``, ``.parquet``: the paths of a column.
    - Everything else is a video. What stands in a list is not looked for: what is missing is an error of its row.

    Args:
        column: of tables, that holds the paths.
        data_root: folder or address at which relative paths of lists begin; None: at the folder of their list.

    Raises:
        ValueError: a source that does not exist or names no video, a table without the column.
        ImportError: the scheme of an address needs a package; names it.
    """
    if data_root is not None:
        _check_data_root(data_root, sources)
    found: dict[str, None] = {}
    for source in sources:
        named = dict.fromkeys(_videos_of(source, column, data_root))
        found.update(named)
        if not named:
            raise ValueError(f"{shown(source)}: names no videos ({', '.join(VIDEOS)})")
    return list(found)


def _check_data_root(data_root: str, sources: Sequence[str]) -> None:
    if not any(map(is_list, sources)):
        raise ValueError(f"--data-root is for lists ({', '.join(LISTS)}): leave it out")
    if not is_address(data_root) and not os.path.isdir(data_root):
        raise ValueError(f"--data-root {data_root}: there is no such folder")


def absolute(source: str) -> str:
    return source if is_address(source) else os.path.abspath(source)


def is_list(source: str) -> bool:
    path = urlsplit(source).path if is_address(source) else source
    return path.lower().endswith(LISTS)


def read_bytes(source: str) -> bytes:
    """The content of a list.

    Raises:
        ValueError: it cannot be read, and why.
        ImportError: as :func:`file_system`.
    """
    filesystem, path = file_system(source) if is_address(source) else (None, source)
    try:
        if filesystem is None:
            with open(path, "rb") as file:
                return file.read()
        return filesystem.cat_file(path)
    except Exception as error:  # each file system has its own
        raise ValueError(f"{shown(source)}: cannot be read ({reason(meant(source, error))})") from None


def _videos_of(source: str, column: str, data_root: str | None) -> Iterator[str]:
    if is_list(source) and not _is_glob(source):
        yield from _listed(source, column, data_root)
    elif is_address(source):
        yield from _in_bucket(source)
    elif os.path.isdir(source):
        yield from _in_folder(source)
    elif _is_glob(source) and not os.path.exists(source):
        for path in sorted(glob.glob(source, recursive=True)):
            yield from _in_folder(path) if os.path.isdir(path) else [absolute(path)]
    elif os.path.exists(source):
        yield absolute(source)
    else:
        raise ValueError(f"{source}: there is no such file or folder")


def _is_glob(source: str) -> bool:
    web = (
        is_address(source) and urlsplit(source).scheme.lower() in WEB
    )  # of an address ``?`` begins the query
    return not web and glob.has_magic(source)


def _is_video(name: str) -> bool:
    return name.lower().endswith(VIDEOS)


def _in_folder(folder: str) -> Iterator[str]:
    for parent, below, names in os.walk(folder, onerror=_unlisted):
        below.sort()
        yield from (absolute(os.path.join(parent, name)) for name in sorted(names) if _is_video(name))


def _unlisted(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename}: cannot be listed ({error.strerror})")


def _in_bucket(address: str) -> Iterator[str]:
    filesystem, path = file_system(address)
    if urlsplit(address).scheme.lower() in WEB:  # these have no folders
        yield address
        return
    try:
        if _is_glob(address):
            names = filesystem.glob(path)
        elif filesystem.isdir(path):
            names = list(filter(_is_video, filesystem.find(path)))
        else:
            names = [path] if filesystem.exists(path) else None
    except Exception as error:  # each file system has its own, such as one for missing credentials
        raise ValueError(f"{shown(address)}: cannot be listed ({reason(error)})") from None
    if names is None:
        raise ValueError(f"{shown(address)}: there is no such file or folder")
    for name in sorted(names):
        yield filesystem.unstrip_protocol(name)


# --- lists ----------------------------------------------------------------------------------------------------------


def _listed(source: str, column: str, data_root: str | None) -> Iterator[str]:
    content = read_bytes(source)
    if data_root is not None:
        folder = data_root.rstrip("/") if is_address(data_root) else os.path.abspath(data_root)
    else:
        folder = source.rpartition("/")[0] if is_address(source) else os.path.dirname(os.path.abspath(source))
    for entry in _entries(source, content, column):
        if is_address(entry):
            yield entry
        elif is_address(folder) and not os.path.isabs(entry):
            scheme, _, path = folder.partition("://")
            yield f"{scheme}://{posixpath.normpath(posixpath.join(path, entry))}"
        else:
            yield os.path.normpath(os.path.join(folder, entry))


def _entries(source: str, content: bytes, column: str) -> Iterator[str]:
    kind = os.path.splitext(urlsplit(source).path if is_address(source) else source)[1].lower()
    if kind == ".parquet":
        yield from _parquet(source, content, column)
        return
    text = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
    if kind == ".csv":
        yield from _csv(source, text, column)
        return
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            labelled = LABELS.match(line)
            yield labelled[1] if labelled else line


def _csv(source: str, text: str, column: str) -> Iterator[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    _check_column(source, rows.fieldnames or (), column)
    for number, row in enumerate(rows, 2):
        yield _path(source, f"line {number}", row[column])


def _parquet(source: str, content: bytes, column: str) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        _check_column(source, file.schema_arrow.names, column)
        values = file.read(columns=[column])[column]
    except pa.ArrowInvalid as error:
        raise ValueError(f"{shown(source)}: is not a Parquet file ({error})") from None
    for number, value in enumerate(values):
        yield _path(source, f"row {number}", value.as_py())


def _check_column(source: str, columns: Sequence[str], column: str) -> None:
    if column not in columns:
        raise ValueError(
            f"{shown(source)}: has no column {column!r} but {', '.join(columns) or 'none'}; name one by --column"
        )


def _path(source: str, where: str, value: Any) -> str:
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{shown(source)}: {where} holds no path but {value!r}")
    return value
