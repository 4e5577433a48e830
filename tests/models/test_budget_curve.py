"""Budgets in training: the curve equals tests with each cost multiplier."""

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample

from mmvideoiq.deploy.export.budget_curve import measure_curve, set_budget
from tests.models import toys

FRAMES = 6


@pytest.fixture(params=["likeliest", "zero", "holding"])
def model(request):
    options = dict(all_skip="zero" if request.param == "zero" else "likeliest")
    if request.param == "holding":
        options["actions"] = [*toys.ACTIONS, dict(skip=2)]
    return toys.lived_in(toys.build(toys.videoiq(**options))).eval()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(3)
    found = []
    for count in (3, 3, 1):
        inputs = torch.randn(count, FRAMES, 3, toys.SIZE, toys.SIZE, generator=generator)
        labels = torch.randint(toys.CLASSES, (count,), generator=generator)
        found.append(
            dict(inputs=list(inputs), data_samples=[ActionDataSample().set_gt_label(int(k)) for k in labels])
        )
    return found


def tested(model, batches):
    """Mean cost and accuracy of the model's own testing."""
    actions, right = [], []
    for batch in batches:
        for sample in model.predict(torch.stack(batch["inputs"]), batch["data_samples"]):
            actions.append(sample.policy_actions.numpy())
            right.append(int(sample.pred_label) == int(sample.gt_label))
    return np.array(model.actions.costs)[np.array(actions)].mean(), np.mean(right)


@torch.no_grad()
def test_every_row_is_what_testing_gives(model, batches):
    curve = measure_curve(model, batches)
    assert len(curve) > 2
    assert any(row["multiplier"] == 0 for row in curve)
    for row in curve:
        model.policy.cost_multiplier = row["multiplier"]
        cost, accuracy = tested(model, batches)
        assert row["cost"] == pytest.approx(cost)
        assert row["accuracy"] == pytest.approx(accuracy)
    assert curve[0]["cost"] == pytest.approx(1.0)  # spent without limit: 32 bits everywhere
    costs = [row["cost"] for row in curve]
    assert costs == sorted(costs, reverse=True)


@torch.no_grad()
def test_a_budget_sets_the_multiplier(model, batches):
    free, _ = tested(model, batches)
    multiplier = set_budget(model, "0.9", batches)
    assert multiplier < 0 and model.policy.cost_multiplier == multiplier
    expensive, _ = tested(model, batches)
    assert free < expensive and expensive == pytest.approx(
        0.9, abs=0.2
    )  # seven clips: the cost moves in steps


def test_probabilities_include_the_multiplier_and_training_ignores_it():
    model = toys.lived_in(toys.build(toys.videoiq()))
    frames = torch.randn(2, FRAMES, 3, toys.SIZE, toys.SIZE, generator=torch.Generator().manual_seed(0))
    model.eval()
    plain = model.policy(frames)
    torch.manual_seed(0)
    sampled = model.policy(frames, sample=True)
    model.policy.cost_multiplier = 1.5
    want = (plain.log_probs - 1.5 * torch.tensor(model.actions.costs)).log_softmax(-1)
    torch.testing.assert_close(model.policy(frames).log_probs, want)
    torch.manual_seed(0)
    assert torch.equal(model.policy(frames, sample=True).log_probs, sampled.log_probs)


@pytest.mark.parametrize(
    ("budget", "message"),
    [("30ms", "give a mean cost"), ("5", "out of reach"), ("much", "neither a mean cost")],
)
def test_unfit_budgets(batches, budget, message):
    model = toys.lived_in(toys.build(toys.videoiq())).eval()
    with pytest.raises(ValueError, match=message):
        set_budget(model, budget, batches)
    assert model.policy.cost_multiplier == 0


def test_models_without_a_policy_and_empty_lists(batches):
    with pytest.raises(ValueError, match="has no policy"):
        measure_curve(toys.build(toys.any_precision_recognizer()), batches)
    with pytest.raises(ValueError, match="validation list is empty"):
        measure_curve(toys.build(toys.videoiq()).eval(), [])


def test_several_labels_have_no_accuracy(batches):
    for batch in batches:
        batch["data_samples"] = [ActionDataSample().set_gt_label([0, 1]) for _ in batch["inputs"]]
    model = toys.lived_in(toys.build(toys.videoiq())).eval()
    assert all(row["accuracy"] is None for row in measure_curve(model, batches))
