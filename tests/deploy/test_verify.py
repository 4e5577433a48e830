"""The comparison of engine and simulation: it names what is wrong, and only that."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.bundle.graph import Grid
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.export import Preprocessing, export
from mmvideoiq.deploy.export.verify import DIFFERING, FLOOR_DB, NEAR, TIE, Agreement, codes_of, compare
from tests.models.toys import CLASSES, FEATURES, any_precision, build, lived_in

pytest.importorskip("onnxruntime")

SIDE, FRAMES = 32, 4
PRECISIONS = (32, 8, 4)


@pytest.fixture(scope="module", autouse=True)
def _mmaction_scope() -> Iterator[None]:
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def recognizer(preprocessor: dict, **options):
    return lived_in(
        build(
            dict(
                type="AnyPrecisionRecognizer",
                backbone=any_precision(weight=dict(type="nested"), **options),
                cls_head=dict(type="TSNHead", num_classes=CLASSES, in_channels=FEATURES),
                data_preprocessor=dict(type="ActionDataPreprocessor", format_shape="NCHW", **preprocessor),
            )
        )
    ).eval()


def exported(model, folder) -> Bundle:
    classes = [str(k) for k in range(CLASSES)]
    export(model, folder, classes=classes, preprocessing=Preprocessing(frames=FRAMES, crop=SIDE))
    return Bundle.open(folder)


def problem(model, bundle: Bundle, frames: np.ndarray, bits: int) -> str | None:
    return compare(model, bundle, open_engine("onnxruntime", threads=1), frames, bits).problem


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    model = recognizer(dict(mean=[128.0] * 3, std=[60.0] * 3), precisions=PRECISIONS)
    return model, exported(model, tmp_path_factory.mktemp("toy") / "bundle")


FRAMES_OF_NOISE = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("bits", PRECISIONS)
def test_a_bundle_of_the_model(toy, bits):
    assert problem(*toy, FRAMES_OF_NOISE, bits) is None


@torch.no_grad()
def other_mean(model) -> None:
    model.data_preprocessor.mean += 1


@torch.no_grad()
def other_weight(model) -> None:
    model.backbone.net.stages[0][0].conv2.conv.weight[3].neg_()


@torch.no_grad()
def other_clip(model) -> None:
    for name, clip in model.backbone.named_parameters():
        if "stages.1.0.input_quantizer.clip" in name:
            clip *= 1.01


@torch.no_grad()
def other_norm(model) -> None:
    for norm in model.backbone.net.stages[0][0].conv2.bn.norms.values():
        norm.bias += 0.01


CHANGES = {  # of the model, after its export: the quantizer that reads the first wrong value
    other_mean: "stages.0.0.input_quantizer",
    other_weight: "stages.1.0.input_quantizer",
    other_clip: "stages.1.0.input_quantizer",
    other_norm: "stages.1.0.input_quantizer",
}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_another_model_is_noticed_where_it_differs(toy, change, bits):
    model, bundle = copy.deepcopy(toy[0]), toy[1]
    change(model)
    assert (
        problem(model, bundle, FRAMES_OF_NOISE, bits)
        == f"at {bits} bits the engine's codes differ from the simulation's, first at {CHANGES[change]}"
    )


@pytest.mark.parametrize("bits", PRECISIONS)
@torch.no_grad()
def test_another_last_layer_is_noticed_in_the_features(toy, bits):
    model, bundle = copy.deepcopy(toy[0]), toy[1]
    for norm in model.backbone.net.stages[1][0].conv2.bn.norms.values():
        norm.bias += 0.01
    found = problem(model, bundle, FRAMES_OF_NOISE, bits)
    assert found is not None and f"at {bits} bits the engine's features agree" in found


@pytest.mark.parametrize("pixel", ["even", "odd"])
def test_values_on_ties_cannot_be_compared(tmp_path, pixel):
    """Steps of two: odd pixels lie between two codes of the frame."""
    identity = dict(mean=[0.0] * 3, std=[1.0] * 3)
    model = recognizer(identity, precisions=(4,), quantize_stem=True, input_range=(0.0, 30.0))
    frames = FRAMES_OF_NOISE % 15 * 2 + (pixel == "odd")
    found = problem(model, exported(model, tmp_path / "bundle"), frames, 4)
    if pixel == "even":
        assert found is None
    else:
        assert found is not None and "of the values lie on a tie, too many to compare codes" in found


def test_bounds():
    ones = torch.ones(2, 3)

    def found(**what) -> str | None:
        given = dict(mode=4, codes=100_000, features=ones, expected=ones.double())
        return Agreement(**given | what).problem

    assert found(near=int(NEAR * 1e5), differing=int(DIFFERING * 1e5), distance=TIE) is None
    assert "differ from the simulation's, first at q" in found(differing=1, distance=1.1 * TIE, quantizer="q")
    assert "4% of the values lie on a tie" in found(near=int(1.1 * NEAR * 1e5))
    assert "0.06% of the engine's codes differ" in found(differing=int(1.1 * DIFFERING * 1e5) + 1)
    noisy = ones.double() * (1 + 1.1 * 10 ** (-FLOOR_DB / 20))
    assert "to 79 dB only" in found(expected=noisy)
    assert "to nan dB only" in found(features=ones * float("nan"))


@pytest.mark.parametrize("value", [0.25, -0.5, 8.0, float("nan")])
def test_values_off_the_grid(value):
    grid = Grid(0.5, 0, 15)
    assert codes_of(torch.tensor([0.0, 7.5]), grid, "q").tolist() == [0, 15]
    with pytest.raises(ValueError, match="q gives values that are not on its grid"):
        codes_of(torch.tensor([0.0, value]), grid, "q")
