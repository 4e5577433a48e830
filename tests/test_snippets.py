"""The configs that README and docs show train and validate for an epoch, by MMAction2's own tools.

A block is merged over the README's plugin and models as a later config over its base: ``...`` keeps what the base
says, ``actions`` or ``backbone`` alone mean that key of ``model``. Of blocks about a policy the base is the README's
second model, with the losses of ``configs/_base_``; else it is the first. Then :func:`tiny` makes sizes small, and
``tsn_config`` supplies data and schedule.
"""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmvideoiq.data.synthetic import make_synthetic
from tests.conftest import ROOT
from tests.test_docs import PAGES, blocks, command_lines, name_of, plain

HOST_TOOLS = Path(mmaction.__file__).parent / ".mim/tools"
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(ROOT))
NOT_TRAINED = (
    "_base_",  # the files of configs/, which tests of their own build
    "zoo://NAME",  # stands for a published model
)


def snippets() -> list[tuple[str, str]]:
    """Page and text of every Python block that only assigns: a config."""
    found = []
    for page in PAGES:
        if page.name == "backbones.md":  # its table comes from trying every one
            continue
        for text in blocks(page.read_text(encoding="utf-8"), "python"):
            body = ast.parse(plain(text)).body
            if all(isinstance(node, ast.Assign) for node in body) and not any(
                word in text for word in NOT_TRAINED
            ):
                names = {
                    target.id for node in body for target in node.targets if isinstance(target, ast.Name)
                }
                if names & {"model", "backbone", "actions"}:
                    found.append((name_of(page), text))
    return found


SNIPPETS = snippets()


def values(text: str) -> dict:
    """What a block assigns, without what it leaves to the base as ``...``."""
    found: dict = {}
    exec(compile(plain(text), "snippet", "exec"), {}, found)

    def known(value):
        if isinstance(value, dict):
            return {key: known(inner) for key, inner in value.items() if inner is not ...}
        return value

    return known(found)


