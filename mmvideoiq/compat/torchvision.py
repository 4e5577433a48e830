"""torchvision: its names of weights without it, and its import beside another torch."""

import importlib.util
import sys
from pathlib import Path

from mmvideoiq.compat.missing_parts import PartNotRegistered
from mmvideoiq.compat.packages import installed

# The second sets of weights that torchvision publishes; MMEngine's own table lists the first sets.
TORCHVISION_V2 = {
    "resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-cd907fc2.pth",
    "resnet152": "https://download.pytorch.org/models/resnet152-f82ba261.pth",
    "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
}


class _TorchvisionUrls(dict[str, str]):
    def __missing__(self, name: str) -> str:
        raise PartNotRegistered(
            f"torchvision://{name} is unknown without torchvision; known names are {', '.join(sorted(self))}. "
            "Install torchvision or pass the URL itself"
        )


def torchvision_urls() -> dict[str, str]:
    """URLs of ``torchvision://`` names: ResNet 18 to 152 and MobileNetV2, with their second sets of weights.

    ``resnet50`` and ``resnet50.imagenet1k_v1`` are the first weights, ``.imagenet1k_v2`` the second,
    ``.default`` the newest. The plain names come from the table that MMEngine ships.
    """
    import mmengine

    table = mmengine.load(Path(mmengine.__file__).parent / "hub/torchvision_0.12.json")
    names = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["mobilenet_v2"]
    urls = _TorchvisionUrls({name: table[name] for name in names})
    for name in names:
        urls[f"{name}.imagenet1k_v1"] = urls[f"{name}.default"] = urls[name]
    for name, url in TORCHVISION_V2.items():
        urls[f"{name}.imagenet1k_v2"] = urls[f"{name}.default"] = url
    return urls


def resolve_torchvision_names() -> bool:
    """MMEngine resolves ``torchvision://resnet50`` only with torchvision installed: use a table of URLs without it."""
    if installed("torchvision"):
        return False
    from mmengine.runner import checkpoint

    checkpoint.get_torchvision_models = torchvision_urls
    return True


def let_torchvision_import() -> bool:
    """torchvision fails to import if its operators were compiled for another torch (a CUDA wheel with a CPU torch).

    The import refers to two detection operators, which are declared here; the networks do not use them.
    """
    spec = importlib.util.find_spec("torchvision") if "torchvision" not in sys.modules else None
    if spec is None or spec.origin is None:
        return False
    import torch

    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return True
    return False
