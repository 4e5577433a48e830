# python tools/train_stages.py configs/videoiq/demo-sizes_recipe.py --work-dir work_dirs/demo-sizes
#
# As demo_recipe.py, the policy choosing a frame size too, and itself at 8 bits; its float network serves here too.
_base_ = ["./demo_recipe.py"]
name = "demo-sizes"
stages = dict(
    any_precision=dict(config="../any_precision/demo-sizes_any_precision.py"),
    policy_backbone=dict(config="../policy_backbone/demo-int8_policy_backbone.py"),
    policy=dict(config="demo-sizes_videoiq.py"),
)
