# Demo, stage 4, at two frame sizes: the policy, itself at 8 bits, chooses bits and size, or skips.
_base_ = ["./demo_videoiq.py", "../_base_/models/integer_policy.py"]
modes = [dict(bits=bits, **size) for bits in (32, 4, 2) for size in ({}, dict(size=28))]
space = dict(actions=[*modes, dict(skip=1)], frame_size=_base_.frame_size)
net = dict(**_base_.at_8_bits, backbone=_base_.model.policy.backbone, input_range=(0.0, 1.0))
model = dict(
    backbone=dict(precisions=modes),
    policy=dict(backbone=dict(_delete_=True, **net)),
    actions=dict(_delete_=True, **space),
)
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=space)]
test_evaluator = val_evaluator
del net
