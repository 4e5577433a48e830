"""The policy: a small network over downscaled frames, an LSTM over time, a choice of action.

Source: arXiv:2108.10394, section 3.1. Axes: N videos, T frames, A actions, D features, K classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmaction.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmvideoiq.actions import ActionSpace
from mmvideoiq.models.any_precision_backbone import AnyPrecisionBackbone
from mmvideoiq.quant import AnyPrecisionConv2d, Dorefa, PrecisionSwitch
from mmvideoiq.quant.functional import at_least_float32
from mmvideoiq.quant.precision import FLOAT_BITS

MAX_BITS = 8  # of a quantized policy


class PolicyOutput(NamedTuple):
    """Output of the policy for a batch of clips.

    decisions (N, T, A): one-hot rows; when sampled, with the gradient of the softened sample.
    log_probs (N, T, A): log-probabilities of the actions.
    class_logits (N, K): of the optional classifier, else None.
    """

    decisions: Tensor
    log_probs: Tensor
    class_logits: Tensor | None


def sample_gumbel(like: Tensor) -> Tensor:
    """Independent standard Gumbel noise, shaped like ``like``; at least float32, since half precision produces ties."""
    return -at_least_float32(torch.empty_like(like)).exponential_().log()


def gumbel_one_hot(log_probs: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Hard Gumbel-softmax (arXiv:1611.01144): forward the one-hot arg-max of ``log_probs + noise``,
    backward the gradient of ``softmax((log_probs + noise) / temperature)``. Shapes (..., A)."""
    soft = F.softmax((log_probs + noise) / temperature, dim=-1)
    return one_hot_argmax(soft) + (soft - soft.detach())


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot rows at the largest score; the first one of equals. (..., A)"""
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)


@MODELS.register_module()
class PolicyHead(BaseModule):
    """Dropout, LSTM over the frames, and a linear layer to the actions.

    During a skip of several frames, the LSTM's state and the decision are held.

    Args:
        in_channels: D of the policy backbone's features.
        actions: the action space, supplied by the recognizer.
        hidden: width of the LSTM.
        dropout_ratio: on the features, in [0, 1).
        num_classes: K of the optional classifier on the mean LSTM output; None leaves it out.
        hold_cell: False as in the authors' release: the LSTM processes skipped frames too, and only its hidden
            state ``h`` and the decision are held. Its cell state changes, and the classifier reads its outputs.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        actions: ActionSpace,
        hidden: int = 512,
        dropout_ratio: float = 0.8,
        num_classes: int | None = None,
        hold_cell: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.hold_cell = hold_cell
        self.dropout = nn.Dropout(dropout_ratio)
        self.lstm = nn.LSTM(in_channels, hidden, batch_first=True)
        self.fc_policy = nn.Linear(hidden, len(actions))
        self.fc_cls = None if num_classes is None else nn.Linear(hidden, num_classes)
        self.holds = max(actions.skip_lengths) > 1
        self.register_buffer("skip_lengths", torch.tensor(actions.skip_lengths), persistent=False)
        self.register_buffer("costs", torch.tensor(actions.costs), persistent=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}fc_policy.weight")  # MMEngine only warns about another shape
        if weight is not None and len(weight) != self.fc_policy.out_features:
            raise ValueError(
                f"the checkpoint's {prefix}fc_policy chooses among {len(weight)} actions, the model's among "
                f"{self.fc_policy.out_features}: use the actions it was trained with"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(
        self, features: Tensor, noise: Tensor | None, temperature: float, cost_multiplier: float = 0.0
    ) -> PolicyOutput:
        """Choose.

        Args:
            features: (N, T, D).
            noise: Gumbel noise (N, T, A); None chooses the most likely action.
            temperature: of the softened sample, > 0; without noise it is not used.
            cost_multiplier: times the costs of the actions, it is subtracted from the logits.
        """
        features = self.dropout(features)
        if self.holds:
            hidden, decisions, log_probs = self._step_by_step(features, noise, temperature, cost_multiplier)
        else:
            hidden, _ = self.lstm(features)  # (N, T, hidden)
            log_probs = self._log_probs(hidden, cost_multiplier)  # (N, T, A)
            decisions = self._decide(log_probs, noise, temperature)
        class_logits = None if self.fc_cls is None else at_least_float32(self.fc_cls(hidden.mean(1)))
        return PolicyOutput(decisions, log_probs, class_logits)

    def _log_probs(self, hidden: Tensor, cost_multiplier: float) -> Tensor:
        """(..., hidden) -> (..., A)"""
        logits = at_least_float32(self.fc_policy(hidden))
        if cost_multiplier:
            logits = logits - cost_multiplier * self.costs
        return F.log_softmax(logits, dim=-1)

    @staticmethod
    def _decide(log_probs: Tensor, noise: Tensor | None, temperature: float) -> Tensor:
        if noise is None:
            return one_hot_argmax(log_probs)
        return gumbel_one_hot(log_probs, noise, temperature)

    def _step_by_step(
        self, features: Tensor, noise: Tensor | None, temperature: float, cost_multiplier: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``forward`` for decisions that hold the state of later frames: one step per frame, all clips at once."""
        state = None
        held = torch.zeros(
            len(features), dtype=torch.long, device=features.device
        )  # frames still to hold, (N,)
        outputs: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(features.shape[1]):
            output, (h, c) = self.lstm(features[:, t : t + 1], state)
            hidden = output[:, 0]
            log_probs = self._log_probs(hidden, cost_multiplier)
            decisions = self._decide(log_probs, None if noise is None else noise[:, t], temperature)
            if outputs:
                hold = (held > 0).unsqueeze(-1)  # (N, 1)
                old_hidden, old_decisions, old_log_probs = outputs[-1]
                decisions = torch.where(hold, old_decisions, decisions)
                log_probs = torch.where(hold, old_log_probs, log_probs)
                h = torch.where(hold, state[0], h)
                if self.hold_cell:
                    c = torch.where(hold, state[1], c)
                    hidden = torch.where(hold, old_hidden, hidden)
            state = h, c
            chosen = self.skip_lengths[decisions.argmax(-1)]
            held = torch.where(held > 0, held - 1, (chosen - 1).clamp_min(0))
            outputs.append((hidden, decisions, log_probs))
        return tuple(torch.stack(parts, dim=1) for parts in zip(*outputs, strict=True))  # type: ignore[return-value]


@MODELS.register_module()
class PrecisionPolicy(BaseModule):
    """Light backbone + :class:`PolicyHead`: frames -> actions.

    Args:
        backbone: config of any light 2D backbone of MMAction2; its features are averaged over space. An
            ``AnyPrecisionBackbone`` with one precision of at most 8 bits runs in integers: ``precisions=(8,)``.
        head: config of the head.
        actions: the action space, supplied by the recognizer.
        input_size: side to which frames are resized (bilinear); at most the frame's own. None keeps their size.
        enlarge: also resize frames that are smaller than ``input_size``.
        quantize_32: names of the backbone's convolutions that read their weights through the 32-bit
            :class:`~mmvideoiq.quant.Dorefa`, as the authors' release does in the first and the last.

    Attributes:
        temperature: of the Gumbel-softmax, > 0; ``GumbelTemperatureHook`` lowers it.
        cost_multiplier: sets the budget of the most likely action: ``log p(a) - cost_multiplier * cost(a)``,
            normalized. Positive values lower the cost, negative ones raise it; 0 is the policy as trained.

    Raises:
        ValueError: ``input_size`` below 1, a backbone with several precisions, sizes or more than 8 bits, or a name in
            ``quantize_32`` that is no convolution.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        head: dict,
        actions: ActionSpace,
        input_size: int | None = 84,
        enlarge: bool = False,
        quantize_32: Sequence[str] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if input_size is not None and input_size < 1:
            raise ValueError(
                f"policy input_size={input_size} must be at least 1, or None for the frame's own size"
            )
        self.input_size = input_size
        self.enlarge = enlarge
        self.temperature = 5.0
        self.cost_multiplier = 0.0
        self.backbone = MODELS.build(backbone)
        if isinstance(self.backbone, AnyPrecisionBackbone):
            modes = self.backbone.modes
            if len(modes) > 1 or modes[0] not in range(1, MAX_BITS + 1):
                raise ValueError(
                    f"policy backbone precisions={modes}: a policy runs at one precision of at most {MAX_BITS} bits "
                    "and at its own input_size, such as precisions=(8,)"
                )
            self.backbone.resized = input_size is not None
        self.quantize_32 = tuple(quantize_32)
        for name in self.quantize_32:
            self._quantize_32(name)
        self.head = MODELS.build(head, default_args=dict(actions=actions))

    def _quantize_32(self, name: str) -> None:
        conv = dict(self.backbone.named_modules()).get(name)
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(
                f"policy quantize_32 names {name!r}, which is not a convolution of {type(self.backbone).__name__}"
            )
        precisions = (FLOAT_BITS,)
        new = AnyPrecisionConv2d.from_float(
            conv,
            switch=PrecisionSwitch(precisions),
            weight_quantizer=Dorefa(precisions=precisions, weight=conv.weight, quantize_32=True),
            act_quantizer=None,
        )
        self.backbone.set_submodule(name, new)

    def forward(self, frames: Tensor, *, sample: bool = False) -> PolicyOutput:
        """Actions for clips.

        Args:
            frames: (N, T, 3, H, W), normalized.
            sample: draw with Gumbel noise (training); else the most likely action.

        Raises:
            ValueError: the frame is smaller than ``input_size``, without ``enlarge``.
        """
        features = self.features(frames)
        if not sample:
            return self.head(features, None, self.temperature, self.cost_multiplier)
        noise = sample_gumbel(features.new_empty(*features.shape[:2], self.head.fc_policy.out_features))
        return self.head(features, noise, self.temperature)

    def features(self, frames: Tensor) -> Tensor:
        """Features of clips for the head: (N, T, 3, H, W) -> (N, T, D)."""
        small = self.resize(frames.flatten(0, 1))  # (N*T, 3, s, s)
        return self.backbone(small).mean(dim=(2, 3)).unflatten(0, (-1, frames.shape[1]))

    def resize(self, frames: Tensor) -> Tensor:
        """(N*T, 3, H, W) -> (N*T, 3, s, s)."""
        if self.input_size is None:
            return frames
        self.check_frames(*frames.shape[-2:])
        return F.interpolate(frames, size=(self.input_size,) * 2, mode="bilinear", align_corners=False)

    def calibrate_(self, frames: Tensor) -> None:
        """Fit the clips of an any-precision backbone to normalized frames (N, 3, H, W)."""
        self.backbone.calibrate_(self.resize(frames))

    def check_frames(self, height: int, width: int) -> None:
        """ValueError if a frame of this size is smaller than ``input_size``, without ``enlarge``."""
        if self.input_size is not None and min(height, width) < self.input_size and not self.enlarge:
            raise ValueError(
                f"policy input_size={self.input_size} is larger than the frame ({height}x{width}): "
                f"use at most {min(height, width)}"
            )
