"""VideoIQ: choose a precision, and a size, for every frame, run one backbone at it, average, classify.

Read from top to bottom; source: arXiv:2108.10394.
Axes: N videos, T frames, C H W, A actions, P processed actions (those that are not skips), D features, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmaction.models.recognizers import BaseRecognizer
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor
from torch.nn import functional as F

from mmvideoiq.actions import ActionSpace
from mmvideoiq.cost import ModelCost
from mmvideoiq.models.any_precision_backbone import require_any_precision
from mmvideoiq.models.choosers import Chooser, FixedAction
from mmvideoiq.models.clip_cost import count_recognizer
from mmvideoiq.models.feature_cache import FeatureCache, digest
from mmvideoiq.models.frozen import build_teacher, check_frozen, freeze_, load_teacher_
from mmvideoiq.models.losses import build_policy_losses
from mmvideoiq.models.policy import PolicyOutput, one_hot_argmax

ALL_SKIP = ("likeliest", "zero")
FRAMES_AT_ONCE = 16


class Prediction(NamedTuple):
    """logits (N, K), the actions taken (N, T), and the policy's output (None where actions were given)."""

    logits: Tensor
    actions: Tensor
    policy: PolicyOutput | None


@MODELS.register_module()
class VideoIQRecognizer(BaseRecognizer):
    """Dynamic precision, and size, per frame.

    Training: features in every mode, mixed by the policy's sampled decisions.
    Testing: the most likely action per frame; frames are grouped by action, each group runs once, skips never run.
    A video tested in several views (clips, crops) is several clips, whose scores the head averages.

    ``loss = CE + distill + sum of losses + policy_cls_weight * CE(policy classifier)``; CE is the head's own loss.

    Args:
        backbone: config of an ``AnyPrecisionBackbone``.
        policy: config of a ``PrecisionPolicy``.
        cls_head: config of a ``FrameAverageHead``.
        actions: list of actions, or ``dict(actions=[...], cost='paper' | 'bitops' | 'table.json', frame_size=224)``.
        losses: name -> config of a loss on the policy; logged as ``loss_<name>``.
        distill: config of the distillation loss; needs a teacher.
        teacher: config of a float recognizer with the key ``checkpoint``; also runs actions with ``separate=True``.
        policy_cls_weight: weight of the policy classifier's cross-entropy; needs ``policy.head.num_classes``.
        frozen: parts that do not learn, of 'backbone', 'cls_head', 'policy'; () is joint training.
        cache_features: keep the frozen backbone's features of each clip; for pipelines without augmentation.
            ``FeatureCacheHook`` keeps them in a file too.
        num_frames: T; longer inputs are consecutive views of T frames, as MMAction2's pipelines produce them.
            None treats every input as one clip.
        all_skip: a clip of which every frame would be skipped gets its frame most likely to be processed
            ('likeliest'), or zero features ('zero', the authors' release).
        data_preprocessor, train_cfg, test_cfg: as in MMAction2.

    Attributes:
        chooser: chooses the actions in testing instead of the policy (``models/choosers.py``); None uses the policy.

    Raises:
        ValueError: options that do not fit together; the message names them.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        policy: dict,
        cls_head: dict,
        actions: Sequence[dict] | dict,
        losses: dict[str, dict] = dict(
            efficiency=dict(type="EfficiencyLoss", weight=0.16),
            balance=dict(type="UsageBalanceLoss", weight=0.5),
            entropy=dict(type="PolicyEntropyLoss", weight=0.1),
        ),
        distill: dict | None = None,
        teacher: dict | None = None,
        policy_cls_weight: float = 0.0,
        frozen: Sequence[str] = ("backbone",),
        cache_features: bool = False,
        num_frames: int | None = None,
        all_skip: str = "likeliest",
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            cls_head=cls_head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
        require_any_precision(self.backbone, backbone, frame_by_frame=True)
        self.actions = ActionSpace.from_cfg(actions)
        self.actions.check_modes(self.backbone.modes)
        self.policy = MODELS.build(policy, default_args=dict(actions=self.actions))
        self.losses = build_policy_losses(losses, self.actions)
        if teacher is None and (distill is not None or any(action.separate for action in self.actions)):
            wants = "distill" if distill is not None else "an action with separate=True"
            raise ValueError(f"{wants} needs a teacher, but there is no teacher in the config")
        self.distill = None if distill is None else MODELS.build(distill)
        self.teacher = None if teacher is None else build_teacher(teacher)
        if policy_cls_weight and getattr(self.policy.head, "fc_cls", None) is None:
            raise ValueError(f"policy_cls_weight={policy_cls_weight} needs policy.head.num_classes")
        self.policy_cls_weight = policy_cls_weight
        self.frozen = check_frozen(frozen, cache_features=cache_features)
        if num_frames is not None and num_frames < 1:
            raise ValueError(f"num_frames={num_frames} must be at least 1, or None")
        self.num_frames = num_frames
        if all_skip not in ALL_SKIP:
            raise ValueError(f"all_skip={all_skip!r} must be one of {ALL_SKIP}")
        self.all_skip = all_skip
        self.feature_cache = FeatureCache() if cache_features else None
        self.register_load_state_dict_pre_hook(_forget_features)
        self.processed = [i for i, action in enumerate(self.actions) if not action.is_skip]
        self._model_costs: dict[tuple, ModelCost] = {}
        self.chooser: Chooser | None = None
        self._freeze()

    # --- training -----------------------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        """Losses, and for the log the mean cost and the usage of each action; inputs (N, T, C, H, W)."""
        choice = self.policy(inputs, sample=True)
        decisions = self._process_something(choice.decisions, choice.log_probs)  # (N, T, A)
        chosen = decisions[..., self.processed]  # (N, T, P)
        features = self.features_of_every_action(inputs)  # (N, T, P, D)
        mixed = (chosen.unsqueeze(-1) * features).sum(2)  # (N, T, D)
        logits = self.cls_head(mixed, chosen.sum(-1))  # (N, K)

        results = self.cls_head.loss_by_feat(logits, data_samples)
        for name, loss in self.losses.items():
            results[f"loss_{name}"] = loss(decisions, choice.log_probs)
        if self.distill is not None:
            with torch.no_grad():
                teacher_features, options = self.teacher.extract_feat(inputs)
                target = self.teacher.cls_head(teacher_features, **options)
            results["loss_kd"] = self.distill(logits, target)
        if self.policy_cls_weight:
            classified = self.cls_head.loss_by_feat(choice.class_logits, data_samples)
            results["loss_policy_cls"] = self.policy_cls_weight * classified["loss_cls"]
        usage = decisions.detach().mean(dim=(0, 1))  # (A,)
        results["mean_cost"] = (usage * usage.new_tensor(self.actions.costs)).sum()
        results.update(
            {f"usage_{name}": share for name, share in zip(self.actions.names, usage, strict=True)}
        )
        return results

    def features_of_every_action(self, inputs: Tensor) -> Tensor:
        """Features of clips (N, T, C, H, W) under each processed action: (N, T, P, D)."""
        if "backbone" not in self.frozen:
            return self.compute_every_action(inputs)
        with torch.no_grad():
            if self.feature_cache is None:
                return self.compute_every_action(inputs)
            return self.feature_cache(inputs, self.compute_every_action)

    def compute_every_action(self, inputs: Tensor) -> Tensor:
        """As :meth:`features_of_every_action`, never from the cache; with gradient unless the caller turned it off."""
        self.actions.check_frames(*inputs.shape[-2:])
        frames = inputs.flatten(0, 1)  # (N*T, C, H, W)
        rows = torch.cat([self._every_action_of(part) for part in in_parts(frames)])  # (N*T, P, D)
        return rows.unflatten(0, (-1, inputs.shape[1]))

    def _every_action_of(self, frames: Tensor) -> Tensor:
        """Features (M, P, D) of frames (M, C, H, W)."""
        maps = self.backbone.forward_all(frames, self.actions.modes)
        rows = []
        for index in self.processed:
            action = self.actions[index]
            rows.append(pool(self.teacher.backbone(frames) if action.separate else maps[action.mode]))
        return torch.stack(rows, dim=1)

    def feature_source(self) -> str:
        """A digest of what computes these features: it changes with the weights and the actions."""
        teacher = [] if self.teacher is None else [digest(self.teacher)]
        return digest(self.backbone, [self.actions.names[index] for index in self.processed], *teacher)

    def _process_something(self, decisions: Tensor, log_probs: Tensor) -> Tensor:
        """Decisions (N, T, A); where all frames of a clip would be skipped, the one likeliest to be processed is."""
        if self.all_skip == "zero" or len(self.processed) == len(self.actions):
            return decisions
        skips = torch.tensor(self.actions.skip_mask, device=decisions.device)  # (A,)
        empty = decisions.detach()[..., self.processed].sum(dim=(1, 2)) < 0.5  # (N,)
        frame = log_probs[..., self.processed].logsumexp(-1).argmax(1)  # (N,)
        forced = empty.unsqueeze(1) & (F.one_hot(frame, decisions.shape[1]) > 0)  # (N, T)
        best = one_hot_argmax(log_probs.masked_fill(skips, -torch.inf)).to(decisions.dtype)
        return torch.where(forced.unsqueeze(-1), best, decisions)

    # --- testing ------------------------------------------------------------------------------------------

    def predict(
        self, inputs: Tensor, data_samples: list[ActionDataSample] | None = None, **kwargs: Any
    ) -> list[ActionDataSample]:
        """Adds to each sample pred_score (K,), pred_label, policy_actions (T,), policy_probs (T, A) and cost.

        Of several views: the averaged score, the actions of all their frames (V*T,), and their total cost.
        """
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        prediction = self.recognize(self.clips_of(inputs))
        samples = self.cls_head.predict_by_feat(prediction.logits, data_samples)
        if prediction.policy is None:
            probs = F.one_hot(prediction.actions, len(self.actions)).to(inputs.dtype)
        else:
            probs = prediction.policy.log_probs.exp()
        model_cost = self._model_cost(tuple(inputs.shape[2:]), with_policy=prediction.policy is not None)
        actions = prediction.actions.reshape(len(samples), -1)  # (N, V*T)
        probs = probs.reshape(*actions.shape, -1)
        costs = model_cost.clip_costs(actions, self.actions)  # name -> (N,)
        for i, sample in enumerate(samples):
            sample.set_field(actions[i], "policy_actions")
            sample.set_field(probs[i], "policy_probs")
            sample.set_field({name: float(values[i]) for name, values in costs.items()}, "cost")
        return samples

    def recognize(self, inputs: Tensor) -> Prediction:
        """Choose an action for each frame of clips (N, T, C, H, W) and run what was chosen."""
        actions, policy = self.choose(inputs)
        features, processed = self.features_of_chosen_actions(inputs, actions)
        return Prediction(self.cls_head(features, processed), actions, policy)

    def choose(self, inputs: Tensor) -> tuple[Tensor, PolicyOutput | None]:
        """Actions (N, T) of clips (N, T, C, H, W), and the policy's output, None if a ``chooser`` chose."""
        if self.chooser is not None:
            return self.chooser(inputs), None
        policy = self.policy(inputs, sample=False)
        return self.actions_of(policy), policy

    def actions_of(self, policy: PolicyOutput) -> Tensor:
        """The actions (N, T) of a policy's decisions, with at least one processed frame per clip."""
        return self._process_something(policy.decisions, policy.log_probs).argmax(-1)

    def features_of_chosen_actions(self, inputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame's features under its own action, one backbone call per action.

        Args:
            inputs: (N, T, C, H, W).
            actions: (N, T), indices into the action space.

        Returns: features (N, T, D), zero for skips; processed (N, T), 1 or 0.
        """
        frames, flat = inputs.flatten(0, 1), actions.flatten()  # (N*T, C, H, W), (N*T,)
        features: Tensor | None = None
        for index in self.processed:
            group = (flat == index).nonzero().squeeze(1)
            if len(group) == 0:
                continue
            rows = self._run_action(frames if len(group) == len(frames) else frames[group], index)
            if features is None:
                features = rows.new_zeros(len(frames), rows.shape[1])
            features[group] = rows
        if features is None:
            features = inputs.new_zeros(len(frames), self.cls_head.in_channels)
        processed = ~torch.tensor(self.actions.skip_mask, device=flat.device)[flat]
        shape = (-1, inputs.shape[1])
        return features.unflatten(0, shape), processed.to(features.dtype).unflatten(0, shape)

    def _run_action(self, frames: Tensor, index: int) -> Tensor:
        """Features (M, D) of frames (M, C, H, W) under one action."""
        action = self.actions[index]
        rows = [
            pool(
                self.teacher.backbone(part)
                if action.separate
                else self.backbone.forward_at(part, action.mode)
            )
            for part in in_parts(frames)
        ]
        return torch.cat(rows)

    def clips_of(self, inputs: Tensor) -> Tensor:
        """Inputs (N, V*T, C, H, W) of V views as clips (N*V, T, C, H, W), all views of a video together.

        Raises:
            ValueError: the number of frames is not a multiple of ``num_frames``.
        """
        if self.num_frames is None:
            return inputs
        if inputs.shape[1] % self.num_frames:
            raise ValueError(
                f"inputs of {inputs.shape[1]} frames are not a multiple of num_frames={self.num_frames}: "
                "sample that many frames per view, or change model.num_frames"
            )
        return inputs.reshape(-1, self.num_frames, *inputs.shape[2:])

    def _model_cost(self, frame_shape: tuple[int, int, int], with_policy: bool) -> ModelCost:
        """Cost model for frames (C, H, W), counted at the first use."""
        key = (frame_shape, with_policy)
        if key not in self._model_costs:
            self.actions.check_frames(*frame_shape[1:])
            policy = self.policy if with_policy else None
            self._model_costs[key] = count_recognizer(
                self.backbone, self.cls_head.fc_cls, policy, frame_shape
            )
        return self._model_costs[key]

    def set_fixed_action(self, bits: int | str | None = None) -> None:
        """Test with every frame at ``bits``, or under the action of that name; None lets the policy choose."""
        self.chooser = None if bits is None else FixedAction(actions=self.actions, name=bits)

    # --- interface of MMAction2 -----------------------------------------------------------------------------

    def _forward(self, inputs: Tensor, **kwargs: Any) -> Tensor:
        """Class logits (N, K); (N*V, K) of V views."""
        return self.recognize(self.clips_of(inputs)).logits

    def extract_feat(self, inputs: Tensor, **kwargs: Any) -> Tensor:
        """Clip features before the classifier's average: (N, T, D), zero for skipped frames."""
        clips = self.clips_of(inputs)
        actions, _ = self.choose(clips)
        return self.features_of_chosen_actions(clips, actions)[0]

    def check_frames(self, height: int, width: int) -> None:
        """ValueError if frames of this size do not fit policy or actions; commands call it before the first step."""
        self.policy.check_frames(height, width)
        self.actions.check_frames(height, width)

    def init_weights(self) -> None:
        super().init_weights()
        if self.teacher is not None:
            load_teacher_(self.teacher)

    def train(self, mode: bool = True) -> "VideoIQRecognizer":
        """Frozen parts stay in eval mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for name in self.frozen:
            freeze_(getattr(self, name))
        classifier = getattr(self.policy.head, "fc_cls", None)
        if classifier is not None and not self.policy_cls_weight:
            freeze_(classifier)  # no loss reaches it
        if self.teacher is not None:
            freeze_(self.teacher)


def in_parts(frames: Tensor) -> tuple[Tensor, ...]:
    """Frames (M, C, H, W) in the parts that run fastest: on a CPU, without gradient, a few that fit into its caches."""
    if not frames.is_cpu or torch.is_grad_enabled():
        return (frames,)
    return frames.to(memory_format=torch.channels_last).split(FRAMES_AT_ONCE)


def pool(features: Tensor) -> Tensor:
    """Average over space: (M, D, h, w) -> (M, D)."""
    return features.flatten(2).mean(-1) if features.dim() > 2 else features


def _forget_features(model: VideoIQRecognizer, *_: Any) -> None:
    """Load hook: cached features belong to the weights before."""
    if model.feature_cache is not None:
        model.feature_cache.clear()
