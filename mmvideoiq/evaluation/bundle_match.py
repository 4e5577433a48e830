"""Whether the bundles that are timed hold the weights of the checkpoints that are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mmvideoiq.deploy.bundle.bundle import Bundle, BundleError
from mmvideoiq.deploy.bundle.tensors import PARTS
from mmvideoiq.evaluation.config import Row, RowError, build_model, load_checkpoint, row_config

RTOL = 1e-5  # of floating-point numbers: those of another CPU may differ in their last digits


def check_bundles(rows: Sequence[Row]) -> None:
    """Compare each row's bundle with what an export of its first checkpoint would write.

    Raises:
        RowError: they differ, or the bundle cannot be opened; names row, bundle and checkpoint.
    """
    checked = set()
    for row in rows:
        key = (row.bundle, row.checkpoints[0], row.config)
        if row.bundle is None or key in checked:
            continue
        checked.add(key)
        try:
            bundle = Bundle.open(row.bundle)
        except BundleError as error:
            raise RowError(f"row '{row.name}': {error}") from None
        model = build_model(row, row_config(row))
        load_checkpoint(row, model, row.checkpoints[0])
        difference = _difference(bundle, model)
        if difference:
            raise RowError(
                f"row '{row.name}': bundle {row.bundle} is not of checkpoint {row.checkpoints[0]} ({difference}): "
                "export this checkpoint (mmvideoiq export), or name the one that the bundle was made from"
            )


def _difference(bundle: Bundle, model: nn.Module) -> str:
    """Where the bundle differs from an export of ``model``; empty where it does not."""
    from mmvideoiq.deploy.export.recognizer import export_parts
    from mmvideoiq.deploy.export.trace import ExportError

    cropped = bundle.manifest["preprocessing"]["crop"] is not None
    try:
        parts = export_parts(
            model.eval(),
            classes=bundle.manifest["classes"],
            preprocessing=bundle.preprocessing,
            frame_size=None if cropped else tuple(bundle.graphs["recognition"].inputs["frames"][1:3]),
        )
    except (ExportError, ValueError) as error:
        return str(error)
    for part in PARTS:
        difference = _differing(bundle.path / f"{part}.safetensors", parts["tensors"].get(part, {}))
        if difference:
            return f"{part}: {difference}"
    return ""


def _differing(file: Path, expected: Mapping[str, Any]) -> str:
    from safetensors.numpy import load_file

    found = load_file(file) if file.is_file() else {}
    for name in sorted(set(found) ^ set(expected)):
        return f"{name} is in {'the checkpoint' if name in expected else 'the bundle'} alone"
    for name, array in expected.items():
        same = found[name].shape == array.shape and np.allclose(found[name], array, rtol=RTOL, atol=0)
        if not same:
            return f"{name} differs"
    return ""
