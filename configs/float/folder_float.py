# Folder, stage 1: MobileNetV2 in float, from ImageNet weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/folder.py",
    "../_base_/models/mobilenet_v2_float.py",
    "../_base_/schedules/adamw_finetune.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
train_cfg = dict(max_epochs=25)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=25, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
