"""Published models by name: ``list_models()``, ``load(name)``; the command is ``mmvideoiq zoo``.

Configs name them too: ``load_from="zoo://NAME"`` and ``init_cfg=dict(type="Pretrained", checkpoint="zoo://NAME")``.
Listing and downloading need neither PyTorch nor MMAction2. The environment:

- ``MMVIDEOIQ_HOME``: the cache is its folder ``zoo``; ``~/.cache/mmvideoiq`` unless given.
- ``MMVIDEOIQ_ZOO``: the address below which weights lie that a metafile names by a relative path.
- ``MMVIDEOIQ_OFFLINE=1``: use what is there, download nothing.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from mmvideoiq.zoo import index, store

if TYPE_CHECKING:
    from torch import nn

SCHEME = "zoo://"


def list_models(pattern: str = "*") -> list[str]:
    """The names that match ``pattern`` (as of files: ``*demo*``), sorted."""
    return sorted(name for name in index.read() if fnmatchcase(name, pattern))


def download(name: str) -> Path:
    """The checkpoint's file or the bundle's folder on this machine, fetched where it is not there, and checked.

    Raises:
        ValueError: no such model (the closest names are given), nothing published, or another checksum: a download is
            removed then, and never returned.
        OSError: the server cannot be reached, or offline mode and the model is not there.
    """
    return store.local(index.find(name))


def checkpoint_file(name: str) -> Path:
    """:func:`download`, of a checkpoint; a bundle is a ValueError that says how it is opened."""
    if index.find(name).is_bundle:
        raise ValueError(
            f"{name} is a bundle, which runs without PyTorch: mmvideoiq infer {SCHEME}{name} VIDEO, "
            f"or VideoSession.open(mmvideoiq.zoo.download({name!r}))"
        )
    return download(name)


def bundle_folder(name: str) -> Path:
    """:func:`download`, of a bundle; a checkpoint is a ValueError that says what there is instead."""
    models = index.read()
    bundles = [other for other, model in models.items() if model.is_bundle]
    if name not in models:
        raise ValueError(f"no bundle {name!r} in the zoo; published are {', '.join(bundles) or 'none'}")
    if not models[name].is_bundle:
        raise ValueError(
            f"{name} is not a bundle; published are {', '.join(bundles) or 'none'}, and mmvideoiq export makes one "
            "of an any-precision checkpoint"
        )
    return download(name)


def load(name: str, *, device: str = "cpu") -> nn.Module:
    """The model of a checkpoint, built from its config, with all its weights, in eval mode.

    Its ``cfg`` is the config, so that ``mmaction.apis.inference_recognizer(model, video)`` works.

    Raises:
        ValueError, OSError: as :func:`download`; ValueError for a bundle.
        RuntimeError: the checkpoint does not fit the config.
    """
    path = checkpoint_file(name)
    import torch

    from mmvideoiq import compat

    compat.apply()
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner.checkpoint import load_state_dict

    config = Config.fromfile(index.root() / index.find(name).config)
    init_default_scope(config.get("default_scope", "mmaction"))
    model = MODELS.build(config.model)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    load_state_dict(model, checkpoint.get("state_dict", checkpoint), strict=True)
    model.cfg = config
    return model.to(device).eval()
