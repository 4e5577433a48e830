# ActivityNet-v1.3, baseline: every precision on every frame.
_base_ = ["../any_precision/any_precision_r50_16f_activitynet.py"]

model = dict(type="PrecisionEnsemble")
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=bits) for bits in (32, 4, 2)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
