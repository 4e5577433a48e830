"""Parts that do not learn: no gradient, and always in eval mode, so that batch norm and dropout do not change."""

from collections.abc import Sequence

from mmaction.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn

PARTS = ("backbone", "cls_head", "policy")


def freeze_(module: nn.Module) -> nn.Module:
    """No gradient, eval mode. The owner calls it again in ``train()``."""
    return module.requires_grad_(False).eval()


def check_frozen(frozen: Sequence[str], *, cache_features: bool) -> tuple[str, ...]:
    """Names of a recognizer's parts that do not learn.

    Raises:
        ValueError: an unknown part, or ``cache_features`` with a backbone that learns.
    """
    if not set(frozen) <= set(PARTS):
        raise ValueError(f"frozen={tuple(frozen)} may hold only {PARTS}")
    if cache_features and "backbone" not in frozen:
        raise ValueError(
            f"cache_features=True needs a backbone that does not learn, but frozen={tuple(frozen)}"
        )
    return tuple(frozen)


def build_teacher(cfg: dict) -> nn.Module:
    """A frozen float recognizer of MMAction2.

    Args:
        cfg: recognizer config; its extra key ``checkpoint`` names the weights that :func:`load_teacher_` loads.
    """
    cfg = dict(cfg)
    checkpoint = cfg.pop("checkpoint", None)
    teacher = MODELS.build(cfg)
    teacher.checkpoint = checkpoint
    return freeze_(teacher)


def load_teacher_(teacher: nn.Module) -> None:
    """Load the teacher's checkpoint; ValueError if none is named, since a random teacher is useless."""
    if not teacher.checkpoint:
        raise ValueError("teacher.checkpoint is missing: name the float checkpoint to learn from")
    load_checkpoint(teacher, teacher.checkpoint, map_location="cpu", strict=True)
