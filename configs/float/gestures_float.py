# Gestures, stage 1: MobileNetV2 in float, from ImageNet weights, on random subsets of the frames. Its first half stays.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_float.py",
    "../_base_/schedules/adamw_8e.py",
]
data_preprocessor = _base_.random_frames
model = dict(
    backbone=dict(frozen_stages=4),
    cls_head=dict(num_classes=_base_.num_classes),
    data_preprocessor=data_preprocessor,
)
