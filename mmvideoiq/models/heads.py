"""The classifier: average the features of the processed frames, then one linear layer shared by all precisions."""

from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmengine.model import normal_init
from torch import Tensor, nn

from mmvideoiq.quant.functional import at_least_float32


@MODELS.register_module()
class FrameAverageHead(BaseHead):
    """``fc(dropout(sum_t f_t / sum_t m_t))``: f are the features of processed frames (0 elsewhere), m is 1 for them.

    Parameter names are those of MMAction2's ``TSNHead``, whose checkpoints load.

    Args:
        num_classes: K.
        in_channels: D.
        loss_cls: classification loss of MMAction2.
        dropout_ratio: in [0, 1).
        init_std: standard deviation of the initial weights.
        topk: accuracies logged in training.
        average_clips: how MMAction2 combines several views of a video: 'score', 'prob' or None.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        loss_cls: dict = dict(type="CrossEntropyLoss"),
        dropout_ratio: float = 0.5,
        init_std: float = 0.01,
        topk: tuple[int, ...] = (1, 5),
        multi_class: bool = False,
        average_clips: str | None = "prob",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls,
            multi_class=multi_class,
            topk=topk,
            average_clips=average_clips,
            init_cfg=init_cfg,
        )
        self.init_std = init_std
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        """Small normal weights, as in MMAction2's heads."""
        normal_init(self.fc_cls, std=self.init_std)

    def forward(self, features: Tensor, processed: Tensor) -> Tensor:
        """Class logits.

        Args:
            features: (N, T, D), zero for skipped frames.
            processed: (N, T), 1 where a frame was processed and 0 elsewhere.

        Returns: (N, K), at least float32, under autocast too. A clip without processed frames gets the
        classifier's bias.
        """
        count = processed.sum(1, keepdim=True).clamp_min(1.0)  # (N, 1)
        mean = features.sum(1) / count  # (N, D)
        return at_least_float32(self.fc_cls(self.dropout(mean)))
