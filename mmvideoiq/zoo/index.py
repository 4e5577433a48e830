"""What the metafiles say: ``model-index.yml`` names them, each lists collections and models (OpenMIM's schema).

Two keys mean more here than to OpenMIM. ``Weights`` is an address, or a path below ``MMVIDEOIQ_ZOO`` and, for what is
shipped, below the folder of ``model-index.yml``; a path that ends in ``manifest.json`` is a bundle. With it go
``Metadata: SHA256``, 64 hexadecimal digits, of that very file, and ``Metadata: Size``, its bytes; a bundle's manifest
holds both of its other files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

INDEX = "model-index.yml"
MANIFEST = "manifest.json"  # of deploy/bundle_files.py
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """One entry of a metafile.

    Attributes:
        config: path below :func:`root`.
        weights: address or path, as in the metafile; None where nothing is published.
        sha256: of the file that ``weights`` names, lower case; "" without one.
        size: bytes of that file; 0 without one.
        results: rows ``{"Task": .., "Dataset": .., "Metrics": {..}}``; none where nothing was measured.
    """

    name: str
    collection: str
    config: str
    weights: str | None
    sha256: str
    size: int
    results: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_bundle(self) -> bool:
        return self.weights is not None and self.weights.rpartition("/")[2] == MANIFEST


def root() -> Path:
    """The folder of ``model-index.yml``: ``.mim`` in an installed package (OpenMIM's place), or the repository.

    Raises:
        FileNotFoundError: neither has one.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / ".mim", package.parent):
        if (folder / INDEX).is_file():
            return folder
    raise FileNotFoundError(
        f"no {INDEX} in {package / '.mim'} or {package.parent}: this mmvideoiq was installed without its configs; "
        "install it anew with pip from a complete source tree, or run it from a clone"
    )


def read() -> dict[str, ZooModel]:
    """All models by name, in the order of the metafiles.

    Raises:
        ValueError: a metafile does not fit the schema; names it, the model and the key.
        FileNotFoundError: no index, or a metafile that it names is missing.
    """
    folder = root()
    models: dict[str, ZooModel] = {}
    for path in _list(_yaml(folder / INDEX), "Import", INDEX):
        if not isinstance(path, str):
            raise ValueError(f"{INDEX}: Import must be a list of paths, got {path!r}")
        metafile = _yaml(folder / path)
        collections = {_text(entry, "Name", path) for entry in _list(metafile, "Collections", path)}
        for entry in _list(metafile, "Models", path):
            model = _model(entry, path)
            where = f"{path}: model {model.name!r}"
            if model.name in models:
                raise ValueError(f"{where} stands in the zoo twice")
            if model.collection not in collections:
                raise ValueError(
                    f"{where}: In Collection {model.collection!r} is none of {sorted(collections)}"
                )
            if not (folder / model.config).is_file():
                raise ValueError(f"{where}: Config {model.config} does not exist")
            models[model.name] = model
    return models


def find(name: str) -> ZooModel:
    """The model of that name; ValueError with the closest names otherwise."""
    models = read()
    if name not in models:
        close = get_close_matches(name, models, n=3, cutoff=0.4)
        hint = f"closest: {', '.join(close)}" if close else "mmvideoiq zoo list shows them all"
        raise ValueError(f"no model {name!r} in the zoo; {hint}")
    return models[name]


def _model(entry: Any, path: str) -> ZooModel:
    name = _text(entry, "Name", path)
    where = f"{path}: model {name!r}"
    metadata, results = entry.get("Metadata") or {}, entry.get("Results") or []
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}: Metadata must be a mapping, got {metadata!r}")
    if not isinstance(results, list) or not all(_is_result(row) for row in results):
        raise ValueError(f"{where}: Results must be a list of Task, Dataset and Metrics (a mapping)")
    weights, sha256 = entry.get("Weights"), str(metadata.get("SHA256", "")).lower()
    size = metadata.get("Size", 0)
    if weights is not None:
        weights = _text(entry, "Weights", where)
        if "://" in weights and not weights.startswith(("http://", "https://")):
            raise ValueError(f"{where}: Weights must be a path or an address of http or https, got {weights}")
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"{where}: Weights need Metadata SHA256, 64 hexadecimal digits, got {sha256!r}")
        if type(size) is not int or size <= 0:
            raise ValueError(f"{where}: Weights need Metadata Size, their bytes, got {size!r}")
    return ZooModel(
        name=name,
        collection=_text(entry, "In Collection", where),
        config=_text(entry, "Config", where),
        weights=weights,
        sha256=sha256,
        size=size,
        results=tuple(results),
        metadata=metadata,
    )


def _is_result(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("Task", "Dataset"))
        and isinstance(row.get("Metrics"), dict)
    )


def _yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _list(content: Any, key: str, path: str) -> list:
    value = (content.get(key) or []) if isinstance(content, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"{path}: {key} must be a list")
    return value


def _text(entry: Any, key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {key} must be a text, got {value!r}")
    return value
