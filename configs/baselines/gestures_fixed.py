# Gestures, baseline: every frame in one mode.
_base_ = ["../any_precision/gestures_any_precision.py"]

model = dict(type="FixedPrecisionRecognizer", bits=8)
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
cost_metric = dict(type="ComputeCostMetric", actions=dict(actions=modes, frame_size=_base_.frame_size))
test_evaluator = [_base_.test_evaluator, cost_metric]
