"""torchvision's names of weights, with and without torchvision."""

import pytest

from mmvideoiq.compat import torchvision


def test_torchvision_names_need_no_torchvision(unpatched, patched, monkeypatch):
    from mmengine.runner import checkpoint

    assert "No module named 'torchvision'" in unpatched["torchvision"]
    assert patched["torchvision"] == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    asked = []
    monkeypatch.setattr(checkpoint, "load_from_http", lambda url, map_location=None: asked.append(url))
    monkeypatch.setattr(checkpoint, "get_torchvision_models", torchvision.torchvision_urls)
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
    with pytest.raises(
        KeyError, match="torchvision://vgg16 is unknown without torchvision; known names are mobile"
    ):
        checkpoint.CheckpointLoader.load_checkpoint("torchvision://vgg16")


def test_installed_torchvision_is_used(monkeypatch):
    from mmengine.runner import checkpoint

    monkeypatch.setattr(torchvision, "installed", lambda module: True)
    monkeypatch.setattr(checkpoint, "get_torchvision_models", "unchanged")
    torchvision.resolve_torchvision_names()
    assert checkpoint.get_torchvision_models == "unchanged"


def test_torchvision_urls_equal_torchvision():
    pytest.importorskip("torchvision", reason="torchvision is not installed; nothing to compare with")
    from mmengine.runner.checkpoint import get_torchvision_models

    published = get_torchvision_models()
    assert {
        name: published[name] for name in torchvision.torchvision_urls()
    } == torchvision.torchvision_urls()
