import pytest
import torch
from mmaction.registry import MODELS

from mmvideoiq.actions import ActionSpace
from mmvideoiq.deploy.export.budget_curve import _decide_holding
from mmvideoiq.models.policy import gumbel_one_hot, one_hot_argmax, sample_gumbel
from mmvideoiq.quant.functional import dorefa_weight
from tests.models.toys import any_precision, build, clips, lived_in, policy, samples, slim, videoiq
from tests.reference.dense_videoiq import choose, recognize

SKIPS = [(1,), (1, 2, 4), (3,)]


def space(skips=(1,)):
    return ActionSpace([dict(bits=32), dict(bits=4), dict(bits=2), *(dict(skip=k) for k in skips)])


def head(skips=(1,), **options):
    options = dict(in_channels=6, hidden=10, dropout_ratio=0.0) | options
    made = MODELS.build(dict(type="PolicyHead", actions=space(skips), **options))
    with torch.no_grad():
        made.fc_policy.weight.normal_(0, 4)  # opinions, so that every action is chosen somewhere
    return made


@pytest.mark.parametrize("skips", SKIPS, ids=str)
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("hold_cell", [True, False])
def test_equals_the_oracle_clip_by_clip(skips, noisy, hold_cell):
    actual = head(skips, hold_cell=hold_cell)
    features = 3 * torch.randn(30, 9, 6)
    noise = sample_gumbel(torch.empty(30, 9, 3 + len(skips))) if noisy else None
    with torch.no_grad():
        result = actual(features, noise, temperature=1.0)
    chosen = result.decisions.argmax(-1)
    assert set(chosen.unique().tolist()) == set(range(3 + len(skips)))
    for n in range(30):
        actions, log_probs, _ = choose(
            actual, space(skips).skip_lengths, features[n], noise[n] if noisy else None
        )
        assert chosen[n].tolist() == actions
        torch.testing.assert_close(result.log_probs[n], log_probs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.decisions.sum(-1), torch.ones(30, 9))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("hold_cell", [True, False])
def test_the_fast_path_equals_the_stepwise_one_where_nothing_is_held(noisy, hold_cell):
    actual = head(hold_cell=hold_cell)
    assert not actual.holds
    features = torch.randn(7, 6, 6)
    noise = sample_gumbel(torch.empty(7, 6, 4)) if noisy else None
    fast = actual(features, noise, temperature=2.0)
    actual.holds = True
    slow = actual(features, noise, temperature=2.0)
    for one, other in zip(fast[:2], slow[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(out.decisions[..., 0].sum() + out.log_probs.square().sum(), actual.lstm.weight_hh_l0)
             for out in (fast, slow)]  # fmt: skip
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_held_frames_repeat_decision_and_probabilities():
    actual = head((4,))
    with torch.no_grad():
        actual.fc_policy.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1e4]))
        result = actual(torch.randn(3, 6, 6), None, 1.0)
        free = head((1,))
        free.load_state_dict(actual.state_dict())
        plain = free(torch.randn(3, 6, 6), None, 1.0)
    assert (result.decisions.argmax(-1) == 3).all()
    for t in (1, 2, 3):
        assert torch.equal(result.log_probs[:, t], result.log_probs[:, 0])
    assert torch.equal(result.log_probs[:, 5], result.log_probs[:, 4])
    assert plain.log_probs.shape == result.log_probs.shape


def test_the_cell_moves_on_under_a_skip_only_where_it_is_not_held():
    features = torch.randn(1, 6, 6)
    changed = features.clone()
    changed[:, 1:3] += 1  # frames left out, after the decision and before the next one
    for hold_cell in (True, False):
        actual = head((3,), hold_cell=hold_cell)
        with torch.no_grad():
            actual.fc_policy.bias[3] = 1e4  # skips
            actual.fc_policy.weight.mul_(1e3)  # so that log-probabilities tell of the state
            one, other = (actual(x, None, 1.0).log_probs[0] for x in (features, changed))
        assert torch.equal(one[:3], other[:3])
        assert torch.equal(one[3], other[3]) == hold_cell


@pytest.mark.parametrize("hold_cell", [True, False])
def test_every_way_to_ask_gives_the_oracle_s_actions(hold_cell):
    actions = [dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=2), dict(skip=3)]
    model = lived_in(build(videoiq(actions=actions, policy=policy(hold_cell=hold_cell)))).eval()
    x = clips(8, 7)
    with torch.no_grad():
        wanted = [recognize(model, clip) for clip in x]
        logits, chosen = torch.stack([w[0] for w in wanted]), [w[1] for w in wanted]
        assert [sample.policy_actions.tolist() for sample in model(x, mode="predict")] == chosen
        assert _decide_holding(model, model.policy.features(x), 0.0).tolist() == chosen
        torch.testing.assert_close(model(x, mode="tensor"), logits, rtol=1e-4, atol=1e-4)
    assert len({action for row in chosen for action in row}) > 2


