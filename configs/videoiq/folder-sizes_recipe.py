# DATA_ROOT=my_videos MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/folder-sizes_recipe.py --work-dir work_dirs/folder-sizes
_base_ = ["./folder_recipe.py"]
name = "folder-sizes"
stages = dict(
    any_precision=dict(config="../any_precision/folder-sizes_any_precision.py"),
    policy=dict(config="folder-sizes_videoiq.py"),
)
