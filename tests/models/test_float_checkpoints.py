"""Float checkpoints, in every way a config can name them, start every precision."""

import functools
import http.server
import re
import threading

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as host_checkpoint
from torch import nn

from tests.models.toy_runs import config, train
from tests.models.toys import (
    CLASSES,
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    float_recognizer,
    lived_in,
    slim,
    videoiq,
)


def frames():
    return clips(1).flatten(0, 1)


@pytest.fixture
def trained():
    return lived_in(build(float_recognizer()), seed=3).eval()


@pytest.fixture
def checkpoint(trained, tmp_path):
    path = tmp_path / "float.pth"
    torch.save(dict(state_dict=trained.state_dict(), meta=dict()), path)
    return path


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The folder tmp_path over HTTP; downloads are kept in it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def assert_starts_from(backbone: nn.Module, reference: nn.Module) -> None:
    """The any-precision backbone has ``reference``'s weights, and its batch norm at every precision."""
    backbone.eval()
    reference.eval()
    wanted = reference.state_dict()
    for name, value in backbone.net.state_dict().items():
        if ".clip." not in name:
            assert torch.equal(value, wanted[re.sub(r"\.norms\.\d+", "", name)]), name
    with torch.no_grad():
        assert torch.equal(backbone(frames()), reference(frames()))


@pytest.mark.parametrize("kind", ["any-precision", "videoiq"])
def test_load_from_of_the_host(kind, trained, checkpoint):
    """What ``load_from`` does: every weight arrives, only clips and the policy keep their start."""
    model = build(any_precision_recognizer() if kind == "any-precision" else videoiq(), seed=7)
    own = {k: v.clone() for k, v in model.state_dict().items() if ".clip." in k or k.startswith("policy.")}
    load_checkpoint(model, str(checkpoint), map_location="cpu")
    assert_starts_from(model.backbone, trained.backbone)
    assert torch.equal(model.cls_head.fc_cls.weight, trained.cls_head.fc_cls.weight)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in own.items())
    missing, unexpected = model.load_state_dict(trained.state_dict(), strict=False)
    assert {name for name in own if "num_batches" not in name} == set(missing) and not unexpected


def test_loading_leaves_the_callers_state_dict_alone(trained):
    state = trained.state_dict()
    names = list(state)
    build(any_precision_recognizer()).load_state_dict(state, strict=False)
    assert list(state) == names


@pytest.mark.parametrize("where", ["inner", "outer"])
def test_pretrained_init_cfg(where, trained, checkpoint):
    init_cfg = dict(type="Pretrained", checkpoint=str(checkpoint), prefix="backbone.")
    cfg = any_precision(slim(init_cfg=init_cfg)) if where == "inner" else any_precision(init_cfg=init_cfg)
    assert_starts_from(build(cfg), trained.backbone)


def test_pretrained_over_http(trained, checkpoint, server):
    init_cfg = dict(type="Pretrained", checkpoint=f"{server}/{checkpoint.name}", prefix="backbone.")
    assert_starts_from(build(any_precision(slim(init_cfg=init_cfg))), trained.backbone)


def test_load_from_over_http(trained, checkpoint, server):
    model = build(any_precision_recognizer())
    load_checkpoint(model, f"{server}/{checkpoint.name}", map_location="cpu")
    assert_starts_from(model.backbone, trained.backbone)


def torchvision_names(state: dict) -> dict:
    """A ResNet's state dict as torchvision spells it."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("downsample.conv", "downsample.0").replace("downsample.bn", "downsample.1")
        renamed[re.sub(r"conv(\d)\.(conv|bn)\.", r"\2\1.", name)] = value
    return {**renamed, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_torchvision_name(tmp_path, server, monkeypatch):
    reference = lived_in(MODELS.build(dict(type="ResNet", depth=18)), seed=4)
    torch.save(torchvision_names(reference.state_dict()), tmp_path / "resnet18.pth")
    monkeypatch.setattr(
        host_checkpoint, "get_torchvision_models", lambda: {"resnet18": f"{server}/resnet18.pth"}
    )
    inner = dict(type="ResNet", depth=18, pretrained="torchvision://resnet18")
    assert_starts_from(build(any_precision(inner)), reference)


def test_temporal_shift_starts_from_a_plain_resnet(tmp_path):
    reference = lived_in(MODELS.build(dict(type="ResNet", depth=18)), seed=4)
    torch.save(torchvision_names(reference.state_dict()), tmp_path / "resnet18.pth")
    inner = dict(type="ResNetTSM", depth=18, num_segments=4, pretrained=str(tmp_path / "resnet18.pth"))
    shifted = build(inner)
    assert_starts_from(build(any_precision(inner), seed=9), shifted)
    assert torch.equal(shifted.layer1[0].conv1.conv.net.weight, reference.layer1[0].conv1.conv.weight)


# --- MMAction2's zoo ---


@pytest.fixture(scope="module", params=["TSN", "TSM"])
def host_model(request, tmp_path_factory):
    """MMAction2's TSN or TSM with a ResNet-50: config, the model after one step, the checkpoint of that training."""
    parts = {
        "TSN": (dict(type="ResNet", depth=50), dict(type="TSNHead")),
        "TSM": (
            dict(type="ResNetTSM", depth=50, num_segments=3, pretrained2d=False),
            dict(type="TSMHead", num_segments=3),
        ),
    }
    backbone, head = parts[request.param]
    head = dict(head, num_classes=CLASSES, in_channels=2048)
    cfg = dict(type="Recognizer2D", backbone=backbone, cls_head=head)
    run = config(cfg, tmp_path_factory.mktemp(request.param), dataset=dict(num=4))
    run.default_hooks.checkpoint.save_optimizer = False
    runner, _ = train(run)
    return cfg, runner.model.eval(), f"{runner.work_dir}/epoch_1.pth"


