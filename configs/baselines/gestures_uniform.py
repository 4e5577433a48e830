# Gestures, baseline: every frame in float.
_base_ = ["../float/gestures_float.py"]

model = dict(type="UniformRecognizer")
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=32)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