def merged(base, over):
    """``over`` laid over ``base`` as MMEngine lays a config over its base."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def completed(text: str) -> dict:
    """The model and hooks that a block means, at full size."""
    first, second = (values(block) for page, block in SNIPPETS if page == "README.md")
    given = values(text)
    for key in ("backbone", "actions"):
        if key in given:
            given["model"] = {key: given.pop(key)}
    policy = "policy" in given["model"] or {"actions", "losses"} & set(given["model"])
    base = first
    if policy:
        base = merged({k: v for k, v in first.items() if k != "model"}, second)
        losses = Config.fromfile(ROOT / "configs/_base_/models/videoiq.py").videoiq.losses.to_dict()
        base["model"] = dict(second["model"], backbone=first["model"]["backbone"], losses=losses)
    config = merged(base, given)
    actions = config["model"].get("actions")
    listed = actions["actions"] if isinstance(actions, dict) else actions or []
    modes = [action for action in listed if "bits" in action]
    return merged(config, dict(model=dict(backbone=dict(precisions=modes)))) if modes else config


def tiny(config: dict) -> dict:
    """Two classes, a ResNet-18 and a narrow policy, nothing downloaded; frames are 32 x 32."""
    size = dict(
        backbone=dict(backbone=dict(depth=18, pretrained=None)), cls_head=dict(num_classes=2, in_channels=512)
    )
    if "policy" in config["model"]:
        narrow = dict(backbone=dict(widen_factor=0.1), input_size=32)
        size["policy"] = narrow
    preprocessor = dict(type="ActionDataPreprocessor", mean=[127.5] * 3, std=[60.0] * 3, format_shape="NCHW")
    return merged(config, dict(model=dict(size, data_preprocessor=preprocessor)))


def test_the_snippets_are_found():
    assert [page for page, _ in SNIPPETS].count("README.md") == 2
    assert len(SNIPPETS) > 5


def test_average_clips_may_be_left_out():
    importlib.import_module("mmvideoiq.plugin")
    config = tiny(completed(SNIPPETS[0][1]))["model"]
    del config["cls_head"]["average_clips"]
    init_default_scope("mmaction")
    model = MODELS.build(config).eval()
    (sample,) = model.predict(torch.zeros(1, 3, 3, 32, 32), [ActionDataSample()])
    assert sample.pred_score.shape == (2,)  # what MMAction2's AccMetric reads


def test_the_readme_recognizes_clips_it_makes(tmp_path):
    """Its commands as they stand, from a folder where ``tools`` is that of the repository."""
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    lines = list(command_lines((ROOT / "README.md").read_text(encoding="utf-8")))
    infer = next(n for n, line in enumerate(lines) if "zoo://demo_videoiq_bundle" in line)
    for program, *words in lines[infer - 1 : infer + 1]:
        command = [sys.executable, *(["-m", program] if program == "mmvideoiq" else []), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo_videoiq_bundle knows 8 classes: 0 degrees, ")
    assert "\n8 videos in " in done.stdout


def test_a_snippet_with_sizes_builds():
    importlib.import_module("mmvideoiq.plugin")
    (text,) = (text for _, text in SNIPPETS if "modes = " in text)
    init_default_scope("mmaction")
    small = dict(backbone=dict(backbone=dict(depth=18, pretrained=None)), cls_head=dict(in_channels=512))
    model = MODELS.build(merged(completed(text)["model"], small))
    assert model.backbone.modes == model.actions.modes == (8, "8@160", "8@112", "4@112")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [n for n, (_, text) in enumerate(SNIPPETS) if "modes = " not in text],
    ids=lambda n: f"{SNIPPETS[n][0]}-{n}",
)
def test_a_snippet_trains_with_the_hosts_tools(number, tsn_config, tmp_path):
    config = Config.fromfile(tsn_config)
    for key, value in tiny(completed(SNIPPETS[number][1])).items():
        config[key] = value
    config.dump(tmp_path / "config.py")
    done = subprocess.run(
        [sys.executable, HOST_TOOLS / "train.py", tmp_path / "config.py", "--work-dir", tmp_path / "work"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "work").glob("best_acc_top1_epoch_1.pth"))


def python_blocks(page: str) -> list[str]:
    return blocks((ROOT / page).read_text(encoding="utf-8"), "python")


@pytest.fixture
def videos(tmp_path, monkeypatch) -> None:
    """The files that the pages of the runtime name, in the current folder."""
    make_synthetic(tmp_path / "data", train=1, val=1, test=3, seed=0)
    clips = sorted((tmp_path / "data/videos/test").iterdir())
    for clip, name in zip(clips, ("video.mp4", "a.mp4", "b.mp4"), strict=True):
        (tmp_path / name).write_bytes(clip.read_bytes())
    for work_dir in ("demo", "mine"):
        (tmp_path / "work_dirs" / work_dir).mkdir(parents=True)
        (tmp_path / "work_dirs" / work_dir / "bundle").symlink_to(ROOT / "zoo/demo/demo_videoiq_bundle")
    monkeypatch.chdir(tmp_path)


def test_the_runtime_pages_run(videos, capsys):
    pytest.importorskip("openvino")
    first, second, third = python_blocks("docs/deployment.md")
    known = {"np": np, "camera": np.zeros((3, 64, 64, 3), np.uint8)}
    given = first.replace("frames = ...", "frames = np.zeros((6, *session.frame_shape), np.uint8)")
    streamed = third.replace("rtsp://camera/stream", "video.mp4")
    assert given != first and streamed != third
    for text in (given, second, streamed):
        exec(compile(text, "snippet", "exec"), known)
    assert known["result"].frames == 6 and known["action"] in range(4)
    assert capsys.readouterr().out.count("degrees") >= 3


def test_the_zoo_page_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVIDEOIQ_HOME", str(tmp_path))
    known = {"NAME": "demo_float"}
    exec(compile(python_blocks("docs/zoo.md")[0], "snippet", "exec"), known)
    assert not known["model"].training and Path(known["path"]).suffix == ".pth"


def test_a_config_over_the_bases_builds(tmp_path, monkeypatch):
    """The leaf that docs/configuration.md shows, in a folder beside the bases."""
    importlib.import_module("mmvideoiq.plugin")
    (tmp_path / "_base_").symlink_to(ROOT / "configs/_base_")
    (tmp_path / "mine").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/classes.txt").write_text("a\nb\nc\n")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    (text,) = (block for block in python_blocks("docs/configuration.md") if "_base_" in block)
    (tmp_path / "mine/config.py").write_text(text)
    config = Config.fromfile(tmp_path / "mine/config.py")
    init_default_scope("mmaction")
    model = MODELS.build(config.model)
    assert model.cls_head.num_classes == config.num_classes
