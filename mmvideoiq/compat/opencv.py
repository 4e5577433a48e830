"""The packages that provide ``cv2`` and overwrite each other's files."""

import contextlib
import warnings
from importlib import metadata

CV2_PACKAGES = (
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python",
    "opencv-python-headless",
)


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
