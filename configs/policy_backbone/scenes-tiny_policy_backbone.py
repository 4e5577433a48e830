# Scenes, stage 3, for the tiny policy: its network as a recognizer of 64x64 frames, from random weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/scenes.py",
    "../_base_/models/tiny_policy_backbone.py",
    "../_base_/schedules/adamw_scratch_30e.py",
]
model = dict(cls_head=dict(num_classes=_base_.num_classes), data_preprocessor=_base_.data_preprocessor)
end = [dict(type="Resize", scale=(64, 64), keep_ratio=False), *_base_.test_pipeline[-2:]]
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_pipeline[:-2], *end]))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=[*_base_.test_pipeline[:-2], *end]))
del end
