"""Parts that do not learn: no gradient, and always in eval mode, so that batch norm and dropout stand still."""

from mmaction.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn


def freeze_(module: nn.Module) -> nn.Module:
    """No gradient, eval mode. The owner calls it again in ``train()``."""
    return module.requires_grad_(False).eval()


def build_teacher(cfg: dict) -> nn.Module:
    """A frozen float recognizer of the host.

    Args:
        cfg: recognizer config; its extra key ``checkpoint`` names the weights that :func:`load_teacher_` loads.
    """
    cfg = dict(cfg)
    checkpoint = cfg.pop("checkpoint", None)
    teacher = MODELS.build(cfg)
    teacher.checkpoint = checkpoint
    return freeze_(teacher)


def load_teacher_(teacher: nn.Module) -> None:
    """Load the teacher's checkpoint; ValueError where none is named, since a random teacher teaches nothing."""
    if not teacher.checkpoint:
        raise ValueError("teacher.checkpoint is missing: name the float checkpoint to learn from")
    load_checkpoint(teacher, teacher.checkpoint, map_location="cpu", strict=True)
