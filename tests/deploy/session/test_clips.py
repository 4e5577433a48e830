"""Clips: what the simulation computes, and nothing that was not chosen."""

from collections import Counter

import mmaction.models  # noqa: F401
import numpy as np
import pytest
import torch

import mmvideoiq.models  # noqa: F401

pytest.importorskip("openvino")
from tests.deploy.session.toys import FRAMES, MULTIPLIERS, clips, decibels, normalized, same


@pytest.mark.parametrize("budget", MULTIPLIERS)
@torch.no_grad()
def test_a_clip_equals_the_simulation(pair, budget):
    model, session = pair
    model.policy.cost_multiplier = MULTIPLIERS[budget]
    taken, logits, simulated = Counter(), [], []
    for frames in clips(12):
        (sample,) = model.predict(normalized(model, frames)[None])
        want = model.recognize(normalized(model, frames)[None])
        got = session.run(frames, budget=budget)
        np.testing.assert_array_equal(got.actions, want.actions[0])
        np.testing.assert_allclose(got.probs, want.policy.log_probs[0].exp(), atol=1e-3)
        np.testing.assert_allclose(got.scores, sample.pred_score, atol=1e-3)
        assert got.label == int(sample.pred_label)
        assert got.cost == pytest.approx(np.array(model.actions.costs)[want.actions[0]].mean())
        taken.update(got.actions.tolist())
        logits.append(got.logits)
        simulated.append(want.logits[0].numpy())
    assert decibels(np.array(logits), np.array(simulated)) >= 40
    assert len(taken) > 1 or MULTIPLIERS[budget]  # the clips ask for something different


def test_clips_of_skips_alone_are_among_those(pair):
    model, session = pair
    seen = [session.run(frames, budget=0.2) for frames in clips(12)]
    skips = np.array(session.actions.skip_mask)
    processed = [int((~skips[result.actions]).sum()) for result in seen]
    if model.all_skip == "zero":
        assert 0 in processed
        empty = seen[processed.index(0)]
        np.testing.assert_array_equal(empty.logits, session.bundle.head()[1])
        assert empty.cost == 0
    else:
        forced = seen[processed.index(1)]
        assert (
            forced.probs.argmax(-1) >= (~skips).sum()
        ).all()  # the policy alone would have skipped them all


def test_any_number_of_frames(pair):
    model, session = pair
    for count in (1, 2, 9):
        frames = clips(1, count, seed=count)[0]
        with torch.no_grad():
            model.policy.cost_multiplier = 0.0
            want = model.recognize(normalized(model, frames)[None])
        got = session.run(frames)
        np.testing.assert_array_equal(got.actions, want.actions[0])
        np.testing.assert_allclose(got.logits, want.logits[0], atol=1e-2)


def test_a_result_is_consistent(session):
    result = session.run(clips(1)[0])
    assert result.scores.dtype == result.logits.dtype == np.float32 and result.actions.dtype == np.int64
    assert result.scores.sum() == pytest.approx(1, abs=1e-5)
    assert result.label == result.logits.argmax() and result.score == result.scores[result.label]
    assert result.name == session.bundle.manifest["classes"][result.label]
    assert result.probs.shape == (FRAMES, len(session.actions)) and result.frames == FRAMES
    np.testing.assert_allclose(result.probs.sum(-1), 1, atol=1e-5)
    assert result.cost == pytest.approx(session.bundle.costs[result.actions].mean())
    assert result.times["policy"] > 0 and result.times["recognition"] > 0 and result.times["decode"] == 0


def test_choose_is_what_run_does(session):
    for frames in clips(4):
        actions, probs = session.choose(frames)
        result = session.run(frames)
        np.testing.assert_array_equal(actions, result.actions)
        np.testing.assert_array_equal(probs, result.probs)


def test_each_group_runs_once_and_skips_never(session, engine):
    given = np.array([3, 1, 0, 1, 2, 3])
    result = session.run(clips(1)[0], actions=given)
    assert engine.calls == {("recognition", 8): 1, ("recognition", 4): 1, ("recognition", 2): 1}
    assert engine.frames == {("recognition", 8): 1, ("recognition", 4): 2, ("recognition", 2): 1}
    np.testing.assert_array_equal(result.actions, given)
    np.testing.assert_array_equal(result.probs, np.eye(4)[given])
    alone = [session.run(frame[None], actions=given[[t]]).logits for t, frame in enumerate(clips(1)[0])]
    processed = [logits for logits, action in zip(alone, given, strict=True) if action != 3]
    np.testing.assert_allclose(result.logits, np.mean(processed, axis=0), atol=1e-4)
    np.testing.assert_array_equal(alone[0], session.bundle.head()[1])


def test_the_policys_own_choice_is_all_that_runs(pair, engine):
    _, session = pair
    for budget in MULTIPLIERS:
        for frames in clips(6):
            engine.frames.clear()
            actions = session.run(frames, budget=budget).actions
            modes = [session.actions[a].mode for a in actions if not session.actions[a].is_skip]
            looked = engine.frames.pop(("policy", 32))
            assert engine.frames == {("recognition", mode): n for mode, n in Counter(modes).items()}
            held = any(session.actions[a].skip == 2 for a in actions)
            assert looked <= FRAMES and (held or looked == FRAMES)


GOOD = clips(1)[0]


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (GOOD.astype(np.float32), r"float32 \(6, 24, 24, 3\)"),
        (GOOD.astype(np.int8), r"int8 \(6, 24, 24, 3\)"),
        (GOOD[0], r"uint8 \(24, 24, 3\)"),
        (GOOD[:, :23], r"uint8 \(6, 23, 24, 3\)"),
        (GOOD[..., :1], r"uint8 \(6, 24, 24, 1\)"),
        (GOOD.transpose(0, 3, 1, 2), r"uint8 \(6, 3, 24, 24\)"),
        (GOOD[:0], r"uint8 \(0, 24, 24, 3\)"),
        (GOOD.tolist(), "got list"),
        (torch.from_numpy(GOOD), "got Tensor"),
    ],
    ids=str,
)
def test_frames_of_another_kind(session, frames, got):
    with pytest.raises(ValueError, match=rf"uint8 \(T, 24, 24, 3\), RGB; .*{got}") as caught:
        session.run(frames)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "frame", [GOOD, GOOD[0].astype(float), GOOD[0, :9], None], ids=lambda f: str(np.shape(f))
)
def test_a_pushed_frame_of_another_kind(session, frame):
    session.reset()
    with pytest.raises(ValueError, match=r"uint8 \(24, 24, 3\), RGB"):
        session.push(frame)
    with pytest.raises(ValueError, match="no frames yet"):
        session.result()


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.zeros(5, int), ValueError, r"one per frame, \(6,\), got \(5,\)"),
        (np.full(6, 4), ValueError, r"must be in 0\.\.3"),
        (np.full(6, -1), ValueError, r"must be in 0\.\.3"),
        (np.zeros(6), TypeError, "must be integers"),
    ],
)
def test_actions_of_another_kind(session, actions, error, message):
    with pytest.raises(error, match=message):
        session.run(GOOD, actions=actions)


def test_actions_and_a_budget_contradict_each_other(session):
    with pytest.raises(ValueError, match="a budget or actions, not both"):
        session.run(GOOD, actions=np.zeros(6, int), budget=0.5)


def test_views_are_taken_too(session):
    backwards = GOOD[::-1, :, ::-1]
    same(session.run(backwards), session.run(backwards.copy()))
