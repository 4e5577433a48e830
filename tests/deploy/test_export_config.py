"""Export from a config: pipelines, class names, whole runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS
from mmengine.config import Config
from torch import nn

import mmvideoiq.data.dataset
import mmvideoiq.models  # noqa: F401  registers what the configs name
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.export import ExportError, Preprocessing
from mmvideoiq.deploy.export.from_config import find_classes, read_pipeline
from tests.deploy.exported_models import check_codes, recognizer, trained

pytestmark = pytest.mark.usefixtures("mmaction_scope")

PIPELINE = (
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, num_clips=8, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 32)),
    dict(type="CenterCrop", crop_size=24),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
)


def with_step(place: int, **step) -> list[dict]:
    return [*PIPELINE[:place], dict(PIPELINE[place], **step), *PIPELINE[place + 1 :]]


def test_a_pipeline_becomes_numbers():
    assert read_pipeline(PIPELINE) == Preprocessing(frames=8, short_side=32, crop=24)
    bare = [step for step in PIPELINE if step["type"] not in ("Resize", "CenterCrop")]
    assert read_pipeline(bare) == Preprocessing(frames=8)
    assert read_pipeline(with_step(3, type="mmaction.Resize", scale=[32, -1])).short_side == 32
    assert read_pipeline(with_step(4, crop_size=(24, 24))).crop == 24


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            with_step(0, type="PyAVInit"),
            "PyAVInit cannot be exported here; a bundle reads VideoInit or DecordInit, SampleFrames",
        ),
        (with_step(4, type="ThreeCrop"), "ThreeCrop cannot be exported"),
        (PIPELINE[::-1], "FormatShape cannot be exported here"),
        (PIPELINE[:1], "there is no SampleFrames"),
        (with_step(1, clip_len=8), "SampleFrames with clip_len=8 cannot be exported; it needs clip_len=1"),
        (with_step(1, test_mode=False), "SampleFrames with test_mode=False"),
        (with_step(1, twice_sample=True), "SampleFrames with twice_sample=True"),
        (with_step(3, scale=(340, 256)), r"Resize with {'scale': \(340, 256\)} cannot be exported; it needs"),
        (with_step(3, keep_ratio=False), "Resize with .*'keep_ratio': False"),
        (with_step(3, interpolation="bicubic"), "Resize with .*'interpolation': 'bicubic'"),
        (with_step(4, crop_size=(24, 32)), r"CenterCrop with \(24, 32\)"),
        (with_step(5, input_format="NCTHW"), "FormatShape with NCTHW"),
    ],
)
def test_other_pipelines_are_refused(pipeline, message):
    with pytest.raises(ExportError, match=f"^test pipeline: {message}"):
        read_pipeline(pipeline)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*/*_videoiq.py")), ids=lambda path: path.stem)
def test_shipped_pipelines_can_be_exported(path, repo):
    config = Config.fromfile(repo / path)
    assert read_pipeline(config.test_dataloader.dataset.pipeline).frames == config.num_frames


def test_names_of_classes(tmp_path):
    listed = dict(data_root=str(tmp_path), ann_file="val.txt")
    assert find_classes(listed, 3) == ["0", "1", "2"]
    (tmp_path / "classes.txt").write_text("fight\nno fight\n\n")
    assert find_classes(listed, 2) == ["fight", "no fight"]
    assert find_classes(dict(ann_file=str(tmp_path / "val.txt")), 2) == ["fight", "no fight"]
    assert find_classes(dict(listed, metainfo=dict(classes=("a", 2))), 2) == ["a", "2"]
    assert find_classes(dict(metainfo=dict(classes=str(tmp_path / "classes.txt"))), 2) == [
        "fight",
        "no fight",
    ]


@pytest.fixture
def trained_run(tiny_videos, tmp_path) -> tuple[nn.Module, Path, Path]:
    """A recognizer, its config on ``tiny_videos`` and its checkpoint."""
    pipeline = [step for step in PIPELINE if step["type"] not in ("Resize", "CenterCrop")]
    dataset = dict(
        type="CheckedVideoDataset",
        ann_file=str(tiny_videos / "list.txt"),
        data_prefix=dict(video=str(tiny_videos)),
        metainfo=dict(classes=["dark", "bright", "other"]),
        num_classes=3,
        test_mode=True,
        pipeline=pipeline,
    )
    loader = dict(
        batch_size=3, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset
    )
    config = Config(
        dict(
            default_scope="mmaction",
            custom_imports=dict(imports=["mmvideoiq.plugin"], allow_failed_imports=False),
            model=recognizer(),
            val_dataloader=loader,
            test_dataloader=loader,
        )
    )
    config.dump(tmp_path / "config.py")
    model = trained(recognizer(), 32)
    with torch.no_grad():
        model.policy.head.fc_policy.bias.zero_()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    return model, tmp_path / "config.py", tmp_path / "model.pth"


def test_the_tool(trained_run, load_tool, tmp_path, capsys):
    pytest.importorskip("openvino")
    model, config, checkpoint = trained_run
    tool, out = load_tool("export.py"), tmp_path / "bundle"
    tool.main([str(config), str(checkpoint), str(out)])
    assert f"{out}: actions 32, 4, 2, skip; mean cost " in capsys.readouterr().out
    bundle = Bundle.open(out)
    assert bundle.manifest["classes"] == ["dark", "bright", "other"]
    assert bundle.graphs["recognition"].inputs["frames"] == (-1, 32, 32, 3)
    check_codes(model, bundle)

    dataset = DATASETS.build(Config.fromfile(config).val_dataloader.dataset)
    clips = [dataset[i] for i in range(8)]
    inputs = torch.stack([clip["inputs"] for clip in clips])
    labels = torch.tensor([int(clip["data_samples"].gt_label) for clip in clips])
    curve = bundle.manifest["budget"]
    assert len(curve) > 3 and curve[0]["multiplier"] < 0 < curve[-1]["multiplier"]
    for row in (curve[0], curve[len(curve) // 2], curve[-1]):
        model.policy.cost_multiplier = row["multiplier"]
        with torch.no_grad():
            prediction = model.recognize(model.data_preprocessor.preprocess([*inputs], None)[0])
        assert row["usage"] == pytest.approx(model.actions.usage(prediction.actions).tolist())
        assert row["cost"] == pytest.approx(np.dot(row["usage"], model.actions.costs))
        assert row["accuracy"] == pytest.approx(
            (prediction.logits.argmax(-1) == labels).double().mean().item()
        )

    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc")
    options = ["--no-calibration", "--classes", str(names)]
    tool.main([str(config), str(checkpoint), str(out), *options, "--time-on", "openvino", "--threads", "1"])
    assert "no budget curve" in capsys.readouterr().out
    again = Bundle.open(out)
    assert again.manifest["budget"] is None and again.manifest["classes"] == ["a", "b", "c"]
    measured = again.manifest["latency_ms"]
    assert (measured["engine"], measured["threads"]) == ("openvino", 1)
    assert bundle.manifest["latency_ms"] is None  # nobody asked for it then
    assert set(measured["actions"]) == {"32", "4", "2"}
    assert min(measured["policy"], *measured["actions"].values()) > 0


def test_the_tool_says_what_is_wrong_in_one_line(trained_run, load_tool, tmp_path, capsys):
    model, config, checkpoint = trained_run
    tool = load_tool("export.py")

    def error(*argv: str) -> str:
        with pytest.raises(SystemExit) as ended:
            tool.main([*argv])
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    out = str(tmp_path / "bundle")
    assert error(str(config), "no.pth", out).endswith("error: checkpoint not found: no.pth")
    line = error(str(config), str(checkpoint), out, "--classes", "no.txt")
    assert line.endswith("error: list of classes not found: no.txt")
    line = error(str(config), str(checkpoint), out, "--time-on", "tensorrt")
    assert "unknown engine 'tensorrt'; choose one of openvino, onnxruntime" in line
    line = error(str(config), str(checkpoint), out, "--cfg-options", "val_dataloader.dataset.ann_file=no.txt")
    assert "no.txt does not exist" in line
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("policy")}
    torch.save(state, tmp_path / "part.pth")
    line = error(str(config), str(tmp_path / "part.pth"), out)
    assert "part.pth does not fit: policy." in line and "was it trained with another config?" in line
    assert not Path(out).exists()
