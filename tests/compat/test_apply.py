"""All patches together, and what their import imports."""

import subprocess
import sys

import torch
from mmengine.registry import Registry

from mmvideoiq import compat


def test_apply_is_idempotent_and_leaves_the_environment_alone():
    before = torch.serialization.get_safe_globals(), Registry.build
    compat.apply.cache_clear()
    compat.apply()
    assert set(torch.serialization.get_safe_globals()) == set(before[0])
    assert Registry.build is before[1]


def test_importing_the_patches_imports_nothing_that_they_patch():
    code = "import sys; from mmvideoiq import compat; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "numpy", "mmengine", "mmcv", "mmaction", "cv2"}
    assert not heavy & set(done.stdout.split())
