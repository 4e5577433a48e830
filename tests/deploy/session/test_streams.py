"""Streams: at every frame they are the clip so far."""

from dataclasses import replace

import mmaction.models  # noqa: F401
import numpy as np
import pytest

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy import stream as stream_module

pytest.importorskip("openvino")
from tests.deploy.session.toys import clips, same


def test_a_stream_computes_each_frame_once(pair, engine):
    _, session = pair
    session.reset()
    for frames in clips(3):
        for frame in frames:
            engine.frames.clear()
            action = session.actions[session.push(frame)]
            engine.frames.pop(("policy", 32), None)
            assert engine.frames == ({} if action.is_skip else {("recognition", action.mode): 1})


@pytest.mark.parametrize("budget", [None, 0.25, 0.2])
def test_at_every_frame_a_stream_is_the_clip_so_far(pair, budget):
    _, session = pair
    for frames in clips(4):
        session.reset()
        for count, frame in enumerate(frames, 1):
            session.push(frame, budget=budget)
            same(session.result(), session.run(frames[:count], budget=budget))


def test_the_forced_frame_of_a_stream_is_computed_once(pair, engine):
    model, session = pair
    skipping = next(
        frames
        for frames in clips(12)
        if (session.choose(frames, budget=0.2)[1].argmax(-1) >= 3).all()  # places of the skips
    )
    session.reset()
    for frame in skipping:
        session.push(frame, budget=0.2)
    engine.frames.clear()
    first, second = session.result(), session.result()
    assert sum(engine.frames.values()) == (model.all_skip == "likeliest")
    same(first, second)


def test_reset_begins_anew_and_clips_leave_a_stream_alone(session):
    first, second = clips(2)
    for frame in second:
        session.push(frame)
    session.reset()
    with pytest.raises(ValueError, match="no frames yet: push"):
        session.result()
    for frame in first:
        session.push(frame)
        session.run(second)
    same(session.result(), session.run(first))


def test_a_pushed_frame_may_be_written_over(pair):
    _, session = pair
    for frames in clips(6):
        session.reset()
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            session.push(buffer, budget=0.2)
        buffer[:] = 0
        same(session.result(), session.run(frames, budget=0.2))


def test_a_long_stream_remembers_a_bounded_past(pair, monkeypatch):
    monkeypatch.setattr(stream_module, "HISTORY", 4)
    _, session = pair
    for frames in clips(6, frames=9):
        session.reset()
        for frame in frames:
            session.push(frame, budget=0.2)
        got, want = session.result(), session.run(frames, budget=0.2)
        same(replace(got, actions=want.actions, probs=want.probs), want)
        np.testing.assert_array_equal(got.actions, want.actions[-4:])
        np.testing.assert_allclose(got.probs, want.probs[-4:], atol=1e-5)
    session.reset()
