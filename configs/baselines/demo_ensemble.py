# Demo, baseline: every precision on every frame.
_base_ = ["../any_precision/demo_any_precision.py"]

model = dict(type="PrecisionEnsemble")
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=bits) for bits in (32, 4, 2)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
