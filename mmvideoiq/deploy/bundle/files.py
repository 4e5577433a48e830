"""The folder of a bundle: its files are read only if they are whole, and replaced only all at once.

JSON is written in one way only (sorted keys, one space of indent), so that every flipped bit shows.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmvideoiq import __version__
from mmvideoiq.deploy.bundle.schema import FORMAT, FORMAT_VERSION, GRAPHS
from mmvideoiq.deploy.bundle.tensors import PARTS, TensorSpec

MANIFEST = "manifest.json"
JSON_LIMIT = 8 * 2**20  # bytes; a ResNet-152 needs a tenth of it
LONGEST = 400  # characters of an explanation, which may quote the file
MAX_STEP = float(np.finfo(np.float32).max) / 2**15  # of a weight that is stored as step * int16
DTYPES = {"U8": "uint8", "I16": "int16", "F32": "float32"}


class InvalidFile(Exception):
    """What is wrong with a file of a bundle, and what to do; says nothing of where the bundle is."""

    def __init__(self, file: str, what: object, remedy: str = "export or download the bundle again") -> None:
        super().__init__(file, what, remedy)
        self.file, self.what, self.remedy = file, _one_line(what), _one_line(remedy)


def _one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


class Tensors:
    """The tensors of one safetensors file, mapped into memory: what there is, and copies of what is asked for."""

    def __init__(self, file: Path) -> None:
        try:
            self._file = safe_open(file, framework="numpy")
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}
        except (SafetensorError, OSError) as error:
            raise InvalidFile(file.name, f"is not a safetensors file ({error})") from None
        self._name = file.name
        self.specs = {
            name: TensorSpec(DTYPES.get(s.get_dtype(), s.get_dtype()), tuple(s.get_shape()))
            for name, s in slices.items()
        }

    def __call__(self, name: str) -> np.ndarray:
        if name not in self.specs:
            raise ValueError(f"the bundle has no tensor {name!r}")
        return self._file.get_tensor(name)

    def check_numbers(self) -> None:
        """InvalidFile where a number is not finite, or thresholds do not rise."""
        for name in self.specs:
            _check_numbers(self._name, name, self(name))

    def int16(self, name: str) -> np.ndarray:
        """A weight stored as ``step * int16``, one step per output channel."""
        whole, step = self(f"{name}.int16"), self(f"{name}.step")
        return whole * step.reshape(-1, *[1] * (whole.ndim - 1))


# --- reading ----------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, if it is one of this version and undamaged; its schema is not checked."""
    if not path.exists():
        remedy = "check the path; a published bundle is named zoo://NAME"
        raise InvalidFile("", "there is no such folder", remedy)
    if not (path / MANIFEST).is_file():
        raise InvalidFile("", f"is not a bundle: it holds no {MANIFEST}", "check the path")
    manifest, data = _read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InvalidFile(MANIFEST, f"is not the manifest of a bundle (format {FORMAT!r})", "check the path")
    version = manifest.get("version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InvalidFile(
            MANIFEST,
            f"has version {version}, this mmvideoiq {__version__} reads {FORMAT_VERSION}",
            f"upgrade mmvideoiq: the bundle was made by {manifest.get('made_by')!r}",
        )
    if version != FORMAT_VERSION or type(version) is not int:
        raise InvalidFile(
            MANIFEST, f"has the unknown version {version!r}, this mmvideoiq reads {FORMAT_VERSION}"
        )
    _check_canonical(manifest, data, MANIFEST)
    if manifest.get("digest") != _digest(manifest):
        raise InvalidFile(MANIFEST, "is damaged: its digest does not fit its content")
    return manifest


