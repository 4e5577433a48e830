# The tiny policy's network as a recognizer of 64x64 frames in [-1, 1], at 8 bits from the first step on.
_base_ = ["./integer_policy.py"]
model = dict(
    type="AnyPrecisionRecognizer",
    backbone=_base_.tiny_policy.backbone,
    cls_head=dict(
        type="TSNHead", num_classes=400, in_channels=128, dropout_ratio=0.5, average_clips="prob", topk=(1,)
    ),
)
