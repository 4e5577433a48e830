# Gestures, baseline: stop looking once the answer is clear.
_base_ = ["../float/gestures_float.py"]

model = dict(type="EarlyExitRecognizer", threshold=0.9)
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=32), dict(skip=1)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
