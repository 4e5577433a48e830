# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/scenes_recipe.py --work-dir work_dirs/scenes
_base_ = ["../_base_/recipes/four_stages.py"]
name = "scenes"
stages = dict(
    float=dict(config="../float/scenes_float.py"),
    any_precision=dict(config="../any_precision/scenes_any_precision.py"),
    policy_backbone=dict(config="../policy_backbone/scenes_policy_backbone.py"),
    policy=dict(config="scenes_videoiq.py"),
)
