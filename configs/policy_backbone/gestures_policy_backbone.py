# Gestures, stage 3: the tiny policy's network, from scratch, as a recognizer of 64x64 frames at 8 bits.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/integer_policy.py",
    "../_base_/schedules/adamw_15e.py",
]
model = dict(
    type="AnyPrecisionRecognizer",
    backbone=_base_.tiny_policy.backbone,
    cls_head=dict(
        type="TSNHead",
        num_classes=_base_.num_classes,
        in_channels=128,
        dropout_ratio=0.5,
        average_clips="prob",
        topk=(1,),
    ),
    data_preprocessor=_base_.data_preprocessor,
)
train_dataloader = dict(dataset=dict(pipeline=_base_.policy_train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=_base_.policy_test_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
