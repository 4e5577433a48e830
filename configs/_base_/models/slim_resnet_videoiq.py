# The policy over the demo's frozen any-precision network. Without augmentation the frozen features are computed once.
_base_ = ["./slim_resnet_any_precision.py"]
actions = [dict(bits=32), dict(bits=4), dict(bits=2), dict(skip=1)]
model = dict(
    _delete_=True,
    type="VideoIQRecognizer",
    backbone={{_base_.model.backbone}},
    policy=dict(
        type="PrecisionPolicy",
        input_size=20,
        backbone=dict(type="SlimResNet", base_channels=8, stage_blocks=(1, 1)),
        head=dict(type="PolicyHead", in_channels=16, hidden=64, dropout_ratio=0.0),
    ),
    cls_head=dict(
        type="FrameAverageHead",
        num_classes=8,
        in_channels=48,
        dropout_ratio=0.0,
        topk=(1,),
    ),
    actions=actions,
    losses=dict(
        efficiency=dict(type="EfficiencyLoss", weight=3.0),
        balance=dict(type="UsageBalanceLoss", weight=0.3),
        entropy=dict(type="PolicyEntropyLoss", weight=0.05),
    ),
    cache_features=True,
)
custom_hooks = [dict(type="GumbelTemperatureHook", initial=5.0, decay=0.95)]
cost_metric = dict(type="ComputeCostMetric", actions=actions)