@pytest.mark.parametrize("skips", [(1,), (1, 2)], ids=str)
def test_in_float64_nothing_is_rounded_to_float32(skips):
    actions = [dict(bits=32), dict(bits=4), *(dict(skip=k) for k in skips)]
    cfg = videoiq(actions=actions, policy=policy(num_classes=3), policy_cls_weight=0.5)
    model = lived_in(build(cfg)).double()
    losses = model(clips(4).double(), samples(4), mode="loss")
    assert {v.dtype for n, v in losses.items() if n.startswith("loss")} == {torch.float64}
    model.eval()
    with torch.no_grad():
        assert model(clips(4).double(), mode="tensor").dtype == torch.float64
        out = model.policy(clips(4).double(), sample=True)
    assert {part.dtype for part in out} == {torch.float64}
    assert sample_gumbel(out.log_probs).dtype == torch.float64


def test_temperature_to_zero_is_the_arg_max_under_the_same_noise():
    log_probs = torch.randn(50, 4).log_softmax(-1).requires_grad_()
    noise = sample_gumbel(log_probs.detach())
    wanted = one_hot_argmax(log_probs.detach() + noise)
    for temperature in (5.0, 1.0, 1e-3):
        assert torch.equal(gumbel_one_hot(log_probs, noise, temperature).round(), wanted)
    torch.testing.assert_close(((log_probs + noise) / 1e-4).softmax(-1), wanted, atol=1e-3, rtol=0)


def test_gradient_is_that_of_the_softened_sample():
    log_probs = torch.randn(5, 4, dtype=torch.float64).log_softmax(-1).requires_grad_()
    noise, upstream = sample_gumbel(log_probs.detach()), torch.randn(5, 4)
    tau = 0.7
    gumbel_one_hot(log_probs, noise, tau).backward(upstream.double())
    p = ((log_probs.detach() + noise) / tau).softmax(-1)
    expected = p * (upstream - (p * upstream).sum(-1, keepdim=True)) / tau
    torch.testing.assert_close(log_probs.grad, expected)


def test_samples_follow_the_probabilities():
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05])
    drawn = gumbel_one_hot(probs.log().expand(40000, 4), sample_gumbel(torch.empty(40000, 4)), 5.0)
    torch.testing.assert_close(drawn.mean(0), probs, atol=0.01, rtol=0)  # 4 standard deviations


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_is_finite_and_fine_in_half_precision(dtype):
    noise = sample_gumbel(torch.empty(200000, dtype=dtype))
    assert torch.isfinite(noise).all()
    assert noise.unique().numel() > 100000


@pytest.mark.parametrize("skips", SKIPS, ids=str)
@pytest.mark.parametrize("hold_cell", [True, False])
def test_gradient_reaches_every_parameter(skips, hold_cell):
    actual = build(dict(policy(num_classes=3, hold_cell=hold_cell), actions=space(skips))).train()
    out = actual(clips(6, 5), sample=True)
    (out.decisions[..., 0].sum() + out.class_logits.sum()).backward()
    for name, parameter in actual.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("hold_cell", [True, False])
def test_classifier_reads_the_mean_lstm_output(hold_cell):
    actual = head((1, 2), num_classes=3, hold_cell=hold_cell)
    features = torch.randn(4, 6, 6)
    with torch.no_grad():
        result = actual(features, None, 1.0)
        for n in range(4):
            mean = choose(actual, space((1, 2)).skip_lengths, features[n])[2]
            expected = actual.fc_cls.weight @ mean + actual.fc_cls.bias
            torch.testing.assert_close(result.class_logits[n], expected, rtol=1e-4, atol=1e-5)
    assert head()(features, None, 1.0).class_logits is None


