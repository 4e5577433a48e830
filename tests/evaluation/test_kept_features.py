"""Features that are looked up are those that would be computed."""

import torch
from mmengine.config import Config

from mmvideoiq.evaluation import kept_features
from mmvideoiq.evaluation.kept_features import KeptFeatures
from tests.evaluation.conftest import build

ACTIONS = torch.tensor([[0, 3, 1], [2, 3, 3], [3, 3, 3]])


def recognizer(trained):
    model = build(Config.fromfile(trained / "videoiq.py")).eval()
    model.load_state_dict(torch.load(trained / "videoiq.pth")["state_dict"])
    return model


def clips():
    return torch.randn(3, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_they_are_the_computed_ones(trained):
    plain, model = recognizer(trained), recognizer(trained)
    KeptFeatures(model, frames=9)
    with torch.no_grad():
        for actions in (ACTIONS, ACTIONS.flip(1)):
            expected, counted = plain.features_of_chosen_actions(clips(), actions)
            found, processed = model.features_of_chosen_actions(clips(), actions)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            assert torch.equal(processed, counted) and processed.dtype == counted.dtype
        torch.testing.assert_close(
            model.features_of_every_action(clips()), plain.features_of_every_action(clips())
        )


def test_they_are_computed_once_for_each_network(trained, monkeypatch):
    model = recognizer(trained)
    computed, compute = [], model.compute_every_action
    monkeypatch.setattr(
        model, "compute_every_action", lambda inputs: computed.append(len(inputs)) or compute(inputs)
    )
    kept = KeptFeatures(model, frames=9)
    kept.follow()
    for _ in range(2):
        model.features_of_chosen_actions(clips(), ACTIONS)
    assert computed == [3]
    with torch.no_grad():
        model.policy.head.fc_policy.weight.add_(1)  # another policy over the same network
    kept.follow()
    model.features_of_chosen_actions(clips(), ACTIONS)
    assert computed == [3]
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    kept.follow()
    model.features_of_chosen_actions(clips(), ACTIONS)
    assert computed == [3, 3]


def test_long_lists_are_computed_as_ever(trained, monkeypatch):
    monkeypatch.setattr(kept_features, "MAX_BYTES", 3 * 3 * 3 * 8 * 4 - 1)
    model = recognizer(trained)
    KeptFeatures(model, frames=9).follow()
    assert "features_of_chosen_actions" not in vars(model)
    KeptFeatures(model, frames=8)
    assert "features_of_chosen_actions" in vars(model)
