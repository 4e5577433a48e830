# Scenes, stage 2: the same network at 32, 8 and 4 bits; load_from is stage 1's checkpoint.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/scenes.py",
    "../_base_/models/mobilenet_v2_any_precision.py",
    "../_base_/schedules/adamw_finetune.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}), data_preprocessor={{_base_.data_preprocessor}}
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=10)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=10, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