def check_files(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """That the folder holds the files that its manifest names, byte for byte, and no others."""
    found = {entry.name for entry in path.iterdir()}
    for name in sorted(found - {MANIFEST, *files}):
        raise InvalidFile(name, "is not part of this bundle", "move it elsewhere")
    for name, entry in files.items():
        file = path / name
        if not file.is_file():
            raise InvalidFile(name, "is missing")
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise InvalidFile(name, f"is damaged: it has {size} bytes in place of {entry['bytes']}")
        if _sha256(file) != entry["sha256"]:
            raise InvalidFile(name, "is damaged: its checksum does not fit")


def read_graphs(path: Path) -> Any:
    """What the file of the graphs holds; its schema is not checked."""
    plain, data = _read_json(path / GRAPHS)
    _check_canonical(plain, data, GRAPHS)
    return plain


def _read_json(file: Path) -> tuple[Any, bytes]:
    with file.open("rb") as stream:
        data = stream.read(JSON_LIMIT + 1)
    if len(data) > JSON_LIMIT:
        raise InvalidFile(file.name, f"is larger than {JSON_LIMIT} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse), data
    except (ValueError, RecursionError) as error:
        raise InvalidFile(file.name, f"is damaged: not JSON ({error})") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _check_canonical(value: Any, data: bytes, name: str) -> None:
    try:
        same = canonical(value) == data
    except (ValueError, RecursionError):  # numbers beyond all floats, half characters, too many levels
        same = False
    if not same:
        raise InvalidFile(name, "is damaged: it is not written as this program writes it")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


# --- writing ----------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """JSON in the one way in which a bundle writes it."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def write_graphs(folder: Path, plain: Mapping[str, Any]) -> None:
    _write_json(folder / GRAPHS, lambda: canonical(plain))


def write_tensors(folder: Path, part: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidFile for numbers that are not finite; thresholds may be infinite, where a code is never reached."""
    file = folder / f"{part}.safetensors"
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES.values():
            raise InvalidFile(
                file.name, f"{name!r} is {array.dtype}, expected one of {sorted(DTYPES.values())}"
            )
        _check_numbers(file.name, name, array)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    file.write_bytes(save(contiguous))  # save_file would hide the file from other users


def _check_numbers(file: str, name: str, array: np.ndarray) -> None:
    if name.endswith(".thresholds"):
        if not np.all(array[:-1] <= array[1:]) or np.isnan(array).any():
            raise InvalidFile(file, f"{name!r} does not rise")
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidFile(file, f"{name!r} holds numbers that are not finite")
    elif name.endswith(".divisor") and not (array > 0).all():
        raise InvalidFile(file, f"{name!r} holds numbers that are not positive")
    elif name.endswith(".step") and np.abs(array).max(initial=0) > MAX_STEP:
        raise InvalidFile(file, f"{name!r} holds steps above {MAX_STEP:.3g}, whose weights are not finite")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The last file: with format, version and maker, and the sizes and checksums of the other files."""
    full = {
        **manifest,
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "made_by": f"mmvideoiq {__version__}",
        "files": {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in folder.iterdir()},
    }
    _write_json(folder / MANIFEST, lambda: canonical({**full, "digest": _digest(full)}))


def _write_json(file: Path, content: Callable[[], bytes]) -> None:
    try:
        file.write_bytes(content())
    except (TypeError, ValueError) as error:
        raise InvalidFile(file.name, error) from None


def _digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(canonical(rest)).hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which takes its place at the end; after an error nothing has changed.

    Raises:
        InvalidFile: something stands at ``target`` that is not a bundle, or holds other files too.
    """
    if target.exists() and not _is_bundle(target):
        raise InvalidFile(
            "", "something that is not a bundle, or more than one, stands there; choose another path"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        new.mkdir()
        yield new
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:  # an interruption too: the old one is put back before the folder is removed
            if old.exists() and not target.exists():
                old.rename(target)
            raise


def _is_bundle(path: Path) -> bool:
    """Whole, damaged, or of another version; with nothing beside it."""
    known = {MANIFEST, GRAPHS, *(f"{part}.safetensors" for part in PARTS)}
    try:
        manifest, _ = _read_json(path / MANIFEST)
        return manifest["format"] == FORMAT and {entry.name for entry in path.iterdir()} <= known
    except (InvalidFile, OSError, LookupError, TypeError):
        return False
