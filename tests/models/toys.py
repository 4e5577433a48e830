"""Small models, clips and labels shared by the tests of ``mmvideoiq.models``."""

import copy
from typing import Any

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

ACTIONS = (dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1))
CLASSES = 3
SIZE = 24
FEATURES = 16  # of slim()
# A sum in another order may fall on the other side of a rounding step, and a code is a large thing at 2 bits:
# logits of a clip alone and in a batch agree to this; on most machines they agree to 1e-6.
TOLERANCE = dict(rtol=1e-3, atol=2e-3)
LONG_SKIPS = (*ACTIONS[:3], dict(skip=1), dict(skip=2), dict(skip=4))


def slim(base_channels: int = 8, **options: Any) -> dict:
    return dict(type="SlimResNet", base_channels=base_channels, stage_blocks=(1, 1), **options)


def any_precision(backbone: dict | None = None, **options: Any) -> dict:
    return dict(type="AnyPrecisionBackbone", backbone=backbone or slim(), **options)


def float_recognizer(**options: Any) -> dict:
    head = dict(type="TSNHead", num_classes=CLASSES, in_channels=FEATURES, dropout_ratio=0.0)
    return dict(type="Recognizer2D", backbone=slim(), cls_head=head, **options)


def any_precision_recognizer(**options: Any) -> dict:
    cfg = float_recognizer()
    return dict(cfg, **{"type": "AnyPrecisionRecognizer", "backbone": any_precision(), **options})


def policy(num_classes: int | None = None, input_size: int | None = 16, **head: Any) -> dict:
    head = dict(type="PolicyHead", in_channels=8, hidden=12, num_classes=num_classes, **head)
    return dict(type="PrecisionPolicy", backbone=slim(4), head=head, input_size=input_size)


def videoiq(**options: Any) -> dict:
    cls_head = dict(type="FrameAverageHead", num_classes=CLASSES, in_channels=FEATURES, dropout_ratio=0.0)
    cfg = dict(
        type="VideoIQRecognizer",
        backbone=any_precision(),
        policy=policy(),
        cls_head=cls_head,
        actions=list(ACTIONS),
    )
    return dict(cfg, **options)


def build(cfg: dict, seed: int = 0) -> nn.Module:
    """The module that ``cfg`` names, with weights that depend on ``seed`` alone."""
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model


def lived_in(model: nn.Module, seed: int = 1) -> nn.Module:
    """``model`` as if it had been trained: batch norms and clips of their own, a policy with opinions."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.copy_(noise(module.running_mean, -0.2, 0.2))
                module.running_var.copy_(noise(module.running_var, 0.5, 1.5))
                module.weight.copy_(noise(module.weight, 0.5, 1.5))
                module.bias.copy_(noise(module.bias, -0.2, 0.2))
        for name, parameter in model.named_parameters():
            if ".clip." in name:
                parameter.copy_(noise(parameter, 1.0, 2.0))
            elif "fc_policy" in name or "fc_cls" in name:
                parameter.copy_(noise(parameter, -2.0, 2.0))
    return model


def clips(num: int, frames: int = 4, size: int = SIZE, seed: int = 0) -> Tensor:
    """(num, frames, 3, size, size), every frame of another brightness and contrast."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num, frames, 3, size, size, generator=generator)
    level = torch.randn(num, frames, 3, 1, 1, generator=generator)
    return noise * level.abs() + 2 * level


def samples(num: int, classes: int = CLASSES) -> list[ActionDataSample]:
    return [ActionDataSample().set_gt_label(i % classes) for i in range(num)]


def total(losses: dict[str, Tensor]) -> Tensor:
    """What MMEngine's ``parse_losses`` adds up."""
    return sum(value for name, value in losses.items() if "loss" in name)


def trained(seed: int = 1, **options: Any) -> nn.Module:
    """A recognizer whose policy chooses each action for some frames."""
    model = lived_in(build(videoiq(**options)), seed).eval()
    with torch.no_grad():
        usual = model.policy(clips(16, 6, seed=9), sample=False).log_probs.mean(dim=(0, 1))
        model.policy.head.fc_policy.bias -= usual
    return model


def prefer(model: nn.Module, name: str) -> nn.Module:
    """Make the policy choose one action always."""
    with torch.no_grad():
        model.policy.head.fc_policy.weight.zero_()
        model.policy.head.fc_policy.bias.zero_()
        model.policy.head.fc_policy.bias[model.actions.index(name)] = 20
    return model
