# Demo, baseline: an LSTM over the float frame features.
_base_ = ["../float/demo_float.py"]

load_strict = False  # from the float checkpoint comes the backbone; its head has another shape
model = dict(
    type="UniformRecognizer",
    cls_head=dict(
        _delete_=True, type="LSTMHead", num_classes=8, in_channels=48, hidden=32, dropout_ratio=0.0, topk=(1,)
    ),
)
cost_metric = dict(type="ComputeCostMetric", actions=[dict(bits=32)])
test_evaluator = [{{_base_.test_evaluator}}, cost_metric]
