"""Patches that make MMAction2 1.2 and MMEngine 0.10 work with current packages, one function per defect.

Each patch does nothing where the defect is absent, says whether it is active, and may be applied repeatedly.
``apply()`` applies them all and must run before ``mmaction.models`` is imported. No file of an installed package is
changed. Importing this package imports none of the packages that are patched.
"""

import functools

from mmvideoiq.compat.checkpoints import (
    allow_checkpoint_types,
    explain_unreachable_checkpoints,
    explain_unreadable_checkpoints,
)
from mmvideoiq.compat.launcher import fit_launcher_to_cpu
from mmvideoiq.compat.missing_parts import PartNotRegistered, explain_missing_parts, registered_names
from mmvideoiq.compat.mmaction_import import accept_mmcv, quiet_mmcv_lite, quiet_torchscript, supply_drn
from mmvideoiq.compat.opencv import CV2_PACKAGES, check_cv2, cv2_owners
from mmvideoiq.compat.packages import find_packages_without_pkg_resources, require_declared
from mmvideoiq.compat.torchvision import let_torchvision_import, resolve_torchvision_names

__all__ = [
    "CV2_PACKAGES",
    "PATCHES",
    "PartNotRegistered",
    "apply",
    "cv2_owners",
    "fit_launcher_to_cpu",
    "registered_names",
]

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
