"""Patches that make MMAction2 1.2 and MMEngine 0.10 work with current packages, one function per defect.

Each patch does nothing where the defect is absent, says whether it is active, and may be applied repeatedly.
``apply()`` applies them all and must run before ``mmaction.models`` is imported. No file of an installed package is
changed.
"""

import contextlib
import functools
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import types
import urllib.error
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

MMCV_LIMIT = "2.2.0"  # MMAction2 1.2.0 rejects this version of mmcv and later ones
MMCV_SUPPORTED = "2.1.0"  # the newest version of mmcv that MMAction2 1.2.0 accepts

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
CV2_PACKAGES = (
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python",
    "opencv-python-headless",
)

# The second sets of weights that torchvision publishes; MMEngine's own table lists the first sets.
TORCHVISION_V2 = {
    "resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-cd907fc2.pth",
    "resnet152": "https://download.pytorch.org/models/resnet152-f82ba261.pth",
    "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
}


class PartNotRegistered(KeyError):
    """A part is missing from the registry for a known reason. A KeyError whose text is the plain message."""

    def __str__(self) -> str:
        return str(self.args[0])


def _installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def require_declared() -> None:
    """MMAction2 imports importlib_metadata and mmcv without declaring them: check that both are installed.

    Raises:
        ModuleNotFoundError: a package is missing; the message contains the command that installs it.
    """
    if not _installed("importlib_metadata"):
        raise ModuleNotFoundError(
            "MMAction2 imports importlib_metadata without declaring it: pip install importlib_metadata",
            name="importlib_metadata",
        )
    if not _installed("mmcv"):
        raise ModuleNotFoundError(
            f"MMAction2 needs mmcv: pip install mmcv-lite=={MMCV_SUPPORTED} (or a full mmcv)",
            name="mmcv",
        )


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


def _checkpoint_getattr(owner: Any, name: str) -> Any:
    """Replacement for ``builtins.getattr`` when a checkpoint is loaded: only the functions that MMEngine stores.

    Raises:
        pickle.UnpicklingError: any other owner or name.
    """
    from mmengine.logging.history_buffer import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    stored = {
        HistoryBuffer: ("min", "max", "current", "mean"),
        OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
    }
    if isinstance(owner, type) and name in stored.get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"a checkpoint may not access the attribute {name!r} of {owner!r}")


