# DATA_ROOT=my_videos MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/folder-tiny_recipe.py --work-dir work_dirs/folder-tiny
#
# As folder-sizes_recipe.py, with a policy for CPUs: it needs some hundreds of videos a class, since its network begins
# from nothing.
_base_ = ["./folder-sizes_recipe.py"]
name = "folder-tiny"
stages = dict(
    policy_backbone=dict(config="../policy_backbone/folder-tiny_policy_backbone.py"),
    policy=dict(config="folder-tiny_videoiq.py"),
)
