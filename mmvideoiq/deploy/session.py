"""Run a bundle: choose a precision for every frame, compute what was chosen and nothing else, average, classify.

Twin: ``mmvideoiq.models.VideoIQRecognizer`` in testing. Axes: T frames, H W, A actions, D features, K classes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from mmvideoiq.deploy.budget import (
    BudgetError,
    action_for,
    decide,
    log_softmax,
    multiplier_for,
    parse_budget,
)
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.base import Engine
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.inference_model import Networks
from mmvideoiq.deploy.stream import Stream
from mmvideoiq.video.decoder_process import Decoded, Decoder, decode_ahead, decoders_for, threads_alone
from mmvideoiq.video.errors import VideoError

MEASURED = 5  # videos before the number of decoders is chosen


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a clip, or a stream so far, is.

    Attributes:
        label, name, score: the likeliest class, its name, its probability.
        scores, logits: float32 (K,); the scores are the softmax of the logits.
        actions: int64 (T,), what was done with each frame; of a stream the last 1024 at most.
        probs: float32 (T, A), the policy's probabilities, with the cost multiplier applied; without a policy 1 and 0.
        cost: mean cost of all frames.
        frames: how many frames it is of.
        lost: frames of a video that were damaged, their neighbours having been taken.
        times: seconds for ``decode``, ``policy`` and ``recognition``; decoding overlaps the others, and the first
            frames in a mode also build its network.
        float_precision: 'f32' or 'bf16', of recognition at 32 bits.
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
    lost: int = 0
    float_precision: str = "f32"


P = ParamSpec("P")
R = TypeVar("R")


def _one_thread(
    method: Callable[Concatenate[VideoSession, P], R],
) -> Callable[Concatenate[VideoSession, P], R]:
    """``method``, which raises RuntimeError while another thread is in the session."""

    @wraps(method)
    def guarded(self: VideoSession, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("another thread is using this session: open one session for each thread")
        try:
            return method(self, *args, **kwargs)
        finally:
            self._in_use.release()

    return guarded


class VideoSession:
    """A bundle on an engine.

    A budget is a mean cost per frame (0.4) or a time per clip ('30ms', a clip being the ``frames`` of the bundle's
    preprocessing). It sets the policy's cost multiplier (:mod:`mmvideoiq.deploy.budget`), or picks one of the
    precisions of a bundle without a policy, whose default is the highest. Times come from the bundle where it was
    measured on this CPU with this engine and as many threads, else from :meth:`measure_latency`.

    A bundle whose graph shifts features between neighbouring frames computes whole clips at one precision: grouping
    would tear the neighbours apart. It takes no streams.

    Threads may use a session one after the other; a call while another thread is in one raises RuntimeError. Open one
    session for each thread.

    Args:
        bundle: an opened bundle.
        engine: of :func:`mmvideoiq.deploy.engines.factory.open_engine`.
        budget: for every call that brings none; None leaves the policy as trained.
        sampling: 'exact', 'nearby' or 'keyframe' (:class:`~mmvideoiq.video.preprocessing.Preprocessing`); None takes
            the bundle's.
        reader: 'av' or 'decord'.

    Attributes:
        bundle, engine: as given.
        actions: the action space.
        frame_shape: (H, W, 3).
        preprocessing: how videos become frames.

    Raises:
        BudgetError: a budget out of reach, or one that needs a curve that the bundle does not hold.
        ValueError: no such sampling or reader, or decord with another sampling than 'exact'.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        budget: float | str | None = None,
        sampling: str | None = None,
        reader: str = "av",
    ) -> None:
        self.bundle, self.engine, self.actions = bundle, engine, bundle.actions
        self._in_use = threading.RLock()
        self._networks = Networks(bundle, engine)
        self.frame_shape = self._networks.frame_shape
        as_trained = bundle.preprocessing
        self.preprocessing = as_trained._replace(
            sampling=as_trained.sampling if sampling is None else sampling, reader=reader
        ).checked()
        self._decoder: Decoder | None = None
        self._setting = self._setting_for(budget)
        if not self._networks.has_policy:
            self._networks.build(int(self._setting))
        self.reset()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        engine: str = "openvino",
        threads: int | None = None,
        float_precision: str = "auto",
        budget: float | str | None = None,
        sampling: str | None = None,
        reader: str = "av",
    ) -> VideoSession:
        """Open a bundle; its networks are built when they are first needed.

        Args:
            engine: 'openvino' or 'onnxruntime'.
            threads: that the engine uses; None leaves it to the engine.
            float_precision: 'auto', 'f32' or 'bf16', of what is computed in floats: see
                :func:`mmvideoiq.deploy.engines.factory.open_engine`.
            budget, sampling, reader: as the class.

        Raises:
            BundleError: the bundle is missing, damaged or of another version.
            EngineError: no such engine, it is not installed, or it or the CPU has no bf16.
            BudgetError, ValueError: as the class.
        """
        opened = Bundle.open(path), open_engine(engine, threads=threads, float_precision=float_precision)
        return cls(*opened, budget=budget, sampling=sampling, reader=reader)

    def close(self) -> None:
        """End the decoder process. The session can still be used."""
        if self._decoder is not None:
            self._decoder.close()

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- clips ------------------------------------------------------------------------------------------------------

    @_one_thread
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
            TypeError: actions that are not integers.
            BudgetError: as the class.
        """
        networks, skips = self._networks, self._networks.skips
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
            if networks.clip is not None and np.ptp(actions):
                raise ValueError(
                    "features are shifted between neighbouring frames: give all of them one action"
                )
            probs = np.eye(len(self.actions), dtype=np.float32)[actions]
        chosen = time.perf_counter()
        features = np.zeros((len(frames), networks.features), np.float32)
        for index in np.flatnonzero(~skips):
            group = np.flatnonzero(actions == index)
            if len(group):
                features[group] = networks.recognize(
                    frames if len(group) == len(frames) else frames[group], int(index)
                )
        logits = networks.classify(features.sum(0, dtype=np.float64), int((~skips[actions]).sum()))
        times = dict(decode=0.0, policy=chosen - began, recognition=time.perf_counter() - chosen)
        cost = float(self.bundle.costs[actions].mean())
        return self._result(logits, actions=actions, probs=probs, cost=cost, frames=len(frames), times=times)

    @_one_thread
    def choose(
        self, frames: np.ndarray, *, budget: float | str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`run` would do with each frame: actions int64 (T,), and probabilities float32 (T, A)."""
        setting = self._setting if budget is None else self._setting_for(budget)
        frames = self._checked(frames, 4)
        networks = self._networks
        if not networks.has_policy:
            actions = np.full(len(frames), setting, np.int64)
            return actions, np.eye(len(self.actions), dtype=np.float32)[actions]
        log_probs = networks.look_at_clip(frames, setting)
        all_skip = self.bundle.manifest["all_skip"]
        return decide(log_probs, self.bundle.costs, networks.skips, all_skip=all_skip), np.exp(log_probs)

    @_one_thread
    def run_video(self, path: str | os.PathLike[str], *, budget: float | str | None = None) -> Result:
        """Recognize a video.

        Raises:
            VideoError: it cannot be read.
            BudgetError: as the class.
        """
        if self._decoder is None:
            self._decoder = Decoder(self.preprocessing, threads=threads_alone())
        return self._run_decoded(self._decoder.read(path), budget)

    def run_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        budget: float | str | None = None,
        decoders: int | str = "auto",
    ) -> Iterator[Result | VideoError]:
        """Recognize videos, in order; those that follow are decoded meanwhile. In place of a bad one its error.

        Args:
            paths: read as far as needed, so that they may be endless.
            decoders: processes that decode, >= 1; 'auto' measures the first videos, and takes as many as keep up with
                recognition, at most one for each CPU (:func:`decoders_for`).

        Raises:
            BudgetError: as the class.
        """
        if decoders != "auto" and (isinstance(decoders, str) or decoders < 1):
            raise ValueError(f"decoders={decoders!r} must be 'auto' or at least 1")
        if budget is not None:
            self._setting_for(budget)
        threads = threads_alone() if isinstance(paths, Sized) and len(paths) == 1 else 1
        return self._run_many(iter(paths), budget, decoders, threads)

    def _run_many(
        self,
        paths: Iterator[str | os.PathLike[str]],
        budget: float | str | None,
        decoders: int | str,
        threads: int,
    ) -> Iterator[Result | VideoError]:
        measured: list[dict[str, float]] = []

        def count() -> int:
            if not isinstance(decoders, str):
                return decoders
            return decoders_for(measured) if len(measured) == MEASURED else 1

        for decoded in decode_ahead(paths, partial(Decoder, self.preprocessing, threads=threads), count):
            if isinstance(decoded, VideoError):
                yield decoded
                continue
            result = self._run_decoded(decoded, budget)
            if len(measured) < MEASURED:
                measured.append(result.times)
            yield result

    def _run_decoded(self, decoded: Decoded, budget: float | str | None) -> Result:
        result = self.run(decoded.frames, budget=budget)
        return replace(result, lost=decoded.lost, times=dict(result.times, decode=decoded.seconds))

    # --- streams ----------------------------------------------------------------------------------------------------

    @_one_thread
    def push(self, frame: np.ndarray, *, budget: float | str | None = None) -> int:
        """Take a stream's next frame; the action taken. Memory stays bounded: frames are not kept.

        Args:
            frame: uint8 (H, W, 3), RGB.

        Raises:
            ValueError: a frame of another shape or type, or a bundle that computes whole clips.
            BudgetError: as the class.
        """
        clip = self._networks.clip
        if clip is not None:
            raise ValueError(
                f"{self.bundle.path} shifts features between neighbouring frames and takes no streams: "
                f"use run() on clips of {clip} frames"
            )
        setting = self._setting if budget is None else self._setting_for(budget)
        return self._stream.push(self._checked(frame, 3), setting)

    @_one_thread
    def result(self) -> Result:
        """What the stream is so far; it can go on afterwards.

        Raises:
            ValueError: no frame was pushed.
        """
        if not self._stream.frames:
            raise ValueError("no frames yet: push() some before result()")
        logits, of_stream = self._stream.so_far()
        return self._result(logits, **of_stream)

    @_one_thread
    def reset(self) -> None:
        """Begin a new stream."""
        likeliest = self.bundle.manifest["all_skip"] == "likeliest"
        self._stream = Stream(self._networks, process_something=likeliest)

    # --- budgets ---------------------------------------------------------------------------------------------------

    @_one_thread
    def measure_latency(self) -> dict[str, Any]:
        """Milliseconds per frame here and now: ``{"engine", "threads", "cpu", "actions": {name: ms}, "policy": ms}``.

        Medians over small batches of grey frames; what is skipped costs nothing. Measured once, then remembered.
        """
        return self._networks.measure_latency()

    def _setting_for(self, budget: float | str | None) -> float:
        """The setting for a budget: the policy's cost multiplier, or the action of a bundle without a policy."""
        if budget is None:
            return 0.0
        wanted = parse_budget(budget)
        frames = self.preprocessing.frames
        clip_ms = frames * self._frame_ms() if wanted.unit == "ms" else None
        if not self._networks.has_policy:
            processed = np.flatnonzero(~self._networks.skips)
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
        if table is None or any(
            table.get(key, "f32") != value for key, value in self._networks.place().items()
        ):
            table = self.measure_latency()
        return np.array([table["actions"].get(name, 0.0) for name in self.actions.names]) + table.get(
            "policy", 0.0
        )

    # --- what goes in, what comes out -------------------------------------------------------------------------------

    def _checked(self, frames: np.ndarray, dims: int) -> np.ndarray:
        """``frames`` as they must be, or a ValueError."""
        shape = self.frame_shape if dims == 3 else ("T", *self.frame_shape)
        wanted = f"uint8 ({', '.join(map(str, shape))}), RGB"
        clip = self._networks.clip
        if dims == 4 and clip is not None:
            wanted += f", T a multiple of {clip}"
        if not isinstance(frames, np.ndarray):
            raise ValueError(f"frames must be a numpy array, {wanted}; got {type(frames).__name__}")
        fits = frames.dtype == np.uint8 and frames.ndim == dims and frames.shape[-3:] == self.frame_shape
        if dims == 4 and fits:
            fits = len(frames) > 0 and len(frames) % (clip or 1) == 0
        if not fits:
            raise ValueError(f"frames must be {wanted}; got {frames.dtype} {frames.shape}")
        return np.ascontiguousarray(frames)

    def _result(self, logits: np.ndarray, **others: Any) -> Result:
        scores, label = np.exp(log_softmax(logits)), int(logits.argmax())
        name = self.bundle.manifest["classes"][label]
        return Result(
            label=label,
            name=name,
            score=float(scores[label]),
            scores=scores,
            logits=logits,
            float_precision=self.engine.float_precision,
            **others,
        )
