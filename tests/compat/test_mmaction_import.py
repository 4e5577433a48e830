"""``import mmaction.models``: the version of mmcv, the folder that the wheel lacks, warnings."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmvideoiq.compat.mmaction_import import supply_drn


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
    supply_drn()
    assert not any(name.startswith("mmaction") for name in sys.modules)


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


def test_newer_mmcv_is_accepted_and_keeps_its_version(unpatched, patched):
    assert unpatched["mmcv 2.2.0"].startswith("AssertionError: MMCV==2.2.0 is used but incompatible")
    assert patched["mmcv 2.2.0"] == "2.2.0"


def test_too_old_mmcv_is_still_rejected_by_mmaction(unpatched):
    assert unpatched["mmcv 1.7.0"].startswith("AssertionError: MMCV==1.7.0 is used but incompatible")
