# Demo, stage 3: the policy's light backbone as a recognizer of its own.
_base_ = ["../float/demo_float.py"]

model = dict(
    backbone=dict(base_channels=8),
    cls_head=dict(in_channels=16),
)
