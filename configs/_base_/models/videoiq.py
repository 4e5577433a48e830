# The paper's policy and its losses. The policy's MobileNetV2 comes from stage 3 (model.policy.backbone.init_cfg).
# A clip has num_frames frames; what is longer in testing are several views, each a clip for the policy.
_base_ = ["./any_precision.py"]
actions = [*(dict(bits=bits) for bits in _base_.precisions), dict(skip=1)]
videoiq = dict(
    type="VideoIQRecognizer",
    policy=dict(
        type="PrecisionPolicy",
        input_size=84,
        backbone=dict(type="MobileNetV2"),
        head=dict(type="PolicyHead", in_channels=1280, hidden=512, dropout_ratio=0.8),
    ),
    actions=actions,
    losses=dict(
        efficiency=dict(type="EfficiencyLoss", weight=0.16),
        balance=dict(type="UsageBalanceLoss", weight=0.5),
        entropy=dict(type="PolicyEntropyLoss", weight=0.1),
    ),
    distill=dict(type="DistillationLoss"),
    frozen=("backbone",),
)
cost_metric = dict(type="ComputeCostMetric", actions=actions)
