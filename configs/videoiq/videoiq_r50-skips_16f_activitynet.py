# ActivityNet-v1.3, stage 4: a skip leaves out 1, 2 or 4 frames.
_base_ = ["./videoiq_r50_16f_activitynet.py"]
actions = [*_base_.actions[:-1], dict(skip=1), dict(skip=2), dict(skip=4)]
model = dict(actions=actions)
cost_metric = dict(actions=actions)
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=actions)]
test_evaluator = val_evaluator
