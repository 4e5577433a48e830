# Gestures, stage 3: the tiny policy's network, from scratch.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/tiny_policy_backbone.py",
    "../_base_/schedules/adamw_15e.py",
]
model = dict(cls_head=dict(num_classes=_base_.num_classes), data_preprocessor=_base_.data_preprocessor)
train_dataloader = dict(dataset=dict(pipeline=_base_.policy_train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=_base_.policy_test_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
