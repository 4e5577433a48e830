"""A part that is not in the registry: why, and what to do."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmvideoiq.compat.packages import installed

OPTIONAL_PARTS = {  # parts that MMAction2 registers only if another package is installed
    "MobileOneTSM": "mmpretrain",
    "ACRNHead": "mmdet",
    "AVARoIHead": "mmdet",
    "BBoxHeadAVA": "mmdet",
    "FBOHead": "mmdet",
    "LFBInferHead": "mmdet",
    "MaxIoUAssignerAVA": "mmdet",
    "SingleRoIExtractor3D": "mmdet",
}

OPTIONAL_SCOPES = ("mmpretrain", "mmcls", "mmdet", "mmpose")


class PartNotRegistered(KeyError):
    """A part is missing from the registry for a known reason. A KeyError whose text is the plain message."""

    def __str__(self) -> str:
        return str(self.args[0])


def registered_names() -> set[str]:
    """Names that mmvideoiq registers, read from its source because it may not have been imported yet."""
    registered = re.compile(r"^@\w+\.register_module\(\)\n(?:@.*\n)*class (\w+)", re.MULTILINE)
    return {
        name
        for file in Path(__file__).parents[1].rglob("*.py")
        for name in registered.findall(file.read_text())
    }


def _why_missing(error: KeyError) -> str | None:
    """Message for a part that is missing from the registry, or None if the cause is unknown."""
    found = re.match(r"(\S+) is not in the (\S+) registry", str(error.args[0]) if error.args else "")
    if found is None:
        return None
    scope, _, name = found[1].rpartition(".")
    package = scope if scope in OPTIONAL_SCOPES else OPTIONAL_PARTS.get(name)
    if name in registered_names():
        return (
            f"{name} is a part of mmvideoiq that was not imported: add custom_imports = "
            'dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False) to the config'
        )
    if package and not installed(package):
        return f"{name} requires {package}, which is not installed: pip install {package}"
    return None


def explain_missing_parts() -> bool:
    """The registry reports only "X is not in the registry": add what to do if the cause is known.

    Known causes: mmvideoiq.plugin was not imported, or MMAction2 registers the part only with another package.
    """
    from mmengine.registry import Registry

    plain: Callable[..., Any] = Registry.build
    if hasattr(plain, "__wrapped__"):
        return True

    @functools.wraps(plain)
    def build(self: Registry, cfg: dict, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(self, cfg, *args, **kwargs)
        except KeyError as error:
            why = _why_missing(error)
            if why is None:
                raise
            raise PartNotRegistered(why) from None

    Registry.build = build
    return True
