"""The baselines: what they predict, compared with a slow reference, and their costs."""

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import ConfigDict

from mmvideoiq.evaluation.metrics import ComputeCostMetric
from mmvideoiq.models.early_exit import coarse_to_fine
from tests.models import toys
from tests.models.toys import CLASSES, FEATURES, any_precision_recognizer, build, float_recognizer, lived_in

FRAMES = 6


def head(**options):
    cfg = dict(type="LSTMHead", num_classes=CLASSES, in_channels=FEATURES, hidden=10, topk=(1,))
    return cfg | options


AVERAGE = dict(float_recognizer()["cls_head"], average_clips="prob")
UNIFORM = float_recognizer() | dict(type="UniformRecognizer", cls_head=AVERAGE)
BASELINES = {
    "uniform": UNIFORM,
    "lstm": dict(UNIFORM, cls_head=head()),
    "early exit": dict(UNIFORM, type="EarlyExitRecognizer", threshold=0.5),
    "fixed": any_precision_recognizer(type="FixedPrecisionRecognizer", bits=4, cls_head=AVERAGE),
    "ensemble": any_precision_recognizer(type="PrecisionEnsemble", cls_head=AVERAGE),
}


def make(cfg, **options):
    return lived_in(build(dict(cfg, **options))).eval()


def clips(count=5):
    return toys.clips(count, FRAMES)


@torch.no_grad()
def predict(model, inputs):
    return model.predict(inputs, [ActionDataSample() for _ in inputs])


@pytest.mark.parametrize("name", BASELINES)
def test_a_prediction_says_all_that_the_metrics_read(name):
    model = make(BASELINES[name])
    samples = predict(model, clips())
    metric = ComputeCostMetric(actions=model.actions)
    metric.process({}, [sample.to_dict() for sample in samples])
    found = metric.compute_metrics(metric.results)
    assert sum(found[f"usage_{action}"] for action in model.actions.names) == pytest.approx(1)
    for sample in samples:
        assert sample.pred_score.shape == (CLASSES,) and sample.pred_label == sample.pred_score.argmax()
        assert sample.pred_score.sum() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        logits = model(clips(), mode="tensor")
    torch.testing.assert_close(logits.softmax(-1), torch.stack([s.pred_score for s in samples]))


@pytest.mark.parametrize("name", BASELINES)
def test_a_clip_does_not_depend_on_its_neighbours(name):
    model = make(BASELINES[name])
    together, alone = (
        predict(model, clips()),
        [predict(model, clip.unsqueeze(0))[0] for clip in clips()],
    )
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.pred_score, other.pred_score, atol=1e-6, rtol=0)
        assert torch.equal(one.policy_actions, other.policy_actions) and one.cost == other.cost


@pytest.mark.parametrize("name", BASELINES)
def test_it_learns(name):
    model = build(BASELINES[name]).train()
    toys.total(model.loss(clips(2), toys.samples(2))).backward()
    assert all(parameter.grad is not None for parameter in model.cls_head.parameters())


def test_uniform_is_the_host_s_recognizer():
    actual, host = make(BASELINES["uniform"]), make(float_recognizer() | dict(cls_head=AVERAGE))
    actual.load_state_dict(host.state_dict())
    for one, other in zip(predict(actual, clips()), predict(host, clips()), strict=True):
        assert torch.equal(one.pred_score, other.pred_score) and one.cost["mean_cost"] == 1


def test_fixed_precision_follows_its_bits():
    model = make(BASELINES["fixed"])
    at_4 = predict(model, clips())
    assert at_4[0].cost["mean_cost"] == 0.25 and set(at_4[0].policy_actions.tolist()) == {1}
    model.set_fixed_action(bits=2)
    at_2 = predict(model, clips())
    assert at_2[0].cost["mean_cost"] == 0.0625 and at_2[0].cost["bitops"] < at_4[0].cost["bitops"]
    assert not torch.equal(at_2[0].pred_score, at_4[0].pred_score)


