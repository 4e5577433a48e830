# DATA_ROOT=data/fights MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/scenes-sizes_recipe.py --work-dir work_dirs/scenes-sizes
_base_ = ["./scenes_recipe.py"]
name = "scenes-sizes"
stages = dict(
    any_precision=dict(config="../any_precision/scenes-sizes_any_precision.py"),
    policy_backbone=dict(config="../policy_backbone/scenes-tiny_policy_backbone.py"),
    policy=dict(config="scenes-sizes_videoiq.py"),
)
