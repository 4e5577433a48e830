# As videoiq_r50_16f_activitynet_recipe.py; its float network and policy backbone serve here too.
_base_ = ["./videoiq_r50_16f_activitynet_recipe.py"]
name = "activitynet_r50-sizes"
stages = dict(
    any_precision=dict(config="../any_precision/any_precision_r50-sizes_16f_activitynet.py"),
    policy=dict(config="videoiq_r50-sizes_16f_activitynet.py"),
)
