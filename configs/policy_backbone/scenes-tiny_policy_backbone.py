# Scenes, stage 3, for the tiny policy: its network as a recognizer of 64x64 frames, at 8 bits from the first step on.
_base_ = ["./scenes_policy_backbone.py", "../_base_/models/integer_policy.py"]
model = dict(
    type="AnyPrecisionRecognizer",
    backbone=dict(_delete_=True, **_base_.tiny_policy.backbone),
    cls_head=dict(in_channels=128),
)
end = [dict(type="Resize", scale=(64, 64), keep_ratio=False), *_base_.policy_test_pipeline[-2:]]
train_dataloader = dict(dataset=dict(pipeline=[*_base_.policy_train_pipeline[:-3], *end]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.policy_test_pipeline[:-3], *end]))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
train_cfg = dict(max_epochs=30)
param_scheduler = [dict(_base_.param_scheduler[0], T_max=30)]
del end
