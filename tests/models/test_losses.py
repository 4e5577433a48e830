"""Losses against closed forms, values and gradients. Axes: N, T, A actions, K classes."""

import math

import pytest
import torch
from mmaction.registry import MODELS

from mmvideoiq.actions import ActionSpace
from tests.models.toys import ACTIONS

COSTS = (1.0, 0.25, 0.0625, 0.0)


def policy_loss(name, **options):
    return MODELS.build(dict(type=name, actions=ActionSpace(list(ACTIONS)), **options))


def one_hot(*rows):
    decisions = torch.zeros(1, len(rows), 4)
    decisions[0, range(len(rows)), rows] = 1
    return decisions.requires_grad_()


def test_efficiency_is_the_mean_cost_of_what_was_chosen():
    decisions = one_hot(0, 1, 2, 3)
    loss = policy_loss("EfficiencyLoss", weight=0.5)(decisions, torch.zeros(1, 4, 4))
    assert float(loss) == 0.5 * sum(COSTS) / 4
    loss.backward()
    expected = torch.tensor(COSTS) * 0.5 / 4
    torch.testing.assert_close(decisions.grad, expected.expand(1, 4, 4))


def test_the_multiplier_of_a_cost_target_follows_the_cost():
    loss = policy_loss("CostTargetLoss", target=0.25, weight=2.0, rate=0.1)
    decisions = one_hot(0, 3)  # costs 1/2, twice the target
    value = loss(decisions, torch.zeros(1, 2, 4))
    assert float(value) == 2.0 * 0.5
    assert float(loss.multiplier) == pytest.approx(2.0 + 0.1 * (2 - 1))
    value.backward()
    torch.testing.assert_close(decisions.grad, torch.tensor(COSTS).expand(1, 2, 4) * 2.0 / 2)

    for _ in range(30):  # costs nothing: a tenth less each time, not below zero
        loss(one_hot(3, 3), torch.zeros(1, 2, 4))
    assert float(loss.multiplier) == 0
    loss(one_hot(0, 3), torch.zeros(1, 2, 4))
    before = float(loss.multiplier)
    assert before == pytest.approx(0.1)
    loss.eval()(one_hot(0, 0), torch.zeros(1, 2, 4))
    assert float(loss.multiplier) == before  # it learns in training alone


def test_the_multiplier_is_part_of_the_checkpoint():
    loss = policy_loss("CostTargetLoss", target=0.25)
    loss(one_hot(0, 0), torch.zeros(1, 2, 4))
    other = policy_loss("CostTargetLoss", target=0.25)
    other.load_state_dict(loss.state_dict())
    assert float(other.multiplier) == float(loss.multiplier) == pytest.approx(1 + 0.05 * 3)


@pytest.mark.parametrize("options", [dict(target=0), dict(target=1.5), dict(target=0.1, rate=0)])
def test_a_cost_target_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="CostTargetLoss"):
        policy_loss("CostTargetLoss", **options)


def test_balance_is_the_squared_distance_from_uniform_over_all_actions():
    decisions = one_hot(0, 0, 0, 3)  # usage 3/4, 0, 0, 1/4
    loss = policy_loss("UsageBalanceLoss", weight=2.0)(decisions, torch.zeros(1, 4, 4))
    assert float(loss) == pytest.approx(2 * ((1 / 2) ** 2 + (1 / 4) ** 2 + (1 / 4) ** 2 + 0))
    loss.backward()
    expected = 2 * 2 * torch.tensor([1 / 2, -1 / 4, -1 / 4, 0]) / 4
    torch.testing.assert_close(decisions.grad, expected.expand(1, 4, 4))
    assert policy_loss("UsageBalanceLoss")(one_hot(0, 1, 2, 3), torch.zeros(1, 4, 4)) == 0


def test_entropy_of_the_policy():
    uniform = torch.full((2, 3, 4), math.log(1 / 4))
    entropy = policy_loss("PolicyEntropyLoss", weight=0.1)
    assert float(entropy(one_hot(0), uniform)) == pytest.approx(0.1 * math.log(4))
    sure = torch.tensor([0.0, -80.0, -80.0, -80.0]).expand(2, 3, 4)
    assert float(entropy(one_hot(0), sure)) == pytest.approx(0, abs=1e-6)

    scores = torch.randn(1, 1, 4, dtype=torch.float64, requires_grad=True)
    entropy(one_hot(0), scores.log_softmax(-1)).backward()
    p = scores.detach().softmax(-1)
    h = -(p * p.log()).sum()
    torch.testing.assert_close(scores.grad, 0.1 * -p * (p.log() + h))  # of H with respect to the logits


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_value_and_gradient(temperature):
    student = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    loss = MODELS.build(dict(type="DistillationLoss", weight=0.7, temperature=temperature))(student, teacher)
    target, scaled = (teacher / temperature).softmax(-1).detach(), student.detach() / temperature
    expected = 0.7 * temperature**2 * -(target * scaled.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    torch.testing.assert_close(student.grad, 0.7 * temperature * (scaled.softmax(-1) - target) / 5)
    assert teacher.grad is None


def test_distillation_gradient_vanishes_where_student_and_teacher_agree():
    logits = torch.randn(4, 3)
    student = logits.clone().requires_grad_()
    MODELS.build(dict(type="DistillationLoss"))(student, logits).backward()
    assert student.grad.abs().max() < 1e-7


def test_costs_follow_the_rule_of_the_action_space():
    space = ActionSpace(list(ACTIONS), cost="bitops")
    loss = MODELS.build(dict(type="EfficiencyLoss", actions=space, weight=1.0))
    assert float(loss(one_hot(1), torch.zeros(1, 1, 4))) == pytest.approx((4 / 32) ** 2)


def test_constants_are_not_in_the_checkpoint():
    assert not policy_loss("EfficiencyLoss").state_dict()


@pytest.mark.parametrize("name", ["EfficiencyLoss", "UsageBalanceLoss", "PolicyEntropyLoss"])
def test_negative_weight(name):
    with pytest.raises(ValueError, match=f"{name} weight=-1 must not be negative"):
        policy_loss(name, weight=-1)


def test_bad_distillation_options():
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        MODELS.build(dict(type="DistillationLoss", temperature=0))
    with pytest.raises(ValueError, match="DistillationLoss weight=-2 must not be negative"):
        MODELS.build(dict(type="DistillationLoss", weight=-2))
