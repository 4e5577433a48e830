# Gestures, stage 4, one size: a frame is processed whole or skipped.
_base_ = ["./gestures_videoiq.py"]
space = dict(actions=[dict(bits=8), dict(skip=1)], frame_size=_base_.frame_size)
model = dict(actions=dict(_delete_=True, **space))
val_evaluator = [_base_.val_evaluator[0], dict(_base_.cost_metric, actions=space)]
test_evaluator = val_evaluator
