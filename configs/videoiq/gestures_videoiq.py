# Gestures, stage 4: the tiny policy over stage 2's frozen network.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_sizes_videoiq.py",
    "../_base_/schedules/adamw_10e.py",
]
head = dict(num_classes=_base_.num_classes)
model = dict(cls_head=head, data_preprocessor=_base_.data_preprocessor)
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
val_evaluator = test_evaluator = [_base_.val_evaluator, _base_.cost_metric]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
