import json
import re
from pathlib import Path

import numpy as np
import pytest
from mmaction.registry import METRICS, MODELS
from mmengine import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import mmvideoiq.data.dataset
import mmvideoiq.data.rawframes  # noqa: F401  registers the datasets
from mmvideoiq.data.annotations import BENCHMARKS
from mmvideoiq.data.folder import make_lists
from mmvideoiq.data.gestures import make_gestures
from mmvideoiq.data.synthetic import make_clip, make_synthetic, write_lossless
from tests.data.photos import write_photos
from tests.data.published import CLIPS, make_benchmark


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope("mmaction"):
        yield


def load(repo: Path, name: str, data_root: Path, monkeypatch) -> Config:
    monkeypatch.setenv("DATA_ROOT", str(data_root))
    return Config.fromfile(repo / "configs/_base_/datasets" / f"{name}.py")


def first_batch(config: Config, split: str, *, batch_size: int = 2, **changes):
    loader = config[f"{split}_dataloader"].copy()
    loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
    loader["dataset"].update(changes)
    batches = iter(Runner.build_dataloader(loader))
    return MODELS.build(config.data_preprocessor)(next(batches))


@pytest.mark.parametrize("name", ["synthetic", "scenes", "fights", "folder", "gestures"])
def test_configs_load_without_data_and_survive_being_saved(repo: Path, name, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    config = Config.fromfile(repo / "configs/_base_/datasets" / f"{name}.py")
    config.dump(tmp_path / "saved.py")
    assert Config.fromfile(tmp_path / "saved.py").to_dict() == config.to_dict()
    for split in ("train", "val", "test"):
        data = config[f"{split}_dataloader"].dataset
        assert data.num_classes == config.num_classes == len(data.metainfo.classes)
        frames = config.get("num_train_frames", config.num_frames) if split == "train" else config.num_frames
        assert data.pipeline[1].num_clips == frames
        assert data.get("test_mode", False) == (split != "train")
    for evaluator in (config.val_evaluator, config.test_evaluator):
        METRICS.build(evaluator)


def test_synthetic(repo: Path, tmp_path: Path, monkeypatch):
    make_synthetic(tmp_path / "data", train=4, val=3, test=2)
    config = load(repo, "synthetic", tmp_path / "data", monkeypatch)
    for split in ("train", "val", "test"):
        batch = first_batch(config, split)
        assert batch["inputs"].shape == (2, 6, 3, 64, 64)
        assert batch["inputs"].min() >= 0 and 0.5 < batch["inputs"].max() <= 1
        assert batch["inputs"].median() == pytest.approx(1 / 3, abs=0.02)
        assert [s.frame_inds.tolist() for s in batch["data_samples"]] == [list(range(6))] * 2
        assert all(Path(s.filename).is_file() for s in batch["data_samples"])


@pytest.mark.parametrize(("name", "classes"), [("scenes", 18), ("fights", 2)])
def test_real_clips(repo: Path, shared_dir: Path, name, classes, monkeypatch):
    config = load(repo, name, shared_dir / "data/fights", monkeypatch)
    assert config.num_classes == classes
    for split in ("train", "val"):
        batch = first_batch(config, split, indices=2)
        assert batch["inputs"].shape == (2, 4 if split == "train" else 8, 3, 112, 112)
        assert batch["inputs"].min() >= -1 and batch["inputs"].max() <= 1
        assert batch["inputs"].std() > 0.1
        assert all(0 <= s.gt_label.item() < classes for s in batch["data_samples"])


def test_own_folder(repo: Path, tmp_path: Path, large_clip, monkeypatch):
    for name in ("eat", "run", "sleep"):
        (tmp_path / name).mkdir()
        for i in range(2):
            write_lossless(tmp_path / name / f"{i}.mkv", large_clip, rate=5)
    make_lists(tmp_path)
    config = load(repo, "folder", tmp_path, monkeypatch)
    assert config.num_classes == 3 and config.classes == ["eat", "run", "sleep"]
    for split in ("train", "val", "test"):
        assert first_batch(config, split)["inputs"].shape == (2, 4 if split == "train" else 8, 3, 112, 112)


def test_gestures(repo: Path, tmp_path: Path, monkeypatch):
    make_gestures(write_photos(tmp_path / "photos"), tmp_path / "set", train=3, val=3, test=3)
    config = load(repo, "gestures", tmp_path / "set", monkeypatch)
    assert "Flip" not in str(config)  # left is another class than right
    for split, frames in dict(train=4, val=16, test=16).items():
        batch = first_batch(config, split)
        assert batch["inputs"].shape == (2, frames, 3, 224, 224)
        assert batch["data_samples"][0].filename.split("/")[-2] == split
        kind = "train" if split == "train" else "test"
        small = first_batch(config, split, pipeline=config[f"policy_{kind}_pipeline"])["inputs"]
        assert small.shape == (2, frames, 3, 64, 64)
    assert config.random_frames.mean == config.data_preprocessor.mean


@pytest.fixture
def large_clip():
    return make_clip(np.random.default_rng(0), label=0, kind="bold", frames=4, size=90)[0]


def test_a_leaf_can_insert_a_resize(repo: Path, tmp_path: Path, monkeypatch):
    """What a stage at another input size writes."""
    make_synthetic(tmp_path / "data", train=4, val=3, test=2)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    base = repo / "configs/_base_/datasets/synthetic.py"
    (tmp_path / "leaf.py").write_text(
        f'_base_ = ["{base}"]\n'
        'resize = dict(type="Resize", scale=(20, 20), keep_ratio=False)\n'
        "pipeline = [*_base_.train_pipeline[:-2], resize, *_base_.train_pipeline[-2:]]\n"
        "train_dataloader = dict(dataset=dict(pipeline=pipeline))\n"
    )
    config = Config.fromfile(tmp_path / "leaf.py")
    assert first_batch(config, "train")["inputs"].shape == (2, 6, 3, 20, 20)


def test_a_wrong_data_root_is_named(repo: Path, tmp_path: Path, monkeypatch):
    config = load(repo, "scenes", tmp_path / "nowhere", monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"nowhere/scenes_train.txt does not exist; set .*DATA_ROOT"):
        first_batch(config, "train")


@pytest.mark.parametrize("media", ["videos", pytest.param("rawframes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks(repo: Path, tmp_path: Path, name, media, monkeypatch):
    """From the published list over the converter to tensors, at the paper's size."""
    make_benchmark(tmp_path, name, media)
    monkeypatch.setenv("MEDIA", media)
    config = load(repo, name, tmp_path, monkeypatch)
    for split in ("train", "val", "test"):
        batch = first_batch(config, split, batch_size=3)
        assert batch["inputs"].shape == (3, 16, 3, 224, 224)
        found = sorted(labels_of(sample, config.num_classes) for sample in batch["data_samples"])
        assert found == sorted(sorted(labels) for _, labels in CLIPS[name])
    assert config.num_classes == BENCHMARKS[name].num_classes
    dataset = config.train_dataloader.dataset
    assert Path(dataset.metainfo.classes).read_text().count("\n") == config.num_classes
    views = first_batch(config, "test", pipeline=config.views_pipeline)["inputs"]
    assert views.shape == (2, 2 * 3 * 16, 3, 256, 256)
    for split in ("train", "test"):
        small = first_batch(config, split, pipeline=config[f"policy_{split}_pipeline"])["inputs"]
        assert small.shape == (2, 16, 3, 84, 84)


def labels_of(sample, num_classes: int) -> list[int]:
    label = sample.gt_label
    return label.nonzero().flatten().tolist() if len(label) == num_classes else label.tolist()


def test_another_medium_is_refused(repo: Path, monkeypatch):
    monkeypatch.setenv("MEDIA", "frames")
    with pytest.raises(ValueError, match="MEDIA=frames must be videos or rawframes"):
        Config.fromfile(repo / "configs/_base_/datasets/fcvid.py")


MODES = dict(synthetic="nearby", fights="nearby", mini_kinetics="nearby") | dict.fromkeys(
    ("activitynet", "fcvid", "mini_sports1m"), "keyframe"
)


@pytest.mark.parametrize("sampling", [None, "exact"])
@pytest.mark.parametrize("name", MODES)
def test_how_frames_are_chosen(repo: Path, tmp_path: Path, name, sampling, monkeypatch):
    if sampling and name != "synthetic":
        monkeypatch.setenv("SAMPLING", sampling)
    text = json.dumps(load(repo, name, tmp_path, monkeypatch).to_dict())
    found = re.findall(r'"type": "VideoDecode", "sampling": "(\w+)"', text)
    assert len(found) >= 5 and set(found) == {
        MODES[name] if name == "synthetic" or not sampling else sampling
    }