def allow_checkpoint_types() -> bool:
    """torch 2.6 loads with ``weights_only=True``, which rejects MMEngine's own checkpoints: allow the types in them.

    These are the log buffers of the message hub (with four statistics functions), the annealing function of a
    one-cycle schedule, and numpy numbers and arrays. pickle stores the functions as ``getattr`` calls, which are
    resolved from a closed list. Everything else is still rejected.
    """
    import numpy
    from mmengine.logging.history_buffer import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    from torch.serialization import add_safe_globals

    try:
        from numpy._core import multiarray
    except ImportError:  # numpy 1
        from numpy.core import multiarray  # type: ignore[no-redef]
    # numpy 1 writes numpy.core, numpy 2 writes numpy._core: either version reads both.
    rebuild = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ]
    numbers = [type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    add_safe_globals(
        [
            HistoryBuffer,
            OneCycleParamScheduler,
            (_checkpoint_getattr, "builtins.getattr"),
            numpy.ndarray,
            numpy.dtype,
            *numbers,
            *rebuild,
        ]
    )
    return True


def explain_unreadable_checkpoints() -> bool:
    """MMEngine does not name a local checkpoint that torch cannot read: raise a one-line ValueError that does.

    The reason is that the file is empty, truncated or not a checkpoint, or that it contains a type that is not loaded
    safely; the message names that type.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    plain: Callable[..., Any] = CheckpointLoader._schemes[""]
    if hasattr(plain, "__wrapped__"):
        return True

    @functools.wraps(plain)
    def load_from_local(filename: str, map_location: Any = None) -> Any:
        try:
            return plain(filename, map_location)
        except FileNotFoundError:
            raise
        except (pickle.UnpicklingError, EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            why = (
                f"it contains {found[1]}, which is not loaded safely"
                if found
                else "empty, truncated or not a checkpoint"
            )
            raise ValueError(f"checkpoint {filename} cannot be read: {why}") from error

    CheckpointLoader.register_scheme("", loader=load_from_local, force=True)
    return True


def explain_unreachable_checkpoints() -> bool:
    """MMEngine does not name a checkpoint that it fails to download (``https://``, ``mmcls://``): raise errors that do.

    ``CheckpointLoader.load_checkpoint`` raises ConnectionError if the network or the server fails, and ValueError for a
    name that MMEngine does not know.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    plain: Callable[..., Any] = CheckpointLoader.load_checkpoint.__func__
    if hasattr(plain, "__wrapped__"):
        return True

    @functools.wraps(plain)
    def load_checkpoint(cls: type, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain(cls, filename, *args, **kwargs)
        except urllib.error.URLError as error:
            raise ConnectionError(
                f"checkpoint {filename} cannot be downloaded: {error.reason}; download it elsewhere and pass its path"
            ) from error
        except KeyError as error:
            if isinstance(error, PartNotRegistered) or "://" not in filename:
                raise
            raise ValueError(f"checkpoint {filename}: MMEngine has no model of that name") from error

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)
    return True


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
    if _installed("torchvision"):
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


def cv2_owners() -> dict[str, str]:
    """Installed packages that provide the module ``cv2``, with their versions."""
    owners = {}
    for name in CV2_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            owners[name] = metadata.version(name)
    return owners


def check_cv2() -> str | None:
    """MMEngine declares opencv-python, MMAction2 opencv-contrib-python, and each overwrites the other's files.

    Recommends opencv-python-headless, which is sufficient and does not need libGL. Warns if the versions differ, since
    the files on disk may then belong to different releases.

    Returns: a one-line message if several packages provide ``cv2``, else None.
    """
    owners = cv2_owners()
    if len(owners) < 2:
        return None
    listed = ", ".join(f"{name} {version}" for name, version in owners.items())
    line = (
        f"{len(owners)} packages provide cv2 ({listed}); keep one: pip uninstall -y {' '.join(owners)}, "
        "then pip install --no-deps opencv-python-headless"
    )
    if len(set(owners.values())) > 1:
        warnings.warn(line, stacklevel=2)
    return line


def find_packages_without_pkg_resources() -> bool:
    """setuptools 81 dropped ``pkg_resources``, which MMEngine needs for ``mmaction::`` bases: use importlib instead."""
    if _installed("pkg_resources"):
        return False

    def module_of(package: str) -> str | None:
        """The module that an installed package provides: mmaction for mmaction2."""
        owners = metadata.packages_distributions()
        named = (module for module, packages in owners.items() if package in packages)
        return package if _installed(package) else next(named, None)

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


def registered_names() -> set[str]:
    """Names that mmvideoiq registers, read from its source because it may not have been imported yet."""
    registered = re.compile(r"^@\w+\.register_module\(\)\n(?:@.*\n)*class (\w+)", re.MULTILINE)
    return {
        name for file in Path(__file__).parent.rglob("*.py") for name in registered.findall(file.read_text())
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
    if package and not _installed(package):
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


def fit_launcher_to_cpu(cfg: Any) -> None:
    """MMEngine's launchers "pytorch" and "slurm" assume CUDA: change a config in place so that they run on a CPU.

    MMEngine initializes nccl, selects a CUDA device and passes device ids to the model wrapper. Here the process group
    uses gloo with the launcher's environment, and the wrapper gets no device. Does nothing with an accelerator or for
    other launchers. Not part of ``apply()``, since it concerns a single config.
    """
    import torch
    from mmengine.device import get_device

    launcher = cfg.get("launcher", "none")
    if launcher not in ("pytorch", "slurm") or get_device() != "cpu":
        return
    if cfg.get("sync_bn"):
        raise ValueError(f"sync_bn={cfg.sync_bn!r} needs GPUs, and this machine has none: leave it out")
    if launcher == "slurm":
        _name_slurm_task()
    cfg.setdefault(
        "model_wrapper_cfg",
        dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        ),
    )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def _name_slurm_task() -> None:
    """Set torch's environment variables of this process from those of Slurm."""
    environ = os.environ
    if "MASTER_ADDR" not in environ:
        command = ["scontrol", "show", "hostnames", environ["SLURM_NODELIST"]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        environ["MASTER_ADDR"] = done.stdout.split()[0]
    environ.setdefault("MASTER_PORT", "29500")
    for name, slurm in (("RANK", "PROCID"), ("WORLD_SIZE", "NTASKS"), ("LOCAL_RANK", "LOCALID")):
        environ[name] = environ[f"SLURM_{slurm}"]


PATCHES = (
    quiet_mmcv_lite,
    quiet_torchscript,
    find_packages_without_pkg_resources,
    allow_checkpoint_types,
    explain_unreadable_checkpoints,
    explain_unreachable_checkpoints,
    accept_mmcv,
    let_torchvision_import,
    supply_drn,
    resolve_torchvision_names,
    explain_missing_parts,
)


@functools.cache
def apply() -> dict[str, bool]:
    """Apply all patches, in this order; later calls do nothing.

    Returns: the name of each, and whether it was needed here.
    """
    require_declared()
    applied = {patch.__name__: patch() for patch in PATCHES}
    check_cv2()
    return applied
