# GESTURES=data/gestures MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/gestures_recipe.py --work-dir work_dirs/gestures
#
# Clips that are composed from photos (tools/data/gestures), GESTURES is their folder.
# With --for-this-machine the costs are milliseconds of this one.
_base_ = ["../_base_/recipes/four_stages.py"]
name = "gestures"

splits = ("train", "val", "test")
in_work_dir = {f"{split}_dataloader.dataset.data_root": "{work_dir}/data" for split in splits}
stages = dict(
    float=dict(config="../float/gestures_float.py", cfg_options=in_work_dir),
    any_precision=dict(config="../any_precision/gestures_any_precision.py", cfg_options=in_work_dir),
    policy_backbone=dict(config="../policy_backbone/gestures_policy_backbone.py", cfg_options=in_work_dir),
    policy=dict(
        config="gestures_videoiq.py",
        cfg_options={**in_work_dir, "custom_hooks.1.path": "{work_dir}/features.safetensors"},
    ),
)
del splits, in_work_dir

data = dict(
    function="mmvideoiq.data.gestures.make_gestures",
    kwargs=dict(photos="{{$GESTURES:data/gestures}}", out="{work_dir}/data"),
)
evaluate = dict(engine="openvino", kinds="{work_dir}/data")

fast = dict(data=dict(train=16, val=4, test=4))