def test_without_sampling_it_is_deterministic_and_with_sampling_it_follows_the_seed():
    actual = build(dict(policy(), actions=space())).eval()
    x = clips(5)
    assert torch.equal(actual(x, sample=False).decisions, actual(x, sample=False).decisions)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(actual(x, sample=True).decisions)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_order_of_the_frames_matters_and_later_frames_do_not_change_earlier_choices():
    actual = build(dict(policy(), actions=space((1, 2)))).eval()
    x = clips(3, 6)
    with torch.no_grad():
        whole, start = actual(x, sample=False), actual(x[:, :4], sample=False)
        other = actual(x.flip(1), sample=False)
    torch.testing.assert_close(whole.log_probs[:, :4], start.log_probs, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(whole.log_probs[:, -1], other.log_probs[:, 0], atol=1e-4)


# --- input size ---


def test_frames_are_resized_bilinearly_and_not_touched_at_their_own_size():
    actual = build(dict(policy(input_size=12), actions=space()))
    x = torch.arange(24.0).expand(1, 3, 24, 24)
    torch.testing.assert_close(actual.resize(x)[0, 0, 0], torch.arange(12) * 2 + 0.5)
    actual.input_size = None
    assert actual.resize(x) is x


@pytest.mark.parametrize("shape", [(20, 40), (40, 20)])
def test_input_larger_than_the_frame(shape):
    actual = build(dict(policy(input_size=32), actions=space()))
    message = f"policy input_size=32 is larger than the frame \\({shape[0]}x{shape[1]}\\): use at most 20"
    with pytest.raises(ValueError, match=message):
        actual(torch.zeros(1, 2, 3, *shape), sample=False)


# --- weights at 32 bits ---


def test_named_convolutions_read_their_weights_at_32_bits():
    names = ["conv1.conv", "stages.0.0.conv1.conv"]
    plain = build(dict(policy(), actions=space())).eval()
    actual = build(dict(policy(), quantize_32=names, actions=space())).eval()
    assert list(actual.state_dict()) == list(plain.state_dict())
    actual.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for name in names:
            conv = plain.backbone.get_submodule(name)
            conv.weight.copy_(dorefa_weight(conv.weight, 32, 32, overflow=True))
    x = clips(2)
    torch.testing.assert_close(actual.features(x), plain.features(x))
    assert actual.backbone.get_submodule(names[0]).weight.abs().max() < 1  # the value read is 1
    actual.train()(x, sample=True).log_probs.square().sum().backward()
    for name in names:
        assert actual.backbone.get_submodule(name).weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["conv1", "conv9.conv"])
def test_quantize_32_names_convolutions(name):
    with pytest.raises(
        ValueError, match=f"quantize_32 names '{name}', which is not a convolution of SlimResNet"
    ):
        build(dict(policy(), quantize_32=[name], actions=space()))


def test_checkpoint_of_another_action_space():
    with pytest.raises(ValueError, match=r"fc_policy chooses among 4 actions, the model's among 5"):
        head((1, 2)).load_state_dict(head().state_dict(), strict=False)


def test_input_size_below_one():
    with pytest.raises(ValueError, match="policy input_size=0 must be at least 1"):
        MODELS.build(dict(policy(input_size=0), actions=space()))


QUANTIZED = dict(precisions=(8,), weight=dict(type="nested"), quantize_stem=True, input_range=(-4.0, 4.0))


def test_a_policy_at_8_bits_reads_resized_frames_and_float_checkpoints():
    cfg = dict(policy(), backbone=any_precision(slim(4), **QUANTIZED), actions=space())
    quantized, twin = build(cfg), lived_in(build(dict(policy(), actions=space()), seed=1))
    quantized.load_state_dict(twin.state_dict(), strict=False)
    quantized.eval(), twin.eval()
    frames = clips(4).clamp(-4, 4)
    quantized.calibrate_(frames.flatten(0, 1))
    noise = (quantized.features(frames) - twin.features(frames)).square().mean()
    assert 0 < noise < 1e-3 * twin.features(frames).square().mean()
    step = 8 / 255  # the levels of resized frames lie 1/64 of it lower
    assert quantized.backbone.input_levels() == pytest.approx((-4 - step / 64, 4 - step / 64))
    own = build(dict(policy(input_size=None), backbone=cfg["backbone"], actions=space()))
    assert own.backbone.input_levels() == (-4, 4)


@pytest.mark.parametrize("precisions", [(8, 4), (32,), ("8@12",)])
def test_a_policy_has_one_precision(precisions):
    backbone = any_precision(slim(4), **dict(QUANTIZED, precisions=precisions))
    with pytest.raises(
        ValueError, match=r"runs at one precision of at most 8 bits .* such as precisions=\(8,\)$"
    ):
        build(dict(policy(), backbone=backbone, actions=space()))


def test_the_cost_of_a_policy_at_8_bits():
    frame = (3, 24, 24)
    plain = build(videoiq())._model_cost(frame, with_policy=True)
    cfg = dict(policy(), backbone=any_precision(slim(4), **QUANTIZED))
    cost = build(videoiq(policy=cfg))._model_cost(frame, with_policy=True)
    # 16x16 frames: stem 27 * 4 * 64, two blocks of 3x3 convolutions, and the second's shortcut
    macs = 108 * 64 + 2 * 144 * 64 + (288 + 576 + 32) * 16
    assert cost.policy_macs == plain.policy_macs and cost.policy_quantized_macs == macs
    assert cost.policy_bitops == plain.policy_bitops - (1024 - 64) * macs
    assert cost.paper_gflops(0.5, 4) == plain.paper_gflops(0.5, 4)  # which bills float like 8 bits
    fewer = (108 + 2 * 144 + 288 + 576 + 32) * 3  # bytes
    clips = 10 * 4  # the learned clips are parameters
    assert plain.weight_bytes((4,)) - cost.weight_bytes((4,)) in range(fewer - clips, fewer + 1)
