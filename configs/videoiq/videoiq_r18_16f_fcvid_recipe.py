# The paper's stages on FCVID with ResNet-18. DATA_ROOT names the folder with the lists (../README.md).
_base_ = ["../_base_/recipes/paper_several_labels.py"]
name = "fcvid_r18"
stages = dict(
    float=dict(config="../float/float_r18_16f_fcvid.py"),
    any_precision=dict(config="../any_precision/any_precision_r18_16f_fcvid.py"),
    policy_backbone=dict(config="../policy_backbone/policy_backbone_mbv2_16f_fcvid.py"),
    policy=dict(config="videoiq_r18_16f_fcvid.py"),
)