def test_checkpoints_of_the_hosts_zoo(host_model, tmp_path):
    """Names as in its zoo; through ``load_from`` they start every precision, and the classifier."""
    cfg, model, path = host_model
    names = set(torch.load(path, weights_only=True)["state_dict"])
    first = "backbone.layer1.0.conv1.conv" + ".net" * (cfg["backbone"]["type"] == "ResNetTSM")
    assert {"backbone.conv1.conv.weight", f"{first}.weight", "cls_head.fc_cls.weight"} <= names

    kinds = [dict(cfg, type="AnyPrecisionRecognizer", backbone=any_precision(cfg["backbone"]))]
    if cfg["backbone"]["type"] == "ResNet":
        head = dict(type="FrameAverageHead", num_classes=CLASSES, in_channels=2048)
        kinds.append(videoiq(backbone=kinds[0]["backbone"], cls_head=head))
    for i, kind in enumerate(kinds):
        runner = Runner.from_cfg(config(kind, tmp_path / str(i), load_from=path))
        runner.load_or_resume()
        actual = runner.model
        assert len(actual.backbone.report.converted) == 52  # all 53 convolutions but the first
        wanted = model.state_dict()
        for name, value in actual.state_dict().items():
            source = re.sub(r"\.norms\.\d+", "", name.replace("backbone.net.", "backbone."))
            if ".clip." not in name and not name.startswith("policy."):
                assert torch.equal(value, wanted[source]), name
        norms = [f"backbone.net.layer4.2.conv3.bn.norms.{bits}.running_var" for bits in (32, 4, 2)]
        assert set(norms) <= set(actual.state_dict())
    with torch.no_grad():
        inputs = clips(1, frames=3, size=32).flatten(0, 1)
        assert torch.equal(actual.backbone.eval()(inputs), model.backbone(inputs))


# --- any-precision checkpoints ---


def test_any_precision_checkpoint_loads_strictly_and_gives_the_same(tmp_path):
    model = lived_in(build(any_precision_recognizer())).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "a.pth")
    twin = build(any_precision_recognizer(), seed=8).eval()
    load_checkpoint(twin, str(tmp_path / "a.pth"), map_location="cpu", strict=True)
    with torch.no_grad():
        for bits in (32, 4, 2):
            model.set_fixed_action(bits=bits)
            twin.set_fixed_action(bits=bits)
            assert torch.equal(model(clips(2)), twin(clips(2)))


def test_policy_stage_takes_an_any_precision_checkpoint(tmp_path):
    model = lived_in(build(any_precision_recognizer()))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "a.pth")
    dynamic = build(videoiq(), seed=8)
    before = {name: value.clone() for name, value in dynamic.policy.state_dict().items()}
    load_checkpoint(dynamic, str(tmp_path / "a.pth"), map_location="cpu")
    for part in ("backbone", "cls_head"):
        wanted = getattr(model, part).state_dict()
        assert all(torch.equal(v, wanted[k]) for k, v in getattr(dynamic, part).state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in dynamic.policy.state_dict().items())


@pytest.mark.parametrize("others", [(8, 4, 2), (32, 4), (32, 8, 4, 2)])
@pytest.mark.parametrize("way", ["host", "torch"])
def test_checkpoint_of_another_precision_list_is_one_clear_error(others, way, tmp_path):
    model = build(any_precision_recognizer(backbone=any_precision(precisions=others)))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "a.pth")
    actual = build(any_precision_recognizer())
    with pytest.raises(ValueError) as error:
        if way == "host":
            load_checkpoint(actual, str(tmp_path / "a.pth"), map_location="cpu")
        else:
            actual.load_state_dict(model.state_dict(), strict=False)
    message = str(error.value)
    assert str(others) in message and "(32, 4, 2)" in message and "\n" not in message
