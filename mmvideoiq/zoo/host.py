"""``zoo://NAME`` where MMEngine asks for a checkpoint: ``load_from``, ``init_cfg``, ``pretrained``, ``checkpoint``."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmvideoiq import zoo


@CheckpointLoader.register_scheme(prefixes=zoo.SCHEME, force=True)
def load_from_zoo(filename: str, map_location: Any = None) -> Any:
    """What the checkpoint ``zoo://NAME`` holds; of several processes one downloads and the others wait for it."""
    path = zoo.checkpoint_file(filename.removeprefix(zoo.SCHEME))
    return torch.load(path, map_location=map_location, weights_only=True)
