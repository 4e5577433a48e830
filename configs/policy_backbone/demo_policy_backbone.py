# Demo, stage 3: the policy's light backbone as a recognizer of its own, at the policy's input size.
_base_ = ["../float/demo_float.py"]
model = dict(backbone=dict(base_channels=8), cls_head=dict(in_channels=16))
small = dict(type="Resize", scale=(20, 20), keep_ratio=False)
pipeline = [*_base_.train_pipeline[:-2], small, *_base_.train_pipeline[-2:]]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
del small
