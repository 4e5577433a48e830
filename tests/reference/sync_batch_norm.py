"""Synchronized batch norm in plain operations; torch's own computes on GPUs only."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F


class PlainSyncBatchNorm(nn.BatchNorm2d):
    """Computes what ``nn.SyncBatchNorm`` does; inputs (N, C, H, W), N the same in every process."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        count = input.numel() // input.shape[1] * dist.get_world_size()
        sums = torch.stack([input.sum((0, 2, 3)), input.square().sum((0, 2, 3))])
        mean, square = all_reduce(sums) / count  # (C,), (C,)
        var = square - mean.square()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight / (var + self.eps).sqrt()
        shape = (1, -1, 1, 1)
        return input * scale.view(shape) + (self.bias - mean * scale).view(shape)
