"""The session: what the simulation computes, clip by clip and frame by frame, and nothing that was not chosen."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mmaction.models  # noqa: F401
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

import mmvideoiq.models  # noqa: F401
from mmvideoiq.deploy import stream as stream_module
from mmvideoiq.deploy.budget import BudgetError
from mmvideoiq.deploy.bundle.bundle import Bundle, write_bundle
from mmvideoiq.deploy.bundle.graph import Graph, Node
from mmvideoiq.deploy.engines.base import Engine, Runner
from mmvideoiq.deploy.engines.cpu import cpu_name
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.export import Preprocessing, export
from mmvideoiq.deploy.session import Result, VideoSession
from mmvideoiq.video.reader import VideoError, read_frames
from tests.conftest import write_video
from tests.deploy.toy_bundle import toy_parts
from tests.models.toys import ACTIONS, CLASSES, SIZE, any_precision, build, lived_in, videoiq

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


@pytest.fixture(scope="module", autouse=True)
def _mmaction_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope("mmaction")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


@pytest.fixture(scope="module")
def engine() -> CountingEngine:
    return CountingEngine(open_engine("openvino", threads=1))


@pytest.fixture(autouse=True)
def _count_anew(engine):
    engine.calls.clear()
    engine.frames.clear()


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


@pytest.fixture(
    scope="module",
    params=[
        (ACTIONS, "likeliest"),
        (ACTIONS, "zero"),
        (HOLDING, "likeliest"),
        (HOLDING, "zero"),
        (SIZED, "zero"),
    ],
    ids=["likeliest", "zero", "holding-likeliest", "holding-zero", "sized"],
)
def pair(request, tmp_path_factory, engine) -> tuple[nn.Module, VideoSession]:
    """A model, and the session of its bundle."""
    actions, all_skip = request.param
    model, path = toy_model(actions, all_skip), tmp_path_factory.mktemp("exported") / "bundle"
    rows = [dict(row, usage=row["usage"] + [0.0] * (len(actions) - len(ACTIONS))) for row in CURVE]
    export(
        model,
        path,
        classes=[f"class {k}" for k in range(CLASSES)],
        preprocessing=Preprocessing(frames=FRAMES, crop=SIZE),
        budget=rows,
    )
    return model, VideoSession(Bundle.open(path), engine)


@pytest.fixture(scope="module")
def session(tmp_path_factory, engine) -> VideoSession:
    """Of a small bundle with a policy, for whatever needs no model to compare with."""
    return VideoSession(toy_bundle(tmp_path_factory.mktemp("toy")), engine)


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


# --- clips ----------------------------------------------------------------------------------------------------


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


# --- what was not chosen is not computed --------------------------------------------------------------------------


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


def test_a_stream_computes_each_frame_once(pair, engine):
    _, session = pair
    session.reset()
    for frames in clips(3):
        for frame in frames:
            engine.frames.clear()
            action = session.actions[session.push(frame)]
            engine.frames.pop(("policy", 32), None)
            assert engine.frames == ({} if action.is_skip else {("recognition", action.mode): 1})


# --- streams --------------------------------------------------------------------------------------------------------


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


# --- videos ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    for i, frames in enumerate(clips(4, frames=10, seed=3)):
        write_video(folder / f"{i}.mp4", np.tile(frames, (1, 2, 4, 1)))
    (folder / "text.mp4").write_text("no video")
    return [folder / name for name in ("0.mp4", "1.mp4", "text.mp4", "2.mp4", "gone.mp4", "3.mp4")]


@pytest.mark.parametrize("decoders", [1, 2, "auto"])
def test_many_videos_keep_their_order_and_bad_ones_their_place(session, videos, decoders):
    outcomes = list(session.run_many(videos, decoders=decoders))
    for path, outcome in zip(videos, outcomes, strict=True):
        if path.name in ("text.mp4", "gone.mp4"):
            assert isinstance(outcome, VideoError) and str(outcome).startswith(f"{path}: ")
        else:
            same(outcome, session.run(read_frames(path, session.preprocessing)))
            assert outcome.times["decode"] > 0


def test_one_video(session, videos):
    with session:
        same(session.run_video(videos[0]), session.run(read_frames(videos[0], session.preprocessing)))
        with pytest.raises(VideoError, match=r"text\.mp4: is not a video"):
            session.run_video(videos[2])
        same(session.run_video(str(videos[1])), session.run(read_frames(videos[1], session.preprocessing)))
    assert session.run_video(videos[0]).frames == FRAMES  # closed, it starts again
    session.close()


def test_paths_are_read_as_needed(session, videos):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield videos[0]

    outcomes = session.run_many(endless())
    for count in range(1, 4):
        assert isinstance(next(outcomes), Result)
        assert len(asked) == count + 1
    outcomes.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("decoder") and not _ends(thread)
    ]


def _ends(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_an_error_of_ours_is_not_taken_for_a_bad_video(session, videos, monkeypatch):
    def broken(frames, *, budget=None):
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(session, "run", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        list(session.run_many(videos))


def test_decoders_must_be_some(session, videos):
    with pytest.raises(ValueError, match="decoders=0 must be 'auto' or at least 1"):
        session.run_many(videos, decoders=0)


# --- budgets ---------------------------------------------------------------------------------------------------


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
        ("900000ms", r"a budget of 900000 ms per clip is out of reach: this model spends .* ms per clip"),
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
    same(timed.run(frames, budget="66ms"), timed.run(frames, budget=0.8))
    same(timed.run(frames, budget="30ms"), timed.run(frames))
    same(timed.run(frames, budget="6ms"), timed.run(frames, budget=0.2))
    assert engine.frames["policy", 32] == 6 * FRAMES  # nothing was measured
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


# --- bundles of other kinds -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Bundle:
    """Without a policy."""
    return toy_bundle(tmp_path_factory.mktemp("plain"), policy=False)


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


@pytest.fixture(scope="module")
def shifting(tmp_path_factory) -> Bundle:
    """Features are shifted between neighbouring frames, three by three."""
    parts, path = (
        toy_parts(frames=FRAMES, size=SIZE, policy=False),
        tmp_path_factory.mktemp("shift") / "bundle",
    )
    graph, nodes = parts["graphs"]["recognition"], []
    for node in graph:
        nodes.append(replace(node, inputs=("shift",)) if node.name == "pool" else node)
        if node.name == "stem.relu":
            nodes.append(Node(op="shift", name="shift", inputs=(node.name,), attrs=dict(frames=3, fold=2)))
    parts["graphs"]["recognition"] = Graph(inputs=graph.inputs, nodes=tuple(nodes), outputs=graph.outputs)
    write_bundle(path, **parts)
    return Bundle.open(path)


def test_shifted_features_are_computed_for_whole_clips_at_one_precision(shifting, plain, engine):
    session, frames = VideoSession(shifting, engine), clips(1)[0]
    whole = session.run(frames)
    assert engine.calls == {("recognition", 8): 1}
    halves = [session.run(half).logits for half in (frames[:3], frames[3:])]
    np.testing.assert_allclose(whole.logits, np.mean(halves, axis=0), atol=1e-4)
    backwards = session.run(frames[::-1])
    assert np.abs(backwards.logits - whole.logits).max() > 1e-3  # the neighbours count
    same(session.run(frames, actions=np.full(FRAMES, 2)), session.run(frames, budget=0.0625))


def test_shifted_features_cannot_be_torn_apart(shifting, engine):
    session, frames = VideoSession(shifting, engine), clips(1)[0]
    with pytest.raises(ValueError, match="give all of them one action"):
        session.run(frames, actions=np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"T a multiple of 3; got uint8 \(4,"):
        session.run(frames[:4])
    with pytest.raises(ValueError, match=r"takes no streams: use run\(\) on clips of 3 frames"):
        session.push(frames[0])


# --- bad input ------------------------------------------------------------------------------------------------------

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


# --- alone ----------------------------------------------------------------------------------------------------------


def test_it_needs_neither_torch_nor_the_host_nor_an_engine_to_be_imported():
    code = """
