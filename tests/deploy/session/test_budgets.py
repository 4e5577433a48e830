"""Budgets: of a call, of a session, in costs and in milliseconds."""

import json
from dataclasses import replace

import mmaction.models  # noqa: F401
import pytest

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy.budget import BudgetError
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.base import Engine
from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.deploy.session import VideoSession

pytest.importorskip("openvino")
from tests.deploy.session.toys import CURVE, FRAMES, clips, same


def test_a_budget_of_a_call_wins_over_that_of_the_session(session, engine):
    bundle = toy_like(session, budget=CURVE)
    saving, free = VideoSession(bundle, engine, budget=0.2), VideoSession(bundle, engine)
    frames = clips(1)[0]
    same(saving.run(frames), free.run(frames, budget="0.2"))
    same(saving.run(frames, budget=0.8), free.run(frames, budget=0.8))
    same(free.run(frames), session.run(frames))
    assert saving.run(frames).cost < free.run(frames, budget=0.8).cost
    for frame in frames:
        saving.push(frame)
        free.push(frame, budget=0.2)
    same(saving.result(), free.result())


def toy_like(session: VideoSession, **changes) -> Bundle:
    """The bundle of ``session`` with another manifest."""
    return replace(session.bundle, manifest={**session.bundle.manifest, **changes})


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0.9, r"a budget of 0\.9 is out of reach: this model spends 0\.2 to 0\.8"),
        ("0", r"a budget of 0 is out of reach: this model spends 0\.2 to 0\.8"),
        ("0.0001ms", r"a budget of 0\.0001 ms per clip is out of reach: this model spends .* ms per clip"),
        (
            "30",
            r"a budget of 30 is out of reach: a mean cost .* at most 1, such as 0\.4; .* a clip give 30ms",
        ),
        ("cheap", "'cheap' is neither a mean cost such as"),
    ],
)
def test_unfit_budgets(session, engine, videos, monkeypatch, budget, message):
    with pytest.raises(BudgetError, match=message):
        VideoSession(toy_like(session, budget=CURVE), engine, budget=budget)
    monkeypatch.setattr(session, "bundle", toy_like(session, budget=CURVE))
    frames = clips(1)[0]
    for call in (
        lambda: session.run(frames, budget=budget),
        lambda: session.choose(frames, budget=budget),
        lambda: session.push(frames[0], budget=budget),
        lambda: session.run_many(videos, budget=budget),  # at once, not at the first video
    ):
        with pytest.raises(BudgetError, match=message):
            call()


def test_a_budget_needs_a_curve(session):
    with pytest.raises(BudgetError, match="holds no budget curve: export it with a validation list"):
        session.run(clips(1)[0], budget=0.4)


def latency(of: Engine, **changes) -> dict:
    table = dict(engine=of.name, threads=of.threads, cpu=cpu_name())
    return dict(table, actions={"8": 10.0, "4": 4.0, "2": 2.0}, policy=1.0) | changes


def test_milliseconds_of_a_bundle_measured_here(session, engine):
    """The curve's rows take (10 + 1), (10 + 4 + 2 + 0) / 4 + 1 and 1 ms per frame, times six frames."""
    bundle = toy_like(session, budget=CURVE, latency_ms=latency(engine))
    timed = VideoSession(bundle, engine)
    frames = clips(1)[0]
    engine.frames.clear()
    for given in ("66ms", "900000ms"):  # more than all frames take is no limit
        same(timed.run(frames, budget=given), timed.run(frames, budget=0.8))
    same(timed.run(frames, budget="30ms"), timed.run(frames))
    same(timed.run(frames, budget="6ms"), timed.run(frames, budget=0.2))
    assert engine.frames["policy", 32] == 8 * FRAMES  # nothing was measured
    with pytest.raises(
        BudgetError, match="5 ms per clip is out of reach: this model spends 6 to 66 ms per clip"
    ):
        timed.run(frames, budget="5ms")


@pytest.mark.parametrize(
    "changes", [dict(engine="onnxruntime"), dict(threads=7), dict(cpu="another")], ids=str
)
def test_milliseconds_measured_elsewhere_are_measured_anew(session, engine, changes, monkeypatch):
    timed = VideoSession(toy_like(session, budget=CURVE, latency_ms=latency(engine, **changes)), engine)
    monkeypatch.setattr(
        timed, "measure_latency", lambda: latency(engine, actions={"8": 1.0, "4": 1.0, "2": 1.0})
    )
    same(timed.run(clips(1)[0], budget="12ms"), timed.run(clips(1)[0], budget=0.8))


def test_latency_is_measured_once_for_all_that_can_run(session, engine):
    measured = session.measure_latency()
    assert list(measured["actions"]) == ["8", "4", "2"]
    assert all(ms > 0 for ms in (*measured["actions"].values(), measured["policy"]))
    assert (measured["engine"], measured["threads"]) == ("openvino", 1) and measured["cpu"] == cpu_name()
    json.dumps(measured)
    engine.calls.clear()
    assert session.measure_latency() is measured and not engine.calls


@pytest.mark.parametrize(("budget", "action"), [(None, 0), (1, 0), (0.9, 1), ("0.25", 1), (0.07, 2)])
def test_without_a_policy_a_budget_picks_the_precision(plain, engine, budget, action):
    fixed, frames = VideoSession(plain, engine, budget=budget), clips(1)[0]
    result = fixed.run(frames)
    assert result.actions.tolist() == [action] * FRAMES
    assert set(engine.frames) == {("recognition", plain.actions[action].bits)}
    assert result.cost == plain.costs[action]
    for frame in frames:
        assert fixed.push(frame) == action
    same(fixed.result(), result)
    same(VideoSession(plain, engine).run(frames, budget=budget or 1), result)


def test_without_a_policy_budgets_have_limits_too(plain, engine):
    with pytest.raises(BudgetError, match=r"0 is out of reach: this model spends 0\.0625 to 1"):
        VideoSession(plain, engine, budget=0)
    table = latency(engine)
    del table["policy"]
    timed = VideoSession(
        replace(plain, manifest={**plain.manifest, "latency_ms": table}), engine, budget="30ms"
    )
    assert timed.run(clips(1)[0]).actions.tolist() == [1] * FRAMES  # 24 ms
    assert timed.run(clips(1)[0], budget="900000ms").actions.tolist() == [0] * FRAMES
