"""The classifier of the LSTM baseline: frame features in order of time, one summary, one linear layer."""

from typing import Any

import torch
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmengine.model import normal_init
from torch import Tensor, nn

from mmvideoiq.quant.functional import at_least_float32

SUMMARIES = ("mean", "last")


@MODELS.register_module()
class LSTMHead(BaseHead):
    """``fc(dropout(summary_t LSTM(f)_t))`` of frame features f; for MMAction2's ``Recognizer2D`` and its subclasses.

    Args:
        num_classes: K.
        in_channels: D.
        hidden: width of the LSTM, per direction.
        num_layers: >= 1.
        bidirectional: also read the clip backwards.
        summary: 'mean' of the outputs over the frames, or the 'last' output of each direction.
        num_segments: frames of one view of the clip, for tests with several views; None: all frames are one view.
        dropout_ratio: before the classifier, in [0, 1).
        init_std: standard deviation of the classifier's initial weights.
        loss_cls, topk, multi_class, label_smooth_eps, average_clips: as in MMAction2's heads.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        hidden: int = 512,
        num_layers: int = 1,
        bidirectional: bool = False,
        summary: str = "mean",
        num_segments: int | None = None,
        dropout_ratio: float = 0.5,
        init_std: float = 0.01,
        loss_cls: dict = dict(type="CrossEntropyLoss"),
        topk: tuple[int, ...] = (1, 5),
        multi_class: bool = False,
        label_smooth_eps: float = 0.0,
        average_clips: str | None = "prob",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls,
            multi_class=multi_class,
            label_smooth_eps=label_smooth_eps,
            topk=topk,
            average_clips=average_clips,
            init_cfg=init_cfg,
        )
        for name, value in (
            ("hidden", hidden),
            ("num_layers", num_layers),
            ("num_segments", num_segments or 1),
        ):
            if value < 1:
                raise ValueError(f"LSTMHead {name} must be at least 1, got {value}")
        if summary not in SUMMARIES:
            raise ValueError(f"LSTMHead summary={summary!r} must be one of {SUMMARIES}")
        self.summary, self.num_segments, self.init_std = summary, num_segments, init_std
        self.lstm = nn.LSTM(in_channels, hidden, num_layers, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc_cls = nn.Linear(hidden * (1 + bidirectional), num_classes)

    def init_weights(self) -> None:
        """Small normal weights of the classifier, as in MMAction2's heads; the LSTM keeps torch's own."""
        normal_init(self.fc_cls, std=self.init_std)

    def forward(self, x: Tensor, num_segs: int, fcn_test: bool = False, loss_aux: Any = None) -> Tensor:
        """Class logits.

        Args:
            x: features (N*T, D) or (N*T, D, h, w), the frames of a clip one after the other.
            num_segs: T.
            fcn_test: must be False.
            loss_aux: of MMAction2; not used.

        Returns: (N, K), at least float32, or a row per view (see ``num_segments``).
        """
        if fcn_test:
            raise ValueError("LSTMHead cannot be tested fully convolutionally: leave test_cfg.fcn_test out")
        frames = x.flatten(2).mean(-1) if x.dim() > 2 else x  # (N*T, D)
        outputs, (state, _) = self.lstm(
            frames.unflatten(0, (-1, self.num_segments or num_segs))
        )  # (N, T, hidden)
        if self.summary == "mean":
            summary = outputs.mean(1)
        else:
            summary = torch.cat(tuple(state[-2:] if self.lstm.bidirectional else state[-1:]), dim=-1)
        return at_least_float32(self.fc_cls(self.dropout(summary)))
