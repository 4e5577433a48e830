# VideoIQ over a frozen any-precision MobileNetV2, with a MobileNetV2 at 84x84 as policy backbone.
actions = [dict(bits=32), dict(bits=8), dict(bits=4), dict(skip=1)]
model = dict(
    type="VideoIQRecognizer",
    backbone=dict(
        type="AnyPrecisionBackbone",
        backbone=dict(type="MobileNetV2"),
        precisions=(32, 8, 4),
        weight=dict(type="nested"),
        activation=dict(type="pact"),
    ),
    policy=dict(
        type="PrecisionPolicy",
        input_size=84,
        backbone=dict(type="MobileNetV2", norm_eval=True),
        head=dict(type="PolicyHead", in_channels=1280, hidden=512, dropout_ratio=0.8),
    ),
    cls_head=dict(type="FrameAverageHead", num_classes=400, in_channels=1280, topk=(1,)),
    actions=actions,
    frozen=("backbone", "cls_head"),
)
custom_hooks = [dict(type="GumbelTemperatureHook", initial=5.0, decay=0.75)]
cost_metric = dict(type="ComputeCostMetric", actions=actions)
