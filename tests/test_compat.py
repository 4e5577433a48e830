"""Every fault of the host, shown in a process without the mend, and its mend."""

import subprocess
import sys
import warnings
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import MODELS, Registry

from mmvideoiq import compat

BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
import importlib.util
plain = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.split(".")[0] in {names!r} else plain(name, *a)
"""
APPLY = "from mmvideoiq import compat; compat.apply()\n"


def run(code: str, *, absent: tuple[str, ...] = ()) -> str:
    """The output of a process that runs ``code`` with some packages made absent; errors are part of it."""
    code = (BLOCK.format(names=set(absent)) if absent else "") + code
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_apply_is_idempotent_and_leaves_the_environment_alone():
    before = torch.serialization.get_safe_globals(), Registry.build
    compat.apply.cache_clear()
    compat.apply()
    assert set(torch.serialization.get_safe_globals()) == set(before[0])
    assert Registry.build is before[1]


def host_lacks_drn() -> bool:
    import mmaction

    return not (Path(mmaction.__file__).parent / "models/localizers/drn").is_dir()


@pytest.mark.skipif(not host_lacks_drn(), reason="this host has its drn")
def test_drn_is_supplied_and_says_why_it_cannot_be_built():
    assert "No module named 'mmaction.models.localizers.drn'" in run("import mmaction.models")
    from mmaction.registry import MODELS as parts

    with pytest.raises(ImportError, match=r"wheel of mmaction2 1\.2\.0 was built without"):
        parts.build(dict(type="DRN"))


def test_drn_of_a_whole_host_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "mmaction/models/localizers/drn").mkdir(parents=True)
    (tmp_path / "mmaction/__init__.py").touch()
    for name in [name for name in sys.modules if name.split(".")[0] == "mmaction"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    compat.supply_drn()
    assert not any(name.startswith("mmaction") for name in sys.modules)


@pytest.mark.parametrize(
    ("package", "advice"),
    [("importlib_metadata", "pip install importlib_metadata"), ("mmcv", "pip install mmcv-lite==2.1.0")],
)
def test_undeclared_package(package, advice):
    fault = run("import mmaction.utils.dependency", absent=(package,))
    assert f"No module named '{package}'" in fault and advice not in fault
    assert advice in run(APPLY, absent=(package,))


@pytest.mark.parametrize("version", ["2.2.0", "2.1.0"])
def test_mmcv_versions(version):
    newer = f"import mmcv; mmcv.__version__ = {version!r}\n"
    show = "import mmaction, mmaction.models; print('imported beside', mmcv.__version__)"
    if version == "2.2.0":
        assert "AssertionError: MMCV==2.2.0 is used but incompatible" in run(newer + show)
    assert f"imported beside {version}" in run(newer + APPLY + show)


def test_mmcv_too_old_still_meets_the_host():
    assert "MMCV==1.7.0 is used but incompatible" in run("import mmcv; mmcv.__version__ = '1.7.0'\n" + APPLY)


@pytest.fixture
def checkpoint(tmp_path):
    """All that MMEngine's own checkpoints were seen to hold beside tensors and plain Python."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    path = tmp_path / "checkpoint.pth"
    torch.save(
        dict(
            message_hub=dict(
                log_scalars={"train/lr": buffer},
                runtime_info={"eta": np.float64(1.5), "best_score": np.float32(0.5), "val/acc": np.array([1, 2])},
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
def test_safety_stays_on(tmp_path, reach):
    torch.save(dict(a=reach), tmp_path / "bad.pth")
    with pytest.raises(Exception, match=r"may not ask for the attribute|Weights only load failed"):
        torch.load(tmp_path / "bad.pth")


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numpy_1_and_2_names_are_read(tmp_path, core):
    """A checkpoint written under numpy 1 names numpy.core, one written under numpy 2 numpy._core."""
    names = compat.torch_safe_names()
    assert f"numpy.{core}.multiarray._reconstruct" in names and f"numpy.{core}.multiarray.scalar" in names


def test_torchvision_names_need_no_torchvision(monkeypatch):
    from mmengine.runner import checkpoint

    load = "from mmengine.runner.checkpoint import get_torchvision_models as g; print(g()['resnet50'])"
    assert "No module named 'torchvision'" in run(load, absent=("torchvision",))
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
    with pytest.raises(KeyError, match="torchvision://vgg16 is not known without torchvision; known are mobile"):
        checkpoint.CheckpointLoader.load_checkpoint("torchvision://vgg16")


def test_torchvision_when_installed_keeps_the_host(monkeypatch):
    from mmengine.runner import checkpoint

    monkeypatch.setattr(compat, "_installed", lambda module: True)
    monkeypatch.setattr(checkpoint, "get_torchvision_models", "the host's own")
    compat.resolve_torchvision_names()
    assert checkpoint.get_torchvision_models == "the host's own"


def test_torchvision_urls_equal_torchvision():
    pytest.importorskip("torchvision", reason="torchvision is not installed; nothing to compare with")
    from mmengine.runner.checkpoint import get_torchvision_models

    theirs = get_torchvision_models()
    assert {name: theirs[name] for name in compat.torchvision_urls()} == compat.torchvision_urls()


def test_cv2_owned_twice(monkeypatch):
    owners = {"opencv-contrib-python": "4.1", "opencv-python": "5.0"}
    monkeypatch.setattr(compat, "cv2_owners", lambda: owners)
    with pytest.warns(UserWarning, match="2 packages own cv2"):
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


READ_DEPTH = "from mmengine.config import Config; c = Config.fromfile({path!r}); print(c.model.backbone.depth)"


def test_host_bases_without_pkg_resources(tmp_path):
    path = tmp_path / "based.py"
    path.write_text('_base_ = "mmaction::_base_/models/tsn_r50.py"\n')
    load = READ_DEPTH.format(path=str(path))
    assert "pkg_resources" in run(load, absent=("pkg_resources",))
    assert run(APPLY + load, absent=("pkg_resources",)).strip().endswith("50")
    assert mmengine.Config.fromfile(path).model.backbone.depth == 50


def test_part_of_an_absent_package_names_it():
    build = "from mmaction.registry import MODELS; import mmaction.models; MODELS.build(dict(type='MobileOneTSM'))"
    mended = run(APPLY + build, absent=("mmpretrain",))
    assert "MobileOneTSM exists only when mmpretrain is installed, and mmpretrain is not" in mended
    with pytest.raises(compat.PartNotRegistered, match="MobileOne exists only when mmpretrain is installed"):
        compat.explain_missing_parts()
        MODELS.build(dict(type="mmpretrain.MobileOne"))


def test_part_of_ours_says_what_to_import():
    build = "from mmaction.registry import MODELS; MODELS.build(dict(type='VideoIQRecognizer'))"
    mended = run(APPLY + build)
    assert "add custom_imports = dict(imports=[\"mmvideoiq.plugin\"], allow_failed_imports=False)" in mended
    with pytest.raises(KeyError, match="NoSuchPart is not in the"):
        MODELS.build(dict(type="NoSuchPart"))


def test_bare_registry_error_is_the_fault():
    stub = "import sys, types\nfor n in ('', '.drn'): m = sys.modules['mmaction.models.localizers.drn' + n] = "
    stub += "types.ModuleType('x'); m.DRN = None; m.__path__ = []\n"
    build = "from mmaction.registry import MODELS; MODELS.build(dict(type='{}'))"
    for name in ("MobileOneTSM", "VideoIQRecognizer"):
        fault = run(stub + build.format(name))
        assert f"{name} is not in the mmaction::model registry" in fault and "pip install mmpretrain" not in fault


def test_the_list_of_our_parts_is_complete():
    import mmvideoiq.plugin  # noqa: F401
    from mmaction import registry

    ours = {
        name
        for each in vars(registry).values()
        if isinstance(each, Registry)
        for name, part in each.module_dict.items()
        if part.__module__.startswith("mmvideoiq")
    }
    assert ours - {"DRN"} == compat.OUR_PARTS


def test_cpu_launcher_is_left_alone_without_a_launcher():
    config = mmengine.Config(dict(launcher="none"))
    compat.fit_launcher_to_cpu(config)
    assert "model_wrapper_cfg" not in config and not torch.distributed.is_initialized()
