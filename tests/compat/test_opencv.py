"""Packages that provide cv2."""

import warnings

import pytest

from mmvideoiq.compat import opencv


def test_cv2_provided_twice(monkeypatch):
    owners = {"opencv-contrib-python": "4.1", "opencv-python": "5.0"}
    monkeypatch.setattr(opencv, "cv2_owners", lambda: owners)
    with pytest.warns(UserWarning, match="2 packages provide cv2"):
        line = opencv.check_cv2()
    assert "opencv-contrib-python 4.1, opencv-python 5.0" in line and "opencv-python-headless" in line
    owners["opencv-python"] = "4.1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "keep one" in opencv.check_cv2()
        del owners["opencv-python"]
        assert opencv.check_cv2() is None


def test_cv2_owners_are_installed_packages():
    assert opencv.cv2_owners() and all(name.startswith("opencv") for name in opencv.cv2_owners())
