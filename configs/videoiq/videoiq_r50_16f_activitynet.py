# ActivityNet-v1.3, stage 4: the policy over ResNet-50; the README of this folder lists its initial weights.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/activitynet.py",
    "../_base_/models/resnet50_videoiq.py",
    "../_base_/schedules/sgd_policy_50e.py",
]
model = dict(
    cls_head=dict(num_classes={{_base_.num_classes}}),
    teacher=dict(cls_head=dict(num_classes={{_base_.num_classes}})),
    num_frames={{_base_.num_frames}},
    data_preprocessor={{_base_.data_preprocessor}},
)
val_evaluator = [{{_base_.val_evaluator}}, {{_base_.cost_metric}}]
test_evaluator = val_evaluator
