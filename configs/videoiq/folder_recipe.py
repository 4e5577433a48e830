# DATA_ROOT=my_videos MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/folder_recipe.py --work-dir work_dirs/folder
_base_ = ["../_base_/recipes/four_stages.py"]
name = "folder"
stages = dict(
    float=dict(config="../float/folder_float.py"),
    any_precision=dict(config="../any_precision/folder_any_precision.py"),
    policy_backbone=dict(config="../policy_backbone/folder_policy_backbone.py"),
    policy=dict(config="folder_videoiq.py"),
)
