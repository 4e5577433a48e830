"""Wheel, sdist and Dockerfile: what they hold is enough, in an environment that has nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmvideoiq import __version__
from tests.conftest import ROOT, write_video

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
BUNDLE = "zoo://demo_videoiq_bundle"


def instructions(name: str) -> list[str]:
    """Arguments of a Dockerfile's instruction, by line; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def copied() -> list[str]:
    """What the Dockerfile takes from the repository."""
    return [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]


def test_the_image_holds_what_an_installation_needs_and_runs_as_nobody_special():
    assert all((ROOT / name).exists() for name in copied())
    assert instructions("USER")[-1] not in ("root", "0") and instructions("ENTRYPOINT") == ['["mmvideoiq"]']
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert text.rindex("USER ") > text.rindex("FROM ")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert "*" in ignored and sorted(kept) == sorted(copied())


def test_the_citation():
    """Its format was validated with cffconvert, which cannot be installed beside jsonschema 4."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["type"], citation["license"]) == (
        "1.2.0",
        "software",
        "Apache-2.0",
    )
    assert citation["version"] == __version__ and citation["authors"] == [{"name": "The mmvideoiq authors"}]
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2108.10394" and len(paper["authors"]) == 6
    assert f"{{{paper['title']}}}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """What the Dockerfile copies, and for the sdist the files that MANIFEST.in names."""
    folder = tmp_path_factory.mktemp("source")
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    named = [word for line in manifest if line.startswith("include ") for word in line.split()[1:]]
    for name in {*copied(), "MANIFEST.in", *named}:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_an_sdist_holds_what_the_readme_links():
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()]
    held = {name for kind, *names in lines if kind in ("include", "graft") for name in names} | {"mmvideoiq"}
    linked = re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(linked) > 10 and {Path(link).parts[0] for link in linked} <= held
    assert "tests" in held  # setuptools takes tests/test*.py by itself, without what they need


def build(source: Path, kind: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", out], cwd=source, check=True, capture_output=True
    )
    (made,) = [
        path for path in out.iterdir() if fnmatch(path.name, "*.whl" if kind == "wheel" else "*.tar.gz")
    ]
    return made


class Clean:
    """An environment of its own, away from the repository."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "environment/bin"
        subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
        (folder / "work").mkdir()

    def run(self, *args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MMVIDEOIQ"))
        }
        done = subprocess.run(
            [str(self.bin / str(args[0])), *map(str, args[1:])],
            capture_output=True,
            text=True,
            cwd=self.folder / "work",
            env=environment | {"MMVIDEOIQ_HOME": str(self.folder / "home"), "MMVIDEOIQ_OFFLINE": "1"},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def install(self, *args: object) -> None:
        pip = [self.bin / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        done = subprocess.run([*pip, *args], capture_output=True, text=True, cwd=self.folder)
        if done.returncode and "CI" not in os.environ and re.search("onnection|No matching", done.stderr):
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_clean_environment_recognizes_with_the_wheel_or_the_sdist_alone(source, tmp_path):
    clean = Clean(tmp_path)
    (tmp_path / "packages").mkdir()
    wheel = build(source, "wheel", tmp_path / "packages")
    clean.install(f"{wheel}[runtime]", "-c", ROOT / "requirements.txt")
    assert clean.run("mmvideoiq", "--version").stdout == f"mmvideoiq {__version__}\n"

    rng = np.random.default_rng(0)
    write_video(tmp_path / "work/clip.mp4", rng.integers(0, 256, (12, 48, 64, 3), dtype=np.uint8))
    for engine in ("openvino", "onnxruntime"):
        done = clean.run("mmvideoiq", "infer", BUNDLE, "clip.mp4", "--engine", engine, "--json", "-")
        (entry,) = map(json.loads, done.stdout.splitlines())
        assert (entry["video"], entry["frames"]) == ("clip.mp4", 6) and entry["name"].endswith(" degrees")

    rows = [json.loads(line) for line in clean.run("mmvideoiq", "doctor", "--json").stdout.splitlines()]
    states = {row["name"]: row["state"] for row in rows}
    assert states["openvino"] == states["onnxruntime"] == states["H.264"] == states["zoo"] == "green"
    (torch,) = [row for row in rows if row["name"] == "PyTorch"]
    assert torch["found"].startswith("not installed")
    assert "demo_videoiq_bundle" in clean.run("mmvideoiq", "zoo", "list").stdout
    assert "64x64" in clean.run("mmvideoiq", "bundle", "info", BUNDLE).stdout
    refused = clean.run("mmvideoiq", "recipe", "videoiq/demo_recipe", code=2).stderr
    assert refused.count("\n") == 1 and "pip install 'mmvideoiq[train]'" in refused

    sdist = build(source, "sdist", tmp_path / "packages")
    clean.install("--force-reinstall", "--no-deps", sdist)
    answer = clean.run("python", "-m", "mmvideoiq", "infer", BUNDLE, "clip.mp4", "--json", "-").stdout
    assert json.loads(answer)["label"] == entry["label"]
    package = clean.run("python", "-c", "import mmvideoiq; print(mmvideoiq.__file__)").stdout
    assert Path(package.strip()).is_relative_to(tmp_path)
