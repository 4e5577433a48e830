"""Which packages are installed: those that MMAction2 does not declare, and how MMEngine looks for them."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

MMCV_SUPPORTED = "2.1.0"  # the newest version of mmcv that MMAction2 1.2.0 accepts


def installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    return module in sys.modules or importlib.util.find_spec(module) is not None


def require_declared() -> None:
    """MMAction2 imports importlib_metadata and mmcv without declaring them: check that both are installed.

    Raises:
        ModuleNotFoundError: a package is missing; the message contains the command that installs it.
    """
    if not installed("importlib_metadata"):
        raise ModuleNotFoundError(
            "MMAction2 imports importlib_metadata without declaring it: pip install importlib_metadata",
            name="importlib_metadata",
        )
    if not installed("mmcv"):
        raise ModuleNotFoundError(
            f"MMAction2 needs mmcv: pip install mmcv-lite=={MMCV_SUPPORTED} (or a full mmcv)",
            name="mmcv",
        )


def find_packages_without_pkg_resources() -> bool:
    """setuptools 81 dropped ``pkg_resources``, which MMEngine needs for ``mmaction::`` bases: use importlib instead."""
    if installed("pkg_resources"):
        return False

    def module_of(package: str) -> str | None:
        """The module that an installed package provides: mmaction for mmaction2."""
        owners = metadata.packages_distributions()
        named = (module for module, packages in owners.items() if package in packages)
        return package if installed(package) else next(named, None)

    def get_installed_path(package: str) -> str:
        """The folder of an installed package."""
        module = module_of(package)
        spec = importlib.util.find_spec(module) if module else None
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"package {package!r} is not installed", name=package)
        return str(Path(spec.origin).parent)

    def is_installed(package: str) -> bool:
        """Whether a package is installed, by its own name or that of its module."""
        return module_of(package) is not None

    import mmengine.config.config
    import mmengine.hub.hub
    import mmengine.utils.package_utils

    for module in (mmengine.utils.package_utils, mmengine.utils, mmengine.config.config, mmengine.hub.hub):
        for function in (get_installed_path, is_installed):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)
    return True
