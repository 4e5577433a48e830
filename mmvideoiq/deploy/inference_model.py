"""The networks of a bundle on an engine: the policy, recognition in each mode, the classifier.

Axes: N frames, T frames of a clip, H W, A actions, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from mmvideoiq.deploy.budget import apply_multiplier, log_softmax
from mmvideoiq.deploy.bundle.bundle import Bundle
from mmvideoiq.deploy.engines.base import Engine, EngineError, Runner
from mmvideoiq.deploy.engines.cpu import cpu_name

MEASURED_FRAMES, MEASURED_RUNS = 4, 5


@dataclass
class Memory:
    """What the policy keeps between two frames of a sequence."""

    state: dict[str, np.ndarray]
    hold: int = 0  # frames for which the last decision still stands
    log_probs: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (A,), of the last decision


class Networks:
    """Each is built when it is first needed.

    Attributes:
        bundle, engine: as given.
        actions: the action space; ``skips`` (A,): which of them skip.
        frame_shape: (H, W, 3).
        clip: frames of which features are computed together; None where each frame is computed alone.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine, self.actions = bundle, engine, bundle.actions
        graph = bundle.graphs["recognition"]
        height, width, channels = graph.inputs["frames"][1:]
        self.frame_shape = (height, width, channels)
        self.clip = next((node.attrs["frames"] for node in graph if node.op == "shift"), None)
        self.skips = np.array(self.actions.skip_mask)
        self._features = graph.outputs[0]
        self._weight, self._bias = bundle.head()
        self._runners: dict[int, Runner] = {}
        self._policy: Runner | None = None
        self._zeros: dict[str, np.ndarray] = {}  # the policy's state before a clip
        self._latency: dict[str, Any] | None = None
        if "policy" not in bundle.graphs:
            return
        policy = bundle.graphs["policy"]
        lstms = [node for node in policy if node.op == "lstm"]
        self._logits = policy.outputs[0]
        self._state = {
            name: out for node in lstms for name, out in zip(node.inputs[1:], node.outputs[1:], strict=True)
        }
        self._zeros = {name: np.zeros(policy.inputs[name], np.float32) for name in self._state}
        self._policy = engine.load(bundle, "policy", bundle.policy_bits)

    @property
    def has_policy(self) -> bool:
        return self._policy is not None

    @property
    def features(self) -> int:
        """D."""
        return self._weight.shape[1]

    # --- recognition ------------------------------------------------------------------------------------------------

    def build(self, index: int) -> Runner:
        """The network of an action that is not a skip."""
        action = self.actions[index]
        assert action.bits is not None
        if index not in self._runners:
            sized = self.bundle.sized(action.size)
            self._runners[index] = self.engine.load(sized, "recognition", action.bits)
        return self._runners[index]

    def recognize(self, frames: np.ndarray, index: int) -> np.ndarray:
        """Features (N, D) of frames (N, H, W, 3) under one action."""
        return self.build(index)({"frames": frames})[self._features]

    @np.errstate(over="ignore", invalid="ignore")  # refused by _finite
    def classify(self, total: np.ndarray, processed: int) -> np.ndarray:
        """Logits (K,) of the mean of ``processed`` frames, whose features' sum is ``total`` (D,)."""
        return self._finite((total / max(processed, 1)).astype(np.float32) @ self._weight.T + self._bias)

    # --- the policy -------------------------------------------------------------------------------------------------

    def begin(self) -> Memory:
        """The memory of a sequence that begins."""
        return Memory(state=dict(self._zeros))

    def look(self, memory: Memory, frame: np.ndarray, multiplier: float) -> np.ndarray:
        """Log-probabilities (A,) of a sequence's next frame; those of the last decision while a long skip holds."""
        if memory.hold:
            memory.hold -= 1
            return memory.log_probs
        assert self._policy is not None
        outputs = self._policy({"frames": frame[None], **memory.state})
        memory.state = {name: outputs[out] for name, out in self._state.items()}
        memory.log_probs = self._log_probs(outputs[self._logits][0], multiplier)
        memory.hold = max(0, self.actions.skip_lengths[int(memory.log_probs.argmax())] - 1)
        return memory.log_probs

    def look_at_clip(self, frames: np.ndarray, multiplier: float) -> np.ndarray:
        """Log-probabilities (T, A) of a clip's frames."""
        if max(self.actions.skip_lengths) > 1:
            memory = self.begin()
            return np.stack([self.look(memory, frame, multiplier) for frame in frames])
        assert self._policy is not None
        return self._log_probs(self._policy({"frames": frames, **self._zeros})[self._logits], multiplier)

    def _log_probs(self, logits: np.ndarray, multiplier: float) -> np.ndarray:
        return apply_multiplier(log_softmax(self._finite(logits)), self.bundle.costs, multiplier).astype(
            np.float32
        )

    def _finite(self, logits: np.ndarray) -> np.ndarray:
        if not np.isfinite(logits).all():
            raise EngineError(f"{self.bundle.path}: the logits are not finite; export the bundle again")
        return logits

    # --- time -------------------------------------------------------------------------------------------------------

    def place(self) -> dict[str, Any]:
        """What milliseconds depend on."""
        return dict(
            engine=self.engine.name,
            threads=self.engine.threads,
            float_precision=self.engine.float_precision,
            cpu=cpu_name(),
        )

    def measure_latency(self) -> dict[str, Any]:
        """:meth:`VideoSession.measure_latency`."""
        if self._latency is None:
            frames = np.full((self.clip or MEASURED_FRAMES, *self.frame_shape), 128, np.uint8)
            actions = {
                self.actions.names[index]: _milliseconds(partial(self.recognize, frames, index)) / len(frames)
                for index in map(int, np.flatnonzero(~self.skips))
            }
            policy = 0.0
            if self._policy is not None:
                policy = _milliseconds(partial(self._policy, {"frames": frames, **self._zeros})) / len(frames)
            self._latency = dict(self.place(), actions=actions, policy=policy)
        return self._latency


def _milliseconds(run: Callable[[], Any]) -> float:
    """Median of some calls after a first one."""
    run()
    seconds = []
    for _ in range(MEASURED_RUNS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * median(seconds)
