# Mini-Kinetics, stage 4: 8 bits at one of three frame sizes, or skip.
_base_ = ["./videoiq_r50_16f_mini_kinetics.py", "../_base_/models/frame_sizes.py"]
actions = [*_base_.modes, dict(skip=1)]
model = dict(backbone=dict(precisions=_base_.modes, weight=dict(type="nested")), actions=actions)
cost_metric = dict(actions=actions)
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=actions)]
test_evaluator = val_evaluator
