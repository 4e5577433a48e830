"""A model in float64 computes in float64 throughout: nothing passes through float32 on the way."""

import pytest
import torch

from mmvideoiq.quant import Pact, SwitchableBatchNorm, calibrate_clips_, calibrate_norms_
from tests.models.test_baselines import BASELINES
from tests.models.toys import (
    ACTIONS,
    any_precision,
    any_precision_recognizer,
    build,
    clips,
    lived_in,
    samples,
    slim,
    videoiq,
)
from tests.models.toys import policy as policy_cfg

CLASSIFIED = dict(policy=policy_cfg(num_classes=3), policy_cls_weight=0.5)
MODELS = BASELINES | {
    "any precision": any_precision_recognizer(),
    "videoiq": videoiq(**CLASSIFIED),
    "videoiq, a long skip": videoiq(actions=[*ACTIONS, dict(skip=3)], **CLASSIFIED),
    "videoiq, all learn": videoiq(frozen=(), cache_features=False, **CLASSIFIED),
    "videoiq, cached": videoiq(cache_features=True, **CLASSIFIED),
}


def is_double(value):
    """Whether ``value`` is float64 and holds more than float32 can."""
    return value.dtype == torch.float64 and not torch.equal(value, value.float().double())


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_scores(name):
    model, x = lived_in(build(MODELS[name])).double(), clips(4).double()
    results = model.train()(x, samples(4), mode="loss")
    losses = {key: value for key, value in results.items() if "loss" in key}
    assert {value.dtype for value in losses.values()} == {torch.float64}
    assert all(is_double(value) for key, value in losses.items() if "cls" in key or "kd" in key)
    sum(losses.values()).backward()
    model.eval()
    with torch.no_grad():
        assert is_double(model(x, mode="tensor"))
        assert all(is_double(sample.pred_score) for sample in model(x, samples(4), mode="predict"))


@pytest.mark.parametrize("sample", [True, False])
def test_the_policy(sample):
    model = lived_in(build(MODELS["videoiq, a long skip"])).double()
    with torch.no_grad():
        out = model.policy(clips(4).double(), sample=sample)
    assert out.decisions.dtype == torch.float64
    assert is_double(out.log_probs) and is_double(out.class_logits)


@pytest.mark.parametrize("weight", ["dorefa", "nested", "lsq"])
def test_calibration(weight):
    cfg = any_precision(slim(), precisions=(8, 4), weight=dict(type=weight))
    backbone = lived_in(build(cfg)).double()
    x = clips(4).double().flatten(0, 1)
    calibrate_clips_(backbone, x)
    calibrate_norms_(backbone, backbone.switch, x)
    values = [
        clip for module in backbone.modules() if isinstance(module, Pact) for clip in module.clip.values()
    ]
    norms = [module for module in backbone.modules() if isinstance(module, SwitchableBatchNorm)]
    values += [norm.norms["4"].running_var for norm in norms]
    assert values and all(is_double(value) for value in values)
