# DATA_ROOT=my_videos MOBILENET_V2_WEIGHTS=mobilenet_v2_imagenet_mmcv.pth \
#     python tools/train_stages.py configs/videoiq/folder_recipe.py --work-dir work_dirs/folder
name = "folder"

stages = [
    dict(name="float", config="../float/folder_float.py"),
    dict(
        name="any_precision",
        config="../any_precision/folder_any_precision.py",
        cfg_options={"load_from": "{float}"},
    ),
    dict(name="policy_backbone", config="../policy_backbone/folder_policy_backbone.py"),
    dict(
        name="policy",
        config="folder_videoiq.py",
        cfg_options={
            "load_from": "{any_precision}",
            "model.policy.backbone.init_cfg": dict(
                type="Pretrained", checkpoint="{policy_backbone}", prefix="backbone."
            ),
        },
        seeds=[0, 1, 2],
    ),
]
evaluate = dict(float="float", videoiq="policy", random_draws=2)

# --fast: does everything work? Its figures mean nothing.
fast = dict(cfg_options={"train_cfg.max_epochs": 1}, seeds=[0], evaluate=dict(random_draws=1))
