# Folder, stage 2: the same network at 32, 8, 4 and 2 bits; load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/folder.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/schedules/adamw_finetune.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
