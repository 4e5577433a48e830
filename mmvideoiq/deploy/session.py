"""Run a bundle: choose a precision for every frame, compute what was chosen and nothing else, average, classify.

Twin: ``mmvideoiq.models.VideoIQRecognizer`` in testing. Axes: T frames, H W, A actions, D features, K classes.
"""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from queue import SimpleQueue
from statistics import median
from typing import Any

import numpy as np

from mmvideoiq.deploy.budget import (
    BudgetError,
    action_for,
    best_processed,
    decide,
    log_softmax,
    multiplier_for,
    parse_budget,
    process_chance,
    turn,
)
from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.deploy.engines import Engine, Runner, open_engine
from mmvideoiq.deploy.video import Decoder, Preprocessing, VideoError

HISTORY = 1024  # frames of a stream whose actions are remembered
MEASURED_FRAMES, MEASURED_RUNS = 4, 5


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a clip, or a stream so far, is.

    Attributes:
        label, name, score: the likeliest class, its name, its probability.
        scores, logits: float32 (K,); the scores are the softmax of the logits.
        actions: int64 (T,), what was done with each frame; of a stream the last 1024 at most.
        probs: float32 (T, A), the policy's probabilities, after the budget dial; without a policy 1 and 0.
        cost: mean cost of all frames.
        frames: how many frames it is of.
        times: seconds for ``decode``, ``policy`` and ``recognition``; decoding overlaps the others.
    """

    label: int
    name: str
    score: float
    scores: np.ndarray
    logits: np.ndarray
    actions: np.ndarray
    probs: np.ndarray
    cost: float
    frames: int
    times: dict[str, float]


@dataclass
class _Skipped:
    """A frame that was skipped, and may have to be processed after all."""

    place: int
    frame: np.ndarray
    log_probs: np.ndarray
    chance: float
    features: np.ndarray | None = None  # (D,), once asked for


@dataclass
class _Stream:
    """What is kept between two frames of a stream."""

    state: dict[str, np.ndarray]
    total: np.ndarray  # float64 (D,), sum of the processed frames' features
    processed: int = 0
    frames: int = 0
    cost: float = 0.0
    hold: int = 0  # frames for which the last decision still stands
    log_probs: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (A,), of the last decision
    skipped: _Skipped | None = None  # the likeliest to be processed, while none was
    history: deque[tuple[int, np.ndarray]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    times: dict[str, float] = field(default_factory=lambda: dict(decode=0.0, policy=0.0, recognition=0.0))


class VideoSession:
    """A bundle on an engine.

    A budget is a mean cost per frame (0.4) or a time per clip ('30ms', a clip being the ``frames`` of the bundle's
    preprocessing); it turns the policy's dial (:mod:`mmvideoiq.deploy.budget`), or picks one of the precisions of a
    bundle without a policy, whose default is the highest. Times come from the bundle where it was measured on this
    CPU with this engine and as many threads, else from :meth:`measure_latency`.

    A bundle whose graph shifts features between neighbouring frames computes whole clips at one precision: grouping
    would tear the neighbours apart. It takes no streams.

    Not for several threads at once.

    Args:
        bundle: an opened bundle.
        engine: of :func:`mmvideoiq.deploy.engines.open_engine`.
        budget: for every call that brings none; None leaves the policy as trained.

    Attributes:
        bundle, engine: as given.
        actions: the action space.
        frame_shape: (H, W, 3).
        preprocessing: how videos become frames.

    Raises:
        BudgetError: a budget out of reach, or one that needs a curve that the bundle does not hold.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, budget: float | str | None = None) -> None:
        self.bundle, self.engine = bundle, engine
        self.actions = bundle.actions
        graph, steps = bundle.graphs["recognition"], bundle.manifest["preprocessing"]
        height, width, channels = graph.inputs["frames"][1:]
        self.frame_shape = (height, width, channels)
        self.preprocessing = Preprocessing(
            steps["frames"], steps["short_side"], steps["crop"], (height, width)
        )
        self._features = graph.outputs[0]
        self._clip = next((node.attrs["frames"] for node in graph if node.op == "shift"), None)
        self._weight, self._bias = bundle.head()
        self._skips = np.array(self.actions.skip_mask)
        self._holds = max(self.actions.skip_lengths) > 1
        self._policy: Runner | None = None
        self._zeros: dict[str, np.ndarray] = {}  # the policy's state before a clip
        self._runners: dict[int, Runner] = {}
        self._latency: dict[str, Any] | None = None
        self._decoder: Decoder | None = None
        if "policy" in bundle.graphs:
            policy = bundle.graphs["policy"]
            lstms = [node for node in policy if node.op == "lstm"]
            self._logits = policy.outputs[0]
            self._state = {
                name: out
                for node in lstms
                for name, out in zip(node.inputs[1:], node.outputs[1:], strict=True)
            }
            self._zeros = {name: np.zeros(policy.inputs[name], np.float32) for name in self._state}
            self._policy = engine.load(bundle, "policy", 32)
            for index in np.flatnonzero(~self._skips):
                self._runner(int(index))
        self._dial = self._turned(budget)
        if self._policy is None:
            self._runner(int(self._dial))
        self.reset()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        engine: str = "openvino",
        threads: int | None = None,
        budget: float | str | None = None,
    ) -> VideoSession:
        """Open a bundle and build its networks.

        Args:
            engine: 'openvino' or 'onnxruntime'.
            threads: that the engine uses; None leaves it to the engine.

        Raises:
            BundleError: the bundle is missing, damaged or of another version.
            EngineError: no such engine, or it is not installed.
            BudgetError: as the class.
        """
        return cls(Bundle.open(path), open_engine(engine, threads=threads), budget=budget)

    def close(self) -> None:
        """End the decoder process. The session can still be used."""
        if self._decoder is not None:
            self._decoder.close()

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- clips ------------------------------------------------------------------------------------------------------

    def run(
        self, frames: np.ndarray, *, budget: float | str | None = None, actions: np.ndarray | None = None
    ) -> Result:
        """Recognize a clip.

        Args:
            frames: uint8 (T, H, W, 3), RGB; any T >= 1, but whole clips where features are shifted.
            actions: what to do with each frame, integers (T,), in place of the policy, which does not run; no
                budget then. None lets it choose.

        Raises:
            ValueError: frames or actions of another shape, type or range, or actions beside a budget.
            TypeError: actions that are no integers.
            BudgetError: as the class.
        """
        frames = self._checked(frames, 4)
        began = time.perf_counter()
        if actions is None:
            actions, probs = self.choose(frames, budget=budget)
        else:
            if budget is not None:
                raise ValueError("give a budget or actions, not both")
            actions = self.actions.indices(actions)
            if actions.shape != (len(frames),):
                raise ValueError(f"actions must be one per frame, ({len(frames)},), got {actions.shape}")
            if self._clip is not None and np.ptp(actions):
                raise ValueError(
                    "features are shifted between neighbouring frames: give all of them one action"
                )
            probs = np.eye(len(self.actions), dtype=np.float32)[actions]
        chosen = time.perf_counter()
        features = np.zeros((len(frames), self._weight.shape[1]), np.float32)
        for index in np.flatnonzero(~self._skips):
            group = np.flatnonzero(actions == index)
            if len(group):
                features[group] = self._recognize(
                    frames if len(group) == len(frames) else frames[group], int(index)
                )
        times = dict(decode=0.0, policy=chosen - began, recognition=time.perf_counter() - chosen)
        return self._result(
            features.sum(0, dtype=np.float64),
            int((~self._skips[actions]).sum()),
            actions=actions,
            probs=probs,
            cost=float(self.bundle.costs[actions].mean()),
            frames=len(frames),
            times=times,
        )

    def choose(
        self, frames: np.ndarray, *, budget: float | str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`run` would do with each frame: actions int64 (T,), and probabilities float32 (T, A)."""
        dial = self._dial if budget is None else self._turned(budget)
        frames = self._checked(frames, 4)
        if self._policy is None:
            actions = np.full(len(frames), dial, np.int64)
            return actions, np.eye(len(self.actions), dtype=np.float32)[actions]
        if self._holds:
            stream = self._new_stream()
            log_probs = np.stack([self._look(self._policy, stream, frame, dial) for frame in frames])
        else:
            log_probs = self._turn(self._policy({"frames": frames, **self._zeros})[self._logits], dial)
        all_skip = self.bundle.manifest["all_skip"]
        return decide(log_probs, self.bundle.costs, self._skips, all_skip=all_skip), np.exp(log_probs)

    def run_video(self, path: str | os.PathLike[str], *, budget: float | str | None = None) -> Result:
        """Recognize a video.

        Raises:
            VideoError: it cannot be read.
            BudgetError: as the class.
        """
        if self._decoder is None:
            self._decoder = Decoder(self.preprocessing)
        frames, seconds = self._decoder.read(path)
        return self._run_decoded(frames, seconds, budget)

    def run_many(
        self, paths: Iterable[str | os.PathLike[str]], *, budget: float | str | None = None, decoders: int = 1
    ) -> Iterator[Result | VideoError]:
        """Recognize videos, in order; those that follow are decoded meanwhile. In place of a bad one its error.

        Args:
            paths: read as far as needed, so that they may be endless.
            decoders: processes that decode; more than one where decoding takes longer than recognition.

        Raises:
            BudgetError: as the class.
        """
        if decoders < 1:
            raise ValueError(f"decoders={decoders} must be at least 1")
        if budget is not None:
            self._turned(budget)
        return self._run_many(iter(paths), budget, decoders)

    def _run_many(
        self, paths: Iterator[str | os.PathLike[str]], budget: float | str | None, decoders: int
    ) -> Iterator[Result | VideoError]:
        owned = [Decoder(self.preprocessing) for _ in range(decoders)]
        free: SimpleQueue[Decoder] = SimpleQueue()
        for decoder in owned:
            free.put(decoder)

        def read(path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
            decoder = free.get()
            try:
                return decoder.read(path)
            finally:
                free.put(decoder)

        pool = ThreadPoolExecutor(decoders, thread_name_prefix="decoder")
        try:
            waiting: deque[Future] = deque(pool.submit(read, path) for path in islice(paths, decoders + 1))
            while waiting:
                first = waiting.popleft()
                try:
                    frames, seconds = first.result()
                except VideoError as error:
                    outcome: Result | VideoError = error
                else:
                    outcome = self._run_decoded(frames, seconds, budget)
                waiting.extend(pool.submit(read, path) for path in islice(paths, 1))
                yield outcome
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for decoder in owned:
                decoder.close()

    def _run_decoded(self, frames: np.ndarray, seconds: float, budget: float | str | None) -> Result:
        result = self.run(frames, budget=budget)
        result.times["decode"] = seconds
        return result

    # --- streams ----------------------------------------------------------------------------------------------------

    def push(self, frame: np.ndarray, *, budget: float | str | None = None) -> int:
        """Take a stream's next frame; the action taken. Memory stays bounded: frames are not kept.

        Args:
            frame: uint8 (H, W, 3), RGB.

        Raises:
            ValueError: a frame of another shape or type, or a bundle that computes whole clips.
            BudgetError: as the class.
        """
        if self._clip is not None:
            raise ValueError(
                f"{self.bundle.path} shifts features between neighbouring frames and takes no streams: "
                f"use run() on clips of {self._clip} frames"
            )
        dial = self._dial if budget is None else self._turned(budget)
        frame = self._checked(frame, 3)
        stream = self._stream
        began = time.perf_counter()
        if self._policy is None:
            action = int(dial)
            log_probs = np.where(np.arange(len(self.actions)) == action, 0.0, -np.inf)
        else:
            log_probs = self._look(self._policy, stream, frame, dial)
            action = int(log_probs.argmax())
        chosen = time.perf_counter()
        if not self._skips[action]:
            stream.total += self._recognize(frame[None], action)[0]
            stream.processed += 1
            stream.skipped = None
        elif not stream.processed and self.bundle.manifest["all_skip"] == "likeliest":
            chance = float(process_chance(log_probs, self._skips))
            if stream.skipped is None or chance > stream.skipped.chance:
                stream.skipped = _Skipped(stream.frames, frame.copy(), log_probs, chance)
        stream.frames += 1
        stream.cost += self.bundle.costs[action]
        stream.history.append((action, log_probs))
        stream.times["policy"] += chosen - began
        stream.times["recognition"] += time.perf_counter() - chosen
        return action

    def result(self) -> Result:
        """What the stream is so far; it can go on afterwards.

        Raises:
            ValueError: no frame was pushed.
        """
        stream = self._stream
        if not stream.frames:
            raise ValueError("no frames yet: push() some before result()")
        total, processed, cost = stream.total, stream.processed, stream.cost
        history = list(stream.history)
        skipped = stream.skipped
        if skipped is not None:
            action = int(best_processed(skipped.log_probs, self._skips))
            if skipped.features is None:
                began = time.perf_counter()
                skipped.features = self._recognize(skipped.frame[None], action)[0]
                stream.times["recognition"] += time.perf_counter() - began
            total, processed = total + skipped.features, 1
            cost += self.bundle.costs[action]
            kept = skipped.place - (stream.frames - len(history))  # the history may have lost the beginning
            if kept >= 0:
                history[kept] = (action, skipped.log_probs)
        return self._result(
            total,
            processed,
            actions=np.array([action for action, _ in history], np.int64),
            probs=np.exp([log_probs for _, log_probs in history]).astype(np.float32),
            cost=float(cost / stream.frames),
            frames=stream.frames,
            times=dict(stream.times),
        )

    def reset(self) -> None:
        """Begin a new stream."""
        self._stream = self._new_stream()

    # --- the dial ---------------------------------------------------------------------------------------------------

    def measure_latency(self) -> dict[str, Any]:
        """Milliseconds per frame here and now: ``{"engine", "threads", "cpu", "actions": {name: ms}, "policy": ms}``.

        Medians over small batches of grey frames; what is skipped costs nothing. Measured once, then remembered.
        """
        if self._latency is None:
            frames = np.full((self._clip or MEASURED_FRAMES, *self.frame_shape), 128, np.uint8)
            actions = {
                self.actions.names[index]: _milliseconds(partial(self._recognize, frames, index))
                / len(frames)
                for index in map(int, np.flatnonzero(~self._skips))
            }
            policy = 0.0
            if self._policy is not None:
                policy = _milliseconds(partial(self._policy, {"frames": frames, **self._zeros})) / len(frames)
            self._latency = dict(
                engine=self.engine.name,
                threads=self.engine.threads,
                cpu=cpu_name(),
                actions=actions,
                policy=policy,
            )
        return self._latency

    def _turned(self, budget: float | str | None) -> float:
        """The dial for a budget: the policy's multiplier, or the action of a bundle without a policy."""
        if budget is None:
            return 0.0
        wanted = parse_budget(budget)
        frames = self.preprocessing.frames
        clip_ms = frames * self._frame_ms() if wanted.unit == "ms" else None
        if self._policy is None:
            processed = np.flatnonzero(~self._skips)
            spent = self.bundle.costs if clip_ms is None else clip_ms
            return processed[action_for(spent[processed], wanted)]
        curve = self.bundle.manifest["budget"]
        if curve is None:
            raise BudgetError(
                f"{self.bundle.path} holds no budget curve: export it with a validation list, or leave the budget out"
            )
        return multiplier_for(curve, wanted, clip_ms=clip_ms)

    def _frame_ms(self) -> np.ndarray:
        """Milliseconds of a frame under each action, the policy's included. (A,)"""
        table = self.bundle.manifest["latency_ms"]
        here = dict(engine=self.engine.name, threads=self.engine.threads, cpu=cpu_name())
        if table is None or any(table[key] != value for key, value in here.items()):
            table = self.measure_latency()
        return np.array([table["actions"].get(name, 0.0) for name in self.actions.names]) + table.get(
            "policy", 0.0
        )

    # --- one call of the engine -------------------------------------------------------------------------------------

    def _look(self, policy: Runner, stream: _Stream, frame: np.ndarray, dial: float) -> np.ndarray:
        """Log-probabilities (A,) of a stream's next frame; those of the last decision while a skip of several holds."""
        if stream.hold:
            stream.hold -= 1
            return stream.log_probs
        outputs = policy({"frames": frame[None], **stream.state})
        stream.state = {name: outputs[out] for name, out in self._state.items()}
        stream.log_probs = self._turn(outputs[self._logits][0], dial)
        stream.hold = max(0, self.actions.skip_lengths[int(stream.log_probs.argmax())] - 1)
        return stream.log_probs

    def _new_stream(self) -> _Stream:
        return _Stream(state=dict(self._zeros), total=np.zeros(self._weight.shape[1]))

    def _turn(self, logits: np.ndarray, dial: float) -> np.ndarray:
        return turn(log_softmax(logits), self.bundle.costs, dial).astype(np.float32)

    def _runner(self, index: int) -> Runner:
        """The network of a processed action."""
        bits = self.actions[index].bits
        assert bits is not None
        if bits not in self._runners:
            self._runners[bits] = self.engine.load(self.bundle, "recognition", bits)
        return self._runners[bits]

    def _recognize(self, frames: np.ndarray, index: int) -> np.ndarray:
        """Features (N, D) of frames under one action."""
        return self._runner(index)({"frames": frames})[self._features]

    def _checked(self, frames: np.ndarray, dims: int) -> np.ndarray:
        """``frames`` as they must be, or a ValueError."""
        shape = self.frame_shape if dims == 3 else ("T", *self.frame_shape)
        wanted = f"uint8 ({', '.join(map(str, shape))}), RGB"
        if dims == 4 and self._clip is not None:
            wanted += f", T a multiple of {self._clip}"
        if not isinstance(frames, np.ndarray):
            raise ValueError(f"frames must be a numpy array, {wanted}; got {type(frames).__name__}")
        fits = frames.dtype == np.uint8 and frames.ndim == dims and frames.shape[-3:] == self.frame_shape
        if dims == 4 and fits:
            fits = len(frames) > 0 and len(frames) % (self._clip or 1) == 0
        if not fits:
            raise ValueError(f"frames must be {wanted}; got {frames.dtype} {frames.shape}")
        return np.ascontiguousarray(frames)

    def _result(self, total: np.ndarray, processed: int, **of_clip: Any) -> Result:
        """Average, classify, softmax."""
        logits = (total / max(processed, 1)).astype(np.float32) @ self._weight.T + self._bias
        scores = np.exp(log_softmax(logits))
        label = int(logits.argmax())
        return Result(
            label=label,
            name=self.bundle.manifest["classes"][label],
            score=float(scores[label]),
            scores=scores,
            logits=logits,
            **of_clip,
        )


def _milliseconds(run: Callable[[], Any]) -> float:
    """Median of some calls after a first one."""
    run()
    seconds = []
    for _ in range(MEASURED_RUNS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * median(seconds)


def cpu_name() -> str:
    """The processor's name as Linux gives it, else the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(named, platform.machine())
    except OSError:
        return platform.machine()
