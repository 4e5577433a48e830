# Scenes, stage 4: 8 bits at one of three frame sizes, or skip; the tiny policy, and losses that do not ask for balance.
_base_ = ["./scenes_videoiq.py", "../_base_/models/integer_policy.py"]
modes = [dict(bits=8), dict(bits=8, size=80), dict(bits=8, size=64)]
space = dict(actions=[*modes, dict(skip=1)], frame_size=_base_.frame_size)
model = dict(
    backbone=dict(precisions=modes),
    policy=dict(_delete_=True, **_base_.tiny_policy),
    actions=dict(_delete_=True, **space),
    losses=_base_.sparing_losses,
)
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=space)]
test_evaluator = val_evaluator
