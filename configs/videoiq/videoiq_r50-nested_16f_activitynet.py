# ActivityNet-v1.3, stage 4, with weights on the centred nested grid instead of the paper's.
_base_ = ["./videoiq_r50_16f_activitynet.py"]
model = dict(backbone=dict(weight=dict(type="nested")))
