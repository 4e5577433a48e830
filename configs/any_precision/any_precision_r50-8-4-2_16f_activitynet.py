# ActivityNet-v1.3, stage 2: 8, 4 and 2 bits. The paper bills 32 bits like 8, and 8 have real kernels.
_base_ = ["./any_precision_r50_16f_activitynet.py"]
model = dict(backbone=dict(precisions=(8, 4, 2)))
