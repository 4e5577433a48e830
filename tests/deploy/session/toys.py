"""Models, bundles and clips of the tests of sessions."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import mmaction.models  # noqa: F401
import numpy as np
import pytest
import torch
from torch import nn

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.engines.base import Engine, Runner
from mmvideoiq.deploy.session import Result
from tests.deploy.toy_bundle import toy_parts
from tests.models.toys import ACTIONS, SIZE, any_precision, build, lived_in, videoiq

pytest.importorskip("openvino")

FRAMES = 6
PIXELS = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)
HOLDING = (*ACTIONS, dict(skip=2))
SIZED = (dict(bits=32), dict(bits=4, size=20), dict(bits=4, size=12), dict(skip=1))
# A bundle's curve is what it says: costs here are made up, so that budgets name multipliers.
CURVE = [
    dict(multiplier=m, cost=c, accuracy=None, usage=u)
    for m, c, u in [
        (-4.0, 0.8, [1.0, 0.0, 0.0, 0.0]),
        (0.0, 0.4, [0.25, 0.25, 0.25, 0.25]),
        (12.0, 0.2, [0.0, 0.0, 0.0, 1.0]),
    ]
]
MULTIPLIERS = {None: 0.0, 0.8: -4.0, "0.5": -1.0, 0.25: 9.0}


class CountingEngine:
    """An engine that counts the frames it is given, by part and mode."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.threads, self._engine = engine.name, engine.threads, engine
        self.float_precision = engine.float_precision
        self.calls: Counter[tuple[str, int | str]] = Counter()
        self.frames: Counter[tuple[str, int | str]] = Counter()

    def load(self, bundle: Bundle, part: str, bits: int) -> Runner:
        runner = self._engine.load(bundle, part, bits)
        mode = bits if bundle.size is None else f"{bits}@{bundle.size}"

        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.calls[part, mode] += 1
            self.frames[part, mode] += len(inputs["frames"])
            return runner(inputs)

        return run


def toy_model(actions=ACTIONS, all_skip: str = "likeliest") -> nn.Module:
    cfg = videoiq(
        backbone=any_precision(
            weight=dict(type="nested"), precisions=[action for action in actions if "bits" in action]
        ),
        actions=dict(actions=list(actions), frame_size=SIZE),
        all_skip=all_skip,
        data_preprocessor=PIXELS,
    )
    model = lived_in(build(cfg)).eval()
    model.backbone.calibrate_(normalized(model, clips(1, seed=9)[0]))
    with torch.no_grad():  # a policy that wants something else for every frame
        seen, fc = (
            torch.stack([normalized(model, frames) for frames in clips(12)]),
            model.policy.head.fc_policy,
        )
        fc.weight.copy_(8 * torch.randn(fc.weight.shape, generator=torch.Generator().manual_seed(2)))
        fc.bias -= model.policy(seen).log_probs.mean((0, 1))
    return model


def normalized(model: nn.Module, frames: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return model.data_preprocessor.preprocess([pixels], None)[0][0]


def clips(num: int, frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """uint8 (num, frames, SIZE, SIZE, 3), every frame of another brightness and contrast."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(20, 235, (num, frames, 1, 1, 1))
    contrast = rng.uniform(0, 90, (num, frames, 1, 1, 1))
    return (
        (level + contrast * rng.standard_normal((num, frames, SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)
    )


def toy_bundle(folder: Path, **changes) -> Bundle:
    """``changes``: of the manifest, or arguments of ``toy_parts``."""
    manifest = {key: changes.pop(key) for key in ("latency_ms", "budget", "all_skip") if key in changes}
    parts = toy_parts(frames=FRAMES, size=SIZE, **changes)
    parts["manifest"] |= manifest
    write_bundle(folder / "bundle", **parts)
    return Bundle.open(folder / "bundle")


def same(got: Result, want: Result) -> None:
    np.testing.assert_array_equal(got.actions, want.actions)
    np.testing.assert_allclose(got.logits, want.logits, atol=1e-4)
    np.testing.assert_allclose(got.probs, want.probs, atol=1e-5)
    assert (got.label, got.name, got.frames) == (want.label, want.name, want.frames)
    assert got.cost == pytest.approx(want.cost)


def decibels(got: np.ndarray, want: np.ndarray) -> float:
    return 10 * np.log10((want**2).sum() / ((got - want) ** 2).sum().clip(1e-30))
