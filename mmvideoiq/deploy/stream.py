"""A stream: frames one by one, a running average, memory that does not grow.

Axes: T frames, A actions, D features.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmvideoiq.deploy.budget import best_processed, process_chance
from mmvideoiq.deploy.inference_model import Networks

HISTORY = 1024  # frames whose actions are remembered


@dataclass
class _Skipped:
    """A frame that was skipped, and may have to be processed after all."""

    place: int
    frame: np.ndarray
    log_probs: np.ndarray
    chance: float
    features: np.ndarray | None = None  # (D,), once asked for


class Stream:
    """One stream from its first frame on. What it says after each frame is what a clip of the frames so far is.

    Args:
        networks: that look at and recognize frames.
        process_something: while all frames were skipped, the one most likely to be processed counts as processed.

    Attributes:
        frames: how many there were.
    """

    def __init__(self, networks: Networks, *, process_something: bool) -> None:
        self.frames = 0
        self._networks, self._process_something = networks, process_something
        self._memory = networks.begin()
        self._total = np.zeros(networks.features)  # float64 (D,), sum of the processed frames' features
        self._processed, self._cost = 0, 0.0
        self._skipped: _Skipped | None = None  # the likeliest to be processed, while none was
        self._history: deque[tuple[int, np.ndarray]] = deque(maxlen=HISTORY)
        self._times = dict(decode=0.0, policy=0.0, recognition=0.0)

    def push(self, frame: np.ndarray, setting: float) -> int:
        """Take the next frame (H, W, 3), and say what was done with it.

        Args:
            setting: the policy's multiplier, or without a policy the action.
        """
        networks, began = self._networks, time.perf_counter()
        if networks.has_policy:
            log_probs = networks.look(self._memory, frame, setting)
            action = int(log_probs.argmax())
        else:
            action = int(setting)
            log_probs = np.where(np.arange(len(networks.actions)) == action, 0.0, -np.inf)
        chosen = time.perf_counter()
        if not networks.skips[action]:
            self._total += networks.recognize(frame[None], action)[0]
            self._processed += 1
            self._skipped = None
        elif not self._processed and self._process_something:
            chance = float(process_chance(log_probs, networks.skips))
            if self._skipped is None or chance > self._skipped.chance:
                self._skipped = _Skipped(self.frames, frame.copy(), log_probs, chance)
        self.frames += 1
        self._cost += networks.bundle.costs[action]
        self._history.append((action, log_probs))
        self._times["policy"] += chosen - began
        self._times["recognition"] += time.perf_counter() - chosen
        return action

    def so_far(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Logits (K,), and the other fields of a :class:`~mmvideoiq.deploy.result.Result` that are the stream's."""
        networks = self._networks
        total, processed, cost = self._total, self._processed, self._cost
        history, skipped = list(self._history), self._skipped
        if skipped is not None:
            action = int(best_processed(skipped.log_probs, networks.skips))
            if skipped.features is None:
                began = time.perf_counter()
                skipped.features = networks.recognize(skipped.frame[None], action)[0]
                self._times["recognition"] += time.perf_counter() - began
            total, processed = total + skipped.features, 1
            cost += networks.bundle.costs[action]
            kept = skipped.place - (self.frames - len(history))  # the history may have lost the beginning
            if kept >= 0:
                history[kept] = (action, skipped.log_probs)
        return networks.classify(total, processed), dict(
            actions=np.array([action for action, _ in history], np.int64),
            probs=np.exp([log_probs for _, log_probs in history]).astype(np.float32),
            cost=float(cost / self.frames),
            frames=self.frames,
            times=dict(self._times),
        )
