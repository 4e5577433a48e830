# MobileNetV2 at 32, 8 and 4 bits on the nested grid; each lower precision learns from the next higher one.
# Begins from a float checkpoint (load_from).
model = dict(
    type="AnyPrecisionRecognizer",
    backbone=dict(
        type="AnyPrecisionBackbone",
        backbone=dict(type="MobileNetV2"),
        precisions=(32, 8, 4),
        weight=dict(type="nested"),
        activation=dict(type="pact"),
    ),
    cls_head=dict(
        type="TSNHead", num_classes=400, in_channels=1280, dropout_ratio=0.5, average_clips="prob", topk=(1,)
    ),
)
custom_hooks = [dict(type="CalibrationHook", num_videos=32)]
