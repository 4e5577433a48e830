# The demo's small network in float.
model = dict(
    type="Recognizer2D",
    backbone=dict(type="SlimResNet", base_channels=24, stage_blocks=(1, 1)),
    cls_head=dict(type="TSNHead", num_classes=8, in_channels=48, dropout_ratio=0.0, average_clips="prob"),
)
