# Demo, stage 1: the float network on synthetic clips.
_base_ = [
    "../_base_/datasets/synthetic.py",
    "../_base_/schedules/adam_demo.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="Recognizer2D",
    backbone=dict(type="SlimResNet", base_channels=10, stage_blocks=(1, 1)),
    cls_head=dict(type="TSNHead", num_classes=8, in_channels=20, dropout_ratio=0.0, average_clips="prob"),
    data_preprocessor={{_base_.data_preprocessor}},
)
default_hooks = dict(checkpoint=dict(save_best=None))
