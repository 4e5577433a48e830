"""Run a bundle on an engine: clips, videos, streams, within a budget.

Axes: T frames, H W, A actions, K classes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from mmvideoiq.deploy import clip
from mmvideoiq.deploy.budget import log_softmax
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.base import Engine
from mmvideoiq.deploy.engines.factory import open_engine
from mmvideoiq.deploy.inference_model import Networks
from mmvideoiq.deploy.result import Result
from mmvideoiq.deploy.setting import setting_for
from mmvideoiq.deploy.stream import Stream
from mmvideoiq.deploy.videos import recognize_ahead
from mmvideoiq.video.decode_ahead import threads_alone
from mmvideoiq.video.decoder_process import Decoded, Decoder
from mmvideoiq.video.errors import VideoError

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
        frames = clip.checked_frames(self._networks, frames, dims=4)
        began = time.perf_counter()
        if actions is None:
            actions, probs = self.choose(frames, budget=budget)
        elif budget is not None:
            raise ValueError("give a budget or actions, not both")
        else:
            actions, probs = clip.given_actions(self._networks, actions, len(frames))
        chosen = time.perf_counter()
        logits = clip.recognize(self._networks, frames, actions)
        times = dict(decode=0.0, policy=chosen - began, recognition=time.perf_counter() - chosen)
        cost = float(self.bundle.costs[actions].mean())
        return self._result(logits, actions=actions, probs=probs, cost=cost, frames=len(frames), times=times)

    @_one_thread
    def choose(
        self, frames: np.ndarray, *, budget: float | str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`run` would do with each frame: actions int64 (T,), and probabilities float32 (T, A)."""
        setting = self._setting if budget is None else self._setting_for(budget)
        return clip.choose(self._networks, clip.checked_frames(self._networks, frames, dims=4), setting)

    # --- videos -----------------------------------------------------------------------------------------------------

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
        return recognize_ahead(
            iter(paths),
            partial(self._run_decoded, budget=budget),
            open_decoder=partial(Decoder, self.preprocessing, threads=threads),
            decoders=None if isinstance(decoders, str) else decoders,
        )

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
        if self._networks.clip is not None:
            raise ValueError(
                f"{self.bundle.path} shifts features between neighbouring frames and takes no streams: "
                f"use run() on clips of {self._networks.clip} frames"
            )
        setting = self._setting if budget is None else self._setting_for(budget)
        return self._stream.push(clip.checked_frames(self._networks, frame, dims=3), setting)

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
        return setting_for(
            budget,
            self.bundle,
            self._networks,
            frames=self.preprocessing.frames,
            measure_latency=self.measure_latency,
        )

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
