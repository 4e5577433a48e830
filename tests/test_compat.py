"""Each defect of MMAction2 and MMEngine, shown in an unpatched process, and the patch that fixes it."""

import json
import subprocess
import sys
import urllib.error
import warnings
from pathlib import Path

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import MODELS, Registry
from mmengine.runner import CheckpointLoader

from mmvideoiq import compat

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


@pytest.fixture(scope="module")
def unpatched(tmp_path_factory) -> dict[str, str]:
    """MMAction2 in a process without patches."""
    return outcomes(UNPATCHED, tmp_path_factory.mktemp("unpatched"))


@pytest.fixture(scope="module")
def patched(tmp_path_factory) -> dict[str, str]:
    """The same with all defects at once, after ``apply()``."""
    return outcomes(PATCHED, tmp_path_factory.mktemp("patched"))


def test_apply_is_idempotent_and_leaves_the_environment_alone():
    before = torch.serialization.get_safe_globals(), Registry.build
    compat.apply.cache_clear()
    compat.apply()
    assert set(torch.serialization.get_safe_globals()) == set(before[0])
    assert Registry.build is before[1]


def mmaction_lacks_drn() -> bool:
    import mmaction

    return not (Path(mmaction.__file__).parent / "models/localizers/drn").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(not mmaction_lacks_drn(), reason="this MMAction2 includes drn")
def test_drn_placeholder_explains_why_it_cannot_be_built(unpatched, patched):
    assert "No module named 'mmaction.models.localizers.drn'" in unpatched["drn"]
    assert patched["drn"].startswith(
        "ImportError: DRN is not there: the wheel of mmaction2 1.2.0 was built without"
    )


