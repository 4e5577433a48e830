# The paper's stages: the float network also teaches, in stages 2 and 4. One seed of the policy.
_base_ = ["./four_stages.py"]
stages = dict(
    any_precision=dict(cfg_options={"model.teacher.checkpoint": "{float}"}),
    policy=dict(cfg_options={"model.teacher.checkpoint": "{float}"}, seeds=[0]),
)
