# ActivityNet-v1.3, baseline: every frame in float.
_base_ = ["../float/float_r50_16f_activitynet.py"]

model = dict(type="UniformRecognizer")
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=32)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
