# ActivityNet-v1.3, stage 2, with weights on learned step sizes (LSQ) instead of the paper's.
_base_ = ["./any_precision_r50_16f_activitynet.py"]
model = dict(backbone=dict(weight=dict(type="lsq")))
