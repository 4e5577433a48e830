# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/fights_recipe.py --work-dir work_dirs/fights
_base_ = ["../_base_/recipes/four_stages.py"]
name = "fights"
stages = dict(
    float=dict(config="../float/fights_float.py"),
    any_precision=dict(config="../any_precision/fights_any_precision.py"),
    policy_backbone=dict(config="../policy_backbone/fights_policy_backbone.py"),
    policy=dict(config="fights_videoiq.py"),
)
