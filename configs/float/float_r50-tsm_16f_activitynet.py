# ActivityNet-v1.3, stage 1: ResNet-50 with temporal shift (TSM) in float.
_base_ = ["./float_r50_16f_activitynet.py"]
model = dict(
    backbone=dict(type="ResNetTSM", num_segments={{_base_.num_frames}}),
    cls_head=dict(type="TSMHead", num_segments={{_base_.num_frames}}),
)
