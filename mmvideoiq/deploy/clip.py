"""A clip: choose an action for every frame, compute what was chosen and nothing else, average, classify.

Twin: ``mmvideoiq.models.VideoIQRecognizer`` in testing. Axes: T frames, H W, A actions, D features, K classes.
"""

from __future__ import annotations

import numpy as np

from mmvideoiq.deploy.budget import decide
from mmvideoiq.deploy.inference_model import Networks


def choose(networks: Networks, frames: np.ndarray, setting: float) -> tuple[np.ndarray, np.ndarray]:
    """What to do with each frame: actions int64 (T,), and probabilities float32 (T, A).

    Args:
        frames: uint8 (T, H, W, 3), as :func:`checked_frames` gives them.
        setting: the policy's multiplier, or without a policy the action.
    """
    if not networks.has_policy:
        return _certain(networks, np.full(len(frames), setting, np.int64))
    log_probs = networks.look_at_clip(frames, setting)
    bundle = networks.bundle
    all_skip = bundle.manifest["all_skip"]
    return decide(log_probs, bundle.costs, networks.skips, all_skip=all_skip), np.exp(log_probs)


def given_actions(networks: Networks, actions: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`choose`, of actions that a caller gives.

    Raises:
        ValueError: not one for each frame, out of range, or several in one clip whose features are shifted.
        TypeError: not integers.
    """
    actions = networks.actions.indices(actions)
    if actions.shape != (num_frames,):
        raise ValueError(f"actions must be one per frame, ({num_frames},), got {actions.shape}")
    if networks.clip is not None and np.ptp(actions):
        raise ValueError("features are shifted between neighbouring frames: give all of them one action")
    return _certain(networks, actions)


def _certain(networks: Networks, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return actions, np.eye(len(networks.actions), dtype=np.float32)[actions]


def recognize(networks: Networks, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Logits (K,) of frames uint8 (T, H, W, 3) under actions (T,): each group of one action is computed once."""
    skips = networks.skips
    features = np.zeros((len(frames), networks.features), np.float32)
    for index in np.flatnonzero(~skips):
        group = np.flatnonzero(actions == index)
        if len(group):
            features[group] = networks.recognize(
                frames if len(group) == len(frames) else frames[group], int(index)
            )
    return networks.classify(features.sum(0, dtype=np.float64), int((~skips[actions]).sum()))


def checked_frames(networks: Networks, frames: np.ndarray, *, dims: int) -> np.ndarray:
    """``frames`` as the networks take them: a clip (``dims`` 4), or a frame of a stream (3).

    Raises:
        ValueError: of another type, shape or length.
    """
    shape = networks.frame_shape if dims == 3 else ("T", *networks.frame_shape)
    wanted = f"uint8 ({', '.join(map(str, shape))}), RGB"
    clip = networks.clip
    if dims == 4 and clip is not None:
        wanted += f", T a multiple of {clip}"
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"frames must be a numpy array, {wanted}; got {type(frames).__name__}")
    fits = frames.dtype == np.uint8 and frames.ndim == dims and frames.shape[-3:] == networks.frame_shape
    if dims == 4 and fits:
        fits = len(frames) > 0 and len(frames) % (clip or 1) == 0
    if not fits:
        raise ValueError(f"frames must be {wanted}; got {frames.dtype} {frames.shape}")
    return np.ascontiguousarray(frames)
