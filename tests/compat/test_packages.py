"""Packages that are missing, and packages found without pkg_resources."""

import pytest

from mmvideoiq.compat import packages


def test_missing_importlib_metadata(unpatched, monkeypatch):
    assert unpatched["importlib_metadata"] == "ModuleNotFoundError: No module named 'importlib_metadata'"
    monkeypatch.setattr(packages, "installed", lambda module: module != "importlib_metadata")
    with pytest.raises(ModuleNotFoundError, match="pip install importlib_metadata"):
        packages.require_declared()


def test_missing_mmcv(monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda module: module != "mmcv")
    with pytest.raises(ModuleNotFoundError, match=r"pip install mmcv-lite==2\.1\.0 \(or a full mmcv"):
        packages.require_declared()


def test_mmaction_bases_without_pkg_resources(unpatched, patched):
    assert "No module named 'pkg_resources'" in unpatched["pkg_resources"]
    assert patched["pkg_resources"] == "50"
