# Folder, stage 1: MobileNetV2 in float, from ImageNet weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/folder.py",
    "../_base_/models/mobilenet_v2_float.py",
    "../_base_/schedules/adamw_25e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
