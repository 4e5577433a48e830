"""Reading checkpoints safely, and writing self-contained configs."""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

IMAGENET = dict(
    type="mmaction.ActionDataPreprocessor",  # with its scope, since MMEngine looks it up in its own registry
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)


def unwrap(checkpoint: Mapping, name: str = "checkpoint") -> dict[str, Tensor]:
    """The state dict in a loaded checkpoint, without wrappers: ``{'state_dict': ...}`` and the prefix ``module.``.

    Raises:
        ValueError: it is not a dict of tensors.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{name}: unknown layout: neither a state dict nor a dict with one under 'state_dict'"
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, read with pickle's safe subset (``weights_only=True``).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a checkpoint, or one with objects other than tensors and plain values, which the message names.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint not found: {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if not found:
            raise ValueError(f"{path} is not a checkpoint that torch can read") from error
        raise ValueError(
            f"{path} holds an object of {found[1]}, which safe loading refuses: "
            "save its state dict alone, as {'state_dict': ...}"
        ) from error
    except Exception as error:  # invalid data can raise almost any error
        raise ValueError(f"{path} is not a checkpoint that torch can read") from error
    return unwrap(checkpoint, str(path))


def write_config(model: Mapping[str, Any], *, num_frames: int, source: str) -> str:
    """A self-contained config file with ``model`` and ``num_frames``."""
    return (
        f'"""Converted from {source}."""\n\n'
        'default_scope = "mmaction"\n'
        'custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False)\n'
        f"num_frames = {num_frames}\n"
        f"model = {_python(model)}\n"
    )


def _python(value: Any, indent: str = "") -> str:
    """Config values in the style of MMAction2: ``dict(type="ResNet", depth=18)``, short ones on one line."""
    if isinstance(value, Mapping):
        parts = [f"{key}={_python(item, indent + '    ')}" for key, item in value.items()]
        opening, closing = "dict(", ")"
    elif isinstance(value, (list, tuple)):
        parts = [_python(item, indent + "    ") for item in value]
        opening, closing = "[", "]"
    else:
        return json.dumps(value) if isinstance(value, str) else repr(value)
    line = f"{opening}{', '.join(parts)}{closing}"
    if "\n" not in line and len(indent) + len(line) < 80:
        return line
    return "\n".join([opening, *(f"{indent}    {part}," for part in parts), f"{indent}{closing}"])
