# As videoiq_r50_16f_activitynet_recipe.py; its float network and policy backbone serve here too.
_base_ = ["./videoiq_r50_16f_activitynet_recipe.py"]
name = "activitynet_r50-joint"
stages = dict(
    policy=dict(config="videoiq_r50-joint_16f_activitynet.py"),
)