def test_installed_drn_is_kept(tmp_path, monkeypatch):
    (tmp_path / "mmaction/models/localizers/drn").mkdir(parents=True)
    (tmp_path / "mmaction/__init__.py").touch()
    for name in [name for name in sys.modules if name.split(".")[0] == "mmaction"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    compat.supply_drn()
    assert not any(name.startswith("mmaction") for name in sys.modules)


def test_missing_importlib_metadata(unpatched, monkeypatch):
    assert unpatched["importlib_metadata"] == "ModuleNotFoundError: No module named 'importlib_metadata'"
    monkeypatch.setattr(compat, "_installed", lambda module: module != "importlib_metadata")
    with pytest.raises(ModuleNotFoundError, match="pip install importlib_metadata"):
        compat.require_declared()


def test_the_plugin_imports_without_a_warning_and_torchscript_keeps_its_own():
    code = """
import mmvideoiq.plugin, torch, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    torch.jit.script(torch.nn.Identity())
assert any("torch.jit.script" in str(warning.message) for warning in seen), seen
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_mmcv(monkeypatch):
    monkeypatch.setattr(compat, "_installed", lambda module: module != "mmcv")
    with pytest.raises(ModuleNotFoundError, match=r"pip install mmcv-lite==2\.1\.0 \(or a full mmcv"):
        compat.require_declared()


def test_newer_mmcv_is_accepted_and_keeps_its_version(unpatched, patched):
    assert unpatched["mmcv 2.2.0"].startswith("AssertionError: MMCV==2.2.0 is used but incompatible")
    assert patched["mmcv 2.2.0"] == "2.2.0"


def test_too_old_mmcv_is_still_rejected_by_mmaction(unpatched):
    assert unpatched["mmcv 1.7.0"].startswith("AssertionError: MMCV==1.7.0 is used but incompatible")


@pytest.fixture
def checkpoint(tmp_path):
    """All types found in MMEngine's own checkpoints beside tensors and plain Python values."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    path = tmp_path / "checkpoint.pth"
    torch.save(
        dict(
            message_hub=dict(
                log_scalars={"train/lr": buffer},
                runtime_info={
                    "eta": np.float64(1.5),
                    "best_score": np.float32(0.5),
                    "val/acc": np.array([1, 2]),
                },
            ),
            param_schedulers=[dict(anneal_func=OneCycleParamScheduler._annealing_cos)],
            meta=dict(epoch=1, dataset_meta=dict(classes=("a", "b"))),
        ),
        path,
    )
    return path


def test_resume_with_weights_only(checkpoint):
    with torch.serialization.safe_globals([]):
        kept = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            with pytest.raises(Exception, match="Weights only load failed"):
                torch.load(checkpoint, weights_only=True)
        finally:
            torch.serialization.add_safe_globals(kept)
    loaded = torch.load(checkpoint)
    hub = loaded["message_hub"]
    assert hub["log_scalars"]["train/lr"].mean() == 1.5
    assert hub["runtime_info"]["eta"] == 1.5 and hub["runtime_info"]["best_score"] == 0.5
    assert hub["runtime_info"]["val/acc"].tolist() == [1, 2]
    assert loaded["param_schedulers"][0]["anneal_func"](0.0, 1.0, 1.0) == 1.0


class Reach:
    """Pickles as the call it holds."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "reach",
    [
        Reach(getattr, HistoryBuffer, "__init__"),
        Reach(getattr, HistoryBuffer, "__subclasses__"),
        Reach(getattr, np.ndarray, "tofile"),
        Reach(getattr, [], "append"),
        Reach(eval, "1"),
        Reach(print, "hello"),
    ],
)
def test_other_objects_are_still_rejected(tmp_path, reach):
    torch.save(dict(a=reach), tmp_path / "bad.pth")
    with pytest.raises(Exception, match=r"may not access the attribute|Weights only load failed"):
        torch.load(tmp_path / "bad.pth")


class Unsafe:
    """A type that MMEngine does not store."""


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "empty, truncated or not a checkpoint"),
        (lambda path: path.write_bytes(b"not a checkpoint"), "empty, truncated or not a checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "empty, truncated or not a checkpoint"),
        (lambda path: torch.save(dict(a=Unsafe()), path), "Unsafe, which is not loaded safely"),
    ],
)
def test_unreadable_checkpoint_is_named(checkpoint, damage, reason):
    from mmengine.runner.checkpoint import CheckpointLoader

    damage(checkpoint)
    with pytest.raises(Exception) as error:
        CheckpointLoader._schemes[""].__wrapped__(str(checkpoint), "cpu")
    assert checkpoint.name not in str(error.value)
    with pytest.raises(ValueError, match="^checkpoint .*checkpoint.pth cannot be read: .*" + reason):
        CheckpointLoader.load_checkpoint(str(checkpoint))
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        CheckpointLoader.load_checkpoint("no.pth")


def test_numpy_1_names_are_read(tmp_path):
    """A checkpoint written under numpy 1 names numpy.core, one written under numpy 2 numpy._core."""
    path = tmp_path / "numpy2.pth"
    torch.save(dict(a=np.arange(3), b=np.float64(2)), path, _use_new_zipfile_serialization=False)
    old = tmp_path / "numpy1.pth"
    assert b"numpy._core.multiarray" in path.read_bytes()
    old.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    for file in (path, old):
        loaded = torch.load(file)
        assert loaded["a"].tolist() == [0, 1, 2] and loaded["b"] == 2


def test_torchvision_names_need_no_torchvision(unpatched, patched, monkeypatch):
    from mmengine.runner import checkpoint

    assert "No module named 'torchvision'" in unpatched["torchvision"]
    assert patched["torchvision"] == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    asked = []
    monkeypatch.setattr(checkpoint, "load_from_http", lambda url, map_location=None: asked.append(url))
    monkeypatch.setattr(checkpoint, "get_torchvision_models", compat.torchvision_urls)
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2"]:
        checkpoint.CheckpointLoader.load_checkpoint(f"torchvision://{name}")
    checkpoint.CheckpointLoader.load_checkpoint("torchvision://resnet50.imagenet1k_v2")
    assert asked == [
        f"https://download.pytorch.org/models/{file}.pth"
        for file in [
            "resnet18-f37072fd",
            "resnet34-b627a593",
            "resnet50-0676ba61",
            "resnet101-63fe2227",
            "resnet152-394f9c45",
            "mobilenet_v2-b0353104",
            "resnet50-11ad3fa6",
        ]
    ]
    with pytest.raises(
        KeyError, match="torchvision://vgg16 is unknown without torchvision; known names are mobile"
    ):
        checkpoint.CheckpointLoader.load_checkpoint("torchvision://vgg16")


def test_installed_torchvision_is_used(monkeypatch):
    from mmengine.runner import checkpoint

    monkeypatch.setattr(compat, "_installed", lambda module: True)
    monkeypatch.setattr(checkpoint, "get_torchvision_models", "unchanged")
    compat.resolve_torchvision_names()
    assert checkpoint.get_torchvision_models == "unchanged"


def test_torchvision_urls_equal_torchvision():
    pytest.importorskip("torchvision", reason="torchvision is not installed; nothing to compare with")
    from mmengine.runner.checkpoint import get_torchvision_models

    published = get_torchvision_models()
    assert {name: published[name] for name in compat.torchvision_urls()} == compat.torchvision_urls()


def test_cv2_provided_twice(monkeypatch):
    owners = {"opencv-contrib-python": "4.1", "opencv-python": "5.0"}
    monkeypatch.setattr(compat, "cv2_owners", lambda: owners)
    with pytest.warns(UserWarning, match="2 packages provide cv2"):
        line = compat.check_cv2()
    assert "opencv-contrib-python 4.1, opencv-python 5.0" in line and "opencv-python-headless" in line
    owners["opencv-python"] = "4.1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "keep one" in compat.check_cv2()
        del owners["opencv-python"]
        assert compat.check_cv2() is None


def test_cv2_owners_are_installed_packages():
    assert compat.cv2_owners() and all(name.startswith("opencv") for name in compat.cv2_owners())


def test_mmaction_bases_without_pkg_resources(unpatched, patched):
    assert "No module named 'pkg_resources'" in unpatched["pkg_resources"]
    assert patched["pkg_resources"] == "50"


def test_missing_package_of_a_part_is_named(unpatched, patched):
    assert "MobileOneTSM is not in the mmaction::model registry" in unpatched["mmpretrain"]
    assert patched["mmpretrain"] == (
        "PartNotRegistered: MobileOneTSM requires mmpretrain, which is not installed: pip install mmpretrain"
    )
    if not compat._installed("mmpretrain"):
        with pytest.raises(
            compat.PartNotRegistered, match="MobileOne requires mmpretrain, which is not installed"
        ):
            MODELS.build(dict(type="mmpretrain.MobileOne"))


def test_unimported_part_names_the_plugin(unpatched, patched):
    assert "VideoIQRecognizer is not in the mmaction::model registry" in unpatched["plugin"]
    assert 'add custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed' in patched["plugin"]


def test_unknown_part_keeps_the_message_of_the_registry():
    with pytest.raises(KeyError, match="NoSuchPart is not in the"):
        MODELS.build(dict(type="NoSuchPart"))


def test_registered_names_are_found_in_the_source():
    from mmaction import registry

    import mmvideoiq.plugin  # noqa: F401

    registered = {
        name
        for each in vars(registry).values()
        if isinstance(each, Registry)
        for name, part in each.module_dict.items()
        if part.__module__.startswith("mmvideoiq")
    }
    assert registered - {"DRN"} == compat.registered_names()


def test_config_without_launcher_is_unchanged():
    config = mmengine.Config(dict(launcher="none"))
    compat.fit_launcher_to_cpu(config)
    assert "model_wrapper_cfg" not in config and not torch.distributed.is_initialized()


@pytest.mark.parametrize("address", ["mmcls://resnet18", "https://example.org/a.pth"])
def test_checkpoint_that_cannot_be_downloaded_is_named(address, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(mmengine.runner.checkpoint, "load_url", unreachable)
    with pytest.raises(ConnectionError) as error:
        CheckpointLoader.load_checkpoint(address)
    assert f"checkpoint {address} cannot be downloaded: Name or service not known; " in str(error.value)


def test_name_unknown_to_mmengine_is_named():
    with pytest.raises(
        ValueError, match=r"^checkpoint mmcls://resnet17: MMEngine has no model of that name$"
    ):
        CheckpointLoader.load_checkpoint("mmcls://resnet17")