@pytest.mark.parametrize("members", [(32, 4, 2), (4, 2)])
def test_the_ensemble_averages_and_pays_for_all(members):
    ensemble = make(BASELINES["ensemble"], members=members)
    single = make(BASELINES["fixed"])
    each = []
    for bits in members:
        single.set_fixed_action(bits=bits)
        each.append(predict(single, clips()))
    for n, sample in enumerate(predict(ensemble, clips())):
        mean = torch.stack([one[n].pred_score for one in each]).mean(0)
        torch.testing.assert_close(sample.pred_score, mean)
        for key in ("mean_cost", "gflops", "bitops"):
            assert sample.cost[key] == pytest.approx(sum(one[n].cost[key] for one in each))
        assert sample.cost["weight_bytes"] == each[0][n].cost["weight_bytes"]
        assert sample.policy_actions.shape == (FRAMES, len(members))


def test_an_ensemble_of_nothing_or_of_others_is_refused():
    for members in ((), (8,), (4, 4)):
        with pytest.raises(ValueError, match="members"):
            build(dict(BASELINES["ensemble"], members=members))
    with pytest.raises(ValueError, match="runs all"):
        build(BASELINES["ensemble"]).set_fixed_action(bits=4)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 16])
def test_coarse_to_fine_spreads_every_beginning(frames):
    order = coarse_to_fine(frames)
    assert sorted(order) == list(range(frames))
    for count in range(1, frames + 1):
        seen = sorted(order[:count])
        gaps = [b - a for a, b in zip([-1, *seen], [*seen, frames], strict=True)]
        assert max(gaps) <= 2 * frames / count + 1


def exit_slowly(model, clip):
    """The obvious way, one clip and one frame at a time: logits, and the frames that were processed."""
    scores, order = [], coarse_to_fine(len(clip)) if model.order == "coarse_to_fine" else range(len(clip))
    for frame in order:
        features, options = model.extract_feat(clip[None, frame : frame + 1])
        scores.append(model.cls_head(features, **options))
        mean = torch.cat(scores).mean(0)
        best = mean.softmax(-1).sort(descending=True).values
        if (best[0] if model.measure == "probability" else best[0] - best[1]) > model.threshold:
            break
    return mean, list(order)[: len(scores)]


@pytest.mark.parametrize("measure", ["probability", "margin"])
@pytest.mark.parametrize("order", ["coarse_to_fine", "time"])
@torch.no_grad()
def test_early_exit_is_the_obvious_loop(measure, order):
    model = make(BASELINES["early exit"], measure=measure, order=order)
    inputs, counts = clips(12), set()
    confident = sorted(float(model.confidence(exit_slowly(model, clip)[0][None])) for clip in inputs)
    model.set_threshold(sum(confident[5:7]) / 2)
    whole = make(BASELINES["uniform"])
    full = predict(whole, inputs)[0].cost
    for sample, clip in zip(predict(model, inputs), inputs, strict=True):
        logits, frames = exit_slowly(model, clip)
        torch.testing.assert_close(sample.pred_score, logits.softmax(-1), atol=1e-6, rtol=0)
        assert (sample.policy_actions == 0).nonzero().flatten().tolist() == sorted(frames)
        counts.add(len(frames))
        share = len(frames) / FRAMES
        assert sample.cost["mean_cost"] == pytest.approx(share)
        assert sample.cost["gflops"] == pytest.approx(share * full["gflops"])
        assert sample.cost["bitops"] == pytest.approx(share * full["bitops"], rel=1e-3)  # but one classifier
    assert len(counts) > 1, "every clip stopped at the same frame"


