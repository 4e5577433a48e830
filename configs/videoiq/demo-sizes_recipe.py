# python tools/train_stages.py configs/videoiq/demo-sizes_recipe.py --work-dir work_dirs/demo-sizes
#
# As demo_recipe.py, the policy choosing a frame size too; its float network and policy backbone serve here too.
_base_ = ["./demo_recipe.py"]
name = "demo-sizes"
stages = dict(
    any_precision=dict(config="../any_precision/demo-sizes_any_precision.py"),
    policy=dict(config="demo-sizes_videoiq.py"),
)
