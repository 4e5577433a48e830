# Gestures, stage 4: 8 bits at one of three frame sizes, or skip, over stage 2's frozen network; the tiny policy.
# Usage is not to be uniform, so no loss asks for balance.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/gestures.py",
    "../_base_/models/mobilenet_v2_videoiq.py",
    "../_base_/models/integer_policy.py",
    "../_base_/schedules/adamw_10e.py",
]
modes = [dict(bits=8), dict(bits=8, size=160), dict(bits=8, size=96)]
space = dict(actions=[*modes, dict(skip=1)], frame_size=_base_.frame_size)
network = dict(
    backbone=dict(precisions=modes, quantize_stem=True, input_range=(-1.0, 1.0)),
    cls_head=dict(num_classes=_base_.num_classes),
    data_preprocessor=_base_.data_preprocessor,
)
losses = dict(
    efficiency=dict(type="EfficiencyLoss", weight=0.3), entropy=dict(type="PolicyEntropyLoss", weight=0.05)
)
model = dict(
    network,
    policy=dict(_delete_=True, **_base_.tiny_policy),
    actions=dict(_delete_=True, **space),
    losses=losses,
    cache_features=True,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="FeatureCacheHook", path="work_dirs/gestures/features.safetensors"),
]
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
val_evaluator = test_evaluator = [_base_.val_evaluator, dict(_base_.cost_metric, actions=space)]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
