"""MMAction2 in processes of their own, with its defects and with the patches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Both scripts print one JSON object with the outcome of each step. `absent` lists packages that cannot be found.
STEPS = """
import importlib.abc, importlib.util, json, sys, types
absent, results = set(), {}
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
plain = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.split(".")[0] in absent else plain(name, *a)
def step(name, function):
    try:
        results[name] = str(function())
    except BaseException as error:
        results[name] = f"{type(error).__name__}: {error}"
def forget(package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
"""
UNPATCHED = """
import mmcv
from mmvideoiq import compat
def beside(version):
    mmcv.__version__, real = version, mmcv.__version__
    try:
        compat.accept_mmcv() if version == "1.7.0" else None
        import mmaction
    finally:
        mmcv.__version__ = real
        forget("mmaction")
step("mmcv 2.2.0", lambda: beside("2.2.0"))
step("mmcv 1.7.0", lambda: beside("1.7.0"))
absent.update(["importlib_metadata", "torchvision", "pkg_resources", "mmpretrain"])
forget("importlib_metadata")
step("importlib_metadata", lambda: __import__("mmaction.utils.dependency"))
absent.remove("importlib_metadata"), forget("mmaction")
step("drn", lambda: __import__("mmaction.models"))
from mmengine.runner.checkpoint import get_torchvision_models
step("torchvision", get_torchvision_models)
from mmengine.config import Config
step("pkg_resources", lambda: Config.fromfile(CONFIG))
for name in ("", ".drn"):
    module = sys.modules["mmaction.models.localizers.drn" + name] = types.ModuleType("drn")
    module.DRN, module.__path__ = None, []
forget("mmaction.models")
from mmengine.registry import MODELS
from mmaction.registry import MODELS
step("mmpretrain", lambda: MODELS.build(dict(type="MobileOneTSM")))
step("plugin", lambda: MODELS.build(dict(type="VideoIQRecognizer")))
print(json.dumps(results))
"""
PATCHED = """
import mmcv
mmcv.__version__ = "2.2.0"
absent.update(["torchvision", "pkg_resources", "mmpretrain"])
from mmvideoiq import compat
compat.apply()
import mmaction.models
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import checkpoint
step("mmcv 2.2.0", lambda: mmcv.__version__)
step("drn", lambda: MODELS.build(dict(type="DRN")))
step("torchvision", lambda: checkpoint.get_torchvision_models()["resnet50"])
step("pkg_resources", lambda: Config.fromfile(CONFIG).model.backbone.depth)
step("mmpretrain", lambda: MODELS.build(dict(type="MobileOneTSM")))
step("plugin", lambda: MODELS.build(dict(type="VideoIQRecognizer")))
print(json.dumps(results))
"""


def outcomes(script: str, folder: Path) -> dict[str, str]:
    """The outcome of each step of ``script``, run in a process of its own."""
    config = folder / "based.py"
    config.write_text('_base_ = "mmaction::_base_/models/tsn_r50.py"\n')
    code = f"CONFIG = {str(config)!r}\n{STEPS}{script}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def unpatched(tmp_path_factory) -> dict[str, str]:
    """MMAction2 in a process without patches."""
    return outcomes(UNPATCHED, tmp_path_factory.mktemp("unpatched"))


@pytest.fixture(scope="session")
def patched(tmp_path_factory) -> dict[str, str]:
    """The same with all defects at once, after ``apply()``."""
    return outcomes(PATCHED, tmp_path_factory.mktemp("patched"))
