# Scenes, stage 2: the same network at 32, 8 and 4 bits; load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/scenes.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/schedules/adamw_10e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
