"""The files of zoo models on this machine: shipped with the package, or in the cache, each checked.

The cache holds a folder per model, named by its checksum; ``.part`` at its end means that files are still missing::

    ~/.cache/mmvideoiq/zoo/0123456789abcdef/checkpoint.pth
    ~/.cache/mmvideoiq/zoo/fedcba9876543210.part/bundle/manifest.json
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from filelock import FileLock

from mmvideoiq.fileio import sha256_of
from mmvideoiq.zoo import index
from mmvideoiq.zoo.fetch import fetch
from mmvideoiq.zoo.index import ZooModel


def home() -> Path:
    """The folder of the cache."""
    return Path(os.environ.get("MMVIDEOIQ_HOME") or "~/.cache/mmvideoiq").expanduser() / "zoo"


def offline() -> bool:
    return os.environ.get("MMVIDEOIQ_OFFLINE", "") not in ("", "0")


def state(model: ZooModel) -> str:
    """Where a model is, without looking into its files: shipped, cached, online, or unpublished."""
    if model.weights is None:
        return "unpublished"
    if _shipped(model) is not None:
        return "shipped"
    return "cached" if _cached(model).exists() else "online"


def size(model: ZooModel) -> int | None:
    """Bytes of all files of a model; None of a bundle that is not on this machine: its manifest knows them."""
    if not model.is_bundle:
        return model.size
    try:
        return sum(bytes_ for _, _, bytes_ in _files(model, _shipped(model) or _cached(model)))
    except (OSError, ValueError):
        return None


def local(model: ZooModel) -> Path:
    """The file, or a bundle's folder, complete; downloaded where it is not there. Of several processes one downloads.

    Raises:
        ValueError: nothing published, no address, another checksum.
        OSError: the server cannot be reached; FileNotFoundError in offline mode.
    """
    if model.weights is None:
        raise ValueError(f"{model.name} has no published weights: train it with {model.config}")
    first = _shipped(model)
    if first is not None:
        if not _is_complete(model, first):
            raise ValueError(
                f"{first} does not have the SHA-256 of {model.name}: restore it from the repository"
            )
    else:
        first = _cached(model)
        if not _is_complete(model, first):
            _fill_cache(model, first)
    return first.parent if model.is_bundle else first


def _fill_cache(model: ZooModel, first: Path) -> None:
    """Fetch a model's files beside their folder, then rename it: what is in the cache is complete."""
    folder = home() / model.sha256[:16]
    if offline():
        raise FileNotFoundError(
            f"{model.name} is not in the cache {home()}, or damaged there, and MMVIDEOIQ_OFFLINE forbids to fetch it: "
            f"copy the folder {folder.name} from the cache of a machine where mmvideoiq zoo download was run"
        )
    address = _address(model)
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _is_complete(model, first):  # another process was faster
            return
        shutil.rmtree(folder, ignore_errors=True)
        part = folder.with_name(f"{folder.name}.part")
        coming = part / first.relative_to(folder)
        coming.parent.mkdir(parents=True, exist_ok=True)
        for name, sha256, size in _files(model, coming):
            source = address if name == first.name else urljoin(address, quote(name))
            fetch(source, coming.with_name(name), sha256=sha256, size=size)
        part.rename(folder)


def _address(model: ZooModel) -> str:
    weights = str(model.weights)
    if "://" in weights:
        return weights
    base = os.environ.get("MMVIDEOIQ_ZOO", "")
    if not base.startswith(("http://", "https://")):
        raise ValueError(
            f"{model.name} lies at {weights} below MMVIDEOIQ_ZOO, which is {base!r}: set it to the http or https "
            "address of the zoo"
        )
    return f"{base.rstrip('/')}/{quote(weights)}"


def _files(model: ZooModel, first: Path) -> Iterator[tuple[str, str, int]]:
    """Names, checksums and sizes of a model's files; a bundle's manifest, there by then, names those after it."""
    yield first.name, model.sha256, model.size
    if model.is_bundle:
        yield from _listed(first)


def _listed(manifest: Path) -> list[tuple[str, str, int]]:
    """The files that a bundle's manifest names.

    Raises:
        ValueError: it names none, or not as a manifest does.
    """
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        found = [(Path(name).name, entry["sha256"], entry["bytes"]) for name, entry in files.items()]
        if all(name and type(sha256) is str and type(size) is int for name, sha256, size in found):
            return found
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    raise ValueError(f"{manifest} is not the manifest of a bundle: what was published is wrong")


def _is_complete(model: ZooModel, first: Path) -> bool:
    for name, sha256, _ in _files(model, first):
        file = first.with_name(name)
        if not file.is_file() or sha256_of(file) != sha256:
            return False
    return True


def _shipped(model: ZooModel) -> Path | None:
    """The file that ``weights`` names, where it came with the package."""
    weights = str(model.weights)
    path = index.root() / weights
    return path if "://" not in weights and path.is_file() else None


def _cached(model: ZooModel) -> Path:
    """The file that ``weights`` names, in the cache; a bundle's keeps the name of its folder."""
    names = unquote(urlsplit(str(model.weights)).path).split("/")
    return home().joinpath(model.sha256[:16], *names[-2 if model.is_bundle else -1 :])
