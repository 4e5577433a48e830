"""A bundle that is timed must be that of the checkpoint that is tested."""

import io
import shutil

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from mmvideoiq.deploy.export.recognizer import export
from mmvideoiq.evaluation.bundle_match import check_bundles
from mmvideoiq.evaluation.config import Comparison, RowError, make_rows
from mmvideoiq.evaluation.runner import run_comparison
from mmvideoiq.video.preprocessing import Preprocessing
from tests.evaluation.conftest import build, entry


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    return write(trained, "videoiq", tmp_path_factory.mktemp("exported") / "bundle")


def write(trained, model, out):
    """An export of a model of ``trained``."""
    built = build(Config.fromfile(trained / f"{model}.py")).eval()
    built.load_state_dict(torch.load(trained / f"{model}.pth", weights_only=True)["state_dict"])
    preprocessing = Preprocessing(frames=2, short_side=None, crop=32)
    export(built, out, classes=["a", "b"], preprocessing=preprocessing)
    return out


def rows_with(trained, bundle, model="videoiq", **more):
    row = entry(trained, "ours", model, bundle=str(bundle), **more)
    return make_rows([row, entry(trained, "float", "float")], folder=trained)


@pytest.mark.parametrize("override", [{}, dict(precision=4)])
def test_the_bundle_of_the_checkpoint_is_accepted(trained, bundle, override):
    check_bundles(rows_with(trained, bundle, **override))


@pytest.mark.parametrize(
    "changed, where",
    [
        ("policy.head.fc_policy.weight", "policy: fc_policy"),
        ("policy.head.lstm.weight_hh_l0", "policy: lstm"),
        ("cls_head.fc_cls.bias", "recognition: head.bias"),
        ("backbone.net.stages.0.0.conv1.conv.weight", "recognition: stages.0.0.conv1"),
    ],
)
def test_another_checkpoint_is_refused_before_anything_is_tested(
    trained, bundle, in_process, tmp_path, changed, where
):
    state = torch.load(trained / "videoiq.pth", weights_only=True)["state_dict"]
    state[changed] = state[changed] * 1.2 + 0.01
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    rows = rows_with(trained, bundle, checkpoint=[str(tmp_path / "other.pth"), str(trained / "videoiq.pth")])
    with pytest.raises(
        RowError, match=r"row 'ours': bundle .*bundle is not of checkpoint .*other.pth"
    ) as found:
        run_comparison(
            Comparison(name="toy", rows=rows),
            tmp_path / "out",
            timed=False,
            console=Console(file=io.StringIO()),
        )
    assert where in str(found.value) and "mmvideoiq export" in str(found.value) and not in_process


def test_a_bundle_without_a_policy_is_refused(trained, tmp_path):
    with pytest.raises(RowError, match=r"is not of checkpoint .*videoiq.pth"):
        check_bundles(rows_with(trained, write(trained, "any", tmp_path / "any")))


def test_a_damaged_bundle_is_refused(trained, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle/policy.safetensors").write_bytes(b"")
    with pytest.raises(RowError, match=r"row 'ours': .*policy.safetensors"):
        check_bundles(rows_with(trained, tmp_path / "bundle"))
