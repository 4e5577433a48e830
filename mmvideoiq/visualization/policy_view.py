"""What the policy does while it is trained: a filmstrip and one line after each validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from mmvideoiq.actions import ActionSpace
from mmvideoiq.evaluation.summary_line import summary_line

if TYPE_CHECKING:
    from mmvideoiq.visualization.policy_picture import FilmClip

MAX_CLIPS, MAX_FRAMES = 32, 16
IMAGE = "policy"  # the picture's name


@HOOKS.register_module()
class PolicyViewHook(Hook):
    """After each validation of a training, draw what the policy chose, and log its figures in one line.

    The filmstrip goes to the visualizer as the image ``policy``, so that ``vis_backends`` decides where it is seen:
    in a file, TensorBoard, WandB. Its clips are spread over the validation list, and their frames are those that were
    validated. Models without a policy are left alone; in training steps nothing happens.

    Args:
        num_clips: number of clips, in 0..32; 0 draws nothing.

    Raises:
        TypeError, ValueError: ``num_clips`` is no integer or out of range.
    """

    def __init__(self, *, num_clips: int = 4) -> None:
        if type(num_clips) is not int:
            raise TypeError(f"PolicyViewHook num_clips must be an integer, got {num_clips!r}")
        if not 0 <= num_clips <= MAX_CLIPS:
            raise ValueError(f"PolicyViewHook num_clips must be in 0..{MAX_CLIPS}, got {num_clips}")
        self.num_clips = num_clips
        self._chosen: set[int] = set()
        self._seen = 0
        self._clips: list[FilmClip] = []

    def before_val_epoch(self, runner: Runner) -> None:
        self._clips, self._chosen, self._seen = [], set(), 0
        if _actions(runner) is not None and is_main_process():
            count = len(runner.val_dataloader.sampler)  # the clips of this process
            places = np.linspace(0, count - 1, min(self.num_clips, count))
            self._chosen = {round(place) for place in places}

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        samples = outputs or ()
        for place, sample in enumerate(samples):
            if self._seen + place in self._chosen:
                classes = (runner.visualizer.dataset_meta or {}).get("classes")
                self._clips.append(film_clip(data_batch["inputs"][place], sample, _actions(runner), classes))
        self._seen += len(samples)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        space = _actions(runner)
        if space is None:
            return
        by_iteration = isinstance(runner._train_loop, IterBasedTrainLoop)
        step = runner.iter if by_iteration else runner.epoch
        history = runner.message_hub.log_scalars.get("train/temperature")
        figures = summary_line(metrics or {}, temperature=history and history.current())
        line = f"{'iteration' if by_iteration else 'epoch'} {step}: {figures}"
        runner.logger.info(line)
        if self._clips:
            from mmvideoiq.visualization.policy_picture import draw_filmstrip

            runner.visualizer.add_image(
                IMAGE, draw_filmstrip(self._clips, space.names, title=line), step=step
            )
            self._clips = []


def film_clip(
    inputs: torch.Tensor, sample: Any, space: ActionSpace, classes: Sequence[str] | None
) -> FilmClip:
    """A validated clip as a row of the filmstrip: at most ``MAX_FRAMES`` frames, spread over the clip.

    Args:
        inputs: (T, 3, H, W), RGB in 0..255, as pipelines make them.
        sample: what a ``VideoIQRecognizer`` predicted.
        classes: names of the labels, where known.
    """
    from mmvideoiq.visualization.policy_picture import FilmClip

    actions = space.indices(sample.policy_actions)
    count = len(actions)
    places = sorted({round(place) for place in np.linspace(0, count - 1, min(MAX_FRAMES, count))})
    frames = inputs[places].detach().cpu().clamp(0, 255).to(torch.uint8)
    truth = sample.gt_label.reshape(-1)
    if truth.is_floating_point():  # one-hot, of several labels
        truth = truth.nonzero().reshape(-1)
    labels, found = [int(label) for label in truth], int(sample.pred_label.reshape(-1)[0])
    names = {label: str(classes[label]) if classes else f"class {label}" for label in (*labels, found)}
    right, score = found in labels, f"{100 * float(sample.pred_score.max()):.0f} %"
    return FilmClip(
        frames=frames.permute(0, 2, 3, 1).numpy(),  # (T, H, W, 3)
        actions=actions[places].tolist(),
        title=", ".join(names[label] for label in labels),
        verdict=f"\u2713 {score}" if right else f"\u2717 {names[found]} {score}",
        right=right,
        note=f"cost {np.take(space.costs, actions).mean():.3f}",
    )


def _actions(runner: Runner) -> ActionSpace | None:
    """The actions of a policy in training; None without one."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    training = not isinstance(runner._train_loop, dict | None)
    return model.actions if training and hasattr(model, "policy") else None
