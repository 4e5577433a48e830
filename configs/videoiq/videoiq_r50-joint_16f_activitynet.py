# ActivityNet-v1.3, stage 4 with policy, backbone and classifier learning together.
_base_ = ["./videoiq_r50_16f_activitynet.py"]
model = dict(frozen=())
