"""What stops ``import mmaction.models``, or makes it warn: the version of mmcv, a folder that the wheel lacks."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

from mmvideoiq.compat.packages import MMCV_SUPPORTED

MMCV_LIMIT = "2.2.0"  # MMAction2 1.2.0 rejects this version of mmcv and later ones


def quiet_mmcv_lite() -> bool:
    """mmcv-lite warns about an operator that 2D recognizers never use: suppress that warning."""
    warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")
    return True


def quiet_torchscript() -> bool:
    """Import here what MMEngine imports of torch.distributed, which compiles with the deprecated TorchScript.

    Only those deprecation warnings are dropped, and only here: other code that uses TorchScript still warns.
    """
    import torch

    if not torch.distributed.is_available():
        return False
    with warnings.catch_warnings():
        message = r"`torch\.jit\.(script|interface)` is deprecated"
        warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        import torch.distributed.optim
    return True


def accept_mmcv() -> bool:
    """MMAction2 asserts ``mmcv < 2.2.0``, although later 2.x versions work: import it with mmcv reported as 2.1.0.

    The real version is restored after the import. This holds for mmcv-lite and full mmcv; versions below 2.0 still
    fail MMAction2's assertion.
    """
    if "mmaction" in sys.modules:
        return False
    import mmcv
    from mmengine.utils import digit_version

    real = mmcv.__version__
    if not digit_version(MMCV_LIMIT) <= digit_version(real) < digit_version("3.0.0"):
        return False
    try:
        mmcv.__version__ = MMCV_SUPPORTED
        import mmaction  # noqa: F401
    finally:
        mmcv.__version__ = real
    return True


def supply_drn() -> bool:
    """The wheel of MMAction2 1.2.0 lacks ``mmaction.models.localizers.drn``, so ``mmaction.models`` cannot be imported.

    Register a placeholder ``DRN``; building it raises an ImportError that explains the cause.
    """
    name = "mmaction.models.localizers.drn"
    spec = importlib.util.find_spec("mmaction")
    if name in sys.modules:
        return sys.modules[name].__spec__ is None  # the placeholder has none
    if spec is None:
        return False
    if any((Path(root) / "models/localizers/drn").is_dir() for root in spec.submodule_search_locations or ()):
        return False
    from mmaction.registry import MODELS

    class DRN:
        """Placeholder for the localizer of that name."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(
                "DRN is not there: the wheel of mmaction2 1.2.0 was built without "
                "mmaction/models/localizers/drn; install MMAction2 from its source to use it"
            )

    package, module = types.ModuleType(name), types.ModuleType(f"{name}.drn")
    package.__path__ = []
    module.DRN = package.DRN = DRN  # type: ignore[attr-defined]
    sys.modules[name], sys.modules[f"{name}.drn"] = package, module
    MODELS.register_module(name="DRN", module=DRN)
    return True
