# ActivityNet-v1.3, stage 4: 8, 4 or 2 bits, or skip.
_base_ = ["./videoiq_r50_16f_activitynet.py"]
precisions = (8, 4, 2)
actions = [*(dict(bits=bits) for bits in precisions), dict(skip=1)]
model = dict(backbone=dict(precisions=precisions), actions=actions)
cost_metric = dict(actions=actions)
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=actions)]
test_evaluator = val_evaluator