def test_thresholds_from_one_frame_to_all():
    model, inputs = make(BASELINES["early exit"]), clips(8)
    costs = []
    for threshold in (0.0, 0.4, 0.6, 0.8, 1.0):
        model.set_threshold(threshold)
        costs.append(sum(sample.cost["mean_cost"] for sample in predict(model, inputs)) / len(inputs))
    assert costs[0] == pytest.approx(1 / FRAMES) and costs[-1] == 1 and costs == sorted(costs)
    for one, other in zip(predict(model, inputs), predict(make(BASELINES["uniform"]), inputs), strict=True):
        torch.testing.assert_close(one.pred_score, other.pred_score, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(threshold=1.5), "threshold"),
        (dict(measure="entropy"), "measure"),
        (dict(order="random"), "order"),
        (dict(cls_head=head()), "does not average"),
        (dict(backbone=dict(type="ResNetTSM", depth=18, num_segments=FRAMES, pretrained=None)), "mixes"),
        (dict(test_cfg=ConfigDict(fcn_test=True)), "fcn_test"),
    ],
)
def test_what_cannot_exit_early_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        build(dict(BASELINES["early exit"], **change))


def test_the_lstm_reads_the_order_of_frames_and_is_counted():
    model, plain = make(BASELINES["lstm"]), make(BASELINES["uniform"])
    inputs = clips()
    with torch.no_grad():
        assert not torch.allclose(
            model(inputs, mode="tensor"), model(inputs.flip(1), mode="tensor"), atol=1e-5
        )
    more = predict(model, inputs)[0].cost["bitops"] - predict(plain, inputs)[0].cost["bitops"]
    lstm = FRAMES * 4 * 10 * (FEATURES + 10)
    classifier = CLASSES * (10 - FEATURES)
    assert more == (lstm + classifier) * 32 * 32


@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_lstm_summaries(bidirectional):
    model = make(float_recognizer(), cls_head=head(bidirectional=bidirectional, num_layers=2, summary="last"))
    part, frames = model.cls_head, torch.randn(2 * FRAMES, FEATURES, 2, 2)
    outputs, _ = part.lstm(frames.mean((2, 3)).unflatten(0, (2, FRAMES)))
    last = torch.cat([outputs[:, -1, :10], outputs[:, 0, 10:]], -1)
    torch.testing.assert_close(part(frames, FRAMES), part.fc_cls(last))


@torch.no_grad()
def test_views_of_a_clip_are_separate_sequences():
    part = make(float_recognizer(), cls_head=head(num_segments=FRAMES)).cls_head
    frames = torch.randn(3 * FRAMES, FEATURES)  # three views of one clip
    rows = part(frames, 3 * FRAMES)
    assert rows.shape == (3, CLASSES)
    torch.testing.assert_close(rows[1:2], part(frames[FRAMES : 2 * FRAMES], FRAMES))
    [sample] = part.predict_by_feat(rows, [ActionDataSample()])
    torch.testing.assert_close(sample.pred_score, rows.softmax(-1).mean(0))


@pytest.mark.parametrize(
    "option", [dict(hidden=0), dict(num_layers=0), dict(summary="max"), dict(num_segments=-1)]
)
def test_options_of_the_lstm_are_checked(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        build(float_recognizer() | dict(cls_head=head(**option)))
    with pytest.raises(ValueError, match="fcn_test"):
        build(float_recognizer() | dict(cls_head=head())).cls_head(torch.zeros(2, FEATURES), 2, fcn_test=True)


@MODELS.register_module()
class ToyNeck(torch.nn.Module):
    """Something between backbone and head."""


def test_a_neck_is_refused():
    with pytest.raises(ValueError, match="ToyNeck"):
        build(dict(UNIFORM, neck=dict(type="ToyNeck")))


def test_the_backbone_of_a_baseline_may_shift_in_time():
    cfg = dict(
        UNIFORM,
        backbone=dict(type="ResNetTSM", depth=18, num_segments=FRAMES, pretrained=None),
        cls_head=dict(
            type="TSMHead", num_classes=CLASSES, in_channels=512, num_segments=FRAMES, spatial_type="avg"
        ),
    )
    assert predict(MODELS.build(cfg).eval(), clips(1))[0].cost["mean_cost"] == 1
