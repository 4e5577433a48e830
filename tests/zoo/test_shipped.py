"""What this repository ships: its models recognize, and a wheel holds all of it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner

from mmvideoiq import zoo
from mmvideoiq.data.gestures import load_frames, make_gestures
from mmvideoiq.data.synthetic import make_synthetic
from mmvideoiq.deploy.session import VideoSession
from mmvideoiq.zoo import index, store

BUNDLE = "demo_videoiq_bundle"
GESTURES = "gestures_videoiq_bundle"


def test_shipped_models_recognize_new_clips(tmp_path, tiny_videos):
    """Checkpoint and bundle of the demo: right, and the same, on clips that neither was trained on."""
    pytest.importorskip("openvino")
    data = tmp_path / "data"
    make_synthetic(data, train=1, val=1, test=16, seed=7)
    model = zoo.load("demo_videoiq")
    config = model.cfg.test_dataloader
    config.dataset.data_root = str(data)
    loader = Runner.build_dataloader(config, seed=0)
    tested = [sample for batch in loader for sample in model.test_step(batch)]
    paths = [loader.dataset.get_data_info(i)["filename"] for i in range(len(tested))]
    with VideoSession.open(zoo.download(BUNDLE), engine="openvino", threads=1) as session:
        *answers, other = session.run_many([*paths, tiny_videos / "0.mp4"])  # of another size
    assert len(other.actions) == 6
    right = [int(sample.pred_label) == int(sample.gt_label) for sample in tested]
    same = [int(sample.pred_label) == answer.label for sample, answer in zip(tested, answers, strict=True)]
    actions = [sample.policy_actions.numpy() == a.actions for sample, a in zip(tested, answers, strict=True)]
    assert sum(right) >= 15 and sum(same) >= 15 and np.mean(actions) >= 0.9


def test_the_gestures_bundle_recognizes_clips_of_photos_it_has_not_seen(shared_dir, tmp_path):
    photos = shared_dir / "data/gestures"
    if not photos.is_dir():
        pytest.skip(f"{photos} is absent: its photos make the clips")
    pytest.importorskip("openvino")
    make_gestures(photos, tmp_path, train=1, val=1, test=26, seed=7)
    clips = [line.split() for line in (tmp_path / "test.txt").read_text().splitlines()]
    with VideoSession.open(zoo.download(GESTURES), engine="openvino", threads=1) as session:
        names = session.bundle.manifest["classes"]
        answers = list(session.run_many([tmp_path / "videos" / name for name, _ in clips]))
        skip = session.actions.names.index("skip")
    assert names == (tmp_path / "classes.txt").read_text().split()
    assert sum(answer.label == int(label) for answer, (_, label) in zip(answers, clips, strict=True)) >= 23
    kinds = load_frames(tmp_path)
    idle = np.array([[frame["kind"] == "idle" for frame in kinds[name]] for name, _ in clips])
    skipped = np.array([answer.actions == skip for answer in answers])
    assert skipped[idle].mean() > 0.9 > 0.3 > skipped[~idle].mean()


def test_every_shipped_checkpoint_fits_its_config(repo):
    shipped = [name for name, model in index.read().items() if store.state(model) == "shipped"]
    assert len(shipped) == 6
    for name in shipped:
        if name not in (BUNDLE, GESTURES):
            assert not zoo.load(name).training
    assert sum(path.stat().st_size for path in (repo / "zoo").rglob("*")) < 6e6


SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
PACKED = ("configs", "tools", "zoo")


def tree(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files below a folder, but those of setuptools' own and caches."""
    passed = {"build", "mmvideoiq.egg-info", "__pycache__"}
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): path.read_bytes() for name, path in found.items() if not passed & set(name.parts)
    }


@pytest.mark.slow
def test_a_wheel_holds_the_zoo(repo, tmp_path, tiny_videos):
    """From the tree an sdist, from it a wheel, whose ``mmvideoiq/.mim`` holds all; the trees stay as they were."""
    source = tmp_path / "source"
    left = shutil.ignore_patterns(*".* work_dirs tests docs __pycache__ *.egg-info build dist".split())
    shutil.copytree(repo, source, ignore=left)
    before = tree(source)

    subprocess.run([sys.executable, "-c", SDIST, tmp_path], cwd=source, check=True, capture_output=True)
    assert tree(source) == before
    (packed,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(packed, tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    before = tree(unpacked)
    stale = unpacked / "build/lib/mmvideoiq/.mim/configs/toy.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", tmp_path, unpacked], check=True)
    assert tree(unpacked) == before

    site = tmp_path / "site"
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    for name in PACKED:
        assert tree(site / "mmvideoiq/.mim" / name) == tree(source / name) == tree(unpacked / name)
    assert not list(site.glob("zoo")) and not list(site.glob("configs"))

    def run(*args: object) -> str:
        home = dict(PYTHONPATH=str(site), MMVIDEOIQ_HOME=str(tmp_path / "home"), MMVIDEOIQ_OFFLINE="1")
        options = dict(cwd=tmp_path, env={**os.environ, **home}, capture_output=True, text=True)
        done = subprocess.run([sys.executable, *map(str, args)], **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    root = Path(run("-m", "mmvideoiq.zoo", "root").strip())
    assert root == site / "mmvideoiq/.mim"
    shipped = [name for name, model in index.read().items() if store.state(model) == "shipped"]
    paths = run("-m", "mmvideoiq.zoo", "download", *shipped).split()
    assert len(paths) == len(shipped) > 0 and all(Path(path).is_relative_to(root) for path in paths)
    answer = tmp_path / "answer.json"
    written = ("--json", answer, "--report", tmp_path / "answer.html")
    run(root / "tools/infer.py", f"zoo://{BUNDLE}", tiny_videos / "0.mp4", "--threads", 1, *written)
    assert "data:image/jpeg" in (tmp_path / "answer.html").read_text()
    assert json.loads(answer.read_text())[0]["frames"] > 0
