"""Bundles that were changed on purpose: their checksums fit, what they say may not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError

FILES = ("manifest.json", "graphs.json", "recognition.safetensors", "policy.safetensors")


def refused(path: Path) -> str:
    """The message with which a bundle does not open: one line that begins with the place."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1200 and message.startswith(str(path))
    return message


def canonical(value: Any) -> bytes:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def sign(path: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Rewrite the manifest so that all sizes and checksums fit."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(manifest)
    manifest.pop("digest")
    manifest["digest"] = hashlib.sha256(canonical(manifest)).hexdigest()
    (path / "manifest.json").write_bytes(canonical(manifest))


def change_graphs(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    graphs = json.loads((path / "graphs.json").read_text())
    change(graphs)
    (path / "graphs.json").write_bytes(canonical(graphs))
    sign(path)


def change_tensors(path: Path, part: str, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(path / f"{part}.safetensors")
    change(tensors)
    save_file(tensors, path / f"{part}.safetensors")
    sign(path)
