# The paper's stages on ActivityNet-v1.3 with ResNet-50. DATA_ROOT names the folder with the lists (../README.md).
_base_ = ["../_base_/recipes/paper_several_labels.py"]
name = "activitynet_r50"
stages = dict(
    float=dict(config="../float/float_r50_16f_activitynet.py"),
    any_precision=dict(config="../any_precision/any_precision_r50_16f_activitynet.py"),
    policy_backbone=dict(config="../policy_backbone/policy_backbone_mbv2_16f_activitynet.py"),
    policy=dict(config="videoiq_r50_16f_activitynet.py"),
)