import sys
class Blocker:
    names = {"torch", "mmengine", "mmcv", "mmaction", "openvino", "onnx", "onnxruntime", "av", "decord", "cv2", "rich"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import mmvideoiq.deploy.session
assert not Blocker.names & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_a_session_is_for_one_thread_at_a_time(tmp_path):
    write_bundle(tmp_path / "bundle", **toy_parts(size=32))
    entered, leave = threading.Event(), threading.Event()

    class WaitingEngine(CountingEngine):
        def load(self, bundle: Bundle, part: str, bits: int) -> Runner:
            runner = super().load(bundle, part, bits)

            def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
                entered.set()
                assert leave.wait(30)
                return runner(inputs)

            return run

    engine = WaitingEngine(open_engine("openvino", threads=1))
    session = VideoSession(Bundle.open(tmp_path / "bundle"), engine)
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(session.run(frames)))
    thread.start()
    assert entered.wait(30)
    try:
        for call in (
            lambda: session.run(frames),
            lambda: session.choose(frames),
            lambda: session.push(frames[0]),
            lambda: session.run_video("a.mp4"),
            session.result,
            session.reset,
            session.measure_latency,
        ):
            with pytest.raises(RuntimeError, match="another thread is using this session"):
                call()
    finally:
        leave.set()
        thread.join()
    np.testing.assert_array_equal(
        session.run(frames).logits, results[0].logits
    )  # one after the other is fine
