# Gestures, stage 4: 8 bits at one of three frame sizes, or skip, over stage 2's frozen network.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_videoiq.py",
    "../_base_/schedules/adamw_10e.py",
]
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
space = dict(actions=[*modes, dict(skip=1)], frame_size=_base_.frame_size)
backbone, head = dict(precisions=modes), dict(num_classes=_base_.num_classes)
network = dict(backbone=backbone, cls_head=head, data_preprocessor=_base_.data_preprocessor)
policy = dict(backbone=dict(widen_factor=0.5))
model = dict(network, policy=policy, actions=dict(_delete_=True, **space), cache_features=True)
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
val_evaluator = test_evaluator = [_base_.val_evaluator, dict(_base_.cost_metric, actions=space)]
